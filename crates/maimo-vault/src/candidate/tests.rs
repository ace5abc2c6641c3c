//! Claims about candidates: what a head names, and that what goes with it is enough to read it.

use std::collections::HashMap;

use maimo_core::{ancestry::AncestryLog, units::BLOCK_BYTES};
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::*;
use crate::{
    commit::{Segment, TailPiece},
    compress::{Compressor, Level},
    descent::{self, Seen},
    journal::{
        batch::{Batch, Stamp},
        record::{DROPPED_MAX, Record},
    },
    keys::StoreId,
    testing::{CHANNEL, WRITER, channel_keys, number, object, piece, rng},
};

const NOW: Timestamp = Timestamp(1_000);
/// Four groups.
const LENGTH: u64 = 4 * 16 * 1024;

fn live(groups: &[u32]) -> LiveMap {
    LiveMap::from_runs(4, groups.iter().map(|group| *group..group + 1)).unwrap()
}

fn entry(n: u64, live: LiveMap) -> Entry {
    Entry::new(object(n, LENGTH), live).unwrap()
}

fn target<const N: usize>(packs: [(u64, LiveMap); N]) -> BTreeMap<ObjectRef, LiveMap> {
    let packs = packs.into_iter().map(|(n, live)| (object(n, LENGTH), live));
    packs.collect()
}

fn store(sequence: u64) -> StorePart {
    StorePart {
        store: StoreId([1; 32]),
        sequence,
        parents: if sequence == 1 {
            Vec::new()
        } else {
            vec![crate::keys::CommitName([2; 32])]
        },
        writer: WRITER,
        run: None,
        layout_epoch: 1,
        witnesses: Vec::new(),
    }
}

/// A state with these segments, which the channel has as objects of the same numbers.
fn base(segments: &[u64]) -> (Base, BTreeMap<PackNumber, ObjectRef>) {
    let base = Base {
        segments: segments
            .iter()
            .map(|n| Segment {
                number: number(*n),
                sequence: 1,
                level: 0,
            })
            .collect(),
        tail: vec![TailPiece {
            sequence: 1,
            piece: piece(99, &[]),
        }],
        ..Base::default()
    };
    let objects = segments.iter().map(|n| (number(*n), object(*n, LENGTH)));
    (base, objects.collect())
}

fn try_advance(
    view: &ChannelView,
    segments: &[u64],
    data: Vec<Change>,
    dictionaries: &[ObjectRef],
    has: &[u64],
) -> Result<Candidate, CandidateError> {
    let (next, _) = base(segments);
    let (_, new_segments) = base(has);
    let advance = Advance {
        store: store(view.sequence() + 1),
        next: &next,
        data,
        dictionaries,
        new_segments: &new_segments,
    };
    let mut rng: ChaCha20Rng = rng();
    view.candidate(advance, &channel_keys(1), NOW, &mut rng)
}

fn advance(view: &ChannelView, segments: &[u64], data: Vec<Change>) -> Candidate {
    try_advance(view, segments, data, &[], segments).unwrap()
}

fn set(packs: core::ops::Range<u64>) -> Vec<Change> {
    let packs = packs.map(|n| Change::Set(entry(n, LiveMap::full(4))));
    packs.collect()
}

fn packs(inventory: &Inventory) -> BTreeSet<ObjectRef> {
    inventory.entries().map(|entry| *entry.pack()).collect()
}

