//! [`AuditSession`]: what a provider does for whoever has a ticket.
//!
//! The newest head, the proof that it descends from the ticket's, nodes of the inventories, and answers to challenges with its own word for them:
//! nothing else, and no more than the ticket's budget. Every answer is counted, durably, before it leaves.

use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    address::Network,
    audit::{AuditStatement, Challenge, Stated, Stratum},
    clock::Timestamp,
    id::RootHash,
    reference::ObjectRef,
    ticket::{Ticket, TicketId},
};
use maimo_net::service::{
    ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead, StatedAnswer,
    TicketUse, WhichHead,
};

use super::{ClientSession, Result, bad, not_allowed};
use crate::{
    error::of_ledger,
    group_commit::Batch,
    ledger::{ChannelRow, HeadKey, LedgerError, Record, RecordKind, Rows},
    provider::{Inner, now},
    ticket_book::{Spent, TicketBook},
};

/// A session that gives what a ticket gives.
pub(crate) struct AuditSession {
    of: ClientSession,
    ticket: Ticket,
}

impl AuditSession {
    /// Opens a session for a ticket whose signature has been checked.
    pub(crate) fn open(inner: Arc<Inner>, network: Network, ticket: Ticket) -> Result<Self> {
        let of = ClientSession::new(inner, network, *ticket.client());
        let session = Self { of, ticket };
        session.check(0)?;
        Ok(session)
    }

    /// Returns an error unless the ticket is good now, and has so many slices left.
    fn check(&self, slices: u64) -> Result<()> {
        let (inner, network) = (&self.of.inner, self.of.network);
        let auth = inner.keys.auth(network).public();
        self.ticket
            .check(&auth, now())
            .map_err(|error| refused(&error.to_string()))?;
        let channel = self.of.channel;
        let book = inner.readers.read(|rows| {
            let row = rows.channel(&channel)?;
            if row.is_none_or(|row| row.is_over(now())) {
                return Ok(None);
            }
            book(rows, &channel.0).map(|(book, _)| Some(book))
        });
        let book = book.map_err(|error| of_ledger(&error))?;
        let book = book.ok_or_else(|| refused("this provider stores nothing for its client"))?;
        book.check(self.ticket.terms(), slices, now())
            .map_err(spent)
    }

    /// Counts an answer, durably, or says why it may not be given.
    fn charge(&self, bytes: usize, slices: u64) -> Result<()> {
        let channel = self.of.channel;
        let terms = self.ticket.terms().clone();
        let counted = self.of.inner.committer.run(move |batch| {
            let Some(row) = batch.rows.channel(&channel)? else {
                return Ok(Err(Spent::Revoked));
            };
            change_book(batch, &row, |book| {
                book.charge(&terms, bytes as u64, slices, now())
            })
        })?;
        counted.map_err(spent)
    }

    /// Does what is read for an answer, and counts it before it is given.
    fn counted<T>(
        &self,
        slices: u64,
        work: impl FnOnce(&ClientSession) -> Result<T>,
        bytes: impl FnOnce(&T) -> usize,
    ) -> Result<T> {
        self.check(slices)?;
        let answer = work(&self.of)?;
        self.charge(bytes(&answer), slices)?;
        Ok(answer)
    }

    fn head_now(&self, which: WhichHead) -> Result<Option<ShownHead>> {
        if !matches!(which, WhichHead::Newest) {
            return Err(ServiceError::not_given());
        }
        self.counted(
            0,
            |of| of.head_now(which),
            |shown| {
                shown.as_ref().map_or(0, |shown| {
                    let commit = shown.commit.as_ref().map_or(0, Bytes::len);
                    shown.head.len() + shown.ancestry.len() + commit
                })
            },
        )
    }

    fn prove_now(&self, sequence: u64) -> Result<Bytes> {
        if sequence != self.ticket.terms().sequence {
            return Err(ServiceError::not_given());
        }
        self.counted(0, |of| of.prove_now(sequence), Bytes::len)
    }

    fn nodes_now(&self, nodes: &[ObjectRef]) -> Result<Vec<Bytes>> {
        self.counted(
            0,
            |of| of.nodes_now(nodes),
            |nodes| nodes.iter().map(Bytes::len).sum(),
        )
    }

