//! What a provider takes and gives as a service over TCP: slices from cache, disk reads of cold ones, memory beside idle clients, and fsyncs of
//! small commits, each beside its target.
//!
//! The provider is a process of its own, this program again, with its real server and limits; the client's ends are here, with the real
//! connector: TLS and HTTP/2 both ways over loopback. One run, figures printed; no statistics.
//!
//! How things are counted, all by the system and on Linux only: reads as `syscr` of the provider's `/proc/PID/io` (sockets are not in it) and as
//! completed reads of the whole disk, other programs' included; memory as `VmRSS`; processor time as `utime` and `stime`; fsyncs by `strace`
//! around the provider, `SQLite`'s included, or not at all where there is none. Before a cold slice the packs' files are forgotten, by
//! `posix_fadvise`, and nothing else: the ledger and names of files are in memory.

#![allow(clippy::print_stdout, reason = "its figures are for whoever runs it")]

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures_executor::block_on;
use maimo_core::{
    address::Network,
    ancestry::Ancestry,
    audit::{AuditedHead, Challenge, Stratum, check},
    custody::PackClass,
    head::SignedHead,
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, ClientSecretKey},
    inventory::Inventory,
};
use maimo_net::{
    connect::{Connector as _, Load, Provider as _},
    connector::{NetworkConnector, Settings},
    service::{Session, WhichHead},
    transport::tcp::Tcp,
};
use maimo_provider::provider::{self, FolderTerms, Provider};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use rustix::fs::{Advice, fadvise, major, minor};
use tokio::runtime::Runtime;

#[path = "../src/testing.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is the tests' own client")]
mod testing;

#[path = "support/served.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod served;

use served::{Running, float, float_of, ratio};
use testing::{TestClient, pack};

/// The store: packs as long as they are unless set otherwise, and more of them than a provider keeps open.
const PACKS: u64 = 80;
const PACK_BYTES: u64 = 16 << 20;
const SLICES: usize = 460;
/// Connections that audit at once, and audits that each has under way.
const CONNECTIONS: usize = 4;
const OUTSTANDING: usize = 2;
const AUDITING: Duration = Duration::from_secs(6);
const COLD: usize = 40;
const IDLE_CLIENTS: u8 = 100;
const COMMITS: u64 = 1000;
/// The client whose store is audited.
const SEED: u8 = 1;

