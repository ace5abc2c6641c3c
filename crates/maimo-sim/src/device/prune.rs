//! Letting go: what no policy keeps, packs written again, segments merged. A lost race means planning it anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{clock::Timestamp, id::ChannelId};
use maimo_vault::{
    commit::Segment,
    compose::Sealing as _,
    demand::Demand,
    journal::{batch::Stamp, merge, repeat::Repeat, state::State},
    layout::lacking,
    name::{ChunkRef, PackNumber},
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, Piece, open_pack},
    prune::{Drops, Rewrite, RewriteRules, moved, target},
};
use rand_core::Rng;

use super::{
    Cache, Home, Sealer, draft,
    job::{Naming, Plan, empty_draft},
    sync,
};
use crate::{keys::EPOCH, world::Shared};

/// The rules at the model's measure: its packs hold some 120 KiB.
const RULES: RewriteRules = RewriteRules {
    waste_percent: 10,
    waste_floor_bytes: 4 * 1024,
    small_bytes: 24 * 1024,
    small_count: 2,
};

/// Makes the draft of a prune, or nothing where all is kept and well filled.
pub fn plan(home: &mut Home, shared: &mut Shared) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let first = channels[0];
    let drops = Drops::plan(&cache.base.state, Timestamp(shared.now.0));

    // The state as it would be, to see what is still needed.
    let mut state = cache.base.state.clone();
    for (n, record) in (0..).zip(drops.records()) {
        let id = maimo_vault::name::RecordId {
            writer: maimo_vault::name::WriterId([0xff; 16]),
            counter: n,
        };
        let sequence = cache.base.sequence + 1;
        state.apply(Stamp { sequence, id }, record);
    }
    let demand = Demand::of(&state);
    let layouts = || cache.layouts.values().map(|layout| &**layout);
    let targets = target(&demand, layouts());
    let mut rewrite = Rewrite::plan(&demand, layouts(), &targets, RULES);
    for number in torn(&cache, &state, &demand, &channels, shared) {
        if rewrite.packs.insert(number) {
            let chunks = demand.of_pack(number);
            rewrite.chunks.extend(chunks.map(|index| ChunkRef {
                pack: number,
                index,
            }));
        }
    }
    let view = &cache.views[&first];
    let lets_go = view.data.entries().any(|entry| {
        let mut held = state.packs(first).filter(|(_, pack)| pack == entry.pack());
        let kept = held.find_map(|(number, _)| targets.get(&number));
        kept != Some(entry.live())
    });
    if drops.is_empty() && rewrite.is_empty() && !lets_go {
        return None;
    }

    let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
    let mut named = Vec::new();
    for record in drops.records() {
        named.push((sealer.next_record(), record));
    }
    let mut moves = Vec::new();
    let mut builders = Vec::new();
    let mut chunks: &[ChunkRef] = &rewrite.chunks;
    while !chunks.is_empty() {
        let mut builder = PackBuilder::new(sealer.next_pack(), PackKind::Data);
        let (now, rest) = chunks.split_at(chunks.len().min(12));
        chunks = rest;
        let mut places = Vec::new();
        for chunk in now {
            let reference = state.pack(chunk.pack, first)?;
            let bytes = shared.providers[&first].pack(&reference)?;
            let pack_keys = PackKeys::new(&keys.channels[&first], EPOCH, PackKind::Data);
            let (reader, table) = open_pack(bytes, PackKind::Data, pack_keys).ok()?;
            let range = table.layout.chunk_range(chunk.index)?;
            let sealed = sync::cut(bytes, &range)?;
            let entry = table.layout.entries().get(chunk.index as usize)?;
            let frame = reader.open_frame(entry, sealed).ok()?;
            let index = builder.push(FramedChunk::new(entry, &frame)).ok()?;
            places.push((*chunk, index));
        }
        for (chunk, index) in places {
            moves.extend(moved(&[chunk], builder.number(), index));
        }
        builders.push(builder);
    }
    let mut after = state.clone();
    for (n, record) in (0..).zip(&moves) {
        let id = maimo_vault::name::RecordId {
            writer: maimo_vault::name::WriterId([0xfe; 16]),
            counter: n,
        };
        let sequence = cache.base.sequence + 1;
        after.apply(Stamp { sequence, id }, record.clone());
    }
    let builders = builders.into_iter().map(|builder| {
        let number = builder.number();
        let sequence = cache.base.sequence + 1;
        let repeat = Repeat::of_moved(&after, sequence, |chunk| chunk.pack == number);
        (builder, repeat)
    });
    draft::seal_packs(builders.collect(), &mut sealer, &mut named);
    shared.fates.rewritten += moves.len() as u64;
    for record in moves {
        named.push((sealer.next_record(), record));
    }
    let piece = Piece::new(sealer.next_pack());
    let draft = draft::draft(piece, named, &keys, &mut sealer);
    Some(Plan {
        draft,
        taken: BTreeMap::new(),
        layouts: sealer.layouts,
        naming: Naming::Exactly,
        merge: None,
    })
}

/// Returns the packs that another channel lacks and that can no longer be sealed for it as they were, because the first channel has freed
/// part of them: what is needed of them moves.
fn torn(
    cache: &Cache,
    state: &State,
    demand: &Demand,
    channels: &[ChannelId],
    shared: &Shared,
) -> Vec<PackNumber> {
    let in_tail = |number: PackNumber| {
        let mut tail = cache.base.tail.iter();
        tail.any(|tail| tail.piece.number() == number)
    };
    let lacked = channels[1..]
        .iter()
        .flat_map(|channel| lacking(state, demand, *channel, in_tail));
    let lacked: BTreeSet<PackNumber> = lacked.collect();
    let whole = |number: &PackNumber| {
        let held = state.pack(*number, channels[0]);
        let held = held.and_then(|pack| shared.providers[&channels[0]].held(&pack));
        held.is_some_and(|held| held.is_full())
    };
    lacked.into_iter().filter(|number| !whole(number)).collect()
}

/// Makes the draft of a merge: what the rule would merge, or a few segments for the sake of it.
pub fn plan_merge(home: &mut Home, shared: &mut Shared) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let segments: &[Segment] = &cache.base.segments;
    let judge = merge::Judge::new(&cache.base.state);
    let weights: Vec<merge::SegmentWeight> = segments
        .iter()
        .map(|segment| {
            let batches = &cache.segments[&segment.number];
            let records = batches.iter().flat_map(|batch| {
                let records = batch.clone().into_records(segment.sequence);
                records.collect::<Vec<_>>()
            });
            let (mut all, mut dead) = (1, 0);
            for (stamp, record) in records {
                all += 1;
                dead += u64::from(judge.is_dead(stamp, &record));
            }
            merge::SegmentWeight {
                level: segment.level,
                length: 4096,
                dead: 4096 * dead / all,
            }
        })
        .collect();
    let chosen = merge::plan(&weights).unwrap_or_else(|| {
        (0..segments.len())
            .filter(|_| shared.rng.next_u32().is_multiple_of(2))
            .collect()
    });
    (!chosen.is_empty()).then(|| Plan {
        draft: empty_draft(),
        taken: BTreeMap::new(),
        layouts: BTreeMap::new(),
        naming: Naming::New,
        merge: Some(chosen),
    })
}
