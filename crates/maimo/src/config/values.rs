//! Types of values that the configuration has besides plain ones: how a node reaches others, rates, forms of logs.

use std::{fmt, net::SocketAddr, time::Duration};

use clap::ValueEnum;
use maimo_core::address::{Address, Network};
use toml::Value;

use super::setting::Settable;
use crate::quantity::{parse_size, parse_span_ms};

/// A way to other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Tor in this process.
    Tor,
    /// A Tor that runs on this machine.
    SystemTor,
    /// Plain TCP: whoever watches sees who speaks with whom.
    Tcp,
}

impl Way {
    const ALL: [Self; 3] = [Self::Tor, Self::SystemTor, Self::Tcp];

    const fn name(self) -> &'static str {
        match self {
            Self::Tor => "tor",
            Self::SystemTor => "system-tor",
            Self::Tcp => "tcp",
        }
    }

    /// Returns which addresses it reaches.
    pub(crate) const fn kind(self) -> Network {
        match self {
            Self::Tor | Self::SystemTor => Network::Onion,
            Self::Tcp => Network::Tcp,
        }
    }
}

/// The ways that a node may use, and no others: at least one, and one of the two kinds of Tor at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ways(Vec<Way>);

impl Ways {
    /// Returns the one way.
    pub(crate) fn only(way: Way) -> Self {
        Self(vec![way])
    }

    /// Returns them.
    pub(crate) fn as_slice(&self) -> &[Way] {
        &self.0
    }

    /// Reads names with commas between them.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut ways = Vec::new();
        for name in text.split(',').map(str::trim) {
            let way = Way::ALL.into_iter().find(|way| way.name() == name);
            let way = way.ok_or_else(|| format!("`{name}` is none of tor, system-tor and tcp"))?;
            if ways.contains(&way) {
                return Err(format!("{name} stands there twice"));
            }
            ways.push(way);
        }
        if ways.contains(&Way::Tor) && ways.contains(&Way::SystemTor) {
            return Err("one Tor is enough: either tor or system-tor".to_owned());
        }
        Ok(Self(ways))
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.0.iter().map(|way| way.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl Settable for Ways {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| "not a text".to_owned())?;
        Self::parse(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

/// Bytes a second, at most; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit(u64);

impl Limit {
    /// No limit.
    pub(crate) const NONE: Self = Self(0);

    /// Returns the bytes a second, if there is a limit.
    pub(crate) const fn bytes_per_second(self) -> Option<u64> {
        match self.0 {
            0 => None,
            bytes => Some(bytes),
        }
    }

    /// Reads a size, which is meant a second.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        parse_size(text).map(Self)
    }
}

impl Settable for Limit {
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(bytes) => u64::try_from(*bytes)
                .map(Self)
                .map_err(|_| "a limit is not below 0".to_owned()),
            Value::String(text) => Self::parse(text),
            _ => Err("neither a size nor a number of bytes".to_owned()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_toml(&self) -> Option<Value> {
        // Beyond what TOML can hold there is no network either.
        Some(Value::Integer(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }
}

/// A number of bytes, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes(u64);

impl Bytes {
    /// What the spool holds: what a slow network takes some minutes for.
    pub(crate) const SPOOL: Self = Self(256 << 20);

    /// Returns the number.
    pub(crate) const fn count(self) -> u64 {
        self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        match parse_size(text)? {
            0 => Err("0 bytes hold nothing".to_owned()),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl Settable for Bytes {
    fn from_toml(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(bytes) => Self::parse(&bytes.to_string()),
            Value::String(text) => Self::parse(text),
            _ => Err("neither a size nor a number of bytes".to_owned()),
        }
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::Integer(i64::try_from(self.0).unwrap_or(i64::MAX)))
    }
}

/// A span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(Duration);

impl Span {
    /// The longest: beyond it nobody waits, and clocks overflow.
    const MAX: Duration = Duration::from_hours(100 * 366 * 24);

    /// Returns a span of whole seconds.
    pub(crate) const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// Returns it.
    pub(crate) const fn duration(self) -> Duration {
        self.0
    }

    /// Returns whether it is none.
    pub(crate) const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl Settable for Span {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value
            .as_str()
            .ok_or_else(|| "not a duration as a text, as in \"6h\"".to_owned())?;
        Self::from_text(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        let span = Duration::from_millis(parse_span_ms(text)?);
        if span > Self::MAX {
            return Err("longer than a hundred years".to_owned());
        }
        Ok(Self(span))
    }

    fn to_toml(&self) -> Option<Value> {
        let millis = self.0.as_millis();
        let units = [
            (86_400_000, "d"),
            (3_600_000, "h"),
            (60_000, "m"),
            (1000, "s"),
        ];
        let unit = units
            .into_iter()
            .find(|(unit, _)| millis.is_multiple_of(*unit));
        let text = match unit {
            _ if millis == 0 => "0s".to_owned(),
            Some((unit, name)) => format!("{}{name}", millis / unit),
            None => format!("{millis}ms"),
        };
        Some(Value::String(text))
    }
}

/// How many circuits one channel may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Circuits(u8);

impl Circuits {
    /// What serves most.
    pub(crate) const USUAL: Self = Self(4);
    /// Beyond it a client takes from others what it does not gain.
    const MAX: u8 = 8;

    /// Returns their number.
    pub(crate) const fn count(self) -> u8 {
        self.0
    }

    /// Reads a number.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let count = text
            .parse()
            .ok()
            .filter(|count| (1..=Self::MAX).contains(count));
        count
            .map(Self)
            .ok_or_else(|| format!("not a whole number from 1 to {}", Self::MAX))
    }
}

impl Settable for Circuits {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let number = value.as_integer().unwrap_or_default();
        Self::parse(&number.to_string())
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::Integer(self.0.into()))
    }
}

impl Settable for SocketAddr {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| "not a text".to_owned())?;
        Self::from_text(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("`{text}` is no IP address and port, as in 127.0.0.1:9050"))
    }

    fn to_toml(&self) -> Option<Value> {
        Some(Value::String(self.to_string()))
    }
}

impl Settable for Vec<SocketAddr> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let texts = Vec::<String>::from_toml(value)?;
        texts
            .iter()
            .map(|text| SocketAddr::from_text(text))
            .collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.split([',', '\n'])
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(SocketAddr::from_text)
            .collect()
    }

