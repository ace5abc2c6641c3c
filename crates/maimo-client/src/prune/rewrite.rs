//! Writing packs again: their chunks, from files of this machine or from their live ranges, go into new packs, step by step, a commit each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use maimo_core::verify::{Selection, decode_slice};
use maimo_net::{connect::Load, service::Read};
use maimo_vault::{
    compose::{Base, Sealing as _},
    compress::Level,
    journal::{batch::Stamp, part::Part, record::Record, repeat::Repeat, state::State},
    name::{ChunkRef, PackNumber, RecordId, WriterId},
    pack::{Entry, FramedChunk, HEADER_BYTES, PackBuilder, PackKind, PackLayout, PackReader},
    prune::{REWRITE_STEP_BYTES, moved, target},
};

use super::{Plan, PruneReport, PruneRequest, bug, entry_of};
use crate::{
    commit::{Change, Naming, Outcome, Sealer},
    engine::Engine,
    error::ClientError,
    keys::StoreKeys,
    local_chunks::{Framing, LocalChunks},
    progress::Control,
    session::OpenChannel,
};

/// How many bytes of frames go into one new pack.
const PACK_FRAMES_BYTES: u64 = 15 * 1024 * 1024;
/// For about how many chunks files of this machine are looked for at once: bounds memory. Each look goes through the catalog.
const LOOK_AHEAD: usize = 200_000;

impl Engine {
    /// Writes again what is worth it, step by step.
    pub(super) fn rewrite(
        &mut self,
        request: PruneRequest,
        report: &mut PruneReport,
        control: &Control,
    ) -> Result<(), ClientError> {
        if request.no_rewrite {
            return Ok(());
        }
        let plan = self.plan_prune(request)?;
        let step_bytes = REWRITE_STEP_BYTES.min(request.move_max.unwrap_or(u64::MAX));
        let sealed = |chunk: ChunkRef| {
            entry_of(&plan.layouts, chunk).map_or(0, |entry| u64::from(entry.frame_length) + 32)
        };
        let steps: Vec<Vec<ChunkRef>> = plan
            .rewrite
            .steps(step_bytes, sealed)
            .into_iter()
            .map(<[ChunkRef]>::to_vec)
            .collect();
        let mut moved_bytes = 0;
        let mut left: BTreeSet<ChunkRef> = plan.rewrite.chunks.iter().copied().collect();
        let mut local = LocalChunks::default();
        let mut looked_for = 0;
        for (at, step) in steps.iter().enumerate() {
            control.check()?;
            if at == looked_for {
                let mut ahead: BTreeSet<ChunkRef> = BTreeSet::new();
                while let Some(step) = steps.get(looked_for)
                    && ahead.len() < LOOK_AHEAD
                {
                    ahead.extend(step);
                    looked_for += 1;
                }
                let reader = self.catalog.reader()?;
                local = LocalChunks::in_catalog(&reader, self.node.source(), |chunk| {
                    ahead.contains(&chunk)
                })?;
            }
            moved_bytes += step.iter().map(|chunk| sealed(*chunk)).sum::<u64>();
            if request.move_max.is_some_and(|most| moved_bytes > most) {
                break;
            }
            if !self.rewrite_step(&plan, step, &mut local, report, control)? {
                // Another device was in between: what is left is for the next prune, which plans on what is there then.
                break;
            }
            for chunk in step {
                left.remove(chunk);
            }
        }
        let unfinished: BTreeSet<PackNumber> = left.iter().map(|chunk| chunk.pack).collect();
        report.packs_rewritten += plan.rewrite.packs.difference(&unfinished).count() as u64;
        Ok(())
    }

