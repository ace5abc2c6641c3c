//! Taking in records: one transaction that brings the catalog from one position to the next.

use std::{
    borrow::{Borrow, Cow},
    collections::{BTreeSet, HashMap},
};

use maimo_core::codec::Put;
use maimo_vault::{
    journal::{
        batch::{Batch, Stamp},
        content::Content,
        metadata::Metadata,
        record::{PathEvent, Record},
        state::Presence,
    },
    name::{ChunkRef, PackNumber, RecordId, SourceId, WriterId},
    pack::PackLayout,
    path::{Prefix, StorePath},
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use super::{
    error::CatalogError,
    ids::{Ids, Span, counter_key},
    meta,
    position::Position,
    rows::{EntryTag, Fact, Newest, Totals, encode_revision, kind_and_size},
};
use crate::local_stat::LocalStat;

/// What goes with the records that a catalog takes in.
#[derive(Debug, Clone, Copy)]
pub struct TakeIn<'a> {
    /// Where they lead.
    pub position: &'a Position,
    /// How this machine found the paths that the records speak of, by record.
    pub local: &'a HashMap<RecordId, LocalStat>,
    /// Where the chunks of new packs stand.
    pub layouts: &'a [PackLayout],
    /// The records of segments that the catalog's position lists and `position` does not: a merge, or a spill, has replaced them. What is
    /// among them and not among the records taken in was dropped by it. The tail is looked after here.
    pub vanished: &'a [RecordId],
}

/// Folder 0 holds the roots of all sources.
pub(super) const ROOTS: i64 = 0;

/// Returns the name that a source's root goes by in folder 0.
pub(super) fn root_name(source: SourceId, prefix: &Prefix) -> Vec<u8> {
    let mut name = source.0.to_vec();
    match prefix {
        Prefix::Unix => name.put_u8(0),
        Prefix::Windows(drive) => {
            name.put_u8(1);
            name.put(drive);
        }
    }
    name
}

/// Returns the name that a path goes by in the folder it stands in.
fn name_in_folder(source: SourceId, path: &StorePath) -> Cow<'_, [u8]> {
    match path.components().last() {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(root_name(source, path.prefix())),
    }
}

/// Takes in `records`, ascending by stamp, and returns how many were new.
pub(super) fn take_in<R: Borrow<(Stamp, Record)>>(
    connection: &Connection,
    records: impl IntoIterator<Item = R>,
    with: &TakeIn<'_>,
) -> Result<u64, CatalogError> {
    let before = meta::position(connection)?;
    let mut vanished: BTreeSet<RecordId> = with.vanished.iter().copied().collect();
    vanished.extend(tail_let_go(&before, with.position)?);
    let mut writer = Writer::begin(connection, with.local)?;
    let mut last: Option<Stamp> = None;
    let mut new = 0;
    for record in records {
        let (stamp, record) = record.borrow();
        if last == Some(*stamp) {
            continue;
        }
        if last.is_some_and(|last| last > *stamp) || stamp.sequence > with.position.sequence {
            let sequence = stamp.sequence;
            return Err(CatalogError::OutOfOrder { sequence });
        }
        last = Some(*stamp);
        if !vanished.is_empty() {
            vanished.remove(&stamp.id);
        }
        if stamp.sequence > before.sequence {
            new += u64::from(writer.take_new(*stamp, record)?);
        } else {
            writer.fold(*stamp, record)?;
        }
    }
    for id in vanished {
        writer.drop_id(id)?;
    }
    writer.finish()?;
    put_layouts(connection, with.layouts)?;
    meta::set_position(connection, with.position)?;
    Ok(new)
}

/// Writes down where the chunks of packs stand.
pub(super) fn put_layouts(
    connection: &Connection,
    layouts: &[PackLayout],
) -> Result<(), CatalogError> {
    if layouts.is_empty() {
        return Ok(());
    }
    let mut names = Names::begin(connection)?;
    let mut put = connection.prepare_cached(
        "INSERT INTO pack_layout (writer, n, body) VALUES (?1, ?2, ?3)
         ON CONFLICT (writer, n) DO UPDATE SET body = excluded.body",
    )?;
    let mut body = Vec::new();
    for layout in layouts {
        let number = layout.number();
        body.clear();
        layout.encode(&mut body);
        let writer = names.number(connection, number.writer)?;
        put.execute((writer, number.n.cast_signed(), &body))?;
    }
    names.finish(connection)
}