    fn to_toml(&self) -> Option<Value> {
        self.iter()
            .map(SocketAddr::to_string)
            .collect::<Vec<_>>()
            .to_toml()
    }
}

/// An address of this machine that nobody else can connect to, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loopback(Option<SocketAddr>);

impl Loopback {
    pub(crate) const NONE: Self = Self(None);

    /// Returns the address.
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl Settable for Loopback {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| "not a text".to_owned())?;
        Self::from_text(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self::NONE);
        }
        let address = SocketAddr::from_text(text)?;
        if !address.ip().is_loopback() || address.port() == 0 {
            return Err(format!(
                "`{text}` is no port of loopback, as in 127.0.0.1:9464: others must not read it"
            ));
        }
        Ok(Self(Some(address)))
    }

    fn to_toml(&self) -> Option<Value> {
        let text = self.0.map_or_else(String::new, |at| at.to_string());
        Some(Value::String(text))
    }
}

/// Addresses for others, of the kind that TCP reaches.
impl Settable for Vec<Address> {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let texts = Vec::<String>::from_toml(value)?;
        texts.iter().map(|text| tcp_address(text)).collect()
    }

    fn from_text(text: &str) -> Result<Self, String> {
        text.split([',', '\n'])
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(tcp_address)
            .collect()
    }

    fn to_toml(&self) -> Option<Value> {
        self.iter()
            .map(Address::to_string)
            .collect::<Vec<_>>()
            .to_toml()
    }
}

fn tcp_address(text: &str) -> Result<Address, String> {
    let address: Option<Address> = text.parse().ok();
    address
        .filter(|address| address.network() == Network::Tcp)
        .ok_or_else(|| format!("`{text}` is no host and port, as in node.example:4243"))
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One object a line.
    Json,
}

