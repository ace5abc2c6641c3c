//! The file: opening, telling a catalog from other files, clearing.

use std::{fs, io, path::Path, time::Duration};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::error::CatalogError;

/// "Maic" in the file's header says that it is a catalog.
const APPLICATION_ID: i64 = 0x4d61_6963;
/// Counts up with every change of schema or blobs; there are no migrations, an older catalog is built anew.
const VERSION: i64 = 2;
/// How long a connection waits for another.
pub(super) const BUSY: Duration = Duration::from_secs(5);
const SCHEMA: &str = include_str!("schema.sql");

/// Opens a catalog for writing, and makes an empty one where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, CatalogError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    configure(&connection)?;
    // The log is emptied when it has grown, not whenever a process ends: that would be two more syncs for each small store.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA page_size = 4096")?;
    let (application, version) = marks(&connection)?;
    if (application, version) == (0, 0) && is_empty(&connection)? {
        connection.execute_batch("PRAGMA journal_mode = WAL")?;
        connection.execute_batch("BEGIN IMMEDIATE")?;
        // Another process may have been first, between the look above and the lock.
        if is_empty(&connection)? {
            create(&connection)?;
        }
        connection.execute_batch("COMMIT")?;
    } else {
        check(application, version)?;
    }
    connection.execute_batch(
        "PRAGMA synchronous = NORMAL; PRAGMA cache_size = -8192; PRAGMA wal_autocheckpoint = 2000; PRAGMA journal_size_limit = 16777216",
    )?;
    Ok(connection)
}

/// Opens a catalog for reading.
pub(super) fn open_read_only(path: &Path) -> Result<Connection, CatalogError> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    configure(&connection)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let (application, version) = marks(&connection)?;
    check(application, version)?;
    connection.execute_batch("PRAGMA cache_size = -8192; PRAGMA query_only = ON")?;
    Ok(connection)
}

/// Empties a catalog, inside a transaction.
pub(super) fn clear(connection: &Connection) -> Result<(), CatalogError> {
    let tables: Vec<String> = connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for table in tables {
        connection.execute_batch(&format!("DROP TABLE \"{}\"", table.replace('"', "\"\"")))?;
    }
    create(connection)
}

/// Deletes the files of a catalog, whatever they hold.
pub(super) fn remove(path: &Path) -> Result<(), CatalogError> {
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(Path::new(&name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(CatalogError::Remove(error)),
        }
    }
    Ok(())
}

fn configure(connection: &Connection) -> Result<(), CatalogError> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.busy_timeout(BUSY)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.execute_batch("PRAGMA temp_store = MEMORY")?;
    Ok(())
}

fn create(connection: &Connection) -> Result<(), CatalogError> {
    connection.execute_batch(SCHEMA)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID)?;
    connection.pragma_update(None, "user_version", VERSION)?;
    Ok(())
}

/// Reads the two marks of the header. What is no database at all is foreign.
fn marks(connection: &Connection) -> Result<(i64, i64), CatalogError> {
    let read = |name: &str| {
        connection
            .query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
            .map_err(|error| match error.sqlite_error_code() {
                Some(ErrorCode::NotADatabase) => CatalogError::Foreign,
                _ => error.into(),
            })
    };
    Ok((read("application_id")?, read("user_version")?))
}

fn check(application: i64, version: i64) -> Result<(), CatalogError> {
    if application != APPLICATION_ID {
        return Err(CatalogError::Foreign);
    }
    if version != VERSION {
        return Err(CatalogError::Version {
            found: version,
            expected: VERSION,
        });
    }
    Ok(())
}

fn is_empty(connection: &Connection) -> Result<bool, CatalogError> {
    Ok(connection.query_row(
        "SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)",
        [],
        |row| row.get(0),
    )?)
}
