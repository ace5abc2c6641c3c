//! Recovery without a journal: what the packs repeat of it becomes a new one.
//!
//! ```text
//! head -> inventories -> table of each pack: where its chunks stand, and the records of files that end in it
//!      -> rebuild: of each record the last copy all of whose chunks are there -> a new journal, committed onto the head shown
//! ```
//!
//! What comes out is less than there was (`docs/decisions/0006`): no copies or renames, no runs, no events, no policies. The old journal's packs
//! are let go of, and stay in grace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maimo_core::{
    ancestry::Ancestry,
    codec::{Extensions, Reader},
    head::SignedHead,
    id::RootHash,
    reference::ObjectRef,
};
use maimo_net::service::WhichHead;
use maimo_vault::{
    candidate::ChannelView,
    commit::{Commit, StorePart, Witness},
    journal::{
        batch::Stamp,
        record::Record,
        repeat::{Repeat, rebuild},
        state::{Entry, State},
    },
    keys::CommitName,
    name::{ChunkRef, ChunkType, PackNumber, SourceId},
    pack::{OpenedTable, PackKind, PackLayout},
    recover::Confirmed,
};

use super::{RecoverReport, layouts::read_tables};
use crate::{
    catalog::{Position, TakeIn},
    commit::{Change, Outcome},
    engine::{Engine, Shown},
    error::ClientError,
    node_state::SeenRow,
    progress::{Control, Event},
    session::OpenChannel,
};

/// What the packs of a channel tell.
#[derive(Default)]
struct Told {
    layouts: BTreeMap<PackNumber, (ObjectRef, PackLayout)>,
    repeats: Vec<Repeat>,
    /// The newest sequence that any pack was sealed for.
    as_of: u64,
    /// Dictionaries, and where their packs are.
    dictionaries: Vec<Record>,
    vital: Vec<(PackNumber, ObjectRef)>,
    unreadable: u64,
}

impl Engine {
    pub(super) fn recover_from_packs(
        &mut self,
        channel: &OpenChannel,
        root: Option<RootHash>,
        control: &Control,
    ) -> Result<RecoverReport, ClientError> {
        let (view, old) = self.view_without_journal(channel)?;
        self.keep_channel(channel)?;
        let told = Self::read_packs(channel, &view, control)?;
        let is_there = |chunk: ChunkRef| {
            told.layouts.get(&chunk.pack).is_some_and(|(pack, layout)| {
                let needed = layout.live_map([chunk.index]);
                let live = view.live(pack);
                needed
                    .zip(live)
                    .is_some_and(|(needed, live)| live.contains_all(&needed))
            })
        };
        let state = rebuild(told.repeats.clone(), is_there);
        let (restored, sources) = records_of(&state);
        let shown_root = view.root();
        let time = view.head.as_ref().map(|head| head.head().time);
        let sequence = old
            .as_ref()
            .map_or(0, |store| store.sequence)
            .max(told.as_of);
        self.stand_at(channel, view, sequence, old)?;
        let records = self.facts(channel, &told, &sources);
        let layouts = told.layouts.into_values().map(|(_, layout)| layout);
        let layouts: Vec<PackLayout> = layouts.collect();
        let change = Change {
            records,
            restored,
            layouts: layouts.clone(),
            ..Change::default()
        };
        if self.commit(change, control)? == Outcome::Superseded {
            return Err(ClientError::Input {
                message: "another device wrote to this provider meanwhile".to_owned(),
                hint: Some("run the command again"),
            });
        }
        // Records of the past make the catalog be built anew, without them.
        self.catalog.put_layouts(&layouts)?;
        let reader = self.catalog.reader()?;
        let totals = reader.totals()?;
        Ok(RecoverReport {
            sequence: reader.position()?.sequence,
            root: self
                .view(channel.id)
                .map_or(RootHash::NONE, ChannelView::root),
            channel: channel.name.clone(),
            time: time.unwrap_or_default(),
            files: totals.files_present + totals.files_evicted,
            confirmed: if root == Some(shown_root) {
                Confirmed::ByRoot
            } else {
                Confirmed::No
            },
            behind: Vec::new(),
            unreadable: told.unreadable,
        })
    }

