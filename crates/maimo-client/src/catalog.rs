//! [`Catalog`]: the client's view of the journal, as a database: what is where, in which revision, since when.
//!
//! It is no source of anything: it changes only by taking in records of acknowledged commits, in order, one transaction for one or more
//! whole commits, so a store, catching up with another device, starting again after a crash and recovery are one code path. It may be
//! deleted at any time and is built anew from the journal. What only this machine knows (inodes) or what saves a fetch (pack layouts) is
//! kept beside, and losing it costs time only. Where replaying the same records into [`maimo_vault::journal::state::State`] gives an answer,
//! the catalog gives the same.
//!
//! ```text
//! path   one row a path, by (folder, name): kind, size, times, presence, newest revision      a scan reads nothing else
//! entry  every revision and event of a path, each naming the one before it                    history, `--at`, diff
//! span   (writer, counter) <-> ordinal, the order of stamps; one row for a writer's records in a row
//! ```
//!
//! A record that a merge let go of stays here, marked as dropped: what comes after it ends the time of what came before it. A merge may turn
//! references (`moved` records folded in) and leave out what says nothing any more, which is why [`TakeIn`] wants the records of all fresh
//! segments, older ones too, and to be told which records the vanished ones held.

use std::{
    borrow::Borrow,
    path::{Path, PathBuf},
    time::Duration,
};

use maimo_vault::{
    journal::{batch::Stamp, record::Record},
    name::{PackNumber, RecordId},
    pack::PackLayout,
};
use rusqlite::TransactionBehavior;

mod database;
mod error;
mod facts;
mod ids;
mod list;
mod meta;
mod position;
mod reader;
mod references;
mod rows;
mod take_in;
mod view;

use database::BUSY;
pub use error::CatalogError;
pub use list::{Filter, GlobPattern, Pattern, When};
pub use position::Position;
pub use reader::{Children, Reader};
pub use rows::Totals;
pub use take_in::TakeIn;
pub use view::{
    DictionaryVersion, Difference, FolderId, Kind, KnownEntry, Listed, Numbered, Revision, RunEnd,
    RunInfo,
};

use crate::local_stat::LocalStat;

/// How long the log may be that is left behind, in bytes: reading it takes a few milliseconds.
const LOG_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The catalog, open for writing. One at a time: the home folder's lock sees to that.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    connection: rusqlite::Connection,
}

impl Catalog {
    /// Opens the catalog at `path`, and makes an empty one where there is none.
    ///
    /// # Errors
    ///
    /// Those for which [`CatalogError::wants_rebuild`] says yes: go on with [`Self::replace`]. Any later call may find damage too.
    pub fn open(path: &Path) -> Result<Self, CatalogError> {
        Ok(Self {
            path: path.to_owned(),
            connection: database::open(path)?,
        })
    }

    /// Deletes whatever is at `path` and makes an empty catalog.
    pub fn replace(path: &Path) -> Result<Self, CatalogError> {
        database::remove(path)?;
        Self::open(path)
    }

    /// Forgets everything, at once or not at all.
    pub fn reset(&mut self) -> Result<(), CatalogError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        database::clear(&transaction)?;
        transaction.commit()?;
        Ok(())
    }

    /// Returns how far the catalog has come.
    pub fn position(&self) -> Result<Position, CatalogError> {
        meta::position(&self.connection)
    }

    /// Takes in records up to a new position, in one transaction, and returns how many were new.
    ///
    /// `records` are those of every segment and tail piece that the new position lists and the present one does not, ascending by stamp: what
    /// stands twice counts once, what is known is held against what is known of it. Built from nothing, that is the whole journal.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Behind`] if a record of before the position is not known, as after a repair: reset, and take in the whole journal.
    /// [`CatalogError::OutOfOrder`] is the caller's mistake. In any case the catalog is as it was.
    pub fn take_in<R: Borrow<(Stamp, Record)>>(
        &mut self,
        records: impl IntoIterator<Item = R>,
        with: &TakeIn<'_>,
    ) -> Result<u64, CatalogError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let new = take_in::take_in(&transaction, records, with)?;
        transaction.commit()?;
        Ok(new)
    }

    /// Writes down how this machine found revisions that are the newest of their paths; others are passed over.
    pub fn refresh_local(
        &mut self,
        updates: impl IntoIterator<Item = (RecordId, LocalStat)>,
    ) -> Result<(), CatalogError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        take_in::refresh_local(&transaction, updates)?;
        transaction.commit()?;
        Ok(())
    }

    /// Keeps where the chunks of packs stand.
    pub fn put_layouts(&mut self, layouts: &[PackLayout]) -> Result<(), CatalogError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        take_in::put_layouts(&transaction, layouts)?;
        transaction.commit()?;
        Ok(())
    }

    /// Forgets where the chunks of packs stand that are no more.
    pub fn drop_layouts(&mut self, numbers: &[PackNumber]) -> Result<(), CatalogError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        take_in::drop_layouts(&transaction, numbers)?;
        transaction.commit()?;
        Ok(())
    }

    /// Makes the index that [`Reader::find`] is quick by, unless it is there; kept up to date from then on. Stores go faster without, so it
    /// is made when someone first looks for a name.
    pub fn index_names(&mut self) -> Result<(), CatalogError> {
        self.connection
            .execute_batch("CREATE INDEX IF NOT EXISTS path_by_name ON path (name)")?;
        Ok(())
    }

    /// Moves what the log has gathered into the database, if it is much and nobody reads of it: each process that opens the catalog reads the
    /// log first. A reader that looks on for as long as a store takes keeps it from being done meanwhile.
    pub fn tidy(&mut self) -> Result<(), CatalogError> {
        let mut log = self.path.clone().into_os_string();
        log.push("-wal");
        if std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_BYTES_MAX) {
            self.connection.busy_timeout(Duration::ZERO)?;
            let done = self
                .connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            self.connection.busy_timeout(BUSY)?;
            done?;
        }
        Ok(())
    }

    /// Makes that index beside whoever has the catalog open, unless they are writing: looking for a name is possible without.
    pub(crate) fn index_names_beside(path: &Path) -> Result<(), CatalogError> {
        let mut beside = Self::open(path)?;
        beside.connection.busy_timeout(Duration::ZERO)?;
        match beside.index_names() {
            Err(error) if error.is_busy() => Ok(()),
            made => made,
        }
    }

    /// Opens a connection of its own that sees the catalog as it is now, whatever is taken in meanwhile.
    pub fn reader(&self) -> Result<Reader, CatalogError> {
        Self::reader_at(&self.path)
    }

    /// Opens a reader of the catalog at `path`, whoever has it open.
    pub(crate) fn reader_at(path: &Path) -> Result<Reader, CatalogError> {
        Reader::open(path)
    }
}

#[cfg(test)]
mod tests;
