//! [`Provider`]: one installation that stores for clients: its keys, its volumes, its ledger.
//!
//! A provider is a *home* folder with volumes elsewhere, or a *folder channel*: a folder that is both, keys and all, for one machine at a time. What it does
//! for clients is in [`maimo_net::service::Session`]; what its owner does is here.
//!
//! Invariant: one process at a time has a home open, by a lock of the operating system that dies with it.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::Path,
    sync::{Arc, Mutex, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use getrandom::SysRng;
use maimo_core::{
    clock::Timestamp,
    custody::{Grace, Terms},
    id::ChannelId,
    identity::{AuthPublicKey, ClientPublicKey, OnionSecretKey},
    receipt::LedgerInstance,
    reference::ObjectRef,
};
use maimo_net::service::ServiceError;
use rand_core::TryRng;

use crate::{
    clean::Clean,
    error::{ProviderError, of_ledger},
    group_commit::{Batch, Committer, Durability},
    keys::{self, Keys, KeysError, ProviderPhrase},
    ledger::{ChannelRow, LedgerError, changes, entry, sqlite::Readers},
    rebuild,
    session::Coming,
    sweep::SweepReport,
    volume::{Volume, VolumeError, VolumeId},
    volumes::Volumes,
};

mod addresses;
mod clients;
mod face;
mod invitations;
mod volumes;

pub use clients::{ClientStatus, Revocation, Revoked};
pub use face::Face;
pub use invitations::{InvitationState, InvitationStatus, InviteRequest};
pub use volumes::{VolumeState, VolumeStatus};

/// A cap that nothing reaches: that of a folder where none was given. A quarter of what 64 bits hold, so that sums stay in them.
pub const ENDLESS_CAP: u64 = u64::MAX / 4;
/// The name of the one volume in a folder channel.
const FOLDER_VOLUME: &str = "volume";
/// The name of the ledger in a provider's home.
pub(crate) const LEDGER: &str = "ledger.sqlite";
const LOCK: &str = "lock";

/// On what terms a folder takes in its clients.
#[derive(Debug, Clone, Copy, Default)]
pub struct FolderTerms {
    /// How many bytes may be charged; endless if not said.
    pub capacity: Option<u64>,
    /// The grace; 30 days if not said.
    pub grace: Option<Grace>,
}

/// A provider that is open. Clones are the same one; it closes with the last of them and of its sessions.
#[derive(Clone)]
pub struct Provider {
    pub(crate) inner: Arc<Inner>,
}

/// Packs that are coming in, each with a lock of its own.
pub(crate) type ComingPacks = HashMap<(ChannelId, ObjectRef), Arc<Mutex<Coming>>>;

/// What is open of a provider.
pub(crate) struct Inner {
    pub(crate) keys: Keys,
    pub(crate) volumes: Arc<Volumes>,
    /// Before the connection that writes: the last to close writes the WAL back, and only that one can.
    pub(crate) readers: Readers,
    pub(crate) committer: Committer,
    pub(crate) instance: LedgerInstance,
    /// Packs that are coming in.
    pub(crate) coming: Mutex<ComingPacks>,
    /// Held for reading while a pack's file is put in place and its row made, for writing while a file is punched or removed by what its row
    /// says: else a pack that came in again could be taken for what was let go.
    pub(crate) files: RwLock<()>,
    /// After all that writes the ledger: when it goes, it says that all was closed.
    pub(crate) clean: Arc<Clean>,
    /// Keeps the home locked.
    _lock: File,
}

impl Provider {
    /// Makes a provider in `home`, with new keys and no volume yet.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Exists`]; those of the file system.
    pub fn create(home: &Path) -> Result<Self, ProviderError> {
        make_home(home)?;
        let lock = lock_home(home)?;
        write_keys(home, &Keys::generate()?)?;
        Self::start(home, lock, None)
    }

    /// Makes a provider in `home` whose keys are these 24 words, to which its volumes can be added again.
    ///
    /// # Errors
    ///
    /// As [`Self::create`]; words that are none.
    pub fn restore(home: &Path, words: &str) -> Result<Self, ProviderError> {
        let keys = Keys::from_phrase(words)?;
        make_home(home)?;
        let lock = lock_home(home)?;
        write_keys(home, &keys)?;
        Self::start(home, lock, None)
    }

    /// Opens the provider in `home`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NotThere`], [`ProviderError::InUse`]; a ledger that has to be made anew and cannot.
    pub fn open(home: &Path) -> Result<Self, ProviderError> {
        if !Self::exists(home) {
            return Err(ProviderError::NotThere {
                path: home.to_owned(),
            });
        }
        let lock = lock_home(home)?;
        Self::start(home, lock, None)
    }

    /// Returns whether a provider is in `home`.
    pub fn exists(home: &Path) -> bool {
        home.join(keys::NAME).exists()
    }

    /// Opens a folder as a whole provider; where there is none, makes one on the terms given, if any are.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NotThere`], [`ProviderError::InUse`]; those of the file system.
    pub fn open_folder(folder: &Path, create: Option<FolderTerms>) -> Result<Self, ProviderError> {
        let is_there = Self::exists(folder);
        let Some(terms) = create.or(is_there.then(FolderTerms::default)) else {
            return Err(ProviderError::NotThere {
                path: folder.to_owned(),
            });
        };
        make_home(folder)?;
        let lock = lock_home(folder)?;
        if !is_there {
            write_keys(folder, &Keys::generate()?)?;
        }
        Self::start(folder, lock, Some(terms))
    }

    fn start(home: &Path, lock: File, folder: Option<FolderTerms>) -> Result<Self, ProviderError> {
        let keys = Keys::read(home)?;
        let owner = keys.auth_public();
        let volumes = if Volumes::exists(home) {
            Volumes::open(home, owner)?
        } else {
            let grace = folder.map(|terms| terms.grace.unwrap_or(Grace::DEFAULT));
            Volumes::create(home, owner, grace)?
        };
        if let Some(terms) = folder
            && volumes.list().is_empty()
        {
            let path = home.join(FOLDER_VOLUME);
            let volume = mount(&path, &owner)?;
            let capacity = terms.capacity.unwrap_or(ENDLESS_CAP);
            volumes.add(Path::new(FOLDER_VOLUME), volume.id(), capacity)?;
            volumes.mount(Arc::new(volume));
        }
        let volumes = Arc::new(volumes);
        let clean = Arc::new(Clean::open(home, Arc::clone(&volumes)));
        let opened = rebuild::open(home, &keys, &volumes, &clean)?;
        let provider = Self {
            inner: Arc::new(Inner {
                keys,
                committer: Committer::new(
                    Box::new(opened.ledger),
                    Arc::clone(&volumes),
                    Arc::clone(&clean),
                ),
                volumes,
                readers: Readers::new(home.join(LEDGER), Arc::clone(&clean)),
                instance: opened.instance,
                coming: Mutex::default(),
                files: RwLock::default(),
                clean,
                _lock: lock,
            }),
        };
        for log in opened.lost {
            let run = move |batch: &mut Batch<'_>| rebuild::log_again(batch, log);
            provider.inner.committer.run(run)?;
        }
        for volume in provider.inner.volumes.all_mounted() {
            if !provider.inner.clean.is_settled(volume.id()) {
                // What fails is tried again at the next start.
                let _ = provider.inner.settle(&volume);
            }
        }
        // What came due while nobody looked. A disk that cannot take it now takes it at the next start.
        let _ = provider.inner.sweep_due(now());
        Ok(provider)
    }

    /// Returns its first key: that of its onion face and of a folder.
    pub fn auth(&self) -> AuthPublicKey {
        self.inner.keys.auth_public()
    }

    /// Returns the key of its onion service. Tor gets to see it: it locates and proves nothing.
    pub fn onion_key(&self) -> Arc<OnionSecretKey> {
        Arc::clone(self.inner.keys.onion())
    }

    /// Returns its keys as 24 words. Whoever has them can pretend to be this provider.
    pub fn phrase(&self) -> ProviderPhrase {
        self.inner.keys.phrase()
    }

    /// Frees what may be freed at `now`, and thins out commits.
    ///
    /// # Errors
    ///
    /// A ledger or log that cannot be written.
    pub fn sweep(&self, now: Timestamp) -> Result<SweepReport, ProviderError> {
        self.inner.sweep(now)
    }
}

impl Inner {
    /// Holds what is on a volume against the rows.
    fn settle(&self, volume: &Arc<Volume>) -> Result<(), ProviderError> {
        self.settle_incoming(volume)?;
        self.settle_packs(volume)?;
        self.clean.settle(volume.id());
        Ok(())
    }

    /// Takes into the ledger what the log of a volume says that was not there before, then uses the volume.
    pub(crate) fn take_up(&self, volume: &Arc<Volume>) -> Result<(), ProviderError> {
        let log = Arc::clone(volume);
        // Before anything can be appended to that log: else what it has would be passed over for ever.
        let taken = self.committer.run(move |batch| {
            match rebuild::catch_up(batch.rows, &log) {
                // It does not follow from these rows, which are not wrong for that: all is made anew at the next start.
                Err(LedgerError::Damaged { .. }) => {
                    Err(LedgerError::Unmounted { volume: log.id() })
                }
                caught_up => caught_up,
            }
        });
        let state = taken.inspect_err(|_| self.clean.doubt())?;
        self.settle_incoming(volume)?;
        self.volumes.mount(Arc::clone(volume));
        if state == rebuild::Log::Lost {
            let id = volume.id();
            self.committer
                .run(move |batch| rebuild::log_again(batch, id))?;
        }
        self.settle(volume)
    }

    /// Returns the volume in whose log a new channel goes.
    pub(crate) fn log_for_new(&self) -> Result<VolumeId, ServiceError> {
        let list = self.volumes.list();
        list.iter()
            .find(|(listed, _, volume)| volume.is_some() && !listed.is_draining)
            .map(|(listed, _, _)| listed.id)
            .ok_or_else(|| ServiceError::Unavailable {
                detail: "no volume is mounted".to_owned(),
            })
    }

    /// Returns the terms of a client that registers itself, where it may.
    pub(crate) fn own_terms(&self) -> Option<Terms> {
        let grace = self.volumes.folder_grace()?;
        let list = self.volumes.list();
        let capacity = list
            .iter()
            .map(|(listed, _, _)| listed.capacity)
            .fold(0, u64::saturating_add)
            .min(ENDLESS_CAP);
        Some(Terms::new(capacity, None, Some(grace)))
    }

    /// Returns a channel's row, if it has one.
    pub(crate) fn row(&self, channel: ChannelId) -> Result<Option<ChannelRow>, ServiceError> {
        let row = self.readers.read(|rows| rows.channel(&channel));
        row.map_err(|error| of_ledger(&error))
    }
}

/// Registers a client in a batch.
pub(crate) fn register(
    batch: &mut Batch<'_>,
    channel: ChannelId,
    client: ClientPublicKey,
    label: String,
    terms: Terms,
    log: VolumeId,
    now: Timestamp,
) -> Result<(), LedgerError> {
    changes::register(batch.rows, channel, client, &label, terms, log, now)?;
    let change = entry::Change::Registered {
        client,
        label,
        terms,
    };
    batch.record(log, channel, &change, now, Durability::Synced);
    Ok(())
}

/// Returns the time by the system's clock.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(millis).unwrap_or(0))
}

