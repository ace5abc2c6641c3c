//! What must stand after every step, whatever happened.

use std::{collections::BTreeMap, rc::Rc};

use maimo_core::{
    audit::{self, AuditedHead, Challenge},
    head::SignedHead,
    id::ChannelId,
    identity::Signature,
};
use maimo_vault::{
    compress::Decompressor,
    journal::{
        content::Content,
        repeat::{Repeat, rebuild},
    },
    name::{ChunkId, ChunkRef, RecordId},
    pack::PackKind,
};

use crate::{
    device::{Cache, sync},
    world::Shared,
};

/// Checks everything. Panics with what is wrong.
pub fn check(shared: &mut Shared) {
    for provider in shared.providers.values() {
        assert_eq!(
            provider.totals(),
            provider.recomputed(),
            "running totals are not the sums of the rows"
        );
    }
    let channels = each_channel(shared);
    let newest = channels.iter().map(|(_, cache)| cache.base.sequence).max();
    for (channel, cache) in &channels {
        let state = &cache.base.state;
        for (id, _) in state.kept_revisions() {
            opens(shared, *channel, cache, id);
        }
        if Some(cache.base.sequence) == newest {
            for id in &shared.admitted {
                assert!(
                    shared.dropped.contains(id) || (state.knows(*id) && state.is_kept(*id)),
                    "an acknowledged revision is gone and nobody dropped it"
                );
            }
        }
        packs_alone(shared, *channel, cache);
    }
    audits_pass(shared);
}

/// Returns what each channel shows on its own, to who has nothing but the phrase.
pub fn each_channel(shared: &Shared) -> Vec<(ChannelId, Cache)> {
    let mut all = Vec::new();
    for (channel, provider) in &shared.providers {
        if provider.show().is_none() {
            continue;
        }
        let alone = BTreeMap::from([(*channel, provider)]);
        let read = sync::read(&alone, &shared.keys, &BTreeMap::new(), None, None)
            .unwrap_or_else(|error| panic!("a channel cannot be read alone: {error:?}"));
        all.push((*channel, read.cache));
    }
    all
}

/// Checks that a kept revision opens to its bytes from one channel.
pub fn opens(shared: &Shared, channel: ChannelId, cache: &Cache, id: RecordId) {
    let state = &cache.base.state;
    let content = state
        .kept_revisions()
        .find_map(|(kept, content)| (kept == id).then_some(content))
        .expect("the revision is kept");
    let Content::Regular { chunks, blake3, .. } = content else {
        return;
    };
    let provider = &shared.providers[&channel];
    let view = &cache.views[&channel];
    let mut bytes: Vec<u8> = Vec::new();
    for chunk in state.resolve_all(chunks) {
        let mut tail = cache.base.tail.iter();
        if let Some(tail) = tail.find(|tail| tail.piece.number() == chunk.pack) {
            let opened =
                tail.piece
                    .open_chunk(chunk.index, &*shared.keys, &mut Decompressor::new());
            bytes.extend(opened.expect("it has that chunk").expect("a piece opens"));
            continue;
        }
        let pack = state
            .pack(chunk.pack, channel)
            .unwrap_or_else(|| panic!("{chunk:?} of a kept revision is in no pack of the channel"));
        let layout = &cache.layouts[&chunk.pack];
        let needed = layout.live_map([chunk.index]).expect("the chunk is there");
        let live = view.live(&pack).expect("the pack is named");
        assert!(
            live.contains_all(&needed),
            "{chunk:?} is needed and not live"
        );
        let held = provider.held(&pack).expect("a named pack is held");
        assert!(held.contains_all(live), "a named group is not held");
        let on_disk = provider.pack(&pack).expect("a held pack is there");
        let indexes = [chunk.index];
        let opened = sync::open_chunks(
            on_disk,
            &shared.keys,
            channel,
            PackKind::Data,
            Some(&indexes),
        );
        bytes.extend(opened.expect("a live chunk opens").concat());
    }
    assert!(
        blake3::hash(&bytes).as_bytes() == blake3,
        "other bytes came back"
    );
    let owed: &Rc<Vec<u8>> = &shared.contents[&id];
    assert!(**owed == bytes, "the bytes of another revision came back");
}

