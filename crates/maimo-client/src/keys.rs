//! The keys of one store: all that the phrase derives, kept only as long as the store is open.

use std::collections::HashMap;

use maimo_core::{id::ChannelId, identity::AuthPublicKey};
use maimo_vault::{
    dictionary::Dictionary,
    keys::{ChannelKeys, ChunkIdKey, CommitNameKey, GearKey, KeyEpoch, MasterSecret, StoreId},
    name::{ChunkId, ChunkType, Domain},
    pack::ChunkContext,
};

/// The generation of keys that everything is sealed with so far.
pub const EPOCH: KeyEpoch = KeyEpoch(0);

/// The keys of a store that do not depend on a channel.
pub struct StoreKeys {
    /// The store's id.
    pub store: StoreId,
    /// Names content chunks.
    pub content: ChunkIdKey,
    /// Names journal chunks.
    pub journal: ChunkIdKey,
    /// Names dictionaries.
    pub dictionary: ChunkIdKey,
    /// Cuts files.
    pub gear: GearKey,
    /// Names commits.
    pub commits: CommitNameKey,
}

impl StoreKeys {
    /// Derives them.
    pub fn new(secret: &MasterSecret) -> Self {
        let id_key = |of| secret.chunk_id_key(EPOCH, of, Domain::default());
        Self {
            store: secret.store_id(EPOCH),
            content: id_key(ChunkType::Content),
            journal: id_key(ChunkType::Journal),
            dictionary: id_key(ChunkType::Dictionary),
            gear: secret.gear_key(EPOCH, Domain::default()),
            commits: secret.commit_name_key(EPOCH),
        }
    }
}

/// Derives the keys of the channel that was opened with `auth`, and its id.
pub fn channel_keys(secret: &MasterSecret, auth: &AuthPublicKey) -> (ChannelId, ChannelKeys) {
    let keys = secret.channel_keys(EPOCH, auth);
    let client = keys.client.public();
    (ChannelId::derive(auth.as_bytes(), client.as_bytes()), keys)
}

/// What opening chunks takes beside the pack key: the store's id keys and the dictionaries at hand.
pub struct Opening<'a> {
    /// The keys.
    pub keys: &'a StoreKeys,
    /// The dictionaries, by the id of their chunk.
    pub dictionaries: &'a HashMap<ChunkId, Dictionary>,
}

impl ChunkContext for Opening<'_> {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        if domain != Domain::default() {
            return None;
        }
        Some(match chunk_type {
            ChunkType::Content => &self.keys.content,
            ChunkType::Journal => &self.keys.journal,
            ChunkType::Dictionary => &self.keys.dictionary,
        })
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        self.dictionaries.get(id)
    }
}
