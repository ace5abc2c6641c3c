//! Scrubbing: everything that is stored is read again and held against its name.
//!
//! Packs are held against their roots, group by group; the log's entries against their checksums; the rows against the files that they say are there. Nothing
//! is repaired here: what is damaged comes back from the client, or from another of its channels.

use std::path::{Path, PathBuf};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef, units::outboard_bytes};

use crate::{
    error::{ProviderError, of_ledger},
    ledger::PackRow,
    provider::{Inner, Provider},
    volume::{PackFile, Replayed, Volume, VolumeError},
};

/// What a scrub found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// How many packs were read.
    pub packs: u64,
    /// How many bytes of packs, outboards included.
    pub bytes: u64,
    /// What is damaged or missing.
    pub damaged: Vec<Damage>,
}

/// Something that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// Groups of a pack that are held, and are not what its root names.
    Groups {
        /// The channel.
        channel: ChannelId,
        /// The pack.
        pack: ObjectRef,
        /// Which groups.
        groups: LiveMap,
    },
    /// Groups of a pack that are held by the ledger, and not there.
    Missing {
        /// The channel.
        channel: ChannelId,
        /// The pack.
        pack: ObjectRef,
        /// Which groups.
        groups: LiveMap,
    },
    /// The end of a pack's file, which says what of it is there; the groups are sound.
    File {
        /// The channel.
        channel: ChannelId,
        /// The pack.
        pack: ObjectRef,
    },
    /// A stretch of a volume's log.
    Log {
        /// The volume's folder.
        volume: PathBuf,
        /// How many bytes.
        bytes: u64,
    },
    /// A volume that is not mounted: nothing on it was read.
    Unmounted {
        /// The volume's folder.
        volume: PathBuf,
    },
}

impl Provider {
    /// Reads all that is stored again. `progress` hears how many bytes of how many are read, and stops the scrub by returning false.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Interrupted`]; a ledger or disk that cannot be read.
    pub fn scrub(&self, progress: &dyn Fn(u64, u64) -> bool) -> Result<ScrubReport, ProviderError> {
        let inner = &*self.inner;
        let mut report = ScrubReport::default();
        for (_, path, volume) in inner.volumes.list() {
            match volume {
                None => report.damaged.push(Damage::Unmounted { volume: path }),
                Some(volume) => scrub_log(&volume, &path, &mut report)?,
            }
        }
        let packs = inner.all_packs()?;
        let total = packs.iter().map(|(_, row)| size(row)).sum();
        for (channel, row) in &packs {
            if !progress(report.bytes, total) {
                return Err(ProviderError::Interrupted);
            }
            inner.scrub_pack(*channel, row, &mut report)?;
            report.packs += 1;
            report.bytes += size(row);
        }
        progress(report.bytes, total);
        Ok(report)
    }
}

fn size(row: &PackRow) -> u64 {
    let reference = row.held.reference();
    row.held.held().live_bytes(reference.length) + outboard_bytes(reference.length)
}

fn scrub_log(volume: &Volume, path: &Path, report: &mut ScrubReport) -> Result<(), ProviderError> {
    let failed = |source| ProviderError::Volume {
        path: path.to_owned(),
        source,
    };
    for step in volume.log().replay(None) {
        if let Replayed::Damaged { bytes, .. } = step.map_err(failed)? {
            report.damaged.push(Damage::Log {
                volume: path.to_owned(),
                bytes,
            });
        }
    }
    Ok(())
}

impl Inner {
    /// Returns all packs of all channels, as they are now.
    pub(crate) fn all_packs(&self) -> Result<Vec<(ChannelId, PackRow)>, ProviderError> {
        let packs = self.readers.read(|rows| {
            let mut all = Vec::new();
            for channel in rows.channels()? {
                if let Some(row) = rows.channel(&channel)? {
                    let packs = rows.packs(row.number)?;
                    all.extend(packs.into_iter().map(|row| (channel, row)));
                }
            }
            Ok(all)
        })?;
        Ok(packs)
    }

    fn scrub_pack(
        &self,
        channel: ChannelId,
        row: &PackRow,
        report: &mut ScrubReport,
    ) -> Result<(), ProviderError> {
        let pack = *row.held.reference();
        let Some(volume) = self.volumes.mounted(row.volume) else {
            return Ok(());
        };
        let found = volume
            .pack_anew(channel, &pack)
            .and_then(|file| Ok((file.damaged()?, file)));
        // What was swept or let go since the list was made is nobody's loss.
        let now = self.row(channel)?.map(|channel| {
            self.readers
                .read(|rows| rows.pack(channel.number, &pack))
                .map_err(|error| of_ledger(&error))
        });
        let Some(now) = now.transpose()?.flatten() else {
            return Ok(());
        };
        let held = now.held.held();
        let (damaged, there) = match &found {
            Ok((damaged, file)) => {
                if PackFile::is_footer_damaged(file) {
                    report.damaged.push(Damage::File { channel, pack });
                }
                (damaged.intersection(&held), file.held().clone())
            }
            Err(VolumeError::NotHeld) => {
                (LiveMap::empty(held.groups()), LiveMap::empty(held.groups()))
            }
            Err(_) => (held.clone(), held.clone()),
        };
        let missing = held.minus(&there);
        if !damaged.is_empty() {
            let groups = damaged;
            report.damaged.push(Damage::Groups {
                channel,
                pack,
                groups,
            });
        }
        if !missing.is_empty() {
            let groups = missing;
            report.damaged.push(Damage::Missing {
                channel,
                pack,
                groups,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use maimo_core::custody::PackClass;

    use super::*;
    use crate::{
        provider::FolderTerms,
        testing::{TestClient, pack},
    };

    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files(&path, found);
            } else {
                found.push(path);
            }
        }
    }

    /// Bytes of the pack, of its outboard, of the footer, of log entries.
    #[test]
    fn a_bit_flipped_in_any_stored_file_is_found_and_none_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let terms = Some(FolderTerms::default());
        let provider = Provider::open_folder(folder.path(), terms).unwrap();
        let mut client = TestClient::new(&provider, 1);
        let bytes = pack(1, PackClass::Data, 200 * 1024);
        let reference = client.upload(&bytes, PackClass::Data).unwrap();
        client.name_all(reference, PackClass::Data);
        client.move_head(&provider).unwrap();
        client.move_head(&provider).unwrap();
        let clean = provider.scrub(&|_, _| true).unwrap();
        assert_eq!(clean.damaged, []);
        assert_eq!((clean.packs, clean.bytes), (1, 200 * 1024 + 12 * 64));

        let mut all = Vec::new();
        files(&folder.path().join("volume/packs"), &mut all);
        assert_eq!(all.len(), 1);
        let good = fs::read(&all[0]).unwrap();
        for at in (0..good.len()).step_by(977).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 4;
            // In place: the file may be open.
            fs::write(&all[0], &bad).unwrap();
            let report = provider.scrub(&|_, _| true);
            assert_ne!(report.unwrap().damaged, [], "byte {at}");
        }
        fs::write(&all[0], &good).unwrap();
        fs::remove_file(&all[0]).unwrap();
        let report = provider.scrub(&|_, _| true);
        assert!(matches!(
            report.unwrap().damaged[..],
            [Damage::Missing { .. }]
        ));
    }
}
