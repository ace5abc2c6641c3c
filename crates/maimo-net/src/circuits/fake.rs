//! A provider and the circuits to it, in virtual time: rates, latencies, deaths.

use core::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard},
};

use bytes::Bytes;
use maimo_core::{id::RootHash, reference::ObjectRef};
use tokio::{
    sync::{self, watch},
    time::{Instant, sleep},
};

use super::{Circuit, Dial, Opening, Purpose};
use crate::{
    rate::Meter,
    service::{PUT_BYTES, Put, PutReply, Read, Reply, ServiceError, Session},
};

pub(super) const MIB: u64 = 1024 * 1024;
const PIECE: u64 = 16 * 1024;

/// How the network is.
#[derive(Clone)]
pub(super) struct Plan {
    /// Bytes a second of each bulk circuit, by the order they are opened in; the last one's holds for all further ones.
    pub(super) rates: Vec<u64>,
    /// Bytes a second of all together.
    pub(super) shared: Option<u64>,
    pub(super) latency: Duration,
    pub(super) opening: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            rates: vec![2 * MIB],
            shared: None,
            latency: Duration::from_millis(50),
            opening: Duration::from_millis(300),
        }
    }
}

/// The provider, and all that was done to reach it.
#[derive(Default)]
pub(super) struct World {
    plan: Mutex<Plan>,
    link: sync::Mutex<()>,
    held: Mutex<HashSet<(RootHash, u64)>>,
    /// Bytes of bodies that left, whether or not they arrived.
    pub(super) left: AtomicU64,
    /// Ranges that arrived.
    pub(super) arrivals: AtomicU64,
    /// Calls that were cancelled before their end.
    pub(super) cancelled: AtomicU64,
    pub(super) questions: AtomicU64,
    bulk: Mutex<Vec<Arc<Fate>>>,
    control: Mutex<Vec<Arc<Fate>>>,
    dials: Mutex<Vec<Instant>>,
    /// What opening a circuit fails with.
    away: Mutex<Option<ServiceError>>,
    /// What bulk circuits become as soon as they are open.
    born: Mutex<State>,
    refusal: Mutex<Option<ServiceError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum State {
    #[default]
    Alive,
    /// Nothing moves any more, and nobody is told.
    Frozen,
    Dead,
}

/// What the world does to a circuit.
pub(super) struct Fate {
    state: watch::Sender<State>,
    pub(super) meter: Meter,
    pub(super) answers: AtomicUsize,
}

impl Fate {
    pub(super) fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

impl World {
    pub(super) fn new(plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            plan: Mutex::new(plan),
            ..Self::default()
        })
    }

    pub(super) fn circuit(&self, at: usize) -> Arc<Fate> {
        Arc::clone(&lock(&self.bulk)[at])
    }

    pub(super) fn circuits(&self) -> usize {
        lock(&self.bulk).len()
    }

    pub(super) fn control(&self) -> Vec<Arc<Fate>> {
        lock(&self.control).clone()
    }

    /// Returns how many bytes each bulk circuit moved.
    pub(super) fn shares(&self) -> Vec<u64> {
        lock(&self.bulk)
            .iter()
            .map(|fate| fate.meter.moved())
            .collect()
    }

    pub(super) fn dials(&self) -> Vec<Instant> {
        lock(&self.dials).clone()
    }

    pub(super) fn go_away(&self, why: Option<ServiceError>) {
        *lock(&self.away) = why;
    }

    pub(super) fn bear(&self, state: State) {
        *lock(&self.born) = state;
    }

    /// Answers puts with an error.
    pub(super) fn refuse_puts(&self, why: Option<ServiceError>) {
        *lock(&self.refusal) = why;
    }

    fn missing(&self, pack: &ObjectRef) -> PutReply {
        let held = lock(&self.held);
        let missing = (0..pack.length.div_ceil(PUT_BYTES))
            .map(|range| range * PUT_BYTES)
            .filter(|offset| !held.contains(&(pack.root, *offset)))
            .collect();
        PutReply { missing }
    }
}

/// Opens circuits in a world.
pub(super) struct FakeDial(pub(super) Arc<World>);

