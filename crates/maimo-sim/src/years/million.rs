//! How long the journal of very many small files is, freshly stored: no year, one measurement.

use maimo_core::clock::Timestamp;
use maimo_vault::{
    compose::{SegmentWriter, write_segments},
    compress::Level,
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        record::Record,
    },
    keys::MasterSecret,
    name::{ChunkRef, ChunkType, Domain, PackNumber, RecordId, SourceId, WriterId},
};

use super::{
    BEGIN_MS, DAY_MS,
    chance::{Chance, home_path},
    sealer::{EPOCH, Scales},
};

/// How many records go into one batch of a first store: what it finds in its five minutes.
const STEP: u64 = 100_000;
/// How many small files a pack of 16 MiB holds.
const FILES_PER_PACK: u64 = 20_000;

/// Returns the bytes of the segments that a first store of so many files writes.
pub(super) fn journal_bytes(seed: u64, files: u64) -> u64 {
    let mut chance = Chance::new(seed);
    let secret = MasterSecret::from_entropy(&chance.bytes());
    let id_key = secret.chunk_id_key(EPOCH, ChunkType::Journal, Domain::default());
    let writer = SegmentWriter {
        id_key: &id_key,
        level: Level::default(),
    };
    let owner = WriterId([7; 16]);
    let mut scales = Scales {
        writer: owner,
        packs: 0,
        bytes: 0,
    };
    let mut counter = 0;
    let mut pack = PackNumber {
        writer: owner,
        n: 0,
    };
    for step in 0..files.div_ceil(STEP) {
        let numbers = step * STEP..files.min((step + 1) * STEP);
        let mut paths: Vec<_> = numbers
            .map(|number| home_path(&mut chance, number))
            .collect();
        paths.sort();
        let records = paths.into_iter().map(|path| {
            let size = chance.log_uniform(100, 8000);
            // Each commit's packs are its own.
            pack.n = step * 10 + counter % STEP / FILES_PER_PACK;
            let index = u32::try_from(counter % FILES_PER_PACK).unwrap_or(0);
            let record = Record::File {
                source: SourceId([9; 16]),
                path,
                metadata: chance.metadata(Timestamp(BEGIN_MS).0, 10 * 365 * DAY_MS),
                content: Content::Regular {
                    size,
                    blake3: chance.bytes(),
                    chunks: vec![ChunkExtent {
                        first: ChunkRef { pack, index },
                        count: 1,
                    }],
                },
            };
            let id = RecordId {
                writer: owner,
                counter,
            };
            counter += 1;
            (Stamp { sequence: 0, id }, record)
        });
        write_segments(records, &writer, &mut scales);
    }
    scales.bytes
}
