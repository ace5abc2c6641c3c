//! [`Compare`]: what is on the disk held against what is known, folder by folder, both in byte order of names.
//!
//! *Gone* is said of a path only if it was last found on the file system that its folder was on, and is not in that folder, which was read
//! without error and is on the same file system still. So neither an unmounted disk nor a folder that cannot be read makes anything gone. A
//! device number may change from one start of the machine to the next: a folder in which something is as it was known to be is the same one.
//! What this machine has never seen itself, as its catalog was rebuilt, is not gone either before it has been seen.
//!
//! A folder is told after what is in it: only then it is known whether it is the one that was there before.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::{fd::AsFd as _, unix::ffi::OsStrExt},
    path::PathBuf,
    sync::Arc,
};

use maimo_vault::{
    journal::{content::Content, metadata::Metadata, state::Presence},
    name::RecordId,
    path::{Prefix, StorePath},
};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{
    known::{KnownEntry, KnownFolder, KnownRevision, KnownTree},
    stat::{FileStat, Kind},
    walk::{Entry, FolderPath, Found, Listing, Walk},
};
use crate::{error::ClientError, local_stat::LocalStat};

/// What the scan finds, in walk order.
#[derive(Debug)]
pub enum Step {
    /// Something that is no folder and is as it was known to be.
    Unmodified,
    /// Something that is new, or may have changed.
    Candidate(Box<Candidate>),
    /// A path that is no longer there.
    Gone {
        /// The path.
        path: StorePath,
        /// What it was.
        kind: Kind,
    },
    /// A path that could not be looked at.
    Trouble {
        /// The path.
        path: PathBuf,
        /// What is the matter.
        message: String,
    },
}

/// Something that is new, or may have changed.
#[derive(Debug)]
pub struct Candidate {
    /// The folder it is in.
    pub folder: Arc<FolderPath>,
    /// Its name there.
    pub name: std::ffi::CString,
    /// What the file system says of it.
    pub stat: FileStat,
    /// The file that it is another name of, as this run found it first.
    pub link_to: Option<Arc<StorePath>>,
    /// Its newest revision.
    pub known: Option<Box<Known>>,
}

/// A newest revision in full.
#[derive(Debug)]
pub struct Known {
    /// Its record.
    pub id: RecordId,
    /// Whether it is there.
    pub presence: Presence,
    /// How it was found here, if it was.
    pub local: Option<LocalStat>,
    /// Its metadata.
    pub metadata: Metadata,
    /// Its content.
    pub content: Content,
}

impl Candidate {
    /// Returns its path on this machine.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name.to_bytes())
    }
}

/// Returns the path as the store names it, or `None` where it is longer or deeper than a store's paths may be.
pub fn store_path(folder: &[u8], name: &[u8]) -> Option<StorePath> {
    let components = folder.split(|byte| *byte == b'/').chain([name]);
    let components = components.filter(|name| !name.is_empty());
    StorePath::new(Prefix::Unix, components.map(<[u8]>::to_vec).collect()).ok()
}

/// Joins a walk with what is known.
pub struct Compare<'a> {
    walk: &'a Walk,
    known: &'a mut dyn KnownTree,
    tell: &'a mut dyn FnMut(Step) -> Result<(), ClientError>,
    links: HashMap<(u64, u64), Arc<StorePath>>,
}

impl<'a> Compare<'a> {
    /// Joins `walk` with `known` and passes what it finds to `tell`, whose error ends the scan.
    pub fn new(
        walk: &'a Walk,
        known: &'a mut dyn KnownTree,
        tell: &'a mut dyn FnMut(Step) -> Result<(), ClientError>,
    ) -> Self {
        Self {
            walk,
            known,
            tell,
            links: HashMap::new(),
        }
    }

    /// Scans one of the paths a run was given, which stands in the folder `folder`. Those must come in order, none below another.
    ///
    /// # Errors
    ///
    /// What `known` or `tell` ends with; what the file system says is told as trouble.
    pub fn root(&mut self, folder: &Arc<FolderPath>, entry: Entry) -> Result<(), ClientError> {
        let Some(path) = store_path(folder.as_bytes(), entry.name.to_bytes()) else {
            return self.too_long(folder, entry.name.to_bytes());
        };
        if let Found::Unreadable(Errno::NOENT) = entry.found {
            return (self.tell)(Step::Trouble {
                path: folder.join(entry.name.to_bytes()),
                message: "does not exist".to_owned(),
            });
        }
        let mut known = self.known.entry(&path)?;
        if let Some(known) = &mut known
            && known.folder.is_none()
        {
            known.folder = self.known.folder(&path)?;
        }
        self.found(folder, entry, known).map(|_| ())
    }

