//! A run: what the pipeline makes is sealed, sent and committed as it goes.
//!
//! ```text
//!  pipeline --packs--> sealing threads: seal for each channel -> spool -> upload         two packs in flight, or as many as the spool holds
//!           --records-> this portion -- checkpoint, or the end --> commit                every GiB, 5 minutes or 32,768 records
//! ```
//!
//! Memory stays flat: a portion's records, the packs in flight and 24 bytes for each chunk of the store. What was sealed and not committed when
//! a run ends before its time is in the spool, and the next run finds its chunks there.
//!
//! Invariant: a record is committed only together with the `pack` records of all packs it names that no commit has named before.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
};

use maimo_core::{
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_net::connect::Load;
use maimo_vault::{
    compose::Sealing as _,
    compress::{Compressor, Level},
    dictionary::Dictionary,
    journal::{
        merge::{self, SegmentWeight},
        record::Record,
    },
    name::{ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId},
    pack::{FramedChunk, PackBuilder, PackKind, PackLayout, Piece},
};

use crate::{
    commit::{Change, Committed, Outcome, Sealer},
    damage::is_evidence,
    engine::Engine,
    error::ClientError,
    heal::HealReport,
    local_stat::LocalStat,
    mirror::Behind,
    node_state::Noted,
    pipeline::{DomainFolder, KnownChunks, StoreSink, Trouble},
    possession::Token,
    progress::{Control, Event},
    session::OpenChannel,
    spool::{Left, Spooled},
};

mod known;
mod operation;
mod workers;

use known::Known;
use workers::{Arrived, Workers};

/// What is to be stored.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Default)]
pub struct StoreRequest {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// Globs of what to leave out.
    pub excludes: Vec<String>,
    /// Folders that outsiders can write to, each a dedup domain of its own: what is stored of them from then on shares no chunk and no dictionary
    /// with the rest.
    pub domains: Vec<DomainFolder>,
    /// Whether to delete local copies once possession of all their bytes is proven.
    pub delete_local: bool,
    /// Whether one channel is enough for that.
    pub single_copy: bool,
    /// Whether to look and count only.
    pub dry_run: bool,
    /// Whether nobody asked for this run, but something watches these paths: what changed below folders that were stored, or all of them. One
    /// that is not there any more is then gone and no mistake, and of a run that finds nothing changed no trace is left.
    pub changed: bool,
}

/// What a run did.
#[derive(Debug, Clone, Default)]
pub struct StoreReport {
    /// Files that were not in the store.
    pub files_new: u64,
    /// Files that were otherwise.
    pub files_changed: u64,
    /// Files that were as they are.
    pub files_unmodified: u64,
    /// Bytes read from files.
    pub bytes_read: u64,
    /// Bytes that the store has grown by on each channel.
    pub bytes_stored: u64,
    /// Bytes sent to all channels.
    pub bytes_sent: u64,
    /// Local copies deleted.
    pub files_deleted: u64,
    /// What could not be stored, or not as it should: the run is done in part if there is any.
    pub troubles: Vec<Trouble>,
    /// The run, unless it was dry.
    pub run: Option<RecordId>,
    /// The store sequence that has it.
    pub sequence: u64,
    /// The root of each channel of the layout, which is what to keep.
    pub roots: Vec<(String, RootHash)>,
    /// Mirrors that do not have it yet.
    pub behind: Vec<Behind>,
    /// What became of what was known to be damaged.
    pub healed: HealReport,
}

/// A run under way.
pub(crate) struct Run<'e> {
    engine: &'e mut Engine,
    control: &'e Control,
    channels: Vec<Arc<OpenChannel>>,
    known: Arc<Known>,
    workers: Workers,
    /// The run's own name.
    begun: RecordId,
    level: Level,
    /// Packs that arrived and that no commit has named.
    arrived: HashMap<PackNumber, Arrived>,
    /// What the next commit brings.
    records: Vec<(RecordId, Record)>,
    local: HashMap<RecordId, LocalStat>,
    refreshed: Vec<(RecordId, LocalStat)>,
    piece: Option<Piece>,
    as_of: u64,
    /// Bytes of what was sealed, on one channel.
    pub(crate) bytes_stored: u64,
    /// Bytes sent to all.
    pub(crate) bytes_sent: u64,
    /// Questions about the packs sealed here whose answers are known.
    pub(crate) tokens: HashMap<ChannelId, BTreeMap<ObjectRef, Token>>,
    /// Channels whose provider has moved, with the sequence of the list that says so: the records have it.
    moves: Vec<(ChannelId, u64)>,
    /// Whether what it builds on was read from the channels for it, and not only kept from the last time.
    has_read: bool,
    /// Whether another device made it necessary to begin anew.
    pub(crate) is_superseded: bool,
}

