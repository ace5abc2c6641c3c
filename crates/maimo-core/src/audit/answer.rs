//! Answering a challenge, and checking the answer.

use std::collections::BTreeMap;

use super::{
    AuditError, AuditedHead, Challenge, Stratum,
    walk::{Found, Target, walk},
};
use crate::{
    codec::{ObjectType, ParseError, Prelude, Put, Reader},
    head::{COMMIT_BYTES_MAX, Head},
    id::RootHash,
    identity::Signature,
    inventory::{InventoryRef, Node},
    reference::ObjectRef,
    units::{BLOCK_BYTES, LEAF_BYTES},
    verify::{Selection, Verified, inspect_slice, verify_whole},
};

/// What a provider answers from.
pub trait AuditSource {
    /// Returns the bytes of an inventory's node, or nothing if they are lost.
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>>;

    /// Returns the slice of some blocks of a pack, or nothing if it cannot be made. It need not be checked: which blocks are
    /// damaged is for the other side to find out (see [`crate::verify::encode_slice_as_is`]).
    fn slice(&mut self, pack: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>>;
}

/// [`COMMIT_BYTES_MAX`] as the reader wants it.
const COMMIT_BYTES: usize = 64 * 1024;
const _: () = assert!(COMMIT_BYTES as u64 == COMMIT_BYTES_MAX);

/// What stands before a slice: whether there is one.
const MISSING: u8 = 0;
const PRESENT: u8 = 1;

/// Returns the answer to `challenge`, under the head with these bytes and this signature. What is lost is said to be missing.
///
/// # Errors
///
/// A challenge under another head, or of positions that the head does not have.
pub fn answer(
    challenge: &Challenge,
    head: &AuditedHead,
    head_bytes: &[u8],
    signature: &[u8; Signature::LENGTH],
    commit: Option<&[u8]>,
    source: &mut impl AuditSource,
) -> Result<Vec<u8>, AuditError> {
    if *challenge.root() != RootHash::of(head_bytes) {
        return Err(AuditError::WrongHead);
    }
    let mut out = Vec::new();
    Prelude { epoch: 0 }.encode(ObjectType::AuditAnswer, &mut out);
    out.put_bytes(head_bytes);
    out.put(signature);
    out.put_bytes(commit.unwrap_or_default());
    for stratum in Stratum::ALL {
        let (inventory, positions) = (head.inventory(stratum), challenge.positions(stratum));
        check_range(inventory, positions)?;
        let mut targets = Vec::new();
        walk::<AuditError>(
            inventory,
            positions,
            &mut |child, level| {
                let bytes = source.node(&child.node).unwrap_or_default();
                // A node of our own that is no longer what it was is as good as lost.
                let node = Node::open(&bytes, child, level).ok();
                out.put_bytes(if node.is_some() { &bytes } else { &[] });
                Ok(node)
            },
            &mut |found| {
                if let Found::Target(target) = found {
                    targets.push(target);
                }
            },
        )?;
        for target in &targets {
            let selection = selection(target)?;
            let whole = |slice: &Vec<u8>| slice.len() as u64 == selection.slice_bytes();
            match source.slice(&target.pack, &selection).filter(whole) {
                Some(slice) => {
                    out.put_u8(PRESENT);
                    out.put(&slice);
                }
                None => out.put_u8(MISSING),
            }
        }
    }
    Ok(out)
}

/// Why a position was not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The provider says itself that it does not have it.
    Missing,
    /// What it sent is not what the root names.
    Damaged,
}

/// A position that was not proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The rank among the stratum's live blocks.
    pub position: u64,
    /// Which pack and which block of it that is; nothing where a node on the way to it could not be read.
    pub place: Option<(ObjectRef, u64)>,
    /// Why.
    pub failure: Failure,
}

/// The outcome in one stratum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StratumReport {
    /// How many positions were asked for.
    pub asked: u64,
    /// Of how many live blocks.
    pub live_blocks: u64,
    /// Those not proven, ascending.
    pub failed: Vec<Failed>,
}

/// The outcome of an audit that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditReport {
    /// In the data inventory.
    pub data: StratumReport,
    /// In the vital one.
    pub vital: StratumReport,
    /// The commit, whole.
    pub commit: Result<Verified<Vec<u8>>, Failure>,
}

impl AuditReport {
    /// Returns whether everything asked for was proven, the commit included: what the newest root owes.
    pub fn is_intact(&self) -> bool {
        self.commit.is_ok() && self.is_intact_of_old_root()
    }

    /// Returns whether everything asked for was proven of a root that has been replaced: a sticky challenge may outlive its commit, which a
    /// provider may thin out (`docs/protocol.md`, "Keeping and freeing"). A commit that is there and wrong is damage all the same.
    pub fn is_intact_of_old_root(&self) -> bool {
        let commit = !matches!(self.commit, Err(Failure::Damaged));
        commit && self.data.failed.is_empty() && self.vital.failed.is_empty()
    }

    /// Returns the outcome in a stratum.
    pub const fn stratum(&self, stratum: Stratum) -> &StratumReport {
        match stratum {
            Stratum::Data => &self.data,
            Stratum::Vital => &self.vital,
        }
    }
}

