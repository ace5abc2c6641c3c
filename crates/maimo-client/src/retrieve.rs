//! Retrieving: files of the store, written below a folder as they were.
//!
//! ```text
//! plan (one thread)                         workers (all cores)
//! walk the catalog; folders, links made     a batch of files, or a part of a large one:
//! files --> batches, parts -- bounded -->   read groups, open chunks, hash, write, rename
//! then hard links
//! ```
//!
//! A stored path is absolute, and so it goes below the folder: `/home/u/a` retrieved to `DIR` is `DIR/home/u/a`. A file appears under its
//! name whole, with its hash checked and its metadata set, or not at all. Nothing outside of the folder is touched, whatever the store or the
//! folder holds, and nothing there is overwritten unless told: what is there already and the same counts as done, so a retrieval that
//! was cut off is finished by running it again.
//!
//! What is wrong with one file is told and counted, and the rest goes on; it ends early only where nothing more could come of it.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use maimo_core::error::{Classify, ErrorKind};
use maimo_vault::{
    journal::{content::Content, metadata::Metadata},
    path::StorePath,
};

use crate::{
    error::ClientError,
    fetch::{Fetch, FetchError, PackIndex},
    progress::{Control, Event, Phase},
};

mod large;
mod links;
mod metadata;
mod operation;
mod plan;
mod select;
mod target;
mod work;
mod write;

pub(crate) use operation::fetch;
pub use select::{RetrieveRequest, Selection};

use plan::Planner;
use target::Target;
use work::Workers;

/// How many failures a report lists; all of them are counted, and told as they happen.
pub const FAILURES_LISTED_MAX: usize = 1000;

/// A path of the store, in the revision that is to be retrieved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it was.
    pub path: StorePath,
    /// What the file system said of it.
    pub metadata: Metadata,
    /// What was there.
    pub content: Content,
}

/// What is to be retrieved, of one source and as of one time: the catalog answers.
pub trait StoredTree {
    /// Calls `visit` for each path that was asked for, in walk order: a folder before what is in it, and all of that before anything else.
    fn each(
        &self,
        visit: &mut dyn FnMut(Stored) -> Result<(), ClientError>,
    ) -> Result<(), ClientError>;

    /// Returns one path, asked for or not: a folder on the way to a file, what a hard link is another name of.
    fn at(&self, path: &StorePath) -> Result<Option<Stored>, ClientError>;
}

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct RetrieveOptions {
    /// The folder to write below; made if it is not there.
    pub to: PathBuf,
    /// Whether other files of the same names are replaced.
    pub overwrite: bool,
}

/// What a retrieval did.
#[derive(Debug, Clone, Default)]
pub struct RetrieveReport {
    /// Files that are there now, as they were: regular ones, links, pipes, devices; not folders.
    pub files: u64,
    /// Bytes of content written.
    pub bytes_written: u64,
    /// Bytes of verified reads that came in.
    pub bytes_received: u64,
    /// Paths that are not there, or not all as they were.
    pub errors: u64,
    /// The first of them, at most [`FAILURES_LISTED_MAX`].
    pub failures: Vec<RetrieveFailure>,
}

/// A path that is not there, or not all as it was.
#[derive(Debug, Clone)]
pub struct RetrieveFailure {
    /// Where it should be.
    pub path: PathBuf,
    /// Who is at fault: [`ErrorKind::ProviderMisbehaved`] where stored bytes are damaged or missing.
    pub kind: ErrorKind,
    /// What is the matter, as a clause.
    pub message: String,
}

