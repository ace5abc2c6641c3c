//! The inventory: which packs a channel must hold, and which of their groups live, as a sum tree.
//!
//! A channel has two, *data* and *vital*; this module does not care which. [`node`] is the format of one node, [`tree`] a whole inventory in
//! memory as a client keeps it, [`diff()`] what a provider does to learn what a new head changes without reading what it does not.
//!
//! A node has 32 slots. Slot `s` of the inventory is slot `s % 32` of leaf `s / 32`, and so on upwards; the top is the least level that
//! reaches the highest filled slot. A slot means nothing outside its tree: entries may change places freely.

pub mod diff;
pub mod node;
pub mod tree;

use thiserror::Error;

pub use self::{
    diff::{InventoryChange, diff},
    node::{Child, Node, Slots},
    tree::{Change, Inventory},
};
use crate::{
    codec::{ParseError, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    live_map::{LiveMap, LiveMapError},
    reference::ObjectRef,
    units::{BLOCK_BYTES, PACK_BYTES_MAX, groups, outboard_bytes},
};

/// The least that a pack with anything alive in it is charged, in bytes.
pub const CHARGE_BYTES_MIN: u64 = 4096;

/// Returns the bytes an object of `length` bytes is charged: its live groups and its outboard, whatever a disk makes of them.
pub fn charge(length: u64, live: &LiveMap) -> u64 {
    live.live_bytes(length)
        .saturating_add(outboard_bytes(length))
        .max(CHARGE_BYTES_MIN)
}

/// Why an inventory, or a change of one, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InventoryError {
    /// A node's bytes are not a node.
    #[error("a node of the inventory cannot be read")]
    Parse(#[from] ParseError),
    /// A live map that no entry may have.
    #[error("an entry's live map is not allowed")]
    LiveMap(#[from] LiveMapError),
    /// A pack whose length no pack may have.
    #[error("a pack of {length} bytes is not allowed")]
    PackLength {
        /// The length claimed.
        length: u64,
    },
    /// A live map for an object of another size than the pack's.
    #[error("a live map of {found} groups stands beside a pack of {expected}")]
    Groups {
        /// How many groups the pack has.
        expected: u64,
        /// How many the map is for.
        found: u64,
    },
    /// An entry nothing of which lives.
    #[error("an entry names a pack of which nothing lives")]
    NothingLives,
    /// A node that is not there.
    #[error("node {} of the inventory is missing", node.root)]
    MissingNode {
        /// The node.
        node: ObjectRef,
    },
    /// Bytes that are not those of the node asked for.
    #[error("node {} of the inventory does not match its name", node.root)]
    WrongNode {
        /// The node asked for.
        node: ObjectRef,
    },
    /// A node of another level than its place has.
    #[error("a node of level {found} stands where level {expected} belongs")]
    Level {
        /// The level of the place.
        expected: u8,
        /// The level the node says.
        found: u8,
    },
    /// A top node that only repeats the node below it.
    #[error("the inventory is deeper than its highest slot needs")]
    TooDeep,
    /// Sums that are not those of the entries below.
    #[error("the sums above node {} are not its own", node.root)]
    Sums {
        /// The node.
        node: ObjectRef,
    },
    /// Sums past what 64 bits hold.
    #[error("the sums of the inventory overflow")]
    Overflow,
    /// One pack in two slots.
    #[error("pack {} stands twice in the inventory", pack.root)]
    PackTwice {
        /// The pack.
        pack: ObjectRef,
    },
    /// A pack to remove that is not there.
    #[error("pack {} is not in the inventory", root)]
    UnknownPack {
        /// The pack's root.
        root: crate::id::RootHash,
    },
    /// A root that stands for objects of two lengths.
    #[error("pack {} is in the inventory with another length", pack.root)]
    OtherLength {
        /// The pack as it was to be set.
        pack: ObjectRef,
    },
    /// More packs than the caller allows.
    #[error("the inventory has more than the {max} packs allowed")]
    TooManyPacks {
        /// How many are allowed.
        max: u64,
    },
    /// More nodes differ than the caller reads for one change.
    #[error("more than {max} nodes of the inventory would have to be read")]
    TooMuchWork {
        /// How many are allowed.
        max: usize,
    },
}

impl Classify for InventoryError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::TooMuchWork { .. } => Some("move the head in several smaller steps"),
            _ => None,
        }
    }
}

/// One pack of an inventory and what of it lives.
///
/// Invariant: the length is a multiple of 4 KiB, at least one block and at most the longest pack; the map is of as many groups as the
/// pack has, within [`LiveMap::RUNS_MAX`], and not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pack: ObjectRef,
    live: LiveMap,
}

