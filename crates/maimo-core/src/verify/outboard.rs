//! [`Outboard`]: the inner hashes of an object above its chunk groups.

use std::io;

use bao_tree::{BaoTree, BlockSize, TreeNode, io::sync::outboard_post_order};

use super::ReadAt;
use crate::{
    id::RootHash,
    reference::ObjectRef,
    units::{GROUP_BYTES, LEAF_BYTES, outboard_bytes},
};

/// The power of two of leaves in a group.
pub(super) const GROUP_LOG: u8 = 4;
const _: () = assert!(LEAF_BYTES << GROUP_LOG == GROUP_BYTES);

/// The hash pairs of all inner nodes above the groups, 64 bytes each, children before their parents.
///
/// Post-order, because it is the order in which they become known while the object streams by: no length is needed beforehand
/// and nothing is written twice. The length is that of [`outboard_bytes`], without a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outboard {
    object: ObjectRef,
    hashes: Vec<u8>,
}

impl Outboard {
    pub(super) const fn new(object: ObjectRef, hashes: Vec<u8>) -> Self {
        Self { object, hashes }
    }

    /// Hashes an object.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn of(object: &[u8]) -> Self {
        Self::read(object.len() as u64, object)
            .expect("as many bytes as asked for are there, and a vector takes them")
    }

    /// Hashes the first `length` bytes of `object`.
    ///
    /// # Errors
    ///
    /// Those of the reader.
    pub fn read(length: u64, object: impl io::Read) -> io::Result<Self> {
        let mut hashes = Vec::with_capacity(usize::try_from(outboard_bytes(length)).unwrap_or(0));
        let root = outboard_post_order(object, group_tree(length), &mut hashes)?;
        Ok(Self {
            object: ObjectRef {
                root: RootHash(*root.as_bytes()),
                length,
            },
            hashes,
        })
    }

    /// Returns how the object is named.
    pub const fn object(&self) -> &ObjectRef {
        &self.object
    }

    /// Returns the hash pairs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.hashes
    }

    /// Returns the hash pairs.
    pub fn into_bytes(self) -> Vec<u8> {
        self.hashes
    }
}

/// Reads the hash pair of a node above the groups.
pub(super) fn load(outboard: &impl ReadAt, length: u64, node: TreeNode) -> io::Result<[u8; 64]> {
    let mut pair = [0; 64];
    let offset = group_tree(length)
        .post_order_offset(node)
        .ok_or(io::ErrorKind::InvalidInput)?;
    outboard.read_exact_at(offset.value() * 64, &mut pair)?;
    Ok(pair)
}

const fn group_log() -> BlockSize {
    BlockSize::from_chunk_log(GROUP_LOG)
}

fn group_tree(length: u64) -> BaoTree {
    BaoTree::new(length, group_log())
}
