//! [`Seen`]: the chunks of this run, so that what stands twice among its files is compressed and stored once.
//!
//! A thread that has made a chunk *claims* it for its place in walk order. Whoever meets it later in walk order need not compress it: by
//! the time the filler comes to him, the claimed one has a place. Who meets it earlier must: then both compress it and the earlier is taken.
//!
//! Kept for one commit's span only, as [`KnownChunks`](super::KnownChunks) knows it from then on: memory does not grow with the store.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    sync::{Mutex, MutexGuard, PoisonError},
};

use maimo_vault::name::{ChunkId, ChunkRef};

/// Where a chunk of this run is, or will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Claimed(u64),
    Placed(ChunkRef),
}

/// What to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is to be made.
    Make,
    /// It is made earlier in walk order.
    Made,
    /// It has its place.
    Placed(ChunkRef),
}

/// The chunks of this run.
#[derive(Default)]
pub(super) struct Seen {
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    new: Map,
    /// What was seen before the last checkpoint, until everything begun by then has gone by.
    old: Map,
    old_until: u64,
    last: u64,
}

type Map = HashMap<ChunkId, State, BuildHasherDefault<IdHasher>>;

/// One thread's look at the chunks, for the time of one task.
pub(super) struct Look<'a>(MutexGuard<'a, Maps>);

impl Seen {
    pub(super) fn look(&self) -> Look<'_> {
        Look(self.maps.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Look<'_> {
    /// Claims a chunk for the task `at` in walk order. Within a task, chunks are claimed in order.
    pub(super) fn claim(&mut self, id: ChunkId, at: u64) -> Claim {
        self.0.last = self.0.last.max(at);
        match self.0.get(&id) {
            Some(State::Placed(chunk)) => Claim::Placed(chunk),
            Some(State::Claimed(by)) if by <= at => Claim::Made,
            _ => {
                self.0.new.insert(id, State::Claimed(at));
                Claim::Make
            }
        }
    }

    /// Returns where a chunk is.
    pub(super) fn place_of(&self, id: &ChunkId) -> Option<ChunkRef> {
        match self.0.get(id) {
            Some(State::Placed(chunk)) => Some(chunk),
            _ => None,
        }
    }

    /// Says where a chunk is.
    pub(super) fn place(&mut self, id: ChunkId, chunk: ChunkRef) {
        self.0.old.remove(&id);
        self.0.new.insert(id, State::Placed(chunk));
    }

    /// Lets go of what a commit has made known, once nothing that has begun can ask for it; `done` is the last task that went by.
    pub(super) fn checkpoint(&mut self, done: u64) {
        let maps = &mut *self.0;
        if done >= maps.old_until {
            maps.old = std::mem::take(&mut maps.new);
        } else {
            maps.old.extend(maps.new.drain());
        }
        maps.old_until = maps.last;
    }
}

impl Maps {
    fn get(&self, id: &ChunkId) -> Option<State> {
        self.new.get(id).or_else(|| self.old.get(id)).copied()
    }
}

/// Takes the first bytes of an id: they are a keyed hash already.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }

    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use maimo_vault::name::{PackNumber, WriterId};

    use super::*;

    const ID: ChunkId = ChunkId([7; 32]);

    fn chunk(index: u32) -> ChunkRef {
        let writer = WriterId([1; 16]);
        let pack = PackNumber { writer, n: 0 };
        ChunkRef { pack, index }
    }

    #[test]
    fn who_comes_earlier_in_walk_order_makes_the_chunk_himself() {
        let seen = Seen::default();
        let mut look = seen.look();
        assert_eq!(look.claim(ID, 5), Claim::Make);
        assert_eq!(look.claim(ID, 6), Claim::Made);
        assert_eq!(look.claim(ID, 5), Claim::Made);
        assert_eq!(look.claim(ID, 4), Claim::Make);
        assert_eq!(look.claim(ID, 5), Claim::Made);
        look.place(ID, chunk(3));
        assert_eq!(look.claim(ID, 1), Claim::Placed(chunk(3)));
    }

    #[test]
    fn a_claim_outlives_checkpoints_until_all_that_may_lean_on_it_went_by() {
        let seen = Seen::default();
        let mut look = seen.look();
        assert_eq!(look.claim(ID, 5), Claim::Make);
        assert_eq!(look.claim(ID, 9), Claim::Made);
        look.checkpoint(4);
        look.place(ID, chunk(0));
        look.checkpoint(6);
        look.checkpoint(7);
        assert_eq!(look.place_of(&ID), Some(chunk(0)));
        look.checkpoint(9);
        look.checkpoint(9);
        assert_eq!(look.place_of(&ID), None);
    }
}
