//! The threads on which a provider works: few, and never all of them busy with bulk.
//!
//! A provider's calls block: on its disks, on a sync that many wait for. Each runs on a thread of the runtime's that may block. Calls that
//! move much wait in a line of their own, shorter than there are threads, so that what a client waits for with nothing else to do, a head
//! to move or an audit, goes ahead of them.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

/// How soon a call is to be worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Ahead of bulk: heads, audits, what is asked of a channel.
    Control,
    /// Ranges, reads, digests.
    Bulk,
}

/// The threads. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Workers {
    all: Arc<Semaphore>,
    bulk: Arc<Semaphore>,
    bulk_count: usize,
}

/// The work ended in a panic, which is a fault of the provider's program.
#[derive(Debug)]
pub(crate) struct Panicked;

impl Workers {
    pub(crate) fn new(threads: usize) -> Self {
        let threads = threads.max(2);
        // A quarter, one at least, is never for bulk.
        let bulk_count = threads - threads.div_ceil(4);
        Self {
            all: Arc::new(Semaphore::new(threads)),
            bulk: Arc::new(Semaphore::new(bulk_count)),
            bulk_count,
        }
    }

    /// Returns how many threads one client's bulk may take: half of those for bulk.
    pub(crate) fn bulk_per_client(&self) -> usize {
        self.bulk_count.div_ceil(2)
    }

    /// Does work on a thread. It goes on if nobody waits for it any more; `own` is the line of one client's bulk.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        urgency: Urgency,
        own: Option<&Arc<Semaphore>>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Panicked> {
        let (mut own_permit, mut bulk_permit) = (None, None);
        if urgency == Urgency::Bulk {
            if let Some(own) = own {
                own_permit = acquire(own).await;
            }
            bulk_permit = acquire(&self.bulk).await;
        }
        // Only so much bulk can wait here that others find a thread.
        let permits = (acquire(&self.all).await, bulk_permit, own_permit);
        spawn_blocking(move || {
            let done = work();
            drop(permits);
            done
        })
        .await
        .map_err(|_| Panicked)
    }
}

async fn acquire(semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // They are never closed.
    Arc::clone(semaphore).acquire_owned().await.ok()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn control_is_worked_on_while_bulk_takes_all_it_may() {
        let workers = Workers::new(4);
        let mut held = Vec::new();
        let mut running = Vec::new();
        for _ in 0..8 {
            let (release, held_up) = mpsc::channel::<()>();
            held.push(release);
            let workers = workers.clone();
            running.push(tokio::spawn(async move {
                let work = move || held_up.recv().ok();
                workers.run(Urgency::Bulk, None, work).await.unwrap();
            }));
        }
        while workers.bulk.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.run(Urgency::Control, None, || 7).await.unwrap(), 7);
        drop(held);
        for task in running {
            task.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_panic_gives_the_thread_back() {
        let workers = Workers::new(2);
        for _ in 0..5 {
            let work = || -> () { panic!("as it should") };
            workers.run(Urgency::Bulk, None, work).await.unwrap_err();
        }
        assert_eq!(workers.run(Urgency::Bulk, None, || 7).await.unwrap(), 7);
    }
}
