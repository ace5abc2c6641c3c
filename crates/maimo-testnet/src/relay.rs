//! What others must know of a relay to use it.

use std::net::{Ipv4Addr, SocketAddr};

/// A node of the network as its users know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// Its name in the consensus.
    pub nickname: String,
    /// Its RSA identity: 40 hexadecimal digits.
    pub rsa_id: String,
    /// Its Ed25519 identity: 43 characters of base64, without padding.
    pub ed25519_id: String,
    /// The address of this machine that all its ports are on.
    pub address: Ipv4Addr,
    /// The port for the Tor protocol.
    pub or_port: u16,
    /// What makes it a directory authority; none for a mere relay.
    pub authority: Option<Authority>,
}

/// What an authority has besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The identity that signs the consensus: 40 hexadecimal digits.
    pub v3ident: String,
    /// The port for directory requests without encryption.
    pub dir_port: u16,
}

impl Relay {
    /// Returns where it speaks the Tor protocol.
    pub fn or_address(&self) -> SocketAddr {
        (self.address, self.or_port).into()
    }

    /// Returns where an authority answers directory requests without encryption; none for a mere relay.
    pub fn dir_address(&self) -> Option<SocketAddr> {
        let authority = self.authority.as_ref()?;
        Some((self.address, authority.dir_port).into())
    }

    /// Returns the torrc line by which other nodes trust it; none for a mere relay.
    pub(crate) fn dir_authority_line(&self) -> Option<String> {
        let authority = self.authority.as_ref()?;
        Some(format!(
            "DirAuthority {} orport={} no-v2 v3ident={} {}:{} {}",
            self.nickname,
            self.or_port,
            authority.v3ident,
            self.address,
            authority.dir_port,
            self.rsa_id
        ))
    }

    /// Writes it as one line, for another process.
    pub(crate) fn encode(&self) -> String {
        let (v3ident, dir_port) = self
            .authority
            .as_ref()
            .map_or(("-", 0), |a| (a.v3ident.as_str(), a.dir_port));
        format!(
            "{} {} {} {} {} {v3ident} {dir_port}",
            self.nickname, self.rsa_id, self.ed25519_id, self.address, self.or_port
        )
    }

    /// Reads what [`Self::encode`] wrote.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let mut word = || words.next().map(str::to_owned);
        let (nickname, rsa_id, ed25519_id) = (word()?, word()?, word()?);
        let address = word()?.parse().ok()?;
        let or_port = word()?.parse().ok()?;
        let v3ident = word()?;
        let dir_port = word()?.parse().ok()?;
        Some(Self {
            nickname,
            rsa_id,
            ed25519_id,
            address,
            or_port,
            authority: (v3ident != "-").then_some(Authority { v3ident, dir_port }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_survives_its_line() {
        let mut relay = Relay {
            nickname: "relay3".to_owned(),
            rsa_id: "A".repeat(40),
            ed25519_id: "b".repeat(43),
            address: Ipv4Addr::new(10, 1, 2, 3),
            or_port: 12_345,
            authority: None,
        };
        assert_eq!(Relay::parse(&relay.encode()), Some(relay.clone()));
        relay.authority = Some(Authority {
            v3ident: "C".repeat(40),
            dir_port: 12_346,
        });
        assert_eq!(Relay::parse(&relay.encode()), Some(relay));
        assert_eq!(Relay::parse("relay3 AA"), None);
    }
}
