//! Where a provider is: onion services, IP addresses, host names; and the list of them that its auth key signs.
//!
//! An address only locates. Whoever answers there must prove the auth key. Onion and TCP never share a list: a provider has an auth
//! key for each, so that a port scan does not unmask an onion service, and a client of one is never led to the other.

use core::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use thiserror::Error;

use crate::{
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    identity::{AuthPublicKey, AuthSecretKey, OnionPublicKey, ParseKeyError, Signature},
    signed,
};

/// One address of a provider.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    host: Host,
    port: u16,
}

/// What an address names. Private, so that a host name is always in its one form.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Host {
    Onion(OnionPublicKey),
    Ip(IpAddr),
    Name(String),
}

/// How an address is reached; one list has addresses of one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// Through Tor, to an onion service.
    Onion,
    /// Over TCP, with no anonymity.
    Tcp,
}

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseAddressError {
    /// No port, or none that can be connected to.
    #[error("an address ends in a colon and a port from 1 to 65535")]
    Port,
    /// A host that looks like an onion address and is none.
    #[error("not an onion address")]
    Onion(#[source] ParseKeyError),
    /// Neither an IP address nor a host name.
    #[error("neither an onion address, an ip address nor a host name")]
    Host,
}

impl Classify for ParseAddressError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

const KIND_ONION: u8 = 1;
const KIND_IPV4: u8 = 2;
const KIND_IPV6: u8 = 3;
const KIND_NAME: u8 = 4;

impl Address {
    /// The longest host name, in bytes (RFC 1035, without the final dot).
    pub const NAME_BYTES_MAX: usize = 253;

    /// Returns the address of an onion service; nothing for port 0.
    pub fn onion(service: OnionPublicKey, port: u16) -> Option<Self> {
        Self::new(Host::Onion(service), port)
    }

    /// Returns a TCP address; nothing for port 0 and for an IPv4 address written as an IPv6 one.
    pub fn tcp(address: SocketAddr) -> Option<Self> {
        let host = match address.ip() {
            IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => return None,
            ip => Host::Ip(ip),
        };
        Self::new(host, address.port())
    }

    /// Returns a TCP address by host name, which is taken in small letters; nothing for what is no host name and for port 0.
    pub fn name(name: &str, port: u16) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        is_host_name(&name)
            .then_some(Host::Name(name))
            .and_then(|host| Self::new(host, port))
    }

    fn new(host: Host, port: u16) -> Option<Self> {
        (port != 0).then_some(Self { host, port })
    }

    /// Returns how it is reached.
    pub const fn network(&self) -> Network {
        match self.host {
            Host::Onion(_) => Network::Onion,
            Host::Ip(_) | Host::Name(_) => Network::Tcp,
        }
    }

    /// Returns the host without the port: an onion address, an IP address or a host name.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Onion(service) => service.to_string(),
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// Returns the port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Appends the kind, the host, the port.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.host {
            Host::Onion(service) => {
                out.put_u8(KIND_ONION);
                out.put(service.as_bytes());
            }
            Host::Ip(IpAddr::V4(ip)) => {
                out.put_u8(KIND_IPV4);
                out.put(&ip.octets());
            }
            Host::Ip(IpAddr::V6(ip)) => {
                out.put_u8(KIND_IPV6);
                out.put(&ip.octets());
            }
            Host::Name(name) => {
                out.put_u8(KIND_NAME);
                out.put_bytes(name.as_bytes());
            }
        }
        out.put_u16(self.port);
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        const WHAT: &str = "address";
        let invalid = ParseError::Invalid { what: WHAT };
        let host = match reader.u8(WHAT)? {
            KIND_ONION => Host::Onion(OnionPublicKey::parse(reader, WHAT)?),
            KIND_IPV4 => Host::Ip(Ipv4Addr::from(reader.array::<4>(WHAT)?).into()),
            KIND_IPV6 => {
                let ip = Ipv6Addr::from(reader.array::<16>(WHAT)?);
                if ip.to_ipv4_mapped().is_some() {
                    return Err(ParseError::NotCanonical { what: WHAT });
                }
                Host::Ip(ip.into())
            }
            KIND_NAME => {
                let name = core::str::from_utf8(reader.bytes(Self::NAME_BYTES_MAX, WHAT)?)
                    .map_err(|_| invalid.clone())?;
                if !is_host_name(name) {
                    return Err(invalid);
                }
                Host::Name(name.to_owned())
            }
            _ => return Err(invalid),
        };
        Self::new(host, reader.u16(WHAT)?).ok_or(invalid)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Onion(service) => write!(f, "{service}:{}", self.port),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = ParseAddressError;

    /// Reads `ADDRESS.onion:PORT`, `192.0.2.1:PORT`, `[2001:db8::1]:PORT` or `host.example:PORT`.
    fn from_str(text: &str) -> Result<Self, ParseAddressError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            // An IPv6 zone means something on one machine only, and the bytes have no place for it.
            let has_zone = matches!(address, SocketAddr::V6(address) if address.scope_id() != 0);
            if address.port() == 0 {
                return Err(ParseAddressError::Port);
            }
            return Self::tcp(address)
                .filter(|_| !has_zone)
                .ok_or(ParseAddressError::Host);
        }
        let (host, port) = text.rsplit_once(':').ok_or(ParseAddressError::Port)?;
        // `parse` alone would take "+80" and "080".
        let port = port
            .parse()
            .ok()
            .filter(|number: &u16| *number != 0 && number.to_string() == port)
            .ok_or(ParseAddressError::Port)?;
        let host = if is_onion(host) {
            Host::Onion(host.parse().map_err(ParseAddressError::Onion)?)
        } else {
            let name = host.to_ascii_lowercase();
            if !is_host_name(&name) {
                return Err(ParseAddressError::Host);
            }
            Host::Name(name)
        };
        Self::new(host, port).ok_or(ParseAddressError::Port)
    }
}

