//! Opening the ledger: as it is, with the rest of the logs replayed, or made anew.
//!
//! ```text
//!   readable, its marks in the logs --> replay what comes after them
//!   anything else ------------------> all rows anew, from the logs and the packs' files
//! ```
//!
//! The logs and files win: where the ledger knows an entry that its log does not have, the ledger is what is wrong.

use std::{fs, io, path::Path};

use maimo_core::receipt::LedgerInstance;

use crate::{
    error::ProviderError,
    ledger::{Ledger, LedgerError, Mark, Rows, changes, entry::Change, sqlite::SqliteLedger},
    provider::{LEDGER, random},
    volume::{OwnedEntry, Replayed, Volume},
    volumes::Volumes,
};

const INSTANCE: &str = "instance";
const NEW: LedgerError = LedgerError::Damaged {
    what: "it was never finished",
};

/// Opens the ledger of a provider, and makes it anew if it has to be.
pub(crate) fn open(
    home: &Path,
    volumes: &Volumes,
) -> Result<(SqliteLedger, LedgerInstance), ProviderError> {
    let path = home.join(LEDGER);
    let found = if path.exists() {
        as_it_is(&path, volumes)
    } else {
        Err(NEW.into())
    };
    match found {
        Err(ProviderError::Ledger(error)) if error.is_damage() => {}
        opened => return opened,
    }
    for (_, path, volume) in volumes.list() {
        if volume.is_none() {
            return Err(ProviderError::RebuildNeeds { path });
        }
    }
    remove(&path)?;
    anew(&path, volumes)
}

fn as_it_is(
    path: &Path,
    volumes: &Volumes,
) -> Result<(SqliteLedger, LedgerInstance), ProviderError> {
    let mut ledger = SqliteLedger::open(path)?;
    ledger.check()?;
    let mut instance = None;
    ledger.transact(&mut |rows| {
        let found = rows.meta(INSTANCE)?.ok_or(NEW)?;
        let found = <[u8; 16]>::try_from(found.as_slice()).map_err(|_| NEW)?;
        instance = Some(LedgerInstance(found));
        for volume in volumes.all_mounted() {
            catch_up(rows, &volume)?;
        }
        check_totals(rows)
    })?;
    Ok((ledger, instance.ok_or(NEW)?))
}

/// Returns an error unless what is charged is what the rows add up to.
fn check_totals(rows: &dyn Rows) -> Result<(), LedgerError> {
    for channel in rows.channels()? {
        if let Some(row) = rows.channel(&channel)?
            && changes::recomputed(rows, row.number)? != row.state.totals
        {
            return Err(LedgerError::Damaged {
                what: "totals are not the sums of the rows",
            });
        }
    }
    Ok(())
}

/// Replays what a log has after the ledger's mark.
fn catch_up(rows: &dyn Rows, volume: &Volume) -> Result<(), LedgerError> {
    const OTHER_LOG: LedgerError = LedgerError::Damaged {
        what: "the log does not have what the ledger took from it",
    };
    let mark = rows.mark(volume.id())?;
    let mut replay = volume.log().replay(mark.map(|mark| mark.position));
    if let Some(mark) = mark {
        match replay.next() {
            Some(Ok(Replayed::Entry(entry))) if mark_of(&entry) == mark => {}
            Some(Err(error)) => return Err(error.into()),
            _ => return Err(OTHER_LOG),
        }
    }
    let mut last = None;
    for step in replay {
        match step? {
            Replayed::Entry(entry) => {
                apply(rows, volume, &entry)?;
                last = Some(mark_of(&entry));
            }
            Replayed::Damaged { .. } => return Err(OTHER_LOG),
        }
    }
    if let Some(mark) = last {
        rows.put_mark(volume.id(), &mark)?;
    }
    Ok(())
}

/// Makes all rows from the logs.
fn anew(path: &Path, volumes: &Volumes) -> Result<(SqliteLedger, LedgerInstance), ProviderError> {
    let instance = LedgerInstance(random()?);
    let mut ledger = SqliteLedger::open(path)?;
    // One transaction: half a ledger must not be taken for one.
    ledger.transact(&mut |rows| {
        for volume in volumes.all_mounted() {
            catch_up(rows, &volume)?;
        }
        rows.put_meta(INSTANCE, &instance.0)
    })?;
    Ok((ledger, instance))
}

fn apply(rows: &dyn Rows, volume: &Volume, entry: &OwnedEntry) -> Result<(), LedgerError> {
    let (at, change) =
        Change::parse(entry.kind, &entry.body).map_err(|_| LedgerError::Damaged {
            what: "an entry of the log cannot be read",
        })?;
    changes::replay(rows, entry.channel, change, at, volume.id())
}

fn mark_of(entry: &OwnedEntry) -> Mark {
    Mark::of(entry.position, entry.kind, &entry.body)
}

fn remove(path: &Path) -> Result<(), ProviderError> {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ProviderError::io("removing the old ledger")(error));
            }
            _ => {}
        }
    }
    Ok(())
}
