//! What the owner does with volumes: add, list, drain, remove.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use maimo_core::units::outboard_bytes;
use maimo_net::service::ServiceError;

use super::{ENDLESS_CAP, Provider, mount, now};
use crate::{
    error::{ProviderError, of_ledger},
    group_commit::Durability,
    ledger::{LedgerError, changes, entry::Change},
    placement::{Candidate, HEADROOM_BYTES, place},
    provider::Inner,
    volume::VolumeId,
};

/// How a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeState {
    /// It takes packs.
    Ready,
    /// It takes none; what is on it is moved to others.
    Draining,
    /// It is not mounted.
    Unavailable,
    /// An fsync failed: it takes nothing before the provider is opened again.
    Failed,
}

/// A volume as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeStatus {
    /// Its folder.
    pub path: PathBuf,
    /// How many bytes it may hold.
    pub capacity: u64,
    /// How many bytes of packs it holds, outboards included.
    pub used: u64,
    /// How many bytes its disk has free; 0 where that cannot be asked.
    pub free: u64,
    /// How it is.
    pub state: VolumeState,
}

impl Provider {
    /// Adds a folder as a volume of so many bytes; one that is the provider's already gets another capacity, and takes packs again.
    ///
    /// # Errors
    ///
    /// A volume of another provider; those of the file system.
    pub fn add_volume(&self, path: &Path, capacity: u64) -> Result<(), ProviderError> {
        let path = std::path::absolute(path).map_err(ProviderError::io("finding the folder"))?;
        let volumes = &self.inner.volumes;
        if let Some((listed, ..)) = volumes.list().into_iter().find(|(_, at, _)| *at == path) {
            return volumes.change(|list| {
                for volume in &mut list.volumes {
                    if volume.id == listed.id {
                        volume.capacity = capacity;
                        volume.is_draining = false;
                    }
                }
            });
        }
        let volume = mount(&path, &self.auth())?;
        volumes.add(&path, volume.id(), capacity)?;
        // Where its log does not follow from what the ledger knows, it is used from the next start on.
        let _ = self.inner.take_up(&Arc::new(volume));
        Ok(())
    }

    /// Returns all volumes.
    ///
    /// # Errors
    ///
    /// A ledger that cannot be read.
    pub fn volumes(&self) -> Result<Vec<VolumeStatus>, ProviderError> {
        for volume in self.inner.volumes.open_more() {
            // One that cannot be taken up now is shown as it is: not mounted.
            let _ = self.inner.take_up(&volume);
        }
        let mut found = Vec::new();
        for (listed, path, volume) in self.inner.volumes.list() {
            let free = volume.as_ref().and_then(|volume| volume.free_bytes().ok());
            let state = match &volume {
                None => VolumeState::Unavailable,
                Some(volume) if volume.is_poisoned() => VolumeState::Failed,
                Some(_) if free.is_none() => VolumeState::Unavailable,
                Some(_) if listed.is_draining => VolumeState::Draining,
                Some(_) => VolumeState::Ready,
            };
            found.push(VolumeStatus {
                path,
                capacity: listed.capacity,
                used: self.inner.used(listed.id)?,
                free: free.unwrap_or(0),
                state,
            });
        }
        Ok(found)
    }

    /// Returns how many fsyncs there were of what volumes hold since each was opened: of packs, logs and folders, not of the ledger.
    pub fn syncs(&self) -> u64 {
        let volumes = self.inner.volumes.list().into_iter();
        volumes
            .filter_map(|(_, _, volume)| volume)
            .map(|volume| volume.syncs())
            .sum()
    }

