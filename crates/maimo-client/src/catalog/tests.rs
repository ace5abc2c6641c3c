//! Claims about the catalog: it answers as the state in memory does, and a file that is not one is told.

use std::{collections::HashMap, fs, path::PathBuf};

use maimo_core::{id::ChannelId, id::RootHash, reference::ObjectRef};
use maimo_vault::{
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

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
