//! A lost race: whether a change still stands on what another device made, and what of it must turn.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_vault::{
    candidate::ChannelView,
    compose::Base,
    dedup::DedupIndex,
    demand::Packs,
    journal::{part::Part, record::Record},
    layout::Layout,
    name::{ChunkId, ChunkRef, PackNumber},
    pack::{PackLayout, Piece},
    rebase::{Fate, fate, turn},
};

use super::{Change, Naming};
use crate::{engine::Engine, error::ClientError};

/// A change on top of the winner's state.
pub(super) struct Turned {
    pub(super) change: Change,
    /// Whether its records are others now, and have to be written again.
    pub(super) is_turned: bool,
}

impl Engine {
    /// Looks again for every chunk that a change took by dedup. Nothing where one is lost: its file must be read again.
    pub(super) fn rebase(&mut self, mut change: Change) -> Result<Option<Turned>, ClientError> {
        let taken = taken(&change);
        if taken.is_empty() {
            return Ok(Some(Turned {
                change,
                is_turned: false,
            }));
        }
        // Where chunks and packs are: what the revisions say of them is not asked.
        let base = self.replay_part(&Part::default())?;
        let first = self.first()?;
        let Some(view) = self.view(first.id) else {
            return Ok(None);
        };
        let mut layouts = BTreeMap::new();
        self.catalog.reader()?.each_layout(|layout| {
            layouts.insert(layout.number(), layout);
            Ok::<(), crate::catalog::CatalogError>(())
        })?;
        let mut sound = BTreeMap::new();
        for id in self.layout()? {
            sound.insert(id, self.sound(id)?);
        }
        let living = Seen {
            base: &base,
            layouts: &layouts,
            view,
            sound: &sound[&first.id],
        };
        let known = {
            let layout = Layout {
                epoch: 0,
                channels: self.current()?,
            };
            let live = |channel: ChannelId, pack: &ObjectRef| {
                let sound = sound.get(&channel).and_then(|sound| sound.get(pack));
                sound.or_else(|| self.view(channel)?.live(pack))
            };
            DedupIndex::new(&base.state, &layout, layouts.values(), &base.tail, live)
        };
        let mut now_at = BTreeMap::new();
        for chunk in taken {
            // A chunk whose name is not at hand was a tail's: `moved` records lead on from it, or it is lost.
            let layout = layouts.get(&chunk.pack);
            let entry = layout.and_then(|layout| layout.entries().get(chunk.index as usize));
            let id = entry.map_or(ChunkId([0; 32]), |entry| entry.id);
            let here = match fate(chunk, &id, &base.state, &known, &living) {
                Fate::Lives(here) => here,
                // Named again, unless the provider has said that it is freed.
                Fate::LetGo(here) => {
                    let pack = base.state.pack(here.pack, first.id);
                    // What lives and is damaged is no better for being named again.
                    let is_held = |pack: &ObjectRef| {
                        !self.not_held.contains(&pack.root) && !sound[&first.id].contains_key(pack)
                    };
                    match pack.filter(is_held) {
                        Some(_) => here,
                        None => return Ok(None),
                    }
                }
                Fate::Lost => return Ok(None),
            };
            now_at.insert(chunk, here);
        }
        let is_turned = now_at.iter().any(|(was, is)| was != is);
        if is_turned {
            let records = change.records.iter_mut();
            turn(records.map(|(_, record)| record), &now_at);
        }
        Ok(Some(Turned { change, is_turned }))
    }

    /// Remembers that a channel does not hold packs that it was to name: nothing is taken from them again.
    pub(super) fn forget_packs(
        &mut self,
        channel: ChannelId,
        packs: &[ObjectRef],
    ) -> Result<(), ClientError> {
        for pack in packs {
            self.not_held.insert(pack.root);
            self.spool.forget(channel, pack.root)?;
        }
        Ok(())
    }
}

/// Returns whether a change may be made again at all on another state. What lets go, or rewrites the journal, was worked out from the state
/// before.
pub(super) const fn stands(change: &Change) -> bool {
    matches!(change.naming, Naming::Also(_)) && change.merge.is_none() && !change.is_fixed
}

/// Returns the chunks that a change took by dedup: those that its records name and that it did not bring.
fn taken(change: &Change) -> BTreeSet<ChunkRef> {
    let mut own: BTreeSet<PackNumber> = change.layouts.iter().map(PackLayout::number).collect();
    own.extend(change.piece.as_ref().map(Piece::number));
    let mut taken = BTreeSet::new();
    for (_, record) in &change.records {
        if let Record::File { content, .. } = record {
            let extents = content.extents().iter();
            let others = extents.filter(|extent| !own.contains(&extent.first.pack));
            taken.extend(others.flat_map(|extent| extent.chunks()));
        }
    }
    taken
}

/// What the winner's head calls living.
struct Seen<'a> {
    base: &'a Base,
    layouts: &'a BTreeMap<PackNumber, PackLayout>,
    view: &'a ChannelView,
    /// What of packs is sound, where some of what lives is known to be damaged.
    sound: &'a HashMap<ObjectRef, LiveMap>,
}

impl Packs for Seen<'_> {
    fn tail_chunks(&self, number: PackNumber) -> Option<u32> {
        let mut tail = self.base.tail.iter();
        let tail = tail.find(|tail| tail.piece.number() == number)?;
        u32::try_from(tail.piece.entries().len()).ok()
    }

    fn layout(&self, number: PackNumber) -> Option<&PackLayout> {
        self.layouts.get(&number)
    }

    fn live(&self, number: PackNumber) -> Option<&LiveMap> {
        let pack = self.base.state.pack(number, self.view.channel)?;
        let sound = self.sound.get(&pack);
        sound.or_else(|| self.view.live(&pack))
    }
}
