//! Reading what the channels show: from nothing but the phrase and the providers, or onto what was read before.

use core::ops::Range;
use std::{collections::BTreeMap, rc::Rc};

use maimo_core::{head::SignedHead, id::ChannelId, inventory::Inventory, reference::ObjectRef};
use maimo_vault::{
    candidate::ChannelView,
    commit::{Commit, StorePart},
    compose::{Base, Watermark},
    compress::Decompressor,
    descent::{Astray, Seen, accept},
    journal::{batch::Batch, state::State},
    layout::Layout,
    name::WriterId,
    pack::{OpenedTable, PackKeys, PackKind, open_pack},
    recover::{Choice, Shown, choose},
};

use super::{Cache, Home};
use crate::{
    keys::{EPOCH, StoreKeys},
    provider::Provider,
};

/// The providers that can be reached at the moment.
pub type Reachable<'a> = BTreeMap<ChannelId, &'a Provider>;

/// Why a device learns nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncError {
    /// The channel that decides cannot be reached.
    Offline,
    /// A channel shows a head that does not follow what was seen.
    Astray(ChannelId, Astray),
    /// A channel lacks bytes that its head names.
    Damaged(ChannelId),
}

/// What was read.
pub struct Synced {
    /// The store's newest state.
    pub cache: Cache,
    /// The roots read.
    pub seen: BTreeMap<ChannelId, Seen>,
    /// How the choice among channels came out.
    pub choice: Option<Choice>,
}

/// Reads the newest state, if the channel that decides shows it. `seen` and `known` are what the home has.
pub fn sync(
    providers: &Reachable<'_>,
    keys: &StoreKeys,
    seen: &BTreeMap<ChannelId, Seen>,
    known: Option<&Cache>,
) -> Result<Synced, SyncError> {
    let synced = read(providers, keys, seen, known, None)?;
    // Nothing may be built on what a channel shows that does not decide.
    let cache = &synced.cache;
    let decides = if let Some(first) = cache.layout().and_then(|layout| layout.first()) {
        cache.shown.get(&first) == Some(&cache.base.sequence)
    } else {
        let mut first = keys.first_layout().into_iter();
        first.all(|channel| providers.contains_key(&channel))
    };
    if decides {
        Ok(synced)
    } else {
        Err(SyncError::Offline)
    }
}

