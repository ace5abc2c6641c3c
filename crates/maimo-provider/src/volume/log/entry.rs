//! An entry's bytes, and how the next one is found behind damage.
//!
//! Header and body end in keyed hashes over where they are. The header's lets a damaged body be stepped over without a search; the key
//! and the place keep bytes that a client sent, or that a file had before, from being taken for an entry.

use core::{fmt, ops::Range};
use std::{fs::File, os::unix::fs::FileExt};

use maimo_core::{
    codec::{Put, Reader},
    id::ChannelId,
};

use super::{Log, VolumeError, length};

/// How many bytes of an entry come before its body.
pub(super) const HEADER_BYTES: usize = 64;
/// How many bytes follow the body.
pub(super) const TAG_BYTES: usize = 16;
/// How many bytes of a segment come before its first entry.
pub(super) const SEGMENT_HEADER_BYTES: u32 = 40;

const MAGIC: [u8; 4] = *b"mlog";
const SEGMENT_MAGIC: [u8; 8] = *b"maimolog";
const VERSION: u8 = 1;

/// Something to append.
#[derive(Debug, Clone, Copy)]
pub struct LogEntry<'a> {
    /// What it is: the log does not know.
    pub kind: u8,
    /// The channel it is of.
    pub channel: ChannelId,
    /// What it says, at most [`Log::BODY_BYTES_MAX`] bytes.
    pub body: &'a [u8],
}

/// An entry as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedEntry {
    /// Where it is.
    pub position: LogPosition,
    /// What it is.
    pub kind: u8,
    /// The channel it is of.
    pub channel: ChannelId,
    /// What it says.
    pub body: Vec<u8>,
}

/// Where an entry is. Positions ascend in the order in which entries were appended, until a segment is compacted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(u64);

impl LogPosition {
    /// Returns it as a number below 2^63, for a database.
    pub const fn to_number(self) -> u64 {
        self.0
    }

    /// Returns the position of a number, as [`Self::to_number`] gave it.
    pub const fn from_number(number: u64) -> Self {
        Self(number & (u64::MAX >> 1))
    }

    /// Returns the number of the segment it is in.
    pub const fn segment(self) -> u32 {
        (self.0 >> 40) as u32
    }

    /// Returns the positions of a segment, in all its generations.
    pub const fn of_segment(number: u32) -> Range<Self> {
        Self((number as u64) << 40)..Self((number as u64 + 1) << 40)
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits")]
    pub(super) const fn offset(self) -> u32 {
        self.0 as u32
    }

    #[expect(clippy::cast_possible_truncation, reason = "8 bits")]
    pub(super) const fn segment_name(self) -> SegmentName {
        SegmentName {
            number: self.segment(),
            generation: (self.0 >> 32) as u8,
        }
    }
}

impl fmt::Debug for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPosition({}+{})", self.segment_name(), self.offset())
    }
}

/// A segment's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SegmentName {
    pub(super) number: u32,
    pub(super) generation: u8,
}

impl SegmentName {
    pub(super) const FIRST: Self = Self {
        number: 0,
        generation: 0,
    };
    /// Positions have 23 bits for it.
    const NUMBER_MAX: u32 = (1 << 23) - 1;

    pub(super) fn parse(name: &str) -> Option<Self> {
        let (number, generation) = name.split_once('-')?;
        let found = Self {
            number: u32::from_str_radix(number, 16).ok()?,
            generation: u8::from_str_radix(generation, 16).ok()?,
        };
        (found.to_string() == name && found.number <= Self::NUMBER_MAX).then_some(found)
    }

    pub(super) fn next(self) -> Result<Self, VolumeError> {
        if self.number == Self::NUMBER_MAX {
            return Err(VolumeError::Full);
        }
        Ok(Self {
            number: self.number + 1,
            generation: 0,
        })
    }

    pub(super) const fn at(self, offset: u32) -> LogPosition {
        let (number, generation) = (self.number as u64, self.generation as u64);
        LogPosition(number << 40 | generation << 32 | offset as u64)
    }

    /// Returns the first bytes of the file.
    pub(super) fn encode_header(self, key: &[u8; 32]) -> Vec<u8> {
        let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES as usize);
        out.put(&SEGMENT_MAGIC);
        out.put(&[VERSION, 0, 0, 0, 0, 0, 0, 0]);
        out.put_u32(self.number);
        out.put_u32(self.generation.into());
        let sum = tag(key, self, 0, Part::Segment, &out);
        out.put(&sum);
        out
    }

    /// Returns whether a file's first bytes are this segment's.
    pub(super) fn has_header(self, bytes: &[u8], key: &[u8; 32]) -> bool {
        bytes.starts_with(&self.encode_header(key))
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}-{:02x}", self.number, self.generation)
    }
}

impl LogEntry<'_> {
    /// Appends the entry's bytes as they stand at `offset`; `origin` is where it was in the generation before.
    pub(super) fn encode(
        &self,
        key: &[u8; 32],
        segment: SegmentName,
        offset: u32,
        origin: Option<u32>,
        out: &mut Vec<u8>,
    ) {
        let start = out.len();
        out.put(&MAGIC);
        out.put_u32(length(self.body));
        out.put_u32(origin.unwrap_or(0));
        out.put(&[self.kind, 0, 0, 0]);
        out.put(self.channel.as_bytes());
        let sum = tag(key, segment, offset, Part::Header, &out[start..]);
        out.put(&sum);
        out.put(self.body);
        out.put(&tag(key, segment, offset, Part::Body, self.body));
    }
}

