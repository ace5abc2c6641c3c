//! Deleting local copies: the last step of `--delete-local`, and how a crash in it is undone.
//!
//! ```text
//! possession proven on every channel -> `evicted` committed, acknowledged by all -> intents written down -> for each file:
//!     open, compare with what was stored -> rename aside -> hash again -> compare again -> unlink
//! ```
//!
//! Everything before the intents is the caller's. Invariants: a file is unlinked only while its name aside is ours, its bytes are those of the
//! acknowledged revision, and no other name or newer content is there; on any doubt it gets its name back, never over a file that took it.
//! Never unlinked first: what a scan misses is *gone*, and gone expires.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use maimo_vault::journal::metadata::FileTime;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Stat, fstat, open, renameat_with, statat,
    unlinkat,
};

use crate::{
    error::ClientError,
    local_stat::LocalStat,
    progress::{Cancelled, Control, Event, Phase},
};

/// How the names of files set aside begin.
pub const ASIDE_PREFIX: &str = ".maimo-aside-";

/// A file whose local copy may go: as its acknowledged revision says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// Its length in bytes.
    pub size: u64,
    /// When its content last changed.
    pub modified: FileTime,
    /// Plain BLAKE3 of its bytes.
    pub blake3: [u8; 32],
    /// Which file it was when it was stored.
    pub local: LocalStat,
}

/// A file that is about to be set aside, or has been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Its name.
    pub path: PathBuf,
    /// Its name while it is set aside, in the same folder.
    pub aside: PathBuf,
}

/// Where intents are kept, durably.
pub trait Intents {
    /// Returns those of a run that was cut off.
    ///
    /// # Errors
    ///
    /// That they cannot be read.
    fn left(&self) -> Result<Vec<Intent>, ClientError>;

    /// Writes down what is about to be set aside, in place of all before.
    ///
    /// # Errors
    ///
    /// That they cannot be written.
    fn replace(&mut self, intents: &[Intent]) -> Result<(), ClientError>;
}

/// What became of the candidates.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Deleted {
    /// How many are gone from here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Those that stay, and why.
    pub kept: Vec<(PathBuf, String)>,
}

impl Deleted {
    /// Takes note of a file that stays, and says so.
    pub(crate) fn keep(&mut self, path: PathBuf, why: &str, control: &Control) {
        control.tell(Event::Trouble {
            path: path.clone(),
            message: why.to_owned(),
        });
        self.kept.push((path, why.to_owned()));
    }
}

/// Gives files that a crash left aside their names back. To be called before any scan.
///
/// Returns those whose name was taken meanwhile, with the name that they have now.
///
/// # Errors
///
/// That a file cannot be renamed, or the intents not be read; they stay then.
pub fn put_back(intents: &mut impl Intents) -> Result<Vec<(PathBuf, PathBuf)>, ClientError> {
    let left = intents.left()?;
    if left.is_empty() {
        return Ok(Vec::new());
    }
    let mut elsewhere = Vec::new();
    for intent in &left {
        match give_back(intent) {
            Ok(Some(now)) => elsewhere.push((intent.path.clone(), now)),
            // Nothing is aside: it was never renamed, or it was unlinked.
            Ok(None) => {}
            Err(error) => return Err(ClientError::io("put back", &intent.path)(error)),
        }
    }
    intents.replace(&[])?;
    Ok(elsewhere)
}

