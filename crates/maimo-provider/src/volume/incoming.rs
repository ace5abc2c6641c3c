//! [`Incoming`]: a pack that is not whole yet.
//!
//! Its ranges are written where they belong as they come, and hashed from memory at once, in any order: with the last of them root and
//! outboard are known, and nothing is read back. Behind the place of the pack's last byte the file keeps the hash of each range. It is
//! not synced: after a crash whoever goes on hashes what the disk has and believes only ranges whose hash is the one noted.

use std::{
    collections::HashSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use maimo_core::{
    id::ChannelId,
    reference::ObjectRef,
    verify::{HashedRange, OutboardBuilder},
};

use super::{Inner, VolumeError, index, lock, pack_file::Footer};

/// A pack that comes in, range by range; several threads may bring them. Dropping it leaves what came in for whoever goes on.
#[derive(Debug)]
pub struct Incoming {
    volume: Arc<Inner>,
    channel: ChannelId,
    pack: ObjectRef,
    path: PathBuf,
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    builder: OutboardBuilder,
    /// Ranges that are being written now.
    claimed: HashSet<u64>,
}

/// How many bytes the note on a range takes.
const NOTE_BYTES: u64 = 32;

impl Incoming {
    pub(super) fn begin(
        volume: Arc<Inner>,
        channel: ChannelId,
        pack: ObjectRef,
    ) -> Result<Self, VolumeError> {
        let path = volume.incoming_folder().join(name(&channel, &pack));
        if !lock(&volume.coming).insert((channel, pack)) {
            return Err(VolumeError::Busy);
        }
        let opened = volume.disk.open(&path).and_then(|file| {
            let builder = resume(&file, pack.length)?;
            Ok((file, builder))
        });
        let (file, builder) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                lock(&volume.coming).remove(&(channel, pack));
                return Err(error);
            }
        };
        Ok(Self {
            volume,
            channel,
            pack,
            path,
            file,
            state: Mutex::new(State {
                builder,
                claimed: HashSet::new(),
            }),
        })
    }

    /// Returns the pack's name and length.
    pub const fn reference(&self) -> &ObjectRef {
        &self.pack
    }

    /// Returns the offsets of the ranges still missing, ascending, in bytes.
    pub fn missing(&self) -> Vec<u64> {
        lock(&self.state).builder.missing()
    }

    /// Takes the range at `offset`: 1 MiB, or up to the pack's end. One that is there already is left as it is.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Range`], [`VolumeError::Full`], others of the file system.
    pub fn put(&self, offset: u64, bytes: &[u8]) -> Result<(), VolumeError> {
        let length = bytes.len() as u64;
        if OutboardBuilder::range_bytes(self.pack.length, offset) != Some(length) {
            return Err(VolumeError::Range { offset, length });
        }
        {
            // What another hand is writing must not be written over: its hash is taken from memory, not from the file.
            let mut state = lock(&self.state);
            if state.builder.contains(offset) || !state.claimed.insert(offset) {
                return Ok(());
            }
        }
        let taken = self.take(offset, bytes);
        let mut state = lock(&self.state);
        state.claimed.remove(&offset);
        state.builder.put(&taken?);
        Ok(())
    }

    fn take(&self, offset: u64, bytes: &[u8]) -> Result<HashedRange, VolumeError> {
        let disk = &self.volume.disk;
        disk.write(&self.file, bytes, offset)?;
        let length = bytes.len() as u64;
        let range = HashedRange::of(self.pack.length, offset, bytes)
            .ok_or(VolumeError::Range { offset, length })?;
        if self.pack.length > OutboardBuilder::RANGE_BYTES {
            disk.write(&self.file, range.hash(), note_at(self.pack.length, offset))?;
        }
        Ok(range)
    }

    /// Makes the pack durable under its name; the file that had it is replaced. One fsync of the file, one of the folder.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Incomplete`] while ranges are missing, [`VolumeError::WrongBytes`] where all are there and not what they claim: what
    /// came in is then gone. Others of the file system.
    pub fn finish(self) -> Result<(), VolumeError> {
        let empty = OutboardBuilder::new(0);
        let builder = std::mem::replace(&mut lock(&self.state).builder, empty);
        let outboard = builder.finish().ok_or(VolumeError::Incomplete)?;
        if *outboard.object() != self.pack {
            self.volume.disk.remove(&self.path)?;
            return Err(VolumeError::WrongBytes);
        }
        let disk = &self.volume.disk;
        let mut tail = outboard.into_bytes();
        tail.extend(Footer::whole(self.pack.length).encode(&self.channel, &self.pack.root));
        disk.write(&self.file, &tail, self.pack.length)?;
        if let Err(error) = disk.sync(&self.file) {
            // The kernel may now take for written what is not, and tell nobody again: what came in is not to be built upon.
            let _ = fs::remove_file(&self.path);
            return Err(error);
        }
        let folder = self.volume.make_channel_folder(&self.channel)?;
        let path = folder.join(self.pack.root.to_string());
        disk.rename(&self.path, &path)?;
        self.volume.cache.forget(&self.channel, &self.pack.root);
        disk.sync_folder(&folder)
    }

    /// Throws away what came in.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn abandon(self) -> Result<(), VolumeError> {
        self.volume.disk.remove(&self.path)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        lock(&self.volume.coming).remove(&(self.channel, self.pack));
    }
}

