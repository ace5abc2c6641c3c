//! Files: stored, listed, audited, retrieved, by the JSON that programs read.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use serde_json::Value;

use crate::support::{Machine, ended};

/// Returns a machine with a node, a channel and some files.
fn machine() -> Machine {
    let machine = Machine::new();
    machine.done(&["init", "--source", "laptop"]);
    machine.done(&["channel", "open", "provider", "--name", "disk"]);
    machine.write("files/a.txt", "hello\n");
    machine.write("files/sub/b.txt", "other\n");
    machine.write("files/sub/big", noise(300_000));
    symlink("a.txt", machine.path("files/link")).unwrap();
    machine
}

/// Returns bytes that nothing makes smaller, the same every time.
fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn keys(object: &Value, keys: &[&str]) {
    for key in keys {
        assert!(object.get(key).is_some(), "no {key} in {object}");
    }
}

#[test]
fn a_store_tells_what_it_did_and_the_next_one_has_nothing_to_do() {
    let machine = machine();
    let summary = machine.object("summary", &["store", "files"]);
    keys(
        &summary,
        &[
            "files_new",
            "files_changed",
            "files_unmodified",
            "bytes_read",
            "bytes_stored",
            "bytes_sent",
        ],
    );
    keys(&summary, &["files_deleted", "errors", "sequence", "roots"]);
    assert!(summary["files_new"].as_u64().unwrap() >= 3, "{summary}");
    assert_eq!(summary["errors"], 0);
    let root = machine.object("root", &["root"]);
    assert_eq!(root["channel"], "disk");
    assert_eq!(root["root"].as_str().unwrap().len(), 64);
    let again = machine.object("summary", &["backup", "files"]);
    assert_eq!(again["files_new"], 0, "{again}");
    assert_eq!(again["files_changed"], 0);
    machine.write("files/a.txt", "hello, changed\n");
    let changed = machine.object("summary", &["store", "files"]);
    assert_eq!(changed["files_changed"], 1, "{changed}");
}

#[test]
fn a_dry_run_stores_nothing() {
    let machine = machine();
    let summary = machine.object("summary", &["store", "files", "--dry-run"]);
    assert!(summary["files_new"].as_u64().unwrap() >= 3, "{summary}");
    assert!(machine.json(&["list"]).is_empty());
}

#[test]
fn listed_files_have_the_hash_that_b3sum_prints() {
    let machine = machine();
    machine.done(&["store", "files"]);
    let files = machine.json(&["list"]);
    let a = files
        .iter()
        .find(|file| file["path"] == machine.text("files/a.txt"));
    let a = a.unwrap_or_else(|| panic!("{files:#?}"));
    keys(
        a,
        &[
            "source",
            "path",
            "size",
            "modified",
            "blake3",
            "revision",
            "revisions",
            "state",
        ],
    );
    assert_eq!(a["source"], "laptop");
    assert_eq!(a["size"], 6);
    assert_eq!(a["state"], "present");
    let expected = blake3::hash(b"hello\n").to_hex();
    assert_eq!(a["blake3"], expected.as_str());
    let found = machine.json(&["find", "b.t*"]);
    assert_eq!(found.len(), 1, "{found:#?}");
    assert_eq!(found[0]["path"], machine.text("files/sub/b.txt"));
    let in_folder = machine.json(&["ls", "files/sub"]);
    assert!(
        in_folder
            .iter()
            .all(|file| file["path"].as_str().unwrap().contains("/sub")),
        "{in_folder:#?}"
    );
    assert!(!in_folder.is_empty());
}

