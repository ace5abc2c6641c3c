//! [`DedupIndex`]: which chunks need not be stored again.
//!
//! A chunk is *known* if the layout's first channel holds it living, every other channel holds it living or is owed it, and nothing has
//! found it damaged. What a prune let go of is not known, even while its bytes wait in grace: another device may be the one to prune.

use std::collections::BTreeMap;

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};

use crate::{
    commit::TailPiece,
    journal::state::State,
    layout::Layout,
    name::{ChunkId, ChunkRef},
    pack::PackLayout,
};

/// Where known chunks are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DedupIndex {
    by_id: BTreeMap<ChunkId, ChunkRef>,
}

impl DedupIndex {
    /// Looks over the packs at hand and the tail. `live` gives the living groups of an object on a channel, as that channel's newest
    /// head has them.
    pub fn new<'a, 'm>(
        state: &State,
        layout: &Layout,
        packs: impl IntoIterator<Item = &'a PackLayout>,
        tail: &[TailPiece],
        live: impl Fn(ChannelId, &ObjectRef) -> Option<&'m LiveMap>,
    ) -> Self {
        let mut index = Self::default();
        for pack in packs {
            let number = pack.number();
            let on_channels: Option<Vec<Option<&LiveMap>>> = layout
                .channels
                .iter()
                .enumerate()
                .map(|(place, channel)| match state.pack(number, *channel) {
                    Some(reference) => live(*channel, &reference).map(Some),
                    // Owed: a channel that follows gets every pack that is needed.
                    None if place > 0 => Some(None),
                    None => None,
                })
                .collect();
            let Some(on_channels) = on_channels else {
                continue;
            };
            let on_channels: Vec<&LiveMap> = on_channels.into_iter().flatten().collect();
            for (place, id) in living(pack, &on_channels) {
                let chunk = ChunkRef {
                    pack: number,
                    index: place,
                };
                // A chunk that moved may live on beside what was named again in its old pack; records name the new place only.
                if state.resolve(chunk) == chunk {
                    index.insert(id, chunk);
                }
            }
        }
        for tail in tail {
            for (place, entry) in (0..).zip(tail.piece.entries()) {
                index.insert(
                    entry.id,
                    ChunkRef {
                        pack: tail.piece.number(),
                        index: place,
                    },
                );
            }
        }
        index
    }

    /// Returns where a chunk is, if it is known.
    pub fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        self.by_id.get(id).copied()
    }

    /// Adds a chunk that a draft brings; one already known stays where it is.
    pub fn insert(&mut self, id: ChunkId, chunk: ChunkRef) {
        self.by_id.entry(id).or_insert(chunk);
    }

    /// Takes out what an audit or a read found damaged: from this moment it is stored again when it is met.
    pub fn forget(&mut self, damaged: impl Fn(ChunkRef) -> bool) {
        self.by_id.retain(|_, chunk| !damaged(*chunk));
    }
}

