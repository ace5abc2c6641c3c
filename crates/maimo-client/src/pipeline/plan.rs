//! The planner: makes jobs of what the scan finds, in walk order, and reads long files itself.
//!
//! A long file is cut by one thread, as each cut hangs on the one before; its chunks are jobs like any other. So one thread feeds all
//! workers, and no worker ever waits for another.

use crossbeam_channel::{Sender, bounded};
use maimo_vault::chunker::CHUNK_BYTES_NORMAL;

use super::{
    job::{ChunkJob, Item, Job, Made, New, NewContent, Ordered, Same, Task},
    read::{Opener, Part},
    work::{Shop, same_file},
};
use crate::{
    error::ClientError,
    progress::{Cancelled, Event},
    scan::{
        compare::{Candidate, Step},
        stat::Kind,
    },
};

/// How many paths a task has at most.
const TASK_ITEMS: usize = 128;
/// How many bytes of files a task has, unless its last one is longer.
const TASK_BYTES: u64 = 1024 * 1024;
/// What a path is taken to need in memory beside its content, from scan to record.
const ITEM_BYTES: usize = 1024;
/// After how many unmodified paths the filler hears of them.
const UNMODIFIED_TOLD: u64 = 4096;

/// Makes jobs.
pub(super) struct Planner<'a> {
    shop: &'a Shop<'a>,
    ordered: Sender<Ordered>,
    opener: Opener,
    buffer: Vec<u8>,
    at: u64,
    items: Vec<Item>,
    bytes: u64,
    unmodified: u64,
    total: (u64, u64),
}

impl<'a> Planner<'a> {
    pub(super) fn new(shop: &'a Shop<'a>, ordered: Sender<Ordered>) -> Self {
        Self {
            shop,
            ordered,
            opener: Opener::default(),
            buffer: Vec::new(),
            at: 0,
            items: Vec::new(),
            bytes: 0,
            unmodified: 0,
            total: (0, 0),
        }
    }

    /// Takes what the scan found next.
    pub(super) fn step(&mut self, step: Step) -> Result<(), ClientError> {
        match step {
            Step::Unmodified => {
                self.unmodified += 1;
                if self.unmodified >= UNMODIFIED_TOLD {
                    self.tell_unmodified()?;
                }
                return Ok(());
            }
            Step::Candidate(candidate) => {
                let is_file = candidate.stat.kind == Kind::Regular && candidate.link_to.is_none();
                if candidate.stat.kind != Kind::Folder {
                    self.total.0 += 1;
                }
                if is_file {
                    self.total.1 += candidate.stat.size;
                    if candidate.stat.size > CHUNK_BYTES_NORMAL as u64 {
                        self.flush()?;
                        return self.long(*candidate);
                    }
                    self.bytes += candidate.stat.size;
                }
                self.items.push(Item::Candidate(candidate));
            }
            Step::Gone { path, kind } => self.items.push(Item::Ready(Made::Gone(path, kind))),
            Step::Trouble { path, message } => {
                self.items.push(Item::Ready(Made::Failed {
                    path,
                    linked: None,
                    message,
                }));
            }
        }
        if self.items.len() >= TASK_ITEMS || self.bytes >= TASK_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Passes on what is left.
    pub(super) fn finish(mut self) -> Result<(), ClientError> {
        self.tell_unmodified()?;
        self.flush()
    }

    fn tell_unmodified(&mut self) -> Result<(), ClientError> {
        self.total.0 += self.unmodified;
        let count = std::mem::take(&mut self.unmodified);
        self.order(Ordered::Made(Made::Unmodified(count)))?;
        self.tell_total()
    }

    fn tell_total(&self) -> Result<(), ClientError> {
        let (files, bytes) = self.total;
        self.shop.control.tell(Event::Total { files, bytes });
        Ok(self.shop.control.check()?)
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        if self.items.is_empty() {
            return Ok(());
        }
        self.tell_total()?;
        let items = std::mem::take(&mut self.items);
        let bytes = usize::try_from(std::mem::take(&mut self.bytes)).unwrap_or(usize::MAX);
        let cost = bytes.saturating_add(items.len() * ITEM_BYTES);
        self.take(cost)?;
        let (reply, made) = bounded(1);
        let at = self.next();
        self.order(Ordered::Task(at, made, cost))?;
        self.job(Job::Read(Task { at, items, reply }))
    }

    fn long(&mut self, mut candidate: Candidate) -> Result<(), ClientError> {
        self.tell_total()?;
        let mut opener = std::mem::take(&mut self.opener);
        let mut buffer = std::mem::take(&mut self.buffer);
        let control = self.shop.control;
        let cut = self.shop.domains.of(candidate.folder.as_path());
        let outcome =
            opener.read_long(
                &mut candidate,
                &cut.gear,
                control,
                &mut buffer,
                |part| match part {
                    Part::Chunk(bytes) => {
                        control.check()?;
                        self.take(bytes.len())?;
                        let (reply, made) = bounded(1);
                        let at = self.next();
                        self.order(Ordered::Chunk(at, made, bytes.len()))?;
                        let bytes = bytes.to_vec();
                        self.job(Job::Chunk(ChunkJob {
                            at,
                            bytes,
                            domain: cut.domain,
                            reply,
                        }))
                    }
                    Part::Again => self.order(Ordered::Again),
                },
            );
        self.opener = opener;
        self.buffer = buffer;
        let made = match outcome {
            Err(Ok(ended)) => return Err(ended),
            Err(Err(message)) => {
                self.order(Ordered::Again)?;
                candidate.failed(message)
            }
            Ok((blake3, read)) => {
                let size = candidate.stat.size;
                let Some(path) = candidate.store_path() else {
                    self.order(Ordered::Again)?;
                    let made = candidate.failed("the path is too long to be stored".to_owned());
                    return self.order(Ordered::Made(made));
                };
                match same_file(candidate.known.take(), &read.metadata, size, &blake3) {
                    Ok(known) => {
                        self.order(Ordered::Again)?;
                        Made::Same(Box::new(Same {
                            path,
                            known,
                            local: read.local,
                            bytes_read: size,
                        }))
                    }
                    Err(known) => Made::New(Box::new(New {
                        path,
                        metadata: read.metadata,
                        content: NewContent::Regular {
                            size,
                            blake3,
                            chunks: Vec::new(),
                            is_long: true,
                        },
                        local: read.local,
                        is_known: known.is_some(),
                    })),
                }
            }
        };
        self.order(Ordered::Made(made))
    }

    const fn next(&mut self) -> u64 {
        self.at += 1;
        self.at
    }

    fn take(&self, bytes: usize) -> Result<(), ClientError> {
        let shop = self.shop;
        if shop.budget.try_take(bytes) {
            return Ok(());
        }
        // What is parked may be all that is in flight.
        let is_collecting = shop.trainer.is_collecting();
        if is_collecting {
            shop.trainer.set_urgent(true);
            self.job(Job::Settle)?;
        }
        let goes_on = shop.budget.take(bytes);
        if is_collecting {
            shop.trainer.set_urgent(false);
        }
        if goes_on { Ok(()) } else { Err(ended()) }
    }

    fn job(&self, job: Job) -> Result<(), ClientError> {
        self.shop.jobs.0.send(job).map_err(|_| ended())
    }

    fn order(&self, ordered: Ordered) -> Result<(), ClientError> {
        self.ordered.send(ordered).map_err(|_| ended())
    }
}

/// The filler ended, and says itself why.
fn ended() -> ClientError {
    Cancelled.into()
}
