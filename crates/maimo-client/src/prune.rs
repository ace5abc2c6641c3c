//! Pruning: what no policy keeps is let go of, packs that hold too much of it are written again, the journal is merged.
//!
//! ```text
//! sync -> plan: `drops`, what is needed -> commit "dropped", naming only that -> `rewrite` step by step, a commit each -> merge
//! ```
//!
//! Nothing is deleted by a call: letting go is a narrower head, which the provider's grace holds on to. Everything is planned from all that the journal says, read
//! past and never all in memory, anew after a lost race, so a prune that is cut off is finished by the next. Invariant: what a head lets go of is needed by no kept revision;
//! the rule that `commit` holds each head to says so again.

use std::collections::{BTreeMap, HashMap};

use globset::{Glob, GlobMatcher};
use maimo_core::{clock::Timestamp, live_map::LiveMap, reference::ObjectRef, units::BLOCK_BYTES};
use maimo_vault::{
    commit::Segment,
    compose::Base,
    journal::{
        batch::Stamp,
        merge::{SegmentWeight, plan as plan_merge},
        part::Part,
        record::Record,
    },
    name::{ChunkRef, PackNumber, RecordId, WriterId},
    pack::{Entry, PackLayout},
    path::StorePath,
    prune::{Drops, Rewrite, RewriteRules, target},
    retention::Policy,
};

use crate::{
    client::Client,
    commit::{Change, Naming, Outcome},
    engine::Engine,
    error::ClientError,
    progress::{Control, Event, Phase},
};

mod dictionaries;
mod drops;
mod rewrite;

/// What is asked of a prune.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PruneRequest {
    /// Only says what would be done.
    pub dry_run: bool,
    /// Writes no pack again, whatever it wastes.
    pub no_rewrite: bool,
    /// How many sealed bytes may be written again at most; any number unless set.
    pub move_max: Option<u64>,
}

/// What a prune did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PruneReport {
    /// Runs that no policy keeps.
    pub runs_dropped: u64,
    /// Revisions that nothing keeps.
    pub revisions_dropped: u64,
    /// Packs of which nothing is needed any more.
    pub packs_dropped: u64,
    /// Bytes let go of on the first channel, in those packs and in others.
    pub bytes_dropped: u64,
    /// Dictionaries that no chunk needs any more: they are let go of as well.
    pub dictionaries_retired: u64,
    /// When the provider frees what is let go of now; nothing where nothing is.
    pub free_on: Option<Timestamp>,
    /// Packs whose chunks were written again into others.
    pub packs_rewritten: u64,
    /// Bytes sent to all channels.
    pub bytes_sent: u64,
    /// Bytes read back to be written again.
    pub bytes_received: u64,
    /// The store's sequence afterwards.
    pub sequence: u64,
}

/// How often a plan is made anew after other devices were faster.
const ATTEMPTS: u32 = 8;

/// From how many dead bytes on a prune has segments of the journal written again for them: at least so many,
const DEAD_BYTES_MIN: u64 = 256 * 1024;
/// and a thousandth of the living data. Where files are large the journal is nothing beside them, and writing it again would send far more than the
/// head that lets them go.
const DEAD_PART_MIN: u64 = 1000;

/// What a prune would do to one state.
struct Plan {
    /// The state that it stands on, without its revisions.
    base: Base,
    /// Where the chunks stand of the packs that are to be written again.
    layouts: BTreeMap<PackNumber, PackLayout>,
    drops: Drops,
    /// What must live on, by pack, once those are dropped.
    targets: BTreeMap<PackNumber, LiveMap>,
    rewrite: Rewrite,
    /// What says that dictionaries are retired.
    retires: Vec<Record>,
    packs_dropped: u64,
    bytes_dropped: u64,
}

impl Client {
    /// Lets go of what no policy keeps: narrower heads, packs written again where they waste too much, a journal merged.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, prune::PruneRequest};
    /// # fn prune(client: &mut Client) -> Result<(), ClientError> {
    /// let plan = PruneRequest {
    ///     dry_run: true,
    ///     ..PruneRequest::default()
    /// };
    /// let would = client.prune(plan, &Control::default())?;
    /// if would.bytes_dropped > 0 {
    ///     client.prune(PruneRequest::default(), &Control::default())?;
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// Whatever keeps the store from being read or a commit from being made; what was committed until then stands.
    pub fn prune(
        &mut self,
        request: PruneRequest,
        control: &Control,
    ) -> Result<PruneReport, ClientError> {
        self.engine.prune(request, control)
    }
}

impl Engine {
    /// Lets go of what no policy keeps.
    pub(crate) fn prune(
        &mut self,
        request: PruneRequest,
        control: &Control,
    ) -> Result<PruneReport, ClientError> {
        self.sync(control)?;
        let first = self.first()?;
        self.read_layouts(&first, control)?;
        for _ in 0..ATTEMPTS {
            control.tell(Event::Phase(Phase::Pruning));
            let plan = self.plan_prune(request)?;
            let mut report = self.prune_report(&plan)?;
            if request.dry_run {
                report.packs_rewritten = plan.rewrite.packs.len() as u64;
                return Ok(report);
            }
            if !self.let_go(&plan, &mut report, control)? {
                continue;
            }
            self.rewrite(request, &mut report, control)?;
            report.bytes_sent += self.merge_weighed(control)?;
            report.sequence = self.catalog.position()?.sequence;
            return Ok(report);
        }
        Err(ClientError::Input {
            message: "other devices were faster, again and again".to_owned(),
            hint: Some("run the command again once they are done"),
        })
    }

