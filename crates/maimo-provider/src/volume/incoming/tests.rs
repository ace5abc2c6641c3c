use super::*;
use crate::volume::tests::{CHANNEL, MIB, bytes, fetch, new_volume, put_all, reopen};

const RANGE: u64 = OutboardBuilder::RANGE_BYTES;

#[test]
fn ranges_come_in_any_order_and_a_repeated_one_changes_nothing() {
    let (_folder, volume) = new_volume();
    let pack = bytes(1, 2 * MIB + 8192);
    let reference = ObjectRef::of(&pack);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    incoming.put(2 * RANGE, &pack[2 * MIB..]).unwrap();
    incoming.put(0, &pack[..MIB]).unwrap();
    assert_eq!(incoming.missing(), [RANGE]);
    incoming.put(0, &bytes(2, MIB)).unwrap();
    incoming.put(RANGE, &pack[MIB..2 * MIB]).unwrap();
    incoming.finish().unwrap();
    assert_eq!(fetch(&volume, &reference, 0..129).unwrap(), pack);
}

#[test]
fn whoever_goes_on_after_a_crash_believes_only_what_the_disk_has() {
    let (_folder, volume) = new_volume();
    let pack = bytes(1, 4 * MIB + 4096);
    let reference = ObjectRef::of(&pack);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    for range in [0, 1, 3] {
        let part = &pack[range * MIB..(range + 1) * MIB];
        incoming.put(range as u64 * RANGE, part).unwrap();
    }
    let path = incoming.path.clone();
    drop(incoming);
    // The note was written, the range was not.
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[0; 4096], RANGE + 8192).unwrap();
    let volume = reopen(volume);
    assert_eq!(volume.all_incoming().unwrap(), [(CHANNEL, reference)]);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    assert_eq!(incoming.missing(), [RANGE, 2 * RANGE, 4 * RANGE]);
    put_all(&incoming, &pack);
    incoming.finish().unwrap();
    assert_eq!(fetch(&volume, &reference, 0..257).unwrap(), pack);
    assert_eq!(volume.all_incoming().unwrap(), []);
}

#[test]
fn wrong_bytes_are_refused_and_gone() {
    let (_folder, volume) = new_volume();
    let reference = ObjectRef::of(&bytes(1, 3 * MIB));
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    put_all(&incoming, &bytes(2, 3 * MIB));
    assert!(matches!(incoming.finish(), Err(VolumeError::WrongBytes)));
    assert_eq!(volume.all_incoming().unwrap(), []);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    assert_eq!(incoming.missing().len(), 3);
    assert!(matches!(incoming.finish(), Err(VolumeError::Incomplete)));
}

#[test]
fn what_is_no_range_and_a_second_hand_are_refused() {
    let (_folder, volume) = new_volume();
    let pack = bytes(1, 2 * MIB);
    let reference = ObjectRef::of(&pack);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    for (offset, length) in [(0, 4096), (4096, MIB), (2 * RANGE, 4096), (u64::MAX, 1)] {
        let refused = incoming.put(offset, &pack[..length]);
        assert!(matches!(refused, Err(VolumeError::Range { .. })));
    }
    let second = volume.incoming(CHANNEL, reference);
    assert!(matches!(second, Err(VolumeError::Busy)));
    incoming.abandon().unwrap();
    assert!(volume.incoming(CHANNEL, reference).is_ok());
    let long = ObjectRef {
        length: u64::MAX,
        ..reference
    };
    assert!(matches!(
        volume.incoming(CHANNEL, long),
        Err(VolumeError::Length { .. })
    ));
}

#[test]
fn wherever_the_disk_is_full_the_pack_is_not_there_and_comes_in_later() {
    let pack = bytes(1, 2 * MIB);
    let reference = ObjectRef::of(&pack);
    for writes in 0.. {
        let (_folder, volume) = new_volume();
        volume.faults().fill_after(writes);
        let incoming = volume.incoming(CHANNEL, reference).unwrap();
        let ranges = [(0, &pack[..MIB]), (RANGE, &pack[MIB..])];
        let put = ranges
            .into_iter()
            .try_for_each(|(offset, part)| incoming.put(offset, part));
        let stored = put.and_then(|()| incoming.finish());
        if stored.is_ok() {
            assert!(writes > 2, "fewer writes than there must be");
            return;
        }
        assert!(matches!(stored, Err(VolumeError::Full)), "{stored:?}");
        assert_eq!(volume.packs().count(), 0);
        volume.faults().heal();
        let incoming = volume.incoming(CHANNEL, reference).unwrap();
        put_all(&incoming, &pack);
        incoming.finish().unwrap();
        assert_eq!(fetch(&volume, &reference, 0..128).unwrap(), pack);
    }
}

#[test]
fn a_failed_fsync_stops_all_until_the_volume_is_opened_again() {
    let pack = bytes(1, 2 * MIB);
    let reference = ObjectRef::of(&pack);
    for syncs in 0.. {
        let (_folder, volume) = new_volume();
        volume.faults().fail_sync_after(syncs);
        let incoming = volume.incoming(CHANNEL, reference).unwrap();
        put_all(&incoming, &pack);
        let stored = incoming.finish();
        if stored.is_ok() {
            assert!(syncs >= 2, "fewer fsyncs than there must be");
            return;
        }
        assert!(matches!(stored, Err(VolumeError::Sync(_))), "{stored:?}");
        volume.faults().heal();
        assert!(volume.is_poisoned());
        assert!(matches!(
            volume.incoming(CHANNEL, reference),
            Err(VolumeError::Poisoned)
        ));
        let volume = reopen(volume);
        let incoming = volume.incoming(CHANNEL, reference).unwrap();
        put_all(&incoming, &pack);
        incoming.finish().unwrap();
        assert_eq!(fetch(&volume, &reference, 0..128).unwrap(), pack);
    }
}

#[test]
fn what_was_finished_survives_the_loss_of_all_that_was_not_synced() {
    let (_folder, volume) = new_volume();
    volume.faults().remember();
    let (kept, lost) = (bytes(1, 2 * MIB), bytes(2, 2 * MIB));
    let incoming = volume.incoming(CHANNEL, ObjectRef::of(&kept)).unwrap();
    put_all(&incoming, &kept);
    incoming.finish().unwrap();
    let incoming = volume.incoming(CHANNEL, ObjectRef::of(&lost)).unwrap();
    put_all(&incoming, &lost);
    drop(incoming);
    volume.faults().lose_unsynced().unwrap();
    let volume = reopen(volume);
    let found = fetch(&volume, &ObjectRef::of(&kept), 0..128).unwrap();
    assert_eq!(found, kept);
    let incoming = volume.incoming(CHANNEL, ObjectRef::of(&lost)).unwrap();
    assert_eq!(incoming.missing().len(), 2);
}
