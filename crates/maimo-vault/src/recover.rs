//! Recovery: which of the states that channels show is the store's newest, and what vouches for that.

use std::collections::BTreeMap;

use maimo_core::id::{ChannelId, RootHash};

use crate::commit::{StorePart, Witness};

/// What one channel shows to a recovering client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Sequence number of its head.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
    /// The store's part of the commit.
    pub store: StorePart,
}

/// What vouches that a channel showed its newest state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Confirmed {
    /// Nothing: "the newest state this provider shows".
    No,
    /// The root that the owner kept is the one shown.
    ByRoot,
    /// No other channel's commit has seen a later head of this channel, and at least one has seen this one or the one before it.
    ByWitness,
}

/// A channel that shows less than was seen of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The channel.
    pub channel: ChannelId,
    /// Sequence number of the head it shows.
    pub shown: u64,
    /// The later head that another channel's commit, or the owner's kept root, witnesses.
    pub witness: Witness,
}

/// The outcome of looking at what all channels show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The channel whose commit is the store's newest.
    pub channel: ChannelId,
    /// What vouches for it.
    pub confirmed: Confirmed,
    /// Channels that show less than was seen of them: rolled back, not merely lagging.
    pub behind: Vec<Behind>,
}

/// Chooses the newest state: the highest layout epoch, then the highest store sequence, then the lowest channel id.
///
/// `kept_root` is the 32 bytes the owner kept of some channel, if any. Returns nothing where no channel shows anything.
pub fn choose(shown: &BTreeMap<ChannelId, Shown>, kept_root: Option<RootHash>) -> Option<Choice> {
    let (channel, newest) = shown.iter().max_by_key(|(channel, shown)| {
        (
            shown.store.layout_epoch,
            shown.store.sequence,
            core::cmp::Reverse(**channel),
        )
    })?;
    let witnesses = |of: ChannelId| {
        shown
            .iter()
            .filter(move |(by, _)| **by != of)
            .flat_map(|(_, shown)| &shown.store.witnesses)
            .filter(move |witness| witness.channel == of)
    };
    let behind = shown
        .iter()
        .filter_map(|(channel, shown)| {
            let witness = witnesses(*channel).max_by_key(|witness| witness.sequence)?;
            let contradicts = witness.sequence == shown.sequence && witness.root != shown.root;
            (witness.sequence > shown.sequence || contradicts).then_some(Behind {
                channel: *channel,
                shown: shown.sequence,
                witness: *witness,
            })
        })
        .collect::<Vec<_>>();
    let confirmed = if kept_root == Some(newest.root) {
        Confirmed::ByRoot
    } else if !behind.iter().any(|behind| behind.channel == *channel)
        // A commit's witness of its own first channel lags by the one commit that it rides on.
        && witnesses(*channel).any(|witness| witness.sequence + 1 >= newest.sequence)
    {
        Confirmed::ByWitness
    } else {
        Confirmed::No
    };
    Some(Choice {
        channel: *channel,
        confirmed,
        behind,
    })
}
