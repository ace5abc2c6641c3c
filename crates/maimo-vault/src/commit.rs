//! The commit: a store's newest state, sealed for one channel and sent with the head.
//!
//! Its first part is the store's and the same on every channel: what came before, which run, what each channel last showed. The second is
//! the channel's: where its journal segments are. Between them stands the *tail*, the newest records and small chunks, which make a
//! small change one request. All of it is sealed anew for each channel, as equal bytes would link them.

use std::collections::BTreeSet;

use maimo_core::{
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    error::{Classify, ErrorKind, Retry},
    head::COMMIT_BYTES_MAX,
    id::{ChannelId, RootHash},
    reference::ObjectRef,
    units::PACK_BYTES_MAX,
};
use rand_core::CryptoRng;
use thiserror::Error;

use crate::{
    aead::{NONCE_BYTES, TAG_BYTES},
    keys::{CommitKey, CommitName, CommitNameKey, StoreId},
    name::{PackNumber, RecordId, WriterId},
    pack::Piece,
};

/// How many bytes of tail a commit carries; what would pass them is written into packs.
pub const TAIL_BYTES_MAX: usize = 8 * 1024;
/// Commits are padded to a multiple of so many bytes: a length to the byte would tell which small file changed.
pub const COMMIT_STEP_BYTES: usize = 512;
/// How many segments a journal may have.
pub const SEGMENTS_MAX: u64 = 1024;
/// How many channels a commit may bear witness of.
pub const WITNESSES_MAX: u64 = 32;
/// How many commits one may follow.
pub const PARENTS_MAX: u64 = 2;

/// What all channels' commits of one store sequence have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorePart {
    /// The store.
    pub store: StoreId,
    /// 1 for a store's first commit, one more than the highest parent's for each after.
    pub sequence: u64,
    /// The commits this one follows: one, or two where branches were joined, or none for the first.
    pub parents: Vec<CommitName>,
    /// Who made it.
    pub writer: WriterId,
    /// The run it belongs to, if any.
    pub run: Option<RecordId>,
    /// Counts up whenever the layout changes; of two branches the higher one wins.
    pub layout_epoch: u64,
    /// What each channel last showed, ascending by channel: the evidence by which one channel tells of another's rollback.
    pub witnesses: Vec<Witness>,
}

/// What a channel showed when a commit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Witness {
    /// The channel.
    pub channel: ChannelId,
    /// Sequence number of its head.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
}

impl StorePart {
    /// Returns the name by which later commits call this one.
    pub fn name(&self, key: &CommitNameKey) -> CommitName {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        key.name(&bytes)
    }

    /// Appends the part as a commit has it, and a client's catalog.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.store.0);
        out.put_varint(self.sequence);
        out.put_varint(self.parents.len() as u64);
        for parent in &self.parents {
            out.put(&parent.0);
        }
        out.put(&self.writer.0);
        out.put_u8(u8::from(self.run.is_some()));
        if let Some(run) = self.run {
            out.put(&run.writer.0);
            out.put_varint(run.counter);
        }
        out.put_varint(self.layout_epoch);
        out.put_varint(self.witnesses.len() as u64);
        for witness in &self.witnesses {
            out.put(witness.channel.as_bytes());
            out.put_varint(witness.sequence);
            out.put(witness.root.as_bytes());
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let store = StoreId(r.array("store id")?);
        let sequence = r.varint("store sequence")?;
        let count = r.count(PARENTS_MAX, 32, "parents")?;
        let mut parents = Vec::with_capacity(count);
        for _ in 0..count {
            parents.push(CommitName(r.array("parent")?));
        }
        if parents.len() == 2 && parents[0] == parents[1] {
            return Err(ParseError::Invalid { what: "parents" });
        }
        if sequence == 0 || (sequence == 1) != parents.is_empty() {
            return Err(ParseError::Invalid {
                what: "store sequence",
            });
        }
        let writer = WriterId::parse(r)?;
        let run = match r.u8("run")? {
            0 => None,
            1 => Some(RecordId {
                writer: WriterId::parse(r)?,
                counter: r.varint("run")?,
            }),
            _ => return Err(ParseError::Invalid { what: "run" }),
        };
        let layout_epoch = r.varint("layout epoch")?;
        let count = r.count(WITNESSES_MAX, 65, "witnesses")?;
        let mut witnesses: Vec<Witness> = Vec::with_capacity(count);
        for _ in 0..count {
            let witness = Witness {
                channel: ChannelId(r.array("witness")?),
                sequence: r.varint("witness")?,
                root: RootHash(r.array("witness")?),
            };
            if witnesses
                .last()
                .is_some_and(|last| last.channel >= witness.channel)
            {
                return Err(ParseError::NotCanonical {
                    what: "order of witnesses",
                });
            }
            witnesses.push(witness);
        }
        Ok(Self {
            store,
            sequence,
            parents,
            writer,
            run,
            layout_epoch,
            witnesses,
        })
    }
}

