//! [`Figures`]: what a year is measured by.
#![expect(
    clippy::cast_precision_loss,
    reason = "figures are printed with a few digits"
)]

/// A quantity met again and again: its mean and its worst.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spread {
    count: u64,
    sum: f64,
    worst: f64,
}

impl Spread {
    pub(super) fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        self.worst = self.worst.max(value);
    }

    pub(super) fn count(&mut self, value: u64) {
        self.add(value as f64);
    }

    /// Returns the mean, 0 of nothing.
    pub fn mean(&self) -> f64 {
        self.sum / (self.count.max(1) as f64)
    }

    /// Returns the largest value.
    pub const fn worst(&self) -> f64 {
        self.worst
    }
}

/// What a year is measured by. Lengths are in bytes.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// How many commits.
    pub commits: u64,
    /// All that crosses the wire to the provider: requests, nodes, packs of every kind.
    pub sent: u64,
    /// How many packs of either kind were uploaded.
    pub packs_sent: u64,
    /// What crosses the wire for a commit beyond new content's own packs: the request (head, commit, nodes), segments, spilled and
    /// rewritten packs.
    pub commit_bytes: Spread,
    /// The same of those commits only that a store waits for.
    pub waited_bytes: Spread,
    /// The same once the first store is done: what waits for nothing but its own.
    pub waited_later_bytes: Spread,
    /// Requests for these: one for each MiB of a pack, one for the head, one for each node sent ahead of it.
    pub requests: Spread,
    /// Content stored for the first time, compressed and sealed.
    pub content: u64,
    /// The data packs that content was stored in at first: tables and repeated records included.
    pub first_packs: u64,
    /// All data packs uploaded.
    pub data_uploaded: u64,
    /// Living groups of data packs at the end.
    pub data_living: u64,
    /// The journal's segments at the end.
    pub journal: u64,
    /// Both inventories' nodes at the end.
    pub inventory: u64,
    /// Data packs at the end.
    pub data_packs: u64,
    /// Vital packs at the end.
    pub vital_packs: u64,
    /// Dead bytes in living groups, in percent of living ones, after each prune.
    pub waste_percent: Spread,
    /// What a new device reads to know all: head, commit, segments.
    pub recovery: Spread,
    /// The packs it reads for that.
    pub recovery_packs: Spread,
    /// The same bytes against what the kept records take when merged into one.
    pub recovery_ratio: Spread,
}

impl Figures {
    /// Returns how many bytes were uploaded in data packs for each byte of content stored.
    pub fn write_amplification(&self) -> f64 {
        self.data_uploaded as f64 / (self.content.max(1) as f64)
    }
}
