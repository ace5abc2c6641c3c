//! How a session uses its circuits, and how long it tries.

use core::time::Duration;

/// What may be set. The defaults are for Tor.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many bulk circuits there may be, [`Self::CIRCUITS_MOST`] at most.
    pub circuits: usize,
    /// How long one circuit may take to open, all of the provider's addresses tried.
    pub open_timeout: Duration,
    /// After how long without any sign of the provider a put or read ends as offline.
    pub bulk_patience: Duration,
    /// After how long of trying to reach the provider any other call does.
    pub control_patience: Duration,
    /// After how long a call ends that finds no Tor on this machine, where there was none before either: a Tor that comes up late is
    /// waited for by its transport. One that did work is given the other patience to come back.
    pub tor_patience: Duration,
    /// After how long without a byte a bulk circuit that has work is given up.
    pub stall: Duration,
    /// How long a bulk circuit without work stays open.
    pub bulk_idle: Duration,
    /// How long the control circuit does.
    pub control_idle: Duration,
    /// How many circuits may fail within a minute before no more are opened.
    pub failures_a_minute: usize,
}

impl Settings {
    /// The most bulk circuits that anyone may set: more would burden the Tor network and gain nothing.
    pub const CIRCUITS_MOST: usize = 8;

    /// Returns how many bulk circuits there may be, whatever was set.
    pub(super) fn circuits_used(&self) -> usize {
        self.circuits.clamp(1, Self::CIRCUITS_MOST)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            circuits: 4,
            open_timeout: Duration::from_secs(90),
            bulk_patience: Duration::from_mins(2),
            control_patience: Duration::from_mins(1),
            tor_patience: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            bulk_idle: Duration::from_mins(1),
            control_idle: Duration::from_mins(5),
            failures_a_minute: 16,
        }
    }
}