    /// Commits new copies of some chunks, and lets go of the old. Returns whether it stands.
    fn rewrite_step(
        &mut self,
        plan: &Plan,
        chunks: &[ChunkRef],
        local: &mut LocalChunks,
        report: &mut PruneReport,
        control: &Control,
    ) -> Result<bool, ClientError> {
        let channels = self.answering(Load::Light)?;
        let mut part = Part::default();
        part.add_ending_in(&plan.base.state, chunks.iter().map(|chunk| chunk.pack));
        let base = self.replay_part(&part)?;
        let as_of = base.sequence + 1;
        let dictionary = self.dictionary(Level::default())?;
        let keys = Arc::clone(&self.keys);
        let mut source = ChunkSource {
            first: &channels[0],
            state: &base.state,
            keys: &keys,
            layouts: &plan.layouts,
            local,
            framing: Framing::new(dictionary.as_deref()),
            bytes_received: 0,
        };
        let mut builders: Vec<PackBuilder> = Vec::new();
        let mut moves = Vec::new();
        let mut room = 0;
        let mut rest = chunks;
        while let Some(first) = rest.first() {
            let count = rest.partition_point(|chunk| chunk.pack == first.pack);
            let (here, after) = rest.split_at(count);
            rest = after;
            let frames = source.frames(here)?;
            let mut places = Vec::new();
            for (chunk, (entry, frame)) in here.iter().zip(&frames) {
                let length = frame.len() as u64;
                if room < length {
                    builders.push(PackBuilder::new(self.node.next_pack(), PackKind::Data));
                    room = PACK_FRAMES_BYTES;
                }
                room = room.saturating_sub(length);
                let builder = builders.last_mut().ok_or_else(|| bug("no pack is open"))?;
                let index = builder
                    .push(FramedChunk::new(entry, frame))
                    .map_err(|error| bug(&error.to_string()))?;
                places.push((*chunk, builder.number(), index));
            }
            // Chunks that follow one another in both packs move as one.
            let runs = places.chunk_by(|(from, pack, index), (next, on, after)| {
                from.index + 1 == next.index && pack == on && index + 1 == *after
            });
            for run in runs {
                let run_chunks: Vec<ChunkRef> = run.iter().map(|(chunk, ..)| *chunk).collect();
                moves.extend(moved(&run_chunks, run[0].1, run[0].2));
            }
        }
        report.bytes_received += source.bytes_received;
        let mut after = base.state.clone();
        for (counter, record) in (0..).zip(&moves) {
            let writer = WriterId([0xfe; 16]);
            let stamp = Stamp {
                sequence: as_of,
                id: RecordId { writer, counter },
            };
            after.apply(stamp, record.clone());
        }
        let mut records: Vec<(RecordId, Record)> = Vec::new();
        let mut sealer = Sealer::new(self, &channels);
        for mut builder in builders {
            let number = builder.number();
            let repeat = Repeat::of_moved(&after, as_of, |chunk| chunk.pack == number);
            // Where the records are too long for a pack's table, the journal alone tells of these files.
            let _ = builder.set_records(repeat.encode());
            for (channel, reference) in sealer.seal(builder) {
                let record = Record::Pack {
                    number,
                    channel,
                    reference,
                };
                records.push((self.node.next_record(), record));
            }
        }
        sealer.send()?;
        report.bytes_sent += sealer.sent;
        let new_layouts = core::mem::take(&mut sealer.layouts);
        drop(sealer);
        for record in moves {
            records.push((self.node.next_record(), record));
        }
        let mut layouts = self.layouts_of(&base)?;
        let after = Base {
            state: after,
            ..base
        };
        let demand = self.demand_of(&after, &channels[0])?;
        for layout in &new_layouts {
            layouts.insert(layout.number(), layout.clone());
        }
        let targets = target(&demand, layouts.values());
        drop(layouts);
        let change = Change {
            records,
            layouts: new_layouts,
            naming: Naming::Exactly(targets),
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
}

/// Where the chunks of packs that are written again come from.
struct ChunkSource<'a> {
    first: &'a OpenChannel,
    state: &'a State,
    keys: &'a StoreKeys,
    layouts: &'a BTreeMap<PackNumber, PackLayout>,
    local: &'a mut LocalChunks,
    framing: Framing<'a>,
    bytes_received: u64,
}

impl ChunkSource<'_> {
    /// Returns chunks of one pack as frames: from files of this machine where they still have them, else read back.
    fn frames(&mut self, chunks: &[ChunkRef]) -> Result<Vec<(Entry, Vec<u8>)>, ClientError> {
        let mut frames: BTreeMap<u32, (Entry, Vec<u8>)> = BTreeMap::new();
        let mut others = Vec::new();
        for chunk in chunks {
            let entry = *entry_of(self.layouts, *chunk).ok_or_else(|| unknown(*chunk))?;
            let Some(plain) = self.local.read(*chunk, &entry, self.keys) else {
                others.push(*chunk);
                continue;
            };
            let (entry, frame) = self.framing.frame(&entry, &plain);
            frames.insert(chunk.index, (entry, frame.to_vec()));
        }
        if !others.is_empty() {
            let read = self.read_back(&others)?;
            let indexes = others.iter().map(|chunk| chunk.index);
            frames.extend(indexes.zip(read));
        }
        Ok(frames.into_values().collect())
    }

    /// Reads chunks of one pack back, as frames.
    fn read_back(&mut self, chunks: &[ChunkRef]) -> Result<Vec<(Entry, Vec<u8>)>, ClientError> {
        let first = self.first;
        let layouts = self.layouts;
        let number = chunks[0].pack;
        let unknown = || unknown(chunks[0]);
        let layout = layouts.get(&number).ok_or_else(unknown)?;
        let pack = self.state.pack(number, first.id).ok_or_else(unknown)?;
        let groups = layout.live_map(chunks.iter().map(|chunk| chunk.index));
        let groups = groups.ok_or_else(unknown)?;
        let slices = first.call(first.session.read(vec![Read {
            pack,
            groups: groups.clone(),
        }]))?;
        let wrong = || first.wrong(format!("pack {}", pack.root));
        let slice = slices.first().ok_or_else(wrong)?;
        self.bytes_received += slice.len() as u64;
        let selection = Selection::of_map(pack.length, &groups).map_err(|_| wrong())?;
        let extents = decode_slice(slice, &pack, &selection).map_err(|_| wrong())?;
        let extents = extents.into_inner();
        let at = |start: u64, end: u64| -> Option<&[u8]> {
            let extent = extents.iter().find(|extent| {
                extent.offset <= start && end <= extent.offset + extent.bytes.len() as u64
            })?;
            let from = usize::try_from(start - extent.offset).ok()?;
            let length = usize::try_from(end - start).ok()?;
            extent.bytes.get(from..from + length)
        };
        let header = at(0, HEADER_BYTES as u64).ok_or_else(wrong)?;
        let key = first.pack_keys(PackKind::Data).pack;
        let reader =
            PackReader::new(key, PackKind::Data, pack.length, header).map_err(|_| wrong())?;
        let mut frames = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let entry = *entry_of(layouts, *chunk).ok_or_else(unknown)?;
            let range = layout.chunk_range(chunk.index).ok_or_else(unknown)?;
            let sealed = at(range.start, range.end).ok_or_else(wrong)?.to_vec();
            let frame = reader.open_frame(&entry, sealed).map_err(|_| wrong())?;
            frames.push((entry, frame));
        }
        Ok(frames)
    }
}

fn unknown(chunk: ChunkRef) -> ClientError {
    ClientError::Corrupt(format!("pack {} is not known", chunk.pack.n))
}
