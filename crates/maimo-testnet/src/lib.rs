//! A private Tor network on this machine: C tor nodes on loopback, started for a test, a benchmark or the demonstration, and gone after it.
//!
//! Three directory authorities that are relays too, and five relays more. [`Network::start`] starts them and returns once the consensus lists all
//! eight; what joins them is a C tor of its own ([`Network::client`]), any tor with the lines of [`Network::client_torrc`], or an embedded one that is
//! told the authorities ([`Network::authorities`]). [`Network::shared`] is one network for all processes of a test run.
//!
//! It is no simulation: the nodes are those of the public network, with short timers and one address for all, 127.0.0.1 unless told ([`Network::start_on`]). It says nothing of how
//! fast or how anonymous the public one is.
//!
//! Invariant: no node outlives its owner, dies how it may: every tor watches the process it belongs to, and ends with it.
//!
//! ```no_run
//! let folder = std::env::temp_dir().join("tor-network");
//! let network = maimo_testnet::Network::start(&folder)?;
//! let client = network.client("alice")?;
//! println!("a SOCKS proxy into it: {}", client.socks());
//! # Ok::<(), maimo_testnet::NetworkError>(())
//! ```

mod client;
mod consensus;
mod error;
mod identity;
mod network;
mod node;
mod ports;
mod relay;
mod shared;
mod torrc;

pub use client::TorNode;
pub use error::NetworkError;
pub use network::{AUTHORITIES, Network, RELAYS};
pub use node::missing_tor;
pub use relay::Relay;
