//! How a store is spread over its channels, and what a channel lacks.
//!
//! For now every channel of the layout holds everything (mirrors); the first decides commits. What a channel lacks is computed from what
//! it shows, never queued: a queue can be lost or go stale, what is missing can always be worked out again.

use maimo_core::id::ChannelId;

use crate::{demand::Demand, journal::state::State, name::PackNumber};

/// The channels a store's bytes go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Counts up with each change.
    pub epoch: u64,
    /// The channels, the first one first.
    pub channels: Vec<ChannelId>,
}

impl Layout {
    /// Returns the layout the journal names, or nothing before the first channel.
    pub fn of(state: &State) -> Option<Self> {
        let (epoch, channels) = state.layout();
        (!channels.is_empty()).then(|| Self {
            epoch,
            channels: channels.to_vec(),
        })
    }

    /// Returns the channel whose compare-and-swap decides a commit.
    pub fn first(&self) -> Option<ChannelId> {
        self.channels.first().copied()
    }

    /// Returns the channels that follow the first.
    pub fn others(&self) -> &[ChannelId] {
        self.channels.get(1..).unwrap_or_default()
    }
}

/// Returns the data packs that something is needed of and that `channel` has no object for, or none that is held: what must be uploaded to
/// it, and recorded, before it can follow.
pub fn lacking(
    state: &State,
    demand: &Demand,
    channel: ChannelId,
    in_tail: impl Fn(PackNumber) -> bool,
) -> Vec<PackNumber> {
    demand
        .packs()
        .filter(|number| !in_tail(*number) && state.pack(*number, channel).is_none())
        .collect()
}
