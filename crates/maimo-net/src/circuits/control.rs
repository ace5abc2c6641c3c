//! The control circuit: opened when it is needed, replaced when it dies, closed when it has been idle.
//!
//! Calls run side by side. One that dies with the circuit is made again on the next: each of them may be carried out twice and says the
//! same both times (a head that moved moves to where it is).

use core::{future::Future, pin::pin, time::Duration};
use std::sync::{Arc, PoisonError, Weak};

use maimo_core::error::{Classify, Retry};
use tokio::{
    select,
    sync::Mutex,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    circuit::{Circuit, Dial, Purpose},
    settings::Settings,
    statistics::{Counters, Open, count},
};
use crate::{
    backoff::Backoff,
    rate::Meter,
    service::{Reply, ServiceError},
};

/// How often a call is made again that its circuit took along.
const LOST_MOST: u32 = 4;
/// How many bytes are a sign that an answer is on its way.
const SIGN_BYTES: u64 = 4096;
/// The longest pause that a provider which says it is busy gets.
const BUSY_LONGEST: Duration = Duration::from_secs(30);

/// How long a call waits without a byte on its circuit, and in all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    quiet: Duration,
    whole: Duration,
}

/// For what a provider answers from its ledger.
pub(super) const QUICK: Patience = Patience {
    quiet: Duration::from_mins(1),
    whole: Duration::from_mins(15),
};
/// For what it reads its disks for: it may be silent for as long as that takes. Whether it is alive is for the connection to find out.
pub(super) const LONG: Patience = Patience {
    quiet: Duration::from_mins(30),
    whole: Duration::from_hours(1),
};

/// The control circuit of one provider.
pub(super) struct Control {
    dial: Arc<dyn Dial>,
    settings: Settings,
    counters: Arc<Counters>,
    /// Held while a circuit is opened: who comes meanwhile waits, instead of opening another.
    opening: Mutex<Tries>,
    current: Arc<std::sync::Mutex<Option<Current>>>,
}

struct Current {
    circuit: Arc<dyn Circuit>,
    /// When a call was last begun or ended.
    used: Instant,
    calls: usize,
    _open: Open,
}

/// What became of opening so far.
struct Tries {
    backoff: Backoff,
    not_before: Option<Instant>,
    trouble: Option<ServiceError>,
    opened: u64,
}