    /// Moves all packs from a volume to others. It takes none from the beginning of this on, also if it is stopped; called again, it goes on.
    /// `progress` hears how many packs of how many are moved, and stops it by returning false.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NoVolume`], [`ProviderError::NoRoom`], [`ProviderError::Interrupted`]; a pack that is damaged stays where it is.
    pub fn drain_volume(
        &self,
        path: &Path,
        progress: &dyn Fn(u64, u64) -> bool,
    ) -> Result<(), ProviderError> {
        let inner = &self.inner;
        let (id, path) = self.find_volume(path)?;
        inner.volumes.change(|list| {
            for volume in &mut list.volumes {
                volume.is_draining |= volume.id == id;
            }
        })?;
        let failed = |source| ProviderError::Volume {
            path: path.clone(),
            source,
        };
        // Before the first file is copied: after a crash a copy without a row is looked for.
        inner
            .clean
            .soil()
            .map_err(ProviderError::io("beginning to drain"))?;
        let source = inner.volumes.mounted(id);
        let source = source.ok_or_else(|| ProviderError::NoVolume { path: path.clone() })?;
        let mut packs = inner.all_packs()?;
        packs.retain(|(_, row)| row.volume == id);
        let total = packs.len() as u64;
        for (done, (channel, row)) in (0..).zip(packs) {
            if !progress(done, total) {
                return Err(ProviderError::Interrupted);
            }
            let pack = *row.held.reference();
            let to = inner.place(pack.length);
            let to = to.map_err(|_| ProviderError::NoRoom { path: path.clone() })?;
            let target = inner.volumes.mounted(to);
            let target = target.ok_or_else(|| ProviderError::NoRoom { path: path.clone() })?;
            // Nobody may punch the file between its copy and its row.
            let files = inner.files.read();
            let files = files.unwrap_or_else(std::sync::PoisonError::into_inner);
            target.copy_from(&source, channel, &pack).map_err(failed)?;
            inner.committer.run(move |batch| {
                let Some(row) = batch.rows.channel(&channel)? else {
                    return Ok(());
                };
                changes::place(batch.rows, &row, &pack, to)?;
                batch.rows.put_punch(row.number, &pack, id)?;
                let change = Change::PackMoved { pack, volume: to };
                // Before the old file goes.
                batch.record(row.log, channel, &change, now(), Durability::Synced);
                Ok(())
            })?;
            drop(files);
        }
        inner.punch_all();
        progress(total, total);
        Ok(())
    }

    /// Forgets a volume that no pack is on. Channels and invitations whose log is there go to that of another volume. Its folder stays.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NoVolume`]; [`ProviderError::NotEmpty`] while packs are on it, or no other volume could take a channel's log.
    pub fn remove_volume(&self, path: &Path) -> Result<(), ProviderError> {
        let inner = &self.inner;
        let (id, path) = self.find_volume(path)?;
        let is_used = inner.readers.read(|rows| {
            for channel in rows.channels()? {
                if let Some(row) = rows.channel(&channel)? {
                    let packs = rows.packs(row.number)?;
                    let uploads = rows.uploads(row.number)?;
                    if packs.iter().any(|pack| pack.volume == id)
                        || uploads.iter().any(|upload| upload.volume == id)
                    {
                        return Ok(true);
                    }
                }
            }
            Ok(false)
        })?;
        if is_used {
            return Err(ProviderError::NotEmpty { path });
        }
        if !inner.is_log_empty(id)? {
            let others = inner.volumes.list().into_iter();
            let mut others = others.filter(|(listed, _, volume)| {
                listed.id != id && !listed.is_draining && volume.is_some()
            });
            let (other, ..) = others.next().ok_or(ProviderError::NotEmpty { path })?;
            inner.move_log(id, other.id)?;
        }
        inner
            .volumes
            .change(|list| list.volumes.retain(|volume| volume.id != id))
    }

    fn find_volume(&self, path: &Path) -> Result<(VolumeId, PathBuf), ProviderError> {
        let path = std::path::absolute(path).map_err(ProviderError::io("finding the folder"))?;
        let list = self.inner.volumes.list();
        let found = list.into_iter().find(|(_, at, _)| *at == path);
        found
            .map(|(listed, path, _)| (listed.id, path))
            .ok_or(ProviderError::NoVolume { path: path.clone() })
    }
}

impl Inner {
    /// Returns how many bytes of packs are on a volume or coming to it.
    pub(crate) fn used(&self, id: VolumeId) -> Result<u64, LedgerError> {
        self.readers.read(|rows| rows.used(id))
    }

