//! [`PackBuilder`]: gathers chunks until a pack is full, then seals them for each channel.

use std::collections::HashMap;

use maimo_core::{
    codec::{ParseError, Put},
    error::{Classify, ErrorKind, Retry},
    reference::ObjectRef,
    units::{BLOCK_BYTES, PACK_BYTES_MAX},
};
use thiserror::Error;

use super::{
    CHUNKS_PER_PACK_MAX, DICTIONARIES_PER_PACK_MAX, FramedChunk, HEADER_BYTES, PackHeader,
    PackKeys, PackKind, PackLayout, PackNonce, PackSize, RECORDS_BYTES_MAX, TRAILER_BYTES, seal,
    table::Table,
};
use crate::{
    aead::TAG_BYTES,
    compress::{Codec, Compressor, Level},
    name::{ChunkId, PackNumber},
};

/// Why a chunk or records do not go into a pack.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The pack would pass a maximum: begin another.
    #[error("the pack is full")]
    Full,
    /// The chunk is of a type that packs of this kind do not hold.
    #[error("a chunk of this type does not belong in this kind of pack")]
    WrongKind,
    /// The chunk's fields contradict each other.
    #[error(transparent)]
    Chunk(#[from] ParseError),
}

impl Classify for PushError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// A pack as it goes to one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPack {
    /// All of its bytes.
    pub bytes: Vec<u8>,
    /// Its name.
    pub reference: ObjectRef,
    /// Where everything in it stands.
    pub layout: PackLayout,
}

/// From how many bytes on a pack in the making has room for all of it.
const ROOM_BYTES: usize = 256 * 1024;

/// A pack in the making. Holds nothing that depends on a channel.
#[derive(Debug, Clone)]
pub struct PackBuilder {
    kind: PackKind,
    size: PackSize,
    table: Table,
    /// The pack's bytes as far as they are known: room for the header, then each frame with room for its tag behind it.
    body: Vec<u8>,
    indexes: HashMap<ChunkId, u32>,
    dictionaries: usize,
}

impl PackBuilder {
    /// Begins a pack of the default size.
    pub fn new(number: PackNumber, kind: PackKind) -> Self {
        Self {
            kind,
            size: PackSize::default(),
            table: Table::new(number),
            body: vec![0; HEADER_BYTES],
            indexes: HashMap::new(),
            dictionaries: 0,
        }
    }

    /// Sets how long the pack should grow.
    #[must_use]
    pub const fn with_size(mut self, size: PackSize) -> Self {
        self.size = size;
        self
    }

    /// Returns the pack's number.
    pub const fn number(&self) -> PackNumber {
        self.table.number
    }

    /// Returns what the pack is for.
    pub const fn kind(&self) -> PackKind {
        self.kind
    }

    /// Returns how many chunks are in it.
    pub const fn len(&self) -> usize {
        self.table.entries.len()
    }

    /// Returns whether no chunk is in it.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the index of a chunk that is in it already.
    pub fn index_of(&self, id: &ChunkId) -> Option<u32> {
        self.indexes.get(id).copied()
    }

    /// Returns whether the pack stays within its size with one more frame of `frame_length` bytes, and with records of
    /// `records_length` bytes in all. An empty pack takes any chunk: nothing is too long to be stored.
    pub fn would_fit(&self, frame_length: usize, records_length: usize) -> bool {
        self.len() < CHUNKS_PER_PACK_MAX
            && self.dictionaries < DICTIONARIES_PER_PACK_MAX
            && records_length <= RECORDS_BYTES_MAX
            && (self.is_empty()
                || self.length_max(1, frame_length, 1, records_length) <= self.size.bytes())
    }

    /// Adds a chunk and returns its index; a chunk that is in the pack already keeps the index it has, as two seals of the same under
    /// one nonce would show the provider that they are the same.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] only at the maxima of the format, far beyond [`Self::would_fit`]. The pack is as it was.
    pub fn push(&mut self, chunk: FramedChunk<'_>) -> Result<u32, PushError> {
        let entry = chunk.entry()?;
        if !self.kind.holds(entry.chunk_type) {
            return Err(PushError::WrongKind);
        }
        if let Some(index) = self.index_of(&entry.id) {
            return Ok(index);
        }
        let is_new_dictionary = entry.dictionary.is_some_and(|id| {
            let mut entries = self.table.entries.iter();
            entries.all(|other| other.dictionary != Some(id))
        });
        let more = usize::from(is_new_dictionary);
        if self.len() >= CHUNKS_PER_PACK_MAX
            || self.dictionaries + more > DICTIONARIES_PER_PACK_MAX
            || self.length_max(1, chunk.frame.len(), more, self.table.records.len())
                > PACK_BYTES_MAX
        {
            return Err(PushError::Full);
        }
        let index = u32::try_from(self.len()).map_err(|_| PushError::Full)?;
        self.dictionaries += more;
        let length = self.body.len() + chunk.frame.len() + TAG_BYTES;
        if self.body.capacity() < length && length > ROOM_BYTES {
            // All at once: growing by doubling would copy, and leave a third of the room to nobody.
            self.body
                .reserve_exact(long(self.size.bytes()).max(length) - self.body.len());
        }
        self.body.extend_from_slice(chunk.frame);
        self.body.extend_from_slice(&[0; TAG_BYTES]);
        self.table.entries.push(entry);
        self.indexes.insert(entry.id, index);
        Ok(index)
    }

