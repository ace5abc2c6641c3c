//! Where chunks that are written again stand in files of this machine: reading them there costs no traffic.
//!
//! Invariant: nothing is taken from a file but what the chunk's own name, a keyed hash, says it is. That a file looks as it did when it was stored
//! only spares the reading of others.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    os::{fd::AsFd as _, unix::fs::FileExt},
};

use maimo_vault::{
    journal::state::{Presence, State},
    name::{ChunkId, ChunkRef, PackNumber, RecordId},
    pack::PackLayout,
    path::StorePath,
};
use rustix::fs::{Mode, OFlags, open};

use crate::{
    browse::to_path, catalog::Reader, engine::Engine, error::ClientError, scan::stat::FileStat,
};

/// A file, and where in it a chunk begins.
#[derive(Debug, Clone)]
struct Place {
    file: usize,
    offset: u64,
}

/// Files of this machine that hold chunks.
pub(super) struct LocalChunks {
    files: Vec<(StorePath, RecordId)>,
    places: HashMap<ChunkRef, Place>,
    /// The file last opened: chunks come in walk order.
    open: Option<(usize, Option<File>)>,
    reader: Reader,
}

impl LocalChunks {
    /// Looks for `chunks` among the present files of this machine that `state` has.
    pub(super) fn new(
        engine: &Engine,
        state: &State,
        chunks: &[ChunkRef],
    ) -> Result<Self, ClientError> {
        let wanted: BTreeSet<ChunkRef> = chunks.iter().copied().collect();
        let own = engine.node.source();
        let reader = engine.catalog.reader()?;
        let (mut files, mut places) = (Vec::new(), HashMap::new());
        let mut lengths = Lengths {
            reader: &reader,
            layouts: HashMap::new(),
        };
        for (source, path) in state.paths().keys() {
            if *source != own {
                continue;
            }
            let Some((id, _, content, Presence::Present)) = state.newest(*source, path) else {
                continue;
            };
            let last = state
                .resolve_all(content.extents())
                .enumerate()
                .filter(|(_, chunk)| wanted.contains(chunk))
                .last();
            let Some((last, _)) = last else {
                continue;
            };
            let file = files.len();
            let mut offset = 0;
            for chunk in state.resolve_all(content.extents()).take(last + 1) {
                if wanted.contains(&chunk) {
                    places.entry(chunk).or_insert(Place { file, offset });
                }
                // Where a chunk of the file has no known length, those after it begin nowhere in particular.
                let Some(length) = lengths.of(chunk)? else {
                    break;
                };
                offset += length;
            }
            files.push((path.clone(), id));
        }
        Ok(Self {
            files,
            places,
            open: None,
            reader,
        })
    }

    /// Returns a chunk's plaintext from a file that still has it.
    pub(super) fn read(
        &mut self,
        chunk: ChunkRef,
        id: &ChunkId,
        length: u32,
        engine: &Engine,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(Place { file, offset }) = self.places.get(&chunk).cloned() else {
            return Ok(None);
        };
        if self.open.as_ref().is_none_or(|(open, _)| *open != file) {
            let (path, revision) = &self.files[file];
            let opened = self.open_unchanged(path, *revision, engine)?;
            self.open = Some((file, opened));
        }
        let Some((_, Some(open))) = &self.open else {
            return Ok(None);
        };
        let mut bytes = vec![0; length as usize];
        let is_read = open.read_exact_at(&mut bytes, offset).is_ok();
        Ok((is_read && engine.keys.content.id(&bytes) == *id).then_some(bytes))
    }

    fn open_unchanged(
        &self,
        path: &StorePath,
        revision: RecordId,
        engine: &Engine,
    ) -> Result<Option<File>, ClientError> {
        let known = self.reader.known(engine.node.source(), path)?;
        let Some(known) = known.filter(|known| known.id == revision) else {
            return Ok(None);
        };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let Ok(file) = open(to_path(path), flags, Mode::empty()).map(File::from) else {
            return Ok(None);
        };
        let found = FileStat::of(file.as_fd(), c"");
        let is_same = found.is_ok_and(|found| {
            known.local == Some(found.local) && known.modified == found.modified
        });
        Ok(is_same.then_some(file))
    }
}

/// How long chunks are, by the layouts of the packs last asked for.
struct Lengths<'r> {
    reader: &'r Reader,
    layouts: HashMap<PackNumber, Option<PackLayout>>,
}

impl Lengths<'_> {
    /// How many layouts are kept: files lie in few packs, and those near one another in the same.
    const KEPT: usize = 8;

    fn of(&mut self, chunk: ChunkRef) -> Result<Option<u64>, ClientError> {
        if !self.layouts.contains_key(&chunk.pack) {
            if self.layouts.len() >= Self::KEPT {
                self.layouts.clear();
            }
            let layout = self.reader.layout(chunk.pack)?;
            self.layouts.insert(chunk.pack, layout);
        }
        let layout = self.layouts.get(&chunk.pack).and_then(Option::as_ref);
        let entry = layout.and_then(|layout| layout.entries().get(chunk.index as usize));
        Ok(entry.map(|entry| u64::from(entry.plaintext_length)))
    }
}
