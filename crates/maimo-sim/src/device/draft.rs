//! Drafts: records written where they fit, packs sealed with what is said of them.

use std::collections::BTreeMap;

use maimo_core::id::ChannelId;
use maimo_vault::{
    compose::{Draft, Sealing, SegmentWriter},
    compress::Level,
    journal::{batch::Batch, record::Record, repeat::Repeat},
    name::{ChunkRef, RecordId},
    pack::{PackBuilder, PackKind, Piece},
    rebase::turn,
};

use super::{Sealer, sync};
use crate::keys::StoreKeys;

/// Writes records where they fit: into the tail or into segments. Chunks that were meant for the tail go into a pack with the latter.
pub fn draft(
    piece: Piece,
    records: Vec<(RecordId, Record)>,
    keys: &StoreKeys,
    sealer: &mut Sealer<'_>,
) -> Draft {
    let (piece, mut records) = match Draft::small(piece, records) {
        Ok(draft) => return draft,
        Err(too_large) => too_large,
    };
    let writer = SegmentWriter {
        id_key: &keys.journal,
        level: Level::new(1).expect("a level"),
    };
    if !piece.entries().is_empty() {
        let mut builder = PackBuilder::new(sealer.next_pack(), PackKind::Data);
        let number = builder.number();
        let mut now_at = BTreeMap::new();
        for (index, chunk) in (0..).zip(piece.chunks()) {
            let to = builder.push(chunk).expect("a piece fits a pack");
            let from = ChunkRef {
                pack: piece.number(),
                index,
            };
            now_at.insert(
                from,
                ChunkRef {
                    pack: number,
                    index: to,
                },
            );
        }
        turn(records.iter_mut().map(|(_, record)| record), &now_at);
        let repeat = Repeat::of_new(&records, number, 0);
        seal_packs(vec![(builder, repeat)], sealer, &mut records);
    }
    Draft::large(records, &writer, sealer)
}

/// Seals packs and adds where they are to `named`.
pub fn seal_packs(
    builders: Vec<(PackBuilder, Repeat)>,
    sealer: &mut Sealer<'_>,
    named: &mut Vec<(RecordId, Record)>,
) {
    for (mut builder, repeat) in builders {
        let number = builder.number();
        builder
            .set_records(repeat.encode())
            .expect("the model's packs stay small");
        for (channel, reference) in sealer.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            named.push((sealer.next_record(), record));
        }
    }
}

/// Returns the batches of a segment that was sealed here.
pub fn open_segment(bytes: &[u8], keys: &StoreKeys, channel: ChannelId) -> Vec<Batch> {
    let chunks = sync::open_chunks(bytes, keys, channel, PackKind::Vital, None);
    let parsed = chunks.and_then(|chunks| {
        let batches = chunks.iter().map(|plaintext| Batch::parse(plaintext).ok());
        batches.collect::<Option<Vec<_>>>()
    });
    parsed.expect("just sealed")
}
