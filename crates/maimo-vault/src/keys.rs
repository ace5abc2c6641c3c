//! The tree of keys: everything a store has is derived from its one secret, each key by a label of its own.
//!
//! A label is a context string of [`blake3`'s key derivation](https://docs.rs/blake3/latest/blake3/fn.derive_key.html), one for each
//! purpose and key epoch, listed with test vectors in `docs/cryptography.md`. What varies (a dedup domain, a provider's key) goes into
//! the key material behind the secret, never into the label. One type for each key: none can stand where another belongs, all are
//! wiped on drop, none is printed or copied.
//!
//! ```text
//! 24 words = MasterSecret --+-- StoreId, CommitNameKey
//!                           +-- ChunkIdKey of a type and domain, GearKey of a domain
//!                           '-- with a provider's auth key: ChannelKeys { client, data, vital, padding, commit }
//! ```

use core::fmt;
use std::sync::Arc;

use maimo_core::identity::{AuthPublicKey, ClientSecretKey};
use rand_core::CryptoRng;

use crate::{
    aead::{CannotOpen, NONCE_BYTES, TAG_BYTES, XChaCha8Blake3Siv},
    name::{ChunkId, ChunkType, Domain},
};

mod label;
mod secret;

use label::Label;
use secret::Secret;

/// Which generation of keys a key is of; 0 in all of version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyEpoch(pub u32);

/// The store's secret: 256 bits of entropy, what the 24 words spell.
///
/// ```compile_fail,E0277
/// format!("{:?}", maimo_vault::keys::MasterSecret::from_entropy(&[1; 32]));
/// ```
/// ```compile_fail,E0599
/// let _ = maimo_vault::keys::MasterSecret::from_entropy(&[1; 32]).clone();
/// ```
pub struct MasterSecret(Secret);

impl MasterSecret {
    /// Takes the entropy; wiping `entropy` itself is the caller's part.
    pub fn from_entropy(entropy: &[u8; 32]) -> Self {
        Self(Secret::fill(|own| own.copy_from_slice(entropy)))
    }

