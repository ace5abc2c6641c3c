//! Dictionaries: what a store's small chunks have in common, trained from them once and referred to by each.
//!
//! A dictionary is made of the store's own content, so its bytes are sealed in a vital pack as a chunk of their own, and its name is
//! that chunk's id. It serves one dedup domain only: a chunk that an outsider wrote, compressed beside what the owner wrote, would tell by
//! its length what the two share.

use std::sync::OnceLock;

use maimo_core::error::{Classify, ErrorKind, Retry};
use thiserror::Error;
use zstd::dict::{DecoderDictionary, EncoderDictionary, from_continuous};

use crate::{compress::Level, name::ChunkId};

mod drift;

pub use drift::{Recent, Verdict, Window};

/// The longest dictionary, in bytes.
pub const DICTIONARY_BYTES_MAX: usize = 110 * 1024;
/// The longest chunk that is compressed with a dictionary, in bytes: beyond it, a chunk has met its own repetitions.
///
/// Measured on 15,000 source files, each half against a dictionary of the other: 40 % less below 1 KiB, 17 % at 8 KiB, 5 % at 64 KiB,
/// 2 % at 128 KiB. Files that share keys and nothing else win as much below 2 KiB and lose a few percent from 8 KiB on.
pub const SMALL_BYTES_MAX: usize = 64 * 1024;
/// The longest chunk that a dictionary is trained from, in bytes: longer ones crowd out what the tiny share, and win little themselves.
pub const SAMPLE_BYTES_MAX: usize = 8 * 1024;
/// How many bytes of samples a training reads at most: a hundred dictionaries' worth, as zstd's manual advises.
pub const SAMPLES_BYTES_MAX: usize = 100 * DICTIONARY_BYTES_MAX;

/// Returns whether a chunk of so many bytes may be compressed with a dictionary.
pub const fn is_small(plaintext_length: usize) -> bool {
    plaintext_length <= SMALL_BYTES_MAX
}

/// Bytes that are not a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not a zstd dictionary of at most {DICTIONARY_BYTES_MAX} bytes")]
pub struct DictionaryError;

impl Classify for DictionaryError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// Trains a dictionary of at most [`DICTIONARY_BYTES_MAX`] bytes from small chunks of one dedup domain, or returns `None` where zstd
/// finds too few of them, or too little in common.
///
/// Chunks longer than [`SAMPLE_BYTES_MAX`] are passed over, as is what follows the first [`SAMPLES_BYTES_MAX`] bytes: shuffle before.
/// The same samples in the same order give the same dictionary under the same zstd.
pub fn train<'s>(samples: impl IntoIterator<Item = &'s [u8]>) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut lengths = Vec::new();
    for sample in samples {
        if sample.is_empty() || sample.len() > SAMPLE_BYTES_MAX {
            continue;
        }
        if bytes.len() + sample.len() > SAMPLES_BYTES_MAX {
            break;
        }
        bytes.extend_from_slice(sample);
        lengths.push(sample.len());
    }
    // Training takes a good part of a second and gives a dictionary of noise, too.
    if !repeats(&bytes) {
        return None;
    }
    let dictionary = from_continuous(&bytes, &lengths, DICTIONARY_BYTES_MAX).ok()?;
    (!dictionary.is_empty()).then_some(dictionary)
}

/// Returns whether samples in a row, where each may refer to those before it, come out shorter by as much as makes a dictionary worth its bytes.
fn repeats(samples: &[u8]) -> bool {
    const FAST: i32 = 1;
    let Ok(short) = zstd::bulk::compress(samples, FAST) else {
        return true;
    };
    short.len() < samples.len() - samples.len() / 64
}

/// A dictionary that is ready for use.
pub struct Dictionary {
    id: ChunkId,
    bytes: Vec<u8>,
    level: Level,
    // Prepared when first used: who only reads never pays for the encoder's tables.
    encoder: OnceLock<Option<EncoderDictionary<'static>>>,
    decoder: DecoderDictionary<'static>,
}

impl Dictionary {
    /// Prepares the dictionary whose chunk is named `id`; chunks compressed with it are so at `level`.
    ///
    /// # Errors
    ///
    /// Bytes that zstd does not take for a dictionary, or too many.
    pub fn new(id: ChunkId, bytes: Vec<u8>, level: Level) -> Result<Self, DictionaryError> {
        // The magic number of RFC 8878, section 5: without it, and the id that follows, zstd takes any bytes for raw content.
        const MAGIC: [u8; 4] = [0x37, 0xa4, 0x30, 0xec];
        if bytes.len() < 8 || bytes.len() > DICTIONARY_BYTES_MAX || !bytes.starts_with(&MAGIC) {
            return Err(DictionaryError);
        }
        let decoder = DecoderDictionary::try_copy(&bytes).map_err(|_| DictionaryError)?;
        Ok(Self {
            id,
            bytes,
            level,
            encoder: OnceLock::new(),
            decoder,
        })
    }

    /// Returns the id of the chunk that holds the dictionary: its name in pack tables.
    pub const fn id(&self) -> ChunkId {
        self.id
    }

