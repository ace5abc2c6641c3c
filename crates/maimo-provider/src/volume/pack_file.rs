//! [`PackFile`]: a pack on the disk, whole or in part.
//!
//! ```text
//!   payload | outboard | which groups are there | footer
//! ```
//!
//! In the *whole* form the payload is as long as the pack, with holes where groups were freed; in the *compact* form it is only what is left,
//! one group after the other. The file itself says which groups are there: where holes are would not do, for a copy of a volume
//! may have others, and some file systems make them of zeros by themselves.

use core::num::NonZeroU64;
use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use maimo_core::{
    codec::{Put, Reader},
    id::{ChannelId, RootHash},
    live_map::LiveMap,
    reference::ObjectRef,
    units::{BLOCK_BYTES, GROUP_BYTES, PACK_BYTES_MAX, groups, outboard_bytes},
    verify::{
        EncodeSliceError, ReadAt, Selection, encode_slice, encode_slice_as_is, inspect_slice,
    },
};
use rustix::fs::{Advice, fadvise};

use super::{VolumeError, check_length, disk::Disk, group_count, index};

/// A pack's file, open for reading. It stays readable, as it was, when another takes its place.
#[derive(Debug)]
pub struct PackFile {
    file: File,
    channel: ChannelId,
    pack: ObjectRef,
    held: LiveMap,
    form: Form,
    /// Where each run of groups begins in the payload, in bytes.
    starts: Vec<u64>,
    outboard_at: u64,
    is_footer_damaged: bool,
}

/// How a pack lies in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole = 0,
    Compact = 1,
}

impl PackFile {
    /// Opens the file of a pack whose length was checked.
    pub(super) fn open(
        path: &Path,
        channel: ChannelId,
        pack: &ObjectRef,
    ) -> Result<Self, VolumeError> {
        let found = Self::open_any(path, channel, pack.root)?;
        if found.pack.length != pack.length {
            return Err(VolumeError::NotHeld);
        }
        Ok(found)
    }

