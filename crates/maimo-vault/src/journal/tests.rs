//! Claims about the journal as a whole: batches come back, replay is a set merge, merging segments changes nothing that is kept.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{
    codec::{ParseError, Put},
    id::ChannelId,
    reference::ObjectRef,
};
use proptest::prelude::*;

use super::{
    batch::{Batch, PATHS_BYTES_MAX, RECORDS_MAX, Stamp, cut},
    content::{ChunkExtent, Content},
    merge::{FAN_IN, Inputs, Judge, SegmentWeight, plan},
    metadata::{FileTime, Metadata},
    part::Part,
    record::{PathEvent, Record},
    state::{Presence, State},
};
use crate::{
    name::{ChunkId, ChunkRef, Domain, PackNumber, RecordId, SourceId, WriterId},
    path::StorePath,
    retention::Policy,
};

fn writer(n: u8) -> WriterId {
    WriterId([n; 16])
}

fn id(counter: u64) -> RecordId {
    RecordId {
        writer: writer(1),
        counter,
    }
}

fn chunk(pack: u64, index: u32) -> ChunkRef {
    ChunkRef {
        pack: PackNumber {
            writer: writer(1),
            n: pack,
        },
        index,
    }
}

fn path(name: u8) -> StorePath {
    StorePath::unix(&format!("/home/u/folder{}/file{name}", name % 2)).unwrap()
}

const SOURCE: SourceId = SourceId([7; 16]);
const CHANNEL: ChannelId = ChannelId([9; 32]);

fn file(name: u8, chunks: Vec<ChunkRef>) -> Record {
    Record::File {
        source: SOURCE,
        path: path(name),
        metadata: Metadata {
            mode: 0o644,
            modified: FileTime {
                seconds: -1,
                nanos: 5,
            },
            ..Metadata::default()
        },
        content: Content::Regular {
            size: 1000,
            blake3: [name; 32],
            chunks: ChunkExtent::join(chunks),
        },
    }
}

fn record() -> impl Strategy<Value = Record> {
    let text = "[a-zé]{0,6}";
    let reference = any::<[u8; 32]>().prop_map(|root| ObjectRef {
        root: maimo_core::id::RootHash(root),
        length: 4096,
    });
    let content = prop_oneof![
        Just(Content::Folder),
        Just(Content::Fifo),
        any::<Vec<u8>>().prop_map(Content::Symlink),
        (0..3_u8).prop_map(|name| Content::HardLink(path(name))),
        (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(block, major, minor)| {
            Content::Device {
                block,
                major,
                minor,
            }
        }),
        proptest::collection::vec((0..4_u64, any::<u8>()), 0..6).prop_map(|chunks| {
            Content::Regular {
                size: 9,
                blake3: [4; 32],
                chunks: ChunkExtent::join(chunks.iter().map(|(n, i)| chunk(*n, (*i).into()))),
            }
        }),
    ];
    let time = (any::<i64>(), 0..1_000_000_000_u32)
        .prop_map(|(seconds, nanos)| FileTime { seconds, nanos });
    let metadata = (
        any::<(u32, u32, u32, bool)>(),
        time.clone(),
        proptest::option::of(time),
        proptest::collection::btree_map(any::<[u8; 2]>(), any::<Vec<u8>>(), 0..3),
    )
        .prop_map(
            |((mode, uid, gid, sparse), modified, created, xattrs)| Metadata {
                mode,
                uid,
                gid,
                modified,
                created,
                xattrs: xattrs
                    .into_iter()
                    .map(|(name, value)| (name.to_vec(), value))
                    .collect(),
                sparse,
            },
        );
    prop_oneof![
        text.prop_map(|label| Record::Source {
            source: SOURCE,
            label
        }),
        (
            text,
            any::<[u8; 32]>(),
            any::<bool>(),
            proptest::collection::vec(text, 0..3)
        )
            .prop_map(|(name, auth, closed, addresses)| Record::Channel {
                channel: ChannelId(auth),
                auth,
                name,
                addresses,
                closed
            }),
        any::<u64>().prop_map(|epoch| Record::Layout {
            epoch,
            channels: vec![CHANNEL]
        }),
        (any::<u64>(), reference).prop_map(|(n, reference)| Record::Pack {
            number: chunk(n, 0).pack,
            channel: CHANNEL,
            reference
        }),
        (any::<(u8, u8)>(), 1..100_u32).prop_map(|((from, to), count)| Record::Moved {
            from: chunk(from.into(), 3),
            to: chunk(to.into(), 0),
            count
        }),
        any::<u64>().prop_map(|time| Record::RunBegin {
            source: SOURCE,
            time
        }),
        any::<[u64; 4]>().prop_map(|[run, time, files, bytes_stored]| Record::RunEnd {
            run: id(run),
            time,
            files,
            bytes_stored
        }),
        (0..5_u8, metadata, content).prop_map(|(name, metadata, content)| Record::File {
            source: SOURCE,
            path: path(name),
            metadata,
            content
        }),
        (0..5_u8).prop_map(|name| Record::Path {
            source: SOURCE,
            path: path(name),
            event: PathEvent::Evicted
        }),
        proptest::collection::btree_set((0..3_u8, any::<u64>()), 1..9).prop_map(|ids| {
            Record::Dropped {
                ids: ids
                    .into_iter()
                    .map(|(w, counter)| RecordId {
                        writer: writer(w),
                        counter,
                    })
                    .collect(),
            }
        }),
        any::<(u64, bool)>().prop_map(|(run, pinned)| Record::Pin {
            id: id(run),
            pinned
        }),
        (text, any::<bool>()).prop_map(|(pattern, set)| Record::Policy {
            pattern,
            policy: set.then(Policy::default)
        }),
        any::<([u8; 32], u32, bool)>().prop_map(|(bytes, domain, retired)| Record::Dictionary {
            id: ChunkId(bytes),
            domain: Domain(domain),
            chunk: chunk(5, 6),
            retired
        }),
        (0..0x80_u8, any::<Vec<u8>>()).prop_map(|(kind, body)| Record::Unknown { kind, body }),
    ]
}