impl Entry {
    /// Joins a pack with its live map.
    ///
    /// # Errors
    ///
    /// A length or a map that no entry may have.
    pub fn new(pack: ObjectRef, live: LiveMap) -> Result<Self, InventoryError> {
        check_pack_length(pack.length)?;
        let (expected, found) = (groups(pack.length), u64::from(live.groups()));
        if expected != found {
            return Err(InventoryError::Groups { expected, found });
        }
        if live.is_empty() {
            return Err(InventoryError::NothingLives);
        }
        live.check()?;
        Ok(Self { pack, live })
    }

    /// Returns the pack.
    pub const fn pack(&self) -> &ObjectRef {
        &self.pack
    }

    /// Returns which of its groups live.
    pub const fn live(&self) -> &LiveMap {
        &self.live
    }

    /// Returns what the entry adds to the sums above it.
    pub fn sums(&self) -> Sums {
        Sums {
            live_blocks: self.live.live_blocks(self.pack.length),
            charged: charge(self.pack.length, &self.live),
        }
    }
}

/// Returns an error unless a pack may have `length` bytes.
const fn check_pack_length(length: u64) -> Result<(), InventoryError> {
    if length == 0 || length > PACK_BYTES_MAX || !length.is_multiple_of(BLOCK_BYTES) {
        return Err(InventoryError::PackLength { length });
    }
    Ok(())
}

/// What every node of the tree adds up: the size of what is audited, and of what is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Sums {
    /// Live 4 KiB blocks.
    pub live_blocks: u64,
    /// Bytes charged.
    pub charged: u64,
}

impl Sums {
    /// Returns both sums added, or nothing where 64 bits do not hold them.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            live_blocks: self.live_blocks.checked_add(other.live_blocks)?,
            charged: self.charged.checked_add(other.charged)?,
        })
    }

    /// Adds up.
    ///
    /// # Errors
    ///
    /// [`InventoryError::Overflow`].
    pub fn total(all: impl IntoIterator<Item = Self>) -> Result<Self, InventoryError> {
        all.into_iter()
            .try_fold(Self::default(), Self::checked_add)
            .ok_or(InventoryError::Overflow)
    }
}

/// An inventory as a head names it: its top node and its sums, in 56 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct InventoryRef {
    top: Option<Child>,
}

impl InventoryRef {
    /// How many bytes [`Self::encode_fixed`] takes.
    pub const FIXED_LENGTH: usize = ObjectRef::FIXED_LENGTH + 16;
    /// The inventory without a pack.
    pub const EMPTY: Self = Self { top: None };

    /// Names the inventory whose top node is `top`.
    pub const fn new(top: Child) -> Self {
        Self { top: Some(top) }
    }

    /// Returns the top node with its sums, or nothing if the inventory is empty.
    pub const fn child(&self) -> Option<&Child> {
        self.top.as_ref()
    }

    /// Returns the top node, or nothing if the inventory is empty.
    pub fn top(&self) -> Option<ObjectRef> {
        self.top.map(|top| top.node)
    }

    /// Returns the sums.
    pub fn sums(&self) -> Sums {
        self.top.map_or_else(Sums::default, |top| top.sums)
    }

    /// Appends the top node's root and length, the live blocks and the charged bytes; zeros if empty.
    pub fn encode_fixed(&self, out: &mut Vec<u8>) {
        let Some(top) = &self.top else {
            out.put(&[0; Self::FIXED_LENGTH]);
            return;
        };
        top.node.encode_fixed(out);
        out.put_u64(top.sums.live_blocks);
        out.put_u64(top.sums.charged);
    }

    /// Reads what [`Self::encode_fixed`] wrote.
    pub fn parse_fixed(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        const WHAT: &str = "inventory";
        let node = ObjectRef::parse_fixed(reader, Node::BYTES_MAX as u64, WHAT)?;
        let sums = Sums {
            live_blocks: reader.u64(WHAT)?,
            charged: reader.u64(WHAT)?,
        };
        let nothing = [0; 32];
        if node.root.as_bytes() == &nothing && node.length == 0 && sums == Sums::default() {
            return Ok(Self::EMPTY);
        }
        // Whatever is in an inventory lives in part and is charged for.
        if node.root.as_bytes() == &nothing
            || node.length == 0
            || sums.live_blocks == 0
            || sums.charged < CHARGE_BYTES_MIN
        {
            return Err(ParseError::Invalid { what: WHAT });
        }
        Ok(Self::new(Child { node, sums }))
    }
}

#[cfg(test)]
mod tests;