    /// Returns its bytes: the plaintext of its chunk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `None` where zstd's encoder refuses what its decoder took, which no dictionary that zstd trained makes it do.
    pub(crate) fn encoder(&self) -> Option<&EncoderDictionary<'static>> {
        self.encoder
            .get_or_init(|| EncoderDictionary::try_copy(&self.bytes, self.level.as_i32()).ok())
            .as_ref()
    }

    pub(crate) const fn decoder(&self) -> &DecoderDictionary<'static> {
        &self.decoder
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;

    use super::*;
    use crate::compress::{Codec, Compressor, DecompressError, Decompressor, Frame};

    /// Files as a program writes them: the same keys, other values. `fields` sets the length.
    fn json(seed: u32, fields: u32) -> Vec<u8> {
        let mut text = format!("{{\"schema\":\"https://example.org/v1\",\"id\":{seed},\"items\":[");
        for field in 0..fields {
            let hash = blake3::hash(&(u64::from(seed) << 32 | u64::from(field)).to_le_bytes());
            let (value, kind) = (hash.to_hex(), ["note", "task", "event"][field as usize % 3]);
            write!(
                text,
                "{{\"kind\":\"{kind}\",\"owner\":\"user-{}\",\"created_at\":\"2026-11-{:02}T10:00:00Z\",\"digest\":\"{}\"}},",
                &value[..3],
                field % 28 + 1,
                &value[..12]
            )
            .unwrap();
        }
        text.push_str("]}");
        text.into_bytes()
    }

    fn trained() -> Dictionary {
        let samples: Vec<_> = (0..2000).map(|seed| json(seed, 1 + seed % 20)).collect();
        let bytes = train(samples.iter().map(Vec::as_slice)).unwrap();
        Dictionary::new(ChunkId([7; 32]), bytes, Level::default()).unwrap()
    }

    fn lengths(dictionary: &Dictionary, fields: u32) -> (usize, usize) {
        let mut compressor = Compressor::new(Level::default());
        let plaintext = json(1_000_000, fields);
        (
            compressor.compress(&plaintext, None).bytes.len(),
            compressor
                .compress(&plaintext, Some(dictionary))
                .bytes
                .len(),
        )
    }

    /// Bytes that do not compress, the first `shared` of them the same for all seeds.
    fn noise(seed: u64, shared: usize) -> Vec<u8> {
        let fill = |seed: u64, bytes: &mut [u8]| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(&seed.to_le_bytes());
            hasher.finalize_xof().fill(bytes);
        };
        let mut bytes = vec![0; 2048];
        fill(seed, &mut bytes);
        fill(u64::MAX, &mut bytes[..shared]);
        bytes
    }

    #[test]
    fn files_that_share_nothing_make_no_dictionary_and_those_that_share_a_little_do() {
        let trained = |shared| {
            let samples: Vec<_> = (0..1000).map(|seed| noise(seed, shared)).collect();
            train(samples.iter().map(Vec::as_slice))
        };
        assert_eq!(trained(0), None);
        assert!(trained(100).is_some());
    }

    #[test]
    fn tiny_files_shrink_by_a_dictionary_and_come_back() {
        let dictionary = trained();
        let mut compressor = Compressor::new(Level::default());
        let mut decompressor = Decompressor::new();
        let (mut with, mut without) = (0, 0);
        for seed in 1_000_000..1_000_100 {
            let plaintext = json(seed, 2 + seed % 10);
            without += compressor.compress(&plaintext, None).bytes.len();
            let frame = compressor.compress(&plaintext, Some(&dictionary));
            assert_eq!(frame.codec, Codec::ZstdDictionary);
            with += frame.bytes.len();
            assert_eq!(
                decompressor
                    .decompress(frame, plaintext.len(), Some(&dictionary))
                    .unwrap(),
                plaintext
            );
        }
        assert!(with * 4 < without * 3, "{with} of {without}");
    }

    #[test]
    fn what_a_dictionary_wins_fades_with_the_length() {
        let dictionary = trained();
        let percent = |fields| {
            let (without, with) = lengths(&dictionary, fields);
            with * 100 / without
        };
        // About 250 bytes, and 60 KiB.
        assert!(percent(2) < 50, "{}", percent(2));
        assert!(percent(640) > 95, "{}", percent(640));
    }

    #[test]
    fn a_frame_does_not_open_without_its_dictionary_nor_a_plain_one_with_it() {
        let dictionary = trained();
        let mut compressor = Compressor::new(Level::default());
        let mut decompressor = Decompressor::new();
        let plaintext = json(5_000_000, 5);
        let frame = compressor.compress(&plaintext, Some(&dictionary));
        assert_eq!(
            decompressor.decompress(frame, plaintext.len(), None),
            Err(DecompressError)
        );
        let posing = Frame {
            codec: Codec::Zstd,
            ..frame
        };
        assert_eq!(
            decompressor.decompress(posing, plaintext.len(), None),
            Err(DecompressError)
        );
        let plain = compressor.compress(&plaintext, None);
        assert_eq!(
            decompressor.decompress(plain, plaintext.len(), Some(&dictionary)),
            Err(DecompressError)
        );
    }

    #[test]
    fn too_few_samples_make_no_dictionary() {
        assert_eq!(train([]), None);
        let one = json(1, 3);
        assert_eq!(train([&one[..]]), None);
    }

    #[test]
    fn the_same_samples_train_the_same_dictionary() {
        assert_eq!(trained().bytes(), trained().bytes());
    }

    #[test]
    fn other_bytes_are_not_a_dictionary() {
        let new = |bytes| Dictionary::new(ChunkId([0; 32]), bytes, Level::default()).err();
        assert_eq!(new(b"raw content".to_vec()), Some(DictionaryError));
        assert_eq!(new(vec![0x37, 0xa4, 0x30, 0xec, 1]), Some(DictionaryError));
        let mut long = trained().bytes().to_vec();
        long.resize(DICTIONARY_BYTES_MAX + 1, 0);
        assert_eq!(new(long), Some(DictionaryError));
    }
}