    /// Takes a path that changed and is not there, below a folder that was stored: it is gone with all below it if its folder is on the file
    /// system that it was on, and says that it has nothing of that name.
    ///
    /// # Errors
    ///
    /// As [`Self::root`].
    pub fn vanished(
        &mut self,
        folder: &Arc<FolderPath>,
        name: &std::ffi::CStr,
    ) -> Result<(), ClientError> {
        let (Some(path), Some(above)) = (
            store_path(folder.as_bytes(), name.to_bytes()),
            path_of_folder(folder),
        ) else {
            return self.too_long(folder, name.to_bytes());
        };
        let Some(mut known) = self.known.entry(&path)? else {
            // Come and gone again between two runs.
            return Ok(());
        };
        if known.folder.is_none() {
            known.folder = self.known.folder(&path)?;
        }
        let was = self.known.entry(&above)?.and_then(|above| above.revision);
        let Some(was) = was.and_then(|above| above.local) else {
            return self.unclear(folder);
        };
        // Both questions to one open folder: a disk that is unmounted meanwhile answers for itself and not for what is below it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let look = || {
            let fd = openat(CWD, folder.as_path(), flags, Mode::empty())?;
            let device = FileStat::of(fd.as_fd(), c"")?.local.device;
            match FileStat::of(fd.as_fd(), name) {
                Err(Errno::NOENT) => Ok(Some(device)),
                Err(errno) => Err(errno),
                Ok(_) => Ok(None),
            }
        };
        match look() {
            Ok(Some(device)) if device == was.device => {
                self.gone(folder.as_bytes(), &known, device)
            }
            Ok(Some(_)) => self.unclear(folder),
            // There again: whoever heard that it went hears that it came.
            Ok(None) => Ok(()),
            Err(errno) => self.trouble(folder.as_path().to_owned(), errno),
        }
    }

    /// Looks at a stored folder and at nothing in it.
    ///
    /// # Errors
    ///
    /// As [`Self::root`].
    pub fn folder_alone(&mut self, path: &std::path::Path) -> Result<(), ClientError> {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(());
        };
        let folder = Arc::new(FolderPath::new(above));
        let (Some(stored), Ok(name)) = (
            store_path(folder.as_bytes(), name.as_bytes()),
            std::ffi::CString::new(name.as_bytes()),
        ) else {
            return Ok(());
        };
        let known = self.known.entry(&stored)?.and_then(|known| known.revision);
        let Some(known) = known.filter(|known| known.presence == Presence::Present) else {
            return Ok(());
        };
        let stat = openat(CWD, above, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .and_then(|fd| FileStat::of(fd.as_fd(), &name));
        // What cannot be looked at, or is another one, is for a run over all of it to tell.
        match stat {
            Ok(stat)
                if stat.kind == Kind::Folder
                    && known
                        .local
                        .is_some_and(|was| was.device == stat.local.device)
                    && !is_unmodified(&known, &stat) =>
            {
                self.candidate(&folder, name, stat, None, Some(known))
            }
            _ => Ok(()),
        }
    }

    /// Takes what is under a name; returns whether that is surely what was known.
    fn found(
        &mut self,
        folder: &Arc<FolderPath>,
        entry: Entry,
        known: Option<KnownEntry>,
    ) -> Result<bool, ClientError> {
        let name = entry.name;
        match entry.found {
            Found::LeftOut => Ok(false),
            Found::Unreadable(errno) => {
                self.trouble(folder.join(name.to_bytes()), errno)?;
                Ok(false)
            }
            Found::Folder(stat, listing) => {
                let path = Arc::new(FolderPath::new(&folder.join(name.to_bytes())));
                let below = known.as_ref().and_then(|known| known.folder);
                let revision = known.and_then(|known| known.revision);
                let was = revision.and_then(|known| known.local);
                let is_same = self.folder(&path, listing, below, was)?;
                if !is_same {
                    return Ok(false);
                }
                let unmodified = revision.is_some_and(|known| is_unmodified(&known, &stat));
                if !unmodified {
                    self.candidate(folder, name, stat, None, revision)?;
                }
                Ok(false)
            }
            Found::Other(stat) => {
                let revision = known.as_ref().and_then(|known| known.revision);
                let was = revision.and_then(|known| known.local);
                if let (Some(below), Some(was)) =
                    (known.as_ref().and_then(|known| known.folder), was)
                {
                    // A folder was here: what was in it is gone with it.
                    let path = folder.join(name.to_bytes());
                    self.gone_below(path.as_os_str().as_bytes(), below, was.device)?;
                }
                if stat.kind == Kind::Other {
                    return Ok(false);
                }
                self.file(folder, name, stat, revision)
            }
        }
    }

    fn file(
        &mut self,
        folder: &Arc<FolderPath>,
        name: std::ffi::CString,
        stat: FileStat,
        revision: Option<KnownRevision>,
    ) -> Result<bool, ClientError> {
        let unmodified = revision.is_some_and(|known| is_unmodified(&known, &stat));
        let mut link_to = None;
        if stat.kind == Kind::Regular && stat.links > 1 {
            let identity = (stat.local.device, stat.local.inode);
            link_to = self.links.get(&identity).cloned();
            if link_to.is_none() {
                let Some(path) = store_path(folder.as_bytes(), name.to_bytes()) else {
                    self.too_long(folder, name.to_bytes())?;
                    return Ok(false);
                };
                self.links.insert(identity, Arc::new(path));
            }
            // Which of a file's names comes first may have changed though nothing else has.
            if unmodified {
                let revision = revision.map(|known| self.known.revision(known.id));
                let content = revision.transpose()?.flatten().map(|(_, content)| content);
                let as_known = match (&link_to, content) {
                    (Some(first), Some(Content::HardLink(to))) => **first == to,
                    (None, Some(Content::Regular { .. })) => true,
                    _ => false,
                };
                if as_known {
                    (self.tell)(Step::Unmodified)?;
                    return Ok(true);
                }
            }
        } else if unmodified {
            (self.tell)(Step::Unmodified)?;
            return Ok(true);
        }
        let alike = revision.is_some_and(|known| {
            known.kind == stat.kind && known.size == size(&stat) && known.modified == stat.modified
        });
        self.candidate(folder, name, stat, link_to, revision)?;
        Ok(alike)
    }

    fn candidate(
        &mut self,
        folder: &Arc<FolderPath>,
        name: std::ffi::CString,
        stat: FileStat,
        link_to: Option<Arc<StorePath>>,
        revision: Option<KnownRevision>,
    ) -> Result<(), ClientError> {
        let known = match revision {
            None => None,
            Some(known) => self
                .known
                .revision(known.id)?
                .map(|(metadata, content)| Known {
                    id: known.id,
                    presence: known.presence,
                    local: known.local,
                    metadata,
                    content,
                }),
        };
        (self.tell)(Step::Candidate(Box::new(Candidate {
            folder: Arc::clone(folder),
            name,
            stat,
            link_to,
            known: known.map(Box::new),
        })))
    }

    /// Scans what is in a folder that was found as `was` when it was last stored; returns whether it may be that folder.
    fn folder(
        &mut self,
        path: &Arc<FolderPath>,
        listing: Listing,
        below: Option<KnownFolder>,
        was: Option<LocalStat>,
    ) -> Result<bool, ClientError> {
        let mut page = match self.walk.take(listing) {
            Ok(page) => page,
            Err(errno) => {
                self.trouble(path.as_path().to_owned(), errno)?;
                // Its own metadata is known all the same, but not whether it is the folder it was.
                return Ok(was.is_none());
            }
        };
        let mut is_same = was.is_some_and(|was| was.device == page.device);
        let mut missing: Vec<KnownEntry> = Vec::new();
        let mut cursor = Cursor::new(below);
        loop {
            for entry in page.entries {
                while let Some(known) = cursor.next_before(self.known, entry.name.to_bytes())? {
                    self.missing(path, known, was, is_same, &mut missing)?;
                }
                let known = cursor.next_at(self.known, entry.name.to_bytes())?;
                is_same |= self.found(path, entry, known)? && was.is_some();
            }
            match page.next {
                Some(next) => match self.walk.take(next) {
                    Ok(next) => page = next,
                    Err(errno) => {
                        self.trouble(path.as_path().to_owned(), errno)?;
                        return Ok(false);
                    }
                },
                None => break,
            }
        }
        while let Some(known) = cursor.next(self.known)? {
            self.missing(path, known, was, is_same, &mut missing)?;
        }
        if missing.is_empty() {
            return Ok(true);
        }
        if is_same {
            for known in std::mem::take(&mut missing) {
                self.missing(path, known, was, true, &mut missing)?;
            }
        } else {
            self.unclear(path)?;
        }
        Ok(is_same)
    }

    /// Takes a known entry that is not in its folder: gone, or put by until it is clear whether the folder is the one it was.
    fn missing(
        &mut self,
        folder: &FolderPath,
        known: KnownEntry,
        was: Option<LocalStat>,
        is_same: bool,
        unclear: &mut Vec<KnownEntry>,
    ) -> Result<(), ClientError> {
        let Some(was) = was else {
            return Ok(());
        };
        if self
            .walk
            .scope()
            .excludes
            .matches(folder.as_bytes(), &known.name)
        {
            return Ok(());
        }
        if is_same {
            return self.gone(folder.as_bytes(), &known, was.device);
        }
        let was_there = known
            .revision
            .is_none_or(|known| known.presence == Presence::Present);
        if was_there {
            unclear.push(known);
        }
        Ok(())
    }

    /// Says that a known entry and all below it are gone, as far as they were on `device`.
    fn gone(&mut self, folder: &[u8], known: &KnownEntry, device: u64) -> Result<(), ClientError> {
        let path = FolderPath::new(std::path::Path::new(OsStr::from_bytes(folder)));
        if let Some(revision) = &known.revision {
            // Of one that changed in the moment it was stored, or was never seen since the catalog was made anew, the device is not known: but only
            // a folder may have been another's.
            let there = match revision.local {
                Some(local) => local.device == device,
                None => revision.kind != Kind::Folder,
            };
            if revision.presence == Presence::Present {
                if !there {
                    return Ok(());
                }
                if let Some(path) = store_path(folder, &known.name) {
                    (self.tell)(Step::Gone {
                        path,
                        kind: revision.kind,
                    })?;
                }
            }
        }
        match known.folder {
            Some(below) => {
                let path = path.join(&known.name);
                self.gone_below(path.as_os_str().as_bytes(), below, device)
            }
            None => Ok(()),
        }
    }

    fn gone_below(
        &mut self,
        folder: &[u8],
        below: KnownFolder,
        device: u64,
    ) -> Result<(), ClientError> {
        let mut cursor = Cursor::new(Some(below));
        while let Some(known) = cursor.next(self.known)? {
            if !self.walk.scope().excludes.matches(folder, &known.name) {
                self.gone(folder, &known, device)?;
            }
        }
        Ok(())
    }

    fn trouble(&mut self, path: PathBuf, errno: Errno) -> Result<(), ClientError> {
        let message = told(errno);
        (self.tell)(Step::Trouble { path, message })
    }

    /// Tells that a folder may not be the one that was stored.
    fn unclear(&mut self, folder: &FolderPath) -> Result<(), ClientError> {
        (self.tell)(Step::Trouble {
            path: folder.as_path().to_owned(),
            message: "is on another file system than when it was stored; what is missing in it is not taken for gone".to_owned(),
        })
    }

    fn too_long(&mut self, folder: &FolderPath, name: &[u8]) -> Result<(), ClientError> {
        (self.tell)(Step::Trouble {
            path: folder.join(name),
            message: "the path is too long to be stored".to_owned(),
        })
    }
}

