//! What names a chunk, and where it has moved: for a tail that spills.
//!
//! There is no index of what names a pack: it would cost each file of a store a row. None is needed: what names a piece of the tail came with it or
//! after it, and that is the end of the list of entries.

use std::collections::BTreeSet;

use maimo_vault::{
    journal::{content::Content, record::Record},
    name::{ChunkRef, PackNumber},
};

use super::{
    error::CatalogError,
    meta,
    reader::Reader,
    rows::{EntryTag, parse_revision},
    view::Revision,
};

impl Reader {
    /// Returns the revisions that name one of `packs` as they were written, of those that came with the commit of store sequence `since` or after.
    pub(crate) fn naming(
        &self,
        packs: &BTreeSet<PackNumber>,
        since: u64,
    ) -> Result<Vec<Revision>, CatalogError> {
        let mut found = Vec::new();
        let Some(first) = self.first_since(since)? else {
            return Ok(found);
        };
        let mut statement = self
            .connection
            .prepare_cached("SELECT ordinal, body FROM entry WHERE ordinal >= ?1")?;
        let mut rows = statement.query([first])?;
        while let Some(row) = rows.next()? {
            let body = meta::blob(row, 1)?;
            if EntryTag::of(body)? != EntryTag::Revision {
                continue;
            }
            let (_, content) = parse_revision(body, &self.ids.writers)?;
            let mut extents = content.extents().iter();
            if extents.any(|extent| packs.contains(&extent.first.pack)) {
                found.extend(self.revision_at(row.get(0)?)?);
            }
        }
        Ok(found)
    }

    /// Returns the ordinal of the first record that came with the commit of a store sequence or after, if any did.
    fn first_since(&self, sequence: u64) -> Result<Option<i64>, CatalogError> {
        // Both columns ascend together. From the end, where what is young is.
        let mut statement = self
            .connection
            .prepare_cached("SELECT first, sequence FROM brought ORDER BY first DESC")?;
        let mut rows = statement.query([])?;
        let mut found = None;
        while let Some(row) = rows.next()? {
            if row.get::<_, i64>(1)?.cast_unsigned() < sequence {
                break;
            }
            found = Some(row.get(0)?);
        }
        Ok(found)
    }

    /// Returns the `moved` records that lead on from where any of `contents` have their chunks, link after link.
    pub(crate) fn moves_of<'a>(
        &self,
        contents: impl IntoIterator<Item = &'a Content>,
    ) -> Result<Vec<Record>, CatalogError> {
        let mut moves = Vec::new();
        if self.moves()? == 0 {
            return Ok(moves);
        }
        let extents = contents.into_iter().flat_map(Content::extents);
        let mut ahead: Vec<PackNumber> = extents.map(|extent| extent.first.pack).collect();
        let mut followed = BTreeSet::new();
        while let Some(pack) = ahead.pop() {
            if followed.insert(pack) {
                self.each_move_from(pack, |from, to, count| {
                    ahead.push(to.pack);
                    moves.push(Record::Moved { from, to, count });
                })?;
            }
        }
        Ok(moves)
    }

    fn each_move_from(
        &self,
        pack: PackNumber,
        mut each: impl FnMut(ChunkRef, ChunkRef, u32),
    ) -> Result<(), CatalogError> {
        let Some(writer) = self.ids.writers.number(pack.writer) else {
            return Ok(());
        };
        let mut statement = self.connection.prepare_cached(
            "SELECT place, count, to_writer, to_n, to_place FROM moved WHERE writer = ?1 AND n = ?2",
        )?;
        let mut rows = statement.query((writer, pack.n.cast_signed()))?;
        while let Some(row) = rows.next()? {
            let from = ChunkRef {
                pack,
                index: row.get(0)?,
            };
            let to = ChunkRef {
                pack: self.pack_number(row, 2)?,
                index: row.get(4)?,
            };
            each(from, to, row.get(1)?);
        }
        Ok(())
    }
}
