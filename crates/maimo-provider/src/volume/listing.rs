//! What packs lie on a volume: the files say it themselves.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use maimo_core::{
    id::{ChannelId, RootHash},
    live_map::LiveMap,
    reference::ObjectRef,
};

use super::{PackFile, VolumeError};

/// A pack as a volume lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPack {
    /// The channel it is of.
    pub channel: ChannelId,
    /// Its name and length.
    pub pack: ObjectRef,
    /// Which of its groups are there, as its file says; [`PackFile::damaged`] says whether they are what they were.
    pub held: LiveMap,
}

/// Walks the folders of channels below `packs`, one at a time, so that memory stays small. A file that is no pack is passed over.
pub(super) fn walk(packs: &Path) -> impl Iterator<Item = Result<StoredPack, VolumeError>> + use<> {
    names(packs).filter_map(|found| match found {
        Ok((channel, root, path)) => open(channel, root, &path),
        Err(error) => Some(Err(error)),
    })
}

/// Walks the names alone.
pub(super) fn names(
    packs: &Path,
) -> impl Iterator<Item = Result<(ChannelId, RootHash, PathBuf), VolumeError>> + use<> {
    folders(packs)
        .flat_map(|two| spread(two, |two| folders(&two)))
        .flat_map(|channel| spread(channel, |channel| folders(&channel)))
        .filter_map(|path| path.map(name).transpose())
}

fn name(path: PathBuf) -> Option<(ChannelId, RootHash, PathBuf)> {
    let channel = path.parent()?.file_name()?.to_str()?.parse().ok()?;
    let root = path.file_name()?.to_str()?.parse().ok()?;
    Some((channel, root, path))
}

/// Opens a pack's file for what it says; nothing where there is none.
pub(super) fn open(
    channel: ChannelId,
    root: RootHash,
    path: &Path,
) -> Option<Result<StoredPack, VolumeError>> {
    let found = PackFile::open_any(path, channel, root).map(|file| StoredPack {
        channel,
        pack: *file.reference(),
        held: file.held().clone(),
    });
    match found {
        // Removed since its folder was read.
        Err(VolumeError::NotHeld) => None,
        found => Some(found),
    }
}

type Paths = Box<dyn Iterator<Item = Result<PathBuf, VolumeError>>>;

fn folders(path: &Path) -> Paths {
    match fs::read_dir(path) {
        Ok(entries) => Box::new(entries.map(|entry| Ok(entry.map_err(error)?.path()))),
        // A file where a folder belongs is none of ours.
        Err(found) if found.kind() == io::ErrorKind::NotADirectory => Box::new(std::iter::empty()),
        Err(found) => Box::new(std::iter::once(Err(error(found)))),
    }
}

fn spread(path: Result<PathBuf, VolumeError>, into: impl FnOnce(PathBuf) -> Paths) -> Paths {
    match path {
        Ok(path) => into(path),
        Err(found) => Box::new(std::iter::once(Err(found))),
    }
}

fn error(source: io::Error) -> VolumeError {
    VolumeError::io("reading the volume")(source)
}
