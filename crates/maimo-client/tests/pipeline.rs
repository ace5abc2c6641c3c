//! Runs of the pipeline on real files, into a sink that keeps everything.
#![allow(clippy::unwrap_used)]

#[path = "support/collector.rs"]
mod collector;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use collector::{Collector, SOURCE, channel};
use maimo_client::{
    error::ClientError,
    keys::{EPOCH, Opening, StoreKeys},
    pipeline::{Outcome, PipelineRequest, run},
    progress::{Control, Event},
    scan::known::NothingKnown,
};
use maimo_vault::{
    compress::Decompressor,
    dictionary::Dictionary,
    journal::{
        content::Content,
        record::{PathEvent, Record},
        repeat::Repeat,
    },
    name::{ChunkId, ChunkRef},
    pack::{PackKeys, PackKind, PackSize, open_pack},
    path::StorePath,
};
use tempfile::TempDir;

/// A folder of files as they were some time ago, so that their times are settled.
fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(root: &TempDir, name: &str, content: impl AsRef<[u8]>) {
    let path = root.path().join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Waits until a change could not have the same time as the last one any more.
fn settle() {
    std::thread::sleep(Duration::from_millis(30));
}

fn request(root: &Path) -> PipelineRequest {
    PipelineRequest::new(SOURCE, vec![root.to_owned()])
}

fn store(request: &PipelineRequest, sink: &mut Collector) -> Outcome {
    store_with(request, sink, &Control::default()).unwrap()
}

fn store_with(
    request: &PipelineRequest,
    sink: &mut Collector,
    control: &Control,
) -> Result<Outcome, ClientError> {
    let keys = StoreKeys::new(&collector::secret());
    let mut tree = sink.tree();
    tree.page = 3;
    run(request, &keys, &mut tree, sink, control)
}

fn store_path(path: &Path) -> StorePath {
    let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/');
    let names = names.filter(|name| !name.is_empty()).map(<[u8]>::to_vec);
    StorePath::new(maimo_vault::path::Prefix::Unix, names.collect()).unwrap()
}

const fn path_of(record: &Record) -> Option<&StorePath> {
    match record {
        Record::File { path, .. } | Record::Path { path, .. } => Some(path),
        _ => None,
    }
}

fn newest<'s>(sink: &'s Collector, path: &Path) -> Option<&'s Record> {
    let path = store_path(path);
    let mut records = sink.records.iter().rev().map(|(_, record)| record);
    records.find(|record| path_of(record) == Some(&path))
}

fn content<'s>(sink: &'s Collector, path: &Path) -> &'s Content {
    match newest(sink, path) {
        Some(Record::File { content, .. }) => content,
        other => panic!("{}: {other:?}", path.display()),
    }
}

/// Returns every chunk that was handed over, opened.
fn chunks(sink: &Collector) -> HashMap<ChunkRef, Vec<u8>> {
    let dictionaries: HashMap<ChunkId, Dictionary> = sink
        .dictionaries
        .iter()
        .map(|known| {
            let copy = Dictionary::new(known.id(), known.bytes().to_vec(), sink.level);
            (known.id(), copy.unwrap())
        })
        .collect();
    let context = Opening {
        keys: &sink.keys,
        dictionaries: &dictionaries,
    };
    let channel = channel();
    let mut found = HashMap::new();
    let mut decompressor = Decompressor::new();
    for pack in sink.packs.as_ref().unwrap() {
        let keys = PackKeys::new(&channel, EPOCH, PackKind::Data);
        let (reader, table) = open_pack(&pack.bytes, PackKind::Data, keys).unwrap();
        for (index, entry) in (0..).zip(table.layout.entries()) {
            let place = ChunkRef {
                pack: pack.layout.number(),
                index,
            };
            let range = table.layout.chunk_range(index).unwrap();
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let sealed = pack.bytes[range].to_vec();
            let plaintext = reader.open_chunk(entry, sealed, &context, &mut decompressor);
            found.insert(place, plaintext.unwrap());
        }
    }
    for piece in &sink.pieces {
        for (index, _) in (0..).zip(piece.entries()) {
            let place = ChunkRef {
                pack: piece.number(),
                index,
            };
            let plaintext = piece.open_chunk(index, &context, &mut decompressor);
            found.insert(place, plaintext.unwrap().unwrap());
        }
    }
    found
}

