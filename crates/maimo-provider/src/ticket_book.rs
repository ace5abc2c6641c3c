//! [`TicketBook`]: what a provider knows of one channel's tickets: how much was asked for with each, and which are revoked.
//!
//! A ticket is the client's to give, without telling the provider; what the provider keeps must not be the client's to make large. So a book has a
//! fixed number of places. A place is free again when the ticket in it has expired, and for no other reason: a ticket that is forgotten earlier
//! could be spent twice.
//!
//! Invariant: what a ticket's row says was used never falls, and is written before the answer leaves.

use core::time::Duration;

use maimo_core::{
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    ticket::{TicketId, TicketTerms},
};
use maimo_net::service::{TICKETS_MAX, TicketUse};

use crate::ledger::LedgerError;

/// How many tickets that were not revoked a book has at a time: the other places are for revocations.
const USED_MAX: usize = TICKETS_MAX - 16;
/// How long an expired ticket is remembered: a clock that was put back must not make it good again.
const KEPT_AFTER: Duration = Duration::from_hours(48);
/// What the shortest answer counts, in bytes. Each charge is a record in the log: answers of nothing must not be free.
pub(crate) const ANSWER_BYTES_MIN: u64 = 1024;
const VERSION: u8 = 1;
const WHAT: &str = "the tickets of a channel in the log";

/// The tickets of one channel that were met or revoked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TicketBook {
    uses: Vec<TicketUse>,
}

/// Why a ticket gives nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Revoked,
    Slices,
    Bytes,
    /// There is no place for it.
    TooMany,
}

impl Spent {
    pub(crate) const fn why(self) -> &'static str {
        match self {
            Self::Revoked => "it was revoked",
            Self::Slices => "its budget has not so many slices left",
            Self::Bytes => "its budget has not so many bytes left",
            Self::TooMany => {
                "too many tickets of this channel are in use until one of them expires"
            }
        }
    }
}

impl TicketBook {
    /// Returns the tickets, in the order they were met.
    pub(crate) fn uses(&self) -> &[TicketUse] {
        &self.uses
    }

    /// Returns whether all that is in it is of no use any more.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.uses.iter().all(|ticket| is_stale(ticket, now))
    }

    /// Returns an error if a ticket has not so much left.
    pub(crate) fn check(
        &self,
        terms: &TicketTerms,
        slices: u64,
        now: Timestamp,
    ) -> Result<(), Spent> {
        let mut copy = self.clone();
        copy.charge(terms, ANSWER_BYTES_MIN, slices, now)
    }

    /// Counts an answer against a ticket's budget. The slices were read and count even where the bytes are refused: else an auditor could have
    /// disks read for ever.
    pub(crate) fn charge(
        &mut self,
        terms: &TicketTerms,
        bytes: u64,
        slices: u64,
        now: Timestamp,
    ) -> Result<(), Spent> {
        let ticket = self.place(terms.id, terms.expires, USED_MAX, now)?;
        if ticket.is_revoked {
            return Err(Spent::Revoked);
        }
        let all_slices = ticket.slices.saturating_add(slices);
        if all_slices > terms.budget.slices {
            return Err(Spent::Slices);
        }
        ticket.slices = all_slices;
        let all_bytes = ticket.bytes.saturating_add(bytes.max(ANSWER_BYTES_MIN));
        if all_bytes > terms.budget.bytes {
            return Err(Spent::Bytes);
        }
        ticket.bytes = all_bytes;
        Ok(())
    }

    /// Makes a ticket worth nothing.
    pub(crate) fn revoke(
        &mut self,
        ticket: TicketId,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), Spent> {
        self.place(ticket, expires, TICKETS_MAX, now)?.is_revoked = true;
        Ok(())
    }

    /// Returns a ticket's row, a new one where it has none and there is room below `max`.
    fn place(
        &mut self,
        id: TicketId,
        expires: Timestamp,
        max: usize,
        now: Timestamp,
    ) -> Result<&mut TicketUse, Spent> {
        self.uses.retain(|ticket| !is_stale(ticket, now));
        let at = if let Some(at) = self.uses.iter().position(|ticket| ticket.id == id) {
            at
        } else {
            let is_in_use = |ticket: &&TicketUse| max == TICKETS_MAX || !ticket.is_revoked;
            let in_use = self.uses.iter().filter(is_in_use).count();
            if in_use >= max || self.uses.len() >= TICKETS_MAX {
                return Err(Spent::TooMany);
            }
            self.uses.push(TicketUse {
                id,
                expires,
                met: now,
                bytes: 0,
                slices: 0,
                is_revoked: false,
            });
            self.uses.len() - 1
        };
        let ticket = &mut self.uses[at];
        // Its client may have signed two of one id: what is known of it is kept as long as either is good.
        ticket.expires = ticket.expires.max(expires);
        Ok(ticket)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_varint(self.uses.len() as u64);
        for ticket in &self.uses {
            out.put(&ticket.id.0);
            out.put_u64(ticket.expires.0);
            out.put_u64(ticket.met.0);
            out.put_u64(ticket.bytes);
            out.put_u64(ticket.slices);
            out.put_u8(u8::from(ticket.is_revoked));
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        Self::read(bytes).map_err(|_| LedgerError::Damaged { what: WHAT })
    }

    fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        if reader.u8(WHAT)? != VERSION {
            return Err(ParseError::Invalid { what: WHAT });
        }
        let count = reader.count(TICKETS_MAX as u64, TicketId::LENGTH + 33, WHAT)?;
        let mut uses = Vec::with_capacity(count);
        for _ in 0..count {
            uses.push(TicketUse {
                id: TicketId(reader.array(WHAT)?),
                expires: Timestamp(reader.u64(WHAT)?),
                met: Timestamp(reader.u64(WHAT)?),
                bytes: reader.u64(WHAT)?,
                slices: reader.u64(WHAT)?,
                is_revoked: match reader.u8(WHAT)? {
                    0 => false,
                    1 => true,
                    _ => return Err(ParseError::Invalid { what: WHAT }),
                },
            });
        }
        reader.finish()?;
        Ok(Self { uses })
    }
}

