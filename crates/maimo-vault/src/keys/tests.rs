use data_encoding::HEXLOWER;
use maimo_core::identity::AuthSecretKey;

use super::*;

const EPOCH: KeyEpoch = KeyEpoch(0);

fn master() -> MasterSecret {
    MasterSecret::from_entropy(&[7; 32])
}

fn auth(seed: u8) -> AuthPublicKey {
    AuthSecretKey::from_seed(&[seed; 32]).public()
}

/// One value for each derived key, of which equal ones would show a shared key.
fn fingerprints(master: &MasterSecret, epoch: KeyEpoch) -> Vec<[u8; 32]> {
    let mut all = vec![
        master.store_id(epoch).0,
        master.commit_name_key(epoch).name(b"").0,
    ];
    for domain in [Domain(0), Domain(1), Domain(0x0100_0000)] {
        for of in [
            ChunkType::Content,
            ChunkType::Journal,
            ChunkType::Dictionary,
        ] {
            all.push(master.chunk_id_key(epoch, of, domain).id(b"").0);
        }
        let mut gear = [0; 32];
        master.gear_key(epoch, domain).fill(&mut gear);
        all.push(gear);
    }
    for seed in [1, 2] {
        let keys = master.channel_keys(epoch, &auth(seed));
        all.push(*keys.client.public().as_bytes());
        all.push(keys.data.seal_in_place(&[0; 24], &[], &mut []));
        all.push(keys.vital.seal_in_place(&[0; 24], &[], &mut []));
        all.push(keys.commit.seal_in_place(&[0; 24], &[], &mut []));
        let mut padding = [0; 32];
        keys.padding.fill(&[0; 24], &mut padding);
        all.push(padding);
    }
    all
}

#[test]
fn no_two_keys_are_equal() {
    let mut all = fingerprints(&master(), EPOCH);
    all.extend(fingerprints(&master(), KeyEpoch(1)));
    all.extend(fingerprints(&MasterSecret::from_entropy(&[8; 32]), EPOCH));
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

#[test]
fn the_same_secret_gives_the_same_keys() {
    assert_eq!(
        fingerprints(&master(), EPOCH),
        fingerprints(&master(), EPOCH)
    );
}

#[test]
fn padding_is_one_stream_for_each_nonce() {
    let key = master().channel_keys(EPOCH, &auth(1)).padding;
    let (mut long, mut short, mut other) = ([0; 4096], [0; 100], [0; 100]);
    key.fill(&[1; 24], &mut long);
    key.fill(&[1; 24], &mut short);
    key.fill(&[2; 24], &mut other);
    assert_eq!(long[..100], short);
    assert_ne!(short, other);
}

/// Made by `testdata/vectors/make/keys.py`, with a BLAKE3 and an `XChaCha8` that share no code with these.
#[test]
fn known_answers_of_every_label() {
    let text = include_str!("../../../../testdata/vectors/keys.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    let hex =
        |value: &serde_json::Value| HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap();
    let master = MasterSecret::from_entropy(&hex(&vectors["secret"]).try_into().unwrap());
    let auth = AuthPublicKey::from_bytes(&hex(&vectors["auth"]).try_into().unwrap()).unwrap();
    let (plaintext, ad) = (hex(&vectors["plaintext"]), hex(&vectors["ad"]));
    let nonce: [u8; 24] = hex(&vectors["nonce"]).try_into().unwrap();
    let sealed = |seal: &dyn Fn(&mut [u8]) -> [u8; 32]| {
        let mut buffer = plaintext.clone();
        let tag = seal(&mut buffer);
        [&buffer[..], &tag].concat()
    };

    let mut seen = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let epoch = KeyEpoch(u32::try_from(case["epoch"].as_u64().unwrap()).unwrap());
        let material = hex(&case["material_behind_secret"]);
        let purpose = case["purpose"].as_str().unwrap();
        let label = Label::ALL
            .into_iter()
            .find(|label| label.purpose() == purpose)
            .unwrap();
        assert_eq!(label.context(epoch), case["context"].as_str().unwrap());
        assert_eq!(
            master.derive(label, epoch, &material).as_bytes()[..],
            hex(&case["derived"])
        );
        let domain = Domain(material.first().copied().unwrap_or(0).into());
        let channel = || master.channel_keys(epoch, &auth);
        let chunk_id = |of| {
            let key = master.chunk_id_key(epoch, of, domain);
            key.id(&plaintext).0.to_vec()
        };
        let mut filled = vec![0; 100];
        let used = match label {
            Label::StoreId => master.store_id(epoch).0.to_vec(),
            Label::ContentChunkId => chunk_id(ChunkType::Content),
            Label::JournalChunkId => chunk_id(ChunkType::Journal),
            Label::DictionaryChunkId => chunk_id(ChunkType::Dictionary),
            Label::Gear => {
                master.gear_key(epoch, domain).fill(&mut filled);
                filled
            }
            Label::CommitName => master.commit_name_key(epoch).name(&plaintext).0.to_vec(),
            Label::ChannelClient => channel().client.as_seed().to_vec(),
            Label::ChannelData => sealed(&|b| channel().data.seal_in_place(&nonce, &ad, b)),
            Label::ChannelVital => sealed(&|b| channel().vital.seal_in_place(&nonce, &ad, b)),
            Label::ChannelPadding => {
                channel().padding.fill(&nonce, &mut filled);
                filled
            }
            Label::ChannelCommit => sealed(&|b| channel().commit.seal_in_place(&nonce, &ad, b)),
        };
        assert_eq!(used, hex(&case["use"]), "{label:?}");
        seen.push(label);
    }
    assert!(Label::ALL.iter().all(|label| seen.contains(label)));
}

/// The table of `docs/cryptography.md` lists every label, with the key that the code derives.
#[test]
fn the_documented_table_is_what_the_code_derives() {
    let vectors: serde_json::Value =
        serde_json::from_str(include_str!("../../../../testdata/vectors/keys.json")).unwrap();
    let hex = |name: &str| {
        HEXLOWER
            .decode(vectors[name].as_str().unwrap().as_bytes())
            .unwrap()
    };
    let master = MasterSecret::from_entropy(&hex("secret").try_into().unwrap());
    let document = include_str!("../../../../docs/cryptography.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        // A provider's keys have a table of their own, with vectors of their own.
        .filter(|line| line.starts_with("| `maimo v1 ") && line.contains(", epoch "))
        .map(|line| {
            line.split('|')
                .map(|cell| cell.trim().trim_matches('`'))
                .collect()
        })
        .collect();
    assert_eq!(rows.len(), Label::ALL.len());
    for (label, row) in Label::ALL.into_iter().zip(rows) {
        let material = match row[2] {
            "" => Vec::new(),
            "domain 0" => vec![0; 4],
            "auth key" => hex("auth"),
            other => panic!("unknown material {other}"),
        };
        assert_eq!(row[1], label.context(EPOCH));
        let key = master.derive(label, EPOCH, &material);
        assert_eq!(row[3], HEXLOWER.encode(key.as_bytes()));
    }
}
