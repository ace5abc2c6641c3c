//! The network: its nodes, how they are started, what is said of them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    client::TorNode,
    consensus,
    error::NetworkError,
    identity,
    node::{self, Node, Owner},
    ports,
    relay::Relay,
    shared::Lease,
    torrc,
};

/// How many authorities there are; each is a relay too.
pub const AUTHORITIES: usize = 3;
/// How many relays there are, authorities included.
pub const RELAYS: usize = 8;

/// Several rounds of voting: on a loaded machine the first may lack somebody's vote or descriptor.
const PATIENCE: Duration = Duration::from_mins(2);
/// How often a start is tried whose ports another process took.
const STARTS: u32 = 3;

/// A running network. Dropped, its nodes are killed, unless it is shared.
#[derive(Debug)]
pub struct Network {
    folder: PathBuf,
    relays: Vec<Relay>,
    running: Running,
}

/// Whose the nodes are.
#[derive(Debug)]
enum Running {
    Own(Vec<Node>),
    Shared { _lease: Lease },
}

impl Network {
    /// Starts a network in a folder and waits until all its relays are in the consensus.
    ///
    /// # Errors
    ///
    /// That C tor is missing, or which node failed and how its log ends.
    pub fn start(folder: &Path) -> Result<Self, NetworkError> {
        Self::start_on(Ipv4Addr::LOCALHOST, folder)
    }

    /// Starts a network as [`Self::start`] whose relays listen on this address of the machine and no other: one that a network namespace reaches.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn start_on(address: Ipv4Addr, folder: &Path) -> Result<Self, NetworkError> {
        Self::start_for(address, folder, Owner::This)
    }

    /// Joins the network that the processes of a test run share, and starts it if none runs.
    ///
    /// It ends by itself a few minutes after its last user.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn shared() -> Result<Self, NetworkError> {
        crate::shared::join()
    }

    /// Starts a network that belongs to another process.
    pub(crate) fn start_for(
        address: Ipv4Addr,
        folder: &Path,
        owner: Owner,
    ) -> Result<Self, NetworkError> {
        if let Some(missing) = node::missing_tor() {
            return Err(missing);
        }
        let mut attempt = 1;
        loop {
            match Self::try_start(address, &folder.join(format!("try{attempt}")), owner) {
                Err(NetworkError::Ended { log, .. })
                    if attempt < STARTS && log.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                other => return other,
            }
        }
    }

    fn try_start(address: Ipv4Addr, folder: &Path, owner: Owner) -> Result<Self, NetworkError> {
        fs::create_dir_all(folder).map_err(NetworkError::io("make", folder))?;
        // Tor takes paths from its own working folder.
        let folder = &folder
            .canonicalize()
            .map_err(NetworkError::io("find", folder))?;
        let ports = ports::draw(address, RELAYS + AUTHORITIES)?;
        let (or_ports, dir_ports) = ports.split_at(RELAYS);
        let relays = make_keys(folder, address, or_ports, dir_ports)?;
        let bandwidths = folder.join("bandwidths");
        let rsa_ids = relays.iter().map(|relay| relay.rsa_id.as_str());
        fs::write(&bandwidths, torrc::bandwidths(now(), rsa_ids))
            .map_err(NetworkError::io("write", &bandwidths))?;

        let join = join_lines(&relays);
        thread::sleep(torrc::until_start(now()));
        let mut nodes = Vec::with_capacity(RELAYS);
        for relay in &relays {
            let name = &relay.nickname;
            let mut lines = format!(
                "{join}{}",
                torrc::relay(name, SocketAddrV4::new(address, relay.or_port))
            );
            if let Some(dir_address) = relay.dir_address() {
                lines.push_str(&torrc::authority(dir_address, &bandwidths));
            }
            let mut node = Node::new(name, &folder.join(name), &lines, owner)?;
            node.start()?;
            nodes.push(node);
        }
        wait_for_consensus(&mut nodes, &relays)?;
        Ok(Self {
            folder: folder.clone(),
            relays,
            running: Running::Own(nodes),
        })
    }

    /// Leaves the nodes to their owner.
    pub(crate) fn leave(self) {
        if let Running::Own(nodes) = self.running {
            nodes.into_iter().for_each(Node::leave);
        }
    }

    /// A network that others run.
    pub(crate) fn of_others(folder: PathBuf, relays: Vec<Relay>, lease: Lease) -> Self {
        Self {
            folder,
            relays,
            running: Running::Shared { _lease: lease },
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns all relays, authorities first.
    pub fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// Returns the authorities: what a client must know to join.
    pub fn authorities(&self) -> &[Relay] {
        &self.relays[..AUTHORITIES]
    }

    /// Returns the torrc lines that make a C tor a client of this network, ports and data directory aside.
    pub fn client_torrc(&self) -> String {
        join_lines(self.authorities())
    }

    /// Starts a C tor of its own with SOCKS and control port, and waits until it can build circuits.
    ///
    /// # Errors
    ///
    /// That it did not come so far, and how its log ends.
    pub fn client(&self, name: &str) -> Result<TorNode, NetworkError> {
        self.client_with(name, &[])
    }

    /// Starts a C tor as [`Self::client`], with more torrc lines.
    ///
    /// # Errors
    ///
    /// As [`Self::client`].
    pub fn client_with(&self, name: &str, lines: &[&str]) -> Result<TorNode, NetworkError> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let folder = self.folder.join("clients").join(format!(
            "{name}-{}-{}",
            std::process::id(),
            STARTED.fetch_add(1, Ordering::Relaxed)
        ));
        TorNode::start(name, &folder, &self.client_torrc(), lines)
    }

    /// Kills a relay; the authorities are the first [`AUTHORITIES`].
    ///
    /// # Errors
    ///
    /// [`NetworkError::Shared`], [`NetworkError::NoRelay`].
    pub fn kill(&mut self, index: usize) -> Result<(), NetworkError> {
        self.own_node(index)?.kill();
        Ok(())
    }

    /// Starts a relay again, with its keys and ports, and waits until it takes connections.
    ///
    /// # Errors
    ///
    /// As [`Self::kill`], or that it did not come so far.
    pub fn restart(&mut self, index: usize) -> Result<(), NetworkError> {
        let node = self.own_node(index)?;
        node.kill();
        node.start()?;
        let address = self.relays[index].or_address();
        self.own_node(index)?.wait(PATIENCE, |_| {
            TcpStream::connect(address)
                .map(drop)
                .map_err(|error| error.to_string())
        })
    }

    fn own_node(&mut self, index: usize) -> Result<&mut Node, NetworkError> {
        match &mut self.running {
            Running::Shared { .. } => Err(NetworkError::Shared),
            Running::Own(nodes) => nodes.get_mut(index).ok_or(NetworkError::NoRelay { index }),
        }
    }
}

