//! Keeping the journal small: which segments to merge, and which of their records to drop.
//!
//! A merge writes the records of a few segments again as one, without those that say nothing any more, and with `moved` records folded
//! into the references they speak of. It never drops a record that another one still leans on: a record goes only if the state
//! replayed without it says the same of everything that is kept.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    batch::{Stamp, encode},
    content::{ChunkExtent, Content},
    record::{PathEvent, Record},
    state::{Entry, State, packs_named},
};
use crate::{
    name::{PackNumber, RecordId, SourceId},
    path::StorePath,
};

/// What the choice of segments looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentWeight {
    /// How many merges made it; 0 for one written by a commit.
    pub level: u8,
    /// Length of its pack in bytes.
    pub length: u64,
    /// How many of those bytes a merge would drop, as far as is known.
    pub dead: u64,
}

/// How many segments of a level are merged into one of the next.
pub const FAN_IN: usize = 16;
/// How many bytes of segments one step reads at most.
pub const STEP_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// A segment from here on is left alone by count; only what died in it makes it worth writing again.
const FULL_BYTES: u64 = STEP_BYTES_MAX / 2;
/// Of the whole journal, how many percent may be dead.
const DEAD_PERCENT_MAX: u64 = 5;

/// Returns the segments that the next step should merge, by index and in order, or nothing if none is worth it.
///
/// `segments` are in the order of the commit's list, oldest first.
pub fn plan(segments: &[SegmentWeight]) -> Option<Vec<usize>> {
    by_count(segments).or_else(|| by_waste(segments))
}

fn by_count(segments: &[SegmentWeight]) -> Option<Vec<usize>> {
    let small = |level: u8| {
        segments
            .iter()
            .enumerate()
            .filter(move |(_, segment)| segment.level == level && segment.length < FULL_BYTES)
    };
    let levels: BTreeSet<u8> = segments.iter().map(|segment| segment.level).collect();
    let level = levels
        .into_iter()
        .find(|level| small(*level).count() >= FAN_IN)?;
    let mut left = STEP_BYTES_MAX;
    let mut chosen = Vec::new();
    for (index, segment) in small(level).take(FAN_IN) {
        if segment.length > left {
            break;
        }
        left -= segment.length;
        chosen.push(index);
    }
    (chosen.len() > 1).then_some(chosen)
}

fn by_waste(segments: &[SegmentWeight]) -> Option<Vec<usize>> {
    let total: u64 = segments.iter().map(|segment| segment.length).sum();
    let dead: u64 = segments.iter().map(|segment| segment.dead).sum();
    if dead * 100 <= total * DEAD_PERCENT_MAX {
        return None;
    }
    // Those of the lowest level come along, last: they would be read soon anyway, and what a prune wrote down of the records that died,
    // which stands in one of them, is needed no more once those are merged away.
    let mut worst: Vec<usize> = (0..segments.len())
        .filter(|index| segments[*index].dead > 0 || segments[*index].level == 0)
        .collect();
    // Compared as fractions of their lengths, crosswise to stay in integers.
    worst.sort_by(|one, other| {
        let (one, other) = (&segments[*one], &segments[*other]);
        (u128::from(other.dead) * u128::from(one.length))
            .cmp(&(u128::from(one.dead) * u128::from(other.length)))
    });
    let mut left = STEP_BYTES_MAX;
    let mut chosen = Vec::new();
    for index in worst {
        let length = segments[index].length;
        if length <= left {
            left -= length;
            chosen.push(index);
        }
    }
    chosen.sort_unstable();
    (!chosen.is_empty()).then_some(chosen)
}

/// What a merge knows of all its inputs before the first of them is written again: gathered in a pass of its own, so that they need not be in
/// memory together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inputs {
    dying: BTreeSet<RecordId>,
    /// How many revisions among them name each pack.
    named: BTreeMap<PackNumber, u32>,
    /// The `moved` records among them.
    moves: BTreeSet<RecordId>,
}