/// Forgets where the chunks of packs stand.
pub(super) fn drop_layouts(
    connection: &Connection,
    numbers: &[PackNumber],
) -> Result<(), CatalogError> {
    let ids = Ids::load(connection)?;
    let mut drop =
        connection.prepare_cached("DELETE FROM pack_layout WHERE writer = ?1 AND n = ?2")?;
    for number in numbers {
        if let Some(writer) = ids.writers.number(number.writer) {
            drop.execute((writer, number.n.cast_signed()))?;
        }
    }
    Ok(())
}

/// Returns the records of tail pieces that the next position no longer carries.
fn tail_let_go(before: &Position, after: &Position) -> Result<Vec<RecordId>, CatalogError> {
    let mut ids = Vec::new();
    for tail in &before.tail {
        let number = tail.piece.number();
        if after.tail.iter().any(|next| next.piece.number() == number) {
            continue;
        }
        if !tail.piece.records().is_empty() {
            let batch = Batch::parse(tail.piece.records())?;
            ids.extend(batch.records().iter().map(|(stamp, _)| stamp.id));
        }
    }
    Ok(ids)
}

/// The writers and how far their pack numbers have come.
struct Names {
    ids: Ids,
    next_packs: Vec<u64>,
    changed: bool,
}

impl Names {
    fn begin(connection: &Connection) -> Result<Self, CatalogError> {
        let ids = Ids::load(connection)?;
        let next_packs = connection
            .prepare_cached("SELECT next_pack FROM writer ORDER BY number")?
            .query_map([], |row| row.get::<_, i64>(0))?
            .map(|next| next.map(i64::cast_unsigned))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            ids,
            next_packs,
            changed: false,
        })
    }

    fn number(&mut self, connection: &Connection, writer: WriterId) -> Result<i64, CatalogError> {
        if let Some(number) = self.ids.writers.number(writer) {
            return Ok(number);
        }
        let number = self.ids.writers.add(writer);
        self.next_packs.push(0);
        connection
            .prepare_cached("INSERT INTO writer (number, id, next_pack) VALUES (?1, ?2, 0)")?
            .execute((number, writer.0))?;
        Ok(number)
    }

    /// As [`Self::number`], of a pack's writer, whose numbers have come at least that far.
    fn pack(&mut self, connection: &Connection, pack: PackNumber) -> Result<i64, CatalogError> {
        let number = self.number(connection, pack.writer)?;
        let index = usize::try_from(number - 1).unwrap_or(usize::MAX);
        if let Some(next) = self.next_packs.get_mut(index)
            && *next <= pack.n
        {
            *next = pack.n.saturating_add(1);
            self.changed = true;
        }
        Ok(number)
    }

    fn finish(self, connection: &Connection) -> Result<(), CatalogError> {
        if self.changed {
            let mut set =
                connection.prepare_cached("UPDATE writer SET next_pack = ?2 WHERE number = ?1")?;
            for (number, next) in (1_i64..).zip(self.next_packs) {
                set.execute((number, next.cast_signed()))?;
            }
        }
        Ok(())
    }
}

/// A folder on the way to the record last taken in.
struct Level {
    name: Vec<u8>,
    folder: i64,
}

/// What the writer is at, within one transaction.
struct Writer<'c> {
    connection: &'c Connection,
    local: &'c HashMap<RecordId, LocalStat>,
    names: Names,
    totals: Totals,
    /// The span that the last record belongs to, and the counter that it must not reach: a later one is known already.
    open: Option<Span>,
    limit: Option<u64>,
    next_ordinal: i64,
    next_folder: i64,
    sequence: u64,
    /// Whether some id was dropped that the catalog does not know: then each new record is looked up.
    dropped_ahead: bool,
    levels: Vec<Level>,
    fact: Vec<u8>,
    body: Vec<u8>,
    insert_path: CachedStatement<'c>,
    insert_entry: CachedStatement<'c>,
    select_path: CachedStatement<'c>,
    update_path: CachedStatement<'c>,
}

/// A row of the hot table.
struct PathRow {
    child: Option<i64>,
    last: Option<i64>,
    fact: Fact,
}

