//! Tickets: what a provider answers an auditor, and tells the client whose tickets they are.
//!
//! A ticket itself is carried as `maimo_core` encodes it.

use bytes::Bytes;
use maimo_core::{
    audit::AuditStatement,
    clock::Timestamp,
    codec::{ParseError, Put as _, Reader},
    ticket::TicketId,
};

use crate::service::{StatedAnswer, TICKETS_MAX, TicketUse};

/// How many bytes a revocation takes: an id and an expiry.
pub(super) const REVOCATION_BYTES: usize = TicketId::LENGTH + 8;
/// Id, expiry, when it was met, bytes, slices, whether it is revoked.
const USE_BYTES: usize = TicketId::LENGTH + 4 * 8 + 1;
pub(super) const TICKETS_BYTES_MAX: usize = 1 + TICKETS_MAX * USE_BYTES;
const _: () = assert!(TICKETS_MAX < 128);
/// How many bytes a statement takes at most, its length before it.
pub(super) const STATEMENT_BYTES_MAX: usize = 4 + AuditStatement::LENGTH_MAX;

/// Returns what stands before the answer to an audit: the statement on it, behind its length.
pub fn encode_statement(statement: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + statement.len());
    // Statements are short: a longer one could not be read, and is sent as none.
    let length = u32::try_from(statement.len()).unwrap_or(0);
    out.put_u32(length);
    out.extend_from_slice(statement);
    out
}

/// Reads what [`encode_statement`] wrote, and the answer behind it.
pub fn parse_stated(body: &Bytes) -> Result<StatedAnswer, ParseError> {
    const WHAT: &str = "statement";
    let mut reader = Reader::new(body);
    let length = reader.u32(WHAT)?;
    if length as usize > AuditStatement::LENGTH_MAX {
        return Err(ParseError::TooLarge {
            what: WHAT,
            found: length.into(),
            max: AuditStatement::LENGTH_MAX as u64,
        });
    }
    let end = 4 + length as usize;
    if body.len() < end {
        return Err(ParseError::Truncated { what: WHAT });
    }
    Ok(StatedAnswer {
        statement: body.slice(4..end),
        answer: body.slice(end..),
    })
}

/// Returns what is known of tickets as bytes.
pub fn encode_tickets(tickets: &[TicketUse]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + tickets.len() * USE_BYTES);
    out.put_varint(tickets.len() as u64);
    for ticket in tickets {
        out.put(&ticket.id.0);
        out.put_u64(ticket.expires.0);
        out.put_u64(ticket.met.0);
        out.put_u64(ticket.bytes);
        out.put_u64(ticket.slices);
        out.put_u8(u8::from(ticket.is_revoked));
    }
    out
}

/// Reads what [`encode_tickets`] wrote.
pub fn parse_tickets(body: &[u8]) -> Result<Vec<TicketUse>, ParseError> {
    const WHAT: &str = "tickets";
    let mut reader = Reader::new(body);
    let count = reader.count(TICKETS_MAX as u64, USE_BYTES, WHAT)?;
    let mut tickets = Vec::with_capacity(count);
    for _ in 0..count {
        tickets.push(TicketUse {
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
    Ok(tickets)
}

/// Returns which ticket is to be worth nothing, as bytes.
pub fn encode_revocation(ticket: TicketId, expires: Timestamp) -> Vec<u8> {
    let mut out = Vec::with_capacity(REVOCATION_BYTES);
    out.put(&ticket.0);
    out.put_u64(expires.0);
    out
}

/// Reads what [`encode_revocation`] wrote.
pub fn parse_revocation(body: &[u8]) -> Result<(TicketId, Timestamp), ParseError> {
    let mut reader = Reader::new(body);
    let ticket = TicketId(reader.array("ticket id")?);
    let expires = Timestamp(reader.u64("expiry")?);
    reader.finish()?;
    Ok((ticket, expires))
}
