//! Writing one file: under another name in its folder first, then by a rename once all of it is there and right.
//!
//! A file under its own name is whole, whatever happened: killed in between, there is a file of another name, which the next run removes.

use std::{
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use maimo_vault::journal::metadata::Metadata;
use rustix::{
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, ftruncate, linkat, openat, renameat,
        renameat_with, statat, unlinkat,
    },
    io::Errno,
};

use super::{
    metadata,
    target::{Folder, check_name},
};

/// The unit in which runs of zeros are left out of sparse files: a file system's block, mostly.
const HOLE_BYTES: usize = 4096;

/// What stands at a name already.
pub(super) enum There {
    /// Nothing, or something that is to be replaced.
    Free,
    /// The very file that was to be written.
    Same,
}

/// Looks what stands at a file's name. In a folder made in this run nothing does.
///
/// # Errors
///
/// Something else is there, and it is not to be replaced.
pub(super) fn look(
    folder: &Folder,
    name: &[u8],
    size: u64,
    blake3: &[u8; 32],
) -> io::Result<There> {
    check_name(name)?;
    if folder.is_fresh {
        return Ok(There::Free);
    }
    let stat = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(There::Free),
        Err(error) => return Err(error.into()),
    };
    let overwrite = folder.target.overwrite;
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            if u64::try_from(stat.st_size) == Ok(size) && is_same(folder, name, size, blake3)? {
                return Ok(There::Same);
            }
            "another file is there already, and nothing is overwritten unless told"
        }
        FileType::Directory => return Err(in_the_way("a folder of this name is in the way")),
        FileType::Symlink => "a symbolic link of this name is in the way",
        _ => "something of this name is in the way",
    };
    if overwrite {
        Ok(There::Free)
    } else {
        Err(in_the_way(what))
    }
}

pub(super) fn in_the_way(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, what)
}

/// Returns whether the file at a name has this content; what cannot be read has another.
pub(super) fn is_same(
    folder: &Folder,
    name: &[u8],
    size: u64,
    blake3: &[u8; 32],
) -> io::Result<bool> {
    // Not blocking: it may have become a pipe since it was looked at.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match openat(folder, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ACCESS | Errno::LOOP) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 128 * 1024];
    let mut file = file.take(size.saturating_add(1));
    let mut length = 0;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        hasher.update(&buffer[..read]);
    }
    Ok(length == size && hasher.finalize() == *blake3)
}

/// A file that is not whole yet. Dropped as it is, it is gone.
pub(super) struct Partial {
    folder: Arc<Folder>,
    file: File,
    name: Vec<u8>,
    is_sparse: bool,
    is_kept: AtomicBool,
}

impl Partial {
    /// Begins a file in a folder.
    pub(super) fn create(folder: &Arc<Folder>, is_sparse: bool) -> io::Result<Self> {
        let name = folder.target.partial_name();
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(folder, &name[..], flags, Mode::RUSR | Mode::WUSR);
        let fd: OwnedFd = match open() {
            // An earlier run finished it, and could not put all into it.
            Err(Errno::ACCESS) if folder.unlock_until_finished() => open()?,
            other => other?,
        };
        Ok(Self {
            folder: Arc::clone(folder),
            file: File::from(fd),
            name,
            is_sparse,
            is_kept: AtomicBool::new(false),
        })
    }

    /// Writes bytes at an offset; of a file that had holes, not the zeros.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.is_sparse {
            return self.file.write_all_at(bytes, offset);
        }
        let mut at = 0;
        for (is_zero, length) in runs(bytes, offset) {
            if !is_zero {
                self.file
                    .write_all_at(&bytes[at..at + length], offset + at as u64)?;
            }
            at += length;
        }
        Ok(())
    }

    /// Gives the file its metadata and its name. Returns what of the metadata could not be set.
    ///
    /// # Errors
    ///
    /// The name is taken by now, and nothing is overwritten; or the system's. There is no file then.
    pub(super) fn finish(
        &self,
        name: &[u8],
        size: u64,
        metadata: &Metadata,
    ) -> io::Result<Option<io::Error>> {
        if self.is_sparse {
            // The end may be a hole.
            ftruncate(&self.file, size)?;
        }
        let target = &self.folder.target;
        let may_differ = self.folder.hands_down_group;
        let missed = metadata::apply(&self.file, metadata, &target.owner, may_differ).err();
        if target.overwrite {
            renameat(&self.folder, &self.name[..], &self.folder, name)?;
        } else {
            rename_new(&self.folder, &self.name, name)?;
        }
        self.is_kept.store(true, Ordering::Relaxed);
        Ok(missed)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_kept.load(Ordering::Relaxed) {
            // What stays is removed by the next run.
            let _ = unlinkat(&self.folder, &self.name[..], AtFlags::empty());
        }
    }
}

/// Renames, unless something of the new name is there.
pub(super) fn rename_new(folder: &Folder, from: &[u8], to: &[u8]) -> io::Result<()> {
    match renameat_with(folder, from, folder, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            // A file system without this rename. A second name is as exclusive.
            let folder = folder.as_fd();
            linkat(folder, from, folder, to, AtFlags::empty())?;
            unlinkat(folder, from, AtFlags::empty())?;
            Ok(())
        }
        other => Ok(other?),
    }
}

/// Cuts bytes that stand at `offset` of a file into runs of blocks that are all zeros and others.
fn runs(bytes: &[u8], offset: u64) -> Vec<(bool, usize)> {
    let mut runs: Vec<(bool, usize)> = Vec::new();
    let into_block = usize::try_from(offset % HOLE_BYTES as u64).unwrap_or(0);
    let (head, body) = bytes.split_at((HOLE_BYTES - into_block).min(bytes.len()));
    for block in std::iter::once(head).chain(body.chunks(HOLE_BYTES)) {
        let is_zero = block.iter().all(|byte| *byte == 0);
        match runs.last_mut() {
            Some((last, length)) if *last == is_zero => *length += block.len(),
            _ => runs.push((is_zero, block.len())),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_told_from_others_by_blocks_of_the_file() {
        let mut bytes = vec![0; 3 * HOLE_BYTES];
        bytes[HOLE_BYTES + 10] = 1;
        assert_eq!(
            runs(&bytes, 0),
            [(true, HOLE_BYTES), (false, HOLE_BYTES), (true, HOLE_BYTES)]
        );
        // Seen from 100 bytes before a block's end, the one that is set lies in the block after the next.
        let lengths = runs(&bytes, HOLE_BYTES as u64 - 100);
        assert_eq!(
            lengths,
            [
                (true, 100),
                (false, HOLE_BYTES),
                (true, 2 * HOLE_BYTES - 100)
            ]
        );
    }
}
