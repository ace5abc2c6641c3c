//! Clients as the provider's owner deals with them: registered, listed, given another cap, revoked.
//!
//! ```text
//!   registered --revoked--> writes refused, reads answered --the grace is over--> reads refused, all freed by the next sweep
//!        ^                        |        '------ now: at once -----^                       |
//!        '------------------------+------------- registered again ---------------------------'
//! ```

use std::sync::PoisonError;

use maimo_core::{
    address::Network,
    clock::Timestamp,
    custody::{Terms, Totals},
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
};

use super::{Inner, Provider, now, register};
use crate::{
    error::ProviderError,
    group_commit::Durability,
    ledger::{
        ChannelRow, changes,
        entry::{self, Change},
    },
    sweep::SweepReport,
};

/// A client as the provider's owner sees it.
#[derive(Debug, Clone)]
pub struct ClientStatus {
    /// The client's key.
    pub client: ClientPublicKey,
    /// The network on which it has its channel.
    pub network: Network,
    /// The channel.
    pub channel: ChannelId,
    /// What its owner calls it.
    pub label: String,
    /// Cap, reserve, grace.
    pub terms: Terms,
    /// What is held and charged.
    pub totals: Totals,
    /// Its newest root.
    pub root: RootHash,
    /// That root's sequence number.
    pub sequence: u64,
    /// When it was registered.
    pub registered: Timestamp,
    /// When it was last here: to the moment if it changed something, else to the day.
    pub seen: Timestamp,
    /// Whether it was revoked.
    pub revoked: Option<Revoked>,
}

/// How a client was revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Since when it may not write.
    pub since: Timestamp,
    /// The first moment at which it may not read either, and at which all it stored may be freed.
    pub reads_until: Timestamp,
}

/// When a revoked client's bytes are freed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// After the grace that it was promised, during which it may still read.
    AfterGrace,
    /// At once.
    Now,
}

impl Provider {
    /// Lets a client of a network store here, or changes its label and terms. One that was revoked may write again.
    ///
    /// # Errors
    ///
    /// No volume whose log could take it in; a log that cannot be written.
    pub fn register(
        &self,
        network: Network,
        client: ClientPublicKey,
        label: &str,
        terms: Terms,
    ) -> Result<(), ProviderError> {
        let channel = self.inner.keys.channel(network, &client);
        let log = self.inner.log_for_new()?;
        let mut label = label.to_owned();
        label.truncate(label.floor_char_boundary(entry::LABEL_BYTES_MAX));
        self.inner.committer.run(move |batch| {
            let now = now();
            let log = batch.rows.channel(&channel)?.map_or(log, |row| row.log);
            register(batch, channel, client, label, terms, log, now)
        })?;
        Ok(())
    }

    /// Returns all clients, the oldest first.
    ///
    /// # Errors
    ///
    /// A ledger that cannot be read.
    pub fn clients(&self) -> Result<Vec<ClientStatus>, ProviderError> {
        let rows = self.inner.readers.read(|rows| {
            let mut found = Vec::new();
            for channel in rows.channels()? {
                found.extend(rows.channel(&channel)?);
            }
            Ok(found)
        })?;
        let status = |row| status_of(&self.inner, row);
        Ok(rows.into_iter().filter_map(status).collect())
    }

    /// Returns the client of a label, or of a key in its text form. Of several with one label, the one that is not revoked.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NoClient`], [`ProviderError::Ambiguous`].
    pub fn client(&self, name: &str) -> Result<ClientStatus, ProviderError> {
        let mut found = self.clients()?;
        found.retain(|client| client.label == name || client.client.to_string() == name);
        if found.iter().any(|client| client.revoked.is_none()) {
            found.retain(|client| client.revoked.is_none());
        }
        let name = name.to_owned();
        let first = found
            .pop()
            .ok_or(ProviderError::NoClient { name: name.clone() })?;
        if found.is_empty() {
            return Ok(first);
        }
        Err(ProviderError::Ambiguous { name })
    }

