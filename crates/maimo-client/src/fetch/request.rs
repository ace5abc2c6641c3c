//! Asking for groups: what goes into one request, from which channel, and what is done about a wrong answer.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    live_map::LiveMap,
    reference::ObjectRef,
    units::{GROUP_BYTES, groups},
    verify::{Extent, Selection, SliceError, Verified, decode_slice},
};
use maimo_net::service::{READ_BYTES_MAX, READ_PACKS_MAX, Read, ServiceError};
use maimo_vault::{name::PackNumber, pack::HEADER_BYTES};

use super::{Fetch, FetchError, Fetched, PackAt, groups::Lost, locate::Place};
use crate::outstanding::{Outstanding, cut};

/// How often a busy provider is asked again before it counts as away.
const BUSY_TRIES: u32 = 5;
/// The longest pause that a busy provider is granted.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Groups of packs that are wanted.
#[derive(Default)]
pub struct Wanted {
    packs: BTreeMap<PackNumber, (Arc<PackAt>, LiveMap)>,
}

impl Wanted {
    /// Adds the groups that some bytes of a pack touch. Nothing is wanted of a piece: it is at hand.
    pub fn add(&mut self, pack: &Arc<PackAt>, range: &Range<u64>) {
        let Place::Sealed { length, .. } = &pack.place else {
            return;
        };
        let count = group(groups(*length));
        let (_, map) = self
            .packs
            .entry(pack.number)
            .or_insert_with(|| (Arc::clone(pack), LiveMap::empty(count)));
        let run = group(range.start / GROUP_BYTES)..group(groups(range.end)).min(count);
        // A range of nothing, or beyond the pack, is no run: whoever wants it finds no bytes for it.
        let _ = map.insert(run);
    }

    /// Adds groups of a pack.
    pub(super) fn add_groups(&mut self, pack: &Arc<PackAt>, groups: &LiveMap) {
        let known = self
            .packs
            .entry(pack.number)
            .or_insert_with(|| (Arc::clone(pack), LiveMap::empty(groups.groups())));
        known.1 = known.1.union(groups);
    }

    /// Returns whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty()
    }
}

