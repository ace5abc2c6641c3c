//! Rebasing a draft after a lost race: every chunk it took by dedup is looked for again in the winner's state.
//!
//! Without this rule two devices lose files that were acknowledged: one lets go of a chunk while the other, which has not heard, refers to
//! it. Names stay what they are: records keep their counters, packs their numbers; only references may turn to where a chunk is now.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dedup::DedupIndex,
    demand::{Packs, resolves},
    journal::{
        content::{ChunkExtent, Content},
        record::Record,
        state::State,
    },
    name::{ChunkId, ChunkRef, RecordId},
};

/// What became of a chunk that a draft took by dedup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It lives, here or elsewhere.
    Lives(ChunkRef),
    /// It no longer lives, but its pack is known: the provider may still hold it in grace, so it can be named again.
    LetGo(ChunkRef),
    /// Nobody knows of it any more: it must be sealed again from the file.
    Lost,
}

/// Returns where a chunk that was taken at `taken` is in the winner's state; `id` finds it where `moved` records no longer lead.
pub fn fate(
    taken: ChunkRef,
    id: &ChunkId,
    state: &State,
    known: &DedupIndex,
    packs: &impl Packs,
) -> Fate {
    let here = state.resolve(taken);
    if resolves(here, packs).is_ok() {
        return Fate::Lives(here);
    }
    match known.find(id) {
        Some(elsewhere) => Fate::Lives(elsewhere),
        None if packs.layout(here.pack).is_some() => Fate::LetGo(here),
        None => Fate::Lost,
    }
}

/// Turns the references of a draft's records to where their chunks are now.
pub fn turn<'r>(
    records: impl IntoIterator<Item = &'r mut Record>,
    now: &BTreeMap<ChunkRef, ChunkRef>,
) {
    for record in records {
        if let Record::File {
            content: Content::Regular { chunks, .. },
            ..
        } = record
        {
            let turned = chunks
                .iter()
                .flat_map(|extent| extent.chunks())
                .map(|chunk| now.get(&chunk).copied().unwrap_or(chunk));
            *chunks = ChunkExtent::join(turned.collect::<Vec<_>>());
        }
    }
}

/// Returns the draft's file records that refer to any of `lost`: those files are sealed again, or scanned again where they have changed.
pub fn needing(records: &[(RecordId, Record)], lost: &BTreeSet<ChunkRef>) -> Vec<RecordId> {
    records
        .iter()
        .filter(|(_, record)| match record {
            Record::File { content, .. } => content
                .extents()
                .iter()
                .flat_map(|extent| extent.chunks())
                .any(|chunk| lost.contains(&chunk)),
            _ => false,
        })
        .map(|(id, _)| *id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Shelf, chunk, chunk_id, file, id, moved, number, pack, replay, without};

    const CHUNK: usize = 40_000;

    fn fate_of(taken: ChunkRef, records: Vec<Record>, known: &DedupIndex, shelf: &Shelf) -> Fate {
        fate(taken, &chunk_id(1, 0), &replay(records), known, shelf)
    }

    #[test]
    fn a_chunk_that_still_lives_stays_where_it_was_taken() {
        let shelf = Shelf::default().with(pack(1, &[CHUNK, CHUNK]));
        let mut elsewhere = DedupIndex::default();
        elsewhere.insert(chunk_id(1, 0), chunk(7, 0));
        let here = Fate::Lives(chunk(1, 0));
        assert_eq!(fate_of(chunk(1, 0), vec![], &elsewhere, &shelf), here);
    }

    #[test]
    fn a_chunk_that_moved_is_followed() {
        let shelf = Shelf::default().with(pack(1, &[CHUNK])).with_piece(2, 6);
        let records = vec![moved(chunk(1, 0), chunk(2, 5), 1)];
        let known = DedupIndex::default();
        let there = Fate::Lives(chunk(2, 5));
        assert_eq!(fate_of(chunk(1, 0), records, &known, &shelf), there);
    }

    #[test]
    fn a_chunk_that_was_let_go_of_is_found_elsewhere_by_its_id() {
        let mut shelf = Shelf::default().with(pack(1, &[CHUNK, CHUNK]));
        let rest = without(&shelf.layouts[&number(1)], 0);
        shelf.live.insert(number(1), rest);
        let mut known = DedupIndex::default();
        let let_go = Fate::LetGo(chunk(1, 0));
        assert_eq!(fate_of(chunk(1, 0), vec![], &known, &shelf), let_go);
        known.insert(chunk_id(1, 0), chunk(7, 3));
        let there = Fate::Lives(chunk(7, 3));
        assert_eq!(fate_of(chunk(1, 0), vec![], &known, &shelf), there);
    }

    #[test]
    fn a_chunk_let_go_of_after_it_moved_is_named_where_it_was_last() {
        let mut shelf = Shelf::default().with(pack(2, &[CHUNK, CHUNK]));
        shelf.live.clear();
        let records = vec![moved(chunk(1, 0), chunk(2, 1), 1)];
        let fate = fate_of(chunk(1, 0), records, &DedupIndex::default(), &shelf);
        assert_eq!(fate, Fate::LetGo(chunk(2, 1)));
    }

    #[test]
    fn a_chunk_of_a_pack_that_nobody_knows_is_lost() {
        let known = DedupIndex::default();
        let fate = fate_of(chunk(1, 0), vec![], &known, &Shelf::default());
        assert_eq!(fate, Fate::Lost);
    }

    #[test]
    fn references_turn_and_join_where_chunks_now_follow_one_another() {
        let gone = Record::Path {
            source: crate::testing::SOURCE,
            path: crate::testing::path("b"),
            event: crate::journal::record::PathEvent::Gone,
        };
        let mut records = vec![
            (id(0), file("a", [chunk(1, 0), chunk(2, 8), chunk(1, 2)])),
            (id(1), gone.clone()),
        ];
        let now = BTreeMap::from([(chunk(2, 8), chunk(1, 1)), (chunk(9, 0), chunk(9, 1))]);
        turn(records.iter_mut().map(|(_, record)| record), &now);
        let joined = file("a", [chunk(1, 0), chunk(1, 1), chunk(1, 2)]);
        let Record::File { content, .. } = &joined else {
            panic!("a file");
        };
        assert_eq!(content.extents().len(), 1);
        assert_eq!(records, [(id(0), joined), (id(1), gone)]);
    }

    #[test]
    fn the_files_that_need_a_lost_chunk_are_named() {
        let records = vec![
            (id(0), file("a", [chunk(1, 0), chunk(1, 1)])),
            (id(1), file("b", [chunk(1, 2)])),
            (id(2), moved(chunk(1, 1), chunk(2, 0), 1)),
        ];
        assert_eq!(needing(&records, &BTreeSet::from([chunk(1, 1)])), [id(0)]);
        assert_eq!(needing(&records, &BTreeSet::from([chunk(2, 0)])), []);
    }
}
