//! Custody: what a provider holds and owes, as pure functions that its ledger and the model both call.
//!
//! There is no delete and no punch call. A client uploads packs, then moves its head by compare-and-swap; [`admit()`] decides and says
//! which rows change, so that a ledger applies them in one transaction. Nothing here stores anything: the caller passes in a
//! [`ChannelState`], a [`View`] of its rows and the time, and keeps what comes back.
//!
//! ```text
//!              finish an upload               a head names it
//!   (nothing) -----------------> waiting  <--------------------->  live
//!       ^                     free after D    a head lets it go
//!       |                           |         D = now + grace
//!       '---------------------------'
//!          sweep, once D has come
//! ```
//!
//! Invariants, which the tests hold against random histories: what the newest head names is never freed; what waits is not freed
//! before its date; no admitted head raises what is charged beyond the cap; [`Totals`] are the sums of the rows.

use crate::{
    ancestry::Ancestry,
    clock::Timestamp,
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    inventory::InventoryRef,
    receipt::{Acknowledged, LedgerInstance},
    reference::ObjectRef,
};

pub mod admit;
pub mod charge;
pub mod commits;
pub mod held;
mod report;
pub mod sweep;
pub mod terms;
pub mod upload;

pub use self::{
    admit::{Admission, CapExceeded, NotHeld, Refusal, Verdict, admit},
    charge::{Freeing, Totals, held_charge, log_charge},
    held::{Extent, HeldPack, Hold, PackClass},
    sweep::{Swept, sweep_head, sweep_node, sweep_pack, thin_commits},
    terms::{Grace, Terms, TermsError},
    upload::{Begun, Upload, UploadRefusal, begin_upload, expire_upload, finish_upload, put_node},
};

/// What a provider knows of a channel in a fixed number of bytes: all that admission needs besides the rows a move touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelState {
    /// The channel.
    pub channel: ChannelId,
    /// Whose heads it takes; one key for now.
    pub signers: Vec<ClientPublicKey>,
    /// The newest head, or nothing before the first.
    pub standing: Option<Standing>,
    /// The roots of all heads before the newest.
    pub ancestry: Ancestry,
    /// What is held and charged.
    pub totals: Totals,
}

impl ChannelState {
    /// Returns the state of a channel that has no head yet.
    pub fn new(channel: ChannelId, signer: ClientPublicKey) -> Self {
        Self {
            channel,
            signers: Vec::from([signer]),
            standing: None,
            ancestry: Ancestry::empty(),
            totals: Totals::default(),
        }
    }

    /// Returns the newest root; [`RootHash::NONE`] before the first head.
    pub fn root(&self) -> RootHash {
        self.standing
            .as_ref()
            .map_or(RootHash::NONE, |standing| standing.row.root)
    }

    /// Returns the newest head's sequence number; 0 before the first head.
    pub fn sequence(&self) -> u64 {
        self.standing
            .as_ref()
            .map_or(0, |standing| standing.row.sequence)
    }
}

/// The newest head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its row; it is live.
    pub row: HeadRow,
    /// Its inventory of data packs.
    pub data: InventoryRef,
    /// Its inventory of vital packs.
    pub vital: InventoryRef,
}

/// What is kept of one head. Its root is kept for ever besides, for proofs of ancestry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// Its sequence number.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
    /// How many bytes it has with its signature.
    pub length: u64,
    /// Its commit, unless that was thinned out.
    pub commit: Option<ObjectRef>,
    /// When it was admitted, by the provider's clock.
    pub admitted: Timestamp,
    /// How head and commit are held.
    pub hold: Hold,
}

impl HeadRow {
    /// Returns what head and commit are charged.
    pub fn charge(&self) -> u64 {
        log_charge(self.length) + self.commit.map_or(0, |commit| log_charge(commit.length))
    }

    /// Returns what the receipt for this head says, the same whenever it is asked for.
    pub const fn acknowledged(&self, channel: ChannelId, instance: LedgerInstance) -> Acknowledged {
        Acknowledged {
            channel,
            root: self.root,
            sequence: self.sequence,
            time: self.admitted,
            instance,
        }
    }
}

/// What is kept of an inventory's node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRow {
    /// The node.
    pub reference: ObjectRef,
    /// How it is held.
    pub hold: Hold,
}

/// A provider's rows of one channel, as one transaction sees them.
pub trait View {
    /// Returns what is held of a pack that came in whole once; nothing if nothing is.
    fn pack(&self, pack: &ObjectRef) -> Result<Option<HeldPack>, Unavailable>;

    /// Returns the bytes of a node and how it is held; nothing if it is not.
    fn node(&self, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>, Unavailable>;

    /// Returns which bytes wait for which dates, in any order: [`HeldPack::frees`] of all packs, the charges of heads, commits and
    /// nodes that wait. Asked for only when something is refused.
    fn frees(&self) -> Result<Vec<Freeing>, Unavailable>;
}

/// The rows cannot be read or contradict one another: nobody's request is at fault, and nothing was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the provider's ledger cannot be read")]
pub struct Unavailable;

#[cfg(test)]
mod tests;
