//! Pruning as plans: what no policy keeps, which groups of which packs may go, which packs are worth writing again.
//!
//! Everything here is a pure function of what the journal and the inventories say. Nothing is deleted by a plan: [`Drops`] becomes a
//! record of the journal, [`target`] the live maps of the next head, and a [`Rewrite`] new packs with `moved` records.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{clock::Timestamp, live_map::LiveMap};

use crate::{
    demand::Demand,
    journal::{
        batch::Stamp,
        record::{DROPPED_MAX, PathEvent, Record},
        state::{Entry, Presence, Run, State, newest},
    },
    name::{ChunkRef, PackNumber, RecordId, SourceId},
    pack::PackLayout,
    path::StorePath,
    retention::Policy,
};

/// What a prune lets go of, to be written down as `Dropped` records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drops {
    /// Runs that no policy keeps.
    pub runs: BTreeSet<RecordId>,
    /// Revisions that no kept run, pin or count keeps.
    pub revisions: BTreeSet<RecordId>,
}

impl Drops {
    /// Works out what goes under the store's policy.
    ///
    /// A revision stays if it is the newest of a present or evicted path, if a kept run contains it, if it or a run that contains it is
    /// pinned, if it is among its path's newest `revisions`, or if its run has not completed yet.
    pub fn plan(state: &State, now: Timestamp) -> Self {
        Self::plan_by(state, now, |_, _| None)
    }

    /// As [`Self::plan`], where `policy_of` may name another policy for some paths.
    pub fn plan_by(
        state: &State,
        now: Timestamp,
        policy_of: impl Fn(SourceId, &StorePath) -> Option<Policy>,
    ) -> Self {
        let store_policy = state.policy();
        let mut by_policy: BTreeMap<SourceId, Vec<(Policy, KeptRuns)>> = BTreeMap::new();
        let mut drops = Self::default();
        for ((source, path), entries) in state.paths() {
            let policy = policy_of(*source, path).unwrap_or(store_policy);
            let known = by_policy.entry(*source).or_default();
            let place = KeptRuns::place(known, state, *source, policy, now);
            drops.add_path(state, entries, &known[place].1, policy);
        }
        for (run, Run { source, .. }) in state.runs() {
            if state.end(*run).is_none() || !state.is_kept(*run) || state.is_pinned(*run) {
                continue;
            }
            // The store's policy has a say even where every path has one of its own.
            let known = by_policy.entry(*source).or_default();
            KeptRuns::place(known, state, *source, store_policy, now);
            if !known.iter().any(|(_, kept)| kept.runs.contains(run)) {
                drops.runs.insert(*run);
            }
        }
        drops
    }

    /// Joins what was worked out on two parts of one state, each with all of its runs and some of its paths: a run goes if no part keeps it.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        let mut revisions = self.revisions;
        revisions.extend(other.revisions);
        Self {
            runs: self.runs.intersection(&other.runs).copied().collect(),
            revisions,
        }
    }

    /// Returns whether nothing goes.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.revisions.is_empty()
    }

    /// Returns the records that say so.
    pub fn records(&self) -> Vec<Record> {
        let ids: Vec<RecordId> = self.runs.union(&self.revisions).copied().collect();
        ids.chunks(DROPPED_MAX)
            .map(|ids| Record::Dropped { ids: ids.to_vec() })
            .collect()
    }

    fn add_path(
        &mut self,
        state: &State,
        entries: &BTreeMap<Stamp, Entry>,
        kept: &KeptRuns,
        policy: Policy,
    ) {
        let current = newest(entries)
            .filter(|(.., presence)| matches!(presence, Presence::Present | Presence::Evicted))
            .map(|(id, ..)| id);
        let newest_kept = usize::try_from(policy.revisions).unwrap_or(usize::MAX);
        // Where the revision at hand was replaced or ended; none while it is the last.
        let mut until: Option<Stamp> = None;
        let mut newer = 0;
        for (stamp, entry) in entries.iter().rev() {
            let ended = until;
            match entry {
                Entry::Revision { .. } => until = Some(*stamp),
                Entry::Event(PathEvent::Gone | PathEvent::Removed) => {
                    until = Some(*stamp);
                    continue;
                }
                Entry::Event(PathEvent::Evicted | PathEvent::Found) => continue,
            }
            newer += 1;
            let stays = current == Some(stamp.id)
                || !state.is_kept(stamp.id)
                || state.is_pinned(stamp.id)
                || newer <= newest_kept
                || kept.contain(*stamp, ended);
            if !stays {
                self.revisions.insert(stamp.id);
            }
        }
    }
}

