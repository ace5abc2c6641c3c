//! Audits by a ticket: a machine that has one line of text and nothing else, a provider that counts, and an owner who ends it.

use std::fs;

use serde_json::Value;

use crate::{
    node::{Node, client_of, grow},
    support::Machine,
};

/// A client whose store is on a node.
fn stored(node: &Node) -> Machine {
    let machine = client_of(node);
    grow(&machine, "mine", 3);
    machine.done(&["store", &machine.text("mine")]);
    machine
}

fn ticket(machine: &Machine, args: &[&str]) -> (String, String) {
    let made = machine.object("ticket", &[&["ticket", "far"], args].concat());
    let text = |key: &str| made[key].as_str().unwrap().to_owned();
    (text("ticket"), text("id"))
}

/// Runs it on a machine that has nothing.
fn summary(elsewhere: &Machine, args: &[&str]) -> Value {
    elsewhere.object("summary", &[&["--transport", "tcp"], args].concat())
}

#[test]
fn a_machine_with_one_line_of_text_proves_a_store_and_leaves_nothing_behind() {
    let node = Node::running();
    let machine = stored(&node);
    let (line, id) = ticket(&machine, &[]);
    let elsewhere = Machine::new();
    let audited = summary(&elsewhere, &["audit-ticket", &line]);
    assert_eq!(audited["result"], "intact", "{audited}");
    assert_eq!(audited["ticket"], id.as_str());
    let root = machine.object("root", &["root"]);
    assert_eq!(audited["root"], root["root"]);
    let strata = audited["strata"].as_array().unwrap();
    assert_eq!(strata.len(), 2);
    assert!(strata[0]["slices"].as_u64().unwrap() > 400);
    assert!(!elsewhere.path("home").exists());

    // The store goes on: what is there now descends from what the ticket names.
    grow(&machine, "more", 2);
    machine.done(&["store", &machine.text("more")]);
    let later = summary(&elsewhere, &["audit-ticket", &line, "--slices", "20"]);
    assert_eq!(later["result"], "intact", "{later}");
    assert!(later["sequence"].as_u64() > audited["sequence"].as_u64());

    // Neither end of it is told who looked; the owner sees how much was used.
    let given = machine.object("ticket", &["ticket", "list"]);
    let received = |summary: &Value| summary["bytes_received"].as_u64().unwrap();
    let used = given["used"].as_u64().unwrap();
    assert!(used >= received(&audited) + received(&later), "{given}");
    assert_eq!(given["id"], id.as_str());
    assert_eq!(given["revoked"], false);
    node.machine.object("client", &["client", "list"]);
}

#[test]
fn a_budget_is_spent_over_all_audits_and_a_provider_that_is_killed_forgets_nothing() {
    let mut node = Node::running();
    let machine = stored(&node);
    let (line, _) = ticket(&machine, &["--slices", "100"]);
    let elsewhere = Machine::new();
    let audit = [
        "--transport",
        "tcp",
        "audit-ticket",
        &line,
        "--slices",
        "60",
    ];
    let done = elsewhere.object("summary", &audit);
    assert_eq!(done["result"], "intact", "{done}");
    let before = machine.object("ticket", &["ticket", "list"]);
    node.kill();
    node.start();
    let over = elsewhere.error(21, &audit);
    assert!(
        over["message"].as_str().unwrap().contains("slices"),
        "{over}"
    );
    let after = machine.object("ticket", &["ticket", "list"]);
    assert_eq!(before["slices_used"], after["slices_used"]);
    // What is left is left.
    let few = [
        "--transport",
        "tcp",
        "audit-ticket",
        &line,
        "--slices",
        "10",
    ];
    assert_eq!(elsewhere.object("summary", &few)["result"], "intact");
}

