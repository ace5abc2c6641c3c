//! What was read: verified runs of groups, by pack and by the channel they came from.

use std::{collections::HashMap, ops::Range, sync::Arc};

use maimo_core::verify::{Extent, Verified};
use maimo_vault::name::PackNumber;

/// Verified groups of some packs.
///
/// The same pack has other bytes on every channel, so a chunk is taken from one channel whole.
#[derive(Default)]
pub struct Fetched {
    packs: HashMap<PackNumber, Vec<Part>>,
    /// What was wrong with packs that no channel gave whole.
    pub(super) lost: HashMap<PackNumber, Arc<Lost>>,
}

/// Why no channel gave a pack whole.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// What each channel returned, as a clause.
    pub(super) tried: Vec<String>,
    /// Whether a channel that has it could not serve it, so that it may be there yet.
    pub(super) is_unserved: bool,
}

/// Some groups of one pack, as one channel holds it.
struct Part {
    channel: usize,
    runs: Verified<Vec<Extent>>,
}

impl Fetched {
    pub(super) fn add(&mut self, pack: PackNumber, channel: usize, runs: Verified<Vec<Extent>>) {
        let parts = self.packs.entry(pack).or_default();
        parts.push(Part { channel, runs });
    }

    /// Returns whether anything was read of a pack.
    pub(super) fn has(&self, pack: PackNumber) -> bool {
        self.packs.contains_key(&pack)
    }

    /// Takes in what another request read.
    pub(super) fn absorb(&mut self, other: Self) {
        for (pack, parts) in other.packs {
            self.packs.entry(pack).or_default().extend(parts);
        }
    }

    /// Returns the bytes at `range` of a pack, and the channel they are from.
    pub(super) fn bytes(&self, pack: PackNumber, range: &Range<u64>) -> Option<(usize, Vec<u8>)> {
        let parts = self.packs.get(&pack)?;
        if let Some(found) = parts.iter().find_map(|part| part.slice(range)) {
            return Some(found);
        }
        // In halves, as damaged packs are read, a chunk may lie across what came apart.
        let mut channels: Vec<_> = parts.iter().map(|part| part.channel).collect();
        channels.sort_unstable();
        channels.dedup();
        channels
            .into_iter()
            .find_map(|channel| Some((channel, gather(parts, channel, range)?)))
    }
}

impl Part {
    fn slice(&self, range: &Range<u64>) -> Option<(usize, Vec<u8>)> {
        let after = self.runs.partition_point(|run| run.offset <= range.start);
        let run = self.runs.get(after.checked_sub(1)?)?;
        let start = usize::try_from(range.start - run.offset).ok()?;
        let length = usize::try_from(range.end - range.start).ok()?;
        let bytes = run.bytes.get(start..start.checked_add(length)?)?;
        Some((self.channel, bytes.to_vec()))
    }
}

fn gather(parts: &[Part], channel: usize, range: &Range<u64>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let mut runs = parts
            .iter()
            .filter(|part| part.channel == channel)
            .flat_map(|part| part.runs.iter());
        let run = runs.find(|run| run.offset <= at && at < run.offset + run.bytes.len() as u64)?;
        let end = range.end.min(run.offset + run.bytes.len() as u64);
        let (from, to) = (at - run.offset, end - run.offset);
        let (from, to) = (usize::try_from(from).ok()?, usize::try_from(to).ok()?);
        bytes.extend_from_slice(&run.bytes[from..to]);
        at = end;
    }
    Some(bytes)
}
