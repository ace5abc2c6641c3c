//! [`LiveMap`]: which chunk groups of one object live.
//!
//! A set of groups, kept as sorted, disjoint runs that do not touch. It does not know which object it is of; whoever holds the
//! object's length passes it in. Invariant: every run is non-empty, ends at or before [`LiveMap::groups`], and leaves at least one dead
//! group before the next.

use core::ops::Range;

use thiserror::Error;

use crate::{
    codec::{ParseError, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    units::{BLOCK_BYTES, BLOCKS_PER_GROUP, GROUP_BYTES},
};

/// Why a live map cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LiveMapError {
    /// More runs than an inventory carries for one pack.
    #[error("a live map has {found} runs, more than the {max} allowed", max = LiveMap::RUNS_MAX)]
    TooManyRuns {
        /// How many it has.
        found: usize,
    },
    /// A run that is empty or ends after the object does.
    #[error("groups {start} to {end} are no run of an object of {groups} groups")]
    OutOfRange {
        /// The run's first group.
        start: u32,
        /// The group after its last.
        end: u32,
        /// How many groups the object has.
        groups: u32,
    },
}

impl Classify for LiveMapError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// A set of the chunk groups of one object.
///
/// Set operations never fail: the result has at most half as many runs as the object has groups. Only what enters an inventory is
/// held to [`Self::RUNS_MAX`], so that the pieces of a file that a provider has to punch stay bounded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LiveMap {
    groups: u32,
    runs: Vec<Range<u32>>,
}

/// The forms of an encoded map.
const FULL: u8 = 0;
const RUNS: u8 = 1;
const BITMAP: u8 = 2;

impl LiveMap {
    /// How many runs a map in an inventory may have.
    pub const RUNS_MAX: usize = 1024;

    /// Returns the map of an object of `groups` groups that live all.
    pub fn full(groups: u32) -> Self {
        Self::empty(0).complement(groups)
    }

    /// Returns the map of an object of `groups` groups none of which lives.
    pub const fn empty(groups: u32) -> Self {
        Self {
            groups,
            runs: Vec::new(),
        }
    }

    /// Joins runs, in any order and overlapping as they may.
    ///
    /// # Errors
    ///
    /// A run that is empty or leaves the object; more than [`Self::RUNS_MAX`] runs once they are joined.
    pub fn from_runs(
        groups: u32,
        runs: impl IntoIterator<Item = Range<u32>>,
    ) -> Result<Self, LiveMapError> {
        let mut runs: Vec<_> = runs.into_iter().collect();
        for run in &runs {
            check_run(groups, run)?;
        }
        runs.sort_unstable_by_key(|run| run.start);
        let map = Self {
            groups,
            runs: join(runs.into_iter()),
        };
        map.check()?;
        Ok(map)
    }

    /// Returns an error if the map has more runs than an inventory may carry.
    pub const fn check(&self) -> Result<(), LiveMapError> {
        if self.runs.len() > Self::RUNS_MAX {
            return Err(LiveMapError::TooManyRuns {
                found: self.runs.len(),
            });
        }
        Ok(())
    }

    /// Returns how many groups the object has, live and dead.
    pub const fn groups(&self) -> u32 {
        self.groups
    }