/// Finds the ranges that an earlier process left in a file.
fn resume(file: &File, length: u64) -> Result<OutboardBuilder, VolumeError> {
    let mut builder = OutboardBuilder::new(length);
    let size = file
        .metadata()
        .map_err(VolumeError::io("opening a file"))?
        .len();
    let mut bytes = Vec::new();
    for offset in builder.missing() {
        let at = note_at(length, offset);
        if at + NOTE_BYTES > size {
            break;
        }
        let mut note = [0; 32];
        let range_bytes = OutboardBuilder::range_bytes(length, offset).unwrap_or(0);
        bytes.resize(index(range_bytes), 0);
        let read = file.read_exact_at(&mut note, at);
        read.map_err(VolumeError::io("reading a pack that comes in"))?;
        if note == [0; 32] {
            continue;
        }
        let read = file.read_exact_at(&mut bytes, offset);
        read.map_err(VolumeError::io("reading a pack that comes in"))?;
        let range = HashedRange::of(length, offset, &bytes);
        if let Some(range) = range.filter(|range| *range.hash() == note) {
            builder.put(&range);
        }
    }
    Ok(builder)
}

const fn note_at(length: u64, offset: u64) -> u64 {
    length + offset / OutboardBuilder::RANGE_BYTES * NOTE_BYTES
}

fn name(channel: &ChannelId, pack: &ObjectRef) -> String {
    format!("{channel}.{}.{}", pack.root, pack.length)
}

fn parse_name(name: &str) -> Option<(ChannelId, ObjectRef)> {
    let (channel, rest) = name.split_once('.')?;
    let (root, length) = rest.split_once('.')?;
    let pack = ObjectRef {
        root: root.parse().ok()?,
        length: length.parse().ok()?,
    };
    Some((channel.parse().ok()?, pack))
}

/// Removes the file of a pack that nobody has open.
pub(super) fn remove(
    volume: &Inner,
    channel: &ChannelId,
    pack: &ObjectRef,
) -> Result<(), VolumeError> {
    let path = volume.incoming_folder().join(name(channel, pack));
    volume.disk.remove(&path)
}

/// Lists what a folder has come in.
pub(super) fn list(folder: &Path) -> Result<Vec<(ChannelId, ObjectRef)>, VolumeError> {
    let entries = fs::read_dir(folder).map_err(VolumeError::io("reading the volume"))?;
    let names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()
        .map_err(VolumeError::io("reading the volume"))?;
    Ok(names
        .iter()
        .filter_map(|name| parse_name(name.to_str()?))
        .collect())
}

#[cfg(test)]
mod tests;
