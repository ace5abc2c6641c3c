//! One record of the journal: a single fact about the store, never edited once written.

use maimo_core::{
    codec::{ParseError, Put, Reader},
    id::ChannelId,
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};

use super::{
    content::{Content, parse_count, parse_u32},
    metadata::{Metadata, parse_text},
    names::{NameTable, Names},
};
use crate::{
    name::{ChunkId, ChunkRef, Domain, PackNumber, RecordId, SourceId},
    path::StorePath,
    retention::Policy,
};

/// A fact about the store.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Record {
    /// A machine whose paths are in the store.
    Source {
        /// Its id.
        source: SourceId,
        /// What its owner calls it.
        label: String,
    },
    /// A channel of the store: enough to find it again from another one.
    Channel {
        /// Its id.
        channel: ChannelId,
        /// The auth key it was opened with: the client's key of the channel derives from it.
        auth: [u8; 32],
        /// What its owner calls it.
        name: String,
        /// Where the provider is to be found: text forms, most recent first.
        addresses: Vec<String>,
        /// Whether it has been closed.
        closed: bool,
    },
    /// How the store is spread over channels, from a layout epoch on.
    Layout {
        /// Counts up with each change; of two branches the higher one wins.
        epoch: u64,
        /// The channels that hold everything; the first decides commits.
        channels: Vec<ChannelId>,
    },
    /// A pack holds a number on a channel.
    Pack {
        /// The number.
        number: PackNumber,
        /// The channel.
        channel: ChannelId,
        /// The object there.
        reference: ObjectRef,
    },
    /// Chunks were written again elsewhere; who finds the old reference follows this one.
    Moved {
        /// The first chunk moved.
        from: ChunkRef,
        /// Where it is now.
        to: ChunkRef,
        /// How many chunks in a row.
        count: u32,
    },
    /// A `store` began; the record's own id is the run's.
    RunBegin {
        /// The machine whose files it stores.
        source: SourceId,
        /// When, in milliseconds since 1970.
        time: u64,
    },
    /// A `store` completed.
    RunEnd {
        /// The record that began it.
        run: RecordId,
        /// When, in milliseconds since 1970.
        time: u64,
        /// How many files it saw.
        files: u64,
        /// How many bytes it added, sealed.
        bytes_stored: u64,
    },
    /// A path as it was found: a revision, named by the record's own id.
    File {
        /// The machine.
        source: SourceId,
        /// The path there.
        path: StorePath,
        /// What is there.
        metadata: Metadata,
        /// Its content.
        content: Content,
    },
    /// Something happened to a path that left no content behind.
    Path {
        /// The machine.
        source: SourceId,
        /// The path there.
        path: StorePath,
        /// What happened.
        event: PathEvent,
    },
    /// Runs and revisions that no policy keeps any more; says so for every device alike, whatever its clock.
    Dropped {
        /// The records that began the runs, or that are the revisions; ascending.
        ids: Vec<RecordId>,
    },
    /// A run or a revision is kept, or no longer kept, whatever the policy.
    Pin {
        /// The run or revision.
        id: RecordId,
        /// Whether it is kept from here on.
        pinned: bool,
    },
    /// What is kept of runs; the empty pattern is the store's policy.
    Policy {
        /// The paths it is for: a glob, or empty.
        pattern: String,
        /// What is kept, or nothing to fall back to the store's.
        policy: Option<Policy>,
    },
    /// A zstd dictionary in a vital pack.
    Dictionary {
        /// Its identity.
        id: ChunkId,
        /// The dedup domain whose chunks may use it.
        domain: Domain,
        /// Where it is.
        chunk: ChunkRef,
        /// Whether nothing kept needs it, and no head names it any more.
        retired: bool,
    },
    /// A record of a later version that an older program may pass over: kept as it is.
    Unknown {
        /// Its type byte, not critical.
        kind: u8,
        /// Its bytes.
        body: Vec<u8>,
    },
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PathEvent {
    /// A scan that could read its folder did not find it.
    Gone = 0,
    /// The local copy was deleted on purpose, after possession was proven.
    Evicted = 1,
    /// It was evicted or gone and is there again, unchanged.
    Found = 2,
    /// Its owner took it out of the store.
    Removed = 3,
}

/// The longest text: a label, a pattern, an address.
pub const TEXT_BYTES_MAX: usize = 1024;
/// How many addresses a channel record may hold.
pub const ADDRESSES_MAX: u64 = 16;
/// How many channels a layout may have.
pub const CHANNELS_MAX: u64 = 32;
/// How many ids one `Dropped` record may hold.
pub const DROPPED_MAX: usize = 4096;
impl Record {
    /// The bit of a record's type byte that says: who does not know it must not go on.
    pub const CRITICAL: u8 = 0x80;

