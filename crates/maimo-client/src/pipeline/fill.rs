//! The filler: puts what workers made into packs, and writes the records, in walk order.
//!
//! Records are held until the pack that was open when they were made is handed over: then every chunk they name is. What is too little
//! for a pack stays a piece, with the number and the indexes that a pack would have.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, select};
use maimo_net::connect::Load;
use maimo_vault::{
    journal::{
        batch::{BATCH_BYTES_MAX, Batch, Stamp},
        content::{ChunkExtent, Content},
        metadata::Metadata,
        record::{PathEvent, Record},
        repeat::Repeat,
        state::Presence,
    },
    name::{ChunkRef, ChunkType, PackNumber, RecordId},
    pack::{FramedChunk, PackBuilder, PackKind, Piece, PushError},
    path::StorePath,
};

use super::{
    Outcome, PipelineRequest, StoreSink, Trouble,
    job::{Frame, Framed, Made, New, NewContent, Ordered, Same, TaskMade, Trained},
    work::Shop,
};
use crate::{error::ClientError, local_stat::LocalStat, progress::Event, scan::stat::Kind};

/// How much a piece may hold: more would not fit the tail beside its records.
const PIECE_FRAMES_MAX: usize = 3 * 1024;
const PIECE_CHUNKS_MAX: usize = 32;
/// How many bytes of repeated records fill a pack, by an estimate.
const REPEATED_BYTES_MAX: usize = BATCH_BYTES_MAX / 8 * 7;
/// When a commit is due: as soon as a pack is filled, and when one is not waited for any longer.
const DUE_BYTES: [u64; 2] = [1 << 30, (1 << 30) + (64 << 20)];
const DUE_RECORDS: [usize; 2] = [20_000, 32_768];
const DUE_SECONDS: [u64; 2] = [300, 360];
/// How often progress is told at most.
const TOLD: Duration = Duration::from_millis(50);

/// Fills packs.
pub(super) struct Filler<'a> {
    shop: &'a Shop<'a>,
    request: &'a PipelineRequest,
    sink: &'a mut dyn StoreSink,
    outcome: Outcome,
    open: Open,
    /// Records that the open pack or piece may hold chunks of.
    held: Vec<Held>,
    /// How long the records will be that the open pack repeats, about.
    repeated: Repeated,
    /// The chunks so far of the long file to come.
    long: Vec<ChunkRef>,
    /// Files that have other names, and could not be read.
    failed: HashSet<StorePath>,
    since: Since,
    told: Instant,
}

enum Open {
    Nothing,
    Piece(Piece, usize),
    Pack(Box<PackBuilder>),
}

struct Held {
    id: RecordId,
    record: Record,
    local: Option<LocalStat>,
}

#[derive(Default)]
struct Repeated {
    bytes: usize,
    folder: Vec<Vec<u8>>,
}

/// What came since the last commit.
struct Since {
    time: Instant,
    bytes: u64,
    records: usize,
    /// How far in walk order all is done.
    done: u64,
    /// Whether a pack was just filled, so that to commit leaves few bytes for a short one.
    is_filled: bool,
}

impl<'a> Filler<'a> {
    pub(super) fn new(
        shop: &'a Shop<'a>,
        request: &'a PipelineRequest,
        sink: &'a mut dyn StoreSink,
    ) -> Self {
        let now = Instant::now();
        Self {
            shop,
            request,
            sink,
            outcome: Outcome::default(),
            open: Open::Nothing,
            held: Vec::new(),
            repeated: Repeated::default(),
            long: Vec::new(),
            failed: HashSet::new(),
            since: Since {
                time: now,
                bytes: 0,
                records: 0,
                done: 0,
                is_filled: false,
            },
            told: now,
        }
    }

    /// Takes all that comes, until the planner has no more.
    pub(super) fn run(&mut self, ordered: &Receiver<Ordered>) -> Result<(), ClientError> {
        for ordered in ordered {
            self.shop.control.check()?;
            match ordered {
                Ordered::Task(at, replies, cost) => {
                    self.task(&replies)?;
                    self.since.done = at;
                    self.shop.budget.give(cost);
                    self.commit_if_due()?;
                }
                Ordered::Chunk(at, made, cost) => {
                    let made = self.wait(&made)?;
                    let chunk = self.place(&made.chunk, &made.frame)?;
                    self.long.push(chunk);
                    self.since.done = at;
                    self.since.bytes += u64::from(made.chunk.plaintext_length);
                    self.shop.budget.give(cost);
                }
                Ordered::Again => self.long.clear(),
                Ordered::Made(made) => {
                    self.made(made, &[])?;
                    self.commit_if_due()?;
                }
            }
            if self.told.elapsed() >= TOLD {
                self.tell();
            }
        }
        self.wait_for_verdict()
    }

