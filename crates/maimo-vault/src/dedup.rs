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
            for (place, entry) in (0..).zip(pack.entries()) {
                let known = pack.live_map([place]).is_some_and(|needed| {
                    let mut maps = on_channels.iter().flatten();
                    maps.all(|live| live.contains_all(&needed))
                });
                if known {
                    index.insert(
                        entry.id,
                        ChunkRef {
                            pack: number,
                            index: place,
                        },
                    );
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
