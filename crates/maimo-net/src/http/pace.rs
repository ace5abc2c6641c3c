//! How slow a body may be: slow as a bad circuit, not as one who only wants to keep a place.
//!
//! A body that stands still for [`SILENCE`] is given up, and so is one that moves by fewer than [`RATE_MIN`] bytes a second on average over [`SPAN`],
//! or so slowly that it would take longer than [`BODY_TIME_MAX`]: a long one is not to be held in memory for days.

use core::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

/// How long a body may stand still.
pub const SILENCE: Duration = Duration::from_mins(1);
/// How many bytes of a body have to move in a second, on average over [`SPAN`].
pub const RATE_MIN: u64 = 64;
/// How long a body may take as a whole, at the rate of any [`SPAN`].
pub const BODY_TIME_MAX: Duration = Duration::from_hours(4);
/// Over how long the rate is taken.
pub const SPAN: Duration = Duration::from_mins(2);

/// A body moved too slowly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSlow;

/// Watches one body.
#[derive(Debug)]
pub(crate) struct Pace {
    moved: Instant,
    span_began: Instant,
    span_bytes: u64,
    span_bytes_min: u64,
}

impl Pace {
    /// Begins to watch a body of so many bytes.
    pub(crate) fn of(body: u64) -> Self {
        let now = Instant::now();
        let rate_min = RATE_MIN.max(body / BODY_TIME_MAX.as_secs());
        Self {
            span_bytes_min: rate_min * SPAN.as_secs(),
            moved: now,
            span_began: now,
            span_bytes: 0,
        }
    }

    /// Takes note that so many bytes have moved.
    pub(crate) fn moved(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let now = Instant::now();
        // A span of too few bytes goes on, and the next wait is its last.
        if now >= self.span_began + SPAN && self.span_bytes >= self.span_bytes_min {
            self.span_began = now;
            self.span_bytes = 0;
        }
        self.moved = now;
        self.span_bytes += bytes as u64;
    }

    /// Waits for what moves the body along.
    pub(crate) async fn wait<T>(&self, step: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut deadline = self.moved + SILENCE;
        if self.span_bytes < self.span_bytes_min {
            deadline = deadline.min(self.span_began + SPAN);
        }
        timeout_at(deadline, step).await.map_err(|_| TooSlow)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    async fn drip(bytes: usize, pause: Duration) -> Duration {
        let (mut pace, began) = (Pace::of(1_000_000), Instant::now());
        while began.elapsed() < Duration::from_hours(1) {
            if pace.wait(sleep(pause)).await.is_err() {
                break;
            }
            pace.moved(bytes);
        }
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stands_still_is_given_up_after_a_minute() {
        assert_eq!(drip(1_000_000, Duration::from_secs(61)).await, SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_is_given_up_after_two_minutes() {
        assert_eq!(drip(600, Duration::from_secs(10)).await, SPAN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_as_slow_as_a_bad_circuit_arrives() {
        assert!(drip(700, Duration::from_secs(10)).await >= Duration::from_hours(1));
        assert!(drip(8_000, Duration::from_secs(59)).await >= Duration::from_hours(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_body_may_not_take_days() {
        let mut pace = Pace::of(64 * 1024 * 1024);
        let began = Instant::now();
        while pace.wait(sleep(Duration::from_secs(10))).await.is_ok() {
            pace.moved(46_000);
        }
        assert_eq!(began.elapsed(), SPAN);
    }

    #[tokio::test(start_paused = true)]
    async fn one_fast_span_does_not_pay_for_the_next() {
        let mut pace = Pace::of(1_000_000);
        pace.moved(1_000_000);
        advance(Duration::from_secs(59)).await;
        pace.moved(1);
        advance(Duration::from_secs(59)).await;
        pace.moved(1);
        advance(Duration::from_secs(59)).await;
        pace.moved(1);
        let began = Instant::now();
        while pace.wait(sleep(Duration::from_secs(50))).await.is_ok() {
            pace.moved(1);
        }
        assert_eq!(began.elapsed(), SPAN);
    }
}
