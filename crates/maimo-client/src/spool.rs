//! The spool: data packs that were sealed and are on their way, written down before their first byte leaves.
//!
//! ```text
//! sealed -> [over a network: its bytes, spool/ROOT] -> row -> ranges leave -> held -> bytes removed -> named by a commit -> row removed
//! ```
//!
//! For a provider in this process it keeps where a pack's chunks stand and what it is called on each channel: what a kill interrupts is read and
//! sealed again. For one at the other end of a network it keeps the sealed bytes, too, so that the next run sends what is missing of the
//! very same pack, and nothing twice. Bytes are not synced: a kill leaves them whole, and what a power cut tore does not hash to its name and is
//! discarded. Losing a row or a file costs the time to send its pack again and nothing else.

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
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
    session::Source,
    sync::lax_failed,
};

/// How many bytes the spool holds unless set.
pub(crate) const SPOOL_BYTES: u64 = 256 * 1024 * 1024;

/// The table of packs on their way; used from several threads.
pub(crate) struct Spool {
    db: Mutex<Connection>,
    folder: PathBuf,
    bytes_max: u64,
}

/// The sealed bytes of a pack on its way, on disk.
pub(crate) struct SpoolFile {
    file: File,
    path: PathBuf,
}

impl Source for SpoolFile {
    fn range(&self, offset: u64, length: u64) -> Result<Bytes, ClientError> {
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(ClientError::io("read", &self.path))?;
        Ok(bytes.into())
    }
}

/// What an earlier run left on its way.
#[derive(Default)]
pub(crate) struct Left {
    /// What arrived.
    pub(crate) arrived: Vec<Spooled>,
    /// What is to be sent on, with the channels that lack it.
    pub(crate) unfinished: Vec<(Spooled, Vec<ChannelId>)>,
    /// How many packs were damaged here, and are discarded.
    pub(crate) damaged: usize,
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
    /// Opens the table in the node's state file, and the folder of what it has the bytes of, which is made when it is needed.
    pub(crate) fn open(path: &Path, folder: PathBuf, bytes_max: u64) -> Result<Self, ClientError> {
        Ok(Self {
            db: Mutex::new(connect_lax(path)?),
            folder,
            bytes_max,
        })
    }

    /// Returns how many bytes there may be before the next pack waits until some have left.
    pub(crate) const fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Keeps the bytes of a pack: a kill after this loses none of them.
    pub(crate) fn keep(&self, pack: &ObjectRef, bytes: &[u8]) -> Result<(), ClientError> {
        let path = self.path_of(pack.root);
        let aside = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut folder = DirBuilder::new();
            folder.recursive(true).mode(0o700).create(&self.folder)?;
            let mut options = OpenOptions::new();
            let options = options.create(true).truncate(true).write(true).mode(0o600);
            options.open(&aside)?.write_all(bytes)?;
            fs::rename(&aside, &path)
        };
        write().map_err(ClientError::io("write", &path))
    }

    /// Opens the bytes that are kept of a pack.
    pub(crate) fn bytes_of(&self, pack: &ObjectRef) -> Result<SpoolFile, ClientError> {
        let path = self.path_of(pack.root);
        let file = File::open(&path).map_err(ClientError::io("open", &path))?;
        Ok(SpoolFile { file, path })
    }

    /// Lets go of a pack's bytes.
    pub(crate) fn drop_bytes(&self, root: RootHash) {
        // What stays is swept by the next run.
        let _ = fs::remove_file(self.path_of(root));
    }

    fn path_of(&self, root: RootHash) -> PathBuf {
        self.folder.join(root.to_string())
    }

    /// Removes all files that are not of these packs.
    fn sweep(&self, kept: &HashSet<RootHash>) -> Result<(), ClientError> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(ClientError::io("read", &self.folder))?,
        };
        let kept: HashSet<PathBuf> = kept.iter().map(|root| self.path_of(*root)).collect();
        for entry in entries.flatten() {
            if !kept.contains(&entry.path()) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
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

    /// Returns the packs that no commit has named: those that all of `channels` took, and those whose bytes are here for all that did not. Forgets
    /// the others. What a channel behind the first has not, and is not here, it is owed.
    pub(crate) fn left(
        &self,
        writer: WriterId,
        channels: &[ChannelId],
    ) -> Result<Left, ClientError> {
        let db = self.db();
        let read = || -> rusqlite::Result<Vec<(i64, Vec<u8>)>> {
            let mut statement = db.prepare_cached("SELECT n, layout FROM spool ORDER BY n")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        };
        let mut left = Left::default();
        let mut kept = HashSet::new();
        for (n, bytes) in read().map_err(lax_failed)? {
            let layout = PackLayout::parse(&mut Reader::new(&bytes)).ok();
            let own = PackNumber {
                writer,
                n: unsigned(n),
            };
            let layout = layout.filter(|layout| layout.number() == own);
            let objects = || -> rusqlite::Result<Vec<(ChannelId, RootHash, bool)>> {
                let sql = "SELECT channel, root, held FROM spool_object WHERE n = ?1";
                let mut statement = db.prepare_cached(sql)?;
                let rows = statement.query_map([n], |row| {
                    Ok((ChannelId(row.get(0)?), RootHash(row.get(1)?), row.get(2)?))
                })?;
                rows.collect()
            };
            let known = objects().map_err(lax_failed)?;
            let found = layout.and_then(|layout| {
                let length = layout.length();
                let mut objects = BTreeMap::new();
                let mut lacking = Vec::new();
                for (place, channel) in channels.iter().enumerate() {
                    let row = known.iter().find(|(known, ..)| known == channel);
                    // A mirror that a pack was not sealed for is owed it.
                    let Some((_, root, is_held)) = row else {
                        if place == 0 {
                            return None;
                        }
                        continue;
                    };
                    let pack = ObjectRef {
                        root: *root,
                        length,
                    };
                    if !is_held {
                        if !self.is_whole(&pack, &mut left.damaged) {
                            if place == 0 {
                                return None;
                            }
                            continue;
                        }
                        lacking.push(*channel);
                    }
                    objects.insert(*channel, pack);
                }
                Some((Spooled { layout, objects }, lacking))
            });
            match found {
                Some((spooled, lacking)) if lacking.is_empty() => left.arrived.push(spooled),
                Some((spooled, lacking)) => {
                    let of = |channel: &ChannelId| spooled.objects[channel].root;
                    kept.extend(lacking.iter().map(of));
                    left.unfinished.push((spooled, lacking));
                }
                None => {
                    for table in ["spool", "spool_object"] {
                        let sql = format!("DELETE FROM {table} WHERE n = ?1");
                        db.execute(&sql, [n]).map_err(lax_failed)?;
                    }
                }
            }
        }
        self.sweep(&kept)?;
        Ok(left)
    }

    /// Returns whether a pack's bytes are here and what they were; counts those that are not.
    fn is_whole(&self, pack: &ObjectRef, damaged: &mut usize) -> bool {
        let path = self.path_of(pack.root);
        // Its length first: nothing is read of a file that is another.
        let length = fs::metadata(&path).map(|found| found.len());
        match length {
            Err(_) => false,
            Ok(length) => {
                let is_whole =
                    length == pack.length && fs::read(&path).is_ok_and(|bytes| pack.names(&bytes));
                *damaged += usize::from(!is_whole);
                is_whole
            }
        }
    }
}
