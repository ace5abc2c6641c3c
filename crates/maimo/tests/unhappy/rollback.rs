//! A provider restored from an old image, wholly or in part, or on another branch: it is found, both heads are kept, and `channel repair` brings
//! back what anything still has.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::rig::{Found, PHRASE, Rig, SOURCE, Stream, args};

const NAME: &str = "provider";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A store of a known phrase.
fn begun() -> Rig {
    let rig = Rig::new();
    let words = rig.folder.path().join("words");
    fs::write(&words, PHRASE).unwrap();
    rig.ok(args([
        &"init",
        &"--source",
        &SOURCE,
        &"--phrase-file",
        &words,
    ]));
    rig.ok(args([&"channel", &"open", &rig.provider()]));
    rig
}

/// Another machine of the store, which knows what the provider shows now.
fn joined(other: &Rig, source: &str) -> Rig {
    let mut rig = Rig::new();
    rig.share(other);
    let words = other.folder.path().join("words");
    rig.ok(args([
        &"init",
        &"--source",
        &source,
        &"--phrase-file",
        &words,
    ]));
    rig.ok(args([&"recover", &rig.provider()]));
    rig
}

fn image(rig: &Rig) -> PathBuf {
    let to = rig.folder.path().join("image");
    copy(&rig.provider(), &to);
    to
}

fn put_back(rig: &Rig, image: &Path) {
    fs::remove_dir_all(rig.provider()).unwrap();
    copy(image, &rig.provider());
}

fn write(rig: &Rig, name: &str, seed: u64, length: usize) {
    fs::write(rig.files().join(name), Stream::new(seed).take(length)).unwrap();
}

fn json(text: &str) -> Value {
    let line = text.lines().rfind(|line| line.starts_with('{')).unwrap();
    serde_json::from_str(line).unwrap()
}

/// What a store has: by path, state and revisions of every file, of every machine.
fn listed(rig: &Rig) -> Vec<String> {
    let list = rig.ok(["--json", "list", "--all", "--source", "all"]);
    let mut lines: Vec<String> = list
        .lines()
        .map(|line| {
            let file: Value = serde_json::from_str(line).unwrap();
            format!(
                "{} {} {} {}",
                file["source"], file["path"], file["blake3"], file["state"]
            )
        })
        .collect();
    lines.sort();
    lines
}

/// Some runs, an image after the first of them, and the provider put back to it.
fn rolled_back() -> (Rig, Vec<String>) {
    let rig = begun();
    write(&rig, "old", 1, 400_000);
    write(&rig, "changes", 2, 50_000);
    write(&rig, "goes", 3, 50_000);
    let store = args([&"store", &rig.files()]);
    rig.ok(&store);
    let image = image(&rig);
    write(&rig, "changes", 4, 60_000);
    write(&rig, "new", 5, 2_000_000);
    fs::remove_file(rig.files().join("goes")).unwrap();
    rig.ok(&store);
    write(&rig, "tiny", 6, 100);
    rig.ok(&store);
    let known = listed(&rig);
    put_back(&rig, &image);
    (rig, known)
}

