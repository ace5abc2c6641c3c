//! The pipeline: what a scan finds new becomes chunks, packs and records.
//!
//! It reads, hashes, cuts, compresses and fills packs; it seals nothing, sends nothing and knows no catalog: what it makes goes to a
//! [`StoreSink`], in walk order whatever the order in which its threads finish.
//!
//! Invariant: when a record reaches the sink, every chunk it names is in a pack that was handed over before it, in the piece that ends the
//! run, or was known.

use std::{
    collections::BTreeSet,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread,
};

use maimo_vault::{
    compress::Level,
    dictionary::{Dictionary, Recent},
    journal::{content::Content, state::Presence},
    name::SourceId,
    pack::PackSize,
};
use rustix::io::Errno;

use crate::{
    error::ClientError,
    keys::StoreKeys,
    progress::{Cancelled, Control, Event, Phase},
    scan::{
        compare::{Compare, Step},
        excludes::Excludes,
        known::KnownTree,
        stat::Kind,
        walk::{Found, Scope, Walk},
    },
};

mod budget;
mod domains;
mod fill;
mod job;
mod plan;
mod read;
mod roots;
mod seen;
mod sink;
mod train;
mod work;

use budget::Budget;
pub use domains::DomainFolder;
use domains::Domains;
use fill::Filler;
use job::Job;
use plan::Planner;
use seen::Seen;
pub use sink::{KnownChunks, StoreSink};
use train::Trainer;
use work::Shop;

/// How many bytes of files are in memory at most, beside the open pack: what is read and not yet in a pack.
const IN_FLIGHT_BYTES: usize = 12 * 1024 * 1024;
/// How many messages may wait for the filler; what bounds them as a rule is the budget.
const ORDERED_MAX: usize = 4096;

/// Scans and stores: passes to `sink` what the paths of `request` hold that `known` does not.
///
/// # Errors
///
/// What `sink` and `known` end with, [`ClientError::Input`] for paths or excludes that are none, [`ClientError::Cancelled`]. What cannot be
/// read does not end the run: it is told, and listed in [`Outcome::troubles`].
pub fn run(
    request: &PipelineRequest,
    keys: &StoreKeys,
    known: &mut dyn KnownTree,
    sink: &mut dyn StoreSink,
    control: &Control,
) -> Result<Outcome, ClientError> {
    control.tell(Event::Phase(if request.dry_run {
        Phase::Scanning
    } else {
        Phase::Storing
    }));
    if request.dry_run {
        let mut outcome = Outcome::default();
        look(request, known, &mut |step| {
            outcome.count(step, control);
            Ok(control.check()?)
        })?;
        return Ok(outcome);
    }

    let paths = roots::in_order(&request.paths)?;
    let walk = request.walk()?;
    let threads = request.threads();
    let shop = Shop {
        keys,
        domains: Domains::new(keys, &request.domains),
        level: request.level,
        known: sink.known(),
        seen: Seen::default(),
        trainer: Trainer::new(
            &request.dictionaries,
            Arc::clone(&request.recent),
            request.level,
        ),
        budget: Budget::new(IN_FLIGHT_BYTES),
        control,
        jobs: crossbeam_channel::unbounded(),
    };
    let mut filler = Filler::new(&shop, request, sink);
    thread::scope(|scope| {
        let _closing = Closing(&walk);
        for _ in 0..threads {
            scope.spawn(|| walk.run());
            scope.spawn(|| shop.work());
        }
        let (ordered, made) = crossbeam_channel::bounded(ORDERED_MAX);
        let planner = scope.spawn(|| {
            let _settling = Settling(&shop);
            let mut planner = Planner::new(&shop, ordered);
            scan(&walk, request, &paths, known, &mut |step| {
                planner.step(step)
            })?;
            planner.finish()
        });
        // Whatever ends the filler, a failure or a panic, the threads must not wait for it.
        let stopping = Stopping(&shop, threads);
        let filled = filler.run(&made);
        if filled.is_err() {
            shop.budget.end();
        }
        drop(made);
        let planned = planner.join();
        drop(stopping);
        filled?;
        planned.unwrap_or_else(|_| {
            Err(ClientError::Bug(
                "the planner of the pipeline ended before its work was done".to_owned(),
            ))
        })
    })?;
    filler.finish()
}