fn stamped() -> impl Strategy<Value = (Stamp, Record)> {
    (0..4_u64, 0..3_u8, any::<u64>(), record()).prop_map(|(sequence, w, counter, record)| {
        let id = RecordId {
            writer: writer(w),
            counter,
        };
        (Stamp { sequence, id }, record)
    })
}

proptest! {
    #[test]
    fn a_batch_comes_back(records in proptest::collection::vec(stamped(), 0..20)) {
        let batch = Batch::new(records);
        let bytes = batch.encode();
        prop_assert_eq!(Batch::parse(&bytes).unwrap(), batch);
    }

    #[test]
    fn a_batch_that_parses_is_the_one_encoding_of_its_records(
        records in proptest::collection::vec(stamped(), 0..6),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut bytes = Batch::new(records).encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(batch) = Batch::parse(&bytes) {
            prop_assert_eq!(batch.encode(), bytes);
        }
    }

    #[test]
    fn replay_is_a_set_merge(
        records in proptest::collection::vec(stamped(), 0..30),
        order in any::<u64>(),
    ) {
        // One id has one content, as writers see to.
        let mut unique = BTreeMap::new();
        for (stamp, record) in records {
            unique.entry(stamp.id).or_insert((stamp, record));
        }
        let mut forwards = State::default();
        for (stamp, record) in unique.values() {
            forwards.apply(*stamp, record.clone());
        }
        let mut shuffled: Vec<_> = unique.values().cloned().collect();
        shuffled.sort_by_key(|(stamp, _)| {
            (stamp.id.counter ^ order).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        });
        let mut other = State::default();
        for (stamp, record) in shuffled.iter().chain(&shuffled) {
            other.apply(*stamp, record.clone());
        }
        prop_assert_eq!(forwards, other);
    }
}

/// A step of a made-up life of a store.
#[derive(Debug, Clone)]
enum Step {
    Store(u8, u32),
    Event(u8, PathEvent),
    Run,
    Abandon,
    Move(u8, u8),
    DropOldest,
    DropRevision(u8),
    Pin(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..4_u8, 0..6_u32).prop_map(|(name, index)| Step::Store(name, index)),
        2 => (0..4_u8, prop_oneof![
            Just(PathEvent::Gone), Just(PathEvent::Evicted), Just(PathEvent::Found), Just(PathEvent::Removed)
        ]).prop_map(|(name, event)| Step::Event(name, event)),
        4 => Just(Step::Run),
        1 => Just(Step::Abandon),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(from, to)| Step::Move(from, to)),
        2 => Just(Step::DropOldest),
        2 => any::<u8>().prop_map(Step::DropRevision),
        1 => any::<u8>().prop_map(Step::Pin),
    ]
}

