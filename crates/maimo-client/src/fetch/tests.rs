use std::sync::atomic::Ordering;

use maimo_core::{reference::ObjectRef, units::GROUP_BYTES};
use maimo_vault::journal::content::Content;

use super::{
    FetchError, Locator, Opener, Wanted,
    testing::{FakeStore, random},
};

fn chunks(content: &Content) -> impl Iterator<Item = maimo_vault::name::ChunkRef> {
    content.extents().iter().flat_map(|extent| extent.chunks())
}

/// Reads a whole file in one request for each pack.
fn read(store: &FakeStore, content: &Content) -> Result<Vec<u8>, FetchError> {
    let fetch = store.fetch();
    let mut locator = Locator::new(&fetch, &store.index);
    let found = chunks(content)
        .map(|chunk| locator.find(chunk))
        .collect::<Result<Vec<_>, _>>()?;
    let mut wanted = Wanted::default();
    for chunk in &found {
        chunk.want(&mut wanted);
    }
    let fetched = fetch.read(wanted)?;
    let mut opener = Opener::new(&fetch);
    let mut bytes = Vec::new();
    for chunk in &found {
        bytes.extend(opener.open(&fetched, chunk)?);
    }
    Ok(bytes)
}

fn requests(store: &FakeStore, channel: usize) -> u64 {
    store.channels[channel].2.requests.load(Ordering::Relaxed)
}

#[test]
fn a_file_of_many_packs_comes_back_in_one_request() {
    let mut store = FakeStore::new(1, 256 * 1024);
    let bytes = random(1, 1_000_000);
    let content = store.put(&bytes, 50_000);
    store.seal();
    assert!(store.index.layouts.len() > 3);
    assert_eq!(read(&store, &content).unwrap(), bytes);
    assert_eq!(requests(&store, 0), 1);
}

#[test]
fn over_a_network_one_large_pack_is_asked_for_in_many_calls_at_a_time() {
    let mut store = FakeStore::new(2, 16 << 20);
    let bytes = random(1, 10_000_000);
    // Chunks that lie across the ends of calls.
    let content = store.put(&bytes, 700_001);
    store.seal();
    let provider = &store.channels[0].2;
    provider.is_remote.store(true, Ordering::Relaxed);
    assert_eq!(read(&store, &content).unwrap(), bytes);
    assert!(requests(&store, 0) >= 10);
    assert!(provider.peak.load(Ordering::Relaxed) >= 10);
    assert!(provider.largest.load(Ordering::Relaxed) < 1_100_000);
    // What one call gives wrong is asked of the next channel.
    let object = store.object(&content, 0);
    provider.damage(&object, 5_000_000);
    assert_eq!(read(&store, &content).unwrap(), bytes);
    assert_eq!(requests(&store, 1), 1);
}

#[test]
fn a_small_file_costs_its_groups_and_the_header_alone() {
    let mut store = FakeStore::new(1, 1 << 20);
    let before = store.put(&random(1, 300_000), 300_000);
    let bytes = random(2, 1000);
    let content = store.put(&bytes, 1000);
    store.put(&random(3, 300_000), 300_000);
    store.seal();
    assert_eq!(
        before.extents()[0].first.pack,
        content.extents()[0].first.pack
    );
    let fetch = store.fetch();
    let mut locator = Locator::new(&fetch, &store.index);
    let chunk = locator.find(chunks(&content).next().unwrap()).unwrap();
    let mut wanted = Wanted::default();
    chunk.want(&mut wanted);
    let fetched = fetch.read(wanted).unwrap();
    assert_eq!(Opener::new(&fetch).open(&fetched, &chunk).unwrap(), bytes);
    // Two groups at most, and the hashes that prove them.
    assert!(fetch.bytes_received() < 3 * GROUP_BYTES + 2048);
}

#[test]
fn layouts_and_dictionaries_that_are_not_at_hand_are_fetched() {
    let samples: Vec<Vec<u8>> = (0..500_u32)
        .map(|n| {
            format!(
                "{{\"name\": \"user {n}\", \"mail\": \"user{}@example.org\", \"active\": true}}",
                n * 7
            )
            .into_bytes()
        })
        .collect();
    let mut store = FakeStore::new(1, 1 << 20);
    store.use_dictionary(samples.iter().map(Vec::as_slice));
    let content = store.put(&samples[17], 1000);
    store.seal();
    store.index.layouts.clear();
    assert_eq!(read(&store, &content).unwrap(), samples[17]);
    // Table and trailer of two packs, the dictionary, the file.
    assert_eq!(requests(&store, 0), 6);
    store.index.dictionaries.clear();
    assert!(matches!(
        read(&store, &content),
        Err(FetchError::Unknown { .. })
    ));
}

