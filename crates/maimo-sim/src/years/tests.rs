use super::*;

/// Seconds instead of minutes: what the targets are at this scale is below each.
fn small() -> Table {
    let scale = Scale {
        home: home::Scale {
            files: 1500,
            days: 40,
            edits: 40,
        },
        tiny: tiny::Scale {
            files: 6000,
            days: 70,
            likeness: 333,
        },
        minutely_days: 3,
        fresh_files: 20_000,
    };
    run(7, scale)
}

#[test]
fn the_years_keep_to_their_targets_at_a_small_scale() {
    let table = small();
    // A small journal has the head, the commit and half-empty blocks beside it; a day's thirty tiny files have a pack's.
    let by_scale = [
        "a recovery against the live journal, mean",
        "tiny files: write amplification",
    ];
    let missed: Vec<String> = table
        .missed()
        .into_iter()
        .filter(|name| !by_scale.iter().any(|known| name.ends_with(known)))
        .collect();
    assert_eq!(missed, [""; 0], "{table}");
    assert!(table.tiny.write_amplification() < 1.75, "{table}");
    assert!(table.home.recovery_ratio.mean() < 1.2, "{table}");
    assert!(table.tiny.recovery_ratio.mean() < 1.2, "{table}");
    assert!(table.minutely.recovery_ratio.mean() < 1.3, "{table}");
    // What a store waits for is its own and no merge: the daemon's tail, when it spills, and the packs it spills into.
    assert!(
        table.minutely.waited_later_bytes.worst() < 32.0 * 1024.0,
        "{table}"
    );
}