/// Plays a life and returns its records, as one commit each.
fn play(steps: &[Step]) -> Vec<(Stamp, Record)> {
    let mut state = State::default();
    let mut log: Vec<(Stamp, Record)> = Vec::new();
    let mut packs = 1;
    let mut begun = None;
    for step in steps {
        let counter = log.len() as u64;
        let revisions: Vec<RecordId> = state.kept_revisions().map(|(id, _)| id).collect();
        let pick = |n: u8| {
            revisions
                .get(usize::from(n) % revisions.len().max(1))
                .copied()
        };
        let record = match step {
            // A client names chunks where they are at that moment, as a rebase sees to.
            Step::Store(name, index) => Some(file(
                *name,
                vec![
                    state.resolve(chunk(0, *index)),
                    state.resolve(chunk(packs - 1, *index)),
                ],
            )),
            Step::Event(name, event) => state.newest(SOURCE, &path(*name)).map(|_| Record::Path {
                source: SOURCE,
                path: path(*name),
                event: *event,
            }),
            Step::Run => Some(if let Some(run) = begun.take() {
                Record::RunEnd {
                    run,
                    time: counter,
                    files: 1,
                    bytes_stored: 1,
                }
            } else {
                begun = Some(id(counter));
                Record::RunBegin {
                    source: SOURCE,
                    time: counter,
                }
            }),
            Step::Abandon => {
                begun = None;
                None
            }
            Step::Move(from, to) => {
                let from = chunk(u64::from(*from) % packs, u32::from(*to) % 6);
                let next = chunk(from.pack.n, from.index + 1);
                // What has moved once is moved on from where it is, never from where it was.
                let here = |chunk| state.resolve(chunk) == chunk;
                here(from).then(|| {
                    packs += 1;
                    Record::Moved {
                        from,
                        to: chunk(packs - 1, 0),
                        count: if here(next) { 2 } else { 1 },
                    }
                })
            }
            Step::DropOldest => state
                .kept_runs(SOURCE)
                .first()
                .map(|(run, _)| Record::Dropped { ids: vec![*run] }),
            Step::DropRevision(n) => pick(*n).map(|id| Record::Dropped { ids: vec![id] }),
            Step::Pin(n) => pick(*n).map(|id| Record::Pin { id, pinned: true }),
        };
        if let Some(record) = record {
            let stamp = Stamp {
                sequence: counter + 1,
                id: id(counter),
            };
            state.apply(stamp, record.clone());
            log.push((stamp, record));
        }
    }
    log
}

fn replay<'a>(records: impl IntoIterator<Item = &'a (Stamp, Record)>) -> State {
    let mut state = State::default();
    for (stamp, record) in records {
        state.apply(*stamp, record.clone());
    }
    state
}

/// Everything a user could ask of a state: kept contents with their chunks resolved, presence of each path whose newest revision is kept,
/// each kept run's view of what is kept.
type Answers = (
    BTreeMap<RecordId, Vec<ChunkRef>>,
    BTreeMap<StorePath, (RecordId, Presence)>,
    BTreeMap<RecordId, BTreeSet<RecordId>>,
);

