//! Parse errors as one side reports them to the other: a stable number, then what the error says. Numbers are never given anew.

use super::{ParseError, Put, Reader};

/// The names of fields that a report carries, by their numbers; new ones only at the end. Names come from this table and never from the
/// other side, so that nobody puts words on a user's terminal. What has no number is [`UNNAMED`].
const FIELDS: &[&str] = &[
    UNNAMED,
    "magic",
    "prelude",
    "reserved byte of the prelude",
    "key epoch",
    "extensions",
    "extension tag",
    "order of extensions",
    "extension",
    "head",
    "signed head",
    "channel id",
    "sequence number",
    "previous root",
    "ancestry",
    "commit",
    "time",
    "signer",
    "signature",
    "signature algorithm",
    "inventory",
    "inventory node",
    "level of an inventory node",
    "filled slots of an inventory node",
    "sums of an inventory node",
    "pack",
    "length of a pack",
    "live map",
    "run of a live map",
    "runs of a live map",
    "bitmap of a live map",
];
const UNNAMED: &str = "a field";

const TRUNCATED: u8 = 1;
const TRAILING: u8 = 2;
const MAGIC: u8 = 3;
const WRONG_TYPE: u8 = 4;
const VERSION: u8 = 5;
const SUITE: u8 = 6;
const TOO_LARGE: u8 = 7;
const NOT_CANONICAL: u8 = 8;
const INVALID: u8 = 9;
const UNKNOWN_CRITICAL: u8 = 10;

impl ParseError {
    /// How many bytes a report takes at most.
    pub const REPORT_BYTES_MAX: usize = 18;

    /// Appends the report of this error.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Truncated { what } => put_field(TRUNCATED, what, out),
            Self::Trailing { extra } => {
                out.put_u8(TRAILING);
                out.put_u64(*extra as u64);
            }
            Self::Magic => out.put_u8(MAGIC),
            Self::WrongType { expected, found } => out.put(&[WRONG_TYPE, *expected, *found]),
            Self::Version { found } => out.put(&[VERSION, *found]),
            Self::Suite { found } => out.put(&[SUITE, *found]),
            Self::TooLarge { what, found, max } => {
                put_field(TOO_LARGE, what, out);
                out.put_u64(*found);
                out.put_u64(*max);
            }
            Self::NotCanonical { what } => put_field(NOT_CANONICAL, what, out),
            Self::Invalid { what } => put_field(INVALID, what, out),
            Self::UnknownCritical { tag } => {
                out.put_u8(UNKNOWN_CRITICAL);
                out.put_u16(*tag);
            }
        }
    }

    /// Reads a report.
    ///
    /// # Errors
    ///
    /// Bytes that are none, which is another matter than what a report says.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, Self> {
        const WHAT: &str = "report of a parse error";
        Ok(match reader.u8(WHAT)? {
            TRUNCATED => Self::Truncated {
                what: field(reader)?,
            },
            TRAILING => Self::Trailing {
                extra: usize::try_from(reader.u64(WHAT)?)
                    .map_err(|_| Self::Invalid { what: WHAT })?,
            },
            MAGIC => Self::Magic,
            WRONG_TYPE => Self::WrongType {
                expected: reader.u8(WHAT)?,
                found: reader.u8(WHAT)?,
            },
            VERSION => Self::Version {
                found: reader.u8(WHAT)?,
            },
            SUITE => Self::Suite {
                found: reader.u8(WHAT)?,
            },
            TOO_LARGE => Self::TooLarge {
                what: field(reader)?,
                found: reader.u64(WHAT)?,
                max: reader.u64(WHAT)?,
            },
            NOT_CANONICAL => Self::NotCanonical {
                what: field(reader)?,
            },
            INVALID => Self::Invalid {
                what: field(reader)?,
            },
            UNKNOWN_CRITICAL => Self::UnknownCritical {
                tag: reader.u16(WHAT)?,
            },
            _ => return Err(Self::Invalid { what: WHAT }),
        })
    }
}

fn put_field(code: u8, what: &str, out: &mut Vec<u8>) {
    let number = FIELDS.iter().position(|field| *field == what).unwrap_or(0);
    out.put_u8(code);
    out.put_u8(u8::try_from(number).unwrap_or(0));
}

