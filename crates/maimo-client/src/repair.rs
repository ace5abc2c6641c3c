//! Repairing a channel: one that shows a state which does not follow what was seen of it, and one of which something is damaged.
//!
//! ```text
//! head shown --.                        what is shown and what was known, as sets of records
//! head seen ---+-> both kept as evidence -> records missing there -> each chunk: held there | another copy there | files here | other channels
//!              '-> upload what is not held -> one commit on top of the head shown -> its receipt moves the last-seen root
//! ```
//!
//! It is the one act that builds on a head which does not descend from the last root seen ([`maimo_vault::repair`] says what is put back), and
//! the last-seen root moves with the receipt of the commit that puts it back: a repair that is cut off leaves everything as it was, but for the
//! evidence and packs that wait in grace. What nothing has any more is named, never passed over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use maimo_core::{
    clock::Timestamp,
    digest::DigestRequest,
    head::SignedHead,
    id::{ChannelId, RootHash},
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_net::service::{ServiceError, ShownHead, WhichHead};
use maimo_vault::{
    commit::Commit,
    compose::Sealing as _,
    compress::{Compressor, Level},
    dedup::living,
    descent::{Astray, Seen, accept},
    journal::{
        batch::{Batch, Stamp},
        record::Record,
        repeat::Repeat,
        state::{Entry, State},
    },
    keys::ChannelKeys,
    name::{ChunkId, ChunkRef, ChunkType, PackNumber, RecordId},
    pack::{FramedChunk, PackBuilder, PackKind, PackLayout, Piece},
    repair::{Repair, union},
};

use crate::{
    audit::{Challenges as _, Sample},
    browse::to_path,
    client::Client,
    commit::{Change, Outcome, Sealer, too_busy},
    damage::{TouchedRevision, is_evidence},
    engine::{Engine, Shown},
    error::ClientError,
    heal::HealReport,
    local_chunks::LocalChunks,
    node_state::SeenRow,
    outstanding::Outstanding,
    progress::{Control, Event, Phase},
    prune::entry_of,
    random,
    recover::layouts,
    session::{OpenChannel, Upload, Uploads},
    sync::{is_newest, proof_of},
    verify::VerifyRequest,
};

/// What is to be repaired.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairRequest {
    /// The channel's name.
    pub channel: String,
    /// Only says what would be done. Both heads of a channel that went astray are kept as evidence all the same.
    pub dry_run: bool,
    /// Reads all of the channel back first, to know all that is damaged.
    pub read_all: bool,
}

/// What a repair did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RepairReport {
    /// The channel's name.
    pub channel: String,
    /// How it had gone astray, and what that took; nothing where it shows what follows the last root seen.
    pub astray: Option<AstrayReport>,
    /// What became of what was known to be damaged.
    pub healed: HealReport,
    /// The store's sequence afterwards.
    pub sequence: u64,
    /// The channel's root afterwards.
    pub root: Option<RootHash>,
}

/// A channel that shows a state which does not follow the last one seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AstrayReport {
    /// Whether it is on another branch; else it was put back to an earlier state.
    pub is_fork: bool,
    /// Whether two signed heads say so, and are kept; else the store's newest state on another channel does.
    pub has_evidence: bool,
    /// The head that was seen last; nothing where this node never saw one, and another channel says that there was.
    pub seen: Option<HeadReport>,
    /// The head that is shown; nothing where none is.
    pub shown: Option<HeadReport>,
    /// Kept revisions that are known here and are not in the state shown.
    pub revisions_missing: u64,
    /// Runs that completed, likewise.
    pub runs_missing: u64,
    /// Kept revisions of the state shown that are not known here: another device's.
    pub revisions_others: u64,
    /// Revisions put back.
    pub revisions_restored: u64,
    /// Chunks that the provider does not hold and that were stored again.
    pub chunks: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// Kept revisions of which nothing has all bytes any more: they could not be put back.
    pub lost: Vec<TouchedRevision>,
}

/// A signed head, as its owner compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadReport {
    /// Its sequence number.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
    /// When it was made, as its maker said.
    pub time: Timestamp,
}

/// Two signed heads of a channel of which neither descends from the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// When the second was shown.
    pub time: Timestamp,
    /// The one that was seen before, with its signature, as it was sent.
    pub seen: Vec<u8>,
    /// The one that was shown then, likewise; empty where none was.
    pub shown: Vec<u8>,
}

/// How often it is planned anew after other devices were faster, or a provider did not hold something after all.
const ATTEMPTS: u32 = 8;
/// How many bytes of chunks go into one new pack, and how many chunks.
const PACK_PLAIN_BYTES: u64 = 15 * 1024 * 1024;
const PACK_CHUNKS: usize = 65_536;

