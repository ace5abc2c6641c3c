//! The year of a daemon that stores every minute, as the model simulates it, replayed at speed against a real provider by the real engine.
//!
//! The same seed changes the same files by the same lengths at the same minutes. Both are in this process, so that nothing but their own work takes
//! time; the client's clock runs through the year, the provider's stays where it is and its grace is none, so that what is let go of is freed at once, as the
//! model counts it. Contents are random bytes, three times as long with zeros. How many days is the first argument; figures are printed beside the model's.
//!
//! What is counted: bytes of all requests that say something new (packs' ranges, nodes, heads with their commits), packs as they arrive, fsyncs of the
//! provider's volume, files in its folder.

#![allow(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "its figures are for whoever runs it"
)]

use std::{
    collections::HashSet,
    env,
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use maimo_client::{
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    clock::Clock,
    progress::Control,
    prune::PruneRequest,
    store::StoreRequest,
    verify::VerifyRequest,
};
use maimo_core::{
    clock::Timestamp,
    custody::Grace,
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    reference::ObjectRef,
};
use maimo_net::{
    connect::{Connector, Load, Welcome},
    in_process::InProcess,
    service::{Appetite, ChannelStatus, Put, PutReply, Read, Reply, Session, ShownHead, WhichHead},
};
use maimo_provider::provider::{FolderTerms, Provider};
use maimo_sim::years::{
    BEGIN_MS, Figures,
    minutely::{self, Change, DAY_MINUTES, Minutes},
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

const SEED: u64 = 1;

fn main() {
    let days = env::args().find_map(|argument| argument.parse().ok());
    let days = days.unwrap_or(30);
    let model = minutely::year(SEED, days);
    let mut year = Year::begin();
    let begun = Instant::now();
    for day in 0..days {
        year.day();
        if (day + 1).is_multiple_of(10) || day + 1 == days {
            println!(
                "{} days after {:.0} s",
                day + 1,
                begun.elapsed().as_secs_f64()
            );
        }
    }
    year.tell(&model);
}

/// What crossed the way to the provider.
#[derive(Default)]
struct Wire {
    bytes: AtomicU64,
    calls: AtomicU64,
    packs: Mutex<HashSet<ObjectRef>>,
}

impl Wire {
    fn carries(&self, bytes: usize) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// A session whose way is counted.
struct Counting {
    wire: Arc<Wire>,
    inner: Arc<dyn Session>,
}

impl Session for Counting {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        self.inner.status()
    }
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        self.wire.carries(put.bytes.len());
        if !put.bytes.is_empty() {
            let mut packs = self.wire.packs.lock().expect("nobody panicked");
            packs.insert(put.pack);
        }
        self.inner.put(put)
    }
    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        self.wire.carries(node.len());
        self.inner.put_node(node)
    }
    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        self.wire.carries(head_move.len());
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
        self.inner.addresses()
    }
    fn appetite(&self) -> Appetite {
        self.inner.appetite()
    }
}

/// The way to one provider of this process.
struct Way {
    wire: Arc<Wire>,
    inner: InProcess,
}

impl Connector for Way {
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

/// A store that is lived with.
struct Year {
    folder: tempfile::TempDir,
    minutes: Minutes,
    contents: ChaCha8Rng,
    now: Arc<AtomicU64>,
    wire: Arc<Wire>,
    provider: Provider,
    client: Client,
    syncs_before: u64,
    commits: u64,
}

impl Year {
    /// Makes both and stores the files as the daemon finds them first.
    fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the benchmark");
        let disk = folder.path().join("disk");
        let terms = FolderTerms {
            grace: Some(Grace::For(core::time::Duration::ZERO)),
            ..FolderTerms::default()
        };
        let provider = Provider::open_folder(&disk, Some(terms)).expect("a provider");
        let opened = provider.clone();
        let wire = Arc::<Wire>::default();
        let way = Way {
            wire: Arc::clone(&wire),
            inner: InProcess::new(move |_: &str| {
                Ok(Arc::new(opened.clone()) as Arc<dyn maimo_net::connect::Provider>)
            }),
        };
        let home = folder.path().join("home");
        let options = InitOptions {
            source: Some("daemon".to_owned()),
            ..InitOptions::default()
        };
        Client::init(&home, &options).expect("a node");
        let mut minutes = Minutes::new(SEED);
        let first = minutes.first();
        let now = Arc::new(AtomicU64::new(BEGIN_MS));
        let mut options = OpenOptions::new(Arc::new(way) as Arc<dyn Connector>);
        let clock = Arc::clone(&now);
        options.clock = Clock::new(move || Timestamp(clock.load(Ordering::Relaxed)));
        let mut client = Client::open(&home, options).expect("a client");
        let request = OpenChannelRequest::new(format!("dir:{}", disk.display()));
        client
            .open_channel(&request, &Control::default())
            .expect("a channel");
        let mut year = Self {
            folder,
            minutes,
            contents: ChaCha8Rng::seed_from_u64(SEED),
            now,
            wire,
            syncs_before: provider.syncs(),
            provider,
            client,
            commits: 0,
        };
        for change in &first {
            year.write(change);
        }
        year.store(vec![year.files()]);
        year
    }

    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn path_of(&self, change: &Change) -> PathBuf {
        let mut path = self.files();
        for name in change.path.components() {
            path.push(OsStr::from_bytes(name));
        }
        path
    }

