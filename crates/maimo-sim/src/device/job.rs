//! Work under way, step by step.
//!
//! ```text
//!  sync -> plan -> upload -> compose -> upload -> send --receipt--> follow (other channels) -> done
//!   ^                                              |
//!   '------------- rebase, or plan anew -----------'  lost race, or not held
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{
    custody::Refusal,
    id::{ChannelId, RootHash},
    receipt::Receipt,
};
use maimo_vault::{
    candidate::Candidate,
    commit::StorePart,
    compose::{Base, Body, Draft, SegmentWriter, Watermark},
    compress::Level,
    descent::{Seen, accept},
    journal::batch::Batch,
    name::{ChunkId, ChunkRef, PackNumber, RecordId},
    pack::{PackKind, PackLayout},
};

use super::{
    Cache, Device, Home, Living, Sealer, draft, follow, naming, prune, rebase, repair, store, sync,
};
use crate::world::Shared;

/// What the work is for.
#[derive(Clone)]
pub enum Purpose {
    /// Store what changed; then delete the local copies of these paths.
    Store {
        /// The paths to evict once all channels have acknowledged.
        delete_local: BTreeSet<u8>,
    },
    /// Record these paths as evicted; then unlink them.
    Evict {
        /// The paths, with the revision whose possession was proven.
        paths: BTreeMap<u8, RecordId>,
    },
    /// Let go of what no policy keeps.
    Prune,
    /// Merge segments of the journal.
    Merge,
    /// Open another channel as a mirror.
    Mirror,
    /// Put back what a channel that was rolled back no longer shows, from what was known before.
    Repair {
        /// What was known.
        known: Rc<Cache>,
    },
}

/// Where the work stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The newest state is to be read.
    Sync,
    /// The draft is to be made.
    Plan,
    /// Packs are to be uploaded; then the head is composed.
    Upload,
    /// The next head is to be made.
    Compose,
    /// What composing sealed is to be uploaded, and the head sent.
    Send,
    /// The other channels are to follow.
    Follow,
    /// Files are to be set aside: first written down, then done, then unlinked, then forgotten.
    SetAside,
    /// What is set aside is to be unlinked.
    Unlink,
}

/// Work under way, in the home.
#[derive(Clone)]
pub struct Job {
    /// What it is for.
    pub purpose: Purpose,
    /// Where it stands.
    pub stage: Stage,
    /// What it wants to commit.
    pub plan: Option<Plan>,
    /// The commit it has composed.
    pub next: Option<Next>,
    /// Its store sequence once the first channel has acknowledged it.
    pub acknowledged: Option<u64>,
    /// How often it has begun anew.
    pub attempts: u32,
}

/// What a job wants to commit.
#[derive(Clone)]
pub struct Plan {
    /// Records and small chunks.
    pub draft: Draft,
    /// Chunks it took by dedup.
    pub taken: BTreeMap<ChunkRef, ChunkId>,
    /// Packs it sealed.
    pub layouts: BTreeMap<PackNumber, Rc<PackLayout>>,
    /// What the head is to name.
    pub naming: Naming,
    /// Segments to be merged, by index.
    pub merge: Option<Vec<usize>>,
}

/// What a commit changes of the data packs that a head names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// What the draft refers to is named as well.
    New,
    /// All that is kept is named as well.
    All,
    /// All that is kept is named, and nothing else.
    Exactly,
}

/// A commit composed and not acknowledged yet.
#[derive(Clone)]
pub struct Next {
    /// The state.
    pub base: Base,
    /// The commit's part that all channels share.
    pub store: StorePart,
    /// The first channel's next head.
    pub candidate: Rc<Candidate>,
    /// How far the writer's names had been given out.
    pub watermark: Watermark,
    /// Tables sealed on the way.
    pub layouts: BTreeMap<PackNumber, Rc<PackLayout>>,
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There is more to do.
    Going,
    /// The work is done.
    Done,
    /// It cannot go on at the moment.
    Waiting,
    /// A channel shows a head that does not follow: exit 22.
    Astray(ChannelId),
    /// The cap does not allow it: exit 23.
    Full,
    /// A channel lacks bytes it should hold.
    Damaged(ChannelId),
}

impl Job {
    /// Begins work.
    pub fn new(purpose: Purpose) -> Self {
        Self {
            purpose,
            stage: Stage::Sync,
            plan: None,
            next: None,
            acknowledged: None,
            attempts: 0,
        }
    }
}

