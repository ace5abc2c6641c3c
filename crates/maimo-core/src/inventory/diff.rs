//! What a new inventory changes, by reading only the nodes that differ.
//!
//! This is how a provider admits a head: the old tree is its own, the new one comes from a peer. Every node read is held against its name, its
//! level and the sums above it, and no more than a given number is read. Where both trees have the same node at the same place,
//! nothing below is read; so *this cannot see a pack that stands twice, once in a part that changed and once in one that did
//! not*. Who admits a head knows what lived before, and must refuse an added pack that lives already.

use std::collections::{HashMap, HashSet};

use super::{Child, Entry, InventoryError, InventoryRef, Node, Slots};
use crate::{id::RootHash, reference::ObjectRef};

/// What the difference of two inventories is. A pack that only changed its slot is in none of the lists, nor is a node that only
/// changed its place. Each list is in the order of the tree it was read from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InventoryChange {
    /// Packs that only the new one names.
    pub added: Vec<Entry>,
    /// Packs that only the old one names.
    pub removed: Vec<Entry>,
    /// Packs with another live map: as the old one says, as the new one says.
    pub changed: Vec<(Entry, Entry)>,
    /// Nodes that only the new one has.
    pub nodes_added: Vec<ObjectRef>,
    /// Nodes that only the old one has.
    pub nodes_removed: Vec<ObjectRef>,
}

/// Compares two inventories, reading at most `work_max` nodes of both together.
///
/// # Errors
///
/// As [`super::Inventory::load`], and [`InventoryError::TooMuchWork`].
pub fn diff(
    old: &InventoryRef,
    new: &InventoryRef,
    mut load_old: impl FnMut(&ObjectRef) -> Option<Vec<u8>>,
    mut load_new: impl FnMut(&ObjectRef) -> Option<Vec<u8>>,
    work_max: usize,
) -> Result<InventoryChange, InventoryError> {
    if old == new {
        return Ok(InventoryChange::default());
    }
    let mut walk = Walk {
        load_old: &mut load_old,
        load_new: &mut load_new,
        work_left: work_max,
        work_max,
        old: Seen::default(),
        new: Seen::default(),
    };
    let old = old
        .child()
        .map(|top| walk.read_old(top, None))
        .transpose()?;
    let new = new
        .child()
        .map(|top| walk.read_new(top, None))
        .transpose()?;
    walk.compare(old, new)?;
    Ok(join(&walk.old, &walk.new))
}

/// A node that was read, and how it was named.
struct Read {
    child: Child,
    node: Node,
}

/// What one side has where the two differ.
#[derive(Default)]
struct Seen {
    nodes: Vec<ObjectRef>,
    entries: Vec<Entry>,
    roots: HashSet<RootHash>,
}

struct Walk<'a, O, N> {
    load_old: &'a mut O,
    load_new: &'a mut N,
    work_left: usize,
    work_max: usize,
    old: Seen,
    new: Seen,
}