/// Draws random bytes.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], KeysError> {
    let mut bytes = [0; N];
    SysRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_| KeysError::Random)?;
    Ok(bytes)
}

/// Opens the volume at `path` if it is one of the owner's, or makes it one.
pub(crate) fn mount(path: &Path, owner: &AuthPublicKey) -> Result<Volume, ProviderError> {
    let opened = match Volume::open(path, None, owner) {
        Err(VolumeError::Unavailable) => Volume::create(path, VolumeId(random()?), owner),
        opened => opened,
    };
    opened.map_err(|source| ProviderError::Volume {
        path: path.to_owned(),
        source,
    })
}

fn write_keys(home: &Path, keys: &Keys) -> Result<(), ProviderError> {
    match keys.write(home) {
        Err(KeysError::Io(error)) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(ProviderError::Exists {
                path: home.to_owned(),
            })
        }
        written => Ok(written?),
    }
}

fn make_home(home: &Path) -> Result<(), ProviderError> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(home)
        .map_err(ProviderError::io("making the provider's folder"))
}

fn lock_home(home: &Path) -> Result<File, ProviderError> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(home.join(LOCK))
        .map_err(ProviderError::io("locking the provider's folder"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(ProviderError::InUse),
        Err(fs::TryLockError::Error(error)) => {
            Err(ProviderError::io("locking the provider's folder")(error))
        }
    }
}
