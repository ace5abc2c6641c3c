//! A store of tiny files, as programs write them: JSON-like, 100 to 4,000 bytes, stored once a day, pruned once a week.
//!
//! Any file is as likely to change as any other: the hardest case for living groups, of which each holds some twenty files.

use std::collections::BTreeSet;

use maimo_core::clock::Timestamp;
use maimo_vault::{path::StorePath, prune::RewriteRules};

use super::{
    BEGIN_MS, DAY_MS,
    chance::{Chance, record_path},
    figures::Figures,
    store::{Found, FoundChunk, Store, What},
};

/// How much a store of tiny files is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// How many files there are at first.
    pub files: usize,
    /// How many days are simulated.
    pub days: u64,
    /// How many times larger the store is that this one is the likeness of: what the rules allow in bytes, whatever the store, is
    /// divided by it, as a day's packs are.
    pub likeness: u64,
}

/// What a dictionary makes of a chunk, in percent.
const FRAME_PERCENT: u64 = 28;

pub(super) fn year(seed: u64, scale: Scale) -> Figures {
    let mut chance = Chance::new(seed);
    let begin = Timestamp(BEGIN_MS + 3 * 3_600_000);
    let shipped = RewriteRules::default();
    let rules = RewriteRules {
        waste_floor_bytes: shipped.waste_floor_bytes / scale.likeness,
        small_bytes: shipped.small_bytes / scale.likeness,
        ..shipped
    };
    let mut store = Store::new(seed ^ 1, begin, rules);
    let mut named = 0;
    let mut new_path = |chance: &mut Chance| {
        named += 1;
        record_path(chance, named)
    };
    let mut paths: Vec<StorePath> = (0..scale.files).map(|_| new_path(&mut chance)).collect();
    let year_ms = 365 * DAY_MS;
    store.store(
        paths
            .iter()
            .map(|path| file(&mut chance, path, begin.0, year_ms))
            .collect(),
    );
    for day in 1..=scale.days {
        store.now = Timestamp(begin.0 + day * DAY_MS + chance.below(900_000));
        let now = store.now.0;
        let count = paths.len() * chance.index(5) / 1000 + paths.len() / 200;
        let touched: BTreeSet<usize> = (0..count).map(|_| chance.index(paths.len())).collect();
        let mut found = Vec::new();
        // From the end, so that an index stays right while others go.
        for index in touched.into_iter().rev() {
            match chance.below(10) {
                0 => {
                    let path = paths.swap_remove(index);
                    found.push(Found {
                        path,
                        what: What::Gone,
                    });
                }
                1 => {
                    let path = new_path(&mut chance);
                    found.push(file(&mut chance, &path, now, DAY_MS));
                    paths.push(path);
                }
                _ => found.push(file(&mut chance, &paths[index], now, DAY_MS)),
            }
        }
        store.store(found);
        if day % 7 == 0 {
            store.prune();
        }
        store.sample(day % 25 == 0);
    }
    store.check();
    store.figures
}

fn file(chance: &mut Chance, path: &StorePath, now_ms: u64, age_ms: u64) -> Found {
    let size = chance.between(100, 4000);
    Found {
        path: path.clone(),
        what: What::File {
            metadata: chance.metadata(now_ms, age_ms),
            size,
            blake3: chance.bytes(),
            pieces: vec![FoundChunk::new(size * FRAME_PERCENT / 100, size)],
        },
    }
}
