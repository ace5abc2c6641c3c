//! Why a provider cannot be opened or changed, and how what goes wrong inside is told to a client.

use std::{error::Error, io, path::PathBuf};

use maimo_core::{
    custody::TermsError,
    error::{Classify, ErrorKind, Retry},
};
use maimo_net::service::ServiceError;
use thiserror::Error;

use crate::{keys::KeysError, ledger::LedgerError, volume::VolumeError};

/// Why a provider's own operations fail: those of its owner, not those of clients.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// There is no provider in the folder.
    #[error("no provider is at {}", path.display())]
    NotThere {
        /// The folder.
        path: PathBuf,
    },
    /// There is one already.
    #[error("a provider is at {} already", path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error("another process has the provider open")]
    InUse,
    /// The provider's keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The file that lists volumes is not what was written there.
    #[error("the list of volumes at {} cannot be read", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
    },
    /// A volume.
    #[error("the volume at {}", path.display())]
    Volume {
        /// Its folder.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: VolumeError,
    },
    /// No such volume is this provider's.
    #[error("no volume of this provider is at {}", path.display())]
    NoVolume {
        /// The folder.
        path: PathBuf,
    },
    /// A volume that still has something.
    #[error("the volume at {} is not empty", path.display())]
    NotEmpty {
        /// Its folder.
        path: PathBuf,
    },
    /// What is on a volume fits on no other.
    #[error("no other volume has room for what is on {}", path.display())]
    NoRoom {
        /// The folder of the volume.
        path: PathBuf,
    },
    /// A text that cannot be a label.
    #[error("a label is one line of 1 to 256 bytes, and no key")]
    Label,
    /// Another client or open invitation has it.
    #[error("there is a client or an open invitation called {label} already")]
    LabelTaken {
        /// The label.
        label: String,
    },
    /// No client is called so.
    #[error("no client is called {name}")]
    NoClient {
        /// What was asked for: a label or a key.
        name: String,
    },
    /// Several clients are called so.
    #[error("several clients are called {name}")]
    Ambiguous {
        /// The label.
        name: String,
    },
    /// The client is revoked.
    #[error("client {label} is revoked")]
    IsRevoked {
        /// The client's label.
        label: String,
    },
    /// No open invitation is called so.
    #[error("there is no open invitation for {label}")]
    NoInvitation {
        /// The label.
        label: String,
    },
    /// What an invitation cannot offer.
    #[error("an invitation cannot say this: {what}")]
    Offer {
        /// What is wrong.
        what: &'static str,
    },
    /// The ledger, which could not be made anew either.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The ledger has to be made anew, for which all volumes must be there.
    #[error("the ledger has to be made anew, and volume {} is not mounted", path.display())]
    RebuildNeeds {
        /// The volume's folder.
        path: PathBuf,
    },
    /// Terms that may not be.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A change that the provider did not take in.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The work was stopped.
    #[error("interrupted")]
    Interrupted,
    /// Any other failure of the file system.
    #[error("{what} failed")]
    Io {
        /// What was tried.
        what: &'static str,
        /// How it failed.
        #[source]
        source: io::Error,
    },
}

impl ProviderError {
    /// Returns what turns an error of the file system into one of the provider.
    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }

    /// Returns how this is told to a client.
    pub fn to_service(&self) -> ServiceError {
        match self {
            Self::Service(error) => error.clone(),
            error => ServiceError::Unavailable {
                detail: chain(error),
            },
        }
    }
}

impl Classify for ProviderError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::NotThere { .. }
            | Self::Exists { .. }
            | Self::NoVolume { .. }
            | Self::NotEmpty { .. }
            | Self::NoRoom { .. } => ErrorKind::Config,
            Self::Label
            | Self::LabelTaken { .. }
            | Self::NoClient { .. }
            | Self::Ambiguous { .. }
            | Self::IsRevoked { .. }
            | Self::NoInvitation { .. }
            | Self::Offer { .. } => ErrorKind::BadInput,
            Self::Settings { .. } => ErrorKind::LocalCorrupt,
            Self::InUse | Self::RebuildNeeds { .. } | Self::Interrupted | Self::Io { .. } => {
                ErrorKind::LocalIo
            }
            Self::Keys(error) => error.kind(),
            Self::Volume { source, .. } => source.kind(),
            Self::Ledger(error) => error.kind(),
            Self::Terms(error) => error.kind(),
            Self::Service(error) => error.kind(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::InUse | Self::RebuildNeeds { .. } | Self::Io { .. } => Retry::AfterWaiting,
            Self::Keys(error) => error.retry(),
            Self::Volume { source, .. } => source.retry(),
            Self::Ledger(error) => error.retry(),
            Self::Service(error) => error.retry(),
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::InUse => Some("a folder is a provider for one process at a time: end the other"),
            Self::RebuildNeeds { .. } => Some("mount the disk, then try again"),
            Self::LabelTaken { .. } => Some(
                "choose another label, or see `maimo client list`, `client cap` and `client withdraw`",
            ),
            Self::NoClient { .. } | Self::NoInvitation { .. } => Some("see `maimo client list`"),
            Self::Ambiguous { .. } => {
                Some("name the client by its key, as `maimo client list` has it")
            }
            Self::IsRevoked { .. } => Some("invite the client again"),
            Self::NotEmpty { .. } => Some("drain the volume first"),
            Self::NoRoom { .. } => Some("add a volume"),
            Self::Keys(error) => error.hint(),
            Self::Volume { source, .. } => source.hint(),
            Self::Ledger(error) => error.hint(),
            Self::Service(error) => error.hint(),
            _ => None,
        }
    }
}

/// Returns an error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Returns how a failure that is nobody's fault but ours is told to a client.
pub(crate) fn of_ledger(error: &LedgerError) -> ServiceError {
    match error {
        LedgerError::Log(error) => of_volume(error, "the log"),
        error => ServiceError::Unavailable {
            detail: chain(error),
        },
    }
}

/// Returns how a volume's failure is told to a client that asked for `what`.
pub(crate) fn of_volume(error: &VolumeError, what: &'static str) -> ServiceError {
    match error {
        VolumeError::Full => ServiceError::DiskFull {
            detail: chain(error),
        },
        VolumeError::NotHeld => ServiceError::NotHeld { what },
        VolumeError::WrongBytes => ServiceError::WrongBytes,
        VolumeError::DamagedPack { .. } | VolumeError::DamagedEntry => ServiceError::Damaged {
            what,
            detail: chain(error),
        },
        VolumeError::Length { .. } | VolumeError::Range { .. } => ServiceError::BadRequest {
            detail: chain(error),
        },
        error => ServiceError::Unavailable {
            detail: chain(error),
        },
    }
}
