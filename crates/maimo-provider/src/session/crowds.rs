//! Many callers at once, and how many fsyncs what they ask for takes.

use core::sync::atomic::{AtomicBool, Ordering};
use std::{fmt::Write as _, fs, thread, time::Duration};

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{custody::PackClass, live_map::LiveMap, units::GROUP_BYTES};
use maimo_net::service::{PUT_BYTES, ServiceError};

use crate::{
    ledger::changes,
    provider::{FolderTerms, Provider, now},
    testing::{TestClient, pack},
};

fn open(folder: &std::path::Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

/// Sends ranges until they are taken: another hand may have the pack open.
fn send(client: &TestClient, bytes: &Bytes, ranges: [u64; 3]) {
    for offset in ranges.map(|range| range * PUT_BYTES) {
        loop {
            match client.put_range(bytes, PackClass::Data, offset) {
                Ok(_) => break,
                Err(ServiceError::Busy(_)) => thread::sleep(Duration::from_millis(1)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn store(client: &mut TestClient, provider: &Provider, number: u64) {
    let seed = u64::from(client.key.public().as_bytes()[0]) * 100 + number;
    let bytes = pack(seed, PackClass::Data, 2 * PUT_BYTES + 3 * GROUP_BYTES);
    let sender = &*client;
    // From both ends.
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(|| send(sender, bytes, [0, 1, 2]));
        scope.spawn(|| send(sender, bytes, [2, 1, 0]));
    });
    let reference = maimo_core::reference::ObjectRef::of(&bytes);
    client.name_all(reference, PackClass::Data);
    client.move_head(provider).unwrap();
    let count = u32::try_from(maimo_core::units::groups(reference.length)).unwrap();
    let groups = LiveMap::full(count);
    let read = maimo_net::service::Read {
        pack: reference,
        groups,
    };
    let slices = block_on(client.session.read(vec![read])).unwrap();
    assert!(slices[0].len() > bytes.len());
}

fn totals(provider: &Provider) -> String {
    let found = provider.inner.readers.read(|rows| {
        let mut text = String::new();
        for channel in rows.channels()? {
            let row = rows.channel(&channel)?.unwrap();
            assert_eq!(changes::recomputed(rows, row.number)?, row.state.totals);
            let (state, packs) = (&row.state, rows.packs(row.number)?);
            let _ = writeln!(text, "{channel:?} {state:?} {packs:?}");
        }
        Ok(text)
    });
    let mut lines: Vec<_> = found.unwrap().lines().map(str::to_owned).collect();
    lines.sort();
    lines.concat()
}

#[test]
fn many_callers_at_once_lose_nothing_while_logs_and_sweeps_run() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (1..=4)
            .map(|seed| {
                let provider = &provider;
                scope.spawn(move || {
                    let mut client = TestClient::new(provider, seed);
                    (0..5).for_each(|number| store(&mut client, provider, number));
                    assert_eq!(block_on(client.session.status()).unwrap().root, client.root);
                })
            })
            .collect();
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                provider.sweep(now()).unwrap();
                let volume = provider.inner.volumes.all_mounted().remove(0);
                provider.inner.shrink_log(&volume).unwrap();
            }
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::Acquire) {
                assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
            }
        });
        let ended: Vec<_> = clients
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        is_done.store(true, Ordering::Release);
        assert!(ended.iter().all(Result::is_ok));
    });
    let before = totals(&provider);
    drop(provider);
    fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
    assert_eq!(totals(&open(folder.path())), before);
}

#[test]
fn a_head_takes_one_fsync_a_pack_two_and_a_repeated_one_none() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    let mut counted = volume.syncs();
    let mut syncs = || {
        let before = std::mem::replace(&mut counted, volume.syncs());
        counted - before
    };
    let bytes = |seed| pack(seed, PackClass::Data, 8 * GROUP_BYTES);
    // The log's first segment, the client's registration, the channel's folder.
    client.upload(&bytes(0), PackClass::Data).unwrap();
    assert_eq!(syncs(), 6);
    for seed in 1..4 {
        let reference = client.upload(&bytes(seed), PackClass::Data).unwrap();
        assert_eq!(syncs(), 2);
        client.upload(&bytes(seed), PackClass::Data).unwrap();
        assert_eq!(syncs(), 0);
        client.name_all(reference, PackClass::Data);
        client.move_head(&provider).unwrap();
        assert_eq!(syncs(), 1);
    }
}
