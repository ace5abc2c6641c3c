//! The table: what the chunks of a pack or a piece are, in their order, and the journal records that came with them.

use std::collections::HashSet;

use maimo_core::{
    codec::{ParseError, Put, Reader},
    units::PACK_BYTES_MAX,
};

use super::{
    CHUNKS_PER_PACK_MAX, DICTIONARIES_PER_PACK_MAX, RECORDS_BYTES_MAX, plaintext_bytes_max,
};
use crate::{
    compress::Codec,
    name::{ChunkId, ChunkType, Domain, PackNumber, WriterId},
};

/// The fewest bytes an entry takes: id, type, codec, and four varints.
const ENTRY_BYTES_MIN: usize = 32 + 2 + 4;
/// The most: a domain of 32 bits takes five bytes, a dictionary one, lengths of up to 2^28 four each.
const ENTRY_BYTES_MAX: usize = 32 + 2 + 5 + 1 + 4 + 4;

// The longest table: number, dictionaries, entries, records, and their counts.
const _: () = assert!(
    super::TABLE_BYTES_MAX
        >= 26
            + 1
            + DICTIONARIES_PER_PACK_MAX * 32
            + 3
            + CHUNKS_PER_PACK_MAX * ENTRY_BYTES_MAX
            + 4
            + RECORDS_BYTES_MAX
);
const _: () = assert!(plaintext_bytes_max(ChunkType::Journal) < 1 << 28);

/// What a table says of one chunk. Where it stands is not said: that follows from the lengths of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its name.
    pub id: ChunkId,
    /// What it is a piece of.
    pub chunk_type: ChunkType,
    /// Whose id key named it.
    pub domain: Domain,
    /// How its frame is read.
    pub codec: Codec,
    /// The dictionary its frame refers to; one exactly if the codec is [`Codec::ZstdDictionary`].
    pub dictionary: Option<ChunkId>,
    /// How long it is, in bytes; never 0.
    pub plaintext_length: u32,
    /// How long its frame is, in bytes; shorter than the plaintext unless raw.
    pub frame_length: u32,
}

impl Entry {
    /// Checks what must hold between the fields.
    pub(super) fn check(&self) -> Result<(), ParseError> {
        let max = plaintext_bytes_max(self.chunk_type) as u64;
        let found = u64::from(self.plaintext_length);
        if found > max {
            let what = "plaintext length of a chunk";
            return Err(ParseError::TooLarge { what, found, max });
        }
        // A raw frame is the plaintext; any other must have earned its decompression.
        let is_fitting = if self.codec == Codec::Raw {
            self.frame_length == self.plaintext_length
        } else {
            self.frame_length < self.plaintext_length
        };
        if !is_fitting || self.frame_length == 0 {
            return Err(ParseError::Invalid {
                what: "frame length of a chunk",
            });
        }
        if self.dictionary.is_some() != (self.codec == Codec::ZstdDictionary) {
            return Err(ParseError::Invalid {
                what: "dictionary of a chunk",
            });
        }
        Ok(())
    }

    fn encode(&self, dictionaries: &[ChunkId], out: &mut Vec<u8>) {
        let place = self
            .dictionary
            .and_then(|id| dictionaries.iter().position(|&other| other == id))
            .map_or(0, |index| index as u64 + 1);
        out.put(&self.id.0);
        out.put(&[self.chunk_type as u8, self.codec as u8]);
        out.put_varint(u64::from(self.domain.0));
        out.put_varint(place);
        out.put_varint(u64::from(self.plaintext_length));
        out.put_varint(u64::from(self.frame_length));
    }

    fn parse(reader: &mut Reader<'_>, dictionaries: &[ChunkId]) -> Result<Self, ParseError> {
        let id = ChunkId(reader.array("chunk id")?);
        let chunk_type = ChunkType::parse(reader)?;
        let codec = Codec::parse(reader)?;
        let domain = Domain(varint_u32(reader, "dedup domain")?);
        let place = reader.varint_max(dictionaries.len() as u64, "dictionary of a chunk")?;
        let dictionary = usize::try_from(place)
            .ok()
            .and_then(|place| place.checked_sub(1))
            .and_then(|index| dictionaries.get(index).copied());
        let entry = Self {
            id,
            chunk_type,
            domain,
            codec,
            dictionary,
            plaintext_length: varint_u32(reader, "plaintext length of a chunk")?,
            frame_length: varint_u32(reader, "frame length of a chunk")?,
        };
        entry.check()?;
        Ok(entry)
    }
}

fn varint_u32(reader: &mut Reader<'_>, what: &'static str) -> Result<u32, ParseError> {
    let found = reader.varint(what)?;
    u32::try_from(found).map_err(|_| ParseError::TooLarge {
        what,
        found,
        max: u64::from(u32::MAX),
    })
}