    /// Opens the file of a pack whose length is not known.
    pub(super) fn open_any(
        path: &Path,
        channel: ChannelId,
        root: RootHash,
    ) -> Result<Self, VolumeError> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VolumeError::NotHeld,
            _ => VolumeError::io("opening a pack")(error),
        })?;
        let size = file
            .metadata()
            .map_err(VolumeError::io("opening a pack"))?
            .len();
        if let Some(footer) = Footer::read(&file, size, &channel, &root)? {
            let pack = ObjectRef {
                root,
                length: footer.length,
            };
            return Ok(Self::new(file, channel, pack, footer.held, footer.form));
        }
        // A whole pack can do without: its length follows from the file's, and what is there from the hashes.
        let damaged = || VolumeError::DamagedPack { channel, root };
        let length = whole_length(size).ok_or_else(damaged)?;
        let pack = ObjectRef { root, length };
        let full = LiveMap::full(group_count(length));
        let mut found = Self::new(file, channel, pack, full.clone(), Form::Whole);
        let held = full.minus(&found.damaged()?);
        if held.is_empty() {
            return Err(damaged());
        }
        found = Self::new(found.file, channel, pack, held, Form::Whole);
        found.is_footer_damaged = true;
        Ok(found)
    }

    fn new(file: File, channel: ChannelId, pack: ObjectRef, held: LiveMap, form: Form) -> Self {
        let starts = match form {
            Form::Whole => held.runs().map(|run| group_start(run.start)).collect(),
            Form::Compact => held
                .runs()
                .scan(0, |next, run| {
                    let start = *next;
                    *next += run_end(&pack, run.end) - group_start(run.start);
                    Some(start)
                })
                .collect(),
        };
        let outboard_at = payload_bytes(&pack, &held, form);
        Self {
            file,
            channel,
            pack,
            held,
            form,
            starts,
            outboard_at,
            is_footer_damaged: false,
        }
    }

    /// Returns the channel it is of.
    pub const fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// Returns the pack's name and length.
    pub const fn reference(&self) -> &ObjectRef {
        &self.pack
    }

    /// Returns which of its groups are there, as the file says.
    pub const fn held(&self) -> &LiveMap {
        &self.held
    }

    /// Returns whether the file's last bytes are damaged, so that what is there had to be found by hashing it.
    pub const fn is_footer_damaged(&self) -> bool {
        self.is_footer_damaged
    }

    pub(super) fn is(&self, channel: &ChannelId, root: &RootHash) -> bool {
        self.pack.root == *root && self.channel == *channel
    }

    /// Appends a slice, checked on the way. It reads the groups asked for and the hashes that it needs, nothing else.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where groups are not there, [`VolumeError::DamagedPack`] where they are not what they were; `out` is then as it
    /// was.
    pub fn slice(&self, selection: &Selection, out: &mut Vec<u8>) -> Result<(), VolumeError> {
        self.encode(selection, out, |outboard, out| match outboard {
            Some(outboard) => encode_slice(self, outboard, &self.pack.root, selection, out),
            None => encode_slice(self, &Hashes(self), &self.pack.root, selection, out),
        })
    }

    /// Appends a slice without checking it: for an audit, in which the other side finds out which blocks are damaged.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where groups are not there; those of the file system.
    pub fn slice_as_is(&self, selection: &Selection, out: &mut Vec<u8>) -> Result<(), VolumeError> {
        self.encode(selection, out, |outboard, out| match outboard {
            Some(outboard) => encode_slice_as_is(self, outboard, selection, out),
            None => encode_slice_as_is(self, &Hashes(self), selection, out),
        })
    }

    fn encode(
        &self,
        selection: &Selection,
        out: &mut Vec<u8>,
        encode: impl FnOnce(Option<&Vec<u8>>, &mut Vec<u8>) -> Result<(), EncodeSliceError>,
    ) -> Result<(), VolumeError> {
        if selection.length() != self.pack.length {
            return Err(VolumeError::NotHeld);
        }
        let before = out.len();
        let bytes = selection.slice_bytes();
        out.reserve(index(bytes));
        // A few nodes are read one by one, many at once.
        let outboard = (bytes >= MANY_NODES_BYTES)
            .then(|| self.outboard())
            .transpose()?;
        if outboard.is_none() {
            self.expect_outboard();
        }
        encode(outboard.as_ref(), out).map_err(|error| {
            out.truncate(before);
            match error {
                EncodeSliceError::Read(error) => self.read_error(error),
                _ => self.damaged_error(),
            }
        })
    }

    /// Has the system read the outboard in one go where it is not in memory: a path through it touches pages all over it, and each would be a
    /// read of the disk by itself. Without effect where it is in memory; a hint, so what fails is no matter.
    fn expect_outboard(&self) {
        if let Some(length) = NonZeroU64::new(outboard_bytes(self.pack.length)) {
            let _ = fadvise(&self.file, self.outboard_at, Some(length), Advice::WillNeed);
        }
    }

    /// Returns the whole outboard as it lies there, unchecked.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn outboard(&self) -> Result<Vec<u8>, VolumeError> {
        let mut outboard = vec![0; index(outboard_bytes(self.pack.length))];
        Hashes(self)
            .read_exact_at(0, &mut outboard)
            .map_err(|error| self.read_error(error))?;
        Ok(outboard)
    }

    /// Reads bytes of the pack, unchecked.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where groups are not there; those of the file system.
    pub fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<(), VolumeError> {
        self.read_exact_at(offset, buffer)
            .map_err(|error| self.read_error(error))
    }

    /// Reads all that is there and returns the groups that are not what they were, by the pack's root. Below a damaged node of the outboard
    /// nothing can be proven, so all of it counts as damaged.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn damaged(&self) -> Result<LiveMap, VolumeError> {
        let mut damaged = LiveMap::empty(self.held.groups());
        let mut slice = Vec::new();
        for run in self.held.runs() {
            for start in run.clone().step_by(SCRUB_GROUPS as usize) {
                let part = u64::from(start)..u64::from(run.end.min(start + SCRUB_GROUPS));
                let selection = Selection::groups(self.pack.length, [part])
                    .map_err(|_| self.damaged_error())?;
                slice.clear();
                self.slice_as_is(&selection, &mut slice)?;
                let failed = inspect_slice(&slice, &self.pack, &selection)
                    .map_err(|_| self.damaged_error())?;
                for leaves in failed {
                    let per_group = GROUP_BYTES / maimo_core::units::LEAF_BYTES;
                    let group = |leaf: u64| u32::try_from(leaf / per_group).unwrap_or(u32::MAX);
                    damaged
                        .insert(group(leaves.start)..group(leaves.end - 1) + 1)
                        .map_err(|_| self.damaged_error())?;
                }
            }
        }
        Ok(damaged)
    }

    /// Narrows the file at `path`, which is this one, to the groups of `held`.
    pub(super) fn keep(
        &self,
        disk: &Disk,
        path: &Path,
        aside: &Path,
        held: &LiveMap,
    ) -> Result<(), VolumeError> {
        if self.form == Form::Whole {
            let file = disk.open_there(path)?;
            if *held != self.held || self.is_footer_damaged {
                // Before the bytes go: a file must never claim what it has not.
                let footer = self.footer(held, Form::Whole);
                disk.write(&file, &footer, self.footer_at(self.outboard_at))?;
                disk.sync(&file)?;
            }
            let dead = LiveMap::full(held.groups()).minus(held);
            for run in dead.runs() {
                let start = group_start(run.start);
                let length = run_end(&self.pack, run.end) - start;
                if !disk.punch(&file, start, length)? {
                    return self.compact(disk, path, aside, held);
                }
            }
            return Ok(());
        }
        if *held == self.held {
            return Ok(());
        }
        self.compact(disk, path, aside, held)
    }

    /// Puts a file of only the groups of `held` in the place of this one.
    fn compact(
        &self,
        disk: &Disk,
        path: &Path,
        aside: &Path,
        held: &LiveMap,
    ) -> Result<(), VolumeError> {
        let written = self
            .write_compact(disk, aside, held)
            .and_then(|()| disk.rename(aside, path));
        if let Err(error) = written {
            // The disk was full, most likely: what is half there must not keep it so.
            let _ = disk.remove(aside);
            return Err(error);
        }
        path.parent()
            .map_or(Ok(()), |folder| disk.sync_folder(folder))
    }

    fn write_compact(&self, disk: &Disk, aside: &Path, held: &LiveMap) -> Result<(), VolumeError> {
        disk.remove(aside)?;
        let file = disk.create(aside)?;
        let mut at = 0;
        let mut buffer = Vec::new();
        for run in held.runs() {
            let end = run_end(&self.pack, run.end);
            let mut offset = group_start(run.start);
            while offset < end {
                buffer.resize(index((end - offset).min(COPY_BYTES)), 0);
                self.read(offset, &mut buffer)?;
                disk.write(&file, &buffer, at)?;
                offset += buffer.len() as u64;
                at += buffer.len() as u64;
            }
        }
        let mut tail = self.outboard()?;
        tail.put(&self.footer(held, Form::Compact));
        disk.write(&file, &tail, at)?;
        disk.sync(&file)
    }

    fn footer(&self, held: &LiveMap, form: Form) -> Vec<u8> {
        Footer {
            length: self.pack.length,
            held: held.clone(),
            form,
        }
        .encode(&self.channel, &self.pack.root)
    }

    const fn footer_at(&self, outboard_at: u64) -> u64 {
        outboard_at + outboard_bytes(self.pack.length)
    }

    /// Returns where a byte of the pack lies in the file, and how many lie there without a gap.
    fn locate(&self, offset: u64) -> Option<(u64, u64)> {
        let group = u32::try_from(offset / GROUP_BYTES).ok()?;
        // Runs are few as a rule, and kept in order.
        let mut runs = self.held.runs();
        let at = if self.starts.len() == 1 {
            0
        } else {
            let runs = runs.clone();
            runs.enumerate().find(|(_, run)| group < run.end)?.0
        };
        let run = runs.nth(at)?;
        if !run.contains(&group) {
            return None;
        }
        let end = run_end(&self.pack, run.end);
        let within = offset - group_start(run.start);
        (offset < end).then(|| (self.starts[at] + within, end - offset))
    }

    fn damaged_error(&self) -> VolumeError {
        VolumeError::DamagedPack {
            channel: self.channel,
            root: self.pack.root,
        }
    }

    fn read_error(&self, error: io::Error) -> VolumeError {
        match error.kind() {
            io::ErrorKind::NotFound => VolumeError::NotHeld,
            io::ErrorKind::UnexpectedEof => self.damaged_error(),
            _ => VolumeError::io("reading a pack")(error),
        }
    }
}

