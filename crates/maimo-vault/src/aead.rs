//! XChaCha8-BLAKE3-SIV: seal and open, nothing else.
//!
//! ```text
//! tag        = BLAKE3-keyed(key, nonce[24] || le64(len(ad)) || ad || plaintext)
//! ciphertext = XChaCha8(key, tag[0..24]) xor plaintext
//! ```
//!
//! P. Grandperrin's construction, bit for bit. The tag, all 32 bytes of it, is the stream cipher's nonce as well, so equal nonces do
//! not break it: they show which messages are equal, and that is all. What it claims and where its limits are:
//! `docs/cryptography.md`. Sealed bytes are everywhere in Maimo `ciphertext || tag`.

use aead::{
    AeadCore, AeadInOut, Key, KeyInit, KeySizeUser, Nonce, Tag, TagPosition,
    array::Array,
    consts::{U24, U32},
    inout::InOutBuf,
};
use chacha20::{
    XChaCha8,
    cipher::{KeyIvInit, StreamCipher},
};
use maimo_core::error::{Classify, ErrorKind, Retry};
use subtle::ConstantTimeEq;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::hash;

/// How many bytes a key takes.
pub const KEY_BYTES: usize = 32;
/// How many bytes a nonce takes.
pub const NONCE_BYTES: usize = 24;
/// How many bytes a tag takes: how much longer sealed bytes are than what they seal.
pub const TAG_BYTES: usize = 32;

/// A key of XChaCha8-BLAKE3-SIV, ready to seal and open; wiped on drop, never printed or copied.
///
/// ```
/// use maimo_vault::aead::XChaCha8Blake3Siv;
///
/// let cipher = XChaCha8Blake3Siv::from_key(&[7; 32]);
/// let mut buffer = *b"in place";
/// let tag = cipher.seal_in_place(&[1; 24], b"ad", &mut buffer);
/// cipher.open_in_place(&[1; 24], b"ad", &mut buffer, &tag)?;
/// assert_eq!(&buffer, b"in place");
/// # Ok::<(), maimo_vault::aead::CannotOpen>(())
/// ```
/// ```compile_fail,E0277
/// format!("{:?}", maimo_vault::aead::XChaCha8Blake3Siv::from_key(&[7; 32]));
/// ```
/// ```compile_fail,E0599
/// let _ = maimo_vault::aead::XChaCha8Blake3Siv::from_key(&[7; 32]).clone();
/// ```
pub struct XChaCha8Blake3Siv {
    // On the heap, so that moving the cipher leaves no copy behind.
    key: Box<[u8; KEY_BYTES]>,
}

/// Sealed bytes that do not open: altered, cut, or not sealed under this key, nonce and associated data. Nothing says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("cannot open")]
pub struct CannotOpen;

impl Classify for CannotOpen {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl XChaCha8Blake3Siv {
    /// Takes a key; wiping `key` itself is the caller's part.
    pub fn from_key(key: &[u8; KEY_BYTES]) -> Self {
        let mut own = Box::new([0; KEY_BYTES]);
        own.copy_from_slice(key);
        Self { key: own }
    }

    /// Seals `buffer` in place and returns the tag, which belongs behind it.
    ///
    /// # Panics
    ///
    /// On a buffer of 256 GiB or more, the stream cipher's end; no object of Maimo is a thousandth of that.
    #[must_use]
    pub fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        buffer: &mut [u8],
    ) -> [u8; TAG_BYTES] {
        let tag = self.tag(nonce, ad, buffer);
        self.stream(&tag, buffer.into())
            .expect("buffers are shorter than 256 GiB");
        tag
    }

    /// Opens `buffer` in place; where it does not open, the buffer is zeroed, so that nothing unproven is ever read.
    pub fn open_in_place(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), CannotOpen> {
        self.open(nonce, ad, buffer.into(), tag)
    }

    fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        ad: &[u8],
        mut buffer: InOutBuf<'_, '_, u8>,
        tag: &[u8; TAG_BYTES],
    ) -> Result<(), CannotOpen> {
        self.stream(tag, buffer.reborrow())?;
        let expected = self.tag(nonce, ad, buffer.get_out());
        if expected.ct_eq(tag).into() {
            Ok(())
        } else {
            buffer.get_out().zeroize();
            Err(CannotOpen)
        }
    }

    fn tag(&self, nonce: &[u8; NONCE_BYTES], ad: &[u8], plaintext: &[u8]) -> [u8; TAG_BYTES] {
        let length = (ad.len() as u64).to_le_bytes();
        let mut tag = [0; TAG_BYTES];
        hash::keyed(&self.key, &[nonce, &length, ad], plaintext, &mut tag);
        tag
    }

    /// Fails only where `buffer` is longer than the key stream.
    fn stream(
        &self,
        tag: &[u8; TAG_BYTES],
        buffer: InOutBuf<'_, '_, u8>,
    ) -> Result<(), CannotOpen> {
        let mut nonce = Array::<u8, U24>::default();
        nonce.copy_from_slice(&tag[..NONCE_BYTES]);
        XChaCha8::new((&*self.key).into(), &nonce)
            .try_apply_keystream_inout(buffer)
            .map_err(|_| CannotOpen)
    }
}

impl Drop for XChaCha8Blake3Siv {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

impl ZeroizeOnDrop for XChaCha8Blake3Siv {}

impl KeySizeUser for XChaCha8Blake3Siv {
    type KeySize = U32;
}

impl KeyInit for XChaCha8Blake3Siv {
    fn new(key: &Key<Self>) -> Self {
        Self::from_key(key.as_ref())
    }
}

impl AeadCore for XChaCha8Blake3Siv {
    type NonceSize = U24;
    type TagSize = U32;
    const TAG_POSITION: TagPosition = TagPosition::Postfix;
}

impl AeadInOut for XChaCha8Blake3Siv {
    fn encrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        buffer: InOutBuf<'_, '_, u8>,
    ) -> aead::Result<Tag<Self>> {
        let tag = self.tag(nonce.as_ref(), associated_data, buffer.get_in());
        self.stream(&tag, buffer).map_err(|_| aead::Error)?;
        Ok(tag.into())
    }

    fn decrypt_inout_detached(
        &self,
        nonce: &Nonce<Self>,
        associated_data: &[u8],
        buffer: InOutBuf<'_, '_, u8>,
        tag: &Tag<Self>,
    ) -> aead::Result<()> {
        self.open(nonce.as_ref(), associated_data, buffer, tag.as_ref())
            .map_err(|_| aead::Error)
    }
}

#[cfg(test)]
mod tests;