/// A chunk that is compressed and not sealed: as it goes into any pack, on any channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramedChunk<'f> {
    /// Its name.
    pub id: ChunkId,
    /// What it is a piece of.
    pub chunk_type: ChunkType,
    /// Whose id key named it.
    pub domain: Domain,
    /// How the frame is read.
    pub codec: Codec,
    /// The dictionary the frame refers to.
    pub dictionary: Option<ChunkId>,
    /// How long the chunk is, in bytes.
    pub plaintext_length: u32,
    /// The frame.
    pub frame: &'f [u8],
}

impl<'f> FramedChunk<'f> {
    /// Joins a chunk's entry with its frame.
    pub const fn new(entry: &Entry, frame: &'f [u8]) -> Self {
        Self {
            id: entry.id,
            chunk_type: entry.chunk_type,
            domain: entry.domain,
            codec: entry.codec,
            dictionary: entry.dictionary,
            plaintext_length: entry.plaintext_length,
            frame,
        }
    }

    /// Returns the chunk's entry, or an error if no table could hold it.
    pub(super) fn entry(&self) -> Result<Entry, ParseError> {
        let entry = Entry {
            id: self.id,
            chunk_type: self.chunk_type,
            domain: self.domain,
            codec: self.codec,
            dictionary: self.dictionary,
            plaintext_length: self.plaintext_length,
            // Longer than any plaintext may be: refused by the check.
            frame_length: u32::try_from(self.frame.len()).unwrap_or(u32::MAX),
        };
        entry.check()?;
        Ok(entry)
    }
}

/// The table's plaintext, as a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) number: PackNumber,
    pub(super) entries: Vec<Entry>,
    pub(super) records: Vec<u8>,
}

impl Table {
    pub(super) const fn new(number: PackNumber) -> Self {
        Self {
            number,
            entries: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Returns how many bytes [`Self::encode`] appends, at most.
    pub(super) const fn encoded_bytes_max(
        chunks: usize,
        dictionaries: usize,
        records_length: usize,
    ) -> usize {
        26 + 1 + dictionaries * 32 + 3 + chunks * ENTRY_BYTES_MAX + 4 + records_length
    }

    /// Returns the dictionaries referred to, in the order of their first use.
    pub(super) fn dictionaries(&self) -> Vec<ChunkId> {
        dictionaries(&self.entries)
    }

    /// Appends the pack number, the dictionaries, the entries, the records.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        Self::encode_parts(self.number, &self.entries, &self.records, out);
    }

    /// As [`Self::encode`], of a table that is not one value.
    pub(super) fn encode_parts(
        number: PackNumber,
        entries: &[Entry],
        records: &[u8],
        out: &mut Vec<u8>,
    ) {
        out.put(&number.writer.0);
        out.put_varint(number.n);
        let dictionaries = dictionaries(entries);
        out.put_varint(dictionaries.len() as u64);
        for id in &dictionaries {
            out.put(&id.0);
        }
        out.put_varint(entries.len() as u64);
        for entry in entries {
            entry.encode(&dictionaries, out);
        }
        out.put_bytes(records);
    }

    /// Reads what [`Self::encode`] wrote. What follows is the caller's.
    ///
    /// No chunk stands twice, dictionaries stand in the order of their first use and none stands unused, and the sealed chunks together
    /// are no longer than a pack.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let number = PackNumber {
            writer: WriterId::parse(reader)?,
            n: reader.varint("pack number")?,
        };
        let what = "dictionaries of a pack";
        let count = reader.count(DICTIONARIES_PER_PACK_MAX as u64, 32, what)?;
        let mut dictionaries = Vec::with_capacity(count);
        for _ in 0..count {
            dictionaries.push(ChunkId(reader.array(what)?));
        }
        let what = "chunks of a pack";
        let count = reader.count(CHUNKS_PER_PACK_MAX as u64, ENTRY_BYTES_MIN, what)?;
        let mut entries = Vec::with_capacity(count);
        let mut ids = HashSet::with_capacity(count);
        let mut sealed_bytes = 0_u64;
        for _ in 0..count {
            let entry = Entry::parse(reader, &dictionaries)?;
            if !ids.insert(entry.id) {
                return Err(ParseError::Invalid {
                    what: "chunk that stands twice in a pack",
                });
            }
            sealed_bytes += super::layout::sealed_length(&entry);
            entries.push(entry);
        }
        if sealed_bytes > PACK_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "length of a pack's chunks",
                found: sealed_bytes,
                max: PACK_BYTES_MAX,
            });
        }
        let table = Self {
            number,
            entries,
            records: reader
                .bytes(RECORDS_BYTES_MAX, "records of a pack")?
                .to_vec(),
        };
        if table.dictionaries() != dictionaries {
            return Err(ParseError::NotCanonical {
                what: "order of a pack's dictionaries",
            });
        }
        Ok(table)
    }
}

fn dictionaries(entries: &[Entry]) -> Vec<ChunkId> {
    let mut dictionaries = Vec::new();
    for id in entries.iter().filter_map(|entry| entry.dictionary) {
        if !dictionaries.contains(&id) {
            dictionaries.push(id);
        }
    }
    dictionaries
}
