//! [`Timestamp`]: a moment as a value. Nothing here asks a clock; the time comes in as an argument.

use core::time::Duration;

/// Milliseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Returns the moment `duration` later, the last moment there is at most.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }

    /// Returns how long after `earlier` this is; nothing where it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Returns the first moment of its day, by UTC: as much of a visit as is kept.
    #[must_use]
    pub const fn day(self) -> Self {
        const DAY_MS: u64 = 24 * 3600 * 1000;
        Self(self.0 - self.0 % DAY_MS)
    }
}
