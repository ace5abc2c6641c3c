//! Status and roots: how a node stands, from what it knows itself.

use maimo_core::{check_code::check_words, clock::Timestamp, id::RootHash};
use maimo_vault::name::SourceId;

use crate::{catalog::Totals, damage::DamageReport, error::ClientError, mirror::Role, view::View};

/// How a node stands.
#[derive(Debug, Clone)]
pub struct StatusReport {
    /// This machine in the store.
    pub source: SourceId,
    /// What its owner calls it.
    pub label: String,
    /// The labels of all machines whose paths are in the store.
    pub sources: Vec<String>,
    /// The store sequence of the newest state known; 0 before the first commit.
    pub sequence: u64,
    /// The channels opened here, with their roots.
    pub channels: Vec<RootReport>,
    /// What the store holds.
    pub totals: Totals,
    /// Why the catalog has not all that the store holds, if it has not: it was lost, and a provider is away.
    pub behind: Option<String>,
    /// Whether the phrase was verified once.
    pub is_phrase_verified: bool,
    /// What is known to be damaged, by channel; channels of which nothing is are not in it.
    pub damage: Vec<DamageReport>,
    /// Channels whose provider showed a state that does not follow what was seen, with how often and when last: both signed heads are kept.
    pub astray: Vec<(String, u64, Timestamp)>,
}

/// The 32 bytes of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootReport {
    /// The channel's name.
    pub channel: String,
    /// Where its provider is.
    pub address: String,
    /// The root last acknowledged or read; [`RootHash::NONE`] before the first.
    pub root: RootHash,
    /// Its sequence number.
    pub sequence: u64,
    /// The six words that its provider has for the channel, too.
    pub check: String,
    /// The day on which its provider last answered, as its first moment by UTC; nothing where none was noted yet.
    pub last_seen: Option<Timestamp>,
    /// What it is to the store.
    pub role: Role,
    /// How many commits it is behind the newest state known; 0 where the store is not on it.
    pub behind: u64,
}

impl View {
    /// Returns what this node is and how it stands; asks no provider.
    ///
    /// # Errors
    ///
    /// As [`Client::status`](crate::client::Client::status).
    pub fn status(&self) -> Result<StatusReport, ClientError> {
        let reader = self.reader()?;
        let sources = reader.sources()?;
        Ok(StatusReport {
            source: self.source(),
            label: self.node().label().to_owned(),
            sources: sources.into_iter().map(|(_, label)| label).collect(),
            sequence: reader.position()?.sequence,
            channels: self.root()?,
            totals: reader.totals()?,
            behind: self.known().err().map(|error| error.to_string()),
            is_phrase_verified: self.node().flag(crate::client::PHRASE_VERIFIED)?,
            damage: self.damage_reports()?,
            astray: self.astray_channels()?,
        })
    }

    /// Returns the 32 bytes of each channel, as they were last acknowledged or read.
    ///
    /// # Errors
    ///
    /// As [`Client::root`](crate::client::Client::root).
    pub fn root(&self) -> Result<Vec<RootReport>, ClientError> {
        let node = self.node();
        let seen = node.all_seen()?;
        let rows = node.channels()?;
        let report = |row: crate::node_state::ChannelRow| {
            let seen = seen.iter().find(|(id, _)| *id == row.id);
            let (root, sequence) =
                seen.map_or((RootHash::NONE, 0), |(_, seen)| (seen.root, seen.sequence));
            Ok(RootReport {
                address: row.address().to_owned(),
                channel: row.name,
                root,
                sequence,
                check: check_words(&row.id).join(" "),
                last_seen: node.last_reached(row.id)?,
                role: self.role(row.id)?,
                behind: self.behind(row.id)?,
            })
        };
        rows.into_iter().map(report).collect()
    }
}
