//! Refusals as a provider reports them to the client: a stable number, then the data. Numbers are never given anew.
//!
//! What a report says is the provider's word: it decides what a client does next, and proves nothing.

use core::ops::Range;

use crate::{
    codec::{ParseError, Put, Reader},
    head::HeadError,
    id::RootHash,
    inventory::InventoryError,
    live_map::LiveMapError,
    reference::ObjectRef,
    units::{PACK_BYTES_MAX, groups},
};

use super::{
    CapExceeded, Freeing, NotHeld, PackClass, Refusal, Unavailable, UploadRefusal,
    charge::FREES_MAX,
};
use crate::clock::Timestamp;

const WHAT: &str = "report of a refusal";
const INVALID: ParseError = ParseError::Invalid { what: WHAT };

type Result<T> = core::result::Result<T, ParseError>;

const HEAD: u8 = 1;
const CONFLICT: u8 = 2;
const SEQUENCE: u8 = 3;
const ANCESTRY: u8 = 4;
const COMMIT: u8 = 5;
const INVENTORY: u8 = 6;
const PACK_TWICE: u8 = 7;
const WRONG_CLASS: u8 = 8;
const NOT_HELD: u8 = 9;
const CAP_EXCEEDED: u8 = 10;
const UNAVAILABLE: u8 = 11;

impl Refusal {
    /// How many bytes a report takes at most: the longest list of what is not held.
    pub const REPORT_BYTES_MAX: usize = 1
        + 2
        + NotHeld::PACKS_MAX * (ObjectRef::FIXED_LENGTH + 2)
        + NotHeld::RUNS_MAX * RUN_BYTES
        + 1;

    /// Appends the report.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Head(error) => {
                out.put_u8(HEAD);
                put_head_error(error, out);
            }
            Self::Conflict { current, sequence } => {
                out.put_u8(CONFLICT);
                out.put(current.as_bytes());
                out.put_u64(*sequence);
            }
            Self::Sequence { expected } => {
                out.put_u8(SEQUENCE);
                out.put_u64(*expected);
            }
            Self::Ancestry => out.put_u8(ANCESTRY),
            Self::Commit => out.put_u8(COMMIT),
            Self::Inventory { class, source } => {
                out.put_u8(INVENTORY);
                class.encode(out);
                put_inventory_error(source, out);
            }
            Self::PackTwice { pack } => {
                out.put_u8(PACK_TWICE);
                pack.encode_fixed(out);
            }
            Self::WrongClass { pack } => {
                out.put_u8(WRONG_CLASS);
                pack.encode_fixed(out);
            }
            Self::NotHeld(not_held) => {
                out.put_u8(NOT_HELD);
                put_not_held(not_held, out);
            }
            Self::CapExceeded(exceeded) => {
                out.put_u8(CAP_EXCEEDED);
                put_cap_exceeded(exceeded, out);
            }
            Self::Unavailable(Unavailable) => out.put_u8(UNAVAILABLE),
        }
    }

    /// Reads a report.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8(WHAT)? {
            HEAD => Self::Head(head_error(reader)?),
            CONFLICT => Self::Conflict {
                current: RootHash(reader.array(WHAT)?),
                sequence: reader.u64(WHAT)?,
            },
            SEQUENCE => Self::Sequence {
                expected: reader.u64(WHAT)?,
            },
            ANCESTRY => Self::Ancestry,
            COMMIT => Self::Commit,
            INVENTORY => Self::Inventory {
                class: PackClass::parse(reader)?,
                source: inventory_error(reader)?,
            },
            PACK_TWICE => Self::PackTwice {
                pack: object(reader)?,
            },
            WRONG_CLASS => Self::WrongClass {
                pack: object(reader)?,
            },
            NOT_HELD => Self::NotHeld(not_held(reader)?),
            CAP_EXCEEDED => Self::CapExceeded(cap_exceeded(reader)?),
            UNAVAILABLE => Self::Unavailable(Unavailable),
            _ => return Err(INVALID),
        })
    }
}

const UPLOAD_LENGTH: u8 = 1;
const UPLOAD_WRONG_CLASS: u8 = 2;
const UPLOAD_NODE: u8 = 3;
const UPLOAD_CAP_EXCEEDED: u8 = 4;
const UPLOAD_UNAVAILABLE: u8 = 5;

