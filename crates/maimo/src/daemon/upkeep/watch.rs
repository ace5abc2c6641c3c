//! [`Watch`]: the folders that are kept stored: whether they are there, and what the system tells of changes in them.
//!
//! A folder that is not there, or whose disk is not, is waited for. The system's events are hints: that something changed at a path. What they
//! miss, the rescans find; where events were lost, all of the folder is looked through at once.
//!
//! Invariant: nothing is stored from a folder that was a file system of its own and is none now: what is missing in it is not taken for gone,
//! and what lies in its empty place is not taken for it.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use maimo_client::scan::excludes::Excludes;
use notify::{
    Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};

use super::{
    changes::{Batch, Changes},
    state::{Folder, FolderState},
};

/// What changed, filled by the system's thread and emptied by the upkeep's. Clones are the same one.
#[derive(Clone)]
pub(super) struct Inbox(Arc<(Mutex<Post>, Condvar)>);

struct Post {
    changes: Changes,
    roots: Vec<PathBuf>,
    excludes: Excludes,
    never: Vec<PathBuf>,
    begun: Instant,
    is_stopped: bool,
    overflows: u64,
}

impl Inbox {
    pub(super) fn new(
        changes: Changes,
        roots: Vec<PathBuf>,
        excludes: Excludes,
        never: Vec<PathBuf>,
        begun: Instant,
    ) -> Self {
        let post = Post {
            changes,
            roots,
            excludes,
            never,
            begun,
            is_stopped: false,
            overflows: 0,
        };
        Self(Arc::new((Mutex::new(post), Condvar::new())))
    }

    fn post(&self) -> MutexGuard<'_, Post> {
        // Each change of it is whole by itself.
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the system tells.
    fn take_event(&self, event: notify::Result<Event>) {
        let mut post = self.post();
        let event = match event {
            Ok(event) if event.need_rescan() => {
                post.overflows += 1;
                post.add_roots(|_| true);
                self.0.1.notify_all();
                return;
            }
            Ok(event) => event,
            Err(error) => {
                // Of what, is not always said.
                let paths = error.paths;
                post.add_roots(|root| {
                    paths.is_empty() || paths.iter().any(|path| path.starts_with(root))
                });
                self.0.1.notify_all();
                return;
            }
        };
        if !changes_something(event.kind) {
            return;
        }
        for path in &event.paths {
            post.add(path);
        }
        self.0.1.notify_all();
    }

    /// Has all of a folder, or a path below it, stored with the next batch.
    pub(super) fn add(&self, root: &Path, path: &Path) {
        let mut post = self.post();
        let up = post.begun.elapsed();
        post.changes.add(root, path, up);
    }

    /// Returns how long until the next batch; nothing where nothing changed.
    pub(super) fn wait(&self) -> Option<Duration> {
        let post = self.post();
        post.changes.wait(post.begun.elapsed())
    }

    /// Takes the next batch.
    pub(super) fn take(&self) -> Batch {
        self.post().changes.take()
    }

    /// Puts back a batch that could not be stored.
    pub(super) fn put_back(&self, batch: Batch) {
        let mut post = self.post();
        let up = post.begun.elapsed();
        post.changes.put_back(batch, up);
    }

    /// Waits for news, for `most` at most, and no longer than until the next batch can be stored, which is not before `ready`.
    pub(super) fn rest(&self, most: Duration, ready: Duration) {
        let post = self.post();
        let batch = post.changes.wait(post.begun.elapsed());
        let most = batch.map_or(most, |batch| most.min(batch.max(ready)));
        if !post.is_stopped && !most.is_zero() {
            drop(self.0.1.wait_timeout(post, most));
        }
    }

    /// Says that the node stops.
    pub(super) fn stop(&self) {
        self.post().is_stopped = true;
        self.0.1.notify_all();
    }

    /// Returns whether the node stops.
    pub(super) fn is_stopped(&self) -> bool {
        self.post().is_stopped
    }

    /// Returns how often the system lost events since this was last asked.
    pub(super) fn overflows(&self) -> u64 {
        std::mem::take(&mut self.post().overflows)
    }
}

impl Post {
    fn add(&mut self, path: &Path) {
        use std::os::unix::ffi::OsStrExt as _;

        if self.never.iter().any(|never| path.starts_with(never)) {
            return;
        }
        let root = self.roots.iter().find(|root| path.starts_with(root));
        let Some(root) = root.cloned() else {
            return;
        };
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        if self.excludes.leave_out(&bytes(&root), &bytes(path)) {
            return;
        }
        let up = self.begun.elapsed();
        self.changes.add(&root, path, up);
    }

