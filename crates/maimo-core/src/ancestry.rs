//! Ancestry: every head commits to all roots before it, so that "this head descends from the root I saw" has a short proof.
//!
//! It is a Merkle mountain range: the roots of a channel, oldest first, are the leaves of perfect binary trees, one for each
//! bit set in their count, the largest first. [`Ancestry`] is the list of their *peaks*, which is all that the next head
//! needs; [`AncestryLog`] keeps every node, which is what a provider answers proofs from; [`AncestryProof`] is such a proof.
//!
//! The head with sequence number `n` commits to the `n - 1` roots before it, so the root of sequence number `k` is leaf
//! `k - 1`. The count is hashed along with the peaks, and count and sequence number alone fix the shape of a proof: a
//! proof has no lengths or directions that a forger could choose.

use thiserror::Error;

use crate::{
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    id::RootHash,
};

/// The highest sequence number of a head. A head a millisecond reaches it in nine thousand years.
pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;

/// A node of the range: a leaf's, an inner node's or the whole's hash, each under its own context.
pub type NodeHash = [u8; 32];

const LEAF_CONTEXT: &str = "maimo v1 ancestry leaf";
const INNER_CONTEXT: &str = "maimo v1 ancestry inner";
const WHOLE_CONTEXT: &str = "maimo v1 ancestry";

/// The commitment to all roots before a head, as the list of peaks that the next head is made from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestry {
    count: u64,
    /// One for each bit set in `count`, the highest bit first.
    peaks: Vec<NodeHash>,
}

impl Ancestry {
    /// How many peaks there can be.
    pub const PEAKS_MAX: usize = 48;

    /// Returns the ancestry of a channel's first head: no root.
    pub const fn empty() -> Self {
        Self {
            count: 0,
            peaks: Vec::new(),
        }
    }

    /// Returns how many roots it commits to.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Appends the next root.
    pub fn append(&mut self, root: RootHash) {
        let mut node = leaf_hash(root);
        // Each low bit set is a tree as large as the one in hand: the carry of adding one.
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = inner_hash(&left, &node);
            }
        }
        self.peaks.push(node);
        self.count = self.count.saturating_add(1);
    }

    /// Returns the 32 bytes that stand in the head.
    pub fn hash(&self) -> NodeHash {
        whole_hash(self.count, &self.peaks)
    }

    /// Appends the count in eight bytes, then the peaks.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.count);
        for peak in &self.peaks {
            out.put(peak);
        }
    }

    /// Reads what [`Self::encode`] wrote. What it says is worth something only once [`Self::hash`] is what a head says.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let count = parse_sequence(reader, "ancestry count")?;
        let peaks = parse_nodes(reader, count.count_ones() as usize, "ancestry peaks")?;
        Ok(Self { count, peaks })
    }
}

/// All nodes of a channel's ancestry, level by level: 64 bytes a root, a proof in a logarithm of look-ups.
#[derive(Debug, Clone, Default)]
pub struct AncestryLog {
    /// `levels[h][i]` is the tree over leaves `i << h` up to `(i + 1) << h`.
    levels: Vec<Vec<NodeHash>>,
}

impl AncestryLog {
    /// Rebuilds the nodes from all roots, oldest first.
    pub fn of(roots: impl IntoIterator<Item = RootHash>) -> Self {
        let mut log = Self::default();
        for root in roots {
            log.append(root);
        }
        log
    }

