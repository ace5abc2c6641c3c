//! [`CommandError`]: how a command fails, in the words a user reads and the exit code a script reads.
//!
//! The libraries say who is at fault; which number that is at the command line is decided here and nowhere else. Unreachable and wrong bytes
//! never share a code.

use std::{
    error::Error,
    fmt::{self, Write as _},
    io,
};

use maimo_client::{dump::DumpError, error::ClientError};
use maimo_core::{
    custody::{CapExceeded, Refusal, UploadRefusal},
    error::{Classify, ErrorKind},
};
use maimo_net::service::ServiceError;
use maimo_provider::error::ProviderError;
use serde::{Deserialize, Serialize};

use crate::quantity::{Count, Moment, Size};

/// The exit codes: a contract with scripts. Those that restic has too mean the same there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All of it was done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// Done in part: some sources could not be read.
    Partial = 3,
    /// There is no node here.
    NoNode = 10,
    /// The passphrase is wrong, or none was given.
    WrongPassphrase = 12,
    /// Wrong or missing bytes.
    AuditFailed = 20,
    /// The provider is offline, slow or refuses.
    Provider = 21,
    /// A rollback or a fork.
    Rollback = 22,
    /// The cap is exceeded.
    CapExceeded = 23,
    /// Interrupted.
    Interrupted = 130,
}

impl Exit {
    /// Returns the number.
    pub(crate) const fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct CommandError {
    exit: Exit,
    kind: &'static str,
    message: String,
    hint: Option<String>,
    quiet: bool,
    in_use: bool,
}

impl CommandError {
    /// Makes an error of its exit code, the name of who is at fault, and a message: lower case, no full stop.
    pub(crate) fn new(exit: Exit, kind: &'static str, message: impl Into<String>) -> Self {
        Self {
            exit,
            kind,
            message: message.into(),
            hint: None,
            quiet: false,
            in_use: false,
        }
    }

    /// Makes an error of what the user gave.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "bad_input", message)
    }

    /// Makes an error of the configuration.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "config", message)
    }

    /// Makes an error of a local file operation.
    pub(crate) fn io(action: &str, path: &std::path::Path, error: &io::Error) -> Self {
        Self::new(
            Exit::Failed,
            "local_io",
            format!("cannot {action} {}: {error}", path.display()),
        )
    }

    /// Makes an error of any that classifies itself, with its causes.
    pub(crate) fn classified(exit: Exit, error: &(impl Classify + Error)) -> Self {
        Self::new(exit, kind_name(error.kind()), with_causes(error)).hint_from(error.hint())
    }

    /// Returns an error if something was left out, each told when it happened.
    pub(crate) fn in_part(errors: u64) -> Result<(), Self> {
        match errors {
            0 => Ok(()),
            _ => Err(Self::new(
                Exit::Partial,
                "local_io",
                format!(
                    "done in part: {} paths had errors, told above",
                    Count(errors)
                ),
            )),
        }
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn hint_from(mut self, hint: Option<&'static str>) -> Self {
        self.hint = hint.map(str::to_owned);
        self
    }

    /// Returns how the process is to end.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// Returns whether another process has what was to be opened.
    pub(crate) const fn is_in_use(&self) -> bool {
        self.in_use
    }

    /// Returns whether nobody is there to read it.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Returns what to do next.
    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the object that ends standard error with `--json`.
    pub(crate) fn view(&self) -> ErrorView<'_> {
        ErrorView {
            message_type: "error",
            kind: self.kind,
            code: self.exit.code(),
            message: &self.message,
            hint: self.hint.as_deref(),
        }
    }
}

/// An error on its way from one process of ours to another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorText {
    code: u8,
    kind: String,
    message: String,
    hint: Option<String>,
}

impl ErrorText {
    /// Returns what is sent of an error.
    pub(crate) fn of(error: &CommandError) -> Self {
        Self {
            code: error.exit.code(),
            kind: error.kind.to_owned(),
            message: error.message.clone(),
            hint: error.hint.clone(),
        }
    }

    /// Returns the error that was sent.
    pub(crate) fn into_error(self) -> CommandError {
        const EXITS: [Exit; 9] = [
            Exit::Usage,
            Exit::Partial,
            Exit::NoNode,
            Exit::WrongPassphrase,
            Exit::AuditFailed,
            Exit::Provider,
            Exit::Rollback,
            Exit::CapExceeded,
            Exit::Interrupted,
        ];
        const KINDS: [&str; 9] = [
            "bad_input",
            "config",
            "local_io",
            "local_corrupt",
            "network",
            "tor_unavailable",
            "provider_refused",
            "provider_misbehaved",
            "interrupted",
        ];
        let exit = EXITS.into_iter().find(|exit| exit.code() == self.code);
        let kind = KINDS.into_iter().find(|kind| *kind == self.kind);
        CommandError {
            hint: self.hint,
            ..CommandError::new(
                exit.unwrap_or(Exit::Failed),
                kind.unwrap_or("bug"),
                self.message,
            )
        }
    }
}

