//! The engine against a real provider in a folder: what `maimo` joins, without its command line.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use maimo_client::{
    audit::AuditResult,
    browse::WhichSource,
    channel::OpenChannelRequest,
    client::{Client, InitOptions, OpenOptions},
    dump::DumpRequest,
    error::ClientError,
    progress::{Control, Event, Phase},
    prune::PruneRequest,
    recover::RecoverRequest,
    retrieve::RetrieveRequest,
    store::{StoreReport, StoreRequest},
    undelete::UndeleteRequest,
    verify::VerifyRequest,
};
use maimo_core::id::RootHash;
use maimo_net::{connect, in_process::InProcess, service::ServiceError};
use maimo_provider::provider::{FolderTerms, Provider};
use maimo_vault::retention::Policy;

#[path = "engine/dictionaries.rs"]
mod dictionaries;

/// A home and a folder to store in.
struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let made = Client::init(&scene.home(), &InitOptions::default()).unwrap();
        assert!(made.phrase.is_some());
        scene
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn address(&self) -> String {
        format!("dir:{}", self.folder.path().join("disk").display())
    }

    fn open(&self) -> Client {
        Client::open(&self.home(), OpenOptions::new(connector())).unwrap()
    }

    fn begun() -> (Self, Client) {
        let scene = Self::new();
        let mut client = scene.open();
        let request = OpenChannelRequest::new(scene.address());
        client.open_channel(&request, &Control::default()).unwrap();
        (scene, client)
    }
}

fn connector() -> Arc<InProcess> {
    Arc::new(InProcess::new(|address| {
        let path = address.strip_prefix("dir:").expect("a folder");
        let provider = Provider::open_folder(Path::new(path), Some(FolderTerms::default()));
        let provider = provider.map_err(|error| ServiceError::Unavailable {
            detail: error.to_string(),
        })?;
        Ok(Arc::new(provider) as Arc<dyn connect::Provider>)
    }))
}

impl Scene {
    fn files(&self) -> PathBuf {
        self.folder.path().join("files")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.files().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn store(&self, client: &mut Client) -> StoreReport {
        let request = StoreRequest {
            paths: vec![self.files()],
            ..StoreRequest::default()
        };
        client.store(&request, &Control::default()).unwrap()
    }
}

/// Bytes that do not compress, the same for one seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn what_changed_is_stored_and_what_did_not_is_not() {
    let (scene, mut client) = Scene::begun();
    scene.write("small", b"a few bytes");
    scene.write("sub/large", &noise(1, 3_000_000));
    for n in 0..200 {
        scene.write(&format!("many/{n}"), format!("file number {n}").as_bytes());
    }
    let first = scene.store(&mut client);
    assert_eq!((first.files_new, first.files_unmodified), (202, 0));
    assert!(first.troubles.is_empty());
    assert!(first.bytes_stored > 3_000_000);
    let again = scene.store(&mut client);
    assert_eq!((again.files_new, again.files_unmodified), (0, 202));
    assert_eq!(again.bytes_stored, 0);
    assert_eq!(again.sequence, first.sequence + 1);
    drop(client);
    let mut client = scene.open();
    scene.write("small", b"a few other bytes");
    scene.write("copy", &noise(1, 3_000_000));
    let third = scene.store(&mut client);
    assert_eq!(
        (third.files_new, third.files_changed, third.files_unmodified),
        (1, 1, 201)
    );
    // The copy is known by its chunks.
    assert!(third.bytes_stored < 100_000);
    assert_eq!(client.root().unwrap()[0].root, third.roots[0].1);
}

#[test]
fn many_small_runs_spill_the_tail_and_merge_the_journal() {
    let (scene, mut client) = Scene::begun();
    for n in 0..60 {
        scene.write(&format!("{n}"), &noise(n, 600));
        let report = scene.store(&mut client);
        assert_eq!((report.files_new, report.files_unmodified), (1, n));
        if n % 20 == 0 {
            drop(client);
            client = scene.open();
        }
    }
    drop(client);
    // The same from the journal alone.
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(scene.home().join(name));
    }
    let mut client = scene.open();
    let report = scene.store(&mut client);
    assert_eq!((report.files_new, report.files_unmodified), (0, 60));
}