fn answers(state: &State) -> Answers {
    let kept = state
        .kept_revisions()
        .map(|(id, content)| (id, state.resolve_all(content.extents()).collect()))
        .collect();
    let newest = state
        .paths()
        .keys()
        .filter_map(|(source, path)| {
            let (id, .., presence) = state.newest(*source, path)?;
            state.is_kept(id).then(|| (path.clone(), (id, presence)))
        })
        .collect();
    let runs = state
        .kept_runs(SOURCE)
        .into_iter()
        .map(|(run, _)| {
            let (end, _) = state.end(run).unwrap();
            let view = state
                .as_of(SOURCE, end)
                .map(|(_, revision, _)| revision)
                .filter(|revision| state.is_kept(*revision))
                .collect();
            (run, view)
        })
        .collect();
    (kept, newest, runs)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn merging_any_segments_changes_no_answer(
        steps in proptest::collection::vec(step(), 1..60),
        segment in 1..8_usize,
        merges in proptest::collection::vec(any::<u32>(), 1..5),
    ) {
        let log = play(&steps);
        let mut segments: Vec<Vec<(Stamp, Record)>> =
            log.chunks(segment).map(<[_]>::to_vec).collect();
        let before = answers(&replay(&log));
        for chosen in merges {
            let state = replay(segments.iter().flatten());
            let (merged, rest): (Vec<_>, Vec<_>) = segments
                .drain(..)
                .enumerate()
                .partition(|(index, _)| chosen >> (index % 32) & 1 == 1);
            let inputs: Vec<_> = merged.into_iter().flat_map(|(_, records)| records).collect();
            segments = rest.into_iter().map(|(_, records)| records).collect();
            let survivors = Judge::new(&state).merge(inputs.clone());
            let journal = segments.iter().flatten().chain(&inputs);
            let part = replay_part(&Part::of(&inputs), journal.clone());
            prop_assert_eq!(&Judge::new(&part).merge(inputs.clone()), &survivors);
            prop_assert_eq!(&merge_in_steps(&inputs, &journal), &survivors);
            let mut changed = state;
            changed.forget(&inputs);
            for (stamp, record) in &survivors {
                changed.apply(*stamp, record.clone());
            }
            segments.push(survivors);
            let replayed = replay(segments.iter().flatten());
            prop_assert_eq!(&answers(&replayed), &before);
            prop_assert_eq!(replayed, changed);
        }
    }
}

fn replay_part<'a>(part: &Part, journal: impl Iterator<Item = &'a (Stamp, Record)>) -> State {
    let mut state = State::default();
    for (stamp, record) in journal {
        state.apply_part(part, *stamp, record.clone());
    }
    state
}

/// Merges with no more than one path in memory at a time, and never all inputs.
fn merge_in_steps<'a>(
    inputs: &[(Stamp, Record)],
    journal: &(impl Iterator<Item = &'a (Stamp, Record)> + Clone),
) -> Vec<(Stamp, Record)> {
    let mut all = Inputs::default();
    let mut named = Part::default();
    for (stamp, record) in inputs {
        all.add(*stamp, record);
        named.add_named(record);
    }
    let lean = replay_part(&named, journal.clone());
    let judge = Judge::new(&lean);
    for (stamp, record) in inputs {
        let is_dead = if judge.asks_for_path(*stamp, record) {
            let mut part = Part::default();
            part.add_path(record);
            let state = replay_part(&part, journal.clone());
            Judge::new(&state).is_dead(*stamp, record)
        } else {
            judge.is_dead(*stamp, record)
        };
        if is_dead {
            all.dies(stamp.id);
        }
    }
    let survivors = judge.survivors(&all);
    let inputs = inputs.iter().cloned();
    inputs
        .filter_map(|(stamp, record)| Some((stamp, survivors.of(stamp, record)?)))
        .collect()
}

#[test]
fn a_merge_of_everything_leaves_only_what_is_kept() {
    let mut log = Vec::new();
    let mut put = |record| {
        let counter = log.len() as u64;
        let stamp = Stamp {
            sequence: counter + 1,
            id: id(counter),
        };
        log.push((stamp, record));
        id(counter)
    };
    let run = put(Record::RunBegin {
        source: SOURCE,
        time: 1,
    });
    let old = put(file(1, vec![chunk(0, 0)]));
    put(Record::RunEnd {
        run,
        time: 2,
        files: 1,
        bytes_stored: 1,
    });
    put(file(1, vec![chunk(1, 0)]));
    put(Record::Moved {
        from: chunk(1, 0),
        to: chunk(2, 4),
        count: 1,
    });
    put(Record::Dropped {
        ids: vec![run, old],
    });
    let state = replay(&log);
    let merged = Judge::new(&state).merge(log);
    assert_eq!(merged.len(), 1);
    assert_eq!(merged[0].1, file(1, vec![chunk(2, 4)]));
}

