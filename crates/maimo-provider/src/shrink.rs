//! Shrinking logs: once most of a log is of no use any more, its channels are written to it again as they are now, and what was before goes.
//!
//! ```text
//!   a new segment | a snapshot of each channel, one batch each, among other changes | the ledger is synced | all segments before are removed
//! ```
//!
//! Cut off anywhere, a channel has the old entries, the new ones, or both: a snapshot takes the place of whatever came before it. The
//! ledger is synced first because one that a power cut took back must not look for an entry that is gone.

use crate::{
    error::ProviderError,
    group_commit::Durability,
    ledger::{Record, snapshot},
    provider::{Inner, now},
    rebuild,
    volume::{Volume, VolumeError, VolumeId},
};

/// From how many useless bytes on a log is written again, if they are half of it, too.
const DEAD_LEAST: u64 = 16 * 1024 * 1024;

impl Inner {
    /// Writes those logs again of which most is useless.
    pub(crate) fn shrink_logs(&self) -> Result<(), ProviderError> {
        for volume in self.volumes.all_mounted() {
            let total = volume.log().bytes().map_err(of_volume(&volume))?;
            if total <= DEAD_LEAST {
                continue;
            }
            let live = self.readers.read(|rows| rows.log_bytes(volume.id()))?;
            if total.saturating_sub(live) > DEAD_LEAST.max(total / 2) {
                self.shrink_log(&volume)?;
            }
        }
        Ok(())
    }

    /// Writes the log of a volume again.
    pub(crate) fn shrink_log(&self, volume: &Volume) -> Result<(), ProviderError> {
        let id = volume.id();
        let first = volume.log().begin_anew().map_err(of_volume(volume))?;
        for channel in self.channels_in(id)? {
            self.committer.run(move |batch| {
                let row = batch.rows.channel(&channel)?;
                let Some(row) = row.filter(|row| row.log == id) else {
                    return Ok(());
                };
                for change in snapshot::entries(batch.rows, &row)? {
                    batch.record(id, channel, &change, now(), Durability::Synced);
                }
                Ok(())
            })?;
        }
        self.committer
            .run(move |batch| rebuild::log_records(batch, id))?;
        if self.committer.checkpoint()? {
            volume
                .log()
                .remove_before(first)
                .map_err(of_volume(volume))?;
        }
        Ok(())
    }

    /// Moves channels and records from the log of one volume to that of another.
    pub(crate) fn move_log(&self, from: VolumeId, to: VolumeId) -> Result<(), ProviderError> {
        self.committer.run(move |batch| {
            for record in batch.rows.records_in(from)? {
                let version = record.version + 1;
                let moved = Record {
                    log: to,
                    version,
                    ..record
                };
                batch.put_record(&moved, now())?;
            }
            Ok(())
        })?;
        for channel in self.channels_in(from)? {
            self.committer.run(move |batch| {
                let row = batch.rows.channel(&channel)?;
                let Some(mut row) = row.filter(|row| row.log == from) else {
                    return Ok(());
                };
                row.log = to;
                row.era += 1;
                batch.rows.put_channel(&row)?;
                for change in snapshot::entries(batch.rows, &row)? {
                    batch.record(to, channel, &change, now(), Durability::Synced);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Returns whether nothing is in the log of a volume.
    pub(crate) fn is_log_empty(&self, log: VolumeId) -> Result<bool, ProviderError> {
        let records = self.readers.read(|rows| rows.records_in(log))?;
        Ok(records.is_empty() && self.channels_in(log)?.is_empty())
    }

    /// Returns the channels that are in the log of a volume.
    pub(crate) fn channels_in(
        &self,
        log: VolumeId,
    ) -> Result<Vec<maimo_core::id::ChannelId>, ProviderError> {
        let channels = self.readers.read(|rows| {
            let mut found = Vec::new();
            for channel in rows.channels()? {
                if rows.channel(&channel)?.is_some_and(|row| row.log == log) {
                    found.push(channel);
                }
            }
            Ok(found)
        })?;
        Ok(channels)
    }
}

fn of_volume(volume: &Volume) -> impl FnOnce(VolumeError) -> ProviderError {
    let path = volume.path().to_owned();
    move |source| ProviderError::Volume { path, source }
}

#[cfg(test)]
mod tests;
