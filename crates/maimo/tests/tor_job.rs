//! The main job over Tor: two homes, two processes, a private network of relays between them, and on either end the Tor in the program or one of
//! the machine.
#![cfg(feature = "tor")]
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test may panic, and need not be lean"
)]

#[path = "network/node.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod node;
#[path = "tor/scene.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod scene;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use maimo_testnet::Network;

use crate::scene::{By, Files, Scene, files_below};

/// Stores so many million bytes, deletes them here, audits, and compares what comes back.
fn main_job(provider: By, client: By, megabytes: u32) {
    let network = Network::shared().unwrap();
    let scene = Scene::new(&network, provider, client);
    let machine = &scene.client;
    let files = Files::mixed(megabytes);
    let bytes = files.write(machine, "mine");

    let store = ["store", &machine.text("mine"), "--delete-local"];
    let stored = machine.object("summary", &[&store[..], &["--single-copy"]].concat());
    assert_eq!(stored["bytes_read"], bytes, "{stored}");
    assert_eq!(stored["files_deleted"], files.count(), "{stored}");
    assert!(files_below(&machine.path("mine")).is_empty());

    let audit = machine.json(&["verify"]);
    let audit = audit.last().unwrap();
    assert_eq!(audit["result"], "intact", "{audit}");
    files.assert_back(machine, "mine");

    let log = scene.node.log();
    assert!(!log.contains(".onion") && !log.contains("bob"), "{log}");
}

#[test]
fn two_hundred_megabytes_go_and_come_back_by_the_tor_in_the_program() {
    main_job(By::Program, By::Program, 200);
}

#[test]
fn a_client_with_the_tor_of_its_machine_does_the_same() {
    main_job(By::Program, By::System, 30);
}

#[test]
fn a_provider_with_the_tor_of_its_machine_does_the_same() {
    main_job(By::System, By::Program, 30);
}

#[test]
fn both_with_the_tors_of_their_machines_do_the_same() {
    main_job(By::System, By::System, 30);
}
