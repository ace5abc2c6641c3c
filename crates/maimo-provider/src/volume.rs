//! [`Volume`]: one folder on one disk that packs and the log lie in.
//!
//! A volume knows files and bytes. Whose they are, what lives and what is charged is the ledger's; no name or path of a client ever
//! comes here. How it lies on the disk is in `docs/format.md`.
//!
//! ```text
//!   maimo-volume                          the marker: without it the folder is not a volume, and never taken for an empty one
//!   packs/<2 digits>/<channel>/<root>     one file a pack: bytes, outboard, which groups are there
//!   incoming/                             packs that are not whole yet, and what is written aside
//!   log/                                  segments of all that has no file
//! ```
//!
//! Invariants: what [`Incoming::finish`] or [`Log::sync`] returned `Ok` for survives a power cut, on a disk that honours fsync. A file under
//! a pack's name was whole and had that root when it came there. After a failed fsync nothing more is written until the volume
//! is opened again: the kernel may have dropped what it could not write, and says so only once.

use std::{
    collections::HashSet,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use maimo_core::{
    codec::ParseError,
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::AuthPublicKey,
    live_map::LiveMap,
    reference::ObjectRef,
    units::{PACK_BYTES_MAX, groups},
};
use thiserror::Error;

use self::{disk::Disk, marker::Marker};

mod cache;
mod disk;
#[cfg(any(test, feature = "testing"))]
mod faults;
mod incoming;
mod listing;
mod log;
mod marker;
mod pack_file;

#[cfg(any(test, feature = "testing"))]
pub use self::faults::Faults;
pub use self::{
    incoming::Incoming,
    listing::StoredPack,
    log::{Log, LogEntry, LogPosition, OwnedEntry, Replay, Replayed},
    pack_file::PackFile,
};

/// The name of a volume, drawn at random when it is made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeId(pub [u8; 16]);

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VolumeId({self})")
    }
}

/// Why a volume does not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VolumeError {
    /// There is no marker: the disk is not mounted, or this never was a volume.
    #[error("no volume is there: is the disk mounted?")]
    Unavailable,
    /// A volume is there already.
    #[error("the folder is a volume already")]
    Exists,
    /// The folder is a volume, but not the one that belongs here.
    #[error("the folder is volume {found}, not {expected}")]
    OtherVolume {
        /// The volume asked for.
        expected: VolumeId,
        /// The volume found.
        found: VolumeId,
    },
    /// The volume is another provider's.
    #[error("the volume belongs to another provider")]
    OtherOwner,
    /// Another process has the volume open.
    #[error("another process has the volume open")]
    InUse,
    /// The marker cannot be read as one.
    #[error("the volume's marker cannot be read")]
    Marker(#[source] ParseError),
    /// A newer program wrote this.
    #[error("version {found} of the volume's log needs a newer Maimo")]
    Version {
        /// The version found.
        found: u8,
    },
    /// The disk has no room, or the user's quota ends.
    #[error("the disk is full")]
    Full,
    /// An fsync failed before: what was written since the last good one is in doubt.
    #[error("an earlier write to the volume could not be made durable; it must be opened again")]
    Poisoned,
    /// An fsync failed now.
    #[error("what was written could not be made durable")]
    Sync(#[source] io::Error),
    /// Any other failure of the file system.
    #[error("{what} failed")]
    Io {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        #[source]
        source: io::Error,
    },
    /// The pack or entry is not here, or some of the groups asked for are not.
    #[error("the volume does not hold it")]
    NotHeld,
    /// The pack is coming in already, by another hand.
    #[error("the pack is coming in already")]
    Busy,
    /// No pack is so long.
    #[error("a pack of {length} bytes is not allowed")]
    Length {
        /// The length.
        length: u64,
    },
    /// Bytes that are no range of the pack.
    #[error("no range of the pack begins at {offset} with {length} bytes")]
    Range {
        /// Where they were to begin, in bytes.
        offset: u64,
        /// How many they are.
        length: u64,
    },
    /// Not all of the pack came in.
    #[error("parts of the pack are missing")]
    Incomplete,
    /// The bytes that came in whole do not hash to the pack's root; they are gone.
    #[error("what came in does not hash to its name")]
    WrongBytes,
    /// A log entry longer than any may be.
    #[error("an entry of {length} bytes is too long for the log")]
    TooLong {
        /// Its length in bytes.
        length: u64,
    },
    /// A pack's file is not what was written there.
    #[error("the file of pack {root} is damaged")]
    DamagedPack {
        /// The channel it is of.
        channel: ChannelId,
        /// The pack's name.
        root: RootHash,
    },
    /// An entry of the log is not what was written there.
    #[error("an entry of the log is damaged")]
    DamagedEntry,
}

impl VolumeError {
    /// Returns what turns an error of the file system into one of the volume.
    fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io { what, source },
        }
    }
}