/// Holds every file record against the disk.
fn assert_stored(sink: &Collector) {
    let chunks = chunks(sink);
    for (_, record) in &sink.records {
        let Record::File { path, content, .. } = record else {
            continue;
        };
        let Content::Regular {
            size,
            blake3,
            chunks: extents,
        } = content
        else {
            continue;
        };
        let places = extents.iter().flat_map(|extent| extent.chunks());
        let bytes: Vec<u8> = places.flat_map(|place| chunks[&place].clone()).collect();
        assert_eq!(bytes.len() as u64, *size, "{path:?}");
        assert_eq!(blake3::hash(&bytes).as_bytes(), blake3, "{path:?}");
        if let Some(newest) = newest_on_disk(path)
            && matches!(self::newest(sink, &newest), Some(newest) if newest == record)
        {
            assert!(fs::read(newest).unwrap() == bytes, "{path:?}");
        }
    }
}

fn newest_on_disk(path: &StorePath) -> Option<std::path::PathBuf> {
    let mut found = std::path::PathBuf::from("/");
    found.extend(path.components().iter().map(|name| OsStr::from_bytes(name)));
    found.is_file().then_some(found)
}

fn random(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

#[test]
fn files_of_all_lengths_come_back_and_stand_in_walk_order() {
    let root = folder();
    for (number, length) in [0, 1, 100, 70_000, 1 << 20, (1 << 20) + 1, 9 << 20]
        .into_iter()
        .enumerate()
    {
        write(
            &root,
            &format!("d{}/f{number}", number % 3),
            random(number as u64, length),
        );
    }
    write(&root, "d1/copy", random(6, 9 << 20));
    write(&root, "zeros", vec![0; 5 << 20]);
    let mut sink = Collector::new(true);
    let mut request = request(root.path());
    request.pack_size = PackSize::new(1 << 20).unwrap();
    let outcome = store(&request, &mut sink);
    assert_eq!((outcome.files_new, outcome.troubles.len()), (9, 0));
    assert_stored(&sink);
    assert_eq!(
        content(&sink, &root.path().join("d1/copy")).extents(),
        content(&sink, &root.path().join("d0/f6")).extents()
    );
    let files = sink.records.iter().filter_map(|(_, record)| match record {
        Record::File {
            path,
            content: Content::Regular { .. },
            ..
        } => Some(path.components().to_vec()),
        _ => None,
    });
    let files: Vec<_> = files.collect();
    assert!(files.is_sorted());
    // New chunks stand in the order of the files.
    let firsts: Vec<_> = sink
        .records
        .iter()
        .filter_map(|(_, record)| match record {
            Record::File { path, content, .. }
                if !path.components().ends_with(&[b"copy".to_vec()]) =>
            {
                content.extents().first().map(|extent| extent.first)
            }
            _ => None,
        })
        .collect();
    assert!(firsts.is_sorted(), "{firsts:?}");
}

#[test]
fn what_was_written_this_moment_is_known_to_the_next_run() {
    let root = folder();
    let mut sink = Collector::new(true);
    for number in 0..20 {
        write(&root, &format!("{number}"), random(number, 500));
        store(&request(root.path()), &mut sink);
    }
    let outcome = store(&request(root.path()), &mut sink);
    assert_eq!((outcome.files_unmodified, outcome.bytes_read), (20, 0));
}

#[test]
fn a_second_run_finds_nothing_to_do_and_reads_nothing() {
    let root = folder();
    for number in 0..50 {
        write(
            &root,
            &format!("{}/{number}", number % 7),
            random(number, 500),
        );
    }
    symlink("0/0", root.path().join("link")).unwrap();
    settle();
    let mut sink = Collector::new(true);
    assert_eq!(store(&request(root.path()), &mut sink).files_new, 51);
    let records = sink.records.len();
    let outcome = store(&request(root.path()), &mut sink);
    assert_eq!((outcome.files_unmodified, outcome.bytes_read), (51, 0));
    assert_eq!(sink.records.len(), records);
    // Written again with the same bytes: read, and nothing to say.
    let path = root.path().join("3/3");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, random(3, 500)).unwrap();
    File::open(&path).unwrap().set_modified(modified).unwrap();
    settle();
    let outcome = store(&request(root.path()), &mut sink);
    assert_eq!((outcome.files_unmodified, outcome.bytes_read), (51, 500));
    assert_eq!(sink.records.len(), records);
    assert_eq!(store(&request(root.path()), &mut sink).bytes_read, 0);
    // Other bytes of the same length and time are seen all the same.
    fs::write(&path, random(4000, 500)).unwrap();
    File::open(&path).unwrap().set_modified(modified).unwrap();
    let outcome = store(&request(root.path()), &mut sink);
    assert_eq!((outcome.files_changed, outcome.files_unmodified), (1, 50));
    assert_stored(&sink);
}

