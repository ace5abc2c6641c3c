//! Sessions with a provider that is really served: TLS, HTTP/2, and streams that are cut under them.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use maimo_core::{
    custody::PackClass, id::RootHash, identity::ClientPublicKey, live_map::LiveMap,
    reference::ObjectRef, verify::Selection,
};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{
    connect::{Load, Provider},
    serve::{self, Resources, Server},
    service::{PUT_BYTES, Put, PutReply, Read},
    transport::memory::Faults,
};

const MIB: u64 = 1024 * 1024;

/// A provider that keeps names and no bytes.
struct Shelf {
    key: Arc<AuthSecretKey>,
    known: Mutex<HashSet<[u8; 32]>>,
    held: Mutex<HashSet<(RootHash, u64)>>,
    /// Ranges that came in whole, again or not.
    puts: AtomicU64,
}

struct Holder(Arc<Shelf>);

impl Provider for Holder {
    fn auth(&self) -> AuthPublicKey {
        self.0.key.public()
    }

    fn identity(&self) -> Arc<AuthSecretKey> {
        Arc::clone(&self.0.key)
    }

    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError> {
        let is_known = self.0.known.lock().unwrap().contains(client.as_bytes());
        if !is_known {
            return Err(ServiceError::UnknownClient);
        }
        Ok(Arc::new(Held(Arc::clone(&self.0))))
    }

    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        if token.as_bytes() != invitation().token().as_bytes() {
            let detail = "it is none of this provider's".to_owned();
            return Err(ServiceError::InvitationRefused { detail });
        }
        self.0.known.lock().unwrap().insert(*client.as_bytes());
        Ok(Welcome {
            terms: offer().terms(),
            addresses: None,
        })
    }

    fn addresses(&self) -> Option<Bytes> {
        None
    }
}

struct Held(Arc<Shelf>);

impl Session for Held {
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        let mut held = self.0.held.lock().unwrap();
        if !put.bytes.is_empty() {
            self.0.puts.fetch_add(1, Ordering::Relaxed);
            held.insert((put.pack.root, put.offset));
        }
        let missing = (0..put.pack.length.div_ceil(PUT_BYTES))
            .map(|range| range * PUT_BYTES)
            .filter(|offset| !held.contains(&(put.pack.root, *offset)))
            .collect();
        Box::pin(async { Ok(PutReply { missing }) })
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        let slice = |read: &Read| {
            let selection = Selection::of_map(read.pack.length, &read.groups).unwrap();
            Bytes::from(vec![0; usize::try_from(selection.slice_bytes()).unwrap()])
        };
        let slices = reads.iter().map(slice).collect();
        Box::pin(async { Ok(slices) })
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        Box::pin(async move { Ok(sequence.to_string().into()) })
    }

    crate::unasked!(status, put_node, move_head, head, nodes, audit, digest);
}

/// Serves a provider at an address that knows [`client`].
fn serve(network: &MemoryNetwork) -> Arc<Shelf> {
    let shelf = Arc::new(Shelf {
        key: auth(1),
        known: Mutex::new([*client().public().as_bytes()].into()),
        held: Mutex::default(),
        puts: AtomicU64::new(0),
    });
    let resources = Resources::new(serve::Limits::DEFAULT);
    let server = Server::new(Arc::new(Holder(Arc::clone(&shelf))), &resources);
    let listener = network.listen(address(1));
    tokio::spawn(async move {
        let never = CancellationToken::new();
        server.serve(Box::new(listener), never).await
    });
    shelf
}

async fn session(connector: &NetworkConnector) -> Arc<dyn Session> {
    let addresses = [address(1).to_string()];
    let client = client();
    let opened = connector.connect(&addresses, auth(1).public(), &client, Load::Light);
    opened.await.unwrap()
}

fn pack(number: u64) -> ObjectRef {
    ObjectRef {
        root: RootHash::of(&number.to_le_bytes()),
        length: MIB,
    }
}

fn range(number: u64) -> Put {
    Put {
        pack: pack(number),
        class: PackClass::Data,
        offset: 0,
        bytes: vec![0; usize::try_from(MIB).unwrap()].into(),
    }
}

/// As fast as a good circuit, and as far.
fn circuit() -> Faults {
    Faults {
        bytes_per_second: Some(6 * MIB),
        delay: Duration::from_millis(10),
        ..Faults::default()
    }
}

