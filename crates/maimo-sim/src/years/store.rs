//! [`Store`]: one device with one channel and no faults, run by the shipped rules, measured as it goes.
//!
//! Invariant: every commit that a store waits for holds nothing but what that store brought; prunes, rewrites and merges are commits of
//! their own, made after it was acknowledged.

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
    commit::{StorePart, TailPiece, Witness},
    compose::{Base, Draft, Sealing, SegmentWriter, compose},
    compress::Level,
    demand::{Demand, Packs},
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        merge::SegmentWeight,
        metadata::Metadata,
        record::{PathEvent, Record},
    },
    keys::{ChunkIdKey, CommitName, CommitNameKey, MasterSecret, StoreId},
    name::{ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
    pack::{PackKind, PackLayout, Piece},
    path::StorePath,
    prune::RewriteRules,
};

use super::{
    chance::Chance,
    figures::Figures,
    sealer::{EPOCH, Purpose, Sealer},
};

mod chunks;
mod measure;
mod upkeep;

use chunks::Open;

/// How much content a first store commits at a time, in bytes.
const STEP_BYTES: u64 = 1 << 30;

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