#[test]
fn a_candidate_follows_the_head_before_it_and_seals_what_the_store_says() {
    let keys = channel_keys(1);
    let mut view = ChannelView::new(CHANNEL);
    let mut log = AncestryLog::default();
    for sequence in 1..5 {
        let seen = view.head.as_ref().map(Seen::of);
        let candidate = advance(&view, &[1, 2], Vec::new());
        let signed = candidate.after.head.as_ref().unwrap();
        let head = signed.head();
        assert_eq!((head.sequence, head.previous), (sequence, view.root()));
        assert_eq!((head.time, candidate.root), (NOW, signed.root()));
        let proof = log.prove(sequence - 1, sequence - 1);
        assert_eq!(descent::accept(seen, Some(signed), proof.as_ref()), Ok(()));
        log.append(candidate.root);

        assert!(head.commit.names(&candidate.commit));
        let commit = Commit::open(&candidate.commit, &keys.commit).unwrap();
        let (next, objects) = base(&[1, 2]);
        assert_eq!((commit.store, commit.tail), (store(sequence), next.tail));
        let journal = next.segments.iter();
        let journal: Vec<_> = journal
            .map(|segment| (*segment, objects[&segment.number]))
            .collect();
        assert_eq!(commit.journal, journal);
        view = candidate.after;
    }
}

#[test]
fn a_segment_that_is_not_on_the_channel_is_named_before_anything_is_made() {
    let view = ChannelView::new(CHANNEL);
    let error = try_advance(&view, &[1, 2], Vec::new(), &[], &[1]);
    assert!(matches!(error, Err(CandidateError::NoSegment(missing)) if missing == number(2)));
    // Those of the last commit need not be told again.
    let view = advance(&view, &[1, 2], Vec::new()).after;
    assert!(try_advance(&view, &[1, 2, 3], Vec::new(), &[], &[3]).is_ok());
}

#[test]
fn the_vital_inventory_is_the_segments_and_the_dictionaries_each_whole() {
    let dictionary = object(50, LENGTH);
    let view = ChannelView::new(CHANNEL);
    let view = try_advance(&view, &[1, 2], set(7..9), &[dictionary], &[1, 2]).unwrap();
    let view = view.after;
    let all = BTreeSet::from([object(1, LENGTH), object(2, LENGTH), dictionary]);
    assert_eq!(packs(&view.vital), all);
    assert!(view.vital.entries().all(|entry| entry.live().is_full()));
    assert_eq!(
        packs(&view.data),
        (7..9).map(|n| object(n, LENGTH)).collect()
    );
    // A merge took both segments, and the dictionary was retired.
    let merged = advance(&view, &[3], Vec::new()).after;
    assert_eq!(packs(&merged.vital), BTreeSet::from([object(3, LENGTH)]));
    assert_eq!(merged.segments.len(), 1);
    assert_eq!(packs(&merged.data), packs(&view.data));
}

#[test]
fn the_nodes_are_those_that_the_provider_lacks_to_read_the_head() {
    let mut held: HashMap<ObjectRef, Vec<u8>> = HashMap::new();
    let mut view = ChannelView::new(CHANNEL);
    for (segments, data) in [
        (&[1][..], set(10..200)),
        (&[1, 2], set(200..203)),
        (&[3], vec![]),
    ] {
        let candidate = advance(&view, segments, data);
        for (reference, bytes) in &candidate.nodes {
            assert!(reference.names(bytes));
            assert!(
                held.insert(*reference, bytes.clone()).is_none(),
                "sent twice"
            );
        }
        view = candidate.after;
        let head = view.head.as_ref().unwrap().head();
        assert_eq!(head.data, view.data.reference());
        assert_eq!(head.vital, view.vital.reference());
        for inventory in [&view.data, &view.vital] {
            let mut load = |reference: &ObjectRef| held.get(reference).cloned();
            let read = Inventory::load(&inventory.reference(), 1000, &mut load).unwrap();
            assert_eq!(packs(&read), packs(inventory));
        }
    }
}

#[test]
fn an_inventory_that_has_become_sparse_is_compacted_and_names_the_same() {
    let view = advance(&ChannelView::new(CHANNEL), &[], set(0..200)).after;
    let remove = |packs: core::ops::Range<u64>| -> Vec<Change> {
        let packs = packs.map(|n| Change::Remove(object(n, LENGTH).root));
        packs.collect()
    };
    let mut as_it_is = view.data.clone();
    as_it_is.apply(remove(0..150)).unwrap();
    assert!(as_it_is.is_sparse());
    let after = advance(&view, &[], remove(0..150)).after;
    assert!(!after.data.is_sparse());
    assert_eq!(packs(&after.data), packs(&as_it_is));
    assert_ne!(after.data.reference(), as_it_is.reference());
    // One with few holes is left alone: moving packs costs nodes.
    as_it_is = view.data.clone();
    as_it_is.apply(remove(0..50)).unwrap();
    let after = advance(&view, &[], remove(0..50)).after;
    assert_eq!(after.data.reference(), as_it_is.reference());
}

