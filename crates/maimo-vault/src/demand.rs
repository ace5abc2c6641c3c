//! What the kept revisions need of the packs: chunks, hence groups.
//!
//! The client's rule, on which all safety rests: a head is signed only if every chunk of every kept revision resolves to a live range of
//! it. [`Demand::check`] holds a whole state against inventories; [`check_change`] holds only what changed, and says the same as long as
//! the state before it was right.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{
    error::{Classify, ErrorKind, Retry},
    live_map::LiveMap,
};
use thiserror::Error;

use crate::{
    journal::state::State,
    name::{ChunkRef, PackNumber},
    pack::PackLayout,
};

/// Which chunks of which packs are needed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Demand {
    chunks: BTreeMap<PackNumber, BTreeSet<u32>>,
}

/// What is known of packs: where their chunks stand, and which of their groups live.
pub trait Packs {
    /// Returns whether the number is that of a piece of the tail, which lives as long as the commit names it, and how many chunks
    /// it has.
    fn tail_chunks(&self, number: PackNumber) -> Option<u32>;

    /// Returns where the pack's chunks stand.
    fn layout(&self, number: PackNumber) -> Option<&PackLayout>;

    /// Returns which groups of the pack the head to be signed calls live.
    fn live(&self, number: PackNumber) -> Option<&LiveMap>;
}

/// A chunk that a head would leave without bytes: it must not be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("chunk {} of pack {} is needed and would not be held", chunk.index, chunk.pack.n)]
pub struct Unresolved {
    /// The chunk.
    pub chunk: ChunkRef,
}

impl Classify for Unresolved {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }

    fn retry(&self) -> Retry {
        Retry::AfterWaiting
    }

    fn hint(&self) -> Option<&'static str> {
        Some("nothing was lost: the head stays as it is; run the command again")
    }
}

impl Demand {
    /// Returns what the kept revisions of `state` need.
    pub fn of(state: &State) -> Self {
        let mut demand = Self::default();
        for (_, content) in state.kept_revisions() {
            for chunk in state.resolve_all(content.extents()) {
                demand.add(chunk);
            }
        }
        demand
    }

    /// Adds a chunk.
    pub fn add(&mut self, chunk: ChunkRef) {
        self.chunks
            .entry(chunk.pack)
            .or_default()
            .insert(chunk.index);
    }

    /// Returns the needed chunks of a pack, ascending.
    pub fn of_pack(&self, number: PackNumber) -> impl Iterator<Item = u32> {
        self.chunks.get(&number).into_iter().flatten().copied()
    }

    /// Returns the packs that anything is needed of.
    pub fn packs(&self) -> impl Iterator<Item = PackNumber> {
        self.chunks.keys().copied()
    }

    /// Returns each chunk.
    pub fn chunks(&self) -> impl Iterator<Item = ChunkRef> {
        self.chunks.iter().flat_map(|(pack, indexes)| {
            indexes.iter().map(|index| ChunkRef {
                pack: *pack,
                index: *index,
            })
        })
    }

    /// Returns the groups of a pack that must live: those of the needed chunks and of what it takes to read them. Nothing if none is
    /// needed or a chunk is not in the pack.
    pub fn live_map(&self, layout: &PackLayout) -> Option<LiveMap> {
        let indexes = self.chunks.get(&layout.number())?;
        layout.live_map(indexes.iter().copied())
    }

    /// Holds the whole demand against what a head would call live.
    ///
    /// # Errors
    ///
    /// [`Unresolved`] names the first chunk that would have no bytes.
    pub fn check(&self, packs: &impl Packs) -> Result<(), Unresolved> {
        self.chunks().try_for_each(|chunk| resolves(chunk, packs))
    }
}

/// Holds a change against what a head would call live: each chunk newly referred to, and in each pack that lets go of groups all that is
/// still needed of it. `moved_to` are chunks that `moved` records lead to from here on.
///
/// # Errors
///
/// [`Unresolved`] names the first chunk that would have no bytes.
pub fn check_change(
    demand: &Demand,
    added: impl IntoIterator<Item = ChunkRef>,
    letting_go: impl IntoIterator<Item = PackNumber>,
    packs: &impl Packs,
) -> Result<(), Unresolved> {
    added
        .into_iter()
        .try_for_each(|chunk| resolves(chunk, packs))?;
    for number in letting_go {
        for index in demand.of_pack(number) {
            let chunk = ChunkRef {
                pack: number,
                index,
            };
            resolves(chunk, packs)?;
        }
    }
    Ok(())
}

/// Returns whether one chunk has its bytes.
pub fn resolves(chunk: ChunkRef, packs: &impl Packs) -> Result<(), Unresolved> {
    if let Some(chunks) = packs.tail_chunks(chunk.pack) {
        return if chunk.index < chunks {
            Ok(())
        } else {
            Err(Unresolved { chunk })
        };
    }
    let needed = packs
        .layout(chunk.pack)
        .and_then(|layout| layout.live_map([chunk.index]));
    match (needed, packs.live(chunk.pack)) {
        (Some(needed), Some(live)) if live.contains_all(&needed) => Ok(()),
        _ => Err(Unresolved { chunk }),
    }
}