/// What stands before a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) channel: ChannelId,
    pub(super) body_bytes: usize,
    /// Where it was in the generation before; 0 if there it was not.
    pub(super) origin: u32,
}

impl Header {
    pub(super) fn parse(
        bytes: &[u8; HEADER_BYTES],
        key: &[u8; 32],
        segment: SegmentName,
        offset: u32,
    ) -> Option<Self> {
        const WHAT: &str = "log entry";
        let mut reader = Reader::new(bytes);
        if reader.array(WHAT).ok()? != MAGIC {
            return None;
        }
        let fields = &bytes[..HEADER_BYTES - TAG_BYTES];
        if bytes[HEADER_BYTES - TAG_BYTES..] != tag(key, segment, offset, Part::Header, fields) {
            return None;
        }
        let body_bytes = usize::try_from(reader.u32(WHAT).ok()?).ok()?;
        let origin = reader.u32(WHAT).ok()?;
        let [kind, 0, 0, 0] = reader.array(WHAT).ok()? else {
            return None;
        };
        let channel = ChannelId(reader.array(WHAT).ok()?);
        (body_bytes <= Log::BODY_BYTES_MAX).then_some(Self {
            kind,
            channel,
            body_bytes,
            origin,
        })
    }

    /// Returns whether a body with its tag is this header's.
    pub(super) fn proves(
        &self,
        body: &[u8],
        key: &[u8; 32],
        segment: SegmentName,
        offset: u32,
    ) -> bool {
        body.split_at_checked(self.body_bytes)
            .is_some_and(|(body, sum)| sum == tag(key, segment, offset, Part::Body, body))
    }
}

#[derive(Clone, Copy)]
enum Part {
    Segment = 0,
    Header = 1,
    Body = 2,
}

fn tag(
    key: &[u8; 32],
    segment: SegmentName,
    offset: u32,
    part: Part,
    bytes: &[u8],
) -> [u8; TAG_BYTES] {
    let mut place = Vec::with_capacity(13);
    place.put_u32(segment.number);
    place.put_u32(segment.generation.into());
    place.put_u32(offset);
    place.put_u8(part as u8);
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&place).update(bytes);
    let mut sum = [0; TAG_BYTES];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

/// What is at some place of a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// An entry; its body, and where the next one begins.
    Entry {
        header: Header,
        body: Range<usize>,
        end: usize,
    },
    /// Nothing sound before `end`.
    Damage { end: usize },
    /// The segment ends.
    End,
}

/// Looks at what begins at `at` in a segment.
pub(super) fn find(bytes: &[u8], at: usize, key: &[u8; 32], segment: SegmentName) -> Found {
    if at >= bytes.len() {
        return Found::End;
    }
    let header = |at: usize| {
        let bytes = bytes.get(at..)?.first_chunk::<HEADER_BYTES>()?;
        Header::parse(bytes, key, segment, super::offset(at))
    };
    let mut next = at + 1;
    if let Some(header) = header(at) {
        let start = at + HEADER_BYTES;
        let end = start + header.body_bytes + TAG_BYTES;
        if let Some(body) = bytes.get(start..end) {
            if header.proves(body, key, segment, super::offset(at)) {
                let body = start..end - TAG_BYTES;
                return Found::Entry { header, body, end };
            }
            return Found::Damage { end };
        }
        next = start;
    }
    // Each candidate costs one short hash, so bodies full of magics cost no more than others.
    while let Some(step) = bytes
        .get(next..)
        .and_then(|rest| rest.windows(MAGIC.len()).position(|window| window == MAGIC))
    {
        let candidate = next + step;
        if header(candidate).is_some() {
            return Found::Damage { end: candidate };
        }
        next = candidate + 1;
    }
    Found::Damage { end: bytes.len() }
}

/// Refuses a segment that a newer program began. A damaged header is no such thing.
pub(super) fn check_version(bytes: &[u8]) -> Result<(), VolumeError> {
    match bytes.strip_prefix(&SEGMENT_MAGIC) {
        Some(&[found, 0, 0, 0, 0, 0, 0, 0, ..]) if found > VERSION => {
            Err(VolumeError::Version { found })
        }
        _ => Ok(()),
    }
}

/// Reads a segment's file.
pub(super) fn read_segment(file: &File) -> Result<Vec<u8>, VolumeError> {
    read_segment_from(file, 0)
}

/// Reads a segment's file from an offset on, and its header; what is between is zeros.
pub(super) fn read_segment_from(file: &File, from: usize) -> Result<Vec<u8>, VolumeError> {
    let size = file
        .metadata()
        .map_err(VolumeError::io("reading the log"))?
        .len();
    let most = u64::from(Log::SEGMENT_BYTES) + Log::BODY_BYTES_MAX as u64;
    let mut bytes = vec![0; super::super::index(size.min(most))];
    let from = from.min(bytes.len());
    let header = from.min(SEGMENT_HEADER_BYTES as usize);
    // Not through the file's cursor, which others share.
    file.read_exact_at(&mut bytes[..header], 0)
        .and_then(|()| file.read_exact_at(&mut bytes[from..], from as u64))
        .map_err(VolumeError::io("reading the log"))?;
    Ok(bytes)
}
