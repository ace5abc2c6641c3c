use std::{
    fs,
    os::unix::{
        ffi::{OsStrExt, OsStringExt},
        fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink},
    },
    sync::{OnceLock, atomic::Ordering},
};

use maimo_vault::{
    journal::metadata::FileTime,
    path::{Prefix, StorePath},
};
use tempfile::TempDir;

use super::*;
use crate::fetch::testing::{FakeStore, random};

/// What is asked for, and all there is.
#[derive(Default)]
struct FakeTree(Vec<Stored>, Vec<Stored>);

impl StoredTree for FakeTree {
    fn each(
        &self,
        visit: &mut dyn FnMut(Stored) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        self.0.iter().cloned().try_for_each(visit)
    }

    fn at(&self, path: &StorePath) -> Result<Option<Stored>, ClientError> {
        let mut all = self.0.iter().chain(&self.1);
        Ok(all.find(|stored| stored.path == *path).cloned())
    }
}

fn metadata(mode: u32) -> Metadata {
    Metadata {
        mode,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        modified: FileTime {
            seconds: 1_234_567_890,
            nanos: 123_456_789,
        },
        ..Metadata::default()
    }
}

fn stored(path: &str, mode: u32, content: Content) -> Stored {
    Stored {
        path: StorePath::unix(path).unwrap(),
        metadata: metadata(mode),
        content,
    }
}

fn folder(path: &str) -> Stored {
    stored(path, 0o755, Content::Folder)
}

fn run(store: &FakeStore, tree: &FakeTree, to: &Path) -> RetrieveReport {
    run_with(store, tree, to, false).unwrap()
}

fn run_with(
    store: &FakeStore,
    tree: &FakeTree,
    to: &Path,
    overwrite: bool,
) -> Result<RetrieveReport, ClientError> {
    let fetch = store.fetch();
    let options = RetrieveOptions {
        to: to.to_owned(),
        overwrite,
    };
    retrieve(tree, &store.index, &fetch, &options, &Control::default())
}

fn messages(report: &RetrieveReport) -> Vec<&str> {
    let failures = report.failures.iter();
    failures.map(|failure| &failure.message[..]).collect()
}

/// Returns all names below a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        names.push(path.to_string_lossy().into_owned());
        if path.is_dir() && !path.is_symlink() {
            names.extend(self::names(&path));
        }
    }
    names.sort();
    names
}

