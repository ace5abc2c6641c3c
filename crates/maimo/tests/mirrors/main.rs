//! Two channels as mirrors: the engine against real providers in folders, which may be away, be lost, or come back.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use maimo_client::{
    audit::AuditResult,
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    error::ClientError,
    progress::Control,
    prune::PruneRequest,
    recover::RecoverRequest,
    retrieve::RetrieveRequest,
    store::{StoreReport, StoreRequest},
    verify::VerifyRequest,
};
use maimo_net::{connect, in_process::InProcess, service::ServiceError};
use maimo_provider::provider::{FolderTerms, Provider};
use maimo_vault::retention::Policy;

mod put_back;

/// A home, a folder to store in, and the disks `a` and `b`, which may be away.
struct Scene {
    folder: tempfile::TempDir,
    away: Arc<Mutex<BTreeSet<String>>>,
    words: String,
}

impl Scene {
    /// Makes a store on `a`; `b` is a channel of which nothing is used.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Client::init(&folder.path().join("home"), &InitOptions::default()).unwrap();
        let scene = Self {
            folder,
            away: Arc::default(),
            words: made.phrase.unwrap().as_str().to_owned(),
        };
        let mut client = scene.open();
        for disk in ["a", "b"] {
            let request = OpenChannelRequest::new(scene.address(disk));
            client.open_channel(&request, &Control::default()).unwrap();
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn address(&self, disk: &str) -> String {
        format!("dir:{}", self.path(disk).display())
    }

    fn connector(&self) -> Arc<InProcess> {
        let away = Arc::clone(&self.away);
        Arc::new(InProcess::new(move |address| {
            let path = Path::new(address.strip_prefix("dir:").expect("a folder"));
            let name = path.file_name().unwrap().to_str().unwrap();
            if away.lock().unwrap().contains(name) {
                return Err(ServiceError::Offline {
                    detail: "unplugged".to_owned(),
                });
            }
            let terms = FolderTerms::default();
            let provider = Provider::open_folder(path, Some(terms));
            let provider = provider.map_err(|error| ServiceError::Unavailable {
                detail: error.to_string(),
            })?;
            Ok(Arc::new(provider) as Arc<dyn connect::Provider>)
        }))
    }

    fn open(&self) -> Client {
        self.open_home("home")
    }

    fn open_home(&self, name: &str) -> Client {
        Client::open(&self.path(name), OpenOptions::new(self.connector())).unwrap()
    }

    /// Unplugs a disk, or plugs it in: for processes that are begun afterwards.
    fn unplug(&self, disk: &str) {
        self.away.lock().unwrap().insert(disk.to_owned());
    }

    fn plug_in(&self, disk: &str) {
        self.away.lock().unwrap().remove(disk);
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path("files").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn try_store(&self, client: &mut Client) -> Result<StoreReport, ClientError> {
        let request = StoreRequest {
            paths: vec![self.path("files")],
            ..StoreRequest::default()
        };
        client.store(&request, &Control::default())
    }

    fn store(&self, client: &mut Client) -> StoreReport {
        self.try_store(client).unwrap()
    }

    /// Retrieves everything and returns it by name.
    fn retrieved(&self, client: &mut Client, to: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let to = self.path(to);
        // Of several machines the first one has no number.
        let sources = client.status().unwrap().sources.into_iter();
        let source = sources.min_by_key(String::len);
        let request = RetrieveRequest {
            paths: vec![self.path("files")],
            to: to.clone(),
            source,
            ..RetrieveRequest::default()
        };
        let report = client.retrieve(&request, &Control::default()).unwrap();
        assert_eq!(report.errors, 0);
        let files = self.path("files");
        below(&to.join(files.strip_prefix("/").unwrap()))
    }

    fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        below(&self.path("files"))
    }

    /// Makes a home of the same store that knows nothing yet.
    fn other_home(&self, name: &str) -> Client {
        let options = InitOptions {
            phrase: Some(self.words.clone().into()),
            ..InitOptions::default()
        };
        Client::init(&self.path(name), &options).unwrap();
        self.open_home(name)
    }

    /// Makes a home of the same store that knows what the disk `by` tells it.
    fn join(&self, name: &str, by: &str) {
        let request = RecoverRequest {
            address: self.address(by),
            root: None,
            from_packs: false,
        };
        let recovered = self.other_home(name).recover(&request, &Control::default());
        recovered.unwrap();
    }
}

fn below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// Bytes that do not compress, the same for one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn intact(client: &mut Client) -> Vec<(String, AuditResult)> {
    let audits = client.verify(&VerifyRequest::default(), &Control::default());
    let audits = audits.unwrap().into_iter();
    audits.map(|audit| (audit.channel, audit.result)).collect()
}