impl Settable for LogFormat {
    fn from_toml(value: &Value) -> Result<Self, String> {
        let text = value.as_str().ok_or_else(|| "not a text".to_owned())?;
        Self::from_text(text)
    }

    fn from_text(text: &str) -> Result<Self, String> {
        Self::from_str(text, false).map_err(|_| format!("`{text}` is neither text nor json"))
    }

    fn to_toml(&self) -> Option<Value> {
        let name = match self {
            Self::Text => "text",
            Self::Json => "json",
        };
        Some(Value::String(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_named_and_one_tor_is_enough() {
        let read = |text| Ways::parse(text);
        assert_eq!(read("tor").unwrap(), Ways::only(Way::Tor));
        let both = read("system-tor, tcp").unwrap();
        assert_eq!(both.as_slice(), [Way::SystemTor, Way::Tcp]);
        assert_eq!(both.to_string(), "system-tor,tcp");
        for wrong in ["", "TOR", "tor,", "tor,tor", "tor,system-tor", "i2p"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn limits_are_sizes_a_second_and_0_is_none() {
        assert_eq!(
            Limit::parse("2MiB").unwrap().bytes_per_second(),
            Some(2 << 20)
        );
        assert_eq!(Limit::parse("0").unwrap(), Limit::NONE);
        assert_eq!(Limit::NONE.bytes_per_second(), None);
        assert!(Limit::from_toml(&Value::Integer(-1)).is_err());
        let limit = Limit::parse("3KB").unwrap();
        assert_eq!(Limit::from_toml(&limit.to_toml().unwrap()), Ok(limit));
    }

    #[test]
    fn figures_are_told_on_loopback_and_nowhere_else() {
        for right in ["127.0.0.1:9464", "[::1]:1", "127.9.9.9:80"] {
            let read = Loopback::from_text(right).unwrap();
            assert_eq!(read.address().unwrap().to_string(), right);
            assert_eq!(Loopback::from_toml(&read.to_toml().unwrap()), Ok(read));
        }
        assert_eq!(Loopback::from_text(""), Ok(Loopback::NONE));
        for wrong in [
            "0.0.0.0:9464",
            "192.0.2.1:80",
            "[::]:80",
            "127.0.0.1:0",
            "9464",
        ] {
            assert!(Loopback::from_text(wrong).is_err(), "{wrong}");
        }
        assert!(Loopback::from_toml(&Value::Integer(9464)).is_err());
    }

    #[test]
    fn a_spool_holds_something() {
        assert_eq!(Bytes::from_text("64MiB").unwrap().count(), 64 << 20);
        assert_eq!(Bytes::from_toml(&Value::Integer(1)).unwrap().count(), 1);
        for wrong in [Value::Integer(0), Value::Integer(-1), Value::Boolean(true)] {
            assert!(Bytes::from_toml(&wrong).is_err(), "{wrong}");
        }
        assert!(Bytes::from_text("0MiB").is_err());
    }

    #[test]
    fn spans_are_shown_as_they_are_read() {
        for text in ["0s", "90s", "6h", "1d", "15m", "250ms"] {
            let span = Span::from_text(text).unwrap();
            let shown = span.to_toml().unwrap();
            assert_eq!(Span::from_toml(&shown), Ok(span), "{text}");
        }
        assert_eq!(Span::from_text("1d").unwrap(), Span::seconds(86_400));
        for wrong in ["", "6", "-1h", "1000y", "soon"] {
            assert!(Span::from_text(wrong).is_err(), "{wrong}");
        }
        assert!(Span::from_toml(&Value::Integer(6)).is_err());
    }

    #[test]
    fn circuits_are_1_to_8() {
        assert_eq!(Circuits::parse("8").unwrap().count(), 8);
        for wrong in ["0", "9", "-1", "many", ""] {
            assert!(Circuits::parse(wrong).is_err(), "{wrong}");
        }
        assert!(Circuits::from_toml(&Value::Boolean(true)).is_err());
    }
}
