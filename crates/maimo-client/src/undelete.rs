//! Undoing a prune, or a `remove`, for as long as the provider's grace lasts: the revisions that an earlier head kept are kept again.
//!
//! The earlier head's journal says what was kept then. What of it the store no longer knows is written again as it was stamped
//! ([`maimo_vault::repair`]), what it has dropped is pinned, so that the next prune does not drop it again, and a head names the ranges again. Only
//! the provider can say whether it still holds them: it refuses a head that names what it has freed. Small chunks that rode in the earlier head's
//! commit and were in no pack when they were let go of are taken from it, and stored again.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use maimo_core::{clock::Timestamp, head::SignedHead, live_map::LiveMap, reference::ObjectRef};
use maimo_net::service::{ServiceError, ShownHead, WhichHead};
use maimo_vault::{
    commit::{Commit, TailPiece},
    compose::Base,
    demand::Demand,
    journal::{
        batch::{Batch, Stamp},
        record::Record,
        state::{Entry, State},
    },
    name::{ChunkRef, PackNumber, RecordId},
    pack::{PackLayout, Piece},
    repair::Repair,
};

use crate::{
    client::Client,
    commit::{Change, Naming, Outcome, too_busy},
    engine::Engine,
    error::ClientError,
    progress::{Control, Event, Phase},
    recover::layouts,
    session::OpenChannel,
};

/// What is to be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UndeleteRequest {
    /// What was kept at this time, by the provider's clock; unless given, what was kept before the store last let go of anything.
    pub to: Option<Timestamp>,
    /// Only says what would be done.
    pub dry_run: bool,
}

/// What was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UndeleteReport {
    /// When the head that it is brought back from was admitted; nothing where there is none.
    pub from: Option<Timestamp>,
    /// Runs that are kept again, pinned.
    pub runs: u64,
    /// Revisions that are kept again, pinned.
    pub revisions: u64,
    /// Revisions that cannot be brought back.
    pub lost: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// The store's sequence afterwards.
    pub sequence: u64,
}

/// How many heads back what was let go of is looked for.
const HEADS_MAX: u64 = 1000;
/// How often it is planned anew after other devices were faster.
const ATTEMPTS: u32 = 8;

impl Client {
    /// Brings back what a prune or a removal let go of, as long as the provider holds it in grace, and pins it.
    ///
    /// ```no_run
    /// # use maimo_client::{client::Client, error::ClientError, progress::Control, undelete::UndeleteRequest};
    /// # fn undelete(client: &mut Client) -> Result<(), ClientError> {
    /// let back = client.undelete(UndeleteRequest::default(), &Control::default())?;
    /// assert_eq!(back.lost, 0);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// That no earlier state is shown any more, that something of it is no longer held, or whatever keeps a commit from being made.
    pub fn undelete(
        &mut self,
        request: UndeleteRequest,
        control: &Control,
    ) -> Result<UndeleteReport, ClientError> {
        for _ in 0..ATTEMPTS {
            self.engine.sync(control)?;
            let before = self.engine.catalog.position()?.sequence;
            if let Some(report) = self.engine.undelete(request, control)? {
                return Ok(report);
            }
            if self.engine.catalog.position()?.sequence == before {
                return Err(ClientError::Input {
                    message: "some of it is no longer held".to_owned(),
                    hint: Some("name a later time with `--to`"),
                });
            }
        }
        Err(too_busy())
    }
}

/// An earlier state.
struct Earlier {
    admitted: Timestamp,
    records: Vec<(Stamp, Record)>,
    state: State,
    /// The newest records and small chunks of its commit.
    tail: Vec<TailPiece>,
}

/// What is to be written again, and what it takes.
struct Plan {
    repair: Repair,
    /// Where the chunks stand of packs that the catalog no longer knows.
    layouts: BTreeMap<PackNumber, PackLayout>,
    /// Chunks that stand in no pack, but in the earlier commit.
    piece: Option<Piece>,
}

