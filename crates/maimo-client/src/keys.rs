//! The keys of one store: all that the phrase derives, kept only as long as the store is open.

use std::{collections::HashMap, sync::OnceLock};

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
    /// Names content chunks of the store's own domain.
    pub content: ChunkIdKey,
    /// Names journal chunks.
    pub journal: ChunkIdKey,
    /// Names dictionaries.
    pub dictionary: ChunkIdKey,
    /// Cuts files of the store's own domain.
    pub gear: GearKey,
    /// Names commits.
    pub commits: CommitNameKey,
    secret: MasterSecret,
    /// Keys of other domains, derived when they are first met.
    others: OnceLock<Box<DomainKeys>>,
}

/// What a dedup domain that is not the store's own names and cuts its content with; then the next one.
struct DomainKeys {
    domain: Domain,
    content: ChunkIdKey,
    gear: GearKey,
    next: OnceLock<Box<Self>>,
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
            secret: MasterSecret::from_entropy(secret.as_entropy()),
            others: OnceLock::new(),
        }
    }

    /// Returns the key that names chunks of a type in a domain; only content is ever in another domain than the store's own.
    pub fn id_key(&self, of: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        let is_own = domain == Domain::default();
        match of {
            ChunkType::Content => Some(self.content_key(domain)),
            ChunkType::Journal => is_own.then_some(&self.journal),
            ChunkType::Dictionary => is_own.then_some(&self.dictionary),
        }
    }

    /// Returns the key that names content chunks of a domain.
    pub fn content_key(&self, domain: Domain) -> &ChunkIdKey {
        if domain == Domain::default() {
            &self.content
        } else {
            &self.other(domain).content
        }
    }

    /// Returns the key that files of a domain are cut by.
    pub fn gear_key(&self, domain: Domain) -> &GearKey {
        if domain == Domain::default() {
            &self.gear
        } else {
            &self.other(domain).gear
        }
    }

    fn other(&self, domain: Domain) -> &DomainKeys {
        let mut at = &self.others;
        loop {
            let keys = at.get_or_init(|| {
                Box::new(DomainKeys {
                    domain,
                    content: self.secret.chunk_id_key(EPOCH, ChunkType::Content, domain),
                    gear: self.secret.gear_key(EPOCH, domain),
                    next: OnceLock::new(),
                })
            });
            if keys.domain == domain {
                return keys;
            }
            at = &keys.next;
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
        self.keys.id_key(chunk_type, domain)
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        self.dictionaries.get(id)
    }
}
