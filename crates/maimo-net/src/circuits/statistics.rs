//! What circuits did, counted.

use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use crate::rate::Meter;

/// Counters that all circuits of a connector share.
#[derive(Debug, Default)]
pub struct Counters {
    meter: Arc<Meter>,
    pub(super) circuits: AtomicU64,
    pub(super) jobs: AtomicU64,
    pub(super) repeated: AtomicU64,
    pub(super) repeated_bytes: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) rebuilds: AtomicU64,
}

/// A moment's counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Circuits open, control included.
    pub circuits: u64,
    /// Bytes sent, all that TLS and HTTP add included.
    pub sent: u64,
    /// Bytes received, likewise.
    pub received: u64,
    /// Puts and reads that were answered.
    pub jobs: u64,
    /// Puts and reads that a lost circuit took along and that went to another.
    pub repeated: u64,
    /// Bytes of puts that were sent again, because the provider said that it lacks them.
    pub repeated_bytes: u64,
    /// Puts and reads that ran on two circuits at once.
    pub duplicates: u64,
    /// Circuits opened in place of lost ones.
    pub rebuilds: u64,
}

impl Counters {
    /// Returns what counts the bytes of all circuits.
    pub const fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// Returns what was counted so far.
    pub fn statistics(&self) -> Statistics {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Statistics {
            circuits: count(&self.circuits),
            sent: self.meter.sent(),
            received: self.meter.received(),
            jobs: count(&self.jobs),
            repeated: count(&self.repeated),
            repeated_bytes: count(&self.repeated_bytes),
            duplicates: count(&self.duplicates),
            rebuilds: count(&self.rebuilds),
        }
    }
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A circuit that is open for as long as this lives.
#[derive(Debug)]
pub(super) struct Open(Arc<Counters>);

impl Open {
    pub(super) fn count(counters: &Arc<Counters>) -> Self {
        count(&counters.circuits);
        Self(Arc::clone(counters))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.circuits.fetch_sub(1, Ordering::Relaxed);
    }
}
