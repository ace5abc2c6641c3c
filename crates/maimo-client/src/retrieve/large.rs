//! A file that does not fit into one batch: its parts are read, opened and written by several threads, and hashed in order.

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::{
    Failure,
    work::{Job, WRONG_HASH},
    write::Partial,
};

/// How many bytes may wait for what comes before them, before whoever brought them waits too.
const WAITING_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// A large file in the making.
pub(super) struct Large {
    job: Job,
    partial: Partial,
    order: Mutex<Order>,
    turn: Condvar,
}

/// The file has its name.
pub(super) struct Ended {
    /// What of its metadata could not be set.
    pub(super) missed: Option<io::Error>,
}

struct Order {
    hasher: blake3::Hasher,
    /// How far the hash has come, in bytes.
    next: u64,
    waiting: BTreeMap<u64, Vec<Vec<u8>>>,
    waiting_bytes: u64,
    has_failed: bool,
}

impl Large {
    pub(super) fn begin(job: Job) -> io::Result<Self> {
        let partial = Partial::create(&job.folder, job.metadata.sparse)?;
        Ok(Self {
            job,
            partial,
            order: Mutex::new(Order {
                hasher: blake3::Hasher::new(),
                next: 0,
                waiting: BTreeMap::new(),
                waiting_bytes: 0,
                has_failed: false,
            }),
            turn: Condvar::new(),
        })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.job.path()
    }

    pub(super) const fn size(&self) -> u64 {
        self.job.size
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.partial.write(bytes, offset)
    }

    /// Takes a part that was written, to be hashed when its turn comes. The last one in turn ends the file.
    ///
    /// Parts are taken from the queue in order, so the one that all wait for is always being worked on.
    pub(super) fn hash(&self, offset: u64, part: Vec<Vec<u8>>) -> Result<Option<Ended>, Failure> {
        let mut order = self.lock();
        order.waiting_bytes += length(&part);
        order.waiting.insert(offset, part);
        while let Some(part) = order.take_next() {
            for bytes in &part {
                order.hasher.update(bytes);
            }
            let length = length(&part);
            order.next += length;
            order.waiting_bytes -= length;
            self.turn.notify_all();
        }
        if order.next == self.job.size && !order.has_failed {
            if order.hasher.finalize() != self.job.blake3 {
                return Err(Failure::Record(WRONG_HASH));
            }
            let Job {
                name,
                size,
                metadata,
                ..
            } = &self.job;
            let missed = self.partial.finish(name, *size, metadata)?;
            return Ok(Some(Ended { missed }));
        }
        while order.waiting_bytes > WAITING_BYTES_MAX
            && order.waiting.contains_key(&offset)
            && !order.has_failed
        {
            let waited = self.turn.wait(order);
            order = waited.unwrap_or_else(PoisonError::into_inner);
        }
        Ok(None)
    }

    /// Marks the file as one that will not be. Returns whether it was not marked before: one part tells of it, and only one.
    pub(super) fn give_up(&self) -> bool {
        let mut order = self.lock();
        order.waiting.clear();
        order.waiting_bytes = 0;
        self.turn.notify_all();
        !std::mem::replace(&mut order.has_failed, true)
    }

    /// Returns whether there is no use in reading more of it.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    fn lock(&self) -> MutexGuard<'_, Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Order {
    fn take_next(&mut self) -> Option<Vec<Vec<u8>>> {
        if self.has_failed {
            return None;
        }
        self.waiting.remove(&self.next)
    }
}

fn length(part: &[Vec<u8>]) -> u64 {
    part.iter().map(|bytes| bytes.len() as u64).sum()
}
