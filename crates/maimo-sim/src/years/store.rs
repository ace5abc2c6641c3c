//! [`Store`]: one device with one channel and no faults, run by the shipped rules, measured as it goes.
//!
//! Invariant: every commit that a store waits for holds nothing but what that store brought; prunes, rewrites and merges are commits of
//! their own, made after it was acknowledged.

use core::cell::RefCell;
use std::collections::BTreeMap;

use maimo_core::{
    clock::Timestamp,
    head::SignedHead,
    id::ChannelId,
    identity::AuthSecretKey,
    inventory::{Change as InventoryChange, Entry},
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
};
use maimo_vault::{
    candidate::{Advance, ChannelView},
    commit::{Segment, StorePart, TailPiece, Witness},
    compose::{Base, Draft, Sealing, SegmentWriter, compose, compose_merge, write_segments},
    compress::{Codec, Level},
    demand::{Demand, Packs},
    journal::{
        batch::{Batch, Stamp},
        merge::{Judge, SegmentWeight, plan},
        metadata::Metadata,
        record::{ChunkExtent, Content, PathEvent, Record},
        state::Entry as PathEntry,
    },
    keys::{ChunkIdKey, CommitName, CommitNameKey, MasterSecret, StoreId},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
    pack::{FramedChunk, PackBuilder, PackKind, PackLayout, Piece},
    path::StorePath,
    prune::{Drops, REWRITE_STEP_BYTES, Rewrite, RewriteRules, Waste, moved, target},
};

use super::{
    chance::Chance,
    figures::Figures,
    sealer::{EPOCH, Purpose, Scales, Sealer, Upload},
};

/// How much content a first store commits at a time, in bytes.
const STEP_BYTES: u64 = 1 << 30;
/// What one put carries of a pack, in bytes.
const PUT_BYTES: u64 = 1024 * 1024;

/// Something that a run found at a path.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) path: StorePath,
    pub(super) what: What,
}

/// What a run found.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A file, new or changed.
    File {
        metadata: Metadata,
        size: u64,
        blake3: [u8; 32],
        pieces: Vec<FoundChunk>,
    },
    /// Nothing where there was something.
    Gone,
}

/// A chunk that a run met.
#[derive(Debug, Clone, Copy)]
pub(super) enum FoundChunk {
    /// It is known.
    Known(ChunkRef),
    /// It must be stored: these are the lengths of its frame and of itself.
    New { frame: u32, plain: u32 },
}

impl FoundChunk {
    /// Of lengths that a chunk can have.
    pub(super) fn new(frame: u64, plain: u64) -> Self {
        let [frame, plain] =
            [frame, plain].map(|length| u32::try_from(length).expect("chunks are short"));
        Self::New { frame, plain }
    }
}

/// One device's store on one channel.
pub(super) struct Store {
    pub(super) now: Timestamp,
    pub(super) figures: Figures,
    pub(super) source: SourceId,
    rules: RewriteRules,
    sealer: Sealer,
    id_key: ChunkIdKey,
    name_key: CommitNameKey,
    id: StoreId,
    base: Base,
    view: ChannelView,
    parent: Option<CommitName>,
    commit_length: u64,
    weights: BTreeMap<PackNumber, SegmentWeight>,
    /// Whether the first store is done.
    is_settled: bool,
    /// What frames are cut from.
    filler: Vec<u8>,
}

