//! Reading one file as it was found: what is read belongs to the file that was looked at, whole and unchanged, or it is not taken.
//!
//! A file is opened without following a link, read, and looked at again: device, inode, length, times must be those of the scan. So a file
//! that was replaced meanwhile, by a link or by another, is not taken for it; one that changed is told and read again.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    sync::Arc,
    thread::sleep,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use maimo_vault::{
    chunker::{CHUNK_BYTES_MAX, Chunker, Gear},
    journal::metadata::{
        FileTime, Metadata, XATTR_NAME_BYTES_MAX, XATTR_VALUE_BYTES_MAX, XATTRS_MAX,
    },
};
use rustix::{
    buffer::spare_capacity,
    fs::{CWD, Mode, OFlags, SeekFrom, fgetxattr, flistxattr, lgetxattr, llistxattr, openat, seek},
    io::{Errno, pread, read},
};

use crate::{
    local_stat::LocalStat,
    progress::{Control, Event},
    scan::{
        compare::{Candidate, told},
        stat::{FileStat, Kind},
        walk::FolderPath,
    },
};

/// How far apart two times that a file system tells apart may be.
const TICK_NANOS: i128 = 10_000_000;
const SECONDS_NANOS: i128 = 2_000_000_000;
/// How often a file that changes while it is read is read in all.
const ATTEMPTS: u32 = 3;
/// How long a file may become that was short when it was found, and is read at once.
const GROWN_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// How many bytes of a long file are read by one call.
const READ_BYTES: usize = 2 * 1024 * 1024;

/// Room for what is not cut yet, which is less than a chunk, and as much again before anything has to be moved.
const BUFFER_BYTES: usize = 2 * CHUNK_BYTES_MAX + READ_BYTES;

/// Why a file is not stored: a clause for its reader.
pub(super) type Failure = String;

/// What came with a file's bytes.
pub(super) struct Read {
    /// Beside the content.
    pub(super) metadata: Metadata,
    /// How it was found, if that is surely told from what may come.
    pub(super) local: Option<LocalStat>,
}

/// Opens files, keeping the folder of the last one open.
#[derive(Default)]
pub(super) struct Opener {
    folder: Option<(Arc<FolderPath>, OwnedFd)>,
}

