//! [`Changes`]: what changed below the watched folders, gathered until it is quiet.
//!
//! Invariants: a path that was told is in the next batch itself, or by a folder above it; memory is bounded, as a folder takes the place of
//! what is below it once that is too much.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

/// How many paths are told apart.
const PATHS_MAX: usize = 4096;

/// Paths to be stored again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// What changed, none below another.
    pub(super) paths: BTreeSet<PathBuf>,
}

/// What changed and when.
#[derive(Debug)]
pub(super) struct Changes {
    quiet: Duration,
    longest: Duration,
    paths: BTreeSet<PathBuf>,
    /// When the first and the last of them were told, by the clock that never turns back.
    first: Duration,
    last: Duration,
}

impl Changes {
    /// Gathers until nothing was told for `quiet`, and for `longest` at most.
    pub(super) const fn new(quiet: Duration, longest: Duration) -> Self {
        Self {
            quiet,
            longest,
            paths: BTreeSet::new(),
            first: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// Takes note that something at or below `path`, which is below the watched folder `root`, changed.
    pub(super) fn add(&mut self, root: &Path, path: &Path, up: Duration) {
        if self.paths.is_empty() {
            self.first = up;
        }
        self.last = up;
        if path.ancestors().any(|above| self.paths.contains(above)) {
            return;
        }
        if self.paths.len() >= PATHS_MAX {
            self.paths.retain(|path| !path.starts_with(root));
            self.paths.insert(root.to_owned());
        } else {
            self.paths.insert(path.to_owned());
        }
    }

    /// Returns how long to wait for the next batch; nothing where nothing changed.
    pub(super) fn wait(&self, up: Duration) -> Option<Duration> {
        if self.paths.is_empty() {
            return None;
        }
        let at = (self.last + self.quiet).min(self.first + self.longest);
        Some(at.saturating_sub(up))
    }

    /// Takes all that was told.
    pub(super) fn take(&mut self) -> Batch {
        let mut batch = Batch::default();
        for path in std::mem::take(&mut self.paths) {
            // In order, a folder comes right before what is below it.
            let last = batch.paths.last();
            if last.is_none_or(|last| !path.starts_with(last)) {
                batch.paths.insert(path);
            }
        }
        batch
    }

    /// Puts back what could not be stored: it is as due as it was.
    pub(super) fn put_back(&mut self, batch: Batch, up: Duration) {
        if self.paths.is_empty() {
            self.last = up;
        }
        self.first = up.saturating_sub(self.longest);
        self.paths.extend(batch.paths);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_mins(1);

    fn changes() -> Changes {
        Changes::new(QUIET, LONGEST)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn add(changes: &mut Changes, path: &str, seconds: u64) {
        changes.add(Path::new("/w"), Path::new(path), at(seconds));
    }

    fn taken(changes: &mut Changes) -> Vec<String> {
        let batch = changes.take().paths.into_iter();
        batch.map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn a_batch_waits_for_quiet_and_not_for_ever() {
        let mut changes = changes();
        assert_eq!(changes.wait(at(0)), None);
        add(&mut changes, "/w/a", 10);
        assert_eq!(changes.wait(at(10)), Some(QUIET));
        for second in 11..80 {
            add(&mut changes, "/w/a", second);
        }
        assert_eq!(changes.wait(at(65)), Some(at(5)));
        assert_eq!(changes.wait(at(79)), Some(Duration::ZERO));
        assert_eq!(taken(&mut changes), ["/w/a"]);
        assert_eq!(changes.wait(at(79)), None);
    }

    #[test]
    fn a_folder_takes_the_place_of_what_is_below_it() {
        let mut changes = changes();
        for path in ["/w/a/b/c", "/w/a.txt", "/w/a/b", "/w/a/b/d", "/w/a b"] {
            add(&mut changes, path, 1);
        }
        // By components, as folders are walked.
        assert_eq!(taken(&mut changes), ["/w/a/b", "/w/a b", "/w/a.txt"]);
    }

    #[test]
    fn a_storm_of_events_is_one_folder() {
        let mut changes = changes();
        changes.add(Path::new("/x"), Path::new("/x/other"), at(1));
        for number in 0..PATHS_MAX * 2 {
            add(&mut changes, &format!("/w/{number}"), 1);
        }
        assert_eq!(taken(&mut changes), ["/w", "/x/other"]);
    }

    #[test]
    fn what_could_not_be_stored_is_due_at_once() {
        let mut changes = changes();
        add(&mut changes, "/w/a", 1);
        let batch = changes.take();
        changes.put_back(batch, at(100));
        assert_eq!(changes.wait(at(100)), Some(Duration::ZERO));
        assert_eq!(taken(&mut changes), ["/w/a"]);
    }
}
