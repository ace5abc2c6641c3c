//! Files whose rows and log entries a power cut took.

use std::{fs, path::Path};

use futures_executor::block_on;
use maimo_core::{
    custody::PackClass,
    live_map::LiveMap,
    units::{GROUP_BYTES, groups},
};

use super::*;
use crate::{
    provider::{FolderTerms, Provider},
    testing::{TestClient, pack},
};

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

/// Returns ledger and log as they are now.
fn image(folder: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let log = fs::read_dir(folder.join("volume/log")).unwrap();
    let log = log.map(|entry| entry.unwrap().path());
    let ledger = ["ledger.sqlite", "ledger.sqlite-wal"].map(|name| folder.join(name));
    log.chain(ledger)
        .filter_map(|path| Some((path.clone(), fs::read(path).ok()?)))
        .collect()
}

/// Puts back what [`image`] returned, as after a power cut before the next sync of the log.
fn put_back(folder: &Path, image: Vec<(std::path::PathBuf, Vec<u8>)>) {
    for name in ["clean", "ledger.sqlite-wal", "ledger.sqlite-shm"] {
        let _ = fs::remove_file(folder.join(name));
    }
    for (path, bytes) in image {
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_pack_whose_row_a_power_cut_took_is_held_again_and_what_came_in_half_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    client.move_head(&provider).unwrap();
    client.session = TestClient::new(&open(tempfile::tempdir().unwrap().path()), 1).session;
    drop(provider);
    let before = image(folder.path());

    let provider = open(folder.path());
    client.reconnect(&provider);
    let whole = pack(1, PackClass::Vital, 8 * GROUP_BYTES);
    client.upload(&whole, PackClass::Vital).unwrap();
    let half = pack(2, PackClass::Data, 3 << 20);
    client.put_range(&half, PackClass::Data, 1 << 20).unwrap();
    client.session = TestClient::new(&open(tempfile::tempdir().unwrap().path()), 1).session;
    drop(provider);
    put_back(folder.path(), before);

    let provider = open(folder.path());
    client.reconnect(&provider);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    assert_eq!(volume.all_incoming().unwrap(), []);
    let totals = block_on(client.session.status()).unwrap().totals;
    assert!(totals.held > whole.len() as u64 && totals.reserved == 0);
    // The next head names it without its having been sent again.
    client.name_all(ObjectRef::of(&whole), PackClass::Vital);
    client.move_head(&provider).unwrap();
    let totals = block_on(client.session.status()).unwrap().totals;
    drop((client.session, provider, volume));

    // Its entry is in the log: a ledger that is made anew says the same.
    fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
    let provider = open(folder.path());
    let again = provider.clients().unwrap().remove(0);
    assert_eq!((again.totals, again.sequence), (totals, 2));
}

#[test]
fn a_file_without_a_row_that_has_holes_or_another_place_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    client.move_head(&provider).unwrap();
    let bytes = pack(1, PackClass::Data, 8 * GROUP_BYTES);
    let volume = provider.inner.volumes.all_mounted().remove(0);
    let reference = ObjectRef::of(&bytes);
    let incoming = volume.incoming(client.channel, reference).unwrap();
    incoming.put(0, &bytes).unwrap();
    incoming.finish().unwrap();
    let count = u32::try_from(groups(reference.length)).unwrap();
    let freed = LiveMap::from_runs(count, core::iter::once(1..3)).unwrap();
    volume.punch(client.channel, &reference, &freed).unwrap();
    drop((client.session, provider, volume));
    fs::remove_file(folder.path().join("clean")).unwrap();

    let provider = open(folder.path());
    let volume = provider.inner.volumes.all_mounted().remove(0);
    assert_eq!(volume.pack_names().count(), 0);
    assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
}