fn field(reader: &mut Reader<'_>) -> Result<&'static str, ParseError> {
    const WHAT: &str = "field of a report";
    FIELDS
        .get(usize::from(reader.u8(WHAT)?))
        .copied()
        .ok_or(ParseError::Invalid { what: WHAT })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Timestamp,
        codec::Extensions,
        head::Head,
        id::{ChannelId, RootHash},
        identity::ClientSecretKey,
        inventory::{Child, Entry, InventoryError, InventoryRef, Node, Sums},
        live_map::LiveMap,
        reference::ObjectRef,
    };

    fn round_trip(error: &ParseError) -> Result<ParseError, ParseError> {
        let mut bytes = Vec::new();
        error.encode(&mut bytes);
        assert!(bytes.len() <= ParseError::REPORT_BYTES_MAX);
        let mut reader = Reader::new(&bytes);
        let again = ParseError::parse(&mut reader)?;
        reader.finish()?;
        Ok(again)
    }

    /// Cuts bytes anywhere and sets each to a few others, and collects what the parser says.
    fn complaints<E>(bytes: &[u8], parse: impl Fn(&[u8]) -> Result<(), E>) -> Vec<E> {
        let cut = (0..bytes.len()).map(|end| bytes[..end].to_vec());
        let set = (0..bytes.len()).flat_map(|at| {
            [0, 1, 2, 7, 0x7f, 0x80, 0xff].map(|to| {
                let mut bytes = bytes.to_vec();
                bytes[at] = to;
                bytes
            })
        });
        let long = vec![1; 1 << 16];
        cut.chain(set)
            .chain([[bytes, &[0]].concat(), long])
            .filter_map(|bytes| parse(&bytes).err())
            .collect()
    }

    /// A name missing from [`FIELDS`] would reach the client as "a field": append it there.
    #[test]
    fn whatever_is_wrong_with_a_head_or_a_node_is_reported_word_for_word() {
        let pack = ObjectRef {
            root: RootHash([7; 32]),
            length: 64 * 1024 * 1024,
        };
        let head = Head {
            channel: ChannelId([1; 32]),
            sequence: 2,
            previous: RootHash([3; 32]),
            ancestry: [4; 32],
            data: InventoryRef::EMPTY,
            vital: InventoryRef::EMPTY,
            commit: ObjectRef::of(b"commit"),
            time: Timestamp(5),
            signer: ClientSecretKey::from_seed(&[1; 32]).public(),
            extensions: Extensions::default(),
        };
        let map = |runs: Vec<core::ops::Range<u32>>| LiveMap::from_runs(4096, runs).unwrap();
        let entry = |runs| Entry::new(pack, map(runs)).unwrap();
        let many = (0..900).map(|n| 4 * n..4 * n + 1).collect();
        let child = Child {
            node: ObjectRef::of(b"node"),
            sums: Sums {
                live_blocks: 1,
                charged: 4096,
            },
        };
        let nodes = [
            Node::leaf(vec![(0, entry(vec![1..5, 9..300]))]).unwrap(),
            Node::leaf(vec![(3, entry(many))]).unwrap(),
            Node::inner(1, vec![(1, child)]).unwrap(),
        ];
        let mut errors = complaints(&head.encode(), |bytes| Head::parse(bytes).map(drop));
        for node in &nodes {
            let said = complaints(&node.encode(), |bytes| Node::parse(bytes).map(drop));
            errors.extend(said.into_iter().filter_map(|error| match error {
                InventoryError::Parse(error) => Some(error),
                _ => None,
            }));
        }
        assert!(errors.len() > 1000);
        for error in errors {
            assert_eq!(round_trip(&error), Ok(error));
        }
    }

    #[test]
    fn every_kind_of_error_comes_back_and_unknown_numbers_are_refused() {
        let what = "live map";
        let mut bytes = Vec::new();
        for error in [
            ParseError::Truncated { what },
            ParseError::Trailing { extra: 9 },
            ParseError::Magic,
            ParseError::WrongType {
                expected: 1,
                found: 2,
            },
            ParseError::Version { found: 3 },
            ParseError::Suite { found: 4 },
            ParseError::TooLarge {
                what,
                found: u64::MAX,
                max: 5,
            },
            ParseError::NotCanonical { what },
            ParseError::Invalid { what },
            ParseError::UnknownCritical { tag: 0x8001 },
        ] {
            assert_eq!(round_trip(&error), Ok(error.clone()));
            bytes.clear();
            error.encode(&mut bytes);
            for end in 0..bytes.len() {
                assert!(ParseError::parse(&mut Reader::new(&bytes[..end])).is_err());
            }
        }
        for bytes in [[0, 0], [11, 0], [TRUNCATED, 31]] {
            assert!(ParseError::parse(&mut Reader::new(&bytes)).is_err());
        }
    }

    #[test]
    fn a_field_without_a_number_is_reported_without_its_name() {
        let error = ParseError::Invalid {
            what: "something new",
        };
        let told = ParseError::Invalid { what: UNNAMED };
        assert_eq!(round_trip(&error), Ok(told));
    }
}
