//! Dictionaries through the life of a store: another one where files are of another kind, none that nothing needs, and never one that is missing.

use super::*;

/// What a program writes down. Of what does not repeat a dictionary has its share, too, so that it is no little thing.
fn log(seed: u64) -> Vec<u8> {
    let draws = noise(seed, 400);
    let lines = draws.chunks(10).map(|draw| {
        let id = draw.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        format!("{{\"level\": \"info\", \"logger\": \"org.example.http\", \"id\": \"{id}\", \"at\": {seed}}},\n")
    });
    lines.collect::<String>().into_bytes()
}

/// Source code of a sort.
fn code(seed: u64) -> Vec<u8> {
    let draws = noise(seed | 1 << 50, 1200);
    let lines = draws.chunks(6).map(|draw| {
        let word = |at: usize| {
            let place = u64::from(draw[at]) | u64::from(draw[at + 1] & 1) << 8;
            let word = noise(place | 1 << 40, 6);
            let word = word.iter().map(|byte| char::from(b'a' + byte % 26));
            word.collect::<String>()
        };
        format!("    let {} = self.{}(&{});\n", word(0), word(2), word(4))
    });
    lines.collect::<String>().into_bytes()
}

fn write_all(
    scene: &Scene,
    folder: &str,
    of: impl Fn(u64) -> Vec<u8>,
    seeds: std::ops::Range<u64>,
) {
    for seed in seeds {
        scene.write(&format!("{folder}/{seed}"), &of(seed));
    }
}

fn only_the_newest(client: &mut Client) {
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
    let control = Control::default();
    client.keep("", Some(policy), &control).unwrap();
}

/// Retrieves all files of this machine, and holds them against the code that they are to be.
fn assert_back(scene: &Scene, client: &mut Client, seeds: std::ops::Range<u64>) {
    let to = tempfile::tempdir_in(scene.folder.path()).unwrap();
    let request = RetrieveRequest {
        paths: vec![scene.files()],
        to: to.path().to_owned(),
        ..RetrieveRequest::default()
    };
    let back = client.retrieve(&request, &Control::default()).unwrap();
    assert_eq!(back.errors, 0);
    let found = files_below(to.path());
    assert_eq!(found.len() as u64, seeds.end - seeds.start);
    for seed in seeds {
        let end = format!("code/{seed}");
        let path = found.iter().find(|path| path.ends_with(&end)).unwrap();
        assert!(std::fs::read(path).unwrap() == code(seed), "{end}");
    }
}

/// Returns how many blocks live of what is proven whole.
fn vital_blocks(client: &mut Client) -> u64 {
    let audits = client.verify(&VerifyRequest::default(), &Control::default());
    audits.unwrap()[0].strata[1].blocks_live
}

fn assert_intact(client: &mut Client) {
    let audits = client.verify(&VerifyRequest::default(), &Control::default());
    for audit in audits.unwrap() {
        assert_eq!(audit.result, AuditResult::Intact);
    }
}

