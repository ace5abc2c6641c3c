use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::id::RootHash;

const LENGTH: u64 = 256 * 1024;
const GROUPS: u32 = 16;

fn pack(number: u32) -> ObjectRef {
    ObjectRef {
        root: RootHash::of(&number.to_le_bytes()),
        length: LENGTH,
    }
}

/// Pack `number` with a live map that depends on `shape`.
fn entry(number: u32, shape: u32) -> Entry {
    let mut live = LiveMap::empty(GROUPS);
    live.insert(shape % GROUPS..shape % GROUPS + 1).unwrap();
    if shape >= GROUPS {
        live.insert(0..GROUPS / 2).unwrap();
    }
    Entry::new(pack(number), live).unwrap()
}

fn inventory(numbers: impl IntoIterator<Item = u32>) -> Inventory {
    let mut inventory = Inventory::new();
    inventory
        .apply(numbers.into_iter().map(|n| Change::Set(entry(n, n))))
        .unwrap();
    inventory
}

fn store(inventory: &Inventory) -> HashMap<ObjectRef, Vec<u8>> {
    inventory
        .nodes()
        .map(|(node, bytes)| (node, bytes.to_vec()))
        .collect()
}

fn by_root<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> BTreeMap<RootHash, Entry> {
    entries
        .into_iter()
        .map(|entry| (entry.pack().root, entry.clone()))
        .collect()
}

fn reload(inventory: &Inventory) -> Result<Inventory, InventoryError> {
    let nodes = store(inventory);
    Inventory::load(&inventory.reference(), u64::MAX, &mut |node| {
        nodes.get(node).cloned()
    })
}

/// Checks all that must hold of the difference of two inventories, whatever they are.
fn check_diff(old: &Inventory, new: &Inventory) {
    let (old_nodes, new_nodes) = (store(old), store(new));
    let change = diff(
        &old.reference(),
        &new.reference(),
        |node| old_nodes.get(node).cloned(),
        |node| new_nodes.get(node).cloned(),
        usize::MAX,
    )
    .unwrap();
    let (before, after) = (by_root(old.entries()), by_root(new.entries()));
    let only = |one: &BTreeMap<RootHash, Entry>, other: &BTreeMap<RootHash, Entry>| {
        let mut one = one.clone();
        one.retain(|root, _| !other.contains_key(root));
        one
    };
    assert_eq!(by_root(&change.added), only(&after, &before));
    assert_eq!(by_root(&change.removed), only(&before, &after));
    let changed: BTreeMap<_, _> = before
        .iter()
        .filter(|(root, was)| after.get(root).is_some_and(|is| is != *was))
        .map(|(root, was)| (*root, (was.clone(), after[root].clone())))
        .collect();
    let found = change.changed.iter().cloned();
    assert_eq!(
        found
            .map(|pair| (pair.0.pack().root, pair))
            .collect::<BTreeMap<_, _>>(),
        changed
    );
    // Applied to the old nodes, the node lists give the new ones.
    let mut nodes: BTreeSet<_> = old_nodes.keys().copied().collect();
    for node in &change.nodes_removed {
        assert!(nodes.remove(node));
    }
    for node in &change.nodes_added {
        assert!(nodes.insert(*node));
    }
    assert_eq!(nodes, new_nodes.keys().copied().collect());
    let mut sent: Vec<_> = new
        .changed_nodes(old)
        .iter()
        .map(|(node, _)| *node)
        .collect();
    let mut added = change.nodes_added;
    sent.sort_unstable();
    added.sort_unstable();
    assert_eq!(sent, added);
}

#[derive(Debug, Clone)]
enum Step {
    Set(u32, u32),
    Remove(u32),
    Compact,
}

