//! The text form of a public key: that of a v3 onion address (Tor's rend-spec-v3, "Encoding onion addresses").
//!
//! `base32(key || SHA3-256(".onion checksum" || key || 3)[..2] || 3)`: 35 bytes, 56 characters. An onion address ends in
//! `.onion`; the other keys do not, so that an address is not taken for a key that proves something.

use core::{fmt, str::FromStr};

use data_encoding::BASE32_NOPAD;
use sha3::{Digest, Sha3_256};
use thiserror::Error;

use super::{PublicKey, Role};
use crate::error::{Classify, ErrorKind, Retry};

const TEXT_LENGTH: usize = 56;
const VERSION: u8 = 3;
const ONION: &str = ".onion";

/// Why a text is not a key of the role asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// No `.onion` at the end of what should be an onion address.
    #[error("an onion address ends in .onion")]
    NotOnion,
    /// An onion address where a key belongs that proves who someone is.
    #[error("this is an onion address, which only locates: give the key without .onion")]
    IsOnion,
    /// Not 56 characters.
    #[error("a key has {TEXT_LENGTH} characters, this has {found}")]
    Length {
        /// How many characters there are.
        found: usize,
    },
    /// A character outside a-z and 2-7.
    #[error("character {position} is none of a-z and 2-7")]
    Character {
        /// Which character, from 1.
        position: usize,
    },
    /// Another version of the encoding.
    #[error("version {found} of a key's text is not known, only {VERSION} is")]
    Version {
        /// The version read.
        found: u8,
    },
    /// A mistyped character, most likely.
    #[error("the checksum does not fit: a character is wrong")]
    Checksum,
    /// Well encoded, but not the encoding of a key.
    #[error("not a usable ed25519 public key")]
    InvalidKey,
}

impl Classify for ParseKeyError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl<R: Role> fmt::Display for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [VERSION; 35];
        bytes[..32].copy_from_slice(&self.bytes);
        bytes[32..34].copy_from_slice(&checksum(&self.bytes));
        let mut text = BASE32_NOPAD.encode(&bytes);
        text.make_ascii_lowercase();
        write!(f, "{text}{}", R::SUFFIX)
    }
}

impl<R: Role> FromStr for PublicKey<R> {
    type Err = ParseKeyError;

    /// Reads the text form; capitals are taken as small letters, as in any host name.
    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let text = text.to_ascii_lowercase();
        let text = match (text.strip_suffix(ONION), R::SUFFIX) {
            (Some(text), ONION) => text,
            (Some(_), _) => return Err(ParseKeyError::IsOnion),
            (None, ONION) => return Err(ParseKeyError::NotOnion),
            (None, _) => &text,
        };
        let found = text.chars().count();
        if found != TEXT_LENGTH {
            return Err(ParseKeyError::Length { found });
        }
        let is_base32 = |c: char| matches!(c, 'a'..='z' | '2'..='7');
        if let Some(index) = text.chars().position(|c| !is_base32(c)) {
            return Err(ParseKeyError::Character {
                position: index + 1,
            });
        }
        let bytes: [u8; 35] = BASE32_NOPAD
            .decode(text.to_ascii_uppercase().as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .expect("56 characters of base32 are 35 bytes");
        let mut key = [0; 32];
        key.copy_from_slice(&bytes[..32]);
        // The version first: another version may well have another checksum.
        if bytes[34] != VERSION {
            return Err(ParseKeyError::Version { found: bytes[34] });
        }
        if bytes[32..34] != checksum(&key) {
            return Err(ParseKeyError::Checksum);
        }
        Self::from_bytes(&key).map_err(|_| ParseKeyError::InvalidKey)
    }
}

fn checksum(key: &[u8; 32]) -> [u8; 2] {
    let hash = Sha3_256::new()
        .chain_update(".onion checksum")
        .chain_update(key)
        .chain_update([VERSION])
        .finalize();
    [hash[0], hash[1]]
}
