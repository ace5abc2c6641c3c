//! The folder that files are written under, and the folders below it: opened so that nothing can lead out of it.
//!
//! Every step goes by one name relative to an open folder and follows no link, so a symbolic link in the way, or one put there meanwhile,
//! is an error and never a way out. Folders get their own metadata when the last file below them is done: a folder's time changes with
//! what is put into it, and one that nobody may write to could not be filled.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use maimo_vault::{
    journal::metadata::Metadata,
    path::{Prefix, StorePath},
};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, fchmod, flock, fstat, mkdirat,
        openat, unlinkat,
    },
    io::Errno,
};

use super::{Outcome, metadata};
use crate::error::ClientError;

/// What names of files that are not whole yet begin with; sixteen hexadecimal digits follow.
const PARTIAL: &[u8] = b".maimo-partial-";

/// The folder that files are written under.
pub(super) struct Target {
    root: OwnedFd,
    path: PathBuf,
    /// Whether nobody else retrieves into it, as far as a lock can tell: only then are leftovers of a killed run known to be such.
    is_alone: bool,
    pub(super) overwrite: bool,
    pub(super) owner: metadata::Owner,
    /// The first number that this run gives, and how many it gave.
    partial: (u64, AtomicU64),
    pub(super) outcome: Arc<Outcome>,
}

impl Target {
    /// Opens the folder, and makes it if it is not there. What leads to it is the caller's word and may be a link.
    ///
    /// # Errors
    ///
    /// It cannot be made or opened; another process retrieves into it.
    pub(super) fn open(
        path: &Path,
        overwrite: bool,
        outcome: Arc<Outcome>,
    ) -> Result<Self, ClientError> {
        fs::create_dir_all(path).map_err(ClientError::io("make the folder", path))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| ClientError::io("open the folder", path)(error.into()))?;
        let is_alone = match flock(&root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => true,
            Err(Errno::WOULDBLOCK) => {
                return Err(ClientError::Input {
                    message: format!("another process retrieves into {}", path.display()),
                    hint: Some("wait until it is done, or choose another folder"),
                });
            }
            // A file system without locks.
            Err(_) => false,
        };
        let mut seed = [0; 8];
        // Only to keep apart from names that are there: any number does.
        let _ = getrandom::fill(&mut seed);
        Ok(Self {
            root,
            path: path.to_owned(),
            is_alone,
            overwrite,
            owner: metadata::Owner::of_process(),
            partial: (u64::from_le_bytes(seed), AtomicU64::new(0)),
            outcome,
        })
    }

    /// Returns a name that no file has.
    pub(super) fn partial_name(&self) -> Vec<u8> {
        let (first, given) = &self.partial;
        let number = first.wrapping_add(given.fetch_add(1, Ordering::Relaxed));
        let mut name = PARTIAL.to_vec();
        name.extend_from_slice(format!("{number:016x}").as_bytes());
        name
    }

    /// Returns where a stored path goes, for people.
    pub(super) fn display(&self, path: &StorePath) -> PathBuf {
        let mut shown = self.path.clone();
        for name in components(path) {
            shown.push(OsStr::from_bytes(&name));
        }
        shown
    }

    /// Returns whether a name is one that another run gave to a file that is not whole.
    fn is_leftover(&self, name: &[u8]) -> bool {
        let Some(digits) = name.strip_prefix(PARTIAL) else {
            return false;
        };
        let number = std::str::from_utf8(digits).ok();
        let number = number.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let (first, given) = &self.partial;
        digits.len() == 16
            && number
                .is_some_and(|number| number.wrapping_sub(*first) >= given.load(Ordering::Relaxed))
    }

    /// Returns the target's own path, for people.
    pub(super) fn display_top(&self) -> &Path {
        &self.path
    }

    /// Opens the target as the first of its folders.
    pub(super) fn top(self: &Arc<Self>) -> io::Result<Arc<Folder>> {
        let fd = self.root.try_clone()?;
        let folder = Folder::new(Arc::clone(self), fd, self.path.clone(), false)?;
        Ok(Arc::new(folder))
    }
}

/// Returns the names that a stored path goes by below the target: a Windows prefix becomes the first.
pub(super) fn components(path: &StorePath) -> Vec<Vec<u8>> {
    let mut names = Vec::with_capacity(path.components().len() + 1);
    if let Prefix::Windows(prefix) = path.prefix() {
        names.push(prefix.clone());
    }
    names.extend_from_slice(path.components());
    names
}

/// Returns an error for a name that is not one: `StorePath` refuses all of these, but not of a Windows prefix, and this is the last door.
pub(super) fn check_name(name: &[u8]) -> io::Result<()> {
    let bad = name.is_empty()
        || name == b"."
        || name == b".."
        || name.iter().any(|byte| matches!(byte, 0 | b'/'));
    if bad {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "this name cannot be one here",
        ));
    }
    Ok(())
}

