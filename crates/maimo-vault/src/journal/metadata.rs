//! [`Metadata`]: what a file system says of a path besides its content.

use maimo_core::codec::{ParseError, Put, Reader};

use super::record::TEXT_BYTES_MAX;

/// A moment as file systems tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileTime {
    /// Seconds since 1970-01-01T00:00:00Z, negative before.
    pub seconds: i64,
    /// Nanoseconds after that second; below 10^9.
    pub nanos: u32,
}

/// What a file system says of a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// Permission bits with set-id and sticky bits; the file type is in the content.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// When the content last changed.
    pub modified: FileTime,
    /// When the file was made, where the system knows.
    pub created: Option<FileTime>,
    /// Extended attributes, ascending by name, each once.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the file had holes.
    pub sparse: bool,
}

const HAS_CREATED: u8 = 1;
const HAS_XATTRS: u8 = 2;
const IS_SPARSE: u8 = 4;
/// How many extended attributes a path may have.
pub const XATTRS_MAX: u64 = 256;
/// The longest name of an extended attribute, in bytes: as Linux has it.
pub const XATTR_NAME_BYTES_MAX: usize = 255;
/// The longest value of an extended attribute, in bytes: as Linux has it.
pub const XATTR_VALUE_BYTES_MAX: usize = 64 * 1024;

impl Metadata {
    /// Appends flags, numbers and times as varints, then the extended attributes: as records have it, and a client's catalog.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        if self.created.is_some() {
            flags |= HAS_CREATED;
        }
        if !self.xattrs.is_empty() {
            flags |= HAS_XATTRS;
        }
        if self.sparse {
            flags |= IS_SPARSE;
        }
        out.put_u8(flags);
        out.put_varint(self.mode.into());
        out.put_varint(self.uid.into());
        out.put_varint(self.gid.into());
        self.modified.encode(out);
        if let Some(created) = self.created {
            created.encode(out);
        }
        if !self.xattrs.is_empty() {
            out.put_varint(self.xattrs.len() as u64);
            for (name, value) in &self.xattrs {
                out.put_bytes(name);
                out.put_bytes(value);
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let flags = r.u8("metadata flags")?;
        if flags & !(HAS_CREATED | HAS_XATTRS | IS_SPARSE) != 0 {
            return Err(ParseError::Invalid {
                what: "metadata flags",
            });
        }
        let mut number = |what| {
            r.varint_max(u32::MAX.into(), what)
                .map(|value| u32::try_from(value).unwrap_or(u32::MAX))
        };
        let (mode, uid, gid) = (number("mode")?, number("owner")?, number("group")?);
        let modified = FileTime::parse(r)?;
        let created = if flags & HAS_CREATED != 0 {
            Some(FileTime::parse(r)?)
        } else {
            None
        };
        let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        if flags & HAS_XATTRS != 0 {
            let count = r.count(XATTRS_MAX, 2, "extended attributes")?;
            for _ in 0..count {
                let name = r.bytes(XATTR_NAME_BYTES_MAX, "attribute name")?.to_vec();
                let value = r.bytes(XATTR_VALUE_BYTES_MAX, "attribute value")?.to_vec();
                if xattrs.last().is_some_and(|(last, _)| *last >= name) {
                    return Err(ParseError::NotCanonical {
                        what: "order of extended attributes",
                    });
                }
                xattrs.push((name, value));
            }
            if xattrs.is_empty() {
                return Err(ParseError::NotCanonical {
                    what: "extended attributes",
                });
            }
        }
        Ok(Self {
            mode,
            uid,
            gid,
            modified,
            created,
            xattrs,
            sparse: flags & IS_SPARSE != 0,
        })
    }
}

impl FileTime {
    /// Appends the seconds (zigzag: small on both sides of 1970) and the nanoseconds, as varints.
    pub fn encode(self, out: &mut Vec<u8>) {
        let zigzag = (self.seconds << 1) ^ (self.seconds >> 63);
        out.put_varint(zigzag.cast_unsigned());
        out.put_varint(self.nanos.into());
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let zigzag = r.varint("seconds")?;
        let nanos = r.varint_max(999_999_999, "nanoseconds")?;
        Ok(Self {
            seconds: (zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()),
            nanos: u32::try_from(nanos).unwrap_or(0),
        })
    }
}

/// Reads a short UTF-8 text.
pub(super) fn parse_text(r: &mut Reader<'_>, what: &'static str) -> Result<String, ParseError> {
    let bytes = r.bytes(TEXT_BYTES_MAX, what)?;
    core::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| ParseError::Invalid { what })
}
