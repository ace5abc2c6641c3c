//! The whole of it, over TCP on this machine.

use maimo_core::address::Address;

use super::*;
use crate::{
    tls::ClientTls,
    transport::{
        Isolation, Listener as _, Transport as _,
        tcp::{Tcp, TcpListener},
    },
};

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
    assert!(
        world.server.counters().clients == 1,
        "one, with twelve connections"
    );
    drop(clients);
    world.stop.cancel();
    serving.await.unwrap().unwrap();
}