impl Store {
    pub(super) fn new(seed: u64, now: Timestamp, rules: RewriteRules) -> Self {
        let mut chance = Chance::new(seed);
        let secret = MasterSecret::from_entropy(&chance.bytes());
        let auth = AuthSecretKey::from_seed(&chance.bytes()).public();
        let keys = secret.channel_keys(EPOCH, &auth);
        let channel = ChannelId::derive(auth.as_bytes(), keys.client.public().as_bytes());
        let id_key = || secret.chunk_id_key(EPOCH, ChunkType::Journal, Domain::default());
        let mut filler = vec![0; 8 * 1024 * 1024];
        chance.fill(&mut filler);
        let mut ids = [[0; 16]; 2];
        for id in &mut ids {
            chance.fill(id);
        }
        let mut store = Self {
            now,
            figures: Figures::default(),
            source: SourceId(ids[0]),
            rules,
            sealer: Sealer::new(WriterId(ids[1]), channel, keys, id_key(), chance),
            id_key: id_key(),
            name_key: secret.commit_name_key(EPOCH),
            id: secret.store_id(EPOCH),
            base: Base::default(),
            view: ChannelView::new(channel),
            parent: None,
            commit_length: 0,
            weights: BTreeMap::new(),
            is_settled: false,
            filler,
        };
        let records = vec![
            Record::Source {
                source: store.source,
                label: "ann's laptop".to_owned(),
            },
            Record::Channel {
                channel,
                auth: *auth.as_bytes(),
                name: "first".to_owned(),
                addresses: vec![format!("{}.onion:443", "a".repeat(56))],
                closed: false,
            },
            Record::Layout {
                epoch: 1,
                channels: vec![channel],
            },
        ];
        let draft = store.draft(records);
        let next = store.compose(&draft);
        store.commit(next, Vec::new(), None, true);
        store
    }

    /// Returns where a path's chunks are now, if it has any.
    pub(super) fn chunks_of(&self, path: &StorePath) -> Vec<ChunkRef> {
        let state = &self.base.state;
        state
            .newest(self.source, path)
            .map(|(_, _, content, _)| state.resolve_all(content.extents()).collect())
            .unwrap_or_default()
    }

    /// Stores what a run found, in walk order: one run, one commit, and more of them only while a first store goes on. Merges follow.
    pub(super) fn store(&mut self, mut found: Vec<Found>) {
        found.sort_by(|one, other| one.path.cmp(&other.path));
        let run = self.sealer.next_record();
        let mut records = vec![(run, self.run_begin())];
        let files = found.len() as u64;
        let stored_before = self.figures.content;
        if let Some((piece, chunks)) = self.piece_of(&found) {
            let mut chunks = chunks.into_iter();
            for found in &found {
                let record = self.record_of(found, &mut chunks);
                records.push((self.sealer.next_record(), record));
            }
            records.push((
                self.sealer.next_record(),
                self.run_end(run, files, stored_before),
            ));
            let entries = piece.entries().iter();
            let sealed: u64 = entries
                .map(|entry| u64::from(entry.frame_length) + 32)
                .sum();
            if let Ok(draft) = Draft::small(piece, records) {
                self.figures.content += sealed;
                let next = self.compose(&draft);
                self.commit(next, Vec::new(), Some(run), true);
                self.merge();
                return;
            }
            // Too long for the tail after all.
            records = vec![(run, self.run_begin())];
        }
        let mut open = Open::default();
        let mut changes = Vec::new();
        let mut since = self.figures.content;
        for found in &found {
            let mut chunks = Vec::new();
            if let What::File { pieces, .. } = &found.what {
                for piece in pieces {
                    if let FoundChunk::New { frame, plain } = *piece {
                        let chunk = self.new_chunk(frame, plain);
                        chunks.push(self.push(&mut open, chunk, &mut records, &mut changes));
                    }
                }
            }
            let record = self.record_of(found, &mut chunks.into_iter());
            let id = self.sealer.next_record();
            if matches!(record, Record::File { .. }) {
                open.records.push((stamp(id), record.clone()));
            }
            records.push((id, record));
            if self.figures.content - since >= STEP_BYTES {
                since = self.figures.content;
                self.close(&mut open, Purpose::Content, &mut records, &mut changes);
                let draft = self.draft_of(core::mem::take(&mut records));
                let next = self.compose(&draft);
                self.commit(next, core::mem::take(&mut changes), Some(run), true);
            }
        }
        self.close(&mut open, Purpose::Content, &mut records, &mut changes);
        let end = self.run_end(run, files, stored_before);
        records.push((self.sealer.next_record(), end));
        let draft = self.draft_of(records);
        let next = self.compose(&draft);
        self.commit(next, changes, Some(run), true);
        self.is_settled = true;
        self.merge();
    }

