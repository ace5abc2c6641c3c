//! Claims about the catalog: it answers as the state in memory does, and a file that is not one is told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::PathBuf,
};

use maimo_core::{
    clock::Timestamp,
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        merge::Judge,
        metadata::{FileTime, Metadata},
        record::{PathEvent, Record},
        state::{Entry, Presence, State},
    },
    name::{ChunkId, ChunkRef, Domain, PackNumber, RecordId, SourceId, WriterId},
    path::StorePath,
    retention::Policy,
};
use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const SOURCE: SourceId = SourceId([7; 16]);
const OTHER: SourceId = SourceId([8; 16]);
const CHANNEL: ChannelId = ChannelId([9; 32]);

fn id(writer: u8, counter: u64) -> RecordId {
    RecordId {
        writer: WriterId([writer; 16]),
        counter,
    }
}

fn chunk(pack: u64, index: u32) -> ChunkRef {
    ChunkRef {
        pack: PackNumber {
            writer: WriterId([1; 16]),
            n: pack,
        },
        index,
    }
}

fn path(text: &str) -> StorePath {
    StorePath::unix(text).unwrap()
}

fn file(name: &str, chunks: &[ChunkRef]) -> Record {
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
            blake3: [3; 32],
            chunks: ChunkExtent::join(chunks.iter().copied()),
        },
    }
}

fn folder(name: &str) -> Record {
    Record::File {
        source: SOURCE,
        path: path(name),
        metadata: Metadata::default(),
        content: Content::Folder,
    }
}

fn event(name: &str, event: PathEvent) -> Record {
    Record::Path {
        source: SOURCE,
        path: path(name),
        event,
    }
}

/// A catalog in a folder of its own.
struct Scene {
    _folder: TempDir,
    file: PathBuf,
    catalog: Catalog,
    /// The next record's counter and sequence.
    next: u64,
    sequence: u64,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.sqlite");
        Self {
            catalog: Catalog::open(&file).unwrap(),
            _folder: folder,
            file,
            next: 0,
            sequence: 0,
        }
    }

    /// Takes in a commit of these records, of the writer 1.
    fn commit(&mut self, records: impl IntoIterator<Item = Record>) -> Vec<RecordId> {
        self.commit_with(records, &HashMap::new())
    }

    fn commit_with(
        &mut self,
        records: impl IntoIterator<Item = Record>,
        local: &HashMap<RecordId, LocalStat>,
    ) -> Vec<RecordId> {
        self.sequence += 1;
        let mut stamped = Vec::new();
        for record in records {
            let stamp = Stamp {
                sequence: self.sequence,
                id: id(1, self.next),
            };
            self.next += 1;
            stamped.push((stamp, record));
        }
        take_in(&mut self.catalog, self.sequence, &stamped, local, &[]).unwrap();
        stamped.iter().map(|(stamp, _)| stamp.id).collect()
    }

    fn reader(&self) -> Reader {
        self.catalog.reader().unwrap()
    }
}

fn take_in(
    catalog: &mut Catalog,
    sequence: u64,
    records: &[(Stamp, Record)],
    local: &HashMap<RecordId, LocalStat>,
    vanished: &[RecordId],
) -> Result<u64, CatalogError> {
    let position = Position {
        sequence,
        ..Position::default()
    };
    let with = TakeIn {
        position: &position,
        local,
        layouts: &[],
        vanished,
    };
    catalog.take_in(records, &with)
}

