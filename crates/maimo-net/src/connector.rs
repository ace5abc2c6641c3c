//! Connecting over networks: transports, TLS and HTTP/2 put together, several circuits to a provider.
//!
//! All work runs on a runtime that is given. A reply may be awaited on any thread, by any executor.
//!
//! Invariant: an address is spoken with over a transport of its own network or not at all, and nothing but the handshake goes to anyone who
//! has not proven the key that was asked for.

mod way;

use core::{fmt, time::Duration};
use std::sync::Arc;

use maimo_core::{
    address::{Address, AddressList},
    error::{Classify, Retry},
    identity::{AuthPublicKey, ClientSecretKey},
    invitation::{Invitation, InvitationToken},
    ticket::Ticket,
};
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};
use zeroize::Zeroizing;

use self::way::Way;
use crate::{
    backoff::Backoff,
    circuits::{self, Counters, Pool, Statistics, spawned},
    connect::{Connector, Load, Welcome},
    http::Budget,
    rate::Limits,
    service::{Reply, ServiceError, Session},
    tls::ClientTls,
    transport::Transport,
};

/// How a node connects.
#[derive(Debug)]
pub struct Settings {
    /// How circuits are used.
    pub circuits: circuits::Settings,
    /// How fast bytes may go, over all circuits.
    pub limits: Limits,
    /// How many bytes the windows of all connections may take together, beyond what each begins with.
    pub window_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            circuits: circuits::Settings::default(),
            limits: Limits::default(),
            window_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Connects to providers over the transports that a node was told to use.
pub struct NetworkConnector {
    shared: Arc<Shared>,
    runtime: Handle,
}

/// What all connections of a node share.
struct Shared {
    transports: Vec<Arc<dyn Transport>>,
    circuits: circuits::Settings,
    limits: Arc<Limits>,
    windows: Budget,
    counters: Arc<Counters>,
}

impl NetworkConnector {
    /// Makes a connector that speaks over these transports and no others, and works on this runtime.
    pub fn new(transports: Vec<Arc<dyn Transport>>, runtime: Handle, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                transports,
                circuits: settings.circuits,
                limits: Arc::new(settings.limits),
                windows: Budget::new(settings.window_bytes),
                counters: Arc::default(),
            }),
            runtime,
        }
    }

    /// Returns how many circuits are open, to all providers.
    pub fn circuits(&self) -> usize {
        usize::try_from(self.statistics().circuits).unwrap_or(usize::MAX)
    }

    /// Returns what all circuits did so far.
    pub fn statistics(&self) -> Statistics {
        self.shared.counters.statistics()
    }

    /// Returns the way to a provider by the texts of its addresses.
    fn way<'a>(
        &self,
        addresses: impl IntoIterator<Item = &'a str>,
    ) -> Result<Arc<Way>, ServiceError> {
        let addresses = addresses
            .into_iter()
            .filter_map(|text| text.parse::<Address>().ok());
        Ok(Arc::new(Way::new(&self.shared, addresses)?))
    }
}

impl Connector for NetworkConnector {
    fn identify<'a>(&'a self, address: &'a str) -> Reply<'a, AuthPublicKey> {
        let way = match self.way([address]) {
            Ok(way) => way,
            Err(error) => return failed(error),
        };
        let settings = self.shared.circuits;
        spawned(&self.runtime, async move {
            persist(&settings, || way.identify()).await
        })
    }

