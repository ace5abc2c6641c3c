//! The node as a service: it serves clients on each network that it was told to, and owns its own store, until it is told to stop.
//!
//! ```text
//!   start -- each entrance: listen, publish where, serve; Tor gone? wait, again -- all stand: ready
//!                                    |  meanwhile: sweep what may be freed, say that the ledger answers
//!   stop  -- no new connection, no new request; what runs may end, for a time -- done
//! ```
//!
//! Either half may be missing: a node may serve others only, or only keep a store of its own.
//!
//! Invariant: a request that was answered is durable whatever happens to this process, so that stopping is a courtesy and no duty.

mod entrance;
mod figures;
pub(crate) mod manager;
mod open_files;
mod owner;
mod scrape;
mod stop;
mod tally;
#[cfg(test)]
mod tests;
pub(crate) mod upkeep;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use maimo_client::clock::Clock;
use maimo_core::{
    address::{Address, Network as Kind},
    clock::Timestamp,
    identity::AuthPublicKey,
};
use maimo_net::serve::{Limits, Resources};
use maimo_provider::{error::ProviderError, provider::Provider, sweep::SweepReport};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet, time};

pub(crate) use self::{
    entrance::Entrance,
    owner::{AtWork, Doing, Owner, Task, Turn},
    stop::Stop,
    tally::Tally,
    upkeep::Upkeep,
};
use self::{entrance::Node, figures::Figures};
use crate::{error::CommandError, network::Network};

/// How often is looked for what may be freed. Grace is counted in days.
const SWEEP: Duration = Duration::from_mins(15);
/// How often what was served is written to the log, unless a test wants it sooner.
pub(crate) const TELL: Duration = Duration::from_hours(1);
/// How long the ledger may take to answer before the node is not called alive.
const LEDGER: Duration = Duration::from_secs(30);

/// A node that is to run.
pub(crate) struct Daemon {
    /// What serves others, if this node does.
    pub(crate) provider: Option<Provider>,
    /// What has this node's own store open, if there is one.
    pub(crate) owner: Option<Owner>,
    pub(crate) network: Arc<Network>,
    pub(crate) entrances: Vec<Entrance>,
    /// How long what runs may take to end.
    pub(crate) drain: Duration,
    /// What is counted.
    pub(crate) tally: Arc<Tally>,
    /// Where figures are told over HTTP, if they are.
    pub(crate) metrics: Option<Metrics>,
    /// How often that is written to the log; at the end it always is.
    pub(crate) tell_every: Duration,
}

/// Where figures are told, and how much of them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    /// An address of loopback.
    pub(crate) at: SocketAddr,
    /// Whether clients are named by their labels.
    pub(crate) names_clients: bool,
    /// The home whose upkeep is told of.
    pub(crate) home: PathBuf,
}

/// Where the node is, and who, on one network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) kind: Kind,
    pub(crate) identity: AuthPublicKey,
    pub(crate) addresses: Vec<Address>,
}

impl Daemon {
    /// Runs until it is told to stop; `ready` is called once all entrances stand.
    ///
    /// # Errors
    ///
    /// What no patience mends: an address of this machine that cannot be listened on.
    pub(crate) fn run(
        self,
        stop: Stop,
        ready: impl FnOnce(&[Standing]) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        open_files::allow();
        let runtime = self.network.runtime().map_err(|error| {
            CommandError::io(
                "start threads of",
                std::path::Path::new("this node"),
                &error,
            )
        })?;
        // As long as anything runs on it: the last entrance to end would end its threads, too, and with them what still closes.
        let _network = Arc::clone(&self.network);
        runtime.block_on(self.serve(stop, ready))
    }

