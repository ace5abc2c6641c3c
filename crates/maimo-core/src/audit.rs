//! Audits: a random sample of what a channel must hold, proven by hashes up to one root.
//!
//! ```text
//! auditor                                        provider
//!  draw positions, persist the Challenge ------> answer(): walk both inventories to the positions
//!  check() <------------------------- Answer: head, signature, commit, nodes, slices
//! ```
//!
//! A *position* is a rank among the live 4 KiB blocks of a stratum's inventory, in the order of its slots. Positions are drawn in two strata,
//! data and vital: uniform sampling over both would miss the loss of a whole small journal nearly always.
//!
//! Invariant of the check: which packs there are, how long they are and what of them lives is taken from nothing but what the root
//! proves: root, head, inventory references, nodes (whole, hashed, sums added up), entries, and only then slices.

mod answer;
mod challenge;
pub mod confidence;
mod draw;
mod receipt;
mod silence;
mod statement;
mod walk;

use thiserror::Error;

pub use self::{
    answer::{AuditReport, AuditSource, Failed, Failure, StratumReport, answer, check},
    challenge::{Challenge, Stratum},
    draw::draw,
    receipt::{Answered, AuditReceipt, AuditReceiptError},
    silence::Silence,
    statement::{AuditStatement, Stated, StatementError},
    walk::{Located, Target, locate},
};
use crate::{
    codec::ParseError,
    error::{Classify, ErrorKind, Retry},
    head::Head,
    inventory::{InventoryError, InventoryRef},
    reference::ObjectRef,
};

/// The most positions of one stratum in one challenge.
pub const SLICES_MAX: usize = 4096;
/// How many positions of a stratum an audit draws unless told otherwise: see [`confidence`].
pub const SLICES: usize = 460;
/// What of a head an audit needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedHead {
    /// The inventory of data packs.
    pub data: InventoryRef,
    /// The inventory of vital packs.
    pub vital: InventoryRef,
    /// The commit.
    pub commit: ObjectRef,
}

impl From<&Head> for AuditedHead {
    fn from(head: &Head) -> Self {
        Self {
            data: head.data,
            vital: head.vital,
            commit: head.commit,
        }
    }
}

impl AuditedHead {
    /// Returns the inventory of a stratum.
    pub const fn inventory(&self, stratum: Stratum) -> &InventoryRef {
        match stratum {
            Stratum::Data => &self.data,
            Stratum::Vital => &self.vital,
        }
    }
}

/// Why an audit has no outcome, or cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The answer is not in the form of an answer.
    #[error("the answer to the audit cannot be read")]
    Parse(#[from] ParseError),
    /// The head in the answer is not the one that was asked for.
    #[error("the answer brings another head than the root names")]
    WrongHead,
    /// The head does not parse, or its signature is not good.
    #[error("the head in the answer is not acceptable")]
    BadHead,
    /// What the head proves is itself no inventory: its signer is at fault, not who stores it.
    #[error("the inventory under the head does not hold together")]
    Inventory(#[from] InventoryError),
    /// A position past the last live block.
    #[error("position {position} was asked for and {live_blocks} blocks live")]
    OutOfRange {
        /// The position.
        position: u64,
        /// How many blocks live.
        live_blocks: u64,
    },
}

impl Classify for AuditError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::WrongHead => ErrorKind::ProviderMisbehaved,
            Self::BadHead | Self::Inventory(_) | Self::OutOfRange { .. } => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            // An answer that is no answer is asked for again, verbatim, until it counts as missing.
            Self::Parse(_) | Self::WrongHead => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }
}

#[cfg(test)]
mod tests;