/// The pack's bytes, unchecked: [`io::ErrorKind::NotFound`] where groups are not there.
impl ReadAt for PackFile {
    fn read_exact_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            let (at, there) = self.locate(offset).ok_or(io::ErrorKind::NotFound)?;
            let (now, later) = buffer.split_at_mut(buffer.len().min(index(there)));
            self.file.read_exact_at(now, at)?;
            offset += now.len() as u64;
            buffer = later;
        }
        Ok(())
    }
}

/// The outboard in the file.
struct Hashes<'a>(&'a PackFile);

impl ReadAt for Hashes<'_> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0
            .file
            .read_exact_at(buffer, self.0.outboard_at + offset)
    }
}

/// From how many bytes of slice on the outboard is read at once: as many as it has itself in a pack of 16 MiB.
const MANY_NODES_BYTES: u64 = 256 * 1024;
/// How much is copied at a time.
const COPY_BYTES: u64 = 1024 * 1024;
/// How many groups are checked at a time.
const SCRUB_GROUPS: u32 = 64;

/// The end of a pack's file: what says which groups are there.
pub(super) struct Footer {
    length: u64,
    held: LiveMap,
    form: Form,
}

impl Footer {
    const MAGIC: [u8; 8] = *b"maimopck";
    const VERSION: u8 = 1;
    /// The fields and their hash, without the map before them.
    const FIELDS_BYTES: usize = 32 + 32;

