//! [`ObjectRef`]: how one object names another.

use crate::{
    codec::{ParseError, Put, Reader},
    id::RootHash,
};

/// The pair of root and length that names an object.
///
/// Never a bare root: BLAKE3's tree binds the bytes but lets a prover claim a shorter length, and pass every slice check but
/// that of the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// BLAKE3 root of the object's bytes.
    pub root: RootHash,
    /// Length of the object in bytes.
    pub length: u64,
}

impl ObjectRef {
    /// How many bytes [`ObjectRef::encode`] takes where the length is fixed-size.
    pub const FIXED_LENGTH: usize = 40;

    /// Names `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            root: RootHash::of(bytes),
            length: bytes.len() as u64,
        }
    }

    /// Returns whether `bytes` are the object named: the length first, then the hash.
    pub fn names(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64 && self.root == RootHash::of(bytes)
    }

    /// Appends the root, then the length as a varint.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(self.root.as_bytes());
        out.put_varint(self.length);
    }

    /// Reads what [`Self::encode`] wrote; a length beyond `length_max` is refused.
    pub fn parse(
        reader: &mut Reader<'_>,
        length_max: u64,
        what: &'static str,
    ) -> Result<Self, ParseError> {
        Ok(Self {
            root: RootHash(reader.array(what)?),
            length: reader.varint_max(length_max, what)?,
        })
    }

    /// Appends the root, then the length in eight bytes: for objects of constant size.
    pub fn encode_fixed(&self, out: &mut Vec<u8>) {
        out.put(self.root.as_bytes());
        out.put_u64(self.length);
    }

    /// Reads what [`Self::encode_fixed`] wrote; a length beyond `length_max` is refused.
    pub fn parse_fixed(
        reader: &mut Reader<'_>,
        length_max: u64,
        what: &'static str,
    ) -> Result<Self, ParseError> {
        let root = RootHash(reader.array(what)?);
        let length = reader.u64(what)?;
        if length > length_max {
            return Err(ParseError::TooLarge {
                what,
                found: length,
                max: length_max,
            });
        }
        Ok(Self { root, length })
    }
}
