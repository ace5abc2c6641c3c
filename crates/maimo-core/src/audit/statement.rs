//! [`AuditStatement`]: a provider's signature on having answered a challenge, so that what it answered can be held against it later.
//!
//! It says which bytes went out, not that they were right: that is what the root says, and anybody can see it.

use thiserror::Error;

use super::Challenge;
use crate::{
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, AuthSecretKey, Signature},
    receipt::LedgerInstance,
    reference::ObjectRef,
    signed,
    ticket::TicketId,
};

const SIGN_CONTEXT: &str = "maimo audit statement v1";
/// The longest answer that is stated, in bytes: a bound for parsers, beyond any answer.
const ANSWER_BYTES_MAX: u64 = 1 << 30;

/// What a provider says it was asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stated {
    /// The ticket that it was asked with.
    pub ticket: TicketId,
    /// The channel.
    pub channel: ChannelId,
    /// The root of the head that it was asked under.
    pub root: RootHash,
    /// BLAKE3 of the encoded challenge.
    pub challenge: RootHash,
    /// The encoded answer.
    pub answer: ObjectRef,
    /// When it answered, by its own clock.
    pub time: Timestamp,
    /// Which ledger it answered from.
    pub instance: LedgerInstance,
}

/// A provider's signed statement; see `docs/format.md`, "Audit statements and receipts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditStatement {
    stated: Stated,
    signer: AuthPublicKey,
    extensions: Extensions,
    signature: Signature,
}

/// Why bytes are not a provider's statement on an answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StatementError {
    /// The bytes are no statement.
    #[error("the provider's statement cannot be read")]
    Parse(#[from] ParseError),
    /// Another provider's key signed it.
    #[error("the statement is signed by another provider's key")]
    Signer,
    /// Its signature is wrong.
    #[error("the statement's signature is wrong")]
    Signature,
    /// It is on another ticket, root, challenge or answer.
    #[error("the statement is on another answer")]
    OtherAnswer,
}

impl Classify for StatementError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ProviderMisbehaved
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            _ => None,
        }
    }
}

impl AuditStatement {
    /// How many bytes a statement without extensions takes: every statement of version 1.
    pub const LENGTH: usize = Prelude::LENGTH
        + TicketId::LENGTH
        + 3 * 32
        + ObjectRef::FIXED_LENGTH
        + 8
        + 16
        + 1
        + AuthPublicKey::LENGTH
        + 1
        + Signature::LENGTH;
    /// The longest statement, in bytes.
    pub const LENGTH_MAX: usize = 4096;

    /// Signs what was answered.
    pub fn sign(stated: Stated, key: &AuthSecretKey) -> Self {
        let mut statement = Self {
            stated,
            signer: key.public(),
            extensions: Extensions::default(),
            signature: Signature([0; Signature::LENGTH]),
        };
        statement.signature = key.sign(SIGN_CONTEXT, &statement.signed_bytes());
        statement
    }

    /// Returns what it says.
    pub const fn stated(&self) -> &Stated {
        &self.stated
    }

    /// Returns an error unless this is on that answer to that challenge, asked with that ticket on that channel.
    pub fn check(
        &self,
        ticket: &TicketId,
        channel: ChannelId,
        challenge: &Challenge,
        answer: &[u8],
    ) -> Result<(), StatementError> {
        let own = &self.stated;
        let is_asked = own.ticket == *ticket
            && own.channel == channel
            && own.root == *challenge.root()
            && own.challenge == RootHash::of(&challenge.encode());
        if is_asked && own.answer.names(answer) {
            Ok(())
        } else {
            Err(StatementError::OtherAnswer)
        }
    }

    /// Returns the statement as bytes.
    pub fn encode(&self) -> Vec<u8> {
        signed::join(self.signed_bytes(), &self.signature)
    }

    /// Reads a statement, if it was signed by the provider whose key is `signer`.
    pub fn verify(bytes: &[u8], signer: &AuthPublicKey) -> Result<Self, StatementError> {
        let (signed, signature) = signed::split(bytes, Self::LENGTH_MAX, "statement")?;
        let statement = Self::parse(signed, signature)?;
        if statement.signer != *signer {
            return Err(StatementError::Signer);
        }
        signer
            .verify(SIGN_CONTEXT, signed, &statement.signature)
            .map_err(|_| StatementError::Signature)?;
        Ok(statement)
    }

