//! [`Piece`]: one commit's records and chunks, as they ride in the tail.
//!
//! A pack's table and its frames, without header, seals, padding and trailer: the commit around it is sealed as a whole. It has a pack
//! number of its own, so records name its chunks as they name any; when it is written into a pack, its frames go there as they are.

use maimo_core::codec::{ParseError, Put, Reader};

use super::{
    CHUNKS_PER_PACK_MAX, ChunkContext, DICTIONARIES_PER_PACK_MAX, Entry, FramedChunk,
    OpenPackError, PIECE_BYTES_MAX, PushError, read::open_framed, table::Table,
};
use crate::{compress::Decompressor, name::PackNumber};

/// What one commit stored, small enough to travel with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    table: Table,
    frames: Vec<u8>,
}

impl Piece {
    /// Begins a piece.
    pub const fn new(number: PackNumber) -> Self {
        Self {
            table: Table::new(number),
            frames: Vec::new(),
        }
    }

    /// Returns its pack number.
    pub const fn number(&self) -> PackNumber {
        self.table.number
    }

    /// Returns what its table says of each chunk, by index.
    pub fn entries(&self) -> &[Entry] {
        &self.table.entries
    }

    /// Returns the commit's records: opaque here.
    pub fn records(&self) -> &[u8] {
        &self.table.records
    }

    /// Adds a chunk and returns its index; a chunk that is in the piece already keeps the index it has.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] where the piece would pass [`PIECE_BYTES_MAX`]. The piece is as it was.
    pub fn push(&mut self, chunk: FramedChunk<'_>) -> Result<u32, PushError> {
        let entry = chunk.entry()?;
        let known = self.table.entries.iter().position(|e| e.id == entry.id);
        let index = known.unwrap_or(self.table.entries.len());
        let index = u32::try_from(index).map_err(|_| PushError::Full)?;
        if known.is_some() {
            return Ok(index);
        }
        self.table.entries.push(entry);
        self.frames.extend_from_slice(chunk.frame);
        if self.is_within_bounds() {
            return Ok(index);
        }
        self.table.entries.pop();
        self.frames.truncate(self.frames.len() - chunk.frame.len());
        Err(PushError::Full)
    }

    /// Sets the commit's records, in place of any set before.
    ///
    /// # Errors
    ///
    /// [`PushError::Full`] where the piece would pass [`PIECE_BYTES_MAX`]. The piece is as it was.
    pub fn set_records(&mut self, records: Vec<u8>) -> Result<(), PushError> {
        let before = core::mem::replace(&mut self.table.records, records);
        if self.is_within_bounds() {
            return Ok(());
        }
        self.table.records = before;
        Err(PushError::Full)
    }

    /// Returns a chunk as it goes into a pack; `None` where the piece has no such chunk.
    pub fn chunk(&self, index: u32) -> Option<FramedChunk<'_>> {
        self.chunks().nth(usize::try_from(index).ok()?)
    }

    /// Returns all chunks, by index.
    pub fn chunks(&self) -> impl Iterator<Item = FramedChunk<'_>> {
        let mut rest = &self.frames[..];
        self.table.entries.iter().map(move |entry| {
            let (frame, after) = rest.split_at(entry.frame_length as usize);
            rest = after;
            FramedChunk::new(entry, frame)
        })
    }

    /// Returns the plaintext of a chunk, after checking that it has the name that the table gives it; `None` where the piece has no
    /// such chunk.
    pub fn open_chunk(
        &self,
        index: u32,
        context: &impl ChunkContext,
        decompressor: &mut Decompressor,
    ) -> Option<Result<Vec<u8>, OpenPackError>> {
        let chunk = self.chunk(index)?;
        Some(open_framed(&chunk, context, decompressor))
    }

    /// Returns how many bytes [`Self::encode`] appends.
    pub fn encoded_length(&self) -> usize {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.len()
    }

    /// Appends the table's plaintext, then the frames one after another.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.table.encode(out);
        out.put(&self.frames);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > PIECE_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "length of a piece",
                found: bytes.len() as u64,
                max: PIECE_BYTES_MAX as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        let table = Table::parse(&mut reader)?;
        let mut frames = Vec::new();
        for entry in &table.entries {
            frames.put(reader.take(entry.frame_length as usize, "frames of a piece")?);
        }
        reader.finish()?;
        Ok(Self { table, frames })
    }

    fn is_within_bounds(&self) -> bool {
        self.table.entries.len() <= CHUNKS_PER_PACK_MAX
            && self.table.dictionaries().len() <= DICTIONARIES_PER_PACK_MAX
            && self.encoded_length() <= PIECE_BYTES_MAX
    }
}
