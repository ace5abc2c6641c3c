//! Finding chunks: which pack, where in it, with which dictionary. Asks the catalog; what that does not know is read from the packs.

use std::{
    collections::{HashMap, VecDeque},
    ops::Range,
    sync::Arc,
};

use maimo_core::reference::ObjectRef;
use maimo_vault::{
    compress::Level,
    dictionary::Dictionary,
    name::{ChunkId, ChunkRef, PackNumber},
    pack::{Entry, OpenPackError, PackKind, PackLayout, PackReader, Piece, trailer_range},
};

use super::{Fetch, FetchError, Fetched, Opener, PackIndex, Wanted};

/// How many packs' layouts are kept: those of a walk come one after the other, and one of tiny files takes some megabytes.
const KEPT_PACKS: usize = 8;

/// A pack, as far as reading from it takes.
pub struct PackAt {
    pub(super) number: PackNumber,
    pub(super) kind: PackKind,
    pub(super) place: Place,
}

pub(super) enum Place {
    /// In the newest commit's tail, which was opened when the commit was.
    Piece(Piece),
    /// An object on some channels.
    Sealed {
        /// By channel.
        objects: Vec<Option<ObjectRef>>,
        /// The same on all of them.
        length: u64,
        /// Not there while it is being read.
        layout: Option<PackLayout>,
    },
}

impl PackAt {
    /// Returns the object that is the pack on a channel.
    pub(super) fn object(&self, channel: usize) -> Option<ObjectRef> {
        match &self.place {
            Place::Piece(_) => None,
            Place::Sealed { objects, .. } => objects.get(channel).copied().flatten(),
        }
    }

    /// Returns what the table says of a chunk.
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        let entries = match &self.place {
            Place::Piece(piece) => piece.entries(),
            Place::Sealed { layout, .. } => layout.as_ref()?.entries(),
        };
        entries.get(usize::try_from(index).ok()?)
    }

    /// Returns where a sealed chunk stands; nothing for a piece.
    pub(super) fn range(&self, index: u32) -> Option<Range<u64>> {
        match &self.place {
            Place::Piece(_) => None,
            Place::Sealed { layout, .. } => layout.as_ref()?.chunk_range(index),
        }
    }
}

/// A chunk with all that opening it takes but its bytes.
#[derive(Clone)]
pub struct ChunkAt {
    pub(super) pack: Arc<PackAt>,
    pub(super) index: u32,
    pub(super) dictionary: Option<Arc<Dictionary>>,
}

impl ChunkAt {
    /// Returns how long it is, in bytes.
    pub fn plaintext_length(&self) -> u64 {
        let entry = self.pack.entry(self.index);
        entry.map_or(0, |entry| u64::from(entry.plaintext_length))
    }

    /// Returns how many bytes of the pack it takes.
    pub fn frame_length(&self) -> u64 {
        let entry = self.pack.entry(self.index);
        entry.map_or(0, |entry| u64::from(entry.frame_length))
    }

    /// Adds the groups it touches to what is wanted.
    pub fn want(&self, wanted: &mut Wanted) {
        if let Some(range) = self.pack.range(self.index) {
            wanted.add(&self.pack, &range);
        }
    }
}

/// Finds chunks, for one thread that knows the catalog.
pub struct Locator<'a, 'k> {
    pub(super) fetch: &'a Fetch<'k>,
    index: &'a dyn PackIndex,
    packs: VecDeque<Arc<PackAt>>,
    dictionaries: HashMap<ChunkId, Arc<Dictionary>>,
}

impl<'a, 'k> Locator<'a, 'k> {
    /// Prepares to find what `index` knows.
    pub fn new(fetch: &'a Fetch<'k>, index: &'a dyn PackIndex) -> Self {
        Self {
            fetch,
            index,
            packs: VecDeque::new(),
            dictionaries: HashMap::new(),
        }
    }

    /// Finds a file's chunk, and fetches the dictionary it takes if that is not at hand yet.
    ///
    /// # Errors
    ///
    /// A reference that leads nowhere, a table or dictionary that cannot be had, the catalog's.
    pub fn find(&mut self, chunk: ChunkRef) -> Result<ChunkAt, FetchError> {
        self.find_in(chunk, PackKind::Data)
    }

    fn find_in(&mut self, chunk: ChunkRef, kind: PackKind) -> Result<ChunkAt, FetchError> {
        let chunk = self.index.resolve(chunk)?;
        let pack = self.pack(chunk.pack, kind)?;
        let entry = pack.entry(chunk.index);
        let what = "a chunk of this file";
        let id = entry.ok_or(FetchError::Unknown { what })?.dictionary;
        Ok(ChunkAt {
            pack,
            index: chunk.index,
            dictionary: id.map(|id| self.dictionary(id)).transpose()?,
        })
    }

    pub(super) fn pack(
        &mut self,
        number: PackNumber,
        kind: PackKind,
    ) -> Result<Arc<PackAt>, FetchError> {
        let known = self
            .packs
            .iter()
            .position(|pack| pack.number == number && pack.kind == kind);
        if let Some(at) = known {
            // Last used goes last.
            if at + 1 < self.packs.len()
                && let Some(pack) = self.packs.remove(at)
            {
                self.packs.push_back(pack);
            }
        } else {
            let pack = Arc::new(self.locate(number, kind)?);
            if self.packs.len() >= KEPT_PACKS {
                self.packs.pop_front();
            }
            self.packs.push_back(pack);
        }
        let what = "a pack of this file";
        let pack = self.packs.back().map(Arc::clone);
        pack.ok_or(FetchError::Unknown { what })
    }

