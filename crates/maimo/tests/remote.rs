//! The engine against a real provider that seems to be at the other end of a network: what is called, how often, and what a cut leaves.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use maimo_client::{
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    error::ClientError,
    progress::{Control, Event},
    recover::RecoverRequest,
    retrieve::RetrieveRequest,
    store::{StoreReport, StoreRequest},
};
use maimo_core::{
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    reference::ObjectRef,
};
use maimo_net::{
    connect::{self, Connector, Welcome},
    in_process::InProcess,
    service::{
        Appetite, ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead,
        WhichHead,
    },
};
use maimo_provider::provider::{FolderTerms, Provider};

/// What was called, and what is to go wrong.
#[derive(Default)]
struct Wire {
    calls: Mutex<Vec<&'static str>>,
    /// Ranges sent: pack and offset, in bytes.
    sent: Mutex<Vec<(ObjectRef, u64)>>,
    /// One more than how many further ranges arrive before the way is cut; 0 for never.
    cut_after: AtomicU64,
}

impl Wire {
    fn called(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn sent(&self) -> Vec<(ObjectRef, u64)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }
}

/// A session that counts.
struct Counting {
    wire: Arc<Wire>,
    inner: Arc<dyn Session>,
}

impl Counting {
    fn count(&self, call: &'static str) -> &dyn Session {
        self.wire.calls.lock().unwrap().push(call);
        &*self.inner
    }
}

impl Session for Counting {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        self.count("status").status()
    }
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        let session = self.count("put");
        Box::pin(async move {
            if !put.bytes.is_empty() {
                let cut = &self.wire.cut_after;
                let left = cut.load(Ordering::Relaxed);
                if left == 1 {
                    let detail = "the way is cut".to_owned();
                    return Err(ServiceError::Offline { detail });
                }
                cut.store(left.saturating_sub(1), Ordering::Relaxed);
                self.wire.sent.lock().unwrap().push((put.pack, put.offset));
            }
            session.put(put).await
        })
    }
    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        self.count("put_node").put_node(node)
    }
    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        self.count("move_head").move_head(head_move)
    }
    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        self.count("head").head(which)
    }
    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        self.count("prove").prove(sequence)
    }
    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        self.count("nodes").nodes(nodes)
    }
    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.count("read").read(reads)
    }
    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        self.count("audit").audit(challenge)
    }
    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        self.count("digest").digest(request)
    }
    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        self.count("addresses").addresses()
    }
    fn appetite(&self) -> Appetite {
        Appetite::NETWORK
    }
}

/// A connector whose sessions count.
struct Far {
    wire: Arc<Wire>,
    inner: InProcess,
}

impl Far {
    fn new() -> Self {
        let open = |address: &str| {
            let path = address.strip_prefix("dir:").expect("a folder");
            let provider = Provider::open_folder(Path::new(path), Some(FolderTerms::default()));
            let provider = provider.map_err(|error| ServiceError::Unavailable {
                detail: error.to_string(),
            })?;
            Ok(Arc::new(provider) as Arc<dyn connect::Provider>)
        };
        Self {
            wire: Arc::default(),
            inner: InProcess::new(open),
        }
    }
}

impl Connector for Far {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        self.inner.identify(address)
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move {
            let inner = self.inner.connect(addresses, auth, client).await?;
            let wire = Arc::clone(&self.wire);
            Ok(Arc::new(Counting { wire, inner }) as Arc<dyn Session>)
        })
    }

    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        self.inner.redeem(invitation, client)
    }
}

/// A provider, and any number of machines that are clients of it.
struct Scene {
    folder: tempfile::TempDir,
    far: Arc<Far>,
}

impl Scene {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            far: Arc::new(Far::new()),
        }
    }

    fn address(&self) -> String {
        format!("dir:{}", self.folder.path().join("disk").display())
    }

    fn home(&self, machine: &str) -> PathBuf {
        self.folder.path().join(machine)
    }

    fn open(&self, machine: &str) -> Client {
        let connector = Arc::clone(&self.far) as Arc<dyn Connector>;
        Client::open(&self.home(machine), OpenOptions::new(connector)).unwrap()
    }

    /// Begins a store on the first machine; returns its words.
    fn begin(&self, machine: &str) -> String {
        let made = Client::init(&self.home(machine), &InitOptions::default()).unwrap();
        let request = OpenChannelRequest::new(self.address());
        let control = Control::default();
        self.open(machine).open_channel(&request, &control).unwrap();
        made.phrase.unwrap().as_str().to_owned()
    }

    /// Makes another machine of the same store.
    fn join(&self, machine: &str, words: String) -> Client {
        let options = InitOptions {
            phrase: Some(words.into()),
            source: Some(machine.to_owned()),
            ..InitOptions::default()
        };
        Client::init(&self.home(machine), &options).unwrap();
        let mut client = self.open(machine);
        let request = RecoverRequest {
            address: self.address(),
            root: None,
            from_packs: false,
        };
        client.recover(&request, &Control::default()).unwrap();
        client
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn try_store(&self, client: &mut Client, folder: &str) -> Result<StoreReport, ClientError> {
        let request = StoreRequest {
            paths: vec![self.folder.path().join(folder)],
            ..StoreRequest::default()
        };
        client.store(&request, &Control::default())
    }

    fn store(&self, client: &mut Client, folder: &str) -> StoreReport {
        self.try_store(client, folder).unwrap()
    }
}

