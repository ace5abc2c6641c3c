//! What holds a store's secret: key files and recovery phrases.

use std::sync::LazyLock;

use maimo_vault::{
    key_file::{KeyFile, PassphraseCost},
    keys::MasterSecret,
};

use super::{assert_canonical, sealed::nonce_rng};

pub(super) fn key_file(bytes: &[u8]) -> bool {
    let whole = [bytes, blake3::hash(bytes).as_bytes()].concat();
    let mut accepted = false;
    for bytes in [bytes, &whole] {
        if let Ok(file) = KeyFile::parse(bytes) {
            assert_canonical(bytes, &file.encode());
            assert_eq!(file.open(None).is_ok(), !file.needs_passphrase());
            accepted = true;
        }
    }
    accepted
}

pub(super) fn key_files() -> Vec<Vec<u8>> {
    static SEALED: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let cost =
            PassphraseCost::new(*PassphraseCost::MEMORY_KIB.start(), 2, 1).expect("the least");
        let secret = MasterSecret::from_entropy(&[1; 32]);
        let file = KeyFile::seal(&secret, "passphrase", cost, &mut nonce_rng());
        file.expect("a little memory").encode().to_vec()
    });
    let bare = KeyFile::bare(&MasterSecret::from_entropy(&[1; 32])).encode();
    [&bare, &*SEALED]
        .map(|bytes| bytes[..bytes.len() - 32].to_vec())
        .to_vec()
}

pub(super) fn phrase(bytes: &[u8]) -> bool {
    if let Some(entropy) = bytes.first_chunk() {
        let secret = MasterSecret::from_entropy(entropy);
        let again = MasterSecret::from_phrase(secret.phrase().as_str());
        assert!(again.is_ok_and(|again| again.as_entropy() == entropy));
    }
    let Ok(text) = core::str::from_utf8(bytes) else {
        return false;
    };
    let Ok(secret) = MasterSecret::from_phrase(text) else {
        return false;
    };
    let words: Vec<String> = text
        .split_whitespace()
        .map(str::to_ascii_lowercase)
        .collect();
    assert_eq!(secret.phrase().as_str(), words.join(" "));
    true
}

pub(super) fn phrases() -> Vec<Vec<u8>> {
    [[0; 32], [0xff; 32], *blake3::hash(b"entropy").as_bytes()]
        .map(|entropy| {
            MasterSecret::from_entropy(&entropy)
                .phrase()
                .as_str()
                .as_bytes()
                .to_vec()
        })
        .to_vec()
}
