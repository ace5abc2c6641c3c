//! Dictionaries whose last chunk goes: they are retired by the commit that lets go of it, and no head names them any more.
//!
//! In that commit and not later: its pack is then in grace as long as the chunks, and whatever is brought back finds it there. The one that new chunks
//! use is retired like the others. It was made of what is gone now, and the next one is made of what is there. Only one that no chunk has ever used
//! stays: it was trained at the end of a run, and would be trained again by the next.

use std::collections::BTreeMap;

use maimo_vault::{
    commit::TailPiece,
    demand::Demand,
    journal::record::Record,
    name::{ChunkId, PackNumber},
    pack::PackLayout,
};

use crate::{engine::Engine, error::ClientError};

impl Engine {
    /// Returns the records that retire what nothing of `demand` needs. `layouts` has all packs of which anything is needed.
    pub(super) fn retires(
        &self,
        demand: &Demand,
        layouts: &BTreeMap<PackNumber, PackLayout>,
        tail: &[TailPiece],
    ) -> Result<Vec<Record>, ClientError> {
        let mut in_use = self.catalog.reader()?.dictionary_versions()?;
        in_use.retain(|version| !version.known.retired);
        if in_use.is_empty() {
            return Ok(Vec::new());
        }
        let entries = |number| {
            if let Some(layout) = layouts.get(&number) {
                return Some(layout.entries());
            }
            let mut tail = tail.iter();
            let piece = tail.find(|tail| tail.piece.number() == number)?;
            Some(piece.piece.entries())
        };
        let needed = demand.dictionaries(entries);
        let newest = in_use.last().map(|version| version.id);
        in_use.retain(|version| !needed.contains(&version.id));
        // Trained by the last run, for the next.
        let has_served = |id: ChunkId| {
            let packs = layouts.values().map(PackLayout::entries);
            let pieces = tail.iter().map(|tail| tail.piece.entries());
            let mut all = packs.chain(pieces).flatten();
            all.any(|entry| entry.dictionary == Some(id))
        };
        in_use.retain(|version| newest != Some(version.id) || has_served(version.id));
        let retires = in_use.into_iter().map(|version| Record::Dictionary {
            id: version.id,
            domain: version.known.domain,
            chunk: version.known.chunk,
            retired: true,
        });
        Ok(retires.collect())
    }
}
