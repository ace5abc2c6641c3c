//! Tor in the process: started, connecting in the background, and how far that is.
//!
//! A folder of state belongs to one process at a time. While this value or a listener of it lives, Tor runs; dropped, it is gone.

use core::fmt;
use std::{
    fs::{self, File, TryLockError},
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use arti_client::{
    TorClient,
    status::{BlockageKind, BootstrapStatus},
};
use futures::StreamExt;
use tokio::{sync::watch, task::JoinSet, time};
use tor_rtcompat::tokio::TokioRustlsRuntime;

use crate::{
    error::TorError,
    settings::ArtiSettings,
    software::{GuardBuilder, Software},
};

/// Arti's client.
pub(crate) type Client = TorClient<TokioRustlsRuntime>;

/// Tor in the process.
pub struct ArtiTor {
    pub(crate) shared: Arc<Shared>,
    /// Ended with it and the last listener.
    pub(crate) tasks: Arc<JoinSet<()>>,
}

/// What tasks and listeners have of it.
pub(crate) struct Shared {
    /// Taken out for good when the network calls this software obsolete.
    client: Mutex<Option<Arc<Client>>>,
    pub(crate) status: watch::Sender<TorStatus>,
    pub(crate) dial_deadline: Duration,
    pub(crate) waits: Waits,
    /// How many onion services were launched: arti wants a name for each.
    pub(crate) services: AtomicU64,
    _lock: File,
}

/// How Tor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TorStatus {
    /// How far connecting is, in percent.
    pub percent: u8,
    /// Whether circuits can be built.
    pub is_ready: bool,
    /// What seems to stand in the way; it can be wrong.
    pub blocked: Option<Blocked>,
    /// Whether the network still takes this version.
    pub software: Software,
}

/// What seems to keep Tor from connecting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocked {
    /// No connection of any kind succeeds.
    Offline,
    /// Connections are made, and Tor's handshake fails on them.
    Filtered,
    /// Relays cannot be reached.
    Relays,
    /// This machine's clock is wrong.
    Clock,
    /// The network's directory cannot be fetched.
    Directory,
}

impl Blocked {
    /// Returns it in words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offline => "this machine seems to be offline",
            Self::Filtered => "connections to tor seem to be filtered",
            Self::Relays => "tor's relays cannot be reached",
            Self::Clock => "this machine's clock is wrong",
            Self::Directory => "tor's directory cannot be fetched",
        }
    }

    fn from_arti(kind: &BlockageKind) -> Self {
        match kind {
            BlockageKind::Offline => Self::Offline,
            BlockageKind::Filtering => Self::Filtered,
            BlockageKind::ClockSkewed => Self::Clock,
            BlockageKind::CantBootstrap => Self::Directory,
            _ => Self::Relays,
        }
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The wait between two attempts to connect, doubled each time up to the second.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));

