//! Which head is asked for, and a head as it is shown.

use bytes::Bytes;
use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::{ParseError, Put as _, Reader},
    head::SignedHead,
};

use super::{COMMIT_BYTES, VARINT_BYTES, check_length};
use crate::service::{ShownHead, WhichHead};

const NEWEST: u8 = 0;
const SEQUENCE: u8 = 1;
const AT: u8 = 2;

impl WhichHead {
    /// How many bytes it takes at most.
    pub const LENGTH_MAX: usize = 9;

    /// Returns it as bytes.
    pub fn encode(self) -> Vec<u8> {
        let (code, number) = match self {
            Self::Newest => return vec![NEWEST],
            Self::Sequence(sequence) => (SEQUENCE, sequence),
            Self::At(time) => (AT, time.0),
        };
        let mut out = Vec::with_capacity(Self::LENGTH_MAX);
        out.put_u8(code);
        out.put_u64(number);
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "which head";
        let mut reader = Reader::new(bytes);
        let which = match reader.u8(WHAT)? {
            NEWEST => Self::Newest,
            SEQUENCE => Self::Sequence(reader.u64(WHAT)?),
            AT => Self::At(Timestamp(reader.u64(WHAT)?)),
            _ => return Err(ParseError::Invalid { what: WHAT }),
        };
        reader.finish()?;
        Ok(which)
    }
}

/// How many bytes a sequence number takes.
pub(super) const SEQUENCE_BYTES: usize = 8;

/// Returns the sequence number that a proof is asked of as bytes.
pub fn encode_sequence(sequence: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEQUENCE_BYTES);
    out.put_u64(sequence);
    out
}

/// Reads what [`encode_sequence`] wrote.
pub fn parse_sequence(bytes: &[u8]) -> Result<u64, ParseError> {
    let mut reader = Reader::new(bytes);
    let sequence = reader.u64("sequence number")?;
    reader.finish()?;
    Ok(sequence)
}

/// The longest encoded [`Ancestry`].
const ANCESTRY_BYTES_MAX: usize = VARINT_BYTES + 32 * Ancestry::PEAKS_MAX;
/// The time, three lengths, whether there is a commit, and the three objects.
pub(super) const SHOWN_BYTES_MAX: usize =
    8 + 3 * 4 + 1 + SignedHead::LENGTH_MAX + ANCESTRY_BYTES_MAX + COMMIT_BYTES;

/// Returns a head as bytes: time, head, ancestry, whether there is a commit, and that; no bytes where there is no head.
pub fn encode_shown(shown: Option<&ShownHead>) -> Vec<u8> {
    let mut out = Vec::new();
    let Some(shown) = shown else { return out };
    out.put_u64(shown.admitted.0);
    out.put_bytes(&shown.head);
    out.put_bytes(&shown.ancestry);
    out.put_u8(u8::from(shown.commit.is_some()));
    if let Some(commit) = &shown.commit {
        out.put_bytes(commit);
    }
    out
}

/// Reads what [`encode_shown`] wrote.
pub fn parse_shown(body: &Bytes) -> Result<Option<ShownHead>, ParseError> {
    const COMMIT: &str = "commit";
    check_length(body.len(), SHOWN_BYTES_MAX, "head that is shown")?;
    if body.is_empty() {
        return Ok(None);
    }
    let mut reader = Reader::new(body);
    let shown = ShownHead {
        admitted: Timestamp(reader.u64("time")?),
        head: body.slice_ref(reader.bytes(SignedHead::LENGTH_MAX, "signed head")?),
        ancestry: body.slice_ref(reader.bytes(ANCESTRY_BYTES_MAX, "ancestry")?),
        commit: match reader.u8(COMMIT)? {
            0 => None,
            1 => Some(body.slice_ref(reader.bytes(COMMIT_BYTES, COMMIT)?)),
            _ => return Err(ParseError::Invalid { what: COMMIT }),
        },
    };
    reader.finish()?;
    Ok(Some(shown))
}
