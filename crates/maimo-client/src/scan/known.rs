//! [`KnownTree`]: what the store knows of this machine's paths, in walk order.

use maimo_vault::{
    journal::{
        content::Content,
        metadata::{FileTime, Metadata},
        state::Presence,
    },
    name::RecordId,
    path::StorePath,
};

use super::stat::Kind;
use crate::{error::ClientError, local_stat::LocalStat};

/// Names a folder under which something is known, for as long as one [`KnownTree`] lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KnownFolder(pub i64);

/// A name in a known folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownEntry {
    /// The name.
    pub name: Vec<u8>,
    /// Itself as a folder, if anything below is known.
    pub folder: Option<KnownFolder>,
    /// Its newest revision; none for a folder that is only on the way to others.
    pub revision: Option<KnownRevision>,
}

/// A path's newest revision, as far as a scan looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownRevision {
    /// Its record.
    pub id: RecordId,
    /// What it was; another name of a file is [`Kind::Regular`].
    pub kind: Kind,
    /// Its length in bytes; 0 for what is no regular file.
    pub size: u64,
    /// When its content last changed.
    pub modified: FileTime,
    /// How it was found here, if it was.
    pub local: Option<LocalStat>,
    /// Whether it is there.
    pub presence: Presence,
}

/// The newest state of one source's paths.
pub trait KnownTree: Send {
    /// Returns the folder at `path`, if anything below is known.
    fn folder(&mut self, path: &StorePath) -> Result<Option<KnownFolder>, ClientError>;

    /// Returns what is known of `path` itself.
    fn entry(&mut self, path: &StorePath) -> Result<Option<KnownEntry>, ClientError>;

    /// Appends the next entries of a folder, ascending by name, from the one after `after` on: so many as suit, none at the end.
    fn children(
        &mut self,
        folder: KnownFolder,
        after: Option<&[u8]>,
        out: &mut Vec<KnownEntry>,
    ) -> Result<(), ClientError>;

    /// Returns a revision in full.
    fn revision(&mut self, id: RecordId) -> Result<Option<(Metadata, Content)>, ClientError>;
}

/// Of a source of which nothing is known yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct NothingKnown;

impl KnownTree for NothingKnown {
    fn folder(&mut self, _: &StorePath) -> Result<Option<KnownFolder>, ClientError> {
        Ok(None)
    }

    fn entry(&mut self, _: &StorePath) -> Result<Option<KnownEntry>, ClientError> {
        Ok(None)
    }

    fn children(
        &mut self,
        _: KnownFolder,
        _: Option<&[u8]>,
        _: &mut Vec<KnownEntry>,
    ) -> Result<(), ClientError> {
        Ok(())
    }

    fn revision(&mut self, _: RecordId) -> Result<Option<(Metadata, Content)>, ClientError> {
        Ok(None)
    }
}
