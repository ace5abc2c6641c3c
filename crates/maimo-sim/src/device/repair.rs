//! Repairing a channel that shows an older or another state than was seen: `channel repair`.

use std::{collections::BTreeMap, rc::Rc};

use maimo_core::id::ChannelId;
use maimo_vault::{
    compose::{Draft, Sealing as _, SegmentWriter},
    compress::Level,
    journal::{
        batch::{Batch, Stamp},
        record::Record,
        repeat::Repeat,
        state::State,
    },
    name::{ChunkId, ChunkRef, PackNumber},
    pack::{PackBuilder, PackKind},
    prune::moved,
    repair::{Repair, union},
};

use super::{
    Cache, Home, Sealer, draft, follow,
    job::{Naming, Plan},
    sync,
};
use crate::{keys::StoreKeys, world::Shared};

/// Reads what the deciding channel shows, whatever was seen of it; what is built on that follows what was known as well.
pub fn read(
    providers: &sync::Reachable<'_>,
    keys: &StoreKeys,
    known: &Cache,
) -> Result<sync::Synced, sync::SyncError> {
    let first = sync::layout_channels(known, keys)[0];
    let mut synced = sync::read(providers, keys, &BTreeMap::new(), Some(known), Some(first))?;
    let cache = &mut synced.cache;
    if cache.store != known.store {
        cache.joined.clone_from(&known.store);
    }
    let shown = cache.shown.values().copied().max().unwrap_or(0);
    cache.base.sequence = cache.base.sequence.max(known.base.sequence).max(shown);
    Ok(synced)
}

/// Makes the draft that puts back what `known` has and the channel's newest state, read since, has not.
pub fn plan(home: &mut Home, shared: &mut Shared, known: &Cache) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let shown = &cache.base.state;
    let records = all_records(known);
    let both = union(shown, &records);

    // Pieces of the tail that the channel no longer carries: their chunks are in what was known.
    let carried: Vec<PackNumber> = cache
        .base
        .tail
        .iter()
        .map(|tail| tail.piece.number())
        .collect();
    let pieces = known.base.tail.iter().map(|tail| &tail.piece);
    let pieces: Vec<_> = pieces
        .filter(|piece| !carried.contains(&piece.number()))
        .collect();
    // Data packs, from the channel itself or from another that has them.
    let mut again: BTreeMap<PackNumber, PackBuilder> = BTreeMap::new();
    let mut held: BTreeMap<ChunkId, ChunkRef> = BTreeMap::new();
    let mut ids: BTreeMap<ChunkRef, ChunkId> = BTreeMap::new();
    for layout in known.layouts.values().chain(cache.layouts.values()) {
        let number = layout.number();
        for index in (0..).take(layout.entries().len()) {
            let opens = |channel: ChannelId| {
                let pack = both.pack(number, channel)?;
                let needed = layout.live_map([index])?;
                let provider = &shared.providers[&channel];
                let there = provider.held(&pack)?;
                there.contains_all(&needed).then_some(())?;
                let bytes = provider.pack(&pack)?;
                sync::open_chunks(bytes, &keys, channel, PackKind::Data, Some(&[index]))
            };
            let chunk = ChunkRef {
                pack: number,
                index,
            };
            let id = layout.entries()[index as usize].id;
            ids.insert(chunk, id);
            if opens(channels[0]).is_some() {
                held.insert(id, chunk);
            } else if let Some(other) = channels[1..]
                .iter()
                .find(|channel| opens(**channel).is_some())
            {
                let whole = both.pack(number, *other).and_then(|pack| {
                    let bytes = shared.providers[other].pack(&pack)?;
                    follow::reopened(bytes, PackKind::Data, &keys, *other)
                });
                if let Some(builder) = whole {
                    again.insert(number, builder);
                    held.entry(id).or_insert(chunk);
                }
            }
        }
    }
    let find = |chunk: ChunkRef| {
        let in_tail = carried.contains(&chunk.pack)
            || pieces.iter().any(|piece| piece.number() == chunk.pack);
        if in_tail {
            Some(chunk)
        } else {
            held.get(ids.get(&chunk)?).copied()
        }
    };
    let repair = Repair::plan(records, shown, find);
    shared.lost.extend(&repair.lost);
    if repair.restored.is_empty() {
        return None;
    }
    // References were turned: what older packs repeat of these files may lead elsewhere.
    for (stamp, _) in &repair.restored {
        shared.repeated.remove(&stamp.id);
    }

    let first = [channels[0]];
    let mut sealer = Sealer::new(home, &keys, &first, &mut shared.rng);
    let mut named = Vec::new();
    if pieces.iter().any(|piece| !piece.entries().is_empty()) {
        let mut builder = PackBuilder::new(sealer.next_pack(), PackKind::Data);
        let number = builder.number();
        let mut moves = Vec::new();
        for piece in &pieces {
            for (index, chunk) in (0..).zip(piece.chunks()) {
                let to = builder.push(chunk).ok()?;
                let from = ChunkRef {
                    pack: piece.number(),
                    index,
                };
                moves.extend(moved(&[from], number, to));
            }
        }
        let sequence = cache.base.sequence + 1;
        let mut after = union(shown, &repair.restored);
        for record in moves {
            let id = sealer.next_record();
            after.apply(Stamp { sequence, id }, record.clone());
            named.push((id, record));
        }
        let repeat = Repeat::of_moved(&after, sequence, |chunk| chunk.pack == number);
        draft::seal_packs(vec![(builder, repeat)], &mut sealer, &mut named);
    }
    for (number, builder) in again {
        for (channel, reference) in sealer.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            named.push((sealer.next_record(), record));
        }
    }
    let writer = SegmentWriter {
        id_key: &keys.journal,
        level: Level::new(1).expect("a level"),
    };
    sealer.channels = &channels;
    let draft = Draft::restoring(repair.restored, named, &writer, &mut sealer);
    let mut layouts = sealer.layouts;
    for (number, layout) in &known.layouts {
        layouts.entry(*number).or_insert_with(|| Rc::clone(layout));
    }
    Some(Plan {
        draft,
        taken: BTreeMap::new(),
        layouts,
        naming: Naming::All,
        merge: None,
    })
}

/// Returns every record of a state as it was written.
fn all_records(cache: &Cache) -> Vec<(Stamp, Record)> {
    let mut records = Vec::new();
    for segment in &cache.base.segments {
        for batch in cache.segments[&segment.number].iter() {
            records.extend(batch.clone().into_records(segment.sequence));
        }
    }
    for tail in &cache.base.tail {
        let batch = Batch::parse(tail.piece.records()).expect("a batch that was read once");
        records.extend(batch.into_records(tail.sequence));
    }
    records
}

/// Returns the state that a cache's records replay to: what [`Cache::base`] must equal.
pub fn replayed(cache: &Cache) -> State {
    let mut state = State::default();
    for (stamp, record) in all_records(cache) {
        state.apply(stamp, record);
    }
    state
}
