//! Another machine's commit comes in between: what was to be deleted, kept or brought back is held against the state that it made.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use maimo_client::{
    audit::{AuditResult, Sample},
    browse::{FileReport, ListRequest, WhichSource},
    client::Client,
    dump::DumpRequest,
    progress::{Control, Event, Phase},
    prune::PruneRequest,
    revise::RemoveRequest,
    store::{StoreReport, StoreRequest},
    undelete::UndeleteRequest,
    verify::VerifyRequest,
};
use maimo_vault::{journal::state::Presence, retention::Policy};

use crate::scene::{Scene, noise};

pub(crate) const LAST: Policy = Policy {
    last: 1,
    hourly: 0,
    daily: 0,
    weekly: 0,
    monthly: 0,
    yearly: 0,
    within_ms: 0,
    revisions: 0,
};

/// Two machines of one store; the first may delete what it has stored.
fn two_machines() -> (Scene, Client, Client) {
    two_machines_of(Scene::new())
}

fn two_machines_of(scene: Scene) -> (Scene, Client, Client) {
    let words = scene.begin("one");
    let two = scene.join("two", words.clone());
    let one = scene.open("one");
    assert!(one.verify_phrase(&words).unwrap());
    (scene, one, two)
}

/// Stores a folder and deletes it; the other machine's doing comes in between, once all is proven and before the first machine says what it
/// deletes.
fn delete_overtaken(
    scene: &Scene,
    one: &mut Client,
    meanwhile: impl FnOnce() + Send + 'static,
) -> StoreReport {
    let wire = Arc::clone(&scene.far.wire);
    let meanwhile = Mutex::new(Some(meanwhile));
    let control = Control::new(move |event| {
        if matches!(event, Event::Phase(Phase::Proving))
            && let Some(meanwhile) = meanwhile.lock().unwrap().take()
        {
            wire.before("move_head", meanwhile);
        }
    });
    let request = StoreRequest {
        paths: vec![scene.home("a")],
        delete_local: true,
        single_copy: true,
        ..StoreRequest::default()
    };
    let report = one.store(&request, &control).unwrap();
    assert!(scene.far.wire.is_over());
    report
}

fn remove(client: &mut Client, path: &Path, revision: Option<u64>) {
    let request = RemoveRequest {
        paths: vec![path.to_str().unwrap().to_owned()],
        revision,
        source: WhichSource::Named("one".to_owned()),
        dry_run: false,
    };
    client.remove(&request, &Control::default()).unwrap();
}

fn presence(client: &Client, path: &Path) -> Presence {
    let request = ListRequest {
        patterns: vec![path.to_str().unwrap().to_owned()],
        all: true,
        ..ListRequest::default()
    };
    let mut found = None;
    let first = |file: FileReport| {
        found = Some(file.state);
        false
    };
    client.list(&request, first).unwrap();
    found.unwrap()
}

#[test]
fn what_another_machine_removes_meanwhile_is_not_deleted_here() {
    let (scene, mut one, mut two) = two_machines();
    scene.write("a/goes", b"some bytes");
    scene.write("a/removed", b"other bytes");
    scene.write("a/forgotten", b"more bytes");
    scene.store(&mut one, "a");
    let (removed, forgotten) = (scene.home("a/removed"), scene.home("a/forgotten"));
    let report = delete_overtaken(&scene, &mut one, move || {
        remove(&mut two, &removed, None);
        remove(&mut two, &forgotten, Some(1));
        two.prune(PruneRequest::default(), &Control::default())
            .unwrap();
    });
    assert_eq!(report.files_deleted, 1, "{:?}", report.troubles);
    assert_eq!(report.troubles.len(), 2, "{:?}", report.troubles);
    assert!(!scene.home("a/goes").exists());
    assert!(scene.home("a/removed").exists());
    assert!(scene.home("a/forgotten").exists());
    // What the other machine wanted stands, until a run here finds the files again.
    assert_eq!(presence(&one, &scene.home("a/removed")), Presence::Removed);
}

/// Damages the largest pack that the provider holds.
fn damage_largest_pack(scene: &Path) {
    let mut waiting = vec![scene.join("disk")];
    let mut largest: Option<(u64, PathBuf)> = None;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(path).unwrap();
            waiting.extend(entries.map(|entry| entry.unwrap().path()));
        } else if !path.to_str().unwrap().contains("ledger") {
            largest = largest.max(Some((fs::metadata(&path).unwrap().len(), path)));
        }
    }
    let (length, path) = largest.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[usize::try_from(length / 2).unwrap()] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[test]
fn what_another_machine_packs_anew_meanwhile_is_proven_anew() {
    // So many small packs are joined by a prune.
    const FILES: u64 = 17;
    for is_held in [true, false] {
        let (scene, mut one, mut two) = two_machines();
        for n in 0..FILES {
            scene.write(&format!("a/{n}"), &noise(n, 100_000));
            scene.store(&mut one, "a");
        }
        let folder = scene.home("");
        let report = delete_overtaken(&scene, &mut one, move || {
            let pruned = two.prune(PruneRequest::default(), &Control::default());
            assert_eq!(pruned.unwrap().packs_rewritten, FILES);
            if !is_held {
                damage_largest_pack(&folder);
            }
        });
        let deleted = if is_held { FILES } else { 0 };
        assert_eq!(report.files_deleted, deleted, "{:?}", report.troubles);
        let troubles = report.troubles.len() as u64;
        assert_eq!(troubles, FILES - deleted, "{:?}", report.troubles);
        assert_eq!(scene.home("a/0").exists(), !is_held);
    }
}

