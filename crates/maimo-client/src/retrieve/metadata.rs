//! Putting back what a file system says of a path. Creation times cannot be set, so they are not.

use std::{io, os::fd::AsFd};

use maimo_vault::journal::metadata::{FileTime, Metadata};
use rustix::{
    fs::{
        AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chownat, fchmod,
        fchown, fsetxattr, futimens, utimensat,
    },
    process::{getegid, geteuid},
};

/// Whose files this process makes, and whether it may give them to others.
pub(super) struct Owner {
    is_root: bool,
    uid: u32,
    gid: u32,
}

impl Owner {
    pub(super) fn of_process() -> Self {
        Self {
            is_root: geteuid().is_root(),
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
        }
    }

    pub(super) const fn is_root(&self) -> bool {
        self.is_root
    }

    fn is_own(&self, metadata: &Metadata) -> bool {
        (metadata.uid, metadata.gid) == (self.uid, self.gid)
    }
}

/// Gives an open file or folder its attributes, owner, mode and time, in this order: a change of owner takes set-id bits away, and the
/// mode may forbid what comes before it.
///
/// # Errors
///
/// The first thing that failed, once all the others were done.
pub(super) fn apply(
    fd: impl AsFd,
    metadata: &Metadata,
    owner: &Owner,
    may_differ: bool,
) -> io::Result<()> {
    let fd = fd.as_fd();
    let mut first = Ok(());
    for (name, value) in &metadata.xattrs {
        let set = fsetxattr(fd, &name[..], value, XattrFlags::empty());
        first = first.and(set.map_err(|error| attribute_error(name, error)));
    }
    let is_own = owner.is_own(metadata);
    if owner.is_root && (may_differ || !is_own) {
        let (uid, gid) = ids(metadata);
        let set = fchown(fd, uid, gid);
        first = first.and(set.map_err(|error| part_error("owner", error)));
    }
    let mut mode = metadata.mode & 0o7777;
    if !owner.is_root && !is_own {
        // To run as whoever retrieves it is not what these bits said.
        mode &= 0o1777;
    }
    let set = fchmod(fd, Mode::from_raw_mode(mode));
    first = first.and(set.map_err(|error| part_error("mode", error)));
    let set = futimens(fd, &times(metadata));
    first.and(set.map_err(|error| part_error("modification time", error)))
}

/// Gives what stands at a name in a folder its owner and time, a symbolic link itself and not what it leads to.
pub(super) fn apply_at(
    folder: impl AsFd,
    name: &[u8],
    metadata: &Metadata,
    owner: &Owner,
) -> io::Result<()> {
    let folder = folder.as_fd();
    let mut first = Ok(());
    if owner.is_root {
        let (uid, gid) = ids(metadata);
        let set = chownat(folder, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW);
        first = set.map_err(|error| part_error("owner", error));
    }
    let set = utimensat(folder, name, &times(metadata), AtFlags::SYMLINK_NOFOLLOW);
    first.and(set.map_err(|error| part_error("modification time", error)))
}

fn ids(metadata: &Metadata) -> (Option<Uid>, Option<Gid>) {
    // All ones means "leave it" to the system.
    let known = |id: &u32| *id != u32::MAX;
    (
        Some(metadata.uid).filter(known).map(Uid::from_raw),
        Some(metadata.gid).filter(known).map(Gid::from_raw),
    )
}

fn times(metadata: &Metadata) -> Timestamps {
    let FileTime { seconds, nanos } = metadata.modified;
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}

fn part_error(what: &str, error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(
        error.kind(),
        format!("its {what} could not be set: {error}"),
    )
}

fn attribute_error(name: &[u8], error: rustix::io::Errno) -> io::Error {
    let name = String::from_utf8_lossy(name);
    part_error(&format!("extended attribute {name}"), error)
}