fn text(n: u64) -> String {
    format!("file number {n}: {}", "words that repeat ".repeat(20))
}

/// Small files, large ones, and several runs.
fn a_full_store(scene: &Scene, client: &mut Client) {
    for n in 0..120 {
        scene.write(&format!("many/{n}"), text(n).as_bytes());
    }
    scene.write("large", &noise(1, 6_000_000));
    scene.store(client);
    for n in 0..8 {
        scene.write(&format!("later/{n}"), &noise(100 + n, 40_000));
        scene.store(client);
    }
}

#[test]
fn a_mirror_is_given_everything_and_follows() {
    let scene = Scene::new();
    let mut client = scene.open();
    a_full_store(&scene, &mut client);
    let report = client.mirror("a", "b", &Control::default()).unwrap();
    assert_eq!(report.channels.len(), 2);
    assert!(report.behind.is_empty(), "{report:?}");
    assert!(report.bytes_sent > 6_000_000);
    // The files are here: only tables are read, which stand in the last group of each pack, and dictionaries.
    assert!(
        report.bytes_received < 2_000_000,
        "{}",
        report.bytes_received
    );
    scene.write("after", &noise(7, 700_000));
    let stored = scene.store(&mut client);
    assert!(stored.behind.is_empty());
    assert_eq!(stored.roots.len(), 2);
    let expected = ["a", "b"].map(|name| (name.to_owned(), AuditResult::Intact));
    assert_eq!(intact(&mut client), expected);
    drop(client);
    // One provider is destroyed: the other gives all of it back.
    for lost in ["a", "b"] {
        scene.unplug(lost);
        let mut client = scene.open();
        let to = format!("without {lost}");
        assert_eq!(scene.retrieved(&mut client, &to), scene.files());
        scene.plug_in(lost);
    }
}

#[test]
fn a_mirror_is_supplied_from_the_first_where_the_files_are_gone() {
    let scene = Scene::new();
    let mut client = scene.open();
    a_full_store(&scene, &mut client);
    let files = scene.files();
    // Set aside: nothing tells the store.
    fs::rename(scene.path("files"), scene.path("aside")).unwrap();
    let report = client.mirror("b", "a", &Control::default()).unwrap();
    assert!(report.behind.is_empty(), "{report:?}");
    assert!(report.bytes_received > 6_000_000);
    drop(client);
    scene.unplug("a");
    assert_eq!(scene.retrieved(&mut scene.open(), "to"), files);
}