impl Opener {
    fn folder(&mut self, path: &Arc<FolderPath>) -> Result<BorrowedFd<'_>, Errno> {
        let known = self.folder.as_ref();
        if known.is_none_or(|(known, _)| !Arc::ptr_eq(known, path)) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let fd = openat(CWD, path.as_path(), flags, Mode::empty())?;
            self.folder = Some((Arc::clone(path), fd));
        }
        match &self.folder {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(Errno::BADF),
        }
    }

    /// Opens a folder anew, which must not be a link: what was put in its place since the walk saw it is not what was to be stored.
    fn folder_itself(&mut self, path: &Arc<FolderPath>) -> Result<BorrowedFd<'_>, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.folder = None;
        let fd = openat(CWD, path.as_path(), flags, Mode::empty())?;
        let kept = self.folder.insert((Arc::clone(path), fd));
        Ok(kept.1.as_fd())
    }

    fn open(&mut self, candidate: &Candidate) -> Result<OwnedFd, Errno> {
        // Without waiting, lest a named pipe that took a file's place hold everything up.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        openat(
            self.folder(&candidate.folder)?,
            &candidate.name,
            flags,
            Mode::empty(),
        )
    }

    /// Appends a short file's bytes to `out`.
    pub(super) fn read_short(
        &mut self,
        candidate: &mut Candidate,
        control: &Control,
        out: &mut Vec<u8>,
    ) -> Result<Read, Failure> {
        let start = out.len();
        self.attempt(candidate, control, |fd, stat| {
            out.truncate(start);
            if stat.size > GROWN_BYTES_MAX {
                return Ok(false);
            }
            // One byte more than there should be: a read that comes back shorter has met the end.
            let size = usize::try_from(stat.size).unwrap_or(usize::MAX);
            out.reserve(size + 1);
            loop {
                let before = out.len();
                let wanted = start + size + 1 - before;
                let count = read(fd, spare_capacity(out))?;
                // The reserve may be longer than asked for.
                out.truncate(start + size + 1);
                if count == 0 || count < wanted || out.len() > start + size {
                    break;
                }
            }
            Ok(out.len() == start + size)
        })
    }

    /// Reads a long file and cuts it: `emit` gets its chunks in order, `again` is told to forget them.
    ///
    /// Returns the whole content's hash. The error of `emit` ends it, as `Err(Ok(..))`.
    pub(super) fn read_long<E>(
        &mut self,
        candidate: &mut Candidate,
        gear: &Gear,
        control: &Control,
        buffer: &mut Vec<u8>,
        mut emit: impl FnMut(Part<'_>) -> Result<(), E>,
    ) -> Result<([u8; 32], Read), Result<E, Failure>> {
        let mut hash = [0; 32];
        let mut stopped = None;
        let mut began = false;
        let outcome = self.attempt(candidate, control, |fd, stat| {
            let mut parts = |part: Part<'_>| emit(part).map_err(|error| stopped = Some(error));
            if began && parts(Part::Again).is_err() {
                return Ok(true);
            }
            began = true;
            let mut hasher = blake3::Hasher::new();
            let mut chunker = Chunker::new(gear);
            let mut extents = Extents::new(fd, stat);
            buffer.resize(BUFFER_BYTES, 0);
            let (mut start, mut end, mut at) = (0, 0, 0_u64);
            loop {
                let is_end = at == stat.size;
                if let Some(length) = chunker.next_cut(&buffer[start..end], is_end) {
                    if parts(Part::Chunk(&buffer[start..start + length])).is_err() {
                        return Ok(true);
                    }
                    start += length;
                    continue;
                }
                if is_end {
                    break;
                }
                // What is left moves to the front when there is no room behind it.
                if end + READ_BYTES > BUFFER_BYTES {
                    buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                let count = extents.read(at, &mut buffer[end..end + READ_BYTES])?;
                if count == 0 {
                    return Ok(false);
                }
                hasher.update(&buffer[end..end + count]);
                end += count;
                at += count as u64;
            }
            hash = *hasher.finalize().as_bytes();
            Ok(true)
        });
        if let Some(error) = stopped {
            return Err(Ok(error));
        }
        outcome.map(|read| (hash, read)).map_err(Err)
    }

    /// Opens a file, lets `content` read it, and sees that it is what it was when it was looked at: up to three times.
    ///
    /// `content` returns whether it read as much as there should be.
    fn attempt(
        &mut self,
        candidate: &mut Candidate,
        control: &Control,
        mut content: impl FnMut(BorrowedFd<'_>, &FileStat) -> Result<bool, Errno>,
    ) -> Result<Read, Failure> {
        let failure = |errno| match errno {
            Errno::LOOP | Errno::NOTDIR => "was replaced by a link while it was stored".to_owned(),
            errno => told(errno),
        };
        for attempt in 1.. {
            let fd = self.open(candidate).map_err(failure)?;
            let stat = candidate.stat;
            let local = rested(&stat.local);
            let is_whole = content(fd.as_fd(), &stat).map_err(failure)?;
            let after = FileStat::of(fd.as_fd(), c"").map_err(failure)?;
            if is_whole && after.is_still(&stat) {
                let has_holes = stat.allocated < stat.size
                    && seek(&fd, SeekFrom::Hole(0)).is_ok_and(|hole| hole < stat.size);
                let mut metadata = metadata(&stat, xattrs(&Named::Open(fd.as_fd())));
                metadata.sparse = has_holes;
                return Ok(Read { metadata, local });
            }
            if attempt == ATTEMPTS {
                return Err("keeps changing while it is read".to_owned());
            }
            // Another file may have taken its name, which is taken instead: but not one that a link in the folder's place leads to.
            let folder = self.folder_itself(&candidate.folder).map_err(failure)?;
            let again = FileStat::of(folder, &candidate.name).map_err(failure)?;
            if again.kind != Kind::Regular {
                return Err("was replaced by something else while it was stored".to_owned());
            }
            if stat.size <= GROWN_BYTES_MAX && again.size > GROWN_BYTES_MAX {
                return Err("grew while it was read".to_owned());
            }
            candidate.stat = again;
            control.tell(Event::Trouble {
                path: candidate.path(),
                message: "changed while it was read; it is read again".to_owned(),
            });
        }
        unreachable!("the last attempt returns")
    }
}

/// What a long file is made of.
pub(super) enum Part<'a> {
    /// Its next chunk.
    Chunk(&'a [u8]),
    /// It has changed: what came so far is not of it.
    Again,
}

/// A file's runs of data and holes: holes are not read.
struct Extents<'f> {
    fd: BorrowedFd<'f>,
    size: u64,
    may_have_holes: bool,
    /// Until where the run goes that was found last, and whether it is a hole.
    run: (u64, bool),
}

impl<'f> Extents<'f> {
    const fn new(fd: BorrowedFd<'f>, stat: &FileStat) -> Self {
        Self {
            fd,
            size: stat.size,
            may_have_holes: stat.allocated < stat.size,
            run: (0, false),
        }
    }

    /// Fills `out` from `at` on, as far as it goes, with zeros for holes; returns 0 where the file has ended.
    fn read(&mut self, at: u64, out: &mut [u8]) -> Result<usize, Errno> {
        if at >= self.run.0 {
            self.run = self.run_at(at)?;
        }
        let (until, is_hole) = self.run;
        let count = usize::try_from(until - at).map_or(out.len(), |left| left.min(out.len()));
        if is_hole {
            out[..count].fill(0);
            return Ok(count);
        }
        pread(self.fd, &mut out[..count], at)
    }

    fn run_at(&self, at: u64) -> Result<(u64, bool), Errno> {
        if !self.may_have_holes {
            return Ok((self.size, false));
        }
        match seek(self.fd, SeekFrom::Data(at)) {
            Ok(data) if data > at => Ok((data.min(self.size), true)),
            Ok(_) => Ok((seek(self.fd, SeekFrom::Hole(at))?.min(self.size), false)),
            // No data from here to the end.
            Err(Errno::NXIO) => Ok((self.size, true)),
            // A file system that knows no holes.
            Err(Errno::INVAL) => Ok((self.size, false)),
            Err(errno) => Err(errno),
        }
    }
}

/// Returns what a record says of a path beside its content.
pub(super) fn metadata(stat: &FileStat, xattrs: Vec<(Vec<u8>, Vec<u8>)>) -> Metadata {
    Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        modified: stat.modified,
        created: stat.created,
        xattrs,
        sparse: false,
    }
}