fn record() -> impl Strategy<Value = Record> {
    let source = prop_oneof![3 => Just(SOURCE), 1 => Just(OTHER)];
    let name = prop_oneof![
        Just("/"),
        Just("/a"),
        Just("/a/b"),
        Just("/a/b/c"),
        Just("/a/d"),
        Just("/e/f"),
    ];
    let time = (-3_i64..3, 0..3_u32).prop_map(|(seconds, nanos)| FileTime { seconds, nanos });
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
    let content = prop_oneof![
        1 => Just(Content::Folder),
        1 => Just(Content::Fifo),
        1 => any::<Vec<u8>>().prop_map(Content::Symlink),
        1 => name.clone().prop_map(|name| Content::HardLink(path(name))),
        1 => (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(block, major, minor)| {
            Content::Device { block, major, minor }
        }),
        4 => proptest::collection::vec((0..4_u64, 0..9_u32), 0..6).prop_map(|chunks| {
            Content::Regular {
                size: 9,
                blake3: [4; 32],
                chunks: ChunkExtent::join(chunks.iter().map(|(n, i)| chunk(*n, *i))),
            }
        }),
    ];
    let event = prop_oneof![
        Just(PathEvent::Gone),
        Just(PathEvent::Evicted),
        Just(PathEvent::Found),
        Just(PathEvent::Removed)
    ];
    let some_id = (1..4_u8, 0..12_u64).prop_map(|(writer, counter)| id(writer, counter));
    let reference = any::<[u8; 32]>().prop_map(|root| ObjectRef {
        root: RootHash(root),
        length: 4096,
    });
    prop_oneof![
        8 => (source.clone(), name.clone(), metadata, content).prop_map(
            |(source, name, metadata, content)| Record::File {
                source,
                path: path(name),
                metadata,
                content
            }
        ),
        4 => (source.clone(), name, event).prop_map(|(source, name, event)| Record::Path {
            source,
            path: path(name),
            event
        }),
        2 => (source.clone(), 0..99_u64).prop_map(|(source, time)| Record::RunBegin { source, time }),
        2 => (some_id.clone(), 0..99_u64).prop_map(|(run, time)| Record::RunEnd {
            run,
            time,
            files: 3,
            bytes_stored: 4
        }),
        2 => proptest::collection::btree_set(some_id.clone(), 1..4)
            .prop_map(|ids| Record::Dropped { ids: ids.into_iter().collect() }),
        2 => (some_id, any::<bool>()).prop_map(|(id, pinned)| Record::Pin { id, pinned }),
        2 => ((0..4_u64, 0..9_u32), (0..4_u64, 0..9_u32), 1..4_u32).prop_map(|(from, to, count)| {
            Record::Moved { from: chunk(from.0, from.1), to: chunk(to.0, to.1), count }
        }),
        1 => (0..3_u64, any::<bool>(), reference).prop_map(|(n, other, reference)| Record::Pack {
            number: chunk(n, 0).pack,
            channel: if other { ChannelId([3; 32]) } else { CHANNEL },
            reference
        }),
        1 => ("[a-zé]{0,3}", source).prop_map(|(label, source)| Record::Source { source, label }),
        1 => ("[a-z]{0,3}", any::<bool>(), proptest::collection::vec("[a-z]{1,3}", 0..3)).prop_map(
            |(name, closed, addresses)| Record::Channel {
                channel: CHANNEL,
                auth: [5; 32],
                name,
                addresses,
                closed
            }
        ),
        1 => (0..3_u64, any::<[u8; 32]>()).prop_map(|(epoch, channel)| Record::Layout {
            epoch,
            channels: vec![CHANNEL, ChannelId(channel)]
        }),
        1 => (prop_oneof![Just(""), Just("*.o")], proptest::option::of(any::<u32>())).prop_map(
            |(pattern, last)| Record::Policy {
                pattern: pattern.to_owned(),
                policy: last.map(|last| Policy { last, ..Policy::default() })
            }
        ),
        1 => (0..3_u8, 0..9_u32, any::<bool>()).prop_map(|(n, index, retired)| Record::Dictionary {
            id: ChunkId([n; 32]),
            domain: Domain(2),
            chunk: chunk(5, index),
            retired
        }),
        1 => (0..0x80_u8, any::<Vec<u8>>()).prop_map(|(kind, body)| Record::Unknown { kind, body }),
    ]
}

/// Records of three writers, ascending by stamp, each name once.
fn history() -> impl Strategy<Value = Vec<(Stamp, Record)>> {
    let step = (1..4_u8, 0..3_u64, 0..2_u64, record());
    proptest::collection::vec(step, 0..40).prop_map(|steps| {
        let mut counters = [0; 4];
        let mut sequence = 1;
        let mut records: Vec<(Stamp, Record)> = Vec::new();
        for (writer, skip, sequences, record) in steps {
            sequence += sequences;
            let counter = counters[usize::from(writer)] + skip;
            counters[usize::from(writer)] = counter + 1;
            let id = id(writer, counter);
            records.push((Stamp { sequence, id }, record));
        }
        records.sort_by_key(|(stamp, _)| *stamp);
        records
    })
}

/// Takes in a history cut into commits of so many sequences, and gives the state of the same records.
fn both(records: &[(Stamp, Record)], sequences: u64) -> (Scene, State) {
    let mut scene = Scene::new();
    let mut state = State::default();
    for (stamp, record) in records {
        state.apply(*stamp, record.clone());
    }
    let steps = records
        .chunk_by(|(one, _), (other, _)| one.sequence / sequences == other.sequence / sequences);
    for step in steps {
        let last = step.last().unwrap().0.sequence;
        let new = take_in(&mut scene.catalog, last, step, &HashMap::new(), &[]).unwrap();
        assert_eq!(new, step.len() as u64);
    }
    (scene, state)
}

