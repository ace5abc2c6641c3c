//! [`Rows`] in `SQLite`: one prepared statement a look-up.

use maimo_core::{
    ancestry::NodeHash,
    clock::Timestamp,
    custody::{
        ChannelState, Freeing, HeadRow, HeldPack, Hold, NodeRow, Standing, Totals, Upload,
        held_charge, log_charge,
    },
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    reference::ObjectRef,
};
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::encode;
use crate::{
    ledger::{
        ChannelNumber, ChannelRow, HeadKey, LedgerError, Mark, PackRow, Punch, Record, RecordKind,
        Result, Revocation, Rows, StoredHead, UploadRow,
    },
    volume::{LogPosition, VolumeId},
};

/// A transaction of `SQLite`.
pub(super) struct SqliteRows<'a>(pub(super) &'a Connection);

impl SqliteRows<'_> {
    fn one<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl FnOnce(&Row<'_>) -> Result<T>,
    ) -> Result<Option<T>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let found = statement
            .query_row(params, |row| Ok(read(row)))
            .optional()?;
        found.transpose()
    }

    fn all<T>(
        &self,
        sql: &str,
        params: impl Params,
        read: impl Fn(&Row<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut statement = self.0.prepare_cached(sql)?;
        let mut rows = statement.query(params)?;
        let mut all = Vec::new();
        while let Some(row) = rows.next()? {
            all.push(read(row)?);
        }
        Ok(all)
    }

    fn execute(&self, sql: &str, params: impl Params) -> Result<()> {
        self.0.prepare_cached(sql)?.execute(params)?;
        Ok(())
    }

    /// Changes a row that must be there.
    fn change(&self, sql: &str, params: impl Params) -> Result<()> {
        match self.0.prepare_cached(sql)?.execute(params)? {
            1 => Ok(()),
            _ => Err(encode::damaged("a row that must be there is not")),
        }
    }
}

const PACK: &str = "root, length, class, volume, extents";
const HEAD: &str = "sequence, root, length, commit_root, commit_length, admitted, free_after";
const RECORD: &str = "kind, name, version, log, body";
const UPLOAD: &str = "root, length, class, volume, reserved, expires";

