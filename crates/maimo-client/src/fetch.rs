//! Fetching: from a chunk's reference to its plaintext, by reads that are verified before anything looks at them.
//!
//! ```text
//! chunk ref --Locator--> pack at hand (layout, one object a channel), dictionary      one thread, asks the catalog
//!           --Fetch----> groups, read in few requests and held against the root       any number of threads
//!           --Opener---> seal, frame, chunk id: plaintext                             one a thread
//! ```
//!
//! Every read is rounded to chunk groups and neighbours are joined, so a provider never sees where a chunk begins. What one channel cannot
//! give, or gives wrong, is asked of the next; what none can give whole is asked for in halves, so that one bad group costs only the files
//! that need it. It knows nothing of paths.
//!
//! Invariant: no byte reaches a caller that was not proven against (root, length), opened by its seal and checked against its chunk id.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use maimo_core::{
    error::{Classify, ErrorKind, Retry},
    id::ChannelId,
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_net::service::{ServiceError, Session};
use maimo_vault::{
    keys::{ChannelKeys, PackKey},
    name::{ChunkId, ChunkRef, PackNumber},
    pack::{HEADER_BYTES, OpenPackError, PackKind, PackLayout, Piece},
};
use thiserror::Error;

use crate::{error::ClientError, keys::StoreKeys};

mod apart;
mod catalog;
mod groups;
mod locate;
mod open;
mod request;

pub(crate) use apart::Parts;
pub use catalog::CatalogPacks;
pub use groups::Fetched;
pub use locate::{ChunkAt, Locator, PackAt};
pub use open::Opener;
pub use request::Wanted;
pub(crate) use request::halve;

/// A channel that can be read from.
#[derive(Clone)]
pub struct Channel<'k> {
    /// Its id.
    pub id: ChannelId,
    /// What its owner calls it.
    pub name: &'k str,
    /// The keys its packs are sealed with.
    pub keys: &'k ChannelKeys,
    /// Its provider.
    pub session: Arc<dyn Session>,
}

impl Channel<'_> {
    const fn pack_key(&self, kind: PackKind) -> &PackKey {
        match kind {
            PackKind::Data => &self.keys.data,
            PackKind::Vital => &self.keys.vital,
        }
    }
}

/// What the store knows of its packs: the catalog answers.
pub trait PackIndex {
    /// Returns where a chunk is now: follows what was moved.
    fn resolve(&self, chunk: ChunkRef) -> Result<ChunkRef, ClientError>;

    /// Returns the object that holds a number on a channel.
    fn object(
        &self,
        number: PackNumber,
        channel: ChannelId,
    ) -> Result<Option<ObjectRef>, ClientError>;

    /// Returns where everything in a pack stands; nothing where that is not known here, and has to be read from the pack.
    fn layout(&self, number: PackNumber) -> Result<Option<PackLayout>, ClientError>;

    /// Returns the piece of the newest commit's tail that has this number.
    fn piece(&self, number: PackNumber) -> Result<Option<Piece>, ClientError>;

    /// Returns where a dictionary is.
    fn dictionary(&self, id: &ChunkId) -> Result<Option<ChunkRef>, ClientError>;
}

/// Why a chunk cannot be had.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// No channel that may hold it can be reached.
    #[error("channel {channel}: {source}")]
    Away {
        /// The last one tried.
        channel: String,
        /// What it said.
        source: ServiceError,
    },
    /// The channels that should hold it do not, or return other bytes.
    #[error("its stored bytes are damaged or missing: {}", tried.join("; "))]
    Lost {
        /// What each channel returned, as a clause.
        tried: Vec<String>,
    },
    /// A channel that holds it cannot serve it now: a volume of its provider is not mounted, or its disk fails.
    #[error("its stored bytes cannot be read now: {}", tried.join("; "))]
    Unserved {
        /// What each channel returned, as a clause.
        tried: Vec<String>,
    },
    /// The record names what no pack holds.
    #[error("no channel is known to hold {what}")]
    Unknown {
        /// What.
        what: &'static str,
    },
    /// The bytes are those of the root and yet do not open.
    #[error("its stored bytes cannot be opened: {0}")]
    Open(#[from] OpenPackError),
    /// The catalog failed.
    #[error("{0}")]
    Catalog(Arc<ClientError>),
}