/// Cuts one bulk stream after the other, the first first; returns how many were live.
async fn cut(network: &MemoryNetwork, times: usize) -> u64 {
    let mut cut = 0;
    for number in 1..=times {
        sleep(Duration::from_millis(350)).await;
        cut += u64::from(network.kill(number));
    }
    cut
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_survives_streams_that_are_cut_and_little_is_sent_twice() {
    let network = MemoryNetwork::new();
    network.set_faults(circuit());
    let shelf = serve(&network);
    let connector = connector(&network);
    let session = session(&connector).await;
    let mut puts = JoinSet::new();
    for number in 0..40 {
        let session = Arc::clone(&session);
        puts.spawn(async move { session.put(range(number)).await });
    }
    let cut = cut(&network, 3).await;
    for reply in puts.join_all().await {
        assert!(reply.unwrap().is_held());
    }
    assert!(cut > 0);
    let statistics = connector.statistics();
    assert!(statistics.rebuilds > 0);
    assert_eq!(statistics.jobs, 40);
    // What came in whole is not sent again, unless its circuit was cut before the provider had looked at it.
    let puts = shelf.puts.load(Ordering::Relaxed);
    assert!(
        (40..=40 + statistics.duplicates + cut).contains(&puts),
        "{puts}"
    );
    let counts = network.counts();
    let most = 40 * MIB + counts.dialled * MIB + MIB;
    assert!(
        counts.up < most,
        "{} bytes over {} circuits",
        counts.up,
        counts.dialled
    );
    assert!(statistics.sent > 40 * MIB && statistics.sent <= counts.up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_survives_streams_that_are_cut_and_little_is_received_twice() {
    let network = MemoryNetwork::new();
    network.set_faults(circuit());
    serve(&network);
    let connector = connector(&network);
    let session = session(&connector).await;
    let mut reads = JoinSet::new();
    for number in 0..80 {
        let session = Arc::clone(&session);
        let mut groups = LiveMap::empty(64);
        groups.insert(0..32).unwrap();
        reads.spawn(async move {
            let pack = pack(number);
            session.read(vec![Read { pack, groups }]).await
        });
    }
    let cut = cut(&network, 3).await;
    for slices in reads.join_all().await {
        assert!(slices.unwrap()[0].len() as u64 >= MIB / 2);
    }
    assert!(cut > 0);
    let counts = network.counts();
    let most = 40 * MIB + counts.dialled * MIB + MIB;
    assert!(
        counts.down < most,
        "{} bytes over {} circuits",
        counts.down,
        counts.dialled
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_circuit_has_an_isolation_of_its_own_and_closes_with_the_session() {
    let network = MemoryNetwork::new();
    network.set_faults(circuit());
    serve(&network);
    let connector = connector(&network);
    let session = session(&connector).await;
    assert_eq!(&session.prove(7).await.unwrap()[..], b"7");
    let mut puts = JoinSet::new();
    for number in 0..16 {
        let session = Arc::clone(&session);
        puts.spawn(async move { session.put(range(number)).await });
    }
    puts.join_all().await;
    let isolations = network.isolations();
    let distinct: HashSet<_> = isolations.iter().collect();
    assert!(isolations.len() >= 3);
    assert_eq!(distinct.len(), isolations.len());
    drop(session);
    while network.counts().live > 0 || connector.circuits() > 0 {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invitation_is_taken_up_and_opens_the_channel() {
    let network = MemoryNetwork::new();
    serve(&network);
    let connector = connector(&network);
    let stranger = Arc::new(ClientSecretKey::from_seed(&[101; 32]));
    let addresses = [address(1).to_string()];
    let connect = || connector.connect(&addresses, auth(1).public(), &stranger, Load::Light);
    let refused = connect().await.unwrap().prove(1).await;
    assert_eq!(refused.unwrap_err(), ServiceError::UnknownClient);

    let other = Invitation::new(offer(), InvitationToken::from_bytes(&[4; 16])).unwrap();
    let refused = connector.redeem(&other, &stranger).await;
    assert!(matches!(
        refused,
        Err(ServiceError::InvitationRefused { .. })
    ));
    let cheaper = Offer {
        cap: 2000,
        ..offer()
    };
    let cheaper = Invitation::new(cheaper, InvitationToken::from_bytes(&[3; 16])).unwrap();
    let refused = connector.redeem(&cheaper, &client()).await;
    assert!(matches!(refused, Err(ServiceError::Misbehaved { .. })));

    let welcome = connector.redeem(&invitation(), &stranger).await.unwrap();
    assert_eq!(welcome.terms, offer().terms());
    connector.redeem(&invitation(), &stranger).await.unwrap();
    connect().await.unwrap().prove(1).await.unwrap();
}

#[test]
fn threads_without_a_runtime_wait_for_answers() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let network = MemoryNetwork::new();
    let connector = {
        let _inside = runtime.enter();
        serve(&network);
        connector(&network)
    };
    let session = futures_executor::block_on(session(&connector));
    let reply = futures_executor::block_on(session.put(range(1)));
    assert!(reply.unwrap().is_held());
}