    /// Waits for a dictionary that may be about to come: the next run has it then.
    fn wait_for_verdict(&mut self) -> Result<(), ClientError> {
        const LOOKED: Duration = Duration::from_millis(10);
        while self.shop.trainer.is_judging() {
            self.shop.control.check()?;
            if let Ok(trained) = self.shop.trainer.trained().recv_timeout(LOOKED) {
                self.trained(trained)?;
            }
        }
        Ok(())
    }

    /// Stores a dictionary.
    fn trained(&mut self, trained: Trained) -> Result<(), ClientError> {
        let dictionary = self.sink.dictionary(trained.bytes)?;
        // A worker waits for it, unless the run ends.
        let _ = trained.stored.send(dictionary);
        Ok(())
    }

    /// Hands over what is left.
    pub(super) fn finish(mut self) -> Result<Outcome, ClientError> {
        self.close(true)?;
        self.tell();
        Ok(self.outcome)
    }

    fn tell(&mut self) {
        self.told = Instant::now();
        self.shop.control.tell(Event::Done {
            files: self.outcome.files(),
            bytes: self.outcome.bytes_read,
        });
    }

    fn task(&mut self, made: &Receiver<TaskMade>) -> Result<(), ClientError> {
        let task = self.wait(made)?;
        for made in task.made {
            self.made(made, &task.frames)?;
        }
        Ok(())
    }

    /// Waits for what a worker makes, and stores the dictionary that one may wait for meanwhile.
    fn wait<T>(&mut self, made: &Receiver<T>) -> Result<T, ClientError> {
        let shop = self.shop;
        loop {
            select! {
                recv(made) -> made => return made.map_err(|_| worker_ended()),
                recv(shop.trainer.trained()) -> trained => {
                    self.trained(trained.map_err(|_| worker_ended())?)?;
                }
            }
        }
    }

    fn made(&mut self, made: Made, frames: &[u8]) -> Result<(), ClientError> {
        match made {
            Made::Unmodified(count) => self.outcome.files_unmodified += count,
            Made::Gone(path, kind) => {
                self.outcome.files_gone += u64::from(kind != Kind::Folder);
                self.event(path, PathEvent::Gone)?;
            }
            Made::Failed {
                path,
                linked,
                message,
            } => {
                self.failed.extend(linked);
                self.trouble(path, message);
            }
            Made::Same(same) => self.same(*same)?,
            Made::New(new) => self.new_revision(*new, frames)?,
        }
        Ok(())
    }

    fn same(&mut self, same: Same) -> Result<(), ClientError> {
        let known = same.known;
        if known.content != Content::Folder {
            self.outcome.files_unmodified += 1;
        }
        self.outcome.bytes_read += same.bytes_read;
        self.since.bytes += same.bytes_read;
        if known.presence != Presence::Present {
            self.event(same.path, PathEvent::Found)?;
        }
        match same.local {
            Some(local) if known.local != Some(local) => self.sink.refresh(known.id, local),
            _ => Ok(()),
        }
    }

    fn event(&mut self, path: StorePath, event: PathEvent) -> Result<(), ClientError> {
        let record = Record::Path {
            source: self.request.source,
            path,
            event,
        };
        self.record(record, None)
    }

    fn new_revision(&mut self, new: New, frames: &[u8]) -> Result<(), ClientError> {
        if let NewContent::Other(Content::HardLink(to)) = &new.content
            && self.failed.contains(to)
        {
            let message = "is another name of a file that could not be stored".to_owned();
            self.trouble(path_of(&new.path), message);
            return Ok(());
        }
        let estimate = self.repeated.estimate(&new.path, &new.metadata);
        let content = match new.content {
            NewContent::Other(content) => content,
            NewContent::Regular {
                size,
                blake3,
                chunks,
                is_long,
            } => {
                self.outcome.bytes_read += size;
                let places = if is_long {
                    std::mem::take(&mut self.long)
                } else {
                    self.since.bytes += size;
                    let mut places = Vec::with_capacity(chunks.len());
                    for chunk in &chunks {
                        let frame = match chunk.frame {
                            Frame::At { start, length, .. } => &frames[start..][..length],
                            _ => &[],
                        };
                        places.push(self.place(chunk, frame)?);
                    }
                    places
                };
                Content::Regular {
                    size,
                    blake3,
                    chunks: ChunkExtent::join(places),
                }
            }
        };
        if content != Content::Folder {
            let counter = if new.is_known {
                &mut self.outcome.files_changed
            } else {
                &mut self.outcome.files_new
            };
            *counter += 1;
        }
        let last = content.extents().last().map(|extent| extent.first.pack);
        let extents = content.extents().len();
        let is_repeated = last.is_some() && last == self.open.number();
        if is_repeated {
            self.repeated.add(&new.path, estimate + extents * 16);
        }
        let record = Record::File {
            source: self.request.source,
            path: new.path,
            metadata: new.metadata,
            content,
        };
        self.record(record, new.local)?;
        // Files that are all alike end in the open pack though they add nothing to it.
        if is_repeated && self.repeated.bytes > REPEATED_BYTES_MAX {
            self.close(false)?;
            // Nothing is open between this file and the next: a commit that waited for one more would leave a pack of a few files behind.
            self.commit_if_due()?;
        }
        Ok(())
    }

