//! How long the answer to an audit is, for stores far larger than any that fits in memory.
//!
//! The inventory is made lazily: of all nodes only those on the way to the positions drawn are encoded and hashed; a node beside the way
//! gets a name as long as its real one. Every pack has the same number of live groups, in places that differ, so that sums
//! follow from counts. The answer is then made by the shipped code. Slices are cut from one real pack.

use core::fmt;
use std::collections::HashMap;

use maimo_core::{
    audit::{AuditSource, AuditedHead, Challenge, SLICES, answer},
    head::Head,
    id::RootHash,
    inventory::{Child, Entry, InventoryRef, Node, Sums},
    live_map::LiveMap,
    reference::ObjectRef,
    units::GROUP_BYTES,
    verify::{Outboard, Selection, encode_slice_as_is},
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

/// Every pack's length, in bytes.
pub const PACK_BYTES: u64 = 16 << 20;

const GROUPS: u32 = 1024;
const _: () = assert!(GROUPS as u64 * GROUP_BYTES == PACK_BYTES);

/// How the packs of a synthetic store are fragmented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmentation {
    /// All lives.
    None,
    /// Eight runs a pack live.
    EightRuns,
    /// So many runs that each pack's map is a bitmap.
    Bitmap,
}

impl Fragmentation {
    /// Returns the live map of pack `number`: other places in every pack, the same number of groups.
    fn live(self, number: u64) -> LiveMap {
        let noise = blake3::hash(&number.to_le_bytes());
        let noise = noise.as_bytes();
        let runs: Vec<_> = match self {
            Self::None => return LiveMap::full(GROUPS),
            Self::EightRuns => (0..8_u32)
                .zip(noise)
                .map(|(part, noise)| {
                    let start = part * (GROUPS / 8) + 1 + u32::from(noise % 27);
                    start..start + 100
                })
                .collect(),
            // Three of four groups, the dead one of each four anywhere.
            Self::Bitmap => (0..GROUPS / 4)
                .flat_map(|four| {
                    let dead = u32::from(noise[four as usize % 32] >> (four / 32 % 4 * 2)) % 4;
                    (0..4)
                        .filter(move |group| *group != dead)
                        .map(move |group| four * 4 + group)
                })
                .map(|group| group..group + 1)
                .collect(),
        };
        LiveMap::from_runs(GROUPS, runs).expect("runs are within the pack and not too many")
    }
}

impl fmt::Display for Fragmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "all live",
            Self::EightRuns => "8 runs",
            Self::Bitmap => "bitmap",
        })
    }
}

/// The size of the answer to one audit of one stratum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The packs' bytes, live and dead.
    pub store_bytes: u64,
    /// How they are fragmented.
    pub fragmentation: Fragmentation,
    /// How many positions were drawn.
    pub positions: usize,
    /// How many inventory nodes the answer holds.
    pub nodes: usize,
    /// Their bytes.
    pub node_bytes: u64,
    /// The slices' bytes.
    pub slice_bytes: u64,
    /// The bytes of the stratum's part of the answer, lengths and marks included; head and commit are not.
    pub answer_bytes: u64,
}

impl Row {
    /// The line above the rows.
    pub const HEADER: &str =
        "     store  fragments  slices  nodes   nodes MB  slices MB  answer MB";
}

impl fmt::Display for Row {
    #[expect(clippy::cast_precision_loss, reason = "for people to read")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "{:>6} TiB {:>10} {:>7} {:>6} {:>10.2} {:>10.2} {:>10.2}",
            self.store_bytes >> 40,
            self.fragmentation,
            self.positions,
            self.nodes,
            megabytes(self.node_bytes),
            megabytes(self.slice_bytes),
            megabytes(self.answer_bytes),
        )
    }
}

/// Returns the sizes for a tebibyte and a pebibyte, in every fragmentation.
pub fn table() -> Vec<Row> {
    let pack = Pack::new();
    let stores = [1 << 40, 1 << 50];
    let all = [
        Fragmentation::None,
        Fragmentation::EightRuns,
        Fragmentation::Bitmap,
    ];
    stores
        .into_iter()
        .flat_map(|store_bytes| all.map(|fragmentation| (store_bytes, fragmentation)))
        .map(|(store_bytes, fragmentation)| measure(&pack, store_bytes, fragmentation, SLICES, 1))
        .collect()
}

/// One real pack, from which all slices are cut.
struct Pack {
    data: Vec<u8>,
    outboard: Outboard,
}