    fn audit_now(&self, bytes: &Bytes) -> Result<StatedAnswer> {
        let challenge = Challenge::parse(bytes).map_err(not_allowed)?;
        let slices = Stratum::ALL.map(|stratum| challenge.positions(stratum).len() as u64);
        self.is_given(challenge.root())?;
        self.counted(
            slices.into_iter().sum(),
            |of| {
                let answer = of.audit_now(bytes)?;
                let stated = Stated {
                    ticket: self.ticket.terms().id,
                    channel: of.channel,
                    root: *challenge.root(),
                    challenge: RootHash::of(bytes),
                    answer: ObjectRef::of(&answer),
                    time: now(),
                    instance: of.inner.instance,
                };
                let key = of.inner.keys.auth(of.network);
                let statement = AuditStatement::sign(stated, key).encode().into();
                Ok(StatedAnswer { statement, answer })
            },
            |stated| stated.statement.len() + stated.answer.len(),
        )
    }

    /// Returns an error unless a head is the ticket's or a later one: what was there before is none of its bearer's affair.
    fn is_given(&self, root: &RootHash) -> Result<()> {
        let found = self.of.read_rows(|rows, channel| {
            let stored = rows.head(channel.number, HeadKey::Root(*root))?;
            Ok(stored.map(|stored| stored.row.sequence))
        })?;
        match found.flatten() {
            Some(sequence) if sequence >= self.ticket.terms().sequence => Ok(()),
            _ => Err(ServiceError::NotHeld {
                what: "a head of that root",
            }),
        }
    }
}

/// What the client itself may ask about its tickets.
impl ClientSession {
    pub(super) fn tickets_now(&self) -> Result<Vec<TicketUse>> {
        let found = self.read_rows(|rows, _| Ok(book(rows, &self.channel.0)?.0))?;
        Ok(found.unwrap_or_default().uses().to_vec())
    }

    /// A client who was revoked itself may still end what it gave.
    pub(super) fn revoke_ticket_now(&self, ticket: TicketId, expires: Timestamp) -> Result<()> {
        self.change_even_revoked(move |batch, row| {
            let revoked = change_book(batch, &row, |book| book.revoke(ticket, expires, now()))?;
            Ok(revoked.map_err(|_| bad("there are too many tickets until one expires")))
        })
    }
}

/// Reads a channel's book, and how often it was written.
fn book(rows: &dyn Rows, name: &[u8; 32]) -> core::result::Result<(TicketBook, u64), LedgerError> {
    match rows.record(RecordKind::Tickets, name)? {
        Some(record) => Ok((TicketBook::parse(&record.body)?, record.version)),
        None => Ok((TicketBook::default(), 0)),
    }
}

/// Changes a channel's book, and writes it if that made a difference: also where what was asked for is refused.
fn change_book<T>(
    batch: &mut Batch<'_>,
    row: &ChannelRow,
    change: impl FnOnce(&mut TicketBook) -> T,
) -> core::result::Result<T, LedgerError> {
    let name = row.state.channel.0;
    let (old, version) = book(batch.rows, &name)?;
    let mut new = old.clone();
    let outcome = change(&mut new);
    if new != old {
        let at = now();
        let record = Record {
            kind: RecordKind::Tickets,
            name,
            // At least the time: a book that was taken out of the rows and begins anew must outdo what of it is in a log.
            version: (version + 1).max(at.0),
            log: row.log,
            body: new.encode(),
        };
        batch.put_record(&record, at)?;
    }
    Ok(outcome)
}

fn spent(spent: Spent) -> ServiceError {
    refused(spent.why())
}

fn refused(why: &str) -> ServiceError {
    ServiceError::TicketRefused {
        detail: why.to_owned(),
    }
}

impl Session for AuditSession {
    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        Box::pin(async move { self.head_now(which) })
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        Box::pin(async move { self.prove_now(sequence) })
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(async move { self.nodes_now(&nodes) })
    }

    fn audit_stated(&self, challenge: Bytes) -> Reply<'_, StatedAnswer> {
        Box::pin(async move { self.audit_now(&challenge) })
    }

    fn status(&self) -> Reply<'_, ChannelStatus> {
        not_given()
    }

    fn put(&self, _: Put) -> Reply<'_, PutReply> {
        not_given()
    }

    fn put_node(&self, _: Bytes) -> Reply<'_, ()> {
        not_given()
    }

    fn move_head(&self, _: Bytes) -> Reply<'_, Bytes> {
        not_given()
    }

    fn read(&self, _: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        not_given()
    }

    fn audit(&self, _: Bytes) -> Reply<'_, Bytes> {
        not_given()
    }

    fn digest(&self, _: Bytes) -> Reply<'_, [u8; 32]> {
        not_given()
    }
}

fn not_given<T: Send + 'static>() -> Reply<'static, T> {
    Box::pin(async { Err(ServiceError::not_given()) })
}

#[cfg(test)]
mod tests;
