//! Explicit bytes: the little reader and writer that every format of Maimo is made of.
//!
//! All integers are little-endian. A *varint* is unsigned LEB128 in its shortest form. Reading is total: it ends in a value
//! or a [`ParseError`], never in a panic, and no length that a peer claims becomes an allocation before it was held against
//! its maximum and against what is really there. Parsers are canonical: what parses, encodes to the same bytes again.

use thiserror::Error;

mod report;

/// Why bytes are not the object they claim to be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The bytes end before the named field does.
    #[error("{what} is cut short")]
    Truncated {
        /// The field that was being read.
        what: &'static str,
    },
    /// The bytes go on after the object's end.
    #[error("{extra} bytes follow the end of the object")]
    Trailing {
        /// How many bytes too many.
        extra: usize,
    },
    /// The first bytes are not Maimo's.
    #[error("not an object of Maimo: its first four bytes are wrong")]
    Magic,
    /// The object is of another type than asked for.
    #[error("an object of type {found} stands where type {expected} belongs")]
    WrongType {
        /// The type byte asked for.
        expected: u8,
        /// The type byte read.
        found: u8,
    },
    /// A version that this program does not know.
    #[error("version {found} of this object needs a newer Maimo")]
    Version {
        /// The version read.
        found: u8,
    },
    /// A suite of algorithms that this program does not know.
    #[error("suite {found} of this object needs a newer Maimo")]
    Suite {
        /// The suite read.
        found: u8,
    },
    /// A field past its maximum.
    #[error("{what} is {found}, more than the {max} allowed")]
    TooLarge {
        /// The field.
        what: &'static str,
        /// What it claims.
        found: u64,
        /// What is allowed at most.
        max: u64,
    },
    /// Two encodings of one value exist and this is the one that is not used.
    #[error("{what} is not in its one canonical form")]
    NotCanonical {
        /// The field.
        what: &'static str,
    },
    /// A value that the field may not have.
    #[error("{what} has a value that is not allowed")]
    Invalid {
        /// The field.
        what: &'static str,
    },
    /// An extension that must be understood and is not.
    #[error("extension {tag:#06x} of this object needs a newer Maimo")]
    UnknownCritical {
        /// The extension's tag.
        tag: u16,
    },
}

/// Reads fields off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Returns how many bytes have not been read.
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes `count` bytes; `what` names the field in the error.
    pub fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], ParseError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(ParseError::Truncated { what })?;
        self.rest = rest;
        Ok(head)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], ParseError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(ParseError::Truncated { what })?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads one byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, ParseError> {
        Ok(self.array::<1>(what)?[0])
    }

    /// Reads a little-endian 16-bit integer.
    pub fn u16(&mut self, what: &'static str) -> Result<u16, ParseError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    /// Reads a little-endian 32-bit integer.
    pub fn u32(&mut self, what: &'static str) -> Result<u32, ParseError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    /// Reads a little-endian 64-bit integer.
    pub fn u64(&mut self, what: &'static str) -> Result<u64, ParseError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// Reads a varint; a longer form than needed is [`ParseError::NotCanonical`].
    pub fn varint(&mut self, what: &'static str) -> Result<u64, ParseError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8(what)?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit only.
            if shift == 63 && bits > 1 {
                return Err(ParseError::NotCanonical { what });
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift != 0 {
                    return Err(ParseError::NotCanonical { what });
                }
                return Ok(value);
            }
        }
        Err(ParseError::NotCanonical { what })
    }

    /// Reads a varint of at most `max`.
    pub fn varint_max(&mut self, max: u64, what: &'static str) -> Result<u64, ParseError> {
        let found = self.varint(what)?;
        if found > max {
            return Err(ParseError::TooLarge { what, found, max });
        }
        Ok(found)
    }

    /// Reads a count of things of at least `least_bytes` bytes each, at most `max`: a count that the remaining bytes cannot hold is
    /// refused here, so the caller may reserve memory for it.
    pub fn count(
        &mut self,
        max: u64,
        least_bytes: usize,
        what: &'static str,
    ) -> Result<usize, ParseError> {
        let count = self.varint_max(max, what)?;
        let fits = self.remaining() / least_bytes.max(1);
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= fits)
            .ok_or(ParseError::Truncated { what })
    }

    /// Reads a varint length of at most `max`, then so many bytes.
    pub fn bytes(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], ParseError> {
        let length = self.count(max as u64, 1, what)?;
        self.take(length, what)
    }

    /// Ends the reading: the object must end where its bytes do.
    pub fn finish(self) -> Result<(), ParseError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(ParseError::Trailing {
                extra: self.rest.len(),
            })
        }
    }
}

