use proptest::prelude::*;

use super::*;
use crate::id::RootHash;

const HOUR: u64 = 3_600_000;

fn reference(groups: u64) -> ObjectRef {
    ObjectRef {
        root: RootHash([7; 32]),
        length: groups * 16384,
    }
}

fn uploaded(groups: u64, date: u64) -> HeldPack {
    HeldPack::uploaded(reference(groups), PackClass::Data, Timestamp(date))
}

fn live(groups: u32, runs: impl IntoIterator<Item = Range<u32>>) -> LiveMap {
    LiveMap::from_runs(groups, runs).unwrap()
}

fn waits(groups: Range<u32>, date: u64) -> Extent {
    Extent {
        groups,
        hold: Hold::FreeAfter(Timestamp(date)),
    }
}

fn lives(groups: Range<u32>) -> Extent {
    Extent {
        groups,
        hold: Hold::Live,
    }
}

#[test]
fn naming_some_groups_leaves_the_rest_waiting_for_their_date() {
    let pack = uploaded(10, 50).with_live(&live(10, [2..4, 8..10]), Timestamp(99));
    assert_eq!(
        pack.extents(),
        [waits(0..2, 50), lives(2..4), waits(4..8, 50), lives(8..10)]
    );
    assert!(pack.is_named());
    assert_eq!(pack.live(), live(10, [2..4, 8..10]));
    assert_eq!(pack.next_date(), Some(Timestamp(50)));
}

#[test]
fn what_is_let_go_gets_a_date_and_what_is_named_again_loses_it() {
    let pack = uploaded(10, 50)
        .with_live(&LiveMap::full(10), Timestamp(0))
        .with_live(&live(10, [0..5, 6..10]), Timestamp(60))
        .with_live(&live(10, [0..4, 6..10]), Timestamp(70));
    assert_eq!(
        pack.extents(),
        [lives(0..4), waits(4..5, 70), waits(5..6, 60), lives(6..10)]
    );
    let again = pack.with_live(&LiveMap::full(10), Timestamp(80));
    assert_eq!(again.extents(), [lives(0..10)]);
}

#[test]
fn a_group_is_freed_at_its_date_and_not_a_millisecond_before() {
    let pack = uploaded(10, 50).with_live(&live(10, [0..5, 6..10]), Timestamp(0));
    let (kept, freed) = pack.swept(Timestamp(49));
    assert_eq!((kept, freed), (pack.clone(), LiveMap::empty(10)));
    let (kept, freed) = pack.swept(Timestamp(50));
    assert_eq!(freed, live(10, [5..6, 5..6]));
    assert_eq!(kept.extents(), [lives(0..5), lives(6..10)]);
    assert_eq!(kept.swept(Timestamp(u64::MAX)).1, LiveMap::empty(10));
}

#[test]
fn an_endless_grace_is_never_over() {
    let pack = HeldPack::uploaded(reference(3), PackClass::Data, ENDLESS);
    assert_eq!(pack.swept(Timestamp(u64::MAX)).0, pack);
    assert_eq!(pack.next_date(), None);
}

#[test]
fn what_is_freed_is_not_brought_back_by_naming_it_but_by_uploading_it() {
    let (pack, _) = uploaded(10, 50)
        .with_live(&live(10, [0..5, 8..10]), Timestamp(0))
        .swept(Timestamp(50));
    let named = pack.with_live(&LiveMap::full(10), Timestamp(60));
    assert_eq!(named.extents(), [lives(0..5), lives(8..10)]);
    let again = named
        .with_live(&live(10, [0..3, 3..5]), Timestamp(60))
        .with_upload(Timestamp(55));
    assert_eq!(
        again.extents(),
        [lives(0..5), waits(5..8, 55), waits(8..10, 60)]
    );
    assert!(again.held().is_full());
}

#[test]
fn a_pack_with_nothing_left_is_gone() {
    let (pack, freed) = uploaded(10, 50).swept(Timestamp(50));
    assert!(pack.is_gone() && freed.is_full());
}

#[test]
fn rows_that_contradict_one_another_are_no_pack() {
    let from = |extents: &[Extent]| {
        HeldPack::from_extents(reference(10), PackClass::Vital, extents.to_vec())
    };
    let pack = from(&[lives(0..2), waits(2..4, 5), lives(9..10)]).unwrap();
    assert_eq!(pack.class(), PackClass::Vital);
    assert_eq!(
        from(&[lives(0..2), lives(2..4)]).unwrap().extents(),
        [lives(0..4)]
    );
    assert_eq!(from(&[lives(0..2), waits(1..4, 5)]), None);
    assert_eq!(from(&[lives(4..5), waits(1..2, 5)]), None);
    assert_eq!(from(&[lives(3..3)]), None);
    assert_eq!(from(&[lives(9..11)]), None);
}

