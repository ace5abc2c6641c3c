//! [`Tally`]: what the node has done since it started, on all its networks together.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use maimo_net::serve::{Counters, Server};
use maimo_provider::sweep::SweepReport;

/// Counts what all servers of the node do, and what sweeps freed.
#[derive(Default)]
pub(crate) struct Tally {
    servers: Mutex<Vec<Arc<Server>>>,
    swept: Mutex<Swept>,
}

/// What sweeps did since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    pub(super) sweeps: u64,
    pub(super) failed: u64,
    pub(super) packs: u64,
    pub(super) bytes: u64,
}

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

    /// Notes a sweep, and what it freed; none if it failed.
    pub(super) fn sweep(&self, report: Option<&SweepReport>) {
        let mut swept = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
        swept.sweeps += 1;
        match report {
            Some(report) => {
                swept.packs += report.packs;
                swept.bytes += report.bytes;
            }
            None => swept.failed += 1,
        }
    }

    /// Returns what sweeps did.
    pub(super) fn swept(&self) -> Swept {
        *self.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was counted on all networks together.
    pub(super) fn counters(&self) -> Counters {
        let servers = self.servers();
        let counters = servers.iter().map(|server| server.counters());
        counters.fold(Counters::default(), Counters::and)
    }

    fn servers(&self) -> MutexGuard<'_, Vec<Arc<Server>>> {
        // A list that only grows is whole after a panic as before.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