#[test]
fn a_revoked_an_expired_and_a_damaged_ticket_each_say_so() {
    let node = Node::running();
    let machine = stored(&node);
    let (line, id) = ticket(&machine, &[]);
    let elsewhere = Machine::new();
    let audit =
        |line: &str, code| elsewhere.error(code, &["--transport", "tcp", "audit-ticket", line]);
    let revoked = machine.object("ticket", &["ticket", "revoke", &id]);
    assert_eq!(revoked["revoked"], true);
    let error = audit(&line, 21);
    assert!(
        error["message"].as_str().unwrap().contains("revoked"),
        "{error}"
    );
    machine.done(&["ticket", "revoke", &id]);
    let error = machine.error(1, &["ticket", "revoke", &"0".repeat(32)]);
    assert!(
        error["message"].as_str().unwrap().contains("nobody knows"),
        "{error}"
    );

    let (short, _) = ticket(&machine, &["--expires", "1 ms"]);
    let error = audit(&short, 21);
    assert!(
        error["message"].as_str().unwrap().contains("expired"),
        "{error}"
    );
    audit(&line[..line.len() - 1], 2);
    machine.error(2, &["ticket", "revoke", "abc"]);
    machine.error(1, &["ticket", "nowhere"]);
}

#[test]
fn a_provider_that_is_away_and_one_that_is_another_are_told_from_damage() {
    let mut node = Node::running();
    let machine = stored(&node);
    let (line, _) = ticket(&machine, &[]);
    let other = Node::running();
    let elsewhere = Machine::new();
    let at = other.at.to_string();
    let error = elsewhere.error(
        21,
        &["--transport", "tcp", "audit-ticket", &line, "--at", &at],
    );
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("another provider"),
        "{error}"
    );
    node.kill();
    elsewhere.error(21, &["--transport", "tcp", "audit-ticket", &line]);
    // Without a way there it is not looked for on another.
    elsewhere.error(2, &["--transport", "system-tor", "audit-ticket", &line]);
}

#[test]
fn a_receipt_shows_anyone_what_an_audit_came_to() {
    let node = Node::running();
    let machine = stored(&node);
    let (line, _) = ticket(&machine, &[]);
    let auditor = Machine::new();
    auditor.write("line", &line);
    let args = [
        "audit-ticket",
        &line,
        "--slices",
        "30",
        "--receipt",
        "audit",
    ];
    let audited = summary(&auditor, &args);
    assert_eq!(audited["receipt"], "audit");
    auditor.error(1, &[&["--transport", "tcp"][..], &args].concat());

    let anyone = Machine::new();
    let bytes = fs::read(auditor.path("audit")).unwrap();
    anyone.write("got", &bytes);
    let checked = anyone.object("summary", &["check-receipt", "got"]);
    for key in [
        "ticket", "channel", "root", "sequence", "strata", "result", "time", "answered",
    ] {
        assert_eq!(checked[key], audited[key], "{key}");
    }
    // A slice that was changed afterwards is not what the provider signed.
    let mut forged = bytes.clone();
    let at = forged.len() - 2000;
    forged[at] ^= 1;
    anyone.write("forged", &forged);
    let error = anyone.error(1, &["check-receipt", "forged"]);
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("another answer"),
        "{error}"
    );
    anyone.write("cut", &bytes[..bytes.len() / 2]);
    anyone.error(1, &["check-receipt", "cut"]);

    // What a provider signed that lost something ends the check as it ended the audit.
    damage(&node);
    let lost = auditor.error(
        20,
        &[
            "--transport",
            "tcp",
            "audit-ticket",
            &line,
            "--receipt",
            "lost",
        ],
    );
    assert!(
        lost["message"].as_str().unwrap().contains("not proven"),
        "{lost}"
    );
    anyone.write("lost", fs::read(auditor.path("lost")).unwrap());
    anyone.error(20, &["check-receipt", "lost"]);
}

/// Changes bytes of every pack of a node.
fn damage(node: &Node) {
    let mut waiting = vec![node.machine.path("disk")];
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
        }
    }
}