    fn record(&mut self, record: Record, local: Option<LocalStat>) -> Result<(), ClientError> {
        let id = self.sink.next_record()?;
        self.since.records += 1;
        if let Open::Nothing = self.open {
            return self.sink.record(id, record, local);
        }
        self.held.push(Held { id, record, local });
        Ok(())
    }

    /// Returns where a chunk is, having put it into the open pack if it is new.
    fn place(&mut self, chunk: &Framed, frame: &[u8]) -> Result<ChunkRef, ClientError> {
        if let Frame::Known(place) = chunk.frame {
            return Ok(place);
        }
        if let Some(place) = self.shop.seen.look().place_of(&chunk.id) {
            return Ok(place);
        }
        let Frame::At {
            codec, dictionary, ..
        } = chunk.frame
        else {
            return Err(ClientError::Bug(
                "a chunk made earlier in walk order has no place".to_owned(),
            ));
        };
        let framed = FramedChunk {
            id: chunk.id,
            chunk_type: ChunkType::Content,
            domain: chunk.domain,
            codec,
            dictionary,
            plaintext_length: chunk.plaintext_length,
            frame,
        };
        self.outcome.bytes_new += u64::from(chunk.plaintext_length);
        let before = self.outcome.bytes_framed;
        self.outcome.bytes_framed += frame.len() as u64;
        if (before..self.outcome.bytes_framed).contains(&Load::HEAVY_BYTES) {
            self.sink.much();
        }
        let place = self.push(framed)?;
        self.shop.seen.look().place(chunk.id, place);
        Ok(place)
    }

    fn push(&mut self, chunk: FramedChunk<'_>) -> Result<ChunkRef, ClientError> {
        // Room for the record of the file that the chunk is of.
        let records = self.repeated.bytes + 1024;
        match &mut self.open {
            Open::Piece(piece, frames)
                if *frames + chunk.frame.len() > PIECE_FRAMES_MAX
                    || piece.entries().len() >= PIECE_CHUNKS_MAX =>
            {
                let builder = to_pack(piece, self.request)?;
                self.sink.outgrown()?;
                self.open = Open::Pack(Box::new(builder));
            }
            Open::Pack(builder) if !builder.would_fit(chunk.frame.len(), records) => {
                self.close(false)?;
            }
            _ => {}
        }
        if let Open::Nothing = self.open {
            let number = self.sink.next_pack()?;
            self.open = if chunk.frame.len() > PIECE_FRAMES_MAX {
                self.sink.outgrown()?;
                let builder = PackBuilder::new(number, PackKind::Data);
                Open::Pack(Box::new(builder.with_size(self.request.pack_size)))
            } else {
                Open::Piece(Piece::new(number), 0)
            };
        }
        let (pack, index) = match &mut self.open {
            Open::Nothing => return Err(refused(&PushError::Full)),
            Open::Piece(piece, frames) => {
                *frames += chunk.frame.len();
                (piece.number(), piece.push(chunk))
            }
            Open::Pack(builder) => (builder.number(), builder.push(chunk)),
        };
        let index = index.map_err(|error| refused(&error))?;
        Ok(ChunkRef { pack, index })
    }

