use proptest::prelude::*;

use super::*;
use crate::inventory::{Child, Sums};

fn key(seed: u8) -> ClientSecretKey {
    ClientSecretKey::from_seed(&[seed; 32])
}

fn inventory(seed: u8) -> InventoryRef {
    InventoryRef::new(Child {
        node: ObjectRef::of(&[seed]),
        sums: Sums {
            live_blocks: 8,
            charged: 40_000,
        },
    })
}

fn first() -> Head {
    Head {
        channel: ChannelId([3; 32]),
        sequence: 1,
        previous: RootHash::NONE,
        ancestry: Ancestry::empty().hash(),
        data: inventory(1),
        vital: InventoryRef::EMPTY,
        commit: ObjectRef::of(b"a commit"),
        time: Timestamp(1_796_000_000_000),
        signer: key(1).public(),
        extensions: Extensions::default(),
    }
}

fn second() -> Head {
    let previous = first().root();
    let mut ancestry = Ancestry::empty();
    ancestry.append(previous);
    Head {
        sequence: 2,
        previous,
        ancestry: ancestry.hash(),
        vital: inventory(2),
        ..first()
    }
}

fn verify(bytes: &[u8]) -> Result<SignedHead, HeadError> {
    SignedHead::verify(
        bytes,
        ChannelId([3; 32]),
        &[key(9).public(), key(1).public()],
    )
}

#[test]
fn a_head_has_one_length_whatever_it_says() {
    assert_eq!(Head::LENGTH, 310);
    assert_eq!(first().encode().len(), Head::LENGTH);
    assert_eq!(second().encode().len(), Head::LENGTH);
}

#[test]
fn the_root_is_the_hash_of_the_head_without_its_signature() {
    let signed = first().sign(&key(1)).unwrap();
    let bytes = signed.encode();
    assert_eq!(bytes.len(), Head::LENGTH + 64);
    assert_eq!(signed.root(), RootHash::of(&bytes[..Head::LENGTH]));
    assert_eq!(verify(&bytes), Ok(signed));
}

#[test]
fn a_head_of_another_channel_signer_or_signature_is_refused() {
    let signed = first().sign(&key(1)).unwrap().encode();
    let of = |channel, signers: &[_]| SignedHead::verify(&signed, channel, signers);
    assert_eq!(
        of(ChannelId([4; 32]), &[key(1).public()]),
        Err(HeadError::Channel)
    );
    assert_eq!(
        of(ChannelId([3; 32]), &[key(2).public()]),
        Err(HeadError::Signer)
    );
    let mut forged = signed.clone();
    *forged.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&forged), Err(HeadError::Signature));
    // The right key, on another head.
    let other = second().sign(&key(1)).unwrap().encode();
    let swapped = [&signed[..Head::LENGTH], &other[Head::LENGTH..]].concat();
    assert_eq!(verify(&swapped), Err(HeadError::Signature));
}

#[test]
fn a_signature_for_another_purpose_is_none_on_a_head() {
    let head = first();
    let other = key(1).sign("maimo receipt v1", head.root().as_bytes());
    let bytes = [&head.encode()[..], other.as_bytes()].concat();
    assert_eq!(verify(&bytes), Err(HeadError::Signature));
}

#[test]
fn only_the_key_a_head_names_signs_it() {
    assert_eq!(first().sign(&key(2)), Err(HeadError::Signer));
}

#[test]
fn a_first_head_has_nothing_before_it_and_only_it() {
    for (head, field) in [
        (
            Head {
                sequence: 0,
                ..first()
            },
            "sequence number",
        ),
        (
            Head {
                sequence: SEQUENCE_MAX + 1,
                ..second()
            },
            "sequence number",
        ),
        (
            Head {
                previous: RootHash([1; 32]),
                ..first()
            },
            "previous root",
        ),
        (
            Head {
                previous: RootHash::NONE,
                ..second()
            },
            "previous root",
        ),
        (
            Head {
                ancestry: [0; 32],
                ..first()
            },
            "ancestry",
        ),
    ] {
        let parsed = Head::parse(&head.encode());
        assert_eq!(parsed, Err(ParseError::Invalid { what: field }));
    }
    assert_eq!(Head::parse(&second().encode()), Ok(second()));
}

#[test]
fn a_commit_longer_than_any_or_another_algorithm_is_refused() {
    let mut head = first();
    head.commit.length = COMMIT_BYTES_MAX;
    assert!(Head::parse(&head.encode()).is_ok());
    head.commit.length += 1;
    assert!(Head::parse(&head.encode()).is_err());
    let mut bytes = first().encode();
    let algorithm = Head::LENGTH - 1 - 32 - 1;
    assert_eq!(bytes[algorithm], ALGORITHM_ED25519);
    bytes[algorithm] = 2;
    assert!(Head::parse(&bytes).is_err());
}

#[test]
fn a_head_cut_short_longer_or_of_another_epoch_is_refused() {
    let bytes = first().encode();
    for cut in 0..bytes.len() {
        assert!(Head::parse(&bytes[..cut]).is_err(), "cut to {cut}");
    }
    assert!(Head::parse(&[&bytes[..], &[0]].concat()).is_err());
    let mut other_epoch = bytes;
    other_epoch[8] = 1;
    assert!(Head::parse(&other_epoch).is_err());
}

/// Extensions that are not critical are kept, so that an old program passes on a newer head under its root.
#[test]
fn a_later_version_s_extension_stays_in_the_root_and_4096_bytes_are_the_limit() {
    let with = |lengths: &[usize]| {
        let mut bytes = first().encode();
        *bytes.last_mut().unwrap() = u8::try_from(lengths.len()).unwrap();
        for (tag, length) in (0..).zip(lengths) {
            bytes.put_u16(tag);
            bytes.put_bytes(&vec![5; *length]);
        }
        bytes
    };
    let kept = with(&[3]);
    assert_eq!(Head::parse(&kept).unwrap().root(), RootHash::of(&kept));
    // Each extension has 4 bytes before it.
    let room = Head::LENGTH_MAX - Head::LENGTH - 4 * 4 - 3 * 1000;
    assert!(Head::parse(&with(&[1000, 1000, 1000, room])).is_ok());
    assert!(Head::parse(&with(&[1000, 1000, 1000, room + 1])).is_err());
}

proptest! {
    #[test]
    fn what_parses_encodes_to_the_same_bytes(at: prop::sample::Index, to: u8) {
        let mut bytes = second().encode();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if let Ok(head) = Head::parse(&bytes) {
            prop_assert_eq!(head.encode(), bytes);
        }
    }

    #[test]
    fn no_bit_of_a_signed_head_may_change(at: prop::sample::Index, bit in 0_u32..8) {
        let mut bytes = second().sign(&key(1)).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(verify(&bytes).is_err());
    }
}
