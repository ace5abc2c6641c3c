//! [`Node`]: one node of an inventory's sum tree, as an object.

use super::{Entry, InventoryError, Sums, check_pack_length};
use crate::{
    codec::{ObjectType, ParseError, Prelude, Put, Reader},
    id::RootHash,
    live_map::{self, LiveMap},
    reference::ObjectRef,
    units::{BLOCK_BYTES, PACK_BYTES_MAX, PACK_GROUPS_MAX, groups},
};

/// How an inner node names a node below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Child {
    /// The node.
    pub node: ObjectRef,
    /// What it adds up to.
    pub sums: Sums,
}

/// What fills a node's slots, in slot order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slots {
    /// Packs, in a node of level 0.
    Leaf(Vec<(u8, Entry)>),
    /// Nodes of the level below.
    Inner(Vec<(u8, Child)>),
}

/// One node: up to 32 packs, or up to 32 nodes of the level below.
///
/// Invariant: at least one slot is filled; slots ascend and are below 32; packs exactly in level 0; no pack twice; the sums do not
/// overflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    level: u8,
    slots: Slots,
    sums: Sums,
}

impl Node {
    /// How many slots a node has: one a bit of the bitmap.
    pub const SLOTS: u64 = 32;
    /// The highest level; a leaf's is 0.
    pub const LEVEL_MAX: u8 = 7;
    /// The longest node in bytes: a full leaf of the longest packs, each with a bitmap.
    pub const BYTES_MAX: usize = Prelude::LENGTH + 1 + 4 + u32::BITS as usize * ENTRY_BYTES_MAX;

    /// Makes a leaf of packs and their slots.
    ///
    /// # Errors
    ///
    /// No packs, slots out of order, a pack twice, sums that overflow.
    pub fn leaf(entries: Vec<(u8, Entry)>) -> Result<Self, InventoryError> {
        check_slots(entries.iter().map(|(slot, _)| *slot))?;
        for (index, (_, entry)) in entries.iter().enumerate() {
            let twice = |(_, other): &(u8, Entry)| other.pack.root == entry.pack.root;
            if entries[..index].iter().any(twice) {
                return Err(InventoryError::PackTwice { pack: entry.pack });
            }
        }
        Ok(Self {
            level: 0,
            sums: Sums::total(entries.iter().map(|(_, entry)| entry.sums()))?,
            slots: Slots::Leaf(entries),
        })
    }

    /// Makes a node of level `level`, at least 1, of nodes of the level below.
    ///
    /// # Errors
    ///
    /// No nodes, slots out of order, a level out of range, sums that overflow.
    pub fn inner(level: u8, children: Vec<(u8, Child)>) -> Result<Self, InventoryError> {
        check_slots(children.iter().map(|(slot, _)| *slot))?;
        if level == 0 || level > Self::LEVEL_MAX {
            return Err(ParseError::Invalid { what: LEVEL }.into());
        }
        Ok(Self {
            level,
            sums: Sums::total(children.iter().map(|(_, child)| child.sums))?,
            slots: Slots::Inner(children),
        })
    }

    /// Returns the level, 0 for a leaf.
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// Returns what fills the slots.
    pub const fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Returns what all below adds up to.
    pub const fn sums(&self) -> Sums {
        self.sums
    }

    /// Returns which slots are filled, slot 0 the lowest bit.
    pub fn bitmap(&self) -> u32 {
        match &self.slots {
            Slots::Leaf(entries) => bitmap(entries.iter().map(|(slot, _)| *slot)),
            Slots::Inner(children) => bitmap(children.iter().map(|(slot, _)| *slot)),
        }
    }

    /// Returns whether the node may be the top: one above the leaves that has only slot 0 filled would repeat the node below it.
    pub fn may_be_top(&self) -> bool {
        self.level == 0 || self.bitmap() > 1
    }