impl UploadRefusal {
    /// Appends the report.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Length { length } => {
                out.put_u8(UPLOAD_LENGTH);
                out.put_u64(*length);
            }
            Self::WrongClass => out.put_u8(UPLOAD_WRONG_CLASS),
            Self::Node(error) => {
                out.put_u8(UPLOAD_NODE);
                put_inventory_error(error, out);
            }
            Self::CapExceeded(exceeded) => {
                out.put_u8(UPLOAD_CAP_EXCEEDED);
                put_cap_exceeded(exceeded, out);
            }
            Self::Unavailable(Unavailable) => out.put_u8(UPLOAD_UNAVAILABLE),
        }
    }

    /// Reads a report.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8(WHAT)? {
            UPLOAD_LENGTH => Self::Length {
                length: reader.u64(WHAT)?,
            },
            UPLOAD_WRONG_CLASS => Self::WrongClass,
            UPLOAD_NODE => Self::Node(inventory_error(reader)?),
            UPLOAD_CAP_EXCEEDED => Self::CapExceeded(cap_exceeded(reader)?),
            UPLOAD_UNAVAILABLE => Self::Unavailable(Unavailable),
            _ => return Err(INVALID),
        })
    }
}

impl PackClass {
    /// Appends the class as one byte: 0 data, 1 vital.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.put_u8(match self {
            Self::Data => 0,
            Self::Vital => 1,
        });
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        const WHAT: &str = "class of a pack";
        match reader.u8(WHAT)? {
            0 => Ok(Self::Data),
            1 => Ok(Self::Vital),
            _ => Err(ParseError::Invalid { what: WHAT }),
        }
    }
}

fn object(reader: &mut Reader<'_>) -> Result<ObjectRef> {
    // Whatever length was refused is reported.
    ObjectRef::parse_fixed(reader, u64::MAX, WHAT)
}

/// Start and end of a run, four bytes each.
const RUN_BYTES: usize = 8;

fn put_not_held(not_held: &NotHeld, out: &mut Vec<u8>) {
    out.put_varint(not_held.missing.len() as u64);
    for (pack, runs) in &not_held.missing {
        pack.encode_fixed(out);
        out.put_varint(runs.len() as u64);
        for run in runs {
            out.put_u32(run.start);
            out.put_u32(run.end);
        }
    }
    out.put_u8(u8::from(not_held.more));
}

fn not_held(reader: &mut Reader<'_>) -> Result<NotHeld> {
    let count = reader.count(
        NotHeld::PACKS_MAX as u64,
        ObjectRef::FIXED_LENGTH + 1 + RUN_BYTES,
        WHAT,
    )?;
    let mut missing = Vec::with_capacity(count);
    let mut room = NotHeld::RUNS_MAX;
    for _ in 0..count {
        let pack = ObjectRef::parse_fixed(reader, PACK_BYTES_MAX, WHAT)?;
        let listed = reader.count(room as u64, RUN_BYTES, WHAT)?;
        room -= listed;
        let mut runs: Vec<Range<u32>> = Vec::with_capacity(listed);
        for _ in 0..listed {
            let run = reader.u32(WHAT)?..reader.u32(WHAT)?;
            // The client turns them into a map of the pack's groups: they ascend, do not touch, and end where the pack does.
            let follows = runs.last().is_none_or(|last| last.end < run.start);
            if !follows || run.is_empty() || u64::from(run.end) > groups(pack.length) {
                return Err(INVALID);
            }
            runs.push(run);
        }
        missing.push((pack, runs));
    }
    Ok(NotHeld {
        missing,
        more: flag(reader)?,
    })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.u8(WHAT)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(INVALID),
    }
}

fn put_cap_exceeded(exceeded: &CapExceeded, out: &mut Vec<u8>) {
    out.put_u64(exceeded.over_by);
    out.put_varint(exceeded.frees.len() as u64);
    for free in &exceeded.frees {
        out.put_u64(free.date.0);
        out.put_u64(free.bytes);
    }
}

fn cap_exceeded(reader: &mut Reader<'_>) -> Result<CapExceeded> {
    let over_by = reader.u64(WHAT)?;
    let count = reader.count(FREES_MAX as u64, 16, WHAT)?;
    let mut frees = Vec::with_capacity(count);
    for _ in 0..count {
        frees.push(Freeing {
            date: Timestamp(reader.u64(WHAT)?),
            bytes: reader.u64(WHAT)?,
        });
    }
    Ok(CapExceeded { over_by, frees })
}

