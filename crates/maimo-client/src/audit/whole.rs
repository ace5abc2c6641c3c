//! Reading everything back: every living group of every pack, as verified slices. No sample: what is not named here is there.

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    audit::Stratum,
    inventory::Entry,
    live_map::LiveMap,
    reference::ObjectRef,
    verify::{Selection, inspect_slice},
};
use maimo_net::service::{Read, ServiceError};

use super::{AuditResult, Audited, ChannelAudit, StratumAudit, unanswered};
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
                Ok((failed, bytes)) => {
                    outcome.bytes_received += bytes;
                    tally.slices += blocks;
                    tally.failed += failed;
                    if failed > 0 {
                        outcome.blame(AuditResult::Damaged, &pack);
                    }
                }
                Err(ServiceError::NotHeld { .. }) => {
                    tally.slices += blocks;
                    tally.failed += blocks;
                    outcome.blame(AuditResult::Missing, &pack);
                }
                Err(ServiceError::Damaged { .. }) => {
                    // Where the provider itself finds the damage it gives nothing: how much is sound shows in smaller reads.
                    tally.slices += blocks;
                    tally.failed += failed_of(channel, &pack, &part, &mut outcome);
                    outcome.blame(AuditResult::Damaged, &pack);
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
        outcome.detail = Some(format!("{count} packs are damaged or missing in part"));
    }
    super::prove_commit(channel, &mut outcome);
    Ok(outcome)
}

/// Reads some groups; returns how many of their blocks are not proven, and how many bytes came.
pub(super) fn read_part(
    channel: &Audited<'_>,
    pack: &ObjectRef,
    groups: &LiveMap,
) -> Result<(u64, u64), ServiceError> {
    let reads = vec![Read {
        pack: *pack,
        groups: groups.clone(),
    }];
    let slices = block_on(channel.session.read(reads))?;
    Ok(inspect(pack, groups, &slices))
}

/// Holds the answer to one read against its pack's root; returns how many blocks are not proven, and how many bytes came.
fn inspect(pack: &ObjectRef, groups: &LiveMap, slices: &[Bytes]) -> (u64, u64) {
    let all = groups.live_blocks(pack.length);
    let Some(slice) = slices.first() else {
        return (all, 0);
    };
    let received = slice.len() as u64;
    let Ok(selection) = Selection::of_map(pack.length, groups) else {
        return (all, received);
    };
    let failed = match inspect_slice(slice, pack, &selection) {
        // A leaf is a quarter of a block.
        Ok(failed) => failed
            .iter()
            .map(|run| run.end.div_ceil(4) - run.start / 4)
            .sum(),
        Err(_) => all,
    };
    (failed, received)
}

/// Counts the blocks that are damaged among groups that the provider would not give together: in halves, down to single groups.
fn failed_of(
    channel: &Audited<'_>,
    pack: &ObjectRef,
    groups: &LiveMap,
    outcome: &mut ChannelAudit,
) -> u64 {
    let mut failed = 0;
    let mut left = vec![groups.clone()];
    while let Some(part) = left.pop() {
        let Some(halves) = halve(&part) else {
            failed += part.live_blocks(pack.length);
            continue;
        };
        for half in halves {
            match read_part(channel, pack, &half) {
                Ok((bad, bytes)) => {
                    failed += bad;
                    outcome.bytes_received += bytes;
                }
                Err(ServiceError::Damaged { .. }) => left.push(half),
                // Not proven is not sound.
                Err(_) => failed += half.live_blocks(pack.length),
            }
        }
    }
    failed
}
