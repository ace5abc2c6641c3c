//! A store in memory for tests: real packs on several channels behind sessions that can be made to fail.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use maimo_core::{
    id::{ChannelId, RootHash},
    identity::AuthSecretKey,
    reference::ObjectRef,
    verify::{Outboard, Selection, encode_slice_as_is},
};
use maimo_net::service::{Appetite, Read, Reply, ServiceError, Session};
use maimo_vault::{
    compress::{Compressor, Level},
    dictionary::{Dictionary, train},
    journal::content::{ChunkExtent, Content},
    keys::{ChannelKeys, MasterSecret},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, WriterId},
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, PackLayout, PackNonce, PackSize, Piece},
};

use super::{Channel, Fetch, PackIndex};
use crate::{
    error::ClientError,
    keys::{EPOCH, StoreKeys, channel_keys},
};

const WRITER: WriterId = WriterId([3; 16]);

/// A provider in memory.
#[derive(Default)]
pub(crate) struct FakeProvider {
    pub(crate) packs: Mutex<HashMap<RootHash, Vec<u8>>>,
    /// The hash trees of the packs as they came in: damage does not repair them.
    outboards: Mutex<HashMap<RootHash, Vec<u8>>>,
    pub(crate) is_away: AtomicBool,
    pub(crate) requests: AtomicU64,
    /// Whether it is at the other end of a network.
    pub(crate) is_remote: AtomicBool,
    outstanding: AtomicU64,
    /// The most requests that were under way at a time.
    pub(crate) peak: AtomicU64,
    /// The most bytes of slices that one answer had.
    pub(crate) largest: AtomicU64,
}

impl FakeProvider {
    /// Flips a bit of a pack.
    pub(crate) fn damage(&self, pack: &ObjectRef, offset: usize) {
        self.packs.lock().unwrap().get_mut(&pack.root).unwrap()[offset] ^= 1;
    }
}

impl Session for FakeProvider {
    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = || {
            if self.is_away.load(Ordering::Relaxed) {
                let detail = "a test".to_owned();
                return Err(ServiceError::Offline { detail });
            }
            let packs = self.packs.lock().unwrap();
            let outboards = self.outboards.lock().unwrap();
            let slices = reads.iter().map(|read| {
                let held = packs.get(&read.pack.root);
                let held = held.ok_or(ServiceError::NotHeld { what: "a pack" })?;
                // A provider that lost the end of a pack, or has another in its place, answers with what it has.
                let length = held.len() as u64;
                let selection =
                    Selection::of_map(length, &read.groups).map_err(|_| ServiceError::Damaged {
                        what: "a pack",
                        detail: "too short".to_owned(),
                    })?;
                let mut slice = Vec::new();
                let outboard = &outboards[&read.pack.root];
                encode_slice_as_is(held, outboard, &selection, &mut slice).unwrap();
                Ok(Bytes::from(slice))
            });
            slices.collect()
        };
        let answer: Result<Vec<Bytes>, ServiceError> = answer();
        let outstanding = self.outstanding.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(outstanding, Ordering::Relaxed);
        let bytes = answer.iter().flatten().map(|slice| slice.len() as u64);
        self.largest.fetch_max(bytes.sum(), Ordering::Relaxed);
        Box::pin(async move {
            self.outstanding.fetch_sub(1, Ordering::Relaxed);
            answer
        })
    }

    fn appetite(&self) -> Appetite {
        if self.is_remote.load(Ordering::Relaxed) {
            Appetite::NETWORK
        } else {
            Appetite::LOCAL
        }
    }

    maimo_net::unasked!(
        status, put, put_node, move_head, head, prove, nodes, audit, digest
    );
}

/// What a catalog would know of the packs.
#[derive(Default)]
pub(crate) struct FakeIndex {
    pub(crate) objects: HashMap<(PackNumber, ChannelId), ObjectRef>,
    pub(crate) layouts: HashMap<PackNumber, PackLayout>,
    pub(crate) pieces: HashMap<PackNumber, Piece>,
    pub(crate) dictionaries: HashMap<ChunkId, ChunkRef>,
    pub(crate) moved: HashMap<ChunkRef, ChunkRef>,
}

