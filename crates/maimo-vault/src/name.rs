//! How a store names its own things: writers, sources, records, packs and the chunks in them.
//!
//! A *pack number* is given when a pack is sealed and never given again, so a record may name a chunk before anyone knows the
//! pack's root, and no lost race renumbers anything.

use core::fmt;

use maimo_core::codec::{ParseError, Reader};

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// Reads sixteen bytes.
            pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
                Ok(Self(reader.array($what)?))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:02x}{:02x}..)", stringify!($name), self.0[0], self.0[1])
            }
        }
    };
}

random_id! {
    /// One installation that writes to the store; random, so that two never meet.
    WriterId, "writer"
}
random_id! {
    /// One machine whose paths are in the store; random, with a label in its record.
    SourceId, "source"
}

/// Names a pack, or a piece of a commit's tail, inside the store: the writer that sealed it and that writer's durable counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber {
    /// Who sealed it.
    pub writer: WriterId,
    /// Which of the writer's packs it is.
    pub n: u64,
}

/// Names a chunk: its pack and its place in the pack's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkRef {
    /// The pack.
    pub pack: PackNumber,
    /// The chunk's index in the pack's table, from 0.
    pub index: u32,
}

/// Names a journal record: its writer and that writer's durable record counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// Who wrote it.
    pub writer: WriterId,
    /// Which of the writer's records it is.
    pub counter: u64,
}

/// What a chunk is a piece of; each type has an id key of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ChunkType {
    /// A file's content.
    Content = 0,
    /// A batch of journal records.
    Journal = 1,
    /// A zstd dictionary.
    Dictionary = 2,
}

impl ChunkType {
    /// Reads the type byte.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        match reader.u8("chunk type")? {
            0 => Ok(Self::Content),
            1 => Ok(Self::Journal),
            2 => Ok(Self::Dictionary),
            _ => Err(ParseError::Invalid { what: "chunk type" }),
        }
    }
}

/// A dedup domain: chunks of different domains never share an id key, nor a dictionary. 0 is the store's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Domain(pub u32);

impl Domain {
    /// Returns the domain that a user calls `name`: the first four bytes of its BLAKE3 hash, little-endian, and never the store's own. All machines of a
    /// store mean the same by a name.
    pub fn named(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let [a, b, c, d, ..] = *hash.as_bytes();
        Self(u32::from_le_bytes([a, b, c, d]).max(1))
    }
}

/// The keyed hash of a chunk's plaintext under the id key of its type and dedup domain; says nothing to who lacks the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChunkId({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}
