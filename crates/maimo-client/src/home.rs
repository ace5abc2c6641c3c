//! The home folder: where a client's state lies, who may read it, and that one process alone works on it.
//!
//! ```text
//! key             the store's secret (maimo_vault::key_file), mode 0600: a home is a node once this is there
//! node.sqlite     precious small state
//! catalog.sqlite  a view of the journal, may be deleted
//! journal/        vital packs as sealed for the first channel, by root, may be deleted
//! spool/          sealed packs on their way over a network, by root, may be deleted
//! lock            locked while a process works here
//! ```
//!
//! Invariant: while a [`Home`] is held, no other process has one of the same folder. The lock is the operating system's and ends with the
//! process, however that ends.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use maimo_vault::{
    key_file::{KeyFile, OpenKeyFileError, PassphraseCost, SealKeyFileError},
    keys::MasterSecret,
};

use crate::{error::ClientError, random};

/// A locked home folder.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    /// Unlocks when it is closed.
    _lock: File,
}

const KEY: &str = "key";
/// The longest key file that is read, in bytes.
const KEY_BYTES_MAX: u64 = 4096;

impl Home {
    /// Returns whether there is a node in the folder.
    pub(crate) fn is_node(path: &Path) -> bool {
        path.join(KEY).exists()
    }

    /// Makes the folder, if there is none, and locks it. It is a node once [`Self::write_key`] has returned.
    pub(crate) fn prepare(path: &Path) -> Result<Self, ClientError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(ClientError::io("create", path))?;
        let home = Self::lock(path)?;
        if Self::is_node(path) {
            return Err(ClientError::NodeExists(path.to_owned()));
        }
        Ok(home)
    }

    /// Locks the home of a node.
    pub(crate) fn open(path: &Path) -> Result<Self, ClientError> {
        if !Self::is_node(path) {
            return Err(ClientError::NoNode(path.to_owned()));
        }
        Self::lock(path)
    }

    fn lock(path: &Path) -> Result<Self, ClientError> {
        let file = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&file)
            .map_err(ClientError::io("open", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(ClientError::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(ClientError::io("lock", file)(error)),
        }
    }

    /// Writes the key file, under a passphrase if there is one: durable when this returns.
    pub(crate) fn write_key(
        &self,
        secret: &MasterSecret,
        passphrase: Option<&str>,
    ) -> Result<(), ClientError> {
        let key = match passphrase {
            None => KeyFile::bare(secret),
            Some(passphrase) => KeyFile::seal(
                secret,
                passphrase,
                PassphraseCost::DEFAULT,
                &mut random::system(),
            )
            .map_err(|error| match error {
                SealKeyFileError::EmptyPassphrase => ClientError::Input {
                    message: error.to_string(),
                    hint: Some("give a passphrase, or none at all"),
                },
                _ => self.out_of_memory(),
            })?,
        };
        let path = self.path.join(KEY);
        let aside = self.path.join("key.new");
        let write = || {
            let mut file = OpenOptions::new()
                .create(true)
                .truncate(true)
                .write(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(&key.encode())?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(ClientError::io("write", &path))
    }

    /// Returns whether the key is under a passphrase.
    pub(crate) fn is_sealed(&self) -> Result<bool, ClientError> {
        Ok(self.key_file()?.needs_passphrase())
    }

    /// Returns the store's secret.
    pub(crate) fn secret(&self, passphrase: Option<&str>) -> Result<MasterSecret, ClientError> {
        let file = self.key_file()?;
        // A passphrase that is not needed does no harm: it may come from a variable set for other homes.
        let opened = file.open(passphrase.filter(|_| file.needs_passphrase()));
        opened.map_err(|error| match error {
            OpenKeyFileError::PassphraseNeeded | OpenKeyFileError::WrongPassphrase => {
                ClientError::WrongPassphrase
            }
            OpenKeyFileError::OutOfMemory { .. } => self.out_of_memory(),
            error => ClientError::Key(error.to_string()),
        })
    }

    fn key_file(&self) -> Result<KeyFile, ClientError> {
        let path = self.path.join(KEY);
        let length = fs::metadata(&path)
            .map_err(ClientError::io("read", &path))?
            .len();
        if length > KEY_BYTES_MAX {
            return Err(ClientError::Key("it is too long".to_owned()));
        }
        let bytes =
            zeroize::Zeroizing::new(fs::read(&path).map_err(ClientError::io("read", &path))?);
        KeyFile::parse(&bytes).map_err(|error| ClientError::Key(error.to_string()))
    }

    fn out_of_memory(&self) -> ClientError {
        ClientError::io("read the key in", &self.path)(io::ErrorKind::OutOfMemory.into())
    }

    /// Returns the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns where the node's state is.
    pub(crate) fn node_state(&self) -> PathBuf {
        self.path.join("node.sqlite")
    }

    /// Returns where the catalog is.
    pub(crate) fn catalog(&self) -> PathBuf {
        self.path.join("catalog.sqlite")
    }

    /// Returns where packs on their way over a network are.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Returns where the journal cache is.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn secret() -> MasterSecret {
        MasterSecret::from_entropy(&[7; 32])
    }

    #[test]
    fn nobody_else_may_look_into_a_home() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/home");
        let home = Home::prepare(&path).unwrap();
        home.write_key(&secret(), None).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("key")), 0o600);
    }

    #[test]
    fn a_home_is_held_by_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Home::open(folder.path()),
            Err(ClientError::NoNode(_))
        ));
        let home = Home::prepare(folder.path()).unwrap();
        home.write_key(&secret(), None).unwrap();
        assert!(matches!(
            Home::open(folder.path()),
            Err(ClientError::Locked(_))
        ));
        drop(home);
        let home = Home::open(folder.path()).unwrap();
        assert_eq!(home.secret(None).unwrap().as_entropy(), &[7; 32]);
        drop(home);
        assert!(matches!(
            Home::prepare(folder.path()),
            Err(ClientError::NodeExists(_))
        ));
    }

    #[test]
    fn a_damaged_key_file_is_told_from_a_wrong_passphrase() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::prepare(folder.path()).unwrap();
        home.write_key(&secret(), None).unwrap();
        let path = folder.path().join("key");
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, bytes).unwrap();
        assert!(matches!(home.secret(None), Err(ClientError::Key(_))));
    }
}