/// Checks that data packs alone, without a journal, rebuild every kept file that has no chunk in the tail.
fn packs_alone(shared: &Shared, channel: ChannelId, cache: &Cache) {
    let provider = &shared.providers[&channel];
    let mut repeats = Vec::new();
    for (number, reference) in cache.base.state.packs(channel) {
        if cache.layouts.contains_key(&number) {
            let table = sync::read_table(provider, &shared.keys, &reference, PackKind::Data);
            let records = table.expect("a named pack opens").records;
            repeats.extend(Repeat::parse(&records).expect("the records of a pack"));
        }
    }
    let rebuilt = rebuild(repeats, |chunk| {
        let layout = cache.layouts.get(&chunk.pack);
        layout.is_some_and(|layout| (chunk.index as usize) < layout.entries().len())
    });
    let in_tail = |pack| {
        cache
            .base
            .tail
            .iter()
            .any(|tail| tail.piece.number() == pack)
    };
    let known: BTreeMap<RecordId, &Content> = rebuilt
        .paths()
        .values()
        .flatten()
        .filter_map(|(stamp, entry)| match entry {
            maimo_vault::journal::state::Entry::Revision { content, .. } => {
                Some((stamp.id, content))
            }
            maimo_vault::journal::state::Entry::Event(_) => None,
        })
        .collect();
    for (id, content) in cache.base.state.kept_revisions() {
        let chunks: Vec<_> = cache.base.state.resolve_all(content.extents()).collect();
        // Where all of a file was known before, nothing was sealed that could repeat its record.
        if !shared.repeated.contains(&id) || chunks.iter().any(|chunk| in_tail(chunk.pack)) {
            continue;
        }
        let found = known
            .get(&id)
            .unwrap_or_else(|| panic!("no pack repeats the record of {id:?}"));
        // The same chunks, wherever: a repair may have left two places for one.
        let ids = |chunks: &[ChunkRef]| -> Option<Vec<ChunkId>> {
            let entry = |chunk: &ChunkRef| {
                let layout = cache.layouts.get(&chunk.pack)?;
                Some(layout.entries().get(chunk.index as usize)?.id)
            };
            chunks.iter().map(entry).collect()
        };
        let alone: Vec<_> = rebuilt.resolve_all(found.extents()).collect();
        assert!(
            ids(&alone).is_some() && ids(&alone) == ids(&chunks),
            "packs alone lead elsewhere than the journal"
        );
    }
}

/// Checks that an audit of every living block passes.
fn audits_pass(shared: &mut Shared) {
    for failed in audit_all(shared).values() {
        assert!(!failed, "an audit of an intact store failed");
    }
}

/// Audits every living block of every channel; says of each whether it failed.
pub fn audit_all(shared: &mut Shared) -> BTreeMap<ChannelId, bool> {
    let mut outcomes = BTreeMap::new();
    let keys = Rc::clone(&shared.keys);
    for (channel, provider) in &mut shared.providers {
        let Some(shown) = provider.show() else {
            continue;
        };
        let signers = [keys.channels[channel].client.public()];
        let head = SignedHead::verify(&shown.head, *channel, &signers).expect("a signed head");
        let view = |head: &SignedHead| AuditedHead {
            data: head.head().data,
            vital: head.head().vital,
            commit: head.head().commit,
        };
        let challenge = Challenge::draw(&mut shared.rng, head.root(), &view(&head), 4096);
        let answer = provider
            .answer(&challenge)
            .expect("the newest root is owed");
        let report = audit::check(
            &challenge,
            &answer,
            |head, signature: &[u8; Signature::LENGTH]| {
                let signed = [head, &signature[..]].concat();
                let signed = SignedHead::verify(&signed, *channel, &signers).ok()?;
                Some(view(&signed))
            },
        );
        let failed = report.map_or(true, |report| !report.is_intact());
        outcomes.insert(*channel, failed);
    }
    outcomes
}
