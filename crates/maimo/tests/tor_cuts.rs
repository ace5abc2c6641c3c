//! Cuts in the middle of a transfer over Tor: the provider dies, the client dies. It goes on where it was, and what arrives twice is little.
#![cfg(feature = "tor")]
#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test may panic, and need not be lean"
)]

#[path = "tor/meter.rs"]
mod meter;
#[path = "network/node.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod node;
#[path = "tor/scene.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod scene;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::process::{Child, Stdio};

use maimo_testnet::{Network, TorNode};

use crate::{
    meter::Meter,
    node::{Node, finished, until},
    scene::{By, Files, join, meet},
    support::Machine,
};

/// Of each store, in millions of bytes.
const STORED: u32 = 20;
/// What a cut may have sent twice: a range of each circuit.
const TWICE: u64 = 4 << 20;

/// A network, a provider whose arriving bytes are counted, and a client with the Tor in the program.
struct Cut {
    // Before the network, which ends it.
    _tor: TorNode,
    _network: Network,
    node: Node,
    client: Machine,
    meter: Meter,
    files: Files,
}

impl Cut {
    fn over(network: Network) -> Self {
        let mut node = Node::new();
        let tor = network.client("of-the-provider").unwrap();
        let meter = Meter::before(tor.control());
        let config = format!(
            "transport = \"system-tor\"\ncontrol = \"{}\"\ncontrol-cookie-file = \"{}\"\n",
            meter.control(),
            tor.cookie().display()
        );
        node.machine.write("home/config.toml", config);
        node.start();
        let client = Machine::new();
        join(&network, By::Program, &client);
        meet(&node, &client);
        let files = Files::random(1, STORED);
        files.write(&client, "mine");
        Self {
            _tor: tor,
            _network: network,
            node,
            client,
            meter,
            files,
        }
    }

    /// Begins to store, and returns the running program once a third has arrived.
    fn begin(&self) -> Child {
        let mut command = self.client.command(&["--json", "store"]);
        let child = command
            .arg(self.client.path("mine"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let third = self.meter.arrived() + u64::from(STORED) * 1_000_000 / 3;
        until("a third arrived", || self.meter.arrived() > third);
        child
    }

    /// Waits for a run to end well, by itself or, if it did not wait long enough, by another one.
    fn end(&self, child: Child) {
        let first = finished(child);
        assert!(matches!(first.code, Some(0 | 21)), "{first:#?}");
        if first.code != Some(0) {
            self.again();
        }
    }

    fn again(&self) {
        self.client.done(&["store", &self.client.text("mine")]);
    }

    /// Expects that the files are there, and that no more has arrived since than they are, what one cut may cost, and what TLS, HTTP, receipts
    /// and the journal add.
    fn assert_stored(&self, before: u64) {
        let arrived = self.meter.arrived() - before;
        let stored = u64::from(STORED) * 1_000_000;
        let most = stored + stored / 20 + TWICE;
        assert!(arrived <= most, "{arrived} bytes arrived for {stored}");
        assert!(arrived > stored, "the meter sees nothing: {arrived}");
        self.client.done(&["verify", "--read-all"]);
        self.files.assert_back(&self.client, "mine");
    }
}

#[test]
fn a_provider_that_dies_goes_on_where_it_was() {
    let mut cut = Cut::over(Network::shared().unwrap());
    let before = cut.meter.arrived();
    let child = cut.begin();
    cut.node.kill();
    cut.node.start();
    cut.end(child);
    cut.assert_stored(before);
}

#[test]
fn a_client_that_dies_goes_on_where_it_was() {
    let cut = Cut::over(Network::shared().unwrap());
    let before = cut.meter.arrived();
    let mut child = cut.begin();
    child.kill().unwrap();
    child.wait().unwrap();
    cut.again();
    cut.assert_stored(before);
}
