//! Committing: a change becomes the store's next state, or is turned to the state that another device made first.
//!
//! ```text
//!  change -> draft: in the tail, or in segments that leave now -> compose -> name packs -> the client's rule -> candidate
//!     ^                                                                                                          |
//!     |                                                       root written down, then sent ----------------------'
//!     '--- turned, where all it takes still lives <- sync <- lost race           '-- receipt: seen, committed, taken into the catalog
//! ```
//!
//! Nothing here needs the whole journal in memory, and a store that waits for its acknowledgement reads none of it: what a spilled tail asks for is
//! looked up in the catalog. A merge replays the part that its own records ask for; where packs are let go, the revisions are read past one by one
//! for what they need.
//!
//! Invariant: a head leaves only after its root was written down, and only if every chunk that the change needs lives in it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use maimo_core::{
    id::{ChannelId, RootHash},
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_net::connect::Load;
use maimo_vault::{
    candidate::{Advance, Candidate, CandidateError, name_also, name_exactly},
    commit::{Commit, StorePart, TAIL_BYTES_MAX, TailPiece, Witness},
    compose::{Base, Body, Draft, compose},
    demand::{Demand, check_change},
    descent::Seen,
    journal::{
        batch::{Batch, Stamp},
        part::Part,
        record::Record,
        state::{Dictionary, State},
    },
    name::{ChunkId, PackNumber, RecordId},
    pack::{PackLayout, Piece},
    prune::target,
};

use crate::{
    catalog::{Position, TakeIn},
    engine::{Engine, Shown},
    error::ClientError,
    local_stat::LocalStat,
    progress::{Control, Event, Phase},
    random,
    recover::layouts,
    session::OpenChannel,
};

mod follow;
mod lost_race;
mod merge;
mod naming;
mod prepare;
mod push;
mod revive;
mod sealer;
mod spill;

pub(crate) use follow::Followed;
pub(crate) use sealer::Sealer;

use naming::{KnownPacks, Living, Named};
use push::Pushed;

/// How often a change is tried again after other devices were faster.
const ATTEMPTS: u32 = 16;

/// What is to be committed.
#[derive(Default)]
pub(crate) struct Change {
    /// The new records, those of new packs among them.
    pub(crate) records: Vec<(RecordId, Record)>,
    /// Small chunks that may ride in the tail; [`Self::records`] name them by its number.
    pub(crate) piece: Option<Piece>,
    /// Where the chunks of the new data packs stand.
    pub(crate) layouts: Vec<PackLayout>,
    /// What the head names beside what [`Self::records`] need.
    pub(crate) naming: Naming,
    /// How this machine found the paths of the records.
    pub(crate) local: HashMap<RecordId, LocalStat>,
    /// The run it belongs to.
    pub(crate) run: Option<RecordId>,
    /// Records that are written again, stamped as they were.
    pub(crate) restored: Vec<(Stamp, Record)>,
    /// Segments to be merged, by index; nothing else is changed then.
    pub(crate) merge: Option<Vec<usize>>,
    /// Whether it holds on the state that it was made for alone: another device's makes it superseded.
    pub(crate) is_fixed: bool,
    /// A state that this one joins beside the one it is built on.
    pub(crate) joined: Option<StorePart>,
}

/// What a head is to name of the data packs.
pub(crate) enum Naming {
    /// What the new records need, and these groups as well: all else stays as it is.
    Also(BTreeMap<PackNumber, LiveMap>),
    /// These groups and nothing else. Never turned after a lost race: what may go is worked out anew then.
    Exactly(BTreeMap<PackNumber, LiveMap>),
}

impl Default for Naming {
    fn default() -> Self {
        Self::Also(BTreeMap::new())
    }
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is acknowledged.
    Committed(Committed),
    /// Another device was faster and the change does not stand on what it made: it must be made anew. The catalog is at the newest state.
    Superseded,
}

/// An acknowledged commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// Its store sequence.
    pub(crate) sequence: u64,
    /// The root of each channel that shows it.
    pub(crate) roots: Vec<(ChannelId, RootHash)>,
    /// Bytes sent for it, packs sealed beforehand not counted.
    pub(crate) sent: u64,
}

/// A change whose records are written where they go.
struct Prepared {
    change: Change,
    draft: Draft,
    /// Where the draft's segments are, by channel.
    vital: BTreeMap<ChannelId, BTreeMap<PackNumber, ObjectRef>>,
    sent: u64,
}

