//! [`Scratch`]: a folder of the demo's own, removed in the end.

use std::{
    env,
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::{error::CommandError, ui::hex};

/// A new folder under the system's folder for temporary files, for this user alone.
pub(super) struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes it.
    pub(super) fn make() -> Result<Self, CommandError> {
        let temporary = env::temp_dir();
        // By its real name: what is stored must come back below the same one.
        let temporary = fs::canonicalize(&temporary)
            .map_err(|error| CommandError::io("find", &temporary, &error))?;
        let mut name = [0; 6];
        getrandom::fill(&mut name).map_err(|error| {
            CommandError::io(
                "name a folder in",
                &temporary,
                &std::io::Error::other(error),
            )
        })?;
        let path = temporary.join(format!("maimo-demo-{}", hex(&name)));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|error| CommandError::io("make", &path, &error))?;
        Ok(Self { path, keep: false })
    }

    /// Leaves it in the end.
    pub(super) const fn keep(&mut self) {
        self.keep = true;
    }

    /// Returns whether it stays.
    pub(super) const fn is_kept(&self) -> bool {
        self.keep
    }

    /// Returns where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // Best effort: a folder for temporary files is cleared by the system in the end.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}
