//! Admission: whether a channel's head may move, and what changes if it does.
//!
//! `docs/protocol.md` lists the checks in this order. They go from cheap to dear and from "who are you" to "does it fit": nobody but
//! the channel's signer makes a provider read a node, and what is read is what changed.

use core::{cell::Cell, ops::Range};
use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::{
    ancestry::Ancestry,
    clock::Timestamp,
    error::{Classify, ErrorKind, Retry},
    head::{Head, HeadError, SignedHead},
    head_move::HeadMove,
    id::RootHash,
    inventory::{InventoryChange, InventoryError, InventoryRef, diff},
    live_map::LiveMap,
    reference::ObjectRef,
};

use super::{
    ChannelState, Freeing, HeadRow, HeldPack, Hold, NodeRow, PackClass, Standing, Terms, Totals,
    Unavailable, View, held_charge, log_charge,
    upload::{CapError, check_cap},
};

/// How many nodes of old and new inventories one move may make a provider read.
pub const WORK_MAX: usize = 64 * 1024;

/// What a provider answers to a move that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The head moves: these changes, then a receipt.
    Admitted(Box<Admission>),
    /// The head is where the request wants it, from an earlier time: its reply was lost. The same receipt again.
    AlreadyHere(HeadRow),
}

/// All that changes when a head is admitted: one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// The channel's state after it; `standing` is the new head, from which the receipt is made.
    pub state: ChannelState,
    /// The replaced head's row: from now on it waits. Its root is to be kept for ever.
    pub replaced: Option<HeadRow>,
    /// Packs whose groups changed from waiting to living or back; each row replaces the old one.
    pub packs: Vec<HeldPack>,
    /// Nodes that live now or wait from now on; each row replaces the old one.
    pub nodes: Vec<NodeRow>,
    /// The bytes of those nodes that were not held before.
    pub new_nodes: Vec<(ObjectRef, Vec<u8>)>,
}

/// Why a head does not move.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The head is not this channel's, or not signed as it must be.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// The head has moved since: the compare-and-swap is lost.
    #[error(
        "the channel's head is {current}, of sequence number {sequence}, not the one to be replaced"
    )]
    Conflict {
        /// The newest root; [`RootHash::NONE`] before the first head.
        current: RootHash,
        /// Its sequence number; 0 before the first head.
        sequence: u64,
    },
    /// The sequence number is not one more than the last.
    #[error("the head's sequence number must be {expected}")]
    Sequence {
        /// What it must be.
        expected: u64,
    },
    /// The ancestry is not that of the roots before.
    #[error("the head's ancestry is not that of the roots before it")]
    Ancestry,
    /// The commit's bytes are not the commit that the head names.
    #[error("the commit is not the one the head names")]
    Commit,
    /// An inventory that is none, or needs a node that is neither sent nor held.
    #[error("the {class:?} inventory is refused")]
    Inventory {
        /// Which of the two.
        class: PackClass,
        /// Why.
        #[source]
        source: InventoryError,
    },
    /// A pack would stand twice, in one inventory or in both.
    #[error("pack {} would stand twice", pack.root)]
    PackTwice {
        /// The pack.
        pack: ObjectRef,
    },
    /// A pack of one class stands in the inventory of the other.
    #[error("pack {} stands in the inventory of the other class", pack.root)]
    WrongClass {
        /// The pack.
        pack: ObjectRef,
    },
    /// Something named is not held.
    #[error(transparent)]
    NotHeld(#[from] NotHeld),
    /// It does not fit the cap.
    #[error(transparent)]
    CapExceeded(#[from] CapExceeded),
    /// The provider cannot say.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Classify for Refusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Conflict { .. }
            | Self::NotHeld(_)
            | Self::CapExceeded(_)
            | Self::Unavailable(_) => ErrorKind::ProviderRefused,
            _ => ErrorKind::BadInput,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Head(error) => error.hint(),
            Self::Inventory { source, .. } => source.hint(),
            _ => None,
        }
    }
}

/// Which packs and groups a move names that are not held.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{} packs that the head names are not held, or not all of their groups", missing.len())]
pub struct NotHeld {
    /// The packs, each with the runs of groups that are named and not held.
    pub missing: Vec<(ObjectRef, Vec<Range<u32>>)>,
    /// Whether there are more than are listed.
    pub more: bool,
}

impl NotHeld {
    /// How many packs are listed.
    pub const PACKS_MAX: usize = 256;
    /// How many runs are listed, of all packs together.
    pub const RUNS_MAX: usize = 4096;

    const fn none() -> Self {
        Self {
            missing: Vec::new(),
            more: false,
        }
    }

    fn add(&mut self, pack: ObjectRef, groups: &LiveMap) {
        let listed: usize = self.missing.iter().map(|(_, runs)| runs.len()).sum();
        let room = Self::RUNS_MAX - listed;
        if room == 0 || self.missing.len() == Self::PACKS_MAX {
            self.more = true;
            return;
        }
        self.more |= groups.runs().len() > room;
        self.missing
            .push((pack, groups.runs().take(room).collect()));
    }
}

