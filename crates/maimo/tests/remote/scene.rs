//! A provider that seems far, and any number of machines that are clients of it: what is called is counted, and cut where a test says.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use maimo_client::{
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    clock::Clock,
    error::ClientError,
    progress::Control,
    recover::RecoverRequest,
    store::{StoreReport, StoreRequest},
};
use maimo_core::{
    clock::Timestamp,
    custody::Grace,
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    reference::ObjectRef,
};
use maimo_net::{
    connect::{self, Connector, Load, Welcome},
    in_process::InProcess,
    service::{
        Appetite, ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead,
        WhichHead,
    },
};
use maimo_provider::provider::{FolderTerms, Provider};
use tokio::sync::oneshot;

type Meanwhile = Box<dyn FnOnce() + Send>;

/// What was called, and what is to go wrong.
#[derive(Default)]
pub(crate) struct Wire {
    calls: Mutex<Vec<&'static str>>,
    /// Ranges sent: pack and offset, in bytes.
    sent: Mutex<Vec<(ObjectRef, u64)>>,
    /// One more than how many further ranges arrive before the way is cut; 0 for never.
    pub(crate) cut_after: AtomicU64,
    /// How the ranges of the first pack are answered: once one of another pack was sent.
    pub(crate) late: Mutex<Option<Late>>,
    /// What happens elsewhere just before a call of this name, once.
    meanwhile: Mutex<Option<(&'static str, Meanwhile)>>,
    /// Whether audits are not answered, as if each were cut off.
    pub(crate) is_deaf: AtomicBool,
    /// Whether nothing is.
    pub(crate) is_away: AtomicBool,
    /// Who looks at each range that is sent.
    looks: Mutex<Option<Box<dyn FnMut() + Send>>>,
}

/// Ranges that are not answered yet.
#[derive(Default)]
pub(crate) struct Late {
    pack: Option<ObjectRef>,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Late {
    /// Takes note of a range sent; returns what its answer waits for.
    fn sent(&mut self, pack: ObjectRef) -> Option<oneshot::Receiver<()>> {
        if *self.pack.get_or_insert(pack) != pack {
            for waiting in self.waiting.drain(..) {
                let _ = waiting.send(());
            }
            return None;
        }
        let (told, answer) = oneshot::channel();
        self.waiting.push(told);
        Some(answer)
    }
}

impl Wire {
    /// Answers the first pack's ranges only once one of another was sent; not at all, if that takes a minute.
    pub(crate) fn answer_late(self: &Arc<Self>) {
        *self.late.lock().unwrap() = Some(Late::default());
        let wire = Arc::clone(self);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_mins(1));
            *wire.late.lock().unwrap() = None;
        });
    }

    pub(crate) fn called(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    pub(crate) fn sent(&self) -> Vec<(ObjectRef, u64)> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    /// Has something happen elsewhere just before the next call of this name, whoever makes it.
    pub(crate) fn before(&self, call: &'static str, meanwhile: impl FnOnce() + Send + 'static) {
        let replaced = self
            .meanwhile
            .lock()
            .unwrap()
            .replace((call, Box::new(meanwhile)));
        assert!(replaced.is_none(), "the last one never happened");
    }

    /// Has someone look whenever a range is sent.
    pub(crate) fn at_each_put(&self, look: impl FnMut() + Send + 'static) {
        *self.looks.lock().unwrap() = Some(Box::new(look));
    }

    /// Returns whether nothing is waiting to happen.
    pub(crate) fn is_over(&self) -> bool {
        self.meanwhile.lock().unwrap().is_none()
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
        let meanwhile = self
            .wire
            .meanwhile
            .lock()
            .unwrap()
            .take_if(|(before, _)| *before == call);
        if let Some((_, happen)) = meanwhile {
            happen();
        }
        &*self.inner
    }
}

/// Cuts the way if a test says so.
fn heard(unless: &AtomicBool) -> Result<(), ServiceError> {
    if unless.load(Ordering::Relaxed) {
        let detail = "the way is cut".to_owned();
        return Err(ServiceError::Offline { detail });
    }
    Ok(())
}

