//! [`Upkeep`]: what the node does for its own store when nobody asks.
//!
//! ```text
//!   what changed below the watched folders --quiet for a while--.
//!   schedule: rescan, audits, vital packs, prune, tidy -- due ---+--> one at a time, by the owner --> what is wrong, what is not
//!                                                                                                        |
//!                                      the log, the state file, the hook: once when it begins, once when it is over
//! ```
//!
//! One thread looks at everything there is and does the first thing that is due. What a user's command interrupts is asked for again; what
//! fails is tried again after a pause that grows, and at once when its provider answers something else. Invariant: nothing is kept here that
//! the next process would miss; when jobs were last done and what was told is in the state file.

mod changes;
mod hook;
mod jobs;
mod looks;
mod schedule;
mod settings;
pub(crate) mod state;
mod trouble;
mod watch;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use maimo_client::{
    client::Client, error::ClientError, progress::Control, scan::excludes::Excludes,
};

pub(crate) use self::settings::Settings;
use self::{
    changes::Changes,
    hook::Hook,
    schedule::{Job, Now, Schedule},
    state::{JobRow, State},
    trouble::{Kind, News, Subject, Troubles, of_error},
    watch::{Inbox, Watch},
};
use super::{Owner, Stop, now};
use crate::error::CommandError;

/// How often is looked whether folders are there.
const LOOK: Duration = Duration::from_secs(2);
/// How often is looked which channels there are.
const LOOK_AT_CHANNELS: Duration = Duration::from_mins(1);
/// How often the journal is merged and providers are asked where they are, where nothing is stored for long.
const TIDY_EVERY: Duration = Duration::from_hours(24);
/// How often mirrors are asked whether they are there, where nothing is stored for long.
const MIRRORS_EVERY: Duration = Duration::from_hours(1);
/// How long is waited for whoever interrupts to begin.
const YIELD: Duration = Duration::from_millis(100);
/// How far back of what was known the clock may be before that is a trouble.
const CLOCK_BACK: Duration = Duration::from_hours(1);

/// The upkeep, running.
pub(crate) struct Upkeep {
    inbox: Inbox,
    thread: Option<JoinHandle<()>>,
}

impl Upkeep {
    /// Begins.
    ///
    /// # Errors
    ///
    /// Excludes that are none, or no thread is to be had.
    pub(crate) fn start(
        settings: Settings,
        owner: Owner,
        stop: Stop,
    ) -> Result<Self, CommandError> {
        let begun = Instant::now();
        let inbox = Inbox::new(
            Changes::new(settings.quiet, settings.longest),
            settings.folders.clone(),
            Excludes::new(&settings.excludes)?,
            settings.never.clone(),
            begun,
        );
        let state = State::read(&settings.home).unwrap_or_default();
        let watch = Watch::new(&settings.folders, &state.folders, inbox.clone());
        let start = Now {
            up: Duration::ZERO,
            wall: now(),
        };
        let troubles = Troubles::new(state.troubles.clone(), settings.patience, start);
        let hook = Hook::new(&settings.hook, settings.hook_limit);
        let worker = Worker {
            schedule: Schedule::new(start, seed()),
            settings,
            owner,
            stop,
            inbox: inbox.clone(),
            watch,
            troubles,
            hook,
            state,
            begun,
            channels: BTreeSet::new(),
            look_at: Duration::ZERO,
            look_at_channels: Duration::ZERO,
            store_at: Duration::ZERO,
            store_failures: 0,
            is_new: true,
        };
        let thread = thread::Builder::new().name("upkeep".to_owned());
        let thread = thread.spawn(move || worker.run()).map_err(|error| {
            CommandError::io(
                "start a thread of",
                std::path::Path::new("this node"),
                &error,
            )
        })?;
        Ok(Self {
            inbox,
            thread: Some(thread),
        })
    }
}

/// Waits for its end: the owner has ended what it was at.
impl Drop for Upkeep {
    fn drop(&mut self) {
        self.inbox.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the upkeep ended by a bug");
        }
    }
}

/// How the jobs of this node are spread: not as those of others.
fn seed() -> u64 {
    let mut seed = [0; 8];
    // The time does as well.
    if getrandom::fill(&mut seed).is_err() {
        return now().0;
    }
    u64::from_le_bytes(seed)
}

/// All that the thread works on.
struct Worker {
    settings: Settings,
    owner: Owner,
    stop: Stop,
    inbox: Inbox,
    watch: Watch,
    schedule: Schedule,
    troubles: Troubles,
    hook: Hook,
    state: State,
    begun: Instant,
    channels: BTreeSet<String>,
    /// When things are done next, by the clock that never turns back.
    look_at: Duration,
    look_at_channels: Duration,
    store_at: Duration,
    store_failures: u32,
    /// Whether something changed that the state file does not say.
    is_new: bool,
}

/// How a job ended.
enum Ended {
    Done,
    /// It is to be tried again after a pause.
    Failed,
    /// A user's command was first, or the node stops: it is to be tried again at once.
    Interrupted,
}

impl Worker {
    fn run(mut self) {
        self.state.running = true;
        while !self.stop.is_asked() && !self.inbox.is_stopped() {
            let now = self.now();
            self.schedule.tick(now);
            self.look(now);
            if self.is_batch_ready(now) {
                self.store();
            } else if let Some(job) = self.schedule.due(now).cloned() {
                self.perform(&job);
            } else {
                self.tell();
                self.save();
                self.rest();
                continue;
            }
            self.tell();
            self.save();
        }
        self.state.running = false;
        self.is_new = true;
        self.save();
    }

