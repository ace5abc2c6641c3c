//! The pipeline: what a scan finds new becomes chunks, packs and records.
//!
//! It reads, hashes, cuts, compresses and fills packs; it seals nothing, sends nothing and knows no catalog: what it makes goes to a
//! [`StoreSink`], in walk order whatever the order in which its threads finish.
//!
//! Invariant: when a record reaches the sink, every chunk it names is in a pack that was handed over before it, in the piece that ends the
//! run, or was known.

use std::{num::NonZeroUsize, path::PathBuf, sync::Arc};

use maimo_vault::{compress::Level, dictionary::Dictionary, name::SourceId, pack::PackSize};

mod sink;

pub use sink::{KnownChunks, StoreSink};

/// What a run is to store, and how.
#[derive(Clone)]
pub struct PipelineRequest {
    /// The machine whose paths these are.
    pub source: SourceId,
    /// What to store: files and folders, in any order, one below another or not; relative ones are taken from the working folder.
    pub paths: Vec<PathBuf>,
    /// Globs of what to leave out: without `/` they are matched against names, with a leading one against whole paths, else against ends
    /// of paths.
    pub excludes: Vec<String>,
    /// Folders never entered, whatever `paths` says: the node's home, folders that are providers.
    pub leave_out: Vec<PathBuf>,
    /// How hard to compress.
    pub level: Level,
    /// The dictionary for small chunks, if the store has one; else one is trained once there are chunks enough.
    pub dictionary: Option<Arc<Dictionary>>,
    /// How long packs grow.
    pub pack_size: PackSize,
    /// How many threads read and compress; as many as there are cores if none is said.
    pub threads: Option<NonZeroUsize>,
    /// Whether to look and count only: nothing is read but folders, and the sink is not called.
    pub dry_run: bool,
}

impl PipelineRequest {
    /// Asks for `paths`, with all else as it is by default.
    pub fn new(source: SourceId, paths: Vec<PathBuf>) -> Self {
        Self {
            source,
            paths,
            excludes: Vec::new(),
            leave_out: Vec::new(),
            level: Level::default(),
            dictionary: None,
            pack_size: PackSize::default(),
            threads: None,
            dry_run: false,
        }
    }
}

/// What a run found and made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Regular files and other things that are no folders, of which nothing was known.
    pub files_new: u64,
    /// Those that are otherwise than their newest revision.
    pub files_changed: u64,
    /// Those that are as their newest revision says.
    pub files_unmodified: u64,
    /// Paths that were known and are gone, folders not counted.
    pub files_gone: u64,
    /// Bytes read from files; in a dry run, bytes that would be.
    pub bytes_read: u64,
    /// Bytes of the chunks that were new to the store, before compression.
    pub bytes_new: u64,
    /// Bytes of their frames: compressed, not yet sealed.
    pub bytes_framed: u64,
    /// What could not be stored as it should, in walk order; the run is done in part if there is any.
    pub troubles: Vec<Trouble>,
}

impl Outcome {
    /// Returns how many files the run saw.
    pub const fn files(&self) -> u64 {
        self.files_new + self.files_changed + self.files_unmodified
    }
}

/// A path that could not be stored, or not as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The path.
    pub path: PathBuf,
    /// What is the matter, as a clause without a full stop.
    pub message: String,
}
