//! The chunks that need not be stored again: those that live on every channel, and those of packs on their way.
//!
//! Half of each chunk's id and its place, 24 bytes, made from the catalog when the first chunk is asked for: a run that finds nothing new
//! never makes it. Ids are keyed hashes, so nobody can choose two whose first 128 bits are the same.

use std::{
    collections::HashMap,
    sync::{Mutex, OnceLock, PoisonError, RwLock},
};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_vault::{
    candidate::ChannelView,
    commit::TailPiece,
    dedup::living,
    name::{ChunkId, ChunkRef, PackNumber},
    pack::PackLayout,
};

use crate::{catalog::Reader, engine::Engine, error::ClientError, pipeline::KnownChunks};

/// The look-up.
pub(super) struct Known {
    index: OnceLock<RwLock<Index>>,
    /// What the index is made from, until it is.
    source: Mutex<Option<Source>>,
    failed: Mutex<Option<ClientError>>,
}

#[derive(Default)]
struct Index {
    /// What the store had when the index was made, ascending by key: a sorted list takes half of what a table does.
    stored: Vec<Place>,
    /// What was added since.
    added: HashMap<[u8; 16], (u32, u32)>,
    packs: Vec<PackNumber>,
}

/// How many chunks are added before they are put in order with the others.
const ADDED_MAX: usize = 1 << 18;
/// For how many revisions room is made at once.
const REVISIONS_RESERVED_MAX: usize = 1 << 24;

/// Half of a chunk's id, which of the packs it is in, and where.
type Place = ([u8; 16], u32, u32);

struct Source {
    reader: Reader,
    /// The layout's channels in order, each as its newest head has it.
    views: Vec<(ChannelId, Option<ChannelView>)>,
    /// What of packs is sound, where some of what lives is known to be damaged: by channel, in the same order.
    sound: Vec<HashMap<ObjectRef, LiveMap>>,
    spooled: Vec<PackLayout>,
    tail: Vec<TailPiece>,
}

impl Known {
    pub(super) fn new(
        engine: &Engine,
        channels: &[ChannelId],
        spooled: Vec<PackLayout>,
        tail: &[TailPiece],
    ) -> Result<Self, ClientError> {
        let view = |id: &ChannelId| (*id, engine.view(*id).cloned());
        let sound = channels.iter().map(|id| engine.sound(*id));
        let source = Source {
            reader: engine.catalog.reader()?,
            views: channels.iter().map(view).collect(),
            sound: sound.collect::<Result<_, _>>()?,
            spooled,
            tail: tail.to_vec(),
        };
        Ok(Self {
            index: OnceLock::new(),
            source: Mutex::new(Some(source)),
            failed: Mutex::new(None),
        })
    }

    /// Adds the chunks of a pack that has arrived.
    pub(super) fn add(&self, layout: &PackLayout) {
        let mut index = self.index().write().unwrap_or_else(PoisonError::into_inner);
        let all = (0..).zip(layout.entries());
        index.add(layout.number(), all.map(|(place, entry)| (place, entry.id)));
    }

    /// Returns what went wrong while the index was made, if anything did: it knew nothing then.
    pub(super) fn check(&self) -> Result<(), ClientError> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.take().map_or(Ok(()), Err)
    }

    fn index(&self) -> &RwLock<Index> {
        self.index.get_or_init(|| {
            let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
            let made = source.take().map(Source::index).transpose();
            let made = made.map(Option::unwrap_or_default);
            RwLock::new(made.unwrap_or_else(|error| {
                *self.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Index::default()
            }))
        })
    }
}

impl KnownChunks for Known {
    fn find(&self, id: &ChunkId) -> Option<ChunkRef> {
        let index = self.index().read().unwrap_or_else(PoisonError::into_inner);
        let (pack, place) = index.place(&key(id))?;
        Some(ChunkRef {
            pack: *index.packs.get(pack as usize)?,
            index: place,
        })
    }
}

impl Index {
    fn place(&self, key: &[u8; 16]) -> Option<(u32, u32)> {
        let stored = self.stored.partition_point(|(known, ..)| known < key);
        let stored = self.stored.get(stored).filter(|(known, ..)| known == key);
        stored
            .map(|(_, pack, place)| (*pack, *place))
            .or_else(|| self.added.get(key).copied())
    }

    /// Adds chunks of a pack; what is known already stays where it is.
    fn add(&mut self, number: PackNumber, chunks: impl Iterator<Item = (u32, ChunkId)>) {
        let Some(pack) = self.name(number) else {
            return;
        };
        for (place, id) in chunks {
            let key = key(&id);
            if self.place(&key).is_none() {
                self.added.insert(key, (pack, place));
            }
        }
        if self.added.len() > ADDED_MAX {
            let added = self.added.drain();
            self.stored
                .extend(added.map(|(key, (pack, place))| (key, pack, place)));
            self.added.shrink_to_fit();
            self.order();
        }
    }

