//! The threads that seal packs and send them.
//!
//! ```text
//! builder --> sealing threads: seal for each channel --> a folder:    its row, then its ranges at once        --.
//!                                                    '-> a network:   bytes on disk, its row --> sender thread --'--> arrived
//! ```
//!
//! To a provider in this process at most two packs are on their way. Over a network sealing goes ahead of sending until the spool is full; one
//! thread a channel sends from it, with one window over all packs, so that no circuit waits at the end of a pack. In memory are the pack that is
//! filled, those being sealed, and the ranges under way.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{
    Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, bounded, unbounded,
};
use futures::{
    channel::mpsc::{self, UnboundedReceiver, UnboundedSender},
    future::Either,
    stream::StreamExt,
};
use futures_executor::block_on;
use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::{
    name::PackNumber,
    pack::{PackBuilder, PackKind, PackLayout, PackNonce},
};

use crate::{
    engine::Away,
    error::ClientError,
    possession::Token,
    progress::Control,
    random,
    session::{OpenChannel, Upload, Uploads},
    spool::{Spool, Spooled},
};

const THREADS: usize = 2;
/// How often one who waits for a slow network looks whether the run is to go on: what is in the spool by then is sent by the next one.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A pack that all channels hold that are not away.
pub(super) struct Arrived {
    pub(super) layout: PackLayout,
    pub(super) objects: BTreeMap<ChannelId, ObjectRef>,
    pub(super) tokens: Vec<(ChannelId, Token)>,
}

/// A pack in the spool, for one channel.
struct Parcel {
    number: PackNumber,
    pack: ObjectRef,
    /// Whether the provider may have some of it.
    may_be_there: bool,
    whole: Arc<Whole>,
}

/// What is to be told of a pack once the last channel that was sent it has it.
struct Whole(Mutex<(usize, Option<Arrived>)>);

impl Whole {
    fn new(left: usize, arrived: Arrived) -> Arc<Self> {
        Arc::new(Self(Mutex::new((left, Some(arrived)))))
    }

    /// Notes that one more channel has it; returns what has arrived if it was the last.
    fn held(&self) -> Option<Arrived> {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.0 = left.0.saturating_sub(1);
        if left.0 == 0 { left.1.take() } else { None }
    }

    /// Notes that a channel will not have it; returns what has arrived on the others if it was the last.
    fn given_up(&self, channel: ChannelId) -> Option<Arrived> {
        {
            let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(arrived) = &mut left.1 {
                arrived.objects.remove(&channel);
                arrived.tokens.retain(|(of, _)| *of != channel);
            }
        }
        self.held()
    }
}

/// How much is in the spool.
struct Room {
    bytes_max: u64,
    used: Mutex<u64>,
    freed: Condvar,
    /// Nothing is waited for any more: the run ends.
    is_over: AtomicBool,
}

impl Room {
    fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            used: Mutex::default(),
            freed: Condvar::new(),
            is_over: AtomicBool::new(false),
        }
    }

    /// Takes room, when there is some; one pack has it always.
    fn take(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used > 0 && *used + bytes > self.bytes_max && !self.is_over() {
            let waited = self.freed.wait(used);
            used = waited.unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
    }

    /// Counts what is there without having waited for room.
    fn note(&self, bytes: u64) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
    }

    fn give(&self, bytes: u64) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = used.saturating_sub(bytes);
        self.freed.notify_all();
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn end(&self) {
        let _used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_over.store(true, Ordering::Relaxed);
        self.freed.notify_all();
    }
}

/// What the threads share.
struct Shared {
    channels: Vec<Arc<OpenChannel>>,
    /// The way to the sender of each channel at the other end of a network.
    senders: HashMap<ChannelId, UnboundedSender<Parcel>>,
    spool: Arc<Spool>,
    room: Arc<Room>,
    /// Channels beside the first that are given up for this run.
    away: Arc<Away>,
    keep_tokens: bool,
}

