//! New chunks: into a piece of the tail if they are few and small, else into the open pack, which is sealed when it is full.

use maimo_core::inventory::Change as InventoryChange;
use maimo_vault::{
    compose::{Draft, Sealing},
    compress::Codec,
    journal::{
        batch::{Batch, Stamp},
        record::Record,
    },
    name::{ChunkId, ChunkRef, ChunkType, Domain, RecordId},
    pack::{FramedChunk, PackBuilder, PackKind, Piece},
    prune::moved,
};

use super::{Found, FoundChunk, Store, What, set_whole};
use crate::years::sealer::{Purpose, Sealer};

/// A pack that chunks go into, and what will be said of them.
#[derive(Default)]
pub(super) struct Open {
    builder: Option<PackBuilder>,
    /// Records of the files that end in it.
    pub(super) records: Vec<(Stamp, Record)>,
    /// Where its chunks were before.
    pub(super) moved: Vec<ChunkRef>,
}

impl Open {
    /// More than the encoding of any record here takes, in bytes.
    const RECORD_BYTES: usize = 200;

    pub(super) fn fits(&self, frame: usize) -> bool {
        let records = (self.records.len() + 1) * Self::RECORD_BYTES;
        self.builder
            .as_ref()
            .is_none_or(|builder| builder.would_fit(frame, records))
    }

    pub(super) fn builder(&mut self, sealer: &mut Sealer) -> &mut PackBuilder {
        self.builder
            .get_or_insert_with(|| PackBuilder::new(sealer.next_pack(), PackKind::Data))
    }
}

/// A chunk as it is met for the first time.
#[derive(Debug, Clone, Copy)]
pub(super) struct NewChunk {
    id: ChunkId,
    /// Where in the filler its frame is.
    at: usize,
    frame: u32,
    plain: u32,
}

impl NewChunk {
    fn framed<'f>(&self, filler: &'f [u8]) -> FramedChunk<'f> {
        FramedChunk {
            id: self.id,
            chunk_type: ChunkType::Content,
            domain: Domain::default(),
            codec: if self.frame < self.plain {
                Codec::Zstd
            } else {
                Codec::Raw
            },
            dictionary: None,
            plaintext_length: self.plain,
            frame: &filler[self.at..self.at + self.frame as usize],
        }
    }
}

impl Store {
    /// Puts the new chunks of a few small files into a piece, if they fit one, and returns where they are.
    pub(super) fn piece_of(&mut self, found: &[Found]) -> Option<(Piece, Vec<ChunkRef>)> {
        let lengths: Vec<(u32, u32)> = found
            .iter()
            .filter_map(|found| match &found.what {
                What::File { pieces, .. } => Some(pieces),
                What::Gone => None,
            })
            .flatten()
            .filter_map(|piece| match piece {
                FoundChunk::New { frame, plain } => Some((*frame, *plain)),
                FoundChunk::Known(_) => None,
            })
            .collect();
        let total: usize = lengths.iter().map(|(frame, _)| *frame as usize).sum();
        if found.len() > 32 || total > Draft::PIECE_BYTES_MAX {
            return None;
        }
        let mut piece = Piece::new(self.sealer.next_pack());
        let mut chunks = Vec::new();
        for (frame, plain) in lengths {
            let chunk = self.new_chunk(frame, plain);
            let index = piece.push(chunk.framed(&self.filler)).ok()?;
            chunks.push(ChunkRef {
                pack: piece.number(),
                index,
            });
        }
        Some((piece, chunks))
    }

    pub(super) fn new_chunk(&mut self, frame: u32, plain: u32) -> NewChunk {
        let room = self.filler.len() - frame as usize;
        NewChunk {
            id: ChunkId(self.sealer.chance.bytes()),
            at: self.sealer.chance.index(room),
            frame,
            plain,
        }
    }

    /// Puts a chunk into the open pack, or into the next one if that is full.
    pub(super) fn push(
        &mut self,
        open: &mut Open,
        chunk: NewChunk,
        records: &mut Vec<(RecordId, Record)>,
        changes: &mut Vec<InventoryChange>,
    ) -> ChunkRef {
        if !open.fits(chunk.frame as usize) {
            self.close(open, Purpose::Content, records, changes);
        }
        self.figures.content += u64::from(chunk.frame) + 32;
        let builder = open.builder(&mut self.sealer);
        let index = builder
            .push(chunk.framed(&self.filler))
            .expect("it was held against the room left");
        ChunkRef {
            pack: builder.number(),
            index,
        }
    }

    /// Seals the open pack, if there is one, and says so in `records` and `changes`.
    pub(super) fn close(
        &mut self,
        open: &mut Open,
        purpose: Purpose,
        records: &mut Vec<(RecordId, Record)>,
        changes: &mut Vec<InventoryChange>,
    ) {
        let Open {
            builder,
            records: repeated,
            moved: from,
        } = core::mem::take(open);
        let Some(mut builder) = builder else {
            return;
        };
        let number = builder.number();
        builder
            .set_records(Batch::new(repeated).encode())
            .expect("their length was held against the room left");
        self.sealer.purpose = purpose;
        for (channel, reference) in self.sealer.seal(builder) {
            changes.push(set_whole(reference));
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            records.push((self.sealer.next_record(), record));
        }
        for record in moved(&from, number, 0) {
            records.push((self.sealer.next_record(), record));
        }
    }
}