    /// Returns the node's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(2048);
        Prelude { epoch: 0 }.encode(ObjectType::InventoryNode, &mut out);
        out.put_u8(self.level);
        out.put_u32(self.bitmap());
        match &self.slots {
            Slots::Leaf(entries) => {
                for (_, entry) in entries {
                    out.put(entry.pack.root.as_bytes());
                    out.put_varint(entry.pack.length / BLOCK_BYTES);
                    entry.live.encode(&mut out);
                }
            }
            Slots::Inner(children) => {
                for (_, child) in children {
                    child.node.encode(&mut out);
                    out.put_varint(child.sums.live_blocks);
                    out.put_varint(child.sums.charged);
                }
            }
        }
        out
    }

    /// Reads a node.
    ///
    /// # Errors
    ///
    /// Whatever breaks the invariant of [`Node`] or of [`Entry`], or is not in its one form.
    pub fn parse(bytes: &[u8]) -> Result<Self, InventoryError> {
        if bytes.len() > Self::BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "inventory node",
                found: bytes.len() as u64,
                max: Self::BYTES_MAX as u64,
            }
            .into());
        }
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::InventoryNode)?;
        let level = reader.u8(LEVEL)?;
        let bitmap = reader.u32(BITMAP)?;
        let slots = (0_u8..32).filter(|slot| bitmap & (1 << slot) != 0);
        let node = if level == 0 {
            Self::leaf(
                slots
                    .map(|slot| Ok((slot, parse_entry(&mut reader)?)))
                    .collect::<Result<_, InventoryError>>()?,
            )?
        } else {
            Self::inner(
                level,
                slots
                    .map(|slot| Ok((slot, parse_child(&mut reader)?)))
                    .collect::<Result<_, InventoryError>>()?,
            )?
        };
        reader.finish()?;
        Ok(node)
    }

    /// Reads the bytes of the node that `child` names in a place of level `level`, if that is known, and holds it against both.
    ///
    /// # Errors
    ///
    /// Other bytes than named, another level, other sums than the node above says, and all that [`Self::parse`] refuses.
    pub fn open(bytes: &[u8], child: &Child, level: Option<u8>) -> Result<Self, InventoryError> {
        if !child.node.names(bytes) {
            return Err(InventoryError::WrongNode { node: child.node });
        }
        let node = Self::parse(bytes)?;
        if let Some(expected) = level.filter(|&expected| expected != node.level) {
            return Err(InventoryError::Level {
                expected,
                found: node.level,
            });
        }
        if level.is_none() && !node.may_be_top() {
            return Err(InventoryError::TooDeep);
        }
        if node.sums != child.sums {
            return Err(InventoryError::Sums { node: child.node });
        }
        Ok(node)
    }
}

const LEVEL: &str = "level of an inventory node";
const BITMAP: &str = "filled slots of an inventory node";
const VARINT_BYTES_MAX: usize = 10;

/// Root, three bytes of length, live map.
const LEAF_ENTRY_BYTES_MAX: usize = 32 + 3 + live_map::encoded_bytes_max(PACK_GROUPS_MAX);
/// Root, three bytes of length, two sums.
const INNER_ENTRY_BYTES_MAX: usize = 32 + 3 + 2 * VARINT_BYTES_MAX;
const ENTRY_BYTES_MAX: usize = LEAF_ENTRY_BYTES_MAX;
const _: () = assert!(LEAF_ENTRY_BYTES_MAX > INNER_ENTRY_BYTES_MAX);
// Three bytes of varint hold both lengths: a pack's in blocks, a node's in bytes.
const _: () = assert!(PACK_BYTES_MAX / BLOCK_BYTES < 1 << 21 && Node::BYTES_MAX < 1 << 21);

fn parse_entry(reader: &mut Reader<'_>) -> Result<Entry, InventoryError> {
    let root = RootHash(reader.array("pack")?);
    let length = reader.varint_max(PACK_BYTES_MAX / BLOCK_BYTES, "length of a pack")? * BLOCK_BYTES;
    check_pack_length(length)?;
    let groups = u32::try_from(groups(length)).unwrap_or(PACK_GROUPS_MAX);
    Entry::new(ObjectRef { root, length }, LiveMap::parse(reader, groups)?)
}

fn parse_child(reader: &mut Reader<'_>) -> Result<Child, InventoryError> {
    const SUMS: &str = "sums of an inventory node";
    let child = Child {
        node: ObjectRef::parse(reader, Node::BYTES_MAX as u64, "inventory node")?,
        sums: Sums {
            live_blocks: reader.varint(SUMS)?,
            charged: reader.varint(SUMS)?,
        },
    };
    if child.sums.live_blocks == 0 || child.sums.charged < super::CHARGE_BYTES_MIN {
        return Err(ParseError::Invalid { what: SUMS }.into());
    }
    Ok(child)
}

fn check_slots(slots: impl Iterator<Item = u8>) -> Result<(), InventoryError> {
    let mut least = 0;
    for slot in slots {
        if slot < least || u64::from(slot) >= Node::SLOTS {
            return Err(ParseError::Invalid { what: BITMAP }.into());
        }
        least = slot + 1;
    }
    if least == 0 {
        return Err(ParseError::Invalid { what: BITMAP }.into());
    }
    Ok(())
}

fn bitmap(slots: impl Iterator<Item = u8>) -> u32 {
    slots.fold(0, |bitmap, slot| bitmap | 1 << slot)
}