impl Client {
    /// Brings a channel back to what the store knows: one whose provider was restored from an old image, or shows another branch; and stores
    /// again what is known to be damaged on any channel.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, repair::RepairRequest};
    /// # fn repair(client: &mut Client) -> Result<(), ClientError> {
    /// let request = RepairRequest {
    ///     channel: "disk".to_owned(),
    ///     ..RepairRequest::default()
    /// };
    /// let report = client.repair(&request, &Control::default())?;
    /// assert!(report.healed.lost.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A channel that nobody knows, a provider that does not answer, or whatever keeps a commit from being made.
    pub fn repair(
        &mut self,
        request: &RepairRequest,
        control: &Control,
    ) -> Result<RepairReport, ClientError> {
        self.engine.repair(request, control)
    }

    /// Returns the pairs of signed heads that speak against a channel's provider, the oldest first.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError};
    /// # fn example(client: &Client) -> Result<(), ClientError> {
    /// assert!(client.evidence("disk")?.is_empty());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// A channel that nobody knows; that local state cannot be read.
    pub fn evidence(&self, channel: &str) -> Result<Vec<Evidence>, ClientError> {
        let id = self.engine.channels_named(&[channel.to_owned()])?[0];
        let kept = self.engine.node.evidence(id)?.into_iter();
        let kept = kept.map(|(time, seen, shown)| Evidence { time, seen, shown });
        Ok(kept.collect())
    }
}

/// What a channel shows, checked but for its descent.
struct Branch {
    answer: Option<ShownHead>,
    head: Option<SignedHead>,
    astray: Astray,
    seen: Option<SeenRow>,
}

impl Branch {
    /// Returns whether what is shown contradicts what was seen of the same channel.
    const fn has_evidence(&self) -> bool {
        !matches!(self.astray, Astray::BeforeLayout { .. })
    }
}

/// What was known before.
struct Known {
    /// The channel that showed it.
    channel: ChannelId,
    commit: Commit,
    records: Vec<(Stamp, Record)>,
    state: State,
    /// Where the chunks of its packs stand.
    layouts: BTreeMap<PackNumber, PackLayout>,
    /// Chunks that turned out not to be had where they were thought to be.
    failed: BTreeSet<ChunkRef>,
}

/// What says where new packs are, and where their chunks stand.
type Sealed = (Vec<(RecordId, Record)>, Vec<PackLayout>);

/// What is to be put back.
struct Plan {
    repair: Repair,
    /// New packs with the chunks that go into them, in order.
    packs: Vec<(PackNumber, Vec<ChunkRef>)>,
    copies: LocalChunks,
    /// Dictionaries' packs to be uploaded as they are cached.
    vital: Vec<ObjectRef>,
    /// Those of them that were sealed anew.
    resealed: Vec<Record>,
    report: AstrayReport,
    shown: Shown,
    state: State,
}

impl Engine {
    /// Brings a channel back to what the store knows, and heals what is known to be damaged.
    pub(crate) fn repair(
        &mut self,
        request: &RepairRequest,
        control: &Control,
    ) -> Result<RepairReport, ClientError> {
        control.tell(Event::Phase(Phase::Repairing));
        let id = self.channels_named(core::slice::from_ref(&request.channel))?[0];
        let channel = self.channel(id)?;
        let mut report = RepairReport {
            channel: request.channel.clone(),
            astray: self.bring_back(&channel, request.dry_run, control)?,
            ..RepairReport::default()
        };
        if !request.dry_run {
            self.sync(control)?;
            if request.read_all {
                let all = VerifyRequest {
                    channels: vec![request.channel.clone()],
                    sample: Sample::Everything,
                    path: None,
                };
                self.verify(&all, control)?;
            }
            report.healed = self.heal(control)?;
        }
        report.sequence = self.catalog.position()?.sequence;
        report.root = self.node.seen(id)?.map(|row| row.seen.root);
        Ok(report)
    }

