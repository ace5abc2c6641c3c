//! [`Supply`]: gives a channel packs that the store has elsewhere, sealed for it anew.
//!
//! ```text
//! files of this machine, read again --.
//! other channels, verified -----------+--> frames, in the pack's own order --> sealed for the channel --> held there --> its `pack` record
//! ```
//!
//! For a mirror that is behind, and for what a channel has lost. A pack keeps its number and its layout, which are the same on every channel, so
//! that no record of a file changes; its nonce is its own. What is dead in it and was freed everywhere is filled in: nothing refers to it, and a
//! provider that freed it never lets it be named again. What is needed and nowhere to be had is said, never passed over.
//!
//! Nothing here commits: whoever asked records what arrived. What arrived and was not recorded, because of a crash, is found again.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
    thread,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use maimo_core::{
    id::{ChannelId, RootHash},
    live_map::LiveMap,
    reference::ObjectRef,
};
use maimo_net::service::Session;
use maimo_vault::{
    name::{PackNumber, SourceId, WriterId},
    pack::{FramedChunk, PackBuilder, PackKind, PackLayout, PackNonce},
};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    catalog::Reader,
    engine::Engine,
    error::ClientError,
    fetch::{CatalogPacks, Channel, Fetch, FetchError, Locator, Parts},
    keys::StoreKeys,
    local_chunks::LocalChunks,
    node_state::{connect_lax, signed},
    progress::{Control, Event},
    random,
    session::{OpenChannel, Upload, Uploads},
    sync::lax_failed,
};

mod local;

/// How many bytes of packs one portion has, and how many packs: what a crash makes to be recorded again.
const PORTION_BYTES: u64 = 256 * 1024 * 1024;
const PORTION_PACKS: usize = 512;
/// For how many packs files of this machine are looked for at once: bounds memory. Each look goes through the catalog.
const LOOK_AHEAD: usize = 256;

/// A pack that a channel is to be given.
#[derive(Debug, Clone)]
pub(crate) struct Owed {
    /// Its number.
    pub(crate) number: PackNumber,
    /// Whether it holds content, or a dictionary.
    pub(crate) kind: PackKind,
    /// How long it is, in bytes.
    pub(crate) length: u64,
    /// The groups that are needed of it, header, table and trailer among them.
    pub(crate) needed: LiveMap,
}

/// What a channel was given.
#[derive(Debug, Default)]
pub(crate) struct Supplied {
    /// The packs that it holds now, to be recorded.
    pub(crate) packs: Vec<(PackNumber, ObjectRef)>,
    /// Where the chunks of the data packs among them stand.
    pub(crate) layouts: Vec<PackLayout>,
    /// The packs that it cannot be given, with the chunks that are needed of them and nowhere to be had. None: the chunks are there, but not what
    /// the table repeats, without which the pack would not be the same on every channel.
    pub(crate) lost: BTreeMap<PackNumber, Vec<u32>>,
    /// Bytes sent.
    pub(crate) sent: u64,
    /// Bytes read from channels.
    pub(crate) received: u64,
}

/// Packs on their way to a channel, portion by portion.
pub(crate) struct Supply {
    to: Arc<OpenChannel>,
    from: Vec<Arc<OpenChannel>>,
    keys: Arc<StoreKeys>,
    reader: Reader,
    source: SourceId,
    noted: Given,
    owed: VecDeque<Owed>,
    local: LocalChunks,
    /// How many of the packs owed next files were looked for.
    looked_ahead: usize,
    bytes: (u64, u64),
}

impl Engine {
    /// Prepares to give packs to a channel: from the files of this machine that are as they were stored, else from the channels `from`, in this
    /// order. One that lost some of a pack may itself be among them.
    pub(crate) fn supply(
        &self,
        to: &Arc<OpenChannel>,
        from: Vec<Arc<OpenChannel>>,
        owed: Vec<Owed>,
    ) -> Result<Supply, ClientError> {
        let total = owed.iter().map(|pack| pack.length).sum();
        Ok(Supply {
            to: Arc::clone(to),
            from,
            keys: Arc::clone(&self.keys),
            reader: self.catalog.reader()?,
            source: self.node.source(),
            noted: Given::open(self)?,
            owed: owed.into(),
            local: LocalChunks::default(),
            looked_ahead: 0,
            bytes: (0, total),
        })
    }

    /// Forgets that a channel was given a pack: it is recorded, or not held after all.
    pub(crate) fn forget_given(
        &self,
        channel: ChannelId,
        roots: impl IntoIterator<Item = RootHash>,
    ) -> Result<(), ClientError> {
        let given = Given::open(self)?;
        for root in roots {
            given.forget(channel, root)?;
        }
        Ok(())
    }
}

