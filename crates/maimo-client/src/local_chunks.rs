//! [`LocalChunks`]: chunks read again from files of this machine: what is here need not be fetched. [`Framing`] compresses them again.
//!
//! Whoever writes chunks again asks here first: a prune that joins packs, a healing, a mirror that is given what it lacks. Where a chunk may stand is
//! told by the catalog, or by a state in memory where that is another.
//!
//! Invariant: nothing is taken from a file but what the chunk's own name, a keyed hash of its domain, says it is. So a file that changed is no
//! trouble, and is not even looked for: what of it is still in its place counts.

use std::{
    collections::{BTreeSet, HashMap},
    fs::File,
    ops::ControlFlow,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use maimo_vault::{
    commit::TailPiece,
    compress::{Codec, Compressor, Level},
    dictionary::{Dictionary, is_small},
    journal::state::{Entry as PathEntry, State},
    name::{ChunkRef, ChunkType, Domain, PackNumber, SourceId},
    pack::{Entry, PackLayout},
};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::{
    browse::to_path,
    catalog::{Filter, Reader},
    error::ClientError,
    keys::StoreKeys,
};

/// How many places are tried for one chunk: copies of a file are alike, and all changed or none.
const PLACES_MAX: usize = 8;

/// Where chunks may be.
#[derive(Default)]
pub(crate) struct LocalChunks {
    files: Vec<PathBuf>,
    /// In the order of chunks; of one chunk, the likeliest first.
    places: Vec<Place>,
    /// The file read last: chunks come in the order of packs, which is that of walks.
    open: Option<(u32, Option<File>)>,
}

/// A part of a local file.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: ChunkRef,
    file: u32,
    offset: u64,
}

impl LocalChunks {
    /// Looks for chunks that are `wanted`, as they are named now, in the newest kept revisions of one machine's paths, as the catalog has them.
    pub(crate) fn in_catalog(
        reader: &Reader,
        source: SourceId,
        wanted: impl Fn(ChunkRef) -> bool,
    ) -> Result<Self, ClientError> {
        let mut found = Self::default();
        let filter = Filter {
            source: Some(source),
            // A path that the store was told to leave may well be there.
            all: true,
            ..Filter::default()
        };
        let mut lengths = Lengths {
            reader,
            tail: reader.position()?.tail,
            layouts: HashMap::new(),
        };
        reader.each(&filter, |listed| {
            let revision = listed.revision;
            let extents = reader.resolve_all(&revision.content)?;
            let chunks = || extents.iter().flat_map(|extent| extent.chunks());
            found.add(&to_path(&revision.path), chunks, &wanted, |chunk| {
                lengths.of(chunk)
            })?;
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        })?;
        Ok(found.sorted())
    }

    /// As [`Self::in_catalog`], in all revisions that a state has, the newest of each path first; `length` says how long a chunk is.
    pub(crate) fn in_state(
        state: &State,
        source: SourceId,
        wanted: &BTreeSet<ChunkRef>,
        length: impl Fn(ChunkRef) -> Option<u64>,
    ) -> Result<Self, ClientError> {
        let mut found = Self::default();
        for ((of, path), entries) in state.paths() {
            if *of != source {
                continue;
            }
            for entry in entries.values().rev() {
                let PathEntry::Revision { content, .. } = entry else {
                    continue;
                };
                let chunks = || state.resolve_all(content.extents());
                let wanted = |chunk| wanted.contains(&chunk);
                found.add(&to_path(path), chunks, wanted, |chunk| Ok(length(chunk)))?;
            }
        }
        Ok(found.sorted())
    }

    /// Takes note of a file's chunks that are wanted.
    fn add<C: Iterator<Item = ChunkRef>>(
        &mut self,
        path: &Path,
        chunks: impl Fn() -> C,
        wanted: impl Fn(ChunkRef) -> bool,
        mut length: impl FnMut(ChunkRef) -> Result<Option<u64>, ClientError>,
    ) -> Result<(), ClientError> {
        let last = chunks().enumerate().filter(|(_, chunk)| wanted(*chunk));
        let Some((last, _)) = last.last() else {
            return Ok(());
        };
        let file = u32::try_from(self.files.len());
        let file = file.map_err(|_| ClientError::Bug("four billion files".to_owned()))?;
        self.files.push(path.to_path_buf());
        let mut offset = 0;
        for chunk in chunks().take(last + 1) {
            // A run of one and the same, as of a file full of zeros, is one place.
            let is_known = self.places.last();
            let is_known = is_known.is_some_and(|at| at.chunk == chunk && at.file == file);
            if !is_known && wanted(chunk) {
                self.places.push(Place {
                    chunk,
                    file,
                    offset,
                });
            }
            // Where the length of one is not known, nothing is known of those after it.
            let Some(length) = length(chunk)? else {
                break;
            };
            offset += length;
        }
        Ok(())
    }

