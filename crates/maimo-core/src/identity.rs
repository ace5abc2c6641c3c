//! Who is who: Ed25519 keys by role, their text form, and signatures that say what they are for.
//!
//! Three roles, three types, so that none can stand where another belongs. A *client* key is a store's key on one channel. An *auth*
//! key is a provider's: TLS, receipts, the list of its addresses. An *onion* key only locates: Tor gets to see it, so it has no
//! `sign` and no `verify`.
//!
//! A public key that exists as a value is the one canonical encoding of a point of the prime-order group: keys that differ as bytes
//! differ as keys, and none of them verifies what it should not.

use core::{fmt, marker::PhantomData};

use ed25519_dalek::VerifyingKey;
use thiserror::Error;

use crate::{
    codec::{ParseError, Reader},
    error::{Classify, ErrorKind, Retry},
};

mod secret;
mod text;

pub use secret::{AuthSecretKey, ClientSecretKey, OnionSecretKey, SecretKey};
pub use text::ParseKeyError;

/// The role of a key; the three roles are all there are.
pub trait Role: sealed::Role {}

/// A role whose keys sign; an onion key's does not.
pub trait Authenticates: Role {}

/// The role of a store's key on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Client {}

/// The role of the key that proves who a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Auth {}

/// The role of the key that only says where a provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Onion {}

mod sealed {
    pub trait Role {
        const TYPE_NAME: &'static str;
        /// What follows the key's 56 characters in its text form.
        const SUFFIX: &'static str;
    }

    impl Role for super::Client {
        const TYPE_NAME: &'static str = "ClientPublicKey";
        const SUFFIX: &'static str = "";
    }

    impl Role for super::Auth {
        const TYPE_NAME: &'static str = "AuthPublicKey";
        const SUFFIX: &'static str = "";
    }

    impl Role for super::Onion {
        const TYPE_NAME: &'static str = "OnionPublicKey";
        const SUFFIX: &'static str = ".onion";
    }
}

impl Role for Client {}
impl Role for Auth {}
impl Role for Onion {}
impl Authenticates for Client {}
impl Authenticates for Auth {}

/// The public key of a store on one channel.
pub type ClientPublicKey = PublicKey<Client>;
/// The public key that proves who a provider is.
pub type AuthPublicKey = PublicKey<Auth>;
/// The public key that is an onion service's address; it proves nothing.
pub type OnionPublicKey = PublicKey<Onion>;

/// An Ed25519 public key of one role, 32 bytes.
///
/// Its text form is that of a v3 onion address; as in `docs/cryptography.md`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey<R> {
    bytes: [u8; 32],
    role: PhantomData<R>,
}

/// Bytes that are no usable public key: no point of the curve, not its canonical form, or a point with a small-order part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a usable ed25519 public key")]
pub struct InvalidKey;

impl<R: Role> PublicKey<R> {
    /// How many bytes a key takes.
    pub const LENGTH: usize = 32;

    /// Checks that `bytes` are a canonical point of the prime-order group other than the identity.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, InvalidKey> {
        let point = VerifyingKey::from_bytes(bytes)
            .map_err(|_| InvalidKey)?
            .to_edwards();
        // Decompression takes y modulo p, so 19 values of y have a second form; signers could deny one identity by the other.
        let is_canonical = point.compress().as_bytes() == bytes;
        // A part of order 2, 4 or 8 gives eight keys that one secret signs for; Tor's clients refuse such addresses, too.
        if is_canonical && !point.is_small_order() && point.is_torsion_free() {
            Ok(Self::trusted(*bytes))
        } else {
            Err(InvalidKey)
        }
    }

    /// Reads 32 bytes, checked as by [`Self::from_bytes`]; `what` names the field in the error.
    pub fn parse(reader: &mut Reader<'_>, what: &'static str) -> Result<Self, ParseError> {
        Self::from_bytes(&reader.array(what)?).map_err(|InvalidKey| ParseError::Invalid { what })
    }

    /// Returns the 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// Wraps bytes known to be such a point: a secret key's own public key.
    const fn trusted(bytes: [u8; 32]) -> Self {
        Self {
            bytes,
            role: PhantomData,
        }
    }
}

impl<R: Authenticates> PublicKey<R> {
    /// Checks that the holder of this key signed `message` in `context`; the bytes signed are `context || message`.
    ///
    /// Strict: no signature can be altered into another one of the same message.
    pub fn verify(
        &self,
        context: &str,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), BadSignature> {
        let key = VerifyingKey::from_bytes(&self.bytes).map_err(|_| BadSignature)?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        key.verify_strict(&[context.as_bytes(), message].concat(), &signature)
            .map_err(|_| BadSignature)
    }
}

impl<R: Role> fmt::Debug for PublicKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell two apart in a log, short enough to read.
        let start = data_encoding::HEXLOWER.encode(&self.bytes[..4]);
        write!(f, "{}({start}..)", R::TYPE_NAME)
    }
}

/// An Ed25519 signature; [`PublicKey::verify`] says what it is worth.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// How many bytes a signature takes.
    pub const LENGTH: usize = 64;

    /// Reads 64 bytes.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(Self(reader.array("signature")?))
    }

    /// Returns the 64 bytes.
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = data_encoding::HEXLOWER.encode(&self.0[..4]);
        write!(f, "Signature({start}..)")
    }
}

/// A signature that its supposed signer did not make, or not of this message in this context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the signature is not valid")]
pub struct BadSignature;

impl Classify for BadSignature {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl Classify for InvalidKey {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

#[cfg(test)]
mod tests;
