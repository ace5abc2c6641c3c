//! The key file: the store's secret at rest, bare or under a passphrase.
//!
//! Bytes only; where they lie and that nobody else may read them (mode 0600) is the caller's part. A checksum at the end tells damage
//! from a wrong passphrase. It hides nothing and proves nothing: under a passphrase the seal does, and all that stands before the
//! sealed secret, Argon2id's parameters too, is its associated data. The bytes are in `docs/format.md`.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use maimo_core::{
    codec::{ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::{
    aead::{CannotOpen, NONCE_BYTES, TAG_BYTES, XChaCha8Blake3Siv},
    hash,
    keys::{KeyEpoch, MasterSecret},
};

mod cost;

pub use cost::PassphraseCost;

/// How many bytes of salt Argon2id gets.
pub const SALT_BYTES: usize = 32;
/// How long a key file without a passphrase is, in bytes.
pub const BARE_BYTES: usize = Prelude::LENGTH + 1 + SECRET_BYTES + CHECKSUM_BYTES;
/// How long a key file under a passphrase is, in bytes.
pub const SEALED_BYTES: usize = HEADER_BYTES + SECRET_BYTES + TAG_BYTES + CHECKSUM_BYTES;

const SECRET_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 32;
const KIND_BARE: u8 = 0;
const KIND_ARGON2ID: u8 = 1;
/// Prelude, kind, parameters, salt, nonce: what the seal's associated data is.
const HEADER_BYTES: usize =
    Prelude::LENGTH + 1 + PassphraseCost::ENCODED_BYTES + SALT_BYTES + NONCE_BYTES;

/// A key file whose bytes are whole; [`KeyFile::open`] gives the secret.
pub struct KeyFile {
    epoch: KeyEpoch,
    content: Content,
}

enum Content {
    Bare(MasterSecret),
    // Boxed, or a bare secret's bytes could end in the room that this one leaves unused; in a release build they did.
    Sealed(Box<Sealed>),
}

struct Sealed {
    cost: PassphraseCost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; NONCE_BYTES],
    ciphertext: [u8; SECRET_BYTES],
    tag: [u8; TAG_BYTES],
}

/// Why no key file could be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealKeyFileError {
    /// A passphrase of nothing protects nothing.
    #[error("the passphrase is empty")]
    EmptyPassphrase,
    /// Argon2id's memory could not be had.
    #[error("{memory_kib} KiB of memory for the passphrase cannot be had")]
    OutOfMemory {
        /// How much it takes, in KiB.
        memory_kib: u32,
    },
}

/// Why a key file gives no secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenKeyFileError {
    /// Not a key file that this program can read.
    #[error("this is no key file")]
    Parse(#[from] ParseError),
    /// The bytes are not those once written.
    #[error("the key file is damaged: its checksum does not fit")]
    Damaged,
    /// There is a passphrase and none was given.
    #[error("the key file needs its passphrase")]
    PassphraseNeeded,
    /// A passphrase was given and there is none.
    #[error("the key file has no passphrase")]
    PassphraseNotNeeded,
    /// The seal does not open, and the file is not damaged by accident.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Argon2id's memory could not be had.
    #[error("{memory_kib} KiB of memory for the passphrase cannot be had")]
    OutOfMemory {
        /// How much it takes, in KiB.
        memory_kib: u32,
    },
}

impl KeyFile {
    /// Holds `secret` as it is: whoever reads the file has the store.
    pub fn bare(secret: &MasterSecret) -> Self {
        Self {
            epoch: KeyEpoch(0),
            content: Content::Bare(MasterSecret::from_entropy(secret.as_entropy())),
        }
    }

