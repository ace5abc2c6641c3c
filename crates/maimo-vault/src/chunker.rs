//! Content-defined chunking: where a content is cut, so that an edit disturbs the chunks it touches and no others.
//!
//! FastCDC (W. Xia et al., "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", 2020), with
//! normalized chunking of level 2. The 256 random words that the paper calls the gear table are the secret: all 16,384 bits of them come
//! from a keyed XOF, one table for each dedup domain, because a table that is public but for a 64-bit seed is recovered in milliseconds
//! from a few chunk lengths, and then the lengths tell which known file was stored.
//!
//! Pure: it is shown bytes and says where to cut. It reads nothing, hashes nothing and keeps nothing but whether a cut was made already.
//! The same content under the same key is cut alike whatever the feeding.

use fastcdc::v2020::cut_gear;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::keys::GearKey;

/// The shortest chunk that content decides on, in bytes; only a content's last chunk is shorter.
///
/// A quarter of the normal length. Twice that scans a quarter faster, which is little beside zstd, and was measured (96 MiB, twelve
/// insertions, six times) to store 3 % more for each edit; bytes to upload are dearer than both.
pub const CHUNK_BYTES_MIN: usize = 256 * 1024;
/// The length chunks gather around, in bytes; a content of up to this length is one chunk whatever it holds.
pub const CHUNK_BYTES_NORMAL: usize = 1024 * 1024;
/// The longest chunk of a content, in bytes.
pub const CHUNK_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The bits of the gear hash that must all be zero for a cut before the normal length: 22 of them.
const MASK_BEFORE: u64 = 0x0000_d937_6753_7000;
/// Those for a cut after it: 18. Both are the paper's, four bits apart around 2^20. They stand here and not in the crate that scans, as
/// another mask in a later version of it would cut, and store, everything anew.
const MASK_AFTER: u64 = 0x0000_d907_0753_7000;

/// The gear table of one dedup domain, and its twin shifted left by one bit, for the scan that takes two bytes at a time.
///
/// # Security
///
/// As secret as the key it came from: with it, chunk lengths can be tried against known files. Wiped on drop.
pub struct Gear {
    table: Box<[u64; 256]>,
    shifted: Box<[u64; 256]>,
}

impl Gear {
    /// Reads the table off the front of the key's XOF: 256 words of 64 bits, little-endian.
    pub fn new(key: &GearKey) -> Self {
        let mut bytes = Zeroizing::new([0; 256 * 8]);
        key.fill(&mut bytes[..]);
        let mut gear = Self {
            table: Box::new([0; 256]),
            shifted: Box::new([0; 256]),
        };
        let (words, _) = bytes.as_chunks::<8>();
        for ((entry, shifted), word) in gear.table.iter_mut().zip(&mut *gear.shifted).zip(words) {
            *entry = u64::from_le_bytes(*word);
            *shifted = *entry << 1;
        }
        gear
    }
}

impl Drop for Gear {
    fn drop(&mut self) {
        self.table.zeroize();
        self.shifted.zeroize();
    }
}

impl ZeroizeOnDrop for Gear {}

/// Cuts one content, as its bytes come.
pub struct Chunker<'g> {
    gear: &'g Gear,
    has_cut: bool,
}

impl<'g> Chunker<'g> {
    /// Starts at the first byte of a content.
    pub const fn new(gear: &'g Gear) -> Self {
        Self {
            gear,
            has_cut: false,
        }
    }

    /// Returns the length of the next chunk, which `buffer` starts with, or `None` where it takes more bytes to tell.
    ///
    /// `buffer` holds what follows the last cut; `is_end` says that the content ends with it. With [`CHUNK_BYTES_MAX`] bytes or more, or
    /// at the end, the answer is a length, unless nothing is left.
    pub fn next_cut(&mut self, buffer: &[u8], is_end: bool) -> Option<usize> {
        if buffer.is_empty() || (!is_end && buffer.len() < CHUNK_BYTES_MAX) {
            return None;
        }
        let is_whole = is_end && !self.has_cut;
        self.has_cut = true;
        if is_whole && buffer.len() <= CHUNK_BYTES_NORMAL {
            return Some(buffer.len());
        }
        let (_, length) = cut_gear(
            buffer,
            CHUNK_BYTES_MIN,
            CHUNK_BYTES_NORMAL,
            CHUNK_BYTES_MAX,
            MASK_BEFORE,
            MASK_AFTER,
            MASK_BEFORE << 1,
            MASK_AFTER << 1,
            &self.gear.table[..],
            &self.gear.shifted[..],
        );
        Some(length)
    }
}

/// The chunks of a content that is in memory as a whole.
pub struct Chunks<'g, 'c> {
    chunker: Chunker<'g>,
    rest: &'c [u8],
}

impl<'g, 'c> Chunks<'g, 'c> {
    /// Starts at the first byte of `content`.
    pub const fn new(gear: &'g Gear, content: &'c [u8]) -> Self {
        Self {
            chunker: Chunker::new(gear),
            rest: content,
        }
    }
}