/// Reads the newest state that any of `providers` shows, or the one that `from` shows.
pub fn read(
    providers: &Reachable<'_>,
    keys: &StoreKeys,
    seen: &BTreeMap<ChannelId, Seen>,
    known: Option<&Cache>,
    from: Option<ChannelId>,
) -> Result<Synced, SyncError> {
    let mut commits: BTreeMap<ChannelId, Commit> = BTreeMap::new();
    let mut views: BTreeMap<ChannelId, ChannelView> = BTreeMap::new();
    let mut newly_seen = BTreeMap::new();
    for (channel, provider) in providers {
        let damaged = SyncError::Damaged(*channel);
        let channel_keys = &keys.channels[channel];
        let shown = provider.show();
        let signers = [channel_keys.client.public()];
        let head = match &shown {
            Some(shown) => Some(
                SignedHead::verify(&shown.head, *channel, &signers).map_err(|_| damaged.clone())?,
            ),
            None => None,
        };
        let last = seen.get(channel).copied();
        let proof = last.and_then(|last| provider.prove(last.sequence));
        accept(last, head.as_ref(), proof.as_ref())
            .map_err(|astray| SyncError::Astray(*channel, astray))?;
        let mut view = ChannelView::new(*channel);
        if let (Some(shown), Some(head)) = (shown, head) {
            if shown.ancestry.hash() != head.head().ancestry {
                return Err(damaged);
            }
            newly_seen.insert(*channel, Seen::of(&head));
            let mut load = |node: &ObjectRef| provider.node(node);
            let mut inventory = |reference| {
                Inventory::load(reference, u64::MAX, &mut load).map_err(|_| damaged.clone())
            };
            view.data = inventory(&head.head().data)?;
            view.vital = inventory(&head.head().vital)?;
            view.ancestry = shown.ancestry;
            if !head.head().commit.names(&shown.commit) {
                return Err(damaged);
            }
            let commit =
                Commit::open(&shown.commit, &channel_keys.commit).map_err(|_| damaged.clone())?;
            view.segments = commit
                .journal
                .iter()
                .map(|(segment, reference)| (segment.number, *reference))
                .collect();
            view.head = Some(head);
            commits.insert(*channel, commit);
        }
        views.insert(*channel, view);
    }
    let all_shown: BTreeMap<ChannelId, Shown> = commits
        .iter()
        .map(|(channel, commit)| {
            let view = &views[channel];
            let shown = Shown {
                sequence: view.sequence(),
                root: view.root(),
                store: commit.store.clone(),
            };
            (*channel, shown)
        })
        .collect();
    let choice = choose(&all_shown, None);
    let shown = all_shown
        .iter()
        .map(|(channel, shown)| (*channel, shown.store.sequence))
        .collect();
    let mut cache = Cache {
        base: Base::default(),
        store: None,
        joined: None,
        views,
        shown,
        layouts: BTreeMap::new(),
        segments: BTreeMap::new(),
    };
    if let Some(choice) = &choice {
        let channel = from.unwrap_or(choice.channel);
        if let Some(commit) = commits.get(&channel) {
            read_state(&mut cache, commit, providers, keys, channel, known)?;
        }
    }
    Ok(Synced {
        cache,
        seen: newly_seen,
        choice,
    })
}

/// Replays a commit's journal and reads the tables of the data packs.
fn read_state(
    cache: &mut Cache,
    commit: &Commit,
    providers: &Reachable<'_>,
    keys: &StoreKeys,
    channel: ChannelId,
    known: Option<&Cache>,
) -> Result<(), SyncError> {
    let damaged = || SyncError::Damaged(channel);
    let provider = providers[&channel];
    let mut state = State::default();
    let mut segments = Vec::new();
    for (segment, reference) in &commit.journal {
        let cached = known.and_then(|known| known.segments.get(&segment.number));
        let batches = match cached {
            Some(batches) => Rc::clone(batches),
            None => Rc::new(read_segment(provider, keys, reference).ok_or_else(damaged)?),
        };
        for batch in batches.iter() {
            for (stamp, record) in batch.clone().into_records(segment.sequence) {
                state.apply(stamp, record);
            }
        }
        cache.segments.insert(segment.number, batches);
        segments.push(*segment);
    }
    for tail in &commit.tail {
        let batch = Batch::parse(tail.piece.records()).map_err(|_| damaged())?;
        for (stamp, record) in batch.into_records(tail.sequence) {
            state.apply(stamp, record);
        }
    }
    let view = &cache.views[&channel];
    for (number, reference) in state.packs(channel) {
        let cached = known.and_then(|known| known.layouts.get(&number));
        // The table of a pack that was let go of is worth keeping: the pack may be named again. It is not worth fetching.
        if cached.is_none() && view.data.entry(&reference.root).is_none() {
            continue;
        }
        let layout = if let Some(layout) = cached {
            Rc::clone(layout)
        } else {
            let table = read_table(provider, keys, &reference, PackKind::Data);
            Rc::new(table.ok_or_else(damaged)?.layout)
        };
        cache.layouts.insert(number, layout);
    }
    cache.store = Some(commit.store.clone());
    cache.base = Base {
        sequence: commit.store.sequence,
        state,
        segments,
        tail: commit.tail.clone(),
    };
    Ok(())
}

