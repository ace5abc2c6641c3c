//! The journal: batches, what packs repeat of them, and the paths in them.

use std::collections::BTreeSet;

use maimo_core::{
    codec::Reader,
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    journal::{
        batch::{Batch, Stamp},
        content::{ChunkExtent, Content},
        merge::Judge,
        metadata::{FileTime, Metadata},
        record::{PathEvent, Record},
        repeat::Repeat,
        state::State,
    },
    name::{ChunkId, ChunkRef, Domain, RecordId, SourceId, WriterId},
    path::{Prefix, StorePath},
    retention::Policy,
};

use super::{
    assert_canonical,
    sealed::{OTHER_WRITER, WRITER, number},
};

pub(super) fn batch(bytes: &[u8]) -> bool {
    let Ok(batch) = Batch::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &batch.encode());
    let records = batch.records();
    assert_eq!(Batch::new(records.to_vec()), batch);
    // Replay holds whatever the records say.
    let replay = |records: &mut dyn Iterator<Item = &(Stamp, Record)>| {
        let mut state = State::default();
        records.for_each(|(stamp, record)| state.apply(*stamp, record.clone()));
        state
    };
    let mut state = replay(&mut records.iter());
    let ids: BTreeSet<RecordId> = records.iter().map(|(stamp, _)| stamp.id).collect();
    if ids.len() == records.len() {
        assert!(
            state == replay(&mut records.iter().rev()),
            "replay depends on the order"
        );
    }
    for (_, record) in records {
        if let Record::Moved { from, to, .. } = record {
            state.resolve(*from);
            state.resolve(*to);
        }
    }
    let _ = state.policy();
    for (_, content) in state.kept_revisions() {
        let _ = state.resolve_all(content.extents()).take(100).count();
    }
    let judge = Judge::new(&state);
    let _ = judge.weigh(0, 4096, records.to_vec());
    let kept = judge.merge(records.to_vec());
    assert!(kept.len() <= records.len());
    state.forget(records);
    true
}

pub(super) fn batches() -> Vec<Vec<u8>> {
    let mut two = stamped(5, WRITER, some_records());
    two.extend(stamped(6, OTHER_WRITER, some_records()));
    let mut seeds = vec![
        Batch::default().encode(),
        some_batch().encode(),
        Batch::new(two).encode(),
    ];
    seeds.extend(
        some_records()
            .into_iter()
            .map(|record| Batch::new(stamped(1, WRITER, vec![record])).encode()),
    );
    seeds
}

/// What a data pack's table repeats.
pub(super) fn repeat(bytes: &[u8]) -> bool {
    let Ok(Some(repeat)) = Repeat::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &repeat.encode());
    true
}

pub(super) fn repeats() -> Vec<Vec<u8>> {
    let is_file = |record: &Record| matches!(record, Record::File { .. } | Record::Unknown { .. });
    let files: Vec<Record> = some_records().into_iter().filter(is_file).collect();
    let encode = |as_of, records| {
        Repeat {
            as_of,
            batch: Batch::new(records),
        }
        .encode()
    };
    vec![
        encode(9, stamped(0, WRITER, files.clone())),
        encode(u64::MAX, stamped(8, OTHER_WRITER, files[..1].to_vec())),
    ]
}

/// Paths, each after the one before.
pub(super) fn path(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes);
    let mut previous: Option<StorePath> = None;
    let mut again = Vec::new();
    while reader.remaining() > 0 {
        let Ok(path) = StorePath::parse_after(previous.as_ref(), &mut reader) else {
            return false;
        };
        path.encode_after(previous.as_ref(), &mut again);
        assert_canonical(&bytes[..bytes.len() - reader.remaining()], &again);
        assert_eq!(
            StorePath::new(path.prefix().clone(), path.components().to_vec()).as_ref(),
            Ok(&path)
        );
        let is_safe = |name: &Vec<u8>| {
            !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/')
        };
        assert!(
            path.components().iter().all(is_safe),
            "a component that leads elsewhere"
        );
        previous = Some(path);
    }
    previous.is_some()
}

pub(super) fn paths() -> Vec<Vec<u8>> {
    let paths = |texts: &[&str]| {
        let mut out = Vec::new();
        let mut previous = None;
        for text in texts {
            let path = StorePath::unix(text).expect("a path");
            path.encode_after(previous.as_ref(), &mut out);
            previous = Some(path);
        }
        out
    };
    let mut windows = Vec::new();
    StorePath::new(Prefix::Windows(b"C:".to_vec()), vec![b"a".to_vec()])
        .expect("a path")
        .encode_after(None, &mut windows);
    vec![
        paths(&["/", "/home", "/home/u/a", "/home/u/b", "/home/u/b", "/etc"]),
        paths(&["/a/b/c/d/e/f/g/h", "/a/b/c/d/e/f/g/i"]),
        windows,
    ]
}

