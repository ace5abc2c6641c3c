//! What the unit tests of the client's rules share: short names for things, packs of made-up chunks, and packs at hand as a client sees them.

use std::collections::BTreeMap;

use maimo_core::{
    id::{ChannelId, RootHash},
    identity::AuthSecretKey,
    live_map::LiveMap,
    reference::ObjectRef,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use crate::{
    compress::Codec,
    demand::Packs,
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        metadata::Metadata,
        record::Record,
        state::State,
    },
    keys::{ChannelKeys, KeyEpoch, MasterSecret},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, PackLayout, PackNonce, Piece},
    path::StorePath,
};

pub(crate) const EPOCH: KeyEpoch = KeyEpoch(0);
pub(crate) const WRITER: WriterId = WriterId([1; 16]);
pub(crate) const SOURCE: SourceId = SourceId([7; 16]);
pub(crate) const CHANNEL: ChannelId = ChannelId([9; 32]);

pub(crate) fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(5)
}

/// Returns the keys of the channel that was opened with an auth key of this seed.
pub(crate) fn channel_keys(auth: u8) -> ChannelKeys {
    let auth = AuthSecretKey::from_seed(&[auth; 32]).public();
    MasterSecret::from_entropy(&[1; 32]).channel_keys(EPOCH, &auth)
}

pub(crate) fn id(counter: u64) -> RecordId {
    RecordId {
        writer: WRITER,
        counter,
    }
}

/// Returns the stamp of the record `counter` where each is a commit of its own.
pub(crate) fn at(counter: u64) -> Stamp {
    Stamp {
        sequence: counter + 1,
        id: id(counter),
    }
}

pub(crate) fn number(n: u64) -> PackNumber {
    PackNumber { writer: WRITER, n }
}

pub(crate) fn chunk(pack: u64, index: u32) -> ChunkRef {
    ChunkRef {
        pack: number(pack),
        index,
    }
}

/// Returns the id that [`pack`] gives the chunk `index` of the pack `n`.
pub(crate) fn chunk_id(n: u64, index: u32) -> ChunkId {
    let name = [&n.to_le_bytes()[..], &index.to_le_bytes()].concat();
    ChunkId(*blake3::hash(&name).as_bytes())
}

/// Returns a made-up object.
pub(crate) fn object(n: u64, length: u64) -> ObjectRef {
    let root = RootHash::of(&n.to_le_bytes());
    ObjectRef { root, length }
}

pub(crate) fn path(name: &str) -> StorePath {
    StorePath::unix(&format!("/home/u/{name}")).unwrap()
}

/// Returns the record of a file at [`path`] with these chunks.
pub(crate) fn file(name: &str, chunks: impl IntoIterator<Item = ChunkRef>) -> Record {
    Record::File {
        source: SOURCE,
        path: path(name),
        metadata: Metadata::default(),
        content: Content::Regular {
            size: 1000,
            blake3: *blake3::hash(name.as_bytes()).as_bytes(),
            chunks: ChunkExtent::join(chunks),
        },
    }
}

pub(crate) fn moved(from: ChunkRef, to: ChunkRef, count: u32) -> Record {
    Record::Moved { from, to, count }
}

pub(crate) fn dropped(counters: impl IntoIterator<Item = u64>) -> Record {
    let ids = counters.into_iter().map(id).collect();
    Record::Dropped { ids }
}

/// Replays records, each a commit of its own, from the counter 0 on.
pub(crate) fn replay(records: impl IntoIterator<Item = Record>) -> State {
    replay_stamped((0..).map(at).zip(records))
}

pub(crate) fn replay_stamped(records: impl IntoIterator<Item = (Stamp, Record)>) -> State {
    let mut state = State::default();
    for (stamp, record) in records {
        state.apply(stamp, record);
    }
    state
}

/// Seals a pack of chunks with frames of these lengths and returns its layout.
pub(crate) fn pack(n: u64, lengths: &[usize]) -> PackLayout {
    let mut builder = PackBuilder::new(number(n), PackKind::Data);
    for (index, length) in (0..).zip(lengths) {
        let plaintext = vec![0; *length];
        let chunk = raw(chunk_id(n, index), &plaintext);
        assert_eq!(builder.push(chunk), Ok(index));
    }
    let keys = channel_keys(1);
    let keys = PackKeys::new(&keys, EPOCH, PackKind::Data);
    builder.seal(keys, PackNonce::draw(&mut rng())).layout
}

/// Returns a piece of the tail of chunks of one byte with these ids.
pub(crate) fn piece(n: u64, ids: &[ChunkId]) -> Piece {
    let mut piece = Piece::new(number(n));
    for id in ids {
        piece.push(raw(*id, &[0])).unwrap();
    }
    piece
}

/// Returns a chunk as it goes into a pack, not compressed.
pub(crate) fn raw(id: ChunkId, plaintext: &[u8]) -> FramedChunk<'_> {
    FramedChunk {
        id,
        chunk_type: ChunkType::Content,
        domain: Domain::default(),
        codec: Codec::Raw,
        dictionary: None,
        plaintext_length: u32::try_from(plaintext.len()).unwrap(),
        frame: plaintext,
    }
}

/// Returns the map of a pack without the groups that only this chunk touches.
pub(crate) fn without(layout: &PackLayout, index: u32) -> LiveMap {
    let all = 0..u32::try_from(layout.entries().len()).unwrap();
    layout
        .live_map(all.filter(|other| *other != index))
        .unwrap()
}

/// Packs at hand, and what of them lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shelf {
    pub(crate) tail: BTreeMap<PackNumber, u32>,
    pub(crate) layouts: BTreeMap<PackNumber, PackLayout>,
    pub(crate) live: BTreeMap<PackNumber, LiveMap>,
}

impl Shelf {
    /// Adds a pack all of which lives.
    pub(crate) fn with(mut self, layout: PackLayout) -> Self {
        let all = 0..u32::try_from(layout.entries().len()).unwrap();
        let live = layout.live_map(all).unwrap();
        self.live.insert(layout.number(), live);
        self.layouts.insert(layout.number(), layout);
        self
    }

    /// Adds a piece of the tail of so many chunks.
    pub(crate) fn with_piece(mut self, n: u64, chunks: u32) -> Self {
        self.tail.insert(number(n), chunks);
        self
    }
}

impl Packs for Shelf {
    fn tail_chunks(&self, number: PackNumber) -> Option<u32> {
        self.tail.get(&number).copied()
    }

    fn layout(&self, number: PackNumber) -> Option<&PackLayout> {
        self.layouts.get(&number)
    }

    fn live(&self, number: PackNumber) -> Option<&LiveMap> {
        self.live.get(&number)
    }
}