/// How far beyond the cap something would go, and what comes free when.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the cap would be exceeded by {over_by} bytes")]
pub struct CapExceeded {
    /// How many bytes too many.
    pub over_by: u64,
    /// By how much what is charged falls at which dates.
    pub frees: Vec<Freeing>,
}

/// Decides on a request to move the head of a channel, at `now` by the provider's clock.
///
/// Changes nothing: the caller applies what an [`Admission`] says in the transaction that `view` reads, makes it durable, and only then
/// signs a receipt.
pub fn admit(
    state: &ChannelState,
    terms: &Terms,
    request: &HeadMove,
    view: &impl View,
    now: Timestamp,
) -> Result<Verdict, Refusal> {
    let signed = SignedHead::verify(&request.head, state.channel, &state.signers)?;
    if let Some(standing) = &state.standing
        && standing.row.root == signed.root()
    {
        return Ok(Verdict::AlreadyHere(standing.row.clone()));
    }
    let ancestry = check_descent(state, signed.head())?;
    if !signed.head().commit.names(&request.commit) {
        return Err(Refusal::Commit);
    }
    let sent: Sent<'_> = request
        .nodes
        .iter()
        .map(|bytes| (ObjectRef::of(bytes), &bytes[..]))
        .collect();
    let changes = read_changes(state, signed.head(), &sent, view)?;
    let free_after = terms.grace(now).ends(now);
    let packs = change_packs(&changes, free_after, view)?;
    let nodes = change_nodes(&changes, &sent, free_after, view)?;

    let row = HeadRow {
        sequence: signed.head().sequence,
        root: signed.root(),
        length: request.head.len() as u64,
        commit: Some(signed.head().commit),
        admitted: now,
        hold: Hold::Live,
    };
    let standing = state.standing.as_ref();
    let replaced_charge = standing.map_or(0, |standing| standing.row.charge());
    let before = state.totals;
    let totals = Totals {
        live: (before.live + packs.named + nodes.named + row.charge())
            .saturating_sub(packs.let_go + nodes.let_go + replaced_charge),
        held: before.held + nodes.taken + row.charge(),
        ..before
    };
    check_cap(before, totals, terms, 0, view)?;

    Ok(Verdict::Admitted(Box::new(Admission {
        replaced: standing.map(|standing| HeadRow {
            hold: Hold::FreeAfter(free_after),
            ..standing.row.clone()
        }),
        state: ChannelState {
            channel: state.channel,
            signers: state.signers.clone(),
            standing: Some(Standing {
                row,
                data: signed.head().data,
                vital: signed.head().vital,
            }),
            ancestry,
            totals,
        },
        packs: packs.rows,
        nodes: nodes.rows,
        new_nodes: nodes.new,
    })))
}

/// Checks that the head follows the newest one, and returns the ancestry it carries.
fn check_descent(state: &ChannelState, head: &Head) -> Result<Ancestry, Refusal> {
    let (current, sequence) = (state.root(), state.sequence());
    if head.previous != current {
        return Err(Refusal::Conflict { current, sequence });
    }
    let expected = sequence.saturating_add(1);
    if head.sequence != expected {
        return Err(Refusal::Sequence { expected });
    }
    let mut ancestry = state.ancestry.clone();
    if state.standing.is_some() {
        ancestry.append(current);
    }
    if head.ancestry != ancestry.hash() {
        return Err(Refusal::Ancestry);
    }
    Ok(ancestry)
}

/// The nodes that came with the request, by their names.
type Sent<'a> = HashMap<ObjectRef, &'a [u8]>;

/// Reads what changes in each inventory.
fn read_changes(
    state: &ChannelState,
    head: &Head,
    sent: &Sent<'_>,
    view: &impl View,
) -> Result<Vec<(PackClass, InventoryChange)>, Refusal> {
    let unavailable = Cell::new(false);
    let load_held = |node: &ObjectRef| {
        let found = view.node(node).unwrap_or_else(|Unavailable| {
            unavailable.set(true);
            None
        });
        found.map(|(bytes, _)| bytes)
    };
    let load_old = |node: &ObjectRef| {
        let bytes = load_held(node);
        // The newest head's nodes are held, or the ledger is damaged: not what a client may be told that it left out.
        unavailable.set(unavailable.get() || bytes.is_none());
        bytes
    };
    let load_new = |node: &ObjectRef| {
        sent.get(node)
            .map_or_else(|| load_held(node), |bytes| Some(bytes.to_vec()))
    };

    let old = state
        .standing
        .as_ref()
        .map_or((InventoryRef::EMPTY, InventoryRef::EMPTY), |standing| {
            (standing.data, standing.vital)
        });
    let mut changes = Vec::with_capacity(2);
    for (class, old, new) in [
        (PackClass::Data, old.0, head.data),
        (PackClass::Vital, old.1, head.vital),
    ] {
        let change = diff(&old, &new, load_old, load_new, WORK_MAX);
        if unavailable.get() {
            return Err(Unavailable.into());
        }
        let change = change.map_err(|source| match source {
            InventoryError::PackTwice { pack } => Refusal::PackTwice { pack },
            source => Refusal::Inventory { class, source },
        })?;
        changes.push((class, change));
    }
    Ok(changes)
}