impl<'c> Writer<'c> {
    fn begin(
        connection: &'c Connection,
        local: &'c HashMap<RecordId, LocalStat>,
    ) -> Result<Self, CatalogError> {
        let open = connection
            .prepare_cached(
                "SELECT first, writer, counter, count FROM span ORDER BY first DESC LIMIT 1",
            )?
            .query_row([], Span::read)
            .optional()?;
        let next_folder: Option<i64> = connection
            .prepare_cached("SELECT max(number) FROM folder")?
            .query_row([], |row| row.get(0))?;
        let mut writer = Self {
            connection,
            local,
            names: Names::begin(connection)?,
            totals: meta::totals(connection)?,
            next_ordinal: open.map_or(1, |span| span.first.saturating_add(span.count)),
            limit: None,
            open,
            next_folder: next_folder.unwrap_or(ROOTS) + 1,
            sequence: 0,
            dropped_ahead: meta::flag(connection, meta::DROPPED_AHEAD)?,
            levels: Vec::new(),
            fact: Vec::new(),
            body: Vec::new(),
            insert_path: connection.prepare_cached(
                "INSERT OR IGNORE INTO path (folder, name, child, last, fact)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            insert_entry: connection.prepare_cached(
                "INSERT INTO entry (ordinal, folder, before, name, body)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            select_path: connection.prepare_cached(
                "SELECT child, last, fact FROM path WHERE folder = ?1 AND name = ?2",
            )?,
            update_path: connection.prepare_cached(
                "UPDATE path SET child = ?3, last = ?4, fact = ?5 WHERE folder = ?1 AND name = ?2",
            )?,
        };
        if let Some(span) = writer.open {
            let end = span.counter.saturating_add(span.count.cast_unsigned());
            writer.limit = writer.known_from(span.writer, end)?;
        }
        Ok(writer)
    }

    fn finish(mut self) -> Result<(), CatalogError> {
        self.flush_span()?;
        meta::set_totals(self.connection, &self.totals)?;
        meta::set_flag(self.connection, meta::DROPPED_AHEAD, self.dropped_ahead)?;
        self.names.finish(self.connection)
    }

