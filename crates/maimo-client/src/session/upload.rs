//! Uploads: packs on their way to one channel, their ranges in any order, many outstanding where the session likes it.
//!
//! ```text
//! new pack ---------------------> send all its ranges --.
//! may be there in part --> ask --> send what is missing --'--> held? done : ask again, a few times
//! ```
//!
//! A pack that was just sealed is not asked about: over Tor the question costs as much as the answer. One window goes over all packs, so that the
//! end of one overlaps with the beginning of the next.

use std::{collections::VecDeque, thread, time::Duration};

use bytes::Bytes;
use futures::future::Either;
use maimo_core::{custody::PackClass, reference::ObjectRef};
use maimo_net::service::{PUT_BYTES, Put, PutReply, ServiceError};
use maimo_vault::pack::PackKind;

use super::OpenChannel;
use crate::{error::ClientError, outstanding::Outstanding};

/// How often a provider may say that something is still missing of a pack all of which was sent.
const ROUNDS_MAX: u32 = 3;
/// How often in a row a busy provider is asked again before it counts as away.
const BUSY_TRIES: u32 = 5;
/// The longest pause that a busy provider is granted.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// One pack on its way: what of it is still to be sent.
pub(crate) struct Upload {
    pack: ObjectRef,
    class: PackClass,
    /// Offsets of ranges to be sent, in bytes.
    left: VecDeque<u64>,
    under_way: usize,
    rounds: u32,
    is_held: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What is missing?
    Ask,
    /// The range that begins here, in bytes.
    Send(u64),
}

impl Upload {
    /// Prepares to send all of a pack that no provider has any of.
    pub(crate) fn of_new(kind: PackKind, pack: ObjectRef) -> Self {
        let ranges = pack.length.div_ceil(PUT_BYTES);
        Self {
            left: (0..ranges).map(|range| range * PUT_BYTES).collect(),
            ..Self::of_rest(kind, pack)
        }
    }

    /// Prepares to send what the provider lacks of a pack.
    pub(crate) fn of_rest(kind: PackKind, pack: ObjectRef) -> Self {
        Self {
            pack,
            class: match kind {
                PackKind::Data => PackClass::Data,
                PackKind::Vital => PackClass::Vital,
            },
            left: VecDeque::new(),
            under_way: 0,
            rounds: 0,
            is_held: false,
        }
    }

    fn next(&mut self) -> Option<Step> {
        let step = match self.left.pop_front() {
            Some(offset) => Step::Send(offset),
            None if self.under_way == 0 && !self.is_held => Step::Ask,
            None => return None,
        };
        self.under_way += 1;
        Some(step)
    }

    /// Takes an answer; refuses a list of missing ranges that is none, or that never ends.
    fn answered(&mut self, step: Step, missing: Vec<u64>) -> Result<(), ()> {
        self.under_way -= 1;
        if missing.is_empty() {
            self.is_held = true;
            self.left.clear();
        } else if step == Step::Ask && !self.is_held {
            let is_range =
                |offset: &u64| *offset < self.pack.length && offset.is_multiple_of(PUT_BYTES);
            if self.rounds == ROUNDS_MAX
                || !missing.iter().all(is_range)
                || !missing.is_sorted_by(|one, other| one < other)
            {
                return Err(());
            }
            self.rounds += 1;
            self.left = missing.into();
        }
        Ok(())
    }

    /// Takes back a step that the provider was too busy for.
    fn postponed(&mut self, step: Step) {
        self.under_way -= 1;
        if let Step::Send(offset) = step
            && !self.is_held
        {
            self.left.push_front(offset);
        }
    }

    const fn is_done(&self) -> bool {
        self.is_held && self.under_way == 0
    }
}

/// Where the bytes of a pack on its way are.
pub(crate) trait Source: Send {
    /// Returns a range of them.
    fn range(&self, offset: u64, length: u64) -> Result<Bytes, ClientError>;
}

impl Source for Bytes {
    fn range(&self, offset: u64, length: u64) -> Result<Bytes, ClientError> {
        let at = |offset: u64| {
            usize::try_from(offset)
                .unwrap_or(usize::MAX)
                .min(self.len())
        };
        Ok(self.slice(at(offset)..at(offset.saturating_add(length))))
    }
}

