//! Freeing: what waited for its date, and commits thinned out. A sweeper calls these whenever it likes; nothing depends on when.

use crate::{clock::Timestamp, live_map::LiveMap};

use super::{HeadRow, HeldPack, NodeRow, Totals, commits, held_charge, log_charge};

/// A pack of which something was freed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// What is left; nothing if the pack's file may go.
    pub pack: Option<HeldPack>,
    /// Which groups to punch out of the file.
    pub freed: LiveMap,
    /// The channel's totals after it.
    pub totals: Totals,
}

/// Frees what may be freed of a pack at `now`; returns nothing if that is nothing.
///
/// The rows change first and the file after: a crash between leaves bytes that no row names, never a row without its bytes.
pub fn sweep_pack(totals: Totals, pack: &HeldPack, now: Timestamp) -> Option<Swept> {
    let (rest, freed) = pack.swept(now);
    if freed.is_empty() {
        return None;
    }
    let before = held_charge(pack.reference(), &pack.held());
    let after = held_charge(rest.reference(), &rest.held());
    Some(Swept {
        pack: (!rest.is_gone()).then_some(rest),
        freed,
        totals: drop_held(totals, before - after),
    })
}

/// Returns the totals without a head and its commit if they may be freed at `now`. Its root stays, for ever.
pub fn sweep_head(totals: Totals, head: &HeadRow, now: Timestamp) -> Option<Totals> {
    head.hold
        .may_free(now)
        .then(|| drop_held(totals, head.charge()))
}

/// Returns the totals without a node if it may be freed at `now`.
pub fn sweep_node(totals: Totals, node: &NodeRow, now: Timestamp) -> Option<Totals> {
    node.hold
        .may_free(now)
        .then(|| drop_held(totals, log_charge(node.reference.length)))
}

/// Thins out commits: returns the totals, and the sequence numbers of the heads whose commit may go, given all heads that are kept.
pub fn thin_commits(totals: Totals, heads: &[HeadRow], now: Timestamp) -> (Totals, Vec<u64>) {
    let with_commit: Vec<_> = heads.iter().filter(|head| head.commit.is_some()).collect();
    let times: Vec<_> = with_commit
        .iter()
        .map(|head| (head.sequence, head.admitted))
        .collect();
    let dropped = commits::to_drop(&times, now);
    let freed = with_commit
        .iter()
        .filter(|head| dropped.binary_search(&head.sequence).is_ok())
        .filter_map(|head| head.commit)
        .map(|commit| log_charge(commit.length))
        .sum();
    (drop_held(totals, freed), dropped)
}

const fn drop_held(totals: Totals, bytes: u64) -> Totals {
    Totals {
        held: totals.held.saturating_sub(bytes),
        ..totals
    }
}
