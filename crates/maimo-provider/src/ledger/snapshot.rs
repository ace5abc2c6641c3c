//! Snapshots: all rows of a channel as entries of a log, after which nothing before them is needed.
//!
//! A snapshot stands where the changes stand that it sums up, so that replaying goes on from it. It is cut into pieces that fit into entries; one of
//! which a piece is missing says nothing, and what was before it still counts. It also carries a channel from the log of one volume to
//! that of another: of two logs that have the channel, the one whose snapshot has the higher *era* counts, and the other's entries are passed over.

use std::collections::HashMap;

use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    custody::{ChannelState, HeadRow, Hold, NodeRow, PackClass, Standing, Totals, Upload},
    head::COMMIT_BYTES_MAX,
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    inventory::{InventoryRef, Node},
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};

use super::{
    ChannelRow, HeadKey, LedgerError, PackRow, Result, Revocation, Rows, StoredHead, UploadRow,
    changes,
    entry::{Change, LABEL_BYTES_MAX},
    sqlite::encode,
};
use crate::volume::VolumeId;

const PIECE_BYTES: usize = 1024 * 1024;
/// Version 1 knew neither revocations nor when a client was last here.
const VERSION: u8 = 2;
const WHAT: &str = "snapshot in the log";
const WRONG: LedgerError = LedgerError::Damaged { what: WHAT };

/// Returns a channel's rows as entries.
pub(crate) fn entries(rows: &dyn Rows, channel: &ChannelRow) -> Result<Vec<Change>> {
    let bytes = write(rows, channel)?;
    let pieces = bytes.chunks(PIECE_BYTES);
    let count = u32::try_from(pieces.len()).map_err(|_| WRONG)?;
    Ok((0..)
        .zip(pieces)
        .map(|(index, bytes)| Change::Snapshot {
            index,
            count,
            bytes: bytes.to_vec(),
        })
        .collect())
}

/// Puts snapshots together again from the entries of one log.
#[derive(Default)]
pub(crate) struct Pieces {
    open: HashMap<ChannelId, (u32, Vec<u8>)>,
}

impl Pieces {
    /// Takes an entry of a channel, and returns the snapshot that it completes.
    pub(crate) fn take(&mut self, channel: ChannelId, change: &Change) -> Option<Vec<u8>> {
        let Change::Snapshot {
            index,
            count,
            bytes,
        } = change
        else {
            // The pieces of a snapshot are appended together: it was cut off.
            self.open.remove(&channel);
            return None;
        };
        let (next, mut all) = match self.open.remove(&channel) {
            Some(open) if *index > 0 => open,
            _ => (0, Vec::new()),
        };
        if next != *index {
            return None;
        }
        all.extend_from_slice(bytes);
        if index + 1 == *count {
            return Some(all);
        }
        self.open.insert(channel, (index + 1, all));
        None
    }
}

fn write(rows: &dyn Rows, channel: &ChannelRow) -> Result<Vec<u8>> {
    let number = channel.number;
    let mut out = vec![VERSION];
    out.put_u32(channel.era);
    out.put(channel.client().as_bytes());
    out.put_bytes(channel.label.as_bytes());
    encode::put_terms(&channel.terms, &mut out);
    out.put_u64(channel.registered.0);
    out.put_u64(channel.seen.0);
    out.put_u64(channel.met.0);
    match channel.revoked {
        None => out.put_u8(0),
        Some(Revocation { since, reads_until }) => {
            out.put_u8(1);
            out.put_u64(since.0);
            out.put_u64(reads_until.0);
        }
    }
    let Totals {
        live,
        held,
        reserved,
    } = channel.state.totals;
    for total in [live, held, reserved] {
        out.put_u64(total);
    }
    channel.state.ancestry.encode(&mut out);
    let standing = channel.state.standing.as_ref();
    out.put_u64(channel.state.sequence());
    let (data, vital) = standing.map_or_else(Default::default, |now| (now.data, now.vital));
    data.encode_fixed(&mut out);
    vital.encode_fixed(&mut out);

    let packs = rows.packs(number)?;
    out.put_varint(packs.len() as u64);
    for PackRow { held, volume } in packs {
        held.reference().encode(&mut out);
        put_class(held.class(), &mut out);
        out.put(&volume.0);
        out.put_bytes(&encode::extents(&held));
    }
    let nodes = rows.nodes(number)?;
    out.put_varint(nodes.len() as u64);
    for node in nodes {
        let (bytes, hold) = rows.node(number, &node.reference)?.ok_or(WRONG)?;
        put_hold(hold, &mut out);
        out.put_bytes(&bytes);
    }
    let heads = rows.heads(number)?;
    out.put_varint(heads.len() as u64);
    for row in heads {
        let head = rows.head(number, HeadKey::Sequence(row.sequence))?;
        let head = head.ok_or(WRONG)?;
        out.put_u64(row.sequence);
        out.put_u64(row.admitted.0);
        put_hold(row.hold, &mut out);
        out.put(row.root.as_bytes());
        out.put_bytes(&head.signed);
        // A commit is never empty.
        out.put_bytes(head.commit.as_deref().unwrap_or_default());
    }
    let uploads = rows.uploads(number)?;
    out.put_varint(uploads.len() as u64);
    for UploadRow { upload, volume } in uploads {
        upload.pack.encode(&mut out);
        put_class(upload.class, &mut out);
        out.put(&volume.0);
        out.put_u64(upload.reserved);
        out.put_u64(upload.expires.0);
    }
    let roots = rows.roots(number)?;
    out.put_varint(roots.len() as u64);
    for (sequence, root) in roots {
        out.put_u64(sequence);
        out.put(root.as_bytes());
    }
    let nodes = rows.ancestry_nodes(number)?;
    out.put_varint(nodes.len() as u64);
    for (height, place, hash) in nodes {
        out.put_u32(height);
        out.put_u64(place);
        out.put(&hash);
    }
    Ok(out)
}