impl Device {
    /// Does one step of the job under way.
    pub fn step(&mut self, shared: &mut Shared) -> Outcome {
        let Some(job) = &self.home.job else {
            return Outcome::Done;
        };
        match job.stage {
            Stage::Sync => self.sync_step(shared),
            Stage::Plan => self.plan_step(shared),
            Stage::Upload => self.upload_step(shared, Stage::Compose),
            Stage::Compose => self.compose_step(shared),
            Stage::Send => self.send_step(shared),
            Stage::Follow => self.follow_step(shared),
            Stage::SetAside => self.set_aside_step(),
            Stage::Unlink => self.unlink_step(shared),
        }
    }

    fn job(&mut self) -> &mut Job {
        self.home.job.as_mut().expect("a step has a job")
    }

    fn go(&mut self, stage: Stage) -> Outcome {
        self.job().stage = stage;
        Outcome::Going
    }

    /// Ends the job, whatever has become of it; what it sealed and no head names is let go by its lease.
    pub fn end_job(&mut self) {
        self.home.job = None;
        self.home.spool.clear();
    }

    fn sync_step(&mut self, shared: &mut Shared) -> Outcome {
        let known = self.home.cache.clone();
        let reachable = shared.reachable();
        let read = match &self.job().purpose {
            Purpose::Repair { known } => repair::read(&reachable, &shared.keys, known),
            _ => sync::sync(&reachable, &shared.keys, &self.home.seen, known.as_deref()),
        };
        let synced = match read {
            Ok(synced) => synced,
            Err(sync::SyncError::Offline) => return Outcome::Waiting,
            Err(sync::SyncError::Astray(channel, _)) => return Outcome::Astray(channel),
            Err(sync::SyncError::Damaged(channel)) => return Outcome::Damaged(channel),
        };
        // The reply may have been lost, or a crash have come before it was written down: then the head sent is the one shown, or
        // before it. That alone says so: names of records may have been used by a twin.
        let candidate = self.job().next.clone().filter(|next| {
            let channel = next.candidate.after.channel;
            let provider = &shared.providers[&channel];
            let sent = seen(&next.candidate);
            let head = synced
                .cache
                .views
                .get(&channel)
                .and_then(|view| view.head.clone());
            accept(
                Some(sent),
                head.as_ref(),
                provider.prove(sent.sequence).as_ref(),
            )
            .is_ok()
        });
        let committed = candidate
            .as_ref()
            .map_or(self.home.committed, |next| next.watermark);
        let has_twin = self
            .home
            .take_in(synced, committed, || shared.draw_writer());
        let sequence = self
            .home
            .cache
            .as_ref()
            .map_or(0, |cache| cache.base.sequence);
        let job = self.job();
        if candidate.is_some() {
            job.acknowledged = Some(sequence);
            job.next = None;
            return self.go(Stage::Follow);
        }
        if has_twin {
            job.plan = None;
        }
        self.go(Stage::Plan)
    }

    fn plan_step(&mut self, shared: &mut Shared) -> Outcome {
        let job = self.job();
        job.next = None;
        job.attempts += 1;
        let purpose = job.purpose.clone();
        let plan = match (purpose, job.plan.take()) {
            (Purpose::Store { .. } | Purpose::Evict { .. }, Some(plan)) => {
                rebase::rebase(&mut self.home, shared, plan)
            }
            _ => None,
        };
        let plan = match (plan, &self.job().purpose.clone()) {
            (Some(plan), _) => Some(plan),
            (None, Purpose::Store { .. }) => {
                self.put_back();
                Some(store::plan(&mut self.home, &self.disk, shared))
            }
            (None, Purpose::Evict { paths }) => super::evict::plan(&mut self.home, shared, paths),
            (None, Purpose::Prune) => prune::plan(&mut self.home, shared),
            (None, Purpose::Merge) => prune::plan_merge(&mut self.home, shared),
            (None, Purpose::Mirror) => follow::plan_mirror(&mut self.home, shared),
            (None, Purpose::Repair { known }) => repair::plan(&mut self.home, shared, known),
        };
        if plan.is_none() {
            self.end_job();
            return Outcome::Done;
        }
        self.job().plan = plan;
        self.go(Stage::Upload)
    }