#[test]
fn opening_a_channel_begins_the_store() {
    let scene = Scene::new();
    let mut client = scene.open();
    assert_eq!(client.status().unwrap().sequence, 0);
    let request = OpenChannelRequest::new(scene.address());
    let channel = client.open_channel(&request, &Control::default()).unwrap();
    assert_eq!(channel.name, "disk");
    assert_eq!(channel.sequence, 1);
    assert_ne!(channel.root, RootHash::NONE);
    assert_eq!(client.status().unwrap().sequence, 1);
    let again = client.open_channel(&request, &Control::default());
    assert!(matches!(again, Err(ClientError::Input { .. })));
    drop(client);
    let client = scene.open();
    let roots = client.root().unwrap();
    assert_eq!((roots[0].root, roots[0].sequence), (channel.root, 1));
}

#[test]
fn a_home_is_open_once() {
    let (scene, client) = Scene::begun();
    let second = Client::open(&scene.home(), OpenOptions::new(connector()));
    assert!(matches!(second, Err(ClientError::Locked(_))));
    drop(client);
    scene.open();
}

#[test]
fn a_catalog_that_was_deleted_is_there_again() {
    let (scene, client) = Scene::begun();
    drop(client);
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        let _ = std::fs::remove_file(scene.home().join(name));
    }
    let client = scene.open();
    assert_eq!(client.status().unwrap().sequence, 1);
}

#[test]
fn words_and_an_address_bring_everything_back() {
    let scene = Scene {
        folder: tempfile::tempdir().unwrap(),
    };
    let words = Client::init(&scene.home(), &InitOptions::default()).unwrap();
    let words = words.phrase.unwrap().as_str().to_owned();
    let mut client = scene.open();
    let request = OpenChannelRequest::new(scene.address());
    client.open_channel(&request, &Control::default()).unwrap();
    scene.write("large", &noise(1, 3_000_000));
    scene.write("small", b"some");
    scene.store(&mut client);
    scene.write("later", b"more");
    let last = scene.store(&mut client);
    assert!(client.verify_phrase(&words).unwrap());
    drop(client);

    let home = scene.folder.path().join("new home");
    let options = InitOptions {
        phrase: Some(words.into()),
        ..InitOptions::default()
    };
    assert!(Client::init(&home, &options).unwrap().phrase.is_none());
    let mut client = Client::open(&home, OpenOptions::new(connector())).unwrap();
    let opened = client.open_channel(&request, &Control::default());
    assert!(matches!(opened, Err(ClientError::Input { .. })));
    let kept = last.roots[0].1;
    let request = RecoverRequest {
        address: scene.address(),
        root: Some(kept),
        from_packs: false,
    };
    let report = client.recover(&request, &Control::default()).unwrap();
    assert_eq!((report.sequence, report.root), (last.sequence, kept));
    assert_eq!(report.files, 3);
    assert_eq!(report.confirmed, maimo_vault::recover::Confirmed::ByRoot);
    // The same bytes under another machine's paths are known.
    let again = scene.store(&mut client);
    assert_eq!((again.files_new, again.bytes_stored), (3, 0));
}

