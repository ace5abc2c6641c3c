//! Opening chunks: from verified groups to plaintext.

use maimo_vault::{
    compress::Decompressor,
    dictionary::Dictionary,
    keys::ChunkIdKey,
    name::{ChunkId, ChunkType, Domain},
    pack::ChunkContext,
};

use super::{
    ChunkAt, Fetch, FetchError, Fetched,
    locate::{Place, lost},
};
use crate::keys::StoreKeys;

/// Opens chunks, for one thread: keeps zstd's context between them.
pub struct Opener<'a, 'k> {
    fetch: &'a Fetch<'k>,
    decompressor: Decompressor,
}

impl<'a, 'k> Opener<'a, 'k> {
    /// Prepares to open what `fetch` reads.
    pub fn new(fetch: &'a Fetch<'k>) -> Self {
        Self {
            fetch,
            decompressor: Decompressor::new(),
        }
    }

    /// Returns a chunk's plaintext from what was read.
    ///
    /// # Errors
    ///
    /// [`FetchError::Lost`] where no channel gave its bytes right; [`FetchError::Open`] where they are what the owner did not write.
    pub fn open(&mut self, fetched: &Fetched, chunk: &ChunkAt) -> Result<Vec<u8>, FetchError> {
        let context = OneDictionary {
            keys: self.fetch.keys,
            dictionary: chunk.dictionary.as_deref(),
        };
        let pack = &*chunk.pack;
        let what = "a chunk of this file";
        if let Place::Piece(piece) = &pack.place {
            let opened = piece.open_chunk(chunk.index, &context, &mut self.decompressor);
            return Ok(opened.ok_or(FetchError::Unknown { what })??);
        }
        let (Some(entry), Some(range)) = (pack.entry(chunk.index), pack.range(chunk.index)) else {
            return Err(FetchError::Unknown { what });
        };
        let (channel, sealed) = fetched
            .bytes(pack.number, &range)
            .ok_or_else(|| lost(fetched, pack))?;
        let reader = self.fetch.reader(channel, pack, fetched)?;
        Ok(reader.open_chunk(entry, sealed, &context, &mut self.decompressor)?)
    }
}

/// The store's keys and the one dictionary that a chunk names.
struct OneDictionary<'a> {
    keys: &'a StoreKeys,
    dictionary: Option<&'a Dictionary>,
}

impl ChunkContext for OneDictionary<'_> {
    fn id_key(&self, chunk_type: ChunkType, domain: Domain) -> Option<&ChunkIdKey> {
        self.keys.id_key(chunk_type, domain)
    }

    fn dictionary(&self, id: &ChunkId) -> Option<&Dictionary> {
        self.dictionary.filter(|dictionary| dictionary.id() == *id)
    }
}