impl Engine {
    /// Brings back what the state that was just read lacks; nothing where another device was faster, or the provider no longer holds something.
    fn undelete(
        &mut self,
        request: UndeleteRequest,
        control: &Control,
    ) -> Result<Option<UndeleteReport>, ClientError> {
        control.tell(Event::Phase(Phase::Recovering));
        let first = self.first()?;
        let Some(earlier) = self.earlier(&first, request.to, control)? else {
            return Err(ClientError::Input {
                message: "the provider shows no earlier state of which anything was let go"
                    .to_owned(),
                hint: Some("what its grace no longer covers is gone"),
            });
        };
        let base = self.replay()?;
        let Plan {
            repair,
            layouts,
            piece,
        } = self.plan_undelete(&first, &earlier, &base)?;
        let mut after = base.state.clone();
        for (stamp, record) in &repair.restored {
            after.apply(*stamp, record.clone());
        }
        let lost: BTreeSet<RecordId> = repair.lost.iter().copied().collect();
        let is_back = |id: RecordId| {
            earlier.state.is_kept(id)
                && !lost.contains(&id)
                && !(base.state.knows(id) && base.state.is_kept(id))
        };
        let revisions: Vec<RecordId> = earlier
            .state
            .kept_revisions()
            .map(|(id, _)| id)
            .filter(|id| is_back(*id))
            .collect();
        let runs: Vec<RecordId> = earlier
            .state
            .runs()
            .keys()
            .copied()
            .filter(|run| earlier.state.end(*run).is_some() && is_back(*run))
            .collect();
        let mut report = UndeleteReport {
            from: Some(earlier.admitted),
            runs: runs.len() as u64,
            revisions: revisions.len() as u64,
            lost: repair.lost.len() as u64,
            bytes_sent: 0,
            sequence: base.sequence,
        };
        if request.dry_run || (runs.is_empty() && revisions.is_empty()) {
            return Ok(Some(report));
        }
        let naming = self.groups_back(&after, &revisions, &layouts)?;
        let pins = runs.iter().chain(&revisions).map(|id| Record::Pin {
            id: *id,
            pinned: true,
        });
        let records = pins
            .map(|record| (self.node.next_record(), record))
            .collect();
        let change = Change {
            records,
            piece,
            restored: repair.restored,
            layouts: layouts.into_values().collect(),
            naming: Naming::Also(naming),
            // What another device has written again meanwhile may lack what nobody kept.
            is_fixed: true,
            ..Change::default()
        };
        match self.commit(change, control)? {
            Outcome::Committed(committed) => {
                report.bytes_sent = committed.sent;
                report.sequence = committed.sequence;
                Ok(Some(report))
            }
            Outcome::Superseded => Ok(None),
        }
    }

    /// Returns the groups that the revisions need, to be named again: no new record of the commit refers to them.
    fn groups_back(
        &self,
        after: &State,
        revisions: &[RecordId],
        layouts: &BTreeMap<PackNumber, PackLayout>,
    ) -> Result<BTreeMap<PackNumber, LiveMap>, ClientError> {
        let back: BTreeSet<RecordId> = revisions.iter().copied().collect();
        let mut demand = Demand::default();
        for (stamp, entry) in after.paths().values().flatten() {
            if let Entry::Revision { content, .. } = entry
                && back.contains(&stamp.id)
            {
                after
                    .resolve_all(content.extents())
                    .for_each(|chunk| demand.add(chunk));
            }
        }
        let reader = self.catalog.reader()?;
        let mut groups = BTreeMap::new();
        for number in demand.packs() {
            let known = match layouts.get(&number) {
                Some(layout) => Some(layout.clone()),
                None => reader.layout(number)?,
            };
            // Without one it is a piece of the tail, which the commit holds.
            let live = known.and_then(|layout| demand.live_map(&layout));
            groups.extend(live.map(|live| (number, live)));
        }
        Ok(groups)
    }

    /// Plans what is to be written again. What the catalog no longer knows of packs is read from the provider, where it still has it.
    fn plan_undelete(
        &self,
        first: &OpenChannel,
        earlier: &Earlier,
        base: &Base,
    ) -> Result<Plan, ClientError> {
        let now = &base.state;
        let reader = self.catalog.reader()?;
        let mut layouts: BTreeMap<PackNumber, PackLayout> = BTreeMap::new();
        let mut chunks: HashMap<PackNumber, u32> = HashMap::new();
        let pack_of = |number| {
            now.pack(number, first.id)
                .or_else(|| earlier.state.pack(number, first.id))
        };
        let needed: BTreeSet<PackNumber> = earlier
            .state
            .kept_revisions()
            .flat_map(|(_, content)| earlier.state.resolve_all(content.extents()))
            .flat_map(|chunk| [chunk.pack, now.resolve(chunk).pack])
            .collect();
        for number in needed {
            let Some(pack) = pack_of(number) else {
                continue;
            };
            if let Some(layout) = reader.layout(number)? {
                chunks.insert(number, count_of(layout.entries().len()));
            } else if let Some(layout) = read_layout(first, &pack)? {
                chunks.insert(number, count_of(layout.entries().len()));
                layouts.insert(number, layout);
            }
        }
        let pieces_of = |tail: &[TailPiece]| -> BTreeMap<PackNumber, Piece> {
            let pieces = tail.iter().map(|tail| tail.piece.clone());
            pieces.map(|piece| (piece.number(), piece)).collect()
        };
        let carried = pieces_of(&base.tail);
        for (number, piece) in &carried {
            chunks.insert(*number, count_of(piece.entries().len()));
        }
        let gone = pieces_of(&earlier.tail);
        let brought = RefCell::new(Piece::new(self.node.next_pack()));
        let find = |chunk: ChunkRef| {
            if let Some(count) = chunks.get(&chunk.pack) {
                return (chunk.index < *count).then_some(chunk);
            }
            let frame = gone.get(&chunk.pack)?.chunk(chunk.index)?;
            let mut brought = brought.borrow_mut();
            let index = brought.push(frame).ok()?;
            let pack = brought.number();
            Some(ChunkRef { pack, index })
        };
        let repair = Repair::plan(earlier.records.iter().cloned(), now, find);
        let brought = brought.into_inner();
        Ok(Plan {
            repair,
            layouts,
            piece: (!brought.entries().is_empty()).then_some(brought),
        })
    }