impl Pack {
    fn new() -> Self {
        let mut data = vec![0; usize::try_from(PACK_BYTES).unwrap_or(0)];
        blake3::Hasher::new().finalize_xof().fill(&mut data);
        let outboard = Outboard::of(&data);
        Self { data, outboard }
    }
}

/// Draws `positions` in a store and measures the answer.
fn measure(
    pack: &Pack,
    store_bytes: u64,
    fragmentation: Fragmentation,
    positions: usize,
    seed: u64,
) -> Row {
    let (challenge, head, head_bytes, mut source) =
        challenge(pack, store_bytes, fragmentation, positions, seed);
    let signature = [0; 64];
    let make = |challenge: &Challenge, source: &mut Source<'_>| {
        answer(challenge, &head, &head_bytes, &signature, None, source)
            .expect("the challenge was drawn from this head")
            .len() as u64
    };
    let answer_bytes = make(&challenge, &mut source);
    let (nodes, node_bytes, slice_bytes) =
        (source.nodes_sent, source.node_bytes, source.slice_bytes);
    // What an answer has around the stratum's part.
    let nothing = Challenge::new(*challenge.root(), Vec::new(), Vec::new())
        .expect("no positions are in order");
    let frame = make(&nothing, &mut source);
    Row {
        store_bytes,
        fragmentation,
        positions,
        nodes,
        node_bytes,
        slice_bytes,
        answer_bytes: answer_bytes - frame,
    }
}

/// Draws positions and makes the nodes on the way to them.
fn challenge(
    pack: &Pack,
    store_bytes: u64,
    fragmentation: Fragmentation,
    positions: usize,
    seed: u64,
) -> (Challenge, AuditedHead, Vec<u8>, Source<'_>) {
    let mut tree = Tree::new(store_bytes / PACK_BYTES, fragmentation);
    let mut head = AuditedHead {
        // Positions depend on the sums only, and the top's name is known once the nodes below it are.
        data: InventoryRef::new(Child {
            node: ObjectRef::of(&[]),
            sums: tree.sums(tree.packs),
        }),
        vital: InventoryRef::EMPTY,
        commit: ObjectRef::of(&[]),
    };
    let head_bytes = vec![0; Head::LENGTH];
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let challenge = Challenge::draw(&mut rng, RootHash::of(&head_bytes), &head, positions);
    let drawn: Vec<u64> = challenge
        .positions(maimo_core::audit::Stratum::Data)
        .iter()
        .map(|position| position / tree.one.live_blocks)
        .collect();
    head.data = InventoryRef::new(tree.build(tree.top_level(), 0, &drawn));
    let source = Source {
        pack,
        nodes: tree.nodes,
        nodes_sent: 0,
        node_bytes: 0,
        slice_bytes: 0,
    };
    (challenge, head, head_bytes, source)
}

/// A full inventory of `packs` packs, made where it is looked at.
struct Tree {
    packs: u64,
    fragmentation: Fragmentation,
    one: Sums,
    /// How long a full node of each level is.
    lengths: Vec<u64>,
    nodes: HashMap<ObjectRef, Vec<u8>>,
}

impl Tree {
    fn new(packs: u64, fragmentation: Fragmentation) -> Self {
        let mut tree = Self {
            packs,
            fragmentation,
            one: Sums::default(),
            lengths: Vec::new(),
            nodes: HashMap::new(),
        };
        tree.one = tree.entry(0).sums();
        for level in 0..=tree.top_level() {
            let length = tree.node(level, 0, &[]).encode().len() as u64;
            tree.lengths.push(length);
        }
        tree.nodes.clear();
        tree
    }

    fn top_level(&self) -> u8 {
        let mut level = 0;
        while span(level) < self.packs {
            level += 1;
        }
        level
    }

    fn entry(&self, number: u64) -> Entry {
        let pack = ObjectRef {
            root: RootHash::of(&number.to_le_bytes()),
            length: PACK_BYTES,
        };
        Entry::new(pack, self.fragmentation.live(number)).expect("the map is of the pack")
    }

    fn sums(&self, packs: u64) -> Sums {
        Sums {
            live_blocks: self.one.live_blocks * packs,
            charged: self.one.charged * packs,
        }
    }

    /// Makes the node at a place, and those below it that lead to the packs `drawn`, which ascend.
    fn build(&mut self, level: u8, place: u64, drawn: &[u64]) -> Child {
        let node = self.node(level, place, drawn);
        let bytes = node.encode();
        let child = Child {
            node: ObjectRef::of(&bytes),
            sums: node.sums(),
        };
        self.nodes.insert(child.node, bytes);
        child
    }