/// The threads. They end when this is dropped, after the packs in hand; what is in the spool by then stays there.
pub(super) struct Workers {
    builders: Option<Sender<PackBuilder>>,
    shared: Option<Arc<Shared>>,
    results: Receiver<Result<Arrived, ClientError>>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
}

impl Workers {
    pub(super) fn start(
        channels: &[Arc<OpenChannel>],
        spool: &Arc<Spool>,
        away: &Arc<Away>,
        keep_tokens: bool,
    ) -> Self {
        // No room to wait in: a builder that is handed over is taken, or its maker waits.
        let (builders, queue) = bounded::<PackBuilder>(0);
        let (done, results) = unbounded();
        let room = Arc::new(Room::new(spool.bytes_max()));
        let mut senders = HashMap::new();
        let mut threads = Vec::new();
        for (place, channel) in channels.iter().enumerate() {
            if !channel.session.appetite().is_remote {
                continue;
            }
            let (sender, parcels) = mpsc::unbounded();
            senders.insert(channel.id, sender);
            let channel = Arc::clone(channel);
            let (spool, room, done) = (Arc::clone(spool), Arc::clone(&room), done.clone());
            let away = Arc::clone(away);
            threads.push(thread::spawn(move || {
                let mut line = Line {
                    channel: &channel,
                    parcels,
                    waiting: HashMap::new(),
                    spool: &spool,
                    room: &room,
                    done: &done,
                };
                let sent = match line.send() {
                    Err(ClientError::Provider { source, .. }) if place > 0 => {
                        away.note(channel.id, source);
                        line.give_up()
                    }
                    sent => sent,
                };
                if let Err(error) = sent {
                    room.end();
                    // Nobody listens where the run has ended.
                    let _ = done.send(Err(error));
                }
            }));
        }
        let shared = Arc::new(Shared {
            channels: channels.to_vec(),
            senders,
            spool: Arc::clone(spool),
            room: Arc::clone(&room),
            away: Arc::clone(away),
            keep_tokens,
        });
        for _ in 0..THREADS {
            let (queue, done) = (queue.clone(), done.clone());
            let shared = Arc::clone(&shared);
            threads.push(thread::spawn(move || {
                for builder in queue {
                    let sealed = seal_and_send(builder, &shared);
                    if let Some(arrived) = sealed.transpose()
                        && done.send(arrived).is_err()
                    {
                        return;
                    }
                }
            }));
        }
        Self {
            threads,
            builders: Some(builders),
            shared: Some(shared),
            results,
            in_flight: 0,
        }
    }

    /// Has packs sent on that an earlier run left in the spool, each to the channels that lack it.
    pub(super) fn resume(
        &mut self,
        left: Vec<(Spooled, Vec<ChannelId>)>,
    ) -> Result<(), ClientError> {
        let shared = self.shared.as_ref().ok_or_else(ended)?;
        for (spooled, lacking) in left {
            let number = spooled.layout.number();
            let whole = Whole::new(
                lacking.len(),
                Arrived {
                    layout: spooled.layout,
                    objects: spooled.objects.clone(),
                    tokens: Vec::new(),
                },
            );
            for channel in lacking {
                let (Some(sender), Some(pack)) =
                    (shared.senders.get(&channel), spooled.objects.get(&channel))
                else {
                    return Err(ended());
                };
                // It is there already; the next pack waits until there is room again.
                shared.room.note(pack.length);
                let parcel = Parcel {
                    number,
                    pack: *pack,
                    may_be_there: true,
                    whole: Arc::clone(&whole),
                };
                sender.unbounded_send(parcel).map_err(|_| ended())?;
            }
            self.in_flight += 1;
        }
        Ok(())
    }

