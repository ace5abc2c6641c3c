//! The changes of a channel's rows: each calls a rule of custody and puts the rows that come of it.
//!
//! They run twice in the life of an entry: when a request is granted, at the clock's time, and when the log is replayed, at the entry's. Nothing here
//! asks a clock or a disk.

use maimo_core::{
    ancestry,
    clock::Timestamp,
    custody::{
        Begun, ChannelState, HeadRow, PackClass, Refusal, Terms, Totals, UploadRefusal, Verdict,
        admit, begin_upload, expire_upload, finish_upload, put_node as custody_put_node,
        sweep_head, sweep_node, sweep_pack, thin_commits,
    },
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    identity::ClientPublicKey,
    reference::ObjectRef,
};

use super::{
    ChannelRow, HeadKey, LedgerError, PackRow, Record, Revocation, Rows, StoredHead, UploadRow,
    entry::Change, view::ChannelView,
};
use crate::volume::VolumeId;

type Result<T> = core::result::Result<T, LedgerError>;

/// Registers a client, or gives it other terms; one that was revoked may write again.
pub(crate) fn register(
    rows: &dyn Rows,
    channel: ChannelId,
    client: ClientPublicKey,
    label: &str,
    terms: Terms,
    log: VolumeId,
    now: Timestamp,
) -> Result<()> {
    let row = match rows.channel(&channel)? {
        Some(row) => ChannelRow {
            label: label.to_owned(),
            terms,
            revoked: None,
            ..row
        },
        None => {
            return rows.add_channel(&ChannelRow {
                number: super::ChannelNumber(0),
                label: label.to_owned(),
                terms,
                log,
                era: 0,
                registered: now,
                seen: now,
                met: now,
                revoked: None,
                state: ChannelState::new(channel, client),
            });
        }
    };
    rows.put_channel(&row)
}

/// Lets a client write no more, and read until then.
pub(crate) fn revoke(
    rows: &dyn Rows,
    channel: ChannelRow,
    reads_until: Timestamp,
    now: Timestamp,
) -> Result<()> {
    let since = channel.revoked.map_or(now, |revoked| revoked.since);
    rows.put_channel(&ChannelRow {
        revoked: Some(Revocation { since, reads_until }),
        ..channel
    })
}

/// Notes that a client was here.
pub(crate) fn meet(rows: &dyn Rows, channel: ChannelRow, now: Timestamp) -> Result<()> {
    let met = channel.met.max(now);
    rows.put_channel(&ChannelRow { met, ..channel })
}

/// Takes a record in, unless one that is as new is known.
pub(crate) fn put_record(rows: &dyn Rows, record: &Record) -> Result<()> {
    let known = rows.record(record.kind, &record.name)?;
    if known.is_some_and(|known| known.version >= record.version) {
        return Ok(());
    }
    rows.put_record(record)
}

/// What became of the wish to upload.
pub(crate) enum Beginning {
    /// Room is taken; the bytes go to the volume that was named.
    Started,
    /// It is held; `is_changed` says whether any date moved.
    Held { is_changed: bool },
}

/// Takes room for a pack.
pub(crate) fn begin(
    rows: &dyn Rows,
    mut channel: ChannelRow,
    pack: ObjectRef,
    class: PackClass,
    volume: VolumeId,
    now: Timestamp,
) -> Result<core::result::Result<Beginning, UploadRefusal>> {
    let view = ChannelView::new(rows, channel.number);
    let begun = begin_upload(
        channel.state.totals,
        &channel.terms,
        pack,
        class,
        &view,
        now,
    );
    let begun = match (begun, view.into_error()) {
        (_, Some(error)) => return Err(error),
        (Err(refusal), None) => return Ok(Err(refusal)),
        (Ok(begun), None) => begun,
    };
    match begun {
        Begun::Held(held) => {
            let old = rows.pack(channel.number, &pack)?.ok_or(GONE)?;
            let is_changed = old.held != held;
            if is_changed {
                rows.put_pack(channel.number, &PackRow { held, ..old })?;
            }
            Ok(Ok(Beginning::Held { is_changed }))
        }
        Begun::Started { upload, totals } => {
            rows.put_upload(channel.number, &UploadRow { upload, volume })?;
            channel.state.totals = totals;
            channel.seen = now;
            rows.put_channel(&channel)?;
            Ok(Ok(Beginning::Started))
        }
    }
}