#[test]
fn a_small_request_carries_all_of_its_nodes() {
    let candidate = advance(&ChannelView::new(CHANNEL), &[1], set(10..20));
    let (request, ahead) = candidate.request();
    assert!(ahead.is_empty());
    assert_eq!(request.nodes.len(), candidate.nodes.len());
    assert_eq!(request.commit, candidate.commit);
    assert_eq!(HeadMove::parse(&request.encode()), Ok(request));
}

#[test]
fn nodes_beyond_what_a_request_may_carry_are_put_ahead_of_it() {
    // Packs of the longest kind with every fifth group dead take a bitmap each.
    let map = LiveMap::from_runs(4096, (0..800).map(|n| n * 5..n * 5 + 4)).unwrap();
    let length = 64 * 1024 * 1024;
    let change = |n| Change::Set(Entry::new(object(n, length), map.clone()).unwrap());
    let view = ChannelView::new(CHANNEL);
    let candidate = advance(&view, &[], (0..2500).map(change).collect());
    let (request, ahead) = candidate.request();
    let bytes: usize = request.nodes.iter().map(Vec::len).sum();
    assert!(bytes <= HeadMove::NODES_BYTES_MAX && bytes > HeadMove::NODES_BYTES_MAX / 2);
    assert!(!ahead.is_empty());
    let mut both: Vec<&[u8]> = request.nodes.iter().map(|node| &node[..]).collect();
    both.extend(&ahead);
    let all = candidate.nodes.iter().map(|(_, bytes)| &bytes[..]);
    let all: BTreeSet<&[u8]> = all.collect();
    assert_eq!(both.len(), all.len());
    assert_eq!(both.into_iter().collect::<BTreeSet<_>>(), all);
    assert_eq!(HeadMove::parse(&request.encode()), Ok(request));
}

#[test]
fn a_pack_is_living_to_a_view_under_its_own_length_only() {
    let view = advance(&ChannelView::new(CHANNEL), &[], set(1..2)).after;
    assert_eq!(view.live(&object(1, LENGTH)), Some(&LiveMap::full(4)));
    assert_eq!(view.live(&object(1, LENGTH - BLOCK_BYTES)), None);
    assert_eq!(view.live(&object(2, LENGTH)), None);
}

/// Returns the packs that an inventory of the packs 1 (the groups 0 and 1) and 2 (whole) names after `changes`, and how many those are.
fn changed(
    changes: impl Fn(&Inventory) -> Result<Vec<Change>, InventoryError>,
) -> (BTreeMap<ObjectRef, LiveMap>, usize) {
    let mut inventory = Inventory::new();
    let entries = [entry(1, live(&[0, 1])), entry(2, LiveMap::full(4))];
    inventory.apply(entries.map(Change::Set)).unwrap();
    let changes = changes(&inventory).unwrap();
    let count = changes.len();
    inventory.apply(changes).unwrap();
    let named = inventory.entries();
    let named = named.map(|entry| (*entry.pack(), entry.live().clone()));
    (named.collect(), count)
}

#[test]
fn naming_also_widens_what_lives_and_lets_nothing_go() {
    let also = |target| changed(|inventory| name_also(inventory, BTreeMap::clone(&target)));
    let wider = also(target([
        (1, live(&[1, 3])),
        (2, live(&[0])),
        (3, live(&[2])),
    ]));
    let named = target([
        (1, live(&[0, 1, 3])),
        (2, LiveMap::full(4)),
        (3, live(&[2])),
    ]);
    assert_eq!(wider, (named, 2));
    assert_eq!(also(target([(1, live(&[0]))])).1, 0);
}