/// Puts the rows of a snapshot in the place of all that the channel has; one of an earlier log than the rows are of changes nothing.
///
/// # Errors
///
/// [`LedgerError::Damaged`] where the bytes are no snapshot.
pub(crate) fn put(rows: &dyn Rows, channel: ChannelId, bytes: &[u8], log: VolumeId) -> Result<()> {
    let mut reader = Reader::new(bytes);
    let (mut row, sequence, inventories) = channel_row(&mut reader, channel, log)?;
    row.number = match rows.channel(&channel)? {
        Some(known) if known.log != log && known.era >= row.era => return Ok(()),
        Some(known) => {
            rows.clear(known.number)?;
            known.number
        }
        None => {
            rows.add_channel(&row)?;
            rows.channel(&channel)?.ok_or(WRONG)?.number
        }
    };
    let number = row.number;
    let reader = &mut reader;
    for _ in 0..count(reader, 32)? {
        let (pack, class, volume) = pack(reader).map_err(wrong)?;
        let extents = reader.bytes(bytes.len(), WHAT).map_err(wrong)?;
        let held = encode::parse_extents(pack, class, extents)?;
        rows.put_pack(number, &PackRow { held, volume })?;
    }
    for _ in 0..count(reader, 2)? {
        let hold = hold(reader).map_err(wrong)?;
        let bytes = reader.bytes(Node::BYTES_MAX, WHAT).map_err(wrong)?;
        let reference = ObjectRef::of(bytes);
        rows.add_node(number, &NodeRow { reference, hold }, bytes)?;
    }
    for _ in 0..count(reader, 32)? {
        let head = head(reader).map_err(wrong)?;
        rows.add_head(number, &head)?;
        if head.row.sequence == sequence {
            let (data, vital) = inventories;
            row.state.standing = Some(Standing {
                row: head.row,
                data,
                vital,
            });
        }
    }
    for _ in 0..count(reader, 32)? {
        let (pack, class, volume) = pack(reader).map_err(wrong)?;
        let upload = Upload {
            pack,
            class,
            reserved: reader.u64(WHAT).map_err(wrong)?,
            expires: Timestamp(reader.u64(WHAT).map_err(wrong)?),
        };
        rows.put_upload(number, &UploadRow { upload, volume })?;
    }
    for _ in 0..count(reader, 32)? {
        let sequence = reader.u64(WHAT).map_err(wrong)?;
        let root = RootHash(reader.array(WHAT).map_err(wrong)?);
        rows.add_root(number, sequence, root, &[])?;
    }
    for _ in 0..count(reader, 32)? {
        let height = reader.u32(WHAT).map_err(wrong)?;
        let place = reader.u64(WHAT).map_err(wrong)?;
        let hash = reader.array(WHAT).map_err(wrong)?;
        rows.put_ancestry_node(number, height, place, &hash)?;
    }
    if reader.remaining() != 0 || row.state.sequence() != sequence {
        return Err(WRONG);
    }
    rows.put_channel(&row)?;
    if changes::recomputed(rows, number)? != row.state.totals {
        return Err(WRONG);
    }
    Ok(())
}

type Inventories = (InventoryRef, InventoryRef);