#[test]
fn a_mirror_that_is_away_is_behind_and_catches_up() {
    let scene = Scene::new();
    let mut client = scene.open();
    scene.write("one", &noise(1, 3_000_000));
    scene.store(&mut client);
    client.mirror("a", "b", &Control::default()).unwrap();
    drop(client);
    scene.unplug("b");
    let mut client = scene.open();
    for n in 0..5 {
        scene.write(&format!("more/{n}"), &noise(10 + n, 400_000));
        let stored = scene.store(&mut client);
        let [behind] = &stored.behind[..] else {
            panic!("one mirror is away");
        };
        assert_eq!(behind.channel, "b");
        assert!(behind.commits > 0 && behind.why.is_some());
    }
    let status = client.status().unwrap();
    assert!(status.channels.iter().any(|channel| channel.behind > 4));
    drop(client);
    scene.plug_in("b");
    let mut client = scene.open();
    let report = client.catch_up_mirrors(&Control::default()).unwrap();
    assert!(report.behind.is_empty(), "{report:?}");
    assert!(report.bytes_sent > 2_000_000);
    // And again there is nothing to do.
    let report = client.catch_up_mirrors(&Control::default()).unwrap();
    assert_eq!((report.behind.len(), report.bytes_sent), (0, 0));
    drop(client);
    scene.unplug("a");
    assert_eq!(scene.retrieved(&mut scene.open(), "to"), scene.files());
}

#[test]
fn nothing_is_equal_on_both_providers() {
    let scene = Scene::new();
    let mut client = scene.open();
    a_full_store(&scene, &mut client);
    client.mirror("a", "b", &Control::default()).unwrap();
    scene.write("after", &noise(7, 900_000));
    scene.store(&mut client);
    drop(client);
    let groups = |disk: &str| -> HashSet<[u8; 32]> {
        let files = below(&scene.path(disk)).into_iter();
        // A ledger's and a log's own zeros and headers are no content.
        let sealed = files.filter(|(_, bytes)| bytes.starts_with(b"MAIM") || bytes.len() > 65_536);
        let groups = sealed.flat_map(|(_, bytes)| {
            let groups = bytes.chunks(16 * 1024).filter(|group| group.len() > 64);
            let groups: Vec<[u8; 32]> = groups
                .filter(|group| group.iter().any(|byte| *byte != 0))
                .map(|group| *blake3::hash(group).as_bytes())
                .collect();
            groups
        });
        groups.collect()
    };
    let (a, b) = (groups("a"), groups("b"));
    assert!(a.len() > 400 && b.len() > 400, "{} {}", a.len(), b.len());
    assert_eq!(a.intersection(&b).count(), 0);
}

#[test]
fn what_is_let_go_of_is_let_go_of_on_both() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    for n in 0..30 {
        scene.write(&format!("{n}"), &noise(n, 300_000));
    }
    scene.store(&mut client);
    client.mirror("a", "b", &control).unwrap();
    let policy = Policy {
        last: 1,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        within_ms: 0,
        ..Policy::default()
    };
    client.keep("", Some(policy), &control).unwrap();
    for n in 0..15 {
        fs::remove_file(scene.path("files").join(format!("{}", 2 * n))).unwrap();
    }
    scene.store(&mut client);
    let pruned = client.prune(PruneRequest::default(), &control).unwrap();
    assert!(pruned.bytes_dropped > 3_000_000);
    let expected = ["a", "b"].map(|name| (name.to_owned(), AuditResult::Intact));
    assert_eq!(intact(&mut client), expected);
    let mirrors = client.mirrors().unwrap();
    assert!(mirrors.behind.is_empty());
    drop(client);
    scene.unplug("a");
    assert_eq!(scene.retrieved(&mut scene.open(), "to"), scene.files());
}

#[test]
fn a_channel_of_the_layout_is_not_closed_and_leaves_it_first() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    scene.write("one", b"bytes");
    scene.store(&mut client);
    client.mirror("a", "b", &control).unwrap();
    assert!(client.close_channel("b", &control).is_err());
    assert!(client.unmirror("a", &control).is_err());
    client.unmirror("b", &control).unwrap();
    assert!(client.unmirror("b", &control).is_err());
    client.close_channel("b", &control).unwrap();
    scene.write("two", b"more bytes");
    assert_eq!(scene.store(&mut client).roots.len(), 1);
}

