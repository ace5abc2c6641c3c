//! Following: the other channels of the layout are brought to what the first has acknowledged.
//!
//! ```text
//! first's receipt -> each mirror: owed packs? -> then it is behind, and is given them by `mirror`
//!                                 no: segments it lacks, sealed for it -> its own head, with the same state and the same live groups
//! ```
//!
//! A mirror decides nothing and is never waited for: what it lacks is computed from what it shows, and it catches up whenever it answers. Invariant: a
//! mirror's head names, of every pack that the first one's head names, just the same groups, so that whatever the first can give back, it can.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef, units::groups};
use maimo_vault::{
    candidate::{Advance, name_exactly},
    commit::{Commit, StorePart},
    compose::Base,
    name::PackNumber,
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, PackNonce, open_pack},
};

use super::{not_read, push::Pushed};
use crate::{
    catalog::Position,
    engine::{Engine, Shown},
    error::ClientError,
    keys::EPOCH,
    progress::{Control, Event},
    random,
    session::{OpenChannel, Upload, Uploads},
    supply::Owed,
};

/// How often a mirror is read again because another device let it follow first.
const ATTEMPTS: u32 = 4;
/// How many bytes of segments are sealed for a mirror before they leave.
const SEGMENTS_BYTES: u64 = 16 * 1024 * 1024;

/// What became of an attempt to let a mirror follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// It shows the newest state; so many bytes were sent for it.
    Yes(u64),
    /// It is owed packs first.
    Owed,
    /// It shows a newer layout than the one known here: it may be the one that decides, and is to be read first.
    Ahead,
    /// It took commits of its own while it decided by an older layout: they are to be merged first.
    Branch,
}