#[test]
fn what_is_missing_is_gone_only_from_folders_that_were_read() {
    let root = folder();
    for name in ["a/one", "a/two", "b/three", "b/c/four", "keep.o", "e"] {
        write(&root, name, name);
    }
    settle();
    let mut sink = Collector::new(true);
    store(&request(root.path()), &mut sink);
    settle();
    fs::remove_file(root.path().join("a/one")).unwrap();
    fs::remove_dir_all(root.path().join("b")).unwrap();
    fs::remove_file(root.path().join("keep.o")).unwrap();
    // Only what is under the paths given.
    let outcome = store(&request(&root.path().join("a")), &mut sink);
    assert_eq!(outcome.files_gone, 1);
    let mut all = request(root.path());
    all.excludes = vec!["*.o".to_owned()];
    let outcome = store(&all, &mut sink);
    assert_eq!((outcome.files_gone, outcome.troubles.len()), (2, 0));
    for name in ["a/one", "b/three", "b/c/four", "b/c", "b"] {
        let gone = newest(&sink, &root.path().join(name));
        assert!(
            matches!(
                gone,
                Some(Record::Path {
                    event: PathEvent::Gone,
                    ..
                })
            ),
            "{name}: {gone:?}"
        );
    }
    let records = sink.records.len();
    assert_eq!(store(&all, &mut sink).files_gone, 0);
    assert_eq!(sink.records.len(), records);
    // There again as it was: no new revision.
    write(&root, "a/one", "a/one");
    let path = root.path().join("a/one");
    let times = sink.records.iter().find_map(|(_, record)| match record {
        Record::File {
            path: at, metadata, ..
        } if *at == store_path(&path) => Some(metadata.modified),
        _ => None,
    });
    let times = times.unwrap();
    let modified =
        SystemTime::UNIX_EPOCH + Duration::new(times.seconds.cast_unsigned(), times.nanos);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    store(&all, &mut sink);
    assert!(matches!(
        newest(&sink, &path),
        Some(Record::Path {
            event: PathEvent::Found,
            ..
        })
    ));
}

