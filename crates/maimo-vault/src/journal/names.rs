//! The names a batch of records uses, each written once at its front and by index from there on.
//!
//! Indexes are given in order of first use, so a batch has one encoding only; [`NameTable`] holds that while it reads.

use core::{cell::Cell, hash::Hash};
use std::collections::{HashMap, HashSet};

use maimo_core::{
    codec::{ParseError, Put, Reader},
    id::ChannelId,
};

use crate::{
    name::{ChunkRef, PackNumber, RecordId, SourceId, WriterId},
    pack::CHUNKS_PER_PACK_MAX,
};

/// How many names of one kind a batch may use.
pub const NAMES_MAX: u64 = 4096;

/// Gives indexes to names while a batch is encoded.
#[derive(Default)]
pub(super) struct Names {
    writers: Interned<WriterId>,
    sources: Interned<SourceId>,
    channels: Interned<ChannelId>,
}

struct Interned<T> {
    order: Vec<T>,
    index: HashMap<T, u64>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            order: Vec::new(),
            index: HashMap::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Interned<T> {
    fn index(&mut self, name: T) -> u64 {
        let next = self.order.len() as u64;
        *self.index.entry(name).or_insert_with(|| {
            self.order.push(name);
            next
        })
    }
}

impl Names {
    pub(super) fn writer(&mut self, writer: WriterId) -> u64 {
        self.writers.index(writer)
    }

    pub(super) fn source(&mut self, source: SourceId) -> u64 {
        self.sources.index(source)
    }

    pub(super) fn channel(&mut self, channel: ChannelId) -> u64 {
        self.channels.index(channel)
    }

    pub(super) fn put_pack(&mut self, pack: PackNumber, out: &mut Vec<u8>) {
        out.put_varint(self.writer(pack.writer));
        out.put_varint(pack.n);
    }

    pub(super) fn put_chunk(&mut self, chunk: ChunkRef, out: &mut Vec<u8>) {
        self.put_pack(chunk.pack, out);
        out.put_varint(chunk.index.into());
    }

    pub(super) fn put_record(&mut self, record: RecordId, out: &mut Vec<u8>) {
        out.put_varint(self.writer(record.writer));
        out.put_varint(record.counter);
    }

    /// Appends the three tables.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.writers.order.len() as u64);
        for writer in &self.writers.order {
            out.put(&writer.0);
        }
        out.put_varint(self.sources.order.len() as u64);
        for source in &self.sources.order {
            out.put(&source.0);
        }
        out.put_varint(self.channels.order.len() as u64);
        for channel in &self.channels.order {
            out.put(channel.as_bytes());
        }
    }
}

/// The tables of a batch being read.
pub(super) struct NameTable {
    writers: Column<WriterId>,
    sources: Column<SourceId>,
    channels: Column<ChannelId>,
}

struct Column<T> {
    names: Vec<T>,
    /// How many have been used; the next new one must be this.
    used: Cell<usize>,
    what: &'static str,
}

impl<T: Copy + Eq + Hash> Column<T> {
    fn parse(
        r: &mut Reader<'_>,
        bytes: usize,
        what: &'static str,
        parse: impl Fn(&mut Reader<'_>) -> Result<T, ParseError>,
    ) -> Result<Self, ParseError> {
        let count = r.count(NAMES_MAX, bytes, what)?;
        let mut names = Vec::with_capacity(count);
        let mut seen = HashSet::with_capacity(count);
        for _ in 0..count {
            let name = parse(r)?;
            if !seen.insert(name) {
                return Err(ParseError::NotCanonical { what });
            }
            names.push(name);
        }
        Ok(Self {
            names,
            used: Cell::new(0),
            what,
        })
    }

    fn read(&self, r: &mut Reader<'_>) -> Result<T, ParseError> {
        let index = r.varint(self.what)?;
        let used = self.used.get();
        let index = usize::try_from(index)
            .ok()
            .filter(|index| *index <= used)
            .ok_or(ParseError::NotCanonical { what: self.what })?;
        let name = self
            .names
            .get(index)
            .ok_or(ParseError::Invalid { what: self.what })?;
        if index == used {
            self.used.set(used + 1);
        }
        Ok(*name)
    }

    fn finish(&self) -> Result<(), ParseError> {
        if self.used.get() == self.names.len() {
            Ok(())
        } else {
            Err(ParseError::NotCanonical { what: self.what })
        }
    }
}

impl NameTable {
    pub(super) fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            writers: Column::parse(r, 16, "writers", WriterId::parse)?,
            sources: Column::parse(r, 16, "sources", SourceId::parse)?,
            channels: Column::parse(r, 32, "channels", |r| Ok(ChannelId(r.array("channel")?)))?,
        })
    }

    pub(super) fn read_writer(&self, r: &mut Reader<'_>) -> Result<WriterId, ParseError> {
        self.writers.read(r)
    }

    pub(super) fn read_source(&self, r: &mut Reader<'_>) -> Result<SourceId, ParseError> {
        self.sources.read(r)
    }

    pub(super) fn read_channel(&self, r: &mut Reader<'_>) -> Result<ChannelId, ParseError> {
        self.channels.read(r)
    }

    pub(super) fn read_pack(&self, r: &mut Reader<'_>) -> Result<PackNumber, ParseError> {
        Ok(PackNumber {
            writer: self.read_writer(r)?,
            n: r.varint("pack number")?,
        })
    }

    pub(super) fn read_chunk(&self, r: &mut Reader<'_>) -> Result<ChunkRef, ParseError> {
        let pack = self.read_pack(r)?;
        let index = r.varint_max(CHUNKS_PER_PACK_MAX as u64 - 1, "chunk index")?;
        Ok(ChunkRef {
            pack,
            index: u32::try_from(index).unwrap_or(u32::MAX),
        })
    }

    pub(super) fn read_record(&self, r: &mut Reader<'_>) -> Result<RecordId, ParseError> {
        Ok(RecordId {
            writer: self.read_writer(r)?,
            counter: r.varint("record counter")?,
        })
    }

    /// Ends the reading: every name must have been used.
    pub(super) fn finish(&self) -> Result<(), ParseError> {
        self.writers.finish()?;
        self.sources.finish()?;
        self.channels.finish()
    }
}
