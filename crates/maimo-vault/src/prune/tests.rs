//! Claims about what a prune lets go of, and what it writes again.

use proptest::prelude::*;

use super::*;
use crate::{
    journal::record::Record,
    testing::{SOURCE, chunk, file, id, number, pack, path, replay},
};

const OTHER: SourceId = SourceId([8; 16]);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A made-up life of a store: each record a commit of its own, each run at a time of its own.
#[derive(Default)]
struct Life {
    records: Vec<Record>,
}

impl Life {
    /// A store that keeps the newest `last` runs of each source, and `revisions` of each path.
    fn keeping(last: u32, revisions: u32) -> Self {
        let mut life = Self::default();
        life.put(Record::Policy {
            pattern: String::new(),
            policy: Some(keep(last, revisions)),
        });
        life
    }

    fn put(&mut self, record: Record) -> u64 {
        self.records.push(record);
        self.records.len() as u64 - 1
    }

    fn begin_of(&mut self, source: SourceId) -> u64 {
        let time = self.records.len() as u64 * DAY_MS;
        self.put(Record::RunBegin { source, time })
    }

    fn end(&mut self, run: u64) -> u64 {
        let time = self.records.len() as u64 * DAY_MS;
        self.put(Record::RunEnd {
            run: id(run),
            time,
            files: 1,
            bytes_stored: 1,
        });
        run
    }

    /// A run that stores these paths, and no others; returns it.
    fn run(&mut self, names: &[&str]) -> u64 {
        let run = self.begin_of(SOURCE);
        for name in names {
            self.store(name);
        }
        self.end(run)
    }

    fn store(&mut self, name: &str) -> u64 {
        self.put(file(name, [chunk(1, 0)]))
    }

    fn store_of(&mut self, of: SourceId, name: &str) -> u64 {
        let mut record = file(name, [chunk(1, 0)]);
        if let Record::File { source, .. } = &mut record {
            *source = of;
        }
        self.put(record)
    }

    fn event(&mut self, name: &str, event: PathEvent) -> u64 {
        self.put(Record::Path {
            source: SOURCE,
            path: path(name),
            event,
        })
    }

    fn pin(&mut self, counter: u64) {
        self.put(Record::Pin {
            id: id(counter),
            pinned: true,
        });
    }

    fn state(&self) -> State {
        replay(self.records.iter().cloned())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.records.len() as u64 * DAY_MS)
    }

    fn drops(&self) -> Drops {
        Drops::plan(&self.state(), self.now())
    }
}

fn keep(last: u32, revisions: u32) -> Policy {
    Policy {
        last,
        hourly: 0,
        daily: 0,
        weekly: 0,
        monthly: 0,
        yearly: 0,
        within_ms: 0,
        revisions,
    }
}

fn ids<const N: usize>(counters: [u64; N]) -> BTreeSet<RecordId> {
    counters.into_iter().map(id).collect()
}

#[test]
fn the_newest_revision_of_a_present_or_evicted_path_outlives_its_run() {
    let mut life = Life::keeping(1, 0);
    let first = life.run(&["present", "evicted", "found", "gone"]);
    let gone = first + 4;
    life.event("evicted", PathEvent::Evicted);
    life.event("found", PathEvent::Gone);
    life.event("found", PathEvent::Found);
    life.event("gone", PathEvent::Gone);
    life.run(&[]);
    let drops = life.drops();
    assert_eq!(drops.runs, ids([first]));
    assert_eq!(drops.revisions, ids([gone]));
}

#[test]
fn the_revisions_of_a_gone_or_removed_path_expire_with_their_runs() {
    for event in [PathEvent::Gone, PathEvent::Removed] {
        let mut life = Life::keeping(2, 0);
        let first = life.run(&["a"]);
        let second = life.begin_of(SOURCE);
        life.event("a", event);
        life.end(second);
        assert!(life.drops().is_empty());
        life.run(&[]);
        assert_eq!(life.drops().runs, ids([first]));
        assert_eq!(life.drops().revisions, ids([first + 1]));
    }
}