impl Classify for VolumeError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable
            | Self::InUse
            | Self::Full
            | Self::Poisoned
            | Self::Sync(_)
            | Self::Io { .. } => ErrorKind::LocalIo,
            Self::Exists | Self::OtherVolume { .. } | Self::OtherOwner | Self::Version { .. } => {
                ErrorKind::Config
            }
            Self::Marker(_) | Self::DamagedPack { .. } | Self::DamagedEntry => {
                ErrorKind::LocalCorrupt
            }
            Self::NotHeld
            | Self::Busy
            | Self::Length { .. }
            | Self::Range { .. }
            | Self::Incomplete
            | Self::WrongBytes
            | Self::TooLong { .. } => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Unavailable
            | Self::InUse
            | Self::Full
            | Self::Poisoned
            | Self::Sync(_)
            | Self::Io { .. }
            | Self::Busy => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unavailable => Some("mount the disk, then try again"),
            Self::Full => Some("free space on the disk, or add a volume"),
            Self::Poisoned | Self::Sync(_) => {
                Some("check the disk; then restart the provider, and run `maimo scrub`")
            }
            Self::DamagedPack { .. } | Self::DamagedEntry => {
                Some("run `maimo scrub` to see what is damaged")
            }
            _ => None,
        }
    }
}

/// One mounted folder. It stays locked against other processes while it or anything of it lives.
#[derive(Debug)]
pub struct Volume {
    inner: Arc<Inner>,
    log: Log,
}

/// What a volume shares with the packs that come in.
#[derive(Debug)]
struct Inner {
    path: PathBuf,
    id: VolumeId,
    disk: Arc<Disk>,
    /// Packs that come in; two hands on one file would write over each other.
    coming: Mutex<HashSet<(ChannelId, ObjectRef)>>,
    /// Folders of `packs/` that are durable themselves.
    folders: Mutex<HashSet<PathBuf>>,
    cache: cache::Cache,
    /// Keeps the marker locked.
    _marker: fs::File,
}

impl Volume {
    /// Makes a folder a volume; it is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Exists`] where a marker is; those of the file system.
    pub fn create(path: &Path, id: VolumeId, owner: &AuthPublicKey) -> Result<Self, VolumeError> {
        let disk = Disk::default();
        if path.join(Marker::NAME).exists() {
            return Err(VolumeError::Exists);
        }
        for folder in [PACKS, INCOMING, Log::FOLDER] {
            disk.create_folders(&path.join(folder))?;
        }
        disk.sync_folder(path)?;
        // The marker comes last: with it, all the rest is there.
        let owner = *owner;
        marker::write(&disk, path, &Marker { id, owner })?;
        let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
        disk.sync_folder(parent.unwrap_or(Path::new(".")))?;
        Self::open(path, Some(id), &owner)
    }