fn check(scene: &Scene, state: &State) {
    let reader = scene.reader();
    for ((source, path), entries) in state.paths() {
        let newest = reader.newest(*source, path).unwrap();
        let newest = newest
            .as_ref()
            .map(|(it, presence)| (it.stamp.id, &it.metadata, &it.content, *presence));
        assert_eq!(newest, state.newest(*source, path), "{path:?}");
        let history = reader.history(*source, path).unwrap();
        let mut numbers = 1..;
        let mut kept: Vec<_> = entries
            .iter()
            .filter(|(stamp, _)| state.is_kept(stamp.id))
            .filter_map(|(stamp, entry)| match entry {
                Entry::Revision { metadata, content } => {
                    Some((numbers.next().unwrap(), *stamp, metadata, content))
                }
                Entry::Event(_) => None,
            })
            .collect();
        kept.reverse();
        let history: Vec<_> = history
            .iter()
            .map(|it| {
                let revision = &it.revision;
                (
                    it.number,
                    revision.stamp,
                    &revision.metadata,
                    &revision.content,
                )
            })
            .collect();
        assert_eq!(history, kept, "{path:?}");
        // What a scan is told.
        let known = reader.known(*source, path).unwrap();
        let told = state.newest(*source, path).filter(|it| state.is_kept(it.0));
        assert_eq!(
            known.map(|it| (it.id, it.modified, it.presence)),
            told.map(|(id, metadata, _, presence)| (id, metadata.modified, presence))
        );
    }
    for id in state.records().keys() {
        assert!(reader.knows(*id).unwrap());
        assert_eq!(reader.is_kept(*id).unwrap(), state.is_kept(*id), "{id:?}");
    }
    for writer in 1..4 {
        let writer = WriterId([writer; 16]);
        assert_eq!(
            reader.next_counter(writer).unwrap(),
            state.next_counter(writer)
        );
        assert_eq!(reader.next_pack(writer).unwrap(), state.next_pack(writer));
    }
    for pack in 0..6 {
        for index in 0..14 {
            let chunk = chunk(pack, index);
            assert_eq!(reader.resolve(chunk).unwrap(), state.resolve(chunk));
        }
        for channel in [CHANNEL, ChannelId([3; 32])] {
            let number = chunk(pack, 0).pack;
            assert_eq!(
                reader.pack(number, channel).unwrap(),
                state.pack(number, channel)
            );
        }
    }
    for channel in [CHANNEL, ChannelId([3; 32])] {
        let packs: Vec<_> = state.packs(channel).collect();
        assert_eq!(reader.packs(channel).unwrap(), packs);
    }
    let sources = reader.sources().unwrap();
    let sources: Vec<_> = sources
        .iter()
        .map(|(id, text)| (*id, text.as_str()))
        .collect();
    assert_eq!(sources, state.sources().collect::<Vec<_>>());
    let channels = reader.channels().unwrap();
    let channels: Vec<_> = channels.iter().map(|(id, info)| (*id, info)).collect();
    assert_eq!(channels, state.channels().collect::<Vec<_>>());
    let dictionaries = reader.dictionaries().unwrap();
    let dictionaries: Vec<_> = dictionaries.iter().map(|(id, it)| (*id, it)).collect();
    assert_eq!(dictionaries, state.dictionaries().collect::<Vec<_>>());
    assert_eq!(reader.policy().unwrap(), state.policy());
    let layout = reader.store_layout().unwrap();
    let layout = layout
        .as_ref()
        .map_or((0, &[][..]), |it| (it.epoch, &it.channels[..]));
    assert_eq!(layout, state.layout());
    let runs = reader.runs().unwrap();
    assert_eq!(runs.len(), state.runs().len());
    for run in &runs {
        let known = &state.runs()[&run.id];
        assert_eq!(
            (run.begun, run.source, run.time),
            (known.begun, known.source, known.time)
        );
        assert_eq!(run.end.map(|end| (end.stamp, end.time)), state.end(run.id));
        assert_eq!(run.kept, state.is_kept(run.id));
        assert_eq!(run.pinned, state.is_pinned(run.id));
    }
    check_totals(&reader, state);
    check_lists(&reader, state);
}

