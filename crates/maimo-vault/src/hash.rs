//! BLAKE3 over secrets, so that nothing of them is left behind.
//!
//! A hash state knows its key and its last block. It is wiped, but `blake3` also builds states in passing and moves them, and what a
//! move leaves on the stack has no owner who could wipe it. So everything happens in one function below, and the stack that this
//! used is written over when it has returned. `tests/wiped.rs` searches the memory of the process for what this forgot.

use core::hint::black_box;

use blake3::Hasher;
use zeroize::Zeroize;

/// Fills `out` from BLAKE3 keyed with `key` over `parts`, one behind the other.
pub(crate) fn keyed(key: &[u8; 32], parts: &[&[u8]], out: &mut [u8]) {
    squeeze(&Start::Keyed(key), parts, out);
    scrub_stack();
}

/// Fills `out` from BLAKE3 in its key derivation mode with `context` over `parts`, one behind the other.
pub(crate) fn derive(context: &str, parts: &[&[u8]], out: &mut [u8]) {
    squeeze(&Start::Derive(context), parts, out);
    scrub_stack();
}

/// Fills `out` from BLAKE3 over `parts`, one behind the other.
pub(crate) fn plain(parts: &[&[u8]], out: &mut [u8]) {
    squeeze(&Start::Plain, parts, out);
    scrub_stack();
}

enum Start<'a> {
    Keyed(&'a [u8; 32]),
    Derive(&'a str),
    Plain,
}

// Never inlined, or its leavings would lie in the caller's frame, where `scrub_stack` does not reach.
#[inline(never)]
fn squeeze(start: &Start<'_>, parts: &[&[u8]], out: &mut [u8]) {
    let mut hasher = match start {
        Start::Keyed(key) => Hasher::new_keyed(key),
        Start::Derive(context) => Hasher::new_derive_key(context),
        Start::Plain => Hasher::new(),
    };
    for part in parts {
        hasher.update(part);
    }
    // Not by `finalize`: where the input is short its state is the key, and nobody wipes that.
    let mut reader = hasher.finalize_xof();
    reader.fill(out);
    reader.zeroize();
    hasher.zeroize();
}

/// Writes zeros over the stack that a function just called has used: the same addresses, as it is called from the same frame.
#[inline(never)]
fn scrub_stack() {
    /// A few hash states; measured, they are what lies there.
    const ROOM_BYTES: usize = 8192;
    black_box(&mut [0_u8; ROOM_BYTES]);
}
