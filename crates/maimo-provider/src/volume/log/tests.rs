use super::{
    super::tests::{CHANNEL, bytes, new_volume, reopen},
    *,
};

fn append(log: &Log, bodies: &[&[u8]]) -> Vec<LogPosition> {
    let entries: Vec<_> = (1..)
        .zip(bodies)
        .map(|(kind, body)| LogEntry {
            kind,
            channel: CHANNEL,
            body,
        })
        .collect();
    log.append(&entries).unwrap()
}

fn replayed(log: &Log, from: Option<LogPosition>) -> Vec<Replayed> {
    log.replay(from).map(Result::unwrap).collect()
}

#[test]
fn entries_come_back_in_order_after_the_log_was_closed() {
    let (_folder, volume) = new_volume();
    let log = volume.log();
    assert_eq!(replayed(log, None), []);
    let mut positions = append(log, &[b"one", b"", &bytes(1, 70_000)]);
    positions.extend(append(log, &[b"two"]));
    log.sync().unwrap();
    assert!(positions.is_sorted());
    let volume = reopen(volume);
    let log = volume.log();
    let expected = [
        (1, b"one".to_vec()),
        (2, vec![]),
        (3, bytes(1, 70_000)),
        (1, b"two".to_vec()),
    ];
    let entries: Vec<_> = positions
        .iter()
        .zip(expected)
        .map(|(&position, (kind, body))| OwnedEntry {
            position,
            kind,
            channel: CHANNEL,
            body,
        })
        .collect();
    for entry in &entries {
        assert_eq!(log.read(entry.position).unwrap(), *entry);
        let number = entry.position.to_number();
        assert_eq!(LogPosition::from_number(number), entry.position);
    }
    let steps: Vec<_> = entries.into_iter().map(Replayed::Entry).collect();
    assert_eq!(replayed(log, None), steps);
    assert_eq!(replayed(log, Some(positions[2])), steps[2..]);
    append(log, &[b"three"]);
    assert_eq!(replayed(log, None).len(), 5);
}

/// The bodies, `None` for damage.
fn bodies(log: &Log) -> Vec<Option<Vec<u8>>> {
    let body = |step| match step {
        Replayed::Entry(entry) => Some(entry.body),
        Replayed::Damaged { .. } => None,
    };
    replayed(log, None).into_iter().map(body).collect()
}

fn some(bodies: &[&[u8]]) -> Vec<Option<Vec<u8>>> {
    bodies.iter().map(|body| Some(body.to_vec())).collect()
}

#[test]
fn a_torn_end_is_cut_off_wherever_it_is_torn() {
    let (_folder, volume) = new_volume();
    let positions = append(volume.log(), &[b"kept", &bytes(1, 300)]);
    let path = volume.log().path(SegmentName::FIRST);
    let whole = fs::read(&path).unwrap();
    let mut volume = volume;
    for end in positions[1].offset() as usize..whole.len() {
        volume = reopen(volume);
        fs::write(&path, &whole[..end]).unwrap();
        if end % 2 == 0 {
            assert_eq!(bodies(volume.log()), some(&[b"kept"]), "{end}");
        }
        append(volume.log(), &[b"next"]);
        volume.log().sync().unwrap();
        assert_eq!(bodies(volume.log()), some(&[b"kept", b"next"]), "{end}");
    }
}

/// A client sends what looks like the entry of another: behind damage the next entry is looked for, and this must not be it.
#[test]
fn damage_is_told_and_no_bytes_of_a_body_are_taken_for_an_entry() {
    let (_folder, volume) = new_volume();
    let log = volume.log();
    let mut forged = vec![0; 10];
    let entry = LogEntry {
        kind: 9,
        channel: CHANNEL,
        body: b"forged",
    };
    // Where it will stand, with all that a client can know: anything but the key.
    entry.encode(
        &[0; 32],
        SegmentName::FIRST,
        40 + 64 + 10,
        None,
        &mut forged,
    );
    let positions = append(log, &[&forged, b"after"]);
    let path = log.path(SegmentName::FIRST);
    let whole = fs::read(&path).unwrap();
    for at in 40..positions[1].offset() as usize {
        let mut file = whole.clone();
        file[at] ^= 1;
        fs::write(&path, file).unwrap();
        assert_eq!(bodies(log), [None, Some(b"after".to_vec())], "{at}");
        let found = log.read(positions[0]);
        assert!(matches!(found, Err(VolumeError::DamagedEntry)));
    }
    // What stands at another place than it was written for is damage, too.
    let mut file = whole.clone();
    file.insert(40, 0);
    fs::write(&path, file).unwrap();
    assert_eq!(bodies(log), []);
}

