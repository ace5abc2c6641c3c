//! Compression of one chunk into one frame, and back.
//!
//! A frame is raw bytes or a zstd frame (RFC 8878) with everything left out that the pack's table and the seal say better: no magic
//! number, no content size, no checksum, no dictionary id. What is left before the blocks is two bytes, so a tiny file pays no more.
//! Nothing here checks integrity: only frames that a seal has vouched for may be handed to a [`Decompressor`], and even then what comes
//! out is exactly as long as was asked for, or an error.

use core::fmt;

use maimo_core::{
    codec::{ParseError, Reader},
    error::{Classify, ErrorKind, Retry},
};
use thiserror::Error;
use zstd::{
    bulk,
    zstd_safe::{CParameter, DCtx, DParameter, FrameFormat},
};

use crate::dictionary::Dictionary;

/// The farthest back a frame may refer, as a power of two in bytes: what level 19 uses.
pub const WINDOW_LOG_MAX: u8 = 23;

/// How a frame's bytes are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// The plaintext itself.
    Raw = 0,
    /// A zstd frame.
    Zstd = 1,
    /// A zstd frame that refers to a dictionary.
    ZstdDictionary = 2,
}

impl Codec {
    /// Reads the codec byte.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        match reader.u8("codec")? {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Zstd),
            2 => Ok(Self::ZstdDictionary),
            _ => Err(ParseError::Invalid { what: "codec" }),
        }
    }
}

/// A zstd level from 1 to 19; 3 unless set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// The quickest.
    pub const MIN: Self = Self(1);
    /// The densest: those beyond take memory that a reader would have to take too.
    pub const MAX: Self = Self(19);

    /// Returns the level, or `None` outside of 1 to 19.
    pub const fn new(level: u8) -> Option<Self> {
        if level < Self::MIN.0 || level > Self::MAX.0 {
            None
        } else {
            Some(Self(level))
        }
    }

    /// Returns the level as zstd takes it.
    pub const fn as_i32(self) -> i32 {
        self.0 as i32
    }
}

impl Default for Level {
    fn default() -> Self {
        Self(3)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A compressed chunk, not yet sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How to read [`Self::bytes`].
    pub codec: Codec,
    /// The plaintext, or less.
    pub bytes: &'a [u8],
}

/// Compresses chunks one by one, keeping zstd's tables and one buffer between them.
///
/// `'d` is the life of the dictionaries it may be shown.
pub struct Compressor<'d> {
    zstd: bulk::Compressor<'d>,
    level: Level,
    buffer: Vec<u8>,
}

impl<'d> Compressor<'d> {
    /// Prepares for `level`.
    ///
    /// # Panics
    ///
    /// Where zstd finds no memory.
    pub fn new(level: Level) -> Self {
        let mut zstd = bulk::Compressor::default();
        for parameter in [
            CParameter::CompressionLevel(level.as_i32()),
            CParameter::Format(FrameFormat::Magicless),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            zstd.set_parameter(parameter)
                .expect("zstd takes these parameters and a level within its bounds");
        }
        Self {
            zstd,
            level,
            buffer: Vec::new(),
        }
    }

    /// Returns the level it was made for.
    pub const fn level(&self) -> Level {
        self.level
    }

    /// Compresses `plaintext`, with `dictionary` at the dictionary's level where one is given; the plaintext itself where zstd makes it
    /// no shorter. The frame is of the codec [`Codec::Raw`] then, whatever was given.
    ///
    /// # Panics
    ///
    /// Where zstd finds no memory.
    pub fn compress<'a>(
        &'a mut self,
        plaintext: &'a [u8],
        dictionary: Option<&'d Dictionary>,
    ) -> Frame<'a> {
        let codec = if let Some(encoder) = dictionary.and_then(Dictionary::encoder) {
            self.zstd
                .set_prepared_dictionary(encoder)
                .expect("no frame is open");
            Codec::ZstdDictionary
        } else {
            self.zstd
                .context_mut()
                .disable_dictionary()
                .expect("no frame is open");
            Codec::Zstd
        };
        self.buffer.clear();
        self.buffer
            .reserve(zstd::zstd_safe::compress_bound(plaintext.len()));
        self.zstd
            .compress_to_buffer(plaintext, &mut self.buffer)
            .expect("the buffer is as large as zstd asks for");
        if self.buffer.len() < plaintext.len() {
            Frame {
                codec,
                bytes: &self.buffer,
            }
        } else {
            Frame {
                codec: Codec::Raw,
                bytes: plaintext,
            }
        }
    }
}

