//! Slices: parts of an object with the hashes that prove them.
//!
//! An object's hash tree is BLAKE3's own. Its [`Outboard`] keeps the inner nodes above the chunk groups; what lies below is hashed again from
//! the group when it is needed. A [`Selection`] says which groups or blocks of an object a slice is of; [`encode_slice`] makes
//! it, [`decode_slice`] checks it. Both walk the same tree in the same order, so a slice carries no positions and no lengths but
//! one: eight bytes of header with the object's length, which must be the one in its [`ObjectRef`](crate::reference::ObjectRef).
//!
//! The geometry of the tree (which nodes, in which order) is bao-tree's. A slice of blocks is, for a single run, byte for byte what the
//! reference `bao` tool makes.
//!
//! Invariant: no byte leaves this module as [`Verified`] whose hashes were not followed up to a root that the caller named.

mod builder;
mod decode;
mod encode;
mod outboard;
mod selection;

use core::ops::Deref;
use std::io;

pub use self::{
    builder::{HashedRange, OutboardBuilder},
    decode::{Extent, SliceError, decode_slice, inspect_slice, verify_whole},
    encode::{EncodeSliceError, encode_slice, encode_slice_as_is},
    outboard::Outboard,
    selection::{Selection, SelectionError},
};

/// Bytes that were held against a hash the caller named. Only this module makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// Returns the bytes, no longer marked.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Something that can be read anywhere: a file, a part of one, bytes in memory.
pub trait ReadAt {
    /// Fills `buffer` with what stands at `offset`, in bytes.
    ///
    /// # Errors
    ///
    /// Whatever the medium says; [`io::ErrorKind::UnexpectedEof`] where the bytes end too early.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for [u8] {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?));
        buffer.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self[..].read_exact_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        (**self).read_exact_at(offset, buffer)
    }
}

/// BLAKE3's tree, node by node.
mod hash {
    use blake3::{
        Hash, Hasher,
        hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
    };

    use crate::units::LEAF_BYTES;

    /// Returns the hash of the subtree over `bytes`, which begin at leaf `first_leaf`.
    pub(super) fn subtree(first_leaf: u64, bytes: &[u8], is_root: bool) -> Hash {
        if is_root {
            return blake3::hash(bytes);
        }
        let mut hasher = Hasher::new();
        hasher.set_input_offset(first_leaf * LEAF_BYTES);
        hasher.update(bytes);
        hasher.finalize_non_root().into()
    }

    /// Returns the hash of the node above two subtrees.
    pub(super) fn parent(pair: &[u8; 64], is_root: bool) -> Hash {
        let (left, right) = split(pair);
        let (left, right) = (left.as_bytes(), right.as_bytes());
        if is_root {
            merge_subtrees_root(left, right, Mode::Hash)
        } else {
            merge_subtrees_non_root(left, right, Mode::Hash).into()
        }
    }

    /// Returns the two hashes of a pair.
    pub(super) fn split(pair: &[u8; 64]) -> (Hash, Hash) {
        let mut halves = ([0; 32], [0; 32]);
        halves.0.copy_from_slice(&pair[..32]);
        halves.1.copy_from_slice(&pair[32..]);
        (halves.0.into(), halves.1.into())
    }
}

#[cfg(test)]
mod tests;
