//! What a worker does: it reads and hashes short files, finds out which of their chunks are new, and compresses those.

use std::{fs, mem, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use crossbeam_channel::{Receiver, Sender};
use maimo_vault::{
    chunker::Chunks,
    compress::{Codec, Compressor, Level},
    dictionary::{Dictionary, is_small},
    journal::{
        content::Content,
        metadata::{FileTime, Metadata},
        state::Presence,
    },
    name::Domain,
    path::StorePath,
};

use super::{
    KnownChunks,
    budget::Budget,
    domains::{Domains, has_dictionary},
    job::{
        ChunkJob, ChunkMade, Frame, Framed, Item, Job, Made, New, NewContent, Same, Task, TaskMade,
    },
    read::{Named, Opener, metadata, settled, xattrs},
    seen::{Claim, Seen},
    train::{Offer, Trainer},
};
use crate::{
    keys::StoreKeys,
    local_stat::LocalStat,
    progress::Control,
    scan::{
        compare::{Candidate, Known, store_path},
        stat::Kind,
    },
};

/// What all workers share.
pub(super) struct Shop<'a> {
    pub(super) keys: &'a StoreKeys,
    pub(super) domains: Domains,
    pub(super) level: Level,
    pub(super) known: Arc<dyn KnownChunks>,
    pub(super) seen: Seen,
    pub(super) trainer: Trainer,
    pub(super) budget: Budget,
    pub(super) control: &'a Control,
    pub(super) jobs: (Sender<Job>, Receiver<Job>),
}

/// A task that is read and hashed.
pub(super) struct ReadTask {
    pub(super) at: u64,
    pub(super) reply: Sender<TaskMade>,
    made: Vec<Made>,
    /// The plaintexts of all chunks that are to be compressed, one after another, with their places in `made`.
    plain: Vec<u8>,
    chunks: Vec<PlainChunk>,
}

struct PlainChunk {
    start: usize,
    length: usize,
    domain: Domain,
    /// Which of the task's paths, and which of its chunks.
    of: (usize, usize),
}

impl PlainChunk {
    /// Returns whether a dictionary may serve it.
    fn has_dictionary(&self) -> bool {
        is_small(self.length) && has_dictionary(self.domain)
    }
}

impl ReadTask {
    /// Returns the chunks that a dictionary may serve.
    pub(super) fn small(&self) -> impl Iterator<Item = &[u8]> {
        let chunks = self.chunks.iter().filter(|chunk| chunk.has_dictionary());
        chunks.map(|chunk| &self.plain[chunk.start..][..chunk.length])
    }

    /// Returns how many bytes wait to be compressed.
    pub(super) const fn bytes(&self) -> usize {
        self.plain.len()
    }
}