impl ArtiTor {
    /// Starts Tor and lets it connect in the background; `on_progress` is told each change, the newest at least.
    ///
    /// # Errors
    ///
    /// What the settings or folders forbid. That it cannot connect is no error here: [`Self::connected`] waits for it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub async fn start(
        settings: ArtiSettings,
        mut on_progress: impl FnMut(TorStatus) + Send + 'static,
    ) -> Result<Arc<Self>, TorError> {
        let config = settings.config()?;
        let lock = prepare(&settings)?;
        install_ring();
        let runtime = TokioRustlsRuntime::current().map_err(|error| TorError::Settings {
            detail: error.kind().to_string(),
        })?;
        let (software, _) = watch::channel(Software::Current);
        let builder = GuardBuilder {
            software: software.clone(),
        };
        let client = TorClient::with_runtime(runtime)
            .config(config)
            .dirmgr_builder::<GuardBuilder>(Arc::new(builder))
            .create_unbootstrapped_async()
            .await
            .map_err(|error| TorError::from_arti(&error))?;
        let events = client.bootstrap_events();
        let (status, mut told) = watch::channel(TorStatus::default());
        let shared = Arc::new(Shared {
            client: Mutex::new(Some(client)),
            status,
            dial_deadline: settings.dial_deadline,
            waits: Waits::DIAL.within(settings.dial_deadline),
            services: AtomicU64::new(0),
            _lock: lock,
        });

        let mut tasks = JoinSet::new();
        tasks.spawn(follow(Arc::clone(&shared), events));
        tasks.spawn(enforce(Arc::clone(&shared), software.subscribe()));
        tasks.spawn(connect(Arc::clone(&shared)));
        tasks.spawn(async move {
            while told.changed().await.is_ok() {
                let status = *told.borrow_and_update();
                on_progress(status);
            }
        });
        Ok(Arc::new(Self {
            shared,
            tasks: Arc::new(tasks),
        }))
    }

    /// Returns how Tor is now.
    pub fn status(&self) -> TorStatus {
        *self.shared.status.borrow()
    }

    /// Waits until circuits can be built.
    ///
    /// # Errors
    ///
    /// [`TorError::NotConnected`] after `deadline`, [`TorError::Obsolete`] at once.
    pub async fn connected(&self, deadline: Duration) -> Result<(), TorError> {
        self.shared.connected(deadline).await.map(drop)
    }
}

impl fmt::Debug for ArtiTor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArtiTor")
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

/// How long a dial waits for Tor to connect. All of it is shorter than the minute for which callers try to reach a provider: this knows
/// what is wrong, and they do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// While nothing moves.
    still: Duration,
    /// In all.
    whole: Duration,
}

impl Waits {
    pub(crate) const DIAL: Self = Self {
        still: Duration::from_secs(20),
        whole: Duration::from_secs(50),
    };

    /// Returns them, as far as they are no longer than this.
    fn within(self, deadline: Duration) -> Self {
        Self {
            still: self.still.min(deadline),
            whole: self.whole.min(deadline),
        }
    }
}

impl TorStatus {
    /// Returns whether a consensus is being fetched: a slow line takes long for it, and nothing moves meanwhile.
    const fn is_fetching(self) -> bool {
        self.percent > 0 && self.percent < 50
    }
}

impl Shared {
    /// Returns arti's client.
    pub(crate) fn client(&self) -> Result<Arc<Client>, TorError> {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client.clone().ok_or(TorError::Obsolete)
    }

    /// Returns arti's client once circuits can be built.
    pub(crate) async fn connected(&self, deadline: Duration) -> Result<Arc<Client>, TorError> {
        let mut status = self.status.subscribe();
        let settled =
            status.wait_for(|status| status.is_ready || status.software == Software::Obsolete);
        if time::timeout(deadline, settled).await.is_err() {
            return Err(TorError::NotConnected {
                seconds: deadline.as_secs(),
                blocked: self.status.borrow().blocked.map(Blocked::as_str),
            });
        }
        self.client()
    }

    /// Returns arti's client once circuits can be built; an error as soon as that seems not to come about.
    pub(crate) async fn connected_soon(&self, waits: Waits) -> Result<Arc<Client>, TorError> {
        let started = time::Instant::now();
        loop {
            let before = self.status.borrow().percent;
            let left = waits.whole.saturating_sub(started.elapsed());
            match self.connected(left.min(waits.still)).await {
                Err(TorError::NotConnected { blocked, .. }) => {
                    let status = *self.status.borrow();
                    let is_stuck = status.percent == before && !status.is_fetching();
                    if is_stuck || started.elapsed() >= waits.whole {
                        return Err(TorError::NotConnected {
                            seconds: started.elapsed().as_secs(),
                            // Arti itself does not judge before a minute is over.
                            blocked: blocked.or_else(|| {
                                (status.percent == 0).then_some(Blocked::Relays.as_str())
                            }),
                        });
                    }
                }
                settled => return settled,
            }
        }
    }

