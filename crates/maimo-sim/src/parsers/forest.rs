//! Inventories and audits over hostile nodes.
//!
//! A node is named by its hash, so random bytes never reach past the first one. Here the input is a little program instead: it lists nodes
//! from the leaves up, each naming earlier ones by index and wrong in some way or none, and the names and sums are worked out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::LazyLock,
};

use maimo_core::{
    audit::{AuditError, AuditSource, AuditedHead, Challenge, Stratum, answer, check, locate},
    codec::Put,
    id::RootHash,
    inventory::{Change, Child, Entry, Inventory, InventoryRef, Node, Slots, Sums, diff},
    live_map::LiveMap,
    reference::ObjectRef,
    units::{BLOCK_BYTES, groups},
    verify::{Outboard, Selection, encode_slice_as_is},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::assert_canonical;

/// Reads a program: small numbers until it ends.
pub(super) struct Program<'a>(pub(super) &'a [u8]);

impl Program<'_> {
    pub(super) fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn word(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*first).into())
    }
}

/// Returns the bytes of pack `id`.
fn pack_bytes(id: u8) -> Vec<u8> {
    let mut bytes = vec![0; (1 + usize::from(id) % 40) * 4096];
    blake3::Hasher::new()
        .update(&[id])
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Returns the name of pack `id`.
pub(super) fn pack(id: u8) -> ObjectRef {
    static PACKS: LazyLock<Vec<ObjectRef>> = LazyLock::new(|| {
        (0..=u8::MAX)
            .map(|id| ObjectRef::of(&pack_bytes(id)))
            .collect()
    });
    PACKS[usize::from(id)]
}

/// Returns a live map for an object of `length` bytes: all of it, or the groups whose bit is set in a repeated byte.
fn map(length: u64, bits: u8) -> LiveMap {
    let groups = u32::try_from(groups(length)).unwrap_or(0);
    if bits == 0 {
        return LiveMap::full(groups);
    }
    let runs = (0..groups.min(512))
        .filter(|group| bits >> (group % 8) & 1 == 1)
        .map(|group| group..group + 1);
    LiveMap::from_runs(groups, runs).expect("few runs, within the object")
}

/// Nodes that are what their names say, and wrong in whatever else.
pub(super) struct Forest {
    pub(super) nodes: Vec<(Child, Vec<u8>)>,
    by_name: HashMap<ObjectRef, usize>,
}

const NODES_MAX: u8 = 64;

impl Forest {
    /// Runs a program to the end of its list of nodes.
    pub(super) fn grow(program: &mut Program<'_>) -> Self {
        let mut forest = Self {
            nodes: Vec::new(),
            by_name: HashMap::new(),
        };
        for _ in 0..program.next().unwrap_or(0) % (NODES_MAX + 1) {
            let Some(node) = forest.next_node(program) else {
                break;
            };
            let bytes = node.encode();
            assert_eq!(
                Node::parse(&bytes).as_ref(),
                Ok(&node),
                "a node made by its maker is not read"
            );
            let child = Child {
                node: ObjectRef::of(&bytes),
                sums: node.sums(),
            };
            forest.by_name.insert(child.node, forest.nodes.len());
            forest.nodes.push((child, bytes));
        }
        forest
    }

    fn next_node(&self, program: &mut Program<'_>) -> Option<Node> {
        let level = program.next()?;
        let count = program.next()?;
        let (mut entries, mut children) = (Vec::new(), Vec::new());
        for _ in 0..count % 33 {
            let slot = program.next()?;
            if level == 0 {
                let mut reference = pack(program.next()?);
                match program.next()? {
                    1 => reference.length += BLOCK_BYTES,
                    2 => reference.root.0[0] ^= 1,
                    3 => reference.length = 64 * 1024 * 1024,
                    _ => {}
                }
                entries.push((
                    slot,
                    Entry::new(reference, map(reference.length, program.next()?)).ok()?,
                ));
            } else {
                children.push((slot, self.child(program)?));
            }
        }
        if level == 0 {
            Node::leaf(entries).ok()
        } else {
            Node::inner(level, children).ok()
        }
    }

    /// Returns a reference to an earlier node, wrong in some way or none.
    fn child(&self, program: &mut Program<'_>) -> Option<Child> {
        let (index, fault) = (program.next()?, program.next()?);
        let mut child = self.nodes.get(usize::from(index))?.0;
        match fault {
            1 => child.sums.live_blocks = child.sums.live_blocks.saturating_add(1),
            2 => child.sums.charged = child.sums.charged.saturating_sub(1).max(4096),
            3 => child.node.length += 1,
            4 => child.node.root.0[5] ^= 4,
            5 => {
                child.sums = Sums {
                    live_blocks: u64::MAX,
                    charged: u64::MAX,
                }
            }
            6 => {
                child.sums = Sums {
                    live_blocks: 1,
                    charged: 4096,
                }
            }
            _ => {}
        }
        Some(child)
    }

    /// Returns an inventory under one of the nodes, or an empty one.
    pub(super) fn top(&self, program: &mut Program<'_>) -> InventoryRef {
        self.child(program)
            .map_or(InventoryRef::EMPTY, InventoryRef::new)
    }

    pub(super) fn load(&self, node: &ObjectRef) -> Option<Vec<u8>> {
        let index = self.by_name.get(node)?;
        Some(self.nodes[*index].1.clone())
    }
}

/// Returns a real inventory of packs `0..count`.
pub(super) fn inventory(count: u8) -> Inventory {
    let mut inventory = Inventory::new();
    let entry =
        |id: u8| Entry::new(pack(id), map(pack(id).length, id | 1)).expect("its first group lives");
    inventory
        .apply((0..count).map(entry).map(Change::Set))
        .expect("no pack stands twice");
    inventory
}

pub(super) fn node(bytes: &[u8]) -> bool {
    let Ok(node) = Node::parse(bytes) else {
        return false;
    };
    assert_canonical(bytes, &node.encode());
    let again = match node.slots().clone() {
        Slots::Leaf(entries) => Node::leaf(entries),
        Slots::Inner(children) => Node::inner(node.level(), children),
    };
    assert_eq!(again.as_ref(), Ok(&node));
    let child = Child {
        node: ObjectRef::of(bytes),
        sums: node.sums(),
    };
    assert_eq!(Node::open(bytes, &child, Some(node.level())), Ok(node));
    true
}

pub(super) fn nodes() -> Vec<Vec<u8>> {
    let mut nodes: Vec<Vec<u8>> = inventory(70)
        .nodes()
        .map(|(_, bytes)| bytes.to_vec())
        .collect();
    nodes.extend(inventory(1).nodes().map(|(_, bytes)| bytes.to_vec()));
    let every_other = (0..512).map(|at| 2 * at..2 * at + 1);
    let wide = LiveMap::from_runs(4096, every_other).expect("few runs");
    let entry = Entry::new(
        ObjectRef {
            length: 64 << 20,
            ..pack(1)
        },
        wide,
    )
    .expect("fits");
    nodes.push(Node::leaf(vec![(31, entry)]).expect("one entry").encode());
    nodes
}

pub(super) fn tree(bytes: &[u8]) -> bool {
    let program = &mut Program(bytes);
    let forest = Forest::grow(program);
    let top = forest.top(program);
    let Ok(mut inventory) = Inventory::load(&top, 1000, &mut |node| forest.load(node)) else {
        return false;
    };
    let check = |inventory: &Inventory| {
        let sums = Sums::total(inventory.entries().map(Entry::sums)).expect("few packs");
        assert_eq!(inventory.reference().sums(), sums);
        assert_eq!(inventory.entries().count() as u64, inventory.len());
        let nodes: HashMap<_, _> = inventory.nodes().collect();
        let mut load = |node: &ObjectRef| nodes.get(node).map(|bytes| bytes.to_vec());
        let again =
            Inventory::load(&inventory.reference(), 1000, &mut load).expect("its own nodes");
        assert!(again.entries().eq(inventory.entries()));
    };
    assert_eq!(inventory.reference(), top);
    check(&inventory);
    // A tree with any slots filled can be worked on like one of our own.
    for _ in 0..12 {
        let Some(id) = program.next() else {
            break;
        };
        let change = if id % 3 == 0 && inventory.entry(&pack(id).root).is_some() {
            Change::Remove(pack(id).root)
        } else {
            let length = inventory
                .entry(&pack(id).root)
                .map_or(pack(id).length, |entry| entry.pack().length);
            let reference = ObjectRef { length, ..pack(id) };
            let Ok(entry) = Entry::new(reference, map(length, id)) else {
                continue;
            };
            Change::Set(entry)
        };
        inventory
            .apply([change])
            .expect("the pack is there, or new");
        check(&inventory);
    }
    inventory.compact();
    check(&inventory);
    assert!(!inventory.is_sparse());
    true
}

/// Returns the program of a leaf: of each entry its slot, pack, fault and map.
fn leaf(entries: &[[u8; 4]]) -> Vec<u8> {
    let mut program = vec![0, u8::try_from(entries.len()).unwrap_or(0)];
    program.extend(entries.iter().flatten());
    program
}

/// Returns the program of an inner node: of each child its slot, index and fault.
fn inner(level: u8, children: &[[u8; 3]]) -> Vec<u8> {
    let mut program = vec![level, u8::try_from(children.len()).unwrap_or(0)];
    program.extend(children.iter().flatten());
    program
}

/// Three leaves, a fourth like the first but for one map; trees of the first three, and of the fourth with two of them; one of three levels.
pub(super) fn forest() -> Vec<u8> {
    let nodes = [
        leaf(&[[0, 1, 0, 0], [1, 2, 0, 0xff], [5, 39, 0, 3]]),
        leaf(&[[0, 10, 0, 1], [31, 11, 0, 0]]),
        leaf(&[[7, 20, 0, 0x81]]),
        leaf(&[[0, 1, 0, 1], [1, 2, 0, 0xff], [5, 39, 0, 3]]),
        inner(1, &[[0, 0, 0], [1, 1, 0], [9, 2, 0]]),
        inner(1, &[[0, 3, 0], [1, 1, 0], [9, 2, 0]]),
        leaf(&[[0, 79, 0, 0], [1, 119, 0, 0]]),
        inner(1, &[[2, 6, 0]]),
        inner(2, &[[0, 4, 0], [3, 7, 0]]),
    ];
    let mut program = vec![u8::try_from(nodes.len()).unwrap_or(0)];
    program.extend(nodes.concat());
    program
}

/// Returns the forest with some numbers after it.
pub(super) fn with(numbers: &[u8]) -> Vec<u8> {
    [&forest(), numbers].concat()
}

pub(super) fn trees() -> Vec<Vec<u8>> {
    vec![
        with(&[0, 0]),
        with(&[4, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]),
        with(&[8, 0, 79, 119, 33, 66, 99, 250]),
        with(&[]),
    ]
}

pub(super) fn difference(bytes: &[u8]) -> bool {
    let program = &mut Program(bytes);
    let forest = Forest::grow(program);
    let (old, new) = (forest.top(program), forest.top(program));
    let found = diff(
        &old,
        &new,
        |node| forest.load(node),
        |node| forest.load(node),
        1000,
    );
    let load = |top| Inventory::load(top, 1000, &mut |node| forest.load(node));
    let (Ok(before), Ok(after)) = (load(&old), load(&new)) else {
        return false;
    };
    // Both trees hold together, so the difference is what comparing all of them gives.
    let found = found.expect("sound trees can be compared");
    let entries = |of: &Inventory| -> BTreeMap<ObjectRef, Entry> {
        of.entries()
            .map(|entry| (*entry.pack(), entry.clone()))
            .collect()
    };
    let (had, has) = (entries(&before), entries(&after));
    let only = |these: &BTreeMap<ObjectRef, Entry>,
                those: &BTreeMap<ObjectRef, Entry>|
     -> BTreeSet<ObjectRef> {
        these
            .keys()
            .filter(|pack| !those.contains_key(pack))
            .copied()
            .collect()
    };
    let packs = |entries: &[Entry]| -> BTreeSet<ObjectRef> {
        entries.iter().map(|entry| *entry.pack()).collect()
    };
    assert_eq!(packs(&found.added), only(&has, &had));
    assert_eq!(packs(&found.removed), only(&had, &has));
    let changed: BTreeSet<ObjectRef> = found
        .changed
        .iter()
        .map(|(_, entry)| *entry.pack())
        .collect();
    let other = |pack: &&ObjectRef| {
        had.get(pack)
            .is_some_and(|entry| has.get(pack).is_some_and(|now| now != entry))
    };
    assert_eq!(changed, had.keys().filter(other).copied().collect());
    let names =
        |of: &Inventory| -> BTreeSet<ObjectRef> { of.nodes().map(|(node, _)| node).collect() };
    let set = |nodes: &[ObjectRef]| -> BTreeSet<ObjectRef> { nodes.iter().copied().collect() };
    assert_eq!(set(&found.nodes_added), &names(&after) - &names(&before));
    assert_eq!(set(&found.nodes_removed), &names(&before) - &names(&after));
    true
}

pub(super) fn pairs() -> Vec<Vec<u8>> {
    vec![
        with(&[4, 0, 5, 0]),
        with(&[0, 0, 8, 0]),
        with(&[8, 0, 3, 0]),
        with(&[6, 0, 8, 0]),
        with(&[255, 0, 4, 0]),
    ]
}

/// A provider that has what it is asked for, as far as it exists.
struct Honest<'a>(&'a dyn Fn(&ObjectRef) -> Option<Vec<u8>>);