/// Deletes what is still what was stored.
///
/// The caller has had possession proven and the eviction acknowledged on every channel.
///
/// # Errors
///
/// That intents cannot be written, or that it was cancelled: what was not deleted is at its name then.
pub fn delete(
    candidates: &[Candidate],
    tag: [u8; 16],
    intents: &mut impl Intents,
    control: &Control,
) -> Result<Deleted, ClientError> {
    control.tell(Event::Phase(Phase::Deleting));
    control.tell(Event::Total {
        files: candidates.len() as u64,
        bytes: candidates.iter().map(|candidate| candidate.size).sum(),
    });
    let pairs: Vec<(&Candidate, Intent)> = candidates
        .iter()
        .enumerate()
        .map(|(n, candidate)| (candidate, intent(candidate, tag, n)))
        .collect();
    let wanted: Vec<Intent> = pairs.iter().map(|(_, intent)| intent.clone()).collect();
    intents.replace(&wanted)?;
    let deleted = Mutex::new(Deleted::default());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let share = pairs.len().div_ceil(threads).max(1);
    let outcome: Result<(), Cancelled> = std::thread::scope(|scope| {
        let work = |part: &[(&Candidate, Intent)]| -> Result<(), Cancelled> {
            for (candidate, intent) in part {
                control.check()?;
                let result = delete_one(candidate, intent);
                let mut deleted = deleted.lock().unwrap_or_else(PoisonError::into_inner);
                match result {
                    Ok(()) => {
                        deleted.files += 1;
                        deleted.bytes += candidate.size;
                    }
                    Err(why) => {
                        control.tell(Event::Trouble {
                            path: candidate.path.clone(),
                            message: format!("not deleted: {why}"),
                        });
                        deleted.kept.push((candidate.path.clone(), why.to_string()));
                    }
                }
                control.tell(Event::Done {
                    files: deleted.files,
                    bytes: deleted.bytes,
                });
            }
            Ok(())
        };
        let parts: Vec<_> = pairs
            .chunks(share)
            .map(|part| scope.spawn(move || work(part)))
            .collect();
        let mut outcome = Ok(());
        for part in parts {
            outcome = outcome.and(part.join().unwrap_or(Err(Cancelled)));
        }
        outcome
    });
    // Each file is at its name or gone by now, whatever else happened; only one that could not get its name back keeps its intent.
    let stuck = |intent: &Intent| intent.aside.symlink_metadata().is_ok();
    let left: Vec<Intent> = wanted.into_iter().filter(stuck).collect();
    intents.replace(&left)?;
    outcome?;
    let mut deleted = deleted.into_inner().unwrap_or_else(PoisonError::into_inner);
    deleted.kept.sort();
    Ok(deleted)
}

/// Why a file stays.
#[derive(Debug, thiserror::Error)]
enum Kept {
    #[error("it changed since it was stored")]
    Changed,
    #[error("it has other names (hard links)")]
    Links,
    #[error("another file took its place")]
    Replaced,
    #[error("its bytes are not those that were stored")]
    OtherBytes,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("it could not be renamed back and is now at {}", .0.display())]
    Stuck(PathBuf),
}

impl From<rustix::io::Errno> for Kept {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Io(error.into())
    }
}

fn intent(candidate: &Candidate, tag: [u8; 16], n: usize) -> Intent {
    let tag = u128::from_le_bytes(tag);
    let aside = format!("{ASIDE_PREFIX}{tag:032x}-{n:x}");
    Intent {
        path: candidate.path.clone(),
        aside: candidate.path.with_file_name(aside),
    }
}

fn delete_one(candidate: &Candidate, intent: &Intent) -> Result<(), Kept> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(open(&candidate.path, flags, Mode::empty())?);
    let before = fstat(&file)?;
    // Renaming touches ctime, so this is the one moment to compare it.
    check_is_stored(&before, candidate)?;
    if changed(&before) != candidate.local.changed {
        return Err(Kept::Changed);
    }
    renameat_with(
        CWD,
        &intent.path,
        CWD,
        &intent.aside,
        RenameFlags::NOREPLACE,
    )?;
    match check_aside(&file, candidate, intent) {
        Ok(()) => Ok(unlinkat(CWD, &intent.aside, AtFlags::empty())?),
        Err(why) => match give_back(intent) {
            Ok(Some(now)) => Err(Kept::Stuck(now)),
            Ok(None) => Err(why),
            Err(_) => Err(Kept::Stuck(intent.aside.clone())),
        },
    }
}

