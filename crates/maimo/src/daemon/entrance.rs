//! [`Entrance`]: one network by which clients come in, kept open as long as the node runs.
//!
//! Tor may be away when the node starts, and go while it runs: that is waited out and said, for a node that gave up would need someone to
//! start it again. An address of this machine that is taken is another matter, and ends the node.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use maimo_core::{
    address::{Address, Addresses, Network as Kind},
    error::{Classify as _, Retry},
};
use maimo_net::{
    backoff::Backoff,
    connect::Provider as _,
    serve::{Resources, Server},
    service::ServiceError,
    transport::{Listener, TransportError, tcp::TcpListener},
};
use maimo_provider::provider::Provider;
use tokio::{sync::mpsc, task::JoinSet, time};

use super::{Standing, Stop, Tally, manager, now};
use crate::{
    config::Way,
    error::{CommandError, Exit},
    network::{Network, Tor},
};

/// The wait before Tor is tried again, doubled each time up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(2));

/// One network by which clients come in.
#[derive(Debug, Clone)]
pub(crate) enum Entrance {
    /// An onion service, by this Tor.
    Onion(Way),
    /// Addresses of this machine.
    Tcp {
        /// Where it listens.
        listen: Vec<SocketAddr>,
        /// Where others find it; none: where it listens.
        announce: Vec<Address>,
    },
}

impl Entrance {
    /// Keeps it open until the node stops and what runs has ended.
    pub(super) async fn keep(self, node: Node) -> Result<(), CommandError> {
        match self {
            Self::Onion(way) => Onion { way, node }.keep().await,
            Self::Tcp { listen, announce } => keep_tcp(&listen, announce, node).await,
        }
    }
}

/// The node as its entrances have it.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) provider: Provider,
    pub(super) network: Arc<Network>,
    /// What all entrances share: a client that comes by two takes no more than by one.
    pub(super) resources: Arc<Resources>,
    /// Told when an entrance stands.
    pub(super) told: mpsc::UnboundedSender<Standing>,
    pub(super) stop: Stop,
    pub(super) tally: Arc<Tally>,
}

impl Node {
    /// Publishes where the node is, tells that it stands, and returns what serves.
    fn open(&self, kind: Kind, addresses: Vec<Address>) -> Result<Arc<Server>, CommandError> {
        let list = Addresses::new(addresses.clone())
            .map_err(|error| CommandError::config(format!("`announce`: {error}")))?;
        self.provider.publish(kind, list, now())?;
        let face = self.provider.face(kind);
        let identity = face.auth();
        let server = Arc::new(Server::new(Arc::new(face), &self.resources));
        self.tally.add(&server);
        // Who would hear of it is gone only with the node.
        let _ = self.told.send(Standing {
            kind,
            identity,
            addresses,
        });
        Ok(server)
    }
}

async fn keep_tcp(
    listen: &[SocketAddr],
    announce: Vec<Address>,
    node: Node,
) -> Result<(), CommandError> {
    let mut listeners = Vec::with_capacity(listen.len());
    for address in listen {
        let listener = TcpListener::bind(*address, None).await;
        listeners.push(listener.map_err(|error| {
            let why = match error {
                TransportError::CannotListen { detail } => detail,
                error => error.to_string(),
            };
            CommandError::new(
                Exit::Failed,
                "local_io",
                format!("cannot listen on {address}: {why}"),
            )
            .hint("does another node run, or is it no address of this machine? see `listen` in the configuration")
        })?);
    }
    let addresses = if announce.is_empty() {
        let named = listeners.iter().zip(listen);
        let named = named.filter(|(_, asked)| !asked.ip().is_unspecified());
        named.map(|(listener, _)| listener.address()).collect()
    } else {
        announce
    };
    let server = node.open(Kind::Tcp, addresses)?;
    let mut serving = JoinSet::new();
    for listener in listeners {
        let (server, stop) = (Arc::clone(&server), node.stop.token());
        serving.spawn(async move { server.serve(Box::new(listener), stop).await });
    }
    while let Some(ended) = serving.join_next().await {
        if !matches!(ended, Ok(Ok(()))) {
            tracing::error!("an address of this machine can no longer be listened on");
        }
    }
    Ok(())
}

/// An onion service and what it takes to have it again.
struct Onion {
    way: Way,
    node: Node,
}

impl Onion {
    async fn keep(self) -> Result<(), CommandError> {
        let stop = self.node.stop.clone();
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1, now().0);
        let mut server: Option<Arc<Server>> = None;
        let mut tor: Option<Tor> = None;
        while !stop.is_asked() {
            let opened = tokio::select! {
                () = stop.asked() => break,
                opened = self.listen(&mut tor) => opened,
            };
            match opened {
                Ok(listener) => {
                    let serving = match &server {
                        Some(server) => Arc::clone(server),
                        None => self.node.open(Kind::Onion, vec![listener.address()])?,
                    };
                    server = Some(Arc::clone(&serving));
                    manager::status("serving");
                    backoff.reset();
                    if let Err(error) = serving.serve(listener, stop.token()).await {
                        tracing::warn!(%error, "the onion service is gone; making it again");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, hint = error.hint(), "no onion service yet; trying again");
                    manager::status("waiting for Tor");
                }
            }
            let pause = backoff.after(Retry::AfterWaiting).unwrap_or(AGAIN.1);
            tokio::select! {
                () = stop.asked() => break,
                () = time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    async fn listen(&self, tor: &mut Option<Tor>) -> Result<Box<dyn Listener>, ServiceError> {
        let started = match tor.clone() {
            Some(tor) => tor,
            None => self.node.network.service_tor(self.way).await?,
        };
        // Kept whatever comes of it: a Tor that has connected is not started anew because a service was not found in time.
        let started = tor.insert(started);
        started.listen(&self.node.provider.onion_key()).await
    }
}
