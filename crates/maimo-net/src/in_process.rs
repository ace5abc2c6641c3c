//! The in-process transport: a provider in the same process, whose futures run on the caller's thread.
//!
//! It carries the messages as they are. What it takes for granted is what a network transport has to prove: that the client's key is the
//! caller's.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use maimo_core::{
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    ticket::Ticket,
};

use crate::{
    connect::{Connector, Load, Provider, Welcome},
    service::{Reply, ServiceError, Session},
};

/// Opens the provider at an address.
pub type OpenProvider = dyn Fn(&str) -> Result<Arc<dyn Provider>, ServiceError> + Send + Sync;

/// Connects to providers in this process; each is opened once and stays open.
pub struct InProcess {
    open: Box<OpenProvider>,
    opened: Mutex<HashMap<String, Arc<dyn Provider>>>,
}

impl InProcess {
    /// Makes a transport that opens providers by `open`.
    pub fn new(
        open: impl Fn(&str) -> Result<Arc<dyn Provider>, ServiceError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            open: Box::new(open),
            opened: Mutex::new(HashMap::new()),
        }
    }

    fn provider(&self, address: &str) -> Result<Arc<dyn Provider>, ServiceError> {
        // What a panic could leave behind is a map of providers, each whole.
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(provider) = opened.get(address) {
            return Ok(Arc::clone(provider));
        }
        let provider = (self.open)(address)?;
        opened.insert(address.to_owned(), Arc::clone(&provider));
        Ok(provider)
    }

    /// Returns the provider of a key, at one of the addresses.
    fn find(
        &self,
        addresses: &[String],
        auth: AuthPublicKey,
    ) -> Result<Arc<dyn Provider>, ServiceError> {
        let mut failed = ServiceError::Offline {
            detail: "there is no address to look at".to_owned(),
        };
        for address in addresses {
            match self.provider(address) {
                Ok(provider) if provider.auth() == auth => return Ok(provider),
                Ok(_) => failed = ServiceError::OtherProvider,
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }
}

impl Connector for InProcess {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        Box::pin(async move { Ok(self.provider(address)?.auth()) })
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        _: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move { self.find(addresses, auth)?.session(client.public()) })
    }

    fn audit<'a>(
        &'a self,
        addresses: &'a [String],
        ticket: &'a Ticket,
    ) -> Reply<'a, Arc<dyn Session>> {
        Box::pin(async move {
            self.find(addresses, ticket.terms().provider)?
                .audit_session(ticket.clone())
        })
    }

    fn redeem<'a>(
        &'a self,
        _invitation: &'a Invitation,
        _client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        Box::pin(async {
            Err(ServiceError::BadRequest {
                detail: "a folder is opened by its path, not by an invitation".to_owned(),
            })
        })
    }
}
