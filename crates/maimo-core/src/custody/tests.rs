//! The rules against a small ledger in memory: one by one here, and by random histories in [`histories`].

use std::collections::BTreeMap;

use core::{ops::Range, time::Duration};

use super::*;
use crate::{
    ancestry::AncestryLog,
    codec::{Extensions, ParseError},
    head::{Head, HeadError},
    head_move::HeadMove,
    identity::ClientSecretKey,
    inventory::{Change, Entry, Inventory, InventoryError},
    live_map::LiveMap,
};

mod histories;

const DAY: u64 = 24 * 3_600_000;
const KIB: u64 = 1024;
/// Eight groups.
const PACK: u64 = 128 * KIB;
/// What one such pack is charged: seven inner nodes above its groups.
const PACK_CHARGE: u64 = PACK + 7 * 64;

/// A provider's rows of one channel, and the one client that there is.
#[derive(Clone)]
struct Ledger {
    state: ChannelState,
    terms: Terms,
    now: Timestamp,
    packs: BTreeMap<ObjectRef, HeldPack>,
    nodes: BTreeMap<ObjectRef, (Vec<u8>, Hold)>,
    heads: Vec<HeadRow>,
    uploads: Vec<Upload>,
    roots: Vec<RootHash>,
    is_broken: bool,
}

impl View for Ledger {
    fn pack(&self, pack: &ObjectRef) -> Result<Option<HeldPack>, Unavailable> {
        Ok(self.packs.get(pack).cloned())
    }

    fn node(&self, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>, Unavailable> {
        if self.is_broken {
            return Err(Unavailable);
        }
        Ok(self.nodes.get(node).cloned())
    }

    fn frees(&self) -> Result<Vec<Freeing>, Unavailable> {
        let packs = self.packs.values().flat_map(HeldPack::frees);
        let nodes = self.node_rows();
        let nodes = nodes
            .iter()
            .map(|row| (row.hold, log_charge(row.reference.length)));
        let heads = self.heads.iter().map(|row| (row.hold, row.charge()));
        let logs = nodes.chain(heads).filter_map(|(hold, bytes)| match hold {
            Hold::FreeAfter(date) => Some(Freeing { date, bytes }),
            Hold::Live => None,
        });
        Ok(packs.chain(logs).collect())
    }
}

impl Ledger {
    fn new(cap: u64) -> Self {
        Self {
            state: ChannelState::new(ChannelId([3; 32]), key(1).public()),
            terms: Terms::new(cap, None, None),
            now: Timestamp(1000 * DAY),
            packs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            heads: Vec::new(),
            uploads: Vec::new(),
            roots: Vec::new(),
            is_broken: false,
        }
    }

    fn node_rows(&self) -> Vec<NodeRow> {
        let row = |(reference, (_, hold)): (&ObjectRef, &(Vec<u8>, Hold))| NodeRow {
            reference: *reference,
            hold: *hold,
        };
        self.nodes.iter().map(row).collect()
    }

