//! Bringing the catalog to a commit: the records of fresh segments and tail pieces, in order, in one transaction.
//!
//! Sealed segments come from the journal cache, or from the provider into it. The same path serves a catalog that is a commit behind, one
//! that was deleted, and recovery.

use std::collections::{HashMap, HashSet};

use maimo_core::{
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    commit::{Commit, Segment},
    compose::{Base, Watermark},
    demand::Demand,
    journal::{
        batch::{Batch, Stamp},
        part::Part,
        record::Record,
        state::State,
    },
    keys::ChannelKeys,
    name::{PackNumber, RecordId, WriterId},
    pack::{PackKeys, PackKind, open_pack},
};

use crate::{
    catalog::{CatalogError, Position, TakeIn},
    engine::{Engine, auth_key},
    error::ClientError,
    journal_cache::open_segment,
    journal_reader::JournalReader,
    keys::{EPOCH, Opening, channel_keys},
    progress::Control,
    session::OpenChannel,
};

/// Set while the catalog is at a state that is not yet the one last seen.
const REPAIRING: &str = "repairing";
/// How many bytes of sealed segments are opened at once without looking at their order first.
const AT_ONCE_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl Engine {
    /// Brings the catalog to the last commit seen of the first channel, if it is not there: it was deleted, or a crash came between the receipt
    /// and the catalog.
    pub(crate) fn refresh_catalog(&mut self, control: &Control) -> Result<(), ClientError> {
        if self.node.flag(REPAIRING)? {
            // A repair was cut off: the catalog may be at the branch that a provider showed.
            self.catalog.reset()?;
            self.node.set_flag(REPAIRING, false)?;
        }
        let known = match self.catalog.reader()?.store_layout()? {
            Some(layout) => layout.first(),
            // Whichever was seen to show the newest state.
            None => self.newest_seen(None)?,
        };
        let Some(known) = known else {
            return Ok(());
        };
        let Some(commit) = self.commit_seen(known)? else {
            return Ok(());
        };
        self.catch_up(&known, &commit, None, control).map(drop)
    }

    /// Returns the commit that a channel was last seen to show.
    pub(crate) fn commit_seen(&self, id: ChannelId) -> Result<Option<Commit>, ClientError> {
        let Some(row) = self.node.seen(id)? else {
            return Ok(None);
        };
        let (_, keys) = self.keys_of(id)?;
        let commit = Commit::open(&row.commit, &keys.commit);
        commit
            .map(Some)
            .map_err(|error| ClientError::Corrupt(error.to_string()))
    }

    /// Returns the channel, of those that are known, that was seen to show the newest state of the store: `rather`, if none shows a newer one.
    pub(crate) fn newest_seen(
        &self,
        rather: Option<ChannelId>,
    ) -> Result<Option<ChannelId>, ClientError> {
        let seen = self.node.all_seen()?.into_iter().map(|(id, _)| id);
        let mut newest = None;
        for id in rather.into_iter().chain(seen) {
            // A recovery that was cut off may have seen a channel that it had not written down yet. The next one begins again.
            match self.channel_row(id) {
                Err(ClientError::NoChannel(_)) => continue,
                known => drop(known?),
            }
            let Some(commit) = self.commit_seen(id)? else {
                continue;
            };
            let shown = (commit.store.layout_epoch, commit.store.sequence);
            if newest.is_none_or(|(most, _)| shown > most) {
                newest = Some((shown, id));
            }
        }
        Ok(newest.map(|(_, id)| id))
    }

    /// Brings the catalog to `commit` of channel `id`; what the journal cache lacks comes from `channel`, which is connected to if it is not
    /// given and needed. Returns whether a twin has written under this writer's name.
    pub(crate) fn catch_up(
        &mut self,
        id: &ChannelId,
        commit: &Commit,
        channel: Option<&OpenChannel>,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let known = self.catalog.position()?;
        if known.store.as_ref() == Some(&commit.store) {
            return Ok(false);
        }
        self.fetch_segments(id, commit, channel, control)?;
        // Of another branch, or beyond what is shown: a view of something else. Under another layout it may be either, unless it is the parent.
        let is_parent = known.store.as_ref().is_none_or(|store| {
            store.layout_epoch == commit.store.layout_epoch
                || commit
                    .store
                    .parents
                    .contains(&store.name(&self.keys.commits))
        });
        let follows = is_parent && known.sequence < commit.store.sequence;
        if !follows {
            self.catalog.reset()?;
        }
        let (found, taken) = self.take_in_commit(id, commit)?;
        if let Err(error) = taken {
            if !error.wants_rebuild() {
                return Err(error.into());
            }
            self.rebuild_catalog()?;
            let (_, again) = self.take_in_commit(id, commit)?;
            again?;
        }
        self.sweep_journal()?;
        self.look_for_twin(found)
    }

    /// Brings the catalog to a state that does not follow what it was at, as `sequence`, and keeps all that is cached of the journal: what was
    /// known before is not forgotten until something is acknowledged on top of this.
    pub(crate) fn stand_on(
        &mut self,
        id: ChannelId,
        commit: Option<&Commit>,
        sequence: u64,
    ) -> Result<(), ClientError> {
        self.node.set_flag(REPAIRING, true)?;
        self.catalog.reset()?;
        if let Some(commit) = commit {
            let (found, taken) = self.take_in_commit(&id, commit)?;
            taken?;
            self.look_for_twin(found)?;
        }
        let mut position = self.catalog.position()?;
        position.sequence = position.sequence.max(sequence);
        let with = TakeIn {
            position: &position,
            local: &HashMap::new(),
            layouts: &[],
            vanished: &[],
        };
        self.catalog.take_in(Vec::<(Stamp, Record)>::new(), &with)?;
        Ok(())
    }

    /// Notes that the catalog is at what was last seen again.
    pub(crate) fn stands_again(&self) -> Result<(), ClientError> {
        self.node.set_flag(REPAIRING, false)
    }

    /// Sets a damaged catalog aside and begins an empty one.
    pub(crate) fn rebuild_catalog(&mut self) -> Result<(), ClientError> {
        self.catalog = crate::catalog::Catalog::replace(&self.home.catalog())?;
        Ok(())
    }

    pub(crate) fn fetch_segments(
        &mut self,
        id: &ChannelId,
        commit: &Commit,
        channel: Option<&OpenChannel>,
        control: &Control,
    ) -> Result<(), ClientError> {
        let missing: Vec<ObjectRef> = commit
            .journal
            .iter()
            .map(|(_, reference)| *reference)
            .filter(|reference| !self.journal.has(reference))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let opened;
        let channel = if let Some(channel) = channel {
            channel
        } else {
            opened = self.channel(*id)?;
            &*opened
        };
        let mut rest = &missing[..];
        while !rest.is_empty() {
            control.check()?;
            let mut bytes = 0;
            let count = rest.iter().take_while(|pack| {
                bytes += pack.length;
                bytes <= AT_ONCE_BYTES_MAX
            });
            let (some, after) = rest.split_at(count.count().max(1));
            let fetched = channel.fetch_whole(some).inspect_err(|error| {
                self.look_into_whole(channel, PackKind::Vital, some, error);
            })?;
            for (reference, bytes) in some.iter().zip(fetched) {
                self.journal.put(reference, &bytes)?;
            }
            rest = after;
        }
        Ok(())
    }

    /// Takes in what is fresh of a commit. Returns besides how far the fresh records speak of this writer's names.
    fn take_in_commit(
        &mut self,
        id: &ChannelId,
        commit: &Commit,
    ) -> Result<(Watermark, Result<u64, CatalogError>), ClientError> {
        let known = self.catalog.position()?;
        let position = position_of(commit);
        let (_, keys) = self.keys_of(*id)?;
        let is_fresh = |segment: &Segment| !known.segments.contains(segment);
        let fresh: Vec<(Segment, ObjectRef)> = commit
            .journal
            .iter()
            .filter(|(segment, _)| is_fresh(segment))
            .copied()
            .collect();
        let gone: Vec<PackNumber> = known
            .segments
            .iter()
            .filter(|segment| !position.segments.contains(segment))
            .map(|segment| segment.number)
            .collect();
        let Some(vanished) = self.records_in(&gone, &commit.journal, &keys)? else {
            // A view that cannot be brought on is built anew.
            return Ok((
                Watermark::default(),
                Err(CatalogError::Behind { sequence: 0 }),
            ));
        };
        let writer = self.node.writer();
        let mut found = Watermark::default();
        let mut tail: Vec<(Stamp, Record)> = Vec::new();
        for piece in &commit.tail {
            if known
                .tail
                .iter()
                .any(|old| old.piece.number() == piece.piece.number())
            {
                continue;
            }
            let batch = Batch::parse(piece.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            tail.extend(batch.into_records(piece.sequence));
        }
        let mut seen_names = |records: &[(Stamp, Record)]| {
            note(&mut found, writer, records);
        };
        seen_names(&tail);
        let named = Base {
            segments: position.segments.clone(),
            tail: position.tail.clone(),
            ..Base::default()
        };
        let local = HashMap::new();
        let with = TakeIn {
            position: &position,
            local: &local,
            layouts: &[],
            vanished: &vanished,
        };
        let bytes: u64 = fresh.iter().map(|(_, pack)| pack.length).sum();
        let taken = if fresh.len() <= 1 || bytes <= AT_ONCE_BYTES_MAX {
            let mut records = tail;
            for (segment, pack) in &fresh {
                let opened = self.records_of(*segment, pack, &keys)?;
                seen_names(&opened);
                records.extend(opened);
            }
            records.sort_by_key(|(stamp, _)| *stamp);
            self.catalog.take_in(records, &with)
        } else {
            let reader = JournalReader {
                cache: &self.journal,
                store: &self.keys,
                channel: &keys,
            };
            let stretches = reader.survey(&fresh, seen_names)?;
            let mut merged = reader.merged(tail, stretches);
            let taken = self.catalog.take_in(merged.by_ref(), &with);
            if let Err(changed) = merged.check() {
                // It opened a moment ago. What was taken in is not all of it.
                self.catalog.reset()?;
                return Err(changed);
            }
            taken
        };
        let by_number = named.watermark(writer);
        found.packs = found.packs.max(by_number.packs);
        Ok((found, taken))
    }

    /// Returns what the kept revisions of `next` need: those in its state, which may be a part, and those in its segments and tail that the
    /// journal cache has. Segments that are not written yet are of records that the state has.
    pub(crate) fn demand_of(
        &self,
        next: &Base,
        first: &OpenChannel,
    ) -> Result<Demand, ClientError> {
        let mut demand = Demand::of(&next.state);
        let Some(view) = self.view(first.id) else {
            return Ok(demand);
        };
        let reader = self.journal_reader(&first.keys);
        for segment in &next.segments {
            if let Some(pack) = view.segments.get(&segment.number) {
                reader.each(*segment, pack, |stamp, record| {
                    demand.add_revision(&next.state, stamp.id, &record);
                    Ok(())
                })?;
            }
        }
        for tail in &next.tail {
            let batch = Batch::parse(tail.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            for (stamp, record) in batch.records() {
                demand.add_revision(&next.state, stamp.id, record);
            }
        }
        Ok(demand)
    }

    fn records_of(
        &self,
        segment: Segment,
        pack: &ObjectRef,
        keys: &ChannelKeys,
    ) -> Result<Vec<(Stamp, Record)>, ClientError> {
        let batches = self.batches(pack, keys)?;
        Ok(in_order(batches, segment))
    }

    /// Opens the batches of a segment in the journal cache.
    pub(crate) fn batches(
        &self,
        pack: &ObjectRef,
        keys: &ChannelKeys,
    ) -> Result<Vec<Batch>, ClientError> {
        let torn = || ClientError::Corrupt(format!("journal segment {} is torn", pack.root));
        let bytes = self.journal.get(pack).ok_or_else(torn)?;
        let context = Opening {
            keys: &self.keys,
            dictionaries: &HashMap::new(),
        };
        let keys = PackKeys::new(keys, EPOCH, PackKind::Vital);
        open_segment(&bytes, keys, &context).map_err(|_| torn())
    }

    /// Returns the names of the records in segments that a commit no longer lists, from what the cache still has; nothing where it lacks one.
    fn records_in(
        &self,
        gone: &[PackNumber],
        listed: &[(Segment, ObjectRef)],
        keys: &ChannelKeys,
    ) -> Result<Option<Vec<RecordId>>, ClientError> {
        let mut left: HashSet<PackNumber> = gone.iter().copied().collect();
        if left.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let listed: HashSet<RootHash> = listed.iter().map(|(_, pack)| pack.root).collect();
        let mut ids = Vec::new();
        for pack in self.journal.packs()? {
            if listed.contains(&pack.root) {
                continue;
            }
            // Dictionaries and what is torn do not open as segments.
            let Some(bytes) = self.journal.get(&pack) else {
                continue;
            };
            let pack_keys = PackKeys::new(keys, EPOCH, PackKind::Vital);
            let Ok((_, table)) = open_pack(&bytes, PackKind::Vital, pack_keys) else {
                continue;
            };
            if left.remove(&table.layout.number()) {
                for batch in self.batches(&pack, keys)? {
                    ids.extend(batch.records().iter().map(|(stamp, _)| stamp.id));
                }
            }
        }
        Ok(left.is_empty().then_some(ids))
    }

    /// Removes from the journal cache what no channel's head and no dictionary names.
    pub(crate) fn sweep_journal(&self) -> Result<(), ClientError> {
        let mut kept: HashSet<RootHash> = HashSet::new();
        for id in self.layout()? {
            let Some(view) = self.view(id) else {
                // Of a mirror that was not read yet nobody knows what is its.
                return Ok(());
            };
            kept.extend(view.vital.entries().map(|entry| entry.pack().root));
            let ahead = self.ahead.get(&id).into_iter().flatten();
            kept.extend(ahead.map(|(_, pack)| pack.root));
        }
        self.journal.sweep(&kept)
    }

    /// Returns the id and the keys of a channel, without connecting to it.
    pub(crate) fn keys_of(&self, id: ChannelId) -> Result<(ChannelId, ChannelKeys), ClientError> {
        let row = self.channel_row(id)?;
        Ok(channel_keys(&self.secret, &auth_key(&row)?))
    }

    /// Returns what reads the segments in the journal cache.
    pub(crate) fn journal_reader<'a>(&'a self, keys: &'a ChannelKeys) -> JournalReader<'a> {
        JournalReader {
            cache: &self.journal,
            store: &self.keys,
            channel: keys,
        }
    }

    /// Replays the whole journal from the cache onto the newest state that was read: for what the rules need everything for. Dear: a store
    /// of a million files takes gigabytes.
    pub(crate) fn replay(&mut self) -> Result<Base, ClientError> {
        self.replay_by(State::apply)
    }

    /// As [`Self::replay`], but of revisions and events only those in `part`.
    pub(crate) fn replay_part(&mut self, part: &Part) -> Result<Base, ClientError> {
        self.replay_by(|state, stamp, record| state.apply_part(part, stamp, record))
    }

    /// As [`Self::replay`], with another way to take in each record.
    pub(crate) fn replay_by(
        &mut self,
        mut apply: impl FnMut(&mut State, Stamp, Record),
    ) -> Result<Base, ClientError> {
        let first = self.first()?;
        let commit = self
            .shown
            .get(&first.id)
            .and_then(|shown| shown.commit.clone());
        let Some(commit) = commit else {
            // Beyond 0 where a repair stands on a channel that shows nothing any more.
            let sequence = self.catalog.position()?.sequence;
            return Ok(Base {
                sequence,
                ..Base::default()
            });
        };
        self.fetch_segments(&first.id, &commit, Some(&first), &Control::default())?;
        let mut state = State::default();
        for (segment, pack) in &commit.journal {
            let mut each = |state: &mut State, reader: JournalReader<'_>| {
                reader.each(*segment, pack, |stamp, record| {
                    apply(state, stamp, record);
                    Ok(())
                })
            };
            match each(&mut state, self.journal_reader(&first.keys)) {
                Ok(()) => {}
                Err(ClientError::Corrupt(_)) => {
                    // Torn in the cache: the provider has it whole. What was taken in of it already changes nothing the second time.
                    for bytes in first.fetch_whole(&[*pack])? {
                        self.journal.put(pack, &bytes)?;
                    }
                    each(&mut state, self.journal_reader(&first.keys))?;
                }
                Err(error) => return Err(error),
            }
        }
        for piece in &commit.tail {
            let batch = Batch::parse(piece.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            for (stamp, record) in batch.into_records(piece.sequence) {
                apply(&mut state, stamp, record);
            }
        }
        let position = position_of(&commit);
        // A repair goes on from a later state than the one that it builds on.
        let sequence = position.sequence.max(self.catalog.position()?.sequence);
        Ok(Base {
            sequence,
            state,
            segments: position.segments,
            tail: position.tail,
        })
    }
}

/// Returns where a commit brings the catalog.
pub(crate) fn position_of(commit: &Commit) -> Position {
    let segments = commit.journal.iter().map(|(segment, _)| *segment);
    Position {
        sequence: commit.store.sequence,
        store: Some(commit.store.clone()),
        segments: segments.collect(),
        tail: commit.tail.clone(),
    }
}

/// Raises `found` to how far records speak of a writer's names: a part at a time of what the whole state would say.
fn note(found: &mut Watermark, writer: WriterId, records: &[(Stamp, Record)]) {
    // Only what names something of this writer's is replayed, a few records at a time: a state of everything would not be small.
    for some in records.chunks(1024) {
        let mut state = State::default();
        for (stamp, record) in some {
            let foreign_file = matches!(record, Record::File { .. } | Record::Path { .. })
                && stamp.id.writer != writer;
            if !foreign_file {
                state.apply(*stamp, record.clone());
            }
        }
        let base = Base {
            state,
            ..Base::default()
        };
        let here = base.watermark(writer);
        found.records = found.records.max(here.records);
        found.packs = found.packs.max(here.packs);
    }
}

fn in_order(batches: Vec<Batch>, segment: Segment) -> Vec<(Stamp, Record)> {
    let mut records: Vec<(Stamp, Record)> = batches
        .into_iter()
        .flat_map(|batch| batch.into_records(segment.sequence))
        .collect();
    // A merge's segment holds one run of records after another.
    records.sort_by_key(|(stamp, _)| *stamp);
    records
}
