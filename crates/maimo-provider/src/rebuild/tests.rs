//! Ledgers that are gone, cut, torn or behind, over volumes that are whole, and over volumes that are not.

use std::{fmt::Write as _, path::Path};

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{custody::PackClass, live_map::LiveMap, units::GROUP_BYTES};

use super::*;
use crate::{
    provider::{FolderTerms, Provider},
    testing::{TestClient, pack},
};

const LENGTH: u64 = 8 * GROUP_BYTES;

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

/// Returns a client that stored, let go, and has an upload under way.
fn history(provider: &Provider) -> (TestClient, Vec<Bytes>) {
    let mut client = TestClient::new(provider, 1);
    let mut packs = Vec::new();
    for seed in 0..4 {
        let bytes = pack(seed, PackClass::Data, LENGTH);
        let reference = client.upload(&bytes, PackClass::Data).unwrap();
        client.name_all(reference, PackClass::Data);
        client.move_head(provider).unwrap();
        packs.push(bytes);
    }
    let vital = client.upload(&pack(9, PackClass::Vital, LENGTH), PackClass::Vital);
    client.name_all(vital.unwrap(), PackClass::Vital);
    let half = LiveMap::from_runs(8, [0..1, 4..8]).unwrap();
    client.name(ObjectRef::of(&packs[1]), PackClass::Data, half);
    client.name(ObjectRef::of(&packs[2]), PackClass::Data, LiveMap::empty(8));
    client.move_head(provider).unwrap();
    let (ahead, _, _) = client.request();
    let node = client.data.nodes().next().unwrap().1.to_vec();
    block_on(client.session.put_node(node.into())).unwrap();
    drop(ahead);
    let coming = pack(20, PackClass::Data, 3 * 1024 * 1024);
    assert_eq!(
        client
            .put_range(&coming, PackClass::Data, 1024 * 1024)
            .unwrap(),
        [0, 2 * 1024 * 1024]
    );
    (client, packs)
}

/// Returns all that the ledger says, but its instance.
fn dump(provider: &Provider) -> String {
    let dumped = provider.inner.readers.read(|rows| {
        let mut text = String::new();
        for channel in rows.channels()? {
            let row = rows.channel(&channel)?.unwrap();
            let number = row.number;
            let heads: Vec<_> = rows.heads(number)?;
            let _ = writeln!(
                text,
                "{row:?}\n{:?}\n{:?}\n{heads:?}\n{:?}",
                rows.packs(number)?,
                rows.nodes(number)?,
                rows.uploads(number)?
            );
            assert_eq!(changes::recomputed(rows, number)?, row.state.totals);
        }
        Ok(text)
    });
    dumped.unwrap()
}

fn close(provider: Provider, client: &mut TestClient, folder: &Path) {
    // Sessions keep a provider open.
    let other = tempfile::tempdir().unwrap();
    client.reconnect(&open(other.path()));
    drop(provider);
    assert!(folder.exists());
}

fn ledger_files(folder: &Path) -> Vec<std::path::PathBuf> {
    let names = ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"];
    names.iter().map(|name| folder.join(name)).collect()
}

#[test]
fn a_ledger_that_is_gone_cut_or_torn_is_made_anew_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let (mut client, packs) = history(&provider);
    let before = dump(&provider);
    close(provider, &mut client, folder.path());
    let path = folder.path().join("ledger.sqlite");

    for way in 0..4 {
        let bytes = fs::read(&path).unwrap();
        match way {
            0 => ledger_files(folder.path()).iter().for_each(|path| {
                let _ = fs::remove_file(path);
            }),
            1 => fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
            2 => {
                let mut bytes = bytes;
                let middle = bytes.len() / 2;
                bytes[4096..middle].fill(0x55);
                fs::write(&path, bytes).unwrap();
            }
            _ => fs::write(&path, b"").unwrap(),
        }
        let provider = open(folder.path());
        assert_eq!(dump(&provider), before, "way {way}");
        close(provider, &mut client, folder.path());
    }
    let provider = open(folder.path());
    client.reconnect(&provider);
    let again = client.upload(&packs[2], PackClass::Data).unwrap();
    client.name_all(again, PackClass::Data);
    client.move_head(&provider).unwrap();
    assert_ne!(dump(&provider), before);
}

