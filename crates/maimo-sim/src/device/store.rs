//! Storing: what changed on the disk becomes a draft.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::{
    compose::Sealing,
    compress::{Compressor, Level},
    dedup::DedupIndex,
    journal::{
        content::{ChunkExtent, Content},
        metadata::{FileTime, Metadata},
        record::{PathEvent, Record},
        repeat::Repeat,
        state::{Presence, State, newest},
    },
    layout::Layout,
    name::{ChunkId, ChunkRef, ChunkType, Domain, PackNumber, RecordId},
    pack::{FramedChunk, PackBuilder, PackKind, Piece},
    retention::Policy,
};

use super::{
    Cache, Disk, Home, Sealer,
    draft::{draft, seal_packs},
    follow::lacked,
    job::{Naming, Plan},
    path, sync,
};
use crate::{keys::StoreKeys, world::Shared};

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
        let newest = newest(entries);
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
