//! Storing: what changed on the disk becomes a draft; a lost race turns it to the winner's state; other channels follow the first.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{
    custody::Refusal, id::ChannelId, inventory::Change, live_map::LiveMap, reference::ObjectRef,
};
use maimo_vault::{
    candidate::{Advance, ChannelView},
    compose::{Base, Body, Draft, Sealing, SegmentWriter},
    compress::{Compressor, Level},
    dedup::DedupIndex,
    demand::Demand,
    journal::{
        batch::Batch,
        metadata::{FileTime, Metadata},
        record::{ChunkExtent, Content, PathEvent, Record},
        repeat::Repeat,
        state::{Presence, State},
    },
    layout::{Layout, lacking},
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId},
    pack::{FramedChunk, PackBuilder, PackKeys, PackKind, PackLayout, Piece, open_pack},
    prune,
    rebase::{Fate, fate, turn},
    retention::Policy,
};

use super::{
    Cache, Disk, Home, Living, Sealer,
    job::{Naming, Plan, send},
    path, sync,
};
use crate::{
    keys::{EPOCH, StoreKeys},
    world::Shared,
};

/// How the model cuts files, in bytes: the chunker leaves files this small whole, and files of several chunks are wanted.
const CHUNK_BYTES: usize = 4096;
/// How many bytes of frames the model puts into a pack.
const PACK_FRAMES_BYTES: usize = 120 * 1024;
/// How many bytes of frames a draft may have to ride in the tail.
const PIECE_FRAMES_BYTES: usize = 2048;

/// A chunk that is new to the store.
struct NewChunk {
    id: ChunkId,
    plaintext: Vec<u8>,
}

