//! The volumes of a provider: the list in its home, and which of them are mounted.
//!
//! The list is the one thing of a provider, besides its keys, that no volume tells: where the volumes are. It is text, replaced as a whole.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use maimo_core::{custody::Grace, identity::AuthPublicKey};

use crate::{
    error::ProviderError,
    volume::{Volume, VolumeId},
};

const NAME: &str = "volumes";
const FIRST_LINE: &str = "maimo volumes 1";

/// A volume of the list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) id: VolumeId,
    /// How many bytes of packs it may hold.
    pub(crate) capacity: u64,
    pub(crate) is_draining: bool,
    /// Absolute, or below the provider's home.
    path: PathBuf,
    volume: Option<Arc<Volume>>,
}

/// The volumes of one provider.
#[derive(Debug)]
pub(crate) struct Volumes {
    home: PathBuf,
    owner: AuthPublicKey,
    list: RwLock<List>,
}

/// What the file says.
#[derive(Debug, Clone, Default)]
pub(crate) struct List {
    /// The grace of clients that register themselves; nothing where none may: then it is no folder channel.
    pub(crate) folder: Option<Grace>,
    pub(crate) volumes: Vec<Listed>,
}

impl Volumes {
    /// Begins an empty list in `home`.
    pub(crate) fn create(
        home: &Path,
        owner: AuthPublicKey,
        folder: Option<Grace>,
    ) -> Result<Self, ProviderError> {
        let list = List {
            folder,
            volumes: Vec::new(),
        };
        write(home, &list)?;
        Ok(Self::of(home, owner, list))
    }

    /// Reads the list, and mounts what is there.
    pub(crate) fn open(home: &Path, owner: AuthPublicKey) -> Result<Self, ProviderError> {
        let path = home.join(NAME);
        let bytes = fs::read(&path).map_err(ProviderError::io("reading the list of volumes"))?;
        let list = parse(&bytes).ok_or(ProviderError::Settings { path })?;
        let volumes = Self::of(home, owner, list);
        for volume in volumes.open_more() {
            volumes.mount(volume);
        }
        Ok(volumes)
    }

    /// Returns whether a list is in `home`.
    pub(crate) fn exists(home: &Path) -> bool {
        home.join(NAME).exists()
    }

    fn of(home: &Path, owner: AuthPublicKey, list: List) -> Self {
        Self {
            home: home.to_owned(),
            owner,
            list: RwLock::new(list),
        }
    }

    /// Opens what is not open and can be. Who calls it makes sure that the ledger has what these volumes' logs say, then [mounts](Self::mount) them.
    pub(crate) fn open_more(&self) -> Vec<Arc<Volume>> {
        let list = self.list();
        list.into_iter()
            .filter(|(.., volume)| volume.is_none())
            .filter_map(|(listed, path, _)| {
                let opened = Volume::open(&path, Some(listed.id), &self.owner);
                opened.ok().map(Arc::new)
            })
            .collect()
    }

    /// Lets a volume of the list be used.
    pub(crate) fn mount(&self, volume: Arc<Volume>) {
        let mut list = self.write();
        let mut all = list.volumes.iter_mut();
        if let Some(listed) = all.find(|listed| listed.id == volume.id()) {
            listed.volume = Some(volume);
        }
    }

    /// Returns a volume if it is mounted.
    pub(crate) fn mounted(&self, id: VolumeId) -> Option<Arc<Volume>> {
        let list = self.read();
        let listed = list.volumes.iter().find(|listed| listed.id == id)?;
        listed.volume.clone()
    }

    /// Returns all mounted volumes.
    pub(crate) fn all_mounted(&self) -> Vec<Arc<Volume>> {
        let list = self.read();
        list.volumes
            .iter()
            .filter_map(|listed| listed.volume.clone())
            .collect()
    }

    /// Returns the list, each volume with its folder and whether it is mounted.
    pub(crate) fn list(&self) -> Vec<(Listed, PathBuf, Option<Arc<Volume>>)> {
        let list = self.read();
        let listed = list.volumes.iter();
        listed
            .map(|listed| {
                let path = self.home.join(&listed.path);
                (listed.clone(), path, listed.volume.clone())
            })
            .collect()
    }

    /// Returns the grace of clients that register themselves, where they may.
    pub(crate) fn folder_grace(&self) -> Option<Grace> {
        self.read().folder
    }

