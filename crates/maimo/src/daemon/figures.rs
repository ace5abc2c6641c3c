//! [`Figures`]: what a running node tells of itself in numbers, both of what it does for others and of the store that it keeps.
//!
//! Whom it stores for is not named unless its owner says so: a page that anyone on the machine may read is no place for labels. Names of its own
//! channels and folders of its own volumes are the owner's.
//!
//! Invariant: writing the page waits for no command and for no provider; what the store knows is looked at beside whatever is done with it, and as old as
//! [`LOOK`].

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use maimo_client::{
    audit::AuditResult,
    error::ClientError,
    status::StatusReport,
    verify::{PastAudit, Proven},
};
use maimo_core::{clock::Timestamp, id::RootHash};
use maimo_net::wire::Call;
use maimo_provider::provider::{Provider, VolumeState, VolumeStatus};

use super::{Owner, Tally, now, upkeep::state::State};
use crate::{
    metrics::{Kind, Page},
    network::Network,
};

/// How often the store is looked at.
pub(super) const LOOK: Duration = Duration::from_mins(1);

/// What the page is written of.
pub(super) struct Figures {
    pub(super) provider: Option<Provider>,
    pub(super) network: Arc<Network>,
    pub(super) tally: Arc<Tally>,
    pub(super) store: Option<Arc<Store>>,
    /// Whether clients are named by their labels.
    pub(super) names_clients: bool,
    pub(super) home: PathBuf,
    pub(super) since: Timestamp,
}

/// A figure of a volume.
type Figure = fn(&VolumeStatus) -> u64;

/// What was last seen of the store that the node keeps.
#[derive(Default)]
pub(super) struct Store(Mutex<Option<Seen>>);

struct Seen {
    status: StatusReport,
    /// All that are remembered, those of one channel after those of another, the newest one first.
    audits: Vec<PastAudit>,
    spool_bytes: u64,
    at: Timestamp,
}

impl Store {
    /// Looks at the store, whatever is done with it.
    pub(super) fn look(&self, owner: &Owner) {
        let look = || {
            let view = owner.viewer().look()?;
            Ok::<_, ClientError>(Seen {
                status: view.status()?,
                audits: view.audits()?,
                spool_bytes: view.spool_bytes(),
                at: now(),
            })
        };
        // What cannot be looked at now is tried again, and its age tells.
        if let Ok(seen) = look() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
        }
    }
}

impl Figures {
    /// Writes the page.
    pub(super) fn write(&self) -> String {
        let mut page = Page::default();
        page.family("maimo_info", Kind::Gauge, "Always 1; which version runs")
            .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        page.one(
            "maimo_start_time_seconds",
            Kind::Gauge,
            "When the node was started, in seconds since 1970",
            self.since.0 / 1000,
        );
        if let Some(provider) = &self.provider {
            self.served(&mut page);
            self.stored(provider, &mut page);
        }
        if let Some(store) = &self.store {
            self.sent(&mut page);
            if let Some(state) = State::read(&self.home) {
                upkept(&state, &mut page);
            }
            let seen = store.0.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(seen) = &*seen {
                kept(seen, &mut page);
            }
        }
        page.into_text()
    }