/// Opens a pack's table, although groups of its chunks may be gone.
pub fn read_table(
    provider: &Provider,
    keys: &StoreKeys,
    reference: &ObjectRef,
    kind: PackKind,
) -> Option<OpenedTable> {
    let bytes = provider.pack(reference)?;
    let keys = PackKeys::new(&keys.channels[&provider.channel()], EPOCH, kind);
    open_pack(bytes, kind, keys).ok().map(|(_, table)| table)
}

/// Opens chunks of a pack, all where no indexes are given: their plaintext in order. Nothing if any does not open.
pub fn open_chunks(
    bytes: &[u8],
    keys: &StoreKeys,
    channel: ChannelId,
    kind: PackKind,
    indexes: Option<&[u32]>,
) -> Option<Vec<Vec<u8>>> {
    let pack_keys = PackKeys::new(&keys.channels[&channel], EPOCH, kind);
    let (reader, table) = open_pack(bytes, kind, pack_keys).ok()?;
    let mut decompressor = Decompressor::new();
    let all: Vec<u32> = (0..)
        .zip(table.layout.entries())
        .map(|(index, _)| index)
        .collect();
    let mut chunks = Vec::new();
    for index in indexes.unwrap_or(&all) {
        let range = table.layout.chunk_range(*index)?;
        let sealed = cut(bytes, &range)?;
        let entry = table.layout.entries().get(*index as usize)?;
        chunks.push(
            reader
                .open_chunk(entry, sealed, keys, &mut decompressor)
                .ok()?,
        );
    }
    Some(chunks)
}

/// Returns part of a pack's bytes.
pub fn cut(bytes: &[u8], range: &Range<u64>) -> Option<Vec<u8>> {
    let start = usize::try_from(range.start).ok()?;
    let end = usize::try_from(range.end).ok()?;
    bytes.get(start..end).map(<[u8]>::to_vec)
}

fn read_segment(
    provider: &Provider,
    keys: &StoreKeys,
    reference: &ObjectRef,
) -> Option<Vec<Batch>> {
    let bytes = provider.pack(reference)?;
    let chunks = open_chunks(bytes, keys, provider.channel(), PackKind::Vital, None)?;
    chunks
        .iter()
        .map(|plaintext| Batch::parse(plaintext).ok())
        .collect()
}

impl Home {
    /// Takes in what was read, where all up to `committed` is this installation's own. Returns whether a twin has written under its name: then
    /// it takes another.
    pub fn take_in(
        &mut self,
        synced: Synced,
        committed: Watermark,
        new_writer: impl FnOnce() -> WriterId,
    ) -> bool {
        let found = synced.cache.base.watermark(self.writer);
        for (channel, seen) in &synced.seen {
            self.seen.insert(*channel, *seen);
        }
        self.cache = Some(Rc::new(synced.cache));
        self.committed = committed;
        let has_twin = found.is_beyond(&committed);
        if has_twin {
            self.writer = new_writer();
            self.next = Watermark::default();
            self.committed = Watermark::default();
            self.spool.clear();
        }
        has_twin
    }
}

/// Returns the channels of the layout, or those it will begin with, in order.
pub fn layout_channels(cache: &Cache, keys: &StoreKeys) -> Vec<ChannelId> {
    cache
        .layout()
        .unwrap_or(Layout {
            epoch: 0,
            channels: keys.first_layout(),
        })
        .channels
}

/// Returns the store's part of the commit after `cache`.
pub fn next_store_part(cache: &Cache, home: &Home, keys: &StoreKeys, next: &Base) -> StorePart {
    StorePart {
        store: keys.store,
        sequence: next.sequence,
        parents: cache
            .store
            .iter()
            .chain(&cache.joined)
            .map(|store| store.name(&keys.commits))
            .collect(),
        writer: home.writer,
        run: None,
        layout_epoch: next.state.layout().0,
        witnesses: home
            .seen
            .iter()
            .map(|(channel, seen)| maimo_vault::commit::Witness {
                channel: *channel,
                sequence: seen.sequence,
                root: seen.root,
            })
            .collect(),
    }
}
