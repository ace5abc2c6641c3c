//! Channels that begin with an invitation, against a real provider: what is taken up, what is refused, and a provider that moves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use maimo_client::{
    channel::{ChannelReport, OpenChannelRequest},
    client::{Client, InitOptions, OpenOptions},
    clock::Clock,
    error::ClientError,
    progress::Control,
    prune::PruneRequest,
    recover::RecoverRequest,
    store::StoreRequest,
};
use maimo_core::{
    address::{Address, Addresses, Network},
    clock::Timestamp,
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    reference::ObjectRef,
};
use maimo_net::{
    connect::{Connector, Load, Provider as _, Welcome},
    service::{
        Appetite, ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead,
        WhichHead,
    },
};
use maimo_provider::provider::{Face, InviteRequest, Provider, Revocation};

const DAY: Duration = Duration::from_hours(24);

/// A network: who answers where.
#[derive(Default)]
struct Net {
    faces: Mutex<HashMap<String, Face>>,
    /// Whether the answer to a redemption is lost.
    loses_welcome: AtomicBool,
}

impl Net {
    fn at(&self, address: &str) -> Result<Face, ServiceError> {
        let face = self.faces.lock().unwrap().get(address).cloned();
        face.ok_or_else(|| ServiceError::Offline {
            detail: "nobody answers".to_owned(),
        })
    }
}

impl Connector for Net {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        Box::pin(async move { Ok(self.at(address)?.auth()) })
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        _: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move {
            let face = addresses.iter().find_map(|address| self.at(address).ok());
            let face = face.ok_or_else(|| ServiceError::Offline {
                detail: "nobody answers".to_owned(),
            })?;
            if face.auth() != auth {
                return Err(ServiceError::OtherProvider);
            }
            let inner = face.session(client.public())?;
            Ok(Arc::new(Far { face, inner }) as Arc<dyn Session>)
        })
    }

    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        Box::pin(async move {
            let offer = invitation.offer();
            let face = self.at(&offer.addresses.as_slice()[0].to_string())?;
            if face.auth() != offer.provider {
                return Err(ServiceError::OtherProvider);
            }
            let welcome = face.redeem(client.public(), invitation.token())?;
            if self.loses_welcome.swap(false, Ordering::Relaxed) {
                let detail = "the way is cut".to_owned();
                return Err(ServiceError::Offline { detail });
            }
            Ok(welcome)
        })
    }
}

/// A session at the other end of it.
struct Far {
    face: Face,
    inner: Arc<dyn Session>,
}

impl Session for Far {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        self.inner.status()
    }
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        self.inner.put(put)
    }
    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        self.inner.put_node(node)
    }
    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        self.inner.move_head(head_move)
    }
    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        self.inner.head(which)
    }
    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        self.inner.prove(sequence)
    }
    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        self.inner.nodes(nodes)
    }
    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.inner.read(reads)
    }
    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        self.inner.audit(challenge)
    }
    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        self.inner.digest(request)
    }
    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        Box::pin(async { Ok(self.face.addresses()) })
    }
    fn appetite(&self) -> Appetite {
        Appetite::NETWORK
    }
}

struct Scene {
    folder: tempfile::TempDir,
    net: Arc<Net>,
    provider: Provider,
    /// What the clients' clocks show.
    now: Arc<Mutex<Timestamp>>,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let provider = Provider::create(&folder.path().join("provider")).unwrap();
        let disk = folder.path().join("disk");
        provider.add_volume(&disk, 1 << 30).unwrap();
        let now = Arc::new(Mutex::new(Clock::default().now()));
        let scene = Self {
            folder,
            net: Arc::default(),
            provider,
            now,
        };
        scene.listen("one.example:4243");
        scene
    }

    fn now(&self) -> Timestamp {
        *self.now.lock().unwrap()
    }

    /// Has the provider answer at an address.
    fn listen(&self, address: &str) {
        let face = self.provider.face(Network::Tcp);
        let mut faces = self.net.faces.lock().unwrap();
        faces.insert(address.to_owned(), face);
    }

    fn invite(&self, label: &str) -> String {
        let request = InviteRequest {
            network: Network::Tcp,
            label: label.to_owned(),
            cap: 1 << 28,
            grace: None,
            reserve: None,
            expires: self.now().after(DAY),
        };
        let invited = self
            .provider
            .invite(request, at(&["one.example:4243"]), self.now());
        invited.unwrap().to_line().to_string()
    }

    fn init(&self, machine: &str, words: Option<String>) -> String {
        let options = InitOptions {
            phrase: words.map(Into::into),
            source: Some(machine.to_owned()),
            ..InitOptions::default()
        };
        let made = Client::init(&self.home(machine), &options).unwrap();
        made.phrase
            .map(|words| words.as_str().to_owned())
            .unwrap_or_default()
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.folder.path().join(machine)
    }

    fn open(&self, machine: &str) -> Client {
        let now = Arc::clone(&self.now);
        let options = OpenOptions {
            clock: Clock::new(move || *now.lock().unwrap()),
            ..OpenOptions::new(Arc::clone(&self.net) as Arc<dyn Connector>)
        };
        Client::open(&self.home(machine), options).unwrap()
    }

    fn store(&self, client: &mut Client, bytes: &[u8]) {
        let path = self.folder.path().join("files");
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("file"), bytes).unwrap();
        let request = StoreRequest {
            paths: vec![path],
            ..StoreRequest::default()
        };
        client.store(&request, &Control::default()).unwrap();
    }
}

