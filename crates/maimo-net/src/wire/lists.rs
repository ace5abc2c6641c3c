//! Lists of what is asked for, and of the parts of an answer.
//!
//! An answer to a list begins with the lengths of its parts, four bytes each, as many as were asked for; then come the parts. So whoever
//! asked knows where everything is before the first part has come, and nothing says twice how many there are.

use bytes::Bytes;
use maimo_core::{
    codec::{ParseError, Put as _, Reader},
    inventory::Node,
    live_map::LiveMap,
    reference::ObjectRef,
    units::{PACK_BYTES_MAX, PACK_GROUPS_MAX, groups},
    verify::Selection,
};

use super::{MAP_BYTES_MAX, VARINT_BYTES, check_length};
use crate::service::{NODES_MAX, READ_BYTES_MAX, READ_PACKS_MAX, Read};

pub(super) const NODES_REQUEST_MAX: usize = VARINT_BYTES + NODES_MAX * (32 + VARINT_BYTES);
pub(super) const NODES_RESPONSE_MAX: usize = NODES_MAX * (LENGTH_BYTES + Node::BYTES_MAX);

pub(super) const READ_REQUEST_MAX: usize =
    VARINT_BYTES + READ_PACKS_MAX * (32 + VARINT_BYTES + MAP_BYTES_MAX);
/// All bytes that one request may ask for; above each of the groups that these are (whole ones, and one for each pack that may be short) at
/// most the 12 inner nodes between it and the root, 64 bytes each; and for each pack its length and its slice's header.
pub(super) const READ_RESPONSE_MAX: usize = READ_BYTES as usize
    + (READ_BYTES as usize / GROUP + READ_PACKS_MAX) * 12 * 64
    + READ_PACKS_MAX * (LENGTH_BYTES + 8);
const READ_BYTES: u32 = 64 * 1024 * 1024;
const GROUP: usize = 16 * 1024;
const _: () = assert!(READ_BYTES as u64 == READ_BYTES_MAX);
const _: () = assert!(GROUP as u64 == maimo_core::units::GROUP_BYTES && PACK_GROUPS_MAX == 1 << 12);

/// How many bytes the length of a part takes.
pub(super) const LENGTH_BYTES: usize = 4;

/// Returns the names of nodes as bytes.
pub fn encode_nodes(nodes: &[ObjectRef]) -> Vec<u8> {
    let mut out = Vec::with_capacity(VARINT_BYTES + nodes.len() * 36);
    out.put_varint(nodes.len() as u64);
    for node in nodes {
        node.encode(&mut out);
    }
    out
}

/// Reads what [`encode_nodes`] wrote.
pub fn parse_nodes(bytes: &[u8]) -> Result<Vec<ObjectRef>, ParseError> {
    const WHAT: &str = "inventory node";
    let mut reader = Reader::new(bytes);
    let count = reader.count(NODES_MAX as u64, 33, WHAT)?;
    let mut nodes = Vec::with_capacity(count);
    for _ in 0..count {
        nodes.push(ObjectRef::parse(&mut reader, Node::BYTES_MAX as u64, WHAT)?);
    }
    reader.finish()?;
    Ok(nodes)
}

/// Returns groups of packs as bytes. A map of more than [`LiveMap::RUNS_MAX`] runs, or of another number of groups than its pack has, is refused
/// by who reads it.
pub fn encode_reads(reads: &[Read]) -> Vec<u8> {
    let mut out = Vec::with_capacity(VARINT_BYTES + reads.len() * 64);
    out.put_varint(reads.len() as u64);
    for read in reads {
        read.pack.encode(&mut out);
        read.groups.encode(&mut out);
    }
    out
}

/// Reads what [`encode_reads`] wrote.
///
/// # Errors
///
/// More packs or bytes than one request may ask for; a pack of which nothing is asked for.
pub fn parse_reads(bytes: &[u8]) -> Result<Vec<Read>, ParseError> {
    const WHAT: &str = "groups to read";
    let mut reader = Reader::new(bytes);
    let count = reader.count(READ_PACKS_MAX as u64, 34, WHAT)?;
    let mut reads = Vec::with_capacity(count);
    let mut total = 0_u64;
    for _ in 0..count {
        let pack = ObjectRef::parse(&mut reader, PACK_BYTES_MAX, "pack")?;
        let of = u32::try_from(groups(pack.length)).unwrap_or(PACK_GROUPS_MAX);
        let groups = LiveMap::parse(&mut reader, of)?;
        if groups.is_empty() || of == 0 {
            return Err(ParseError::Invalid { what: WHAT });
        }
        total = total.saturating_add(groups.live_bytes(pack.length));
        if total > READ_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: WHAT,
                found: total,
                max: READ_BYTES_MAX,
            });
        }
        reads.push(Read { pack, groups });
    }
    reader.finish()?;
    Ok(reads)
}

/// Returns what goes before the parts of an answer: their lengths.
///
/// # Panics
///
/// A part is longer than any answer.
pub fn encode_lengths(parts: &[Bytes]) -> Vec<u8> {
    let mut out = Vec::with_capacity(LENGTH_BYTES * parts.len());
    for part in parts {
        out.put_u32(u32::try_from(part.len()).expect("nodes and slices are below 4 GiB"));
    }
    out
}

/// Reads the lengths and the parts of an answer, without copying these. `maxima` says how long each part that was asked for may be.
///
/// # Errors
///
/// A part longer than its maximum; more or fewer bytes than the lengths say.
pub fn parse_parts(
    body: &Bytes,
    maxima: impl ExactSizeIterator<Item = u64>,
) -> Result<Vec<Bytes>, ParseError> {
    const LENGTHS: &str = "lengths of an answer";
    const PART: &str = "part of an answer";
    let head = maxima.len().saturating_mul(LENGTH_BYTES);
    let (lengths, parts) = body
        .split_at_checked(head)
        .ok_or(ParseError::Truncated { what: LENGTHS })?;
    let (mut lengths, mut parts) = (Reader::new(lengths), Reader::new(parts));
    let mut found = Vec::with_capacity(maxima.len());
    for max in maxima {
        let length = lengths.u32(LENGTHS)?;
        if u64::from(length) > max {
            return Err(ParseError::TooLarge {
                what: PART,
                found: length.into(),
                max,
            });
        }
        let length = usize::try_from(length).map_err(|_| ParseError::Invalid { what: PART })?;
        found.push(body.slice_ref(parts.take(length, PART)?));
    }
    parts.finish()?;
    Ok(found)
}

/// Reads the answer to a request for slices.
pub fn parse_slices(body: &Bytes, reads: &[Read]) -> Result<Vec<Bytes>, ParseError> {
    check_length(body.len(), READ_RESPONSE_MAX, "slices")?;
    parse_parts(body, reads.iter().map(slice_bytes))
}

/// Returns how many bytes the answer to a request for slices has at most.
pub fn slice_bytes_max(reads: &[Read]) -> u64 {
    let longest = |read: &Read| LENGTH_BYTES as u64 + slice_bytes(read);
    reads.iter().map(longest).fold(0, u64::saturating_add)
}

/// Returns how many bytes a slice has; none where nothing can be asked for.
fn slice_bytes(read: &Read) -> u64 {
    Selection::of_map(read.pack.length, &read.groups).map_or(0, |selection| selection.slice_bytes())
}
