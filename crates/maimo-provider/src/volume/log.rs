//! [`Log`]: all that a volume holds and that has no file of its own, one entry after the other.
//!
//! ```text
//!   log/<number>-<generation>      segments: ascending numbers are the order in which entries were appended
//! ```
//!
//! Entries are appended to the last segment and never changed. What has become useless is left out when a segment is rewritten
//! ([`Log::compact`]): as its next generation, beside it, so that entries keep their order and old positions stay readable until the
//! ledger knows the new ones ([`Log::moves`], [`Log::discard`]). Each step may be cut off and done again.
//!
//! Invariants: a position is never given to another entry. What [`Log::sync`] returned `Ok` for comes back from [`Log::replay`], or
//! damage is told in its place. No bytes of a client's are ever taken for an entry: see [`entry`].

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use self::entry::{Found, HEADER_BYTES, Header, SegmentName};
use super::{VolumeError, disk::Disk, lock, marker::Marker};

mod compact;
mod entry;
mod replay;

pub use self::{
    entry::{LogEntry, LogPosition, OwnedEntry},
    replay::{Replay, Replayed},
};

/// An append-only log in segments. Several threads may append, sync and read at once.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    key: [u8; 32],
    disk: Arc<Disk>,
    state: Mutex<State>,
    /// Held while an fsync runs, so that those who wait for it find their entries durable, too.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    /// The generations of each segment, ascending.
    segments: BTreeMap<u32, Vec<u8>>,
    /// The last segment once something is to be appended: until then its end is not known.
    writer: Option<Writer>,
    /// Some position up to which the last segment was read and found sound.
    known: Option<LogPosition>,
    /// Files that stay open for reading, the one used last at the end.
    open: Vec<(SegmentName, Arc<File>)>,
}

#[derive(Debug, Clone)]
struct Writer {
    segment: SegmentName,
    file: Arc<File>,
    end: u32,
    /// Up to where this process synced it.
    synced: u32,
    /// Where it ended when this process came to it.
    found: u32,
}

impl Log {
    pub(super) const FOLDER: &str = "log";
    /// How long a segment grows, in bytes, if no single entry is longer.
    pub const SEGMENT_BYTES: u32 = 16 * 1024 * 1024;
    /// How long an entry's body may be, in bytes.
    pub const BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
    /// How many segments stay open for reading.
    const OPEN_MAX: usize = 16;