impl Supply {
    /// Gives the next portion; nothing where all was given. What it returns is to be committed before the next one is asked for.
    ///
    /// # Errors
    ///
    /// Whatever the channel refuses, or that none of the channels which may have a pack can be reached.
    pub(crate) fn portion(&mut self, control: &Control) -> Result<Option<Supplied>, ClientError> {
        if self.owed.is_empty() {
            return Ok(None);
        }
        let mut supplied = Supplied::default();
        let mut now = Vec::new();
        let mut bytes = 0;
        while let Some(pack) = self
            .owed
            .front()
            .filter(|pack| now.is_empty() || bytes + pack.length <= PORTION_BYTES)
        {
            if now.len() == PORTION_PACKS {
                break;
            }
            bytes += pack.length;
            now.extend(self.owed.pop_front());
        }
        self.look_for_files(&now)?;
        let (from, keys, reader) = (self.from.clone(), Arc::clone(&self.keys), &self.reader);
        let channels = from.iter().map(|open| Channel {
            id: open.id,
            name: &open.name,
            keys: &open.keys,
            session: Arc::clone(&open.session) as Arc<dyn Session>,
        });
        let fetch = Fetch::new(channels.collect(), &keys);
        let packs = CatalogPacks::new(reader);
        let mut locator = Locator::new(&fetch, &packs);
        let (to, noted, local) = (&*self.to, &self.noted, &mut self.local);
        let done = &mut self.bytes;
        thread::scope(|scope| {
            // One waits while another is on its way: three packs are in memory at most, and as many as the window takes.
            let (sealed, queue) = bounded::<(PackBuilder, PackLayout)>(1);
            let sender = scope.spawn(move || send(to, &queue));
            let mut made = Ok(());
            for pack in &now {
                made = control.check().map_err(ClientError::from);
                if made.is_err() {
                    break;
                }
                done.0 += pack.length;
                if let Some(held) = noted.find(to.id, pack)? {
                    supplied.packs.push((pack.number, held));
                } else {
                    let parts = locator.take_apart(pack.number, pack.kind, &pack.needed, &mut {
                        |layout, dictionaries| local::frames(local, layout, dictionaries, &keys)
                    });
                    match parts.map(|parts| rebuilt(pack, parts)) {
                        Ok(Ok(ready)) => {
                            // The sender that ended says why.
                            if sealed.send(ready).is_err() {
                                break;
                            }
                        }
                        Ok(Err(missing)) => {
                            supplied.lost.insert(pack.number, missing);
                        }
                        Err(FetchError::Lost { .. }) => {
                            supplied.lost.insert(pack.number, Vec::new());
                        }
                        Err(error) => {
                            made = Err(error.into());
                            break;
                        }
                    }
                }
                let (files, bytes) = (0, done.0);
                control.tell(Event::Done { files, bytes });
            }
            drop(sealed);
            let sent = sender
                .join()
                .map_err(|_| ClientError::Bug("a sending thread ended".to_owned()))?;
            let (arrived, failed) = sent;
            for (number, pack, layout) in arrived {
                noted.note(to.id, number, &pack)?;
                supplied.sent += pack.length;
                supplied.packs.push((number, pack));
                supplied.layouts.push(layout);
            }
            failed?;
            made
        })?;
        supplied.received = fetch.bytes_received();
        Ok(Some(supplied))
    }

    /// Tells how much there is to do: what [`Self::portion`] then counts down.
    pub(crate) fn announce(&self, control: &Control) {
        control.tell(Event::Total {
            files: 0,
            bytes: self.bytes.1,
        });
    }

    /// Looks for the files that these packs' chunks were read from, and those of some packs after them.
    fn look_for_files(&mut self, now: &[Owed]) -> Result<(), ClientError> {
        if self.looked_ahead < now.len() {
            let ahead = self.owed.iter().take(LOOK_AHEAD);
            let packs: HashSet<PackNumber> =
                now.iter().chain(ahead).map(|pack| pack.number).collect();
            self.looked_ahead = packs.len();
            self.local = LocalChunks::in_catalog(&self.reader, self.source, |chunk| {
                packs.contains(&chunk.pack)
            })?;
        }
        self.looked_ahead -= now.len();
        Ok(())
    }
}