impl Session for Counting {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        let status = self.count("status").status();
        Box::pin(async move {
            heard(&self.wire.is_away)?;
            status.await
        })
    }
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        let session = self.count("put");
        Box::pin(async move {
            if !put.bytes.is_empty() {
                if let Some(look) = &mut *self.wire.looks.lock().unwrap() {
                    look();
                }
                let cut = &self.wire.cut_after;
                let left = cut.load(Ordering::Relaxed);
                if left == 1 {
                    let detail = "the way is cut".to_owned();
                    return Err(ServiceError::Offline { detail });
                }
                cut.store(left.saturating_sub(1), Ordering::Relaxed);
                self.wire.sent.lock().unwrap().push((put.pack, put.offset));
                let late = self
                    .wire
                    .late
                    .lock()
                    .unwrap()
                    .as_mut()
                    .map(|late| late.sent(put.pack));
                if let Some(Some(answer)) = late
                    && answer.await.is_err()
                {
                    let detail = "no other pack was sent".to_owned();
                    return Err(ServiceError::Offline { detail });
                }
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
        let answer = self.count("audit").audit(challenge);
        Box::pin(async move {
            heard(&self.wire.is_away)?;
            heard(&self.wire.is_deaf)?;
            answer.await
        })
    }
    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        self.count("digest").digest(request)
    }
    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        self.count("addresses").addresses()
    }
    fn appetite(&self) -> Appetite {
        // More than a pack has ranges.
        Appetite {
            calls: 64,
            ..Appetite::NETWORK
        }
    }
}

/// A connector whose sessions count.
pub(crate) struct Far {
    pub(crate) wire: Arc<Wire>,
    provider: Arc<Mutex<Option<Provider>>>,
    inner: InProcess,
}

impl Far {
    fn new(terms: FolderTerms) -> Self {
        let provider = Arc::default();
        let opened: Arc<Mutex<Option<Provider>>> = Arc::clone(&provider);
        let open = move |address: &str| {
            let path = address.strip_prefix("dir:").expect("a folder");
            let provider = Provider::open_folder(Path::new(path), Some(terms));
            let provider = provider.map_err(|error| ServiceError::Unavailable {
                detail: error.to_string(),
            })?;
            *opened.lock().unwrap() = Some(provider.clone());
            Ok(Arc::new(provider) as Arc<dyn connect::Provider>)
        };
        Self {
            wire: Arc::default(),
            provider,
            inner: InProcess::new(open),
        }
    }

    /// Has the provider free what it need not hold any longer.
    pub(crate) fn sweep(&self) {
        let provider = self.provider.lock().unwrap();
        let now = Clock::default().now();
        provider.as_ref().unwrap().sweep(now).unwrap();
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
        load: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move {
            let inner = self.inner.connect(addresses, auth, client, load).await?;
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
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) far: Arc<Far>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::on(FolderTerms::default())
    }

    /// The provider holds on to nothing that is let go of.
    pub(crate) fn without_grace() -> Self {
        Self::on(FolderTerms {
            grace: Some(Grace::For(Duration::ZERO)),
            ..FolderTerms::default()
        })
    }

    fn on(terms: FolderTerms) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            far: Arc::new(Far::new(terms)),
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("dir:{}", self.folder.path().join("disk").display())
    }

    pub(crate) fn home(&self, machine: &str) -> PathBuf {
        self.folder.path().join(machine)
    }

    pub(crate) fn open(&self, machine: &str) -> Client {
        let connector = Arc::clone(&self.far) as Arc<dyn Connector>;
        Client::open(&self.home(machine), OpenOptions::new(connector)).unwrap()
    }

    /// Opens a machine whose clock shows some hours since 1970.
    pub(crate) fn open_at(&self, machine: &str, hours: &Arc<AtomicU64>) -> Client {
        let hours = Arc::clone(hours);
        let connector = Arc::clone(&self.far) as Arc<dyn Connector>;
        let mut options = OpenOptions::new(connector);
        options.clock =
            Clock::new(move || Timestamp(hours.load(Ordering::Relaxed) * 60 * 60 * 1000));
        Client::open(&self.home(machine), options).unwrap()
    }

    /// Begins a store on the first machine; returns its words.
    pub(crate) fn begin(&self, machine: &str) -> String {
        let options = InitOptions {
            source: Some(machine.to_owned()),
            ..InitOptions::default()
        };
        let made = Client::init(&self.home(machine), &options).unwrap();
        let request = OpenChannelRequest::new(self.address());
        let control = Control::default();
        self.open(machine).open_channel(&request, &control).unwrap();
        made.phrase.unwrap().as_str().to_owned()
    }

    /// Makes another machine of the same store.
    pub(crate) fn join(&self, machine: &str, words: String) -> Client {
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

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub(crate) fn try_store(
        &self,
        client: &mut Client,
        folder: &str,
    ) -> Result<StoreReport, ClientError> {
        let request = StoreRequest {
            paths: vec![self.folder.path().join(folder)],
            ..StoreRequest::default()
        };
        client.store(&request, &Control::default())
    }

    pub(crate) fn store(&self, client: &mut Client, folder: &str) -> StoreReport {
        self.try_store(client, folder).unwrap()
    }
}

/// Bytes that do not compress, the same for one seed.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