    fn parse(signed: &[u8], signature: Signature) -> Result<Self, ParseError> {
        let mut reader = Reader::new(signed);
        Prelude::parse_without_epoch(&mut reader, ObjectType::AuditStatement)?;
        let stated = Stated {
            ticket: TicketId(reader.array("ticket id")?),
            channel: ChannelId(reader.array("channel id")?),
            root: RootHash(reader.array("root")?),
            challenge: RootHash(reader.array("challenge")?),
            answer: ObjectRef::parse_fixed(&mut reader, ANSWER_BYTES_MAX, "answer")?,
            time: Timestamp(reader.u64("time")?),
            instance: LedgerInstance(reader.array("ledger instance")?),
        };
        let (signer, extensions) = signed::parse_end(reader, "signer")?;
        Ok(Self {
            stated,
            signer,
            extensions,
            signature,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        Prelude { epoch: 0 }.encode(ObjectType::AuditStatement, &mut out);
        out.put(&self.stated.ticket.0);
        out.put(self.stated.channel.as_bytes());
        out.put(self.stated.root.as_bytes());
        out.put(self.stated.challenge.as_bytes());
        self.stated.answer.encode_fixed(&mut out);
        out.put_u64(self.stated.time.0);
        out.put(&self.stated.instance.0);
        signed::encode_end(&self.signer, &self.extensions, &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> AuthSecretKey {
        AuthSecretKey::from_seed(&[2; 32])
    }

    fn challenge() -> Challenge {
        Challenge::new(RootHash([9; 32]), vec![1, 5], vec![]).unwrap()
    }

    fn statement() -> AuditStatement {
        let stated = Stated {
            ticket: TicketId([7; 16]),
            channel: ChannelId([4; 32]),
            root: RootHash([9; 32]),
            challenge: RootHash::of(&challenge().encode()),
            answer: ObjectRef::of(b"answer"),
            time: Timestamp(5),
            instance: LedgerInstance([6; 16]),
        };
        AuditStatement::sign(stated, &key())
    }

    #[test]
    fn a_statement_comes_back_from_whom_it_is() {
        let bytes = statement().encode();
        assert_eq!(bytes.len(), AuditStatement::LENGTH);
        let read = AuditStatement::verify(&bytes, &key().public());
        assert_eq!(read, Ok(statement()));
        let other = AuthSecretKey::from_seed(&[3; 32]).public();
        let read = AuditStatement::verify(&bytes, &other);
        assert_eq!(read, Err(StatementError::Signer));
    }

    #[test]
    fn a_statement_with_a_byte_wrong_is_none() {
        let bytes = statement().encode();
        for at in 0..bytes.len() {
            let mut wrong = bytes.clone();
            wrong[at] ^= 1;
            AuditStatement::verify(&wrong, &key().public()).unwrap_err();
        }
    }

    #[test]
    fn a_statement_is_on_one_answer_to_one_challenge_of_one_ticket() {
        let (ticket, channel) = (TicketId([7; 16]), ChannelId([4; 32]));
        let check = |ticket: &TicketId, channel, challenge: &Challenge, answer: &[u8]| {
            statement().check(ticket, channel, challenge, answer)
        };
        assert_eq!(check(&ticket, channel, &challenge(), b"answer"), Ok(()));
        let other = Err(StatementError::OtherAnswer);
        let another = Challenge::new(RootHash([9; 32]), vec![1, 6], vec![]).unwrap();
        assert_eq!(check(&ticket, channel, &another, b"answer"), other);
        assert_eq!(check(&ticket, channel, &challenge(), b"answe"), other);
        let theirs = ChannelId([5; 32]);
        assert_eq!(check(&ticket, theirs, &challenge(), b"answer"), other);
        let used = TicketId([8; 16]);
        assert_eq!(check(&used, channel, &challenge(), b"answer"), other);
    }
}
