use std::io::{Cursor, Read};

use proptest::prelude::*;

use super::*;
use crate::{
    id::RootHash,
    reference::ObjectRef,
    units::{BLOCK_BYTES, GROUP_BYTES, groups, outboard_bytes},
};

fn bytes(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).unwrap()];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

fn slice(data: &[u8], outboard: &Outboard, selection: &Selection) -> Vec<u8> {
    let mut out = Vec::new();
    let root = &outboard.object().root;
    encode_slice(&data, &outboard.as_bytes(), root, selection, &mut out).unwrap();
    out
}

/// Lengths around every edge there is: leaf, block, group, powers of two of groups.
const LENGTHS: [u64; 14] = [
    1, 1024, 1025, 4096, 5000, 12_288, 16_384, 16_385, 20_480, 49_152, 65_536, 98_304, 135_168,
    300_000,
];

#[test]
fn the_root_is_blake3s_and_the_outboard_as_long_as_it_says() {
    for length in LENGTHS {
        let data = bytes(length);
        let outboard = Outboard::of(&data);
        assert_eq!(outboard.object(), &ObjectRef::of(&data));
        assert_eq!(outboard.as_bytes().len() as u64, outboard_bytes(length));
    }
}

/// The reference tool: its encoder makes the same slice of every block, and its decoder, once the header is compared, takes ours.
#[test]
fn a_slice_of_one_block_is_the_reference_tools() {
    for length in LENGTHS {
        let data = bytes(length);
        let outboard = Outboard::of(&data);
        let (encoded, hash) = bao::encode::encode(&data);
        assert_eq!(hash.as_bytes(), outboard.object().root.as_bytes());
        for block in 0..length.div_ceil(BLOCK_BYTES) {
            let ours = slice(
                &data,
                &outboard,
                &Selection::blocks(length, [block]).unwrap(),
            );
            let start = block * BLOCK_BYTES;
            let mut theirs = Vec::new();
            bao::encode::SliceExtractor::new(Cursor::new(&encoded), start, BLOCK_BYTES)
                .read_to_end(&mut theirs)
                .unwrap();
            assert_eq!(ours, theirs, "block {block} of {length} bytes");

            assert_eq!(ours[..8], length.to_le_bytes());
            let mut decoded = Vec::new();
            bao::decode::SliceDecoder::new(&ours[..], &hash, start, BLOCK_BYTES)
                .read_to_end(&mut decoded)
                .unwrap();
            let end = (start + BLOCK_BYTES).min(length);
            assert_eq!(
                decoded,
                data[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()]
            );
        }
    }
}

/// A slice of groups is what bao-tree's own encoder makes, after the header.
#[test]
fn a_slice_of_groups_is_bao_trees() {
    use bao_tree::{
        BlockSize, ChunkNum, ChunkRanges,
        io::{outboard::PostOrderMemOutboard, sync::encode_ranges_validated},
    };
    for length in LENGTHS {
        let data = bytes(length);
        let ours = Outboard::of(&data);
        let theirs = PostOrderMemOutboard::create(&data, BlockSize::from_chunk_log(4));
        assert_eq!(ours.as_bytes(), &theirs.data[..]);
        for first in 0..groups(length) {
            for end in first + 1..=groups(length) {
                let selection = Selection::groups(length, std::iter::once(first..end)).unwrap();
                let ranges = ChunkRanges::from(ChunkNum(first * 16)..ChunkNum(end * 16));
                let mut out = length.to_le_bytes().to_vec();
                encode_ranges_validated(&data[..], &theirs, &ranges, &mut out).unwrap();
                assert_eq!(slice(&data, &ours, &selection), out);
            }
        }
    }
}

#[test]
fn the_proof_of_a_block_is_as_short_as_measured() {
    let proof = |length: u64, blocks: &[u64]| {
        let selection = Selection::blocks(length, blocks.iter().copied()).unwrap();
        selection.slice_bytes() - blocks.len() as u64 * BLOCK_BYTES
    };
    assert_eq!(proof(16 << 20, &[0]), 968);
    assert_eq!(proof(16 << 20, &[4095]), 968);
    // Two in one pack share what they can.
    assert!(proof(16 << 20, &[17, 4000]) < 2 * 968);
    assert_eq!(proof(1 << 30, &[77_777]), 1_352);
    // Of these the three nodes inside the block, and the header, follow from what the verifier has; the reference tool wants them.
    assert_eq!(proof(1 << 30, &[77_777]) - 3 * 64 - 8, 1_152);
    let data = bytes(16 << 20);
    let outboard = Outboard::of(&data);
    let selection = Selection::blocks(16 << 20, [1234]).unwrap();
    assert_eq!(slice(&data, &outboard, &selection).len(), 4096 + 968);
}

