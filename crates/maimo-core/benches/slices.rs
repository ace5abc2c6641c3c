//! Outboards, slices and their check, beside BLAKE3 alone.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use maimo_core::{
    units::BLOCK_BYTES,
    verify::{Outboard, Selection, decode_slice, encode_slice},
};

const PACK_BYTES: usize = 16 << 20;

fn pack() -> Vec<u8> {
    let mut data = vec![0; PACK_BYTES];
    blake3::Hasher::new().finalize_xof().fill(&mut data);
    data
}

fn hashing(criterion: &mut Criterion) {
    let data = pack();
    let mut group = criterion.benchmark_group("hash a pack of 16 MiB");
    group.throughput(Throughput::Bytes(PACK_BYTES as u64));
    group.bench_function("blake3", |bencher| {
        bencher.iter(|| blake3::hash(black_box(&data)));
    });
    group.bench_function("outboard", |bencher| {
        bencher.iter(|| Outboard::of(black_box(&data)));
    });
    group.finish();
}

fn slices(criterion: &mut Criterion) {
    let data = pack();
    let outboard = Outboard::of(&data);
    let object = *outboard.object();
    let selections = [
        ("one block", Selection::blocks(object.length, [1234])),
        (
            "a mebibyte of groups",
            Selection::groups(object.length, std::iter::once(64..128)),
        ),
    ];
    for (name, selection) in selections {
        let selection = selection.expect("it is within the pack");
        let encode = || {
            let mut out = Vec::new();
            encode_slice(
                &data,
                &outboard.as_bytes(),
                &object.root,
                &selection,
                &mut out,
            )
            .expect("the pack is whole");
            out
        };
        let slice = encode();
        let mut group = criterion.benchmark_group(format!("slice of {name}"));
        group.throughput(Throughput::Bytes((slice.len() as u64).max(BLOCK_BYTES)));
        group.bench_function("extract", |bencher| bencher.iter(encode));
        group.bench_function("check", |bencher| {
            bencher.iter(|| decode_slice(black_box(&slice), &object, &selection));
        });
        group.finish();
    }
}

criterion_group!(benches, hashing, slices);
criterion_main!(benches);