impl Inputs {
    /// Takes note of an input.
    pub fn add(&mut self, stamp: Stamp, record: &Record) {
        match record {
            Record::File { content, .. } => {
                for pack in packs_named(content) {
                    *self.named.entry(pack).or_default() += 1;
                }
            }
            Record::Moved { .. } => {
                self.moves.insert(stamp.id);
            }
            _ => {}
        }
    }

    /// Takes note that an input [is dead](Judge::is_dead).
    pub fn dies(&mut self, id: RecordId) {
        self.dying.insert(id);
    }
}

/// A segment's weight, as some of its records after others are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Weighing {
    dead: u128,
    living: u128,
}

impl Weighing {
    /// Adds records, ascending by stamp: what they make up as they are encoded.
    pub fn add(
        &mut self,
        records: &[(Stamp, Record)],
        mut is_dead: impl FnMut(Stamp, &Record) -> bool,
    ) {
        let (dead, living): (Vec<_>, Vec<_>) = records
            .iter()
            .map(|(stamp, record)| (*stamp, record))
            .partition(|(stamp, record)| is_dead(*stamp, record));
        let length = |records: Vec<(Stamp, &Record)>| match records.len() {
            0 => 0,
            _ => encode(&records).len() as u128,
        };
        self.dead += length(dead);
        self.living += length(living);
    }

    /// Returns the weight of the segment, whose pack is `length` bytes long.
    pub fn weight(&self, level: u8, length: u64) -> SegmentWeight {
        let all = (self.dead + self.living).max(1);
        let dead = u128::from(length) * self.dead / all;
        SegmentWeight {
            level,
            length,
            dead: u64::try_from(dead).unwrap_or(length).min(length),
        }
    }
}

/// Says of each input of a merge how it goes on.
#[derive(Debug)]
pub struct Survivors<'a, 'i> {
    state: &'a State,
    inputs: &'i Inputs,
    /// Packs with `moved` records that records outside the merge name.
    outside: BTreeSet<PackNumber>,
}

impl Survivors<'_, '_> {
    /// Returns an input as it goes on, references folded; nothing if it does not.
    pub fn of(&self, stamp: Stamp, record: Record) -> Option<Record> {
        let (state, dying) = (self.state, &self.inputs.dying);
        if dying.contains(&stamp.id) {
            return None;
        }
        Some(match record {
            Record::Dropped { mut ids } => {
                // An id must go on being known as dropped for as long as the record it names is read anywhere.
                ids.retain(|id| state.knows(*id) && !dying.contains(id));
                if ids.is_empty() {
                    return None;
                }
                Record::Dropped { ids }
            }
            // Folded into all that is merged here; needed on for what is not.
            Record::Moved { from, .. } if !self.outside.contains(&from.pack) => return None,
            record => folded(self.state, record),
        })
    }
}

/// Returns the records of a tail as they go on when it spills, its chunks moved out of `pieces`: all of them, references folded, but for the
/// `moved` records of pieces that nothing else names.
///
/// A merge drops what says nothing any more; little of what is as young as a tail does, and this asks of `state` only how chunks have moved and
/// what names the pieces.
pub fn carry_on(
    state: &State,
    pieces: &BTreeSet<PackNumber>,
    inputs: Vec<(Stamp, Record)>,
) -> Vec<(Stamp, Record)> {
    let mut inside = Inputs::default();
    for (stamp, record) in &inputs {
        inside.add(*stamp, record);
    }
    let of_dictionaries: BTreeSet<PackNumber> = state
        .dictionaries()
        .map(|(_, known)| known.chunk.pack)
        .collect();
    let is_named_outside = |piece: &PackNumber| {
        let named = inside.named.get(piece).copied().unwrap_or(0);
        state.times_named(*piece) > named || of_dictionaries.contains(piece)
    };
    let leads_on = |record: &Record| match record {
        Record::Moved { from, .. } => !pieces.contains(&from.pack) || is_named_outside(&from.pack),
        _ => true,
    };
    let inputs = inputs.into_iter().filter(|(_, record)| leads_on(record));
    inputs
        .map(|(stamp, record)| (stamp, folded(state, record)))
        .collect()
}