    /// Returns the volume that takes a pack of so many bytes.
    pub(crate) fn place(&self, length: u64) -> Result<VolumeId, ServiceError> {
        let list = self.volumes.list();
        // Of a folder channel the cap alone says how much: refused by it, a client learns what helps, and not that a disk is full.
        let is_folder = self.volumes.folder_grace().is_some();
        let mut candidates = Vec::with_capacity(list.len());
        for (listed, _, volume) in &list {
            let free = volume.as_ref().and_then(|volume| volume.free_bytes().ok());
            let left = if is_folder || listed.capacity >= ENDLESS_CAP {
                u64::MAX
            } else {
                let used = self.used(listed.id);
                let used = used.map_err(|error| of_ledger(&error))?;
                // The headroom is the disk's: a capacity may be used to its last byte.
                listed.capacity.saturating_sub(used) + HEADROOM_BYTES
            };
            candidates.push(Candidate {
                id: listed.id,
                free_bytes: free.unwrap_or(0).min(left),
                is_ready: free.is_some() && !listed.is_draining,
            });
        }
        let is_any_ready = candidates.iter().any(|candidate| candidate.is_ready);
        place(candidates, length + outboard_bytes(length)).ok_or_else(|| {
            if is_any_ready {
                ServiceError::DiskFull {
                    detail: "no volume has room for a pack".to_owned(),
                }
            } else {
                ServiceError::Unavailable {
                    detail: "no volume is mounted".to_owned(),
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use maimo_core::{
        address::Network,
        custody::{PackClass, Terms},
        identity::ClientSecretKey,
        live_map::LiveMap,
    };

    use super::*;
    use crate::testing::{TestClient, pack};

    #[test]
    fn a_drained_volume_is_empty_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let provider = Provider::create(&at("home")).unwrap();
        let key = ClientSecretKey::from_seed(&[1; 32]).public();
        provider.add_volume(&at("log"), 1 << 30).unwrap();
        provider
            .register(Network::Onion, key, "a", Terms::new(1 << 30, None, None))
            .unwrap();
        provider.add_volume(&at("one"), 1 << 40).unwrap();
        let mut client = TestClient::new(&provider, 1);
        let bytes = pack(1, PackClass::Data, 128 * 1024);
        let reference = client.upload(&bytes, PackClass::Data).unwrap();
        client.name(
            reference,
            PackClass::Data,
            LiveMap::from_runs(8, core::iter::once(2..5)).unwrap(),
        );
        client.move_head(&provider).unwrap();
        let later = now().after(core::time::Duration::from_hours(24 * 60));
        provider.sweep(later).unwrap();
        let used = |provider: &Provider| -> Vec<u64> {
            let volumes = provider.volumes().unwrap();
            volumes.iter().map(|volume| volume.used).collect()
        };
        assert_eq!(used(&provider), [0, 3 * 16384 + 7 * 64]);

        provider.drain_volume(&at("one"), &|_, _| true).unwrap();
        assert_eq!(used(&provider), [3 * 16384 + 7 * 64, 0]);
        assert_eq!(provider.scrub(&|_, _| true).unwrap().damaged, []);
        provider.remove_volume(&at("one")).unwrap();
        assert!(matches!(
            provider.remove_volume(&at("log")),
            Err(ProviderError::NotEmpty { .. })
        ));
        client.move_head(&provider).unwrap();
        assert_eq!(block_on(client.session.status()).unwrap().sequence, 2);
    }

    #[test]
    fn a_provider_comes_back_from_its_words_and_its_volumes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let provider = Provider::create(&at("home")).unwrap();
        let key = ClientSecretKey::from_seed(&[1; 32]).public();
        provider.add_volume(&at("one"), 1 << 30).unwrap();
        provider
            .register(Network::Onion, key, "a", Terms::new(1 << 30, None, None))
            .unwrap();
        let mut client = TestClient::new(&provider, 1);
        let reference = client.upload(&pack(1, PackClass::Data, 128 * 1024), PackClass::Data);
        client.name_all(reference.unwrap(), PackClass::Data);
        client.move_head(&provider).unwrap();
        let phrase = provider.phrase();
        let other = Provider::create(&at("other")).unwrap();
        let taken = other.add_volume(&at("one"), 1);
        assert!(matches!(taken, Err(ProviderError::Volume { .. })));
        let totals = provider.clients().unwrap().remove(0).totals;
        client.session = TestClient::new(
            &Provider::open_folder(&at("x"), Some(crate::provider::FolderTerms::default()))
                .unwrap(),
            1,
        )
        .session;
        drop(provider);

        let provider = Provider::restore(&at("again"), phrase.as_str()).unwrap();
        provider.add_volume(&at("one"), 1 << 30).unwrap();
        drop(provider);
        let provider = Provider::open(&at("again")).unwrap();
        let client = provider.clients().unwrap().remove(0);
        assert_eq!(
            (client.totals, client.label.as_str(), client.sequence),
            (totals, "a", 1)
        );
    }
}