/// Packs on their way to one channel.
pub(crate) struct Uploads<'c, S> {
    channel: &'c OpenChannel,
    calls: Outstanding<'c, (ObjectRef, Step), PutReply>,
    packs: VecDeque<(Upload, S)>,
    busy: u32,
}

impl<'c, S: Source> Uploads<'c, S> {
    /// Prepares to send to a channel.
    pub(crate) fn new(channel: &'c OpenChannel) -> Self {
        Self {
            channel,
            calls: Outstanding::new(channel.session.appetite().calls),
            packs: VecDeque::new(),
            busy: 0,
        }
    }

    /// Takes a pack behind those that are on their way.
    pub(crate) fn add(&mut self, upload: Upload, source: S) {
        self.packs.push_back((upload, source));
    }

    /// Sends what there is room for. Returns whether another pack would find room: all that is to be sent of the others is under way.
    pub(crate) fn send(&mut self) -> Result<bool, ClientError> {
        while !self.calls.is_full() && self.start()? {}
        Ok(!self.calls.is_full())
    }

    /// Waits for one answer, or for what else may happen first. Returns the pack that is held by the answer, if one is.
    pub(crate) fn step_or<O>(
        &mut self,
        other: impl Future<Output = O> + Unpin,
    ) -> Result<Either<Option<ObjectRef>, O>, ClientError> {
        match self.calls.next_or(other) {
            Either::Left((call, answer)) => Ok(Either::Left(self.take_in(call, answer)?)),
            Either::Right(other) => Ok(Either::Right(other)),
        }
    }

    /// Sends on until a pack is held, and returns it; nothing where none is on its way.
    ///
    /// # Errors
    ///
    /// Whatever the provider refuses; then nothing that is on its way is waited for.
    pub(crate) fn drive(&mut self) -> Result<Option<ObjectRef>, ClientError> {
        loop {
            if let Some(held) = self.step()? {
                return Ok(Some(held));
            }
            if self.packs.is_empty() {
                return Ok(None);
            }
        }
    }

    /// Sends what there is room for and waits for one answer. Returns the pack that is held by it, if one is.
    pub(crate) fn step(&mut self) -> Result<Option<ObjectRef>, ClientError> {
        self.send()?;
        match self.calls.next() {
            Some((call, answer)) => self.take_in(call, answer),
            None => Ok(None),
        }
    }

    fn take_in(
        &mut self,
        (pack, step): (ObjectRef, Step),
        answer: Result<PutReply, ServiceError>,
    ) -> Result<Option<ObjectRef>, ClientError> {
        let place = self
            .packs
            .iter()
            .position(|(upload, _)| upload.pack == pack);
        let Some(place) = place else {
            return Ok(None);
        };
        let upload = &mut self.packs[place].0;
        match answer {
            Ok(reply) => {
                self.busy = 0;
                let taken = upload.answered(step, reply.missing);
                taken.map_err(|()| self.channel.wrong("the list of a pack's missing ranges"))?;
            }
            Err(ServiceError::Busy(pause)) if self.busy < BUSY_TRIES => {
                self.busy += 1;
                upload.postponed(step);
                thread::sleep(pause.min(BUSY_PAUSE_MAX));
            }
            Err(source) => return Err(self.channel.failed(source)),
        }
        if upload.is_done() {
            self.packs.remove(place);
            return Ok(Some(pack));
        }
        Ok(None)
    }

    fn start(&mut self) -> Result<bool, ClientError> {
        for (upload, source) in &mut self.packs {
            let Some(step) = upload.next() else {
                continue;
            };
            let (pack, class) = (upload.pack, upload.class);
            let (offset, bytes) = match step {
                Step::Ask => (0, Bytes::new()),
                Step::Send(offset) => {
                    let length = PUT_BYTES.min(pack.length.saturating_sub(offset));
                    (offset, source.range(offset, length)?)
                }
            };
            let put = Put {
                pack,
                class,
                offset,
                bytes,
            };
            self.calls
                .start((pack, step), self.channel.session.put(put));
            return Ok(true);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests;