fn main() {
    if served::is_provider() {
        return;
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"));
    // Not where temporary files are: that may be memory, of which nothing is cold.
    let folder = folder.expect("a folder for the benchmark");
    let runtime = Runtime::new().expect("a runtime");
    let mut bench = Bench {
        auth: fill(folder.path()),
        folder: folder.path().to_owned(),
        runtime,
    };
    println!("a provider of {PACKS} packs of {PACK_BYTES} bytes, over TCP loopback");
    bench.slices_from_cache();
    bench.reads_of_cold_slices();
    bench.memory_beside_idle_clients();
    for clients in [1, 8, 32] {
        bench.fsyncs_of_small_commits(clients);
    }
}

/// Makes the provider with one client's store. Returns its key.
fn fill(folder: &Path) -> AuthPublicKey {
    let provider = Provider::open_folder(folder, Some(FolderTerms::default()));
    let provider = provider.expect("a folder to store in");
    let mut client = TestClient::on(&provider, Network::Tcp, SEED);
    for seed in 0..PACKS {
        let bytes = pack(seed, PackClass::Data, PACK_BYTES);
        let stored = client.upload(&bytes, PackClass::Data);
        client.name_all(stored.expect("room for a pack"), PackClass::Data);
    }
    client.move_head(&provider).expect("a head");
    provider.face(Network::Tcp).auth()
}

struct Bench {
    auth: AuthPublicKey,
    folder: PathBuf,
    runtime: Runtime,
}

impl Bench {
    fn start(&self) -> Running {
        Running::start(&self.folder, 0, None).expect("a provider")
    }

    fn connector(&self) -> NetworkConnector {
        let transports = vec![Arc::new(Tcp::new()) as _];
        NetworkConnector::new(
            transports,
            self.runtime.handle().clone(),
            Settings::default(),
        )
    }

    fn connect(
        &self,
        connector: &NetworkConnector,
        running: &Running,
        seed: [u8; 32],
    ) -> Arc<dyn Session> {
        let key = Arc::new(ClientSecretKey::from_seed(&seed));
        let addresses = [running.address.clone()];
        block_on(connector.connect(&addresses, self.auth, &key, Load::Light))
            .expect("a provider that answers")
    }

    fn channel(&self, key: &ClientSecretKey) -> ChannelId {
        ChannelId::derive(self.auth.as_bytes(), key.public().as_bytes())
    }

    fn head(&self, session: &dyn Session) -> (RootHash, AuditedHead) {
        let key = ClientSecretKey::from_seed(&[SEED; 32]);
        let shown = block_on(session.head(WhichHead::Newest));
        let shown = shown.expect("an answer").expect("a head");
        let head = SignedHead::verify(&shown.head, self.channel(&key), &[key.public()]);
        let head = head.expect("the client's own head");
        (head.root(), head.head().into())
    }

    fn slices_from_cache(&mut self) {
        let running = self.start();
        let connector = self.connector();
        let sessions: Vec<_> = (0..CONNECTIONS)
            .map(|_| self.connect(&connector, &running, [SEED; 32]))
            .collect();
        let (root, view) = self.head(&*sessions[0]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let challenges: Vec<_> = (0..16)
            .map(|_| Challenge::draw(&mut rng, root, &view, SLICES))
            .collect();
        let slices = challenges[0].positions(Stratum::Data).len();
        // One round first, each answer checked.
        for challenge in &challenges {
            let answer = block_on(sessions[0].audit(challenge.encode().into()));
            let answer = answer.expect("an answer");
            let report = check(challenge, &answer, |_, _| Some(view)).expect("an answer");
            assert!(report.is_intact());
        }
        let (start, processor_s) = (Instant::now(), running.processor_s());
        let audits: usize = thread::scope(|scope| {
            let auditors: Vec<_> = (0..CONNECTIONS * OUTSTANDING)
                .map(|number| {
                    let (session, challenges) = (&sessions[number % CONNECTIONS], &challenges);
                    scope.spawn(move || {
                        let mut done = number;
                        while start.elapsed() < AUDITING {
                            let challenge = &challenges[done % challenges.len()];
                            let answer = block_on(session.audit(challenge.encode().into()));
                            assert!(answer.expect("an answer").len() > SLICES * 4096);
                            done += 1;
                        }
                        done - number
                    })
                })
                .collect();
            let done = auditors.into_iter().map(thread::ScopedJoinHandle::join);
            done.map(|done| done.expect("audits")).sum()
        });
        let seconds = start.elapsed().as_secs_f64();
        let processor_s = running.processor_s() - processor_s;
        let total = float(audits * slices);
        println!(
            "slices from cache: {:.0}/s (target 20,000/s) in {audits} audits of {slices} over {CONNECTIONS} connections, both ends on this machine; \
             {:.0} a second of the provider's processor time, memory {:.1} MiB at its peak",
            total / seconds,
            total / processor_s,
            running.memory_mib("VmHWM"),
        );
    }

    /// Lets the system forget the packs' bytes. Names and sizes of files stay known to it, as does the ledger.
    fn forget(&self) {
        let mut folders = vec![self.folder.join("volume/packs")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a folder of packs") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let file = fs::File::open(path).expect("a pack's file");
                fadvise(&file, 0, None, Advice::DontNeed).expect("a file that can be forgotten");
            }
        }
    }

    fn reads_of_cold_slices(&mut self) {
        for (count, audits) in [(1, COLD), (SLICES, 1)] {
            let running = self.start();
            let connector = self.connector();
            let session = self.connect(&connector, &running, [SEED; 32]);
            let (root, view) = self.head(&*session);
            let mut rng = ChaCha8Rng::seed_from_u64(2);
            let mut audit = |count| {
                let challenge = Challenge::draw(&mut rng, root, &view, count);
                let answer = block_on(session.audit(challenge.encode().into()));
                let answer = answer.expect("an answer");
                let report = check(&challenge, &answer, |_, _| Some(view)).expect("an answer");
                assert!(report.is_intact());
                challenge.positions(Stratum::Data).len()
            };
            // One beforehand: what it finds out about the ledger is no part of a slice.
            audit(1);
            let (mut calls, mut bytes, mut of_disk, mut slices) = (0, 0, 0, 0);
            for _ in 0..audits {
                self.forget();
                let before = [
                    running.figure("io", "syscr"),
                    running.figure("io", "read_bytes"),
                    self.disk_reads(),
                ];
                slices += audit(count);
                of_disk += self.disk_reads() - before[2];
                calls += running.figure("io", "syscr") - before[0];
                bytes += running.figure("io", "read_bytes") - before[1];
            }
            println!(
                "cold slices, {count} an audit: {:.2} disk reads each (target 3), {:.2} calls that read, {:.1} KiB from the disk ({slices} slices)",
                ratio(of_disk, slices),
                ratio(calls, slices),
                ratio(bytes, slices) / 1024.0,
            );
        }
    }

    /// Returns how many reads the disk below the folder completed so far.
    fn disk_reads(&self) -> u64 {
        let device = fs::metadata(&self.folder).expect("the folder").dev();
        let path = format!("/sys/dev/block/{}:{}/stat", major(device), minor(device));
        // Not every file system tells its disk; then the figure is nought.
        let stat = fs::read_to_string(path).unwrap_or_default();
        let first = stat.split_whitespace().next();
        first.and_then(|first| first.parse().ok()).unwrap_or(0)
    }

    fn memory_beside_idle_clients(&mut self) {
        let running = self.start();
        let connector = self.connector();
        let before = running.memory_mib("VmRSS");
        let sessions: Vec<_> = (0..IDLE_CLIENTS)
            .map(|seed| {
                let session = self.connect(&connector, &running, [seed + SEED; 32]);
                block_on(session.status()).expect("a status");
                session
            })
            .collect();
        thread::sleep(Duration::from_secs(1));
        println!(
            "memory with {} idle clients: {:.1} MiB (target below 64), {:.1} MiB without any",
            sessions.len(),
            running.memory_mib("VmRSS"),
            before,
        );
    }

    fn fsyncs_of_small_commits(&mut self, clients: u8) {
        let trace = self.folder.join("fsyncs");
        let running = match Running::start(&self.folder, 0, Some(&trace)) {
            Ok(running) => running,
            Err(error) => return println!("fsyncs: not counted, strace does not start: {error}"),
        };
        let connector = self.connector();
        let mut clients: Vec<_> = (0..clients)
            .map(|number| self.new_client(&connector, &running, [clients, number]))
            .collect();
        // Each registers with its first head.
        clients.iter_mut().for_each(move_head);
        let before = fsyncs(&trace);
        let start = Instant::now();
        let count = clients.len() as u64;
        thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| (0..COMMITS / count).for_each(|_| move_head(client)));
            }
        });
        let seconds = start.elapsed().as_secs_f64();
        let done = COMMITS / count * count;
        let fsyncs = float_of(fsyncs(&trace) - before);
        println!(
            "group commit, {count} clients at once: {:.0} fsyncs per 1,000 small commits, {:.0} commits a second",
            fsyncs * 1000.0 / float_of(done),
            float_of(done) / seconds,
        );
    }

    fn new_client(
        &self,
        connector: &NetworkConnector,
        running: &Running,
        number: [u8; 2],
    ) -> TestClient {
        let mut seed = [0; 32];
        seed[..2].copy_from_slice(&number);
        let key = ClientSecretKey::from_seed(&seed);
        TestClient {
            session: self.connect(connector, running, seed),
            channel: self.channel(&key),
            key,
            network: Network::Tcp,
            data: Inventory::new(),
            vital: Inventory::new(),
            sequence: 0,
            root: RootHash::NONE,
            ancestry: Ancestry::empty(),
            roots: Vec::new(),
        }
    }
}

/// The smallest commit there is: a head with its commit of 900 bytes.
fn move_head(client: &mut TestClient) {
    let (request, root, ancestry) = client.request();
    let moved = block_on(client.session.move_head(request.encode().into()));
    moved.expect("a receipt");
    client.sequence += 1;
    (client.root, client.ancestry) = (root, ancestry);
}

/// Returns how many syncs began so far.
fn fsyncs(trace: &Path) -> u64 {
    // What was answered was traced; that it is in the file may take a moment.
    thread::sleep(Duration::from_millis(200));
    let text = fs::read_to_string(trace).expect("a trace");
    let began = |line: &&str| line.contains("sync") && !line.contains("resumed");
    text.lines().filter(began).count() as u64
}