    /// Returns what the channel shows but its journal, and the store's part of its commit, if that can be had.
    fn view_without_journal(
        &self,
        channel: &OpenChannel,
    ) -> Result<(ChannelView, Option<StorePart>), ClientError> {
        let shown = channel.call(channel.session.head(WhichHead::Newest))?;
        let shown = shown.ok_or_else(|| ClientError::Input {
            message: "this provider holds nothing of this phrase".to_owned(),
            hint: Some("is it the right address, and are the words the right ones?"),
        })?;
        let signers = [channel.keys.client.public()];
        let head = SignedHead::verify(&shown.head, channel.id, &signers)
            .map_err(|_| channel.wrong("a head"))?;
        let ancestry = Ancestry::parse(&mut Reader::new(&shown.ancestry))
            .ok()
            .filter(|ancestry| ancestry.hash() == head.head().ancestry)
            .ok_or_else(|| channel.wrong("the ancestry of a head"))?;
        let commit = shown.commit.unwrap_or_default();
        let store = head.head().commit.names(&commit).then_some(&commit);
        let store = store.and_then(|commit| Commit::open(commit, &channel.keys.commit).ok());
        let (data, vital) = self.inventories(channel, &head)?;
        let view = ChannelView {
            ancestry,
            data,
            vital,
            head: Some(head),
            ..ChannelView::new(channel.id)
        };
        Ok((view, store.map(|commit| commit.store)))
    }

    /// Reads the tables of all packs; one that cannot be read is counted.
    fn read_packs(
        channel: &OpenChannel,
        view: &ChannelView,
        control: &Control,
    ) -> Result<Told, ClientError> {
        let mut told = Told::default();
        control.tell(Event::Total {
            files: view.data.len() + view.vital.len(),
            bytes: 0,
        });
        let mut done = 0;
        for (kind, inventory) in [(PackKind::Data, &view.data), (PackKind::Vital, &view.vital)] {
            for entry in inventory.entries() {
                control.check()?;
                let pack = *entry.pack();
                let read = match read_tables(channel, kind, &[pack]) {
                    Ok(mut tables) => tables.pop(),
                    Err(error) if is_of_this_pack(&error) => None,
                    Err(error) => return Err(error),
                };
                match (read, kind) {
                    (Some(table), PackKind::Data) => told.add_data(pack, table),
                    (Some(table), PackKind::Vital) => told.add_vital(pack, &table),
                    (None, PackKind::Data) => told.unreadable += 1,
                    // The journal is what this does without.
                    (None, PackKind::Vital) => {}
                }
                done += 1;
                control.tell(Event::Done {
                    files: done,
                    bytes: 0,
                });
            }
        }
        Ok(told)
    }

    /// Makes the head shown the state that the next commit builds on, with an empty journal.
    fn stand_at(
        &mut self,
        channel: &OpenChannel,
        view: ChannelView,
        sequence: u64,
        old: Option<StorePart>,
    ) -> Result<(), ClientError> {
        let store = old.unwrap_or_else(|| StorePart {
            store: self.keys.store,
            sequence,
            // Its name is not known any more; only a first commit has no parent.
            parents: if sequence > 1 {
                vec![CommitName([0; 32])]
            } else {
                Vec::new()
            },
            writer: self.node.writer(),
            run: None,
            layout_epoch: 0,
            witnesses: vec![Witness {
                channel: channel.id,
                sequence: view.sequence(),
                root: view.root(),
            }],
        });
        let store = StorePart {
            sequence: sequence.max(1),
            ..store
        };
        let position = Position {
            sequence: store.sequence,
            store: Some(store.clone()),
            segments: Vec::new(),
            tail: Vec::new(),
        };
        self.catalog.reset()?;
        let with = TakeIn {
            position: &position,
            local: &HashMap::new(),
            layouts: &[],
            vanished: &[],
        };
        self.catalog.take_in(Vec::<(Stamp, Record)>::new(), &with)?;
        if let Some(head) = &view.head {
            let row = SeenRow {
                seen: maimo_vault::descent::Seen::of(head),
                head: head.encode(),
                commit: Vec::new(),
                ancestry: Vec::new(),
            };
            self.node.saw(channel.id, &row)?;
        }
        let commit = Commit {
            store,
            journal: Vec::new(),
            tail: Vec::new(),
            extensions: Extensions::default(),
        };
        let shown = Shown {
            view,
            commit: Some(commit),
        };
        self.shown.insert(channel.id, shown);
        Ok(())
    }