    fn connect<'a>(
        &'a self,
        addresses: &'a [String],
        auth: AuthPublicKey,
        client: &'a Arc<ClientSecretKey>,
        load: Load,
    ) -> Reply<'a, Arc<dyn Session>> {
        let way = match self.way(addresses.iter().map(String::as_str)) {
            Ok(way) => way,
            Err(error) => return failed(error),
        };
        let dial = Arc::new(way.to(auth, ClientTls::new(client)));
        let Shared {
            circuits, counters, ..
        } = &*self.shared;
        let pool = Pool::new(dial, *circuits, counters, self.runtime.clone());
        match load {
            Load::Light => {}
            Load::Heavy => pool.expect_much(),
            Load::Unknown => {
                pool.reach_ahead();
                return Box::pin(async move { Ok(Arc::new(pool) as Arc<dyn Session>) });
            }
        }
        Box::pin(async move {
            pool.reach().await?;
            let session: Arc<dyn Session> = Arc::new(pool);
            Ok(session)
        })
    }

    fn audit<'a>(
        &'a self,
        addresses: &'a [String],
        ticket: &'a Ticket,
    ) -> Reply<'a, Arc<dyn Session>> {
        let way = self.way(addresses.iter().map(String::as_str));
        let (way, key) = match way.and_then(|way| Ok((way, throwaway_key()?))) {
            Ok(found) => found,
            Err(error) => return failed(error),
        };
        let route = way.to(ticket.terms().provider, ClientTls::new(&Arc::new(key)));
        let dial = Arc::new(route.with_ticket(ticket));
        let Shared {
            circuits, counters, ..
        } = &*self.shared;
        let pool = Pool::new(dial, *circuits, counters, self.runtime.clone());
        Box::pin(async move {
            pool.reach().await?;
            let session: Arc<dyn Session> = Arc::new(pool);
            Ok(session)
        })
    }

    fn redeem<'a>(
        &'a self,
        invitation: &'a Invitation,
        client: &'a Arc<ClientSecretKey>,
    ) -> Reply<'a, Welcome> {
        let offer = invitation.offer();
        let addresses = offer.addresses.as_slice().iter().cloned();
        let way = match Way::new(&self.shared, addresses) {
            Ok(way) => Arc::new(way),
            Err(error) => return failed(error),
        };
        let dial = way.to(offer.provider, ClientTls::new(client));
        let settings = self.shared.circuits;
        // Once more, for a task that outlives the borrow; it is wiped like the first.
        let token = InvitationToken::from_bytes(invitation.token().as_bytes());
        Box::pin(async move {
            let welcome = spawned(&self.runtime, async move {
                persist(&settings, || dial.redeem(&token)).await
            })
            .await?;
            check_welcome(invitation, &welcome)?;
            Ok(welcome)
        })
    }
}

/// Makes a key for one session, kept nowhere: nothing tells that two audits are of one auditor.
fn throwaway_key() -> Result<ClientSecretKey, ServiceError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(|_| ServiceError::Offline {
        detail: "this machine gives no random numbers".to_owned(),
    })?;
    Ok(ClientSecretKey::from_seed(&seed))
}

impl fmt::Debug for NetworkConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkConnector")
            .field("statistics", &self.statistics())
            .finish_non_exhaustive()
    }
}

/// Refuses what was not offered: a provider that lowers the grace once the line is taken, or sends elsewhere.
fn check_welcome(invitation: &Invitation, welcome: &Welcome) -> Result<(), ServiceError> {
    let misbehaved = |detail: &str| ServiceError::Misbehaved {
        detail: detail.to_owned(),
    };
    if welcome.terms != invitation.offer().terms() {
        return Err(misbehaved("its terms are not those of the invitation"));
    }
    if let Some(list) = &welcome.addresses {
        AddressList::verify(list, &invitation.offer().provider)
            .map_err(|error| misbehaved(&error.to_string()))?;
    }
    Ok(())
}

fn failed<T: Send + 'static>(error: ServiceError) -> Reply<'static, T> {
    Box::pin(async { Err(error) })
}

/// Tries again, with pauses, what fails for reasons that may pass.
async fn persist<T, F>(
    settings: &circuits::Settings,
    attempt: impl Fn() -> F,
) -> Result<T, ServiceError>
where
    F: Future<Output = Result<T, ServiceError>>,
{
    let patience = settings.control_patience;
    let started = Instant::now();
    let end = started + patience;
    // Pauses that are alike do no harm worth failing for.
    let seed = getrandom::u64().unwrap_or(0);
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(15), seed);
    let mut trouble = None;
    loop {
        let error = match tokio::time::timeout_at(end, attempt()).await {
            Ok(Err(error @ ServiceError::TorUnavailable { .. }))
                if started.elapsed() >= settings.tor_patience =>
            {
                return Err(error);
            }
            Ok(Err(error)) if error.retry() != Retry::Never => error,
            Ok(answer) => return answer,
            Err(_) => {
                return Err(trouble.unwrap_or_else(|| ServiceError::Offline {
                    detail: format!("no answer within {} s", patience.as_secs()),
                }));
            }
        };
        match backoff.after(error.retry()) {
            Some(pause) if Instant::now() + pause < end => sleep(pause).await,
            _ => return Err(error),
        }
        trouble = Some(error);
    }
}

#[cfg(test)]
mod tests;
