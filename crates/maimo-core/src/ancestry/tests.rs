use proptest::prelude::*;

use super::*;

fn root(sequence: u64) -> RootHash {
    RootHash::of(&sequence.to_le_bytes())
}

/// Returns the ancestry over the first `count` roots, made by appending alone.
fn appended(count: u64) -> Ancestry {
    let mut ancestry = Ancestry::empty();
    for sequence in 1..=count {
        ancestry.append(root(sequence));
    }
    ancestry
}

fn prove(sequence: u64, count: u64) -> AncestryProof {
    AncestryLog::of((1..=count).map(root))
        .prove(sequence, count)
        .unwrap()
}

#[test]
fn every_earlier_root_is_proven_of_every_head_and_no_other_root_is() {
    let log = AncestryLog::of((1..=130).map(root));
    for count in 1..=130 {
        let hash = appended(count).hash();
        for sequence in 1..=count {
            let proof = log.prove(sequence, count).unwrap();
            let check = |root| proof.check(sequence, root, count + 1, &hash);
            assert_eq!(check(root(sequence)), Ok(()), "{sequence} of {count}");
            assert_eq!(check(root(sequence + 1)), Err(AncestryError::NotAncestor));
            assert_eq!(AncestryProof::parse(&proof.encode()), Ok(proof));
        }
    }
}

#[test]
fn the_log_and_appending_lead_to_the_same_ancestry() {
    let log = AncestryLog::of((1..=130).map(root));
    for count in 0..=130 {
        assert_eq!(log.ancestry(count), Some(appended(count)));
    }
    assert_eq!(log.ancestry(131), None);
}

/// Three roots, hashed by hand as docs/format.md says, and not by the functions under test.
#[test]
fn three_roots_hash_as_documented() {
    let leaf = |n| blake3::derive_key("maimo v1 ancestry leaf", root(n).as_bytes());
    let inner = blake3::derive_key("maimo v1 ancestry inner", &[leaf(1), leaf(2)].concat());
    let whole = [&[3, 0, 0, 0, 0, 0, 0, 0][..], &inner, &leaf(3)].concat();
    assert_eq!(
        appended(3).hash(),
        blake3::derive_key("maimo v1 ancestry", &whole)
    );
}

#[test]
fn a_proof_grows_with_the_logarithm_of_the_channel() {
    // Two years of a head a minute: 20 levels and as many peaks at most.
    let count = (1 << 20) - 1;
    let proof = AncestryProof::build(5, count, |_, _| Some([7; 32])).unwrap();
    assert_eq!(proof.nodes.len(), 19 + 19);
    let longest = AncestryProof::build(1, SEQUENCE_MAX, |_, _| Some([7; 32])).unwrap();
    assert!(longest.encode().len() <= AncestryProof::LENGTH_MAX);
}

#[test]
fn a_root_that_is_not_earlier_has_no_proof() {
    let log = AncestryLog::of((1..=5).map(root));
    assert_eq!(log.prove(0, 5), None);
    assert_eq!(log.prove(6, 5), None);
    assert_eq!(log.prove(1, 6), None);
}

/// A provider that rolls back shows a head of which the last root seen is no ancestor; the one way to answer with a
/// proof at all is to lie about the numbers, which the heads themselves contradict.
#[test]
fn a_proof_of_other_sequence_numbers_is_refused() {
    let proof = prove(3, 9);
    let hash = appended(9).hash();
    assert_eq!(proof.check(3, root(3), 10, &hash), Ok(()));
    assert_eq!(
        proof.check(2, root(3), 10, &hash),
        Err(AncestryError::OtherHeads)
    );
    assert_eq!(
        proof.check(3, root(3), 11, &hash),
        Err(AncestryError::OtherHeads)
    );
}

#[test]
fn a_proof_for_no_earlier_root_does_not_parse() {
    let bytes = prove(3, 9).encode();
    for (sequence, count) in [(0, 9), (10, 9), (1, 0), (SEQUENCE_MAX + 1, u64::MAX)] {
        let mut lie = bytes.clone();
        lie[12..20].copy_from_slice(&u64::to_le_bytes(sequence));
        lie[20..28].copy_from_slice(&u64::to_le_bytes(count));
        assert!(AncestryProof::parse(&lie).is_err(), "{sequence} of {count}");
    }
}

#[test]
fn peaks_come_back_from_their_bytes() {
    for count in 0..=70 {
        let ancestry = appended(count);
        let mut bytes = Vec::new();
        ancestry.encode(&mut bytes);
        let mut reader = Reader::new(&bytes);
        assert_eq!(Ancestry::parse(&mut reader), Ok(ancestry));
        assert_eq!(reader.remaining(), 0);
        assert!(Ancestry::parse(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}

proptest! {
    #[test]
    fn a_changed_proof_proves_nothing(count in 1_u64..300, pick: u64, at: prop::sample::Index, bit in 0_u32..8) {
        let sequence = pick % count + 1;
        let mut bytes = prove(sequence, count).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(proof) = AncestryProof::parse(&bytes) {
            prop_assert!(proof.check(sequence, root(sequence), count + 1, &appended(count).hash()).is_err());
        }
    }

    #[test]
    fn what_parses_as_a_proof_encodes_to_the_same_bytes(count in 1_u64..70, pick: u64, cut in 0_usize..9, flip: prop::sample::Index) {
        let mut bytes = prove(pick % count + 1, count).encode();
        let at = flip.index(bytes.len());
        bytes[at] ^= 1;
        bytes.truncate(bytes.len() - cut);
        if let Ok(proof) = AncestryProof::parse(&bytes) {
            prop_assert_eq!(proof.encode(), bytes);
        }
    }
}

#[test]
fn nodes_kept_elsewhere_are_those_of_the_log() {
    let mut kept = std::collections::HashMap::new();
    for count in 0..130 {
        let node = |height, index| kept.get(&(height, index)).copied();
        let nodes = nodes_of_next(count, root(count + 1), node).unwrap();
        for (height, node) in (0..).zip(nodes) {
            kept.insert((height, count >> height), node);
        }
    }
    let log = AncestryLog::of((1..=130).map(root));
    let levels = (0..).zip(&log.levels);
    let of_log: std::collections::HashMap<_, _> = levels
        .flat_map(|(height, level)| {
            let places = (0..).zip(level);
            places.map(move |(place, node)| ((height, place), *node))
        })
        .collect();
    assert_eq!(kept, of_log);
    assert_eq!(nodes_of_next(1, root(2), |_, _| None), None);
}
