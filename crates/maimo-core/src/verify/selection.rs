//! [`Selection`]: which part of an object a slice is of.

use core::ops::Range;

use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRangesRef,
    iter::{BaoChunk, PreOrderPartialChunkIterRef},
};
use thiserror::Error;

use super::outboard::GROUP_LOG;
use crate::{
    error::{Classify, ErrorKind, Retry},
    live_map::LiveMap,
    units::{BLOCK_BYTES, GROUP_BYTES, LEAF_BYTES},
};

/// Why a selection cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SelectionError {
    /// Nothing is selected.
    #[error("nothing is selected")]
    Empty,
    /// Runs that are empty, out of order, or touch.
    #[error("the selected runs are not in order")]
    Order,
    /// Something past the end of the object.
    #[error("the selection ends after the object of {length} bytes does")]
    OutOfRange {
        /// The object's length.
        length: u64,
    },
    /// An object longer than slices are made of.
    #[error("an object of {length} bytes is too long for slices")]
    TooLong {
        /// The object's length.
        length: u64,
    },
}

impl Classify for SelectionError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// A part of an object of a known length: whole chunk groups, or 4 KiB blocks.
///
/// The unit also chooses the form of the slice. Groups are for reading: a selected group is sent without the hashes inside it, for these
/// follow from its bytes. Blocks are for proving: the hashes go down to the leaves, as the reference tool wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    length: u64,
    /// Leaf numbers at which the selection begins and ends by turns; the last end is left out where it is the object's.
    boundaries: Vec<ChunkNum>,
    /// Inner nodes below this level are left out where all below them is selected.
    full_level: u8,
}

/// One step through the tree: `Parent` 64 bytes of hashes, `Leaf` so many bytes of the object.
pub(super) type Step = BaoChunk;

impl Selection {
    /// The longest object slices are made of, in bytes.
    pub const OBJECT_BYTES_MAX: u64 = 1 << 40;

    /// Selects whole groups of an object of `length` bytes, by runs that ascend and do not touch.
    ///
    /// # Errors
    ///
    /// No runs, runs that are empty or out of order, a run that ends after the object.
    pub fn groups(
        length: u64,
        runs: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Self, SelectionError> {
        Self::new(length, GROUP_BYTES, GROUP_LOG, runs)
    }

    /// Selects the groups of a map.
    ///
    /// # Errors
    ///
    /// An empty map, a map of a longer object.
    pub fn of_map(length: u64, map: &LiveMap) -> Result<Self, SelectionError> {
        Self::groups(
            length,
            map.runs().map(|run| run.start.into()..run.end.into()),
        )
    }

    /// Selects 4 KiB blocks of an object of `length` bytes, by strictly ascending indexes.
    ///
    /// # Errors
    ///
    /// No blocks, blocks out of order, a block past the end.
    pub fn blocks(
        length: u64,
        blocks: impl IntoIterator<Item = u64>,
    ) -> Result<Self, SelectionError> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for block in blocks {
            let end = block
                .checked_add(1)
                .ok_or(SelectionError::OutOfRange { length })?;
            match runs.last_mut() {
                Some(run) if run.end == block => run.end = end,
                _ => runs.push(block..end),
            }
        }
        Self::new(length, BLOCK_BYTES, 0, runs)
    }

    fn new(
        length: u64,
        unit: u64,
        full_level: u8,
        runs: impl IntoIterator<Item = Range<u64>>,
    ) -> Result<Self, SelectionError> {
        // The geometry below computes with the length and must not overflow.
        if length > Self::OBJECT_BYTES_MAX {
            return Err(SelectionError::TooLong { length });
        }
        let (units, leaves) = (length.div_ceil(unit), length.div_ceil(LEAF_BYTES));
        let mut boundaries = Vec::new();
        let mut least = 0;
        for run in runs {
            if run.start < least || run.is_empty() {
                return Err(SelectionError::Order);
            }
            if run.end > units {
                return Err(SelectionError::OutOfRange { length });
            }
            least = run.end + 1;
            let leaf = |number: u64| ChunkNum((number * unit / LEAF_BYTES).min(leaves));
            boundaries.extend([leaf(run.start), leaf(run.end)]);
        }
        if boundaries.is_empty() {
            return Err(SelectionError::Empty);
        }
        if boundaries.last() == Some(&ChunkNum(leaves)) {
            boundaries.pop();
        }
        Ok(Self {
            length,
            boundaries,
            full_level,
        })
    }

    /// Returns the object's length in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Returns how many bytes the slice of this selection has, its header included: it depends on nothing else.
    pub fn slice_bytes(&self) -> u64 {
        let step = |step: Step| match step {
            Step::Parent { .. } => 64,
            Step::Leaf { size, .. } => size as u64,
        };
        super::encode::HEADER_BYTES + self.steps().map(step).sum::<u64>()
    }

    /// Walks what of the tree belongs to the slice, in the slice's order: a node, what is selected on its left, on its right.
    pub(super) fn steps(&self) -> impl Iterator<Item = Step> + '_ {
        let ranges = ChunkRangesRef::new(&self.boundaries).expect("boundaries ascend strictly");
        let tree = BaoTree::new(self.length, BlockSize::ZERO);
        PreOrderPartialChunkIterRef::new(tree, ranges, self.full_level)
            .map(|step| step.without_ranges())
    }
}