impl<O, N> Walk<'_, O, N>
where
    O: FnMut(&ObjectRef) -> Option<Vec<u8>>,
    N: FnMut(&ObjectRef) -> Option<Vec<u8>>,
{
    fn read_old(&mut self, child: &Child, level: Option<u8>) -> Result<Read, InventoryError> {
        self.work()?;
        read((self.load_old)(&child.node), child, level)
    }

    fn read_new(&mut self, child: &Child, level: Option<u8>) -> Result<Read, InventoryError> {
        self.work()?;
        read((self.load_new)(&child.node), child, level)
    }

    fn work(&mut self) -> Result<(), InventoryError> {
        self.work_left = self
            .work_left
            .checked_sub(1)
            .ok_or(InventoryError::TooMuchWork { max: self.work_max })?;
        Ok(())
    }

    /// Compares what stands at one place. Recursion is as deep as the deeper tree: the level falls with every call.
    fn compare(&mut self, old: Option<Read>, new: Option<Read>) -> Result<(), InventoryError> {
        // The shallower tree is what stands in slot 0 of the deeper one, slot 0 of that, and so on.
        match (&old, &new) {
            (Some(o), Some(n)) if o.child == n.child => return Ok(()),
            (Some(o), Some(n)) if o.node.level() > n.node.level() => {
                self.old.nodes.push(o.child.node);
                let mut new = new;
                for (slot, child) in children(o.node.slots()) {
                    let below = self.read_old(child, Some(o.node.level() - 1))?;
                    let beside = if slot == 0 { new.take() } else { None };
                    self.compare(Some(below), beside)?;
                }
                // The new tree's place may be empty in the old one.
                return if new.is_some() {
                    self.compare(None, new)
                } else {
                    Ok(())
                };
            }
            (Some(o), Some(n)) if o.node.level() < n.node.level() => {
                self.new.nodes.push(n.child.node);
                let mut old = old;
                for (slot, child) in children(n.node.slots()) {
                    let below = self.read_new(child, Some(n.node.level() - 1))?;
                    let beside = if slot == 0 { old.take() } else { None };
                    self.compare(beside, Some(below))?;
                }
                return if old.is_some() {
                    self.compare(old, None)
                } else {
                    Ok(())
                };
            }
            _ => {}
        }
        self.old
            .nodes
            .extend(old.as_ref().map(|read| read.child.node));
        self.new
            .nodes
            .extend(new.as_ref().map(|read| read.child.node));
        for slot in 0..Node::SLOTS {
            let entries = (entry_at(old.as_ref(), slot), entry_at(new.as_ref(), slot));
            let same = entries.0 == entries.1;
            if let Some(entry) = entries.0 {
                self.old.take(entry, same)?;
            }
            if let Some(entry) = entries.1 {
                self.new.take(entry, same)?;
            }
            let (o, n) = (child_at(old.as_ref(), slot), child_at(new.as_ref(), slot));
            if o == n {
                continue;
            }
            let level = |read: &Option<Read>| {
                read.as_ref()
                    .map(|read| read.node.level().saturating_sub(1))
            };
            let below_old = o
                .map(|child| self.read_old(child, level(&old)))
                .transpose()?;
            let below_new = n
                .map(|child| self.read_new(child, level(&new)))
                .transpose()?;
            self.compare(below_old, below_new)?;
        }
        Ok(())
    }
}

impl Seen {
    /// Notes an entry; one that is the `same` on both sides only counts as seen.
    fn take(&mut self, entry: &Entry, same: bool) -> Result<(), InventoryError> {
        if !self.roots.insert(entry.pack().root) {
            return Err(InventoryError::PackTwice {
                pack: *entry.pack(),
            });
        }
        if !same {
            self.entries.push(entry.clone());
        }
        Ok(())
    }
}

fn read(bytes: Option<Vec<u8>>, child: &Child, level: Option<u8>) -> Result<Read, InventoryError> {
    let bytes = bytes.ok_or(InventoryError::MissingNode { node: child.node })?;
    let node = Node::open(&bytes, child, level)?;
    Ok(Read {
        child: *child,
        node,
    })
}

fn children(slots: &Slots) -> impl Iterator<Item = (u8, &Child)> {
    let children = match slots {
        Slots::Inner(children) => &children[..],
        Slots::Leaf(_) => &[],
    };
    children.iter().map(|(slot, child)| (*slot, child))
}

fn child_at(read: Option<&Read>, slot: u64) -> Option<&Child> {
    let found = |(at, child)| (u64::from(at) == slot).then_some(child);
    children(read?.node.slots()).find_map(found)
}

fn entry_at(read: Option<&Read>, slot: u64) -> Option<&Entry> {
    let Slots::Leaf(entries) = read?.node.slots() else {
        return None;
    };
    let found = entries.iter().find(|(at, _)| u64::from(*at) == slot);
    found.map(|(_, entry)| entry)
}

/// Takes out what only moved.
fn join(old: &Seen, new: &Seen) -> InventoryChange {
    let mut change = InventoryChange::default();
    let before: HashMap<&ObjectRef, &Entry> = old
        .entries
        .iter()
        .map(|entry| (entry.pack(), entry))
        .collect();
    let mut stays = HashSet::new();
    for entry in &new.entries {
        match before.get(entry.pack()) {
            None => change.added.push(entry.clone()),
            Some(was) => {
                stays.insert(*entry.pack());
                if *was != entry {
                    change.changed.push(((*was).clone(), entry.clone()));
                }
            }
        }
    }
    change.removed = old
        .entries
        .iter()
        .filter(|entry| !stays.contains(entry.pack()))
        .cloned()
        .collect();
    let (had, has): (HashSet<_>, HashSet<_>) =
        (old.nodes.iter().collect(), new.nodes.iter().collect());
    change.nodes_added = new
        .nodes
        .iter()
        .filter(|node| !had.contains(node))
        .copied()
        .collect();
    change.nodes_removed = old
        .nodes
        .iter()
        .filter(|node| !has.contains(node))
        .copied()
        .collect();
    change
}
