//! Serving: streams that come in become connections of clients whose keys are proven, their requests calls of a provider.
//!
//! It knows messages, not meanings: what is admitted is the provider's to say. What is decided here is how much anyone may take: seats,
//! connections, calls, memory, threads, work ([`Limits`]). Whoever is over a limit is told *busy* or sent away, and nobody else waits for it.
//!
//! Invariant: before a key is proven and known to the provider, at most a few KiB of anyone are read, and nothing is kept.

mod clients;
mod connection;
mod counters;
mod limits;
mod route;
mod strangers;
#[cfg(test)]
mod tests;
mod workers;

pub use self::{
    connection::{FIRST_CALL, STRANGER_BYTES_MAX},
    counters::{ByCall, Counters},
    limits::Limits,
};

use core::{fmt, future::pending, sync::atomic::Ordering, time::Duration};
use std::sync::Arc;

use maimo_core::identity::ClientPublicKey;
use tokio::{select, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info};

use crate::{
    connect::Provider,
    http::{
        Budget, FAREWELL,
        meter::Traffic,
        server::{self, Ended, Options},
    },
    serve::{
        clients::Clients,
        connection::Connection,
        counters::{Counting, count},
        strangers::{Seat, Strangers},
        workers::Workers,
    },
    tls::ServerTls,
    transport::{BoxedStream, Listener, TransportError},
};

/// How long a client may take to prove its key, in seconds.
pub const HANDSHAKE: Duration = Duration::from_mins(1);

/// What all servers of a process share.
pub struct Resources {
    limits: Limits,
    workers: Workers,
    clients: Clients,
    connections: Arc<Semaphore>,
    bytes: Budget,
    windows: Budget,
}

/// Serves one provider on one network.
pub struct Server(Arc<Shared>);

struct Shared {
    provider: Arc<dyn Provider>,
    resources: Arc<Resources>,
    tls: ServerTls,
    strangers: Arc<Strangers>,
    counting: Counting,
    traffic: Arc<Traffic>,
    tasks: TaskTracker,
}

impl Resources {
    /// Makes what servers share, within limits.
    pub fn new(limits: Limits) -> Arc<Self> {
        let workers = Workers::new(limits.threads);
        Arc::new(Self {
            clients: Clients::new(limits, workers.bulk_per_client()),
            connections: Arc::new(Semaphore::new(limits.connections)),
            bytes: Budget::new(limits.bytes),
            windows: Budget::new(limits.window_bytes),
            workers,
            limits,
        })
    }
}

impl Server {
    /// Makes a server of a provider, which proves the key that the provider has on this network.
    pub fn new(provider: Arc<dyn Provider>, resources: &Arc<Resources>) -> Self {
        Self(Arc::new(Shared {
            tls: ServerTls::new(&provider.identity()),
            strangers: Strangers::new(resources.limits.strangers),
            counting: Counting::default(),
            traffic: Traffic::new(),
            tasks: TaskTracker::new(),
            resources: Arc::clone(resources),
            provider,
        }))
    }

    /// Serves streams that come in until it is told to stop; then takes no more, lets what is in flight finish, and returns.
    ///
    /// # Errors
    ///
    /// What ended the listener. The connections that stand are served on until `stop`, and it may be called again with another listener.
    ///
    /// # Panics
    ///
    /// Called from outside of a tokio runtime.
    pub async fn serve(
        &self,
        mut listener: Box<dyn Listener>,
        stop: CancellationToken,
    ) -> Result<(), TransportError> {
        let connections = &self.0.tasks;
        loop {
            let stream = select! {
                biased;
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted?,
            };
            let shared = Arc::clone(&self.0);
            let stop = stop.clone();
            connections.spawn(async move { shared.greet(stream, stop).await });
        }
        drop(listener);
        connections.close();
        info!(connections = connections.len(), "draining");
        // Each ends in time by itself; what is left after that is a fault of this program, and not to be waited for.
        let longest = self.0.resources.limits.drain + 2 * FAREWELL;
        if timeout(longest, connections.wait()).await.is_err() {
            debug!(left = connections.len(), "connections did not end");
        }
        Ok(())
    }

    /// Returns what was done so far.
    pub fn counters(&self) -> Counters {
        let Shared {
            resources, traffic, ..
        } = &*self.0;
        let connected = resources.limits.connections - resources.connections.available_permits();
        Counters {
            connected: connected as u64,
            clients: resources.clients.connected() as u64,
            strangers: self.0.strangers.count() as u64,
            received: traffic.received(),
            sent: traffic.sent(),
            ..self.0.counting.snapshot()
        }
    }
}

impl Shared {
    /// Lets a client prove its key.
    async fn greet(self: Arc<Self>, stream: BoxedStream, stop: CancellationToken) {
        count(&self.counting.connections);
        let (seat, turned_out) = self.strangers.sit();
        let proven = select! {
            biased;
            () = stop.cancelled() => return,
            () = turned_out.cancelled() => None,
            accepted = timeout(HANDSHAKE, self.tls.accept(stream)) => accepted.ok().and_then(Result::ok),
        };
        let Some((stream, key)) = proven else {
            count(&self.counting.handshakes_failed);
            debug!("a connection did not prove a key");
            return;
        };
        self.serve_client(stream, key, (seat, turned_out), stop)
            .await;
    }

    /// Serves a client whose key is proven.
    async fn serve_client(
        self: Arc<Self>,
        stream: BoxedStream,
        key: ClientPublicKey,
        (seat, turned_out): (Seat, CancellationToken),
        stop: CancellationToken,
    ) {
        let connection = Arc::new(Connection::look_up(Arc::clone(&self), key, seat).await);
        let options = Options {
            windows: self.resources.windows.clone(),
            first_call: connection.first_call,
            known: Arc::clone(&connection.is_known),
            dismiss: connection.dismiss.clone(),
            drain: stop,
            drain_time: self.resources.limits.drain,
            traffic: Traffic::within(Some(Arc::clone(&self.traffic))),
        };
        let out = async {
            turned_out.cancelled().await;
            // Who has become known meanwhile has given its seat up: there is nothing to be turned out of.
            if connection.is_known.load(Ordering::Relaxed) {
                pending::<()>().await;
            }
        };
        let handle = |incoming| Arc::clone(&connection).handle(incoming);
        let ended = select! {
            ended = server::serve(stream, options, handle) => ended,
            () = out => Ended::Silent,
        };
        if matches!(ended, Ended::Broken | Ended::Dead) {
            count(&self.counting.broken);
        }
        let known = connection.is_known.load(Ordering::Relaxed);
        info!(
            client = connection.client_number(),
            known,
            ?ended,
            "connection ended"
        );
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resources")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
