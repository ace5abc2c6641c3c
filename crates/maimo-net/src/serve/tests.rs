//! A server before a provider that answers at once, or when it is let to: every call, and clients that take more than they may.

use core::{sync::atomic::AtomicUsize, sync::atomic::Ordering, time::Duration};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
};

use bytes::Bytes;
use http::StatusCode;
use maimo_core::{
    address::Address,
    audit::Challenge,
    clock::Timestamp,
    custody::{PackClass, Refusal, Terms, Totals},
    digest::DigestRequest,
    id::RootHash,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, ClientSecretKey},
    invitation::InvitationToken,
    live_map::LiveMap,
    receipt::LedgerInstance,
    reference::ObjectRef,
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    connect::Welcome,
    http::client::{ClientConnection, Outgoing},
    remote::{self, Connection as Remote},
    service::{
        ChannelStatus, PUT_BYTES, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead,
        WhichHead,
    },
    tls::ClientTls,
    transport::{
        Isolation, Listener as _, Transport as _,
        tcp::{Tcp, TcpListener},
    },
    wire::Call,
};

const MIB: u64 = 1024 * 1024;
const TOKEN: [u8; 16] = [7; 16];

/// What the provider did.
#[derive(Default)]
struct Log {
    sessions: AtomicUsize,
    puts: AtomicUsize,
    audits: AtomicUsize,
}

/// A gate that calls named *slow* wait at.
#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }

    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    async fn until_waiting(&self, count: usize) {
        while self.waiting.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

struct Fake {
    key: Arc<AuthSecretKey>,
    known: Mutex<HashMap<[u8; 32], Result<(), ServiceError>>>,
    log: Arc<Log>,
    gate: Arc<Gate>,
}

impl Provider for Fake {
    fn auth(&self) -> AuthPublicKey {
        self.key.public()
    }

    fn identity(&self) -> Arc<AuthSecretKey> {
        Arc::clone(&self.key)
    }

    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError> {
        self.log.sessions.fetch_add(1, Ordering::SeqCst);
        let known = self.known.lock().unwrap();
        match known.get(client.as_bytes()) {
            None => Err(ServiceError::UnknownClient),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) => Ok(Arc::new(FakeSession {
                log: Arc::clone(&self.log),
                gate: Arc::clone(&self.gate),
            })),
        }
    }

    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        if *token.as_bytes() != TOKEN {
            let detail = "it is none of this provider's".to_owned();
            return Err(ServiceError::InvitationRefused { detail });
        }
        let mut known = self.known.lock().unwrap();
        known.insert(*client.as_bytes(), Ok(()));
        Ok(Welcome {
            terms: Terms::new(5 * MIB, None, None),
            addresses: Some(Bytes::from_static(b"where")),
        })
    }

    fn addresses(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b"where"))
    }
}

struct FakeSession {
    log: Arc<Log>,
    gate: Arc<Gate>,
}

fn now<'a, T: Send + 'a>(value: Result<T, ServiceError>) -> Reply<'a, T> {
    Box::pin(async { value })
}

impl Session for FakeSession {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        now(Ok(ChannelStatus {
            terms: Terms::new(5 * MIB, None, None),
            totals: Totals {
                live: 1,
                held: 2,
                reserved: 3,
            },
            root: RootHash([4; 32]),
            sequence: 5,
            instance: LedgerInstance([6; 16]),
            now: Timestamp(7),
        }))
    }

    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        self.log.puts.fetch_add(1, Ordering::SeqCst);
        assert_eq!(put.class, PackClass::Data);
        let missing = if put.bytes.is_empty() {
            vec![0, MIB]
        } else {
            vec![MIB]
        };
        now(Ok(PutReply { missing }))
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        now(if &node[..] == b"node" {
            Ok(())
        } else {
            Err(ServiceError::WrongBytes)
        })
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        assert!(head_move[..] != *b"panic", "as it should");
        now(match &head_move[..] {
            b"move" => Ok(Bytes::from_static(b"receipt")),
            _ => Err(Refusal::Sequence { expected: 9 }.into()),
        })
    }

    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        now(Ok((which == WhichHead::Sequence(3)).then(|| ShownHead {
            head: Bytes::from_static(b"head"),
            ancestry: Bytes::from_static(b"ancestry"),
            commit: None,
            admitted: Timestamp(8),
        })))
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        now(Ok(Bytes::from(sequence.to_string())))
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        let node = |node: &ObjectRef| Bytes::from(vec![9; usize::try_from(node.length).unwrap()]);
        now(Ok(nodes.iter().map(node).collect()))
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.gate.pass();
        let slice = |read: &Read| Bytes::from(vec![3; usize::try_from(read.pack.length).unwrap()]);
        now(Ok(reads.iter().map(slice).collect()))
    }

    fn audit(&self, _: Bytes) -> Reply<'_, Bytes> {
        self.log.audits.fetch_add(1, Ordering::SeqCst);
        now(Ok(Bytes::from_static(b"answer")))
    }

    fn digest(&self, _: Bytes) -> Reply<'_, [u8; 32]> {
        now(Ok([5; 32]))
    }
}