    fn write(&mut self, change: &Change) {
        let mut bytes = vec![0; usize::try_from(change.size()).expect("a small file")];
        let frame = usize::try_from(change.frame).expect("a small frame");
        self.contents.fill_bytes(&mut bytes[..frame]);
        let path = self.path_of(change);
        fs::create_dir_all(path.parent().expect("a folder above")).expect("folders");
        fs::write(path, bytes).expect("a file");
    }

    fn store(&mut self, paths: Vec<PathBuf>) {
        let request = StoreRequest {
            paths,
            changed: self.commits > 0,
            ..StoreRequest::default()
        };
        let report = self.client.store(&request, &Control::default());
        let report = report.expect("a store");
        assert!(report.troubles.is_empty(), "{:?}", report.troubles);
        assert!(
            report.run.is_some(),
            "what changed in a minute was not seen"
        );
        self.commits = report.sequence;
    }

    fn day(&mut self) {
        for _ in 0..DAY_MINUTES {
            let (now, change) = self.minutes.next_change();
            self.now.store(now.0, Ordering::Relaxed);
            self.write(&change);
            let changed = self.path_of(&change);
            self.store(vec![changed]);
        }
        let control = Control::default();
        let pruned = self.client.prune(PruneRequest::default(), &control);
        self.commits = pruned.expect("a prune").sequence;
        // What is let go of may be freed a moment later, by the provider's own clock.
        let later = Clock::default().now().0 + 1000;
        self.provider.sweep(Timestamp(later)).expect("a sweep");
    }

    /// Returns how many files a folder has, and their bytes.
    fn on_disk(&self) -> (u64, u64) {
        fn add(folder: &Path, sums: &mut (u64, u64)) {
            for entry in fs::read_dir(folder).expect("a folder") {
                let entry = entry.expect("an entry");
                let metadata = entry.metadata().expect("a file");
                if metadata.is_dir() {
                    add(&entry.path(), sums);
                } else {
                    use std::os::unix::fs::MetadataExt as _;
                    *sums = (sums.0 + 1, sums.1 + metadata.blocks() * 512);
                }
            }
        }
        let mut sums = (0, 0);
        add(&self.folder.path().join("disk"), &mut sums);
        sums
    }

    fn tell(mut self, model: &Figures) {
        let control = Control::default();
        let audits = self.client.verify(&VerifyRequest::default(), &control);
        let audit = audits.expect("an audit").remove(0);
        let (files, allocated) = self.on_disk();
        let sent = self.wire.bytes.load(Ordering::Relaxed);
        let packs = self.wire.packs.lock().expect("nobody panicked").len() as u64;
        let living: u64 = audit.strata.iter().map(|it| it.blocks_live * 4096).sum();
        let row = |name: &str, real: u64, model: u64| {
            let ratio = real as f64 / model.max(1) as f64;
            println!("{name:<34} {real:>14} {model:>14} {ratio:>6.2}");
        };
        println!("{:<34} {:>14} {:>14} {:>6}", "", "real", "model", "ratio");
        row("commits", self.commits, model.commits);
        row("bytes sent", sent, model.sent);
        row("packs sent", packs, model.packs_sent);
        row(
            "bytes living at the end",
            living,
            model.data_living + model.journal,
        );
        row(
            "packs, and the provider's files",
            files,
            model.data_packs + model.vital_packs,
        );
        let syncs = self.provider.syncs() - self.syncs_before;
        println!(
            "fsyncs of the volume: {syncs}, {:.2} a commit; {} MiB of disk in {files} files; the audit was {:?}",
            syncs as f64 / self.commits as f64,
            allocated >> 20,
            audit.result,
        );
    }
}