    /// Returns the record's type byte.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Source { .. } => 0x80,
            Self::Channel { .. } => 0x81,
            Self::Layout { .. } => 0x82,
            Self::Pack { .. } => 0x83,
            Self::Moved { .. } => 0x84,
            Self::RunBegin { .. } => 0x85,
            Self::RunEnd { .. } => 0x86,
            Self::File { .. } => 0x87,
            Self::Path { .. } => 0x88,
            Self::Dropped { .. } => 0x89,
            Self::Pin { .. } => 0x8a,
            Self::Policy { .. } => 0x8b,
            Self::Dictionary { .. } => 0x8c,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Appends the body; `previous` is the path of the last record of the batch that had one.
    pub(super) fn encode_body(
        &self,
        names: &mut Names,
        previous: Option<&StorePath>,
        out: &mut Vec<u8>,
    ) {
        match self {
            Self::Source { source, label } => {
                out.put_varint(names.source(*source));
                out.put_bytes(label.as_bytes());
            }
            Self::Channel {
                channel,
                auth,
                name,
                addresses,
                closed,
            } => {
                out.put_varint(names.channel(*channel));
                out.put(auth);
                out.put_bytes(name.as_bytes());
                out.put_varint(addresses.len() as u64);
                for address in addresses {
                    out.put_bytes(address.as_bytes());
                }
                out.put_u8(u8::from(*closed));
            }
            Self::Layout { epoch, channels } => {
                out.put_varint(*epoch);
                out.put_varint(channels.len() as u64);
                for channel in channels {
                    out.put_varint(names.channel(*channel));
                }
            }
            Self::Pack {
                number,
                channel,
                reference,
            } => {
                names.put_pack(*number, out);
                out.put_varint(names.channel(*channel));
                reference.encode(out);
            }
            Self::Moved { from, to, count } => {
                names.put_chunk(*from, out);
                names.put_chunk(*to, out);
                out.put_varint(u64::from(*count));
            }
            Self::RunBegin { source, time } => {
                out.put_varint(names.source(*source));
                out.put_varint(*time);
            }
            Self::RunEnd {
                run,
                time,
                files,
                bytes_stored,
            } => {
                names.put_record(*run, out);
                out.put_varint(*time);
                out.put_varint(*files);
                out.put_varint(*bytes_stored);
            }
            Self::File {
                source,
                path,
                metadata,
                content,
            } => {
                out.put_varint(names.source(*source));
                path.encode_after(previous, out);
                metadata.encode(out);
                content.encode(names, path, out);
            }
            Self::Path {
                source,
                path,
                event,
            } => {
                out.put_varint(names.source(*source));
                path.encode_after(previous, out);
                out.put_u8(*event as u8);
            }
            Self::Dropped { ids } => {
                out.put_varint(ids.len() as u64);
                let mut last: Option<RecordId> = None;
                for id in ids {
                    out.put_varint(names.writer(id.writer));
                    // Runs of one writer count up: the gap is one or two bytes where the counter would be five.
                    let base = last
                        .filter(|last| last.writer == id.writer)
                        .map_or(0, |last| last.counter.saturating_add(1));
                    out.put_varint(id.counter.saturating_sub(base));
                    last = Some(*id);
                }
            }
            Self::Pin { id, pinned } => {
                names.put_record(*id, out);
                out.put_u8(u8::from(*pinned));
            }
            Self::Policy { pattern, policy } => {
                out.put_bytes(pattern.as_bytes());
                out.put_u8(u8::from(policy.is_some()));
                if let Some(policy) = policy {
                    policy.encode(out);
                }
            }
            Self::Dictionary {
                id,
                domain,
                chunk,
                retired,
            } => {
                out.put(&id.0);
                out.put_varint(u64::from(domain.0));
                names.put_chunk(*chunk, out);
                out.put_u8(u8::from(*retired));
            }
            Self::Unknown { body, .. } => out.put(body),
        }
    }