    /// Sets the journal records of the files that end in this pack, in place of any set before: opaque here.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] where they, or the pack with them, would pass a maximum.
    pub fn set_records(&mut self, records: Vec<u8>) -> Result<(), PushError> {
        if records.len() > RECORDS_BYTES_MAX
            || self.length_max(0, 0, 0, records.len()) > PACK_BYTES_MAX
        {
            return Err(PushError::Full);
        }
        self.table.records = records;
        Ok(())
    }

    /// Returns how long the pack would be at most, with so much more in it and records of `records_length` bytes in all.
    fn length_max(
        &self,
        more_chunks: usize,
        frames_length: usize,
        dictionaries: usize,
        records_length: usize,
    ) -> u64 {
        let chunks = self.len() + more_chunks;
        let table =
            Table::encoded_bytes_max(chunks, self.dictionaries + dictionaries, records_length);
        let length = self.body.len()
            + frames_length
            + more_chunks * TAG_BYTES
            + 1
            + table
            + TAG_BYTES
            + TRAILER_BYTES;
        (length as u64).next_multiple_of(BLOCK_BYTES)
    }

    /// Returns where everything will stand, on whatever channel the pack is sealed for: the table is compressed to know its length.
    pub fn layout(&self) -> PackLayout {
        self.layout_with(self.table_bytes().len() + TAG_BYTES)
    }

    fn layout_with(&self, sealed_table_length: usize) -> PackLayout {
        PackLayout::new(
            self.table.number,
            self.table.entries.clone(),
            sealed_table_length as u64,
        )
    }

    /// Seals the pack for one channel.
    ///
    /// The same keys and nonce give the same bytes.
    ///
    /// # Security
    ///
    /// `nonce` must be drawn anew for each channel and pack ([`PackNonce::draw`]), or be the one this very pack was sealed with.
    pub fn seal(&self, keys: PackKeys<'_>, nonce: PackNonce) -> SealedPack {
        let table = self.table_bytes();
        let layout = self.layout_with(table.len() + TAG_BYTES);
        let mut out = Vec::with_capacity(long(layout.length()));
        out.put(&self.body);
        self.seal_in(out, &table, layout, keys, nonce)
    }

    /// As [`Self::seal`], for the last channel: what was gathered is sealed where it lies, so that the pack is in memory once.
    ///
    /// # Security
    ///
    /// As of [`Self::seal`].
    pub fn into_sealed(mut self, keys: PackKeys<'_>, nonce: PackNonce) -> SealedPack {
        let table = self.table_bytes();
        let layout = self.layout_with(table.len() + TAG_BYTES);
        let out = core::mem::take(&mut self.body);
        self.seal_in(out, &table, layout, keys, nonce)
    }

    /// Seals what lies in `out` as [`Self::body`] does, and adds what comes after.
    fn seal_in(
        &self,
        mut out: Vec<u8>,
        table: &[u8],
        layout: PackLayout,
        keys: PackKeys<'_>,
        nonce: PackNonce,
    ) -> SealedPack {
        let sealed_table_length = table.len() + TAG_BYTES;
        let header = PackHeader {
            kind: self.kind,
            epoch: keys.epoch,
            nonce,
        };
        let length = long(layout.length());
        let mut plain = Vec::with_capacity(HEADER_BYTES);
        header.encode(&mut plain);
        let (head, mut rest) = out.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&plain);
        for entry in &self.table.entries {
            let (frame, after) = rest.split_at_mut(entry.frame_length as usize);
            let (tag, after) = after.split_at_mut(TAG_BYTES);
            rest = after;
            let ad = seal::chunk_ad(&header, entry);
            tag.copy_from_slice(&keys.pack.seal_in_place(&nonce.0, &ad, frame));
        }
        out.reserve_exact(length - out.len());
        let [table_offset, table_length, pack_length] =
            [out.len(), sealed_table_length, length].map(short);
        let ad = seal::table_ad(&header, table_offset, table_length);
        append_sealed(&mut out, table, keys, nonce, &ad);

        let padding = out.len();
        out.resize(length - TRAILER_BYTES, 0);
        keys.padding.fill(&nonce.0, &mut out[padding..]);

        let mut trailer = Vec::with_capacity(8);
        trailer.put_u32(table_offset);
        trailer.put_u32(table_length);
        let ad = seal::trailer_ad(&header, pack_length);
        append_sealed(&mut out, &trailer, keys, nonce, &ad);
        SealedPack {
            reference: ObjectRef::of(&out),
            bytes: out,
            layout,
        }
    }

    /// Returns the table as it is sealed: a codec byte, then the plaintext, or its length and a zstd frame where that is shorter.
    fn table_bytes(&self) -> Vec<u8> {
        let mut plaintext = Vec::new();
        self.table.encode(&mut plaintext);
        let mut compressor = Compressor::new(Level::default());
        let frame = compressor.compress(&plaintext, None);
        let mut packed = vec![Codec::Zstd as u8];
        packed.put_varint(plaintext.len() as u64);
        packed.put(frame.bytes);
        if frame.codec == Codec::Raw || packed.len() > plaintext.len() {
            packed.clear();
            packed.put_u8(Codec::Raw as u8);
            packed.put(&plaintext);
        }
        packed
    }
}

fn append_sealed(
    out: &mut Vec<u8>,
    plaintext: &[u8],
    keys: PackKeys<'_>,
    nonce: PackNonce,
    ad: &[u8],
) {
    let start = out.len();
    out.put(plaintext);
    let tag = keys.pack.seal_in_place(&nonce.0, ad, &mut out[start..]);
    out.put(&tag);
}

fn short(length: usize) -> u32 {
    u32::try_from(length).expect("a pack is far shorter than 4 GiB")
}

fn long(length: u64) -> usize {
    usize::try_from(length).expect("a pack fits in memory, as its frames did")
}
