//! [`LocalCopies`]: where on this machine the plaintext of chunks may still be: in the files that the store knows, at the places that it knows.
//!
//! A file may have changed since: what is read is a chunk only if its id says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use maimo_vault::{
    journal::state::{Entry, State},
    keys::ChunkIdKey,
    name::{ChunkId, ChunkRef, SourceId},
};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::browse::to_path;

/// How many places are tried for one chunk: copies of a file are alike, and all changed or none.
const PLACES_MAX: usize = 8;

/// A part of a local file.
struct Place {
    path: PathBuf,
    offset: u64,
}

/// Where chunks may be.
#[derive(Default)]
pub(crate) struct LocalCopies {
    places: BTreeMap<ChunkRef, Vec<Place>>,
    /// The file read last: chunks come in the order of packs, which is that of walks.
    open: Option<(PathBuf, File)>,
}

impl LocalCopies {
    /// Looks through the revisions of one machine's paths for chunks that are `wanted`, as they are named now; `length` says how long one is.
    pub(crate) fn new(
        state: &State,
        source: SourceId,
        wanted: &BTreeSet<ChunkRef>,
        length: impl Fn(ChunkRef) -> Option<u64>,
    ) -> Self {
        let mut places: BTreeMap<ChunkRef, Vec<Place>> = BTreeMap::new();
        for ((of, path), entries) in state.paths() {
            if *of != source {
                continue;
            }
            // The newest revision is most likely what is there.
            for entry in entries.values().rev() {
                let Entry::Revision { content, .. } = entry else {
                    continue;
                };
                let mut offset = Some(0);
                for chunk in state.resolve_all(content.extents()) {
                    let Some(at) = offset else {
                        break;
                    };
                    if wanted.contains(&chunk) {
                        let known = places.entry(chunk).or_default();
                        if known.len() < PLACES_MAX {
                            let path = to_path(path);
                            known.push(Place { path, offset: at });
                        }
                    }
                    // Where the length of one is not known, nothing is known of those after it.
                    offset = length(chunk).map(|length| at + length);
                }
            }
        }
        Self { places, open: None }
    }

    /// Reads a chunk from a file of this machine that still has it.
    pub(crate) fn read(
        &mut self,
        chunk: ChunkRef,
        id: &ChunkId,
        length: u32,
        key: &ChunkIdKey,
    ) -> Option<Vec<u8>> {
        let places = self.places.get(&chunk)?;
        let mut bytes = vec![0; usize::try_from(length).ok()?];
        for place in places {
            if self
                .open
                .as_ref()
                .is_none_or(|(path, _)| *path != place.path)
            {
                self.open = open(&place.path).map(|file| (place.path.clone(), file));
            }
            let Some((_, file)) = &self.open else {
                continue;
            };
            if file.read_exact_at(&mut bytes, place.offset).is_ok() && key.id(&bytes) == *id {
                return Some(bytes);
            }
        }
        None
    }
}

/// Opens a file without following a link, and without waiting for a pipe that took its place.
fn open(path: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(openat(CWD, path, flags, Mode::empty()).ok()?);
    file.metadata().ok()?.is_file().then_some(file)
}