impl<'e> Run<'e> {
    /// Begins a run: on the newest state, or where `trusting` on the one last seen, if all of that is here. `keep_tokens` prepares for proving
    /// possession.
    ///
    /// A little that goes into the tail then costs one round trip, the move of the head. What is more asks first after all: it would send again
    /// what another device has sent meanwhile.
    pub(crate) fn begin(
        engine: &'e mut Engine,
        control: &'e Control,
        level: Level,
        keep_tokens: bool,
        trusting: bool,
    ) -> Result<Self, ClientError> {
        let mut has_read = if trusting {
            engine.stand(control)?
        } else {
            engine.sync(control)?;
            true
        };
        let channels = engine.answering(Load::Unknown)?;
        if let Some(first) = channels.first() {
            // A catalog that was built anew has the journal, which does not say it.
            match engine.read_layouts(first, control) {
                // The packs of a state that is the newest no more: another device may have let go of them, or the provider was put back.
                Err(error) if is_evidence(&error) && !has_read => {
                    engine.sync(control)?;
                    has_read = true;
                    engine.read_layouts(first, control)?;
                }
                read => read?,
            }
        }
        let ids: Vec<ChannelId> = channels.iter().map(|channel| channel.id).collect();
        let position = engine.catalog.position()?;
        let mut left = engine.spool.left(engine.node.writer(), &ids)?;
        if left.damaged > 0 {
            control.tell(Event::Notice(format!(
                "{} packs that were on their way are damaged here: they are discarded and made again",
                left.damaged
            )));
        }
        engine.without_lost_dictionaries(&mut left)?;
        let unfinished = left.unfinished.iter().map(|(spooled, _)| &spooled.layout);
        let spooled = left.arrived.iter().map(|spooled| &spooled.layout);
        let spooled: Vec<PackLayout> = spooled.chain(unfinished).cloned().collect();
        let current = engine.current()?;
        let known = Arc::new(Known::new(engine, &current, spooled, &position.tail)?);
        let mut workers = Workers::start(&channels, &engine.spool, &engine.away, keep_tokens);
        workers.resume(left.unfinished)?;
        let arrived = left.arrived.into_iter().map(|spooled| {
            let arrived = Arrived {
                layout: spooled.layout,
                objects: spooled.objects,
                tokens: Vec::new(),
            };
            (arrived.layout.number(), arrived)
        });
        let begun = engine.node.next_record();
        let source = engine.node.source();
        let time = engine.clock.now().0;
        let mut records = vec![(begun, Record::RunBegin { source, time })];
        let sources = engine.catalog.reader()?.sources()?;
        if sources.iter().all(|(known, _)| *known != source) {
            let label = unused(engine.node.label(), &sources);
            engine.node.take_label(&label)?;
            records.push((engine.node.next_record(), Record::Source { source, label }));
        }
        let mut moves = Vec::new();
        for (channel, list, record) in engine.moves()? {
            records.push((engine.node.next_record(), record));
            moves.push((channel, list));
        }
        Ok(Self {
            workers,
            known,
            begun,
            level,
            arrived: arrived.collect(),
            records,
            local: HashMap::new(),
            refreshed: Vec::new(),
            piece: None,
            as_of: position.sequence + 1,
            bytes_stored: 0,
            bytes_sent: 0,
            tokens: HashMap::new(),
            moves,
            has_read,
            is_superseded: false,
            channels,
            engine,
            control,
        })
    }

