//! The candidate: a channel's next head, with the commit and the inventory nodes that go with it, ready to be sent.
//!
//! Its root is persisted before the request leaves, so that a lost reply can be told from a lost race.

use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::Extensions,
    error::{Classify, ErrorKind, Retry},
    head::{Head, HeadError, SignedHead},
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    inventory::{Change, Entry, Inventory, InventoryError},
    live_map::LiveMap,
    reference::ObjectRef,
    units::groups,
};
use rand_core::CryptoRng;
use thiserror::Error;

use crate::{
    commit::{Commit, CommitTooLong, StorePart},
    compose::Base,
    keys::ChannelKeys,
    name::PackNumber,
};

/// What a client knows of a channel's newest state.
#[derive(Debug, Clone)]
pub struct ChannelView {
    /// The channel.
    pub channel: ChannelId,
    /// Its head; none before the first.
    pub head: Option<SignedHead>,
    /// The roots before that head.
    pub ancestry: Ancestry,
    /// Its data packs.
    pub data: Inventory,
    /// Its vital packs.
    pub vital: Inventory,
    /// Which object holds each journal segment on this channel.
    pub segments: BTreeMap<PackNumber, ObjectRef>,
}

/// What a channel's next head is to say.
#[derive(Debug, Clone)]
pub struct Advance<'a> {
    /// The commit's part that is the same on all channels.
    pub store: StorePart,
    /// The store's newest state.
    pub next: &'a Base,
    /// The changes of the data packs.
    pub data: Vec<Change>,
    /// This channel's packs that hold dictionaries: with the segments they make up the vital inventory.
    pub dictionaries: &'a [ObjectRef],
    /// Where segments are that were not listed before.
    pub new_segments: &'a BTreeMap<PackNumber, ObjectRef>,
}

/// A channel's next state and what it takes to get there.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The channel as it is once the head has moved.
    pub after: ChannelView,
    /// The new root: to be persisted before anything is sent.
    pub root: RootHash,
    /// The commit's bytes.
    pub commit: Vec<u8>,
    /// Inventory nodes that the provider does not have.
    pub nodes: Vec<(ObjectRef, Vec<u8>)>,
}

/// Why a head cannot be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// The commit is too long.
    #[error(transparent)]
    Commit(#[from] CommitTooLong),
    /// A segment is not on this channel yet: upload it first.
    #[error("journal segment {} is not on this channel yet", .0.n)]
    NoSegment(PackNumber),
    /// The inventories do not take the change.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// The key is not this channel's.
    #[error(transparent)]
    Head(#[from] HeadError),
}

impl Classify for CandidateError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Bug
    }

    fn retry(&self) -> Retry {
        match self {
            Self::NoSegment(_) => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }
}

impl ChannelView {
    /// Returns a channel that has no head yet.
    pub fn new(channel: ChannelId) -> Self {
        Self {
            channel,
            head: None,
            ancestry: Ancestry::empty(),
            data: Inventory::new(),
            vital: Inventory::new(),
            segments: BTreeMap::new(),
        }
    }

    /// Returns the root of the head, [`RootHash::NONE`] before the first.
    pub fn root(&self) -> RootHash {
        self.head.as_ref().map_or(RootHash::NONE, SignedHead::root)
    }

