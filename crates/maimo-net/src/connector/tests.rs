mod transfer;

use std::net::SocketAddr;

use bytes::Bytes;
use maimo_core::{
    address::{Addresses, Network},
    clock::Timestamp,
    custody::{Grace, Terms},
    identity::AuthSecretKey,
    invitation::Offer,
};

use super::*;
use crate::{
    tls::ServerTls,
    transport::{
        Listener,
        memory::{MemoryListener, MemoryNetwork},
    },
};

fn auth(number: u8) -> Arc<AuthSecretKey> {
    Arc::new(AuthSecretKey::from_seed(&[number; 32]))
}

fn client() -> Arc<ClientSecretKey> {
    Arc::new(ClientSecretKey::from_seed(&[100; 32]))
}

fn address(port: u16) -> Address {
    Address::tcp(SocketAddr::from(([192, 0, 2, 1], port))).unwrap()
}

fn connector(network: &MemoryNetwork) -> NetworkConnector {
    let transports: Vec<Arc<dyn Transport>> = vec![Arc::new(network.transport(Network::Tcp))];
    NetworkConnector::new(transports, Handle::current(), Settings::default())
}

/// Proves a key to whoever comes, and says nothing more.
fn prove(mut listener: MemoryListener, key: &Arc<AuthSecretKey>) {
    let tls = ServerTls::new(key);
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let _stream = tls.accept(stream).await;
                core::future::pending::<()>().await;
            });
        }
    });
}

fn offer() -> Offer {
    Offer {
        provider: auth(1).public(),
        addresses: Addresses::new(vec![address(1)]).unwrap(),
        expires: Timestamp(1),
        cap: 1000,
        reserve: 100,
        grace: Grace::For(Duration::from_hours(1)),
    }
}

fn invitation() -> Invitation {
    Invitation::new(offer(), InvitationToken::from_bytes(&[3; 16])).unwrap()
}

const ONION: &str = "2gzyxa5ihm7nsggfxnu52rck2vv4rvmdlkiu3zzui5du4xyclen53wid.onion:1";

#[tokio::test(start_paused = true)]
async fn the_key_that_answers_is_learnt() {
    let network = MemoryNetwork::new();
    prove(network.listen(address(1)), &auth(1));
    let connector = connector(&network);
    let text = address(1).to_string();
    assert_eq!(connector.identify(&text).await.unwrap(), auth(1).public());
}

#[tokio::test(start_paused = true)]
async fn addresses_of_a_network_that_is_not_in_use_are_refused_and_not_dialled() {
    let network = MemoryNetwork::new();
    let tcp = connector(&network);
    let not_allowed =
        |error: Option<ServiceError>| matches!(error, Some(ServiceError::NotAllowed { .. }));
    assert!(not_allowed(tcp.identify(ONION).await.err()));
    let addresses = [ONION.to_owned(), "dir:/provider".to_owned()];
    let client = client();
    let session = tcp
        .connect(&addresses, auth(1).public(), &client, Load::Light)
        .await;
    assert!(not_allowed(session.err()));

    let onion: Arc<dyn Transport> = Arc::new(network.transport(Network::Onion));
    let tor = NetworkConnector::new(vec![onion], Handle::current(), Settings::default());
    prove(network.listen(address(1)), &auth(1));
    assert!(not_allowed(
        tor.identify(&address(1).to_string()).await.err()
    ));
    let welcome = tor.redeem(&invitation(), &client).await;
    assert!(not_allowed(welcome.err()));
    assert_eq!(network.counts().dialled, 0);
}

#[tokio::test(start_paused = true)]
async fn another_key_than_the_one_asked_for_is_refused_at_once() {
    let network = MemoryNetwork::new();
    prove(network.listen(address(1)), &auth(2));
    let connector = connector(&network);
    let start = Instant::now();
    let client = client();
    let session = connector
        .connect(
            &[address(1).to_string()],
            auth(1).public(),
            &client,
            Load::Light,
        )
        .await;
    assert_eq!(session.err(), Some(ServiceError::OtherProvider));
    let welcome = connector.redeem(&invitation(), &client).await;
    assert_eq!(welcome.err(), Some(ServiceError::OtherProvider));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(connector.circuits(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_first_address_that_answers_with_the_key_serves() {
    let network = MemoryNetwork::new();
    prove(network.listen(address(2)), &auth(2));
    prove(network.listen(address(3)), &auth(1));
    let connector = connector(&network);
    // Nobody is at the first, somebody else at the second.
    let addresses = [1, 2, 3].map(|port| address(port).to_string());
    let client = client();
    connector
        .connect(&addresses, auth(1).public(), &client, Load::Light)
        .await
        .unwrap();
    assert_eq!(network.counts().dialled, 2);
}

#[tokio::test(start_paused = true)]
async fn an_address_that_says_nothing_does_not_keep_the_next_from_being_asked() {
    let network = MemoryNetwork::new();
    let _silent = network.listen(address(1));
    prove(network.listen(address(2)), &auth(1));
    let connector = connector(&network);
    let addresses = [1, 2].map(|port| address(port).to_string());
    let client = client();
    let start = Instant::now();
    connector
        .connect(&addresses, auth(1).public(), &client, Load::Light)
        .await
        .unwrap();
    assert!(start.elapsed() <= Duration::from_secs(45));
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_offline_in_bounded_time() {
    let network = MemoryNetwork::new();
    let connector = connector(&network);
    let start = Instant::now();
    let client = client();
    let offline = |error: Option<ServiceError>| matches!(error, Some(ServiceError::Offline { .. }));
    assert!(offline(
        connector.identify(&address(1).to_string()).await.err()
    ));
    let addresses = [address(1).to_string()];
    let session = connector.connect(&addresses, auth(1).public(), &client, Load::Light);
    assert!(offline(session.await.err()));
    assert!(offline(
        connector.redeem(&invitation(), &client).await.err()
    ));
    assert!(start.elapsed() <= Duration::from_mins(3));
}

#[test]
fn terms_and_addresses_have_to_be_those_of_the_invitation() {
    let invitation = invitation();
    let welcome = |terms, addresses| Welcome { terms, addresses };
    let list = |key: &AuthSecretKey| {
        let list = AddressList::sign(Addresses::new(vec![address(1)]).unwrap(), 1, key);
        Some(Bytes::from(list.encode()))
    };
    let offered = offer().terms();
    check_welcome(&invitation, &welcome(offered, None)).unwrap();
    check_welcome(&invitation, &welcome(offered, list(&auth(1)))).unwrap();
    let shorter = Terms::new(1000, Some(100), Some(Grace::For(Duration::from_mins(1))));
    check_welcome(&invitation, &welcome(shorter, None)).unwrap_err();
    check_welcome(&invitation, &welcome(offered, list(&auth(2)))).unwrap_err();
}