/// Returns a folder's path as the store names it.
fn path_of_folder(folder: &FolderPath) -> Option<StorePath> {
    let path = folder.as_path();
    let above = path.parent()?;
    store_path(above.as_os_str().as_bytes(), path.file_name()?.as_bytes())
}

/// Returns what an error of the system is to a reader.
pub fn told(errno: Errno) -> String {
    match errno {
        Errno::NOENT => "vanished while it was looked at".to_owned(),
        errno => format!("cannot be read: {}", std::io::Error::from(errno)),
    }
}

/// Lengths count for regular files only: a folder's says how its file system keeps it.
fn size(stat: &FileStat) -> u64 {
    if stat.kind == Kind::Regular {
        stat.size
    } else {
        0
    }
}

fn is_unmodified(known: &KnownRevision, stat: &FileStat) -> bool {
    known.presence == Presence::Present
        && known.kind == stat.kind
        && known.size == size(stat)
        && known.modified == stat.modified
        && known.local == Some(stat.local)
}

/// Goes through the entries of a known folder, page by page.
struct Cursor {
    folder: Option<KnownFolder>,
    page: std::vec::IntoIter<KnownEntry>,
    last: Option<Vec<u8>>,
}

impl Cursor {
    fn new(folder: Option<KnownFolder>) -> Self {
        Self {
            folder,
            page: Vec::new().into_iter(),
            last: None,
        }
    }

