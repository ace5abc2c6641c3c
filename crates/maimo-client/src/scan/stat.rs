//! [`FileStat`]: what the file system says of a path without opening it.

use std::{ffi::CStr, os::fd::BorrowedFd};

use maimo_vault::journal::metadata::FileTime;
use rustix::{
    fs::{AtFlags, FileType, Statx, StatxFlags, makedev, statx},
    io::Errno,
};

use crate::local_stat::LocalStat;

/// What kind of thing a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file; a second name of one too.
    Regular,
    /// A folder.
    Folder,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A socket, or what no version of this program knows: never stored.
    Other,
}

/// What the file system says of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-id and sticky bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// How many names it has.
    pub links: u32,
    /// Length in bytes.
    pub size: u64,
    /// Bytes it takes on the disk; fewer than `size` may mean holes.
    pub allocated: u64,
    /// When its content last changed.
    pub modified: FileTime,
    /// When it was made, where the system knows.
    pub created: Option<FileTime>,
    /// The numbers of a device node.
    pub device_node: (u32, u32),
    /// Where it is and when it last changed in any way.
    pub local: LocalStat,
}

impl FileStat {
    /// Looks at `name` in the folder `folder`, or at the open file itself if `name` is empty. A symbolic link is not followed.
    pub fn of(folder: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        let flags = if name.is_empty() {
            AtFlags::EMPTY_PATH
        } else {
            AtFlags::SYMLINK_NOFOLLOW
        };
        let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        statx(folder, name, flags, mask).map(|found| Self::new(&found))
    }

    fn new(found: &Statx) -> Self {
        let mode = u32::from(found.stx_mode);
        let time = |seconds: i64, nanos: u32| FileTime { seconds, nanos };
        Self {
            kind: Kind::of(FileType::from_raw_mode(mode)),
            mode: mode & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            links: found.stx_nlink,
            size: found.stx_size,
            allocated: found.stx_blocks.saturating_mul(512),
            modified: time(found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
            created: (found.stx_mask & StatxFlags::BTIME.bits() != 0)
                .then(|| time(found.stx_btime.tv_sec, found.stx_btime.tv_nsec)),
            device_node: (found.stx_rdev_major, found.stx_rdev_minor),
            local: LocalStat {
                device: makedev(found.stx_dev_major, found.stx_dev_minor),
                inode: found.stx_ino,
                changed: time(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
            },
        }
    }

    /// Returns whether `self`, looked at later than `before`, is still the same file with the same content and metadata, as far as the file system tells.
    pub fn is_still(&self, before: &Self) -> bool {
        self.kind == before.kind
            && self.size == before.size
            && self.modified == before.modified
            && self.local == before.local
    }
}

impl Kind {
    const fn of(file_type: FileType) -> Self {
        match file_type {
            FileType::RegularFile => Self::Regular,
            FileType::Directory => Self::Folder,
            FileType::Symlink => Self::Symlink,
            FileType::Fifo => Self::Fifo,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            _ => Self::Other,
        }
    }
}
