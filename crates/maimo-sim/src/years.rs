//! Three simulated years, as a table: a home folder, a store of tiny files, a daemon that stores every minute.
//!
//! One device, one channel, no faults, virtual time. Contents do not exist: their chunks are incompressible bytes of the right length, and
//! of data packs only the geometry is worked out. Journal, commits, inventories and heads are encoded, compressed, sealed and signed for
//! real by the shipped rules of `maimo-vault`, which decide what is merged, dropped and rewritten; nothing here does.

mod chance;
mod figures;
pub mod home;
mod million;
pub mod minutely;
mod sealer;
mod store;
mod table;
pub mod tiny;

use std::thread;

pub use figures::{Figures, Spread};
pub use table::Table;

/// When the years begin, in milliseconds since 1970: 2026-01-01T00:00:00Z.
pub const BEGIN_MS: u64 = 1_767_225_600_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How much is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    /// The home folder.
    pub home: home::Scale,
    /// The store of tiny files.
    pub tiny: tiny::Scale,
    /// How many days the daemon stores every minute of.
    pub minutely_days: u64,
    /// How many files are freshly stored to weigh their journal.
    pub fresh_files: u64,
}

impl Scale {
    /// Returns the scale of whole years, cut short to so many days.
    ///
    /// The store of tiny files stands for one ten times as large.
    pub const fn of_days(days: u64) -> Self {
        Self {
            home: home::Scale {
                files: 57_000,
                days,
                edits: 200,
            },
            tiny: tiny::Scale {
                files: 200_000,
                days,
                likeness: 10,
            },
            minutely_days: days,
            fresh_files: 1_000_000,
        }
    }
}

/// Simulates the years, side by side.
///
/// # Panics
///
/// Where a head would let go of something kept, or a rule makes what cannot be.
pub fn run(seed: u64, scale: Scale) -> Table {
    let failed = "a year that fails says so itself";
    thread::scope(|threads| {
        let home = threads.spawn(|| home::year(seed, scale.home));
        let tiny = threads.spawn(|| tiny::year(seed, scale.tiny));
        let minutely = threads.spawn(|| minutely::year(seed, scale.minutely_days));
        Table {
            scale,
            fresh_journal: million::journal_bytes(seed, scale.fresh_files),
            home: home.join().expect(failed),
            tiny: tiny.join().expect(failed),
            minutely: minutely.join().expect(failed),
        }
    })
}

#[cfg(test)]
mod tests;
