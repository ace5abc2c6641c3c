//! [`AuditReceipt`]: an audit by a ticket as a file that anybody can check again, without asking anyone.
//!
//! It carries no verdict. It carries what a verdict follows from: the ticket (signed by the client), the head (signed by the client), the
//! proof that it descends from the ticket's, and for each challenge what the provider answered and its signature on that. What it does not show is
//! that the positions were drawn by chance: that is the auditor's word.
//!
//! Of what is in it only the ticket has been verified when it is read.

use thiserror::Error;

use super::{AuditStatement, Challenge};
use crate::{
    ancestry::AncestryProof,
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    head::SignedHead,
    signed,
    ticket::{Ticket, TicketError},
};

/// An audit by a ticket: what was asked and what came back; see `docs/format.md`, "Audit statements and receipts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReceipt {
    /// The ticket.
    pub ticket: Ticket,
    /// The signed head that the audit was held against, encoded.
    pub head: Vec<u8>,
    /// That it descends from the ticket's; none where it is the ticket's.
    pub proof: Option<AncestryProof>,
    /// When the audit ended, by the auditor's clock.
    pub time: Timestamp,
    /// What was asked and answered.
    pub answers: Vec<Answered>,
    /// What later versions add.
    pub extensions: Extensions,
}

/// A challenge and what came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What was asked.
    pub challenge: Challenge,
    /// The provider's [`AuditStatement`] on its answer, encoded.
    pub statement: Vec<u8>,
    /// The answer, encoded.
    pub answer: Vec<u8>,
}

/// Why bytes are no receipt of an audit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuditReceiptError {
    /// The bytes are no receipt.
    #[error("the audit's receipt cannot be read")]
    Parse(#[from] ParseError),
    /// The ticket in it is none.
    #[error("the ticket in the audit's receipt is none")]
    Ticket(#[source] TicketError),
}

impl Classify for AuditReceiptError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::Ticket(error) => error.hint(),
        }
    }
}

impl AuditReceipt {
    /// How many challenges one holds at most.
    pub const ANSWERS_MAX: usize = 64;
    /// The longest receipt, in bytes.
    pub const LENGTH_MAX: usize = 1 << 30;

    /// Returns the receipt as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let answers = self.answers.iter().map(|answered| answered.answer.len());
        let mut out = Vec::with_capacity(16 * 1024 + answers.sum::<usize>());
        Prelude { epoch: 0 }.encode(ObjectType::AuditReceipt, &mut out);
        out.put_bytes(&self.ticket.encode());
        out.put_bytes(&self.head);
        out.put_bytes(
            &self
                .proof
                .as_ref()
                .map_or_else(Vec::new, AncestryProof::encode),
        );
        out.put_u64(self.time.0);
        out.put_varint(self.answers.len() as u64);
        for answered in &self.answers {
            out.put_bytes(&answered.challenge.encode());
            out.put_bytes(&answered.statement);
            out.put_bytes(&answered.answer);
        }
        self.extensions.encode(&mut out);
        out
    }

    /// Reads a receipt. That it shows anything is to be checked.
    ///
    /// # Errors
    ///
    /// Bytes in another form, or a ticket that its client did not sign.
    pub fn parse(bytes: &[u8]) -> Result<Self, AuditReceiptError> {
        const ANSWER: &str = "answer";
        signed::check_length(bytes, Self::LENGTH_MAX, "receipt of an audit")?;
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::AuditReceipt)?;
        let ticket = Ticket::parse(reader.bytes(Ticket::LENGTH_MAX, "ticket")?)
            .map_err(AuditReceiptError::Ticket)?;
        let head = reader.bytes(SignedHead::LENGTH_MAX, "head")?.to_vec();
        let proof = reader.bytes(AncestryProof::LENGTH_MAX, "ancestry proof")?;
        let proof = (!proof.is_empty()).then(|| AncestryProof::parse(proof));
        let proof = proof.transpose()?;
        let time = Timestamp(reader.u64("time")?);
        // The shortest challenge, and three lengths.
        let least = Prelude::LENGTH + 32 + 2 + 3;
        let count = reader.count(Self::ANSWERS_MAX as u64, least, ANSWER)?;
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(Answered {
                challenge: Challenge::parse(reader.bytes(CHALLENGE_BYTES_MAX, "challenge")?)?,
                statement: reader
                    .bytes(AuditStatement::LENGTH_MAX, "statement")?
                    .to_vec(),
                answer: reader.bytes(Self::LENGTH_MAX, ANSWER)?.to_vec(),
            });
        }
        let extensions = Extensions::parse(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            ticket,
            head,
            proof,
            time,
            answers,
            extensions,
        })
    }
}

/// Prelude, root, and for each stratum a count and the positions, each a varint.
const CHALLENGE_BYTES_MAX: usize = Prelude::LENGTH + 32 + 2 * (10 + super::SLICES_MAX * 10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::RootHash,
        identity::{AuthSecretKey, ClientSecretKey},
        ticket::{Budget, TicketId, TicketTerms},
    };

    fn receipt() -> AuditReceipt {
        let terms = TicketTerms {
            id: TicketId([7; 16]),
            provider: AuthSecretKey::from_seed(&[2; 32]).public(),
            addresses: None,
            sequence: 12,
            root: RootHash([9; 32]),
            expires: Timestamp(1000),
            budget: Budget {
                bytes: 64 << 20,
                slices: 5000,
            },
        };
        AuditReceipt {
            ticket: Ticket::sign(terms, &ClientSecretKey::from_seed(&[1; 32])).unwrap(),
            head: b"a head".to_vec(),
            proof: AncestryProof::build(1, 1, |_, _| Some([3; 32])),
            time: Timestamp(77),
            answers: vec![Answered {
                challenge: Challenge::new(RootHash([9; 32]), vec![1, 5], vec![]).unwrap(),
                statement: b"a statement".to_vec(),
                answer: b"an answer".to_vec(),
            }],
            extensions: Extensions::default(),
        }
    }

    #[test]
    fn a_receipt_comes_back_whole_and_not_in_part() {
        let bytes = receipt().encode();
        assert_eq!(AuditReceipt::parse(&bytes), Ok(receipt()));
        for end in 0..bytes.len() {
            AuditReceipt::parse(&bytes[..end]).unwrap_err();
        }
        AuditReceipt::parse(&[&bytes[..], &[0]].concat()).unwrap_err();
    }

    #[test]
    fn a_receipt_whose_ticket_nobody_signed_is_none() {
        let ticket = receipt().ticket.encode();
        let mut bytes = receipt().encode();
        let at = bytes
            .windows(ticket.len())
            .position(|window| window == ticket)
            .unwrap();
        bytes[at + 20] ^= 1;
        assert!(matches!(
            AuditReceipt::parse(&bytes),
            Err(AuditReceiptError::Ticket(TicketError::Signature))
        ));
    }
}