    /// Returns whether there is nothing to tell of the run but that it was.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.len() == 1 && self.piece.is_none()
    }

    /// Ends a run that [is empty](Self::is_empty) without a trace of it in the store.
    pub(crate) fn leave(mut self) -> Result<(), ClientError> {
        self.drain()?;
        self.known.check()?;
        let refreshed = core::mem::take(&mut self.refreshed);
        if !refreshed.is_empty() {
            self.engine.catalog.refresh_local(refreshed)?;
        }
        Ok(())
    }

    /// Ends the run: its last records are committed with it. Returns the run's name and what was acknowledged.
    pub(crate) fn end(mut self, files: u64) -> Result<Ended, ClientError> {
        self.drain()?;
        let end = Record::RunEnd {
            run: self.begun,
            time: self.engine.clock.now().0,
            files,
            bytes_stored: self.bytes_stored,
        };
        self.records.push((self.engine.node.next_record(), end));
        let committed = self.commit()?;
        if let Some(committed) = &committed {
            self.bytes_sent += committed.sent;
        }
        Ok(Ended {
            run: self.begun,
            committed,
            bytes_stored: self.bytes_stored,
            bytes_sent: self.bytes_sent,
            tokens: self.tokens,
        })
    }

    /// Commits what is there. Nothing where it must be made anew from the files.
    fn commit(&mut self) -> Result<Option<Committed>, ClientError> {
        self.known.check()?;
        let mut records = core::mem::take(&mut self.records);
        let mut layouts = Vec::new();
        for number in packs_named(&records) {
            let Some(arrived) = self.arrived.remove(&number) else {
                continue;
            };
            for (channel, reference) in &arrived.objects {
                let record = Record::Pack {
                    number,
                    channel: *channel,
                    reference: *reference,
                };
                records.push((self.engine.node.next_record(), record));
            }
            layouts.push(arrived.layout);
        }
        let change = Change {
            records,
            piece: self.piece.take(),
            layouts,
            local: core::mem::take(&mut self.local),
            run: Some(self.begun),
            ..Change::default()
        };
        match self.engine.commit(change, self.control)? {
            Outcome::Committed(committed) => {
                self.as_of = committed.sequence + 1;
                for (channel, list) in self.moves.drain(..) {
                    let told = Noted::AddressesTold;
                    self.engine.node.note(told, channel, list)?;
                }
                let refreshed = core::mem::take(&mut self.refreshed);
                if !refreshed.is_empty() {
                    self.engine.catalog.refresh_local(refreshed)?;
                }
                Ok(Some(committed))
            }
            Outcome::Superseded => {
                self.is_superseded = true;
                Ok(None)
            }
        }
    }

    /// Makes sure that the run builds on the newest state, before anything is sent for it but a move.
    fn read(&mut self) -> Result<(), ClientError> {
        if core::mem::replace(&mut self.has_read, true) {
            return Ok(());
        }
        let before = self.engine.catalog.position()?.store;
        let synced = self.engine.sync(self.control)?;
        if synced.has_twin || self.engine.catalog.position()?.store != before {
            // Little was read by now, and what it was held against is not the store any more.
            self.is_superseded = true;
            return Err(superseded());
        }
        Ok(())
    }

    /// Waits until all packs handed over have arrived.
    fn drain(&mut self) -> Result<(), ClientError> {
        while let Some(arrived) = self.workers.wait(self.control)? {
            self.arrive(arrived);
        }
        Ok(())
    }

    fn arrive(&mut self, mut arrived: Arrived) {
        let length = arrived.layout.length();
        self.bytes_stored += length;
        self.bytes_sent += length * arrived.objects.len() as u64;
        for (channel, token) in core::mem::take(&mut arrived.tokens) {
            let tokens = self.tokens.entry(channel).or_default();
            tokens.insert(token.pack, token);
        }
        self.known.add(&arrived.layout);
        self.arrived.insert(arrived.layout.number(), arrived);
    }
}

/// A run that ended.
pub(crate) struct Ended {
    /// Its name.
    pub(crate) run: RecordId,
    /// What was acknowledged last; nothing where the run must be made again.
    pub(crate) committed: Option<Committed>,
    /// Bytes of what was sealed, on one channel.
    pub(crate) bytes_stored: u64,
    /// Bytes sent to all.
    pub(crate) bytes_sent: u64,
    /// Questions about the packs sealed whose answers are known.
    pub(crate) tokens: HashMap<ChannelId, BTreeMap<ObjectRef, Token>>,
}

impl StoreSink for Run<'_> {
    fn known(&self) -> Arc<dyn KnownChunks> {
        Arc::clone(&self.known) as Arc<dyn KnownChunks>
    }

    fn as_of(&self) -> u64 {
        self.as_of
    }

    fn next_record(&mut self) -> Result<RecordId, ClientError> {
        Ok(self.engine.node.next_record())
    }

    fn next_pack(&mut self) -> Result<PackNumber, ClientError> {
        Ok(self.engine.node.next_pack())
    }

    fn outgrown(&mut self) -> Result<(), ClientError> {
        self.read()
    }

    fn much(&mut self) {
        for channel in &self.channels {
            channel.session.expect_much();
        }
    }

    fn seal(&mut self, builder: PackBuilder) -> Result<(), ClientError> {
        self.control.check()?;
        self.read()?;
        self.engine.node.fix_names()?;
        while let Some(arrived) = self.workers.poll()? {
            self.arrive(arrived);
        }
        self.workers.hand_over(builder, self.control)
    }

    fn dictionary(&mut self, bytes: Vec<u8>) -> Result<Arc<Dictionary>, ClientError> {
        self.read()?;
        let id = self.engine.keys.dictionary.id(&bytes);
        let mut compressor = Compressor::new(Level::default());
        let frame = compressor.compress(&bytes, None);
        let number = self.engine.node.next_pack();
        let mut builder = PackBuilder::new(number, PackKind::Vital);
        let index = builder
            .push(FramedChunk {
                id,
                chunk_type: ChunkType::Dictionary,
                domain: Domain::default(),
                codec: frame.codec,
                dictionary: None,
                plaintext_length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
                frame: frame.bytes,
            })
            .map_err(|error| ClientError::Bug(error.to_string()))?;
        let mut sealer = Sealer::new(self.engine, &self.channels);
        let objects = sealer.seal(builder);
        sealer.send()?;
        self.bytes_sent += sealer.sent;
        drop(sealer);
        for (channel, reference) in objects {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            self.records.push((self.engine.node.next_record(), record));
        }
        let record = Record::Dictionary {
            id,
            domain: Domain::default(),
            chunk: ChunkRef {
                pack: number,
                index,
            },
            retired: false,
        };
        self.records.push((self.engine.node.next_record(), record));
        let dictionary = Dictionary::new(id, bytes, self.level);
        let dictionary = dictionary.map_err(|error| ClientError::Bug(error.to_string()))?;
        Ok(Arc::new(dictionary))
    }

    fn record(
        &mut self,
        id: RecordId,
        record: Record,
        local: Option<LocalStat>,
    ) -> Result<(), ClientError> {
        self.records.push((id, record));
        self.local.extend(local.map(|local| (id, local)));
        Ok(())
    }

    fn refresh(&mut self, id: RecordId, local: LocalStat) -> Result<(), ClientError> {
        self.refreshed.push((id, local));
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), ClientError> {
        self.drain()?;
        match self.commit()? {
            Some(committed) => {
                self.bytes_sent += committed.sent;
                Ok(())
            }
            None => Err(superseded()),
        }
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ClientError> {
        self.piece = Some(piece);
        Ok(())
    }
}

