//! Where a provider says it is: its signed list, taken up where it is newer than the one known, so that a provider can move.
//!
//! Only what the auth key of the channel has signed is taken up. Whoever took a list up writes it into the journal with the next run, where the
//! store's other machines find it; a machine that has an older list never writes that over it.

use core::time::Duration;

use futures_executor::block_on;
use maimo_core::{address::AddressList, id::ChannelId, identity::AuthPublicKey};
use maimo_net::service::ServiceError;
use maimo_vault::journal::record::Record;

use crate::{
    engine::Engine,
    error::ClientError,
    node_state::{ChannelRow, Noted},
    progress::{Control, Event},
    session::OpenChannel,
};

/// How often a provider is asked where it is.
const ASKED_EVERY: Duration = Duration::from_hours(24);

impl Engine {
    /// Asks providers at the other end of a network where they are, if that was not done for long. It is upkeep: what goes wrong is told.
    pub(crate) fn look_for_moves(
        &mut self,
        channels: &[std::sync::Arc<OpenChannel>],
        control: &Control,
    ) -> Result<(), ClientError> {
        for channel in channels {
            let now = self.clock.now();
            let asked = self.node.noted(Noted::AddressesAsked, channel.id)?;
            let since = now.since(maimo_core::clock::Timestamp(asked));
            if !channel.session.appetite().is_remote || since < ASKED_EVERY {
                continue;
            }
            match self.ask_addresses(channel) {
                Err(error @ ClientError::Provider { .. }) => {
                    control.tell(Event::Notice(error.to_string()));
                }
                asked => asked?,
            }
        }
        Ok(())
    }

    /// Asks a channel's provider where it is, and takes that up.
    pub(crate) fn ask_addresses(&mut self, channel: &OpenChannel) -> Result<(), ClientError> {
        let list =
            block_on(channel.session.addresses()).map_err(|source| channel.failed(source))?;
        let now = self.clock.now();
        self.node.note(Noted::AddressesAsked, channel.id, now.0)?;
        let (Some(list), Some(mut row)) = (list, self.opened(channel.id)?) else {
            return Ok(());
        };
        let taken = take_up(&mut row, &list, &channel.auth);
        if taken.map_err(|source| channel.failed(source))? {
            self.node.put_channel(&row)?;
        }
        Ok(())
    }

    /// Returns a channel opened here.
    fn opened(&self, id: ChannelId) -> Result<Option<ChannelRow>, ClientError> {
        let rows = self.node.channels()?;
        Ok(rows.into_iter().find(|row| row.id == id))
    }

    /// Returns the records that say where providers have moved to, with the sequence of the list that each is from.
    pub(crate) fn moves(&self) -> Result<Vec<(ChannelId, u64, Record)>, ClientError> {
        let mut moves = Vec::new();
        let rows = self.node.channels()?;
        if rows.iter().all(|row| row.list == 0) {
            return Ok(moves);
        }
        let known = self.catalog.reader()?.channels()?;
        for row in rows {
            let journal = known.iter().find(|(id, _)| *id == row.id);
            let is_other =
                journal.is_some_and(|(_, info)| !info.closed && info.addresses != row.addresses);
            if is_other && row.list > self.node.noted(Noted::AddressesTold, row.id)? {
                let record = Record::Channel {
                    channel: row.id,
                    auth: row.auth,
                    name: row.name,
                    addresses: row.addresses,
                    closed: false,
                };
                moves.push((row.id, row.list, record));
            }
        }
        Ok(moves)
    }
}

/// Takes up a list of addresses if it is newer than the one known. Returns whether it was.
pub(super) fn take_up(
    row: &mut ChannelRow,
    list: &[u8],
    auth: &AuthPublicKey,
) -> Result<bool, ServiceError> {
    let list = AddressList::verify(list, auth).map_err(|error| ServiceError::Misbehaved {
        detail: error.to_string(),
    })?;
    if list.sequence() <= row.list {
        return Ok(false);
    }
    let addresses = list.addresses().as_slice().iter();
    row.addresses = addresses.map(ToString::to_string).collect();
    row.list = list.sequence();
    Ok(true)
}