/// Makes sure that what was renamed is the file that was opened, and is what was stored.
fn check_aside(file: &File, candidate: &Candidate, intent: &Intent) -> Result<(), Kept> {
    let aside = statat(CWD, &intent.aside, AtFlags::SYMLINK_NOFOLLOW)?;
    if inode(&aside) != (candidate.local.device, candidate.local.inode) {
        return Err(Kept::Replaced);
    }
    let mut hasher = blake3::Hasher::new();
    let mut reader = file;
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    loop {
        let read = reader.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        length += read as u64;
        hasher.update(&buffer[..read]);
    }
    if length != candidate.size || *hasher.finalize().as_bytes() != candidate.blake3 {
        return Err(Kept::OtherBytes);
    }
    check_is_stored(&fstat(file)?, candidate)
}

fn check_is_stored(stat: &Stat, candidate: &Candidate) -> Result<(), Kept> {
    let is_same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && inode(stat) == (candidate.local.device, candidate.local.inode)
        && u64::try_from(stat.st_size) == Ok(candidate.size)
        && modified(stat) == candidate.modified;
    if !is_same {
        return Err(Kept::Changed);
    }
    if stat.st_nlink != 1 {
        return Err(Kept::Links);
    }
    Ok(())
}

#[expect(
    clippy::useless_conversion,
    reason = "the width of these fields differs between systems"
)]
fn inode(stat: &Stat) -> (u64, u64) {
    (u64::from(stat.st_dev), u64::from(stat.st_ino))
}

fn modified(stat: &Stat) -> FileTime {
    FileTime {
        seconds: stat.st_mtime,
        nanos: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
    }
}

fn changed(stat: &Stat) -> FileTime {
    FileTime {
        seconds: stat.st_ctime,
        nanos: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
    }
}

