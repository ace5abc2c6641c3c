//! A provider that is killed while it stores: what it had given receipts for is there.

use std::{
    env,
    io::{BufRead, BufReader, Write, stdout},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use futures_executor::block_on;
use maimo_core::{
    custody::PackClass, id::RootHash, live_map::LiveMap, reference::ObjectRef, units::GROUP_BYTES,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::{
    ledger::changes,
    provider::{FolderTerms, Provider, now},
    testing::{TestClient, pack},
};

const FOLDER: &str = "MAIMO_TEST_KILLED_FOLDER";
const CHILD: &str = "session::kills::stores_until_it_is_killed";

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).unwrap()
}

fn nth_pack(number: u64) -> bytes::Bytes {
    pack(number, PackClass::Data, 8 * GROUP_BYTES)
}

/// What the head of a sequence number changes: always the same, so that whoever comes after a kill knows it.
fn name_nth(client: &mut TestClient, number: u64) {
    client.name_all(ObjectRef::of(&nth_pack(number)), PackClass::Data);
    if number.is_multiple_of(3) {
        let half = LiveMap::from_runs(8, [0..1, 4..6]).unwrap();
        client.name(ObjectRef::of(&nth_pack(number - 1)), PackClass::Data, half);
    }
}

/// Returns the client as it was when it made the provider's newest head.
fn in_another_life(provider: &Provider) -> TestClient {
    let mut client = TestClient::new(provider, 1);
    let sequence = block_on(client.session.status()).unwrap().sequence;
    for number in 1..=sequence {
        name_nth(&mut client, number);
        client.pretend_move();
    }
    client
}

/// Not a test of its own: the child of the one below.
#[test]
fn stores_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let provider = open(Path::new(&folder));
    let mut client = in_another_life(&provider);
    loop {
        let number = client.sequence + 1;
        client.upload(&nth_pack(number), PackClass::Data).unwrap();
        name_nth(&mut client, number);
        client.move_head(&provider).unwrap();
        let line = format!("\nhead {number} {}\n", client.root);
        stdout().write_all(line.as_bytes()).unwrap();
        if number.is_multiple_of(5) {
            let volume = provider.inner.volumes.all_mounted().remove(0);
            provider.inner.shrink_log(&volume).unwrap();
            provider.sweep(now()).unwrap();
        }
    }
}

fn check(folder: &Path, receipts: &[(u64, RootHash)]) {
    let provider = open(folder);
    let client = in_another_life(&provider);
    let status = block_on(client.session.status()).unwrap();
    assert_eq!(status.root, client.root);
    for (sequence, root) in receipts {
        let at = usize::try_from(*sequence).unwrap() - 1;
        assert_eq!(client.roots.get(at), Some(root), "{sequence}");
    }
    let rows = provider.inner.readers.read(|rows| {
        let row = rows.channel(&client.channel)?.unwrap();
        Ok((changes::recomputed(rows, row.number)?, row.state.totals))
    });
    let (sums, totals) = rows.unwrap();
    assert_eq!(sums, totals);
    assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
}

#[test]
fn whatever_moment_it_is_killed_at_every_receipt_is_honoured() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut receipts = Vec::new();
    for _ in 0..12 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", CHILD])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |line: String| {
            let mut words = line.strip_prefix("head ")?.split(' ');
            let sequence: u64 = words.next()?.parse().ok()?;
            receipts.push((sequence, words.next()?.parse::<RootHash>().ok()?));
            Some(())
        };
        let mut left = rng.next_u64() % 9;
        while left > 0 {
            let line = lines.next().expect("the child goes on until it is killed");
            left -= u64::from(take(line.unwrap()).is_some());
        }
        thread::sleep(Duration::from_micros(rng.next_u64() % 6000));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            take(line);
        }
        check(folder.path(), &receipts);
    }
    assert!(receipts.len() > 12);
    let last = receipts.last().unwrap().0;
    std::fs::remove_file(folder.path().join("ledger.sqlite")).unwrap();
    check(folder.path(), &receipts);
    assert!(last > 12);
}