/// A frame that does not become the plaintext it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the frame does not decompress to the length it should")]
pub struct DecompressError;

impl Classify for DecompressError {
    fn kind(&self) -> ErrorKind {
        // The seal vouched for the frame, so whoever holds the keys wrote it so.
        ErrorKind::Bug
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// Decompresses frames one by one, keeping zstd's context between them.
pub struct Decompressor {
    zstd: DCtx<'static>,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl Decompressor {
    /// Prepares for any frame.
    ///
    /// # Panics
    ///
    /// Where zstd finds no memory.
    pub fn new() -> Self {
        let mut zstd = DCtx::create();
        zstd.set_parameter(DParameter::Format(FrameFormat::Magicless))
            .expect("zstd takes this parameter");
        Self { zstd }
    }

    /// Returns the plaintext of a frame, which must be `plaintext_length` bytes: the caller has held that against a maximum.
    ///
    /// # Errors
    ///
    /// One byte more or fewer, a frame that is not zstd's, one that refers back farther than [`WINDOW_LOG_MAX`], or a dictionary that is
    /// missing where the codec asks for one or given where it does not.
    pub fn decompress(
        &mut self,
        frame: Frame<'_>,
        plaintext_length: usize,
        dictionary: Option<&Dictionary>,
    ) -> Result<Vec<u8>, DecompressError> {
        let bytes = frame.bytes;
        match (frame.codec, dictionary) {
            (Codec::Raw, None) if bytes.len() == plaintext_length => Ok(bytes.to_vec()),
            (Codec::Zstd, None) => self.inflate(bytes, plaintext_length, None),
            (Codec::ZstdDictionary, Some(_)) => self.inflate(bytes, plaintext_length, dictionary),
            _ => Err(DecompressError),
        }
    }

    fn inflate(
        &mut self,
        bytes: &[u8],
        plaintext_length: usize,
        dictionary: Option<&Dictionary>,
    ) -> Result<Vec<u8>, DecompressError> {
        if !has_lean_header(bytes) {
            return Err(DecompressError);
        }
        // zstd may fill all that the allocator gave, which can be a little more than asked for: the length is checked after.
        let mut plaintext = Vec::with_capacity(plaintext_length);
        match dictionary {
            Some(dictionary) => self.zstd.decompress_using_ddict(
                &mut plaintext,
                bytes,
                dictionary.decoder().as_ddict(),
            ),
            None => self.zstd.decompress(&mut plaintext, bytes),
        }
        .ok()
        .filter(|&length| length == plaintext_length)
        .map(|_| plaintext)
        .ok_or(DecompressError)
    }
}

/// Returns whether a frame begins as all of Maimo's do: a descriptor of zero (no content size, checksum or dictionary id), then a
/// window of at most [`WINDOW_LOG_MAX`]: its exponent, above 10, stands in the upper five bits, an eighth's count below.
fn has_lean_header(frame: &[u8]) -> bool {
    const WINDOW_MAX: u8 = (WINDOW_LOG_MAX - 10) << 3;
    matches!(frame, [0, window, ..] if *window <= WINDOW_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(lines: u32) -> Vec<u8> {
        (0..lines)
            .flat_map(|n| format!("line {} of a text that repeats itself\n", n * n).into_bytes())
            .collect()
    }

    fn random(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    #[test]
    fn text_shrinks_and_random_bytes_stay_raw() {
        let mut compressor = Compressor::new(Level::default());
        let text = text(1000);
        let frame = compressor.compress(&text, None);
        assert_eq!(frame.codec, Codec::Zstd);
        assert!(frame.bytes.len() * 3 < text.len());
        let random = random(1 << 20);
        assert_eq!(
            compressor.compress(&random, None),
            Frame {
                codec: Codec::Raw,
                bytes: &random
            }
        );
        assert_eq!(compressor.compress(b"", None).codec, Codec::Raw);
    }

    /// The standard's own decoder reads a frame once the magic number is put back, so a second reader needs no special zstd.
    #[test]
    fn a_frame_is_an_rfc_8878_frame_without_its_magic_number() {
        let text = text(1000);
        let mut compressor = Compressor::new(Level::default());
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
        frame.extend_from_slice(compressor.compress(&text, None).bytes);
        assert_eq!(bulk::decompress(&frame, text.len()).unwrap(), text);
    }

    #[test]
    fn the_header_is_two_bytes_at_every_level_and_length() {
        for level in [1, 3, 9, 19] {
            let mut compressor = Compressor::new(Level::new(level).unwrap());
            for length in [200, 70_000, 1 << 20, 4 << 20, 16 << 20] {
                let plaintext = vec![b'x'; length];
                let frame = compressor.compress(&plaintext, None);
                assert!(has_lean_header(frame.bytes), "{:02x?}", &frame.bytes[..2]);
            }
        }
    }

    #[test]
    fn a_length_one_off_is_refused() {
        let text = text(100);
        let mut compressor = Compressor::new(Level::default());
        let mut decompressor = Decompressor::new();
        let random = random(100);
        for plaintext in [&text[..], &random] {
            let frame = compressor.compress(plaintext, None);
            let length = plaintext.len();
            assert_eq!(
                decompressor.decompress(frame, length, None).unwrap(),
                plaintext
            );
            for wrong in [0, length - 1, length + 1] {
                assert_eq!(
                    decompressor.decompress(frame, wrong, None),
                    Err(DecompressError)
                );
            }
        }
    }

    #[test]
    fn a_wider_window_and_a_fuller_header_are_refused() {
        let text = text(100);
        let mut compressor = Compressor::new(Level::default());
        let frame = compressor.compress(&text, None).bytes.to_vec();
        let mut decompressor = Decompressor::new();
        let mut open = |at: usize, byte: u8| {
            let mut bytes = frame.clone();
            bytes[at] = byte;
            let frame = Frame {
                codec: Codec::Zstd,
                bytes: &bytes,
            };
            decompressor.decompress(frame, text.len(), None)
        };
        assert!(open(1, 13 << 3).is_ok());
        assert_eq!(open(1, (13 << 3) + 1), Err(DecompressError));
        assert_eq!(open(0, 4), Err(DecompressError));
    }

    #[test]
    fn levels_outside_of_one_to_nineteen_are_refused() {
        assert!(Level::new(0).is_none() && Level::new(20).is_none());
        assert_eq!(Level::new(19), Some(Level::MAX));
    }

    proptest! {
        #[test]
        fn frames_come_back_at_any_level(
            level in 1_u8..=19,
            plaintext in proptest::collection::vec(0_u8..4, 0..5000),
        ) {
            let mut compressor = Compressor::new(Level::new(level).unwrap());
            let frame = compressor.compress(&plaintext, None);
            let opened = Decompressor::new().decompress(frame, plaintext.len(), None);
            prop_assert_eq!(opened.unwrap(), plaintext);
        }

        #[test]
        fn hostile_frames_end_in_an_error_or_in_the_length_asked_for(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            length in 0_usize..2000,
        ) {
            let mut frame = vec![0, 0];
            frame.extend(bytes);
            let frame = Frame { codec: Codec::Zstd, bytes: &frame };
            if let Ok(plaintext) = Decompressor::new().decompress(frame, length, None) {
                prop_assert_eq!(plaintext.len(), length);
            }
        }
    }
}
