use aead::{Aead, Payload};
use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

struct Case {
    key: [u8; 32],
    nonce: [u8; 24],
    ad: Vec<u8>,
    plaintext: Vec<u8>,
    ciphertext: Vec<u8>,
    tag: [u8; 32],
}

/// 93 answers that the reference implementation agrees with.
fn cases() -> Vec<Case> {
    let text = include_str!("../../../../testdata/vectors/xchacha8blake3siv.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let cases: Vec<Case> = vectors["cases"]
        .as_array()
        .unwrap()
        .iter()
        .map(read_case)
        .collect();
    assert_eq!(cases.len(), 93);
    cases
}

fn read_case(case: &serde_json::Value) -> Case {
    let text = |name: &str| case[name].as_str().unwrap();
    let bytes = |name: &str| HEXLOWER.decode(text(name).as_bytes()).unwrap();
    let key: [u8; 32] = bytes("key").try_into().unwrap();
    let tag: [u8; 32] = bytes("tag").try_into().unwrap();
    let (plaintext, ciphertext) = if case["plaintext"].is_string() {
        (bytes("plaintext"), bytes("ciphertext"))
    } else {
        // Long ones are given by how to make the plaintext and by the hash of the ciphertext.
        let length = usize::try_from(case["plaintext_len"].as_u64().unwrap()).unwrap();
        let mut plaintext = vec![0; length];
        let mut hasher = blake3::Hasher::new();
        hasher.update(text("plaintext_label").as_bytes());
        hasher.finalize_xof().fill(&mut plaintext);
        let mut ciphertext = plaintext.clone();
        let nonce: [u8; 24] = tag[..24].try_into().unwrap();
        XChaCha8::new(&key.into(), &nonce.into()).apply_keystream(&mut ciphertext);
        assert_eq!(
            blake3::hash(&ciphertext).to_hex().as_str(),
            text("ciphertext_blake3")
        );
        (plaintext, ciphertext)
    };
    Case {
        key,
        nonce: bytes("nonce").try_into().unwrap(),
        ad: bytes("ad"),
        plaintext,
        ciphertext,
        tag,
    }
}

#[test]
fn known_answers_seal() {
    for case in cases() {
        let mut buffer = case.plaintext;
        let tag = XChaCha8Blake3Siv::from_key(&case.key).seal_in_place(
            &case.nonce,
            &case.ad,
            &mut buffer,
        );
        assert_eq!(buffer, case.ciphertext);
        assert_eq!(tag, case.tag);
    }
}

#[test]
fn known_answers_open() {
    for case in cases() {
        let mut buffer = case.ciphertext;
        let cipher = XChaCha8Blake3Siv::from_key(&case.key);
        assert_eq!(
            cipher.open_in_place(&case.nonce, &case.ad, &mut buffer, &case.tag),
            Ok(())
        );
        assert_eq!(buffer, case.plaintext);
    }
}

fn payload<'a>(msg: &'a [u8], aad: &'a [u8]) -> Payload<'a, 'a> {
    Payload { msg, aad }
}

#[test]
fn the_traits_give_ciphertext_then_tag() {
    for case in cases() {
        let cipher = XChaCha8Blake3Siv::new(&case.key.into());
        let nonce = case.nonce.into();
        let sealed = cipher
            .encrypt(&nonce, payload(&case.plaintext, &case.ad))
            .unwrap();
        assert_eq!(sealed, [&case.ciphertext[..], &case.tag].concat());
        let opened = cipher.decrypt(&nonce, payload(&sealed, &case.ad)).unwrap();
        assert_eq!(opened, case.plaintext);
        for index in [0, sealed.len() / 2, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[index] ^= 0x80;
            assert!(cipher.decrypt(&nonce, payload(&altered, &case.ad)).is_err());
        }
        assert!(
            cipher
                .decrypt(&nonce, payload(&sealed[..31], &case.ad))
                .is_err()
        );
    }
}

/// Opens `case` and holds that it fails and leaves only zeros.
fn assert_refused(case: &Case, what: &str) {
    let mut buffer = case.ciphertext.clone();
    let cipher = XChaCha8Blake3Siv::from_key(&case.key);
    assert_eq!(
        cipher.open_in_place(&case.nonce, &case.ad, &mut buffer, &case.tag),
        Err(CannotOpen),
        "{what}"
    );
    assert!(buffer.iter().all(|&byte| byte == 0), "{what} left bytes");
}

#[test]
fn one_altered_bit_anywhere_is_refused() {
    for mut case in cases() {
        for index in 0..32 {
            case.key[index] ^= 1;
            assert_refused(&case, "key");
            case.key[index] ^= 1;
            case.tag[index] ^= 1;
            assert_refused(&case, "tag");
            case.tag[index] ^= 1;
        }
        for index in 0..24 {
            case.nonce[index] ^= 1;
            assert_refused(&case, "nonce");
            case.nonce[index] ^= 1;
        }
        for index in 0..case.ad.len().min(64) {
            case.ad[index] ^= 1;
            assert_refused(&case, "associated data");
            case.ad[index] ^= 1;
        }
        let step = (case.ciphertext.len() / 64).max(1);
        for index in (0..case.ciphertext.len()).step_by(step) {
            case.ciphertext[index] ^= 1;
            assert_refused(&case, "ciphertext");
            case.ciphertext[index] ^= 1;
        }
    }
}

#[test]
fn another_length_is_refused() {
    for mut case in cases() {
        case.ad.push(0);
        assert_refused(&case, "longer associated data");
        case.ad.pop();
        if let Some(last) = case.ad.pop() {
            assert_refused(&case, "shorter associated data");
            case.ad.push(last);
        }
        case.ciphertext.push(0);
        assert_refused(&case, "longer ciphertext");
        case.ciphertext.pop();
        if case.ciphertext.pop().is_some() {
            assert_refused(&case, "shorter ciphertext");
        }
    }
}

/// Without the length before it, `ad || plaintext` could be cut elsewhere and keep its tag.
#[test]
fn the_border_between_associated_data_and_plaintext_is_bound() {
    let cipher = XChaCha8Blake3Siv::from_key(&[7; 32]);
    let tag_one = cipher.seal_in_place(&[0; 24], b"a", &mut b"b".to_vec());
    let tag_two = cipher.seal_in_place(&[0; 24], b"", &mut b"ab".to_vec());
    assert_ne!(tag_one, tag_two);
}

#[test]
fn a_failure_says_nothing_but_that() {
    assert_eq!(CannotOpen.to_string(), "cannot open");
}

proptest! {
    #[test]
    fn what_was_sealed_opens(
        key: [u8; 32],
        nonce: [u8; 24],
        ad in proptest::collection::vec(any::<u8>(), 0..100),
        plaintext in proptest::collection::vec(any::<u8>(), 0..5000),
    ) {
        let cipher = XChaCha8Blake3Siv::from_key(&key);
        let mut buffer = plaintext.clone();
        let tag = cipher.seal_in_place(&nonce, &ad, &mut buffer);
        prop_assert_eq!(cipher.open_in_place(&nonce, &ad, &mut buffer, &tag), Ok(()));
        prop_assert_eq!(buffer, plaintext);
    }
}