/// Returns whether what is new or changed comes to so many bytes: reads nothing but folders, and no further than it takes to know.
///
/// # Errors
///
/// As [`run`].
pub fn comes_to(
    bytes: u64,
    request: &PipelineRequest,
    known: &mut dyn KnownTree,
    control: &Control,
) -> Result<bool, ClientError> {
    let mut found = 0;
    let looked = look(request, known, &mut |step| {
        if let Step::Candidate(candidate) = step
            && candidate.stat.kind == Kind::Regular
        {
            found += candidate.stat.size;
        }
        if found >= bytes {
            return Err(Cancelled.into());
        }
        Ok(control.check()?)
    });
    if found >= bytes {
        return Ok(true);
    }
    looked.map(|()| false)
}

/// Scans, and no more.
fn look(
    request: &PipelineRequest,
    known: &mut dyn KnownTree,
    tell: &mut dyn FnMut(Step) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let paths = roots::in_order(&request.paths)?;
    let walk = request.walk()?;
    thread::scope(|scope| {
        let _closing = Closing(&walk);
        for _ in 0..request.threads() {
            scope.spawn(|| walk.run());
        }
        scan(&walk, request, &paths, known, tell)
    })
}

fn scan(
    walk: &Walk,
    request: &PipelineRequest,
    paths: &[PathBuf],
    known: &mut dyn KnownTree,
    tell: &mut dyn FnMut(Step) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let mut compare = Compare::new(walk, known, tell);
    for path in paths {
        let root = roots::begin(walk, path);
        if request.changed && matches!(root.entry.found, Found::Unreadable(Errno::NOENT)) {
            compare.vanished(&root.folder, &root.entry.name)?;
        } else {
            compare.root(&root.folder, root.entry)?;
        }
    }
    if request.changed {
        // A name that came or went changed its folder's times.
        let folders = paths.iter().filter_map(|path| path.parent());
        for folder in folders.collect::<BTreeSet<_>>() {
            compare.folder_alone(folder)?;
        }
    }
    Ok(())
}

/// Ends the walk's threads.
struct Closing<'a>(&'a Walk);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Says that no more samples come, however the planner ends: the filler may wait for a task that is parked for them.
struct Settling<'a>(&'a Shop<'a>);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.trainer.set_urgent(true);
        // The channel lives as long as the shop.
        let _ = self.0.jobs.0.send(Job::Settle);
    }
}

/// Ends the workers.
struct Stopping<'a>(&'a Shop<'a>, usize);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.budget.end();
        self.0.trainer.end();
        for _ in 0..self.1 {
            // The channel lives as long as the shop.
            let _ = self.0.jobs.0.send(Job::Stop);
        }
    }
}

/// What a run is to store, and how.
#[derive(Clone)]
pub struct PipelineRequest {
    /// The machine whose paths these are.
    pub source: SourceId,
    /// What to store: files and folders, in any order, one below another or not; relative ones are taken from the working folder.
    pub paths: Vec<PathBuf>,
    /// Globs of what to leave out: without `/` they are matched against names, with a leading one against whole paths, else against ends
    /// of paths.
    pub excludes: Vec<String>,
    /// Folders never entered, whatever `paths` says: the node's home, folders that are providers.
    pub leave_out: Vec<PathBuf>,
    /// Folders that are dedup domains of their own.
    pub domains: Vec<DomainFolder>,
    /// How hard to compress.
    pub level: Level,
    /// Dictionaries for small chunks, if the store has any, the newest first: that one is used, unless another does better for what comes. Without
    /// one, one is trained once there are chunks enough.
    pub dictionaries: Vec<Arc<Dictionary>>,
    /// The small chunks that came last: by these a dictionary is judged. To be handed on from run to run.
    pub recent: Arc<Mutex<Recent>>,
    /// How long packs grow.
    pub pack_size: PackSize,
    /// How many threads read and compress; as many as there are cores if none is said.
    pub threads: Option<NonZeroUsize>,
    /// Whether to look and count only: nothing is read but folders, and the sink is not called.
    pub dry_run: bool,
    /// Whether the paths are those that changed below folders that were stored: then one that is not there any more is gone, and no mistake;
    /// and the folders that changed ones are in are looked at, but for what else is in them.
    pub changed: bool,
}

