//! What is between the demo's two ends: TCP on loopback, or a Tor network.

use std::{net::Ipv4Addr, path::Path, sync::Arc};

use crate::{config::Way, daemon::Entrance, error::CommandError, network::Network, ui::Ui};

/// The way from the client to the provider; what it needs lives as long as this.
pub(super) struct Road {
    pub(super) network: Arc<Network>,
    pub(super) entrance: Entrance,
    /// What it is, in words for the user.
    pub(super) words: &'static str,
    #[cfg(feature = "tor")]
    _private: Option<maimo_testnet::Network>,
}

impl Road {
    /// Prepares TCP on this machine.
    pub(super) fn loopback(folder: &Path, ui: &Ui) -> Self {
        Self {
            network: Arc::new(Network::plain(Way::Tcp, folder, None, ui.link().clone())),
            entrance: Entrance::Tcp {
                listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
                announce: Vec::new(),
            },
            words: "TCP on this machine",
            #[cfg(feature = "tor")]
            _private: None,
        }
    }

    /// Prepares Tor: a private network on this machine where a tor is installed that can be its relays, else the public one.
    #[cfg(feature = "tor")]
    pub(super) fn tor(folder: &Path, ui: &Ui) -> Result<Self, CommandError> {
        use crate::error::Exit;
        let (private, words) = if maimo_testnet::missing_tor().is_some() {
            ui.say(
                "     No tor is installed to be relays of a private network: over the public one.",
            );
            (None, "the public Tor network")
        } else {
            ui.say(
                "     Starting a private Tor network: 3 authorities and 5 relays on this machine.",
            );
            let network = maimo_testnet::Network::start(&folder.join("tor")).map_err(|error| {
                CommandError::new(
                    Exit::Failed,
                    "tor_unavailable",
                    format!("no private Tor network: {error}"),
                )
            })?;
            (Some(network), "a private Tor network on this machine")
        };
        let file = match &private {
            Some(network) => {
                let file = folder.join("tor-network");
                std::fs::write(&file, authorities(network))
                    .map_err(|error| CommandError::io("write", &file, &error))?;
                Some(file)
            }
            None => None,
        };
        Ok(Self {
            network: Arc::new(Network::plain(Way::Tor, folder, file, ui.link().clone())),
            entrance: Entrance::Onion(Way::Tor),
            words,
            _private: private,
        })
    }

    /// Says that this build has none.
    #[cfg(not(feature = "tor"))]
    pub(super) fn tor(_folder: &Path, _ui: &Ui) -> Result<Self, CommandError> {
        Err(CommandError::usage("this build has no Tor")
            .hint("build it with `--features tor`: cargo run --release -p maimo --features tor -- demo --tor"))
    }
}

/// Returns the authorities of a private network as `tor-network-file` has them.
#[cfg(feature = "tor")]
fn authorities(network: &maimo_testnet::Network) -> String {
    let line = |relay: &maimo_testnet::Relay| {
        let v3 = &relay.authority.as_ref()?.v3ident;
        let (rsa, ed25519) = (&relay.rsa_id, &relay.ed25519_id);
        Some(format!("{rsa} {ed25519} {} {v3}", relay.or_address()))
    };
    let lines: Vec<String> = network.authorities().iter().filter_map(line).collect();
    lines.join("\n")
}
