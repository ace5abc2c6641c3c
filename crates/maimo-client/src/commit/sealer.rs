//! [`Sealer`]: seals packs for every channel of the layout and sends them.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::{
    commit::Segment,
    compose::Sealing,
    journal::batch::Batch,
    name::{PackNumber, RecordId},
    pack::{PackBuilder, PackKind, PackLayout, PackNonce},
};

use crate::{
    engine::{Away, Engine},
    error::ClientError,
    journal_cache::JournalCache,
    node_state::NodeState,
    random,
    session::{OpenChannel, Upload, Uploads},
};

/// Seals into memory; [`Self::send`] lets it leave. For the little that a commit seals itself: segments, a spilled tail, dictionaries.
pub(crate) struct Sealer<'e> {
    node: &'e NodeState,
    journal: &'e JournalCache,
    channels: Vec<Arc<OpenChannel>>,
    away: Arc<Away>,
    /// What a spill may take up again.
    recalled: BTreeMap<PackNumber, Vec<Batch>>,
    /// Sealed and not sent yet.
    waiting: Vec<(ChannelId, PackKind, ObjectRef, Bytes)>,
    /// The layouts of the data packs sealed.
    pub(crate) layouts: Vec<PackLayout>,
    /// Where vital packs are, by channel.
    pub(crate) vital: BTreeMap<ChannelId, BTreeMap<PackNumber, ObjectRef>>,
    /// Bytes sent.
    pub(crate) sent: u64,
}

impl<'e> Sealer<'e> {
    /// Begins to seal for some channels, the first one first.
    pub(crate) fn new(engine: &'e Engine, channels: &[Arc<OpenChannel>]) -> Self {
        Self {
            node: &engine.node,
            journal: &engine.journal,
            channels: channels.to_vec(),
            away: Arc::clone(&engine.away),
            recalled: BTreeMap::new(),
            waiting: Vec::new(),
            layouts: Vec::new(),
            vital: BTreeMap::new(),
            sent: 0,
        }
    }

    /// Lets a spill take up what is in this segment.
    pub(crate) fn may_recall(&mut self, segment: PackNumber, batches: Vec<Batch>) {
        self.recalled.insert(segment, batches);
    }

    /// Sends all that was sealed, and keeps the vital packs. When this returns the first channel holds it; another that does not is away from
    /// then on, and its head names nothing of it before it does.
    pub(crate) fn send(&mut self) -> Result<(), ClientError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.node.fix_names()?;
        let waiting = core::mem::take(&mut self.waiting);
        for (place, channel) in self.channels.iter().enumerate() {
            if self.away.why(channel.id).is_some() {
                continue;
            }
            let mut uploads = Uploads::new(channel);
            for (_, kind, reference, bytes) in waiting.iter().filter(|(to, ..)| *to == channel.id) {
                if *kind == PackKind::Vital {
                    self.journal.put(reference, bytes)?;
                }
                uploads.add(Upload::of_new(*kind, *reference), bytes.clone());
                self.sent += reference.length;
            }
            let mut drive = || {
                while uploads.drive()?.is_some() {}
                Ok(())
            };
            match drive() {
                Err(ClientError::Provider { source, .. }) if place > 0 => {
                    self.away.note(channel.id, source);
                }
                driven => driven?,
            }
        }
        Ok(())
    }
}

impl Sealing for Sealer<'_> {
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef> {
        let kind = builder.kind();
        let mut references = BTreeMap::new();
        for (place, channel) in self.channels.iter().enumerate() {
            if self.away.why(channel.id).is_some() {
                continue;
            }
            let nonce = PackNonce::draw(&mut random::system());
            let pack = builder.seal(channel.pack_keys(kind), nonce);
            references.insert(channel.id, pack.reference);
            match kind {
                PackKind::Data if place == 0 => self.layouts.push(pack.layout),
                PackKind::Data => {}
                PackKind::Vital => {
                    let vital = self.vital.entry(channel.id).or_default();
                    vital.insert(builder.number(), pack.reference);
                }
            }
            let bytes = Bytes::from(pack.bytes);
            self.waiting.push((channel.id, kind, pack.reference, bytes));
        }
        references
    }

    fn next_pack(&mut self) -> PackNumber {
        self.node.next_pack()
    }

    fn next_record(&mut self) -> RecordId {
        self.node.next_record()
    }

    fn recall(&mut self, segment: Segment) -> Option<Vec<Batch>> {
        self.recalled.get(&segment.number).cloned()
    }
}
