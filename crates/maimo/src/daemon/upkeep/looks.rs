//! What the upkeep looks at: folders, the clock, channels; what of that is wrong, and which jobs there are by it.
//!
//! Looking takes no turn of the owner's: it neither waits for a command nor keeps one waiting.

use std::{collections::BTreeSet, time::Duration};

use maimo_client::{error::ClientError, mirror::Role, status::RootReport};
use maimo_core::clock::Timestamp;
use maimo_vault::retention::Policy;

use super::{
    CLOCK_BACK, LOOK, LOOK_AT_CHANNELS, MIRRORS_EVERY, TIDY_EVERY, Worker,
    schedule::{Job, Now},
    state::FolderState,
    trouble::{Kind, Subject},
};

impl Worker {
    /// Looks which folders and channels there are, and at the clock.
    pub(super) fn look(&mut self, now: Now) {
        if now.up >= self.look_at {
            self.look_at = now.up + LOOK.min(self.settings.rescan_every.unwrap_or(LOOK));
            self.look_at_folders(now);
            self.look_at_clock(now);
        }
        if now.up >= self.look_at_channels {
            self.look_at_channels = now.up + LOOK_AT_CHANNELS;
            self.look_at_channels();
        }
    }

    pub(super) fn look_at_folders(&mut self, now: Now) {
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
        let Ok((roots, policies)) = self.look_at_store() else {
            return;
        };
        let now = self.now();
        let channels = roots.iter().map(|it| it.channel.clone());
        let channels: BTreeSet<String> = channels.collect();
        let has_mirrors = roots.iter().any(|it| it.role == Role::Mirror);
        let is_behind = roots.iter().any(|it| it.behind > 0);
        let lets_go = policies.is_empty() || policies.iter().any(|policy| !keeps_all(policy));
        let wanted = |job: &Job| match job {
            Job::Audit(channel) | Job::Vital(channel) => channels.contains(channel),
            Job::Prune => lets_go,
            Job::Mirrors => has_mirrors,
            Job::Rescan | Job::Tidy => true,
        };
        self.schedule.retain(wanted);
        let settings = &self.settings;
        let mut jobs = vec![(Job::Rescan, settings.rescan_every)];
        if !channels.is_empty() {
            jobs.push((Job::Tidy, Some(TIDY_EVERY)));
            jobs.push((Job::Prune, settings.prune_every.filter(|_| lets_go)));
        }
        if has_mirrors {
            jobs.push((Job::Mirrors, Some(MIRRORS_EVERY)));
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
        if is_behind {
            // By a command of the user's, or before this process.
            self.schedule.hasten(&Job::Mirrors, now);
        }
        if channels != self.channels {
            // What could not be stored for want of a channel.
            self.store_at = Duration::ZERO;
            self.over(|it| it.channel.as_ref().is_some_and(|it| !channels.contains(it)));
            self.channels = channels;
            self.is_new = true;
        }
    }

    /// Looks at the channels and at what is kept, beside whatever the owner does.
    fn look_at_store(&self) -> Result<(Vec<RootReport>, Vec<Policy>), ClientError> {
        let view = self.owner.viewer().look()?;
        let policies = view.policies()?.into_iter().map(|it| it.policy);
        Ok((view.root()?, policies.collect()))
    }
}

/// Whether nothing is ever let go of by a policy.
const fn keeps_all(policy: &Policy) -> bool {
    policy.last == Policy::ALL || policy.revisions == Policy::ALL
}
