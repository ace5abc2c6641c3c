//! A client's own state lost: what is a view is made anew by itself, what is precious is begun anew by `recover`.

use std::fs;

use crate::rig::{PHRASE, Rig, SOURCE, args};

fn stored() -> Rig {
    let rig = Rig::ready();
    rig.grow(0, 250);
    let store = args([&"store", &rig.files()]);
    rig.ok(&store);
    fs::write(rig.files().join("later"), "of another run").unwrap();
    rig.ok(&store);
    rig
}

fn holds(rig: &Rig) {
    assert!(rig.ok(["list"]).contains("later"));
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

#[test]
fn a_catalog_that_is_lost_or_damaged_is_made_anew() {
    let rig = stored();
    let catalog = rig.home().join("catalog.sqlite");
    let lose_wal = || {
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(rig.home().join(format!("catalog.sqlite{end}")));
        }
    };
    lose_wal();
    fs::remove_file(&catalog).unwrap();
    holds(&rig);
    for length in [0, 1, 100, 4096, 9000] {
        lose_wal();
        let file = fs::OpenOptions::new().write(true).open(&catalog).unwrap();
        file.set_len(length).unwrap();
        assert!(rig.ok(["list"]).contains("later"), "{length} bytes left");
    }
    holds(&rig);
    // Where its files were was lost with it; what is deleted now is gone all the same, once their folder was seen again.
    lose_wal();
    fs::remove_file(&catalog).unwrap();
    fs::remove_file(rig.files().join("large-0")).unwrap();
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(args([&"store", &rig.files()]));
    assert!(!rig.ok(["list"]).contains("large-0"));
    holds(&rig);
    lose_wal();
    let length = fs::metadata(&catalog).unwrap().len();
    for start in (0..length).step_by(16 * 1024) {
        lose_wal();
        let mut bytes = fs::read(&catalog).unwrap();
        let end = bytes.len().min(start as usize + 5000);
        bytes[start as usize..end].fill(0x5a);
        fs::write(&catalog, bytes).unwrap();
        rig.ok(args([&"store", &rig.files()]));
    }
    holds(&rig);
}

#[test]
fn a_journal_cache_that_is_lost_is_fetched_again() {
    let rig = stored();
    fs::remove_dir_all(rig.home().join("journal")).unwrap();
    holds(&rig);
    fs::remove_dir_all(rig.home().join("journal")).unwrap();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(rig.home().join(format!("catalog.sqlite{end}")));
    }
    // Nothing is left to list from, and the provider is away: an empty list would be a lie.
    let away = rig.folder.path().join("away");
    fs::rename(rig.provider(), &away).unwrap();
    for command in [["list"].as_slice(), &["find", "later"], &["runs"]] {
        rig.ends(21, command);
    }
    assert!(rig.ok(["status"]).contains("catalog"));
    fs::rename(&away, rig.provider()).unwrap();
    holds(&rig);
}

#[test]
fn a_lost_node_state_is_begun_anew_by_recover() {
    let rig = stored();
    let state = rig.home().join("node.sqlite");
    let hurts: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&state).unwrap(),
        &|| {
            let file = fs::OpenOptions::new().write(true).open(&state).unwrap();
            file.set_len(4096).unwrap();
        },
        &|| fs::write(&state, vec![0x5a; 20_000]).unwrap(),
    ];
    for hurt in hurts {
        for end in ["-wal", "-shm"] {
            let _ = fs::remove_file(rig.home().join(format!("node.sqlite{end}")));
        }
        hurt();
        for command in [args([&"list"]), args([&"store", &rig.files()])] {
            let told = rig.ends(1, command);
            assert!(told.contains("maimo recover"), "{told}");
        }
        rig.ok(args([&"recover", &rig.provider()]));
        assert_eq!(rig.retrieved_of(SOURCE, "back"), Rig::tree(&rig.files()));
        rig.ok(args([&"store", &rig.files()]));
        rig.ok(["verify"]);
        assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    }
}

#[test]
fn a_damaged_key_is_told_and_the_words_bring_the_store_back() {
    let rig = Rig::new();
    let phrase = rig.folder.path().join("phrase");
    fs::write(&phrase, PHRASE).unwrap();
    let init = args([&"init", &"--source", &SOURCE, &"--phrase-file", &phrase]);
    rig.ok(&init);
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig.grow(0, 20);
    rig.ok(args([&"store", &rig.files()]));
    let key = rig.home().join("key");
    let mut bytes = fs::read(&key).unwrap();
    bytes[40] ^= 1;
    fs::write(&key, bytes).unwrap();
    let told = rig.ends(1, ["list"]);
    assert!(
        told.contains("key") && told.contains("--phrase-file"),
        "{told}"
    );
    fs::rename(rig.home(), rig.folder.path().join("old")).unwrap();
    rig.ok(args([
        &"init",
        &"--source",
        &"anew",
        &"--phrase-file",
        &phrase,
    ]));
    rig.ok(args([&"recover", &rig.provider()]));
    assert_eq!(rig.retrieved_of(SOURCE, "back"), Rig::tree(&rig.files()));
}

/// Between what a channel shows and the channel itself, both of which a recovery writes down. Such a home could do nothing any more.
#[test]
fn a_recovery_cut_off_before_its_channel_was_written_down_begins_again() {
    let rig = Rig::new();
    let phrase = rig.folder.path().join("phrase");
    fs::write(&phrase, PHRASE).unwrap();
    let init = |source: &str| {
        rig.ok(args([
            &"init",
            &"--source",
            &source,
            &"--phrase-file",
            &phrase,
        ]));
    };
    init(SOURCE);
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig.grow(0, 20);
    rig.ok(args([&"store", &rig.files()]));
    fs::remove_dir_all(rig.home()).unwrap();
    init("anew");
    rig.ok(args([&"recover", &rig.provider()]));
    let state = rusqlite::Connection::open(rig.home().join("node.sqlite")).unwrap();
    let cut = "DELETE FROM channel; DELETE FROM channel_address";
    state.execute_batch(cut).unwrap();
    drop(state);
    fs::remove_file(rig.home().join("catalog.sqlite")).unwrap();
    fs::remove_dir_all(rig.home().join("journal")).unwrap();
    rig.ok(args([&"recover", &rig.provider()]));
    assert_eq!(rig.retrieved_of(SOURCE, "back"), Rig::tree(&rig.files()));
}
