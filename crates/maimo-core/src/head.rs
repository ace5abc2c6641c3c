//! The head: a channel's signed newest state, of constant size, whose hash is the *root*, the 32 bytes that a client keeps.
//!
//! A [`Head`] names both inventories, the commit, the root before it and, by its ancestry, all roots before that. The signature
//! stands outside what is hashed, so that the root is fixed before anyone signs. A [`SignedHead`] that exists as a value has
//! been verified against the channel and its authorised signers; bytes that have not are bytes.

use thiserror::Error;

use crate::{
    ancestry::{Ancestry, NodeHash, SEQUENCE_MAX},
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    id::{ChannelId, RootHash},
    identity::{ClientPublicKey, ClientSecretKey, Signature},
    inventory::InventoryRef,
    reference::ObjectRef,
    signed,
};

/// The longest commit, in bytes.
pub const COMMIT_BYTES_MAX: u64 = 64 * 1024;

/// The one signature algorithm so far.
pub const ALGORITHM_ED25519: u8 = 1;

const SIGN_CONTEXT: &str = "maimo head v1";

/// A channel's newest state; see `docs/format.md`, "Heads".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The channel it is of.
    pub channel: ChannelId,
    /// 1 for a channel's first head, one more for each after.
    pub sequence: u64,
    /// The root this one replaces; [`RootHash::NONE`] for the first.
    pub previous: RootHash,
    /// [`Ancestry::hash`] over the roots of all earlier heads, `previous` included.
    pub ancestry: NodeHash,
    /// The inventory of the data packs.
    pub data: InventoryRef,
    /// The inventory of the vital packs.
    pub vital: InventoryRef,
    /// The commit that goes with it.
    pub commit: ObjectRef,
    /// When its client says it was made.
    pub time: Timestamp,
    /// Who signs it.
    pub signer: ClientPublicKey,
    /// What later versions add.
    pub extensions: Extensions,
}

impl Head {
    /// How many bytes a head without extensions takes: every head of version 1.
    pub const LENGTH: usize = Prelude::LENGTH
        + 32
        + 8
        + 32
        + 32
        + 2 * InventoryRef::FIXED_LENGTH
        + ObjectRef::FIXED_LENGTH
        + 8
        + 1
        + ClientPublicKey::LENGTH
        + 1;
    /// The longest head, in bytes: whoever fetches one by its root, which binds no length, reads no further.
    pub const LENGTH_MAX: usize = 4096;

    /// Returns the head as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH + Signature::LENGTH);
        Prelude { epoch: 0 }.encode(ObjectType::Head, &mut out);
        out.put(self.channel.as_bytes());
        out.put_u64(self.sequence);
        out.put(self.previous.as_bytes());
        out.put(&self.ancestry);
        self.data.encode_fixed(&mut out);
        self.vital.encode_fixed(&mut out);
        self.commit.encode_fixed(&mut out);
        out.put_u64(self.time.0);
        signed::encode_end(&self.signer, &self.extensions, &mut out);
        out
    }

    /// Reads a head.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        signed::check_length(bytes, Self::LENGTH_MAX, "head")?;
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::Head)?;
        let channel = ChannelId(reader.array("channel id")?);
        let sequence = reader.u64("sequence number")?;
        let previous = RootHash(reader.array("previous root")?);
        let ancestry = reader.array("ancestry")?;
        let data = InventoryRef::parse_fixed(&mut reader)?;
        let vital = InventoryRef::parse_fixed(&mut reader)?;
        let commit = ObjectRef::parse_fixed(&mut reader, COMMIT_BYTES_MAX, "commit")?;
        let time = Timestamp(reader.u64("time")?);
        let (signer, extensions) = signed::parse_end(reader, "signer")?;
        if sequence == 0 || sequence > SEQUENCE_MAX {
            return Err(ParseError::Invalid {
                what: "sequence number",
            });
        }
        // A first head has nothing before it, and only it: without this, a channel could begin twice.
        if (sequence == 1) != (previous == RootHash::NONE) {
            return Err(ParseError::Invalid {
                what: "previous root",
            });
        }
        if sequence == 1 && ancestry != Ancestry::empty().hash() {
            return Err(ParseError::Invalid { what: "ancestry" });
        }
        Ok(Self {
            channel,
            sequence,
            previous,
            ancestry,
            data,
            vital,
            commit,
            time,
            signer,
            extensions,
        })
    }

    /// Returns the root: BLAKE3 of the head's bytes.
    pub fn root(&self) -> RootHash {
        RootHash::of(&self.encode())
    }

    /// Signs the head with the key that it names as its signer.
    ///
    /// # Errors
    ///
    /// The key is another one than the head names.
    pub fn sign(self, key: &ClientSecretKey) -> Result<SignedHead, HeadError> {
        if key.public() != self.signer {
            return Err(HeadError::Signer);
        }
        let root = self.root();
        Ok(SignedHead {
            signature: key.sign(SIGN_CONTEXT, root.as_bytes()),
            root,
            head: self,
        })
    }
}

/// Why bytes are not a head of this channel.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The bytes are no head.
    #[error("the head cannot be read")]
    Parse(#[from] ParseError),
    /// It is another channel's.
    #[error("the head is of another channel")]
    Channel,
    /// Its signer is none of the channel's.
    #[error("the head names a signer that the channel does not know")]
    Signer,
    /// Its signature is wrong.
    #[error("the head's signature is wrong")]
    Signature,
}

impl Classify for HeadError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
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

/// A head with its signature, both checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    head: Head,
    root: RootHash,
    signature: Signature,
}

impl SignedHead {
    /// The longest encoding, in bytes.
    pub const LENGTH_MAX: usize = Head::LENGTH_MAX + Signature::LENGTH;

    /// Returns the head.
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Returns the head's root.
    pub const fn root(&self) -> RootHash {
        self.root
    }

    /// Returns the head's bytes, then the signature's 64.
    pub fn encode(&self) -> Vec<u8> {
        signed::join(self.head.encode(), &self.signature)
    }

    /// Reads what [`Self::encode`] wrote, if it is of `channel` and one of `signers` signed it.
    pub fn verify(
        bytes: &[u8],
        channel: ChannelId,
        signers: &[ClientPublicKey],
    ) -> Result<Self, HeadError> {
        let (head_bytes, signature) = signed::split(bytes, Self::LENGTH_MAX, "signed head")?;
        let head = Head::parse(head_bytes)?;
        if head.channel != channel {
            return Err(HeadError::Channel);
        }
        if !signers.contains(&head.signer) {
            return Err(HeadError::Signer);
        }
        let root = RootHash::of(head_bytes);
        head.signer
            .verify(SIGN_CONTEXT, root.as_bytes(), &signature)
            .map_err(|_| HeadError::Signature)?;
        Ok(Self {
            head,
            root,
            signature,
        })
    }
}

#[cfg(test)]
mod tests;
