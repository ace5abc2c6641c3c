//! Planning: what the catalog lists becomes folders and links, made at once, and work on files, in walk order.

use std::sync::Arc;

use crossbeam_channel::Sender;
use maimo_vault::{
    journal::content::{ChunkExtent, Content},
    path::StorePath,
};

use super::{
    Failure, Stored, StoredTree,
    large::Large,
    links::{self, Link},
    target::{Folder, Target, Walk, components},
    work::{Job, Work},
    write::{There, look},
};
use crate::{
    error::ClientError,
    fetch::{ChunkAt, Fetch, Locator, PackIndex},
    progress::{Cancelled, Event},
};

/// How many sealed bytes one batch or part reads.
pub(super) const SEALED_BYTES: u64 = 4 * 1024 * 1024;
/// How many bytes one batch or part writes.
pub(super) const PLAIN_BYTES: u64 = 8 * 1024 * 1024;
/// How many chunks: in the worst case each is a run of groups of its own, of which a request may have 1,024 a pack.
const CHUNKS: usize = 1000;
/// How many folders: each is an open file, in every batch under way.
const FOLDERS: usize = 32;

/// Makes work of what the catalog lists.
pub(super) struct Planner<'a, 'k> {
    tree: &'a dyn StoredTree,
    locator: Locator<'a, 'k>,
    walk: Walk,
    target: Arc<Target>,
    sender: Sender<Work>,
    batch: Vec<Job>,
    sealed: u64,
    plain: u64,
    chunks: usize,
    folders: usize,
    files: u64,
    bytes: u64,
    links: Vec<Link>,
}

impl<'a, 'k> Planner<'a, 'k> {
    pub(super) fn new(
        tree: &'a dyn StoredTree,
        index: &'a dyn PackIndex,
        fetch: &'a Fetch<'k>,
        target: &Arc<Target>,
        sender: Sender<Work>,
    ) -> Result<Self, ClientError> {
        let top = target.top();
        let top = top.map_err(ClientError::io("open", target.display_top()))?;
        Ok(Self {
            tree,
            locator: Locator::new(fetch, index),
            walk: Walk::new(top),
            target: Arc::clone(target),
            sender,
            batch: Vec::new(),
            sealed: 0,
            plain: 0,
            chunks: 0,
            folders: 0,
            files: 0,
            bytes: 0,
            links: Vec::new(),
        })
    }

    /// Takes the next path.
    pub(super) fn add(&mut self, stored: Stored) -> Result<(), ClientError> {
        if self.target.outcome.is_stopped() {
            return Err(Cancelled.into());
        }
        let path = stored.path.clone();
        let added = self.add_path(stored);
        self.settle(&path, added)
    }

    /// Sends what is left, and returns the hard links, which come last.
    pub(super) fn finish(mut self) -> Result<Vec<Link>, ClientError> {
        self.send()?;
        Ok(std::mem::take(&mut self.links))
    }

    fn settle<T: Default>(
        &self,
        path: &StorePath,
        result: Result<T, Failure>,
    ) -> Result<T, ClientError> {
        result.or_else(|why| {
            self.target.outcome.failed(&self.target.display(path), why);
            if self.target.outcome.is_stopped() {
                Err(Cancelled.into())
            } else {
                Ok(T::default())
            }
        })
    }

    fn add_path(&mut self, stored: Stored) -> Result<(), Failure> {
        let Stored {
            path,
            metadata,
            content,
        } = stored;
        let mut names = components(&path);
        if let Content::Folder = content {
            let folder = self.enter(&path, &names)?;
            folder.finish_with(metadata);
            return Ok(());
        }
        let name = names.pop().ok_or(Failure::Record("the root is no file"))?;
        self.files += 1;
        match content {
            Content::Regular {
                size,
                blake3,
                chunks,
            } => {
                self.bytes += size;
                let folder = self.enter(&path, &names)?;
                let chunks = find(&mut self.locator, &chunks, size)?;
                self.add_file(Job {
                    folder,
                    name,
                    size,
                    blake3,
                    metadata,
                    chunks,
                })
            }
            Content::HardLink(to) => {
                self.links.push(Link { path, to, metadata });
                Ok(())
            }
            content => {
                let folder = self.enter(&path, &names)?;
                let missed = links::make_special(&folder, &name, &content, &metadata)?;
                self.target.outcome.done(1, 0);
                match missed {
                    Some(error) => Err(error.into()),
                    None => Ok(()),
                }
            }
        }
    }

