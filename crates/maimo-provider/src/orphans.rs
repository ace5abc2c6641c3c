//! What a crash left on a volume and no row knows: files of packs that came in whole, files that came in half.
//!
//! The entry that a pack is held goes to the log with the next sync, for its file says the same. When the power goes between, the file is there and
//! the row is not: then it is taken in now, as if it had just come. What its row places on another volume, or what had groups freed before, was let
//! go: it is noted to be removed. What came in half and has no room any more is removed at once.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
};

use maimo_core::{
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};

use crate::{
    error::ProviderError,
    group_commit::Durability,
    ledger::{LedgerError, changes, entry::Change},
    provider::{Inner, now},
    rebuild::class_of,
    volume::{Volume, VolumeError, VolumeId},
};

impl Inner {
    /// Removes what came in half and has no row. Nobody may be storing on the volume.
    pub(crate) fn settle_incoming(&self, volume: &Volume) -> Result<(), ProviderError> {
        let failed = of_volume(volume);
        let all = volume.all_incoming().map_err(&failed)?;
        let stale = self.readers.read(|rows| {
            let mut stale = Vec::new();
            for (channel, pack) in all {
                let known = match rows.channel(&channel)? {
                    Some(row) => rows.upload(row.number, &pack)?,
                    None => None,
                };
                if known.is_none_or(|upload| upload.volume != volume.id()) {
                    stale.push((channel, pack));
                }
            }
            Ok(stale)
        })?;
        for (channel, pack) in stale {
            volume.remove_incoming(channel, &pack).map_err(&failed)?;
        }
        Ok(())
    }

    /// Holds the packs on a volume against the rows.
    pub(crate) fn settle_packs(&self, volume: &Arc<Volume>) -> Result<(), ProviderError> {
        let id = volume.id();
        let noted = self.readers.read(|rows| rows.punches())?;
        let mut of_channel = None;
        for name in volume.pack_names() {
            let (channel, root) = name.map_err(of_volume(volume))?;
            // One folder after the other, so that one channel's rows are in memory at a time.
            let rows = match of_channel.take() {
                Some((last, rows)) if last == channel => rows,
                _ => self.volumes_of_packs(channel)?,
            };
            let is_known = rows.get(&root) == Some(&id);
            of_channel = Some((channel, rows));
            let is_noted = |pack: &ObjectRef| {
                noted
                    .iter()
                    .any(|note| note.pack == *pack && note.volume == id)
            };
            if is_known {
                continue;
            }
            match volume.stored(channel, root) {
                Ok(Some(stored)) if !is_noted(&stored.pack) => {
                    let class = stored.held.is_full().then(|| class_of(volume, &stored));
                    self.take_in(volume.id(), channel, stored.pack, class.flatten())?;
                }
                // A file that cannot be read is for a scrub to tell.
                Ok(_) | Err(VolumeError::DamagedPack { .. }) => {}
                Err(error) => return Err(of_volume(volume)(error)),
            }
        }
        Ok(())
    }

    /// Takes a pack in whose file is whole, or notes that it is to be removed.
    fn take_in(
        &self,
        volume: VolumeId,
        channel: ChannelId,
        pack: ObjectRef,
        class: Option<maimo_core::custody::PackClass>,
    ) -> Result<(), ProviderError> {
        // Whoever is storing right now has either put row and file in place, or not begun with it.
        let files = self.files.write();
        let files = files.unwrap_or_else(PoisonError::into_inner);
        self.committer.run(move |batch| {
            // Nobody's; a log that is not mounted may know whose.
            let Some(row) = batch.rows.channel(&channel)? else {
                return Ok(());
            };
            let (log, number, at) = (row.log, row.number, now());
            let known = batch.rows.pack(number, &pack)?;
            match (known, class) {
                (Some(known), _) if known.volume == volume => {}
                (None, Some(class)) => {
                    changes::finish(batch.rows, row, pack, class, volume, at)?;
                    let change = Change::PackHeld {
                        pack,
                        class,
                        volume,
                    };
                    batch.record(log, channel, &change, at, Durability::Lazy);
                }
                _ => batch.rows.put_punch(number, &pack, volume)?,
            }
            Ok(())
        })?;
        drop(files);
        Ok(())
    }

    fn volumes_of_packs(
        &self,
        channel: ChannelId,
    ) -> Result<HashMap<RootHash, VolumeId>, LedgerError> {
        self.readers.read(|rows| {
            let Some(row) = rows.channel(&channel)? else {
                return Ok(HashMap::new());
            };
            let packs = rows.packs(row.number)?.into_iter();
            Ok(packs
                .map(|pack| (pack.held.reference().root, pack.volume))
                .collect())
        })
    }
}

fn of_volume(volume: &Volume) -> impl Fn(VolumeError) -> ProviderError {
    let path = volume.path().to_owned();
    move |source| ProviderError::Volume {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests;
