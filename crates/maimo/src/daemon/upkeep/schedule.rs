//! [`Schedule`]: when each job of the upkeep is due, by two clocks.
//!
//! ```text
//!   due, when either says so:   up    counts while the machine is awake, never turns back
//!                               wall  goes on while it sleeps, and may be set
//! ```
//!
//! After a sleep the wall clock has what is overdue done soon, not all at once. A wall clock that is set back moves no job away, for `up` goes
//! on; one that is set forward has jobs done early, once. When a job was last done outlives the process, by the wall clock alone: a time that
//! lies ahead then counts as just now.
//!
//! Invariant: no job waits longer than its interval and a tenth while the machine is awake, whatever the wall clock does.

use std::{collections::BTreeMap, fmt, time::Duration};

use maimo_core::clock::Timestamp;

/// What is done now and then.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Job {
    /// Everything watched is looked through.
    Rescan,
    /// A channel is audited by a few slices.
    Audit(String),
    /// A channel's vital packs are proven whole.
    Vital(String),
    /// What no policy keeps is let go of.
    Prune,
    /// Mirrors catch up.
    Mirrors,
    /// Journal merged, providers asked where they are.
    Tidy,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rescan => f.write_str("rescan"),
            Self::Audit(channel) => write!(f, "audit {channel}"),
            Self::Vital(channel) => write!(f, "vital {channel}"),
            Self::Prune => f.write_str("prune"),
            Self::Mirrors => f.write_str("mirrors"),
            Self::Tidy => f.write_str("tidy"),
        }
    }
}

/// What both clocks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Now {
    /// How long the node runs, sleep left out.
    pub(super) up: Duration,
    /// The time.
    pub(super) wall: Timestamp,
}

/// The jobs and when they are due.
pub(super) struct Schedule {
    jobs: BTreeMap<Job, Entry>,
    last: Now,
    jitter: Jitter,
}

struct Entry {
    every: Duration,
    done: Option<Timestamp>,
    due: Now,
    failures: u32,
}

/// A difference of the clocks beyond which the machine slept, or one of them was set.
const JUMP: Duration = Duration::from_mins(1);
/// Within what time an overdue job is done.
const SOON: Duration = Duration::from_mins(2);
/// The pauses after failures: the first, doubled each time up to the second.
pub(super) const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(5));

impl Schedule {
    /// Begins without jobs; `seed` decides how they are spread.
    pub(super) const fn new(now: Now, seed: u64) -> Self {
        Self {
            jobs: BTreeMap::new(),
            last: now,
            jitter: Jitter(seed),
        }
    }

    /// Has a job done every so often, last done at `done`; it stays as it is if it was there before.
    pub(super) fn add(&mut self, job: Job, every: Duration, done: Option<Timestamp>, now: Now) {
        if self.jobs.contains_key(&job) {
            return;
        }
        // One that is said to have been done in the future was done when the clock was wrong.
        let since = done.map(|done| now.wall.since(done));
        let left = since.map_or(Duration::ZERO, |since| every.saturating_sub(since));
        let wait = if left.is_zero() {
            self.jitter.below(SOON.min(every / 10))
        } else {
            left + self.jitter.below(every / 10)
        };
        let entry = Entry {
            every,
            done,
            due: now.after(wait),
            failures: 0,
        };
        self.jobs.insert(job, entry);
    }

