//! Drift: whether a store's dictionary still serves the small chunks that come now.
//!
//! ```text
//! small chunks --2 MiB of them--> half of them train a candidate; the other half says what it saves, and what the dictionaries at hand save
//!     ^                                |
//!     '-- asked again after twice as   '-- it pays for its own bytes: trained anew from all of them
//!         many, where nothing changes      an older one does as well: that one from here on
//! ```
//!
//! What is compared is what would be stored, so noise changes nothing, nor does a candidate that only knows its own samples. It pays if it saves at
//! least its own bytes should as much come again as came since it was last asked, and one byte of twenty: less is chance. Asking takes the good
//! part of a second, so a store whose chunks stay of one kind is asked less and less often.
//!
//! Nothing of this is written down: it is about the chunks that one process has seen.

use core::mem;

use super::{Dictionary, SAMPLE_BYTES_MAX, train};
use crate::{
    compress::{Compressor, Level},
    name::ChunkId,
};

/// How many bytes of recent small chunks it takes to ask.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// After how many bytes of small chunks it is asked again at the latest.
const DUE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The small chunks that came last, and how many came since it was last asked.
#[derive(Debug)]
pub struct Recent {
    /// Bytes of small chunks since it was last asked.
    seen: u64,
    /// At how many it is asked.
    due: u64,
    samples: Samples,
}

#[derive(Debug, Default)]
struct Samples {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

/// Recent small chunks that are to be judged by.
#[derive(Debug)]
pub struct Window {
    seen: u64,
    samples: Samples,
}

/// What is best for chunks like those of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// What is in use.
    Keep,
    /// The older dictionary at this place.
    Older(usize),
    /// A new dictionary: these are its bytes.
    Train(Vec<u8>),
}

/// What chunks that were not trained from come to, in bytes of frames.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Bytes of small chunks since it was last asked: so many are expected to come again.
    seen: u64,
    /// Bytes of these chunks.
    plain: u64,
    present: u64,
    other: u64,
    /// Bytes of what it would take to use the other: the dictionary itself.
    cost: u64,
}

impl Trial {
    fn pays(&self) -> bool {
        let gain = u128::from(self.present.saturating_sub(self.other));
        let expected = gain * u128::from(self.seen) / u128::from(self.plain.max(1));
        gain * 20 >= u128::from(self.present) && gain > 0 && expected >= u128::from(self.cost)
    }
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            seen: 0,
            due: WINDOW_BYTES as u64,
            samples: Samples::default(),
        }
    }
}

impl Recent {
    /// Takes note of a small chunk that was compressed; longer ones than are trained from are passed over.
    pub fn add(&mut self, chunk: &[u8]) {
        if chunk.is_empty() || chunk.len() > SAMPLE_BYTES_MAX {
            return;
        }
        self.seen += chunk.len() as u64;
        let begins = self.due.saturating_sub(WINDOW_BYTES as u64);
        // More than a window may come while one is judged.
        if self.seen > begins && self.samples.bytes.len() < WINDOW_BYTES {
            self.samples.bytes.extend_from_slice(chunk);
            self.samples.lengths.push(chunk.len());
        }
    }

    /// Returns what to judge by, if it is time to ask.
    pub fn take_due(&mut self) -> Option<Window> {
        (self.seen >= self.due).then(|| Window {
            seen: mem::take(&mut self.seen),
            samples: mem::take(&mut self.samples),
        })
    }

    /// Takes note of what came of a window.
    pub fn judged(&mut self, verdict: &Verdict) {
        self.due = match verdict {
            Verdict::Keep => (self.due * 2).min(DUE_BYTES_MAX),
            Verdict::Older(_) | Verdict::Train(_) => WINDOW_BYTES as u64,
        };
    }
}

impl Window {
    /// Says what is best for chunks like these: what is in use, one of `older`, or a dictionary that is trained from them.
    pub fn judge(
        &self,
        in_use: Option<&Dictionary>,
        older: &[&Dictionary],
        level: Level,
    ) -> Verdict {
        let half = |odd: usize| {
            let all = self.samples.all().enumerate();
            all.filter(move |(at, _)| at % 2 == odd)
                .map(|(_, sample)| sample)
        };
        let plain = half(1).map(|sample| sample.len() as u64).sum();
        let trial = |present, other, cost| Trial {
            seen: self.seen,
            plain,
            present,
            other,
            cost,
        };
        let in_use = length(half(1), in_use, level);
        let mut best = (None, in_use);
        for (place, dictionary) in older.iter().enumerate() {
            let length = length(half(1), Some(dictionary), level);
            if length < best.1 && trial(in_use, length, 0).pays() {
                best = (Some(place), length);
            }
        }
        let keep = best.0.map_or(Verdict::Keep, Verdict::Older);
        let candidate =
            train(half(0)).and_then(|bytes| Dictionary::new(ChunkId([0; 32]), bytes, level).ok());
        let Some(candidate) = candidate else {
            return keep;
        };
        let cost = length([candidate.bytes()].into_iter(), None, level);
        let with = length(half(1), Some(&candidate), level);
        if !trial(best.1, with, cost).pays() {
            return keep;
        }
        train(self.samples.all()).map_or(keep, Verdict::Train)
    }
}

impl Samples {
    fn all(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = &self.bytes[..];
        self.lengths.iter().map(move |length| {
            let (sample, after) = rest.split_at(*length);
            rest = after;
            sample
        })
    }
}

/// Returns how many bytes chunks come to with a dictionary, or without.
fn length<'s>(
    chunks: impl Iterator<Item = &'s [u8]>,
    dictionary: Option<&Dictionary>,
    level: Level,
) -> u64 {
    let mut compressor = Compressor::new(level);
    chunks
        .map(|chunk| compressor.compress(chunk, dictionary).bytes.len() as u64)
        .sum()
}

#[cfg(test)]
mod tests;