/// The runs of a source that hold on to revisions under one policy.
struct KeptRuns {
    runs: BTreeSet<RecordId>,
    ends: BTreeSet<Stamp>,
    /// Where the source's newest run began, if it has not completed. Those before it that have not either were given up.
    open_since: Option<Stamp>,
}

impl KeptRuns {
    /// Returns where in `known` the runs kept under `policy` are, after selecting them unless they are there.
    fn place(
        known: &mut Vec<(Policy, Self)>,
        state: &State,
        source: SourceId,
        policy: Policy,
        now: Timestamp,
    ) -> usize {
        let place = known.iter().position(|(of, _)| *of == policy);
        place.unwrap_or_else(|| {
            known.push((policy, Self::select(state, source, policy, now)));
            known.len() - 1
        })
    }

    fn select(state: &State, source: SourceId, policy: Policy, now: Timestamp) -> Self {
        let completed = state.kept_runs(source);
        let mut runs = policy.select(&completed, now);
        runs.extend(
            completed
                .iter()
                .map(|(run, _)| *run)
                .filter(|run| state.is_pinned(*run)),
        );
        let end = |run: &RecordId| state.end(*run).map(|(stamp, _)| stamp);
        let own = state.runs().iter().filter(|(_, run)| run.source == source);
        let newest = own.max_by_key(|(_, run)| run.begun);
        Self {
            ends: runs.iter().filter_map(end).collect(),
            open_since: newest
                .filter(|(run, _)| end(run).is_none())
                .map(|(_, run)| run.begun),
            runs,
        }
    }

    fn contain(&self, from: Stamp, until: Option<Stamp>) -> bool {
        let of_open_run = self.open_since.is_some_and(|begun| from > begun);
        of_open_run
            || self
                .ends
                .range(from..)
                .next()
                .is_some_and(|end| until.is_none_or(|until| *end < until))
    }
}

/// Returns which groups of each pack must live on; a pack that is not named may go whole.
///
/// `layouts` are the data packs at hand. A pack whose layout is unknown while something of it is needed keeps what it has: the caller
/// fetches its table first or leaves it alone.
pub fn target<'a>(
    demand: &Demand,
    layouts: impl IntoIterator<Item = &'a PackLayout>,
) -> BTreeMap<PackNumber, LiveMap> {
    layouts
        .into_iter()
        .filter_map(|layout| Some((layout.number(), demand.live_map(layout)?)))
        .collect()
}

/// What a store's data packs hold beyond what is needed of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waste {
    /// Bytes of living groups.
    pub living: u64,
    /// Bytes of those that nothing needs: a group lives whole.
    pub waste: u64,
}

impl Waste {
    /// Adds up over the packs that `targets`, which [`target`] gave for the same demand, names.
    pub fn of<'a>(
        demand: &Demand,
        layouts: impl IntoIterator<Item = &'a PackLayout>,
        targets: &BTreeMap<PackNumber, LiveMap>,
    ) -> Self {
        weights(demand, layouts, targets).fold(Self::default(), |sum, weight| Self {
            living: sum.living.saturating_add(weight.living),
            waste: sum.waste.saturating_add(weight.waste),
        })
    }
}

/// When packs are written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RewriteRules {
    /// Dead bytes inside living groups may be so many percent of all living bytes,
    pub waste_percent: u64,
    /// or so many bytes, whichever is more.
    pub waste_floor_bytes: u64,
    /// Packs with less than this living are joined,
    pub small_bytes: u64,
    /// once there are so many of them.
    pub small_count: usize,
}

impl Default for RewriteRules {
    fn default() -> Self {
        Self {
            waste_percent: 10,
            waste_floor_bytes: 4 * 1024 * 1024,
            small_bytes: 1024 * 1024,
            small_count: 16,
        }
    }
}

/// How many bytes of sealed chunks one commit writes again at most: with tables, records and segments a step stays within 16 MiB.
pub const REWRITE_STEP_BYTES: u64 = 12 * 1024 * 1024;

/// What to write again, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// The chunks, pack by pack in their order: to be pushed into new packs, with `moved` records for each run of them.
    pub chunks: Vec<ChunkRef>,
    /// The packs that nothing is needed of afterwards.
    pub packs: BTreeSet<PackNumber>,
}

/// One pack, as the choice of what to rewrite sees it.
#[derive(Debug, Clone, Copy)]
struct Weight {
    number: PackNumber,
    /// Bytes of its living groups.
    living: u64,
    /// Bytes of those that nothing needs.
    waste: u64,
}

