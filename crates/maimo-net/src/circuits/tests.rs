use core::{sync::atomic::Ordering, time::Duration};
use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{custody::PackClass, id::RootHash, live_map::LiveMap, reference::ObjectRef};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    fake::{FakeDial, MIB, Plan, State, World},
    *,
};

struct Bench {
    world: Arc<World>,
    pool: Arc<Pool>,
    counters: Arc<Counters>,
}

fn bench(plan: Plan) -> Bench {
    bench_with(plan, Settings::default())
}

fn bench_with(plan: Plan, settings: Settings) -> Bench {
    let world = World::new(plan);
    let counters = Arc::new(Counters::default());
    let dial = Arc::new(FakeDial(Arc::clone(&world)));
    let pool = Pool::new(dial, settings, &counters, Handle::current());
    Bench {
        world,
        pool: Arc::new(pool),
        counters,
    }
}

/// A range of a pack of its own.
fn range(number: u64) -> Put {
    Put {
        pack: ObjectRef {
            root: RootHash::of(&number.to_le_bytes()),
            length: MIB,
        },
        class: PackClass::Data,
        offset: 0,
        bytes: vec![0; usize::try_from(MIB).unwrap()].into(),
    }
}

/// A mebibyte to be read.
fn slice() -> Vec<Read> {
    vec![Read {
        pack: range(0).pack,
        groups: LiveMap::full(64),
    }]
}

type Outcomes<T> = JoinSet<Result<T, ServiceError>>;

fn puts(bench: &Bench, numbers: core::ops::Range<u64>) -> Outcomes<PutReply> {
    let mut set = JoinSet::new();
    for number in numbers {
        let pool = Arc::clone(&bench.pool);
        set.spawn(async move { pool.put(range(number)).await });
    }
    set
}

fn reads(bench: &Bench, count: u64) -> Outcomes<Vec<Bytes>> {
    let mut set = JoinSet::new();
    for _ in 0..count {
        let pool = Arc::clone(&bench.pool);
        set.spawn(async move { pool.read(slice()).await });
    }
    set
}

async fn all_held(outcomes: Outcomes<PutReply>) {
    for outcome in outcomes.join_all().await {
        assert!(outcome.unwrap().is_held());
    }
}

