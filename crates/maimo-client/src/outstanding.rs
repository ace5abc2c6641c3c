//! [`Outstanding`]: several calls under way at a time, from one thread that runs no executor.
//!
//! Over a network each call waits for a round trip, and each circuit carries some; a provider in this process is asked one call after the other.
//! The answers come in the order they are ready, each with what it is the answer to.

use core::{future::Future, pin::Pin};

use futures::{
    future::{Either, select},
    stream::{FuturesUnordered, StreamExt},
};
use futures_executor::block_on;
use maimo_core::{live_map::LiveMap, units::GROUP_BYTES};
use maimo_net::service::{Reply, ServiceError};

type Answer<'a, K, T> = Pin<Box<dyn Future<Output = (K, Result<T, ServiceError>)> + Send + 'a>>;

/// Calls under way.
pub(crate) struct Outstanding<'a, K, T> {
    limit: usize,
    running: FuturesUnordered<Answer<'a, K, T>>,
}

impl<'a, K: Send + 'a, T: 'a> Outstanding<'a, K, T> {
    /// Prepares for `limit` calls at a time, at least one.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            running: FuturesUnordered::new(),
        }
    }

    /// Returns whether another call has to wait.
    pub(crate) fn is_full(&self) -> bool {
        self.running.len() >= self.limit
    }

    /// Adds a call; it is under way from the next [`Self::next`] on at the latest.
    pub(crate) fn start(&mut self, key: K, reply: Reply<'a, T>) {
        self.running
            .push(Box::pin(async move { (key, reply.await) }));
    }

    /// Waits for the next answer; nothing where no call is under way.
    pub(crate) fn next(&mut self) -> Option<(K, Result<T, ServiceError>)> {
        block_on(self.running.next())
    }

    /// Waits for the next answer, or for what else may happen first.
    pub(crate) fn next_or<O>(
        &mut self,
        other: impl Future<Output = O> + Unpin,
    ) -> Either<(K, Result<T, ServiceError>), O> {
        let next = self.running.next();
        match block_on(select(next, other)) {
            Either::Left((Some(answer), _)) => Either::Left(answer),
            // No call is under way.
            Either::Left((None, other)) => Either::Right(block_on(other)),
            Either::Right((other, _)) => Either::Right(other),
        }
    }
}

/// Cuts a map into maps of at most `bytes` of groups each, at least one group.
pub(crate) fn cut(map: &LiveMap, bytes: u64) -> Vec<LiveMap> {
    let groups_max = u32::try_from(bytes / GROUP_BYTES)
        .unwrap_or(u32::MAX)
        .max(1);
    if map.count() <= groups_max {
        return if map.count() == 0 {
            Vec::new()
        } else {
            vec![map.clone()]
        };
    }
    let mut parts = Vec::new();
    let mut open = Vec::new();
    let mut count = 0;
    for run in map.runs() {
        let mut start = run.start;
        while start < run.end {
            let end = run.end.min(start + (groups_max - count));
            open.push(start..end);
            count += end - start;
            start = end;
            if count == groups_max {
                parts.extend(LiveMap::from_runs(map.groups(), core::mem::take(&mut open)));
                count = 0;
            }
        }
    }
    if !open.is_empty() {
        parts.extend(LiveMap::from_runs(map.groups(), open));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_bounded_and_make_up_the_whole() {
        let bytes = 8 * 1024 * 1024;
        let live = LiveMap::from_runs(4096, [3..700, 800..801, 900..4096]).unwrap();
        let parts = cut(&live, bytes);
        assert!(parts.len() > 6);
        let mut whole = LiveMap::from_runs(4096, []).unwrap();
        for part in &parts {
            assert!(u64::from(part.count()) * GROUP_BYTES <= bytes);
            assert!(!whole.intersects(part));
            whole = whole.union(part);
        }
        assert_eq!(whole, live);
    }

    #[test]
    fn no_more_calls_than_allowed_are_under_way() {
        let mut calls: Outstanding<'_, u32, u32> = Outstanding::new(2);
        let mut answers = Vec::new();
        let mut wanted = 0..5;
        loop {
            while !calls.is_full()
                && let Some(n) = wanted.next()
            {
                calls.start(n, Box::pin(async move { Ok(n * 10) }));
            }
            let Some((n, answer)) = calls.next() else {
                break;
            };
            assert!(!calls.is_full());
            answers.push((n, answer.unwrap()));
        }
        answers.sort_unstable();
        assert_eq!(answers, [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40)]);
    }
}