/// A selection of an object, in either unit.
fn any_selection() -> impl Strategy<Value = (u64, Selection)> {
    let length = (1_u64..400_000, any::<bool>()).prop_map(|(length, round)| {
        if round {
            length.next_multiple_of(BLOCK_BYTES)
        } else {
            length
        }
    });
    length.prop_flat_map(|length| {
        let blocks = proptest::collection::btree_set(0..length.div_ceil(BLOCK_BYTES), 1..6);
        let groups = proptest::collection::btree_set(0..groups(length), 1..6);
        prop_oneof![
            blocks.prop_map(move |blocks| (length, Selection::blocks(length, blocks).unwrap())),
            groups.prop_map(move |set| {
                let mut map =
                    crate::live_map::LiveMap::empty(u32::try_from(self::groups(length)).unwrap());
                for group in set {
                    let group = u32::try_from(group).unwrap();
                    map.insert(group..group + 1).unwrap();
                }
                (length, Selection::of_map(length, &map).unwrap())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_slice_gives_back_what_was_selected((length, selection) in any_selection()) {
        let data = bytes(length);
        let outboard = Outboard::of(&data);
        let slice = slice(&data, &outboard, &selection);
        prop_assert_eq!(slice.len() as u64, selection.slice_bytes());
        let extents = decode_slice(&slice, outboard.object(), &selection).unwrap();
        for extent in extents.iter() {
            let start = usize::try_from(extent.offset).unwrap();
            prop_assert_eq!(&extent.bytes[..], &data[start..start + extent.bytes.len()]);
        }
        prop_assert_eq!(inspect_slice(&slice, outboard.object(), &selection), Ok(Vec::new()));
    }

    #[test]
    fn any_flipped_bit_is_seen((length, selection) in any_selection(), at: proptest::sample::Index, bit in 0..8) {
        let data = bytes(length);
        let outboard = Outboard::of(&data);
        let mut slice = slice(&data, &outboard, &selection);
        let at = at.index(slice.len());
        slice[at] ^= 1_u8 << bit;
        prop_assert!(decode_slice(&slice, outboard.object(), &selection).is_err());
        let inspected = inspect_slice(&slice, outboard.object(), &selection);
        prop_assert!(inspected.is_err() || inspected.is_ok_and(|failed| !failed.is_empty()));
    }

    #[test]
    fn a_slice_cut_short_or_too_long_is_refused((length, selection) in any_selection(), cut: proptest::sample::Index) {
        let data = bytes(length);
        let outboard = Outboard::of(&data);
        let mut slice = slice(&data, &outboard, &selection);
        let short = &slice[..cut.index(slice.len())];
        prop_assert!(decode_slice(short, outboard.object(), &selection).is_err());
        prop_assert!(inspect_slice(short, outboard.object(), &selection).is_err());
        slice.push(0);
        prop_assert!(decode_slice(&slice, outboard.object(), &selection).is_err());
        prop_assert!(inspect_slice(&slice, outboard.object(), &selection).is_err());
    }
}

/// A provider lost the last quarter of an object, keeps the right side of the tree as bare hashes, and claims a length that makes what it
/// still has the whole: BLAKE3 binds bytes, not lengths, and a decoder that believes the header accepts it.
#[test]
fn the_length_lie_is_refused() {
    let length = 64 * GROUP_BYTES;
    let data = bytes(length);
    let honest = Outboard::of(&data);
    let object = *honest.object();
    let claimed = length / 4 * 3;
    let selection = Selection::blocks(length, [5]).unwrap();
    let truth = slice(&data, &honest, &selection);
    let mut lie = truth.clone();
    lie[..8].copy_from_slice(&claimed.to_le_bytes());

    // Who takes the length from the header is deceived: the reference decoder says nothing.
    let hash = blake3::Hash::from_bytes(object.root.0);
    let mut decoded = Vec::new();
    bao::decode::SliceDecoder::new(&lie[..], &hash, 5 * BLOCK_BYTES, BLOCK_BYTES)
        .read_to_end(&mut decoded)
        .unwrap();
    assert_eq!(decoded.len() as u64, BLOCK_BYTES);

    let refused = SliceError::Length {
        expected: length,
        found: claimed,
    };
    assert_eq!(
        decode_slice(&lie, &object, &selection),
        Err(refused.clone())
    );
    assert_eq!(inspect_slice(&lie, &object, &selection), Err(refused));
    assert!(decode_slice(&truth, &object, &selection).is_ok());
    // Nor does a reference with the claimed length reach a decoder with a selection of the true one.
    let other = ObjectRef {
        length: claimed,
        ..object
    };
    assert_eq!(
        decode_slice(&lie, &other, &selection),
        Err(SliceError::Selection)
    );
}

/// Zeros where a hole was punched are not what the root names.
#[test]
fn the_hole_lie_is_refused() {
    let length = 8 * GROUP_BYTES;
    let data = bytes(length);
    let outboard = Outboard::of(&data);
    let object = *outboard.object();
    let mut holed = data.clone();
    holed[3 * 16_384..5 * 16_384].fill(0);
    let both = Selection::blocks(length, [4, 13, 20]).unwrap();
    let mut lie = Vec::new();
    encode_slice_as_is(&holed, &outboard.as_bytes(), &both, &mut lie).unwrap();
    // Block 13 is in the hole; the others still verify.
    assert!(decode_slice(&lie, &object, &both).is_err());
    let failed = inspect_slice(&lie, &object, &both).unwrap();
    let leaves: Vec<_> = failed.into_iter().flatten().collect();
    assert_eq!(leaves, (52..56).collect::<Vec<_>>());
    // An honest provider finds its own damage.
    let mut out = Vec::new();
    let found = encode_slice(&holed, &outboard.as_bytes(), &object.root, &both, &mut out);
    assert!(matches!(
        found,
        Err(EncodeSliceError::Damaged { offset: 49_152 })
    ));
    let dead = Selection::groups(length, std::iter::once(2..4)).unwrap();
    let mut out = Vec::new();
    encode_slice_as_is(&holed, &outboard.as_bytes(), &dead, &mut out).unwrap();
    assert_eq!(
        decode_slice(&out, &object, &dead),
        Err(SliceError::Mismatch { offset: 49_152 })
    );
}

#[test]
fn only_selected_groups_are_read() {
    struct Watched(Vec<u8>, std::cell::RefCell<Vec<u64>>);
    impl ReadAt for Watched {
        fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
            assert!(buffer.len() as u64 <= GROUP_BYTES);
            self.1.borrow_mut().push(offset / GROUP_BYTES);
            self.0.read_exact_at(offset, buffer)
        }
    }
    let length = 40 * GROUP_BYTES;
    let data = bytes(length);
    let outboard = Outboard::of(&data);
    let watched = Watched(data, std::cell::RefCell::default());
    let selection = Selection::blocks(length, [5, 7, 90]).unwrap();
    encode_slice(
        &watched,
        &outboard.as_bytes(),
        &outboard.object().root,
        &selection,
        &mut Vec::new(),
    )
    .unwrap();
    assert_eq!(watched.1.take(), [1, 22]);
}

#[test]
fn selections_that_cannot_be_are_refused() {
    let length = 10 * BLOCK_BYTES;
    assert_eq!(Selection::blocks(length, []), Err(SelectionError::Empty));
    assert_eq!(
        Selection::blocks(0, [0]),
        Err(SelectionError::OutOfRange { length: 0 })
    );
    assert!(Selection::blocks(length, [9]).is_ok());
    assert_eq!(
        Selection::blocks(length, [10]),
        Err(SelectionError::OutOfRange { length })
    );
    assert_eq!(
        Selection::blocks(length, [3, 3]),
        Err(SelectionError::Order)
    );
    assert_eq!(
        Selection::blocks(length, [4, 3]),
        Err(SelectionError::Order)
    );
    assert_eq!(
        Selection::groups(length, [0..1, 1..2]),
        Err(SelectionError::Order)
    );
    assert!(Selection::blocks(u64::MAX, [u64::MAX]).is_err());
    assert!(Selection::blocks(u64::MAX, [0]).is_err());
}

#[test]
fn a_whole_object_is_held_against_length_and_hash() {
    let data = bytes(5000);
    let object = ObjectRef::of(&data);
    assert_eq!(&*verify_whole(data.clone(), &object).unwrap(), &data);
    let other = ObjectRef {
        root: RootHash([1; 32]),
        ..object
    };
    assert_eq!(
        verify_whole(data.clone(), &other),
        Err(SliceError::Mismatch { offset: 0 })
    );
    assert!(matches!(
        verify_whole(data[1..].to_vec(), &object),
        Err(SliceError::Length { .. })
    ));
}
