//! Uploads: room is taken before the first byte moves, and what came in whole waits to be named.
//!
//! An [`Upload`] under way is not *held*: no head may name it. It is charged like what waits, until it is finished or expires.

use thiserror::Error;

use crate::{
    clock::Timestamp,
    error::{Classify, ErrorKind, Retry},
    inventory::{InventoryError, Node},
    live_map::LiveMap,
    reference::ObjectRef,
    units::{BLOCK_BYTES, PACK_BYTES_MAX, PACK_GROUPS_MAX, groups},
};

use super::{
    CapExceeded, Grace, HeldPack, Hold, NodeRow, PackClass, Terms, Totals, Unavailable, View,
    held_charge, log_charge,
};

/// A pack that is coming in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// The pack.
    pub pack: ObjectRef,
    /// What it is for.
    pub class: PackClass,
    /// How many bytes of the cap it takes until it is finished.
    pub reserved: u64,
    /// When the room is given back if nothing more comes in.
    pub expires: Timestamp,
}

impl Upload {
    /// Returns the upload after more of it came in at `now`: it expires later.
    #[must_use]
    pub fn renewed(self, now: Timestamp) -> Self {
        Self {
            expires: self.expires.max(Grace::UPLOAD_LEAST.ends(now)),
            ..self
        }
    }
}

/// What became of the wish to upload a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Room is taken; bytes may come.
    Started {
        /// The upload's row.
        upload: Upload,
        /// The channel's totals with it.
        totals: Totals,
    },
    /// All of it is held already; this row has new dates.
    Held(HeldPack),
}

/// Why a provider does not take an object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UploadRefusal {
    /// No pack is so long: a multiple of 4 KiB, one block at least.
    #[error("a pack of {length} bytes is not allowed")]
    Length {
        /// The length.
        length: u64,
    },
    /// The pack is held as one of the other class.
    #[error("the pack is held as one of the other class")]
    WrongClass,
    /// A node that is none.
    #[error("the node cannot be read")]
    Node(#[source] InventoryError),
    /// It does not fit.
    #[error(transparent)]
    CapExceeded(#[from] CapExceeded),
    /// The provider cannot say.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Classify for UploadRefusal {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Length { .. } | Self::WrongClass | Self::Node(_) => ErrorKind::BadInput,
            Self::CapExceeded(_) | Self::Unavailable(_) => ErrorKind::ProviderRefused,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Unavailable(_) => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }
}

/// Takes room for a pack before its bytes move. Whoever resumes an upload has its row already and does not ask again.
///
/// The room taken is for the whole pack even where part of it is held: what is held may be freed before the upload ends. Uploads
/// leave [`Terms::headroom`] free, so that there is room for the head that names them or lets go of others: see
/// `docs/decisions/0002-room-for-the-next-head.md`.
pub fn begin_upload(
    totals: Totals,
    terms: &Terms,
    pack: ObjectRef,
    class: PackClass,
    view: &impl View,
    now: Timestamp,
) -> Result<Begun, UploadRefusal> {
    let length = pack.length;
    if length == 0 || length > PACK_BYTES_MAX || !length.is_multiple_of(BLOCK_BYTES) {
        return Err(UploadRefusal::Length { length });
    }
    if let Some(held) = view.pack(&pack)? {
        if held.class() != class {
            return Err(UploadRefusal::WrongClass);
        }
        if held.held().is_full() {
            return Ok(Begun::Held(held.with_upload(free_after(terms, now))));
        }
    }
    let reserved = whole_charge(&pack);
    let after = Totals {
        reserved: totals.reserved.saturating_add(reserved),
        ..totals
    };
    check_cap(totals, after, terms, terms.headroom(), view)?;
    Ok(Begun::Started {
        upload: Upload {
            pack,
            class,
            reserved,
            expires: Grace::UPLOAD_LEAST.ends(now),
        },
        totals: after,
    })
}

/// Turns an upload whose bytes are all there, hash to the pack's root and are durable, into a pack that waits to be named. `held` is what
/// was held of it until now.
pub fn finish_upload(
    totals: Totals,
    terms: &Terms,
    upload: &Upload,
    held: Option<&HeldPack>,
    now: Timestamp,
) -> (HeldPack, Totals) {
    let date = free_after(terms, now);
    let pack = held.map_or_else(
        || HeldPack::uploaded(upload.pack, upload.class, date),
        |held| held.with_upload(date),
    );
    let before = held.map_or(0, |held| held_charge(held.reference(), &held.held()));
    let totals = Totals {
        held: (totals.held - before).saturating_add(whole_charge(&upload.pack)),
        reserved: totals.reserved.saturating_sub(upload.reserved),
        ..totals
    };
    (pack, totals)
}

/// Returns the totals without an upload that has expired at `now`: what came in of it may go.
pub fn expire_upload(totals: Totals, upload: &Upload, now: Timestamp) -> Option<Totals> {
    (upload.expires <= now).then(|| Totals {
        reserved: totals.reserved.saturating_sub(upload.reserved),
        ..totals
    })
}

/// Takes a node ahead of the head that names it, for moves whose nodes do not fit one request. Returns its row and the totals.
pub fn put_node(
    totals: Totals,
    terms: &Terms,
    bytes: &[u8],
    view: &impl View,
    now: Timestamp,
) -> Result<(NodeRow, Totals), UploadRefusal> {
    Node::parse(bytes).map_err(UploadRefusal::Node)?;
    let reference = ObjectRef::of(bytes);
    let date = free_after(terms, now);
    if let Some((_, hold)) = view.node(&reference)? {
        let hold = match hold {
            Hold::Live => Hold::Live,
            Hold::FreeAfter(old) => Hold::FreeAfter(old.max(date)),
        };
        return Ok((NodeRow { reference, hold }, totals));
    }
    let after = Totals {
        held: totals.held.saturating_add(log_charge(reference.length)),
        ..totals
    };
    check_cap(totals, after, terms, 0, view)?;
    let hold = Hold::FreeAfter(date);
    Ok((NodeRow { reference, hold }, after))
}

/// Returns until when that which no head named yet is held.
fn free_after(terms: &Terms, now: Timestamp) -> Timestamp {
    terms.grace(now).max(Grace::UPLOAD_LEAST).ends(now)
}

fn whole_charge(pack: &ObjectRef) -> u64 {
    let groups = u32::try_from(groups(pack.length)).map_or(PACK_GROUPS_MAX, |groups| groups);
    held_charge(pack, &LiveMap::full(groups))
}

/// Refuses totals that charge more than the cap less `headroom`, and more than before.
pub(super) fn check_cap(
    before: Totals,
    after: Totals,
    terms: &Terms,
    headroom: u64,
    view: &impl View,
) -> Result<(), CapError> {
    let allowed = terms.cap.saturating_sub(headroom);
    let charged = after.charged(terms);
    if charged <= allowed || charged <= before.charged(terms) {
        return Ok(());
    }
    Err(CapError::Exceeded(CapExceeded {
        over_by: charged - allowed,
        frees: after.relief(terms, view.frees()?),
    }))
}

/// Why [`check_cap`] says no.
pub(super) enum CapError {
    Exceeded(CapExceeded),
    Unavailable(Unavailable),
}

impl From<Unavailable> for CapError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error)
    }
}

impl From<CapError> for UploadRefusal {
    fn from(error: CapError) -> Self {
        match error {
            CapError::Exceeded(exceeded) => Self::CapExceeded(exceeded),
            CapError::Unavailable(error) => Self::Unavailable(error),
        }
    }
}
