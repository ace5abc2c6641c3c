//! [`Faults`]: a disk that fails on demand, for tests.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use super::lock;

/// What is wrong with a volume's disk; nothing, until told.
#[derive(Debug, Default)]
pub struct Faults {
    writes_left: Mutex<Option<u64>>,
    syncs_left: Mutex<Option<u64>>,
    without_holes: AtomicBool,
    undo: Mutex<Option<Vec<Undo>>>,
}

/// How a change is taken back that nothing has made durable.
#[derive(Debug)]
enum Undo {
    Written {
        file: File,
        inode: u64,
        offset: u64,
        old: Vec<u8>,
        length: u64,
    },
    Renamed {
        from: PathBuf,
        to: PathBuf,
        replaced: Option<Vec<u8>>,
    },
}

impl Faults {
    /// Lets so many writes pass; from then on the disk is full.
    pub fn fill_after(&self, writes: u64) {
        *lock(&self.writes_left) = Some(writes);
    }

    /// Lets so many fsyncs pass; from then on they fail.
    pub fn fail_sync_after(&self, syncs: u64) {
        *lock(&self.syncs_left) = Some(syncs);
    }

    /// Lets the disk write and sync again.
    pub fn heal(&self) {
        *lock(&self.writes_left) = None;
        *lock(&self.syncs_left) = None;
    }

    /// Makes it a file system without holes.
    pub fn forbid_holes(&self) {
        self.without_holes.store(true, Ordering::Release);
    }

    /// Remembers from now on what is not durable.
    pub fn remember(&self) {
        *lock(&self.undo) = Some(Vec::new());
    }

    /// Cuts the power: takes back each write and name since [`Self::remember`] that no fsync covered.
    ///
    /// # Errors
    ///
    /// Those of the file system.
    pub fn lose_unsynced(&self) -> io::Result<()> {
        let undo = lock(&self.undo).replace(Vec::new()).unwrap_or_default();
        for step in undo.into_iter().rev() {
            match step {
                Undo::Written {
                    file,
                    offset,
                    old,
                    length,
                    ..
                } => {
                    file.write_all_at(&old, offset)?;
                    file.set_len(length)?;
                }
                Undo::Renamed { from, to, replaced } => {
                    fs::rename(&to, from)?;
                    if let Some(bytes) = replaced {
                        fs::write(to, bytes)?;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        count(&self.writes_left, io::ErrorKind::StorageFull)?;
        if let Some(undo) = &mut *lock(&self.undo) {
            let found = file.metadata()?;
            let end = found.len().min(offset + bytes.len() as u64);
            let mut old = vec![0; super::index(end.saturating_sub(offset))];
            file.read_exact_at(&mut old, offset)?;
            undo.push(Undo::Written {
                file: file.try_clone()?,
                inode: found.ino(),
                offset,
                old,
                length: found.len(),
            });
        }
        Ok(())
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        count(&self.syncs_left, io::ErrorKind::Other)?;
        if let Some(undo) = &mut *lock(&self.undo) {
            let synced = file.metadata()?.ino();
            undo.retain(|step| !matches!(step, Undo::Written { inode, .. } if *inode == synced));
        }
        Ok(())
    }

    pub(super) fn sync_folder(&self, path: &Path) -> io::Result<()> {
        count(&self.syncs_left, io::ErrorKind::Other)?;
        if let Some(undo) = &mut *lock(&self.undo) {
            undo.retain(
                |step| !matches!(step, Undo::Renamed { to, .. } if to.parent() == Some(path)),
            );
        }
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) {
        if let Some(undo) = &mut *lock(&self.undo) {
            undo.push(Undo::Renamed {
                from: from.to_owned(),
                to: to.to_owned(),
                replaced: fs::read(to).ok(),
            });
        }
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.without_holes.load(Ordering::Acquire)
    }
}

/// Counts down what may still pass.
fn count(left: &Mutex<Option<u64>>, then: io::ErrorKind) -> io::Result<()> {
    match &mut *lock(left) {
        Some(0) => Err(then.into()),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}