    /// Returns the runs in ascending order.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = Range<u32>> + Clone + '_ {
        self.runs.iter().cloned()
    }

    /// Returns whether nothing lives.
    pub const fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns whether all lives.
    pub fn is_full(&self) -> bool {
        self.count() == self.groups
    }

    /// Returns how many groups live.
    pub fn count(&self) -> u32 {
        self.runs.iter().map(|run| run.end - run.start).sum()
    }

    /// Returns whether `group` lives.
    pub fn contains(&self, group: u32) -> bool {
        let after = self.runs.partition_point(|run| run.end <= group);
        self.runs.get(after).is_some_and(|run| run.start <= group)
    }

    /// Returns whether all that lives in `other` lives here.
    pub fn contains_all(&self, other: &Self) -> bool {
        other.minus(self).is_empty()
    }

    /// Returns whether some group lives in both.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Makes the groups of `run` live.
    ///
    /// # Errors
    ///
    /// A run that is empty or leaves the object.
    pub fn insert(&mut self, run: Range<u32>) -> Result<(), LiveMapError> {
        check_run(self.groups, &run)?;
        // The runs that `run` overlaps or touches become one with it.
        let first = self.runs.partition_point(|other| other.end < run.start);
        let last = self.runs.partition_point(|other| other.start <= run.end);
        let joined = self.runs[first..last].iter().fold(run, |joined, other| {
            joined.start.min(other.start)..joined.end.max(other.end)
        });
        self.runs.splice(first..last, [joined]);
        Ok(())
    }

    /// Returns what lives in either; what `other` has beyond this object's end is left out.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut runs: Vec<_> = self
            .runs()
            .chain(other.runs().filter_map(|run| self.clip(run)))
            .collect();
        runs.sort_unstable_by_key(|run| run.start);
        Self {
            groups: self.groups,
            runs: join(runs.into_iter()),
        }
    }

    /// Returns what lives here and not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        self.intersection(&other.complement(self.groups))
    }

    /// Returns what lives in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let (mut left, mut right) = (self.runs().peekable(), other.runs().peekable());
        let mut runs = Vec::new();
        while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
            let common = a.start.max(b.start)..a.end.min(b.end);
            if a.end <= b.end {
                left.next();
            } else {
                right.next();
            }
            if !common.is_empty() {
                runs.push(common);
            }
        }
        Self {
            groups: self.groups,
            // Two runs of `other` never touch, nor do two of ours, so neither do their common parts.
            runs,
        }
    }

    /// Returns what does not live, of an object taken to have `groups` groups.
    fn complement(&self, groups: u32) -> Self {
        let starts = core::iter::once(0).chain(self.runs.iter().map(|run| run.end));
        let ends = self
            .runs
            .iter()
            .map(|run| run.start)
            .chain(core::iter::once(groups));
        let runs = starts
            .zip(ends)
            .map(|(start, end)| start..end.min(groups))
            .filter(|run| !run.is_empty())
            .collect();
        Self { groups, runs }
    }

    fn clip(&self, run: Range<u32>) -> Option<Range<u32>> {
        let clipped = run.start..run.end.min(self.groups);
        (!clipped.is_empty()).then_some(clipped)
    }

    /// Returns how many bytes live, of an object of `length` bytes; its last group may be short.
    pub fn live_bytes(&self, length: u64) -> u64 {
        self.measure(length, GROUP_BYTES)
    }

    /// Returns how many 4 KiB blocks live, of an object of `length` bytes; its last block may be short.
    pub fn live_blocks(&self, length: u64) -> u64 {
        self.measure(length.div_ceil(BLOCK_BYTES), BLOCKS_PER_GROUP)
    }

    /// Measures what lives in a unit of which a group has `per_group` and the object `total`.
    fn measure(&self, total: u64, per_group: u64) -> u64 {
        self.runs
            .iter()
            .map(|run| unit_range(run, total, per_group))
            .map(|units| units.end - units.start)
            .sum()
    }

    /// Returns the index of the `n`th live block (from 0) of an object of `length` bytes, or nothing if fewer live.
    pub fn nth_live_block(&self, length: u64, mut n: u64) -> Option<u64> {
        for run in &self.runs {
            let blocks = unit_range(run, length.div_ceil(BLOCK_BYTES), BLOCKS_PER_GROUP);
            let count = blocks.end - blocks.start;
            if n < count {
                return Some(blocks.start + n);
            }
            n -= count;
        }
        None
    }

    /// Appends the one form of this map: a form byte, then nothing if all lives, else runs or a bitmap, the shorter, runs if equal.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_full() {
            out.put_u8(FULL);
            return;
        }
        let bitmap_length = self.bitmap_length();
        let mut runs = Vec::new();
        runs.put_varint(self.runs.len() as u64);
        let mut last_end = None;
        for run in &self.runs {
            // Two runs leave a dead group between them, so the gap is counted from the second one on.
            runs.put_varint(u64::from(
                run.start - last_end.map_or(0, |end: u32| end + 1),
            ));
            runs.put_varint(u64::from(run.end - run.start - 1));
            last_end = Some(run.end);
            if runs.len() > bitmap_length {
                break;
            }
        }
        if runs.len() <= bitmap_length {
            out.put_u8(RUNS);
            out.put(&runs);
            return;
        }
        out.put_u8(BITMAP);
        let mut bitmap = vec![0_u8; bitmap_length];
        for group in self.runs.iter().flat_map(Clone::clone) {
            bitmap[group as usize / 8] |= 1 << (group % 8);
        }
        out.put(&bitmap);
    }

    /// Reads the map of an object of `groups` groups; any but the one form of it is refused.
    pub fn parse(reader: &mut Reader<'_>, groups: u32) -> Result<Self, ParseError> {
        const WHAT: &str = "live map";
        let before = reader.clone();
        let map = match reader.u8(WHAT)? {
            FULL => Self::full(groups),
            RUNS => Self::parse_runs(reader, groups)?,
            BITMAP => Self::parse_bitmap(reader, groups)?,
            _ => return Err(ParseError::Invalid { what: WHAT }),
        };
        if map.runs.len() > Self::RUNS_MAX {
            return Err(ParseError::TooLarge {
                what: "runs of a live map",
                found: map.runs.len() as u64,
                max: Self::RUNS_MAX as u64,
            });
        }
        // Which of the forms is the shortest is decided in one place only, by the encoder.
        let mut again = Vec::new();
        map.encode(&mut again);
        let read = before.remaining() - reader.remaining();
        if before.clone().take(read, WHAT)? != again {
            return Err(ParseError::NotCanonical { what: WHAT });
        }
        Ok(map)
    }

    fn parse_runs(reader: &mut Reader<'_>, groups: u32) -> Result<Self, ParseError> {
        const WHAT: &str = "run of a live map";
        let count = reader.count(Self::RUNS_MAX as u64, 2, "runs of a live map")?;
        let mut runs = Vec::with_capacity(count);
        let mut least = 0_u64;
        for _ in 0..count {
            let start = least + reader.varint_max(groups.into(), WHAT)?;
            let end = start + 1 + reader.varint_max(groups.into(), WHAT)?;
            if end > u64::from(groups) {
                return Err(ParseError::TooLarge {
                    what: WHAT,
                    found: end,
                    max: groups.into(),
                });
            }
            least = end + 1;
            let narrow = |group: u64| u32::try_from(group).unwrap_or(groups);
            runs.push(narrow(start)..narrow(end));
        }
        Ok(Self { groups, runs })
    }

    fn parse_bitmap(reader: &mut Reader<'_>, groups: u32) -> Result<Self, ParseError> {
        let map = Self::empty(groups);
        let bitmap = reader.take(map.bitmap_length(), "bitmap of a live map")?;
        let lives = |group: u32| bitmap[group as usize / 8] & (1 << (group % 8)) != 0;
        let runs = (0..groups)
            .filter(|&group| lives(group))
            .map(|group| group..group + 1);
        Ok(Self {
            groups,
            runs: join(runs),
        })
    }

    const fn bitmap_length(&self) -> usize {
        self.groups.div_ceil(8) as usize
    }
}

/// Returns the bytes a live map of an object of `groups` groups takes at most.
pub const fn encoded_bytes_max(groups: u32) -> usize {
    1 + groups.div_ceil(8) as usize
}

fn check_run(groups: u32, run: &Range<u32>) -> Result<(), LiveMapError> {
    if run.is_empty() || run.end > groups {
        return Err(LiveMapError::OutOfRange {
            start: run.start,
            end: run.end,
            groups,
        });
    }
    Ok(())
}

/// Joins runs sorted by their start.
fn join(runs: impl Iterator<Item = Range<u32>>) -> Vec<Range<u32>> {
    let mut joined: Vec<Range<u32>> = Vec::new();
    for run in runs {
        match joined.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => joined.push(run),
        }
    }
    joined
}

/// Returns the units that a run of groups covers, of an object of `total` units.
fn unit_range(run: &Range<u32>, total: u64, per_group: u64) -> Range<u64> {
    let start = (u64::from(run.start) * per_group).min(total);
    start..(u64::from(run.end) * per_group).min(total)
}

#[cfg(test)]
mod tests;
