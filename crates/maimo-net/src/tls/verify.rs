//! What is asked of the other side's key. No certificate is looked at: there is none.

use std::sync::{Mutex, PoisonError};

use maimo_core::identity::{
    Auth, AuthPublicKey, Authenticates, Client, ClientPublicKey, PublicKey, Signature,
};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use super::{
    SCHEME,
    keys::{CLIENT_CONTEXT, SERVER_CONTEXT, encode_key, parse_key},
};

/// The provider of one key.
#[derive(Debug)]
pub(super) struct OneServer {
    shown: [u8; 44],
}

impl OneServer {
    pub(super) fn new(expected: AuthPublicKey) -> Self {
        Self {
            shown: encode_key(&expected),
        }
    }
}

/// A provider of whatever key, which is kept once it is proven; then the handshake ends.
#[derive(Debug, Default)]
pub(super) struct AnyServer {
    proven: Mutex<Option<AuthPublicKey>>,
}

impl AnyServer {
    pub(super) fn proven(&self) -> Option<AuthPublicKey> {
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client of whatever key.
#[derive(Debug)]
pub(super) struct AnyClient;

/// Reads the one key that is shown.
fn key<R: Authenticates>(
    shown: &CertificateDer<'_>,
    more: &[CertificateDer<'_>],
) -> Result<PublicKey<R>, Error> {
    parse_key(shown)
        .filter(|_| more.is_empty())
        .ok_or_else(|| CertificateError::BadEncoding.into())
}

/// Checks that the holder of the key signed this handshake. Strict, as every signature of Maimo is.
fn check<R: Authenticates>(
    key: &PublicKey<R>,
    context: &str,
    message: &[u8],
    signed: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    let bad = || Error::from(CertificateError::BadSignature);
    if signed.scheme != SCHEME {
        return Err(bad());
    }
    let signature = signed.signature().try_into().map_err(|_| bad())?;
    let message = message.strip_prefix(context.as_bytes()).ok_or_else(bad)?;
    key.verify(context, message, &Signature(signature))
        .map_err(|_| bad())?;
    Ok(HandshakeSignatureValid::assertion())
}

/// What every verifier says alike: TLS 1.3 and nothing older, raw keys and no certificates, one scheme.
macro_rules! raw_keys_of_tls13 {
    () => {
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(Error::General("only TLS 1.3 is spoken".to_owned()))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SCHEME]
        }

        fn requires_raw_public_keys(&self) -> bool {
            true
        }
    };
}

impl ServerCertVerifier for OneServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if **end_entity == self.shown && intermediates.is_empty() {
            return Ok(ServerCertVerified::assertion());
        }
        key::<Auth>(end_entity, intermediates)?;
        Err(CertificateError::ApplicationVerificationFailure.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key: AuthPublicKey = key(cert, &[])?;
        check(&key, SERVER_CONTEXT, message, dss)
    }

    raw_keys_of_tls13!();
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        key::<Auth>(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key: AuthPublicKey = key(cert, &[])?;
        check(&key, SERVER_CONTEXT, message, dss)?;
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        // What was wanted is known: an alert is all that the other side gets.
        Err(Error::General("the key is known".to_owned()))
    }

    raw_keys_of_tls13!();
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        key::<Client>(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key: ClientPublicKey = key(cert, &[])?;
        check(&key, CLIENT_CONTEXT, message, dss)
    }

    raw_keys_of_tls13!();
}