impl PackIndex for FakeIndex {
    fn resolve(&self, chunk: ChunkRef) -> Result<ChunkRef, ClientError> {
        Ok(self.moved.get(&chunk).copied().unwrap_or(chunk))
    }

    fn object(
        &self,
        number: PackNumber,
        channel: ChannelId,
    ) -> Result<Option<ObjectRef>, ClientError> {
        Ok(self.objects.get(&(number, channel)).copied())
    }

    fn layout(&self, number: PackNumber) -> Result<Option<PackLayout>, ClientError> {
        Ok(self.layouts.get(&number).cloned())
    }

    fn piece(&self, number: PackNumber) -> Result<Option<Piece>, ClientError> {
        Ok(self.pieces.get(&number).cloned())
    }

    fn dictionary(&self, id: &ChunkId) -> Result<Option<ChunkRef>, ClientError> {
        Ok(self.dictionaries.get(id).copied())
    }
}

/// A store that files are put into.
pub(crate) struct FakeStore {
    pub(crate) keys: StoreKeys,
    pub(crate) channels: Vec<(ChannelId, ChannelKeys, Arc<FakeProvider>)>,
    pub(crate) index: FakeIndex,
    size: PackSize,
    builder: Option<PackBuilder>,
    dictionary: Option<Dictionary>,
    numbers: u64,
}

impl FakeStore {
    /// Makes an empty one with so many channels and packs of so many bytes.
    pub(crate) fn new(channels: u8, pack_bytes: u64) -> Self {
        let secret = MasterSecret::from_entropy(&[7; 32]);
        let channels = (0..channels).map(|n| {
            let auth = AuthSecretKey::from_seed(&[n; 32]).public();
            let (id, keys) = channel_keys(&secret, &auth);
            (id, keys, Arc::default())
        });
        Self {
            channels: channels.collect(),
            keys: StoreKeys::new(&secret),
            index: FakeIndex::default(),
            size: PackSize::new(pack_bytes).unwrap(),
            builder: None,
            dictionary: None,
            numbers: 0,
        }
    }

