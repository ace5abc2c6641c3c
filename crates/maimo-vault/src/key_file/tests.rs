use argon2::{AssociatedData, ParamsBuilder};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use super::*;

/// As cheap as the bounds allow.
fn cheap() -> PassphraseCost {
    PassphraseCost::new(
        *PassphraseCost::MEMORY_KIB.start(),
        *PassphraseCost::PASSES.start(),
        1,
    )
    .unwrap()
}

fn secret() -> MasterSecret {
    MasterSecret::from_entropy(&[7; 32])
}

fn sealed() -> Zeroizing<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    KeyFile::seal(&secret(), "passphrase", cheap(), &mut rng)
        .unwrap()
        .encode()
}

fn open(bytes: &[u8], passphrase: Option<&str>) -> Result<[u8; 32], OpenKeyFileError> {
    let secret = KeyFile::parse(bytes)?.open(passphrase)?;
    Ok(*secret.as_entropy())
}

/// Puts the checksum right after an alteration on purpose.
fn checked(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - CHECKSUM_BYTES;
    let checksum = blake3::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn files_made_by_another_program_open() {
    let text = include_str!("../../../../testdata/vectors/key_file.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 3);
    for case in cases {
        let hex = |name: &str| {
            HEXLOWER
                .decode(case[name].as_str().unwrap().as_bytes())
                .unwrap()
        };
        let bytes = hex("file");
        let passphrase = case["passphrase"].as_str();
        assert_eq!(open(&bytes, passphrase).unwrap().to_vec(), hex("secret"));
        let file = KeyFile::parse(&bytes).ok().unwrap();
        assert_eq!(file.needs_passphrase(), passphrase.is_some());
        assert_eq!(*file.encode(), bytes);
    }
}

#[test]
fn rfc_9106_known_answer_of_argon2id() {
    // RFC 9106 §5.3.
    let params = ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let mut out = [0; 32];
    Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params)
        .unwrap()
        .hash_password_into(&[1; 32], &[2; 16], &mut out)
        .unwrap();
    assert_eq!(
        HEXLOWER.encode(&out),
        "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659"
    );
}

#[test]
fn the_secret_comes_back_bare_and_by_its_passphrase() {
    assert_eq!(open(&KeyFile::bare(&secret()).encode(), None), Ok([7; 32]));
    assert_eq!(open(&sealed(), Some("passphrase")), Ok([7; 32]));
    assert_eq!(KeyFile::bare(&secret()).encode().len(), BARE_BYTES);
    assert_eq!(sealed().len(), SEALED_BYTES);
}

#[test]
fn a_sealed_file_does_not_hold_the_secret() {
    assert!(!sealed().windows(8).any(|window| window == [7; 8]));
}

#[test]
fn each_way_to_ask_wrongly_has_its_error() {
    let (bare, sealed) = (KeyFile::bare(&secret()).encode(), sealed());
    assert_eq!(
        open(&bare, Some("passphrase")),
        Err(OpenKeyFileError::PassphraseNotNeeded)
    );
    assert_eq!(open(&sealed, None), Err(OpenKeyFileError::PassphraseNeeded));
    for wrong in ["Passphrase", "passphrase ", ""] {
        assert_eq!(
            open(&sealed, Some(wrong)),
            Err(OpenKeyFileError::WrongPassphrase)
        );
    }
    assert_eq!(
        KeyFile::seal(&secret(), "", cheap(), &mut ChaCha8Rng::seed_from_u64(1)).err(),
        Some(SealKeyFileError::EmptyPassphrase)
    );
}

#[test]
fn one_altered_bit_anywhere_is_told_as_damage_or_as_no_key_file() {
    for bytes in [KeyFile::bare(&secret()).encode(), sealed()] {
        for bit in 0..8 * bytes.len() {
            let mut altered = bytes.to_vec();
            altered[bit / 8] ^= 1 << (bit % 8);
            let error = KeyFile::parse(&altered).err().unwrap();
            // The magic to the suite, the reserved byte and the kind have errors of their own.
            let plain = bit / 8 < 8 || bit / 8 == Prelude::LENGTH;
            assert_eq!(
                matches!(error, OpenKeyFileError::Parse(_)),
                plain,
                "bit {bit}: {error}"
            );
            assert_eq!(error == OpenKeyFileError::Damaged, !plain);
        }
    }
}

/// The checksum is no secret: who alters a file on purpose puts it right. Then the seal holds the header.
#[test]
fn a_header_altered_on_purpose_does_not_open() {
    let bytes = sealed();
    // Passes, lanes, salt, nonce, secret, tag: a bit each. (More memory, and a kind of 0, have errors of their own.)
    for index in [17, 21, 25, 25 + 31, 57, 57 + 23, 81, 112, 113, 144] {
        let mut altered = bytes.to_vec();
        altered[index] ^= if index == 21 { 3 } else { 1 };
        let error = open(&checked(altered), Some("passphrase")).unwrap_err();
        assert_eq!(error, OpenKeyFileError::WrongPassphrase, "byte {index}");
    }
    let mut epoch = bytes.to_vec();
    epoch[8] = 1;
    assert_eq!(
        open(&checked(epoch), Some("passphrase")),
        Err(OpenKeyFileError::WrongPassphrase)
    );
}

#[test]
fn costs_out_of_bounds_are_refused_before_any_memory_is_taken() {
    let bytes = sealed();
    for (offset, refused) in [
        (13, [0, 19 * 1024 - 1, 1024 * 1024 + 1, u32::MAX]),
        (17, [0, 1, 17, u32::MAX]),
        (21, [0, 17, 1 << 16, u32::MAX]),
    ] {
        for value in refused {
            let mut altered = bytes.to_vec();
            altered[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
            assert!(
                matches!(
                    KeyFile::parse(&checked(altered)).err(),
                    Some(OpenKeyFileError::Parse(
                        ParseError::TooLarge { .. } | ParseError::Invalid { .. }
                    ))
                ),
                "{value} at {offset}"
            );
        }
    }
    for (memory_kib, passes, lanes) in [(19 * 1024, 2, 1), (1024 * 1024, 16, 16)] {
        assert!(PassphraseCost::new(memory_kib, passes, lanes).is_ok());
    }
    let default = PassphraseCost::DEFAULT;
    assert_eq!(
        PassphraseCost::new(default.memory_kib(), default.passes(), default.lanes()),
        Ok(default)
    );
}

#[test]
fn another_length_is_refused() {
    for bytes in [KeyFile::bare(&secret()).encode(), sealed()] {
        for length in 0..bytes.len() {
            assert!(KeyFile::parse(&bytes[..length]).is_err());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert_eq!(
            KeyFile::parse(&longer).err(),
            Some(OpenKeyFileError::Parse(ParseError::Trailing { extra: 1 }))
        );
        assert!(KeyFile::parse(&checked(longer)).is_err());
    }
}

#[test]
fn two_seals_of_one_secret_share_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut seal = || {
        KeyFile::seal(&secret(), "passphrase", cheap(), &mut rng)
            .unwrap()
            .encode()
    };
    let (one, two) = (seal(), seal());
    // From the salt on.
    assert!(
        !one[25..]
            .windows(8)
            .any(|window| { two[25..].windows(8).any(|other| other == window) })
    );
}

proptest! {
    #[test]
    fn what_parses_encodes_to_the_same_bytes(
        kind in 0_u8..3,
        body in proptest::collection::vec(any::<u8>(), 0..200),
        whole: bool,
    ) {
        let mut bytes = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::KeyFile, &mut bytes);
        bytes.push(kind);
        bytes.extend(&body);
        if whole {
            bytes.resize(if kind == 0 { BARE_BYTES } else { SEALED_BYTES }, 0);
            bytes = checked(bytes);
        }
        if let Ok(file) = KeyFile::parse(&bytes) {
            prop_assert_eq!(&*file.encode(), &bytes);
        }
    }

    #[test]
    fn any_bytes_end_in_a_file_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = KeyFile::parse(&bytes);
    }
}