fn any_steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        6 => (0_u32..200, 0_u32..32).prop_map(|(n, shape)| Step::Set(n, shape)),
        4 => (0_u32..200).prop_map(Step::Remove),
        1 => Just(Step::Compact),
    ];
    proptest::collection::vec(proptest::collection::vec(step, 0..60), 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn an_inventory_holds_what_a_map_would_and_loads_from_its_nodes(batches in any_steps()) {
        let mut inventory = Inventory::new();
        let mut model: BTreeMap<RootHash, Entry> = BTreeMap::new();
        for batch in batches {
            let before = inventory.clone();
            let mut changes = Vec::new();
            let mut compact = false;
            for step in batch {
                match step {
                    Step::Set(n, shape) => {
                        model.insert(pack(n).root, entry(n, shape));
                        changes.push(Change::Set(entry(n, shape)));
                    }
                    Step::Remove(n) => {
                        if model.remove(&pack(n).root).is_some() {
                            changes.push(Change::Remove(pack(n).root));
                        }
                    }
                    Step::Compact => compact = true,
                }
            }
            inventory.apply(changes).unwrap();
            if compact {
                inventory.compact();
                prop_assert!(!inventory.is_sparse());
            }
            prop_assert_eq!(by_root(inventory.entries()), model.clone());
            prop_assert_eq!(inventory.len(), model.len() as u64);
            for (root, entry) in &model {
                prop_assert_eq!(inventory.entry(root), Some(entry));
            }
            let sums = Sums::total(model.values().map(Entry::sums)).unwrap();
            prop_assert_eq!(inventory.reference().sums(), sums);
            // What was made step by step is what its nodes say: level, depth, sums and names included.
            let loaded = reload(&inventory).unwrap();
            prop_assert_eq!(loaded.reference(), inventory.reference());
            prop_assert!(loaded.entries().eq(inventory.entries()));
            check_diff(&before, &inventory);
            check_diff(&inventory, &before);
        }
    }

    #[test]
    fn a_node_that_parses_encodes_to_the_same_bytes(
        slots in proptest::collection::btree_set(0_u8..32, 1..32),
        flip in any::<(u16, u8)>(),
    ) {
        let entries = slots.iter().map(|&slot| (slot, entry(slot.into(), slot.into()))).collect();
        let node = Node::leaf(entries).unwrap();
        let mut bytes = node.encode();
        prop_assert_eq!(Node::parse(&bytes), Ok(node));
        let at = usize::from(flip.0) % bytes.len();
        bytes[at] ^= flip.1;
        if let Ok(node) = Node::parse(&bytes) {
            prop_assert_eq!(node.encode(), bytes);
        }
    }
}

#[test]
fn emptied_slots_fill_lowest_first_and_ends_are_cut() {
    let mut inventory = inventory(0..70);
    let level = |inventory: &Inventory| {
        let nodes = store(inventory);
        Node::parse(&nodes[&inventory.reference().top().unwrap()])
            .unwrap()
            .level()
    };
    assert_eq!(level(&inventory), 1);
    let remove = |n| Change::Remove(pack(n).root);
    inventory.apply([remove(40), remove(5)]).unwrap();
    inventory
        .apply([Change::Set(entry(100, 1)), Change::Set(entry(101, 1))])
        .unwrap();
    let order: Vec<_> = inventory.entries().map(|entry| *entry.pack()).collect();
    assert_eq!((order[5], order[40]), (pack(100), pack(101)));
    inventory
        .apply((32..70).filter(|n| *n != 40).map(remove))
        .unwrap();
    inventory.apply([remove(101)]).unwrap();
    assert_eq!(level(&inventory), 0);
}

#[test]
fn a_small_change_of_a_large_inventory_changes_one_path() {
    let before = inventory(0..40_000);
    let mut after = before.clone();
    after.apply([Change::Set(entry(20_000, 7))]).unwrap();
    assert_eq!(after.changed_nodes(&before).len(), 4);
    check_diff(&before, &after);
}

