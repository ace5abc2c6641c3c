//! A bulk circuit with what it carries, how fast, and since when nothing came.

use core::time::Duration;
use std::{collections::VecDeque, sync::Arc};

use tokio::{task::AbortHandle, time::Instant};

use super::{circuit::Circuit, statistics::Open};

/// Names a job within a session.
pub(super) type JobId = u64;

/// How many jobs a circuit has at once: while one waits for its answer the other moves.
pub(super) const JOBS: usize = 2;
/// How many bytes have to move to be a sign of life: more than keeping a connection alive takes.
const SIGN_BYTES: u64 = 4096;
/// What is too small to say how fast a circuit is.
const PACE_BYTES_LEAST: u64 = 64 * 1024;
/// How many jobs a circuit answers before it may duplicate again: what is sent twice stays within a mebibyte in so many.
const JOBS_A_DUPLICATE: u64 = 64;

/// A bulk circuit.
pub(super) struct Lane {
    pub(super) circuit: Arc<dyn Circuit>,
    /// The jobs on it, in the order they were given to it, with their bytes.
    jobs: VecDeque<(JobId, u64)>,
    /// Since when the job at the front has had the circuit for itself.
    turn_since: Instant,
    /// Seconds a byte.
    pace: Option<f64>,
    moved: u64,
    moved_at: Instant,
    pub(super) answered_at: Option<Instant>,
    answered: u64,
    duplicated: u64,
    watch: AbortHandle,
    _open: Open,
}

impl Lane {
    pub(super) fn new(
        circuit: Arc<dyn Circuit>,
        watch: AbortHandle,
        open: Open,
        now: Instant,
    ) -> Self {
        Self {
            circuit,
            jobs: VecDeque::new(),
            turn_since: now,
            pace: None,
            moved: 0,
            moved_at: now,
            answered_at: None,
            answered: 0,
            duplicated: 0,
            watch,
            _open: open,
        }
    }

    /// Returns the jobs on it, the oldest first.
    pub(super) fn jobs(&self) -> impl DoubleEndedIterator<Item = JobId> + '_ {
        self.jobs.iter().map(|(job, _)| *job)
    }

    /// Returns how many jobs are on it.
    pub(super) fn load(&self) -> usize {
        self.jobs.len()
    }

    /// Returns whether it never answered anything.
    pub(super) const fn is_unproven(&self) -> bool {
        self.answered == 0
    }

    /// Gives it a job.
    pub(super) fn give(&mut self, job: JobId, bytes: u64, now: Instant) {
        if self.jobs.is_empty() {
            self.turn_since = now;
            self.moved_at = now;
        }
        self.jobs.push_back((job, bytes));
    }

    /// Gives it a job that another circuit has, too.
    pub(super) fn give_duplicate(&mut self, job: JobId, bytes: u64, now: Instant) {
        self.duplicated += 1;
        self.give(job, bytes, now);
    }

    /// Returns whether it may duplicate a job.
    pub(super) const fn may_duplicate(&self) -> bool {
        self.duplicated <= self.answered / JOBS_A_DUPLICATE
    }

    /// Takes note that a job was answered; the time it took says how fast the circuit is.
    pub(super) fn answered(&mut self, job: JobId, now: Instant) {
        let bytes = self.take(job, now);
        self.answered += 1;
        self.answered_at = Some(now);
        let Some((bytes, took)) = bytes.filter(|(bytes, _)| *bytes >= PACE_BYTES_LEAST) else {
            return;
        };
        #[expect(clippy::cast_precision_loss, reason = "a pace is not known to 52 bits")]
        let pace = took.as_secs_f64() / bytes as f64;
        self.pace = Some(self.pace.map_or(pace, |known| 0.6 * known + 0.4 * pace));
    }

    /// Takes a job away, answered or not; returns its bytes and how long it had the circuit for itself.
    pub(super) fn take(&mut self, job: JobId, now: Instant) -> Option<(u64, Duration)> {
        let at = self.jobs.iter().position(|(id, _)| *id == job)?;
        let (_, bytes) = self.jobs.remove(at)?;
        let took = now.duration_since(self.turn_since);
        self.turn_since = now;
        if self.jobs.is_empty() {
            self.moved_at = now;
        }
        Some((bytes, took))
    }

    /// Returns how long so many bytes take on it, if that is known.
    pub(super) fn expected(&self, bytes: u64) -> Option<Duration> {
        #[expect(clippy::cast_precision_loss, reason = "a pace is not known to 52 bits")]
        let seconds = self.pace? * bytes as f64;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Returns how long a job on it may still take; of what is overdue, half of what it took so far.
    pub(super) fn remaining(&self, job: JobId, started: Instant, now: Instant) -> Duration {
        let mut bytes = 0;
        for (id, more) in &self.jobs {
            bytes += more;
            if *id == job {
                break;
            }
        }
        let overdue = now.duration_since(started) / 2;
        self.expected(bytes)
            .and_then(|whole| (self.turn_since + whole).checked_duration_since(now))
            .unwrap_or(overdue)
    }

    /// Returns how many bytes have to move until all its jobs are done.
    pub(super) fn outstanding_bytes(&self) -> u64 {
        self.jobs.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Looks at the meter; returns how many bytes have moved since the last time, once they are a sign of life.
    pub(super) fn look(&mut self, now: Instant) -> Option<u64> {
        let moved = self.circuit.meter().moved();
        let more = moved.saturating_sub(self.moved);
        if more < SIGN_BYTES {
            return None;
        }
        self.moved = moved;
        self.moved_at = now;
        Some(more)
    }

    /// Returns whether it has had work and no sign of life for so long.
    pub(super) fn is_stalled(&self, stall: Duration, now: Instant) -> bool {
        !self.jobs.is_empty() && now.duration_since(self.moved_at) >= stall
    }

    /// Returns whether it has had no work for so long.
    pub(super) fn is_idle(&self, idle: Duration, now: Instant) -> bool {
        self.jobs.is_empty() && now.duration_since(self.moved_at.max(self.turn_since)) >= idle
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.watch.abort();
    }
}
