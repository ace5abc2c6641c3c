//! Rebasing a draft after a lost race: every chunk it took by dedup is looked for again in the winner's state.
//!
//! Without this rule two devices lose files that were acknowledged: one lets go of a chunk while the other, which has not heard, refers to
//! it. Names stay what they are: records keep their counters, packs their numbers; only references may turn to where a chunk is now.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dedup::DedupIndex,
    demand::{Packs, resolves},
    journal::{
        record::{ChunkExtent, Content, Record},
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
pub fn turn(records: &mut [(RecordId, Record)], now: &BTreeMap<ChunkRef, ChunkRef>) {
    for (_, record) in records {
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
