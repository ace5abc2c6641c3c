//! Group commit: the changes of several callers as one transaction and one sync of the log.
//!
//! Whoever finds nobody at work takes all that is queued, and the rest wait; what comes in meanwhile is the next batch. Of each batch, in this order:
//! rows in a transaction, entries appended to the logs, logs synced, transaction committed, callers answered. A crash before the sync loses
//! what nobody was told; a crash after it leaves a ledger behind its log, which is replayed.
//!
//! Once a log failed, no more is taken until the provider is opened again: what is on disk is not known any longer.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use maimo_core::{clock::Timestamp, id::ChannelId};
use maimo_net::service::ServiceError;

use crate::{
    clean::Clean,
    error::of_ledger,
    ledger::{Ledger, LedgerError, Mark, Record, Rows, entry::Change},
    volume::{LogEntry, VolumeId},
    volumes::Volumes,
};

/// What one caller wants to change, in a batch with others.
type Job = Box<dyn FnOnce(&mut Batch<'_>) -> Result<(), LedgerError> + Send>;

/// A transaction that several callers share.
pub(crate) struct Batch<'a> {
    /// The rows, with the changes of those who came before.
    pub(crate) rows: &'a dyn Rows,
    entries: BTreeMap<VolumeId, Entries>,
}

/// What goes to one log.
#[derive(Default)]
struct Entries {
    list: Vec<(ChannelId, u8, Vec<u8>)>,
    is_synced: bool,
}

/// Whether a caller may be answered before the entry is on disk for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// The log is synced first.
    Synced,
    /// The entry only repeats what files say, or what may be lost in a power cut: it goes with the next sync.
    Lazy,
}

impl Batch<'_> {
    /// Records a change whose rows have been put.
    pub(crate) fn record(
        &mut self,
        log: VolumeId,
        channel: ChannelId,
        change: &Change,
        at: Timestamp,
        durability: Durability,
    ) {
        let entries = self.entries.entry(log).or_default();
        entries
            .list
            .push((channel, change.kind(), change.encode(at)));
        entries.is_synced |= durability == Durability::Synced;
    }

    /// Puts a record, and records it in the log that it names.
    pub(crate) fn put_record(&mut self, record: &Record, at: Timestamp) -> Result<(), LedgerError> {
        self.rows.put_record(record)?;
        self.record_again(record, at);
        Ok(())
    }

    /// Writes a record to its log as it is.
    pub(crate) fn record_again(&mut self, record: &Record, at: Timestamp) {
        let change = Change::Record {
            kind: record.kind,
            version: record.version,
            body: record.body.clone(),
        };
        let name = ChannelId(record.name);
        self.record(record.log, name, &change, at, Durability::Synced);
    }
}

/// Joins changes.
pub(crate) struct Committer {
    queue: Mutex<Queue>,
    turn: Condvar,
    ledger: Mutex<Work>,
    volumes: Arc<Volumes>,
    clean: Arc<Clean>,
}

/// The ledger, and why it takes no more changes.
struct Work {
    ledger: Box<dyn Ledger>,
    failed: Option<String>,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<(Job, Arc<Mutex<Outcome>>)>,
    is_led: bool,
}

/// How a caller's batch ended; nothing while it has not.
type Outcome = Option<Result<(), ServiceError>>;

impl Committer {
    pub(crate) fn new(ledger: Box<dyn Ledger>, volumes: Arc<Volumes>, clean: Arc<Clean>) -> Self {
        Self {
            queue: Mutex::default(),
            turn: Condvar::new(),
            ledger: Mutex::new(Work {
                ledger,
                failed: None,
            }),
            volumes,
            clean,
        }
    }

    /// Runs `work` in a batch, and returns what it returned once that is durable.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Batch<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let result = Arc::new(Mutex::new(None));
        let outcome = Arc::new(Mutex::new(None));
        let job: Job = Box::new({
            let result = Arc::clone(&result);
            move |batch| {
                let returned = work(batch)?;
                *lock(&result) = Some(returned);
                Ok(())
            }
        });
        let mut queue = lock(&self.queue);
        queue.jobs.push((job, Arc::clone(&outcome)));
        loop {
            if let Some(ended) = lock(&outcome).take() {
                ended?;
                let returned = lock(&result).take();
                return returned.ok_or_else(|| unavailable("a change got lost"));
            }
            if queue.is_led {
                queue = self
                    .turn
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.is_led = true;
            let jobs = core::mem::take(&mut queue.jobs);
            drop(queue);
            self.lead(jobs);
            queue = lock(&self.queue);
            queue.is_led = false;
            self.turn.notify_all();
        }
    }

    /// Makes the ledger durable as it is; returns whether that was possible now.
    pub(crate) fn checkpoint(&self) -> Result<bool, LedgerError> {
        lock(&self.ledger).ledger.checkpoint()
    }

    fn lead(&self, jobs: Vec<(Job, Arc<Mutex<Outcome>>)>) {
        let (jobs, outcomes): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
        let mut work = lock(&self.ledger);
        let ended = match &work.failed {
            Some(failed) => Err(unavailable(failed)),
            // A job that panics must not leave the others waiting for ever.
            None => catch_unwind(AssertUnwindSafe(|| self.commit(&mut work, jobs)))
                .unwrap_or_else(|_| Err(unavailable("a change failed in the middle"))),
        };
        for outcome in outcomes {
            *lock(&outcome) = Some(ended.clone());
        }
    }

    fn commit(&self, work: &mut Work, jobs: Vec<Job>) -> Result<(), ServiceError> {
        self.clean
            .soil()
            .map_err(|error| unavailable(&error.to_string()))?;
        let mut jobs = Some(jobs);
        let mut is_logged = false;
        let done = work.ledger.transact(&mut |rows| {
            let mut batch = Batch {
                rows,
                entries: BTreeMap::new(),
            };
            for job in jobs.take().unwrap_or_default() {
                job(&mut batch)?;
            }
            for (id, entries) in &batch.entries {
                let volume = self
                    .volumes
                    .mounted(*id)
                    .ok_or(LedgerError::Unmounted { volume: *id })?;
                is_logged = true;
                let list: Vec<LogEntry<'_>> = entries
                    .list
                    .iter()
                    .map(|(channel, kind, body)| LogEntry {
                        kind: *kind,
                        channel: *channel,
                        body,
                    })
                    .collect();
                let log = volume.log();
                let positions = log.append(&list)?;
                if entries.is_synced {
                    log.sync()?;
                }
                if let Some((position, entry)) = positions.last().zip(list.last()) {
                    rows.put_mark(*id, &Mark::of(*position, entry.kind, entry.body))?;
                }
            }
            Ok(())
        });
        done.map_err(|error| {
            let said = of_ledger(&error);
            // Before the log was touched, a failed transaction has changed nothing.
            if is_logged || error.is_damage() {
                self.clean.doubt();
                work.failed = Some(crate::error::chain(&error));
            }
            said
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What a panicking job leaves is a transaction that was rolled back.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unavailable(detail: &str) -> ServiceError {
    ServiceError::Unavailable {
        detail: detail.to_owned(),
    }
}