    /// What came in and went out, of all clients together.
    fn served(&self, page: &mut Page) {
        use Kind::{Counter, Gauge};
        let counted = self.tally.counters();
        let mut open = page.family("maimo_provider_connections", Gauge, "Connections open now");
        open.sample(&[("who", "client")], counted.connected);
        open.sample(&[("who", "stranger")], counted.strangers);
        for (name, help, value) in [
            (
                "maimo_provider_connections_total",
                "Connections that came in",
                counted.connections,
            ),
            (
                "maimo_provider_handshakes_failed_total",
                "Connections that never proved a key",
                counted.handshakes_failed,
            ),
            (
                "maimo_provider_sent_away_total",
                "Connections of whoever is unknown, revoked or too many",
                counted.sent_away,
            ),
            (
                "maimo_provider_broken_total",
                "Connections cut off: garbage, floods, no sign of life",
                counted.broken,
            ),
            (
                "maimo_provider_refused_total",
                "Calls answered with an error, busy ones among them",
                counted.refused,
            ),
            (
                "maimo_provider_busy_total",
                "Calls answered with busy",
                counted.busy,
            ),
            (
                "maimo_provider_panics_total",
                "Calls in which the program failed",
                counted.panicked,
            ),
        ] {
            page.one(name, Counter, help, value);
        }
        page.one(
            "maimo_provider_clients_connected",
            Gauge,
            "Clients with connections open now",
            counted.clients,
        );
        let mut calls = page.family("maimo_provider_calls_total", Counter, "Calls that came in");
        for (call, count) in Call::ALL.into_iter().zip(counted.called) {
            calls.sample(&[("call", name_of(call))], count);
        }
        let mut answered = page.family(
            "maimo_provider_answered_total",
            Counter,
            "Calls that were done and answered",
        );
        for (call, count) in Call::ALL.into_iter().zip(counted.answered) {
            answered.sample(&[("call", name_of(call))], count);
        }
        let mut bytes = page.family(
            "maimo_provider_bytes_total",
            Counter,
            "Bytes of all connections, below TLS's own",
        );
        bytes.sample(&[("direction", "in")], counted.received);
        bytes.sample(&[("direction", "out")], counted.sent);
        let swept = self.tally.swept();
        for (name, help, value) in [
            (
                "maimo_provider_sweeps_total",
                "Sweeps of what is out of grace",
                swept.sweeps,
            ),
            (
                "maimo_provider_sweeps_failed_total",
                "Sweeps that failed",
                swept.failed,
            ),
            (
                "maimo_provider_punched_packs_total",
                "Packs of which sweeps freed groups",
                swept.packs,
            ),
            (
                "maimo_provider_freed_bytes_total",
                "Bytes that sweeps freed, as they are charged",
                swept.bytes,
            ),
        ] {
            page.one(name, Counter, help, value);
        }
    }