    /// Lets go of what the policy does not keep, rewrites what is worth it, merges what that made dead.
    pub(super) fn prune(&mut self) {
        let drops = Drops::plan(&self.base.state, self.now);
        let mut next = None;
        if !drops.is_empty() {
            let draft = self.draft(drops.records());
            next = Some(self.compose(&draft));
        }
        let state = &next.as_ref().unwrap_or(&self.base).state;
        let demand = Demand::of(state);
        let changes = self.retarget(&demand);
        if let Some(next) = next {
            self.commit(next, changes, None, false);
        }
        self.rewrite(demand);
        self.weigh();
        self.merge();
    }

    /// Returns the changes that make the data inventory name what is demanded.
    fn retarget(&mut self, demand: &Demand) -> Vec<InventoryChange> {
        let targets = target(demand, self.sealer.data.values().map(|pack| &pack.layout));
        let mut changes = Vec::new();
        let mut gone = Vec::new();
        for (number, pack) in &self.sealer.data {
            let root = pack.reference.root;
            let before = self.view.data.entry(&root);
            match targets.get(number) {
                Some(live) if before.is_none_or(|entry| entry.live() != live) => {
                    changes.push(set(pack.reference, live.clone()));
                }
                Some(_) => {}
                None => {
                    if before.is_some() {
                        changes.push(InventoryChange::Remove(root));
                    }
                    gone.push(*number);
                }
            }
        }
        for number in gone {
            self.sealer.data.remove(&number);
        }
        changes
    }

    /// Writes again what is wasteful or small, step by step, and measures the waste that is left.
    fn rewrite(&mut self, mut demand: Demand) {
        let layouts = || self.sealer.data.values().map(|pack| &pack.layout);
        let targets = target(&demand, layouts());
        let rewrite = Rewrite::plan(&demand, layouts(), &targets, self.rules);
        if !rewrite.is_empty() {
            let records_of = self.records_by_last_chunk(&rewrite);
            let mut steps: Vec<Vec<ChunkRef>> = Vec::new();
            let mut left = 0;
            for chunk in &rewrite.chunks {
                let length = self.entry_of(*chunk).frame_length + 32;
                if left < u64::from(length) {
                    left = REWRITE_STEP_BYTES;
                    steps.push(Vec::new());
                }
                left -= u64::from(length);
                steps.last_mut().expect("one was just begun").push(*chunk);
            }
            let count = steps.len();
            for (number, step) in steps.into_iter().enumerate() {
                let is_last = number + 1 == count;
                demand = self
                    .rewrite_step(&step, &records_of, is_last)
                    .unwrap_or(demand);
            }
        }
        let layouts = || self.sealer.data.values().map(|pack| &pack.layout);
        let waste = Waste::of(&demand, layouts(), &target(&demand, layouts()));
        self.figures.data_living = waste.living;
        // In thousandths of a percent first: the integers are exact.
        if let Some(share) = (waste.waste * 100_000).checked_div(waste.living) {
            let share = u32::try_from(share).unwrap_or(u32::MAX);
            self.figures.waste_percent.add(f64::from(share) / 1000.0);
        }
    }

    /// Commits new copies of `chunks`; the last step lets go of the old ones and returns the demand after it.
    fn rewrite_step(
        &mut self,
        chunks: &[ChunkRef],
        records_of: &BTreeMap<ChunkRef, (Stamp, Record)>,
        is_last: bool,
    ) -> Option<Demand> {
        let mut records = Vec::new();
        let mut changes = Vec::new();
        let mut open = Open::default();
        for chunk in chunks {
            let entry = *self.entry_of(*chunk);
            let frame = &self.filler[..entry.frame_length as usize];
            if !open.fits(frame.len()) {
                self.close(&mut open, Purpose::Rewrite, &mut records, &mut changes);
            }
            let frame = &self.filler[..entry.frame_length as usize];
            let builder = open.builder(&mut self.sealer);
            builder
                .push(FramedChunk::new(&entry, frame))
                .expect("it was held against the room left");
            open.moved.push(*chunk);
            open.records.extend(records_of.get(chunk).cloned());
        }
        self.close(&mut open, Purpose::Rewrite, &mut records, &mut changes);
        let draft = self.draft_of(records);
        let next = self.compose(&draft);
        let mut demand = None;
        if is_last {
            let after = Demand::of(&next.state);
            changes = self.retarget(&after);
            demand = Some(after);
        }
        self.commit(next, changes, None, false);
        demand
    }

