//! The blobs of the catalog's rows: what a scan asks of a path, and what an entry says.
//!
//! Read from a file that may be torn: every parser is total, and nothing it returns makes a caller walk further than a pack is long.

use maimo_core::codec::{ParseError, Put, Reader};
use maimo_vault::{
    journal::{
        content::{ChunkExtent, Content, EXTENTS_MAX},
        metadata::{FileTime, Metadata},
        record::PathEvent,
        state::Presence,
    },
    name::{ChunkRef, PackNumber},
    pack::CHUNKS_PER_PACK_MAX,
    path::StorePath,
};

use super::{ids::WriterNumbers, view::Kind};
use crate::local_stat::LocalStat;

/// What the hot row says of a path's newest revision, and of all of them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Fact {
    /// The newest revision; none if a path has only had events, or is only on the way to another.
    pub(super) newest: Option<Newest>,
    /// How many revisions are kept.
    pub(super) revisions: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Newest {
    pub(super) ordinal: i64,
    pub(super) presence: Presence,
    /// Whether it is kept.
    pub(super) kept: bool,
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) modified: FileTime,
    pub(super) local: Option<LocalStat>,
}

const PRESENCE: u8 = 3;
const HAS_NEWEST: u8 = 4;
const HAS_LOCAL: u8 = 8;
const IS_KEPT: u8 = 16;
const KIND_SHIFT: u8 = 5;

impl Fact {
    /// Appends nothing at all for a path without a revision, so that rows on the way to others stay short.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let Some(newest) = &self.newest else {
            return;
        };
        let presence = match newest.presence {
            Presence::Present => 0,
            Presence::Evicted => 1,
            Presence::Gone => 2,
            Presence::Removed => 3,
        };
        let mut flags = presence | HAS_NEWEST | ((newest.kind as u8) << KIND_SHIFT);
        if newest.local.is_some() {
            flags |= HAS_LOCAL;
        }
        if newest.kept {
            flags |= IS_KEPT;
        }
        out.put_u8(flags);
        out.put_varint(newest.ordinal.cast_unsigned());
        out.put_varint(self.revisions);
        out.put_varint(newest.size);
        newest.modified.encode(out);
        if let Some(local) = newest.local {
            out.put_varint(local.device);
            out.put_varint(local.inode);
            local.changed.encode(out);
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut r = Reader::new(bytes);
        let flags = r.u8("path row")?;
        if flags & HAS_NEWEST == 0 {
            return Err(ParseError::Invalid { what: "path row" });
        }
        let ordinal = r.varint("path row")?.cast_signed();
        let revisions = r.varint("path row")?;
        let size = r.varint("path row")?;
        let modified = FileTime::parse(&mut r)?;
        let local = if flags & HAS_LOCAL != 0 {
            Some(LocalStat {
                device: r.varint("path row")?,
                inode: r.varint("path row")?,
                changed: FileTime::parse(&mut r)?,
            })
        } else {
            None
        };
        r.finish()?;
        Ok(Self {
            revisions,
            newest: Some(Newest {
                ordinal,
                presence: match flags & PRESENCE {
                    0 => Presence::Present,
                    1 => Presence::Evicted,
                    2 => Presence::Gone,
                    _ => Presence::Removed,
                },
                kept: flags & IS_KEPT != 0,
                kind: Kind::of_byte(flags >> KIND_SHIFT)
                    .ok_or(ParseError::Invalid { what: "path row" })?,
                size,
                modified,
                local,
            }),
        })
    }
}

/// What an entry's body is, without reading all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryTag {
    Revision,
    Event(PathEvent),
}

const REVISION: u8 = 4;

impl EntryTag {
    pub(super) fn of(body: &[u8]) -> Result<Self, ParseError> {
        Ok(match body.first() {
            Some(0) => Self::Event(PathEvent::Gone),
            Some(1) => Self::Event(PathEvent::Evicted),
            Some(2) => Self::Event(PathEvent::Found),
            Some(3) => Self::Event(PathEvent::Removed),
            Some(&REVISION) => Self::Revision,
            _ => return Err(ParseError::Invalid { what: "entry" }),
        })
    }
}

/// Appends a revision's body.
pub(super) fn encode_revision(
    metadata: &Metadata,
    content: &Content,
    mut writers: impl FnMut(PackNumber) -> i64,
    out: &mut Vec<u8>,
) {
    out.put_u8(REVISION);
    metadata.encode(out);
    match content {
        Content::Regular {
            size,
            blake3,
            chunks,
        } => {
            out.put_u8(Kind::Regular as u8);
            out.put_varint(*size);
            out.put(blake3);
            out.put_varint(chunks.len() as u64);
            for extent in chunks {
                out.put_varint(writers(extent.first.pack).cast_unsigned());
                out.put_varint(extent.first.pack.n);
                out.put_varint(extent.first.index.into());
                out.put_varint(extent.count.into());
            }
        }
        Content::Folder => out.put_u8(Kind::Folder as u8),
        Content::Symlink(target) => {
            out.put_u8(Kind::Symlink as u8);
            out.put_bytes(target);
        }
        Content::HardLink(to) => {
            out.put_u8(Kind::HardLink as u8);
            to.encode_after(None, out);
        }
        Content::Fifo => out.put_u8(Kind::Fifo as u8),
        Content::Device {
            block,
            major,
            minor,
        } => {
            out.put_u8(Kind::Device as u8);
            out.put_u8(u8::from(*block));
            out.put_u32(*major);
            out.put_u32(*minor);
        }
    }
}

