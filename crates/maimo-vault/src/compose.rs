//! Composing the next commit: the newest state plus a draft, as one list of segments, one tail and one state, the same for all channels.
//!
//! ```text
//! small draft:  tail + piece <= 8 KiB   the piece joins the tail           one request, nothing uploaded
//!               tail + piece >  8 KiB   the tail spills: its chunks into a data pack, its records into a segment, and with them
//!                                       those of the last spill, as long as they all fit one block
//! large draft:  its segments were uploaded beforehand and are listed; the tail stays as it is
//! merge:        chosen segments are replaced by one
//! ```
//!
//! Nothing here uploads: [`Sealing`] seals a pack for every channel of the layout and remembers that it must be there before the head
//! moves. A composition that loses its race is thrown away and made again on the winner's state; what it sealed is let go by its lease.

use core::borrow::Borrow;
use std::collections::BTreeMap;

use maimo_core::{id::ChannelId, reference::ObjectRef};

use crate::{
    commit::{Commit, Segment, TAIL_BYTES_MAX, TailPiece},
    compress::{Compressor, Level},
    journal::{
        batch::{BATCH_BYTES_MAX, Batch, Stamp, cut},
        merge::{self, Judge},
        record::Record,
        repeat::Repeat,
        state::State,
    },
    keys::ChunkIdKey,
    name::{ChunkRef, ChunkType, Domain, PackNumber, RecordId, WriterId},
    pack::{FramedChunk, PackBuilder, PackKind, Piece},
    prune,
};

/// A store's newest state, as the next commit is built on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Base {
    /// Its store sequence; 0 before the first commit.
    pub sequence: u64,
    /// What its journal says.
    pub state: State,
    /// Its journal's segments.
    pub segments: Vec<Segment>,
    /// Its tail.
    pub tail: Vec<TailPiece>,
}

/// How far a writer's counters have come.
///
/// A client keeps two: what it has given out, and what it knows to be committed. A store that speaks of more of its writer's records or
/// packs than it knows to be committed has been written to by a twin: the home was restored from an image, or copied. Then it must take
/// a new writer id and make its draft anew, for its names may be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    /// The counter after the writer's highest record.
    pub records: u64,
    /// The number after the writer's highest pack or piece.
    pub packs: u64,
}

impl Base {
    /// Returns how far the store speaks of a writer.
    pub fn watermark(&self, writer: WriterId) -> Watermark {
        let segments = self.segments.iter().map(|segment| segment.number);
        let pieces = self.tail.iter().map(|tail| tail.piece.number());
        let own = segments
            .chain(pieces)
            .filter(|number| number.writer == writer)
            .map(|number| number.n.saturating_add(1));
        Watermark {
            records: self.state.next_counter(writer),
            packs: own.chain([self.state.next_pack(writer)]).max().unwrap_or(0),
        }
    }
}

impl Watermark {
    /// Returns whether this is beyond `known` in any way.
    pub const fn is_beyond(&self, known: &Self) -> bool {
        self.records > known.records || self.packs > known.packs
    }
}

/// What a commit is to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The new records, named by the writer's durable counter.
    pub records: Vec<(RecordId, Record)>,
    /// Records that a repair writes again, stamped as they were.
    pub restored: Vec<(Stamp, Record)>,
    /// Where they are written.
    pub body: Body,
}

/// Where a draft's records are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// In the tail, with the small chunks that this piece holds already.
    Piece(Piece),
    /// In segments of their own, sealed and uploaded beforehand by [`write_segments`].
    Segments(Vec<PackNumber>),
}

/// Seals packs and gives out names, durably: a number or counter given once is never given again, whatever crashes.
pub trait Sealing {
    /// Seals a pack for every channel of the layout, for upload before the head moves; returns its object on each.
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef>;

    /// Gives the next pack number.
    fn next_pack(&mut self) -> PackNumber;

    /// Gives the next record counter.
    fn next_record(&mut self) -> RecordId;

