//! The whole way of a file into a pack (cut, id, zstd, seal, the pack's hash) and back, beside cutting and zstd alone.

#![allow(
    missing_docs,
    reason = "criterion's macros make public items without documentation"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maimo_core::identity::AuthSecretKey;
use maimo_vault::{
    chunker::{Chunks, Gear},
    compress::{Codec, Compressor, Decompressor, Level},
    dictionary::Dictionary,
    keys::{ChannelKeys, ChunkIdKey, KeyEpoch, MasterSecret},
    name::{ChunkId, ChunkType, Domain, PackNumber, WriterId},
    pack::{
        ChunkContext, FramedChunk, PackBuilder, PackKeys, PackKind, PackNonce, SealedPack,
        open_pack,
    },
};

const NUMBER: PackNumber = PackNumber {
    writer: WriterId([1; 16]),
    n: 0,
};

struct Store {
    gear: Gear,
    id_key: ChunkIdKey,
    channel: ChannelKeys,
}

impl Store {
    fn new() -> Self {
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let epoch = KeyEpoch(0);
        let auth = AuthSecretKey::from_seed(&[2; 32]).public();
        Self {
            gear: Gear::new(&secret.gear_key(epoch, Domain(0))),
            id_key: secret.chunk_id_key(epoch, ChunkType::Content, Domain(0)),
            channel: secret.channel_keys(epoch, &auth),
        }
    }

    fn keys(&self) -> PackKeys<'_> {
        PackKeys::new(&self.channel, KeyEpoch(0), PackKind::Data)
    }

    fn store(&self, content: &[u8], compressor: &mut Compressor<'_>) -> SealedPack {
        let mut builder = PackBuilder::new(NUMBER, PackKind::Data);
        for chunk in Chunks::new(&self.gear, content) {
            let frame = compressor.compress(chunk, None);
            builder
                .push(FramedChunk {
                    id: self.id_key.id(chunk),
                    chunk_type: ChunkType::Content,
                    domain: Domain(0),
                    codec: frame.codec,
                    dictionary: None,
                    plaintext_length: u32::try_from(chunk.len()).expect("at most 4 MiB"),
                    frame: frame.bytes,
                })
                .expect("the content is shorter than a pack");
        }
        builder.seal(self.keys(), PackNonce([3; 24]))
    }

    fn restore(&self, pack: &SealedPack, decompressor: &mut Decompressor) -> usize {
        let (reader, table) =
            open_pack(&pack.bytes, PackKind::Data, self.keys()).expect("our own pack");
        let entries = table.layout.entries().iter().zip(0..);
        entries
            .map(|(entry, index)| {
                let range = table.layout.chunk_range(index).expect("an index it has");
                let bytes = usize::try_from(range.start).expect("shorter than 64 MiB")
                    ..usize::try_from(range.end).expect("shorter than 64 MiB");
                reader
                    .open_chunk(entry, pack.bytes[bytes].to_vec(), self, decompressor)
                    .expect("our own chunk")
                    .len()
            })
            .sum()
    }
}

impl ChunkContext for Store {
    fn id_key(&self, _: ChunkType, _: Domain) -> Option<&ChunkIdKey> {
        Some(&self.id_key)
    }

    fn dictionary(&self, _: &ChunkId) -> Option<&Dictionary> {
        None
    }
}

/// Lines that repeat their words and not their numbers: zstd 3 makes about a quarter of them.
fn text(length: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(length + 100);
    let mut seed = 0_u64;
    while text.len() < length {
        let hash = blake3::hash(&seed.to_le_bytes()).to_hex();
        let line = format!(
            "    let value_{} = store.read(index, &mut buffer)?;\n",
            &hash[..6]
        );
        text.extend_from_slice(line.as_bytes());
        seed += 1;
    }
    text.truncate(length);
    text
}

fn pipeline(criterion: &mut Criterion) {
    let store = Store::new();
    let mut random = vec![0; 15 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut random);
    let text = text(15 << 20);
    for (name, content) in [("text", &text), ("random", &random)] {
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Bytes(content.len() as u64))
            .sample_size(10);
        for level in [1, 3] {
            let mut compressor = Compressor::new(Level::new(level).expect("within 1 to 19"));
            group.bench_function(format!("cut and zstd {level} alone"), |bencher| {
                bencher.iter(|| {
                    Chunks::new(&store.gear, black_box(content))
                        .filter(|chunk| compressor.compress(chunk, None).codec == Codec::Raw)
                        .count()
                });
            });
            group.bench_function(format!("store, zstd {level}"), |bencher| {
                bencher.iter(|| store.store(black_box(content), &mut compressor));
            });
        }
        let pack = store.store(content, &mut Compressor::new(Level::default()));
        let mut decompressor = Decompressor::new();
        group.bench_function("restore", |bencher| {
            bencher.iter(|| store.restore(black_box(&pack), &mut decompressor));
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