/// An open folder below the target.
pub(super) struct Folder {
    fd: OwnedFd,
    pub(super) target: Arc<Target>,
    pub(super) path: PathBuf,
    /// Whether it was made in this run: then nothing is in it but what this run put there.
    pub(super) is_fresh: bool,
    /// Whether what is made in it gets its group.
    pub(super) hands_down_group: bool,
    /// What it becomes once all below it is done.
    finish: OnceLock<Metadata>,
}

impl Folder {
    fn new(target: Arc<Target>, fd: OwnedFd, path: PathBuf, is_fresh: bool) -> io::Result<Self> {
        let mode = fstat(&fd)?.st_mode;
        let folder = Self {
            fd,
            target,
            path,
            is_fresh,
            hands_down_group: mode & 0o2000 != 0,
            finish: OnceLock::new(),
        };
        if !is_fresh && folder.target.is_alone {
            folder.clean()?;
        }
        Ok(folder)
    }

    /// Opens a folder in this one by its name, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// Something else is there, a symbolic link above all; or the system's.
    pub(super) fn enter(&self, name: &[u8]) -> io::Result<Arc<Self>> {
        check_name(name)?;
        // Nobody else looks in before it has the mode it should.
        let make = || match mkdirat(&self.fd, name, Mode::RWXU) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(error) => Err(error),
        };
        let is_fresh = match make() {
            // An earlier run finished it, and could not put all into it.
            Err(Errno::ACCESS) if self.unlock_until_finished() => make()?,
            other => other?,
        };
        self.open(name, is_fresh)
    }

    /// Opens a folder in this one that is there.
    pub(super) fn open(&self, name: &[u8], is_fresh: bool) -> io::Result<Arc<Self>> {
        check_name(name)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::LOOP | Errno::NOTDIR) => {
                let what = "something that is no folder, perhaps a symbolic link, is in the way";
                return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
            }
            Err(error) => return Err(error.into()),
        };
        let path = self.path.join(OsStr::from_bytes(name));
        let folder = Self::new(Arc::clone(&self.target), fd, path, is_fresh)?;
        Ok(Arc::new(folder))
    }

    /// Says what the folder becomes once all below it is done. Said twice, the first stands.
    pub(super) fn finish_with(&self, metadata: Metadata) {
        let _ = self.finish.set(metadata);
    }

    /// As [`Self::unlock`], for a folder that gets its mode back when it is finished; whether it is one.
    pub(super) fn unlock_until_finished(&self) -> bool {
        let is_finished_later = self.finish.get().is_some();
        if is_finished_later {
            self.unlock();
        }
        is_finished_later
    }

    /// Lets its owner put things into it.
    pub(super) fn unlock(&self) {
        // Where that fails, so will what it is for.
        let _ = fchmod(&self.fd, Mode::RWXU);
    }

    /// Removes what a killed run left of files.
    fn clean(&self) -> io::Result<()> {
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if self.target.is_leftover(name) && entry.file_type() != FileType::Directory {
                unlinkat(&self.fd, name, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What was cut off is finished by another run, which must be able to write here.
        if let Some(metadata) = self.finish.take()
            && !self.target.outcome.is_stopped()
            && let Err(error) = metadata::apply(&self.fd, &metadata, &self.target.owner, true)
        {
            self.target.outcome.trouble(&self.path, &error.to_string());
        }
    }
}

/// The folders from the target down to where the walk is.
pub(super) struct Walk {
    top: Arc<Folder>,
    stack: Vec<(Vec<u8>, Arc<Folder>)>,
}

impl Walk {
    pub(super) fn new(top: Arc<Folder>) -> Self {
        Self {
            top,
            stack: Vec::new(),
        }
    }

    /// Opens the folder of these names, and makes what is not there. `made` is called for each folder that was made, with how many
    /// of the names lead to it, and says what it is to become.
    pub(super) fn enter(
        &mut self,
        names: &[Vec<u8>],
        mut made: impl FnMut(usize) -> Option<Metadata>,
    ) -> io::Result<Arc<Folder>> {
        let pairs = self.stack.iter().zip(names);
        let shared = pairs.take_while(|((here, _), name)| here == *name).count();
        self.stack.truncate(shared);
        for (depth, name) in names.iter().enumerate().skip(shared) {
            let folder = self.here().enter(name)?;
            if folder.is_fresh
                && let Some(metadata) = made(depth + 1)
            {
                folder.finish_with(metadata);
            }
            self.stack.push((name.clone(), folder));
        }
        Ok(Arc::clone(self.here()))
    }

    fn here(&self) -> &Arc<Folder> {
        self.stack.last().map_or(&self.top, |(_, folder)| folder)
    }
}