/// Appends fields to a byte vector: the mirror of [`Reader`].
pub trait Put {
    /// Appends bytes as they are.
    fn put(&mut self, bytes: &[u8]);

    /// Appends one byte.
    fn put_u8(&mut self, value: u8) {
        self.put(&[value]);
    }

    /// Appends a little-endian 16-bit integer.
    fn put_u16(&mut self, value: u16) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a little-endian 32-bit integer.
    fn put_u32(&mut self, value: u32) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a little-endian 64-bit integer.
    fn put_u64(&mut self, value: u64) {
        self.put(&value.to_le_bytes());
    }

    /// Appends a varint in its shortest form.
    fn put_varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.put_u8(low & 0x7f);
                return;
            }
            self.put_u8(low | 0x80);
        }
    }

    /// Appends a varint length, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(bytes.len() as u64);
        self.put(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

/// The types of object, as they stand in the prelude's type byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum ObjectType {
    /// A pack of file chunks.
    DataPack = 1,
    /// A pack of journal segments or dictionaries.
    VitalPack = 2,
    /// A node of an inventory's sum tree.
    InventoryNode = 3,
    /// A store's newest state, sealed for one channel.
    Commit = 4,
    /// A channel's signed newest state.
    Head = 5,
    /// A provider's signature on a root.
    Receipt = 6,
    /// The right to audit a channel.
    Ticket = 7,
    /// The right to open a channel.
    Invitation = 8,
    /// The store's secret at rest.
    KeyFile = 9,
    /// The positions an audit asks for.
    AuditChallenge = 10,
    /// The proof that answers a challenge.
    AuditAnswer = 11,
    /// The ranges a possession digest is taken over.
    DigestRequest = 12,
    /// A request to move the head.
    HeadMove = 13,
    /// A provider's signed list of its addresses.
    AddressList = 14,
    /// A proof that one root descends from another.
    AncestryProof = 15,
    /// A provider's signature on an answer to a challenge.
    AuditStatement = 16,
    /// An audit by a ticket, to be checked again.
    AuditReceipt = 17,
}

/// The twelve bytes every plain object begins with: magic, type, version, suite, a reserved zero, key epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prelude {
    /// Which key epoch the object's keys are of; 0 where no key is involved and in all of version 1.
    pub epoch: u32,
}

impl Prelude {
    /// The first four bytes of every object.
    pub const MAGIC: [u8; 4] = *b"MAIM";
    /// The one version of every object so far.
    pub const VERSION: u8 = 1;
    /// The one suite so far: BLAKE3, XChaCha8-BLAKE3-SIV, Ed25519, zstd.
    pub const SUITE: u8 = 1;
    /// How many bytes it takes.
    pub const LENGTH: usize = 12;

    /// Appends the prelude of an object of type `object_type`.
    pub fn encode(self, object_type: ObjectType, out: &mut Vec<u8>) {
        out.put(&Self::MAGIC);
        out.put(&[object_type as u8, Self::VERSION, Self::SUITE, 0]);
        out.put_u32(self.epoch);
    }

    /// Reads the prelude of an object that must be of type `object_type`.
    ///
    /// # Errors
    ///
    /// A version or suite this program does not know is told apart from damage, so that the user is told to update.
    pub fn parse(reader: &mut Reader<'_>, object_type: ObjectType) -> Result<Self, ParseError> {
        if reader.array::<4>("magic")? != Self::MAGIC {
            return Err(ParseError::Magic);
        }
        let [found, version, suite, reserved] = reader.array("prelude")?;
        let expected = object_type as u8;
        if found != expected {
            return Err(ParseError::WrongType { expected, found });
        }
        if version != Self::VERSION {
            return Err(ParseError::Version { found: version });
        }
        if suite != Self::SUITE {
            return Err(ParseError::Suite { found: suite });
        }
        if reserved != 0 {
            return Err(ParseError::Invalid {
                what: "reserved byte of the prelude",
            });
        }
        Ok(Self {
            epoch: reader.u32("key epoch")?,
        })
    }

    /// Reads the prelude of an object that no key epoch applies to: its epoch must be 0.
    pub fn parse_without_epoch(
        reader: &mut Reader<'_>,
        object_type: ObjectType,
    ) -> Result<(), ParseError> {
        match Self::parse(reader, object_type)?.epoch {
            0 => Ok(()),
            _ => Err(ParseError::Invalid { what: "key epoch" }),
        }
    }
}