    fn plan_prune(&mut self, request: PruneRequest) -> Result<Plan, ClientError> {
        let now = self.clock.now();
        let base = self.replay_part(&Part::default())?;
        let drops = self.plan_drops(now)?;
        let mut state = base.state.clone();
        // Not their final names: nobody sees them, and the state only asks what they drop.
        for (counter, record) in (0..).zip(drops.records()) {
            let writer = WriterId([0xff; 16]);
            let stamp = Stamp {
                sequence: base.sequence + 1,
                id: RecordId { writer, counter },
            };
            state.apply(stamp, record);
        }
        let mut layouts = self.layouts_of(&base)?;
        let first = self.first()?;
        let after = Base {
            state,
            ..base.clone()
        };
        let demand = self.demand_of(&after, &first)?;
        let targets = target(&demand, layouts.values());
        for number in demand.packs() {
            let in_tail = base.tail.iter().any(|tail| tail.piece.number() == number);
            if !in_tail && !targets.contains_key(&number) {
                return Err(ClientError::Corrupt(format!(
                    "where the chunks of pack {} stand is not known",
                    number.n
                )));
            }
        }
        let retires = self.retires(&demand, &layouts, &base.tail)?;
        let mut rewrite = Rewrite::default();
        if !request.no_rewrite {
            let rules = RewriteRules::default();
            rewrite = Rewrite::plan(&demand, layouts.values(), &targets, rules);
        }
        // Of the others only the targets are asked for: a million chunks take a hundred megabytes.
        layouts.retain(|number, _| rewrite.packs.contains(number));
        let (packs_dropped, bytes_dropped) = self.let_go_of(&base, &targets)?;
        Ok(Plan {
            base,
            layouts,
            drops,
            targets,
            rewrite,
            retires,
            packs_dropped,
            bytes_dropped,
        })
    }

    fn prune_report(&mut self, plan: &Plan) -> Result<PruneReport, ClientError> {
        let free_on = if plan.bytes_dropped > 0 {
            let first = self.first()?;
            let status = first.call(first.session.status())?;
            Some(status.terms.grace(status.now).ends(status.now))
        } else {
            None
        };
        Ok(PruneReport {
            runs_dropped: plan.drops.runs.len() as u64,
            revisions_dropped: plan.drops.revisions.len() as u64,
            packs_dropped: plan.packs_dropped,
            bytes_dropped: plan.bytes_dropped,
            dictionaries_retired: plan.retires.len() as u64,
            free_on,
            sequence: plan.base.sequence,
            ..PruneReport::default()
        })
    }

    /// Commits what is dropped. Returns whether it stands; if not, it is planned anew.
    fn let_go(
        &mut self,
        plan: &Plan,
        report: &mut PruneReport,
        control: &Control,
    ) -> Result<bool, ClientError> {
        if plan.drops.is_empty() && plan.bytes_dropped == 0 && plan.retires.is_empty() {
            return Ok(true);
        }
        let records = plan.drops.records().into_iter();
        let records = records.chain(plan.retires.iter().cloned());
        let change = Change {
            records: records
                .map(|record| (self.node.next_record(), record))
                .collect(),
            naming: Naming::Exactly(plan.targets.clone()),
            ..Change::default()
        };
        match self.commit(change, control)? {
            Outcome::Committed(committed) => {
                report.bytes_sent += committed.sent;
                Ok(true)
            }
            Outcome::Superseded => Ok(false),
        }
    }

    /// Merges journal segments for as long as any are worth it, by what is dead in them: each merge a commit of its own. Returns how many bytes
    /// were sent.
    fn merge_weighed(&mut self, control: &Control) -> Result<u64, ClientError> {
        let mut sent = 0;
        // Weighed once: what a merge wrote has nothing dead in it, and no merge makes anything die elsewhere that was not dead before.
        let dead = self.dead_bytes()?;
        for _ in 0..ATTEMPTS {
            control.check()?;
            let segments = self.placed_segments()?.into_iter();
            let weights: Vec<SegmentWeight> = segments
                .map(|(segment, pack)| SegmentWeight {
                    level: segment.level,
                    length: pack.length,
                    dead: dead.get(&segment.number).copied().unwrap_or(0),
                })
                .collect();
            let Some(chosen) = plan_merge(&weights) else {
                break;
            };
            let change = Change {
                merge: Some(chosen),
                ..Change::default()
            };
            match self.commit(change, control)? {
                Outcome::Committed(committed) => sent += committed.sent,
                Outcome::Superseded => break,
            }
        }
        Ok(sent)
    }