fn put_head_error(error: &HeadError, out: &mut Vec<u8>) {
    match error {
        HeadError::Parse(error) => {
            out.put_u8(1);
            error.encode(out);
        }
        HeadError::Channel => out.put_u8(2),
        HeadError::Signer => out.put_u8(3),
        HeadError::Signature => out.put_u8(4),
    }
}

fn head_error(reader: &mut Reader<'_>) -> Result<HeadError> {
    Ok(match reader.u8(WHAT)? {
        1 => HeadError::Parse(ParseError::parse(reader)?),
        2 => HeadError::Channel,
        3 => HeadError::Signer,
        4 => HeadError::Signature,
        _ => return Err(INVALID),
    })
}

fn put_inventory_error(error: &InventoryError, out: &mut Vec<u8>) {
    let object = |code: u8, object: &ObjectRef, out: &mut Vec<u8>| {
        out.put_u8(code);
        object.encode_fixed(out);
    };
    match error {
        InventoryError::Parse(error) => {
            out.put_u8(1);
            error.encode(out);
        }
        InventoryError::LiveMap(LiveMapError::TooManyRuns { found }) => {
            out.put_u8(2);
            out.put_u64(*found as u64);
        }
        InventoryError::LiveMap(LiveMapError::OutOfRange { start, end, groups }) => {
            out.put_u8(3);
            out.put_u32(*start);
            out.put_u32(*end);
            out.put_u32(*groups);
        }
        InventoryError::PackLength { length } => {
            out.put_u8(4);
            out.put_u64(*length);
        }
        InventoryError::Groups { expected, found } => {
            out.put_u8(5);
            out.put_u64(*expected);
            out.put_u64(*found);
        }
        InventoryError::NothingLives => out.put_u8(6),
        InventoryError::MissingNode { node } => object(7, node, out),
        InventoryError::WrongNode { node } => object(8, node, out),
        InventoryError::Level { expected, found } => out.put(&[9, *expected, *found]),
        InventoryError::TooDeep => out.put_u8(10),
        InventoryError::Sums { node } => object(11, node, out),
        InventoryError::Overflow => out.put_u8(12),
        InventoryError::PackTwice { pack } => object(13, pack, out),
        InventoryError::UnknownPack { root } => {
            out.put_u8(14);
            out.put(root.as_bytes());
        }
        InventoryError::OtherLength { pack } => object(15, pack, out),
        InventoryError::TooManyPacks { max } => {
            out.put_u8(16);
            out.put_u64(*max);
        }
        InventoryError::TooMuchWork { max } => {
            out.put_u8(17);
            out.put_u64(*max as u64);
        }
    }
}

fn inventory_error(reader: &mut Reader<'_>) -> Result<InventoryError> {
    let number = |reader: &mut Reader<'_>| {
        let number = reader.u64(WHAT)?;
        usize::try_from(number).map_err(|_| INVALID)
    };
    Ok(match reader.u8(WHAT)? {
        1 => InventoryError::Parse(ParseError::parse(reader)?),
        2 => InventoryError::LiveMap(LiveMapError::TooManyRuns {
            found: number(reader)?,
        }),
        3 => InventoryError::LiveMap(LiveMapError::OutOfRange {
            start: reader.u32(WHAT)?,
            end: reader.u32(WHAT)?,
            groups: reader.u32(WHAT)?,
        }),
        4 => InventoryError::PackLength {
            length: reader.u64(WHAT)?,
        },
        5 => InventoryError::Groups {
            expected: reader.u64(WHAT)?,
            found: reader.u64(WHAT)?,
        },
        6 => InventoryError::NothingLives,
        7 => InventoryError::MissingNode {
            node: object(reader)?,
        },
        8 => InventoryError::WrongNode {
            node: object(reader)?,
        },
        9 => InventoryError::Level {
            expected: reader.u8(WHAT)?,
            found: reader.u8(WHAT)?,
        },
        10 => InventoryError::TooDeep,
        11 => InventoryError::Sums {
            node: object(reader)?,
        },
        12 => InventoryError::Overflow,
        13 => InventoryError::PackTwice {
            pack: object(reader)?,
        },
        14 => InventoryError::UnknownPack {
            root: RootHash(reader.array(WHAT)?),
        },
        15 => InventoryError::OtherLength {
            pack: object(reader)?,
        },
        16 => InventoryError::TooManyPacks {
            max: reader.u64(WHAT)?,
        },
        17 => InventoryError::TooMuchWork {
            max: number(reader)?,
        },
        _ => return Err(INVALID),
    })
}

#[cfg(test)]
mod tests;