    /// Returns the records of kept files whose last chunk is to be rewritten: the new pack's table repeats them.
    fn records_by_last_chunk(&self, rewrite: &Rewrite) -> BTreeMap<ChunkRef, (Stamp, Record)> {
        let state = &self.base.state;
        let mut records = BTreeMap::new();
        for ((source, path), entries) in state.paths() {
            for (stamp, entry) in entries {
                let PathEntry::Revision { metadata, content } = entry else {
                    continue;
                };
                let last = state.resolve_all(content.extents()).last();
                let Some(last) = last.filter(|last| rewrite.packs.contains(&last.pack)) else {
                    continue;
                };
                if state.is_kept(stamp.id) {
                    let record = Record::File {
                        source: *source,
                        path: path.clone(),
                        metadata: metadata.clone(),
                        content: content.clone(),
                    };
                    records.insert(last, (*stamp, record));
                }
            }
        }
        records
    }

    fn entry_of(&self, chunk: ChunkRef) -> &maimo_vault::pack::Entry {
        let layout = &self.sealer.data[&chunk.pack].layout;
        &layout.entries()[chunk.index as usize]
    }

    /// Merges segments for as long as the plan finds any worth it: each merge a commit of its own, after the last was acknowledged.
    fn merge(&mut self) {
        loop {
            let weights: Vec<SegmentWeight> = self
                .base
                .segments
                .iter()
                .map(|one| self.weight(one))
                .collect();
            let Some(chosen) = plan(&weights) else {
                return;
            };
            let read: BTreeMap<PackNumber, Vec<Batch>> = chosen
                .iter()
                .map(|index| self.base.segments[*index].number)
                .map(|number| (number, self.sealer.read_segment(number)))
                .collect();
            let read = RefCell::new(read);
            let base = core::mem::take(&mut self.base);
            let writer = SegmentWriter {
                id_key: &self.id_key,
                level: Level::default(),
            };
            let next = compose_merge(
                base,
                &chosen,
                |segment| {
                    read.borrow_mut()
                        .remove(&segment.number)
                        .unwrap_or_default()
                },
                &writer,
                &mut self.sealer,
            );
            self.commit(next, Vec::new(), None, false);
        }
    }

    fn weight(&self, segment: &Segment) -> SegmentWeight {
        self.weights
            .get(&segment.number)
            .copied()
            .unwrap_or_else(|| SegmentWeight {
                level: segment.level,
                length: self.view.segments[&segment.number].length,
                dead: 0,
            })
    }

    /// Weighs all segments anew, as records die when runs are dropped.
    fn weigh(&mut self) {
        let judge = Judge::new(&self.base.state);
        self.weights = self
            .base
            .segments
            .iter()
            .map(|segment| {
                let length = self.view.segments[&segment.number].length;
                let records = self.records_in(*segment);
                (segment.number, judge.weigh(segment.level, length, records))
            })
            .collect();
    }

    fn records_in(&self, segment: Segment) -> Vec<(Stamp, Record)> {
        let batches = self.sealer.read_segment(segment.number);
        batches
            .into_iter()
            .flat_map(|batch| batch.into_records(segment.sequence))
            .collect()
    }

    /// Measures what a recovery reads now; `with_ratio` also against the kept records merged into one, which takes its time.
    pub(super) fn sample(&mut self, with_ratio: bool) {
        let journal: u64 = self
            .view
            .segments
            .values()
            .map(|segment| segment.length)
            .sum();
        let head = self
            .view
            .head
            .as_ref()
            .map_or(0, |head| head.encode().len() as u64);
        let read = head + self.commit_length + journal;
        self.figures.recovery.count(read);
        self.figures
            .recovery_packs
            .count(self.base.segments.len() as u64);
        self.figures.journal = journal;
        self.figures.data_packs = self.view.data.len();
        self.figures.vital_packs = self.view.vital.len();
        let nodes = self.view.data.nodes().chain(self.view.vital.nodes());
        self.figures.inventory = nodes.map(|(_, bytes)| bytes.len() as u64).sum();
        if !with_ratio {
            return;
        }
        let mut all: Vec<(Stamp, Record)> = self
            .base
            .segments
            .iter()
            .flat_map(|one| self.records_in(*one))
            .collect();
        for tail in &self.base.tail {
            let batch = Batch::parse(tail.piece.records()).expect("it was encoded here");
            all.extend(batch.into_records(tail.sequence));
        }
        let live = self.weigh_merged(Judge::new(&self.base.state).merge(all));
        let share = u32::try_from(read * 100_000 / live.max(1)).unwrap_or(u32::MAX);
        self.figures
            .recovery_ratio
            .add(f64::from(share) / 100_000.0);
    }