/// Keeps the room of an upload longer.
pub(crate) fn renew(
    rows: &dyn Rows,
    channel: &ChannelRow,
    pack: &ObjectRef,
    now: Timestamp,
) -> Result<()> {
    let Some(row) = rows.upload(channel.number, pack)? else {
        return Ok(());
    };
    let upload = row.upload.renewed(now);
    rows.put_upload(channel.number, &UploadRow { upload, ..row })
}

/// Makes a pack held whose file is durable on `volume`, and returns where another file of it was, if there was one.
///
/// An upload that expired meanwhile is taken in all the same: it is the cap's next check that counts it.
pub(crate) fn finish(
    rows: &dyn Rows,
    mut channel: ChannelRow,
    pack: ObjectRef,
    class: PackClass,
    volume: VolumeId,
    now: Timestamp,
) -> Result<Option<VolumeId>> {
    let upload = match rows.upload(channel.number, &pack)? {
        Some(row) => {
            rows.remove_upload(channel.number, &pack)?;
            row.upload
        }
        None => maimo_core::custody::Upload {
            pack,
            class,
            reserved: 0,
            expires: now,
        },
    };
    let old = rows.pack(channel.number, &pack)?;
    let held = old.as_ref().map(|row| &row.held);
    let totals = channel.state.totals;
    let (held, totals) = finish_upload(totals, &channel.terms, &upload, held, now);
    rows.put_pack(channel.number, &PackRow { held, volume })?;
    channel.state.totals = totals;
    channel.seen = now;
    rows.put_channel(&channel)?;
    Ok(old.map(|row| row.volume).filter(|old| *old != volume))
}

/// Says on which volume a pack's file is.
pub(crate) fn place(
    rows: &dyn Rows,
    channel: &ChannelRow,
    pack: &ObjectRef,
    volume: VolumeId,
) -> Result<()> {
    let Some(row) = rows.pack(channel.number, pack)? else {
        return Ok(());
    };
    rows.put_pack(channel.number, &PackRow { volume, ..row })
}

/// Takes a node ahead of the move that needs it; returns whether anything changed.
pub(crate) fn put_node(
    rows: &dyn Rows,
    mut channel: ChannelRow,
    bytes: &[u8],
    now: Timestamp,
) -> Result<core::result::Result<bool, UploadRefusal>> {
    let view = ChannelView::new(rows, channel.number);
    let taken = custody_put_node(channel.state.totals, &channel.terms, bytes, &view, now);
    let (row, totals) = match (taken, view.into_error()) {
        (_, Some(error)) => return Err(error),
        (Err(refusal), None) => return Ok(Err(refusal)),
        (Ok(taken), None) => taken,
    };
    match rows.node(channel.number, &row.reference)? {
        Some((_, hold)) if hold == row.hold => return Ok(Ok(false)),
        Some(_) => rows.put_node(channel.number, &row)?,
        None => rows.add_node(channel.number, &row, bytes)?,
    }
    channel.state.totals = totals;
    channel.seen = now;
    rows.put_channel(&channel)?;
    Ok(Ok(true))
}

/// A head where its client wants it.
pub(crate) struct Moved {
    /// The head's row, from which the receipt is made.
    pub(crate) row: HeadRow,
    /// What the log gets; nothing where the head was there already.
    pub(crate) change: Option<Change>,
}

/// Moves the head.
pub(crate) fn move_head(
    rows: &dyn Rows,
    channel: &ChannelRow,
    request: HeadMove,
    now: Timestamp,
) -> Result<core::result::Result<Moved, Refusal>> {
    let number = channel.number;
    let view = ChannelView::new(rows, number);
    let verdict = admit(&channel.state, &channel.terms, &request, &view, now);
    let admission = match (verdict, view.into_error()) {
        (_, Some(error)) => return Err(error),
        (Err(refusal), None) => return Ok(Err(refusal)),
        (Ok(Verdict::AlreadyHere(row)), None) => {
            return Ok(Ok(Moved { row, change: None }));
        }
        (Ok(Verdict::Admitted(admission)), None) => *admission,
    };
    let standing = admission.state.standing.as_ref().ok_or(GONE)?;
    let row = standing.row.clone();
    if let Some(replaced) = &admission.replaced {
        rows.put_head(number, replaced)?;
        add_root(rows, channel, replaced.sequence, replaced.root)?;
    }
    for held in admission.packs {
        let volume = rows.pack(number, held.reference())?.ok_or(GONE)?.volume;
        rows.put_pack(number, &PackRow { held, volume })?;
    }
    let mut new = admission.new_nodes.iter().peekable();
    for node in &admission.nodes {
        // New nodes come in the order of the rows.
        match new.next_if(|(reference, _)| *reference == node.reference) {
            Some((_, bytes)) => rows.add_node(number, node, bytes)?,
            None => rows.put_node(number, node)?,
        }
    }
    let mut request = request;
    request.nodes = admission
        .new_nodes
        .into_iter()
        .map(|(_, bytes)| bytes)
        .collect();
    rows.add_head(
        number,
        &StoredHead {
            row: row.clone(),
            signed: request.head.clone(),
            commit: Some(request.commit.clone()),
        },
    )?;
    let mut ancestry = Vec::new();
    admission.state.ancestry.encode(&mut ancestry);
    rows.put_channel(&ChannelRow {
        state: admission.state,
        seen: now,
        ..channel.clone()
    })?;
    let request = request.encode();
    let change = Some(Change::HeadMoved { ancestry, request });
    Ok(Ok(Moved { row, change }))
}

