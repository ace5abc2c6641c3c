//! A provider with a thousand clients beside one with a single client, over TCP: what each client costs it, and what the others cost each.
//!
//! Both providers are processes of their own (this program again), with the real server and its limits; all clients are here, each with a key,
//! an invitation and a channel of its own, a data pack and a vital pack. Times are medians of rounds that take turns between the two providers,
//! so that a slow minute of the machine falls on both. One run, figures printed; how many clients is the first argument.

#![allow(clippy::print_stdout, reason = "its figures are for whoever runs it")]

use std::{
    collections::BTreeMap,
    env, fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_executor::block_on;
use maimo_core::{
    address::{Address, Addresses, Network},
    ancestry::Ancestry,
    audit::{Challenge, check},
    clock::Timestamp,
    custody::PackClass,
    head::SignedHead,
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, ClientSecretKey},
    inventory::Inventory,
    invitation::Invitation,
};
use maimo_net::{
    connect::{Connector as _, Load, Provider as _},
    connector::{NetworkConnector, Settings},
    service::{ServiceError, Session, WhichHead},
    transport::tcp::Tcp,
};
use maimo_provider::provider::{self, FolderTerms, InviteRequest, Provider};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use tokio::runtime::Runtime;

#[path = "../src/testing.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is the tests' own client")]
mod testing;

#[path = "support/served.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod served;

use served::{Running, float, float_of, mib};
use testing::{TestClient, pack};

/// What each client has stored, in bytes: a pack with a file of its own, and a vital one that goes into the log.
const DATA_BYTES: u64 = 256 << 10;
const VITAL_BYTES: u64 = 8 << 10;
/// Clients that join at a time.
const JOINING: usize = 16;
/// Rounds of commits and of audits, and of starts.
const ROUNDS: u64 = 100;
const STARTS: usize = 5;
/// Clients at once, and what each of them does.
const AT_ONCE: usize = 100;
const COMMITS_EACH: u64 = 10;

fn main() {
    if served::is_provider() {
        return;
    }
    let mut counts = env::args().filter_map(|argument| argument.parse().ok());
    let count = counts.next().unwrap_or(1000);
    let runtime = Runtime::new().expect("a runtime");
    let mut alone = Scene::new(&runtime, 1);
    let mut crowd = Scene::new(&runtime, count);
    alone.join();
    crowd.join();
    crowd.on_disk(&alone);
    crowd.starts(&mut alone);
    crowd.commits_and_audits(&mut alone);
    crowd.many_at_once();
    crowd.all_there();
}

/// A provider and its clients.
struct Scene {
    folder: tempfile::TempDir,
    home: PathBuf,
    port: u16,
    auth: AuthPublicKey,
    invitations: Vec<Invitation>,
    connector: NetworkConnector,
    /// A session with a provider of this process, for clients that are not connected.
    elsewhere: Arc<dyn Session>,
    clients: Vec<Client>,
    running: Option<Running>,
    /// What comes next in packs that are to differ.
    packs: u64,
}

/// A client, whether it is connected or not.
struct Client {
    seed: [u8; 32],
    state: TestClient,
}

