//! Waiting between tries: pauses that grow and are randomised, and a cap on what may fail in a minute.
//!
//! Two rules, for two dangers. [`Backoff`] keeps many clients of a provider that comes back from knocking in step, and one client from
//! knocking without end. [`FailureCap`] bounds what circuits that open and die at once may cost a provider and the Tor network: there the
//! pauses never grow, for every opening is a success.

use core::time::Duration;
use std::collections::VecDeque;

use maimo_core::error::Retry;
use tokio::time::Instant;

/// Pauses between tries, each about twice as long as the one before.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    jitter: Jitter,
}

impl Backoff {
    /// Makes pauses that begin at about `first` and end at about `longest`; `seed` decides what "about" is.
    pub const fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self {
            first,
            longest,
            failures: 0,
            jitter: Jitter(seed),
        }
    }

    /// Takes note of a failure and returns how long to wait; nothing where trying again is of no use.
    pub fn after(&mut self, retry: Retry) -> Option<Duration> {
        let grown = self
            .first
            .saturating_mul(1_u32 << self.failures.min(20))
            .min(self.longest);
        let is_first = self.failures == 0;
        let least = match retry {
            Retry::Never => return None,
            Retry::Immediate if is_first => {
                self.failures += 1;
                return Some(Duration::ZERO);
            }
            Retry::Immediate | Retry::AfterWaiting => Duration::ZERO,
            Retry::After(pause) => pause,
        };
        self.failures = self.failures.saturating_add(1);
        // Half of it fixed, so that a pause is one; half of it drawn, so that no two clients wait alike.
        let drawn = grown / 2 + (grown / 2).mul_f64(self.jitter.fraction());
        Some(drawn.max(least.saturating_add(drawn.mul_f64(0.1))))
    }

    /// Begins anew: what was tried works.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Numbers for pauses, which are no secret (`SplitMix64`).
#[derive(Debug)]
struct Jitter(u64);

impl Jitter {
    /// Returns a number from 0 up to, without, 1.
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0);
        f64::from(high) / (f64::from(u32::MAX) + 1.0)
    }
}

/// How many failures a minute may have before nothing is tried any more.
#[derive(Debug)]
pub struct FailureCap {
    most: usize,
    recent: VecDeque<Instant>,
}

impl FailureCap {
    /// The span that is looked at.
    const SPAN: Duration = Duration::from_mins(1);

    /// Allows tries as long as fewer than `most` failed within a minute.
    pub const fn new(most: usize) -> Self {
        Self {
            most,
            recent: VecDeque::new(),
        }
    }

    /// Takes note of a failure.
    pub fn failed(&mut self, now: Instant) {
        self.recent.push_back(now);
        while self.recent.len() > self.most {
            self.recent.pop_front();
        }
    }

    /// Returns when the next try is allowed; nothing where it is at once.
    pub fn allowed_at(&self, now: Instant) -> Option<Instant> {
        let oldest = *self.recent.front()?;
        let end = oldest + Self::SPAN;
        (self.recent.len() >= self.most && end > now).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(SECOND, SECOND * 8, 7);
        for most in [1, 2, 4, 8, 8, 8] {
            let pause = backoff.after(Retry::AfterWaiting).unwrap();
            assert!(pause >= SECOND * most / 2 && pause <= SECOND * most);
        }
        backoff.reset();
        assert!(backoff.after(Retry::AfterWaiting).unwrap() <= SECOND);
    }

    #[test]
    fn two_clients_do_not_wait_alike() {
        let mut one = Backoff::new(SECOND, SECOND * 8, 1);
        let mut other = Backoff::new(SECOND, SECOND * 8, 2);
        assert_ne!(
            one.after(Retry::AfterWaiting),
            other.after(Retry::AfterWaiting)
        );
    }

    #[test]
    fn what_is_never_to_be_tried_again_is_not() {
        assert_eq!(Backoff::new(SECOND, SECOND, 1).after(Retry::Never), None);
    }

    #[test]
    fn an_immediate_retry_is_one_only_the_first_time() {
        let mut backoff = Backoff::new(SECOND, SECOND * 8, 1);
        assert_eq!(backoff.after(Retry::Immediate), Some(Duration::ZERO));
        assert!(backoff.after(Retry::Immediate).unwrap() >= SECOND);
    }

    #[test]
    fn a_pause_that_is_asked_for_is_kept() {
        let mut backoff = Backoff::new(SECOND, SECOND * 8, 1);
        assert!(backoff.after(Retry::After(SECOND * 30)).unwrap() >= SECOND * 30);
    }

    #[test]
    fn the_cap_opens_again_when_the_oldest_failure_is_a_minute_old() {
        let start = Instant::now();
        let mut cap = FailureCap::new(2);
        cap.failed(start);
        assert_eq!(cap.allowed_at(start), None);
        cap.failed(start + SECOND);
        assert_eq!(cap.allowed_at(start + SECOND), Some(start + SECOND * 60));
        assert_eq!(cap.allowed_at(start + SECOND * 60), None);
    }
}
