//! Preparing: a change's records are written where they go, before anything is composed.

use std::{collections::BTreeMap, sync::Arc};

use maimo_vault::{
    compose::{Body, Draft, SegmentWriter, write_segments},
    compress::Level,
    journal::{batch::Stamp, record::Record, repeat::Repeat},
    name::{ChunkRef, RecordId},
    pack::{PackBuilder, PackKind, Piece},
    rebase::turn,
};

use super::{Change, Prepared, Sealer};
use crate::{engine::Engine, error::ClientError, session::OpenChannel};

/// How hard journal segments are compressed.
const JOURNAL_LEVEL: u8 = 3;
/// A draft of more records than this is not tried in the tail: none of so many fits.
const TAIL_RECORDS_MAX: usize = 512;

impl Engine {
    /// Writes a change's records where they fit: into the tail, or into segments, which leave at once. Chunks that were meant for the tail go
    /// into a pack with the latter.
    pub(super) fn prepare(
        &self,
        mut change: Change,
        channels: &[Arc<OpenChannel>],
    ) -> Result<Prepared, ClientError> {
        let mut sealer = Sealer::new(self, channels);
        let piece = change.piece.take();
        let nothing = change.records.is_empty() && change.restored.is_empty() && piece.is_none();
        let body = if change.merge.is_some() || nothing {
            Body::Segments(Vec::new())
        } else {
            let piece = piece.unwrap_or_else(|| Piece::new(self.node.next_pack()));
            let fitted = if change.restored.is_empty() {
                small(piece, &change.records)
            } else {
                // The tail stamps all it holds alike.
                Err(piece)
            };
            match fitted {
                Ok(full) => {
                    change.piece = Some(full.clone());
                    Body::Piece(full)
                }
                Err(piece) => {
                    self.settle_piece(&piece, &mut change, &mut sealer);
                    let mut stamped: Vec<_> = stamped(&change, 0).collect();
                    stamped.sort_by_key(|(stamp, _)| *stamp);
                    Body::Segments(write_segments(stamped, &self.segment_writer(), &mut sealer))
                }
            }
        };
        sealer.send()?;
        let (vital, sent) = (sealer.vital, sealer.sent);
        Ok(Prepared {
            draft: Draft {
                records: Vec::new(),
                restored: Vec::new(),
                body,
            },
            change,
            vital,
            sent,
        })
    }

    /// Puts chunks that were meant for the tail into a pack, and turns the records to it.
    fn settle_piece(&self, piece: &Piece, change: &mut Change, sealer: &mut Sealer<'_>) {
        use maimo_vault::compose::Sealing as _;
        if piece.entries().is_empty() {
            return;
        }
        let number = self.node.next_pack();
        let mut builder = PackBuilder::new(number, PackKind::Data);
        let mut now_at = BTreeMap::new();
        for (index, chunk) in (0..).zip(piece.chunks()) {
            let to = builder.push(chunk).expect("a piece fits a pack");
            let from = ChunkRef {
                pack: piece.number(),
                index,
            };
            let to = ChunkRef {
                pack: number,
                index: to,
            };
            now_at.insert(from, to);
        }
        let new = change.records.iter_mut().map(|(_, record)| record);
        let again = change.restored.iter_mut().map(|(_, record)| record);
        turn(new.chain(again), &now_at);
        let as_of = self.catalog.position().map_or(1, |at| at.sequence + 1);
        let repeat = Repeat::of_stamped(stamped(change, as_of), number, as_of).encode();
        // Files of a piece are small and few; were they not, packs alone would not tell of them, and the journal would.
        let _ = builder.set_records(repeat);
        for (channel, reference) in sealer.seal(builder) {
            let record = Record::Pack {
                number,
                channel,
                reference,
            };
            change.records.push((self.node.next_record(), record));
        }
        change.layouts.append(&mut sealer.layouts);
    }

    pub(super) fn segment_writer(&self) -> SegmentWriter<'_> {
        SegmentWriter {
            id_key: &self.keys.journal,
            level: Level::new(JOURNAL_LEVEL).unwrap_or_default(),
        }
    }
}

/// Returns a change's records with their stamps: the new ones as of `sequence`, those that are written again as they were.
fn stamped(change: &Change, sequence: u64) -> impl Iterator<Item = (Stamp, &Record)> {
    let new = change.records.iter().map(move |(id, record)| {
        let stamp = Stamp { sequence, id: *id };
        (stamp, record)
    });
    let again = change.restored.iter();
    new.chain(again.map(|(stamp, record)| (*stamp, record)))
}

/// Sets a piece's records, if they fit the tail with its chunks; else gives it back.
fn small(piece: Piece, records: &[(RecordId, Record)]) -> Result<Piece, Piece> {
    if records.len() > TAIL_RECORDS_MAX {
        return Err(piece);
    }
    Draft::fill(piece, records)
}
