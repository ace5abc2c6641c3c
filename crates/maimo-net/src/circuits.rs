//! One session over several circuits: one circuit is slow, and circuits die.
//!
//! ```text
//!   put, read ----> bulk: one queue ----> 1 to 8 circuits, each its own (lane, growth)
//!   all else  ----> control ------------> a circuit of its own, so that a head never waits behind packs
//! ```
//!
//! Every call may be made again without harm; so what a dead circuit carried is made again on another, and a caller hears of it only when
//! the provider stays away. All work runs on the runtime: what a caller holds is a channel's end, which any thread may wait for.
//!
//! Whoever wants all circuits used keeps as many jobs outstanding as [`Pool`]'s appetite says.
//!
//! Invariant: every call ends in bounded time, with an answer of the provider or an error.

mod bulk;
mod circuit;
mod control;
mod growth;
mod job;
mod lane;
mod settings;
mod statistics;

use core::{future::Future, pin::pin};
use std::sync::Arc;

use bytes::Bytes;
use maimo_core::{clock::Timestamp, reference::ObjectRef, ticket::TicketId};
use tokio::{runtime::Handle, select, sync::oneshot};

use self::{
    bulk::Bulk,
    control::{Control, LONG, QUICK},
    job::Work,
};
pub use self::{
    circuit::{Circuit, Dial, Opening, Purpose},
    settings::Settings,
    statistics::{Counters, Statistics},
};
use crate::service::{
    Appetite, ChannelStatus, PUT_BYTES, Put, PutReply, Read, Reply, ServiceError, Session,
    ShownHead, StatedAnswer, TicketUse, WhichHead,
};

/// A session with one provider over several circuits. Dropped, it closes them.
pub struct Pool {
    bulk: Bulk,
    control: Arc<Control>,
    runtime: Handle,
    appetite: Appetite,
}

impl Pool {
    /// Makes a session whose circuits are opened by `dial`, each when it is first needed.
    pub fn new(
        dial: Arc<dyn Dial>,
        settings: Settings,
        counters: &Arc<Counters>,
        runtime: Handle,
    ) -> Self {
        let control = Control::new(Arc::clone(&dial), settings, Arc::clone(counters));
        let bulk = Bulk::start(dial, settings, Arc::clone(counters), &runtime);
        Self {
            bulk,
            control: Arc::new(control),
            runtime,
            appetite: appetite(&settings),
        }
    }

    /// Opens the control circuit, to know that the provider is there and whose key it has.
    ///
    /// # Errors
    ///
    /// What keeps it from opening.
    pub fn reach(&self) -> Reply<'static, ()> {
        let control = Arc::clone(&self.control);
        spawned(&self.runtime, async move { control.reach().await })
    }

    /// Begins to open the control circuit, for the first call to find it open or on its way.
    pub fn reach_ahead(&self) {
        let control = Arc::downgrade(&self.control);
        self.runtime.spawn(async move {
            // The first call learns what keeps it from opening.
            if let Some(control) = control.upgrade() {
                let _ = control.reach().await;
            }
        });
    }

    /// Makes a call on the control circuit.
    fn ask<T, C>(&self, patience: control::Patience, call: C) -> Reply<'static, T>
    where
        T: Send + 'static,
        C: Fn(Arc<dyn Circuit>) -> Reply<'static, T> + Send + Sync + 'static,
    {
        let control = Arc::clone(&self.control);
        spawned(
            &self.runtime,
            async move { control.call(patience, call).await },
        )
    }
}

/// Returns what keeps all circuits busy: on each of them what it carries, and as much again in the queue.
///
/// Reads are halves of mebibytes, so that a circuit that dies takes one with it, not two.
fn appetite(settings: &Settings) -> Appetite {
    Appetite {
        calls: 2 * lane::JOBS * settings.circuits_used(),
        bytes_per_call: PUT_BYTES / lane::JOBS as u64,
        is_remote: true,
    }
}

