//! The node's precious small state: who it is, which names it has given out, what it saw, what it was about to do.
//!
//! Every write is durable when it returns (`synchronous=FULL`). Names are given out in memory and are made durable, some ahead, before
//! anything that bears one leaves ([`NodeState::fix_names`]): one given and lost with its process was never seen by anybody.
//!
//! Invariant: no record counter and no pack number of a writer leaves this node twice.

use std::{cell::Cell, path::Path};

use maimo_core::{
    clock::Timestamp,
    id::{ChannelId, RootHash},
    identity::AuthPublicKey,
};
use maimo_vault::{
    compose::Watermark,
    descent::Seen,
    name::{PackNumber, RecordId, SourceId, WriterId},
};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use crate::error::ClientError;

/// The state file, open.
pub(crate) struct NodeState {
    db: Connection,
    writer: Cell<WriterId>,
    source: SourceId,
    label: String,
    next: Cell<Watermark>,
    /// Up to where names are durably taken.
    fixed: Cell<Watermark>,
}

/// A channel opened here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChannelRow {
    /// Its id.
    pub(crate) id: ChannelId,
    /// The auth key it was opened with.
    pub(crate) auth: [u8; AuthPublicKey::LENGTH],
    /// What its owner calls it.
    pub(crate) name: String,
    /// Where its provider is; the first is tried first.
    pub(crate) addresses: Vec<String>,
    /// The sequence of the provider's signed address list that they are from; 0 where they are from none.
    pub(crate) list: u64,
}

impl ChannelRow {
    /// Returns the address that people are shown.
    pub(crate) fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }
}

/// Two signed heads that are kept of a channel: when the second was shown, the one seen before, the one shown.
pub(crate) type HeadsKept = (Timestamp, Vec<u8>, Vec<u8>);

/// The last head seen of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SeenRow {
    /// Its sequence and root.
    pub(crate) seen: Seen,
    /// The signed head, encoded.
    pub(crate) head: Vec<u8>,
    /// Its sealed commit.
    pub(crate) commit: Vec<u8>,
    /// The roots before it, encoded; empty where an older program saw it.
    pub(crate) ancestry: Vec<u8>,
}

/// A head that was sent, or was about to be, and whose fate is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CandidateRow {
    /// Its sequence and root.
    pub(crate) sent: Seen,
    /// How far the writer's names had been given out.
    pub(crate) watermark: Watermark,
}

/// What is noted of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noted {
    /// When its provider was last asked where it is, in milliseconds.
    AddressesAsked,
    /// The sequence of the address list that this node last wrote into the journal.
    AddressesTold,
    /// The day on which its provider last answered, as its first millisecond. Not the moment: a file that says when its owner is awake helps
    /// whoever steals it, and would cost a write each time.
    Reached,
}

impl Noted {
    const ALL: [Self; 3] = [Self::AddressesAsked, Self::AddressesTold, Self::Reached];

    fn name(self, channel: ChannelId) -> String {
        let what = match self {
            Self::AddressesAsked => "addresses asked",
            Self::AddressesTold => "addresses told",
            Self::Reached => "reached",
        };
        format!("{what} {channel}")
    }
}

const SCHEMA: &str = include_str!("node_state/schema.sql");
/// Written to the file's header, so that another version's is not taken for ours.
const VERSION: i64 = 2;
/// What brings a file of version 1 to version 2.
const FROM_1: &str = include_str!("node_state/from_1.sql");
/// Tables that a file of this version may lack: they came later, and an older program passes over them.
const ADDED: &str = include_str!("node_state/added.sql");
/// How many names are taken ahead, at least and at most.
const AHEAD: (u64, u64) = (64, 65_536);

pub(crate) fn failed(source: rusqlite::Error) -> ClientError {
    ClientError::Database {
        file: crate::error::STATE_FILE,
        source,
    }
}

