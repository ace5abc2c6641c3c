//! The ledger: the rows by which a provider knows what it holds and owes.
//!
//! It is a *view* of the volumes and their logs, as the catalog is of the journal: a change is in a log before it is here, and the ledger may
//! be lost at any time. No rule is here either: `maimo_core::custody` decides, `changes` calls it and puts the rows that come out of it.
//! `Rows` is one transaction's view of the rows, `Ledger` what gives out such transactions: `SQLite` now (`sqlite`).

use maimo_core::{
    ancestry::NodeHash,
    clock::Timestamp,
    custody::{ChannelState, Freeing, HeadRow, HeldPack, Hold, NodeRow, Terms, Upload},
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    reference::ObjectRef,
};
use thiserror::Error;

use crate::volume::{LogPosition, VolumeError, VolumeId};

pub(crate) mod changes;
pub(crate) mod entry;
pub(crate) mod snapshot;
pub(crate) mod sqlite;
pub(crate) mod view;

/// Why the ledger did not do what was asked: nobody's request is at fault.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// `SQLite` says so.
    #[error("the ledger cannot be read or written")]
    Sqlite(#[from] rusqlite::Error),
    /// The log that the change goes to cannot be written.
    #[error("the log cannot be written")]
    Log(#[from] VolumeError),
    /// The volume whose log the change goes to is not mounted.
    #[error("volume {volume} is not mounted")]
    Unmounted {
        /// The volume.
        volume: VolumeId,
    },
    /// The rows contradict one another or cannot be read.
    #[error("the ledger is damaged: {what}")]
    Damaged {
        /// What is wrong.
        what: &'static str,
    },
}

impl LedgerError {
    /// Returns whether the file is damaged, so that it has to be made anew.
    pub(crate) fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, SchemaChanged, TypeMismatch};
        match self {
            Self::Damaged { .. } => true,
            Self::Log(_) | Self::Unmounted { .. } => false,
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, message)) => {
                // A table that is missing is a plain error to SQLite.
                matches!(
                    error.code,
                    DatabaseCorrupt | NotADatabase | SchemaChanged | TypeMismatch
                ) || message
                    .as_deref()
                    .is_some_and(|text| text.starts_with("no such "))
            }
            Self::Sqlite(error) => matches!(
                error,
                rusqlite::Error::FromSqlConversionFailure(..)
                    | rusqlite::Error::IntegralValueOutOfRange(..)
                    | rusqlite::Error::InvalidColumnType(..)
            ),
        }
    }
}

impl Classify for LedgerError {
    fn kind(&self) -> ErrorKind {
        if self.is_damage() {
            ErrorKind::LocalCorrupt
        } else {
            ErrorKind::LocalIo
        }
    }

    fn retry(&self) -> Retry {
        Retry::AfterWaiting
    }

    fn hint(&self) -> Option<&'static str> {
        if let Self::Log(error) = self {
            return error.hint();
        }
        self.is_damage()
            .then_some("open the provider again: it rebuilds its ledger from the volumes")
    }
}

type Result<T> = core::result::Result<T, LedgerError>;

/// Which channel, in this ledger only: another making of the ledger numbers them anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChannelNumber(pub(crate) i64);

/// The last entry of a log that is in the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) position: LogPosition,
    /// What the entry says, so that a log that was put back from an old image and went on is known for another one.
    pub(crate) digest: [u8; 16],
}

impl Mark {
    pub(crate) fn of(position: LogPosition, kind: u8, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(body);
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        Self { position, digest }
    }
}

/// What is kept of a channel besides what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelRow {
    pub(crate) number: ChannelNumber,
    pub(crate) label: String,
    pub(crate) terms: Terms,
    /// In which volume's log it is.
    pub(crate) log: VolumeId,
    /// How often it went from one log to another: of two logs that have it, the later one counts.
    pub(crate) era: u32,
    pub(crate) registered: Timestamp,
    /// When its client last changed something.
    pub(crate) seen: Timestamp,
    /// When it was last here, to the day.
    pub(crate) met: Timestamp,
    pub(crate) revoked: Option<Revocation>,
    pub(crate) state: ChannelState,
}