/// The old tree is a part of the new one, one level down: nothing below it is read.
#[test]
fn a_tree_that_grows_a_level_costs_only_what_is_new() {
    let (small, large) = (inventory(0..1024), inventory(0..1025));
    let nodes: HashMap<_, _> = store(&small).into_iter().chain(store(&large)).collect();
    for (old, new) in [(&small, &large), (&large, &small)] {
        let load = |node: &ObjectRef| nodes.get(node).cloned();
        // Both tops, the smaller tree's again in its place, and the path to the one pack.
        let change = diff(&old.reference(), &new.reference(), load, load, 5).unwrap();
        assert_eq!(change.added.len() + change.removed.len(), 1);
        assert_eq!(change.nodes_added.len() + change.nodes_removed.len(), 3);
    }
}

#[test]
fn compacting_moves_the_last_packs_into_holes() {
    let mut sparse = inventory(0..200);
    let even = |n: &u32| n.is_multiple_of(2);
    sparse
        .apply((0..199).filter(even).map(|n| Change::Remove(pack(n).root)))
        .unwrap();
    sparse
        .apply(
            (1..20)
                .filter(|n| !even(n))
                .map(|n| Change::Remove(pack(n).root)),
        )
        .unwrap();
    assert!(sparse.is_sparse());
    let (before, packs) = (by_root(sparse.entries()), sparse.len());
    assert_eq!(packs, 90);
    assert!(sparse.compact() > 0);
    assert_eq!(by_root(sparse.entries()), before);
    assert_eq!(reload(&sparse).unwrap().reference(), sparse.reference());
    // No holes are left: the next pack goes to the end.
    sparse.apply([Change::Set(entry(1000, 0))]).unwrap();
    assert_eq!(sparse.entries().last().unwrap().pack(), &pack(1000));
    assert_eq!(sparse.compact(), 0);
}

#[test]
fn an_impossible_change_changes_nothing() {
    let mut inventory = inventory(0..40);
    let before = inventory.reference();
    let other_length = ObjectRef {
        length: LENGTH / 2,
        ..pack(3)
    };
    let other = Entry::new(other_length, LiveMap::full(GROUPS / 2)).unwrap();
    for (change, error) in [
        (
            Change::Remove(pack(99).root),
            InventoryError::UnknownPack {
                root: pack(99).root,
            },
        ),
        (
            Change::Set(other),
            InventoryError::OtherLength { pack: other_length },
        ),
    ] {
        let changes = [Change::Remove(pack(1).root), change];
        assert_eq!(inventory.apply(changes), Err(error));
        assert_eq!(inventory.reference(), before);
        assert_eq!(inventory.len(), 40);
    }
}

#[test]
fn a_charge_counts_live_groups_and_outboard_and_at_least_a_block() {
    let length = 16 * 1024 * 1024;
    assert_eq!(charge(length, &LiveMap::full(1024)), length + 64 * 1023);
    let one = LiveMap::from_runs(1024, std::iter::once(1023..1024)).unwrap();
    assert_eq!(charge(length, &one), 16 * 1024 + 64 * 1023);
    assert_eq!(charge(100, &LiveMap::full(1)), 4096);
}

#[test]
fn entries_that_may_not_be_are_refused() {
    let of = |length| ObjectRef { length, ..pack(0) };
    assert!(Entry::new(of(4096), LiveMap::full(1)).is_ok());
    for (length, live) in [
        (0, LiveMap::full(0)),
        (4095, LiveMap::full(1)),
        (PACK_BYTES_MAX + 4096, LiveMap::full(4097)),
        (4096, LiveMap::full(2)),
        (4096, LiveMap::empty(1)),
    ] {
        assert!(Entry::new(of(length), live).is_err(), "{length}");
    }
}

