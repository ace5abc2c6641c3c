//! A daemon that stores every minute: one small file of about thirty changes each time.
//!
//! [`Minutes`] says what changes when, to the model here and to whoever replays the year against a real provider.

use maimo_core::clock::Timestamp;
use maimo_vault::{journal::metadata::Metadata, path::StorePath, prune::RewriteRules};

use super::{
    chance::{Chance, Zipf, home_path},
    figures::Figures,
    store::{Found, FoundChunk, Store, What},
};

/// How many minutes a day has.
pub const DAY_MINUTES: u64 = 24 * 60;

const MINUTE_MS: u64 = 60_000;
const FILES: usize = 30;
/// How many times longer a file is than what it compresses to.
const COMPRESSES: u64 = 3;

/// A file as it is from some minute on.
#[derive(Debug, Clone)]
pub struct Change {
    /// Where it is.
    pub path: StorePath,
    /// What it compresses to, in bytes.
    pub frame: u64,
    metadata: Metadata,
    blake3: [u8; 32],
}

impl Change {
    /// Returns how long the file is, in bytes.
    pub const fn size(&self) -> u64 {
        self.frame * COMPRESSES
    }

    fn found(self) -> Found {
        let size = self.size();
        Found {
            path: self.path,
            what: What::File {
                metadata: self.metadata,
                size,
                blake3: self.blake3,
                pieces: vec![FoundChunk::new(self.frame, size)],
            },
        }
    }
}

/// What changes, minute by minute.
pub struct Minutes {
    chance: Chance,
    paths: Vec<StorePath>,
    busy: Zipf,
    minute: u64,
    sampled: u64,
}

impl Minutes {
    /// Begins a year; the same seed begins the same one.
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let paths = (0..FILES as u64)
            .map(|file| home_path(&mut chance, file * 5))
            .collect();
        Self {
            chance,
            paths,
            busy: Zipf::new(FILES, 0.8),
            minute: 0,
            sampled: 0,
        }
    }

    /// Returns all files as the daemon finds them first.
    pub fn first(&mut self) -> Vec<Change> {
        (0..FILES)
            .map(|file| self.change(file, super::BEGIN_MS))
            .collect()
    }

    /// Returns the next minute's change and when the daemon stores it.
    pub fn next_change(&mut self) -> (Timestamp, Change) {
        if self.minute.is_multiple_of(DAY_MINUTES) {
            self.sampled = self.minute + self.chance.below(DAY_MINUTES);
        }
        self.minute += 1;
        let at = super::BEGIN_MS + self.minute * MINUTE_MS;
        let now = Timestamp(at + self.chance.below(900));
        let file = self.busy.draw(&mut self.chance);
        (now, self.change(file, at))
    }

    /// Returns whether the last minute's state is to be looked at: one of each day is.
    pub const fn is_sampled(&self) -> bool {
        self.minute == self.sampled + 1
    }

    fn change(&mut self, file: usize, at: u64) -> Change {
        let chance = &mut self.chance;
        let frame = if chance.happens(5) {
            chance.log_uniform(16 * 1024, 128 * 1024)
        } else {
            chance.log_uniform(200, 3000)
        };
        Change {
            path: self.paths[file].clone(),
            frame,
            metadata: chance.metadata(at, MINUTE_MS),
            blake3: chance.bytes(),
        }
    }
}

/// Simulates the year, or so many days of it.
///
/// # Panics
///
/// Where a head would let go of something kept, or a rule makes what cannot be.
pub fn year(seed: u64, days: u64) -> Figures {
    let mut minutes = Minutes::new(seed);
    let mut store = Store::new(
        seed ^ 1,
        Timestamp(super::BEGIN_MS),
        RewriteRules::default(),
    );
    let first = minutes.first().into_iter().map(Change::found);
    store.store(first.collect());
    for day in 0..days {
        for _ in 0..DAY_MINUTES {
            let (now, change) = minutes.next_change();
            store.now = now;
            store.store(vec![change.found()]);
            if minutes.is_sampled() {
                store.sample(true);
            }
        }
        store.prune();
        if day % 30 == 0 {
            store.check();
        }
    }
    store.check();
    store.figures
}
