//! [`State`]: what replaying the journal gives.
//!
//! Replay is a set merge: records may come in any order and more than once, and the state is the same. Where two records disagree, the
//! later [`Stamp`] wins. This is the in-memory form, for one batch of a store or all of a small one; a catalog on disk is another view of
//! the same rules.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{clock::Timestamp, id::ChannelId, reference::ObjectRef};

use super::{
    batch::Stamp,
    content::{ChunkExtent, Content},
    metadata::Metadata,
    record::{PathEvent, Record},
};
use crate::{
    name::{ChunkId, ChunkRef, Domain, PackNumber, RecordId, SourceId, WriterId},
    path::StorePath,
    retention::Policy,
};

/// Everything the journal says, in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    records: BTreeMap<RecordId, Stamp>,
    sources: BTreeMap<SourceId, (Stamp, String)>,
    channels: BTreeMap<ChannelId, (Stamp, ChannelInfo)>,
    layout: Option<(u64, Stamp, Vec<ChannelId>)>,
    packs: BTreeMap<(PackNumber, ChannelId), (Stamp, ObjectRef)>,
    moved: BTreeMap<ChunkRef, (Stamp, Moved)>,
    runs: BTreeMap<RecordId, Run>,
    ends: BTreeMap<RecordId, (Stamp, Timestamp)>,
    paths: BTreeMap<(SourceId, StorePath), BTreeMap<Stamp, Entry>>,
    /// How many revisions name each pack as they were written, before any `moved` is followed.
    named: BTreeMap<PackNumber, u32>,
    /// How many records drop each id: two devices may have dropped the same run.
    dropped: BTreeMap<RecordId, u32>,
    pins: BTreeMap<RecordId, (Stamp, bool)>,
    policies: BTreeMap<String, (Stamp, Option<Policy>)>,
    dictionaries: BTreeMap<ChunkId, (Stamp, Dictionary)>,
}

/// A channel as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelInfo {
    /// The auth key it was opened with.
    pub auth: [u8; 32],
    /// What its owner calls it.
    pub name: String,
    /// Where its provider is to be found.
    pub addresses: Vec<String>,
    /// Whether it is closed.
    pub closed: bool,
}

/// A run that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Where its first record stands.
    pub begun: Stamp,
    /// The machine whose files it stores.
    pub source: SourceId,
    /// When it began.
    pub time: Timestamp,
}

/// A dictionary as the journal knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dictionary {
    /// The dedup domain whose chunks may use it.
    pub domain: Domain,
    /// Where it is.
    pub chunk: ChunkRef,
    /// Whether nothing kept needs it, and no head names it any more.
    pub retired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Moved {
    to: ChunkRef,
    count: u32,
}

/// Something a path went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A revision.
    Revision {
        /// What the file system said.
        metadata: Metadata,
        /// What was there.
        content: Content,
    },
    /// An event without content.
    Event(PathEvent),
}

/// Whether a path's newest revision is there, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Presence {
    /// The last scan found it.
    Present,
    /// Its local copy was deleted on purpose.
    Evicted,
    /// A scan did not find it.
    Gone,
    /// Its owner took it out of the store.
    Removed,
}