#[test]
fn what_is_retrieved_is_what_was_stored() {
    let machine = machine();
    fs::set_permissions(
        machine.path("files/a.txt"),
        fs::Permissions::from_mode(0o640),
    )
    .unwrap();
    machine.done(&["store", "files"]);
    let summary = machine.object("summary", &["retrieve", "files", "--to", "back"]);
    keys(
        &summary,
        &["files", "bytes_written", "bytes_received", "errors"],
    );
    assert_eq!(summary["errors"], 0);
    let back = machine
        .path("back")
        .join(machine.path("files").strip_prefix("/").unwrap());
    assert_eq!(fs::read(back.join("a.txt")).unwrap(), b"hello\n");
    assert_eq!(fs::read(back.join("sub/big")).unwrap(), noise(300_000));
    assert_eq!(
        fs::read_link(back.join("link")).unwrap().to_str(),
        Some("a.txt")
    );
    let mode = fs::metadata(back.join("a.txt"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
    assert_eq!(machine.done(&["dump", "files/a.txt"]).out, "hello\n");
}

#[test]
fn revisions_are_kept_and_come_back() {
    let machine = machine();
    machine.done(&["store", "files"]);
    machine.write("files/a.txt", "second\n");
    machine.done(&["store", "files"]);
    let revisions = machine.json(&["history", "files/a.txt"]);
    assert_eq!(revisions.len(), 2, "{revisions:#?}");
    keys(
        &revisions[0],
        &["revision", "stored", "size", "modified", "blake3"],
    );
    let first = revisions.iter().find(|r| r["size"] == 6).unwrap();
    let number = first["revision"].to_string();
    let dumped = machine.done(&["dump", "files/a.txt", "--revision", &number]);
    assert_eq!(dumped.out, "hello\n");
    let runs = machine.json(&["runs"]);
    assert_eq!(runs.len(), 2, "{runs:#?}");
    keys(
        &runs[0],
        &["run", "source", "started", "files", "bytes_stored"],
    );
}

#[test]
fn an_audit_tells_both_strata_and_what_it_would_have_seen() {
    let machine = machine();
    machine.done(&["store", "files"]);
    let audit = machine.object("summary", &["verify"]);
    keys(
        &audit,
        &["channel", "root", "strata", "bytes_received", "result"],
    );
    assert_eq!(audit["result"], "intact");
    for stratum in audit["strata"].as_array().unwrap() {
        keys(
            stratum,
            &["class", "slices", "blocks_live", "failed", "detects"],
        );
        keys(&stratum["detects"], &["loss", "probability"]);
    }
    assert_eq!(audit["root"], machine.object("root", &["root"])["root"]);
}

#[test]
fn a_store_without_a_channel_says_how_to_open_one() {
    let machine = Machine::new();
    machine.done(&["init"]);
    machine.write("files/a", "x");
    let error = machine.error(1, &["store", "files"]);
    assert!(
        error["hint"].as_str().unwrap().contains("channel open"),
        "{error}"
    );
}

#[test]
fn a_provider_whose_folder_is_gone_ends_with_21() {
    let machine = machine();
    machine.done(&["store", "files"]);
    fs::rename(machine.path("provider"), machine.path("unplugged")).unwrap();
    machine.write("files/new", "x");
    machine.error(21, &["store", "files"]);
    machine.error(21, &["verify"]);
    assert!(
        !machine.path("provider").exists(),
        "an unmounted disk is not to be made"
    );
    fs::rename(machine.path("unplugged"), machine.path("provider")).unwrap();
    machine.done(&["store", "files"]);
}

#[test]
fn a_cap_that_is_exceeded_ends_with_23_and_says_what_helps() {
    let machine = Machine::new();
    machine.done(&["init"]);
    machine.done(&["channel", "open", "provider", "--cap", "1MiB"]);
    machine.write("files/noise", noise(4 << 20));
    let error = machine.error(23, &["store", "files"]);
    assert!(error["hint"].as_str().unwrap().contains("prune"), "{error}");
}

#[test]
fn a_source_that_cannot_be_read_ends_with_3_and_the_rest_is_stored() {
    let machine = machine();
    let unreadable = machine.write("files/secret", "x");
    fs::set_permissions(&unreadable, fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(&unreadable).is_ok() {
        // Root reads everything: what is not there at all is the other way to be unreadable.
        let ended = machine.run(&["--json", "store", "files", "nowhere"]);
        ended.error(3);
        assert_eq!(ended.objects().last().unwrap()["errors"], 1);
    } else {
        let ended = machine.run(&["--json", "store", "files"]);
        ended.error(3);
        assert_eq!(ended.objects().last().unwrap()["errors"], 1);
    }
    assert!(machine.json(&["list"]).len() >= 3);
}

#[test]
fn damage_at_the_provider_ends_an_audit_with_20() {
    let machine = machine();
    machine.done(&["store", "files"]);
    let mut damaged = 0;
    let mut waiting = vec![machine.path("provider")];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if path.components().any(|part| part.as_os_str() == "packs") {
            let mut bytes = fs::read(&path).unwrap();
            for byte in bytes.iter_mut().step_by(1000) {
                *byte ^= 1;
            }
            fs::write(&path, bytes).unwrap();
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    let ended = machine.run(&["--json", "verify"]);
    ended.error(20);
    let result = ended.objects().last().unwrap()["result"].clone();
    assert!(result == "damaged" || result == "missing", "{result}");
}

#[test]
fn two_processes_on_one_home_do_not_share_it() {
    let machine = machine();
    // This process is the other one: it holds what every maimo process holds while it works on a home.
    let lock = fs::File::open(machine.path("home").join("lock")).unwrap();
    lock.lock().unwrap();
    machine.run(&["--json", "root"]).error(1);
    drop(lock);
    machine.done(&["root"]);
    drop(ended(&mut machine.command(&["root"])));
}
