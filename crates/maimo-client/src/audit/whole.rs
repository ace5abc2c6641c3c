//! Reading everything back: every living group of every pack, as verified slices. No sample: what is not named here is there.

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    audit::Stratum,
    inventory::Entry,
    live_map::LiveMap,
    reference::ObjectRef,
    units::BLOCKS_PER_GROUP,
    verify::{Selection, inspect_slice},
};
use maimo_net::service::{Read, ServiceError, Session};

use super::{AuditResult, Audited, ChannelAudit, StratumAudit, empty_map, unanswered};
use crate::{
    error::ClientError,
    fetch::halve,
    outstanding::{Outstanding, cut},
    progress::{Control, Event, Phase},
};

/// How many bytes of groups one request asks for: bounds the memory of an answer.
const REQUEST_BYTES: u64 = 8 * 1024 * 1024;

/// Reads back and checks all that the newest head calls living, its commit too.
///
/// # Errors
///
/// Only that it was cancelled; whatever the provider does is an outcome.
pub fn read_all(channel: &Audited<'_>, control: &Control) -> Result<ChannelAudit, ClientError> {
    control.tell(Event::Phase(Phase::Proving));
    let mut outcome = ChannelAudit::of(channel);
    let inventories = [
        (Stratum::Data, channel.data),
        (Stratum::Vital, channel.vital),
    ];
    let bytes_of = |entry: &Entry| entry.live().live_bytes(entry.pack().length);
    let entries = inventories.iter().flat_map(|(_, all)| all.entries());
    control.tell(Event::Total {
        files: 0,
        bytes: entries.map(bytes_of).sum(),
    });
    let mut done = 0;
    for (stratum, inventory) in inventories {
        let mut tally = StratumAudit {
            stratum,
            slices: 0,
            blocks_live: inventory.reference().sums().live_blocks,
            failed: 0,
            loss: super::LOSS,
            probability: 1.0,
        };
        let appetite = channel.session.appetite();
        let bytes_max = REQUEST_BYTES.min(appetite.bytes_per_call);
        let mut parts = inventory.entries().flat_map(|entry| {
            let parts = cut(entry.live(), bytes_max).into_iter();
            parts.map(|part| (*entry.pack(), part))
        });
        let mut calls = Outstanding::new(appetite.calls);
        loop {
            while !calls.is_full()
                && let Some((pack, part)) = parts.next()
            {
                control.check()?;
                let groups = part.clone();
                let reply = channel.session.read(vec![Read { pack, groups }]);
                calls.start((pack, part), reply);
            }
            let Some(((pack, part), answer)) = calls.next() else {
                break;
            };
            let blocks = part.live_blocks(pack.length);
            match answer.map(|slices| inspect(&pack, &part, &slices)) {
                Ok(part) => {
                    outcome.bytes_received += part.bytes;
                    tally.slices += blocks;
                    tally.failed += part.failed;
                    if part.failed > 0 {
                        outcome.blame(AuditResult::Damaged, stratum, &pack, &part.groups);
                    }
                }
                Err(ServiceError::NotHeld { .. }) => {
                    tally.slices += blocks;
                    tally.failed += blocks;
                    outcome.blame(AuditResult::Missing, stratum, &pack, &part);
                }
                Err(ServiceError::Damaged { .. }) => {
                    // Where the provider itself finds the damage it gives nothing: how much is sound shows in smaller reads.
                    let found = in_halves(channel.session, &pack, &part);
                    outcome.bytes_received += found.bytes;
                    tally.slices += blocks;
                    tally.failed += found.failed + found.unread.live_blocks(pack.length);
                    outcome.blame(AuditResult::Damaged, stratum, &pack, &found.groups);
                }
                Err(error) => {
                    let (result, detail) = unanswered(channel, &error);
                    outcome.result = result;
                    outcome.detail = Some(detail);
                    // No more is proven than was read.
                    tally.probability =
                        super::probability(tally.blocks_live, tally.slices, tally.loss);
                    outcome.strata.push(tally);
                    return Ok(outcome);
                }
            }
            done += part.live_bytes(pack.length);
            control.tell(Event::Done {
                files: 0,
                bytes: done,
            });
        }
        outcome.strata.push(tally);
    }
    if !outcome.damaged.is_empty() {
        let count = outcome.damaged.len();
        outcome.detail = Some(match count {
            1 => "a pack is damaged or missing in part".to_owned(),
            _ => format!("{count} packs are damaged or missing in part"),
        });
    }
    super::prove_commit(channel, &mut outcome);
    Ok(outcome)
}

