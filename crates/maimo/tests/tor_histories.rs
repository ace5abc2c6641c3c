//! Random histories of two machines over a private Tor network, as `histories` plays them over TCP: onion service, circuits and all. `MAIMO_HISTORIES`
//! sets how many (1 unless set; 50 is what a release is tried with).
#![cfg(feature = "tor")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::format_push_string,
    reason = "a test may panic, and say why; its numbers are small"
)]

#[path = "histories/book.rs"]
mod book;
#[path = "histories/device.rs"]
mod device;
#[path = "network/node.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod node;
#[path = "histories/play.rs"]
#[allow(dead_code, reason = "another test speaks TCP")]
mod play;
#[path = "support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;
#[path = "tor/scene.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod scene;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use maimo_testnet::Network;

use crate::{
    node::Node,
    play::{Scene, histories},
    scene::use_system_tor,
    support::Machine,
};

/// Each end has a tor of its machine: programs come and go, and need not find the network anew each time.
fn over_tor(network: &Network) -> Scene {
    let tor = network.client("of-the-provider").unwrap();
    let mut node = Node::new();
    use_system_tor(&node.machine, &tor, &tor.socks().to_string());
    let ready = node.start();
    let address = ready["addresses"][0].as_str().unwrap().to_owned();
    assert!(address.contains(".onion:"), "{ready}");
    let own = network.client("of-the-machines").unwrap();
    let join = move |machine: &Machine| {
        // As long as its machines, there is the provider's tor.
        let _kept = &tor;
        use_system_tor(machine, &own, &own.socks().to_string());
    };
    Scene::new(node, address, Box::new(join), true)
}

#[test]
fn two_machines_and_a_provider_that_are_killed_lose_nothing_acknowledged_over_tor() {
    let network = Network::shared().unwrap();
    histories(1, &mut || over_tor(&network));
}
