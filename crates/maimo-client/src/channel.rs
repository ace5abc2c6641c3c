//! Channels: opening, listing, closing.

use futures_executor::block_on;
use maimo_core::{
    address::{Address, Network},
    check_code::check_words,
    clock::Timestamp,
    id::{ChannelId, RootHash},
};
use maimo_net::{connect::Load, service::WhichHead};
use maimo_vault::journal::record::Record;

use crate::{
    engine::{Engine, auth_key},
    error::ClientError,
    keys::channel_keys,
    mirror::Role,
    node_state::{ChannelRow, Noted},
    progress::Control,
};

mod addresses;
mod invitation;

use addresses::take_up;
use invitation::invited;

/// How many characters of an onion address make a channel's name.
const ONION_CHARACTERS: usize = 8;

/// Which channel is to be opened.
#[derive(Clone)]
pub struct OpenChannelRequest {
    /// Where its provider is (`dir:` and an absolute path for a folder), or the line of an invitation, which is a secret.
    pub address: String,
    /// What to call it; made from the address unless said.
    pub name: Option<String>,
}

impl core::fmt::Debug for OpenChannelRequest {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OpenChannelRequest")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl OpenChannelRequest {
    /// Asks for the channel at an address.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            name: None,
        }
    }
}

/// A channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelReport {
    /// What its owner calls it.
    pub name: String,
    /// Where its provider is.
    pub address: String,
    /// How many bytes may be charged; nothing where the provider does not answer.
    pub cap: Option<u64>,
    /// How many are.
    pub used: Option<u64>,
    /// The root last seen; [`RootHash::NONE`] before the first.
    pub root: RootHash,
    /// Its sequence number.
    pub sequence: u64,
    /// The six words that its provider has for it, too.
    pub check: String,
    /// The day on which its provider last answered, as its first moment by UTC; nothing where none was noted yet.
    pub last_seen: Option<Timestamp>,
    /// What it is to the store.
    pub role: Role,
    /// How many commits it is behind the newest state known; 0 where the store is not on it.
    pub behind: u64,
    /// Why the provider does not answer, if it does not.
    pub trouble: Option<String>,
}

impl Engine {
    pub(crate) fn open_channel(
        &mut self,
        request: &OpenChannelRequest,
        control: &Control,
    ) -> Result<ChannelReport, ClientError> {
        let invitation = invited(&request.address)?;
        let (auth, addresses) = if let Some(invitation) = &invitation {
            let offer = invitation.offer();
            let addresses = offer.addresses.as_slice().iter();
            (offer.provider, addresses.map(ToString::to_string).collect())
        } else {
            let address = request.address.clone();
            let auth = block_on(self.connector.identify(&address));
            let auth = auth.map_err(|source| ClientError::Provider {
                channel: name_of(&address),
                source,
            })?;
            (auth, vec![address])
        };
        let (id, keys) = channel_keys(&self.secret, &auth);
        let known = self.node.channels()?;
        let (mut row, is_resumed) = if let Some(row) = known.iter().find(|row| row.id == id) {
            if self.has_begun_on(id, control)? {
                // The same line again is how a cut is made up for: it may have been taken.
                if invitation.is_some() {
                    return self.report(row);
                }
                return Err(ClientError::Input {
                    message: format!("this provider is open already, as channel {}", row.name),
                    hint: Some("see `maimo channel list`"),
                });
            }
            (row.clone(), true)
        } else {
            let name = request.name.clone();
            let name = name.unwrap_or_else(|| name_of(addresses.first().map_or("", |a| a)));
            if known.iter().any(|row| row.name == name) {
                return Err(ClientError::Input {
                    message: format!("there is a channel called {name} already"),
                    hint: Some("give another name with --name"),
                });
            }
            let mut row = ChannelRow {
                id,
                auth: *auth.as_bytes(),
                name,
                addresses,
                list: 0,
            };
            if let Some(invitation) = &invitation {
                self.redeem(invitation, &keys, &mut row)?;
            }
            (row, false)
        };
        let channel = self.connect(&row, Load::Light)?;
        let has_begun = self.catalog.position()?.sequence > 0;
        // What a first commit here became was found out before.
        if !is_resumed
            && channel
                .call(channel.session.head(WhichHead::Newest))?
                .is_some()
        {
            return Err(ClientError::Input {
                message: "this provider holds a store of this phrase already".to_owned(),
                hint: Some("run `maimo recover` with its address"),
            });
        }
        if has_begun && !is_resumed {
            self.sync(control)?;
        }
        if channel.session.appetite().is_remote {
            if row.list == 0
                && let Some(list) = channel.call(channel.session.addresses())?
            {
                let taken = take_up(&mut row, &list, &auth);
                taken.map_err(|source| channel.failed(source))?;
            }
            let now = self.clock.now().0;
            self.node.note(Noted::AddressesAsked, id, now)?;
            self.node.note(Noted::AddressesTold, id, row.list)?;
        }
        self.node.put_channel(&row)?;
        let record = |closed| Record::Channel {
            channel: id,
            auth: row.auth,
            name: row.name.clone(),
            addresses: row.addresses.clone(),
            closed,
        };
        let begun = if has_begun {
            self.commit_records(&[record(false)], control)
        } else {
            let first = [
                Record::Source {
                    source: self.node.source(),
                    label: self.node.label().to_owned(),
                },
                record(false),
                Record::Layout {
                    epoch: 1,
                    channels: vec![id],
                },
            ];
            self.commit_records(&first, control)
        };
        match begun {
            Ok(_) => self.report(&row),
            // What was sent and not answered may have arrived: the channel stays, and the next sync finds out.
            Err(error @ ClientError::Provider { .. }) if !self.node.candidates(id)?.is_empty() => {
                Err(error)
            }
            Err(error) => {
                self.open.retain(|open| open.id != id);
                self.shown.remove(&id);
                self.node.forget_channel(id)?;
                Err(error)
            }
        }
    }

