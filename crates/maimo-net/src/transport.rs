//! Transports: a stream of bytes to an address, and streams that come in. Who is at the other end is for [`crate::tls`] to prove.
//!
//! A transport reaches one kind of network and refuses every other: a node that was told to use Tor fails rather than speak outside it.

#[doc(hidden)]
pub mod memory;
pub mod system_tor;
pub mod tcp;

use core::{fmt, future::Future, pin::Pin};

use maimo_core::{
    address::{Address, Network},
    error::{Classify, ErrorKind, Retry},
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

/// A stream of bytes in both directions.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A stream, whatever carries it.
pub type BoxedStream = Box<dyn Stream>;

/// What a transport does, to be awaited.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, TransportError>> + Send + 'a>>;

/// Which streams may share a circuit: those of equal values, and no others. Drawn at random, so that nobody can guess another's.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Isolation(pub [u8; 16]);

impl fmt::Debug for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Isolation(..)")
    }
}

/// The way out.
pub trait Transport: Send + Sync {
    /// Returns the network that it reaches.
    fn network(&self) -> Network;

    /// Connects to an address, on a circuit that only streams of the same isolation share.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it leaves nothing open.
    fn dial<'a>(&'a self, address: &'a Address, isolation: Isolation) -> Pending<'a, BoxedStream>;
}

/// Streams that come in.
pub trait Listener: Send {
    /// Returns where others reach it.
    fn address(&self) -> Address;

    /// Waits for the next stream. An error of one stream is not one of the listener: it returns only what ends it.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it loses no stream.
    fn accept(&mut self) -> Pending<'_, BoxedStream>;
}

/// Why there is no stream.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// This transport does not reach addresses of that kind, and nothing else is tried.
    #[error("{transport} does not reach this address")]
    OtherNetwork {
        /// The transport, as in "tor".
        transport: &'static str,
    },
    /// Nobody answers there.
    #[error("cannot be reached: {detail}")]
    Unreachable {
        /// What was tried and how it ended, without the address.
        detail: String,
    },
    /// Tor itself does not work: no consensus, no daemon, a wrong password.
    #[error("tor does not work: {detail}")]
    Tor {
        /// Why.
        detail: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// Nobody can come in here.
    #[error("cannot listen: {detail}")]
    CannotListen {
        /// Why, without the address.
        detail: String,
    },
    /// It took too long.
    #[error("no answer within {seconds} s")]
    Timeout {
        /// How long was waited.
        seconds: u64,
    },
}

impl Classify for TransportError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherNetwork { .. } => ErrorKind::Config,
            Self::Unreachable { .. } | Self::Timeout { .. } => ErrorKind::Network,
            Self::Tor { .. } => ErrorKind::TorUnavailable,
            Self::CannotListen { .. } => ErrorKind::LocalIo,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::OtherNetwork { .. } => Retry::Never,
            _ => Retry::AfterWaiting,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OtherNetwork { .. } => {
                Some("a node uses one network; set another transport in its configuration")
            }
            Self::Tor { hint, .. } => Some(hint),
            Self::CannotListen { .. } => Some("is the address this machine's, and the port free?"),
            _ => Some("check the address, then try again"),
        }
    }
}