/// A file that changes every minute, one old revision of which is kept for years: it once kept all later ones with it.
#[test]
fn of_a_stretch_of_dropped_revisions_only_the_first_and_a_last_one_stay() {
    let at = |counter| Stamp {
        sequence: counter,
        id: id(counter),
    };
    let stored = |counter| (at(counter), file(1, vec![chunk(0, 0)]));
    let dropped = |ids: core::ops::Range<u64>| {
        let ids = ids.map(id).collect();
        (at(99), Record::Dropped { ids })
    };
    let left = |dropped| {
        let mut log: Vec<_> = (1..9).map(stored).collect();
        log.push(dropped);
        let merged = Judge::new(&replay(&log)).merge(log);
        let counters = merged.into_iter().map(|(stamp, _)| stamp.id.counter);
        counters
            .filter(|counter| *counter != 99)
            .collect::<Vec<_>>()
    };
    assert_eq!(left(dropped(2..8)), [1, 2, 8]);
    // Where the newest is not kept either, no older one may pass for it.
    assert_eq!(left(dropped(2..9)), [1, 2, 8]);
    assert_eq!(left(dropped(1..8)), [8]);
}

#[test]
fn a_segment_weighs_its_dead_records_by_what_they_take() {
    let at = |counter| Stamp {
        sequence: counter,
        id: id(counter),
    };
    let log: Vec<_> = (1..9)
        .map(|counter| (at(counter), file(1, vec![chunk(0, 0)])))
        .collect();
    let drop = |ids: core::ops::Range<u64>| {
        let ids = ids.map(id).collect();
        let mut log = log.clone();
        log.push((at(99), Record::Dropped { ids }));
        let state = replay(&log);
        Judge::new(&state).weigh(2, 8192, log[..8].to_vec())
    };
    assert_eq!(
        (drop(0..0).level, drop(0..0).length, drop(0..0).dead),
        (2, 8192, 0)
    );
    let half = drop(1..5).dead;
    assert!((3500..4700).contains(&half), "{half}");
}

#[test]
fn an_event_outlives_the_revision_it_ends_while_that_is_read_anywhere() {
    let at = |counter| Stamp {
        sequence: counter,
        id: id(counter),
    };
    let old = (at(1), file(1, vec![chunk(0, 0)]));
    let gone = Record::Path {
        source: SOURCE,
        path: path(1),
        event: PathEvent::Gone,
    };
    let dropped = Record::Dropped { ids: vec![id(1)] };
    let state = replay(&[old, (at(2), gone.clone()), (at(3), dropped.clone())]);
    let merged = Judge::new(&state).merge(vec![(at(2), gone.clone()), (at(3), dropped.clone())]);
    assert_eq!(merged, [(at(2), gone), (at(3), dropped)]);
}

#[test]
fn batches_are_cut_near_the_size_asked_for_and_lose_nothing() {
    let records: Vec<_> = (0..500)
        .map(|counter| {
            let stamp = Stamp {
                sequence: 1,
                id: id(counter),
            };
            (stamp, file(1, vec![chunk(counter, 0)]))
        })
        .collect();
    let batches: Vec<_> = cut(records.clone(), 4096).collect();
    assert!(batches.len() > 5);
    assert!(batches.iter().all(|batch| batch.len() <= 4096));
    let again: Vec<_> = batches
        .iter()
        .flat_map(|batch| Batch::parse(batch).unwrap().into_records(0))
        .collect();
    assert_eq!(again, records);
}

#[test]
fn sequence_zero_stands_for_the_commit_that_lists_the_batch() {
    let stamp = |sequence| Stamp {
        sequence,
        id: id(3),
    };
    let batch = Batch::new(vec![(stamp(0), file(1, vec![]))]);
    let read: Vec<_> = batch.into_records(42).map(|(stamp, _)| stamp).collect();
    assert_eq!(read, [stamp(42)]);
}

#[test]
fn a_batch_with_an_unused_name_or_a_later_critical_record_is_refused() {
    let stamp = Stamp {
        sequence: 1,
        id: id(0),
    };
    let mut bytes = Batch::new(vec![(
        stamp,
        Record::Unknown {
            kind: 1,
            body: vec![],
        },
    )])
    .encode();
    assert!(Batch::parse(&bytes).is_ok());
    // The record's type byte is the second from the end, before the empty body's length.
    let at = bytes.len() - 2;
    bytes[at] = 0xff;
    assert!(matches!(
        Batch::parse(&bytes),
        Err(ParseError::UnknownCritical { .. })
    ));
    // No group uses the one writer named.
    let unused = [&[1_u8][..], &[0; 16], &[0, 0, 0]].concat();
    assert!(Batch::parse(&unused).is_err());
}