    /// Hands a pack over; waits while as many are being sealed as there are threads, which a full spool keeps waiting in turn.
    pub(super) fn hand_over(
        &mut self,
        mut builder: PackBuilder,
        control: &Control,
    ) -> Result<(), ClientError> {
        let builders = self.builders.as_ref().ok_or_else(ended)?;
        loop {
            match builders.send_timeout(builder, LOOK_EVERY) {
                Ok(()) => break,
                Err(SendTimeoutError::Timeout(back)) => builder = back,
                Err(SendTimeoutError::Disconnected(_)) => return Err(ended()),
            }
            control.check()?;
        }
        self.in_flight += 1;
        Ok(())
    }

    /// Returns a pack that has arrived, if one has.
    pub(super) fn poll(&mut self) -> Result<Option<Arrived>, ClientError> {
        match self.results.try_recv() {
            Ok(arrived) => {
                self.in_flight -= 1;
                arrived.map(Some)
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(ended()),
        }
    }

    /// Waits for the next pack to arrive; nothing where none is in flight.
    pub(super) fn wait(&mut self, control: &Control) -> Result<Option<Arrived>, ClientError> {
        if self.in_flight == 0 {
            return Ok(None);
        }
        loop {
            match self.results.recv_timeout(LOOK_EVERY) {
                Ok(arrived) => {
                    self.in_flight -= 1;
                    return arrived.map(Some);
                }
                Err(RecvTimeoutError::Timeout) => control.check()?,
                Err(RecvTimeoutError::Disconnected) => return Err(ended()),
            }
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.builders = None;
        if let Some(shared) = self.shared.take() {
            shared.room.end();
        }
        for thread in self.threads.drain(..) {
            // What it panicked with it has said already.
            let _ = thread.join();
        }
    }
}

fn ended() -> ClientError {
    ClientError::Bug("a sealing thread ended".to_owned())
}

/// Seals a pack for each channel and lets it leave. Returns it if it has arrived by then; what is in the spool arrives later.
fn seal_and_send(builder: PackBuilder, shared: &Shared) -> Result<Option<Arrived>, ClientError> {
    let number = builder.number();
    let spool = &shared.spool;
    let mut builder = Some(builder);
    let mut layout = None;
    let mut objects = BTreeMap::new();
    let mut tokens = Vec::new();
    let mut here = Vec::new();
    let mut is_first_far = true;
    let answers = |channel: &&Arc<OpenChannel>| shared.away.why(channel.id).is_none();
    let channels: Vec<_> = shared.channels.iter().filter(answers).collect();
    for (place, channel) in channels.iter().copied().enumerate() {
        let nonce = PackNonce::draw(&mut random::system());
        let keys = channel.pack_keys(PackKind::Data);
        let is_last = place + 1 == channels.len();
        let pack = match builder.take_if(|_| is_last) {
            // In place: its frames are not needed while the last sealed copy is on its way.
            Some(last) => last.into_sealed(keys, nonce),
            None => match &builder {
                Some(open) => open.seal(keys, nonce),
                None => break,
            },
        };
        if shared.keep_tokens {
            let token = Token::of(pack.reference, &pack.bytes, &mut random::system());
            tokens.push((channel.id, token));
        }
        objects.insert(channel.id, pack.reference);
        if shared.senders.contains_key(&channel.id) {
            // A pack is not sent before it is sealed for all channels: one that waited here for room of its own copies' would wait for ever.
            if is_first_far {
                shared.room.take(pack.reference.length);
            } else {
                shared.room.note(pack.reference.length);
            }
            is_first_far = false;
            spool.keep(&pack.reference, &pack.bytes)?;
            spool.sealed(&pack.layout, channel.id, &pack.reference)?;
        } else {
            spool.sealed(&pack.layout, channel.id, &pack.reference)?;
            here.push((channel, pack.reference, Bytes::from(pack.bytes)));
        }
        layout = Some(pack.layout);
    }
    let layout = layout.ok_or_else(ended)?;
    // Before anything leaves: a pack of which one channel has a part is sealed for all of them.
    let far = objects.iter().filter_map(|(channel, pack)| {
        let sender = shared.senders.get(channel)?;
        Some((sender, *pack))
    });
    let far: Vec<_> = far.collect();
    let arrived = Arrived {
        layout,
        objects: objects.clone(),
        tokens,
    };
    // Those here are told of last.
    let whole = Whole::new(far.len() + here.len(), arrived);
    for (sender, pack) in far {
        let parcel = Parcel {
            number,
            pack,
            may_be_there: false,
            whole: Arc::clone(&whole),
        };
        // A sender that ended has said why.
        let _ = sender.unbounded_send(parcel);
    }
    let mut last = None;
    for (channel, reference, bytes) in here {
        let is_first = shared.channels[0].id == channel.id;
        match channel.upload(PackKind::Data, reference, &bytes) {
            Ok(()) => {
                spool.held(number, channel.id)?;
                last = whole.held();
            }
            Err(ClientError::Provider { source, .. }) if !is_first => {
                shared.away.note(channel.id, source);
                spool.forget(channel.id, reference.root)?;
                last = whole.given_up(channel.id);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(last)
}

/// What is sent from the spool to one channel.
struct Line<'a> {
    channel: &'a OpenChannel,
    parcels: UnboundedReceiver<Parcel>,
    waiting: HashMap<ObjectRef, Parcel>,
    spool: &'a Spool,
    room: &'a Room,
    done: &'a Sender<Result<Arrived, ClientError>>,
}

impl Line<'_> {
    /// Sends what comes, until nothing can come any more or the run is over.
    fn send(&mut self) -> Result<(), ClientError> {
        let mut uploads = Uploads::new(self.channel);
        let mut is_open = true;
        while !self.room.is_over() {
            let happened = if uploads.send()? && is_open {
                // What is sealed meanwhile goes at once, not once a range of what went before has been answered.
                uploads.step_or(self.parcels.next())?
            } else if self.waiting.is_empty() {
                return Ok(());
            } else {
                Either::Left(uploads.step()?)
            };
            match happened {
                Either::Right(Some(parcel)) => {
                    let upload = if parcel.may_be_there {
                        Upload::of_rest(PackKind::Data, parcel.pack)
                    } else {
                        Upload::of_new(PackKind::Data, parcel.pack)
                    };
                    uploads.add(upload, self.spool.bytes_of(&parcel.pack)?);
                    self.waiting.insert(parcel.pack, parcel);
                }
                Either::Right(None) => is_open = false,
                Either::Left(held) => {
                    let Some(parcel) = held.and_then(|pack| self.waiting.remove(&pack)) else {
                        continue;
                    };
                    self.spool.held(parcel.number, self.channel.id)?;
                    self.leaves(&parcel, parcel.whole.held());
                }
            }
        }
        Ok(())
    }

    /// Lets go of all that is on its way here and of all that still comes: the others go on without this channel, which is owed it.
    fn give_up(&mut self) -> Result<(), ClientError> {
        for (_, parcel) in core::mem::take(&mut self.waiting) {
            self.drop_parcel(&parcel)?;
        }
        while let Some(parcel) = block_on(self.parcels.next()) {
            self.drop_parcel(&parcel)?;
        }
        Ok(())
    }

    fn drop_parcel(&self, parcel: &Parcel) -> Result<(), ClientError> {
        self.spool.forget(self.channel.id, parcel.pack.root)?;
        self.leaves(parcel, parcel.whole.given_up(self.channel.id));
        Ok(())
    }

    fn leaves(&self, parcel: &Parcel, arrived: Option<Arrived>) {
        self.spool.drop_bytes(parcel.pack.root);
        self.room.give(parcel.pack.length);
        if let Some(arrived) = arrived {
            // Nobody listens where the run has ended.
            let _ = self.done.send(Ok(arrived));
        }
    }
}