enum Attempt {
    Done(Committed),
    LostRace(Seen),
    NotHeld(Vec<ObjectRef>),
    /// Chunks that it needs do not open without these dictionaries, which are retired.
    Retired(Vec<(ChunkId, Dictionary)>),
}

impl Engine {
    /// Gives records their names and commits them: for changes that take nothing by dedup and seal nothing.
    pub(crate) fn commit_records(
        &mut self,
        records: &[Record],
        control: &Control,
    ) -> Result<Committed, ClientError> {
        for _ in 0..ATTEMPTS {
            let named = records.iter().cloned();
            let change = Change {
                records: named
                    .map(|record| (self.node.next_record(), record))
                    .collect(),
                ..Change::default()
            };
            if let Outcome::Committed(committed) = self.commit(change, control)? {
                return Ok(committed);
            }
        }
        Err(too_busy())
    }

    /// Commits a change on top of the newest state, which has been read ([`Self::sync`]) by this process.
    ///
    /// # Errors
    ///
    /// Whatever a provider refuses. A call that was not answered may have been: the next sync finds out.
    pub(crate) fn commit(
        &mut self,
        change: Change,
        control: &Control,
    ) -> Result<Outcome, ClientError> {
        control.tell(Event::Phase(Phase::Committing));
        let channels = self.answering(Load::Light)?;
        if !self.shown.contains_key(&channels[0].id) && self.sync(control)?.has_twin {
            return Ok(Outcome::Superseded);
        }
        let mut prepared = self.prepare(change, &channels)?;
        for _ in 0..ATTEMPTS {
            control.check()?;
            match self.attempt(&mut prepared, &channels)? {
                Attempt::Done(mut committed) => {
                    let sequence = committed.sequence;
                    control.tell(Event::Committed { sequence });
                    committed.sent += self.let_mirrors_follow(control)?;
                    committed.roots = self.roots()?;
                    return Ok(Outcome::Committed(committed));
                }
                Attempt::LostRace(sent) => {
                    let synced = self.sync(control)?;
                    if synced.taken == Some(sent) {
                        // It was ours: the records have come in as another device's would.
                        self.catalog.refresh_local(prepared.change.local)?;
                        self.let_mirrors_follow(control)?;
                        return Ok(Outcome::Committed(self.standing(prepared.sent)?));
                    }
                    let is_first = self.layout()?.first() == Some(&channels[0].id);
                    if synced.has_twin || !is_first || !lost_race::stands(&prepared.change) {
                        return Ok(Outcome::Superseded);
                    }
                    prepared = match self.rebase(prepared.change)? {
                        Some(turned) if turned.is_turned => {
                            self.prepare(turned.change, &channels)?
                        }
                        Some(turned) => Prepared {
                            change: turned.change,
                            ..prepared
                        },
                        None => return Ok(Outcome::Superseded),
                    };
                }
                Attempt::Retired(dictionaries) => {
                    let sent = prepared.sent;
                    let change = self.name_dictionaries(prepared.change, dictionaries)?;
                    prepared = self.prepare(change, &channels)?;
                    prepared.sent += sent;
                }
                Attempt::NotHeld(packs) => {
                    self.forget_packs(channels[0].id, &packs)?;
                    return Ok(Outcome::Superseded);
                }
            }
        }
        Err(too_busy())
    }

    /// Returns the newest acknowledged state.
    fn standing(&mut self, sent: u64) -> Result<Committed, ClientError> {
        Ok(Committed {
            sequence: self.catalog.position()?.sequence,
            roots: self.roots()?,
            sent,
        })
    }

    /// Returns the root that each channel of the layout was last seen to show.
    pub(crate) fn roots(&self) -> Result<Vec<(ChannelId, RootHash)>, ClientError> {
        let layout = self.layout()?;
        let seen = self.node.all_seen()?;
        let of = |id: &ChannelId| {
            let mut seen = seen.iter();
            seen.find(|(seen, _)| seen == id)
                .map(|(id, seen)| (*id, seen.root))
        };
        Ok(layout.iter().filter_map(of).collect())
    }

