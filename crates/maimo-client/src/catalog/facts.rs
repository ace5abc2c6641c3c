//! What the catalog says of the store itself: runs, channels, packs, dictionaries, policies.

use std::collections::BTreeSet;

use maimo_core::{
    clock::Timestamp,
    codec::{ParseError, Reader as Bytes},
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    journal::{
        content::{ChunkExtent, Content},
        record::{ADDRESSES_MAX, TEXT_BYTES_MAX},
        state::{ChannelInfo, Dictionary},
    },
    layout::Layout,
    name::{ChunkId, ChunkRef, Domain, PackNumber, RecordId, SourceId, WriterId},
    pack::PackLayout,
    retention::Policy,
};
use rusqlite::{OptionalExtension, Row};

use super::{
    error::CatalogError,
    meta,
    reader::Reader,
    rows::Totals,
    view::{DictionaryVersion, RunEnd, RunInfo},
};

impl Reader {
    /// Returns how far the catalog had come.
    pub fn position(&self) -> Result<super::Position, CatalogError> {
        meta::position(&self.connection)
    }

    /// Returns the counts that `status` shows.
    pub fn totals(&self) -> Result<Totals, CatalogError> {
        meta::totals(&self.connection)
    }

    /// Returns how the store is spread; nothing before the first channel.
    pub fn store_layout(&self) -> Result<Option<Layout>, CatalogError> {
        meta::layout(&self.connection)
    }

    /// Returns the machines known and their labels, ascending by id.
    pub fn sources(&self) -> Result<Vec<(SourceId, String)>, CatalogError> {
        self.connection
            .prepare_cached("SELECT id, label FROM source ORDER BY id")?
            .query_map([], |row| Ok((SourceId(row.get(0)?), row.get(1)?)))?
            .map(|row| Ok(row?))
            .collect()
    }