    /// Draws a new store's secret. `rng` must be the operating system's, outside tests.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self(Secret::fill(|own| rng.fill_bytes(own)))
    }

    /// Makes the secret where it will stay: what `write` leaves, if it succeeds.
    pub(crate) fn try_fill<E>(
        write: impl FnOnce(&mut [u8; 32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut outcome = Ok(());
        let secret = Secret::fill(|own| outcome = write(own));
        outcome.map(|()| Self(secret))
    }

    /// Returns the entropy.
    pub fn as_entropy(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns the store's id.
    pub fn store_id(&self, epoch: KeyEpoch) -> StoreId {
        StoreId(*self.derive(Label::StoreId, epoch, &[]).as_bytes())
    }

    /// Derives the key that chunks of one type and domain are named by.
    pub fn chunk_id_key(&self, epoch: KeyEpoch, of: ChunkType, domain: Domain) -> ChunkIdKey {
        let label = match of {
            ChunkType::Content => Label::ContentChunkId,
            ChunkType::Journal => Label::JournalChunkId,
            ChunkType::Dictionary => Label::DictionaryChunkId,
        };
        ChunkIdKey(self.derive(label, epoch, &domain.0.to_le_bytes()))
    }

    /// Derives the key that decides where files of one domain are cut into chunks.
    pub fn gear_key(&self, epoch: KeyEpoch, domain: Domain) -> GearKey {
        GearKey(self.derive(Label::Gear, epoch, &domain.0.to_le_bytes()))
    }

    /// Derives the key that commits are named by.
    pub fn commit_name_key(&self, epoch: KeyEpoch) -> CommitNameKey {
        CommitNameKey(self.derive(Label::CommitName, epoch, &[]))
    }

    /// Derives the keys of the channel with the provider whose auth key is `auth`: the one the channel was opened with.
    pub fn channel_keys(&self, epoch: KeyEpoch, auth: &AuthPublicKey) -> ChannelKeys {
        let derive = |label| self.derive(label, epoch, auth.as_bytes());
        ChannelKeys {
            client: Arc::new(ClientSecretKey::from_seed(
                derive(Label::ChannelClient).as_bytes(),
            )),
            data: PackKey(cipher(&derive(Label::ChannelData))),
            vital: PackKey(cipher(&derive(Label::ChannelVital))),
            padding: PaddingKey(derive(Label::ChannelPadding)),
            commit: CommitKey(cipher(&derive(Label::ChannelCommit))),
        }
    }

    /// `derive_key(label, secret || material)`: the secret has a fixed length, so the material's beginning is never in doubt.
    fn derive(&self, label: Label, epoch: KeyEpoch, material: &[u8]) -> Secret {
        Secret::derive(&label.context(epoch), &[self.as_entropy(), material])
    }
}

fn cipher(key: &Secret) -> XChaCha8Blake3Siv {
    XChaCha8Blake3Siv::from_key(key.as_bytes())
}

/// Names a store. No secret from its owner, but never shown to a provider: it would link the channels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 32]);

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreId({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// Names chunks of one type and dedup domain.
pub struct ChunkIdKey(Secret);

impl ChunkIdKey {
    /// Returns the id of the chunk `plaintext`: its keyed BLAKE3.
    pub fn id(&self, plaintext: &[u8]) -> ChunkId {
        ChunkId(self.0.keyed_hash(plaintext))
    }
}

/// Decides where files of one dedup domain are cut.
///
/// # Security
///
/// Whoever learns the gear table learns which files have which chunk lengths; all of the table comes from these 32 bytes.
pub struct GearKey(Secret);

impl GearKey {
    /// Fills `out` from the keyed XOF: BLAKE3 keyed with this key over nothing. The same bytes each time.
    pub fn fill(&self, out: &mut [u8]) {
        self.0.keyed_xof(&[], out);
    }
}

/// Names commits.
pub struct CommitNameKey(Secret);

impl CommitNameKey {
    /// Returns the name of the commit whose part for the store, equal on all channels, is `store_part`: its keyed BLAKE3.
    pub fn name(&self, store_part: &[u8]) -> CommitName {
        CommitName(self.0.keyed_hash(store_part))
    }
}

/// How commits name their parents.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommitName(pub [u8; 32]);

impl fmt::Debug for CommitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommitName({:02x}{:02x}..)", self.0[0], self.0[1])
    }
}

/// All keys of one channel. No two channels share one, so nothing two providers hold is equal.
pub struct ChannelKeys {
    /// Signs the channel's heads; its public half is who the provider deals with. Shared with the transport, which proves it again at each
    /// connection.
    pub client: Arc<ClientSecretKey>,
    /// Seals the packs of file chunks.
    pub data: PackKey,
    /// Seals the packs of journal segments and dictionaries.
    pub vital: PackKey,
    /// Fills packs up to whole blocks.
    pub padding: PaddingKey,
    /// Seals the commits.
    pub commit: CommitKey,
}

/// Seals and opens what is inside packs of one kind.
///
/// ```compile_fail,E0277
/// fn prints<T: core::fmt::Debug>() {}
/// prints::<maimo_vault::keys::PackKey>();
/// ```
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<maimo_vault::keys::PackKey>();
/// ```
pub struct PackKey(XChaCha8Blake3Siv);

/// Seals and opens commits.
pub struct CommitKey(XChaCha8Blake3Siv);

macro_rules! sealing_key {
    ($name:ident) => {
        impl $name {
            /// Seals `buffer` in place and returns the tag, which belongs behind it.
            #[must_use]
            pub fn seal_in_place(
                &self,
                nonce: &[u8; NONCE_BYTES],
                ad: &[u8],
                buffer: &mut [u8],
            ) -> [u8; TAG_BYTES] {
                self.0.seal_in_place(nonce, ad, buffer)
            }

            /// Opens `buffer` in place; where it does not open, the buffer is zeroed.
            pub fn open_in_place(
                &self,
                nonce: &[u8; NONCE_BYTES],
                ad: &[u8],
                buffer: &mut [u8],
                tag: &[u8; TAG_BYTES],
            ) -> Result<(), CannotOpen> {
                self.0.open_in_place(nonce, ad, buffer, tag)
            }
        }
    };
}

sealing_key!(PackKey);
sealing_key!(CommitKey);

/// Makes a pack's padding: bytes that look sealed, and that the owner can make again.
pub struct PaddingKey(Secret);

impl PaddingKey {
    /// Fills `out` with the padding of the pack whose nonce is `nonce`: BLAKE3 keyed with this key over the nonce, as an XOF.
    pub fn fill(&self, nonce: &[u8; NONCE_BYTES], out: &mut [u8]) {
        self.0.keyed_xof(nonce, out);
    }
}

#[cfg(test)]
mod tests;
