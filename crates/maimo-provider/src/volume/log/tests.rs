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
