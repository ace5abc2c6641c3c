//! The bulk circuits: one queue of puts and reads, and a task that deals them out.
//!
//! The task looks at everything there is, does whatever is due, and sleeps until something happens or is due: a dead circuit, a late job and
//! a new one take the same path. What is due, in this order:
//!
//! 1. jobs that nobody waits for are dropped; circuits that stall, or on which a job is late while others answer, are given up;
//! 2. jobs without a sign of the provider for too long end as offline;
//! 3. jobs go to the circuits in use, two each; what a dead circuit carried is at the front again;
//! 4. circuits are opened as the queue, or what was announced, and [`Growth`] want, with pauses after failures, and a cap on them;
//! 5. at the end of the queue a circuit without work takes over the job that would be last, and the first answer ends the other;
//! 6. circuits without work for long are closed.

use core::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use maimo_core::error::{Classify, Retry};
use tokio::{
    runtime::Handle,
    select,
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use super::{
    circuit::{Circuit, Dial, Purpose},
    ends_everything,
    growth::Growth,
    job::{Done, Job, Work},
    lane::{JOBS, JobId, Lane},
    settings::Settings,
    statistics::{Counters, Open, count},
};
use crate::{
    backoff::{Backoff, FailureCap},
    service::ServiceError,
};

/// How often is looked at what shows by itself: meters, callers that are gone.
const TICK: Duration = Duration::from_millis(25);
/// How many circuits one job may outlive: what kills that many is likely the job.
const LOST_MOST: u32 = 8;
/// The longest pause that a provider which says it is busy gets.
const BUSY_LONGEST: Duration = Duration::from_secs(30);
/// A job is late after this, or after so many times what it should take, the longer of the two.
const LATE_LEAST: Duration = Duration::from_secs(20);
const LATE_TIMES: u32 = 4;
/// How much sooner a duplicate has to be done than the job it doubles, to be worth its bytes.
const GAIN: f64 = 1.5;

/// The caller's end.
pub(super) struct Bulk {
    inbox: mpsc::UnboundedSender<Said>,
}

/// What the caller's end says to the scheduler.
enum Said {
    Work(Work),
    MuchIsToCome,
}

impl Bulk {
    pub(super) fn start(
        dial: Arc<dyn Dial>,
        settings: Settings,
        counters: Arc<Counters>,
        runtime: &Handle,
    ) -> Self {
        let (inbox, work) = mpsc::unbounded_channel();
        runtime.spawn(async move { Scheduler::new(dial, settings, counters).run(work).await });
        Self { inbox }
    }

    /// Puts work in the queue.
    pub(super) fn submit(&self, work: Work) {
        // It fails only when the runtime has ended; then the caller's end of the answer says so.
        let _ = self.inbox.send(Said::Work(work));
    }

    /// Has circuits opened for work that is to come.
    pub(super) fn expect_much(&self) {
        let _ = self.inbox.send(Said::MuchIsToCome);
    }
}

/// Names a circuit within a session; a later one has a higher number.
type LaneId = u64;

/// What a task of the scheduler came to.
enum Event {
    Opened(Result<Arc<dyn Circuit>, ServiceError>),
    Closed(LaneId),
    Answered(JobId, LaneId, Result<Done, ServiceError>),
}

/// A job on one circuit, or on two.
struct Running {
    job: Job,
    attempts: Vec<Attempt>,
    was_duplicated: bool,
}

struct Attempt {
    lane: LaneId,
    started: Instant,
    task: AbortHandle,
}

struct Scheduler {
    dial: Arc<dyn Dial>,
    settings: Settings,
    counters: Arc<Counters>,
    tasks: JoinSet<Event>,
    next_id: u64,

    queue: VecDeque<Job>,
    running: BTreeMap<JobId, Running>,
    lanes: BTreeMap<LaneId, Lane>,
    growth: Growth,
    /// Bytes that have moved on all circuits so far.
    moved: u64,
    /// The last sign that the provider is there and serves.
    sign_at: Option<Instant>,
    /// The provider is busy until then.
    paused_until: Option<Instant>,

    /// Until when circuits are kept ready for work that was announced.
    expecting_until: Option<Instant>,
    opening: usize,
    open_at: Option<Instant>,
    backoff: Backoff,
    failures: FailureCap,
    /// Circuits lost and not yet replaced.
    lost: u64,
    /// Why the last circuit failed, until one serves.
    trouble: Option<ServiceError>,
}

impl Scheduler {
    fn new(dial: Arc<dyn Dial>, settings: Settings, counters: Arc<Counters>) -> Self {
        // Pauses that are alike do no harm worth failing for.
        let seed = getrandom::u64().unwrap_or(0);
        Self {
            dial,
            counters,
            tasks: JoinSet::new(),
            next_id: 0,
            queue: VecDeque::new(),
            running: BTreeMap::new(),
            lanes: BTreeMap::new(),
            growth: Growth::new(settings.circuits_used()),
            moved: 0,
            sign_at: None,
            paused_until: None,
            expecting_until: None,
            opening: 0,
            open_at: None,
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30), seed),
            failures: FailureCap::new(settings.failures_a_minute.max(1)),
            lost: 0,
            trouble: None,
            settings,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Said>) {
        loop {
            let due = self.step(Instant::now());
            let sleep = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => core::future::pending().await,
                }
            };
            select! {
                said = inbox.recv() => {
                    let Some(said) = said else {
                        return;
                    };
                    self.hear(said, Instant::now());
                    // All that is there, so that the queue's length is its length.
                    while let Ok(said) = inbox.try_recv() {
                        self.hear(said, Instant::now());
                    }
                }
                Some(event) = self.tasks.join_next() => {
                    // Else it was ended by us.
                    if let Ok(event) = event {
                        self.take_in(event, Instant::now());
                    }
                }
                () = sleep => {}
            }
        }
    }

    /// Does whatever is due; returns when to look again, even if nothing happens.
    fn step(&mut self, now: Instant) -> Option<Instant> {
        self.drop_abandoned(now);
        self.look(now);
        self.end_hopeless(now);
        self.deal(now);
        let queue_is_long = self.queue.len() >= JOBS;
        let used = self.usable().count();
        self.growth.observe(now, used, self.moved, queue_is_long);
        self.open(now);
        self.duplicate(now);
        let idle = self.settings.bulk_idle;
        self.lanes.retain(|_, lane| !lane.is_idle(idle, now));
        if self.queue.is_empty() && self.running.is_empty() {
            let waits = !self.lanes.is_empty() || self.is_expecting(now);
            return waits.then(|| now + idle / 4);
        }
        Some(now + TICK)
    }

    fn hear(&mut self, said: Said, now: Instant) {
        match said {
            Said::Work(work) => self.queue.push_back(Job::new(work, now)),
            Said::MuchIsToCome => {
                self.growth.expect_much();
                self.expecting_until = Some(now + self.settings.bulk_idle);
            }
        }
    }

    // ---- what happened ------------------------------------------------------------------------------------------------------------

    fn take_in(&mut self, event: Event, now: Instant) {
        match event {
            Event::Opened(Ok(circuit)) => self.opened(circuit, now),
            Event::Opened(Err(error)) => {
                self.opening -= 1;
                if ends_everything(&error) {
                    self.refuse(&error, |_| true);
                    return;
                }
                self.failed(error, now);
            }
            Event::Closed(lane) => self.lose(lane, now),
            Event::Answered(job, lane, outcome) => self.answered(job, lane, outcome, now),
        }
    }

    fn opened(&mut self, circuit: Arc<dyn Circuit>, now: Instant) {
        self.opening -= 1;
        if self.lost > 0 {
            self.lost -= 1;
            count(&self.counters.rebuilds);
        }
        let id = self.id();
        let watched = Arc::clone(&circuit);
        let watch = self.tasks.spawn(async move {
            watched.closed().await;
            Event::Closed(id)
        });
        let open = Open::count(&self.counters);
        self.lanes.insert(id, Lane::new(circuit, watch, open, now));
    }

    fn answered(
        &mut self,
        id: JobId,
        on: LaneId,
        outcome: Result<Done, ServiceError>,
        now: Instant,
    ) {
        if let Err(ServiceError::Offline { .. }) = outcome {
            self.lose(on, now);
            return;
        }
        let Some(running) = self.running.remove(&id) else {
            return;
        };
        self.sign_at = Some(now);
        self.trouble = None;
        self.backoff.reset();
        for attempt in running.attempts {
            let Some(lane) = self.lanes.get_mut(&attempt.lane) else {
                continue;
            };
            if attempt.lane == on {
                lane.answered(id, now);
            } else {
                attempt.task.abort();
                lane.take(id, now);
            }
        }
        // What was announced is there, or will be no more than what is asked for.
        self.expecting_until = None;
        let mut job = running.job;
        if let Err(ServiceError::Busy(pause)) = outcome {
            let since = *job.busy_since.get_or_insert(now);
            if now.duration_since(since) < self.settings.bulk_patience {
                self.paused_until = Some(now + pause.min(BUSY_LONGEST));
                self.queue.push_front(job);
                return;
            }
        }
        count(&self.counters.jobs);
        let is_put = job.is_put();
        if let Err(error) = &outcome
            && ends_everything(error)
        {
            // A client that is revoked may still read: what ends is what is of this kind.
            self.refuse(error, |job| job.is_put() == is_put);
        }
        job.finish(outcome);
    }

    /// Gives a circuit up: what it carried is first in the queue.
    fn lose(&mut self, id: LaneId, now: Instant) {
        let Some(lane) = self.lanes.remove(&id) else {
            return;
        };
        let jobs: Vec<JobId> = lane.jobs().collect();
        for job in jobs.iter().rev() {
            let Some(running) = self.running.get_mut(job) else {
                continue;
            };
            running.attempts.retain(|attempt| {
                if attempt.lane == id {
                    attempt.task.abort();
                }
                attempt.lane != id
            });
            if running.attempts.is_empty()
                && let Some(mut running) = self.running.remove(job)
            {
                running.job.lost += 1;
                count(&self.counters.repeated);
                self.queue.push_front(running.job);
            }
        }
        if lane.is_unproven() {
            // With work or without: circuits that die as they open would else be opened without end.
            self.lost += 1;
            let detail = "circuits open and then carry nothing".to_owned();
            self.failed(ServiceError::Offline { detail }, now);
        } else if !jobs.is_empty() {
            self.lost += 1;
            self.failures.failed(now);
        }
        // Else nobody missed it: the provider drained, or the circuit's time was over.
    }

    /// Takes note of a failure, and puts off the next try.
    fn failed(&mut self, error: ServiceError, now: Instant) {
        self.failures.failed(now);
        let retry = match error.retry() {
            // Whatever it is: callers wait, and trying costs little.
            Retry::Never => Retry::AfterWaiting,
            retry => retry,
        };
        self.open_at = self.backoff.after(retry).map(|pause| now + pause);
        self.trouble = Some(error);
    }

    /// Answers jobs of the queue with an error.
    fn refuse(&mut self, error: &ServiceError, which: impl Fn(&Job) -> bool) {
        for job in core::mem::take(&mut self.queue) {
            if which(&job) {
                job.finish(Err(error.clone()));
            } else {
                self.queue.push_back(job);
            }
        }
    }

    // ---- what is due --------------------------------------------------------------------------------------------------------------

    fn drop_abandoned(&mut self, now: Instant) {
        self.queue.retain(|job| !job.is_abandoned());
        let lanes = &mut self.lanes;
        self.running.retain(|id, running| {
            let is_wanted = !running.job.is_abandoned();
            if !is_wanted {
                for attempt in &running.attempts {
                    attempt.task.abort();
                    if let Some(lane) = lanes.get_mut(&attempt.lane) {
                        lane.take(*id, now);
                    }
                }
            }
            is_wanted
        });
    }

    /// Looks for signs of life, and gives up circuits that show none.
    fn look(&mut self, now: Instant) {
        for lane in self.lanes.values_mut() {
            if let Some(more) = lane.look(now) {
                self.moved += more;
                if lane.load() > 0 {
                    self.sign_at = Some(now);
                }
            }
        }
        let stall = self.settings.stall;
        let dead: Vec<LaneId> = self
            .lanes
            .iter()
            .filter(|(id, lane)| lane.is_stalled(stall, now) || self.is_late(**id, lane, now))
            .map(|(id, _)| *id)
            .collect();
        for id in dead {
            self.lose(id, now);
        }
    }

    /// Returns whether a circuit takes far longer for a job than the others need, and others do answer.
    ///
    /// Each circuit that a job outlives doubles its time: a job that is slow everywhere is not sent for ever.
    fn is_late(&self, id: LaneId, lane: &Lane, now: Instant) -> bool {
        let others = || self.lanes.iter().filter(|(other, _)| **other != id);
        let bytes = lane.outstanding_bytes();
        let Some(slowest) = others()
            .filter_map(|(_, other)| other.expected(bytes))
            .max()
        else {
            return false;
        };
        let Some(last) = others().filter_map(|(_, other)| other.answered_at).max() else {
            return false;
        };
        lane.jobs().any(|job| {
            let Some(running) = self.running.get(&job) else {
                return false;
            };
            let longest = (slowest * LATE_TIMES).max(LATE_LEAST) * 2_u32.pow(running.job.lost);
            let started = running
                .attempts
                .iter()
                .find(|attempt| attempt.lane == id)
                .map_or(now, |attempt| attempt.started);
            last > started && now.duration_since(started) > longest
        })
    }

    /// Ends what has waited too long for any sign of the provider.
    fn end_hopeless(&mut self, now: Instant) {
        let patience = self.settings.bulk_patience;
        for job in core::mem::take(&mut self.queue) {
            let since = self.sign_at.map_or(job.since, |sign| sign.max(job.since));
            if job.lost >= LOST_MOST || now.duration_since(since) >= patience {
                let offline = || ServiceError::Offline {
                    detail: "no answer".to_owned(),
                };
                job.finish(Err(self.trouble.clone().unwrap_or_else(offline)));
            } else {
                self.queue.push_back(job);
            }
        }
    }

    /// Returns the circuits that are given jobs: the oldest that take any, as many as help.
    fn usable(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.lanes
            .iter()
            .filter(|(_, lane)| lane.circuit.is_open())
            .map(|(id, lane)| (*id, lane))
            .take(self.growth.level())
    }

    /// Deals the queue out.
    fn deal(&mut self, now: Instant) {
        if self.paused_until.is_some_and(|until| until > now) {
            return;
        }
        while !self.queue.is_empty() {
            let free = self.usable().filter(|(_, lane)| lane.load() < JOBS);
            let Some((lane, _)) = free.min_by_key(|(_, lane)| lane.load()) else {
                return;
            };
            let Some(job) = self.queue.pop_front() else {
                return;
            };
            let id = self.id();
            let bytes = job.bytes;
            let running = Running {
                job,
                attempts: Vec::new(),
                was_duplicated: false,
            };
            self.running.insert(id, running);
            self.attempt(id, lane, now);
            if let Some(lane) = self.lanes.get_mut(&lane) {
                lane.give(id, bytes, now);
            }
        }
    }

    fn is_expecting(&self, now: Instant) -> bool {
        self.expecting_until.is_some_and(|until| until > now)
    }

    /// Begins a try of a job on a circuit.
    fn attempt(&mut self, id: JobId, on: LaneId, now: Instant) {
        let (Some(running), Some(lane)) = (self.running.get_mut(&id), self.lanes.get(&on)) else {
            return;
        };
        let attempt = running
            .job
            .attempt(Arc::clone(&lane.circuit), Arc::clone(&self.counters));
        let task = self
            .tasks
            .spawn(async move { Event::Answered(id, on, attempt.await) });
        running.attempts.push(Attempt {
            lane: on,
            started: now,
            task,
        });
    }

    /// Opens circuits: as many as help, and ahead of time those that are likely to be tried next.
    fn open(&mut self, now: Instant) {
        let wanted = if self.is_expecting(now) {
            self.growth.level() + self.growth.ahead(now)
        } else {
            let work = self.queue.len() + self.running.len();
            // Each of those ahead could be kept busy, twice over.
            let ahead = self.growth.ahead(now).min(self.queue.len() / (2 * JOBS));
            (self.growth.level() + ahead).min(work)
        };
        let open = self
            .lanes
            .values()
            .filter(|lane| lane.circuit.is_open())
            .count();
        // A provider that may be away is asked by one circuit at a time.
        let most = if self.trouble.is_some() { 1 } else { wanted };
        while open + self.opening < wanted && self.opening < most {
            let is_too_soon = self.open_at.is_some_and(|at| at > now);
            if is_too_soon || self.failures.allowed_at(now).is_some() {
                return;
            }
            self.opening += 1;
            let opening = self.dial.open(Purpose::Bulk);
            let longest = self.settings.open_timeout;
            self.tasks.spawn(async move {
                Event::Opened(timeout(longest, opening).await.unwrap_or_else(|_| {
                    Err(ServiceError::Offline {
                        detail: format!("no connection within {} s", longest.as_secs()),
                    })
                }))
            });
        }
    }

    /// At the end of the queue, doubles the job that would be last on each circuit that has nothing to do.
    fn duplicate(&mut self, now: Instant) {
        if !self.queue.is_empty() {
            return;
        }
        let idle: Vec<LaneId> = self
            .usable()
            .filter(|(_, lane)| lane.load() == 0 && lane.may_duplicate())
            .map(|(id, _)| id)
            .collect();
        for on in idle {
            let Some(id) = self.slowest(on, now) else {
                continue;
            };
            self.attempt(id, on, now);
            if let (Some(running), Some(lane)) =
                (self.running.get_mut(&id), self.lanes.get_mut(&on))
            {
                running.was_duplicated = true;
                lane.give_duplicate(id, running.job.bytes, now);
                count(&self.counters.duplicates);
            }
        }
    }

    /// Returns the job that is to take longest, if a circuit would be done with it well before.
    fn slowest(&self, on: LaneId, now: Instant) -> Option<JobId> {
        let idle = self.lanes.get(&on)?;
        let single = self.running.iter().filter_map(|(id, running)| {
            let [attempt] = running.attempts.as_slice() else {
                return None;
            };
            let lane = self.lanes.get(&attempt.lane)?;
            let left = lane.remaining(*id, attempt.started, now);
            (!running.was_duplicated).then_some((*id, left, running.job.bytes))
        });
        let (id, left, bytes) = single.max_by_key(|(_, left, _)| *left)?;
        let expected = idle.expected(bytes)?;
        (left > expected.mul_f64(GAIN) + TICK).then_some(id)
    }

    const fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }
}
