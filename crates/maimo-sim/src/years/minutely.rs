//! A daemon that stores every minute: one small file of about thirty changes each time.

use maimo_core::clock::Timestamp;
use maimo_vault::prune::RewriteRules;

use super::{
    chance::{Chance, Zipf, home_path},
    figures::Figures,
    store::{Found, FoundChunk, Store, What},
};

const MINUTE_MS: u64 = 60_000;
const FILES: usize = 30;

pub(super) fn year(seed: u64, days: u64) -> Figures {
    let mut chance = Chance::new(seed);
    let mut store = Store::new(
        seed ^ 1,
        Timestamp(super::BEGIN_MS),
        RewriteRules::default(),
    );
    let paths: Vec<_> = (0..FILES as u64)
        .map(|file| home_path(&mut chance, file * 5))
        .collect();
    let busy = Zipf::new(FILES, 0.8);
    let first = (0..FILES)
        .map(|file| found(&mut chance, &paths[file], super::BEGIN_MS))
        .collect();
    store.store(first);
    for day in 0..days {
        let sampled = chance.below(24 * 60);
        for minute in 0..24 * 60 {
            let at = super::BEGIN_MS + (day * 24 * 60 + minute + 1) * MINUTE_MS;
            store.now = Timestamp(at + chance.below(900));
            let file = busy.draw(&mut chance);
            let found = found(&mut chance, &paths[file], at);
            store.store(vec![found]);
            if minute == sampled {
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

fn found(chance: &mut Chance, path: &maimo_vault::path::StorePath, at: u64) -> Found {
    let frame = if chance.happens(5) {
        chance.log_uniform(16 * 1024, 128 * 1024)
    } else {
        chance.log_uniform(200, 3000)
    };
    Found {
        path: path.clone(),
        what: What::File {
            metadata: chance.metadata(at, MINUTE_MS),
            size: frame * 3,
            blake3: chance.bytes(),
            pieces: vec![FoundChunk::new(frame, frame * 3)],
        },
    }
}
