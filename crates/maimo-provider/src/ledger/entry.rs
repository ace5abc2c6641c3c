//! [`Change`]: what changes a channel's rows, as it stands in a volume's log.
//!
//! An entry says what was asked and when it was granted, not which rows came of it: the rules of custody are pure, so that replaying the entries of
//! a channel in order gives the same rows, to the byte and to the date. Whatever changes those rules in a way that gives other rows needs
//! new kinds of entries.

use maimo_core::{
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    custody::{PackClass, Terms},
    identity::ClientPublicKey,
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};

use super::{RecordKind, sqlite::encode};
use crate::volume::VolumeId;

/// The longest label, in bytes.
pub(crate) const LABEL_BYTES_MAX: usize = 256;

/// One change of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A client may store here from now on, or on other terms than before.
    Registered {
        client: ClientPublicKey,
        label: String,
        terms: Terms,
    },
    /// Room was taken for a pack.
    UploadBegun {
        pack: ObjectRef,
        class: PackClass,
        volume: VolumeId,
    },
    /// More of a pack came in: its room is kept longer.
    UploadRenewed { pack: ObjectRef },
    /// A pack came in whole; its file is durable.
    PackHeld {
        pack: ObjectRef,
        class: PackClass,
        volume: VolumeId,
    },
    /// A pack that is held was offered again: what waits in it waits longer.
    PackRenewed { pack: ObjectRef, class: PackClass },
    /// A pack's file is on another volume now.
    PackMoved { pack: ObjectRef, volume: VolumeId },
    /// A node was put ahead of the head that names it.
    NodePut { bytes: Vec<u8> },
    /// The head moved, by this encoded request, less the nodes that it did not need.
    HeadMoved {
        /// The roots before it, encoded: what the next head is checked by, should an entry before this one be lost.
        ancestry: Vec<u8>,
        request: Vec<u8>,
    },
    /// What may be freed was, and commits were thinned out.
    Swept,
    /// Its client may write no more, and read until then.
    Revoked { reads_until: Timestamp },
    /// Its client was here that day.
    Met,
    /// A record of the provider itself, whole, under its name in the channel's place: see [`super::Record`].
    Record {
        kind: RecordKind,
        version: u64,
        body: Vec<u8>,
    },
    /// A piece of all that the channel's rows are by now: see [`super::snapshot`].
    Snapshot {
        index: u32,
        count: u32,
        bytes: Vec<u8>,
    },
}

const REGISTERED: u8 = 1;
const UPLOAD_BEGUN: u8 = 2;
const UPLOAD_RENEWED: u8 = 3;
const PACK_HELD: u8 = 4;
const PACK_RENEWED: u8 = 5;
const PACK_MOVED: u8 = 6;
const NODE_PUT: u8 = 7;
const HEAD_MOVED: u8 = 8;
const SWEPT: u8 = 9;
const SNAPSHOT: u8 = 10;
const REVOKED: u8 = 11;
const MET: u8 = 12;
const RECORD: u8 = 13;

impl Change {
    /// Returns the kind of the log's entry.
    pub(crate) const fn kind(&self) -> u8 {
        match self {
            Self::Registered { .. } => REGISTERED,
            Self::UploadBegun { .. } => UPLOAD_BEGUN,
            Self::UploadRenewed { .. } => UPLOAD_RENEWED,
            Self::PackHeld { .. } => PACK_HELD,
            Self::PackRenewed { .. } => PACK_RENEWED,
            Self::PackMoved { .. } => PACK_MOVED,
            Self::NodePut { .. } => NODE_PUT,
            Self::HeadMoved { .. } => HEAD_MOVED,
            Self::Swept => SWEPT,
            Self::Snapshot { .. } => SNAPSHOT,
            Self::Revoked { .. } => REVOKED,
            Self::Met => MET,
            Self::Record { .. } => RECORD,
        }
    }