    /// The footer of a pack that came in whole.
    pub(super) fn whole(length: u64) -> Self {
        Self {
            length,
            held: LiveMap::full(group_count(length)),
            form: Form::Whole,
        }
    }

    /// Returns the bytes: the map, eight groups a byte, then the fields, then the hash of both that also binds them to the file's name.
    pub(super) fn encode(&self, channel: &ChannelId, root: &RootHash) -> Vec<u8> {
        let mut out = vec![0; index(map_bytes(self.length))];
        for group in self.held.runs().flatten() {
            out[group as usize / 8] |= 1 << (group % 8);
        }
        out.put(&Self::MAGIC);
        out.put(&[Self::VERSION, self.form as u8, 0, 0, 0, 0, 0, 0]);
        out.put_u64(self.length);
        out.put_u64(0);
        let sum = Self::sum(&out, channel, root);
        out.put(sum.as_bytes());
        out
    }

    fn sum(bytes: &[u8], channel: &ChannelId, root: &RootHash) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        hasher.update(channel.as_bytes()).update(root.as_bytes());
        hasher.update(bytes).finalize()
    }

    /// Reads the footer of a file of `size` bytes; nothing where there is no sound one that fits the file.
    fn read(
        file: &File,
        size: u64,
        channel: &ChannelId,
        root: &RootHash,
    ) -> Result<Option<Self>, VolumeError> {
        // One read for any pack: the largest map is small.
        let most = map_bytes(PACK_BYTES_MAX) + Self::FIELDS_BYTES as u64;
        let mut bytes = vec![0; index(most.min(size))];
        let start = size - bytes.len() as u64;
        file.read_exact_at(&mut bytes, start)
            .map_err(VolumeError::io("reading a pack"))?;
        let footer = Self::parse(&bytes, channel, root);
        Ok(footer.filter(|footer| footer.file_bytes() == size))
    }

    fn parse(bytes: &[u8], channel: &ChannelId, root: &RootHash) -> Option<Self> {
        const WHAT: &str = "pack footer";
        let (before, fields) = bytes.split_at_checked(bytes.len().checked_sub(64)?)?;
        let mut reader = Reader::new(fields);
        if reader.array(WHAT).ok()? != Self::MAGIC {
            return None;
        }
        let form = match reader.array(WHAT).ok()? {
            [Self::VERSION, 0, 0, 0, 0, 0, 0, 0] => Form::Whole,
            [Self::VERSION, 1, 0, 0, 0, 0, 0, 0] => Form::Compact,
            _ => return None,
        };
        let length = reader.u64(WHAT).ok()?;
        let root_length = ObjectRef {
            root: *root,
            length,
        };
        check_length(&root_length).ok()?;
        let map = before.len().checked_sub(index(map_bytes(length)))?;
        let signed = &bytes[map..bytes.len() - 32];
        if Self::sum(signed, channel, root) != bytes[bytes.len() - 32..] {
            return None;
        }
        let groups = group_count(length);
        let mut held = LiveMap::empty(groups);
        let has = |group: u32| before[map + group as usize / 8] & (1 << (group % 8)) != 0;
        let mut group = 0;
        while group < groups {
            let end = (group..groups).find(|&end| !has(end)).unwrap_or(groups);
            if end > group {
                held.insert(group..end).ok()?;
            }
            group = end + 1;
        }
        Some(Self { length, held, form })
    }

    /// Returns how long the file must be.
    fn file_bytes(&self) -> u64 {
        let pack = ObjectRef {
            root: RootHash::NONE,
            length: self.length,
        };
        payload_bytes(&pack, &self.held, self.form) + tail_bytes(self.length)
    }
}

