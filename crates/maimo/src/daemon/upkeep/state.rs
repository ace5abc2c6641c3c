//! [`State`]: how the upkeep stands, in a file for other programs and for the next process.
//!
//! `state.json` in the node's home, for its owner's eyes alone, replaced whole. It names channels and folders. Invariant: whoever reads it, reads
//! all of one state. What cannot be read is not there: all it costs is that jobs are done sooner than they need be.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::trouble::Trouble;
use crate::quantity::Moment;

/// The file's name in the home.
const FILE: &str = "state.json";
/// The longest file that is read, in bytes.
const BYTES_MAX: u64 = 4 << 20;
/// What this program writes; what another version wrote is read as far as it is the same.
const VERSION: u32 = 1;

/// How the upkeep stands.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) version: u32,
    /// When it was written.
    pub(crate) written: Option<Moment>,
    /// Whether the node runs: of one that ended otherwise than in order it says so still, and `written` how old that is.
    pub(crate) running: bool,
    /// What it is at.
    pub(crate) doing: Option<String>,
    /// Whether something changed that is not stored yet.
    #[serde(default)]
    pub(crate) pending: bool,
    /// The folders that are watched.
    #[serde(default)]
    pub(crate) folders: Vec<Folder>,
    /// When something was last stored, and in which state of the store it is.
    #[serde(default)]
    pub(crate) stored: Option<Stored>,
    /// What was let go of last.
    #[serde(default)]
    pub(crate) pruned: Option<Pruned>,
    #[serde(default)]
    pub(crate) jobs: Vec<JobRow>,
    /// What is wrong.
    #[serde(default)]
    pub(crate) troubles: Vec<Trouble>,
}

/// A watched folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Folder {
    pub(crate) path: PathBuf,
    pub(crate) state: FolderState,
    /// Whether it was there before: then it is missed.
    pub(crate) seen: bool,
    /// Whether it was a file system of its own when it was last there.
    pub(crate) mounted: bool,
}

/// How a watched folder stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FolderState {
    /// It is not there.
    Absent,
    /// Its disk is not there.
    Unmounted,
    /// The system tells what changes in it.
    Watched,
    /// It is only looked through now and then.
    Rescanned,
}

impl FolderState {
    /// Returns how it stands, in words.
    pub(crate) const fn text(self, is_running: bool) -> &'static str {
        match self {
            _ if !is_running => "not watched: `maimo start` does not run",
            Self::Absent => "not there; it is watched as soon as it is",
            Self::Unmounted => "its disk is not mounted",
            Self::Watched => "watched",
            Self::Rescanned => "looked through now and then",
        }
    }
}

/// What was stored last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) time: Moment,
    pub(crate) sequence: u64,
    pub(crate) files: u64,
    /// Bytes sent for it to all channels.
    #[serde(default)]
    pub(crate) bytes_sent: u64,
}

/// What was let go of last because no policy keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pruned {
    pub(crate) time: Moment,
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobRow {
    pub(crate) job: String,
    /// When it was last done.
    pub(crate) last: Option<Moment>,
    /// When it is due.
    pub(crate) next: Option<Moment>,
    /// How often it failed since.
    pub(crate) failures: u32,
}

impl State {
    /// Reads what the last process wrote; nothing where it did not, or not so.
    pub(crate) fn read(home: &Path) -> Option<Self> {
        let path = home.join(FILE);
        let metadata = fs::metadata(&path).ok()?;
        if metadata.len() > BYTES_MAX {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// Writes it in the place of the last one.
    pub(super) fn write(&mut self, home: &Path) -> io::Result<()> {
        self.version = VERSION;
        self.written = Some(super::super::now().into());
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        let aside = home.join("state.json.new");
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&aside)?
            .write_all(&bytes)?;
        // Not synced: a power cut costs what this file costs.
        fs::rename(aside, home.join(FILE))
    }

    /// Returns when a job was last done.
    pub(super) fn last_done(&self, job: &str) -> Option<Moment> {
        self.jobs.iter().find(|row| row.job == job)?.last
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_was_written_is_read_by_its_owner_alone() {
        let home = tempfile::tempdir().unwrap();
        assert!(State::read(home.path()).is_none());
        let mut state = State {
            jobs: vec![JobRow {
                job: "audit far".to_owned(),
                last: Some(super::super::super::now().into()),
                next: None,
                failures: 2,
            }],
            ..State::default()
        };
        state.write(home.path()).unwrap();
        let read = State::read(home.path()).unwrap();
        assert_eq!(read.jobs, state.jobs);
        assert_eq!(read.last_done("audit far"), state.jobs[0].last);
        let mode = fs::metadata(home.path().join(FILE)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_no_state_is_none() {
        let home = tempfile::tempdir().unwrap();
        for text in ["", "{", "[]", "{\"version\": \"x\"}"] {
            fs::write(home.path().join(FILE), text).unwrap();
            assert!(State::read(home.path()).is_none(), "{text}");
        }
    }
}
