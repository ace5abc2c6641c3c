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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::record::Record,
        testing::{chunk, number, object, replay},
    };

    const FIRST: ChannelId = ChannelId([1; 32]);
    const SECOND: ChannelId = ChannelId([2; 32]);

    fn layout(epoch: u64, channels: &[ChannelId]) -> Record {
        let channels = channels.to_vec();
        Record::Layout { epoch, channels }
    }

    #[test]
    fn the_first_channel_decides_and_the_others_follow() {
        assert_eq!(Layout::of(&State::default()), None);
        let state = replay([layout(2, &[SECOND, FIRST]), layout(1, &[FIRST])]);
        let layout = Layout::of(&state).unwrap();
        assert_eq!((layout.epoch, layout.first()), (2, Some(SECOND)));
        assert_eq!(layout.others(), [FIRST]);
    }

    #[test]
    fn a_channel_lacks_what_is_needed_and_neither_recorded_for_it_nor_in_the_tail() {
        let pack = |n, channel| Record::Pack {
            number: number(n),
            channel,
            reference: object(n, 4096),
        };
        let state = replay([
            pack(1, FIRST),
            pack(2, FIRST),
            pack(4, FIRST),
            pack(1, SECOND),
        ]);
        let mut demand = Demand::default();
        for n in 1..4 {
            demand.add(chunk(n, 0));
        }
        let in_tail = |tail| tail == number(3);
        assert_eq!(lacking(&state, &demand, SECOND, in_tail), [number(2)]);
        assert_eq!(lacking(&state, &demand, FIRST, in_tail), []);
        assert_eq!(lacking(&state, &demand, FIRST, |_| false), [number(3)]);
    }
}
