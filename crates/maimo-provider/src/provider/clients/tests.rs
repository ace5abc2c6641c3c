//! Clients that are revoked, and when they were last here.

use std::fs;

use futures_executor::block_on;
use maimo_core::{custody::PackClass, live_map::LiveMap, reference::ObjectRef};
use maimo_net::{
    connect::Provider as _,
    service::{Read, ServiceError, WhichHead},
};

use super::*;
use crate::testing::{TestClient, pack};

const DAY: u64 = 24 * 3600 * 1000;

fn provider(folder: &std::path::Path) -> Provider {
    let provider = Provider::create(&folder.join("home")).unwrap();
    provider.add_volume(&folder.join("disk"), 1 << 30).unwrap();
    for seed in 1..3 {
        let key = maimo_core::identity::ClientSecretKey::from_seed(&[seed; 32]).public();
        let terms = Terms::new(1 << 30, None, None);
        let label = format!("client {seed}");
        provider
            .register(Network::Onion, key, &label, terms)
            .unwrap();
    }
    provider
}

fn read(client: &TestClient, pack: ObjectRef) -> Result<(), ServiceError> {
    let groups = LiveMap::full(8);
    block_on(client.session.read(vec![Read { pack, groups }])).map(|_| ())
}

fn files(folder: &std::path::Path) -> usize {
    let mut left = vec![folder.join("disk/packs"), folder.join("disk/incoming")];
    let mut count = 0;
    while let Some(folder) = left.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                count += 1;
            }
        }
    }
    count
}

#[test]
fn revoked_writes_end_at_once_reads_after_the_grace_and_then_the_bytes_are_freed() {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(folder.path());
    let mut client = TestClient::new(&provider, 1);
    let mut other = TestClient::new(&provider, 2);
    let mut packs = Vec::new();
    for (seed, client) in (0..).zip([&mut client, &mut other]) {
        let bytes = pack(seed, PackClass::Data, 128 * 1024);
        let held = client.upload(&bytes, PackClass::Data).unwrap();
        client.name_all(held, PackClass::Data);
        client.move_head(&provider).unwrap();
        packs.push(held);
    }
    // One more that is still coming in.
    let half = pack(9, PackClass::Data, 3 << 20);
    client.put_range(&half, PackClass::Data, 0).unwrap();
    assert_eq!(files(folder.path()), 3);

    let at = now();
    let (status, swept) = provider
        .revoke("client 1", Revocation::AfterGrace, at)
        .unwrap();
    assert_eq!(swept, SweepReport::default());
    let revoked = status.revoked.unwrap();
    assert_eq!(revoked.reads_until, Timestamp(at.0 + 30 * DAY));
    // Writes, also those that had begun.
    let refused = client.put_range(&half, PackClass::Data, 1 << 20);
    assert_eq!(refused.unwrap_err(), ServiceError::Revoked);
    let refused = client.upload(&pack(8, PackClass::Data, 1 << 15), PackClass::Data);
    assert_eq!(refused.unwrap_err(), ServiceError::Revoked);
    assert_eq!(
        client.move_head(&provider).unwrap_err(),
        ServiceError::Revoked
    );
    let node = block_on(client.session.put_node(vec![1; 99].into()));
    assert_eq!(node.unwrap_err(), ServiceError::Revoked);
    // Reads go on, on a new connection too, and a sweep before the time frees nothing of it.
    provider.sweep(Timestamp(at.0 + 30 * DAY - 1)).unwrap();
    client.reconnect(&provider);
    read(&client, packs[0]).unwrap();
    assert_eq!(block_on(client.session.status()).unwrap().root, client.root);
    assert!(matches!(
        provider.set_cap("client 1", 5),
        Err(ProviderError::IsRevoked { .. })
    ));
    // Revoked once more without more haste: the date stays.
    let later = Timestamp(at.0 + 5 * DAY);
    let (again, _) = provider
        .revoke("client 1", Revocation::AfterGrace, later)
        .unwrap();
    assert_eq!(again.revoked, Some(revoked));

    let swept = provider.sweep(revoked.reads_until).unwrap();
    assert!(swept.bytes >= 128 * 1024, "{swept:?}");
    assert_eq!(files(folder.path()), 1);
    let status = provider.client("client 1").unwrap();
    assert_eq!((status.totals, status.sequence), (Totals::default(), 0));
    other.move_head(&provider).unwrap();
    read(&other, packs[1]).unwrap();
    assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
    // The clock has not got there yet: what is left to say is that there is nothing.
    assert!(read(&client, packs[0]).is_err());
}

