//! [`Tally`]: what the node has done since it started, on all its networks together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use maimo_net::serve::{Counters, Server};

/// Counts what all servers of the node do.
#[derive(Default)]
pub(crate) struct Tally(Mutex<Vec<Arc<Server>>>);

impl Tally {
    /// Counts a server's work, too.
    pub(super) fn add(&self, server: &Arc<Server>) {
        self.servers().push(Arc::clone(server));
    }

    /// Returns how many connections of known clients are open.
    pub(crate) fn open_connections(&self) -> u64 {
        self.counters().connected
    }

    /// Writes it to the log: a line of numbers, which name nobody.
    pub(super) fn log(&self) {
        let counters = self.counters();
        tracing::info!(
            clients = counters.clients,
            connected = counters.connected,
            strangers = counters.strangers,
            connections = counters.connections,
            calls = counters.calls,
            refused = counters.refused,
            busy = counters.busy,
            sent_away = counters.sent_away,
            handshakes_failed = counters.handshakes_failed,
            broken = counters.broken,
            panicked = counters.panicked,
            received = counters.received,
            sent = counters.sent,
            "served so far"
        );
    }

    fn counters(&self) -> Counters {
        let servers = self.servers();
        let counters = servers.iter().map(|server| server.counters());
        counters.fold(Counters::default(), Counters::and)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Arc<Server>>> {
        // A list that only grows is whole after a panic as before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
