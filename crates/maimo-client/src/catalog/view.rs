//! What the catalog answers with: plain values.

use maimo_core::clock::Timestamp;
use maimo_vault::{
    journal::{
        batch::Stamp,
        content::Content,
        metadata::{FileTime, Metadata},
        state::{Dictionary, Presence},
    },
    name::{ChunkId, RecordId, SourceId},
    path::StorePath,
};

use crate::local_stat::LocalStat;

/// A folder of one source, as the catalog numbers them. Means nothing in another catalog, or after a reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FolderId(pub(crate) i64);

/// What kind of thing a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A regular file.
    Regular = 0,
    /// A folder.
    Folder = 1,
    /// A symbolic link.
    Symlink = 2,
    /// Another name of a file.
    HardLink = 3,
    /// A named pipe.
    Fifo = 4,
    /// A device node.
    Device = 5,
}

impl Kind {
    pub(super) const fn of_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Regular,
            1 => Self::Folder,
            2 => Self::Symlink,
            3 => Self::HardLink,
            4 => Self::Fifo,
            5 => Self::Device,
            _ => return None,
        })
    }
}

/// What a scan is told of a path: its newest revision, which is kept. A path whose newest revision is not kept is as good as unknown: to
/// say of it that it was found again would keep nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEntry {
    /// The last component.
    pub name: Vec<u8>,
    /// The revision.
    pub id: RecordId,
    /// What it is.
    pub kind: Kind,
    /// Length in bytes: of a regular file's content, of a symlink's target, else 0.
    pub size: u64,
    /// When the content last changed.
    pub modified: FileTime,
    /// How this machine found it when it last looked, if it did.
    pub local: Option<LocalStat>,
    /// Whether it is there.
    pub presence: Presence,
    /// What is below it, where the catalog has anything.
    pub folder: Option<FolderId>,
}

/// A revision of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revision {
    /// Where it stands; its name is `stamp.id`.
    pub stamp: Stamp,
    /// The machine.
    pub source: SourceId,
    /// The path there.
    pub path: StorePath,
    /// What the file system said.
    pub metadata: Metadata,
    /// What was there.
    pub content: Content,
    /// Whether it is kept.
    pub kept: bool,
}

/// A path as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The revision shown: the newest kept one, or the one of the time asked for.
    pub revision: Revision,
    /// Its number: a path's kept revisions are numbered from 1, the oldest first. A prune that lets go of older ones moves the numbers down.
    pub number: u64,
    /// How many revisions of the path are kept.
    pub revisions: u64,
    /// Whether it is there; for a time asked for, always `Present` or `Evicted` as it was then.
    pub presence: Presence,
}

/// A revision in its path's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The revision.
    pub revision: Revision,
    /// Its number, as in [`Listed::number`].
    pub number: u64,
    /// When the run that stored it began, where one is known.
    pub stored: Option<Timestamp>,
}

/// A run that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunInfo {
    /// Its name.
    pub id: RecordId,
    /// Where its first record stands.
    pub begun: Stamp,
    /// The machine whose files it stored.
    pub source: SourceId,
    /// When it began.
    pub time: Timestamp,
    /// How it ended, if it completed.
    pub end: Option<RunEnd>,
    /// Whether it is kept: not dropped, or pinned.
    pub kept: bool,
    /// Whether it is pinned.
    pub pinned: bool,
}

/// A dictionary as the newest record of it has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DictionaryVersion {
    /// Its name.
    pub id: ChunkId,
    /// What is known of it.
    pub known: Dictionary,
    /// The store sequence of the commit that brought that record.
    pub sequence: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEnd {
    /// Where its last record stands.
    pub stamp: Stamp,
    /// When.
    pub time: Timestamp,
    /// How many files it saw.
    pub files: u64,
    /// How many bytes it added, sealed.
    pub bytes_stored: u64,
}

/// What became of a path between two runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The machine.
    pub source: SourceId,
    /// The path there.
    pub path: StorePath,
    /// As the first run left it.
    pub before: Option<Revision>,
    /// As the second run left it.
    pub after: Option<Revision>,
}