fn nickname(index: usize) -> String {
    match index.checked_sub(AUTHORITIES) {
        None => format!("authority{index}"),
        Some(index) => format!("relay{index}"),
    }
}

fn join_lines(authorities: &[Relay]) -> String {
    let lines: Vec<_> = authorities
        .iter()
        .filter_map(Relay::dir_authority_line)
        .collect();
    torrc::join(lines.iter().map(String::as_str))
}

/// Makes the keys of all nodes at once: of all that a start takes, only this and the voting take time.
fn make_keys(
    folder: &Path,
    address: Ipv4Addr,
    or_ports: &[u16],
    dir_ports: &[u16],
) -> Result<Vec<Relay>, NetworkError> {
    thread::scope(|scope| {
        let made: Vec<_> = or_ports
            .iter()
            .enumerate()
            .map(|(index, or_port)| {
                let name = nickname(index);
                let dir_port = dir_ports.get(index).copied();
                let or_address = SocketAddrV4::new(address, *or_port);
                scope
                    .spawn(move || identity::make(&name, &folder.join(&name), or_address, dir_port))
            })
            .collect();
        made.into_iter()
            .map(|thread| thread.join().expect("the thread does not panic"))
            .collect()
    })
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Waits until every authority shows a consensus with all relays.
fn wait_for_consensus(nodes: &mut [Node], relays: &[Relay]) -> Result<(), NetworkError> {
    let begin = Instant::now();
    let mut authority = 0;
    while let Some(dir_address) = relays.get(authority).and_then(Relay::dir_address) {
        for node in &mut *nodes {
            node.check()?;
        }
        let seen = consensus::running_relays(dir_address).unwrap_or(0);
        if seen == RELAYS {
            authority += 1;
            continue;
        }
        if begin.elapsed() > PATIENCE {
            return Err(NetworkError::NotReady {
                node: nodes[authority].name().to_owned(),
                seconds: PATIENCE.as_secs(),
                state: format!("{seen} of {RELAYS} relays in its consensus"),
                log: nodes[authority].log(),
            });
        }
        thread::sleep(node::POLL);
    }
    Ok(())
}
