//! [`OutboardBuilder`]: an object hashed while its ranges come in, in any order.

use core::fmt;

use blake3::{Hash, hazmat::left_subtree_len};

use super::{hash, outboard::Outboard};
use crate::{
    id::RootHash,
    reference::ObjectRef,
    units::{GROUP_BYTES, LEAF_BYTES, groups, outboard_bytes},
};

/// Makes an object's outboard and root from its ranges, each seen once.
///
/// A range begins at a multiple of [`Self::RANGE_BYTES`], a power of two, so it is a subtree of BLAKE3's tree: whoever hashes it needs
/// to know where it begins, and nothing of its neighbours. [`HashedRange::of`] does that work without the builder, so that several
/// threads may; what is left for the end is one node for each range.
#[derive(Debug)]
pub struct OutboardBuilder {
    length: u64,
    ranges: Vec<Option<Hash>>,
    hashes: Vec<u8>,
}

/// A range's part of the tree.
#[derive(Clone)]
pub struct HashedRange {
    length: u64,
    offset: u64,
    hash: Hash,
    pairs: Vec<u8>,
}

impl fmt::Debug for HashedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashedRange")
            .field("offset", &self.offset)
            .field("hash", &self.hash)
            .finish_non_exhaustive()
    }
}

impl HashedRange {
    /// Hashes the range at `offset` of an object of `length` bytes; nothing if no range begins there, or `bytes` are not as long as it.
    pub fn of(length: u64, offset: u64, bytes: &[u8]) -> Option<Self> {
        if OutboardBuilder::range_bytes(length, offset)? != bytes.len() as u64 {
            return None;
        }
        let mut pairs = vec![0; index(outboard_bytes(bytes.len() as u64))];
        let is_root = length <= OutboardBuilder::RANGE_BYTES;
        let hash = subtree(offset / LEAF_BYTES, bytes, &mut pairs, is_root);
        Some(Self {
            length,
            offset,
            hash,
            pairs,
        })
    }

    /// Returns the hash of the range's subtree: two ranges that begin at one offset are equal if it is.
    pub const fn hash(&self) -> &[u8; 32] {
        self.hash.as_bytes()
    }
}

impl OutboardBuilder {
    /// How long a range is, in bytes; the last may be shorter.
    pub const RANGE_BYTES: u64 = 1024 * 1024;

    /// Begins an object of `length` bytes, none of which is there. It takes memory for the whole outboard: hold `length` against its
    /// maximum first.
    pub fn new(length: u64) -> Self {
        Self {
            length,
            ranges: vec![None; index(length.div_ceil(Self::RANGE_BYTES).max(1))],
            hashes: vec![0; index(outboard_bytes(length))],
        }
    }

    /// Returns how long the range at `offset` of an object of `length` bytes is; nothing if none begins there.
    pub fn range_bytes(length: u64, offset: u64) -> Option<u64> {
        let is_start = offset.is_multiple_of(Self::RANGE_BYTES);
        // An object without bytes has one range, without bytes.
        let is_inside = offset < length || (offset == 0 && length == 0);
        (is_start && is_inside).then(|| (length - offset).min(Self::RANGE_BYTES))
    }

    /// Takes a range; a second one at the same place takes the place of the first. One of an object of another length is left out.
    pub fn put(&mut self, range: &HashedRange) {
        if range.length != self.length {
            return;
        }
        let at = pairs_before(self.length, range.offset);
        self.hashes[at..at + range.pairs.len()].copy_from_slice(&range.pairs);
        self.ranges[index(range.offset / Self::RANGE_BYTES)] = Some(range.hash);
    }

    /// Returns whether the range at `offset` is there.
    pub fn contains(&self, offset: u64) -> bool {
        let range = self.ranges.get(index(offset / Self::RANGE_BYTES));
        offset.is_multiple_of(Self::RANGE_BYTES) && range.is_some_and(Option::is_some)
    }

    /// Returns the offsets of the ranges that are not there, ascending, in bytes.
    pub fn missing(&self) -> Vec<u64> {
        (0..)
            .step_by(index(Self::RANGE_BYTES))
            .zip(&self.ranges)
            .filter(|(_, range)| range.is_none())
            .map(|(offset, _)| offset)
            .collect()
    }

    /// Returns the outboard, which knows the object's name; nothing while ranges are missing.
    pub fn finish(mut self) -> Option<Outboard> {
        let ranges: Vec<Hash> = self.ranges.into_iter().collect::<Option<_>>()?;
        let root = join(&ranges, self.length, &mut self.hashes, true);
        let object = ObjectRef {
            root: RootHash(*root.as_bytes()),
            length: self.length,
        };
        Some(Outboard::new(object, self.hashes))
    }
}

/// Hashes a subtree and writes the pairs above its groups in post-order.
fn subtree(first_leaf: u64, bytes: &[u8], pairs: &mut [u8], is_root: bool) -> Hash {
    let length = bytes.len() as u64;
    if length <= GROUP_BYTES {
        return hash::subtree(first_leaf, bytes, is_root);
    }
    let middle = left_subtree_len(length);
    let (left, right) = bytes.split_at(index(middle));
    let (below, node) = pairs.split_at_mut(pairs.len() - 64);
    let (left_pairs, right_pairs) = below.split_at_mut(index(outboard_bytes(middle)));
    let left = subtree(first_leaf, left, left_pairs, false);
    let right = subtree(first_leaf + middle / LEAF_BYTES, right, right_pairs, false);
    close(left, right, node, is_root)
}