#[test]
fn a_log_goes_on_behind_damage_in_the_middle() {
    let (_folder, volume) = new_volume();
    append(volume.log(), &[b"one", b"two", b"three"]);
    let path = volume.log().path(SegmentName::FIRST);
    let mut file = fs::read(&path).unwrap();
    file[40 + 83 + 70] ^= 1;
    fs::write(&path, file).unwrap();
    let volume = reopen(volume);
    append(volume.log(), &[b"four"]);
    let expected = [
        Some(b"one".to_vec()),
        None,
        Some(b"three".to_vec()),
        Some(b"four".to_vec()),
    ];
    assert_eq!(bodies(volume.log()), expected);
}

#[test]
fn useless_entries_go_and_the_rest_keep_their_order_through_any_crash() {
    let (_folder, volume) = new_volume();
    let big = bytes(1, Log::BODY_BYTES_MAX);
    let mut positions = Vec::new();
    for number in 0..9_u8 {
        positions.extend(append(volume.log(), &[&[number], &big]));
    }
    volume.log().sync().unwrap();
    let full = volume.log().full_segments().unwrap();
    assert_eq!(full.len(), 1);
    assert!(full[0].1 <= u64::from(Log::SEGMENT_BYTES));
    let is_small = |position: LogPosition| {
        let at = positions.iter().position(|found| *found == position);
        at.unwrap() % 2 == 0
    };
    volume.log().compact(0, is_small).unwrap();
    // As after a crash: the ledger may or may not have taken the moves.
    for _ in 0..2 {
        let moves = volume.log().moves(0).unwrap();
        assert!(moves.len() >= 7);
        for (old, new) in moves {
            let (before, after) = (
                volume.log().read(old).unwrap(),
                volume.log().read(new).unwrap(),
            );
            assert_eq!(before.body, after.body);
            assert_eq!(before.position, old);
        }
    }
    let volume = reopen(volume);
    let log = volume.log();
    assert_eq!(log.compacted(), [0]);
    let small: Vec<_> = bodies(log)
        .into_iter()
        .flatten()
        .filter(|body| body.len() == 1)
        .collect();
    assert_eq!(small, (0..9).map(|number| vec![number]).collect::<Vec<_>>());
    log.discard(0).unwrap();
    assert_eq!(log.compacted(), [0_u32; 0]);
    assert!(matches!(log.read(positions[0]), Err(VolumeError::NotHeld)));
    assert!(log.full_segments().unwrap()[0].1 < 1000);
    assert!(matches!(
        log.compact(1, |_| true),
        Err(VolumeError::NotHeld)
    ));
}

#[test]
fn an_append_to_a_full_disk_leaves_nothing_behind() {
    let (_folder, volume) = new_volume();
    append(volume.log(), &[b"one"]);
    volume.faults().fill_after(0);
    let entry = LogEntry {
        kind: 1,
        channel: CHANNEL,
        body: b"two",
    };
    assert!(matches!(
        volume.log().append(&[entry, entry]),
        Err(VolumeError::Full)
    ));
    volume.faults().heal();
    append(volume.log(), &[b"three"]);
    assert_eq!(bodies(volume.log()), some(&[b"one", b"three"]));
    let volume = reopen(volume);
    assert_eq!(bodies(volume.log()), some(&[b"one", b"three"]));
}

#[test]
fn what_was_synced_survives_and_a_failed_sync_stops_the_log() {
    let (_folder, volume) = new_volume();
    volume.faults().remember();
    append(volume.log(), &[b"one"]);
    volume.log().sync().unwrap();
    append(volume.log(), &[b"two"]);
    volume.faults().lose_unsynced().unwrap();
    let volume = reopen(volume);
    assert_eq!(bodies(volume.log()), some(&[b"one"]));
    append(volume.log(), &[b"three"]);
    volume.faults().fail_sync_after(0);
    assert!(matches!(volume.log().sync(), Err(VolumeError::Sync(_))));
    volume.faults().heal();
    assert!(matches!(volume.log().sync(), Err(VolumeError::Poisoned)));
    let volume = reopen(volume);
    assert_eq!(bodies(volume.log()), some(&[b"one"]));
}

#[test]
fn an_entry_that_is_too_long_is_refused_and_the_longest_is_not() {
    let (_folder, volume) = new_volume();
    let long = vec![0; Log::BODY_BYTES_MAX + 1];
    let entry = |body| LogEntry {
        kind: 1,
        channel: CHANNEL,
        body,
    };
    assert!(matches!(
        volume.log().append(&[entry(&long)]),
        Err(VolumeError::TooLong { .. })
    ));
    volume.log().append(&[entry(&long[1..])]).unwrap();
}
