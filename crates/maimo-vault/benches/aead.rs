//! XChaCha8-BLAKE3-SIV beside its two passes run bare, in one run: sealing should reach 0.8 of the passes' speed.

use std::hint::black_box;

use chacha20::{
    XChaCha8,
    cipher::{KeyIvInit, StreamCipher},
};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use maimo_vault::aead::XChaCha8Blake3Siv;

fn seal(criterion: &mut Criterion) {
    let (key, nonce, ad) = ([7; 32], [1; 24], [2; 64]);
    let cipher = XChaCha8Blake3Siv::from_key(&key);
    let mut group = criterion.benchmark_group("aead");
    for length in [2048_usize, 64 * 1024, 1024 * 1024] {
        let mut buffer = vec![3; length];
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(BenchmarkId::new("seal", length), |bencher| {
            bencher.iter(|| black_box(cipher.seal_in_place(&nonce, &ad, black_box(&mut buffer))));
        });
        group.bench_function(BenchmarkId::new("two passes", length), |bencher| {
            bencher.iter(|| {
                let mut hasher = blake3::Hasher::new_keyed(&key);
                black_box(hasher.update(black_box(&buffer)).finalize());
                XChaCha8::new(&key.into(), &nonce.into()).apply_keystream(black_box(&mut buffer));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
