//! [`Sealer`]: what a device seals packs with, and the provider that keeps them.
//!
//! Vital packs are sealed for real and kept, since their size is what is measured and merging reads them. Of data packs only the geometry
//! is worked out, by the builder itself: their bytes are nobody's.

use std::collections::BTreeMap;

use maimo_core::{
    id::{ChannelId, RootHash},
    reference::ObjectRef,
    units::BLOCK_BYTES,
};
use maimo_vault::{
    commit::Segment,
    compose::Sealing,
    compress::Decompressor,
    dictionary::Dictionary,
    journal::batch::Batch,
    keys::{ChannelKeys, ChunkIdKey, KeyEpoch},
    name::{ChunkId, ChunkType, Domain, PackNumber, RecordId, WriterId},
    pack::{ChunkContext, PackBuilder, PackKeys, PackKind, PackLayout, PackNonce, open_pack},
};

use super::chance::Chance;

/// The one generation of keys.
pub(super) const EPOCH: KeyEpoch = KeyEpoch(0);

/// Why a pack was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For chunks never stored before.
    Content,
    /// For chunks of wasteful or small packs.
    Rewrite,
    /// For whatever the commit itself takes: segments, a tail that spills.
    Commit,
}

/// A pack on its way to the provider.
#[derive(Debug, Clone, Copy)]
pub(super) struct Upload {
    pub(super) number: PackNumber,
    pub(super) reference: ObjectRef,
    pub(super) kind: PackKind,
    pub(super) purpose: Purpose,
}

/// A data pack as far as it exists.
#[derive(Debug)]
pub(super) struct DataPack {
    pub(super) layout: PackLayout,
    pub(super) reference: ObjectRef,
}

/// Seals packs and keeps them.
pub(super) struct Sealer {
    pub(super) writer: WriterId,
    pub(super) channel: ChannelId,
    pub(super) keys: ChannelKeys,
    pub(super) chance: Chance,
    /// Names journal batches; the same as the segment writer's.
    id_key: ChunkIdKey,
    packs: u64,
    records: u64,
    /// What the packs sealed from here on are for.
    pub(super) purpose: Purpose,
    uploads: Vec<Upload>,
    pub(super) data: BTreeMap<PackNumber, DataPack>,
    vital: BTreeMap<PackNumber, Vec<u8>>,
}

impl Sealer {
    pub(super) const fn new(
        writer: WriterId,
        channel: ChannelId,
        keys: ChannelKeys,
        id_key: ChunkIdKey,
        chance: Chance,
    ) -> Self {
        Self {
            writer,
            channel,
            keys,
            chance,
            id_key,
            packs: 0,
            records: 0,
            purpose: Purpose::Commit,
            uploads: Vec::new(),
            data: BTreeMap::new(),
            vital: BTreeMap::new(),
        }
    }

    /// Returns what was sealed since the last call.
    pub(super) fn take_uploads(&mut self) -> Vec<Upload> {
        core::mem::take(&mut self.uploads)
    }

    /// Reads a segment as a device does that has fetched it.
    pub(super) fn read_segment(&self, number: PackNumber) -> Vec<Batch> {
        let bytes = &self.vital[&number];
        let keys = PackKeys::new(&self.keys, EPOCH, PackKind::Vital);
        let (reader, table) =
            open_pack(bytes, PackKind::Vital, keys).expect("a pack sealed here opens here");
        let mut decompressor = Decompressor::new();
        let layout = &table.layout;
        (0..)
            .zip(layout.entries())
            .map(|(index, entry)| {
                let range = layout.chunk_range(index).expect("its own entry");
                let [start, end] = [range.start, range.end]
                    .map(|at| usize::try_from(at).expect("a pack fits in memory"));
                let plaintext = reader
                    .open_chunk(entry, bytes[start..end].to_vec(), self, &mut decompressor)
                    .expect("a chunk sealed here opens here");
                Batch::parse(&plaintext).expect("a batch encoded here parses here")
            })
            .collect()
    }

    /// Forgets a segment that no commit lists.
    pub(super) fn forget_segment(&mut self, number: PackNumber) {
        self.vital.remove(&number);
    }
}

impl Sealing for Sealer {
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef> {
        let (number, kind) = (builder.number(), builder.kind());
        let reference = match kind {
            PackKind::Vital => {
                let mut nonce = PackNonce([0; 24]);
                self.chance.fill(&mut nonce.0);
                let sealed = builder.seal(PackKeys::new(&self.keys, EPOCH, kind), nonce);
                self.vital.insert(number, sealed.bytes);
                sealed.reference
            }
            PackKind::Data => {
                let layout = builder.layout();
                let root = RootHash(self.chance.bytes());
                let length = layout.length();
                let reference = ObjectRef { root, length };
                self.data.insert(number, DataPack { layout, reference });
                reference
            }
        };
        self.uploads.push(Upload {
            number,
            reference,
            kind,
            purpose: self.purpose,
        });
        BTreeMap::from([(self.channel, reference)])
    }

    fn next_pack(&mut self) -> PackNumber {
        self.packs += 1;
        PackNumber {
            writer: self.writer,
            n: self.packs - 1,
        }
    }

    fn next_record(&mut self) -> RecordId {
        self.records += 1;
        RecordId {
            writer: self.writer,
            counter: self.records - 1,
        }
    }

    fn recall(&mut self, segment: Segment) -> Option<Vec<Batch>> {
        let is_short = self.vital[&segment.number].len() as u64 <= 2 * BLOCK_BYTES;
        is_short.then(|| self.read_segment(segment.number))
    }
}

impl ChunkContext for Sealer {
    fn id_key(&self, chunk_type: ChunkType, _: Domain) -> Option<&ChunkIdKey> {
        (chunk_type == ChunkType::Journal).then_some(&self.id_key)
    }

    fn dictionary(&self, _: &ChunkId) -> Option<&Dictionary> {
        None
    }
}

/// A sealing that only weighs: how many bytes would these packs take?
#[derive(Debug)]
pub(super) struct Scales {
    pub(super) writer: WriterId,
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

impl Sealing for Scales {
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef> {
        self.bytes += builder.layout().length();
        BTreeMap::new()
    }

    fn next_pack(&mut self) -> PackNumber {
        self.packs += 1;
        PackNumber {
            writer: self.writer,
            n: self.packs - 1,
        }
    }

    fn next_record(&mut self) -> RecordId {
        RecordId {
            writer: self.writer,
            counter: 0,
        }
    }
}
