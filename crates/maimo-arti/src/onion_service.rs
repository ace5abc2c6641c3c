//! An onion service of one's own: streams that come in over rendezvous circuits.
//!
//! The key that locates it is arti's to use and stays in memory. Whoever finds the address can make circuits to it, before any proof of
//! who they are; so circuits, their streams and what waits for `accept` are few enough to be held, and one that nobody uses is closed.

use core::{pin::pin, time::Duration};
use std::sync::{Arc, atomic::Ordering};

use arti_client::config::onion_service::OnionServiceConfigBuilder;
use futures::{StreamExt, stream::BoxStream};
use maimo_core::{address::Address, identity::OnionSecretKey};
use maimo_net::transport::{BoxedStream, Listener, Pending, TransportError};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time,
};
use tor_cell::relaycell::msg::Connected;
use tor_hscrypto::pk::HsIdKeypair;
use tor_hsservice::{
    HsNickname, OnionServiceConfig, RendRequest, RunningOnionService, StreamRequest, status::State,
};
use tor_llcrypto::pk::ed25519::ExpandedKeypair;
use tor_proto::stream::IncomingStreamRequest;

use crate::{
    bootstrap::{ArtiTor, Shared},
    error::TorError,
    stream::OnionStream,
};

/// Streams that come in over Tor. Dropped, the onion service ends; streams accepted before go on.
pub struct OnionListener {
    address: Address,
    incoming: mpsc::Receiver<BoxedStream>,
    reachability: watch::Receiver<Reachability>,
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    /// Ended with it.
    _task: JoinSet<()>,
    /// Those of Tor, which runs as long as its listeners.
    _tor: Arc<JoinSet<()>>,
}

/// Whether others reach an onion service, as far as can be known from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reachability {
    /// Not yet: introduction points are being found, and announced.
    #[default]
    Starting,
    /// Announced, with introduction points that work.
    Reachable,
    /// Not now; Tor is at work on it.
    Unreachable,
}

/// How many circuits may stand at once. Each takes some kilobytes here and the queues of its streams.
const CIRCUITS_MAX: usize = 512;
/// How many streams one circuit may have open. A client needs one, and one more while it replaces that.
const STREAMS_PER_CIRCUIT_MAX: u32 = 8;
/// How many streams may wait for `accept`.
const PENDING_MAX: usize = 32;
/// How long a circuit may take to stand.
const RENDEZVOUS_DEADLINE: Duration = Duration::from_mins(1);
/// How long a circuit may stand with no stream on it.
const IDLE_MAX: Duration = Duration::from_secs(90);
/// How long a stream may wait for room among those that wait for `accept`.
const PENDING_WAIT_MAX: Duration = Duration::from_secs(20);
/// How long arti may call a service broken before it is launched anew.
const BROKEN_MAX: Duration = Duration::from_mins(5);
/// The wait before it is launched anew, doubled each time up to the second.
const RELAUNCH_WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(2));

impl ArtiTor {
    /// Starts an onion service on the key's address; circuits to other ports than `port` are closed.
    ///
    /// It is there when [`OnionListener::reachable`] says so, some seconds after Tor is connected.
    ///
    /// # Errors
    ///
    /// What arti refuses, and port 0.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn listen(&self, key: &OnionSecretKey, port: u16) -> Result<OnionListener, TorError> {
        let address = Address::onion(key.public(), port).ok_or_else(|| TorError::Settings {
            detail: "an onion service has a port from 1 to 65535".to_owned(),
        })?;
        let number = self.shared.services.fetch_add(1, Ordering::Relaxed);
        let config = service_config(number)?;
        let launched = launch_with_key(&self.shared, &config, key)?;
        let (sender, incoming) = mpsc::channel(PENDING_MAX);
        let (told, reachability) = watch::channel(Reachability::Starting);
        let room = Arc::new(Semaphore::new(CIRCUITS_MAX));
        let mut task = JoinSet::new();
        let service = Service {
            shared: Arc::clone(&self.shared),
            room: Arc::clone(&room),
            config,
            port,
            sender,
            told,
        };
        task.spawn(service.run(launched));
        Ok(OnionListener {
            address,
            incoming,
            reachability,
            shared: Arc::clone(&self.shared),
            room,
            _task: task,
            _tor: Arc::clone(&self.tasks),
        })
    }
}

