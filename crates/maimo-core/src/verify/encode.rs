//! Making slices, on the side that holds the object.

use std::io;

use bao_tree::TreeNode;
use blake3::Hash;
use thiserror::Error;

use super::{
    ReadAt, Selection, hash,
    outboard::{self, GROUP_LOG},
    selection::Step,
};
use crate::{
    codec::Put,
    error::{Classify, ErrorKind, Retry},
    id::RootHash,
    units::{GROUP_BYTES, LEAF_BYTES},
};

/// A slice's header: the object's length.
pub(super) const HEADER_BYTES: u64 = 8;

/// Why a slice cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EncodeSliceError {
    /// The object or its outboard cannot be read.
    #[error("the object cannot be read")]
    Read(#[from] io::Error),
    /// What was read is not what the root names.
    #[error("the object is damaged: bytes {offset} and on do not match its root hash")]
    Damaged {
        /// Where the damaged part begins, in bytes.
        offset: u64,
    },
}

impl Classify for EncodeSliceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Read(_) => ErrorKind::LocalIo,
            Self::Damaged { .. } => ErrorKind::LocalCorrupt,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Read(_) => Retry::AfterWaiting,
            Self::Damaged { .. } => Retry::Never,
        }
    }
}

/// Appends the slice of the object that `root` names, checking all it reads on the way. It reads only groups that are selected, in
/// whole or in part.
///
/// # Errors
///
/// What cannot be read, or is not what it was; `out` then ends in part of a slice.
pub fn encode_slice(
    data: &impl ReadAt,
    outboard: &impl ReadAt,
    root: &RootHash,
    selection: &Selection,
    out: &mut Vec<u8>,
) -> Result<(), EncodeSliceError> {
    encode(data, outboard, Some(root), selection, out)
}

/// Appends a slice without checking it: for an audit, in which the other side finds out which blocks are damaged.
///
/// # Errors
///
/// What cannot be read; `out` then ends in part of a slice.
pub fn encode_slice_as_is(
    data: &impl ReadAt,
    outboard: &impl ReadAt,
    selection: &Selection,
    out: &mut Vec<u8>,
) -> Result<(), EncodeSliceError> {
    encode(data, outboard, None, selection, out)
}

fn encode(
    data: &impl ReadAt,
    outboard: &impl ReadAt,
    root: Option<&RootHash>,
    selection: &Selection,
    out: &mut Vec<u8>,
) -> Result<(), EncodeSliceError> {
    let length = selection.length();
    let mut group = Group {
        data,
        length,
        index: None,
        bytes: Vec::new(),
    };
    // The hashes that the next steps must have, the very next on top; unused where nothing is checked.
    let mut expected: Vec<Hash> = Vec::from_iter(root.map(|root| Hash::from_bytes(root.0)));
    out.put_u64(length);
    for step in selection.steps() {
        match step {
            Step::Parent {
                node,
                is_root,
                left,
                right,
                ..
            } => {
                let pair = if node.level() >= u32::from(GROUP_LOG) {
                    outboard::load(outboard, length, node)?
                } else {
                    group.pair(node)?
                };
                if root.is_some() {
                    if expected.pop() != Some(hash::parent(&pair, is_root)) {
                        let offset = node.chunk_range().start.0 * LEAF_BYTES;
                        return Err(EncodeSliceError::Damaged { offset });
                    }
                    let (left_hash, right_hash) = hash::split(&pair);
                    expected.extend(right.then_some(right_hash));
                    expected.extend(left.then_some(left_hash));
                }
                out.put(&pair);
            }
            Step::Leaf {
                start_chunk: first,
                size,
                is_root,
                ..
            } => {
                let bytes = group.part(first.0, size)?;
                if root.is_some() && expected.pop() != Some(hash::subtree(first.0, bytes, is_root))
                {
                    let offset = first.0 * LEAF_BYTES;
                    return Err(EncodeSliceError::Damaged { offset });
                }
                out.put(bytes);
            }
        }
    }
    Ok(())
}

/// The group that was read last: the steps through a group follow each other.
struct Group<'a, D> {
    data: &'a D,
    length: u64,
    index: Option<u64>,
    bytes: Vec<u8>,
}

impl<D: ReadAt> Group<'_, D> {
    /// Returns `size` bytes from leaf `first` on, all of one group.
    fn part(&mut self, first: u64, size: usize) -> io::Result<&[u8]> {
        let offset = first * LEAF_BYTES;
        let index = offset / GROUP_BYTES;
        if self.index != Some(index) {
            let start = index * GROUP_BYTES;
            let size = (self.length - start).min(GROUP_BYTES);
            self.index = None;
            self.bytes.resize(usize::try_from(size).unwrap_or(0), 0);
            self.data.read_exact_at(start, &mut self.bytes)?;
            self.index = Some(index);
        }
        let within = usize::try_from(offset % GROUP_BYTES).unwrap_or(0);
        self.bytes
            .get(within..within + size)
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Returns the hash pair of a node inside a group.
    fn pair(&mut self, node: TreeNode) -> io::Result<[u8; 64]> {
        let (leaves, middle) = (node.chunk_range(), node.mid().0);
        let end = (leaves.end.0 * LEAF_BYTES).min(self.length);
        let mut pair = [0; 64];
        for (half, (first, end)) in pair
            .chunks_exact_mut(32)
            .zip([(leaves.start.0, middle * LEAF_BYTES), (middle, end)])
        {
            let size = usize::try_from(end - first * LEAF_BYTES).unwrap_or(0);
            let hash = hash::subtree(first, self.part(first, size)?, false);
            half.copy_from_slice(hash.as_bytes());
        }
        Ok(pair)
    }
}
