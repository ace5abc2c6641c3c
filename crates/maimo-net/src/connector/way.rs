//! The way to one provider: its addresses, the transport to each, and a connection at the end of it.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};
use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{
    address::Address,
    clock::Timestamp,
    error::{Classify, Retry},
    identity::AuthPublicKey,
    invitation::InvitationToken,
    reference::ObjectRef,
    ticket::{Ticket, TicketId},
};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::Shared;
use crate::{
    circuits::{Circuit, Dial, Opening, Purpose},
    connect::Welcome,
    rate::{Limited, Meter, Priority},
    remote::Connection,
    service::{
        ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead, StatedAnswer,
        TicketUse, WhichHead,
    },
    tls::{ClientTls, TlsError},
    transport::{BoxedStream, Isolation, Transport, TransportError},
};

/// Where a provider is, as far as this node may go there.
pub(super) struct Way {
    shared: Arc<Shared>,
    stops: Vec<(Address, Arc<dyn Transport>)>,
    /// The address that answered last, asked first: an old one that is gone would cost each circuit its time.
    first: AtomicUsize,
}

impl Way {
    /// Finds the transport to each address; those of networks that this node was not told to use are left out.
    ///
    /// # Errors
    ///
    /// [`ServiceError::NotAllowed`] where none is left.
    pub(super) fn new(
        shared: &Arc<Shared>,
        addresses: impl IntoIterator<Item = Address>,
    ) -> Result<Self, ServiceError> {
        let transport = |address: Address| {
            let mut transports = shared.transports.iter();
            let fitting = transports.find(|transport| transport.network() == address.network())?;
            Some((address, Arc::clone(fitting)))
        };
        let stops: Vec<_> = addresses.into_iter().filter_map(transport).collect();
        if stops.is_empty() {
            return Err(ServiceError::NotAllowed {
                detail: "none of the addresses is of a network in use".to_owned(),
            });
        }
        Ok(Self {
            shared: Arc::clone(shared),
            stops,
            first: AtomicUsize::new(0),
        })
    }

    /// Learns which key answers.
    pub(super) async fn identify(self: &Arc<Self>) -> Result<AuthPublicKey, ServiceError> {
        let identify = |stream: BoxedStream| async move { Ok(ClientTls::identify(stream).await?) };
        self.try_each(Priority::Control, |stream, _| identify(stream))
            .await
    }

    /// Returns what opens connections to the provider of a key.
    pub(super) fn to(self: &Arc<Self>, auth: AuthPublicKey, tls: ClientTls) -> Route {
        Route {
            way: Arc::clone(self),
            auth,
            tls,
            ticket: None,
        }
    }

    /// Goes to one address after the other until one works out.
    async fn try_each<T, F>(
        &self,
        priority: Priority,
        then: impl Fn(BoxedStream, Arc<Meter>) -> F,
    ) -> Result<T, ServiceError>
    where
        F: Future<Output = Result<T, ServiceError>>,
    {
        let count = self.stops.len();
        let first = self.first.load(Ordering::Relaxed);
        let end = Instant::now() + self.shared.circuits.open_timeout;
        let mut trouble: Option<ServiceError> = None;
        for step in 0..count {
            let at = (first + step) % count;
            // Each has an even part of what is left: one that hangs does not keep the others from being asked.
            let left = end.saturating_duration_since(Instant::now());
            let part = left / u32::try_from(count - step).unwrap_or(u32::MAX);
            let attempt = async {
                let (stream, meter) = self.dial(at, priority).await?;
                then(stream, meter).await
            };
            let error = match timeout(part, attempt).await {
                Ok(Ok(done)) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(done);
                }
                Ok(Err(error)) => error,
                Err(_) => ServiceError::Offline {
                    detail: format!("no connection within {} s", part.as_secs()),
                },
            };
            // What may pass is told before what does not: the one address that is away may be the one that is right.
            if trouble
                .as_ref()
                .is_none_or(|known| known.retry() == Retry::Never)
            {
                trouble = Some(error);
            }
        }
        Err(trouble.unwrap_or(ServiceError::Offline {
            detail: "there is no address to try".to_owned(),
        }))
    }

    /// Opens a stream on a circuit of its own, metered and limited.
    async fn dial(
        &self,
        at: usize,
        priority: Priority,
    ) -> Result<(BoxedStream, Arc<Meter>), ServiceError> {
        let (address, transport) = &self.stops[at];
        let mut isolation = [0; 16];
        getrandom::fill(&mut isolation).map_err(|_| ServiceError::Offline {
            detail: "this machine gives no random numbers".to_owned(),
        })?;
        let stream = transport.dial(address, Isolation(isolation)).await?;
        let meter = Arc::new(Meter::within(Arc::clone(self.shared.counters.meter())));
        let stream = Limited::new(stream, &self.shared.limits, &meter, priority);
        Ok((Box::new(stream), meter))
    }
}

