//! A provider of one channel, whose client does as the input says: uploads, nodes, heads that are signed and else anything, and time.
//!
//! The rules are `maimo_core::custody`'s; here are only the rows they are about, and what must hold of them after every step.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use maimo_core::{
    ancestry::Ancestry,
    clock::Timestamp,
    codec::Extensions,
    custody::{
        Admission, Begun, ChannelState, Freeing, Grace, HeadRow, HeldPack, Hold, NodeRow,
        PackClass, Refusal, Terms, Totals, Unavailable, Upload, Verdict, View, admit, begin_upload,
        expire_upload, finish_upload, log_charge, put_node, sweep_head, sweep_node, sweep_pack,
        thin_commits,
    },
    head::Head,
    head_move::HeadMove,
    id::{ChannelId, RootHash},
    inventory::{Inventory, InventoryRef},
    live_map::LiveMap,
    reference::ObjectRef,
};

use super::{
    forest::{Forest, Program, pack, with},
    signed::client,
};

const CHANNEL: ChannelId = ChannelId([3; 32]);
/// More would only make an input slow.
const STEPS_MAX: usize = 100;

struct Ledger {
    state: ChannelState,
    terms: Terms,
    now: Timestamp,
    packs: BTreeMap<ObjectRef, HeldPack>,
    nodes: BTreeMap<ObjectRef, (Vec<u8>, Hold)>,
    heads: Vec<HeadRow>,
    uploads: Vec<Upload>,
    last: Option<HeadMove>,
}

impl View for Ledger {
    fn pack(&self, pack: &ObjectRef) -> Result<Option<HeldPack>, Unavailable> {
        Ok(self.packs.get(pack).cloned())
    }

    fn node(&self, node: &ObjectRef) -> Result<Option<(Vec<u8>, Hold)>, Unavailable> {
        Ok(self.nodes.get(node).cloned())
    }

    fn frees(&self) -> Result<Vec<Freeing>, Unavailable> {
        let nodes = self
            .nodes
            .iter()
            .map(|(node, (_, hold))| (*hold, log_charge(node.length)));
        let heads = self.heads.iter().map(|row| (row.hold, row.charge()));
        let logs = nodes.chain(heads).filter_map(|(hold, bytes)| match hold {
            Hold::FreeAfter(date) => Some(Freeing { date, bytes }),
            Hold::Live => None,
        });
        Ok(self
            .packs
            .values()
            .flat_map(HeldPack::frees)
            .chain(logs)
            .collect())
    }
}

impl Ledger {
    fn new() -> Self {
        Self {
            state: ChannelState::new(CHANNEL, client().public()),
            terms: Terms::new(1 << 20, None, None),
            now: Timestamp(1 << 41),
            packs: BTreeMap::new(),
            nodes: BTreeMap::new(),
            heads: Vec::new(),
            uploads: Vec::new(),
            last: None,
        }
    }

    /// Does the next step of the program; nothing once it has ended.
    fn step(&mut self, program: &mut Program<'_>, forest: &Forest) -> Option<bool> {
        let mut admitted = false;
        match program.next()? % 12 {
            0 | 1 => {
                let (id, class) = (program.next()?, program.next()?);
                self.begin(pack(id), class);
            }
            2 => self.finish(),
            3 => {
                if let Some((_, bytes)) = forest.nodes.get(usize::from(program.next()?)) {
                    self.put(bytes);
                }
            }
            4..=6 => admitted = self.move_head(program, forest)?,
            7 => self.replay(),
            8 => self.sweep(),
            9 => self.thin(),
            10 => {
                let hours = Duration::from_hours(program.word()?);
                self.now = self.now.after(hours);
            }
            _ => self.change_terms(program)?,
        }
        self.check();
        Some(admitted)
    }

    fn begin(&mut self, pack: ObjectRef, class: u8) {
        let class = if class.is_multiple_of(2) {
            PackClass::Data
        } else {
            PackClass::Vital
        };
        match begin_upload(self.state.totals, &self.terms, pack, class, self, self.now) {
            Ok(Begun::Started { upload, totals }) => {
                self.state.totals = totals;
                self.uploads.push(upload);
            }
            Ok(Begun::Held(held)) => drop(self.packs.insert(pack, held)),
            Err(_) => {}
        }
    }

