//! How many bulk circuits to use: one, and another only if the last one helped. Two from the start where much was announced: to measure one
//! alone first would cost a transfer of a second a third of it.
//!
//! ```text
//!            queue long             settled, measured
//!   one  ------------------> trial ------------------> helped: another trial, of two if it helped much
//!                            ^ ^ |                '--> not, and measured long enough: without it, and hold
//!                            | '-' not yet: measured for twice as long
//!                            '--------- hold over, queue long --'
//! ```
//!
//! Throughput over Tor is restless, and a new circuit gathers speed for a while. So a yes is had in a fraction of a second and a no takes
//! longer: a circuit too many costs little, and one too few costs its share of the whole transfer. What counts as help is a good part of what
//! a fair share would bring, no more; and a verdict is not for ever. Bytes are counted as they move, not as jobs end.

use core::time::Duration;

use tokio::time::Instant;

/// How long a new circuit may gather speed before it is judged. The first has nothing to be compared with.
const SETTLE: Duration = Duration::from_millis(100);
/// The shortest span of a measurement. One that finds no help is followed by one of twice its length, up to [`SPAN_OF_DOUBT`].
const SPAN: Duration = Duration::from_millis(100);
/// What has to be measured before an addition is said not to help.
const SPAN_OF_DOUBT: Duration = Duration::from_millis(800);
/// How much has to move in it; a slow link is measured for longer, up to [`SPAN_LONGEST`].
const SPAN_BYTES: u64 = 256 * 1024;
const SPAN_LONGEST: Duration = Duration::from_secs(5);
/// What part of a fair share a circuit has to bring to be kept, and to make the next addition one of two.
const HELP: f64 = 0.3;
const MUCH_HELP: f64 = 0.7;
/// How long a verdict against another circuit holds at first, and at most.
const HOLD: Duration = Duration::from_secs(5);
const HOLD_LONGEST: Duration = Duration::from_mins(5);

/// How many circuits are used, and what the last ones brought.
#[derive(Debug)]
pub(super) struct Growth {
    most: usize,
    level: usize,
    trial: Option<Trial>,
    span: Option<Span>,
    hold: Duration,
    held_until: Option<Instant>,
}

/// An addition that is not yet judged.
#[derive(Debug, Clone, Copy)]
struct Trial {
    added: usize,
    /// The rate before, in bytes a second.
    before: f64,
    /// How long the next measurement is at least.
    span: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    since: Instant,
    moved: u64,
    is_settled: bool,
}

impl Growth {
    pub(super) const fn new(most: usize) -> Self {
        Self {
            most,
            level: 1,
            trial: None,
            span: None,
            hold: HOLD,
            held_until: None,
        }
    }

    /// Returns how many circuits are to be used.
    pub(super) const fn level(&self) -> usize {
        self.level
    }

    /// Takes note that there is more to do than one circuit should be left alone with.
    pub(super) fn expect_much(&mut self) {
        if self.trial.is_none() && self.held_until.is_none() {
            self.level = self.level.max(2.min(self.most));
        }
    }

    /// Returns how many more may be wanted before long.
    pub(super) fn ahead(&self, now: Instant) -> usize {
        if self.is_held(now) {
            return 0;
        }
        (self.most - self.level).min(2)
    }

    fn is_held(&self, now: Instant) -> bool {
        self.held_until.is_some_and(|until| until > now)
    }

    /// Takes note of how many bytes have moved in all, over `used` circuits, and whether the queue would keep another one busy.
    pub(super) fn observe(&mut self, now: Instant, used: usize, moved: u64, queue_is_long: bool) {
        let is_of_use = self.trial.is_some() || (self.level < self.most && !self.is_held(now));
        if !queue_is_long || used < self.level || !is_of_use {
            self.span = None;
            return;
        }
        let start = Span {
            since: now,
            moved,
            is_settled: false,
        };
        let span = *self.span.get_or_insert(start);
        let elapsed = now.duration_since(span.since);
        let bytes = moved.saturating_sub(span.moved);
        if !span.is_settled {
            // The first bytes may be long in coming; a span without any says nothing.
            let settle = self.trial.map_or(Duration::ZERO, |_| SETTLE);
            if elapsed >= settle && bytes > 0 {
                self.span = Some(Span {
                    is_settled: true,
                    ..start
                });
            }
            return;
        }
        let shortest = self.trial.map_or(SPAN, |trial| trial.span);
        if elapsed < shortest || (bytes < SPAN_BYTES && elapsed < SPAN_LONGEST) {
            return;
        }
        self.span = None;
        #[expect(clippy::cast_precision_loss, reason = "a rate is not known to 52 bits")]
        self.judge(bytes as f64 / elapsed.as_secs_f64(), now);
    }

