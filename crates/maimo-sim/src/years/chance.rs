//! [`Chance`]: seeded draws from the few distributions that the years are made of, and names that look like people's.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "draws are rounded on purpose and bounded by those who ask for them"
)]

use core::f64::consts::TAU;

use maimo_vault::{
    journal::metadata::{FileTime, Metadata},
    path::{Prefix, StorePath},
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// Draws; the same seed gives the same draws.
pub(super) struct Chance(ChaCha8Rng);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns a number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of a remainder is far below anything measured here.
        self.0.next_u64() % bound
    }

    pub(super) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most - least + 1)
    }

    /// Returns whether an event of so many in a thousand happens.
    pub(super) fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }

    pub(super) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.0.fill_bytes(&mut bytes);
        bytes
    }

    /// Returns what sealing and signing draw from.
    pub(super) const fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    /// Draws from a log-normal distribution with this median and this spread (the standard deviation of the logarithm).
    pub(super) fn log_normal(&mut self, median: u64, spread: f64, most: u64) -> u64 {
        // Box and Muller's transform.
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        let normal = radius * (TAU * self.unit()).cos();
        ((median as f64 * (spread * normal).exp()) as u64).clamp(1, most)
    }

    /// Draws between `least` and `most`, each order of magnitude alike.
    pub(super) fn log_uniform(&mut self, least: u64, most: u64) -> u64 {
        let span = (most as f64 / least as f64).ln();
        ((least as f64 * (span * self.unit()).exp()) as u64).clamp(least, most)
    }

    /// What a file system says of a file changed within the `span_ms` before `now_ms`.
    pub(super) fn metadata(&mut self, now_ms: u64, span_ms: u64) -> Metadata {
        let time = |chance: &mut Self, back: u64| FileTime {
            seconds: ((now_ms - back) / 1000).cast_signed(),
            nanos: chance.below(1_000_000_000) as u32,
        };
        let back = self.below(span_ms);
        Metadata {
            mode: if self.happens(60) { 0o755 } else { 0o644 },
            uid: 1000,
            gid: 1000,
            modified: time(self, back),
            // Most files are written once: made when last changed.
            created: Some(time(self, back)),
            xattrs: Vec::new(),
            sparse: false,
        }
    }

    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// Zipf's law over ranks from 0: rank `r` is drawn in proportion to `1 / (r + 1)^exponent`.
pub(super) struct Zipf(Vec<f64>);

impl Zipf {
    pub(super) fn new(ranks: usize, exponent: f64) -> Self {
        let weights = (1..=ranks).map(|rank| (rank as f64).powf(-exponent));
        let sums = weights.scan(0.0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self(sums.collect())
    }

    pub(super) fn draw(&self, chance: &mut Chance) -> usize {
        let total = self.0.last().copied().unwrap_or(1.0);
        let at = chance.unit() * total;
        self.0
            .partition_point(|sum| *sum <= at)
            .min(self.0.len() - 1)
    }
}

const TOPICS: [&str; 24] = [
    "archive",
    "bank",
    "blog",
    "books",
    "camera",
    "contracts",
    "drafts",
    "family",
    "garden",
    "house",
    "invoices",
    "letters",
    "mail",
    "maps",
    "music",
    "notes",
    "photos",
    "projects",
    "recipes",
    "research",
    "scans",
    "school",
    "taxes",
    "travel",
];
const WORDS: [&str; 40] = [
    "autumn", "balance", "bridge", "budget", "chapter", "copy", "cover", "daily", "draft",
    "edition", "evening", "figure", "final", "form", "group", "harbour", "index", "journey",
    "kitchen", "list", "meeting", "minutes", "morning", "offer", "old", "order", "outline",
    "paper", "plan", "portrait", "receipt", "report", "review", "sketch", "spring", "summary",
    "summer", "table", "version", "winter",
];
const KINDS: [&str; 12] = [
    "jpg", "txt", "pdf", "md", "py", "html", "png", "odt", "json", "csv", "mp3", "c",
];

/// A path in a home folder; `number` makes it the only one of its name, files of near numbers share a folder.
pub(super) fn home_path(chance: &mut Chance, number: u64) -> StorePath {
    let folder = number / 12;
    let pick = |list: &[&'static str], n: u64| list[(n % list.len() as u64) as usize].to_owned();
    let mut components = vec!["home".to_owned(), "ann".to_owned(), pick(&TOPICS, folder)];
    components.push(format!(
        "{}-{}",
        pick(&WORDS, folder / 24),
        2005 + folder % 21
    ));
    if folder.is_multiple_of(3) {
        components.push(pick(&WORDS, folder / 7));
    }
    components.push(format!(
        "{}_{}{number}.{}",
        pick(&WORDS, chance.below(40)),
        pick(&WORDS, chance.below(40)),
        pick(&KINDS, chance.below(12)),
    ));
    path(components)
}

/// A path in a folder of records, one file each, named by an identifier as programs give them.
pub(super) fn record_path(chance: &mut Chance, number: u64) -> StorePath {
    let id = chance.below(1 << 48);
    path(vec![
        "srv".to_owned(),
        "records".to_owned(),
        format!("{:02x}", number / 1000 % 256),
        format!("{:02x}", number / 250 % 256),
        format!("{number:x}-{id:012x}.json"),
    ])
}

fn path(components: Vec<String>) -> StorePath {
    let components = components.into_iter().map(String::into_bytes).collect();
    StorePath::new(Prefix::Unix, components).expect("words are good names")
}
