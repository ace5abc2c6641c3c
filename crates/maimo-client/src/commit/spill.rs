//! What a spilled tail is composed on: of the journal only what its records ask for.

use std::collections::BTreeMap;

use maimo_vault::{
    compose::Base,
    journal::{
        batch::{Batch, Stamp},
        part::Part,
        record::Record,
    },
    name::PackNumber,
};

use super::Change;
use crate::{catalog::Position, engine::Engine, error::ClientError, session::OpenChannel};

/// How long a segment's pack may be for a spill to take it up again, in bytes.
const RECALL_BYTES_MAX: u64 = 8192;
/// How many segments it may take up.
const RECALL_MAX: usize = 4;

impl Engine {
    /// Returns what a spill may take up of the last segments, where they are small.
    pub(super) fn may_recall(
        &self,
        position: &Position,
        first: &OpenChannel,
    ) -> BTreeMap<PackNumber, Vec<Batch>> {
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

    /// Replays the journal as far as the rules ask for it when the tail, `change` on top, is spilled with what is recalled.
    pub(super) fn replay_for_spill(
        &mut self,
        position: &Position,
        change: &Change,
        recalled: &BTreeMap<PackNumber, Vec<Batch>>,
    ) -> Result<Base, ClientError> {
        let mut part = Part::default();
        let mut add = |record: &Record| {
            part.add_path(record);
            part.add_named(record);
        };
        let batches = recalled.values().flatten();
        let recalled = batches.flat_map(|batch| batch.records().iter());
        recalled.for_each(|(_, record): &(Stamp, Record)| add(record));
        change.records.iter().for_each(|(_, record)| add(record));
        for tail in &position.tail {
            let batch = Batch::parse(tail.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            batch.records().iter().for_each(|(_, record)| add(record));
        }
        // What took chunks of the tail by dedup is repeated in the pack that they move into.
        for tail in &position.tail {
            part.add_pack(tail.piece.number());
        }
        self.replay_part(&part)
    }
}
