//! What each known client may still take, over all of its connections; and what all who audit one channel by tickets may, together.
//!
//! Kept for as long as the process runs, so that connecting again gives nothing anew: there are at most twice as many as were invited. How many
//! tickets a client hands out changes nothing.

use core::time::Duration;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use maimo_core::{id::ChannelId, identity::ClientPublicKey};
use tokio::{sync::Semaphore, time::Instant};

use crate::{http::Budget, serve::limits::Limits};

/// The known clients that came so far.
#[derive(Debug)]
pub(crate) struct Clients {
    limits: Limits,
    bulk_threads: usize,
    known: Mutex<HashMap<Who, Arc<Client>>>,
}

/// Whose share it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Who {
    /// A client's own.
    Client([u8; 32]),
    /// That of all who have tickets for a channel.
    Auditors(ChannelId),
}

impl Who {
    pub(crate) const fn client(key: &ClientPublicKey) -> Self {
        Self::Client(*key.as_bytes())
    }
}

/// How much less than a client those have who audit its channel.
const AUDITORS_PART: usize = 4;

/// What one client may take.
#[derive(Debug)]
pub(crate) struct Client {
    /// What it is called in logs: in the order they came, and nothing else.
    pub(crate) number: usize,
    pub(crate) connections: Arc<Semaphore>,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) bulk_threads: Arc<Semaphore>,
    pub(crate) bytes: Budget,
    /// How much that budget is in all.
    pub(crate) bytes_max: u64,
    pub(crate) slices: Allowance,
    pub(crate) digested: Allowance,
}

impl Clients {
    pub(crate) fn new(limits: Limits, bulk_threads: usize) -> Self {
        Self {
            limits,
            bulk_threads,
            known: Mutex::default(),
        }
    }

    /// Returns what a client may take, or those who audit a channel.
    pub(crate) fn of(&self, who: Who) -> Arc<Client> {
        let mut known = lock(&self.known);
        let number = known.len() + 1;
        let part = match who {
            Who::Client(_) => 1,
            Who::Auditors(_) => AUDITORS_PART,
        };
        let of_count = |count: usize| count.div_ceil(part);
        let of_amount = |amount: u64| amount.div_ceil(part as u64);
        let limits = &self.limits;
        let client = known.entry(who).or_insert_with(|| {
            Arc::new(Client {
                number,
                connections: Arc::new(Semaphore::new(of_count(limits.connections_per_client))),
                calls: Arc::new(Semaphore::new(of_count(limits.calls_per_client))),
                bulk_threads: Arc::new(Semaphore::new(self.bulk_threads)),
                bytes: Budget::new(of_amount(limits.bytes_per_client)),
                bytes_max: of_amount(limits.bytes_per_client),
                slices: Allowance::new(
                    of_amount(limits.slices_at_once),
                    of_amount(limits.slices_per_minute),
                ),
                digested: Allowance::new(
                    limits.digest_bytes_at_once,
                    limits.digest_bytes_per_minute,
                ),
            })
        });
        Arc::clone(client)
    }

    /// Returns how many clients have connections; who audits is none.
    pub(crate) fn connected(&self) -> usize {
        let is_here = |(who, client): &(&Who, &Arc<Client>)| {
            matches!(who, Who::Client(_))
                && client.connections.available_permits() < self.limits.connections_per_client
        };
        lock(&self.known).iter().filter(is_here).count()
    }
}

/// So much at once, and so much a minute.
///
/// Who has any left may take more than that: what is owed is waited for by the next. So no single request is too large for ever.
#[derive(Debug)]
pub(crate) struct Allowance {
    most: u64,
    per_minute: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    left: u64,
    owed: u64,
    refilled: Instant,
}

/// How long anyone is told to stay away at most.
const PAUSE_MAX: Duration = Duration::from_mins(1);

impl Allowance {
    fn new(most: u64, per_minute: u64) -> Self {
        Self {
            most,
            per_minute,
            state: Mutex::new(State {
                left: most,
                owed: 0,
                refilled: Instant::now(),
            }),
        }
    }

    /// Takes so much.
    ///
    /// # Errors
    ///
    /// There is nothing left: when to come again.
    pub(crate) fn take(&self, amount: u64) -> Result<(), Duration> {
        let mut state = lock(&self.state);
        let now = Instant::now();
        let passed_ms = (now - state.refilled).as_millis();
        let gained = passed_ms * u128::from(self.per_minute) / 60_000;
        let gained = u64::try_from(gained).unwrap_or(u64::MAX);
        if gained > 0 {
            // Parts of one are gained by whoever asks less often.
            state.refilled = now;
            let paid = gained.min(state.owed);
            state.owed -= paid;
            state.left = state.left.saturating_add(gained - paid).min(self.most);
        }
        if amount == 0 {
            return Ok(());
        }
        if state.left == 0 {
            let wait_ms = u128::from(state.owed + 1) * 60_000 / u128::from(self.per_minute.max(1));
            let wait = Duration::from_millis(u64::try_from(wait_ms).unwrap_or(u64::MAX));
            return Err(wait.clamp(Duration::from_millis(100), PAUSE_MAX));
        }
        let owed = amount.saturating_sub(state.left);
        state.left -= amount - owed;
        state.owed = owed;
        Ok(())
    }
}

/// Numbers are whole after a panic as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_beyond_the_allowance_is_waited_for() {
        let allowance = Allowance::new(1000, 600);
        allowance.take(900).unwrap();
        allowance.take(150).unwrap();
        let wait = allowance.take(1).unwrap_err();
        assert_eq!(wait, Duration::from_millis(5100));
        advance(Duration::from_secs(4)).await;
        allowance.take(1).unwrap_err();
        advance(Duration::from_millis(1200)).await;
        allowance.take(1).unwrap();
        allowance.take(1).unwrap();
        allowance.take(1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_saved_beyond_the_most() {
        let allowance = Allowance::new(1000, 600);
        advance(Duration::from_hours(10)).await;
        allowance.take(1000).unwrap();
        allowance.take(1).unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_owes_much_is_told_a_minute() {
        let allowance = Allowance::new(1000, 600);
        allowance.take(1_000_000).unwrap();
        assert_eq!(allowance.take(1).unwrap_err(), PAUSE_MAX);
    }
}