/// Since when a client may write no more, and until when it may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Revocation {
    pub(crate) since: Timestamp,
    pub(crate) reads_until: Timestamp,
}

impl ChannelRow {
    /// Returns the client's key.
    pub(crate) fn client(&self) -> ClientPublicKey {
        self.state.signers[0]
    }

    /// Returns whether its client is revoked and may not even read any more: all that is held is to be freed.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.revoked
            .is_some_and(|revoked| revoked.reads_until <= now)
    }
}

/// A pack, and on which volume its file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PackRow {
    pub(crate) held: HeldPack,
    pub(crate) volume: VolumeId,
}

/// A pack that is coming in, and to which volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadRow {
    pub(crate) upload: Upload,
    pub(crate) volume: VolumeId,
}

/// A head with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredHead {
    pub(crate) row: HeadRow,
    pub(crate) signed: Vec<u8>,
    pub(crate) commit: Option<Vec<u8>>,
}

/// Which of the heads that are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum HeadKey {
    Sequence(u64),
    Root(RootHash),
    /// The newest that was admitted by then and whose commit is kept.
    At(Timestamp),
}

/// What is kept of the provider itself and is no channel's row: invitations, where it says it is, what is known of tickets.
///
/// A record is written whole at each change, and the highest version counts, in whatever log it is: so replaying needs no order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    /// Its name among those of its kind; in the log it stands where a channel's does.
    pub(crate) name: [u8; 32],
    pub(crate) version: u64,
    /// In which volume's log it is.
    pub(crate) log: VolumeId,
    pub(crate) body: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Named by its token's hash.
    Invitation,
    /// A signed list of addresses, named by the auth key that signs it.
    Addresses,
    /// What is known of a channel's tickets, named by the channel.
    Tickets,
}

impl RecordKind {
    pub(crate) const fn to_number(self) -> u8 {
        match self {
            Self::Invitation => 1,
            Self::Addresses => 2,
            Self::Tickets => 3,
        }
    }

    pub(crate) const fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Invitation),
            2 => Some(Self::Addresses),
            3 => Some(Self::Tickets),
            _ => None,
        }
    }
}

