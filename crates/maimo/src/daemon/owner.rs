//! [`Owner`]: the one process that has this node's store open, and who may work on it when.
//!
//! ```text
//!   commands, in the order they came ---.
//!                                        >-- one at a time -- the client
//!   background, when no command waits --'
//! ```
//!
//! A command that comes while background work runs has that cancelled by its [`Control`]; the work ends where nothing is half done, with
//! [`ClientError::Cancelled`], and whoever wanted it asks for it again later. Who only wants to look does not come here at all: a
//! [`Viewer`] sees what was acknowledged, whatever runs.
//!
//! Invariant: one task at a time has the client; a task that panics takes it along, and the next one opens it anew.

use std::{
    collections::VecDeque,
    ops::{Deref, DerefMut},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use maimo_client::{
    client::Client,
    error::ClientError,
    progress::{Cancelled, Control, Event, Phase},
    view::Viewer,
};
use maimo_core::clock::Timestamp;

use super::now;
use crate::connect::Folders;

/// How often one who waits looks whether it still wants to.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a task that was cancelled because the node stops may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// Opens the client anew.
pub(crate) type Reopen = Box<dyn Fn() -> Result<Client, ClientError> + Send + Sync>;

/// Who owns the store of this node. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Owner(Arc<Inner>);

struct Inner {
    turns: Mutex<Turns>,
    changed: Condvar,
    reopen: Reopen,
    folders: Folders,
    since: Timestamp,
}

struct Turns {
    /// None while a task has it, or after one that panicked.
    client: Option<Client>,
    viewer: Viewer,
    /// Commands that wait, the first one first.
    waiting: VecDeque<(u64, String)>,
    next: u64,
    running: Option<Running>,
    is_over: bool,
}

struct Running {
    task: Task,
    is_background: bool,
    since: Timestamp,
}

/// Something to be done with the client, as others see it. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Task {
    what: Arc<str>,
    control: Control,
    heard: Arc<Mutex<Heard>>,
}

/// How far a task is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) phase: Option<Phase>,
    pub(crate) files_done: u64,
    pub(crate) files_total: u64,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_total: u64,
}

/// What the owner is at.
#[derive(Debug, Clone)]
pub(crate) struct AtWork {
    /// Since when the node runs.
    pub(crate) since: Timestamp,
    pub(crate) doing: Option<Doing>,
    /// What waits, the first one first.
    pub(crate) waiting: Vec<String>,
}

/// What is being done with the client.
#[derive(Debug, Clone)]
pub(crate) struct Doing {
    pub(crate) what: String,
    /// Whether nobody waits for it.
    pub(crate) is_background: bool,
    pub(crate) since: Timestamp,
    pub(crate) heard: Heard,
}

impl Task {
    /// Makes a task of its name, as in `store /home/u`; what it tells goes to `observer`, too.
    pub(crate) fn new(what: &str, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        let heard = Arc::<Mutex<Heard>>::default();
        let hears = Arc::clone(&heard);
        let control = Control::new(move |event| {
            let mut heard = hears.lock().unwrap_or_else(PoisonError::into_inner);
            heard.take(&event);
            drop(heard);
            observer(event);
        });
        Self {
            what: what.into(),
            control,
            heard,
        }
    }

    /// Returns what the task tells its events to, and is cancelled by.
    pub(crate) const fn control(&self) -> &Control {
        &self.control
    }
}

impl Heard {
    fn take(&mut self, event: &Event) {
        match *event {
            Event::Phase(phase) => {
                *self = Self {
                    phase: Some(phase),
                    ..Self::default()
                };
            }
            Event::Total { files, bytes } => {
                self.files_total = files;
                self.bytes_total = bytes;
            }
            Event::Done { files, bytes } => {
                self.files_done = files;
                self.bytes_done = bytes;
            }
            _ => {}
        }
    }
}

impl Owner {
    /// Makes the owner of an open client, which reaches folders by `folders`.
    pub(crate) fn new(client: Client, folders: Folders, reopen: Reopen) -> Self {
        Self(Arc::new(Inner {
            turns: Mutex::new(Turns {
                viewer: client.viewer(),
                client: Some(client),
                waiting: VecDeque::new(),
                next: 0,
                running: None,
                is_over: false,
            }),
            changed: Condvar::new(),
            reopen,
            folders,
            since: now(),
        }))
    }

    /// Does something that nobody waits for, once no command runs or waits.
    ///
    /// # Errors
    ///
    /// [`ClientError::Cancelled`] as soon as a command waits, or the node stops: it is to be asked for again later, what was done by then
    /// is resumed. Whatever else `work` fails with.
    pub(crate) fn background<T>(
        &self,
        what: &str,
        work: impl FnOnce(&mut Client, &Control) -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        let task = Task::new(what, |_| {});
        let mut turns = self.turns();
        while turns.running.is_some() || !turns.waiting.is_empty() {
            if turns.is_over {
                return Err(Cancelled.into());
            }
            turns = self.wait(turns);
        }
        let mut turn = self.begin(turns, &task, true)?;
        work(&mut turn, task.control())
    }