    fn sorted(mut self) -> Self {
        // Stable: of one chunk, in the order they were found.
        self.places.sort_by_key(|place| place.chunk);
        self
    }

    /// Reads a chunk from a file of this machine that still has it, by what the table of its pack says of it.
    pub(crate) fn read(
        &mut self,
        chunk: ChunkRef,
        entry: &Entry,
        keys: &StoreKeys,
    ) -> Option<Vec<u8>> {
        if entry.chunk_type != ChunkType::Content {
            return None;
        }
        let first = self.places.partition_point(|place| place.chunk < chunk);
        let places = self.places[first..].iter();
        let places = places.take_while(|place| place.chunk == chunk);
        let key = keys.content_key(entry.domain);
        let mut bytes = vec![0; usize::try_from(entry.plaintext_length).ok()?];
        for place in places.take(PLACES_MAX) {
            if self
                .open
                .as_ref()
                .is_none_or(|(file, _)| *file != place.file)
            {
                let path = self.files.get(place.file as usize)?;
                self.open = Some((place.file, open(path)));
            }
            let Some((_, Some(file))) = &self.open else {
                continue;
            };
            if file.read_exact_at(&mut bytes, place.offset).is_ok() && key.id(&bytes) == entry.id {
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

/// How long chunks are, by the layouts of the packs last asked for.
struct Lengths<'r> {
    reader: &'r Reader,
    tail: Vec<TailPiece>,
    layouts: HashMap<PackNumber, Option<PackLayout>>,
}

impl Lengths<'_> {
    /// How many layouts are kept: files lie in few packs, and those near one another in the same.
    const KEPT: usize = 8;

    fn of(&mut self, chunk: ChunkRef) -> Result<Option<u64>, ClientError> {
        let index = chunk.index as usize;
        let of = |entry: &Entry| u64::from(entry.plaintext_length);
        let mut tail = self.tail.iter();
        if let Some(tail) = tail.find(|tail| tail.piece.number() == chunk.pack) {
            return Ok(tail.piece.entries().get(index).map(of));
        }
        if !self.layouts.contains_key(&chunk.pack) {
            if self.layouts.len() >= Self::KEPT {
                self.layouts.clear();
            }
            let layout = self.reader.layout(chunk.pack)?;
            self.layouts.insert(chunk.pack, layout);
        }
        let layout = self.layouts.get(&chunk.pack).and_then(Option::as_ref);
        Ok(layout.and_then(|layout| layout.entries().get(index).map(of)))
    }
}

/// Compresses chunks that were stored before once more: as they would be if they were stored now.
pub(crate) struct Framing<'d> {
    compressor: Compressor<'d>,
    dictionary: Option<&'d Dictionary>,
}

impl<'d> Framing<'d> {
    /// Compresses with the dictionary of the store's own domain where a chunk may have it.
    pub(crate) fn new(dictionary: Option<&'d Dictionary>) -> Self {
        Self {
            compressor: Compressor::new(Level::default()),
            dictionary,
        }
    }

    /// Returns the frame of `plain`, and `entry` as it says so.
    ///
    /// # Security
    ///
    /// The store's dictionary is of the store's own files: where outsiders can write, how well it fits would tell them what is in those. A chunk
    /// of another domain is compressed without.
    pub(crate) fn frame<'a>(&'a mut self, entry: &Entry, plain: &'a [u8]) -> (Entry, &'a [u8]) {
        let is_own = entry.domain == Domain::default();
        let with = self.dictionary.filter(|_| is_own && is_small(plain.len()));
        let frame = self.compressor.compress(plain, with);
        let used = with.filter(|_| frame.codec == Codec::ZstdDictionary);
        let entry = Entry {
            codec: frame.codec,
            dictionary: used.map(Dictionary::id),
            frame_length: u32::try_from(frame.bytes.len()).unwrap_or(u32::MAX),
            ..*entry
        };
        (entry, frame.bytes)
    }
}

#[cfg(test)]
mod tests;
