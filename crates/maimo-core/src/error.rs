//! Who is at fault, whether to try again, and what to do next: the three questions every error of Maimo answers.

use core::time::Duration;

use crate::codec::ParseError;

/// Who or what is at fault. Two kinds exist only where a reader would act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What the caller or user gave.
    BadInput,
    /// The configuration.
    Config,
    /// The local disk or system.
    LocalIo,
    /// Local state that does not hold together.
    LocalCorrupt,
    /// The network between here and the provider.
    Network,
    /// Tor itself.
    TorUnavailable,
    /// The provider said no, as it may.
    ProviderRefused,
    /// The provider returned what cannot be right.
    ProviderMisbehaved,
    /// Maimo itself.
    Bug,
}

/// Whether the same request may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// At once.
    Immediate,
    /// After a pause of the caller's choice.
    AfterWaiting,
    /// Not before this long has passed.
    After(Duration),
    /// Never, as it stands.
    Never,
}

/// What every public error of Maimo can say of itself.
pub trait Classify {
    /// Who is at fault.
    fn kind(&self) -> ErrorKind;

    /// Whether trying again may help.
    fn retry(&self) -> Retry;

    /// What to do next, where there is something to say.
    fn hint(&self) -> Option<&'static str> {
        None
    }
}

impl Classify for ParseError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Version { .. } | Self::Suite { .. } | Self::UnknownCritical { .. } => {
                Some("update Maimo: a newer version wrote this")
            }
            _ => None,
        }
    }
}