#[test]
fn revoked_now_nothing_is_left_and_who_is_invited_again_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let provider = provider(folder.path());
    let mut client = TestClient::new(&provider, 1);
    let bytes = pack(0, PackClass::Vital, 128 * 1024);
    let held = client.upload(&bytes, PackClass::Vital).unwrap();
    client.name_all(held, PackClass::Vital);
    client.move_head(&provider).unwrap();
    let (status, swept) = provider.revoke("client 1", Revocation::Now, now()).unwrap();
    assert!(swept.packs == 1 && swept.bytes >= 128 * 1024, "{swept:?}");
    assert_eq!(status.totals, Totals::default());
    assert_eq!(files(folder.path()), 0);
    for refused in [
        read(&client, held),
        block_on(client.session.status()).map(|_| ()),
        block_on(client.session.head(WhichHead::Newest)).map(|_| ()),
        provider
            .face(Network::Onion)
            .session(client.key.public())
            .map(|_| ()),
    ] {
        assert_eq!(refused.unwrap_err(), ServiceError::Revoked);
    }
    let key = client.key.public();
    drop((client.session, provider));
    fs::remove_file(home.join("ledger.sqlite")).unwrap();
    let provider = Provider::open(&home).unwrap();
    assert!(provider.client("client 1").unwrap().revoked.is_some());
    assert!(provider.face(Network::Onion).session(key).is_err());

    let terms = Terms::new(1 << 30, None, None);
    provider
        .register(Network::Onion, key, "client 1", terms)
        .unwrap();
    let mut client = TestClient::new(&provider, 1);
    let held = client.upload(&bytes, PackClass::Vital).unwrap();
    client.name_all(held, PackClass::Vital);
    client.move_head(&provider).unwrap();
    read(&client, held).unwrap();
    assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
}

#[test]
fn a_label_names_who_is_not_revoked_and_a_key_names_everybody() {
    let folder = tempfile::tempdir().unwrap();
    let provider = provider(folder.path());
    let [one, two] = ["client 1", "client 2"].map(|label| provider.client(label).unwrap());
    let terms = Terms::new(50, None, None);
    let rename =
        |client: &ClientStatus| provider.register(Network::Onion, client.client, "same", terms);
    rename(&one).unwrap();
    rename(&two).unwrap();
    assert!(matches!(
        provider.set_cap("same", 1),
        Err(ProviderError::Ambiguous { .. })
    ));
    let by_key = provider.set_cap(&one.client.to_string(), 100).unwrap();
    assert_eq!((by_key.terms.cap, by_key.terms.reserve), (100, 10));
    let key = two.client.to_string();
    provider.revoke(&key, Revocation::Now, now()).unwrap();
    assert_eq!(provider.client("same").unwrap().client, one.client);
    assert!(matches!(
        provider.client("nobody"),
        Err(ProviderError::NoClient { .. })
    ));
}

#[test]
fn the_day_of_a_visit_is_written_once_and_comes_back_with_the_logs() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let provider = provider(folder.path());
    let channel = provider.client("client 1").unwrap().channel;
    let row = || provider.inner.row(channel).unwrap().unwrap();
    let log_bytes = || {
        let volume = provider.inner.volumes.all_mounted().remove(0);
        volume.log().bytes().unwrap()
    };
    let today = row().seen;
    // The day of its registration is known.
    let before = log_bytes();
    provider.inner.meet(&row(), Timestamp(today.0 + 1));
    assert_eq!(log_bytes(), before);
    let tomorrow = Timestamp(today.0 + DAY);
    for moment in 0..5 {
        provider.inner.meet(&row(), Timestamp(tomorrow.0 + moment));
    }
    let after = log_bytes();
    assert!(after > before && after - before < 128, "{before} {after}");
    let seen = provider.client("client 1").unwrap().seen;
    assert_eq!(seen, tomorrow.day());
    drop(provider);
    fs::remove_file(home.join("ledger.sqlite")).unwrap();
    let provider = Provider::open(&home).unwrap();
    assert_eq!(provider.client("client 1").unwrap().seen, seen);
}
