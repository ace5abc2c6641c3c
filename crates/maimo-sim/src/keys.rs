//! The keys of one modelled store: what every device derives from the phrase.

use std::collections::BTreeMap;

use maimo_core::{id::ChannelId, identity::AuthPublicKey};
use maimo_vault::{
    dictionary::Dictionary,
    keys::{ChannelKeys, ChunkIdKey, CommitNameKey, KeyEpoch, MasterSecret, StoreId},
    name::{ChunkId, ChunkType, Domain},
    pack::ChunkContext,
};

/// The key epoch of everything modelled.
pub const EPOCH: KeyEpoch = KeyEpoch(0);

/// All keys of a store.
pub struct StoreKeys {
    /// The store's id.
    pub store: StoreId,
    /// Names content chunks.
    pub content: ChunkIdKey,
    /// Names journal chunks.
    pub journal: ChunkIdKey,
    /// Names commits.
    pub commits: CommitNameKey,
    /// The keys of each channel.
    pub channels: BTreeMap<ChannelId, ChannelKeys>,
    /// How many of the channels the store begins with; the others are opened as mirrors later.
    pub begun_with: usize,
}

impl StoreKeys {
    /// Derives the keys of a store with a channel to each of the providers.
    pub fn new(secret: &MasterSecret, providers: &[AuthPublicKey], begun_with: usize) -> Self {
        let channels = providers.iter().map(|auth| {
            let keys = secret.channel_keys(EPOCH, auth);
            let client = keys.client.public();
            (ChannelId::derive(auth.as_bytes(), client.as_bytes()), keys)
        });
        Self {
            store: secret.store_id(EPOCH),
            content: secret.chunk_id_key(EPOCH, ChunkType::Content, Domain::default()),
            journal: secret.chunk_id_key(EPOCH, ChunkType::Journal, Domain::default()),
            commits: secret.commit_name_key(EPOCH),
            channels: channels.collect(),
            begun_with,
        }
    }

    /// Returns the channels of the store's first layout.
    pub fn first_layout(&self) -> Vec<ChannelId> {
        self.channels
            .keys()
            .copied()
            .take(self.begun_with)
            .collect()
    }
}

impl ChunkContext for StoreKeys {
    fn id_key(&self, chunk_type: ChunkType, _: Domain) -> Option<&ChunkIdKey> {
        match chunk_type {
            ChunkType::Content => Some(&self.content),
            ChunkType::Journal => Some(&self.journal),
            ChunkType::Dictionary => None,
        }
    }

    fn dictionary(&self, _: &ChunkId) -> Option<&Dictionary> {
        None
    }
}
