//! Work on files: batches of small ones and parts of large ones, taken by a thread each, in the order they were planned.

use std::{
    sync::Arc,
    thread::{self, Scope, ScopedJoinHandle},
};

use crossbeam_channel::{Receiver, Sender, bounded};
use maimo_vault::journal::metadata::Metadata;

use super::{
    Failure, Outcome,
    large::Large,
    plan::SEALED_BYTES,
    target::Folder,
    write::{Partial, There, look},
};
use crate::fetch::{ChunkAt, Fetch, Fetched, Opener, Wanted};

/// The most threads: each holds a batch in memory.
const THREADS_MAX: usize = 8;
/// How many threads there are at least: while some wait for a provider, others write.
const THREADS_MIN: usize = 3;

/// One file to be written.
pub(super) struct Job {
    pub(super) folder: Arc<Folder>,
    pub(super) name: Vec<u8>,
    pub(super) size: u64,
    pub(super) blake3: [u8; 32],
    pub(super) metadata: Metadata,
    pub(super) chunks: Vec<ChunkAt>,
}

impl Job {
    pub(super) fn path(&self) -> std::path::PathBuf {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
        self.folder.path.join(OsStr::from_bytes(&self.name))
    }
}

/// What a thread takes at a time.
pub(super) enum Work {
    /// Files that are read together.
    Batch(Vec<Job>),
    /// A part of a file, from `offset` on.
    Part {
        large: Arc<Large>,
        offset: u64,
        chunks: Vec<ChunkAt>,
    },
}

/// The threads that work.
pub(super) struct Workers<'a, 'k> {
    fetch: &'a Fetch<'k>,
    outcome: &'a Outcome,
}

impl<'a, 'k> Workers<'a, 'k> {
    pub(super) const fn new(fetch: &'a Fetch<'k>, outcome: &'a Outcome) -> Self {
        Self { fetch, outcome }
    }

    /// Starts them, and returns what to give them work by. They end when nobody can any more.
    pub(super) fn start<'s>(
        &'s self,
        scope: &'s Scope<'s, '_>,
    ) -> (Sender<Work>, Vec<ScopedJoinHandle<'s, ()>>) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        // Enough to have as much asked for as the ways to the providers like, while others open and write.
        let asking = self.fetch.bytes_ahead().div_ceil(SEALED_BYTES) + 2;
        let asking = usize::try_from(asking).unwrap_or(THREADS_MAX);
        let count = asking.max(cores + 1).clamp(THREADS_MIN, THREADS_MAX);
        let (sender, receiver) = bounded(2);
        let threads = (0..count).map(|_| {
            let receiver = receiver.clone();
            scope.spawn(move || self.run(&receiver))
        });
        let threads = threads.collect();
        (sender, threads)
    }

    fn run(&self, receiver: &Receiver<Work>) {
        let mut worker = Worker::new(self.fetch, self.outcome);
        for work in receiver {
            worker.take(work);
            self.outcome.tell();
        }
    }
}

/// One thread's part.
pub(super) struct Worker<'a, 'k> {
    fetch: &'a Fetch<'k>,
    opener: Opener<'a, 'k>,
    outcome: &'a Outcome,
}

impl<'a, 'k> Worker<'a, 'k> {
    pub(super) fn new(fetch: &'a Fetch<'k>, outcome: &'a Outcome) -> Self {
        Self {
            fetch,
            opener: Opener::new(fetch),
            outcome,
        }
    }

    /// Does some work. Where all was stopped it only lets go of it: queued work must not keep the planner waiting.
    pub(super) fn take(&mut self, work: Work) {
        match work {
            Work::Batch(_) if self.outcome.is_stopped() => {}
            Work::Batch(jobs) => self.batch(jobs),
            Work::Part {
                large,
                offset,
                chunks,
            } => {
                // A part that is not done must say so, or those behind it would wait.
                let done = if self.outcome.is_stopped() {
                    Err(Failure::Record("it was stopped"))
                } else {
                    self.part(&large, offset, &chunks)
                };
                if let Err(why) = done
                    && large.give_up()
                    && !self.outcome.is_stopped()
                {
                    self.outcome.failed(&large.path(), why);
                }
            }
        }
    }

    fn batch(&mut self, jobs: Vec<Job>) {
        let mut wanted = Wanted::default();
        let mut left = Vec::with_capacity(jobs.len());
        for job in jobs {
            match look(&job.folder, &job.name, job.size, &job.blake3) {
                Ok(There::Same) => self.outcome.done(1, 0),
                Ok(There::Free) => {
                    for chunk in &job.chunks {
                        chunk.want(&mut wanted);
                    }
                    left.push(job);
                }
                Err(error) => self.outcome.failed(&job.path(), error.into()),
            }
        }
        let fetched = match self.fetch.read(wanted) {
            Ok(fetched) => fetched,
            Err(error) => return self.outcome.stop(error.into()),
        };
        for job in &left {
            match self.write(&fetched, job) {
                Ok(missed) => {
                    self.outcome.done(1, job.size);
                    if let Some(error) = missed {
                        self.outcome.failed(&job.path(), error.into());
                    }
                }
                Err(why) => self.outcome.failed(&job.path(), why),
            }
        }
    }

    /// Writes a file that fits in memory: all of it is checked before there is any of it.
    fn write(&mut self, fetched: &Fetched, job: &Job) -> Result<Option<std::io::Error>, Failure> {
        let mut parts = Vec::with_capacity(job.chunks.len());
        let mut hasher = blake3::Hasher::new();
        for chunk in &job.chunks {
            let bytes = self.opener.open(fetched, chunk)?;
            hasher.update(&bytes);
            parts.push(bytes);
        }
        if hasher.finalize() != job.blake3 {
            return Err(Failure::Record(WRONG_HASH));
        }
        let partial = Partial::create(&job.folder, job.metadata.sparse)?;
        let mut offset = 0;
        for bytes in &parts {
            partial.write(bytes, offset)?;
            offset += bytes.len() as u64;
        }
        Ok(partial.finish(&job.name, job.size, &job.metadata)?)
    }

    fn part(&mut self, large: &Large, offset: u64, chunks: &[ChunkAt]) -> Result<(), Failure> {
        if large.has_failed() {
            return Ok(());
        }
        let mut wanted = Wanted::default();
        for chunk in chunks {
            chunk.want(&mut wanted);
        }
        let fetched = self.fetch.read(wanted)?;
        let mut at = offset;
        let mut parts = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let bytes = self.opener.open(&fetched, chunk)?;
            large.write(&bytes, at)?;
            at += bytes.len() as u64;
            parts.push(bytes);
        }
        drop(fetched);
        if let Some(ended) = large.hash(offset, parts)? {
            self.outcome.done(1, large.size());
            if let Some(error) = ended.missed {
                self.outcome.failed(&large.path(), error.into());
            }
        }
        Ok(())
    }
}

/// What is said of a file whose chunks are all right and yet not the file.
pub(super) const WRONG_HASH: &str = "what its chunks add up to does not have the hash of the file";
