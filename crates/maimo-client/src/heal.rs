//! Healing: what is known to be damaged is stored again, wherever its bytes are still to be had.
//!
//! ```text
//! known damage -> the chunks that kept revisions need of it -> elsewhere in the store | files of this machine | what is sound on any channel
//!              -> new packs, and `moved` records to them -> a head that names the old groups no more -> the damage is forgotten
//! segment, dictionary -> sealed again from what is cached of it -> a head that names the old pack no more
//! ```
//!
//! No revision is made and none changes: only where its chunks are. A chunk that nothing has stays where the journal says; the head goes on
//! naming it, its damage stays known, and the revisions that take it are named as lost. Every commit is planned from the whole state, anew
//! after a lost race, so a healing that is cut off is finished by the next.
//!
//! Invariant: a group is let go of only if no kept revision needs it any more: `commit` holds each head to that.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maimo_core::{audit::Stratum, id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_net::connect::Load;
use maimo_vault::{
    compose::{Base, Sealing as _},
    compress::{Compressor, Level},
    dedup::DedupIndex,
    demand::Demand,
    dictionary::Dictionary,
    journal::{batch::Stamp, record::Record, repeat::Repeat},
    layout::Layout,
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId, WriterId},
    pack::{Entry, FramedChunk, PackBuilder, PackKeys, PackKind, PackLayout},
    prune::{moved, target},
};

use crate::{
    catalog::DictionaryVersion,
    commit::{Change, Naming, Outcome, Sealer, too_busy},
    damage::{DamageRow, TouchedRevision, broken_chunks, touched},
    engine::Engine,
    error::ClientError,
    fetch::{CatalogPacks, FetchError, Locator, Opener, Wanted},
    journal_cache::open_dictionary,
    keys::EPOCH,
    local_chunks::{Framing, LocalChunks},
    progress::{Control, Event, Phase},
    prune::entry_of,
    retrieve::fetch,
};

/// What healing came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealReport {
    /// Chunks that were stored again, or are now taken from another place in the store.
    pub chunks: u64,
    /// Journal segments and dictionaries that were written again.
    pub vital: u64,
    /// Bytes sent to all channels.
    pub bytes_sent: u64,
    /// The kept revisions of which nothing has all bytes any more.
    pub lost: Vec<TouchedRevision>,
    /// Journal segments and dictionaries that are damaged and that nothing else has.
    pub vital_lost: u64,
}

impl HealReport {
    /// Returns whether nothing was known to be damaged that could be healed or was lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How often it is planned anew after other devices were faster.
const ATTEMPTS: u32 = 8;
/// How many bytes of chunks are stored again by one commit.
const STEP_BYTES: u64 = 64 * 1024 * 1024;
/// How many bytes of frames go into one new pack.
const PACK_FRAMES_BYTES: u64 = 15 * 1024 * 1024;

/// A chunk, and its plaintext or why that cannot be had.
pub(crate) type ChunkRead = (ChunkRef, Result<Vec<u8>, FetchError>);

/// What one step came to.
enum Step {
    /// Nothing is left that could be healed.
    Done,
    /// It stands, and there may be more.
    More,
    /// Another device was faster.
    Superseded,
}

/// What is broken of one state.
struct Broken {
    base: Base,
    layouts: BTreeMap<PackNumber, PackLayout>,
    chunks: BTreeSet<ChunkRef>,
    known: DedupIndex,
}

impl Engine {
    /// Heals what is known to be damaged on the layout's channels, on top of the newest state that was read.
    pub(crate) fn heal(&mut self, control: &Control) -> Result<HealReport, ClientError> {
        let mut report = HealReport::default();
        if self.node.damage()?.is_empty() {
            return Ok(report);
        }
        control.tell(Event::Phase(Phase::Repairing));
        let mut lost: BTreeSet<ChunkRef> = BTreeSet::new();
        let mut later: BTreeSet<ChunkRef> = BTreeSet::new();
        let mut attempts = 0;
        loop {
            control.check()?;
            if !self.heal_vital(&mut report, control)? {
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(too_busy());
                }
                continue;
            }
            match self.heal_step(&mut lost, &mut later, &mut report, control)? {
                Step::Done => break,
                Step::More => attempts = 0,
                Step::Superseded => attempts += 1,
            }
            if attempts == ATTEMPTS {
                return Err(too_busy());
            }
        }
        self.tell_lost(&lost, &mut report)?;
        Ok(report)
    }