    fn add_roots(&mut self, which: impl Fn(&Path) -> bool) {
        let up = self.begun.elapsed();
        for root in self.roots.clone() {
            if which(&root) {
                self.changes.add(&root, &root, up);
            }
        }
    }
}

/// Reading changes nothing; a scan's own is told, too.
const fn changes_something(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

/// The watched folders.
pub(super) struct Watch {
    inbox: Inbox,
    system: Option<RecommendedWatcher>,
    folders: Vec<Watched>,
}

struct Watched {
    folder: Folder,
    /// What is there now, as device and inode.
    identity: Option<(u64, u64)>,
    /// Why the system does not tell what changes.
    why: Option<String>,
}

impl Watch {
    /// Begins to watch the folders that are there; `known` is how the last process left them.
    pub(super) fn new(paths: &[PathBuf], known: &[Folder], inbox: Inbox) -> Self {
        let mut folders: Vec<Watched> = Vec::new();
        for path in paths {
            // What is below a watched folder is watched with it.
            if folders.iter().any(|it| path.starts_with(&it.folder.path)) {
                continue;
            }
            folders.retain(|it| !it.folder.path.starts_with(path));
            let known = known.iter().find(|known| known.path == *path);
            folders.push(Watched {
                folder: Folder {
                    path: path.clone(),
                    state: FolderState::Absent,
                    seen: known.is_some_and(|known| known.seen),
                    mounted: known.is_some_and(|known| known.mounted),
                },
                identity: None,
                why: None,
            });
        }
        let config = Config::default().with_follow_symlinks(false);
        let post = inbox.clone();
        let system = RecommendedWatcher::new(move |event| post.take_event(event), config);
        if let Err(error) = &system {
            tracing::warn!(kind = ?error.kind, "this system does not tell what changes: folders are looked through now and then");
        }
        Self {
            inbox,
            system: system.ok(),
            folders,
        }
    }

    /// Looks which folders are there. One that has appeared, or is another one than before, is to be looked through.
    pub(super) fn look(&mut self) {
        for place in 0..self.folders.len() {
            let path = self.folders[place].folder.path.clone();
            let found = fs::metadata(&path).ok().filter(fs::Metadata::is_dir);
            let identity = found.as_ref().map(|found| (found.dev(), found.ino()));
            let above = path.parent().and_then(|above| fs::metadata(above).ok());
            let is_mount = match (&found, &above) {
                (Some(found), Some(above)) => found.dev() != above.dev(),
                _ => false,
            };
            let watched = &mut self.folders[place];
            if identity.is_none() || (watched.folder.mounted && !is_mount) {
                let state = if identity.is_none() {
                    FolderState::Absent
                } else {
                    FolderState::Unmounted
                };
                if watched.identity.take().is_some() {
                    self.unwatch(&path);
                }
                self.folders[place].folder.state = state;
                continue;
            }
            if watched.identity == identity {
                continue;
            }
            if watched.identity.is_some() {
                self.unwatch(&path);
            }
            // First, so that nothing changes unseen between the look and the watch.
            let why = self.watch(&path);
            let watched = &mut self.folders[place];
            watched.identity = identity;
            watched.folder.seen = true;
            watched.folder.mounted = is_mount;
            watched.folder.state = if why.is_none() {
                FolderState::Watched
            } else {
                FolderState::Rescanned
            };
            watched.why = why;
            self.inbox.add(&path, &path);
        }
    }

    /// Tries again to have the system tell what changes, where it would not.
    pub(super) fn try_again(&mut self) {
        for place in 0..self.folders.len() {
            if self.folders[place].folder.state == FolderState::Rescanned {
                let path = self.folders[place].folder.path.clone();
                self.unwatch(&path);
                let why = self.watch(&path);
                if why.is_none() {
                    self.folders[place].folder.state = FolderState::Watched;
                }
                self.folders[place].why = why;
            }
        }
    }

    /// Returns the folders that can be stored.
    pub(super) fn there(&self) -> BTreeSet<PathBuf> {
        let there = self.folders.iter().filter(|it| it.identity.is_some());
        there.map(|it| it.folder.path.clone()).collect()
    }

    /// Returns all folders, with why the system does not tell what changes in them.
    pub(super) fn folders(&self) -> impl Iterator<Item = (&Folder, Option<&str>)> {
        let folders = self.folders.iter();
        folders.map(|it| (&it.folder, it.why.as_deref()))
    }

    fn watch(&mut self, path: &Path) -> Option<String> {
        let Some(system) = &mut self.system else {
            return Some("this system does not tell what changes in folders".to_owned());
        };
        let watched = system.watch(path, RecursiveMode::Recursive);
        watched.err().map(|error| match error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "the system's limit of watches is reached (fs.inotify.max_user_watches)".to_owned()
            }
            kind => format!("the system does not tell what changes in it: {kind:?}"),
        })
    }

    fn unwatch(&mut self, path: &Path) {
        if let Some(system) = &mut self.system {
            // Of a folder that is gone, the watch is gone with it.
            let _ = system.unwatch(path);
        }
    }
}