/// A server with a provider that knows the client 1 and has revoked the client 2.
struct World {
    server: Server,
    log: Arc<Log>,
    gate: Arc<Gate>,
    stop: CancellationToken,
}

fn key(number: u8) -> ClientPublicKey {
    ClientSecretKey::from_seed(&[number; 32]).public()
}

impl World {
    fn new(limits: Limits) -> Self {
        let (log, gate) = (Arc::<Log>::default(), Arc::<Gate>::default());
        let known = [
            (*key(1).as_bytes(), Ok(())),
            (*key(2).as_bytes(), Err(ServiceError::Revoked)),
            (*key(3).as_bytes(), Ok(())),
        ];
        let provider = Fake {
            key: Arc::new(AuthSecretKey::from_seed(&[9; 32])),
            known: Mutex::new(known.into_iter().collect()),
            log: Arc::clone(&log),
            gate: Arc::clone(&gate),
        };
        Self {
            server: Server::new(Arc::new(provider), &Resources::new(limits)),
            log,
            gate,
            stop: CancellationToken::new(),
        }
    }

    /// Connects as a client whose key is proven.
    fn stream(&self, client: u8) -> (DuplexStream, JoinHandle<()>) {
        let (near, far) = duplex(64 * 1024);
        let shared = Arc::clone(&self.server.0);
        let seat = shared.strangers.sit();
        let served = shared.serve_client(Box::new(far), key(client), seat, self.stop.clone());
        (near, tokio::spawn(served))
    }

    async fn connect(&self, client: u8) -> Remote {
        let (near, _) = self.stream(client);
        Remote::open(Box::new(near), &Budget::new(64 * MIB))
            .await
            .unwrap()
    }

    async fn plain(&self, client: u8) -> (ClientConnection, JoinHandle<()>) {
        let (near, served) = self.stream(client);
        let client = ClientConnection::open(near, Budget::new(64 * MIB)).await;
        (client.unwrap(), served)
    }
}

fn call(path: &'static str, body: impl Into<Bytes>) -> Outgoing {
    Outgoing {
        path,
        body: body.into().into(),
        answer_bytes_max: MIB,
        answer_bytes_likely: 0,
        patience: Duration::from_mins(1),
    }
}

async fn told(client: &ClientConnection, call: Outgoing) -> ServiceError {
    let (status, body) = client.begin(call).await.unwrap().answer().await.unwrap();
    assert_ne!(status, StatusCode::OK);
    ServiceError::parse(&body).unwrap()
}

fn pack() -> ObjectRef {
    ObjectRef {
        root: RootHash([1; 32]),
        length: 2 * MIB,
    }
}

fn put(bytes: Bytes) -> Put {
    Put {
        pack: pack(),
        class: PackClass::Data,
        offset: 0,
        bytes,
    }
}

fn range() -> Bytes {
    Bytes::from(vec![1; usize::try_from(PUT_BYTES).unwrap()])
}

fn reads(count: usize) -> Vec<Read> {
    let read = Read {
        pack: pack(),
        groups: LiveMap::full(128),
    };
    vec![read; count]
}

fn challenge(slices: u64) -> Bytes {
    let positions = (0..slices).collect();
    Challenge::new(RootHash([1; 32]), positions, Vec::new())
        .unwrap()
        .encode()
        .into()
}