impl Rewrite {
    /// Chooses packs: the most wasteful ones until the rest is within bounds, and small ones when there are enough.
    ///
    /// `targets` is what [`target`] gave for the same demand.
    pub fn plan<'a>(
        demand: &Demand,
        layouts: impl IntoIterator<Item = &'a PackLayout>,
        targets: &BTreeMap<PackNumber, LiveMap>,
        rules: RewriteRules,
    ) -> Self {
        let mut weights: Vec<Weight> = weights(demand, layouts, targets).collect();
        let mut packs = BTreeSet::new();
        let small = |weight: &Weight| weight.living < rules.small_bytes;
        if weights.iter().filter(|weight| small(weight)).count() >= rules.small_count {
            packs.extend(
                weights
                    .iter()
                    .filter(|weight| small(weight))
                    .map(|weight| weight.number),
            );
        }
        let mut living: u64 = weights.iter().map(|weight| weight.living).sum();
        let mut waste: u64 = weights.iter().map(|weight| weight.waste).sum();
        // The most waste for the fewest bytes written first.
        weights.sort_by(|one, other| {
            let crosswise =
                |one: &Weight, other: &Weight| u128::from(one.waste) * u128::from(other.living);
            crosswise(other, one)
                .cmp(&crosswise(one, other))
                .then(one.number.cmp(&other.number))
        });
        for weight in weights {
            // Of what will live then: what is written again leaves its waste behind.
            let percent = living / 100 * rules.waste_percent;
            if waste <= percent.max(rules.waste_floor_bytes) {
                break;
            }
            waste -= weight.waste;
            living -= weight.waste;
            packs.insert(weight.number);
        }
        let chunks = packs
            .iter()
            .flat_map(|pack| {
                demand
                    .of_pack(*pack)
                    .map(|index| ChunkRef { pack: *pack, index })
            })
            .collect();
        Self { chunks, packs }
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }

    /// Cuts the chunks into steps, one commit each, of at most `step_bytes` sealed bytes ([`REWRITE_STEP_BYTES`] unless a user wants less moved);
    /// `sealed_length` tells a chunk's. A chunk longer than a step has one to itself.
    pub fn steps(
        &self,
        step_bytes: u64,
        sealed_length: impl Fn(ChunkRef) -> u64,
    ) -> Vec<&[ChunkRef]> {
        let mut steps = Vec::new();
        let (mut first, mut length) = (0, 0_u64);
        for (index, chunk) in self.chunks.iter().enumerate() {
            let sealed = sealed_length(*chunk);
            if index > first && length.saturating_add(sealed) > step_bytes {
                steps.push(&self.chunks[first..index]);
                (first, length) = (index, 0);
            }
            length = length.saturating_add(sealed);
        }
        if first < self.chunks.len() {
            steps.push(&self.chunks[first..]);
        }
        steps
    }
}

fn weights<'a>(
    demand: &Demand,
    layouts: impl IntoIterator<Item = &'a PackLayout>,
    targets: &BTreeMap<PackNumber, LiveMap>,
) -> impl Iterator<Item = Weight> {
    layouts.into_iter().filter_map(|layout| {
        let living = targets.get(&layout.number())?.live_bytes(layout.length());
        Some(Weight {
            number: layout.number(),
            living,
            waste: living.saturating_sub(needed_bytes(demand, layout)),
        })
    })
}

/// Returns how many bytes of a pack are needed: the chunks, and what it takes to read them.
fn needed_bytes(demand: &Demand, layout: &PackLayout) -> u64 {
    let chunks: u64 = demand
        .of_pack(layout.number())
        .filter_map(|index| layout.chunk_range(index))
        .map(|range| range.end - range.start)
        .sum();
    let table = layout.table_range();
    let trailer = layout.trailer_range();
    chunks
        + crate::pack::HEADER_BYTES as u64
        + (table.end - table.start)
        + (trailer.end - trailer.start)
}

/// Returns the `moved` records for chunks that were pushed, in order, into a new pack from its index `first` on.
pub fn moved(chunks: &[ChunkRef], to: PackNumber, first: u32) -> Vec<Record> {
    let places: Vec<(ChunkRef, u32)> = chunks.iter().copied().zip(first..).collect();
    places
        .chunk_by(|(one, _), (other, _)| {
            one.pack == other.pack && one.index.checked_add(1) == Some(other.index)
        })
        .map(|run| Record::Moved {
            from: run[0].0,
            to: ChunkRef {
                pack: to,
                index: run[0].1,
            },
            // A pack has at most 65,536 chunks.
            count: u32::try_from(run.len()).unwrap_or(u32::MAX),
        })
        .collect()
}

#[cfg(test)]
mod tests;