/// Lets go of one group after the other, each `apart` milliseconds after the last.
fn let_go_one_by_one(groups: u32, apart: u64) -> HeldPack {
    let full = uploaded(groups.into(), 0).with_live(&LiveMap::full(groups), Timestamp(0));
    (1..groups).fold(full, |pack, gone| {
        let rest = live(groups, [gone..groups, groups - 1..groups]);
        pack.with_live(&rest, Timestamp(u64::from(gone) * apart))
    })
}

#[test]
fn dates_of_one_pack_become_one_when_they_are_too_many_and_the_nearest_first() {
    for (apart, extents) in [(HOUR, 10), (HOUR / 4, 10), (1, 3)] {
        let pack = let_go_one_by_one(1000, apart);
        assert!(
            pack.extents().len() <= HeldPack::EXTENTS_SOFT_MAX,
            "{apart}: {} extents",
            pack.extents().len()
        );
        assert!(pack.extents().len() >= extents, "{apart}: joined too much");
        assert!(pack.held().is_full());
    }
}

#[test]
fn joining_dates_frees_nothing_early_and_little_late() {
    let pack = let_go_one_by_one(1000, HOUR / 4);
    for gone in (1..1000).step_by(7) {
        // Group `gone - 1` was let go until `gone` quarters of an hour.
        let date = u64::from(gone) * HOUR / 4;
        let holds = |now| pack.swept(Timestamp(now)).0.held().contains(gone - 1);
        assert!(holds(date - 1), "group {} was freed early", gone - 1);
        // One date for each hour would be too many, one for each day is not.
        assert!(!holds(date + 24 * HOUR), "group {} is late", gone - 1);
    }
}

#[test]
fn an_endless_date_does_not_swallow_others() {
    let year = 365 * 24 * HOUR;
    let extents = (0..200).map(|group| match group {
        100 => waits(100..101, u64::MAX),
        _ => waits(group..group + 1, u64::from(group + 1) * year),
    });
    let pack = HeldPack::from_extents(reference(200), PackClass::Data, extents.collect());
    let pack = pack.unwrap().with_live(&LiveMap::empty(200), ENDLESS);
    assert_eq!(pack.extents().len(), 3);
    assert_eq!(pack.swept(Timestamp(200 * year)).0.held().count(), 1);
}

proptest! {
    /// The extents against a plain array of one state a group.
    #[test]
    fn extents_are_what_each_group_s_history_says(
        steps in prop::collection::vec((prop::collection::vec(any::<bool>(), 24), 0_u8..3, 1_u64..40), 1..20),
    ) {
        let mut now = 10_u64;
        let mut pack = uploaded(24, now);
        let mut groups = [Some(Hold::FreeAfter(Timestamp(now))); 24];
        for (bits, step, wait) in steps {
            now += wait;
            let date = Hold::FreeAfter(Timestamp(now + 20));
            match step {
                0 => {
                    let wanted = (0..24).filter(|at| bits[*at as usize]).map(|at| at..at + 1);
                    let wanted = live(24, wanted);
                    pack = pack.with_live(&wanted, Timestamp(now + 20));
                    for (group, lives) in groups.iter_mut().zip(bits) {
                        *group = match *group {
                            Some(_) if lives => Some(Hold::Live),
                            Some(Hold::Live) => Some(date),
                            other => other,
                        };
                    }
                }
                1 => {
                    pack = pack.with_upload(Timestamp(now + 20));
                    for group in &mut groups {
                        if *group != Some(Hold::Live) {
                            *group = Some(date);
                        }
                    }
                }
                _ => {
                    pack = pack.swept(Timestamp(now)).0;
                    for group in &mut groups {
                        *group = group.filter(|hold| !matches!(hold, Hold::FreeAfter(date) if date.0 <= now));
                    }
                }
            }
            let mut found = [None; 24];
            for extent in pack.extents() {
                for group in extent.groups.clone() {
                    prop_assert_eq!(found[group as usize].replace(extent.hold), None);
                }
            }
            prop_assert_eq!(found, groups);
            let again = HeldPack::from_extents(*pack.reference(), pack.class(), pack.extents().to_vec());
            prop_assert_eq!(again, Some(pack.clone()), "two extents could be one");
        }
    }
}
