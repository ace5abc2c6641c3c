//! Windows: how much the other end may send before it is read. They begin small and grow for the calls that need it, under a budget.
//!
//! The window of the connection is what bounds memory, so it is what the budget is charged with. HTTP/2 cannot take back what it has
//! granted of it; the windows of the streams it can, and with those small again an idle connection is cheap.

use crate::http::{Budget, Share};

/// The window of a connection and of each of its streams to begin with, in bytes.
pub const WINDOW_BYTES: u32 = 256 * 1024;
/// The largest window of a stream, in bytes: what a fast circuit has in flight.
pub const STREAM_WINDOW_BYTES_MAX: u32 = 4 * 1024 * 1024;
/// The largest window of a connection, in bytes.
pub const CONNECTION_WINDOW_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// The windows of one connection.
#[derive(Debug)]
pub(crate) struct Windows {
    budget: Budget,
    share: Option<Share>,
    stream: u32,
    connection: u32,
}

/// What sets windows: either end of a connection.
pub(crate) trait SetWindows {
    /// Sets the window of each stream; false if the other end has not yet agreed to the last change.
    fn set_stream(&mut self, bytes: u32) -> bool;
    fn set_connection(&mut self, bytes: u32);
}

impl Windows {
    /// Begins with windows of so many bytes, of each stream and of the connection.
    pub(crate) fn new(budget: Budget, stream: u32, connection: u32) -> Self {
        Self {
            budget,
            share: None,
            stream,
            connection,
        }
    }

    /// Makes room for a body of so many bytes, as far as the budget goes.
    pub(crate) fn grow(&mut self, body: u64, ends: &mut impl SetWindows) {
        let wanted = u32::try_from(body).unwrap_or(u32::MAX);
        let stream = wanted
            .clamp(1, STREAM_WINDOW_BYTES_MAX)
            .next_multiple_of(WINDOW_BYTES);
        if stream <= self.stream {
            return;
        }
        // Two bodies are under way at a time: the next is sent while the first is answered.
        let connection = (2 * stream).min(CONNECTION_WINDOW_BYTES_MAX);
        if connection > self.connection {
            let Some(share) = self
                .budget
                .try_take(u64::from(connection - self.connection))
            else {
                return;
            };
            match &mut self.share {
                Some(own) => own.join(share),
                none => *none = Some(share),
            }
            self.connection = connection;
            ends.set_connection(connection);
        }
        if ends.set_stream(stream) {
            self.stream = stream;
        }
    }

    /// Gives back what it has of the budget, once the connection is idle.
    pub(crate) fn shrink(&mut self, ends: &mut impl SetWindows) {
        if self.share.is_none() || !ends.set_stream(WINDOW_BYTES) {
            return;
        }
        ends.set_connection(WINDOW_BYTES);
        self.stream = WINDOW_BYTES;
        self.connection = WINDOW_BYTES;
        self.share = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn windows(budget: Budget) -> Windows {
        Windows::new(budget, WINDOW_BYTES, WINDOW_BYTES)
    }

    #[derive(Default)]
    struct Ends {
        stream: u32,
        connection: u32,
        busy: bool,
    }

    impl SetWindows for Ends {
        fn set_stream(&mut self, bytes: u32) -> bool {
            if !self.busy {
                self.stream = bytes;
            }
            !self.busy
        }

        fn set_connection(&mut self, bytes: u32) {
            self.connection = bytes;
        }
    }

    #[test]
    fn windows_grow_with_the_bodies_and_no_further_than_allowed() {
        let budget = Budget::new(100 * MIB);
        let (mut windows, mut ends) = (windows(budget.clone()), Ends::default());
        windows.grow(1000, &mut ends);
        assert_eq!((ends.stream, ends.connection), (0, 0));
        windows.grow(MIB, &mut ends);
        assert_eq!((ends.stream, ends.connection), (1 << 20, 2 << 20));
        windows.grow(1 << 40, &mut ends);
        assert_eq!((ends.stream, ends.connection), (4 << 20, 8 << 20));
        assert_eq!(budget.free(), 92 * MIB + u64::from(WINDOW_BYTES));
        windows.shrink(&mut ends);
        assert_eq!((ends.stream, ends.connection), (WINDOW_BYTES, WINDOW_BYTES));
        assert_eq!(budget.free(), 100 * MIB);
    }

    #[test]
    fn the_budget_is_shared_and_given_back() {
        let budget = Budget::new(3 * MIB);
        let mut first = (windows(budget.clone()), Ends::default());
        let mut second = (windows(budget.clone()), Ends::default());
        first.0.grow(MIB, &mut first.1);
        second.0.grow(MIB, &mut second.1);
        assert_eq!((first.1.stream, second.1.stream), (1 << 20, 0));
        drop(first);
        second.0.grow(MIB, &mut second.1);
        assert_eq!(second.1.stream, 1 << 20);
    }

    #[test]
    fn a_change_that_has_to_wait_is_made_by_the_next_call() {
        let mut windows = windows(Budget::new(100 * MIB));
        let mut ends = Ends {
            busy: true,
            ..Ends::default()
        };
        windows.grow(MIB, &mut ends);
        assert_eq!((ends.stream, ends.connection), (0, 2 << 20));
        ends.busy = false;
        windows.grow(MIB, &mut ends);
        assert_eq!((ends.stream, ends.connection), (1 << 20, 2 << 20));
    }
}
