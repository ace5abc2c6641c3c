//! Claims about composing: whatever is committed, merged and spilled, the state kept is the state that a reader replays, and every kept
//! revision leads to its own chunks.

use std::{cell::Cell, collections::BTreeSet};

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;

use super::*;
use crate::{
    compress::Decompressor,
    dictionary::Dictionary,
    journal::{
        content::{ChunkExtent, Content},
        metadata::Metadata,
        record::PathEvent,
        state::Presence,
    },
    keys::{ChannelKeys, MasterSecret},
    name::ChunkId,
    pack::{ChunkContext, OpenedTable, PackKeys, PackNonce, open_pack},
    path::StorePath,
    testing::{
        CHANNEL, EPOCH, SOURCE, WRITER, channel_keys, chunk, dropped, file, id, moved, number,
        path, piece, raw, replay, rng,
    },
};

/// The journal's id key, and a context that knows no other.
struct JournalKey(ChunkIdKey);

impl ChunkContext for JournalKey {
    fn id_key(&self, of: ChunkType, _: Domain) -> Option<&ChunkIdKey> {
        (of == ChunkType::Journal).then_some(&self.0)
    }

    fn dictionary(&self, _: &ChunkId) -> Option<&Dictionary> {
        None
    }
}

/// A client of one channel that keeps what it seals.
struct Client {
    keys: ChannelKeys,
    journal: JournalKey,
    rng: ChaCha20Rng,
    next: Watermark,
    /// What is in each segment sealed, opened again.
    segments: BTreeMap<PackNumber, Vec<Batch>>,
    /// The table of each data pack sealed.
    data: BTreeMap<PackNumber, OpenedTable>,
    /// Whether segments are at hand.
    recalls: bool,
    /// How many segments were given back.
    recalled: Cell<usize>,
}

impl Sealing for Client {
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef> {
        let (kind, number) = (builder.kind(), builder.number());
        let keys = PackKeys::new(&self.keys, EPOCH, kind);
        let pack = builder.seal(keys, PackNonce::draw(&mut self.rng));
        let (reader, table) = open_pack(&pack.bytes, kind, keys).unwrap();
        if kind == PackKind::Data {
            self.data.insert(number, table);
        } else {
            let mut batches = Vec::new();
            for (index, entry) in (0..).zip(table.layout.entries()) {
                let range = table.layout.chunk_range(index).unwrap();
                let range =
                    usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                let sealed = pack.bytes[range].to_vec();
                let mut decompressor = Decompressor::new();
                let opened = reader.open_chunk(entry, sealed, &self.journal, &mut decompressor);
                batches.push(Batch::parse(&opened.unwrap()).unwrap());
            }
            self.segments.insert(number, batches);
        }
        BTreeMap::from([(CHANNEL, pack.reference)])
    }

    fn next_pack(&mut self) -> PackNumber {
        self.next.packs += 1;
        number(self.next.packs - 1)
    }

    fn next_record(&mut self) -> RecordId {
        self.next.records += 1;
        id(self.next.records - 1)
    }

    fn recall(&mut self, segment: Segment) -> Option<Vec<Batch>> {
        self.recalled
            .set(self.recalled.get() + usize::from(self.recalls));
        self.recalls.then(|| self.segments[&segment.number].clone())
    }
}

impl Client {
    fn new(recalls: bool) -> Self {
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let journal = secret.chunk_id_key(EPOCH, ChunkType::Journal, Domain::default());
        Self {
            keys: channel_keys(1),
            journal: JournalKey(journal),
            rng: rng(),
            next: Watermark::default(),
            segments: BTreeMap::new(),
            data: BTreeMap::new(),
            recalls,
            recalled: Cell::new(0),
        }
    }