    fn peek(&mut self, known: &mut dyn KnownTree) -> Result<Option<&[u8]>, ClientError> {
        if self.page.as_slice().is_empty()
            && let Some(folder) = self.folder
        {
            let mut page = Vec::new();
            known.children(folder, self.last.as_deref(), &mut page)?;
            match page.last() {
                Some(last) => self.last = Some(last.name.clone()),
                None => self.folder = None,
            }
            self.page = page.into_iter();
        }
        Ok(self.page.as_slice().first().map(|entry| &entry.name[..]))
    }

    fn next(&mut self, known: &mut dyn KnownTree) -> Result<Option<KnownEntry>, ClientError> {
        self.peek(known)?;
        Ok(self.page.next())
    }

    fn next_before(
        &mut self,
        known: &mut dyn KnownTree,
        name: &[u8],
    ) -> Result<Option<KnownEntry>, ClientError> {
        match self.peek(known)? {
            Some(next) if next < name => Ok(self.page.next()),
            _ => Ok(None),
        }
    }

    fn next_at(
        &mut self,
        known: &mut dyn KnownTree,
        name: &[u8],
    ) -> Result<Option<KnownEntry>, ClientError> {
        match self.peek(known)? {
            Some(next) if next == name => Ok(self.page.next()),
            _ => Ok(None),
        }
    }
}
