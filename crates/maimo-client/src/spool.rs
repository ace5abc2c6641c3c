//! The spool: which data packs were sealed and are on their way, written down before their first byte leaves.
//!
//! It keeps where a pack's chunks stand and what it is called on each channel, not its bytes: what a kill interrupts on its way is read and
//! sealed again, at most the packs in flight; what had arrived is found by dedup and never sent twice. Losing a row costs the time to send
//! its pack again and nothing else.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use maimo_core::{
    codec::Reader,
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    name::{PackNumber, WriterId},
    pack::PackLayout,
};
use rusqlite::{Connection, params};

use crate::{
    error::ClientError,
    node_state::{connect_lax, signed, unsigned},
    sync::lax_failed,
};

/// The table of packs on their way; used from several threads.
pub(crate) struct Spool {
    db: Mutex<Connection>,
}

/// A pack that arrived, and that no acknowledged commit names yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spooled {
    /// Where its chunks stand.
    pub(crate) layout: PackLayout,
    /// What it is on each channel that holds it.
    pub(crate) objects: BTreeMap<ChannelId, ObjectRef>,
}

impl Spool {
    /// Opens the table in the node's state file.
    pub(crate) fn open(path: &Path) -> Result<Self, ClientError> {
        Ok(Self {
            db: Mutex::new(connect_lax(path)?),
        })
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves no half transaction here: it is rolled back.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down a pack that was sealed for a channel and is about to leave.
    pub(crate) fn sealed(
        &self,
        layout: &PackLayout,
        channel: ChannelId,
        pack: &ObjectRef,
    ) -> Result<(), ClientError> {
        let mut bytes = Vec::new();
        layout.encode(&mut bytes);
        let n = signed(layout.number().n);
        let db = self.db();
        let write = || {
            let tx = db.unchecked_transaction()?;
            tx.prepare_cached("INSERT OR REPLACE INTO spool VALUES (?1, ?2)")?
                .execute(params![n, bytes])?;
            tx.prepare_cached("INSERT OR REPLACE INTO spool_object VALUES (?1, ?2, ?3, 0)")?
                .execute(params![n, channel.0, pack.root.0])?;
            tx.commit()
        };
        write().map_err(lax_failed)
    }

    /// Writes down that a channel holds a pack.
    pub(crate) fn held(&self, number: PackNumber, channel: ChannelId) -> Result<(), ClientError> {
        let db = self.db();
        let write = || {
            db.prepare_cached("UPDATE spool_object SET held = 1 WHERE n = ?1 AND channel = ?2")?
                .execute(params![signed(number.n), channel.0])
        };
        write().map(drop).map_err(lax_failed)
    }

    /// Forgets a pack that a channel does not hold.
    pub(crate) fn forget(&self, channel: ChannelId, root: RootHash) -> Result<(), ClientError> {
        let db = self.db();
        let write = || {
            db.prepare_cached("DELETE FROM spool_object WHERE channel = ?1 AND root = ?2")?
                .execute(params![channel.0, root.0])
        };
        write().map(drop).map_err(lax_failed)
    }

    /// Returns the packs that all of `channels` took and no commit has named, and forgets the others.
    pub(crate) fn arrived(
        &self,
        writer: WriterId,
        channels: &[ChannelId],
    ) -> Result<Vec<Spooled>, ClientError> {
        let db = self.db();
        let read = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
            let mut statement = db.prepare_cached("SELECT n, layout FROM spool ORDER BY n")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let mut arrived = Vec::new();
        for (n, bytes) in read().map_err(lax_failed)? {
            let layout = PackLayout::parse(&mut Reader::new(&bytes)).ok();
            let own = PackNumber {
                writer,
                n: unsigned(n),
            };
            let layout = layout.filter(|layout| layout.number() == own);
            let objects = || -> rusqlite::Result<Vec<(ChannelId, RootHash)>> {
                let sql = "SELECT channel, root FROM spool_object WHERE n = ?1 AND held = 1";
                let mut statement = db.prepare_cached(sql)?;
                let rows = statement.query_map([n], |row| {
                    Ok((ChannelId(row.get(0)?), RootHash(row.get(1)?)))
                })?;
                rows.collect()
            };
            let held: BTreeMap<_, _> = objects().map_err(lax_failed)?.into_iter().collect();
            match layout {
                Some(layout) if channels.iter().all(|channel| held.contains_key(channel)) => {
                    let length = layout.length();
                    let object = |(channel, root)| (channel, ObjectRef { root, length });
                    let objects = held.into_iter().map(object).collect();
                    arrived.push(Spooled { layout, objects });
                }
                _ => {
                    for table in ["spool", "spool_object"] {
                        let sql = format!("DELETE FROM {table} WHERE n = ?1");
                        db.execute(&sql, [n]).map_err(lax_failed)?;
                    }
                }
            }
        }
        Ok(arrived)
    }
}