    /// Reads the body of a record of type `kind`.
    pub(super) fn parse_body(
        kind: u8,
        body: &[u8],
        names: &NameTable,
        previous: Option<&StorePath>,
    ) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let record = match kind {
            0x80 => Self::Source {
                source: names.read_source(r)?,
                label: parse_text(r, "source label")?,
            },
            0x81 => Self::Channel {
                channel: names.read_channel(r)?,
                auth: r.array("auth key")?,
                name: parse_text(r, "channel name")?,
                addresses: {
                    let count = r.count(ADDRESSES_MAX, 1, "addresses")?;
                    (0..count)
                        .map(|_| parse_text(r, "address"))
                        .collect::<Result<_, _>>()?
                },
                closed: parse_bool(r, "channel state")?,
            },
            0x82 => Self::Layout {
                epoch: r.varint("layout epoch")?,
                channels: parse_layout(names, r)?,
            },
            0x83 => Self::Pack {
                number: names.read_pack(r)?,
                channel: names.read_channel(r)?,
                reference: ObjectRef::parse(r, PACK_BYTES_MAX, "pack reference")?,
            },
            0x84 => {
                let (from, to) = (names.read_chunk(r)?, names.read_chunk(r)?);
                let count = parse_count(r, from.index.max(to.index), "moved chunks")?;
                Self::Moved { from, to, count }
            }
            0x85 => Self::RunBegin {
                source: names.read_source(r)?,
                time: r.varint("time")?,
            },
            0x86 => Self::RunEnd {
                run: names.read_record(r)?,
                time: r.varint("time")?,
                files: r.varint("files")?,
                bytes_stored: r.varint("bytes stored")?,
            },
            0x87 => {
                let source = names.read_source(r)?;
                let path = StorePath::parse_after(previous, r)?;
                let metadata = Metadata::parse(r)?;
                let content = Content::parse(names, &path, r)?;
                Self::File {
                    source,
                    path,
                    metadata,
                    content,
                }
            }
            0x88 => Self::Path {
                source: names.read_source(r)?,
                path: StorePath::parse_after(previous, r)?,
                event: match r.u8("path event")? {
                    0 => PathEvent::Gone,
                    1 => PathEvent::Evicted,
                    2 => PathEvent::Found,
                    3 => PathEvent::Removed,
                    _ => return Err(ParseError::Invalid { what: "path event" }),
                },
            },
            0x89 => Self::Dropped {
                ids: parse_dropped(names, r)?,
            },
            0x8a => Self::Pin {
                id: names.read_record(r)?,
                pinned: parse_bool(r, "pin")?,
            },
            0x8b => Self::Policy {
                pattern: parse_text(r, "pattern")?,
                policy: if parse_bool(r, "policy")? {
                    Some(Policy::parse(r)?)
                } else {
                    None
                },
            },
            0x8c => Self::Dictionary {
                id: ChunkId(r.array("dictionary id")?),
                domain: Domain(parse_u32(r, "domain")?),
                chunk: names.read_chunk(r)?,
                retired: parse_bool(r, "dictionary state")?,
            },
            _ if kind & Self::CRITICAL != 0 => {
                return Err(ParseError::UnknownCritical { tag: kind.into() });
            }
            _ => {
                return Ok(Self::Unknown {
                    kind,
                    body: body.to_vec(),
                });
            }
        };
        reader.finish()?;
        Ok(record)
    }

    /// Returns about how many bytes the record's paths take in memory.
    pub(super) fn paths_bytes(&self) -> usize {
        let linked = match self {
            Self::File {
                content: Content::HardLink(to),
                ..
            } => to.memory_bytes(),
            _ => 0,
        };
        linked + self.path().map_or(0, StorePath::memory_bytes)
    }

    /// Returns the path that the next record of a batch leaves components out against.
    pub(super) fn path(&self) -> Option<&StorePath> {
        match self {
            Self::File { path, .. } | Self::Path { path, .. } => Some(path),
            _ => None,
        }
    }
}

fn parse_layout(names: &NameTable, r: &mut Reader<'_>) -> Result<Vec<ChannelId>, ParseError> {
    let what = "layout channels";
    let count = r.count(CHANNELS_MAX, 1, what)?;
    let mut channels = Vec::with_capacity(count);
    for _ in 0..count {
        let channel = names.read_channel(r)?;
        // At most `CHANNELS_MAX` are looked through.
        if channels.contains(&channel) {
            return Err(ParseError::Invalid { what });
        }
        channels.push(channel);
    }
    Ok(channels)
}

fn parse_dropped(names: &NameTable, r: &mut Reader<'_>) -> Result<Vec<RecordId>, ParseError> {
    let count = r.count(DROPPED_MAX as u64, 2, "dropped ids")?;
    let mut ids: Vec<RecordId> = Vec::with_capacity(count);
    for _ in 0..count {
        let writer = names.read_writer(r)?;
        let gap = r.varint("dropped id")?;
        let last = ids.last().copied();
        let base = match last.filter(|last| last.writer == writer) {
            Some(last) => last.counter.checked_add(1),
            None => Some(0),
        };
        let counter = base
            .and_then(|base| base.checked_add(gap))
            .ok_or(ParseError::Invalid { what: "dropped id" })?;
        let id = RecordId { writer, counter };
        if last.is_some_and(|last| last >= id) {
            return Err(ParseError::NotCanonical {
                what: "order of dropped ids",
            });
        }
        ids.push(id);
    }
    Ok(ids)
}

fn parse_bool(r: &mut Reader<'_>, what: &'static str) -> Result<bool, ParseError> {
    match r.u8(what)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(ParseError::Invalid { what }),
    }
}
