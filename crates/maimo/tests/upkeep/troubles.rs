//! What goes wrong is told once, apart from all else that does, and once when it is over.

use std::{
    fs,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::node::Node;

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes
}

/// Returns the longest file below a folder.
fn longest(folder: &Path) -> PathBuf {
    let mut waiting = vec![folder.to_owned()];
    let mut longest = (0, PathBuf::new());
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if metadata.len() > longest.0 {
            longest = (metadata.len(), path);
        }
    }
    longest.1
}

#[test]
fn a_provider_that_goes_away_is_told_once_and_what_changed_meanwhile_is_stored_when_it_is_back() {
    let mut node = Node::new("");
    node.machine.write("mine/a", "a");
    node.start();
    let before = node.stored_after(0);
    let (disk, away) = (node.machine.path("disk"), node.machine.path("away"));
    fs::rename(&disk, &away).unwrap();
    node.machine.write("mine/b", "b");
    assert_eq!(node.told(1), ["trouble offline disk"]);
    assert_eq!(node.troubles(), ["offline"]);
    // Another change does not tell it again.
    node.machine.write("mine/c", "c");
    fs::rename(&away, &disk).unwrap();
    assert_eq!(
        node.told(2),
        ["trouble offline disk", "recovered offline disk"]
    );
    node.stored_after(before);
    node.stop();
    assert_eq!(node.paths().len(), 3);
    assert_eq!(node.told(2).len(), 2);
}

#[test]
fn a_mirror_that_goes_away_is_told_once_without_an_audit_and_so_is_its_return() {
    let mut node = Node::new("");
    node.machine.write("mine/a", "a");
    node.machine.done(&["store", "mine"]);
    node.machine
        .done(&["channel", "open", "second", "--name", "second"]);
    node.machine.done(&["channel", "mirror", "disk", "second"]);
    node.start();
    let (second, away) = (node.machine.path("second"), node.machine.path("away"));
    fs::rename(&second, &away).unwrap();
    node.machine.write("mine/b", "b");
    assert_eq!(node.told(1), ["trouble offline second"]);
    // What is acknowledged by the first is stored, and no trouble of the first.
    let before = node.stored_after(0);
    node.machine.write("mine/c", "c");
    node.stored_after(before);
    assert_eq!(node.troubles(), ["offline"]);
    fs::rename(&away, &second).unwrap();
    let told = ["trouble offline second", "recovered offline second"];
    assert_eq!(node.told(2), told);
    let caught_up = |state: &Value| {
        let jobs = state["jobs"].as_array().cloned().unwrap_or_default();
        let job = jobs.iter().find(|job| job["job"] == "mirrors");
        job.is_some_and(|job| job["failures"] == 0)
    };
    node.until("caught up", caught_up);
    let status = node.machine.object("status", &["status"]);
    assert_eq!(status["channels"][1]["behind"], 0, "{status:#}");
    // A command of the user's that meets it away has it told as well.
    fs::rename(&second, &away).unwrap();
    node.stop();
    node.machine.write("mine/d", "d");
    node.machine.done(&["store", "mine"]);
    node.start();
    assert_eq!(node.told(3)[2..], ["trouble offline second"]);
    fs::rename(&away, &second).unwrap();
    assert_eq!(node.told(4)[3..], ["recovered offline second"]);
    node.stop();
}

#[test]
fn damage_is_told_once_by_the_audit_that_meets_it_and_not_again_by_the_next_process() {
    let mut node = Node::new("audit-every = \"1s\"\n");
    node.machine.write("mine/large", noise(3 << 20));
    node.start();
    node.stored_after(0);
    let audited = |state: &Value| {
        let jobs = state["jobs"].as_array().cloned().unwrap_or_default();
        let of_disk = |job: &&Value| job["job"] == "audit disk";
        let found = jobs.iter().find(of_disk).cloned();
        found.and_then(|job| job["last"].as_str().map(str::to_owned))
    };
    node.until("audited", |state| audited(state).is_some());
    assert_eq!(node.troubles(), [""; 0]);

    let pack = longest(&node.machine.path("disk"));
    let file = fs::File::options().write(true).open(pack).unwrap();
    for block in 0..768 {
        file.write_all_at(b"damage", block * 4096 + 100).unwrap();
    }
    assert_eq!(node.told(1), ["trouble damaged disk"]);
    let told: Value =
        serde_json::from_slice(&fs::read(node.machine.path("user/told.json")).unwrap()).unwrap();
    assert_eq!(told["message_type"], "trouble");
    assert_eq!(
        (&told["kind"], &told["channel"]),
        (&"damaged".into(), &"disk".into())
    );
    assert!(told["hint"].as_str().unwrap().contains("repair"), "{told}");
    let variables = fs::read_to_string(node.machine.path("user/told.env")).unwrap();
    assert!(
        variables.contains("MAIMO_MESSAGE=channel disk: "),
        "{variables}"
    );
    assert!(!variables.contains("correct horse"), "{variables}");

    // Then it is away besides, which hides nothing.
    let (disk, away) = (node.machine.path("disk"), node.machine.path("away"));
    fs::rename(&disk, &away).unwrap();
    assert_eq!(node.told(2)[1], "trouble offline disk");
    assert_eq!(node.troubles(), ["offline", "damaged"]);
    node.stop();
    fs::rename(&away, &disk).unwrap();
    let before = audited(&node.state());
    node.start();
    node.until("audited again", |state| audited(state) > before);
    node.stop();
    let told = node.told(3);
    assert_eq!(told[2..], ["recovered offline disk"]);
    assert_eq!(node.troubles(), ["damaged"]);
    let status = node.machine.object("status", &["status"]);
    let attention = status["attention"].to_string();
    assert!(attention.contains("since "), "{attention}");
}

#[test]
fn what_was_done_is_not_done_again_by_the_next_process() {
    let mut node = Node::new("audit-every = \"1h\"\n");
    node.machine.write("mine/a", "a");
    // As if the last process had ended a moment ago, with a job just done.
    node.start();
    node.stored_after(0);
    node.stop();
    let mut state = node.state();
    let now = state["written"].clone();
    state["jobs"] =
        serde_json::json!([{"job": "audit disk", "last": now, "next": now, "failures": 0}]);
    node.machine.write("home/state.json", state.to_string());
    node.start();
    node.until("going on", |state| {
        state["jobs"].as_array().is_some_and(|jobs| {
            jobs.iter()
                .any(|job| job["job"] == "audit disk" && job["last"] == now && job["next"] != now)
        })
    });
    node.stop();
    assert_eq!(
        node.machine.object("status", &["status"])["channels"][0]["last_audit"],
        Value::Null
    );
}
