//! [`Position`]: how far the catalog has come in the journal.

use maimo_core::codec::{ParseError, Put, Reader};
use maimo_vault::{
    commit::{SEGMENTS_MAX, Segment, StorePart, TAIL_BYTES_MAX, TailPiece},
    name::{PackNumber, WriterId},
    pack::Piece,
};

/// The newest commit whose records the catalog has, and what it takes to go on from there without reading the commit again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The store sequence; 0 before the first commit.
    pub sequence: u64,
    /// The commit's part that all channels share.
    pub store: Option<StorePart>,
    /// The journal's segments, in the commit's order.
    pub segments: Vec<Segment>,
    /// The commit's tail.
    pub tail: Vec<TailPiece>,
}

impl Position {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.put_varint(self.sequence);
        out.put_u8(u8::from(self.store.is_some()));
        if let Some(store) = &self.store {
            store.encode(&mut out);
        }
        out.put_varint(self.segments.len() as u64);
        for segment in &self.segments {
            out.put(&segment.number.writer.0);
            out.put_varint(segment.number.n);
            out.put_varint(segment.sequence);
            out.put_u8(segment.level);
        }
        out.put_varint(self.tail.len() as u64);
        let mut piece = Vec::new();
        for tail in &self.tail {
            out.put_varint(tail.sequence);
            piece.clear();
            tail.piece.encode(&mut piece);
            out.put_bytes(&piece);
        }
        out
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut r = Reader::new(bytes);
        let sequence = r.varint("position")?;
        let store = match r.u8("position")? {
            0 => None,
            _ => Some(StorePart::parse(&mut r)?),
        };
        let count = r.count(SEGMENTS_MAX, 19, "segments")?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            segments.push(Segment {
                number: PackNumber {
                    writer: WriterId::parse(&mut r)?,
                    n: r.varint("segment")?,
                },
                sequence: r.varint("segment")?,
                level: r.u8("segment")?,
            });
        }
        let count = r.count(TAIL_BYTES_MAX as u64, 2, "tail")?;
        let mut tail = Vec::with_capacity(count);
        for _ in 0..count {
            tail.push(TailPiece {
                sequence: r.varint("tail piece")?,
                piece: Piece::parse(r.bytes(TAIL_BYTES_MAX, "tail piece")?)?,
            });
        }
        r.finish()?;
        Ok(Self {
            sequence,
            store,
            segments,
            tail,
        })
    }
}