/// Returns the chunks of a pack that live on every channel that has it, by what lives of it on each.
pub fn living<'p>(
    pack: &'p PackLayout,
    on_channels: &'p [&'p LiveMap],
) -> impl Iterator<Item = (u32, ChunkId)> + 'p {
    let all = on_channels.iter().all(|live| live.is_full());
    let lives = move |place: u32| {
        all || pack
            .live_map([place])
            .is_some_and(|needed| on_channels.iter().all(|live| live.contains_all(&needed)))
    };
    (0..)
        .zip(pack.entries())
        .filter(move |(place, _)| lives(*place))
        .map(|(place, entry)| (place, entry.id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::record::Record,
        name::PackNumber,
        pack::Piece,
        testing::{chunk, chunk_id, number, object, pack, piece, replay, without},
    };

    const FIRST: ChannelId = ChannelId([1; 32]);
    const SECOND: ChannelId = ChannelId([2; 32]);
    const CHUNK: usize = 40_000;

    /// Two channels, the pack 1 of three chunks on both, and what lives of it on each.
    struct Scene {
        layout: Layout,
        pack: PackLayout,
        records: Vec<Record>,
        live: BTreeMap<(ChannelId, ObjectRef), LiveMap>,
    }

    impl Scene {
        fn new() -> Self {
            let pack = pack(1, &[CHUNK, CHUNK, CHUNK]);
            let mut scene = Self {
                layout: Layout {
                    epoch: 1,
                    channels: vec![FIRST, SECOND],
                },
                records: Vec::new(),
                live: BTreeMap::new(),
                pack,
            };
            for channel in [FIRST, SECOND] {
                scene.hold(channel, scene.pack.live_map(0..3).unwrap());
            }
            scene
        }

        fn object(&self, channel: ChannelId) -> ObjectRef {
            object(channel.as_bytes()[0].into(), self.pack.length())
        }

        fn hold(&mut self, channel: ChannelId, live: LiveMap) {
            let reference = self.object(channel);
            self.live.insert((channel, reference), live);
            self.records.push(Record::Pack {
                number: number(1),
                channel,
                reference,
            });
        }

        fn index(&self, tail: &[TailPiece]) -> DedupIndex {
            let state = replay(self.records.iter().cloned());
            let live = |channel, pack: &ObjectRef| self.live.get(&(channel, *pack));
            DedupIndex::new(&state, &self.layout, [&self.pack], tail, live)
        }

        fn known(&self) -> Vec<u32> {
            let index = self.index(&[]);
            let known = |place: &u32| index.find(&chunk_id(1, *place)) == Some(chunk(1, *place));
            (0..3).filter(known).collect()
        }
    }

    #[test]
    fn a_chunk_is_known_while_every_channel_holds_it_living() {
        assert_eq!(Scene::new().known(), [0, 1, 2]);
        assert_eq!(Scene::new().index(&[]).find(&chunk_id(2, 0)), None);
    }

    #[test]
    fn a_chunk_that_any_channel_has_let_go_of_is_not_known() {
        for channel in [FIRST, SECOND] {
            let mut scene = Scene::new();
            let rest = without(&scene.pack, 1);
            scene.live.insert((channel, scene.object(channel)), rest);
            assert_eq!(scene.known(), [0, 2]);
            // The whole pack.
            scene.live.remove(&(channel, scene.object(channel)));
            assert_eq!(scene.known(), [0_u32; 0]);
        }
    }

    #[test]
    fn a_following_channel_may_be_owed_a_pack_but_the_first_may_not() {
        let mut scene = Scene::new();
        scene.records.pop();
        assert_eq!(scene.known(), [0, 1, 2]);
        scene.layout.channels.reverse();
        assert_eq!(scene.known(), [0_u32; 0]);
    }

    #[test]
    fn chunks_of_the_tail_are_known_and_a_pack_goes_before_it() {
        let scene = Scene::new();
        let tail = |number: PackNumber, ids: &[ChunkId]| {
            let piece: Piece = piece(number.n, ids);
            TailPiece { sequence: 1, piece }
        };
        let index = scene.index(&[
            tail(number(5), &[chunk_id(5, 0), chunk_id(1, 2)]),
            tail(number(6), &[chunk_id(5, 0)]),
        ]);
        assert_eq!(index.find(&chunk_id(5, 0)), Some(chunk(5, 0)));
        assert_eq!(index.find(&chunk_id(1, 2)), Some(chunk(1, 2)));
    }

    #[test]
    fn a_draft_adds_what_it_brings_and_moves_nothing_that_is_known() {
        let mut index = Scene::new().index(&[]);
        index.insert(chunk_id(8, 0), chunk(8, 0));
        index.insert(chunk_id(1, 0), chunk(8, 1));
        assert_eq!(index.find(&chunk_id(8, 0)), Some(chunk(8, 0)));
        assert_eq!(index.find(&chunk_id(1, 0)), Some(chunk(1, 0)));
    }

    #[test]
    fn what_is_damaged_is_stored_again_when_it_is_met() {
        let mut index = Scene::new().index(&[]);
        index.forget(|damaged| damaged == chunk(1, 1));
        assert_eq!(index.find(&chunk_id(1, 1)), None);
        assert_eq!(index.find(&chunk_id(1, 2)), Some(chunk(1, 2)));
        index.insert(chunk_id(1, 1), chunk(9, 0));
        assert_eq!(index.find(&chunk_id(1, 1)), Some(chunk(9, 0)));
    }
}
