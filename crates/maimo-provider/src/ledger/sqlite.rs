//! The ledger in `SQLite`: one connection that writes, others that read beside it.
//!
//! In WAL with `synchronous=NORMAL`: after a power cut the file is whole but may be behind the logs, which is seen by the positions it carries,
//! and made up for by replaying the rest. So a change costs no sync here.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Ledger, LedgerError, Result, Rows};
use crate::clean::Clean;

pub(crate) mod encode;
mod rows;

use rows::SqliteRows;

/// The version of the schema; a ledger of another one is made anew.
const SCHEMA_VERSION: i32 = 3;
const SCHEMA: &str = include_str!("schema.sql");
/// How many connections that read are kept for the next who reads.
const READERS_MAX: usize = 8;
/// How many prepared statements a connection keeps.
const STATEMENTS: usize = 64;

/// The connection that writes.
#[derive(Debug)]
pub(crate) struct SqliteLedger {
    connection: Connection,
}

impl SqliteLedger {
    /// Opens the ledger at `path`, or makes an empty one.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        let ledger = Self { connection };
        let version: i32 = ledger
            .connection
            .pragma_query_value(None, "user_version", |row| row.get(0))?;
        match version {
            SCHEMA_VERSION => {}
            0 => ledger.create()?,
            _ => {
                return Err(LedgerError::Damaged {
                    what: "another version of Maimo wrote it",
                });
            }
        }
        Ok(ledger)
    }

    /// Returns an error if the file does not hold together. Reads all of it.
    pub(crate) fn check(&self) -> Result<()> {
        let answer: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if answer == "ok" {
            Ok(())
        } else {
            Err(LedgerError::Damaged {
                what: "its pages do not hold together",
            })
        }
    }

    fn create(&self) -> Result<()> {
        self.connection
            .execute_batch(&format!("BEGIN IMMEDIATE;\n{SCHEMA}\nCOMMIT;"))?;
        self.connection
            .pragma_update(None, "user_version", SCHEMA_VERSION)?;
        Ok(())
    }
}

impl Ledger for SqliteLedger {
    fn transact(&mut self, work: &mut dyn FnMut(&dyn Rows) -> Result<()>) -> Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        work(&SqliteRows(&transaction))?;
        transaction.commit()?;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<bool> {
        let sql = "PRAGMA wal_checkpoint(FULL)";
        let (busy, pages, done) = self.connection.query_row(sql, [], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, i64>(2)?,
            ))
        })?;
        Ok(busy == 0 && pages == done)
    }
}

/// Connections that read while another one writes.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    clean: Arc<Clean>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, clean: Arc<Clean>) -> Self {
        Self {
            path,
            clean,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Reads one state of the rows, whatever is written meanwhile.
    pub(crate) fn read<T>(&self, work: impl FnOnce(&dyn Rows) -> Result<T>) -> Result<T> {
        // A panic leaves idle connections behind, each of them whole.
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => self.open()?,
        };
        let transaction = connection.transaction()?;
        let result = work(&SqliteRows(&transaction)).inspect_err(|error| {
            if error.is_damage() {
                self.clean.doubt();
            }
        })?;
        drop(transaction);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS_MAX {
            idle.push(connection);
        }
        Ok(result)
    }

    fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags)?;
        prepare(&connection)?;
        Ok(connection)
    }
}

fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.pragma_update(None, "cache_size", -8192)?;
    Ok(())
}
