//! The ticket: a right to audit a channel that opens nothing. Who has one learns how large the packs are, what of them lives and which are
//! vital, and can have the provider prove them; no more.
//!
//! The client signs it, so the provider need not be told of it before. It is a bearer's: whoever shows it may audit until it
//! expires or its budget is spent, which the provider counts by the ticket's id. It travels inside TLS only.

use core::{fmt, str::FromStr};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use thiserror::Error;

use crate::{
    address::Addresses,
    ancestry::SEQUENCE_MAX,
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, ClientPublicKey, ClientSecretKey, Signature},
    line::{self, LINE_CHARACTERS_MAX, LineError},
    signed,
};

const SIGN_CONTEXT: &str = "maimo ticket v1";
const KIND: &str = "ticket";
const _: () = assert!(line::characters(KIND, Ticket::LENGTH_MAX) <= LINE_CHARACTERS_MAX);

/// What a ticket is called: random, drawn by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TicketId(pub [u8; 16]);

impl TicketId {
    /// How many bytes it takes.
    pub const LENGTH: usize = 16;
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl FromStr for TicketId {
    type Err = TicketError;

    /// Reads 32 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, TicketError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let id = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        id.map(Self).ok_or(TicketError::Id)
    }
}

/// What a ticket says; see `docs/format.md`, "Tickets, invitations and address lists".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketTerms {
    /// Random; what the provider counts by.
    pub id: TicketId,
    /// The provider's auth key.
    pub provider: AuthPublicKey,
    /// Where the provider was when the ticket was made; none for a folder, which whoever audits it has before them.
    pub addresses: Option<Addresses>,
    /// The sequence number of the head below, at least 1.
    pub sequence: u64,
    /// The auditor takes this head or one that descends from it.
    pub root: RootHash,
    /// The first moment at which it is worth nothing.
    pub expires: Timestamp,
    /// How much may be asked with it.
    pub budget: Budget,
}

/// How much may be asked with a ticket, over all of its audits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Bytes of answers.
    pub bytes: u64,
    /// Slices.
    pub slices: u64,
}

/// A signed ticket; its signature has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket {
    terms: TicketTerms,
    client: ClientPublicKey,
    extensions: Extensions,
    signature: Signature,
}

/// Why a ticket is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The bytes are no ticket.
    #[error("the ticket cannot be read")]
    Parse(#[from] ParseError),
    /// The text is no ticket.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Its signature is wrong.
    #[error("the ticket's signature is wrong")]
    Signature,
    /// It is for another provider.
    #[error("the ticket is for another provider")]
    OtherProvider,
    /// Its time is over.
    #[error("the ticket has expired")]
    Expired,
    /// The text is no ticket's id.
    #[error("a ticket's id is 32 hexadecimal digits")]
    Id,
}

impl Classify for TicketError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Line(error) => error.kind(),
            _ => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::Expired => Some("ask the owner of the store for a new ticket"),
            Self::Id => Some("`maimo ticket list` shows the tickets given"),
            _ => None,
        }
    }
}

impl Ticket {
    /// The longest ticket, in bytes: as text it fits a line.
    pub const LENGTH_MAX: usize = 2500;

    /// Signs a ticket; nothing if its addresses make it too long.
    pub fn sign(terms: TicketTerms, key: &ClientSecretKey) -> Option<Self> {
        let mut ticket = Self {
            terms,
            client: key.public(),
            extensions: Extensions::default(),
            signature: Signature([0; Signature::LENGTH]),
        };
        ticket.signature = key.sign(SIGN_CONTEXT, &ticket.signed_bytes());
        (ticket.encode().len() <= Self::LENGTH_MAX).then_some(ticket)
    }

    /// Returns what it says.
    pub const fn terms(&self) -> &TicketTerms {
        &self.terms
    }

    /// Returns the client's key: who signed the ticket, and must have signed the head.
    pub const fn client(&self) -> &ClientPublicKey {
        &self.client
    }

    /// Returns the channel it is about, which follows from the two keys.
    pub fn channel(&self) -> ChannelId {
        ChannelId::derive(self.terms.provider.as_bytes(), self.client.as_bytes())
    }

    /// Checks what a provider checks of any ticket at `now`. That it has such a channel, and what the ticket's id has used up of the budget, is for
    /// its ledger to say.
    pub fn check(&self, provider: &AuthPublicKey, now: Timestamp) -> Result<(), TicketError> {
        if self.terms.provider != *provider {
            return Err(TicketError::OtherProvider);
        }
        if self.terms.expires <= now {
            return Err(TicketError::Expired);
        }
        Ok(())
    }

    /// Returns the ticket as one line of text.
    pub fn to_line(&self) -> String {
        line::encode(KIND, &self.encode()).to_string()
    }

    /// Reads what [`Self::to_line`] wrote.
    pub fn from_line(text: &str) -> Result<Self, TicketError> {
        Self::parse(&line::decode(KIND, text)?)
    }

    /// Returns the ticket as bytes.
    pub fn encode(&self) -> Vec<u8> {
        signed::join(self.signed_bytes(), &self.signature)
    }

    /// Reads a ticket, if the client it names signed it.
    pub fn parse(bytes: &[u8]) -> Result<Self, TicketError> {
        let (signed, signature) = signed::split(bytes, Self::LENGTH_MAX, "ticket")?;
        let ticket = Self::parse_signed(signed, signature)?;
        ticket
            .client
            .verify(SIGN_CONTEXT, signed, &ticket.signature)
            .map_err(|_| TicketError::Signature)?;
        Ok(ticket)
    }

    fn parse_signed(signed: &[u8], signature: Signature) -> Result<Self, ParseError> {
        let mut reader = Reader::new(signed);
        Prelude::parse_without_epoch(&mut reader, ObjectType::Ticket)?;
        let id = TicketId(reader.array("ticket id")?);
        let provider = AuthPublicKey::parse(&mut reader, "provider")?;
        let addresses = Addresses::parse_optional(&mut reader)?;
        let sequence = reader.u64("sequence number")?;
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(ParseError::Invalid {
                what: "sequence number",
            });
        }
        let terms = TicketTerms {
            id,
            provider,
            addresses,
            sequence,
            root: RootHash(reader.array("root")?),
            expires: Timestamp(reader.u64("expiry")?),
            budget: Budget {
                bytes: reader.u64("budget of bytes")?,
                slices: reader.u64("budget of slices")?,
            },
        };
        let (client, extensions) = signed::parse_end(reader, "client")?;
        Ok(Self {
            terms,
            client,
            extensions,
            signature,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::Ticket, &mut out);
        out.put(&self.terms.id.0);
        out.put(self.terms.provider.as_bytes());
        match &self.terms.addresses {
            Some(addresses) => addresses.encode(&mut out),
            None => out.put_varint(0),
        }
        out.put_u64(self.terms.sequence);
        out.put(self.terms.root.as_bytes());
        out.put_u64(self.terms.expires.0);
        out.put_u64(self.terms.budget.bytes);
        out.put_u64(self.terms.budget.slices);
        signed::encode_end(&self.client, &self.extensions, &mut out);
        out
    }
}

impl fmt::Debug for Ticket {
    /// Shows what it says, and not the signature, without which nobody can use it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("terms", &self.terms)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