/// What changes of the packs: the rows, and the charges named and let go.
struct PackChanges {
    rows: Vec<HeldPack>,
    named: u64,
    let_go: u64,
}

/// One pack before and after a move, of both inventories.
#[derive(Default)]
struct PackChange<'a> {
    before: Option<&'a LiveMap>,
    after: Option<(PackClass, &'a LiveMap)>,
}

fn change_packs(
    changes: &[(PackClass, InventoryChange)],
    free_after: Timestamp,
    view: &impl View,
) -> Result<PackChanges, Refusal> {
    // Ordered, so that the same request is refused with the same list.
    let mut touched: BTreeMap<ObjectRef, PackChange<'_>> = BTreeMap::new();
    for (class, change) in changes {
        let before = change
            .removed
            .iter()
            .chain(change.changed.iter().map(|(old, _)| old));
        for entry in before {
            touched.entry(*entry.pack()).or_default().before = Some(entry.live());
        }
        let after = change
            .added
            .iter()
            .chain(change.changed.iter().map(|(_, new)| new));
        for entry in after {
            let pack = *entry.pack();
            let place = &mut touched.entry(pack).or_default().after;
            if place.replace((*class, entry.live())).is_some() {
                return Err(Refusal::PackTwice { pack });
            }
        }
    }

    let mut result = PackChanges {
        rows: Vec::with_capacity(touched.len()),
        named: 0,
        let_go: 0,
    };
    let mut not_held = NotHeld::none();
    for (pack, change) in touched {
        let held = view.pack(&pack)?;
        let Some((class, live)) = change.after else {
            let before = change.before.ok_or(Unavailable)?;
            let held = held.ok_or(Unavailable)?;
            result.let_go += held_charge(&pack, before);
            result
                .rows
                .push(held.with_live(&LiveMap::empty(before.groups()), free_after));
            continue;
        };
        let Some(held) = held else {
            not_held.add(pack, live);
            continue;
        };
        // The inventories' unchanged parts were not read: what lives already and did not leave its place stands there still.
        if change.before.is_none() && held.is_named() {
            return Err(Refusal::PackTwice { pack });
        }
        if held.class() != class {
            return Err(Refusal::WrongClass { pack });
        }
        let missing = live.minus(&held.held());
        if !missing.is_empty() {
            not_held.add(pack, &missing);
            continue;
        }
        result.named += held_charge(&pack, live);
        result.let_go += change.before.map_or(0, |before| held_charge(&pack, before));
        result.rows.push(held.with_live(live, free_after));
    }
    if not_held.missing.is_empty() {
        Ok(result)
    } else {
        Err(not_held.into())
    }
}

/// What changes of the nodes: the rows, the bytes that are new, and the charges named, let go and newly taken.
#[derive(Default)]
struct NodeChanges {
    rows: Vec<NodeRow>,
    new: Vec<(ObjectRef, Vec<u8>)>,
    named: u64,
    let_go: u64,
    taken: u64,
}

fn change_nodes(
    changes: &[(PackClass, InventoryChange)],
    sent: &Sent<'_>,
    free_after: Timestamp,
    view: &impl View,
) -> Result<NodeChanges, Refusal> {
    let mut result = NodeChanges::default();
    // No node is in two lists: whatever is in one has packs below it, and a pack that stands twice, or changes from one inventory
    // to the other, is refused by now.
    for reference in changes.iter().flat_map(|(_, change)| &change.nodes_added) {
        let charge = log_charge(reference.length);
        result.named += charge;
        if view.node(reference)?.is_none() {
            // It was read a moment ago, and neither held nor sent it could not be.
            let bytes = sent.get(reference).ok_or(Unavailable)?;
            result.taken += charge;
            result.new.push((*reference, bytes.to_vec()));
        }
        result.rows.push(NodeRow {
            reference: *reference,
            hold: Hold::Live,
        });
    }
    let removed = changes.iter().flat_map(|(_, change)| &change.nodes_removed);
    for reference in removed {
        result.let_go += log_charge(reference.length);
        result.rows.push(NodeRow {
            reference: *reference,
            hold: Hold::FreeAfter(free_after),
        });
    }
    Ok(result)
}

impl From<CapError> for Refusal {
    fn from(error: CapError) -> Self {
        match error {
            CapError::Exceeded(exceeded) => Self::CapExceeded(exceeded),
            CapError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}