    /// Waits until the network calls this software obsolete.
    pub(crate) async fn obsolete(&self) {
        let mut status = self.status.subscribe();
        // Its sender is in `self`.
        let _ = status
            .wait_for(|status| status.software == Software::Obsolete)
            .await;
    }

    /// Takes in what the network says of this software; obsolete stays obsolete.
    fn judged(&self, software: Software) {
        if software == Software::Obsolete {
            let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
            drop(client.take());
        }
        self.status.send_if_modified(|status| {
            let changed = status.software != software && status.software != Software::Obsolete;
            if changed {
                status.software = software;
                status.is_ready &= software != Software::Obsolete;
            }
            changed
        });
    }
}

/// Makes the folders, 0700, and takes the state for this process.
fn prepare(settings: &ArtiSettings) -> Result<File, TorError> {
    let storage = |error: std::io::Error| TorError::Storage {
        detail: error.kind().to_string(),
    };
    for folder in [&settings.state, &settings.cache] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(storage)?;
    }
    // Arti by itself would go on without writing: no onion service, and a directory that is never renewed.
    let lock = File::create(settings.state.join("maimo.lock")).map_err(storage)?;
    let taken = |error| match error {
        TryLockError::WouldBlock => TorError::InUse,
        TryLockError::Error(error) => storage(error),
    };
    lock.try_lock().map_err(taken)?;
    // Arti's own come free later than ours, once the last of its tasks has ended. It would not wait for them.
    for own in [
        settings.cache.join("dir.lock"),
        settings.state.join("state").join("state.lock"),
    ] {
        match File::open(own) {
            Ok(file) => file.try_lock().map_err(taken)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(storage(error)),
        }
    }
    forget_onion_services(&settings.state).map_err(storage)?;
    Ok(lock)
}

/// Removes what arti noted of onion services of earlier processes: their introduction points, whose keys were in memory and are gone.
fn forget_onion_services(state: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(state.join("hss")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes ring what TLS to relays rests on. Arti takes the process's default, and would choose one itself with a warning.
fn install_ring() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Refused if another thread was first, who then had the same in mind.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Connects, however often that takes.
async fn connect(shared: Arc<Shared>) {
    let attempts = async {
        let (mut wait, wait_max) = RETRY_WAIT;
        while let Ok(client) = shared.client() {
            let Err(error) = client.bootstrap().await else {
                return;
            };
            drop(client);
            let error = TorError::from_arti(&error);
            tracing::warn!(%error, "cannot connect to tor; trying again");
            time::sleep(wait).await;
            wait = (wait * 2).min(wait_max);
        }
    };
    tokio::select! {
        () = attempts => {}
        () = shared.obsolete() => {}
    }
}

/// Follows how far arti is.
async fn follow(shared: Arc<Shared>, mut events: arti_client::status::BootstrapEvents) {
    while let Some(event) = events.next().await {
        let seen = seen(&event);
        shared.status.send_if_modified(|status| {
            let next = TorStatus {
                software: status.software,
                is_ready: seen.is_ready && status.software != Software::Obsolete,
                ..seen
            };
            core::mem::replace(status, next) != next
        });
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 100"
)]
fn seen(event: &BootstrapStatus) -> TorStatus {
    TorStatus {
        percent: (event.as_frac().clamp(0.0, 1.0) * 100.0) as u8,
        is_ready: event.ready_for_traffic(),
        blocked: event
            .blocked()
            .map(|blockage| Blocked::from_arti(&blockage.kind())),
        software: Software::Current,
    }
}

/// Takes the client away when the network calls this software obsolete.
async fn enforce(shared: Arc<Shared>, mut software: watch::Receiver<Software>) {
    loop {
        let judged = *software.borrow_and_update();
        shared.judged(judged);
        if judged == Software::Obsolete || software.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