impl State {
    /// Takes in one record; one already known changes nothing.
    pub fn apply(&mut self, stamp: Stamp, record: Record) {
        if self.records.contains_key(&stamp.id) {
            return;
        }
        self.records.insert(stamp.id, stamp);
        match record {
            Record::Source { source, label } => later(&mut self.sources, source, stamp, label),
            Record::Channel {
                channel,
                auth,
                name,
                addresses,
                closed,
            } => {
                let info = ChannelInfo {
                    auth,
                    name,
                    addresses,
                    closed,
                };
                later(&mut self.channels, channel, stamp, info);
            }
            Record::Layout { epoch, channels } => {
                let newer = self
                    .layout
                    .as_ref()
                    .is_none_or(|(known, at, _)| (*known, *at) < (epoch, stamp));
                if newer {
                    self.layout = Some((epoch, stamp, channels));
                }
            }
            Record::Pack {
                number,
                channel,
                reference,
            } => later(&mut self.packs, (number, channel), stamp, reference),
            Record::Moved { from, to, count } => {
                later(&mut self.moved, from, stamp, Moved { to, count });
            }
            Record::RunBegin { source, time } => {
                let run = Run {
                    begun: stamp,
                    source,
                    time: Timestamp(time),
                };
                self.runs.insert(stamp.id, run);
            }
            Record::RunEnd { run, time, .. } => {
                later(&mut self.ends, run, stamp, Timestamp(time));
            }
            Record::File {
                source,
                path,
                metadata,
                content,
            } => {
                self.count_named(&content);
                let revision = Entry::Revision { metadata, content };
                let entries = self.paths.entry((source, path)).or_default();
                entries.insert(stamp, revision);
            }
            Record::Path {
                source,
                path,
                event,
            } => {
                let entries = self.paths.entry((source, path)).or_default();
                entries.insert(stamp, Entry::Event(event));
            }
            Record::Dropped { ids } => {
                for id in ids {
                    *self.dropped.entry(id).or_default() += 1;
                }
            }
            Record::Pin { id, pinned } => later(&mut self.pins, id, stamp, pinned),
            Record::Policy { pattern, policy } => {
                later(&mut self.policies, pattern, stamp, policy);
            }
            Record::Dictionary {
                id,
                domain,
                chunk,
                retired,
            } => {
                let dictionary = Dictionary {
                    domain,
                    chunk,
                    retired,
                };
                later(&mut self.dictionaries, id, stamp, dictionary);
            }
            Record::Unknown { .. } => {}
        }
    }

    /// Takes note that a record is in the journal; returns whether that was not known.
    pub(super) fn know(&mut self, stamp: Stamp) -> bool {
        self.records.insert(stamp.id, stamp).is_none()
    }

    /// Counts a revision for the packs it names.
    pub(super) fn count_named(&mut self, content: &Content) {
        for pack in packs_named(content) {
            *self.named.entry(pack).or_default() += 1;
        }
    }

    /// Takes back records that a merge is about to replace by fewer, or by the same with references folded.
    ///
    /// The state is right again once what the merge let go on has been applied: what it dropped, nothing leans on.
    pub fn forget(&mut self, records: &[(Stamp, Record)]) {
        fn remove<K: Ord, V>(map: &mut BTreeMap<K, (Stamp, V)>, key: &K, stamp: Stamp) {
            if map.get(key).is_some_and(|(known, _)| *known == stamp) {
                map.remove(key);
            }
        }
        for (stamp, record) in records {
            if self.records.remove(&stamp.id).is_none() {
                continue;
            }
            match record {
                Record::Pack {
                    number, channel, ..
                } => remove(&mut self.packs, &(*number, *channel), *stamp),
                Record::Moved { from, .. } => remove(&mut self.moved, from, *stamp),
                Record::RunBegin { .. } => {
                    self.runs.remove(&stamp.id);
                }
                Record::RunEnd { run, .. } => remove(&mut self.ends, run, *stamp),
                Record::File { source, path, .. } | Record::Path { source, path, .. } => {
                    if let Record::File { content, .. } = record {
                        for pack in packs_named(content) {
                            count_down(&mut self.named, &pack);
                        }
                    }
                    let key = (*source, path.clone());
                    if let Some(entries) = self.paths.get_mut(&key) {
                        entries.remove(stamp);
                        if entries.is_empty() {
                            self.paths.remove(&key);
                        }
                    }
                }
                Record::Dropped { ids } => {
                    for id in ids {
                        count_down(&mut self.dropped, id);
                    }
                }
                Record::Pin { id, .. } => remove(&mut self.pins, id, *stamp),
                // The newest of these always goes on through a merge, so it stands until it is applied again.
                Record::Source { .. }
                | Record::Channel { .. }
                | Record::Layout { .. }
                | Record::Policy { .. }
                | Record::Dictionary { .. }
                | Record::Unknown { .. } => {}
            }
        }
    }