/// Returns a record with its references turned to where `state` has the chunks now.
fn folded(state: &State, record: Record) -> Record {
    match record {
        Record::File {
            source,
            path,
            metadata,
            content:
                Content::Regular {
                    size,
                    blake3,
                    chunks,
                },
        } => Record::File {
            source,
            path,
            metadata,
            content: Content::Regular {
                size,
                blake3,
                chunks: ChunkExtent::join(state.resolve_all(&chunks)),
            },
        },
        Record::Dictionary {
            id,
            domain,
            chunk,
            retired,
        } => Record::Dictionary {
            id,
            domain,
            chunk: state.resolve(chunk),
            retired,
        },
        record => record,
    }
}

/// Says of records whether the journal still needs them; worked out once from the whole state.
#[derive(Debug)]
pub struct Judge<'a> {
    state: &'a State,
    /// Packs that a `moved` record or a dictionary leads to.
    led_to: BTreeSet<PackNumber>,
}

impl<'a> Judge<'a> {
    /// Looks over `state`, the whole journal's.
    pub fn new(state: &'a State) -> Self {
        let mut led_to: BTreeSet<PackNumber> = state.moves().map(|(_, _, to)| to.pack).collect();
        led_to.extend(state.dictionaries().map(|(_, known)| known.chunk.pack));
        Self { state, led_to }
    }

    /// Returns whether a merge would drop this record: what [`SegmentWeight::dead`] adds up.
    pub fn is_dead(&self, stamp: Stamp, record: &Record) -> bool {
        let state = self.state;
        match record {
            Record::File { source, path, .. } => {
                !state.is_kept(stamp.id) && !self.bounds_a_survivor(*source, path, stamp)
            }
            Record::Path {
                source,
                path,
                event,
            } => !self.event_matters(*source, path, stamp, *event),
            Record::RunBegin { source, .. } => {
                let completed = state.end(stamp.id).is_some();
                let superseded = || {
                    let mut others = state.runs().values();
                    others.any(|run| run.source == *source && run.begun > stamp)
                };
                !state.is_kept(stamp.id) || (!completed && superseded())
            }
            Record::RunEnd { run, .. } => !state.is_kept(*run) || !state.is_current(stamp, record),
            Record::Dropped { ids } => ids.iter().all(|id| !state.knows(*id)),
            Record::Pack { number, .. } => {
                let used = state.times_named(*number) > 0 || self.led_to.contains(number);
                !state.is_current(stamp, record) || !used
            }
            Record::Pin { pinned, id } => {
                !state.is_current(stamp, record) || (!pinned && !state.knows(*id))
            }
            _ => !state.is_current(stamp, record),
        }
    }

    /// Weighs a segment: of its pack's `length` bytes, those are dead that the dead among its `records` make up as they are encoded.
    pub fn weigh(
        &self,
        level: u8,
        length: u64,
        mut records: Vec<(Stamp, Record)>,
    ) -> SegmentWeight {
        records.sort_by_key(|(stamp, _)| *stamp);
        let mut weighing = Weighing::default();
        weighing.add(&records, |stamp, record| self.is_dead(stamp, record));
        weighing.weight(level, length)
    }

    /// Returns whether [`Self::is_dead`] looks at what else the record's path went through.
    pub fn asks_for_path(&self, stamp: Stamp, record: &Record) -> bool {
        match record {
            Record::File { .. } => !self.state.is_kept(stamp.id),
            Record::Path { .. } => true,
            _ => false,
        }
    }

