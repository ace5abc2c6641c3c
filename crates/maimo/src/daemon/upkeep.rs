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
    audit::{AuditResult, ChannelAudit, Sample},
    client::Client,
    error::ClientError,
    progress::Control,
    prune::PruneRequest,
    scan::excludes::Excludes,
    store::{StoreReport, StoreRequest},
    verify::VerifyRequest,
};
use maimo_core::clock::Timestamp;
use maimo_vault::retention::Policy;

pub(crate) use self::settings::Settings;
use self::{
    changes::{Batch, Changes},
    hook::Hook,
    schedule::{Job, Now, Schedule},
    state::{FolderState, JobRow, State, Stored},
    trouble::{Kind, News, Subject, Troubles, of_error},
    watch::{Inbox, Watch, storable},
};
use super::{Owner, Stop, now};
use crate::error::CommandError;

/// How often is looked whether folders are there.
const LOOK: Duration = Duration::from_secs(2);
/// How often is looked which channels there are.
const LOOK_AT_CHANNELS: Duration = Duration::from_mins(1);
/// How often the journal is merged and providers are asked where they are, where nothing is stored for long.
const TIDY_EVERY: Duration = Duration::from_hours(24);
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

    /// Looks which folders and channels there are, and at the clock.
    fn look(&mut self, now: Now) {
        if now.up >= self.look_at {
            self.look_at = now.up + LOOK.min(self.settings.rescan_every.unwrap_or(LOOK));
            self.look_at_folders(now);
            self.look_at_clock(now);
        }
        if now.up >= self.look_at_channels {
            // After its work: it may take its time to have a turn.
            self.look_at_channels();
            self.look_at_channels = self.begun.elapsed() + LOOK_AT_CHANNELS;
        }
    }

    fn look_at_folders(&mut self, now: Now) {
        self.watch.look();
        let mut over = Vec::new();
        let mut folders = Vec::new();
        for (folder, why) in self.watch.folders() {
            folders.push(folder.clone());
            let gone = Subject::path(Kind::FolderGone, &folder.path);
            let unwatched = Subject::path(Kind::Unwatched, &folder.path);
            let shown = folder.path.display();
            match folder.state {
                FolderState::Absent if folder.seen => {
                    let message = format!("the watched folder {shown} is not there any more");
                    self.troubles.set(gone, message, None, now);
                    over.push(unwatched);
                }
                FolderState::Unmounted => {
                    let message = format!("the disk of the watched folder {shown} is not mounted");
                    self.troubles.set(gone, message, None, now);
                    over.push(unwatched);
                }
                FolderState::Absent | FolderState::Watched => over.extend([gone, unwatched]),
                FolderState::Rescanned => {
                    let why = why.unwrap_or("the system does not tell what changes");
                    let message = format!("{shown}: {why}");
                    self.troubles.set(unwatched, message, None, now);
                    over.push(gone);
                }
            }
        }
        if folders != self.state.folders {
            for folder in &folders {
                let known = self.state.folders.iter();
                let known = known.clone().find(|known| known.path == folder.path);
                let was = known.map(|known| known.state);
                if was != Some(folder.state) {
                    // Folders are their owner's business: the state file names them, a log does not.
                    tracing::info!(state = ?folder.state, "a watched folder");
                }
            }
            self.state.folders = folders;
            self.is_new = true;
        }
        self.over(|subject| over.contains(subject));
        let lost = self.inbox.overflows();
        if lost > 0 {
            tracing::warn!(
                lost,
                "the system lost count of what changed: all is looked through"
            );
        }
    }

    /// A clock before what was done by it goes wrong, or did then.
    fn look_at_clock(&mut self, now: Now) {
        let done = self.schedule.rows().filter_map(|(_, done, _, _)| done);
        let stored = self
            .state
            .stored
            .as_ref()
            .map(|it| Timestamp::from(it.time));
        let newest = done.chain(stored).max();
        let subject = Subject::node(Kind::Clock);
        match newest.filter(|newest| newest.since(now.wall) > CLOCK_BACK) {
            Some(newest) => {
                let newest = crate::quantity::Moment::from(newest).rfc3339();
                let message =
                    format!("the clock shows a time before {newest}, when this node last worked");
                self.troubles.set(subject, message, None, now);
            }
            None => self.over(|other| *other == subject),
        }
    }

    fn look_at_channels(&mut self) {
        let asked = self.owner.background("looking at channels", |client, _| {
            let status = client.status()?;
            let kept: Vec<Policy> = client.policies()?.into_iter().map(|it| it.policy).collect();
            let channels = status.channels.into_iter().map(|it| it.channel);
            Ok((channels.collect::<BTreeSet<_>>(), kept))
        });
        let Ok((channels, policies)) = asked else {
            return;
        };
        let now = self.now();
        let lets_go = policies.is_empty() || policies.iter().any(|policy| !keeps_all(policy));
        let wanted = |job: &Job| match job {
            Job::Audit(channel) | Job::Vital(channel) => channels.contains(channel),
            Job::Prune => lets_go,
            Job::Rescan | Job::Tidy => true,
        };
        self.schedule.retain(wanted);
        let settings = &self.settings;
        let mut jobs = vec![(Job::Rescan, settings.rescan_every)];
        if !channels.is_empty() {
            jobs.push((Job::Tidy, Some(TIDY_EVERY)));
            jobs.push((Job::Prune, settings.prune_every.filter(|_| lets_go)));
        }
        for channel in &channels {
            jobs.push((Job::Audit(channel.clone()), settings.audit_every));
            jobs.push((Job::Vital(channel.clone()), settings.vital_every));
        }
        for (job, every) in jobs {
            if let Some(every) = every {
                let done = self.state.last_done(&job.to_string());
                self.schedule
                    .add(job, every, done.map(Timestamp::from), now);
            }
        }
        if channels != self.channels {
            // What could not be stored for want of a channel.
            self.store_at = Duration::ZERO;
            self.over(|it| it.channel.as_ref().is_some_and(|it| !channels.contains(it)));
            self.channels = channels;
            self.is_new = true;
        }
    }

    fn is_batch_ready(&self, now: Now) -> bool {
        !self.channels.is_empty()
            && now.up >= self.store_at
            && self.inbox.wait().is_some_and(|wait| wait.is_zero())
    }

    /// Stores what changed: one run, whatever it is.
    fn store(&mut self) -> Ended {
        let batch = self.inbox.take();
        let paths = storable(&batch, &self.watch.there());
        if paths.is_empty() {
            // Of a folder that went meanwhile. It is looked through when it is back.
            return Ended::Done;
        }
        let is_all = self.watch.there().iter().all(|root| paths.contains(root));
        // What could not be brought back is not gone by that.
        let mut excludes = self.settings.excludes.clone();
        match self.restore(&paths) {
            Ok(missing) => excludes.extend(missing),
            Err(ended) => {
                self.put_back(batch, &ended);
                return ended;
            }
        }
        let request = StoreRequest {
            paths: paths.into_iter().collect(),
            excludes,
            domains: self.settings.domains.clone(),
            changed: true,
            ..StoreRequest::default()
        };
        let stored = self.work("store", |client, control| client.store(&request, control));
        let ended = match stored {
            Ok(report) => {
                self.stored(&report, is_all);
                return Ended::Done;
            }
            Err(ended) => ended,
        };
        self.put_back(batch, &ended);
        ended
    }

    /// Keeps a batch that could not be stored for later.
    fn put_back(&mut self, batch: Batch, ended: &Ended) {
        self.inbox.put_back(batch);
        self.store_at = match ended {
            Ended::Failed => {
                let pause = self.schedule.jitter().pause(self.store_failures);
                self.store_failures += 1;
                self.begun.elapsed() + pause
            }
            _ => Duration::ZERO,
        };
    }

    /// Brings back what is missing of what is to be stored, where that is wanted. Returns globs of what could not be.
    fn restore(&mut self, paths: &BTreeSet<PathBuf>) -> Result<Vec<String>, Ended> {
        let within = |folder: &PathBuf| {
            let folder = folder.clone();
            paths.iter().filter_map(move |path| {
                if path.starts_with(&folder) {
                    Some(path.clone())
                } else {
                    folder.starts_with(path).then(|| folder.clone())
                }
            })
        };
        let folders: BTreeSet<PathBuf> = self.settings.restored.iter().flat_map(within).collect();
        if folders.is_empty() {
            return Ok(Vec::new());
        }
        let folders: Vec<PathBuf> = folders.into_iter().collect();
        let report = self.work("restore", |client, control| {
            client.restore_missing(&folders, control)
        })?;
        if report.files > 0 {
            tracing::info!(files = report.files, "brought back what was missing");
        }
        let subject = Subject::node(Kind::NotRestored);
        let Some(first) = report.missing.first() else {
            self.over(|it| *it == subject);
            return Ok(Vec::new());
        };
        let (count, first) = (report.missing.len(), first.display());
        let message = format!("{count} missing files could not be brought back, {first} first");
        let now = self.now();
        self.troubles.set(subject, message, None, now);
        let globs = report.missing.iter();
        let globs: Option<Vec<String>> = globs
            .map(|it| Some(globset::escape(it.to_str()?)))
            .collect();
        // A name that no glob can say: then nothing of it is stored, so that nothing is gone.
        globs.ok_or(Ended::Failed)
    }

    fn stored(&mut self, report: &StoreReport, is_all: bool) {
        let now = self.now();
        self.store_failures = 0;
        self.store_at = Duration::ZERO;
        let channels = report.roots.iter().map(|(channel, _)| channel.clone());
        let channels: BTreeSet<String> = channels.collect();
        for channel in &channels {
            self.answered(channel);
        }
        if report.run.is_some() {
            let files = report.files_new + report.files_changed;
            tracing::info!(files, sequence = report.sequence, "stored what changed");
            self.state.stored = Some(Stored {
                time: now.wall.into(),
                sequence: report.sequence,
                files,
            });
            // A state that builds on the newest was taken.
            self.over(|it| {
                matches!(it.kind, Kind::Rollback | Kind::CapExceeded)
                    && it.channel.as_ref().is_some_and(|it| channels.contains(it))
            });
        }
        let unreadable = Subject::node(Kind::Unreadable);
        match report.troubles.first() {
            Some(first) => {
                let (path, message) = (first.path.display(), &first.message);
                let message = match report.troubles.len() {
                    1 => format!("{path} could not be stored: {message}"),
                    count => format!("{count} paths could not be stored; {path}: {message}"),
                };
                self.troubles.set(unreadable, message, None, now);
            }
            // A run over some paths says nothing of others.
            None if is_all => self.over(|it| *it == unreadable),
            None => {}
        }
    }

    fn perform(&mut self, job: &Job) {
        let ended = match job {
            Job::Rescan => self.rescan(),
            Job::Audit(channel) => self.audit(channel),
            Job::Vital(channel) => {
                let proven = self.work(&job.to_string(), |client, control| {
                    client.prove_vital(channel, control)
                });
                proven
                    .map(|()| self.answered(channel))
                    .err()
                    .unwrap_or(Ended::Done)
            }
            Job::Prune => {
                let pruned = self.work("prune", |client, control| {
                    client.prune(PruneRequest::default(), control)
                });
                match pruned {
                    Ok(report) => {
                        tracing::info!(
                            packs = report.packs_dropped,
                            bytes = report.bytes_dropped,
                            "let go of what no policy keeps"
                        );
                        Ended::Done
                    }
                    Err(ended) => ended,
                }
            }
            Job::Tidy => {
                let tidied = self.work("tidy", Client::tidy);
                tidied.err().unwrap_or(Ended::Done)
            }
        };
        let now = self.now();
        match ended {
            Ended::Done => self.schedule.done(job, now),
            Ended::Failed => self.schedule.failed(job, now),
            Ended::Interrupted => {}
        }
        self.is_new = true;
    }

    fn rescan(&mut self) -> Ended {
        self.watch.try_again();
        self.look_at_folders(self.now());
        if self.channels.is_empty() {
            return Ended::Done;
        }
        let there = self.watch.there();
        for root in &there {
            self.inbox.add(root, root);
        }
        if there.is_empty() {
            return Ended::Done;
        }
        self.store()
    }

    fn audit(&mut self, channel: &str) -> Ended {
        let request = VerifyRequest {
            channels: vec![channel.to_owned()],
            sample: Sample::Slices(self.settings.audit_slices.into()),
            path: None,
        };
        let is_astray = self.troubles.stands(Kind::Rollback, channel);
        let audited = self.work(&format!("audit {channel}"), |client, control| {
            let audit = client.verify(&request, control)?.pop();
            let is_intact = audit
                .as_ref()
                .is_some_and(|audit| audit.result == AuditResult::Intact);
            if is_astray && is_intact {
                // It has the root; whether it follows from what was seen is another question.
                client.tidy(control)?;
            }
            let known = client.damage()?;
            let is_damaged = known.iter().any(|known| known.channel == channel);
            Ok((audit, client.audits()?, is_damaged))
        });
        let (audit, past, is_damaged) = match audited {
            Ok((Some(audit), past, is_damaged)) => (audit, past, is_damaged),
            Ok((None, ..)) => return Ended::Done,
            Err(ended) => return ended,
        };
        let now = self.now();
        let Some(kind) = Kind::of(audit.result) else {
            self.answered(channel);
            let whole = past.iter().filter(|past| {
                past.channel == channel && past.result == AuditResult::Intact && past.is_whole()
            });
            let whole = whole.map(|past| past.time).max();
            let lost = self.troubles.all().filter(|it| {
                matches!(it.subject.kind, Kind::Damaged | Kind::Missing)
                    && it.subject.channel.as_deref() == Some(channel)
            });
            // A sample may pass by what one before it has met: only one of everything ends it. Where nothing was met, what counted as missing was
            // never shown, and now it is.
            let is_shown = |kind| kind == Kind::Missing && !is_damaged;
            let mended: Vec<Subject> = lost
                .filter(|it| {
                    is_shown(it.subject.kind) || whole.is_some_and(|whole| whole > it.since.into())
                })
                .map(|it| it.subject.clone())
                .collect();
            self.over(|it| {
                mended.contains(it)
                    || (it.kind == Kind::Rollback && it.channel.as_deref() == Some(channel))
            });
            return Ended::Done;
        };
        if !is_unanswered(&audit) {
            self.answered(channel);
        }
        let detail = audit.detail.as_deref().unwrap_or("an audit failed");
        let message = format!("channel {channel}: {detail}");
        let subject = Subject::channel(kind, channel);
        self.troubles.set(subject, message, None, now);
        if is_unanswered(&audit) {
            Ended::Failed
        } else {
            Ended::Done
        }
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
                Job::Rescan | Job::Prune | Job::Tidy => true,
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

/// Whether nothing can be said of what is stored: it was not asked for, or not answered.
const fn is_unanswered(audit: &ChannelAudit) -> bool {
    matches!(
        audit.result,
        AuditResult::Refused | AuditResult::Slow | AuditResult::Offline
    )
}

/// Whether nothing is ever let go of by a policy.
const fn keeps_all(policy: &Policy) -> bool {
    policy.last == Policy::ALL || policy.revisions == Policy::ALL
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
