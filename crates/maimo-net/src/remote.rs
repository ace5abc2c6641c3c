//! A provider at the other end of one connection: the calls of [`crate::service::Session`] as requests and responses.
//!
//! It opens no stream and proves nobody's key: both was done for the stream it is given. It tries nothing twice and never connects again: a
//! pool of connections does.
//!
//! Invariant: what a provider sends is taken in up to the longest answer that *this* request can have, and parsed to its last byte.

use core::{fmt, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use maimo_core::{
    audit::{Challenge, Stratum},
    clock::Timestamp,
    codec::ParseError,
    digest::DigestRequest,
    invitation::InvitationToken,
    reference::ObjectRef,
    ticket::TicketId,
};

use crate::{
    connect::Welcome,
    http::{
        Budget, REFUSAL_BYTES_MAX,
        body::Parts,
        client::{Begun, CallError, ClientConnection, Outgoing},
    },
    service::{
        ChannelStatus, Put, PutReply, Read, ServiceError, ShownHead, StatedAnswer, TicketUse,
        WhichHead,
    },
    transport::BoxedStream,
    wire::{self, Call, ERROR_BYTES_MAX},
};

const _: () = assert!(ERROR_BYTES_MAX as u64 <= REFUSAL_BYTES_MAX);

/// How long a provider may take to answer a call once it has all of it: a disk that wakes up, other clients before this one.
pub const PATIENCE: Duration = Duration::from_mins(3);
/// How many bytes a second a provider reads at least for a digest; slower ones are not waited for.
pub const DIGEST_BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// How many positions of an audit it looks up a second at least.
pub const SLICES_PER_SECOND: u32 = 20;
/// How long the answer to an audit is likely to be, in bytes for each position.
const AUDIT_BYTES_LIKELY: u64 = 7 * 1024;

/// A connection to a provider. Clones share it; it is closed once all of them and all calls under way are gone.
#[derive(Clone)]
pub struct Connection(ClientConnection);

/// How many bytes a connection has carried, below TLS's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// A put whose bytes have left; its answer is still to come.
pub struct BegunPut {
    begun: Begun,
    pack_bytes: u64,
}

impl Connection {
    /// Opens a connection on a stream that leads to the provider and to nobody else, its windows under a budget. Nothing is waited for.
    ///
    /// # Errors
    ///
    /// [`ServiceError::Offline`] if the stream takes nothing.
    ///
    /// # Panics
    ///
    /// Called from outside of a tokio runtime.
    pub async fn open(stream: BoxedStream, budget: &Budget) -> Result<Self, ServiceError> {
        let connection = ClientConnection::open(stream, budget.clone()).await?;
        Ok(Self(connection))
    }

    /// Returns why the connection ended, if it did.
    pub fn ended(&self) -> Option<ServiceError> {
        self.0.ended().map(ServiceError::from)
    }

    /// Waits until the connection ends; returns why.
    pub async fn until_ended(&self) -> ServiceError {
        self.0.until_ended().await.into()
    }

    /// Returns what the connection has carried so far.
    pub fn carried(&self) -> Carried {
        let traffic = self.0.traffic();
        Carried {
            sent: traffic.sent(),
            received: traffic.received(),
        }
    }

    /// Takes up an invitation; on the connection of a client that the provider does not know it has to be the first call.
    pub async fn redeem(&self, token: &InvitationToken) -> Result<Welcome, ServiceError> {
        let body = wire::encode_token(token).to_vec();
        parsed(
            Call::Redeem,
            &self.call(Call::Redeem, body).await?,
            Welcome::parse,
        )
    }

    /// See [`crate::service::Session::addresses`].
    pub async fn addresses(&self) -> Result<Option<Bytes>, ServiceError> {
        let body = self.call(Call::Addresses, Bytes::new()).await?;
        parsed(Call::Addresses, &body, wire::parse_addresses)
    }

    /// See [`crate::service::Session::status`].
    pub async fn status(&self) -> Result<ChannelStatus, ServiceError> {
        let body = self.call(Call::Status, Bytes::new()).await?;
        parsed(Call::Status, &body, |body| ChannelStatus::parse(body))
    }

    /// See [`crate::service::Session::put`].
    pub async fn put(&self, put: Put) -> Result<PutReply, ServiceError> {
        self.begin_put(put).await?.reply().await
    }

    /// Sends a put; returns once its bytes have left, all but a few.
    pub async fn begin_put(&self, put: Put) -> Result<BegunPut, ServiceError> {
        let pack_bytes = put.pack.length;
        let body = vec![Bytes::from(put.head().encode()), put.bytes];
        let begun = self.0.begin(outgoing(Call::Put, body)).await?;
        Ok(BegunPut { begun, pack_bytes })
    }

    /// See [`crate::service::Session::put_node`].
    pub async fn put_node(&self, node: Bytes) -> Result<(), ServiceError> {
        self.call(Call::PutNode, node).await?;
        Ok(())
    }

    /// See [`crate::service::Session::move_head`].
    pub async fn move_head(&self, head_move: Bytes) -> Result<Bytes, ServiceError> {
        self.call(Call::MoveHead, head_move).await
    }

    /// See [`crate::service::Session::head`].
    pub async fn head(&self, which: WhichHead) -> Result<Option<ShownHead>, ServiceError> {
        let body = self.call(Call::Head, which.encode()).await?;
        parsed(Call::Head, &body, wire::parse_shown)
    }

    /// See [`crate::service::Session::prove`].
    pub async fn prove(&self, sequence: u64) -> Result<Bytes, ServiceError> {
        self.call(Call::Prove, wire::encode_sequence(sequence))
            .await
    }

    /// See [`crate::service::Session::nodes`].
    pub async fn nodes(&self, nodes: Vec<ObjectRef>) -> Result<Vec<Bytes>, ServiceError> {
        let mut call = outgoing(Call::Nodes, wire::encode_nodes(&nodes));
        let longest = wire::nodes_bytes_max(&nodes);
        call.answer_bytes_max = call.answer_bytes_max.min(longest);
        call.answer_bytes_likely = longest;
        let body = self.finish(call).await?;
        let maxima = nodes.iter().map(|node| node.length);
        parsed(Call::Nodes, &body, |body| wire::parse_parts(body, maxima))
    }

    /// See [`crate::service::Session::read`].
    pub async fn read(&self, reads: Vec<Read>) -> Result<Vec<Bytes>, ServiceError> {
        let mut call = outgoing(Call::Read, wire::encode_reads(&reads));
        let longest = wire::slice_bytes_max(&reads);
        call.answer_bytes_max = call.answer_bytes_max.min(longest);
        call.answer_bytes_likely = longest;
        let body = self.finish(call).await?;
        parsed(Call::Read, &body, |body| wire::parse_slices(body, &reads))
    }

    /// See [`crate::service::Session::audit`].
    pub async fn audit(&self, challenge: Bytes) -> Result<Bytes, ServiceError> {
        let call = audit_call(Call::Audit, challenge, wire::audit_bytes_max)?;
        self.finish(call).await
    }

    /// Shows a ticket, encoded; it has to be the first call. What may be asked on the connection from then on is what the ticket gives.
    pub async fn present(&self, ticket: Bytes) -> Result<(), ServiceError> {
        self.call(Call::Present, ticket).await?;
        Ok(())
    }

    /// See [`crate::service::Session::audit_stated`].
    pub async fn audit_stated(&self, challenge: Bytes) -> Result<StatedAnswer, ServiceError> {
        let call = audit_call(Call::AuditStated, challenge, wire::stated_bytes_max)?;
        let body = self.finish(call).await?;
        parsed(Call::AuditStated, &body, wire::parse_stated)
    }

    /// See [`crate::service::Session::tickets`].
    pub async fn tickets(&self) -> Result<Vec<TicketUse>, ServiceError> {
        let body = self.call(Call::Tickets, Bytes::new()).await?;
        parsed(Call::Tickets, &body, |body| wire::parse_tickets(body))
    }

    /// See [`crate::service::Session::revoke_ticket`].
    pub async fn revoke_ticket(
        &self,
        ticket: TicketId,
        expires: Timestamp,
    ) -> Result<(), ServiceError> {
        let body = wire::encode_revocation(ticket, expires);
        self.call(Call::RevokeTicket, body).await?;
        Ok(())
    }

    /// See [`crate::service::Session::digest`].
    pub async fn digest(&self, request: Bytes) -> Result<[u8; 32], ServiceError> {
        let bytes = DigestRequest::parse(&request)
            .map_err(|error| not_a_request(&error))?
            .total_bytes();
        let mut call = outgoing(Call::Digest, request);
        call.patience += Duration::from_secs(bytes / DIGEST_BYTES_PER_SECOND);
        let body = self.finish(call).await?;
        let digest = <[u8; 32]>::try_from(&body[..]);
        digest.map_err(|_| misbehaved(Call::Digest, "it is not 32 bytes long"))
    }

    async fn call(&self, call: Call, body: impl Into<Parts>) -> Result<Bytes, ServiceError> {
        self.finish(outgoing(call, body)).await
    }

    async fn finish(&self, call: Outgoing) -> Result<Bytes, ServiceError> {
        answer(self.0.begin(call).await?).await
    }
}

impl BegunPut {
    /// Waits for the answer.
    pub async fn reply(self) -> Result<PutReply, ServiceError> {
        let body = answer(self.begun).await?;
        parsed(Call::Put, &body, |body| {
            PutReply::parse(body, self.pack_bytes)
        })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl fmt::Debug for BegunPut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BegunPut").finish_non_exhaustive()
    }
}

impl From<CallError> for ServiceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Lost(detail) => Self::Offline { detail },
            CallError::Misbehaved(detail) => Self::Misbehaved { detail },
        }
    }
}

