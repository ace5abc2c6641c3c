//! Descent: whether a head that a provider shows follows the last root this client saw.
//!
//! *Seen* is a root with a receipt, or one read as a head; a candidate that was sent and never answered is not. A provider that shows an
//! older head, or one on another branch, is either restored from an old image or lying; the client says so and goes no further.

use maimo_core::{
    ancestry::AncestryProof,
    error::{Classify, ErrorKind, Retry},
    head::{Head, SignedHead},
    id::RootHash,
};
use thiserror::Error;

/// The last root a client saw on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// The head's sequence number.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
}

impl Seen {
    /// Returns what seeing `head` means.
    pub fn of(head: &SignedHead) -> Self {
        Self {
            sequence: head.head().sequence,
            root: head.root(),
        }
    }
}

/// A head that does not follow what was seen: exit code 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Astray {
    /// The provider shows an older state.
    #[error(
        "the provider shows state {shown}, but state {seen} was seen before: it was rolled back"
    )]
    Rollback {
        /// Sequence number of the head shown; 0 if it shows none.
        shown: u64,
        /// Sequence number of the last head seen.
        seen: u64,
    },
    /// The provider shows another state under the same number, or cannot prove that its state follows the one seen.
    #[error(
        "state {shown} of the provider does not follow state {seen}, which was seen before: it was forked"
    )]
    Fork {
        /// Sequence number of the head shown.
        shown: u64,
        /// Sequence number of the last head seen.
        seen: u64,
    },
}

impl Classify for Astray {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ProviderMisbehaved
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        Some(
            "both signed heads are kept as evidence; ask the provider, then run `maimo channel repair`",
        )
    }
}

/// Returns whether `head`, which a provider shows, may take the place of what was seen.
///
/// `proof` proves that the root seen is among the roots before `head`; it is needed unless the head is the one seen or the channel's
/// first.
///
/// # Errors
///
/// [`Astray`], where the head does not follow.
pub fn accept(
    seen: Option<Seen>,
    head: Option<&SignedHead>,
    proof: Option<&AncestryProof>,
) -> Result<(), Astray> {
    let Some(seen) = seen else {
        return Ok(());
    };
    let Some(signed) = head else {
        return Err(Astray::Rollback {
            shown: 0,
            seen: seen.sequence,
        });
    };
    let head: &Head = signed.head();
    let shown = head.sequence;
    let fork = Astray::Fork {
        shown,
        seen: seen.sequence,
    };
    if shown < seen.sequence {
        return Err(Astray::Rollback {
            shown,
            seen: seen.sequence,
        });
    }
    if shown == seen.sequence {
        return if signed.root() == seen.root {
            Ok(())
        } else {
            Err(fork)
        };
    }
    let proven = proof.is_some_and(|proof| {
        proof
            .check(seen.sequence, seen.root, shown, &head.ancestry)
            .is_ok()
    });
    if proven { Ok(()) } else { Err(fork) }
}