/// Bytes that do not compress, the same for one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_store_of_one_small_file_is_one_call() {
    let scene = Scene::new();
    scene.begin("home");
    for n in 0..3 {
        scene.write("files/small", &noise(n, 300));
        scene.far.wire.called();
        // In a process of its own each time: what it takes comes from disk.
        let mut client = scene.open("home");
        assert_eq!(scene.store(&mut client, "files").troubles.len(), 0);
        assert_eq!(scene.far.wire.called(), ["move_head"]);
        // And in one that goes on.
        scene.write("files/small", &noise(n + 100, 300));
        scene.store(&mut client, "files");
        assert_eq!(scene.far.wire.called(), ["move_head"]);
    }
}

#[test]
fn what_needs_packs_asks_first_what_others_have_stored() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut two = scene.join("two", words);
    let mut one = scene.open("one");
    for n in 0..4 {
        scene.write(&format!("a/{n}"), &noise(n, 2_000_000));
        scene.write(&format!("b/{n}"), &noise(n, 2_000_000));
    }
    assert!(scene.store(&mut one, "a").bytes_stored > 8_000_000);
    assert!(!scene.far.wire.sent().is_empty());
    let report = scene.store(&mut two, "b");
    assert_eq!(report.files_new, 4);
    assert_eq!(report.bytes_stored, 0);
    assert_eq!(scene.far.wire.sent(), []);
}

#[test]
fn a_little_that_another_machine_overtook_is_stored_on_top_of_it() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut two = scene.join("two", words);
    let mut one = scene.open("one");
    scene.write("a/small", b"of one");
    scene.write("b/small", b"of two");
    scene.store(&mut one, "a");
    scene.far.wire.called();
    let report = scene.store(&mut two, "b");
    let called = scene.far.wire.called();
    assert_eq!(called.first(), Some(&"move_head"));
    assert!(called.contains(&"head"));
    scene.write("a/small", b"of one again");
    let last = scene.store(&mut one, "a");
    assert_eq!(last.sequence, report.sequence + 1);
    assert_eq!(one.status().unwrap().totals.files_present, 2);
}

#[test]
fn what_is_excluded_is_not_deleted_though_it_was_stored_before() {
    let scene = Scene::new();
    let words = scene.begin("home");
    let mut client = scene.open("home");
    assert!(client.verify_phrase(&words).unwrap());
    scene.write("files/goes", b"some bytes");
    scene.write("files/cache/stays", b"other bytes");
    scene.store(&mut client, "files");
    let request = StoreRequest {
        paths: vec![scene.home("files")],
        excludes: vec!["cache".to_owned()],
        delete_local: true,
        single_copy: true,
        ..StoreRequest::default()
    };
    let report = client.store(&request, &Control::default()).unwrap();
    assert_eq!(report.files_deleted, 1);
    assert!(!scene.home("files/goes").exists());
    assert!(scene.home("files/cache/stays").exists());
}

fn spooled(scene: &Scene) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scene.home("home").join("spool")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Cuts the way while 60 MB are being stored; returns the ranges that had arrived.
fn cut_off(scene: &Scene) -> Vec<(ObjectRef, u64)> {
    scene.begin("home");
    for n in 0..20 {
        scene.write(&format!("files/{n}"), &noise(n, 3_000_000));
    }
    let mut client = scene.open("home");
    scene.far.wire.cut_after.store(21, Ordering::Relaxed);
    scene.far.wire.sent();
    let cut = scene.try_store(&mut client, "files").unwrap_err();
    assert!(matches!(cut, ClientError::Provider { .. }), "{cut}");
    scene.far.wire.cut_after.store(0, Ordering::Relaxed);
    let sent = scene.far.wire.sent();
    assert_eq!(sent.len(), 20);
    sent
}

#[test]
fn what_was_cut_off_is_sent_on_and_nothing_twice() {
    let scene = Scene::new();
    let before = cut_off(&scene);
    assert!(!spooled(&scene).is_empty());
    let mut client = scene.open("home");
    let report = scene.store(&mut client, "files");
    assert_eq!(report.files_new, 20);
    let mut all = before;
    all.extend(scene.far.wire.sent());
    let ranges = all.len();
    // 60 MB, the journal, and little else.
    assert!((58..64).contains(&ranges), "{ranges}");
    all.sort_unstable_by_key(|(pack, offset)| (pack.root.0, *offset));
    all.dedup();
    assert_eq!(all.len(), ranges);
    assert_eq!(spooled(&scene), Vec::<PathBuf>::new());
    let to = scene.home("back");
    let request = RetrieveRequest {
        paths: vec![scene.home("files")],
        to: to.clone(),
        ..RetrieveRequest::default()
    };
    client.retrieve(&request, &Control::default()).unwrap();
    let back = to.join(scene.home("files/7").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(back).unwrap(), noise(7, 3_000_000));
}

#[test]
fn a_damaged_pack_in_the_spool_is_discarded_and_told() {
    let scene = Scene::new();
    cut_off(&scene);
    for (n, path) in spooled(&scene).into_iter().enumerate() {
        let mut bytes = std::fs::read(&path).unwrap();
        if n % 2 == 0 {
            bytes[1000] ^= 1;
        } else {
            bytes.pop();
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let control = Control::new(move |event| {
        if let Event::Notice(text) = event {
            heard.lock().unwrap().push(text);
        }
    });
    let request = StoreRequest {
        paths: vec![scene.home("files")],
        ..StoreRequest::default()
    };
    let mut client = scene.open("home");
    let report = client.store(&request, &control).unwrap();
    assert_eq!(report.files_new, 20);
    let told = told.lock().unwrap();
    assert!(
        told.iter().any(|text| text.contains("damaged here")),
        "{told:?}"
    );
    assert_eq!(spooled(&scene), Vec::<PathBuf>::new());
}