/// Returns whether a host is in Tor's top-level domain: as a host name it would be asked of the DNS, and told to the world.
fn is_onion(host: &str) -> bool {
    host.rsplit('.')
        .next()
        .is_some_and(|last| last.eq_ignore_ascii_case("onion"))
}

/// Returns whether a name is a host name in small letters: labels of letters, digits and inner hyphens (RFC 952, RFC 1123), the last not
/// of digits only, which would be taken for an IPv4 address.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= Address::NAME_BYTES_MAX
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
        && !is_onion(name)
}

/// A provider's addresses, the best first: at least one, none twice, all onion or all TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses(Vec<Address>);

impl Addresses {
    /// How many there may be.
    pub const COUNT_MAX: usize = 8;

    /// Checks that the addresses may stand in one list.
    pub fn new(addresses: Vec<Address>) -> Result<Self, ParseError> {
        const WHAT: &str = "addresses";
        if addresses.len() > Self::COUNT_MAX {
            return Err(ParseError::TooLarge {
                what: WHAT,
                found: addresses.len() as u64,
                max: Self::COUNT_MAX as u64,
            });
        }
        let network = addresses.first().map(Address::network);
        let is_twice = |(at, address): (usize, &Address)| addresses[..at].contains(address);
        if network.is_none()
            || addresses
                .iter()
                .any(|address| Some(address.network()) != network)
            || addresses.iter().enumerate().any(is_twice)
        {
            return Err(ParseError::Invalid { what: WHAT });
        }
        Ok(Self(addresses))
    }

    /// Returns the addresses, the best first.
    pub fn as_slice(&self) -> &[Address] {
        &self.0
    }

    /// Returns how all of them are reached.
    pub fn network(&self) -> Network {
        self.0.first().map_or(Network::Onion, Address::network)
    }

