//! Upkeep: prunes, rewrites and merges, each a commit of its own that no store waits for. The shipped rules decide what is worth it.

use core::cell::RefCell;
use std::collections::BTreeMap;

use maimo_core::inventory::Change as InventoryChange;
use maimo_vault::{
    commit::Segment,
    compose::{SegmentWriter, compose_merge},
    compress::Level,
    demand::Demand,
    journal::{
        batch::{Batch, Stamp},
        merge::{Judge, SegmentWeight, plan},
        record::Record,
        state::Entry as PathEntry,
    },
    name::{ChunkRef, PackNumber},
    pack::{Entry, FramedChunk},
    prune::{Drops, REWRITE_STEP_BYTES, Rewrite, Waste, target},
};

use super::{Store, chunks::Open, set};
use crate::years::sealer::Purpose;

impl Store {
    /// Lets go of what the policy does not keep, rewrites what is worth it, merges what that made dead.
    pub(in crate::years) fn prune(&mut self) {
        let drops = Drops::plan(&self.base.state, self.now);
        let mut next = None;
        if !drops.is_empty() {
            let draft = self.draft(drops.records());
            next = Some(self.compose(&draft));
        }
        let state = &next.as_ref().unwrap_or(&self.base).state;
        let demand = Demand::of(state);
        let changes = self.retarget(&demand);
        if let Some(next) = next {
            self.commit(next, changes, None, false);
        }
        self.rewrite(demand);
        self.weigh();
        self.merge();
    }

    /// Returns the changes that make the data inventory name what is demanded.
    fn retarget(&mut self, demand: &Demand) -> Vec<InventoryChange> {
        let targets = target(demand, self.sealer.data.values().map(|pack| &pack.layout));
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for (number, pack) in &self.sealer.data {
            let root = pack.reference.root;
            let before = self.view.data.entry(&root);
            match targets.get(number) {
                Some(live) if before.is_none_or(|entry| entry.live() != live) => {
                    changes.push(set(pack.reference, live.clone()));
                }
                Some(_) => {}
                None => {
                    if before.is_some() {
                        changes.push(InventoryChange::Remove(root));
                    }
                    gone.push(*number);
                }
            }
        }
        for number in gone {
            self.sealer.data.remove(&number);
        }
        changes
    }

    /// Writes again what is wasteful or small, step by step, and measures the waste that is left.
    fn rewrite(&mut self, mut demand: Demand) {
        let layouts = || self.sealer.data.values().map(|pack| &pack.layout);
        let targets = target(&demand, layouts());
        let rewrite = Rewrite::plan(&demand, layouts(), &targets, self.rules);
        if !rewrite.is_empty() {
            let records_of = self.records_by_last_chunk(&rewrite);
            let sealed = |chunk| u64::from(self.entry_of(chunk).frame_length) + 32;
            let steps = rewrite.steps(REWRITE_STEP_BYTES, sealed);
            let count = steps.len();
            for (number, step) in steps.into_iter().enumerate() {
                let is_last = number + 1 == count;
                demand = self
                    .rewrite_step(step, &records_of, is_last)
                    .unwrap_or(demand);
            }
        }
        let layouts = || self.sealer.data.values().map(|pack| &pack.layout);
        let waste = Waste::of(&demand, layouts(), &target(&demand, layouts()));
        self.figures.data_living = waste.living;
        // In thousandths of a percent first: the integers are exact.
        if let Some(share) = (waste.waste * 100_000).checked_div(waste.living) {
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            self.figures.waste_percent.add(f64::from(share) / 1000.0);
        }
    }