    fn locate(&self, number: PackNumber, kind: PackKind) -> Result<PackAt, FetchError> {
        let at = |place| PackAt {
            number,
            kind,
            place,
        };
        let channels = self.fetch.channels.iter();
        let objects = channels
            .map(|channel| self.index.object(number, channel.id))
            .collect::<Result<Vec<_>, _>>()?;
        let Some(object) = objects.iter().flatten().next() else {
            let what = "a pack of this file";
            let piece = self.index.piece(number)?;
            return Ok(at(Place::Piece(piece.ok_or(FetchError::Unknown { what })?)));
        };
        let length = object.length;
        let layout = match self.index.layout(number)? {
            Some(layout) if layout.length() == length => layout,
            _ => self.read_layout(&Arc::new(at(Place::Sealed {
                objects: objects.clone(),
                length,
                layout: None,
            })))?,
        };
        Ok(at(Place::Sealed {
            objects,
            length,
            layout: Some(layout),
        }))
    }

    /// Reads a pack's trailer and table: two requests.
    fn read_layout(&self, pack: &Arc<PackAt>) -> Result<PackLayout, FetchError> {
        let Place::Sealed { length, .. } = pack.place else {
            let what = "the table of a pack";
            return Err(FetchError::Unknown { what });
        };
        let range = trailer_range(length)?;
        let fetched = self.read_range(pack, &range)?;
        let (channel, sealed) = found(&fetched, pack, &range)?;
        let reader = self.fetch.reader(channel, pack, &fetched)?;
        let trailer = reader.open_trailer(&sealed)?;
        let range = trailer.table_range().clone();
        let fetched = self.read_range(pack, &range)?;
        let (other, sealed) = found(&fetched, pack, &range)?;
        if other != channel {
            // The first channel went away or wrong in between: its trailer opens no other's table.
            return Err(lost(&fetched, pack));
        }
        let table = reader.open_table(&trailer, sealed)?;
        if table.layout.number() != pack.number {
            return Err(OpenPackError::CannotOpen.into());
        }
        Ok(table.layout)
    }

    fn read_range(&self, pack: &Arc<PackAt>, range: &Range<u64>) -> Result<Fetched, FetchError> {
        let mut wanted = Wanted::default();
        wanted.add(pack, range);
        self.fetch.read(wanted)
    }

    pub(super) fn dictionary(&mut self, id: ChunkId) -> Result<Arc<Dictionary>, FetchError> {
        if let Some(known) = self.dictionaries.get(&id) {
            return Ok(Arc::clone(known));
        }
        let what = "a dictionary";
        let chunk = self.index.dictionary(&id)?;
        let chunk = chunk.ok_or(FetchError::Unknown { what })?;
        let at = self.find_in(chunk, PackKind::Vital)?;
        // The table names it by the id that its bytes must have, or the chunk would be another.
        if at.pack.entry(at.index).is_none_or(|entry| entry.id != id) {
            return Err(FetchError::Unknown { what });
        }
        let mut wanted = Wanted::default();
        at.want(&mut wanted);
        let fetched = self.fetch.read(wanted)?;
        let bytes = Opener::new(self.fetch).open(&fetched, &at)?;
        let dictionary =
            Dictionary::new(id, bytes, Level::default()).map_err(|_| OpenPackError::CannotOpen)?;
        let dictionary = Arc::new(dictionary);
        self.dictionaries.insert(id, Arc::clone(&dictionary));
        Ok(dictionary)
    }
}

fn found(
    fetched: &Fetched,
    pack: &PackAt,
    range: &Range<u64>,
) -> Result<(usize, Vec<u8>), FetchError> {
    let bytes = fetched.bytes(pack.number, range);
    bytes.ok_or_else(|| lost(fetched, pack))
}

/// Makes the error of bytes that no channel gave.
pub(super) fn lost(fetched: &Fetched, pack: &PackAt) -> FetchError {
    let Some(lost) = fetched.lost.get(&pack.number) else {
        return FetchError::Lost { tried: Vec::new() };
    };
    let tried = lost.tried.clone();
    if lost.is_unserved {
        FetchError::Unserved { tried }
    } else {
        FetchError::Lost { tried }
    }
}

impl Fetch<'_> {
    /// Makes the reader of a pack from which something was read, its header before.
    pub(super) fn reader(
        &self,
        channel: usize,
        pack: &PackAt,
        fetched: &Fetched,
    ) -> Result<PackReader<'_>, FetchError> {
        let header = self.header(channel, pack.number);
        // Without it nothing of the pack opens, however sound the rest is.
        let header = header.ok_or_else(|| lost(fetched, pack))?;
        let key = self.channels[channel].pack_key(pack.kind);
        let length = pack.object(channel).map_or(0, |object| object.length);
        Ok(PackReader::new(key, pack.kind, length, &header)?)
    }
}
