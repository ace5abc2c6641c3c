//! Invitations: the owner makes them, one client redeems each.
//!
//! ```text
//!   open --redeemed--> used by one client, for ever its
//!     |--withdrawn--> withdrawn
//!     '--its time is over: refused, as long as it is remembered
//! ```
//!
//! Redeeming is one batch: the invitation is marked as used first, the client registered second, both in one log. If a crash keeps only the
//! first, the client that was not told comes again, and is registered then; nobody else ever can be.

use maimo_core::{
    address::{Addresses, Network},
    clock::Timestamp,
    custody::{Grace, Terms},
    id::ChannelId,
    identity::ClientPublicKey,
    invitation::{Invitation, InvitationToken, Offer},
};
use maimo_net::{connect::Welcome, service::ServiceError};
use zeroize::Zeroizing;

use super::{Inner, Provider, clients::checked_label, now, random, register};
use crate::{
    error::ProviderError,
    group_commit::Batch,
    invitation::{Answer, Invited, State, UNKNOWN, renewed},
    ledger::{LedgerError, Record, RecordKind, Rows},
    volume::VolumeId,
};

/// What an invitation is to offer, and to whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteRequest {
    /// The network of the channel.
    pub network: Network,
    /// What the owner calls the client; no two at a time have the same.
    pub label: String,
    /// How many bytes may be charged.
    pub cap: u64,
    /// The grace; 30 days if not said.
    pub grace: Option<Grace>,
    /// How many bytes held but not live are not charged; a tenth of the cap if not said.
    pub reserve: Option<u64>,
    /// The first moment at which it can no longer be redeemed.
    pub expires: Timestamp,
}

/// An invitation as the provider's owner sees it. Its line is shown once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationStatus {
    /// The network of the channel.
    pub network: Network,
    /// What the owner calls the client.
    pub label: String,
    /// What it offers.
    pub terms: Terms,
    /// When it was made.
    pub made: Timestamp,
    /// The first moment at which it can no longer be redeemed.
    pub expires: Timestamp,
    /// What became of it.
    pub state: InvitationState,
}

/// What became of an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvitationState {
    /// It can be redeemed.
    Open,
    /// A client redeemed it.
    Used {
        /// Which.
        by: ClientPublicKey,
        /// When.
        at: Timestamp,
    },
    /// It was withdrawn.
    Withdrawn,
    /// Nobody redeemed it in time.
    Expired,
}

impl Provider {
    /// Makes an invitation that leads one client to `addresses`. Nobody, the provider itself included, can show it again.
    ///
    /// # Errors
    ///
    /// [`ProviderError::Label`], [`ProviderError::LabelTaken`]; [`ProviderError::Offer`] where an invitation cannot say that; no volume whose log
    /// could take it in.
    pub fn invite(
        &self,
        request: InviteRequest,
        addresses: Addresses,
        now: Timestamp,
    ) -> Result<Invitation, ProviderError> {
        let InviteRequest {
            network,
            label,
            cap,
            grace,
            reserve,
            expires,
        } = request;
        checked_label(&label)?;
        let refused = |what| Err(ProviderError::Offer { what });
        if addresses.network() != network {
            return refused("the addresses are of another network");
        }
        if expires <= now {
            return refused("it would have expired already");
        }
        let terms = Terms::new(cap, reserve, grace);
        let offer = Offer {
            provider: self.inner.keys.auth(network).public(),
            addresses,
            expires,
            cap,
            reserve: terms.reserve,
            grace: terms.grace(now),
        };
        let token = Zeroizing::new(random::<{ InvitationToken::LENGTH }>()?);
        let token = InvitationToken::from_bytes(&token);
        let name = token.hash();
        let Some(invitation) = Invitation::new(offer, token) else {
            return refused("the addresses are too long, or the grace is no whole seconds");
        };
        let invited = Invited {
            network,
            label,
            terms,
            made: now,
            expires,
            state: State::Open,
        };
        let log = self.inner.log_for_new()?;
        let is_made = self.inner.committer.run(move |batch| {
            if is_taken(batch.rows, &invited.label, now)? {
                return Ok(Err(ProviderError::LabelTaken {
                    label: invited.label,
                }));
            }
            let record = Record {
                kind: RecordKind::Invitation,
                name,
                version: 1,
                log,
                body: invited.encode(),
            };
            batch.put_record(&record, now)?;
            Ok(Ok(()))
        })?;
        is_made?;
        Ok(invitation)
    }

