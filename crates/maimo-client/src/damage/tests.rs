use maimo_vault::name::{SourceId, WriterId};

use super::*;

const CHANNEL: ChannelId = ChannelId([1; 32]);
const THEN: Timestamp = Timestamp(1_000);
const LATER: Timestamp = Timestamp(2_000);

fn node(folder: &std::path::Path) -> NodeState {
    let (writer, source) = (WriterId([1; 16]), SourceId([2; 16]));
    NodeState::create(&folder.join("node.sqlite"), writer, source, "laptop").unwrap()
}

fn pack(n: u8) -> ObjectRef {
    ObjectRef {
        root: RootHash([n; 32]),
        length: 100 * 16_384,
    }
}

fn damaged<const N: usize>(n: u8, runs: [(u32, u32); N]) -> DamagedPack {
    let runs = runs.map(|(start, end)| start..end);
    DamagedPack {
        stratum: Stratum::Data,
        pack: pack(n),
        groups: LiveMap::from_runs(100, runs).unwrap(),
        is_missing: false,
    }
}

#[test]
fn what_was_found_is_there_after_a_restart_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let found = [damaged(1, [(3, 5)]), damaged(2, [(0, 100)])];
    state
        .note_damage(CHANNEL, &found, THEN, FoundBy::Audit)
        .unwrap();
    drop(state);
    let state = NodeState::open(&folder.path().join("node.sqlite")).unwrap();
    state
        .note_damage(
            CHANNEL,
            &[damaged(1, [(4, 7), (9, 10)])],
            LATER,
            FoundBy::Read,
        )
        .unwrap();
    let [one, two] = state.damage().unwrap().try_into().unwrap();
    assert_eq!(one.damaged, damaged(1, [(3, 7), (9, 10)]));
    assert_eq!((one.found, one.by), (THEN, FoundBy::Read));
    assert_eq!(two.damaged, found[1]);
    assert_eq!((two.found, two.by), (THEN, FoundBy::Audit));
}

#[test]
fn more_runs_than_an_inventory_takes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let pack = ObjectRef {
        root: RootHash([3; 32]),
        length: 4096 * 16_384,
    };
    let mut groups = empty_map(&pack);
    for group in 0..2048 {
        groups.insert(2 * group..2 * group + 1).unwrap();
    }
    let found = DamagedPack {
        stratum: Stratum::Vital,
        pack,
        groups,
        is_missing: true,
    };
    state
        .note_damage(CHANNEL, core::slice::from_ref(&found), THEN, FoundBy::Audit)
        .unwrap();
    assert_eq!(state.damage().unwrap()[0].damaged, found);
}

#[test]
fn nothing_is_written_down_of_what_was_not_found() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    state
        .note_damage(CHANNEL, &[damaged(1, [])], THEN, FoundBy::Audit)
        .unwrap();
    assert_eq!(state.damage().unwrap(), []);
}

#[test]
fn what_was_read_back_and_right_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let found = [damaged(1, [(3, 5)]), damaged(2, [(0, 10)])];
    state
        .note_damage(CHANNEL, &found, THEN, FoundBy::Audit)
        .unwrap();
    let other = ChannelId([9; 32]);
    state
        .note_damage(other, &found[..1], THEN, FoundBy::Audit)
        .unwrap();
    state
        .replace_damage(CHANNEL, &[damaged(2, [(8, 20)])])
        .unwrap();
    let left: Vec<_> = state.damage().unwrap();
    let left: Vec<_> = left
        .iter()
        .map(|row| (row.channel, row.damaged.clone()))
        .collect();
    assert_eq!(
        left,
        [
            (CHANNEL, damaged(2, [(0, 10)])),
            (other, damaged(1, [(3, 5)]))
        ]
    );
}

#[test]
fn lost_is_said_until_it_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    state
        .note_damage(CHANNEL, &[damaged(1, [(3, 5)])], THEN, FoundBy::Audit)
        .unwrap();
    for is_lost in [true, false] {
        let row = state.damage().unwrap().remove(0);
        state.mark_lost(&row, is_lost).unwrap();
        let row = state.damage().unwrap().remove(0);
        assert_eq!(row.is_lost, is_lost);
        assert_eq!(row.by, FoundBy::Audit);
    }
}

#[test]
fn a_channel_that_is_forgotten_takes_its_damage_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    state
        .note_damage(CHANNEL, &[damaged(1, [(3, 5)])], THEN, FoundBy::Audit)
        .unwrap();
    state.forget_channel(CHANNEL).unwrap();
    assert_eq!(state.damage().unwrap(), []);
}