/// Waits until a change would show, and returns the local stat then.
///
/// File systems tell time by ticks: what is read in the tick of its last change could change once more and look the same. The wait is a tick
/// at most, and one for all files that changed before it. Where a file system counts seconds it is not made: nothing is returned.
fn rested(local: &LocalStat) -> Option<LocalStat> {
    if let Some(age) = age_nanos(local)
        && let Ok(left) = u64::try_from(TICK_NANOS - age)
        && local.changed.nanos != 0
        && age >= 0
    {
        sleep(Duration::from_nanos(left + 1));
    }
    settled(local)
}

/// Returns the local stat, unless a change in this very moment would leave it as it is.
///
/// Without it the next scan reads the file again. A time without a fraction comes from a file system that counts seconds.
pub(super) fn settled(local: &LocalStat) -> Option<LocalStat> {
    let tick = if local.changed.nanos == 0 {
        SECONDS_NANOS
    } else {
        TICK_NANOS
    };
    (age_nanos(local)? > tick).then_some(*local)
}

/// Returns how long ago the last change was.
fn age_nanos(local: &LocalStat) -> Option<i128> {
    let FileTime { seconds, nanos } = local.changed;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let now = i128::try_from(now.as_nanos()).ok()?;
    Some(now - i128::from(seconds) * 1_000_000_000 - i128::from(nanos))
}

/// A path whose attributes are read.
pub(super) enum Named<'a> {
    /// By what is open.
    Open(BorrowedFd<'a>),
    /// By its path, no link followed at its end.
    At(&'a Path),
}

/// Reads extended attributes, ascending by name. Most files have none: one call says so. Those that cannot be read are left out.
pub(super) fn xattrs(of: &Named<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut small = [0_u8; 256];
    let list = |buffer: &mut [u8]| match of {
        Named::Open(fd) => flistxattr(*fd, buffer),
        Named::At(path) => llistxattr(*path, buffer),
    };
    let names = match list(&mut small) {
        Ok(0) => return Vec::new(),
        Ok(length) => small[..length].to_vec(),
        Err(Errno::RANGE) => {
            // The longest list that Linux returns.
            let mut large = vec![0; 64 * 1024];
            let length = list(&mut large).unwrap_or(0);
            large.truncate(length);
            large
        }
        Err(_) => return Vec::new(),
    };
    let mut value = vec![0; XATTR_VALUE_BYTES_MAX];
    let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for name in names.split(|byte| *byte == 0) {
        if name.is_empty() || name.len() > XATTR_NAME_BYTES_MAX {
            continue;
        }
        let length = match of {
            Named::Open(fd) => fgetxattr(*fd, name, &mut value[..]),
            Named::At(path) => lgetxattr(*path, name, &mut value[..]),
        };
        if let Ok(length) = length {
            found.push((name.to_vec(), value[..length].to_vec()));
        }
    }
    found.sort_unstable();
    found.dedup_by(|(one, _), (other, _)| one == other);
    found.truncate(usize::try_from(XATTRS_MAX).unwrap_or(usize::MAX));
    found
}
