//! Dictionaries that were retired and are needed again: by what an `undelete` brings back, or by chunks that were compressed with one here while
//! another device retired it.
//!
//! Naming one again is a record and nothing else, as long as its pack is held. It is: what was retired later is freed no earlier than the chunks that
//! used it. Where grace is so short that it is freed nevertheless, the provider says so, and what was made with it is made anew.

use maimo_vault::{
    journal::{record::Record, state::Dictionary},
    name::{ChunkId, RecordId},
};

use super::Change;
use crate::{engine::Engine, error::ClientError};

impl Engine {
    /// Has a change name retired dictionaries again.
    pub(super) fn name_dictionaries(
        &self,
        mut change: Change,
        dictionaries: Vec<(ChunkId, Dictionary)>,
    ) -> Result<Change, ClientError> {
        let again: Vec<ChunkId> = dictionaries.iter().map(|(id, _)| *id).collect();
        let is_again = |id: &ChunkId| again.contains(id);
        let retires = |(_, record): &(RecordId, Record)| matches!(record, Record::Dictionary { id, retired: true, .. } if is_again(id));
        if change.records.iter().any(retires) {
            // It would go on for ever.
            return Err(ClientError::Bug(
                "a dictionary that is needed was to be retired".to_owned(),
            ));
        }
        for (id, known) in dictionaries {
            let record = said(id, &known);
            change.records.push((self.node.next_record(), record));
        }
        change.records.extend(self.newest_said_last(&again)?);
        Ok(change)
    }

    /// Returns a record that says the newest dictionary in use once more, where others are about to be said: who is said last is used for what is
    /// new. Nothing if it is among those, or if there is none.
    pub(crate) fn newest_said_last(
        &self,
        others: &[ChunkId],
    ) -> Result<Option<(RecordId, Record)>, ClientError> {
        let versions = self.catalog.reader()?.dictionary_versions()?.into_iter();
        let newest = versions.rev().find(|version| !version.known.retired);
        let newest = newest.filter(|newest| !others.contains(&newest.id));
        Ok(newest.map(|newest| {
            let record = said(newest.id, &newest.known);
            (self.node.next_record(), record)
        }))
    }
}

/// Returns the record that has a dictionary in use where it is.
fn said(id: ChunkId, known: &Dictionary) -> Record {
    Record::Dictionary {
        id,
        domain: known.domain,
        chunk: known.chunk,
        retired: false,
    }
}