impl NodeState {
    /// Makes the state of a new node, in the place of what an interrupted beginning left.
    pub(crate) fn create(
        path: &Path,
        writer: WriterId,
        source: SourceId,
        label: &str,
    ) -> Result<Self, ClientError> {
        for suffix in ["", "-wal", "-shm"] {
            let mut file = path.as_os_str().to_owned();
            file.push(suffix);
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ClientError::io("remove", file)(error));
                }
                _ => {}
            }
        }
        let mut db = connect(path)?;
        let make = |tx: &Transaction<'_>| {
            tx.execute_batch(SCHEMA)?;
            tx.execute_batch(ADDED)?;
            put(tx, "writer", writer.0)?;
            put(tx, "source", source.0)?;
            put(tx, "label", label)?;
            tx.pragma_update(None, "user_version", VERSION)
        };
        let tx = db.transaction().map_err(failed)?;
        make(&tx).map_err(failed)?;
        tx.commit().map_err(failed)?;
        Self::read(db)
    }

    /// Returns whether the file is gone or damaged, so that it can only be begun anew. One that cannot be read now, or of another version, is not.
    pub(crate) fn is_lost(path: &Path) -> Result<bool, ClientError> {
        if !path.exists() {
            return Ok(true);
        }
        let checked = connect(path).and_then(|db| {
            let version: i64 = db
                .pragma_query_value(None, "user_version", |row| row.get(0))
                .map_err(failed)?;
            let found: String = db
                .pragma_query_value(None, "quick_check", |row| row.get(0))
                .map_err(failed)?;
            Ok(version == 0 || found != "ok")
        });
        match checked {
            Err(ClientError::Database { source, .. }) if is_damage(&source) => Ok(true),
            checked => checked,
        }
    }

    /// Opens the state of a node.
    pub(crate) fn open(path: &Path) -> Result<Self, ClientError> {
        if !path.exists() {
            return Err(ClientError::StateLost);
        }
        Self::read(connect(path)?)
    }

    fn read(db: Connection) -> Result<Self, ClientError> {
        let mut version: i64 = db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(failed)?;
        if version == 1 {
            // In one transaction: an older program finds the file as it was, or a version it does not know.
            let bring = || {
                let tx = db.unchecked_transaction()?;
                tx.execute_batch(FROM_1)?;
                tx.pragma_update(None, "user_version", VERSION)?;
                tx.commit()
            };
            bring().map_err(failed)?;
            version = VERSION;
        }
        if version != VERSION {
            return Err(ClientError::Corrupt(format!(
                "the node's state file is of version {version}, this program knows {VERSION}"
            )));
        }
        // Finds them there and writes nothing, but for the first time.
        db.execute_batch(ADDED).map_err(failed)?;
        let missing = || ClientError::Corrupt("the node's state file lacks its names".to_owned());
        let fixed = Watermark {
            records: number(&db, "next record")?,
            packs: number(&db, "next pack")?,
        };
        Ok(Self {
            writer: Cell::new(WriterId(get(&db, "writer")?.ok_or_else(missing)?)),
            source: SourceId(get(&db, "source")?.ok_or_else(missing)?),
            label: get(&db, "label")?.ok_or_else(missing)?,
            next: Cell::new(fixed),
            fixed: Cell::new(fixed),
            db,
        })
    }

    /// Returns this installation's name.
    pub(crate) fn writer(&self) -> WriterId {
        self.writer.get()
    }

    /// Returns this machine.
    pub(crate) const fn source(&self) -> SourceId {
        self.source
    }

    /// Returns what its owner calls this machine.
    pub(crate) fn label(&self) -> &str {
        &self.label
    }

    /// Calls this machine by another name.
    pub(crate) fn take_label(&mut self, label: &str) -> Result<(), ClientError> {
        if self.label != label {
            self.write(|tx| put(tx, "label", label))?;
            label.clone_into(&mut self.label);
        }
        Ok(())
    }

    /// Gives the next record name. [`Self::fix_names`] before it leaves.
    pub(crate) fn next_record(&self) -> RecordId {
        let next = self.next.get();
        self.next.set(Watermark {
            records: next.records + 1,
            ..next
        });
        RecordId {
            writer: self.writer(),
            counter: next.records,
        }
    }

    /// Gives the next pack number. [`Self::fix_names`] before it leaves.
    pub(crate) fn next_pack(&self) -> PackNumber {
        let next = self.next.get();
        self.next.set(Watermark {
            packs: next.packs + 1,
            ..next
        });
        PackNumber {
            writer: self.writer(),
            n: next.packs,
        }
    }

    /// Makes all names given out durable, and some ahead.
    pub(crate) fn fix_names(&self) -> Result<(), ClientError> {
        if !self.next.get().is_beyond(&self.fixed.get()) {
            return Ok(());
        }
        self.write(|tx| self.fix_names_in(tx))
    }

    fn fix_names_in(&self, tx: &Transaction<'_>) -> rusqlite::Result<()> {
        let (next, fixed) = (self.next.get(), self.fixed.get());
        if !next.is_beyond(&fixed) {
            return Ok(());
        }
        let ahead = |next: u64, fixed: u64| {
            let step = next.saturating_sub(fixed).clamp(AHEAD.0, AHEAD.1);
            fixed.max(next + step)
        };
        let fixed = Watermark {
            records: ahead(next.records, fixed.records),
            packs: ahead(next.packs, fixed.packs),
        };
        put(tx, "next record", signed(fixed.records))?;
        put(tx, "next pack", signed(fixed.packs))?;
        self.fixed.set(fixed);
        Ok(())
    }

    /// Returns how far names have been given out.
    pub(crate) fn given(&self) -> Watermark {
        self.next.get()
    }

    /// Returns up to where this writer's names are known to be committed.
    pub(crate) fn committed(&self) -> Result<Watermark, ClientError> {
        Ok(Watermark {
            records: number(&self.db, "committed records")?,
            packs: number(&self.db, "committed packs")?,
        })
    }

    /// Takes another writer's name: a twin writes under this one. What was sealed under it is forgotten.
    pub(crate) fn take_writer(&self, writer: WriterId) -> Result<(), ClientError> {
        self.write(|tx| {
            put(tx, "writer", writer.0)?;
            for name in [
                "next record",
                "next pack",
                "committed records",
                "committed packs",
            ] {
                put(tx, name, 0_i64)?;
            }
            tx.execute_batch("DELETE FROM spool; DELETE FROM spool_object; DELETE FROM candidate")
        })?;
        self.writer.set(writer);
        self.next.set(Watermark::default());
        self.fixed.set(Watermark::default());
        Ok(())
    }

    /// Returns the channels opened here, in the order they were.
    pub(crate) fn channels(&self) -> Result<Vec<ChannelRow>, ClientError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT id, auth, name, list FROM channel ORDER BY opened, name";
            let mut statement = self.db.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| {
                Ok(ChannelRow {
                    id: ChannelId(row.get(0)?),
                    auth: row.get(1)?,
                    name: row.get(2)?,
                    addresses: Vec::new(),
                    list: unsigned(row.get(3)?),
                })
            })?;
            let mut rows: Vec<ChannelRow> = rows.collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT address FROM channel_address WHERE channel = ?1 ORDER BY place";
            let mut statement = self.db.prepare_cached(sql)?;
            for row in &mut rows {
                let addresses = statement.query_map([row.id.0], |row| row.get(0))?;
                row.addresses = addresses.collect::<rusqlite::Result<_>>()?;
            }
            Ok(rows)
        };
        read().map_err(failed)
    }

    /// Writes down a channel, or its other name or addresses.
    pub(crate) fn put_channel(&self, channel: &ChannelRow) -> Result<(), ClientError> {
        self.write(|tx| {
            tx.execute(
                "INSERT INTO channel VALUES (?1, ?2, ?3, (SELECT count(*) FROM channel), ?4)
                 ON CONFLICT (id) DO UPDATE SET name = ?3, list = ?4",
                params![
                    channel.id.0,
                    channel.auth,
                    channel.name,
                    signed(channel.list)
                ],
            )?;
            let sql = "DELETE FROM channel_address WHERE channel = ?1";
            tx.execute(sql, [channel.id.0])?;
            let sql = "INSERT INTO channel_address VALUES (?1, ?2, ?3)";
            let mut insert = tx.prepare_cached(sql)?;
            for (place, address) in (0_i64..).zip(&channel.addresses) {
                insert.execute(params![channel.id.0, place, address])?;
            }
            Ok(())
        })
    }

    /// Forgets a channel and all that was seen of it.
    pub(crate) fn forget_channel(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.write(|tx| {
            tx.execute("DELETE FROM channel WHERE id = ?1", [channel.0])?;
            for table in [
                "channel_address",
                "seen",
                "candidate",
                "node",
                "challenge",
                "damage",
                "silence",
            ] {
                let sql = format!("DELETE FROM {table} WHERE channel = ?1");
                tx.execute(&sql, [channel.0])?;
            }
            for what in Noted::ALL {
                tx.execute("DELETE FROM value WHERE name = ?1", [what.name(channel)])?;
            }
            Ok(())
        })
    }

    /// Notes that a channel's provider answered on this day, if the channel is one that was opened here.
    pub(crate) fn reached(&self, channel: ChannelId, day: Timestamp) -> Result<(), ClientError> {
        if self.last_reached(channel)? == Some(day) {
            return Ok(());
        }
        self.write(|tx| {
            tx.execute(
                "INSERT OR REPLACE INTO value SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM channel WHERE id = ?3)",
                params![Noted::Reached.name(channel), signed(day.0), channel.0],
            )
            .map(drop)
        })
    }

    /// Returns the day on which a channel's provider last answered; nothing where it never did since such days are kept.
    pub(crate) fn last_reached(
        &self,
        channel: ChannelId,
    ) -> Result<Option<Timestamp>, ClientError> {
        let day = self.noted(Noted::Reached, channel)?;
        Ok((day > 0).then_some(Timestamp(day)))
    }

    /// Returns the last head seen of a channel.
    pub(crate) fn seen(&self, channel: ChannelId) -> Result<Option<SeenRow>, ClientError> {
        let read = |row: &Row<'_>| {
            Ok(SeenRow {
                seen: seen(row)?,
                head: row.get(2)?,
                commit: row.get(3)?,
                ancestry: row.get(4)?,
            })
        };
        let sql = r#"SELECT sequence, root, head, "commit", ancestry FROM seen WHERE channel = ?1"#;
        self.db
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row([channel.0], read).optional())
            .map_err(failed)
    }

    /// Returns the last root seen of every channel.
    pub(crate) fn all_seen(&self) -> Result<Vec<(ChannelId, Seen)>, ClientError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT sequence, root, channel FROM seen ORDER BY channel";
            let mut statement = self.db.prepare_cached(sql)?;
            let rows = statement.query_map([], |row| Ok((ChannelId(row.get(2)?), seen(row)?)))?;
            rows.collect()
        };
        read().map_err(failed)
    }

    /// Writes down what a channel shows.
    pub(crate) fn saw(&self, channel: ChannelId, row: &SeenRow) -> Result<(), ClientError> {
        self.write(|tx| saw(tx, channel, row))
    }

    /// Writes down a head that is about to be sent, and all names given out.
    pub(crate) fn sending(
        &self,
        channel: ChannelId,
        candidate: CandidateRow,
    ) -> Result<(), ClientError> {
        self.write(|tx| {
            self.fix_names_in(tx)?;
            tx.execute(
                "INSERT OR REPLACE INTO candidate VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    channel.0,
                    signed(candidate.sent.sequence),
                    candidate.sent.root.0,
                    signed(candidate.watermark.records),
                    signed(candidate.watermark.packs)
                ],
            )
            .map(drop)
        })
    }

    /// Returns the heads of a channel whose fate is not known.
    pub(crate) fn candidates(&self, channel: ChannelId) -> Result<Vec<CandidateRow>, ClientError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT sequence, root, records, packs FROM candidate WHERE channel = ?1 ORDER BY sequence";
            let mut statement = self.db.prepare_cached(sql)?;
            let rows = statement.query_map([channel.0], |row| {
                Ok(CandidateRow {
                    sent: seen(row)?,
                    watermark: Watermark {
                        records: unsigned(row.get(2)?),
                        packs: unsigned(row.get(3)?),
                    },
                })
            })?;
            rows.collect()
        };
        read().map_err(failed)
    }

    /// Forgets heads that a channel can no longer come to show, its newest being of this sequence.
    pub(crate) fn forget_candidates(
        &self,
        channel: ChannelId,
        up_to: u64,
    ) -> Result<(), ClientError> {
        self.write(|tx| forget_candidates(tx, channel, up_to))
    }

    /// Writes down that a head is acknowledged and what of this writer's is committed with it, and forgets the packs it named.
    pub(crate) fn acknowledged(
        &self,
        channel: ChannelId,
        row: &SeenRow,
        committed: Watermark,
        named: &[PackNumber],
    ) -> Result<(), ClientError> {
        self.write(|tx| {
            saw(tx, channel, row)?;
            forget_candidates(tx, channel, row.seen.sequence)?;
            commit_names(tx, committed)?;
            for number in named {
                if number.writer == self.writer() {
                    for table in ["spool", "spool_object"] {
                        let sql = format!("DELETE FROM {table} WHERE n = ?1");
                        tx.prepare_cached(&sql)?.execute([signed(number.n)])?;
                    }
                }
            }
            Ok(())
        })
    }

    /// Writes down that this writer's names up to here are committed.
    pub(crate) fn put_committed(&self, committed: Watermark) -> Result<(), ClientError> {
        self.write(|tx| commit_names(tx, committed))
    }

    /// Keeps two signed heads of which neither descends from the other.
    pub(crate) fn keep_evidence(
        &self,
        channel: ChannelId,
        time: u64,
        seen: &[u8],
        shown: &[u8],
    ) -> Result<(), ClientError> {
        self.write(|tx| {
            tx.execute(
                "INSERT INTO evidence SELECT ?1, ?2, ?3, ?4
                 WHERE NOT EXISTS (SELECT 1 FROM evidence WHERE seen = ?3 AND shown = ?4)",
                params![channel.0, signed(time), seen, shown],
            )
            .map(drop)
        })
    }

    /// Returns what is kept of a channel's heads of which neither descends from the other: when, the one seen and the one shown.
    pub(crate) fn evidence(&self, channel: ChannelId) -> Result<Vec<HeadsKept>, ClientError> {
        let read = || -> rusqlite::Result<Vec<_>> {
            let sql = "SELECT time, seen, shown FROM evidence WHERE channel = ?1 ORDER BY time";
            let mut statement = self.db.prepare_cached(sql)?;
            let rows = statement.query_map([channel.0], |row| {
                Ok((Timestamp(unsigned(row.get(0)?)), row.get(1)?, row.get(2)?))
            })?;
            rows.collect()
        };
        read().map_err(failed)
    }

    /// Forgets the last head seen of a channel whose provider shows none: only a repair may.
    pub(crate) fn forget_seen(&self, channel: ChannelId) -> Result<(), ClientError> {
        self.write(|tx| {
            tx.execute("DELETE FROM seen WHERE channel = ?1", [channel.0])
                .map(drop)
        })
    }

    /// Returns a flag.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, ClientError> {
        Ok(number(&self.db, name)? != 0)
    }

    /// Sets a flag.
    pub(crate) fn set_flag(&self, name: &str, value: bool) -> Result<(), ClientError> {
        self.write(|tx| put(tx, name, i64::from(value)))
    }

    /// Returns a number that was noted of a channel; 0 where none was.
    pub(crate) fn noted(&self, what: Noted, channel: ChannelId) -> Result<u64, ClientError> {
        number(&self.db, &what.name(channel))
    }

    /// Notes a number of a channel.
    pub(crate) fn note(
        &self,
        what: Noted,
        channel: ChannelId,
        value: u64,
    ) -> Result<(), ClientError> {
        self.write(|tx| put(tx, &what.name(channel), signed(value)))
    }

    /// Returns the database, for what has tables of its own here.
    pub(crate) const fn db(&self) -> &Connection {
        &self.db
    }

    /// Runs one durable transaction.
    pub(crate) fn write<T>(
        &self,
        act: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, ClientError> {
        let write = || {
            let tx = self.db.unchecked_transaction()?;
            let done = act(&tx)?;
            tx.commit()?;
            Ok(done)
        };
        write().map_err(failed)
    }
}

