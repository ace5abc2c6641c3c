//! How the Tor in the process is set up: where it keeps its state, by which bridges it connects, which network it belongs to.

use core::{net::SocketAddr, str::FromStr, time::Duration};
use std::path::PathBuf;

use arti_client::{
    TorClientConfig,
    config::{BridgeConfigBuilder, CfgPath, TorClientConfigBuilder, dir::FallbackDirBuilder},
};
use thiserror::Error;
use tor_llcrypto::pk::{ed25519::Ed25519Identity, rsa::RsaIdentity};

use crate::error::TorError;

/// How the Tor in the process is set up.
#[derive(Debug, Clone)]
pub struct ArtiSettings {
    /// Where it keeps what must survive: its guards above all. One process at a time; made with mode 0700.
    pub state: PathBuf,
    /// Where it keeps what it can fetch again: the network's directory. Made with mode 0700.
    pub cache: PathBuf,
    /// Bridge lines (`ADDRESS:PORT FINGERPRINT`); none: it connects to public guards. Those that need a pluggable transport are
    /// refused, for that would be another program with sockets of its own.
    pub bridges: Vec<String>,
    /// Whether an onion service will run here. Circuits then go through three layers of guards instead of two: a service can be made to
    /// build circuits at an attacker's will, who watches where they pass.
    pub serves: bool,
    /// How long a dial may take, the wait for the connection to Tor included; that one ends sooner if Tor comes no nearer.
    pub dial_deadline: Duration,
    /// A network other than the public one, for tests and demonstrations.
    pub network: Option<PrivateNetwork>,
}

/// A Tor network of one's own on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PrivateNetwork {
    /// Its directory authorities.
    pub authorities: Vec<Authority>,
    /// Parameters of the consensus that this node takes to be other than it says, for measurements: `cc_alg`, 0, as an example, makes
    /// circuits with fixed windows.
    pub parameters: Vec<(String, i32)>,
}

/// A directory authority of a private network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Its RSA identity as a relay.
    pub rsa_identity: [u8; 20],
    /// Its Ed25519 identity as a relay.
    pub ed25519_identity: [u8; 32],
    /// Where its onion router listens.
    pub or_port: SocketAddr,
    /// The identity that signs the consensus.
    pub v3_identity: [u8; 20],
}

/// A text that does not describe an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an authority is written RSA-HEX ED25519-BASE64 ADDRESS:PORT V3-HEX")]
pub struct ParseAuthorityError;

/// What is always so. The keystore in memory is what keeps the onion key off the disk; circuits to exits are not built ahead of need, for nothing
/// here ever leaves by one.
const ALWAYS: &str = "
storage.keystore.primary.kind = 'ephemeral'
preemptive_circuits.initial_predicted_ports = []
";
const VANGUARDS_OF_SERVICES: &str = "vanguards.mode = 'full'\n";
const VANGUARDS_OF_CLIENTS: &str = "vanguards.mode = 'lite'\n";
/// For a network whose relays all stand on one loopback address, and for test folders in places that others may write to.
const PRIVATE: &str = "
path_rules.ipv4_subnet_family_prefix = 33
storage.permissions.dangerously_trust_everyone = true
address_filter.allow_local_addrs = true
";

impl ArtiSettings {
    /// Two folders and defaults for all else: the public network, no bridges, no onion service.
    pub fn new(state: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            cache: cache.into(),
            bridges: Vec::new(),
            serves: false,
            dial_deadline: Duration::from_mins(2),
            network: None,
        }
    }

    pub(crate) fn config(&self) -> Result<TorClientConfig, TorError> {
        let text = [
            ALWAYS,
            if self.serves {
                VANGUARDS_OF_SERVICES
            } else {
                VANGUARDS_OF_CLIENTS
            },
            if self.network.is_some() { PRIVATE } else { "" },
        ]
        .concat();
        let mut builder: TorClientConfigBuilder =
            toml::from_str(&text).map_err(|_| TorError::Settings {
                detail: "arti does not know its own settings".to_owned(),
            })?;
        // As they are: a dollar sign in a path is no variable.
        builder
            .storage()
            .state_dir(CfgPath::new_literal(&self.state))
            .cache_dir(CfgPath::new_literal(&self.cache));
        builder
            .stream_timeouts()
            .connect_timeout(self.dial_deadline.min(Duration::from_secs(30)));
        for bridge in self.parse_bridges()? {
            builder.bridges().bridges().push(bridge);
        }
        if let Some(network) = &self.network {
            network.describe(&mut builder);
        }
        builder.build().map_err(|error| TorError::Settings {
            // The text of this one names fields and values of ours, of which bridges are secret.
            detail: match error {
                arti_client::config::ConfigBuildError::Inconsistent { .. } => {
                    "two settings contradict each other"
                }
                _ => "a setting is missing or invalid",
            }
            .to_owned(),
        })
    }

    fn parse_bridges(&self) -> Result<Vec<BridgeConfigBuilder>, TorError> {
        let parse = |(index, line): (usize, &String)| {
            let number = index + 1;
            if names_transport(line) {
                return Err(TorError::PluggableTransport { number });
            }
            line.parse().map_err(|_| TorError::Bridge { number })
        };
        self.bridges.iter().enumerate().map(parse).collect()
    }
}

/// Whether a bridge line begins with the name of a pluggable transport, where others begin with the address.
fn names_transport(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words
        .next()
        .filter(|word| !word.eq_ignore_ascii_case("bridge"))
        .or_else(|| words.next());
    first.is_some_and(|word| {
        word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

impl PrivateNetwork {
    fn describe(&self, builder: &mut TorClientConfigBuilder) {
        let mut caches = Vec::with_capacity(self.authorities.len());
        let mut identities = Vec::with_capacity(self.authorities.len());
        for authority in &self.authorities {
            let mut cache = FallbackDirBuilder::new();
            cache
                .rsa_identity(RsaIdentity::from(authority.rsa_identity))
                .ed_identity(Ed25519Identity::new(authority.ed25519_identity));
            cache.orports().push(authority.or_port);
            caches.push(cache);
            identities.push(RsaIdentity::from(authority.v3_identity));
        }
        builder.tor_network().set_fallback_caches(caches);
        builder.tor_network().authorities().set_v3idents(identities);
        builder
            .override_net_params()
            .extend(self.parameters.iter().cloned());
    }
}

impl FromStr for Authority {
    type Err = ParseAuthorityError;

    fn from_str(text: &str) -> Result<Self, ParseAuthorityError> {
        let [rsa, ed25519, or_port, v3] = text
            .split_whitespace()
            .collect::<Vec<_>>()
            .try_into()
            .map_err(|_| ParseAuthorityError)?;
        let rsa_of = |hex: &str| {
            RsaIdentity::from_hex(hex)
                .and_then(|identity| identity.as_bytes().try_into().ok())
                .ok_or(ParseAuthorityError)
        };
        Ok(Self {
            rsa_identity: rsa_of(rsa)?,
            ed25519_identity: Ed25519Identity::from_base64(ed25519)
                .ok_or(ParseAuthorityError)?
                .into(),
            or_port: or_port.parse().map_err(|_| ParseAuthorityError)?,
            v3_identity: rsa_of(v3)?,
        })
    }
}

#[cfg(test)]
mod tests;
