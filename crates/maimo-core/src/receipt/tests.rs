use proptest::prelude::*;

use super::*;

fn key(seed: u8) -> AuthSecretKey {
    AuthSecretKey::from_seed(&[seed; 32])
}

fn acknowledged() -> Acknowledged {
    Acknowledged {
        channel: ChannelId([3; 32]),
        root: RootHash([4; 32]),
        sequence: 17,
        time: Timestamp(1_796_000_000_000),
        instance: LedgerInstance([5; 16]),
    }
}

#[test]
fn a_receipt_comes_back_and_is_the_same_when_signed_again() {
    let receipt = Receipt::sign(acknowledged(), &key(1));
    let bytes = receipt.encode();
    assert_eq!(bytes.len(), Receipt::LENGTH);
    assert_eq!(Receipt::LENGTH, 206);
    let verified = Receipt::verify(&bytes, &key(1).public()).unwrap();
    assert_eq!(verified.acknowledged(), &acknowledged());
    assert_eq!(verified, receipt);
    // A reply that was lost is given again, byte for byte.
    assert_eq!(Receipt::sign(acknowledged(), &key(1)).encode(), bytes);
}

#[test]
fn a_receipt_acknowledges_one_head_of_one_channel() {
    let receipt = Receipt::sign(acknowledged(), &key(1));
    let (channel, root) = (ChannelId([3; 32]), RootHash([4; 32]));
    assert_eq!(receipt.check(channel, 17, root), Ok(()));
    let other = Err(ReceiptError::OtherHead);
    assert_eq!(receipt.check(ChannelId([0; 32]), 17, root), other);
    assert_eq!(receipt.check(channel, 16, root), other);
    assert_eq!(receipt.check(channel, 17, RootHash([0; 32])), other);
}

#[test]
fn another_provider_s_receipt_is_refused() {
    let bytes = Receipt::sign(acknowledged(), &key(1)).encode();
    assert_eq!(
        Receipt::verify(&bytes, &key(2).public()),
        Err(ReceiptError::Signer)
    );
}

#[test]
fn a_receipt_for_no_head_or_cut_short_is_refused() {
    let none = Acknowledged {
        sequence: 0,
        ..acknowledged()
    };
    let public = key(1).public();
    assert!(Receipt::verify(&Receipt::sign(none, &key(1)).encode(), &public).is_err());
    let bytes = Receipt::sign(acknowledged(), &key(1)).encode();
    for cut in 0..bytes.len() {
        assert!(Receipt::verify(&bytes[..cut], &public).is_err(), "{cut}");
    }
}

proptest! {
    #[test]
    fn no_bit_of_a_receipt_may_change(at: prop::sample::Index, bit in 0_u32..8) {
        let mut bytes = Receipt::sign(acknowledged(), &key(1)).encode();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Receipt::verify(&bytes, &key(1).public()).is_err());
    }
}
