//! Commits.

use maimo_core::{
    codec::{Extensions, ObjectType, Prelude, Put},
    id::{ChannelId, RootHash},
    reference::ObjectRef,
};
use maimo_vault::{
    commit::{COMMIT_STEP_BYTES, Commit, Segment, StorePart, TailPiece, Witness},
    keys::{CommitName, StoreId},
    name::RecordId,
    pack::Piece,
};
use rand_chacha::rand_core::Rng;

use super::{
    assert_canonical,
    pack::{small_piece, vital_piece},
    sealed::{STORE, TAG_BYTES, WRITER, nonce_rng, number},
};

pub(super) fn commit(bytes: &[u8]) -> bool {
    let key = &STORE.channel.commit;
    let mut nonce = [0; 24];
    nonce_rng().fill_bytes(&mut nonce);
    let mut whole = Vec::new();
    Prelude { epoch: 0 }.encode(ObjectType::Commit, &mut whole);
    let ad = whole.clone();
    whole.put(&nonce);
    let front = whole.len();
    whole.put(bytes);
    let padded = (whole.len() + TAG_BYTES).next_multiple_of(COMMIT_STEP_BYTES);
    whole.resize(padded - TAG_BYTES, 0);
    let tag = key.seal_in_place(&nonce, &ad, &mut whole[front..]);
    whole.put(&tag);
    let opened = Commit::open(&whole, key);
    assert!(
        Commit::open(bytes, key).is_err(),
        "nobody but the owner seals a commit"
    );
    let Ok(commit) = opened else {
        return false;
    };
    let again = commit
        .seal(key, &mut nonce_rng())
        .expect("what was opened fits");
    assert_canonical(&whole, &again);
    true
}

pub(super) fn commits() -> Vec<Vec<u8>> {
    let key = &STORE.channel.commit;
    let witness = |n| Witness {
        channel: ChannelId([n; 32]),
        sequence: n.into(),
        root: RootHash([n; 32]),
    };
    let store = |sequence, witnesses: u8| StorePart {
        store: StoreId([1; 32]),
        sequence,
        parents: [[2; 32], [4; 32]]
            .map(CommitName)
            .into_iter()
            .take(if sequence > 2 {
                2
            } else {
                usize::from(sequence == 2)
            })
            .collect(),
        writer: WRITER,
        run: (sequence > 1).then_some(RecordId {
            writer: WRITER,
            counter: sequence,
        }),
        layout_epoch: sequence,
        witnesses: (0..witnesses).map(witness).collect(),
    };
    let segment = |n| {
        let segment = Segment {
            number: number(n),
            sequence: n % 2 + 1,
            level: 2,
        };
        (
            segment,
            ObjectRef {
                root: RootHash([5; 32]),
                length: 4096 * (n + 1),
            },
        )
    };
    let commit = |sequence, witnesses, segments, tail: Vec<Piece>| Commit {
        store: store(sequence, witnesses),
        journal: (0..segments).map(segment).collect(),
        tail: tail
            .into_iter()
            .map(|piece| TailPiece { sequence, piece })
            .collect(),
        extensions: Extensions::default(),
    };
    let commits = [
        commit(1, 0, 0, vec![]),
        commit(2, 1, 3, vec![small_piece()]),
        commit(
            1 << 40,
            32,
            200,
            vec![vital_piece(), Piece::new(number(4000)), small_piece()],
        ),
    ];
    let inside = |commit: &Commit| {
        let sealed = commit.seal(key, &mut nonce_rng()).expect("short");
        let (ad, rest) = sealed.split_at(Prelude::LENGTH);
        let (nonce, rest) = rest.split_first_chunk().expect("a nonce");
        let (body, tag) = rest.split_last_chunk().expect("a tag");
        let mut body = body.to_vec();
        key.open_in_place(nonce, ad, &mut body, tag)
            .expect("just sealed");
        body
    };
    commits.iter().map(inside).collect()
}