    /// Opens the folder of a path, and makes what is not there; what is made gets the metadata it has in the store, asked for or not:
    /// what was private stays so.
    fn enter(&mut self, path: &StorePath, names: &[Vec<u8>]) -> Result<Arc<Folder>, Failure> {
        let extra = components(path).len() - path.components().len();
        let mut catalog = Ok(());
        let folder = self.walk.enter(names, |depth| {
            let own = path.components().get(..depth.checked_sub(extra)?)?;
            let folder = StorePath::new(path.prefix().clone(), own.to_vec()).ok()?;
            match self.tree.at(&folder) {
                Ok(stored) => stored
                    .filter(|stored| matches!(stored.content, Content::Folder))
                    .map(|stored| stored.metadata),
                Err(error) => {
                    catalog = Err(error);
                    None
                }
            }
        })?;
        catalog.map_err(|error| Failure::Fetch(error.into()))?;
        Ok(folder)
    }

    fn add_file(&mut self, job: Job) -> Result<(), Failure> {
        let sealed = job.chunks.iter().map(ChunkAt::frame_length).sum::<u64>();
        if sealed > SEALED_BYTES || job.size > PLAIN_BYTES || job.chunks.len() > CHUNKS {
            return self.add_large(job);
        }
        let is_new_folder = self
            .batch
            .last()
            .is_none_or(|last| !Arc::ptr_eq(&last.folder, &job.folder));
        if self.sealed + sealed > SEALED_BYTES
            || self.plain + job.size > PLAIN_BYTES
            || self.chunks + job.chunks.len().max(1) > CHUNKS
            || self.folders + usize::from(is_new_folder) > FOLDERS
        {
            self.send().map_err(|error| Failure::Fetch(error.into()))?;
        }
        self.sealed += sealed;
        self.plain += job.size;
        self.chunks += job.chunks.len().max(1);
        self.folders += usize::from(is_new_folder);
        self.batch.push(job);
        Ok(())
    }

    fn add_large(&mut self, mut job: Job) -> Result<(), Failure> {
        if let There::Same = look(&job.folder, &job.name, job.size, &job.blake3)? {
            self.target.outcome.done(1, 0);
            return Ok(());
        }
        self.send().map_err(|error| Failure::Fetch(error.into()))?;
        let chunks = std::mem::take(&mut job.chunks);
        let large = Arc::new(Large::begin(job)?);
        let mut offset = 0;
        let mut chunks = chunks.into_iter().peekable();
        while chunks.peek().is_some() {
            let (begin, mut sealed) = (offset, 0);
            let mut part = Vec::new();
            while let Some(chunk) = chunks.next_if(|chunk| {
                let plain = offset - begin + chunk.plaintext_length();
                part.is_empty()
                    || (sealed + chunk.frame_length() <= SEALED_BYTES
                        && plain <= PLAIN_BYTES
                        && part.len() < CHUNKS)
            }) {
                sealed += chunk.frame_length();
                offset += chunk.plaintext_length();
                part.push(chunk);
            }
            self.pass_on(Work::Part {
                large: Arc::clone(&large),
                offset: begin,
                chunks: part,
            })
            .map_err(|error| Failure::Fetch(error.into()))?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), ClientError> {
        (self.sealed, self.plain, self.chunks, self.folders) = (0, 0, 0, 0);
        let (files, bytes) = (self.files, self.bytes);
        self.target
            .outcome
            .control
            .tell(Event::Total { files, bytes });
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        self.pass_on(Work::Batch(batch))
    }

    fn pass_on(&self, work: Work) -> Result<(), ClientError> {
        // Nobody takes it any more: the workers were stopped, and know why.
        self.sender.send(work).map_err(|_| Cancelled.into())
    }
}

/// Finds all chunks of a file, which together must be as long as it.
pub(super) fn find(
    locator: &mut Locator<'_, '_>,
    extents: &[ChunkExtent],
    size: u64,
) -> Result<Vec<ChunkAt>, Failure> {
    let chunks = extents
        .iter()
        .flat_map(|extent| extent.chunks())
        .map(|chunk| locator.find(chunk))
        .collect::<Result<Vec<_>, _>>()?;
    let length: u64 = chunks.iter().map(ChunkAt::plaintext_length).sum();
    if length != size {
        return Err(Failure::Record(
            "its chunks are together not as long as the file",
        ));
    }
    Ok(chunks)
}
