//! Whether the Tor network still takes this software, and what happens when it no longer does.
//!
//! The authorities publish which subprotocols a client must speak. Left alone, arti ends the whole process five seconds after a consensus
//! asks for one that it does not know: in the middle of a write, of a provider that also serves others over TCP. So the directory that
//! arti is given says nothing of those requirements ([`Guard`]), and they are enforced here instead: no more circuits, a state that
//! users see, a process that lives. See `docs/decisions/0011-obsolete-tor.md`.

use core::{future::Future, pin::Pin};
use std::{
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use arti_client::{DirProviderBuilder, ErrorDetail};
use futures::{StreamExt, future, stream::BoxStream};
use tokio::sync::watch;
use tor_circmgr::CircMgr;
use tor_dirmgr::{DirBootstrapStatus, DirMgr, DirMgrConfig, DirMgrStore, DirProvider};
use tor_netdir::{DirEvent, NetDir, NetDirProvider, Timeliness, params::NetParameters};
use tor_netdoc::doc::netstatus::{ProtoStatuses, ProtocolSupportError};
use tor_rtcompat::{Runtime, scheduler::TaskHandle, tokio::TokioRustlsRuntime};

/// What the network says of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Software {
    /// Nothing, or nothing against it.
    #[default]
    Current,
    /// It lacks what the network recommends by now: requirements follow, months later. Time to update.
    Aging,
    /// It lacks what the network requires: Tor is off until it is updated.
    Obsolete,
}

/// When arti 0.47 was released (2026-10-01), since 1970: what a consensus older than it asks for was known then.
const RELEASED: Duration = Duration::from_hours(20_727 * 24);

/// What arti's onion services speak, though none of its crates says so while each of them can be left out.
const ONION_SERVICE_PROTOCOLS: &str = "HSDir=2 HSIntro=4-5 HSRend=2";

/// Judges by what a consensus of `published` asks of clients.
fn judge(published: SystemTime, asked: &ProtoStatuses) -> (Software, Option<ProtocolSupportError>) {
    if published < SystemTime::UNIX_EPOCH + RELEASED {
        return (Software::Current, None);
    }
    let spoken = tor_proto::supported_client_protocols()
        .union(&tor_netdoc::supported_protocols())
        .union(&tor_dirmgr::supported_client_protocols())
        .union(&tor_hsservice::supported_hsservice_protocols())
        .union(&tor_hsclient::supported_hsclient_protocols())
        .union(&ONION_SERVICE_PROTOCOLS.parse().unwrap_or_default());
    match asked.client().check_protocols(&spoken) {
        Ok(()) => (Software::Current, None),
        Err(error) if error.should_shutdown() => (Software::Obsolete, Some(error)),
        Err(_) => (Software::Aging, None),
    }
}

/// Makes arti's directory, and takes the requirements out of what arti sees of it.
pub(crate) struct GuardBuilder {
    pub(crate) software: watch::Sender<Software>,
}

impl DirProviderBuilder<TokioRustlsRuntime> for GuardBuilder {
    fn build(
        &self,
        runtime: TokioRustlsRuntime,
        store: DirMgrStore<TokioRustlsRuntime>,
        circuits: Arc<CircMgr<TokioRustlsRuntime>>,
        config: DirMgrConfig,
    ) -> arti_client::Result<Arc<dyn DirProvider>> {
        let directory = DirMgr::create_unbootstrapped(config, runtime, store, circuits)
            .map_err(ErrorDetail::DirMgrSetup)?;
        // Before the cached requirements are read: none may come between.
        let events = directory.events();
        if let Some((published, asked)) = directory.protocol_statuses() {
            let (software, missing) = judge(published, &asked);
            self.software.send_replace(software);
            if let Some(missing) = missing {
                return Err(ErrorDetail::MissingProtocol(missing).into());
            }
        }
        tokio::spawn(watch_requirements(
            events,
            Arc::downgrade(&directory),
            self.software.clone(),
        ));
        Ok(Arc::new(Guard(directory)))
    }
}