#[test]
fn a_reference_is_zeros_if_empty_and_else_whole() {
    let encoded = |reference: InventoryRef| {
        let mut bytes = Vec::new();
        reference.encode_fixed(&mut bytes);
        bytes
    };
    let parse = |bytes: &[u8]| InventoryRef::parse_fixed(&mut Reader::new(bytes));
    assert_eq!(encoded(InventoryRef::EMPTY), [0; 56]);
    assert_eq!(parse(&[0; 56]), Ok(InventoryRef::EMPTY));
    let reference = inventory(0..50).reference();
    let bytes = encoded(reference);
    assert_eq!(bytes.len(), InventoryRef::FIXED_LENGTH);
    assert_eq!(parse(&bytes), Ok(reference));
    // A reference in which any one field is nothing is neither.
    for field in [0..32, 32..40, 40..48, 48..56] {
        let mut broken = bytes.clone();
        broken[field].fill(0);
        assert!(parse(&broken).is_err());
    }
    for byte in 0..56 {
        let mut broken = [0; 56];
        broken[byte] = 1;
        assert!(parse(&broken).is_err());
    }
}

/// Nodes made by hand, as a peer may send them.
mod hostile {
    use super::*;

    fn keep(nodes: &mut HashMap<ObjectRef, Vec<u8>>, node: &Node) -> Child {
        let bytes = node.encode();
        let child = Child {
            node: ObjectRef::of(&bytes),
            sums: node.sums(),
        };
        nodes.insert(child.node, bytes);
        child
    }

    /// Returns what loading, and comparing with nothing, say.
    fn both(top: Child, nodes: &HashMap<ObjectRef, Vec<u8>>) -> [Option<InventoryError>; 2] {
        let reference = InventoryRef::new(top);
        let mut load = |node: &ObjectRef| nodes.get(node).cloned();
        let loaded = Inventory::load(&reference, 100, &mut load);
        let compared = diff(&InventoryRef::EMPTY, &reference, |_| None, load, 100);
        [loaded.err(), compared.err()]
    }

    fn refused(top: Child, nodes: &HashMap<ObjectRef, Vec<u8>>, error: &InventoryError) {
        assert_eq!(both(top, nodes), [Some(error.clone()), Some(error.clone())]);
    }

    #[test]
    fn trees_that_lie_are_refused() {
        let mut nodes = HashMap::new();
        let leaf = |n: u32| Node::leaf(vec![(0, entry(n, n)), (9, entry(n + 1, 0))]).unwrap();
        let (first, second) = (keep(&mut nodes, &leaf(1)), keep(&mut nodes, &leaf(3)));
        let good = keep(
            &mut nodes,
            &Node::inner(1, vec![(0, first), (7, second)]).unwrap(),
        );
        assert_eq!(both(good, &nodes), [None, None]);

        let mut more = second;
        more.sums.charged += 1;
        let top = keep(
            &mut nodes,
            &Node::inner(1, vec![(0, first), (7, more)]).unwrap(),
        );
        refused(top, &nodes, &InventoryError::Sums { node: second.node });

        let mut top = good;
        top.sums.live_blocks -= 1;
        refused(top, &nodes, &InventoryError::Sums { node: good.node });

        let top = keep(
            &mut nodes,
            &Node::inner(1, vec![(0, first), (7, first)]).unwrap(),
        );
        let twice = [Some(pack(1)), Some(pack(2))];
        for error in both(top, &nodes) {
            assert!(
                matches!(error, Some(InventoryError::PackTwice { pack }) if twice.contains(&Some(pack)))
            );
        }

        let top = keep(
            &mut nodes,
            &Node::inner(2, vec![(0, first), (7, second)]).unwrap(),
        );
        for error in both(top, &nodes) {
            assert_eq!(
                error,
                Some(InventoryError::Level {
                    expected: 1,
                    found: 0
                })
            );
        }

        let top = keep(&mut nodes, &Node::inner(1, vec![(0, first)]).unwrap());
        refused(top, &nodes, &InventoryError::TooDeep);

        nodes.insert(second.node, leaf(5).encode());
        refused(
            good,
            &nodes,
            &InventoryError::WrongNode { node: second.node },
        );
        nodes.remove(&second.node);
        refused(
            good,
            &nodes,
            &InventoryError::MissingNode { node: second.node },
        );
    }

