//! Possession digests: proof that all of some groups are there, for 32 bytes of traffic.
//!
//! The client names groups under a fresh key; the provider answers `BLAKE3-keyed(key, their bytes)`, and the client compares with what it makes of its
//! local copy. A digest that differs is *not* evidence of damage, for a client cannot always rebuild the bytes it once sent: only a slice
//! that fails is.

use core::ops::Range;
use std::io;

use crate::{
    codec::{ObjectType, ParseError, Prelude, Put, Reader},
    live_map::LiveMap,
    reference::ObjectRef,
    units::{GROUP_BYTES, PACK_BYTES_MAX, PACK_GROUPS_MAX, groups},
    verify::ReadAt,
};

/// The ranges a possession digest is taken over: whole chunk groups of packs.
///
/// Invariant: packs ascend by root, none twice; of each at least one group is named, within the pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestRequest {
    key: [u8; 32],
    ranges: Vec<(ObjectRef, LiveMap)>,
}

const WHAT: &str = "range of a possession digest";

impl DigestRequest {
    /// The most packs one request may name.
    pub const PACKS_MAX: usize = 4096;

    /// Asks under `key`, which must be fresh: whoever learns it beforehand can keep the digest instead of the bytes.
    ///
    /// # Errors
    ///
    /// Too many packs, a pack twice, a map that is empty or of another object's size.
    pub fn new(key: [u8; 32], mut ranges: Vec<(ObjectRef, LiveMap)>) -> Result<Self, ParseError> {
        ranges.sort_unstable_by_key(|(pack, _)| *pack);
        Self::of_sorted(key, ranges)
    }

    fn of_sorted(key: [u8; 32], ranges: Vec<(ObjectRef, LiveMap)>) -> Result<Self, ParseError> {
        if ranges.len() > Self::PACKS_MAX {
            return Err(ParseError::TooLarge {
                what: WHAT,
                found: ranges.len() as u64,
                max: Self::PACKS_MAX as u64,
            });
        }
        let ascend = |pair: &[(ObjectRef, LiveMap)]| pair[0].0.root < pair[1].0.root;
        if !ranges.windows(2).all(ascend) {
            return Err(ParseError::NotCanonical { what: WHAT });
        }
        for (pack, map) in &ranges {
            let fits = pack.length <= PACK_BYTES_MAX
                && groups(pack.length) == u64::from(map.groups())
                && map.check().is_ok();
            if !fits || map.is_empty() {
                return Err(ParseError::Invalid { what: WHAT });
            }
        }
        Ok(Self { key, ranges })
    }

    /// Returns the packs and which of their groups are asked for, in the order in which they are hashed.
    pub fn ranges(&self) -> &[(ObjectRef, LiveMap)] {
        &self.ranges
    }

    /// Returns the runs of bytes in the order in which they are hashed.
    pub fn byte_ranges(&self) -> impl Iterator<Item = (&ObjectRef, Range<u64>)> {
        self.ranges.iter().flat_map(|(pack, map)| {
            map.runs().map(move |run| {
                let end = (u64::from(run.end) * GROUP_BYTES).min(pack.length);
                (pack, u64::from(run.start) * GROUP_BYTES..end)
            })
        })
    }

    /// Returns how many bytes are hashed.
    pub fn total_bytes(&self) -> u64 {
        let bytes = |(pack, map): &(ObjectRef, LiveMap)| map.live_bytes(pack.length);
        self.ranges.iter().map(bytes).sum()
    }

    /// Returns a hasher under this request's key, to be fed the bytes of [`Self::byte_ranges`].
    pub fn hasher(&self) -> DigestHasher {
        DigestHasher(blake3::Hasher::new_keyed(&self.key))
    }

    /// Returns the digest over packs that `open` opens.
    ///
    /// # Errors
    ///
    /// Those of opening and reading.
    pub fn digest<P: ReadAt>(
        &self,
        mut open: impl FnMut(&ObjectRef) -> io::Result<P>,
    ) -> io::Result<[u8; 32]> {
        let mut hasher = self.hasher();
        let mut buffer = Vec::new();
        for (pack, map) in &self.ranges {
            let data = open(pack)?;
            for group in map.runs().flatten() {
                let start = u64::from(group) * GROUP_BYTES;
                let size = (pack.length - start).min(GROUP_BYTES);
                buffer.resize(usize::try_from(size).unwrap_or(0), 0);
                data.read_exact_at(start, &mut buffer)?;
                hasher.update(&buffer);
            }
        }
        Ok(hasher.finish())
    }

