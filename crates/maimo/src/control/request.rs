//! What is asked of a provider by its owner, and what is answered: plain data that goes through a socket as it is.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use maimo_core::address;
use maimo_provider::provider::{VolumeState, VolumeStatus};
use serde::{Deserialize, Serialize};

use crate::error::{CommandError, ErrorText};

/// What the owner wants of their provider.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Request {
    /// Who the provider is, its volumes and its clients.
    Status,
    /// All volumes.
    Volumes,
    /// A folder becomes a volume, or gets another capacity.
    AddVolume { path: PathBytes, capacity: u64 },
    /// All that a volume holds goes to the others.
    DrainVolume { path: PathBytes },
    /// A volume is forgotten.
    RemoveVolume { path: PathBytes },
    /// All that is stored is read again.
    Scrub,
    /// All clients, and all invitations that are remembered.
    Clients,
    /// An invitation.
    Invite(InviteArgs),
    /// A client gets another cap.
    Cap { client: String, cap: u64 },
    /// A client may do no more.
    Revoke { client: String, is_now: bool },
    /// An invitation cannot be redeemed any more.
    Withdraw { label: String },
}

/// What an invitation is to say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct InviteArgs {
    pub(crate) label: String,
    pub(crate) network: Network,
    pub(crate) cap: u64,
    pub(crate) reserve: Option<u64>,
    pub(crate) grace: Option<GraceText>,
    /// Milliseconds since 1970.
    pub(crate) expires: u64,
    /// Where the provider is; where it says itself, if none are given.
    pub(crate) addresses: Vec<String>,
}

/// A network by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Network {
    Tor,
    Tcp,
}

impl From<Network> for address::Network {
    fn from(network: Network) -> Self {
        match network {
            Network::Tor => Self::Onion,
            Network::Tcp => Self::Tcp,
        }
    }
}

impl From<address::Network> for Network {
    fn from(network: address::Network) -> Self {
        match network {
            address::Network::Onion => Self::Tor,
            address::Network::Tcp => Self::Tcp,
        }
    }
}

/// A grace as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum GraceText {
    /// So many milliseconds.
    Ms(u64),
    /// What is let go is never freed.
    Endless,
}

/// What a request comes to.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Answer {
    Status(StatusRow),
    Volumes(Vec<VolumeRow>),
    Scrubbed(ScrubRow),
    Clients {
        clients: Vec<ClientRow>,
        invitations: Vec<InvitationRow>,
    },
    Invited {
        /// The secret line.
        line: String,
        row: InvitationRow,
    },
    Client {
        client: ClientRow,
        /// How many bytes were freed by it.
        freed: u64,
    },
    Done,
}

/// How a provider stands.
#[derive(Serialize, Deserialize)]
pub(crate) struct StatusRow {
    pub(crate) faces: Vec<FaceRow>,
    pub(crate) volumes: Vec<VolumeRow>,
    pub(crate) clients: Vec<ClientRow>,
    /// How many connections of clients are open; nothing where no node runs.
    pub(crate) connections: Option<u64>,
}

/// Who and where a provider is on one network.
#[derive(Serialize, Deserialize)]
pub(crate) struct FaceRow {
    pub(crate) network: Network,
    pub(crate) identity: String,
    /// Where it last said that it is; none before it did.
    pub(crate) addresses: Vec<String>,
}

/// A line from the process that has the provider open.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    /// The request was read whole, and is now performed: without this line it was not.
    Heard,
    /// How much of how much is done.
    Progress(u64, u64),
    Answer(Answer),
    Error(ErrorText),
}

/// A path's very bytes: it need not be text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathBytes(Vec<u8>);

impl PathBytes {
    pub(crate) fn of(path: &Path) -> Self {
        Self(path.as_os_str().as_bytes().to_vec())
    }

    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.0))
    }
}

/// A volume.
#[derive(Serialize, Deserialize)]
pub(crate) struct VolumeRow {
    path: PathBytes,
    capacity: u64,
    used: u64,
    free: u64,
    state: VolumeStateRow,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum VolumeStateRow {
    Ready,
    Draining,
    Unavailable,
    Failed,
}

impl From<VolumeStatus> for VolumeRow {
    fn from(volume: VolumeStatus) -> Self {
        Self {
            path: PathBytes::of(&volume.path),
            capacity: volume.capacity,
            used: volume.used,
            free: volume.free,
            state: match volume.state {
                VolumeState::Ready => VolumeStateRow::Ready,
                VolumeState::Draining => VolumeStateRow::Draining,
                VolumeState::Unavailable => VolumeStateRow::Unavailable,
                // Failed, or a state that this version has no word for.
                _ => VolumeStateRow::Failed,
            },
        }
    }
}

impl From<VolumeRow> for VolumeStatus {
    fn from(row: VolumeRow) -> Self {
        Self {
            path: row.path.path(),
            capacity: row.capacity,
            used: row.used,
            free: row.free,
            state: match row.state {
                VolumeStateRow::Ready => VolumeState::Ready,
                VolumeStateRow::Draining => VolumeState::Draining,
                VolumeStateRow::Unavailable => VolumeState::Unavailable,
                VolumeStateRow::Failed => VolumeState::Failed,
            },
        }
    }
}

/// What a scrub found, its damages in words.
#[derive(Serialize, Deserialize)]
pub(crate) struct ScrubRow {
    pub(crate) packs: u64,
    pub(crate) bytes: u64,
    pub(crate) damaged: Vec<String>,
}

/// A client; times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct ClientRow {
    pub(crate) label: String,
    pub(crate) identity: String,
    pub(crate) network: Network,
    pub(crate) check: String,
    pub(crate) cap: u64,
    pub(crate) used: u64,
    pub(crate) sequence: u64,
    pub(crate) registered: u64,
    pub(crate) last_seen: u64,
    pub(crate) revoked: Option<u64>,
    pub(crate) reads_until: Option<u64>,
}

/// An invitation without its secret; times are milliseconds since 1970.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct InvitationRow {
    pub(crate) label: String,
    pub(crate) network: Network,
    pub(crate) cap: u64,
    pub(crate) made: u64,
    pub(crate) expires: u64,
    /// `open`, `used`, `withdrawn` or `expired`.
    pub(crate) state: String,
}

/// Returns the error of an answer to another request than was made.
pub(crate) fn astray() -> CommandError {
    CommandError::new(
        crate::error::Exit::Failed,
        "bug",
        "the node that runs here answers what was not asked",
    )
    .hint("is it of another version of Maimo? start it again")
}