    /// Gives back what is in a segment of the base, if that is at hand and its pack no longer than a block or two. Nothing leaves the
    /// segment as it is: right, if wasteful.
    fn recall(&mut self, segment: Segment) -> Option<Vec<Batch>> {
        let _ = segment;
        None
    }
}

/// How many bytes of records, as encoded, a spill writes into one segment with those of the spills before it: about what fits a pack of
/// one 4 KiB block once compressed.
///
/// Each spill of a few hundred bytes would else take a block of its own. Filling the last one up costs nothing: a block is uploaded either
/// way.
const SPILL_BYTES_MAX: usize = 6 * 1024;

/// What it takes to write segments.
pub struct SegmentWriter<'k> {
    /// Names journal chunks.
    pub id_key: &'k ChunkIdKey,
    /// How hard to compress them.
    pub level: Level,
}

impl Draft {
    /// How long a piece may be for a draft to go into the tail at all, in bytes.
    pub const PIECE_BYTES_MAX: usize = TAIL_BYTES_MAX / 2;

    /// Puts the records into the piece, if they fit the tail with its chunks; else gives both back, to be written as packs and segments.
    pub fn small(
        piece: Piece,
        records: Vec<(RecordId, Record)>,
    ) -> Result<Self, (Piece, Vec<(RecordId, Record)>)> {
        match Self::fill(piece, &records) {
            Ok(full) => Ok(Self {
                records,
                restored: Vec::new(),
                body: Body::Piece(full),
            }),
            Err(piece) => Err((piece, records)),
        }
    }

    /// Puts records into a piece, if they fit the tail with its chunks; else gives it back as it was.
    pub fn fill(piece: Piece, records: &[(RecordId, Record)]) -> Result<Piece, Piece> {
        let encoded = Batch::new(stamped(0, records)).encode();
        let mut full = piece.clone();
        let fits = encoded.len() <= Self::PIECE_BYTES_MAX
            && full.set_records(encoded).is_ok()
            && full.encoded_length() <= Self::PIECE_BYTES_MAX;
        if fits { Ok(full) } else { Err(piece) }
    }

    /// Writes the records into segments of their own, which a lost race does not touch.
    pub fn large(
        records: Vec<(RecordId, Record)>,
        writer: &SegmentWriter<'_>,
        sealing: &mut impl Sealing,
    ) -> Self {
        Self::restoring(Vec::new(), records, writer, sealing)
    }

    /// As [`Self::large`], with records that a repair writes again.
    pub fn restoring(
        restored: Vec<(Stamp, Record)>,
        records: Vec<(RecordId, Record)>,
        writer: &SegmentWriter<'_>,
        sealing: &mut impl Sealing,
    ) -> Self {
        let mut all = stamped(0, &records);
        all.extend(restored.iter().cloned());
        // Batches are cut in order, and each stands in order by itself.
        all.sort_by_key(|(stamp, _)| *stamp);
        let segments = write_segments(all, writer, sealing);
        Self {
            records,
            restored,
            body: Body::Segments(segments),
        }
    }
}

/// Returns what follows `base` once `draft` is committed.
///
/// Takes `base` by value, as a large state is dear to copy: who may lose the race keeps a copy, or replays.
pub fn compose(
    base: Base,
    draft: &Draft,
    writer: &SegmentWriter<'_>,
    sealing: &mut impl Sealing,
) -> Base {
    let sequence = base.sequence + 1;
    let mut next = Base { sequence, ..base };
    for (stamp, record) in draft.restored.iter().cloned() {
        next.state.apply(stamp, record);
    }
    for (stamp, record) in stamped(sequence, &draft.records) {
        next.state.apply(stamp, record);
    }
    match &draft.body {
        Body::Segments(numbers) => next.segments.extend(numbers.iter().map(|number| Segment {
            number: *number,
            sequence,
            level: 0,
        })),
        Body::Piece(piece) => {
            next.tail.push(TailPiece {
                sequence,
                piece: piece.clone(),
            });
            if Commit::tail_bytes(&next.tail) > TAIL_BYTES_MAX {
                spill(&mut next, writer, sealing);
            }
        }
    }
    next
}

