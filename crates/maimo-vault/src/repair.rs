//! Repair: putting back what a channel no longer shows.
//!
//! A provider that was restored from an old image shows a head that does not descend from what was seen. Repairing it is the one act that
//! builds on such a head: what the client knew and the head does not say is merged in as a set, under the same names, as far as its
//! chunks are still to be had. What is not is named, never passed over.

use crate::{
    journal::{
        batch::Stamp,
        record::{ChunkExtent, Content, Record},
        state::State,
    },
    name::{ChunkRef, RecordId},
};

/// What a repair commits, and what it cannot save.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Repair {
    /// The records to be written again, as they were stamped.
    pub restored: Vec<(Stamp, Record)>,
    /// The revisions of which a chunk is nowhere to be had.
    pub lost: Vec<RecordId>,
}

impl Repair {
    /// Compares what was known with what is shown.
    ///
    /// `known` are all records of the last state seen. `find` says where a chunk can be had (living, held in grace, or to be uploaded
    /// again), given where it was last: there, or anywhere else that has a chunk of the same id.
    ///
    /// `moved` records are not put back: they would lead what the channel still shows to packs that it does not hold. The files
    /// that leaned on them are turned to where their chunks are found.
    pub fn plan(
        known: impl IntoIterator<Item = (Stamp, Record)>,
        shown: &State,
        find: impl Fn(ChunkRef) -> Option<ChunkRef>,
    ) -> Self {
        let missing: Vec<(Stamp, Record)> = known
            .into_iter()
            .filter(|(stamp, _)| !shown.knows(stamp.id))
            .collect();
        let union = union(shown, &missing);
        let mut repair = Self::default();
        for (stamp, mut record) in missing {
            match &mut record {
                Record::Moved { .. } => continue,
                Record::File {
                    content: Content::Regular { chunks, .. },
                    ..
                } => {
                    let found: Option<Vec<ChunkRef>> =
                        union.resolve_all(chunks).map(&find).collect();
                    match found {
                        Some(found) => *chunks = ChunkExtent::join(found),
                        None if union.is_kept(stamp.id) => {
                            repair.lost.push(stamp.id);
                            continue;
                        }
                        // Let go of before: nobody is owed it.
                        None => continue,
                    }
                }
                _ => {}
            }
            repair.restored.push((stamp, record));
        }
        repair
    }
}

/// Returns the state that both sides together say.
pub fn union<'a>(shown: &State, missing: impl IntoIterator<Item = &'a (Stamp, Record)>) -> State {
    let mut union = shown.clone();
    for (stamp, record) in missing {
        union.apply(*stamp, record.clone());
    }
    union
}