    /// What is on the disks, and whose it is if that may be said.
    fn stored(&self, provider: &Provider, page: &mut Page) {
        use Kind::Gauge;
        let volumes = provider.volumes().unwrap_or_default();
        let paths: Vec<String> = volumes
            .iter()
            .map(|volume| volume.path.display().to_string())
            .collect();
        let each = || volumes.iter().zip(&paths);
        let figures: [(&'static str, &str, Figure); 3] = [
            (
                "maimo_provider_volume_capacity_bytes",
                "How much a volume may hold",
                |volume| volume.capacity,
            ),
            (
                "maimo_provider_volume_used_bytes",
                "How much it holds",
                |volume| volume.used,
            ),
            (
                "maimo_provider_volume_free_bytes",
                "How much its disk has free",
                |volume| volume.free,
            ),
        ];
        for (name, help, figure) in figures {
            let mut family = page.family(name, Gauge, help);
            for (volume, path) in each() {
                family.sample(&[("volume", path)], figure(volume));
            }
        }
        let mut states = page.family(
            "maimo_provider_volume_up",
            Gauge,
            "1 if a volume is mounted and takes or gives packs; its state says more",
        );
        for (volume, path) in each() {
            let (state, is_up) = match volume.state {
                VolumeState::Ready => ("ready", 1),
                VolumeState::Draining => ("draining", 1),
                VolumeState::Unavailable => ("unavailable", 0),
                _ => ("failed", 0),
            };
            states.sample(&[("volume", path), ("state", state)], is_up);
        }
        page.one(
            "maimo_provider_syncs_total",
            Kind::Counter,
            "What volumes were told to make durable: packs, logs, folders",
            provider.syncs(),
        );
        let clients = provider.clients().unwrap_or_default();
        let revoked = clients.iter().filter(|client| client.revoked.is_some());
        let revoked = revoked.count() as u64;
        let mut count = page.family("maimo_provider_clients", Gauge, "Clients there are");
        count.sample(&[("state", "active")], clients.len() as u64 - revoked);
        count.sample(&[("state", "revoked")], revoked);
        if !self.names_clients {
            return;
        }
        let mut used = page.family(
            "maimo_provider_client_charged_bytes",
            Gauge,
            "What is charged of a client's cap",
        );
        for client in &clients {
            let charged = client.totals.charged(&client.terms);
            used.sample(&[("client", &client.label)], charged);
        }
        let mut caps = page.family("maimo_provider_client_cap_bytes", Gauge, "A client's cap");
        for client in &clients {
            caps.sample(&[("client", &client.label)], client.terms.cap);
        }
    }

    /// What went to providers and came from them.
    fn sent(&self, page: &mut Page) {
        let done = self.network.statistics().unwrap_or_default();
        page.one(
            "maimo_client_circuits",
            Kind::Gauge,
            "Connections to providers open now",
            done.circuits,
        );
        page.one(
            "maimo_client_circuits_rebuilt_total",
            Kind::Counter,
            "Connections opened in place of lost ones",
            done.rebuilds,
        );
        let mut bytes = page.family(
            "maimo_client_bytes_total",
            Kind::Counter,
            "Bytes to and from providers over networks, all that TLS adds included",
        );
        bytes.sample(&[("direction", "in")], done.received);
        bytes.sample(&[("direction", "out")], done.sent);
    }
}

/// What is known of the store and its channels.
fn kept(seen: &Seen, page: &mut Page) {
    use Kind::Gauge;
    let Seen {
        status,
        audits,
        spool_bytes,
        at,
    } = seen;
    for (name, help, value) in [
        (
            "maimo_client_looked_seconds",
            "When the figures of the store were taken, in seconds since 1970",
            at.0 / 1000,
        ),
        (
            "maimo_client_store_sequence",
            "Number of the newest state known of the store",
            status.sequence,
        ),
        (
            "maimo_client_files",
            "Files whose newest revision is present",
            status.totals.files_present,
        ),
        (
            "maimo_client_file_bytes",
            "Their bytes",
            status.totals.bytes_present,
        ),
        (
            "maimo_client_evicted_files",
            "Files whose local copy was deleted on purpose",
            status.totals.files_evicted,
        ),
        (
            "maimo_client_evicted_bytes",
            "Their bytes",
            status.totals.bytes_evicted,
        ),
        (
            "maimo_client_behind",
            "1 if the catalog has not all that the store holds",
            u64::from(status.behind.is_some()),
        ),
        (
            "maimo_client_spool_bytes",
            "Bytes of packs that are sealed and not sent yet",
            *spool_bytes,
        ),
    ] {
        page.one(name, Gauge, help, value);
    }
    let mut sequences = page.family(
        "maimo_client_channel_sequence",
        Gauge,
        "Number of a channel's newest state seen",
    );
    for channel in &status.channels {
        debug_assert!(channel.sequence > 0 || channel.root == RootHash::NONE);
        sequences.sample(&[("channel", &channel.channel)], channel.sequence);
    }
    let mut behind = page.family(
        "maimo_client_channel_behind",
        Gauge,
        "How many commits a mirror is behind the newest state known",
    );
    for channel in &status.channels {
        behind.sample(&[("channel", &channel.channel)], channel.behind);
    }
    let mut reached = page.family(
        "maimo_client_channel_reached_seconds",
        Gauge,
        "The day on which a channel's provider last answered, in seconds since 1970",
    );
    for channel in &status.channels {
        if let Some(day) = channel.last_seen {
            reached.sample(&[("channel", &channel.channel)], day.0 / 1000);
        }
    }
    let mut times = page.family(
        "maimo_client_audit_seconds",
        Gauge,
        "When a channel was last audited and answered, in seconds since 1970",
    );
    let by_channel = || audits.chunk_by(|a, b| a.channel == b.channel);
    let newest = || by_channel().filter_map(<[PastAudit]>::first);
    for audit in newest() {
        times.sample(&[("channel", &audit.channel)], audit.time.0 / 1000);
    }
    let mut results = page.family(
        "maimo_client_audit_intact",
        Gauge,
        "1 if the last audit proved all that it asked for",
    );
    for audit in newest() {
        let is_intact = audit.result == AuditResult::Intact;
        results.sample(&[("channel", &audit.channel)], is_intact.into());
    }
    let mut slices = page.family(
        "maimo_client_audit_slices",
        Gauge,
        "Slices that the last audit asked for",
    );
    for audit in newest() {
        for (class, count) in ["data", "vital"].into_iter().zip(audit.slices) {
            slices.sample(&[("channel", &audit.channel), ("class", class)], count);
        }
    }
    let mut failed = page.family(
        "maimo_client_audit_failed_slices",
        Gauge,
        "Slices that the last audit did not prove",
    );
    for audit in newest() {
        failed.sample(&[("channel", &audit.channel)], audit.failed);
    }
    let mut proven = page.family(
        "maimo_client_proven_slices",
        Gauge,
        "Slices proven by all audits since the last one that was not intact",
    );
    for of_one in by_channel() {
        let Some(strata) = Proven::of(of_one).map(|it| it.strata) else {
            continue;
        };
        for (class, stratum) in ["data", "vital"].into_iter().zip(strata) {
            let labels = [("channel", of_one[0].channel.as_str()), ("class", class)];
            proven.sample(&labels, stratum.slices);
        }
    }
}

/// How what the node does by itself stands.
fn upkept(state: &State, page: &mut Page) {
    use Kind::Gauge;
    page.one(
        "maimo_client_pending",
        Gauge,
        "1 if something changed that is not stored yet",
        state.pending.into(),
    );
    if let Some(stored) = &state.stored {
        page.one(
            "maimo_client_stored_seconds",
            Gauge,
            "When something was last stored, in seconds since 1970",
            stored.time.seconds(),
        );
        page.one(
            "maimo_client_stored_files",
            Gauge,
            "New and changed files in the last run that had any",
            stored.files,
        );
        page.one(
            "maimo_client_stored_sent_bytes",
            Gauge,
            "Bytes sent for it, to all channels",
            stored.bytes_sent,
        );
    }
    if let Some(pruned) = &state.pruned {
        for (name, help, value) in [
            (
                "maimo_client_pruned_seconds",
                "When what no policy keeps was last let go of, in seconds since 1970",
                pruned.time.seconds(),
            ),
            (
                "maimo_client_pruned_packs",
                "Packs of which nothing is needed since then",
                pruned.packs,
            ),
            (
                "maimo_client_pruned_bytes",
                "Bytes let go of then, in those packs and in others",
                pruned.bytes,
            ),
        ] {
            page.one(name, Gauge, help, value);
        }
    }
    let mut done = page.family(
        "maimo_client_job_done_seconds",
        Gauge,
        "When a job (store, audit, prune) was last done, in seconds since 1970",
    );
    for row in &state.jobs {
        if let Some(last) = row.last {
            done.sample(&[("job", &row.job)], last.seconds());
        }
    }
    let mut failures = page.family(
        "maimo_client_job_failures",
        Gauge,
        "How often a job failed since it was last done",
    );
    for row in &state.jobs {
        failures.sample(&[("job", &row.job)], row.failures.into());
    }
    page.one(
        "maimo_client_troubles",
        Gauge,
        "How many things are wrong that were told; `maimo status` says which",
        state.troubles.iter().filter(|trouble| trouble.told).count() as u64,
    );
}

/// Returns what a call is called in labels: the end of its path.
fn name_of(call: Call) -> &'static str {
    call.path().rsplit('/').next().unwrap_or_default()
}