    fn begin(&mut self, pack: ObjectRef, class: PackClass) -> Result<(), UploadRefusal> {
        match begin_upload(self.state.totals, &self.terms, pack, class, self, self.now)? {
            Begun::Started { upload, totals } => {
                self.state.totals = totals;
                self.uploads.push(upload);
            }
            Begun::Held(held) => {
                self.packs.insert(pack, held);
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        for upload in core::mem::take(&mut self.uploads) {
            let held = self.packs.get(&upload.pack);
            let (pack, totals) =
                finish_upload(self.state.totals, &self.terms, &upload, held, self.now);
            self.state.totals = totals;
            self.packs.insert(upload.pack, pack);
        }
    }

    fn upload(&mut self, pack: ObjectRef, class: PackClass) {
        self.begin(pack, class).unwrap();
        self.finish();
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), UploadRefusal> {
        let (row, totals) = put_node(self.state.totals, &self.terms, bytes, self, self.now)?;
        self.state.totals = totals;
        self.nodes.insert(row.reference, (bytes.to_vec(), row.hold));
        Ok(())
    }

    /// Returns the head that would follow, unsigned.
    fn next_head(&self, data: &Inventory, vital: &Inventory) -> Head {
        Head {
            channel: self.state.channel,
            sequence: self.state.sequence() + 1,
            previous: self.state.root(),
            ancestry: AncestryLog::of(self.roots.iter().copied())
                .ancestry(self.roots.len() as u64)
                .unwrap()
                .hash(),
            data: data.reference(),
            vital: vital.reference(),
            commit: ObjectRef::of(&commit(self.state.sequence() + 1)),
            time: self.now,
            signer: key(1).public(),
            extensions: Extensions::default(),
        }
    }

    fn request(&self, data: &Inventory, vital: &Inventory) -> HeadMove {
        let head = self.next_head(data, vital);
        let nodes = data.nodes().chain(vital.nodes());
        HeadMove {
            commit: commit(head.sequence),
            nodes: nodes
                .filter(|(node, _)| !self.nodes.contains_key(node))
                .map(|(_, bytes)| bytes.to_vec())
                .collect(),
            ..signed(head)
        }
    }

    fn admit(&self, request: &HeadMove) -> Result<Verdict, Refusal> {
        admit(&self.state, &self.terms, request, self, self.now)
    }

    /// Applies what an admission says, as one transaction would.
    fn apply(&mut self, admission: Admission) {
        let row = admission.state.standing.clone().unwrap().row;
        if let Some(replaced) = admission.replaced {
            *self.heads.last_mut().unwrap() = replaced;
        }
        self.roots.push(row.root);
        self.heads.push(row);
        self.state = admission.state;
        for pack in admission.packs {
            self.packs.insert(*pack.reference(), pack);
        }
        for (node, bytes) in admission.new_nodes {
            self.nodes.insert(node, (bytes, Hold::Live));
        }
        for row in admission.nodes {
            self.nodes.get_mut(&row.reference).unwrap().1 = row.hold;
        }
    }

    fn move_head(&mut self, data: &Inventory, vital: &Inventory) -> Result<HeadMove, Refusal> {
        let request = self.request(data, vital);
        match self.admit(&request)? {
            Verdict::Admitted(admission) => self.apply(*admission),
            Verdict::AlreadyHere(_) => panic!("a new head cannot be here already"),
        }
        Ok(request)
    }

    fn sweep(&mut self) {
        let mut totals = self.state.totals;
        let now = self.now;
        self.packs.retain(|_, pack| {
            let Some(swept) = sweep_pack(totals, pack, now) else {
                return true;
            };
            totals = swept.totals;
            swept.pack.map(|rest| *pack = rest).is_some()
        });
        self.nodes.retain(|reference, (_, hold)| {
            let row = NodeRow {
                reference: *reference,
                hold: *hold,
            };
            sweep_node(totals, &row, now)
                .map(|rest| totals = rest)
                .is_none()
        });
        self.heads.retain(|row| {
            sweep_head(totals, row, now)
                .map(|rest| totals = rest)
                .is_none()
        });
        self.uploads.retain(|upload| {
            expire_upload(totals, upload, now)
                .map(|rest| totals = rest)
                .is_none()
        });
        self.state.totals = totals;
    }

    fn thin(&mut self) {
        let (totals, dropped) = thin_commits(self.state.totals, &self.heads, self.now);
        self.state.totals = totals;
        for row in &mut self.heads {
            if dropped.contains(&row.sequence) {
                row.commit = None;
            }
        }
    }

    fn recomputed(&self) -> Totals {
        let nodes = self.node_rows();
        Totals::recompute(self.packs.values(), &nodes, &self.heads, &self.uploads)
    }

    fn charged(&self) -> u64 {
        self.state.totals.charged(&self.terms)
    }

    fn wait(&mut self, days: u64) {
        self.now = self.now.after(Duration::from_millis(days * DAY));
    }
}

fn key(seed: u8) -> ClientSecretKey {
    ClientSecretKey::from_seed(&[seed; 32])
}

fn commit(sequence: u64) -> Vec<u8> {
    sequence.to_le_bytes().repeat(125)
}

fn signed(head: Head) -> HeadMove {
    HeadMove {
        head: head.sign(&key(1)).unwrap().encode(),
        ..HeadMove::default()
    }
}

fn pack(seed: u8) -> ObjectRef {
    ObjectRef {
        root: RootHash([seed; 32]),
        length: PACK,
    }
}

/// Returns the inventory that names these packs with these runs of groups.
fn inventory(packs: &[(ObjectRef, &[(u32, u32)])]) -> Inventory {
    let mut inventory = Inventory::new();
    for (pack, runs) in packs {
        let runs = runs.iter().map(|(start, end)| *start..*end);
        set(&mut inventory, *pack, LiveMap::from_runs(8, runs).unwrap());
    }
    inventory
}

fn set(inventory: &mut Inventory, pack: ObjectRef, live: LiveMap) {
    let entry = Entry::new(pack, live).unwrap();
    inventory.apply([Change::Set(entry)]).unwrap();
}

const WHOLE: &[(u32, u32)] = &[(0, 8)];

/// A ledger that holds packs 1 and 2 (data) and 101 (vital), all named by the first head.
fn begun() -> (Ledger, Inventory, Inventory) {
    let mut ledger = Ledger::new(1 << 20);
    for (seed, class) in [
        (1, PackClass::Data),
        (2, PackClass::Data),
        (101, PackClass::Vital),
    ] {
        ledger.upload(pack(seed), class);
    }
    let data = inventory(&[(pack(1), WHOLE), (pack(2), WHOLE)]);
    let vital = inventory(&[(pack(101), WHOLE)]);
    ledger.move_head(&data, &vital).unwrap();
    (ledger, data, vital)
}

#[test]
fn a_head_that_names_what_was_uploaded_is_admitted_and_charged_to_the_byte() {
    let (ledger, data, vital) = begun();
    let totals = ledger.state.totals;
    // A signed head of 374 bytes counts half a kilobyte, the commit of 1,000 bytes as it is, and each tree has one node.
    let nodes: u64 = data
        .nodes()
        .chain(vital.nodes())
        .map(|(node, _)| log_charge(node.length))
        .sum();
    assert_eq!(totals.live, 3 * PACK_CHARGE + 512 + 1000 + nodes);
    assert_eq!((totals.held, totals.reserved), (totals.live, 0));
    assert_eq!(totals, ledger.recomputed());
    assert_eq!(ledger.packs[&pack(1)].live(), LiveMap::full(8));
    assert_eq!(ledger.state.root(), ledger.roots[0]);
}

#[test]
fn the_same_request_again_is_answered_with_the_same_receipt_and_changes_nothing() {
    let (mut ledger, mut data, vital) = begun();
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    let request = ledger.move_head(&data, &vital).unwrap();
    let row = ledger.state.standing.clone().unwrap().row;
    ledger.wait(3);
    assert_eq!(
        ledger.admit(&request),
        Ok(Verdict::AlreadyHere(row.clone()))
    );
    let acknowledged = row.acknowledged(ledger.state.channel, LedgerInstance([1; 16]));
    assert_eq!(acknowledged.time, Timestamp(1000 * DAY));
    assert_eq!(acknowledged.sequence, 2);
}

#[test]
fn a_head_made_on_another_root_loses_and_learns_who_won() {
    let (mut ledger, data, vital) = begun();
    let mut other = data.clone();
    set(
        &mut other,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    let loser = ledger.request(&other, &vital);
    ledger.wait(1);
    ledger.move_head(&data, &vital).unwrap();
    assert_eq!(
        ledger.admit(&loser),
        Err(Refusal::Conflict {
            current: ledger.state.root(),
            sequence: 2
        })
    );
    let empty = Ledger::new(1 << 20);
    assert_eq!(
        empty.admit(&loser),
        Err(Refusal::Conflict {
            current: RootHash::NONE,
            sequence: 0
        })
    );
}

#[test]
fn a_head_not_of_this_channel_s_signer_is_refused_before_anything_is_read() {
    let (mut ledger, data, vital) = begun();
    ledger.is_broken = true;
    let head = Head {
        signer: key(2).public(),
        ..ledger.next_head(&data, &vital)
    };
    let request = HeadMove {
        head: head.sign(&key(2)).unwrap().encode(),
        ..HeadMove::default()
    };
    assert_eq!(ledger.admit(&request), Err(HeadError::Signer.into()));
    let other = Head {
        channel: ChannelId([4; 32]),
        ..ledger.next_head(&data, &vital)
    };
    assert_eq!(ledger.admit(&signed(other)), Err(HeadError::Channel.into()));
    let none = HeadMove::default();
    assert!(matches!(
        ledger.admit(&none),
        Err(Refusal::Head(HeadError::Parse(
            ParseError::Truncated { .. }
        )))
    ));
}

#[test]
fn sequence_number_ancestry_and_commit_must_follow() {
    let (ledger, data, vital) = begun();
    let head = ledger.next_head(&data, &vital);
    let of = |head: Head| HeadMove {
        commit: commit(2),
        ..signed(head)
    };
    assert!(ledger.admit(&of(head.clone())).is_ok());
    let leap = Head {
        sequence: 3,
        ..head.clone()
    };
    assert_eq!(
        ledger.admit(&of(leap)),
        Err(Refusal::Sequence { expected: 2 })
    );
    let forgets = Head {
        ancestry: Ancestry::empty().hash(),
        ..head.clone()
    };
    assert_eq!(ledger.admit(&of(forgets)), Err(Refusal::Ancestry));
    let other_commit = HeadMove {
        commit: commit(3),
        ..signed(head)
    };
    assert_eq!(ledger.admit(&other_commit), Err(Refusal::Commit));
}

#[test]
fn a_node_neither_sent_nor_held_is_asked_for_and_one_put_ahead_is_found() {
    let (mut ledger, mut data, vital) = begun();
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    let mut request = ledger.request(&data, &vital);
    let node = request.nodes.pop().unwrap();
    assert!(request.nodes.is_empty());
    assert_eq!(
        ledger.admit(&request),
        Err(Refusal::Inventory {
            class: PackClass::Data,
            source: InventoryError::MissingNode {
                node: ObjectRef::of(&node)
            }
        })
    );
    ledger.put(&node).unwrap();
    assert_eq!(ledger.state.totals, ledger.recomputed());
    assert!(matches!(ledger.admit(&request), Ok(Verdict::Admitted(_))));
    ledger.wait(30);
    ledger.sweep();
    assert!(
        ledger.admit(&request).is_err(),
        "the node is not kept for ever"
    );
    assert!(matches!(
        ledger.put(b"no node"),
        Err(UploadRefusal::Node(_))
    ));
}

#[test]
fn putting_a_node_that_waits_does_not_shorten_its_wait() {
    let (mut ledger, mut data, vital) = begun();
    let old = data.nodes().next().unwrap().1.to_vec();
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    ledger.move_head(&data, &vital).unwrap();
    ledger.terms = Terms::new(1 << 20, None, Some(Grace::For(Duration::ZERO)));
    ledger.put(&old).unwrap();
    ledger.wait(29);
    ledger.sweep();
    assert!(ledger.nodes.contains_key(&ObjectRef::of(&old)));
    assert_eq!(ledger.state.totals, ledger.recomputed());
}

#[test]
fn a_node_of_the_newest_head_that_is_lost_is_not_the_client_s_fault() {
    let (mut ledger, mut data, vital) = begun();
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    let request = ledger.request(&data, &vital);
    ledger.nodes.clear();
    assert_eq!(
        ledger.admit(&request),
        Err(Refusal::Unavailable(Unavailable))
    );
    ledger.is_broken = true;
    assert_eq!(
        ledger.admit(&request),
        Err(Refusal::Unavailable(Unavailable))
    );
}

#[test]
fn sums_that_a_head_makes_up_are_refused() {
    let (ledger, data, vital) = begun();
    let mut child = *data.reference().child().unwrap();
    child.sums.charged -= 1;
    let head = Head {
        data: InventoryRef::new(child),
        ..ledger.next_head(&data, &vital)
    };
    let request = HeadMove {
        commit: commit(2),
        ..signed(head)
    };
    assert!(matches!(
        ledger.admit(&request),
        Err(Refusal::Inventory {
            source: InventoryError::Sums { .. },
            ..
        })
    ));
}

#[test]
fn a_pack_stands_in_one_place_only() {
    let (mut ledger, data, vital) = begun();
    // In both inventories, at once or one after the other.
    let mut twice = vital.clone();
    set(&mut twice, pack(1), LiveMap::full(8));
    assert_eq!(
        ledger.move_head(&data, &twice),
        Err(Refusal::PackTwice { pack: pack(1) })
    );
    ledger.upload(pack(3), PackClass::Data);
    let mut data_3 = data.clone();
    set(&mut data_3, pack(3), LiveMap::full(8));
    let mut vital_3 = vital.clone();
    set(&mut vital_3, pack(3), LiveMap::full(8));
    assert_eq!(
        ledger.move_head(&data_3, &vital_3),
        Err(Refusal::PackTwice { pack: pack(3) })
    );
    assert_eq!(
        ledger.move_head(&data, &vital_3),
        Err(Refusal::WrongClass { pack: pack(3) })
    );
}

/// The difference of two trees does not read what did not change, so a second entry for a pack there cannot be seen in it.
#[test]
fn a_pack_named_again_far_from_its_unchanged_entry_is_refused() {
    let mut ledger = Ledger::new(64 << 20);
    let mut data = Inventory::new();
    for seed in 0..70 {
        ledger.upload(pack(seed), PackClass::Data);
        set(&mut data, pack(seed), LiveMap::full(8));
    }
    ledger.move_head(&data, &Inventory::new()).unwrap();
    // A leaf of its own that names pack 0, put in the place of the third leaf.
    let own = inventory(&[(pack(0), WHOLE)]);
    let top = data.reference().top().unwrap();
    let top = data.nodes().find(|(node, _)| *node == top).unwrap().1;
    let top = crate::inventory::Node::parse(top).unwrap();
    let crate::inventory::Slots::Inner(children) = top.slots() else {
        panic!("70 packs need two levels");
    };
    let mut children = children.clone();
    children[2].1 = *own.reference().child().unwrap();
    let top = crate::inventory::Node::inner(1, children).unwrap();
    let forged = InventoryRef::new(crate::inventory::Child {
        node: ObjectRef::of(&top.encode()),
        sums: top.sums(),
    });
    let head = Head {
        data: forged,
        ..ledger.next_head(&data, &Inventory::new())
    };
    let request = HeadMove {
        commit: commit(2),
        nodes: vec![top.encode(), own.nodes().next().unwrap().1.to_vec()],
        ..signed(head)
    };
    assert_eq!(
        ledger.admit(&request),
        Err(Refusal::PackTwice { pack: pack(0) })
    );
}

#[test]
fn a_pack_in_two_leaves_that_are_both_new_is_refused() {
    let mut ledger = Ledger::new(1 << 20);
    ledger.upload(pack(1), PackClass::Data);
    let leaf = inventory(&[(pack(1), WHOLE)]);
    let child = *leaf.reference().child().unwrap();
    let top = crate::inventory::Node::inner(1, vec![(0, child), (1, child)]).unwrap();
    let twice = InventoryRef::new(crate::inventory::Child {
        node: ObjectRef::of(&top.encode()),
        sums: top.sums(),
    });
    let head = Head {
        data: twice,
        ..ledger.next_head(&Inventory::new(), &Inventory::new())
    };
    let request = HeadMove {
        commit: commit(1),
        nodes: vec![top.encode(), leaf.nodes().next().unwrap().1.to_vec()],
        ..signed(head)
    };
    assert_eq!(
        ledger.admit(&request),
        Err(Refusal::PackTwice { pack: pack(1) })
    );
}

#[test]
fn what_is_not_held_is_listed_pack_by_pack_and_run_by_run() {
    let (mut ledger, mut data, vital) = begun();
    let some = LiveMap::from_runs(8, [0..2, 6..8]).unwrap();
    set(&mut data, pack(1), some);
    ledger.move_head(&data, &vital).unwrap();
    ledger.wait(30);
    ledger.sweep();
    ledger.upload(pack(3), PackClass::Data);
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 6..8]).unwrap(),
    );
    set(&mut data, pack(3), LiveMap::full(8));
    set(
        &mut data,
        pack(4),
        LiveMap::from_runs(8, [0..1, 7..8]).unwrap(),
    );
    // The right root with another length is another object.
    let shorter = ObjectRef {
        length: PACK - 4096,
        ..pack(2)
    };
    data.apply([Change::Remove(pack(2).root)]).unwrap();
    set(&mut data, shorter, LiveMap::full(8));
    let Err(Refusal::NotHeld(not_held)) = ledger.move_head(&data, &vital) else {
        panic!("groups that are not held were admitted");
    };
    let run = |start, end| Range { start, end };
    assert_eq!(
        not_held,
        NotHeld {
            missing: vec![
                (pack(1), vec![run(2, 3)]),
                (shorter, vec![run(0, 8)]),
                (pack(4), vec![run(0, 1), run(7, 8)]),
            ],
            more: false,
        }
    );
}

#[test]
fn a_long_list_of_what_is_not_held_is_cut_and_says_so() {
    let mut data = Inventory::new();
    for seed in 0_u32..300 {
        let root = RootHash::of(&seed.to_le_bytes());
        set(
            &mut data,
            ObjectRef { root, length: PACK },
            LiveMap::full(8),
        );
    }
    let mut ledger = Ledger::new(1 << 30);
    let Err(Refusal::NotHeld(not_held)) = ledger.move_head(&data, &Inventory::new()) else {
        panic!("packs that are not held were admitted");
    };
    assert_eq!(not_held.missing.len(), NotHeld::PACKS_MAX);
    assert!(not_held.more);
}

#[test]
fn a_pack_under_way_is_not_held() {
    let mut ledger = Ledger::new(1 << 20);
    ledger.begin(pack(1), PackClass::Data).unwrap();
    let data = inventory(&[(pack(1), WHOLE)]);
    let early = ledger.move_head(&data, &Inventory::new());
    assert!(matches!(early, Err(Refusal::NotHeld(_))));
    ledger.finish();
    ledger.move_head(&data, &Inventory::new()).unwrap();
}

#[test]
fn what_a_head_let_go_is_undeleted_by_naming_it_again() {
    let (mut ledger, data, vital) = begun();
    let without = inventory(&[(pack(2), WHOLE)]);
    ledger.move_head(&without, &vital).unwrap();
    ledger.wait(29);
    ledger.sweep();
    ledger.move_head(&data, &vital).unwrap();
    ledger.wait(400);
    ledger.sweep();
    assert_eq!(ledger.packs[&pack(1)].live(), LiveMap::full(8));
    assert_eq!(ledger.state.totals, ledger.recomputed());
}

#[test]
fn an_upload_waits_a_week_even_where_grace_is_shorter_and_grace_where_it_is_longer() {
    for (grace_days, kept_days) in [(0, 7), (30, 30)] {
        let mut ledger = Ledger::new(1 << 20);
        let grace = Grace::For(Duration::from_millis(grace_days * DAY));
        ledger.terms = Terms::new(1 << 20, None, Some(grace));
        ledger.upload(pack(1), PackClass::Data);
        ledger.wait(kept_days - 1);
        ledger.sweep();
        assert_eq!(ledger.packs.len(), 1);
        ledger.wait(1);
        ledger.sweep();
        assert_eq!(ledger.packs.len(), 0);
    }
}

#[test]
fn an_upload_that_does_not_fit_is_refused_before_a_byte_moves_and_says_what_comes_free() {
    let (mut ledger, _, vital) = begun();
    ledger.terms = Terms::new(5 * PACK_CHARGE, Some(PACK_CHARGE / 2), None);
    let without = inventory(&[(pack(2), WHOLE)]);
    ledger.move_head(&without, &vital).unwrap();
    let let_go = ledger.now;
    let live = ledger.state.totals.live;
    // Live: packs 2 and 101 and the log; waiting: pack 1; so three more do not fit and two do.
    ledger.begin(pack(3), PackClass::Data).unwrap();
    ledger.wait(1);
    ledger.finish();
    assert!(live < 5 * PACK_CHARGE / 2);
    ledger.begin(pack(4), PackClass::Data).unwrap();
    let Err(UploadRefusal::CapExceeded(exceeded)) = ledger.begin(pack(5), PackClass::Data) else {
        panic!("the cap was exceeded");
    };
    let allowed = ledger.terms.cap - ledger.terms.headroom();
    assert_eq!(exceeded.over_by, ledger.charged() + PACK_CHARGE - allowed);
    let dates: Vec<u64> = exceeded
        .frees
        .iter()
        .map(|free| free.date.since(let_go).as_secs() / 86_400)
        .collect();
    assert_eq!(dates, [30, 31]);
    ledger.wait(30);
    ledger.sweep();
    ledger.begin(pack(5), PackClass::Data).unwrap();
}

#[test]
fn an_upload_that_is_given_up_gives_its_room_back() {
    let mut ledger = Ledger::new(1 << 20);
    ledger.begin(pack(1), PackClass::Data).unwrap();
    assert_eq!(ledger.state.totals.reserved, PACK_CHARGE);
    let renewed = ledger.uploads[0]
        .clone()
        .renewed(ledger.now.after(Duration::from_millis(DAY)));
    ledger.uploads[0] = renewed;
    ledger.wait(7);
    ledger.sweep();
    assert_eq!(ledger.uploads.len(), 1);
    ledger.wait(1);
    ledger.sweep();
    assert_eq!(ledger.state.totals, Totals::default());
}

#[test]
fn uploading_what_is_held_takes_no_room_and_renews_its_date() {
    let mut ledger = Ledger::new(1 << 20);
    ledger.upload(pack(1), PackClass::Data);
    ledger.wait(20);
    ledger.begin(pack(1), PackClass::Data).unwrap();
    assert!(ledger.uploads.is_empty());
    ledger.wait(20);
    ledger.sweep();
    assert_eq!(ledger.packs.len(), 1);
    assert_eq!(
        ledger.begin(pack(1), PackClass::Vital),
        Err(UploadRefusal::WrongClass)
    );
}

#[test]
fn lengths_that_no_pack_has_are_refused() {
    let mut ledger = Ledger::new(1 << 40);
    for length in [0, 4095, 4097, (64 << 20) + 4096] {
        let pack = ObjectRef { length, ..pack(1) };
        assert_eq!(
            ledger.begin(pack, PackClass::Data),
            Err(UploadRefusal::Length { length })
        );
    }
    for length in [4096, 64 << 20] {
        ledger
            .begin(ObjectRef { length, ..pack(1) }, PackClass::Data)
            .unwrap();
    }
}

/// Without headroom, uploads could fill the cap to the last byte, and then no head could let go of anything.
#[test]
fn a_cap_that_uploads_have_filled_still_takes_a_head() {
    let mut ledger = Ledger::new(4 << 20);
    ledger.terms = Terms::new(4 << 20, Some(0), None);
    let mut data = Inventory::new();
    for seed in 0..100 {
        if ledger.begin(pack(seed), PackClass::Data).is_err() {
            break;
        }
        ledger.finish();
        set(&mut data, pack(seed), LiveMap::full(8));
    }
    assert!(data.len() > 25);
    ledger.move_head(&data, &Inventory::new()).unwrap();
    data.apply([Change::Remove(pack(0).root)]).unwrap();
    ledger.move_head(&data, &Inventory::new()).unwrap();
}

#[test]
fn naming_what_only_the_reserve_covered_is_refused_over_the_cap() {
    let (mut ledger, data, vital) = begun();
    let without = inventory(&[(pack(2), WHOLE)]);
    ledger.move_head(&without, &vital).unwrap();
    ledger.terms = Terms::new(
        ledger.state.totals.live + 4096,
        Some(PACK_CHARGE + 4096),
        None,
    );
    assert!(ledger.charged() <= ledger.terms.cap);
    let again = ledger.move_head(&data, &vital);
    let Err(Refusal::CapExceeded(exceeded)) = again else {
        panic!("the cap was exceeded: {again:?}");
    };
    assert!(exceeded.over_by > 0 && exceeded.over_by <= PACK_CHARGE);
}

#[test]
fn under_a_cap_lowered_below_what_is_held_a_head_may_still_let_go() {
    let (mut ledger, mut data, vital) = begun();
    ledger.terms = Terms::new(PACK_CHARGE, Some(64 * KIB), None);
    set(
        &mut data,
        pack(1),
        LiveMap::from_runs(8, [0..3, 4..8]).unwrap(),
    );
    ledger.move_head(&data, &vital).unwrap();
    set(&mut data, pack(1), LiveMap::full(8));
    assert!(matches!(
        ledger.move_head(&data, &vital),
        Err(Refusal::CapExceeded(_))
    ));
}

#[test]
fn commits_are_thinned_and_the_newest_head_keeps_its_own() {
    let (mut ledger, data, vital) = begun();
    for _ in 0..5 {
        ledger.now = ledger.now.after(Duration::from_mins(10));
        ledger.move_head(&data, &vital).unwrap();
    }
    ledger.wait(3);
    ledger.thin();
    let kept: Vec<u64> = ledger
        .heads
        .iter()
        .filter(|row| row.commit.is_some())
        .map(|row| row.sequence)
        .collect();
    assert_eq!(kept, [6]);
    assert_eq!(ledger.state.totals, ledger.recomputed());
    // The commits are gone, the heads are not until their grace ends, and the roots never are.
    assert_eq!(ledger.heads.len(), 6);
    ledger.wait(30);
    ledger.sweep();
    assert_eq!((ledger.heads.len(), ledger.roots.len()), (1, 6));
    assert_eq!(ledger.state.totals, ledger.recomputed());
}