/// Checks the answer to `challenge`. `read_head` gets the head's bytes, which are those that the root names, and its signature; it returns
/// what of the head an audit needs, or nothing if the head does not parse or is not signed by the key it must be signed by.
///
/// What is not proven ends up in the report, position by position.
///
/// # Errors
///
/// An answer that is none: then the challenge is still open, and asked again verbatim.
pub fn check(
    challenge: &Challenge,
    answer: &[u8],
    read_head: impl FnOnce(&[u8], &[u8; Signature::LENGTH]) -> Option<AuditedHead>,
) -> Result<AuditReport, AuditError> {
    let mut reader = Reader::new(answer);
    Prelude::parse_without_epoch(&mut reader, ObjectType::AuditAnswer)?;
    let head_bytes = reader.bytes(Head::LENGTH_MAX, "head")?;
    let signature = reader.array("signature")?;
    let commit = reader.bytes(COMMIT_BYTES, "commit")?;
    if *challenge.root() != RootHash::of(head_bytes) {
        return Err(AuditError::WrongHead);
    }
    let head = read_head(head_bytes, &signature).ok_or(AuditError::BadHead)?;
    let report = AuditReport {
        data: check_stratum(&mut reader, challenge, &head, Stratum::Data)?,
        vital: check_stratum(&mut reader, challenge, &head, Stratum::Vital)?,
        commit: if commit.is_empty() {
            Err(Failure::Missing)
        } else {
            verify_whole(commit.to_vec(), &head.commit).map_err(|_| Failure::Damaged)
        },
    };
    reader.finish()?;
    Ok(report)
}

fn check_stratum(
    reader: &mut Reader<'_>,
    challenge: &Challenge,
    head: &AuditedHead,
    stratum: Stratum,
) -> Result<StratumReport, AuditError> {
    let (inventory, positions) = (head.inventory(stratum), challenge.positions(stratum));
    check_range(inventory, positions)?;
    let mut failed: BTreeMap<u64, Failed> = BTreeMap::new();
    let mut targets = Vec::new();
    // Of the nodes that could not be read, in the walk's order, why.
    let why = core::cell::Cell::new(Failure::Missing);
    walk::<AuditError>(
        inventory,
        positions,
        &mut |child, level| {
            let bytes = reader.bytes(Node::BYTES_MAX, "inventory node")?;
            if bytes.is_empty() {
                why.set(Failure::Missing);
                return Ok(None);
            }
            if !child.node.names(bytes) {
                why.set(Failure::Damaged);
                return Ok(None);
            }
            Ok(Some(Node::open(bytes, child, level)?))
        },
        &mut |found| match found {
            Found::Target(target) => targets.push(target),
            Found::Lost(positions) => failed.extend(positions.iter().map(|&position| {
                let (place, failure) = (None, why.get());
                (
                    position,
                    Failed {
                        position,
                        place,
                        failure,
                    },
                )
            })),
        },
    )?;
    for target in &targets {
        for (position, block, failure) in check_target(reader, target)? {
            let place = Some((target.pack, block));
            failed.insert(
                position,
                Failed {
                    position,
                    place,
                    failure,
                },
            );
        }
    }
    Ok(StratumReport {
        asked: positions.len() as u64,
        live_blocks: inventory.sums().live_blocks,
        failed: failed.into_values().collect(),
    })
}

/// Returns the positions and blocks of a pack that its slice does not prove.
fn check_target(
    reader: &mut Reader<'_>,
    target: &Target,
) -> Result<Vec<(u64, u64, Failure)>, AuditError> {
    const WHAT: &str = "slice";
    let selection = selection(target)?;
    let all = |failure| {
        let blocks = target.blocks.iter();
        blocks.map(|at| (at.position, at.block, failure)).collect()
    };
    match reader.u8(WHAT)? {
        MISSING => return Ok(all(Failure::Missing)),
        PRESENT => {}
        _ => return Err(ParseError::Invalid { what: WHAT }.into()),
    }
    let bytes = usize::try_from(selection.slice_bytes()).unwrap_or(usize::MAX);
    let slice = reader.take(bytes, WHAT)?;
    let Ok(failed) = inspect_slice(slice, &target.pack, &selection) else {
        return Ok(all(Failure::Damaged));
    };
    let leaves_per_block = BLOCK_BYTES / LEAF_BYTES;
    let lost = |block: u64| {
        let leaves = block * leaves_per_block..(block + 1) * leaves_per_block;
        failed
            .iter()
            .any(|run| run.start < leaves.end && leaves.start < run.end)
    };
    let blocks = target.blocks.iter().filter(|at| lost(at.block));
    Ok(blocks
        .map(|at| (at.position, at.block, Failure::Damaged))
        .collect())
}

fn selection(target: &Target) -> Result<Selection, AuditError> {
    let blocks = target.blocks.iter().map(|at| at.block);
    Selection::blocks(target.pack.length, blocks)
        .map_err(|_| ParseError::Invalid { what: "slice" }.into())
}

fn check_range(inventory: &InventoryRef, positions: &[u64]) -> Result<(), AuditError> {
    let live_blocks = inventory.sums().live_blocks;
    match positions.last() {
        Some(&position) if position >= live_blocks => Err(AuditError::OutOfRange {
            position,
            live_blocks,
        }),
        _ => Ok(()),
    }
}