impl OnionListener {
    /// Returns whether others reach it.
    pub fn reachability(&self) -> Reachability {
        *self.reachability.borrow()
    }

    /// Returns how many circuits of clients stand, or are being made.
    pub fn circuits(&self) -> usize {
        CIRCUITS_MAX - self.room.available_permits()
    }

    /// Returns a view of [`Self::reachability`] that goes on without this value, for status pages.
    pub fn watch(&self) -> watch::Receiver<Reachability> {
        self.reachability.clone()
    }

    /// Waits until others reach it.
    ///
    /// # Errors
    ///
    /// [`TorError::NotConnected`] after `deadline`, [`TorError::Obsolete`] at once.
    pub async fn reachable(&self, deadline: Duration) -> Result<(), TorError> {
        let mut reachability = self.reachability.clone();
        let reachable = reachability.wait_for(|now| *now == Reachability::Reachable);
        match time::timeout(deadline, reachable).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(TorError::Obsolete),
            Err(_) => Err(TorError::NotConnected {
                seconds: deadline.as_secs(),
                blocked: self
                    .shared
                    .status
                    .borrow()
                    .blocked
                    .map(crate::Blocked::as_str),
            }),
        }
    }
}

impl Listener for OnionListener {
    fn address(&self) -> Address {
        self.address.clone()
    }

    fn accept(&mut self) -> Pending<'_, BoxedStream> {
        Box::pin(async {
            let stream = self.incoming.recv().await;
            // The service's task ends for one reason only.
            stream.ok_or_else(|| TransportError::from(TorError::Obsolete))
        })
    }
}

impl core::fmt::Debug for OnionListener {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("OnionListener")
            .field("reachability", &self.reachability())
            .finish_non_exhaustive()
    }
}

