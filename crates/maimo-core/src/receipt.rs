//! The receipt: a provider's signature on a root. It says that everything the root names is held, on disk, as of a moment, and
//! it is evidence against a provider that later shows another history.
//!
//! It binds a *ledger instance*, sixteen random bytes that a provider draws when its ledger is made or rebuilt: two receipts of
//! two roots for one sequence number under one instance are a fork, under two an old image brought back.

use thiserror::Error;

use crate::{
    ancestry::SEQUENCE_MAX,
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::{AuthPublicKey, AuthSecretKey, Signature},
    signed,
};

const SIGN_CONTEXT: &str = "maimo receipt v1";

/// Which making of a provider's ledger speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LedgerInstance(pub [u8; 16]);

/// What a receipt acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledged {
    /// The channel.
    pub channel: ChannelId,
    /// The root of the head that was admitted.
    pub root: RootHash,
    /// That head's sequence number.
    pub sequence: u64,
    /// When the provider admitted it, by its own clock.
    pub time: Timestamp,
    /// Which ledger recorded it.
    pub instance: LedgerInstance,
}

/// A provider's signed acknowledgement of a root; see `docs/format.md`, "Receipts".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    acknowledged: Acknowledged,
    signer: AuthPublicKey,
    extensions: Extensions,
    signature: Signature,
}

/// Why bytes are not a provider's receipt.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The bytes are no receipt.
    #[error("the receipt cannot be read")]
    Parse(#[from] ParseError),
    /// Another provider's key signed it.
    #[error("the receipt is signed by another provider's key")]
    Signer,
    /// Its signature is wrong.
    #[error("the receipt's signature is wrong")]
    Signature,
    /// It is of another root, sequence number or channel than asked for.
    #[error("the receipt is of another head")]
    OtherHead,
}

impl Classify for ReceiptError {
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

impl Receipt {
    /// How many bytes a receipt without extensions takes: every receipt of version 1.
    pub const LENGTH: usize =
        Prelude::LENGTH + 32 + 32 + 8 + 8 + 16 + 1 + AuthPublicKey::LENGTH + 1 + Signature::LENGTH;
    /// The longest receipt, in bytes.
    pub const LENGTH_MAX: usize = 4096;

    /// Signs what is acknowledged.
    pub fn sign(acknowledged: Acknowledged, key: &AuthSecretKey) -> Self {
        let mut receipt = Self {
            acknowledged,
            signer: key.public(),
            extensions: Extensions::default(),
            signature: Signature([0; Signature::LENGTH]),
        };
        receipt.signature = key.sign(SIGN_CONTEXT, &receipt.signed_bytes());
        receipt
    }

    /// Returns what it acknowledges.
    pub const fn acknowledged(&self) -> &Acknowledged {
        &self.acknowledged
    }

    /// Returns an error unless this acknowledges that head on that channel.
    pub fn check(
        &self,
        channel: ChannelId,
        sequence: u64,
        root: RootHash,
    ) -> Result<(), ReceiptError> {
        let own = &self.acknowledged;
        if (own.channel, own.sequence, own.root) == (channel, sequence, root) {
            Ok(())
        } else {
            Err(ReceiptError::OtherHead)
        }
    }

    /// Returns the receipt as bytes.
    pub fn encode(&self) -> Vec<u8> {
        signed::join(self.signed_bytes(), &self.signature)
    }

    /// Reads a receipt, if it was signed by the provider whose key is `signer`.
    pub fn verify(bytes: &[u8], signer: &AuthPublicKey) -> Result<Self, ReceiptError> {
        let (signed, signature) = signed::split(bytes, Self::LENGTH_MAX, "receipt")?;
        let receipt = Self::parse(signed, signature)?;
        if receipt.signer != *signer {
            return Err(ReceiptError::Signer);
        }
        signer
            .verify(SIGN_CONTEXT, signed, &receipt.signature)
            .map_err(|_| ReceiptError::Signature)?;
        Ok(receipt)
    }

    fn parse(signed: &[u8], signature: Signature) -> Result<Self, ParseError> {
        let mut reader = Reader::new(signed);
        Prelude::parse_without_epoch(&mut reader, ObjectType::Receipt)?;
        let acknowledged = Acknowledged {
            channel: ChannelId(reader.array("channel id")?),
            root: RootHash(reader.array("root")?),
            sequence: reader.u64("sequence number")?,
            time: Timestamp(reader.u64("time")?),
            instance: LedgerInstance(reader.array("ledger instance")?),
        };
        if acknowledged.sequence == 0 || acknowledged.sequence > SEQUENCE_MAX {
            return Err(ParseError::Invalid {
                what: "sequence number",
            });
        }
        let (signer, extensions) = signed::parse_end(reader, "signer")?;
        Ok(Self {
            acknowledged,
            signer,
            extensions,
            signature,
        })
    }

    fn signed_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        Prelude { epoch: 0 }.encode(ObjectType::Receipt, &mut out);
        out.put(self.acknowledged.channel.as_bytes());
        out.put(self.acknowledged.root.as_bytes());
        out.put_u64(self.acknowledged.sequence);
        out.put_u64(self.acknowledged.time.0);
        out.put(&self.acknowledged.instance.0);
        signed::encode_end(&self.signer, &self.extensions, &mut out);
        out
    }
}

#[cfg(test)]
mod tests;
