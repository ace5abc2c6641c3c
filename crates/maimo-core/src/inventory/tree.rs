//! [`Inventory`]: a whole inventory in memory, as the side that makes heads keeps it.
//!
//! Nodes are kept encoded and hashed, by level and place; a change re-encodes only the paths from the leaves it touches to the top. Nodes are
//! shared between clones, so keeping the previous inventory to compare with costs little.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{Child, Entry, InventoryError, InventoryRef, Node, Slots};
use crate::{id::RootHash, reference::ObjectRef};

/// One change of an inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Names a pack, newly or with another live map.
    Set(Entry),
    /// Lets a pack go.
    Remove(RootHash),
}

/// A whole inventory.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    /// Nodes by place, for each level from the leaves up. Empty if there are no packs, else the last level has one node at place 0.
    levels: Vec<BTreeMap<u64, Arc<Kept>>>,
    slots: HashMap<RootHash, u64>,
}

/// Why a node can always be made: it has checked entries in order, and of packs in memory (below 2^37) the sums (below 2^27 each) fit in 64
/// bits and the slots in 2^40.
const FITS: &str = "packs in memory fit the tree and its sums";

/// A node with what encoding and hashing it gave.
#[derive(Debug)]
struct Kept {
    node: Node,
    child: Child,
    bytes: Vec<u8>,
}

impl Kept {
    fn new(node: Node) -> Self {
        let bytes = node.encode();
        let child = Child {
            node: ObjectRef::of(&bytes),
            sums: node.sums(),
        };
        Self { node, child, bytes }
    }

    fn entries(&self) -> &[(u8, Entry)] {
        match self.node.slots() {
            Slots::Leaf(entries) => entries,
            Slots::Inner(_) => &[],
        }
    }
}

impl Inventory {
    /// Returns the inventory without a pack.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the inventory that `reference` names from nodes that `load` returns, of at most `packs_max` packs.
    ///
    /// # Errors
    ///
    /// A node that is missing, is not the one named, has the wrong level or sums; a pack twice; too many packs.
    pub fn load(
        reference: &InventoryRef,
        packs_max: u64,
        load: &mut impl FnMut(&ObjectRef) -> Option<Vec<u8>>,
    ) -> Result<Self, InventoryError> {
        let mut inventory = Self::new();
        // Depth first, by a stack of its own: (the node, its level unless it is the top, its place in that level).
        let mut open: Vec<(Child, Option<u8>, u64)> = Vec::new();
        open.extend(reference.child().map(|top| (*top, None, 0)));
        while let Some((child, level, place)) = open.pop() {
            let bytes =
                load(&child.node).ok_or(InventoryError::MissingNode { node: child.node })?;
            let node = Node::open(&bytes, &child, level)?;
            let level = node.level();
            match node.slots() {
                Slots::Leaf(entries) => {
                    for (slot, entry) in entries {
                        let slot = place * Node::SLOTS + u64::from(*slot);
                        if inventory.slots.insert(entry.pack().root, slot).is_some() {
                            return Err(InventoryError::PackTwice {
                                pack: *entry.pack(),
                            });
                        }
                    }
                    if inventory.len() > packs_max {
                        return Err(InventoryError::TooManyPacks { max: packs_max });
                    }
                }
                Slots::Inner(children) => {
                    let below = |slot: u8| place * Node::SLOTS + u64::from(slot);
                    let next =
                        |(slot, child): &(u8, Child)| (*child, Some(level - 1), below(*slot));
                    open.extend(children.iter().rev().map(next));
                }
            }
            while inventory.levels.len() <= usize::from(level) {
                inventory.levels.push(BTreeMap::new());
            }
            inventory.levels[usize::from(level)]
                .insert(place, Arc::new(Kept { node, child, bytes }));
        }
        Ok(inventory)
    }

    /// Returns how heads name this inventory.
    pub fn reference(&self) -> InventoryRef {
        self.top()
            .map_or(InventoryRef::EMPTY, |top| InventoryRef::new(top.child))
    }

    /// Returns how many packs it names.
    pub fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Returns whether it names no pack.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns the entry of a pack.
    pub fn entry(&self, root: &RootHash) -> Option<&Entry> {
        let slot = *self.slots.get(root)?;
        let entries = self.levels.first()?.get(&(slot / Node::SLOTS))?.entries();
        entries
            .iter()
            .find(|(within, _)| u64::from(*within) == slot % Node::SLOTS)
            .map(|(_, entry)| entry)
    }