    /// Opens the volume at `path`: the one of this `id`, or any of the owner's.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Unavailable`] without a marker; another volume or owner; a volume that is open already.
    pub fn open(
        path: &Path,
        id: Option<VolumeId>,
        owner: &AuthPublicKey,
    ) -> Result<Self, VolumeError> {
        let (file, marker) = marker::read(path)?;
        if marker.owner != *owner {
            return Err(VolumeError::OtherOwner);
        }
        if let Some(expected) = id.filter(|&id| id != marker.id) {
            let found = marker.id;
            return Err(VolumeError::OtherVolume { expected, found });
        }
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(VolumeError::InUse),
            Err(fs::TryLockError::Error(error)) => {
                return Err(VolumeError::io("locking the volume")(error));
            }
        }
        let disk = Arc::new(Disk::default());
        let log = Log::open(path.join(Log::FOLDER), &marker, Arc::clone(&disk))?;
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            id: marker.id,
            disk,
            coming: Mutex::default(),
            folders: Mutex::default(),
            cache: cache::Cache::default(),
            _marker: file,
        });
        inner.clear_aside()?;
        Ok(Self { inner, log })
    }

    /// Returns the volume's name.
    pub fn id(&self) -> VolumeId {
        self.inner.id
    }

    /// Returns the folder.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Returns how many bytes of the disk are free for this user.
    pub fn free_bytes(&self) -> Result<u64, VolumeError> {
        let found = rustix::fs::statvfs(&self.inner.path)
            .map_err(|error| VolumeError::io("asking for free space")(error.into()))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Returns whether an fsync failed since the volume was opened: it takes nothing more.
    pub fn is_poisoned(&self) -> bool {
        self.inner.disk.is_poisoned()
    }

    /// Begins to take a pack in, or goes on where an earlier process stopped: see [`Incoming`].
    ///
    /// # Errors
    ///
    /// [`VolumeError::Length`], [`VolumeError::Busy`], those of the file system.
    pub fn incoming(&self, channel: ChannelId, pack: ObjectRef) -> Result<Incoming, VolumeError> {
        check_length(&pack)?;
        Incoming::begin(Arc::clone(&self.inner), channel, pack)
    }

    /// Returns the packs that are coming in, or were when the last process stopped.
    pub fn all_incoming(&self) -> Result<Vec<(ChannelId, ObjectRef)>, VolumeError> {
        incoming::list(&self.inner.incoming_folder())
    }

    /// Removes what came in of a pack that nobody goes on with.
    ///
    /// # Errors
    ///
    /// [`VolumeError::Busy`], those of the file system.
    pub fn remove_incoming(&self, channel: ChannelId, pack: &ObjectRef) -> Result<(), VolumeError> {
        let coming = lock(&self.inner.coming);
        if coming.contains(&(channel, *pack)) {
            return Err(VolumeError::Busy);
        }
        incoming::remove(&self.inner, &channel, pack)
    }

    /// Opens a pack for reading. Files stay open for a while, so asking again is cheap.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`] where no pack of that name and length is; those of the file system.
    pub fn pack(&self, channel: ChannelId, pack: &ObjectRef) -> Result<Arc<PackFile>, VolumeError> {
        check_length(pack)?;
        if let Some(found) = self.inner.cache.get(&channel, &pack.root) {
            return (found.reference() == pack)
                .then_some(found)
                .ok_or(VolumeError::NotHeld);
        }
        let seen = self.inner.cache.generation();
        let path = self.inner.pack_path(&channel, &pack.root);
        let found = Arc::new(PackFile::open(&path, channel, pack)?);
        self.inner.cache.put(Arc::clone(&found), seen);
        Ok(found)
    }

    /// Opens a pack's file anew, even if it is open: for who wants to know what is on the disk now.
    ///
    /// # Errors
    ///
    /// As [`Self::pack`]; a file whose end cannot be read as what it must be.
    pub fn pack_anew(&self, channel: ChannelId, pack: &ObjectRef) -> Result<PackFile, VolumeError> {
        check_length(pack)?;
        PackFile::open(&self.inner.pack_path(&channel, &pack.root), channel, pack)
    }

    /// Frees groups of a pack for good, and gives their room back to the disk; a pack of which nothing is left is removed.
    ///
    /// The file says first, durably, that they are gone. Where the file system cannot make holes, a file of what is left takes the
    /// place of the old one. It may be called again, with the same groups or none, to give back what a crash left.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`], [`VolumeError::DamagedPack`], those of the file system.
    pub fn punch(
        &self,
        channel: ChannelId,
        pack: &ObjectRef,
        freed: &LiveMap,
    ) -> Result<(), VolumeError> {
        let file = self.pack(channel, pack)?;
        let held = file.held().minus(freed);
        if held.is_empty() {
            return self.remove(channel, pack);
        }
        let path = self.inner.pack_path(&channel, &pack.root);
        let aside = self.inner.aside_path(&channel, &pack.root);
        let result = file.keep(&self.inner.disk, &path, &aside, &held);
        self.inner.cache.forget(&channel, &pack.root);
        result
    }

    /// Takes a pack's file over from another volume, as it lies there, holes filled; checked and durable before it has its name.
    ///
    /// # Errors
    ///
    /// [`VolumeError::NotHeld`], [`VolumeError::DamagedPack`], those of the file system.
    pub fn copy_from(
        &self,
        source: &Self,
        channel: ChannelId,
        pack: &ObjectRef,
    ) -> Result<(), VolumeError> {
        self.inner.disk.check()?;
        let from = source.pack_anew(channel, pack)?;
        let damaged = || VolumeError::DamagedPack {
            channel,
            root: pack.root,
        };
        let folder = self.inner.make_channel_folder(&channel)?;
        let aside = self.inner.aside_path(&channel, &pack.root);
        let path = source.inner.pack_path(&channel, &pack.root);
        fs::copy(path, &aside).map_err(VolumeError::io("copying a pack"))?;
        let copy = PackFile::open(&aside, channel, pack)?;
        if copy.held() != from.held() || !copy.damaged()?.is_empty() {
            self.inner.disk.remove(&aside)?;
            return Err(damaged());
        }
        let file = fs::File::open(&aside).map_err(VolumeError::io("copying a pack"))?;
        self.inner.disk.sync(&file)?;
        let path = self.inner.pack_path(&channel, &pack.root);
        self.inner.disk.rename(&aside, &path)?;
        self.inner.disk.sync_folder(&folder)?;
        self.inner.cache.forget(&channel, &pack.root);
        Ok(())
    }

    /// Removes a pack; one that is not there is no error. Gone for good after the next crash, or before.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn remove(&self, channel: ChannelId, pack: &ObjectRef) -> Result<(), VolumeError> {
        let path = self.inner.pack_path(&channel, &pack.root);
        let result = self.inner.disk.remove(&path);
        self.inner.cache.forget(&channel, &pack.root);
        result
    }

    /// Walks all packs, in no order: for rebuilding a ledger, for scrubbing and for draining.
    pub fn packs(&self) -> impl Iterator<Item = Result<StoredPack, VolumeError>> + use<> {
        listing::walk(&self.inner.path.join(PACKS))
    }

    /// Walks the names of all packs, in no order but one channel after the other. No file is opened.
    pub fn pack_names(
        &self,
    ) -> impl Iterator<Item = Result<(ChannelId, RootHash), VolumeError>> + use<> {
        listing::names(&self.inner.path.join(PACKS)).map(|found| {
            let (channel, root, _) = found?;
            Ok((channel, root))
        })
    }

    /// Returns what a pack's file says of it; nothing where there is none.
    ///
    /// # Errors
    ///
    /// [`VolumeError::DamagedPack`], those of the file system.
    pub fn stored(
        &self,
        channel: ChannelId,
        root: RootHash,
    ) -> Result<Option<StoredPack>, VolumeError> {
        listing::open(channel, root, &self.inner.pack_path(&channel, &root)).transpose()
    }

    /// Returns how many fsyncs there were since it was opened, of files and of folders.
    pub fn syncs(&self) -> u64 {
        self.inner.disk.syncs()
    }

    /// Returns what can be made to fail.
    #[cfg(any(test, feature = "testing"))]
    pub fn faults(&self) -> &Faults {
        &self.inner.disk.faults
    }

    /// Returns the log.
    pub const fn log(&self) -> &Log {
        &self.log
    }
}

