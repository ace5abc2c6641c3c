use maimo_core::{
    identity::AuthSecretKey,
    verify::{Outboard, OutboardBuilder, Selection, decode_slice},
};
use tempfile::TempDir;

use super::*;

pub(super) const MIB: usize = 1024 * 1024;
pub(super) const CHANNEL: ChannelId = ChannelId([0xc4; 32]);

pub(super) fn owner() -> AuthPublicKey {
    AuthSecretKey::from_seed(&[1; 32]).public()
}

/// Bytes that differ everywhere.
pub(super) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

pub(super) fn new_volume() -> (TempDir, Volume) {
    let folder = TempDir::new().unwrap();
    let volume = Volume::create(&folder.path().join("v"), VolumeId([9; 16]), &owner()).unwrap();
    (folder, volume)
}

pub(super) fn reopen(volume: Volume) -> Volume {
    let path = volume.path().to_owned();
    drop(volume);
    Volume::open(&path, None, &owner()).unwrap()
}

pub(super) fn put_all(incoming: &Incoming, pack: &[u8]) {
    for offset in incoming.missing() {
        let start = index(offset);
        let end = pack.len().min(start + index(OutboardBuilder::RANGE_BYTES));
        incoming.put(offset, &pack[start..end]).unwrap();
    }
}

pub(super) fn store(volume: &Volume, pack: &[u8]) -> ObjectRef {
    let reference = ObjectRef::of(pack);
    let incoming = volume.incoming(CHANNEL, reference).unwrap();
    put_all(&incoming, pack);
    incoming.finish().unwrap();
    reference
}

/// Reads runs of groups and checks them as a client would.
pub(super) fn fetch(
    volume: &Volume,
    pack: &ObjectRef,
    groups: std::ops::Range<u64>,
) -> Result<Vec<u8>, VolumeError> {
    let selection = Selection::groups(pack.length, [groups]).unwrap();
    let mut slice = Vec::new();
    volume.pack(CHANNEL, pack)?.slice(&selection, &mut slice)?;
    let extents = decode_slice(&slice, pack, &selection).unwrap().into_inner();
    Ok(extents.into_iter().flat_map(|part| part.bytes).collect())
}

#[test]
fn a_pack_comes_back_after_its_volume_was_closed() {
    let (_folder, volume) = new_volume();
    let pack = bytes(1, 3 * MIB + 20 * 1024);
    let reference = store(&volume, &pack);
    let volume = reopen(volume);
    assert_eq!(fetch(&volume, &reference, 0..194).unwrap(), pack);
    let file = volume.pack(CHANNEL, &reference).unwrap();
    assert_eq!(file.outboard().unwrap(), Outboard::of(&pack).as_bytes());
    assert!(file.held().is_full());
    let listed: Vec<_> = volume.packs().map(Result::unwrap).collect();
    let expected = StoredPack {
        channel: CHANNEL,
        pack: reference,
        held: LiveMap::full(194),
    };
    assert_eq!(listed, [expected]);
    assert_eq!(volume.all_incoming().unwrap(), []);
}

#[test]
fn a_folder_without_a_marker_is_unavailable_and_never_empty() {
    let (folder, volume) = new_volume();
    let path = volume.path().to_owned();
    drop(volume);
    let open = |path: &Path| Volume::open(path, None, &owner()).unwrap_err();
    assert!(matches!(
        open(&folder.path().join("none")),
        VolumeError::Unavailable
    ));
    assert!(matches!(open(folder.path()), VolumeError::Unavailable));
    fs::remove_file(path.join(Marker::NAME)).unwrap();
    assert!(matches!(open(&path), VolumeError::Unavailable));
}

#[test]
fn only_the_owner_opens_a_volume_and_only_as_itself() {
    let (_folder, volume) = new_volume();
    let path = volume.path().to_owned();
    let open = |id, seed| {
        let owner = AuthSecretKey::from_seed(&[seed; 32]).public();
        Volume::open(&path, id, &owner).unwrap_err()
    };
    assert!(matches!(open(None, 1), VolumeError::InUse));
    drop(volume);
    assert!(matches!(open(None, 2), VolumeError::OtherOwner));
    assert!(matches!(
        open(Some(VolumeId([8; 16])), 1),
        VolumeError::OtherVolume { .. }
    ));
    assert!(Volume::open(&path, Some(VolumeId([9; 16])), &owner()).is_ok());
    assert!(matches!(
        Volume::create(&path, VolumeId([7; 16]), &owner()),
        Err(VolumeError::Exists)
    ));
}

#[test]
fn packs_of_other_channels_and_lengths_are_not_held() {
    let (_folder, volume) = new_volume();
    let reference = store(&volume, &bytes(1, MIB));
    let other = ObjectRef {
        length: reference.length - 4096,
        ..reference
    };
    // Once while its file is open, once while it is not.
    for _ in 0..2 {
        let shorter = volume.pack(CHANNEL, &other);
        assert!(matches!(shorter, Err(VolumeError::NotHeld)));
        let stranger = volume.pack(ChannelId([1; 32]), &reference);
        assert!(matches!(stranger, Err(VolumeError::NotHeld)));
        volume.pack(CHANNEL, &reference).unwrap();
    }
}

#[test]
fn what_was_removed_is_gone_though_its_file_was_open() {
    let (_folder, volume) = new_volume();
    let reference = store(&volume, &bytes(1, MIB));
    volume.pack(CHANNEL, &reference).unwrap();
    volume.remove(CHANNEL, &reference).unwrap();
    let gone = volume.pack(CHANNEL, &reference);
    assert!(matches!(gone, Err(VolumeError::NotHeld)));
    volume.remove(CHANNEL, &reference).unwrap();
    assert_eq!(volume.packs().count(), 0);
}
