//! What a volume costs: a slice of a stored pack beside its bare parts, taking packs in beside writing and syncing the same bytes.

use std::{fs::File, hint::black_box, os::unix::fs::FileExt};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use maimo_core::{
    id::ChannelId,
    identity::AuthSecretKey,
    reference::ObjectRef,
    units::GROUP_BYTES,
    verify::{Outboard, OutboardBuilder, Selection, encode_slice},
};
use maimo_provider::volume::{Volume, VolumeId};
use tempfile::TempDir;

const PACK_BYTES: usize = 16 << 20;
const PACKS: usize = 8;
const CHANNEL: ChannelId = ChannelId([1; 32]);

fn pack(seed: usize) -> Vec<u8> {
    let mut data = vec![0; PACK_BYTES];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes()[..]);
    hasher.finalize_xof().fill(&mut data);
    data
}

fn new_volume() -> (TempDir, Volume) {
    let folder = TempDir::new().expect("a folder for the benchmark");
    let owner = AuthSecretKey::from_seed(&[1; 32]).public();
    let volume = Volume::create(&folder.path().join("v"), VolumeId([1; 16]), &owner);
    (folder, volume.expect("a new volume"))
}

fn store(volume: &Volume, reference: ObjectRef, data: &[u8]) {
    let incoming = volume.incoming(CHANNEL, reference).expect("a new pack");
    let range = usize::try_from(OutboardBuilder::RANGE_BYTES).expect("a mebibyte");
    for (offset, bytes) in (0..).step_by(range).zip(data.chunks(range)) {
        incoming.put(offset, bytes).expect("room for the pack");
    }
    incoming.finish().expect("a durable pack");
}

fn slices(criterion: &mut Criterion) {
    let (folder, volume) = new_volume();
    let data = pack(0);
    let outboard = Outboard::of(&data);
    let reference = *outboard.object();
    store(&volume, reference, &data);
    let bare = folder.path().join("bare");
    std::fs::write(&bare, &data).expect("room for a file");
    let bare = File::open(bare).expect("the file is there");

    let mut group = criterion.benchmark_group("one block of a pack of 16 MiB");
    let selection = Selection::blocks(reference.length, [1234]).expect("a block of the pack");
    let mut out = Vec::new();
    group.bench_function("slice of the volume", |bencher| {
        bencher.iter(|| {
            out.clear();
            let file = volume.pack(CHANNEL, &reference).expect("it is held");
            file.slice(&selection, &mut out).expect("it is sound");
            black_box(out.len())
        });
    });
    let mut bytes = vec![0; 1 << 14];
    group.bench_function("pread of its group, slice from memory", |bencher| {
        bencher.iter(|| {
            out.clear();
            bare.read_exact_at(&mut bytes, 308 * GROUP_BYTES)
                .expect("it is there");
            let hashes = outboard.as_bytes();
            encode_slice(&&data[..], &hashes, &reference.root, &selection, &mut out)
                .expect("it is sound");
            black_box(out.len())
        });
    });
    group.finish();
}

fn storing(criterion: &mut Criterion) {
    let packs: Vec<_> = (0..PACKS).map(pack).collect();
    let references: Vec<_> = packs.iter().map(|pack| ObjectRef::of(pack)).collect();
    let mut group = criterion.benchmark_group("take 128 MiB in");
    group.sample_size(10);
    group.throughput(Throughput::Bytes((PACK_BYTES * PACKS) as u64));
    group.bench_function("volume", |bencher| {
        bencher.iter_batched_ref(
            new_volume,
            |(_, volume)| {
                for (reference, pack) in references.iter().zip(&packs) {
                    store(volume, *reference, pack);
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("write and fsync", |bencher| {
        bencher.iter_batched_ref(
            || TempDir::new().expect("a folder for the benchmark"),
            |folder| {
                for (number, pack) in packs.iter().enumerate() {
                    let path = folder.path().join(number.to_string());
                    let file = File::create(path).expect("a new file");
                    file.write_all_at(pack, 0).expect("room for the pack");
                    file.sync_all().expect("a disk that syncs");
                }
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, slices, storing);
criterion_main!(benches);