    /// Returns the body of the log's entry: when it was granted, then what.
    pub(crate) fn encode(&self, at: Timestamp) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        out.put_u64(at.0);
        match self {
            Self::Registered {
                client,
                label,
                terms,
            } => {
                out.put(client.as_bytes());
                out.put_bytes(label.as_bytes());
                encode::put_terms(terms, &mut out);
            }
            Self::UploadBegun {
                pack,
                class,
                volume,
            }
            | Self::PackHeld {
                pack,
                class,
                volume,
            } => {
                pack.encode(&mut out);
                put_class(*class, &mut out);
                out.put(&volume.0);
            }
            Self::UploadRenewed { pack } => pack.encode(&mut out),
            Self::PackRenewed { pack, class } => {
                pack.encode(&mut out);
                put_class(*class, &mut out);
            }
            Self::PackMoved { pack, volume } => {
                pack.encode(&mut out);
                out.put(&volume.0);
            }
            Self::NodePut { bytes } => out.put(bytes),
            Self::HeadMoved { ancestry, request } => {
                out.put_bytes(ancestry);
                out.put(request);
            }
            Self::Swept | Self::Met => {}
            Self::Revoked { reads_until } => out.put_u64(reads_until.0),
            Self::Record {
                kind,
                version,
                body,
            } => {
                out.put_u8(kind.to_number());
                out.put_u64(*version);
                out.put(body);
            }
            Self::Snapshot {
                index,
                count,
                bytes,
            } => {
                out.put_u32(*index);
                out.put_u32(*count);
                out.put(bytes);
            }
        }
        out
    }

    /// Reads an entry. What it carries of other objects is not looked into.
    pub(crate) fn parse(kind: u8, body: &[u8]) -> Result<(Timestamp, Self), ParseError> {
        const PACK: &str = "pack in the log";
        let mut reader = Reader::new(body);
        let at = Timestamp(reader.u64("time in the log")?);
        let pack = |reader: &mut Reader<'_>| ObjectRef::parse(reader, PACK_BYTES_MAX, PACK);
        let volume = |reader: &mut Reader<'_>| reader.array("volume in the log").map(VolumeId);
        let change = match kind {
            REGISTERED => Self::Registered {
                client: ClientPublicKey::parse(&mut reader, "client in the log")?,
                label: label(reader.bytes(LABEL_BYTES_MAX, "label in the log")?)?,
                terms: encode::terms(&mut reader)?,
            },
            UPLOAD_BEGUN => Self::UploadBegun {
                pack: pack(&mut reader)?,
                class: class(&mut reader)?,
                volume: volume(&mut reader)?,
            },
            UPLOAD_RENEWED => Self::UploadRenewed {
                pack: pack(&mut reader)?,
            },
            PACK_HELD => Self::PackHeld {
                pack: pack(&mut reader)?,
                class: class(&mut reader)?,
                volume: volume(&mut reader)?,
            },
            PACK_RENEWED => Self::PackRenewed {
                pack: pack(&mut reader)?,
                class: class(&mut reader)?,
            },
            PACK_MOVED => Self::PackMoved {
                pack: pack(&mut reader)?,
                volume: volume(&mut reader)?,
            },
            NODE_PUT => Self::NodePut {
                bytes: rest(&mut reader)?,
            },
            HEAD_MOVED => Self::HeadMoved {
                ancestry: reader.bytes(ANCESTRY_BYTES_MAX, "ancestry")?.to_vec(),
                request: rest(&mut reader)?,
            },
            SWEPT => Self::Swept,
            REVOKED => Self::Revoked {
                reads_until: Timestamp(reader.u64("end of reading in the log")?),
            },
            MET => Self::Met,
            RECORD => Self::Record {
                kind: RecordKind::from_number(reader.u8("kind of a record")?).ok_or(
                    ParseError::Invalid {
                        what: "kind of a record",
                    },
                )?,
                version: reader.u64("version of a record")?,
                body: rest(&mut reader)?,
            },
            SNAPSHOT => Self::Snapshot {
                index: reader.u32("index of a piece in the log")?,
                count: reader.u32("count of pieces in the log")?,
                bytes: rest(&mut reader)?,
            },
            _ => {
                return Err(ParseError::Invalid {
                    what: "kind of an entry in the log",
                });
            }
        };
        reader.finish()?;
        Ok((at, change))
    }
}

/// The longest ancestry: its count and its peaks.
const ANCESTRY_BYTES_MAX: usize = 8 + 32 * maimo_core::ancestry::Ancestry::PEAKS_MAX;

fn rest(reader: &mut Reader<'_>) -> Result<Vec<u8>, ParseError> {
    Ok(reader.take(reader.remaining(), "body")?.to_vec())
}

fn put_class(class: PackClass, out: &mut Vec<u8>) {
    out.put_u8(match class {
        PackClass::Data => 0,
        PackClass::Vital => 1,
    });
}

fn class(reader: &mut Reader<'_>) -> Result<PackClass, ParseError> {
    const WHAT: &str = "class of a pack in the log";
    match reader.u8(WHAT)? {
        0 => Ok(PackClass::Data),
        1 => Ok(PackClass::Vital),
        _ => Err(ParseError::Invalid { what: WHAT }),
    }
}

fn label(bytes: &[u8]) -> Result<String, ParseError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| ParseError::Invalid {
        what: "label in the log",
    })
}
