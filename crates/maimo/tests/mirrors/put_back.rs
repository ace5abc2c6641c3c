//! A provider put back to an image of before its channel was made the first: it shows a layout by which another one decides.

use std::{fs, path::Path, process::Command};

use maimo_client::{
    audit::AuditResult,
    client::Client,
    error::ClientError,
    progress::Control,
    repair::{RepairReport, RepairRequest},
    store::StoreRequest,
};

use crate::{Scene, intact, noise};

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.unwrap().success());
}

fn image(scene: &Scene, disk: &str) {
    copy(&scene.path(disk), &scene.path("image"));
}

fn put_back(scene: &Scene, disk: &str) {
    fs::remove_dir_all(scene.path(disk)).unwrap();
    copy(&scene.path("image"), &scene.path(disk));
}

fn repair(client: &mut Client, channel: &str) -> RepairReport {
    let request = RepairRequest {
        channel: channel.to_owned(),
        ..RepairRequest::default()
    };
    client.repair(&request, &Control::default()).unwrap()
}

fn is_astray(error: &ClientError) -> bool {
    matches!(error, ClientError::Astray { channel, .. } if channel == "b")
}

/// Some files on `a` and its mirror `b`, an image of `b`; then `b` is made the first and takes more.
fn made_first_after_an_image() -> Scene {
    let scene = Scene::new();
    let mut client = scene.open();
    let control = Control::default();
    scene.write("old", &noise(1, 400_000));
    scene.store(&mut client);
    client.mirror("a", "b", &control).unwrap();
    drop(client);
    image(&scene, "b");
    let mut client = scene.open();
    client.make_first("b", &control).unwrap();
    scene.write("new", &noise(2, 900_000));
    scene.write("tiny", b"rides in the tail");
    scene.store(&mut client);
    scene
}

/// Expects that `b` decides, that both have everything, and that a new machine finds it by either.
fn all_is_well(scene: &Scene, client: &mut Client) {
    scene.write("after", &noise(3, 60_000));
    let stored = scene.store(client);
    assert_eq!(stored.roots[0].0, "b");
    assert!(stored.behind.is_empty(), "{:?}", stored.behind);
    let intact = intact(client);
    assert!(
        intact
            .iter()
            .all(|(_, result)| *result == AuditResult::Intact),
        "{intact:?}"
    );
}

fn each_has_all(scene: &Scene) {
    for lost in ["a", "b"] {
        scene.unplug(lost);
        let to = format!("without {lost}");
        assert_eq!(scene.retrieved(&mut scene.open(), &to), scene.files());
        scene.plug_in(lost);
    }
}

fn is_told_and_brings_it_back(scene: &Scene) {
    let mut client = scene.open();
    assert!(is_astray(&scene.try_store(&mut client).unwrap_err()));
    assert!(repair(&mut client, "b").astray.unwrap().lost.is_empty());
    all_is_well(scene, &mut client);
    drop(client);
    each_has_all(scene);
}

#[test]
fn a_first_that_shows_what_it_was_before_it_decided_is_brought_back() {
    let scene = made_first_after_an_image();
    put_back(&scene, "b");
    let mut client = scene.open();
    assert!(is_astray(&scene.try_store(&mut client).unwrap_err()));
    drop(client);
    let mut client = scene.open();
    let report = repair(&mut client, "b");
    let astray = report.astray.unwrap();
    assert!(astray.has_evidence && astray.lost.is_empty(), "{astray:?}");
    all_is_well(&scene, &mut client);
    drop(client);
    each_has_all(&scene);
}

#[test]
fn a_first_that_shows_nothing_any_more_is_brought_back() {
    let scene = Scene::new();
    image(&scene, "b");
    let mut client = scene.open();
    let control = Control::default();
    scene.write("old", &noise(1, 400_000));
    scene.store(&mut client);
    client.mirror("a", "b", &control).unwrap();
    client.make_first("b", &control).unwrap();
    drop(client);
    put_back(&scene, "b");
    is_told_and_brings_it_back(&scene);
}

/// It has seen nothing of that channel since, or never anything at all: what the other one shows tells it.
#[test]
fn a_machine_that_never_saw_it_decide_finds_out_and_brings_it_back() {
    for is_new in [false, true] {
        let scene = Scene::new();
        let mut client = scene.open();
        let control = Control::default();
        scene.write("old", &noise(1, 400_000));
        scene.store(&mut client);
        client.mirror("a", "b", &control).unwrap();
        drop(client);
        image(&scene, "b");
        if !is_new {
            scene.join("other", "a");
        }
        let mut client = scene.open();
        client.make_first("b", &control).unwrap();
        scene.write("new", &noise(2, 900_000));
        scene.store(&mut client);
        drop(client);
        if is_new {
            scene.unplug("b");
            scene.join("other", "a");
            scene.plug_in("b");
        }
        put_back(&scene, "b");

        let theirs = scene.path("theirs");
        fs::create_dir(&theirs).unwrap();
        fs::write(theirs.join("file"), noise(9, 50_000)).unwrap();
        let request = StoreRequest {
            paths: vec![theirs],
            ..StoreRequest::default()
        };
        let mut other = scene.open_home("other");
        let told = other.store(&request, &control).unwrap_err();
        assert!(is_astray(&told), "{told}");
        let astray = repair(&mut other, "b").astray.unwrap();
        assert!(!astray.has_evidence && astray.lost.is_empty(), "{astray:?}");
        other.store(&request, &control).unwrap();
        drop(other);
        // The head that this machine saw there is on another branch.
        is_told_and_brings_it_back(&scene);
    }
}

#[test]
fn a_channel_that_was_away_while_a_machine_recovered_is_called_by_its_name() {
    let scene = made_first_after_an_image();
    scene.unplug("b");
    scene.join("other", "a");
    scene.plug_in("b");
    let mut other = scene.open_home("other");
    let report = other.make_first("b", &Control::default()).unwrap();
    assert_eq!(report.channels[0].0, "b");
    let report = other.make_first("a", &Control::default()).unwrap();
    assert_eq!(report.channels[0].0, "a");
}