    /// Returns how many roots it holds.
    pub fn count(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// Appends the next root.
    pub fn append(&mut self, root: RootHash) {
        let mut node = leaf_hash(root);
        for height in 0.. {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(node);
            if level.len() % 2 == 1 {
                return;
            }
            node = inner_hash(&level[level.len() - 2], &node);
        }
    }

    /// Returns the ancestry over the first `count` roots, or nothing where there are not so many.
    pub fn ancestry(&self, count: u64) -> Option<Ancestry> {
        let peaks = trees(count)
            .map(|tree| self.node(tree.height, tree.first >> tree.height))
            .collect::<Option<_>>()?;
        Some(Ancestry { count, peaks })
    }

    /// Proves that the root with this sequence number is among the first `count`.
    pub fn prove(&self, sequence: u64, count: u64) -> Option<AncestryProof> {
        AncestryProof::build(sequence, count, |height, index| self.node(height, index))
    }

    fn node(&self, height: u32, index: u64) -> Option<NodeHash> {
        let level = self.levels.get(height as usize)?;
        level.get(usize::try_from(index).ok()?).copied()
    }
}

/// Returns the nodes that `root` adds as the next of a range over `count` roots, from its leaf upwards, given those that are there: for
/// a log that is kept elsewhere than in memory. The node at height `h` stands at index `count >> h`.
///
/// Returns nothing where a node is missing.
pub fn nodes_of_next(
    count: u64,
    root: RootHash,
    mut node: impl FnMut(u32, u64) -> Option<NodeHash>,
) -> Option<Vec<NodeHash>> {
    let mut nodes = Vec::from([leaf_hash(root)]);
    let mut last = nodes[0];
    // Each low bit set is a tree as large as the one in hand, at its left.
    for height in 0..count.trailing_ones() {
        last = inner_hash(&node(height, (count >> height) - 1)?, &last);
        nodes.push(last);
    }
    Some(nodes)
}

/// A proof that a root stands at a place among the roots that an ancestry hash commits to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AncestryProof {
    sequence: u64,
    count: u64,
    /// The siblings from the leaf up to its tree's peak, then the other peaks, the largest tree first.
    nodes: Vec<NodeHash>,
    extensions: Extensions,
}

/// Why a proof of ancestry proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AncestryError {
    /// The proof is about other sequence numbers than asked for.
    #[error("the proof of ancestry is of heads other than those asked about")]
    OtherHeads,
    /// The hashes do not lead to the head's ancestry.
    #[error("the newer head does not descend from the older root")]
    NotAncestor,
}

impl Classify for AncestryError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ProviderMisbehaved
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl AncestryProof {
    /// The longest encoding, in bytes: extensions aside, two fixed numbers, the path and the other peaks.
    pub const LENGTH_MAX: usize = 4096;

    /// Builds the proof that the root with sequence number `sequence` is among the first `count`, out of the nodes that
    /// `node(height, index)` returns: the tree over leaves `index << height` up to `(index + 1) << height`.
    ///
    /// Returns nothing where `sequence` is not among them, or a node is missing.
    pub fn build(
        sequence: u64,
        count: u64,
        mut node: impl FnMut(u32, u64) -> Option<NodeHash>,
    ) -> Option<Self> {
        let leaf = sequence.checked_sub(1)?;
        let own = trees(count).find(|tree| tree.contains(leaf))?;
        let mut nodes = Vec::new();
        for height in 0..own.height {
            nodes.push(node(height, (leaf >> height) ^ 1)?);
        }
        for tree in trees(count).filter(|tree| *tree != own) {
            nodes.push(node(tree.height, tree.first >> tree.height)?);
        }
        Some(Self {
            sequence,
            count,
            nodes,
            extensions: Extensions::default(),
        })
    }

    /// Checks that `root`, a head's with sequence number `sequence`, is an ancestor of the head with sequence number
    /// `head_sequence` whose ancestry field is `ancestry`.
    pub fn check(
        &self,
        sequence: u64,
        root: RootHash,
        head_sequence: u64,
        ancestry: &NodeHash,
    ) -> Result<(), AncestryError> {
        if self.sequence != sequence || self.count.checked_add(1) != Some(head_sequence) {
            return Err(AncestryError::OtherHeads);
        }
        match self.hash_with(root) {
            Some(hash) if hash == *ancestry => Ok(()),
            _ => Err(AncestryError::NotAncestor),
        }
    }

    /// Returns the ancestry hash that `root` leads to in the proof's place.
    fn hash_with(&self, root: RootHash) -> Option<NodeHash> {
        let leaf = self.sequence.checked_sub(1)?;
        let own = trees(self.count).find(|tree| tree.contains(leaf))?;
        let (path, others) = self.nodes.split_at_checked(own.height as usize)?;
        let mut peak = leaf_hash(root);
        for (height, sibling) in path.iter().enumerate() {
            peak = if (leaf >> height) & 1 == 0 {
                inner_hash(&peak, sibling)
            } else {
                inner_hash(sibling, &peak)
            };
        }
        let mut others = others.iter();
        let peaks: Option<Vec<NodeHash>> = trees(self.count)
            .map(|tree| {
                if tree == own {
                    Some(peak)
                } else {
                    others.next().copied()
                }
            })
            .collect();
        Some(whole_hash(self.count, &peaks?))
    }

    /// Returns the proof as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Prelude::LENGTH + 17 + 32 * self.nodes.len());
        Prelude { epoch: 0 }.encode(ObjectType::AncestryProof, &mut out);
        out.put_u64(self.sequence);
        out.put_u64(self.count);
        for node in &self.nodes {
            out.put(node);
        }
        self.extensions.encode(&mut out);
        out
    }

    /// Reads a proof; that it proves anything is for [`Self::check`] to say.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > Self::LENGTH_MAX {
            return Err(ParseError::TooLarge {
                what: "ancestry proof",
                found: bytes.len() as u64,
                max: Self::LENGTH_MAX as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::AncestryProof)?;
        let sequence = parse_sequence(&mut reader, "sequence number")?;
        let count = parse_sequence(&mut reader, "ancestry count")?;
        let own = sequence
            .checked_sub(1)
            .and_then(|leaf| trees(count).find(|tree| tree.contains(leaf)))
            .ok_or(ParseError::Invalid {
                what: "sequence number",
            })?;
        let others = (count.count_ones() as usize).saturating_sub(1);
        let nodes = parse_nodes(&mut reader, own.height as usize + others, "ancestry path")?;
        let extensions = Extensions::parse(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            sequence,
            count,
            nodes,
            extensions,
        })
    }
}

