//! Chunks read again from the files of this machine: what is here need not be fetched.
//!
//! A file that changed is no trouble: a chunk counts only if it has the name that the pack's table gives it, and compresses to a frame of the same
//! length. So another release of zstd makes this useless, and never wrong.

use std::{
    collections::{HashMap, HashSet},
    fs::{self, File},
    ops::ControlFlow,
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    sync::Arc,
};

use maimo_vault::{
    compress::{Compressor, Level},
    dictionary::Dictionary,
    journal::{content::Content, metadata::FileTime, state::Presence},
    name::{ChunkId, ChunkRef, ChunkType, PackNumber, SourceId},
    pack::{Entry, PackLayout},
};

use crate::{
    browse::to_path,
    catalog::{Filter, Reader},
    error::ClientError,
    keys::StoreKeys,
};

/// Where chunks of some packs stand in files of this machine.
#[derive(Default)]
pub(super) struct Local {
    files: Vec<Stored>,
    /// By chunk: the file, and where in it, in bytes.
    places: HashMap<ChunkRef, (usize, u64)>,
}

/// A file as it was stored.
struct Stored {
    path: PathBuf,
    size: u64,
    modified: FileTime,
}

impl Local {
    /// Looks for all files of this machine that have chunks in these packs.
    pub(super) fn look(
        reader: &Reader,
        source: SourceId,
        packs: &HashSet<PackNumber>,
    ) -> Result<Self, ClientError> {
        let mut local = Self::default();
        let filter = Filter {
            source: Some(source),
            ..Filter::default()
        };
        let mut lengths = Lengths { reader, last: None };
        reader.each(&filter, |listed| {
            let revision = listed.revision;
            let Content::Regular { size, .. } = revision.content else {
                return Ok(ControlFlow::Continue(()));
            };
            if listed.presence != Presence::Present {
                return Ok(ControlFlow::Continue(()));
            }
            let extents = reader.resolve_all(&revision.content)?;
            if !extents
                .iter()
                .any(|extent| packs.contains(&extent.first.pack))
            {
                return Ok(ControlFlow::Continue(()));
            }
            let file = local.files.len();
            let mut offset = 0;
            for chunk in extents.iter().flat_map(|extent| extent.chunks()) {
                if packs.contains(&chunk.pack) {
                    local.places.entry(chunk).or_insert((file, offset));
                }
                // Behind the last that can be placed nothing can be.
                let Some(length) = lengths.of(chunk)? else {
                    break;
                };
                offset += length;
            }
            local.files.push(Stored {
                path: to_path(&revision.path),
                size,
                modified: revision.metadata.modified,
            });
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        })?;
        Ok(local)
    }

    /// Returns the frames of a pack that can be made from files, by index.
    pub(super) fn frames(
        &mut self,
        layout: &PackLayout,
        dictionaries: &[(ChunkId, Arc<Dictionary>)],
        keys: &StoreKeys,
    ) -> Vec<Option<Vec<u8>>> {
        let mut compressors: Vec<(Option<ChunkId>, Compressor<'_>)> = Vec::new();
        let mut open: Option<(usize, Option<File>)> = None;
        let mut frames = Vec::with_capacity(layout.entries().len());
        for (index, entry) in (0..).zip(layout.entries()) {
            let chunk = ChunkRef {
                pack: layout.number(),
                index,
            };
            let place = self.places.remove(&chunk);
            let plain = place.and_then(|(file, offset)| {
                if open.as_ref().is_none_or(|(known, _)| *known != file) {
                    open = Some((file, self.files[file].open()));
                }
                let (_, found) = open.as_ref()?;
                read(found.as_ref()?, offset, entry, keys)
            });
            let frame = plain.and_then(|plain| {
                let dictionary = match entry.dictionary {
                    Some(id) => {
                        let mut known = dictionaries.iter();
                        Some(&*known.find(|(known, _)| *known == id)?.1)
                    }
                    None => None,
                };
                let known = compressors
                    .iter()
                    .position(|(id, _)| *id == entry.dictionary);
                let at = known.unwrap_or_else(|| {
                    let compressor = Compressor::new(Level::default());
                    compressors.push((entry.dictionary, compressor));
                    compressors.len() - 1
                });
                let frame = compressors[at].1.compress(&plain, dictionary);
                let is_same = frame.codec == entry.codec
                    && frame.bytes.len() as u64 == u64::from(entry.frame_length);
                is_same.then(|| frame.bytes.to_vec())
            });
            frames.push(frame);
        }
        frames
    }
}

impl Stored {
    /// Opens the file, if it looks as it did when it was stored.
    fn open(&self) -> Option<File> {
        // Asked before it is opened: a pipe that took its place would keep us waiting.
        let found = fs::symlink_metadata(&self.path).ok()?;
        let modified = FileTime {
            seconds: found.mtime(),
            nanos: u32::try_from(found.mtime_nsec()).ok()?,
        };
        let is_same = found.is_file() && found.len() == self.size && modified == self.modified;
        is_same.then(|| File::open(&self.path).ok())?
    }
}

/// Reads a chunk, if it is the one that the table names.
fn read(file: &File, offset: u64, entry: &Entry, keys: &StoreKeys) -> Option<Vec<u8>> {
    if entry.chunk_type != ChunkType::Content {
        return None;
    }
    let id_key = keys.id_key(entry.chunk_type, entry.domain)?;
    let mut plain = vec![0; entry.plaintext_length as usize];
    file.read_exact_at(&mut plain, offset).ok()?;
    (id_key.id(&plain) == entry.id).then_some(plain)
}

/// How long chunks are. Keeps the last pack's layout: a file's chunks follow one another.
struct Lengths<'r> {
    reader: &'r Reader,
    last: Option<PackLayout>,
}

impl Lengths<'_> {
    fn of(&mut self, chunk: ChunkRef) -> Result<Option<u64>, ClientError> {
        let is_last = |layout: &PackLayout| layout.number() == chunk.pack;
        if !self.last.as_ref().is_some_and(is_last) {
            self.last = self.reader.layout(chunk.pack)?;
        }
        let entries = self.last.as_ref().map(PackLayout::entries);
        let entry = entries.and_then(|entries| entries.get(chunk.index as usize));
        Ok(entry.map(|entry| u64::from(entry.plaintext_length)))
    }
}
