//! [`Repeat`]: records that a data pack repeats, so that packs alone rebuild files when the journal is lost.
//!
//! A pack repeats the records of the files whose last chunk was sealed into it; a pack that chunks were moved into, those of all kept files
//! that have any of them, references turned. Of several copies of one record the one sealed last is right, hence `as_of`.
//!
//! What packs cannot tell: a file all of whose chunks were known when it was stored (a copy, a rename) sealed nothing that could
//! repeat it; a file whose references a lost race or a repair turned after its packs were sealed is told as it was before; and events,
//! runs and policies are the journal's alone.

use std::collections::BTreeMap;

use maimo_core::codec::{ParseError, Put, Reader};

use super::{
    batch::{Batch, Stamp},
    content::{ChunkExtent, Content},
    record::Record,
    state::{Entry, State},
};
use crate::name::{ChunkRef, PackNumber, RecordId};

/// Records as they read when a pack was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The store sequence that the pack was sealed for.
    pub as_of: u64,
    /// The records, file records only.
    pub batch: Batch,
}

impl Repeat {
    /// Encodes the sequence as a varint, then the batch; nothing at all if there are no records.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if self.batch.records().is_empty() {
            return out;
        }
        out.put_varint(self.as_of);
        out.put(&self.batch.encode());
        out
    }

    /// Reads what a pack's table holds; nothing where that is empty.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, ParseError> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes);
        let as_of = reader.varint("sequence of repeated records")?;
        let what = "repeated records";
        let batch = Batch::parse(reader.take(reader.remaining(), what)?)?;
        if as_of == 0 || batch.records().is_empty() {
            return Err(ParseError::NotCanonical { what });
        }
        // All else is the journal's alone: a copy of it in a pack would outlive what the journal says later.
        let may_repeat =
            |record: &Record| matches!(record, Record::File { .. } | Record::Unknown { .. });
        if !batch.records().iter().all(|(_, record)| may_repeat(record)) {
            return Err(ParseError::Invalid { what });
        }
        Ok(Some(Self { as_of, batch }))
    }

    /// Returns the kept file records of `state` that name any chunk `moved` says yes to, references turned to where the chunks are now.
    pub fn of_moved(state: &State, as_of: u64, moved: impl Fn(ChunkRef) -> bool) -> Self {
        let mut records = Vec::new();
        for ((source, path), entries) in state.paths() {
            for (stamp, entry) in entries {
                let Entry::Revision { metadata, content } = entry else {
                    continue;
                };
                if let Some(content) = turned(state, stamp.id, content, &moved) {
                    let record = Record::File {
                        source: *source,
                        path: path.clone(),
                        metadata: metadata.clone(),
                        content,
                    };
                    records.push((*stamp, record));
                }
            }
        }
        Self {
            as_of,
            batch: Batch::new(records),
        }
    }

    /// As [`Self::of_moved`], where the only records that name such chunks are among `records`.
    pub fn of_records(
        state: &State,
        as_of: u64,
        records: &[(Stamp, Record)],
        moved: impl Fn(ChunkRef) -> bool,
    ) -> Self {
        let records = records.iter().filter_map(|(stamp, record)| {
            let mut record = record.clone();
            if let Record::File { content, .. } = &mut record {
                *content = turned(state, stamp.id, content, &moved)?;
                Some((*stamp, record))
            } else {
                None
            }
        });
        Self {
            as_of,
            batch: Batch::new(records.collect()),
        }
    }

    /// Returns the records of a store's new files that end in the pack `number`, as they go into its table.
    pub fn of_new<'a>(
        files: impl IntoIterator<Item = &'a (RecordId, Record)>,
        number: PackNumber,
        as_of: u64,
    ) -> Self {
        let stamped = files.into_iter().map(|(id, record)| {
            let stamp = Stamp {
                sequence: as_of,
                id: *id,
            };
            (stamp, record)
        });
        Self::of_stamped(stamped, number, as_of)
    }

    /// As [`Self::of_new`], of files that may be written again, stamped as they were.
    pub fn of_stamped<'a>(
        files: impl IntoIterator<Item = (Stamp, &'a Record)>,
        number: PackNumber,
        as_of: u64,
    ) -> Self {
        let ends_here = |record: &Record| match record {
            Record::File { content, .. } => {
                let last = content.extents().last();
                last.is_some_and(|extent| extent.first.pack == number)
            }
            _ => false,
        };
        let records = files
            .into_iter()
            .filter(|(_, record)| ends_here(record))
            .map(|(stamp, record)| (stamp, record.clone()));
        Self {
            as_of,
            batch: Batch::new(records.collect()),
        }
    }
}