/// Hashes the nodes above whole ranges, `length` bytes together, and writes them where post-order wants them.
fn join(ranges: &[Hash], length: u64, pairs: &mut [u8], is_root: bool) -> Hash {
    if let [range] = ranges {
        return *range;
    }
    let middle = left_subtree_len(length);
    let (left, right) = ranges.split_at(index(middle / OutboardBuilder::RANGE_BYTES));
    let (below, node) = pairs.split_at_mut(pairs.len() - 64);
    let (left_pairs, right_pairs) = below.split_at_mut(index(outboard_bytes(middle)));
    let left = join(left, middle, left_pairs, false);
    let right = join(right, length - middle, right_pairs, false);
    close(left, right, node, is_root)
}

fn close(left: Hash, right: Hash, node: &mut [u8], is_root: bool) -> Hash {
    let mut pair = [0; 64];
    pair[..32].copy_from_slice(left.as_bytes());
    pair[32..].copy_from_slice(right.as_bytes());
    node.copy_from_slice(&pair);
    hash::parent(&pair, is_root)
}

/// Returns how many bytes of the outboard come before those of the range at `offset`.
fn pairs_before(length: u64, offset: u64) -> usize {
    let (mut start, mut end, mut pairs) = (0, length, 0);
    while end - start > OutboardBuilder::RANGE_BYTES {
        let middle = start + left_subtree_len(end - start);
        if offset < middle {
            end = middle;
        } else {
            pairs += groups(middle - start) - 1;
            start = middle;
        }
    }
    index(pairs * 64)
}

/// What is in memory can be counted.
fn index(bytes: u64) -> usize {
    usize::try_from(bytes).expect("parts of an object in memory")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without a period that would hide a range in the wrong place.
    fn object(length: u64) -> Vec<u8> {
        let mut bytes = vec![0; index(length)];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn ranges(bytes: &[u8]) -> Vec<HashedRange> {
        let length = bytes.len() as u64;
        let range = index(OutboardBuilder::RANGE_BYTES);
        (0..)
            .step_by(range)
            .zip(bytes.chunks(range))
            .map(|(offset, part)| HashedRange::of(length, offset, part).unwrap())
            .collect()
    }

    #[test]
    fn ranges_in_any_order_give_the_outboard_of_the_whole() {
        const MIB: u64 = 1024 * 1024;
        for length in [
            1,
            1024,
            4096,
            16_384,
            16_385,
            49_152,
            MIB - 1,
            MIB,
            MIB + 1,
            MIB + 20_480,
            3 * MIB,
            5 * MIB + 4096,
            7 * MIB + 17 * 4096,
        ] {
            let bytes = object(length);
            let mut parts = ranges(&bytes);
            // Every order of arrival that matters: forwards, backwards, odd ones first.
            for turn in 0..3 {
                match turn {
                    0 => {}
                    1 => parts.reverse(),
                    _ => parts.sort_by_key(|part| (part.offset / MIB).is_multiple_of(2)),
                }
                let mut builder = OutboardBuilder::new(length);
                for part in &parts {
                    assert!(!builder.contains(part.offset));
                    builder.put(part);
                    assert!(builder.contains(part.offset));
                }
                assert_eq!(builder.missing(), Vec::<u64>::new());
                assert_eq!(builder.finish().unwrap(), Outboard::of(&bytes), "{length}");
            }
        }
    }

    #[test]
    fn an_object_without_bytes_has_a_name() {
        let mut builder = OutboardBuilder::new(0);
        assert_eq!(builder.missing(), [0]);
        builder.put(&HashedRange::of(0, 0, b"").unwrap());
        assert_eq!(builder.finish().unwrap(), Outboard::of(b""));
    }

    #[test]
    fn nothing_is_finished_while_a_range_is_missing() {
        let bytes = object(3 * OutboardBuilder::RANGE_BYTES + 1);
        let mut builder = OutboardBuilder::new(bytes.len() as u64);
        for part in [0, 1, 3] {
            builder.put(&ranges(&bytes)[part]);
        }
        assert_eq!(builder.missing(), [2 * OutboardBuilder::RANGE_BYTES]);
        assert_eq!(builder.finish(), None);
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let range = OutboardBuilder::RANGE_BYTES;
        let bytes = object(range);
        assert!(HashedRange::of(2 * range, range, &bytes).is_some());
        assert!(HashedRange::of(2 * range, 2 * range, &bytes).is_none());
        assert!(HashedRange::of(2 * range, 16_384, &bytes).is_none());
        assert!(HashedRange::of(2 * range, range, &bytes[1..]).is_none());
        assert!(HashedRange::of(range + 1, range, &bytes).is_none());
        assert!(HashedRange::of(range + 1, range, &bytes[..1]).is_some());
        assert!(HashedRange::of(u64::MAX, range, &bytes).is_some());
    }

    #[test]
    fn a_range_of_another_object_is_left_out() {
        let mut builder = OutboardBuilder::new(OutboardBuilder::RANGE_BYTES + 1);
        builder.put(&ranges(&object(OutboardBuilder::RANGE_BYTES))[0]);
        assert_eq!(builder.missing().len(), 2);
    }
}