impl Scene {
    fn new(runtime: &Runtime, count: usize) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        // Not where temporary files are: that may be memory, and syncs would cost nothing.
        let folder = folder.expect("a folder for the benchmark");
        let home = folder.path().join("provider");
        let elsewhere = Provider::open_folder(
            &folder.path().join("elsewhere"),
            Some(FolderTerms::default()),
        );
        let elsewhere = elsewhere
            .expect("a provider of this process")
            .face(Network::Tcp);
        let nobody = ClientSecretKey::from_seed(&[0; 32]).public();
        let elsewhere = elsewhere.session(nobody).expect("a session");
        let provider = Provider::create(&home).expect("a provider");
        let volume = folder.path().join("volume");
        provider.add_volume(&volume, 1 << 40).expect("a volume");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = free.local_addr().expect("its address").port();
        let address: Address = format!("127.0.0.1:{port}").parse().expect("an address");
        let begun = Instant::now();
        let invitations = (0..count).map(|number| {
            let request = InviteRequest {
                network: Network::Tcp,
                label: format!("client {number}"),
                cap: 1 << 30,
                grace: None,
                reserve: None,
                expires: Timestamp(now().0 + 86_400_000),
            };
            let addresses = Addresses::new(vec![address.clone()]).expect("one address");
            let invited = provider.invite(request, addresses, now());
            invited.expect("an invitation")
        });
        let invitations = invitations.collect();
        println!(
            "{count} invitations: {:.2} s",
            begun.elapsed().as_secs_f64()
        );
        let connector = NetworkConnector::new(
            vec![Arc::new(Tcp::new()) as _],
            runtime.handle().clone(),
            Settings::default(),
        );
        Self {
            auth: provider.face(Network::Tcp).auth(),
            folder,
            home,
            port,
            invitations,
            connector,
            elsewhere,
            clients: Vec::new(),
            running: None,
            packs: 0,
        }
    }

    fn start(&mut self) -> &Running {
        let running = Running::start(&self.home, self.port, None);
        self.running.insert(running.expect("a provider"))
    }

    fn memory(&self, name: &str) -> f64 {
        let running = self.running.as_ref().expect("a provider that runs");
        running.memory_mib(name)
    }

    /// Has each client redeem its invitation, store its packs and commit.
    fn join(&mut self) {
        self.start();
        let begun = Instant::now();
        let invitations: Vec<(usize, &Invitation)> = self.invitations.iter().enumerate().collect();
        let (connector, auth, elsewhere) = (&self.connector, self.auth, &self.elsewhere);
        let portion = invitations.len().div_ceil(JOINING).max(1);
        let joined = thread::scope(|scope| {
            let joining: Vec<_> = invitations
                .chunks(portion)
                .map(|some| {
                    scope.spawn(move || {
                        let join = |&one: &_| join(connector, auth, elsewhere, one);
                        some.iter().map(join).collect::<Vec<_>>()
                    })
                })
                .collect();
            let joined = joining.into_iter().map(|it| it.join().expect("clients"));
            joined.flatten().collect::<Vec<_>>()
        });
        self.clients = joined;
        let (count, seconds) = (self.clients.len(), begun.elapsed().as_secs_f64());
        println!(
            "{count} joined, {JOINING} at a time, each redeems, stores {} KiB in two packs and commits: {seconds:.2} s, {:.1} ms each; memory {:.1} MiB, {:.1} at its peak",
            (DATA_BYTES + VITAL_BYTES) >> 10,
            seconds * 1000.0 / float(count),
            self.memory("VmRSS"),
            self.memory("VmHWM"),
        );
    }

    /// What is on the disk, a client.
    fn on_disk(&self, alone: &Self) {
        let (crowd, one) = (files(self.folder.path()), files(alone.folder.path()));
        let more = (self.clients.len().max(2) - 1) as u64;
        for (what, [count, bytes, allocated]) in &crowd {
            let [one_count, one_bytes, one_allocated] = one.get(what).copied().unwrap_or_default();
            println!(
                "on disk, {what}: {count} files, {:.2} MiB, {:.2} MiB allocated; a client more is {:.2} files, {:.1} KiB, {:.1} KiB allocated",
                mib(*bytes),
                mib(*allocated),
                float_of(count.saturating_sub(one_count)) / float_of(more),
                mib(bytes.saturating_sub(one_bytes)) * 1024.0 / float_of(more),
                mib(allocated.saturating_sub(one_allocated)) * 1024.0 / float_of(more),
            );
        }
    }

    /// How long a start takes after an end in order, and after none; and what the provider then has in memory.
    fn starts(&mut self, alone: &mut Self) {
        for in_order in [true, false] {
            let mut took = [Vec::new(), Vec::new()];
            for _ in 0..STARTS {
                for (scene, took) in [&mut *alone, &mut *self].into_iter().zip(&mut took) {
                    match scene.running.take() {
                        Some(running) if !in_order => running.kill(),
                        ended => drop(ended),
                    }
                    let begun = Instant::now();
                    scene.start();
                    took.push(begun.elapsed());
                }
            }
            let [one, all] = took.map(median);
            let how = if in_order { "in order" } else { "by a kill" };
            println!(
                "start after an end {how}: {:.1} ms with {} clients, {:.1} ms with one; memory {:.1} MiB, {:.1} with one",
                millis(all),
                self.clients.len(),
                millis(one),
                self.memory("VmRSS"),
                alone.memory("VmRSS"),
            );
        }
    }

    fn connect(&self, number: usize) -> Result<Arc<dyn Session>, ServiceError> {
        connect(
            &self.connector,
            self.auth,
            self.port,
            self.clients[number].seed,
        )
    }

    /// Connects a client for good.
    fn connected(&mut self, number: usize) {
        let session = self.connect(number).expect("a provider that answers");
        self.clients[number].state.session = session;
    }

    /// Has the client of a number store a pack and commit, or audit all it has. Returns how long that took.
    fn step(&mut self, number: usize, audits: bool) -> Duration {
        self.packs += 1;
        let bytes = pack((1 << 40) + self.packs, PackClass::Data, 64 << 10);
        let auth = self.auth;
        let client = &mut self.clients[number];
        let begun = Instant::now();
        if audits {
            audit(&mut client.state, auth);
        } else {
            commit(&mut client.state, &bytes);
        }
        begun.elapsed()
    }

    fn commits_and_audits(&mut self, alone: &mut Self) {
        let middle = self.clients.len() / 2;
        alone.connected(0);
        self.connected(middle);
        for audits in [false, true] {
            let mut took = [Vec::new(), Vec::new()];
            for _ in 0..ROUNDS {
                took[0].push(alone.step(0, audits));
                took[1].push(self.step(middle, audits));
            }
            let [one, all] = took.map(median);
            println!(
                "{}: {:.2} ms with {} clients present, {:.2} ms with one: {:.2} times as long",
                if audits {
                    "an audit of 460 slices a stratum"
                } else {
                    "a pack of 64 KiB and its commit"
                },
                millis(all),
                self.clients.len(),
                millis(one),
                millis(all) / millis(one),
            );
        }
    }

    /// Many clients at once: how much they get done together, and whether each gets its share.
    fn many_at_once(&mut self) {
        let count = AT_ONCE.min(self.clients.len());
        for number in 0..count {
            self.connected(number);
        }
        let begun = Instant::now();
        let clients = &mut self.clients[..count];
        let mut took: Vec<Duration> = thread::scope(|scope| {
            let working: Vec<_> = clients
                .iter_mut()
                .enumerate()
                .map(|(number, client)| {
                    scope.spawn(move || {
                        for round in 0..COMMITS_EACH {
                            let seed = (2 << 40) + number as u64 * COMMITS_EACH + round;
                            commit(&mut client.state, &pack(seed, PackClass::Data, DATA_BYTES));
                        }
                        begun.elapsed()
                    })
                })
                .collect();
            let worked = working.into_iter().map(|it| it.join().expect("a client"));
            worked.collect()
        });
        took.sort();
        let seconds = begun.elapsed().as_secs_f64();
        let commits = float(count) * float_of(COMMITS_EACH);
        println!(
            "{count} clients at once, {COMMITS_EACH} packs of {} KiB and commits each: {:.0} commits a second, {:.1} MiB/s; the first was done after {:.2} s, the last after {:.2} s; memory {:.1} MiB at its peak",
            DATA_BYTES >> 10,
            commits / seconds,
            commits * mib(DATA_BYTES) / seconds,
            took[0].as_secs_f64(),
            took[count - 1].as_secs_f64(),
            self.memory("VmHWM"),
        );
    }

    /// All clients connected at the same time, as daemons are.
    fn all_there(&mut self) {
        self.running = None;
        self.start();
        let before = self.memory("VmRSS");
        let mut sessions = Vec::new();
        let mut refused = BTreeMap::new();
        for number in 0..self.clients.len() {
            let session = self.connect(number).and_then(|session| {
                block_on(session.status())?;
                Ok(session)
            });
            match session {
                Ok(session) => sessions.push(session),
                Err(error) => *refused.entry(error.to_string()).or_insert(0) += 1,
            }
        }
        thread::sleep(Duration::from_secs(1));
        let answered = sessions.iter().filter(|it| block_on(it.status()).is_ok());
        println!(
            "all connected: {} of {} came in, {} are answered; {:.1} MiB of memory, {before:.1} without any",
            sessions.len(),
            self.clients.len(),
            answered.count(),
            self.memory("VmRSS"),
        );
        for (why, count) in refused {
            println!("  {count} refused: {why}");
        }
        drop(sessions);
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.expect("a clock after 1970").as_millis();
    Timestamp(u64::try_from(millis).expect("a clock before the year 500,000,000"))
}

