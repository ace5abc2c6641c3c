//! [`LocalStat`]: how a path was found on this machine, beside what its revision says.
//!
//! It never leaves the machine: neither journal nor provider sees it. It only tells a scan that a path need not be read again, so to lose
//! it costs time and no more.

use maimo_vault::journal::metadata::FileTime;

/// What tells a path from another that took its place, as this machine's file system had it when it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalStat {
    /// The device number of its file system.
    pub device: u64,
    /// Its inode number there.
    pub inode: u64,
    /// When content or metadata last changed (ctime): a program cannot set it back.
    pub changed: FileTime,
}