    /// Takes in a record of a commit after the position; one already known changes nothing. Returns whether it was new.
    fn take_new(&mut self, stamp: Stamp, record: &Record) -> Result<bool, CatalogError> {
        let Some(ordinal) = self.admit(stamp)? else {
            return Ok(false);
        };
        match record {
            Record::Source { source, label } => {
                self.connection
                    .prepare_cached("INSERT OR REPLACE INTO source (id, label) VALUES (?1, ?2)")?
                    .execute((source.0, label))?;
            }
            Record::Channel {
                channel,
                auth,
                name,
                addresses,
                closed,
            } => {
                let mut body = Vec::new();
                body.put(auth);
                body.put_u8(u8::from(*closed));
                body.put_bytes(name.as_bytes());
                body.put_varint(addresses.len() as u64);
                for address in addresses {
                    body.put_bytes(address.as_bytes());
                }
                self.connection
                    .prepare_cached("INSERT OR REPLACE INTO channel (id, body) VALUES (?1, ?2)")?
                    .execute((channel.0, body))?;
            }
            Record::Layout { epoch, channels } => {
                meta::later_layout(self.connection, *epoch, channels)?;
            }
            Record::Pack {
                number,
                channel,
                reference,
            } => {
                let writer = self.names.pack(self.connection, *number)?;
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO pack (writer, n, channel, root, length)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute((
                        writer,
                        number.n.cast_signed(),
                        channel.0,
                        reference.root.0,
                        reference.length.cast_signed(),
                    ))?;
            }
            Record::Moved { from, to, count } => {
                let from_writer = self.names.pack(self.connection, from.pack)?;
                let to_writer = self.names.pack(self.connection, to.pack)?;
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO moved (writer, n, place, to_writer, to_n, to_place, count)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )?
                    .execute((
                        from_writer,
                        from.pack.n.cast_signed(),
                        from.index,
                        to_writer,
                        to.pack.n.cast_signed(),
                        to.index,
                        count,
                    ))?;
            }
            Record::RunBegin { source, time } => {
                let writer = self.names.number(self.connection, stamp.id.writer)?;
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO run (writer, counter, begun, source, time)
                         VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute((
                        writer,
                        stamp.id.counter.cast_signed(),
                        ordinal,
                        source.0,
                        time.cast_signed(),
                    ))?;
            }
            Record::RunEnd {
                run,
                time,
                files,
                bytes_stored,
            } => {
                let writer = self.names.number(self.connection, run.writer)?;
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO run_end (writer, counter, ended, time, files, bytes)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute((
                        writer,
                        run.counter.cast_signed(),
                        ordinal,
                        time.cast_signed(),
                        files.cast_signed(),
                        bytes_stored.cast_signed(),
                    ))?;
            }
            Record::File {
                source,
                path,
                metadata,
                content,
            } => self.file(ordinal, stamp.id, (*source, path), metadata, content)?,
            Record::Path {
                source,
                path,
                event,
            } => self.event(ordinal, stamp.id, (*source, path), *event)?,
            Record::Dropped { ids } => {
                for id in ids {
                    self.drop_id(*id)?;
                }
            }
            Record::Pin { id, pinned } => self.pin(*id, *pinned)?,
            Record::Policy { pattern, policy } => {
                let body = policy.map(|policy| {
                    let mut body = Vec::new();
                    policy.encode(&mut body);
                    body
                });
                self.connection
                    .prepare_cached(
                        "INSERT OR REPLACE INTO policy (pattern, body) VALUES (?1, ?2)",
                    )?
                    .execute((pattern, body))?;
            }
            Record::Dictionary { .. } => self.dictionary(ordinal, stamp, record)?,
            // Later versions' records are kept by the journal; the catalog of a later version is built anew.
            _ => {}
        }
        Ok(true)
    }

    /// Takes in a record of before the position again: a merge may have turned its references.
    fn fold(&mut self, stamp: Stamp, record: &Record) -> Result<(), CatalogError> {
        let known = self.names.ids.ordinal(self.connection, stamp.id)?;
        let Some(ordinal) = known else {
            let sequence = stamp.sequence;
            return Err(CatalogError::Behind { sequence });
        };
        match record {
            Record::File {
                metadata, content, ..
            } if !content.extents().is_empty() => {
                self.encode_body(metadata, content)?;
                self.connection
                    .prepare_cached("UPDATE entry SET body = ?2 WHERE ordinal = ?1 AND body <> ?2")?
                    .execute((ordinal, &self.body))?;
            }
            Record::Dictionary { .. } => self.dictionary(ordinal, stamp, record)?,
            _ => {}
        }
        Ok(())
    }

    /// Gives a new record its ordinal; `None` for one that is known.
    fn admit(&mut self, stamp: Stamp) -> Result<Option<i64>, CatalogError> {
        if stamp.sequence != self.sequence {
            self.sequence = stamp.sequence;
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO brought (first, sequence) VALUES (?1, ?2)")?
                .execute((self.next_ordinal, stamp.sequence.cast_signed()))?;
        }
        let counter = stamp.id.counter;
        let writer = match self.names.ids.writers.number(stamp.id.writer) {
            Some(writer) => writer,
            None => self.names.number(self.connection, stamp.id.writer)?,
        };
        let goes_on = self.open.as_mut().filter(|open| {
            open.writer == writer
                && open.counter.checked_add(open.count.cast_unsigned()) == Some(counter)
                && self.limit != Some(counter)
        });
        if let Some(open) = goes_on {
            open.count += 1;
        } else {
            self.flush_span()?;
            if self.names.ids.ordinal(self.connection, stamp.id)?.is_some() {
                return Ok(None);
            }
            self.limit = self.known_from(writer, counter)?;
            self.open = Some(Span {
                first: self.next_ordinal,
                writer,
                counter,
                count: 1,
            });
        }
        let ordinal = self.next_ordinal;
        self.next_ordinal += 1;
        Ok(Some(ordinal))
    }

    /// Returns the first counter of a span of `writer` that begins at `counter` or after.
    fn known_from(&self, writer: i64, counter: u64) -> Result<Option<u64>, CatalogError> {
        let key: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(counter) FROM span WHERE writer = ?1 AND counter >= ?2")?
            .query_row((writer, counter_key(counter)), |row| row.get(0))?;
        Ok(key.map(|key| key.cast_unsigned() ^ (1 << 63)))
    }

    fn flush_span(&mut self) -> Result<(), CatalogError> {
        if let Some(span) = self.open.take() {
            self.connection
                .prepare_cached(
                    "INSERT INTO span (first, writer, counter, count) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (first) DO UPDATE SET count = excluded.count",
                )?
                .execute((
                    span.first,
                    span.writer,
                    counter_key(span.counter),
                    span.count,
                ))?;
            self.names.ids.refresh();
        }
        Ok(())
    }

    /// As [`Ids::ordinal`], with the open span in sight.
    fn ordinal(&self, id: RecordId) -> Result<Option<i64>, CatalogError> {
        let open = self.open.zip(self.names.ids.writers.number(id.writer));
        if let Some(ordinal) = open.and_then(|(open, writer)| open.ordinal(writer, id.counter)) {
            return Ok(Some(ordinal));
        }
        self.names.ids.ordinal(self.connection, id)
    }

    fn encode_body(&mut self, metadata: &Metadata, content: &Content) -> Result<(), CatalogError> {
        let mut failed = None;
        self.body.clear();
        let (names, connection) = (&mut self.names, self.connection);
        encode_revision(
            metadata,
            content,
            |pack| match names.pack(connection, pack) {
                Ok(number) => number,
                Err(error) => {
                    failed = Some(error);
                    0
                }
            },
            &mut self.body,
        );
        failed.map_or(Ok(()), Err)
    }

    fn file(
        &mut self,
        ordinal: i64,
        id: RecordId,
        (source, path): (SourceId, &StorePath),
        metadata: &Metadata,
        content: &Content,
    ) -> Result<(), CatalogError> {
        let kept = !self.dropped_ahead || self.is_kept(id)?;
        let (kind, size) = kind_and_size(content);
        let mut fact = Fact {
            newest: Some(Newest {
                ordinal,
                presence: Presence::Present,
                kept,
                kind,
                size,
                modified: metadata.modified,
                local: self.local.get(&id).copied(),
            }),
            revisions: u64::from(kept),
        };
        self.encode_body(metadata, content)?;
        let folder = self.parent(source, path)?;
        let name = name_in_folder(source, path);
        let name = &name[..];
        // A folder gets its number at once: what is in it is about to come.
        let child = matches!(content, Content::Folder).then_some(self.next_folder);
        self.fact.clear();
        fact.encode(&mut self.fact);
        let is_new = self
            .insert_path
            .execute((folder, name, child, ordinal, &self.fact))?
            == 1;
        let before = if is_new {
            if child.is_some() {
                self.add_folder(folder, name)?;
            }
            self.totals.replace(&Fact::default(), &fact);
            None
        } else {
            let row = self.row(folder, name)?;
            fact.revisions = row.fact.revisions.saturating_add(fact.revisions);
            self.totals.replace(&row.fact, &fact);
            self.set_row(folder, name, row.child, Some(ordinal), &fact)?;
            row.last
        };
        self.insert_entry
            .execute((ordinal, folder, before, name, &self.body))?;
        Ok(())
    }

    fn event(
        &mut self,
        ordinal: i64,
        id: RecordId,
        (source, path): (SourceId, &StorePath),
        event: PathEvent,
    ) -> Result<(), CatalogError> {
        let folder = self.parent(source, path)?;
        let name = name_in_folder(source, path);
        let name = &name[..];
        let empty: [u8; 0] = [];
        let is_new =
            self.insert_path
                .execute(params![folder, name, None::<i64>, ordinal, empty])?
                == 1;
        let before = if is_new {
            None
        } else {
            let row = self.row(folder, name)?;
            let mut fact = row.fact;
            if let Some(newest) = &mut fact.newest {
                newest.presence = match event {
                    PathEvent::Gone => Presence::Gone,
                    PathEvent::Evicted => Presence::Evicted,
                    PathEvent::Found => Presence::Present,
                    PathEvent::Removed => Presence::Removed,
                };
                newest.local = self.local.get(&id).copied();
            }
            self.totals.replace(&row.fact, &fact);
            self.set_row(folder, name, row.child, Some(ordinal), &fact)?;
            row.last
        };
        self.insert_entry
            .execute(params![ordinal, folder, before, name, [event as u8]])?;
        Ok(())
    }

    fn row(&mut self, folder: i64, name: &[u8]) -> Result<PathRow, CatalogError> {
        let row = find_row(&mut self.select_path, folder, name)?;
        row.ok_or_else(|| CatalogError::Damaged("a path is missing".to_owned()))
    }

    fn set_row(
        &mut self,
        folder: i64,
        name: &[u8],
        child: Option<i64>,
        last: Option<i64>,
        fact: &Fact,
    ) -> Result<(), CatalogError> {
        self.fact.clear();
        fact.encode(&mut self.fact);
        self.update_path
            .execute((folder, name, child, last, &self.fact))?;
        Ok(())
    }

    /// Returns the folder that a path stands in; remembers the way, as the next record is most likely near.
    fn parent(&mut self, source: SourceId, path: &StorePath) -> Result<i64, CatalogError> {
        let Some((_, parents)) = path.components().split_last() else {
            return Ok(ROOTS);
        };
        let same_root = self.levels.first().is_some_and(|root| {
            let (of, prefix) = root.name.split_at(source.0.len());
            of == source.0
                && match path.prefix() {
                    Prefix::Unix => prefix == [0],
                    Prefix::Windows(drive) => prefix[0] == 1 && prefix[1..] == drive[..],
                }
        });
        if !same_root {
            self.levels.clear();
            let name = root_name(source, path.prefix());
            let folder = self.child(ROOTS, &name)?;
            self.levels.push(Level { name, folder });
        }
        let known = self.levels[1..].iter().zip(parents);
        let shared = known
            .take_while(|(level, name)| level.name == **name)
            .count();
        self.levels.truncate(1 + shared);
        let mut folder = self.levels[shared].folder;
        for name in &parents[shared..] {
            folder = self.child(folder, name)?;
            self.levels.push(Level {
                name: name.clone(),
                folder,
            });
        }
        Ok(folder)
    }

    /// Returns the folder of that name, which is made if it is not there.
    fn child(&mut self, folder: i64, name: &[u8]) -> Result<i64, CatalogError> {
        let number = self.next_folder;
        match find_row(&mut self.select_path, folder, name)? {
            Some(PathRow {
                child: Some(child), ..
            }) => return Ok(child),
            Some(row) => self.set_row(folder, name, Some(number), row.last, &row.fact)?,
            None => {
                let empty: [u8; 0] = [];
                self.insert_path
                    .execute(params![folder, name, number, None::<i64>, empty])?;
            }
        }
        self.add_folder(folder, name)?;
        Ok(number)
    }

    fn add_folder(&mut self, parent: i64, name: &[u8]) -> Result<(), CatalogError> {
        self.connection
            .prepare_cached("INSERT INTO folder (number, parent, name) VALUES (?1, ?2, ?3)")?
            .execute((self.next_folder, parent, name))?;
        self.next_folder += 1;
        Ok(())
    }

    fn drop_id(&mut self, id: RecordId) -> Result<(), CatalogError> {
        let was = self.is_kept(id)?;
        let writer = self.names.number(self.connection, id.writer)?;
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO dropped (writer, counter) VALUES (?1, ?2)")?
            .execute((writer, id.counter.cast_signed()))?;
        self.kept_changed(id, was)?;
        if self.ordinal(id)?.is_none() {
            self.dropped_ahead = true;
        }
        Ok(())
    }

    fn pin(&mut self, id: RecordId, pinned: bool) -> Result<(), CatalogError> {
        let was = self.is_kept(id)?;
        let writer = self.names.number(self.connection, id.writer)?;
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO pin (writer, counter, pinned) VALUES (?1, ?2, ?3)",
            )?
            .execute((writer, id.counter.cast_signed(), pinned))?;
        self.kept_changed(id, was)
    }

    fn is_kept(&self, id: RecordId) -> Result<bool, CatalogError> {
        is_kept(self.connection, &self.names.ids, id)
    }

    /// Brings the path's row up to date where a revision is now kept, or no longer.
    fn kept_changed(&mut self, id: RecordId, was: bool) -> Result<(), CatalogError> {
        let is = self.is_kept(id)?;
        if was == is {
            return Ok(());
        }
        let Some(ordinal) = self.ordinal(id)? else {
            return Ok(());
        };
        let Some((folder, name, tag)) = entry_place(self.connection, ordinal)? else {
            return Ok(());
        };
        if tag != EntryTag::Revision {
            return Ok(());
        }
        let row = self.row(folder, &name)?;
        let mut fact = row.fact;
        fact.revisions = if is {
            fact.revisions.saturating_add(1)
        } else {
            fact.revisions.saturating_sub(1)
        };
        if let Some(newest) = fact.newest.as_mut().filter(|it| it.ordinal == ordinal) {
            newest.kept = is;
        }
        self.totals.replace(&row.fact, &fact);
        self.set_row(folder, &name, row.child, row.last, &fact)
    }

    /// Takes in what is said of a dictionary, unless something later is known: a spilled tail writes again what was said first.
    fn dictionary(
        &mut self,
        ordinal: i64,
        stamp: Stamp,
        record: &Record,
    ) -> Result<(), CatalogError> {
        let Record::Dictionary {
            id,
            domain,
            chunk,
            retired,
        } = record
        else {
            return Ok(());
        };
        let ChunkRef { pack, index } = *chunk;
        let writer = self.names.pack(self.connection, pack)?;
        self.connection
            .prepare_cached(
                "INSERT INTO dictionary (id, domain, writer, n, place, retired, ordinal, sequence)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET domain = ?2, writer = ?3, n = ?4, place = ?5, retired = ?6, ordinal = ?7, sequence = ?8
                 WHERE ordinal <= ?7",
            )?
            .execute((
                id.0,
                domain.0,
                writer,
                pack.n.cast_signed(),
                index,
                retired,
                ordinal,
                stamp.sequence.cast_signed(),
            ))?;
        Ok(())
    }
}

