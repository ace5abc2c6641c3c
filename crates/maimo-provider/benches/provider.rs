//! What a provider costs over a folder of 1 GiB in 200 packs: opening it, and an audit beside bare reads of the same blocks.

use std::{
    collections::HashMap, fs::File, hint::black_box, os::unix::fs::FileExt, path::Path,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use futures_executor::block_on;
use maimo_core::{
    audit::{Challenge, check},
    custody::PackClass,
    head::SignedHead,
    reference::ObjectRef,
    units::BLOCK_BYTES,
};
use maimo_net::service::WhichHead;
use maimo_provider::provider::{self, FolderTerms, Provider};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

#[path = "../src/testing.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "it is the tests' own client")]
mod testing;

use testing::{TestClient, pack};

const PACKS: u64 = 200;
const PACK_BYTES: u64 = (1 << 30) / PACKS / BLOCK_BYTES * BLOCK_BYTES;
/// Vital packs: few, as in a real store.
const VITAL: u64 = 8;

fn open(folder: &Path) -> Provider {
    Provider::open_folder(folder, Some(FolderTerms::default())).expect("a folder to store in")
}

/// Returns the packs' names, data first.
fn fill(client: &mut TestClient, provider: &Provider) -> Vec<ObjectRef> {
    let mut all = Vec::new();
    for seed in 0..PACKS {
        let class = if seed < PACKS - VITAL {
            PackClass::Data
        } else {
            PackClass::Vital
        };
        let bytes = pack(seed, class, PACK_BYTES);
        let reference = client.upload(&bytes, class).expect("room for a pack");
        client.name_all(reference, class);
        all.push(reference);
    }
    client.move_head(provider).expect("a head");
    all
}

fn folder_of_a_gibibyte(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder for the benchmark");
    let provider = open(folder.path());
    let mut client = TestClient::new(&provider, 1);
    let packs = fill(&mut client, &provider);

    let mut group = criterion.benchmark_group("folder of 1 GiB in 200 packs");
    let shown = block_on(client.session.head(WhichHead::Newest));
    let shown = shown.expect("an answer").expect("a head");
    let head = SignedHead::verify(&shown.head, client.channel, &[client.key.public()]);
    let view = head.expect("the client's own head").head().into();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let challenges: Vec<_> = (0..16)
        .map(|_| Challenge::draw(&mut rng, client.root, &view, 460))
        .collect();
    let mut next = challenges.iter().cycle();
    group.bench_function("answer of an audit of 920 slices", |bencher| {
        bencher.iter(|| {
            let challenge = next.next().expect("a cycle").encode();
            let answer = block_on(client.session.audit(challenge.into()));
            black_box(answer.expect("an answer"))
        });
    });
    let answer = block_on(client.session.audit(challenges[0].encode().into()));
    let answer = answer.expect("an answer");
    let report = check(&challenges[0], &answer, |_, _| Some(view)).expect("an answer");
    assert!(report.is_intact());

    let mut files = HashMap::new();
    for pack in &packs {
        let name = client.channel.to_string();
        let path = format!("volume/packs/{}/{name}/{}", &name[..2], pack.root);
        let file = File::open(folder.path().join(path)).expect("a pack's file");
        files.insert(files.len() as u64, file);
    }
    group.bench_function("bare reads of 920 blocks", |bencher| {
        bencher.iter(|| {
            let mut block = [0; 4096];
            for _ in 0..920 {
                let place = rng.next_u64() % (PACKS * (PACK_BYTES / BLOCK_BYTES));
                let offset = place / PACKS * BLOCK_BYTES;
                let read = files[&(place % PACKS)].read_exact_at(&mut block, offset);
                read.expect("a block of a pack");
            }
            black_box(block)
        });
    });

    drop((client.session, provider));
    group.bench_function("opening and closing it", |bencher| {
        bencher.iter(|| drop(open(folder.path())));
    });
    let mark = folder.path().join("clean");
    group.bench_function("opening and closing it after a crash", |bencher| {
        bencher.iter(|| {
            std::fs::remove_file(&mark).expect("the mark of a close in order");
            drop(open(folder.path()));
        });
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = folder_of_a_gibibyte
}
criterion_main!(benches);