fn connect(
    connector: &NetworkConnector,
    auth: AuthPublicKey,
    port: u16,
    seed: [u8; 32],
) -> Result<Arc<dyn Session>, ServiceError> {
    let key = Arc::new(ClientSecretKey::from_seed(&seed));
    let addresses = [format!("127.0.0.1:{port}")];
    block_on(connector.connect(&addresses, auth, &key, Load::Light))
}

fn join(
    connector: &NetworkConnector,
    auth: AuthPublicKey,
    elsewhere: &Arc<dyn Session>,
    (number, invitation): (usize, &Invitation),
) -> Client {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
    let key = Arc::new(ClientSecretKey::from_seed(&seed));
    let welcome = block_on(connector.redeem(invitation, &key));
    welcome.expect("an invitation that is taken");
    let addresses: Vec<String> = invitation
        .offer()
        .addresses
        .as_slice()
        .iter()
        .map(ToString::to_string)
        .collect();
    let session = block_on(connector.connect(&addresses, auth, &key, Load::Light));
    let mut state = TestClient {
        session: session.expect("a provider that answers"),
        channel: ChannelId::derive(auth.as_bytes(), key.public().as_bytes()),
        key: ClientSecretKey::from_seed(&seed),
        network: Network::Tcp,
        data: Inventory::new(),
        vital: Inventory::new(),
        sequence: 0,
        root: RootHash::NONE,
        ancestry: Ancestry::empty(),
        roots: Vec::new(),
    };
    let vital = pack((1 << 20) + number as u64, PackClass::Vital, VITAL_BYTES);
    let held = state.upload(&vital, PackClass::Vital).expect("room");
    state.name_all(held, PackClass::Vital);
    commit(
        &mut state,
        &pack(number as u64, PackClass::Data, DATA_BYTES),
    );
    // Not connected until it is needed again.
    state.session = Arc::clone(elsewhere);
    Client { seed, state }
}

