//! A provider that runs and a client with a channel to it, over a private Tor network; and what the client has to store.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use maimo_testnet::{Network, TorNode};

use crate::{node::Node, support::Machine};

/// By which Tor a machine reaches the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// The one in the program.
    Program,
    /// A tor that runs beside it.
    System,
}

/// A provider and a client of it.
pub(crate) struct Scene {
    pub(crate) node: Node,
    pub(crate) client: Machine,
    /// The C tor of the client, if it has one.
    pub(crate) tor: Option<TorNode>,
    _tor_of_node: Option<TorNode>,
}

impl Scene {
    /// Makes both, the provider running, the client with a phrase that was verified and a channel named far.
    pub(crate) fn new(network: &Network, provider: By, client: By) -> Self {
        let (node, tor_of_node) = serving(network, provider);
        let machine = Machine::new();
        let tor = join(network, client, &machine);
        let scene = Self {
            node,
            client: machine,
            tor,
            _tor_of_node: tor_of_node,
        };
        meet(&scene.node, &scene.client);
        scene
    }
}

/// Starts a provider behind an onion service.
pub(crate) fn serving(network: &Network, by: By) -> (Node, Option<TorNode>) {
    let mut node = Node::new();
    let tor = join(network, by, &node.machine);
    let ready = node.start();
    let address = ready["addresses"][0].as_str().unwrap();
    assert!(address.contains(".onion:"), "{ready}");
    (node, tor)
}

/// Has a machine use a Tor of this network.
pub(crate) fn join(network: &Network, by: By, machine: &Machine) -> Option<TorNode> {
    match by {
        By::Program => {
            let file = machine.write("authorities", authorities(network));
            machine.write(
                "home/config.toml",
                format!(
                    "transport = \"tor\"\ntor-network-file = \"{}\"\nsingle-copy = true\n",
                    file.display()
                ),
            );
            None
        }
        By::System => {
            let tor = network.client("of-a-test").unwrap();
            let socks = tor.socks().to_string();
            use_system_tor(machine, &tor, &socks);
            Some(tor)
        }
    }
}

/// Has a machine use a tor whose SOCKS proxy is found at this address.
pub(crate) fn use_system_tor(machine: &Machine, tor: &TorNode, socks: &str) {
    let config = format!(
        "transport = \"system-tor\"\nsocks = \"{socks}\"\ncontrol = \"{}\"\ncontrol-cookie-file = \"{}\"\nsingle-copy = true\n",
        tor.control(),
        tor.cookie().display(),
    );
    machine.write("home/config.toml", config);
}

/// Says of a network what the Tor in the program must know, as `tor-network-file` has it.
fn authorities(network: &Network) -> String {
    let mut lines = String::new();
    for relay in network.authorities() {
        let v3 = &relay.authority.as_ref().unwrap().v3ident;
        let (rsa, ed25519) = (&relay.rsa_id, &relay.ed25519_id);
        lines.push_str(&format!("{rsa} {ed25519} {} {v3}\n", relay.or_address()));
    }
    lines
}

/// Makes a store on the client, and a channel to the provider.
pub(crate) fn meet(node: &Node, client: &Machine) {
    let made = client.object("init", &["init", "--source", "laptop"]);
    client.write("phrase", made["phrase"].as_str().unwrap());
    client.done(&["verify-phrase", "--phrase-file", "phrase"]);
    client.done(&["channel", "open", &node.invite("bob"), "--name", "far"]);
}

/// Files of all kinds below a folder: a few that are large, text, and many that are small.
pub(crate) struct Files {
    all: Vec<(String, Content)>,
}

#[derive(Clone, Copy)]
struct Content {
    seed: u64,
    length: usize,
    is_text: bool,
}

impl Files {
    /// Plans about so many million bytes: two thirds of them random, one third text, and 10 small files for each.
    pub(crate) fn mixed(megabytes: u32) -> Self {
        let mut all = Vec::new();
        let mut add = |name: String, length: u32, is_text: bool| {
            let content = Content {
                seed: all.len() as u64 + 1,
                length: length as usize,
                is_text,
            };
            all.push((name, content));
        };
        let part = megabytes * 1_000_000 / 6;
        add("film".to_owned(), part * 2, false);
        for number in 0..16 {
            add(format!("photos/{number}.jpg"), part / 8 + number, false);
        }
        for number in 0..4 {
            add(format!("text/{number}.csv"), part / 2 - number * 777, true);
        }
        for number in 0..megabytes * 10 {
            let length = number * 37 % 4_001;
            add(
                format!("small/{}/{number}", number % 20),
                length,
                number % 2 == 0,
            );
        }
        Self { all }
    }

    /// Plans so many million bytes that do not compress.
    pub(crate) fn random(seed: u64, megabytes: u32) -> Self {
        let plan = |number: u32| {
            let content = Content {
                seed: seed * 1_000 + u64::from(number),
                length: 1_000_000,
                is_text: false,
            };
            (number.to_string(), content)
        };
        Self {
            all: (0..megabytes).map(plan).collect(),
        }
    }

    /// Writes them, and returns the bytes of all.
    pub(crate) fn write(&self, machine: &Machine, folder: &str) -> u64 {
        let mut sum = 0;
        for (name, content) in &self.all {
            machine.write(&format!("{folder}/{name}"), content.bytes());
            sum += content.length as u64;
        }
        sum
    }

    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Expects that these files, every byte of them, are below a folder, and no others.
    pub(crate) fn assert_in(&self, folder: &Path) {
        let mut found = files_below(folder);
        for (name, content) in &self.all {
            let path = folder.join(name);
            assert!(found.remove(&path), "{name} is not there");
            // Not compared as texts: who wants to read a million bytes?
            assert!(fs::read(&path).unwrap() == content.bytes(), "{name}");
        }
        assert!(found.is_empty(), "never stored: {found:?}");
    }

    /// Retrieves them and expects that they are what they were.
    pub(crate) fn assert_back(&self, machine: &Machine, folder: &str) {
        let from = machine.text(folder);
        let back = format!("{folder}-back");
        machine.done(&["retrieve", &from, "--to", &machine.text(&back)]);
        self.assert_in(&machine.path(&back).join(from.strip_prefix('/').unwrap()));
    }
}

/// Returns all files below a folder, none if it is not there.
pub(crate) fn files_below(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(path) = waiting.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path);
            }
        }
    }
    found
}

impl Content {
    fn bytes(self) -> Vec<u8> {
        let mut state = self.seed;
        let mut bytes = Vec::with_capacity(self.length + 64);
        while bytes.len() < self.length {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let number = state ^ (state >> 29);
            if self.is_text {
                let line = format!("{},measured,{}\n", bytes.len(), number % 1_000);
                bytes.extend_from_slice(line.as_bytes());
            } else {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
        bytes.truncate(self.length);
        bytes
    }
}