fn channel_row(
    reader: &mut Reader<'_>,
    channel: ChannelId,
    log: VolumeId,
) -> Result<(ChannelRow, u64, Inventories)> {
    let mut parse = || -> core::result::Result<_, ParseError> {
        let version = reader.u8(WHAT)?;
        if !(1..=VERSION).contains(&version) {
            return Err(ParseError::Invalid { what: WHAT });
        }
        let era = reader.u32(WHAT)?;
        let client = ClientPublicKey::parse(reader, WHAT)?;
        let label = reader.bytes(LABEL_BYTES_MAX, WHAT)?.to_vec();
        let label = String::from_utf8(label).map_err(|_| ParseError::Invalid { what: WHAT })?;
        let terms = encode::terms(reader)?;
        let (registered, seen) = (reader.u64(WHAT)?, reader.u64(WHAT)?);
        let (met, revoked) = if version == 1 {
            (Timestamp(seen), None)
        } else {
            let met = Timestamp(reader.u64(WHAT)?);
            let revoked = match reader.u8(WHAT)? {
                0 => None,
                1 => Some(Revocation {
                    since: Timestamp(reader.u64(WHAT)?),
                    reads_until: Timestamp(reader.u64(WHAT)?),
                }),
                _ => return Err(ParseError::Invalid { what: WHAT }),
            };
            (met, revoked)
        };
        let totals = Totals {
            live: reader.u64(WHAT)?,
            held: reader.u64(WHAT)?,
            reserved: reader.u64(WHAT)?,
        };
        let ancestry = Ancestry::parse(reader)?;
        let sequence = reader.u64(WHAT)?;
        let data = InventoryRef::parse_fixed(reader)?;
        let vital = InventoryRef::parse_fixed(reader)?;
        let state = ChannelState {
            ancestry,
            totals,
            ..ChannelState::new(channel, client)
        };
        let row = ChannelRow {
            number: super::ChannelNumber(0),
            label,
            terms,
            log,
            era,
            registered: Timestamp(registered),
            seen: Timestamp(seen),
            met,
            revoked,
            state,
        };
        Ok((row, sequence, (data, vital)))
    };
    parse().map_err(wrong)
}

fn count(reader: &mut Reader<'_>, least_bytes: usize) -> Result<usize> {
    let most = reader.remaining() as u64;
    reader.count(most, least_bytes, WHAT).map_err(wrong)
}

fn pack(
    reader: &mut Reader<'_>,
) -> core::result::Result<(ObjectRef, PackClass, VolumeId), ParseError> {
    let pack = ObjectRef::parse(reader, PACK_BYTES_MAX, WHAT)?;
    let class = match reader.u8(WHAT)? {
        0 => PackClass::Data,
        1 => PackClass::Vital,
        _ => return Err(ParseError::Invalid { what: WHAT }),
    };
    Ok((pack, class, VolumeId(reader.array(WHAT)?)))
}

fn head(reader: &mut Reader<'_>) -> core::result::Result<StoredHead, ParseError> {
    let sequence = reader.u64(WHAT)?;
    let admitted = Timestamp(reader.u64(WHAT)?);
    let hold = hold(reader)?;
    let root = RootHash(reader.array(WHAT)?);
    let signed = reader.bytes(reader.remaining(), WHAT)?.to_vec();
    let most = usize::try_from(COMMIT_BYTES_MAX).unwrap_or(usize::MAX);
    let commit = Some(reader.bytes(most, WHAT)?.to_vec()).filter(|commit| !commit.is_empty());
    Ok(StoredHead {
        row: HeadRow {
            sequence,
            root,
            length: signed.len() as u64,
            commit: commit.as_deref().map(ObjectRef::of),
            admitted,
            hold,
        },
        signed,
        commit,
    })
}

fn put_class(class: PackClass, out: &mut Vec<u8>) {
    out.put_u8(match class {
        PackClass::Data => 0,
        PackClass::Vital => 1,
    });
}

fn put_hold(hold: Hold, out: &mut Vec<u8>) {
    match hold {
        Hold::Live => out.put_u8(0),
        Hold::FreeAfter(date) => {
            out.put_u8(1);
            out.put_u64(date.0);
        }
    }
}

fn hold(reader: &mut Reader<'_>) -> core::result::Result<Hold, ParseError> {
    match reader.u8(WHAT)? {
        0 => Ok(Hold::Live),
        1 => Ok(Hold::FreeAfter(Timestamp(reader.u64(WHAT)?))),
        _ => Err(ParseError::Invalid { what: WHAT }),
    }
}

fn wrong(_: ParseError) -> LedgerError {
    WRONG
}
