//! Random histories of uploads, moves, sweeps and waiting, held against an oracle that knows nothing of extents or totals: one
//! state for each group.

use proptest::prelude::*;

use super::*;

const PACKS: u8 = 6;

#[derive(Debug, Clone)]
enum Step {
    Begin(u8),
    Finish,
    /// For each pack, which groups the next head names; none of a pack that it does not.
    Move(Vec<u8>),
    Replay,
    PutNodes(Vec<u8>),
    Sweep,
    Thin,
    WaitHours(u64),
    Grace(u64),
    Cap(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let maps = || {
        let map = prop_oneof![3 => Just(0_u8), 3 => Just(0xff), 2 => any::<u8>()];
        prop::collection::vec(map, PACKS as usize)
    };
    prop_oneof![
        4 => (0..PACKS).prop_map(Step::Begin),
        3 => Just(Step::Finish),
        6 => maps().prop_map(Step::Move),
        1 => Just(Step::Replay),
        1 => maps().prop_map(Step::PutNodes),
        2 => Just(Step::Sweep),
        1 => Just(Step::Thin),
        3 => (1..400_u64).prop_map(Step::WaitHours),
        1 => (0..20_u64).prop_map(Step::Grace),
        1 => (300..1200_u64).prop_map(Step::Cap),
    ]
}

fn seeds() -> impl Iterator<Item = (usize, ObjectRef, PackClass)> {
    (0..PACKS).map(|seed| {
        let class = if seed < 4 {
            PackClass::Data
        } else {
            PackClass::Vital
        };
        (usize::from(seed), pack(seed + 1), class)
    })
}

/// What became of each group of each pack, kept the plainest way there is.
#[derive(Clone, Default)]
struct Oracle {
    groups: [[Option<Hold>; 8]; PACKS as usize],
    /// Of each group, whether a sweep took it while it was named or before its date.
    under_way: Vec<usize>,
}

impl Oracle {
    fn holds(&self, maps: &[u8]) -> bool {
        seeds().all(|(at, _, _)| {
            (0..8).all(|group| maps[at] >> group & 1 == 0 || self.groups[at][group].is_some())
        })
    }

    fn name(&mut self, maps: &[u8], free_after: Timestamp) {
        for (at, _, _) in seeds() {
            for (group, hold) in self.groups[at].iter_mut().enumerate() {
                if maps[at] >> group & 1 == 1 {
                    *hold = Some(Hold::Live);
                } else if *hold == Some(Hold::Live) {
                    *hold = Some(Hold::FreeAfter(free_after));
                }
            }
        }
    }

    fn bring(&mut self, at: usize, free_after: Timestamp) {
        for hold in &mut self.groups[at] {
            *hold = match *hold {
                None => Some(Hold::FreeAfter(free_after)),
                Some(Hold::FreeAfter(date)) => Some(Hold::FreeAfter(date.max(free_after))),
                live => live,
            };
        }
    }

    fn sweep(&mut self, now: Timestamp) {
        for hold in self.groups.iter_mut().flatten() {
            if matches!(hold, Some(Hold::FreeAfter(date)) if *date <= now) {
                *hold = None;
            }
        }
    }

