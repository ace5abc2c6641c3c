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
    journal::{record::Record, state::State},
    name::{ChunkId, ChunkRef, PackNumber, RecordId},
    pack::{Entry, PackLayout},
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

    /// Adds what a revision needs if `state` has it kept: for a state that was replayed [in part](crate::journal::part), without it.
    pub fn add_revision(&mut self, state: &State, id: RecordId, record: &Record) {
        if let Record::File { content, .. } = record
            && state.is_kept(id)
        {
            for chunk in state.resolve_all(content.extents()) {
                self.add(chunk);
            }
        }
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

    /// Returns the dictionaries without which the needed chunks do not open: they must be named as vital. `entries` tells what is in a pack, or in
    /// a piece of the tail.
    pub fn dictionaries<'a>(
        &self,
        entries: impl Fn(PackNumber) -> Option<&'a [Entry]>,
    ) -> BTreeSet<ChunkId> {
        let mut dictionaries = BTreeSet::new();
        for (number, indexes) in &self.chunks {
            let entries = entries(*number).unwrap_or_default();
            let needed = indexes.iter().filter_map(|index| {
                let entry = entries.get(usize::try_from(*index).ok()?)?;
                entry.dictionary
            });
            dictionaries.extend(needed);
        }
        dictionaries
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

/// Holds a change against what a head would call live: each chunk that is needed from here on, be it that a record refers to it or that a
/// `moved` record leads to it, and in each pack that lets go of groups all that is still needed of it.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Shelf, chunk, dropped, file, moved, number, pack, replay, without};

    /// Chunks that each touch groups of their own.
    const CHUNK: usize = 40_000;

    fn demand(chunks: impl IntoIterator<Item = ChunkRef>) -> Demand {
        let mut demand = Demand::default();
        chunks.into_iter().for_each(|chunk| demand.add(chunk));
        demand
    }

    #[test]
    fn only_kept_revisions_demand_and_where_their_chunks_are_now() {
        let state = replay([
            file("a", [chunk(1, 0), chunk(1, 1)]),
            file("b", [chunk(2, 5)]),
            moved(chunk(1, 1), chunk(3, 7), 1),
            dropped([1]),
        ]);
        assert_eq!(Demand::of(&state), demand([chunk(1, 0), chunk(3, 7)]));
    }

    #[test]
    fn a_chunk_resolves_where_all_of_its_groups_live_and_all_it_takes_to_read_it() {
        let mut shelf = Shelf::default().with(pack(1, &[CHUNK, CHUNK, CHUNK]));
        let layout = shelf.layouts[&number(1)].clone();
        assert_eq!(resolves(chunk(1, 1), &shelf), Ok(()));
        shelf.live.insert(number(1), without(&layout, 1));
        assert_eq!(resolves(chunk(1, 0), &shelf), Ok(()));
        let unresolved = Unresolved { chunk: chunk(1, 1) };
        assert_eq!(resolves(chunk(1, 1), &shelf), Err(unresolved));
        // Its own groups alone do not do: without header, table and trailer nobody finds it.
        let own = layout.live_map([1]).unwrap();
        shelf
            .live
            .insert(number(1), own.minus(&layout.frame_live_map()));
        assert_eq!(resolves(chunk(1, 1), &shelf), Err(unresolved));
    }

    #[test]
    fn what_is_not_in_a_pack_or_not_in_the_inventory_does_not_resolve() {
        let shelf = Shelf::default().with(pack(1, &[CHUNK, CHUNK]));
        assert!(resolves(chunk(1, 1), &shelf).is_ok());
        assert!(resolves(chunk(1, 2), &shelf).is_err());
        assert!(resolves(chunk(2, 0), &shelf).is_err());
        let mut unnamed = shelf.clone();
        unnamed.live.clear();
        assert!(resolves(chunk(1, 1), &unnamed).is_err());
        // Where chunks stand is not known: nothing says that they live.
        let mut unread = shelf;
        unread.layouts.clear();
        assert!(resolves(chunk(1, 1), &unread).is_err());
    }

    #[test]
    fn a_piece_of_the_tail_resolves_as_far_as_it_has_chunks() {
        let shelf = Shelf::default().with_piece(4, 2);
        assert!(resolves(chunk(4, 1), &shelf).is_ok());
        assert!(resolves(chunk(4, 2), &shelf).is_err());
    }

    #[test]
    fn a_check_names_the_first_chunk_without_bytes() {
        let shelf = Shelf::default().with(pack(1, &[CHUNK])).with_piece(2, 1);
        let needed = demand([chunk(1, 0), chunk(2, 0)]);
        assert_eq!(needed.check(&shelf), Ok(()));
        let more = demand([chunk(1, 0), chunk(2, 1), chunk(3, 0)]);
        let chunk = chunk(2, 1);
        assert_eq!(more.check(&shelf), Err(Unresolved { chunk }));
    }

    #[test]
    fn the_groups_that_must_live_are_those_of_the_needed_chunks() {
        let layout = pack(1, &[CHUNK, CHUNK, CHUNK]);
        let needed = demand([chunk(1, 0), chunk(1, 2), chunk(2, 0)]);
        assert_eq!(needed.live_map(&layout), Some(without(&layout, 1)));
        assert_eq!(demand([chunk(2, 0)]).live_map(&layout), None);
        // A chunk that the pack does not have: no map is right.
        assert_eq!(demand([chunk(1, 0), chunk(1, 3)]).live_map(&layout), None);
    }

    fn chunks() -> impl Strategy<Value = BTreeSet<ChunkRef>> {
        let one = (1..4_u64, 0..4_u32).prop_map(|(pack, index)| chunk(pack, index));
        proptest::collection::btree_set(one, 0..9)
    }

    proptest! {
        #[test]
        fn a_check_of_the_change_says_what_a_check_of_everything_says(
            before in chunks(),
            after in chunks(),
            kept_on in chunks(),
            kept_after in chunks(),
            named in proptest::collection::btree_set(1..4_u64, 0..4),
            holds_all: bool,
        ) {
            let mut shelf = Shelf::default();
            for n in 1..4 {
                shelf = shelf.with(pack(n, &[9_000; 4]));
            }
            let mut kept_after = kept_after;
            if holds_all {
                kept_after.extend(&after);
            }
            let (before, after) = (demand(before), demand(after));
            // Before, all that was needed lived, and a few groups more.
            let map = |layout: &PackLayout, demands: [&BTreeSet<ChunkRef>; 2]| {
                let indexes = demands.into_iter().flatten();
                let own = indexes.filter(|chunk| chunk.pack == layout.number());
                let own: BTreeSet<u32> = own.map(|chunk| chunk.index).collect();
                (!own.is_empty()).then(|| layout.live_map(own)).flatten()
            };
            let needed: BTreeSet<ChunkRef> = before.chunks().collect();
            let mut then = BTreeMap::new();
            let mut now = BTreeMap::new();
            for (number, layout) in &shelf.layouts {
                then.extend(map(layout, [&needed, &kept_on]).map(|live| (*number, live)));
                // Some packs lose groups, needed or not, some gain some, some stay.
                let live = if named.contains(&number.n) {
                    then.get(number).cloned()
                } else {
                    map(layout, [&kept_after, &BTreeSet::new()])
                };
                now.extend(live.map(|live| (*number, live)));
            }
            let letting_go = then.iter().filter(|(number, was)| {
                now.get(number).is_none_or(|live| !live.contains_all(was))
            });
            let letting_go: Vec<PackNumber> = letting_go.map(|(number, _)| *number).collect();
            let added: Vec<ChunkRef> = after.chunks().filter(|chunk| !needed.contains(chunk)).collect();
            shelf.live = now;
            let change = check_change(&after, added, letting_go, &shelf);
            prop_assert_eq!(after.check(&shelf).is_ok(), change.is_ok());
            if let Err(Unresolved { chunk }) = change {
                prop_assert!(resolves(chunk, &shelf).is_err());
            }
        }
    }
}
