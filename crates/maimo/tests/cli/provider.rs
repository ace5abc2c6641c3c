//! A node that stores for others: volumes, its keys, scrubbing.

use std::fs;

use crate::support::Machine;

#[test]
fn the_first_volume_makes_a_provider() {
    let machine = Machine::new();
    assert!(machine.json(&["volume", "list"]).is_empty());
    machine.error(10, &["provider", "backup"]);
    let volume = machine.object("volume", &["volume", "add", "disk", "--capacity", "10GiB"]);
    for key in ["path", "capacity", "used", "free", "state"] {
        assert!(volume.get(key).is_some(), "no {key} in {volume}");
    }
    assert_eq!(volume["path"], machine.text("disk"));
    assert_eq!(volume["capacity"], 10_u64 << 30);
    assert_eq!(volume["state"], "ready");
    let backup = machine.object("provider", &["provider", "backup"]);
    assert_eq!(
        backup["phrase"]
            .as_str()
            .unwrap()
            .split_whitespace()
            .count(),
        24
    );
    assert_eq!(machine.json(&["volume", "list"]).len(), 1);
    let summary = machine.object("summary", &["scrub"]);
    assert_eq!(summary["damaged"], 0);
}

#[test]
fn a_volume_is_drained_and_removed() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "one", "--capacity", "1GiB"]);
    machine.done(&["volume", "add", "two", "--capacity", "1GiB"]);
    let drained = machine.object("volume", &["volume", "drain", "one"]);
    assert_eq!(drained["state"], "draining");
    machine.done(&["volume", "remove", "one"]);
    let left = machine.json(&["volume", "list"]);
    assert_eq!(left.len(), 1, "{left:#?}");
    machine.error(1, &["volume", "remove", "one"]);
}

#[test]
fn a_volume_that_is_not_mounted_is_unavailable_and_needs_attention() {
    let machine = Machine::new();
    machine.done(&["volume", "add", "disk", "--capacity", "1GiB"]);
    fs::rename(machine.path("disk"), machine.path("away")).unwrap();
    let volumes = machine.json(&["volume", "list"]);
    assert_eq!(volumes[0]["state"], "unavailable", "{volumes:#?}");
    let status = machine.object("status", &["status"]);
    assert_eq!(status["attention"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn sizes_that_are_none_are_refused() {
    let machine = Machine::new();
    machine.error(2, &["volume", "add", "disk", "--capacity", "lots"]);
    machine.error(2, &["volume", "add", "disk"]);
    assert!(!machine.path("disk").exists());
}