/// Keeps the root of a head that is no longer the newest.
pub(crate) fn add_root(
    rows: &dyn Rows,
    channel: &ChannelRow,
    sequence: u64,
    root: RootHash,
) -> Result<()> {
    let count = sequence.checked_sub(1).ok_or(GONE)?;
    let failed = core::cell::RefCell::new(None);
    let node = |height, place| {
        let found = rows.ancestry_node(channel.number, height, place);
        found.unwrap_or_else(|error| {
            failed.replace(Some(error));
            None
        })
    };
    let nodes = ancestry::nodes_of_next(count, root, node);
    if let Some(error) = failed.into_inner() {
        return Err(error);
    }
    let nodes = nodes.ok_or(LedgerError::Damaged {
        what: "a node of the ancestry is missing",
    })?;
    rows.add_root(channel.number, sequence, root, &nodes)
}

/// What a sweep changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sweeping {
    /// Packs with groups to punch out of their files.
    pub(crate) packs: u64,
    pub(crate) nodes: u64,
    pub(crate) heads: u64,
    pub(crate) commits: u64,
    /// Uploads that expired: what came in of them may go.
    pub(crate) uploads: Vec<(ObjectRef, VolumeId)>,
    /// By how much what is held and reserved fell, in bytes.
    pub(crate) bytes: u64,
}