    /// Commits new copies of `chunks`; the last step lets go of the old ones and returns the demand after it.
    fn rewrite_step(
        &mut self,
        chunks: &[ChunkRef],
        records_of: &BTreeMap<ChunkRef, (Stamp, Record)>,
        is_last: bool,
    ) -> Option<Demand> {
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut open = Open::default();
        for chunk in chunks {
            let entry = *self.entry_of(*chunk);
            let frame = &self.filler[..entry.frame_length as usize];
            if !open.fits(frame.len()) {
                self.close(&mut open, Purpose::Rewrite, &mut records, &mut changes);
            }
            let frame = &self.filler[..entry.frame_length as usize];
            let builder = open.builder(&mut self.sealer);
            builder
                .push(FramedChunk::new(&entry, frame))
                .expect("it was held against the room left");
            open.moved.push(*chunk);
            open.records.extend(records_of.get(chunk).cloned());
        }
        self.close(&mut open, Purpose::Rewrite, &mut records, &mut changes);
        let draft = self.draft_of(records);
        let next = self.compose(&draft);
        let mut demand = None;
        if is_last {
            let after = Demand::of(&next.state);
            changes = self.retarget(&after);
            demand = Some(after);
        }
        self.commit(next, changes, None, false);
        demand
    }

    /// Returns the records of kept files whose last chunk is to be rewritten: the new pack's table repeats them.
    fn records_by_last_chunk(&self, rewrite: &Rewrite) -> BTreeMap<ChunkRef, (Stamp, Record)> {
        let state = &self.base.state;
        let mut records = BTreeMap::new();
        for ((source, path), entries) in state.paths() {
            for (stamp, entry) in entries {
                let PathEntry::Revision { metadata, content } = entry else {
                    continue;
                };
                let last = state.resolve_all(content.extents()).last();
                let Some(last) = last.filter(|last| rewrite.packs.contains(&last.pack)) else {
                    continue;
                };
                if state.is_kept(stamp.id) {
                    let record = Record::File {
                        source: *source,
                        path: path.clone(),
                        metadata: metadata.clone(),
                        content: content.clone(),
                    };
                    records.insert(last, (*stamp, record));
                }
            }
        }
        records
    }

    fn entry_of(&self, chunk: ChunkRef) -> &Entry {
        let layout = &self.sealer.data[&chunk.pack].layout;
        &layout.entries()[chunk.index as usize]
    }

    /// Merges segments for as long as the plan finds any worth it: each merge a commit of its own, after the last was acknowledged.
    pub(super) fn merge(&mut self) {
        loop {
            let weights: Vec<SegmentWeight> = self
                .base
                .segments
                .iter()
                .map(|one| self.weight(one))
                .collect();
            let Some(chosen) = plan(&weights) else {
                return;
            };
            let read: BTreeMap<PackNumber, Vec<Batch>> = chosen
                .iter()
                .map(|index| self.base.segments[*index].number)
                .map(|number| (number, self.sealer.read_segment(number)))
                .collect();
            let read = RefCell::new(read);
            let base = core::mem::take(&mut self.base);
            let writer = SegmentWriter {
                id_key: &self.id_key,
                level: Level::default(),
            };
            let next = compose_merge(
                base,
                &chosen,
                |segment| {
                    read.borrow_mut()
                        .remove(&segment.number)
                        .unwrap_or_default()
                },
                &writer,
                &mut self.sealer,
            );
            self.commit(next, Vec::new(), None, false);
        }
    }

    fn weight(&self, segment: &Segment) -> SegmentWeight {
        self.weights
            .get(&segment.number)
            .copied()
            .unwrap_or_else(|| SegmentWeight {
                level: segment.level,
                length: self.view.segments[&segment.number].length,
                dead: 0,
            })
    }

    /// Weighs all segments anew, as records die when runs are dropped.
    pub(super) fn weigh(&mut self) {
        let judge = Judge::new(&self.base.state);
        self.weights = self
            .base
            .segments
            .iter()
            .map(|segment| {
                let length = self.view.segments[&segment.number].length;
                let records = self.records_in(*segment);
                (segment.number, judge.weigh(segment.level, length, records))
            })
            .collect();
    }

    pub(super) fn records_in(&self, segment: Segment) -> Vec<(Stamp, Record)> {
        let batches = self.sealer.read_segment(segment.number);
        batches
            .into_iter()
            .flat_map(|batch| batch.into_records(segment.sequence))
            .collect()
    }
}