    /// Reads the state that is to be gone back to.
    fn earlier(
        &self,
        first: &OpenChannel,
        to: Option<Timestamp>,
        control: &Control,
    ) -> Result<Option<Earlier>, ClientError> {
        let Some(view) = self.view(first.id) else {
            return Ok(None);
        };
        let newest = view.sequence();
        let shown = if let Some(time) = to {
            first.call(first.session.head(WhichHead::At(time)))?
        } else {
            let mut later = view.data.reference().sums().live_blocks;
            let mut found = None;
            for sequence in (newest.saturating_sub(HEADS_MAX).max(1)..newest).rev() {
                control.check()?;
                let which = WhichHead::Sequence(sequence);
                let Some(shown) = first.call(first.session.head(which))? else {
                    break;
                };
                let living = head_of(first, &shown)?.head().data.sums().live_blocks;
                if living > later && shown.commit.is_some() {
                    found = Some(shown);
                    break;
                }
                later = living;
            }
            found
        };
        let Some(shown) = shown else {
            return Ok(None);
        };
        let head = head_of(first, &shown)?;
        // What is shown must be of this store's own past: signed by its key, and before the newest.
        if head.head().sequence > newest {
            return Err(first.wrong("an earlier head"));
        }
        let sealed = shown.commit.as_ref();
        let sealed = sealed.filter(|commit| head.head().commit.names(commit));
        let sealed = sealed.ok_or_else(|| first.wrong("the commit of an earlier head"))?;
        let commit = Commit::open(sealed, &first.keys.commit)
            .map_err(|_| first.wrong("a commit that opens"))?;
        let mut records: Vec<(Stamp, Record)> = Vec::new();
        for (segment, pack) in &commit.journal {
            control.check()?;
            if !self.journal.has(pack) {
                for bytes in first.fetch_whole(&[*pack])? {
                    self.journal.put(pack, &bytes)?;
                }
            }
            for batch in self.batches(pack, &first.keys)? {
                records.extend(batch.into_records(segment.sequence));
            }
        }
        for piece in &commit.tail {
            let batch = Batch::parse(piece.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            records.extend(batch.into_records(piece.sequence));
        }
        let mut state = State::default();
        for (stamp, record) in &records {
            state.apply(*stamp, record.clone());
        }
        Ok(Some(Earlier {
            admitted: shown.admitted,
            records,
            state,
            tail: commit.tail,
        }))
    }
}

fn head_of(first: &OpenChannel, shown: &ShownHead) -> Result<SignedHead, ClientError> {
    let signers = [first.keys.client.public()];
    SignedHead::verify(&shown.head, first.id, &signers).map_err(|_| first.wrong("a head"))
}

fn count_of(chunks: usize) -> u32 {
    u32::try_from(chunks).unwrap_or(u32::MAX)
}

/// Reads where the chunks of a data pack stand; nothing where the provider no longer has what says so.
fn read_layout(first: &OpenChannel, pack: &ObjectRef) -> Result<Option<PackLayout>, ClientError> {
    match layouts::read(first, &[*pack]) {
        Ok(mut read) => Ok(read.pop()),
        Err(ClientError::Provider {
            source: ServiceError::NotHeld { .. } | ServiceError::Damaged { .. },
            ..
        }) => Ok(None),
        Err(error) => Err(error),
    }
}