/// What lists show now, and as each completed run left its source.
fn check_lists(reader: &Reader, state: &State) {
    type Row<'a> = (SourceId, &'a StorePath, RecordId);
    let rows = |listed: &'_ [Listed]| -> Vec<(SourceId, StorePath, RecordId)> {
        listed
            .iter()
            .map(|it| {
                (
                    it.revision.source,
                    it.revision.path.clone(),
                    it.revision.stamp.id,
                )
            })
            .collect()
    };
    let owned = |rows: Vec<Row<'_>>| -> Vec<(SourceId, StorePath, RecordId)> {
        rows.into_iter()
            .map(|(s, p, id)| (s, p.clone(), id))
            .collect()
    };
    let present: Vec<Row<'_>> = state
        .paths()
        .keys()
        .filter_map(|(source, path)| {
            let (id, _, _, presence) = state.newest(*source, path)?;
            (presence == Presence::Present && state.is_kept(id)).then_some((*source, path, id))
        })
        .collect();
    let mut listed = reader.list(&Filter::default()).unwrap();
    // A path that is there and whose newest revision is dropped: an older one that is kept is shown.
    listed.retain(|it| {
        let newest = state.newest(it.revision.source, &it.revision.path).unwrap();
        state.is_kept(newest.0)
    });
    assert_eq!(rows(&listed), owned(present));
    let ended: Vec<_> = state
        .runs()
        .iter()
        .filter_map(|(id, run)| Some((*id, run.source, state.end(*id)?.0)))
        .collect();
    for (run, source, end) in &ended {
        let filter = Filter {
            when: When::Run(*run),
            ..Filter::default()
        };
        let then = state.as_of(*source, *end);
        let then: Vec<Row<'_>> = then.map(|(path, id, _)| (*source, path, id)).collect();
        assert_eq!(rows(&reader.list(&filter).unwrap()), owned(then));
        for (other, of, until) in &ended {
            if of == source {
                check_diff(reader, state, (*run, *end), (*other, *until), *source);
            }
        }
    }
    for source in [SOURCE, OTHER] {
        let kept = state.kept_runs(source).into_iter();
        let last = kept
            .filter(|(_, time)| time.0 <= 50)
            .max_by_key(|(id, time)| (*time, state.end(*id).unwrap().0));
        let at = reader.run_at(source, Timestamp(50)).unwrap();
        assert_eq!(at.map(|run| run.id), last.map(|(id, _)| id));
    }
}

fn check_diff(
    reader: &Reader,
    state: &State,
    (before, first): (RecordId, Stamp),
    (after, second): (RecordId, Stamp),
    source: SourceId,
) {
    let at = |stamp| -> BTreeMap<StorePath, RecordId> {
        let then = state.as_of(source, stamp);
        then.map(|(path, id, _)| (path.clone(), id)).collect()
    };
    let (was, is) = (at(first), at(second));
    let paths: BTreeSet<_> = was.keys().chain(is.keys()).collect();
    let differing: Vec<_> = paths
        .into_iter()
        .map(|path| (path.clone(), was.get(path).copied(), is.get(path).copied()))
        .filter(|(_, was, is)| was != is)
        .collect();
    let name = |revision: Option<Revision>| revision.map(|it| it.stamp.id);
    let differences = reader.diff(before, after).unwrap().into_iter();
    let differences: Vec<_> = differences
        .map(|it| (it.path, name(it.before), name(it.after)))
        .collect();
    assert_eq!(differences, differing);
}

fn check_totals(reader: &Reader, state: &State) {
    let mut totals = Totals {
        revisions: state.kept_revisions().count() as u64,
        ..Totals::default()
    };
    for (source, path) in state.paths().keys() {
        if let Some((id, _, Content::Regular { size, .. }, presence)) = state.newest(*source, path)
            && state.is_kept(id)
        {
            match presence {
                Presence::Present => {
                    totals.files_present += 1;
                    totals.bytes_present += size;
                }
                Presence::Evicted => {
                    totals.files_evicted += 1;
                    totals.bytes_evicted += size;
                }
                _ => {}
            }
        }
    }
    assert_eq!(reader.totals().unwrap(), totals);
}

