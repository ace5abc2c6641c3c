//! The engine against a real provider that seems to be at the other end of a network: what is called, how often, what a cut leaves, and what other
//! machines do in between.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod journal;
mod kept;
mod overtaken;
mod retired;
mod scene;
mod silence;
mod spilled;

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, atomic::Ordering},
};

use maimo_client::{
    error::ClientError,
    progress::{Control, Event},
    retrieve::RetrieveRequest,
    store::StoreRequest,
};
use maimo_core::reference::ObjectRef;

use crate::scene::{Scene, noise};

#[test]
fn a_store_of_one_small_file_is_one_call() {
    let scene = Scene::new();
    scene.begin("home");
    for n in 0..3 {
        scene.write("files/small", &noise(n, 300));
        scene.far.wire.called();
        // In a process of its own each time: what it takes comes from disk.
        let mut client = scene.open("home");
        assert_eq!(scene.store(&mut client, "files").troubles.len(), 0);
        assert_eq!(scene.far.wire.called(), ["move_head"]);
        // And in one that goes on.
        scene.write("files/small", &noise(n + 100, 300));
        scene.store(&mut client, "files");
        assert_eq!(scene.far.wire.called(), ["move_head"]);
    }
}

#[test]
fn what_needs_packs_asks_first_what_others_have_stored() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut two = scene.join("two", words);
    let mut one = scene.open("one");
    for n in 0..4 {
        scene.write(&format!("a/{n}"), &noise(n, 2_000_000));
        scene.write(&format!("b/{n}"), &noise(n, 2_000_000));
    }
    assert!(scene.store(&mut one, "a").bytes_stored > 8_000_000);
    assert!(!scene.far.wire.sent().is_empty());
    let report = scene.store(&mut two, "b");
    assert_eq!(report.files_new, 4);
    assert_eq!(report.bytes_stored, 0);
    assert_eq!(scene.far.wire.sent(), []);
}

#[test]
fn a_pack_does_not_wait_for_answers_to_the_one_before_it() {
    let scene = Scene::new();
    scene.begin("home");
    let mut client = scene.open("home");
    for n in 0..40 {
        scene.write(&format!("files/{n}"), &noise(n, 1_000_000));
    }
    scene.far.wire.answer_late();
    let report = scene.store(&mut client, "files");
    assert_eq!(report.files_new, 40);
}

#[test]
fn a_little_that_another_machine_overtook_is_stored_on_top_of_it() {
    let scene = Scene::new();
    let words = scene.begin("one");
    let mut two = scene.join("two", words);
    let mut one = scene.open("one");
    scene.write("a/small", b"of one");
    scene.write("b/small", b"of two");
    scene.store(&mut one, "a");
    scene.far.wire.called();
    let report = scene.store(&mut two, "b");
    let called = scene.far.wire.called();
    assert_eq!(called.first(), Some(&"move_head"));
    assert!(called.contains(&"head"));
    scene.write("a/small", b"of one again");
    let last = scene.store(&mut one, "a");
    assert_eq!(last.sequence, report.sequence + 1);
    assert_eq!(one.status().unwrap().totals.files_present, 2);
}

#[test]
fn what_is_excluded_is_not_deleted_though_it_was_stored_before() {
    let scene = Scene::new();
    let words = scene.begin("home");
    let mut client = scene.open("home");
    assert!(client.verify_phrase(&words).unwrap());
    scene.write("files/goes", b"some bytes");
    scene.write("files/cache/stays", b"other bytes");
    scene.store(&mut client, "files");
    let request = StoreRequest {
        paths: vec![scene.home("files")],
        excludes: vec!["cache".to_owned()],
        delete_local: true,
        single_copy: true,
        ..StoreRequest::default()
    };
    let report = client.store(&request, &Control::default()).unwrap();
    assert_eq!(report.files_deleted, 1);
    assert!(!scene.home("files/goes").exists());
    assert!(scene.home("files/cache/stays").exists());
}

fn spooled(scene: &Scene) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(scene.home("home").join("spool")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// Cuts the way while 60 MB are being stored; returns the ranges that had arrived.
fn cut_off(scene: &Scene) -> Vec<(ObjectRef, u64)> {
    scene.begin("home");
    for n in 0..20 {
        scene.write(&format!("files/{n}"), &noise(n, 3_000_000));
    }
    let mut client = scene.open("home");
    scene.far.wire.cut_after.store(21, Ordering::Relaxed);
    scene.far.wire.sent();
    let cut = scene.try_store(&mut client, "files").unwrap_err();
    assert!(matches!(cut, ClientError::Provider { .. }), "{cut}");
    scene.far.wire.cut_after.store(0, Ordering::Relaxed);
    let sent = scene.far.wire.sent();
    assert_eq!(sent.len(), 20);
    sent
}

#[test]
fn what_was_cut_off_is_sent_on_and_nothing_twice() {
    let scene = Scene::new();
    let before = cut_off(&scene);
    assert!(!spooled(&scene).is_empty());
    let mut client = scene.open("home");
    let report = scene.store(&mut client, "files");
    assert_eq!(report.files_new, 20);
    let mut all = before;
    all.extend(scene.far.wire.sent());
    let ranges = all.len();
    // 60 MB, the journal, and little else.
    assert!((58..64).contains(&ranges), "{ranges}");
    all.sort_unstable_by_key(|(pack, offset)| (pack.root.0, *offset));
    all.dedup();
    assert_eq!(all.len(), ranges);
    assert_eq!(spooled(&scene), Vec::<PathBuf>::new());
    let to = scene.home("back");
    let request = RetrieveRequest {
        paths: vec![scene.home("files")],
        to: to.clone(),
        ..RetrieveRequest::default()
    };
    client.retrieve(&request, &Control::default()).unwrap();
    let back = to.join(scene.home("files/7").strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(back).unwrap(), noise(7, 3_000_000));
}

#[test]
fn a_damaged_pack_in_the_spool_is_discarded_and_told() {
    let scene = Scene::new();
    cut_off(&scene);
    for (n, path) in spooled(&scene).into_iter().enumerate() {
        let mut bytes = std::fs::read(&path).unwrap();
        if n % 2 == 0 {
            bytes[1000] ^= 1;
        } else {
            bytes.pop();
        }
        std::fs::write(&path, bytes).unwrap();
    }
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let control = Control::new(move |event| {
        if let Event::Notice(text) = event {
            heard.lock().unwrap().push(text);
        }
    });
    let request = StoreRequest {
        paths: vec![scene.home("files")],
        ..StoreRequest::default()
    };
    let mut client = scene.open("home");
    let report = client.store(&request, &control).unwrap();
    assert_eq!(report.files_new, 20);
    let told = told.lock().unwrap();
    assert!(
        told.iter().any(|text| text.contains("damaged here")),
        "{told:?}"
    );
    assert_eq!(spooled(&scene), Vec::<PathBuf>::new());
}
