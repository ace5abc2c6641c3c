//! A C tor that uses the network: a SOCKS proxy into it, and a control port that offers onion services.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    error::NetworkError,
    node::{Node, Owner},
    ports, torrc,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A tor of one user. Dropped, it is killed.
#[derive(Debug)]
pub struct TorNode {
    node: Node,
    socks: SocketAddr,
    control: SocketAddr,
    cookie: PathBuf,
}

impl TorNode {
    /// Starts a client and waits until it can build circuits. `join` is what makes it one of the network, `more` whatever it should have besides.
    pub(crate) fn start(
        name: &str,
        folder: &Path,
        join: &str,
        more: &[&str],
    ) -> Result<Self, NetworkError> {
        let ports = ports::draw(Ipv4Addr::LOCALHOST, 2)?;
        let cookie = folder.join("control.cookie");
        let torrc = format!(
            "{join}{}{}\n",
            torrc::client(ports[0], ports[1], &cookie),
            more.join("\n")
        );
        let mut client = Self {
            node: Node::new(name, folder, &torrc, Owner::This)?,
            socks: (Ipv4Addr::LOCALHOST, ports[0]).into(),
            control: (Ipv4Addr::LOCALHOST, ports[1]).into(),
            cookie,
        };
        client.restart()?;
        Ok(client)
    }

    /// Returns where its SOCKS proxy listens.
    pub fn socks(&self) -> SocketAddr {
        self.socks
    }

    /// Returns where its control port listens; it takes the cookie.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// Returns the file of the control port's cookie.
    pub fn cookie(&self) -> &Path {
        &self.cookie
    }

    /// Returns its process; none while it is killed.
    pub fn process(&self) -> Option<u32> {
        self.node.process()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts it again, on the same ports, and waits until it can build circuits.
    ///
    /// # Errors
    ///
    /// That it did not come so far.
    pub fn restart(&mut self) -> Result<(), NetworkError> {
        self.node.kill();
        let before = self.node.log_length();
        self.node.start()?;
        self.node.wait(PATIENCE, |node| {
            let log = node.log_from(before);
            if log.contains("Bootstrapped 100%") {
                return Ok(());
            }
            let state = log.lines().rfind(|line| line.contains("Bootstrapped"));
            Err(state.unwrap_or("not started").to_owned())
        })
    }
}