/// The entry of a head in the middle is overwritten: what comes after still counts, and the channel goes on.
#[test]
fn a_channel_goes_on_after_a_stretch_of_its_log_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let (mut client, packs) = history(&provider);
    close(provider, &mut client, folder.path());
    let log = folder.path().join("volume/log");
    let segment = fs::read_dir(log).unwrap().next().unwrap().unwrap().path();
    let mut bytes = fs::read(&segment).unwrap();
    let third = TestClient::commit(3);
    let at = bytes
        .windows(900)
        .position(|window| window == third)
        .unwrap();
    bytes[at + 5] ^= 1;
    fs::write(&segment, bytes).unwrap();
    for path in ledger_files(folder.path()) {
        let _ = fs::remove_file(path);
    }

    let provider = open(folder.path());
    client.reconnect(&provider);
    let status = block_on(client.session.status()).unwrap();
    assert_eq!((status.root, status.sequence), (client.root, 5));
    dump(&provider);
    client.name_all(ObjectRef::of(&packs[2]), PackClass::Data);
    client.move_head(&provider).unwrap();
    for sequence in [4, 5] {
        block_on(client.session.prove(sequence)).unwrap();
    }
    // Even what is left does not let go of anything early.
    provider.sweep(now()).unwrap();
    for bytes in &packs {
        assert!(client.upload(bytes, PackClass::Data).is_ok());
    }
    let after = dump(&provider);
    close(provider, &mut client, folder.path());
    assert_eq!(dump(&open(folder.path())), after);
}

/// The last entry is damaged, or the log is cut: whoever was told of the head must find it again.
#[test]
fn what_a_log_has_lost_and_the_ledger_knows_is_written_to_the_log_again() {
    for is_cut in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let provider = open(folder.path());
        let (mut client, packs) = history(&provider);
        client.move_head(&provider).unwrap();
        let before = dump(&provider);
        close(provider, &mut client, folder.path());
        let log = folder.path().join("volume/log");
        let segment = fs::read_dir(log).unwrap().next().unwrap().unwrap().path();
        let mut bytes = fs::read(&segment).unwrap();
        let last = TestClient::commit(client.sequence);
        let at = bytes
            .windows(900)
            .position(|window| window == last)
            .unwrap();
        if is_cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1;
        }
        fs::write(&segment, bytes).unwrap();
        let provider = open(folder.path());
        assert_eq!(dump(&provider), before, "cut: {is_cut}");
        client.reconnect(&provider);
        close(provider, &mut client, folder.path());

        for path in ledger_files(folder.path()) {
            let _ = fs::remove_file(path);
        }
        let provider = open(folder.path());
        dump(&provider);
        client.reconnect(&provider);
        client.name_all(ObjectRef::of(&packs[2]), PackClass::Data);
        client.move_head(&provider).unwrap();
    }
}

#[test]
fn a_ledger_behind_its_log_catches_up() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let (mut client, _) = history(&provider);
    close(provider, &mut client, folder.path());
    let old: Vec<_> = ledger_files(folder.path())
        .into_iter()
        .filter_map(|path| Some((fs::read(&path).ok()?, path)))
        .collect();

    let provider = open(folder.path());
    client.reconnect(&provider);
    let more = client.upload(&pack(30, PackClass::Data, LENGTH), PackClass::Data);
    client.name_all(more.unwrap(), PackClass::Data);
    client.move_head(&provider).unwrap();
    let (after, instance) = (dump(&provider), provider.inner.instance);
    close(provider, &mut client, folder.path());

    for path in ledger_files(folder.path()) {
        let _ = fs::remove_file(path);
    }
    for (bytes, path) in old {
        fs::write(path, bytes).unwrap();
    }
    let provider = open(folder.path());
    assert_eq!(dump(&provider), after);
    assert_eq!(provider.inner.instance, instance);
}
