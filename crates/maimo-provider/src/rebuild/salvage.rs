//! Salvage: a channel of whose log a part is lost.
//!
//! What is left no longer follows from itself, so the rules cannot be run again. Instead the newest head that is left says what lives, the files say what
//! is there, and whatever nobody names waits for a whole grace from now. Nothing is freed early by it; dates and charges of what waits may be
//! later and higher than they were.

use std::collections::{HashMap, HashSet};

use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::Reader,
    custody::{Grace, HeadRow, Hold, NodeRow, Standing, Terms},
    head::{Head, SignedHead},
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    identity::Signature,
    inventory::{InventoryRef, Node, Slots},
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
};

use crate::{
    keys::Keys,
    ledger::{ChannelRow, LedgerError, PackRow, Rows, StoredHead, changes, entry::Change},
    volume::VolumeId,
};

type Result<T> = core::result::Result<T, LedgerError>;

/// Takes from an entry that does not follow from those before it what can be taken.
pub(super) fn entry(
    rows: &dyn Rows,
    keys: &Keys,
    terms: Terms,
    channel: ChannelId,
    change: Change,
    at: Timestamp,
    log: VolumeId,
) -> Result<()> {
    let found = rows.channel(&channel)?;
    match change {
        Change::HeadMoved { ancestry, request } => {
            let Ok(request) = HeadMove::parse(&request) else {
                return Ok(());
            };
            let row = match found {
                Some(row) => row,
                None => match unknown(rows, keys, terms, channel, &request, at, log)? {
                    Some(row) => row,
                    None => return Ok(()),
                },
            };
            head(rows, row, &ancestry, request, at)
        }
        Change::NodePut { bytes } => match found {
            Some(row) => waiting_node(rows, &row, &bytes, at),
            None => Ok(()),
        },
        // Packs are found by their files, and uploads begin anew.
        _ => Ok(()),
    }
}

/// Registers the client of a head whose registration is lost: the channel's name proves which key it is of.
fn unknown(
    rows: &dyn Rows,
    keys: &Keys,
    terms: Terms,
    channel: ChannelId,
    request: &HeadMove,
    at: Timestamp,
    log: VolumeId,
) -> Result<Option<ChannelRow>> {
    let split = request.head.split_last_chunk::<{ Signature::LENGTH }>();
    let Some(head) = split.and_then(|(head, _)| Head::parse(head).ok()) else {
        return Ok(None);
    };
    if keys.network_of(&channel, &head.signer).is_none() {
        return Ok(None);
    }
    changes::register(rows, channel, head.signer, "", terms, log, at)?;
    rows.channel(&channel)
}

/// Makes a head the newest, whatever was before it.
fn head(
    rows: &dyn Rows,
    mut row: ChannelRow,
    ancestry: &[u8],
    request: HeadMove,
    at: Timestamp,
) -> Result<()> {
    let number = row.number;
    let signed = SignedHead::verify(&request.head, row.state.channel, &row.state.signers);
    let Ok(signed) = signed else {
        return Ok(());
    };
    let head = signed.head();
    let known = Ancestry::parse(&mut Reader::new(ancestry));
    let known = known.ok().filter(|known| known.hash() == head.ancestry);
    let Some(ancestry_before) = known.filter(|_| head.sequence > row.state.sequence()) else {
        return Ok(());
    };
    let free_after = row.terms.grace(at).ends(at);
    if let Some(standing) = &row.state.standing {
        let hold = Hold::FreeAfter(free_after);
        rows.put_head(
            number,
            &HeadRow {
                hold,
                ..standing.row.clone()
            },
        )?;
    }
    for node in &request.nodes {
        waiting_node(rows, &row, node, at)?;
    }
    put_peaks(rows, &row, ancestry)?;
    if head.sequence > 1 {
        rows.add_root(number, head.sequence - 1, head.previous, &[])?;
    }
    let head_row = HeadRow {
        sequence: head.sequence,
        root: signed.root(),
        length: request.head.len() as u64,
        commit: head.commit.names(&request.commit).then_some(head.commit),
        admitted: at,
        hold: Hold::Live,
    };
    row.state.standing = Some(Standing {
        row: head_row.clone(),
        data: head.data,
        vital: head.vital,
    });
    row.state.ancestry = ancestry_before;
    rows.add_head(
        number,
        &StoredHead {
            row: head_row,
            signed: request.head.clone(),
            commit: Some(request.commit),
        },
    )?;
    rows.put_channel(&row)
}