/// The rows as one transaction sees them, its own changes included.
///
/// A row that is put replaces the one of the same name.
pub(crate) trait Rows {
    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>>;
    fn put_meta(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Up to where the log of a volume is in these rows.
    fn mark(&self, volume: VolumeId) -> Result<Option<Mark>>;
    fn put_mark(&self, volume: VolumeId, mark: &Mark) -> Result<()>;

    fn channels(&self) -> Result<Vec<ChannelId>>;
    /// Channels of which something may be freed by `now`, or whose client changed something after `seen`.
    fn channels_due(&self, now: Timestamp, seen: Timestamp) -> Result<Vec<ChannelId>>;
    fn channel(&self, channel: &ChannelId) -> Result<Option<ChannelRow>>;
    /// Adds a channel; the number in `row` is ignored.
    fn add_channel(&self, row: &ChannelRow) -> Result<()>;
    fn put_channel(&self, row: &ChannelRow) -> Result<()>;

    fn pack(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<Option<PackRow>>;
    fn packs(&self, channel: ChannelNumber) -> Result<Vec<PackRow>>;
    /// Packs of which something may be freed by then.
    fn packs_due(&self, channel: ChannelNumber, now: Timestamp) -> Result<Vec<PackRow>>;
    fn put_pack(&self, channel: ChannelNumber, row: &PackRow) -> Result<()>;
    fn remove_pack(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<()>;

    fn node(&self, channel: ChannelNumber, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>>;
    fn nodes(&self, channel: ChannelNumber) -> Result<Vec<NodeRow>>;
    fn nodes_due(&self, channel: ChannelNumber, now: Timestamp) -> Result<Vec<NodeRow>>;
    fn add_node(&self, channel: ChannelNumber, row: &NodeRow, bytes: &[u8]) -> Result<()>;
    fn put_node(&self, channel: ChannelNumber, row: &NodeRow) -> Result<()>;
    fn remove_node(&self, channel: ChannelNumber, node: &ObjectRef) -> Result<()>;

    fn head(&self, channel: ChannelNumber, key: HeadKey) -> Result<Option<StoredHead>>;
    fn heads(&self, channel: ChannelNumber) -> Result<Vec<HeadRow>>;
    fn add_head(&self, channel: ChannelNumber, head: &StoredHead) -> Result<()>;
    /// Changes how a head is held.
    fn put_head(&self, channel: ChannelNumber, row: &HeadRow) -> Result<()>;
    fn remove_head(&self, channel: ChannelNumber, sequence: u64) -> Result<()>;
    fn remove_commit(&self, channel: ChannelNumber, sequence: u64) -> Result<()>;

    fn upload(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<Option<UploadRow>>;
    fn uploads(&self, channel: ChannelNumber) -> Result<Vec<UploadRow>>;
    fn put_upload(&self, channel: ChannelNumber, row: &UploadRow) -> Result<()>;
    fn remove_upload(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<()>;

    /// Keeps the root of a head that is no longer the newest, and the nodes of the ancestry that it adds.
    fn add_root(
        &self,
        channel: ChannelNumber,
        sequence: u64,
        root: RootHash,
        nodes: &[NodeHash],
    ) -> Result<()>;
    fn put_ancestry_node(
        &self,
        channel: ChannelNumber,
        height: u32,
        place: u64,
        hash: &NodeHash,
    ) -> Result<()>;
    fn ancestry_node(
        &self,
        channel: ChannelNumber,
        height: u32,
        place: u64,
    ) -> Result<Option<NodeHash>>;

    fn roots(&self, channel: ChannelNumber) -> Result<Vec<(u64, RootHash)>>;
    fn ancestry_nodes(&self, channel: ChannelNumber) -> Result<Vec<(u32, u64, NodeHash)>>;
    /// Removes all rows of a channel but its own and its notes on files.
    fn clear(&self, channel: ChannelNumber) -> Result<()>;
    /// About how many bytes the channels in a log would take if it were written again.
    fn log_bytes(&self, log: VolumeId) -> Result<u64>;

    fn record(&self, kind: RecordKind, name: &[u8; 32]) -> Result<Option<Record>>;
    /// All of a kind, the oldest first.
    fn records(&self, kind: RecordKind) -> Result<Vec<Record>>;
    fn records_in(&self, log: VolumeId) -> Result<Vec<Record>>;
    fn put_record(&self, record: &Record) -> Result<()>;
    fn remove_record(&self, kind: RecordKind, name: &[u8; 32]) -> Result<()>;

    /// How many bytes of packs are on a volume or coming to it, outboards included.
    fn used(&self, volume: VolumeId) -> Result<u64>;

    /// Which bytes wait for which dates.
    fn frees(&self, channel: ChannelNumber) -> Result<Vec<Freeing>>;

    fn punches(&self) -> Result<Vec<Punch>>;
    fn put_punch(&self, channel: ChannelNumber, pack: &ObjectRef, volume: VolumeId) -> Result<()>;
    fn remove_punch(&self, punch: &Punch) -> Result<()>;
}

/// A pack whose file may have more than its row names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Punch {
    pub(crate) number: ChannelNumber,
    pub(crate) channel: ChannelId,
    pub(crate) pack: ObjectRef,
    pub(crate) volume: VolumeId,
}

/// What gives out transactions over the rows.
pub(crate) trait Ledger: Send {
    /// Runs `work` in one transaction, which takes effect if it returns `Ok`, all of it or nothing.
    fn transact(&mut self, work: &mut dyn FnMut(&dyn Rows) -> Result<()>) -> Result<()>;
    /// Makes all that took effect durable; returns whether that was possible now.
    fn checkpoint(&mut self) -> Result<bool>;
}
