use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::codec::Reader;

fn hex<const N: usize>(text: &str) -> [u8; N] {
    HEXLOWER
        .decode(text.as_bytes())
        .unwrap()
        .try_into()
        .unwrap()
}

/// RFC 8032 §7.1, tests 1 to 3: seed, public key, message, signature.
const RFC_8032: [[&str; 4]; 3] = [
    [
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ],
    [
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ],
    [
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ],
];

#[test]
fn rfc_8032_known_answers() {
    for [seed, public, message, signature] in RFC_8032 {
        let key = ClientSecretKey::from_seed(&hex(seed));
        assert_eq!(key.public().as_bytes(), &hex(public));
        let message = HEXLOWER.decode(message.as_bytes()).unwrap();
        assert_eq!(key.sign("", &message).0, hex(signature));
        assert_eq!(
            key.public()
                .verify("", &message, &Signature(hex(signature))),
            Ok(())
        );
    }
}

#[test]
fn what_is_signed_is_the_context_then_the_message() {
    let key = AuthSecretKey::from_seed(&[7; 32]);
    assert_eq!(
        key.sign("maimo head v1", b"root"),
        key.sign("", b"maimo head v1root")
    );
}

#[test]
fn a_signature_holds_for_its_key_context_and_message_only() {
    let key = AuthSecretKey::from_seed(&[7; 32]);
    let signature = key.sign("maimo head v1", b"root");
    let public = key.public();
    assert_eq!(public.verify("maimo head v1", b"root", &signature), Ok(()));
    assert_eq!(
        public.verify("maimo receipt v1", b"root", &signature),
        Err(BadSignature)
    );
    assert_eq!(
        public.verify("maimo head v1", b"rooT", &signature),
        Err(BadSignature)
    );
    let other = AuthSecretKey::from_seed(&[8; 32]).public();
    assert_eq!(
        other.verify("maimo head v1", b"root", &signature),
        Err(BadSignature)
    );
    for index in 0..64 {
        let mut altered = signature;
        altered.0[index] ^= 1;
        assert_eq!(
            public.verify("maimo head v1", b"root", &altered),
            Err(BadSignature)
        );
    }
}

