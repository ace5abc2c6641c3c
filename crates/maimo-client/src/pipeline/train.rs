//! [`Trainer`]: holds back a store's first small chunks until a dictionary is trained from them, so that they are compressed with it too; and has
//! another take its place when what comes has drifted away from it.
//!
//! ```text
//! collecting --enough samples--> training --> ready, with a dictionary or without one --from time to time--> judging
//!      ^   '--no room, or the end, and too few samples: these are kept, what is parked goes on without--.      |
//!      '------------------------------------------------------------------------------------------------'      |
//!                                                   ready, with it or with another one <-----------------------'
//! ```
//!
//! Nothing waits for a verdict but the end of the run: meanwhile chunks are compressed with what there is.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use maimo_vault::{
    compress::Level,
    dictionary::{Dictionary, Recent, SAMPLE_BYTES_MAX, Verdict, Window, train},
};

use super::{job::Trained, work::ReadTask};

/// How many bytes of small chunks to train from.
const ENOUGH_BYTES: usize = 4 * 1024 * 1024;
/// How many bytes to hold back at most.
const PARKED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Fewer samples than this, or fewer bytes of them, make no dictionary worth its own bytes.
const SAMPLES_MIN: usize = 500;
const SAMPLES_BYTES_MIN: usize = 1024 * 1024;

/// Trains dictionaries, and says which is used.
pub(super) struct Trainer {
    state: Mutex<State>,
    /// Counts up whenever another dictionary is used.
    generation: AtomicU64,
    /// Others of the store, any of which may do better.
    older: Mutex<Vec<Arc<Dictionary>>>,
    recent: Arc<Mutex<Recent>>,
    level: Level,
    is_judging: AtomicBool,
    /// That whoever waits for what is parked has no time.
    is_urgent: AtomicBool,
    is_ended: AtomicBool,
    trained: (Sender<Trained>, Receiver<Trained>),
}

enum State {
    Collecting(Vec<ReadTask>, Samples),
    Training(Vec<ReadTask>),
    Ready(Option<Arc<Dictionary>>),
}

/// Small chunks of tasks that went on without a dictionary.
#[derive(Default)]
struct Samples {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
}

/// Chunks to judge dictionaries by.
pub(super) struct Due<'a> {
    window: Window,
    judging: Judging<'a>,
}

/// While it lives, there may be a verdict.
struct Judging<'a>(&'a AtomicBool);

impl Drop for Judging<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

/// What becomes of a task.
pub(super) enum Offer {
    /// It is to be compressed.
    Compress(Box<ReadTask>),
    /// It waits.
    Parked,
    /// It waits with others, which are enough.
    Settle,
}

impl Trainer {
    /// Begins with the first of some dictionaries, or to collect. `recent` are the chunks that came before.
    pub(super) fn new(
        dictionaries: &[Arc<Dictionary>],
        recent: Arc<Mutex<Recent>>,
        level: Level,
    ) -> Self {
        let (state, older) = match dictionaries.split_first() {
            Some((newest, older)) => (State::Ready(Some(Arc::clone(newest))), older.to_vec()),
            None => (
                State::Collecting(Vec::new(), Samples::default()),
                Vec::new(),
            ),
        };
        Self {
            state: Mutex::new(state),
            generation: AtomicU64::new(0),
            older: Mutex::new(older),
            recent,
            level,
            is_judging: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            is_ended: AtomicBool::new(false),
            trained: bounded(1),
        }
    }

    /// Returns the dictionary, once there is one.
    pub(super) fn dictionary(&self) -> Option<Arc<Dictionary>> {
        match &*self.lock() {
            State::Ready(dictionary) => dictionary.clone(),
            _ => None,
        }
    }

    /// Returns a number that is another one once another dictionary is used.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Returns whether a dictionary may be about to come.
    pub(super) fn is_judging(&self) -> bool {
        self.is_judging.load(Ordering::SeqCst)
    }

    /// Says that nobody takes a dictionary any more.
    pub(super) fn end(&self) {
        self.is_ended.store(true, Ordering::SeqCst);
    }

    /// Returns where dictionaries come that are to be stored: whoever waits for a worker must look here too.
    pub(super) const fn trained(&self) -> &Receiver<Trained> {
        &self.trained.1
    }

    /// Returns whether tasks may be waiting.
    pub(super) fn is_collecting(&self) -> bool {
        matches!(&*self.lock(), State::Collecting(..))
    }

    /// Says whether tasks may still wait for samples.
    pub(super) fn set_urgent(&self, is_urgent: bool) {
        self.is_urgent.store(is_urgent, Ordering::SeqCst);
    }