    /// Returns the records that say again what is on the channel and whose paths there are.
    fn facts(
        &self,
        channel: &OpenChannel,
        told: &Told,
        sources: &BTreeSet<SourceId>,
    ) -> Vec<(maimo_vault::name::RecordId, Record)> {
        let mut records = vec![
            Record::Channel {
                channel: channel.id,
                auth: *channel.auth.as_bytes(),
                name: channel.name.clone(),
                addresses: channel.addresses.clone(),
                closed: false,
            },
            Record::Layout {
                epoch: 1,
                channels: vec![channel.id],
            },
            Record::Source {
                source: self.node.source(),
                label: self.node.label().to_owned(),
            },
        ];
        let others = sources
            .iter()
            .filter(|source| **source != self.node.source());
        records.extend(others.map(|source| {
            let [a, b, c, d, ..] = source.0;
            Record::Source {
                source: *source,
                // Its label was the journal's to know.
                label: format!("recovered-{a:02x}{b:02x}{c:02x}{d:02x}"),
            }
        }));
        let data = told
            .layouts
            .iter()
            .map(|(number, (pack, _))| (*number, *pack));
        let packs = data.chain(told.vital.iter().copied());
        records.extend(packs.map(|(number, reference)| Record::Pack {
            number,
            channel: channel.id,
            reference,
        }));
        records.extend(told.dictionaries.iter().cloned());
        let named = records.into_iter();
        named
            .map(|record| (self.node.next_record(), record))
            .collect()
    }
}

impl Told {
    fn add_data(&mut self, pack: ObjectRef, table: OpenedTable) {
        // Records that cannot be read tell nothing; the chunks may still be another pack's files'.
        if let Ok(Some(repeat)) = Repeat::parse(&table.records) {
            self.as_of = self.as_of.max(repeat.as_of);
            self.repeats.push(repeat);
        }
        let number = table.layout.number();
        self.layouts.insert(number, (pack, table.layout));
    }

    fn add_vital(&mut self, pack: ObjectRef, table: &OpenedTable) {
        let number = table.layout.number();
        let mut has_dictionary = false;
        for (index, entry) in (0..).zip(table.layout.entries()) {
            if entry.chunk_type == ChunkType::Dictionary {
                has_dictionary = true;
                self.dictionaries.push(Record::Dictionary {
                    id: entry.id,
                    domain: entry.domain,
                    chunk: ChunkRef {
                        pack: number,
                        index,
                    },
                    retired: false,
                });
            }
        }
        if has_dictionary {
            self.vital.push((number, pack));
        }
    }
}

/// Returns the file records of a state as they were stamped, and whose they are.
fn records_of(state: &State) -> (Vec<(Stamp, Record)>, BTreeSet<SourceId>) {
    let mut records = Vec::new();
    let mut sources = BTreeSet::new();
    for ((source, path), entries) in state.paths() {
        sources.insert(*source);
        for (stamp, entry) in entries {
            if let Entry::Revision { metadata, content } = entry {
                let record = Record::File {
                    source: *source,
                    path: path.clone(),
                    metadata: metadata.clone(),
                    content: content.clone(),
                };
                records.push((*stamp, record));
            }
        }
    }
    (records, sources)
}

/// Whether one pack is to blame, and not the channel.
fn is_of_this_pack(error: &ClientError) -> bool {
    use maimo_net::service::ServiceError;

    matches!(
        error,
        ClientError::WrongBytes { .. }
            | ClientError::Provider {
                source: ServiceError::NotHeld { .. } | ServiceError::Damaged { .. },
                ..
            }
    )
}