/// Reads what [`encode_revision`] wrote.
pub(super) fn parse_revision(
    body: &[u8],
    writers: &WriterNumbers,
) -> Result<(Metadata, Content), ParseError> {
    const WHAT: &str = "revision";
    let invalid = || ParseError::Invalid { what: WHAT };
    let mut reader = Reader::new(body);
    let r = &mut reader;
    if r.u8(WHAT)? != REVISION {
        return Err(invalid());
    }
    let metadata = Metadata::parse(r)?;
    let content = match Kind::of_byte(r.u8(WHAT)?).ok_or_else(invalid)? {
        Kind::Regular => {
            let size = r.varint(WHAT)?;
            let blake3 = r.array(WHAT)?;
            let count = r.count(EXTENTS_MAX, 4, WHAT)?;
            let mut chunks = Vec::with_capacity(count);
            for _ in 0..count {
                let writer = writers
                    .id(r.varint(WHAT)?.cast_signed())
                    .ok_or_else(invalid)?;
                let n = r.varint(WHAT)?;
                let chunks_max = CHUNKS_PER_PACK_MAX as u64;
                let index = r.varint_max(chunks_max, WHAT)?;
                let count = r.varint_max(chunks_max - index, WHAT)?;
                chunks.push(ChunkExtent {
                    first: ChunkRef {
                        pack: PackNumber { writer, n },
                        index: u32::try_from(index).map_err(|_| invalid())?,
                    },
                    count: u32::try_from(count).map_err(|_| invalid())?,
                });
            }
            Content::Regular {
                size,
                blake3,
                chunks,
            }
        }
        Kind::Folder => Content::Folder,
        Kind::Symlink => Content::Symlink(r.bytes(StorePath::BYTES_MAX, WHAT)?.to_vec()),
        Kind::HardLink => Content::HardLink(StorePath::parse_after(None, r)?),
        Kind::Fifo => Content::Fifo,
        Kind::Device => Content::Device {
            block: r.u8(WHAT)? != 0,
            major: r.u32(WHAT)?,
            minor: r.u32(WHAT)?,
        },
    };
    reader.finish()?;
    Ok((metadata, content))
}

/// Returns what a folder's listing says of a content.
pub(super) fn kind_and_size(content: &Content) -> (Kind, u64) {
    match content {
        Content::Regular { size, .. } => (Kind::Regular, *size),
        Content::Folder => (Kind::Folder, 0),
        Content::Symlink(target) => (Kind::Symlink, target.len() as u64),
        Content::HardLink(_) => (Kind::HardLink, 0),
        Content::Fifo => (Kind::Fifo, 0),
        Content::Device { .. } => (Kind::Device, 0),
    }
}

/// The counts that `status` shows, kept up to date with every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Regular files whose newest revision is present.
    pub files_present: u64,
    /// Their bytes.
    pub bytes_present: u64,
    /// Regular files whose local copy was deleted on purpose.
    pub files_evicted: u64,
    /// Their bytes.
    pub bytes_evicted: u64,
    /// Kept revisions, of all paths.
    pub revisions: u64,
}

impl Totals {
    /// Counts a row in place of what it was before.
    pub(super) fn replace(&mut self, before: &Fact, after: &Fact) {
        self.count(before, u64::wrapping_sub);
        self.count(after, u64::wrapping_add);
    }

    fn count(&mut self, fact: &Fact, add: impl Fn(u64, u64) -> u64) {
        self.revisions = add(self.revisions, fact.revisions);
        let Some(newest) = fact
            .newest
            .filter(|newest| newest.kind == Kind::Regular && newest.kept)
        else {
            return;
        };
        let (files, bytes) = match newest.presence {
            Presence::Present => (&mut self.files_present, &mut self.bytes_present),
            Presence::Evicted => (&mut self.files_evicted, &mut self.bytes_evicted),
            _ => return,
        };
        *files = add(*files, 1);
        *bytes = add(*bytes, newest.size);
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for value in [
            self.files_present,
            self.bytes_present,
            self.files_evicted,
            self.bytes_evicted,
            self.revisions,
        ] {
            out.put_u64(value);
        }
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let totals = Self {
            files_present: r.u64("totals")?,
            bytes_present: r.u64("totals")?,
            files_evicted: r.u64("totals")?,
            bytes_evicted: r.u64("totals")?,
            revisions: r.u64("totals")?,
        };
        r.finish()?;
        Ok(totals)
    }
}
