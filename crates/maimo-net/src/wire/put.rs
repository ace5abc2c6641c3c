//! A range of a pack, and what is still missing of it.

use bytes::Bytes;
use maimo_core::{
    codec::{ParseError, Put as _, Reader},
    custody::PackClass,
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};

use super::check_length;
use crate::service::{PUT_BYTES, Put, PutReply};

/// What stands before a range: which pack it is of and where. It can be read before the range has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutHead {
    /// The pack.
    pub pack: ObjectRef,
    /// What it is for.
    pub class: PackClass,
    /// Where the range begins, in bytes.
    pub offset: u64,
}

impl PutHead {
    /// How many bytes it takes.
    pub const LENGTH: usize = ObjectRef::FIXED_LENGTH + 1 + 8;

    /// Returns root, length, class and offset as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::LENGTH);
        self.pack.encode_fixed(&mut out);
        self.class.encode(&mut out);
        out.put_u64(self.offset);
        out
    }

    /// Reads what [`Self::encode`] wrote; an offset at which no range of the pack begins is refused.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new(bytes);
        let head = Self {
            pack: ObjectRef::parse_fixed(&mut reader, PACK_BYTES_MAX, "pack")?,
            class: PackClass::parse(&mut reader)?,
            offset: reader.u64(OFFSET)?,
        };
        reader.finish()?;
        if !is_range(head.offset) || head.offset >= head.pack.length {
            return Err(ParseError::Invalid { what: OFFSET });
        }
        Ok(head)
    }

    /// Returns how long the range that begins here is, in bytes.
    pub const fn range_bytes(&self) -> u64 {
        let rest = self.pack.length.saturating_sub(self.offset);
        if rest < PUT_BYTES { rest } else { PUT_BYTES }
    }
}

const OFFSET: &str = "offset of a range";

const fn is_range(offset: u64) -> bool {
    offset.is_multiple_of(PUT_BYTES)
}

impl Put {
    /// Returns what goes before [`Put::bytes`] on the wire.
    pub const fn head(&self) -> PutHead {
        PutHead {
            pack: self.pack,
            class: self.class,
            offset: self.offset,
        }
    }

    /// Reads a head and the range behind it, without copying that.
    ///
    /// # Errors
    ///
    /// A head that is none; bytes that are neither the range nor empty.
    pub fn parse(body: &Bytes) -> Result<Self, ParseError> {
        const WHAT: &str = "range of a pack";
        let head = body
            .get(..PutHead::LENGTH)
            .ok_or(ParseError::Truncated { what: WHAT })?;
        let PutHead {
            pack,
            class,
            offset,
        } = PutHead::parse(head)?;
        let put = Self {
            pack,
            class,
            offset,
            bytes: body.slice(PutHead::LENGTH..),
        };
        let (length, whole) = (put.bytes.len() as u64, put.head().range_bytes());
        if length > whole {
            return Err(ParseError::TooLarge {
                what: WHAT,
                found: length,
                max: whole,
            });
        }
        if length != 0 && length != whole {
            return Err(ParseError::Truncated { what: WHAT });
        }
        Ok(put)
    }
}

impl PutReply {
    /// How many ranges a pack has at most.
    const RANGES_MAX: usize = 64;
    /// How many bytes it takes at most.
    pub const LENGTH_MAX: usize = 8 * Self::RANGES_MAX;

    /// Returns the offsets as bytes, eight each.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(8 * self.missing.len());
        for offset in &self.missing {
            out.put_u64(*offset);
        }
        out
    }

    /// Reads what [`Self::encode`] wrote, of a pack of `pack_bytes` bytes.
    ///
    /// # Errors
    ///
    /// Offsets out of order, or at which no range of the pack begins.
    pub fn parse(bytes: &[u8], pack_bytes: u64) -> Result<Self, ParseError> {
        const WHAT: &str = "missing ranges";
        check_length(bytes.len(), Self::LENGTH_MAX, WHAT)?;
        let mut reader = Reader::new(bytes);
        let mut missing: Vec<u64> = Vec::with_capacity(bytes.len() / 8);
        while reader.remaining() > 0 {
            let offset = reader.u64(OFFSET)?;
            let follows = missing.last().is_none_or(|last| *last < offset);
            if !follows || !is_range(offset) || offset >= pack_bytes {
                return Err(ParseError::Invalid { what: WHAT });
            }
            missing.push(offset);
        }
        Ok(Self { missing })
    }
}

const _: () = assert!(PutReply::RANGES_MAX as u64 == PACK_BYTES_MAX / PUT_BYTES);