    /// Composes the next state, checks it, sends it.
    fn attempt(
        &mut self,
        prepared: &mut Prepared,
        channels: &[Arc<OpenChannel>],
    ) -> Result<Attempt, ClientError> {
        let first = &channels[0];
        let position = self.catalog.position()?;
        let spills = match &prepared.draft.body {
            Body::Piece(piece) => {
                Commit::tail_bytes(&position.tail) + piece.encoded_length() > TAIL_BYTES_MAX
            }
            Body::Segments(_) => false,
        };
        let (mut sealed, mut sealed_bytes) = (Vec::new(), 0);
        let exactly = matches!(prepared.change.naming, Naming::Exactly(_));
        let restores = !prepared.change.restored.is_empty();
        // What is pinned or written again may be of revisions that no policy kept, and whose packs were let go.
        let pins =
            |(_, record): &(RecordId, Record)| matches!(record, Record::Pin { pinned: true, .. });
        let keeps_more = restores || prepared.change.records.iter().any(pins);
        let whole = exactly || keeps_more;
        let merges = prepared.change.merge.is_some();
        let mut recalled = BTreeMap::new();
        if spills {
            recalled = self.may_recall(&position, first);
        }
        let base = match (whole, spills) {
            (true, true) => self.replay_for_spill(&position, &prepared.change, &recalled)?,
            // What all need is read past below.
            (true, false) => self.replay_part(&Part::default())?,
            (false, true) => self.base_for_spill(&position, &prepared.change, &recalled)?,
            (false, false) => self.partial(&position)?,
        };
        // Only into what is replayed may compose look; the records then belong to the state.
        let mut draft = prepared.draft.clone();
        let records = prepared.change.records.iter();
        let belong = |(_, record): &&(RecordId, Record)| {
            whole || spills || matches!(record, Record::Layout { .. })
        };
        draft.records = records.filter(belong).cloned().collect();
        draft.restored.clone_from(&prepared.change.restored);
        let mut vital = prepared.vital.clone();
        let mut merged = None;
        let next = if let Some(chosen) = &prepared.change.merge {
            let done = self.merge_segments(base, chosen, channels)?;
            vital.extend(done.vital.clone());
            let next = done.next.clone();
            merged = Some(done);
            next
        } else {
            let writer = self.segment_writer();
            let mut sealer = Sealer::new(self, channels);
            for (number, batches) in recalled {
                sealer.may_recall(number, batches);
            }
            let next = compose(base, &draft, &writer, &mut sealer);
            sealer.send()?;
            sealed = sealer.layouts;
            sealed_bytes = sealer.sent;
            for (channel, packs) in sealer.vital {
                vital.entry(channel).or_default().extend(packs);
            }
            next
        };
        for (id, packs) in vital.iter().filter(|(id, _)| **id != first.id) {
            // Held there, or the mirror's provider will say so.
            self.ahead.entry(*id).or_default().extend(packs);
        }
        let reader = self.catalog.reader()?;
        let mut vanished = None;
        // As many as a store commits at a time are not to be in memory twice.
        let is_plain = !spills && !restores && !merges;
        let records = if let Some(merged) = merged {
            sealed_bytes = merged.sent;
            vanished = Some(merged.vanished);
            merged.turned
        } else if is_plain {
            let sequence = next.sequence;
            let own = core::mem::take(&mut prepared.change.records).into_iter();
            let own = own.map(|(id, record)| (Stamp { sequence, id }, record));
            let mut records: Vec<(Stamp, Record)> = own.collect();
            records.sort_by_key(|(stamp, _)| *stamp);
            records
        } else {
            self.records_of_next(prepared, &next, &position, spills, &vital, first)?
        };
        let sent = prepared.sent + sealed_bytes;
        let naming = Named::new(&reader, &records, first.id);
        let mut known = KnownPacks::default();
        for layout in prepared.change.layouts.iter().chain(&sealed) {
            known.layouts.insert(layout.number(), layout.clone());
        }
        let demand = if whole {
            self.demand_of(&next, first)?
        } else if merges {
            // It writes again what is there.
            Demand::default()
        } else if spills {
            naming.demand_of(&next.state, &sealed)
        } else {
            naming.demand()?
        };
        let view = self.view(first.id).ok_or_else(not_read)?.clone();
        let is_tail =
            |number: PackNumber| next.tail.iter().any(|tail| tail.piece.number() == number);
        for number in demand.packs().filter(|number| !is_tail(*number)) {
            naming.look_up(number, &mut known)?;
        }
        // Packs of another device, or of before a recovery: where their chunks stand has to be read.
        let missing: Vec<ObjectRef> = demand
            .packs()
            .filter(|number| !is_tail(*number) && !known.layouts.contains_key(number))
            .filter_map(|number| known.objects.get(&number).copied())
            .collect();
        for layout in layouts::read_all(first, &missing)? {
            known.layouts.insert(layout.number(), layout);
        }
        let retired = naming.retired_of(&demand, &known, &next.tail)?;
        if !retired.is_empty() {
            if is_plain {
                prepared.change.records = unstamped(records);
            }
            return Ok(Attempt::Retired(retired));
        }
        let data = match &prepared.change.naming {
            Naming::Also(more) => {
                let mut targets = target(&demand, known.layouts.values());
                for (number, live) in more {
                    naming.look_up(*number, &mut known)?;
                    let live = match targets.get(number) {
                        Some(needed) => needed.union(live),
                        None => live.clone(),
                    };
                    targets.insert(*number, live);
                }
                name_also(&view.data, known.objects_of(targets)?)
            }
            Naming::Exactly(targets) => {
                let mut targets = targets.clone();
                // What this commit's own spill has moved out of the tail, which nobody knew of when the targets were worked out.
                targets.extend(target(&demand, &sealed));
                for number in targets.keys() {
                    naming.look_up(*number, &mut known)?;
                }
                name_exactly(&view.data, known.objects_of(targets)?)
            }
        };
        let data = data.map_err(|error| ClientError::Bug(error.to_string()))?;
        let store = self.store_part(&position, &next, &prepared.change)?;
        let dictionaries = naming.dictionaries()?;
        let none = BTreeMap::new();
        let advance = Advance {
            store: store.clone(),
            next: &next,
            data,
            dictionaries: &dictionaries,
            new_segments: vital.get(&first.id).unwrap_or(&none),
        };
        let now = self.clock.now();
        let candidate = view
            .candidate(advance, &first.keys, now, &mut random::system())
            .map_err(|error| match error {
                CandidateError::NoSegment(_) => {
                    ClientError::Corrupt("a journal segment is not where it was".to_owned())
                }
                error => ClientError::Bug(error.to_string()),
            })?;
        let living = Living {
            next: &next,
            known: &known,
            candidate: &candidate,
        };
        check_change(&Demand::default(), demand.chunks(), [], &living)
            .map_err(|error| ClientError::Bug(error.to_string()))?;
        let attempt = self.send(
            prepared, first, &candidate, next, store, &records, sealed, vanished, sent,
        )?;
        if is_plain && !matches!(attempt, Attempt::Done(_)) {
            prepared.change.records = unstamped(records);
        }
        Ok(attempt)
    }