fn group(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// One pack of a request.
struct Ask {
    pack: Arc<PackAt>,
    object: ObjectRef,
    groups: LiveMap,
}

/// Why a pack was not given whole.
enum Failed {
    /// Not at all, and there is no use in asking for parts.
    Whole(String),
    /// Not now; it may be there.
    Unserved(String),
    /// Some of it is wrong.
    Part(String),
}

impl Failed {
    fn text(self) -> String {
        match self {
            Self::Whole(text) | Self::Unserved(text) | Self::Part(text) => text,
        }
    }
}

impl Fetch<'_> {
    /// Reads what is wanted, from whichever channel has it right.
    ///
    /// What no channel can give is missing from the result, which knows why.
    ///
    /// # Errors
    ///
    /// [`FetchError::Away`] where a pack is on no channel that can be reached.
    pub fn read(&self, wanted: Wanted) -> Result<Fetched, FetchError> {
        let mut fetched = Fetched::default();
        let mut left = wanted.packs;
        let mut tried: BTreeMap<PackNumber, Lost> = BTreeMap::new();
        let mut away = None;
        for channel in 0..self.channels.len() {
            if left.is_empty() {
                break;
            }
            let asks = self.asks(channel, &left);
            let numbers: Vec<_> = asks.iter().map(|ask| ask.pack.number).collect();
            match self.ask_all(channel, asks, &mut fetched) {
                Ok(mut failed) => {
                    for number in numbers {
                        match failed.remove(&number) {
                            Some(why) => {
                                let lost = tried.entry(number).or_default();
                                lost.is_unserved |= matches!(why, Failed::Unserved(_));
                                lost.tried.push(why.text());
                            }
                            None => {
                                left.remove(&number);
                            }
                        }
                    }
                }
                Err(source) => {
                    away = Some(FetchError::Away {
                        channel: self.channels[channel].name.to_owned(),
                        source,
                    });
                }
            }
        }
        for (number, (pack, groups)) in left {
            match (tried.remove(&number), &away) {
                (None, Some(away)) => return Err(away.clone()),
                (tried, _) => {
                    self.salvage(&pack, &groups, &mut fetched);
                    fetched
                        .lost
                        .insert(number, Arc::new(tried.unwrap_or_default()));
                }
            }
        }
        Ok(fetched)
    }

    /// Makes the requests to one channel for what it holds of `left`, each pack's header with its first.
    fn asks(
        &self,
        channel: usize,
        left: &BTreeMap<PackNumber, (Arc<PackAt>, LiveMap)>,
    ) -> Vec<Ask> {
        let asks = left.iter().filter_map(|(number, (pack, map))| {
            let object = pack.object(channel)?;
            let mut groups = map.clone();
            if self.header(channel, *number).is_none() {
                groups.insert(0..1).ok()?;
            }
            Some(Ask {
                pack: Arc::clone(pack),
                object,
                groups,
            })
        });
        asks.collect()
    }

    /// Asks one channel, in requests as large and as many at a time as it likes. Returns what is wrong with packs that did not come right.
    fn ask_all(
        &self,
        channel: usize,
        asks: Vec<Ask>,
        fetched: &mut Fetched,
    ) -> Result<BTreeMap<PackNumber, Failed>, ServiceError> {
        let session = &self.channels[channel].session;
        let appetite = session.appetite();
        let bytes_max = appetite.bytes_per_call.min(READ_BYTES_MAX);
        let pieces = asks.into_iter().flat_map(|ask| {
            let maps = cut(&ask.groups, bytes_max).into_iter();
            maps.map(move |groups| Ask {
                pack: Arc::clone(&ask.pack),
                object: ask.object,
                groups,
            })
        });
        let mut pieces = pieces.peekable();
        let mut failed = BTreeMap::new();
        let mut calls = Outstanding::new(appetite.calls);
        loop {
            while !calls.is_full() && pieces.peek().is_some() {
                let mut request = Vec::new();
                let mut bytes = 0;
                while let Some(ask) = pieces.next_if(|ask| {
                    let more = ask.groups.live_bytes(ask.object.length);
                    request.is_empty()
                        || (request.len() < READ_PACKS_MAX && bytes + more <= bytes_max)
                }) {
                    bytes += ask.groups.live_bytes(ask.object.length);
                    request.push(ask);
                }
                let reply = session.read(reads(&request));
                calls.start(request, reply);
            }
            let Some((request, answer)) = calls.next() else {
                break;
            };
            let answer = match answer {
                Err(ServiceError::Busy(pause)) => {
                    thread::sleep(pause.min(BUSY_PAUSE_MAX));
                    self.call(channel, &request)
                }
                answer => answer,
            };
            self.settle(channel, &request, answer, fetched, &mut failed)?;
        }
        Ok(failed)
    }

    /// Sends one request; where it fails as a whole, each of its packs alone.
    fn ask(
        &self,
        channel: usize,
        request: &[Ask],
        fetched: &mut Fetched,
        failed: &mut BTreeMap<PackNumber, Failed>,
    ) -> Result<(), ServiceError> {
        let answer = self.call(channel, request);
        self.settle(channel, request, answer, fetched, failed)
    }

    /// Takes a request's answer.
    fn settle(
        &self,
        channel: usize,
        request: &[Ask],
        answer: Result<Vec<Bytes>, ServiceError>,
        fetched: &mut Fetched,
        failed: &mut BTreeMap<PackNumber, Failed>,
    ) -> Result<(), ServiceError> {
        match answer.and_then(|slices| whole(request, slices)) {
            Ok(slices) => {
                for (ask, slice) in request.iter().zip(slices) {
                    if let Err(error) = self.take(channel, ask, &slice, fetched) {
                        let text = format!("channel {}: {error}", self.channels[channel].name);
                        self.suspect(channel, ask.pack.kind, ask.object, &ask.groups);
                        failed.insert(ask.pack.number, Failed::Part(text));
                    }
                }
                Ok(())
            }
            Err(error) if is_away(&error) => Err(error),
            Err(error) if request.len() == 1 => {
                let text = format!("channel {}: {error}", self.channels[channel].name);
                if let ServiceError::Damaged { .. } | ServiceError::NotHeld { .. } = error {
                    let ask = &request[0];
                    self.suspect(channel, ask.pack.kind, ask.object, &ask.groups);
                }
                let why = match error {
                    ServiceError::Damaged { .. } => Failed::Part(text),
                    ServiceError::Unavailable { .. } => Failed::Unserved(text),
                    _ => Failed::Whole(text),
                };
                failed.insert(request[0].pack.number, why);
                Ok(())
            }
            Err(_) => request
                .chunks(1)
                .try_for_each(|one| self.ask(channel, one, fetched, failed)),
        }
    }

    fn call(&self, channel: usize, request: &[Ask]) -> Result<Vec<Bytes>, ServiceError> {
        let session = &self.channels[channel].session;
        for _ in 0..BUSY_TRIES {
            match block_on(session.read(reads(request))) {
                Err(ServiceError::Busy(pause)) => thread::sleep(pause.min(BUSY_PAUSE_MAX)),
                other => return other,
            }
        }
        Err(ServiceError::Busy(BUSY_PAUSE_MAX))
    }

    /// Holds one slice against the pack's root, and keeps its groups and the header.
    fn take(
        &self,
        channel: usize,
        ask: &Ask,
        slice: &[u8],
        fetched: &mut Fetched,
    ) -> Result<(), SliceError> {
        self.received
            .fetch_add(slice.len() as u64, Ordering::Relaxed);
        let selection =
            Selection::of_map(ask.object.length, &ask.groups).map_err(|_| SliceError::Selection)?;
        let runs: Verified<Vec<Extent>> = decode_slice(slice, &ask.object, &selection)?;
        let first = runs.first().filter(|run| run.offset == 0);
        if let Some(header) = first.and_then(|run| run.bytes.first_chunk::<HEADER_BYTES>()) {
            self.keep_header(channel, ask.pack.number, *header);
        }
        fetched.add(ask.pack.number, channel, runs);
        Ok(())
    }

    /// Takes of a damaged pack what can be had: asks every channel in halves, down to single groups.
    fn salvage(&self, pack: &Arc<PackAt>, groups: &LiveMap, fetched: &mut Fetched) {
        for channel in 0..self.channels.len() {
            let Some(object) = pack.object(channel) else {
                continue;
            };
            let mut pieces = vec![groups.clone()];
            if self.header(channel, pack.number).is_none() {
                let mut header = LiveMap::empty(groups.groups());
                pieces.extend(header.insert(0..1).map(|()| header));
            }
            while let Some(piece) = pieces.pop() {
                let halves = halve(&piece);
                let ask = Ask {
                    pack: Arc::clone(pack),
                    object,
                    groups: piece,
                };
                let mut failed = BTreeMap::new();
                if self.ask(channel, &[ask], fetched, &mut failed).is_err() {
                    break;
                }
                match failed.remove(&pack.number) {
                    None => {}
                    Some(Failed::Whole(_) | Failed::Unserved(_)) => break,
                    Some(Failed::Part(_)) => pieces.extend(halves.into_iter().flatten()),
                }
            }
        }
    }
}