    /// Seals `secret` under `passphrase`, which is taken as the UTF-8 bytes it is. Takes a second or so, and `cost`'s memory.
    pub fn seal(
        secret: &MasterSecret,
        passphrase: &str,
        cost: PassphraseCost,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, SealKeyFileError> {
        if passphrase.is_empty() {
            return Err(SealKeyFileError::EmptyPassphrase);
        }
        let epoch = KeyEpoch(0);
        let sealed = Sealed::seal(secret, passphrase, epoch, cost, rng);
        let sealed = sealed
            .map_err(|OutOfMemory { memory_kib }| SealKeyFileError::OutOfMemory { memory_kib })?;
        Ok(Self {
            epoch,
            content: Content::Sealed(Box::new(sealed)),
        })
    }

    /// Returns whether [`KeyFile::open`] wants a passphrase.
    pub const fn needs_passphrase(&self) -> bool {
        matches!(self.content, Content::Sealed(_))
    }

    /// Returns the secret.
    ///
    /// # Errors
    ///
    /// [`OpenKeyFileError::WrongPassphrase`] is worth asking again for; a file altered on purpose, checksum and all, looks the same.
    pub fn open(&self, passphrase: Option<&str>) -> Result<MasterSecret, OpenKeyFileError> {
        match (&self.content, passphrase) {
            (Content::Bare(secret), None) => Ok(MasterSecret::from_entropy(secret.as_entropy())),
            (Content::Bare(_), Some(_)) => Err(OpenKeyFileError::PassphraseNotNeeded),
            (Content::Sealed(_), None) => Err(OpenKeyFileError::PassphraseNeeded),
            (Content::Sealed(sealed), Some(passphrase)) => sealed.open(passphrase, self.epoch),
        }
    }

    /// Returns the file's bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // All the room at once: bytes that grow leave their old place unwiped.
        let mut out = Zeroizing::new(Vec::with_capacity(SEALED_BYTES));
        match &self.content {
            Content::Bare(secret) => {
                prelude(self.epoch).encode(ObjectType::KeyFile, &mut out);
                out.put_u8(KIND_BARE);
                out.put(secret.as_entropy());
            }
            Content::Sealed(sealed) => {
                out.put(&sealed.header(self.epoch));
                out.put(&sealed.ciphertext);
                out.put(&sealed.tag);
            }
        }
        let checksum = checksum(&out);
        out.put(&checksum);
        out
    }

    /// Reads a file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, OpenKeyFileError> {
        let mut reader = Reader::new(bytes);
        let Prelude { epoch } = Prelude::parse(&mut reader, ObjectType::KeyFile)?;
        let kind = reader.u8("kind of key file")?;
        // The length and the checksum before the fields, so that damage is not told as a strange field.
        let rest = match kind {
            KIND_BARE => BARE_BYTES,
            KIND_ARGON2ID => SEALED_BYTES,
            _ => {
                return Err(ParseError::Invalid {
                    what: "kind of key file",
                }
                .into());
            }
        } - (Prelude::LENGTH + 1 + CHECKSUM_BYTES);
        let mut fields = Reader::new(reader.take(rest, "key file")?);
        let found: [u8; CHECKSUM_BYTES] = reader.array("checksum")?;
        reader.finish()?;
        let covered = &bytes[..bytes.len() - CHECKSUM_BYTES];
        if checksum(covered) != found {
            return Err(OpenKeyFileError::Damaged);
        }
        let content = if kind == KIND_BARE {
            Content::Bare(parse_bare(&mut fields)?)
        } else {
            Content::Sealed(Box::new(Sealed::parse(&mut fields)?))
        };
        fields.finish()?;
        Ok(Self {
            epoch: KeyEpoch(epoch),
            content,
        })
    }
}

