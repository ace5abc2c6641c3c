//! [`PackLayout`]: where everything in a pack stands. The same on every channel, as nothing in it depends on a key.

use core::ops::Range;

use maimo_core::{
    codec::{ParseError, Put, Reader},
    live_map::LiveMap,
    units::{BLOCK_BYTES, GROUP_BYTES, groups},
};

use super::{Entry, HEADER_BYTES, TABLE_BYTES_MAX, TRAILER_BYTES, checked_length, table::Table};
use crate::{aead::TAG_BYTES, name::PackNumber};

/// Returns how many bytes a chunk takes in a pack: its frame and the tag.
pub(super) fn sealed_length(entry: &Entry) -> u64 {
    u64::from(entry.frame_length) + TAG_BYTES as u64
}

/// Where the header, the chunks, the table and the trailer of one pack stand, in bytes and in chunk groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackLayout {
    number: PackNumber,
    entries: Vec<Entry>,
    /// Where each chunk begins, and behind the last, where the table does.
    offsets: Vec<u64>,
    table_length: u64,
    length: u64,
}

impl PackLayout {
    /// Lays chunks out behind the header, then the table of `table_length` sealed bytes, padding, trailer.
    pub(super) fn new(number: PackNumber, entries: Vec<Entry>, table_length: u64) -> Self {
        let mut offsets = Vec::with_capacity(entries.len() + 1);
        // Entries come from a table, whose chunks together are no longer than a pack: no sum here overflows.
        let mut offset = HEADER_BYTES as u64;
        for entry in &entries {
            offsets.push(offset);
            offset += sealed_length(entry);
        }
        offsets.push(offset);
        let length = (offset + table_length + TRAILER_BYTES as u64).next_multiple_of(BLOCK_BYTES);
        Self {
            number,
            entries,
            offsets,
            table_length,
            length,
        }
    }

    /// As [`Self::new`], for a pack that has a length and a table offset already: an error where they differ from what follows.
    pub(super) fn check(
        number: PackNumber,
        entries: Vec<Entry>,
        table_range: &Range<u64>,
        length: u64,
    ) -> Result<Self, ParseError> {
        let layout = Self::new(number, entries, table_range.end - table_range.start);
        if layout.table_range() != *table_range || layout.length != length {
            return Err(ParseError::Invalid {
                what: "length of a pack's chunks",
            });
        }
        Ok(layout)
    }

    /// Appends the layout as a client keeps it for itself: the table without records, then the sealed table's length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Table::encode_parts(self.number, &self.entries, &[], out);
        out.put_varint(self.table_length);
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Whatever no pack can be: the bytes may come from a torn file.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let table = Table::parse(reader)?;
        if !table.records.is_empty() {
            let what = "records of a layout";
            return Err(ParseError::NotCanonical { what });
        }
        let what = "length of a pack's table";
        let max = (TABLE_BYTES_MAX + 1 + TAG_BYTES) as u64;
        let layout = Self::new(table.number, table.entries, reader.varint_max(max, what)?);
        checked_length(layout.length).map_err(|_| ParseError::Invalid { what })?;
        Ok(layout)
    }

    /// Returns the pack's number.
    pub const fn number(&self) -> PackNumber {
        self.number
    }

    /// Returns the length of the pack in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns what the table says of each chunk, by index.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Returns where a sealed chunk stands, tag included; `None` where the pack has no such chunk.
    pub fn chunk_range(&self, index: u32) -> Option<Range<u64>> {
        let index = usize::try_from(index).ok()?;
        let end = self.offsets.get(index.checked_add(1)?)?;
        Some(*self.offsets.get(index)?..*end)
    }

    /// Returns where the sealed table stands.
    pub fn table_range(&self) -> Range<u64> {
        let start = self.offsets.last().copied().unwrap_or(HEADER_BYTES as u64);
        start..start + self.table_length
    }

    /// Returns where the sealed trailer stands.
    pub const fn trailer_range(&self) -> Range<u64> {
        self.length - TRAILER_BYTES as u64..self.length
    }

    /// Returns where the padding stands, between table and trailer.
    pub fn padding_range(&self) -> Range<u64> {
        self.table_range().end..self.trailer_range().start
    }

    /// Returns the groups that live as long as anything in the pack does: those that header, table and trailer touch.
    pub fn frame_live_map(&self) -> LiveMap {
        let mut map = LiveMap::empty(group(groups(self.length)));
        for range in [
            0..HEADER_BYTES as u64,
            self.table_range(),
            self.trailer_range(),
        ] {
            insert(&mut map, &range);
        }
        map
    }

    /// Returns the groups that live while the chunks of `indexes` do: theirs, and [`Self::frame_live_map`]; `None` where the pack
    /// has no such chunk. A pack none of whose chunks lives is in no inventory, and needs no map.
    pub fn live_map(&self, indexes: impl IntoIterator<Item = u32>) -> Option<LiveMap> {
        let mut map = self.frame_live_map();
        for index in indexes {
            insert(&mut map, &self.chunk_range(index)?);
        }
        Some(map)
    }
}

fn insert(map: &mut LiveMap, bytes: &Range<u64>) {
    map.insert(group(bytes.start / GROUP_BYTES)..group(groups(bytes.end)))
        .expect("parts of a pack are not empty and end with it at the latest");
}

fn group(index: u64) -> u32 {
    u32::try_from(index).expect("a pack has far fewer than 2^32 groups")
}
