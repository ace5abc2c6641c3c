//! The client's way to providers: folders in this process, all else over the network.

use std::{sync::Arc, time::Duration};

use maimo_core::{
    address::{Address, Network as Kind},
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::Invitation,
    ticket::Ticket,
};
use maimo_net::{
    circuits::Statistics,
    connect::{Connector, Load, Welcome},
    connector::{self, NetworkConnector},
    rate::Limits,
    service::{Reply, ServiceError, Session},
    transport::Transport,
};

use super::{Network, tor::Role, tor::Tor};
use crate::{config::Way, connect::is_folder};

impl Network {
    /// Returns the way to the providers in `folders`, and over the network to all others.
    pub(crate) fn and(self: &Arc<Self>, folders: impl Connector + 'static) -> Arc<dyn Connector> {
        Arc::new(Router {
            folders: Box::new(folders),
            network: Arc::clone(self),
        })
    }

    /// Returns an error unless one of the addresses may be spoken with. Before anything is opened: even a Tor that starts tells its guards
    /// that someone is there.
    fn admit<'a>(&self, addresses: impl IntoIterator<Item = &'a str>) -> Result<(), ServiceError> {
        let mut told = None;
        for text in addresses {
            match text.parse::<Address>() {
                Ok(address) if self.reaches(address.network()) => return Ok(()),
                Ok(address) => {
                    told = Some(match address.network() {
                        Kind::Onion => "an onion address is reached over tor alone",
                        Kind::Tcp => {
                            "that is no onion address, and this node was not told to use tcp"
                        }
                    });
                }
                Err(_) => {
                    let told_before = told.is_some();
                    if !told_before {
                        told = Some("that is no address");
                    }
                }
            }
        }
        Err(ServiceError::NotAllowed {
            detail: told.unwrap_or("no address is known").to_owned(),
        })
    }

    /// Returns a Tor to be reached by, to be called on the runtime.
    pub(crate) async fn service_tor(&self, way: Way) -> Result<Tor, ServiceError> {
        Tor::start(&self.settings, way, Role::Service, &self.link).await
    }

    /// Returns what all connections of this process to providers did; none where none was made, or one is being made just now.
    pub(crate) fn statistics(&self) -> Option<Statistics> {
        let connector = self.connector.try_lock().ok()?;
        Some(connector.as_ref()?.statistics())
    }

    /// Returns what connects, made at the first call.
    async fn connector(self: &Arc<Self>) -> Result<Arc<NetworkConnector>, ServiceError> {
        let mut connector = self.connector.lock().await;
        if let Some(connector) = &*connector {
            return Ok(Arc::clone(connector));
        }
        let failed = |error: std::io::Error| ServiceError::Offline {
            detail: format!("this machine gives no threads: {error}"),
        };
        let runtime = self.runtime().map_err(failed)?;
        let network = Arc::clone(self);
        // On the runtime: whoever asks may have one of its own, or none.
        let transports = runtime
            .spawn(async move { network.transports().await })
            .await
            .map_err(|error| failed(error.into()))??;
        let made = Arc::new(NetworkConnector::new(transports, runtime, self.pace()));
        let pool = Arc::clone(&made);
        self.link.watch_circuits(move || pool.circuits());
        *connector = Some(Arc::clone(&made));
        Ok(made)
    }

    fn pace(&self) -> connector::Settings {
        let mut pace = connector::Settings::default();
        pace.circuits.circuits = self.settings.circuits.into();
        if self.ways().iter().all(|way| *way == Way::Tcp) {
            // Over TCP who is away is known at once; only Tor needs a minute to find other ways.
            pace.circuits.control_patience = TCP_PATIENCE;
        }
        pace.limits = Limits::new(self.settings.upload, self.settings.download);
        pace
    }

    async fn transports(&self) -> Result<Vec<Arc<dyn Transport>>, ServiceError> {
        let mut transports: Vec<Arc<dyn Transport>> = Vec::new();
        for way in self.ways() {
            transports.push(match way {
                Way::Tcp => Arc::new(maimo_net::transport::tcp::Tcp::new()),
                Way::Tor | Way::SystemTor => {
                    Tor::start(&self.settings, *way, Role::Client, &self.link)
                        .await?
                        .transport()
                }
            });
        }
        Ok(transports)
    }
}

/// How long a provider that does not answer over TCP is tried again before a command ends: a restart's time.
const TCP_PATIENCE: Duration = Duration::from_secs(8);

/// Sends each call to the folder or the network that its address belongs to.
struct Router {
    folders: Box<dyn Connector>,
    network: Arc<Network>,
}

impl Connector for Router {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        if is_folder(address) {
            return self.folders.identify(address);
        }
        Box::pin(async move {
            self.network.admit([address])?;
            self.network.connector().await?.identify(address).await
        })
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        load: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        if addresses.iter().any(|address| is_folder(address)) {
            return self.folders.connect(addresses, auth, client, load);
        }
        Box::pin(async move {
            self.network.admit(addresses.iter().map(String::as_str))?;
            let connector = self.network.connector().await?;
            connector.connect(addresses, auth, client, load).await
        })
    }

    fn audit<'a>(
        &'a self,
        addresses: &'a [String],
        ticket: &'a Ticket,
    ) -> Reply<'a, Arc<dyn Session>> {
        if addresses.iter().any(|address| is_folder(address)) {
            return self.folders.audit(addresses, ticket);
        }
        Box::pin(async move {
            self.network.admit(addresses.iter().map(String::as_str))?;
            let connector = self.network.connector().await?;
            connector.audit(addresses, ticket).await
        })
    }

    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        Box::pin(async move {
            let addresses = invitation.offer().addresses.as_slice();
            let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
            self.network.admit(texts.iter().map(String::as_str))?;
            let connector = self.network.connector().await?;
            connector.redeem(invitation, client).await
        })
    }
}
