//! Reading everything back: every living group of every pack, as verified slices. No sample: what is not named here is there.

use futures_executor::block_on;
use maimo_core::{
    audit::Stratum,
    inventory::Entry,
    live_map::LiveMap,
    reference::ObjectRef,
    units::GROUP_BYTES,
    verify::{Selection, inspect_slice},
};
use maimo_net::service::{Read, ServiceError};

use super::{AuditResult, Audited, ChannelAudit, StratumAudit, unanswered};
use crate::{
    error::ClientError,
    fetch::halve,
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
        for entry in inventory.entries() {
            for part in parts(entry.live()) {
                control.check()?;
                let blocks = part.live_blocks(entry.pack().length);
                let read = read_part(channel, entry.pack(), &part);
                match read {
                    Ok((failed, bytes)) => {
                        outcome.bytes_received += bytes;
                        tally.slices += blocks;
                        tally.failed += failed;
                        if failed > 0 {
                            outcome.blame(AuditResult::Damaged, entry.pack());
                        }
                    }
                    Err(ServiceError::NotHeld { .. }) => {
                        tally.slices += blocks;
                        tally.failed += blocks;
                        outcome.blame(AuditResult::Missing, entry.pack());
                    }
                    Err(ServiceError::Damaged { .. }) => {
                        // Where the provider itself finds the damage it gives nothing: how much is sound shows in smaller reads.
                        tally.slices += blocks;
                        tally.failed += failed_of(channel, entry.pack(), &part, &mut outcome);
                        outcome.blame(AuditResult::Damaged, entry.pack());
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
                done += part.live_bytes(entry.pack().length);
                control.tell(Event::Done {
                    files: 0,
                    bytes: done,
                });
            }
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
    let all = groups.live_blocks(pack.length);
    let Some(slice) = slices.first() else {
        return Ok((all, 0));
    };
    let received = slice.len() as u64;
    let Ok(selection) = Selection::of_map(pack.length, groups) else {
        return Ok((all, received));
    };
    let failed = match inspect_slice(slice, pack, &selection) {
        // A leaf is a quarter of a block.
        Ok(failed) => failed
            .iter()
            .map(|run| run.end.div_ceil(4) - run.start / 4)
            .sum(),
        Err(_) => all,
    };
    Ok((failed, received))
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

/// Cuts a live map into maps of at most [`REQUEST_BYTES`].
fn parts(live: &LiveMap) -> Vec<LiveMap> {
    let groups_max = u32::try_from(REQUEST_BYTES / GROUP_BYTES).unwrap_or(u32::MAX);
    let mut parts = Vec::new();
    let mut open = Vec::new();
    let mut count = 0;
    for run in live.runs() {
        let mut start = run.start;
        while start < run.end {
            let end = run.end.min(start + (groups_max - count));
            open.push(start..end);
            count += end - start;
            start = end;
            if count == groups_max {
                parts.extend(LiveMap::from_runs(
                    live.groups(),
                    core::mem::take(&mut open),
                ));
                count = 0;
            }
        }
    }
    if !open.is_empty() {
        parts.extend(LiveMap::from_runs(live.groups(), open));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_make_up_the_whole() {
        let live = LiveMap::from_runs(4096, [3..700, 800..801, 900..4096]).unwrap();
        let parts = parts(&live);
        assert!(parts.len() > 6);
        let mut whole = LiveMap::from_runs(4096, []).unwrap();
        for part in &parts {
            assert!(u64::from(part.count()) * GROUP_BYTES <= REQUEST_BYTES);
            assert!(!whole.intersects(part));
            whole = whole.union(part);
        }
        assert_eq!(whole, live);
    }
}
