//! What a long transfer tells while it runs.

use serde_json::Value;

use crate::{
    node::{Node, client_of, grow},
    support::Machine,
};

/// Runs something slowly, and returns what it told of its progress.
fn told(machine: &Machine, args: &[&str]) -> Vec<Value> {
    // Three seconds of work and more: progress is told every second.
    let slow = ["--limit-upload", "2MiB", "--limit-download", "2MiB"];
    let mut told = machine.json(&[&slow, args].concat());
    told.retain(|object| object["message_type"] == "status");
    told
}

#[test]
fn a_store_and_a_retrieval_tell_how_many_circuits_are_open() {
    let node = Node::running();
    let bob = client_of(&node);
    grow(&bob, "mine", 10);
    let mine = bob.text("mine");
    for args in [
        vec!["store", &mine],
        vec!["retrieve", &mine, "--to", "back"],
    ] {
        let told = told(&bob, &args);
        let open = told
            .iter()
            .filter(|told| told["circuits"].as_u64() > Some(0));
        // Not only when a file is done: what was read in a moment takes its time to leave.
        assert!(open.count() >= 2, "{args:?}: {told:#?}");
    }
}