impl PipelineRequest {
    /// Asks for `paths`, with all else as it is by default.
    pub fn new(source: SourceId, paths: Vec<PathBuf>) -> Self {
        Self {
            source,
            paths,
            excludes: Vec::new(),
            leave_out: Vec::new(),
            domains: Vec::new(),
            level: Level::default(),
            dictionaries: Vec::new(),
            recent: Arc::default(),
            pack_size: PackSize::default(),
            threads: None,
            dry_run: false,
            changed: false,
        }
    }

    fn walk(&self) -> Result<Walk, ClientError> {
        Ok(Walk::new(Scope {
            excludes: Excludes::new(&self.excludes)?,
            never: roots::never(&self.leave_out),
        }))
    }

    fn threads(&self) -> usize {
        let threads = self.threads;
        let threads = threads.or_else(|| thread::available_parallelism().ok());
        threads.map_or(1, NonZeroUsize::get)
    }
}

/// What a run found and made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Regular files and other things that are no folders, of which nothing was known.
    pub files_new: u64,
    /// Those that are otherwise than their newest revision.
    pub files_changed: u64,
    /// Those that are as their newest revision says.
    pub files_unmodified: u64,
    /// Paths that were known and are gone, folders not counted.
    pub files_gone: u64,
    /// Bytes read from files; in a dry run, bytes that would be.
    pub bytes_read: u64,
    /// Bytes of the chunks that were new to the store, before compression.
    pub bytes_new: u64,
    /// Bytes of their frames: compressed, not yet sealed.
    pub bytes_framed: u64,
    /// What could not be stored as it should, in walk order; the run is done in part if there is any.
    pub troubles: Vec<Trouble>,
}

impl Outcome {
    /// Counts what a dry run finds, as far as can be told without reading.
    fn count(&mut self, step: Step, control: &Control) {
        match step {
            Step::Unmodified => self.files_unmodified += 1,
            Step::Gone { kind, .. } => self.files_gone += u64::from(kind != Kind::Folder),
            Step::Trouble { path, message } => {
                control.tell(Event::Trouble {
                    path: path.clone(),
                    message: message.clone(),
                });
                self.troubles.push(Trouble { path, message });
            }
            Step::Candidate(candidate) if candidate.stat.kind != Kind::Folder => {
                let found = &candidate.stat;
                let looks_same = candidate.known.as_ref().is_some_and(|known| {
                    let size = match known.content {
                        Content::Regular { size, .. } => Some(size),
                        _ => None,
                    };
                    known.presence != Presence::Removed
                        && size.is_none_or(|size| size == found.size)
                        && known.metadata.modified == found.modified
                        && known.metadata.mode == found.mode
                });
                match (&candidate.known, looks_same) {
                    (_, true) => self.files_unmodified += 1,
                    (Some(_), false) => self.files_changed += 1,
                    (None, false) => self.files_new += 1,
                }
                if !looks_same && found.kind == Kind::Regular && candidate.link_to.is_none() {
                    self.bytes_read += found.size;
                }
            }
            Step::Candidate(_) => {}
        }
    }

    /// Returns how many files the run saw.
    pub const fn files(&self) -> u64 {
        self.files_new + self.files_changed + self.files_unmodified
    }
}

/// A path that could not be stored, or not as it should.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The path.
    pub path: PathBuf,
    /// What is the matter, as a clause without a full stop.
    pub message: String,
}

/// Returns the level that the dictionary of a store which compresses at `level` is prepared for: small chunks are cheap to compress well.
pub const fn dictionary_level(level: Level) -> Level {
    level
}