    /// Hands over the open pack and then the records that waited for it. A piece stays one only at the end of the run.
    fn close(&mut self, is_end: bool) -> Result<(), ClientError> {
        self.repeated = Repeated::default();
        let builder = match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => None,
            Open::Piece(piece, _) if is_end => {
                self.sink.piece(piece)?;
                None
            }
            Open::Piece(piece, _) => Some(to_pack(&piece, self.request)?),
            Open::Pack(builder) => Some(*builder),
        };
        let mut held = std::mem::take(&mut self.held);
        if let Some(mut builder) = builder {
            let records = repeat(&mut held, builder.number(), self.sink.as_of());
            let set = builder.set_records(records);
            set.map_err(|error| refused(&error))?;
            self.sink.seal(builder)?;
            self.since.is_filled = true;
        }
        for Held { id, record, local } in held {
            self.sink.record(id, record, local)?;
        }
        Ok(())
    }

    fn is_due(&self, patience: usize) -> bool {
        self.since.bytes >= DUE_BYTES[patience]
            || self.since.records >= DUE_RECORDS[patience]
            || self.since.time.elapsed().as_secs() >= DUE_SECONDS[patience]
    }

    /// Between files: has what was handed over committed, if that is due.
    fn commit_if_due(&mut self) -> Result<(), ClientError> {
        let is_due = self.is_due(1) || (self.since.is_filled && self.is_due(0));
        self.since.is_filled = false;
        if !is_due || self.since.records == 0 {
            return Ok(());
        }
        self.close(false)?;
        self.sink.checkpoint()?;
        self.shop.seen.look().checkpoint(self.since.done);
        self.since.time = Instant::now();
        self.since.bytes = 0;
        self.since.records = 0;
        Ok(())
    }

    fn trouble(&mut self, path: std::path::PathBuf, message: String) {
        self.shop.control.tell(Event::Trouble {
            path: path.clone(),
            message: message.clone(),
        });
        self.outcome.troubles.push(Trouble { path, message });
    }
}

impl Open {
    fn number(&self) -> Option<PackNumber> {
        match self {
            Self::Nothing => None,
            Self::Piece(piece, _) => Some(piece.number()),
            Self::Pack(builder) => Some(builder.number()),
        }
    }
}

impl Repeated {
    /// Returns how long a file's record is about, without its extents: never less than it is.
    fn estimate(&self, path: &StorePath, metadata: &Metadata) -> usize {
        // Hash, times, owner, lengths; attributes; a name, or the whole path after a record of another folder.
        let fixed = 100;
        let xattrs = metadata.xattrs.iter();
        let xattrs: usize = xattrs
            .map(|(name, value)| name.len() + value.len() + 6)
            .sum();
        let components = path.components();
        let (name, folder) = components
            .split_last()
            .map_or((0, components), |(name, folder)| (name.len() + 2, folder));
        let folder = if folder == self.folder {
            0
        } else {
            folder.iter().map(|name| name.len() + 2).sum()
        };
        fixed + xattrs + name + folder
    }

    fn add(&mut self, path: &StorePath, bytes: usize) {
        self.bytes += bytes;
        if let Some((_, folder)) = path.components().split_last()
            && folder != self.folder
        {
            self.folder = folder.to_vec();
        }
    }
}

/// Encodes those of `held` that end in the pack `number`, and puts them back where they were.
fn repeat(held: &mut Vec<Held>, number: PackNumber, as_of: u64) -> Vec<u8> {
    let ends_here = |record: &Record| match record {
        Record::File { content, .. } => {
            let last = content.extents().last();
            last.is_some_and(|extent| extent.first.pack == number)
        }
        _ => false,
    };
    let mut locals = Vec::with_capacity(held.len());
    let mut ending = Vec::with_capacity(held.len());
    let mut others = Vec::new();
    for Held { id, record, local } in held.drain(..) {
        if ends_here(&record) {
            let stamp = Stamp {
                sequence: as_of,
                id,
            };
            locals.push(local);
            ending.push((stamp, record));
        } else {
            others.push(Held { id, record, local });
        }
    }
    let repeat = Repeat {
        as_of,
        batch: Batch::new(ending),
    };
    let encoded = repeat.encode();
    // Ids ascend, so the batch has kept the order.
    let ending = repeat.batch.into_records(as_of).zip(locals);
    let mut others = others.into_iter().peekable();
    for ((stamp, record), local) in ending {
        while let Some(other) = others.next_if(|other| other.id < stamp.id) {
            held.push(other);
        }
        let id = stamp.id;
        held.push(Held { id, record, local });
    }
    held.extend(others);
    encoded
}

fn to_pack(piece: &Piece, request: &PipelineRequest) -> Result<PackBuilder, ClientError> {
    let builder = PackBuilder::new(piece.number(), PackKind::Data);
    let mut builder = builder.with_size(request.pack_size);
    for chunk in piece.chunks() {
        builder.push(chunk).map_err(|error| refused(&error))?;
    }
    Ok(builder)
}

fn path_of(path: &StorePath) -> std::path::PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let mut found = std::path::PathBuf::from("/");
    found.extend(
        path.components()
            .iter()
            .map(|name| std::ffi::OsStr::from_bytes(name)),
    );
    found
}

fn refused(error: &PushError) -> ClientError {
    ClientError::Bug(format!("a pack does not take a chunk: {error}"))
}

fn worker_ended() -> ClientError {
    ClientError::Bug("a thread of the pipeline ended before its work was done".to_owned())
}
