//! Possession of everything, before a local copy goes: by digest where the sealed bytes were at hand, else read back as verified slices.
//!
//! A digest is `BLAKE3-keyed(key, bytes)` under a key that the provider learns only with the question. A [`Token`] is such a key with its answer,
//! worked out when a pack was sealed and its bytes were in memory; asked once, it is spent. So possession of a new pack costs 32 bytes of
//! traffic and no second sealing. What has no token, and what a digest did not settle, is read back: a digest is never evidence of damage, a failed
//! slice is.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    digest::DigestRequest,
    live_map::LiveMap,
    reference::ObjectRef,
    units::{PACK_GROUPS_MAX, groups},
    verify::{Selection, inspect_slice},
};
use maimo_net::service::{READ_BYTES_MAX, Read, ServiceError, Session};
use rand_core::CryptoRng;

use crate::progress::{Cancelled, Control, Event};

/// A question about a whole pack whose answer is known: asked once.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// The pack.
    pub pack: ObjectRef,
    /// The key to ask with: secret until then.
    pub key: [u8; 32],
    /// The answer.
    pub digest: [u8; 32],
}

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Token")
            .field("pack", &self.pack)
            .finish_non_exhaustive()
    }
}

impl Token {
    /// Works one out over a pack's sealed bytes, under a key drawn from `rng`.
    pub fn of(pack: ObjectRef, bytes: &[u8], rng: &mut impl CryptoRng) -> Self {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let digest = *blake3::keyed_hash(&key, bytes).as_bytes();
        Self { pack, key, digest }
    }
}

/// What a channel could not prove, by pack: the groups asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unproven {
    /// Packs of which some group asked for is not there or not right.
    pub packs: BTreeMap<ObjectRef, LiveMap>,
}

/// Why possession could not be asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The provider did not answer.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// It was asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Has a provider prove that it holds all groups of `wanted`; spends the tokens it uses.
///
/// # Errors
///
/// [`ProveError`]; what is answered and not right is in the result.
pub fn prove(
    session: &dyn Session,
    wanted: &BTreeMap<ObjectRef, LiveMap>,
    tokens: &mut BTreeMap<ObjectRef, Token>,
    control: &Control,
) -> Result<Unproven, ProveError> {
    let total = wanted
        .iter()
        .map(|(pack, map)| map.live_bytes(pack.length))
        .sum();
    control.tell(Event::Total {
        files: 0,
        bytes: total,
    });
    let mut done = 0;
    let mut tell = |bytes: u64| {
        done += bytes;
        control.tell(Event::Done {
            files: 0,
            bytes: done,
        });
    };
    let mut by_slices: Vec<(ObjectRef, LiveMap)> = Vec::new();
    for (pack, map) in wanted {
        control.check()?;
        let token = tokens.remove(pack);
        let is_proven = match token {
            Some(token) => is_answered(session, &token)?,
            None => false,
        };
        if is_proven {
            tell(map.live_bytes(pack.length));
        } else {
            by_slices.push((*pack, map.clone()));
        }
    }
    let mut unproven = Unproven::default();
    let mut batch: Vec<Read> = Vec::new();
    let mut bytes = 0;
    for (pack, groups) in by_slices {
        let more = groups.live_bytes(pack.length);
        if !batch.is_empty() && (bytes + more > READ_BYTES_MAX / 4 || batch.len() >= 256) {
            control.check()?;
            read_back(session, core::mem::take(&mut batch), &mut unproven)?;
            tell(bytes);
            bytes = 0;
        }
        bytes += more;
        batch.push(Read { pack, groups });
    }
    if !batch.is_empty() {
        read_back(session, batch, &mut unproven)?;
        tell(bytes);
    }
    Ok(unproven)
}

/// Has a provider prove that it holds objects whose sealed bytes are here: one digest over all of them under a fresh key.
///
/// Returns whether it does; where not, the caller reads back.
///
/// # Errors
///
/// That the provider did not answer.
pub fn prove_held_bytes(
    session: &dyn Session,
    held: &[(ObjectRef, Vec<u8>)],
    rng: &mut impl CryptoRng,
) -> Result<bool, ServiceError> {
    for part in held.chunks(DigestRequest::PACKS_MAX) {
        let mut key = [0; 32];
        rng.fill_bytes(&mut key);
        let ranges = part.iter().map(|(pack, _)| (*pack, full(pack))).collect();
        let Ok(request) = DigestRequest::new(key, ranges) else {
            return Ok(false);
        };
        let by_pack: BTreeMap<&ObjectRef, &Vec<u8>> =
            part.iter().map(|(pack, bytes)| (pack, bytes)).collect();
        let mut hasher = request.hasher();
        for (pack, _) in request.ranges() {
            hasher.update(by_pack.get(pack).map_or(&[][..], |bytes| bytes));
        }
        let expected = hasher.finish();
        if block_on(session.digest(Bytes::from(request.encode())))? != expected {
            return Ok(false);
        }
    }
    Ok(true)
}

fn full(pack: &ObjectRef) -> LiveMap {
    // A pack's length is at most that of so many groups.
    let groups = groups(pack.length).min(u64::from(PACK_GROUPS_MAX));
    LiveMap::full(u32::try_from(groups).unwrap_or(PACK_GROUPS_MAX))
}

/// Asks a token. What is not held whole any more, or answered wrong, settles nothing.
fn is_answered(session: &dyn Session, token: &Token) -> Result<bool, ServiceError> {
    let ranges = vec![(token.pack, full(&token.pack))];
    let Ok(request) = DigestRequest::new(token.key, ranges) else {
        return Ok(false);
    };
    match block_on(session.digest(Bytes::from(request.encode()))) {
        Ok(digest) => Ok(digest == token.digest),
        Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads groups back, all in one request; where the provider refuses that, pack by pack, to tell which is lost.
fn read_back(
    session: &dyn Session,
    reads: Vec<Read>,
    unproven: &mut Unproven,
) -> Result<(), ServiceError> {
    match block_on(session.read(reads.clone())) {
        Ok(slices) => {
            for (n, read) in reads.iter().enumerate() {
                let slice = slices.get(n).map_or(&[][..], |slice| &slice[..]);
                if !is_right(slice, read) {
                    unproven.packs.insert(read.pack, read.groups.clone());
                }
            }
            Ok(())
        }
        Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) if reads.len() > 1 => {
            for read in reads {
                read_back(session, vec![read], unproven)?;
            }
            Ok(())
        }
        Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) => {
            let lost = reads.into_iter().map(|read| (read.pack, read.groups));
            unproven.packs.extend(lost);
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn is_right(slice: &[u8], read: &Read) -> bool {
    let selection = Selection::of_map(read.pack.length, &read.groups);
    selection.is_ok_and(|selection| {
        inspect_slice(slice, &read.pack, &selection).is_ok_and(|failed| failed.is_empty())
    })
}