#[test]
fn segments_merge_sixteen_of_a_level_and_by_what_died_in_them() {
    let weight = |level, length, dead| SegmentWeight {
        level,
        length,
        dead,
    };
    let few = vec![weight(0, 1000, 0); FAN_IN - 1];
    assert_eq!(plan(&few), None);
    let enough = vec![weight(0, 1000, 0); FAN_IN];
    assert_eq!(plan(&enough), Some((0..FAN_IN).collect()));
    // One step never reads more than 16 MiB.
    let large = vec![weight(1, 7 << 20, 0); FAN_IN];
    assert_eq!(plan(&large), Some(vec![0, 1]));
    // Full segments stay, whatever their number, until a part of the journal is dead; then the worst go first.
    let mut full = vec![weight(3, 9 << 20, 0); FAN_IN];
    assert_eq!(plan(&full), None);
    full[4].dead = 9 << 20;
    full[5].dead = 1 << 20;
    assert_eq!(plan(&full), Some(vec![4]));
}

#[test]
fn the_lowest_level_that_is_full_merges_first_and_others_stay() {
    let weight = |level| SegmentWeight {
        level,
        length: 1000,
        dead: 0,
    };
    let mut segments = vec![weight(1); FAN_IN];
    assert_eq!(plan(&segments), Some((0..FAN_IN).collect()));
    segments.extend(vec![weight(0); FAN_IN + 3]);
    assert_eq!(plan(&segments), Some((FAN_IN..2 * FAN_IN).collect()));
}

/// What a prune wrote down stands in a segment of level 0: left out, it stayed for as long again (decision 0003).
#[test]
fn a_merge_by_waste_takes_the_lowest_level_along_within_its_step() {
    let weight = |level, length, dead| SegmentWeight {
        level,
        length,
        dead,
    };
    let segments = [
        weight(2, 5 << 20, 1 << 20),
        weight(1, 1 << 20, 0),
        weight(0, 4096, 0),
        weight(0, 4096, 0),
    ];
    assert_eq!(plan(&segments), Some(vec![0, 2, 3]));
    // Up to a twentieth may be dead.
    let total = (6 << 20) + 8192;
    let dead = |dead| {
        let mut segments = segments;
        segments[0].dead = dead;
        plan(&segments)
    };
    assert_eq!(dead(total / 20), None);
    assert_eq!(dead(total / 20 + 1), Some(vec![0, 2, 3]));
    // Where not all of it fits a step, what is dead goes first.
    let large = [
        weight(0, 9 << 20, 0),
        weight(2, 9 << 20, 4 << 20),
        weight(0, 4096, 0),
    ];
    assert_eq!(plan(&large), Some(vec![1, 2]));
}

#[test]
fn what_was_dropped_is_known_on_for_as_long_as_the_record_is_read_anywhere() {
    let at = |counter| Stamp {
        sequence: counter,
        id: id(counter),
    };
    let log = [
        (at(1), file(1, vec![chunk(0, 0)])),
        (at(2), file(2, vec![chunk(0, 1)])),
        (
            at(3),
            Record::Dropped {
                ids: vec![id(1), id(2)],
            },
        ),
    ];
    let state = replay(&log);
    let merge = |segment: &[(Stamp, Record)]| Judge::new(&state).merge(segment.to_vec());
    // One of the two records is merged along, the other is in another segment.
    let left = Record::Dropped { ids: vec![id(1)] };
    assert_eq!(merge(&log[1..]), [(at(3), left)]);
    assert_eq!(merge(&log), []);
    assert_eq!(merge(&log[2..]), log[2..]);
}