/// Fields that later versions may add at the end of an object.
///
/// A tag with its highest bit set is *critical*: who does not know it must refuse the object. The others are kept as they are, so
/// that an object passed on keeps its hash. Version 1 defines none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    fields: Vec<(u16, Vec<u8>)>,
}

impl Extensions {
    /// The bit of a tag that makes it critical.
    pub const CRITICAL: u16 = 0x8000;
    /// How many an object may carry.
    pub const COUNT_MAX: u64 = 16;
    /// How long one may be, in bytes.
    pub const LENGTH_MAX: usize = 1024;

    /// Appends the count, then each field: tag, length, bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_varint(self.fields.len() as u64);
        for (tag, bytes) in &self.fields {
            out.put_u16(*tag);
            out.put_bytes(bytes);
        }
    }

    /// Reads them; tags ascend strictly, and a critical one is refused as no critical one is known.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let count = reader.count(Self::COUNT_MAX, 3, "extensions")?;
        let mut fields: Vec<(u16, Vec<u8>)> = Vec::with_capacity(count);
        for _ in 0..count {
            let tag = reader.u16("extension tag")?;
            if tag & Self::CRITICAL != 0 {
                return Err(ParseError::UnknownCritical { tag });
            }
            if fields.last().is_some_and(|(last, _)| *last >= tag) {
                return Err(ParseError::NotCanonical {
                    what: "order of extensions",
                });
            }
            fields.push((tag, reader.bytes(Self::LENGTH_MAX, "extension")?.to_vec()));
        }
        Ok(Self { fields })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_varint_comes_back_from_its_shortest_form(value: u64) {
            let mut bytes = Vec::new();
            bytes.put_varint(value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint("v"), Ok(value));
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn a_varint_that_parses_is_the_one_form_of_its_value(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint("v") {
                let mut again = Vec::new();
                again.put_varint(value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }

    #[test]
    fn leb128_known_answers() {
        // From the DWARF 5 standard, table 7.6 (unsigned LEB128).
        for (value, bytes) in [
            (2_u64, &[2_u8][..]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (129, &[0x81, 1]),
            (12857, &[0xb9, 0x64]),
        ] {
            let mut out = Vec::new();
            out.put_varint(value);
            assert_eq!(out, bytes);
        }
    }

    #[test]
    fn a_longer_form_than_needed_is_refused() {
        for bytes in [
            &[0x80, 0x00][..],
            &[0xff, 0x00],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
        ] {
            assert_eq!(
                Reader::new(bytes).varint("v"),
                Err(ParseError::NotCanonical { what: "v" })
            );
        }
    }

    #[test]
    fn a_count_beyond_the_bytes_that_follow_is_refused_before_memory_is_taken() {
        let mut bytes = Vec::new();
        bytes.put_varint(1 << 40);
        assert_eq!(
            Reader::new(&bytes).count(u64::MAX, 32, "entries"),
            Err(ParseError::Truncated { what: "entries" })
        );
    }

    #[test]
    fn an_unknown_critical_extension_is_refused_and_another_is_kept() {
        let mut kept = vec![1];
        kept.put_u16(7);
        kept.put_bytes(b"later");
        let parsed = Extensions::parse(&mut Reader::new(&kept)).unwrap();
        let mut again = Vec::new();
        parsed.encode(&mut again);
        assert_eq!(again, kept);

        let mut critical = vec![1];
        critical.put_u16(0x8007);
        critical.put_bytes(b"later");
        assert_eq!(
            Extensions::parse(&mut Reader::new(&critical)),
            Err(ParseError::UnknownCritical { tag: 0x8007 })
        );
    }

    #[test]
    fn a_newer_version_is_told_apart_from_damage() {
        let mut bytes = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::Head, &mut bytes);
        let mut newer = bytes.clone();
        newer[5] = 2;
        let mut other_suite = bytes.clone();
        other_suite[6] = 9;
        let parse = |bytes: &[u8]| Prelude::parse(&mut Reader::new(bytes), ObjectType::Head);
        assert_eq!(parse(&bytes), Ok(Prelude { epoch: 0 }));
        assert_eq!(parse(&newer), Err(ParseError::Version { found: 2 }));
        assert_eq!(parse(&other_suite), Err(ParseError::Suite { found: 9 }));
        assert_eq!(parse(b"what"), Err(ParseError::Magic));
        assert!(matches!(
            Prelude::parse(&mut Reader::new(&bytes), ObjectType::Commit),
            Err(ParseError::WrongType { .. })
        ));
    }
}