impl Engine {
    /// Lets every mirror follow that answers and is owed nothing. Returns the bytes sent. What keeps one from following is told, and is no error: the
    /// first channel has acknowledged.
    pub(crate) fn let_mirrors_follow(&mut self, control: &Control) -> Result<u64, ClientError> {
        let mut sent = 0;
        for id in self.layout()?.into_iter().skip(1) {
            if self.away.why(id).is_some() {
                continue;
            }
            match self.follow(id) {
                Ok(Followed::Yes(bytes)) => sent += bytes,
                Ok(Followed::Owed | Followed::Ahead | Followed::Branch) => {}
                Err(ClientError::Provider { channel, source }) => {
                    control.tell(Event::Notice(format!(
                        "channel {channel} is behind: {source}"
                    )));
                    self.away.note(id, source);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Returns the first channel and the mirrors that show what it shows: what is known on them need not be stored again. The others are owed it.
    pub(crate) fn current(&self) -> Result<Vec<ChannelId>, ClientError> {
        let store = self.catalog.position()?.store;
        let shows = |id: &ChannelId| {
            let commit = self.shown.get(id).and_then(|shown| shown.commit.as_ref());
            commit.map(|commit| &commit.store) == store.as_ref()
        };
        let layout = self.layout()?.into_iter().enumerate();
        let current = layout.filter(|(place, id)| *place == 0 || shows(id));
        Ok(current.map(|(_, id)| id).collect())
    }

    /// Returns the packs that a mirror is to be given before it can follow: those that the first channel's head names or that hold dictionaries, and
    /// that it has no object for, or one that turned out not to be held.
    pub(crate) fn owed(&self, id: ChannelId) -> Result<Vec<Owed>, ClientError> {
        let first = self.layout()?.first().copied().ok_or_else(not_read)?;
        let view = self.view(first).ok_or_else(not_read)?;
        let reader = self.catalog.reader()?;
        let there: HashMap<PackNumber, ObjectRef> = reader.packs(id)?.into_iter().collect();
        let is_owed = |number: &PackNumber| {
            let pack = there.get(number);
            pack.is_none_or(|pack| self.not_held.contains(&pack.root))
        };
        let mut owed = Vec::new();
        for (number, pack) in reader.packs(first)? {
            if let Some(live) = view.live(&pack).filter(|_| is_owed(&number)) {
                owed.push(Owed {
                    number,
                    kind: PackKind::Data,
                    length: pack.length,
                    needed: live.clone(),
                });
            }
        }
        let dictionaries = reader.dictionaries()?.into_iter();
        for (_, dictionary) in dictionaries.filter(|(_, known)| !known.retired) {
            let number = dictionary.chunk.pack;
            let is_new = owed.iter().all(|known| known.number != number);
            if let Some(pack) = reader.pack(number, first)?
                && is_owed(&number)
                && is_new
            {
                let count = u32::try_from(groups(pack.length)).unwrap_or(u32::MAX);
                owed.push(Owed {
                    number,
                    kind: PackKind::Vital,
                    length: pack.length,
                    needed: LiveMap::full(count),
                });
            }
        }
        Ok(owed)
    }

    /// Lets a channel follow the first, if it is owed no pack.
    pub(crate) fn follow(&mut self, id: ChannelId) -> Result<Followed, ClientError> {
        let mut sent = 0;
        for _ in 0..ATTEMPTS {
            let position = self.catalog.position()?;
            let Some(store) = position.store.clone() else {
                return Ok(Followed::Yes(sent));
            };
            let channel = self.channel(id)?;
            if !self.shown.contains_key(&id) {
                self.read_channel(&channel)?;
            }
            let shown = self.shown.get(&id).and_then(|shown| shown.commit.as_ref());
            if shown.is_some_and(|commit| commit.store == store) {
                self.ahead.remove(&id);
                return Ok(Followed::Yes(sent));
            }
            if shown.is_some_and(|commit| commit.store.layout_epoch > store.layout_epoch) {
                return Ok(Followed::Ahead);
            }
            if !self.merged.contains(&id) && self.branch_since(id)?.is_some() {
                return Ok(Followed::Branch);
            }
            if !self.owed(id)?.is_empty() {
                return Ok(Followed::Owed);
            }
            sent += self.send_segments(&channel, &position)?;
            match self.follow_once(&channel, position, store)? {
                Pushed::Moved(bytes) => {
                    self.ahead.remove(&id);
                    return Ok(Followed::Yes(sent + bytes));
                }
                Pushed::LostRace(_) => {
                    self.read_channel(&channel)?;
                }
                Pushed::NotHeld(packs) => {
                    // Segments are sealed for it again, data packs it is owed.
                    self.ahead.remove(&id);
                    self.forget_given(id, packs.iter().map(|pack| pack.root))?;
                    self.forget_packs(id, &packs)?;
                }
            }
        }
        Ok(Followed::Owed)
    }

    /// Gives a channel the journal segments that it lacks, from those of the first.
    fn send_segments(
        &mut self,
        channel: &OpenChannel,
        position: &Position,
    ) -> Result<u64, ClientError> {
        let first = self.layout()?.first().copied().ok_or_else(not_read)?;
        let view = self.view(channel.id).ok_or_else(not_read)?;
        let ahead = self.ahead.get(&channel.id);
        let has = |number: &PackNumber| {
            view.segments.contains_key(number)
                || ahead.is_some_and(|ahead| ahead.contains_key(number))
        };
        let missing: Vec<PackNumber> = position
            .segments
            .iter()
            .map(|segment| segment.number)
            .filter(|number| !has(number))
            .collect();
        let mut sent = 0;
        let mut waiting: Vec<(PackNumber, ObjectRef, Bytes)> = Vec::new();
        for number in missing {
            let at_first = self.view(first).ok_or_else(not_read)?;
            let pack = *at_first.segments.get(&number).ok_or_else(not_read)?;
            let (reference, bytes) = self.seal_again(first, &pack, channel)?;
            waiting.push((number, reference, bytes));
            let bytes: u64 = waiting.iter().map(|(_, pack, _)| pack.length).sum();
            if bytes >= SEGMENTS_BYTES {
                sent += self.send_vital(channel, &mut waiting)?;
            }
        }
        sent += self.send_vital(channel, &mut waiting)?;
        Ok(sent)
    }

    /// Seals a vital pack of one channel for another, under the same number, and keeps it.
    pub(crate) fn seal_again(
        &mut self,
        from: ChannelId,
        pack: &ObjectRef,
        to: &OpenChannel,
    ) -> Result<(ObjectRef, Bytes), ClientError> {
        let (_, keys) = self.keys_of(from)?;
        let bytes = self.vital_bytes(from, pack)?;
        let builder = reopened(&bytes, PackKeys::new(&keys, EPOCH, PackKind::Vital));
        let builder = builder
            .ok_or_else(|| ClientError::Corrupt(format!("vital pack {} is torn", pack.root)))?;
        let nonce = PackNonce::draw(&mut random::system());
        let sealed = builder.into_sealed(to.pack_keys(PackKind::Vital), nonce);
        self.journal.put(&sealed.reference, &sealed.bytes)?;
        Ok((sealed.reference, Bytes::from(sealed.bytes)))
    }

    fn send_vital(
        &mut self,
        channel: &OpenChannel,
        waiting: &mut Vec<(PackNumber, ObjectRef, Bytes)>,
    ) -> Result<u64, ClientError> {
        let mut uploads = Uploads::new(channel);
        let mut sent = 0;
        for (_, pack, bytes) in waiting.iter() {
            uploads.add(Upload::of_new(PackKind::Vital, *pack), bytes.clone());
            sent += pack.length;
        }
        while uploads.drive()?.is_some() {}
        let held = waiting.drain(..).map(|(number, pack, _)| (number, pack));
        self.ahead.entry(channel.id).or_default().extend(held);
        Ok(sent)
    }

    /// Returns a vital pack of a channel, from the cache or from its provider.
    fn vital_bytes(&mut self, id: ChannelId, pack: &ObjectRef) -> Result<Vec<u8>, ClientError> {
        if let Some(bytes) = self.journal.get(pack) {
            return Ok(bytes);
        }
        let channel = self.channel(id)?;
        let bytes = channel.fetch_whole(&[*pack])?.pop().unwrap_or_default();
        self.journal.put(pack, &bytes)?;
        Ok(bytes)
    }

    /// Moves a channel's head to the newest state, all of whose packs it has.
    fn follow_once(
        &mut self,
        channel: &OpenChannel,
        position: Position,
        store: StorePart,
    ) -> Result<Pushed, ClientError> {
        let first = self.layout()?.first().copied().ok_or_else(not_read)?;
        let at_first = self.view(first).ok_or_else(not_read)?;
        let view = self.view(channel.id).ok_or_else(not_read)?;
        let reader = self.catalog.reader()?;
        let there: HashMap<PackNumber, ObjectRef> = reader.packs(channel.id)?.into_iter().collect();
        let mut target: BTreeMap<ObjectRef, LiveMap> = BTreeMap::new();
        for (number, pack) in reader.packs(first)? {
            if let Some(live) = at_first.live(&pack) {
                let here = there.get(&number).ok_or_else(not_read)?;
                target.insert(*here, live.clone());
            }
        }
        let data = name_exactly(&view.data, target);
        let data = data.map_err(|error| ClientError::Bug(error.to_string()))?;
        let dictionaries = reader.dictionaries()?.into_iter();
        let dictionaries: Vec<ObjectRef> = dictionaries
            .filter(|(_, dictionary)| !dictionary.retired)
            .filter_map(|(_, dictionary)| there.get(&dictionary.chunk.pack).copied())
            .collect();
        let next = Base {
            sequence: position.sequence,
            segments: position.segments,
            tail: position.tail,
            ..Base::default()
        };
        let none = BTreeMap::new();
        let advance = Advance {
            store: store.clone(),
            next: &next,
            data,
            dictionaries: &dictionaries,
            new_segments: self.ahead.get(&channel.id).unwrap_or(&none),
        };
        let now = self.clock.now();
        let candidate = view
            .candidate(advance, &channel.keys, now, &mut random::system())
            .map_err(|error| ClientError::Bug(error.to_string()))?;
        let pushed = self.push(channel, &candidate, self.node.committed()?, &[])?;
        if let Pushed::Moved(_) = pushed {
            let journal = next.segments.iter().filter_map(|segment| {
                let pack = candidate.after.segments.get(&segment.number)?;
                Some((*segment, *pack))
            });
            let commit = Commit {
                store,
                journal: journal.collect(),
                tail: next.tail,
                extensions: maimo_core::codec::Extensions::default(),
            };
            let shown = Shown {
                view: candidate.after,
                commit: Some(commit),
            };
            self.shown.insert(channel.id, shown);
        }
        Ok(pushed)
    }
}

/// Returns a vital pack's frames as they go into a pack for another channel, under the same number.
fn reopened(bytes: &[u8], keys: PackKeys<'_>) -> Option<PackBuilder> {
    let (reader, table) = open_pack(bytes, PackKind::Vital, keys).ok()?;
    let mut builder = PackBuilder::new(table.layout.number(), PackKind::Vital);
    for (index, entry) in (0..).zip(table.layout.entries()) {
        let range = table.layout.chunk_range(index)?;
        let start = usize::try_from(range.start).ok()?;
        let sealed = bytes.get(start..usize::try_from(range.end).ok()?)?;
        let frame = reader.open_frame(entry, sealed.to_vec()).ok()?;
        builder.push(FramedChunk::new(entry, &frame)).ok()?;
    }
    builder.set_records(table.records).ok()?;
    Some(builder)
}