    /// Judges the last addition by the rate with it, and makes the next; or has it measured once more.
    fn judge(&mut self, rate: f64, now: Instant) {
        let mut next = 1;
        if let Some(trial) = &mut self.trial {
            let ratio = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
            let fair_share = ratio(trial.added) / ratio(self.level - trial.added);
            let help = (rate / trial.before - 1.0) / fair_share;
            if help < HELP && trial.span < SPAN_OF_DOUBT {
                trial.span *= 2;
                return;
            }
            if help < HELP {
                self.level -= trial.added;
                self.trial = None;
                self.held_until = Some(now + self.hold);
                self.hold = (self.hold * 2).min(HOLD_LONGEST);
                return;
            }
            self.trial = None;
            self.hold = HOLD;
            if help >= MUCH_HELP {
                next = 2;
            }
        } else if self.level > 1 {
            next = 2;
        }
        let added = next.min(self.most - self.level);
        if added > 0 {
            self.level += added;
            self.trial = Some(Trial {
                added,
                before: rate,
                span: SPAN,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    /// Runs a queue that never ends over a link of which `rate` circuits get so many bytes a second.
    fn run(growth: &mut Growth, start: Instant, seconds: u64, mut rate: impl FnMut(usize) -> u64) {
        let mut moved = 0;
        for tick in 0..seconds * 10 {
            growth.observe(
                start + Duration::from_millis(tick * 100),
                growth.level(),
                moved,
                true,
            );
            moved += rate(growth.level()) / 10;
        }
    }

    #[test]
    fn as_long_as_each_circuit_helps_another_is_added_up_to_the_most() {
        let mut growth = Growth::new(4);
        run(&mut growth, Instant::now(), 5, |n| n as u64 * 3 * MIB);
        assert_eq!(growth.level(), 4);
    }

    #[test]
    fn a_circuit_that_does_not_help_is_not_used_and_not_tried_at_once_again() {
        let start = Instant::now();
        let mut growth = Growth::new(4);
        run(&mut growth, start, 4, |_| 6 * MIB);
        assert_eq!(growth.level(), 1);
        assert_eq!(growth.ahead(start + Duration::from_secs(4)), 0);
        assert_eq!(growth.ahead(start + Duration::from_secs(10)), 2);
    }

    #[test]
    fn growth_stops_where_the_third_circuit_brings_nothing() {
        let mut growth = Growth::new(8);
        run(&mut growth, Instant::now(), 4, |n| {
            n.min(2) as u64 * 3 * MIB
        });
        assert_eq!(growth.level(), 2);
    }

    #[test]
    fn what_did_not_help_once_may_help_later() {
        let start = Instant::now();
        let mut growth = Growth::new(2);
        run(&mut growth, start, 4, |_| 6 * MIB);
        let later = start + Duration::from_mins(1);
        run(&mut growth, later, 5, |n| n as u64 * 6 * MIB);
        assert_eq!(growth.level(), 2);
    }

    #[test]
    fn a_slow_link_is_judged_too() {
        let mut growth = Growth::new(3);
        run(&mut growth, Instant::now(), 60, |n| n as u64 * 10_000);
        assert_eq!(growth.level(), 3);
    }

    #[test]
    fn where_much_is_to_come_two_begin_and_the_rest_has_to_help() {
        let start = Instant::now();
        let mut growth = Growth::new(4);
        growth.expect_much();
        assert_eq!(growth.level(), 2);
        run(&mut growth, start, 4, |n| n.min(2) as u64 * 3 * MIB);
        assert_eq!(growth.level(), 2);
        assert_eq!(growth.ahead(start + Duration::from_secs(4)), 0);
        let mut alone = Growth::new(1);
        alone.expect_much();
        assert_eq!(alone.level(), 1);
    }

    #[test]
    fn a_circuit_that_is_slow_to_gather_speed_is_not_given_up_at_once() {
        let mut growth = Growth::new(2);
        let mut ticks_of_two = 0;
        run(&mut growth, Instant::now(), 3, |n| {
            ticks_of_two += u64::from(n == 2);
            3 * MIB + ticks_of_two.saturating_sub(8).min(10) * 300_000
        });
        assert_eq!(growth.level(), 2);
    }

    #[test]
    fn without_a_long_queue_nothing_is_added() {
        let start = Instant::now();
        let mut growth = Growth::new(4);
        for tick in 0..1000 {
            let now = start + Duration::from_millis(tick * 100);
            growth.observe(now, 1, tick * MIB, false);
        }
        assert_eq!(growth.level(), 1);
    }
}