#[test]
fn naming_exactly_narrows_and_lets_go_of_what_is_not_named() {
    let exactly = |target| changed(|inventory| name_exactly(inventory, BTreeMap::clone(&target)));
    let only = target([(1, live(&[1])), (3, live(&[0]))]);
    assert_eq!(exactly(only.clone()), (only, 3));
    let same = target([(1, live(&[0, 1])), (2, LiveMap::full(4))]);
    assert_eq!(exactly(same.clone()), (same, 0));
}

#[test]
fn a_map_that_does_not_fit_its_pack_is_refused() {
    let wrong = BTreeMap::from([(object(1, LENGTH), LiveMap::full(5))]);
    assert!(name_exactly(&Inventory::new(), wrong.clone()).is_err());
    assert!(name_also(&Inventory::new(), wrong).is_err());
}

/// Deleting moves almost nothing: what a store of thousands of packs sends to let go of a random half of files of 64 KiB to 4 MiB, in the request
/// that moves the head and in the segment that says which revisions are dropped. Nothing is received but a receipt.
#[test]
fn letting_go_of_half_the_files_sends_less_than_64_kib_for_a_thousand_packs() {
    const PACKS: u64 = 4096;
    const PACK_BYTES: u64 = 16 * 1024 * 1024;
    const GROUP: u64 = 16 * 1024;
    const GROUPS: u32 = 1024;
    let mut rng = rng();
    let mut draw = || rng.next_u64();
    let mut full = BTreeMap::new();
    let mut narrow = BTreeMap::new();
    let mut dropped = Vec::new();
    let mut revision = 0;
    // How much of the file at hand is left, and whether it stays.
    let (mut left, mut stays) = (0, false);
    for n in 0..PACKS {
        let pack = object(n, PACK_BYTES);
        // The header stands in the first group, table and trailer in the last.
        let mut runs = vec![0..1, GROUPS - 1..GROUPS];
        let mut at = 64;
        let end = PACK_BYTES - GROUP;
        while at < end {
            if left == 0 {
                // As many of each octave.
                let octave = (64 * 1024) << (draw() % 6);
                left = octave + draw() % octave;
                stays = draw() % 2 == 0;
                revision += 1;
                if !stays {
                    dropped.push(crate::testing::id(revision));
                }
            }
            let length = left.min(end - at);
            if stays {
                let group = |byte: u64| u32::try_from(byte / GROUP).unwrap();
                runs.push(group(at)..group(at + length - 1) + 1);
            }
            (at, left) = (at + length, left - length);
        }
        narrow.insert(pack, LiveMap::from_runs(GROUPS, runs).unwrap());
        full.insert(pack, LiveMap::full(GROUPS));
    }
    let view = ChannelView::new(CHANNEL);
    let changes = name_also(&view.data, full).unwrap();
    let view = advance(&view, &[1], changes).after;
    let changes = name_exactly(&view.data, narrow).unwrap();
    assert_eq!(changes.len() as u64, PACKS);
    let candidate = advance(&view, &[1], changes);
    let (request, ahead) = candidate.request();
    let records: Vec<Record> = dropped
        .chunks(DROPPED_MAX)
        .map(|ids| Record::Dropped { ids: ids.to_vec() })
        .collect();
    let stamp = Stamp {
        sequence: 0,
        id: crate::testing::id(0),
    };
    let stamped = records.into_iter().map(|record| (stamp, record));
    let batch = Batch::new(stamped.collect()).encode();
    let mut compressor = Compressor::new(Level::default());
    let segment = compressor.compress(&batch, None).bytes.len();
    let ahead: usize = ahead.iter().map(|node| node.len()).sum();
    let sent = request.encode().len() + ahead + segment;
    let thousand = sent as u64 * 1000 / PACKS;
    assert!(
        thousand < 64 * 1024,
        "{thousand} bytes, of which {segment} in all say which revisions"
    );
}
