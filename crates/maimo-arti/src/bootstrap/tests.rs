use std::net::{Ipv4Addr, TcpListener};

use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{Isolation, Listener, Transport, TransportError};

use super::*;
use crate::{Authority, PrivateNetwork};

/// A network that is not there: its only authority is a port where nobody answers.
fn nowhere(folder: &Path) -> ArtiSettings {
    ArtiSettings {
        serves: true,
        dial_deadline: Duration::from_millis(10),
        network: Some(PrivateNetwork {
            authorities: vec![Authority {
                rsa_identity: [1; 20],
                ed25519_identity: [2; 32],
                or_port: (Ipv4Addr::LOCALHOST, 1).into(),
                v3_identity: [3; 20],
            }],
            parameters: Vec::new(),
        }),
        ..ArtiSettings::new(folder.join("tor/state"), folder.join("tor/cache"))
    }
}

fn onion() -> Address {
    Address::onion(OnionSecretKey::from_seed(&[5; 32]).public(), 1117).unwrap()
}

#[tokio::test]
async fn what_is_no_onion_service_is_refused_and_no_socket_opened() {
    let folder = tempfile::tempdir().unwrap();
    let tor = ArtiTor::start(nowhere(folder.path()), drop).await.unwrap();
    let clear = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    clear.set_nonblocking(true).unwrap();
    let port = clear.local_addr().unwrap().port();
    for address in [
        Address::tcp(clear.local_addr().unwrap()).unwrap(),
        Address::name("localhost", port).unwrap(),
        Address::name("example.onion.example", port).unwrap(),
    ] {
        let refused = tor.dial(&address, Isolation([1; 16])).await.err();
        assert_eq!(
            refused,
            Some(TransportError::OtherNetwork { transport: "tor" })
        );
    }
    let nobody = clear.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_dial_without_tor_ends_at_its_deadline_and_names_no_address() {
    let folder = tempfile::tempdir().unwrap();
    let tor = ArtiTor::start(nowhere(folder.path()), drop).await.unwrap();
    let address = onion();
    let error = tor.dial(&address, Isolation([1; 16])).await.err().unwrap();
    assert!(matches!(error, TransportError::Tor { .. }), "{error}");
    let onion = address.host();
    assert!(!format!("{error} {error:?} {tor:?}").contains(&onion[..8]));
}

#[tokio::test]
async fn software_that_the_network_calls_obsolete_is_an_error_and_no_exit() {
    let folder = tempfile::tempdir().unwrap();
    let tor = ArtiTor::start(nowhere(folder.path()), drop).await.unwrap();
    let mut listener = tor
        .listen(&OnionSecretKey::from_seed(&[5; 32]), 1117)
        .unwrap();

    tor.shared.judged(Software::Aging);
    assert_eq!(tor.status().software, Software::Aging);
    assert!(tor.shared.client().is_ok());

    tor.shared.judged(Software::Obsolete);
    let refused = TransportError::from(TorError::Obsolete);
    let dialled = tor.dial(&onion(), Isolation([1; 16])).await.err();
    assert_eq!(dialled, Some(refused.clone()));
    assert_eq!(listener.accept().await.err(), Some(refused));
    let waited = tor.connected(Duration::from_mins(1)).await;
    assert_eq!(waited, Err(TorError::Obsolete));

    // Whatever comes after, until the program is another one.
    tor.shared.judged(Software::Current);
    assert_eq!(tor.status().software, Software::Obsolete);
    assert!(tor.shared.client().is_err());
}

#[tokio::test]
async fn a_folder_of_state_is_one_process_s_and_free_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let tor = ArtiTor::start(nowhere(folder.path()), drop).await.unwrap();
    let second = ArtiTor::start(nowhere(folder.path()), drop).await;
    assert_eq!(second.err(), Some(TorError::InUse));
    drop(tor);
    // Tasks are aborted when the runtime comes to them.
    loop {
        match ArtiTor::start(nowhere(folder.path()), drop).await {
            Ok(_) => return,
            Err(error) => assert_eq!(error, TorError::InUse),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn folders_are_made_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let _tor = ArtiTor::start(nowhere(folder.path()), drop).await.unwrap();
    for name in ["tor", "tor/state", "tor/cache"] {
        let mode = fs::metadata(folder.path().join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{name}");
    }
}

/// A Tor as far as dials wait for it; once connected it counts as obsolete, for there is no client.
fn waited_for(percent: u8) -> Shared {
    let status = TorStatus {
        percent,
        ..TorStatus::default()
    };
    Shared {
        client: Mutex::new(None),
        status: watch::Sender::new(status),
        dial_deadline: Duration::from_mins(2),
        waits: Waits::DIAL,
        services: AtomicU64::new(0),
        _lock: tempfile::tempfile().unwrap(),
    }
}

async fn not_connected(tor: &Shared) -> (u64, Option<&'static str>) {
    match tor.connected_soon(Waits::DIAL).await.map(drop) {
        Err(TorError::NotConnected { seconds, blocked }) => (seconds, blocked),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_ends_when_tor_comes_no_nearer_and_says_why() {
    let relays = Some("tor's relays cannot be reached");
    assert_eq!(not_connected(&waited_for(0)).await, (20, relays));
    // A directory from before, and no network.
    assert_eq!(not_connected(&waited_for(85)).await, (20, None));
    // A consensus comes in one piece, over a slow line maybe.
    assert_eq!(not_connected(&waited_for(15)).await, (50, None));
}

#[tokio::test(start_paused = true)]
async fn a_dial_waits_for_a_tor_that_comes_nearer() {
    let tor = waited_for(0);
    let nearer = async {
        for percent in [60, 80, 100] {
            time::sleep(Duration::from_secs(15)).await;
            tor.status.send_modify(|status| {
                status.percent = percent;
                status.is_ready = percent == 100;
            });
        }
    };
    let (waited, ()) = tokio::join!(tor.connected_soon(Waits::DIAL), nearer);
    assert_eq!(waited.err(), Some(TorError::Obsolete));
}