/// Renames a file that is aside back, never over another; then beside it. Returns its name if it is not its own, nothing if nothing is aside
/// or all is as before.
fn give_back(intent: &Intent) -> io::Result<Option<PathBuf>> {
    let mut name = intent.path.clone();
    for n in 1.. {
        match renameat_with(CWD, &intent.aside, CWD, &name, RenameFlags::NOREPLACE) {
            Ok(()) => return Ok((name != intent.path).then_some(name)),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::EXIST) => name = beside(&intent.path, n),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn beside(path: &Path, n: u32) -> PathBuf {
    let mut name = path
        .file_name()
        .map_or_else(Vec::new, |name| name.as_bytes().to_vec());
    name.extend_from_slice(format!(".maimo-kept-{n}").as_bytes());
    path.with_file_name(std::ffi::OsStr::from_bytes(&name))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt};

    use super::*;

    #[derive(Default)]
    struct Kept(Vec<Intent>);

    impl Intents for Kept {
        fn left(&self) -> Result<Vec<Intent>, ClientError> {
            Ok(self.0.clone())
        }

        fn replace(&mut self, intents: &[Intent]) -> Result<(), ClientError> {
            self.0 = intents.to_vec();
            Ok(())
        }
    }

    fn candidate(path: &Path) -> Candidate {
        let stat = fs::symlink_metadata(path).unwrap();
        let nanos = |nanos| u32::try_from(nanos).unwrap();
        Candidate {
            path: path.to_owned(),
            size: stat.size(),
            modified: FileTime {
                seconds: stat.mtime(),
                nanos: nanos(stat.mtime_nsec()),
            },
            blake3: *blake3::hash(&fs::read(path).unwrap()).as_bytes(),
            local: LocalStat {
                device: stat.dev(),
                inode: stat.ino(),
                changed: FileTime {
                    seconds: stat.ctime(),
                    nanos: nanos(stat.ctime_nsec()),
                },
            },
        }
    }

    fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn delete_all(candidates: &[Candidate]) -> (Deleted, Kept) {
        let mut intents = Kept::default();
        let deleted = delete(candidates, [7; 16], &mut intents, &Control::default()).unwrap();
        (deleted, intents)
    }

    #[test]
    fn what_is_as_it_was_stored_goes_and_leaves_no_intent() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["a", "b", "c"].map(|name| file(folder.path(), name, name.as_bytes()));
        let candidates = paths.each_ref().map(|path| candidate(path));
        let (deleted, intents) = delete_all(&candidates);
        assert_eq!((deleted.files, deleted.bytes), (3, 3));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(intents.0, []);
    }

    #[test]
    fn what_changed_was_replaced_or_has_other_names_stays_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "grown",
            "rewritten",
            "replaced",
            "linked",
            "symlink",
            "touched",
        ] {
            file(folder.path(), name, b"stored");
        }
        let names = [
            "grown",
            "rewritten",
            "replaced",
            "linked",
            "symlink",
            "touched",
        ];
        let candidates = names.map(|name| candidate(&at(name)));
        fs::write(at("grown"), b"stored and more").unwrap();
        fs::write(at("rewritten"), b"STORED").unwrap();
        fs::remove_file(at("replaced")).unwrap();
        fs::write(at("replaced"), b"stored").unwrap();
        fs::hard_link(at("linked"), at("other")).unwrap();
        fs::rename(at("symlink"), at("target")).unwrap();
        std::os::unix::fs::symlink(at("target"), at("symlink")).unwrap();
        fs::set_permissions(
            at("touched"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let (deleted, intents) = delete_all(&candidates);
        assert_eq!(deleted.files, 0, "{:?}", deleted.kept);
        assert_eq!(deleted.kept.len(), names.len());
        for name in names {
            assert!(at(name).symlink_metadata().is_ok(), "{name} is gone");
        }
        assert_eq!(intents.0, []);
    }

    /// Size, times and inode may all be as they were and the bytes not: a program that writes through a map, a disk that lies.
    #[test]
    fn other_bytes_under_the_same_stat_get_their_name_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a", b"stored");
        let mut wanted = candidate(&path);
        wanted.blake3 = *blake3::hash(b"STORED").as_bytes();
        let (deleted, _) = delete_all(&[wanted]);
        assert_eq!(deleted.files, 0);
        assert_eq!(fs::read(&path).unwrap(), b"stored");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_left_aside_gets_its_name_back_but_never_over_a_new_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let aside = |n| {
            let path = at(["a", "b", "c"][n]);
            let wanted = Candidate {
                path: path.clone(),
                size: 0,
                modified: FileTime::default(),
                blake3: [0; 32],
                local: LocalStat {
                    device: 0,
                    inode: 0,
                    changed: FileTime::default(),
                },
            };
            intent(&wanted, [1; 16], n)
        };
        let mut intents = Kept((0..3).map(aside).collect());
        // `a` was set aside, `b` too and a new file took its name, `c` was not touched yet.
        fs::write(&intents.0[0].aside, b"old a").unwrap();
        fs::write(&intents.0[1].aside, b"old b").unwrap();
        fs::write(at("b"), b"new b").unwrap();
        fs::write(at("c"), b"c").unwrap();
        let elsewhere = put_back(&mut intents).unwrap();
        assert_eq!(elsewhere, [(at("b"), at("b.maimo-kept-1"))]);
        let read = |name| fs::read(at(name)).unwrap();
        assert_eq!(read("a"), b"old a");
        assert_eq!(read("b"), b"new b");
        assert_eq!(read("b.maimo-kept-1"), b"old b");
        assert_eq!(read("c"), b"c");
        assert_eq!(intents.0, []);
        assert_eq!(put_back(&mut intents).unwrap(), []);
    }

    #[test]
    fn a_cancelled_deletion_leaves_every_file_at_its_name_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a", b"stored");
        let control = Control::default();
        control.cancel();
        let mut intents = Kept::default();
        let outcome = delete(&[candidate(&path)], [7; 16], &mut intents, &control);
        assert!(matches!(outcome, Err(ClientError::Cancelled(_))));
        assert!(path.exists());
        assert_eq!(intents.0, []);
    }
}