    /// Returns the records of the merged segments that go on, references folded.
    pub fn merge(&self, inputs: Vec<(Stamp, Record)>) -> Vec<(Stamp, Record)> {
        let mut all = Inputs::default();
        for (stamp, record) in &inputs {
            all.add(*stamp, record);
            if self.is_dead(*stamp, record) {
                all.dies(stamp.id);
            }
        }
        let survivors = self.survivors(&all);
        inputs
            .into_iter()
            .filter_map(|(stamp, record)| Some((stamp, survivors.of(stamp, record)?)))
            .collect()
    }

    /// Returns what tells of each input how it goes on; `inputs` has been told of all of them.
    pub fn survivors<'i>(&self, inputs: &'i Inputs) -> Survivors<'a, 'i> {
        Survivors {
            state: self.state,
            inputs,
            outside: self.packs_named_outside(inputs),
        }
    }

    /// Returns whether something kept would be told otherwise without this revision, which is not: it ends the time of the one before it,
    /// which would seem to have lasted on, or it is the newest of a path that has a kept one, which would seem to be that.
    ///
    /// So of a stretch of dropped revisions only the first and the very last stay: if all did, whatever comes after one kept for long
    /// would be kept as long.
    fn bounds_a_survivor(&self, source: SourceId, path: &StorePath, stamp: Stamp) -> bool {
        let Some(entries) = self.state.entries(source, path) else {
            return false;
        };
        let mut before = entries.range(..stamp).rev();
        let ends_one = before.clone().find_map(|(older, entry)| match entry {
            Entry::Revision { .. } => Some(self.state.is_kept(older.id)),
            Entry::Event(PathEvent::Gone | PathEvent::Removed) => Some(false),
            // The time of a revision goes on through these.
            Entry::Event(PathEvent::Evicted | PathEvent::Found) => None,
        });
        if ends_one == Some(true) {
            return true;
        }
        let is_revision = |entry: &Entry| matches!(entry, Entry::Revision { .. });
        let mut after = entries.range(stamp..).skip(1);
        !after.any(|(_, entry)| is_revision(entry))
            && before.any(|(older, entry)| is_revision(entry) && self.state.is_kept(older.id))
    }

    fn event_matters(
        &self,
        source: SourceId,
        path: &StorePath,
        stamp: Stamp,
        event: PathEvent,
    ) -> bool {
        let Some(entries) = self.state.entries(source, path) else {
            return false;
        };
        // Any older revision that is still read somewhere would come back to life without the event, kept or not.
        let has_older = entries
            .range(..stamp)
            .any(|(_, entry)| matches!(entry, Entry::Revision { .. }));
        let is_last = entries
            .last_key_value()
            .is_some_and(|(last, _)| *last == stamp);
        match event {
            PathEvent::Gone | PathEvent::Removed => has_older,
            PathEvent::Evicted | PathEvent::Found => has_older && is_last,
        }
    }

    /// Returns the packs with `moved` records that records outside the merge name, as they were written or by way of others.
    fn packs_named_outside(&self, inputs: &Inputs) -> BTreeSet<PackNumber> {
        let (inside, merging) = (&inputs.named, &inputs.moves);
        let mut packs: BTreeSet<PackNumber> = self
            .state
            .moves()
            .map(|(_, from, _)| from.pack)
            .filter(|pack| self.state.times_named(*pack) > inside.get(pack).copied().unwrap_or(0))
            .collect();
        packs.extend(self.state.dictionaries().map(|(_, known)| known.chunk.pack));
        // A `moved` record that stays leans on those that lead on from where it ends, so a chain stays whole.
        let mut pending: Vec<_> = self.state.moves().collect();
        loop {
            let (staying, rest): (Vec<_>, Vec<_>) = pending
                .into_iter()
                .partition(|(id, from, _)| !merging.contains(id) || packs.contains(&from.pack));
            if staying.is_empty() {
                break;
            }
            packs.extend(staying.iter().map(|(_, _, to)| to.pack));
            pending = rest;
        }
        packs
    }
}
