//! [`JournalReader`]: the records of sealed segments in the order of their stamps, one batch of each in memory at a time.
//!
//! A merged segment holds hundreds of thousands of records, which take thirty times their sealed bytes once they are read: opened whole, a few of
//! them would fill what a small machine has. Batches are read from the journal cache's files where they stand; each opens by its seal or not at
//! all, so nothing needs the whole file to be held against its name first.
//!
//! ```text
//! survey: every batch once, for its first and last stamp -> stretches: batches of one segment that follow one another in order
//! merged: the stretches as one ascending sequence, each opened when its first record's turn comes
//! ```

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
    fs::File,
    ops::Range,
    os::unix::fs::FileExt,
};

use maimo_core::reference::ObjectRef;
use maimo_vault::{
    commit::Segment,
    compress::Decompressor,
    journal::{
        batch::{Batch, Stamp},
        record::Record,
    },
    keys::ChannelKeys,
    pack::{OpenPackError, PackKind, PackLayout, PackReader, trailer_range},
};

use crate::{
    error::ClientError,
    journal_cache::JournalCache,
    keys::{Opening, StoreKeys},
};

/// Reads segments of the journal cache.
#[derive(Clone, Copy)]
pub(crate) struct JournalReader<'a> {
    pub(crate) cache: &'a JournalCache,
    pub(crate) store: &'a StoreKeys,
    /// Those of the channel that the cache is of.
    pub(crate) channel: &'a ChannelKeys,
}

/// Batches of one segment that follow one another in order.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    first: Stamp,
    segment: Segment,
    pack: ObjectRef,
    batches: Range<u32>,
}

impl<'a> JournalReader<'a> {
    /// Calls `each` for every record of a segment, batch by batch.
    ///
    /// # Errors
    ///
    /// [`ClientError::Corrupt`] where the cache's file is missing or torn, and what `each` returns.
    pub(crate) fn each(
        &self,
        segment: Segment,
        pack: &ObjectRef,
        mut each: impl FnMut(Stamp, Record) -> Result<(), ClientError>,
    ) -> Result<(), ClientError> {
        let torn = || torn(pack);
        let mut open = OpenSegment::open(*self, segment, pack).map_err(|_| torn())?;
        for index in 0..open.count() {
            let batch = open.batch(index).map_err(|_| torn())?;
            for (stamp, record) in batch.into_records(segment.sequence) {
                each(stamp, record)?;
            }
        }
        Ok(())
    }

    /// Looks through segments for how their batches follow one another; `each` is called for every batch's records.
    ///
    /// # Errors
    ///
    /// As [`Self::each`].
    pub(crate) fn survey(
        &self,
        segments: &[(Segment, ObjectRef)],
        mut each: impl FnMut(&[(Stamp, Record)]),
    ) -> Result<Vec<Stretch>, ClientError> {
        let mut stretches: Vec<Stretch> = Vec::new();
        for (segment, pack) in segments {
            let torn = || torn(pack);
            let mut open = OpenSegment::open(*self, *segment, pack).map_err(|_| torn())?;
            let mut end: Option<Stamp> = None;
            for index in 0..open.count() {
                let batch = open.batch(index).map_err(|_| torn())?;
                let records: Vec<(Stamp, Record)> = batch.into_records(segment.sequence).collect();
                each(&records);
                let (Some((first, _)), Some((last, _))) = (records.first(), records.last()) else {
                    continue;
                };
                match stretches.last_mut() {
                    Some(open) if end.is_some_and(|end| end <= *first) => {
                        open.batches.end = index + 1;
                    }
                    _ => stretches.push(Stretch {
                        first: *first,
                        segment: *segment,
                        pack: *pack,
                        batches: index..index + 1,
                    }),
                }
                end = Some(*last);
            }
        }
        Ok(stretches)
    }

    /// Returns the records of `stretches` and `more`, ascending by stamp. Where a file changed since the survey, they end, and
    /// [`Merged::check`] says so.
    pub(crate) fn merged(
        self,
        mut more: Vec<(Stamp, Record)>,
        mut stretches: Vec<Stretch>,
    ) -> Merged<'a> {
        more.sort_by_key(|(stamp, _)| *stamp);
        // The first to be opened last, to be taken from the end.
        stretches.sort_by_key(|stretch| Reverse(stretch.first));
        let mut merged = Merged {
            reader: self,
            closed: stretches,
            open: Vec::new(),
            order: BinaryHeap::new(),
            failed: None,
        };
        if let Some((first, _)) = more.first() {
            merged.order.push(Reverse((*first, 0)));
            merged.open.push(Source {
                rest: None,
                records: more.into_iter().peekable(),
            });
        }
        merged
    }
}

/// The records of several segments as one ascending sequence.
pub(crate) struct Merged<'a> {
    reader: JournalReader<'a>,
    closed: Vec<Stretch>,
    open: Vec<Source<'a>>,
    order: BinaryHeap<Reverse<(Stamp, usize)>>,
    failed: Option<ObjectRef>,
}

struct Source<'a> {
    rest: Option<(OpenSegment<'a>, Range<u32>)>,
    records: std::iter::Peekable<std::vec::IntoIter<(Stamp, Record)>>,
}