#[tokio::test]
async fn every_call_comes_back() {
    let world = World::new(Limits::DEFAULT);
    world.gate.open();
    let remote = world.connect(1).await;
    let status = remote.status().await.unwrap();
    assert_eq!((status.sequence, status.root), (5, RootHash([4; 32])));
    assert_eq!(remote.put(put(range())).await.unwrap().missing, [MIB]);
    assert_eq!(
        remote.put(put(Bytes::new())).await.unwrap().missing,
        [0, MIB]
    );
    remote.put_node(Bytes::from_static(b"node")).await.unwrap();
    let wrong = remote.put_node(Bytes::from_static(b"other")).await;
    assert_eq!(wrong.unwrap_err(), ServiceError::WrongBytes);
    let receipt = remote.move_head(Bytes::from_static(b"move")).await.unwrap();
    assert_eq!(&receipt[..], b"receipt");
    let refused = remote
        .move_head(Bytes::from_static(b"other"))
        .await
        .unwrap_err();
    assert_eq!(refused, Refusal::Sequence { expected: 9 }.into());
    assert!(remote.head(WhichHead::Newest).await.unwrap().is_none());
    let shown = remote.head(WhichHead::Sequence(3)).await.unwrap().unwrap();
    assert_eq!(
        (&shown.head[..], shown.admitted),
        (&b"head"[..], Timestamp(8))
    );
    assert_eq!(&remote.prove(77).await.unwrap()[..], b"77");
    let node = |length| ObjectRef {
        root: RootHash([2; 32]),
        length,
    };
    let nodes = remote.nodes(vec![node(100), node(200)]).await.unwrap();
    assert_eq!(nodes.iter().map(Bytes::len).collect::<Vec<_>>(), [100, 200]);
    let slices = remote.read(reads(3)).await.unwrap();
    assert_eq!(slices.len(), 3);
    assert!(slices.iter().all(|slice| slice.len() as u64 == 2 * MIB));
    assert_eq!(&remote.audit(challenge(460)).await.unwrap()[..], b"answer");
    let request = DigestRequest::new([1; 32], vec![(pack(), LiveMap::full(128))]).unwrap();
    assert_eq!(
        remote.digest(request.encode().into()).await.unwrap(),
        [5; 32]
    );
    assert_eq!(remote.addresses().await.unwrap().unwrap(), "where");
    let counters = world.server.counters();
    assert_eq!(
        (counters.connected, counters.strangers, counters.refused),
        (1, 0, 2)
    );
    assert_eq!(counters.received, remote.carried().sent);
    assert!(counters.sent > 6 * MIB);
    assert_eq!(world.log.sessions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_put_says_when_its_bytes_have_left() {
    let world = World::new(Limits::DEFAULT);
    let remote = world.connect(1).await;
    let first = remote.begin_put(put(range())).await.unwrap();
    let second = remote.begin_put(put(range())).await.unwrap();
    assert!(remote.carried().sent >= 2 * PUT_BYTES - 256 * 1024);
    second.reply().await.unwrap();
    first.reply().await.unwrap();
}

#[tokio::test]
async fn a_stranger_who_redeems_is_known_from_then_on() {
    let world = World::new(Limits::DEFAULT);
    let remote = world.connect(8).await;
    let welcome = remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    assert_eq!(welcome.addresses.unwrap(), "where");
    remote.put(put(range())).await.unwrap();
    // And once more, for a reply that was lost.
    remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    let wrong = remote.redeem(&InvitationToken::from_bytes(&[1; 16])).await;
    assert!(matches!(wrong, Err(ServiceError::InvitationRefused { .. })));
    remote.status().await.unwrap();
    assert_eq!(world.server.counters().connected, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_told_so_before_the_body_is_read_and_sent_away() {
    let world = World::new(Limits::DEFAULT);
    for path in ["/v1/put", "/v1/status", "/v1/move-head", "/v2/redeem", "/"] {
        let (client, served) = world.plain(8).await;
        let body = vec![1; usize::try_from(4 * MIB).unwrap()];
        assert_eq!(
            told(&client, call(path, body)).await,
            ServiceError::UnknownClient
        );
        served.await.unwrap();
        assert!(client.traffic().sent() < 256 * 1024);
    }
    let counters = world.server.counters();
    assert_eq!((counters.sent_away, counters.strangers), (5, 0));
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_whose_invitation_is_refused_is_sent_away() {
    let world = World::new(Limits::DEFAULT);
    for (body, is_bad) in [
        (vec![1; 16], false),
        (vec![7; 15], true),
        (vec![7; 17], true),
    ] {
        let (client, served) = world.plain(8).await;
        let error = told(&client, call("/v1/redeem", body)).await;
        match error {
            ServiceError::BadRequest { .. } => assert!(is_bad),
            ServiceError::InvitationRefused { .. } => assert!(!is_bad),
            other => panic!("{other:?}"),
        }
        served.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn an_invitation_taken_up_too_late_or_too_slowly_is_not() {
    let world = World::new(Limits::DEFAULT);
    // Says nothing for too long.
    let (client, served) = world.plain(8).await;
    tokio::time::sleep(Duration::from_secs(11)).await;
    assert!(
        client
            .begin(call("/v1/redeem", TOKEN.to_vec()))
            .await
            .is_err()
    );
    served.await.unwrap();
    // Says that it will, and does not.
    let (mut raw, served) = world.stream(8);
    let began = Instant::now();
    let said = crate::http::tests::begun("/v1/redeem", b"16");
    tokio::io::AsyncWriteExt::write_all(&mut raw, &said)
        .await
        .unwrap();
    served.await.unwrap();
    assert!(began.elapsed() >= FIRST_CALL);
    assert!(began.elapsed() <= FIRST_CALL + Duration::from_secs(10));
    // As a second call.
    let remote = world.connect(8).await;
    assert_eq!(
        remote.status().await.unwrap_err(),
        ServiceError::UnknownClient
    );
    assert!(
        remote
            .redeem(&InvitationToken::from_bytes(&TOKEN))
            .await
            .is_err()
    );
    assert_eq!(world.server.counters().connected, 0);
}

#[tokio::test(start_paused = true)]
async fn whom_the_provider_revoked_is_told_so_unread() {
    let world = World::new(Limits::DEFAULT);
    let (client, served) = world.plain(2).await;
    let body = vec![1; usize::try_from(4 * MIB).unwrap()];
    assert_eq!(
        told(&client, call("/v1/put", body)).await,
        ServiceError::Revoked
    );
    served.await.unwrap();
    assert!(client.traffic().sent() < 256 * 1024);
    // Invited again, it is known again.
    let remote = world.connect(2).await;
    remote
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    remote.put(put(range())).await.unwrap();
}

#[tokio::test]
async fn a_call_outside_its_limits_is_refused_and_the_next_is_served() {
    let world = World::new(Limits::DEFAULT);
    let (client, _served) = world.plain(1).await;
    for call_of in Call::ALL {
        let long = vec![0; call_of.request_bytes_max() + 1];
        let error = told(&client, call(call_of.path(), long)).await;
        assert!(
            matches!(error, ServiceError::BadRequest { .. }),
            "{call_of:?} {error:?}"
        );
    }
    for path in ["/", "/v1/", "/v1/status/", "/v2/status", "/v1/status?x"] {
        let error = told(&client, call(path, "")).await;
        assert!(
            matches!(error, ServiceError::BadRequest { .. }),
            "{path} {error:?}"
        );
    }
    // Garbage in requests that are parsed here.
    for call_of in [
        Call::Put,
        Call::Head,
        Call::Prove,
        Call::Nodes,
        Call::Read,
        Call::Audit,
        Call::Digest,
    ] {
        let error = told(&client, call(call_of.path(), vec![0xff; 7])).await;
        assert!(
            matches!(error, ServiceError::BadRequest { .. }),
            "{call_of:?} {error:?}"
        );
    }
    let begun = client.begin(call("/v1/status", "")).await.unwrap();
    assert_eq!(begun.answer().await.unwrap().0, StatusCode::OK);
}

#[tokio::test]
async fn a_provider_whose_program_fails_at_a_call_serves_the_next() {
    let world = World::new(Limits::DEFAULT);
    let remote = world.connect(1).await;
    let failed = remote.move_head(Bytes::from_static(b"panic")).await;
    assert!(matches!(failed, Err(ServiceError::Unavailable { .. })));
    remote.status().await.unwrap();
    assert_eq!(world.server.counters().panicked, 1);
}

#[tokio::test]
async fn a_client_with_too_many_connections_is_told_to_come_again() {
    let world = World::new(Limits {
        connections_per_client: 2,
        connections: 3,
        ..Limits::DEFAULT
    });
    let first = world.connect(1).await;
    let second = world.connect(1).await;
    first.status().await.unwrap();
    second.status().await.unwrap();
    let third = world.connect(1).await.status().await;
    assert!(matches!(third, Err(ServiceError::Busy(_))));
    let other = world.connect(3).await;
    other.status().await.unwrap();
    let overall = world.connect(3).await.status().await;
    assert!(matches!(overall, Err(ServiceError::Busy(_))));
    drop(first);
    while world.server.counters().connected > 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.connect(1).await.status().await.unwrap();
}

#[tokio::test]
async fn calls_beyond_the_limit_are_busy_and_control_goes_ahead_of_bulk() {
    let world = World::new(Limits {
        calls_per_client: 4,
        threads: 4,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    let mut slow = Vec::new();
    for _ in 0..3 {
        let remote = remote.clone();
        slow.push(tokio::spawn(async move { remote.read(reads(1)).await }));
    }
    // Two of three threads for bulk are one client's.
    world.gate.until_waiting(2).await;
    remote.status().await.unwrap();
    let another = remote.clone();
    slow.push(tokio::spawn(async move {
        loop {
            // A question asked meanwhile may have taken its place.
            match another.read(reads(1)).await {
                Err(ServiceError::Busy(_)) => tokio::task::yield_now().await,
                read => break read,
            }
        }
    }));
    let busy = loop {
        if let Err(error) = remote.status().await {
            break error;
        }
    };
    assert!(matches!(busy, ServiceError::Busy(_)));
    // Another client's bulk is served on.
    let other = world.connect(3).await;
    other.put(put(range())).await.unwrap();
    assert_eq!(world.gate.waiting.load(Ordering::SeqCst), 2);
    world.gate.open();
    for read in slow {
        read.await.unwrap().unwrap();
    }
    remote.status().await.unwrap();
}

#[tokio::test]
async fn memory_is_waited_for_and_then_refused() {
    let world = World::new(Limits {
        bytes_per_client: 3 * MIB,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    let reader = remote.clone();
    let slow = tokio::spawn(async move { reader.read(reads(1)).await });
    world.gate.until_waiting(1).await;
    // Less than what is left.
    remote.put(put(Bytes::new())).await.unwrap();
    // Time does not pass by itself while a thread is blocked.
    tokio::time::pause();
    let began = Instant::now();
    let waiting = remote.put(put(range()));
    tokio::pin!(waiting);
    let busy = loop {
        tokio::select! {
            biased;
            result = &mut waiting => break result.unwrap_err(),
            () = tokio::task::yield_now() => tokio::time::advance(Duration::from_millis(1)).await,
        }
    };
    assert!(matches!(busy, ServiceError::Busy(_)), "{busy:?}");
    assert!(began.elapsed() >= Duration::from_secs(5));
    tokio::time::resume();
    assert_eq!(world.log.puts.load(Ordering::SeqCst), 1);
    world.connect(3).await.put(put(range())).await.unwrap();
    world.gate.open();
    slow.await.unwrap().unwrap();
    remote.put(put(range())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn audits_and_digests_beyond_the_allowance_are_busy() {
    let world = World::new(Limits {
        slices_at_once: 1000,
        slices_per_minute: 600,
        digest_bytes_at_once: 1,
        digest_bytes_per_minute: MIB,
        ..Limits::DEFAULT
    });
    let remote = world.connect(1).await;
    remote.audit(challenge(460)).await.unwrap();
    // On another connection too.
    world.connect(1).await.audit(challenge(560)).await.unwrap();
    let ServiceError::Busy(pause) = remote.audit(challenge(1)).await.unwrap_err() else {
        panic!("not busy");
    };
    world.connect(3).await.audit(challenge(1)).await.unwrap();
    tokio::time::sleep(pause).await;
    remote.audit(challenge(1)).await.unwrap();
    assert_eq!(world.log.audits.load(Ordering::SeqCst), 4);

    let request = DigestRequest::new([1; 32], vec![(pack(), LiveMap::full(128))]).unwrap();
    let request = Bytes::from(request.encode());
    remote.digest(request.clone()).await.unwrap();
    let busy = remote.digest(request.clone()).await.unwrap_err();
    assert!(matches!(busy, ServiceError::Busy(_)));
    tokio::time::sleep(Duration::from_mins(3)).await;
    remote.digest(request).await.unwrap();
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight() {
    let world = World::new(Limits::DEFAULT);
    let (near, served) = world.stream(1);
    let remote = Remote::open(Box::new(near), &Budget::new(64 * MIB))
        .await
        .unwrap();
    let reader = remote.clone();
    let slow = tokio::spawn(async move { reader.read(reads(1)).await });
    world.gate.until_waiting(1).await;
    world.stop.cancel();
    assert!(matches!(
        remote.until_refused().await,
        ServiceError::Offline { .. }
    ));
    world.gate.open();
    assert_eq!(slow.await.unwrap().unwrap().len(), 1);
    served.await.unwrap();
}

impl Remote {
    async fn until_refused(&self) -> ServiceError {
        loop {
            if let Err(error) = self.status().await {
                return error;
            }
        }
    }
}

#[test]
fn the_constants_fit_together() {
    assert!(Call::Redeem.request_bytes_max() as u64 <= STRANGER_BYTES_MAX);
    assert!(
        u64::from(crate::http::STRANGER_WINDOW_BYTES) >= Call::Redeem.request_bytes_max() as u64
    );
    assert!(remote::PATIENCE > Duration::from_mins(1));
    let longest = Call::ALL.map(Call::request_bytes_max).into_iter().max();
    assert!(longest.unwrap() as u64 <= Limits::DEFAULT.bytes_per_client);
}

// ---- the whole of it, over TCP on this machine --------------------------------------------------------------------------------------

/// Serves over TCP until told to stop; returns where.
async fn listen(world: &World) -> (Address, JoinHandle<Result<(), TransportError>>) {
    let at = "127.0.0.1:0".parse().unwrap();
    let listener = TcpListener::bind(at, None).await.unwrap();
    let address = listener.address();
    let server = Server(Arc::clone(&world.server.0));
    let stop = world.stop.clone();
    let serving = tokio::spawn(async move { server.serve(Box::new(listener), stop).await });
    (address, serving)
}

async fn over_tcp(client: u8, address: &Address) -> Remote {
    let stream = Tcp::new().dial(address, Isolation([0; 16])).await.unwrap();
    let secret = Arc::new(ClientSecretKey::from_seed(&[client; 32]));
    let provider = AuthSecretKey::from_seed(&[9; 32]).public();
    let stream = ClientTls::new(&secret)
        .connect(stream, provider)
        .await
        .unwrap();
    Remote::open(stream, &Budget::new(64 * MIB)).await.unwrap()
}

#[tokio::test]
async fn a_server_over_tcp_serves_and_drains() {
    let world = World::new(Limits::DEFAULT);
    let (address, serving) = listen(&world).await;
    let known = over_tcp(1, &address).await;
    known.put(put(range())).await.unwrap();
    let stranger = over_tcp(8, &address).await;
    let told = stranger.status().await.unwrap_err();
    assert_eq!(told, ServiceError::UnknownClient);
    let invited = over_tcp(8, &address).await;
    invited
        .redeem(&InvitationToken::from_bytes(&TOKEN))
        .await
        .unwrap();
    invited.put(put(range())).await.unwrap();
    world.stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(matches!(
        known.until_refused().await,
        ServiceError::Offline { .. }
    ));
    assert!(Tcp::new().dial(&address, Isolation([0; 16])).await.is_err());
}

/// A thousand who only connect cost a few seats, and whoever means it gets through between them.
#[tokio::test]
async fn a_thousand_connections_that_say_nothing_keep_nobody_out() {
    let world = World::new(Limits {
        strangers: 8,
        ..Limits::DEFAULT
    });
    let (address, serving) = listen(&world).await;
    let known = over_tcp(1, &address).await;
    known.status().await.unwrap();
    let mut silent = std::collections::VecDeque::new();
    for _ in 0..1000 {
        let stream = Tcp::new().dial(&address, Isolation([0; 16])).await.unwrap();
        silent.push_back(stream);
        // As few files open at a time as a test may have.
        if silent.len() > 100 {
            silent.pop_front();
        }
    }
    known.status().await.unwrap();
    over_tcp(3, &address).await.status().await.unwrap();
    assert!(world.server.counters().strangers <= 8);
    world.stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(world.server.counters().connections >= 1000);
}

/// Counts on paper, and here: what an idle connection keeps in memory is TLS's and HTTP/2's buffers, not windows.
#[tokio::test]
async fn idle_clients_hold_nothing_of_the_budgets() {
    let world = World::new(Limits::DEFAULT);
    let (address, serving) = listen(&world).await;
    let mut clients = Vec::new();
    for _ in 0..12 {
        let client = over_tcp(1, &address).await;
        client.status().await.unwrap();
        clients.push(client);
    }
    let resources = &world.server.0.resources;
    assert_eq!(resources.windows.free(), Limits::DEFAULT.window_bytes);
    assert_eq!(resources.bytes.free(), Limits::DEFAULT.bytes);
    assert_eq!(world.server.counters().connected, 12);
    drop(clients);
    world.stop.cancel();
    serving.await.unwrap().unwrap();
}

/// The tables of `docs/protocol.md` are held against what the code does.
#[test]
fn the_protocol_names_every_call_and_limit() {
    let document = include_str!("../../../../docs/protocol.md");
    let mut missing = Vec::new();
    let mut expect = |line: String| {
        if !document.contains(&line) {
            missing.push(line);
        }
    };
    for call in Call::ALL {
        let heading = format!("### `POST {}`\n", call.path());
        expect(heading);
        let row = format!(
            "| `{}` | {} | {} |",
            call.path(),
            call.request_bytes_max(),
            call.response_bytes_max()
        );
        expect(row);
    }
    let seconds = |duration: Duration| format!("{} s", duration.as_secs());
    let limits = [
        ("frame", crate::http::FRAME_BYTES_MAX.to_string()),
        ("headers", crate::http::HEADER_BYTES_MAX.to_string()),
        ("calls at a time", crate::http::CALLS_MAX.to_string()),
        ("error", crate::wire::ERROR_BYTES_MAX.to_string()),
        ("first window", crate::http::WINDOW_BYTES.to_string()),
        (
            "stream window",
            crate::http::STREAM_WINDOW_BYTES_MAX.to_string(),
        ),
        (
            "connection window",
            crate::http::CONNECTION_WINDOW_BYTES_MAX.to_string(),
        ),
        (
            "stranger's window",
            crate::http::STRANGER_WINDOW_BYTES.to_string(),
        ),
        ("stranger's request", STRANGER_BYTES_MAX.to_string()),
        ("handshake", seconds(HANDSHAKE)),
        ("first call", seconds(FIRST_CALL)),
        ("standstill of a body", seconds(crate::http::SILENCE)),
        (
            "rate of a body",
            format!(
                "{} a second over {}",
                crate::http::RATE_MIN,
                seconds(crate::http::SPAN)
            ),
        ),
        (
            "length of a body's time",
            seconds(crate::http::BODY_TIME_MAX),
        ),
        ("client's silence", seconds(crate::http::CLIENT_SILENCE)),
        ("provider's silence", seconds(crate::http::SERVER_SILENCE)),
        ("answer to a ping", seconds(crate::http::ANSWER)),
        ("idle connection", seconds(crate::http::IDLE)),
        ("farewell", seconds(FAREWELL)),
        (
            "frames without content",
            format!(
                "{} at once, {} a second",
                crate::http::IDLE_FRAMES_MAX,
                crate::http::IDLE_FRAMES_PER_SECOND
            ),
        ),
        ("client's patience", seconds(remote::PATIENCE)),
    ];
    for (name, value) in limits {
        let row = format!("| {name} | {value} |");
        expect(row);
    }
    assert!(missing.is_empty(), "missing:\n{}", missing.join("\n"));
}
