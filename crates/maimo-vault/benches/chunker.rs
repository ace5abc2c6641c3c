//! Cutting 64 MiB, beside the scan of the `fastcdc` crate with its own table and the same lengths.

#![allow(
    missing_docs,
    reason = "criterion's macros make public items without documentation"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastcdc::v2020::{FastCDC, Normalization};
use maimo_vault::{
    chunker::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, CHUNK_BYTES_NORMAL, Chunks, Gear},
    keys::{KeyEpoch, MasterSecret},
    name::Domain,
};

fn cut(criterion: &mut Criterion) {
    let mut content = vec![0; 64 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut content);
    let secret = MasterSecret::from_entropy(&[1; 32]);
    let gear = Gear::new(&secret.gear_key(KeyEpoch(0), Domain(0)));

    let mut group = criterion.benchmark_group("cut");
    group
        .throughput(Throughput::Bytes(content.len() as u64))
        .sample_size(10);
    group.bench_function("ours", |bencher| {
        bencher.iter(|| Chunks::new(&gear, black_box(&content)).count());
    });
    group.bench_function("fastcdc", |bencher| {
        bencher.iter(|| {
            FastCDC::with_level(
                black_box(&content),
                CHUNK_BYTES_MIN,
                CHUNK_BYTES_NORMAL,
                CHUNK_BYTES_MAX,
                Normalization::Level2,
            )
            .count()
        });
    });
    group.finish();
}

criterion_group!(benches, cut);
criterion_main!(benches);