#[test]
fn a_folder_on_another_file_system_than_before_makes_nothing_gone() {
    let root = folder();
    write(&root, "disk/a", "a");
    write(&root, "disk/b", "b");
    settle();
    let mut sink = Collector::new(true);
    store(&request(root.path()), &mut sink);
    // As if the disk had been another one, and is not mounted now.
    for local in sink.locals.values_mut() {
        local.device += 1;
    }
    let root_path = store_path(root.path());
    let root_id = sink
        .records
        .iter()
        .find_map(|(id, record)| (path_of(record) == Some(&root_path)).then_some(*id));
    sink.locals.get_mut(&root_id.unwrap()).unwrap().device -= 1;
    fs::remove_file(root.path().join("disk/a")).unwrap();
    fs::remove_file(root.path().join("disk/b")).unwrap();
    for _ in 0..2 {
        let outcome = store(&request(root.path()), &mut sink);
        assert_eq!((outcome.files_gone, outcome.troubles.len()), (0, 1));
    }
    fs::remove_dir(root.path().join("disk")).unwrap();
    assert_eq!(store(&request(root.path()), &mut sink).files_gone, 0);
}

fn changed(root: &TempDir, names: &[&str]) -> PipelineRequest {
    let paths = names.iter().map(|name| root.path().join(name)).collect();
    PipelineRequest {
        changed: true,
        ..PipelineRequest::new(SOURCE, paths)
    }
}

fn is_gone(sink: &Collector, path: &Path) -> bool {
    let gone = PathEvent::Gone;
    matches!(newest(sink, path), Some(Record::Path { event, .. }) if *event == gone)
}

#[test]
fn of_changed_paths_only_those_are_looked_at_and_what_vanished_is_gone_with_all_below() {
    let root = folder();
    for name in ["a/one", "a/two", "b/three", "b/c/four", "d/five"] {
        write(&root, name, name);
    }
    settle();
    let mut sink = Collector::new(true);
    store(&request(root.path()), &mut sink);
    settle();
    fs::remove_file(root.path().join("a/one")).unwrap();
    fs::remove_dir_all(root.path().join("b")).unwrap();
    fs::remove_file(root.path().join("d/five")).unwrap();
    write(&root, "a/new", "new");
    let of_some = changed(&root, &["a/one", "a/new", "b", "never/was", "a/brief"]);
    let outcome = store(&of_some, &mut sink);
    assert_eq!((outcome.files_gone, outcome.files_new), (3, 1));
    assert_eq!(outcome.files_unmodified, 0);
    assert_eq!(outcome.troubles, []);
    for name in ["a/one", "b", "b/three", "b/c", "b/c/four"] {
        assert!(is_gone(&sink, &root.path().join(name)), "{name}");
    }
    // Nobody said that it changed.
    assert!(!is_gone(&sink, &root.path().join("d/five")));
    // The folders' own times are stored with them: a run over everything finds that file, its folder, and nothing else.
    let outcome = store(&request(root.path()), &mut sink);
    assert_eq!((outcome.files_gone, outcome.files_new), (1, 0));
    let records = sink.records.len();
    store(&request(root.path()), &mut sink);
    assert_eq!(sink.records.len(), records);
    store(&changed(&root, &["a/one", "a/new", "b"]), &mut sink);
    assert_eq!(sink.records.len(), records);
}

#[test]
fn a_path_that_vanished_with_its_file_system_is_not_gone() {
    let root = folder();
    write(&root, "disk/a", "a");
    settle();
    let mut sink = Collector::new(true);
    store(&request(root.path()), &mut sink);
    for local in sink.locals.values_mut() {
        local.device += 1;
    }
    fs::remove_file(root.path().join("disk/a")).unwrap();
    let outcome = store(&changed(&root, &["disk/a"]), &mut sink);
    assert_eq!((outcome.files_gone, outcome.troubles.len()), (0, 1));
    // Nor is one whose folder is away.
    fs::remove_dir(root.path().join("disk")).unwrap();
    let outcome = store(&changed(&root, &["disk/a"]), &mut sink);
    assert_eq!((outcome.files_gone, outcome.troubles.len()), (0, 1));
}

