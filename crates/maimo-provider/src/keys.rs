//! The provider's own keys: 256 random bits, drawn when the provider is made, never a child of a store's phrase.
//!
//! Everything the provider has to keep secret follows from them, and 24 words bring them back. They open nothing: who has them can pretend to
//! be this provider, not read what it stores. On disk they are a file of mode 0600.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    sync::Arc,
};

use bip39::{Language, Mnemonic};
use getrandom::SysRng;
use maimo_core::{
    address::Network,
    error::{Classify, ErrorKind, Retry},
    id::ChannelId,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, OnionSecretKey},
};
use rand_core::TryRng;
use thiserror::Error;
use zeroize::Zeroizing;

/// The key file's name in a provider's home.
pub(crate) const NAME: &str = "provider.key";

/// What each key is derived by from the 32 random bytes; `docs/cryptography.md` lists them.
const AUTH_CONTEXT: &str = "maimo v1 provider auth key";
const TCP_AUTH_CONTEXT: &str = "maimo v1 provider tcp auth key";
const ONION_CONTEXT: &str = "maimo v1 provider onion key";
const MAGIC: [u8; 16] = *b"maimo provider\0\x01";
const SECRET: usize = 32;
const LENGTH: usize = MAGIC.len() + SECRET + 32;

/// Why keys cannot be read, kept or brought back.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeysError {
    /// The file is not what was written there.
    #[error("the provider's key file is damaged")]
    Damaged,
    /// The words are not 24 of the list in an order that their checksum fits.
    #[error("these are not the 24 words of a provider")]
    Words,
    /// The file may be read by others.
    #[error("the provider's key file may be read by others")]
    Mode,
    /// The file system.
    #[error("the provider's key file cannot be read or written")]
    Io(#[from] io::Error),
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    Random,
}

impl Classify for KeysError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Damaged => ErrorKind::LocalCorrupt,
            Self::Words => ErrorKind::BadInput,
            Self::Mode => ErrorKind::Config,
            Self::Io(_) | Self::Random => ErrorKind::LocalIo,
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Damaged => Some("bring the keys back from their 24 words"),
            Self::Mode => Some("take the right to read it from all but its owner: chmod 600"),
            Self::Words => {
                Some("compare the words with your written copy, one by one and in order")
            }
            _ => None,
        }
    }
}

/// A provider's keys; wiped on drop, neither printed nor copied.
pub(crate) struct Keys {
    secret: Zeroizing<[u8; SECRET]>,
    auth: Arc<AuthSecretKey>,
    tcp_auth: Arc<AuthSecretKey>,
    onion: Arc<OnionSecretKey>,
}

impl Keys {
    /// Draws new keys.
    pub(crate) fn generate() -> Result<Self, KeysError> {
        let mut secret = Zeroizing::new([0; SECRET]);
        SysRng
            .try_fill_bytes(&mut *secret)
            .map_err(|_| KeysError::Random)?;
        Ok(Self::of(secret))
    }

    fn of(secret: Zeroizing<[u8; SECRET]>) -> Self {
        let seed = |context| Zeroizing::new(blake3::derive_key(context, &*secret));
        let auth = Arc::new(AuthSecretKey::from_seed(&seed(AUTH_CONTEXT)));
        let tcp_auth = Arc::new(AuthSecretKey::from_seed(&seed(TCP_AUTH_CONTEXT)));
        let onion = Arc::new(OnionSecretKey::from_seed(&seed(ONION_CONTEXT)));
        Self {
            secret,
            auth,
            tcp_auth,
            onion,
        }
    }

    /// Returns the key by which it proves who it is on a network, and signs receipts there.
    pub(crate) const fn auth(&self, network: Network) -> &Arc<AuthSecretKey> {
        match network {
            Network::Onion => &self.auth,
            Network::Tcp => &self.tcp_auth,
        }
    }

    /// Returns the key of its onion service, which only locates.
    pub(crate) const fn onion(&self) -> &Arc<OnionSecretKey> {
        &self.onion
    }

    /// Returns the public part of the first key: that of its onion face, of a folder, and the owner of its volumes.
    pub(crate) fn auth_public(&self) -> AuthPublicKey {
        self.auth.public()
    }

    /// Returns the channel of a client on a network.
    pub(crate) fn channel(&self, network: Network, client: &ClientPublicKey) -> ChannelId {
        let auth = self.auth(network).public();
        ChannelId::derive(auth.as_bytes(), client.as_bytes())
    }

    /// Returns on which network a client has this channel; nothing if it is no channel of the two.
    pub(crate) fn network_of(
        &self,
        channel: &ChannelId,
        client: &ClientPublicKey,
    ) -> Option<Network> {
        let all = [Network::Onion, Network::Tcp];
        all.into_iter()
            .find(|network| self.channel(*network, client) == *channel)
    }

    /// Spells the keys in words.
    pub(crate) fn phrase(&self) -> ProviderPhrase {
        let words = Mnemonic::from_entropy_in(Language::English, &*self.secret)
            .expect("32 bytes are 24 words");
        let mut text = Zeroizing::new(String::with_capacity(24 * 9));
        for (index, word) in words.words().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
        ProviderPhrase(text)
    }

    /// Reads words.
    pub(crate) fn from_phrase(words: &str) -> Result<Self, KeysError> {
        let words = Zeroizing::new(words.to_lowercase());
        let words =
            Mnemonic::parse_in(Language::English, words.as_str()).map_err(|_| KeysError::Words)?;
        let (entropy, length) = words.to_entropy_array();
        let entropy = Zeroizing::new(entropy);
        let secret = entropy
            .get(..length)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(KeysError::Words)?;
        Ok(Self::of(Zeroizing::new(secret)))
    }