    fn now(&self) -> Now {
        Now {
            up: self.begun.elapsed(),
            wall: now(),
        }
    }

    fn rest(&self) {
        let now = self.now();
        let mut most = self.schedule.wait(now).min(LOOK);
        if let Some(wait) = self.troubles.wait(now) {
            most = most.min(wait);
        }
        // Never in circles, whatever the clocks say.
        let most = most.max(Duration::from_millis(10));
        // What changed waits for a channel, too.
        let ready = if self.channels.is_empty() {
            LOOK
        } else {
            self.store_at.saturating_sub(now.up)
        };
        self.inbox.rest(most, ready);
    }

    fn is_batch_ready(&self, now: Now) -> bool {
        !self.channels.is_empty()
            && now.up >= self.store_at
            && self.inbox.wait().is_some_and(|wait| wait.is_zero())
    }

    /// Has the owner do something, and takes note of what goes wrong.
    fn work<T>(
        &mut self,
        what: &str,
        work: impl FnOnce(&mut Client, &Control) -> Result<T, ClientError>,
    ) -> Result<T, Ended> {
        self.state.doing = Some(what.to_owned());
        self.is_new = true;
        self.save();
        let worked = self.owner.background(what, work);
        self.state.doing = None;
        self.is_new = true;
        let now = self.now();
        match worked {
            Ok(done) => {
                let is_this = |it: &Subject| {
                    it.kind == Kind::DiskFull
                        || (it.kind == Kind::Failed && it.job.as_deref() == Some(what))
                };
                self.over(is_this);
                Ok(done)
            }
            Err(ClientError::Cancelled(_)) => {
                // Whoever was first has the client by then, or the node stops.
                thread::sleep(YIELD);
                Err(Ended::Interrupted)
            }
            Err(error) => {
                if let Some((subject, message, hint)) = of_error(&error, what) {
                    tracing::info!(kind = subject.kind.name(), "could not be done now");
                    self.troubles.set(subject, message, hint, now);
                }
                Err(Ended::Failed)
            }
        }
    }

    /// Takes note that a channel's provider answers.
    fn answered(&mut self, channel: &str) {
        let absence =
            |it: &Subject| it.kind.is_absence() || matches!(it.kind, Kind::Refused | Kind::Failed);
        let of_it = |it: &Subject| it.channel.as_deref() == Some(channel);
        let was_away = self
            .troubles
            .all()
            .any(|it| absence(&it.subject) && of_it(&it.subject));
        if was_away {
            self.over(|it| absence(it) && of_it(it));
            // Whatever waits for it need wait no longer.
            self.store_at = Duration::ZERO;
            let now = self.now();
            self.schedule.retry(now, |job| match job {
                Job::Audit(other) | Job::Vital(other) => other == channel,
                Job::Rescan | Job::Prune | Job::Mirrors | Job::Tidy => true,
            });
        }
    }

    /// Takes note that something is not wrong, and says so where it was.
    fn over(&mut self, which: impl Fn(&Subject) -> bool) {
        let now = self.now();
        let news = self.troubles.clear(which, now);
        self.publish(&news);
    }

    /// Says what is wrong for long enough.
    fn tell(&mut self) {
        let now = self.now();
        let news = self.troubles.ripe(now);
        self.publish(&news);
    }

    fn publish(&mut self, news: &[News]) {
        for news in news {
            match news {
                News::Begun(trouble) => {
                    let kind = trouble.subject.kind.name();
                    tracing::warn!(kind, "trouble: `maimo status` tells more");
                }
                News::Ended(trouble) => {
                    let kind = trouble.subject.kind.name();
                    tracing::info!(kind, "this trouble is over");
                }
            }
            self.hook.tell(news);
            self.is_new = true;
        }
    }

    fn save(&mut self) {
        let pending = self.inbox.wait().is_some();
        self.is_new |= pending != self.state.pending;
        self.state.pending = pending;
        if !std::mem::take(&mut self.is_new) {
            return;
        }
        let rows = self.schedule.rows();
        let mut jobs: Vec<JobRow> = rows
            .map(|(job, done, due, failures)| JobRow {
                job: job.to_string(),
                last: done.map(Into::into),
                next: Some(due.into()),
                failures,
            })
            .collect();
        if self.schedule_is_unknown() {
            // Nothing is known of the channels yet: what the last process did still counts.
            jobs = std::mem::take(&mut self.state.jobs);
        }
        self.state.jobs = jobs;
        self.state.troubles = self.troubles.all().cloned().collect();
        if let Err(error) = self.state.write(&self.settings.home) {
            tracing::warn!(kind = ?error.kind(), "the state file cannot be written");
        }
    }

    fn schedule_is_unknown(&self) -> bool {
        self.schedule.rows().next().is_none()
    }
}

/// Returns a folder as the configuration names it: from the user's own where it begins with `~/`, from the configuration's else.
fn folder_of(
    text: &str,
    user: Option<&std::path::Path>,
    base: &std::path::Path,
) -> Option<PathBuf> {
    match text.strip_prefix("~/") {
        Some(below) => Some(user?.join(below)),
        None if text == "~" => user.map(PathBuf::from),
        None => Some(base.join(text)),
    }
}
