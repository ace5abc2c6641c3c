//! The jobs of the upkeep: each by one turn of the owner's, and what its end says of what is wrong and what is not.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use maimo_client::{
    audit::{AuditResult, ChannelAudit, Sample, result_of},
    client::Client,
    mirror::Behind,
    prune::PruneRequest,
    store::{StoreReport, StoreRequest},
    verify::VerifyRequest,
};

use super::{
    Ended, Worker,
    changes::Batch,
    schedule::Job,
    state::{Pruned, Stored},
    trouble::{Kind, Subject},
    watch::storable,
};

impl Worker {
    /// Stores what changed: one run, whatever it is.
    pub(super) fn store(&mut self) -> Ended {
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
        self.followed(&channels, &report.behind);
        if !report.behind.is_empty() {
            self.schedule.failed(&Job::Mirrors, now);
        }
        if report.run.is_some() {
            let files = report.files_new + report.files_changed;
            tracing::info!(files, sequence = report.sequence, "stored what changed");
            self.state.stored = Some(Stored {
                time: now.wall.into(),
                sequence: report.sequence,
                files,
                bytes_sent: report.bytes_sent,
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

    pub(super) fn perform(&mut self, job: &Job) {
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
                        self.state.pruned = Some(Pruned {
                            time: self.now().wall.into(),
                            packs: report.packs_dropped,
                            bytes: report.bytes_dropped,
                        });
                        Ended::Done
                    }
                    Err(ended) => ended,
                }
            }
            Job::Mirrors => self.mirrors(),
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

    /// Lets the mirrors catch up, or at least finds out which of them are away.
    fn mirrors(&mut self) -> Ended {
        let followed = self.work("mirrors", Client::catch_up_mirrors);
        match followed {
            Ok(report) => {
                let channels = report.channels.into_iter().map(|(channel, _)| channel);
                self.followed(&channels.collect(), &report.behind);
                if report.behind.is_empty() {
                    Ended::Done
                } else {
                    Ended::Failed
                }
            }
            Err(ended) => ended,
        }
    }

    /// Takes note of which channels have the newest state, and of what keeps the others.
    fn followed(&mut self, channels: &BTreeSet<String>, behind: &[Behind]) {
        let now = self.now();
        for mirror in behind {
            let why = mirror.why.as_ref().map(result_of).and_then(Kind::of);
            // Nothing is known to keep it: it is given what it lacks, and that takes its time.
            let subject = Subject::channel(why.unwrap_or(Kind::Slow), &mirror.channel);
            self.troubles.set(subject, mirror.text(), None, now);
        }
        for channel in channels {
            if behind.iter().all(|mirror| mirror.channel != *channel) {
                self.answered(channel);
            }
        }
    }
}

/// Whether nothing can be said of what is stored: it was not asked for, or not answered.
const fn is_unanswered(audit: &ChannelAudit) -> bool {
    matches!(
        audit.result,
        AuditResult::Refused | AuditResult::Slow | AuditResult::Offline
    )
}