    /// Returns how many bytes of each segment are dead; nothing where all of them together are too few to be worth a merge.
    fn dead_bytes(&mut self) -> Result<HashMap<PackNumber, u64>, ClientError> {
        let first = self.first()?;
        let segments = self.placed_segments()?;
        let living = self.view(first.id).map_or(0, |view| {
            let blocks = view.data.reference().sums().live_blocks;
            blocks.saturating_mul(BLOCK_BYTES)
        });
        let least = DEAD_BYTES_MIN.max(living / DEAD_PART_MIN);
        let all: u64 = segments.iter().map(|(_, pack)| pack.length).sum();
        if all < least {
            return Ok(HashMap::new());
        }
        let weights = self.weigh_segments(&segments, &first, least)?;
        let dead: u64 = weights.iter().map(|weight| weight.dead).sum();
        let numbers = segments.iter().map(|(segment, _)| segment.number);
        let dead_of_each = numbers.zip(weights.iter().map(|weight| weight.dead));
        Ok(if dead < least {
            HashMap::new()
        } else {
            dead_of_each.collect()
        })
    }

    /// Returns the segments of the newest state, and where they are on the first channel.
    fn placed_segments(&mut self) -> Result<Vec<(Segment, ObjectRef)>, ClientError> {
        let first = self.first()?;
        let segments = self.catalog.position()?.segments;
        let view = self.view(first.id);
        let mut packs = Vec::with_capacity(segments.len());
        for segment in segments {
            let pack = view.and_then(|view| view.segments.get(&segment.number));
            let pack = *pack.ok_or_else(|| bug("a segment of the state is not on the channel"))?;
            packs.push((segment, pack));
        }
        Ok(packs)
    }

    /// Returns the first channel's layouts of all data packs of a state that are known.
    pub(crate) fn layouts_of(
        &self,
        base: &Base,
    ) -> Result<BTreeMap<PackNumber, PackLayout>, ClientError> {
        let Some(first) = self.layout()?.first().copied() else {
            return Ok(BTreeMap::new());
        };
        let reader = self.catalog.reader()?;
        let mut layouts = BTreeMap::new();
        let mut missing = Vec::new();
        for (number, pack) in base.state.packs(first) {
            if let Some(layout) = reader.layout(number)? {
                layouts.insert(number, layout);
            } else if self
                .view(first)
                .is_some_and(|view| view.live(&pack).is_some())
            {
                missing.push(pack);
            }
        }
        // Packs of another device: without their tables nothing could be said of what is needed of them.
        let open = self.open.iter().find(|open| open.id == first);
        if let Some(channel) = open.filter(|_| !missing.is_empty()) {
            for layout in crate::recover::layouts::read_all(channel, &missing)? {
                layouts.insert(layout.number(), layout);
            }
        }
        Ok(layouts)
    }

    /// Returns how many packs, and how many bytes in all, the first channel would let go of.
    fn let_go_of(
        &mut self,
        base: &Base,
        targets: &BTreeMap<PackNumber, LiveMap>,
    ) -> Result<(u64, u64), ClientError> {
        let first = self.first()?;
        let view = self.view(first.id);
        let numbers: HashMap<_, _> = base
            .state
            .packs(first.id)
            .map(|(number, pack)| (pack, number))
            .collect();
        let (mut packs, mut bytes) = (0, 0);
        for entry in view.into_iter().flat_map(|view| view.data.entries()) {
            let living = entry.live().live_bytes(entry.pack().length);
            let kept = numbers
                .get(entry.pack())
                .and_then(|number| targets.get(number));
            match kept {
                None => {
                    packs += 1;
                    bytes += living;
                }
                Some(kept) => {
                    let goes = entry.live().minus(kept);
                    bytes += goes.live_bytes(entry.pack().length);
                }
            }
        }
        Ok((packs, bytes))
    }

    /// Returns the policies that are for some paths only.
    fn patterns(&self) -> Result<Vec<(GlobMatcher, Policy)>, ClientError> {
        let policies = self.catalog.reader()?.policies()?;
        let mut patterns = Vec::new();
        for (pattern, policy) in policies {
            let (false, Some(policy)) = (pattern.is_empty(), policy) else {
                continue;
            };
            let glob = Glob::new(&pattern).map_err(|error| ClientError::Input {
                message: format!("the pattern `{pattern}` of a policy is none: {error}"),
                hint: Some("set it anew with `maimo keep --pattern`"),
            })?;
            patterns.push((glob.compile_matcher(), policy));
        }
        Ok(patterns)
    }
}

pub(crate) fn entry_of(
    layouts: &BTreeMap<PackNumber, PackLayout>,
    chunk: ChunkRef,
) -> Option<&Entry> {
    let layout = layouts.get(&chunk.pack)?;
    layout.entries().get(usize::try_from(chunk.index).ok()?)
}

/// Returns a path as patterns see it: components with slashes before them, what is not text replaced.
fn text_of(path: &StorePath) -> String {
    let mut text = String::new();
    for component in path.components() {
        text.push('/');
        text.push_str(&String::from_utf8_lossy(component));
    }
    text
}

fn bug(what: &str) -> ClientError {
    ClientError::Bug(what.to_owned())
}