/// Puts a pack together as it was; or returns the needed chunks that are missing, none where it is the table.
fn rebuilt(owed: &Owed, parts: Parts) -> Result<(PackBuilder, PackLayout), Vec<u32>> {
    let layout = parts.layout;
    let is_needed = |index: u32| {
        let groups = layout.live_map([index]);
        groups.is_some_and(|groups| owed.needed.contains_all(&groups))
    };
    let missing = (0..).zip(&parts.frames);
    let missing = missing.filter(|(index, frame)| frame.is_none() && is_needed(*index));
    let missing: Vec<u32> = missing.map(|(index, _)| index).collect();
    let Some(records) = parts.records.filter(|_| missing.is_empty()) else {
        return Err(missing);
    };
    let mut builder = PackBuilder::new(owed.number, owed.kind);
    for (entry, frame) in layout.entries().iter().zip(parts.frames) {
        // Dead, and freed wherever it was: no record names it, and its seal opens to what is not the chunk.
        let frame = frame.unwrap_or_else(|| vec![0; entry.frame_length as usize]);
        let pushed = builder.push(FramedChunk::new(entry, &frame));
        pushed.map_err(|_| Vec::new())?;
    }
    builder.set_records(records).map_err(|_| Vec::new())?;
    // Another release's compression of the table would let it stand elsewhere than on the other channels.
    if builder.layout() != layout {
        return Err(Vec::new());
    }
    Ok((builder, layout))
}

type Sent = (
    Vec<(PackNumber, ObjectRef, PackLayout)>,
    Result<(), ClientError>,
);

/// Seals what comes for a channel and sends it. Returns what is held, also where something else failed.
fn send(to: &OpenChannel, queue: &Receiver<(PackBuilder, PackLayout)>) -> Sent {
    let mut uploads = Uploads::new(to);
    let mut waiting: Vec<(PackNumber, ObjectRef, PackLayout)> = Vec::new();
    let mut arrived = Vec::new();
    let mut is_open = true;
    let mut step = || -> Result<bool, ClientError> {
        let has_room = uploads.send()?;
        let mut next = None;
        if is_open && has_room {
            match queue.try_recv() {
                Ok(ready) => next = Some(ready),
                Err(TryRecvError::Empty) if waiting.is_empty() => next = queue.recv().ok(),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => is_open = false,
            }
        }
        if let Some((builder, layout)) = next {
            let (number, kind) = (builder.number(), builder.kind());
            let nonce = PackNonce::draw(&mut random::system());
            let pack = builder.into_sealed(to.pack_keys(kind), nonce);
            uploads.add(
                Upload::of_new(kind, pack.reference),
                Bytes::from(pack.bytes),
            );
            waiting.push((number, pack.reference, layout));
            return Ok(true);
        }
        if waiting.is_empty() {
            return Ok(false);
        }
        if let Some(held) = uploads.step()?
            && let Some(at) = waiting.iter().position(|(_, pack, _)| *pack == held)
        {
            arrived.push(waiting.swap_remove(at));
        }
        Ok(true)
    };
    let result = loop {
        match step() {
            Ok(true) => {}
            Ok(false) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    (arrived, result)
}

/// Packs that arrived on a channel and that no acknowledged commit has recorded. To lose a row costs the time to send its pack again.
struct Given {
    db: Connection,
}

impl Given {
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS given (
        channel BLOB NOT NULL, writer BLOB NOT NULL, n INTEGER NOT NULL, root BLOB NOT NULL,
        PRIMARY KEY (channel, writer, n)) STRICT, WITHOUT ROWID";

    fn open(engine: &Engine) -> Result<Self, ClientError> {
        let db = connect_lax(&engine.home.node_state())?;
        db.execute(Self::TABLE, []).map_err(lax_failed)?;
        Ok(Self { db })
    }

    fn note(
        &self,
        channel: ChannelId,
        number: PackNumber,
        pack: &ObjectRef,
    ) -> Result<(), ClientError> {
        let values = params![
            channel.0,
            number.writer.0,
            signed(number.n),
            pack.root.0.as_slice()
        ];
        let sql = "INSERT OR REPLACE INTO given VALUES (?1, ?2, ?3, ?4)";
        let written = self.db.execute(sql, values);
        written.map(drop).map_err(lax_failed)
    }

    fn find(&self, channel: ChannelId, owed: &Owed) -> Result<Option<ObjectRef>, ClientError> {
        let WriterId(writer) = owed.number.writer;
        let sql = "SELECT root FROM given WHERE channel = ?1 AND writer = ?2 AND n = ?3";
        let values = params![channel.0, writer, signed(owed.number.n)];
        let found = self.db.query_row(sql, values, |row| row.get(0));
        let found = found.optional().map_err(lax_failed)?;
        Ok(found.map(|root| ObjectRef {
            root: RootHash(root),
            length: owed.length,
        }))
    }

    fn forget(&self, channel: ChannelId, root: RootHash) -> Result<(), ClientError> {
        let sql = "DELETE FROM given WHERE channel = ?1 AND root = ?2";
        let done = self.db.execute(sql, params![channel.0, root.0]);
        done.map(drop).map_err(lax_failed)
    }
}