fn reads(request: &[Ask]) -> Vec<Read> {
    let read = |ask: &Ask| Read {
        pack: ask.object,
        groups: ask.groups.clone(),
    };
    request.iter().map(read).collect()
}

/// Refuses an answer that has not one slice for each pack asked for.
fn whole(request: &[Ask], slices: Vec<Bytes>) -> Result<Vec<Bytes>, ServiceError> {
    if slices.len() == request.len() {
        return Ok(slices);
    }
    Err(ServiceError::Damaged {
        what: "an answer",
        detail: format!("{} slices for {} packs", slices.len(), request.len()),
    })
}

/// Returns whether there is no use in asking this provider for anything else now.
const fn is_away(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::Offline { .. }
            | ServiceError::TorUnavailable { .. }
            | ServiceError::NotAllowed { .. }
            | ServiceError::OtherProvider
            | ServiceError::UnknownClient
            | ServiceError::Revoked
            | ServiceError::Busy(_)
    )
}

/// Cuts a map in two by count; nothing where it is one group.
pub(crate) fn halve(map: &LiveMap) -> Option<[LiveMap; 2]> {
    let half = map.count() / 2;
    if half == 0 {
        return None;
    }
    let mut first = LiveMap::empty(map.groups());
    let mut left = half;
    for run in map.runs() {
        let take = (run.end - run.start).min(left);
        if take == 0 {
            break;
        }
        first.insert(run.start..run.start + take).ok()?;
        left -= take;
    }
    let rest = map.minus(&first);
    Some([first, rest])
}
