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

use crate::{
    outstanding::{Outstanding, cut},
    progress::{Cancelled, Control, Event},
};

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
    let appetite = session.appetite();
    let mut by_slices: Vec<(ObjectRef, LiveMap)> = Vec::new();
    let mut asked = wanted.iter();
    let mut calls = Outstanding::new(appetite.calls);
    loop {
        while !calls.is_full()
            && let Some((pack, map)) = asked.next()
        {
            control.check()?;
            match tokens.remove(pack).as_ref().and_then(question) {
                Some((request, expected)) => {
                    calls.start((*pack, map, expected), session.digest(request));
                }
                None => by_slices.push((*pack, map.clone())),
            }
        }
        let Some(((pack, map, expected), answer)) = calls.next() else {
            break;
        };
        match answer {
            Ok(digest) if digest == expected => tell(map.live_bytes(pack.length)),
            // What is not held whole any more, or answered wrong, settles nothing.
            Ok(_) | Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) => {
                by_slices.push((pack, map.clone()));
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut unproven = Unproven::default();
    let bytes_max = (READ_BYTES_MAX / 4).min(appetite.bytes_per_call);
    let parts = by_slices.into_iter().flat_map(|(pack, groups)| {
        let parts = cut(&groups, bytes_max).into_iter();
        parts.map(move |groups| Read { pack, groups })
    });
    let mut parts = parts.peekable();
    let mut calls = Outstanding::new(appetite.calls);
    loop {
        while !calls.is_full() && parts.peek().is_some() {
            control.check()?;
            let mut batch: Vec<Read> = Vec::new();
            let mut bytes = 0;
            while let Some(read) = parts.next_if(|read| {
                let more = read.groups.live_bytes(read.pack.length);
                batch.is_empty() || (bytes + more <= bytes_max && batch.len() < 256)
            }) {
                bytes += read.groups.live_bytes(read.pack.length);
                batch.push(read);
            }
            let reply = session.read(batch.clone());
            calls.start((batch, bytes), reply);
        }
        let Some(((batch, bytes), answer)) = calls.next() else {
            return Ok(unproven);
        };
        settle(session, batch, answer, &mut unproven)?;
        tell(bytes);
    }
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

/// Makes a token's question, with the answer that proves.
fn question(token: &Token) -> Option<(Bytes, [u8; 32])> {
    let ranges = vec![(token.pack, full(&token.pack))];
    let request = DigestRequest::new(token.key, ranges).ok()?;
    Some((Bytes::from(request.encode()), token.digest))
}

/// Takes what was read back; where the provider refused it as a whole, asks pack by pack, to tell which is lost.
fn settle(
    session: &dyn Session,
    reads: Vec<Read>,
    answer: Result<Vec<Bytes>, ServiceError>,
    unproven: &mut Unproven,
) -> Result<(), ServiceError> {
    let mut lack = |read: Read| {
        let lacking = match unproven.packs.get(&read.pack) {
            Some(others) => others.union(&read.groups),
            None => read.groups,
        };
        unproven.packs.insert(read.pack, lacking);
    };
    match answer {
        Ok(slices) => {
            for (n, read) in reads.into_iter().enumerate() {
                let slice = slices.get(n).map_or(&[][..], |slice| &slice[..]);
                if !is_right(slice, &read) {
                    lack(read);
                }
            }
            Ok(())
        }
        Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) if reads.len() > 1 => {
            for read in reads {
                let answer = block_on(session.read(vec![read.clone()]));
                settle(session, vec![read], answer, unproven)?;
            }
            Ok(())
        }
        Err(ServiceError::NotHeld { .. } | ServiceError::Damaged { .. }) => {
            reads.into_iter().for_each(lack);
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