    /// Appends the count, then the addresses.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.0.len() as u64);
        for address in &self.0 {
            address.encode(out);
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Self::new(Self::parse_each(reader)?)
    }

    /// Reads what [`Self::encode`] wrote, or a count of none.
    pub fn parse_optional(reader: &mut Reader<'_>) -> Result<Option<Self>, ParseError> {
        let addresses = Self::parse_each(reader)?;
        if addresses.is_empty() {
            return Ok(None);
        }
        Self::new(addresses).map(Some)
    }

    fn parse_each(reader: &mut Reader<'_>) -> Result<Vec<Address>, ParseError> {
        // The shortest address is an IPv4 one or a name of one letter.
        let count = reader.count(Self::COUNT_MAX as u64, 5, "addresses")?;
        (0..count).map(|_| Address::parse(reader)).collect()
    }
}

const SIGN_CONTEXT: &str = "maimo addresses v1";

/// A provider's addresses, signed by its auth key; see `docs/format.md`, "Tickets, invitations and address lists".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressList {
    signer: AuthPublicKey,
    sequence: u64,
    addresses: Addresses,
    extensions: Extensions,
    signature: Signature,
}

/// Why bytes are not a provider's list of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AddressListError {
    /// The bytes are no list.
    #[error("the list of addresses cannot be read")]
    Parse(#[from] ParseError),
    /// Another provider's key signed it.
    #[error("the list of addresses is signed by another provider's key")]
    Signer,
    /// Its signature is wrong.
    #[error("the signature of the list of addresses is wrong")]
    Signature,
}

impl Classify for AddressListError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ProviderMisbehaved
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl AddressList {
    /// The longest list, in bytes.
    pub const LENGTH_MAX: usize = 4096;

    /// Signs addresses. Of two lists of one key the one with the higher sequence number counts.
    pub fn sign(addresses: Addresses, sequence: u64, key: &AuthSecretKey) -> Self {
        let mut list = Self {
            signer: key.public(),
            sequence,
            addresses,
            extensions: Extensions::default(),
            signature: Signature([0; Signature::LENGTH]),
        };
        list.signature = key.sign(SIGN_CONTEXT, &list.signed_bytes());
        list
    }

    /// Returns the addresses.
    pub const fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Returns the list's sequence number.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns whether this list is to replace `known`, a list of the same key.
    pub fn supersedes(&self, known: &Self) -> bool {
        self.signer == known.signer && self.sequence > known.sequence
    }

    /// Returns the list as bytes.
    pub fn encode(&self) -> Vec<u8> {
        signed::join(self.signed_bytes(), &self.signature)
    }

    /// Reads a list, if it was signed by the provider whose key is `signer`.
    pub fn verify(bytes: &[u8], signer: &AuthPublicKey) -> Result<Self, AddressListError> {
        let (signed, signature) = signed::split(bytes, Self::LENGTH_MAX, "list of addresses")?;
        let list = Self::parse(signed, signature)?;
        if list.signer != *signer {
            return Err(AddressListError::Signer);
        }
        signer
            .verify(SIGN_CONTEXT, signed, &list.signature)
            .map_err(|_| AddressListError::Signature)?;
        Ok(list)
    }

    fn parse(signed: &[u8], signature: Signature) -> Result<Self, ParseError> {
        let mut reader = Reader::new(signed);
        Prelude::parse_without_epoch(&mut reader, ObjectType::AddressList)?;
        let sequence = reader.u64("sequence number")?;
        let addresses = Addresses::parse(&mut reader)?;
        let (signer, extensions) = signed::parse_end(reader, "signer")?;
        Ok(Self {
            signer,
            sequence,
            addresses,
            extensions,
            signature,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::AddressList, &mut out);
        out.put_u64(self.sequence);
        self.addresses.encode(&mut out);
        signed::encode_end(&self.signer, &self.extensions, &mut out);
        out
    }
}

#[cfg(test)]
mod tests;