    /// Returns the head's sequence number, 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.head().sequence)
    }

    /// Returns the living groups of a data pack.
    pub fn live(&self, pack: &ObjectRef) -> Option<&LiveMap> {
        let entry = self.data.entry(&pack.root)?;
        (entry.pack() == pack).then(|| entry.live())
    }

    /// Makes the channel's next head.
    ///
    /// # Errors
    ///
    /// [`CandidateError::NoSegment`] where something must be uploaded first; the others are faults of the caller.
    pub fn candidate(
        &self,
        advance: Advance<'_>,
        keys: &ChannelKeys,
        now: Timestamp,
        rng: &mut impl CryptoRng,
    ) -> Result<Candidate, CandidateError> {
        let Advance {
            store,
            next,
            data,
            dictionaries,
            new_segments,
        } = advance;
        let mut after = self.clone();
        after.data.apply(data)?;
        if after.data.is_sparse() {
            after.data.compact();
        }
        let mut journal = Vec::with_capacity(next.segments.len());
        for segment in &next.segments {
            let number = &segment.number;
            let reference = self
                .segments
                .get(number)
                .or_else(|| new_segments.get(number));
            let reference = *reference.ok_or(CandidateError::NoSegment(*number))?;
            journal.push((*segment, reference));
        }
        after.segments = journal
            .iter()
            .map(|(segment, reference)| (segment.number, *reference))
            .collect();
        let vital = after.segments.values().chain(dictionaries);
        after.vital.apply(whole_packs(&after.vital, vital)?)?;
        if after.vital.is_sparse() {
            after.vital.compact();
        }
        let commit = Commit {
            store,
            journal,
            tail: next.tail.clone(),
            extensions: Extensions::default(),
        };
        let commit = commit.seal(&keys.commit, rng)?;
        if let Some(head) = &self.head {
            after.ancestry.append(head.root());
        }
        let head = Head {
            channel: self.channel,
            sequence: self.sequence() + 1,
            previous: self.root(),
            ancestry: after.ancestry.hash(),
            data: after.data.reference(),
            vital: after.vital.reference(),
            commit: ObjectRef::of(&commit),
            time: now,
            signer: keys.client.public(),
            extensions: Extensions::default(),
        };
        let head = head.sign(&keys.client)?;
        let mut nodes: BTreeMap<ObjectRef, Vec<u8>> = BTreeMap::new();
        for (reference, bytes) in after.data.changed_nodes(&self.data) {
            nodes.insert(reference, bytes.to_vec());
        }
        for (reference, bytes) in after.vital.changed_nodes(&self.vital) {
            nodes.insert(reference, bytes.to_vec());
        }
        let root = head.root();
        after.head = Some(head);
        Ok(Candidate {
            after,
            root,
            commit,
            nodes: nodes.into_iter().collect(),
        })
    }
}

impl Candidate {
    /// Returns the request, and the nodes that do not fit it and are put ahead of it one by one.
    pub fn request(&self) -> (HeadMove, Vec<&[u8]>) {
        let mut left = HeadMove::NODES_BYTES_MAX;
        let mut within = Vec::new();
        let mut ahead = Vec::new();
        for (_, bytes) in &self.nodes {
            if bytes.len() <= left && within.len() < HeadMove::NODES_MAX {
                left -= bytes.len();
                within.push(bytes.clone());
            } else {
                ahead.push(&bytes[..]);
            }
        }
        let head = self.after.head.as_ref().map(SignedHead::encode);
        let request = HeadMove {
            head: head.unwrap_or_default(),
            commit: self.commit.clone(),
            nodes: within,
            extensions: Extensions::default(),
        };
        (request, ahead)
    }
}

/// Returns the changes by which `inventory` names the packs of `target` with at least these groups; what it names already stays.
///
/// # Errors
///
/// A live map of too many runs, or none that fits its pack.
pub fn name_also(
    inventory: &Inventory,
    target: BTreeMap<ObjectRef, LiveMap>,
) -> Result<Vec<Change>, InventoryError> {
    let mut changes = Vec::new();
    for (pack, live) in target {
        let known = inventory.entry(&pack.root).map(Entry::live);
        if known.is_some_and(|known| known.contains_all(&live)) {
            continue;
        }
        let live = known.map_or_else(|| live.clone(), |known| known.union(&live));
        changes.push(Change::Set(Entry::new(pack, live)?));
    }
    Ok(changes)
}

/// Returns the changes by which `inventory` names exactly the packs and groups of `target`, and lets all else go.
///
/// # Errors
///
/// As [`name_also`].
pub fn name_exactly(
    inventory: &Inventory,
    target: BTreeMap<ObjectRef, LiveMap>,
) -> Result<Vec<Change>, InventoryError> {
    let mut changes: Vec<Change> = inventory
        .entries()
        .filter(|entry| !target.contains_key(entry.pack()))
        .map(|entry| Change::Remove(entry.pack().root))
        .collect();
    for (pack, live) in target {
        if inventory.entry(&pack.root).map(Entry::live) != Some(&live) {
            changes.push(Change::Set(Entry::new(pack, live)?));
        }
    }
    Ok(changes)
}

/// Returns the changes that make `inventory` name exactly `packs`, each wholly living.
fn whole_packs<'a>(
    inventory: &Inventory,
    packs: impl IntoIterator<Item = &'a ObjectRef>,
) -> Result<Vec<Change>, InventoryError> {
    let target: BTreeSet<ObjectRef> = packs.into_iter().copied().collect();
    let mut changes: Vec<Change> = inventory
        .entries()
        .filter(|entry| !target.contains(entry.pack()))
        .map(|entry| Change::Remove(entry.pack().root))
        .collect();
    for pack in target {
        if inventory.entry(&pack.root).is_none() {
            let groups = u32::try_from(groups(pack.length)).unwrap_or(u32::MAX);
            changes.push(Change::Set(Entry::new(pack, LiveMap::full(groups))?));
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests;