/// Returns a kept revision's content with references turned, if it has any chunk that `moved` says yes to.
fn turned(
    state: &State,
    id: RecordId,
    content: &Content,
    moved: impl Fn(ChunkRef) -> bool,
) -> Option<Content> {
    let chunks: Vec<ChunkRef> = state.resolve_all(content.extents()).collect();
    if !state.is_kept(id) || !chunks.iter().any(|chunk| moved(*chunk)) {
        return None;
    }
    let mut content = content.clone();
    if let Content::Regular {
        chunks: extents, ..
    } = &mut content
    {
        *extents = ChunkExtent::join(chunks);
    }
    Some(content)
}

/// Rebuilds what packs alone tell: every file record that any of them repeats, in the last copy all of whose chunks are `there`, in a
/// pack at hand.
///
/// The last copy as a rule. After a repair a pack may be back that was written on a branch which is gone, and speak of packs that are gone
/// with it; an older copy is right then.
pub fn rebuild(
    repeats: impl IntoIterator<Item = Repeat>,
    there: impl Fn(ChunkRef) -> bool,
) -> State {
    let mut last: BTreeMap<RecordId, (u64, Stamp, Record)> = BTreeMap::new();
    for Repeat { as_of, batch } in repeats {
        for (stamp, record) in batch.into_records(as_of) {
            let known = last.get(&stamp.id).map(|(known, ..)| *known);
            let whole = match &record {
                Record::File { content, .. } => {
                    let extents = content.extents().iter();
                    extents.flat_map(|extent| extent.chunks()).all(&there)
                }
                _ => false,
            };
            if whole && known.is_none_or(|known| known < as_of) {
                last.insert(stamp.id, (as_of, stamp, record));
            }
        }
    }
    let mut state = State::default();
    for (_, stamp, record) in last.into_values() {
        state.apply(stamp, record);
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::record::PathEvent,
        name::{SourceId, WriterId},
        path::StorePath,
        testing::{at, chunk, dropped, file, id, moved, number, replay},
    };

    fn repeat(as_of: u64, record: Record) -> Repeat {
        let writer = WriterId([1; 16]);
        let id = RecordId { writer, counter: 0 };
        Repeat {
            as_of,
            batch: Batch::new(vec![(Stamp { sequence: 1, id }, record)]),
        }
    }

    fn folder() -> Record {
        Record::File {
            source: SourceId([2; 16]),
            path: StorePath::unix("/a").unwrap(),
            metadata: crate::journal::metadata::Metadata::default(),
            content: Content::Folder,
        }
    }

    #[test]
    fn repeated_records_come_back_and_none_take_no_bytes() {
        let one = repeat(4, folder());
        assert_eq!(Repeat::parse(&one.encode()), Ok(Some(one.clone())));
        let none = Repeat {
            batch: Batch::default(),
            ..one
        };
        assert_eq!(none.encode(), Vec::<u8>::new());
        assert_eq!(Repeat::parse(&[]), Ok(None));
        let mut empty = vec![4];
        empty.extend(Batch::default().encode());
        assert!(Repeat::parse(&empty).is_err());
    }

    #[test]
    fn what_the_journal_alone_may_say_is_refused_in_a_pack() {
        let gone = Record::Path {
            source: SourceId([2; 16]),
            path: StorePath::unix("/a").unwrap(),
            event: PathEvent::Gone,
        };
        assert!(Repeat::parse(&repeat(4, gone).encode()).is_err());
        assert!(Repeat::parse(&repeat(0, folder()).encode()).is_err());
    }

    fn ids(repeat: &Repeat) -> Vec<u64> {
        let records = repeat.batch.records().iter();
        records.map(|(stamp, _)| stamp.id.counter).collect()
    }

    #[test]
    fn a_pack_repeats_the_new_files_that_end_in_it() {
        let files = [
            (id(0), file("within", [chunk(1, 0)])),
            (id(1), file("from", [chunk(1, 1), chunk(2, 0)])),
            (id(2), file("into", [chunk(2, 1), chunk(1, 2)])),
            (id(3), moved(chunk(1, 0), chunk(1, 1), 1)),
        ];
        let repeat = Repeat::of_new(&files, number(1), 9);
        assert_eq!((repeat.as_of, ids(&repeat)), (9, vec![0, 2]));
        // Stamped as the commit would that it was sealed for.
        let stamps = repeat
            .batch
            .records()
            .iter()
            .map(|(stamp, _)| stamp.sequence);
        assert!(stamps.into_iter().all(|sequence| sequence == 9));
        assert_eq!(Repeat::parse(&repeat.encode()), Ok(Some(repeat)));
        assert_eq!(ids(&Repeat::of_new(&files, number(3), 9)), [0_u64; 0]);
    }

    #[test]
    fn a_pack_that_chunks_moved_into_repeats_the_kept_files_that_have_any_of_them() {
        let records = [
            file("all", [chunk(1, 0), chunk(1, 1)]),
            file("part", [chunk(2, 0), chunk(1, 1)]),
            file("other", [chunk(2, 0)]),
            file("let go", [chunk(1, 0)]),
            moved(chunk(1, 0), chunk(5, 3), 2),
            dropped([3]),
        ];
        let state = replay(records.clone());
        let here = |chunk: ChunkRef| chunk.pack == number(5);
        let repeat = Repeat::of_moved(&state, 9, here);
        let expected = [
            (at(0), file("all", [chunk(5, 3), chunk(5, 4)])),
            (at(1), file("part", [chunk(2, 0), chunk(5, 4)])),
        ];
        assert_eq!(repeat.batch.records(), expected);
        // The same from the records, where they hold all that there is to say.
        let stamped: Vec<_> = (0..).map(at).zip(records).collect();
        assert_eq!(Repeat::of_records(&state, 9, &stamped, here), repeat);
        let first = Repeat::of_records(&state, 9, &stamped[..1], here);
        assert_eq!(ids(&first), [0]);
    }

    #[test]
    fn packs_alone_give_the_last_copy_of_a_record_all_of_whose_chunks_are_there() {
        let copies = || {
            [(4, 1), (9, 3), (7, 2)].map(|(as_of, pack)| Repeat {
                as_of,
                batch: Batch::new(vec![(at(0), file("a", [chunk(pack, 0), chunk(pack, 1)]))]),
            })
        };
        let found = |there: &dyn Fn(ChunkRef) -> bool| {
            let state = rebuild(copies(), there);
            let content = state
                .kept_revisions()
                .next()
                .map(|(_, content)| content.clone());
            content.map(|content| content.extents()[0].first.pack.n)
        };
        assert_eq!(found(&|_| true), Some(3));
        // A chunk of the last one is gone: the copy before it is right, not the first.
        assert_eq!(found(&|at| at != chunk(3, 1)), Some(2));
        assert_eq!(found(&|at| at.pack == number(1)), Some(1));
        assert_eq!(found(&|at| at.index == 0), None);
    }
}
