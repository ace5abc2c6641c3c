//! [`Secret`]: 32 secret bytes at one place, and what may be hashed with them.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::hash;

/// 32 secret bytes on the heap, so that moving them leaves no copy behind; wiped on drop.
pub(super) struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Makes a secret in place: what `write` leaves.
    pub(super) fn fill(write: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut secret = Self(Box::new([0; 32]));
        write(&mut secret.0);
        secret
    }

    /// `derive_key(context, the parts, one behind the other)`.
    pub(super) fn derive(context: &str, parts: &[&[u8]]) -> Self {
        Self::fill(|out| hash::derive(context, parts, out))
    }

    pub(super) const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// BLAKE3 of `input`, keyed.
    pub(super) fn keyed_hash(&self, input: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        self.keyed_xof(input, &mut out);
        out
    }

    /// The extended output of BLAKE3 over `input`, keyed.
    pub(super) fn keyed_xof(&self, input: &[u8], out: &mut [u8]) {
        hash::keyed(&self.0, &[], input, out);
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}