impl Shop<'_> {
    /// Works until told to stop: what each worker's thread runs.
    pub(super) fn work(&self) {
        let mut opener = Opener::default();
        let mut next = None;
        loop {
            // A compressor is bound to the dictionaries it may be shown, so another one comes with a dictionary.
            let generation = self.trainer.generation();
            let dictionary = self.trainer.dictionary();
            let mut compressor = Compressor::new(self.level);
            loop {
                let Some(job) = next.take().or_else(|| self.jobs.1.recv().ok()) else {
                    return;
                };
                if self.trainer.generation() != generation {
                    next = Some(job);
                    break;
                }
                match job {
                    Job::Stop => return,
                    _ if self.budget.is_ended() => {}
                    Job::Read(task) => {
                        let read = self.read(task, &mut opener);
                        match self.trainer.offer(read) {
                            Offer::Compress(read) => next = Some(Job::Compress(*read)),
                            Offer::Settle => self.settle(),
                            Offer::Parked => {}
                        }
                    }
                    Job::Settle => self.settle(),
                    Job::Compress(task) => {
                        let due = self.trainer.take_due();
                        compress(task, &mut compressor, dictionary.as_deref());
                        if let Some(due) = due {
                            self.trainer.judge(due);
                        }
                    }
                    Job::Chunk(job) => self.chunk(job, &mut compressor, dictionary.as_deref()),
                }
            }
        }
    }

    /// Trains a dictionary from what is parked, if that is enough, and lets it go on.
    fn settle(&self) {
        for task in self.trainer.settle() {
            // The filler or the planner may be gone: then nobody waits for the task.
            let _ = self.jobs.0.send(Job::Compress(task));
        }
    }

    fn read(&self, task: Task, opener: &mut Opener) -> ReadTask {
        let mut plain = Vec::new();
        let mut chunks = Vec::new();
        let mut made = Vec::with_capacity(task.items.len());
        for item in task.items {
            made.push(match item {
                Item::Ready(ready) => ready,
                Item::Candidate(candidate) => {
                    let of = made.len();
                    self.candidate(*candidate, opener, of, &mut plain, &mut chunks)
                }
            });
        }
        // One look for all of them, and what is known or made elsewhere need not be compressed.
        let mut look = self.seen.look();
        chunks.retain(|chunk: &PlainChunk| {
            let Some(framed) = framed_mut(&mut made, chunk.of) else {
                return false;
            };
            if let Frame::Known(_) = framed.frame {
                return false;
            }
            match look.claim(framed.id, task.at) {
                Claim::Make => true,
                Claim::Made => {
                    framed.frame = Frame::Earlier;
                    false
                }
                Claim::Placed(place) => {
                    framed.frame = Frame::Known(place);
                    false
                }
            }
        });
        drop(look);
        ReadTask {
            at: task.at,
            reply: task.reply,
            made,
            plain,
            chunks,
        }
    }

    fn candidate(
        &self,
        mut candidate: Candidate,
        opener: &mut Opener,
        of: usize,
        plain: &mut Vec<u8>,
        chunks: &mut Vec<PlainChunk>,
    ) -> Made {
        let Some(path) = candidate.store_path() else {
            return candidate.failed("the path is too long to be stored".to_owned());
        };
        if candidate.stat.kind != Kind::Regular || candidate.link_to.is_some() {
            return other(candidate, path);
        }
        let start = plain.len();
        let read = match opener.read_short(&mut candidate, self.control, plain) {
            Ok(read) => read,
            Err(message) => {
                plain.truncate(start);
                return candidate.failed(message);
            }
        };
        let content = &plain[start..];
        let (size, blake3) = (content.len() as u64, *blake3::hash(content).as_bytes());
        let known = candidate.known.take();
        let known = match same_file(known, &read.metadata, size, &blake3) {
            Ok(known) => {
                plain.truncate(start);
                return Made::Same(Box::new(Same {
                    path,
                    known,
                    local: read.local,
                    bytes_read: size,
                }));
            }
            Err(known) => known,
        };
        let mut framed = Vec::with_capacity(1);
        let mut at = start;
        let cut = self.domains.of(candidate.folder.as_path());
        for chunk in Chunks::new(&cut.gear, content) {
            chunks.push(PlainChunk {
                start: at,
                length: chunk.len(),
                domain: cut.domain,
                of: (of, framed.len()),
            });
            at += chunk.len();
            framed.push(self.identify(cut.domain, chunk));
        }
        Made::New(Box::new(New {
            path,
            metadata: read.metadata,
            content: NewContent::Regular {
                size,
                blake3,
                chunks: framed,
                is_long: false,
            },
            local: read.local,
            is_known: known.is_some(),
        }))
    }

    /// Names a chunk, and says whether the store has it.
    fn identify(&self, domain: Domain, chunk: &[u8]) -> Framed {
        let id = self.keys.content_key(domain).id(chunk);
        let known = self.known.find(&id);
        Framed {
            id,
            domain,
            plaintext_length: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            frame: known.map_or(Frame::Earlier, Frame::Known),
        }
    }

    fn chunk<'d>(
        &self,
        job: ChunkJob,
        compressor: &mut Compressor<'d>,
        dictionary: Option<&'d Dictionary>,
    ) {
        let mut chunk = self.identify(job.domain, &job.bytes);
        let mut frames = Vec::new();
        if let Frame::Earlier = chunk.frame {
            match self.seen.look().claim(chunk.id, job.at) {
                Claim::Make => {
                    let may_use = is_small(job.bytes.len()) && has_dictionary(job.domain);
                    let dictionary = dictionary.filter(|_| may_use);
                    let frame = compressor.compress(&job.bytes, dictionary);
                    let is_raw = frame.codec == Codec::Raw;
                    chunk.frame = at(frame.codec, dictionary, 0, frame.bytes.len());
                    if is_raw {
                        frames = job.bytes;
                    } else {
                        frames.extend_from_slice(frame.bytes);
                    }
                }
                Claim::Made => {}
                Claim::Placed(place) => chunk.frame = Frame::Known(place),
            }
        }
        let frame = frames;
        let _ = job.reply.send(ChunkMade { chunk, frame });
    }
}