fn is_stale(ticket: &TicketUse, now: Timestamp) -> bool {
    ticket.expires.after(KEPT_AFTER) <= now
}

#[cfg(test)]
mod tests {
    use maimo_core::{id::RootHash, identity::AuthSecretKey, ticket::Budget};

    use super::*;

    fn terms(id: u8, bytes: u64, slices: u64) -> TicketTerms {
        TicketTerms {
            id: TicketId([id; 16]),
            provider: AuthSecretKey::from_seed(&[2; 32]).public(),
            addresses: None,
            sequence: 1,
            root: RootHash([1; 32]),
            expires: Timestamp(1_000_000),
            budget: Budget { bytes, slices },
        }
    }

    const NOW: Timestamp = Timestamp(1000);

    #[test]
    fn a_budget_is_spent_to_the_last_byte_and_slice_and_no_further() {
        let ticket = terms(1, 10_000, 7);
        let mut book = TicketBook::default();
        book.charge(&ticket, 6000, 4, NOW).unwrap();
        assert_eq!(book.charge(&ticket, 1024, 4, NOW), Err(Spent::Slices));
        assert_eq!(book.uses()[0].slices, 4);
        assert_eq!(book.charge(&ticket, 4001, 1, NOW), Err(Spent::Bytes));
        assert_eq!((book.uses()[0].slices, book.uses()[0].bytes), (5, 6000));
        book.charge(&ticket, 4000, 2, NOW).unwrap();
        assert_eq!(book.check(&ticket, 0, NOW), Err(Spent::Bytes));
        assert_eq!(book.uses()[0].bytes, 10_000);
    }

    #[test]
    fn an_answer_of_nothing_is_not_free() {
        let mut book = TicketBook::default();
        book.charge(&terms(1, 10_000, 7), 0, 0, NOW).unwrap();
        assert_eq!(book.uses()[0].bytes, ANSWER_BYTES_MIN);
    }

    #[test]
    fn what_is_revoked_gives_nothing_whether_it_was_met_or_not() {
        let mut book = TicketBook::default();
        let (met, unmet) = (terms(1, 10_000, 7), terms(2, 10_000, 7));
        book.charge(&met, 1024, 1, NOW).unwrap();
        for ticket in [&met, &unmet] {
            book.revoke(ticket.id, ticket.expires, NOW).unwrap();
            assert_eq!(book.charge(ticket, 1024, 1, NOW), Err(Spent::Revoked));
        }
    }

    #[test]
    fn a_book_has_so_many_places_and_none_is_freed_before_its_ticket_expired() {
        let mut book = TicketBook::default();
        for id in 0..48 {
            book.charge(&terms(id, 10_000, 7), 1024, 1, NOW).unwrap();
        }
        let one_more = terms(100, 10_000, 7);
        assert_eq!(book.charge(&one_more, 1024, 1, NOW), Err(Spent::TooMany));
        for id in 48..64 {
            let ticket = terms(id, 0, 0);
            book.revoke(ticket.id, ticket.expires, NOW).unwrap();
        }
        let last = book.revoke(TicketId([200; 16]), Timestamp(5), NOW);
        assert_eq!(last, Err(Spent::TooMany));
        assert_eq!(TicketBook::parse(&book.encode()).unwrap(), book);
        // Until it is not only expired but long so.
        let expired = Timestamp(1_000_000);
        assert_eq!(
            book.charge(&one_more, 1024, 1, expired),
            Err(Spent::TooMany)
        );
        assert!(!book.is_stale(expired));
        let late = expired.after(KEPT_AFTER);
        assert!(book.is_stale(late));
        book.charge(&one_more, 1024, 1, late).unwrap();
        assert_eq!(book.uses().len(), 1);
    }

    #[test]
    fn two_tickets_of_one_id_share_what_was_used() {
        let mut book = TicketBook::default();
        book.charge(&terms(1, 10_000, 7), 9000, 7, NOW).unwrap();
        let longer = TicketTerms {
            expires: Timestamp(5_000_000),
            ..terms(1, 10_000, 7)
        };
        assert_eq!(book.charge(&longer, 1024, 1, NOW), Err(Spent::Slices));
        assert_eq!(book.uses()[0].expires, Timestamp(5_000_000));
    }

    #[test]
    fn a_book_that_is_cut_or_of_another_version_is_damage() {
        let mut book = TicketBook::default();
        book.charge(&terms(1, 10_000, 7), 9000, 7, NOW).unwrap();
        let bytes = book.encode();
        for end in 0..bytes.len() {
            TicketBook::parse(&bytes[..end]).unwrap_err();
        }
        TicketBook::parse(&[&[2], &bytes[1..]].concat()).unwrap_err();
    }
}