impl Dial for FakeDial {
    fn open(&self, purpose: Purpose) -> Opening {
        let world = Arc::clone(&self.0);
        Box::pin(async move {
            lock(&world.dials).push(Instant::now());
            let plan = lock(&world.plan).clone();
            sleep(plan.opening).await;
            if let Some(error) = lock(&world.away).clone() {
                return Err(error);
            }
            let fate = Arc::new(Fate {
                state: watch::Sender::new(match purpose {
                    Purpose::Bulk => *lock(&world.born),
                    Purpose::Control => State::Alive,
                }),
                meter: Meter::default(),
                answers: AtomicUsize::new(0),
            });
            let list = match purpose {
                Purpose::Bulk => &world.bulk,
                Purpose::Control => &world.control,
            };
            let at = lock(list).len();
            lock(list).push(Arc::clone(&fate));
            let rate = plan.rates[at.min(plan.rates.len() - 1)];
            let circuit: Arc<dyn Circuit> = Arc::new(FakeCircuit {
                fate,
                rate,
                latency: plan.latency,
                shared: plan.shared,
                way: sync::Mutex::new(()),
                world: Arc::clone(&world),
            });
            Ok(circuit)
        })
    }
}

struct FakeCircuit {
    fate: Arc<Fate>,
    rate: u64,
    latency: Duration,
    shared: Option<u64>,
    way: sync::Mutex<()>,
    world: Arc<World>,
}

/// Counts a call that is dropped before its end.
struct Unfinished<'a>(Option<&'a World>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(world) = self.0 {
            world.cancelled.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FakeCircuit {
    async fn dead(&self) {
        let mut state = self.fate.state.subscribe();
        let _ = state.wait_for(|state| *state == State::Dead).await;
    }

    async fn thawed(&self) {
        let mut state = self.fate.state.subscribe();
        let _ = state.wait_for(|state| *state != State::Frozen).await;
    }

    /// Carries a call out, unless the circuit dies first.
    async fn call<T>(
        &self,
        work: impl Future<Output = Result<T, ServiceError>>,
    ) -> Result<T, ServiceError> {
        let mut unfinished = Unfinished(Some(&self.world));
        let result = tokio::select! {
            biased;
            () = self.dead() => Err(ServiceError::Offline { detail: "the circuit died".to_owned() }),
            result = work => result,
        };
        if result.is_ok() {
            self.fate.answers.fetch_add(1, Ordering::Relaxed);
        }
        unfinished.0 = None;
        result
    }

    async fn travel(&self) {
        self.thawed().await;
        sleep(self.latency).await;
        self.thawed().await;
    }

    async fn carry(&self, mut bytes: u64, count: impl Fn(u64)) {
        while bytes > 0 {
            let piece = bytes.min(PIECE);
            self.thawed().await;
            if let Some(shared) = self.shared {
                let _turn = self.world.link.lock().await;
                sleep(Duration::from_nanos(piece * 1_000_000_000 / shared)).await;
            }
            sleep(Duration::from_nanos(piece * 1_000_000_000 / self.rate)).await;
            count(piece);
            bytes -= piece;
        }
    }
}

impl Circuit for FakeCircuit {
    fn is_open(&self) -> bool {
        *self.fate.state.borrow() != State::Dead
    }

    fn closed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(self.dead())
    }

    fn meter(&self) -> &Meter {
        &self.fate.meter
    }
}

impl Session for FakeCircuit {
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        Box::pin(self.call(async move {
            if put.bytes.is_empty() {
                self.world.questions.fetch_add(1, Ordering::Relaxed);
                self.travel().await;
                let reply = self.world.missing(&put.pack);
                self.travel().await;
                return Ok(reply);
            }
            let turn = self.way.lock().await;
            let count = |bytes| {
                self.world.left.fetch_add(bytes, Ordering::Relaxed);
                self.fate.meter.add_sent(bytes);
            };
            self.carry(put.bytes.len() as u64, count).await;
            drop(turn);
            self.travel().await;
            let refusal = lock(&self.world.refusal).clone();
            if let Some(refusal) = refusal {
                self.travel().await;
                return Err(refusal);
            }
            self.world.arrivals.fetch_add(1, Ordering::Relaxed);
            lock(&self.world.held).insert((put.pack.root, put.offset));
            let reply = self.world.missing(&put.pack);
            self.travel().await;
            Ok(reply)
        }))
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        Box::pin(self.call(async move {
            self.travel().await;
            let turn = self.way.lock().await;
            for read in &reads {
                let bytes = read.groups.live_bytes(read.pack.length);
                self.carry(bytes, |bytes| self.fate.meter.add_received(bytes))
                    .await;
            }
            drop(turn);
            self.travel().await;
            Ok(vec![Bytes::new(); reads.len()])
        }))
    }

    /// The one call of control that is made here.
    fn prove(&self, _sequence: u64) -> Reply<'_, Bytes> {
        Box::pin(self.call(async move {
            self.travel().await;
            self.travel().await;
            Ok(Bytes::new())
        }))
    }

    crate::unasked!(status, put_node, move_head, head, nodes, audit, digest);
}
