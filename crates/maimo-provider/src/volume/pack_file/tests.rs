use std::{fs, os::unix::fs::MetadataExt};

use super::*;
use crate::volume::{
    Volume,
    tests::{CHANNEL, MIB, bytes, fetch, new_volume, reopen, store},
};

const GROUP: usize = 16 * 1024;

fn path(volume: &Volume, pack: &ObjectRef) -> std::path::PathBuf {
    volume.inner.pack_path(&CHANNEL, &pack.root)
}

/// The map of groups from a first to before a last.
fn map(groups: u32, runs: &[(u32, u32)]) -> LiveMap {
    LiveMap::from_runs(groups, runs.iter().map(|&(start, end)| start..end)).unwrap()
}

/// Flips a bit `back` bytes before the end of a pack's file.
fn damage(volume: &Volume, pack: &ObjectRef, back: usize) {
    let path = path(volume, pack);
    let mut file = fs::read(&path).unwrap();
    let at = file.len() - back;
    file[at] ^= 4;
    fs::write(path, file).unwrap();
}

/// Frees parts of a pack and holds what is left against what was.
fn punch_and_check(volume: Volume, is_compact: bool) {
    let pack = bytes(1, 2 * MIB + 5 * 4096);
    let groups = 130;
    let reference = store(&volume, &pack);
    let size = fs::metadata(path(&volume, &reference)).unwrap().len();
    let mut left = LiveMap::full(groups);
    let mut volume = volume;
    for freed in [
        map(groups, &[(3, 7), (64, 100)]),
        map(groups, &[(129, 130)]),
        map(groups, &[(0, 1), (5, 8)]),
    ] {
        volume.punch(CHANNEL, &reference, &freed).unwrap();
        left = left.minus(&freed);
        if left.contains(0) {
            volume = reopen(volume);
            if is_compact {
                volume.faults().forbid_holes();
            }
        }
        let file = volume.pack(CHANNEL, &reference).unwrap();
        assert_eq!(*file.held(), left);
        assert_eq!(volume.packs().next().unwrap().unwrap().held, left);
        assert!(file.damaged().unwrap().is_empty());
        for group in 0..groups {
            let start = group as usize * GROUP;
            let end = pack.len().min(start + GROUP);
            let found = fetch(&volume, &reference, group.into()..u64::from(group) + 1);
            if left.contains(group) {
                assert_eq!(found.unwrap(), pack[start..end], "{group}");
            } else {
                assert!(matches!(found, Err(VolumeError::NotHeld)), "{group}");
            }
        }
        let across = fetch(&volume, &reference, 2..5);
        assert!(matches!(across, Err(VolumeError::NotHeld)));
    }
    let found = fs::metadata(path(&volume, &reference)).unwrap();
    assert_eq!(found.len() == size, !is_compact);
    assert!(found.blocks() * 512 < size - 36 * GROUP as u64);
    // What came in again is whole again.
    store(&volume, &pack);
    assert_eq!(fetch(&volume, &reference, 0..130).unwrap(), pack);
    volume
        .punch(CHANNEL, &reference, &LiveMap::full(groups))
        .unwrap();
    assert_eq!(volume.packs().count(), 0);
}

#[test]
fn freed_groups_are_gone_and_the_rest_still_verifies() {
    let (_folder, volume) = new_volume();
    punch_and_check(volume, false);
}

#[test]
fn without_holes_the_rest_moves_together_and_still_verifies() {
    let (_folder, volume) = new_volume();
    volume.faults().forbid_holes();
    punch_and_check(volume, true);
}

#[test]
fn a_damaged_group_is_told_and_others_are_still_read() {
    let (_folder, volume) = new_volume();
    let reference = store(&volume, &bytes(1, MIB));
    let tail = usize::try_from(tail_bytes(reference.length)).unwrap();
    damage(&volume, &reference, tail + MIB - 20 * GROUP - 1);
    let file = volume.pack(CHANNEL, &reference).unwrap();
    assert_eq!(file.damaged().unwrap(), map(64, &[(20, 21)]));
    assert!(matches!(
        fetch(&volume, &reference, 20..21),
        Err(VolumeError::DamagedPack { .. })
    ));
    assert!(fetch(&volume, &reference, 19..20).is_ok());
}

#[test]
fn without_its_footer_a_whole_pack_is_found_by_its_hashes() {
    let (_folder, volume) = new_volume();
    let pack = bytes(1, MIB);
    let reference = store(&volume, &pack);
    volume
        .punch(CHANNEL, &reference, &map(64, &[(9, 11)]))
        .unwrap();
    for back in [1, 33, 64, 66] {
        damage(&volume, &reference, back);
    }
    let volume = reopen(volume);
    let file = volume.pack(CHANNEL, &reference).unwrap();
    assert!(file.is_footer_damaged());
    assert_eq!(*file.held(), map(64, &[(0, 9), (11, 64)]));
    let listed = volume.packs().next().unwrap().unwrap();
    assert_eq!((listed.pack, &listed.held), (reference, file.held()));
    // Giving back what a crash left also mends the footer.
    volume
        .punch(CHANNEL, &reference, &LiveMap::empty(64))
        .unwrap();
    let file = volume.pack(CHANNEL, &reference).unwrap();
    assert!(!file.is_footer_damaged());
}

#[test]
fn a_file_cut_short_anywhere_is_damaged_and_never_panics() {
    let (_folder, volume) = new_volume();
    let reference = store(&volume, &bytes(1, 3 * GROUP));
    let path = path(&volume, &reference);
    let file = fs::read(&path).unwrap();
    for length in 0..file.len() {
        if length % 251 != 0 && length + 200 < file.len() {
            continue;
        }
        fs::write(&path, &file[..length]).unwrap();
        let found = PackFile::open(&path, CHANNEL, &reference);
        assert!(
            matches!(
                found,
                Err(VolumeError::DamagedPack { .. } | VolumeError::NotHeld)
            ),
            "{length}"
        );
    }
}

#[test]
fn the_length_of_a_pack_follows_from_that_of_its_file() {
    for blocks in [1, 4, 5, 255, 256, 257, 16_384] {
        let length = blocks * BLOCK_BYTES;
        assert_eq!(whole_length(length + tail_bytes(length)), Some(length));
        assert_eq!(whole_length(length + tail_bytes(length) + 1), None);
    }
    assert_eq!(whole_length(0), None);
    assert_eq!(whole_length(u64::MAX), None);
}