impl Merged<'_> {
    /// Returns whether all records were to be had.
    ///
    /// # Errors
    ///
    /// [`ClientError::Corrupt`] where a segment opened before and does so no longer.
    pub(crate) fn check(&self) -> Result<(), ClientError> {
        self.failed.as_ref().map_or(Ok(()), |pack| Err(torn(pack)))
    }
}

impl Source<'_> {
    /// Returns the stamp of the next record, from the next batch where one is at its end.
    fn peek(&mut self) -> Result<Option<Stamp>, OpenPackError> {
        loop {
            if let Some((stamp, _)) = self.records.peek() {
                return Ok(Some(*stamp));
            }
            let next = self
                .rest
                .as_mut()
                .and_then(|(segment, batches)| Some((segment, batches.next()?)));
            let Some((segment, index)) = next else {
                // Nobody reads on: what it takes to do so is given back.
                self.rest = None;
                return Ok(None);
            };
            let sequence = segment.segment.sequence;
            let records: Vec<_> = segment.batch(index)?.into_records(sequence).collect();
            self.records = records.into_iter().peekable();
        }
    }
}

impl Iterator for Merged<'_> {
    type Item = (Stamp, Record);

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(stretch) = self.closed.last() {
            let next = self.order.peek().map(|Reverse((stamp, _))| *stamp);
            if next.is_some_and(|next| next < stretch.first) {
                break;
            }
            let stretch = self.closed.pop()?;
            let opened = OpenSegment::open(self.reader, stretch.segment, &stretch.pack);
            let opened = opened.and_then(|segment| {
                let mut source = Source {
                    rest: Some((segment, stretch.batches.clone())),
                    records: Vec::new().into_iter().peekable(),
                };
                Ok((source.peek()?, source))
            });
            let Ok((first, source)) = opened else {
                self.failed = Some(stretch.pack);
                return None;
            };
            if let Some(first) = first {
                self.order.push(Reverse((first, self.open.len())));
                self.open.push(source);
            }
        }
        let Reverse((_, index)) = self.order.pop()?;
        let source = self.open.get_mut(index)?;
        let record = source.records.next()?;
        match source.peek() {
            Ok(Some(stamp)) => self.order.push(Reverse((stamp, index))),
            Ok(None) => {}
            Err(_) => {
                let rest = source.rest.as_ref();
                self.failed = rest.map(|(segment, _)| segment.pack);
                self.order.clear();
                self.closed.clear();
            }
        }
        Some(record)
    }
}

/// A segment whose batches are opened one at a time.
struct OpenSegment<'a> {
    file: File,
    segment: Segment,
    pack: ObjectRef,
    reader: PackReader<'a>,
    layout: PackLayout,
    store: &'a StoreKeys,
    decompressor: Decompressor,
}

impl<'a> OpenSegment<'a> {
    fn open(
        from: JournalReader<'a>,
        segment: Segment,
        pack: &ObjectRef,
    ) -> Result<Self, OpenPackError> {
        let file = from.cache.file(pack).ok_or(OpenPackError::CannotOpen)?;
        let header = read(&file, &PackReader::HEADER_RANGE)?;
        let key = &from.channel.vital;
        let reader = PackReader::new(key, PackKind::Vital, pack.length, &header)?;
        let trailer = read(&file, &trailer_range(pack.length)?)?;
        let trailer = reader.open_trailer(&trailer)?;
        let table = reader.open_table(&trailer, read(&file, trailer.table_range())?)?;
        if table.layout.number() != segment.number {
            return Err(OpenPackError::CannotOpen);
        }
        Ok(Self {
            file,
            segment,
            pack: *pack,
            reader,
            layout: table.layout,
            store: from.store,
            decompressor: Decompressor::new(),
        })
    }

    fn count(&self) -> u32 {
        u32::try_from(self.layout.entries().len()).unwrap_or(u32::MAX)
    }

    fn batch(&mut self, index: u32) -> Result<Batch, OpenPackError> {
        let range = self.layout.chunk_range(index);
        let range = range.ok_or(OpenPackError::CannotOpen)?;
        let entry = &self.layout.entries()[index as usize];
        let sealed = read(&self.file, &range)?;
        let context = Opening {
            keys: self.store,
            dictionaries: &HashMap::new(),
        };
        let plaintext = self
            .reader
            .open_chunk(entry, sealed, &context, &mut self.decompressor)?;
        Ok(Batch::parse(&plaintext)?)
    }
}

fn read(file: &File, range: &Range<u64>) -> Result<Vec<u8>, OpenPackError> {
    let length = range.end.checked_sub(range.start);
    let length = length.and_then(|length| usize::try_from(length).ok());
    let mut bytes = vec![0; length.ok_or(OpenPackError::CannotOpen)?];
    file.read_exact_at(&mut bytes, range.start)
        .map_err(|_| OpenPackError::CannotOpen)?;
    Ok(bytes)
}

fn torn(pack: &ObjectRef) -> ClientError {
    ClientError::Corrupt(format!("journal segment {} is torn", pack.root))
}
