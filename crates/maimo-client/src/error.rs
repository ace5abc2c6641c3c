//! [`ClientError`]: what any operation of the engine may end with, by what its reader would do about it.

use std::{io, path::PathBuf};

use maimo_core::{
    custody::{CapExceeded, Refusal, UploadRefusal},
    error::{Classify, ErrorKind, Retry},
};
use maimo_net::service::ServiceError;
use maimo_vault::descent::Astray;
use thiserror::Error;

use crate::progress::Cancelled;

/// What [`ClientError::Database`] calls the node's state.
pub(crate) const STATE_FILE: &str = "node's state file";

/// Why an operation failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no node in this home folder.
    #[error("no node at {}", .0.display())]
    NoNode(PathBuf),
    /// There is one already.
    #[error("there is a node at {} already", .0.display())]
    NodeExists(PathBuf),
    /// Another process works on this home.
    #[error("another maimo process works on {}", .0.display())]
    Locked(PathBuf),
    /// The passphrase does not open the key file, or none was given.
    #[error("the passphrase does not open this node's key")]
    WrongPassphrase,
    /// The words are not a phrase, or not this store's.
    #[error("{0}")]
    Phrase(String),
    /// What the caller gave cannot be done.
    #[error("{message}")]
    Input {
        /// What is wrong with it.
        message: String,
        /// What to do next.
        hint: Option<&'static str>,
    },
    /// No channel is open yet, or none of that name.
    #[error("{0}")]
    NoChannel(String),
    /// The local disk or system failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The catalog or the node's state file failed.
    #[error("the {file} cannot be used")]
    Database {
        /// Which of the two.
        file: &'static str,
        /// What the database said.
        #[source]
        source: rusqlite::Error,
    },
    /// The node's state file is gone.
    #[error("the node's state file is missing")]
    StateLost,
    /// The key file is not what was written there.
    #[error("the key file is damaged: {0}")]
    Key(String),
    /// Local state that does not hold together.
    #[error("local state does not hold together: {0}")]
    Corrupt(String),
    /// A channel's provider refused, failed or is away.
    #[error("channel {channel}: {source}")]
    Provider {
        /// The channel's name.
        channel: String,
        /// What it answered.
        source: ServiceError,
    },
    /// What a provider returned is not what its root says.
    #[error("channel {channel} returned {what} that does not match its root hash")]
    WrongBytes {
        /// The channel's name.
        channel: String,
        /// What was asked for.
        what: String,
    },
    /// A channel shows a state that does not follow the one seen.
    #[error("channel {channel}: {source}")]
    Astray {
        /// The channel's name.
        channel: String,
        /// How it went astray.
        source: Astray,
    },
    /// It was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// A rule of Maimo's own would have been broken; nothing was sent.
    #[error("refused by a rule of Maimo's own: {0}")]
    Bug(String),
}

impl ClientError {
    /// Returns what is known of a cap that was exceeded, if that is what failed.
    pub const fn cap_exceeded(&self) -> Option<&CapExceeded> {
        match self {
            Self::Provider {
                source:
                    ServiceError::Refused(Refusal::CapExceeded(cap))
                    | ServiceError::UploadRefused(UploadRefusal::CapExceeded(cap)),
                ..
            } => Some(cap),
            _ => None,
        }
    }

    /// Returns whether this machine's disk, or what the user may have of it, is full.
    pub fn is_disk_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            Self::Database { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }

    /// Returns a closure that makes an error of a failed file operation.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

impl Classify for ClientError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NoNode(_)
            | Self::NodeExists(_)
            | Self::WrongPassphrase
            | Self::Phrase(_)
            | Self::Input { .. }
            | Self::NoChannel(_)
            | Self::Cancelled(_) => ErrorKind::BadInput,
            Self::Locked(_) | Self::Io { .. } => ErrorKind::LocalIo,
            Self::Database { .. } | Self::StateLost | Self::Key(_) | Self::Corrupt(_) => {
                ErrorKind::LocalCorrupt
            }
            Self::Provider { source, .. } => source.kind(),
            Self::WrongBytes { .. } | Self::Astray { .. } => ErrorKind::ProviderMisbehaved,
            Self::Bug(_) => ErrorKind::Bug,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Provider { source, .. } => source.retry(),
            Self::Locked(_) => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoNode(_) => Some("run `maimo init`"),
            Self::Locked(_) => {
                Some("wait until it is done, or end it; a lock never outlives its process")
            }
            Self::Input { hint, .. } => *hint,
            Self::NoChannel(_) => {
                Some("run `maimo channel open DIRECTORY`, or `maimo channel list`")
            }
            Self::StateLost
            | Self::Database {
                file: STATE_FILE, ..
            } => Some(
                "run `maimo recover` with a provider's address: it begins this node's state anew; nothing stored is lost",
            ),
            Self::Key(_) => Some(
                "give the 24 words to `maimo init --phrase-file FILE` in an empty home, then run `maimo recover`",
            ),
            Self::Database { .. } | Self::Corrupt(_) => Some(
                "delete the catalog file: it is rebuilt from the provider; `maimo recover` rebuilds everything from the phrase",
            ),
            Self::Provider { source, .. } => source.hint(),
            Self::WrongBytes { .. } => Some(
                "run `maimo verify --read-all` to see what is lost, then `maimo channel repair`",
            ),
            Self::Astray { source, .. } => source.hint(),
            _ => None,
        }
    }
}
