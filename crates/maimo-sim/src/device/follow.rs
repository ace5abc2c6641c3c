//! Following: the other channels of the layout are brought to what the first has acknowledged, and get what they lack.

use std::{collections::BTreeMap, rc::Rc};

use maimo_core::{
    custody::{PackClass, Refusal},
    id::ChannelId,
    reference::ObjectRef,
};
use maimo_vault::{
    candidate::{Advance, name_exactly},
    compose::Sealing,
    demand::Demand,
    journal::record::Record,
    layout::lacking,
    name::PackNumber,
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, Piece, open_pack},
};

use super::{
    Cache, Home, Sealer,
    draft::draft,
    job::{Naming, Plan, seen, send},
    sync,
};
use crate::{
    keys::{EPOCH, StoreKeys},
    world::Shared,
};

/// Makes the draft that opens another channel as a mirror; nothing where all are open. What it lacks comes with the next runs.
pub fn plan_mirror(home: &mut Home, shared: &mut Shared) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let mut layout = cache.layout()?;
    let mut unopened = keys.channels.keys();
    let opened = unopened.find(|channel| !layout.channels.contains(channel))?;
    let before = layout.channels.clone();
    layout.channels.push(*opened);
    let mut sealer = Sealer::new(home, &keys, &before, &mut shared.rng);
    let record = Record::Layout {
        epoch: layout.epoch + 1,
        channels: layout.channels,
    };
    let records = vec![(sealer.next_record(), record)];
    let piece = Piece::new(sealer.next_pack());
    let draft = draft(piece, records, &keys, &mut sealer);
    Some(Plan {
        draft,
        taken: BTreeMap::new(),
        layouts: sealer.layouts,
        naming: Naming::New,
        merge: None,
    })
}

/// What became of an attempt to let a channel follow.
pub enum Followed {
    /// Its head has moved.
    Moved,
    /// Something was uploaded on the way.
    Uploaded,
    /// It lacks what the next commit must record first, or it refused.
    CannotYet,
}

/// Lets a channel follow the first: one upload, or the move of its head.
pub fn follow(home: &mut Home, shared: &mut Shared, cache: &Cache, channel: ChannelId) -> Followed {
    let keys = Rc::clone(&shared.keys);
    let first = sync::layout_channels(cache, &keys)[0];
    let base = &cache.base;
    let Some(store) = cache.store.clone() else {
        return Followed::CannotYet;
    };
    let in_tail = |number: PackNumber| base.tail.iter().any(|tail| tail.piece.number() == number);
    let demand = Demand::of(&base.state);
    if !lacking(&base.state, &demand, channel, in_tail).is_empty() {
        return Followed::CannotYet;
    }
    // It was away when this was read.
    let Some(view) = cache.views.get(&channel) else {
        return Followed::CannotYet;
    };
    // Segments it does not list and that nobody sealed for it.
    for segment in &base.segments {
        let number = segment.number;
        if view.segments.contains_key(&number) || home.spool.contains_key(&(channel, number)) {
            continue;
        }
        let reference = cache.views[&first].segments.get(&number);
        let bytes = reference.and_then(|reference| shared.provider(first).pack(reference));
        let Some(bytes) = bytes.map(<[u8]>::to_vec) else {
            return Followed::CannotYet;
        };
        let Some(builder) = reopened(&bytes, PackKind::Vital, &keys, first) else {
            return Followed::CannotYet;
        };
        let channels = [channel];
        let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
        sealer.seal(builder);
        return Followed::Uploaded;
    }
    let now = shared.now;
    let waiting = home
        .spool
        .iter_mut()
        .find(|((on, _), spooled)| *on == channel && !spooled.uploaded);
    if let Some((_, spooled)) = waiting {
        let class = match spooled.kind {
            PackKind::Data => PackClass::Data,
            PackKind::Vital => PackClass::Vital,
        };
        let provider = shared.provider(channel);
        if provider.upload(&spooled.pack.bytes, class, now).is_err() {
            return Followed::CannotYet;
        }
        spooled.uploaded = true;
        return Followed::Uploaded;
    }
    // Its packs live as the first channel's do.
    let mut target = BTreeMap::new();
    for (number, reference) in base.state.packs(first) {
        let live = cache.views[&first].live(&reference);
        let there = base.state.pack(number, channel);
        if let (Some(live), Some(there)) = (live, there) {
            target.insert(there, live.clone());
        }
    }
    let data = name_exactly(&view.data, target).expect("the same geometry");
    let new_segments = spooled_segments(home, channel);
    let advance = Advance {
        store,
        next: base,
        data,
        dictionaries: &[],
        new_segments: &new_segments,
    };
    let candidate = view
        .candidate(advance, &keys.channels[&channel], now, &mut shared.rng)
        .expect("all segments are there");
    match send(shared, channel, &candidate) {
        Ok(()) => {
            home.seen.insert(channel, seen(&candidate));
            let mut after = cache.clone();
            after.views.insert(channel, candidate.after.clone());
            after.shown.insert(channel, base.sequence);
            home.cache = Some(Rc::new(after));
            Followed::Moved
        }
        Err(Refusal::NotHeld(not_held)) => {
            for (pack, _) in not_held.missing {
                home.not_held.insert((channel, pack));
            }
            Followed::CannotYet
        }
        Err(Refusal::Conflict { .. } | Refusal::CapExceeded(_)) => Followed::CannotYet,
        Err(refusal) => panic!("an honest client's head was refused: {refusal}"),
    }
}