impl Sealed {
    fn seal(
        secret: &MasterSecret,
        passphrase: &str,
        epoch: KeyEpoch,
        cost: PassphraseCost,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OutOfMemory> {
        let mut sealed = Self {
            cost,
            salt: [0; SALT_BYTES],
            nonce: [0; NONCE_BYTES],
            ciphertext: [0; SECRET_BYTES],
            tag: [0; TAG_BYTES],
        };
        rng.fill_bytes(&mut sealed.salt);
        rng.fill_bytes(&mut sealed.nonce);
        let key = stretch(passphrase, &sealed.salt, cost)?;
        // Sealed where it is wiped, then copied out: until then it is the secret.
        let mut buffer = Zeroizing::new(secret.as_entropy().to_vec());
        sealed.tag = key.seal_in_place(&sealed.nonce, &sealed.header(epoch), &mut buffer);
        sealed.ciphertext.copy_from_slice(&buffer);
        Ok(sealed)
    }

    fn open(&self, passphrase: &str, epoch: KeyEpoch) -> Result<MasterSecret, OpenKeyFileError> {
        let key = stretch(passphrase, &self.salt, self.cost)
            .map_err(|OutOfMemory { memory_kib }| OpenKeyFileError::OutOfMemory { memory_kib })?;
        MasterSecret::try_fill(|entropy| {
            entropy.copy_from_slice(&self.ciphertext);
            key.open_in_place(&self.nonce, &self.header(epoch), entropy, &self.tag)
        })
        .map_err(|CannotOpen| OpenKeyFileError::WrongPassphrase)
    }

    /// All that stands before the sealed secret: the seal's associated data.
    fn header(&self, epoch: KeyEpoch) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        prelude(epoch).encode(ObjectType::KeyFile, &mut out);
        out.put_u8(KIND_ARGON2ID);
        self.cost.encode(&mut out);
        out.put(&self.salt);
        out.put(&self.nonce);
        out
    }

    fn parse(fields: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self {
            cost: PassphraseCost::parse(fields)?,
            salt: fields.array("salt")?,
            nonce: fields.array("nonce")?,
            ciphertext: fields.array("sealed secret")?,
            tag: fields.array("tag")?,
        })
    }
}

/// Not by `Reader::array`, which would leave a copy on the stack.
fn parse_bare(fields: &mut Reader<'_>) -> Result<MasterSecret, ParseError> {
    let what = "secret";
    let secret = fields.take(SECRET_BYTES, what)?.first_chunk();
    let secret = secret.ok_or(ParseError::Truncated { what })?;
    Ok(MasterSecret::from_entropy(secret))
}

/// BLAKE3 of all bytes before it, of which the bare secret may be some.
fn checksum(covered: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut checksum = [0; CHECKSUM_BYTES];
    hash::plain(&[covered], &mut checksum);
    checksum
}

const fn prelude(KeyEpoch(epoch): KeyEpoch) -> Prelude {
    Prelude { epoch }
}

struct OutOfMemory {
    memory_kib: u32,
}

/// Argon2id (RFC 9106), version 0x13, 32 bytes out: the key that seals the secret.
fn stretch(
    passphrase: &str,
    salt: &[u8; SALT_BYTES],
    cost: PassphraseCost,
) -> Result<XChaCha8Blake3Siv, OutOfMemory> {
    let params = Params::new(
        cost.memory_kib(),
        cost.passes(),
        cost.lanes(),
        Some(SECRET_BYTES),
    )
    .expect("a cost within its bounds is within Argon2's");
    let out_of_memory = || OutOfMemory {
        memory_kib: cost.memory_kib(),
    };
    // Asked for here rather than inside the crate: it is much, it may fail, and it is wiped.
    let mut memory: Vec<Block> = Vec::new();
    memory
        .try_reserve_exact(params.block_count())
        .map_err(|_| out_of_memory())?;
    memory.resize(params.block_count(), Block::new());
    let mut key = Zeroizing::new([0; SECRET_BYTES]);
    let outcome = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase.as_bytes(), salt, &mut *key, &mut memory[..]);
    memory.iter_mut().for_each(Zeroize::zeroize);
    // The lengths are right by type, so only a passphrase of 4 GiB is left to fail on.
    outcome.map_err(|_| out_of_memory())?;
    Ok(XChaCha8Blake3Siv::from_key(&key))
}

impl Classify for SealKeyFileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::EmptyPassphrase => ErrorKind::BadInput,
            Self::OutOfMemory { .. } => ErrorKind::LocalIo,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl Classify for OpenKeyFileError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Parse(_) | Self::Damaged => ErrorKind::LocalCorrupt,
            Self::PassphraseNeeded | Self::PassphraseNotNeeded | Self::WrongPassphrase => {
                ErrorKind::BadInput
            }
            Self::OutOfMemory { .. } => ErrorKind::LocalIo,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::Damaged => Some("the recovery phrase makes a new key file"),
            Self::OutOfMemory { .. } => {
                Some("close other programs, or open the store by its recovery phrase")
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