    /// Forgets the jobs that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&Job) -> bool) {
        self.jobs.retain(|job, _| keep(job));
    }

    /// Takes note of the clocks: what came due while the machine slept is spread over some time.
    pub(super) fn tick(&mut self, now: Now) {
        let up = now.up.saturating_sub(self.last.up);
        let wall = now.wall.since(self.last.wall);
        let back = self.last.wall.since(now.wall);
        self.last = now;
        if wall > up + JUMP {
            for entry in self.jobs.values_mut() {
                if entry.due.wall <= now.wall && entry.due.up > now.up {
                    let wait = self.jitter.below(SOON.min(entry.every / 10));
                    entry.due = now.after(wait.min(entry.due.up.saturating_sub(now.up)));
                }
            }
        } else if !back.is_zero() {
            for entry in self.jobs.values_mut() {
                entry.due.wall = now.wall.after(entry.due.up.saturating_sub(now.up));
            }
        }
    }

    /// Returns what is due, the longest overdue first.
    pub(super) fn due(&self, now: Now) -> Option<&Job> {
        let due = self.jobs.iter().filter(|(_, entry)| entry.is_due(now));
        due.min_by_key(|(_, entry)| entry.due.up)
            .map(|(job, _)| job)
    }

    /// Returns how long nothing is due.
    pub(super) fn wait(&self, now: Now) -> Duration {
        let wait = |entry: &Entry| {
            let up = entry.due.up.saturating_sub(now.up);
            up.min(entry.due.wall.since(now.wall))
        };
        self.jobs.values().map(wait).min().unwrap_or(SOON)
    }

    /// Takes note that a job was done.
    pub(super) fn done(&mut self, job: &Job, now: Now) {
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.done = Some(now.wall);
            entry.failures = 0;
            // About as often sooner as later.
            let spread = entry.every / 10;
            let least = entry.every.saturating_sub(spread / 2);
            let wait = least + self.jitter.below(spread);
            entry.due = now.after(wait);
        }
    }

    /// Takes note that a job could not be done: it is tried again after a pause that grows.
    pub(super) fn failed(&mut self, job: &Job, now: Now) {
        if let Some(entry) = self.jobs.get_mut(job) {
            let pause = self.jitter.pause(entry.failures).min(entry.every);
            entry.failures = entry.failures.saturating_add(1);
            entry.due = now.after(pause);
        }
    }

    /// Has a job that failed before tried at once: what it failed for is there again.
    pub(super) fn retry(&mut self, now: Now, which: impl Fn(&Job) -> bool) {
        for (job, entry) in &mut self.jobs {
            if entry.failures > 0 && which(job) {
                entry.due = now;
            }
        }
    }

    /// Has a job done at once that nothing kept from being done so far.
    pub(super) fn hasten(&mut self, job: &Job, now: Now) {
        if let Some(entry) = self.jobs.get_mut(job)
            && entry.failures == 0
        {
            entry.due = now;
        }
    }

    /// Returns each job with when it was last done, when it is due by the wall clock, and how often it failed since.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&Job, Option<Timestamp>, Timestamp, u32)> {
        let rows = self.jobs.iter();
        rows.map(|(job, entry)| (job, entry.done, entry.due.wall, entry.failures))
    }

    /// Returns a pause after so many failures in a row.
    pub(super) const fn jitter(&mut self) -> &mut Jitter {
        &mut self.jitter
    }
}

impl Entry {
    fn is_due(&self, now: Now) -> bool {
        now.up >= self.due.up || now.wall >= self.due.wall
    }
}

impl Now {
    /// Returns what both clocks will say then.
    pub(super) fn after(self, wait: Duration) -> Self {
        Self {
            up: self.up.saturating_add(wait),
            wall: self.wall.after(wait),
        }
    }
}