    /// Goes on from what a channel shows that went astray; nothing where it did not.
    fn bring_back(
        &mut self,
        channel: &Arc<OpenChannel>,
        dry_run: bool,
        control: &Control,
    ) -> Result<Option<AstrayReport>, ClientError> {
        let mut known = None;
        for attempt in 0..ATTEMPTS {
            control.check()?;
            let Some(branch) = self.branch(channel)? else {
                return Ok(None);
            };
            if !dry_run {
                // What was asked of states that are gone is owed no more, once their owner agrees that they are.
                self.node.keep(channel.id, &[])?;
            }
            if self.layout()?.first() != Some(&channel.id) {
                return self.accept_follower(channel, &branch, dry_run).map(Some);
            }
            let known = match &mut known {
                Some(known) => known,
                None => known.insert(self.what_was_known(channel, control)?),
            };
            if attempt > 0 {
                // The last attempt has left the catalog at the branch. What is cached of the journal stays: no head speaks for it now.
                self.shown.remove(&channel.id);
                self.refresh_catalog(control)?;
            }
            let plan = self.plan_repair(channel, &branch, known, control)?;
            if dry_run {
                return Ok(Some(plan.report));
            }
            if let Some(done) = self.put_back(channel, &branch, known, plan, control)? {
                return Ok(Some(done));
            }
        }
        Err(too_busy())
    }

    /// Reads what a channel shows and keeps the evidence, if it went astray.
    fn branch(&self, channel: &OpenChannel) -> Result<Option<Branch>, ClientError> {
        let seen = self.node.seen(channel.id)?;
        let last = seen.as_ref().map(|row| row.seen);
        let signers = [channel.keys.client.public()];
        for _ in 0..ATTEMPTS {
            let answer = channel.call(channel.session.head(WhichHead::Newest))?;
            let head = match &answer {
                Some(answer) => Some(
                    SignedHead::verify(&answer.head, channel.id, &signers)
                        .map_err(|_| channel.wrong("a head"))?,
                ),
                None => None,
            };
            let proof = match (&head, last) {
                (Some(head), Some(last)) if last.sequence < head.head().sequence => {
                    proof_of(channel, last.sequence)?
                }
                _ => None,
            };
            let astray = if let Err(astray) = accept(last, head.as_ref(), proof.as_ref()) {
                astray
            } else {
                let commit = answer.as_ref().and_then(|answer| answer.commit.as_ref());
                let commit = commit.map(|commit| Commit::open(commit, &channel.keys.commit));
                let commit = commit.transpose();
                let commit = commit.map_err(|_| channel.wrong("a commit that opens"))?;
                match self.before_layout(channel.id, commit.as_ref())? {
                    Some(astray) => astray,
                    None => return Ok(None),
                }
            };
            if let Some(head) = &head
                && !is_newest(channel, head.root())?
            {
                // Another device was between the head and its proof.
                continue;
            }
            let branch = Branch {
                answer,
                head,
                astray,
                seen,
            };
            if branch.has_evidence() {
                let signed = branch.answer.as_ref().map(|answer| &answer.head[..]);
                // Kept as evidence; the error itself is what this is here for.
                drop(self.astray(channel, signed, astray));
            }
            return Ok(Some(branch));
        }
        Err(too_busy())
    }

    /// Takes what a channel shows that only follows: what it lacks is computed from that, as of any mirror.
    fn accept_follower(
        &mut self,
        channel: &OpenChannel,
        branch: &Branch,
        dry_run: bool,
    ) -> Result<AstrayReport, ClientError> {
        let report = astray_report(channel, branch)?;
        if !dry_run {
            let shown = self.shown_of(channel, branch)?;
            match row_of(branch) {
                Some(row) => self.node.saw(channel.id, &row)?,
                None => self.node.forget_seen(channel.id)?,
            }
            self.keep_nodes(&shown.view)?;
            self.settle_damage(&shown.view)?;
            self.shown.insert(channel.id, shown);
        }
        Ok(report)
    }

    /// Reads what was known of the store, from what is cached of the journal: what the channel was seen to show, or another one if that was newer.
    fn what_was_known(
        &mut self,
        channel: &OpenChannel,
        control: &Control,
    ) -> Result<Known, ClientError> {
        let newest = self.newest_seen(Some(channel.id))?;
        let newest = newest.ok_or_else(|| bug("nothing was seen"))?;
        let commit = self.commit_seen(newest)?;
        let commit = commit.ok_or_else(|| bug("nothing was seen"))?;
        // What is missing in the cache the provider may have, if it is older than what it shows.
        let from = (newest == channel.id).then_some(channel);
        self.fetch_segments(&newest, &commit, from, control)?;
        let (_, keys) = self.keys_of(newest)?;
        let records = self.records_of_commit(&keys, &commit)?;
        let mut state = State::default();
        for (stamp, record) in &records {
            state.apply(*stamp, record.clone());
        }
        let reader = self.catalog.reader()?;
        let mut layouts = BTreeMap::new();
        for (number, _) in state.packs(channel.id) {
            layouts.extend(reader.layout(number)?.map(|layout| (number, layout)));
        }
        Ok(Known {
            channel: newest,
            commit,
            records,
            state,
            layouts,
            failed: BTreeSet::new(),
        })
    }

