//! The catalog as the index of packs: its rows, and the tail of the newest commit it has.

use std::{cell::OnceCell, collections::HashMap};

use maimo_core::{id::ChannelId, reference::ObjectRef};
use maimo_vault::{
    name::{ChunkId, ChunkRef, PackNumber},
    pack::{PackLayout, Piece},
};

use super::PackIndex;
use crate::{catalog::Reader, error::ClientError};

/// What one snapshot of the catalog knows of packs.
pub struct CatalogPacks<'r> {
    reader: &'r Reader,
    // Both are a handful, and most retrievals need neither.
    pieces: OnceCell<HashMap<PackNumber, Piece>>,
    dictionaries: OnceCell<HashMap<ChunkId, ChunkRef>>,
}

impl<'r> CatalogPacks<'r> {
    /// Looks things up in `reader`.
    pub const fn new(reader: &'r Reader) -> Self {
        Self {
            reader,
            pieces: OnceCell::new(),
            dictionaries: OnceCell::new(),
        }
    }
}

impl PackIndex for CatalogPacks<'_> {
    fn resolve(&self, chunk: ChunkRef) -> Result<ChunkRef, ClientError> {
        Ok(self.reader.resolve(chunk)?)
    }

    fn object(
        &self,
        number: PackNumber,
        channel: ChannelId,
    ) -> Result<Option<ObjectRef>, ClientError> {
        Ok(self.reader.pack(number, channel)?)
    }

    fn layout(&self, number: PackNumber) -> Result<Option<PackLayout>, ClientError> {
        Ok(self.reader.layout(number)?)
    }

    fn piece(&self, number: PackNumber) -> Result<Option<Piece>, ClientError> {
        if self.pieces.get().is_none() {
            let tail = self.reader.position()?.tail.into_iter();
            let pieces = tail.map(|tail| (tail.piece.number(), tail.piece));
            // Set by nobody else: this is one thread's.
            let _ = self.pieces.set(pieces.collect());
        }
        let pieces = self.pieces.get();
        Ok(pieces.and_then(|pieces| pieces.get(&number)).cloned())
    }

    fn dictionary(&self, id: &ChunkId) -> Result<Option<ChunkRef>, ClientError> {
        if self.dictionaries.get().is_none() {
            let known = self.reader.dictionaries()?.into_iter();
            let known = known.map(|(id, dictionary)| (id, dictionary.chunk));
            let _ = self.dictionaries.set(known.collect());
        }
        let known = self.dictionaries.get();
        Ok(known.and_then(|known| known.get(id)).copied())
    }
}
