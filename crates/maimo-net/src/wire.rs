//! The bytes of every request and response, and of every error a provider answers with; `docs/protocol.md` has them as tables.
//!
//! What a message means is not known here, nor what carries it: a message is a whole body. All is explicit, little-endian and read to the
//! last byte; what parses, encodes to the same bytes again. Objects that `maimo_core` encodes are carried as they are, under their own
//! maxima. Long bytes are never copied: a message's head and what follows it are apart when sent, and slices of one buffer when read.
//!
//! Invariant: no body is longer than its [`Call`] says, so that who reads one can refuse it by its length before it has a buffer.

mod error;
mod heads;
mod lists;
mod put;
mod redeem;
mod status;
mod ticket;

use maimo_core::{
    ancestry::AncestryProof,
    audit::SLICES_MAX,
    codec::{ParseError, Prelude},
    digest::DigestRequest,
    head::{COMMIT_BYTES_MAX, Head},
    head_move::HeadMove,
    inventory::Node,
    receipt::Receipt,
    reference::ObjectRef,
    ticket::Ticket,
    units::PACK_GROUPS_MAX,
};

pub use self::{
    error::ERROR_BYTES_MAX,
    heads::{encode_sequence, encode_shown, parse_sequence, parse_shown},
    lists::{
        encode_lengths, encode_nodes, encode_reads, parse_nodes, parse_parts, parse_reads,
        parse_slices, slice_bytes_max,
    },
    put::PutHead,
    redeem::{encode_addresses, encode_token, parse_addresses, parse_token},
    ticket::{
        encode_revocation, encode_statement, encode_tickets, parse_revocation, parse_stated,
        parse_tickets,
    },
};
use crate::service::{ChannelStatus, PUT_BYTES, PutReply, WhichHead};

/// The calls there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// [`crate::service::Session::status`]: nothing, then a [`ChannelStatus`].
    Status,
    /// [`crate::service::Session::put`]: a [`crate::service::Put`], then a [`PutReply`].
    Put,
    /// [`crate::service::Session::put_node`]: a node, then nothing.
    PutNode,
    /// [`crate::service::Session::move_head`]: a [`HeadMove`], then a [`Receipt`].
    MoveHead,
    /// [`crate::service::Session::head`]: a [`WhichHead`], then [`parse_shown`].
    Head,
    /// [`crate::service::Session::prove`]: [`parse_sequence`], then an [`AncestryProof`].
    Prove,
    /// [`crate::service::Session::nodes`]: [`parse_nodes`], then [`parse_parts`].
    Nodes,
    /// [`crate::service::Session::read`]: [`parse_reads`], then [`parse_slices`].
    Read,
    /// [`crate::service::Session::audit`]: a [`maimo_core::audit::Challenge`], then its answer.
    Audit,
    /// [`crate::service::Session::digest`]: a [`DigestRequest`], then 32 bytes.
    Digest,
    /// [`crate::connect::Provider::redeem`]: [`parse_token`], then a [`crate::connect::Welcome`].
    Redeem,
    /// [`crate::connect::Provider::addresses`]: nothing, then [`parse_addresses`].
    Addresses,
    /// [`crate::connect::Provider::audit_session`]: a [`Ticket`], then nothing.
    Present,
    /// [`crate::service::Session::audit_stated`]: a [`maimo_core::audit::Challenge`], then [`parse_stated`].
    AuditStated,
    /// [`crate::service::Session::tickets`]: nothing, then [`parse_tickets`].
    Tickets,
    /// [`crate::service::Session::revoke_ticket`]: [`parse_revocation`], then nothing.
    RevokeTicket,
}

