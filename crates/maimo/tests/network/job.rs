//! The main job between two machines, undisturbed and with either end killed in the middle of it.

use std::fs;

use crate::{
    node::{Node, assert_back, client_of, grow},
    support::finished,
};

#[test]
fn what_is_stored_and_deleted_here_comes_back_verified() {
    let mut node = Node::new();
    let ready = node.start();
    assert_eq!(ready["addresses"][0], node.at.to_string());
    let machine = client_of(&node);
    grow(&machine, "mine", 8);
    for number in 0..300 {
        machine.write(
            &format!("mine/small/{number}"),
            format!("{number}\n").repeat(number),
        );
    }
    let mine = machine.text("mine");
    machine.done(&["verify-phrase", "--phrase-file", "phrase"]);
    let stored = machine.json(&["store", &mine, "--delete-local"]);
    let stored = stored.last().unwrap();
    assert_eq!(stored["files_deleted"], 308, "{stored}");
    assert!(!machine.path("mine/0").exists());

    let audit = machine.json(&["verify"]);
    let audit = audit.last().unwrap();
    assert_eq!(audit["result"], "intact", "{audit}");
    assert_back(&machine, "mine", 8);
    let small = fs::read_to_string(machine.back("mine/small/17")).unwrap();
    assert_eq!(small, "17\n".repeat(17));

    let channel = machine.object("channel", &["channel", "list"]);
    let clients = node.machine.json(&["client", "list"]);
    assert_eq!(clients[0]["label"], "bob");
    assert_eq!(clients[0]["used"], channel["used"]);
    assert_eq!(channel["cap"], 1 << 30);
    assert!(
        !node.log().contains("bob") && !node.log().contains("127.0.0.1"),
        "{}",
        node.log()
    );
}

#[test]
fn words_and_address_bring_the_store_back_on_another_machine() {
    let node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 2);
    machine.done(&["store", &machine.text("mine")]);
    let root = machine.object("root", &["root"]);

    let other = crate::support::Machine::new();
    other.write("home/config.toml", "transport = \"tcp\"\n");
    other.write("phrase", fs::read(machine.path("phrase")).unwrap());
    other.done(&["init", "--phrase-file", "phrase", "--source", "new"]);
    let address = node.at.to_string();
    let found = other.json(&[
        "recover",
        &address,
        "--root",
        root["root"].as_str().unwrap(),
    ]);
    let found = found.last().unwrap();
    assert_eq!(found["confirmed"], true, "{found}");
    let to = other.text("back");
    other.done(&[
        "retrieve",
        &machine.text("mine"),
        "--source",
        "laptop",
        "--to",
        &to,
    ]);
    let back = machine.path("mine/1");
    let back = other.path("back").join(back.strip_prefix("/").unwrap());
    assert!(back.exists());
}

#[test]
fn a_provider_that_dies_in_the_middle_goes_on_where_it_was() {
    let mut node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 24);
    let child = node.storing(&machine, "mine");
    node.kill();
    node.start();
    let first = finished(child);
    // It waits for a provider that is away for a while; if it does not wait long enough, the next one finishes.
    assert!(matches!(first.code, Some(0 | 21)), "{first:#?}");
    machine.done(&["store", &machine.text("mine")]);
    machine.done(&["verify", "--read-all"]);
    assert_back(&machine, "mine", 24);
}

#[test]
fn a_client_that_dies_in_the_middle_is_finished_by_the_next_run() {
    let node = Node::running();
    let machine = client_of(&node);
    grow(&machine, "mine", 24);
    let mut child = node.storing(&machine, "mine");
    child.kill().unwrap();
    child.wait().unwrap();
    machine.done(&["store", &machine.text("mine")]);
    machine.done(&["verify", "--read-all"]);
    assert_back(&machine, "mine", 24);
}
