//! What a path holds: a file's chunks, a link's target, a device's numbers.
//!
//! Which path, of which machine, with which metadata is the record's to say. Invariant: an extent names no chunk beyond a pack's table, and
//! consecutive chunks of one pack stand as one extent, so that a content has one encoding.

use maimo_core::codec::{ParseError, Put, Reader};

use super::names::{NameTable, Names};
use crate::{name::ChunkRef, pack::CHUNKS_PER_PACK_MAX, path::StorePath};

/// A path's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file.
    Regular {
        /// Length in bytes.
        size: u64,
        /// Plain BLAKE3 of the bytes.
        blake3: [u8; 32],
        /// Its chunks in order; consecutive ones of one pack stand as one extent.
        chunks: Vec<ChunkExtent>,
    },
    /// A folder.
    Folder,
    /// A symbolic link and what it says, byte for byte.
    Symlink(Vec<u8>),
    /// Another name of the file that this path of the same source names.
    HardLink(StorePath),
    /// A named pipe.
    Fifo,
    /// A device node.
    Device {
        /// Whether it is a block device.
        block: bool,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// How many extents a file may have: a 16 TiB file of 1 MiB chunks in 16 MiB packs.
pub const EXTENTS_MAX: u64 = 1 << 20;
/// How long one extent or `Moved` record may be: a pack's chunks. So nothing it names is beyond a pack's table, and who walks it is not
/// made to walk further.
const COUNT_MAX: u64 = CHUNKS_PER_PACK_MAX as u64;

impl Content {
    /// Returns the content's chunk extents, of which only regular files have any.
    pub fn extents(&self) -> &[ChunkExtent] {
        match self {
            Self::Regular { chunks, .. } => chunks,
            _ => &[],
        }
    }

    pub(super) fn encode(&self, names: &mut Names, path: &StorePath, out: &mut Vec<u8>) {
        match self {
            Self::Regular {
                size,
                blake3,
                chunks,
            } => {
                out.put_u8(0);
                out.put_varint(*size);
                out.put(blake3);
                out.put_varint(chunks.len() as u64);
                for extent in chunks {
                    names.put_chunk(extent.first, out);
                    out.put_varint(u64::from(extent.count));
                }
            }
            Self::Folder => out.put_u8(1),
            Self::Symlink(target) => {
                out.put_u8(2);
                out.put_bytes(target);
            }
            Self::HardLink(to) => {
                out.put_u8(3);
                to.encode_after(Some(path), out);
            }
            Self::Fifo => out.put_u8(4),
            Self::Device {
                block,
                major,
                minor,
            } => {
                out.put_u8(if *block { 6 } else { 5 });
                out.put_varint(u64::from(*major));
                out.put_varint(u64::from(*minor));
            }
        }
    }

    pub(super) fn parse(
        names: &NameTable,
        path: &StorePath,
        r: &mut Reader<'_>,
    ) -> Result<Self, ParseError> {
        Ok(match r.u8("content type")? {
            0 => {
                let size = r.varint("file size")?;
                let blake3 = r.array("file hash")?;
                let count = r.count(EXTENTS_MAX, 3, "chunk extents")?;
                let mut chunks: Vec<ChunkExtent> = Vec::with_capacity(count);
                for _ in 0..count {
                    let first = names.read_chunk(r)?;
                    let extent = ChunkExtent {
                        first,
                        count: parse_count(r, first.index, "chunks of an extent")?,
                    };
                    if chunks.last().is_some_and(|last| last.goes_on_with(first)) {
                        return Err(ParseError::NotCanonical {
                            what: "chunk extents",
                        });
                    }
                    chunks.push(extent);
                }
                Self::Regular {
                    size,
                    blake3,
                    chunks,
                }
            }
            1 => Self::Folder,
            2 => Self::Symlink(r.bytes(StorePath::BYTES_MAX, "symlink target")?.to_vec()),
            3 => Self::HardLink(StorePath::parse_after(Some(path), r)?),
            4 => Self::Fifo,
            kind @ (5 | 6) => Self::Device {
                block: kind == 6,
                major: parse_u32(r, "device number")?,
                minor: parse_u32(r, "device number")?,
            },
            _ => {
                return Err(ParseError::Invalid {
                    what: "content type",
                });
            }
        })
    }
}

/// Chunks that follow one another in one pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkExtent {
    /// The first.
    pub first: ChunkRef,
    /// How many; never 0.
    pub count: u32,
}

impl ChunkExtent {
    /// Returns each chunk.
    pub fn chunks(self) -> impl Iterator<Item = ChunkRef> {
        let Self { first, count } = self;
        (0..count).map(move |step| ChunkRef {
            pack: first.pack,
            index: first.index.saturating_add(step),
        })
    }

    /// Joins consecutive chunks of one pack, in order.
    pub fn join(chunks: impl IntoIterator<Item = ChunkRef>) -> Vec<Self> {
        let mut extents: Vec<Self> = Vec::new();
        for chunk in chunks {
            match extents.last_mut() {
                Some(last) if last.goes_on_with(chunk) => last.count += 1,
                _ => extents.push(Self {
                    first: chunk,
                    count: 1,
                }),
            }
        }
        extents
    }

    fn goes_on_with(&self, chunk: ChunkRef) -> bool {
        self.first.pack == chunk.pack
            && self.first.index.checked_add(self.count) == Some(chunk.index)
    }
}

/// Reads how many chunks follow from the one at `first` on: at least one, and none beyond a pack's last.
pub(super) fn parse_count(
    r: &mut Reader<'_>,
    first: u32,
    what: &'static str,
) -> Result<u32, ParseError> {
    let count = r.varint_max(COUNT_MAX.saturating_sub(first.into()), what)?;
    if count == 0 {
        return Err(ParseError::Invalid { what });
    }
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) fn parse_u32(r: &mut Reader<'_>, what: &'static str) -> Result<u32, ParseError> {
    let value = r.varint_max(u32::MAX.into(), what)?;
    // The maximum just checked is that of the type.
    Ok(u32::try_from(value).unwrap_or(u32::MAX))
}
