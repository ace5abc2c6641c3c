use maimo_core::identity::AuthSecretKey;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

use super::*;
use crate::{
    keys::{KeyEpoch, MasterSecret},
    name::PackNumber,
};

fn keys(auth: u8) -> crate::keys::ChannelKeys {
    let auth = AuthSecretKey::from_seed(&[auth; 32]).public();
    MasterSecret::from_entropy(&[1; 32]).channel_keys(KeyEpoch(0), &auth)
}

fn commit(segments: u64, witnesses: u8) -> Commit {
    let writer = WriterId([3; 16]);
    Commit {
        store: StorePart {
            store: StoreId([1; 32]),
            sequence: 7,
            parents: vec![CommitName([2; 32])],
            writer,
            run: Some(RecordId { writer, counter: 9 }),
            layout_epoch: 1,
            witnesses: (0..witnesses)
                .map(|n| Witness {
                    channel: ChannelId([n; 32]),
                    sequence: 6,
                    root: RootHash([n; 32]),
                })
                .collect(),
        },
        journal: (0..segments)
            .map(|n| {
                let number = PackNumber { writer, n };
                let segment = Segment {
                    number,
                    sequence: 1 + n % 7,
                    level: 1,
                };
                let root = RootHash([5; 32]);
                (segment, ObjectRef { root, length: 4096 })
            })
            .collect(),
        tail: vec![TailPiece {
            sequence: 7,
            piece: Piece::new(PackNumber { writer, n: 9999 }),
        }],
        extensions: Extensions::default(),
    }
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(4)
}

#[test]
fn a_commit_comes_back_under_its_own_channel_key_only() {
    let commit = commit(3, 2);
    let sealed = commit.seal(&keys(1).commit, &mut rng()).unwrap();
    assert!(sealed.len().is_multiple_of(COMMIT_STEP_BYTES));
    assert_eq!(Commit::open(&sealed, &keys(1).commit).as_ref(), Ok(&commit));
    assert_eq!(
        Commit::open(&sealed, &keys(2).commit),
        Err(OpenCommitError::CannotOpen)
    );
}

#[test]
fn a_commit_seals_differently_each_time_and_names_its_store_part_alike() {
    let commit = commit(1, 1);
    let mut rng = rng();
    let one = commit.seal(&keys(1).commit, &mut rng).unwrap();
    let other = commit.seal(&keys(1).commit, &mut rng).unwrap();
    assert_ne!(one, other);
    let key = MasterSecret::from_entropy(&[1; 32]).commit_name_key(KeyEpoch(0));
    let mut later = commit.store.clone();
    later.sequence += 1;
    assert_eq!(commit.store.name(&key), commit.store.name(&key));
    assert_ne!(commit.store.name(&key), later.name(&key));
}

#[test]
fn any_flipped_byte_is_refused() {
    let sealed = commit(1, 1).seal(&keys(1).commit, &mut rng()).unwrap();
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        assert!(Commit::open(&flipped, &keys(1).commit).is_err(), "{at}");
    }
    for length in 0..sealed.len() {
        assert!(Commit::open(&sealed[..length], &keys(1).commit).is_err());
    }
}

#[test]
fn a_journal_of_too_many_segments_is_told_before_anything_is_sent() {
    let sealed = commit(1000, 1).seal(&keys(1).commit, &mut rng()).unwrap();
    assert!(Commit::open(&sealed, &keys(1).commit).is_ok());
    let error = commit(1300, 1).seal(&keys(1).commit, &mut rng());
    assert!(matches!(error, Err(CommitTooLong { length }) if length > COMMIT_BYTES_MAX));
}

/// Seals any plaintext as a commit, as only the store's owner could.
fn sealed(mut body: Vec<u8>, padding: usize) -> Vec<u8> {
    let mut out = Vec::new();
    Prelude { epoch: 0 }.encode(ObjectType::Commit, &mut out);
    let ad = out.clone();
    out.put(&[0; NONCE_BYTES]);
    body.resize(body.len() + padding, 0);
    let tag = keys(1)
        .commit
        .seal_in_place(&[0; NONCE_BYTES], &ad, &mut body);
    out.put(&body);
    out.put(&tag);
    out
}

#[test]
fn what_opens_must_still_be_canonical() {
    let open = |bytes: &[u8]| Commit::open(bytes, &keys(1).commit);
    let mut body = Vec::new();
    commit(1, 2).encode(&mut body);
    let front = OVERHEAD_FRONT + TAG_BYTES;
    let padding = COMMIT_STEP_BYTES - (front + body.len()) % COMMIT_STEP_BYTES;
    assert!(open(&sealed(body.clone(), padding)).is_ok());
    // A step too much, a byte too few, and a byte that is not zero.
    assert!(open(&sealed(body.clone(), padding + COMMIT_STEP_BYTES)).is_err());
    assert!(open(&sealed(body.clone(), padding - 1)).is_err());
    let mut dirty = body.clone();
    dirty.push(1);
    assert!(open(&sealed(dirty, padding - 1)).is_err());
    // Witnesses out of order.
    let mut unordered = commit(1, 2);
    unordered.store.witnesses.reverse();
    let mut body = Vec::new();
    unordered.encode(&mut body);
    assert!(open(&sealed(body, padding)).is_err());
    // A first commit with a parent.
    let mut first = commit(1, 2);
    first.store.sequence = 1;
    let mut body = Vec::new();
    first.encode(&mut body);
    assert!(open(&sealed(body, padding)).is_err());
}

#[test]
fn a_segment_or_piece_listed_twice_or_out_of_the_stores_time_is_refused() {
    let open = |change: fn(&mut Commit)| {
        let mut commit = commit(2, 1);
        change(&mut commit);
        let sealed = commit.seal(&keys(1).commit, &mut rng()).unwrap();
        Commit::open(&sealed, &keys(1).commit)
    };
    assert!(open(|_| {}).is_ok());
    assert!(open(|commit| commit.journal[1].0.number = commit.journal[0].0.number).is_err());
    assert!(open(|commit| commit.tail.push(commit.tail[0].clone())).is_err());
    assert!(open(|commit| commit.tail[0].piece = Piece::new(commit.journal[0].0.number)).is_err());
    assert!(open(|commit| commit.journal[0].0.sequence = 7).is_ok());
    assert!(open(|commit| commit.journal[0].0.sequence = 8).is_err());
    assert!(open(|commit| commit.journal[0].0.sequence = 0).is_err());
    assert!(open(|commit| commit.tail[0].sequence = 8).is_err());
    assert!(open(|commit| commit.tail[0].sequence = 0).is_err());
    assert!(open(|commit| commit.store.parents.push(CommitName([2; 32]))).is_err());
    assert!(open(|commit| commit.store.parents.push(CommitName([1; 32]))).is_ok());
}
