use std::collections::HashMap;

use proptest::prelude::*;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;
use crate::{
    id::RootHash,
    inventory::{Change, Child, Entry, Inventory, Node, Slots},
    live_map::LiveMap,
    units::{BLOCK_BYTES, BLOCKS_PER_GROUP, GROUP_BYTES},
    verify::{Outboard, Selection, encode_slice_as_is},
};

const SIGNATURE: [u8; 64] = [9; 64];

/// A provider with one channel, honest or not.
#[derive(Clone)]
struct Provider {
    nodes: HashMap<ObjectRef, Vec<u8>>,
    packs: HashMap<ObjectRef, (Vec<u8>, Outboard)>,
    inventories: [Inventory; 2],
    head: AuditedHead,
    head_bytes: Vec<u8>,
    commit: Vec<u8>,
}

impl AuditSource for Provider {
    fn node(&mut self, node: &ObjectRef) -> Option<Vec<u8>> {
        self.nodes.get(node).cloned()
    }

    fn slice(&mut self, pack: &ObjectRef, blocks: &Selection) -> Option<Vec<u8>> {
        let (data, outboard) = self.packs.get(pack)?;
        let mut out = Vec::new();
        encode_slice_as_is(data, &outboard.as_bytes(), blocks, &mut out).ok()?;
        Some(out)
    }
}

impl Provider {
    /// A channel of `counts` packs of a few groups in each stratum, partly dead.
    fn new(seed: u64, counts: [u32; 2]) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut packs = HashMap::new();
        let inventories = counts.map(|count| {
            let mut inventory = Inventory::new();
            let changes: Vec<_> = (0..count)
                .map(|_| {
                    let blocks = 1 + u64::from(rng.next_u32() % 30);
                    let mut data = vec![0; usize::try_from(blocks * BLOCK_BYTES).unwrap()];
                    rng.fill_bytes(&mut data);
                    let outboard = Outboard::of(&data);
                    let pack = *outboard.object();
                    let groups = u32::try_from(crate::units::groups(pack.length)).unwrap();
                    let mut live = LiveMap::empty(groups);
                    live.insert(0..1).unwrap();
                    for group in 0..groups {
                        if !rng.next_u32().is_multiple_of(3) {
                            live.insert(group..group + 1).unwrap();
                        }
                    }
                    // Dead groups are holes.
                    for group in (0..groups).filter(|group| !live.contains(*group)) {
                        let start = usize::try_from(u64::from(group) * GROUP_BYTES).unwrap();
                        let end = data
                            .len()
                            .min(start + usize::try_from(GROUP_BYTES).unwrap());
                        data[start..end].fill(0);
                    }
                    packs.insert(pack, (data, outboard));
                    Change::Set(Entry::new(pack, live).unwrap())
                })
                .collect();
            inventory.apply(changes).unwrap();
            inventory
        });
        let commit = vec![5; 300];
        let head = AuditedHead {
            data: inventories[0].reference(),
            vital: inventories[1].reference(),
            commit: ObjectRef::of(&commit),
        };
        let nodes = inventories.iter().flat_map(Inventory::nodes);
        Self {
            nodes: nodes.map(|(node, bytes)| (node, bytes.to_vec())).collect(),
            packs,
            head,
            head_bytes: format!("{head:?}").into_bytes(),
            inventories,
            commit,
        }
    }

    fn root(&self) -> RootHash {
        RootHash::of(&self.head_bytes)
    }

    fn challenge(&self, seed: u64, count: usize) -> Challenge {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Challenge::draw(&mut rng, self.root(), &self.head, count)
    }

    fn answer(&mut self, challenge: &Challenge) -> Vec<u8> {
        let (head, head_bytes, commit) = (self.head, self.head_bytes.clone(), self.commit.clone());
        answer(
            challenge,
            &head,
            &head_bytes,
            &SIGNATURE,
            Some(&commit),
            self,
        )
        .unwrap()
    }

    fn check(&self, challenge: &Challenge, answer: &[u8]) -> Result<AuditReport, AuditError> {
        check(challenge, answer, |bytes, signature| {
            (bytes == self.head_bytes && signature == &SIGNATURE).then_some(self.head)
        })
    }

    fn audit(&mut self, challenge: &Challenge) -> AuditReport {
        let answer = self.answer(challenge);
        self.check(challenge, &answer).unwrap()
    }

    /// Every live block of a stratum in the order of positions.
    fn live_blocks(&self, stratum: Stratum) -> Vec<(ObjectRef, u64)> {
        let entries = self.inventories[stratum as usize].entries();
        let blocks = |entry: &Entry| {
            let (pack, live) = (*entry.pack(), entry.live().clone());
            let lives =
                move |block: &u64| live.contains(u32::try_from(block / BLOCKS_PER_GROUP).unwrap());
            (0..pack.length / BLOCK_BYTES)
                .filter(lives)
                .map(move |block| (pack, block))
        };
        entries.flat_map(blocks).collect()
    }
}

