//! Silence: a challenge that was asked again and again and never answered.
//!
//! A provider that has lost something could be busy, or cut the way, whenever just that is asked for. So a challenge is asked verbatim until it is answered,
//! and one that never is counts as missing in the end. Not at once: providers are busy, disks are away, and a day is no time for who has to look into it.

use crate::clock::Timestamp;

/// How often, and on how many days, a challenge was asked and not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Silence {
    /// How often.
    pub tries: u32,
    /// On how many days, by UTC.
    pub days: u32,
    /// The last of these days, counted from 1970.
    pub last_day: u64,
}

impl Silence {
    /// How many tries it takes to count as missing.
    pub const TRIES: u32 = 5;
    /// On how many days they must be.
    pub const DAYS: u32 = 3;

    /// Adds a try.
    #[must_use]
    pub const fn and_again(self, now: Timestamp) -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        let day = now.0 / DAY_MS;
        // A clock that was set back makes no new day of one that was counted.
        let is_new = self.tries == 0 || day > self.last_day;
        Self {
            tries: self.tries.saturating_add(1),
            days: if is_new {
                self.days.saturating_add(1)
            } else {
                self.days
            },
            last_day: if is_new { day } else { self.last_day },
        }
    }

    /// Returns whether what was asked for counts as missing.
    pub const fn is_missing(self) -> bool {
        self.tries >= Self::TRIES && self.days >= Self::DAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(hours: &[u64]) -> Silence {
        let tries = hours.iter();
        tries.fold(Silence::default(), |silence, hour| {
            silence.and_again(Timestamp(hour * 60 * 60 * 1000))
        })
    }

    #[test]
    fn five_tries_on_three_days_are_missing_and_neither_alone_is() {
        assert!(after(&[1, 2, 25, 26, 49]).is_missing());
        assert!(!after(&[1, 25, 49, 73]).is_missing());
        assert!(!after(&[1, 2, 3, 25, 26, 27, 28]).is_missing());
        assert!(!after(&[]).is_missing());
    }

    #[test]
    fn a_clock_that_goes_back_and_forth_makes_no_days() {
        let silence = after(&[100, 1, 100, 1, 100, 1]);
        assert_eq!((silence.tries, silence.days), (6, 1));
    }
}
