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
    /// The root that the owner kept is the one shown, and no other channel's commit has seen a later head of this channel.
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
    /// The later or other head that another channel's commit witnesses.
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
    let confirmed = if behind.iter().any(|behind| behind.channel == *channel) {
        // A root kept long ago may be the one that the channel was rolled back to.
        Confirmed::No
    } else if kept_root == Some(newest.root) {
        Confirmed::ByRoot
    } else if witnesses(*channel).any(|witness| witness.sequence + 1 >= newest.sequence) {
        // A commit's witness of its own first channel lags by the one commit that it rides on.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::StoreId, testing::WRITER};

    const A: ChannelId = ChannelId([1; 32]);
    const B: ChannelId = ChannelId([2; 32]);

    fn root(channel: ChannelId, sequence: u64) -> RootHash {
        RootHash::of(&[channel.as_bytes(), &sequence.to_le_bytes()[..]].concat())
    }

    fn witness(channel: ChannelId, sequence: u64) -> Witness {
        let root = root(channel, sequence);
        Witness {
            channel,
            sequence,
            root,
        }
    }

    /// What a channel shows with its head `sequence`, which carries the store's state `of_store` of a layout epoch.
    fn shown(
        channel: ChannelId,
        sequence: u64,
        (layout_epoch, of_store): (u64, u64),
        witnesses: &[Witness],
    ) -> (ChannelId, Shown) {
        let store = StorePart {
            store: StoreId([3; 32]),
            sequence: of_store,
            parents: Vec::new(),
            writer: WRITER,
            run: None,
            layout_epoch,
            witnesses: witnesses.to_vec(),
        };
        let root = root(channel, sequence);
        let shown = Shown {
            sequence,
            root,
            store,
        };
        (channel, shown)
    }

    fn choice(channels: impl IntoIterator<Item = (ChannelId, Shown)>) -> Choice {
        choose(&channels.into_iter().collect(), None).unwrap()
    }

    #[test]
    fn the_higher_layout_epoch_wins_then_the_higher_store_sequence_then_the_lower_id() {
        let chosen = |a, b| choice([shown(A, 5, a, &[]), shown(B, 5, b, &[])]).channel;
        assert_eq!(chosen((1, 7), (2, 3)), B);
        assert_eq!(chosen((1, 7), (1, 8)), B);
        assert_eq!(chosen((1, 8), (1, 8)), A);
        assert_eq!(choose(&BTreeMap::new(), None), None);
    }

    #[test]
    fn a_single_channel_is_never_confirmed_by_itself() {
        let alone = shown(A, 5, (1, 5), &[witness(A, 5), witness(A, 4), witness(B, 9)]);
        assert_eq!(choice([alone.clone()]).confirmed, Confirmed::No);
        assert_eq!(choice([alone]).behind, []);
    }

    #[test]
    fn a_channel_is_confirmed_by_another_that_has_seen_its_head_or_the_one_before() {
        let confirmed = |seen| {
            let follower = shown(B, 9, (1, 4), &[witness(A, seen)]);
            choice([shown(A, 5, (1, 5), &[]), follower]).confirmed
        };
        assert_eq!(confirmed(5), Confirmed::ByWitness);
        assert_eq!(confirmed(4), Confirmed::ByWitness);
        assert_eq!(confirmed(3), Confirmed::No);
    }

    #[test]
    fn a_channel_that_shows_less_than_was_seen_of_it_is_behind_and_not_confirmed() {
        let follower = |seen| shown(B, 9, (1, 4), &[seen]);
        let rolled_back = choice([shown(A, 5, (1, 5), &[]), follower(witness(A, 6))]);
        let behind = Behind {
            channel: A,
            shown: 5,
            witness: witness(A, 6),
        };
        assert_eq!(rolled_back.behind, [behind]);
        assert_eq!(rolled_back.confirmed, Confirmed::No);
        // Another root under the number that is shown.
        let other = Witness {
            root: root(B, 0),
            ..witness(A, 5)
        };
        let forked = choice([shown(A, 5, (1, 5), &[]), follower(other)]);
        assert_eq!(forked.behind.len(), 1);
        assert_eq!(forked.confirmed, Confirmed::No);
        // One that merely lags has been seen no further than it shows.
        let lagging = choice([
            shown(A, 5, (1, 5), &[witness(B, 9)]),
            shown(B, 9, (1, 4), &[]),
        ]);
        assert_eq!(lagging.behind, []);
    }

    #[test]
    fn the_root_that_the_owner_kept_confirms_what_is_shown() {
        let channels = BTreeMap::from([shown(A, 5, (1, 5), &[])]);
        let confirmed = |kept| choose(&channels, Some(kept)).unwrap().confirmed;
        assert_eq!(confirmed(root(A, 5)), Confirmed::ByRoot);
        assert_eq!(confirmed(root(A, 4)), Confirmed::No);
    }

    /// The owner wrote a root down a year ago, and the provider was rolled back to just that state: the kept root once hid it.
    #[test]
    fn a_kept_root_does_not_confirm_a_channel_that_another_saw_further_on() {
        let channels = [
            shown(A, 5, (1, 5), &[]),
            shown(B, 9, (1, 4), &[witness(A, 6)]),
        ];
        let choice = choose(&BTreeMap::from(channels), Some(root(A, 5))).unwrap();
        assert_eq!((choice.channel, choice.confirmed), (A, Confirmed::No));
    }
}
