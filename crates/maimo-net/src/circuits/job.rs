//! Jobs: a put or a read, whom to answer, and what became of it so far.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use super::{circuit::Circuit, statistics::Counters};
use crate::service::{Put, PutReply, Read, ServiceError};

type Caller<T> = oneshot::Sender<Result<T, ServiceError>>;

/// What is to be done, and for whom.
pub(super) enum Work {
    Put(Put, Caller<PutReply>),
    Read(Vec<Read>, Caller<Vec<Bytes>>),
}

/// A put or a read until it is answered.
pub(super) struct Job {
    request: Request,
    caller: AnyCaller,
    /// How many bytes it moves, about.
    pub(super) bytes: u64,
    pub(super) since: Instant,
    /// How often a circuit took it along.
    pub(super) lost: u32,
    /// Since when the provider has been too busy for it.
    pub(super) busy_since: Option<Instant>,
}

/// What goes to the provider, shared with the attempts.
#[derive(Clone)]
enum Request {
    Put(Put),
    Read(Arc<Vec<Read>>),
}

enum AnyCaller {
    Put(Caller<PutReply>),
    Read(Caller<Vec<Bytes>>),
}

/// What the provider answered.
pub(super) enum Done {
    Put(PutReply),
    Read(Vec<Bytes>),
}

impl Job {
    pub(super) fn new(work: Work, now: Instant) -> Self {
        let (bytes, request, caller) = match work {
            Work::Put(put, caller) => (
                put.bytes.len() as u64,
                Request::Put(put),
                AnyCaller::Put(caller),
            ),
            Work::Read(reads, caller) => {
                let bytes = reads
                    .iter()
                    .map(|read| read.groups.live_bytes(read.pack.length))
                    .fold(0, u64::saturating_add);
                (
                    bytes,
                    Request::Read(Arc::new(reads)),
                    AnyCaller::Read(caller),
                )
            }
        };
        Self {
            request,
            caller,
            bytes,
            since: now,
            lost: 0,
            busy_since: None,
        }
    }

    /// Returns whether it sends, and so may have been carried out when its circuit died.
    pub(super) const fn is_put(&self) -> bool {
        matches!(self.request, Request::Put(_))
    }

    /// Returns whether nobody waits for it any more.
    pub(super) fn is_abandoned(&self) -> bool {
        match &self.caller {
            AnyCaller::Put(caller) => caller.is_closed(),
            AnyCaller::Read(caller) => caller.is_closed(),
        }
    }

    /// Answers who waits for it.
    pub(super) fn finish(self, outcome: Result<Done, ServiceError>) {
        // Who stopped waiting is not told.
        match (self.caller, outcome) {
            (AnyCaller::Put(caller), Ok(Done::Put(reply))) => drop(caller.send(Ok(reply))),
            (AnyCaller::Read(caller), Ok(Done::Read(slices))) => drop(caller.send(Ok(slices))),
            (AnyCaller::Put(caller), Err(error)) => drop(caller.send(Err(error))),
            (AnyCaller::Read(caller), Err(error)) => drop(caller.send(Err(error))),
            // A request is answered in kind: see `attempt`.
            (AnyCaller::Put(_), Ok(Done::Read(_))) | (AnyCaller::Read(_), Ok(Done::Put(_))) => {}
        }
    }

    /// Returns one try on a circuit.
    ///
    /// A put that was lost may have arrived. It asks first what is missing: what is there is not sent twice.
    pub(super) fn attempt(
        &self,
        circuit: Arc<dyn Circuit>,
        counters: Arc<Counters>,
    ) -> impl Future<Output = Result<Done, ServiceError>> + Send + use<> {
        let request = self.request.clone();
        let asks_first = self.lost > 0;
        async move {
            match request {
                Request::Put(put) => {
                    if asks_first {
                        let question = Put {
                            bytes: Bytes::new(),
                            ..put.clone()
                        };
                        let reply = circuit.put(question).await?;
                        if !reply.missing.contains(&put.offset) {
                            return Ok(Done::Put(reply));
                        }
                        counters
                            .repeated_bytes
                            .fetch_add(put.bytes.len() as u64, Ordering::Relaxed);
                    }
                    circuit.put(put).await.map(Done::Put)
                }
                Request::Read(reads) => circuit.read(reads.as_ref().clone()).await.map(Done::Read),
            }
        }
    }
}