#[test]
fn an_intact_store_passes_whatever_is_drawn() {
    for (seed, counts) in [
        (1, [40, 3]),
        (2, [0, 1]),
        (3, [1, 0]),
        (4, [0, 0]),
        (5, [1100, 40]),
    ] {
        let mut provider = Provider::new(seed, counts);
        for count in [1, 20, SLICES, SLICES_MAX] {
            let challenge = provider.challenge(seed, count);
            let report = provider.audit(&challenge);
            assert!(report.is_intact());
            assert_eq!(&**report.commit.as_ref().unwrap(), &provider.commit);
            for stratum in Stratum::ALL {
                let live_blocks = provider.live_blocks(stratum).len() as u64;
                assert_eq!(report.stratum(stratum).live_blocks, live_blocks);
                assert_eq!(report.stratum(stratum).asked, live_blocks.min(count as u64));
            }
        }
    }
}

/// Positions mean the live blocks in the inventory's order, and a lost one is found exactly where it is.
#[test]
fn exactly_the_damaged_positions_are_reported() {
    let mut provider = Provider::new(7, [50, 5]);
    let challenge = provider.challenge(7, SLICES_MAX);
    let live = Stratum::ALL.map(|stratum| provider.live_blocks(stratum));
    let mut rng = ChaCha20Rng::seed_from_u64(8);
    let mut damaged = [Vec::new(), Vec::new()];
    for _ in 0..12 {
        let stratum = usize::try_from(rng.next_u32() % 2).unwrap();
        let (pack, block) = live[stratum][rng.next_u32() as usize % live[stratum].len()];
        let at = usize::try_from(block * BLOCK_BYTES).unwrap() + 77;
        let (data, outboard) = provider.packs.get_mut(&pack).unwrap();
        // Once only: a byte flipped twice is whole again.
        if !damaged[stratum].contains(&(pack, block / BLOCKS_PER_GROUP)) {
            data[at] ^= 1;
            assert_ne!(&Outboard::of(data), &*outboard);
        }
        damaged[stratum].push((pack, block / BLOCKS_PER_GROUP));
    }
    let report = provider.audit(&challenge);
    assert!(!report.is_intact());
    for stratum in Stratum::ALL {
        // The group of a damaged block cannot be proven in any part: its own hash does not come out any more.
        let expected: Vec<_> = live[stratum as usize]
            .iter()
            .enumerate()
            .filter(|(_, (pack, block))| {
                damaged[stratum as usize].contains(&(*pack, block / BLOCKS_PER_GROUP))
            })
            .map(|(position, place)| Failed {
                position: position as u64,
                place: Some(*place),
                failure: Failure::Damaged,
            })
            .collect();
        assert_eq!(report.stratum(stratum).failed, expected);
    }
}

