//! The service: what a provider does for one client, one method a call, with messages that own their bytes.
//!
//! A provider implements [`Session`] for each client it knows; a transport carries the calls. Everything a session returns is hostile until the
//! caller has held it against a root: nothing here checks meanings.
//!
//! Invariant: a call that returned `Ok` is durable at the provider.

mod unasked;

#[doc(hidden)]
pub use self::unasked::unasked;

use core::{fmt, future::Future, pin::Pin, time::Duration};

use bytes::Bytes;
use maimo_core::{
    clock::Timestamp,
    custody::{PackClass, Refusal, Terms, Totals, UploadRefusal},
    error::{Classify, ErrorKind, Retry},
    id::RootHash,
    live_map::LiveMap,
    receipt::LedgerInstance,
    reference::ObjectRef,
    ticket::TicketId,
};
use thiserror::Error;

/// How many bytes of a pack one [`Put`] carries: all but the last range of a pack are this long and begin at a multiple of it.
pub const PUT_BYTES: u64 = 1024 * 1024;
/// How many packs one [`Session::read`] may name.
pub const READ_PACKS_MAX: usize = 1024;
/// How many bytes of packs one [`Session::read`] may ask for.
pub const READ_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How many nodes one [`Session::nodes`] may name.
pub const NODES_MAX: usize = 1024;

/// A call's answer, to be awaited.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = Result<T, ServiceError>> + Send + 'a>>;

/// A provider as one of its clients speaks with it.
///
/// The futures may block their thread: a transport that serves many clients runs each on a thread that may.
pub trait Session: Send + Sync {
    /// Returns the terms, what is charged, and where the head stands.
    fn status(&self) -> Reply<'_, ChannelStatus>;

    /// Takes a range of a pack, in any order; the first declares root and length and reserves room. The pack is held once all of it is durable
    /// and hashes to its root.
    fn put(&self, put: Put) -> Reply<'_, PutReply>;

    /// Takes an encoded inventory node ahead of the move that needs it.
    fn put_node(&self, node: Bytes) -> Reply<'_, ()>;

    /// Moves the head: takes an encoded [`maimo_core::head_move::HeadMove`], returns the encoded [`maimo_core::receipt::Receipt`].
    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes>;

    /// Returns a head with its commit and the roots before it; nothing where there is none.
    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>>;

    /// Returns an encoded [`maimo_core::ancestry::AncestryProof`] that the head of `sequence` is among those before the newest.
    fn prove(&self, sequence: u64) -> Reply<'_, Bytes>;

    /// Returns encoded inventory nodes, in the order asked for; an empty one where it is not held.
    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>>;

    /// Returns one slice (`maimo_core::verify`, whole groups) for each pack asked for, in that order.
    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>>;

    /// Says that much of packs is about to be put or read. A way that opens circuits does so ahead of it; nothing is asked of the provider.
    fn expect_much(&self) {}

    /// Answers an encoded [`maimo_core::audit::Challenge`].
    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes>;

    /// Answers an encoded [`maimo_core::digest::DigestRequest`].
    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]>;

    /// Answers an encoded [`maimo_core::audit::Challenge`] and signs that it did.
    fn audit_stated(&self, challenge: Bytes) -> Reply<'_, StatedAnswer> {
        let _ = challenge;
        Box::pin(async { Err(ServiceError::not_given()) })
    }

    /// Returns the tickets of this channel that the provider has met, or was told that they are revoked.
    fn tickets(&self) -> Reply<'_, Vec<TicketUse>> {
        Box::pin(async { Err(ServiceError::not_given()) })
    }

    /// Makes a ticket of this channel worth nothing, whether the provider has met it or not. `expires` is what stands in it: until then the
    /// provider has to remember. Done again, it is done.
    fn revoke_ticket(&self, ticket: TicketId, expires: Timestamp) -> Reply<'_, ()> {
        let _ = (ticket, expires);
        Box::pin(async { Err(ServiceError::not_given()) })
    }

    /// Returns the provider's list of where it is, encoded and signed ([`maimo_core::address`]); none where it publishes none, as a folder does.
    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        Box::pin(async { Ok(None) })
    }

    /// Returns how this way to the provider likes to be asked. It speaks of the transport, not of the provider, and asks nothing.
    fn appetite(&self) -> Appetite {
        Appetite::LOCAL
    }
}

/// How many calls a way to a provider likes outstanding, and how large.
///
/// Over a network a call waits for a round trip, and several circuits carry several calls: the caller starts up to `calls` and awaits them
/// together. Their futures are independent of one another; dropping one gives up its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appetite {
    /// How many [`Session::put`] or [`Session::read`] calls are to be outstanding at a time; at least 1.
    pub calls: usize,
    /// How many bytes of packs one [`Session::read`] is to ask for; at least a group, at most [`READ_BYTES_MAX`].
    pub bytes_per_call: u64,
    /// Whether the provider is at the other end of a network: what is sent may be cut off, and is not to be made twice.
    pub is_remote: bool,
}