impl Rows for SqliteRows<'_> {
    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT value FROM meta WHERE key = ?1";
        self.one(sql, [key], |row| Ok(row.get(0)?))
    }

    fn put_meta(&self, key: &str, value: &[u8]) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)";
        self.execute(sql, params![key, value])
    }

    fn mark(&self, volume: VolumeId) -> Result<Option<Mark>> {
        let sql = "SELECT position, digest FROM marks WHERE volume = ?1";
        self.one(sql, [volume.0], |row| {
            Ok(Mark {
                position: LogPosition::from_number(unsigned(row, 0)?),
                digest: row.get(1)?,
            })
        })
    }

    fn put_mark(&self, volume: VolumeId, mark: &Mark) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO marks (volume, position, digest) VALUES (?1, ?2, ?3)";
        let position = mark.position.to_number().cast_signed();
        self.execute(sql, params![volume.0, position, mark.digest])
    }

    fn channels(&self) -> Result<Vec<ChannelId>> {
        let sql = "SELECT channel FROM channels ORDER BY number";
        self.all(sql, [], |row| Ok(ChannelId(row.get(0)?)))
    }

    fn channels_due(&self, now: Timestamp, seen: Timestamp) -> Result<Vec<ChannelId>> {
        let sql = "SELECT channel FROM channels WHERE seen > ?2
                   OR EXISTS (SELECT 1 FROM packs WHERE channel = number AND next_date IS NOT NULL AND next_date BETWEEN 0 AND ?1)
                   OR EXISTS (SELECT 1 FROM nodes WHERE channel = number AND free_after IS NOT NULL AND free_after BETWEEN 0 AND ?1)
                   OR EXISTS (SELECT 1 FROM heads WHERE channel = number AND free_after IS NOT NULL AND free_after BETWEEN 0 AND ?1)
                   OR EXISTS (SELECT 1 FROM uploads WHERE channel = number AND expires BETWEEN 0 AND ?1)
                   OR (reads_until IS NOT NULL AND reads_until BETWEEN 0 AND ?1 AND (sequence > 0 OR held > 0 OR reserved > 0))
                   ORDER BY number";
        self.all(sql, [clip(now), clip(seen)], |row| {
            Ok(ChannelId(row.get(0)?))
        })
    }

    fn channel(&self, channel: &ChannelId) -> Result<Option<ChannelRow>> {
        let sql = "SELECT number, client, label, terms, log, registered, seen, sequence, data, vital, ancestry, live, held, reserved, era, met, revoked, reads_until
                   FROM channels WHERE channel = ?1";
        let found = self.one(sql, [channel.as_bytes()], |row| {
            let client = ClientPublicKey::from_bytes(&row.get(1)?)
                .map_err(|_| encode::damaged("the key of a client"))?;
            let totals = Totals {
                live: unsigned(row, 11)?,
                held: unsigned(row, 12)?,
                reserved: unsigned(row, 13)?,
            };
            let inventories = (
                encode::parse_inventory(row.get_ref(8)?.as_blob().map_err(wrong_type)?)?,
                encode::parse_inventory(row.get_ref(9)?.as_blob().map_err(wrong_type)?)?,
            );
            let state = ChannelState {
                ancestry: encode::parse_ancestry(row.get_ref(10)?.as_blob().map_err(wrong_type)?)?,
                totals,
                ..ChannelState::new(*channel, client)
            };
            let channel = ChannelRow {
                number: ChannelNumber(row.get(0)?),
                label: row.get(2)?,
                terms: encode::parse_terms(row.get_ref(3)?.as_blob().map_err(wrong_type)?)?,
                log: VolumeId(row.get(4)?),
                era: row.get(14)?,
                registered: timestamp(row, 5)?,
                seen: timestamp(row, 6)?,
                met: timestamp(row, 15)?,
                revoked: revocation(row, 16)?,
                state,
            };
            Ok((channel, unsigned(row, 7)?, inventories))
        })?;
        let Some((mut channel, sequence, (data, vital))) = found else {
            return Ok(None);
        };
        if sequence > 0 {
            let sql = format!("SELECT {HEAD} FROM heads WHERE channel = ?1 AND sequence = ?2");
            let key = params![channel.number.0, sequence.cast_signed()];
            let row = self
                .one(&sql, key, head_row)?
                .ok_or(encode::damaged("the newest head is not there"))?;
            channel.state.standing = Some(Standing { row, data, vital });
        }
        Ok(Some(channel))
    }

    fn add_channel(&self, row: &ChannelRow) -> Result<()> {
        let sql = "INSERT INTO channels (channel, client, label, terms, log, registered, seen, sequence, data, vital, ancestry, live, held, reserved, era, met, revoked, reads_until)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?8, ?9, 0, 0, 0, ?10, ?11, ?12, ?13)";
        let (mut terms, mut ancestry) = (Vec::new(), Vec::new());
        encode::put_terms(&row.terms, &mut terms);
        row.state.ancestry.encode(&mut ancestry);
        self.execute(
            sql,
            params![
                row.state.channel.as_bytes(),
                row.client().as_bytes(),
                row.label,
                terms,
                row.log.0,
                row.registered.0.cast_signed(),
                row.seen.0.cast_signed(),
                encode::inventory(&maimo_core::inventory::InventoryRef::EMPTY),
                ancestry,
                row.era,
                row.met.0.cast_signed(),
                row.revoked.map(|revoked| revoked.since.0.cast_signed()),
                row.revoked
                    .map(|revoked| revoked.reads_until.0.cast_signed()),
            ],
        )
    }

    fn put_channel(&self, row: &ChannelRow) -> Result<()> {
        let sql = "UPDATE channels SET label = ?2, terms = ?3, log = ?4, seen = ?5, sequence = ?6, data = ?7, vital = ?8, ancestry = ?9,
                   live = ?10, held = ?11, reserved = ?12, era = ?13, met = ?14, revoked = ?15, reads_until = ?16 WHERE number = ?1";
        let (mut terms, mut ancestry) = (Vec::new(), Vec::new());
        encode::put_terms(&row.terms, &mut terms);
        row.state.ancestry.encode(&mut ancestry);
        let standing = row.state.standing.as_ref();
        let (data, vital) =
            standing.map_or_else(Default::default, |standing| (standing.data, standing.vital));
        self.change(
            sql,
            params![
                row.number.0,
                row.label,
                terms,
                row.log.0,
                row.seen.0.cast_signed(),
                row.state.sequence().cast_signed(),
                encode::inventory(&data),
                encode::inventory(&vital),
                ancestry,
                row.state.totals.live.cast_signed(),
                row.state.totals.held.cast_signed(),
                row.state.totals.reserved.cast_signed(),
                row.era,
                row.met.0.cast_signed(),
                row.revoked.map(|revoked| revoked.since.0.cast_signed()),
                row.revoked
                    .map(|revoked| revoked.reads_until.0.cast_signed()),
            ],
        )
    }

    fn pack(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<Option<PackRow>> {
        let sql =
            format!("SELECT {PACK} FROM packs WHERE channel = ?1 AND root = ?2 AND length = ?3");
        self.one(&sql, key(channel, pack), pack_row)
    }

    fn packs(&self, channel: ChannelNumber) -> Result<Vec<PackRow>> {
        let sql = format!("SELECT {PACK} FROM packs WHERE channel = ?1");
        self.all(&sql, [channel.0], pack_row)
    }

    fn packs_due(&self, channel: ChannelNumber, now: Timestamp) -> Result<Vec<PackRow>> {
        let sql = format!(
            "SELECT {PACK} FROM packs WHERE channel = ?1 AND next_date IS NOT NULL AND next_date BETWEEN 0 AND ?2"
        );
        self.all(&sql, params![channel.0, clip(now)], pack_row)
    }

    fn put_pack(&self, channel: ChannelNumber, row: &PackRow) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO packs (channel, root, length, class, volume, next_date, extents, bytes) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let reference = row.held.reference();
        self.execute(
            sql,
            params![
                channel.0,
                reference.root.as_bytes(),
                reference.length.cast_signed(),
                encode::class(row.held.class()),
                row.volume.0,
                row.held.next_date().map(|date| date.0.cast_signed()),
                encode::extents(&row.held),
                held_charge(reference, &row.held.held()).cast_signed(),
            ],
        )
    }

    fn remove_pack(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<()> {
        let sql = "DELETE FROM packs WHERE channel = ?1 AND root = ?2 AND length = ?3";
        self.change(sql, key(channel, pack))
    }

    fn node(&self, channel: ChannelNumber, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>> {
        let sql =
            "SELECT bytes, free_after FROM nodes WHERE channel = ?1 AND root = ?2 AND length = ?3";
        self.one(sql, key(channel, node), |row| {
            Ok((row.get(0)?, encode::parse_hold(row.get(1)?)))
        })
    }

    fn nodes(&self, channel: ChannelNumber) -> Result<Vec<NodeRow>> {
        let sql = "SELECT root, length, free_after FROM nodes WHERE channel = ?1";
        self.all(sql, [channel.0], node_row)
    }

    fn nodes_due(&self, channel: ChannelNumber, now: Timestamp) -> Result<Vec<NodeRow>> {
        let sql = "SELECT root, length, free_after FROM nodes
                   WHERE channel = ?1 AND free_after IS NOT NULL AND free_after BETWEEN 0 AND ?2";
        self.all(sql, params![channel.0, clip(now)], node_row)
    }

    fn add_node(&self, channel: ChannelNumber, row: &NodeRow, bytes: &[u8]) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO nodes (channel, root, length, free_after, bytes) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.execute(
            sql,
            params![
                channel.0,
                row.reference.root.as_bytes(),
                row.reference.length.cast_signed(),
                encode::hold(row.hold),
                bytes,
            ],
        )
    }

    fn put_node(&self, channel: ChannelNumber, row: &NodeRow) -> Result<()> {
        let sql =
            "UPDATE nodes SET free_after = ?4 WHERE channel = ?1 AND root = ?2 AND length = ?3";
        let (root, length) = (row.reference.root, row.reference.length.cast_signed());
        self.change(
            sql,
            params![channel.0, root.as_bytes(), length, encode::hold(row.hold)],
        )
    }

    fn remove_node(&self, channel: ChannelNumber, node: &ObjectRef) -> Result<()> {
        let sql = "DELETE FROM nodes WHERE channel = ?1 AND root = ?2 AND length = ?3";
        self.change(sql, key(channel, node))
    }

    fn head(&self, channel: ChannelNumber, which: HeadKey) -> Result<Option<StoredHead>> {
        let read = |row: &Row<'_>| {
            Ok(StoredHead {
                row: head_row(row)?,
                signed: row.get(7)?,
                commit: row.get(8)?,
            })
        };
        let select = format!("SELECT {HEAD}, signed, sealed FROM heads WHERE channel = ?1");
        match which {
            HeadKey::Sequence(sequence) => self.one(
                &format!("{select} AND sequence = ?2"),
                params![channel.0, sequence.cast_signed()],
                read,
            ),
            HeadKey::Root(root) => self.one(
                &format!("{select} AND root = ?2"),
                params![channel.0, root.as_bytes()],
                read,
            ),
            HeadKey::At(time) => self.one(
                &format!("{select} AND admitted <= ?2 AND sealed IS NOT NULL ORDER BY sequence DESC LIMIT 1"),
                params![channel.0, clip(time)],
                read,
            ),
        }
    }

    fn heads(&self, channel: ChannelNumber) -> Result<Vec<HeadRow>> {
        let sql = format!("SELECT {HEAD} FROM heads WHERE channel = ?1 ORDER BY sequence");
        self.all(&sql, [channel.0], head_row)
    }

    fn add_head(&self, channel: ChannelNumber, head: &StoredHead) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO heads (channel, sequence, root, admitted, free_after, length, commit_root, commit_length, signed, sealed)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
        let row = &head.row;
        self.execute(
            sql,
            params![
                channel.0,
                row.sequence.cast_signed(),
                row.root.as_bytes(),
                row.admitted.0.cast_signed(),
                encode::hold(row.hold),
                row.length.cast_signed(),
                row.commit.as_ref().map(|commit| commit.root.as_bytes()),
                row.commit.map(|commit| commit.length.cast_signed()),
                head.signed,
                head.commit,
            ],
        )
    }

    fn put_head(&self, channel: ChannelNumber, row: &HeadRow) -> Result<()> {
        let sql = "UPDATE heads SET free_after = ?3 WHERE channel = ?1 AND sequence = ?2";
        let sequence = row.sequence.cast_signed();
        self.change(sql, params![channel.0, sequence, encode::hold(row.hold)])
    }

    fn remove_head(&self, channel: ChannelNumber, sequence: u64) -> Result<()> {
        let sql = "DELETE FROM heads WHERE channel = ?1 AND sequence = ?2";
        self.change(sql, params![channel.0, sequence.cast_signed()])
    }

    fn remove_commit(&self, channel: ChannelNumber, sequence: u64) -> Result<()> {
        let sql = "UPDATE heads SET commit_root = NULL, commit_length = NULL, sealed = NULL WHERE channel = ?1 AND sequence = ?2";
        self.change(sql, params![channel.0, sequence.cast_signed()])
    }

    fn upload(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<Option<UploadRow>> {
        let sql = format!(
            "SELECT {UPLOAD} FROM uploads WHERE channel = ?1 AND root = ?2 AND length = ?3"
        );
        self.one(&sql, key(channel, pack), upload_row)
    }

    fn uploads(&self, channel: ChannelNumber) -> Result<Vec<UploadRow>> {
        let sql = format!("SELECT {UPLOAD} FROM uploads WHERE channel = ?1");
        self.all(&sql, [channel.0], upload_row)
    }

    fn put_upload(&self, channel: ChannelNumber, row: &UploadRow) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO uploads (channel, root, length, class, volume, reserved, expires) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        let upload = &row.upload;
        self.execute(
            sql,
            params![
                channel.0,
                upload.pack.root.as_bytes(),
                upload.pack.length.cast_signed(),
                encode::class(upload.class),
                row.volume.0,
                upload.reserved.cast_signed(),
                upload.expires.0.cast_signed(),
            ],
        )
    }

    fn remove_upload(&self, channel: ChannelNumber, pack: &ObjectRef) -> Result<()> {
        let sql = "DELETE FROM uploads WHERE channel = ?1 AND root = ?2 AND length = ?3";
        self.change(sql, key(channel, pack))
    }

    fn add_root(
        &self,
        channel: ChannelNumber,
        sequence: u64,
        root: RootHash,
        nodes: &[NodeHash],
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO roots (channel, sequence, root) VALUES (?1, ?2, ?3)";
        let at = params![channel.0, sequence.cast_signed(), root.as_bytes()];
        self.execute(sql, at)?;
        for (height, hash) in (0_u32..).zip(nodes) {
            self.put_ancestry_node(channel, height, (sequence - 1) >> height, hash)?;
        }
        Ok(())
    }

    fn put_ancestry_node(
        &self,
        channel: ChannelNumber,
        height: u32,
        place: u64,
        hash: &NodeHash,
    ) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO ancestry (channel, height, place, hash) VALUES (?1, ?2, ?3, ?4)";
        self.execute(sql, params![channel.0, height, place.cast_signed(), hash])
    }

    fn ancestry_node(
        &self,
        channel: ChannelNumber,
        height: u32,
        place: u64,
    ) -> Result<Option<NodeHash>> {
        let sql = "SELECT hash FROM ancestry WHERE channel = ?1 AND height = ?2 AND place = ?3";
        let at = params![channel.0, height, place.cast_signed()];
        self.one(sql, at, |row| Ok(row.get(0)?))
    }

    fn roots(&self, channel: ChannelNumber) -> Result<Vec<(u64, RootHash)>> {
        let sql = "SELECT sequence, root FROM roots WHERE channel = ?1 ORDER BY sequence";
        self.all(sql, [channel.0], |row| {
            Ok((unsigned(row, 0)?, RootHash(row.get(1)?)))
        })
    }

    fn ancestry_nodes(&self, channel: ChannelNumber) -> Result<Vec<(u32, u64, NodeHash)>> {
        let sql = "SELECT height, place, hash FROM ancestry WHERE channel = ?1";
        self.all(sql, [channel.0], |row| {
            Ok((row.get(0)?, unsigned(row, 1)?, row.get(2)?))
        })
    }

    fn clear(&self, channel: ChannelNumber) -> Result<()> {
        for table in ["packs", "nodes", "heads", "uploads", "roots", "ancestry"] {
            let sql = format!("DELETE FROM {table} WHERE channel = ?1");
            self.execute(&sql, [channel.0])?;
        }
        Ok(())
    }

    fn log_bytes(&self, log: VolumeId) -> Result<u64> {
        // Rows without bytes of their own count as a hundred.
        let sql = "SELECT COALESCE(SUM(100
                   + (SELECT COALESCE(SUM(100 + length(extents)), 0) FROM packs WHERE channel = number)
                   + (SELECT COALESCE(SUM(100 + length), 0) FROM nodes WHERE channel = number)
                   + (SELECT COALESCE(SUM(100 + length + COALESCE(commit_length, 0)), 0) FROM heads WHERE channel = number)
                   + (SELECT 140 * COUNT(*) FROM roots WHERE channel = number)), 0)
                   + (SELECT COALESCE(SUM(100 + length(body)), 0) FROM records WHERE log = ?1) FROM channels WHERE log = ?1";
        let bytes = self.one(sql, [log.0], |row| unsigned(row, 0))?;
        Ok(bytes.unwrap_or(0))
    }

    fn record(&self, kind: RecordKind, name: &[u8; 32]) -> Result<Option<Record>> {
        let sql = format!("SELECT {RECORD} FROM records WHERE kind = ?1 AND name = ?2");
        self.one(&sql, params![kind.to_number(), name], record_row)
    }

    fn records(&self, kind: RecordKind) -> Result<Vec<Record>> {
        let sql = format!("SELECT {RECORD} FROM records WHERE kind = ?1 ORDER BY number");
        self.all(&sql, [kind.to_number()], record_row)
    }

    fn records_in(&self, log: VolumeId) -> Result<Vec<Record>> {
        let sql = format!("SELECT {RECORD} FROM records WHERE log = ?1 ORDER BY number");
        self.all(&sql, [log.0], record_row)
    }

    fn put_record(&self, record: &Record) -> Result<()> {
        let sql = "INSERT INTO records (kind, name, version, log, body) VALUES (?1, ?2, ?3, ?4, ?5)
                   ON CONFLICT (kind, name) DO UPDATE SET version = excluded.version, log = excluded.log, body = excluded.body";
        let (kind, version) = (record.kind.to_number(), record.version.cast_signed());
        self.execute(
            sql,
            params![kind, record.name, version, record.log.0, record.body],
        )
    }

    fn remove_record(&self, kind: RecordKind, name: &[u8; 32]) -> Result<()> {
        let sql = "DELETE FROM records WHERE kind = ?1 AND name = ?2";
        self.change(sql, params![kind.to_number(), name])
    }

    fn used(&self, volume: VolumeId) -> Result<u64> {
        let sql = "SELECT (SELECT COALESCE(SUM(bytes), 0) FROM packs WHERE volume = ?1) + (SELECT COALESCE(SUM(reserved), 0) FROM uploads WHERE volume = ?1)";
        let used = self.one(sql, [volume.0], |row| unsigned(row, 0))?;
        Ok(used.unwrap_or(0))
    }

    fn frees(&self, channel: ChannelNumber) -> Result<Vec<Freeing>> {
        let sql = format!("SELECT {PACK} FROM packs WHERE channel = ?1 AND next_date IS NOT NULL");
        let packs = self.all(&sql, [channel.0], pack_row)?;
        let mut frees: Vec<Freeing> = packs.iter().flat_map(|row| row.held.frees()).collect();
        let sql = "SELECT root, length, free_after FROM nodes WHERE channel = ?1 AND free_after IS NOT NULL";
        let nodes = self.all(sql, [channel.0], node_row)?;
        let nodes = nodes
            .iter()
            .map(|row| (row.hold, log_charge(row.reference.length)));
        let heads = self.heads(channel)?;
        let heads = heads.iter().map(|row| (row.hold, row.charge()));
        for (hold, bytes) in nodes.chain(heads) {
            if let Hold::FreeAfter(date) = hold {
                frees.push(Freeing { date, bytes });
            }
        }
        Ok(frees)
    }

    fn punches(&self) -> Result<Vec<Punch>> {
        let sql = "SELECT channels.number, channels.channel, root, length, volume FROM punches JOIN channels ON channels.number = punches.channel";
        self.all(sql, [], |row| {
            Ok(Punch {
                number: ChannelNumber(row.get(0)?),
                channel: ChannelId(row.get(1)?),
                pack: reference(row, 2)?,
                volume: VolumeId(row.get(4)?),
            })
        })
    }

    fn put_punch(&self, channel: ChannelNumber, pack: &ObjectRef, volume: VolumeId) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO punches (channel, root, length, volume) VALUES (?1, ?2, ?3, ?4)";
        let (root, length) = (pack.root.as_bytes(), pack.length.cast_signed());
        self.execute(sql, params![channel.0, root, length, volume.0])
    }

    fn remove_punch(&self, punch: &Punch) -> Result<()> {
        let sql =
            "DELETE FROM punches WHERE channel = ?1 AND root = ?2 AND length = ?3 AND volume = ?4";
        let (root, length) = (punch.pack.root.as_bytes(), punch.pack.length.cast_signed());
        self.execute(sql, params![punch.number.0, root, length, punch.volume.0])
    }
}