impl AuditSource for Honest<'_> {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        self.0(node)
    }

    fn slice(&mut self, wanted: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        let id = (0..=u8::MAX).find(|id| pack(*id) == *wanted)?;
        let data = pack_bytes(id);
        let mut out = Vec::new();
        encode_slice_as_is(&data, &Outboard::of(&data).as_bytes(), blocks, &mut out).ok()?;
        Some(out)
    }
}

const COMMIT: [u8; 512] = [5; 512];
const SIGNATURE: [u8; 64] = [9; 64];
const HEAD: &[u8] = b"head";

/// An audit of a sound store, and its answer.
struct Audit {
    head: AuditedHead,
    challenge: Challenge,
    answer: Vec<u8>,
}

static AUDIT: LazyLock<Audit> = LazyLock::new(|| {
    let inventories = [inventory(40), inventory(2)];
    let head = AuditedHead {
        data: inventories[0].reference(),
        vital: inventories[1].reference(),
        commit: ObjectRef::of(&COMMIT),
    };
    let challenge = Challenge::draw(
        &mut ChaCha8Rng::seed_from_u64(1),
        RootHash::of(HEAD),
        &head,
        3,
    );
    let nodes: HashMap<_, _> = inventories.iter().flat_map(Inventory::nodes).collect();
    let load = |node: &ObjectRef| nodes.get(node).map(|bytes| bytes.to_vec());
    let answer = answer(
        &challenge,
        &head,
        HEAD,
        &SIGNATURE,
        Some(&COMMIT),
        &mut Honest(&load),
    )
    .expect("an honest answer");
    Audit {
        head,
        challenge,
        answer,
    }
});

