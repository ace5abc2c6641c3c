//! Who is at the other end: TLS 1.3 with raw public keys (RFC 7250) on both sides, Ed25519 and nothing else; `docs/cryptography.md`, "Connections".
//!
//! There are no certificates and no names. A key is 44 bytes, the one form of RFC 8410, and is compared as such. Every connection is a new one:
//! nothing is resumed, no tickets, no early data. What a peer may do is for others to know.
//!
//! Invariant: a stream that leaves this module ends at the holder of the secret key of the public key that goes with it, and is read and
//! written by nobody in between.

mod keys;
mod verify;

use core::fmt;
use std::{io, net::Ipv4Addr, sync::Arc};

use maimo_core::{
    error::{Classify, ErrorKind, Retry},
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, ClientSecretKey},
};
use rustls::{
    CertificateError, ClientConfig, CommonState, Error, ServerConfig, SignatureScheme,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::ServerName,
    server::NoServerSessionStorage,
    version::TLS13,
};
use thiserror::Error as ThisError;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use self::{
    keys::{Identity, NoIdentity, parse_key},
    verify::{AnyClient, AnyServer, OneServer},
};
use crate::transport::{BoxedStream, Stream};

/// The protocol that is spoken inside; both sides must name it.
pub const ALPN: &[u8] = b"maimo/1";

/// A stream whose other end is known.
pub type TlsStream = Box<dyn Stream>;

/// The client's side.
#[derive(Clone)]
pub struct ClientTls {
    identity: Arc<Identity<ClientSecretKey>>,
}

impl ClientTls {
    /// Makes the side of a client with this key.
    pub fn new(key: &Arc<ClientSecretKey>) -> Self {
        let identity = Arc::new(Identity::new(Arc::clone(key)));
        Self { identity }
    }

    /// Shakes hands with the provider of the key `expected`, and shows our key to nobody else.
    ///
    /// There is no deadline here.
    ///
    /// # Errors
    ///
    /// [`TlsError::OtherKey`] where another one answers.
    pub async fn connect(
        &self,
        stream: BoxedStream,
        expected: AuthPublicKey,
    ) -> Result<TlsStream, TlsError> {
        let verifier = Arc::new(OneServer::new(expected));
        let config = client_config(verifier, Arc::clone(&self.identity) as _);
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(no_name(), stream).await.map_err(failed)?;
        check_protocol(stream.get_ref().1)?;
        Ok(Box::new(stream))
    }

    /// Learns which key answers, and breaks off as soon as it is known: nothing that is ours is sent. Whoever answers has proven to hold the
    /// key, and nothing more.
    ///
    /// There is no deadline here.
    pub async fn identify(stream: BoxedStream) -> Result<AuthPublicKey, TlsError> {
        let verifier = Arc::new(AnyServer::default());
        let config = client_config(Arc::clone(&verifier) as _, Arc::new(NoIdentity));
        let connector = TlsConnector::from(Arc::new(config));
        let ended = connector.connect(no_name(), stream).await;
        match (verifier.proven(), ended) {
            (Some(key), _) => Ok(key),
            (None, Err(error)) => Err(failed(error)),
            (None, Ok(_)) => Err(TlsError::NoKey),
        }
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTls(..)")
    }
}

/// The provider's side.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
}

impl ServerTls {
    /// Makes the side of a provider with this key.
    pub fn new(key: &Arc<AuthSecretKey>) -> Self {
        let identity = Arc::new(Identity::new(Arc::clone(key)));
        Self {
            config: Arc::new(server_config(identity)),
        }
    }

    /// Shakes hands with a client, whoever it is, and returns which key it has proven to hold.
    ///
    /// There is no deadline here.
    pub async fn accept(
        &self,
        stream: BoxedStream,
    ) -> Result<(TlsStream, ClientPublicKey), TlsError> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.config));
        let stream = acceptor.accept(stream).await.map_err(failed)?;
        let connection = stream.get_ref().1;
        check_protocol(connection)?;
        let key = connection
            .peer_certificates()
            .and_then(|keys| parse_key(keys.first()?))
            .ok_or(TlsError::NoKey)?;
        Ok((Box::new(stream), key))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerTls(..)")
    }
}

