//! What goes between the threads: from the planner to the workers as jobs, from both to the filler in walk order.

use std::{path::PathBuf, sync::Arc};

use crossbeam_channel::{Receiver, Sender};
use maimo_vault::{
    compress::Codec,
    dictionary::Dictionary,
    journal::{content::Content, metadata::Metadata},
    name::{ChunkId, ChunkRef, Domain},
    path::StorePath,
};

use super::work::ReadTask;
use crate::{
    local_stat::LocalStat,
    scan::{
        compare::{Candidate, Known},
        stat::Kind,
    },
};

/// What a worker does.
pub(super) enum Job {
    /// Short files, and what is no file: read, hashed, compressed.
    Read(Task),
    /// The same, read and hashed already.
    Compress(ReadTask),
    /// A chunk of a long file.
    Chunk(ChunkJob),
    /// Parked tasks wait for no more samples.
    Settle,
    /// The run is over.
    Stop,
}

/// A handful of paths that follow one another in walk order.
pub(super) struct Task {
    /// Its place in walk order.
    pub(super) at: u64,
    pub(super) items: Vec<Item>,
    pub(super) reply: Sender<TaskMade>,
}

/// One path of a task.
pub(super) enum Item {
    Candidate(Box<Candidate>),
    /// There is nothing to do but to pass it on.
    Ready(Made),
}

/// A chunk of a long file.
pub(super) struct ChunkJob {
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) domain: Domain,
    pub(super) reply: Sender<ChunkMade>,
}

/// What the filler gets, in walk order.
pub(super) enum Ordered {
    /// What a task made, when it comes, and what it took of the budget.
    Task(u64, Receiver<TaskMade>, usize),
    /// A chunk of the long file that ends next.
    Chunk(u64, Receiver<ChunkMade>, usize),
    /// The chunks since the last file are not of the file to come.
    Again,
    /// What needed no worker.
    Made(Made),
}

/// A dictionary was trained; a worker waits for it to be stored.
pub(super) struct Trained {
    pub(super) bytes: Vec<u8>,
    pub(super) stored: Sender<Arc<Dictionary>>,
}

/// What a task made.
pub(super) struct TaskMade {
    pub(super) made: Vec<Made>,
    /// The frames of all its chunks.
    pub(super) frames: Vec<u8>,
}

/// What became of one path, or of several that are as they were.
pub(super) enum Made {
    /// So many are as they were known to be.
    Unmodified(u64),
    /// It is gone.
    Gone(StorePath, Kind),
    /// It could not be stored; the store's path of a file that may have other names.
    Failed {
        path: PathBuf,
        linked: Option<StorePath>,
        message: String,
    },
    /// It is as its newest revision says: known by another inode or ctime, or evicted or gone before.
    Same(Box<Same>),
    /// It is new or changed.
    New(Box<New>),
}

/// A path that is as its newest revision says.
pub(super) struct Same {
    pub(super) path: StorePath,
    pub(super) known: Box<Known>,
    pub(super) local: Option<LocalStat>,
    pub(super) bytes_read: u64,
}

/// A path that is new or changed.
pub(super) struct New {
    pub(super) path: StorePath,
    pub(super) metadata: Metadata,
    pub(super) content: NewContent,
    pub(super) local: Option<LocalStat>,
    /// Whether anything was known of it.
    pub(super) is_known: bool,
}

/// What a new revision holds.
pub(super) enum NewContent {
    /// A regular file's bytes. The chunks of a long file came before it.
    Regular {
        size: u64,
        blake3: [u8; 32],
        chunks: Vec<Framed>,
        is_long: bool,
    },
    /// Anything else.
    Other(Content),
}

/// A chunk, and where its frame is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Framed {
    pub(super) id: ChunkId,
    pub(super) domain: Domain,
    pub(super) plaintext_length: u32,
    pub(super) frame: Frame,
}

/// Where a chunk's frame is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Frame {
    /// The store has the chunk.
    Known(ChunkRef),
    /// The run has it from earlier in walk order.
    Earlier,
    /// So many bytes from there on, among the task's frames.
    At {
        codec: Codec,
        dictionary: Option<ChunkId>,
        start: usize,
        length: usize,
    },
}

/// What a worker made of a long file's chunk.
pub(super) struct ChunkMade {
    pub(super) chunk: Framed,
    pub(super) frame: Vec<u8>,
}