impl<'c> Iterator for Chunks<'_, 'c> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        let length = self.chunker.next_cut(self.rest, true)?;
        let (chunk, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(chunk)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        keys::{KeyEpoch, MasterSecret},
        name::Domain,
    };

    fn gear(domain: u32) -> Gear {
        let secret = MasterSecret::from_entropy(&[5; 32]);
        Gear::new(&secret.gear_key(KeyEpoch(0), Domain(domain)))
    }

    fn random(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new()
            .update(&seed.to_le_bytes())
            .finalize_xof()
            .fill(&mut bytes);
        bytes
    }

    fn lengths(gear: &Gear, content: &[u8]) -> Vec<usize> {
        Chunks::new(gear, content).map(<[u8]>::len).collect()
    }

    /// The paper's rule as it is written there, one byte at a time, from its own copy of the masks.
    fn cut_slowly(gear: &Gear, rest: &[u8], is_first: bool) -> usize {
        if is_first && rest.len() <= CHUNK_BYTES_NORMAL {
            return rest.len();
        }
        let (before, after) =
            fastcdc::v2020::select_masks(CHUNK_BYTES_NORMAL, fastcdc::v2020::Normalization::Level2);
        let end = rest.len().min(CHUNK_BYTES_MAX);
        let mut fingerprint = 0_u64;
        // A last odd byte has no pair in the scan by two, so it is no candidate.
        for (at, &byte) in rest.iter().enumerate().take(end & !1).skip(CHUNK_BYTES_MIN) {
            fingerprint = (fingerprint << 1).wrapping_add(gear.table[usize::from(byte)]);
            let mask = if at < CHUNK_BYTES_NORMAL {
                before
            } else {
                after
            };
            if fingerprint & mask == 0 {
                return at;
            }
        }
        end
    }

    fn feed(gear: &Gear, content: &[u8], steps: &[usize]) -> Vec<usize> {
        let mut chunker = Chunker::new(gear);
        let mut steps = steps.iter().cycle();
        let (mut start, mut end, mut lengths) = (0, 0, Vec::new());
        loop {
            let is_end = end == content.len();
            if let Some(length) = chunker.next_cut(&content[start..end], is_end) {
                lengths.push(length);
                start += length;
            } else if is_end {
                return lengths;
            } else {
                end = content.len().min(end + steps.next().unwrap());
            }
        }
    }

    #[test]
    fn a_content_of_up_to_one_mebibyte_is_one_chunk_and_a_byte_more_need_not_be() {
        let gear = gear(1);
        for length in [1, 100, CHUNK_BYTES_MIN + 1, CHUNK_BYTES_NORMAL] {
            assert_eq!(lengths(&gear, &random(1, length)), [length]);
        }
        assert!(lengths(&gear, b"").is_empty());
        // Of 32 contents one byte longer, about three in ten have a cut before their end.
        let parted = (0..32)
            .filter(|&seed| lengths(&gear, &random(seed, CHUNK_BYTES_NORMAL + 1)).len() > 1)
            .count();
        assert!((1..32).contains(&parted), "{parted}");
    }

    #[test]
    fn the_papers_rule_one_byte_at_a_time_cuts_alike() {
        let gear = gear(2);
        for (seed, length) in [(1, 24 << 20), (2, (9 << 20) + 1), (3, (1 << 20) + 77)] {
            let content = random(seed, length);
            let (mut rest, mut slow) = (&content[..], Vec::new());
            while !rest.is_empty() {
                let length = cut_slowly(&gear, rest, slow.is_empty());
                slow.push(length);
                rest = &rest[length..];
            }
            assert_eq!(lengths(&gear, &content), slow);
        }
    }

    #[test]
    fn cuts_stay_within_their_bounds_whatever_the_content() {
        let gear = gear(3);
        let zeros = vec![0; 11 << 20];
        assert_eq!(
            lengths(&gear, &zeros),
            [CHUNK_BYTES_MAX, CHUNK_BYTES_MAX, 3 << 20]
        );
        let found = lengths(&gear, &random(4, 64 << 20));
        let (_, body) = found.split_last().unwrap();
        assert!(
            body.iter()
                .all(|length| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(length))
        );
        let mean = body.iter().sum::<usize>() / body.len();
        assert!((900 << 10..1400 << 10).contains(&mean), "{mean}");
    }

    #[test]
    fn an_insertion_disturbs_only_the_chunks_around_it() {
        let gear = gear(4);
        let before = random(5, 32 << 20);
        let mut after = before.clone();
        after.splice((16 << 20)..(16 << 20), *b"inserted");
        let old: Vec<_> = Chunks::new(&gear, &before).collect();
        let new: Vec<_> = Chunks::new(&gear, &after).collect();
        let kept = new.iter().filter(|chunk| old.contains(chunk)).count();
        assert!(new.len() - kept <= 3, "{} of {}", kept, new.len());
    }

    #[test]
    fn another_domain_cuts_elsewhere() {
        let content = random(6, 16 << 20);
        assert_ne!(lengths(&gear(5), &content), lengths(&gear(6), &content));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn cuts_are_the_same_whatever_the_feeding(
            seed: u64,
            length in 0_usize..10 << 20,
            steps in proptest::collection::vec(1_usize..3 << 20, 1..5),
        ) {
            let gear = gear(7);
            let content = random(seed, length);
            prop_assert_eq!(feed(&gear, &content, &steps), lengths(&gear, &content));
        }
    }
}