    pub(super) fn open(
        folder: PathBuf,
        marker: &Marker,
        disk: Arc<Disk>,
    ) -> Result<Self, VolumeError> {
        let reading = "reading the log's folder";
        let mut segments: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for item in fs::read_dir(&folder).map_err(VolumeError::io(reading))? {
            let path = item.map_err(VolumeError::io(reading))?.path();
            if path.extension().is_some_and(|end| end == super::ASIDE) {
                disk.remove(&path)?;
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            if let Some(name) = name.and_then(SegmentName::parse) {
                segments
                    .entry(name.number)
                    .or_default()
                    .push(name.generation);
            }
        }
        for generations in segments.values_mut() {
            generations.sort_unstable();
        }
        Ok(Self {
            folder,
            key: marker.log_key(),
            disk,
            state: Mutex::new(State {
                segments,
                writer: None,
                known: None,
                open: Vec::new(),
            }),
            syncing: Mutex::new(()),
        })
    }

    /// Appends entries, together and in their order, and returns where each is. They are not durable before [`Self::sync`].
    ///
    /// # Errors
    ///
    /// [`VolumeError::TooLong`], [`VolumeError::Full`]; then none of them was appended.
    pub fn append(&self, entries: &[LogEntry<'_>]) -> Result<Vec<LogPosition>, VolumeError> {
        if let Some(long) = entries
            .iter()
            .find(|entry| entry.body.len() > Self::BODY_BYTES_MAX)
        {
            let length = long.body.len() as u64;
            return Err(VolumeError::TooLong { length });
        }
        let mut state = lock(&self.state);
        let mut positions = Vec::with_capacity(entries.len());
        let mut bytes = Vec::new();
        let mut rest = entries;
        while !rest.is_empty() {
            // As many as fit into one segment go in one write.
            let mut writer = self.writer(&mut state)?;
            let room = Self::SEGMENT_BYTES.saturating_sub(writer.end) as usize;
            let mut needed = 0;
            let mut count = rest
                .iter()
                .take_while(|entry| {
                    needed += HEADER_BYTES + entry.body.len() + entry::TAG_BYTES;
                    needed <= room
                })
                .count();
            if count == 0 {
                if writer.end > entry::SEGMENT_HEADER_BYTES {
                    self.rotate(&mut state)?;
                    continue;
                }
                count = 1;
            }
            let (now, later) = rest.split_at(count);
            bytes.clear();
            for entry in now {
                let offset = writer.end + length(&bytes);
                positions.push(writer.segment.at(offset));
                entry.encode(&self.key, writer.segment, offset, None, &mut bytes);
            }
            if let Err(error) = self.disk.write(&writer.file, &bytes, writer.end.into()) {
                // Whole entries behind the end would come back to life once the log has grown up to them.
                self.disk.cut_off(&writer.file, writer.end.into());
                return Err(error);
            }
            writer.end += length(&bytes);
            state.writer = Some(writer);
            rest = later;
        }
        Ok(positions)
    }

    /// Makes all that was appended until now durable. Threads that call it together share one fsync.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Sync`]: the volume takes nothing more until it is opened again.
    pub fn sync(&self) -> Result<(), VolumeError> {
        self.disk.check()?;
        let Some(mine) = lock(&self.state).writer.clone() else {
            return Ok(());
        };
        let _turn = lock(&self.syncing);
        let Some(writer) = lock(&self.state).writer.clone() else {
            return Ok(());
        };
        // Another segment: it was begun after mine was synced.
        if writer.segment != mine.segment || writer.synced >= mine.end {
            return Ok(());
        }
        if let Err(error) = self.disk.sync(&writer.file) {
            // Nobody was told that these are there. What of them is in the kernel's memory only must not be read as if it were on the disk.
            let _ = writer.file.set_len(writer.synced.max(writer.found).into());
            return Err(error);
        }
        if let Some(now) = &mut lock(&self.state).writer
            && now.segment == writer.segment
        {
            now.synced = now.synced.max(writer.end);
        }
        Ok(())
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where no such segment is, [`VolumeError::DamagedEntry`] where no sound entry begins.
    pub fn read(&self, position: LogPosition) -> Result<OwnedEntry, VolumeError> {
        let segment = position.segment_name();
        let file = self.file(segment)?;
        let short = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => VolumeError::DamagedEntry,
            _ => VolumeError::io("reading the log")(error),
        };
        let mut header = [0; HEADER_BYTES];
        let at = u64::from(position.offset());
        file.read_exact_at(&mut header, at).map_err(short)?;
        let header = Header::parse(&header, &self.key, segment, position.offset())
            .ok_or(VolumeError::DamagedEntry)?;
        let mut body = vec![0; header.body_bytes + entry::TAG_BYTES];
        file.read_exact_at(&mut body, at + HEADER_BYTES as u64)
            .map_err(short)?;
        if !header.proves(&body, &self.key, segment, position.offset()) {
            return Err(VolumeError::DamagedEntry);
        }
        body.truncate(header.body_bytes);
        Ok(OwnedEntry {
            position,
            kind: header.kind,
            channel: header.channel,
            body,
        })
    }

    /// Returns the entry at a position if it is the log's last and sound: then nothing has to be replayed from there.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn last_entry(&self, position: LogPosition) -> Result<Option<OwnedEntry>, VolumeError> {
        let segment = position.segment_name();
        if lock(&self.state).newest_of_last() != Some(segment) {
            return Ok(None);
        }
        let entry = match self.read(position) {
            Err(VolumeError::NotHeld | VolumeError::DamagedEntry) => return Ok(None),
            entry => entry?,
        };
        let bytes = HEADER_BYTES + entry.body.len() + entry::TAG_BYTES;
        let end = u64::from(position.offset()) + bytes as u64;
        if self.size_of(segment)? != end {
            return Ok(None);
        }
        lock(&self.state).known = Some(segment.at(u32::try_from(end).unwrap_or(u32::MAX)));
        Ok(Some(entry))
    }

    /// Begins a new segment, and returns its number: all that is appended from now on is there or later.
    ///
    /// # Errors
    ///
    /// As [`Self::append`].
    pub fn begin_anew(&self) -> Result<u32, VolumeError> {
        let mut state = lock(&self.state);
        if self.writer(&mut state)?.end > entry::SEGMENT_HEADER_BYTES {
            self.rotate(&mut state)?;
        }
        Ok(self.writer(&mut state)?.segment.number)
    }

    /// Removes all segments before the one of this number: what was in them is said again behind.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn remove_before(&self, number: u32) -> Result<(), VolumeError> {
        let mut state = lock(&self.state);
        while let Some((&first, generations)) = state.segments.first_key_value() {
            if first >= number || state.segments.len() == 1 {
                break;
            }
            for &generation in generations {
                let name = SegmentName {
                    number: first,
                    generation,
                };
                self.disk.remove(&self.path(name))?;
            }
            state.segments.remove(&first);
        }
        state.open.retain(|(name, _)| name.number >= number);
        Ok(())
    }