    fn weigh_merged(&self, records: Vec<(Stamp, Record)>) -> u64 {
        let mut scales = Scales {
            writer: self.sealer.writer,
            packs: 0,
            bytes: 0,
        };
        let writer = SegmentWriter {
            id_key: &self.id_key,
            level: Level::default(),
        };
        write_segments(records, &writer, &mut scales);
        scales.bytes
    }

    /// Holds the newest head against the client's rule: every chunk of every kept revision has living bytes.
    ///
    /// # Panics
    ///
    /// Where one has not.
    pub(super) fn check(&self) {
        Demand::of(&self.base.state)
            .check(self)
            .expect("what is kept is held");
    }

    fn compose(&mut self, draft: &Draft) -> Base {
        let writer = SegmentWriter {
            id_key: &self.id_key,
            level: Level::default(),
        };
        self.sealer.purpose = Purpose::Commit;
        compose(
            core::mem::take(&mut self.base),
            draft,
            &writer,
            &mut self.sealer,
        )
    }

    /// Moves the head to `next` and measures what that took.
    fn commit(
        &mut self,
        next: Base,
        mut changes: Vec<InventoryChange>,
        run: Option<RecordId>,
        is_waited_for: bool,
    ) {
        let uploads = self.sealer.take_uploads();
        let mut new_segments = BTreeMap::new();
        for upload in &uploads {
            match upload.kind {
                PackKind::Vital => {
                    new_segments.insert(upload.number, upload.reference);
                }
                // A spilled tail's.
                PackKind::Data if upload.purpose == Purpose::Commit => {
                    changes.push(set_whole(upload.reference));
                }
                PackKind::Data => {}
            }
        }
        let store = StorePart {
            store: self.id,
            sequence: next.sequence,
            parents: self.parent.into_iter().collect(),
            writer: self.sealer.writer,
            run,
            layout_epoch: 1,
            witnesses: self
                .view
                .head
                .iter()
                .map(|head| self.witness(head))
                .collect(),
        };
        self.parent = Some(store.name(&self.name_key));
        let advance = Advance {
            store,
            next: &next,
            data: changes,
            dictionaries: &[],
            new_segments: &new_segments,
        };
        let candidate = self
            .view
            .candidate(
                advance,
                &self.sealer.keys,
                self.now,
                self.sealer.chance.rng(),
            )
            .expect("the rules make heads that can be");
        let (request, ahead) = candidate.request();
        let sent: u64 = ahead.iter().map(|node| node.len() as u64).sum();
        self.measure(
            &uploads,
            request.encode().len() as u64 + sent,
            ahead.len() as u64,
            is_waited_for,
        );
        self.commit_length = candidate.commit.len() as u64;
        for segment in self.view.segments.keys() {
            if !candidate.after.segments.contains_key(segment) {
                self.sealer.forget_segment(*segment);
                self.weights.remove(segment);
            }
        }
        self.view = candidate.after;
        self.base = next;
    }

    fn measure(&mut self, uploads: &[Upload], request: u64, nodes_ahead: u64, is_waited_for: bool) {
        let figures = &mut self.figures;
        let mut bytes = request;
        let mut requests = 1 + nodes_ahead;
        for upload in uploads {
            let length = upload.reference.length;
            if upload.kind == PackKind::Data {
                figures.data_uploaded += length;
                if upload.purpose != Purpose::Rewrite {
                    figures.first_packs += length;
                }
            }
            if upload.purpose != Purpose::Content {
                bytes += length;
                requests += length.div_ceil(PUT_BYTES);
            }
        }
        figures.commits += 1;
        figures.commit_bytes.count(bytes);
        figures.requests.count(requests);
        if is_waited_for {
            figures.waited_bytes.count(bytes);
            if self.is_settled {
                figures.waited_later_bytes.count(bytes);
            }
        }
    }

