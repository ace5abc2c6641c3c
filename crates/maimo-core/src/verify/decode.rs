//! Checking slices, on the side that knows only the object's name.

use core::ops::Range;

use blake3::Hash;
use thiserror::Error;

use super::{Selection, Verified, hash, selection::Step};
use crate::{
    codec::{ParseError, Reader},
    error::{Classify, ErrorKind, Retry},
    reference::ObjectRef,
    units::LEAF_BYTES,
};

/// Why a slice proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SliceError {
    /// The slice claims another length than the reference: the lie by which a lost end can be hidden.
    #[error("the slice is of an object of {found} bytes, not of {expected}")]
    Length {
        /// The reference's length.
        expected: u64,
        /// The header's.
        found: u64,
    },
    /// A selection that was made for an object of another length.
    #[error("the selection is of an object of another length")]
    Selection,
    /// The slice ends early or goes on too long.
    #[error("the slice is not as long as it must be")]
    Parse(#[from] ParseError),
    /// Bytes or hashes that do not lead to the root.
    #[error("bytes {offset} and on do not match the root hash of the object")]
    Mismatch {
        /// Where what cannot be trusted begins, in bytes.
        offset: u64,
    },
}

impl Classify for SliceError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Selection => ErrorKind::Bug,
            _ => ErrorKind::ProviderMisbehaved,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        (self.kind() == ErrorKind::ProviderMisbehaved)
            .then_some("fetch it from another provider, if the store has one")
    }
}

/// A run of an object's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Where it begins in the object, in bytes.
    pub offset: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Returns the selected bytes of `object`, each selected run as one extent, if `slice` is their slice and nothing more.
///
/// # Errors
///
/// Anything about the slice that is not exactly as it must be.
pub fn decode_slice(
    slice: &[u8],
    object: &ObjectRef,
    selection: &Selection,
) -> Result<Verified<Vec<Extent>>, SliceError> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut reader = Reader::new(slice);
    walk(&mut reader, object, selection, |leaves, bytes| {
        let offset = leaves.start * LEAF_BYTES;
        let bytes = bytes.ok_or(SliceError::Mismatch { offset })?;
        match extents.last_mut() {
            Some(last) if last.offset + last.bytes.len() as u64 == offset => {
                last.bytes.extend_from_slice(bytes);
            }
            _ => extents.push(Extent {
                offset,
                bytes: bytes.to_vec(),
            }),
        }
        Ok(())
    })?;
    reader.finish()?;
    Ok(Verified(extents))
}

/// Returns which selected leaves of `object` the slice does *not* prove, as runs of leaf numbers: nothing if all is well. What is
/// wrong in one place does not hide what is right in another.
///
/// # Errors
///
/// A header with another length, a slice of another length than [`Selection::slice_bytes`]: then it proves nothing at all.
pub fn inspect_slice(
    slice: &[u8],
    object: &ObjectRef,
    selection: &Selection,
) -> Result<Vec<Range<u64>>, SliceError> {
    let mut failed = Vec::new();
    let mut reader = Reader::new(slice);
    walk(&mut reader, object, selection, |leaves, bytes| {
        failed.extend(bytes.is_none().then_some(leaves));
        Ok(())
    })?;
    reader.finish()?;
    Ok(failed)
}

/// Returns the bytes marked, if they are the whole of `object`.
///
/// # Errors
///
/// Another length, another hash.
pub fn verify_whole(bytes: Vec<u8>, object: &ObjectRef) -> Result<Verified<Vec<u8>>, SliceError> {
    let (expected, found) = (object.length, bytes.len() as u64);
    if expected != found {
        return Err(SliceError::Length { expected, found });
    }
    if !object.names(&bytes) {
        return Err(SliceError::Mismatch { offset: 0 });
    }
    Ok(Verified(bytes))
}

/// Walks a slice and says of every stretch of selected leaves its bytes, or nothing if a hash on the way to it was wrong.
fn walk<'a>(
    reader: &mut Reader<'a>,
    object: &ObjectRef,
    selection: &Selection,
    mut found: impl FnMut(Range<u64>, Option<&'a [u8]>) -> Result<(), SliceError>,
) -> Result<(), SliceError> {
    const WHAT: &str = "slice";
    if selection.length() != object.length {
        return Err(SliceError::Selection);
    }
    // Before anything is decoded: the geometry of every step follows from the length.
    let claimed = reader.u64(WHAT)?;
    if claimed != object.length {
        return Err(SliceError::Length {
            expected: object.length,
            found: claimed,
        });
    }
    // The hash each coming step must have, the very next on top; nothing where a node above was wrong.
    let mut expected = vec![Some(Hash::from_bytes(object.root.0))];
    for step in selection.steps() {
        let hash = expected.pop().flatten();
        match step {
            Step::Parent {
                is_root,
                left,
                right,
                ..
            } => {
                let pair = reader.array::<64>(WHAT)?;
                let below =
                    (hash == Some(hash::parent(&pair, is_root))).then(|| hash::split(&pair));
                expected.extend(right.then_some(below.map(|(_, right)| right)));
                expected.extend(left.then_some(below.map(|(left, _)| left)));
            }
            Step::Leaf {
                start_chunk: first,
                size,
                is_root,
                ..
            } => {
                let bytes = reader.take(size, WHAT)?;
                let proven =
                    hash.is_some_and(|hash| hash == hash::subtree(first.0, bytes, is_root));
                let leaves = first.0..first.0 + (size as u64).div_ceil(LEAF_BYTES);
                found(leaves, proven.then_some(bytes))?;
            }
        }
    }
    Ok(())
}
