//! The journal's segments as they are kept here are a view of the provider's: what is torn of them is fetched again, and is never taken for nothing.

use std::{fs, path::PathBuf};

use maimo_client::{
    browse::ListRequest,
    client::{Client, InitOptions},
    error::ClientError,
    progress::Control,
    recover::RecoverRequest,
    retrieve::RetrieveRequest,
};

use crate::scene::{Scene, noise};

/// Returns the segments that are kept here, the oldest first.
fn segments(scene: &Scene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.home("one").join("journal")).unwrap();
    let mut segments: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    segments.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    segments
}

fn tear(path: &PathBuf) {
    let mut bytes = fs::read(path).unwrap();
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn names(client: &Client) -> usize {
    let request = ListRequest {
        source: maimo_client::browse::WhichSource::All,
        ..ListRequest::default()
    };
    let mut count = 0;
    client
        .list(&request, |_| {
            count += 1;
            true
        })
        .unwrap();
    count
}

#[test]
fn a_segment_that_cannot_be_read_does_not_vanish_in_a_merge() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut one = scene.open("one");
    let mut n = 0;
    while segments(&scene).len() < 15 {
        assert!(n < 100, "{} segments", segments(&scene).len());
        for m in 0..200 {
            scene.write(&format!("a/{n}/{m}"), &noise(n * 1_000 + m, 300));
        }
        scene.store(&mut one, "a");
        n += 1;
    }
    // The merge finds the newest torn and fetches it; meanwhile the oldest, read already, is torn too.
    for m in 0..200 {
        scene.write(&format!("a/{n}/{m}"), &noise(n * 1_000 + m, 300));
    }
    let all = segments(&scene);
    tear(&all[14]);
    let oldest = all[0].clone();
    scene.far.wire.before("read", move || tear(&oldest));
    let torn = scene.try_store(&mut one, "a").unwrap_err();
    assert!(matches!(torn, ClientError::Corrupt(_)), "{torn}");
    assert!(scene.far.wire.is_over());
    // Nothing of it is missing for another machine, and the next run here merges.
    let two = scene.join("two", words);
    let expected = usize::try_from((n + 1) * 200).unwrap();
    assert!(names(&two) >= expected);
    drop(two);
    scene.store(&mut one, "a");
    assert!(segments(&scene).len() < 15);
}

/// What names chunks of the tail from outside stands behind it in the catalog. Before, a spill replayed the whole journal: in a store of a million
/// files that took longer than all else of a commit.
#[test]
fn a_tail_spills_without_a_look_at_the_journal_and_all_that_names_its_chunks_is_led_on() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut one = scene.open("one");
    let many = |folder: &str, seed: u64| {
        for m in 0..200 {
            scene.write(&format!("{folder}/{m}"), &noise(seed + m, 300));
        }
    };
    many("a", 1_000);
    scene.store(&mut one, "a");
    // Goes into the tail; its copy is in a segment, whose pack has nothing of it.
    scene.write("b/small", &noise(1, 300));
    scene.store(&mut one, "b");
    many("c", 2_000);
    scene.write("c/copy", &noise(1, 300));
    scene.store(&mut one, "c");
    segments(&scene).iter().for_each(tear);
    scene.far.wire.called();
    let mut n = 0;
    loop {
        scene.write(&format!("d/{n}"), &noise(3_000 + n, 300));
        scene.store(&mut one, "d");
        let called = scene.far.wire.called();
        assert!(!called.contains(&"read"), "{called:?}");
        if called.contains(&"put") {
            break;
        }
        n += 1;
        assert!(n < 40, "nothing spills");
    }
    let mut two = scene.join("two", words.clone());
    assert_back(&scene, &mut two);
    // The pack that the tail spilled into tells of the copy too.
    let options = InitOptions {
        phrase: Some(words.into()),
        ..InitOptions::default()
    };
    Client::init(&scene.home("three"), &options).unwrap();
    let mut three = scene.open("three");
    let request = RecoverRequest {
        address: scene.address(),
        root: None,
        from_packs: true,
    };
    let report = three.recover(&request, &Control::default()).unwrap();
    assert_eq!((report.files, report.unreadable), (403 + n, 0));
}

fn assert_back(scene: &Scene, client: &mut Client) {
    let to = scene.home("back");
    let request = RetrieveRequest {
        paths: ["b", "c", "d"].map(|folder| scene.home(folder)).into(),
        to: to.clone(),
        source: Some("one".to_owned()),
        ..RetrieveRequest::default()
    };
    let back = client.retrieve(&request, &Control::default()).unwrap();
    assert_eq!(back.errors, 0, "{:?}", back.failures);
    let inside = to.join(scene.home("").strip_prefix("/").unwrap());
    for name in ["b/small", "c/copy", "c/7", "d/0", "d/3"] {
        let was = fs::read(scene.home(name)).unwrap();
        assert_eq!(fs::read(inside.join(name)).unwrap(), was, "{name}");
    }
}