    fn witness(&self, head: &SignedHead) -> Witness {
        Witness {
            channel: self.sealer.channel,
            sequence: head.head().sequence,
            root: head.root(),
        }
    }

    fn draft(&mut self, records: Vec<Record>) -> Draft {
        let records = records
            .into_iter()
            .map(|record| (self.sealer.next_record(), record))
            .collect();
        self.draft_of(records)
    }

    /// Puts records in the tail if they fit, else in segments of their own.
    fn draft_of(&mut self, records: Vec<(RecordId, Record)>) -> Draft {
        let records = if records.len() <= 64 {
            let piece = Piece::new(self.sealer.next_pack());
            match Draft::small(piece, records) {
                Ok(draft) => return draft,
                Err((_, records)) => records,
            }
        } else {
            records
        };
        self.sealer.purpose = Purpose::Commit;
        let writer = SegmentWriter {
            id_key: &self.id_key,
            level: Level::default(),
        };
        Draft::large(records, &writer, &mut self.sealer)
    }

    /// Puts the new chunks of a few small files into a piece, if they fit one, and returns where they are.
    fn piece_of(&mut self, found: &[Found]) -> Option<(Piece, Vec<ChunkRef>)> {
        let lengths: Vec<(u32, u32)> = found
            .iter()
            .filter_map(|found| match &found.what {
                What::File { pieces, .. } => Some(pieces),
                What::Gone => None,
            })
            .flatten()
            .filter_map(|piece| match piece {
                FoundChunk::New { frame, plain } => Some((*frame, *plain)),
                FoundChunk::Known(_) => None,
            })
            .collect();
        let total: usize = lengths.iter().map(|(frame, _)| *frame as usize).sum();
        if found.len() > 32 || total > Draft::PIECE_BYTES_MAX {
            return None;
        }
        let mut piece = Piece::new(self.sealer.next_pack());
        let mut chunks = Vec::new();
        for (frame, plain) in lengths {
            let chunk = self.new_chunk(frame, plain);
            let index = piece.push(chunk.framed(&self.filler)).ok()?;
            chunks.push(ChunkRef {
                pack: piece.number(),
                index,
            });
        }
        Some((piece, chunks))
    }

    fn new_chunk(&mut self, frame: u32, plain: u32) -> NewChunk {
        let room = self.filler.len() - frame as usize;
        NewChunk {
            id: ChunkId(self.sealer.chance.bytes()),
            at: self.sealer.chance.index(room),
            frame,
            plain,
        }
    }

    /// Puts a chunk into the open pack, or into the next one if that is full.
    fn push(
        &mut self,
        open: &mut Open,
        chunk: NewChunk,
        records: &mut Vec<(RecordId, Record)>,
        changes: &mut Vec<InventoryChange>,
    ) -> ChunkRef {
        if !open.fits(chunk.frame as usize) {
            self.close(open, Purpose::Content, records, changes);
        }
        self.figures.content += u64::from(chunk.frame) + 32;
        let builder = open.builder(&mut self.sealer);
        let index = builder
            .push(chunk.framed(&self.filler))
            .expect("it was held against the room left");
        ChunkRef {
            pack: builder.number(),
            index,
        }
    }

    /// Seals the open pack, if there is one, and says so in `records` and `changes`.
    fn close(
        &mut self,
        open: &mut Open,
        purpose: Purpose,
        records: &mut Vec<(RecordId, Record)>,
        changes: &mut Vec<InventoryChange>,
    ) {
        let Open {
            builder,
            records: repeated,
            moved: from,
        } = core::mem::take(open);
        let Some(mut builder) = builder else {
            return;
        };
        let number = builder.number();
        builder
            .set_records(Batch::new(repeated).encode())
            .expect("their length was held against the room left");
        self.sealer.purpose = purpose;
        for (channel, reference) in self.sealer.seal(builder) {
            changes.push(set_whole(reference));
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            records.push((self.sealer.next_record(), record));
        }
        for record in moved(&from, number, 0) {
            records.push((self.sealer.next_record(), record));
        }
    }

