//! Sweeping: what may be freed is, in the rows first and in the files after.
//!
//! A crash between the two leaves bytes that no row names, never a row without its bytes. Which files are still to be punched is in the ledger
//! until it is done.

use core::time::Duration;
use std::sync::PoisonError;

use maimo_core::{clock::Timestamp, id::ChannelId, live_map::LiveMap, units::groups};

use crate::{
    error::ProviderError,
    group_commit::Durability,
    invitation::Invited,
    ledger::{LedgerError, Punch, RecordKind, Rows, changes, entry::Change},
    provider::Inner,
    ticket_book::TicketBook,
    volume::VolumeError,
};

/// When commits were last thinned out, in the ledger.
pub(crate) const SWEPT: &str = "swept";
/// For how long they then are left as they are.
const THIN_AFTER: Duration = Duration::from_hours(1);

/// What a sweep freed, of all clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Packs of which groups were freed.
    pub packs: u64,
    /// Heads and inventory nodes.
    pub heads_and_nodes: u64,
    /// Commits thinned out.
    pub commits: u64,
    /// Uploads that expired.
    pub uploads: u64,
    /// Bytes that are charged to nobody any more.
    pub bytes: u64,
}

/// Takes invitations out of the rows of which nobody needs to hear any more, and books of tickets that all expired. No log is told: made anew, they are taken out again.
fn forget_stale(rows: &dyn Rows, now: Timestamp) -> Result<(), LedgerError> {
    for record in rows.records(RecordKind::Invitation)? {
        if Invited::parse(&record.body)?.is_stale(now) {
            rows.remove_record(record.kind, &record.name)?;
        }
    }
    for record in rows.records(RecordKind::Tickets)? {
        if TicketBook::parse(&record.body)?.is_stale(now) {
            rows.remove_record(record.kind, &record.name)?;
        }
    }
    Ok(())
}

impl Inner {
    /// Frees what may be freed at `now`.
    pub(crate) fn sweep(&self, now: Timestamp) -> Result<SweepReport, ProviderError> {
        let channels = self.readers.read(|rows| rows.channels())?;
        self.sweep_channels(channels, now)
    }

    /// Frees what may be freed at `now`, if there is anything; looks at dates only. Commits are thinned out again after an hour.
    pub(crate) fn sweep_due(&self, now: Timestamp) -> Result<SweepReport, ProviderError> {
        let (channels, is_noted) = self.readers.read(|rows| {
            let swept = rows.meta(SWEPT)?;
            let swept = swept.and_then(|bytes| bytes.try_into().ok());
            let swept = swept.map_or(0, u64::from_le_bytes);
            // Of a channel that has not changed for so long all is thinned out that ever will be.
            let seen = if now.since(Timestamp(swept)) >= THIN_AFTER {
                Timestamp(swept.saturating_sub(2 * 24 * 60 * 60 * 1000))
            } else {
                Timestamp(u64::MAX)
            };
            Ok((rows.channels_due(now, seen)?, !rows.punches()?.is_empty()))
        })?;
        if channels.is_empty() {
            if is_noted {
                self.punch_all();
            }
            return Ok(SweepReport::default());
        }
        self.sweep_channels(channels, now)
    }

    fn sweep_channels(
        &self,
        channels: Vec<ChannelId>,
        now: Timestamp,
    ) -> Result<SweepReport, ProviderError> {
        let mut report = SweepReport::default();
        for channel in channels {
            self.sweep_channel(channel, now, &mut report)?;
        }
        let swept = now.0.to_le_bytes();
        self.committer.run(move |batch| {
            forget_stale(batch.rows, now)?;
            batch.rows.put_meta(SWEPT, &swept)
        })?;
        self.punch_all();
        self.shrink_logs()?;
        Ok(report)
    }

    /// Frees all that is held for a client whose time is over.
    pub(crate) fn sweep_revoked(
        &self,
        channel: ChannelId,
        now: Timestamp,
    ) -> Result<SweepReport, ProviderError> {
        let mut report = SweepReport::default();
        self.sweep_channel(channel, now, &mut report)?;
        self.punch_all();
        Ok(report)
    }

    fn sweep_channel(
        &self,
        channel: ChannelId,
        now: Timestamp,
        report: &mut SweepReport,
    ) -> Result<(), ProviderError> {
        let swept = self.committer.run(move |batch| {
            let Some(row) = batch.rows.channel(&channel)? else {
                return Ok(changes::Sweeping::default());
            };
            let log = row.log;
            let swept = changes::sweep(batch.rows, row, now)?;
            if !swept.is_empty() {
                // Synced before any file is punched: an old state of the log must not name what is gone.
                let change = Change::Swept;
                batch.record(log, channel, &change, now, Durability::Synced);
            }
            Ok(swept)
        })?;
        report.packs += swept.packs;
        report.heads_and_nodes += swept.heads + swept.nodes;
        report.commits += swept.commits;
        report.uploads += swept.uploads.len() as u64;
        report.bytes += swept.bytes;
        for (pack, volume) in swept.uploads {
            self.abandon(channel, pack, volume);
        }
        Ok(())
    }

    /// Punches what is noted for it. What fails stays noted: a volume that is away comes back.
    pub(crate) fn punch_all(&self) {
        let punches = self.readers.read(|rows| rows.punches());
        for punch in punches.unwrap_or_default() {
            // One by one, so that whoever stores waits for one file at most.
            let files = self.files.write();
            let files = files.unwrap_or_else(PoisonError::into_inner);
            if self.punch(&punch).is_ok() {
                let done = punch.clone();
                // A note that stays is looked at again.
                let _ = self
                    .committer
                    .run(move |batch| batch.rows.remove_punch(&done));
            }
            drop(files);
        }
    }

    /// Frees what the row of a pack does not name any more.
    fn punch(&self, punch: &Punch) -> Result<(), LedgerError> {
        let volume = self.volumes.mounted(punch.volume);
        let volume = volume.ok_or(LedgerError::Unmounted {
            volume: punch.volume,
        })?;
        let row = self
            .readers
            .read(|rows| rows.pack(punch.number, &punch.pack))?;
        let Some(row) = row.filter(|row| row.volume == punch.volume) else {
            volume.remove(punch.channel, &punch.pack)?;
            return Ok(());
        };
        let count = u32::try_from(groups(punch.pack.length)).unwrap_or(u32::MAX);
        let freed = LiveMap::full(count).minus(&row.held.held());
        match volume.punch(punch.channel, &punch.pack, &freed) {
            // Lost: that is for an audit or a scrub to say.
            Err(VolumeError::NotHeld) => Ok(()),
            punched => Ok(punched?),
        }
    }

    /// Throws away what came in of a pack whose room was given back.
    pub(crate) fn abandon(
        &self,
        channel: ChannelId,
        pack: maimo_core::reference::ObjectRef,
        volume: crate::volume::VolumeId,
    ) {
        let mut coming = self.coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.remove(&(channel, pack));
        drop(coming);
        let volume = self.volumes.mounted(volume);
        if volume.is_none_or(|volume| volume.remove_incoming(channel, &pack).is_err()) {
            // Whoever is sending right now may still bring it to its end; if not, the next start finds that it has no row.
            self.clean.doubt();
        }
    }
}
