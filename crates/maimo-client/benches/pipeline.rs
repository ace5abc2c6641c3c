//! What a store's pipeline makes of files in a second, beside its bare parts on the same bytes: reading the files, hashing them, zstd.
//!
//! Sealing is in it, sending is not: packs are sealed on a thread of their own and dropped.

#![allow(clippy::unwrap_used, reason = "a benchmark that fails may panic")]

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use crossbeam_channel::Sender;
use maimo_client::{
    error::ClientError,
    keys::{EPOCH, StoreKeys},
    local_stat::LocalStat,
    pipeline::{KnownChunks, PipelineRequest, StoreSink, run},
    progress::Control,
    scan::known::NothingKnown,
};
use maimo_vault::{
    compress::{Compressor, Level},
    dictionary::Dictionary,
    journal::record::Record,
    name::{PackNumber, RecordId},
    pack::{PackBuilder, PackKeys, PackKind, PackNonce, Piece},
};
use tempfile::TempDir;

#[path = "../tests/support/collector.rs"]
mod collector;
use collector::{Collector, SOURCE, channel, secret};

/// A collector whose packs are sealed elsewhere, as the engine's are.
struct Sealing {
    inner: Collector,
    builders: Option<Sender<PackBuilder>>,
    thread: Option<JoinHandle<u64>>,
}

impl Sealing {
    fn new() -> Self {
        let (builders, queue) = crossbeam_channel::bounded::<PackBuilder>(0);
        let thread = thread::spawn(move || {
            let keys = channel();
            let seal = |builder: PackBuilder| {
                let keys = PackKeys::new(&keys, EPOCH, PackKind::Data);
                builder.seal(keys, PackNonce([1; 24])).bytes.len() as u64
            };
            queue.into_iter().map(seal).sum()
        });
        let mut inner = Collector::new(false);
        inner.keep_records = false;
        Self {
            inner,
            builders: Some(builders),
            thread: Some(thread),
        }
    }

    fn finish(mut self) -> u64 {
        self.builders = None;
        self.thread.take().unwrap().join().unwrap()
    }
}

impl StoreSink for Sealing {
    fn known(&self) -> Arc<dyn KnownChunks> {
        self.inner.known()
    }

    fn as_of(&self) -> u64 {
        1
    }

    fn next_record(&mut self) -> Result<RecordId, ClientError> {
        self.inner.next_record()
    }

    fn next_pack(&mut self) -> Result<PackNumber, ClientError> {
        self.inner.next_pack()
    }

    fn seal(&mut self, builder: PackBuilder) -> Result<(), ClientError> {
        self.builders.as_ref().unwrap().send(builder).unwrap();
        Ok(())
    }

    fn dictionary(&mut self, bytes: Vec<u8>) -> Result<Arc<Dictionary>, ClientError> {
        self.inner.dictionary(bytes)
    }

    fn record(
        &mut self,
        id: RecordId,
        record: Record,
        local: Option<LocalStat>,
    ) -> Result<(), ClientError> {
        self.inner.record(id, record, local)
    }

    fn refresh(&mut self, id: RecordId, local: LocalStat) -> Result<(), ClientError> {
        self.inner.refresh(id, local)
    }

    fn checkpoint(&mut self) -> Result<(), ClientError> {
        self.inner.checkpoint()
    }

    fn piece(&mut self, piece: Piece) -> Result<(), ClientError> {
        self.inner.piece(piece)
    }
}

fn store(path: &Path, keys: &StoreKeys) -> u64 {
    let mut sink = Sealing::new();
    let request = PipelineRequest::new(SOURCE, vec![path.to_owned()]);
    let control = Control::default();
    let outcome = run(&request, keys, &mut NothingKnown, &mut sink, &control).unwrap();
    assert!(outcome.troubles.is_empty());
    sink.finish() + outcome.bytes_read
}

/// Lines that repeat their words and not their numbers: zstd 3 makes about a quarter of them.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 100);
    let mut line = 0_u64;
    while bytes.len() < length {
        let mut hasher = blake3::Hasher::new();
        hasher
            .update(&seed.to_le_bytes())
            .update(&line.to_le_bytes());
        let hash = hasher.finalize().to_hex();
        let text = format!(
            "    let value_{} = store.read(index, &mut buffer)?;\n",
            &hash[..6]
        );
        bytes.extend_from_slice(text.as_bytes());
        line += 1;
    }
    bytes.truncate(length);
    bytes
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// Writes files of `length` bytes, 500 in a folder, and returns their paths.
fn write(folder: &Path, count: u64, content: impl Fn(u64) -> Vec<u8>) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for n in 0..count {
        let inner = folder.join(format!("{:04}", n / 500));
        fs::create_dir_all(&inner).unwrap();
        let path = inner.join(format!("file-{n:06}"));
        fs::write(&path, content(n)).unwrap();
        paths.push(path);
    }
    paths
}

/// Makes what is in the file of a number.
type Content = fn(u64) -> Vec<u8>;

fn pipeline(criterion: &mut Criterion) {
    let keys = StoreKeys::new(&secret());
    let datasets: [(&str, u64, Content); 3] = [
        ("source-like files of 12 kB", 4_000, |n| text(n, 12_000)),
        ("tiny files of 2 kB", 20_000, |n| text(n, 2_000)),
        ("random files of 32 MiB", 4, |n| noise(n, 32 << 20)),
    ];
    for (name, count, content) in datasets {
        let folder = TempDir::new().unwrap();
        let paths = write(folder.path(), count, content);
        let bytes: u64 = paths
            .iter()
            .map(|path| fs::metadata(path).unwrap().len())
            .sum();
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Bytes(bytes));
        group.bench_function("read alone, one thread", |bencher| {
            bencher.iter(|| {
                paths
                    .iter()
                    .map(|path| fs::read(path).unwrap().len())
                    .sum::<usize>()
            });
        });
        let read: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
        group.bench_function("blake3 alone, one thread", |bencher| {
            bencher.iter(|| {
                read.iter()
                    .map(|file| blake3::hash(file).as_bytes()[0])
                    .max()
            });
        });
        let mut compressor = Compressor::new(Level::default());
        group.bench_function("zstd alone, one thread", |bencher| {
            bencher.iter(|| {
                let chunks = read.iter().flat_map(|file| file.chunks(1 << 20));
                let lengths =
                    chunks.map(|chunk| compressor.compress(black_box(chunk), None).bytes.len());
                lengths.sum::<usize>()
            });
        });
        group.bench_function("pipeline and sealing", |bencher| {
            bencher.iter(|| store(folder.path(), &keys));
        });
        group.finish();
    }
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