#[test]
fn all_kinds_of_files_come_back_as_they_were() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let (small, middle, holes) = (random(1, 100), random(2, 3_000_000), {
        let mut bytes = vec![0; 1_000_000];
        bytes[500_000] = 7;
        bytes
    });
    let mut odd = stored("/home/u/x", 0o604, store.put(b"odd", 100));
    odd.path = StorePath::new(
        Prefix::Unix,
        vec![b"home".to_vec(), b"u".to_vec(), b"\xff\xfe\\".to_vec()],
    )
    .unwrap();
    let mut sparse = stored("/home/u/sparse", 0o600, store.put(&holes, 300_000));
    sparse.metadata.sparse = true;
    let mut attributes = stored("/home/u/small", 0o4755, store.put(&small, 100));
    attributes.metadata.xattrs = vec![(b"user.maimo".to_vec(), b"value".to_vec())];
    let tree = FakeTree(
        vec![
            stored("/home/u", 0o750, Content::Folder),
            stored("/home/u/closed", 0o500, Content::Folder),
            stored("/home/u/closed/in", 0o400, store.put(b"inside", 100)),
            stored("/home/u/empty", 0o644, store.put(b"", 100)),
            stored("/home/u/fifo", 0o640, Content::Fifo),
            stored(
                "/home/u/hard",
                0o4755,
                Content::HardLink(StorePath::unix("/home/u/small").unwrap()),
            ),
            stored(
                "/home/u/link",
                0o777,
                Content::Symlink(b"../../etc/passwd".to_vec()),
            ),
            stored("/home/u/middle", 0o640, store.put(&middle, 700_000)),
            attributes,
            sparse,
            odd,
        ],
        vec![stored("/home", 0o711, Content::Folder)],
    );
    store.seal();
    let report = run(&store, &tree, to.path());
    let failures: Vec<_> = messages(&report)
        .into_iter()
        .filter(|text| !text.contains("user.maimo"))
        .collect();
    assert!(failures.is_empty(), "{failures:?}");
    assert_eq!(report.files, 9);
    let at = |name: &str| to.path().join("home/u").join(name);
    assert_eq!(fs::read(at("small")).unwrap(), small);
    assert_eq!(fs::read(at("middle")).unwrap(), middle);
    assert_eq!(fs::read(at("sparse")).unwrap(), holes);
    assert!(fs::metadata(at("sparse")).unwrap().blocks() * 512 < 600_000);
    assert_eq!(fs::read(at("empty")).unwrap(), b"");
    assert_eq!(fs::read(at("closed/in")).unwrap(), b"inside");
    assert_eq!(
        fs::read_link(at("link")).unwrap().as_os_str(),
        "../../etc/passwd"
    );
    assert!(
        fs::symlink_metadata(at("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    let odd = std::ffi::OsString::from_vec(b"\xff\xfe\\".to_vec());
    assert_eq!(
        fs::read(to.path().join("home/u").join(odd)).unwrap(),
        b"odd"
    );
    let inode = |name| fs::metadata(at(name)).unwrap().ino();
    assert_eq!(inode("small"), inode("hard"));
    for (name, mode) in [
        ("", 0o750),
        ("closed", 0o500),
        ("closed/in", 0o400),
        ("small", 0o4755),
        ("middle", 0o640),
        ("fifo", 0o640),
        ("..", 0o711),
    ] {
        let found = fs::symlink_metadata(at(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o7777, mode, "{name}");
    }
    for name in [
        "",
        "closed",
        "closed/in",
        "small",
        "sparse",
        "link",
        "fifo",
        "..",
    ] {
        let found = fs::symlink_metadata(at(name)).unwrap();
        assert_eq!(
            (found.mtime(), found.mtime_nsec()),
            (1_234_567_890, 123_456_789),
            "{name}"
        );
    }
    if let Ok(Some(value)) = xattr::get(at("small"), "user.maimo") {
        assert_eq!(value, b"value");
    }

    // All of it again is nothing to do.
    let again = run(&store, &tree, to.path());
    assert_eq!(messages(&again), Vec::<&str>::new());
    assert_eq!(
        (again.files, again.bytes_written, again.bytes_received),
        (9, 0, 0)
    );
    fs::set_permissions(at("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_large_file_of_many_parts_comes_back_and_a_wrong_hash_leaves_nothing() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 4 << 20);
    let bytes = random(1, 30_000_000);
    let right = store.put(&bytes, 1_000_000);
    let Content::Regular { size, chunks, .. } = right.clone() else {
        unreachable!()
    };
    let blake3 = [1; 32];
    let wrong = Content::Regular {
        size,
        blake3,
        chunks,
    };
    let small = store.put(b"small", 100);
    let Content::Regular { size, chunks, .. } = small else {
        unreachable!()
    };
    let wrong_small = Content::Regular {
        size,
        blake3,
        chunks,
    };
    store.seal();
    let tree = FakeTree(
        vec![
            stored("/a", 0o644, right),
            stored("/b", 0o644, wrong),
            stored("/c", 0o644, wrong_small),
        ],
        vec![],
    );
    let report = run(&store, &tree, to.path());
    assert_eq!(
        (report.files, report.errors),
        (1, 2),
        "{:?}",
        messages(&report)
    );
    assert_eq!(fs::read(to.path().join("a")).unwrap(), bytes);
    assert_eq!(names(to.path()).len(), 1);
}

#[test]
fn damage_is_told_of_the_files_it_touches_and_the_rest_comes_back() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let files: Vec<_> = (0..20).map(|n| random(n, 30_000)).collect();
    let tree: Vec<_> = files
        .iter()
        .enumerate()
        .map(|(n, bytes)| stored(&format!("/f{n:02}"), 0o644, store.put(bytes, 30_000)))
        .collect();
    let large = random(99, 12_000_000);
    let mut tree = FakeTree(tree, vec![]);
    tree.0
        .push(stored("/large", 0o644, store.put(&large, 900_000)));
    store.seal();
    let object = store.object(&tree.0[0].content, 0);
    store.channels[0].2.damage(&object, 200_000);
    let last = tree.0[20].content.extents().last().unwrap().first.pack;
    let last = store.index.objects[&(last, store.channels[0].0)];
    store.channels[0].2.damage(&last, 100);
    let report = run(&store, &tree, to.path());
    assert!((2..=3).contains(&report.errors), "{:?}", messages(&report));
    assert_eq!(report.files + report.errors, 21);
    for failure in &report.failures {
        assert_eq!(failure.kind, ErrorKind::ProviderMisbehaved);
        assert!(!failure.path.exists());
    }
    assert!(
        report
            .failures
            .iter()
            .any(|failure| failure.path.ends_with("large"))
    );
    assert_eq!(names(to.path()).len() as u64, report.files);
}

#[test]
fn a_link_in_the_way_leads_nowhere() {
    let (to, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    symlink(outside.path(), to.path().join("home")).unwrap();
    fs::create_dir(to.path().join("real")).unwrap();
    symlink(outside.path().join("new"), to.path().join("real/file")).unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let file = store.put(b"content", 100);
    store.seal();
    let tree = FakeTree(
        vec![
            folder("/home"),
            stored("/home/a", 0o644, file.clone()),
            folder("/real"),
            stored("/real/file", 0o644, file),
        ],
        vec![],
    );
    let report = run(&store, &tree, to.path());
    assert_eq!(
        (report.files, report.errors),
        (0, 3),
        "{:?}",
        messages(&report)
    );
    // Told to overwrite, it takes the link's place, and follows it no more than before.
    let report = run_with(&store, &tree, to.path(), true).unwrap();
    assert_eq!(
        (report.files, report.errors),
        (1, 2),
        "{:?}",
        messages(&report)
    );
    assert!(
        !fs::symlink_metadata(to.path().join("real/file"))
            .unwrap()
            .is_symlink()
    );
    assert!(names(outside.path()).is_empty());
}

#[test]
fn a_stored_link_is_no_way_out_for_what_follows() {
    let (to, outside) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let mut store = FakeStore::new(1, 1 << 20);
    let file = store.put(b"content", 100);
    store.seal();
    // A hostile journal: `a` is a link out of here, and then a folder.
    let out = outside.path().as_os_str().as_bytes().to_vec();
    let tree = FakeTree(
        vec![
            stored("/a", 0o777, Content::Symlink(out)),
            stored("/a/b", 0o644, file.clone()),
            stored(
                "/c",
                0o644,
                Content::HardLink(StorePath::unix("/a/b").unwrap()),
            ),
        ],
        vec![],
    );
    let report = run(&store, &tree, to.path());
    assert!(names(outside.path()).is_empty());
    // The link itself, and the hard link as a file of its own.
    assert_eq!(
        (report.files, report.errors),
        (2, 1),
        "{:?}",
        messages(&report)
    );
    assert_eq!(fs::read(to.path().join("c")).unwrap(), b"content");

    // A prefix that is a way out.
    for prefix in [&b".."[..], b"", b"a/../..", b"/"] {
        let path = StorePath::new(Prefix::Windows(prefix.to_vec()), vec![b"x".to_vec()]).unwrap();
        let mut hostile = stored("/x", 0o644, file.clone());
        hostile.path = path;
        let into = TempDir::new_in(to.path()).unwrap();
        let report = run(&store, &FakeTree(vec![hostile], vec![]), into.path());
        assert_eq!((report.files, report.errors), (0, 1), "{prefix:?}");
    }
}

#[test]
fn nothing_is_overwritten_unless_told() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let tree = FakeTree(
        vec![
            stored("/a", 0o644, store.put(b"stored", 100)),
            stored("/b", 0o644, store.put(b"the same", 100)),
            stored("/l", 0o777, Content::Symlink(b"stored".to_vec())),
        ],
        vec![],
    );
    store.seal();
    fs::write(to.path().join("a"), b"my own").unwrap();
    fs::write(to.path().join("b"), b"the same").unwrap();
    symlink("my own", to.path().join("l")).unwrap();
    let report = run(&store, &tree, to.path());
    assert_eq!(
        (report.files, report.errors),
        (1, 2),
        "{:?}",
        messages(&report)
    );
    assert_eq!(fs::read(to.path().join("a")).unwrap(), b"my own");
    let report = run_with(&store, &tree, to.path(), true).unwrap();
    assert_eq!(
        (report.files, report.errors),
        (3, 0),
        "{:?}",
        messages(&report)
    );
    assert_eq!(fs::read(to.path().join("a")).unwrap(), b"stored");
    assert_eq!(
        fs::read_link(to.path().join("l")).unwrap().as_os_str(),
        "stored"
    );
    assert_eq!(names(to.path()).len(), 3);
}

#[test]
fn what_was_cut_off_leaves_no_half_file_and_is_finished_by_the_next_run() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let files: Vec<_> = (0..400).map(|n| random(n, 20_000)).collect();
    let mut tree = FakeTree::default();
    tree.0.push(folder("/d"));
    for (n, bytes) in files.iter().enumerate() {
        tree.0.push(stored(
            &format!("/d/{n:03}"),
            0o644,
            store.put(bytes, 20_000),
        ));
    }
    store.seal();
    let own: Arc<OnceLock<Control>> = Arc::default();
    let control = {
        let own = Arc::clone(&own);
        Control::new(move |event| {
            if let (Event::Done { files: 1.., .. }, Some(control)) = (event, own.get()) {
                control.cancel();
            }
        })
    };
    own.set(control.clone()).unwrap();
    let fetch = store.fetch();
    let options = RetrieveOptions {
        to: to.path().to_owned(),
        overwrite: false,
    };
    let cut = retrieve(&tree, &store.index, &fetch, &options, &control);
    assert!(matches!(cut, Err(ClientError::Cancelled(_))));
    for (n, bytes) in files.iter().enumerate() {
        if let Ok(found) = fs::read(to.path().join(format!("d/{n:03}"))) {
            assert_eq!(found, *bytes);
        }
    }
    // What a killed run leaves besides.
    let leftover = to.path().join("d/.maimo-partial-0123456789abcdef");
    fs::write(&leftover, b"half").unwrap();
    let own = to.path().join("d/.maimo-partial-notes");
    fs::write(&own, b"mine").unwrap();
    let report = run(&store, &tree, to.path());
    assert_eq!((report.files, report.errors), (400, 0));
    assert!(!leftover.exists() && own.exists());
    assert_eq!(names(&to.path().join("d")).len(), 401);
}

#[test]
fn a_provider_that_is_away_ends_it_all() {
    let to = TempDir::new().unwrap();
    let mut store = FakeStore::new(1, 1 << 20);
    let large = random(1, 20_000_000);
    let tree = FakeTree(
        vec![
            stored("/a", 0o644, store.put(&large, 1_000_000)),
            stored("/b", 0o644, store.put(b"b", 100)),
        ],
        vec![],
    );
    store.seal();
    store.channels[0].2.is_away.store(true, Ordering::Relaxed);
    let error = run_with(&store, &tree, to.path(), false).unwrap_err();
    assert!(matches!(error, ClientError::Provider { .. }), "{error}");
    assert!(names(to.path()).is_empty());
}

#[test]
fn two_at_a_time_into_one_folder_are_refused() {
    let to = TempDir::new().unwrap();
    let outcome = Arc::new(Outcome::new(Control::default()));
    let first = Target::open(to.path(), false, Arc::clone(&outcome)).unwrap();
    assert!(Target::open(to.path(), false, Arc::clone(&outcome)).is_err());
    drop(first);
    assert!(Target::open(to.path(), false, outcome).is_ok());
}
