//! Merging segments: read record by record, judged on the part of the journal that the records ask for, written as they come.
//!
//! ```text
//! survey the inputs -> replay all but revisions and events -> judge what needs no path -> replay and judge some paths at a time
//!        -> write the survivors as the inputs pass by once more
//! ```
//!
//! In memory are a batch of each input, what is sealed anew, and the names of what dies: nothing that grows with the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::{
    commit::Segment,
    compose::{Base, compose_merged, write_segments},
    journal::{
        batch::Stamp,
        merge::{Inputs, Judge, SegmentWeight, Weighing},
        part::Part,
        record::Record,
        state::State,
    },
    name::{PackNumber, RecordId},
};

use super::{Sealer, not_read};
use crate::{engine::Engine, error::ClientError, session::OpenChannel};

/// How many paths are judged with all that they went through in memory.
const PATHS_AT_ONCE: usize = 50_000;

/// A merge whose segments are sealed and held.
pub(super) struct MergedSegments {
    pub(super) next: Base,
    pub(super) vital: BTreeMap<ChannelId, BTreeMap<PackNumber, ObjectRef>>,
    pub(super) sent: u64,
    /// The records that go on otherwise than they were.
    pub(super) turned: Vec<(Stamp, Record)>,
    /// Those that do not.
    pub(super) vanished: Vec<RecordId>,
}

impl Engine {
    /// Writes the segments at `chosen` of `base` again, without what says nothing any more. One that cannot be read ends the merge: what it
    /// holds would be in none.
    pub(super) fn merge_segments(
        &mut self,
        base: Base,
        chosen: &[usize],
        channels: &[Arc<OpenChannel>],
    ) -> Result<MergedSegments, ClientError> {
        let first = &channels[0];
        let view = self.view(first.id).ok_or_else(not_read)?;
        let mut segments: Vec<(Segment, ObjectRef)> = Vec::new();
        for segment in chosen.iter().filter_map(|index| base.segments.get(*index)) {
            let pack = view.segments.get(&segment.number).ok_or_else(not_read)?;
            segments.push((*segment, *pack));
        }
        self.hold_segments(&segments, first)?;
        let mut inputs = Inputs::default();
        let mut named = Part::default();
        let stretches = self.journal_reader(&first.keys).survey(
            &segments,
            |records: &[(Stamp, Record)]| {
                for (stamp, record) in records {
                    inputs.add(*stamp, record);
                    named.add_named(record);
                }
            },
        )?;
        let lean = self.replay_part(&named)?.state;
        for id in self.dead_among(&segments, first, &lean)? {
            inputs.dies(id);
        }
        let judge = Judge::new(&lean);
        let survivors = judge.survivors(&inputs);
        let mut sealer = Sealer::new(self, channels);
        let (mut turned, mut vanished) = (Vec::new(), Vec::new());
        let mut merged = self
            .journal_reader(&first.keys)
            .merged(Vec::new(), stretches);
        let records = merged.by_ref().filter_map(|(stamp, record)| {
            let Some(survivor) = survivors.of(stamp, record.clone()) else {
                vanished.push(stamp.id);
                return None;
            };
            if survivor != record {
                turned.push((stamp, survivor.clone()));
            }
            Some((stamp, survivor))
        });
        let numbers = write_segments(records, &self.segment_writer(), &mut sealer);
        merged.check()?;
        sealer.send()?;
        Ok(MergedSegments {
            next: compose_merged(base, chosen, numbers),
            vital: sealer.vital,
            sent: sealer.sent,
            turned,
            vanished,
        })
    }

    /// Fetches the segments that the journal cache has no longer, or torn.
    fn hold_segments(
        &self,
        segments: &[(Segment, ObjectRef)],
        first: &OpenChannel,
    ) -> Result<(), ClientError> {
        for (_, pack) in segments {
            if self.journal.get(pack).is_none() {
                for bytes in first.fetch_whole(&[*pack])? {
                    self.journal.put(pack, &bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Weighs segments: what is dead in each is judged as a merge of it would. Where all that may be dead makes up less than `least` bytes, that is
    /// what it says: nobody is going to merge for it, and to judge paths takes long.
    pub(crate) fn weigh_segments(
        &mut self,
        segments: &[(Segment, ObjectRef)],
        first: &OpenChannel,
        least: u64,
    ) -> Result<Vec<SegmentWeight>, ClientError> {
        self.hold_segments(segments, first)?;
        let mut named = Part::default();
        self.each_input(segments, first, |_, record| named.add_named(record))?;
        let lean = self.replay_part(&named)?.state;
        let judge = Judge::new(&lean);
        let may_be_dead = |stamp, record: &Record| {
            judge.asks_for_path(stamp, record) || judge.is_dead(stamp, record)
        };
        let most = self.weights_by(segments, first, may_be_dead)?;
        if most.iter().map(|weight| weight.dead).sum::<u64>() < least {
            return Ok(most);
        }
        let dead = self.dead_among(segments, first, &lean)?;
        self.weights_by(segments, first, |stamp, _| dead.contains(&stamp.id))
    }

    fn weights_by(
        &self,
        segments: &[(Segment, ObjectRef)],
        first: &OpenChannel,
        is_dead: impl Fn(Stamp, &Record) -> bool,
    ) -> Result<Vec<SegmentWeight>, ClientError> {
        let reader = self.journal_reader(&first.keys);
        let mut weights = Vec::with_capacity(segments.len());
        for (segment, pack) in segments {
            let mut weighing = Weighing::default();
            reader.survey(&[(*segment, *pack)], |records| {
                weighing.add(records, &is_dead);
            })?;
            weights.push(weighing.weight(segment.level, pack.length));
        }
        Ok(weights)
    }

    /// Returns the records of segments that are dead, by `lean`, the state without revisions and events.
    fn dead_among(
        &mut self,
        segments: &[(Segment, ObjectRef)],
        first: &OpenChannel,
        lean: &State,
    ) -> Result<BTreeSet<RecordId>, ClientError> {
        let judge = Judge::new(lean);
        let mut dead = BTreeSet::new();
        // Some paths at a time, and none of them twice.
        let mut judged: BTreeSet<RecordId> = BTreeSet::new();
        let mut is_first = true;
        loop {
            let mut part = Part::default();
            self.each_input(segments, first, |stamp, record| {
                if !judge.asks_for_path(stamp, record) {
                    if is_first && judge.is_dead(stamp, record) {
                        dead.insert(stamp.id);
                    }
                } else if part.paths() < PATHS_AT_ONCE && !judged.contains(&stamp.id) {
                    part.add_path(record);
                }
            })?;
            is_first = false;
            if part.paths() == 0 {
                return Ok(dead);
            }
            let state = self.replay_part(&part)?.state;
            let of_paths = Judge::new(&state);
            self.each_input(segments, first, |stamp, record| {
                if judge.asks_for_path(stamp, record) && part.has_path(record) {
                    judged.insert(stamp.id);
                    if of_paths.is_dead(stamp, record) {
                        dead.insert(stamp.id);
                    }
                }
            })?;
        }
    }

    fn each_input(
        &self,
        segments: &[(Segment, ObjectRef)],
        first: &OpenChannel,
        mut each: impl FnMut(Stamp, &Record),
    ) -> Result<(), ClientError> {
        let reader = self.journal_reader(&first.keys);
        segments.iter().try_for_each(|(segment, pack)| {
            reader.each(*segment, pack, |stamp, record| {
                each(stamp, &record);
                Ok(())
            })
        })
    }
}
