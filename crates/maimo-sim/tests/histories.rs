//! A few hundred histories of fixed seeds and some of fresh ones. A failing seed is printed; `histories SEED 1` plays it again.

use maimo_sim::history::play_all;

#[test]
fn no_history_of_a_fixed_seed_breaks_an_invariant() {
    let tally = play_all(0..300).unwrap();
    // The model is worth something only if it gets to where things go wrong.
    assert!(tally.heads > 1000, "{tally:?}");
    assert!(tally.crashes > 200, "{tally:?}");
    assert!(tally.races > 100, "{tally:?}");
    assert!(tally.images > 20, "{tally:?}");
    assert!(tally.unlinked > 20, "{tally:?}");
    assert!(tally.full > 5, "{tally:?}");
}

#[test]
fn no_history_of_a_fresh_seed_breaks_an_invariant() {
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = since.as_secs() << 20;
    play_all(seed..seed + 50).unwrap();
}