    fn damage_of_layout(&self) -> Result<Vec<DamageRow>, ClientError> {
        let layout = self.layout()?;
        let mut rows = self.node.damage()?;
        rows.retain(|row| layout.contains(&row.channel));
        Ok(rows)
    }

    /// Notes of which packs something is lost for good, and names the revisions.
    fn tell_lost(
        &mut self,
        lost: &BTreeSet<ChunkRef>,
        report: &mut HealReport,
    ) -> Result<(), ClientError> {
        let reader = self.catalog.reader()?;
        let mut broken: BTreeMap<PackNumber, BTreeSet<u32>> = BTreeMap::new();
        for chunk in lost {
            broken.entry(chunk.pack).or_default().insert(chunk.index);
        }
        for row in self.damage_of_layout()? {
            if row.damaged.stratum == Stratum::Vital {
                continue;
            }
            let mut is_lost = false;
            for number in broken.keys() {
                is_lost |= reader.pack(*number, row.channel)? == Some(row.damaged.pack);
            }
            self.node.mark_lost(&row, is_lost)?;
        }
        report.lost = touched(&reader, &broken)?;
        Ok(())
    }

    /// Finds the chunks that kept revisions need and that are damaged on some channel; nothing where that cannot be said of all.
    fn broken(&mut self, rows: &[DamageRow]) -> Result<Option<Broken>, ClientError> {
        let base = self.replay()?;
        let layouts = self.layouts_of(&base)?;
        let demand = Demand::of(&base.state);
        let is_tail =
            |number: PackNumber| base.tail.iter().any(|tail| tail.piece.number() == number);
        let is_known = |number| is_tail(number) || layouts.contains_key(&number);
        if !demand.packs().all(is_known) {
            return Ok(None);
        }
        let channels = self.layout()?;
        let mut chunks = BTreeSet::new();
        for (number, layout) in &layouts {
            for row in rows {
                let here = base.state.pack(*number, row.channel);
                if row.damaged.stratum == Stratum::Vital || here != Some(row.damaged.pack) {
                    continue;
                }
                let broken = broken_chunks(layout, &row.damaged.groups);
                let needed = demand.of_pack(*number);
                chunks.extend(needed.filter(|index| broken.contains(index)).map(|index| {
                    ChunkRef {
                        pack: *number,
                        index,
                    }
                }));
            }
        }
        let mut sound: BTreeMap<ChannelId, HashMap<ObjectRef, LiveMap>> = BTreeMap::new();
        for id in &channels {
            sound.insert(*id, self.sound(*id)?);
        }
        let live = |channel: ChannelId, pack: &ObjectRef| {
            let sound = sound.get(&channel).and_then(|sound| sound.get(pack));
            sound.or_else(|| self.view(channel)?.live(pack))
        };
        let layout = Layout { epoch: 0, channels };
        let known = DedupIndex::new(&base.state, &layout, layouts.values(), &base.tail, live);
        Ok(Some(Broken {
            base,
            layouts,
            chunks,
            known,
        }))
    }