#[test]
fn a_segment_all_dead_weighs_its_whole_pack_and_an_empty_one_nothing() {
    let at = |counter| Stamp {
        sequence: counter,
        id: id(counter),
    };
    let log = [
        (at(1), file(1, vec![chunk(0, 0)])),
        (at(2), Record::Dropped { ids: vec![id(1)] }),
    ];
    let state = replay(&log);
    let weigh = |records: &[(Stamp, Record)]| Judge::new(&state).weigh(0, 4096, records.to_vec());
    assert_eq!(weigh(&log[..1]).dead, 4096);
    assert_eq!(weigh(&log[1..]).dead, 0);
    assert_eq!(weigh(&[]).dead, 0);
}

fn one(record: Record) -> Vec<u8> {
    let stamp = Stamp {
        sequence: 1,
        id: id(0),
    };
    Batch::new(vec![(stamp, record)]).encode()
}

#[test]
fn a_reference_beyond_a_packs_last_chunk_is_refused() {
    let extent = |index, count| {
        let first = chunk(1, index);
        let mut record = file(1, vec![first]);
        if let Record::File {
            content: Content::Regular { chunks, .. },
            ..
        } = &mut record
        {
            *chunks = vec![ChunkExtent { first, count }];
        }
        Batch::parse(&one(record))
    };
    assert!(extent(65_535, 1).is_ok());
    assert!(extent(0, 65_536).is_ok());
    assert!(extent(65_536, 1).is_err());
    assert!(extent(65_535, 2).is_err());
    let moved = |from, to, count| {
        let (from, to) = (chunk(1, from), chunk(2, to));
        Batch::parse(&one(Record::Moved { from, to, count }))
    };
    assert!(moved(1, 0, 65_535).is_ok());
    assert!(moved(2, 0, 65_535).is_err());
    assert!(moved(0, 2, 65_535).is_err());
}

#[test]
fn a_layout_that_names_a_channel_twice_is_refused() {
    let layout = |channels: &[u8]| {
        let channels = channels.iter().map(|n| ChannelId([*n; 32])).collect();
        Batch::parse(&one(Record::Layout { epoch: 1, channels }))
    };
    assert!(layout(&[2, 1]).is_ok());
    assert!(layout(&[2, 1, 2]).is_err());
}

#[test]
fn more_records_than_a_batch_may_hold_are_refused_however_short() {
    let batch = |count: usize| {
        let records = (0..count).map(|counter| {
            let stamp = Stamp {
                sequence: 1,
                id: id(counter as u64),
            };
            let record = Record::Unknown {
                kind: 1,
                body: Vec::new(),
            };
            (stamp, record)
        });
        Batch::parse(&Batch::new(records.collect()).encode())
    };
    assert!(batch(RECORDS_MAX).is_ok());
    assert!(batch(RECORDS_MAX + 1).is_err());
}

/// Such records cost eight bytes each: the 131,072 that a batch may hold were a megabyte, and read they took eight gigabytes.
#[test]
fn short_records_that_repeat_a_long_path_are_refused_before_they_fill_the_memory() {
    let deep = vec![vec![b'x'; 31]; StorePath::COMPONENTS_MAX];
    let weight = deep.len() * (31 + 32);
    let gone = |path| Record::Path {
        source: SOURCE,
        path,
        event: PathEvent::Gone,
    };
    let path = StorePath::new(crate::path::Prefix::Unix, deep).unwrap();
    let encode = |count: u64| {
        let records = (0..count).map(|counter| {
            let stamp = Stamp {
                sequence: 1,
                id: id(counter),
            };
            (stamp, gone(path.clone()))
        });
        Batch::new(records.collect()).encode()
    };
    // What a second record adds, as often as there is room for, and their count in the place of 2.
    let (one, two) = (encode(1), encode(2));
    let more = &two[one.len()..];
    let at = one.iter().zip(&two).position(|(a, b)| a != b).unwrap();
    let repeated = |count: usize| {
        let mut bytes = one[..at].to_vec();
        bytes.put_varint(count as u64);
        bytes.extend_from_slice(&one[at + 1..]);
        bytes.extend(more.iter().copied().cycle().take((count - 1) * more.len()));
        bytes
    };
    assert_eq!(repeated(2), two);
    let most = PATHS_BYTES_MAX / weight;
    assert!(repeated(most + 1).len() < 128 * 1024);
    assert!(Batch::parse(&repeated(most)).is_ok());
    assert!(matches!(
        Batch::parse(&repeated(most + 1)),
        Err(ParseError::TooLarge { .. })
    ));
}
