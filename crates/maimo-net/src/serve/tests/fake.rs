//! A provider that answers at once, or when it is let to.

use core::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};
use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
};

use bytes::Bytes;
use maimo_core::{
    clock::Timestamp,
    custody::{PackClass, Refusal, Terms, Totals},
    id::RootHash,
    identity::{AuthPublicKey, AuthSecretKey, ClientPublicKey},
    invitation::InvitationToken,
    receipt::LedgerInstance,
    reference::ObjectRef,
    ticket::{Ticket, TicketId},
};

use super::{MIB, TOKEN};
use crate::{
    connect::{Provider, Welcome},
    service::{
        ChannelStatus, Put, PutReply, Read, Reply, ServiceError, Session, ShownHead, StatedAnswer,
        TicketUse, WhichHead,
    },
};

/// What the provider did.
#[derive(Default)]
pub(super) struct Log {
    pub(super) sessions: AtomicUsize,
    pub(super) puts: AtomicUsize,
    pub(super) audits: AtomicUsize,
}

/// A gate that calls named *slow* wait at.
#[derive(Default)]
pub(super) struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    pub(super) waiting: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let mut open = self.open.lock().unwrap();
        while !*open {
            open = self.opened.wait(open).unwrap();
        }
    }

    pub(super) fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.opened.notify_all();
    }

    pub(super) async fn until_waiting(&self, count: usize) {
        while self.waiting.load(Ordering::SeqCst) < count {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

pub(super) struct Fake {
    pub(super) key: Arc<AuthSecretKey>,
    pub(super) known: Mutex<HashMap<[u8; 32], Result<(), ServiceError>>>,
    pub(super) log: Arc<Log>,
    pub(super) gate: Arc<Gate>,
}

impl Provider for Fake {
    fn auth(&self) -> AuthPublicKey {
        self.key.public()
    }

    fn identity(&self) -> Arc<AuthSecretKey> {
        Arc::clone(&self.key)
    }

    fn session(&self, client: ClientPublicKey) -> Result<Arc<dyn Session>, ServiceError> {
        self.log.sessions.fetch_add(1, Ordering::SeqCst);
        let known = self.known.lock().unwrap();
        match known.get(client.as_bytes()) {
            None => Err(ServiceError::UnknownClient),
            Some(Err(error)) => Err(error.clone()),
            Some(Ok(())) => Ok(Arc::new(FakeSession {
                log: Arc::clone(&self.log),
                gate: Arc::clone(&self.gate),
            })),
        }
    }

    fn redeem(
        &self,
        client: ClientPublicKey,
        token: &InvitationToken,
    ) -> Result<Welcome, ServiceError> {
        if *token.as_bytes() != TOKEN {
            let detail = "it is none of this provider's".to_owned();
            return Err(ServiceError::InvitationRefused { detail });
        }
        let mut known = self.known.lock().unwrap();
        known.insert(*client.as_bytes(), Ok(()));
        Ok(Welcome {
            terms: Terms::new(5 * MIB, None, None),
            addresses: Some(Bytes::from_static(b"where")),
        })
    }

    fn audit_session(&self, ticket: Ticket) -> Result<Arc<dyn Session>, ServiceError> {
        if ticket.terms().provider != self.key.public() {
            let detail = "it is for another provider".to_owned();
            return Err(ServiceError::TicketRefused { detail });
        }
        Ok(Arc::new(FakeSession {
            log: Arc::clone(&self.log),
            gate: Arc::clone(&self.gate),
        }))
    }

    fn addresses(&self) -> Option<Bytes> {
        Some(Bytes::from_static(b"where"))
    }
}

struct FakeSession {
    log: Arc<Log>,
    gate: Arc<Gate>,
}

fn now<'a, T: Send + 'a>(value: Result<T, ServiceError>) -> Reply<'a, T> {
    Box::pin(async { value })
}

impl Session for FakeSession {
    fn status(&self) -> Reply<'_, ChannelStatus> {
        now(Ok(ChannelStatus {
            terms: Terms::new(5 * MIB, None, None),
            totals: Totals {
                live: 1,
                held: 2,
                reserved: 3,
            },
            root: RootHash([4; 32]),
            sequence: 5,
            instance: LedgerInstance([6; 16]),
            now: Timestamp(7),
        }))
    }

    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        self.log.puts.fetch_add(1, Ordering::SeqCst);
        assert_eq!(put.class, PackClass::Data);
        let missing = if put.bytes.is_empty() {
            vec![0, MIB]
        } else {
            vec![MIB]
        };
        now(Ok(PutReply { missing }))
    }

    fn put_node(&self, node: Bytes) -> Reply<'_, ()> {
        now(if &node[..] == b"node" {
            Ok(())
        } else {
            Err(ServiceError::WrongBytes)
        })
    }

    fn move_head(&self, head_move: Bytes) -> Reply<'_, Bytes> {
        assert!(head_move[..] != *b"panic", "as it should");
        now(match &head_move[..] {
            b"move" => Ok(Bytes::from_static(b"receipt")),
            _ => Err(Refusal::Sequence { expected: 9 }.into()),
        })
    }

    fn head(&self, which: WhichHead) -> Reply<'_, Option<ShownHead>> {
        now(Ok((which == WhichHead::Sequence(3)).then(|| ShownHead {
            head: Bytes::from_static(b"head"),
            ancestry: Bytes::from_static(b"ancestry"),
            commit: None,
            admitted: Timestamp(8),
        })))
    }

    fn prove(&self, sequence: u64) -> Reply<'_, Bytes> {
        now(Ok(Bytes::from(sequence.to_string())))
    }

    fn nodes(&self, nodes: Vec<ObjectRef>) -> Reply<'_, Vec<Bytes>> {
        let node = |node: &ObjectRef| Bytes::from(vec![9; usize::try_from(node.length).unwrap()]);
        now(Ok(nodes.iter().map(node).collect()))
    }

    fn read(&self, reads: Vec<Read>) -> Reply<'_, Vec<Bytes>> {
        self.gate.pass();
        let slice = |read: &Read| Bytes::from(vec![3; usize::try_from(read.pack.length).unwrap()]);
        now(Ok(reads.iter().map(slice).collect()))
    }

    fn audit(&self, _: Bytes) -> Reply<'_, Bytes> {
        self.log.audits.fetch_add(1, Ordering::SeqCst);
        now(Ok(Bytes::from_static(b"answer")))
    }

    fn audit_stated(&self, _: Bytes) -> Reply<'_, StatedAnswer> {
        self.log.audits.fetch_add(1, Ordering::SeqCst);
        now(Ok(StatedAnswer {
            statement: Bytes::from_static(b"statement"),
            answer: Bytes::from_static(b"answer"),
        }))
    }

    fn tickets(&self) -> Reply<'_, Vec<TicketUse>> {
        now(Ok(Vec::new()))
    }

    fn revoke_ticket(&self, _: TicketId, _: Timestamp) -> Reply<'_, ()> {
        now(Ok(()))
    }

    fn digest(&self, _: Bytes) -> Reply<'_, [u8; 32]> {
        now(Ok([5; 32]))
    }
}