    fn node(&mut self, level: u8, place: u64, drawn: &[u64]) -> Node {
        let below = if level == 0 { 1 } else { span(level - 1) };
        let first = place * Node::SLOTS;
        let packs = self.packs;
        let places = (first..first + Node::SLOTS).filter(move |at| at * below < packs);
        let slots = (0_u8..).zip(places);
        if level == 0 {
            let entries = slots.map(|(slot, number)| (slot, self.entry(number)));
            return Node::leaf(entries.collect()).expect("packs are different");
        }
        let mut children = Vec::new();
        for (slot, at) in slots {
            let packs = at * below..(at * below + below).min(self.packs);
            let within = |bound| drawn.partition_point(|number| *number < bound);
            let here = &drawn[within(packs.start)..within(packs.end)];
            let child = if here.is_empty() {
                Child {
                    node: ObjectRef {
                        root: RootHash::of(&[&[level][..], &at.to_le_bytes()].concat()),
                        length: self.lengths[usize::from(level) - 1],
                    },
                    sums: self.sums(packs.end - packs.start),
                }
            } else {
                self.build(level - 1, at, here)
            };
            children.push((slot, child));
        }
        Node::inner(level, children).expect("slots ascend")
    }
}

/// Returns how many packs a full node of a level is above.
const fn span(level: u8) -> u64 {
    Node::SLOTS.pow(level as u32 + 1)
}

/// Answers from the nodes that were made and the one pack, and counts.
struct Source<'a> {
    pack: &'a Pack,
    nodes: HashMap<ObjectRef, Vec<u8>>,
    nodes_sent: usize,
    node_bytes: u64,
    slice_bytes: u64,
}

impl AuditSource for Source<'_> {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        let bytes = self.nodes.get(node)?.clone();
        self.nodes_sent += 1;
        self.node_bytes += bytes.len() as u64;
        Some(bytes)
    }

    fn slice(&mut self, _: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let Pack { data, outboard } = self.pack;
        encode_slice_as_is(data, &outboard.as_bytes(), blocks, &mut out).ok()?;
        self.slice_bytes += out.len() as u64;
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use maimo_core::audit::{Failure, Stratum, check};

    use super::*;

    #[test]
    fn answers_are_as_small_as_promised() {
        let table = table();
        for row in &table {
            let max = match (row.store_bytes, row.fragmentation) {
                (1_099_511_627_776, Fragmentation::Bitmap) => 5_000_000,
                (1_099_511_627_776, _) => 3_300_000,
                _ => 6_500_000,
            };
            assert!(row.answer_bytes <= max, "{}\n{row}", Row::HEADER);
            assert_eq!(row.positions, SLICES);
            assert!(row.node_bytes + row.slice_bytes <= row.answer_bytes);
        }
        assert_eq!(table.len(), 6);
    }

    #[test]
    fn maps_are_in_the_form_they_stand_for() {
        for (fragmentation, runs, bytes) in [
            (Fragmentation::None, 1..=1, 1..=1),
            (Fragmentation::EightRuns, 8..=8, 18..=26),
            (Fragmentation::Bitmap, 192..=257, 129..=129),
        ] {
            for number in 0..100 {
                let live = fragmentation.live(number);
                let mut encoded = Vec::new();
                live.encode(&mut encoded);
                assert!(
                    runs.contains(&live.runs().len()),
                    "{fragmentation} {}",
                    live.runs().len()
                );
                assert!(
                    bytes.contains(&encoded.len()),
                    "{fragmentation} {}",
                    encoded.len()
                );
                assert_eq!(live.count(), fragmentation.live(0).count());
            }
        }
    }

    /// The auditor's own check goes all the way to the leaves: every position has its place, and what fails is only what was not real.
    #[test]
    fn the_lazy_tree_is_a_tree_to_the_checker() {
        let pack = Pack::new();
        let (challenge, head, head_bytes, mut source) =
            challenge(&pack, 1 << 50, Fragmentation::EightRuns, 50, 2);
        let answer = answer(&challenge, &head, &head_bytes, &[0; 64], None, &mut source).unwrap();
        let report = check(&challenge, &answer, |_, _| Some(head)).unwrap();
        let failed = &report.stratum(Stratum::Data).failed;
        assert_eq!(failed.len(), 50);
        assert!(
            failed
                .iter()
                .all(|failed| failed.failure == Failure::Damaged && failed.place.is_some())
        );
    }
}
