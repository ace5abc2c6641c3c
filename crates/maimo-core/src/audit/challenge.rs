//! [`Challenge`]: what an audit asks for.

use std::collections::BTreeSet;

use rand_core::CryptoRng;

use super::{AuditedHead, SLICES_MAX, draw::draw, walk::locate};
use crate::{
    codec::{ObjectType, ParseError, Prelude, Put, Reader},
    id::RootHash,
    inventory::InventoryError,
    reference::ObjectRef,
    units::BLOCKS_PER_GROUP,
};

/// One of the two inventories that are sampled apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stratum {
    /// Packs of file chunks.
    Data,
    /// Packs of journal and dictionaries.
    Vital,
}

impl Stratum {
    /// Both, in the order in which they stand in challenges and answers.
    pub const ALL: [Self; 2] = [Self::Data, Self::Vital];
}

/// The positions an audit asks for, under one root.
///
/// It is sticky: persisted before it is sent, and asked again verbatim before anything new is drawn. Drawing anew after silence would let
/// a provider choose which questions to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    root: RootHash,
    data: Vec<u64>,
    vital: Vec<u64>,
}

impl Challenge {
    /// Draws up to `count` positions in each stratum of the head whose hash is `root`; at most [`SLICES_MAX`].
    pub fn draw(
        rng: &mut impl CryptoRng,
        root: RootHash,
        head: &AuditedHead,
        count: usize,
    ) -> Self {
        let mut drawn = |stratum| {
            let live_blocks = head.inventory(stratum).sums().live_blocks;
            draw(rng, live_blocks, count.min(SLICES_MAX))
        };
        Self {
            root,
            data: drawn(Stratum::Data),
            vital: drawn(Stratum::Vital),
        }
    }

    /// Asks for given positions, ascending in each stratum.
    ///
    /// # Errors
    ///
    /// Too many, or out of order.
    pub fn new(root: RootHash, data: Vec<u64>, vital: Vec<u64>) -> Result<Self, ParseError> {
        for positions in [&data, &vital] {
            if positions.len() > SLICES_MAX {
                return Err(ParseError::TooLarge {
                    what: POSITIONS,
                    found: positions.len() as u64,
                    max: SLICES_MAX as u64,
                });
            }
            if positions.windows(2).any(|pair| pair[0] >= pair[1]) {
                return Err(ParseError::NotCanonical { what: POSITIONS });
            }
        }
        Ok(Self { root, data, vital })
    }

    /// Returns the root under which is asked.
    pub const fn root(&self) -> &RootHash {
        &self.root
    }

    /// Returns the positions of a stratum, ascending.
    pub fn positions(&self, stratum: Stratum) -> &[u64] {
        match stratum {
            Stratum::Data => &self.data,
            Stratum::Vital => &self.vital,
        }
    }

    /// Returns whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty() && self.vital.is_empty()
    }

    /// Takes out the positions that a later head, which descends from the audited one, calls dead: nobody owes them any more.
    /// `load` returns the nodes of the audited head's inventories, `lives` says whether a group of a pack still lives in the stratum.
    /// Returns how many positions were taken out.
    ///
    /// # Errors
    ///
    /// Nodes that are missing or not those of `head`, positions it does not have.
    ///
    /// # Security
    ///
    /// The caller proves the descent first; else a provider could present any head to be rid of a question.
    pub fn strike(
        &mut self,
        head: &AuditedHead,
        mut load: impl FnMut(&ObjectRef) -> Option<Vec<u8>>,
        mut lives: impl FnMut(Stratum, &ObjectRef, u32) -> bool,
    ) -> Result<usize, InventoryError> {
        let before = self.data.len() + self.vital.len();
        let mut left = [Vec::new(), Vec::new()];
        for (stratum, left) in Stratum::ALL.into_iter().zip(&mut left) {
            let positions = self.positions(stratum);
            let targets = locate(head.inventory(stratum), positions, &mut load)?;
            let mut dead = BTreeSet::new();
            for target in &targets {
                for located in &target.blocks {
                    let group = u32::try_from(located.block / BLOCKS_PER_GROUP);
                    if !group.is_ok_and(|group| lives(stratum, &target.pack, group)) {
                        dead.insert(located.position);
                    }
                }
            }
            left.extend(positions.iter().filter(|position| !dead.contains(position)));
        }
        [self.data, self.vital] = left;
        Ok(before - self.data.len() - self.vital.len())
    }

    /// Returns the challenge's bytes: prelude, root, and for each stratum the count, the first position and the distances less one.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::AuditChallenge, &mut out);
        out.put(self.root.as_bytes());
        for stratum in Stratum::ALL {
            let positions = self.positions(stratum);
            out.put_varint(positions.len() as u64);
            let mut least = 0;
            for position in positions {
                out.put_varint(position - least);
                least = position.saturating_add(1);
            }
        }
        out
    }

    /// Reads a challenge.
    ///
    /// # Errors
    ///
    /// What [`Self::new`] refuses, or bytes in another form.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::AuditChallenge)?;
        let root = RootHash(reader.array("root")?);
        let (data, vital) = (parse_positions(&mut reader)?, parse_positions(&mut reader)?);
        reader.finish()?;
        Self::new(root, data, vital)
    }
}

const POSITIONS: &str = "positions of an audit";

fn parse_positions(reader: &mut Reader<'_>) -> Result<Vec<u64>, ParseError> {
    let count = reader.count(SLICES_MAX as u64, 1, POSITIONS)?;
    let mut positions: Vec<u64> = Vec::with_capacity(count);
    for _ in 0..count {
        let distance = reader.varint(POSITIONS)?;
        let position = match positions.last() {
            None => Some(distance),
            Some(last) => last
                .checked_add(1)
                .and_then(|least| least.checked_add(distance)),
        };
        positions.push(position.ok_or(ParseError::Invalid { what: POSITIONS })?);
    }
    Ok(positions)
}
