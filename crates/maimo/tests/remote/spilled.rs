//! The tail leaves the commit for packs in whatever command fills it up.

use maimo_client::{client::Client, dump::DumpRequest, progress::Control, prune::PruneRequest};

use crate::{
    overtaken::LAST,
    scene::{Scene, noise},
};

/// A prune's head names what is needed and nothing else: what its own commit has moved out of the tail is needed too.
#[test]
fn a_prune_that_fills_the_tail_keeps_what_was_in_it() {
    const FILES: u64 = 300;
    let scene = Scene::new();
    scene.begin("one");
    let mut one = scene.open("one");
    let control = Control::default();
    one.keep("", Some(LAST), &control).unwrap();
    // Small enough for the tail, and nothing else that rides there but what prunes let go of: a spill is of a prune.
    let small = noise(0, 2_000);
    scene.write("a/small", &small);
    scene.store(&mut one, "a");
    // What rides in the tail came with the commit; what has left it must be asked for.
    let is_asked_for = |one: &mut Client| {
        scene.far.wire.called();
        let request = DumpRequest {
            path: scene.home("a/small"),
            ..DumpRequest::default()
        };
        let mut found = Vec::new();
        one.dump(&request, &mut found, &control).unwrap();
        assert_eq!(found, small);
        scene.far.wire.called().contains(&"read")
    };
    for round in 1..20 {
        // Files changed here and there, so that their older revisions are no range.
        for n in (0..FILES).filter(|n| noise(round * FILES + n, 1)[0].is_multiple_of(2)) {
            scene.write(&format!("a/many/{n}"), &round.to_le_bytes());
        }
        scene.store(&mut one, "a");
        assert!(!is_asked_for(&mut one), "a store has filled the tail");
        one.prune(PruneRequest::default(), &control).unwrap();
        if is_asked_for(&mut one) {
            return;
        }
    }
    panic!("no prune has filled the tail");
}
