//! The journal cache: vital packs as they were sealed for the first channel, by root.
//!
//! A view of what the provider holds: every file is held against its name when it is read, and one that is missing or torn is fetched again.
//! Because it is what the provider must hold byte for byte, it is also what the vital packs' possession is proven with.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use maimo_core::{
    id::RootHash,
    reference::ObjectRef,
    verify::{Verified, verify_whole},
};
use maimo_vault::{
    compress::Decompressor,
    journal::batch::Batch,
    pack::{ChunkContext, OpenPackError, PackKeys, PackKind, PackLayout, open_pack},
};

use crate::{
    error::ClientError,
    keys::{Opening, StoreKeys},
};

/// The folder of vital packs.
#[derive(Debug)]
pub(crate) struct JournalCache {
    folder: PathBuf,
}

impl JournalCache {
    /// Opens the folder, and makes it where it is missing.
    pub(crate) fn open(folder: &Path) -> Result<Self, ClientError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(ClientError::io("create", folder))?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    fn path(&self, root: RootHash) -> PathBuf {
        self.folder.join(root.to_string())
    }

    /// Returns whether a pack seems to be there; [`Self::get`] may still find it torn.
    pub(crate) fn has(&self, pack: &ObjectRef) -> bool {
        let found = fs::metadata(self.path(pack.root));
        found.is_ok_and(|found| found.len() == pack.length)
    }

    /// Returns a pack's bytes, if they are there and whole.
    pub(crate) fn get(&self, pack: &ObjectRef) -> Option<Vec<u8>> {
        if !self.has(pack) {
            return None;
        }
        let bytes = fs::read(self.path(pack.root)).ok()?;
        verify_whole(bytes, pack).ok().map(Verified::into_inner)
    }

    /// Returns a pack's file, if it seems to be there: what is read of it has to prove itself by its seal.
    pub(crate) fn file(&self, pack: &ObjectRef) -> Option<File> {
        if !self.has(pack) {
            return None;
        }
        File::open(self.path(pack.root)).ok()
    }

    /// Keeps a pack. Not synced: what a power cut tears is fetched again.
    pub(crate) fn put(&self, pack: &ObjectRef, bytes: &[u8]) -> Result<(), ClientError> {
        let path = self.path(pack.root);
        let aside = path.with_extension("new");
        let write = || {
            File::create(&aside)?.write_all(bytes)?;
            fs::rename(&aside, &path)
        };
        write().map_err(ClientError::io("write", &path))
    }

    /// Returns all packs that seem to be there.
    pub(crate) fn packs(&self) -> Result<Vec<ObjectRef>, ClientError> {
        let list = || {
            let mut packs = Vec::new();
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let name = entry.file_name();
                if let Some(root) = name.to_str().and_then(|name| name.parse().ok()) {
                    let length = entry.metadata()?.len();
                    packs.push(ObjectRef { root, length });
                }
            }
            io::Result::Ok(packs)
        };
        list().map_err(ClientError::io("look through", &self.folder))
    }

    /// Removes what is not among `kept`.
    pub(crate) fn sweep(&self, kept: &HashSet<RootHash>) -> Result<(), ClientError> {
        let sweep = || {
            for entry in fs::read_dir(&self.folder)? {
                let entry = entry?;
                let name = entry.file_name();
                let root = name.to_str().and_then(|name| name.parse::<RootHash>().ok());
                if root.is_none_or(|root| !kept.contains(&root)) {
                    fs::remove_file(entry.path())?;
                }
            }
            io::Result::Ok(())
        };
        sweep().map_err(ClientError::io("tidy", &self.folder))
    }
}

/// Opens the batches of a segment's pack.
pub(crate) fn open_segment(
    bytes: &[u8],
    keys: PackKeys<'_>,
    context: &impl ChunkContext,
) -> Result<Vec<Batch>, OpenPackError> {
    let (reader, table) = open_pack(bytes, PackKind::Vital, keys)?;
    let mut decompressor = Decompressor::new();
    let mut batches = Vec::new();
    for (index, entry) in (0..).zip(table.layout.entries()) {
        let sealed = sealed_chunk(bytes, &table.layout, index)?;
        let plaintext = reader.open_chunk(entry, sealed, context, &mut decompressor)?;
        batches.push(Batch::parse(&plaintext)?);
    }
    Ok(batches)
}

/// Opens the dictionary at `index` of a vital pack.
pub(crate) fn open_dictionary(
    bytes: &[u8],
    keys: PackKeys<'_>,
    store: &StoreKeys,
    index: u32,
) -> Result<Vec<u8>, OpenPackError> {
    let (reader, table) = open_pack(bytes, PackKind::Vital, keys)?;
    let context = Opening {
        keys: store,
        dictionaries: &HashMap::new(),
    };
    let entry = table.layout.entries().get(index as usize);
    let entry = entry.ok_or(OpenPackError::CannotOpen)?;
    let sealed = sealed_chunk(bytes, &table.layout, index)?;
    reader.open_chunk(entry, sealed, &context, &mut Decompressor::new())
}

fn sealed_chunk(bytes: &[u8], layout: &PackLayout, index: u32) -> Result<Vec<u8>, OpenPackError> {
    let range = layout.chunk_range(index);
    let range = range.ok_or(OpenPackError::CannotOpen)?;
    let bounds = usize::try_from(range.start)
        .ok()
        .zip(usize::try_from(range.end).ok());
    let sealed = bounds.and_then(|(start, end)| bytes.get(start..end));
    sealed.map(<[u8]>::to_vec).ok_or(OpenPackError::CannotOpen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = JournalCache::open(&folder.path().join("journal")).unwrap();
        let bytes = vec![7; 5000];
        let pack = ObjectRef::of(&bytes);
        assert_eq!(cache.get(&pack), None);
        cache.put(&pack, &bytes).unwrap();
        assert!(cache.has(&pack));
        assert_eq!(cache.get(&pack), Some(bytes.clone()));
        let mut torn = bytes.clone();
        torn[3] = 0;
        fs::write(cache.path(pack.root), torn).unwrap();
        assert_eq!(cache.get(&pack), None);
        fs::write(cache.path(pack.root), &bytes[..4096]).unwrap();
        assert!(!cache.has(&pack));
    }

    #[test]
    fn sweeping_leaves_what_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let cache = JournalCache::open(folder.path()).unwrap();
        let [one, two] = [vec![1; 10], vec![2; 10]];
        for bytes in [&one, &two] {
            cache.put(&ObjectRef::of(bytes), bytes).unwrap();
        }
        fs::write(folder.path().join("left.new"), "half").unwrap();
        cache
            .sweep(&HashSet::from([ObjectRef::of(&one).root]))
            .unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(cache.get(&ObjectRef::of(&one)), Some(one));
    }
}