/// Scans the disk and makes the draft of a run.
pub fn plan(home: &mut Home, disk: &Disk, shared: &mut Shared) -> Plan {
    let cache = Rc::clone(home.cache.as_ref().expect("a plan has a cache"));
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let known = dedup(&cache, &channels);
    let now = shared.now.0;
    let source = home.source;
    let state = &cache.base.state;

    // What is new, in walk order, and which files it belongs to.
    let mut records: Vec<Record> = first_records(home, state, &keys, now, shared.policy);
    let mut files: Vec<(u8, Rc<Vec<u8>>, Vec<ChunkId>)> = Vec::new();
    let mut new: Vec<NewChunk> = Vec::new();
    let mut found: BTreeMap<ChunkId, ChunkRef> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for (number, content) in &disk.files {
        let newest = state.newest(source, &path(*number));
        let unchanged =
            newest.is_some_and(|(id, _, known, _)| same(known, content) && state.is_kept(id));
        let presence = newest.map(|(.., presence)| presence);
        match (unchanged, presence) {
            (true, Some(Presence::Present)) => continue,
            (true, Some(Presence::Evicted)) => {
                records.push(event(home, *number, PathEvent::Found));
                continue;
            }
            _ => {}
        }
        let mut ids = Vec::new();
        for piece in content.chunks(CHUNK_BYTES) {
            let id = keys.content.id(piece);
            ids.push(id);
            if let Some(chunk) = known.find(&id) {
                found.insert(id, chunk);
            } else if seen.insert(id) {
                new.push(NewChunk {
                    id,
                    plaintext: piece.to_vec(),
                });
            }
        }
        files.push((*number, Rc::clone(content), ids));
    }
    for ((of, at), entries) in state.paths() {
        let there = disk.files.keys().any(|number| path(*number) == *at);
        let newest = maimo_vault::journal::state::newest(entries);
        if *of == source && !there && matches!(newest, Some((.., Presence::Present))) {
            records.push(Record::Path {
                source,
                path: at.clone(),
                event: PathEvent::Gone,
            });
        }
    }

    let lacked = lacked(&cache, &channels, home, shared);
    home.not_held.retain(|(channel, _)| *channel == channels[0]);
    let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
    let begun = sealer.next_record();
    let mut named: Vec<(RecordId, Record)> = vec![(begun, Record::RunBegin { source, time: now })];
    for record in records {
        named.push((sealer.next_record(), record));
    }

    // Where each new chunk goes.
    let mut compressor = Compressor::new(Level::new(1).expect("a level"));
    let total: usize = new.iter().map(|chunk| chunk.plaintext.len()).sum();
    let number = sealer.next_pack();
    let mut piece = Piece::new(number);
    let mut builders: Vec<PackBuilder> = Vec::new();
    if total <= PIECE_FRAMES_BYTES {
        for chunk in &new {
            let index = piece
                .push(framed(chunk, &mut compressor))
                .expect("a small chunk fits a piece");
            found.insert(
                chunk.id,
                ChunkRef {
                    pack: number,
                    index,
                },
            );
        }
    } else {
        let mut filled = PACK_FRAMES_BYTES;
        for chunk in &new {
            if filled >= PACK_FRAMES_BYTES {
                builders.push(PackBuilder::new(sealer.next_pack(), PackKind::Data));
                filled = 0;
            }
            let builder = builders.last_mut().expect("one was just begun");
            let frame = framed(chunk, &mut compressor);
            filled += frame.frame.len();
            let index = builder.push(frame).expect("the model's packs stay small");
            let pack = builder.number();
            found.insert(chunk.id, ChunkRef { pack, index });
        }
    }
    let mut file_records: Vec<(RecordId, Record)> = Vec::new();
    for (number, content, ids) in &files {
        let id = sealer.next_record();
        let chunks = ids.iter().map(|id| found[id]);
        let record = Record::File {
            source,
            path: path(*number),
            metadata: Metadata {
                mode: 0o644,
                modified: FileTime {
                    seconds: i64::try_from(now / 1000).unwrap_or(0),
                    nanos: 7,
                },
                ..Metadata::default()
            },
            content: Content::Regular {
                size: content.len() as u64,
                blake3: *blake3::hash(content).as_bytes(),
                chunks: ChunkExtent::join(chunks),
            },
        };
        // A restored home may plan under names that are taken; what was admitted under them stays what is owed.
        if !shared.admitted.contains(&id) {
            shared.contents.insert(id, Rc::clone(content));
        }
        file_records.push((id, record));
    }
    for (id, record) in &file_records {
        let Record::File { content, .. } = record else {
            continue;
        };
        let last = content.extents().last().map(|extent| extent.first.pack);
        let own = |number| {
            number == piece.number() || builders.iter().any(|builder| builder.number() == number)
        };
        // A crash may have taken back an earlier plan under the same name; a restored home may plan under names that are taken.
        if shared.admitted.contains(id) {
            continue;
        }
        if last.is_some_and(own) {
            shared.repeated.insert(*id);
        } else {
            shared.repeated.remove(id);
        }
    }
    let as_of = cache.base.sequence + 1;
    let with_records = builders.into_iter().map(|builder| {
        let repeat = Repeat::of_new(&file_records, builder.number(), as_of);
        (builder, repeat)
    });
    seal_packs(with_records.collect(), &mut sealer, &mut named);
    named.extend(file_records);
    for (channel, builder) in lacked {
        let number = builder.number();
        sealer.channels = core::slice::from_ref(
            &channels[channels
                .iter()
                .position(|other| *other == channel)
                .expect("a channel of the layout")],
        );
        for (channel, reference) in sealer.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            named.push((sealer.next_record(), record));
        }
        sealer.channels = &channels;
    }
    let end = Record::RunEnd {
        run: begun,
        time: now,
        files: files.len() as u64,
        bytes_stored: total as u64,
    };
    named.push((sealer.next_record(), end));

    let draft = draft(piece, named, &keys, &mut sealer);
    let layouts = sealer.layouts;
    let own: BTreeSet<PackNumber> = layouts.keys().copied().chain([number]).collect();
    let taken = found
        .iter()
        .filter(|(_, chunk)| !own.contains(&chunk.pack))
        .map(|(id, chunk)| (*chunk, *id))
        .collect();
    Plan {
        draft,
        taken,
        layouts,
        naming: Naming::New,
        merge: None,
    }
}

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

/// Turns a draft to a state that another device won the race for. Nothing where it must be made anew from the files.
pub fn rebase(home: &mut Home, shared: &mut Shared, mut plan: Plan) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let known = dedup(&cache, &channels);
    let living = Living {
        base: &cache.base,
        layouts: &cache.layouts,
        view: &cache.views[&channels[0]],
    };
    let mut now_at = BTreeMap::new();
    let mut taken = BTreeMap::new();
    for (chunk, id) in &plan.taken {
        let here = match fate(*chunk, id, &cache.base.state, &known, &living) {
            Fate::Lives(here) => {
                shared.fates.moved += u64::from(here != *chunk);
                here
            }
            Fate::LetGo(here) => {
                shared.fates.let_go += 1;
                // Named again, unless the provider has said that it is freed.
                let reference = cache.base.state.pack(here.pack, channels[0])?;
                if home.not_held.contains(&(channels[0], reference)) {
                    shared.fates.lost += 1;
                    return None;
                }
                here
            }
            Fate::Lost => {
                shared.fates.lost += 1;
                return None;
            }
        };
        now_at.insert(*chunk, here);
        taken.insert(here, *id);
    }
    plan.taken = taken;
    if now_at.iter().any(|(was, is)| was != is) {
        let before = plan.draft.records.clone();
        turn(&mut plan.draft.records, &now_at);
        for (old, new) in before.iter().zip(&plan.draft.records) {
            if old != new {
                // The pack it ends in was sealed with the old references.
                shared.repeated.remove(&old.0);
            }
        }
        let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
        let piece = match &plan.draft.body {
            Body::Piece(piece) => piece.clone(),
            Body::Segments(_) => Piece::new(sealer.next_pack()),
        };
        plan.draft = draft(piece, plan.draft.records, &keys, &mut sealer);
    }
    Some(plan)
}

