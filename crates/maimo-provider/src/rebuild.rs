//! Opening the ledger: as it is, with the rest of the logs replayed, or made anew.
//!
//! ```text
//!   closed in order, its marks at the ends of the logs --> as it was, nothing is read
//!   readable, its marks in the logs --> replay what comes after them
//!   anything else ------------------> all rows anew, from the logs and the packs' files
//! ```
//!
//! After a crash the log is never behind what anybody was told, so it wins. Where an entry that the ledger took from its log is damaged or cut off
//! there, the disk lost it: then the ledger, if it holds together, is the last to know, and its newest heads are written to the log again.

use std::{collections::BTreeSet, fs, io, path::Path};

use maimo_core::{
    clock::Timestamp,
    codec::{ObjectType, Prelude, Reader},
    custody::{Extent, HeldPack, Hold, PackClass, Terms},
    id::ChannelId,
    live_map::LiveMap,
    receipt::LedgerInstance,
    reference::ObjectRef,
};

use crate::{
    clean::Clean,
    error::ProviderError,
    group_commit::{Batch, Durability},
    keys::Keys,
    ledger::{
        Ledger, LedgerError, Mark, PackRow, Rows, changes,
        entry::Change,
        snapshot::{self, Pieces},
        sqlite::SqliteLedger,
    },
    provider::{ENDLESS_CAP, LEDGER, now, random},
    sweep::SWEPT,
    volume::{OwnedEntry, Replayed, StoredPack, Volume, VolumeError, VolumeId},
    volumes::Volumes,
};

mod salvage;

const INSTANCE: &str = "instance";
const NEW: LedgerError = LedgerError::Damaged {
    what: "it was never finished",
};

/// A ledger that is open.
pub(crate) struct Opened {
    pub(crate) ledger: SqliteLedger,
    pub(crate) instance: LedgerInstance,
    /// The volumes whose logs have lost what the ledger still knows.
    pub(crate) lost: Vec<VolumeId>,
}

/// Opens the ledger of a provider, and makes it anew if it has to be.
pub(crate) fn open(
    home: &Path,
    keys: &Keys,
    volumes: &Volumes,
    clean: &Clean,
) -> Result<Opened, ProviderError> {
    let path = home.join(LEDGER);
    match as_it_was(&path, volumes, clean) {
        Ok(Some(opened)) => return Ok(opened),
        Ok(None) => {}
        Err(error) if error.is_damage() => {}
        Err(error) => return Err(error.into()),
    }
    clean
        .unsettle()
        .map_err(ProviderError::io("opening the ledger"))?;
    let mut opened = if path.exists() {
        as_it_is(&path, volumes)
    } else {
        Err(NEW.into())
    };
    if matches!(&opened, Err(ProviderError::Ledger(error)) if error.is_damage()) {
        for (_, path, volume) in volumes.list() {
            if volume.is_none() {
                return Err(ProviderError::RebuildNeeds { path });
            }
        }
        remove(&path)?;
        opened = anew(&path, keys, volumes);
    }
    if opened.is_ok() {
        for volume in volumes.all_mounted() {
            // Else nobody could tell at the next start that the last entry is the last one. The next append would do it, too.
            let _ = volume.log().cut_torn_end();
        }
    }
    opened
}

/// Opens a ledger that was closed in order, if its logs still end where it took the last entry from them. Reads next to nothing.
fn as_it_was(path: &Path, volumes: &Volumes, clean: &Clean) -> Result<Option<Opened>, LedgerError> {
    if !clean.is_marked() {
        return Ok(None);
    }
    let mut ledger = SqliteLedger::open(path)?;
    let mut instance = None;
    ledger.transact(&mut |rows| {
        for volume in volumes.all_mounted() {
            if !clean.is_settled(volume.id()) || !has_all(rows, &volume)? {
                return Ok(());
            }
        }
        instance = Some(instance_of(rows)?);
        Ok(())
    })?;
    Ok(instance.map(|instance| Opened {
        ledger,
        instance,
        lost: Vec::new(),
    }))
}

/// Returns whether a log ends with the last entry that the ledger took from it.
fn has_all(rows: &dyn Rows, volume: &Volume) -> Result<bool, LedgerError> {
    let Some(mark) = rows.mark(volume.id())? else {
        return Ok(volume.log().is_empty()?);
    };
    let last = volume.log().last_entry(mark.position)?;
    Ok(last.is_some_and(|last| mark_of(&last) == mark))
}

fn instance_of(rows: &dyn Rows) -> Result<LedgerInstance, LedgerError> {
    let found = rows.meta(INSTANCE)?.ok_or(NEW)?;
    let found = <[u8; 16]>::try_from(found.as_slice()).map_err(|_| NEW)?;
    Ok(LedgerInstance(found))
}

