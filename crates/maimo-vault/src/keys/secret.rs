//! [`Secret`]: 32 secret bytes at one place, and what may be hashed with them.

use blake3::Hasher;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes on the heap, so that moving them leaves no copy behind; wiped on drop. Hash states that knew them are wiped, too.
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
        Self::fill(|out| squeeze(Hasher::new_derive_key(context), parts, out))
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
        squeeze(Hasher::new_keyed(&self.0), &[input], out);
    }
}

/// Hashes `parts` and fills `out`, then wipes the states: the last block, secret and all, stands in them.
fn squeeze(mut hasher: Hasher, parts: &[&[u8]], out: &mut [u8]) {
    for part in parts {
        hasher.update(part);
    }
    let mut reader = hasher.finalize_xof();
    reader.fill(out);
    reader.zeroize();
    hasher.zeroize();
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for Secret {}