/// A journal segment as the store knows it, on whatever channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// The pack number of its vital pack.
    pub number: PackNumber,
    /// Sequence of the commit that first listed it: what its records of sequence 0 were brought by.
    pub sequence: u64,
    /// How many merges made it.
    pub level: u8,
}

/// One commit's records and small chunks, carried on in the tail until it overflows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPiece {
    /// Sequence of the commit that brought it.
    pub sequence: u64,
    /// Its records and chunks.
    pub piece: Piece,
}

/// A store's newest state on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// What is the same on all channels.
    pub store: StorePart,
    /// The journal's segments and their packs on this channel, in the order they were written.
    pub journal: Vec<(Segment, ObjectRef)>,
    /// The newest commits' records and chunks, oldest first.
    pub tail: Vec<TailPiece>,
    /// What later versions add.
    pub extensions: Extensions,
}

/// Why a commit cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenCommitError {
    /// The seal does not open.
    #[error("cannot open the commit")]
    CannotOpen,
    /// It is not in the format.
    #[error(transparent)]
    Parse(#[from] ParseError),
}

impl Classify for OpenCommitError {
    fn kind(&self) -> ErrorKind {
        // The caller has held the bytes against the head, which the store's own key signed.
        match self {
            Self::CannotOpen => ErrorKind::BadInput,
            Self::Parse(error) => error.kind(),
        }
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::CannotOpen => {
                Some("the commit belongs to another store, or was damaged before it was sent")
            }
            Self::Parse(error) => error.hint(),
        }
    }
}

/// A commit that would be longer than a head may name: merge the journal first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the commit would take {length} bytes, more than the {COMMIT_BYTES_MAX} allowed")]
pub struct CommitTooLong {
    /// How long it would be.
    pub length: u64,
}

impl Commit {
    /// Returns the tail's length in bytes as encoded.
    pub fn tail_bytes(tail: &[TailPiece]) -> usize {
        tail.iter().map(|piece| piece.piece.encoded_length()).sum()
    }