    /// Adds a volume, or takes back one that is the provider's already. It cannot be used before it is [mounted](Self::mount).
    pub(crate) fn add(
        &self,
        path: &Path,
        id: VolumeId,
        capacity: u64,
    ) -> Result<(), ProviderError> {
        self.change(|list| {
            list.volumes.retain(|listed| listed.id != id);
            list.volumes.push(Listed {
                id,
                capacity,
                is_draining: false,
                path: path.to_owned(),
                volume: None,
            });
        })
    }

    /// Changes the list, in the file first.
    pub(crate) fn change(&self, change: impl FnOnce(&mut List)) -> Result<(), ProviderError> {
        let mut list = self.write();
        let mut changed = list.clone();
        change(&mut changed);
        write(&self.home, &changed)?;
        *list = changed;
        Ok(())
    }

    fn read(&self) -> RwLockReadGuard<'_, List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, List> {
        self.list.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(home: &Path, list: &List) -> Result<(), ProviderError> {
    let mut text = Vec::from(FIRST_LINE);
    text.push(b'\n');
    if let Some(grace) = list.folder {
        let grace = match grace {
            Grace::Endless => "endless".to_owned(),
            Grace::For(duration) => duration.as_millis().to_string(),
        };
        text.extend_from_slice(format!("folder {grace}\n").as_bytes());
    }
    for listed in &list.volumes {
        let state = if listed.is_draining {
            "draining"
        } else {
            "ready"
        };
        let line = format!("volume {} {} {state} ", listed.id, listed.capacity);
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(listed.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    let replace = || -> io::Result<()> {
        let aside = home.join("volumes.aside");
        let mut file = File::create(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, home.join(NAME))?;
        File::open(home)?.sync_all()
    };
    replace().map_err(ProviderError::io("writing the list of volumes"))
}

fn parse(bytes: &[u8]) -> Option<List> {
    let mut lines = bytes.strip_suffix(b"\n")?.split(|byte| *byte == b'\n');
    if lines.next()? != FIRST_LINE.as_bytes() {
        return None;
    }
    let mut list = List::default();
    for line in lines {
        if let Some(grace) = line.strip_prefix(b"folder ") {
            list.folder = Some(match core::str::from_utf8(grace).ok()? {
                "endless" => Grace::Endless,
                millis => Grace::For(Duration::from_millis(millis.parse().ok()?)),
            });
            continue;
        }
        let mut fields = line
            .strip_prefix(b"volume ")?
            .splitn(4, |byte| *byte == b' ');
        let mut text = || core::str::from_utf8(fields.next()?).ok();
        let id = parse_id(text()?)?;
        let capacity = text()?.parse().ok()?;
        let is_draining = match text()? {
            "ready" => false,
            "draining" => true,
            _ => return None,
        };
        let path = PathBuf::from(OsStr::from_bytes(fields.next()?));
        list.volumes.push(Listed {
            id,
            capacity,
            is_draining,
            path,
            volume: None,
        });
    }
    Some(list)
}

pub(crate) fn parse_id(text: &str) -> Option<VolumeId> {
    let mut id = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(VolumeId(id))
}

#[cfg(test)]
mod tests {
    use maimo_core::identity::AuthSecretKey;

    use super::*;

    #[test]
    fn the_list_comes_back_with_paths_of_any_bytes() {
        let home = tempfile::tempdir().unwrap();
        let owner = AuthSecretKey::from_seed(&[1; 32]).public();
        let volumes = Volumes::create(home.path(), owner, Some(Grace::DEFAULT)).unwrap();
        let path = home.path().join(OsStr::from_bytes(b"a disk \xff"));
        let volume = Volume::create(&path, VolumeId([0xab; 16]), &owner).unwrap();
        volumes.add(&path, volume.id(), 77).unwrap();
        drop((volumes, volume));
        let again = Volumes::open(home.path(), owner).unwrap();
        assert_eq!(again.folder_grace(), Some(Grace::DEFAULT));
        let (listed, found, volume) = again.list().remove(0);
        assert_eq!((listed.capacity, found), (77, path));
        assert_eq!(volume.unwrap().id(), VolumeId([0xab; 16]));
    }

    #[test]
    fn a_list_that_is_cut_or_garbled_is_refused() {
        let good = b"maimo volumes 1\nvolume 000102030405060708090a0b0c0d0e0f 5 ready /x\n";
        assert!(parse(good).is_some());
        assert!(parse(&good[..good.len() - 1]).is_none());
        assert!(parse(&good[..40]).is_none());
        assert!(parse(b"maimo volumes 1\nvolume 00 5 ready /x\n").is_none());
        assert!(parse(b"maimo volumes 2\n").is_none());
    }
}