/// Logs, then source code beside them, then no logs: the second kind gets a dictionary of its own, the first one's goes with the last log and comes
/// back with what is undeleted.
#[test]
fn a_dictionary_goes_with_the_last_chunk_that_needs_it_and_comes_back_with_the_first() {
    let (scene, mut client) = Scene::begun();
    let control = Control::default();
    write_all(&scene, "logs", log, 0..500);
    scene.store(&mut client);
    write_all(&scene, "code", code, 0..450);
    let drifted = scene.store(&mut client).bytes_stored;
    write_all(&scene, "code", code, 450..900);
    let adapted = scene.store(&mut client).bytes_stored;
    assert!(adapted * 10 < drifted * 9, "{adapted} of {drifted}");
    std::fs::remove_dir_all(scene.files().join("logs")).unwrap();
    scene.store(&mut client);
    only_the_newest(&mut client);
    // Some code of the first of these runs was compressed with it.
    let pruned = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(pruned.dictionaries_retired, 0);
    assert!(pruned.revisions_dropped >= 500, "{pruned:?}");
    assert_back(&scene, &mut client, 0..900);
    for seed in 0..450 {
        std::fs::remove_file(scene.files().join(format!("code/{seed}"))).unwrap();
    }
    scene.store(&mut client);
    let dry = PruneRequest {
        dry_run: true,
        ..PruneRequest::default()
    };
    let would = client.prune(dry, &control).unwrap();
    let pruned = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(
        (would.dictionaries_retired, pruned.dictionaries_retired),
        (1, 1)
    );
    let again = client.prune(PruneRequest::default(), &control).unwrap();
    assert_eq!(again.dictionaries_retired, 0);
    assert_intact(&mut client);
    assert_back(&scene, &mut client, 450..900);
    // Not out of a cache: by another installation.
    drop(client);
    let mut client = scene.open();
    let before = vital_blocks(&mut client);
    client
        .undelete(UndeleteRequest::default(), &control)
        .unwrap();
    // It is named again, and not only still there for a while.
    let after = vital_blocks(&mut client);
    assert!(before + 3 <= after, "{before} and {after}");
    assert_intact(&mut client);
    let mut old = Vec::new();
    let first = DumpRequest {
        path: scene.files().join("code/7"),
        revision: Some(1),
        ..DumpRequest::default()
    };
    client.dump(&first, &mut old, &control).unwrap();
    assert!(old == code(7), "the old revision came back wrong");
}

/// One device stores with a dictionary while another, with which it was in step until then, retires it.
#[test]
fn a_dictionary_that_one_device_retires_while_another_stores_with_it_stays() {
    let scene = Scene {
        folder: tempfile::tempdir().unwrap(),
    };
    let words = Client::init(&scene.home(), &InitOptions::default()).unwrap();
    let words = words.phrase.unwrap().as_str().to_owned();
    let connector = connector();
    let mut one = Client::open(&scene.home(), OpenOptions::new(connector.clone())).unwrap();
    let request = OpenChannelRequest::new(scene.address());
    one.open_channel(&request, &Control::default()).unwrap();
    write_all(&scene, "logs", log, 0..500);
    scene.store(&mut one);
    only_the_newest(&mut one);
    std::fs::remove_dir_all(scene.files().join("logs")).unwrap();
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

    let others = scene.folder.path().join("others");
    let request = StoreRequest {
        paths: vec![others.clone()],
        ..StoreRequest::default()
    };
    let one = Arc::new(Mutex::new(one));
    // A few ride in the tail, many take a pack.
    for seeds in [2000..2003, 3000..3300] {
        std::fs::create_dir_all(&others).unwrap();
        for seed in seeds.clone() {
            std::fs::write(others.join(seed.to_string()), log(seed)).unwrap();
        }
        let first_commit = Mutex::new(Some(Arc::clone(&one)));
        let control = Control::new(move |event| {
            if let Event::Phase(Phase::Committing) = event
                && let Some(one) = first_commit.lock().unwrap().take()
            {
                let mut one = one.lock().unwrap();
                let pruned = one.prune(PruneRequest::default(), &Control::default());
                assert_eq!(pruned.unwrap().dictionaries_retired, 1);
            }
        });
        two.store(&request, &control).unwrap();
        assert_intact(&mut two);
        for client in [&mut two, &mut *one.lock().unwrap()] {
            let mut stored = Vec::new();
            let dump = DumpRequest {
                path: others.join(seeds.start.to_string()),
                source: Some("other".to_owned()),
                ..DumpRequest::default()
            };
            client
                .dump(&dump, &mut stored, &Control::default())
                .unwrap();
            assert!(stored == log(seeds.start));
        }
        // It is needed, and stays.
        let pruned = one
            .lock()
            .unwrap()
            .prune(PruneRequest::default(), &Control::default());
        assert_eq!(pruned.unwrap().dictionaries_retired, 0);
        for seed in seeds {
            std::fs::remove_file(others.join(seed.to_string())).unwrap();
        }
        two.store(&request, &Control::default()).unwrap();
    }
}
