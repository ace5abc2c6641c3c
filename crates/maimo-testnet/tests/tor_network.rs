//! The network itself: that it comes up, that it is one for several users, and that it is gone after its owner.

use std::{net::TcpStream, thread};

use maimo_testnet::{AUTHORITIES, Network, NetworkError, RELAYS};

#[test]
fn shared_network_is_one_for_all_its_users() {
    let (one, other) = thread::scope(|scope| {
        let one = scope.spawn(Network::shared);
        let other = scope.spawn(Network::shared);
        (one.join().unwrap().unwrap(), other.join().unwrap().unwrap())
    });
    assert_eq!(one.relays(), other.relays());
    assert_eq!(one.relays().len(), RELAYS);
    assert_eq!(one.authorities().len(), AUTHORITIES);
    for relay in one.relays() {
        TcpStream::connect(relay.or_address()).unwrap();
    }
}

#[test]
fn clients_of_the_shared_network_build_circuits() {
    let network = Network::shared().unwrap();
    let client = network.client("alice").unwrap();
    for address in [client.socks(), client.control()] {
        TcpStream::connect(address).unwrap();
    }
    assert_eq!(std::fs::read(client.cookie()).unwrap().len(), 32);
}

#[test]
fn users_of_the_shared_network_cannot_stop_its_relays() {
    let mut network = Network::shared().unwrap();
    assert!(matches!(
        network.kill(RELAYS - 1),
        Err(NetworkError::Shared)
    ));
    TcpStream::connect(network.relays()[RELAYS - 1].or_address()).unwrap();
}

#[test]
fn relays_are_killed_and_started_again_and_all_is_gone_with_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let mut network = Network::start(folder.path()).unwrap();
    let last = network.relays()[RELAYS - 1].or_address();
    network.kill(RELAYS - 1).unwrap();
    assert!(TcpStream::connect(last).is_err());
    network.restart(RELAYS - 1).unwrap();
    TcpStream::connect(last).unwrap();
    assert!(matches!(
        network.kill(RELAYS),
        Err(NetworkError::NoRelay { index: RELAYS })
    ));

    let client = network.client("alice").unwrap();
    let (socks, relays) = (client.socks(), network.relays().to_vec());
    drop(client);
    drop(network);
    assert!(TcpStream::connect(socks).is_err());
    for relay in relays {
        assert!(TcpStream::connect(relay.or_address()).is_err());
    }
}
