//! Repair: putting back what a channel no longer shows.
//!
//! A provider that was restored from an old image shows a head that does not descend from what was seen. Repairing it is the one act that
//! builds on such a head: what the client knew and the head does not say is merged in as a set, under the same names, as far as its
//! chunks are still to be had. What is not is named, never passed over.

use crate::{
    journal::{
        batch::Stamp,
        content::{ChunkExtent, Content},
        record::Record,
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
    /// `moved` records are not put back: they would lead what the channel still shows to packs that it does not hold. The files and
    /// dictionaries that leaned on them are turned to where their chunks are found.
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
                Record::Moved { .. } | Record::Dropped { .. } => continue,
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
                Record::Dictionary { chunk, .. } => match find(union.resolve(*chunk)) {
                    Some(found) => *chunk = found,
                    // The files that it takes to be read are lost with it: that is for `find` to say of their chunks.
                    None => continue,
                },
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::record::PathEvent,
        name::{ChunkId, Domain},
        testing::{SOURCE, at, chunk, chunk_id, dropped, file, id, moved, path, replay_stamped},
    };

    /// Repairs a channel that shows the first `shown` of `known`; `find` knows nothing of the packs `gone`.
    fn repair(known: &[Record], shown: usize, gone: &[u64]) -> Repair {
        let known: Vec<_> = (0..).map(at).zip(known.iter().cloned()).collect();
        let shows = replay_stamped(known[..shown].to_vec());
        let find = |chunk: ChunkRef| (!gone.contains(&chunk.pack.n)).then_some(chunk);
        Repair::plan(known, &shows, find)
    }

    fn gone(name: &str) -> Record {
        Record::Path {
            source: SOURCE,
            path: path(name),
            event: PathEvent::Gone,
        }
    }

    fn dictionary(chunk: ChunkRef) -> Record {
        Record::Dictionary {
            id: ChunkId([8; 32]),
            domain: Domain(0),
            chunk,
            retired: false,
        }
    }

    #[test]
    fn what_is_known_and_not_shown_comes_back_under_its_own_names() {
        let known = [
            file("a", [chunk(1, 0)]),
            file("b", [chunk(2, 0)]),
            gone("a"),
        ];
        let repair = repair(&known, 1, &[]);
        let [_, b, gone] = known;
        assert_eq!(repair.restored, [(at(1), b), (at(2), gone)]);
        assert_eq!(repair.lost, []);
    }

    #[test]
    fn nothing_comes_back_to_a_channel_that_shows_all() {
        let known = [file("a", [chunk(1, 0)])];
        assert_eq!(repair(&known, 1, &[1]), Repair::default());
    }

    #[test]
    fn moved_records_stay_away_and_files_turn_to_where_their_chunks_are() {
        let known = [
            file("a", [chunk(1, 0)]),
            file("b", [chunk(1, 0), chunk(1, 1)]),
            moved(chunk(1, 0), chunk(3, 4), 2),
            dictionary(chunk(1, 1)),
        ];
        let repair = repair(&known, 1, &[1]);
        let turned = file("b", [chunk(3, 4), chunk(3, 5)]);
        let dictionary = dictionary(chunk(3, 5));
        assert_eq!(repair.restored, [(at(1), turned), (at(3), dictionary)]);
        assert_eq!(repair.lost, []);
    }

    #[test]
    fn files_turn_to_another_copy_of_their_chunks() {
        let known = [(at(0), file("a", [chunk(1, 0), chunk(2, 7)]))];
        // By id, a pack that the channel still has holds them side by side.
        let ids = [(chunk(1, 0), chunk_id(1, 0)), (chunk(2, 7), chunk_id(2, 7))];
        let held = [(chunk_id(1, 0), chunk(5, 0)), (chunk_id(2, 7), chunk(5, 1))];
        let find = |chunk| {
            let (_, id) = ids.iter().find(|(known, _)| *known == chunk)?;
            Some(held.iter().find(|(held, _)| held == id)?.1)
        };
        let repair = Repair::plan(known, &State::default(), find);
        let turned = file("a", [chunk(5, 0), chunk(5, 1)]);
        assert_eq!(repair.restored, [(at(0), turned)]);
    }

    #[test]
    fn a_revision_with_a_chunk_nowhere_to_be_had_is_named_as_lost() {
        let known = [
            file("a", [chunk(1, 0), chunk(2, 0)]),
            file("b", [chunk(1, 1)]),
            dictionary(chunk(2, 1)),
        ];
        let repair = repair(&known, 0, &[2]);
        assert_eq!(repair.lost, [id(0)]);
        assert_eq!(repair.restored, [(at(1), file("b", [chunk(1, 1)]))]);
    }

    #[test]
    fn what_was_let_go_of_before_is_not_called_lost() {
        let pinned = Record::Pin {
            id: id(1),
            pinned: true,
        };
        let known = [
            file("a", [chunk(2, 0)]),
            file("b", [chunk(2, 1)]),
            dropped([0, 1]),
            pinned.clone(),
        ];
        let repair = repair(&known, 0, &[2]);
        assert_eq!(repair.lost, [id(1)]);
        assert_eq!(repair.restored, [(at(3), pinned)]);
    }

    /// A prune had let go of a revision because a newer one stood; the newer one was lost in the rollback. Put back, the prune's word would have
    /// dropped the newest revision of a path that is there.
    #[test]
    fn what_was_dropped_for_the_sake_of_a_lost_revision_stays() {
        let known = [
            file("a", [chunk(1, 0)]),
            file("a", [chunk(2, 0)]),
            dropped([0]),
        ];
        let repair = repair(&known, 1, &[2]);
        assert_eq!(repair.lost, [id(1)]);
        assert_eq!(repair.restored, []);
    }

    #[test]
    fn both_sides_together_say_what_either_says() {
        let shown = replay_stamped([(at(0), file("a", [chunk(1, 0)]))]);
        let missing = [(at(1), file("b", [chunk(1, 1)]))];
        let both = union(&shown, &missing);
        assert!(both.knows(id(0)) && both.knows(id(1)));
    }
}
