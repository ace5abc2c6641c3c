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
    /// The provider shows a state of before its channel was made the one that decides: nobody has to have seen what it showed since.
    #[error(
        "the provider shows a state of layout {shown} of the store, but decides by layout {decides}: it was rolled back"
    )]
    BeforeLayout {
        /// Layout epoch of the state shown; 0 if it shows none.
        shown: u64,
        /// Epoch of the layout in force, of which the channel is the first.
        decides: u64,
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
        Some(match self {
            Self::Rollback { .. } | Self::Fork { .. } => {
                "both signed heads are kept as evidence; ask the provider, then run `maimo channel repair`"
            }
            Self::BeforeLayout { .. } => "ask the provider, then run `maimo channel repair`",
        })
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

#[cfg(test)]
mod tests {
    use maimo_core::{
        ancestry::AncestryLog, clock::Timestamp, codec::Extensions, inventory::InventoryRef,
    };

    use super::*;
    use crate::testing::{CHANNEL, channel_keys, object};

    /// Returns the heads of a channel that goes on for so long after `before`; `branch` tells two that do apart.
    fn heads(mut before: Vec<SignedHead>, count: usize, branch: u64) -> Vec<SignedHead> {
        let key = channel_keys(1).client;
        for _ in 0..count {
            let roots = before.iter().map(SignedHead::root);
            let head = Head {
                channel: CHANNEL,
                sequence: before.len() as u64 + 1,
                previous: before.last().map_or(RootHash::NONE, SignedHead::root),
                ancestry: log(roots),
                data: InventoryRef::EMPTY,
                vital: InventoryRef::EMPTY,
                commit: object(branch, 512),
                time: Timestamp(0),
                signer: key.public(),
                extensions: Extensions::default(),
            };
            before.push(head.sign(&key).unwrap());
        }
        before
    }

    fn log(roots: impl IntoIterator<Item = RootHash>) -> [u8; 32] {
        let log = AncestryLog::of(roots);
        log.ancestry(log.count()).unwrap().hash()
    }

    /// Proves that the head `of` stands before the last of `heads`.
    fn proof(heads: &[SignedHead], of: u64) -> AncestryProof {
        let before = heads.len() as u64 - 1;
        let log = AncestryLog::of(heads.iter().map(SignedHead::root));
        log.prove(of, before).unwrap()
    }

    #[test]
    fn the_first_head_of_a_channel_never_seen_is_taken_and_none_at_all_as_well() {
        let heads = heads(Vec::new(), 2, 0);
        assert_eq!(accept(None, heads.last(), None), Ok(()));
        assert_eq!(accept(None, None, None), Ok(()));
    }

    #[test]
    fn the_head_seen_is_accepted_and_an_older_one_or_none_is_a_rollback() {
        let heads = heads(Vec::new(), 3, 0);
        let seen = Some(Seen::of(&heads[2]));
        assert_eq!(accept(seen, Some(&heads[2]), None), Ok(()));
        let rollback = |shown| Err(Astray::Rollback { shown, seen: 3 });
        assert_eq!(accept(seen, Some(&heads[1]), None), rollback(2));
        assert_eq!(accept(seen, None, None), rollback(0));
    }

    #[test]
    fn another_head_under_the_number_seen_is_a_fork_whatever_is_proven() {
        let one = heads(Vec::new(), 3, 0);
        let other = heads(one[..2].to_vec(), 1, 1);
        let fork = Err(Astray::Fork { shown: 3, seen: 3 });
        let seen = Some(Seen::of(&one[2]));
        assert_eq!(accept(seen, other.last(), None), fork);
        assert_eq!(accept(seen, other.last(), Some(&proof(&other, 2))), fork);
    }

    #[test]
    fn a_later_head_is_accepted_with_a_proof_that_the_one_seen_is_before_it() {
        let heads = heads(Vec::new(), 7, 0);
        let fork = Err(Astray::Fork { shown: 7, seen: 3 });
        let seen = Some(Seen::of(&heads[2]));
        assert_eq!(accept(seen, heads.last(), Some(&proof(&heads, 3))), Ok(()));
        assert_eq!(accept(seen, heads.last(), None), fork);
        // A proof of another head before this one, or of this one before another.
        assert_eq!(accept(seen, heads.last(), Some(&proof(&heads, 4))), fork);
        assert_eq!(
            accept(seen, heads.last(), Some(&proof(&heads[..6], 3))),
            fork
        );
    }

    #[test]
    fn a_later_head_of_another_branch_is_a_fork() {
        let one = heads(Vec::new(), 3, 0);
        let other = heads(one[..2].to_vec(), 5, 1);
        let fork = Err(Astray::Fork { shown: 7, seen: 3 });
        let seen = Some(Seen::of(&one[2]));
        // All that it can prove is its own third head.
        assert_eq!(accept(seen, other.last(), Some(&proof(&other, 3))), fork);
        let common = Some(Seen::of(&one[1]));
        assert_eq!(
            accept(common, other.last(), Some(&proof(&other, 2))),
            Ok(())
        );
    }
}