#[test]
fn a_provider_put_back_to_an_old_image_is_found_and_brought_back_when_its_owner_agrees() {
    let (rig, known) = rolled_back();
    let store = args([&"store", &rig.files()]);
    for command in [store.clone(), args([&"verify"])] {
        let told = rig.ends(22, &command);
        assert!(told.contains("channel repair"), "{told}");
    }
    let status = rig.ok(["status"]);
    assert!(status.contains("does not follow what was seen"), "{status}");
    let kept = rig.ok(["--json", "channel", "evidence", NAME]);
    assert_eq!(
        kept.lines().count(),
        1,
        "the same pair is kept once: {kept}"
    );
    let kept = json(&kept);
    assert!(kept["seen"].as_str().unwrap().len() > 300 && kept["shown"] != kept["seen"]);
    // Nothing is done before anybody agrees.
    for command in [
        args([&"--json", &"channel", &"repair", &NAME]),
        args([&"--json", &"channel", &"repair", &NAME, &"--dry-run"]),
    ] {
        let told = rig.ends(22, &command);
        assert!(!told.contains("\"dry_run\":false"), "{told}");
    }
    let dry = rig.run(["--json", "channel", "repair", NAME, "--dry-run"]);
    let dry = json(std::str::from_utf8(&dry.stdout).unwrap());
    assert_eq!(dry["astray"]["kind"], "rollback", "{dry}");
    // Three files, and their folder twice.
    assert_eq!(dry["astray"]["revisions_missing"], 5, "{dry}");
    assert_eq!(dry["astray"]["runs_missing"], 2, "{dry}");
    rig.ends(22, &store);

    let done = json(&rig.ok(["--json", "channel", "repair", NAME, "--yes"]));
    assert_eq!(done["astray"]["revisions_restored"], 5, "{done}");
    assert_eq!(
        done["astray"]["revisions_lost"].as_array().unwrap().len(),
        0
    );
    assert_eq!(listed(&rig), known);
    // What the audit above had asked of the state that is gone is owed no more.
    rig.ok(["verify"]);
    rig.ok(["verify", "--read-all"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    let history = rig.ok(args([&"--json", &"history", &rig.files().join("changes")]));
    assert_eq!(history.lines().count(), 2, "{history}");
    // From here on all is as ever, for a new machine too.
    write(&rig, "after", 7, 3000);
    rig.ok(&store);
    let other = joined(&rig, "other");
    assert_eq!(listed(&other), listed(&rig));
    rig.ok(["verify", "--read-all"]);
    let again = json(&rig.ok(["--json", "channel", "repair", NAME]));
    assert_eq!(again["astray"], Value::Null);
}

#[test]
fn what_neither_the_old_image_nor_this_machine_has_is_named_as_lost() {
    let (rig, known) = rolled_back();
    fs::remove_file(rig.files().join("new")).unwrap();
    let output = rig.run(["--json", "channel", "repair", NAME, "--yes"]);
    assert_eq!(output.status.code(), Some(20));
    let done = json(std::str::from_utf8(&output.stdout).unwrap());
    let lost = done["astray"]["revisions_lost"].as_array().unwrap();
    assert_eq!(lost.len(), 1, "{done}");
    assert!(
        lost[0]["path"].as_str().unwrap().ends_with("/new"),
        "{done}"
    );
    let left: Vec<_> = known
        .into_iter()
        .filter(|line| !line.contains("/new\""))
        .collect();
    assert_eq!(listed(&rig), left);
    rig.ok(["verify", "--read-all"]);
    rig.ok(args([&"store", &rig.files()]));
}

#[test]
fn another_machine_that_saw_more_is_told_and_repairs_too() {
    let rig = begun();
    write(&rig, "old", 1, 400_000);
    rig.ok(args([&"store", &rig.files()]));
    let image = image(&rig);
    let other = joined(&rig, "other");
    write(&rig, "new", 2, 300_000);
    rig.ok(args([&"store", &rig.files()]));
    write(&other, "others", 3, 300_000);
    other.ok(args([&"store", &other.files()]));
    // This one has not heard of the other's last state.
    put_back(&rig, &image);
    let repair = ["--json", "channel", "repair", NAME, "--yes"];
    rig.ends(22, args([&"store", &rig.files()]));
    rig.ok(repair);
    other.ends(22, args([&"store", &other.files()]));
    let done = json(&other.ok(repair));
    assert_eq!(done["astray"]["revisions_restored"], 2, "{done}");
    rig.ok(args([&"store", &rig.files()]));
    assert_eq!(listed(&rig), listed(&other));
    assert_eq!(listed(&rig).len(), 3);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    rig.ok(["verify", "--read-all"]);
}

#[test]
fn of_two_branches_both_are_kept() {
    let rig = begun();
    write(&rig, "old", 1, 400_000);
    rig.ok(args([&"store", &rig.files()]));
    let image = image(&rig);
    write(&rig, "here", 2, 300_000);
    rig.ok(args([&"store", &rig.files()]));
    put_back(&rig, &image);
    // A machine that never saw more stores on top of the old state: the same sequence, another root.
    let other = joined(&rig, "other");
    write(&other, "there", 3, 300_000);
    other.ok(args([&"store", &other.files()]));
    let told = rig.ends(22, args([&"store", &rig.files()]));
    assert!(told.contains("forked"), "{told}");
    let done = json(&rig.ok(["--json", "channel", "repair", NAME, "--yes"]));
    assert_eq!(done["astray"]["kind"], "fork", "{done}");
    assert_eq!(done["astray"]["revisions_others"], 2, "{done}");
    // The repair was made on top of what the other has seen: it hears of it as of any store.
    other.ok(args([&"store", &other.files()]));
    rig.ok(args([&"store", &rig.files()]));
    assert_eq!(listed(&rig), listed(&other));
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    rig.ok(["verify", "--read-all"]);
}

/// Only the provider's rows are old: its log has what came after, and it is as it was.
#[test]
fn an_old_ledger_beside_its_volume_is_no_rollback() {
    let (rig, _) = rolled_back();
    let image = rig.folder.path().join("image");
    rig.ok(["channel", "repair", NAME, "--yes"]);
    for entry in fs::read_dir(&image).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if name.to_str().unwrap().starts_with("ledger") {
            fs::copy(entry.path(), rig.provider().join(name)).unwrap();
        }
    }
    rig.ok(args([&"store", &rig.files()]));
    rig.ok(["verify", "--read-all"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
}

/// Only the volume is old: the rows say what is missing there, and it is stored again.
#[test]
fn an_old_volume_beside_its_ledger_is_damage_that_is_healed() {
    let rig = begun();
    write(&rig, "old", 1, 400_000);
    rig.ok(args([&"store", &rig.files()]));
    let image = image(&rig);
    write(&rig, "new", 2, 300_000);
    rig.ok(args([&"store", &rig.files()]));
    let volume = rig.provider().join("volume");
    fs::remove_dir_all(&volume).unwrap();
    copy(&image.join("volume"), &volume);
    rig.ends(20, ["verify", "--read-all"]);
    let done = json(&rig.ok(["--json", "channel", "repair", NAME, "--yes"]));
    assert_eq!(done["damage"], Value::Null, "{done}");
    rig.ok(["verify", "--read-all"]);
    assert_eq!(rig.retrieved("back"), Rig::tree(&rig.files()));
    assert!(matches!(
        Rig::tree(&rig.files())[Path::new("new")],
        Found::File(..)
    ));
}