#[test]
fn either_channel_leads_to_the_other() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    a_full_store(&scene, &mut client);
    client.mirror("a", "b", &control).unwrap();
    drop(client);
    for disk in ["a", "b"] {
        let mut other = scene.other_home(&format!("from {disk}"));
        let request = RecoverRequest {
            address: scene.address(disk),
            root: None,
            from_packs: false,
        };
        let report = other.recover(&request, &control).unwrap();
        assert!(report.behind.is_empty());
        assert_eq!(other.status().unwrap().channels.len(), 2);
        let mirrors = other.mirrors().unwrap();
        assert_eq!(mirrors.channels.len(), 2);
        assert!(mirrors.behind.is_empty());
        let to = format!("to {disk}");
        assert_eq!(scene.retrieved(&mut other, &to), scene.files());
    }
}

#[test]
fn another_channel_is_made_the_first_and_goes_on() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    a_full_store(&scene, &mut client);
    assert!(client.make_first("b", &control).is_err());
    client.mirror("a", "b", &control).unwrap();
    let report = client.make_first("b", &control).unwrap();
    assert_eq!(report.channels[0].0, "b");
    assert!(report.behind.is_empty(), "{report:?}");
    scene.write("after", &noise(7, 700_000));
    let stored = scene.store(&mut client);
    assert_eq!(stored.roots[0].0, "b");
    assert!(stored.behind.is_empty());
    drop(client);
    // A process that knows nothing but its state, and one that was told so little as an address.
    assert!(scene.store(&mut scene.open()).behind.is_empty());
    scene.unplug("a");
    assert_eq!(scene.store(&mut scene.open()).behind.len(), 1);
    assert_eq!(scene.retrieved(&mut scene.open(), "to"), scene.files());
}

#[test]
fn where_the_first_is_away_nothing_is_acknowledged_until_another_is_made_the_first() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    a_full_store(&scene, &mut client);
    client.mirror("a", "b", &control).unwrap();
    let before = client.status().unwrap().sequence;
    drop(client);
    scene.unplug("a");
    let mut client = scene.open();
    scene.write("new", &noise(7, 3_000_000));
    let refused = scene.try_store(&mut client).unwrap_err();
    assert!(matches!(refused, ClientError::Provider { .. }), "{refused}");
    assert_eq!(client.status().unwrap().sequence, before);
    client.make_first("b", &control).unwrap();
    let stored = scene.store(&mut client);
    assert_eq!(stored.behind.len(), 1);
    drop(client);
    // It comes back, and follows.
    scene.plug_in("a");
    let mut client = scene.open();
    let report = client.catch_up_mirrors(&control).unwrap();
    assert!(report.behind.is_empty(), "{report:?}");
    drop(client);
    scene.unplug("b");
    assert_eq!(scene.retrieved(&mut scene.open(), "to"), scene.files());
}