/// Returns the paths of a batch as they can be stored now: each below a folder that is there, and of what vanished with folders above it, the
/// one nearest to it whose own folder is there.
pub(super) fn storable(batch: &Batch, there: &BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let mut paths = BTreeSet::new();
    for path in &batch.paths {
        let Some(root) = there.iter().find(|root| path.starts_with(root)) else {
            continue;
        };
        let mut path = path.as_path();
        while path != root
            && let Some(above) = path.parent()
            && fs::symlink_metadata(above).is_err()
        {
            path = above;
        }
        if path != root || fs::symlink_metadata(path).is_ok() {
            paths.insert(path.to_owned());
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inbox(root: &Path, excludes: &[&str]) -> Inbox {
        let excludes: Vec<String> = excludes.iter().map(|glob| (*glob).to_owned()).collect();
        Inbox::new(
            Changes::new(Duration::ZERO, Duration::ZERO),
            vec![root.to_owned()],
            Excludes::new(&excludes).unwrap(),
            vec![root.join("home")],
            Instant::now(),
        )
    }

    fn tell(inbox: &Inbox, kind: EventKind, path: PathBuf) {
        inbox.take_event(Ok(Event::new(kind).add_path(path)));
    }

    #[test]
    fn what_is_left_out_or_only_read_is_no_change() {
        let root = Path::new("/w");
        let inbox = inbox(root, &["*.o", "cache"]);
        let write = EventKind::Modify(notify::event::ModifyKind::Any);
        for path in ["a.o", "cache/x/y", "home/node.sqlite", "/other"] {
            tell(&inbox, write, root.join(path));
        }
        let read = EventKind::Access(AccessKind::Open(AccessMode::Any));
        tell(&inbox, read, root.join("a"));
        assert_eq!(inbox.wait(), None);
        tell(&inbox, write, root.join("b/c"));
        assert_eq!(inbox.take().paths, [root.join("b/c")].into());
    }

    #[test]
    fn where_events_were_lost_all_is_looked_through() {
        let inbox = inbox(Path::new("/w"), &[]);
        let lost = Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        inbox.take_event(Ok(lost));
        assert_eq!(inbox.take().paths, [PathBuf::from("/w")].into());
        assert_eq!((inbox.overflows(), inbox.overflows()), (1, 0));
    }

    #[test]
    fn a_folder_is_picked_up_when_it_appears_and_missed_when_it_goes() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("w");
        let inbox = inbox(&root, &[]);
        let mut watch = Watch::new(std::slice::from_ref(&root), &[], inbox.clone());
        watch.look();
        assert!(watch.there().is_empty() && inbox.take().paths.is_empty());
        fs::create_dir(&root).unwrap();
        watch.look();
        assert_eq!(watch.there(), [root.clone()].into());
        assert_eq!(inbox.take().paths, [root.clone()].into());
        fs::remove_dir(&root).unwrap();
        watch.look();
        assert!(watch.there().is_empty());
        let (folder, _) = watch.folders().next().unwrap();
        assert!(folder.seen && folder.state == FolderState::Absent);
    }

    #[test]
    fn the_empty_place_of_a_disk_is_not_stored() {
        let root = tempfile::tempdir().unwrap();
        let known = Folder {
            path: root.path().to_owned(),
            state: FolderState::Watched,
            seen: true,
            mounted: true,
        };
        let inbox = inbox(root.path(), &[]);
        let mut watch = Watch::new(&[root.path().to_owned()], &[known], inbox.clone());
        watch.look();
        assert!(watch.there().is_empty() && inbox.take().paths.is_empty());
        let (folder, _) = watch.folders().next().unwrap();
        assert_eq!(folder.state, FolderState::Unmounted);
    }

    #[test]
    fn what_vanished_with_its_folder_is_told_by_what_is_left_above() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("here"), "").unwrap();
        let batch = Batch {
            paths: ["here", "gone", "a/b/c"]
                .map(|name| root.path().join(name))
                .into(),
        };
        let there = [root.path().to_owned()].into();
        let expected = ["here", "gone", "a"].map(|name| root.path().join(name));
        assert_eq!(storable(&batch, &there), expected.into());
        assert!(storable(&batch, &BTreeSet::new()).is_empty());
    }
}