    /// Uploads the next pack of the spool to the first channel, then to the others as far as they can be reached.
    fn upload_step(&mut self, shared: &mut Shared, then: Stage) -> Outcome {
        let cache = Rc::clone(self.home.cache.as_ref().expect("a plan has a cache"));
        let channels = sync::layout_channels(&cache, &shared.keys);
        let first = channels[0];
        let next = self
            .home
            .spool
            .iter()
            .filter(|((channel, _), spooled)| !spooled.uploaded && shared.is_reachable(*channel))
            .min_by_key(|((channel, number), _)| (*channel != first, *number))
            .map(|(key, spooled)| (*key, spooled.clone()));
        let Some(((channel, number), spooled)) = next else {
            let all_at_first = self
                .home
                .spool
                .iter()
                .all(|((channel, _), spooled)| *channel != first || spooled.uploaded);
            return if all_at_first {
                self.go(then)
            } else {
                Outcome::Waiting
            };
        };
        let class = match spooled.kind {
            PackKind::Data => maimo_core::custody::PackClass::Data,
            PackKind::Vital => maimo_core::custody::PackClass::Vital,
        };
        let now = shared.now;
        let provider = shared.provider(channel);
        if provider.upload(&spooled.pack.bytes, class, now).is_err() {
            self.end_job();
            return Outcome::Full;
        }
        if let Some(spooled) = self.home.spool.get_mut(&(channel, number)) {
            spooled.uploaded = true;
        }
        Outcome::Going
    }

    fn compose_step(&mut self, shared: &mut Shared) -> Outcome {
        let cache = Rc::clone(self.home.cache.as_ref().expect("a plan has a cache"));
        let plan = self.job().plan.clone().expect("composing follows planning");
        let next = compose(&mut self.home, shared, &cache, &plan);
        self.job().next = Some(next);
        self.go(Stage::Send)
    }

    fn send_step(&mut self, shared: &mut Shared) -> Outcome {
        let cache = Rc::clone(self.home.cache.as_ref().expect("a plan has a cache"));
        let first = sync::layout_channels(&cache, &shared.keys)[0];
        if !shared.is_reachable(first) {
            return Outcome::Waiting;
        }
        let unsent = |home: &Home| {
            let mut spool = home.spool.iter();
            spool.any(|((channel, _), spooled)| *channel == first && !spooled.uploaded)
        };
        if unsent(&self.home) {
            return self.upload_step(shared, Stage::Send);
        }
        let next = self.job().next.clone().expect("sending follows composing");
        let plan = self.job().plan.clone().expect("sending follows planning");
        match send(shared, first, &next.candidate) {
            Ok(()) => {
                shared.acknowledged(&plan, &next, self.home.source);
                self.home.seen.insert(first, seen(&next.candidate));
                self.home.committed = next.watermark;
                let mut after = (*cache).clone();
                after.views.insert(first, next.candidate.after.clone());
                after.shown.insert(first, next.base.sequence);
                after.layouts.extend(plan.layouts.clone());
                after.layouts.extend(next.layouts.clone());
                after
                    .layouts
                    .retain(|number, _| next.base.state.pack(*number, first).is_some());
                after.segments = segments(&self.home, shared, first, &next.base, &after);
                after.store = Some(next.store.clone());
                after.joined = None;
                after.base = next.base.clone();
                self.home.cache = Some(Rc::new(after));
                let job = self.job();
                job.acknowledged = Some(next.base.sequence);
                job.next = None;
                self.go(Stage::Follow)
            }
            Err(Refusal::Conflict { .. }) => self.go(Stage::Sync),
            Err(Refusal::NotHeld(not_held)) => {
                for (pack, _) in not_held.missing {
                    self.home.not_held.insert((first, pack));
                }
                // Its lease ran out while it was on its way: up again from the spool, or made anew.
                let mut again = false;
                for ((channel, _), spooled) in &mut self.home.spool {
                    let key = (*channel, spooled.pack.reference);
                    if self.home.not_held.remove(&key) {
                        spooled.uploaded = false;
                        again = true;
                    }
                }
                if !again {
                    self.job().plan = None;
                }
                self.go(Stage::Sync)
            }
            Err(Refusal::CapExceeded(_)) => {
                self.end_job();
                Outcome::Full
            }
            Err(refusal) => panic!("an honest client's head was refused: {refusal}"),
        }
    }

    fn follow_step(&mut self, shared: &mut Shared) -> Outcome {
        let cache = Rc::clone(
            self.home
                .cache
                .as_ref()
                .expect("an acknowledged job has a cache"),
        );
        let channels = sync::layout_channels(&cache, &shared.keys);
        for channel in &channels[1..] {
            let behind = cache.shown.get(channel).copied().unwrap_or(0) < cache.base.sequence;
            if behind && shared.is_reachable(*channel) {
                match follow::follow(&mut self.home, shared, &cache, *channel) {
                    follow::Followed::Moved | follow::Followed::Uploaded => return Outcome::Going,
                    follow::Followed::CannotYet => {}
                }
            }
        }
        let acknowledged = self.job().acknowledged.unwrap_or(0);
        let all = channels
            .iter()
            .all(|channel| cache.shown.get(channel).copied().unwrap_or(0) >= acknowledged);
        match self.job().purpose.clone() {
            Purpose::Store { delete_local } if all && !delete_local.is_empty() => {
                let paths = super::evict::proven(&self.home, &self.disk, shared, &delete_local);
                self.end_job();
                if paths.is_empty() {
                    return Outcome::Done;
                }
                self.home.job = Some(Job::new(Purpose::Evict { paths }));
                Outcome::Going
            }
            Purpose::Evict { .. } if all => self.go(Stage::SetAside),
            _ => {
                self.end_job();
                Outcome::Done
            }
        }
    }
}