/// Stores a pack and moves the head.
fn commit(client: &mut TestClient, bytes: &bytes::Bytes) {
    let held = client.upload(bytes, PackClass::Data).expect("room");
    client.name_all(held, PackClass::Data);
    let (request, root, ancestry) = client.request();
    let moved = block_on(client.session.move_head(request.encode().into()));
    moved.expect("a receipt");
    client.sequence += 1;
    (client.root, client.ancestry) = (root, ancestry);
}

fn audit(client: &mut TestClient, auth: AuthPublicKey) {
    let shown = block_on(client.session.head(WhichHead::Newest));
    let shown = shown.expect("an answer").expect("a head");
    let channel = ChannelId::derive(auth.as_bytes(), client.key.public().as_bytes());
    let head = SignedHead::verify(&shown.head, channel, &[client.key.public()]);
    let head = head.expect("the client's own head");
    let view = head.head().into();
    let mut rng = ChaCha8Rng::seed_from_u64(head.head().sequence);
    let challenge = Challenge::draw(&mut rng, head.root(), &view, 460);
    let answer = block_on(client.session.audit(challenge.encode().into()));
    let report = check(&challenge, &answer.expect("an answer"), |_, _| Some(view));
    assert!(report.expect("an answer").is_intact());
}

/// Returns files, their bytes and what is allocated to them, by the first two folders they are in.
fn files(folder: &Path) -> BTreeMap<String, [u64; 3]> {
    use std::os::unix::fs::MetadataExt;
    let mut found: BTreeMap<String, [u64; 3]> = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).expect("a folder") {
            let path = entry.expect("an entry").path();
            let Ok(metadata) = fs::symlink_metadata(&path) else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = at.strip_prefix(folder).expect("below the folder");
            let what: PathBuf = inside.components().take(2).collect();
            let entry = found.entry(what.display().to_string()).or_default();
            entry[0] += 1;
            entry[1] += metadata.len();
            entry[2] += metadata.blocks() * 512;
        }
    }
    found
}

fn median(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 2]
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}
