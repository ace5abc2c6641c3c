//! [`Settings`]: what the configuration says of the upkeep.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use globset::escape;
use maimo_client::pipeline::DomainFolder;

use super::folder_of;
use crate::{
    config::{Config, Span},
    places::Places,
};

/// How the upkeep is to be.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Where the state file is.
    pub(super) home: PathBuf,
    /// Folders to be kept stored.
    pub(super) folders: Vec<PathBuf>,
    /// Those among them, or below them, that are kept complete.
    pub(super) restored: Vec<PathBuf>,
    /// Globs of what is left out of them.
    pub(super) excludes: Vec<String>,
    /// Those that are dedup domains of their own.
    pub(super) domains: Vec<DomainFolder>,
    /// Folders of which no change counts: the node's own.
    pub(super) never: Vec<PathBuf>,
    /// How long nothing must change before what changed is stored, and how long that waits at most.
    pub(super) quiet: Duration,
    pub(super) longest: Duration,
    /// How often each is done; nothing for never.
    pub(super) rescan_every: Option<Duration>,
    pub(super) audit_every: Option<Duration>,
    pub(super) vital_every: Option<Duration>,
    pub(super) prune_every: Option<Duration>,
    /// How many slices of each stratum an audit asks for.
    pub(super) audit_slices: u32,
    /// How long a provider may be away before that is told.
    pub(super) patience: Duration,
    /// The program run on news, and for how long it may.
    pub(super) hook: String,
    pub(super) hook_limit: Duration,
}

impl Settings {
    /// Reads them from the configuration.
    pub(crate) fn of(config: &Config, places: &Places) -> Self {
        let user = env::var_os("HOME").map(PathBuf::from);
        let user = user.filter(|path| path.is_absolute());
        let base = places.config.parent().unwrap_or(Path::new("/"));
        let folder = |text: &String| folder_of(text, user.as_deref(), base);
        let own = [
            &places.home,
            &places.provider,
            &places.tor_state,
            &places.tor_cache,
        ];
        let own: Vec<PathBuf> = own.into_iter().cloned().collect();
        let mut excludes = config.exclude.value.clone();
        // What a retrieval or a deletion is at, and what this node itself keeps writing.
        excludes.extend([".maimo-partial-*", ".maimo-aside-*"].map(str::to_owned));
        let as_glob = |path: &PathBuf| path.to_str().map(escape);
        excludes.extend(own.iter().filter_map(as_glob));
        let some = |span: Span| (!span.is_zero()).then_some(span.duration());
        Self {
            home: places.home.clone(),
            folders: config.watch.value.iter().filter_map(folder).collect(),
            restored: config
                .restore_missing
                .value
                .iter()
                .filter_map(folder)
                .collect(),
            excludes,
            domains: config.domains.value.folders(),
            never: own,
            quiet: config.watch_quiet.value.duration(),
            longest: config.watch_longest.value.duration(),
            rescan_every: some(config.rescan_every.value),
            audit_every: some(config.audit_every.value),
            vital_every: some(config.vital_every.value),
            prune_every: some(config.prune_every.value),
            audit_slices: config.audit_slices.value,
            patience: config.patience.value.duration(),
            hook: config.hook.value.clone(),
            hook_limit: config.hook_limit.value.duration(),
        }
    }
}
