//! The journal's segments as they are kept here are a view of the provider's: what is torn of them is fetched again, and is never taken for nothing.

use std::{fs, path::PathBuf};

use maimo_client::{browse::ListRequest, client::Client, error::ClientError};

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