    /// Returns whether the journal knows a channel that was opened here: an opening that was cut off before is to be done over.
    fn has_begun_on(&mut self, id: ChannelId, control: &Control) -> Result<bool, ClientError> {
        let knows = |engine: &Self| {
            let known = engine.catalog.reader()?.channels()?;
            Ok::<_, ClientError>(
                known
                    .iter()
                    .any(|(known, info)| *known == id && !info.closed),
            )
        };
        if knows(self)? {
            return Ok(true);
        }
        self.sync(control)?;
        knows(self)
    }

    pub(crate) fn channel_reports(&mut self) -> Result<Vec<ChannelReport>, ClientError> {
        let rows = self.node.channels()?;
        rows.iter().map(|row| self.report(row)).collect()
    }

    fn report(&mut self, row: &ChannelRow) -> Result<ChannelReport, ClientError> {
        let seen = self.node.seen(row.id)?.map(|row| row.seen);
        let (sequence, root) = seen.map_or((0, RootHash::NONE), |seen| (seen.sequence, seen.root));
        let status = self
            .channel(row.id)
            .and_then(|channel| channel.call(channel.session.status()));
        let (status, trouble) = match status {
            Ok(status) => {
                self.reached(row.id);
                (Some(status), None)
            }
            Err(error @ ClientError::Provider { .. }) => (None, Some(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(ChannelReport {
            name: row.name.clone(),
            address: row.address().to_owned(),
            cap: status.as_ref().map(|status| status.terms.cap),
            used: status
                .as_ref()
                .map(|status| status.totals.charged(&status.terms)),
            root,
            sequence,
            check: check_words(&row.id).join(" "),
            last_seen: self.node.last_reached(row.id)?,
            role: self.role(row.id)?,
            behind: self.behind(row.id)?,
            trouble,
        })
    }

    pub(crate) fn close_channel(
        &mut self,
        name: &str,
        control: &Control,
    ) -> Result<ChannelReport, ClientError> {
        let rows = self.node.channels()?;
        let row = rows
            .iter()
            .find(|row| row.name == name)
            .ok_or_else(|| ClientError::NoChannel(format!("no channel is called {name}")))?;
        if self.layout()?.contains(&row.id) {
            return Err(ClientError::Input {
                message: format!("the store is kept on channel {name}"),
                hint: Some(
                    "`maimo channel unmirror NAME` takes it out of the layout; the first one only after `maimo channel first` made another the first",
                ),
            });
        }
        auth_key(row)?;
        self.sync(control)?;
        let report = self.report(row)?;
        let record = Record::Channel {
            channel: row.id,
            auth: row.auth,
            name: row.name.clone(),
            addresses: row.addresses.clone(),
            closed: true,
        };
        self.commit_records(&[record], control)?;
        self.open.retain(|open| open.id != row.id);
        self.shown.remove(&row.id);
        self.node.forget_channel(row.id)?;
        Ok(report)
    }
}

/// Makes a name from an address: the last part of a folder's path, the host, the beginning of an onion service's.
pub(crate) fn name_of(address: &str) -> String {
    if let Ok(address) = address.parse::<Address>() {
        let host = address.host();
        return match address.network() {
            Network::Onion => host.chars().take(ONION_CHARACTERS).collect(),
            Network::Tcp => host,
        };
    }
    let path = address.strip_prefix("dir:").unwrap_or(address);
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    parts.next().unwrap_or("channel").to_owned()
}
