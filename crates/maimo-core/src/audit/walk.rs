//! From positions to blocks of packs, through the nodes of an inventory: the way both sides of an audit go.

use crate::{
    inventory::{Child, Entry, InventoryError, InventoryRef, Node, Slots},
    reference::ObjectRef,
};

/// A position and the block of the pack that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The rank among the stratum's live blocks.
    pub position: u64,
    /// The block in its pack, dead ones counted too.
    pub block: u64,
}

/// What is asked of one pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The pack.
    pub pack: ObjectRef,
    /// The blocks, ascending.
    pub blocks: Vec<Located>,
}

/// Returns where `positions`, which ascend, are in the inventory, in its order, reading the nodes on the way to them.
///
/// # Errors
///
/// A node that is missing or is not what it must be; a position past the last live block.
pub fn locate(
    inventory: &InventoryRef,
    positions: &[u64],
    load: &mut impl FnMut(&ObjectRef) -> Option<Vec<u8>>,
) -> Result<Vec<Target>, InventoryError> {
    let mut targets = Vec::new();
    walk::<InventoryError>(
        inventory,
        positions,
        &mut |child, level| {
            let bytes =
                load(&child.node).ok_or(InventoryError::MissingNode { node: child.node })?;
            Ok(Some(Node::open(&bytes, child, level)?))
        },
        &mut |found| {
            if let Found::Target(target) = found {
                targets.push(target);
            }
        },
    )?;
    let found: usize = targets.iter().map(|target| target.blocks.len()).sum();
    if found != positions.len() {
        return Err(InventoryError::NothingLives);
    }
    Ok(targets)
}

/// What the walk comes to.
pub(super) enum Found<'a> {
    /// A pack with positions in it.
    Target(Target),
    /// Positions under a node that could not be read.
    Lost(&'a [u64]),
}

/// Walks to `positions` depth first, in slot order. `open` is asked once for every node on the way, in that order, and may say that a
/// node cannot be read. Recursion is as deep as the tree, the level falls with every call.
pub(super) fn walk<E: From<InventoryError>>(
    inventory: &InventoryRef,
    positions: &[u64],
    open: &mut impl FnMut(&Child, Option<u8>) -> Result<Option<Node>, E>,
    found: &mut impl FnMut(Found<'_>),
) -> Result<(), E> {
    match inventory.child() {
        Some(top) if !positions.is_empty() => descend(top, None, 0, positions, open, found),
        _ => Ok(()),
    }
}

fn descend<E: From<InventoryError>>(
    child: &Child,
    level: Option<u8>,
    first: u64,
    positions: &[u64],
    open: &mut impl FnMut(&Child, Option<u8>) -> Result<Option<Node>, E>,
    found: &mut impl FnMut(Found<'_>),
) -> Result<(), E> {
    let Some(node) = open(child, level)? else {
        found(Found::Lost(positions));
        return Ok(());
    };
    let (mut first, mut rest) = (first, positions);
    match node.slots() {
        Slots::Leaf(entries) => {
            for (_, entry) in entries {
                let here = split(&mut rest, &mut first, entry.sums().live_blocks);
                if let Some((start, positions)) = here {
                    found(Found::Target(target(entry, start, positions)));
                }
            }
        }
        Slots::Inner(children) => {
            for (_, child) in children {
                let here = split(&mut rest, &mut first, child.sums.live_blocks);
                if let Some((start, positions)) = here {
                    let below = node.level().saturating_sub(1);
                    descend(child, Some(below), start, positions, open, found)?;
                }
            }
        }
    }
    Ok(())
}

/// Takes the positions off the front of `rest` that are among the next `count` blocks, and moves `first` past these; returns the rank of
/// the first of them with the positions, or nothing if there are none.
fn split<'a>(rest: &mut &'a [u64], first: &mut u64, count: u64) -> Option<(u64, &'a [u64])> {
    let start = *first;
    // Sums were added up without overflow, so this is exact.
    *first = start.saturating_add(count);
    let (here, after) = rest.split_at(rest.partition_point(|position| position < first));
    *rest = after;
    (!here.is_empty()).then_some((start, here))
}

fn target(entry: &Entry, start: u64, positions: &[u64]) -> Target {
    let length = entry.pack().length;
    let located = |&position: &u64| {
        let block = entry.live().nth_live_block(length, position - start)?;
        Some(Located { position, block })
    };
    Target {
        pack: *entry.pack(),
        blocks: positions.iter().filter_map(located).collect(),
    }
}
