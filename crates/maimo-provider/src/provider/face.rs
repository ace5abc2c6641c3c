//! [`Face`]: the provider as it shows itself on one network, under a key of its own there.
//!
//! A channel belongs to the face that it was opened on: its id derives from that face's auth key, which signs its receipts, and under the
//! other key its client is unknown. So nobody who scans ports learns whose onion service the machine has.

use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    address::Network,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey},
    invitation::InvitationToken,
    ticket::Ticket,
};
use maimo_net::{
    connect::{self, Welcome},
    service::{ServiceError, Session},
};

use super::{Inner, Provider, now};
use crate::session::{AuditSession, ClientSession};

/// A provider on one network. Clones are the same one.
#[derive(Clone)]
pub struct Face {
    inner: Arc<Inner>,
    network: Network,
}

impl Provider {
    /// Returns the provider as clients of a network meet it.
    pub fn face(&self, network: Network) -> Face {
        Face {
            inner: Arc::clone(&self.inner),
            network,
        }
    }
}

impl Face {
    /// Returns the network.
    pub const fn network(&self) -> Network {
        self.network
    }
}

impl connect::Provider for Face {
    fn auth(&self) -> AuthPublicKey {
        self.inner.keys.auth(self.network).public()
    }

    fn identity(&self) -> Arc<AuthSecretKey> {
        Arc::clone(self.inner.keys.auth(self.network))
    }

    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError> {
        let inner = &self.inner;
        if inner.volumes.folder_grace().is_none() {
            let channel = inner.keys.channel(self.network, &client);
            let row = inner.row(channel)?.ok_or(ServiceError::UnknownClient)?;
            let now = now();
            if row.is_over(now) {
                return Err(ServiceError::Revoked);
            }
            inner.meet(&row, now);
        }
        let session = ClientSession::new(Arc::clone(inner), self.network, client);
        Ok(Arc::new(session))
    }

    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        self.inner.redeem(self.network, client, token)
    }

    fn audit_session(&self, ticket: Ticket) -> Result<Arc<dyn Session>, ServiceError> {
        let session = AuditSession::open(Arc::clone(&self.inner), self.network, ticket)?;
        Ok(Arc::new(session))
    }

    fn addresses(&self) -> Option<Bytes> {
        // Whoever is told none keeps those it has.
        self.inner.addresses(self.network).ok().flatten()
    }
}

/// A folder in the same process: there it has its first key.
impl connect::Provider for Provider {
    fn auth(&self) -> AuthPublicKey {
        Self::auth(self)
    }

    fn identity(&self) -> Arc<AuthSecretKey> {
        self.face(Network::Onion).identity()
    }

    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError> {
        self.face(Network::Onion).session(client)
    }

    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        self.face(Network::Onion).redeem(client, token)
    }

    fn audit_session(&self, ticket: Ticket) -> Result<Arc<dyn Session>, ServiceError> {
        self.face(Network::Onion).audit_session(ticket)
    }

    fn addresses(&self) -> Option<Bytes> {
        self.face(Network::Onion).addresses()
    }
}

#[cfg(test)]
mod tests;
