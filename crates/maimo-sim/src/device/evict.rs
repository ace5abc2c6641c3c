//! Deleting local copies, in the order that loses nothing: possession proven on every channel, `evicted` committed and acknowledged by all,
//! an intent written down, the file renamed aside, hashed again, unlinked. On any doubt it is renamed back.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_vault::{
    compose::Sealing as _,
    journal::{
        record::{PathEvent, Record},
        state::Presence,
    },
    name::RecordId,
    pack::{PackKind, Piece},
};

use super::{
    Device, Disk, Home, Sealer, draft,
    job::{Naming, Outcome, Plan, Stage},
    path, store, sync,
};
use crate::world::Shared;

/// Returns those of `wanted` whose bytes every channel proves to hold, with the revision proven.
pub fn proven(
    home: &Home,
    disk: &Disk,
    shared: &mut Shared,
    wanted: &BTreeSet<u8>,
) -> BTreeMap<u8, RecordId> {
    let Some(cache) = home.cache.as_ref() else {
        return BTreeMap::new();
    };
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(cache, &keys);
    if channels
        .iter()
        .any(|channel| !shared.is_reachable(*channel))
    {
        return BTreeMap::new();
    }
    let state = &cache.base.state;
    let mut proven = BTreeMap::new();
    for number in wanted {
        let Some(content) = disk.files.get(number) else {
            continue;
        };
        let newest = state.newest(home.source, &path(*number));
        let Some((id, _, known, Presence::Present)) = newest else {
            continue;
        };
        if !store::same(known, content) {
            continue;
        }
        let in_tail = |pack| {
            cache
                .base
                .tail
                .iter()
                .any(|tail| tail.piece.number() == pack)
        };
        let chunks: Vec<_> = state.resolve_all(known.extents()).collect();
        // The model's digest of a group is one of the bytes as they would be read; what differs is read and opened.
        let all_there = channels.iter().all(|channel| {
            let provider = &shared.providers[channel];
            chunks.iter().all(|chunk| {
                if in_tail(chunk.pack) {
                    return true;
                }
                let Some(pack) = state.pack(chunk.pack, *channel) else {
                    return false;
                };
                let opened = provider.pack(&pack).and_then(|bytes| {
                    let indexes = [chunk.index];
                    sync::open_chunks(bytes, &keys, *channel, PackKind::Data, Some(&indexes))
                });
                opened.is_some()
            })
        });
        if all_there {
            proven.insert(*number, id);
        }
    }
    proven
}

/// Makes the draft that records evictions; nothing where none is possible any more.
pub fn plan(home: &mut Home, shared: &mut Shared, paths: &BTreeMap<u8, RecordId>) -> Option<Plan> {
    let cache = Rc::clone(home.cache.as_ref()?);
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(&cache, &keys);
    let source = home.source;
    let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
    let mut records = Vec::new();
    for (number, revision) in paths {
        let newest = cache.base.state.newest(source, &path(*number));
        let still = newest
            .is_some_and(|(id, .., presence)| id == *revision && presence == Presence::Present);
        if still {
            let record = Record::Path {
                source,
                path: path(*number),
                event: PathEvent::Evicted,
            };
            records.push((sealer.next_record(), record));
        }
    }
    if records.is_empty() {
        return None;
    }
    let piece = Piece::new(sealer.next_pack());
    let draft = draft::draft(piece, records, &keys, &mut sealer);
    Some(Plan {
        draft,
        taken: BTreeMap::new(),
        layouts: sealer.layouts,
        naming: Naming::New,
        merge: None,
    })
}

impl Device {
    /// First writes down what is to be set aside; then, one by one, does it.
    pub(super) fn set_aside_step(&mut self) -> Outcome {
        let job = self.home.job.as_mut().expect("a step has a job");
        let super::job::Purpose::Evict { paths } = &job.purpose else {
            return Outcome::Done;
        };
        let paths: BTreeSet<u8> = paths.keys().copied().collect();
        if self.home.intents != paths {
            self.home.intents = paths;
            return Outcome::Going;
        }
        let next = paths.iter().find(|number| {
            self.disk.files.contains_key(number) && !self.disk.aside.contains_key(number)
        });
        match next {
            Some(number) => {
                if let Some(content) = self.disk.files.remove(number) {
                    self.disk.aside.insert(*number, content);
                }
            }
            None => job.stage = Stage::Unlink,
        }
        Outcome::Going
    }

    /// Unlinks what is set aside if it is still what was proven, else puts it back; then forgets the intents.
    pub(super) fn unlink_step(&mut self, shared: &mut Shared) -> Outcome {
        let job = self.home.job.as_ref().expect("a step has a job");
        let super::job::Purpose::Evict { paths } = &job.purpose else {
            return Outcome::Done;
        };
        let Some((number, content)) = self.disk.aside.first_key_value() else {
            self.home.intents.clear();
            self.end_job();
            return Outcome::Done;
        };
        let (number, content) = (*number, Rc::clone(content));
        let cache = self
            .home
            .cache
            .as_ref()
            .expect("an evicting job has a cache");
        let newest = cache.base.state.newest(self.home.source, &path(number));
        let proven = newest.is_some_and(|(id, _, known, presence)| {
            paths.get(&number) == Some(&id)
                && presence == Presence::Evicted
                && store::same(known, &content)
        });
        self.disk.aside.remove(&number);
        if proven {
            shared.unlinked(self.home.source, number, &content);
        } else {
            put_back(&mut self.disk, number, content);
        }
        Outcome::Going
    }

    /// Renames back what a crash left aside, before anything is scanned; never over a new file.
    pub(super) fn put_back(&mut self) {
        for number in core::mem::take(&mut self.home.intents) {
            if let Some(content) = self.disk.aside.remove(&number) {
                put_back(&mut self.disk, number, content);
            }
        }
    }
}

fn put_back(disk: &mut Disk, number: u8, content: Rc<Vec<u8>>) {
    let mut free = number;
    while disk.files.contains_key(&free) {
        free = free.wrapping_add(50);
    }
    disk.files.insert(free, content);
}
