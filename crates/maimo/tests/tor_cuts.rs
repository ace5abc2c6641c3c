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
    node::{Node, until},
    scene::{By, Files, join, meet, serving, use_system_tor},
    support::{Machine, finished},
};

/// Of each store, in millions of bytes.
const STORED: u32 = 20;
/// What may arrive twice for a cut: a range of each circuit.
const ARRIVES_TWICE: u64 = 4 << 20;
/// What may leave twice: the range before it too, of which the network held what had not arrived.
const LEAVES_TWICE: u64 = 2 * ARRIVES_TWICE;

/// A network, a provider and a client, one of them with the Tor in the program, the other with a tor beside it before which bytes are counted.
struct Cut {
    // Before the network, which ends it.
    tor: TorNode,
    network: Network,
    node: Node,
    client: Machine,
    meter: Meter,
    /// Of what the meter counts, for a cut.
    twice: u64,
}

impl Cut {
    /// The client has the Tor in the program.
    fn over(network: Network) -> Self {
        let mut node = Node::new();
        let tor = network.client("of-the-provider").unwrap();
        let meter = Meter::before(tor.control());
        let config = format!(
            "transport = \"system-tor\"\ncontrol = \"{}\"\ncontrol-cookie-file = \"{}\"\n",
            meter.at(),
            tor.cookie().display()
        );
        node.machine.write("home/config.toml", config);
        node.start();
        let client = Machine::new();
        join(&network, By::Program, &client);
        meet(&node, &client);
        Self {
            tor,
            network,
            node,
            client,
            meter,
            twice: ARRIVES_TWICE,
        }
    }

    /// The provider has the Tor in the program.
    fn the_other_way_round(network: Network) -> Self {
        let (node, _) = serving(&network, By::Program);
        let client = Machine::new();
        let tor = network.client("of-the-client").unwrap();
        let meter = Meter::before_proxy(tor.socks());
        use_system_tor(&client, &tor, &meter.at().to_string());
        meet(&node, &client);
        Self {
            tor,
            network,
            node,
            client,
            meter,
            twice: LEAVES_TWICE,
        }
    }

    /// Writes files, begins to store them, and returns once a third has gone by.
    fn begin(&self, seed: u64) -> Store {
        let folder = format!("mine{seed}");
        let files = Files::random(seed, STORED);
        files.write(&self.client, &folder);
        let before = self.meter.counted();
        let mut command = self.client.command(&["--json", "store"]);
        let run = command
            .arg(self.client.path(&folder))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let third = before + u64::from(STORED) * 1_000_000 / 3;
        until("a third has gone by", || self.meter.counted() > third);
        Store {
            run,
            folder,
            files,
            before,
        }
    }

    /// Waits for a store to end well, by itself or, if it did not wait long enough, by another run.
    fn end(&self, store: Store) {
        let first = finished(store.run);
        assert!(matches!(first.code, Some(0 | 21)), "{first:#?}");
        if first.code != Some(0) {
            self.again(&store.folder);
        }
        self.assert_stored(&store.folder, &store.files, store.before);
    }

    /// Kills a store, and has another run end it well.
    fn kill(&self, mut store: Store) {
        store.run.kill().unwrap();
        store.run.wait().unwrap();
        self.again(&store.folder);
        self.assert_stored(&store.folder, &store.files, store.before);
    }

    /// Stores again. A tor whose introduction points failed too often makes no others for five minutes, which no run waits for.
    fn again(&self, folder: &str) {
        let folder = self.client.text(folder);
        let mut runs = (0..5).map(|_| self.client.run(&["store", &folder]));
        let last = runs.find(|run| run.code != Some(21));
        assert!(
            last.as_ref().is_some_and(|run| run.code == Some(0)),
            "{last:#?}"
        );
    }

    /// Expects that the files are there, and that no more has gone by since than they are, what one cut may cost, and what TLS, HTTP, receipts and
    /// the journal add.
    fn assert_stored(&self, folder: &str, files: &Files, before: u64) {
        let went = self.meter.counted() - before;
        let stored = u64::from(STORED) * 1_000_000;
        let most = stored + stored / 20 + self.twice;
        assert!(went <= most, "{went} bytes went by for {stored}");
        assert!(went > stored, "the meter sees nothing: {went}");
        self.client.done(&["verify", "--read-all"]);
        files.assert_back(&self.client, folder);
    }
}

/// A store under way.
struct Store {
    run: Child,
    folder: String,
    files: Files,
    /// What the meter had counted before it.
    before: u64,
}

#[test]
fn a_provider_that_dies_goes_on_where_it_was() {
    let mut cut = Cut::over(Network::shared().unwrap());
    let store = cut.begin(1);
    cut.node.kill();
    cut.node.start();
    cut.end(store);
}

#[test]
fn a_client_that_dies_goes_on_where_it_was() {
    let cut = Cut::over(Network::shared().unwrap());
    cut.kill(cut.begin(1));
}

#[test]
fn with_their_tors_exchanged_either_dies_and_goes_on_where_it_was() {
    let mut cut = Cut::the_other_way_round(Network::shared().unwrap());
    cut.kill(cut.begin(1));
    let store = cut.begin(2);
    cut.node.kill();
    cut.node.start();
    cut.end(store);
}

#[test]
fn relays_that_die_are_gone_round() {
    let folder = tempfile::tempdir().unwrap();
    let mut cut = Cut::over(Network::start(folder.path()).unwrap());
    let store = cut.begin(1);
    let used = relays_of(store.run.id(), &cut.network);
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
    cut.end(store);
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
