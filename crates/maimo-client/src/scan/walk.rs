//! The walk: folders listed and their entries looked at by several threads, ahead of the one that takes them in order.
//!
//! ```text
//! jobs: last in, first out, the next in walk order on top     taken by idle threads; by the taker itself, if none has begun the one it needs
//! ```
//!
//! A folder's names are sorted before any is looked at, and looked at by pages, each a job of its own: so a folder of a million files is
//! shared by all threads. How far the threads run ahead is bounded by a count of entries; as the taker never waits for a job that nobody
//! has begun, the bound cannot stop it.

use std::{
    collections::HashSet,
    ffi::{CString, OsStr},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::{
    fs::{CWD, Mode, OFlags, RawDir, openat},
    io::Errno,
};

use super::{
    excludes::Excludes,
    stat::{FileStat, Kind},
};

/// How many entries one job looks at.
const PAGE_ENTRIES: usize = 1024;
/// How many entries may wait to be taken before the threads pause.
const AHEAD_ENTRIES_MAX: usize = 16 * PAGE_ENTRIES;
/// How many bytes of names one call for entries returns at most.
const LIST_BYTES: usize = 64 * 1024;

/// A folder's path, as bytes of the system's own.
#[derive(Debug, PartialEq, Eq)]
pub struct FolderPath(Box<[u8]>);

impl FolderPath {
    /// Takes an absolute path.
    pub fn new(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().into())
    }

    /// Returns its bytes.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns it as a path.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Returns the path of what is called `name` in it.
    pub fn join(&self, name: &[u8]) -> PathBuf {
        self.as_path().join(OsStr::from_bytes(name))
    }
}

/// What a folder holds under one name.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: CString,
    /// What is there.
    pub found: Found,
}

/// What is under a name.
#[derive(Debug)]
pub enum Found {
    /// A folder, which is being listed.
    Folder(FileStat, Listing),
    /// Anything else.
    Other(FileStat),
    /// Left out: excluded, or one of the folders never entered.
    LeftOut,
    /// It could not be looked at.
    Unreadable(Errno),
}

/// Some of a folder's entries, in order.
#[derive(Debug)]
pub struct Page {
    /// The device that the folder, as it was opened, is on.
    pub device: u64,
    /// The entries.
    pub entries: Vec<Entry>,
    /// What follows them.
    pub next: Option<Listing>,
}

/// A page that is, or will be, looked at.
#[derive(Debug)]
pub struct Listing(Arc<Job>);

/// What is listed, and what is left out of it.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// By name and path.
    pub excludes: Excludes,
    /// Folders never entered, by device and inode: whatever path leads there.
    pub never: HashSet<(u64, u64)>,
}

/// The walk's jobs, shared by its threads and the one that takes what they found.
#[derive(Debug)]
pub struct Walk {
    scope: Scope,
    jobs: Mutex<Jobs>,
    /// More to do, or closed, or entries taken.
    changed: Condvar,
    ahead: AtomicUsize,
}

#[derive(Debug, Default)]
struct Jobs {
    stack: Vec<Arc<Job>>,
    closed: bool,
    idle: usize,
}

#[derive(Debug)]
struct Job {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
enum State {
    Waiting(Work),
    Begun,
    Done(Result<Page, Errno>),
}

#[derive(Debug)]
enum Work {
    List(Arc<FolderPath>),
    Look(Arc<Open>, usize),
}

/// A folder that is open for as long as some of its entries are to be looked at.
#[derive(Debug)]
struct Open {
    path: Arc<FolderPath>,
    device: u64,
    fd: OwnedFd,
    names: Vec<CString>,
}

impl Walk {
    /// Prepares a walk.
    pub fn new(scope: Scope) -> Self {
        Self {
            scope,
            jobs: Mutex::default(),
            changed: Condvar::new(),
            ahead: AtomicUsize::new(0),
        }
    }

    /// Returns what is left out.
    pub const fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Begins with a folder. Roots are begun last first, so that the first is on top.
    pub fn begin(&self, folder: &Path) -> Listing {
        let job = Job::new(Work::List(Arc::new(FolderPath::new(folder))));
        self.push([Arc::clone(&job)]);
        Listing(job)
    }

    /// Does jobs until the walk is closed: what each of its threads runs.
    pub fn run(&self) {
        let mut jobs = lock(&self.jobs);
        while !jobs.closed {
            let paused = self.ahead.load(Ordering::Relaxed) > AHEAD_ENTRIES_MAX;
            if !paused && let Some(job) = jobs.stack.pop() {
                drop(jobs);
                job.work(self);
                jobs = lock(&self.jobs);
            } else {
                jobs.idle += 1;
                jobs = self
                    .changed
                    .wait(jobs)
                    .unwrap_or_else(PoisonError::into_inner);
                jobs.idle -= 1;
            }
        }
    }