    /// Returns the channels known, ascending by id.
    pub fn channels(&self) -> Result<Vec<(ChannelId, ChannelInfo)>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id, body FROM channel ORDER BY id")?;
        let mut rows = statement.query([])?;
        let mut channels = Vec::new();
        while let Some(row) = rows.next()? {
            channels.push((ChannelId(row.get(0)?), parse_channel(meta::blob(row, 1)?)?));
        }
        Ok(channels)
    }

    /// Returns which object holds a pack number on a channel.
    pub fn pack(
        &self,
        number: PackNumber,
        channel: ChannelId,
    ) -> Result<Option<ObjectRef>, CatalogError> {
        let Some(writer) = self.ids.writers.number(number.writer) else {
            return Ok(None);
        };
        let reference = self
            .connection
            .prepare_cached(
                "SELECT root, length FROM pack WHERE writer = ?1 AND n = ?2 AND channel = ?3",
            )?
            .query_row((writer, number.n.cast_signed(), channel.0), |row| {
                object(row, 0)
            })
            .optional()?;
        Ok(reference)
    }

    /// Returns every pack number with its object, of one channel, ascending.
    pub fn packs(&self, channel: ChannelId) -> Result<Vec<(PackNumber, ObjectRef)>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT writer, n, root, length FROM pack WHERE channel = ?1")?;
        let mut rows = statement.query([channel.0])?;
        let mut packs = Vec::new();
        while let Some(row) = rows.next()? {
            packs.push((self.pack_number(row, 0)?, object(row, 2)?));
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Returns the packs of one channel of which it is not known where their chunks stand, ascending.
    pub fn packs_without_layout(
        &self,
        channel: ChannelId,
    ) -> Result<Vec<(PackNumber, ObjectRef)>, CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT writer, n, root, length FROM pack WHERE channel = ?1 AND NOT EXISTS
             (SELECT 1 FROM pack_layout AS known WHERE known.writer = pack.writer AND known.n = pack.n)",
        )?;
        let mut rows = statement.query([channel.0])?;
        let mut packs = Vec::new();
        while let Some(row) = rows.next()? {
            packs.push((self.pack_number(row, 0)?, object(row, 2)?));
        }
        packs.sort_unstable();
        Ok(packs)
    }

    /// Returns how many packs have an object on some channel.
    pub fn pack_count(&self) -> Result<u64, CatalogError> {
        let count: i64 = self
            .connection
            .prepare_cached("SELECT count(*) FROM (SELECT DISTINCT writer, n FROM pack)")?
            .query_row([], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// Returns where the chunks of a pack stand, if that is at hand.
    pub fn layout(&self, number: PackNumber) -> Result<Option<PackLayout>, CatalogError> {
        let Some(writer) = self.ids.writers.number(number.writer) else {
            return Ok(None);
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT body FROM pack_layout WHERE writer = ?1 AND n = ?2")?;
        let mut rows = statement.query((writer, number.n.cast_signed()))?;
        match rows.next()? {
            Some(row) => Ok(Some(parse_layout(meta::blob(row, 0)?)?)),
            None => Ok(None),
        }
    }

    /// Passes to `each` the layout of every pack at hand that a `pack` record speaks of; ends early with its error.
    pub fn each_layout<E: From<CatalogError>>(
        &self,
        mut each: impl FnMut(PackLayout) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = "SELECT body FROM pack_layout AS layout WHERE EXISTS
                   (SELECT 1 FROM pack WHERE pack.writer = layout.writer AND pack.n = layout.n)";
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(CatalogError::from)?;
        let mut rows = statement.query([]).map_err(CatalogError::from)?;
        while let Some(row) = rows.next().map_err(CatalogError::from)? {
            each(parse_layout(meta::blob(row, 0)?)?)?;
        }
        Ok(())
    }

    /// Follows `moved` records to where a chunk is now.
    pub fn resolve(&self, mut chunk: ChunkRef) -> Result<ChunkRef, CatalogError> {
        // As in the state in memory: honest chains end, a circle among hostile ones ends here.
        let steps = self.moves()?;
        if steps == 0 {
            return Ok(chunk);
        }
        for _ in 0..=steps {
            match self.moved_once(chunk)? {
                Some(next) => chunk = next,
                None => break,
            }
        }
        Ok(chunk)
    }

    /// Returns each chunk of a content where it is now, consecutive ones of one pack joined.
    pub fn resolve_all(&self, content: &Content) -> Result<Vec<ChunkExtent>, CatalogError> {
        let extents = content.extents();
        if self.moves()? == 0 {
            return Ok(extents.to_vec());
        }
        let mut chunks = Vec::new();
        for chunk in extents.iter().flat_map(|extent| extent.chunks()) {
            chunks.push(self.resolve(chunk)?);
        }
        Ok(ChunkExtent::join(chunks))
    }

    /// Returns the packs, or pieces of the tail, that a content's chunks are in now.
    pub fn packs_of(&self, content: &Content) -> Result<BTreeSet<PackNumber>, CatalogError> {
        let extents = self.resolve_all(content)?;
        Ok(extents.iter().map(|extent| extent.first.pack).collect())
    }

    pub(super) fn moves(&self) -> Result<u64, CatalogError> {
        if let Some(moves) = self.moves.get() {
            return Ok(*moves);
        }
        let moves: i64 = self
            .connection
            .query_row("SELECT count(*) FROM moved", [], |row| row.get(0))?;
        Ok(*self.moves.get_or_init(|| moves.cast_unsigned()))
    }

    fn moved_once(&self, chunk: ChunkRef) -> Result<Option<ChunkRef>, CatalogError> {
        let Some(writer) = self.ids.writers.number(chunk.pack.writer) else {
            return Ok(None);
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT place, count, to_writer, to_n, to_place FROM moved
             WHERE writer = ?1 AND n = ?2 AND place <= ?3 ORDER BY place DESC LIMIT 1",
        )?;
        let mut rows = statement.query((writer, chunk.pack.n.cast_signed(), chunk.index))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let (place, count): (u32, u32) = (row.get(0)?, row.get(1)?);
        let step = chunk.index.saturating_sub(place);
        if step >= count {
            return Ok(None);
        }
        let to: u32 = row.get(4)?;
        Ok(Some(ChunkRef {
            pack: self.pack_number(row, 2)?,
            index: to.saturating_add(step),
        }))
    }

    /// Returns the dictionaries known, ascending by id.
    pub fn dictionaries(&self) -> Result<Vec<(ChunkId, Dictionary)>, CatalogError> {
        let versions = self.dictionary_versions()?.into_iter();
        let mut dictionaries: Vec<_> = versions
            .map(|version| (version.id, version.known))
            .collect();
        dictionaries.sort_unstable_by_key(|(id, _)| *id);
        Ok(dictionaries)
    }

    /// Returns the dictionaries known, in the order in which the journal spoke of them last: of those in use the last one is the newest.
    pub fn dictionary_versions(&self) -> Result<Vec<DictionaryVersion>, CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT id, domain, writer, n, place, retired, sequence FROM dictionary ORDER BY ordinal",
        )?;
        let mut rows = statement.query([])?;
        let mut versions = Vec::new();
        while let Some(row) = rows.next()? {
            let dictionary = Dictionary {
                domain: Domain(row.get(1)?),
                chunk: ChunkRef {
                    pack: self.pack_number(row, 2)?,
                    index: row.get(4)?,
                },
                retired: row.get(5)?,
            };
            let sequence: i64 = row.get(6)?;
            versions.push(DictionaryVersion {
                id: ChunkId(row.get(0)?),
                known: dictionary,
                sequence: sequence.cast_unsigned(),
            });
        }
        Ok(versions)
    }

    /// Returns the store's policy.
    pub fn policy(&self) -> Result<Policy, CatalogError> {
        let policies = self.policies()?;
        let store = policies.into_iter().find(|(pattern, _)| pattern.is_empty());
        Ok(store.and_then(|(_, policy)| policy).unwrap_or_default())
    }

    /// Returns all policies by their patterns; nothing in place of one that was taken back.
    pub fn policies(&self) -> Result<Vec<(String, Option<Policy>)>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT pattern, body FROM policy ORDER BY pattern")?;
        let mut rows = statement.query([])?;
        let mut policies = Vec::new();
        while let Some(row) = rows.next()? {
            let body: Option<Vec<u8>> = row.get(1)?;
            let policy = body
                .map(|body| {
                    let mut r = Bytes::new(&body);
                    let policy = Policy::parse(&mut r)?;
                    r.finish()?;
                    Ok::<_, ParseError>(policy)
                })
                .transpose()?;
            policies.push((row.get(0)?, policy));
        }
        Ok(policies)
    }

    /// Returns the runs and revisions that are pinned, ascending.
    pub fn pins(&self) -> Result<Vec<RecordId>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT writer, counter FROM pin WHERE pinned")?;
        let mut rows = statement.query([])?;
        let mut pins = Vec::new();
        while let Some(row) = rows.next()? {
            let PackNumber { writer, n } = self.pack_number(row, 0)?;
            pins.push(RecordId { writer, counter: n });
        }
        pins.sort_unstable();
        Ok(pins)
    }

    /// Returns the runs that began, of all sources, in the order of their beginnings.
    pub fn runs(&self) -> Result<Vec<RunInfo>, CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT run.writer, run.counter, begun, source, run.time, ended, run_end.time, files, bytes,
                 EXISTS (SELECT 1 FROM pin WHERE pin.writer = run.writer AND pin.counter = run.counter AND pinned),
                 EXISTS (SELECT 1 FROM dropped WHERE dropped.writer = run.writer AND dropped.counter = run.counter)
             FROM run LEFT JOIN run_end ON run_end.writer = run.writer AND run_end.counter = run.counter
             ORDER BY begun",
        )?;
        let mut rows = statement.query([])?;
        let mut runs = Vec::new();
        while let Some(row) = rows.next()? {
            let PackNumber { writer, n } = self.pack_number(row, 0)?;
            let time = |index| Ok::<_, CatalogError>(Timestamp(unsigned(row, index)?));
            let end = match row.get::<_, Option<i64>>(5)? {
                Some(ended) => Some(RunEnd {
                    stamp: self.ids.stamp(&self.connection, ended)?,
                    time: time(6)?,
                    files: unsigned(row, 7)?,
                    bytes_stored: unsigned(row, 8)?,
                }),
                None => None,
            };
            let pinned = row.get(9)?;
            runs.push(RunInfo {
                id: RecordId { writer, counter: n },
                begun: self.ids.stamp(&self.connection, row.get(2)?)?,
                source: SourceId(row.get(3)?),
                time: time(4)?,
                end,
                kept: pinned || !row.get::<_, bool>(10)?,
                pinned,
            });
        }
        Ok(runs)
    }

    /// Returns when the run began that a record of a source's was written in, as far as is known.
    pub(super) fn run_time_of(
        &self,
        ordinal: i64,
        source: SourceId,
    ) -> Result<Option<Timestamp>, CatalogError> {
        let time: Option<i64> = self
            .connection
            .prepare_cached(
                "SELECT time FROM run WHERE source = ?1 AND begun < ?2 ORDER BY begun DESC LIMIT 1",
            )?
            .query_row((source.0, ordinal), |row| row.get(0))
            .optional()?;
        Ok(time.map(|time| Timestamp(time.cast_unsigned())))
    }

    fn writer_id(&self, number: i64) -> Result<WriterId, CatalogError> {
        let id = self.ids.writers.id(number);
        id.ok_or_else(|| CatalogError::Damaged("a writer is missing".to_owned()))
    }

    /// Reads a writer and a number of its own, in two columns.
    pub(super) fn pack_number(
        &self,
        row: &Row<'_>,
        index: usize,
    ) -> Result<PackNumber, CatalogError> {
        Ok(PackNumber {
            writer: self.writer_id(row.get(index)?)?,
            n: unsigned(row, index + 1)?,
        })
    }
}