fn payload_bytes(pack: &ObjectRef, held: &LiveMap, form: Form) -> u64 {
    match form {
        Form::Whole => pack.length,
        Form::Compact => held.live_bytes(pack.length),
    }
}

/// Returns how many bytes follow the payload of a pack of `length` bytes.
const fn tail_bytes(length: u64) -> u64 {
    outboard_bytes(length) + map_bytes(length) + Footer::FIELDS_BYTES as u64
}

const fn map_bytes(length: u64) -> u64 {
    groups(length).div_ceil(8)
}

/// Returns how long the pack is whose whole form is `size` bytes long.
fn whole_length(size: u64) -> Option<u64> {
    // Longer packs have longer files, so it can be looked for by halves. Packs are made of whole blocks.
    let (mut least, mut most) = (1, PACK_BYTES_MAX / BLOCK_BYTES);
    while least < most {
        let middle = least.midpoint(most);
        let length = middle * BLOCK_BYTES;
        if length + tail_bytes(length) < size {
            least = middle + 1;
        } else {
            most = middle;
        }
    }
    let length = least * BLOCK_BYTES;
    (length + tail_bytes(length) == size).then_some(length)
}

fn group_start(group: u32) -> u64 {
    u64::from(group) * GROUP_BYTES
}

/// Returns where a run of groups that ends before `group` ends, in bytes; the last group may be short.
fn run_end(pack: &ObjectRef, group: u32) -> u64 {
    group_start(group).min(pack.length)
}

#[cfg(test)]
mod tests;