    fn of(ledger: &Ledger) -> [[Option<Hold>; 8]; PACKS as usize] {
        let mut groups = [[None; 8]; PACKS as usize];
        for (at, reference, _) in seeds() {
            let extents = ledger
                .packs
                .get(&reference)
                .map_or(&[][..], HeldPack::extents);
            for extent in extents {
                for group in extent.groups.clone() {
                    groups[at][group as usize] = Some(extent.hold);
                }
            }
        }
        groups
    }
}

/// Returns the two inventories that these maps describe.
fn inventories(maps: &[u8]) -> (Inventory, Inventory) {
    let (mut data, mut vital) = (Inventory::new(), Inventory::new());
    for (at, reference, class) in seeds() {
        let runs = (0..8).filter(|group| maps[at] >> group & 1 == 1);
        let live = LiveMap::from_runs(8, runs.map(|group| group..group + 1)).unwrap();
        if !live.is_empty() {
            let inventory = if class == PackClass::Data {
                &mut data
            } else {
                &mut vital
            };
            set(inventory, reference, live);
        }
    }
    (data, vital)
}

/// The charge of the rules, written out anew: groups of 16 KiB and seven nodes of 64 bytes, for each pack.
fn charge_of_packs(groups: &[[Option<Hold>; 8]], is_counted: impl Fn(Hold) -> bool) -> u64 {
    let count = |pack: &[Option<Hold>; 8]| {
        pack.iter()
            .flatten()
            .filter(|hold| is_counted(**hold))
            .count() as u64
    };
    let charges = groups.iter().map(count).filter(|count| *count > 0);
    charges.map(|count| count * 16384 + 7 * 64).sum()
}

fn log_charges(ledger: &Ledger, is_counted: impl Fn(Hold) -> bool) -> u64 {
    let nodes = ledger
        .nodes
        .values()
        .map(|(bytes, hold)| (bytes.len() as u64, *hold));
    let heads = ledger.heads.iter().flat_map(|row| {
        let commit = row.commit.map(|commit| (commit.length, row.hold));
        [Some((row.length, row.hold)), commit].into_iter().flatten()
    });
    let counted = nodes.chain(heads).filter(|(_, hold)| is_counted(*hold));
    counted.map(|(length, _)| length.max(512)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn custody_keeps_its_promises(steps in prop::collection::vec(step(), 1..60)) {
        let mut ledger = Ledger::new(700 * KIB);
        ledger.terms = Terms::new(700 * KIB, Some(60 * KIB), Some(Grace::For(Duration::from_hours(24 * 10))));
        let mut oracle = Oracle::default();
        let mut last_request: Option<HeadMove> = None;

        for step in steps {
            let before = ledger.clone();
            let grace = ledger.terms.grace(ledger.now);
            let upload_date = grace.max(Grace::UPLOAD_LEAST).ends(ledger.now);
            match step {
                Step::Begin(seed) => {
                    let (at, reference, class) = seeds().nth(seed.into()).unwrap();
                    let is_under_way = oracle.under_way.contains(&at);
                    if !is_under_way {
                        match ledger.begin(reference, class) {
                            Ok(()) if ledger.uploads.len() > before.uploads.len() => {
                                prop_assert!(ledger.charged() <= ledger.terms.cap);
                                oracle.under_way.push(at);
                            }
                            Ok(()) => {
                                prop_assert!(oracle.groups[at].iter().all(Option::is_some));
                                oracle.bring(at, upload_date);
                            }
                            Err(error) => {
                                let over = matches!(error, UploadRefusal::CapExceeded(_));
                                prop_assert!(over, "{}", error);
                            }
                        }
                    }
                }
                Step::Finish => {
                    let charged = ledger.charged();
                    ledger.finish();
                    prop_assert!(ledger.charged() <= charged, "finishing an upload took more than was set aside");
                    for at in core::mem::take(&mut oracle.under_way) {
                        oracle.bring(at, upload_date);
                    }
                }
                Step::Move(maps) => {
                    let (data, vital) = inventories(&maps);
                    match ledger.move_head(&data, &vital) {
                        Ok(request) => {
                            prop_assert!(oracle.holds(&maps), "a head names what is not held");
                            prop_assert!(ledger.charged() <= ledger.terms.cap.max(before.charged()));
                            oracle.name(&maps, grace.ends(ledger.now));
                            last_request = Some(request);
                        }
                        Err(Refusal::NotHeld(not_held)) => {
                            prop_assert!(!oracle.holds(&maps), "what is held was called missing");
                            for (reference, runs) in not_held.missing {
                                let (at, _, _) = seeds().find(|(_, other, _)| *other == reference).unwrap();
                                for group in runs.into_iter().flatten() {
                                    prop_assert_eq!(oracle.groups[at][group as usize], None);
                                }
                            }
                        }
                        Err(error) => {
                            let over = matches!(error, Refusal::CapExceeded(_));
                            prop_assert!(over, "{}", error);
                        }
                    }
                }
                Step::Replay => {
                    if let Some(request) = &last_request {
                        let row = ledger.state.standing.clone().unwrap().row;
                        prop_assert_eq!(ledger.admit(request), Ok(Verdict::AlreadyHere(row)));
                    }
                }
                Step::PutNodes(maps) => {
                    let (data, vital) = inventories(&maps);
                    for (_, bytes) in data.nodes().chain(vital.nodes()) {
                        // Over the cap it is refused, which the totals below would show if it were not.
                        let _ = ledger.put(bytes);
                    }
                }
                Step::Sweep => {
                    ledger.sweep();
                    oracle.sweep(ledger.now);
                    oracle.under_way.retain(|at| {
                        let (_, reference, _) = seeds().nth(*at).unwrap();
                        ledger.uploads.iter().any(|upload| upload.pack == reference)
                    });
                }
                Step::Thin => ledger.thin(),
                Step::WaitHours(hours) => ledger.now = ledger.now.after(Duration::from_hours(hours)),
                Step::Grace(days) => {
                    let asked = Grace::For(Duration::from_hours(24 * days));
                    ledger.terms = ledger.terms.change_grace(asked, ledger.now).unwrap();
                    let now = ledger.terms.grace(ledger.now);
                    prop_assert!(now >= grace, "grace was shortened at once");
                }
                Step::Cap(kib) => ledger.terms.cap = kib * KIB,
            }

            // What is held, group by group: so nothing named is ever freed, and nothing that waits before its date.
            prop_assert_eq!(Oracle::of(&ledger), oracle.groups);
            // Running totals, the recomputed ones, and the rules written out anew are one.
            let totals = ledger.state.totals;
            prop_assert_eq!(totals, ledger.recomputed());
            let is_live = |hold| hold == Hold::Live;
            prop_assert_eq!(totals.live, charge_of_packs(&oracle.groups, is_live) + log_charges(&ledger, is_live));
            prop_assert_eq!(totals.held, charge_of_packs(&oracle.groups, |_| true) + log_charges(&ledger, |_| true));
            // The sums in the head are what its packs are charged.
            if let Some(standing) = &ledger.state.standing {
                let sums = standing.data.sums().charged + standing.vital.sums().charged;
                prop_assert_eq!(sums, charge_of_packs(&oracle.groups, is_live));
                // What the newest head needs is there: its commit and every node.
                prop_assert!(standing.row.commit.is_some());
                for reference in [standing.data.top(), standing.vital.top()].into_iter().flatten() {
                    prop_assert_eq!(ledger.nodes.get(&reference).map(|(_, hold)| *hold), Some(Hold::Live));
                }
            }
        }
    }
}
