//! What no policy keeps, worked out for some paths at a time.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
};

use maimo_core::clock::Timestamp;
use maimo_vault::{
    journal::record::Record, name::SourceId, path::StorePath, prune::Drops, retention::Policy,
};

use super::text_of;
use crate::{engine::Engine, error::ClientError};

/// How many paths are looked at with all that they went through in memory.
const PATHS_AT_ONCE: u64 = 50_000;

impl Engine {
    /// Returns what no policy keeps.
    ///
    /// A path that went through one thing only keeps it, whatever the policy, so only the others are replayed: those of which the journal has
    /// two records or more, by a keyed hash of their names, a part of them at a time.
    pub(super) fn plan_drops(&mut self, now: Timestamp) -> Result<Drops, ClientError> {
        let patterns = self.patterns()?;
        let policy_of = |path: &StorePath| {
            if patterns.is_empty() {
                return None;
            }
            let path = text_of(path);
            let mut patterns = patterns.iter();
            patterns
                .find(|(pattern, _)| pattern.is_match(&path))
                .map(|(_, policy)| *policy)
        };
        let hasher = RandomState::new();
        let hash = |source: SourceId, path: &StorePath| hasher.hash_one((source, path));
        let mut once = HashSet::new();
        let mut several = HashSet::new();
        // Policies have a say in which runs stay wherever they hold for any path.
        let mut seen: HashSet<(SourceId, Option<Policy>)> = HashSet::new();
        self.replay_by(|_, _, record| {
            let (Record::File { source, path, .. } | Record::Path { source, path, .. }) = &record
            else {
                return;
            };
            let hash = hash(*source, path);
            if !once.insert(hash) || seen.insert((*source, policy_of(path))) {
                several.insert(hash);
            }
        })?;
        drop(once);
        let parts = (several.len() as u64).div_ceil(PATHS_AT_ONCE).max(1);
        let mut drops: Option<Drops> = None;
        for part in 0..parts {
            let state = self
                .replay_by(|state, stamp, record| {
                    let is_here = match &record {
                        Record::File { source, path, .. } | Record::Path { source, path, .. } => {
                            let hash = hash(*source, path);
                            hash % parts == part && several.contains(&hash)
                        }
                        _ => true,
                    };
                    if is_here {
                        state.apply(stamp, record);
                    }
                })?
                .state;
            let here = Drops::plan_by(&state, now, |_, path| policy_of(path));
            drops = Some(match drops {
                Some(drops) => drops.join(here),
                None => here,
            });
        }
        Ok(drops.unwrap_or_default())
    }
}