    /// Writes the key file into a folder, durably, where there is none.
    pub(crate) fn write(&self, home: &Path) -> Result<(), KeysError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&*self.secret);
        let sum = blake3::hash(&bytes);
        bytes.extend_from_slice(sum.as_bytes());
        // Under another name first: half a key file would be a provider lost.
        let aside = home.join("provider.key.aside");
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&aside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        let linked = fs::hard_link(&aside, home.join(NAME)).or_else(|error| {
            // Some file systems have no links; a name that is taken is no reason to take it over.
            if error.kind() == io::ErrorKind::AlreadyExists || home.join(NAME).exists() {
                return Err(error);
            }
            fs::rename(&aside, home.join(NAME))
        });
        let _ = fs::remove_file(&aside);
        linked?;
        fs::File::open(home)?.sync_all()?;
        Ok(())
    }

    /// Reads the key file of a folder.
    pub(crate) fn read(home: &Path) -> Result<Self, KeysError> {
        let path = home.join(NAME);
        let metadata = fs::metadata(&path)?;
        if metadata.permissions().mode() & 0o077 != 0 && !is_modeless(home) {
            return Err(KeysError::Mode);
        }
        if metadata.len() != LENGTH as u64 {
            return Err(KeysError::Damaged);
        }
        let bytes = Zeroizing::new(fs::read(&path)?);
        let rest = bytes.strip_prefix(&MAGIC).ok_or(KeysError::Damaged)?;
        let (secret, sum) = rest
            .split_first_chunk::<SECRET>()
            .ok_or(KeysError::Damaged)?;
        if *blake3::hash(&bytes[..LENGTH - 32]).as_bytes() != *sum {
            return Err(KeysError::Damaged);
        }
        Ok(Self::of(Zeroizing::new(*secret)))
    }
}

/// Returns whether the folder is on a file system without modes, as USB disks often are: every file there has the same.
fn is_modeless(home: &Path) -> bool {
    use rustix::fs::statfs;
    // FAT, exFAT, NTFS by two drivers, FUSE, SMB by two, 9P.
    const WITHOUT_MODES: [u64; 8] = [
        0x4d44,
        0x2011_bab0,
        0x5346_544e,
        0x7366_746e,
        0x6573_5546,
        0xff53_4d42,
        0xfe53_4d42,
        0x0102_1997,
    ];
    statfs(home).is_ok_and(|found| {
        u64::try_from(found.f_type).is_ok_and(|kind| WITHOUT_MODES.contains(&kind))
    })
}

/// A provider's keys as 24 words; wiped on drop, printed by nobody but who takes [`ProviderPhrase::as_str`].
pub struct ProviderPhrase(Zeroizing<String>);

impl ProviderPhrase {
    /// Returns the words, with a space between each two. Whoever copies them wipes the copy.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_file_bring_the_same_keys_back() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::generate().unwrap();
        keys.write(home.path()).unwrap();
        let read = Keys::read(home.path()).unwrap();
        let words = Keys::from_phrase(keys.phrase().as_str()).unwrap();
        assert_eq!(read.auth_public(), keys.auth_public());
        assert_eq!(words.auth_public(), keys.auth_public());
        assert_eq!(keys.phrase().as_str().split(' ').count(), 24);
        let mode = fs::metadata(home.path().join(NAME)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
    }

    #[test]
    fn every_key_is_derived_as_another_implementation_derives_it() {
        let words = "abandon ".repeat(23) + "art";
        let keys = Keys::from_phrase(&words).unwrap();
        let text = include_str!("../../../testdata/vectors/provider_keys.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let hex = |name: &str| vectors["derived"][name].as_str().unwrap().to_owned();
        let shown = |seed: &[u8; 32]| blake3::Hash::from_bytes(*seed).to_hex().to_string();
        assert_eq!(shown(&keys.secret), vectors["secret"].as_str().unwrap());
        assert_eq!(
            shown(keys.auth(Network::Onion).as_seed()),
            hex(AUTH_CONTEXT)
        );
        assert_eq!(
            shown(keys.auth(Network::Tcp).as_seed()),
            hex(TCP_AUTH_CONTEXT)
        );
        assert_eq!(shown(keys.onion().as_seed()), hex(ONION_CONTEXT));
    }

    #[test]
    fn a_channel_belongs_to_one_network() {
        let keys = Keys::generate().unwrap();
        let client = maimo_core::identity::ClientSecretKey::from_seed(&[1; 32]).public();
        for network in [Network::Onion, Network::Tcp] {
            let channel = keys.channel(network, &client);
            assert_eq!(keys.network_of(&channel, &client), Some(network));
        }
        let other = Keys::generate().unwrap().channel(Network::Tcp, &client);
        assert_eq!(keys.network_of(&other, &client), None);
    }

    #[test]
    fn keys_are_never_written_over() {
        let home = tempfile::tempdir().unwrap();
        let keys = Keys::generate().unwrap();
        keys.write(home.path()).unwrap();
        assert!(Keys::generate().unwrap().write(home.path()).is_err());
        let read = Keys::read(home.path()).unwrap();
        assert_eq!(read.auth_public(), keys.auth_public());
    }

    #[test]
    fn a_damaged_or_open_key_file_is_refused() {
        let home = tempfile::tempdir().unwrap();
        Keys::generate().unwrap().write(home.path()).unwrap();
        let path = home.path().join(NAME);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::read(home.path()), Err(KeysError::Mode)));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(Keys::read(home.path()), Err(KeysError::Damaged)));
        bytes.pop();
        fs::write(&path, &bytes).unwrap();
        assert!(matches!(Keys::read(home.path()), Err(KeysError::Damaged)));
        assert!(matches!(
            Keys::from_phrase("abandon abandon"),
            Err(KeysError::Words)
        ));
    }
}