    /// Encodes, pads and seals the commit for one channel; the nonce is drawn from `rng`.
    ///
    /// # Errors
    ///
    /// [`CommitTooLong`]: the journal has too many segments.
    pub fn seal(
        &self,
        key: &CommitKey,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<u8>, CommitTooLong> {
        let mut out = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::Commit, &mut out);
        let ad = out.clone();
        let mut nonce = [0; NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        out.put(&nonce);
        self.encode(&mut out);
        let padded = (out.len() + TAG_BYTES).next_multiple_of(COMMIT_STEP_BYTES);
        out.resize(padded - TAG_BYTES, 0);
        if padded as u64 > COMMIT_BYTES_MAX {
            return Err(CommitTooLong {
                length: padded as u64,
            });
        }
        let tag = key.seal_in_place(&nonce, &ad, &mut out[OVERHEAD_FRONT..]);
        out.put(&tag);
        Ok(out)
    }

    /// Opens a commit, whose bytes the caller has held against the head.
    pub fn open(bytes: &[u8], key: &CommitKey) -> Result<Self, OpenCommitError> {
        if bytes.len() as u64 > COMMIT_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "commit",
                found: bytes.len() as u64,
                max: COMMIT_BYTES_MAX,
            }
            .into());
        }
        let mut reader = Reader::new(bytes);
        let ad = bytes.get(..Prelude::LENGTH).unwrap_or_default();
        let prelude = Prelude::parse(&mut reader, ObjectType::Commit)?;
        if prelude.epoch != 0 {
            return Err(ParseError::Invalid { what: "key epoch" }.into());
        }
        let nonce = reader.array::<NONCE_BYTES>("nonce")?;
        let sealed = reader.take(reader.remaining(), "sealed commit")?;
        let (body, tag) = sealed
            .split_last_chunk::<TAG_BYTES>()
            .ok_or(ParseError::Truncated { what: "commit" })?;
        let mut body = body.to_vec();
        key.open_in_place(&nonce, ad, &mut body, tag)
            .map_err(|_| OpenCommitError::CannotOpen)?;
        if !bytes.len().is_multiple_of(COMMIT_STEP_BYTES) {
            return Err(ParseError::Invalid { what: "padding" }.into());
        }
        let mut r = Reader::new(&body);
        let commit = Self::parse(&mut r)?;
        let padding = r.take(r.remaining(), "padding")?;
        if padding.len() >= COMMIT_STEP_BYTES || padding.iter().any(|byte| *byte != 0) {
            return Err(ParseError::NotCanonical { what: "padding" }.into());
        }
        Ok(commit)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.store.encode(out);
        out.put_varint(self.journal.len() as u64);
        for (segment, reference) in &self.journal {
            out.put(&segment.number.writer.0);
            out.put_varint(segment.number.n);
            out.put_varint(segment.sequence);
            out.put_u8(segment.level);
            reference.encode(out);
        }
        out.put_varint(self.tail.len() as u64);
        let mut piece = Vec::new();
        for tail in &self.tail {
            out.put_varint(tail.sequence);
            piece.clear();
            tail.piece.encode(&mut piece);
            out.put_bytes(&piece);
        }
        self.extensions.encode(out);
    }

    fn parse(r: &mut Reader<'_>) -> Result<Self, ParseError> {
        let store = StorePart::parse(r)?;
        // Neither is the future's, nor does it stand for "this one" as it does in a batch.
        let sequence = |r: &mut Reader<'_>, what| match r.varint_max(store.sequence, what)? {
            0 => Err(ParseError::Invalid { what }),
            sequence => Ok(sequence),
        };
        let mut numbers = BTreeSet::new();
        let mut first = |number, what| {
            let is_new = numbers.insert(number);
            is_new.then_some(()).ok_or(ParseError::Invalid { what })
        };
        let count = r.count(SEGMENTS_MAX, 52, "segments")?;
        let mut journal = Vec::with_capacity(count);
        for _ in 0..count {
            let segment = Segment {
                number: PackNumber {
                    writer: WriterId::parse(r)?,
                    n: r.varint("segment")?,
                },
                sequence: sequence(r, "segment")?,
                level: r.u8("segment")?,
            };
            first(segment.number, "segment that stands twice")?;
            let reference = ObjectRef::parse(r, PACK_BYTES_MAX, "segment")?;
            journal.push((segment, reference));
        }
        let count = r.count(TAIL_BYTES_MAX as u64, 2, "tail")?;
        let mut tail = Vec::with_capacity(count);
        for _ in 0..count {
            let sequence = sequence(r, "tail piece")?;
            let piece = Piece::parse(r.bytes(TAIL_BYTES_MAX, "tail piece")?)?;
            first(piece.number(), "tail piece that stands twice")?;
            tail.push(TailPiece { sequence, piece });
        }
        if Self::tail_bytes(&tail) > TAIL_BYTES_MAX {
            return Err(ParseError::TooLarge {
                what: "tail",
                found: Self::tail_bytes(&tail) as u64,
                max: TAIL_BYTES_MAX as u64,
            });
        }
        Ok(Self {
            store,
            journal,
            tail,
            extensions: Extensions::parse(r)?,
        })
    }
}

/// What stands before the sealed part: the prelude and the nonce.
const OVERHEAD_FRONT: usize = Prelude::LENGTH + NONCE_BYTES;

#[cfg(test)]
mod tests;
