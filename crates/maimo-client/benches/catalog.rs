//! What the catalog costs beside the bare database: taking in 200,000 new files, walking over them, looking one up.

use std::{collections::HashMap, hint::black_box, path::Path};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maimo_client::{
    catalog::{Catalog, FolderId, Position, Reader, TakeIn},
    local_stat::LocalStat,
};
use maimo_vault::{
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        metadata::{FileTime, Metadata},
        record::Record,
    },
    name::{ChunkRef, PackNumber, RecordId, SourceId, WriterId},
    path::{Prefix, StorePath},
};
use rusqlite::Connection;

const FILES: u64 = 200_000;
const FILES_PER_FOLDER: u64 = 50;
const SOURCE: SourceId = SourceId([7; 16]);
const WRITER: WriterId = WriterId([1; 16]);

/// A folder every 50 files, in walk order.
fn records() -> Vec<(Stamp, Record)> {
    let mut records = Vec::new();
    let mut push = |path: &str, content| {
        let counter = records.len() as u64;
        let id = RecordId {
            writer: WRITER,
            counter,
        };
        let time = FileTime {
            seconds: 1_795_392_000,
            nanos: 123_456_789,
        };
        let record = Record::File {
            source: SOURCE,
            path: StorePath::unix(path).expect("a path"),
            metadata: Metadata {
                mode: 0o644,
                uid: 1000,
                gid: 1000,
                modified: time,
                created: Some(time),
                ..Metadata::default()
            },
            content,
        };
        records.push((Stamp { sequence: 1, id }, record));
    };
    for n in 0..FILES {
        let folder = format!("/home/u/data/{:05}", n / FILES_PER_FOLDER);
        if n % FILES_PER_FOLDER == 0 {
            push(&folder, Content::Folder);
        }
        let first = ChunkRef {
            pack: PackNumber {
                writer: WRITER,
                n: n / 10_000,
            },
            index: u32::try_from(n % 10_000).expect("small"),
        };
        push(
            &format!("{folder}/record-{n:08}.json"),
            Content::Regular {
                size: 2000 + n % 1000,
                blake3: *blake3::hash(&n.to_le_bytes()).as_bytes(),
                chunks: vec![ChunkExtent { first, count: 1 }],
            },
        );
    }
    records
}

fn local(records: &[(Stamp, Record)]) -> HashMap<RecordId, LocalStat> {
    let stat = |counter| LocalStat {
        device: 66_305,
        inode: 10_000_000 + counter,
        changed: FileTime {
            seconds: 1_795_392_000,
            nanos: 987_654_321,
        },
    };
    let ids = records.iter().map(|(stamp, _)| stamp.id);
    ids.map(|id| (id, stat(id.counter))).collect()
}

fn taken_in(
    path: &Path,
    records: &[(Stamp, Record)],
    local: &HashMap<RecordId, LocalStat>,
) -> Catalog {
    let mut catalog = Catalog::open(path).expect("a catalog");
    let position = Position {
        sequence: 1,
        ..Position::default()
    };
    let with = TakeIn {
        position: &position,
        local,
        layouts: &[],
        vanished: &[],
    };
    catalog.take_in(records, &with).expect("records");
    catalog
}

/// Two tables with rows as long as the catalog's, in the same order, from bytes that are at hand.
fn bare(path: &Path, rows: u64) -> Connection {
    let connection = Connection::open(path).expect("a database");
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -16384;
             CREATE TABLE hot (folder INTEGER, name BLOB, child INTEGER, last INTEGER, fact BLOB,
                 PRIMARY KEY (folder, name)) WITHOUT ROWID;
             CREATE TABLE entry (ordinal INTEGER PRIMARY KEY, folder INTEGER, before INTEGER, name BLOB, body BLOB);
             BEGIN",
        )
        .expect("tables");
    {
        let mut hot = connection
            .prepare("INSERT INTO hot VALUES (?1, ?2, NULL, ?3, ?4)")
            .expect("a statement");
        let mut entry = connection
            .prepare("INSERT INTO entry VALUES (?1, ?2, NULL, ?3, ?4)")
            .expect("a statement");
        let mut name = *b"record-00000000.json";
        for n in 0..i64::try_from(rows).expect("few") {
            let folder = n / 51;
            name[7..15].copy_from_slice(format!("{n:08}").as_bytes());
            hot.execute((folder, &name[..], n, &[7_u8; 38][..]))
                .expect("a row");
            entry
                .execute((n, folder, &name[..], &[7_u8; 75][..]))
                .expect("a row");
        }
    }
    connection.execute_batch("COMMIT").expect("a commit");
    connection
}

