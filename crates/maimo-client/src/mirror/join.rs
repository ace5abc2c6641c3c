//! Joining: the commits of a channel that decided by an older layout, while another was made the first without it, are merged as a set.
//!
//! ```text
//! A decides ... P --- P+1 --- P+2            other machines, to whom A answered
//!                \
//! B               '-- "B is first" -- ...    this one, to whom it did not         higher epoch: B's stands, and A's records come in
//! ```
//!
//! Nothing that A acknowledged is lost: its records come in as they were stamped, their chunks from A's packs, which B is given first. What A let go
//! of or moved is not: what is dropped on one side only stays, and the next prune decides anew. Then A follows B.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::id::ChannelId;
use maimo_vault::{
    compose::Sealing as _,
    journal::{
        batch::{Batch, Stamp},
        record::Record,
        repeat::Repeat,
    },
    name::{ChunkRef, PackNumber},
    pack::{PackBuilder, PackKind, Piece},
    prune::moved,
    repair::{Repair, union},
};

use crate::{
    commit::{Change, Outcome, Sealer, too_busy},
    engine::Engine,
    error::ClientError,
    progress::{Control, Event},
    session::OpenChannel,
    supply::Owed,
};

/// How often it is planned anew after other devices were faster.
const ATTEMPTS: u32 = 8;

impl Engine {
    /// Returns the store sequence after which a channel took commits that are not the store's, if it did: it shows an older layout, and more than
    /// there was when the layout in force was made.
    pub(crate) fn branch_since(&mut self, id: ChannelId) -> Result<Option<u64>, ClientError> {
        let position = self.catalog.position()?;
        let shown = self.shown.get(&id).and_then(|shown| shown.commit.as_ref());
        let (Some(ours), Some(theirs)) = (position.store, shown.map(|commit| &commit.store)) else {
            return Ok(None);
        };
        if theirs.layout_epoch >= ours.layout_epoch {
            return Ok(None);
        }
        let shows = theirs.sequence;
        let first = self.first()?;
        let Some(commit) = self.shown.get(&first.id).and_then(|it| it.commit.clone()) else {
            return Ok(None);
        };
        self.fetch_segments(&first.id, &commit, Some(&first), &Control::default())?;
        let mut made = None;
        for (stamp, record) in self.records_shown(first.id)? {
            if let Record::Layout { epoch, .. } = record
                && epoch == ours.layout_epoch
            {
                made = Some(stamp.sequence);
            }
        }
        let since = made.map_or(0, |made| made.saturating_sub(1));
        Ok((shows > since).then_some(since))
    }

    /// Returns all records that a channel's newest commit lists, from the cache, in no order.
    fn records_shown(&self, id: ChannelId) -> Result<Vec<(Stamp, Record)>, ClientError> {
        let commit = self.shown.get(&id).and_then(|shown| shown.commit.as_ref());
        let (_, keys) = self.keys_of(id)?;
        let mut records = Vec::new();
        for (segment, pack) in commit.into_iter().flat_map(|commit| &commit.journal) {
            for batch in self.batches(pack, &keys)? {
                records.extend(batch.into_records(segment.sequence));
            }
        }
        for piece in commit.into_iter().flat_map(|commit| &commit.tail) {
            let batch = Batch::parse(piece.piece.records())
                .map_err(|error| ClientError::Corrupt(error.to_string()))?;
            records.extend(batch.into_records(piece.sequence));
        }
        Ok(records)
    }

    /// Merges a channel's own branch into the store.
    pub(super) fn join(
        &mut self,
        id: ChannelId,
        sent: &mut u64,
        control: &Control,
    ) -> Result<(), ClientError> {
        for _ in 0..ATTEMPTS {
            control.check()?;
            let Some(since) = self.branch_since(id)? else {
                return Ok(());
            };
            let from = self.channel(id)?;
            let commit = self.shown.get(&id).and_then(|it| it.commit.clone());
            if let Some(commit) = &commit {
                self.fetch_segments(&id, commit, Some(&from), control)?;
            }
            let mut branch = self.records_shown(id)?;
            branch.retain(|(stamp, _)| stamp.sequence > since);
            self.joined = commit.as_ref().map(|commit| commit.store.clone());
            let pieces = commit.into_iter().flat_map(|commit| commit.tail);
            let pieces = pieces.filter(|tail| tail.sequence > since);
            let pieces: Vec<Piece> = pieces.map(|tail| tail.piece).collect();
            let joined = self.join_branch(&from, &branch, &pieces, sent, control);
            self.joined = None;
            if joined? {
                return Ok(());
            }
        }
        Err(too_busy())
    }

