//! A dictionary that another device retires, where nothing that is let go of is held on to.

use std::sync::{Arc, Mutex};

use maimo_client::{
    audit::AuditResult, dump::DumpRequest, progress::Control, prune::PruneRequest,
    verify::VerifyRequest,
};
use maimo_vault::retention::Policy;

use crate::scene::{Scene, noise};

/// What a program writes down.
fn log(seed: u64) -> Vec<u8> {
    let ids = noise(seed, 40);
    let lines = ids.iter().map(|id| {
        format!("{{\"level\": \"info\", \"logger\": \"org.example.http\", \"id\": {id}, \"at\": {seed}}},\n")
    });
    lines.collect::<String>().into_bytes()
}

/// What was compressed with it here would never open: it is made again without.
#[test]
fn what_was_stored_with_a_dictionary_that_is_freed_meanwhile_is_made_again() {
    let scene = Scene::without_grace();
    let words = scene.begin("home");
    let mut home = scene.open("home");
    for seed in 0..500 {
        scene.write(&format!("files/{seed}"), &log(seed));
    }
    scene.store(&mut home, "files");
    let policy = Policy {
        last: 1,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        within_ms: 0,
        revisions: 0,
    };
    home.keep("", Some(policy), &Control::default()).unwrap();
    for seed in 0..500 {
        std::fs::remove_file(scene.home(&format!("files/{seed}"))).unwrap();
    }
    scene.store(&mut home, "files");
    let mut other = scene.join("other", words);
    for seed in 1000..1300 {
        scene.write(&format!("others/{seed}"), &log(seed));
    }
    let home = Arc::new(Mutex::new(home));
    let (pruning, far) = (Arc::clone(&home), Arc::clone(&scene.far));
    scene.far.wire.before("move_head", move || {
        let mut home = pruning.lock().unwrap();
        let pruned = home.prune(PruneRequest::default(), &Control::default());
        assert_eq!(pruned.unwrap().dictionaries_retired, 1);
        far.sweep();
    });
    let stored = scene.store(&mut other, "others");
    assert!(scene.far.wire.is_over());
    assert_eq!(stored.files_new, 300);
    for client in [&mut other, &mut *home.lock().unwrap()] {
        let audits = client.verify(&VerifyRequest::default(), &Control::default());
        assert_eq!(audits.unwrap()[0].result, AuditResult::Intact);
        for seed in [1000, 1299] {
            let mut bytes = Vec::new();
            let dump = DumpRequest {
                path: scene.home(&format!("others/{seed}")),
                source: Some("other".to_owned()),
                ..DumpRequest::default()
            };
            client.dump(&dump, &mut bytes, &Control::default()).unwrap();
            assert!(bytes == log(seed), "file {seed} came back wrong");
        }
    }
}