/// Returns what a commit changes of a channel's data packs.
pub fn data_changes(
    base: &Base,
    layouts: &BTreeMap<PackNumber, Rc<PackLayout>>,
    view: &ChannelView,
    plan: &Plan,
    channel: ChannelId,
) -> Vec<Change> {
    let demand = match plan.naming {
        Naming::New => new_demand(base, layouts, view, plan, channel),
        Naming::All | Naming::Exactly => Demand::of(&base.state),
    };
    let target: BTreeMap<ObjectRef, LiveMap> =
        prune::target(&demand, layouts.values().map(|layout| &**layout))
            .into_iter()
            .filter_map(|(number, live)| Some((base.state.pack(number, channel)?, live)))
            .collect();
    if plan.naming == Naming::Exactly {
        maimo_vault::candidate::name_exactly(&view.data, target)
    } else {
        maimo_vault::candidate::name_also(&view.data, target)
    }
    .expect("live maps of these lengths")
}

/// Returns what a draft refers to, and what a spilled tail has moved into a pack that no record of the draft names.
fn new_demand(
    base: &Base,
    layouts: &BTreeMap<PackNumber, Rc<PackLayout>>,
    view: &ChannelView,
    plan: &Plan,
    channel: ChannelId,
) -> Demand {
    let mut demand = Demand::default();
    for (_, record) in &plan.draft.records {
        if let Record::File { content, .. } = record {
            for chunk in base.state.resolve_all(content.extents()) {
                demand.add(chunk);
            }
        }
    }
    for layout in layouts.values() {
        let pack = base.state.pack(layout.number(), channel);
        if pack.is_some_and(|pack| view.data.entry(&pack.root).is_none()) {
            for (chunk, needed) in chunks_of(&base.state, layout) {
                if needed {
                    demand.add(chunk);
                }
            }
        }
    }
    demand
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
            PackKind::Data => maimo_core::custody::PackClass::Data,
            PackKind::Vital => maimo_core::custody::PackClass::Vital,
        };
        spooled.uploaded = true;
        let bytes = Rc::clone(&spooled.pack);
        return match shared.provider(channel).upload(&bytes.bytes, class, now) {
            Ok(()) => Followed::Uploaded,
            Err(_) => Followed::CannotYet,
        };
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
    let data = maimo_vault::candidate::name_exactly(&view.data, target).expect("the same geometry");
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
            home.seen.insert(channel, super::job::seen(&candidate));
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

