//! The threads that seal packs and send them, at most two packs at a time, three over a network.

use std::{
    collections::BTreeMap,
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, unbounded};
use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::pack::{PackBuilder, PackKind, PackLayout, PackNonce};

use crate::{error::ClientError, possession::Token, random, session::OpenChannel, spool::Spool};

/// A pack that all channels hold.
pub(super) struct Arrived {
    pub(super) layout: PackLayout,
    pub(super) objects: BTreeMap<ChannelId, ObjectRef>,
    pub(super) tokens: Vec<(ChannelId, Token)>,
}

/// The threads. They end when this is dropped, after the packs in hand.
pub(super) struct Workers {
    builders: Option<Sender<PackBuilder>>,
    results: Receiver<Result<Arrived, ClientError>>,
    threads: Vec<JoinHandle<()>>,
    in_flight: usize,
}

/// How many packs are sealed or under way at a time.
const THREADS: usize = 2;
/// The same over a network: while one is sealed, two are under way, so that no circuit waits at the end of a pack. With the pack that is filled
/// they take 64 MiB.
const THREADS_REMOTE: usize = 3;

impl Workers {
    pub(super) fn start(
        channels: &[Arc<OpenChannel>],
        spool: &Arc<Spool>,
        keep_tokens: bool,
    ) -> Self {
        // No room to wait in: a builder that is handed over is taken, or its maker waits.
        let (builders, queue) = bounded::<PackBuilder>(0);
        let (done, results) = unbounded();
        let is_remote = |channel: &Arc<OpenChannel>| channel.session.appetite().is_remote;
        let count = if channels.iter().any(is_remote) {
            THREADS_REMOTE
        } else {
            THREADS
        };
        let threads = (0..count).map(|_| {
            let (queue, done) = (queue.clone(), done.clone());
            let (channels, spool) = (channels.to_vec(), Arc::clone(spool));
            thread::spawn(move || {
                for builder in queue {
                    let arrived = seal_and_send(builder, &channels, &spool, keep_tokens);
                    if done.send(arrived).is_err() {
                        return;
                    }
                }
            })
        });
        Self {
            threads: threads.collect(),
            builders: Some(builders),
            results,
            in_flight: 0,
        }
    }

    /// Hands a pack over; waits while as many are in flight as there are threads.
    pub(super) fn hand_over(&mut self, builder: PackBuilder) -> Result<(), ClientError> {
        let builders = self.builders.as_ref().ok_or_else(ended)?;
        builders.send(builder).map_err(|_| ended())?;
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
    pub(super) fn wait(&mut self) -> Result<Option<Arrived>, ClientError> {
        if self.in_flight == 0 {
            return Ok(None);
        }
        let arrived = self.results.recv().map_err(|_| ended())?;
        self.in_flight -= 1;
        arrived.map(Some)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.builders = None;
        for thread in self.threads.drain(..) {
            // What it panicked with it has said already.
            let _ = thread.join();
        }
    }
}

fn ended() -> ClientError {
    ClientError::Bug("a sealing thread ended".to_owned())
}

fn seal_and_send(
    builder: PackBuilder,
    channels: &[Arc<OpenChannel>],
    spool: &Spool,
    keep_tokens: bool,
) -> Result<Arrived, ClientError> {
    let number = builder.number();
    let mut builder = Some(builder);
    let mut arrived: Option<Arrived> = None;
    for (place, channel) in channels.iter().enumerate() {
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
        let token =
            keep_tokens.then(|| Token::of(pack.reference, &pack.bytes, &mut random::system()));
        spool.sealed(&pack.layout, channel.id, &pack.reference)?;
        channel.upload(PackKind::Data, pack.reference, &Bytes::from(pack.bytes))?;
        spool.held(number, channel.id)?;
        let arrived = arrived.get_or_insert_with(|| Arrived {
            layout: pack.layout,
            objects: BTreeMap::new(),
            tokens: Vec::new(),
        });
        arrived.objects.insert(channel.id, pack.reference);
        arrived
            .tokens
            .extend(token.map(|token| (channel.id, token)));
    }
    arrived.ok_or_else(ended)
}
