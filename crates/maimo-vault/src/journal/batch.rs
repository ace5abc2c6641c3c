//! [`Batch`]: records as they are written together, in a segment, in a piece of the tail, or repeated in a data pack's table.
//!
//! A batch stands alone: its names are at its front, and paths leave out only what they share with the record before. Inside,
//! records stand by (sequence of the commit that brought them, writer, counter), each once.

use core::borrow::Borrow;

use maimo_core::codec::{ParseError, Put, Reader};

pub use super::names::NAMES_MAX;
use super::{
    names::{NameTable, Names},
    record::Record,
};
use crate::name::{RecordId, WriterId};

/// Where a record stands in the order that settles what two records disagree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// Store sequence of the commit that brought the record. In a batch 0 stands for "the commit that first lists this batch": a
    /// batch is sealed before its commit has won its race.
    pub sequence: u64,
    /// The record's name.
    pub id: RecordId,
}

/// Records written together, ascending by stamp.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    records: Vec<(Stamp, Record)>,
}

/// How long an encoded batch may be: a chunk of a segment.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How many records a batch may hold. More than the shortest records of regular files that fit one; what it bounds is the memory that records of a
/// few bytes take once they are read.
pub const RECORDS_MAX: usize = 1 << 17;
/// How many bytes the paths of a batch may come to, written out in full and 32 added for each component: one that shares 1,024 components with
/// the path before is written in a few bytes and takes 60 KiB once it is read. A batch of nothing but files would need paths of 4,000 bytes to
/// come near; what [`cut`] makes stays below 17 times the length it is given.
pub const PATHS_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How long one record's body may be: a file of 2^20 extents at most.
const BODY_BYTES_MAX: usize = BATCH_BYTES_MAX;

impl Batch {
    /// Puts records in order; of two with one stamp the first stays.
    pub fn new(mut records: Vec<(Stamp, Record)>) -> Self {
        records.sort_by_key(|(stamp, _)| *stamp);
        records.dedup_by_key(|(stamp, _)| *stamp);
        Self { records }
    }

    /// Returns the records, ascending by stamp.
    pub fn records(&self) -> &[(Stamp, Record)] {
        &self.records
    }

    /// Returns the records, those of sequence 0 stamped with `sequence`: that of the commit which first listed the batch.
    pub fn into_records(self, sequence: u64) -> impl Iterator<Item = (Stamp, Record)> {
        self.records.into_iter().map(move |(mut stamp, record)| {
            if stamp.sequence == 0 {
                stamp.sequence = sequence;
            }
            (stamp, record)
        })
    }

    /// Encodes the batch: name tables, then groups of one (sequence, writer) each.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.records)
    }

    /// Reads a batch.
    ///
    /// # Errors
    ///
    /// [`ParseError`]; a critical record type of a later version is told apart from damage.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "batch",
                found: bytes.len() as u64,
                max: BATCH_BYTES_MAX as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let names = NameTable::parse(r)?;
        let groups = r.count(RECORDS_MAX as u64, 6, "groups of records")?;
        let mut records: Vec<(Stamp, Record)> = Vec::new();
        let mut last_group: Option<(u64, WriterId)> = None;
        let mut previous = None;
        let mut paths_bytes = 0;
        for _ in 0..groups {
            let sequence = r.varint("sequence")?;
            let writer = names.read_writer(r)?;
            if last_group.is_some_and(|last| last >= (sequence, writer)) {
                return Err(ParseError::NotCanonical {
                    what: "order of record groups",
                });
            }
            last_group = Some((sequence, writer));
            let left = RECORDS_MAX.saturating_sub(records.len());
            let count = r.count(left as u64, 3, "records")?;
            if count == 0 {
                return Err(ParseError::NotCanonical {
                    what: "record group",
                });
            }
            let mut next_counter = Some(0_u64);
            for _ in 0..count {
                let gap = r.varint("record counter")?;
                let counter = next_counter.and_then(|next| next.checked_add(gap)).ok_or(
                    ParseError::Invalid {
                        what: "record counter",
                    },
                )?;
                next_counter = counter.checked_add(1);
                let kind = r.u8("record type")?;
                let body = r.bytes(BODY_BYTES_MAX, "record")?;
                let record = Record::parse_body(kind, body, &names, previous.as_ref())?;
                paths_bytes += record.paths_bytes();
                if paths_bytes > PATHS_BYTES_MAX {
                    return Err(ParseError::TooLarge {
                        what: "paths of a batch",
                        found: paths_bytes as u64,
                        max: PATHS_BYTES_MAX as u64,
                    });
                }
                if let Some(path) = record.path() {
                    previous = Some(path.clone());
                }
                let id = RecordId { writer, counter };
                records.push((Stamp { sequence, id }, record));
            }
        }
        names.finish()?;
        reader.finish()?;
        Ok(Self { records })
    }
}

