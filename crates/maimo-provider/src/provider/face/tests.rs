//! Two faces of one provider, as their clients meet them.

use std::fs;

use futures_executor::block_on;
use maimo_core::{
    custody::{PackClass, Terms},
    identity::ClientSecretKey,
    receipt::Receipt,
};
use maimo_net::connect::Provider as _;

use super::*;
use crate::{
    provider::FolderTerms,
    testing::{TestClient, pack},
};

const NETWORKS: [Network; 2] = [Network::Onion, Network::Tcp];

#[test]
fn a_client_of_one_network_is_unknown_on_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let provider = Provider::create(&folder.path().join("home")).unwrap();
    let disk = folder.path().join("disk");
    provider.add_volume(&disk, 1 << 30).unwrap();
    let key = ClientSecretKey::from_seed(&[1; 32]).public();
    let terms = Terms::new(1 << 30, None, None);
    provider.register(Network::Tcp, key, "a", terms).unwrap();
    assert!(provider.face(Network::Tcp).session(key).is_ok());
    assert!(matches!(
        provider.face(Network::Onion).session(key),
        Err(ServiceError::UnknownClient)
    ));
    let [onion, tcp] = NETWORKS.map(|network| provider.face(network));
    assert_ne!(onion.auth(), tcp.auth());
    assert_eq!(onion.identity().public(), onion.auth());
    assert_eq!(tcp.identity().public(), tcp.auth());
    // The onion key is seen by Tor: it must be neither of those that prove anything.
    for face in [onion, tcp] {
        assert_ne!(
            provider.onion_key().public().as_bytes(),
            face.auth().as_bytes()
        );
    }
}

/// The same client key on both networks: two channels, whose receipts each its own face signs, also after all rows were made anew from the
/// volumes, and after the head that registers the client was all that was left.
#[test]
fn a_channel_keeps_its_face_through_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let mut provider = Provider::create(&home).unwrap();
    let disk = folder.path().join("disk");
    provider.add_volume(&disk, 1 << 30).unwrap();
    let key = ClientSecretKey::from_seed(&[1; 32]).public();
    let terms = Terms::new(1 << 30, None, None);
    for network in NETWORKS {
        provider.register(network, key, "a", terms).unwrap();
    }
    let elsewhere = folder.path().join("elsewhere");
    let nobody = Provider::open_folder(&elsewhere, Some(FolderTerms::default())).unwrap();
    let mut clients = NETWORKS.map(|network| TestClient::on(&provider, network, 1));
    for _ in 0..2 {
        for (seed, client) in (0..).zip(&mut clients) {
            client.reconnect(&provider);
            let data = pack(seed, PackClass::Data, 128 * 1024);
            let reference = client.upload(&data, PackClass::Data).unwrap();
            client.name_all(reference, PackClass::Data);
            let receipt = client.move_head(&provider).unwrap();
            let other = match client.network {
                Network::Onion => Network::Tcp,
                Network::Tcp => Network::Onion,
            };
            assert!(Receipt::verify(&receipt, &provider.face(other).auth()).is_err());
            let status = block_on(client.session.status()).unwrap();
            assert_eq!(status.root, client.root);
            client.session = nobody.session(key).unwrap();
        }
        assert_ne!(clients[0].channel, clients[1].channel);
        let mut listed = provider.clients().unwrap();
        listed.sort_by_key(|client| client.network == Network::Tcp);
        let networks: Vec<Network> = listed.iter().map(|client| client.network).collect();
        assert_eq!(networks, NETWORKS);
        assert_eq!(listed[0].root, clients[0].root);
        assert_eq!(listed[1].root, clients[1].root);
        drop(provider);
        fs::remove_file(home.join("ledger.sqlite")).unwrap();
        provider = Provider::open(&home).unwrap();
    }
}