    pub(super) fn offer(&self, task: ReadTask) -> Offer {
        let mut state = self.lock();
        let (State::Collecting(parked, _) | State::Training(parked)) = &mut *state else {
            drop(state);
            let mut recent = locked(&self.recent);
            task.samples().for_each(|sample| recent.add(sample));
            return Offer::Compress(Box::new(task));
        };
        if task.small().next().is_none() {
            return Offer::Compress(Box::new(task));
        }
        parked.push(task);
        let State::Collecting(parked, samples) = &*state else {
            return Offer::Parked;
        };
        let bytes: usize = parked.iter().map(ReadTask::bytes).sum();
        let is_enough = bytes >= PARKED_BYTES_MAX || count(parked, samples).1 >= ENOUGH_BYTES;
        if is_enough || self.is_urgent.load(Ordering::SeqCst) {
            Offer::Settle
        } else {
            Offer::Parked
        }
    }

    /// Trains from what is parked and what was before, if that is enough, and returns what goes on.
    pub(super) fn settle(&self) -> Vec<ReadTask> {
        let mut state = self.lock();
        let State::Collecting(parked, samples) = &mut *state else {
            return Vec::new();
        };
        let (samples_count, samples_bytes) = count(parked, samples);
        let mut parked = mem::take(parked);
        // In walk order, so that the same files make the same dictionary.
        parked.sort_unstable_by_key(|task| task.at);
        if parked.is_empty() || samples_count < SAMPLES_MIN || samples_bytes < SAMPLES_BYTES_MIN {
            for sample in parked.iter().flat_map(ReadTask::samples) {
                samples.bytes.extend_from_slice(sample);
                samples.lengths.push(sample.len());
            }
            return parked;
        }
        let samples = mem::take(samples);
        *state = State::Training(Vec::new());
        drop(state);
        let trained = samples.train(&parked);
        let dictionary = trained.and_then(|bytes| self.store(bytes));
        if let State::Training(meanwhile) = self.use_from_here(dictionary) {
            parked.extend(meanwhile);
        }
        parked
    }

    /// Returns what to judge the dictionaries by, if it is time for that: [`Self::judge`] is to follow. Before the last chunk of it is replied, so that
    /// the run does not end in between.
    pub(super) fn take_due(&self) -> Option<Due<'_>> {
        if !matches!(&*self.lock(), State::Ready(_)) || self.is_judging.swap(true, Ordering::SeqCst)
        {
            return None;
        }
        let judging = Judging(&self.is_judging);
        let window = locked(&self.recent).take_due()?;
        Some(Due { window, judging })
    }

    /// Has the dictionary used from here on that is best for such chunks as came last.
    pub(super) fn judge(&self, due: Due<'_>) {
        let Due { window, judging } = due;
        let in_use = self.dictionary();
        let mut older = locked(&self.older);
        let verdict = {
            let older: Vec<&Dictionary> = older.iter().map(Arc::as_ref).collect();
            window.judge(in_use.as_deref(), &older, self.level)
        };
        locked(&self.recent).judged(&verdict);
        let better = match verdict {
            Verdict::Keep => None,
            Verdict::Older(place) => Some(older.remove(place)),
            Verdict::Train(bytes) => self.store(bytes),
        };
        if better.is_some() {
            older.extend(in_use);
            self.use_from_here(better);
        }
        drop(judging);
    }

    /// Has a dictionary stored. Nothing where nobody takes it any more.
    fn store(&self, bytes: Vec<u8>) -> Option<Arc<Dictionary>> {
        // Not by way of a task: the filler may wait for one that came too late for this training, and waits for its end.
        let (stored, here) = bounded(1);
        let trained = Trained { bytes, stored };
        self.trained.0.send(trained).ok()?;
        // The filler may end without having looked.
        loop {
            match here.recv_timeout(Duration::from_millis(50)) {
                Ok(dictionary) => return Some(dictionary),
                Err(RecvTimeoutError::Timeout) if !self.is_ended.load(Ordering::SeqCst) => {}
                Err(_) => return None,
            }
        }
    }

    fn use_from_here(&self, dictionary: Option<Arc<Dictionary>>) -> State {
        let before = mem::replace(&mut *self.lock(), State::Ready(dictionary));
        self.generation.fetch_add(1, Ordering::SeqCst);
        before
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Samples {
    fn train(&self, parked: &[ReadTask]) -> Option<Vec<u8>> {
        let mut rest = &self.bytes[..];
        let before = self.lengths.iter().map(|length| {
            let (sample, after) = rest.split_at(*length);
            rest = after;
            sample
        });
        train(before.chain(parked.iter().flat_map(ReadTask::samples)))
    }
}

/// Returns how many samples there are, and how many bytes they have.
fn count(parked: &[ReadTask], samples: &Samples) -> (usize, usize) {
    let parked = parked.iter().flat_map(ReadTask::samples);
    let begin = (samples.lengths.len(), samples.bytes.len());
    parked.fold(begin, |(count, bytes), sample| {
        (count + 1, bytes + sample.len())
    })
}

impl ReadTask {
    /// Returns the chunks that may be trained from.
    fn samples(&self) -> impl Iterator<Item = &[u8]> {
        self.small().filter(|chunk| chunk.len() <= SAMPLE_BYTES_MAX)
    }
}