/// S + L verifies under a lax reading of RFC 8032; then a third party could make a second signature of the same message.
#[test]
fn a_malleated_signature_is_refused() {
    const ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
    let order: [u8; 32] = hex(ORDER);
    let key = ClientSecretKey::from_seed(&[7; 32]);
    let mut signature = key.sign("", b"m");
    let mut carry = 0_u16;
    for (byte, add) in signature.0[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
    assert_eq!(key.public().verify("", b"m", &signature), Err(BadSignature));
}

#[test]
fn points_of_small_order_and_second_forms_are_refused() {
    let refused = [
        // The points of order 1, 2, 4, 8 (RFC 7748 §6's list carried to Edwards form), then second forms: y = p, y = p + 1.
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // p + 3 is a second form of y = 3, a point of full order times a small one or not: refused as a form.
        "f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        // No point has this y.
        "0200000000000000000000000000000000000000000000000000000000000000",
    ];
    for text in refused {
        assert_eq!(
            ClientPublicKey::from_bytes(&hex(text)),
            Err(InvalidKey),
            "{text}"
        );
        let bytes: [u8; 32] = hex(text);
        assert_eq!(
            AuthPublicKey::parse(&mut Reader::new(&bytes), "k"),
            Err(ParseError::Invalid { what: "k" })
        );
    }
}

/// A key plus the point of order 2 is (-x, -y): as good a point of the curve, and half of all signatures verify under both.
#[test]
fn a_key_with_a_part_of_small_order_is_refused() {
    let bytes = *ClientSecretKey::from_seed(&[7; 32]).public().as_bytes();
    // p - y, and the other sign of x.
    let p: [u8; 32] = hex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
    let mut y = bytes;
    y[31] &= 0x7f;
    let mut negated = [0; 32];
    let mut borrow = 0_i16;
    for ((out, a), b) in negated.iter_mut().zip(p).zip(y) {
        let difference = i16::from(a) - i16::from(b) - borrow;
        borrow = i16::from(difference < 0);
        [*out, _] = difference.to_le_bytes();
    }
    negated[31] |= (bytes[31] & 0x80) ^ 0x80;
    assert!(VerifyingKey::from_bytes(&negated).is_ok());
    assert_eq!(ClientPublicKey::from_bytes(&negated), Err(InvalidKey));
}

/// Tor's rend-spec-v3 gives these three addresses as examples of the encoding.
const REND_SPEC: [&str; 3] = [
    "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
    "sp3k262uwy4r2k3ycr5awluarykdpag6a7y33jxop4cs2lu5uz5sseqd.onion",
    "xa4r2iadxm55fbnqgwwi5mymqdcofiu3w6rpbtqn7b2dyn7mgwj64jyd.onion",
];

#[test]
fn rend_spec_addresses_come_back() {
    for text in REND_SPEC {
        let key: OnionPublicKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        let client: ClientPublicKey = text.trim_end_matches(".onion").parse().unwrap();
        assert_eq!(client.as_bytes(), key.as_bytes());
        assert_eq!(text.to_uppercase().parse(), Ok(key));
    }
}

#[test]
fn each_way_to_mistype_a_key_is_named() {
    let onion = REND_SPEC[0];
    let bare = onion.trim_end_matches(".onion");
    let parse = |text: &str| text.parse::<AuthPublicKey>().map(|_| ());
    assert_eq!(parse(bare), Ok(()));
    assert_eq!(parse(onion), Err(ParseKeyError::IsOnion));
    assert_eq!(bare.parse::<OnionPublicKey>(), Err(ParseKeyError::NotOnion));
    assert_eq!(parse(&bare[1..]), Err(ParseKeyError::Length { found: 55 }));
    assert_eq!(
        parse(&bare.replacen('6', "0", 1)),
        Err(ParseKeyError::Character { position: 3 })
    );
    // A letter of two bytes, and one of which `to_ascii_lowercase` knows nothing: still no panic.
    assert_eq!(
        parse(&bare.replacen('6', "é", 1)),
        Err(ParseKeyError::Character { position: 3 })
    );
    assert_eq!(
        parse(&bare.replacen('6', "7", 1)),
        Err(ParseKeyError::Checksum)
    );
    assert_eq!(
        parse(&format!("{}e", &bare[..55])),
        Err(ParseKeyError::Version { found: 4 })
    );
}

#[test]
fn a_well_encoded_text_of_no_key_is_refused() {
    let small_order = PublicKey::<Client>::trusted([0; 32]).to_string();
    assert_eq!(
        small_order.parse::<ClientPublicKey>(),
        Err(ParseKeyError::InvalidKey)
    );
}

/// RFC 8032 §5.1.5: the scalar has its lowest three bits and its highest clear, the second highest set.
#[test]
fn the_expanded_key_is_clamped_and_gives_the_public_key() {
    for seed in 0..=255 {
        let key = OnionSecretKey::from_seed(&[seed; 32]);
        let expanded = key.expanded();
        assert_eq!(expanded[0] & 7, 0);
        assert_eq!(expanded[31] & 0xc0, 0x40);
        assert_eq!(&public_of(&expanded), key.public().as_bytes());
    }
}

/// The public key by the expanded scalar alone.
fn public_of(expanded: &[u8; 64]) -> [u8; 32] {
    let mut scalar = [0; 32];
    scalar.copy_from_slice(&expanded[..32]);
    // RFC 8032's base point: y = 4/5, x even.
    let base = hex("5866666666666666666666666666666666666666666666666666666666666666");
    let base = VerifyingKey::from_bytes(&base).unwrap().to_edwards();
    base.mul_clamped(scalar).compress().to_bytes()
}

/// Made by `testdata/vectors/make/onion.py` with a real `tor`: keys of its own, and keys expanded from a seed that it took.
#[test]
fn onion_keys_and_addresses_are_those_of_tor() {
    let text = include_str!("../../../../testdata/vectors/onion.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let mut seeds = 0;
    for case in vectors["cases"].as_array().unwrap() {
        let field = |name: &str| case[name].as_str();
        let key = OnionPublicKey::from_bytes(&hex(field("public").unwrap())).unwrap();
        let hostname = field("hostname").unwrap();
        assert_eq!(key.to_string(), hostname);
        assert_eq!(hostname.parse(), Ok(key));
        let expanded: [u8; 64] = hex(field("expanded_secret").unwrap());
        assert_eq!(&public_of(&expanded), key.as_bytes());
        if let Some(seed) = field("seed") {
            let secret = OnionSecretKey::from_seed(&hex(seed));
            assert_eq!(*secret.expanded(), expanded);
            assert_eq!(secret.public(), key);
            seeds += 1;
        }
    }
    assert_eq!(seeds, 2);
}

proptest! {
    #[test]
    fn a_key_comes_back_from_its_text_and_its_bytes(seed: [u8; 32]) {
        let key = AuthSecretKey::from_seed(&seed).public();
        prop_assert_eq!(key.to_string().parse(), Ok(key));
        prop_assert_eq!(AuthPublicKey::from_bytes(key.as_bytes()), Ok(key));
    }

    #[test]
    fn any_text_ends_in_a_key_or_an_error(text in "\\PC{0,80}") {
        let _ = text.parse::<OnionPublicKey>();
        let _ = text.parse::<ClientPublicKey>();
    }
}
