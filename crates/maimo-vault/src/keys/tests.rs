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