/// Returns ring's algorithms, less those that we do not use: TLS 1.3 with X25519.
fn provider() -> Arc<CryptoProvider> {
    let all = ring::default_provider();
    Arc::new(CryptoProvider {
        cipher_suites: all
            .cipher_suites
            .into_iter()
            .filter(|suite| suite.tls13().is_some())
            .collect(),
        kx_groups: vec![ring::kx_group::X25519],
        ..all
    })
}

fn client_config(
    verifier: Arc<dyn rustls::client::danger::ServerCertVerifier>,
    identity: Arc<dyn rustls::client::ResolvesClientCert>,
) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites and groups of TLS 1.3")
        .dangerous() // so called because there are no certificates: `verify` compares keys instead
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_early_data = false;
    config
}

fn server_config(identity: Arc<dyn rustls::server::ResolvesServerCert>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has suites and groups of TLS 1.3")
        .with_client_cert_verifier(Arc::new(AnyClient))
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Returns what stands for a name: nothing is sent of it, and no key is looked up by it.
fn no_name() -> ServerName<'static> {
    Ipv4Addr::UNSPECIFIED.into()
}

/// The library insists on a common protocol only where both sides name one.
fn check_protocol(connection: &CommonState) -> Result<(), TlsError> {
    if connection.alpn_protocol() == Some(ALPN) {
        Ok(())
    } else {
        Err(TlsError::OtherProtocol {
            detail: "it does not name the protocol maimo/1".to_owned(),
        })
    }
}

const SCHEME: SignatureScheme = SignatureScheme::ED25519;

/// Why no stream came of a handshake.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// Whoever answers has another key than was asked for.
    #[error("another key answers")]
    OtherKey,
    /// The other side shows no key, or none that could be used here.
    #[error("the other side shows no usable ed25519 key")]
    NoKey,
    /// The other side does not hold the key that it shows.
    #[error("the other side has not proven its key")]
    NotProven,
    /// The other side speaks something else.
    #[error("the other side does not speak the protocol of Maimo: {detail}")]
    OtherProtocol {
        /// What was wrong.
        detail: String,
    },
    /// The other side said no.
    #[error("the other side has ended the handshake: {alert}")]
    Refused {
        /// The alert of TLS.
        alert: String,
    },
    /// The stream ended.
    #[error("the connection broke in the handshake: {detail}")]
    Broken {
        /// How.
        detail: String,
    },
}

impl Classify for TlsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::OtherKey | Self::NoKey | Self::NotProven | Self::OtherProtocol { .. } => {
                ErrorKind::ProviderMisbehaved
            }
            Self::Refused { .. } => ErrorKind::ProviderRefused,
            Self::Broken { .. } => ErrorKind::Network,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Broken { .. } => Retry::AfterWaiting,
            _ => Retry::Never,
        }
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::OtherKey | Self::NotProven => {
                Some("ask the provider, on another way, whether the address is still theirs")
            }
            Self::NoKey | Self::OtherProtocol { .. } => {
                Some("is this the address of a Maimo provider? if so, update Maimo on both sides")
            }
            Self::Refused { .. } => Some("update Maimo on both sides"),
            Self::Broken { .. } => Some("try again"),
        }
    }
}

/// Tells what a failed handshake means.
fn failed(error: io::Error) -> TlsError {
    let kind = error.kind();
    let Some(error) = error
        .into_inner()
        .and_then(|inner| inner.downcast::<Error>().ok())
    else {
        let detail = kind.to_string();
        return TlsError::Broken { detail };
    };
    match *error {
        Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure) => {
            TlsError::OtherKey
        }
        Error::InvalidCertificate(CertificateError::BadSignature) => TlsError::NotProven,
        Error::InvalidCertificate(_) | Error::NoCertificatesPresented => TlsError::NoKey,
        Error::AlertReceived(alert) => TlsError::Refused {
            alert: format!("{alert:?}"),
        },
        error => TlsError::OtherProtocol {
            detail: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests;