    /// Gives a client another cap. A reserve of a tenth stays one. A cap below what is charged frees nothing: no upload fits until enough came
    /// free.
    ///
    /// # Errors
    ///
    /// As [`Self::client`]; [`ProviderError::IsRevoked`]; a log that cannot be written.
    pub fn set_cap(&self, name: &str, cap: u64) -> Result<ClientStatus, ProviderError> {
        let found = self.client(name)?;
        let (channel, client) = (found.channel, found.client);
        let is_changed = self.inner.committer.run(move |batch| {
            let row = batch.rows.channel(&channel)?;
            let Some(row) = row.filter(|row| row.revoked.is_none()) else {
                return Ok(false);
            };
            let mut terms = row.terms;
            if terms.reserve == terms.cap / 10 {
                terms.reserve = cap / 10;
            }
            terms.cap = cap;
            register(batch, channel, client, row.label, terms, row.log, now())?;
            Ok(true)
        })?;
        if !is_changed {
            return Err(ProviderError::IsRevoked { label: found.label });
        }
        self.at(&channel, name)
    }

    /// Ends what a client may do: writes at once, reads when the grace is over or now. Then all that it stored is freed by a sweep; with
    /// [`Revocation::Now`] that is done here. Revoked again, the earlier end of the two counts.
    ///
    /// # Errors
    ///
    /// As [`Self::client`]; a log that cannot be written.
    pub fn revoke(
        &self,
        name: &str,
        revocation: Revocation,
        now: Timestamp,
    ) -> Result<(ClientStatus, SweepReport), ProviderError> {
        let channel = self.client(name)?.channel;
        self.inner.committer.run(move |batch| {
            let Some(row) = batch.rows.channel(&channel)? else {
                return Ok(());
            };
            let reads_until = match revocation {
                Revocation::AfterGrace => row.terms.grace(now).ends(now),
                Revocation::Now => now,
            };
            if row
                .revoked
                .is_some_and(|revoked| revoked.reads_until <= reads_until)
            {
                return Ok(());
            }
            let log = row.log;
            changes::revoke(batch.rows, row, reads_until, now)?;
            let change = Change::Revoked { reads_until };
            batch.record(log, channel, &change, now, Durability::Synced);
            Ok(())
        })?;
        // Whoever is sending now finds the pack closed, asks for it anew, and hears why not.
        let coming = &self.inner.coming;
        let mut coming = coming.lock().unwrap_or_else(PoisonError::into_inner);
        coming.retain(|(of, _), _| *of != channel);
        drop(coming);
        let swept = match revocation {
            Revocation::Now => self.inner.sweep_revoked(channel, now)?,
            Revocation::AfterGrace => SweepReport::default(),
        };
        Ok((self.at(&channel, name)?, swept))
    }

    fn at(&self, channel: &ChannelId, name: &str) -> Result<ClientStatus, ProviderError> {
        let row = self.inner.row(*channel)?;
        let status = row.and_then(|row| status_of(&self.inner, row));
        status.ok_or_else(|| ProviderError::NoClient {
            name: name.to_owned(),
        })
    }
}

impl Inner {
    /// Notes that a client is here, once a day at most: a record of each visit would say when it is awake, and cost a write.
    pub(crate) fn meet(&self, row: &ChannelRow, now: Timestamp) {
        let day = now.day();
        if row.met.max(row.seen) >= day {
            return;
        }
        let channel = row.state.channel;
        // Not worth failing for.
        let _ = self.committer.run(move |batch| {
            let Some(row) = batch.rows.channel(&channel)? else {
                return Ok(());
            };
            let log = row.log;
            changes::meet(batch.rows, row, day)?;
            batch.record(log, channel, &Change::Met, day, Durability::Lazy);
            Ok(())
        });
    }
}

fn status_of(inner: &Inner, row: ChannelRow) -> Option<ClientStatus> {
    let (client, channel) = (row.client(), row.state.channel);
    Some(ClientStatus {
        client,
        // A row of another provider's key could come from no log of ours.
        network: inner.keys.network_of(&channel, &client)?,
        channel,
        root: row.state.root(),
        sequence: row.state.sequence(),
        totals: row.state.totals,
        label: row.label,
        terms: row.terms,
        registered: row.registered,
        seen: row.seen.max(row.met),
        revoked: row.revoked.map(|revoked| Revoked {
            since: revoked.since,
            reads_until: revoked.reads_until,
        }),
    })
}

/// Returns an error unless a text may be a label: something that prints on one line, and is not taken for a key.
pub(super) fn checked_label(label: &str) -> Result<(), ProviderError> {
    let is_good = (1..=entry::LABEL_BYTES_MAX).contains(&label.len())
        && label.trim() == label
        && !label.chars().any(char::is_control)
        && label.parse::<ClientPublicKey>().is_err();
    if is_good {
        return Ok(());
    }
    Err(ProviderError::Label)
}

#[cfg(test)]
mod tests;