/// Numbers that spread work over time, which are no secret (`SplitMix64`).
#[derive(Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    /// Returns a time from nothing up to, without, `most`.
    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let high = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(0);
        most.mul_f64(f64::from(high) / (f64::from(u32::MAX) + 1.0))
    }

    /// Returns the pause after so many failures in a row and one more: half of it drawn.
    pub(super) fn pause(&mut self, failures: u32) -> Duration {
        let grown = PAUSES.0.saturating_mul(1 << failures.min(20)).min(PAUSES.1);
        grown / 2 + self.below(grown / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);
    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn begin() -> Now {
        Now {
            up: Duration::ZERO,
            wall: START,
        }
    }

    fn schedule(every: Duration, done: Option<Timestamp>) -> Schedule {
        let mut schedule = Schedule::new(begin(), 7);
        schedule.add(Job::Prune, every, done, begin());
        schedule
    }

    /// Lets time pass by steps of a minute until the job is due, and returns how long that took by `up`.
    fn until_due(schedule: &mut Schedule, mut now: Now) -> Duration {
        let begun = now.up;
        loop {
            schedule.tick(now);
            if schedule.due(now).is_some() {
                return now.up.saturating_sub(begun);
            }
            assert!(now.up < begun + HOUR * 1000, "never due");
            now = now.after(Duration::from_mins(1));
        }
    }

    #[test]
    fn a_job_is_done_about_as_often_as_it_should() {
        let mut schedule = schedule(HOUR * 10, Some(START));
        let first = until_due(&mut schedule, begin());
        assert!(first >= HOUR * 10 && first <= HOUR * 11, "{first:?}");
        let now = begin().after(first);
        schedule.done(&Job::Prune, now);
        let again = until_due(&mut schedule, now);
        assert!(again >= HOUR * 9 && again <= HOUR * 11, "{again:?}");
    }

    #[test]
    fn what_is_overdue_at_the_start_is_done_soon_and_not_at_once() {
        for done in [None, Some(Timestamp(START.0 - 1_000_000_000))] {
            let schedule = schedule(HOUR, done);
            let wait = schedule.wait(begin());
            assert!(!wait.is_zero() && wait <= SOON, "{wait:?}");
        }
    }

    #[test]
    fn a_sleep_counts_and_what_came_due_in_it_is_done_soon() {
        let mut schedule = schedule(HOUR * 10, Some(START));
        schedule.tick(begin().after(HOUR));
        let woken = Now {
            up: HOUR,
            wall: START.after(HOUR * 30),
        };
        schedule.tick(woken);
        let wait = schedule.wait(woken);
        assert!(!wait.is_zero() && wait <= SOON, "{wait:?}");
    }

    #[test]
    fn a_clock_that_is_set_back_stalls_nothing() {
        let mut schedule = schedule(HOUR * 10, Some(START));
        schedule.tick(begin().after(HOUR));
        let set_back = Now {
            up: HOUR,
            wall: Timestamp(START.0 / 2),
        };
        let took = until_due(&mut schedule, set_back);
        assert!(took >= HOUR * 9 && took <= HOUR * 10, "{took:?}");
    }

    #[test]
    fn a_job_that_was_done_in_the_future_is_done_within_its_interval() {
        let mut schedule = schedule(HOUR * 10, Some(START.after(HOUR * 100_000)));
        let took = until_due(&mut schedule, begin());
        assert!(took <= HOUR * 11, "{took:?}");
    }

    #[test]
    fn a_clock_that_is_set_forward_has_each_job_done_once() {
        let mut schedule = schedule(HOUR * 10, Some(START));
        let ahead = Now {
            up: HOUR,
            wall: START.after(HOUR * 100_000),
        };
        assert!(until_due(&mut schedule, ahead) <= SOON);
        schedule.done(&Job::Prune, ahead);
        assert!(until_due(&mut schedule, ahead) >= HOUR * 9);
        // Set right again: from here on only the time that passes counts.
        let right = Now {
            up: HOUR * 2,
            wall: START.after(HOUR * 2),
        };
        let took = until_due(&mut schedule, right);
        assert!(took >= HOUR * 8 && took <= HOUR * 11, "{took:?}");
    }

    #[test]
    fn a_job_that_fails_is_tried_again_after_pauses_that_grow_and_end() {
        let mut schedule = schedule(HOUR * 10, Some(START));
        let mut now = begin();
        let mut last = Duration::ZERO;
        for failure in 0..12 {
            schedule.failed(&Job::Prune, now);
            let wait = schedule.wait(now);
            assert!(wait <= PAUSES.1, "{wait:?}");
            assert!(failure > 6 || wait >= last / 2, "{wait:?}");
            last = wait;
            now = now.after(wait);
            assert!(schedule.due(now).is_some());
        }
        assert!(last >= PAUSES.1 / 2);
        schedule.failed(&Job::Prune, now);
        schedule.retry(now, |_| true);
        assert_eq!(schedule.wait(now), Duration::ZERO);
    }
}
