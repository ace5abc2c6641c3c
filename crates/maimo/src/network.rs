//! The network: how this node reaches providers and is reached, by the ways its configuration names and no other.
//!
//! Nothing of it is there before it is needed: a command that works on a folder starts no runtime, opens no socket and no Tor. What is
//! asked for by an address of a kind that no way reaches is refused before anything is opened, names are looked up least of all.

mod addresses;
mod client;
mod tor;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use maimo_core::address::Network as Kind;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::{
    config::{Circuits, Config, Way, Ways, loopback},
    places::Places,
    ui::Link,
};

pub(crate) use self::{
    addresses::announced_by_tcp,
    tor::{ONION_PORT, Tor},
};

/// How many threads carry streams: sealing and hashing have threads of their own.
const THREADS: usize = 2;

/// The way to the network, made as far as it is used.
pub(crate) struct Network {
    settings: Settings,
    link: Link,
    runtime: Mutex<Option<Runtime>>,
    connector: tokio::sync::Mutex<Option<Arc<maimo_net::connector::NetworkConnector>>>,
}

/// What the configuration says of it.
#[derive(Debug, Clone)]
struct Settings {
    ways: Ways,
    circuits: u8,
    upload: Option<u64>,
    download: Option<u64>,
    bridges: Vec<String>,
    socks: SocketAddr,
    control: SocketAddr,
    cookie_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    private: Option<PathBuf>,
    tor_state: PathBuf,
    tor_cache: PathBuf,
}

impl Network {
    /// Notes what the configuration says; opens nothing.
    pub(crate) fn new(config: &Config, places: &Places, link: Link) -> Self {
        let file = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Self::of(
            Settings {
                ways: config.transport.value.clone(),
                circuits: config.circuits.value.count(),
                upload: config.limit_upload.value.bytes_per_second(),
                download: config.limit_download.value.bytes_per_second(),
                bridges: config.bridges.value.clone(),
                socks: config.socks.value,
                control: config.control.value,
                cookie_file: file(&config.control_cookie_file.value),
                password_file: file(&config.control_password_file.value),
                private: file(&config.tor_network_file.value),
                tor_state: places.tor_state.clone(),
                tor_cache: places.tor_cache.clone(),
            },
            link,
        )
    }

    /// Makes one that uses a single way and keeps Tor's state in a folder, whatever the configuration says.
    pub(crate) fn plain(way: Way, folder: &Path, private: Option<PathBuf>, link: Link) -> Self {
        Self::of(
            Settings {
                ways: Ways::only(way),
                circuits: Circuits::USUAL.count(),
                upload: None,
                download: None,
                bridges: Vec::new(),
                socks: loopback(9050),
                control: loopback(9051),
                cookie_file: None,
                password_file: None,
                private,
                tor_state: folder.join("tor-state"),
                tor_cache: folder.join("tor-cache"),
            },
            link,
        )
    }

    fn of(settings: Settings, link: Link) -> Self {
        Self {
            settings,
            link,
            runtime: Mutex::default(),
            connector: tokio::sync::Mutex::default(),
        }
    }

    /// Returns what runs the network's work, made at the first call.
    pub(crate) fn runtime(&self) -> io::Result<Handle> {
        let mut runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.is_none() {
            let made = Builder::new_multi_thread()
                .worker_threads(THREADS)
                .thread_name("network")
                .enable_all()
                .build()?;
            *runtime = Some(made);
        }
        let made = runtime.as_ref().map(|runtime| runtime.handle().clone());
        made.ok_or_else(|| io::Error::other("no runtime"))
    }

    /// Returns the ways that may be used.
    pub(crate) fn ways(&self) -> &[Way] {
        self.settings.ways.as_slice()
    }

    /// Returns whether a way reaches addresses of this kind.
    fn reaches(&self, kind: Kind) -> bool {
        self.ways().iter().any(|way| way.kind() == kind)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let runtime = self
            .runtime
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(runtime) = runtime.take() {
            // A stream that hangs must not keep the program from its end.
            runtime.shutdown_background();
        }
    }
}