/// Two machines, each of which sees one provider only: one makes it the first, the other goes on with the old one.
#[test]
fn what_the_old_first_took_meanwhile_is_merged_when_it_is_back() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    a_full_store(&scene, &mut client);
    client.mirror("a", "b", &control).unwrap();
    drop(client);
    scene.join("other", "a");
    let theirs = scene.path("theirs");
    let store = |client: &mut Client| {
        let request = StoreRequest {
            paths: vec![theirs.clone()],
            ..StoreRequest::default()
        };
        client.store(&request, &control)
    };
    fs::create_dir(&theirs).unwrap();

    scene.unplug("a");
    let mut client = scene.open();
    client.make_first("b", &control).unwrap();
    scene.write("here", &noise(21, 500_000));
    scene.store(&mut client);
    drop(client);
    scene.plug_in("a");
    scene.unplug("b");
    let mut other = scene.open_home("other");
    fs::write(theirs.join("large"), noise(22, 2_000_000)).unwrap();
    store(&mut other).unwrap();
    fs::write(theirs.join("tiny"), b"a few bytes in the tail").unwrap();
    store(&mut other).unwrap();
    drop(other);
    scene.plug_in("b");

    let mut client = scene.open();
    let report = client.catch_up_mirrors(&control).unwrap();
    assert!(report.behind.is_empty(), "{report:?}");
    drop(client);
    // The other machine finds all that it stored, and goes on.
    let mut other = scene.open_home("other");
    let again = store(&mut other).unwrap();
    assert_eq!((again.files_new, again.files_changed), (0, 0));
    assert_eq!(again.roots[0].0, "b");
    drop(other);
    for lost in ["a", "b"] {
        scene.unplug(lost);
        let mut other = scene.open_home("other");
        let to = scene.path(&format!("theirs without {lost}"));
        let request = RetrieveRequest {
            paths: vec![theirs.clone()],
            to: to.clone(),
            ..RetrieveRequest::default()
        };
        let report = other.retrieve(&request, &control).unwrap();
        assert_eq!((report.files, report.errors), (2, 0));
        let there = to.join(theirs.strip_prefix("/").unwrap());
        assert_eq!(below(&there), below(&theirs));
        drop(other);
        let to = format!("without {lost}");
        assert_eq!(scene.retrieved(&mut scene.open(), &to), scene.files());
        scene.plug_in(lost);
    }
}

/// It commits before it hears of that, and lets the new first follow the old one as a mirror: that must not go back behind the new layout.
#[test]
fn who_has_not_heard_of_a_new_first_does_not_take_it_back() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    a_full_store(&scene, &mut client);
    client.mirror("a", "b", &control).unwrap();
    drop(client);
    scene.join("other", "a");
    scene.unplug("a");
    let mut client = scene.open();
    client.make_first("b", &control).unwrap();
    scene.write("here", &noise(21, 500_000));
    scene.store(&mut client);
    drop(client);
    scene.plug_in("a");

    let theirs = scene.path("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("tiny"), b"a few bytes in the tail").unwrap();
    let request = StoreRequest {
        paths: vec![theirs.clone()],
        ..StoreRequest::default()
    };
    let mut other = scene.open_home("other");
    other.store(&request, &control).unwrap();
    drop(other);
    for home in ["home", "other"] {
        let mut client = scene.open_home(home);
        let report = client.catch_up_mirrors(&control).unwrap();
        assert_eq!(report.channels[0].0, "b");
        assert!(report.behind.is_empty(), "{report:?}");
    }
    let mut client = scene.open();
    assert_eq!(scene.store(&mut client).roots[0].0, "b");
    assert_eq!(scene.retrieved(&mut client, "to"), scene.files());
    drop(client);
    let mut other = scene.open_home("other");
    let again = other.store(&request, &control).unwrap();
    assert_eq!((again.files_new, again.files_changed), (0, 0));
}

#[test]
fn local_copies_go_only_when_both_have_them() {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    scene.write("large", &noise(1, 2_000_000));
    scene.write("small", b"a few bytes");
    scene.store(&mut client);
    client.mirror("a", "b", &control).unwrap();
    assert!(client.verify_phrase(&scene.words).unwrap());
    let files = scene.files();
    let request = StoreRequest {
        paths: vec![scene.path("files")],
        delete_local: true,
        ..StoreRequest::default()
    };
    drop(client);
    scene.unplug("b");
    let mut client = scene.open();
    let report = client.store(&request, &control).unwrap();
    assert_eq!((report.files_deleted, report.troubles.len()), (0, 2));
    drop(client);
    scene.plug_in("b");
    let mut client = scene.open();
    let report = client.store(&request, &control).unwrap();
    assert_eq!(report.files_deleted, 2, "{report:?}");
    drop(client);
    assert!(scene.files().is_empty());
    for lost in ["a", "b"] {
        scene.unplug(lost);
        let to = format!("without {lost}");
        assert_eq!(scene.retrieved(&mut scene.open(), &to), files);
        scene.plug_in(lost);
    }
}