#[test]
fn chunks_in_the_tail_take_no_request_and_moved_ones_are_followed() {
    let mut store = FakeStore::new(1, 1 << 20);
    let here = store.put_in_tail(b"a small change");
    assert_eq!(read(&store, &here).unwrap(), b"a small change");
    assert_eq!(requests(&store, 0), 0);
    let moved = store.put(b"another", 100);
    store.seal();
    let (from, to) = (
        chunks(&here).next().unwrap(),
        chunks(&moved).next().unwrap(),
    );
    store.index.moved.insert(from, to);
    assert_eq!(read(&store, &here).unwrap(), b"another");
}

#[test]
fn a_flipped_bit_costs_only_the_chunks_of_its_group() {
    let mut store = FakeStore::new(1, 1 << 20);
    let files: Vec<_> = (0..20)
        .map(|n| (random(n, 30_000), n))
        .map(|(bytes, _)| (store.put(&bytes, 30_000), bytes))
        .collect();
    store.seal();
    let object = store.object(&files[0].0, 0);
    store.channels[0].2.damage(&object, 200_000);
    let damaged: Vec<_> = (0..20)
        .filter(|n| match read(&store, &files[*n].0) {
            Ok(bytes) => {
                assert_eq!(bytes, files[*n].1);
                false
            }
            Err(FetchError::Lost { tried }) => {
                assert_eq!(tried.len(), 1, "{tried:?}");
                true
            }
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert!((1..=2).contains(&damaged.len()), "{damaged:?}");

    // And so when all of it is read at once.
    let fetch = store.fetch();
    let mut locator = Locator::new(&fetch, &store.index);
    let found: Vec<_> = files
        .iter()
        .flat_map(|(content, _)| chunks(content))
        .map(|chunk| locator.find(chunk).unwrap())
        .collect();
    let mut wanted = Wanted::default();
    for chunk in &found {
        chunk.want(&mut wanted);
    }
    let fetched = fetch.read(wanted).unwrap();
    let mut opener = Opener::new(&fetch);
    let lost: Vec<_> = (0..20)
        .filter(|n| opener.open(&fetched, &found[*n]).is_err())
        .collect();
    assert_eq!(lost, damaged);
}

#[test]
fn another_channel_gives_what_the_first_has_lost_or_cannot_give() {
    let mut store = FakeStore::new(2, 1 << 20);
    let bytes = random(1, 200_000);
    let content = store.put(&bytes, 50_000);
    store.seal();
    let object = store.object(&content, 0);
    store.channels[0].2.damage(&object, 70_000);
    assert_eq!(read(&store, &content).unwrap(), bytes);
    store.channels[0].2.packs.lock().unwrap().clear();
    assert_eq!(read(&store, &content).unwrap(), bytes);
    store.channels[0].2.is_away.store(true, Ordering::Relaxed);
    assert_eq!(read(&store, &content).unwrap(), bytes);
    store.channels[1].2.is_away.store(true, Ordering::Relaxed);
    assert!(matches!(
        read(&store, &content),
        Err(FetchError::Away { .. })
    ));
}

#[test]
fn two_channels_damaged_in_other_places_give_the_file_together() {
    let mut store = FakeStore::new(2, 1 << 20);
    let bytes = random(1, 400_000);
    let content = store.put(&bytes, 20_000);
    store.seal();
    for (channel, offset) in [(0, 50_000), (1, 300_000)] {
        let object = store.object(&content, channel);
        store.channels[channel].2.damage(&object, offset);
    }
    assert_eq!(read(&store, &content).unwrap(), bytes);
}

#[test]
fn a_pack_cut_short_or_another_in_its_place_is_refused() {
    let mut store = FakeStore::new(1, 256 * 1024);
    let bytes = random(1, 400_000);
    let content = store.put(&bytes, 50_000);
    store.seal();
    let objects: Vec<ObjectRef> = store.index.objects.values().copied().collect();
    let object = store.object(&content, 0);
    let other = *objects.iter().find(|other| **other != object).unwrap();
    let provider = &store.channels[0].2;
    let whole = provider.packs.lock().unwrap()[&object.root].clone();
    let swapped = provider.packs.lock().unwrap()[&other.root].clone();
    for wrong in [whole[..whole.len() - 4096].to_vec(), swapped] {
        provider.packs.lock().unwrap().insert(object.root, wrong);
        assert!(matches!(
            read(&store, &content),
            Err(FetchError::Lost { .. })
        ));
    }
    provider.packs.lock().unwrap().insert(object.root, whole);
    assert_eq!(read(&store, &content).unwrap(), bytes);
}