impl Engine {
    /// Leaves out packs on their way whose chunks were compressed with a dictionary that another device retired and the provider has freed: they
    /// would never open. They are made again from the files.
    fn without_lost_dictionaries(&self, left: &mut Left) -> Result<(), ClientError> {
        let Some(first) = self.layout()?.first().copied() else {
            return Ok(());
        };
        let reader = self.catalog.reader()?;
        let mut lost = Vec::new();
        for version in reader.dictionary_versions()? {
            let pack = reader.pack(version.known.chunk.pack, first)?;
            if version.known.retired && pack.is_none_or(|pack| self.not_held.contains(&pack.root)) {
                lost.push(version.id);
            }
        }
        let opens = |spooled: &Spooled| {
            let mut entries = spooled.layout.entries().iter();
            entries.all(|entry| entry.dictionary.is_none_or(|id| !lost.contains(&id)))
        };
        let arrived = left.arrived.iter();
        let unfinished = left.unfinished.iter().map(|(spooled, _)| spooled);
        for spooled in arrived.chain(unfinished).filter(|spooled| !opens(spooled)) {
            for (channel, pack) in &spooled.objects {
                self.spool.forget(*channel, pack.root)?;
            }
        }
        left.arrived.retain(opens);
        left.unfinished.retain(|(spooled, _)| opens(spooled));
        Ok(())
    }

    /// Merges segments of the journal where there are many: upkeep, after what a user waits for was acknowledged.
    pub(crate) fn merge_journal(&mut self, control: &Control) -> Result<(), ClientError> {
        for _ in 0..8 {
            let first = self.first()?;
            let position = self.catalog.position()?;
            let Some(view) = self.view(first.id) else {
                return Ok(());
            };
            let weights = position.segments.iter().map(|segment| SegmentWeight {
                level: segment.level,
                length: view
                    .segments
                    .get(&segment.number)
                    .map_or(0, |pack| pack.length),
                dead: 0,
            });
            let Some(chosen) = merge::plan(&weights.collect::<Vec<_>>()) else {
                return Ok(());
            };
            let change = Change {
                merge: Some(chosen),
                ..Change::default()
            };
            if self.commit(change, control)? == Outcome::Superseded {
                return Ok(());
            }
        }
        Ok(())
    }
}

fn superseded() -> ClientError {
    ClientError::Input {
        message: "another device changed what this run builds on".to_owned(),
        hint: Some("run the command again"),
    }
}

fn packs_named(records: &[(RecordId, Record)]) -> BTreeSet<PackNumber> {
    let mut packs = BTreeSet::new();
    for (_, record) in records {
        if let Record::File { content, .. } = record {
            packs.extend(content.extents().iter().map(|extent| extent.first.pack));
        }
    }
    packs
}

/// Returns a label that no other machine of the store has: a machine that begins anew is called as before by its host name, and nobody could say
/// which of the two is meant.
fn unused(label: &str, sources: &[(SourceId, String)]) -> String {
    let is_unused = |label: &str| sources.iter().all(|(_, known)| known != label);
    if is_unused(label) {
        return label.to_owned();
    }
    let mut others = (2_u64..).map(|n| format!("{label} {n}"));
    others
        .find(|label| is_unused(label))
        .expect("there are fewer machines than numbers")
}
