//! What an operation tells while it runs, and how it is told to stop.

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What an operation is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Reading what the provider shows.
    Synchronising,
    /// Looking for what changed.
    Scanning,
    /// Reading, sealing and sending.
    Storing,
    /// Moving the head.
    Committing,
    /// Proving possession.
    Proving,
    /// Deleting local copies.
    Deleting,
    /// Fetching and writing.
    Retrieving,
    /// Choosing what to let go, writing packs again.
    Pruning,
    /// Giving a mirror what it lacks.
    Mirroring,
    /// Rebuilding the catalog.
    Recovering,
    /// Storing again what is damaged.
    Repairing,
}

/// What an operation tells.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// It goes over to another phase.
    Phase(Phase),
    /// How much there is to do in this phase, as far as is known; it may grow.
    Total {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// So much of it is done, from the phase's beginning.
    Done {
        /// Files.
        files: u64,
        /// Bytes.
        bytes: u64,
    },
    /// Something about a path that does not end the operation: unreadable, changed while it was read.
    Trouble {
        /// The path.
        path: PathBuf,
        /// What is the matter, as a clause without a full stop.
        message: String,
    },
    /// A state of the store is acknowledged.
    Committed {
        /// Its store sequence.
        sequence: u64,
    },
    /// Something the user should hear of at once.
    Notice(String),
}

/// Where an operation's events go, and whether it should stop. Clones share both.
#[derive(Clone, Default)]
pub struct Control {
    observer: Option<Arc<dyn Fn(Event) + Send + Sync>>,
    cancelled: Arc<AtomicBool>,
}

impl Control {
    /// Makes a control that passes events to `observer`, which may be called from several threads and should return soon.
    pub fn new(observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self {
            observer: Some(Arc::new(observer)),
            cancelled: Arc::default(),
        }
    }

    /// Asks the operation to stop at the next point where nothing is half done; it ends with an error of kind `Cancelled`.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Tells an event.
    pub fn tell(&self, event: Event) {
        if let Some(observer) = &self.observer {
            observer(event);
        }
    }

    /// Returns an error if the operation was asked to stop.
    ///
    /// # Errors
    ///
    /// [`Cancelled`].
    pub fn check(&self) -> Result<(), Cancelled> {
        if self.is_cancelled() {
            Err(Cancelled)
        } else {
            Ok(())
        }
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control")
            .field("cancelled", &self.is_cancelled())
            .finish_non_exhaustive()
    }
}

/// The operation was asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Cancelled;

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn clones_share_observer_and_cancellation() {
        let heard = Arc::new(Mutex::new(0));
        let count = Arc::clone(&heard);
        let control = Control::new(move |_| *count.lock().unwrap() += 1);
        let other = control.clone();
        other.tell(Event::Notice("hello".to_owned()));
        assert_eq!(*heard.lock().unwrap(), 1);
        assert_eq!(control.check(), Ok(()));
        other.cancel();
        assert_eq!(control.check(), Err(Cancelled));
    }
}
