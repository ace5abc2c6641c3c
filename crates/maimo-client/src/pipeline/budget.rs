//! [`Budget`]: how many bytes may be between the planner and the packs, so that memory stays flat whatever is stored.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A bound on bytes in flight: the planner takes, the filler gives back.
pub(super) struct Budget {
    max: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    used: usize,
    ended: bool,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Takes `bytes`, if they are free or nothing at all is in flight: one task may be larger than the whole budget.
    pub(super) fn try_take(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        let free = state.used == 0 || state.used + bytes <= self.max;
        if free {
            state.used += bytes;
        }
        free || state.ended
    }

    /// Waits until `bytes` are free; returns whether the run goes on.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let mut state = self.lock();
        while !state.ended && state.used > 0 && state.used + bytes > self.max {
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.used += bytes;
        !state.ended
    }

    /// Gives back what was taken.
    pub(super) fn give(&self, bytes: usize) {
        let mut state = self.lock();
        state.used = state.used.saturating_sub(bytes);
        self.changed.notify_all();
    }

    /// Ends the run: nobody waits any more.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Returns whether the run was ended.
    pub(super) fn is_ended(&self) -> bool {
        self.lock().ended
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_task_may_be_larger_than_the_budget_but_not_two() {
        let budget = Budget::new(10);
        assert!(budget.try_take(100));
        assert!(!budget.try_take(1));
        budget.give(100);
        assert!(budget.try_take(4) && budget.try_take(6) && !budget.try_take(1));
        budget.end();
        assert!(!budget.take(1) && budget.is_ended());
    }
}