impl From<ClientError> for FetchError {
    fn from(error: ClientError) -> Self {
        Self::Catalog(Arc::new(error))
    }
}

impl From<FetchError> for ClientError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Away { channel, source } => Self::Provider { channel, source },
            FetchError::Catalog(error) => {
                Arc::try_unwrap(error).unwrap_or_else(|error| Self::Corrupt(error.to_string()))
            }
            error @ FetchError::Unserved { .. } => Self::Provider {
                channel: "(all)".to_owned(),
                source: ServiceError::Unavailable {
                    detail: error.to_string(),
                },
            },
            other if other.kind() == ErrorKind::ProviderMisbehaved => Self::Provider {
                channel: "(all)".to_owned(),
                source: ServiceError::Damaged {
                    what: "a pack",
                    detail: other.to_string(),
                },
            },
            other => Self::Corrupt(other.to_string()),
        }
    }
}

impl Classify for FetchError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Away { source, .. } => source.kind(),
            Self::Lost { .. } => ErrorKind::ProviderMisbehaved,
            Self::Unserved { .. } => ErrorKind::ProviderRefused,
            Self::Unknown { .. } | Self::Open(_) => ErrorKind::LocalCorrupt,
            Self::Catalog(error) => error.kind(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Away { source, .. } => source.retry(),
            Self::Catalog(error) => error.retry(),
            Self::Unserved { .. } => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Away { source, .. } => source.hint(),
            Self::Lost { .. } => Some(
                "run `maimo verify --read-all` to see what is lost, then `maimo channel repair`",
            ),
            Self::Unserved { .. } => Some("is the provider's disk mounted and readable?"),
            Self::Catalog(error) => error.hint(),
            _ => None,
        }
    }
}

/// Reads packs from the channels of a store; shared by all threads that do.
pub struct Fetch<'k> {
    channels: Vec<Channel<'k>>,
    keys: &'k StoreKeys,
    /// The plain headers, without which nothing opens: read once for each pack and channel, not once for each read.
    headers: Mutex<HashMap<(usize, PackNumber), [u8; HEADER_BYTES]>>,
    received: AtomicU64,
    /// What a channel did not return right, by channel and pack.
    suspects: Mutex<HashMap<(usize, ObjectRef), (PackKind, LiveMap)>>,
}

impl<'k> Fetch<'k> {
    /// Prepares to read from these channels, the first first.
    pub fn new(channels: Vec<Channel<'k>>, keys: &'k StoreKeys) -> Self {
        Self {
            channels,
            keys,
            headers: Mutex::default(),
            received: AtomicU64::new(0),
            suspects: Mutex::default(),
        }
    }

    /// Returns how many bytes of slices came in so far.
    pub fn bytes_received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Returns how many bytes are to be asked for at a time over a network; 0 where there is none.
    pub(crate) fn bytes_ahead(&self) -> u64 {
        let channels = self.channels.iter();
        let appetites = channels.map(|channel| channel.session.appetite());
        let remote = appetites.filter(|appetite| appetite.is_remote);
        let ahead = remote.map(|appetite| appetite.calls as u64 * appetite.bytes_per_call);
        ahead.max().unwrap_or(0)
    }

    /// Returns what came wrong or not at all although its channel answered, each with the channel: among these groups some are damaged.
    pub(crate) fn suspects(&self) -> Vec<(ChannelId, PackKind, ObjectRef, LiveMap)> {
        let suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let suspects = suspects.iter().map(|((channel, pack), (kind, groups))| {
            (self.channels[*channel].id, *kind, *pack, groups.clone())
        });
        suspects.collect()
    }

    fn suspect(&self, channel: usize, kind: PackKind, pack: ObjectRef, groups: &LiveMap) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        let known = suspects
            .entry((channel, pack))
            .or_insert_with(|| (kind, LiveMap::empty(groups.groups())));
        known.1 = known.1.union(groups);
    }

    fn header(&self, channel: usize, number: PackNumber) -> Option<[u8; HEADER_BYTES]> {
        let headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.get(&(channel, number)).copied()
    }

    fn keep_header(&self, channel: usize, number: PackNumber, header: [u8; HEADER_BYTES]) {
        let mut headers = self.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.insert((channel, number), header);
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
