//! A few hundred histories of fixed seeds and some of fresh ones. A failing seed is printed; `maimo-sim histories SEED 1` (or `faults SEED 1`)
//! plays it again.

use maimo_sim::history::{play_all, play_all_faulty};

#[test]
fn no_history_of_a_fixed_seed_breaks_an_invariant() {
    let tally = play_all(0..200).unwrap();
    // The model is worth something only if it gets to where things go wrong.
    assert!(tally.heads > 3000, "{tally:?}");
    assert!(tally.crashes > 1000, "{tally:?}");
    assert!(tally.races > 200, "{tally:?}");
    assert!(tally.images > 50, "{tally:?}");
    assert!(tally.unlinked > 200, "{tally:?}");
    assert!(tally.full > 50, "{tally:?}");
}

#[test]
fn no_fault_of_a_fixed_seed_goes_unseen_or_unrepaired() {
    let seen = play_all_faulty(0..300).unwrap();
    assert!(seen.damaged > 30, "{seen:?}");
    assert!(seen.astray > 100, "{seen:?}");
    assert!(seen.repaired > 60, "{seen:?}");
    assert!(seen.lost > 20, "{seen:?}");
}

#[test]
fn no_history_of_a_fresh_seed_breaks_an_invariant() {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = since.as_secs() << 20;
    play_all(seed..seed + 30).unwrap();
    play_all_faulty(seed..seed + 60).unwrap();
}