#[test]
fn what_had_arrived_when_a_run_was_cut_off_is_not_sent_again() {
    let (scene, mut client) = Scene::begun();
    for n in 0..4 {
        scene.write(&format!("{n}"), &noise(n, 12_000_000));
    }
    let stop: Arc<OnceLock<Control>> = Arc::default();
    let own = Arc::clone(&stop);
    let control = Control::new(move |event| {
        if matches!(event, Event::Done { bytes, .. } if bytes > 40_000_000) {
            own.get().unwrap().cancel();
        }
    });
    stop.set(control.clone()).unwrap();
    let request = StoreRequest {
        paths: vec![scene.files()],
        ..StoreRequest::default()
    };
    let cut_off = client.store(&request, &control);
    assert!(matches!(cut_off, Err(ClientError::Cancelled(_))));
    drop(client);
    let mut client = scene.open();
    let rest = scene.store(&mut client);
    assert_eq!(rest.files_new, 4);
    assert!(rest.bytes_stored < 40_000_000, "{}", rest.bytes_stored);
    // All of it comes back.
    let to = scene.folder.path().join("back");
    let request = RetrieveRequest {
        paths: vec![scene.files()],
        to: to.clone(),
        ..RetrieveRequest::default()
    };
    let back = client.retrieve(&request, &Control::default()).unwrap();
    assert_eq!((back.errors, back.bytes_written), (0, 48_000_000));
    let three = to.join(scene.files().strip_prefix("/").unwrap()).join("3");
    assert_eq!(std::fs::read(three).unwrap(), noise(3, 12_000_000));
}

#[test]
fn a_run_that_another_device_overtakes_is_made_again_on_top() {
    let scene = Scene {
        folder: tempfile::tempdir().unwrap(),
    };
    let words = Client::init(&scene.home(), &InitOptions::default()).unwrap();
    let words = words.phrase.unwrap().as_str().to_owned();
    let connector = connector();
    let mut one = Client::open(&scene.home(), OpenOptions::new(connector.clone())).unwrap();
    let request = OpenChannelRequest::new(scene.address());
    one.open_channel(&request, &Control::default()).unwrap();
    scene.write("shared", &noise(1, 2_000_000));
    scene.store(&mut one);

    let home = scene.folder.path().join("other home");
    let options = InitOptions {
        phrase: Some(words.into()),
        source: Some("other".to_owned()),
        passphrase: None,
    };
    Client::init(&home, &options).unwrap();
    let mut two = Client::open(&home, OpenOptions::new(connector)).unwrap();
    let request = RecoverRequest {
        address: scene.address(),
        root: None,
        from_packs: false,
    };
    two.recover(&request, &Control::default()).unwrap();

    // The other device stores while this one is between reading the newest state and moving the head.
    let others = scene.folder.path().join("others");
    std::fs::create_dir_all(&others).unwrap();
    std::fs::write(others.join("file"), noise(2, 2_000_000)).unwrap();
    let two = Mutex::new(Some(two));
    let control = Control::new(move |event| {
        if let Event::Phase(Phase::Storing) = event
            && let Some(mut two) = two.lock().unwrap().take()
        {
            let request = StoreRequest {
                paths: vec![others.clone()],
                ..StoreRequest::default()
            };
            let report = two.store(&request, &Control::default()).unwrap();
            assert_eq!(report.sequence, 3);
        }
    });
    scene.write("mine", &noise(3, 2_000_000));
    scene.write("copy", &noise(1, 2_000_000));
    let request = StoreRequest {
        paths: vec![scene.files()],
        ..StoreRequest::default()
    };
    let report = one.store(&request, &control).unwrap();
    assert_eq!((report.files_new, report.sequence), (2, 4));
    let to = scene.folder.path().join("back");
    for (source, files) in [(None, 3), (Some("other".to_owned()), 1)] {
        let request = RetrieveRequest {
            paths: vec![scene.folder.path().to_owned()],
            to: to.clone(),
            source,
            ..RetrieveRequest::default()
        };
        let back = one.retrieve(&request, &Control::default()).unwrap();
        assert_eq!((back.errors, back.files), (0, files));
    }
}