/// Opens the file. `FULL` syncs the log at each commit: what a method of this module wrote is durable when it returns.
fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase)
    )
}

fn connect(path: &Path) -> Result<Connection, ClientError> {
    open_with(path, "FULL")
}

/// Opens the file for rows whose loss costs time and nothing else.
pub(crate) fn connect_lax(path: &Path) -> Result<Connection, ClientError> {
    open_with(path, "NORMAL")
}

fn open_with(path: &Path, synchronous: &str) -> Result<Connection, ClientError> {
    let open = || {
        let db = Connection::open(path)?;
        db.busy_timeout(core::time::Duration::from_secs(30))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", synchronous)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    };
    open().map_err(failed)
}

pub(crate) fn put(
    tx: &Connection,
    name: &str,
    value: impl rusqlite::ToSql,
) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO value VALUES (?1, ?2)")?
        .execute(params![name, value])
        .map(drop)
}

fn get<T: rusqlite::types::FromSql>(db: &Connection, name: &str) -> Result<Option<T>, ClientError> {
    db.prepare_cached("SELECT value FROM value WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(failed)
}

fn number(db: &Connection, name: &str) -> Result<u64, ClientError> {
    Ok(unsigned(get(db, name)?.unwrap_or(0)))
}

fn seen(row: &Row<'_>) -> rusqlite::Result<Seen> {
    Ok(Seen {
        sequence: unsigned(row.get(0)?),
        root: RootHash(row.get(1)?),
    })
}

fn saw(tx: &Transaction<'_>, channel: ChannelId, row: &SeenRow) -> rusqlite::Result<()> {
    tx.prepare_cached("INSERT OR REPLACE INTO seen VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(params![
            channel.0,
            signed(row.seen.sequence),
            row.seen.root.0,
            row.head,
            row.commit,
            row.ancestry
        ])
        .map(drop)
}

fn forget_candidates(tx: &Transaction<'_>, channel: ChannelId, up_to: u64) -> rusqlite::Result<()> {
    tx.prepare_cached("DELETE FROM candidate WHERE channel = ?1 AND sequence <= ?2")?
        .execute(params![channel.0, signed(up_to)])
        .map(drop)
}

fn commit_names(tx: &Transaction<'_>, committed: Watermark) -> rusqlite::Result<()> {
    put(tx, "committed records", signed(committed.records))?;
    put(tx, "committed packs", signed(committed.packs))
}

/// The database's integers have a sign; counters and sequences stay far below it.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(crate) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

#[cfg(test)]
mod tests;
