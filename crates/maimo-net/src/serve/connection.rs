//! One connection: who is at its other end, and what may be done for them.
//!
//! ```text
//!   key proven --> stranger --redeem, as the first call--> known
//!            |        |------ a ticket, as the first call--> auditor: what the ticket gives, within what its channel's auditors may take
//!            |        '-- anything else, or refused --> sent away
//!            |--> known: each call within the client's budgets
//!            '--> sent away: revoked (it may redeem, as a stranger may), or too many connections: told why, unread, and closed
//! ```

use core::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use maimo_core::{codec::ParseError, identity::ClientPublicKey, ticket::Ticket};
use tokio::{
    sync::{OwnedSemaphorePermit, TryAcquireError},
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use zeroize::Zeroize as _;

use crate::{
    connect::Welcome,
    http::{
        Share,
        body::{BodyError, Parts},
        server::{Answer, Incoming},
    },
    serve::{
        Shared,
        clients::{Client, Who},
        counters::count,
        route::{Job, status_of},
        strangers::Seat,
        workers::{Panicked, Urgency},
    },
    service::{ServiceError, Session},
    wire::{self, Call},
};

/// How long the body of a stranger's call may be, in bytes.
pub const STRANGER_BYTES_MAX: u64 = 4 * 1024;
/// Within how long the first call has to be there; of a stranger, all of it.
pub const FIRST_CALL: Duration = Duration::from_secs(10);

/// How long a call waits for memory before it has sent its body, and once it has.
const WAIT_FOR_REQUEST: Duration = Duration::from_secs(5);
const WAIT_FOR_ANSWER: Duration = Duration::from_secs(30);
/// When to come again, said to whoever finds no memory, too many calls, or too many connections.
const PAUSE: Duration = Duration::from_secs(2);
const CONNECTION_PAUSE: Duration = Duration::from_secs(10);
/// Requests below this many bytes are not worth counting.
const SMALL_BYTES: u64 = 4 * 1024;

/// One connection of one client.
pub(crate) struct Connection {
    shared: Arc<Shared>,
    key: ClientPublicKey,
    standing: Mutex<Standing>,
    seat: Mutex<Option<Seat>>,
    was_called: AtomicBool,
    pub(crate) first_call: Instant,
    pub(crate) is_known: Arc<AtomicBool>,
    pub(crate) dismiss: CancellationToken,
}

#[derive(Clone)]
enum Standing {
    Stranger,
    Known(Arc<Known>),
    Away(ServiceError),
}

struct Known {
    session: Arc<dyn Session>,
    client: Arc<Client>,
    is_auditor: bool,
    _connection: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// What a call has taken of its client's budgets, until its answer is sent.
struct Held {
    _call: OwnedSemaphorePermit,
    bytes: Vec<Share>,
}

impl Connection {
    /// Asks the provider who it is whose key was proven.
    pub(crate) async fn look_up(shared: Arc<Shared>, key: ClientPublicKey, seat: Seat) -> Self {
        let this = Self {
            key,
            standing: Mutex::new(Standing::Stranger),
            seat: Mutex::new(Some(seat)),
            was_called: AtomicBool::new(false),
            first_call: Instant::now() + FIRST_CALL,
            is_known: Arc::default(),
            dismiss: CancellationToken::new(),
            shared,
        };
        this.open_session().await;
        this
    }

    /// Returns what the client is called in logs; nothing for a stranger.
    pub(crate) fn client_number(&self) -> Option<usize> {
        match self.standing() {
            Standing::Known(known) => Some(known.client.number),
            _ => None,
        }
    }

    /// Answers a call.
    pub(crate) async fn handle(self: Arc<Self>, incoming: Incoming) {
        count(&self.shared.counting.calls);
        let is_first = !self.was_called.swap(true, Ordering::Relaxed);
        let call = incoming.path().and_then(Call::of_path);
        if let Some(call) = call {
            count(&self.shared.counting.called[call as usize]);
        }
        match (self.standing(), call) {
            // Whose access was revoked may have been invited again.
            (Standing::Stranger | Standing::Away(ServiceError::Revoked), Some(Call::Redeem))
                if is_first =>
            {
                let until = self.first_call;
                // A stranger who takes longer is no longer listened to.
                if timeout_at(until, self.redeem(incoming)).await.is_err() {
                    self.dismiss.cancel();
                }
            }
            (Standing::Stranger, Some(Call::Present)) if is_first => {
                let until = self.first_call;
                if timeout_at(until, self.present(incoming)).await.is_err() {
                    self.dismiss.cancel();
                }
            }
            (Standing::Away(error), _) => {
                self.send_away(incoming.unread(), &error).await;
            }
            (Standing::Stranger, _) => {
                let error = ServiceError::UnknownClient;
                self.send_away(incoming.unread(), &error).await;
            }
            (Standing::Known(known), Some(call))
                if call == Call::Present || (known.is_auditor && !call.is_for_auditors()) =>
            {
                let error = ServiceError::not_given();
                self.refuse(incoming.unread(), &error).await;
            }
            (Standing::Known(_), Some(Call::Redeem)) => self.redeem(incoming).await,
            (Standing::Known(known), Some(call)) => self.call(&known, call, incoming).await,
            (Standing::Known(_), None) => {
                let error = bad_request("there is no such call");
                self.refuse(incoming.unread(), &error).await;
            }
        }
    }

    /// Does a call for a known client, within what it may take.
    async fn call(&self, known: &Known, call: Call, incoming: Incoming) {
        let length = match announced(&incoming, call.request_bytes_max() as u64) {
            Ok(length) => length,
            Err(error) => return self.refuse(incoming.unread(), &error).await,
        };
        let client = &known.client;
        let Ok(permit) = Arc::clone(&client.calls).try_acquire_owned() else {
            let error = ServiceError::Busy(PAUSE);
            return self.refuse(incoming.unread(), &error).await;
        };
        let mut held = Held {
            _call: permit,
            bytes: Vec::new(),
        };
        let room = if length < SMALL_BYTES { 0 } else { length };
        if let Err(error) = self.hold(&mut held, client, room, WAIT_FOR_REQUEST).await {
            return self.refuse(incoming.unread(), &error).await;
        }
        let (body, answer) = incoming.receive(length).await;
        // A body that did not come in whole breaks the call off: there is nobody to tell.
        let Ok(body) = body else { return };
        let job = match Job::parse(call, &body) {
            Ok(job) => job,
            Err(error) => return self.refuse(answer, &cannot_read(&error)).await,
        };
        drop(body);
        let (slices, digested) = job.work();
        let allowed = client
            .slices
            .take(slices)
            .and_then(|()| client.digested.take(digested));
        if let Err(pause) = allowed {
            return self.refuse(answer, &ServiceError::Busy(pause)).await;
        }
        let room = job.answer_bytes();
        if let Err(error) = self.hold(&mut held, client, room, WAIT_FOR_ANSWER).await {
            return self.refuse(answer, &error).await;
        }
        let session = Arc::clone(&known.session);
        let provider = Arc::clone(&self.shared.provider);
        let done = self
            .shared
            .resources
            .workers
            .run(job.urgency(), Some(&client.bulk_threads), move || {
                // What it takes goes with the work: that goes on even if the client is gone.
                (job.run(&*session, &*provider), held)
            })
            .await;
        match done {
            Ok((Ok(body), held)) => {
                self.answered(call);
                let sent = answer.send(http::StatusCode::OK, body).await;
                drop(held);
                log_unsent(&sent);
            }
            Ok((Err(error), _)) => self.refuse(answer, &error).await,
            Err(Panicked) => self.refuse(answer, &self.panicked()).await,
        }
    }

    /// Takes up an invitation; a stranger who had one is known from then on.
    async fn redeem(&self, incoming: Incoming) {
        let was_known = matches!(self.standing(), Standing::Known(_));
        let (result, answer) = self.try_redeem(incoming).await;
        let Some(answer) = answer else { return };
        match result {
            Ok(welcome) => {
                if !was_known {
                    self.open_session().await;
                }
                self.answered(Call::Redeem);
                log_unsent(
                    &answer
                        .send(http::StatusCode::OK, welcome.encode().into())
                        .await,
                );
            }
            Err(error) if was_known => self.refuse(answer, &error).await,
            Err(error) => self.send_away(answer, &error).await,
        }
    }

    async fn try_redeem(
        &self,
        incoming: Incoming,
    ) -> (Result<Welcome, ServiceError>, Option<Answer>) {
        let (body, answer) = match receive_first(incoming, Call::Redeem).await {
            Ok(received) => received,
            Err((error, answer)) => return (Err(error), answer),
        };
        let token = wire::parse_token(&body);
        if let Ok(mut body) = body.try_into_mut() {
            body[..].zeroize();
        }
        let token = match token {
            Ok(token) => token,
            Err(error) => return (Err(cannot_read(&error)), Some(answer)),
        };
        let (provider, key) = (Arc::clone(&self.shared.provider), self.key);
        let work = move || provider.redeem(key, &token);
        let workers = &self.shared.resources.workers;
        let result = match workers.run(Urgency::Control, None, work).await {
            Ok(result) => result,
            Err(Panicked) => Err(self.panicked()),
        };
        (result, Some(answer))
    }

    /// Takes a ticket: who shows a good one may audit from then on.
    async fn present(&self, incoming: Incoming) {
        let (ticket, answer) = match receive_first(incoming, Call::Present).await {
            Ok(received) => received,
            Err((error, Some(answer))) => return self.send_away(answer, &error).await,
            Err((_, None)) => return,
        };
        let provider = Arc::clone(&self.shared.provider);
        let work = move || {
            let ticket = Ticket::parse(&ticket).map_err(|error| ServiceError::TicketRefused {
                detail: error.to_string(),
            })?;
            let channel = ticket.channel();
            Ok((channel, provider.audit_session(ticket)?))
        };
        let workers = &self.shared.resources.workers;
        let opened = match workers.run(Urgency::Control, None, work).await {
            Ok(opened) => opened,
            Err(Panicked) => Err(self.panicked()),
        };
        let known = opened.and_then(|(channel, session)| {
            self.known(session, Who::Auditors(channel))
                .map_err(|_| ServiceError::Busy(CONNECTION_PAUSE))
        });
        match known {
            Ok(standing) => {
                self.stand(standing);
                self.answered(Call::Present);
                log_unsent(&answer.send(http::StatusCode::OK, Parts::default()).await);
            }
            Err(error) => self.send_away(answer, &error).await,
        }
    }

    /// Finds out how the client stands.
    async fn open_session(&self) {
        let (provider, key) = (Arc::clone(&self.shared.provider), self.key);
        let work = move || provider.session(key);
        let workers = &self.shared.resources.workers;
        let standing = match workers.run(Urgency::Control, None, work).await {
            Ok(Ok(session)) => self
                .known(session, Who::client(&key))
                .unwrap_or(Standing::Away(ServiceError::Busy(CONNECTION_PAUSE))),
            Ok(Err(ServiceError::UnknownClient)) => Standing::Stranger,
            Ok(Err(error)) => Standing::Away(error),
            Err(Panicked) => Standing::Away(self.panicked()),
        };
        self.stand(standing);
    }

    /// Takes up a standing; who is known gives up its seat among the strangers.
    fn stand(&self, standing: Standing) {
        if let Standing::Known(_) = standing {
            self.is_known.store(true, Ordering::Relaxed);
            drop(
                self.seat
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
        }
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    fn known(&self, session: Arc<dyn Session>, who: Who) -> Result<Standing, TryAcquireError> {
        let resources = &self.shared.resources;
        let client = resources.clients.of(who);
        let own = Arc::clone(&client.connections).try_acquire_owned()?;
        let all = Arc::clone(&resources.connections).try_acquire_owned()?;
        Ok(Standing::Known(Arc::new(Known {
            session,
            client,
            is_auditor: matches!(who, Who::Auditors(_)),
            _connection: (own, all),
        })))
    }

    fn standing(&self) -> Standing {
        // It is replaced as a whole.
        self.standing
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes so many bytes of memory, of the client's share and of all there is.
    async fn hold(
        &self,
        held: &mut Held,
        client: &Client,
        bytes: u64,
        wait: Duration,
    ) -> Result<(), ServiceError> {
        if bytes == 0 {
            return Ok(());
        }
        let resources = &self.shared.resources;
        let limits = &resources.limits;
        // What is longer than a budget is let in alone.
        let (own, all) = (bytes.min(client.bytes_max), bytes.min(limits.bytes));
        let take = async {
            let own = client.bytes.take(own).await;
            (own, resources.bytes.take(all).await)
        };
        let (own, all) = timeout(wait, take)
            .await
            .map_err(|_| ServiceError::Busy(PAUSE))?;
        held.bytes.extend([own, all]);
        Ok(())
    }

    fn answered(&self, call: Call) {
        count(&self.shared.counting.answered[call as usize]);
    }

    /// Tells why, then closes the connection.
    async fn send_away(&self, answer: Answer, error: &ServiceError) {
        if !self.dismiss.is_cancelled() {
            count(&self.shared.counting.sent_away);
        }
        self.refuse(answer, error).await;
        self.dismiss.cancel();
    }

    async fn refuse(&self, answer: Answer, error: &ServiceError) {
        count(&self.shared.counting.refused);
        if let ServiceError::Busy(_) = error {
            count(&self.shared.counting.busy);
        }
        let body = Parts::from(error.encode());
        log_unsent(&answer.send(status_of(error), body).await);
    }

    fn panicked(&self) -> ServiceError {
        count(&self.shared.counting.panicked);
        ServiceError::Unavailable {
            detail: "its program failed at this call".to_owned(),
        }
    }
}

/// Reads the body of a stranger's call.
async fn receive_first(
    incoming: Incoming,
    call: Call,
) -> Result<(Bytes, Answer), (ServiceError, Option<Answer>)> {
    let max = (call.request_bytes_max() as u64).min(STRANGER_BYTES_MAX);
    let length = match announced(&incoming, max) {
        Ok(length) => length,
        Err(error) => return Err((error, Some(incoming.unread()))),
    };
    let (body, answer) = incoming.receive(length).await;
    match body {
        Ok(body) => Ok((body, answer)),
        Err(_) => Err((bad_request("it breaks off"), None)),
    }
}

fn announced(incoming: &Incoming, max: u64) -> Result<u64, ServiceError> {
    incoming.announced(max).map_err(|error| match error {
        BodyError::TooLong => bad_request("it is longer than this call may be"),
        _ => bad_request("it does not say how long it is"),
    })
}

fn cannot_read(error: &ParseError) -> ServiceError {
    bad_request(&error.to_string())
}

fn bad_request(detail: &str) -> ServiceError {
    ServiceError::BadRequest {
        detail: detail.to_owned(),
    }
}

/// An answer that nobody takes is a client's affair.
fn log_unsent(sent: &Result<(), BodyError>) {
    if let Err(error) = sent {
        let why = match error {
            BodyError::TooSlow => "too slow",
            _ => "broken off",
        };
        debug!(why, "an answer was not taken");
    }
}