#[test]
fn a_revision_goes_with_the_last_run_that_contains_it() {
    let mut life = Life::keeping(2, 0);
    let first = life.run(&["a"]);
    let second = life.run(&[]);
    life.run(&["a"]);
    // The second run has not seen it change.
    assert_eq!(life.drops().runs, ids([first]));
    assert_eq!(life.drops().revisions, ids([]));
    life.run(&[]);
    assert_eq!(life.drops().runs, ids([first, second]));
    assert_eq!(life.drops().revisions, ids([first + 1]));
}

#[test]
fn a_pinned_run_stays_with_all_that_it_contains() {
    let mut life = Life::keeping(1, 0);
    life.run(&["a"]);
    let second = life.run(&[]);
    life.run(&["a"]);
    let first = ids([second - 3]);
    life.pin(second);
    assert_eq!(
        (life.drops().runs, life.drops().revisions),
        (first, ids([]))
    );
}

#[test]
fn a_pinned_revision_stays_without_its_run() {
    let mut life = Life::keeping(1, 0);
    let first = life.run(&["a", "b"]);
    life.run(&["a", "b"]);
    life.pin(first + 1);
    assert_eq!(life.drops().runs, ids([first]));
    assert_eq!(life.drops().revisions, ids([first + 2]));
}

#[test]
fn of_each_path_the_newest_revisions_that_the_policy_counts_stay() {
    let mut life = Life::keeping(1, 2);
    let first = life.run(&["a"]);
    let second = life.run(&["a", "gone"]);
    life.event("a", PathEvent::Evicted);
    life.event("a", PathEvent::Found);
    let third = life.run(&["a"]);
    life.event("gone", PathEvent::Gone);
    life.run(&[]);
    assert_eq!(life.drops().runs, ids([first, second, third]));
    assert_eq!(life.drops().revisions, ids([first + 1]));
}

/// The second revision of a run once went while the run was under way.
#[test]
fn what_a_run_under_way_has_stored_stays_until_it_completes() {
    let mut life = Life::keeping(1, 0);
    life.run(&["a"]);
    let open = life.begin_of(SOURCE);
    let replaced = life.store("a");
    life.store("a");
    let gone = life.store("b");
    life.event("b", PathEvent::Gone);
    assert!(life.drops().is_empty());
    life.end(open);
    let drops = life.drops();
    assert_eq!(drops.revisions, ids([2, replaced, gone]));
    assert_eq!(drops.runs, ids([1]));
}

#[test]
fn what_a_run_that_was_given_up_stored_goes_once_it_is_replaced() {
    let mut life = Life::keeping(1, 0);
    life.begin_of(SOURCE);
    let replaced = life.store("a");
    let newest = life.store("b");
    life.run(&["a"]);
    assert_eq!(life.drops().revisions, ids([replaced]));
    assert!(life.state().is_kept(id(newest)));
    // A run that did not complete is nothing to list, hence nothing to drop.
    assert_eq!(life.drops().runs, ids([]));
}

#[test]
fn the_runs_of_one_source_keep_nothing_of_another() {
    let mut life = Life::keeping(1, 0);
    let first = life.run(&["a"]);
    let other = life.begin_of(OTHER);
    life.store_of(OTHER, "a");
    life.end(other);
    life.run(&["a"]);
    // The other source's run stands between the two revisions.
    let drops = life.drops();
    assert_eq!(drops.runs, ids([first]));
    assert_eq!(drops.revisions, ids([first + 1]));
}

#[test]
fn a_path_may_have_a_policy_of_its_own_and_keeps_the_runs_it_needs() {
    let mut life = Life::keeping(1, 0);
    let first = life.run(&["a", "b"]);
    let second = life.run(&["a", "b"]);
    life.run(&["a", "b"]);
    let own = |_, at: &StorePath| (*at == path("b")).then(|| keep(2, 0));
    let drops = Drops::plan_by(&life.state(), life.now(), own);
    assert_eq!(drops.runs, ids([first]));
    assert_eq!(drops.revisions, ids([first + 1, first + 2, second + 1]));
}