fn as_it_is(path: &Path, volumes: &Volumes) -> Result<Opened, ProviderError> {
    let mut ledger = SqliteLedger::open(path)?;
    ledger.check()?;
    let mut instance = None;
    let mut lost = Vec::new();
    ledger.transact(&mut |rows| {
        instance = Some(instance_of(rows)?);
        for volume in volumes.all_mounted() {
            if catch_up(rows, &volume)? == Log::Lost {
                lost.push(volume.id());
            }
        }
        check_totals(rows)
    })?;
    Ok(Opened {
        ledger,
        instance: instance.ok_or(NEW)?,
        lost,
    })
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

/// Whether a log has what the ledger took from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Whole,
    Lost,
}

/// Replays what a log has after the ledger's mark.
pub(crate) fn catch_up(rows: &dyn Rows, volume: &Volume) -> Result<Log, LedgerError> {
    const OTHER_LOG: LedgerError = LedgerError::Damaged {
        what: "the log does not have what the ledger took from it",
    };
    let mark = rows.mark(volume.id())?;
    let mut replay = volume.log().replay(mark.map(|mark| mark.position));
    let mut log = Log::Whole;
    if let Some(mark) = mark {
        match replay.next() {
            Some(Ok(Replayed::Entry(entry))) if mark_of(&entry) == mark => {}
            // Sound, and another: an old image was put back and went on.
            Some(Ok(Replayed::Entry(_))) => return Err(OTHER_LOG),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(Replayed::Damaged { .. })) | None => log = Log::Lost,
        }
    }
    let mut last = None;
    let mut pieces = Pieces::default();
    for step in replay {
        match step? {
            Replayed::Entry(entry) => {
                apply(rows, volume, &entry, &mut pieces)?;
                last = Some(mark_of(&entry));
            }
            Replayed::Damaged { .. } => return Err(OTHER_LOG),
        }
    }
    if let Some(mark) = last {
        rows.put_mark(volume.id(), &mark)?;
    }
    Ok(log)
}

/// Writes to a log again what the ledger knows of its channels.
pub(crate) fn log_again(batch: &mut Batch<'_>, log: VolumeId) -> Result<(), LedgerError> {
    for channel in batch.rows.channels()? {
        let row = batch.rows.channel(&channel)?;
        let Some(row) = row.filter(|row| row.log == log) else {
            continue;
        };
        for change in snapshot::entries(batch.rows, &row)? {
            batch.record(log, channel, &change, now(), Durability::Synced);
        }
    }
    log_records(batch, log)
}

/// Writes to a log again the records that are in it.
pub(crate) fn log_records(batch: &mut Batch<'_>, log: VolumeId) -> Result<(), LedgerError> {
    for record in batch.rows.records_in(log)? {
        batch.record_again(&record, now());
    }
    Ok(())
}

/// Makes all rows from the logs and the files.
fn anew(path: &Path, keys: &Keys, volumes: &Volumes) -> Result<Opened, ProviderError> {
    let instance = LedgerInstance(random()?);
    let mut ledger = SqliteLedger::open(path)?;
    // One transaction: half a ledger must not be taken for one.
    ledger.transact(&mut |rows| {
        let mut torn = BTreeSet::new();
        let mounted = volumes.all_mounted();
        for volume in &mounted {
            replay_all(rows, keys, volumes, volume, &mut torn)?;
        }
        let now = now();
        for volume in &mounted {
            files(rows, volume, &torn, now)?;
        }
        for channel in &torn {
            salvage::settle(rows, channel, now)?;
        }
        rows.put_meta(SWEPT, &now.0.to_le_bytes())?;
        rows.put_meta(INSTANCE, &instance.0)
    })?;
    let lost = Vec::new();
    Ok(Opened {
        ledger,
        instance,
        lost,
    })
}

/// Replays a whole log. Channels of which something is lost are added to `torn`: of these, what does not follow is salvaged.
fn replay_all(
    rows: &dyn Rows,
    keys: &Keys,
    volumes: &Volumes,
    volume: &Volume,
    torn: &mut BTreeSet<ChannelId>,
) -> Result<(), LedgerError> {
    let terms = Terms::new(ENDLESS_CAP, None, volumes.folder_grace());
    let mut last = None;
    let mut pieces = Pieces::default();
    for step in volume.log().replay(None) {
        // Whose entries a damaged stretch had cannot be said: it shows where the next ones do not follow.
        let Replayed::Entry(entry) = step? else {
            continue;
        };
        last = Some(mark_of(&entry));
        let Ok((at, change)) = Change::parse(entry.kind, &entry.body) else {
            torn.insert(entry.channel);
            continue;
        };
        if let Some(snapshot) = pieces.take(entry.channel, &change) {
            match snapshot::put(rows, entry.channel, &snapshot, volume.id()) {
                Err(error) if error.is_damage() => torn.insert(entry.channel),
                // Whatever came before it does not matter any more.
                put => {
                    put?;
                    torn.remove(&entry.channel)
                }
            };
            continue;
        }
        if matches!(change, Change::Record { .. }) {
            changes::replay(rows, entry.channel, change, at, volume.id())?;
            continue;
        }
        // A piece alone says nothing: without the others, what was before still counts.
        if is_elsewhere(rows, entry.channel, volume)? || matches!(change, Change::Snapshot { .. }) {
            continue;
        }
        if !torn.contains(&entry.channel) {
            match changes::replay(rows, entry.channel, change.clone(), at, volume.id()) {
                Err(error) if error.is_damage() => torn.insert(entry.channel),
                replayed => {
                    replayed?;
                    continue;
                }
            };
        }
        let channel = entry.channel;
        match change {
            // A revocation must not be forgotten because of what was lost beside it.
            Change::PackHeld { .. }
            | Change::Registered { .. }
            | Change::Revoked { .. }
            | Change::Met => match changes::replay(rows, channel, change, at, volume.id()) {
                Err(error) if error.is_damage() => {}
                replayed => replayed?,
            },
            change => salvage::entry(rows, keys, terms, channel, change, at, volume.id())?,
        }
    }
    if let Some(mark) = last {
        rows.put_mark(volume.id(), &mark)?;
    }
    Ok(())
}

