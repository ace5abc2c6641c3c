//! What a server has done so far, in numbers.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::wire::Call;

/// A number for each call, in the order of [`Call::ALL`].
pub type ByCall = [u64; Call::ALL.len()];

/// A snapshot of what a server has done since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that came in.
    pub connections: u64,
    /// Connections of known clients, now, to all servers that share resources.
    pub connected: u64,
    /// Known clients with such connections, now.
    pub clients: u64,
    /// Connections whose client is not known, or not yet, now.
    pub strangers: u64,
    /// Connections that never got as far as to prove a key.
    pub handshakes_failed: u64,
    /// Connections whose client was sent away: unknown, revoked, or too many.
    pub sent_away: u64,
    /// Connections that were cut off: garbage, floods, no sign of life.
    pub broken: u64,
    /// Calls that came in.
    pub calls: u64,
    /// Of those, by which call it was.
    pub called: ByCall,
    /// Of those, done and answered.
    pub answered: ByCall,
    /// Of those, answered with an error.
    pub refused: u64,
    /// Of those, answered with *busy*.
    pub busy: u64,
    /// Calls in which the provider's program failed.
    pub panicked: u64,
    /// Bytes received, below TLS's own.
    pub received: u64,
    /// Bytes sent, below TLS's own.
    pub sent: u64,
}

impl Counters {
    /// Adds what another server has done that shares resources with this one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            // Each has counted those of all.
            connected: self.connected.max(other.connected),
            clients: self.clients.max(other.clients),
            strangers: self.strangers + other.strangers,
            handshakes_failed: self.handshakes_failed + other.handshakes_failed,
            sent_away: self.sent_away + other.sent_away,
            broken: self.broken + other.broken,
            calls: self.calls + other.calls,
            called: core::array::from_fn(|call| self.called[call] + other.called[call]),
            answered: core::array::from_fn(|call| self.answered[call] + other.answered[call]),
            refused: self.refused + other.refused,
            busy: self.busy + other.busy,
            panicked: self.panicked + other.panicked,
            received: self.received + other.received,
            sent: self.sent + other.sent,
        }
    }
}

/// What counts.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) connections: AtomicU64,
    pub(crate) handshakes_failed: AtomicU64,
    pub(crate) sent_away: AtomicU64,
    pub(crate) broken: AtomicU64,
    pub(crate) calls: AtomicU64,
    pub(crate) called: [AtomicU64; Call::ALL.len()],
    pub(crate) answered: [AtomicU64; Call::ALL.len()],
    pub(crate) refused: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) panicked: AtomicU64,
}

impl Counting {
    /// Returns what was counted here; bytes, and who is here now, are counted elsewhere.
    pub(crate) fn snapshot(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            connections: read(&self.connections),
            handshakes_failed: read(&self.handshakes_failed),
            sent_away: read(&self.sent_away),
            broken: read(&self.broken),
            calls: read(&self.calls),
            called: self.called.each_ref().map(read),
            answered: self.answered.each_ref().map(read),
            refused: read(&self.refused),
            busy: read(&self.busy),
            panicked: read(&self.panicked),
            ..Counters::default()
        }
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