    /// Merges these records; returns whether it stands.
    fn join_branch(
        &mut self,
        from: &std::sync::Arc<OpenChannel>,
        branch: &[(Stamp, Record)],
        pieces: &[Piece],
        sent: &mut u64,
        control: &Control,
    ) -> Result<bool, ClientError> {
        // Where the branch's packs are, first: without that nothing of them can be read.
        let base = self.replay()?;
        let is_new = |(stamp, _): &&(Stamp, Record)| !base.state.knows(stamp.id);
        let packs = branch
            .iter()
            .filter(is_new)
            .filter(|(_, record)| matches!(record, Record::Pack { .. }));
        let packs: Vec<(Stamp, Record)> = packs.cloned().collect();
        if !packs.is_empty() {
            let change = Change {
                restored: packs,
                is_fixed: true,
                ..Change::default()
            };
            match self.commit(change, control)? {
                Outcome::Committed(committed) => *sent += committed.sent,
                Outcome::Superseded => return Ok(false),
            }
        }
        let base = self.replay()?;
        let is_new = |(stamp, _): &&(Stamp, Record)| !base.state.knows(stamp.id);
        let missing: Vec<(Stamp, Record)> = branch.iter().filter(is_new).cloned().collect();
        let both = union(&base.state, &missing);
        let mut needed: BTreeMap<PackNumber, PackKind> = BTreeMap::new();
        for (_, record) in &missing {
            match record {
                Record::File { content, .. } => {
                    let chunks = both.resolve_all(content.extents());
                    needed.extend(chunks.map(|chunk| (chunk.pack, PackKind::Data)));
                }
                Record::Dictionary { chunk, .. } => {
                    needed.insert(both.resolve(*chunk).pack, PackKind::Vital);
                }
                _ => {}
            }
        }
        let here: BTreeSet<PackNumber> = pieces.iter().map(Piece::number).collect();
        let in_tail = |number: &PackNumber| {
            let mut tail = base.tail.iter();
            here.contains(number) || tail.any(|tail| tail.piece.number() == *number)
        };
        needed.retain(|number, _| !in_tail(number));

        // The channel that decides is given what it has not.
        let first = self.first()?;
        let mut owed = Vec::new();
        for (number, kind) in &needed {
            let at_first = both.pack(*number, first.id);
            let has = at_first.is_some_and(|pack| {
                let view = self.view(first.id);
                let is_live = view.is_some_and(|view| view.live(&pack).is_some());
                is_live && !self.not_held.contains(&pack.root)
            });
            let there = both.pack(*number, from.id);
            if let (false, Some(pack)) = (has, there) {
                let live = self.view(from.id).and_then(|view| view.live(&pack));
                let groups = maimo_core::units::groups(pack.length);
                let full = || {
                    let groups = u32::try_from(groups).unwrap_or(u32::MAX);
                    maimo_core::live_map::LiveMap::full(groups)
                };
                owed.push(Owed {
                    number: *number,
                    kind: *kind,
                    length: pack.length,
                    needed: live.cloned().unwrap_or_else(full),
                });
            }
        }
        let mut records = Vec::new();
        let mut layouts = Vec::new();
        let mut lost = BTreeSet::new();
        let mut given = Vec::new();
        let mut supply = self.supply(&first, vec![std::sync::Arc::clone(from)], owed)?;
        while let Some(supplied) = supply.portion(control)? {
            *sent += supplied.sent;
            for (number, reference) in supplied.packs {
                let channel = first.id;
                given.push(reference.root);
                let record = Record::Pack {
                    number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
            layouts.extend(supplied.layouts);
            lost.extend(supplied.lost.into_keys());
        }
        let find = |chunk: ChunkRef| (!lost.contains(&chunk.pack)).then_some(chunk);
        let repair = Repair::plan(branch.iter().cloned(), &base.state, find);
        if !repair.lost.is_empty() {
            control.tell(Event::Notice(format!(
                "{} revisions that only channel {} had are damaged there: they are lost",
                repair.lost.len(),
                from.name
            )));
        }
        if repair.restored.is_empty() {
            return Ok(true);
        }
        // Small chunks that only the branch's own commit carries go into a pack.
        if pieces.iter().any(|piece| !piece.entries().is_empty()) {
            let channels = self.answering(maimo_net::connect::Load::Light)?;
            let number = self.node.next_pack();
            let mut builder = PackBuilder::new(number, PackKind::Data);
            let mut after = union(&base.state, &repair.restored);
            let sequence = base.sequence + 1;
            let mut moves = Vec::new();
            for piece in pieces {
                for (index, chunk) in (0..).zip(piece.chunks()) {
                    let to = builder
                        .push(chunk)
                        .map_err(|error| ClientError::Bug(error.to_string()))?;
                    let pack = piece.number();
                    moves.extend(moved(&[ChunkRef { pack, index }], number, to));
                }
            }
            for record in moves {
                let id = self.node.next_record();
                after.apply(Stamp { sequence, id }, record.clone());
                records.push((id, record));
            }
            let repeat = Repeat::of_moved(&after, sequence, |chunk| chunk.pack == number);
            // Were it too long, the journal alone would tell of these files.
            let _ = builder.set_records(repeat.encode());
            let mut sealer = Sealer::new(self, &channels);
            for (channel, reference) in sealer.seal(builder) {
                let record = Record::Pack {
                    number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
            sealer.send()?;
            *sent += sealer.sent;
            layouts.append(&mut sealer.layouts);
        }
        let change = Change {
            records,
            layouts,
            restored: repair.restored,
            is_fixed: true,
            ..Change::default()
        };
        match self.commit(change, control)? {
            Outcome::Committed(committed) => {
                *sent += committed.sent;
                self.forget_given(first.id, given)?;
                Ok(true)
            }
            Outcome::Superseded => Ok(false),
        }
    }
}