/// Follows the requirements until the directory is gone.
async fn watch_requirements<R: Runtime>(
    mut events: BoxStream<'static, DirEvent>,
    directory: Weak<DirMgr<R>>,
    software: watch::Sender<Software>,
) {
    while let Some(event) = events.next().await {
        if event != DirEvent::NewProtocolRecommendation {
            continue;
        }
        let Some(directory) = directory.upgrade() else {
            return;
        };
        if let Some((published, asked)) = directory.protocol_statuses() {
            let (judged, missing) = judge(published, &asked);
            if let Some(missing) = missing {
                tracing::error!(%missing, "the tor network requires a newer version: tor is off");
            }
            software.send_replace(judged);
        }
    }
}

/// A directory that is silent about what the network requires of software.
struct Guard<R: Runtime>(Arc<DirMgr<R>>);

impl<R: Runtime> NetDirProvider for Guard<R> {
    fn netdir(&self, timeliness: Timeliness) -> tor_netdir::Result<Arc<NetDir>> {
        self.0.netdir(timeliness)
    }

    fn events(&self) -> BoxStream<'static, DirEvent> {
        let told = |event: &DirEvent| *event != DirEvent::NewProtocolRecommendation;
        self.0
            .events()
            .filter(move |event| future::ready(told(event)))
            .boxed()
    }

    fn params(&self) -> Arc<dyn AsRef<NetParameters>> {
        self.0.params()
    }

    fn protocol_statuses(&self) -> Option<(SystemTime, Arc<ProtoStatuses>)> {
        None
    }
}

impl<R: Runtime> DirProvider for Guard<R> {
    fn reconfigure(
        &self,
        config: &DirMgrConfig,
        how: arti_client::config::Reconfigure,
    ) -> Result<(), tor_config::ReconfigureError> {
        DirMgr::reconfigure(&self.0, config, how)
    }

    fn bootstrap<'own, 'future>(
        &'own self,
    ) -> Pin<Box<dyn Future<Output = tor_dirmgr::Result<()>> + Send + 'future>>
    where
        'own: 'future,
        Self: 'future,
    {
        Box::pin(DirMgr::bootstrap(&self.0))
    }

    fn bootstrap_events(&self) -> BoxStream<'static, DirBootstrapStatus> {
        DirMgr::bootstrap_events(&self.0).boxed()
    }

    fn download_task_handle(&self) -> Option<TaskHandle> {
        DirProvider::download_task_handle(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(required: &str, recommended: &str) -> ProtoStatuses {
        let status = serde_json::json!({ "recommended": recommended, "required": required });
        serde_json::from_value(serde_json::json!({ "client": status, "relay": status })).unwrap()
    }

    fn judged(required: &str, recommended: &str) -> Software {
        judge(
            SystemTime::UNIX_EPOCH + RELEASED,
            &asked(required, recommended),
        )
        .0
    }

    #[test]
    fn what_the_network_asked_for_at_the_release_is_spoken() {
        let required = "Cons=2 Desc=2 FlowCtrl=1 Link=4 Microdesc=2 Relay=2";
        let recommended = "Cons=2 Desc=2 DirCache=2 FlowCtrl=1-2 HSDir=2 HSIntro=4-5 HSRend=2 Link=4-5 Microdesc=2 Relay=2-4";
        assert_eq!(judged(required, ""), Software::Current);
        assert_eq!(judged(required, recommended), Software::Current);
    }

    #[test]
    fn a_recommendation_not_met_is_a_warning_and_a_requirement_the_end() {
        assert_eq!(judged("", "Relay=60"), Software::Aging);
        assert_eq!(judged("Relay=60", ""), Software::Obsolete);
    }

    #[test]
    fn what_an_older_consensus_asked_for_is_not_heeded() {
        let before = SystemTime::UNIX_EPOCH + RELEASED - Duration::from_secs(1);
        let (software, missing) = judge(before, &asked("Relay=60", ""));
        assert_eq!(software, Software::Current);
        assert!(missing.is_none());
    }

    #[test]
    fn the_date_and_the_protocols_here_are_those_of_the_arti_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(
            lock.contains("name = \"arti-client\"\nversion = \"0.47."),
            "another arti: take its release date and look at its list of protocols anew"
        );
    }
}
