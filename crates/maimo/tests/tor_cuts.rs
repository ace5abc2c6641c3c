//! Cuts in the middle of a transfer over Tor: the provider dies, the client dies, relays die. It goes on where it was, and what arrives twice is little.
#![cfg(all(feature = "tor", target_os = "linux"))]
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

use std::{
    collections::BTreeSet,
    fs,
    process::{Child, Stdio},
};

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
    tor: TorNode,
    network: Network,
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
            tor,
            network,
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

    /// Stores again. A tor whose introduction points failed too often makes no others for five minutes, which no run waits for.
    fn again(&self) {
        let mine = self.client.text("mine");
        let mut runs = (0..5).map(|_| self.client.run(&["store", &mine]));
        let last = runs.find(|run| run.code != Some(21));
        assert!(
            last.as_ref().is_some_and(|run| run.code == Some(0)),
            "{last:#?}"
        );
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

#[test]
fn relays_that_die_are_gone_round() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Cut::over(Network::start(folder.path()).unwrap());
    let before = cut.meter.arrived();
    let child = cut.begin();
    let used = relays_of(child.id(), &cut.network);
    assert!(!used.is_empty(), "it uses no relay");
    // The provider's tor keeps its guards if that leaves something to kill: it needs minutes to get over the loss.
    let of_provider = relays_of(cut.tor.process().unwrap(), &cut.network);
    let own: Vec<usize> = used.difference(&of_provider).copied().collect();
    let killed = if own.is_empty() {
        Vec::from_iter(used)
    } else {
        own
    };
    for relay in &killed {
        cut.network.kill(*relay).unwrap();
    }
    for relay in killed {
        cut.network.restart(relay).unwrap();
    }
    cut.end(child);
    cut.assert_stored(before);
}

/// Returns the relays that a process is connected to.
fn relays_of(process: u32, network: &Network) -> BTreeSet<usize> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let sockets: BTreeSet<String> = open
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?;
            Some(link.strip_suffix(']')?.to_owned())
        })
        .collect();
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    // "sl local_address rem_address st tx:rx tr:when retrnsmt uid timeout inode"
    let rows = table.lines().skip(1).filter_map(|row| {
        let words: Vec<&str> = row.split_whitespace().collect();
        let (_, port) = words[2].split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        sockets.contains(words[9]).then_some(port)
    });
    let ports: BTreeSet<u16> = rows.collect();
    let relays = network.relays().iter().enumerate();
    relays
        .filter(|(_, relay)| ports.contains(&relay.or_port))
        .map(|(index, _)| index)
        .collect()
}