/// Returns what follows `base` once the segments at `chosen` are merged; `read` gives a segment's records as it holds them.
pub fn compose_merge(
    base: Base,
    chosen: &[usize],
    read: impl Fn(Segment) -> Vec<Batch>,
    writer: &SegmentWriter<'_>,
    sealing: &mut impl Sealing,
) -> Base {
    let merged = chosen.iter().filter_map(|index| base.segments.get(*index));
    let inputs: Vec<(Stamp, Record)> = merged
        .flat_map(|segment| {
            let batches = read(*segment);
            let sequence = segment.sequence;
            batches
                .into_iter()
                .flat_map(move |batch| batch.into_records(sequence))
        })
        .collect();
    let mut base = base;
    let merged = |state: &State, inputs| Judge::new(state).merge(inputs);
    let survivors = replace(&mut base.state, inputs, merged);
    let numbers = write_segments(survivors, writer, sealing);
    compose_merged(base, chosen, numbers)
}

/// Returns what follows `base` once the segments numbered `written` stand in for those at `chosen`: they hold what of their records goes on. Says
/// nothing of the state.
pub fn compose_merged(
    base: Base,
    chosen: &[usize],
    written: impl IntoIterator<Item = PackNumber>,
) -> Base {
    let sequence = base.sequence + 1;
    let mut next = Base { sequence, ..base };
    let merged: Vec<Segment> = chosen
        .iter()
        .filter_map(|index| next.segments.get(*index).copied())
        .collect();
    next.segments.retain(|segment| !merged.contains(segment));
    let level = merged
        .iter()
        .map(|segment| segment.level)
        .max()
        .unwrap_or(0);
    next.segments
        .extend(written.into_iter().map(|number| Segment {
            number,
            sequence,
            level: level.saturating_add(1),
        }));
    next
}

/// Writes the tail into a data pack and a segment, and empties it.
///
/// Asks of the state only what names the pieces, which of that is kept, and how chunks have moved.
fn spill(next: &mut Base, writer: &SegmentWriter<'_>, sealing: &mut impl Sealing) {
    let pieces = core::mem::take(&mut next.tail);
    let mut inputs: Vec<(Stamp, Record)> = Vec::new();
    let mut length = 0;
    for tail in &pieces {
        // What this program encoded or has parsed once before: the batch is whole.
        let batch = Batch::parse(tail.piece.records()).unwrap_or_default();
        length += tail.piece.records().len();
        inputs.extend(batch.into_records(tail.sequence));
    }
    while let Some(last) = next.segments.last().copied().filter(|last| last.level == 0) {
        let batches = sealing.recall(last).unwrap_or_default();
        length += batches
            .iter()
            .map(|batch| batch.encode().len())
            .sum::<usize>();
        if batches.is_empty() || length > SPILL_BYTES_MAX {
            break;
        }
        next.segments.pop();
        for batch in batches {
            inputs.extend(batch.into_records(last.sequence));
        }
    }
    if pieces.iter().any(|tail| !tail.piece.entries().is_empty()) {
        let number = sealing.next_pack();
        let mut builder = PackBuilder::new(number, PackKind::Data);
        let mut moves = Vec::new();
        for tail in &pieces {
            let from = tail.piece.number();
            for (index, chunk) in (0..).zip(tail.piece.chunks()) {
                let to = push_once(&mut builder, chunk);
                moves.extend(prune::moved(&[ChunkRef { pack: from, index }], number, to));
            }
        }
        let add = |next: &mut Base, inputs: &mut Vec<_>, id, record: Record| {
            let sequence = next.sequence;
            next.state.apply(Stamp { sequence, id }, record.clone());
            inputs.push((Stamp { sequence, id }, record));
        };
        for record in moves {
            add(next, &mut inputs, sealing.next_record(), record);
        }
        let repeat = repeated(next, &pieces, &inputs, number);
        builder
            .set_records(repeat.encode())
            .expect("the records of a tail of 8 KiB fit any pack");
        for (channel, reference) in sealing.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            add(next, &mut inputs, sealing.next_record(), record);
        }
    }
    let spilled = pieces.iter().map(|tail| tail.piece.number()).collect();
    let carry_on = |state: &State, inputs| merge::carry_on(state, &spilled, inputs);
    let carried = replace(&mut next.state, inputs, carry_on);
    let numbers = write_segments(carried, writer, sealing);
    next.segments
        .extend(numbers.into_iter().map(|number| Segment {
            number,
            sequence: next.sequence,
            level: 0,
        }));
}

