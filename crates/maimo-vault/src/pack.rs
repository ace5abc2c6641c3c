//! Packs: the unit of storage. Sealed chunks, the sealed table that says what they are, padding, and a trailer to find the table by.
//!
//! ```text
//! header 64 | chunk, tag 32 | chunk, tag 32 | .. | table, tag 32 | keyed padding < 4096 | trailer 8, tag 32
//! ```
//!
//! Everything but the header is sealed under the channel's pack key with the one nonce that the header holds. One nonce for many seals
//! is what a synthetic IV allows: the key stream follows from the tag, and the tag from nonce, associated data and plaintext together,
//! so two seals share a key stream only if they seal the same bytes as the same thing. Within a pack that cannot be: no chunk stands in it
//! twice, and the three kinds of part differ in their associated data: `pack/seal.rs` has them all.
//!
//! What is before the seal (ids, frames, records) is one for the store; key, nonce and seals are the channel's. So the same
//! [`PackBuilder`] is sealed once for each channel, with the same geometry on all and not one equal run of bytes.
//!
//! Invariant: the same contents, key and nonce give the same bytes, hence the same name, as long as zstd compresses the table alike.

use core::ops::Range;

use maimo_core::{
    codec::{ObjectType, ParseError},
    error::{Classify, ErrorKind, Retry},
    units::{BLOCK_BYTES, PACK_BYTES_MAX},
};
use thiserror::Error;

use crate::{
    aead::{CannotOpen, TAG_BYTES},
    chunker::CHUNK_BYTES_MAX,
    dictionary::{DICTIONARY_BYTES_MAX, Dictionary},
    journal::batch::BATCH_BYTES_MAX,
    keys::{ChannelKeys, ChunkIdKey, KeyEpoch, PackKey, PaddingKey},
    name::{ChunkId, ChunkType, Domain},
};

mod header;
mod layout;
mod piece;
mod read;
mod seal;
mod table;
mod write;

pub use header::{PackHeader, PackNonce};
pub use layout::PackLayout;
pub use piece::Piece;
pub use read::{OpenedTable, PackReader, Trailer, open_pack};
pub use table::{Entry, FramedChunk};
pub use write::{PackBuilder, PushError, SealedPack};

/// How many bytes the header takes.
pub const HEADER_BYTES: usize = 64;
/// How many bytes the sealed trailer takes, at the very end.
pub const TRAILER_BYTES: usize = 8 + TAG_BYTES;
/// How many chunks a pack or a piece holds at most.
pub const CHUNKS_PER_PACK_MAX: usize = 65_536;
/// How many dictionaries the chunks of one pack may refer to.
pub const DICTIONARIES_PER_PACK_MAX: usize = 64;
/// How many bytes of repeated journal records a pack carries at most.
pub const RECORDS_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// How long a table is at most before it is compressed, in bytes.
pub const TABLE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an encoded piece is at most, in bytes: as long as a commit.
pub const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Returns how long the plaintext of a chunk of a type is at most, in bytes.
pub const fn plaintext_bytes_max(chunk_type: ChunkType) -> usize {
    match chunk_type {
        ChunkType::Content => CHUNK_BYTES_MAX,
        ChunkType::Journal => BATCH_BYTES_MAX,
        ChunkType::Dictionary => DICTIONARY_BYTES_MAX,
    }
}

/// What a pack is for. The two are never mixed in one pack: vital ones are proven whole, data by samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PackKind {
    /// Chunks of files.
    Data,
    /// Journal segments and dictionaries.
    Vital,
}

impl PackKind {
    /// Returns the object type that packs of this kind carry in their header.
    pub const fn object_type(self) -> ObjectType {
        match self {
            Self::Data => ObjectType::DataPack,
            Self::Vital => ObjectType::VitalPack,
        }
    }

    /// Returns whether chunks of a type belong in packs of this kind.
    pub const fn holds(self, chunk_type: ChunkType) -> bool {
        matches!(
            (self, chunk_type),
            (Self::Data, ChunkType::Content)
                | (Self::Vital, ChunkType::Journal | ChunkType::Dictionary)
        )
    }
}

/// How long packs grow, in bytes; 16 MiB unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackSize(u64);

impl PackSize {
    /// The shortest that makes sense: one group for each of header, chunk, table and trailer.
    pub const MIN: Self = Self(64 * 1024);
    /// The longest pack there may be.
    pub const MAX: Self = Self(PACK_BYTES_MAX);

    /// Returns the size, or `None` outside of [`Self::MIN`] to [`Self::MAX`].
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes < Self::MIN.0 || bytes > Self::MAX.0 {
            None
        } else {
            Some(Self(bytes))
        }
    }

    /// Returns it in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for PackSize {
    fn default() -> Self {
        Self(16 * 1024 * 1024)
    }
}

/// The keys of one channel that packs of one kind are sealed with.
#[derive(Clone, Copy)]
pub struct PackKeys<'k> {
    /// Seals and opens.
    pub pack: &'k PackKey,
    /// Makes the padding.
    pub padding: &'k PaddingKey,
    /// The generation of both.
    pub epoch: KeyEpoch,
}

impl<'k> PackKeys<'k> {
    /// Picks the keys for packs of `kind` from those of a channel.
    pub const fn new(channel: &'k ChannelKeys, epoch: KeyEpoch, kind: PackKind) -> Self {
        Self {
            pack: match kind {
                PackKind::Data => &channel.data,
                PackKind::Vital => &channel.vital,
            },
            padding: &channel.padding,
            epoch,
        }
    }
}

/// What opening a chunk takes beside the pack key.
pub trait ChunkContext {
    /// Returns the key that chunks of a type and domain are named by.
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey>;

    /// Returns the dictionary whose chunk has this id.
    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary>;
}

/// Why a pack or something in it cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenPackError {
    /// A seal does not open, or what it held is not what the table says. Nothing says which.
    #[error("cannot open")]
    CannotOpen,
    /// A length that no pack has.
    #[error("no pack is {length} bytes long")]
    Length {
        /// The length given.
        length: u64,
    },
    /// The header, or a table that opened, is not in the format.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The chunk's dictionary is not at hand: fetch it, then try again.
    #[error("the dictionary of this chunk is not at hand")]
    NoDictionary(ChunkId),
    /// The chunk is of a dedup domain this store knows no key for.
    #[error("no key is known for chunks of dedup domain {}", .0.0)]
    NoIdKey(Domain),
}

impl From<CannotOpen> for OpenPackError {
    fn from(_: CannotOpen) -> Self {
        Self::CannotOpen
    }
}

impl Classify for OpenPackError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(error) => error.kind(),
            Self::NoDictionary(_) | Self::NoIdKey(_) => ErrorKind::LocalCorrupt,
            Self::CannotOpen | Self::Length { .. } => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            _ => None,
        }
    }
}

/// Returns where the sealed trailer of a pack of `length` bytes stands.
///
/// # Errors
///
/// A length that no pack has: not of whole blocks, too short, or too long.
pub fn trailer_range(length: u64) -> Result<Range<u64>, OpenPackError> {
    let length = checked_length(length)?;
    Ok(length - TRAILER_BYTES as u64..length)
}

/// Returns `length` if a pack can be that long; it fits 32 bits then.
const fn checked_length(length: u64) -> Result<u64, OpenPackError> {
    if length == 0 || length > PACK_BYTES_MAX || !length.is_multiple_of(BLOCK_BYTES) {
        return Err(OpenPackError::Length { length });
    }
    Ok(length)
}

#[cfg(test)]
mod tests;