pub(super) fn some_batch() -> Batch {
    Batch::new(stamped(0, WRITER, some_records()))
}

fn stamped(sequence: u64, writer: WriterId, records: Vec<Record>) -> Vec<(Stamp, Record)> {
    let stamp = |counter| Stamp {
        sequence,
        id: RecordId { writer, counter },
    };
    (0..)
        .zip(records)
        .map(|(counter, record)| (stamp(counter), record))
        .collect()
}

fn some_records() -> Vec<Record> {
    const SOURCE: SourceId = SourceId([7; 16]);
    const CHANNEL: ChannelId = ChannelId([4; 32]);
    let path = |text| StorePath::unix(text).expect("a path");
    let metadata = || Metadata {
        mode: 0o644,
        uid: 1000,
        modified: FileTime {
            seconds: -1,
            nanos: 999_999_999,
        },
        created: Some(FileTime {
            seconds: i64::MIN,
            nanos: 0,
        }),
        xattrs: vec![
            (b"user.a".to_vec(), b"1".to_vec()),
            (b"user.b".to_vec(), vec![]),
        ],
        ..Metadata::default()
    };
    let file = |name, content| Record::File {
        source: SOURCE,
        path: path(name),
        metadata: metadata(),
        content,
    };
    let chunks = [chunk(1, 0), chunk(1, 1), chunk(2, 5), chunk(1, 9)];
    let regular = Content::Regular {
        size: 99,
        blake3: [3; 32],
        chunks: ChunkExtent::join(chunks),
    };
    let run = RecordId {
        writer: WRITER,
        counter: 3,
    };
    let windows = StorePath::new(
        Prefix::Windows(b"C:".to_vec()),
        vec![b"Users".to_vec(), b"me".to_vec()],
    );
    vec![
        Record::Source {
            source: SOURCE,
            label: "laptop".to_owned(),
        },
        Record::Channel {
            channel: CHANNEL,
            auth: [2; 32],
            name: "friend".to_owned(),
            addresses: vec!["192.0.2.1:7000".to_owned()],
            closed: false,
        },
        Record::Layout {
            epoch: 1,
            channels: vec![CHANNEL],
        },
        Record::RunBegin {
            source: SOURCE,
            time: 1 << 40,
        },
        Record::Pack {
            number: number(1),
            channel: CHANNEL,
            reference: ObjectRef {
                root: RootHash([6; 32]),
                length: 4096,
            },
        },
        file("/home/u/a", regular),
        file("/home/u/b", Content::Symlink(b"a".to_vec())),
        file("/home/u/c", Content::HardLink(path("/home/u/a"))),
        file(
            "/home/u/dev",
            Content::Device {
                block: true,
                major: 8,
                minor: 1,
            },
        ),
        file("/home/u/folder", Content::Folder),
        file("/home/u/folder/fifo", Content::Fifo),
        Record::Path {
            source: SOURCE,
            path: path("/home/u/b"),
            event: PathEvent::Gone,
        },
        Record::Path {
            source: SOURCE,
            path: windows.expect("a path"),
            event: PathEvent::Evicted,
        },
        Record::Moved {
            from: chunk(1, 0),
            to: chunk(3, 7),
            count: 2,
        },
        Record::RunEnd {
            run,
            time: 1 << 41,
            files: 6,
            bytes_stored: 99,
        },
        Record::Dropped {
            ids: vec![run, RecordId { counter: 9, ..run }],
        },
        Record::Pin {
            id: run,
            pinned: true,
        },
        Record::Policy {
            pattern: "**".to_owned(),
            policy: Some(Policy::default()),
        },
        Record::Policy {
            pattern: "tmp".to_owned(),
            policy: None,
        },
        Record::Dictionary {
            id: ChunkId([1; 32]),
            domain: Domain(0),
            chunk: chunk(4, 0),
            retired: false,
        },
        Record::Unknown {
            kind: 5,
            body: b"later".to_vec(),
        },
    ]
}

fn chunk(n: u64, index: u32) -> ChunkRef {
    ChunkRef {
        pack: number(n),
        index,
    }
}