    fn record_of(&self, found: &Found, new: &mut impl Iterator<Item = ChunkRef>) -> Record {
        let (source, path) = (self.source, found.path.clone());
        match &found.what {
            What::File {
                metadata,
                size,
                blake3,
                pieces,
            } => {
                let chunks = pieces.iter().map(|piece| match piece {
                    FoundChunk::Known(chunk) => *chunk,
                    FoundChunk::New { .. } => new.next().expect("each was given a place"),
                });
                Record::File {
                    source,
                    path,
                    metadata: metadata.clone(),
                    content: Content::Regular {
                        size: *size,
                        blake3: *blake3,
                        chunks: ChunkExtent::join(chunks),
                    },
                }
            }
            What::Gone => Record::Path {
                source,
                path,
                event: PathEvent::Gone,
            },
        }
    }

    const fn run_begin(&self) -> Record {
        Record::RunBegin {
            source: self.source,
            time: self.now.0,
        }
    }

    const fn run_end(&self, run: RecordId, files: u64, stored_before: u64) -> Record {
        Record::RunEnd {
            run,
            // A store takes a moment.
            time: self.now.0 + 700 + stored_before % 900,
            files,
            bytes_stored: self.figures.content - stored_before,
        }
    }
}

impl Packs for Store {
    fn tail_chunks(&self, number: PackNumber) -> Option<u32> {
        let mut tail = self.base.tail.iter();
        let piece = tail.find(|TailPiece { piece, .. }| piece.number() == number)?;
        u32::try_from(piece.piece.entries().len()).ok()
    }

    fn layout(&self, number: PackNumber) -> Option<&PackLayout> {
        self.sealer.data.get(&number).map(|pack| &pack.layout)
    }

    fn live(&self, number: PackNumber) -> Option<&LiveMap> {
        let reference = self.base.state.pack(number, self.sealer.channel)?;
        self.view.live(&reference)
    }
}

/// A pack that chunks go into, and what will be said of them.
#[derive(Default)]
struct Open {
    builder: Option<PackBuilder>,
    /// Records of the files that end in it.
    records: Vec<(Stamp, Record)>,
    /// Where its chunks were before.
    moved: Vec<ChunkRef>,
}

impl Open {
    /// More than the encoding of any record here takes, in bytes.
    const RECORD_BYTES: usize = 200;

    fn fits(&self, frame: usize) -> bool {
        let records = (self.records.len() + 1) * Self::RECORD_BYTES;
        self.builder
            .as_ref()
            .is_none_or(|builder| builder.would_fit(frame, records))
    }

    fn builder(&mut self, sealer: &mut Sealer) -> &mut PackBuilder {
        self.builder
            .get_or_insert_with(|| PackBuilder::new(sealer.next_pack(), PackKind::Data))
    }
}

/// A chunk as it is met for the first time.
#[derive(Debug, Clone, Copy)]
struct NewChunk {
    id: ChunkId,
    /// Where in the filler its frame is.
    at: usize,
    frame: u32,
    plain: u32,
}

impl NewChunk {
    fn framed<'f>(&self, filler: &'f [u8]) -> FramedChunk<'f> {
        FramedChunk {
            id: self.id,
            chunk_type: ChunkType::Content,
            domain: Domain::default(),
            codec: if self.frame < self.plain {
                Codec::Zstd
            } else {
                Codec::Raw
            },
            dictionary: None,
            plaintext_length: self.plain,
            frame: &filler[self.at..self.at + self.frame as usize],
        }
    }
}

const fn stamp(id: RecordId) -> Stamp {
    Stamp { sequence: 0, id }
}

fn set(reference: ObjectRef, live: LiveMap) -> InventoryChange {
    let entry = Entry::new(reference, live).expect("packs of the builder are packs");
    InventoryChange::Set(entry)
}

fn set_whole(reference: ObjectRef) -> InventoryChange {
    let count = groups(reference.length);
    set(
        reference,
        LiveMap::full(u32::try_from(count).unwrap_or(u32::MAX)),
    )
}
