//! [`Reader`]: a snapshot of the catalog; what a scan and a retrieval ask of it.

use std::{cell::OnceCell, collections::VecDeque, path::Path};

use maimo_vault::{
    journal::state::Presence,
    name::{RecordId, SourceId, WriterId},
    path::{Prefix, StorePath},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    database,
    error::CatalogError,
    ids::Ids,
    meta,
    rows::{EntryTag, Fact, Newest, parse_revision},
    take_in::{ROOTS, is_kept, root_name},
    view::{FolderId, KnownEntry, Numbered, Revision},
};

/// A read-only connection that sees one state of the catalog until it is dropped. It can be sent to another thread; several threads open
/// one each.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
    pub(super) ids: Ids,
    /// How many `moved` records there are.
    pub(super) moves: OnceCell<u64>,
}

/// How many rows of a folder are read at a time.
const PAGE: i64 = 1024;

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, CatalogError> {
        let connection = database::open_read_only(path)?;
        // Never ended: the snapshot, which the look below takes, lasts as long as the connection.
        connection.execute_batch("BEGIN")?;
        let ids = Ids::load(&connection)?;
        Ok(Self {
            connection,
            ids,
            moves: OnceCell::new(),
        })
    }

    /// Returns the folder that the paths of a source with this prefix are below, if there is any.
    pub fn root_folder(
        &self,
        source: SourceId,
        prefix: &Prefix,
    ) -> Result<Option<FolderId>, CatalogError> {
        self.child_folder(FolderId(ROOTS), &root_name(source, prefix))
    }

    /// Returns the folder of that name in another, if there is anything below it; whether the folder itself is known or not.
    pub fn child_folder(
        &self,
        folder: FolderId,
        name: &[u8],
    ) -> Result<Option<FolderId>, CatalogError> {
        let child: Option<Option<i64>> = self
            .connection
            .prepare_cached("SELECT child FROM path WHERE folder = ?1 AND name = ?2")?
            .query_row((folder.0, name), |row| row.get(0))
            .optional()?;
        Ok(child.flatten().map(FolderId))
    }

    /// Returns the folder at a path of a source, if there is anything below it.
    pub fn folder(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Option<FolderId>, CatalogError> {
        let mut folder = self.root_folder(source, path.prefix())?;
        for name in path.components() {
            let Some(within) = folder else {
                return Ok(None);
            };
            folder = self.child_folder(within, name)?;
        }
        Ok(folder)
    }

    /// Returns what is known right below a folder, in byte order of names: every path whose newest revision is kept, there or not.
    pub fn children(&self, folder: FolderId) -> Children<'_> {
        Children {
            reader: self,
            folder,
            page: VecDeque::new(),
            after: None,
            done: false,
        }
    }

    /// Calls `each` for the next names of a folder, ascending from the one after `after` on, a page of them: with the folder below each, and
    /// with what is known of it, which is nothing for a folder that is only on the way to others.
    pub(crate) fn each_name(
        &self,
        folder: FolderId,
        after: Option<&[u8]>,
        mut each: impl FnMut(&[u8], Option<FolderId>, Option<KnownEntry>) -> Result<(), CatalogError>,
    ) -> Result<(), CatalogError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT name, child, fact FROM path WHERE folder = ?1 AND name > ?2
             ORDER BY name LIMIT ?3",
        )?;
        let mut rows = statement.query((folder.0, after.unwrap_or(&[]), PAGE))?;
        while let Some(row) = rows.next()? {
            let name = meta::blob(row, 0)?;
            let child: Option<i64> = row.get(1)?;
            let fact = Fact::parse(meta::blob(row, 2)?)?;
            let known = self.known_entry(name, child, fact)?;
            each(name, child.map(FolderId), known)?;
        }
        Ok(())
    }

    /// Returns what a scan would be told of one path.
    pub fn known(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Option<KnownEntry>, CatalogError> {
        let Some((folder, name)) = self.place(source, path)? else {
            return Ok(None);
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT child, fact FROM path WHERE folder = ?1 AND name = ?2")?;
        let mut rows = statement.query((folder, &name))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let fact = Fact::parse(meta::blob(row, 1)?)?;
        self.known_entry(&name, row.get(0)?, fact)
    }

    fn known_entry(
        &self,
        name: &[u8],
        child: Option<i64>,
        fact: Fact,
    ) -> Result<Option<KnownEntry>, CatalogError> {
        let Some(newest) = fact.newest.filter(|newest| newest.kept) else {
            return Ok(None);
        };
        Ok(Some(KnownEntry {
            name: name.to_vec(),
            id: self.ids.id(&self.connection, newest.ordinal)?,
            kind: newest.kind,
            size: newest.size,
            modified: newest.modified,
            local: newest.local,
            presence: newest.presence,
            folder: child.map(FolderId),
        }))
    }

    /// Returns a revision by its name.
    pub fn revision(&self, id: RecordId) -> Result<Option<Revision>, CatalogError> {
        match self.ids.ordinal(&self.connection, id)? {
            Some(ordinal) => self.revision_at(ordinal),
            None => Ok(None),
        }
    }

    /// Returns a path's newest revision, kept or not, and whether it is there.
    pub fn newest(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Option<(Revision, Presence)>, CatalogError> {
        let Some((_, fact)) = self.path_row(source, path)? else {
            return Ok(None);
        };
        let Some(Newest {
            ordinal, presence, ..
        }) = fact.newest
        else {
            return Ok(None);
        };
        Ok(self
            .revision_at(ordinal)?
            .map(|revision| (revision, presence)))
    }

    /// Returns a path's kept revisions, the newest first, numbered from 1 for the oldest.
    pub fn history(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Vec<Numbered>, CatalogError> {
        let Some((last, fact)) = self.path_row(source, path)? else {
            return Ok(Vec::new());
        };
        let mut number = fact.revisions;
        let mut revisions = Vec::new();
        let mut next = last;
        while let Some(ordinal) = next {
            let (before, tag) = self.step(ordinal)?;
            next = before;
            if tag != EntryTag::Revision {
                continue;
            }
            if let Some(revision) = self.revision_at(ordinal)?.filter(|it| it.kept) {
                revisions.push(Numbered {
                    stored: self.run_time_of(ordinal, source)?,
                    revision,
                    number,
                });
                number = number.saturating_sub(1);
            }
        }
        Ok(revisions)
    }

    /// Returns whether a run or revision is kept: it was not dropped, or it is pinned.
    pub fn is_kept(&self, id: RecordId) -> Result<bool, CatalogError> {
        is_kept(&self.connection, &self.ids, id)
    }

    /// Returns whether the catalog took in the record.
    pub fn knows(&self, id: RecordId) -> Result<bool, CatalogError> {
        Ok(self.ids.ordinal(&self.connection, id)?.is_some())
    }

    /// Returns a path's place in the hot table, if its folder is known.
    pub(super) fn place(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Option<(i64, Vec<u8>)>, CatalogError> {
        let Some((name, parents)) = path.components().split_last() else {
            return Ok(Some((ROOTS, root_name(source, path.prefix()))));
        };
        let mut folder = self.root_folder(source, path.prefix())?;
        for parent in parents {
            let Some(within) = folder else {
                return Ok(None);
            };
            folder = self.child_folder(within, parent)?;
        }
        Ok(folder.map(|folder| (folder.0, name.clone())))
    }

    /// Returns the newest entry of a path, and what its row says.
    pub(super) fn path_row(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Result<Option<(Option<i64>, Fact)>, CatalogError> {
        match self.place(source, path)? {
            Some((folder, name)) => self.row_at(folder, &name),
            None => Ok(None),
        }
    }

    pub(super) fn row_at(
        &self,
        folder: i64,
        name: &[u8],
    ) -> Result<Option<(Option<i64>, Fact)>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT last, fact FROM path WHERE folder = ?1 AND name = ?2")?;
        let mut rows = statement.query((folder, name))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        Ok(Some((row.get(0)?, Fact::parse(meta::blob(row, 1)?)?)))
    }

    /// Returns what an entry is, and the one before it; the way back always descends, so a torn file makes no circle.
    pub(super) fn step(&self, ordinal: i64) -> Result<(Option<i64>, EntryTag), CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT before, body FROM entry WHERE ordinal = ?1")?;
        let mut rows = statement.query([ordinal])?;
        let row = rows
            .next()?
            .ok_or_else(|| CatalogError::Damaged("an entry is missing".to_owned()))?;
        let before: Option<i64> = row.get(0)?;
        if before.is_some_and(|before| before >= ordinal) {
            return Err(CatalogError::Damaged("entries in a circle".to_owned()));
        }
        Ok((before, EntryTag::of(meta::blob(row, 1)?)?))
    }

    /// Returns the revision at an ordinal; nothing if another record is there.
    pub(super) fn revision_at(&self, ordinal: i64) -> Result<Option<Revision>, CatalogError> {
        self.revision_of(ordinal, None, None)
    }

    /// As [`Self::revision_at`], where the caller may know the path, or whether it is kept: each saves look-ups.
    pub(super) fn revision_of(
        &self,
        ordinal: i64,
        path: Option<(SourceId, &StorePath)>,
        kept: Option<bool>,
    ) -> Result<Option<Revision>, CatalogError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT folder, name, body FROM entry WHERE ordinal = ?1")?;
        let mut rows = statement.query([ordinal])?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let body = meta::blob(row, 2)?;
        if EntryTag::of(body)? != EntryTag::Revision {
            return Ok(None);
        }
        let (metadata, content) = parse_revision(body, &self.ids.writers)?;
        let (source, path) = match path {
            Some((source, path)) => (source, path.clone()),
            None => self.full_path(row.get(0)?, meta::blob(row, 1)?)?,
        };
        let stamp = self.ids.stamp(&self.connection, ordinal)?;
        Ok(Some(Revision {
            stamp,
            source,
            path,
            metadata,
            content,
            kept: match kept {
                Some(kept) => kept,
                None => self.is_kept(stamp.id)?,
            },
        }))
    }

    /// Returns the path of a place in the hot table, by the folders it is in.
    pub(super) fn full_path(
        &self,
        folder: i64,
        name: &[u8],
    ) -> Result<(SourceId, StorePath), CatalogError> {
        let mut names = vec![name.to_vec()];
        let mut at = folder;
        let mut select = self
            .connection
            .prepare_cached("SELECT parent, name FROM folder WHERE number = ?1")?;
        while at != ROOTS {
            if names.len() > StorePath::COMPONENTS_MAX {
                return Err(CatalogError::Damaged("folders in a circle".to_owned()));
            }
            let (parent, name) = select.query_row([at], |row| Ok((row.get(0)?, row.get(1)?)))?;
            names.push(name);
            at = parent;
        }
        let root = names.pop().unwrap_or_default();
        names.reverse();
        let (source, prefix) = parse_root(&root)?;
        Ok((source, StorePath::new(prefix, names)?))
    }

    /// Returns the counter after the highest of `writer`'s records that the catalog took in or knows to be dropped; 0 if there is none.
    pub fn next_counter(&self, writer: WriterId) -> Result<u64, CatalogError> {
        let Some(number) = self.ids.writers.number(writer) else {
            return Ok(0);
        };
        let span: Option<u64> = self
            .connection
            .prepare_cached(
                "SELECT first, writer, counter, count FROM span WHERE writer = ?1
                 ORDER BY counter DESC LIMIT 1",
            )?
            .query_row([number], |row| {
                let span = super::ids::Span::read(row)?;
                Ok(span.counter.saturating_add(span.count.cast_unsigned()))
            })
            .optional()?;
        let mut dropped = self
            .connection
            .prepare_cached("SELECT counter FROM dropped WHERE writer = ?1")?;
        let mut next = span.unwrap_or(0);
        for counter in dropped.query_map(params![number], |row| row.get::<_, i64>(0))? {
            next = next.max(counter?.cast_unsigned().saturating_add(1));
        }
        Ok(next)
    }

    /// Returns the number after the highest of `writer`'s packs that any record spoke of; 0 if none did. Segments and pieces of the tail are
    /// the position's to tell.
    pub fn next_pack(&self, writer: WriterId) -> Result<u64, CatalogError> {
        let next: Option<i64> = self
            .connection
            .prepare_cached("SELECT next_pack FROM writer WHERE id = ?1")?
            .query_row([writer.0], |row| row.get(0))
            .optional()?;
        Ok(next.map_or(0, i64::cast_unsigned))
    }
}

/// Reads what [`root_name`] wrote.
pub(super) fn parse_root(name: &[u8]) -> Result<(SourceId, Prefix), CatalogError> {
    let parts = name.split_first_chunk::<16>();
    match parts {
        Some((source, [0])) => Ok((SourceId(*source), Prefix::Unix)),
        Some((source, [1, drive @ ..])) => Ok((SourceId(*source), Prefix::Windows(drive.to_vec()))),
        _ => Err(CatalogError::Damaged("a path has no source".to_owned())),
    }
}

/// What is right below a folder, read a page at a time.
#[derive(Debug)]
pub struct Children<'r> {
    reader: &'r Reader,
    folder: FolderId,
    page: VecDeque<KnownEntry>,
    after: Option<Vec<u8>>,
    done: bool,
}

impl Iterator for Children<'_> {
    type Item = Result<KnownEntry, CatalogError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.done {
            if let Err(error) = self.read() {
                self.done = true;
                return Some(Err(error));
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl Children<'_> {
    fn read(&mut self) -> Result<(), CatalogError> {
        // No name is empty, so the first page begins after the empty one.
        let mut statement = self.reader.connection.prepare_cached(
            "SELECT name, child, fact FROM path WHERE folder = ?1 AND name > ?2
             ORDER BY name LIMIT ?3",
        )?;
        let mut rows =
            statement.query((self.folder.0, self.after.as_deref().unwrap_or(&[]), PAGE))?;
        let mut count = 0;
        let mut last: &[u8];
        while let Some(row) = rows.next()? {
            count += 1;
            last = meta::blob(row, 0)?;
            if count == PAGE {
                self.after = Some(last.to_vec());
            }
            let fact = Fact::parse(meta::blob(row, 2)?)?;
            self.page
                .extend(self.reader.known_entry(last, row.get(1)?, fact)?);
        }
        self.done = count < PAGE;
        Ok(())
    }
}
