//! Whoever uses Tor speaks with Tor's relays and with nothing else, a client with either Tor and a provider: what leaves its machine is captured and
//! read.
#![cfg(all(feature = "tor", target_os = "linux"))]
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
#[path = "tor/wire.rs"]
mod wire;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    net::{IpAddr, SocketAddr},
    process::Stdio,
};

use maimo_testnet::Network;

use crate::{
    node::{Node, until},
    scene::{By, Files, join, meet, serving},
    support::{Ended, Machine},
    wire::{FarMachine, Killed, NEAR, PROXY, Packet},
};

/// A client at the far end of the wire.
struct Far<'a> {
    wire: &'a FarMachine,
    client: Machine,
}

impl Far<'_> {
    fn run(&self, args: &[&str]) -> Ended {
        let command = self.wire.there(&self.client.command(args)).output();
        command.unwrap().into()
    }

    fn done(&self, args: &[&str]) {
        let ended = self.run(args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:#?}");
    }

    /// Runs all that speaks with a provider, and makes sure that it did.
    fn main_job(&self, node: &Node, label: &str) {
        let made = self.run(&["--json", "init", "--source", "laptop"]);
        let phrase = made.objects();
        let phrase = phrase.iter().find_map(|object| object["phrase"].as_str());
        self.client.write("phrase", phrase.unwrap());
        self.done(&["verify-phrase", "--phrase-file", "phrase"]);
        self.done(&["channel", "open", &node.invite(label), "--name", "far"]);
        let files = Files::mixed(2);
        files.write(&self.client, "mine");
        let mine = self.client.text("mine");
        self.done(&["store", &mine, "--delete-local"]);
        self.done(&["verify"]);
        self.done(&["retrieve", &mine, "--to", &self.client.text("back")]);
        let back = self
            .client
            .path("back")
            .join(mine.strip_prefix('/').unwrap());
        files.assert_in(&back);
    }
}

/// Starts a node at the far end of the wire, and waits until it serves.
fn start(wire: &FarMachine, node: &Node) -> Killed {
    let command = node.machine.command(&["--json", "start"]);
    let mut process = wire.there(&command).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(process.stdout.take().unwrap());
    let process = Killed(process);
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains(".onion:"), "{line}");
    process
}

#[test]
fn who_uses_tor_sends_packets_to_relays_and_to_nothing_else() {
    if !wire::inside("who_uses_tor_sends_packets_to_relays_and_to_nothing_else") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut wire = FarMachine::start(folder.path());
    let network = Network::start_on(NEAR, &folder.path().join("network")).unwrap();
    let relays: BTreeSet<SocketAddr> = network
        .relays()
        .iter()
        .flat_map(|relay| [Some(relay.or_address()), relay.dir_address()])
        .flatten()
        .collect();
    let (behind_tor, _) = serving(&network, By::Program);
    let mut open = Node::on(NEAR);
    open.start();

    let far = Far {
        wire: &wire,
        client: Machine::new(),
    };
    join(&network, By::Program, &far.client);
    far.main_job(&behind_tor, "bob");
    // What Tor does not reach is not reached.
    let (invited, at) = (open.invite("eve"), open.at.to_string());
    for elsewhere in [
        &["recover", "name.invalid:4243"][..],
        &["recover", &at],
        &["channel", "open", &invited, "--name", "open"],
    ] {
        let refused = far.run(&[&["--json"], elsewhere].concat()).error(2);
        let why = refused["message"].as_str().unwrap();
        assert!(why.contains("not told to use tcp"), "{refused}");
    }
    let in_program = wire.sent().len();

    // With a tor beside the client.
    let beside = wire.tor(&folder.path().join("tor"), &network.client_torrc());
    let far = Far {
        wire: &wire,
        client: Machine::new(),
    };
    far.client.write(
        "home/config.toml",
        format!("transport = \"system-tor\"\nsocks = \"{PROXY}\"\nsingle-copy = true\n"),
    );
    far.main_job(&behind_tor, "carol");
    drop(beside);
    let with_one_beside = wire.sent().len();

    // And the provider.
    let hidden = Node::new();
    join(&network, By::Program, &hidden.machine);
    let running = start(&wire, &hidden);
    let near = Machine::new();
    join(&network, By::Program, &near);
    meet(&hidden, &near);
    let files = Files::mixed(2);
    files.write(&near, "mine");
    near.done(&["store", &near.text("mine")]);
    files.assert_back(&near, "mine");
    drop(running);
    let by_tor = wire.sent();
    // Each had something to say.
    assert!(in_program > 100 && with_one_beside > in_program + 100);
    assert!(by_tor.len() > with_one_beside + 100);

    // The same wire shows whoever goes another way.
    let far = Far {
        wire: &wire,
        client: Machine::new(),
    };
    far.client.write(
        "home/config.toml",
        "transport = \"tcp\"\nsingle-copy = true\n",
    );
    far.main_job(&open, "bob");
    // Not waited for: it tries for a while.
    let asks = far.client.command(&["recover", "name.invalid:4243"]);
    let mut asks = wire.there(&asks).stderr(Stdio::null()).spawn().unwrap();
    let (to_provider, to_resolver) = (
        Packet::Tcp(open.at),
        Packet::Udp((IpAddr::from(NEAR), 53).into()),
    );
    until("the wire shows other ways", || {
        let sent = wire.sent();
        [&to_provider, &to_resolver]
            .iter()
            .all(|packet| sent.contains(packet))
    });
    asks.kill().unwrap();
    asks.wait().unwrap();
    let all = wire.end();

    // What was captured late is counted as the first's.
    let first_other = all.iter().position(|packet| *packet == to_provider);
    let by_tor = &all[..first_other.unwrap().max(by_tor.len())];
    let to_relay = |packet: &&Packet| matches!(packet, Packet::Tcp(to) if relays.contains(to));
    let count = by_tor.iter().filter(to_relay).count();
    let others: BTreeSet<&Packet> = by_tor
        .iter()
        .filter(|packet| **packet != Packet::Neighbours && !to_relay(packet))
        .collect();
    assert!(others.is_empty(), "not to a relay: {others:?}");
    assert!(count > 100, "{count} packets to relays for 2 MB");
    assert!(!by_tor.contains(&to_provider), "{by_tor:?}");
}