/// Runs work on the runtime; who drops the reply ends the work.
pub(crate) fn spawned<T: Send + 'static>(
    runtime: &Handle,
    work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Reply<'static, T> {
    let (mut caller, reply) = oneshot::channel();
    runtime.spawn(async move {
        let mut work = pin!(work);
        select! {
            // Nobody is there to hear that nobody heard.
            answer = &mut work => drop(caller.send(answer)),
            () = caller.closed() => {}
        }
    });
    awaited(reply)
}

/// Waits for what comes through a channel.
fn awaited<T: Send + 'static>(
    reply: oneshot::Receiver<Result<T, ServiceError>>,
) -> Reply<'static, T> {
    Box::pin(async move {
        reply.await.unwrap_or_else(|_| {
            Err(ServiceError::Offline {
                detail: "this node is shutting down".to_owned(),
            })
        })
    })
}

impl Session for Pool {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        self.ask(QUICK, |circuit| {
            Box::pin(async move { circuit.status().await })
        })
    }

    /// A question for what is missing is control's: it carries nothing.
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        if put.bytes.is_empty() {
            return self.ask(QUICK, move |circuit| {
                let put = put.clone();
                Box::pin(async move { circuit.put(put).await })
            });
        }
        let (caller, reply) = oneshot::channel();
        self.bulk.submit(Work::Put(put, caller));
        awaited(reply)
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        self.ask(QUICK, move |circuit| {
            let node = node.clone();
            Box::pin(async move { circuit.put_node(node).await })
        })
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        self.ask(QUICK, move |circuit| {
            let head_move = head_move.clone();
            Box::pin(async move { circuit.move_head(head_move).await })
        })
    }

    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        self.ask(QUICK, move |circuit| {
            Box::pin(async move { circuit.head(which).await })
        })
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        self.ask(QUICK, move |circuit| {
            Box::pin(async move { circuit.prove(sequence).await })
        })
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        self.ask(QUICK, move |circuit| {
            let nodes = nodes.clone();
            Box::pin(async move { circuit.nodes(nodes).await })
        })
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        let (caller, reply) = oneshot::channel();
        self.bulk.submit(Work::Read(reads, caller));
        awaited(reply)
    }

    fn addresses(&self) -> Reply<'_, Option<Bytes>> {
        self.ask(QUICK, |circuit| {
            Box::pin(async move { circuit.addresses().await })
        })
    }

    fn appetite(&self) -> Appetite {
        self.appetite
    }

    fn expect_much(&self) {
        self.bulk.expect_much();
    }

    fn audit(&self, challenge: Bytes) -> Reply<'_, Bytes> {
        self.ask(LONG, move |circuit| {
            let challenge = challenge.clone();
            Box::pin(async move { circuit.audit(challenge).await })
        })
    }

    fn audit_stated(&self, challenge: Bytes) -> Reply<'_, StatedAnswer> {
        self.ask(LONG, move |circuit| {
            let challenge = challenge.clone();
            Box::pin(async move { circuit.audit_stated(challenge).await })
        })
    }

    fn tickets(&self) -> Reply<'_, Vec<TicketUse>> {
        self.ask(QUICK, |circuit| {
            Box::pin(async move { circuit.tickets().await })
        })
    }

    fn revoke_ticket(&self, ticket: TicketId, expires: Timestamp) -> Reply<'_, ()> {
        self.ask(QUICK, move |circuit| {
            Box::pin(async move { circuit.revoke_ticket(ticket, expires).await })
        })
    }

    fn digest(&self, request: Bytes) -> Reply<'_, [u8; 32]> {
        self.ask(LONG, move |circuit| {
            let request = request.clone();
            Box::pin(async move { circuit.digest(request).await })
        })
    }
}

/// Returns whether an error is the provider's last word: trying again, or anything else, is of no use.
const fn ends_everything(error: &ServiceError) -> bool {
    matches!(
        error,
        ServiceError::UnknownClient
            | ServiceError::Revoked
            | ServiceError::TicketRefused { .. }
            | ServiceError::OtherProvider
            | ServiceError::NotAllowed { .. }
    )
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