    /// Commits new copies of some of what is broken. `lost` are the chunks that nothing has, `later` those of which that cannot be said now.
    fn heal_step(
        &mut self,
        lost: &mut BTreeSet<ChunkRef>,
        later: &mut BTreeSet<ChunkRef>,
        report: &mut HealReport,
        control: &Control,
    ) -> Result<Step, ClientError> {
        let rows = self.damage_of_layout()?;
        if rows.iter().all(|row| row.damaged.stratum == Stratum::Vital) {
            return Ok(Step::Done);
        }
        let Some(broken) = self.broken(&rows)? else {
            control.tell(Event::Notice(
                "what is damaged cannot be healed: where the chunks of some packs stand is not known".to_owned(),
            ));
            return Ok(Step::Done);
        };
        let wanted: BTreeSet<ChunkRef> = broken
            .chunks
            .iter()
            .filter(|chunk| !lost.contains(chunk) && !later.contains(chunk))
            .copied()
            .collect();
        let mut found = Found::default();
        let mut missing = Vec::new();
        let reader = self.catalog.reader()?;
        let mut copies =
            LocalChunks::in_catalog(&reader, self.node.source(), |chunk| wanted.contains(&chunk))?;
        drop(reader);
        let dictionary = self.dictionary_for_healing();
        let mut framing = Framing::new(dictionary.as_ref());
        let mut is_all = true;
        for chunk in &wanted {
            control.check()?;
            let Some(entry) = entry_of(&broken.layouts, *chunk) else {
                continue;
            };
            if let Some(elsewhere) = broken.known.find(&entry.id) {
                found.places.insert(*chunk, elsewhere);
            } else if !found.has(&entry.id, *chunk) {
                if found.bytes >= STEP_BYTES {
                    is_all = false;
                    break;
                }
                match copies.read(*chunk, entry, &self.keys) {
                    Some(plain) => self.put(*chunk, framing.frame(entry, &plain), &mut found)?,
                    None => missing.push(*chunk),
                }
            }
        }
        for some in missing.chunk_by(|one, next| one.pack == next.pack) {
            control.check()?;
            for (chunk, outcome) in self.read_from_channels(some)? {
                let Some(entry) = entry_of(&broken.layouts, chunk) else {
                    continue;
                };
                match outcome {
                    Ok(plain) if self.keys.content_key(entry.domain).id(&plain) == entry.id => {
                        self.put(chunk, framing.frame(entry, &plain), &mut found)?;
                    }
                    Err(FetchError::Away { .. } | FetchError::Unserved { .. }) => {
                        later.insert(chunk);
                    }
                    _ => {
                        lost.insert(chunk);
                    }
                }
            }
        }
        if found.places.is_empty() && !lets_go_of(&broken, &rows) {
            return Ok(if is_all { Step::Done } else { Step::More });
        }
        let chunks = found.places.len() as u64;
        let moving = Moving {
            base: &broken.base,
            layouts: &broken.layouts,
            builders: found.builders,
            moves: moves_of(&found.places),
        };
        let Some(sent) = self.commit_moved(moving, control)? else {
            return Ok(Step::Superseded);
        };
        report.chunks += chunks;
        report.bytes_sent += sent;
        Ok(Step::More)
    }

