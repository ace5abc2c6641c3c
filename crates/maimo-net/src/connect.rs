//! Connecting: from an address to a session, whatever the transport; and what a provider does for who comes in.

use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    custody::Terms,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey, ClientSecretKey},
    invitation::{Invitation, InvitationToken},
    ticket::Ticket,
};

use crate::service::{Reply, ServiceError, Session};

/// The client's end of a transport.
///
/// An address is the text that a channel record keeps: `dir:` and an absolute path for a folder, else what
/// [`maimo_core::address::Address`] reads. Where several are given they are of one provider, and the first that answers with its key serves.
pub trait Connector: Send + Sync {
    /// Learns which auth key answers at an address. Nothing is proven by it: only who holds a head signed by the client key derived from this
    /// key is the store's provider.
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey>;

    /// Opens a session with the provider of the key `auth`. What it needs of the key it shares: the session may connect again at any time.
    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        load: Load,
    ) -> Reply<'a, Arc<dyn Session>>;

    /// Takes up an invitation for the key `client`; the same one again for the same key is answered as the first time.
    ///
    /// Refused unless the terms that come back are signed by the invitation's auth key and those that it offers.
    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome>;

    /// Opens a session for whoever has a ticket, under a key made for it and kept nowhere. It gives what a ticket gives: the newest head, the proof
    /// that it descends from the ticket's, nodes, and answers to audits with the provider's word for them.
    ///
    /// `addresses` are those to go to: the ticket's, or where its bearer knows that the provider is.
    fn audit<'a>(
        &'a self,
        addresses: &'a [String],
        ticket: &'a Ticket,
    ) -> Reply<'a, Arc<dyn Session>> {
        let _ = (addresses, ticket);
        Box::pin(async { Err(ServiceError::not_given()) })
    }
}

/// What a session is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Questions, and little beside them.
    Light,
    /// Much of packs is to be read or put at once. Where that takes circuits of its own they are opened beside the first.
    Heavy,
    /// What is still to be found out: a way to the provider is begun and not waited for. What keeps it from opening is what the first call ends
    /// with; [`Session::expect_much`] may follow.
    Unknown,
}

impl Load {
    /// From how many bytes on a transfer is heavy.
    pub const HEAVY_BYTES: u64 = 4 * 1024 * 1024;

    /// Returns what so many bytes are.
    pub const fn of(bytes: u64) -> Self {
        if bytes < Self::HEAVY_BYTES {
            Self::Light
        } else {
            Self::Heavy
        }
    }
}

/// What an invitation led to.
#[derive(Debug, Clone)]
pub struct Welcome {
    /// The terms that hold.
    pub terms: Terms,
    /// Where the provider says it is, encoded and signed ([`maimo_core::address`]); none where it has no list.
    pub addresses: Option<Bytes>,
}

/// The provider's end: who it is on one network, and what it does for whom.
///
/// As with [`Session`], calls may block their thread.
pub trait Provider: Send + Sync {
    /// Returns the key it signs receipts with on this network.
    fn auth(&self) -> AuthPublicKey;

    /// Returns the secret part of it, by which a transport proves who it is.
    fn identity(&self) -> Arc<AuthSecretKey>;

    /// Opens a session for a client whose key the transport has made sure of.
    ///
    /// # Errors
    ///
    /// [`ServiceError::UnknownClient`], [`ServiceError::Revoked`], or that it cannot serve.
    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError>;

    /// Takes up the invitation of this token for a client whose key the transport has made sure of. Idempotent for that key.
    ///
    /// # Errors
    ///
    /// [`ServiceError::InvitationRefused`], which does not say whether there ever was such a token, or that it cannot serve.
    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError>;

    /// Opens a session for whoever shows a ticket. Its signature has been checked, and nothing else.
    ///
    /// # Errors
    ///
    /// [`ServiceError::TicketRefused`], or that it cannot serve.
    fn audit_session(&self, ticket: Ticket) -> Result<Arc<dyn Session>, ServiceError> {
        drop(ticket);
        Err(ServiceError::not_given())
    }

    /// Returns the signed list of where it is, encoded; none where nothing was published.
    fn addresses(&self) -> Option<Bytes>;
}