/// Keeps the peaks of an encoded ancestry as nodes, so that what comes after can be proven.
fn put_peaks(rows: &dyn Rows, row: &ChannelRow, ancestry: &[u8]) -> Result<()> {
    let mut reader = Reader::new(ancestry);
    let Ok(count) = reader.u64("count") else {
        return Ok(());
    };
    let mut first = 0;
    for height in (0..u64::BITS)
        .rev()
        .filter(|height| count >> height & 1 == 1)
    {
        let Ok(hash) = reader.array("peak") else {
            return Ok(());
        };
        rows.put_ancestry_node(row.number, height, first >> height, &hash)?;
        first += 1 << height;
    }
    Ok(())
}

fn waiting_node(rows: &dyn Rows, row: &ChannelRow, bytes: &[u8], at: Timestamp) -> Result<()> {
    let reference = ObjectRef::of(bytes);
    if Node::parse(bytes).is_err() || rows.node(row.number, &reference)?.is_some() {
        return Ok(());
    }
    let hold = Hold::FreeAfter(free_after(row, at));
    rows.add_node(row.number, &NodeRow { reference, hold }, bytes)
}

/// Gives every row of a channel the hold that the newest head says, once all that is left of it is there.
pub(super) fn settle(rows: &dyn Rows, channel: &ChannelId, now: Timestamp) -> Result<()> {
    let Some(mut row) = rows.channel(channel)? else {
        return Ok(());
    };
    let number = row.number;
    let date = free_after(&row, now);
    let mut living = Living::default();
    if let Some(standing) = &row.state.standing {
        for inventory in [standing.data, standing.vital] {
            living.walk(rows, &row, &inventory)?;
        }
    }
    for pack in rows.packs(number)? {
        let count = u32::try_from(groups(pack.held.reference().length)).unwrap_or(u32::MAX);
        let live = living.packs.remove(&pack.held.reference().root);
        let live = live.unwrap_or_else(|| LiveMap::empty(count));
        let held = pack.held.with_live(&live, date);
        rows.put_pack(number, &PackRow { held, ..pack })?;
    }
    for node in rows.nodes(number)? {
        let is_live = living.nodes.contains(&node.reference);
        let hold = match node.hold {
            _ if is_live => Hold::Live,
            Hold::Live => Hold::FreeAfter(date),
            waiting @ Hold::FreeAfter(_) => waiting,
        };
        rows.put_node(number, &NodeRow { hold, ..node })?;
    }
    row.state.totals = changes::recomputed(rows, number)?;
    rows.put_channel(&row)
}

/// What the newest head names, as far as its nodes are there.
#[derive(Default)]
struct Living {
    packs: HashMap<RootHash, LiveMap>,
    nodes: HashSet<ObjectRef>,
}

impl Living {
    fn walk(&mut self, rows: &dyn Rows, row: &ChannelRow, of: &InventoryRef) -> Result<()> {
        let mut left: Vec<_> = of.child().map(|child| (*child, None)).into_iter().collect();
        while let Some((child, level)) = left.pop() {
            let Some((bytes, _)) = rows.node(row.number, &child.node)? else {
                continue;
            };
            let Ok(node) = Node::open(&bytes, &child, level) else {
                continue;
            };
            self.nodes.insert(child.node);
            match node.slots() {
                Slots::Leaf(entries) => self.packs.extend(
                    entries
                        .iter()
                        .map(|(_, entry)| (entry.pack().root, entry.live().clone())),
                ),
                Slots::Inner(children) => {
                    let below = node.level().saturating_sub(1);
                    left.extend(children.iter().map(|(_, child)| (*child, Some(below))));
                }
            }
        }
        Ok(())
    }
}

/// Returns until when that which nobody names is held.
pub(super) fn free_after(row: &ChannelRow, now: Timestamp) -> Timestamp {
    row.terms.grace(now).max(Grace::UPLOAD_LEAST).ends(now)
}
