//! The Tor that the configuration names: the one in this program, or one that runs on this machine already. Never both, and never neither.

use std::sync::Arc;

use maimo_core::identity::OnionSecretKey;
use maimo_net::{
    service::ServiceError,
    transport::{Listener, Transport},
};

use super::Settings;
use crate::{config::Way, ui::Link};

/// The port of a node's onion service. It is no port of the machine: only Tor ever sees it.
pub(crate) const ONION_PORT: u16 = 4243;

/// What a Tor is for. Each has a state of its own: a client's guards are not to be those of the service on the same machine, and two
/// processes may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// To reach others.
    Client,
    /// To be reached.
    Service,
}

impl Role {
    const fn folder(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Service => "service",
        }
    }
}

/// A Tor that was started, or found. There is none yet: each comes with its transport.
#[derive(Clone)]
pub(crate) enum Tor {}

impl Tor {
    /// Starts the one that a way names, to be called on the network's runtime. That it is connected is waited for by whoever dials.
    #[expect(clippy::unused_async, reason = "where there is a Tor, it takes time")]
    pub(super) async fn start(
        settings: &Settings,
        way: Way,
        role: Role,
        link: &Link,
    ) -> Result<Self, ServiceError> {
        let _ = (&settings.bridges, &settings.private, role.folder(), link);
        let _ = (&settings.tor_state, &settings.tor_cache);
        let _ = (settings.socks, settings.control, &settings.password_file);
        let detail = match way {
            Way::SystemTor => "this build does not speak with one that runs already",
            _ => "this build has none",
        };
        Err(ServiceError::TorUnavailable {
            detail: detail.to_owned(),
        })
    }

    /// Returns the way out.
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        match *self {}
    }

    /// Makes the onion service of this key, and waits until others reach it.
    #[expect(clippy::unused_async, reason = "where there is a Tor, it takes time")]
    pub(crate) async fn listen(
        &self,
        _key: &OnionSecretKey,
    ) -> Result<Box<dyn Listener>, ServiceError> {
        match *self {}
    }
}
