//! The keys and the dictionary of the store whose objects are parsed. What `maimo-vault` reads lies behind a seal or a checksum, so an
//! input is the inside, and is sealed with these as `docs/format.md` says.

use std::sync::LazyLock;

use maimo_core::identity::AuthSecretKey;
use maimo_vault::{
    compress::Level,
    dictionary::{Dictionary, train},
    keys::{ChannelKeys, ChunkIdKey, KeyEpoch, MasterSecret},
    name::{ChunkId, ChunkType, Domain, PackNumber, WriterId},
    pack::{ChunkContext, PackNonce},
};
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

pub(super) const WRITER: WriterId = WriterId([9; 16]);
pub(super) const OTHER_WRITER: WriterId = WriterId([8; 16]);
pub(super) const NONCE: PackNonce = PackNonce([3; 24]);
pub(super) const TAG_BYTES: usize = 32;

/// A store's keys and a dictionary.
pub(super) struct Store {
    content: ChunkIdKey,
    journal: ChunkIdKey,
    dictionary_key: ChunkIdKey,
    pub(super) channel: ChannelKeys,
    pub(super) dictionary: Dictionary,
}

pub(super) static STORE: LazyLock<Store> = LazyLock::new(|| {
    let secret = MasterSecret::from_entropy(&[1; 32]);
    let id_key = |of| secret.chunk_id_key(KeyEpoch(0), of, Domain(0));
    let dictionary_key = id_key(ChunkType::Dictionary);
    let bytes = trained();
    let id = dictionary_key.id(&bytes);
    Store {
        content: id_key(ChunkType::Content),
        journal: id_key(ChunkType::Journal),
        channel: secret.channel_keys(KeyEpoch(0), &AuthSecretKey::from_seed(&[2; 32]).public()),
        dictionary: Dictionary::new(id, bytes, Level::default()).expect("just trained"),
        dictionary_key,
    }
});

pub(super) fn trained() -> Vec<u8> {
    let samples: Vec<_> = (0..400).map(tiny).collect();
    train(samples.iter().map(Vec::as_slice)).expect("the samples are alike")
}

pub(super) fn tiny(seed: u32) -> Vec<u8> {
    let hash = blake3::hash(&seed.to_le_bytes()).to_hex();
    format!(
        "{{\"name\":\"file-{seed}\",\"owner\":\"somebody\",\"digest\":\"{}\"}}",
        &hash[..8]
    )
    .into_bytes()
}

impl ChunkContext for Store {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        match (chunk_type, domain.0) {
            (ChunkType::Content, 0) => Some(&self.content),
            (ChunkType::Journal, 0) => Some(&self.journal),
            (ChunkType::Dictionary, 0) => Some(&self.dictionary_key),
            _ => None,
        }
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        (self.dictionary.id() == *id).then_some(&self.dictionary)
    }
}

pub(super) const fn number(n: u64) -> PackNumber {
    PackNumber { writer: WRITER, n }
}

/// The randomness of a commit's nonce: always the same, so that sealing again gives the same bytes.
pub(super) fn nonce_rng() -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(3)
}