impl Appetite {
    /// A provider in this process: one call after the other, each as large as allowed.
    pub const LOCAL: Self = Self {
        calls: 1,
        bytes_per_call: READ_BYTES_MAX,
        is_remote: false,
    };

    /// A provider at the other end of a network of several circuits.
    pub const NETWORK: Self = Self {
        calls: 16,
        bytes_per_call: PUT_BYTES,
        is_remote: true,
    };
}

/// What a provider says of a channel.
#[derive(Debug, Clone)]
pub struct ChannelStatus {
    /// Cap, reserve and grace.
    pub terms: Terms,
    /// What is held and charged.
    pub totals: Totals,
    /// The newest root; [`RootHash::NONE`] before the first head.
    pub root: RootHash,
    /// Its sequence number; 0 before the first head.
    pub sequence: u64,
    /// The ledger that speaks: another one under the same key means that the provider runs twice.
    pub instance: LedgerInstance,
    /// The provider's clock.
    pub now: Timestamp,
}

/// A range of a pack.
#[derive(Clone)]
pub struct Put {
    /// The pack.
    pub pack: ObjectRef,
    /// What it is for.
    pub class: PackClass,
    /// Where the range begins, in bytes; a multiple of [`PUT_BYTES`].
    pub offset: u64,
    /// The range, [`PUT_BYTES`] long or up to the pack's end; empty only declares the pack and asks what is missing.
    pub bytes: Bytes,
}

impl fmt::Debug for Put {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Put")
            .field("pack", &self.pack)
            .field("offset", &self.offset)
            .field("length", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What is still missing of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReply {
    /// Offsets, ascending, of the ranges still missing, in bytes; none once the pack is held.
    pub missing: Vec<u64>,
}

impl PutReply {
    /// Returns whether the pack is held: durable, and under its name.
    pub const fn is_held(&self) -> bool {
        self.missing.is_empty()
    }
}

/// Which head is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichHead {
    /// The newest.
    Newest,
    /// The one of this sequence number.
    Sequence(u64),
    /// The newest that was admitted by then, by the provider's clock, and whose commit is still held.
    At(Timestamp),
}

/// A head as a provider shows it.
#[derive(Debug, Clone)]
pub struct ShownHead {
    /// The signed head, encoded.
    pub head: Bytes,
    /// The roots before it, encoded ([`maimo_core::ancestry::Ancestry`]).
    pub ancestry: Bytes,
    /// Its commit, sealed; none where it was thinned out.
    pub commit: Option<Bytes>,
    /// When it was admitted, by the provider's clock.
    pub admitted: Timestamp,
}

/// An answer to a challenge, and the provider's word for it.
#[derive(Debug, Clone)]
pub struct StatedAnswer {
    /// The encoded [`maimo_core::audit::AuditStatement`] on the answer.
    pub statement: Bytes,
    /// The encoded answer.
    pub answer: Bytes,
}

/// What a provider knows of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketUse {
    /// Which.
    pub id: TicketId,
    /// From when on it is worth nothing anyway.
    pub expires: Timestamp,
    /// When the provider met it, or heard that it is revoked.
    pub met: Timestamp,
    /// How many bytes of answers were asked for with it.
    pub bytes: u64,
    /// How many slices.
    pub slices: u64,
    /// Whether its client revoked it.
    pub is_revoked: bool,
}

/// How many tickets of a channel a provider remembers.
pub const TICKETS_MAX: usize = 64;