fn find_row(
    select: &mut CachedStatement<'_>,
    folder: i64,
    name: &[u8],
) -> Result<Option<PathRow>, CatalogError> {
    let mut rows = select.query((folder, name))?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    Ok(Some(PathRow {
        child: row.get(0)?,
        last: row.get(1)?,
        fact: Fact::parse(meta::blob(row, 2)?)?,
    }))
}

/// Returns where an entry's path stands in the hot table, and what the entry is.
pub(super) fn entry_place(
    connection: &Connection,
    ordinal: i64,
) -> Result<Option<(i64, Vec<u8>, EntryTag)>, CatalogError> {
    let mut statement =
        connection.prepare_cached("SELECT folder, name, body FROM entry WHERE ordinal = ?1")?;
    let mut rows = statement.query([ordinal])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let tag = EntryTag::of(meta::blob(row, 2)?)?;
    Ok(Some((row.get(0)?, meta::blob(row, 1)?.to_vec(), tag)))
}

/// Returns whether a run or revision was not dropped, or is pinned.
pub(super) fn is_kept(
    connection: &Connection,
    ids: &Ids,
    id: RecordId,
) -> Result<bool, CatalogError> {
    let Some(writer) = ids.writers.number(id.writer) else {
        return Ok(true);
    };
    let kept = connection
        .prepare_cached(
            "SELECT NOT EXISTS (SELECT 1 FROM dropped WHERE writer = ?1 AND counter = ?2)
                 OR EXISTS (SELECT 1 FROM pin WHERE writer = ?1 AND counter = ?2 AND pinned)",
        )?
        .query_row((writer, id.counter.cast_signed()), |row| row.get(0))?;
    Ok(kept)
}

/// Writes down how this machine found revisions that stay as they are.
pub(super) fn refresh_local(
    connection: &Connection,
    updates: impl IntoIterator<Item = (RecordId, LocalStat)>,
) -> Result<(), CatalogError> {
    let nothing = HashMap::new();
    let mut writer = Writer::begin(connection, &nothing)?;
    for (id, local) in updates {
        let Some(ordinal) = writer.ordinal(id)? else {
            continue;
        };
        let Some((folder, name, _)) = entry_place(connection, ordinal)? else {
            continue;
        };
        let row = writer.row(folder, &name)?;
        let mut fact = row.fact;
        if let Some(newest) = fact.newest.as_mut().filter(|it| it.ordinal == ordinal) {
            newest.local = Some(local);
            writer.set_row(folder, &name, row.child, row.last, &fact)?;
        }
    }
    writer.finish()
}