#[test]
fn what_is_missing_is_reported_as_missing() {
    let mut provider = Provider::new(9, [1100, 4]);
    let challenge = provider.challenge(9, SLICES);
    let whole = provider.clone();
    let failures = |report: &AuditReport| {
        let failed = &report.data.failed;
        assert!(
            !failed.is_empty()
                && failed
                    .iter()
                    .all(|failed| failed.failure == Failure::Missing)
        );
        failed.len()
    };

    let (pack, _) = provider.live_blocks(Stratum::Data)
        [usize::try_from(challenge.positions(Stratum::Data)[3]).unwrap()];
    provider.packs.remove(&pack);
    let report = provider.audit(&challenge);
    assert!(failures(&report) < 10);
    assert!(
        report
            .data
            .failed
            .iter()
            .all(|failed| failed.place.unwrap().0 == pack)
    );
    assert!(report.vital.failed.is_empty() && report.commit.is_ok());

    let mut provider = whole.clone();
    provider.nodes.remove(&provider.head.data.top().unwrap());
    assert_eq!(failures(&provider.audit(&challenge)), SLICES);

    let mut provider = whole;
    let (head, bytes) = (provider.head, provider.head_bytes.clone());
    let answer = answer(&challenge, &head, &bytes, &SIGNATURE, None, &mut provider).unwrap();
    let report = provider.check(&challenge, &answer).unwrap();
    assert_eq!(report.commit, Err(Failure::Missing));
    assert!(report.data.failed.is_empty());
    // Of a root that was replaced the commit may have been thinned out; a wrong one is damage whatever its age.
    assert!(!report.is_intact() && report.is_intact_of_old_root());
    let wrong = Some(&[6; 300][..]);
    let answer =
        super::answer(&challenge, &head, &bytes, &SIGNATURE, wrong, &mut provider).unwrap();
    let report = provider.check(&challenge, &answer).unwrap();
    assert_eq!(report.commit, Err(Failure::Damaged));
    assert!(!report.is_intact_of_old_root());
}

/// A provider that lost a pack's group cannot say that it was dead: the leaf that says so is not the one the root names.
#[test]
fn a_live_group_cannot_be_claimed_dead() {
    let mut provider = Provider::new(10, [6, 0]);
    let challenge = provider.challenge(10, SLICES_MAX);
    let top = provider.head.data.top().unwrap();
    let node = Node::parse(&provider.nodes[&top]).unwrap();
    let Slots::Leaf(mut entries) = node.slots().clone() else {
        panic!("six packs fit one leaf");
    };
    let (_, entry) = entries
        .iter_mut()
        .find(|(_, entry)| entry.live().count() > 1)
        .unwrap();
    let mut live = LiveMap::empty(entry.live().groups());
    live.insert(0..1).unwrap();
    *entry = Entry::new(*entry.pack(), live).unwrap();
    let lie = Node::leaf(entries).unwrap();
    let honest = provider.answer(&challenge);
    let at = honest
        .windows(12)
        .position(|bytes| bytes == &provider.nodes[&top][..12])
        .unwrap();
    // The lie in place of the node, whose length stands before it in two bytes, and no slices: there is nothing it could be asked for.
    let mut forged = honest[..at - 2].to_vec();
    crate::codec::Put::put_bytes(&mut forged, &lie.encode());
    let report = provider.check(&challenge, &forged).unwrap().data;
    assert_eq!(report.failed.len() as u64, report.asked);
    assert!(
        report
            .failed
            .iter()
            .all(|failed| failed.failure == Failure::Damaged)
    );
    // With a head of its own that names the lie, it answers another root.
    let child = Child {
        node: ObjectRef::of(&lie.encode()),
        sums: lie.sums(),
    };
    provider.nodes.insert(child.node, lie.encode());
    provider.head.data = InventoryRef::new(child);
    provider.head_bytes = format!("{:?}", provider.head).into_bytes();
    let (head, bytes, commit) = (
        provider.head,
        provider.head_bytes.clone(),
        provider.commit.clone(),
    );
    let refused = answer(
        &challenge,
        &head,
        &bytes,
        &SIGNATURE,
        Some(&commit),
        &mut provider,
    );
    assert_eq!(refused, Err(AuditError::WrongHead));
}

#[test]
fn another_head_or_signature_is_refused() {
    let mut provider = Provider::new(11, [3, 3]);
    let challenge = provider.challenge(11, 5);
    let answer = provider.answer(&challenge);
    assert!(provider.check(&challenge, &answer).unwrap().is_intact());
    let other = Challenge::new(RootHash([3; 32]), vec![0], vec![]).unwrap();
    assert_eq!(provider.check(&other, &answer), Err(AuditError::WrongHead));
    let nobody = check(&challenge, &answer, |_, _| None);
    assert_eq!(nobody, Err(AuditError::BadHead));
    let live_blocks = provider.head.data.sums().live_blocks;
    let past = Challenge::new(provider.root(), vec![live_blocks], vec![]).unwrap();
    let out_of_range = AuditError::OutOfRange {
        position: live_blocks,
        live_blocks,
    };
    assert_eq!(provider.check(&past, &answer), Err(out_of_range));
}