/// Retrieves all of `tree` that was asked for.
///
/// # Errors
///
/// The folder cannot be used, no channel can be reached, the disk is full, the catalog fails, or it was cancelled. What was done until
/// then stays, each file whole; running it again finishes it.
pub fn retrieve(
    tree: &dyn StoredTree,
    index: &dyn PackIndex,
    fetch: &Fetch<'_>,
    options: &RetrieveOptions,
    control: &Control,
) -> Result<RetrieveReport, ClientError> {
    control.tell(Event::Phase(Phase::Retrieving));
    let outcome = Arc::new(Outcome::new(control.clone()));
    let target = Target::open(&options.to, options.overwrite, Arc::clone(&outcome))?;
    let target = Arc::new(target);
    let workers = Workers::new(fetch, &outcome);
    let planned = thread::scope(|scope| {
        let (sender, threads) = workers.start(scope);
        let mut planner = Planner::new(tree, index, fetch, &target, sender)?;
        let planned = tree.each(&mut |stored| planner.add(stored));
        let planned = planned.and_then(|()| planner.finish());
        // The planner held the queue's only other end: without it the workers come to theirs.
        for thread in threads {
            if thread.join().is_err() {
                outcome.stop(ClientError::Bug(
                    "a thread that writes files panicked".to_owned(),
                ));
            }
        }
        planned
    });
    // What stopped the workers also stopped the planner, and says why.
    if let Some(error) = outcome.stopped() {
        return Err(error);
    }
    let links = planned?;
    links::make_hard(links, tree, index, fetch, &target)?;
    drop(target);
    if let Some(error) = outcome.stopped() {
        return Err(error);
    }
    Ok(outcome.report(fetch.bytes_received()))
}

/// What came of it so far; shared by all threads.
struct Outcome {
    control: Control,
    files: AtomicU64,
    bytes: AtomicU64,
    errors: AtomicU64,
    failures: Mutex<Vec<RetrieveFailure>>,
    stopped: Mutex<Option<ClientError>>,
}

impl Outcome {
    fn new(control: Control) -> Self {
        Self {
            control,
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            failures: Mutex::default(),
            stopped: Mutex::default(),
        }
    }

    /// Counts what is there now.
    fn done(&self, files: u64, bytes: u64) {
        self.files.fetch_add(files, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Tells how far it has come.
    fn tell(&self) {
        self.control.tell(Event::Done {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        });
    }

    /// Tells and counts what is the matter with a path on this machine.
    fn trouble(&self, path: &Path, message: &str) {
        self.fail(path, ErrorKind::LocalIo, message.to_owned());
    }

    fn fail(&self, path: &Path, kind: ErrorKind, message: String) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        self.control.tell(Event::Trouble {
            path: path.to_owned(),
            message: message.clone(),
        });
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() < FAILURES_LISTED_MAX {
            failures.push(RetrieveFailure {
                path: path.to_owned(),
                kind,
                message,
            });
        }
    }

    /// Takes in why a path failed; some reasons end it all.
    fn failed(&self, path: &Path, why: Failure) {
        match why {
            Failure::Fetch(error @ (FetchError::Away { .. } | FetchError::Catalog(_))) => {
                self.stop(error.into());
            }
            Failure::Fetch(error) => self.fail(path, error.kind(), error.to_string()),
            Failure::Io(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                self.stop(ClientError::io("write", path)(error));
            }
            Failure::Io(error) => self.fail(path, ErrorKind::LocalIo, error.to_string()),
            Failure::Record(message) => {
                self.fail(path, ErrorKind::LocalCorrupt, message.to_owned());
            }
        }
    }

    /// Ends it all, for the first reason given.
    fn stop(&self, error: ClientError) {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.get_or_insert(error);
    }

    fn is_stopped(&self) -> bool {
        if let Err(cancelled) = self.control.check() {
            self.stop(cancelled.into());
            return true;
        }
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.is_some()
    }

    fn stopped(&self) -> Option<ClientError> {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        stopped.take()
    }

    fn report(&self, bytes_received: u64) -> RetrieveReport {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        RetrieveReport {
            files: self.files.load(Ordering::Relaxed),
            bytes_written: self.bytes.load(Ordering::Relaxed),
            bytes_received,
            errors: self.errors.load(Ordering::Relaxed),
            failures: std::mem::take(&mut failures),
        }
    }
}

/// Why one path failed.
enum Failure {
    Fetch(FetchError),
    Io(io::Error),
    /// The record and the chunks it names do not fit together.
    Record(&'static str),
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

#[cfg(test)]
mod tests;