    /// Trains a dictionary from samples, puts it into a vital pack and uses it from here on.
    pub(crate) fn use_dictionary<'s>(&mut self, samples: impl IntoIterator<Item = &'s [u8]>) {
        let bytes = train(samples).unwrap();
        let id = self.keys.dictionary.id(&bytes);
        let number = self.number();
        let mut builder = PackBuilder::new(number, PackKind::Vital);
        let mut compressor = Compressor::new(Level::default());
        let frame = compressor.compress(&bytes, None);
        let chunk = FramedChunk {
            id,
            chunk_type: ChunkType::Dictionary,
            domain: Domain::default(),
            codec: frame.codec,
            dictionary: None,
            plaintext_length: u32::try_from(bytes.len()).unwrap(),
            frame: frame.bytes,
        };
        let index = builder.push(chunk).unwrap();
        self.upload(&builder, PackKind::Vital);
        let place = ChunkRef {
            pack: number,
            index,
        };
        self.index.dictionaries.insert(id, place);
        self.dictionary = Some(Dictionary::new(id, bytes, Level::default()).unwrap());
    }

    /// Puts a file in, cut every so many bytes, and returns its content. [`Self::seal`] uploads the last pack.
    pub(crate) fn put(&mut self, bytes: &[u8], chunk_bytes: usize) -> Content {
        let chunks: Vec<_> = bytes
            .chunks(chunk_bytes)
            .map(|plaintext| self.put_chunk(plaintext))
            .collect();
        Content::Regular {
            size: bytes.len() as u64,
            blake3: *blake3::hash(bytes).as_bytes(),
            chunks: ChunkExtent::join(chunks),
        }
    }

    fn put_chunk(&mut self, plaintext: &[u8]) -> ChunkRef {
        let dictionary = self.dictionary.take();
        let mut compressor = Compressor::new(Level::default());
        let frame = compressor.compress(plaintext, dictionary.as_ref());
        let chunk = FramedChunk {
            id: self.keys.content.id(plaintext),
            chunk_type: ChunkType::Content,
            domain: Domain::default(),
            codec: frame.codec,
            dictionary: dictionary
                .as_ref()
                .map(Dictionary::id)
                .filter(|_| frame.codec == maimo_vault::compress::Codec::ZstdDictionary),
            plaintext_length: u32::try_from(plaintext.len()).unwrap(),
            frame: frame.bytes,
        };
        if let Some(builder) = &self.builder
            && !builder.would_fit(chunk.frame.len(), 0)
        {
            self.seal();
        }
        let mut builder = self.builder.take().unwrap_or_else(|| {
            PackBuilder::new(self.number(), PackKind::Data).with_size(self.size)
        });
        let index = builder.push(chunk).unwrap();
        let pack = builder.number();
        self.builder = Some(builder);
        drop(compressor);
        self.dictionary = dictionary;
        ChunkRef { pack, index }
    }

    /// Puts a file into a piece of the tail instead.
    pub(crate) fn put_in_tail(&mut self, bytes: &[u8]) -> Content {
        let number = self.number();
        let mut piece = Piece::new(number);
        let chunk = FramedChunk {
            id: self.keys.content.id(bytes),
            chunk_type: ChunkType::Content,
            domain: Domain::default(),
            codec: maimo_vault::compress::Codec::Raw,
            dictionary: None,
            plaintext_length: u32::try_from(bytes.len()).unwrap(),
            frame: bytes,
        };
        let index = piece.push(chunk).unwrap();
        self.index.pieces.insert(number, piece);
        let chunk = ChunkRef {
            pack: number,
            index,
        };
        Content::Regular {
            size: bytes.len() as u64,
            blake3: *blake3::hash(bytes).as_bytes(),
            chunks: ChunkExtent::join([chunk]),
        }
    }

    /// Seals and uploads the pack in the making.
    pub(crate) fn seal(&mut self) {
        if let Some(builder) = self.builder.take() {
            self.upload(&builder, PackKind::Data);
        }
    }

    fn upload(&mut self, builder: &PackBuilder, kind: PackKind) {
        for (n, (id, keys, provider)) in (0_u8..).zip(&self.channels) {
            let mut nonce = [n; 24];
            nonce[..8].copy_from_slice(&builder.number().n.to_le_bytes());
            let sealed = builder.seal(PackKeys::new(keys, EPOCH, kind), PackNonce(nonce));
            let number = builder.number();
            self.index.objects.insert((number, *id), sealed.reference);
            self.index.layouts.insert(number, sealed.layout);
            let root = sealed.reference.root;
            let outboard = Outboard::of(&sealed.bytes).into_bytes();
            provider.outboards.lock().unwrap().insert(root, outboard);
            provider.packs.lock().unwrap().insert(root, sealed.bytes);
        }
    }

    fn number(&mut self) -> PackNumber {
        self.numbers += 1;
        PackNumber {
            writer: WRITER,
            n: self.numbers,
        }
    }

    /// Returns what reads from it.
    pub(crate) fn fetch(&self) -> Fetch<'_> {
        let channels = self.channels.iter();
        let channels = channels.map(|(id, keys, provider)| Channel {
            id: *id,
            name: "test",
            keys,
            session: Arc::clone(provider) as Arc<dyn Session>,
        });
        Fetch::new(channels.collect(), &self.keys)
    }

    /// Returns the object that holds the first chunk of a content on a channel.
    pub(crate) fn object(&self, content: &Content, channel: usize) -> ObjectRef {
        let pack = content.extents()[0].first.pack;
        self.index.objects[&(pack, self.channels[channel].0)]
    }
}

/// Returns bytes that do not compress, other ones for each seed.
pub(crate) fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}