/// A service as arti runs it: alive as long as both halves.
type Launched = (Arc<RunningOnionService>, BoxStream<'static, RendRequest>);

fn service_config(number: u64) -> Result<OnionServiceConfig, TorError> {
    let refused = |_| TorError::Settings {
        detail: "arti refuses the onion service".to_owned(),
    };
    let nickname = HsNickname::new(format!("maimo-{number}")).map_err(|_| TorError::Settings {
        detail: "arti refuses the onion service's name".to_owned(),
    })?;
    let mut config = OnionServiceConfigBuilder::default();
    config
        .nickname(nickname)
        .max_concurrent_streams_per_circuit(STREAMS_PER_CIRCUIT_MAX);
    config.build().map_err(refused)
}

fn launch_with_key(
    shared: &Shared,
    config: &OnionServiceConfig,
    key: &OnionSecretKey,
) -> Result<Launched, TorError> {
    let pair = ExpandedKeypair::from_secret_key_bytes(*key.expanded())
        .expect("an expanded key of ours is one");
    let launched = shared
        .client()?
        .launch_onion_service_with_hsid(config.clone(), HsIdKeypair::from(pair))
        .map_err(|error| TorError::from_arti(&error))?;
    is_enabled(launched.map(|(service, requests)| (service, requests.boxed())))
}

/// Launches it again, with the key that arti still has.
fn launch(shared: &Shared, config: &OnionServiceConfig) -> Result<Launched, TorError> {
    let launched = shared
        .client()?
        .launch_onion_service(config.clone())
        .map_err(|error| TorError::from_arti(&error))?;
    is_enabled(launched.map(|(service, requests)| (service, requests.boxed())))
}

fn is_enabled(launched: Option<Launched>) -> Result<Launched, TorError> {
    launched.ok_or_else(|| TorError::Settings {
        detail: "the onion service is switched off".to_owned(),
    })
}

/// The task of one onion service.
struct Service {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    config: OnionServiceConfig,
    port: u16,
    sender: mpsc::Sender<BoxedStream>,
    told: watch::Sender<Reachability>,
}

impl Service {
    /// Serves, however often it has to be launched anew; until the network calls this software obsolete.
    async fn run(self, launched: Launched) {
        let serving = async {
            let mut circuits = Circuits {
                tasks: JoinSet::new(),
                room: Arc::clone(&self.room),
                port: self.port,
                sender: self.sender.clone(),
            };
            let mut launched = Some(launched);
            let (mut wait, wait_max) = RELAUNCH_WAIT;
            loop {
                if let Some((service, requests)) = launched.take() {
                    if self.serve(&service, requests, &mut circuits).await {
                        wait = RELAUNCH_WAIT.0;
                    }
                    tracing::warn!("the onion service broke; launching it anew");
                }
                self.told.send_replace(Reachability::Unreachable);
                time::sleep(wait).await;
                wait = (wait * 2).min(wait_max);
                match launch(&self.shared, &self.config) {
                    Ok(again) => launched = Some(again),
                    Err(error) => tracing::warn!(%error, "cannot launch the onion service"),
                }
            }
        };
        tokio::select! {
            () = serving => {}
            () = self.shared.obsolete() => {}
        }
    }

    /// Serves until arti's service ends or stays broken; returns whether it was reachable in between.
    async fn serve(
        &self,
        service: &RunningOnionService,
        mut requests: BoxStream<'static, RendRequest>,
        circuits: &mut Circuits,
    ) -> bool {
        let mut was_reachable = false;
        let mut states = pin!(
            service
                .status_events()
                .map(|status| (status.state(), status.current_problem().is_some()))
                .chain(futures::stream::pending())
        );
        let broken = time::sleep(BROKEN_MAX);
        let mut broken = pin!(broken);
        let mut is_broken = false;
        loop {
            tokio::select! {
                Some((state, has_problem)) = states.next() => {
                    if state == State::Broken && !is_broken {
                        broken.as_mut().reset(time::Instant::now() + BROKEN_MAX);
                    }
                    is_broken = state == State::Broken;
                    let now = reachability_of(state, has_problem);
                    was_reachable |= now == Reachability::Reachable;
                    self.told.send_if_modified(|told| core::mem::replace(told, now) != now);
                }
                request = requests.next() => match request {
                    Some(request) => circuits.open(request),
                    None => return was_reachable,
                },
                () = broken.as_mut(), if is_broken => return was_reachable,
                Some(_) = circuits.tasks.join_next() => {}
            }
        }
    }
}

fn reachability_of(state: State, has_problem: bool) -> Reachability {
    match state {
        State::Running | State::DegradedReachable => Reachability::Reachable,
        // Announced for one time period only, because a young network has no shared random value for the other: clients with a clock
        // like ours find it. Where announcing failed there is a problem.
        State::DegradedUnreachable if !has_problem => Reachability::Reachable,
        State::Bootstrapping => Reachability::Starting,
        _ => Reachability::Unreachable,
    }
}

/// The circuits that stand, each a task.
struct Circuits {
    tasks: JoinSet<()>,
    room: Arc<Semaphore>,
    port: u16,
    sender: mpsc::Sender<BoxedStream>,
}

impl Circuits {
    /// Makes the circuit that a client asks for, if there is room; else the client waits in vain, as with every busy service.
    fn open(&mut self, request: RendRequest) {
        let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::debug!("no room for another circuit");
            return;
        };
        let (port, sender) = (self.port, self.sender.clone());
        self.tasks.spawn(async move {
            let accepted = time::timeout(RENDEZVOUS_DEADLINE, request.accept()).await;
            if let Ok(Ok(streams)) = accepted {
                serve_circuit(streams, port, sender).await;
            }
            drop(permit);
        });
    }
}

/// Hands out the streams of one circuit, until it closes, is idle for long, or asks for what there is not.
async fn serve_circuit(
    mut streams: impl futures::Stream<Item = StreamRequest> + Unpin,
    port: u16,
    sender: mpsc::Sender<BoxedStream>,
) {
    let open = Arc::new(());
    loop {
        let request = match time::timeout(IDLE_MAX, streams.next()).await {
            Ok(Some(request)) => request,
            Err(_) if Arc::strong_count(&open) > 1 => continue,
            // Dropped with its requests, the circuit closes.
            Ok(None) | Err(_) => return,
        };
        match request.request() {
            IncomingStreamRequest::Begin(begin) if begin.port() == port => {}
            // As a C tor does by default: who scans ports pays for a circuit each.
            _ => {
                let _ = request.shutdown_circuit();
                return;
            }
        }
        let Ok(Ok(place)) = time::timeout(PENDING_WAIT_MAX, sender.reserve()).await else {
            let _ = request.shutdown_circuit();
            return;
        };
        if let Ok(stream) = request.accept(Connected::new_empty()).await {
            place.send(Box::new(OnionStream::new(stream, Some(Arc::clone(&open)))));
        }
    }
}