/// Where every path had a policy of its own, the store's was not asked which runs to keep.
#[test]
fn a_run_that_the_stores_policy_keeps_stays_whatever_the_paths_say() {
    let mut life = Life::keeping(1, 0);
    let first = life.run(&["a"]);
    life.run(&["a"]);
    let drops = Drops::plan_by(&life.state(), life.now(), |_, _| Some(keep(0, 1)));
    assert_eq!(drops.runs, ids([first]));
}

#[test]
fn what_goes_is_written_down_ascending_and_in_records_of_bounded_length() {
    assert_eq!(Drops::default().records(), []);
    let many = DROPPED_MAX as u64 + 5;
    let drops = Drops {
        runs: (0..many).filter(|n| n % 3 == 0).map(id).collect(),
        revisions: (0..many).filter(|n| n % 3 != 0).map(id).collect(),
    };
    let all: Vec<RecordId> = (0..many).map(id).collect();
    let (first, second) = all.split_at(DROPPED_MAX);
    let records = [first, second].map(|ids| Record::Dropped { ids: ids.to_vec() });
    assert_eq!(drops.records(), records);
}

/// What is done to a store, by one of two sources.
#[derive(Debug, Clone)]
enum Act {
    Store(bool, u8),
    Event(u8, PathEvent),
    Begin(bool),
    End,
    Pin(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let event = prop_oneof![
        Just(PathEvent::Gone),
        Just(PathEvent::Evicted),
        Just(PathEvent::Found),
        Just(PathEvent::Removed)
    ];
    prop_oneof![
        6 => (any::<bool>(), 0..3_u8).prop_map(|(other, name)| Act::Store(other, name)),
        3 => (0..3_u8, event).prop_map(|(name, event)| Act::Event(name, event)),
        4 => any::<bool>().prop_map(Act::Begin),
        4 => Just(Act::End),
        1 => any::<u8>().prop_map(Act::Pin),
    ]
}

fn live(acts: &[Act], last: u32, revisions: u32) -> Life {
    let mut life = Life::keeping(last, revisions);
    let mut open = Vec::new();
    for act in acts {
        let source = |other: bool| if other { OTHER } else { SOURCE };
        match act {
            Act::Store(other, name) => {
                life.store_of(source(*other), &format!("f{name}"));
            }
            Act::Event(name, event) => {
                life.event(&format!("f{name}"), *event);
            }
            Act::Begin(other) => open.push(life.begin_of(source(*other))),
            Act::End => {
                if let Some(run) = open.pop() {
                    life.end(run);
                }
            }
            Act::Pin(of) => life.pin(u64::from(*of) % life.records.len() as u64),
        }
    }
    life
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn a_prune_leaves_what_kept_runs_show_and_nothing_that_no_rule_keeps(
        acts in proptest::collection::vec(act(), 1..40),
        last in 0..3_u32,
        revisions in 0..3_u32,
    ) {
        let mut life = live(&acts, last, revisions);
        let before = life.state();
        let drops = life.drops();
        for record in drops.records() {
            life.put(record);
        }
        let after = life.state();
        for ((source, path), entries) in after.paths() {
            let newest = after.newest(*source, path);
            let current = newest.filter(|(.., presence)| {
                matches!(presence, Presence::Present | Presence::Evicted)
            });
            let newest_run = after.runs().iter().filter(|(_, run)| run.source == *source);
            let open = newest_run
                .max_by_key(|(_, run)| run.begun)
                .filter(|(run, _)| after.end(**run).is_none());
            let stored = entries.iter().rev();
            let stored = stored.filter(|(_, entry)| matches!(entry, Entry::Revision { .. }));
            for (newer, (stamp, _)) in (0..).zip(stored) {
                let shown = after.kept_runs(*source).iter().any(|(run, _)| {
                    let (end, _) = after.end(*run).unwrap();
                    after.as_of(*source, end).any(|(_, revision, _)| revision == stamp.id)
                });
                let is_owed = shown
                    || newer < revisions
                    || after.is_pinned(stamp.id)
                    || current.is_some_and(|(revision, ..)| revision == stamp.id)
                    || open.is_some_and(|(_, run)| *stamp > run.begun);
                prop_assert_eq!(after.is_kept(stamp.id), is_owed, "{:?}", stamp);
            }
        }
        for gone in drops.runs.union(&drops.revisions) {
            prop_assert!(!after.is_kept(*gone) && !before.is_pinned(*gone));
        }
        prop_assert!(life.drops().is_empty());
    }
}

/// Chunks that each touch groups of their own.
const LARGE: usize = 40_000;
/// Sixteen of these make some four groups.
const SMALL: usize = 4_000;
/// Rules that rewrite nothing.
const NEVER: RewriteRules = RewriteRules {
    waste_percent: 100,
    waste_floor_bytes: u64::MAX,
    small_bytes: 0,
    small_count: usize::MAX,
};

fn demand(chunks: impl IntoIterator<Item = ChunkRef>) -> Demand {
    let mut demand = Demand::default();
    chunks.into_iter().for_each(|chunk| demand.add(chunk));
    demand
}

fn rewrite(demand: &Demand, layouts: &[PackLayout], rules: RewriteRules) -> Rewrite {
    Rewrite::plan(demand, layouts, &target(demand, layouts), rules)
}

#[test]
fn what_must_live_on_is_told_of_the_packs_at_hand_and_of_no_others() {
    let layouts = [pack(1, &[LARGE; 3]), pack(2, &[LARGE; 3])];
    let needed = demand([chunk(1, 0), chunk(1, 2), chunk(3, 0)]);
    let target = target(&needed, &layouts);
    let live = layouts[0].live_map([0, 2]).unwrap();
    assert!(!live.is_full());
    assert_eq!(target, BTreeMap::from([(number(1), live)]));
}

#[test]
fn waste_is_what_lives_along_with_what_is_needed() {
    let layouts = [pack(1, &[LARGE]), pack(2, &[100, 100])];
    let padding = |layout: &PackLayout| {
        let range = layout.padding_range();
        range.end - range.start
    };
    let of = |needed: &Demand| Waste::of(needed, &layouts, &target(needed, &layouts));
    let all = of(&demand([chunk(1, 0), chunk(2, 0), chunk(2, 1)]));
    assert_eq!(all.living, layouts[0].length() + layouts[1].length());
    assert_eq!(all.waste, padding(&layouts[0]) + padding(&layouts[1]));
    let one = of(&demand([chunk(2, 1)]));
    assert_eq!(one.living, layouts[1].length());
    // The other chunk and its tag.
    assert_eq!(one.waste, padding(&layouts[1]) + 100 + 32);
    assert_eq!(of(&Demand::default()), Waste::default());
}

#[test]
fn the_most_wasteful_packs_are_written_again_until_the_rest_is_within_bounds() {
    let layouts = [1, 2, 3].map(|n| pack(n, &[SMALL; 16]));
    let needed = (0..16)
        .map(|index| chunk(1, index))
        .chain((0..16).step_by(4).map(|index| chunk(2, index)))
        .chain((0..16).step_by(2).map(|index| chunk(3, index)));
    let needed = demand(needed);
    let bound = |waste_floor_bytes| RewriteRules {
        waste_percent: 0,
        waste_floor_bytes,
        ..NEVER
    };
    let waste = Waste::of(&needed, &layouts, &target(&needed, &layouts)).waste;
    assert!(rewrite(&needed, &layouts, bound(waste)).is_empty());
    let worst = rewrite(&needed, &layouts, bound(waste - 1));
    assert_eq!(worst.packs, BTreeSet::from([number(2)]));
    let chunks: Vec<_> = (0..16).step_by(4).map(|index| chunk(2, index)).collect();
    assert_eq!(worst.chunks, chunks);
    let both = rewrite(&needed, &layouts, bound(20_000));
    assert_eq!(both.packs, BTreeSet::from([number(2), number(3)]));
}

#[test]
fn so_many_percent_of_what_lives_may_be_waste() {
    let layouts = [1, 2].map(|n| pack(n, &[SMALL; 16]));
    let needed = demand((0..16).map(|n| chunk(1, n)).chain([chunk(2, 7)]));
    let percent = |waste_percent| RewriteRules {
        waste_percent,
        waste_floor_bytes: 0,
        ..NEVER
    };
    let waste = Waste::of(&needed, &layouts, &target(&needed, &layouts));
    let share = waste.waste * 100 / waste.living;
    assert!((10..90).contains(&share), "{share}");
    assert_eq!(
        rewrite(&needed, &layouts, percent(share)).packs,
        BTreeSet::from([number(2)])
    );
    assert!(rewrite(&needed, &layouts, percent(share + 2)).is_empty());
}

#[test]
fn small_packs_are_joined_once_there_are_enough() {
    let layouts = [1, 2, 3].map(|n| pack(n, &[LARGE; 3]));
    // The first lives whole, of the others little is left.
    let needed = demand([
        chunk(1, 0),
        chunk(1, 1),
        chunk(1, 2),
        chunk(2, 0),
        chunk(3, 0),
    ]);
    let small = |small_count| RewriteRules {
        small_bytes: 100_000,
        small_count,
        ..NEVER
    };
    assert!(rewrite(&needed, &layouts, small(3)).is_empty());
    let joined = rewrite(&needed, &layouts, small(2));
    assert_eq!(joined.packs, BTreeSet::from([number(2), number(3)]));
    assert_eq!(joined.chunks, [chunk(2, 0), chunk(3, 0)]);
}

#[test]
fn chunks_that_followed_one_another_move_as_one() {
    let chunks = [
        chunk(1, 3),
        chunk(1, 4),
        chunk(1, 6),
        chunk(2, 7),
        chunk(2, 8),
    ];
    let moved = moved(&chunks, number(5), 10);
    let one = |from, index, count| Record::Moved {
        from,
        to: chunk(5, index),
        count,
    };
    let expected = [
        one(chunk(1, 3), 10, 2),
        one(chunk(1, 6), 12, 1),
        one(chunk(2, 7), 13, 2),
    ];
    assert_eq!(moved, expected);
    let state = replay(moved);
    for (index, from) in (10..).zip(chunks) {
        assert_eq!(state.resolve(from), chunk(5, index));
    }
    assert_eq!(super::moved(&[], number(5), 0), []);
}

#[test]
fn a_rewrite_is_cut_into_steps_that_lose_no_chunk_and_pass_no_bound() {
    let chunks: Vec<ChunkRef> = (0..10)
        .map(|index| ChunkRef {
            pack: PackNumber {
                writer: crate::name::WriterId([1; 16]),
                n: 0,
            },
            index,
        })
        .collect();
    let rewrite = Rewrite {
        chunks: chunks.clone(),
        packs: BTreeSet::new(),
    };
    // The fifth is longer than a step by itself.
    let length = |chunk: ChunkRef| if chunk.index == 4 { 50 } else { 7 };
    let steps = rewrite.steps(20, length);
    assert_eq!(steps.concat(), chunks);
    for step in &steps {
        let sum: u64 = step.iter().map(|chunk| length(*chunk)).sum();
        assert!(sum <= 20 || step.len() == 1);
    }
    assert_eq!(steps.len(), 6);
    assert!(Rewrite::default().steps(20, length).is_empty());
}
