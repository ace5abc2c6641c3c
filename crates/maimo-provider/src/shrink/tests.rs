//! Logs written again: nothing is lost, whatever is cut off, and ledgers made anew from them say the same.

use std::{fmt::Write as _, fs, path::Path};

use futures_executor::block_on;
use maimo_core::{
    address::Network, custody::PackClass, live_map::LiveMap, reference::ObjectRef,
    units::GROUP_BYTES,
};
use maimo_net::service::WhichHead;

use crate::{
    ledger::{HeadKey, changes},
    provider::{FolderTerms, Provider},
    testing::{TestClient, pack},
};

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

/// Returns all that the ledger says of all channels.
fn dump(provider: &Provider) -> String {
    let dumped = provider.inner.readers.read(|rows| {
        let mut text = String::new();
        for channel in rows.channels()? {
            let row = rows.channel(&channel)?.unwrap();
            let number = row.number;
            assert_eq!(changes::recomputed(rows, number)?, row.state.totals);
            let heads = rows.heads(number)?;
            let bytes = heads
                .iter()
                .map(|head| rows.head(number, HeadKey::Sequence(head.sequence)));
            let bytes = bytes.collect::<Result<Vec<_>, _>>()?;
            let _ = write!(
                text,
                "{row:?}{:?}{:?}{bytes:?}{:?}{:?}{:?}",
                rows.packs(number)?,
                rows.nodes(number)?,
                rows.uploads(number)?,
                rows.roots(number)?,
                rows.ancestry_nodes(number)?,
            );
        }
        Ok(text)
    });
    dumped.unwrap()
}

/// Stores, lets go, and leaves an upload under way.
fn history(provider: &Provider, seed: u8) -> TestClient {
    let mut client = TestClient::new(provider, seed);
    for number in 0..6 {
        let bytes = pack(
            u64::from(seed) * 100 + number,
            PackClass::Data,
            8 * GROUP_BYTES,
        );
        let reference = client.upload(&bytes, PackClass::Data).unwrap();
        client.name_all(reference, PackClass::Data);
        client.move_head(provider).unwrap();
    }
    let first = ObjectRef::of(&pack(
        u64::from(seed) * 100,
        PackClass::Data,
        8 * GROUP_BYTES,
    ));
    let half = LiveMap::from_runs(8, [0..1, 4..8]).unwrap();
    client.name(first, PackClass::Data, half);
    client.move_head(provider).unwrap();
    let coming = pack(u64::from(seed) + 50, PackClass::Data, 3 << 20);
    client.put_range(&coming, PackClass::Data, 0).unwrap();
    client
}

fn forget_ledger(home: &Path) {
    for name in [
        "ledger.sqlite",
        "ledger.sqlite-wal",
        "ledger.sqlite-shm",
        "clean",
    ] {
        let _ = fs::remove_file(home.join(name));
    }
}

fn segments(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder.join("volume/log")).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn a_log_written_again_says_the_same_and_is_short() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let clients = [history(&provider, 1), history(&provider, 2)];
    let before = dump(&provider);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    let old = segments(folder.path());
    let kept: Vec<_> = old.iter().map(|path| fs::read(path).unwrap()).collect();
    provider.inner.shrink_log(&volume).unwrap();
    assert_eq!(dump(&provider), before);
    let new = segments(folder.path());
    assert!(new.len() == 1 && !old.contains(&new[0]));
    drop((clients, provider, volume));

    // As it was closed; made anew; made anew with what was before the snapshots still there, whole and in part.
    assert_eq!(dump(&open(folder.path())), before);
    for lost in [None, Some(kept[0].len()), Some(kept[0].len() / 2)] {
        forget_ledger(folder.path());
        if let Some(length) = lost {
            fs::write(&old[0], &kept[0][..length]).unwrap();
        }
        let provider = open(folder.path());
        assert_eq!(dump(&provider), before, "{lost:?}");
    }

    let provider = open(folder.path());
    for seed in [1, 2] {
        let mut client = TestClient::new(&provider, seed);
        // The state that the history led to.
        let shown = block_on(client.session.head(WhichHead::Newest)).unwrap();
        assert!(shown.is_some());
        let proof = block_on(client.session.prove(3));
        assert!(proof.is_ok());
        client.move_head(&provider).unwrap_err();
    }
}