    #[test]
    fn one_node_named_many_times_ends_soon() {
        // A tree of a handful of nodes that unfolds into 32^7 leaves.
        let mut nodes = HashMap::new();
        let mut below = keep(&mut nodes, &Node::leaf(vec![(0, entry(1, 1))]).unwrap());
        for level in 1..=7 {
            let all = (0..32).map(|slot| (slot, below)).collect();
            below = keep(&mut nodes, &Node::inner(level, all).unwrap());
        }
        refused(below, &nodes, &InventoryError::PackTwice { pack: pack(1) });
    }

    #[test]
    fn a_change_past_the_work_allowed_is_refused() {
        let inventory = inventory(0..100);
        let nodes = store(&inventory);
        let compare = |work_max| {
            let load = |node: &ObjectRef| nodes.get(node).cloned();
            diff(
                &InventoryRef::EMPTY,
                &inventory.reference(),
                |_| None,
                load,
                work_max,
            )
        };
        assert_eq!(compare(5).unwrap().added.len(), 100);
        assert_eq!(compare(4), Err(InventoryError::TooMuchWork { max: 4 }));
        let mut load = |node: &ObjectRef| nodes.get(node).cloned();
        let too_many = Inventory::load(&inventory.reference(), 99, &mut load).err();
        assert_eq!(too_many, Some(InventoryError::TooManyPacks { max: 99 }));
    }

    #[test]
    fn nodes_out_of_form_are_refused() {
        let good = Node::leaf(vec![(3, entry(1, 1))]).unwrap().encode();
        assert!(Node::parse(&good).is_ok());
        let broken = |edit: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = good.clone();
            edit(&mut bytes);
            Node::parse(&bytes).unwrap_err()
        };
        broken(&|bytes| bytes.push(0));
        broken(&|bytes| bytes.truncate(bytes.len() - 1));
        broken(&|bytes| bytes[8] = 1); // epoch
        broken(&|bytes| bytes[12] = 8); // level
        broken(&|bytes| bytes[13] = 0); // no slot filled
        broken(&|bytes| bytes[13] = 12); // two slots filled
        broken(&|bytes| bytes[13 + 4 + 32] = 0); // a pack of no bytes
        broken(&|bytes| bytes.resize(Node::BYTES_MAX + 1, 0));
        assert!(Node::leaf(vec![(3, entry(1, 1)), (3, entry(2, 1))]).is_err());
        assert!(Node::leaf(vec![(3, entry(1, 1)), (4, entry(1, 2))]).is_err());
        assert!(Node::leaf(vec![(32, entry(1, 1))]).is_err());
        assert!(Node::leaf(Vec::new()).is_err());
    }

    #[test]
    fn the_longest_node_is_as_long_as_the_maximum_says() {
        let every_other = (0..1024).map(|n| 4 * n..4 * n + 2);
        let live = LiveMap::from_runs(4096, every_other).unwrap();
        let longest = |n: u8| {
            let pack = ObjectRef {
                length: PACK_BYTES_MAX,
                ..pack(n.into())
            };
            (n, Entry::new(pack, live.clone()).unwrap())
        };
        let node = Node::leaf((0..32).map(longest).collect()).unwrap();
        assert_eq!(node.encode().len(), Node::BYTES_MAX);
        assert_eq!(Node::BYTES_MAX, 17_553, "as the format says");
    }

    #[test]
    fn sums_that_overflow_are_refused() {
        let child = |n: u32| Child {
            node: pack(n),
            sums: Sums {
                live_blocks: 1,
                charged: u64::MAX / 2,
            },
        };
        assert!(Node::inner(1, vec![(0, child(1)), (1, child(2))]).is_ok());
        assert_eq!(
            Node::inner(1, vec![(0, child(1)), (1, child(2)), (2, child(3))]),
            Err(InventoryError::Overflow)
        );
    }
}
