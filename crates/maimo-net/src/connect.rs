//! Connecting: from an address to a session, whatever the transport.

use std::sync::Arc;

use maimo_core::identity::{AuthPublicKey, ClientPublicKey, ClientSecretKey};

use crate::service::{Reply, ServiceError, Session};

/// The client's end of a transport.
///
/// An address is the text that a channel record keeps: `dir:` and an absolute path for a folder.
pub trait Connector: Send + Sync {
    /// Learns which auth key answers at an address. Nothing is proven by it: only who holds a head signed by the client key derived from this
    /// key is the store's provider.
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey>;

    /// Opens a session with the provider of the key `auth`.
    fn connect<'a>(
        &'a self,
        address: &'a str,
        auth: AuthPublicKey,
        client: &'a ClientSecretKey,
    ) -> Reply<'a, Arc<dyn Session>>;
}

/// The provider's end: who it is, and what it does for whom.
pub trait Provider: Send + Sync {
    /// Returns the key it signs receipts with.
    fn auth(&self) -> AuthPublicKey;

    /// Opens a session for a client whose key the transport has made sure of.
    ///
    /// # Errors
    ///
    /// [`ServiceError::UnknownClient`], or that it cannot serve.
    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError>;
}