const PACKS: &str = "packs";
const INCOMING: &str = "incoming";

impl Inner {
    fn incoming_folder(&self) -> PathBuf {
        self.path.join(INCOMING)
    }

    fn channel_folder(&self, channel: &ChannelId) -> PathBuf {
        let name = channel.to_string();
        self.path.join(PACKS).join(&name[..2]).join(name)
    }

    fn pack_path(&self, channel: &ChannelId, root: &RootHash) -> PathBuf {
        self.channel_folder(channel).join(root.to_string())
    }

    fn aside_path(&self, channel: &ChannelId, root: &RootHash) -> PathBuf {
        let name = format!("{channel}.{root}.{ASIDE}");
        self.incoming_folder().join(name)
    }

    /// Makes sure that a channel's folder is there, and durable.
    fn make_channel_folder(&self, channel: &ChannelId) -> Result<PathBuf, VolumeError> {
        let folder = self.channel_folder(channel);
        let mut known = lock(&self.folders);
        if !known.contains(&folder) {
            // Even where it is there: an earlier process may have died before it was durable.
            let above = self.path.join(PACKS).join(&channel.to_string()[..2]);
            self.disk.create_folders(&folder)?;
            self.disk.sync_folder(&above)?;
            self.disk.sync_folder(&self.path.join(PACKS))?;
            known.insert(folder.clone());
        }
        Ok(folder)
    }

    /// Removes what was being written aside when an earlier process stopped: nothing refers to it.
    fn clear_aside(&self) -> Result<(), VolumeError> {
        let folder = self.incoming_folder();
        for entry in fs::read_dir(folder).map_err(VolumeError::io("reading the volume"))? {
            let path = entry.map_err(VolumeError::io("reading the volume"))?.path();
            if path.extension().is_some_and(|end| end == ASIDE) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }
}

/// How names end of what is written aside.
const ASIDE: &str = "aside";

fn check_length(pack: &ObjectRef) -> Result<(), VolumeError> {
    // Buffers and the geometry of the file are made from the length.
    let length = pack.length;
    if length == 0 || length > PACK_BYTES_MAX {
        return Err(VolumeError::Length { length });
    }
    Ok(())
}

/// Returns how many groups a pack has whose length was checked.
fn group_count(length: u64) -> u32 {
    u32::try_from(groups(length)).unwrap_or(u32::MAX)
}

/// Returns what fits in memory: lengths that were held against their maxima.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A thread that panicked while it held a lock here left nothing half done: what is guarded is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
