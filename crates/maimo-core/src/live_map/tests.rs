use std::{collections::BTreeSet, iter::once};

use proptest::prelude::*;

use super::*;

fn groups_of(map: &LiveMap) -> BTreeSet<u32> {
    map.runs().flatten().collect()
}

fn encoded(map: &LiveMap) -> Vec<u8> {
    let mut bytes = Vec::new();
    map.encode(&mut bytes);
    bytes
}

fn parse(bytes: &[u8], groups: u32) -> Result<LiveMap, ParseError> {
    let mut reader = Reader::new(bytes);
    let map = LiveMap::parse(&mut reader, groups)?;
    reader.finish()?;
    Ok(map)
}

/// Maps of few long runs and of many short ones, in objects of up to 300 groups.
fn any_map(groups: u32) -> impl Strategy<Value = LiveMap> {
    let set = proptest::collection::btree_set(0..groups, 0..=groups as usize);
    let runs = proptest::collection::vec((0..groups, 1..=groups), 0..6);
    (set, runs, any::<bool>()).prop_map(move |(set, runs, scattered)| {
        let mut map = LiveMap::empty(groups);
        if scattered {
            for group in set {
                map.insert(group..group + 1).unwrap();
            }
        }
        for (start, length) in runs {
            map.insert(start..(start + length).min(groups)).unwrap();
        }
        map
    })
}

fn two_maps() -> impl Strategy<Value = (LiveMap, LiveMap)> {
    (1_u32..300).prop_flat_map(|groups| (any_map(groups), any_map(groups)))
}

proptest! {
    #[test]
    fn operations_are_those_of_sets((a, b) in two_maps()) {
        let (x, y) = (groups_of(&a), groups_of(&b));
        prop_assert_eq!(groups_of(&a.union(&b)), &x | &y);
        prop_assert_eq!(groups_of(&a.minus(&b)), &x - &y);
        prop_assert_eq!(groups_of(&a.intersection(&b)), &x & &y);
        prop_assert_eq!(a.intersects(&b), !x.is_disjoint(&y));
        prop_assert_eq!(a.contains_all(&b), x.is_superset(&y));
        prop_assert_eq!(a.count() as usize, x.len());
        for group in 0..a.groups() {
            prop_assert_eq!(a.contains(group), x.contains(&group));
        }
        for map in [a.union(&b), a.minus(&b), a.intersection(&b)] {
            let runs: Vec<_> = map.runs().collect();
            prop_assert!(runs.iter().all(|run| !run.is_empty() && run.end <= map.groups()));
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    #[test]
    fn a_map_comes_back_from_its_encoding((map, _) in two_maps()) {
        let bytes = encoded(&map);
        prop_assert!(bytes.len() <= encoded_bytes_max(map.groups()));
        prop_assert_eq!(parse(&bytes, map.groups()), Ok(map));
    }

    #[test]
    fn what_parses_encodes_to_the_same_bytes(
        bytes in proptest::collection::vec(0_u8..5, 0..24),
        groups in 1_u32..100,
    ) {
        if let Ok(map) = parse(&bytes, groups) {
            prop_assert_eq!(encoded(&map), bytes);
        }
    }

    #[test]
    fn ranks_name_every_live_block_once((map, _) in two_maps(), short in 0_u64..4) {
        let length = u64::from(map.groups()) * GROUP_BYTES - short * BLOCK_BYTES;
        let blocks: Vec<_> = (0..length / BLOCK_BYTES)
            .filter(|block| map.contains(u32::try_from(block / BLOCKS_PER_GROUP).unwrap()))
            .collect();
        prop_assert_eq!(map.live_blocks(length), blocks.len() as u64);
        prop_assert_eq!(map.live_bytes(length), blocks.len() as u64 * BLOCK_BYTES);
        for (rank, &block) in blocks.iter().enumerate() {
            prop_assert_eq!(map.nth_live_block(length, rank as u64), Some(block));
        }
        prop_assert_eq!(map.nth_live_block(length, blocks.len() as u64), None);
    }
}

#[test]
fn forms_are_what_the_format_says() {
    assert_eq!(encoded(&LiveMap::full(1024)), [0]);
    let two = LiveMap::from_runs(1024, [3..5, 6..7]).unwrap();
    assert_eq!(encoded(&two), [1, 2, 3, 1, 0, 0]);
    // Two bytes of bitmap beat three of runs; one run of one byte each ties, and runs win.
    assert_eq!(
        encoded(&LiveMap::from_runs(16, [0..1, 9..10]).unwrap()),
        [2, 1, 2]
    );
    assert_eq!(
        encoded(&LiveMap::from_runs(24, once(3..5)).unwrap()),
        [1, 1, 3, 1]
    );
}

#[test]
fn other_forms_of_the_same_map_are_refused() {
    for (bytes, groups) in [
        (&[1, 1, 0, 63][..], 64),  // all live, as a run
        (&[2, 0xff], 8),           // all live, as a bitmap
        (&[2, 0b11000, 0, 0], 24), // a tie, as a bitmap
        (&[1, 2, 0, 0, 8, 0], 16), // longer than its bitmap
    ] {
        assert_eq!(
            parse(bytes, groups),
            Err(ParseError::NotCanonical { what: "live map" })
        );
    }
    assert!(parse(&[1, 1, 0, 64], 64).is_err());
    assert!(parse(&[2, 1, 0x12], 12).is_err(), "a bit past the end");
    assert!(parse(&[3], 12).is_err());
}

#[test]
fn more_runs_than_an_inventory_carries_are_refused() {
    let every_other = |count: u32| (0..count).map(|n| 2 * n..2 * n + 1);
    let most = LiveMap::from_runs(4096, every_other(1024)).unwrap();
    assert_eq!(parse(&encoded(&most), 4096), Ok(most.clone()));
    assert_eq!(
        LiveMap::from_runs(4096, every_other(1025)),
        Err(LiveMapError::TooManyRuns { found: 1025 })
    );
    let mut more = most;
    more.insert(4000..4001).unwrap();
    assert!(more.check().is_err());
    assert!(matches!(
        parse(&encoded(&more), 4096),
        Err(ParseError::TooLarge { .. })
    ));
}

#[test]
fn a_run_outside_the_object_is_refused() {
    let mut map = LiveMap::empty(8);
    assert!(map.insert(7..9).is_err());
    #[expect(clippy::reversed_empty_ranges, reason = "this is what is tested")]
    let reversed = 5..3;
    assert!(map.insert(reversed).is_err());
    assert!(LiveMap::from_runs(8, once(3..3)).is_err());
    assert!(map.is_empty());
}