/// One perfect tree of the range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tree {
    first: u64,
    height: u32,
}

impl Tree {
    const fn contains(self, leaf: u64) -> bool {
        leaf >= self.first && (leaf - self.first) >> self.height == 0
    }
}

/// Returns the trees of a range over `count` leaves, the largest first.
fn trees(count: u64) -> impl Iterator<Item = Tree> {
    let mut first = 0;
    (0..u64::BITS)
        .rev()
        .filter(move |height| (count >> height) & 1 == 1)
        .map(move |height| {
            let tree = Tree { first, height };
            first += 1 << height;
            tree
        })
}

fn leaf_hash(root: RootHash) -> NodeHash {
    blake3::derive_key(LEAF_CONTEXT, root.as_bytes())
}

fn inner_hash(left: &NodeHash, right: &NodeHash) -> NodeHash {
    let mut hasher = blake3::Hasher::new_derive_key(INNER_CONTEXT);
    hasher.update(left).update(right);
    *hasher.finalize().as_bytes()
}

fn whole_hash(count: u64, peaks: &[NodeHash]) -> NodeHash {
    let mut hasher = blake3::Hasher::new_derive_key(WHOLE_CONTEXT);
    hasher.update(&count.to_le_bytes());
    for peak in peaks {
        hasher.update(peak);
    }
    *hasher.finalize().as_bytes()
}

fn parse_sequence(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, ParseError> {
    let found = reader.u64(what)?;
    if found > SEQUENCE_MAX {
        return Err(ParseError::TooLarge {
            what,
            found,
            max: SEQUENCE_MAX,
        });
    }
    Ok(found)
}

fn parse_nodes(
    reader: &mut Reader<'_>,
    count: usize,
    what: &'static str,
) -> Result<Vec<NodeHash>, ParseError> {
    // Both callers' counts are numbers of bits, so this reserves at most a few kilobytes.
    let mut nodes = Vec::with_capacity(count.min(2 * Ancestry::PEAKS_MAX));
    for _ in 0..count {
        nodes.push(reader.array(what)?);
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests;