/// The way to the provider of a key, for one client or for one ticket.
#[derive(Clone)]
pub(super) struct Route {
    way: Arc<Way>,
    auth: AuthPublicKey,
    tls: ClientTls,
    /// What each connection shows first, encoded.
    ticket: Option<Bytes>,
}

impl Route {
    /// Has every connection show a ticket before anything else.
    #[must_use]
    pub(super) fn with_ticket(self, ticket: &Ticket) -> Self {
        Self {
            ticket: Some(ticket.encode().into()),
            ..self
        }
    }

    /// Opens a connection of its own, and takes up an invitation as its first call.
    pub(super) async fn redeem(&self, token: &InvitationToken) -> Result<Welcome, ServiceError> {
        let (connection, _) = self.open(Priority::Control).await?;
        connection.redeem(token).await
    }

    async fn open(&self, priority: Priority) -> Result<(Connection, Arc<Meter>), ServiceError> {
        let windows = &self.way.shared.windows;
        let connect = |stream, meter| async move {
            let stream = self.tls.connect(stream, self.auth).await?;
            Ok((Connection::open(stream, windows).await?, meter))
        };
        self.way.try_each(priority, connect).await
    }
}

impl Dial for Route {
    fn open(&self, purpose: Purpose) -> Opening {
        let route = self.clone();
        Box::pin(async move {
            let (connection, meter) = Self::open(&route, purpose).await?;
            if let Some(ticket) = &route.ticket {
                connection.present(ticket.clone()).await?;
            }
            let circuit: Arc<dyn Circuit> = Arc::new(Remote {
                connection,
                meter,
                bodies: Mutex::new(()),
            });
            Ok(circuit)
        })
    }
}

/// A connection as a circuit.
struct Remote {
    connection: Connection,
    meter: Arc<Meter>,
    /// Held while the body of a put leaves.
    bodies: Mutex<()>,
}

impl Circuit for Remote {
    fn is_open(&self) -> bool {
        self.connection.ended().is_none()
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.connection.until_ended().await;
        })
    }

    fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl Session for Remote {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        Box::pin(self.connection.status())
    }

    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        Box::pin(async {
            let turn = if put.bytes.is_empty() {
                None
            } else {
                Some(self.bodies.lock().await)
            };
            let begun = self.connection.begin_put(put).await?;
            drop(turn);
            begun.reply().await
        })
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        Box::pin(self.connection.put_node(node))
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        Box::pin(self.connection.move_head(head_move))
    }

    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        Box::pin(self.connection.head(which))
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        Box::pin(self.connection.prove(sequence))
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(self.connection.nodes(nodes))
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(self.connection.read(reads))
    }

    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        Box::pin(self.connection.audit(challenge))
    }

    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        Box::pin(self.connection.digest(request))
    }

    fn audit_stated(&self, challenge: Bytes) -> Reply<'_, StatedAnswer> {
        Box::pin(self.connection.audit_stated(challenge))
    }

    fn tickets(&self) -> Reply<'_, Vec<TicketUse>> {
        Box::pin(self.connection.tickets())
    }

    fn revoke_ticket(&self, ticket: TicketId, expires: Timestamp) -> Reply<'_, ()> {
        Box::pin(self.connection.revoke_ticket(ticket, expires))
    }

    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        Box::pin(self.connection.addresses())
    }
}

impl From<TransportError> for ServiceError {
    fn from(error: TransportError) -> Self {
        let detail = error.to_string();
        match error {
            TransportError::OtherNetwork { .. } => Self::NotAllowed { detail },
            TransportError::Tor { detail, hint } => Self::TorUnavailable { detail, hint },
            TransportError::Unreachable { detail } => Self::Offline { detail },
            TransportError::Timeout { .. } | TransportError::CannotListen { .. } => {
                Self::Offline { detail }
            }
        }
    }
}

impl From<TlsError> for ServiceError {
    fn from(error: TlsError) -> Self {
        match error {
            TlsError::OtherKey | TlsError::NotProven => Self::OtherProvider,
            TlsError::Broken { detail } => Self::Offline { detail },
            error => Self::Misbehaved {
                detail: error.to_string(),
            },
        }
    }
}
