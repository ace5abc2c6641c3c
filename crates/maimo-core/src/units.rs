//! Sizes that everything else is measured in.

/// BLAKE3's own chunk, in bytes; called *leaf* everywhere in Maimo.
pub const LEAF_BYTES: u64 = 1024;
/// An audit's unit, in bytes: a slice proves one block.
pub const BLOCK_BYTES: u64 = 4096;
/// A chunk group, in bytes: what an outboard has a hash for, what lives or dies, what a read is rounded to.
pub const GROUP_BYTES: u64 = 16 * 1024;
/// Blocks in a whole group.
pub const BLOCKS_PER_GROUP: u64 = GROUP_BYTES / BLOCK_BYTES;
/// The longest pack, in bytes.
pub const PACK_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Groups in the longest pack.
pub const PACK_GROUPS_MAX: u32 = 4096;

const _: () =
    assert!(GROUP_BYTES.is_multiple_of(BLOCK_BYTES) && BLOCK_BYTES.is_multiple_of(LEAF_BYTES));

/// Returns how many groups an object of `length` bytes has; the last may be short.
pub const fn groups(length: u64) -> u64 {
    length.div_ceil(GROUP_BYTES)
}

/// Returns how long the outboard of an object of `length` bytes is: 64 bytes (two child hashes) for each inner node above
/// the groups.
pub const fn outboard_bytes(length: u64) -> u64 {
    64 * groups(length).saturating_sub(1)
}