    /// Returns the entries in slot order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        let leaves = self.levels.first().into_iter().flat_map(BTreeMap::values);
        leaves.flat_map(|leaf| leaf.entries().iter().map(|(_, entry)| entry))
    }

    /// Makes changes, all or none. Of two changes of one pack the later counts. Emptied slots are filled again, lowest first, in the
    /// order of the changes; empty ends are cut.
    ///
    /// # Errors
    ///
    /// Removing a pack that is not there; another length for a pack that is.
    pub fn apply(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), InventoryError> {
        let mut added: Vec<(RootHash, Option<Entry>)> = Vec::new();
        let mut added_at: HashMap<RootHash, usize> = HashMap::new();
        let mut edits: BTreeMap<u64, Option<Entry>> = BTreeMap::new();
        for change in changes {
            let (root, entry) = match change {
                Change::Set(entry) => (entry.pack().root, Some(entry)),
                Change::Remove(root) => (root, None),
            };
            let old = self.entry(&root).map(|entry| entry.pack().length);
            if let (Some(old), Some(entry)) = (old, &entry)
                && old != entry.pack().length
            {
                return Err(InventoryError::OtherLength {
                    pack: *entry.pack(),
                });
            }
            if let Some(&slot) = self.slots.get(&root) {
                edits.insert(slot, entry);
            } else if let Some(&index) = added_at.get(&root) {
                added[index].1 = entry;
            } else if entry.is_some() {
                added_at.insert(root, added.len());
                added.push((root, entry));
            } else {
                return Err(InventoryError::UnknownPack { root });
            }
        }
        let freed = edits
            .iter()
            .filter_map(|(slot, entry)| entry.is_none().then_some(*slot))
            .collect();
        let added: Vec<_> = added.into_iter().filter_map(|(_, entry)| entry).collect();
        let free = self.free_slots(&freed, added.len());
        edits.extend(free.into_iter().zip(added.into_iter().map(Some)));
        self.edit(edits);
        Ok(())
    }

    /// Returns whether fewer than half of the slots up to the last filled one are used: then [`Self::compact`] is worth its bytes.
    pub fn is_sparse(&self) -> bool {
        self.len() * 2 < self.end()
    }

    /// Moves packs from the end into holes until there are none; returns how many moved.
    pub fn compact(&mut self) -> u64 {
        let packs = self.len();
        let moving: Vec<_> = self
            .slots
            .iter()
            .filter(|(_, slot)| **slot >= packs)
            .filter_map(|(root, slot)| Some((*slot, self.entry(root)?.clone())))
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect();
        let holes = self.free_slots(&BTreeSet::new(), moving.len());
        let mut edits: BTreeMap<u64, Option<Entry>> =
            moving.iter().map(|(slot, _)| (*slot, None)).collect();
        let moved = moving.len() as u64;
        edits.extend(
            holes
                .into_iter()
                .zip(moving.into_iter().map(|(_, entry)| Some(entry))),
        );
        self.edit(edits);
        moved
    }

    /// Returns every node with its bytes, leaves first.
    pub fn nodes(&self) -> impl Iterator<Item = (ObjectRef, &[u8])> {
        let nodes = self.levels.iter().flat_map(BTreeMap::values);
        nodes.map(|kept| (kept.child.node, &kept.bytes[..]))
    }

    /// Returns the nodes that `previous` does not have.
    pub fn changed_nodes(&self, previous: &Self) -> Vec<(ObjectRef, &[u8])> {
        // Most places hold the very same node; what is left may still have moved from another place.
        let same = |level: usize, place: &u64, kept: &Arc<Kept>| {
            let other = previous
                .levels
                .get(level)
                .and_then(|nodes| nodes.get(place));
            other.is_some_and(|other| {
                Arc::ptr_eq(other, kept) || other.child.node == kept.child.node
            })
        };
        let differing: Vec<_> = self
            .levels
            .iter()
            .enumerate()
            .flat_map(|(level, nodes)| nodes.iter().map(move |(place, kept)| (level, place, kept)))
            .filter(|(level, place, kept)| !same(*level, place, kept))
            .map(|(_, _, kept)| (kept.child.node, &kept.bytes[..]))
            .collect();
        if differing.is_empty() {
            return differing;
        }
        let known: HashSet<ObjectRef> = previous.nodes().map(|(node, _)| node).collect();
        differing
            .into_iter()
            .filter(|(node, _)| !known.contains(node))
            .collect()
    }

    fn top(&self) -> Option<&Kept> {
        self.levels.last()?.get(&0).map(AsRef::as_ref)
    }

    /// Returns the slot after the last filled one.
    fn end(&self) -> u64 {
        let last = self.levels.first().and_then(BTreeMap::last_key_value);
        last.map_or(0, |(place, leaf)| {
            let within = leaf.entries().last().map_or(0, |(slot, _)| *slot);
            place * Node::SLOTS + u64::from(within) + 1
        })
    }

    /// Returns the `count` lowest slots that are empty or in `freed`.
    fn free_slots(&self, freed: &BTreeSet<u64>, count: usize) -> Vec<u64> {
        let mut free = Vec::with_capacity(count);
        let leaves = self.levels.first();
        let mut place = 0;
        while free.len() < count {
            let filled = leaves
                .and_then(|leaves| leaves.get(&place))
                .map_or(0, |leaf| leaf.node.bitmap());
            let slots = (0..Node::SLOTS)
                .filter(|slot| {
                    filled & (1 << slot) == 0 || freed.contains(&(place * Node::SLOTS + slot))
                })
                .map(|slot| place * Node::SLOTS + slot);
            free.extend(slots.take(count - free.len()));
            place += 1;
        }
        free
    }

    /// Fills and empties slots, then makes every node above them anew.
    fn edit(&mut self, edits: BTreeMap<u64, Option<Entry>>) {
        if self.levels.is_empty() {
            self.levels.push(BTreeMap::new());
        }
        let mut leaves: BTreeMap<u64, BTreeMap<u8, Entry>> = BTreeMap::new();
        for (slot, entry) in edits {
            let place = slot / Node::SLOTS;
            let within = u8::try_from(slot % Node::SLOTS).unwrap_or(0);
            let leaf = leaves.entry(place).or_insert_with(|| {
                let old = self.levels[0]
                    .get(&place)
                    .map_or(&[][..], |leaf| leaf.entries());
                old.iter().cloned().collect()
            });
            if let Some(old) = leaf.remove(&within) {
                let root = old.pack().root;
                // A pack that moves may already stand in its new slot.
                if self.slots.get(&root) == Some(&slot) {
                    self.slots.remove(&root);
                }
            }
            if let Some(entry) = entry {
                self.slots.insert(entry.pack().root, slot);
                leaf.insert(within, entry);
            }
        }
        let mut touched = BTreeSet::new();
        for (place, leaf) in leaves {
            touched.insert(place);
            if leaf.is_empty() {
                self.levels[0].remove(&place);
            } else {
                let node = Node::leaf(leaf.into_iter().collect()).expect(FITS);
                self.levels[0].insert(place, Arc::new(Kept::new(node)));
            }
        }
        self.rebuild(touched);
    }

    /// Makes the nodes above the leaves at `touched` anew, and gives the tree the least depth that reaches its last leaf.
    fn rebuild(&mut self, mut touched: BTreeSet<u64>) {
        let mut last = self.levels[0].last_key_value().map(|(place, _)| *place);
        if last.is_none() {
            self.levels.clear();
        }
        let mut level = 0;
        while let Some(place) = last.filter(|&place| place > 0) {
            level += 1;
            let number = u8::try_from(level).unwrap_or(u8::MAX);
            if self.levels.len() == level {
                // A level that was not there: every node below needs one above it.
                self.levels.push(BTreeMap::new());
                touched = self.levels[level - 1].keys().copied().collect();
            }
            touched = touched.iter().map(|place| place / Node::SLOTS).collect();
            for &place in &touched {
                let first = place * Node::SLOTS;
                let children: Vec<_> = self.levels[level - 1]
                    .range(first..first + Node::SLOTS)
                    .map(|(below, kept)| (u8::try_from(below - first).unwrap_or(0), kept.child))
                    .collect();
                if children.is_empty() {
                    self.levels[level].remove(&place);
                } else {
                    let node = Node::inner(number, children).expect(FITS);
                    self.levels[level].insert(place, Arc::new(Kept::new(node)));
                }
            }
            last = Some(place / Node::SLOTS);
        }
        if last.is_some() {
            self.levels.truncate(level + 1);
        }
    }
}