/// Returns what the pack `number`, which the chunks of `pieces` move into, repeats of the journal.
///
/// As a rule only records that spill along refer to the tail's chunks. Where others do, by dedup, the whole state is looked over.
fn repeated(
    next: &Base,
    pieces: &[TailPiece],
    inputs: &[(Stamp, Record)],
    number: PackNumber,
) -> Repeat {
    let state = &next.state;
    let named_outside = pieces.iter().any(|tail| {
        let here = inputs.iter().filter(|(_, record)| match record {
            Record::File { content, .. } => {
                let mut extents = content.extents().iter();
                extents.any(|extent| extent.first.pack == tail.piece.number())
            }
            _ => false,
        });
        u64::from(state.times_named(tail.piece.number())) > here.count() as u64
    });
    let ends_here = |chunk: ChunkRef| chunk.pack == number;
    if named_outside {
        Repeat::of_moved(state, next.sequence, ends_here)
    } else {
        Repeat::of_records(state, next.sequence, inputs, ends_here)
    }
}

/// Makes `state` that of what `rule` lets go on of `inputs`, which are in it.
fn replace(
    state: &mut State,
    inputs: Vec<(Stamp, Record)>,
    rule: impl FnOnce(&State, Vec<(Stamp, Record)>) -> Vec<(Stamp, Record)>,
) -> Vec<(Stamp, Record)> {
    let was = inputs.clone();
    let survivors = rule(state, inputs);
    state.forget(&was);
    for (stamp, record) in &survivors {
        state.apply(*stamp, record.clone());
    }
    survivors
}

/// Seals records, which ascend by stamp, as segments of at most 16 MiB each and returns their numbers.
pub fn write_segments<R: Borrow<Record>>(
    records: impl IntoIterator<Item = (Stamp, R)>,
    writer: &SegmentWriter<'_>,
    sealing: &mut impl Sealing,
) -> Vec<PackNumber> {
    let mut numbers = Vec::new();
    let mut compressor = Compressor::new(writer.level);
    let mut open: Option<PackBuilder> = None;
    for plaintext in cut(records, BATCH_BYTES_MAX / 4) {
        let id = writer.id_key.id(&plaintext);
        let frame = compressor.compress(&plaintext, None);
        let chunk = FramedChunk {
            id,
            chunk_type: ChunkType::Journal,
            domain: Domain::default(),
            codec: frame.codec,
            dictionary: None,
            // A batch is at most 4 MiB.
            plaintext_length: u32::try_from(plaintext.len()).unwrap_or(u32::MAX),
            frame: frame.bytes,
        };
        if let Some(builder) = open.take_if(|builder| !builder.would_fit(chunk.frame.len(), 0)) {
            sealing.seal(builder);
        }
        let builder = open.get_or_insert_with(|| {
            let number = sealing.next_pack();
            numbers.push(number);
            PackBuilder::new(number, PackKind::Vital)
        });
        push_once(builder, chunk);
    }
    if let Some(builder) = open {
        sealing.seal(builder);
    }
    numbers
}

/// Pushes a chunk unless the pack has it, and returns its index.
fn push_once(builder: &mut PackBuilder, chunk: FramedChunk<'_>) -> u32 {
    match builder.index_of(&chunk.id) {
        Some(index) => index,
        None => builder
            .push(chunk)
            .expect("a tail of 8 KiB fits any pack, and a batch was held against the room left"),
    }
}

fn stamped(sequence: u64, records: &[(RecordId, Record)]) -> Vec<(Stamp, Record)> {
    records
        .iter()
        .map(|(id, record)| {
            let stamp = Stamp { sequence, id: *id };
            (stamp, record.clone())
        })
        .collect()
}

#[cfg(test)]
mod tests;