fn outgoing(call: Call, body: impl Into<Parts>) -> Outgoing {
    Outgoing {
        path: call.path(),
        body: body.into(),
        answer_bytes_max: call.response_bytes_max() as u64,
        answer_bytes_likely: 0,
        patience: PATIENCE,
    }
}

/// Returns the call of an audit, whose answer is awaited as long as its positions take.
fn audit_call(
    call: Call,
    challenge: Bytes,
    bytes_max: impl Fn(usize) -> usize,
) -> Result<Outgoing, ServiceError> {
    let parsed = Challenge::parse(&challenge).map_err(|error| not_a_request(&error))?;
    let positions: usize = Stratum::ALL
        .iter()
        .map(|stratum| parsed.positions(*stratum).len())
        .sum();
    let mut call = outgoing(call, challenge);
    let count = u32::try_from(positions).unwrap_or(u32::MAX);
    call.answer_bytes_max = call.answer_bytes_max.min(bytes_max(positions) as u64);
    call.answer_bytes_likely = u64::from(count) * AUDIT_BYTES_LIKELY;
    call.patience += Duration::from_secs((count / SLICES_PER_SECOND).into());
    Ok(call)
}

async fn answer(begun: Begun) -> Result<Bytes, ServiceError> {
    let (status, body) = begun.answer().await?;
    if status == StatusCode::OK {
        return Ok(body);
    }
    Err(match ServiceError::parse(&body) {
        Ok(error) => error,
        Err(error) => ServiceError::Misbehaved {
            detail: format!("its error cannot be read: {error}"),
        },
    })
}

fn parsed<T>(
    call: Call,
    body: &Bytes,
    parse: impl FnOnce(&Bytes) -> Result<T, ParseError>,
) -> Result<T, ServiceError> {
    parse(body).map_err(|error| misbehaved(call, error))
}

fn misbehaved(call: Call, why: impl fmt::Display) -> ServiceError {
    ServiceError::Misbehaved {
        detail: format!("its answer to {} cannot be read: {why}", call.path()),
    }
}

fn not_a_request(error: &ParseError) -> ServiceError {
    ServiceError::BadRequest {
        detail: error.to_string(),
    }
}