    fn with_writer<T>(&mut self, act: impl FnOnce(&SegmentWriter<'_>, &mut Self) -> T) -> T {
        // The key is lent to the writer while the client seals.
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let id_key = secret.chunk_id_key(EPOCH, ChunkType::Journal, Domain::default());
        let level = Level::new(1).unwrap();
        let writer = SegmentWriter {
            id_key: &id_key,
            level,
        };
        act(&writer, self)
    }

    fn name(&mut self, records: Vec<Record>) -> Vec<(RecordId, Record)> {
        let named = records
            .into_iter()
            .map(|record| (self.next_record(), record));
        named.collect()
    }

    /// Commits records with a piece of the tail, or in segments where they do not fit it.
    fn commit(&mut self, base: Base, piece: Piece, records: Vec<(RecordId, Record)>) -> Base {
        self.with_writer(|writer, client| {
            let draft = Draft::small(piece, records)
                .unwrap_or_else(|(_, records)| Draft::large(records, writer, client));
            compose(base, &draft, writer, client)
        })
    }

    fn commit_large(&mut self, base: Base, records: Vec<(RecordId, Record)>) -> Base {
        self.with_writer(|writer, client| {
            let draft = Draft::large(records, writer, client);
            compose(base, &draft, writer, client)
        })
    }

    fn merge(&mut self, base: Base, chosen: &[usize]) -> Base {
        let segments = self.segments.clone();
        let read = |segment: Segment| segments[&segment.number].clone();
        self.with_writer(|writer, client| compose_merge(base, chosen, read, writer, client))
    }

    /// Replays what a reader of the commit finds: its segments and its tail.
    fn replayed(&self, base: &Base) -> State {
        let mut state = State::default();
        let segments = base.segments.iter().flat_map(|segment| {
            let batches = self.segments[&segment.number].iter();
            batches.map(|batch| (segment.sequence, batch.clone()))
        });
        let tail = base.tail.iter().map(|tail| {
            let batch = Batch::parse(tail.piece.records()).unwrap();
            (tail.sequence, batch)
        });
        for (sequence, batch) in segments.chain(tail) {
            for (stamp, record) in batch.into_records(sequence) {
                state.apply(stamp, record);
            }
        }
        state
    }

    /// Returns the id of the chunk that stands at a place, if there is any.
    fn chunk_at(&self, base: &Base, at: ChunkRef) -> Option<ChunkId> {
        let tail = base.tail.iter().find(|tail| tail.piece.number() == at.pack);
        let entries = match tail {
            Some(tail) => tail.piece.entries(),
            None => self.data.get(&at.pack)?.layout.entries(),
        };
        Some(entries.get(at.index as usize)?.id)
    }

    /// Returns each kept revision's chunks, by id.
    fn kept(&self, base: &Base) -> BTreeMap<RecordId, Vec<Option<ChunkId>>> {
        let revisions = base.state.kept_revisions();
        let chunks = |content: &Content| {
            let chunks = base.state.resolve_all(content.extents());
            chunks.map(|chunk| self.chunk_at(base, chunk)).collect()
        };
        revisions
            .map(|(id, content)| (id, chunks(content)))
            .collect()
    }
}

/// A commit of a made-up life.
#[derive(Debug, Clone)]
enum Act {
    /// A file of a new chunk and, by dedup, one of a kept revision; and how long its record is.
    Store(u8, u8, usize),
    /// The same, in segments of its own.
    StoreLarge(u8, u8, usize),
    Event(u8, PathEvent),
    DropRevision(u8),
    Pin(u8, bool),
    /// Writes a kept revision's first chunk again in another pack.
    Rewrite(u8),
    Merge(u32),
}

fn act() -> impl Strategy<Value = Act> {
    let event = prop_oneof![
        Just(PathEvent::Gone),
        Just(PathEvent::Evicted),
        Just(PathEvent::Found),
        Just(PathEvent::Removed)
    ];
    let long = prop_oneof![3 => Just(40), 1 => Just(1500), 1 => Just(5000)];
    prop_oneof![
        8 => (0..5_u8, any::<u8>(), long).prop_map(|(name, known, long)| Act::Store(name, known, long)),
        1 => (0..5_u8, any::<u8>()).prop_map(|(name, known)| Act::StoreLarge(name, known, 40)),
        2 => (0..5_u8, event).prop_map(|(name, event)| Act::Event(name, event)),
        3 => any::<u8>().prop_map(Act::DropRevision),
        1 => any::<(u8, bool)>().prop_map(|(of, pinned)| Act::Pin(of, pinned)),
        1 => any::<u8>().prop_map(Act::Rewrite),
        2 => any::<u32>().prop_map(Act::Merge),
    ]
}

fn named(name: u8) -> StorePath {
    path(&format!("f{name}"))
}

/// What must come of a life: the revisions kept, with their chunks.
type Owed = BTreeMap<RecordId, Vec<Option<ChunkId>>>;

/// Commits one act; `log` gathers all that was ever written, but for what moved.
fn commit(
    client: &mut Client,
    base: Base,
    act: &Act,
    log: &mut Vec<(Stamp, Record)>,
    chunks: &mut BTreeMap<RecordId, Vec<ChunkId>>,
) -> Base {
    let revisions: Vec<RecordId> = base.state.kept_revisions().map(|(id, _)| id).collect();
    let pick = |n: u8| {
        revisions
            .get(usize::from(n) % revisions.len().max(1))
            .copied()
    };
    let first_of = |revision: RecordId| {
        let mut kept = base.state.kept_revisions();
        let (_, content) = kept.find(|(id, _)| *id == revision)?;
        let mut chunks = base.state.resolve_all(content.extents());
        let at = chunks.next()?;
        Some((at, client.chunk_at(&base, at)?))
    };
    let is_large = matches!(act, Act::StoreLarge(..));
    match act {
        Act::Store(name, known, long) | Act::StoreLarge(name, known, long) => {
            let known = pick(*known).and_then(first_of);
            let pack = client.next_pack();
            let new = ChunkId(*blake3::hash(&pack.n.to_le_bytes()).as_bytes());
            let bytes = vec![3; 300 + long / 4];
            let mut piece = Piece::new(pack);
            let mut records = Vec::new();
            let here = ChunkRef { pack, index: 0 };
            if is_large {
                let mut builder = PackBuilder::new(pack, PackKind::Data);
                builder.push(raw(new, &bytes)).unwrap();
                for (channel, reference) in client.seal(builder) {
                    records.push(Record::Pack {
                        number: pack,
                        channel,
                        reference,
                    });
                }
                piece = Piece::new(client.next_pack());
            } else {
                piece.push(raw(new, &bytes)).unwrap();
            }
            let both = core::iter::once((here, new)).chain(known);
            let (places, ids): (Vec<_>, Vec<_>) = both.unzip();
            records.push(Record::File {
                source: SOURCE,
                path: named(*name),
                metadata: Metadata {
                    xattrs: vec![(b"user.a".to_vec(), noise(*long, pack.n))],
                    ..Metadata::default()
                },
                content: Content::Regular {
                    size: 9,
                    blake3: [4; 32],
                    chunks: ChunkExtent::join(places),
                },
            });
            let records = client.name(records);
            chunks.insert(records.last().unwrap().0, ids);
            // Chunks do not travel where records do not fit beside them.
            let fits = Draft::small(piece.clone(), records.clone()).is_ok();
            if !is_large && !fits {
                let (_, record) = records.last().unwrap().clone();
                chunks.remove(&records.last().unwrap().0);
                let empty = Record::File {
                    source: SOURCE,
                    path: named(*name),
                    metadata: metadata_of(record),
                    content: Content::Folder,
                };
                let records = vec![(records[0].0, empty)];
                log.extend(stamped(base.sequence + 1, &records));
                return client.commit(base, Piece::new(pack), records);
            }
            log.extend(stamped(base.sequence + 1, &records));
            if is_large {
                client.commit_large(base, records)
            } else {
                client.commit(base, piece, records)
            }
        }
        Act::Event(name, event) => {
            let event = Record::Path {
                source: SOURCE,
                path: named(*name),
                event: *event,
            };
            plain(client, base, vec![event], log)
        }
        Act::DropRevision(of) => {
            let Some(id) = pick(*of) else { return base };
            plain(client, base, vec![Record::Dropped { ids: vec![id] }], log)
        }
        Act::Pin(of, pinned) => {
            let Some(id) = pick(*of) else { return base };
            let pinned = *pinned;
            plain(client, base, vec![Record::Pin { id, pinned }], log)
        }
        Act::Rewrite(of) => {
            let Some((from, id)) = pick(*of).and_then(first_of) else {
                return base;
            };
            // A piece of the tail is not written again before it spills.
            if base
                .tail
                .iter()
                .any(|tail| tail.piece.number() == from.pack)
            {
                return base;
            }
            let pack = client.next_pack();
            let mut builder = PackBuilder::new(pack, PackKind::Data);
            builder.push(raw(id, &[5; 50])).unwrap();
            let to = ChunkRef { pack, index: 0 };
            let mut records = vec![moved(from, to, 1)];
            for (channel, reference) in client.seal(builder) {
                records.push(Record::Pack {
                    number: pack,
                    channel,
                    reference,
                });
            }
            let piece = Piece::new(client.next_pack());
            let records = client.name(records);
            client.commit(base, piece, records)
        }
        Act::Merge(mask) => {
            let chosen: Vec<usize> = (0..base.segments.len())
                .filter(|index| mask >> (index % 32) & 1 == 1)
                .collect();
            client.merge(base, &chosen)
        }
    }
}

fn plain(
    client: &mut Client,
    base: Base,
    records: Vec<Record>,
    log: &mut Vec<(Stamp, Record)>,
) -> Base {
    let records = client.name(records);
    log.extend(stamped(base.sequence + 1, &records));
    let piece = Piece::new(client.next_pack());
    client.commit(base, piece, records)
}

fn metadata_of(record: Record) -> Metadata {
    match record {
        Record::File { metadata, .. } => metadata,
        _ => Metadata::default(),
    }
}

/// Returns bytes that do not compress.
fn noise(length: usize, of: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&of.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Returns what a whole log says is kept and present, and what each path shows.
fn owed(
    log: &[(Stamp, Record)],
    chunks: &BTreeMap<RecordId, Vec<ChunkId>>,
) -> (Owed, BTreeMap<StorePath, (RecordId, Presence)>) {
    let state = crate::testing::replay_stamped(log.iter().cloned());
    let kept = state.kept_revisions().map(|(id, _)| {
        let ids = chunks.get(&id).into_iter().flatten();
        (id, ids.map(|id| Some(*id)).collect())
    });
    (kept.collect(), shown(&state))
}

fn shown(state: &State) -> BTreeMap<StorePath, (RecordId, Presence)> {
    let newest = state.paths().keys().filter_map(|(source, path)| {
        let (id, .., presence) = state.newest(*source, path)?;
        state.is_kept(id).then(|| (path.clone(), (id, presence)))
    });
    newest.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn a_reader_of_the_segments_and_the_tail_replays_the_state_and_finds_every_chunk(
        acts in proptest::collection::vec(act(), 1..40),
        recalls: bool,
    ) {
        let mut client = Client::new(recalls);
        let mut base = Base::default();
        let (mut log, mut chunks) = (Vec::new(), BTreeMap::new());
        for act in &acts {
            base = commit(&mut client, base, act, &mut log, &mut chunks);
            prop_assert_eq!(&client.replayed(&base), &base.state, "after {:?}", act);
            prop_assert!(Commit::tail_bytes(&base.tail) <= TAIL_BYTES_MAX);
            let (kept, newest) = owed(&log, &chunks);
            prop_assert_eq!(client.kept(&base), kept, "after {:?}", act);
            prop_assert_eq!(shown(&base.state), newest, "after {:?}", act);
            // A writer that only ever commits is never told that it was restored.
            prop_assert!(!base.watermark(WRITER).is_beyond(&client.next));
        }
    }
}

/// Stores a small file and commits it.
fn store(client: &mut Client, base: Base, name: &str) -> Base {
    let pack = client.next_pack();
    let new = ChunkId(*blake3::hash(name.as_bytes()).as_bytes());
    let mut piece = Piece::new(pack);
    piece.push(raw(new, &[3; 800])).unwrap();
    let records = client.name(vec![file(name, [ChunkRef { pack, index: 0 }])]);
    client.commit(base, piece, records)
}

/// Stores small files until the tail has spilled so often; returns what is there after each spill.
fn spills(client: &mut Client, count: usize) -> Vec<Base> {
    let mut bases = Vec::new();
    let mut base = Base::default();
    for n in 0.. {
        if bases.len() == count {
            break;
        }
        base = store(client, base, &format!("f{n}"));
        if base.tail.is_empty() {
            bases.push(base.clone());
        }
    }
    bases
}

#[test]
fn a_small_draft_joins_the_tail_and_nothing_is_sealed() {
    let mut client = Client::new(true);
    let base = store(&mut client, Base::default(), "a");
    assert_eq!((base.sequence, base.tail.len()), (1, 1));
    assert_eq!(base.segments, []);
    assert!(client.segments.is_empty() && client.data.is_empty());
}

#[test]
fn a_tail_that_would_pass_its_maximum_spills_its_chunks_into_a_pack_and_its_records_into_a_segment()
{
    let mut client = Client::new(false);
    let base = spills(&mut client, 1).remove(0);
    let files = usize::try_from(base.sequence).unwrap();
    assert_eq!(base.segments.len(), 1);
    assert_eq!(
        (base.segments[0].sequence, base.segments[0].level),
        (base.sequence, 0)
    );
    let (pack, table) = client.data.first_key_value().unwrap();
    assert_eq!(table.layout.entries().len(), files);
    // No `moved` record is left: all that named the pieces spilled along.
    for (_, content) in base.state.kept_revisions() {
        assert_eq!(content.extents()[0].first.pack, *pack);
    }
    let repeat = Repeat::parse(&table.records).unwrap().unwrap();
    assert_eq!(repeat.as_of, base.sequence);
    assert_eq!(repeat.batch.records().len(), files);
}

#[test]
fn a_record_that_names_a_chunk_of_the_tail_from_outside_is_repeated_and_led_on() {
    let mut client = Client::new(false);
    let mut base = store(&mut client, Base::default(), "a");
    let first = base.tail[0].piece.number();
    let copy = client.name(vec![file(
        "b",
        [ChunkRef {
            pack: first,
            index: 0,
        }],
    )]);
    base = client.commit_large(base, copy);
    while !base.tail.is_empty() {
        let name = format!("f{}", client.next.packs);
        base = store(&mut client, base, &name);
    }
    let (pack, table) = client.data.first_key_value().unwrap();
    let now = base.state.resolve(ChunkRef {
        pack: first,
        index: 0,
    });
    assert_eq!(now.pack, *pack);
    let repeat = Repeat::parse(&table.records).unwrap().unwrap();
    let copied = repeat
        .batch
        .records()
        .iter()
        .find(|(stamp, _)| stamp.id == id(1));
    assert_eq!(copied.unwrap().1, file("b", [now]));
    assert_eq!(client.replayed(&base), base.state);
}

#[test]
fn a_spill_takes_the_last_ones_records_along_until_they_fill_a_block() {
    let mut client = Client::new(true);
    let bases = spills(&mut client, 12);
    assert_eq!(bases[1].segments.len(), 1);
    assert!(client.recalled.get() > 0);
    let last = bases.last().unwrap();
    assert!(
        (2..8).contains(&last.segments.len()),
        "{}",
        last.segments.len()
    );
    for segment in &last.segments {
        let bytes: usize = client.segments[&segment.number]
            .iter()
            .map(|batch| batch.encode().len())
            .sum();
        assert!(bytes <= SPILL_BYTES_MAX, "{bytes}");
    }
    assert_eq!(client.replayed(last), last.state);
    // One that is not at hand stays as it is.
    let bases = spills(&mut Client::new(false), 12);
    assert_eq!(bases[11].segments.len(), 12);
}

#[test]
fn a_merged_segment_is_not_taken_along_by_a_spill() {
    let mut client = Client::new(true);
    let mut base = spills(&mut client, 1).remove(0);
    base = client.merge(base, &[0]);
    let merged = base.segments[0];
    assert_eq!(merged.level, 1);
    loop {
        let name = format!("g{}", client.next.packs);
        base = store(&mut client, base, &name);
        if base.tail.is_empty() {
            break;
        }
    }
    assert_eq!(base.segments.len(), 2);
    assert_eq!(base.segments[0], merged);
}

#[test]
fn a_large_draft_is_listed_with_its_segments_and_leaves_the_tail_alone() {
    let mut client = Client::new(true);
    let base = store(&mut client, Base::default(), "a");
    let tail = base.tail.clone();
    let records = (0..40).map(|n| file(&format!("f{n}"), [chunk(900, n)]));
    let records = client.name(records.collect());
    let base = client.commit_large(base, records);
    assert_eq!(base.tail, tail);
    assert_eq!(base.segments.len(), 1);
    assert_eq!((base.segments[0].sequence, base.segments[0].level), (2, 0));
    assert_eq!(client.replayed(&base), base.state);
}

#[test]
fn what_a_repair_restores_keeps_its_stamps() {
    let mut client = Client::new(true);
    client.next.records = 20;
    let old = Stamp {
        sequence: 3,
        id: id(7),
    };
    let restored = vec![(old, file("a", [chunk(1, 0)]))];
    let records = client.name(vec![file("a", [chunk(2, 0)])]);
    let base = Base {
        sequence: 8,
        ..Base::default()
    };
    let base = client.with_writer(|writer, client| {
        let draft = Draft::restoring(restored, records, writer, client);
        compose(base, &draft, writer, client)
    });
    let expected = Stamp {
        sequence: 9,
        id: id(20),
    };
    let stamps: BTreeSet<Stamp> = base.state.records().values().copied().collect();
    assert_eq!(stamps, BTreeSet::from([old, expected]));
    assert_eq!(client.replayed(&base), base.state);
}

#[test]
fn records_that_do_not_fit_half_a_tail_are_given_back() {
    let records = |count| -> Vec<_> {
        let files = (0..count).map(|n| (id(n), file(&format!("{n:060}"), [chunk(n, 0)])));
        files.collect()
    };
    assert!(Draft::small(Piece::new(number(0)), records(10)).is_ok());
    let many = records(60);
    let piece = Piece::new(number(0));
    assert_eq!(
        Draft::small(piece.clone(), many.clone()),
        Err((piece, many))
    );
}

/// Returns how far a store that says this speaks of the writer.
fn watermark(records: impl IntoIterator<Item = Record>) -> Watermark {
    let state = replay(records);
    let base = Base {
        state,
        ..Base::default()
    };
    base.watermark(WRITER)
}

#[test]
fn a_restored_image_is_told_by_records_and_by_ids_that_were_dropped() {
    assert_eq!(watermark([]), Watermark::default());
    let stored = watermark([file("a", []), file("b", [])]);
    assert_eq!((stored.records, stored.packs), (2, 0));
    // The record 30 is merged away; that it was dropped is still known.
    assert_eq!(watermark([dropped([5, 30])]).records, 31);
}

#[test]
fn a_restored_image_is_told_by_packs_wherever_they_are_named() {
    let pack = Record::Pack {
        number: number(4),
        channel: CHANNEL,
        reference: crate::testing::object(1, 4096),
    };
    assert_eq!(watermark([pack]).packs, 5);
    assert_eq!(watermark([file("a", [chunk(6, 0)])]).packs, 7);
    assert_eq!(watermark([moved(chunk(2, 0), chunk(8, 0), 1)]).packs, 9);
    let dictionary = Record::Dictionary {
        id: ChunkId([1; 32]),
        domain: Domain(0),
        chunk: chunk(3, 0),
        retired: false,
    };
    assert_eq!(watermark([dictionary]).packs, 4);
}

#[test]
fn a_restored_image_is_told_by_segments_and_by_pieces_of_the_tail() {
    let segment = Segment {
        number: number(11),
        sequence: 1,
        level: 0,
    };
    let tail = TailPiece {
        sequence: 1,
        piece: piece(12, &[]),
    };
    let mut base = Base {
        segments: vec![segment],
        ..Base::default()
    };
    assert_eq!(base.watermark(WRITER).packs, 12);
    base.tail.push(tail);
    assert_eq!(base.watermark(WRITER).packs, 13);
    assert_eq!(base.watermark(WriterId([2; 16])), Watermark::default());
}

#[test]
fn a_writer_is_beyond_what_it_knows_in_records_or_in_packs() {
    let mark = |records, packs| Watermark { records, packs };
    assert!(!mark(3, 3).is_beyond(&mark(3, 3)));
    assert!(!mark(2, 3).is_beyond(&mark(3, 3)));
    assert!(mark(4, 0).is_beyond(&mark(3, 3)));
    assert!(mark(0, 4).is_beyond(&mark(3, 3)));
}
