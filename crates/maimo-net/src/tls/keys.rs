//! Keys as TLS shows them, and proofs that one holds them.

use core::fmt;
use std::sync::Arc;

use maimo_core::identity::{
    AuthSecretKey, Authenticates, ClientSecretKey, PublicKey, Role, SecretKey,
};
use rustls::{
    Error, SignatureAlgorithm,
    client::ResolvesClientCert,
    pki_types::{CertificateDer, SubjectPublicKeyInfoDer},
    server::{ClientHello, ResolvesServerCert},
    sign::{CertifiedKey, Signer, SigningKey},
};

use super::SCHEME;

/// What stands before a key's 32 bytes: a sequence of the algorithm 1.3.101.112 without parameters and a bit string (RFC 8410).
const SPKI_HEAD: [u8; 12] = *b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";
const SPKI_BYTES: usize = SPKI_HEAD.len() + 32;

/// What both sides sign begins with (RFC 8446, 4.4.3): as a context, which no other signature of Maimo has.
pub(super) const SERVER_CONTEXT: &str = concat!(
    "                                                                ",
    "TLS 1.3, server CertificateVerify\0"
);
pub(super) const CLIENT_CONTEXT: &str = concat!(
    "                                                                ",
    "TLS 1.3, client CertificateVerify\0"
);

/// Returns a key as it is shown: 44 bytes.
pub(super) fn encode_key<R: Role>(key: &PublicKey<R>) -> [u8; SPKI_BYTES] {
    let mut bytes = [0; SPKI_BYTES];
    bytes[..SPKI_HEAD.len()].copy_from_slice(&SPKI_HEAD);
    bytes[SPKI_HEAD.len()..].copy_from_slice(key.as_bytes());
    bytes
}

/// Reads what [`encode_key`] wrote; any other form, and any key that an identity cannot be, is none.
pub(super) fn parse_key<R: Role>(shown: &[u8]) -> Option<PublicKey<R>> {
    let key = shown.strip_prefix(&SPKI_HEAD)?;
    PublicKey::from_bytes(key.try_into().ok()?).ok()
}

/// A secret key that signs handshakes, and them only.
pub(super) trait Proves: Send + Sync + 'static {
    /// What a signature of this side begins with.
    const CONTEXT: &'static str;

    /// Returns the public key as it is shown.
    fn shown(&self) -> [u8; SPKI_BYTES];

    /// Signs what follows the context.
    fn prove(&self, message: &[u8]) -> Vec<u8>;
}

impl Proves for ClientSecretKey {
    const CONTEXT: &'static str = CLIENT_CONTEXT;

    fn shown(&self) -> [u8; SPKI_BYTES] {
        encode_key(&self.public())
    }

    fn prove(&self, message: &[u8]) -> Vec<u8> {
        prove(self, Self::CONTEXT, message)
    }
}

impl Proves for AuthSecretKey {
    const CONTEXT: &'static str = SERVER_CONTEXT;

    fn shown(&self) -> [u8; SPKI_BYTES] {
        encode_key(&self.public())
    }

    fn prove(&self, message: &[u8]) -> Vec<u8> {
        prove(self, Self::CONTEXT, message)
    }
}

fn prove<R: Authenticates>(key: &SecretKey<R>, context: &str, message: &[u8]) -> Vec<u8> {
    key.sign(context, message).as_bytes().to_vec()
}

/// Who we are: the key is shared, never copied.
pub(super) struct Identity<K>(Arc<CertifiedKey>, core::marker::PhantomData<fn(K)>);

impl<K: Proves> Identity<K> {
    pub(super) fn new(key: Arc<K>) -> Self {
        let shown = CertificateDer::from(key.shown().to_vec());
        let signing = Arc::new(Signing(key));
        Self(
            Arc::new(CertifiedKey::new(vec![shown], signing)),
            core::marker::PhantomData,
        )
    }
}

impl<K> fmt::Debug for Identity<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

impl ResolvesServerCert for Identity<AuthSecretKey> {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

impl ResolvesClientCert for Identity<ClientSecretKey> {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Nobody: promises a raw key, as a provider wants it, and has none to show.
#[derive(Debug)]
pub(super) struct NoIdentity;

impl ResolvesClientCert for NoIdentity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// A secret key as the library calls on it.
pub(super) struct Signing<K>(pub(super) Arc<K>);

impl<K> Clone for Signing<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> fmt::Debug for Signing<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signing(..)")
    }
}

impl<K: Proves> SigningKey for Signing<K> {
    fn choose_scheme(&self, offered: &[rustls::SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SCHEME)
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(self.0.shown().to_vec().into())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl<K: Proves> Signer for Signing<K> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        // Whatever a peer makes the library ask for, this key signs a handshake of its own side and nothing else.
        let message = message
            .strip_prefix(K::CONTEXT.as_bytes())
            .ok_or_else(|| Error::General("not a handshake of this side".to_owned()))?;
        Ok(self.0.prove(message))
    }

    fn scheme(&self) -> rustls::SignatureScheme {
        SCHEME
    }
}
