//! [`PackReader`]: opens a pack part by part, from whatever ranges of it are at hand.
//!
//! In order: the header and the trailer, whose places follow from the pack's length alone; the table, whose place the trailer tells; any
//! chunk, whose place the table tells. Bytes from a provider are verified as slices before they come here; a seal vouches that they
//! were written by the owner, as this part of a pack with this nonce.

use core::ops::Range;

use maimo_core::codec::{ParseError, Reader};

use super::{
    ChunkContext, Entry, FramedChunk, HEADER_BYTES, OpenPackError, PackHeader, PackKeys, PackKind,
    PackLayout, TABLE_BYTES_MAX, TRAILER_BYTES, checked_length, seal, table::Table, trailer_range,
};
use crate::{
    aead::{CannotOpen, TAG_BYTES},
    compress::{Codec, Decompressor, Frame},
    keys::PackKey,
};

/// What the trailer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trailer {
    table_range: Range<u64>,
}

impl Trailer {
    /// Returns where the sealed table stands.
    pub const fn table_range(&self) -> &Range<u64> {
        &self.table_range
    }
}

/// What a table says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedTable {
    /// Where everything in the pack stands.
    pub layout: PackLayout,
    /// The journal records of the files that end in this pack.
    pub records: Vec<u8>,
}

/// Opens the parts of one pack.
pub struct PackReader<'k> {
    key: &'k PackKey,
    header: PackHeader,
    length: u64,
}

impl<'k> PackReader<'k> {
    /// Where the header stands.
    pub const HEADER_RANGE: Range<u64> = 0..HEADER_BYTES as u64;

    /// Reads the header of a pack of `length` bytes, which must be of `kind`: the inventory tells both.
    pub fn new(
        key: &'k PackKey,
        kind: PackKind,
        length: u64,
        header: &[u8],
    ) -> Result<Self, OpenPackError> {
        Ok(Self {
            key,
            header: PackHeader::parse(header, kind)?,
            length: checked_length(length)?,
        })
    }

    /// Returns the header.
    pub const fn header(&self) -> &PackHeader {
        &self.header
    }

    /// Opens the trailer: the pack's last [`TRAILER_BYTES`] bytes, see [`trailer_range`].
    pub fn open_trailer(&self, sealed: &[u8]) -> Result<Trailer, OpenPackError> {
        let length = u32::try_from(self.length).map_err(|_| OpenPackError::CannotOpen)?;
        let plaintext = self.open(sealed.to_vec(), &seal::trailer_ad(&self.header, length))?;
        let mut reader = Reader::new(&plaintext);
        let table_offset = u64::from(reader.u32("table offset")?);
        let table_length = u64::from(reader.u32("sealed table length")?);
        reader.finish()?;
        let table_range = table_offset..table_offset + table_length;
        let end = self.length - TRAILER_BYTES as u64;
        if table_offset < HEADER_BYTES as u64 || table_range.end > end {
            return Err(ParseError::Invalid {
                what: "table offset",
            }
            .into());
        }
        Ok(Trailer { table_range })
    }

    /// Opens the table: the bytes of [`Trailer::table_range`].
    pub fn open_table(
        &self,
        trailer: &Trailer,
        sealed: Vec<u8>,
    ) -> Result<OpenedTable, OpenPackError> {
        let Range { start, end } = trailer.table_range;
        let (Ok(offset), Ok(length)) = (u32::try_from(start), u32::try_from(end - start)) else {
            return Err(OpenPackError::CannotOpen);
        };
        let packed = self.open(sealed, &seal::table_ad(&self.header, offset, length))?;
        let plaintext = unpack_table(&packed)?;
        let mut reader = Reader::new(&plaintext);
        let table = Table::parse(&mut reader)?;
        reader.finish()?;
        let kind = self.header.kind;
        if !table
            .entries
            .iter()
            .all(|entry| kind.holds(entry.chunk_type))
        {
            return Err(ParseError::Invalid { what: "chunk type" }.into());
        }
        Ok(OpenedTable {
            layout: PackLayout::check(
                table.number,
                table.entries,
                &trailer.table_range,
                self.length,
            )?,
            records: table.records,
        })
    }

    /// Opens a sealed chunk, the bytes of [`PackLayout::chunk_range`], to its frame: all it takes to put the chunk into another pack.
    pub fn open_frame(&self, entry: &Entry, sealed: Vec<u8>) -> Result<Vec<u8>, OpenPackError> {
        let frame = self.open(sealed, &seal::chunk_ad(&self.header, entry))?;
        if frame.len() as u64 == u64::from(entry.frame_length) {
            Ok(frame)
        } else {
            Err(OpenPackError::CannotOpen)
        }
    }

