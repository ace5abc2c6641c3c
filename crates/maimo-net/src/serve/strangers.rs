//! The seats of those who are not known yet: few, and the newest comes first.
//!
//! Whoever only connects could take every seat and keep it as long as it may. The oldest is turned out instead of the newest being turned
//! away: a client that means it is through in a few round trips.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The seats.
#[derive(Debug)]
pub(crate) struct Strangers {
    seats: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// By number, the oldest first.
    seats: VecDeque<(u64, CancellationToken)>,
}

/// A seat, given up when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    number: u64,
    strangers: Arc<Strangers>,
}

impl Strangers {
    pub(crate) fn new(seats: usize) -> Arc<Self> {
        Arc::new(Self {
            seats: seats.max(1),
            taken: Mutex::default(),
        })
    }

    /// Takes a seat, at need the oldest one's. The token is cancelled if this one is turned out.
    pub(crate) fn sit(self: &Arc<Self>) -> (Seat, CancellationToken) {
        let mut taken = self.taken();
        if taken.seats.len() >= self.seats
            && let Some((_, oldest)) = taken.seats.pop_front()
        {
            oldest.cancel();
        }
        let number = taken.next;
        taken.next += 1;
        let out = CancellationToken::new();
        taken.seats.push_back((number, out.clone()));
        let strangers = Arc::clone(self);
        (Seat { number, strangers }, out)
    }

    /// Returns how many seats are taken.
    pub(crate) fn count(&self) -> usize {
        self.taken().seats.len()
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Each change leaves the list whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.strangers.taken();
        taken.seats.retain(|(number, _)| *number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_for_the_newest() {
        let strangers = Strangers::new(2);
        let first = strangers.sit();
        let second = strangers.sit();
        assert!(!first.1.is_cancelled());
        let third = strangers.sit();
        assert!(first.1.is_cancelled());
        assert!(!second.1.is_cancelled() && !third.1.is_cancelled());
        assert_eq!(strangers.count(), 2);
        drop(first);
        assert_eq!(strangers.count(), 2);
        drop(second);
        let fourth = strangers.sit();
        assert!(!third.1.is_cancelled() && !fourth.1.is_cancelled());
    }
}
