//! A server before a provider that answers at once, or when it is let to: the calls. Who comes, what is too much and what the document says
//! have a file each.

mod document;
mod fake;
mod hostile;
mod limits;
mod strangers;
mod tcp;
mod tickets;

use core::{sync::atomic::Ordering, time::Duration};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::StatusCode;
use maimo_core::{
    audit::Challenge,
    clock::Timestamp,
    custody::{PackClass, Refusal},
    digest::DigestRequest,
    id::RootHash,
    identity::{AuthSecretKey, ClientPublicKey, ClientSecretKey},
    invitation::InvitationToken,
    live_map::LiveMap,
    reference::ObjectRef,
};
use tokio::{
    io::{DuplexStream, duplex},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use self::fake::{Fake, Gate, Log};
use super::*;
use crate::{
    http::client::{ClientConnection, Outgoing},
    remote::Connection as Remote,
    service::{PUT_BYTES, Put, Read, ServiceError, WhichHead},
    wire::Call,
};

const MIB: u64 = 1024 * 1024;
const TOKEN: [u8; 16] = [7; 16];

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
