//! What a client keeps on its own disk: packs on their way, and the day on which a provider last answered.

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::sleep,
    time::Duration,
};

use maimo_client::{
    client::{Client, OpenOptions},
    clock::Clock,
};
use maimo_core::clock::Timestamp;
use maimo_net::connect::Connector;

use crate::scene::{Scene, noise};

fn options(scene: &Scene) -> OpenOptions {
    OpenOptions::new(Arc::clone(&scene.far) as Arc<dyn Connector>)
}

/// Returns how many packs are in the spool, and their bytes.
fn spooled(spool: &Path) -> io::Result<(u64, u64)> {
    let mut found = (0, 0);
    for file in fs::read_dir(spool)? {
        let file = file?;
        // What is still being written, and what has left meanwhile, is not there.
        if let (None, Ok(pack)) = (file.path().extension(), file.metadata()) {
            found = (found.0 + 1, found.1 + pack.len());
        }
    }
    Ok(found)
}

#[test]
fn the_spool_holds_no_more_than_it_may_and_one_pack_always() {
    let most = |bytes_max| {
        let scene = Scene::new();
        scene.begin("home");
        for n in 0..20 {
            scene.write(&format!("files/{n}"), &noise(n, 5_000_000));
        }
        let most = Arc::new(Mutex::new((0, 0)));
        let (seen, spool) = (Arc::clone(&most), scene.home("home").join("spool"));
        scene.far.wire.at_each_put(move || {
            // A time in which more would come if it might.
            sleep(Duration::from_millis(20));
            let found = spooled(&spool).unwrap();
            let mut seen = seen.lock().unwrap();
            *seen = (seen.0.max(found.0), seen.1.max(found.1));
        });
        let options = OpenOptions {
            spool_bytes_max: bytes_max,
            ..options(&scene)
        };
        let mut client = Client::open(&scene.home("home"), options).unwrap();
        assert_eq!(scene.store(&mut client, "files").files_new, 20);
        *most.lock().unwrap()
    };
    let (packs, bytes) = most(1);
    assert!(
        packs == 1 && bytes > 4 << 20,
        "{packs} packs, {bytes} bytes"
    );
    let (packs, bytes) = most(40 << 20);
    assert!(
        packs >= 1 && bytes <= 40 << 20,
        "{packs} packs, {bytes} bytes"
    );
}

/// Of a provider that was there today and of one that is away for a month the same would be known otherwise.
#[test]
fn the_day_on_which_a_provider_last_answered_is_kept_and_no_moment() {
    const DAY: u64 = 24 * 3600 * 1000;
    let scene = Scene::new();
    scene.begin("home");
    let now = Arc::new(AtomicU64::new(20_000 * DAY + 12_345));
    let tells = Arc::clone(&now);
    let options = OpenOptions {
        clock: Clock::new(move || Timestamp(tells.load(Ordering::Relaxed))),
        ..options(&scene)
    };
    let mut client = Client::open(&scene.home("home"), options).unwrap();
    let seen = |client: &Client| client.status().unwrap().channels[0].last_seen;
    let began = seen(&client).unwrap();
    assert_eq!(began, began.day());
    assert_ne!(began, Timestamp(20_000 * DAY));
    scene.write("files/one", b"some bytes");
    scene.store(&mut client, "files");
    assert_eq!(seen(&client), Some(Timestamp(20_000 * DAY)));
    now.store(20_001 * DAY + 1, Ordering::Relaxed);
    let listed = client.channels().unwrap();
    assert_eq!(listed[0].last_seen, Some(Timestamp(20_001 * DAY)));
    assert_eq!(seen(&client), listed[0].last_seen);
}