#[test]
fn a_run_that_another_machine_lets_go_of_meanwhile_is_not_pinned_empty() {
    let (scene, mut one, mut two) = two_machines();
    let control = Control::default();
    for version in 0..2 {
        scene.write("a/file", &noise(version, 1_000_000));
        scene.store(&mut one, "a");
    }
    one.keep("", Some(LAST), &control).unwrap();
    let first = one.runs().unwrap().remove(0).run;
    scene.far.wire.before("move_head", move || {
        let pruned = two.prune(PruneRequest::default(), &Control::default());
        assert_eq!(pruned.unwrap().runs_dropped, 1);
    });
    let refused = one.pin(&first, true, &control).unwrap_err();
    assert!(scene.far.wire.is_over());
    assert!(refused.to_string().contains("let go"), "{refused}");
    assert!(one.runs().unwrap().iter().all(|run| !run.pinned));
}

#[test]
fn what_another_machine_spills_without_its_being_kept_is_brought_back() {
    let (scene, mut one, mut two) = two_machines();
    let control = Control::default();
    for version in 0..2 {
        scene.write("a/large", &noise(version, 1_000_000));
        scene.store(&mut one, "a");
        // Rides in the tail.
        scene.write("a/small", &noise(10 + version, 2_000));
        scene.store(&mut one, "a");
    }
    one.keep("", Some(LAST), &control).unwrap();
    one.prune(PruneRequest::default(), &control).unwrap();
    let small = scene.home("a/small");
    let history = |one: &Client| one.history(&small, &WhichSource::Own).unwrap();
    assert_eq!(history(&one).len(), 1);
    let folder = scene.home("b");
    scene.far.wire.before("move_head", move || {
        fs::create_dir(&folder).unwrap();
        // Until the tail is written into packs.
        for n in 0..6 {
            fs::write(folder.join(n.to_string()), noise(100 + n, 2_000)).unwrap();
            let request = StoreRequest {
                paths: vec![folder.clone()],
                ..StoreRequest::default()
            };
            two.store(&request, &Control::default()).unwrap();
        }
    });
    let back = one.undelete(UndeleteRequest::default(), &control).unwrap();
    assert!(scene.far.wire.is_over());
    assert_eq!(back.lost, 0);
    assert_eq!(history(&one).len(), 2);
    let large = one.history(&scene.home("a/large"), &WhichSource::Own);
    assert_eq!(large.unwrap().len(), 2);
    for known in history(&one) {
        let request = DumpRequest {
            path: small.clone(),
            revision: Some(known.revision),
            ..DumpRequest::default()
        };
        let mut found = Vec::new();
        one.dump(&request, &mut found, &control).unwrap();
        assert!(
            found == noise(9 + known.revision, 2_000),
            "{}",
            known.revision
        );
    }
}

/// The proof that a head descends from the last one seen is of the head that is the newest when it is asked for.
#[test]
fn a_machine_that_goes_on_while_another_reads_is_no_fork() {
    let (scene, mut one, mut two) = two_machines();
    scene.write("a/file", b"of one");
    scene.store(&mut one, "a");
    let folder = scene.home("b");
    let control = Control::default();
    let mut stored = 0;
    let mut go_on = move || {
        stored += 1;
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(stored.to_string()), b"of two").unwrap();
        let request = StoreRequest {
            paths: vec![folder.clone()],
            ..StoreRequest::default()
        };
        two.store(&request, &control).unwrap();
    };
    go_on();
    scene.far.wire.before("prove", go_on);
    scene.write("a/file", b"of one again");
    scene.store(&mut one, "a");
    assert!(scene.far.wire.is_over());
    // What either has stored is known here.
    for path in ["a/file", "b/1", "b/2"] {
        let known = one.history(&scene.home(path), &WhichSource::All).unwrap();
        assert!(!known.is_empty(), "{path}");
    }
}

/// Where there is no grace, the head that is being audited is gone with the next.
#[test]
fn a_state_that_another_machine_replaces_while_it_is_audited_is_not_missing() {
    for sample in [Sample::default(), Sample::Everything] {
        let (scene, mut one, mut two) = two_machines_of(Scene::without_grace());
        let control = Control::default();
        for n in 0..2 {
            scene.write(&format!("a/{n}"), &noise(n, 100_000));
            scene.store(&mut one, "a");
        }
        let file = scene.home("a/1");
        let before = match sample {
            Sample::Everything => "read",
            _ => "audit",
        };
        let far = Arc::clone(&scene.far);
        scene.far.wire.before(before, move || {
            remove(&mut two, &file, None);
            two.prune(PruneRequest::default(), &Control::default())
                .unwrap();
            far.sweep();
        });
        let request = VerifyRequest {
            sample,
            ..VerifyRequest::default()
        };
        let audits = one.verify(&request, &control).unwrap();
        assert!(scene.far.wire.is_over());
        assert_eq!(audits[0].result, AuditResult::Intact, "{audits:?}");
        assert_eq!(audits[0].strata.len(), 2, "{audits:?}");
        assert!(one.verify(&request, &control).unwrap()[0].detail.is_none());
    }
}
