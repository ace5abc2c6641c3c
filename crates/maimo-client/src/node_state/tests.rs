use super::*;

const CHANNEL: ChannelId = ChannelId([1; 32]);

fn node(folder: &Path) -> NodeState {
    let (writer, source) = (WriterId([1; 16]), SourceId([2; 16]));
    NodeState::create(&folder.join("node.sqlite"), writer, source, "laptop").unwrap()
}

fn again(folder: &Path) -> NodeState {
    NodeState::open(&folder.join("node.sqlite")).unwrap()
}

fn shown(sequence: u64) -> SeenRow {
    SeenRow {
        seen: Seen {
            sequence,
            root: RootHash([u8::try_from(sequence).unwrap(); 32]),
        },
        head: vec![1],
        commit: vec![2],
        ancestry: vec![3],
    }
}

#[test]
fn no_name_that_was_fixed_is_given_twice() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    for n in 0..100 {
        assert_eq!(state.next_record().counter, n);
    }
    state.next_pack();
    state.fix_names().unwrap();
    // Names taken ahead may leave before the next call.
    let ahead = (state.next_record(), state.next_pack());
    drop(state);
    let state = again(folder.path());
    assert!(state.next_record().counter > ahead.0.counter);
    assert!(state.next_pack().n > ahead.1.n);
    assert_eq!(state.source(), SourceId([2; 16]));
    assert_eq!(state.label(), "laptop");
}

#[test]
fn sending_fixes_names_and_acknowledging_settles_the_candidate() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let record = state.next_record();
    let candidate = CandidateRow {
        sent: shown(3).seen,
        watermark: state.given(),
    };
    state.sending(CHANNEL, candidate).unwrap();
    drop(state);
    let state = again(folder.path());
    assert!(state.next_record().counter > record.counter);
    assert_eq!(state.candidates(CHANNEL).unwrap(), [candidate]);
    assert_eq!(state.committed().unwrap(), Watermark::default());
    state
        .acknowledged(CHANNEL, &shown(3), candidate.watermark, &[])
        .unwrap();
    drop(state);
    let state = again(folder.path());
    assert_eq!(state.candidates(CHANNEL).unwrap(), []);
    assert_eq!(state.committed().unwrap(), candidate.watermark);
    assert_eq!(state.seen(CHANNEL).unwrap(), Some(shown(3)));
    assert_eq!(state.all_seen().unwrap(), [(CHANNEL, shown(3).seen)]);
}

#[test]
fn the_day_a_provider_answered_is_kept_of_open_channels_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let (first, second) = (Timestamp(86_400_000), Timestamp(2 * 86_400_000));
    state.reached(CHANNEL, first).unwrap();
    assert_eq!(state.last_reached(CHANNEL).unwrap(), None);
    let row = ChannelRow {
        id: CHANNEL,
        auth: [3; AuthPublicKey::LENGTH],
        name: "disk".to_owned(),
        addresses: Vec::new(),
        list: 0,
    };
    state.put_channel(&row).unwrap();
    for day in [first, second] {
        state.reached(CHANNEL, day).unwrap();
        assert_eq!(
            again(folder.path()).last_reached(CHANNEL).unwrap(),
            Some(day)
        );
    }
    state.forget_channel(CHANNEL).unwrap();
    state.put_channel(&row).unwrap();
    assert_eq!(state.last_reached(CHANNEL).unwrap(), None);
}

#[test]
fn a_candidate_beyond_what_is_shown_may_still_come() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    for sequence in [3, 4] {
        let candidate = CandidateRow {
            sent: shown(sequence).seen,
            watermark: state.given(),
        };
        state.sending(CHANNEL, candidate).unwrap();
    }
    state.forget_candidates(CHANNEL, 3).unwrap();
    let left = state.candidates(CHANNEL).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].sent, shown(4).seen);
}

#[test]
fn another_writer_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    state.next_record();
    state.fix_names().unwrap();
    state.put_committed(state.given()).unwrap();
    state.take_writer(WriterId([9; 16])).unwrap();
    let state = again(folder.path());
    assert_eq!(state.writer(), WriterId([9; 16]));
    assert_eq!(state.next_record().counter, 0);
    assert_eq!(state.committed().unwrap(), Watermark::default());
}

#[test]
fn channels_are_kept_in_the_order_they_were_opened() {
    let folder = tempfile::tempdir().unwrap();
    let state = node(folder.path());
    let channel = |id: u8, name: &str| ChannelRow {
        id: ChannelId([id; 32]),
        auth: [id; 32],
        name: name.to_owned(),
        addresses: vec![format!("dir:/{name}"), "another:9".to_owned()],
        list: 0,
    };
    let (one, two) = (channel(9, "one"), channel(2, "two"));
    state.put_channel(&one).unwrap();
    state.put_channel(&two).unwrap();
    assert_eq!(state.channels().unwrap(), [one.clone(), two.clone()]);
    let moved = ChannelRow {
        addresses: vec!["dir:/elsewhere".to_owned()],
        list: 7,
        ..one
    };
    state.put_channel(&moved).unwrap();
    assert_eq!(state.channels().unwrap(), [moved, two.clone()]);
    state.forget_channel(ChannelId([9; 32])).unwrap();
    assert_eq!(state.channels().unwrap(), [two]);
}

#[test]
fn a_home_of_version_1_opens_with_all_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.sqlite");
    let db = Connection::open(&path).unwrap();
    db.execute_batch(include_str!("schema_1.sql")).unwrap();
    for (name, value) in [("writer", [1; 16]), ("source", [2; 16])] {
        put(&db, name, value).unwrap();
    }
    put(&db, "label", "laptop").unwrap();
    put(&db, "next record", 64).unwrap();
    let sql = "INSERT INTO channel VALUES (?1, ?1, 'disk', 'dir:/disk', 0)";
    db.execute(sql, [[9_u8; 32]]).unwrap();
    let sql = "INSERT INTO seen VALUES (?1, 3, ?2, X'01', X'02')";
    db.execute(sql, params![CHANNEL.0, [3_u8; 32]]).unwrap();
    db.pragma_update(None, "user_version", 1).unwrap();
    drop(db);
    // Twice: what was brought on is not brought on again.
    for _ in 0..2 {
        let state = again(folder.path());
        let channel = ChannelRow {
            id: ChannelId([9; 32]),
            auth: [9; 32],
            name: "disk".to_owned(),
            addresses: vec!["dir:/disk".to_owned()],
            list: 0,
        };
        assert_eq!(state.channels().unwrap(), [channel]);
        let seen = SeenRow {
            ancestry: Vec::new(),
            ..shown(3)
        };
        assert_eq!(state.seen(CHANNEL).unwrap(), Some(seen));
        assert_eq!(state.next_record().counter, 64);
        assert_eq!(state.writer(), WriterId([1; 16]));
    }
}