    /// Returns whether the record is in the journal.
    pub fn knows(&self, id: RecordId) -> bool {
        self.records.contains_key(&id)
    }

    /// Returns the stamp of every record.
    pub const fn records(&self) -> &BTreeMap<RecordId, Stamp> {
        &self.records
    }

    /// Returns the counter after the highest that any record of `writer`'s has or had, as far as anything still speaks of it; 0 if
    /// nothing does.
    ///
    /// A client that finds this beyond its own next counter has been restored from an image and must take a new writer id.
    pub fn next_counter(&self, writer: WriterId) -> u64 {
        let first = RecordId { writer, counter: 0 };
        let last = RecordId {
            writer,
            counter: u64::MAX,
        };
        let known = self.records.range(first..=last).next_back();
        // A dropped id outlives its record for a while: a new record under that name would be dropped from birth.
        let dropped = self.dropped.range(first..=last).next_back();
        let highest = known.map(|(id, _)| id).max(dropped.map(|(id, _)| id));
        highest.map_or(0, |id| id.counter.saturating_add(1))
    }

    /// Returns the number after the highest of `writer`'s packs that any record speaks of; 0 if none does. Segments and pieces of the tail
    /// are the commit's to tell.
    pub fn next_pack(&self, writer: WriterId) -> u64 {
        let moves = self.moves().flat_map(|(_, from, to)| [from.pack, to.pack]);
        let dictionaries = self.dictionaries().map(|(_, known)| known.chunk.pack);
        let all = self
            .packs
            .keys()
            .map(|(number, _)| *number)
            .chain(self.named.keys().copied())
            .chain(moves)
            .chain(dictionaries);
        all.filter(|number| number.writer == writer)
            .map(|number| number.n.saturating_add(1))
            .max()
            .unwrap_or(0)
    }

    /// Returns the layout epoch and the layout's channels, the first one first.
    pub fn layout(&self) -> (u64, &[ChannelId]) {
        self.layout
            .as_ref()
            .map_or((0, &[]), |(epoch, _, channels)| (*epoch, channels))
    }