    /// Opens a sealed chunk to its plaintext, and checks that it has the name that the table gives it.
    pub fn open_chunk(
        &self,
        entry: &Entry,
        sealed: Vec<u8>,
        context: &impl ChunkContext,
        decompressor: &mut Decompressor,
    ) -> Result<Vec<u8>, OpenPackError> {
        let frame = self.open_frame(entry, sealed)?;
        if entry.codec == Codec::Raw {
            // The frame is the plaintext, and need not be copied to be checked.
            return check_id(frame, entry, context);
        }
        open_framed(&FramedChunk::new(entry, &frame), context, decompressor)
    }

    fn open(&self, mut sealed: Vec<u8>, ad: &[u8]) -> Result<Vec<u8>, CannotOpen> {
        let (buffer, tag) = sealed
            .split_last_chunk_mut::<TAG_BYTES>()
            .ok_or(CannotOpen)?;
        self.key
            .open_in_place(&self.header.nonce.0, ad, buffer, tag)?;
        let length = buffer.len();
        sealed.truncate(length);
        Ok(sealed)
    }
}

/// Opens a whole pack: its table, whose offsets count from the first byte. The padding must be the one that belongs there.
pub fn open_pack<'k>(
    bytes: &[u8],
    kind: PackKind,
    keys: PackKeys<'k>,
) -> Result<(PackReader<'k>, OpenedTable), OpenPackError> {
    let length = bytes.len() as u64;
    let trailer = trailer_range(length)?;
    let header = slice(bytes, &PackReader::HEADER_RANGE)?;
    let reader = PackReader::new(keys.pack, kind, length, header)?;
    if reader.header.epoch != keys.epoch {
        return Err(OpenPackError::CannotOpen);
    }
    let trailer = reader.open_trailer(slice(bytes, &trailer)?)?;
    let sealed = slice(bytes, trailer.table_range())?.to_vec();
    let table = reader.open_table(&trailer, sealed)?;
    let found = slice(bytes, &table.layout.padding_range())?;
    let mut padding = vec![0; found.len()];
    keys.padding.fill(&reader.header.nonce.0, &mut padding);
    if found != padding {
        return Err(OpenPackError::CannotOpen);
    }
    Ok((reader, table))
}

/// Returns the plaintext of a chunk that is not sealed, after checking that it has the chunk's name.
pub(super) fn open_framed(
    chunk: &FramedChunk<'_>,
    context: &impl ChunkContext,
    decompressor: &mut Decompressor,
) -> Result<Vec<u8>, OpenPackError> {
    let entry = chunk.entry()?;
    let dictionary = match entry.dictionary {
        Some(id) => Some(
            context
                .dictionary(&id)
                .ok_or(OpenPackError::NoDictionary(id))?,
        ),
        None => None,
    };
    let frame = Frame {
        codec: chunk.codec,
        bytes: chunk.frame,
    };
    let plaintext = decompressor
        .decompress(frame, entry.plaintext_length as usize, dictionary)
        .map_err(|_| OpenPackError::CannotOpen)?;
    check_id(plaintext, &entry, context)
}

fn check_id(
    plaintext: Vec<u8>,
    entry: &Entry,
    context: &impl ChunkContext,
) -> Result<Vec<u8>, OpenPackError> {
    let key = context
        .id_key(entry.chunk_type, entry.domain)
        .ok_or(OpenPackError::NoIdKey(entry.domain))?;
    if key.id(&plaintext) == entry.id {
        Ok(plaintext)
    } else {
        Err(OpenPackError::CannotOpen)
    }
}

/// Undoes what the writer did to the table before sealing it.
fn unpack_table(packed: &[u8]) -> Result<Vec<u8>, OpenPackError> {
    let mut reader = Reader::new(packed);
    let what = "length of a pack's table";
    let max = TABLE_BYTES_MAX as u64;
    match Codec::parse(&mut reader)? {
        Codec::Raw => {
            let length = reader.remaining();
            if length > TABLE_BYTES_MAX {
                let found = length as u64;
                return Err(ParseError::TooLarge { what, found, max }.into());
            }
            Ok(reader.take(length, what)?.to_vec())
        }
        Codec::Zstd => {
            let length = reader.varint_max(max, what)?;
            let length = usize::try_from(length).map_err(|_| OpenPackError::CannotOpen)?;
            let remaining = reader.remaining();
            let frame = Frame {
                codec: Codec::Zstd,
                bytes: reader.take(remaining, what)?,
            };
            Decompressor::new()
                .decompress(frame, length, None)
                .map_err(|_| OpenPackError::CannotOpen)
        }
        Codec::ZstdDictionary => Err(ParseError::Invalid { what: "codec" }.into()),
    }
}

fn slice<'b>(bytes: &'b [u8], range: &Range<u64>) -> Result<&'b [u8], OpenPackError> {
    let start = usize::try_from(range.start).ok();
    let end = usize::try_from(range.end).ok();
    start
        .zip(end)
        .and_then(|(start, end)| bytes.get(start..end))
        .ok_or(OpenPackError::CannotOpen)
}
