//! Numbers for names: writers as small integers, records as ordinals.
//!
//! A record's ordinal is its place in the order the catalog took records in, which is that of their stamps. Records of one writer in a row
//! are one span, so a name is turned into an ordinal and back by one row for thousands of records.

use std::{cell::Cell, collections::HashMap};

use maimo_vault::{
    journal::batch::Stamp,
    name::{RecordId, WriterId},
};
use rusqlite::{Connection, OptionalExtension, Row};

use super::error::CatalogError;

/// The writers the catalog knows, by small numbers from 1.
#[derive(Debug, Clone, Default)]
pub(super) struct WriterNumbers {
    ids: Vec<WriterId>,
    numbers: HashMap<WriterId, i64>,
}

impl WriterNumbers {
    pub(super) fn load(connection: &Connection) -> Result<Self, CatalogError> {
        let mut writers = Self::default();
        let mut statement =
            connection.prepare_cached("SELECT number, id FROM writer ORDER BY number")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let id = WriterId(row.get(1)?);
            if writers.add(id) != row.get::<_, i64>(0)? {
                return Err(CatalogError::Damaged("a writer is missing".to_owned()));
            }
        }
        Ok(writers)
    }

    pub(super) fn id(&self, number: i64) -> Option<WriterId> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.ids.get(index).copied()
    }

    pub(super) fn number(&self, id: WriterId) -> Option<i64> {
        self.numbers.get(&id).copied()
    }

    /// Gives a number to a writer that has none.
    pub(super) fn add(&mut self, id: WriterId) -> i64 {
        self.ids.push(id);
        // A vector's length in memory is far below 2^63.
        let number = i64::try_from(self.ids.len()).unwrap_or(i64::MAX);
        self.numbers.insert(id, number);
        number
    }
}

/// One writer's records in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// The ordinal of the first.
    pub(super) first: i64,
    pub(super) writer: i64,
    /// The counter of the first.
    pub(super) counter: u64,
    /// How many.
    pub(super) count: i64,
}

impl Span {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            first: row.get(0)?,
            writer: row.get(1)?,
            counter: counter_of(row.get(2)?),
            count: row.get(3)?,
        })
    }

    pub(super) fn ordinal(&self, writer: i64, counter: u64) -> Option<i64> {
        let step = i64::try_from(counter.checked_sub(self.counter)?).ok()?;
        (writer == self.writer && step < self.count).then(|| self.first.saturating_add(step))
    }

    fn counter(&self, ordinal: i64) -> Option<u64> {
        let step = ordinal.checked_sub(self.first)?;
        if step < 0 || step >= self.count {
            return None;
        }
        self.counter.checked_add(step.cast_unsigned())
    }
}

/// Turns a counter into a key that sorts as the counter does.
pub(super) const fn counter_key(counter: u64) -> i64 {
    (counter ^ (1 << 63)).cast_signed()
}

const fn counter_of(key: i64) -> u64 {
    key.cast_unsigned() ^ (1 << 63)
}

/// Looks names up; remembers the last span, as neighbours are mostly of one.
#[derive(Debug, Default)]
pub(super) struct Ids {
    pub(super) writers: WriterNumbers,
    last: Cell<Option<Span>>,
    /// The last commit asked for: its first ordinal, that of the next one, its sequence.
    brought: Cell<Option<(i64, i64, u64)>>,
}

impl Ids {
    pub(super) fn load(connection: &Connection) -> Result<Self, CatalogError> {
        Ok(Self {
            writers: WriterNumbers::load(connection)?,
            last: Cell::new(None),
            brought: Cell::new(None),
        })
    }

    /// Forgets the last span, which has grown.
    pub(super) fn refresh(&self) {
        self.last.set(None);
        self.brought.set(None);
    }

    /// Returns the ordinal of a record, if the catalog took it in.
    pub(super) fn ordinal(
        &self,
        connection: &Connection,
        id: RecordId,
    ) -> Result<Option<i64>, CatalogError> {
        let Some(writer) = self.writers.number(id.writer) else {
            return Ok(None);
        };
        let remembered = self.last.get();
        if let Some(ordinal) = remembered.and_then(|span| span.ordinal(writer, id.counter)) {
            return Ok(Some(ordinal));
        }
        let span = connection
            .prepare_cached(
                "SELECT first, writer, counter, count FROM span
                 WHERE writer = ?1 AND counter <= ?2 ORDER BY counter DESC LIMIT 1",
            )?
            .query_row((writer, counter_key(id.counter)), Span::read)
            .optional()?;
        self.last.set(span.or(remembered));
        Ok(span.and_then(|span| span.ordinal(writer, id.counter)))
    }

    /// Returns the name of the record of an ordinal.
    pub(super) fn id(
        &self,
        connection: &Connection,
        ordinal: i64,
    ) -> Result<RecordId, CatalogError> {
        let mut span = self.last.get();
        if span.and_then(|span| span.counter(ordinal)).is_none() {
            span = connection
                .prepare_cached(
                    "SELECT first, writer, counter, count FROM span
                     WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
                )?
                .query_row([ordinal], Span::read)
                .optional()?;
            self.last.set(span);
        }
        let named = span.and_then(|span| {
            Some(RecordId {
                writer: self.writers.id(span.writer)?,
                counter: span.counter(ordinal)?,
            })
        });
        named.ok_or_else(|| CatalogError::Damaged("an entry has no name".to_owned()))
    }

    /// Returns where the record of an ordinal stands.
    pub(super) fn stamp(
        &self,
        connection: &Connection,
        ordinal: i64,
    ) -> Result<Stamp, CatalogError> {
        let id = self.id(connection, ordinal)?;
        if let Some((first, next, sequence)) = self.brought.get()
            && (first..next).contains(&ordinal)
        {
            return Ok(Stamp { sequence, id });
        }
        let (first, sequence): (i64, i64) = connection
            .prepare_cached(
                "SELECT first, sequence FROM brought WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
            )?
            .query_row([ordinal], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let next: Option<i64> = connection
            .prepare_cached("SELECT min(first) FROM brought WHERE first > ?1")?
            .query_row([ordinal], |row| row.get(0))?;
        let sequence = sequence.cast_unsigned();
        self.brought
            .set(Some((first, next.unwrap_or(i64::MAX), sequence)));
        Ok(Stamp { sequence, id })
    }
}