    /// Adds chunks of a pack to what is to be put in order.
    fn gather(&mut self, number: PackNumber, chunks: impl Iterator<Item = (u32, ChunkId)>) {
        if let Some(pack) = self.name(number) {
            let places = chunks.map(|(place, id)| (key(&id), pack, place));
            self.stored.extend(places);
        }
    }

    /// Puts what was gathered in order; of several places of a chunk the first stays.
    fn order(&mut self) {
        self.stored.sort_unstable();
        self.stored.dedup_by_key(|(key, ..)| *key);
    }

    fn name(&mut self, number: PackNumber) -> Option<u32> {
        let pack = u32::try_from(self.packs.len()).ok()?;
        self.packs.push(number);
        Some(pack)
    }
}

impl Source {
    fn index(self) -> Result<Index, ClientError> {
        let mut index = Index::default();
        // About as many as there are revisions, in a store of small files; one of large files has fewer chunks than memory.
        let revisions = usize::try_from(self.reader.totals()?.revisions).unwrap_or(0);
        index.stored.reserve(revisions.min(REVISIONS_RESERVED_MAX));
        let mut objects: Vec<HashMap<PackNumber, ObjectRef>> = Vec::new();
        for (channel, _) in &self.views {
            objects.push(self.reader.packs(*channel)?.into_iter().collect());
        }
        self.reader.each_layout(|layout| {
            let number = layout.number();
            let mut on_channels = Vec::new();
            for (place, ((_, view), objects)) in self.views.iter().zip(&objects).enumerate() {
                let object = objects.get(&number);
                let live = object.zip(view.as_ref()).and_then(|(object, view)| {
                    // Damaged is as good as not there, from the moment it is known.
                    let sound = self.sound[place].get(object);
                    sound.or_else(|| view.live(object))
                });
                match (live, object) {
                    (Some(live), _) => on_channels.push(live),
                    // Owed: a channel that follows gets every pack that is needed.
                    (None, None) if place > 0 => {}
                    _ => return Ok(()),
                }
            }
            let mut here = Vec::new();
            for (place, id) in living(&layout, &on_channels) {
                let chunk = ChunkRef {
                    pack: number,
                    index: place,
                };
                // A chunk that moved may live on beside what was named again in its old pack; records name the new place only.
                if self.reader.resolve(chunk)? == chunk {
                    here.push((place, id));
                }
            }
            index.gather(number, here.into_iter());
            Ok::<(), ClientError>(())
        })?;
        index.order();
        for piece in &self.tail {
            let entries = (0..).zip(piece.piece.entries());
            let chunks = entries.map(|(place, entry)| (place, entry.id));
            index.add(piece.piece.number(), chunks);
        }
        for layout in &self.spooled {
            let entries = (0..).zip(layout.entries());
            index.add(
                layout.number(),
                entries.map(|(place, entry)| (place, entry.id)),
            );
        }
        Ok(index)
    }
}

fn key(id: &ChunkId) -> [u8; 16] {
    let mut key = [0; 16];
    key.copy_from_slice(&id.0[..16]);
    key
}

#[cfg(test)]
mod tests {
    use maimo_vault::name::WriterId;

    use super::*;

    fn id(n: usize) -> ChunkId {
        ChunkId(*blake3::hash(&n.to_le_bytes()).as_bytes())
    }

    fn number(n: u64) -> PackNumber {
        PackNumber {
            writer: WriterId([1; 16]),
            n,
        }
    }

    #[test]
    fn a_chunk_is_found_where_it_came_first_however_many_come_after() {
        let mut index = Index::default();
        index.gather(number(0), [(7, id(0)), (8, id(1))].into_iter());
        index.gather(number(1), [(3, id(1))].into_iter());
        index.order();
        let many = (0..).zip((0..ADDED_MAX + 9).map(id));
        index.add(number(2), many);
        index.add(number(3), [(0, id(5)), (1, id(ADDED_MAX + 9))].into_iter());
        assert!(index.added.len() < 9, "{}", index.added.len());
        let place = |n| index.place(&key(&id(n)));
        assert_eq!((place(0), place(1)), (Some((0, 7)), Some((0, 8))));
        assert_eq!(place(5), Some((2, 5)));
        assert_eq!(place(ADDED_MAX + 9), Some((3, 1)));
        assert_eq!(place(ADDED_MAX + 10), None);
    }
}