/// Makes the next commit and the first channel's head for it.
fn compose(home: &mut Home, shared: &mut Shared, cache: &Cache, plan: &Plan) -> Next {
    let keys = Rc::clone(&shared.keys);
    let channels = sync::layout_channels(cache, &keys);
    let writer = SegmentWriter {
        id_key: &keys.journal,
        level: Level::new(1).expect("a level"),
    };
    let mut sealer = Sealer::new(home, &keys, &channels, &mut shared.rng);
    let base = cache.base.clone();
    let base = match &plan.merge {
        Some(chosen) => {
            let read =
                |segment: maimo_vault::commit::Segment| cache.segments[&segment.number].to_vec();
            maimo_vault::compose::compose_merge(base, chosen, read, &writer, &mut sealer)
        }
        None => maimo_vault::compose::compose(base, &plan.draft, &writer, &mut sealer),
    };
    let sealed = sealer.layouts;
    let mut layouts = cache.layouts.clone();
    layouts.extend(plan.layouts.clone());
    layouts.extend(sealed.clone());
    let first = channels[0];
    let view = &cache.views[&first];
    let data = naming::data_changes(&base, &layouts, view, plan, first);
    let new_segments = follow::spooled_segments(home, first);
    let store_part = sync::next_store_part(cache, home, &keys, &base);
    let advance = maimo_vault::candidate::Advance {
        store: store_part.clone(),
        next: &base,
        data,
        dictionaries: &[],
        new_segments: &new_segments,
    };
    let candidate = view
        .candidate(advance, &keys.channels[&first], shared.now, &mut shared.rng)
        .expect("a composed commit has all it names");
    let living = Living {
        base: &base,
        layouts: &layouts,
        view: &candidate.after,
    };
    if let Err(unresolved) = living.check() {
        panic!("the rules would have signed a head that loses data: {unresolved}");
    }
    Next {
        base,
        store: store_part,
        candidate: Rc::new(candidate),
        watermark: home.next,
        layouts: sealed,
    }
}

/// Sends a candidate: nodes that do not fit first, then the move. Checks the receipt.
pub fn send(shared: &mut Shared, channel: ChannelId, candidate: &Candidate) -> Result<(), Refusal> {
    let (request, ahead) = candidate.request();
    let now = shared.now;
    let provider = shared.provider(channel);
    for node in ahead {
        provider.put_node(node, now).expect("room for a node");
    }
    let receipt = provider.move_head(&request.encode(), now)?;
    let receipt = Receipt::verify(&receipt, &provider.auth()).expect("a provider's own receipt");
    let sequence = candidate.after.sequence();
    receipt
        .check(channel, sequence, candidate.root)
        .expect("the receipt is of the head sent");
    Ok(())
}

/// Returns what having moved a channel to a candidate means.
pub fn seen(candidate: &Candidate) -> Seen {
    let root: RootHash = candidate.root;
    Seen {
        sequence: candidate.after.sequence(),
        root,
    }
}

/// Returns the records of the segments of a state, from what is at hand or was just sealed.
fn segments(
    home: &Home,
    shared: &Shared,
    channel: ChannelId,
    base: &Base,
    cache: &Cache,
) -> BTreeMap<PackNumber, Rc<Vec<Batch>>> {
    let read = |number: PackNumber| {
        let spooled = &home.spool[&(channel, number)];
        Rc::new(draft::open_segment(
            &spooled.pack.bytes,
            &shared.keys,
            channel,
        ))
    };
    base.segments
        .iter()
        .map(|segment| {
            let known = cache.segments.get(&segment.number).cloned();
            (
                segment.number,
                known.unwrap_or_else(|| read(segment.number)),
            )
        })
        .collect()
}

/// Returns a draft without records: for a commit that only merges.
pub fn empty_draft() -> Draft {
    Draft {
        records: Vec::new(),
        restored: Vec::new(),
        body: Body::Segments(Vec::new()),
    }
}