    /// Seals packs, sends them, and commits that chunks have moved there; what nothing needs any more is let go of. Returns how many bytes were
    /// sent; nothing where it must be planned anew.
    fn commit_moved(
        &mut self,
        moving: Moving<'_>,
        control: &Control,
    ) -> Result<Option<u64>, ClientError> {
        let channels = self.channels()?;
        let as_of = moving.base.sequence + 1;
        let mut after = moving.base.state.clone();
        for (counter, record) in (0..).zip(&moving.moves) {
            let writer = WriterId([0xfe; 16]);
            let stamp = Stamp {
                sequence: as_of,
                id: RecordId { writer, counter },
            };
            after.apply(stamp, record.clone());
        }
        let mut records: Vec<(RecordId, Record)> = Vec::new();
        let mut sealer = Sealer::new(self, &channels);
        for mut builder in moving.builders {
            let number = builder.number();
            let repeat = Repeat::of_moved(&after, as_of, |chunk| chunk.pack == number);
            // Where the records are too long for a pack's table, the journal alone tells of these files.
            let _ = builder.set_records(repeat.encode());
            for (channel, reference) in sealer.seal(builder) {
                let record = Record::Pack {
                    number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
        }
        sealer.send()?;
        let sent = sealer.sent;
        let new_layouts = core::mem::take(&mut sealer.layouts);
        drop(sealer);
        for record in moving.moves {
            records.push((self.node.next_record(), record));
        }
        let demand = Demand::of(&after);
        let targets = target(&demand, moving.layouts.values().chain(&new_layouts));
        let change = Change {
            records,
            layouts: new_layouts,
            naming: Naming::Exactly(targets),
            ..Change::default()
        };
        match self.commit(change, control)? {
            Outcome::Committed(committed) => Ok(Some(sent + committed.sent)),
            Outcome::Superseded => Ok(None),
        }
    }

    /// Puts a chunk into the pack that is being filled.
    fn put(
        &self,
        chunk: ChunkRef,
        (entry, frame): (Entry, &[u8]),
        found: &mut Found,
    ) -> Result<(), ClientError> {
        let length = frame.len() as u64;
        if found.room < length {
            let number = self.node.next_pack();
            found
                .builders
                .push(PackBuilder::new(number, PackKind::Data));
            found.room = PACK_FRAMES_BYTES;
        }
        found.room = found.room.saturating_sub(length);
        found.bytes += u64::from(entry.plaintext_length);
        let builder = found.builders.last_mut();
        let builder = builder.ok_or_else(|| ClientError::Bug("no pack is open".to_owned()))?;
        let index = builder
            .push(FramedChunk::new(&entry, frame))
            .map_err(|error| ClientError::Bug(error.to_string()))?;
        let to = ChunkRef {
            pack: builder.number(),
            index,
        };
        found.by_id.insert(entry.id, to);
        found.places.insert(chunk, to);
        Ok(())
    }

    /// Returns the dictionary that small chunks are compressed with, where it can be had: they do without.
    fn dictionary_for_healing(&mut self) -> Option<Dictionary> {
        let known = self.dictionary_bytes().ok()??;
        Dictionary::new(known.0, known.1, Level::default()).ok()
    }

    /// Reads chunks of one pack from whichever channel has them right.
    pub(crate) fn read_from_channels(
        &mut self,
        chunks: &[ChunkRef],
    ) -> Result<Vec<ChunkRead>, ClientError> {
        let channels = self.reachable(Load::Light)?;
        let reader = self.catalog.reader()?;
        let fetch = fetch(&channels, &self.keys);
        let packs = CatalogPacks::new(&reader);
        let mut locator = Locator::new(&fetch, &packs);
        let mut wanted = Wanted::default();
        let mut places = Vec::new();
        for chunk in chunks {
            let place = locator.find(*chunk);
            if let Ok(place) = &place {
                place.want(&mut wanted);
            }
            places.push((*chunk, place));
        }
        let fetched = fetch.read(wanted);
        let mut opener = Opener::new(&fetch);
        let mut outcomes = Vec::with_capacity(chunks.len());
        for (chunk, place) in places {
            let outcome = match (&fetched, place) {
                (_, Err(error)) => Err(error),
                (Err(error), Ok(_)) => Err(error.clone()),
                (Ok(fetched), Ok(place)) => opener.open(fetched, &place),
            };
            outcomes.push((chunk, outcome));
        }
        self.look_into_read(&fetch, &channels)?;
        Ok(outcomes)
    }

    /// Writes damaged journal segments and dictionaries again, from what is cached of them. Returns whether it stands.
    fn heal_vital(
        &mut self,
        report: &mut HealReport,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let rows = self.damage_of_layout()?;
        let rows: Vec<&DamageRow> = rows
            .iter()
            .filter(|row| row.damaged.stratum == Stratum::Vital)
            .collect();
        if rows.is_empty() {
            return Ok(true);
        }
        let first = self.first()?;
        report.vital_lost = 0;
        let mut chosen = Vec::new();
        let mut is_cached: HashMap<ObjectRef, bool> = HashMap::new();
        for (index, segment) in self.catalog.position()?.segments.iter().enumerate() {
            let on = |id| self.view(id)?.segments.get(&segment.number).copied();
            let damaged = rows
                .iter()
                .filter(|row| on(row.channel) == Some(row.damaged.pack));
            let damaged: Vec<_> = damaged.collect();
            if damaged.is_empty() {
                continue;
            }
            let here = on(first.id).is_some_and(|pack| self.journal.get(&pack).is_some());
            if here {
                chosen.push(index);
            }
            is_cached.extend(damaged.iter().map(|row| (row.damaged.pack, here)));
        }
        let reader = self.catalog.reader()?;
        let mut dictionaries = Vec::new();
        for DictionaryVersion { id, known, .. } in reader.dictionary_versions()? {
            for row in &rows {
                if reader.pack(known.chunk.pack, row.channel)? != Some(row.damaged.pack) {
                    continue;
                }
                let pack = reader.pack(known.chunk.pack, first.id)?;
                let bytes = pack.and_then(|pack| self.journal.get(&pack));
                let keys = PackKeys::new(&first.keys, EPOCH, PackKind::Vital);
                let plain = bytes.and_then(|bytes| {
                    open_dictionary(&bytes, keys, &self.keys, known.chunk.index).ok()
                });
                is_cached.insert(row.damaged.pack, plain.is_some());
                dictionaries.extend(plain.map(|plain| (id, known.domain, known.retired, plain)));
            }
        }
        dictionaries.dedup_by_key(|(id, ..)| *id);
        for row in rows {
            let is_lost = is_cached.get(&row.damaged.pack) == Some(&false);
            report.vital_lost += u64::from(is_lost);
            self.node.mark_lost(row, is_lost)?;
        }
        if !chosen.is_empty() {
            let count = chosen.len() as u64;
            let change = Change {
                merge: Some(chosen),
                ..Change::default()
            };
            let Outcome::Committed(committed) = self.commit(change, control)? else {
                return Ok(false);
            };
            report.vital += count;
            report.bytes_sent += committed.sent;
        }
        if !dictionaries.is_empty() {
            let count = dictionaries.len() as u64;
            let ids: Vec<ChunkId> = dictionaries.iter().map(|(id, ..)| *id).collect();
            let (mut records, sent) = self.seal_dictionaries(dictionaries)?;
            records.extend(self.newest_said_last(&ids)?);
            let change = Change {
                records,
                ..Change::default()
            };
            let Outcome::Committed(committed) = self.commit(change, control)? else {
                return Ok(false);
            };
            report.vital += count;
            report.bytes_sent += committed.sent + sent;
        }
        Ok(true)
    }

    /// Seals dictionaries again, a pack each, and sends them. Returns what the journal is to say of them, and how many bytes were sent.
    fn seal_dictionaries(
        &mut self,
        dictionaries: Vec<(ChunkId, Domain, bool, Vec<u8>)>,
    ) -> Result<(Vec<(RecordId, Record)>, u64), ClientError> {
        let channels = self.channels()?;
        let mut records = Vec::new();
        let mut sealer = Sealer::new(self, &channels);
        let mut compressor = Compressor::new(Level::default());
        for (id, domain, retired, bytes) in dictionaries {
            let frame = compressor.compress(&bytes, None);
            let number = self.node.next_pack();
            let mut builder = PackBuilder::new(number, PackKind::Vital);
            let index = builder
                .push(FramedChunk {
                    id,
                    chunk_type: ChunkType::Dictionary,
                    domain,
                    codec: frame.codec,
                    dictionary: None,
                    plaintext_length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                    frame: frame.bytes,
                })
                .map_err(|error| ClientError::Bug(error.to_string()))?;
            for (channel, reference) in sealer.seal(builder) {
                let record = Record::Pack {
                    number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
            let record = Record::Dictionary {
                id,
                domain,
                chunk: ChunkRef {
                    pack: number,
                    index,
                },
                retired,
            };
            records.push((self.node.next_record(), record));
        }
        sealer.send()?;
        Ok((records, sealer.sent))
    }
}

/// Chunks that go from where they are to other packs.
struct Moving<'a> {
    /// The state in which they are where they are.
    base: &'a Base,
    /// Where the chunks of its packs stand: all that anything is needed of.
    layouts: &'a BTreeMap<PackNumber, PackLayout>,
    /// The new packs.
    builders: Vec<PackBuilder>,
    /// What says where chunks are now.
    moves: Vec<Record>,
}

/// What was found of what is broken, in the making.
#[derive(Default)]
struct Found {
    /// Where broken chunks are now.
    places: BTreeMap<ChunkRef, ChunkRef>,
    by_id: HashMap<ChunkId, ChunkRef>,
    builders: Vec<PackBuilder>,
    room: u64,
    bytes: u64,
}

impl Found {
    /// Returns whether a chunk of this id was put into a pack a moment ago, and takes that one.
    fn has(&mut self, id: &ChunkId, chunk: ChunkRef) -> bool {
        let known = self.by_id.get(id).copied();
        self.places.extend(known.map(|to| (chunk, to)));
        known.is_some()
    }
}

/// Returns whether a head that names no more than what is needed would no longer name some of the damage.
fn lets_go_of(broken: &Broken, rows: &[DamageRow]) -> bool {
    let demand = Demand::of(&broken.base.state);
    let targets = target(&demand, broken.layouts.values());
    let is_needed = |row: &DamageRow| {
        let mut packs = broken.base.state.packs(row.channel);
        let number = packs.find(|(_, pack)| *pack == row.damaged.pack);
        let needed = number.and_then(|(number, _)| targets.get(&number));
        needed.is_some_and(|needed| needed.intersects(&row.damaged.groups))
    };
    rows.iter()
        .any(|row| row.damaged.stratum == Stratum::Data && !is_needed(row))
}

/// Returns the records that say where chunks are now: those that follow one another in both packs move as one.
fn moves_of(places: &BTreeMap<ChunkRef, ChunkRef>) -> Vec<Record> {
    let places: Vec<(ChunkRef, ChunkRef)> = places.iter().map(|(from, to)| (*from, *to)).collect();
    let runs = places.chunk_by(|(from, to), (next, after)| {
        from.pack == next.pack
            && from.index + 1 == next.index
            && to.pack == after.pack
            && to.index + 1 == after.index
    });
    let moves = runs.flat_map(|run| {
        let chunks: Vec<ChunkRef> = run.iter().map(|(from, _)| *from).collect();
        moved(&chunks, run[0].1.pack, run[0].1.index)
    });
    moves.collect()
}
