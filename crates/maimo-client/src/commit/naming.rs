//! Naming: which packs and groups a change needs, and the client's rule over what the head to be signed would call living.

use std::collections::{BTreeMap, btree_map::Entry};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_vault::{
    candidate::Candidate,
    commit::TailPiece,
    compose::Base,
    demand::{Demand, Packs},
    journal::{
        batch::Stamp,
        record::Record,
        state::{Dictionary, State},
    },
    name::{ChunkId, ChunkRef, PackNumber},
    pack::PackLayout,
};

use crate::{catalog::Reader, error::ClientError};

/// What the new records say of packs, before what the catalog says.
pub(super) struct Named<'a> {
    pub(super) reader: &'a Reader,
    pub(super) records: &'a [(Stamp, Record)],
    /// Where new packs are on the channel.
    packs: BTreeMap<PackNumber, ObjectRef>,
    pub(super) channel: ChannelId,
}

impl<'a> Named<'a> {
    pub(super) fn new(reader: &'a Reader, records: &'a [(Stamp, Record)], of: ChannelId) -> Self {
        let packs = records.iter().filter_map(|(_, record)| match record {
            Record::Pack {
                number,
                channel,
                reference,
            } if *channel == of => Some((*number, *reference)),
            _ => None,
        });
        Self {
            packs: packs.collect(),
            reader,
            records,
            channel: of,
        }
    }

    /// Returns the records that this commit brings. Those that it only writes again were held against heads before it.
    fn new_records(&self) -> impl Iterator<Item = &'a (Stamp, Record)> {
        let newest = self.records.iter().map(|(stamp, _)| stamp.sequence).max();
        let records = self.records.iter();
        records.filter(move |(stamp, _)| Some(stamp.sequence) == newest)
    }

    /// Returns what the change needs: what its records refer to.
    pub(super) fn demand(&self) -> Result<Demand, ClientError> {
        let mut demand = Demand::default();
        for (_, record) in self.new_records() {
            if let Record::File { content, .. } = record {
                for extent in self.reader.resolve_all(content)? {
                    extent.chunks().for_each(|chunk| demand.add(chunk));
                }
            }
        }
        Ok(demand)
    }

    /// As [`Self::demand`], where the whole state is at hand: what a spilled tail has moved into packs that no record names is needed too.
    pub(super) fn demand_of(&self, state: &State, sealed: &[PackLayout]) -> Demand {
        let mut demand = Demand::default();
        for (_, record) in self.new_records() {
            if let Record::File { content, .. } = record {
                let chunks = state.resolve_all(content.extents());
                chunks.for_each(|chunk| demand.add(chunk));
            }
        }
        let all = Demand::of(state);
        for layout in sealed {
            let pack = layout.number();
            for index in all.of_pack(pack) {
                demand.add(ChunkRef { pack, index });
            }
        }
        demand
    }

    /// Looks up where a pack is and where its chunks stand.
    pub(super) fn look_up(
        &self,
        number: PackNumber,
        known: &mut KnownPacks,
    ) -> Result<(), ClientError> {
        if let Entry::Vacant(place) = known.layouts.entry(number)
            && let Some(layout) = self.reader.layout(number)?
        {
            place.insert(layout);
        }
        if !known.objects.contains_key(&number) {
            let object = match self.packs.get(&number) {
                Some(object) => Some(*object),
                None => self.reader.pack(number, self.channel)?,
            };
            known.objects.extend(object.map(|object| (number, object)));
        }
        Ok(())
    }

    /// Returns the dictionaries as they stand once these records are in: of each, what was said last.
    fn dictionaries_after(&self) -> Result<BTreeMap<ChunkId, Dictionary>, ClientError> {
        let versions = self.reader.dictionary_versions()?.into_iter();
        let mut after: BTreeMap<ChunkId, (u64, Dictionary)> = versions
            .map(|version| (version.id, (version.sequence, version.known)))
            .collect();
        for (stamp, record) in self.records {
            let Record::Dictionary {
                id,
                domain,
                chunk,
                retired,
            } = record
            else {
                continue;
            };
            // A spilled tail and a branch that is merged say again what may have been said otherwise since.
            if after.get(id).is_some_and(|(at, _)| *at > stamp.sequence) {
                continue;
            }
            let said = Dictionary {
                domain: *domain,
                chunk: *chunk,
                retired: *retired,
            };
            after.insert(*id, (stamp.sequence, said));
        }
        let after = after.into_iter();
        Ok(after.map(|(id, (_, known))| (id, known)).collect())
    }

    /// Returns the channel's packs that hold dictionaries which are not retired.
    pub(super) fn dictionaries(&self) -> Result<Vec<ObjectRef>, ClientError> {
        let mut known = KnownPacks::default();
        for dictionary in self.dictionaries_after()?.into_values() {
            if !dictionary.retired {
                self.look_up(dictionary.chunk.pack, &mut known)?;
            }
        }
        let mut packs: Vec<ObjectRef> = known.objects.into_values().collect();
        packs.sort_unstable();
        packs.dedup();
        Ok(packs)
    }

    /// Returns the dictionaries that the demanded chunks do not open without, and that are retired: the head would not name them.
    pub(super) fn retired_of(
        &self,
        demand: &Demand,
        known: &KnownPacks,
        tail: &[TailPiece],
    ) -> Result<Vec<(ChunkId, Dictionary)>, ClientError> {
        let mut retired = self.dictionaries_after()?;
        retired.retain(|_, dictionary| dictionary.retired);
        if retired.is_empty() {
            return Ok(Vec::new());
        }
        let needed = demand.dictionaries(|number| {
            if let Some(layout) = known.layouts.get(&number) {
                return Some(layout.entries());
            }
            let piece = tail.iter().find(|tail| tail.piece.number() == number)?;
            Some(piece.piece.entries())
        });
        retired.retain(|id, _| needed.contains(id));
        Ok(retired.into_iter().collect())
    }
}

#[derive(Default)]
pub(super) struct KnownPacks {
    pub(super) layouts: BTreeMap<PackNumber, PackLayout>,
    pub(super) objects: BTreeMap<PackNumber, ObjectRef>,
}

impl KnownPacks {
    pub(super) fn objects_of(
        &self,
        targets: BTreeMap<PackNumber, LiveMap>,
    ) -> Result<BTreeMap<ObjectRef, LiveMap>, ClientError> {
        let mut named = BTreeMap::new();
        for (number, live) in targets {
            let object = self
                .objects
                .get(&number)
                .ok_or_else(|| ClientError::Bug(format!("pack {} is on no channel", number.n)))?;
            named.insert(*object, live);
        }
        Ok(named)
    }
}

/// What the head to be signed would call living, for the client's rule.
pub(super) struct Living<'a> {
    pub(super) next: &'a Base,
    pub(super) known: &'a KnownPacks,
    pub(super) candidate: &'a Candidate,
}

impl Packs for Living<'_> {
    fn tail_chunks(&self, number: PackNumber) -> Option<u32> {
        let mut tail = self.next.tail.iter();
        let tail = tail.find(|tail| tail.piece.number() == number)?;
        u32::try_from(tail.piece.entries().len()).ok()
    }

    fn layout(&self, number: PackNumber) -> Option<&PackLayout> {
        self.known.layouts.get(&number)
    }

    fn live(&self, number: PackNumber) -> Option<&LiveMap> {
        let object = self.known.objects.get(&number)?;
        self.candidate.after.live(object)
    }
}