#[test]
fn dead_positions_are_struck_and_no_others() {
    let provider = Provider::new(12, [60, 6]);
    let mut challenge = provider.challenge(12, 200);
    let before = challenge.clone();
    let live = provider.live_blocks(Stratum::Data);
    let mut newer = provider.inventories.clone();
    // A later head lets some packs go, and a group of another.
    let entries: Vec<_> = newer[0].entries().cloned().collect();
    let gone: Vec<_> = entries[..10]
        .iter()
        .map(|entry| entry.pack().root)
        .collect();
    let part = entries[20..]
        .iter()
        .find(|entry| entry.live().count() > 2)
        .unwrap();
    let dead_group = part.live().runs().next().unwrap().start;
    let mut less = LiveMap::empty(part.live().groups());
    less.insert(dead_group..dead_group + 1).unwrap();
    let less = part.live().minus(&less);
    newer[0]
        .apply(
            gone.iter()
                .map(|root| Change::Remove(*root))
                .chain([Change::Set(Entry::new(*part.pack(), less).unwrap())]),
        )
        .unwrap();
    let struck = challenge
        .strike(
            &provider.head,
            |node| provider.nodes.get(node).cloned(),
            |stratum, pack, group| {
                let entry = newer[stratum as usize].entry(&pack.root);
                entry.is_some_and(|entry| entry.live().contains(group))
            },
        )
        .unwrap();
    let dead = |position: &&u64| {
        let (pack, block) = live[usize::try_from(**position).unwrap()];
        gone.contains(&pack.root)
            || (pack == *part.pack() && block / BLOCKS_PER_GROUP == u64::from(dead_group))
    };
    let expected: Vec<_> = before
        .positions(Stratum::Data)
        .iter()
        .filter(|position| !dead(position))
        .copied()
        .collect();
    assert!(struck > 0);
    assert_eq!(challenge.positions(Stratum::Data), expected);
    assert_eq!(
        challenge.positions(Stratum::Vital),
        before.positions(Stratum::Vital)
    );
    assert_eq!(
        struck,
        before.positions(Stratum::Data).len() - expected.len()
    );
}