    /// Returns the request's bytes: prelude, key, count, and for each pack its reference and the map of the groups asked for.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        Prelude { epoch: 0 }.encode(ObjectType::DigestRequest, &mut out);
        out.put(&self.key);
        out.put_varint(self.ranges.len() as u64);
        for (pack, map) in &self.ranges {
            pack.encode(&mut out);
            map.encode(&mut out);
        }
        out
    }

    /// Reads a request.
    ///
    /// # Errors
    ///
    /// What [`Self::new`] refuses, packs out of order, bytes in another form.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        // Root, a byte of length, the shortest map.
        const LEAST_BYTES: usize = 34;
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::DigestRequest)?;
        let key = reader.array("key of a possession digest")?;
        let count = reader.count(Self::PACKS_MAX as u64, LEAST_BYTES, WHAT)?;
        let mut ranges = Vec::with_capacity(count);
        for _ in 0..count {
            let pack = ObjectRef::parse(&mut reader, PACK_BYTES_MAX, WHAT)?;
            let groups = u32::try_from(groups(pack.length)).unwrap_or(PACK_GROUPS_MAX);
            ranges.push((pack, LiveMap::parse(&mut reader, groups)?));
        }
        reader.finish()?;
        Self::of_sorted(key, ranges)
    }
}

/// Hashes the bytes of a request as they come.
#[derive(Clone)]
pub struct DigestHasher(blake3::Hasher);

impl DigestHasher {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest.
    pub fn finish(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, iter::once};

    use proptest::prelude::*;

    use super::*;

    fn pack(number: u8, length: u64) -> (ObjectRef, Vec<u8>) {
        let bytes = vec![number; usize::try_from(length).unwrap()];
        (ObjectRef::of(&bytes), bytes)
    }

    fn map(pack: &ObjectRef, run: Range<u32>) -> LiveMap {
        let groups = u32::try_from(groups(pack.length)).unwrap();
        LiveMap::from_runs(groups, once(run)).unwrap()
    }

    #[test]
    fn the_digest_is_the_keyed_hash_of_the_bytes_in_order() {
        let packs = [pack(1, 100_000), pack(2, 40_960)];
        let store: HashMap<_, _> = packs.iter().cloned().collect();
        let ranges = vec![
            (packs[0].0, LiveMap::from_runs(7, [0..1, 6..7]).unwrap()),
            (packs[1].0, map(&packs[1].0, 1..3)),
        ];
        let request = DigestRequest::new([7; 32], ranges).unwrap();
        let digest = request.digest(|pack| Ok(&store[pack][..])).unwrap();
        let mut bytes = Vec::new();
        for (pack, range) in request.byte_ranges() {
            let (start, end) = (
                usize::try_from(range.start).unwrap(),
                usize::try_from(range.end).unwrap(),
            );
            bytes.extend_from_slice(&store[pack][start..end]);
        }
        assert_eq!(bytes.len() as u64, request.total_bytes());
        assert_eq!(
            bytes.len(),
            16_384 + (100_000 - 6 * 16_384) + (40_960 - 16_384)
        );
        assert_eq!(digest, *blake3::keyed_hash(&[7; 32], &bytes).as_bytes());

        let mut damaged = store.clone();
        damaged.get_mut(&packs[1].0).unwrap()[40_959] ^= 1;
        assert_ne!(
            request.digest(|pack| Ok(&damaged[pack][..])).unwrap(),
            digest
        );
    }

    #[test]
    fn a_request_in_another_form_is_refused() {
        let (a, b) = (pack(1, 65_536).0, pack(2, 65_536).0);
        let whole = LiveMap::full(4);
        let good =
            DigestRequest::new([1; 32], vec![(a, whole.clone()), (b, map(&b, 1..2))]).unwrap();
        let bytes = good.encode();
        assert_eq!(DigestRequest::parse(&bytes), Ok(good.clone()));
        assert!(DigestRequest::parse(&bytes[..bytes.len() - 1]).is_err());
        assert!(DigestRequest::parse(&[&bytes[..], &[0]].concat()).is_err());
        let mut swapped = good;
        swapped.ranges.swap(0, 1);
        assert_eq!(
            DigestRequest::parse(&swapped.encode()),
            Err(ParseError::NotCanonical { what: WHAT })
        );
        let refused = |ranges| DigestRequest::new([1; 32], ranges).is_err();
        assert!(refused(vec![(a, whole.clone()), (a, map(&a, 1..2))]));
        assert!(refused(vec![(a, LiveMap::empty(4))]));
        assert!(refused(vec![(a, LiveMap::full(5))]));
        let long = ObjectRef {
            length: PACK_BYTES_MAX + 1,
            ..a
        };
        assert!(refused(vec![(long, LiveMap::full(4097))]));
    }

    proptest! {
        #[test]
        fn what_parses_encodes_to_the_same_bytes(flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3)) {
            let packs: Vec<_> = (0..3).map(|n| pack(n, 65_536).0).collect();
            let ranges = packs.iter().map(|pack| (*pack, map(pack, 1..3))).collect();
            let mut bytes = DigestRequest::new([1; 32], ranges).unwrap().encode();
            for (at, to) in flips {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            if let Ok(request) = DigestRequest::parse(&bytes) {
                prop_assert_eq!(request.encode(), bytes);
            }
        }
    }
}