fn unsigned(row: &Row<'_>, index: usize) -> Result<u64, CatalogError> {
    Ok(row.get::<_, i64>(index)?.cast_unsigned())
}

fn object(row: &Row<'_>, index: usize) -> rusqlite::Result<ObjectRef> {
    Ok(ObjectRef {
        root: RootHash(row.get(index)?),
        length: row.get::<_, i64>(index + 1)?.cast_unsigned(),
    })
}

fn parse_layout(bytes: &[u8]) -> Result<PackLayout, CatalogError> {
    let mut r = Bytes::new(bytes);
    let layout = PackLayout::parse(&mut r)?;
    r.finish()?;
    Ok(layout)
}

fn parse_channel(bytes: &[u8]) -> Result<ChannelInfo, ParseError> {
    let mut reader = Bytes::new(bytes);
    let r = &mut reader;
    let text = |r: &mut Bytes<'_>| {
        let bytes = r.bytes(TEXT_BYTES_MAX, "channel")?;
        String::from_utf8(bytes.to_vec()).map_err(|_| ParseError::Invalid { what: "channel" })
    };
    let info = ChannelInfo {
        auth: r.array("channel")?,
        closed: r.u8("channel")? != 0,
        name: text(r)?,
        addresses: {
            let count = r.count(ADDRESSES_MAX, 1, "channel")?;
            (0..count).map(|_| text(r)).collect::<Result<_, _>>()?
        },
    };
    reader.finish()?;
    Ok(info)
}
