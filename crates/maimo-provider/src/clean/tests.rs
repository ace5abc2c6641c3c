//! Folders that were closed in order, and folders that were not.

use futures_executor::block_on;
use maimo_core::custody::PackClass;
use maimo_net::service::WhichHead;

use super::*;
use crate::{
    provider::{FolderTerms, Provider},
    testing::{TestClient, pack},
};

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

fn is_marked(provider: &Provider) -> bool {
    provider.inner.clean.is_marked()
}

fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    let bytes = pack(1, PackClass::Data, 128 * 1024);
    let reference = client.upload(&bytes, PackClass::Data).unwrap();
    client.name_all(reference, PackClass::Data);
    client.move_head(&provider).unwrap();
    folder
}

#[test]
fn who_only_reads_leaves_the_mark_and_the_first_change_removes_it() {
    let folder = filled();
    let mark = folder.path().join(NAME);
    let before = fs::read(&mark).unwrap();
    for _ in 0..2 {
        let provider = open(folder.path());
        let client = TestClient::new(&provider, 1);
        assert!(
            block_on(client.session.head(WhichHead::Newest))
                .unwrap()
                .is_some()
        );
        assert!(is_marked(&provider));
    }
    assert_eq!(fs::read(&mark).unwrap(), before);

    let provider = open(folder.path());
    let client = TestClient::new(&provider, 1);
    let bytes = pack(2, PackClass::Data, 3 << 20);
    client.put_range(&bytes, PackClass::Data, 0).unwrap();
    assert!(!is_marked(&provider));
    assert!(!mark.exists());
    drop((client, provider));
    assert!(is_marked(&open(folder.path())));
}

#[test]
fn a_mark_that_is_cut_or_of_another_ledger_or_log_is_none() {
    let folder = filled();
    let mark = folder.path().join(NAME);
    let good = fs::read(&mark).unwrap();
    let is_believed = || {
        let provider = open(folder.path());
        is_marked(&provider)
    };
    for length in [0, 20, good.len() - 1] {
        fs::write(&mark, &good[..length]).unwrap();
        assert!(!is_believed(), "{length}");
        assert!(is_believed());
    }

    // The ledger is put back: the same bytes, and who knows.
    let ledger = folder.path().join(LEDGER);
    let bytes = fs::read(&ledger).unwrap();
    fs::remove_file(&ledger).unwrap();
    fs::write(&ledger, bytes).unwrap();
    assert!(!is_believed());
    assert!(is_believed());

    // The log is longer than the ledger knows, or shorter.
    let log = folder.path().join("volume/log");
    let segment = fs::read_dir(log).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&segment).unwrap();
    fs::write(&segment, [&bytes[..], &[0; 9]].concat()).unwrap();
    assert!(!is_believed());
    assert!(is_believed());
    fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    assert!(!is_believed());
    assert!(is_believed());
}

#[test]
fn what_a_reader_finds_damaged_is_looked_at_at_the_next_start() {
    let folder = filled();
    let provider = open(folder.path());
    let found = provider
        .inner
        .readers
        .read(|_| -> Result<(), _> { Err(crate::ledger::LedgerError::Damaged { what: "a row" }) });
    assert!(found.is_err());
    drop(provider);
    assert!(!folder.path().join(NAME).exists());
    drop(open(folder.path()));
    assert!(is_marked(&open(folder.path())));
}