/// Encodes a batch of records, which ascend by stamp.
pub(super) fn encode<R: Borrow<Record>>(records: &[(Stamp, R)]) -> Vec<u8> {
    let mut names = Names::default();
    let mut body = Vec::new();
    let mut scratch = Vec::new();
    let mut previous = None;
    let is_together = |(one, _): &(Stamp, R), (other, _): &(Stamp, R)| {
        (one.sequence, one.id.writer) == (other.sequence, other.id.writer)
    };
    body.put_varint(records.chunk_by(is_together).count() as u64);
    for group in records.chunk_by(is_together) {
        let (first, _) = &group[0];
        body.put_varint(first.sequence);
        body.put_varint(names.writer(first.id.writer));
        body.put_varint(group.len() as u64);
        let mut next_counter = 0;
        for (stamp, record) in group {
            let record: &Record = record.borrow();
            // Ascending and unique, so the difference is never negative.
            body.put_varint(stamp.id.counter.saturating_sub(next_counter));
            next_counter = stamp.id.counter.saturating_add(1);
            body.put_u8(record.kind());
            scratch.clear();
            record.encode_body(&mut names, previous, &mut scratch);
            body.put_bytes(&scratch);
            previous = record.path().or(previous);
        }
    }
    let mut out = Vec::with_capacity(body.len() + 64);
    names.encode(&mut out);
    out.put(&body);
    out
}

/// What a record is taken to need beside its body: more than it does, unless its names are many.
const RECORD_ESTIMATE_BYTES: usize = 16;
const _: () = assert!(BATCH_BYTES_MAX / 2 / RECORD_ESTIMATE_BYTES <= RECORDS_MAX);

/// Cuts records into batches whose encodings stay near `bytes`, in order, and encodes them one by one: they are not in memory twice.
///
/// The cut looks at a running estimate (records encoded alone), which errs on the large side, so no batch passes [`BATCH_BYTES_MAX`] while
/// `bytes` is at most half of it and no single record is longer than that half. Nor then [`RECORDS_MAX`]: each record is estimated at 16 bytes
/// or more.
pub fn cut<R: Borrow<Record>>(
    records: impl IntoIterator<Item = (Stamp, R)>,
    bytes: usize,
) -> impl Iterator<Item = Vec<u8>> {
    let mut records = records.into_iter();
    let mut next = None;
    let mut body = Vec::new();
    core::iter::from_fn(move || {
        let mut open: Vec<(Stamp, R)> = Vec::new();
        let mut estimate = 0;
        while let Some((stamp, record)) = next.take().or_else(|| records.next()) {
            body.clear();
            let plain: &Record = record.borrow();
            plain.encode_body(&mut Names::default(), None, &mut body);
            let length = body.len() + RECORD_ESTIMATE_BYTES;
            if !open.is_empty() && estimate + length > bytes {
                next = Some((stamp, record));
                break;
            }
            estimate += length;
            open.push((stamp, record));
        }
        open.sort_by_key(|(stamp, _)| *stamp);
        open.dedup_by_key(|(stamp, _)| *stamp);
        (!open.is_empty()).then(|| encode(&open))
    })
}
