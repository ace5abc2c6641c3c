//! A home folder: some ten thousands of files of all sizes, stored once a day, pruned after each store.
//!
//! Edits follow Zipf's law: a few files change in every run, most never. A large file changes in a few of its chunks.

use maimo_core::clock::Timestamp;
use maimo_vault::{path::StorePath, prune::RewriteRules};

use super::{
    BEGIN_MS, DAY_MS,
    chance::{Chance, Zipf, home_path},
    figures::Figures,
    store::{Found, FoundChunk, Store, What},
};

/// How much a home folder is, and how much of it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// How many files there are at first.
    pub files: usize,
    /// How many days are simulated.
    pub days: u64,
    /// Edits a day; some hit the same file.
    pub edits: u64,
}

const CHUNK_BYTES: u64 = 1024 * 1024;
const FILE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
const YEARS_MS: u64 = 10 * 365 * DAY_MS;

struct Home {
    chance: Chance,
    store: Store,
    paths: Vec<StorePath>,
    named: u64,
}

pub(super) fn year(seed: u64, scale: Scale) -> Figures {
    let begin = Timestamp(BEGIN_MS + 20 * 3_600_000);
    let mut home = Home {
        chance: Chance::new(seed),
        store: Store::new(seed ^ 1, begin, RewriteRules::default()),
        paths: Vec::new(),
        named: 0,
    };
    let first = (0..scale.files).map(|_| home.new_file(YEARS_MS)).collect();
    home.store.store(first);
    let busy = Zipf::new(scale.files, 1.0);
    for day in 1..=scale.days {
        home.store.now = Timestamp(begin.0 + day * DAY_MS + home.chance.below(900_000));
        home.day(&busy, scale.edits);
        home.store.prune();
        home.store.sample(day % 3 == 0);
    }
    home.store.check();
    home.store.figures
}

impl Home {
    /// One day's edits, new files, deletions and renames, stored.
    fn day(&mut self, busy: &Zipf, edits: u64) {
        let mut found = Vec::new();
        let mut touched = std::collections::BTreeSet::new();
        for _ in 0..edits {
            let file = busy.draw(&mut self.chance) % self.paths.len();
            if touched.insert(file) {
                found.push(self.edited(file));
            }
        }
        let few = edits / 10;
        for _ in 0..few / 2 {
            let file = self.chance.index(self.paths.len());
            if touched.insert(file) {
                found.push(gone(&self.paths[file]));
                // Its place, and how busy that is, goes to a new file.
                let new = self.new_file(DAY_MS);
                self.paths[file] = self.paths.pop().expect("it was just pushed");
                found.push(new);
            }
        }
        for _ in 0..few / 4 {
            let file = self.chance.index(self.paths.len());
            if touched.insert(file) {
                found.extend(self.renamed(file));
            }
        }
        for _ in 0..few {
            let new = self.new_file(DAY_MS);
            found.push(new);
        }
        self.store.store(found);
    }

    fn new_file(&mut self, age_ms: u64) -> Found {
        let size = self.chance.log_normal(16 * 1024, 2.6, FILE_BYTES_MAX);
        let mut pieces = Vec::new();
        let mut left = size;
        while left > 0 {
            let length = if left <= CHUNK_BYTES * 3 / 2 {
                left
            } else {
                self.chance.between(CHUNK_BYTES / 2, CHUNK_BYTES * 3 / 2)
            };
            left -= length;
            pieces.push(self.new_chunk(length));
        }
        let path = home_path(&mut self.chance, self.named);
        self.named += 1;
        self.paths.push(path.clone());
        self.found(path, size, pieces, age_ms)
    }

    /// Half of all chunks are of files that do not compress.
    fn new_chunk(&mut self, plain: u64) -> FoundChunk {
        let frame = if self.chance.happens(500) {
            plain
        } else {
            (plain / 3).max(1)
        };
        FoundChunk::new(frame, plain)
    }

    fn edited(&mut self, file: usize) -> Found {
        let path = self.paths[file].clone();
        let known = self.store.chunks_of(&path);
        let mut pieces: Vec<_> = known.into_iter().map(FoundChunk::Known).collect();
        if let [piece] = &mut pieces[..] {
            let length = self.chance.log_normal(16 * 1024, 1.6, CHUNK_BYTES);
            *piece = self.new_chunk(length);
        } else {
            // An edit in one place, seldom more.
            for _ in 0..=pieces.len() / 50 {
                let at = self.chance.index(pieces.len());
                let length = self.chance.between(CHUNK_BYTES / 2, CHUNK_BYTES * 3 / 2);
                pieces[at] = self.new_chunk(length);
            }
        }
        let size = pieces.len() as u64 * CHUNK_BYTES - self.chance.below(CHUNK_BYTES);
        self.found(path, size, pieces, DAY_MS)
    }

    fn renamed(&mut self, file: usize) -> [Found; 2] {
        let old = self.paths[file].clone();
        let pieces: Vec<_> = self
            .store
            .chunks_of(&old)
            .into_iter()
            .map(FoundChunk::Known)
            .collect();
        let path = home_path(&mut self.chance, self.named);
        self.named += 1;
        self.paths[file] = path.clone();
        let size = pieces.len() as u64 * CHUNK_BYTES;
        [gone(&old), self.found(path, size, pieces, YEARS_MS)]
    }

    fn found(&mut self, path: StorePath, size: u64, pieces: Vec<FoundChunk>, age_ms: u64) -> Found {
        let metadata = self.chance.metadata(self.store.now.0, age_ms);
        let blake3 = self.chance.bytes();
        Found {
            path,
            what: What::File {
                metadata,
                size,
                blake3,
                pieces,
            },
        }
    }
}

fn gone(path: &StorePath) -> Found {
    Found {
        path: path.clone(),
        what: What::Gone,
    }
}