    /// Ends the threads.
    pub fn close(&self) {
        let mut jobs = lock(&self.jobs);
        jobs.closed = true;
        jobs.stack.clear();
        self.changed.notify_all();
    }

    /// Takes a page: waits for it, or makes it at once if no thread has begun to.
    ///
    /// # Errors
    ///
    /// That the folder cannot be opened or read.
    pub fn take(&self, listing: Listing) -> Result<Page, Errno> {
        let job = listing.0;
        job.work(self);
        let mut state = lock(&job.state);
        while !matches!(*state, State::Done(_)) {
            state = job.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let State::Done(page) = std::mem::replace(&mut *state, State::Begun) else {
            unreachable!("just seen to be done");
        };
        drop(state);
        if let Ok(page) = &page {
            let before = self.ahead.fetch_sub(page.entries.len(), Ordering::Relaxed);
            if before > AHEAD_ENTRIES_MAX && before - page.entries.len() <= AHEAD_ENTRIES_MAX {
                // Under the lock, or a thread that has just looked would sleep on.
                let _jobs = lock(&self.jobs);
                self.changed.notify_all();
            }
        }
        page
    }

    fn push(&self, more: impl IntoIterator<Item = Arc<Job>>) {
        let mut jobs = lock(&self.jobs);
        let before = jobs.stack.len();
        jobs.stack.extend(more);
        let added = jobs.stack.len() - before;
        for _ in 0..added.min(jobs.idle) {
            self.changed.notify_one();
        }
    }

    fn list(&self, path: Arc<FolderPath>) -> Result<Page, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(CWD, path.as_path(), flags, Mode::empty())?;
        let device = FileStat::of(fd.as_fd(), c"")?.local.device;
        let mut names: Vec<CString> = Vec::new();
        let mut buffer = vec![MaybeUninit::uninit(); LIST_BYTES];
        let mut list = RawDir::new(&fd, &mut buffer);
        while let Some(entry) = list.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        let open = Open {
            path,
            device,
            fd,
            names,
        };
        Ok(self.look(&Arc::new(open), 0))
    }

    /// Looks at a page of names, and puts the folders among them and the next page on the stack.
    fn look(&self, open: &Arc<Open>, from: usize) -> Page {
        let to = (from + PAGE_ENTRIES).min(open.names.len());
        let mut below: Vec<Arc<Job>> = Vec::new();
        let look = |name: &CString| {
            let bytes = name.to_bytes();
            if self.scope.excludes.matches(open.path.as_bytes(), bytes) {
                return Found::LeftOut;
            }
            match FileStat::of(open.fd.as_fd(), name) {
                Ok(stat) if stat.kind == Kind::Folder => {
                    let identity = (stat.local.device, stat.local.inode);
                    if self.scope.never.contains(&identity) {
                        return Found::LeftOut;
                    }
                    let path = FolderPath::new(&open.path.join(bytes));
                    let job = Job::new(Work::List(Arc::new(path)));
                    below.push(Arc::clone(&job));
                    Found::Folder(stat, Listing(job))
                }
                Ok(stat) => Found::Other(stat),
                Err(errno) => Found::Unreadable(errno),
            }
        };
        let names = &open.names[from..to];
        let found: Vec<Found> = names.iter().map(look).collect();
        let entries: Vec<Entry> = names
            .iter()
            .cloned()
            .zip(found)
            .map(|(name, found)| Entry { name, found })
            .collect();
        self.ahead.fetch_add(entries.len(), Ordering::Relaxed);
        let next = (to < open.names.len()).then(|| Job::new(Work::Look(Arc::clone(open), to)));
        let jobs = next.iter().cloned().chain(below.into_iter().rev());
        self.push(jobs);
        Page {
            device: open.device,
            entries,
            next: next.map(Listing),
        }
    }
}

impl Job {
    fn new(work: Work) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State::Waiting(work)),
            done: Condvar::new(),
        })
    }

    /// Does the job, if nobody has begun it.
    fn work(&self, walk: &Walk) {
        let mut state = lock(&self.state);
        if !matches!(*state, State::Waiting(_)) {
            return;
        }
        let State::Waiting(work) = std::mem::replace(&mut *state, State::Begun) else {
            unreachable!("just seen to be waiting");
        };
        drop(state);
        let page = match work {
            Work::List(path) => walk.list(path),
            Work::Look(open, from) => Ok(walk.look(&open, from)),
        };
        *lock(&self.state) = State::Done(page);
        self.done.notify_all();
    }
}

/// A thread that panicked left nothing half done here: every change is one assignment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