    /// Returns the channels known.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelId, &ChannelInfo)> {
        self.channels.iter().map(|(id, (_, info))| (*id, info))
    }

    /// Returns the machines known and their labels.
    pub fn sources(&self) -> impl Iterator<Item = (SourceId, &str)> {
        self.sources
            .iter()
            .map(|(id, (_, label))| (*id, label.as_str()))
    }

    /// Returns which object holds a pack number on a channel.
    pub fn pack(&self, number: PackNumber, channel: ChannelId) -> Option<ObjectRef> {
        self.packs
            .get(&(number, channel))
            .map(|(_, reference)| *reference)
    }

    /// Returns every pack number with its object, of one channel.
    pub fn packs(&self, channel: ChannelId) -> impl Iterator<Item = (PackNumber, ObjectRef)> {
        self.packs
            .iter()
            .filter(move |((_, on), _)| *on == channel)
            .map(|((number, _), (_, reference))| (*number, *reference))
    }

    /// Returns the dictionaries known.
    pub fn dictionaries(&self) -> impl Iterator<Item = (ChunkId, &Dictionary)> {
        self.dictionaries
            .iter()
            .map(|(id, (_, known))| (*id, known))
    }

    /// Returns the store's policy.
    pub fn policy(&self) -> Policy {
        self.policies
            .get("")
            .and_then(|(_, policy)| *policy)
            .unwrap_or_default()
    }

    /// Follows `moved` records to where a chunk is now.
    pub fn resolve(&self, mut chunk: ChunkRef) -> ChunkRef {
        // A chunk moves to a pack sealed later, so honest chains end; a circle among hostile ones ends here.
        for _ in 0..=self.moved.len() {
            match self.moved_once(chunk) {
                Some(next) => chunk = next,
                None => break,
            }
        }
        chunk
    }

    /// Returns each chunk of a content where it is now.
    pub fn resolve_all<'a>(
        &'a self,
        extents: &'a [ChunkExtent],
    ) -> impl Iterator<Item = ChunkRef> + 'a {
        extents
            .iter()
            .flat_map(|extent| extent.chunks())
            .map(|chunk| self.resolve(chunk))
    }

    fn moved_once(&self, chunk: ChunkRef) -> Option<ChunkRef> {
        let (from, (_, moved)) = self.moved.range(..=chunk).next_back()?;
        let step = chunk.index.checked_sub(from.index)?;
        (from.pack == chunk.pack && step < moved.count).then(|| ChunkRef {
            pack: moved.to.pack,
            index: moved.to.index.saturating_add(step),
        })
    }

    /// Returns how many revisions name a pack as they were written.
    pub(crate) fn times_named(&self, number: PackNumber) -> u32 {
        self.named.get(&number).copied().unwrap_or(0)
    }

    /// Returns each `moved` record: its id, the first chunk moved and where that is now.
    pub(super) fn moves(&self) -> impl Iterator<Item = (RecordId, ChunkRef, ChunkRef)> {
        self.moved
            .iter()
            .map(|(from, (stamp, moved))| (stamp.id, *from, moved.to))
    }

    /// Returns the runs that began.
    pub const fn runs(&self) -> &BTreeMap<RecordId, Run> {
        &self.runs
    }

    /// Returns where and when a run ended, if it completed.
    pub fn end(&self, run: RecordId) -> Option<(Stamp, Timestamp)> {
        self.ends.get(&run).copied()
    }

    /// Returns a source's completed runs and the times they ended; those dropped are left out unless pinned.
    pub fn kept_runs(&self, source: SourceId) -> Vec<(RecordId, Timestamp)> {
        self.runs
            .iter()
            .filter(|(id, run)| run.source == source && self.is_kept(**id))
            .filter_map(|(id, _)| self.end(*id).map(|(_, time)| (*id, time)))
            .collect()
    }

    /// Returns whether a run or revision is pinned.
    pub fn is_pinned(&self, id: RecordId) -> bool {
        self.pins.get(&id).is_some_and(|(_, pinned)| *pinned)
    }

    /// Returns whether a run or revision is kept: it was not dropped, or it is pinned.
    ///
    /// Neither policy nor clock has a say here: what they would let go of is written down as a `Dropped` record first, so that all
    /// devices agree on what must resolve, and what was let go of once never counts as kept again unless it is pinned.
    pub fn is_kept(&self, id: RecordId) -> bool {
        !self.dropped.contains_key(&id) || self.is_pinned(id)
    }

    /// Returns the revisions and their contents, kept or not.
    pub fn revisions(&self) -> impl Iterator<Item = (RecordId, &Content)> {
        let entries = self.paths.values().flatten();
        entries.filter_map(|(stamp, entry)| match entry {
            Entry::Revision { content, .. } => Some((stamp.id, content)),
            Entry::Event(_) => None,
        })
    }

    /// Returns the kept revisions and their contents: what the store must be able to give back.
    pub fn kept_revisions(&self) -> impl Iterator<Item = (RecordId, &Content)> {
        self.revisions().filter(|(id, _)| self.is_kept(*id))
    }

    /// Returns all paths and what each went through, in order.
    pub const fn paths(&self) -> &BTreeMap<(SourceId, StorePath), BTreeMap<Stamp, Entry>> {
        &self.paths
    }

    /// Returns a source's paths as they were where a run ended: what `--at` shows.
    pub fn as_of(
        &self,
        source: SourceId,
        end: Stamp,
    ) -> impl Iterator<Item = (&StorePath, RecordId, &Content)> {
        self.paths
            .iter()
            .filter(move |((of, _), _)| *of == source)
            .filter_map(move |((_, path), entries)| {
                let mut until_then = entries.range(..=end).rev();
                until_then.find_map(|(stamp, entry)| match entry {
                    Entry::Revision { content, .. } => Some(Some((path, stamp.id, content))),
                    Entry::Event(PathEvent::Gone | PathEvent::Removed) => Some(None),
                    Entry::Event(PathEvent::Evicted | PathEvent::Found) => None,
                })?
            })
    }

    /// Returns what one path went through, in order.
    pub fn entries(&self, source: SourceId, path: &StorePath) -> Option<&BTreeMap<Stamp, Entry>> {
        self.paths.get(&(source, path.clone()))
    }

    /// Returns a path's newest revision and whether it is there.
    pub fn newest(
        &self,
        source: SourceId,
        path: &StorePath,
    ) -> Option<(RecordId, &Metadata, &Content, Presence)> {
        newest(self.paths.get(&(source, path.clone()))?)
    }

    /// Returns the records that win where several speak of one thing: what a merge may drop the others against.
    pub(super) fn is_current(&self, stamp: Stamp, record: &Record) -> bool {
        fn at<K: Ord, V>(map: &BTreeMap<K, (Stamp, V)>, key: &K) -> Option<Stamp> {
            map.get(key).map(|(stamp, _)| *stamp)
        }
        let current = match record {
            Record::Source { source, .. } => at(&self.sources, source),
            Record::Channel { channel, .. } => at(&self.channels, channel),
            Record::Layout { .. } => self.layout.as_ref().map(|(_, stamp, _)| *stamp),
            Record::Pack {
                number, channel, ..
            } => at(&self.packs, &(*number, *channel)),
            Record::Moved { from, .. } => at(&self.moved, from),
            Record::RunEnd { run, .. } => at(&self.ends, run),
            Record::Pin { id, .. } => at(&self.pins, id),
            Record::Policy { pattern, .. } => at(&self.policies, pattern),
            Record::Dictionary { id, .. } => at(&self.dictionaries, id),
            _ => Some(stamp),
        };
        current == Some(stamp)
    }
}

