//! The program over Tor: two homes, two processes, each with a Tor of its own, and a private network of relays between them.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test may panic, and need not be lean"
)]

#[path = "network/node.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod node;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use maimo_testnet::{Network, TorNode};

use crate::{
    node::{Node, assert_back, grow},
    support::Machine,
};

/// Has a machine use this Tor.
fn by(tor: &TorNode, machine: &Machine) {
    let config = format!(
        "transport = \"system-tor\"\nsocks = \"{}\"\ncontrol = \"{}\"\ncontrol-cookie-file = \"{}\"\nsingle-copy = true\n",
        tor.socks(),
        tor.control(),
        tor.cookie().display(),
    );
    machine.write("home/config.toml", config);
}

#[test]
fn the_main_job_goes_over_an_onion_service() {
    let network = Network::shared().unwrap();
    let (theirs, mine) = (
        network.client("provider").unwrap(),
        network.client("client").unwrap(),
    );
    let mut node = Node::new();
    by(&theirs, &node.machine);
    let ready = node.start();
    let address = ready["addresses"][0].as_str().unwrap();
    assert!(address.contains(".onion:"), "{ready}");

    let line = node.invite("bob");
    let machine = Machine::new();
    by(&mine, &machine);
    machine.write("phrase", {
        let made = machine.object("init", &["init", "--source", "laptop"]);
        made["phrase"].as_str().unwrap().to_owned()
    });
    machine.done(&["verify-phrase", "--phrase-file", "phrase"]);
    machine.done(&["channel", "open", &line]);
    grow(&machine, "mine", 4);
    machine.done(&["store", &machine.text("mine"), "--delete-local"]);
    assert!(!machine.path("mine/0").exists());
    let audit = machine.json(&["verify"]);
    assert_eq!(audit.last().unwrap()["result"], "intact");
    assert_back(&machine, "mine", 4);
    assert!(!node.log().contains(".onion"), "{}", node.log());
}