fn at(addresses: &[&str]) -> Addresses {
    let addresses = addresses
        .iter()
        .map(|text| text.parse::<Address>().unwrap());
    Addresses::new(addresses.collect()).unwrap()
}

fn open(client: &mut Client, line: &str) -> Result<ChannelReport, ClientError> {
    client.open_channel(&OpenChannelRequest::new(line), &Control::default())
}

#[test]
fn a_line_of_text_opens_a_channel_and_again_it_is_the_same_one() {
    let scene = Scene::new();
    scene.init("home", None);
    let line = scene.invite("me");
    let mut client = scene.open("home");
    let opened = open(&mut client, &line).unwrap();
    assert_eq!(opened.name, "one.example");
    assert_eq!(opened.address, "one.example:4243");
    assert_eq!(opened.cap, Some(1 << 28));
    assert_eq!(opened.sequence, 1);
    scene.store(&mut client, b"some");
    drop(client);
    let mut client = scene.open("home");
    assert_eq!(open(&mut client, &line).unwrap().sequence, 2);
    // Another's it is not.
    scene.init("other", None);
    let refused = open(&mut scene.open("other"), &line);
    assert!(matches!(
        refused,
        Err(ClientError::Provider {
            source: ServiceError::InvitationRefused { .. },
            ..
        })
    ));
    assert!(scene.open("other").channels().unwrap().is_empty());
}

#[test]
fn an_opening_that_was_cut_off_is_finished_by_the_same_line() {
    let scene = Scene::new();
    scene.init("home", None);
    let line = scene.invite("me");
    let mut client = scene.open("home");
    scene.net.loses_welcome.store(true, Ordering::Relaxed);
    assert!(open(&mut client, &line).is_err());
    assert_eq!(open(&mut client, &line).unwrap().sequence, 1);
    scene.store(&mut client, b"some");
}

#[test]
fn what_cannot_be_taken_up_is_told_apart() {
    let scene = Scene::new();
    scene.init("home", None);
    let line = scene.invite("me");
    let mut client = scene.open("home");
    let text = |error: ClientError| error.to_string();
    let cut = open(&mut client, &line[..line.len() - 1]).unwrap_err();
    assert!(text(cut).contains("damaged"));
    // Another provider at its address.
    let other = Provider::create(&scene.folder.path().join("imposter")).unwrap();
    let honest = scene
        .net
        .faces
        .lock()
        .unwrap()
        .insert("one.example:4243".to_owned(), other.face(Network::Tcp));
    let wrong = open(&mut client, &line).unwrap_err();
    assert!(text(wrong).contains("another provider"));
    let honest = honest.unwrap();
    let mut faces = scene.net.faces.lock().unwrap();
    faces.insert("one.example:4243".to_owned(), honest);
    drop(faces);
    *scene.now.lock().unwrap() = scene.now().after(DAY);
    let late = open(&mut client, &line).unwrap_err();
    assert!(text(late).contains("expired"));
    assert!(client.channels().unwrap().is_empty());
    // One that was let in and is no longer wanted.
    let line = scene.invite("again");
    open(&mut client, &line).unwrap();
    drop(client);
    let revoked = scene.provider.revoke("again", Revocation::Now, scene.now());
    revoked.unwrap();
    let mut client = scene.open("home");
    let request = StoreRequest {
        paths: vec![scene.folder.path().join("disk")],
        ..StoreRequest::default()
    };
    let refused = client.store(&request, &Control::default()).unwrap_err();
    assert!(matches!(
        refused,
        ClientError::Provider {
            source: ServiceError::Revoked | ServiceError::UnknownClient,
            ..
        }
    ));
}

#[test]
fn a_provider_that_tells_where_it_goes_is_found_there_by_all_machines() {
    let scene = Scene::new();
    let words = scene.init("home", None);
    let line = scene.invite("me");
    open(&mut scene.open("home"), &line).unwrap();
    scene.init("second", Some(words.clone()));
    let recover = |address: &str, machine: &str| {
        let request = RecoverRequest {
            address: address.to_owned(),
            root: None,
            from_packs: false,
        };
        let mut client = scene.open(machine);
        client.recover(&request, &Control::default()).unwrap();
    };
    recover("one.example:4243", "second");
    let both = at(&["two.example:4243", "one.example:4243"]);
    let published = scene.provider.publish(Network::Tcp, both, scene.now());
    published.unwrap();
    // Asked once a day, after a store; told to the journal by the next one.
    *scene.now.lock().unwrap() = scene.now().after(DAY);
    scene.store(&mut scene.open("home"), b"some");
    let address = scene.open("home").channels().unwrap()[0].address.clone();
    assert_eq!(address, "two.example:4243");
    scene.store(&mut scene.open("home"), b"more");
    // The second machine has not asked, but has read the journal.
    let mut second = scene.open("second");
    let request = PruneRequest {
        dry_run: true,
        ..PruneRequest::default()
    };
    second.prune(request, &Control::default()).unwrap();
    drop(second);
    let face = scene.net.faces.lock().unwrap().remove("one.example:4243");
    let mut faces = scene.net.faces.lock().unwrap();
    faces.insert("two.example:4243".to_owned(), face.unwrap());
    drop(faces);
    scene.store(&mut scene.open("home"), b"at the new place");
    scene.store(&mut scene.open("second"), b"and from there");
    scene.init("third", Some(words));
    recover("two.example:4243", "third");
}
