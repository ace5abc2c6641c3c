//! [`Disk`]: every change to a volume's files goes through here, so that one failed fsync stops all, and tests can make them fail.
//!
//! Reading does not: it changes nothing, and what it finds is checked.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use rustix::fs::FallocateFlags;

use super::VolumeError;

/// The changes a volume makes to its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    poisoned: AtomicBool,
    synced: AtomicU64,
    #[cfg(any(test, feature = "testing"))]
    pub(super) faults: super::faults::Faults,
}

impl Disk {
    /// Returns an error once an fsync has failed.
    pub(super) fn check(&self) -> Result<(), VolumeError> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(VolumeError::Poisoned);
        }
        Ok(())
    }

    /// Returns whether an fsync has failed.
    pub(super) fn is_poisoned(&self) -> bool {
        self.check().is_err()
    }

    /// Returns how many fsyncs there were, of files and of folders.
    pub(super) fn syncs(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Opens a file to read and write it, making it if it is not there.
    pub(super) fn open(&self, path: &Path) -> Result<File, VolumeError> {
        self.check()?;
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(VolumeError::io("opening a file"))
    }

    /// Opens a file that is there to read and write it.
    pub(super) fn open_there(&self, path: &Path) -> Result<File, VolumeError> {
        self.check()?;
        File::options()
            .read(true)
            .write(true)
            .open(path)
            .map_err(VolumeError::io("opening a file"))
    }

    /// Makes a file that must not be there.
    pub(super) fn create(&self, path: &Path) -> Result<File, VolumeError> {
        self.check()?;
        File::create_new(path).map_err(VolumeError::io("making a file"))
    }

    /// Makes folders, as far as they are not there.
    pub(super) fn create_folders(&self, path: &Path) -> Result<(), VolumeError> {
        self.check()?;
        fs::create_dir_all(path).map_err(VolumeError::io("making a folder"))
    }

    /// Writes bytes at an offset.
    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> Result<(), VolumeError> {
        self.check()?;
        #[cfg(any(test, feature = "testing"))]
        self.faults
            .write(file, bytes, offset)
            .map_err(VolumeError::io("writing"))?;
        file.write_all_at(bytes, offset)
            .map_err(VolumeError::io("writing"))
    }

    /// Makes a file end at `length` bytes.
    pub(super) fn truncate(&self, file: &File, length: u64) -> Result<(), VolumeError> {
        self.check()?;
        file.set_len(length)
            .map_err(VolumeError::io("setting a file's length"))
    }

    /// Takes back what an append that failed may have left behind the end of a file. Where not even that can be done, nothing more is written.
    pub(super) fn cut_off(&self, file: &File, end: u64) {
        if file.set_len(end).is_err() {
            self.poisoned.store(true, Ordering::Release);
        }
    }

    /// Makes what was written to a file durable, its length too.
    pub(super) fn sync(&self, file: &File) -> Result<(), VolumeError> {
        self.check()?;
        #[cfg(any(test, feature = "testing"))]
        self.faults.sync(file).map_err(|error| self.poison(error))?;
        self.synced.fetch_add(1, Ordering::AcqRel);
        file.sync_data().map_err(|error| self.poison(error))
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<(), VolumeError> {
        self.check()?;
        #[cfg(any(test, feature = "testing"))]
        self.faults
            .sync_folder(path)
            .map_err(|error| self.poison(error))?;
        self.synced.fetch_add(1, Ordering::AcqRel);
        File::open(path)
            .map_err(VolumeError::io("opening a folder"))?
            .sync_all()
            .map_err(|error| self.poison(error))
    }

    /// Gives a file another name, in the place of what had it.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), VolumeError> {
        self.check()?;
        #[cfg(any(test, feature = "testing"))]
        self.faults.rename(from, to);
        fs::rename(from, to).map_err(VolumeError::io("renaming a file"))
    }

    /// Removes a file, if it is there.
    pub(super) fn remove(&self, path: &Path) -> Result<(), VolumeError> {
        self.check()?;
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(VolumeError::io("removing a file")(error))
            }
            _ => Ok(()),
        }
    }

    /// Gives the room of a part of a file back; false where the file system cannot.
    pub(super) fn punch(&self, file: &File, offset: u64, length: u64) -> Result<bool, VolumeError> {
        self.check()?;
        #[cfg(any(test, feature = "testing"))]
        if !self.faults.has_holes() {
            return Ok(false);
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(file, flags, offset, length) {
            Ok(()) => Ok(true),
            Err(
                rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS | rustix::io::Errno::INVAL,
            ) => Ok(false),
            Err(error) => Err(VolumeError::io("making a hole")(error.into())),
        }
    }

    fn poison(&self, error: io::Error) -> VolumeError {
        self.poisoned.store(true, Ordering::Release);
        VolumeError::Sync(error)
    }
}