impl Sweeping {
    /// Returns whether nothing changed.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Frees the rows of what may be freed of a channel, thins out commits, and notes which files have to be punched.
pub(crate) fn sweep(rows: &dyn Rows, mut channel: ChannelRow, now: Timestamp) -> Result<Sweeping> {
    if channel.is_over(now) {
        return free_all(rows, channel);
    }
    let number = channel.number;
    let mut sweeping = Sweeping::default();
    let mut totals = channel.state.totals;
    for row in rows.packs_due(number, now)? {
        let Some(swept) = sweep_pack(totals, &row.held, now) else {
            continue;
        };
        totals = swept.totals;
        let reference = *row.held.reference();
        rows.put_punch(number, &reference, row.volume)?;
        match swept.pack {
            Some(held) => rows.put_pack(number, &PackRow { held, ..row })?,
            None => rows.remove_pack(number, &reference)?,
        }
        sweeping.packs += 1;
    }
    for row in rows.nodes_due(number, now)? {
        if let Some(after) = sweep_node(totals, &row, now) {
            totals = after;
            rows.remove_node(number, &row.reference)?;
            sweeping.nodes += 1;
        }
    }
    let mut heads = rows.heads(number)?;
    let mut kept = Vec::with_capacity(heads.len());
    for row in heads.drain(..) {
        if let Some(after) = sweep_head(totals, &row, now) {
            totals = after;
            rows.remove_head(number, row.sequence)?;
            sweeping.heads += 1;
        } else {
            kept.push(row);
        }
    }
    let (after, dropped) = thin_commits(totals, &kept, now);
    totals = after;
    for sequence in dropped {
        rows.remove_commit(number, sequence)?;
        sweeping.commits += 1;
    }
    for row in rows.uploads(number)? {
        if let Some(after) = expire_upload(totals, &row.upload, now) {
            totals = after;
            rows.remove_upload(number, &row.upload.pack)?;
            sweeping.uploads.push((row.upload.pack, row.volume));
        }
    }
    let before = channel.state.totals;
    sweeping.bytes = (before.held + before.reserved) - (totals.held + totals.reserved);
    if !sweeping.is_empty() {
        channel.state.totals = totals;
        rows.put_channel(&channel)?;
    }
    Ok(sweeping)
}

/// Frees all that is held for a client who may not even read any more. Its row stays, and says so.
fn free_all(rows: &dyn Rows, mut channel: ChannelRow) -> Result<Sweeping> {
    let number = channel.number;
    let before = channel.state.totals;
    let mut sweeping = Sweeping {
        nodes: rows.nodes(number)?.len() as u64,
        heads: rows.heads(number)?.len() as u64,
        bytes: before.held + before.reserved,
        ..Sweeping::default()
    };
    for row in rows.packs(number)? {
        rows.put_punch(number, row.held.reference(), row.volume)?;
        sweeping.packs += 1;
    }
    let uploads = rows.uploads(number)?.into_iter();
    sweeping.uploads = uploads.map(|row| (row.upload.pack, row.volume)).collect();
    if sweeping.is_empty() {
        return Ok(sweeping);
    }
    rows.clear(number)?;
    channel.state = ChannelState::new(channel.state.channel, channel.client());
    rows.put_channel(&channel)?;
    Ok(sweeping)
}

/// Replays an entry of the log of `volume`.
///
/// # Errors
///
/// [`LedgerError::Damaged`] where the rows before it do not lead to it: something before it was lost.
pub(crate) fn replay(
    rows: &dyn Rows,
    channel: ChannelId,
    change: Change,
    at: Timestamp,
    log: VolumeId,
) -> Result<()> {
    const REFUSED: LedgerError = LedgerError::Damaged {
        what: "an entry of the log does not follow from those before it",
    };
    if let Change::Registered {
        client,
        label,
        terms,
    } = &change
    {
        return register(rows, channel, *client, label, *terms, log, at);
    }
    if let Change::Record {
        kind,
        version,
        body,
    } = change
    {
        let name = channel.0;
        let record = Record {
            kind,
            name,
            version,
            log,
            body,
        };
        return put_record(rows, &record);
    }
    let row = rows.channel(&channel)?.ok_or(REFUSED)?;
    match change {
        Change::Revoked { reads_until } => revoke(rows, row, reads_until, at)?,
        Change::Met => meet(rows, row, at)?,
        // Pieces are put together by whoever replays; the others are done above.
        Change::Registered { .. } | Change::Record { .. } | Change::Snapshot { .. } => {}
        Change::UploadBegun {
            pack,
            class,
            volume,
        } => {
            if !matches!(
                begin(rows, row, pack, class, volume, at)?,
                Ok(Beginning::Started)
            ) {
                return Err(REFUSED);
            }
        }
        Change::PackRenewed { pack, class } => {
            let held = begin(rows, row, pack, class, log, at)?;
            if !matches!(held, Ok(Beginning::Held { .. })) {
                return Err(REFUSED);
            }
        }
        Change::UploadRenewed { pack } => renew(rows, &row, &pack, at)?,
        Change::PackHeld {
            pack,
            class,
            volume,
        } => {
            let number = row.number;
            if let Some(other) = finish(rows, row, pack, class, volume, at)? {
                rows.put_punch(number, &pack, other)?;
            }
        }
        Change::PackMoved { pack, volume } => {
            let old = rows.pack(row.number, &pack)?;
            place(rows, &row, &pack, volume)?;
            if let Some(old) = old.filter(|old| old.volume != volume) {
                rows.put_punch(row.number, &pack, old.volume)?;
            }
        }
        Change::NodePut { bytes } => {
            put_node(rows, row, &bytes, at)?.map_err(|_| REFUSED)?;
        }
        Change::HeadMoved { request, .. } => {
            let request = HeadMove::parse(&request).map_err(|_| REFUSED)?;
            move_head(rows, &row, request, at)?.map_err(|_| REFUSED)?;
        }
        Change::Swept => {
            sweep(rows, row, at)?;
        }
    }
    Ok(())
}

/// Adds up a channel's rows: what its running totals must be.
pub(crate) fn recomputed(rows: &dyn Rows, number: super::ChannelNumber) -> Result<Totals> {
    let (packs, nodes) = (rows.packs(number)?, rows.nodes(number)?);
    let (heads, uploads) = (rows.heads(number)?, rows.uploads(number)?);
    Ok(Totals::recompute(
        packs.iter().map(|row| &row.held),
        &nodes,
        &heads,
        uploads.iter().map(|row| &row.upload),
    ))
}

/// Returns the newest head.
pub(crate) fn newest(rows: &dyn Rows, channel: &ChannelRow) -> Result<Option<StoredHead>> {
    match channel.state.sequence() {
        0 => Ok(None),
        sequence => rows.head(channel.number, HeadKey::Sequence(sequence)),
    }
}

const GONE: LedgerError = LedgerError::Damaged {
    what: "a row that was there a moment ago is gone",
};