fn read_head(head: AuditedHead) -> impl FnOnce(&[u8], &[u8; 64]) -> Option<AuditedHead> {
    move |_, signature| (*signature == SIGNATURE).then_some(head)
}

pub(super) fn audit_answer(bytes: &[u8]) -> bool {
    let Ok(report) = check(&AUDIT.challenge, bytes, read_head(AUDIT.head)) else {
        return false;
    };
    // Nothing but the one true answer passes for it.
    assert_eq!(report.is_intact(), bytes == AUDIT.answer);
    true
}

pub(super) fn audit_answers() -> Vec<Vec<u8>> {
    vec![AUDIT.answer.clone()]
}

/// A forest, two inventories, how many positions of each are asked for, the gaps between them, then faults in the answer.
pub(super) fn audit_inventory(bytes: &[u8]) -> bool {
    let program = &mut Program(bytes);
    let forest = Forest::grow(program);
    let head = AuditedHead {
        data: forest.top(program),
        vital: forest.top(program),
        commit: ObjectRef::of(&COMMIT),
    };
    let mut positions = || {
        let count = program.next().unwrap_or(0) % 8;
        let mut least = 0_u64;
        let mut position = || {
            let at = least.checked_add(program.next()?.into())?;
            least = at.checked_add(1)?;
            Some(at)
        };
        (0..count).map_while(|_| position()).collect::<Vec<_>>()
    };
    let (data, vital) = (positions(), positions());
    let challenge = Challenge::new(RootHash::of(HEAD), data, vital).expect("they ascend");
    let load = |node: &ObjectRef| forest.load(node);
    let located = Stratum::ALL.map(|stratum| {
        locate(
            head.inventory(stratum),
            challenge.positions(stratum),
            &mut |node| load(node),
        )
    });
    let made = answer(
        &challenge,
        &head,
        HEAD,
        &SIGNATURE,
        Some(&COMMIT),
        &mut Honest(&load),
    );
    let mut made = match made {
        Ok(made) => made,
        Err(error) => {
            assert!(matches!(error, AuditError::OutOfRange { .. }), "{error}");
            return false;
        }
    };
    let report =
        check(&challenge, &made, read_head(head)).expect("an answer to this very challenge");
    for (stratum, located) in Stratum::ALL.into_iter().zip(&located) {
        let report = report.stratum(stratum);
        assert_eq!(report.asked, challenge.positions(stratum).len() as u64);
        if report.failed.is_empty() {
            let blocks = located
                .as_ref()
                .map(|targets| targets.iter().map(|target| target.blocks.len()).sum());
            assert_eq!(
                blocks,
                Ok(challenge.positions(stratum).len()),
                "passed, yet positions lead nowhere"
            );
        }
    }
    while let (Some(at), Some(fault)) = (program.word(), program.next()) {
        let length = made.len() as u64;
        if let Some(byte) = usize::try_from(at % length)
            .ok()
            .and_then(|at| made.get_mut(at))
        {
            *byte ^= fault;
        }
        if let Ok(report) = check(&challenge, &made, read_head(head)) {
            assert!(report.data.failed.len() + report.vital.failed.len() <= 16);
        }
    }
    true
}

pub(super) fn audited() -> Vec<Vec<u8>> {
    let mut faults = vec![8, 0, 6, 0, 5, 0, 3, 9, 20, 30, 2, 1, 0];
    for at in [0_u16, 90, 700, 3000] {
        faults.put_u16(at);
        faults.put_u8(0x10);
    }
    vec![
        with(&[4, 0, 255, 0, 3, 0, 0, 0, 0]),
        with(&[0, 0, 2, 0, 2, 5, 5, 1, 0]),
        with(&faults),
    ]
}