fn compress<'d>(
    mut task: ReadTask,
    compressor: &mut Compressor<'d>,
    dictionary: Option<&'d Dictionary>,
) {
    let mut frames = Vec::with_capacity(task.plain.len() / 3);
    for chunk in &task.chunks {
        let plain = &task.plain[chunk.start..][..chunk.length];
        let dictionary = dictionary.filter(|_| chunk.has_dictionary());
        let frame = compressor.compress(plain, dictionary);
        let start = frames.len();
        frames.extend_from_slice(frame.bytes);
        if let Some(framed) = framed_mut(&mut task.made, chunk.of) {
            framed.frame = at(frame.codec, dictionary, start, frame.bytes.len());
        }
    }
    let made = mem::take(&mut task.made);
    // Where the filler has ended, nobody waits for the task.
    let _ = task.reply.send(TaskMade { made, frames });
}

fn at(codec: Codec, dictionary: Option<&Dictionary>, start: usize, length: usize) -> Frame {
    Frame::At {
        codec,
        dictionary: dictionary
            .filter(|_| codec == Codec::ZstdDictionary)
            .map(Dictionary::id),
        start,
        length,
    }
}

fn framed_mut(made: &mut [Made], (path, chunk): (usize, usize)) -> Option<&mut Framed> {
    match made.get_mut(path)? {
        Made::New(new) => match &mut new.content {
            NewContent::Regular { chunks, .. } => chunks.get_mut(chunk),
            NewContent::Other(_) => None,
        },
        _ => None,
    }
}

/// Makes what is no file of its own: a folder, a link, another name of a file, a pipe, a device.
pub(super) fn other(mut candidate: Candidate, path: StorePath) -> Made {
    let at = candidate.path();
    let content = match content_of(&candidate, &at) {
        Ok(content) => content,
        Err(error) => return candidate.failed(format!("cannot be read: {error}")),
    };
    let metadata = metadata(&candidate.stat, xattrs(&Named::At(&at)));
    let local = settled(&candidate.stat.local).or_else(|| {
        // A folder's device must be known, or it could never be said to be gone: only its time is not, so that it is looked at again.
        let unknown = FileTime {
            seconds: 0,
            nanos: 0,
        };
        (candidate.stat.kind == Kind::Folder).then_some(LocalStat {
            changed: unknown,
            ..candidate.stat.local
        })
    });
    match candidate.known.take() {
        Some(known)
            if known.content == content
                && known.presence != Presence::Removed
                && same_metadata(&known.metadata, &metadata) =>
        {
            Made::Same(Box::new(Same {
                path,
                known,
                local,
                bytes_read: 0,
            }))
        }
        known => Made::New(Box::new(New {
            path,
            metadata,
            content: NewContent::Other(content),
            local,
            is_known: known.is_some(),
        })),
    }
}

fn content_of(candidate: &Candidate, at: &Path) -> std::io::Result<Content> {
    if let Some(first) = &candidate.link_to {
        return Ok(Content::HardLink((**first).clone()));
    }
    let (major, minor) = candidate.stat.device_node;
    Ok(match candidate.stat.kind {
        Kind::Folder => Content::Folder,
        Kind::Symlink => Content::Symlink(fs::read_link(at)?.as_os_str().as_bytes().to_vec()),
        Kind::Fifo => Content::Fifo,
        kind => Content::Device {
            block: kind == Kind::BlockDevice,
            major,
            minor,
        },
    })
}

/// Returns what is known of a file whose content and metadata are as known, else gives it back.
pub(super) fn same_file(
    known: Option<Box<Known>>,
    found: &Metadata,
    found_size: u64,
    found_hash: &[u8; 32],
) -> Result<Box<Known>, Option<Box<Known>>> {
    let known = known.filter(|known| known.presence != Presence::Removed);
    let is_same = known.as_ref().is_some_and(|known| match &known.content {
        Content::Regular { size, blake3, .. } => {
            *size == found_size && blake3 == found_hash && same_metadata(&known.metadata, found)
        }
        _ => false,
    });
    match known {
        Some(known) if is_same => Ok(known),
        known => Err(known),
    }
}

/// When a file was made, and where it has holes, is not what it is: a retrieved file is the one that was stored.
fn same_metadata(known: &Metadata, found: &Metadata) -> bool {
    known.mode == found.mode
        && known.uid == found.uid
        && known.gid == found.gid
        && known.modified == found.modified
        && known.xattrs == found.xattrs
}

impl Candidate {
    /// Returns its path as the store names it.
    pub(super) fn store_path(&self) -> Option<StorePath> {
        store_path(self.folder.as_bytes(), self.name.to_bytes())
    }

    /// Says that it could not be stored.
    pub(super) fn failed(&self, message: String) -> Made {
        let is_linked = self.stat.kind == Kind::Regular && self.stat.links > 1;
        Made::Failed {
            path: self.path(),
            linked: is_linked.then(|| self.store_path()).flatten(),
            message,
        }
    }
}