    /// Sends a candidate; takes it in once it is acknowledged.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of one procedure, called once"
    )]
    fn send(
        &mut self,
        prepared: &mut Prepared,
        first: &OpenChannel,
        candidate: &Candidate,
        next: Base,
        store: StorePart,
        records: &[(Stamp, Record)],
        mut layouts: Vec<PackLayout>,
        vanished: Option<Vec<RecordId>>,
        sent: u64,
    ) -> Result<Attempt, ClientError> {
        let named: Vec<PackNumber> = records
            .iter()
            .filter_map(|(_, record)| match record {
                Record::Pack { number, .. } => Some(*number),
                _ => None,
            })
            .collect();
        let sent = match self.push(first, candidate, self.node.given(), &named)? {
            Pushed::Moved(bytes) => sent + bytes,
            Pushed::LostRace(seen) => return Ok(Attempt::LostRace(seen)),
            Pushed::NotHeld(packs) => return Ok(Attempt::NotHeld(packs)),
        };
        let vanished = match vanished {
            Some(vanished) => vanished,
            None => self.vanished(&next, first)?,
        };
        let replaced = self.catalog.position()?.segments;
        let replaces = replaced
            .iter()
            .any(|segment| !next.segments.contains(segment));
        let journal = next.segments.iter().filter_map(|segment| {
            let pack = candidate.after.segments.get(&segment.number)?;
            Some((*segment, *pack))
        });
        let commit = Commit {
            store: store.clone(),
            journal: journal.collect(),
            tail: next.tail.clone(),
            extensions: maimo_core::codec::Extensions::default(),
        };
        let position = Position {
            sequence: next.sequence,
            store: Some(store),
            segments: next.segments,
            tail: next.tail,
        };
        self.shown.insert(
            first.id,
            Shown {
                view: candidate.after.clone(),
                commit: Some(commit),
            },
        );
        layouts.append(&mut prepared.change.layouts);
        let with = TakeIn {
            position: &position,
            local: &prepared.change.local,
            layouts: &layouts,
            vanished: &vanished,
        };
        if let Err(error) = self.catalog.take_in(records, &with) {
            // The commit stands. A view that cannot follow it is built anew, now or by the next process.
            if !error.wants_rebuild() {
                return Err(error.into());
            }
            self.rebuild_catalog()?;
            let commit = self
                .shown
                .get(&first.id)
                .and_then(|shown| shown.commit.clone());
            if let Some(commit) = commit {
                self.catch_up(&first.id, &commit, None, &Control::default())?;
            }
        }
        if replaces {
            self.sweep_journal()?;
        }
        Ok(Attempt::Done(Committed {
            sequence: position.sequence,
            roots: self.roots()?,
            sent,
        }))
    }

    /// Returns what a commit is built on that needs no more of the journal than how the store is spread.
    fn partial(&self, position: &Position) -> Result<Base, ClientError> {
        let mut state = State::default();
        if let Some(layout) = self.catalog.reader()?.store_layout()? {
            let id = RecordId {
                writer: maimo_vault::name::WriterId([0; 16]),
                counter: 0,
            };
            let record = Record::Layout {
                epoch: layout.epoch,
                channels: layout.channels,
            };
            state.apply(Stamp { sequence: 0, id }, record);
        }
        Ok(Base {
            sequence: position.sequence,
            state,
            segments: position.segments.clone(),
            tail: position.tail.clone(),
        })
    }

    /// Returns the records of every segment and piece that the next state lists and the present one does not, as the catalog takes them in.
    fn records_of_next(
        &self,
        prepared: &Prepared,
        next: &Base,
        position: &Position,
        spills: bool,
        vital: &BTreeMap<ChannelId, BTreeMap<PackNumber, ObjectRef>>,
        first: &OpenChannel,
    ) -> Result<Vec<(Stamp, Record)>, ClientError> {
        let own = prepared.change.records.iter().cloned();
        let own = own.map(|(id, record)| {
            let sequence = next.sequence;
            (Stamp { sequence, id }, record)
        });
        let own = own.chain(prepared.change.restored.iter().cloned());
        let mut records: Vec<(Stamp, Record)> = own.collect();
        if spills {
            let none = BTreeMap::new();
            let vital = vital.get(&first.id).unwrap_or(&none);
            records.clear();
            for segment in &next.segments {
                if position.segments.contains(segment) {
                    continue;
                }
                let pack = vital.get(&segment.number).ok_or_else(not_read)?;
                for batch in self.batches(pack, &first.keys)? {
                    records.extend(batch.into_records(segment.sequence));
                }
            }
            let is_fresh = |tail: &&TailPiece| !position.tail.contains(tail);
            for tail in next.tail.iter().filter(is_fresh) {
                let batch = Batch::parse(tail.piece.records())
                    .map_err(|error| ClientError::Bug(error.to_string()))?;
                records.extend(batch.into_records(tail.sequence));
            }
        }
        records.sort_by_key(|(stamp, _)| *stamp);
        Ok(records)
    }

    /// Returns the names of the records in segments that `next` lists no more.
    fn vanished(&self, next: &Base, first: &OpenChannel) -> Result<Vec<RecordId>, ClientError> {
        let Some(before) = self.view(first.id) else {
            return Ok(Vec::new());
        };
        let mut ids = Vec::new();
        for (number, pack) in &before.segments {
            if next
                .segments
                .iter()
                .all(|segment| segment.number != *number)
            {
                for batch in self.batches(pack, &first.keys)? {
                    ids.extend(batch.records().iter().map(|(stamp, _)| stamp.id));
                }
            }
        }
        Ok(ids)
    }

    fn store_part(
        &self,
        position: &Position,
        next: &Base,
        change: &Change,
    ) -> Result<StorePart, ClientError> {
        let parents = position.store.iter();
        let parents = parents.chain(&self.joined).chain(&change.joined);
        let witnesses = self.node.all_seen()?;
        Ok(StorePart {
            store: self.keys.store,
            sequence: next.sequence,
            parents: parents
                .map(|store| store.name(&self.keys.commits))
                .collect(),
            writer: self.node.writer(),
            run: change.run,
            layout_epoch: next.state.layout().0,
            witnesses: witnesses
                .into_iter()
                .map(|(channel, seen)| Witness {
                    channel,
                    sequence: seen.sequence,
                    root: seen.root,
                })
                .collect(),
        })
    }
}

/// Returns records under the names they have, as a change brings them.
fn unstamped(records: Vec<(Stamp, Record)>) -> Vec<(RecordId, Record)> {
    let records = records.into_iter();
    records.map(|(stamp, record)| (stamp.id, record)).collect()
}

fn not_read() -> ClientError {
    ClientError::Bug("a channel was written to before it was read".to_owned())
}

pub(crate) fn too_busy() -> ClientError {
    ClientError::Input {
        message: "other devices were faster, again and again".to_owned(),
        hint: Some("run the command again once they are done"),
    }
}