    /// Waits for the client on behalf of a command; `waits` is told what for, whenever that changes.
    ///
    /// # Errors
    ///
    /// [`ClientError::Cancelled`] if the command was, or the node stops; that the client could not be opened again.
    pub(crate) fn turn(&self, task: &Task, waits: &dyn Fn(&str)) -> Result<Turn, ClientError> {
        let mut turns = self.turns();
        let number = turns.next;
        turns.next += 1;
        turns.waiting.push_back((number, task.what.to_string()));
        let _place = Place(self, number);
        if let Some(running) = turns.running.as_ref().filter(|it| it.is_background) {
            running.task.control.cancel();
        }
        let mut told = None;
        loop {
            if turns.is_over || task.control.is_cancelled() {
                // Unlocked before its place is given up.
                drop(turns);
                return Err(Cancelled.into());
            }
            if turns.running.is_none() && turns.waiting.front().is_some_and(|it| it.0 == number) {
                turns.waiting.pop_front();
                return self.begin(turns, task, false);
            }
            // Background work ends by itself, and soon.
            let running = turns.running.as_ref().filter(|it| !it.is_background);
            let what = running.map(|running| Arc::clone(&running.task.what));
            if what.is_some() && what != told {
                drop(turns);
                what.as_deref().into_iter().for_each(waits);
                told = what;
                turns = self.turns();
            } else {
                turns = self.wait(turns);
            }
        }
    }

    /// Returns whether the node stops.
    pub(crate) fn is_over(&self) -> bool {
        self.turns().is_over
    }

    /// Returns who shows what the node knows, whatever runs.
    pub(crate) fn viewer(&self) -> Viewer {
        self.turns().viewer.clone()
    }

    /// Returns what is done now, and what waits.
    pub(crate) fn at_work(&self) -> AtWork {
        let turns = self.turns();
        let doing = turns.running.as_ref().map(|running| {
            let heard = running.task.heard.lock();
            Doing {
                what: running.task.what.to_string(),
                is_background: running.is_background,
                since: running.since,
                heard: *heard.unwrap_or_else(PoisonError::into_inner),
            }
        });
        AtWork {
            since: self.0.since,
            doing,
            waiting: turns.waiting.iter().map(|it| it.1.clone()).collect(),
        }
    }

    /// Ends what runs in order and closes the client: background work at once, a command after `drain`. What waits is not begun any more.
    pub(crate) fn close(&self, drain: Duration) {
        let mut turns = self.turns();
        turns.is_over = true;
        self.0.changed.notify_all();
        let deadline = Instant::now() + drain;
        while let Some(running) = &turns.running {
            if running.is_background || Instant::now() >= deadline {
                running.task.control.cancel();
            }
            if Instant::now() >= deadline + ENDING {
                tracing::warn!("what runs does not end: it is cut off");
                return;
            }
            turns = self.wait(turns);
        }
        // Here, for others may have clones: with a sealed home, names in clear go with the client.
        let client = turns.client.take();
        drop(turns);
        drop(client);
    }

    /// Gives the client to a task: nobody has it.
    fn begin(
        &self,
        mut turns: MutexGuard<'_, Turns>,
        task: &Task,
        is_background: bool,
    ) -> Result<Turn, ClientError> {
        if turns.is_over {
            return Err(Cancelled.into());
        }
        turns.running = Some(Running {
            task: task.clone(),
            is_background,
            since: now(),
        });
        let client = turns.client.take();
        drop(turns);
        // From here on, its end is told however it ends.
        let mut turn = Turn {
            owner: self.clone(),
            client,
        };
        if turn.client.is_none() {
            let client = (self.0.reopen)()?;
            self.turns().viewer = client.viewer();
            turn.client = Some(client);
        }
        Ok(turn)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        // Nothing in here panics between two changes that belong together.
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, turns: MutexGuard<'a, Turns>) -> MutexGuard<'a, Turns> {
        let waited = self.0.changed.wait_timeout(turns, LOOK_EVERY);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A command's place among those that wait; given up however the waiting ends.
struct Place<'a>(&'a Owner, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.turns().waiting.retain(|(other, _)| *other != self.1);
        self.0.0.changed.notify_all();
    }
}

/// The client, while a task has it.
pub(crate) struct Turn {
    owner: Owner,
    client: Option<Client>,
}

impl Turn {
    /// Returns by what folders are opened, to have one made.
    pub(crate) fn folders(&self) -> &Folders {
        &self.owner.0.folders
    }
}

/// A turn has the client from its beginning to its end.
const HAS_CLIENT: &str = "a turn that was given out has the client";

impl Deref for Turn {
    type Target = Client;

    fn deref(&self) -> &Client {
        self.client.as_ref().expect(HAS_CLIENT)
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Client {
        self.client.as_mut().expect(HAS_CLIENT)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut client = self.client.take();
        if thread::panicking() {
            // Whatever it was left in, it is not gone on with. Closed before the next one opens it.
            client = None;
        }
        if let Some(client) = &mut client {
            client.rest();
        }
        self.owner.0.folders.let_go();
        let mut turns = self.owner.turns();
        turns.client = client;
        turns.running = None;
        self.owner.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