fn key(channel: ChannelNumber, object: &ObjectRef) -> impl Params {
    (channel.0, object.root.0, object.length.cast_signed())
}

/// Returns a date as what it is compared with in SQL, where dates that never come are negative.
fn clip(date: Timestamp) -> i64 {
    i64::try_from(date.0).unwrap_or(i64::MAX)
}

fn unsigned(row: &Row<'_>, column: usize) -> Result<u64> {
    Ok(row.get::<_, i64>(column)?.cast_unsigned())
}

fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    unsigned(row, column).map(Timestamp)
}

fn reference(row: &Row<'_>, column: usize) -> Result<ObjectRef> {
    Ok(ObjectRef {
        root: RootHash(row.get(column)?),
        length: unsigned(row, column + 1)?,
    })
}

fn pack_row(row: &Row<'_>) -> Result<PackRow> {
    let class = encode::parse_class(row.get(2)?)?;
    let bytes = row.get_ref(4)?.as_blob().map_err(wrong_type)?;
    let held: HeldPack = encode::parse_extents(reference(row, 0)?, class, bytes)?;
    let volume = VolumeId(row.get(3)?);
    Ok(PackRow { held, volume })
}

fn node_row(row: &Row<'_>) -> Result<NodeRow> {
    Ok(NodeRow {
        reference: reference(row, 0)?,
        hold: encode::parse_hold(row.get(2)?),
    })
}