/// What reading some groups showed.
pub(crate) struct Part {
    /// How many of their blocks are not proven.
    pub(crate) failed: u64,
    /// In which groups those are.
    pub(crate) groups: LiveMap,
    /// Groups that were not answered for: nothing is said of them.
    pub(crate) unread: LiveMap,
    /// How many bytes came.
    pub(crate) bytes: u64,
}

/// Reads some groups and holds them against the pack's root.
pub(crate) fn read_part(
    session: &dyn Session,
    pack: &ObjectRef,
    groups: &LiveMap,
) -> Result<Part, ServiceError> {
    let reads = vec![Read {
        pack: *pack,
        groups: groups.clone(),
    }];
    let slices = block_on(session.read(reads))?;
    Ok(inspect(pack, groups, &slices))
}

/// Holds the answer to one read against its pack's root.
fn inspect(pack: &ObjectRef, groups: &LiveMap, slices: &[Bytes]) -> Part {
    let all = |bytes| Part {
        failed: groups.live_blocks(pack.length),
        groups: groups.clone(),
        unread: empty_map(pack),
        bytes,
    };
    let Some(slice) = slices.first() else {
        return all(0);
    };
    let bytes = slice.len() as u64;
    let Ok(selection) = Selection::of_map(pack.length, groups) else {
        return all(bytes);
    };
    let Ok(leaves) = inspect_slice(slice, pack, &selection) else {
        return all(bytes);
    };
    let mut part = Part {
        failed: 0,
        groups: empty_map(pack),
        unread: empty_map(pack),
        bytes,
    };
    for run in leaves {
        // A leaf is a quarter of a block.
        part.failed += run.end.div_ceil(4) - run.start / 4;
        let group = |leaf: u64| u32::try_from(leaf).unwrap_or(u32::MAX);
        let run = group(run.start / LEAVES_PER_GROUP)..group(run.end.div_ceil(LEAVES_PER_GROUP));
        let end = run.end.min(part.groups.groups());
        let _ = part.groups.insert(run.start..end);
    }
    part
}

/// How many leaves of BLAKE3's tree a group has.
const LEAVES_PER_GROUP: u64 = 4 * BLOCKS_PER_GROUP;

/// Finds out which groups are damaged among those that the provider would not give together: in halves, down to single groups.
pub(crate) fn in_halves(session: &dyn Session, pack: &ObjectRef, groups: &LiveMap) -> Part {
    let mut found = Part {
        failed: 0,
        groups: empty_map(pack),
        unread: empty_map(pack),
        bytes: 0,
    };
    let mut left = vec![groups.clone()];
    while let Some(part) = left.pop() {
        match read_part(session, pack, &part) {
            Ok(read) => {
                found.failed += read.failed;
                found.groups = found.groups.union(&read.groups);
                found.bytes += read.bytes;
            }
            Err(ServiceError::Damaged { .. } | ServiceError::NotHeld { .. }) => {
                if let Some(halves) = halve(&part) {
                    left.extend(halves);
                } else {
                    found.failed += part.live_blocks(pack.length);
                    found.groups = found.groups.union(&part);
                }
            }
            Err(_) => found.unread = found.unread.union(&part),
        }
    }
    found
}
