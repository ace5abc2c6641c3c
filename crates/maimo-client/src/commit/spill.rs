//! What a spilled tail is composed on: of the journal only what the spill's rules ask for, looked up in the catalog.
//!
//! A spill happens in front of somebody who waits. So it looks at nothing that grows with the store: what it writes again are the records of the
//! tail and of the last small segments; what names chunks of the tail came after them, so it stands at the end of the catalog's entries.

use std::collections::{BTreeMap, BTreeSet};

use maimo_vault::{
    compose::Base,
    journal::{
        batch::{Batch, Stamp},
        content::Content,
        part::Part,
        record::Record,
        state::State,
    },
    name::{PackNumber, RecordId, WriterId},
};

use super::Change;
use crate::{
    catalog::{Position, Reader},
    engine::Engine,
    error::ClientError,
    session::OpenChannel,
};

/// How long a segment's pack may be for a spill to take it up again, in bytes.
const RECALL_BYTES_MAX: u64 = 8192;
/// How many segments it may take up.
const RECALL_MAX: usize = 4;

/// What is in the segments that a spill takes up.
pub(super) type Recalled = BTreeMap<PackNumber, Vec<Batch>>;

impl Engine {
    /// Returns what a spill may take up of the last segments, where they are small.
    pub(super) fn may_recall(&self, position: &Position, first: &OpenChannel) -> Recalled {
        let mut recalled = BTreeMap::new();
        let Some(view) = self.view(first.id) else {
            return recalled;
        };
        for segment in position.segments.iter().rev().take(RECALL_MAX) {
            let pack = view.segments.get(&segment.number);
            let Some(pack) = pack.filter(|pack| pack.length <= RECALL_BYTES_MAX) else {
                break;
            };
            if let Ok(batches) = self.batches(pack, &first.keys) {
                recalled.insert(segment.number, batches);
            }
        }
        recalled
    }

    /// Returns the newest state as far as a spill of its tail, `change` on top, with what is recalled asks for it.
    pub(super) fn base_for_spill(
        &self,
        position: &Position,
        change: &Change,
        recalled: &Recalled,
    ) -> Result<Base, ClientError> {
        let reader = self.catalog.reader()?;
        let mut base = self.partial(position)?;
        let state = &mut base.state;
        for (stamp, record) in rewritten(position, recalled)? {
            state.apply(stamp, record);
        }
        // Those with chunks: all others are named by nothing.
        let pieces = position.tail.iter();
        let pieces = pieces.filter(|tail| !tail.piece.entries().is_empty());
        let numbers: BTreeSet<PackNumber> =
            pieces.clone().map(|tail| tail.piece.number()).collect();
        if let Some(since) = pieces.map(|tail| tail.sequence).min() {
            for revision in reader.naming(&numbers, since)? {
                let record = Record::File {
                    source: revision.source,
                    path: revision.path,
                    metadata: revision.metadata,
                    content: revision.content,
                };
                state.apply(revision.stamp, record);
            }
        }
        let known = known_of(&reader, state, change)?;
        for (counter, record) in (0..).zip(known) {
            // After all that the position has, before what is about to be committed.
            let id = RecordId {
                writer: WriterId([u8::MAX; 16]),
                counter,
            };
            let stamp = Stamp {
                sequence: position.sequence,
                id,
            };
            state.apply(stamp, record);
        }
        Ok(base)
    }

    /// As [`Self::base_for_spill`], by replaying the journal: with all but revisions, for who asks for more than a spill does.
    pub(super) fn replay_for_spill(
        &mut self,
        position: &Position,
        change: &Change,
        recalled: &Recalled,
    ) -> Result<Base, ClientError> {
        let mut part = Part::default();
        for (_, record) in rewritten(position, recalled)? {
            part.add_path(&record);
        }
        for (_, record) in &change.records {
            part.add_path(record);
        }
        // What took chunks of the tail by dedup is repeated in the pack that they move into.
        for tail in &position.tail {
            part.add_pack(tail.piece.number());
        }
        self.replay_part(&part)
    }
}

/// Returns the records that a spill writes again.
fn rewritten(
    position: &Position,
    recalled: &Recalled,
) -> Result<Vec<(Stamp, Record)>, ClientError> {
    let mut records = Vec::new();
    for segment in &position.segments {
        for batch in recalled.get(&segment.number).into_iter().flatten() {
            records.extend(batch.clone().into_records(segment.sequence));
        }
    }
    for tail in &position.tail {
        let batch = Batch::parse(tail.piece.records())
            .map_err(|error| ClientError::Corrupt(error.to_string()))?;
        records.extend(batch.into_records(tail.sequence));
    }
    Ok(records)
}

/// Returns what the rest of the journal says of the revisions in `state` and of those in `change`: where their chunks have moved, and which of
/// them are kept, as records that say so; with the dictionaries, which are few.
fn known_of(reader: &Reader, state: &State, change: &Change) -> Result<Vec<Record>, ClientError> {
    let revisions: Vec<(RecordId, &Content)> = state.revisions().collect();
    let own = change
        .records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::File { content, .. } => Some(content),
            _ => None,
        });
    let contents = revisions.iter().map(|(_, content)| *content);
    let mut records = reader.moves_of(contents.chain(own))?;
    for (id, _) in &revisions {
        let is_kept = reader.is_kept(*id)?;
        if is_kept != state.is_kept(*id) {
            records.push(if is_kept {
                Record::Pin {
                    id: *id,
                    pinned: true,
                }
            } else {
                Record::Dropped { ids: vec![*id] }
            });
        }
    }
    for (id, known) in reader.dictionaries()? {
        records.push(Record::Dictionary {
            id,
            domain: known.domain,
            chunk: known.chunk,
            retired: known.retired,
        });
    }
    Ok(records)
}