fn revocation(row: &Row<'_>, column: usize) -> Result<Option<Revocation>> {
    let since: Option<i64> = row.get(column)?;
    let until: Option<i64> = row.get(column + 1)?;
    Ok(since.zip(until).map(|(since, until)| Revocation {
        since: Timestamp(since.cast_unsigned()),
        reads_until: Timestamp(until.cast_unsigned()),
    }))
}

fn record_row(row: &Row<'_>) -> Result<Record> {
    Ok(Record {
        kind: RecordKind::from_number(row.get(0)?)
            .ok_or(encode::damaged("the kind of a record"))?,
        name: row.get(1)?,
        version: unsigned(row, 2)?,
        log: VolumeId(row.get(3)?),
        body: row.get(4)?,
    })
}

fn head_row(row: &Row<'_>) -> Result<HeadRow> {
    let commit: Option<[u8; 32]> = row.get(3)?;
    let length: Option<i64> = row.get(4)?;
    Ok(HeadRow {
        sequence: unsigned(row, 0)?,
        root: RootHash(row.get(1)?),
        length: unsigned(row, 2)?,
        commit: commit.zip(length).map(|(root, length)| ObjectRef {
            root: RootHash(root),
            length: length.cast_unsigned(),
        }),
        admitted: timestamp(row, 5)?,
        hold: encode::parse_hold(row.get(6)?),
    })
}

fn upload_row(row: &Row<'_>) -> Result<UploadRow> {
    Ok(UploadRow {
        upload: Upload {
            pack: reference(row, 0)?,
            class: encode::parse_class(row.get(2)?)?,
            reserved: unsigned(row, 4)?,
            expires: timestamp(row, 5)?,
        },
        volume: VolumeId(row.get(3)?),
    })
}

fn wrong_type<E>(_: E) -> LedgerError {
    encode::damaged("a column is of another type")
}