    /// Returns how many bytes all segments have.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn bytes(&self) -> Result<u64, VolumeError> {
        let names: Vec<SegmentName> = {
            let state = lock(&self.state);
            let numbers = state.segments.keys();
            numbers.filter_map(|&number| state.newest(number)).collect()
        };
        names.into_iter().map(|name| self.size_of(name)).sum()
    }

    /// Cuts off the torn end that a crash left, as the next append would.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn cut_torn_end(&self) -> Result<(), VolumeError> {
        let mut state = lock(&self.state);
        if !state.segments.is_empty() {
            self.writer(&mut state)?;
        }
        Ok(())
    }

    /// Returns whether no entry was ever appended.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn is_empty(&self) -> Result<bool, VolumeError> {
        let (first, count) = {
            let state = lock(&self.state);
            (state.newest_of_last(), state.segments.len())
        };
        match first {
            None => Ok(true),
            Some(first) if count == 1 => {
                Ok(self.size_of(first)? <= u64::from(entry::SEGMENT_HEADER_BYTES))
            }
            Some(_) => Ok(false),
        }
    }

    fn size_of(&self, segment: SegmentName) -> Result<u64, VolumeError> {
        let found = fs::metadata(self.path(segment));
        Ok(found.map_err(VolumeError::io("reading the log"))?.len())
    }

    /// Goes through all entries in the order in which they were appended, from a position on or from the first.
    ///
    /// All that it returns is durable before it is returned. A torn end, which no [`Self::sync`] ever covered, is passed over; damage
    /// elsewhere is told, and the next sound entry is looked for.
    ///
    /// Where the file system fails, the error is the last item.
    pub fn replay(&self, from: Option<LogPosition>) -> Replay<'_> {
        Replay::new(self, from)
    }

    /// Returns the last segment's writer, having looked for the segment's end if need be.
    fn writer(&self, state: &mut State) -> Result<Writer, VolumeError> {
        self.disk.check()?;
        if let Some(writer) = &state.writer {
            return Ok(writer.clone());
        }
        let Some(segment) = state.newest_of_last() else {
            return self.begin_segment(state, SegmentName::FIRST);
        };
        let file = self.disk.open_there(&self.path(segment))?;
        let known = state.known.filter(|known| known.segment_name() == segment);
        let mut end = known.map_or(entry::SEGMENT_HEADER_BYTES, LogPosition::offset);
        let bytes = entry::read_segment_from(&file, end as usize)?;
        entry::check_version(&bytes)?;
        if bytes.len() < entry::SEGMENT_HEADER_BYTES as usize {
            // The power went before the segment's first sync.
            self.disk
                .write(&file, &segment.encode_header(&self.key), 0)?;
        }
        loop {
            match entry::find(&bytes, end as usize, &self.key, segment) {
                Found::Entry { end: next, .. } => end = offset(next),
                // Damage that ends before the file does is told by replay; what is behind it stays.
                Found::Damage { end: next } if next < bytes.len() => end = offset(next),
                Found::Damage { .. } | Found::End => break,
            }
        }
        if bytes.len() > end as usize {
            self.disk.truncate(&file, end.into())?;
        }
        let writer = Writer {
            segment,
            file: Arc::new(file),
            end,
            synced: 0,
            found: end,
        };
        state.writer = Some(writer.clone());
        Ok(writer)
    }

    /// Ends the last segment and begins the next.
    fn rotate(&self, state: &mut State) -> Result<(), VolumeError> {
        let writer = self.writer(state)?;
        self.disk.sync(&writer.file)?;
        let next = writer.segment.next()?;
        self.begin_segment(state, next)?;
        Ok(())
    }

    fn begin_segment(
        &self,
        state: &mut State,
        segment: SegmentName,
    ) -> Result<Writer, VolumeError> {
        let path = self.path(segment);
        // Made before and not known: its folder was not durable, or its making failed half way.
        self.disk.remove(&path)?;
        let file = self.disk.create(&path)?;
        self.disk
            .write(&file, &segment.encode_header(&self.key), 0)?;
        self.disk.sync_folder(&self.folder)?;
        let generations = vec![segment.generation];
        state.segments.insert(segment.number, generations);
        let writer = Writer {
            segment,
            file: Arc::new(file),
            end: entry::SEGMENT_HEADER_BYTES,
            synced: 0,
            found: entry::SEGMENT_HEADER_BYTES,
        };
        state.writer = Some(writer.clone());
        Ok(writer)
    }

    fn path(&self, segment: SegmentName) -> PathBuf {
        self.folder.join(segment.to_string())
    }

    fn file(&self, segment: SegmentName) -> Result<Arc<File>, VolumeError> {
        let mut state = lock(&self.state);
        if !state.has(segment) {
            return Err(VolumeError::NotHeld);
        }
        let open = &mut state.open;
        let file = match open.iter().rposition(|(name, _)| *name == segment) {
            Some(at) => open.remove(at).1,
            None => Arc::new(
                File::open(self.path(segment)).map_err(VolumeError::io("opening the log"))?,
            ),
        };
        if open.len() == Self::OPEN_MAX {
            open.remove(0);
        }
        open.push((segment, Arc::clone(&file)));
        Ok(file)
    }
}

impl State {
    fn newest(&self, number: u32) -> Option<SegmentName> {
        let generation = *self.segments.get(&number)?.last()?;
        Some(SegmentName { number, generation })
    }

    fn newest_of_last(&self) -> Option<SegmentName> {
        self.newest(*self.segments.last_key_value()?.0)
    }

    fn has(&self, segment: SegmentName) -> bool {
        let generations = self.segments.get(&segment.number);
        generations.is_some_and(|all| all.contains(&segment.generation))
    }
}

/// Segments are far shorter than 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn length(bytes: &[u8]) -> u32 {
    offset(bytes.len())
}

#[cfg(test)]
mod tests;