#[test]
fn a_snapshot_that_was_cut_off_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let client = history(&provider, 1);
    let before = dump(&provider);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    let old = segments(folder.path());
    let kept = fs::read(&old[0]).unwrap();
    provider.inner.shrink_log(&volume).unwrap();
    drop((client, provider, volume));
    let new = segments(folder.path()).remove(0);
    let whole = fs::read(&new).unwrap();
    for length in [0, 39, 60, whole.len() / 2, whole.len() - 1] {
        forget_ledger(folder.path());
        fs::write(&old[0], &kept).unwrap();
        fs::write(&new, &whole[..length]).unwrap();
        assert_eq!(dump(&open(folder.path())), before, "{length}");
    }
}

#[test]
fn a_log_grows_to_what_is_worth_it_and_is_then_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = history(&provider, 1);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    let channel = client.channel;
    let id = volume.id();
    // Entries that mean nothing any more, as those of heads and commits that were thinned out.
    let filler = || {
        provider.inner.committer.run(move |batch| {
            for _ in 0..9 {
                let change = crate::ledger::entry::Change::Snapshot {
                    index: 1,
                    count: 3,
                    bytes: vec![0; 1 << 20],
                };
                let at = crate::provider::now();
                let lazy = crate::group_commit::Durability::Lazy;
                batch.record(id, channel, &change, at, lazy);
            }
            Ok(())
        })
    };
    filler().unwrap();
    provider.inner.shrink_logs().unwrap();
    assert!(volume.log().bytes().unwrap() > 9 << 20);
    filler().unwrap();
    provider.inner.shrink_logs().unwrap();
    assert!(volume.log().bytes().unwrap() < 1 << 20);
    client.move_head(&provider).unwrap();
    let before = dump(&provider);
    drop((client.session, provider, volume));
    forget_ledger(folder.path());
    assert_eq!(dump(&open(folder.path())), before);
}

#[test]
fn a_volume_that_only_logs_are_on_can_go_and_an_old_log_never_counts_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let provider = Provider::create(&at("home")).unwrap();
    provider.add_volume(&at("one"), 1 << 40).unwrap();
    let mut client = {
        let key = maimo_core::identity::ClientSecretKey::from_seed(&[1; 32]).public();
        let terms = maimo_core::custody::Terms::new(1 << 30, None, None);
        provider.register(Network::Onion, key, "a", terms).unwrap();
        TestClient::new(&provider, 1)
    };
    let bytes = pack(1, PackClass::Data, 8 * GROUP_BYTES);
    let reference = client.upload(&bytes, PackClass::Data).unwrap();
    client.name_all(reference, PackClass::Data);
    client.move_head(&provider).unwrap();
    assert!(provider.remove_volume(&at("one")).is_err());
    provider.add_volume(&at("two"), 1 << 40).unwrap();
    provider.drain_volume(&at("one"), &|_, _| true).unwrap();
    provider.remove_volume(&at("one")).unwrap();
    client.move_head(&provider).unwrap();
    let totals = provider.clients().unwrap().remove(0).totals;

    // It comes back with what its log said then.
    provider.add_volume(&at("one"), 1 << 40).unwrap();
    client.move_head(&provider).unwrap();
    let status = block_on(client.session.status()).unwrap();
    assert_eq!((status.sequence, status.root), (3, client.root));
    assert!(status.totals.held > totals.held);
    let before = dump(&provider);
    drop((client.session, provider));
    // In either order of the volumes.
    for swap in [false, true] {
        forget_ledger(&at("home"));
        if swap {
            let list = fs::read_to_string(at("home").join("volumes")).unwrap();
            let mut lines: Vec<_> = list.lines().collect();
            lines[1..].reverse();
            fs::write(at("home").join("volumes"), lines.join("\n") + "\n").unwrap();
        }
        let provider = Provider::open(&at("home")).unwrap();
        assert_eq!(dump(&provider), before, "{swap}");
    }
}
