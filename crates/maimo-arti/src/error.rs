//! What goes wrong with Tor, in words for users. Arti's own error texts can hold addresses and paths, so none of them is passed on.

use arti_client::{ErrorKind as ArtiKind, HasKind};
use maimo_core::error::{Classify, ErrorKind, Retry};
use maimo_net::transport::TransportError;
use thiserror::Error;

/// Why there is no Tor.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TorError {
    /// A line that describes no bridge.
    #[error("bridge {number} of the configuration is no bridge line")]
    Bridge {
        /// Which one, from 1.
        number: usize,
    },
    /// A bridge that is reached by another program.
    #[error("bridge {number} of the configuration needs a pluggable transport")]
    PluggableTransport {
        /// Which one, from 1.
        number: usize,
    },
    /// Settings that arti does not take.
    #[error("tor cannot be set up so: {detail}")]
    Settings {
        /// Which and why.
        detail: String,
    },
    /// The folders of Tor's state cannot be used.
    #[error("tor's folder cannot be used: {detail}")]
    Storage {
        /// Why, without the path.
        detail: String,
    },
    /// Another process has the state folder.
    #[error("tor's folder is used by another process")]
    InUse,
    /// The network requires a newer program; see `docs/decisions/0011-obsolete-tor.md`.
    #[error("the tor network requires a newer version of maimo")]
    Obsolete,
    /// Not connected in time.
    #[error("not connected to tor within {seconds} s{}", reason(*.blocked))]
    NotConnected {
        /// How long was waited.
        seconds: u64,
        /// What seems to stand in the way.
        blocked: Option<&'static str>,
    },
    /// Arti failed.
    #[error("tor does not work: {detail}")]
    Arti {
        /// Arti's kind of error.
        detail: String,
    },
}

fn reason(blocked: Option<&'static str>) -> String {
    blocked.map_or_else(String::new, |blocked| format!(": {blocked}"))
}

const UPDATE: &str =
    "update maimo; nothing that is stored is affected, and system tor works meanwhile";
const LOOK_AT_NETWORK: &str =
    "check the internet connection and the clock; where tor is blocked, configure bridges";
const LOOK_AT_FOLDER: &str = "make the home folder and those above it writable by you alone, and see that the disk is not full";

impl TorError {
    /// Says in our words what arti reports.
    pub(crate) fn from_arti(error: &arti_client::Error) -> Self {
        let detail = error.kind().to_string();
        match error.kind() {
            ArtiKind::SoftwareDeprecated => Self::Obsolete,
            ArtiKind::LocalResourceAlreadyInUse => Self::InUse,
            ArtiKind::InvalidConfig | ArtiKind::FeatureDisabled => Self::Settings { detail },
            ArtiKind::FsPermissions
            | ArtiKind::PersistentStateAccessFailed
            | ArtiKind::PersistentStateCorrupted
            | ArtiKind::CacheAccessFailed
            | ArtiKind::CacheCorrupted
            | ArtiKind::NoHomeDirectory => Self::Storage { detail },
            _ => Self::Arti { detail },
        }
    }
}

impl Classify for TorError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Bridge { .. } | Self::PluggableTransport { .. } | Self::Settings { .. } => {
                ErrorKind::Config
            }
            Self::Storage { .. } | Self::InUse => ErrorKind::LocalIo,
            Self::Obsolete | Self::NotConnected { .. } | Self::Arti { .. } => {
                ErrorKind::TorUnavailable
            }
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NotConnected { .. } | Self::Arti { .. } | Self::InUse => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Bridge { .. } => "a bridge line is ADDRESS:PORT FINGERPRINT",
            Self::PluggableTransport { .. } => {
                "use a bridge without one, or a system tor that runs the transport"
            }
            Self::Settings { .. } => "correct the section on tor in the configuration",
            Self::Storage { .. } => LOOK_AT_FOLDER,
            Self::InUse => "end the other process, or give this node a home of its own",
            Self::Obsolete => UPDATE,
            Self::NotConnected { .. } | Self::Arti { .. } => LOOK_AT_NETWORK,
        })
    }
}

impl From<TorError> for TransportError {
    fn from(error: TorError) -> Self {
        let hint = error.hint().unwrap_or(LOOK_AT_NETWORK);
        let detail = match error {
            TorError::Arti { detail } => detail,
            other => other.to_string(),
        };
        Self::Tor { detail, hint }
    }
}

/// Says in our words why arti has no stream to an onion service.
pub(crate) fn no_stream(error: &arti_client::Error) -> TransportError {
    let detail = match error.kind() {
        ArtiKind::OnionServiceNotFound => "nobody has announced this onion service of late",
        ArtiKind::OnionServiceNotRunning => "the onion service is announced but does not answer",
        ArtiKind::OnionServiceMissingClientAuth | ArtiKind::OnionServiceWrongClientAuth => {
            "the onion service admits only clients that it knows"
        }
        ArtiKind::OnionServiceAddressInvalid => "no such onion service can exist",
        ArtiKind::OnionServiceConnectionFailed
        | ArtiKind::OnionServiceProtocolViolation
        | ArtiKind::TorNetworkTimeout
        | ArtiKind::RemoteNetworkTimeout
        | ArtiKind::ExitTimeout
        | ArtiKind::CircuitCollapse
        | ArtiKind::CircuitRefused
        | ArtiKind::RelayTooBusy
        | ArtiKind::TransientFailure
        | ArtiKind::NoPath => "no circuit to the onion service could be built",
        ArtiKind::RemoteStreamClosed
        | ArtiKind::RemoteStreamReset
        | ArtiKind::RemoteStreamError
        | ArtiKind::RemoteConnectionRefused
        // What arti says where the other end closed the circuit instead of answering on it, as services do for other ports.
        | ArtiKind::BadApiUsage => "the onion service is there, but not on this port",
        _ => return TorError::from_arti(error).into(),
    };
    TransportError::Unreachable {
        detail: detail.to_owned(),
    }
}