    /// Finishes all that is under way. A pack begun twice, as two classes, keeps the class that came first, as the ledger's key has it.
    fn finish(&mut self) {
        for upload in core::mem::take(&mut self.uploads) {
            let held = self.packs.get(&upload.pack);
            let (pack, totals) =
                finish_upload(self.state.totals, &self.terms, &upload, held, self.now);
            self.state.totals = totals;
            self.packs.insert(upload.pack, pack);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Ok((row, totals)) = put_node(self.state.totals, &self.terms, bytes, self, self.now) {
            self.state.totals = totals;
            self.nodes.insert(row.reference, (bytes.to_vec(), row.hold));
        }
    }

    /// Sends a head under two of the forest's nodes, wrong in some way or none, with all nodes or all but one.
    fn move_head(&mut self, program: &mut Program<'_>, forest: &Forest) -> Option<bool> {
        let (data, vital) = (forest.top(program), forest.top(program));
        let (fault, left_out) = (program.next()?, program.next()?);
        let mut ancestry: Ancestry = self.state.ancestry.clone();
        if self.state.standing.is_some() {
            ancestry.append(self.state.root());
        }
        let commit = vec![fault; 600];
        let mut head = Head {
            channel: CHANNEL,
            sequence: self.state.sequence() + 1,
            previous: self.state.root(),
            ancestry: ancestry.hash(),
            data,
            vital,
            commit: ObjectRef::of(&commit),
            time: self.now,
            signer: client().public(),
            extensions: Extensions::default(),
        };
        match fault {
            1 => head.sequence = head.sequence.wrapping_add(1),
            2 => head.previous = RootHash([1; 32]),
            3 => head.ancestry[0] ^= 1,
            4 => head.commit.length += 1,
            5 => head.channel.0[0] ^= 1,
            6 => head.sequence = 0,
            _ => {}
        }
        let is_wrong = (1..=6).contains(&fault);
        let sent = (0_u8..)
            .zip(&forest.nodes)
            .filter(|(index, _)| *index != left_out && left_out != 254);
        let request = HeadMove {
            head: head.sign(&client()).expect("its signer signs").encode(),
            commit,
            nodes: sent.map(|(_, (_, bytes))| bytes.clone()).collect(),
            ..HeadMove::default()
        };
        let before = self.state.totals.charged(&self.terms);
        match admit(&self.state, &self.terms, &request, self, self.now) {
            Ok(Verdict::Admitted(admission)) => {
                assert!(!is_wrong, "a head with fault {fault} was admitted");
                self.apply(*admission);
                let charged = self.state.totals.charged(&self.terms);
                assert!(charged <= self.terms.cap.max(before), "the cap is passed");
                self.last = Some(request);
                return Some(true);
            }
            Ok(Verdict::AlreadyHere(_)) => panic!("a new head cannot be here already"),
            Err(Refusal::Unavailable(_)) => panic!("the ledger is whole, yet could not be read"),
            Err(_) => {}
        }
        Some(false)
    }

    /// Applies what an admission says, as one transaction would.
    fn apply(&mut self, admission: Admission) {
        let row = admission
            .state
            .standing
            .as_ref()
            .expect("a head stands")
            .row
            .clone();
        if let (Some(replaced), Some(newest)) = (admission.replaced, self.heads.last_mut()) {
            *newest = replaced;
        }
        self.heads.push(row);
        self.state = admission.state;
        for pack in admission.packs {
            self.packs.insert(*pack.reference(), pack);
        }
        for (node, bytes) in admission.new_nodes {
            self.nodes.insert(node, (bytes, Hold::Live));
        }
        for row in admission.nodes {
            self.nodes
                .get_mut(&row.reference)
                .expect("rows of nodes that are held")
                .1 = row.hold;
        }
    }

    fn replay(&self) {
        if let (Some(request), Some(standing)) = (&self.last, &self.state.standing) {
            let verdict = admit(&self.state, &self.terms, request, self, self.now);
            assert_eq!(verdict, Ok(Verdict::AlreadyHere(standing.row.clone())));
        }
    }

    fn sweep(&mut self) {
        let (mut totals, now) = (self.state.totals, self.now);
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

    fn change_terms(&mut self, program: &mut Program<'_>) -> Option<()> {
        let (what, value) = (program.next()?, program.word()?);
        match what % 3 {
            0 => self.terms.cap = value * 1024,
            1 => self.terms.reserve = value * 1024,
            _ => {
                let grace = if value == 0xffff {
                    Grace::Endless
                } else {
                    Grace::For(Duration::from_hours(value))
                };
                if let Ok(terms) = self.terms.change_grace(grace, self.now) {
                    self.terms = terms;
                }
            }
        }
        Some(())
    }

    /// What must hold after every step.
    fn check(&self) {
        let rows: Vec<NodeRow> = self
            .nodes
            .iter()
            .map(|(node, (_, hold))| NodeRow {
                reference: *node,
                hold: *hold,
            })
            .collect();
        let totals = Totals::recompute(self.packs.values(), &rows, &self.heads, &self.uploads);
        assert_eq!(
            self.state.totals, totals,
            "running totals are not the sums of the rows"
        );

        let (data, vital) = self
            .state
            .standing
            .as_ref()
            .map_or((InventoryRef::EMPTY, InventoryRef::EMPTY), |standing| {
                (standing.data, standing.vital)
            });
        let mut load = |node: &ObjectRef| self.nodes.get(node).map(|(bytes, _)| bytes.clone());
        let mut named: BTreeMap<ObjectRef, (PackClass, LiveMap)> = BTreeMap::new();
        let mut nodes = BTreeSet::new();
        for (class, top) in [(PackClass::Data, data), (PackClass::Vital, vital)] {
            let inventory = Inventory::load(&top, 1 << 20, &mut load)
                .expect("the newest head's nodes are held and sound");
            nodes.extend(inventory.nodes().map(|(node, _)| node));
            for entry in inventory.entries() {
                let twice = named.insert(*entry.pack(), (class, entry.live().clone()));
                assert!(twice.is_none(), "a pack stands in both inventories");
            }
        }
        for (reference, (class, live)) in &named {
            let held = self
                .packs
                .get(reference)
                .expect("what the newest head names is held");
            assert_eq!((held.class(), &held.live()), (*class, live));
        }
        for held in self.packs.values() {
            assert!(!held.is_gone());
            assert!(
                named.contains_key(held.reference()) || !held.is_named(),
                "lives unnamed"
            );
        }
        let live = self
            .nodes
            .iter()
            .filter(|(_, (_, hold))| *hold == Hold::Live)
            .map(|(node, _)| *node);
        assert_eq!(
            live.collect::<BTreeSet<_>>(),
            nodes,
            "live nodes are not those of the newest head"
        );
        if let Some(standing) = &self.state.standing {
            assert_eq!(
                self.heads.last(),
                Some(&standing.row),
                "the newest head is not kept as it was admitted"
            );
        }
    }
}

/// A forest, then steps.
pub(super) fn provider(bytes: &[u8]) -> bool {
    let program = &mut Program(bytes);
    let forest = Forest::grow(program);
    let mut ledger = Ledger::new();
    let mut admitted = false;
    for _ in 0..STEPS_MAX {
        match ledger.step(program, &forest) {
            Some(moved) => admitted |= moved,
            None => break,
        }
    }
    admitted
}

pub(super) fn histories() -> Vec<Vec<u8>> {
    let upload = |ids: &[u8], class: u8| -> Vec<u8> {
        ids.iter()
            .flat_map(|id| [0, *id, class])
            .chain([2])
            .collect()
    };
    let data = upload(&[1, 2, 39, 10, 11, 20], 0);
    let vital = upload(&[79, 119], 1);
    let all = upload(&[1, 2, 39, 10, 11, 20, 79, 119], 0);
    let wait = |hours: u16| [&[10][..], &hours.to_le_bytes()].concat();
    let month = wait(31 * 24);
    vec![
        with(&[&data[..], &[4, 4, 0, 255, 0, 0, 255, 7]].concat()),
        with(
            &[
                &data[..],
                &vital,
                &[4, 4, 0, 6, 0, 0, 255, 4, 5, 0, 6, 0, 9, 255],
                &month,
                &[8, 9, 4, 4, 0, 6, 0, 0, 255],
            ]
            .concat(),
        ),
        with(
            &[
                &all[..],
                &[4, 8, 0, 255, 0, 0, 255, 4, 0, 0, 255, 0, 8, 255],
                &wait(10),
                &[4, 8, 0, 255, 0, 7, 255],
                &month,
                &[8],
            ]
            .concat(),
        ),
        with(
            &[
                &data[..],
                &[3, 0, 3, 1, 3, 4, 4, 4, 0, 255, 0, 0, 254, 11, 2, 24, 0],
                &month,
                &[4, 255, 0, 255, 0, 0, 255],
                &month,
                &[8, 8],
            ]
            .concat(),
        ),
        with(
            &[
                &data[..],
                &[
                    11, 0, 100, 0, 4, 4, 0, 255, 0, 0, 255, 4, 0, 0, 255, 0, 0, 255, 11, 0, 0, 8,
                    4, 4, 0, 255, 0, 0, 255,
                ],
            ]
            .concat(),
        ),
    ]
}