/// Says the same of all that is kept; of what is not, the catalog may know more.
fn check_kept(scene: &Scene, state: &State) {
    let reader = scene.reader();
    let mut kept: Vec<_> = state
        .kept_revisions()
        .map(|(id, it)| (id, it.clone()))
        .collect();
    kept.sort_by_key(|(id, _)| *id);
    let mut told = Vec::new();
    for (source, path) in state.paths().keys() {
        for it in reader.history(*source, path).unwrap() {
            told.push((it.revision.stamp.id, it.revision.content));
        }
    }
    told.sort_by_key(|(id, _)| *id);
    let ids = |all: &[(RecordId, Content)]| all.iter().map(|it| it.0).collect::<Vec<_>>();
    assert_eq!(ids(&told), ids(&kept));
    for ((_, one), (_, other)) in told.iter().zip(&kept) {
        let now: Vec<_> = state.resolve_all(other.extents()).collect();
        assert_eq!(reader.resolve_all(one).unwrap(), ChunkExtent::join(now));
    }
    assert_eq!(reader.totals().unwrap().revisions, kept.len() as u64);
    for source in [SOURCE, OTHER] {
        let runs = reader.runs().unwrap().into_iter();
        let mut runs: Vec<_> = runs
            .filter(|run| run.source == source && run.kept && run.end.is_some())
            .map(|run| run.id)
            .collect();
        runs.sort_unstable();
        let known: Vec<_> = state
            .kept_runs(source)
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        assert_eq!(runs, known);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A device that was away while another merged: records of before its position come again with references turned, and some that it
    /// has, or has never heard of, are gone.
    #[test]
    fn a_merge_seen_from_any_position_leaves_what_a_replay_of_it_says(
        records in history(),
        seen in any::<prop::sample::Index>(),
        merged in any::<prop::sample::Index>(),
    ) {
        // Moves in circles and packs moved into themselves are no honest history: what folding them gives depends on when.
        let records: Vec<_> = records
            .into_iter()
            .filter(|(_, record)| match record {
                Record::Moved { from, to, .. } => from.pack < to.pack && to.index == 0,
                _ => true,
            })
            .collect();
        let last = records.last().map_or(1, |(stamp, _)| stamp.sequence);
        let seen = seen.index(usize::try_from(last).unwrap() + 1) as u64;
        let mut state = State::default();
        for (stamp, record) in &records {
            state.apply(*stamp, record.clone());
        }
        // The first of the journal's records are one segment before the merge, the rest another.
        let (old, rest) = records.split_at(merged.index(records.len() + 1));
        let survivors = Judge::new(&state).merge(old.to_vec());
        let mut after = State::default();
        for (stamp, record) in survivors.iter().chain(rest) {
            after.apply(*stamp, record.clone());
        }
        let mut scene = Scene::new();
        let known: Vec<_> = records.iter().filter(|it| it.0.sequence <= seen).cloned().collect();
        take_in(&mut scene.catalog, seen, &known, &HashMap::new(), &[]).unwrap();
        let mut fresh = survivors;
        fresh.extend(rest.iter().filter(|it| it.0.sequence > seen).cloned());
        fresh.sort_by_key(|(stamp, _)| *stamp);
        let vanished: Vec<_> = old.iter().map(|(stamp, _)| stamp.id).collect();
        take_in(&mut scene.catalog, last + 1, &fresh, &HashMap::new(), &vanished).unwrap();
        check_kept(&scene, &after);
    }

    #[test]
    fn the_catalog_answers_as_the_state_of_the_same_records(
        records in history(),
        sequences in 1..5_u64,
    ) {
        let (scene, state) = both(&records, sequences);
        check(&scene, &state);
    }
}

#[test]
fn children_stand_in_byte_order_with_what_a_scan_asks() {
    let mut scene = Scene::new();
    let local = LocalStat {
        device: 1,
        inode: 2,
        changed: FileTime {
            seconds: 3,
            nanos: 4,
        },
    };
    let ids = scene.commit_with(
        [
            folder("/u"),
            folder("/u/b"),
            file("/u/b/x", &[]),
            file("/u/a", &[]),
            file("/u/b.txt", &[]),
        ],
        &[(id(1, 3), local)].into(),
    );
    scene.commit([event("/u/b.txt", PathEvent::Gone)]);
    let reader = scene.reader();
    let u = reader.folder(SOURCE, &path("/u")).unwrap().unwrap();
    let children: Vec<KnownEntry> = reader.children(u).map(Result::unwrap).collect();
    let seen: Vec<_> = children
        .iter()
        .map(|it| (&it.name[..], it.id, it.presence, it.local, it.kind))
        .collect();
    assert_eq!(
        seen,
        [
            (
                &b"a"[..],
                ids[3],
                Presence::Present,
                Some(local),
                Kind::Regular
            ),
            (b"b", ids[1], Presence::Present, None, Kind::Folder),
            (b"b.txt", ids[4], Presence::Gone, None, Kind::Regular),
        ]
    );
    let below: Vec<_> = reader.children(children[1].folder.unwrap()).collect();
    assert_eq!(below.len(), 1);
    // On the way to others, not itself stored.
    assert!(reader.folder(SOURCE, &path("/")).unwrap().is_some());
    assert!(reader.known(SOURCE, &path("/")).unwrap().is_none());
}

#[test]
fn a_folder_of_more_rows_than_a_page_is_read_whole() {
    let mut scene = Scene::new();
    let names: Vec<String> = (0..2500).map(|n| format!("/u/{n:05}")).collect();
    scene.commit(names.iter().map(|name| file(name, &[])));
    let reader = scene.reader();
    let u = reader.folder(SOURCE, &path("/u")).unwrap().unwrap();
    let read: Vec<_> = reader
        .children(u)
        .map(|it| format!("/u/{}", String::from_utf8(it.unwrap().name).unwrap()))
        .collect();
    assert_eq!(read, names);
}

#[test]
fn a_reader_sees_the_catalog_as_it_was_when_it_opened() {
    let mut scene = Scene::new();
    scene.commit([file("/a", &[])]);
    let before = scene.reader();
    scene.commit([file("/b", &[])]);
    assert!(before.newest(SOURCE, &path("/b")).unwrap().is_none());
    assert!(
        scene
            .reader()
            .newest(SOURCE, &path("/b"))
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_long_log_is_emptied_once_nobody_reads_of_it() {
    let mut scene = Scene::new();
    let log = scene.file.with_extension("sqlite-wal");
    let length = || fs::metadata(&log).unwrap().len();
    // As a scan does, it keeps the log from being emptied while it looks on.
    let looking = scene.reader();
    let long = "x".repeat(200);
    scene.commit((0..20_000).map(|n| file(&format!("/{long}{n}"), &[])));
    assert!(length() > LOG_BYTES_MAX);
    scene.catalog.tidy().unwrap();
    assert!(length() > LOG_BYTES_MAX);
    drop(looking);
    scene.catalog.tidy().unwrap();
    assert_eq!(length(), 0);
    let newest = scene.reader().newest(SOURCE, &path(&format!("/{long}7")));
    assert!(newest.unwrap().is_some());
    // A short one costs less than emptying it.
    scene.commit([file("/b", &[])]);
    scene.catalog.tidy().unwrap();
    assert!(length() > 0);
}

#[test]
fn what_is_not_a_catalog_of_this_version_is_told() {
    let scene = Scene::new();
    let foreign = scene.file.with_extension("other");
    fs::write(&foreign, vec![7; 9000]).unwrap();
    let error = Catalog::open(&foreign).unwrap_err();
    assert!(matches!(error, CatalogError::Foreign) && error.wants_rebuild());
    drop(Catalog::replace(&foreign).unwrap());
    drop(Catalog::open(&foreign).unwrap());
    let other = rusqlite::Connection::open(&foreign).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    drop(other);
    let error = Catalog::open(&foreign).unwrap_err();
    assert!(matches!(error, CatalogError::Version { found: 99, .. }) && error.wants_rebuild());
}

fn paths(listed: &[Listed]) -> Vec<String> {
    listed
        .iter()
        .map(|it| format!("{:?}", it.revision.path))
        .collect()
}

#[test]
fn patterns_mean_a_folder_a_glob_or_a_literal_name() {
    let mut scene = Scene::new();
    scene.commit([
        folder("/u"),
        folder("/u/docs"),
        file("/u/docs/a.txt", &[]),
        file("/u/docs/b.md", &[]),
        folder("/u/docs/deep"),
        file("/u/docs/deep/c.txt", &[]),
        file("/u/docs2", &[]),
        file("/u/odd[1].txt", &[]),
    ]);
    let reader = scene.reader();
    let list = |pattern: &str| {
        let filter = Filter {
            patterns: vec![reader.pattern(SOURCE, pattern).unwrap()],
            ..Filter::default()
        };
        paths(&reader.list(&filter).unwrap())
    };
    let docs = [
        "/u/docs",
        "/u/docs/a.txt",
        "/u/docs/b.md",
        "/u/docs/deep",
        "/u/docs/deep/c.txt",
    ];
    assert_eq!(list("/u/docs"), docs);
    assert_eq!(list("/u/docs/"), docs);
    assert_eq!(list("docs"), docs);
    assert_eq!(list("/u/docs/*.txt"), ["/u/docs/a.txt"]);
    assert_eq!(
        list("/u/**/*.txt"),
        ["/u/docs/a.txt", "/u/docs/deep/c.txt", "/u/odd[1].txt"]
    );
    assert_eq!(list("*.md"), ["/u/docs/b.md"]);
    assert_eq!(list("/u/d*p"), [""; 0]);
    assert_eq!(list("/u/docs/d*p"), ["/u/docs/deep", "/u/docs/deep/c.txt"]);
    assert_eq!(list("/u/odd[1].txt"), ["/u/odd[1].txt"]);
    assert_eq!(list("/u/nothing"), [""; 0]);
    assert!(matches!(
        reader.pattern(SOURCE, "/u/[a"),
        Err(CatalogError::Pattern { .. })
    ));
}

#[test]
fn names_are_found_anywhere_with_and_without_the_index() {
    let mut scene = Scene::new();
    scene.commit([
        folder("/u"),
        file("/u/report.txt", &[]),
        file("/u/x/report2.txt", &[]),
        file("/u/x/rep", &[]),
        file("/u/x/old-report.txt", &[]),
    ]);
    scene.commit([event("/u/x/report2.txt", PathEvent::Gone)]);
    for _ in 0..2 {
        let reader = scene.reader();
        let find = |glob: &str| paths(&reader.find(glob, Some(SOURCE)).unwrap());
        assert_eq!(find("report*"), ["/u/report.txt", "/u/x/report2.txt"]);
        assert_eq!(
            find("*report.txt"),
            ["/u/x/old-report.txt", "/u/report.txt"]
        );
        assert_eq!(find("rep"), ["/u/x/rep"]);
        assert_eq!(reader.find("rep", Some(OTHER)).unwrap(), []);
        drop(reader);
        scene.catalog.index_names().unwrap();
    }
}

#[test]
fn the_index_of_names_is_what_a_search_goes_by() {
    let mut scene = Scene::new();
    scene.commit([file("/u/report.txt", &[])]);
    scene.catalog.index_names().unwrap();
    let reader = scene.reader();
    let plan: String = reader
        .connection
        .query_row(
            &format!("EXPLAIN QUERY PLAN {}", list::FIND),
            (b"a", b"b"),
            |row| row.get(3),
        )
        .unwrap();
    assert!(
        plan.contains("SEARCH path USING COVERING INDEX path_by_name"),
        "{plan}"
    );
}

#[test]
fn what_is_not_there_is_listed_only_if_asked_for() {
    use Presence::{Evicted, Gone, Present, Removed};

    let mut scene = Scene::new();
    scene.commit([
        file("/a", &[]),
        file("/b", &[]),
        file("/c", &[]),
        file("/d", &[]),
    ]);
    scene.commit([
        event("/b", PathEvent::Evicted),
        event("/c", PathEvent::Gone),
        event("/d", PathEvent::Removed),
    ]);
    let reader = scene.reader();
    assert_eq!(paths(&reader.list(&Filter::default()).unwrap()), ["/a"]);
    let all = Filter {
        all: true,
        ..Filter::default()
    };
    let all = reader.list(&all).unwrap();
    let seen: Vec<_> = all.iter().map(|it| it.presence).collect();
    assert_eq!(seen, [Present, Evicted, Gone, Removed]);
}

#[test]
fn numbers_of_revisions_count_the_kept_ones_from_the_oldest() {
    let mut scene = Scene::new();
    let first = scene.commit([file("/a", &[])]);
    scene.commit([file("/a", &[chunk(1, 0)])]);
    let third = scene.commit([file("/a", &[chunk(2, 0)])]);
    let numbers = |scene: &Scene| -> Vec<(u64, u64)> {
        let history = scene.reader().history(SOURCE, &path("/a")).unwrap();
        history
            .iter()
            .map(|it| (it.number, it.revision.stamp.id.counter))
            .collect()
    };
    assert_eq!(numbers(&scene), [(3, 2), (2, 1), (1, 0)]);
    scene.commit([Record::Dropped { ids: first.clone() }]);
    assert_eq!(numbers(&scene), [(2, 2), (1, 1)]);
    scene.commit([Record::Pin {
        id: first[0],
        pinned: true,
    }]);
    assert_eq!(numbers(&scene), [(3, 2), (2, 1), (1, 0)]);
    let listed = scene.reader().list(&Filter::default()).unwrap();
    assert_eq!((listed[0].number, listed[0].revisions), (3, 3));
    assert_eq!(listed[0].revision.stamp.id, third[0]);
}

/// A path found again whose revision was let go of must be stored anew, not called found: nothing would be kept.
#[test]
fn a_path_whose_newest_revision_is_dropped_is_unknown_to_a_scan() {
    let mut scene = Scene::new();
    let ids = scene.commit([file("/u/a", &[])]);
    scene.commit([event("/u/a", PathEvent::Gone), Record::Dropped { ids }]);
    let reader = scene.reader();
    assert!(reader.known(SOURCE, &path("/u/a")).unwrap().is_none());
    let u = reader.folder(SOURCE, &path("/u")).unwrap().unwrap();
    assert_eq!(reader.children(u).count(), 0);
}

#[test]
fn records_that_a_spill_has_turned_and_left_out_are_turned_and_left_out_here() {
    let mut scene = Scene::new();
    let ids = scene.commit([file("/a", &[chunk(5, 0)]), file("/b", &[chunk(5, 1)])]);
    let stamp = Stamp {
        sequence: 1,
        id: ids[0],
    };
    let turned = [(stamp, file("/a", &[chunk(6, 0)]))];
    take_in(&mut scene.catalog, 2, &turned, &HashMap::new(), &ids).unwrap();
    let reader = scene.reader();
    let (revision, _) = reader.newest(SOURCE, &path("/a")).unwrap().unwrap();
    let packs: Vec<_> = reader
        .packs_of(&revision.content)
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(packs, [chunk(6, 0).pack]);
    assert_eq!(reader.history(SOURCE, &path("/b")).unwrap(), []);
    assert!(!reader.is_kept(ids[1]).unwrap());
}

#[test]
fn records_out_of_order_or_of_an_unknown_past_are_refused_and_change_nothing() {
    let mut scene = Scene::new();
    scene.commit([file("/a", &[])]);
    let at = |sequence, counter| Stamp {
        sequence,
        id: id(1, counter),
    };
    let none = HashMap::new();
    let back = [(at(3, 8), file("/b", &[])), (at(3, 7), file("/c", &[]))];
    let error = take_in(&mut scene.catalog, 3, &back, &none, &[]).unwrap_err();
    assert!(matches!(error, CatalogError::OutOfOrder { .. }) && !error.wants_rebuild());
    let beyond = [(at(4, 8), file("/b", &[]))];
    let error = take_in(&mut scene.catalog, 3, &beyond, &none, &[]).unwrap_err();
    assert!(matches!(error, CatalogError::OutOfOrder { sequence: 4 }));
    let past = [(at(1, 9), file("/b", &[]))];
    let error = take_in(&mut scene.catalog, 3, &past, &none, &[]).unwrap_err();
    assert!(matches!(error, CatalogError::Behind { sequence: 1 }) && error.wants_rebuild());
    assert_eq!(scene.catalog.position().unwrap().sequence, 1);
    assert_eq!(
        paths(&scene.reader().list(&Filter::default()).unwrap()),
        ["/a"]
    );
    // The names that were given out in vain are free again.
    take_in(&mut scene.catalog, 4, &beyond, &none, &[]).unwrap();
    assert_eq!(
        paths(&scene.reader().list(&Filter::default()).unwrap()),
        ["/a", "/b"]
    );
}

#[test]
fn what_is_known_is_passed_over_and_what_comes_twice_counts_once() {
    let mut scene = Scene::new();
    let at = |counter| Stamp {
        sequence: 2,
        id: id(1, counter),
    };
    let records = [
        (at(0), file("/a", &[])),
        (at(0), file("/a", &[])),
        (at(1), file("/b", &[])),
    ];
    let none = HashMap::new();
    assert_eq!(
        take_in(&mut scene.catalog, 2, &records, &none, &[]).unwrap(),
        2
    );
    assert_eq!(
        take_in(&mut scene.catalog, 2, &records, &none, &[]).unwrap(),
        0
    );
    assert_eq!(scene.reader().totals().unwrap().revisions, 2);
}

#[test]
fn a_reset_leaves_an_empty_catalog_that_takes_everything_in_again() {
    let mut scene = Scene::new();
    scene.commit([file("/a", &[])]);
    scene.catalog.index_names().unwrap();
    scene.catalog.reset().unwrap();
    assert_eq!(scene.catalog.position().unwrap(), Position::default());
    assert_eq!(scene.reader().list(&Filter::default()).unwrap(), []);
    (scene.next, scene.sequence) = (0, 0);
    scene.commit([file("/b", &[])]);
    drop(Catalog::open(&scene.file).unwrap());
    assert_eq!(
        paths(&scene.reader().list(&Filter::default()).unwrap()),
        ["/b"]
    );
}

#[test]
fn what_this_machine_found_is_refreshed_for_the_newest_revision_only() {
    let mut scene = Scene::new();
    let old = scene.commit([file("/a", &[])]);
    let new = scene.commit([file("/a", &[chunk(1, 0)])]);
    let local = |inode| LocalStat {
        device: 1,
        inode,
        changed: FileTime::default(),
    };
    scene
        .catalog
        .refresh_local([(new[0], local(5)), (old[0], local(6)), (id(9, 9), local(7))])
        .unwrap();
    let known = |scene: &Scene| scene.reader().known(SOURCE, &path("/a")).unwrap().unwrap();
    assert_eq!(known(&scene).local, Some(local(5)));
    // Evicted: nothing is here any more.
    scene.commit([event("/a", PathEvent::Evicted)]);
    assert_eq!(known(&scene).local, None);
}

/// Whatever bytes the file holds, a call ends with an answer or an error, and damage is called damage.
#[test]
fn a_torn_or_altered_file_makes_no_call_panic() {
    let mut scene = Scene::new();
    for n in 0..40 {
        scene.commit([
            folder("/u"),
            file(&format!("/u/{n}"), &[chunk(n, 3)]),
            Record::RunBegin {
                source: SOURCE,
                time: n,
            },
        ]);
    }
    scene
        .catalog
        .connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let whole = fs::read(&scene.file).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut told = 0;
    for step in 0..120_usize {
        let mut bytes = whole.clone();
        if step % 3 == 0 {
            bytes.truncate(whole.len() * step / 120);
        } else {
            let at = (step * 7919) % (whole.len() - 100);
            bytes[at + 100..]
                .iter_mut()
                .take(37)
                .for_each(|byte| *byte ^= 0x5a);
        }
        let file = folder.path().join(format!("{step}"));
        fs::write(&file, bytes).unwrap();
        let look = || -> Result<(), CatalogError> {
            let catalog = Catalog::open(&file)?;
            let reader = catalog.reader()?;
            reader.list(&Filter::default())?;
            reader.runs()?;
            reader.find("*", None)?;
            if let Some(folder) = reader.folder(SOURCE, &path("/u"))? {
                for child in reader.children(folder) {
                    reader.revision(child?.id)?;
                }
            }
            Ok(())
        };
        if let Err(error) = look() {
            assert!(error.wants_rebuild(), "{error:?}");
            told += 1;
        }
    }
    assert!(told > 30, "{told}");
}