/// Returns where the home's sealed segments are on a channel.
pub fn spooled_segments(home: &Home, channel: ChannelId) -> BTreeMap<PackNumber, ObjectRef> {
    home.spool
        .iter()
        .filter(|((on, _), spooled)| *on == channel && spooled.kind == PackKind::Vital)
        .map(|((_, number), spooled)| (*number, spooled.pack.reference))
        .collect()
}

/// Returns the data packs that a channel lacks, opened at the first channel, to be sealed for it.
pub fn lacked(
    cache: &Cache,
    channels: &[ChannelId],
    home: &Home,
    shared: &Shared,
) -> Vec<(ChannelId, PackBuilder)> {
    let state = &cache.base.state;
    let in_tail = |number: PackNumber| {
        let mut tail = cache.base.tail.iter();
        tail.any(|tail| tail.piece.number() == number)
    };
    let demand = Demand::of(state);
    let mut found = Vec::new();
    for channel in &channels[1..] {
        let mut numbers = lacking(state, &demand, *channel, in_tail);
        numbers.extend(demand.packs().filter(|number| {
            let pack = state.pack(*number, *channel);
            pack.is_some_and(|pack| home.not_held.contains(&(*channel, pack)))
        }));
        for number in numbers {
            let bytes = state
                .pack(number, channels[0])
                .and_then(|pack| shared.providers[&channels[0]].pack(&pack));
            let builder =
                bytes.and_then(|bytes| reopened(bytes, PackKind::Data, &shared.keys, channels[0]));
            // A pack of which something was freed cannot be opened whole: the chunks needed of it move at the next prune.
            if let Some(builder) = builder {
                found.push((*channel, builder));
            }
        }
    }
    found
}

/// Returns a pack's frames as they go into a pack for another channel, under the same number and with the same records.
pub fn reopened(
    bytes: &[u8],
    kind: PackKind,
    keys: &StoreKeys,
    channel: ChannelId,
) -> Option<PackBuilder> {
    let pack_keys = PackKeys::new(&keys.channels[&channel], EPOCH, kind);
    let (reader, table) = open_pack(bytes, kind, pack_keys).ok()?;
    let mut builder = PackBuilder::new(table.layout.number(), kind);
    for (index, entry) in (0..).zip(table.layout.entries()) {
        let range = table.layout.chunk_range(index)?;
        let sealed = sync::cut(bytes, &range)?;
        let frame = reader.open_frame(entry, sealed).ok()?;
        builder.push(FramedChunk::new(entry, &frame)).ok()?;
    }
    builder.set_records(table.records).ok()?;
    Some(builder)
}