#[test]
fn links_pipes_names_modes_and_holes_are_kept() {
    let root = folder();
    let path = root.path();
    write(&root, "first", random(1, 3000));
    fs::hard_link(path.join("first"), path.join("second")).unwrap();
    symlink("nowhere/at all", path.join("symlink")).unwrap();
    let status = std::process::Command::new("mkfifo")
        .arg(path.join("pipe"))
        .status();
    let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
    fs::write(path.join(OsStr::from_bytes(b"not \xff utf-8")), "name").unwrap();
    fs::set_permissions(path.join("first"), fs::Permissions::from_mode(0o4751)).unwrap();
    let sparse = File::create(path.join("sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"in the middle", 9 << 20).unwrap();
    settle();
    let mut sink = Collector::new(true);
    let outcome = store(&request(path), &mut sink);
    assert!(outcome.troubles.is_empty());
    assert_stored(&sink);
    assert_eq!(
        *content(&sink, &path.join("second")),
        Content::HardLink(store_path(&path.join("first")))
    );
    assert_eq!(
        *content(&sink, &path.join("symlink")),
        Content::Symlink(b"nowhere/at all".to_vec())
    );
    if status.is_ok_and(|status| status.success()) {
        assert_eq!(*content(&sink, &path.join("pipe")), Content::Fifo);
    }
    assert!(newest(&sink, &path.join("socket")).is_none());
    content(&sink, &path.join(OsStr::from_bytes(b"not \xff utf-8")));
    let Some(Record::File { metadata, .. }) = newest(&sink, &path.join("first")) else {
        panic!("no record");
    };
    let found = fs::metadata(path.join("first")).unwrap();
    assert_eq!(metadata.mode, 0o4751);
    assert_eq!((metadata.uid, metadata.gid), (found.uid(), found.gid()));
    assert_eq!(i64::from(metadata.modified.nanos), found.mtime_nsec());
    let Some(Record::File { metadata, .. }) = newest(&sink, &path.join("sparse")) else {
        panic!("no record");
    };
    let takes_less = fs::metadata(path.join("sparse")).unwrap().blocks() * 512 < 20 << 20;
    assert_eq!(metadata.sparse, takes_less);
    let again = store(&request(path), &mut sink);
    assert_eq!(
        (again.files_new, again.files_changed, again.bytes_read),
        (0, 0, 0)
    );
    // The first name goes: the second becomes the file.
    fs::remove_file(path.join("first")).unwrap();
    store(&request(path), &mut sink);
    assert!(matches!(
        content(&sink, &path.join("second")),
        Content::Regular { .. }
    ));
    assert_stored(&sink);
}

#[test]
fn folders_that_are_the_nodes_own_are_left_out_by_any_path() {
    let root = folder();
    write(&root, "home/key", "secret");
    write(&root, "file", "stored");
    symlink(root.path().join("home"), root.path().join("way")).unwrap();
    let mut sink = Collector::new(true);
    let mut request = request(root.path());
    request.leave_out = vec![root.path().join("way")];
    request.paths.push(root.path().join("home/key"));
    store(&request, &mut sink);
    assert!(newest(&sink, &root.path().join("home/key")).is_none());
    request.paths = vec![root.path().join("home/key"), root.path().join("way/key")];
    store(&request, &mut sink);
    assert!(newest(&sink, &root.path().join("home/key")).is_none());
    assert!(newest(&sink, &root.path().join("way/key")).is_none());
    content(&sink, &root.path().join("file"));
}

#[test]
fn what_does_not_exist_or_is_no_glob_is_told() {
    let root = folder();
    let mut sink = Collector::new(true);
    let outcome = store(&request(&root.path().join("nothing")), &mut sink);
    assert_eq!(outcome.troubles[0].message, "does not exist");
    let mut bad = request(root.path());
    bad.excludes = vec!["[".to_owned()];
    assert!(store_with(&bad, &mut sink, &Control::default()).is_err());
    let control = Control::default();
    control.cancel();
    write(&root, "file", "x");
    let cancelled = store_with(&request(root.path()), &mut sink, &control);
    assert!(matches!(cancelled, Err(ClientError::Cancelled(_))));
    let mut dry = request(root.path());
    dry.dry_run = true;
    let records = sink.records.len();
    let outcome = store(&dry, &mut sink);
    assert_eq!(
        (outcome.files_new, outcome.bytes_read, sink.records.len()),
        (1, 1, records)
    );
}

#[test]
fn many_small_files_share_a_dictionary_and_packs_repeat_their_records() {
    let root = folder();
    for number in 0..6000_u32 {
        let bytes = random(u64::from(number), 16);
        let mut text = String::new();
        for (line, article) in bytes.iter().take(8).enumerate() {
            let end = if line == 7 { "]" } else { "," };
            text += "{\"order\": ";
            text += &number.to_string();
            text += ", \"line\": ";
            text += &line.to_string();
            text += ", \"article\": \"";
            text += &article.to_string();
            text += "\"}";
            text += end;
        }
        write(&root, &format!("{:02}/{number}.json", number / 200), text);
    }
    let mut sink = Collector::new(true);
    let mut request = request(root.path());
    request.pack_size = PackSize::new(512 * 1024).unwrap();
    let outcome = store(&request, &mut sink);
    assert_eq!(sink.dictionaries.len(), 1);
    assert!(outcome.bytes_framed * 3 < outcome.bytes_new);
    assert_stored(&sink);
    let channel = channel();
    let mut repeated = HashMap::new();
    for pack in sink.packs.as_ref().unwrap() {
        assert!(pack.bytes.len() <= 512 * 1024);
        let keys = PackKeys::new(&channel, EPOCH, PackKind::Data);
        let (_, table) = open_pack(&pack.bytes, PackKind::Data, keys).unwrap();
        if let Some(repeat) = Repeat::parse(&table.records).unwrap() {
            repeated.extend(
                repeat
                    .batch
                    .into_records(1)
                    .map(|(stamp, record)| (stamp.id, record)),
            );
        }
    }
    let in_pieces = |record: &Record| match record {
        Record::File { content, .. } => content.extents().last().is_none_or(|extent| {
            sink.pieces
                .iter()
                .any(|piece| piece.number() == extent.first.pack)
        }),
        _ => true,
    };
    for (id, record) in &sink.records {
        assert!(
            in_pieces(record) || repeated.get(id) == Some(record),
            "{record:?}"
        );
    }
}

/// A text in words of its own: another kind than what programs write down.
fn prose(seed: u64) -> String {
    let draws = random(seed, 2000);
    let words = draws.chunks(2).map(|draw| {
        let place = u64::from(draw[0]) | u64::from(draw[1] & 3) << 8;
        let word = random(place | 1 << 40, 4);
        word.iter()
            .map(|byte| char::from(b'a' + byte % 26))
            .collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

/// The first run trains on what there is; the second is handed chunks of another kind, and the third more of those.
#[test]
fn a_store_that_drifts_to_another_kind_of_file_trains_another_dictionary_once() {
    let root = folder();
    for number in 0..700_u64 {
        let entry = format!(
            "{{\"level\": \"info\", \"logger\": \"org.example.http\", \"at\": {number}}},\n"
        );
        let ids = random(number, 40);
        let lines = ids.iter().map(|id| format!("{id:03} {entry}"));
        write(&root, &format!("logs/{number}"), lines.collect::<String>());
    }
    let mut sink = Collector::new(true);
    let mut asked = request(root.path());
    store(&asked, &mut sink);
    assert_eq!(sink.dictionaries.len(), 1);
    let framed = |from: u64, sink: &mut Collector, asked: &PipelineRequest| {
        for number in from..from + 600 {
            write(&root, &format!("texts/{number}"), prose(number));
        }
        store(asked, sink).bytes_framed
    };
    asked.dictionaries = sink.dictionaries.clone();
    let drifted = framed(10_000, &mut sink, &asked);
    assert_eq!(sink.dictionaries.len(), 2);
    // As the engine asks for it: the newest first, and what came last is handed on.
    asked.dictionaries = sink.dictionaries.iter().rev().cloned().collect();
    let adapted = framed(20_000, &mut sink, &asked);
    assert_eq!(sink.dictionaries.len(), 2);
    assert!(adapted * 10 < drifted * 9, "{adapted} of {drifted}");
    assert_stored(&sink);
}

#[test]
fn a_little_becomes_a_piece() {
    let root = folder();
    write(&root, "note", "a few words");
    let mut sink = Collector::new(true);
    store(&request(root.path()), &mut sink);
    assert_eq!((sink.pieces.len(), sink.pack_count), (1, 0));
    assert_stored(&sink);
}

/// A file that is appended to each time it is told to have changed: never the same twice.
#[test]
fn a_file_that_keeps_changing_is_told_and_given_up_and_one_that_settles_is_stored() {
    for (name, size) in [("short", 1000), ("long", 6 << 20)] {
        for times in [1, 9] {
            let root = folder();
            write(&root, name, random(1, size));
            let path = root.path().join(name);
            let told = Arc::new(AtomicU32::new(0));
            let heard = Arc::clone(&told);
            let first = Arc::new(Mutex::new(Some(())));
            let growing = path.clone();
            let grow = move || {
                let file = File::options().append(true).open(&growing).unwrap();
                file.write_all_at(b"more", fs::metadata(&growing).unwrap().len())
                    .unwrap();
            };
            let control = Control::new(move |event| match event {
                // The scan has looked at it, and it is not read yet.
                Event::Total { files: 1, .. } if first.lock().unwrap().take().is_some() => grow(),
                Event::Trouble { message, .. } if message.starts_with("changed") => {
                    let count = heard.fetch_add(1, Ordering::SeqCst) + 1;
                    (count < times).then(&grow);
                }
                _ => {}
            });
            let mut sink = Collector::new(true);
            let outcome = store_with(&request(root.path()), &mut sink, &control).unwrap();
            if times == 1 {
                assert_eq!(outcome.troubles, []);
                assert_eq!(told.load(Ordering::SeqCst), 1, "{name}");
                assert_stored(&sink);
                content(&sink, &path);
            } else {
                assert_eq!(outcome.troubles.len(), 1);
                assert_eq!(told.load(Ordering::SeqCst), 2);
                assert!(newest(&sink, &path).is_none());
            }
        }
    }
}

#[test]
fn a_file_replaced_by_a_link_between_scan_and_read_is_not_followed() {
    let root = folder();
    let secret = folder();
    write(&secret, "secret", random(5, 2000));
    for (name, size) in [("short", 2000), ("long", 3 << 20)] {
        write(&root, name, random(1, size));
        let (path, target) = (root.path().join(name), secret.path().join("secret"));
        let replaced = path.clone();
        let first = Mutex::new(Some(()));
        let control = Control::new(move |event| {
            if matches!(event, Event::Total { .. }) && first.lock().unwrap().take().is_some() {
                fs::remove_file(&replaced).unwrap();
                symlink(&target, &replaced).unwrap();
            }
        });
        let mut sink = Collector::new(true);
        let outcome = store_with(&request(&path), &mut sink, &control).unwrap();
        assert_eq!(outcome.troubles.len(), 1);
        assert!(outcome.troubles[0].message.contains("link"), "{outcome:?}");
        assert!(newest(&sink, &path).is_none());
        fs::remove_file(path).unwrap();
    }
}

#[test]
fn nothing_known_is_what_a_new_source_begins_with() {
    let root = folder();
    write(&root, "a", "a");
    let mut sink = Collector::new(true);
    let keys = StoreKeys::new(&collector::secret());
    let outcome = run(
        &request(root.path()),
        &keys,
        &mut NothingKnown,
        &mut sink,
        &Control::default(),
    );
    assert_eq!(outcome.unwrap().files_new, 1);
}