impl Control {
    pub(super) fn new(dial: Arc<dyn Dial>, settings: Settings, counters: Arc<Counters>) -> Self {
        // Pauses that are alike do no harm worth failing for.
        let seed = getrandom::u64().unwrap_or(0);
        Self {
            dial,
            settings,
            counters,
            opening: Mutex::new(Tries {
                backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(15), seed),
                not_before: None,
                trouble: None,
                opened: 0,
            }),
            current: Arc::default(),
        }
    }

    /// Opens the circuit, if it is not.
    pub(super) async fn reach(&self) -> Result<(), ServiceError> {
        self.circuit().await.map(|_| ())
    }

    /// Makes a call until it is answered, within reason.
    pub(super) async fn call<T, C>(&self, patience: Patience, call: C) -> Result<T, ServiceError>
    where
        C: Fn(Arc<dyn Circuit>) -> Reply<'static, T> + Send + Sync,
    {
        let started = Instant::now();
        let mut lost = 0;
        loop {
            let circuit = self.circuit().await?;
            let used = Used::begin(&self.current, &circuit);
            let outcome = watched(patience, circuit.meter(), call(Arc::clone(&circuit))).await;
            drop(used);
            match outcome {
                Err(ServiceError::Offline { detail }) => {
                    self.forget(&circuit);
                    lost += 1;
                    if lost >= LOST_MOST || started.elapsed() >= patience.whole {
                        return Err(ServiceError::Offline { detail });
                    }
                }
                Err(ServiceError::Busy(pause)) => {
                    if started.elapsed() >= self.settings.control_patience {
                        return Err(ServiceError::Busy(pause));
                    }
                    sleep(pause.min(BUSY_LONGEST)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Returns the circuit, opened anew where there is none, with pauses between tries for as long as [`Settings::control_patience`].
    async fn circuit(&self) -> Result<Arc<dyn Circuit>, ServiceError> {
        let started = Instant::now();
        let end = started + self.settings.control_patience;
        let offline = || ServiceError::Offline {
            detail: "no answer".to_owned(),
        };
        let mut trouble: Option<ServiceError> = None;
        while Instant::now() < end {
            if let Some(circuit) = self.current() {
                return Ok(circuit);
            }
            let Ok(mut tries) = tokio::time::timeout_at(end, self.opening.lock()).await else {
                break;
            };
            if let Some(circuit) = self.current() {
                return Ok(circuit);
            }
            let now = Instant::now();
            if let Some(until) = tries.not_before.filter(|until| *until > now) {
                trouble.clone_from(&tries.trouble);
                if let Some(no_tor) = self.no_tor(&tries, started) {
                    return Err(no_tor);
                }
                // Not while holding the lock: who has less time left than this pause has to learn it.
                drop(tries);
                sleep_until(until.min(end)).await;
                continue;
            }
            // All of the time that is left, and no more: a provider that takes the connection and then says nothing is away, too.
            let left = end.duration_since(now).min(self.settings.open_timeout);
            let opened = timeout(left, self.dial.open(Purpose::Control)).await;
            // A try cut short here says nothing, but the one before it may have.
            match opened.unwrap_or_else(|_| Err(trouble.take().unwrap_or_else(offline))) {
                Ok(circuit) => {
                    tries.backoff.reset();
                    tries.not_before = None;
                    tries.trouble = None;
                    tries.opened += 1;
                    if tries.opened > 1 {
                        count(&self.counters.rebuilds);
                    }
                    self.keep(&circuit);
                    return Ok(circuit);
                }
                Err(error) if error.retry() == Retry::Never => return Err(error),
                Err(error) => {
                    let pause = tries.backoff.after(error.retry());
                    tries.not_before = pause.map(|pause| Instant::now() + pause);
                    tries.trouble = Some(error.clone());
                    trouble = Some(error);
                    if let Some(no_tor) = self.no_tor(&tries, started) {
                        return Err(no_tor);
                    }
                }
            }
        }
        Err(trouble.unwrap_or_else(offline))
    }

    /// Returns the error of a Tor that is not there and was not before, once that was tried for long enough.
    fn no_tor(&self, tries: &Tries, started: Instant) -> Option<ServiceError> {
        let is_over = tries.opened == 0 && started.elapsed() >= self.settings.tor_patience;
        tries
            .trouble
            .clone()
            .filter(|trouble| is_over && matches!(trouble, ServiceError::TorUnavailable { .. }))
    }

    fn current(&self) -> Option<Arc<dyn Circuit>> {
        let current = lock(&self.current);
        let current = current.as_ref()?;
        current
            .circuit
            .is_open()
            .then(|| Arc::clone(&current.circuit))
    }

    fn keep(&self, circuit: &Arc<dyn Circuit>) {
        *lock(&self.current) = Some(Current {
            circuit: Arc::clone(circuit),
            used: Instant::now(),
            calls: 0,
            _open: Open::count(&self.counters),
        });
        let current = Arc::downgrade(&self.current);
        let idle = self.settings.control_idle;
        tokio::spawn(close_when_idle(current, Arc::downgrade(circuit), idle));
    }

    /// Lets go of a circuit that failed, unless another took its place.
    fn forget(&self, circuit: &Arc<dyn Circuit>) {
        let mut current = lock(&self.current);
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(&current.circuit, circuit))
        {
            *current = None;
        }
    }
}

/// A call on the circuit, which keeps it from being idle.
struct Used<'a> {
    current: &'a std::sync::Mutex<Option<Current>>,
    circuit: Arc<dyn Circuit>,
}

impl<'a> Used<'a> {
    fn begin(current: &'a std::sync::Mutex<Option<Current>>, circuit: &Arc<dyn Circuit>) -> Self {
        let used = Self {
            current,
            circuit: Arc::clone(circuit),
        };
        used.change(|calls| calls + 1);
        used
    }

    fn change(&self, calls: impl Fn(usize) -> usize) {
        if let Some(current) = lock(self.current).as_mut()
            && Arc::ptr_eq(&current.circuit, &self.circuit)
        {
            current.calls = calls(current.calls);
            current.used = Instant::now();
        }
    }
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.change(|calls| calls.saturating_sub(1));
    }
}

/// Closes the circuit when it has been idle for so long, or is dead; ends when it is not the one in use.
async fn close_when_idle(
    current: Weak<std::sync::Mutex<Option<Current>>>,
    circuit: Weak<dyn Circuit>,
    idle: Duration,
) {
    loop {
        sleep(idle / 4).await;
        let Some(current) = current.upgrade() else {
            return;
        };
        let mut current = lock(&current);
        let Some(now) = current
            .as_ref()
            .filter(|now| core::ptr::addr_eq(Arc::as_ptr(&now.circuit), circuit.as_ptr()))
        else {
            return;
        };
        let is_idle = now.calls == 0 && now.used.elapsed() >= idle;
        if is_idle || !now.circuit.is_open() {
            *current = None;
            return;
        }
    }
}

/// Waits for an answer, as long as there is a sign of one.
async fn watched<T>(
    patience: Patience,
    meter: &Meter,
    call: impl Future<Output = Result<T, ServiceError>>,
) -> Result<T, ServiceError> {
    let quiet = async {
        let end = Instant::now() + patience.whole;
        loop {
            let before = meter.moved();
            sleep(patience.quiet).await;
            if meter.moved().saturating_sub(before) < SIGN_BYTES || Instant::now() >= end {
                return;
            }
        }
    };
    let quiet = pin!(quiet);
    select! {
        answer = call => answer,
        () = quiet => Err(ServiceError::Offline {
            detail: format!("no answer within {} s", patience.quiet.as_secs()),
        }),
    }
}

/// What a panic could leave behind is a circuit or none; both will do.
fn lock(current: &std::sync::Mutex<Option<Current>>) -> std::sync::MutexGuard<'_, Option<Current>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