/// Returns the newest revision of a path's entries and whether it is there.
pub fn newest(
    entries: &BTreeMap<Stamp, Entry>,
) -> Option<(RecordId, &Metadata, &Content, Presence)> {
    let mut presence = Presence::Present;
    let mut after = true;
    for (stamp, entry) in entries.iter().rev() {
        match entry {
            Entry::Revision { metadata, content } => {
                return Some((stamp.id, metadata, content, presence));
            }
            Entry::Event(event) if after => {
                after = false;
                presence = match event {
                    PathEvent::Gone => Presence::Gone,
                    PathEvent::Evicted => Presence::Evicted,
                    PathEvent::Found => Presence::Present,
                    PathEvent::Removed => Presence::Removed,
                };
            }
            Entry::Event(_) => {}
        }
    }
    None
}

fn later<K: Ord, V>(map: &mut BTreeMap<K, (Stamp, V)>, key: K, stamp: Stamp, value: V) {
    match map.get_mut(&key) {
        Some(known) if known.0 > stamp => {}
        // The same record again, references folded.
        Some(known) => *known = (stamp, value),
        None => {
            map.insert(key, (stamp, value));
        }
    }
}

/// Returns the packs a content names, each once.
pub(super) fn packs_named(content: &Content) -> BTreeSet<PackNumber> {
    let extents = content.extents().iter();
    extents.map(|extent| extent.first.pack).collect()
}

fn count_down<K: Ord>(map: &mut BTreeMap<K, u32>, key: &K) {
    if let Some(count) = map.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            map.remove(key);
        }
    }
}