/// Groups of a pack to be read.
#[derive(Debug, Clone)]
pub struct Read {
    /// The pack.
    pub pack: ObjectRef,
    /// Which of its groups.
    pub groups: LiveMap,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// The provider knows no such client, or no longer.
    #[error("the provider does not know this client")]
    UnknownClient,
    /// The provider has revoked this client's access.
    #[error("the provider has revoked this client's access")]
    Revoked,
    /// The invitation is not taken: used by another, expired, withdrawn, or none of this provider's.
    #[error("the invitation is refused: {detail}")]
    InvitationRefused {
        /// Why, as far as one may know.
        detail: String,
    },
    /// The ticket is worth nothing here, or no longer.
    #[error("the ticket is refused: {detail}")]
    TicketRefused {
        /// Why.
        detail: String,
    },
    /// Whoever answers has another key than the provider that was asked for.
    #[error("another provider answers at this address")]
    OtherProvider,
    /// This node does not speak with addresses of that kind.
    #[error("this node does not connect there: {detail}")]
    NotAllowed {
        /// Why.
        detail: String,
    },
    /// Tor does not work here.
    #[error("tor does not work: {detail}")]
    TorUnavailable {
        /// Why.
        detail: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// The head does not move.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The pack or node is not taken.
    #[error(transparent)]
    UploadRefused(#[from] UploadRefusal),
    /// The bytes that came in whole are not those of the name given.
    #[error("what was sent does not hash to its name")]
    WrongBytes,
    /// The provider does not hold it.
    #[error("the provider does not hold {what}")]
    NotHeld {
        /// What was asked for, without its name.
        what: &'static str,
    },
    /// The provider found its own copy damaged.
    #[error("the provider's copy of {what} is damaged: {detail}")]
    Damaged {
        /// What was asked for.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The provider's disks have no room, whatever the cap says.
    #[error("the provider's disk is full: {detail}")]
    DiskFull {
        /// Which.
        detail: String,
    },
    /// The provider cannot serve now: a volume is not mounted, a disk fails, a ledger cannot be read.
    #[error("the provider cannot serve: {detail}")]
    Unavailable {
        /// Why.
        detail: String,
    },
    /// The request is not one.
    #[error("the request is not allowed: {detail}")]
    BadRequest {
        /// What is wrong.
        detail: String,
    },
    /// Too many requests: come back later.
    #[error("the provider is busy")]
    Busy(Duration),
    /// The provider does not keep to the protocol.
    #[error("the provider misbehaves: {detail}")]
    Misbehaved {
        /// How.
        detail: String,
    },
    /// The provider does not answer.
    #[error("the provider cannot be reached: {detail}")]
    Offline {
        /// What was tried and how it ended.
        detail: String,
    },
}

impl ServiceError {
    /// Returns what is said to who asks for what it has no right to, or what this provider does not do.
    pub fn not_given() -> Self {
        Self::BadRequest {
            detail: "it is not for this caller to ask".to_owned(),
        }
    }
}

impl Classify for ServiceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Refused(refusal) => refusal.kind(),
            Self::UploadRefused(refusal) => refusal.kind(),
            Self::UnknownClient
            | Self::Revoked
            | Self::InvitationRefused { .. }
            | Self::TicketRefused { .. }
            | Self::DiskFull { .. }
            | Self::Unavailable { .. }
            | Self::Busy(_) => ErrorKind::ProviderRefused,
            Self::WrongBytes | Self::BadRequest { .. } => ErrorKind::Bug,
            Self::NotHeld { .. }
            | Self::Damaged { .. }
            | Self::OtherProvider
            | Self::Misbehaved { .. } => ErrorKind::ProviderMisbehaved,
            Self::NotAllowed { .. } => ErrorKind::Config,
            Self::TorUnavailable { .. } => ErrorKind::TorUnavailable,
            Self::Offline { .. } => ErrorKind::Network,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Refused(refusal) => refusal.retry(),
            Self::UploadRefused(refusal) => refusal.retry(),
            Self::WrongBytes => Retry::Immediate,
            Self::Unavailable { .. }
            | Self::Offline { .. }
            | Self::TorUnavailable { .. }
            | Self::DiskFull { .. } => Retry::AfterWaiting,
            Self::Busy(pause) => Retry::After(*pause),
            Self::UnknownClient
            | Self::Revoked
            | Self::InvitationRefused { .. }
            | Self::TicketRefused { .. }
            | Self::OtherProvider
            | Self::NotAllowed { .. }
            | Self::NotHeld { .. }
            | Self::Damaged { .. }
            | Self::Misbehaved { .. }
            | Self::BadRequest { .. } => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Refused(refusal) => refusal.hint(),
            Self::UploadRefused(refusal) => refusal.hint(),
            Self::UnknownClient => {
                Some("ask the provider for an invitation, or whether access was revoked")
            }
            Self::Revoked => Some(
                "ask the provider; until its grace is over, if that was not cut short, what is stored can be retrieved",
            ),
            Self::InvitationRefused { .. } => Some("ask the provider for a new invitation"),
            Self::TicketRefused { .. } => Some("ask the owner of the store for a new ticket"),
            Self::OtherProvider => {
                Some("ask the provider, on another way, whether the address is still theirs")
            }
            Self::NotAllowed { .. } => Some("see `maimo config show` for the transport in use"),
            Self::TorUnavailable { hint, .. } => Some(hint),
            Self::NotHeld { .. } | Self::Damaged { .. } => {
                Some("run `maimo verify` to see what is lost")
            }
            Self::DiskFull { .. } => Some("free space on the provider's disk, or add a volume"),
            Self::Unavailable { .. } => Some(
                "is the provider's disk mounted and readable, and does nothing else use it? then try again",
            ),
            Self::Offline { .. } => Some("check the address, then try again"),
            Self::Misbehaved { .. } => Some("does the provider run the same version of Maimo?"),
            _ => None,
        }
    }
}