    fn records_of_commit(
        &self,
        keys: &ChannelKeys,
        commit: &Commit,
    ) -> Result<Vec<(Stamp, Record)>, ClientError> {
        let mut records = Vec::new();
        for (segment, pack) in &commit.journal {
            for batch in self.batches(pack, keys)? {
                records.extend(batch.into_records(segment.sequence));
            }
        }
        for piece in &commit.tail {
            let batch = Batch::parse(piece.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            records.extend(batch.into_records(piece.sequence));
        }
        Ok(records)
    }

    fn shown_of(&self, channel: &OpenChannel, branch: &Branch) -> Result<Shown, ClientError> {
        match (&branch.answer, &branch.head) {
            (Some(answer), Some(head)) => self.shown_as(channel, head.clone(), answer),
            _ => Ok(Shown {
                view: maimo_vault::candidate::ChannelView::new(channel.id),
                commit: None,
            }),
        }
    }

    /// Works out what the state shown lacks, and where its chunks are to be had.
    fn plan_repair(
        &mut self,
        channel: &Arc<OpenChannel>,
        branch: &Branch,
        known: &mut Known,
        control: &Control,
    ) -> Result<Plan, ClientError> {
        let mut report = astray_report(channel, branch)?;
        let shown = self.shown_of(channel, branch)?;
        let mut state = State::default();
        let mut carried = BTreeSet::new();
        if let Some(commit) = &shown.commit {
            self.fetch_segments(&channel.id, commit, Some(channel), control)?;
            for (stamp, record) in self.records_of_commit(&channel.keys, commit)? {
                state.apply(stamp, record);
            }
            carried = commit.tail.iter().map(|tail| tail.piece.number()).collect();
        }
        let missing: Vec<(Stamp, Record)> = known
            .records
            .iter()
            .filter(|(stamp, _)| !state.knows(stamp.id))
            .cloned()
            .collect();
        let both = union(&state, &missing);
        count(&mut report, &state, known);

        // What has to be had: the chunks of kept revisions that the state shown does not have.
        let mut needed: BTreeSet<ChunkRef> = BTreeSet::new();
        for (stamp, record) in &missing {
            if let Record::File { content, .. } = record
                && both.is_kept(stamp.id)
            {
                needed.extend(both.resolve_all(content.extents()));
            }
        }
        needed.retain(|chunk| !carried.contains(&chunk.pack));
        self.learn_layouts(channel, &both, &needed, known)?;
        let mut places = self.held_of(channel, &shown, &both, &needed, known)?;
        let by_id = self.living_by_id(channel.id, &shown, &both, known)?;
        let pieces = pieces_of(&known.commit, &carried);
        let mut wanted: BTreeSet<ChunkRef> = BTreeSet::new();
        for chunk in &needed {
            if places.contains_key(chunk) {
                continue;
            }
            let id = id_of(known, &pieces, *chunk);
            match id.and_then(|id| by_id.get(&id)) {
                Some(elsewhere) => {
                    places.insert(*chunk, *elsewhere);
                }
                None => {
                    wanted.insert(*chunk);
                }
            }
        }
        let length = |chunk: ChunkRef| {
            let entry = match pieces.get(&chunk.pack) {
                Some(piece) => piece.entries().get(usize::try_from(chunk.index).ok()?)?,
                None => entry_of(&known.layouts, chunk)?,
            };
            Some(u64::from(entry.plaintext_length))
        };
        let mut copies = LocalChunks::in_state(&known.state, self.node.source(), &wanted, length)?;
        let elsewhere = self.on_others(channel.id, &known.state, &wanted, &known.layouts)?;
        let mut packs: Vec<(PackNumber, Vec<ChunkRef>)> = Vec::new();
        let mut bytes = 0;
        for chunk in wanted {
            control.check()?;
            if known.failed.contains(&chunk) {
                continue;
            }
            let is_here = pieces.contains_key(&chunk.pack)
                || elsewhere.contains(&chunk)
                || entry_of(&known.layouts, chunk)
                    .is_some_and(|entry| copies.read(chunk, entry, &self.keys).is_some());
            let Some(length) = length(chunk).filter(|_| is_here) else {
                continue;
            };
            let is_full = packs.last().is_none_or(|(_, chunks)| {
                bytes + length > PACK_PLAIN_BYTES || chunks.len() == PACK_CHUNKS
            });
            if is_full {
                packs.push((self.node.next_pack(), Vec::new()));
                bytes = 0;
            }
            bytes += length;
            if let Some((number, chunks)) = packs.last_mut() {
                let index = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
                let pack = *number;
                chunks.push(chunk);
                places.insert(chunk, ChunkRef { pack, index });
            }
        }
        report.chunks = packs.iter().map(|(_, chunks)| chunks.len() as u64).sum();

        let mut vital = BTreeMap::new();
        let mut resealed = Vec::new();
        for (_, record) in &missing {
            if let Record::Dictionary { chunk, .. } = record
                && let Some(pack) = both.pack(chunk.pack, channel.id)
            {
                let is_held = shown.view.vital.entry(&pack.root).is_some();
                if is_held || self.journal.get(&pack).is_some() {
                    vital.insert(chunk.pack, (pack, is_held));
                    continue;
                }
            }
            if let Record::Dictionary { chunk, .. } = record
                && known.channel != channel.id
                && let Some(theirs) = both.pack(chunk.pack, known.channel)
            {
                // As the channel has it that was seen last.
                let (reference, _) = self.seal_again(known.channel, &theirs, channel)?;
                vital.insert(chunk.pack, (reference, false));
                resealed.push(Record::Pack {
                    number: chunk.pack,
                    channel: channel.id,
                    reference,
                });
            }
        }
        let find = |chunk: ChunkRef| {
            let stays = carried.contains(&chunk.pack) || vital.contains_key(&chunk.pack);
            if stays {
                Some(chunk)
            } else {
                places.get(&chunk).copied()
            }
        };
        let repair = Repair::plan(known.records.iter().cloned(), &state, find);
        report.lost = named(&known.state, &repair.lost);
        let is_file = |(_, record): &&(Stamp, Record)| matches!(record, Record::File { .. });
        report.revisions_restored = repair.restored.iter().filter(is_file).count() as u64;
        let vital = vital.into_values().filter(|(_, is_held)| !is_held);
        Ok(Plan {
            repair,
            packs,
            copies,
            vital: vital.map(|(pack, _)| pack).collect(),
            resealed,
            report,
            shown,
            state,
        })
    }

    /// Reads where the chunks of packs stand that this machine neither made nor read yet: the channel may still tell itself, else another one that has
    /// them too.
    fn learn_layouts(
        &mut self,
        channel: &Arc<OpenChannel>,
        both: &State,
        needed: &BTreeSet<ChunkRef>,
        known: &mut Known,
    ) -> Result<(), ClientError> {
        let numbers: BTreeSet<PackNumber> = needed.iter().map(|chunk| chunk.pack).collect();
        let mut from = vec![Arc::clone(channel)];
        let others = self.layout()?.into_iter().chain([known.channel]);
        let others: BTreeSet<ChannelId> = others.filter(|id| *id != channel.id).collect();
        for number in numbers {
            if known.layouts.contains_key(&number) {
                continue;
            }
            if from.len() == 1 && !others.is_empty() {
                for id in &others {
                    match self.channel(*id) {
                        Ok(other) => from.push(other),
                        Err(ClientError::Provider { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            for from in &from {
                let Some(pack) = both.pack(number, from.id) else {
                    continue;
                };
                if self.not_held.contains(&pack.root) {
                    continue;
                }
                match layouts::read(from, &[pack]) {
                    Ok(read) => {
                        known
                            .layouts
                            .extend(read.into_iter().map(|layout| (number, layout)));
                        break;
                    }
                    Err(error) if is_evidence(&error) => {}
                    Err(ClientError::Provider { .. }) if from.id != channel.id => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Returns which chunks the channel still holds where they were: those that live, and those that wait in grace, as it says itself.
    fn held_of(
        &self,
        channel: &OpenChannel,
        shown: &Shown,
        both: &State,
        needed: &BTreeSet<ChunkRef>,
        known: &Known,
    ) -> Result<BTreeMap<ChunkRef, ChunkRef>, ClientError> {
        let damaged = self.damaged_groups(channel.id)?;
        let mut held = BTreeMap::new();
        let mut questions: Vec<(ObjectRef, LiveMap, Vec<ChunkRef>)> = Vec::new();
        let chunks: Vec<ChunkRef> = needed.iter().copied().collect();
        for some in chunks.chunk_by(|one, next| one.pack == next.pack) {
            let number = some[0].pack;
            let Some(pack) = both.pack(number, channel.id) else {
                continue;
            };
            if self.not_held.contains(&pack.root) {
                continue;
            }
            let Some(layout) = known.layouts.get(&number) else {
                continue;
            };
            let bad = damaged.get(&pack.root);
            let mut asked: Option<LiveMap> = None;
            let mut about = Vec::new();
            for chunk in some {
                let Some(groups) = layout.live_map([chunk.index]) else {
                    continue;
                };
                if bad.is_some_and(|bad| bad.intersects(&groups)) {
                    continue;
                }
                if shown
                    .view
                    .live(&pack)
                    .is_some_and(|live| live.contains_all(&groups))
                {
                    held.insert(*chunk, *chunk);
                } else {
                    asked = Some(asked.map_or_else(|| groups.clone(), |all| all.union(&groups)));
                    about.push(*chunk);
                }
            }
            questions.extend(asked.map(|groups| (pack, groups, about)));
        }
        // Thirty-two bytes say whether it has them. What they say of the bytes is for the audits.
        let mut questions = questions.into_iter();
        let mut calls = Outstanding::new(channel.session.appetite().calls);
        loop {
            while !calls.is_full()
                && let Some((pack, groups, about)) = questions.next()
            {
                let mut key = [0; 32];
                rand_core::Rng::fill_bytes(&mut random::system(), &mut key);
                let Ok(request) = DigestRequest::new(key, vec![(pack, groups)]) else {
                    continue;
                };
                let request = Bytes::from(request.encode());
                calls.start(about, channel.session.digest(request));
            }
            let Some((about, answer)) = calls.next() else {
                return Ok(held);
            };
            match answer {
                Ok(_) => held.extend(about.into_iter().map(|chunk| (chunk, chunk))),
                Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) => {}
                Err(error) => return Err(channel.failed(error)),
            }
        }
    }

    /// Returns where chunks live on the channel, by their names.
    fn living_by_id(
        &self,
        channel: ChannelId,
        shown: &Shown,
        both: &State,
        known: &Known,
    ) -> Result<HashMap<ChunkId, ChunkRef>, ClientError> {
        let damaged = self.damaged_groups(channel)?;
        let mut by_id = HashMap::new();
        for (number, layout) in &known.layouts {
            let Some(pack) = both.pack(*number, channel) else {
                continue;
            };
            let Some(live) = shown.view.live(&pack) else {
                continue;
            };
            let sound = damaged
                .get(&pack.root)
                .map_or_else(|| live.clone(), |damaged| live.minus(damaged));
            for (index, id) in living(layout, &[&sound]) {
                let pack = *number;
                by_id.insert(id, ChunkRef { pack, index });
            }
        }
        Ok(by_id)
    }

    /// Returns the chunks that another channel was last seen to have, and is not known to have damaged.
    fn on_others(
        &mut self,
        channel: ChannelId,
        state: &State,
        wanted: &BTreeSet<ChunkRef>,
        layouts: &BTreeMap<PackNumber, PackLayout>,
    ) -> Result<BTreeSet<ChunkRef>, ClientError> {
        let mut found = BTreeSet::new();
        if wanted.is_empty() {
            return Ok(found);
        }
        for id in self.layout()?.into_iter().filter(|id| *id != channel) {
            let other = match self.channel(id) {
                Ok(other) => other,
                Err(ClientError::Provider { .. }) => continue,
                Err(error) => return Err(error),
            };
            if self.view(id).is_none() {
                self.read_channel(&other)?;
            }
            let damaged = self.damaged_groups(id)?;
            for chunk in wanted {
                let pack = state.pack(chunk.pack, id);
                let groups = layouts
                    .get(&chunk.pack)
                    .and_then(|layout| layout.live_map([chunk.index]));
                let (Some(pack), Some(groups)) = (pack, groups) else {
                    continue;
                };
                let live = self.view(id).and_then(|view| view.live(&pack));
                let is_sound = damaged
                    .get(&pack.root)
                    .is_none_or(|damaged| !damaged.intersects(&groups));
                if is_sound && live.is_some_and(|live| live.contains_all(&groups)) {
                    found.insert(*chunk);
                }
            }
        }
        Ok(found)
    }

    /// Uploads what is not held and commits what is put back. Nothing where it must be planned anew.
    fn put_back(
        &mut self,
        channel: &Arc<OpenChannel>,
        branch: &Branch,
        known: &mut Known,
        mut plan: Plan,
        control: &Control,
    ) -> Result<Option<AstrayReport>, ClientError> {
        let shown_sequence = plan
            .shown
            .commit
            .as_ref()
            .map_or(0, |commit| commit.store.sequence);
        let sequence = known.commit.store.sequence.max(shown_sequence);
        if plan.repair.restored.is_empty()
            && let Some(row) = row_of(branch)
        {
            // All that was known is there, or is lost for good: what is shown is the store.
            self.node.saw(channel.id, &row)?;
            self.know_channels()?;
            self.stand_on(channel.id, plan.shown.commit.as_ref(), shown_sequence)?;
            self.keep_nodes(&plan.shown.view)?;
            self.settle_damage(&plan.shown.view)?;
            self.shown.insert(channel.id, plan.shown);
            self.stands_again()?;
            let layouts: Vec<PackLayout> = known.layouts.values().cloned().collect();
            self.catalog.put_layouts(&layouts)?;
            return Ok(Some(plan.report));
        }
        let mut uploads: Uploads<'_, Bytes> = Uploads::new(channel);
        for pack in &plan.vital {
            let bytes = self.journal.get(pack).unwrap_or_default();
            plan.report.bytes_sent += pack.length;
            uploads.add(Upload::of_rest(PackKind::Vital, *pack), bytes.into());
        }
        while uploads.drive()?.is_some() {}
        let after = union(&plan.state, &plan.repair.restored);
        let Some((mut records, mut layouts)) =
            self.seal_missing(&mut plan, known, &after, sequence + 1, control)?
        else {
            return Ok(None);
        };
        for record in core::mem::take(&mut plan.resealed) {
            records.push((self.node.next_record(), record));
        }
        layouts.extend(known.layouts.values().cloned());
        let known_layouts = layouts.clone();
        self.know_channels()?;
        self.stand_on(channel.id, plan.shown.commit.as_ref(), sequence)?;
        self.shown.insert(channel.id, plan.shown);
        let change = Change {
            records,
            restored: plan.repair.restored,
            layouts,
            is_fixed: true,
            joined: Some(known.commit.store.clone()),
            ..Change::default()
        };
        // By the layout of the state shown, another channel may have decided.
        self.deciding = Some(channel.id);
        let committed = self.commit(change, control);
        self.deciding = None;
        match committed {
            Ok(Outcome::Committed(committed)) => {
                self.stands_again()?;
                // Records of the past make the catalog be built anew, without them.
                self.catalog.put_layouts(&known_layouts)?;
                plan.report.bytes_sent += committed.sent;
                Ok(Some(plan.report))
            }
            // Another device was faster, or something is not held after all.
            Ok(Outcome::Superseded) | Err(ClientError::Astray { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down what the journal alone tells of the layout's channels: the state shown may be older than it.
    fn know_channels(&self) -> Result<(), ClientError> {
        let opened = self.node.channels()?;
        for id in self.layout()? {
            if opened.iter().all(|row| row.id != id) {
                self.node.put_channel(&self.channel_row(id)?)?;
            }
        }
        Ok(())
    }

    /// Seals the chunks that the channel does not hold into new packs and sends them, one after another. Nothing where some could not be had
    /// after all.
    fn seal_missing(
        &mut self,
        plan: &mut Plan,
        known: &mut Known,
        after: &State,
        as_of: u64,
        control: &Control,
    ) -> Result<Option<Sealed>, ClientError> {
        let mut records = Vec::new();
        let mut layouts = Vec::new();
        let pieces = pieces_of(&known.commit, &BTreeSet::new());
        let channels = self.channels()?;
        for (number, chunks) in &plan.packs {
            let mut builder = PackBuilder::new(*number, PackKind::Data);
            let mut compressor = Compressor::new(Level::default());
            for chunk in chunks {
                control.check()?;
                if let Some(piece) = pieces.get(&chunk.pack) {
                    let frame = piece.chunk(chunk.index);
                    let frame = frame.ok_or_else(|| bug("a piece lacks a chunk"))?;
                    builder
                        .push(frame)
                        .map_err(|error| bug(&error.to_string()))?;
                    continue;
                }
                let entry = entry_of(&known.layouts, *chunk);
                let entry = *entry.ok_or_else(|| bug("a chunk has no name"))?;
                let here = plan.copies.read(*chunk, &entry, &self.keys);
                let plain = if here.is_some() {
                    here
                } else {
                    let read = self.read_from_channels(core::slice::from_ref(chunk))?;
                    read.into_iter()
                        .find_map(|(_, read)| read.ok())
                        .filter(|plain| self.keys.content_key(entry.domain).id(plain) == entry.id)
                };
                let Some(plain) = plain else {
                    known.failed.insert(*chunk);
                    return Ok(None);
                };
                let frame = compressor.compress(&plain, None);
                builder
                    .push(FramedChunk {
                        id: entry.id,
                        chunk_type: ChunkType::Content,
                        domain: entry.domain,
                        codec: frame.codec,
                        dictionary: None,
                        plaintext_length: entry.plaintext_length,
                        frame: frame.bytes,
                    })
                    .map_err(|error| bug(&error.to_string()))?;
            }
            let repeat = Repeat::of_moved(after, as_of, |chunk| chunk.pack == *number);
            // Where the records are too long for a pack's table, the journal alone tells of these files.
            let _ = builder.set_records(repeat.encode());
            let mut sealer = Sealer::new(self, &channels);
            for (channel, reference) in sealer.seal(builder) {
                let record = Record::Pack {
                    number: *number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
            sealer.send()?;
            plan.report.bytes_sent += sealer.sent;
            layouts.append(&mut sealer.layouts);
        }
        Ok(Some((records, layouts)))
    }
}

fn astray_report(channel: &OpenChannel, branch: &Branch) -> Result<AstrayReport, ClientError> {
    let signers = [channel.keys.client.public()];
    let last = branch.seen.as_ref();
    let last = last.map(|seen| SignedHead::verify(&seen.head, channel.id, &signers));
    let last = last.transpose();
    let last =
        last.map_err(|_| ClientError::Corrupt("the last head seen does not verify".to_owned()))?;
    Ok(AstrayReport {
        is_fork: matches!(branch.astray, Astray::Fork { .. }),
        has_evidence: branch.has_evidence(),
        seen: last.as_ref().map(head_report),
        shown: branch.head.as_ref().map(head_report),
        revisions_missing: 0,
        runs_missing: 0,
        revisions_others: 0,
        revisions_restored: 0,
        chunks: 0,
        bytes_sent: 0,
        lost: Vec::new(),
    })
}

/// Counts what one side has and the other has not.
fn count(report: &mut AstrayReport, shown: &State, known: &Known) {
    let is_new = |of: &State, id: RecordId| !of.knows(id);
    let revisions = |of: &State, not: &State| {
        let kept = of.kept_revisions().filter(|(id, _)| is_new(not, *id));
        kept.count() as u64
    };
    report.revisions_missing = revisions(&known.state, shown);
    report.revisions_others = revisions(shown, &known.state);
    let runs = known.state.runs().keys();
    let runs = runs.filter(|run| known.state.end(**run).is_some() && is_new(shown, **run));
    report.runs_missing = runs.count() as u64;
}

/// Returns the pieces of a commit's tail but those carried on elsewhere.
fn pieces_of<'c>(
    commit: &'c Commit,
    carried: &BTreeSet<PackNumber>,
) -> BTreeMap<PackNumber, &'c Piece> {
    let pieces = commit.tail.iter().map(|tail| &tail.piece);
    let pieces = pieces.filter(|piece| !carried.contains(&piece.number()));
    pieces.map(|piece| (piece.number(), piece)).collect()
}

fn id_of(known: &Known, pieces: &BTreeMap<PackNumber, &Piece>, chunk: ChunkRef) -> Option<ChunkId> {
    let entry = match pieces.get(&chunk.pack) {
        Some(piece) => piece.entries().get(usize::try_from(chunk.index).ok()?)?,
        None => entry_of(&known.layouts, chunk)?,
    };
    Some(entry.id)
}

/// Returns the revisions of these names as their owner knows them.
fn named(state: &State, ids: &[RecordId]) -> Vec<TouchedRevision> {
    let ids: BTreeSet<RecordId> = ids.iter().copied().collect();
    let labels: BTreeMap<_, _> = state.sources().collect();
    let mut found = Vec::new();
    if ids.is_empty() {
        return found;
    }
    for ((source, path), entries) in state.paths() {
        let kept = entries.iter().filter(|(stamp, entry)| {
            matches!(entry, Entry::Revision { .. }) && state.is_kept(stamp.id)
        });
        let kept: Vec<RecordId> = kept.map(|(stamp, _)| stamp.id).collect();
        let revisions = kept.len() as u64;
        for (revision, id) in (1..).zip(kept) {
            if ids.contains(&id) {
                found.push(TouchedRevision {
                    source: labels.get(source).copied().unwrap_or_default().to_owned(),
                    path: to_path(path),
                    revision,
                    revisions,
                });
            }
        }
    }
    found.sort();
    found
}

/// Returns what is to be written down of a head that is accepted; nothing where none is shown.
fn row_of(branch: &Branch) -> Option<SeenRow> {
    let (answer, head) = (branch.answer.as_ref()?, branch.head.as_ref()?);
    Some(SeenRow {
        seen: Seen::of(head),
        head: answer.head.to_vec(),
        commit: answer.commit.clone().unwrap_or_default().to_vec(),
        ancestry: answer.ancestry.to_vec(),
    })
}

fn head_report(head: &SignedHead) -> HeadReport {
    HeadReport {
        sequence: head.head().sequence,
        root: head.root(),
        time: head.head().time,
    }
}

fn bug(what: &str) -> ClientError {
    ClientError::Bug(what.to_owned())
}
