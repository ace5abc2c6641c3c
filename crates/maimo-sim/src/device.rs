//! A device in memory: its files, and its home, which a crash leaves as it was at the last step.
//!
//! Work is a [`job::Job`] that goes on step by step. A step does one thing that others can see, or writes down one thing in the home, never both:
//! so a crash between any two steps, or before a step was written down, is a crash between any two writes of a real client.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use maimo_core::{id::ChannelId, live_map::LiveMap, reference::ObjectRef};
use maimo_vault::{
    candidate::ChannelView,
    commit::{Segment, StorePart},
    compose::{Base, Sealing, Watermark},
    demand::{Demand, Packs},
    descent::Seen,
    journal::batch::Batch,
    layout::Layout,
    name::{PackNumber, RecordId, SourceId, WriterId},
    pack::{PackBuilder, PackKeys, PackKind, PackLayout, PackNonce, SealedPack},
    path::StorePath,
};
use rand_chacha::ChaCha8Rng;

use crate::keys::{EPOCH, StoreKeys};

pub mod draft;
pub mod evict;
pub mod follow;
pub mod job;
pub mod naming;
pub mod prune;
pub mod rebase;
pub mod repair;
pub mod store;
pub mod sync;

/// A machine.
pub struct Device {
    /// What survives a crash.
    pub home: Home,
    /// Its files.
    pub disk: Disk,
}

/// The user's files: path number to content. What is set aside is about to be unlinked.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// Files at their paths.
    pub files: BTreeMap<u8, Rc<Vec<u8>>>,
    /// Files renamed aside.
    pub aside: BTreeMap<u8, Rc<Vec<u8>>>,
}

/// A client's durable state: cloning it takes an image.
#[derive(Clone)]
pub struct Home {
    /// This installation.
    pub writer: WriterId,
    /// This machine.
    pub source: SourceId,
    /// The next record counter and pack number.
    pub next: Watermark,
    /// Up to where those are known to be committed.
    pub committed: Watermark,
    /// The last root seen of each channel.
    pub seen: BTreeMap<ChannelId, Seen>,
    /// What was last read of the store.
    pub cache: Option<Rc<Cache>>,
    /// Sealed packs that may have to be uploaded still.
    pub spool: BTreeMap<(ChannelId, PackNumber), Spooled>,
    /// Packs that a channel turned out not to hold although the journal says so.
    pub not_held: BTreeSet<(ChannelId, ObjectRef)>,
    /// The work under way.
    pub job: Option<job::Job>,
    /// Files that are about to be renamed aside, or have been.
    pub intents: BTreeSet<u8>,
}

/// A sealed pack on its way to one channel.
#[derive(Clone)]
pub struct Spooled {
    /// The pack.
    pub pack: Rc<SealedPack>,
    /// Its kind.
    pub kind: PackKind,
    /// Whether the provider has taken it.
    pub uploaded: bool,
}

/// A store's newest state as a device last read or made it.
#[derive(Clone)]
pub struct Cache {
    /// The state.
    pub base: Base,
    /// The store's part of its commit; none before the first.
    pub store: Option<StorePart>,
    /// The commit of another branch that the next one joins in.
    pub joined: Option<StorePart>,
    /// What each channel shows.
    pub views: BTreeMap<ChannelId, ChannelView>,
    /// The store sequence that each channel shows.
    pub shown: BTreeMap<ChannelId, u64>,
    /// The tables of all data packs that the first channel names.
    pub layouts: BTreeMap<PackNumber, Rc<PackLayout>>,
    /// The records of all segments.
    pub segments: BTreeMap<PackNumber, Rc<Vec<Batch>>>,
}

impl Cache {
    /// Returns the layout, which stands from the first commit on.
    pub fn layout(&self) -> Option<Layout> {
        Layout::of(&self.base.state)
    }
}

/// What a head to be signed would call living, for the client's rule.
pub struct Living<'a> {
    /// The state it goes with.
    pub base: &'a Base,
    /// The tables at hand.
    pub layouts: &'a BTreeMap<PackNumber, Rc<PackLayout>>,
    /// The channel as it would be.
    pub view: &'a ChannelView,
}

impl Packs for Living<'_> {
    fn tail_chunks(&self, number: PackNumber) -> Option<u32> {
        let mut tail = self.base.tail.iter();
        let tail = tail.find(|tail| tail.piece.number() == number)?;
        u32::try_from(tail.piece.entries().len()).ok()
    }

    fn layout(&self, number: PackNumber) -> Option<&PackLayout> {
        self.layouts.get(&number).map(|layout| &**layout)
    }

    fn live(&self, number: PackNumber) -> Option<&LiveMap> {
        let reference = self.base.state.pack(number, self.view.channel)?;
        self.view.live(&reference)
    }
}

impl Living<'_> {
    /// Holds all that is kept against it.
    pub fn check(&self) -> Result<(), maimo_vault::demand::Unresolved> {
        Demand::of(&self.base.state).check(self)
    }
}

/// Seals into a home's spool and counts up its counters.
pub struct Sealer<'a> {
    /// The home.
    pub home: &'a mut Home,
    /// The keys.
    pub keys: &'a StoreKeys,
    /// The channels to seal for.
    pub channels: &'a [ChannelId],
    /// Where nonces come from.
    pub rng: &'a mut ChaCha8Rng,
    /// The layouts of what was sealed.
    pub layouts: BTreeMap<PackNumber, Rc<PackLayout>>,
}

impl<'a> Sealer<'a> {
    /// Begins to seal for some channels.
    pub fn new(
        home: &'a mut Home,
        keys: &'a StoreKeys,
        channels: &'a [ChannelId],
        rng: &'a mut ChaCha8Rng,
    ) -> Self {
        Self {
            home,
            keys,
            channels,
            rng,
            layouts: BTreeMap::new(),
        }
    }
}

impl Sealing for Sealer<'_> {
    fn seal(&mut self, builder: PackBuilder) -> BTreeMap<ChannelId, ObjectRef> {
        let mut references = BTreeMap::new();
        for channel in self.channels {
            let keys = &self.keys.channels[channel];
            let kind = builder.kind();
            let pack = builder.seal(PackKeys::new(keys, EPOCH, kind), PackNonce::draw(self.rng));
            references.insert(*channel, pack.reference);
            self.layouts
                .insert(builder.number(), Rc::new(pack.layout.clone()));
            let spooled = Spooled {
                pack: Rc::new(pack),
                kind,
                uploaded: false,
            };
            self.home
                .spool
                .insert((*channel, builder.number()), spooled);
        }
        references
    }

    fn recall(&mut self, segment: Segment) -> Option<Vec<Batch>> {
        let cache = self.home.cache.as_ref()?;
        Some(cache.segments.get(&segment.number)?.to_vec())
    }

    fn next_pack(&mut self) -> PackNumber {
        let n = self.home.next.packs;
        self.home.next.packs += 1;
        PackNumber {
            writer: self.home.writer,
            n,
        }
    }

    fn next_record(&mut self) -> RecordId {
        let counter = self.home.next.records;
        self.home.next.records += 1;
        RecordId {
            writer: self.home.writer,
            counter,
        }
    }
}

/// Returns the path that a number stands for.
pub fn path(number: u8) -> StorePath {
    StorePath::unix(&format!("/home/u/{}/f{number}", number % 3)).expect("a plain path")
}
