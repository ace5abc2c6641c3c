//! BLAKE3 over secrets, so that nothing of them is left behind.
//!
//! A hash state knows its key and its last block. It is wiped, but `blake3` also builds states in passing and moves them, and what a
//! move leaves on the stack has no owner who could wipe it. So everything happens in one function below, and the stack that this
//! used is written over when it has returned. `tests/wiped.rs` searches the memory of the process for what this forgot.

use core::hint::black_box;

use blake3::Hasher;
use zeroize::Zeroize;

/// Fills `out` from BLAKE3 keyed with `key` over `head`, part by part, and then `body`.
pub(crate) fn keyed(key: &[u8; 32], head: &[&[u8]], body: &[u8], out: &mut [u8]) {
    /// What the short messages fit into: zeroing a whole batch would cost them more than they gain.
    const FEW_LEAVES_BYTES: usize = 4 * LEAF_BYTES;
    /// As many leaves as `blake3` hashes side by side, with AVX-512.
    const BATCH_BYTES: usize = 16 * LEAF_BYTES;

    let start = Start::Keyed(key);
    let head_bytes: usize = head.iter().map(|part| part.len()).sum();
    if head_bytes == 0 || head_bytes >= BATCH_BYTES {
        run(&start, head, body, out);
    } else if head_bytes.saturating_add(body.len()) <= FEW_LEAVES_BYTES {
        gathered::<FEW_LEAVES_BYTES>(&start, head, body, out);
    } else {
        gathered::<BATCH_BYTES>(&start, head, body, out);
    }
}

/// Fills `out` from BLAKE3 in its key derivation mode with `context` over `parts`, one behind the other.
pub(crate) fn derive(context: &str, parts: &[&[u8]], out: &mut [u8]) {
    run(&Start::Derive(context), parts, &[], out);
}

/// Fills `out` from BLAKE3 over `parts`, one behind the other.
pub(crate) fn plain(parts: &[&[u8]], out: &mut [u8]) {
    run(&Start::Plain, parts, &[], out);
}

/// What BLAKE3 calls a chunk.
const LEAF_BYTES: usize = 1024;

enum Start<'a> {
    Keyed(&'a [u8; 32]),
    Derive(&'a str),
    Plain,
}

/// [`run`] over the same bytes, of which the first `N` are brought together before.
///
/// Leaves are hashed side by side only within one `update`, and only as many as stand whole in it, as a power of two that the count so
/// far allows: behind a head of a few bytes the batches would be 1, 1, 2, 4 and 8 leaves, each of which takes nearly as long as one of 16.
/// `head` must not be longer than `N`.
// Never inlined, or short messages would have the long ones' frame.
#[inline(never)]
fn gathered<const N: usize>(start: &Start<'_>, head: &[&[u8]], body: &[u8], out: &mut [u8]) {
    let mut lead = [0; N];
    let mut filled = 0;
    for part in head {
        lead[filled..][..part.len()].copy_from_slice(part);
        filled += part.len();
    }
    let (first, rest) = body.split_at(body.len().min(N - filled));
    lead[filled..][..first.len()].copy_from_slice(first);
    filled += first.len();
    run(start, &[&lead[..filled]], rest, out);
    // A copy of the plaintext. Not by `zeroize`, which writes byte by byte.
    lead[..filled].fill(0);
    black_box(&mut lead);
}

/// Both calls are in this one function, so that they get the same stack, wherever it may be inlined.
fn run(start: &Start<'_>, head: &[&[u8]], body: &[u8], out: &mut [u8]) {
    squeeze(start, head, body, out);
    scrub_stack();
}

// Never inlined, or its leavings would lie in the caller's frame, where `scrub_stack` does not reach.
#[inline(never)]
fn squeeze(start: &Start<'_>, head: &[&[u8]], body: &[u8], out: &mut [u8]) {
    let mut hasher = match start {
        Start::Keyed(key) => Hasher::new_keyed(key),
        Start::Derive(context) => Hasher::new_derive_key(context),
        Start::Plain => Hasher::new(),
    };
    for part in head {
        hasher.update(part);
    }
    hasher.update(body);
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths about every border at which bytes are brought together otherwise.
    const LENGTHS: [usize; 17] = [
        0, 1, 31, 96, 1023, 1024, 1025, 4000, 4095, 4096, 4097, 16_288, 16_383, 16_384, 16_385,
        40_000, 131_072,
    ];

    #[test]
    fn however_bytes_are_brought_together_the_hash_is_blake3() {
        let bytes: Vec<u8> = (0..=250).cycle().take(300_000).collect();
        for head_bytes in LENGTHS {
            for body_bytes in LENGTHS {
                let input = &bytes[..head_bytes + body_bytes];
                let (head, body) = input.split_at(head_bytes);
                let (one, two) = head.split_at(head_bytes / 3);
                let mut out = [0; 32];
                keyed(&[7; 32], &[one, two], body, &mut out);
                let expected = blake3::keyed_hash(&[7; 32], input);
                assert_eq!(&out, expected.as_bytes(), "{head_bytes}, {body_bytes}");
            }
        }
    }
}
