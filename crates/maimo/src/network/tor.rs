//! The Tor that the configuration names: the one in this program, or one that runs on this machine already. Never both, and never neither.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use maimo_core::identity::OnionSecretKey;
use maimo_net::{
    service::ServiceError,
    transport::{
        Listener, Transport,
        system_tor::{ControlAddress, ControlSecret, OnionService, SystemTor},
    },
};

use zeroize::Zeroizing;

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

/// A Tor that was started, or found.
#[derive(Clone)]
pub(crate) enum Tor {
    /// In this program.
    #[cfg(feature = "tor")]
    Embedded(Arc<maimo_arti::ArtiTor>),
    /// On this machine.
    System(System),
}

/// A Tor that runs on this machine, by its two ports.
#[derive(Clone)]
pub(crate) struct System {
    out: Arc<SystemTor>,
    control: ControlAddress,
    cookie_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
}

impl System {
    /// Returns by what its control port lets us in. Read when it is needed, not kept.
    fn secret(&self) -> Result<ControlSecret, ServiceError> {
        let password = match &self.password_file {
            Some(file) => {
                let text = Zeroizing::new(read(file)?);
                let line = text.lines().next().unwrap_or_default();
                Some(Zeroizing::new(line.to_owned()))
            }
            None => None,
        };
        Ok(ControlSecret {
            cookie_file: self.cookie_file.clone(),
            password,
        })
    }
}

impl Tor {
    /// Starts the one that a way names, to be called on the network's runtime. That it is connected is waited for by whoever dials.
    pub(super) async fn start(
        settings: &Settings,
        way: Way,
        role: Role,
        link: &Link,
    ) -> Result<Self, ServiceError> {
        if way == Way::SystemTor {
            return Ok(Self::System(System {
                out: Arc::new(SystemTor::new(settings.socks)),
                control: ControlAddress::Tcp(settings.control),
                cookie_file: settings.cookie_file.clone(),
                password_file: settings.password_file.clone(),
            }));
        }
        embedded(settings, role, link.clone()).await
    }

    /// Returns the way out.
    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        match self {
            #[cfg(feature = "tor")]
            Self::Embedded(tor) => Arc::clone(tor) as _,
            Self::System(tor) => Arc::clone(&tor.out) as _,
        }
    }

    /// Makes the onion service of this key, and waits until others reach it.
    pub(crate) async fn listen(
        &self,
        key: &Arc<OnionSecretKey>,
    ) -> Result<Box<dyn Listener>, ServiceError> {
        match self {
            #[cfg(feature = "tor")]
            Self::Embedded(tor) => {
                let listener = tor
                    .listen(key, ONION_PORT)
                    .map_err(|error| unavailable(&error))?;
                listener
                    .reachable(REACHABLE)
                    .await
                    .map_err(|error| unavailable(&error))?;
                Ok(Box::new(listener))
            }
            Self::System(tor) => {
                let (control, secret) = (tor.control.clone(), tor.secret()?);
                let listener = OnionService::start(control, secret, Arc::clone(key), ONION_PORT)
                    .await
                    .map_err(|error| unavailable(&error))?;
                Ok(Box::new(listener))
            }
        }
    }
}

/// How long an onion service may take until others reach it, the time to connect to Tor included.
#[cfg(feature = "tor")]
const REACHABLE: std::time::Duration = std::time::Duration::from_mins(5);

/// What is said before the day on which the network takes this version no more.
#[cfg(feature = "tor")]
const AGING: &str =
    "the Tor network asks for a newer version: update maimo before it takes this one no more";

#[cfg(feature = "tor")]
async fn embedded(settings: &Settings, role: Role, link: Link) -> Result<Tor, ServiceError> {
    let folder = role.folder();
    let mut arti = maimo_arti::ArtiSettings::new(
        settings.tor_state.join(folder),
        settings.tor_cache.join(folder),
    );
    arti.serves = role == Role::Service;
    arti.bridges.clone_from(&settings.bridges);
    arti.network = settings.private.as_deref().map(private).transpose()?;
    let told = move |status: maimo_arti::TorStatus| {
        link.tor(crate::ui::Tor {
            percent: if status.is_ready {
                100
            } else {
                status.percent.min(99)
            },
            trouble: match status.software {
                maimo_arti::Software::Aging => Some(AGING),
                _ => status.blocked.map(maimo_arti::Blocked::as_str),
            },
        });
    };
    let tor = maimo_arti::ArtiTor::start(arti, told).await;
    Ok(Tor::Embedded(tor.map_err(|error| unavailable(&error))?))
}

#[cfg(not(feature = "tor"))]
#[expect(clippy::unused_async, reason = "where there is a Tor, it takes time")]
async fn embedded(settings: &Settings, role: Role, link: Link) -> Result<Tor, ServiceError> {
    // Named, so that a build without Tor reads the same settings.
    let _ = (&settings.bridges, &settings.private, role.folder(), link);
    let _ = (&settings.tor_state, &settings.tor_cache);
    Err(ServiceError::TorUnavailable {
        detail: "this build has none".to_owned(),
        hint: "install with `--features tor`, or set transport = \"system-tor\"",
    })
}

/// Reads the authorities of a private network, one a line.
#[cfg(feature = "tor")]
fn private(file: &Path) -> Result<maimo_arti::PrivateNetwork, ServiceError> {
    let text = read(file)?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let authorities: Result<Vec<_>, _> = lines.map(str::parse).collect();
    let authorities = authorities.map_err(|error: maimo_arti::ParseAuthorityError| {
        ServiceError::TorUnavailable {
            detail: format!("{}: {error}", file.display()),
            hint: HINT_FILE,
        }
    })?;
    Ok(maimo_arti::PrivateNetwork {
        authorities,
        ..maimo_arti::PrivateNetwork::default()
    })
}

/// What to do about a file that the configuration names.
const HINT_FILE: &str = "see `maimo config show` for the files that it names";

fn read(file: &Path) -> Result<String, ServiceError> {
    fs::read_to_string(file).map_err(|error| ServiceError::TorUnavailable {
        detail: format!("cannot read {}: {error}", file.display()),
        hint: HINT_FILE,
    })
}

/// Says why there is no Tor, and what to do about it.
fn unavailable(error: &(impl maimo_core::error::Classify + std::fmt::Display)) -> ServiceError {
    ServiceError::TorUnavailable {
        detail: error.to_string(),
        hint: error.hint().unwrap_or("try again"),
    }
}
