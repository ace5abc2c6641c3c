//! XChaCha8-BLAKE3-SIV beside its two passes run bare, in one run: sealing should reach 0.8 of the passes' speed, and opening with it, which is
//! the same two passes the other way round.

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
        let sealed_tag = cipher.seal_in_place(&nonce, &ad, &mut buffer);
        let sealed = buffer.clone();
        group.bench_function(BenchmarkId::new("open, and a copy", length), |bencher| {
            bencher.iter(|| {
                // Opening changes the buffer, so each time begins with the sealed bytes.
                buffer.copy_from_slice(&sealed);
                let opened = cipher.open_in_place(&nonce, &ad, black_box(&mut buffer), &sealed_tag);
                opened.expect("it was sealed with the same key");
            });
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