/// Returns the batches of a segment that was sealed here.
pub fn open_segment(bytes: &[u8], keys: &StoreKeys, channel: ChannelId) -> Vec<Batch> {
    let chunks = sync::open_chunks(bytes, keys, channel, PackKind::Vital, None);
    let parsed = chunks.and_then(|chunks| {
        let batches = chunks.iter().map(|plaintext| Batch::parse(plaintext).ok());
        batches.collect::<Option<Vec<_>>>()
    });
    parsed.expect("just sealed")
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

/// Returns the index of chunks that need not be stored again.
pub fn dedup(cache: &Cache, channels: &[ChannelId]) -> DedupIndex {
    let layout = Layout {
        epoch: 0,
        channels: channels.to_vec(),
    };
    let live = |channel: ChannelId, pack: &ObjectRef| cache.views.get(&channel)?.live(pack);
    // A channel that has not followed yet is owed what it lacks.
    let mut state_layout = layout;
    let sequence = cache.base.sequence;
    let mut place = 0;
    state_layout.channels.retain(|channel| {
        place += 1;
        place == 1 || cache.shown.get(channel) == Some(&sequence)
    });
    let packs = cache.layouts.values().map(|layout| &**layout);
    DedupIndex::new(
        &cache.base.state,
        &state_layout,
        packs,
        &cache.base.tail,
        live,
    )
}

/// Writes records where they fit: into the tail or into segments. Chunks that were meant for the tail go into a pack with the latter.
pub fn draft(
    piece: Piece,
    records: Vec<(RecordId, Record)>,
    keys: &StoreKeys,
    sealer: &mut Sealer<'_>,
) -> Draft {
    let (piece, mut records) = match Draft::small(piece, records) {
        Ok(draft) => return draft,
        Err(too_large) => too_large,
    };
    let writer = SegmentWriter {
        id_key: &keys.journal,
        level: Level::new(1).expect("a level"),
    };
    if !piece.entries().is_empty() {
        let mut builder = PackBuilder::new(sealer.next_pack(), PackKind::Data);
        let number = builder.number();
        let mut now_at = BTreeMap::new();
        for (index, chunk) in (0..).zip(piece.chunks()) {
            let to = builder.push(chunk).expect("a piece fits a pack");
            let from = ChunkRef {
                pack: piece.number(),
                index,
            };
            now_at.insert(
                from,
                ChunkRef {
                    pack: number,
                    index: to,
                },
            );
        }
        turn(&mut records, &now_at);
        let repeat = Repeat::of_new(&records, number, 0);
        seal_packs(vec![(builder, repeat)], sealer, &mut records);
    }
    Draft::large(records, &writer, sealer)
}

/// Seals packs and adds where they are to `named`.
pub fn seal_packs(
    builders: Vec<(PackBuilder, Repeat)>,
    sealer: &mut Sealer<'_>,
    named: &mut Vec<(RecordId, Record)>,
) {
    for (mut builder, repeat) in builders {
        let number = builder.number();
        builder
            .set_records(repeat.encode())
            .expect("the model's packs stay small");
        for (channel, reference) in sealer.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            named.push((sealer.next_record(), record));
        }
    }
}

/// Compresses a chunk. The frame is leaked into the piece or pack at once, so one buffer serves all.
fn framed<'f>(chunk: &'f NewChunk, compressor: &'f mut Compressor<'_>) -> FramedChunk<'f> {
    let frame = compressor.compress(&chunk.plaintext, None);
    FramedChunk {
        id: chunk.id,
        chunk_type: ChunkType::Content,
        domain: Domain::default(),
        codec: frame.codec,
        dictionary: None,
        plaintext_length: u32::try_from(chunk.plaintext.len()).expect("a short chunk"),
        frame: frame.bytes,
    }
}

/// Returns the data packs that a channel lacks, opened at the first channel, to be sealed for it.
fn lacked(
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

/// Returns what a store's first commit says besides.
fn first_records(
    home: &Home,
    state: &State,
    keys: &StoreKeys,
    now: u64,
    policy: Option<Policy>,
) -> Vec<Record> {
    let mut records = Vec::new();
    if state.sources().all(|(source, _)| source != home.source) {
        records.push(Record::Source {
            source: home.source,
            label: format!("machine {now}"),
        });
    }
    if state.layout().1.is_empty() {
        for channel in keys.channels.keys() {
            records.push(Record::Channel {
                channel: *channel,
                auth: [0; 32],
                name: "provider".into(),
                addresses: Vec::new(),
                closed: false,
            });
        }
        records.push(Record::Layout {
            epoch: 1,
            channels: keys.first_layout(),
        });
        records.push(Record::Policy {
            pattern: String::new(),
            policy,
        });
    }
    records
}

fn event(home: &Home, number: u8, event: PathEvent) -> Record {
    Record::Path {
        source: home.source,
        path: path(number),
        event,
    }
}

/// Returns whether a known content is what the disk has.
pub fn same(known: &Content, on_disk: &[u8]) -> bool {
    match known {
        Content::Regular { blake3, .. } => blake3::hash(on_disk).as_bytes() == blake3,
        _ => false,
    }
}

/// Returns a pack's chunks and whether any kept revision needs them.
fn chunks_of(state: &State, layout: &PackLayout) -> Vec<(ChunkRef, bool)> {
    let demand = Demand::of(state);
    let needed: BTreeSet<u32> = demand.of_pack(layout.number()).collect();
    (0..)
        .zip(layout.entries())
        .map(|(index, _)| {
            let chunk = ChunkRef {
                pack: layout.number(),
                index,
            };
            (chunk, needed.contains(&index))
        })
        .collect()
}