/// An error as a program reads it.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorView<'a> {
    message_type: &'static str,
    kind: &'static str,
    code: u8,
    message: &'a str,
    hint: Option<&'a str>,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for CommandError {}

/// A failed write to standard output. Who closed the pipe has read enough: that is not told.
impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        let closed = error.kind() == io::ErrorKind::BrokenPipe;
        Self {
            quiet: closed,
            ..Self::new(
                if closed { Exit::Done } else { Exit::Failed },
                "local_io",
                format!("cannot write the results: {error}"),
            )
        }
    }
}

impl From<ClientError> for CommandError {
    fn from(error: ClientError) -> Self {
        if let Some(cap) = error.cap_exceeded() {
            let told = Self::classified(Exit::CapExceeded, &error);
            // The library counts bytes.
            let sized = format!("the cap would be exceeded by {}", Size(cap.over_by));
            return Self {
                message: told.message.replace(&cap.to_string(), &sized),
                ..told
            }
            .hint(freeing(cap));
        }
        if matches!(error, ClientError::Cancelled(_)) {
            return Self::new(Exit::Interrupted, "interrupted", "interrupted")
                .hint("what was cut off is finished by running it again");
        }
        Self {
            in_use: matches!(error, ClientError::Locked(_)),
            ..Self::classified(client_exit(&error), &error)
        }
    }
}

impl From<DumpError> for CommandError {
    fn from(error: DumpError) -> Self {
        match error {
            DumpError::Client(error) => error.into(),
            DumpError::Output(error) => error.into(),
            error => {
                let exit = match error.kind() {
                    ErrorKind::ProviderMisbehaved => Exit::AuditFailed,
                    ErrorKind::Network | ErrorKind::TorUnavailable | ErrorKind::ProviderRefused => {
                        Exit::Provider
                    }
                    _ => Exit::Failed,
                };
                Self::classified(exit, &error)
            }
        }
    }
}

impl From<ProviderError> for CommandError {
    fn from(error: ProviderError) -> Self {
        let exit = match &error {
            ProviderError::NotThere { .. } | ProviderError::Volume { .. } => Exit::Provider,
            ProviderError::Interrupted => Exit::Interrupted,
            ProviderError::Service(error) => service_exit(error),
            _ => Exit::Failed,
        };
        Self {
            in_use: matches!(error, ProviderError::InUse),
            ..Self::classified(exit, &error)
        }
    }
}

fn client_exit(error: &ClientError) -> Exit {
    match error {
        ClientError::NoNode(_) => Exit::NoNode,
        ClientError::WrongPassphrase => Exit::WrongPassphrase,
        ClientError::Provider { source, .. } => service_exit(source),
        ClientError::WrongBytes { .. } => Exit::AuditFailed,
        ClientError::Astray { .. } => Exit::Rollback,
        ClientError::Cancelled(_) => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn service_exit(error: &ServiceError) -> Exit {
    match error {
        ServiceError::Refused(Refusal::CapExceeded(_))
        | ServiceError::UploadRefused(UploadRefusal::CapExceeded(_)) => Exit::CapExceeded,
        ServiceError::NotHeld { .. } | ServiceError::Damaged { .. } => Exit::AuditFailed,
        // A matter of what this node was told, not of the provider.
        ServiceError::NotAllowed { .. } => Exit::Usage,
        _ if error.kind() == ErrorKind::Bug => Exit::Failed,
        _ => Exit::Provider,
    }
}

/// Says how much comes free when: all that helps whoever met the cap.
fn freeing(cap: &CapExceeded) -> String {
    // By days: whoever waits does not care for hours.
    let mut days: Vec<(String, u64)> = Vec::new();
    for freeing in &cap.frees {
        let date = Moment::from(freeing.date).date();
        match days.last_mut().filter(|(last, _)| *last == date) {
            Some((_, bytes)) => *bytes = bytes.saturating_add(freeing.bytes),
            None => days.push((date, freeing.bytes)),
        }
    }
    let mut hint = String::new();
    for (date, bytes) in days {
        let size = Size(bytes);
        // Writing to a string cannot fail.
        let _ = write!(hint, "{size} come free on {date}; ");
    }
    hint + "let go of more with `maimo remove` and `maimo prune`, or ask for a larger cap"
}

/// Returns the stable name of a kind.
fn kind_name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadInput => "bad_input",
        ErrorKind::Config => "config",
        ErrorKind::LocalIo => "local_io",
        ErrorKind::LocalCorrupt => "local_corrupt",
        ErrorKind::Network => "network",
        ErrorKind::TorUnavailable => "tor_unavailable",
        ErrorKind::ProviderRefused => "provider_refused",
        ErrorKind::ProviderMisbehaved => "provider_misbehaved",
        _ => "bug",
    }
}

/// Joins an error and its causes by colons, leaving out a cause that its effect has spelt out already.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