fn offline() -> ServiceError {
    ServiceError::Offline {
        detail: "nobody there".to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn where_each_circuit_helps_as_many_are_used_as_may_be() {
    let bench = bench(Plan::default());
    let start = Instant::now();
    all_held(puts(&bench, 0..128)).await;
    // One circuit would need 64 s.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.world.circuits(), 4);
    assert_eq!(bench.counters.statistics().jobs, 128);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_does_not_help_carries_next_to_nothing() {
    let plan = Plan {
        rates: vec![200 * MIB],
        shared: Some(2 * MIB),
        ..Plan::default()
    };
    let bench = bench(plan);
    all_held(puts(&bench, 0..64)).await;
    let shares = bench.world.shares();
    assert!(shares[0] > 50 * MIB, "{shares:?}");
    assert!(
        shares.iter().filter(|share| **share > 0).count() <= 3,
        "{shares:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn reads_use_all_circuits_too() {
    let bench = bench(Plan::default());
    let start = Instant::now();
    for outcome in reads(&bench, 128).join_all().await {
        assert_eq!(outcome.unwrap().len(), 1);
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn no_more_circuits_are_used_than_are_set() {
    let settings = Settings {
        circuits: 2,
        ..Settings::default()
    };
    let bench = bench_with(Plan::default(), settings);
    all_held(puts(&bench, 0..64)).await;
    assert_eq!(bench.world.circuits(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_single_job_opens_a_single_circuit() {
    let bench = bench(Plan::default());
    all_held(puts(&bench, 0..1)).await;
    assert_eq!(bench.world.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn work_that_was_announced_finds_its_circuits_open() {
    let bench = bench(Plan::default());
    bench.pool.expect_much();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.world.dials().len(), 4);
    all_held(puts(&bench, 0..32)).await;
    assert_eq!(bench.world.dials().len(), 4);
    assert!(bench.world.shares().iter().all(|share| *share > 0));
}

#[tokio::test(start_paused = true)]
async fn circuits_for_work_that_never_comes_are_closed() {
    let bench = bench(Plan::default());
    bench.pool.expect_much();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(bench.counters.statistics().circuits, 4);
    sleep(Duration::from_mins(3)).await;
    assert_eq!(bench.counters.statistics().circuits, 0);
    assert_eq!(bench.world.dials().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_call_finds_the_circuit_that_was_begun_ahead_of_it() {
    let bench = bench(Plan::default());
    bench.pool.reach_ahead();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(bench.counters.statistics().circuits, 1);
    bench.pool.prove(1).await.unwrap();
    assert_eq!(bench.world.dials().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_circuit_carried_goes_over_others_and_little_is_sent_twice() {
    let bench = bench(Plan::default());
    let outcomes = puts(&bench, 0..100);
    let mut killed = 0;
    for pause in [3100, 1700, 2300, 900, 1200] {
        sleep(Duration::from_millis(pause)).await;
        bench.world.circuit(killed).set(State::Dead);
        killed += 1;
    }
    all_held(outcomes).await;
    let statistics = bench.counters.statistics();
    let twice = bench.world.left.load(Ordering::Relaxed) - 100 * MIB;
    assert!(statistics.repeated >= killed as u64);
    assert!(statistics.rebuilds >= killed as u64 - 1);
    let circuits = bench.world.circuits() as u64;
    assert!(
        twice <= circuits * MIB,
        "{twice} bytes twice over {circuits} circuits"
    );
}

#[tokio::test(start_paused = true)]
async fn a_lost_put_that_arrived_is_not_sent_again() {
    let bench = bench(Plan::default());
    let outcomes = puts(&bench, 0..1);
    // Opening 300 ms, a mebibyte 500 ms, there 50 ms: the answer is on its way.
    sleep(Duration::from_millis(870)).await;
    assert_eq!(bench.world.arrivals.load(Ordering::Relaxed), 1);
    bench.world.circuit(0).set(State::Dead);
    all_held(outcomes).await;
    assert_eq!(bench.world.left.load(Ordering::Relaxed), MIB);
    assert_eq!(bench.world.questions.load(Ordering::Relaxed), 1);
    assert_eq!(bench.counters.statistics().repeated_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_stands_still_loses_its_work_to_others() {
    let bench = bench(Plan::default());
    let outcomes = puts(&bench, 0..40);
    sleep(Duration::from_secs(4)).await;
    bench.world.circuit(0).set(State::Frozen);
    let start = Instant::now();
    all_held(outcomes).await;
    assert!(
        start.elapsed() < Duration::from_secs(45),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_end_the_slowest_job_is_doubled_and_the_loser_is_cancelled() {
    let plan = Plan {
        // The second circuit turns out to be slow, the others are not.
        rates: vec![4 * MIB, MIB / 16, 4 * MIB],
        ..Plan::default()
    };
    let bench = bench(plan);
    let start = Instant::now();
    all_held(puts(&bench, 0..40)).await;
    let statistics = bench.counters.statistics();
    assert!(statistics.duplicates >= 1);
    assert!(bench.world.cancelled.load(Ordering::Relaxed) >= 1);
    // A mebibyte alone takes the slow one 16 s, two of them 32.
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    let twice = bench.world.left.load(Ordering::Relaxed) - 40 * MIB;
    assert!(twice <= bench.world.circuits() as u64 * MIB, "{twice}");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_doubled_where_it_would_not_gain() {
    let bench = bench(Plan::default());
    all_held(puts(&bench, 0..64)).await;
    assert_eq!(bench.counters.statistics().duplicates, 0);
    assert_eq!(bench.world.left.load(Ordering::Relaxed), 64 * MIB);
}

#[tokio::test(start_paused = true)]
async fn control_overtakes_bulk_on_a_circuit_of_its_own() {
    let bench = bench(Plan::default());
    let outcomes = puts(&bench, 0..64);
    sleep(Duration::from_secs(2)).await;
    let start = Instant::now();
    bench.pool.prove(1).await.unwrap();
    // Opening and one round trip.
    assert_eq!(start.elapsed(), Duration::from_millis(400));
    assert_eq!(bench.world.control().len(), 1);
    all_held(outcomes).await;
}

#[tokio::test(start_paused = true)]
async fn a_question_for_what_is_missing_does_not_wait_behind_packs() {
    let bench = bench(Plan::default());
    bench.pool.prove(1).await.unwrap();
    let outcomes = puts(&bench, 0..64);
    sleep(Duration::from_secs(2)).await;
    let question = Put {
        bytes: Bytes::new(),
        ..range(1000)
    };
    let start = Instant::now();
    assert_eq!(bench.pool.put(question).await.unwrap().missing, [0]);
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    drop(outcomes);
}

#[tokio::test(start_paused = true)]
async fn a_control_call_outlives_its_circuit() {
    let bench = bench(Plan::default());
    bench.pool.prove(1).await.unwrap();
    let pool = Arc::clone(&bench.pool);
    let call = tokio::spawn(async move { pool.prove(2).await });
    sleep(Duration::from_millis(20)).await;
    bench.world.control()[0].set(State::Dead);
    call.await.unwrap().unwrap();
    assert_eq!(bench.world.control().len(), 2);
    assert_eq!(bench.counters.statistics().rebuilds, 1);
}

#[tokio::test(start_paused = true)]
async fn a_control_call_that_is_never_answered_ends() {
    let bench = bench(Plan::default());
    bench.pool.reach().await.unwrap();
    for fate in bench.world.control() {
        fate.set(State::Frozen);
    }
    bench.world.go_away(Some(offline()));
    let start = Instant::now();
    bench.pool.prove(1).await.unwrap_err();
    assert!(
        start.elapsed() <= Duration::from_secs(125),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_is_away_ends_every_call_in_bounded_time_and_is_not_hammered() {
    let bench = bench(Plan::default());
    bench.world.go_away(Some(offline()));
    let start = Instant::now();
    let bulk = puts(&bench, 0..100);
    let mut control = JoinSet::new();
    for sequence in 0..100 {
        let pool = Arc::clone(&bench.pool);
        control.spawn(async move { pool.prove(sequence).await });
    }
    for outcome in control.join_all().await {
        assert_eq!(outcome.unwrap_err(), offline());
    }
    assert!(
        start.elapsed() <= Duration::from_secs(61),
        "{:?}",
        start.elapsed()
    );
    for outcome in bulk.join_all().await {
        assert_eq!(outcome.unwrap_err(), offline());
    }
    assert!(
        start.elapsed() <= Duration::from_secs(121),
        "{:?}",
        start.elapsed()
    );
    let dials = bench.world.dials().len();
    assert!((8..=32).contains(&dials), "{dials} tries");
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_comes_back_is_found_without_a_new_call() {
    let bench = bench(Plan::default());
    bench.world.go_away(Some(offline()));
    let outcomes = puts(&bench, 0..10);
    sleep(Duration::from_secs(50)).await;
    bench.world.go_away(None);
    all_held(outcomes).await;
}

fn no_tor() -> ServiceError {
    ServiceError::TorUnavailable {
        detail: "not connected".to_owned(),
        hint: "connect",
    }
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_tor_every_call_says_so_sooner_than_where_nobody_answers() {
    let bench = bench(Plan {
        opening: Duration::from_secs(20),
        ..Plan::default()
    });
    bench.world.go_away(Some(no_tor()));
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for sequence in 0..10 {
        let pool = Arc::clone(&bench.pool);
        calls.spawn(async move { pool.prove(sequence).await });
    }
    for outcome in calls.join_all().await {
        assert_eq!(outcome.unwrap_err(), no_tor());
    }
    assert!(
        start.elapsed() < Duration::from_secs(25),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_tor_that_did_work_is_given_time_to_come_back() {
    let bench = bench(Plan::default());
    bench.pool.prove(1).await.unwrap();
    bench.world.go_away(Some(no_tor()));
    bench.world.control()[0].set(State::Dead);
    let pool = Arc::clone(&bench.pool);
    let call = tokio::spawn(async move { pool.prove(2).await });
    sleep(Duration::from_secs(40)).await;
    bench.world.go_away(None);
    call.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_try_that_is_cut_short_does_not_hide_why_the_one_before_failed() {
    let bench = bench(Plan {
        opening: Duration::from_secs(40),
        ..Plan::default()
    });
    bench.world.go_away(Some(offline()));
    let start = Instant::now();
    assert_eq!(bench.pool.prove(1).await.unwrap_err(), offline());
    assert!(start.elapsed() >= Duration::from_secs(59));
}

#[tokio::test(start_paused = true)]
async fn circuits_that_open_and_carry_nothing_end_every_call_in_bounded_time() {
    for state in [State::Frozen, State::Dead] {
        let bench = bench(Plan::default());
        bench.world.bear(state);
        let start = Instant::now();
        for outcome in puts(&bench, 0..20).join_all().await {
            assert!(matches!(outcome, Err(ServiceError::Offline { .. })));
        }
        assert!(
            start.elapsed() <= Duration::from_secs(155),
            "{:?}",
            start.elapsed()
        );
        assert!(
            bench.world.dials().len() <= 40,
            "{}",
            bench.world.dials().len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn circuits_that_die_young_are_not_rebuilt_more_often_than_the_cap_allows() {
    let settings = Settings {
        failures_a_minute: 6,
        ..Settings::default()
    };
    let bench = bench_with(Plan::default(), settings);
    let outcomes = puts(&bench, 0..200);
    // Each lives long enough to carry a job, so no pause grows.
    let mut seen = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(58) {
        sleep(Duration::from_millis(200)).await;
        while seen < bench.world.circuits() {
            let fate = bench.world.circuit(seen);
            tokio::spawn(async move {
                sleep(Duration::from_millis(1200)).await;
                fate.set(State::Dead);
            });
            seen += 1;
        }
    }
    // Six that failed, and those that were opened before the sixth did.
    assert!(
        bench.world.dials().len() <= 12,
        "{}",
        bench.world.dials().len()
    );
    all_held(outcomes).await;
}

#[tokio::test(start_paused = true)]
async fn a_last_word_ends_all_calls_at_once() {
    for error in [
        ServiceError::UnknownClient,
        ServiceError::OtherProvider,
        ServiceError::NotAllowed {
            detail: "tor only".to_owned(),
        },
    ] {
        let bench = bench(Plan::default());
        bench.world.go_away(Some(error.clone()));
        let start = Instant::now();
        for outcome in puts(&bench, 0..20).join_all().await {
            assert_eq!(outcome.unwrap_err(), error);
        }
        assert_eq!(bench.pool.prove(1).await.unwrap_err(), error);
        assert_eq!(start.elapsed(), Duration::from_millis(600));
        // None of those is tried again.
        assert!(bench.world.dials().len() <= 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_revoked_client_stops_writing_and_goes_on_reading() {
    let bench = bench(Plan::default());
    bench.world.refuse_puts(Some(ServiceError::Revoked));
    let puts = puts(&bench, 0..50);
    let reads = reads(&bench, 50);
    let start = Instant::now();
    for outcome in puts.join_all().await {
        assert_eq!(outcome.unwrap_err(), ServiceError::Revoked);
    }
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
    for outcome in reads.join_all().await {
        outcome.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_provider_is_left_alone_for_as_long_as_it_asks() {
    let bench = bench(Plan::default());
    bench
        .world
        .refuse_puts(Some(ServiceError::Busy(Duration::from_secs(10))));
    let outcomes = puts(&bench, 0..4);
    sleep(Duration::from_secs(9)).await;
    let left = bench.world.left.load(Ordering::Relaxed);
    assert!(left <= 4 * MIB, "{left}");
    bench.world.refuse_puts(None);
    all_held(outcomes).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_its_callers_alone() {
    let bench = bench(Plan::default());
    bench.world.refuse_puts(Some(ServiceError::WrongBytes));
    let refused = puts(&bench, 0..1);
    sleep(Duration::from_millis(880)).await;
    bench.world.refuse_puts(None);
    let held = puts(&bench, 1..5);
    for outcome in refused.join_all().await {
        assert_eq!(outcome.unwrap_err(), ServiceError::WrongBytes);
    }
    all_held(held).await;
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_ends_the_work() {
    let bench = bench(Plan::default());
    let outcomes = puts(&bench, 0..50);
    sleep(Duration::from_millis(1500)).await;
    drop(outcomes);
    sleep(Duration::from_millis(300)).await;
    let left = bench.world.left.load(Ordering::Relaxed);
    sleep(Duration::from_secs(10)).await;
    assert_eq!(bench.world.left.load(Ordering::Relaxed), left);
    assert!(bench.world.cancelled.load(Ordering::Relaxed) >= 1);
}

#[tokio::test(start_paused = true)]
async fn circuits_without_work_are_closed_and_opened_again_when_needed() {
    let bench = bench(Plan::default());
    bench.pool.prove(1).await.unwrap();
    all_held(puts(&bench, 0..40)).await;
    assert!(bench.counters.statistics().circuits > 2);
    sleep(Duration::from_mins(2)).await;
    assert_eq!(bench.counters.statistics().circuits, 1);
    sleep(Duration::from_mins(10)).await;
    assert_eq!(bench.counters.statistics().circuits, 0);
    bench.pool.prove(2).await.unwrap();
    all_held(puts(&bench, 40..44)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_dropped_closes_its_circuits() {
    let bench = bench(Plan::default());
    bench.pool.prove(1).await.unwrap();
    all_held(puts(&bench, 0..8)).await;
    drop(bench.pool);
    sleep(Duration::from_millis(10)).await;
    assert_eq!(bench.counters.statistics().circuits, 0);
}

#[test]
fn any_thread_may_wait_for_an_answer() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_time()
        .build()
        .unwrap();
    let world = World::new(Plan {
        rates: vec![1000 * MIB],
        latency: Duration::from_millis(1),
        opening: Duration::from_millis(1),
        shared: None,
    });
    let pool = Pool::new(
        Arc::new(FakeDial(world)),
        Settings::default(),
        &Arc::default(),
        runtime.handle().clone(),
    );
    let reply = futures_executor::block_on(pool.put(range(1))).unwrap();
    assert!(reply.is_held());
    futures_executor::block_on(pool.prove(1)).unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_circuits_carry_a_small_transfer_before_it_is_over() {
    let plan = Plan {
        rates: vec![6 * MIB],
        latency: Duration::from_millis(8),
        ..Plan::default()
    };
    let bench = bench(plan);
    let start = Instant::now();
    all_held(puts(&bench, 0..16)).await;
    // One circuit would need 3.2 s, opening included, and all four from the start 1.
    assert!(
        start.elapsed() < Duration::from_millis(1600),
        "{:?}",
        start.elapsed()
    );
    assert!(bench.world.shares().iter().all(|share| *share > MIB));
}

#[tokio::test(start_paused = true)]
async fn as_many_calls_as_the_appetite_says_keep_all_circuits_busy() {
    let bench = bench(Plan::default());
    let appetite = bench.pool.appetite();
    let start = Instant::now();
    let mut set = puts(&bench, 0..appetite.calls as u64);
    let mut next = appetite.calls as u64;
    while let Some(outcome) = set.join_next().await {
        assert!(outcome.unwrap().unwrap().is_held());
        if next < 128 {
            let pool = Arc::clone(&bench.pool);
            set.spawn(async move { pool.put(range(next)).await });
            next += 1;
        }
    }
    assert!(
        start.elapsed() < Duration::from_secs(20),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(bench.counters.statistics().circuits, 4);
}