#[test]
fn a_provider_that_was_put_back_to_an_old_image_is_told() {
    let (scene, mut client) = Scene::begun();
    scene.write("a", b"first");
    scene.store(&mut client);
    drop(client);
    let disk = scene.folder.path().join("disk");
    let image = scene.folder.path().join("image");
    copy(&disk, &image);
    let mut client = scene.open();
    scene.write("a", b"second");
    scene.store(&mut client);
    drop(client);
    std::fs::remove_dir_all(&disk).unwrap();
    copy(&image, &disk);
    let mut client = scene.open();
    scene.write("a", b"third");
    let request = StoreRequest {
        paths: vec![scene.files()],
        ..StoreRequest::default()
    };
    let refused = client.store(&request, &Control::default());
    assert!(matches!(refused, Err(ClientError::Astray { .. })));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Returns all files below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn packs_alone_rebuild_their_files_when_the_journal_is_damaged() {
    let scene = Scene {
        folder: tempfile::tempdir().unwrap(),
    };
    let words = Client::init(&scene.home(), &InitOptions::default()).unwrap();
    let words = words.phrase.unwrap().as_str().to_owned();
    let mut client = scene.open();
    let request = OpenChannelRequest::new(scene.address());
    client.open_channel(&request, &Control::default()).unwrap();
    scene.write("large", &noise(1, 3_000_000));
    for n in 0..3000_u32 {
        let text = format!(
            "{{\"name\": \"item {n}\", \"kind\": \"made up\", \"price\": {}}}",
            n * 7
        );
        scene.write(&format!("small/{n}.json"), text.repeat(3).as_bytes());
    }
    scene.store(&mut client);
    drop(client);

    // The journal's segments are the longer ones here; the dictionary stays.
    let packs = scene.folder.path().join("disk");
    let mut damaged = 0;
    for path in files_below(&packs) {
        let mut bytes = std::fs::read(&path).unwrap();
        let header = bytes.get(..64).unwrap_or_default();
        let kind = maimo_vault::pack::PackKind::Vital;
        if maimo_vault::pack::PackHeader::parse(header, kind).is_ok() && bytes.len() > 130_000 {
            bytes[70] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);

    let home = scene.folder.path().join("new home");
    let options = InitOptions {
        phrase: Some(words.into()),
        ..InitOptions::default()
    };
    Client::init(&home, &options).unwrap();
    let mut client = Client::open(&home, OpenOptions::new(connector())).unwrap();
    let mut request = RecoverRequest {
        address: scene.address(),
        root: None,
        from_packs: false,
    };
    assert!(client.recover(&request, &Control::default()).is_err());
    request.from_packs = true;
    let report = client.recover(&request, &Control::default()).unwrap();
    assert_eq!((report.files, report.unreadable), (3001, 0));

    let to = scene.folder.path().join("back");
    let sources = client.runs().unwrap();
    assert!(sources.is_empty(), "runs are the journal's alone");
    let status = client.status().unwrap();
    let source = status
        .sources
        .iter()
        .find(|label| label.starts_with("recovered-"));
    let request = RetrieveRequest {
        paths: vec![scene.files()],
        to: to.clone(),
        source: source.cloned(),
        ..RetrieveRequest::default()
    };
    let back = client.retrieve(&request, &Control::default()).unwrap();
    assert_eq!(back.errors, 0, "{:?}", back.failures);
    let inside = to.join(scene.files().strip_prefix("/").unwrap());
    for path in files_below(&scene.files()) {
        let name = path.strip_prefix(scene.files()).unwrap();
        assert_eq!(
            std::fs::read(inside.join(name)).unwrap(),
            std::fs::read(&path).unwrap()
        );
    }
    // And it goes on: what is there already is known.
    let again = scene.store(&mut client);
    assert_eq!((again.files_new, again.bytes_stored), (3001, 0));
}

#[test]
fn a_rebuilt_catalog_still_knows_every_chunk() {
    let (scene, mut client) = Scene::begun();
    scene.write("a", &noise(1, 3_000_000));
    scene.store(&mut client);
    drop(client);
    std::fs::remove_file(scene.home().join("catalog.sqlite")).unwrap();
    let mut client = scene.open();
    scene.write("copy", &noise(1, 3_000_000));
    let again = scene.store(&mut client);
    assert_eq!((again.files_new, again.bytes_stored), (1, 0));
}

#[test]
fn what_a_prune_let_go_of_comes_back_while_it_is_in_grace() {
    let (scene, mut client) = Scene::begun();
    let control = Control::default();
    scene.write("kept", &noise(1, 2_000_000));
    scene.write("changed", &noise(2, 2_000_000));
    scene.store(&mut client);
    scene.write("changed", &noise(3, 2_000_000));
    scene.store(&mut client);
    let policy = Policy {
        last: 1,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        within_ms: 0,
        revisions: 0,
    };
    client.keep("", Some(policy), &control).unwrap();
    let living = |client: &mut Client| {
        let audits = client.verify(&VerifyRequest::default(), &Control::default());
        let audit = audits.unwrap().remove(0);
        assert_eq!(audit.result, AuditResult::Intact);
        audit.strata[0].blocks_live
    };
    let before = living(&mut client);
    let dry = PruneRequest {
        dry_run: true,
        ..PruneRequest::default()
    };
    let would = client.prune(dry, &control).unwrap();
    let did = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(would.bytes_dropped, did.bytes_dropped);
    assert!(did.bytes_dropped > 1_900_000, "{did:?}");
    assert_eq!((did.runs_dropped, did.revisions_dropped), (1, 1));
    assert!(did.free_on.is_some());
    let changed = scene.files().join("changed");
    let own = WhichSource::Own;
    assert_eq!(client.history(&changed, &own).unwrap().len(), 1);
    assert!(living(&mut client) + 480 <= before);
    let nothing = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!((nothing.bytes_dropped, nothing.revisions_dropped), (0, 0));

    let back = client
        .undelete(UndeleteRequest::default(), &control)
        .unwrap();
    assert_eq!((back.runs, back.revisions, back.lost), (1, 1, 0));
    let history = client.history(&changed, &own).unwrap();
    assert_eq!(history.len(), 2);
    let mut old = Vec::new();
    let first = DumpRequest {
        path: changed.clone(),
        revision: Some(1),
        ..DumpRequest::default()
    };
    client.dump(&first, &mut old, &control).unwrap();
    assert!(
        old == noise(2, 2_000_000),
        "the old revision came back wrong"
    );
    // It is pinned: the next prune leaves it alone.
    let again = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(again.revisions_dropped, 0);
    let audits = client.verify(&VerifyRequest::default(), &control).unwrap();
    assert!(
        audits
            .iter()
            .all(|audit| audit.result == AuditResult::Intact)
    );
}

/// Small packs are joined once there are sixteen: only what this machine no longer has as it was stored is read back for it.
#[test]
fn packs_that_are_joined_take_their_chunks_from_the_files_that_still_have_them() {
    let (scene, mut client) = Scene::begun();
    let control = Control::default();
    let content = |n| noise(n, 200_000);
    for n in 0..18 {
        scene.write(&format!("{n}"), &content(n));
        scene.store(&mut client);
    }
    scene.write("3", &noise(99, 200_000));
    std::fs::remove_file(scene.files().join("5")).unwrap();
    let did = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(did.packs_rewritten, 18, "{did:?}");
    // Two files, in whole groups with the hashes that prove them.
    assert!((400_000..500_000).contains(&did.bytes_received), "{did:?}");
    let again = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!((again.packs_rewritten, again.bytes_received), (0, 0));
    for n in 0..18 {
        let mut back = Vec::new();
        let request = DumpRequest {
            path: scene.files().join(format!("{n}")),
            ..DumpRequest::default()
        };
        client.dump(&request, &mut back, &control).unwrap();
        assert!(back == content(n), "{n} came back wrong");
    }
}

#[test]
fn two_stores_live_in_one_process() {
    let store_one = |seed: u64| {
        let (scene, mut client) = Scene::begun();
        scene.write("file", &noise(seed, 5_000_000));
        let report = scene.store(&mut client);
        (scene, client, report)
    };
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(|| store_one(1));
        let two = scope.spawn(|| store_one(2));
        (one.join().unwrap(), two.join().unwrap())
    });
    assert_ne!(one.2.roots, two.2.roots);
    for (seed, (scene, mut client, _)) in [(1, one), (2, two)] {
        let request = DumpRequest {
            path: scene.files().join("file"),
            ..DumpRequest::default()
        };
        let mut bytes = Vec::new();
        client
            .dump(&request, &mut bytes, &Control::default())
            .unwrap();
        assert!(bytes == noise(seed, 5_000_000));
    }
}