/// Walks as a scan does; returns how many rows it saw.
fn walk(reader: &Reader, folder: FolderId) -> u64 {
    let mut rows = 0;
    for child in reader.children(folder) {
        let child = child.expect("a row");
        rows += 1;
        if let Some(folder) = child.folder {
            rows += walk(reader, folder);
        }
    }
    rows
}

fn catalog(c: &mut Criterion) {
    let records = records();
    let local = local(&records);
    let count = records.len() as u64;
    let folder = tempfile::tempdir().expect("a folder");
    let mut next = 0;
    let mut fresh = move || {
        next += 1;
        next
    };

    let mut group = c.benchmark_group("catalog");
    group.sample_size(10);
    group.throughput(Throughput::Elements(count));
    group.bench_function("bare inserts", |b| {
        b.iter_batched(
            || folder.path().join(format!("bare{}", fresh())),
            |path| bare(&path, count),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("take in", |b| {
        b.iter_batched(
            || folder.path().join(format!("catalog{}", fresh())),
            |path| taken_in(&path, &records, &local),
            BatchSize::PerIteration,
        );
    });

    let file = folder.path().join("bare");
    let connection = bare(&file, count);
    group.bench_function("bare select", |b| {
        b.iter(|| {
            let mut select = connection
                .prepare_cached("SELECT name, child, fact FROM hot ORDER BY folder, name")
                .expect("a statement");
            let mut rows = select.query([]).expect("rows");
            let mut bytes = 0;
            while let Some(row) = rows.next().expect("a row") {
                bytes += row
                    .get_ref(0)
                    .expect("a name")
                    .as_blob()
                    .expect("a blob")
                    .len();
                bytes += row
                    .get_ref(2)
                    .expect("a fact")
                    .as_blob()
                    .expect("a blob")
                    .len();
            }
            black_box(bytes)
        });
    });
    let catalog = taken_in(&folder.path().join("catalog"), &records, &local);
    let reader = catalog.reader().expect("a reader");
    let root = reader
        .folder(SOURCE, &StorePath::unix("/home/u/data").expect("a path"))
        .expect("an answer")
        .expect("a folder");
    assert_eq!(walk(&reader, root), count);
    group.bench_function("walk", |b| b.iter(|| walk(&reader, root)));
    group.bench_function("list", |b| {
        b.iter(|| {
            let mut rows = 0;
            let all = maimo_client::catalog::Filter::default();
            reader
                .each(&all, |_| {
                    rows += 1;
                    Ok::<_, maimo_client::catalog::CatalogError>(core::ops::ControlFlow::Continue(
                        (),
                    ))
                })
                .expect("a list");
            rows
        });
    });
    group.finish();

    let one = StorePath::unix("/home/u/data/02000/record-00100007.json").expect("a path");
    assert_eq!(one.prefix(), &Prefix::Unix);
    c.bench_function("catalog/one path", |b| {
        b.iter(|| {
            reader
                .newest(SOURCE, &one)
                .expect("an answer")
                .expect("a file")
        });
    });
    c.bench_function("catalog/open and one path", |b| {
        let path = folder.path().join("catalog");
        b.iter(|| {
            let catalog = Catalog::open(&path).expect("a catalog");
            let reader = catalog.reader().expect("a reader");
            reader
                .newest(SOURCE, &one)
                .expect("an answer")
                .expect("a file")
        });
    });
}

criterion_group!(benches, catalog);
criterion_main!(benches);
