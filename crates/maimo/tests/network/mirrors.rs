//! A store on two providers over TCP: one that is away, one that is gone, one that is full.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    node::{Node, assert_back, client_of, grow},
    support::Machine,
};

/// Makes a client whose store is on two nodes: `far`, which decides, and `other`.
fn mirrored(far: &Node, other: &Node) -> Machine {
    let machine = client_of(far);
    grow(&machine, "mine", 3);
    machine.done(&["store", &machine.text("mine")]);
    machine.done(&["channel", "open", &other.invite("bob"), "--name", "other"]);
    let summary = machine.object("summary", &["channel", "mirror", "far", "other"]);
    assert_eq!(summary["channels"][0]["role"], "first", "{summary}");
    assert_eq!(summary["channels"][1]["behind"], 0, "{summary}");
    machine
}

fn store(machine: &Machine) -> Value {
    let told = machine.json(&["store", &machine.text("mine")]);
    told.last().unwrap().clone()
}

#[test]
fn a_mirror_that_was_away_catches_up_and_gives_all_back_when_the_first_is_gone() {
    let far = Node::running();
    let mut other = Node::running();
    let machine = mirrored(&far, &other);
    other.signal(Signal::TERM);
    assert_eq!(other.ended(), Some(0));
    grow(&machine, "mine", 5);
    let summary = store(&machine);
    assert_eq!(summary["behind"][0], "other", "{summary}");
    let status = machine.object("status", &["status"]);
    let behind = status["channels"].as_array().unwrap().iter();
    let behind: Vec<_> = behind
        .filter(|channel| channel["behind"].as_u64() > Some(0))
        .collect();
    assert_eq!(behind.len(), 1, "{status}");
    other.start();
    let summary = store(&machine);
    assert_eq!(summary["behind"].as_array().unwrap().len(), 0, "{summary}");
    for audit in machine.json(&["verify"]) {
        if audit["message_type"] == "summary" {
            assert_eq!(audit["result"], "intact", "{audit}");
        }
    }
    drop(far);
    fs::remove_dir_all(machine.path("mine")).unwrap();
    assert_back(&machine, "mine", 5);
}

#[test]
fn with_the_first_away_nothing_is_acknowledged_and_later_it_is() {
    let mut far = Node::running();
    let other = Node::running();
    let machine = mirrored(&far, &other);
    let before = machine.object("status", &["status"])["sequence"].clone();
    far.signal(Signal::TERM);
    assert_eq!(far.ended(), Some(0));
    // So little that its head is on its way before anyone knows that nobody is there.
    machine.write("mine/note", "rides in the tail");
    machine.error(21, &["store", &machine.text("mine")]);
    let status = machine.object("status", &["status"]);
    assert_eq!(status["sequence"], before, "{status}");
    let summary = machine.object("summary", &["channel", "first", "other"]);
    assert_eq!(summary["channels"][0]["channel"], "other", "{summary}");
    grow(&machine, "mine", 4);
    let summary = store(&machine);
    assert_eq!(summary["behind"][0], "far", "{summary}");
    far.start();
    let summary = store(&machine);
    assert_eq!(summary["behind"].as_array().unwrap().len(), 0, "{summary}");
    drop(other);
    assert_back(&machine, "mine", 4);
    let note = fs::read_to_string(machine.back("mine/note")).unwrap();
    assert_eq!(note, "rides in the tail");
}

#[test]
fn a_mirror_that_is_full_keeps_nobody_from_storing() {
    let far = Node::running();
    let other = Node::running();
    let machine = mirrored(&far, &other);
    other.machine.done(&["client", "cap", "bob", "4MiB"]);
    grow(&machine, "mine", 8);
    let summary = store(&machine);
    assert_eq!(summary["behind"][0], "other", "{summary}");
    machine.error(23, &["channel", "mirror", "far", "other"]);
    other.machine.done(&["client", "cap", "bob", "1GiB"]);
    machine.done(&["channel", "mirror", "far", "other"]);
    drop(far);
    assert_back(&machine, "mine", 8);
}

/// The node may ask it again a minute later; who waits for a command need not.
#[test]
fn a_mirror_that_is_back_is_caught_up_by_the_next_command_to_a_node() {
    let far = Node::running();
    let mut other = Node::running();
    let mut keeper = Node::of(mirrored(&far, &other));
    keeper.start();
    other.kill();
    grow(&keeper.machine, "mine", 4);
    let summary = store(&keeper.machine);
    assert_eq!(summary["behind"][0], "other", "{summary}");
    other.start();
    let summary = store(&keeper.machine);
    assert_eq!(summary["behind"].as_array().unwrap().len(), 0, "{summary}");
    keeper.kill();
}