impl Call {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Status,
        Self::Put,
        Self::PutNode,
        Self::MoveHead,
        Self::Head,
        Self::Prove,
        Self::Nodes,
        Self::Read,
        Self::Audit,
        Self::Digest,
        Self::Redeem,
        Self::Addresses,
        Self::Present,
        Self::AuditStated,
        Self::Tickets,
        Self::RevokeTicket,
    ];

    /// Returns its path.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Status => "/v1/status",
            Self::Put => "/v1/put",
            Self::PutNode => "/v1/put-node",
            Self::MoveHead => "/v1/move-head",
            Self::Head => "/v1/head",
            Self::Prove => "/v1/prove",
            Self::Nodes => "/v1/nodes",
            Self::Read => "/v1/read",
            Self::Audit => "/v1/audit",
            Self::Digest => "/v1/digest",
            Self::Redeem => "/v1/redeem",
            Self::Addresses => "/v1/addresses",
            Self::Present => "/v1/present-ticket",
            Self::AuditStated => "/v1/audit-stated",
            Self::Tickets => "/v1/tickets",
            Self::RevokeTicket => "/v1/revoke-ticket",
        }
    }

    /// Returns the call of a path.
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }

    /// Returns whether an auditor may make it, with a ticket and nothing else.
    pub const fn is_for_auditors(self) -> bool {
        matches!(
            self,
            Self::Head | Self::Prove | Self::Nodes | Self::AuditStated
        )
    }

    /// Returns how many bytes a request has at most.
    pub const fn request_bytes_max(self) -> usize {
        match self {
            Self::Status | Self::Addresses | Self::Tickets => 0,
            Self::Put => PutHead::LENGTH + PUT_RANGE_BYTES,
            Self::PutNode => Node::BYTES_MAX,
            Self::MoveHead => HeadMove::LENGTH_MAX,
            Self::Head => WhichHead::LENGTH_MAX,
            Self::Prove => heads::SEQUENCE_BYTES,
            Self::Nodes => lists::NODES_REQUEST_MAX,
            Self::Read => lists::READ_REQUEST_MAX,
            Self::Audit | Self::AuditStated => CHALLENGE_BYTES_MAX,
            Self::Digest => DIGEST_REQUEST_MAX,
            Self::Redeem => redeem::TOKEN_BYTES,
            Self::Present => Ticket::LENGTH_MAX,
            Self::RevokeTicket => ticket::REVOCATION_BYTES,
        }
    }

    /// Returns how many bytes the response to any request has at most; who asked often knows a lower maximum for its own request:
    /// [`slice_bytes_max`], [`nodes_bytes_max`], [`audit_bytes_max`]. An error has at most [`ERROR_BYTES_MAX`].
    pub const fn response_bytes_max(self) -> usize {
        match self {
            Self::Status => ChannelStatus::LENGTH_MAX,
            Self::Put => PutReply::LENGTH_MAX,
            Self::PutNode | Self::Present | Self::RevokeTicket => 0,
            Self::MoveHead => Receipt::LENGTH_MAX,
            Self::Head => heads::SHOWN_BYTES_MAX,
            Self::Prove => AncestryProof::LENGTH_MAX,
            Self::Nodes => lists::NODES_RESPONSE_MAX,
            Self::Read => lists::READ_RESPONSE_MAX,
            Self::Audit => audit_bytes_max(2 * SLICES_MAX),
            Self::Digest => DIGEST_BYTES,
            Self::Redeem => redeem::WELCOME_BYTES_MAX,
            Self::Addresses => redeem::ADDRESSES_BYTES_MAX,
            Self::AuditStated => stated_bytes_max(2 * SLICES_MAX),
            Self::Tickets => ticket::TICKETS_BYTES_MAX,
        }
    }
}

/// [`COMMIT_BYTES_MAX`] as lengths in memory are counted.
const COMMIT_BYTES: usize = 64 * 1024;
const _: () = assert!(COMMIT_BYTES as u64 == COMMIT_BYTES_MAX);

/// How many bytes a possession digest has.
pub const DIGEST_BYTES: usize = 32;

/// [`PUT_BYTES`] as lengths in memory are counted.
const PUT_RANGE_BYTES: usize = 1024 * 1024;
const _: () = assert!(PUT_RANGE_BYTES as u64 == PUT_BYTES);

/// The longest varint, in bytes.
const VARINT_BYTES: usize = 10;
/// The longest live map, in bytes: the form, then a bit for each group.
const MAP_BYTES_MAX: usize = maimo_core::live_map::encoded_bytes_max(PACK_GROUPS_MAX);

/// Prelude, root, and for each stratum a count and the positions.
const CHALLENGE_BYTES_MAX: usize =
    Prelude::LENGTH + 32 + 2 * (VARINT_BYTES + SLICES_MAX * VARINT_BYTES);

/// Prelude, key, count, and for each pack its reference and a map.
const DIGEST_REQUEST_MAX: usize = Prelude::LENGTH
    + 32
    + VARINT_BYTES
    + DigestRequest::PACKS_MAX * (32 + VARINT_BYTES + MAP_BYTES_MAX);

/// Returns how many bytes the answer to an audit of so many positions, in both strata together, has at most.
pub const fn audit_bytes_max(positions: usize) -> usize {
    AUDIT_FIXED_BYTES + positions * AUDIT_POSITION_BYTES
}

/// Returns how many bytes the answer to so many positions has at most, the statement on it before it.
pub const fn stated_bytes_max(positions: usize) -> usize {
    ticket::STATEMENT_BYTES_MAX + audit_bytes_max(positions)
}

/// Prelude, head, signature, commit, and what stands before each.
const AUDIT_FIXED_BYTES: usize = 4096 + Head::LENGTH_MAX + COMMIT_BYTES;
/// A leaf, the nodes above it (32 entries of 55 bytes each), and a slice: a block, 64 bytes for each of the 16 levels above a pack's leaves and
/// for two more nodes inside the block, and what stands before each.
const AUDIT_POSITION_BYTES: usize =
    Node::BYTES_MAX + Node::LEVEL_MAX as usize * (64 + 32 * 55) + 4096 + 18 * 64 + 64;

/// Returns how many bytes the response to a request for these nodes has at most.
pub fn nodes_bytes_max(nodes: &[ObjectRef]) -> u64 {
    let longest = |node: &ObjectRef| lists::LENGTH_BYTES as u64 + node.length;
    nodes.iter().map(longest).fold(0, u64::saturating_add)
}

/// Returns an error if a body takes more than `max` bytes.
const fn check_length(length: usize, max: usize, what: &'static str) -> Result<(), ParseError> {
    if length > max {
        return Err(ParseError::TooLarge {
            what,
            found: length as u64,
            max: max as u64,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
