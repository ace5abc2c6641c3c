//! Being told to stop: the first signal asks the node to end what runs and take nothing new, the second ends the process at once.

use std::thread;

use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use tokio_util::sync::CancellationToken;

use crate::{error::CommandError, signals};

/// The request to stop. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(CancellationToken);

impl Stop {
    /// Asks to stop.
    pub(crate) fn ask(&self) {
        self.0.cancel();
    }

    /// Listens to the signals of the system from now on: an interrupt and a request to end are one. A terminal that closes is none: a node
    /// is to outlive it.
    ///
    /// # Errors
    ///
    /// The system gives no handler or thread. Without them no drain is possible, and nobody would know.
    pub(crate) fn on_signals() -> Result<Self, CommandError> {
        let failed = |error| CommandError::io("listen to", std::path::Path::new("signals"), &error);
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(failed)?;
        let stop = Self::default();
        let asks = stop.clone();
        let listen = move || {
            for signal in signals.forever() {
                if signal == SIGHUP {
                    tracing::info!("the terminal is gone or a reload was asked for: nothing to do");
                } else if asks.is_asked() {
                    signals::end_now();
                } else {
                    asks.ask();
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(listen).map_err(failed)?;
        Ok(stop)
    }

    /// Returns whether it was asked for.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns it for whoever serves.
    pub(crate) fn token(&self) -> CancellationToken {
        self.0.clone()
    }

    /// Waits until it is asked for.
    ///
    /// # Cancel safety
    ///
    /// Dropped and called again it misses nothing.
    pub(crate) async fn asked(&self) {
        self.0.cancelled().await;
    }
}
