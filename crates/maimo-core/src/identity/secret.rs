//! Secret keys by role: they sign or they locate, they are wiped on drop, and nothing prints or copies them.

use core::marker::PhantomData;

use ed25519_dalek::{Signer, SigningKey};
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Auth, Authenticates, Client, Onion, PublicKey, Role, Signature};

/// The secret key of a store on one channel.
pub type ClientSecretKey = SecretKey<Client>;
/// The secret key by which a provider proves who it is.
pub type AuthSecretKey = SecretKey<Auth>;
/// The secret key of an onion service. Tor gets to see it, so it must **never** authenticate, and cannot sign:
///
/// ```compile_fail,E0599
/// let key = maimo_core::identity::OnionSecretKey::from_seed(&[1; 32]);
/// key.sign("maimo head v1", b"root");
/// ```
pub type OnionSecretKey = SecretKey<Onion>;

/// An Ed25519 secret key of one role: the 32-byte seed of RFC 8032, wiped on drop.
///
/// The seed stays at one place on the heap, so that moving the key leaves no copy behind. Neither printed nor copied:
///
/// ```compile_fail,E0277
/// format!("{:?}", maimo_core::identity::ClientSecretKey::from_seed(&[1; 32]));
/// ```
/// ```compile_fail,E0599
/// let _ = maimo_core::identity::ClientSecretKey::from_seed(&[1; 32]).clone();
/// ```
pub struct SecretKey<R> {
    seed: Box<[u8; 32]>,
    public: [u8; 32],
    role: PhantomData<R>,
}

impl<R: Role> SecretKey<R> {
    /// Takes the key whose RFC 8032 seed is `seed`; wiping that is the caller's part.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self::fill(|own| own.copy_from_slice(seed))
    }

    /// Draws a key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        Self::fill(|own| rng.fill_bytes(own))
    }

    /// Returns the public key.
    pub fn public(&self) -> PublicKey<R> {
        PublicKey::trusted(self.public)
    }

    /// Returns the seed, for who stores the key.
    pub const fn as_seed(&self) -> &[u8; 32] {
        &self.seed
    }

    fn fill(write: impl FnOnce(&mut [u8; 32])) -> Self {
        let mut seed = Box::new([0; 32]);
        write(&mut seed);
        let public = SigningKey::from_bytes(&seed).verifying_key().to_bytes();
        Self {
            seed,
            public,
            role: PhantomData,
        }
    }
}

impl<R: Authenticates> SecretKey<R> {
    /// Signs exactly `context || message`.
    ///
    /// No context may be the beginning of another one; `docs/cryptography.md` lists them all.
    pub fn sign(&self, context: &str, message: &[u8]) -> Signature {
        let signed = [context.as_bytes(), message].concat();
        Signature(SigningKey::from_bytes(&self.seed).sign(&signed).to_bytes())
    }
}

impl SecretKey<Onion> {
    /// Returns the expanded key, 64 bytes: what Tor's `ADD_ONION ED25519-V3:` takes in base64.
    ///
    /// These are the clamped scalar and the prefix of RFC 8032 §5.1.5, steps 1 and 2.
    pub fn expanded(&self) -> Zeroizing<[u8; 64]> {
        let mut expanded = Zeroizing::new([0; 64]);
        Sha512::new()
            .chain_update(*self.seed)
            .finalize_into((&mut *expanded).into());
        expanded[0] &= 0b1111_1000;
        expanded[31] &= 0b0111_1111;
        expanded[31] |= 0b0100_0000;
        expanded
    }
}

impl<R> Drop for SecretKey<R> {
    fn drop(&mut self) {
        self.seed.zeroize();
    }
}

impl<R> ZeroizeOnDrop for SecretKey<R> {}
