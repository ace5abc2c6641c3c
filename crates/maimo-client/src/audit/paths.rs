//! Auditing the bytes of some files: a sample of the groups that hold them, read as verified slices. Blocks are drawn alike, so larger files
//! are drawn more often.

use std::collections::BTreeMap;

use maimo_core::{
    audit::{Stratum, draw},
    live_map::LiveMap,
    reference::ObjectRef,
    units::BLOCKS_PER_GROUP,
};
use maimo_net::service::ServiceError;
use rand_core::CryptoRng;

use super::{AuditResult, Audited, ChannelAudit, StratumAudit, probability, unanswered, whole};
use crate::{
    error::ClientError,
    progress::{Control, Event, Phase},
};

/// Draws blocks of `groups`, which hold the files' bytes on this channel, and has the groups they are in proven.
///
/// # Errors
///
/// Only that it was cancelled; whatever the provider does is an outcome.
pub fn sample(
    channel: &Audited<'_>,
    groups: &BTreeMap<ObjectRef, LiveMap>,
    slices: u64,
    loss: f64,
    rng: &mut impl CryptoRng,
    control: &Control,
) -> Result<ChannelAudit, ClientError> {
    control.tell(Event::Phase(Phase::Proving));
    let live: u64 = groups
        .iter()
        .map(|(pack, map)| map.live_blocks(pack.length))
        .sum();
    let count = usize::try_from(slices.min(live)).unwrap_or(usize::MAX);
    let ranks = draw(rng, live, count);
    let mut tally = StratumAudit {
        stratum: Stratum::Data,
        slices: ranks.len() as u64,
        blocks_live: live,
        failed: 0,
        loss,
        probability: probability(live, ranks.len() as u64, loss),
    };
    let mut outcome = ChannelAudit::of(channel);
    control.tell(Event::Total {
        files: 0,
        bytes: ranks.len() as u64,
    });
    let mut first = 0;
    let mut ranks = &ranks[..];
    let mut done = 0;
    for (pack, map) in groups {
        control.check()?;
        let blocks = map.live_blocks(pack.length);
        let (here, after) = ranks.split_at(ranks.partition_point(|rank| *rank < first + blocks));
        ranks = after;
        let drawn = here.iter().filter_map(|rank| {
            let block = map.nth_live_block(pack.length, rank - first)?;
            u32::try_from(block / BLOCKS_PER_GROUP).ok()
        });
        let drawn: Vec<u32> = drawn.collect();
        first += blocks;
        if drawn.is_empty() {
            continue;
        }
        done += drawn.len() as u64;
        // More runs than an inventory's map may have are read in several requests.
        for part in drawn.chunks(LiveMap::RUNS_MAX) {
            let runs = part.iter().map(|group| *group..group + 1);
            let Ok(part_map) = LiveMap::from_runs(map.groups(), runs) else {
                continue;
            };
            let asked = part.len() as u64;
            let data = Stratum::Data;
            match whole::read_part(channel.session, pack, &part_map) {
                Ok(part) => {
                    outcome.bytes_received += part.bytes;
                    tally.failed += part.failed.min(asked);
                    if part.failed > 0 {
                        outcome.blame(AuditResult::Damaged, data, pack, &part.groups);
                    }
                }
                Err(ServiceError::NotHeld { .. }) => {
                    tally.failed += asked;
                    outcome.blame(AuditResult::Missing, data, pack, &part_map);
                }
                Err(ServiceError::Damaged { .. }) => {
                    let found = whole::in_halves(channel.session, pack, &part_map);
                    outcome.bytes_received += found.bytes;
                    tally.failed += asked;
                    outcome.blame(AuditResult::Damaged, data, pack, &found.groups);
                }
                Err(error) => {
                    let (result, detail) = unanswered(channel, &error);
                    outcome.result = result;
                    outcome.detail = Some(detail);
                    return Ok(outcome);
                }
            }
        }
        control.tell(Event::Done {
            files: 0,
            bytes: done,
        });
    }
    if tally.failed > 0 {
        outcome.detail = Some(format!("{} slices were not proven", tally.failed));
    }
    outcome.strata.push(tally);
    Ok(outcome)
}
