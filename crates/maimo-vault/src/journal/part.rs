//! [`Part`]: a state replayed without the revisions and events that nobody is going to ask for.
//!
//! A merge, or a prune that spills the tail, asks of the journal only what concerns its own records; in a store of a million files all the others
//! would fill a gigabyte. A [`State`] that took in the journal by [`State::apply_part`] says of what is in the part exactly what one replayed whole says:
//! all but revisions and events it has whole, and of those it leaves out it keeps count of the packs they name.

use std::collections::BTreeSet;

use super::{batch::Stamp, record::Record, state::State};
use crate::{
    name::{PackNumber, RecordId, SourceId},
    path::StorePath,
};

/// Which revisions and events a state is replayed with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Part {
    paths: BTreeSet<(SourceId, StorePath)>,
    packs: BTreeSet<PackNumber>,
    ids: BTreeSet<RecordId>,
}

impl Part {
    /// Returns all that a merge of `inputs` asks for.
    pub fn of<'a>(inputs: impl IntoIterator<Item = &'a (Stamp, Record)>) -> Self {
        let mut part = Self::default();
        for (_, record) in inputs {
            part.add_path(record);
            part.add_named(record);
        }
        part
    }

    /// Adds all that the path of a revision or an event went through.
    pub fn add_path(&mut self, record: &Record) {
        if let Record::File { source, path, .. } | Record::Path { source, path, .. } = record {
            self.paths.insert((*source, path.clone()));
        }
    }

    /// Adds whether the records are known that a record lets go of or pins.
    pub fn add_named(&mut self, record: &Record) {
        match record {
            Record::Dropped { ids } => self.ids.extend(ids),
            Record::Pin { id, .. } => {
                self.ids.insert(*id);
            }
            _ => {}
        }
    }

    /// Adds all revisions that name a pack as they were written.
    pub fn add_pack(&mut self, number: PackNumber) {
        self.packs.insert(number);
    }

    /// Adds all revisions that name chunks which are in these packs now, or were written there, as `state` has them moved.
    pub fn add_ending_in(&mut self, state: &State, packs: impl IntoIterator<Item = PackNumber>) {
        self.packs.extend(packs);
        // Chains are short: each step of one was a rewriting.
        loop {
            let known = self.packs.len();
            for (_, from, to) in state.moves() {
                if self.packs.contains(&to.pack) {
                    self.packs.insert(from.pack);
                }
            }
            if self.packs.len() == known {
                break;
            }
        }
    }

    /// Returns how many paths it has.
    pub fn paths(&self) -> usize {
        self.paths.len()
    }

    /// Returns whether it has the path of a revision or an event.
    pub fn has_path(&self, record: &Record) -> bool {
        match record {
            Record::File { source, path, .. } | Record::Path { source, path, .. } => {
                !self.paths.is_empty() && self.paths.contains(&(*source, path.clone()))
            }
            _ => false,
        }
    }

    fn has(&self, record: &Record) -> bool {
        match record {
            Record::File { content, .. } => {
                let mut extents = content.extents().iter();
                self.has_path(record)
                    || extents.any(|extent| self.packs.contains(&extent.first.pack))
            }
            Record::Path { .. } => self.has_path(record),
            _ => true,
        }
    }
}

impl State {
    /// Takes in a record as [`Self::apply`] does if it is in `part`; of a revision that is not, only which packs it names.
    ///
    /// A revision that is left out and stands in the journal twice is counted twice: what it names is then held on to for longer, never less.
    pub fn apply_part(&mut self, part: &Part, stamp: Stamp, record: Record) {
        if part.has(&record) {
            self.apply(stamp, record);
            return;
        }
        if part.ids.contains(&stamp.id) && !self.know(stamp) {
            return;
        }
        if let Record::File { content, .. } = &record {
            self.count_named(content);
        }
    }
}