    async fn serve(
        self,
        stop: Stop,
        ready: impl FnOnce(&[Standing]) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        let (told, mut stand) = mpsc::unbounded_channel();
        let mut watched = JoinSet::new();
        if let Some(metrics) = &self.metrics {
            self.tell_figures(metrics, &mut watched).await?;
        }
        let expected = self.entrances.len();
        let mut entrances = JoinSet::new();
        if let Some(provider) = &self.provider {
            let node = Node {
                provider: provider.clone(),
                network: Arc::clone(&self.network),
                resources: Resources::new(Limits {
                    drain: self.drain,
                    ..Limits::DEFAULT
                }),
                told,
                stop: stop.clone(),
                tally: Arc::clone(&self.tally),
            };
            for entrance in self.entrances {
                entrances.spawn(entrance.keep(node.clone()));
            }
        }
        let does = match (&self.provider, &self.owner) {
            (Some(_), Some(_)) => "serving, and keeping a store",
            (Some(_), None) => "serving",
            _ => "keeping a store",
        };
        let mut ready = Some(ready);
        let mut standing: Vec<Standing> = Vec::new();
        if expected == 0
            && let Some(ready) = ready.take()
        {
            ready(&standing)?;
            manager::ready(does);
            tracing::info!("{does}");
        }
        let mut sweep = time::interval(SWEEP);
        sweep.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let pulse = manager::pulse();
        let mut beat = time::interval(pulse.unwrap_or(SWEEP));
        beat.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut tell = time::interval_at(time::Instant::now() + self.tell_every, self.tell_every);
        tell.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut end = Ok(());
        loop {
            tokio::select! {
                () = stop.asked() => break,
                Some(entrance) = stand.recv() => {
                    standing.push(entrance);
                    if standing.len() == expected && let Some(ready) = ready.take() {
                        ready(&standing)?;
                        manager::ready(does);
                        tracing::info!(networks = expected, "{does}");
                    }
                }
                // An entrance ends by itself only for good.
                Some(ended) = entrances.join_next() => {
                    end = ended.unwrap_or_else(|panic| Err(panicked(&panic)));
                    break;
                }
                _ = tell.tick(), if expected > 0 => self.tally.log(),
                _ = sweep.tick() => {
                    let sweep = |provider| sweep_once(provider, Arc::clone(&self.tally));
                    self.provider.clone().into_iter().for_each(sweep);
                }
                _ = beat.tick(), if pulse.is_some() => match &self.provider {
                    Some(provider) => beat_once(provider.clone()),
                    None => manager::alive(),
                },
            }
        }
        if end.is_err() {
            // Nothing told the others, who would serve on.
            entrances.abort_all();
        }
        // Nobody looks any more: what has the store open is to be closed.
        watched.abort_all();
        manager::stopping();
        tracing::info!("stopping: what runs may end");
        let (owner, drain) = (self.owner, self.drain);
        let closing = tokio::task::spawn_blocking(move || {
            if let Some(owner) = owner {
                owner.close(drain);
            }
        });
        // Each drains by itself, all at the same time.
        while let Some(ended) = entrances.join_next().await {
            end = end.and(match ended {
                Err(error) if error.is_cancelled() => Ok(()),
                ended => ended.unwrap_or_else(|panic| Err(panicked(&panic))),
            });
        }
        if let Err(panic) = closing.await {
            end = end.and(Err(panicked(&panic)));
        }
        if !standing.is_empty() {
            self.tally.log();
        }
        end
    }
}

impl Daemon {
    /// Has figures told for as long as `watched` is there.
    async fn tell_figures(
        &self,
        metrics: &Metrics,
        watched: &mut JoinSet<()>,
    ) -> Result<(), CommandError> {
        let listener = TcpListener::bind(metrics.at).await.map_err(|error| {
            CommandError::config(format!("cannot tell figures at {}: {error}", metrics.at))
                .hint("set `metrics` to a port of loopback that nothing else uses")
        })?;
        let figures = Figures {
            provider: self.provider.clone(),
            network: Arc::clone(&self.network),
            tally: Arc::clone(&self.tally),
            store: self.owner.as_ref().map(|_| Arc::default()),
            names_clients: metrics.names_clients,
            home: metrics.home.clone(),
            since: now(),
        };
        if let Some((owner, store)) = self.owner.clone().zip(figures.store.clone()) {
            watched.spawn(async move {
                let mut look = time::interval(figures::LOOK);
                look.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
                loop {
                    look.tick().await;
                    let (owner, store) = (owner.clone(), Arc::clone(&store));
                    // One that fails is tried again.
                    let _ = tokio::task::spawn_blocking(move || store.look(&owner)).await;
                }
            });
        }
        watched.spawn(scrape::serve(listener, Arc::new(move || figures.write())));
        Ok(())
    }
}

fn panicked(error: &tokio::task::JoinError) -> CommandError {
    CommandError::new(
        crate::error::Exit::Failed,
        "bug",
        format!("serving failed: {error}"),
    )
}

/// Frees what may be freed.
fn sweep_once(provider: Provider, tally: Arc<Tally>) {
    tokio::task::spawn_blocking(move || {
        let swept = provider.sweep(now());
        tally.sweep(swept.as_ref().ok());
        tell_swept(swept);
    });
}

fn tell_swept(swept: Result<SweepReport, ProviderError>) {
    match swept {
        Ok(report) if report == SweepReport::default() => {}
        Ok(report) => tracing::info!(
            bytes = report.bytes,
            packs = report.packs,
            uploads = report.uploads,
            "freed what was out of grace"
        ),
        Err(error) => tracing::warn!(kind = ?kind(&error), "could not free what is out of grace"),
    }
}

/// Says that the node lives if its ledger answers: threads that all wait for a disk would not.
fn beat_once(provider: Provider) {
    tokio::spawn(async move {
        let look = tokio::task::spawn_blocking(move || provider.clients().is_ok());
        if let Ok(Ok(true)) = time::timeout(LEDGER, look).await {
            manager::alive();
        }
    });
}

fn kind(error: &ProviderError) -> maimo_core::error::ErrorKind {
    maimo_core::error::Classify::kind(error)
}

/// Returns the time by the system's clock.
pub(crate) fn now() -> Timestamp {
    Clock::default().now()
}