#[test]
fn challenges_in_another_form_are_refused() {
    let root = RootHash([1; 32]);
    let good = Challenge::new(root, vec![0, 1, 700, u64::MAX], vec![5]).unwrap();
    let bytes = good.encode();
    assert_eq!(Challenge::parse(&bytes), Ok(good));
    assert_eq!(bytes.len(), 12 + 32 + 1 + 1 + 1 + 2 + 10 + 1 + 1);
    assert!(Challenge::parse(&bytes[..bytes.len() - 1]).is_err());
    assert!(Challenge::parse(&[&bytes[..], &[0]].concat()).is_err());
    assert!(Challenge::new(root, vec![3, 3], vec![]).is_err());
    assert!(Challenge::new(root, vec![4, 3], vec![]).is_err());
    let many = |count: u64| Challenge::new(root, (0..count).collect(), vec![]);
    assert_eq!(Challenge::parse(&many(4096).unwrap().encode()), many(4096));
    assert!(many(4097).is_err());
    // Past the last number there is.
    let mut over = Challenge::new(root, vec![u64::MAX], vec![])
        .unwrap()
        .encode();
    over[44] = 2;
    over.insert(over.len() - 1, 0);
    assert!(Challenge::parse(&over).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_challenge_that_parses_encodes_to_the_same_bytes(
        data in proptest::collection::btree_set(any::<u64>(), 0..20),
        vital in proptest::collection::btree_set(0_u64..100, 0..20),
        flip: (proptest::sample::Index, u8),
    ) {
        let challenge = Challenge::new(RootHash([2; 32]), data.into_iter().collect(), vital.into_iter().collect()).unwrap();
        let mut bytes = challenge.encode();
        prop_assert_eq!(Challenge::parse(&bytes), Ok(challenge));
        let at = flip.0.index(bytes.len());
        bytes[at] = flip.1;
        if let Ok(parsed) = Challenge::parse(&bytes) {
            prop_assert_eq!(parsed.encode(), bytes);
        }
    }

    /// No change of an answer passes, and none makes the check do anything but say so.
    #[test]
    fn a_forged_answer_never_passes(at: proptest::sample::Index, to: u8, cut: Option<proptest::sample::Index>) {
        let mut provider = Provider::new(13, [40, 2]);
        let challenge = provider.challenge(13, 12);
        let mut answer = provider.answer(&challenge);
        let at = at.index(answer.len());
        prop_assume!(answer[at] != to || cut.is_some());
        answer[at] = to;
        if let Some(cut) = cut {
            answer.truncate(cut.index(answer.len()));
        }
        prop_assert!(!provider.check(&challenge, &answer).is_ok_and(|report| report.is_intact()));
    }
}

/// Loses a fraction of the live blocks of one stratum, at random and in one piece, and audits many times: the share of audits that see it
/// must be what the formula says, within five standard deviations of a binomial share.
#[test]
fn simulated_losses_are_detected_as_often_as_predicted() {
    const AUDITS: u32 = 3000;
    let mut rng = ChaCha20Rng::seed_from_u64(14);
    let live_blocks = [200_000_u64, 3_000];
    for (stratum, live) in Stratum::ALL.into_iter().zip(live_blocks) {
        for (permille, slices) in [(10, 100), (10, SLICES), (2, SLICES), (100, 20)] {
            let lost = live * permille / 1000;
            // Scattered or in one piece makes no difference to a uniform sample.
            for start in [None, Some(live / 3)] {
                let scattered = draw(&mut rng, live, usize::try_from(lost).unwrap());
                let is_lost = |rank: u64| match start {
                    Some(start) => (start..start + lost).contains(&rank),
                    None => scattered.binary_search(&rank).is_ok(),
                };
                let mut seen = 0;
                for _ in 0..AUDITS {
                    let drawn = draw(&mut rng, live, slices);
                    seen += u32::from(drawn.into_iter().any(is_lost));
                }
                let observed = f64::from(seen) / f64::from(AUDITS);
                let exact = confidence::detection(live, lost, slices as u64);
                #[expect(clippy::cast_precision_loss, reason = "a few permille")]
                let bound = confidence::detection_at_least(permille as f64 / 1000.0, slices as u64);
                let error = 5.0 * (exact * (1.0 - exact) / f64::from(AUDITS)).sqrt() + 1e-9;
                assert!(
                    (observed - exact).abs() <= error,
                    "{stratum:?} {permille} {slices}: {observed} against {exact}"
                );
                assert!(
                    observed >= bound - error,
                    "{stratum:?} {permille} {slices}: {observed} below {bound}"
                );
            }
        }
    }
}

/// The same end to end: real packs, real slices, real answers.
#[test]
fn real_audits_see_a_lost_pack_as_often_as_predicted() {
    const AUDITS: u32 = 300;
    let mut provider = Provider::new(15, [30, 20]);
    for stratum in Stratum::ALL {
        let live = provider.live_blocks(stratum);
        let (pack, _) = live[live.len() / 2];
        let lost = live.iter().filter(|(other, _)| *other == pack).count() as u64;
        let kept = provider.packs.remove(&pack).unwrap();
        let mut seen = 0;
        for seed in 0..AUDITS {
            let challenge = provider.challenge(u64::from(seed) << 8, 10);
            let report = provider.audit(&challenge);
            seen += u32::from(!report.stratum(stratum).failed.is_empty());
        }
        provider.packs.insert(pack, kept);
        let exact = confidence::detection(live.len() as u64, lost, 10);
        let observed = f64::from(seen) / f64::from(AUDITS);
        let error = 5.0 * (exact * (1.0 - exact) / f64::from(AUDITS)).sqrt();
        assert!(
            (observed - exact).abs() <= error,
            "{observed} against {exact}"
        );
    }
}