    /// Returns all invitations that are remembered, the oldest first.
    ///
    /// # Errors
    ///
    /// A ledger that cannot be read.
    pub fn invitations(&self, now: Timestamp) -> Result<Vec<InvitationStatus>, ProviderError> {
        let records = self
            .inner
            .readers
            .read(|rows| rows.records(RecordKind::Invitation))?;
        let mut found = Vec::with_capacity(records.len());
        for record in records {
            let invited = Invited::parse(&record.body)?;
            let state = match invited.state {
                State::Open if invited.is_open(now) => InvitationState::Open,
                State::Open => InvitationState::Expired,
                State::Used { by, at } => InvitationState::Used { by, at },
                State::Withdrawn => InvitationState::Withdrawn,
            };
            found.push(InvitationStatus {
                network: invited.network,
                label: invited.label,
                terms: invited.terms,
                made: invited.made,
                expires: invited.expires,
                state,
            });
        }
        Ok(found)
    }

    /// Withdraws the open invitation of this label.
    ///
    /// # Errors
    ///
    /// [`ProviderError::NoInvitation`]; a log that cannot be written.
    pub fn withdraw(&self, label: &str, now: Timestamp) -> Result<(), ProviderError> {
        let wanted = label.to_owned();
        let is_withdrawn = self.inner.committer.run(move |batch| {
            for record in batch.rows.records(RecordKind::Invitation)? {
                let invited = Invited::parse(&record.body)?;
                if invited.label == wanted && invited.is_open(now) {
                    let state = State::Withdrawn;
                    let body = Invited { state, ..invited }.encode();
                    let version = record.version + 1;
                    let record = Record {
                        version,
                        body,
                        ..record
                    };
                    batch.put_record(&record, now)?;
                    return Ok(true);
                }
            }
            Ok(false)
        })?;
        if is_withdrawn {
            return Ok(());
        }
        Err(ProviderError::NoInvitation {
            label: label.to_owned(),
        })
    }
}

impl Inner {
    /// Takes up the invitation of this token for a client of a network.
    pub(crate) fn redeem(
        &self,
        network: Network,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        let name = token.hash();
        let channel = self.keys.channel(network, &client);
        // A client that comes again needs none.
        let log = self.log_for_new();
        let terms = self
            .committer
            .run(move |batch| redeem(batch, network, channel, client, name, log, now()))??;
        Ok(Welcome {
            terms,
            addresses: self.addresses(network)?,
        })
    }
}

fn redeem(
    batch: &mut Batch<'_>,
    network: Network,
    channel: ChannelId,
    client: ClientPublicKey,
    name: [u8; 32],
    log: Result<VolumeId, ServiceError>,
    now: Timestamp,
) -> Result<Result<Terms, ServiceError>, LedgerError> {
    let Some(record) = batch.rows.record(RecordKind::Invitation, &name)? else {
        return Ok(Err(refused(UNKNOWN)));
    };
    let invited = Invited::parse(&record.body)?;
    let answer = invited.answer(network, &client, now);
    if let Answer::Refused(why) = answer {
        return Ok(Err(refused(why)));
    }
    let row = batch.rows.channel(&channel)?;
    if let (Answer::TakenBefore, Some(row)) = (answer, &row) {
        // It was good for one relation, and that one was ended.
        return Ok(match row.revoked {
            Some(_) => Err(ServiceError::Revoked),
            None => Ok(row.terms),
        });
    }
    let log = match (&row, log) {
        (Some(row), _) => row.log,
        (None, Ok(log)) => log,
        (None, Err(error)) => return Ok(Err(error)),
    };
    let terms = match &row {
        Some(row) if row.state.standing.is_some() => renewed(row.terms, invited.terms, now),
        _ => invited.terms,
    };
    let label = invited.label.clone();
    let used = Invited {
        state: State::Used {
            by: client,
            at: now,
        },
        ..invited
    };
    let used = Record {
        version: record.version + 1,
        log,
        body: used.encode(),
        ..record
    };
    batch.put_record(&used, now)?;
    register(batch, channel, client, label, terms, log, now)?;
    Ok(Ok(terms))
}

/// Returns whether a client or an open invitation has this label.
fn is_taken(rows: &dyn Rows, label: &str, now: Timestamp) -> Result<bool, LedgerError> {
    for record in rows.records(RecordKind::Invitation)? {
        let invited = Invited::parse(&record.body)?;
        if invited.label == label && invited.is_open(now) {
            return Ok(true);
        }
    }
    for channel in rows.channels()? {
        let row = rows.channel(&channel)?;
        if row.is_some_and(|row| row.label == label && row.revoked.is_none()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn refused(why: &str) -> ServiceError {
    ServiceError::InvitationRefused {
        detail: why.to_owned(),
    }
}

#[cfg(test)]
mod tests;
