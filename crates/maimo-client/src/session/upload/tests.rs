use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use futures::channel::oneshot;
use maimo_core::{id::RootHash, identity::AuthSecretKey};
use maimo_net::service::{Appetite, Reply, Session};
use maimo_vault::keys::MasterSecret;

use super::*;
use crate::keys::channel_keys;

const RANGES: u64 = 6;
const PACK: ObjectRef = ObjectRef {
    root: RootHash([7; 32]),
    length: (RANGES - 1) * PUT_BYTES + 4096,
};

/// A provider that answers once `together` puts are waiting for it.
#[derive(Default)]
struct Slow {
    together: usize,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    /// What was sent, in order: the question is an offset of none.
    sent: Mutex<Vec<Option<u64>>>,
    held: Arc<Mutex<BTreeSet<u64>>>,
    busy: Mutex<u32>,
    never_held: bool,
}

impl Session for Slow {
    fn put(&self, put: Put) -> Reply<'_, PutReply> {
        let range = (!put.bytes.is_empty()).then_some(put.offset);
        self.sent.lock().unwrap().push(range);
        let (told, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap();
        waiting.push(told);
        if waiting.len() >= self.together || range.is_none() {
            for told in waiting.drain(..) {
                told.send(()).unwrap();
            }
        }
        drop(waiting);
        Box::pin(async move {
            answer.await.unwrap();
            let mut busy = self.busy.lock().unwrap();
            if *busy > 0 {
                *busy -= 1;
                return Err(ServiceError::Busy(Duration::ZERO));
            }
            let mut held = self.held.lock().unwrap();
            held.extend(range);
            let missing = (0..RANGES).map(|range| range * PUT_BYTES);
            let missing = missing.filter(|range| self.never_held || !held.contains(range));
            let missing = missing.collect();
            Ok(PutReply { missing })
        })
    }

    fn appetite(&self) -> Appetite {
        Appetite {
            calls: 4,
            ..Appetite::NETWORK
        }
    }

    maimo_net::unasked!(
        status, put_node, move_head, head, prove, nodes, read, audit, digest
    );
}

fn channel(session: &Arc<Slow>) -> OpenChannel {
    let auth = AuthSecretKey::from_seed(&[1; 32]).public();
    let (id, keys) = channel_keys(&MasterSecret::from_entropy(&[7; 32]), &auth);
    OpenChannel {
        id,
        name: "test".to_owned(),
        addresses: Vec::new(),
        auth,
        keys,
        session: Arc::clone(session) as Arc<dyn Session>,
    }
}

fn bytes() -> Bytes {
    vec![1; usize::try_from(PACK.length).unwrap()].into()
}

fn send(session: &Arc<Slow>, upload: Upload) -> Result<Option<ObjectRef>, ClientError> {
    let channel = channel(session);
    let mut uploads = Uploads::new(&channel);
    uploads.add(upload, bytes());
    uploads.drive()
}

#[test]
fn a_pack_that_comes_while_an_answer_is_awaited_leaves_at_once() {
    let slow = Arc::new(Slow {
        together: usize::MAX,
        ..Slow::default()
    });
    let channel = channel(&slow);
    let mut uploads = Uploads::new(&channel);
    let short = ObjectRef {
        length: 4096,
        ..PACK
    };
    uploads.add(Upload::of_new(PackKind::Data, short), bytes());
    assert!(uploads.send().unwrap());
    let happened = uploads.step_or(core::future::ready("another")).unwrap();
    assert!(matches!(happened, Either::Right("another")));
    uploads.add(Upload::of_new(PackKind::Data, PACK), bytes());
    assert!(!uploads.send().unwrap());
    assert_eq!(slow.sent.lock().unwrap().len(), 4);
}

#[test]
fn a_new_pack_is_sent_in_many_calls_at_a_time_and_nothing_is_asked() {
    // It would wait for ever if fewer than two were under way.
    let slow = Arc::new(Slow {
        together: 2,
        ..Slow::default()
    });
    let held = send(&slow, Upload::of_new(PackKind::Data, PACK)).unwrap();
    assert_eq!(held, Some(PACK));
    let all: Vec<_> = (0..RANGES).map(|range| Some(range * PUT_BYTES)).collect();
    assert_eq!(*slow.sent.lock().unwrap(), all);
}

#[test]
fn of_a_pack_that_is_there_in_part_only_the_rest_is_sent() {
    let slow = Arc::new(Slow::default());
    slow.held
        .lock()
        .unwrap()
        .extend([0, 2 * PUT_BYTES, 3 * PUT_BYTES]);
    send(&slow, Upload::of_rest(PackKind::Data, PACK)).unwrap();
    let sent = [
        None,
        Some(PUT_BYTES),
        Some(4 * PUT_BYTES),
        Some(5 * PUT_BYTES),
    ];
    assert_eq!(*slow.sent.lock().unwrap(), sent);
    // One that is there as a whole costs the question.
    slow.sent.lock().unwrap().clear();
    send(&slow, Upload::of_rest(PackKind::Data, PACK)).unwrap();
    assert_eq!(*slow.sent.lock().unwrap(), [None]);
}

#[test]
fn a_busy_provider_is_asked_again_and_an_insatiable_one_is_not_waited_for() {
    let slow = Arc::new(Slow {
        busy: Mutex::new(3),
        ..Slow::default()
    });
    assert!(send(&slow, Upload::of_new(PackKind::Data, PACK)).is_ok());
    let slow = Arc::new(Slow {
        busy: Mutex::new(u32::MAX),
        ..Slow::default()
    });
    assert!(send(&slow, Upload::of_new(PackKind::Data, PACK)).is_err());
    let slow = Arc::new(Slow {
        never_held: true,
        ..Slow::default()
    });
    let error = send(&slow, Upload::of_new(PackKind::Data, PACK)).unwrap_err();
    assert!(matches!(error, ClientError::WrongBytes { .. }));
}
