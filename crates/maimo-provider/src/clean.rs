//! [`Clean`]: the mark of a provider that was closed in order.
//!
//! To find out after a crash what ledger, logs and files agree on, all of the ledger is read, and the names of all files. That is not done where
//! the last process said at its end that they agree. The mark is removed, durably, before the first change of anything, and made again once the
//! ledger is closed and the logs are synced. So it need not be synced itself: a power cut that takes it back costs time and nothing else.
//!
//! The mark names the ledger's file as it was then (size, time of change, inode): a file that was put back, cut or written to is another one.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{
    provider::LEDGER,
    volume::VolumeId,
    volumes::{Volumes, parse_id},
};

const NAME: &str = "clean";
const FIRST_LINE: &str = "maimo clean 1";
/// A mark that was cut off is none.
const LAST_LINE: &str = "end";

/// Whether ledger, logs and files are known to agree.
#[derive(Debug)]
pub(crate) struct Clean {
    home: PathBuf,
    volumes: Arc<Volumes>,
    /// The volumes whose files were held against the ledger since the last crash.
    settled: Mutex<BTreeSet<VolumeId>>,
    is_marked: AtomicBool,
    is_doubted: AtomicBool,
}

impl Clean {
    /// Reads the mark, if there is one that holds.
    pub(crate) fn open(home: &Path, volumes: Arc<Volumes>) -> Self {
        let settled = read(home);
        Self {
            home: home.to_owned(),
            volumes,
            is_marked: AtomicBool::new(settled.is_some()),
            settled: Mutex::new(settled.unwrap_or_default()),
            is_doubted: AtomicBool::new(false),
        }
    }

    /// Returns whether nothing was changed since the last close in order.
    pub(crate) fn is_marked(&self) -> bool {
        self.is_marked.load(Ordering::Acquire)
    }

    /// Returns whether a volume's files were held against the ledger since the last crash.
    pub(crate) fn is_settled(&self, volume: VolumeId) -> bool {
        self.settled().contains(&volume)
    }

    /// Notes that a volume's files agree with the ledger.
    pub(crate) fn settle(&self, volume: VolumeId) {
        self.settled().insert(volume);
    }

    /// Forgets what was settled: all is to be looked at again.
    pub(crate) fn unsettle(&self) -> io::Result<()> {
        self.settled().clear();
        self.remove()
    }

    /// Removes the mark, durably. To be called before anything is changed.
    pub(crate) fn soil(&self) -> io::Result<()> {
        if !self.is_marked() {
            return Ok(());
        }
        self.remove()
    }

    /// Notes that something does not agree: the next who opens the provider looks at all of it.
    pub(crate) fn doubt(&self) {
        self.is_doubted.store(true, Ordering::Release);
        // The mark must not outlive what was seen, were this process killed now.
        let _ = self.soil();
    }

    fn remove(&self) -> io::Result<()> {
        // Several callers may come here at once: none may go on before the mark is gone for good.
        let settled = self.settled();
        match fs::remove_file(self.home.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
            Ok(()) => File::open(&self.home)?.sync_all()?,
        }
        self.is_marked.store(false, Ordering::Release);
        drop(settled);
        Ok(())
    }

    fn settled(&self) -> std::sync::MutexGuard<'_, BTreeSet<VolumeId>> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self) -> io::Result<()> {
        let mounted = self.volumes.all_mounted();
        for volume in &mounted {
            volume.log().sync().map_err(io::Error::other)?;
        }
        let Some(ledger) = state_of(&self.home) else {
            return Ok(());
        };
        let mut text = format!("{FIRST_LINE}\nledger {ledger}\n");
        for id in &*self.settled() {
            let _ = writeln!(text, "volume {id}");
        }
        text.push_str(LAST_LINE);
        text.push('\n');
        fs::write(self.home.join(NAME), text)
    }
}

/// The ledger has been closed by now: see the order of the fields in [`crate::provider::Inner`].
impl Drop for Clean {
    fn drop(&mut self) {
        if !self.is_marked() && !self.is_doubted.load(Ordering::Acquire) {
            // Without it the next start takes longer.
            let _ = self.mark();
        }
    }
}

fn read(home: &Path) -> Option<BTreeSet<VolumeId>> {
    let text = fs::read_to_string(home.join(NAME)).ok()?;
    let mut lines = text.strip_suffix('\n')?.split('\n');
    if lines.next()? != FIRST_LINE || lines.next_back()? != LAST_LINE {
        return None;
    }
    if lines.next()?.strip_prefix("ledger ")? != state_of(home)? {
        return None;
    }
    lines
        .map(|line| parse_id(line.strip_prefix("volume ")?))
        .collect()
}

/// Returns what tells the ledger's file from any other; nothing where changes wait beside it.
fn state_of(home: &Path) -> Option<String> {
    let path = home.join(LEDGER);
    let mut wal = path.clone().into_os_string();
    wal.push("-wal");
    if fs::metadata(wal).is_ok_and(|wal| wal.len() > 0) {
        return None;
    }
    let found = fs::metadata(path).ok()?;
    let (seconds, nanos) = (found.mtime(), found.mtime_nsec());
    Some(format!(
        "{} {seconds}.{nanos:09} {}",
        found.len(),
        found.ino()
    ))
}

#[cfg(test)]
mod tests;