/// Holds the rows against the packs' files: a file without a row becomes held, what a row has let go is noted to be punched.
fn files(
    rows: &dyn Rows,
    volume: &Volume,
    torn: &BTreeSet<ChannelId>,
    now: Timestamp,
) -> Result<(), LedgerError> {
    for stored in volume.packs() {
        let stored = match stored {
            Ok(stored) => stored,
            // A file that cannot be read is for a scrub to tell.
            Err(VolumeError::DamagedPack { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let Some(mut channel) = rows.channel(&stored.channel)? else {
            continue;
        };
        let number = channel.number;
        let row = rows.pack(number, &stored.pack)?;
        let is_torn = torn.contains(&stored.channel);
        if let Some(row) = &row {
            let is_kept = row.held.held().contains_all(&stored.held) && row.volume == volume.id();
            if !is_kept && !is_torn {
                rows.put_punch(number, &stored.pack, volume.id())?;
            }
            if is_kept || !is_torn {
                continue;
            }
        }
        let Some(class) = class_of(volume, &stored) else {
            continue;
        };
        // Either its entry was not yet durable when the power went, or it is lost: nobody may say that it was let go.
        let date = salvage::free_after(&channel, now);
        let known = row.map_or_else(Vec::new, |row| row.held.extents().to_vec());
        let held = with_file(stored.pack, class, known, &stored.held, date);
        let Some(held) = held else {
            continue;
        };
        let volume = volume.id();
        rows.put_pack(number, &PackRow { held, volume })?;
        if rows.upload(number, &stored.pack)?.is_some() {
            rows.remove_upload(number, &stored.pack)?;
        }
        channel.state.totals = changes::recomputed(rows, number)?;
        rows.put_channel(&channel)?;
    }
    Ok(())
}

/// Returns a pack with what its row has and what its file has besides.
fn with_file(
    pack: ObjectRef,
    class: PackClass,
    known: Vec<Extent>,
    there: &LiveMap,
    date: Timestamp,
) -> Option<HeldPack> {
    let old = HeldPack::from_extents(pack, class, known.clone())?;
    let hold = Hold::FreeAfter(date);
    let more = there.minus(&old.held());
    let more = more.runs().map(|groups| Extent { groups, hold });
    let mut extents: Vec<Extent> = known.into_iter().chain(more).collect();
    extents.sort_unstable_by_key(|extent| extent.groups.start);
    HeldPack::from_extents(pack, class, extents)
}

/// Returns what a pack is for, as its header says.
pub(crate) fn class_of(volume: &Volume, stored: &StoredPack) -> Option<PackClass> {
    let file = volume.pack(stored.channel, &stored.pack).ok()?;
    let mut header = [0; Prelude::LENGTH];
    file.read(0, &mut header).ok()?;
    let is = |kind| Prelude::parse(&mut Reader::new(&header), kind).is_ok();
    if is(ObjectType::DataPack) {
        Some(PackClass::Data)
    } else {
        is(ObjectType::VitalPack).then_some(PackClass::Vital)
    }
}

/// Returns whether a channel went to another log: what this one says of it is of before.
fn is_elsewhere(rows: &dyn Rows, channel: ChannelId, volume: &Volume) -> Result<bool, LedgerError> {
    let row = rows.channel(&channel)?;
    Ok(row.is_some_and(|row| row.log != volume.id()))
}

fn apply(
    rows: &dyn Rows,
    volume: &Volume,
    entry: &OwnedEntry,
    pieces: &mut Pieces,
) -> Result<(), LedgerError> {
    let (at, change) =
        Change::parse(entry.kind, &entry.body).map_err(|_| LedgerError::Damaged {
            what: "an entry of the log cannot be read",
        })?;
    if let Some(snapshot) = pieces.take(entry.channel, &change) {
        return snapshot::put(rows, entry.channel, &snapshot, volume.id());
    }
    let is_record = matches!(change, Change::Record { .. });
    if !is_record && is_elsewhere(rows, entry.channel, volume)?
        || matches!(change, Change::Snapshot { .. })
    {
        return Ok(());
    }
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

#[cfg(test)]
mod tests;
