//! From a request's bytes to the provider's call, and back.

use bytes::Bytes;
use http::StatusCode;
use maimo_core::{
    audit::{Challenge, Stratum},
    clock::Timestamp,
    codec::ParseError,
    digest::DigestRequest,
    reference::ObjectRef,
    ticket::TicketId,
};

use crate::{
    connect::Provider,
    http::body::Parts,
    serve::workers::Urgency,
    service::{Put, Read, Reply, ServiceError, Session, StatedAnswer, WhichHead},
    wire::{self, Call},
};

/// How many bytes a slice of an audit takes with what proves it, about.
const AUDITED_BYTES: u64 = 8 * 1024;
/// Answers below this many bytes are not worth counting.
const SMALL_BYTES: u64 = 64 * 1024;

/// A call of a known client, parsed. What the core parses is carried as it came.
pub(crate) enum Job {
    Status,
    Put(Put),
    PutNode(Bytes),
    MoveHead(Bytes),
    Head(WhichHead),
    Prove(u64),
    Nodes(Vec<ObjectRef>),
    Read(Vec<Read>),
    Audit { challenge: Bytes, slices: u64 },
    AuditStated { challenge: Bytes, slices: u64 },
    Tickets,
    RevokeTicket(TicketId, Timestamp),
    Digest { request: Bytes, bytes: u64 },
    Addresses,
}

impl Job {
    /// Reads a request.
    pub(crate) fn parse(call: Call, body: &Bytes) -> Result<Self, ParseError> {
        Ok(match call {
            Call::Status => Self::Status,
            Call::Put => Self::Put(Put::parse(body)?),
            Call::PutNode => Self::PutNode(body.clone()),
            Call::MoveHead => Self::MoveHead(body.clone()),
            Call::Head => Self::Head(WhichHead::parse(body)?),
            Call::Prove => Self::Prove(wire::parse_sequence(body)?),
            Call::Nodes => Self::Nodes(wire::parse_nodes(body)?),
            Call::Read => Self::Read(wire::parse_reads(body)?),
            Call::Audit => Self::Audit {
                challenge: body.clone(),
                slices: slices_of(body)?,
            },
            Call::AuditStated => Self::AuditStated {
                challenge: body.clone(),
                slices: slices_of(body)?,
            },
            Call::Tickets => Self::Tickets,
            Call::RevokeTicket => {
                let (ticket, expires) = wire::parse_revocation(body)?;
                Self::RevokeTicket(ticket, expires)
            }
            Call::Digest => Self::Digest {
                request: body.clone(),
                bytes: DigestRequest::parse(body)?.total_bytes(),
            },
            Call::Addresses => Self::Addresses,
            // They are not a session's, and answered before.
            Call::Redeem | Call::Present => {
                return Err(ParseError::Invalid {
                    what: "call of a session",
                });
            }
        })
    }

    /// Returns how soon it is to be worked on.
    pub(crate) const fn urgency(&self) -> Urgency {
        match self {
            Self::Put(_) | Self::Read(_) | Self::Digest { .. } => Urgency::Bulk,
            _ => Urgency::Control,
        }
    }

    /// Returns how many bytes the answer takes in memory, about; 0 for small ones.
    pub(crate) fn answer_bytes(&self) -> u64 {
        let bytes = match self {
            Self::Nodes(nodes) => wire::nodes_bytes_max(nodes),
            Self::Read(reads) => wire::slice_bytes_max(reads),
            Self::Audit { slices, .. } | Self::AuditStated { slices, .. } => slices * AUDITED_BYTES,
            _ => 0,
        };
        if bytes < SMALL_BYTES { 0 } else { bytes }
    }

    /// Returns how many slices are to be audited, and how many bytes digested.
    pub(crate) const fn work(&self) -> (u64, u64) {
        match self {
            Self::Audit { slices, .. } | Self::AuditStated { slices, .. } => (*slices, 0),
            Self::Digest { bytes, .. } => (0, *bytes),
            _ => (0, 0),
        }
    }

    /// Does it, on a thread that may block and that knows the runtime.
    pub(crate) fn run(
        self,
        session: &dyn Session,
        provider: &dyn Provider,
    ) -> Result<Parts, ServiceError> {
        Ok(match self {
            Self::Status => wait(session.status())?.encode().into(),
            Self::Put(put) => wait(session.put(put))?.encode().into(),
            Self::PutNode(node) => {
                wait(session.put_node(node))?;
                Parts::default()
            }
            Self::MoveHead(head_move) => wait(session.move_head(head_move))?.into(),
            Self::Head(which) => wire::encode_shown(wait(session.head(which))?.as_ref()).into(),
            Self::Prove(sequence) => wait(session.prove(sequence))?.into(),
            Self::Nodes(nodes) => listed(wait(session.nodes(nodes))?),
            Self::Read(reads) => listed(wait(session.read(reads))?),
            Self::Audit { challenge, .. } => wait(session.audit(challenge))?.into(),
            Self::AuditStated { challenge, .. } => {
                let StatedAnswer { statement, answer } = wait(session.audit_stated(challenge))?;
                vec![wire::encode_statement(&statement).into(), answer].into()
            }
            Self::Tickets => wire::encode_tickets(&wait(session.tickets())?).into(),
            Self::RevokeTicket(ticket, expires) => {
                wait(session.revoke_ticket(ticket, expires))?;
                Parts::default()
            }
            Self::Digest { request, .. } => wait(session.digest(request))?.to_vec().into(),
            Self::Addresses => wire::encode_addresses(provider.addresses().as_ref()).into(),
        })
    }
}

/// Returns how many slices a challenge asks for.
fn slices_of(challenge: &[u8]) -> Result<u64, ParseError> {
    let challenge = Challenge::parse(challenge)?;
    let count = |stratum: &Stratum| challenge.positions(*stratum).len() as u64;
    Ok(Stratum::ALL.iter().map(count).sum())
}

fn wait<T>(reply: Reply<'_, T>) -> Result<T, ServiceError> {
    tokio::runtime::Handle::current().block_on(reply)
}

/// Returns the parts behind their lengths, none copied.
fn listed(parts: Vec<Bytes>) -> Parts {
    let mut all = Vec::with_capacity(1 + parts.len());
    all.push(Bytes::from(wire::encode_lengths(&parts)));
    all.extend(parts);
    all.into()
}

/// Returns the status an error is sent with. It is for whoever looks at the traffic of a test: what the client goes by is the body.
pub(crate) const fn status_of(error: &ServiceError) -> StatusCode {
    match error {
        ServiceError::BadRequest { .. } => StatusCode::BAD_REQUEST,
        ServiceError::UnknownClient => StatusCode::UNAUTHORIZED,
        ServiceError::Revoked
        | ServiceError::InvitationRefused { .. }
        | ServiceError::TicketRefused { .. } => StatusCode::FORBIDDEN,
        ServiceError::NotHeld { .. } => StatusCode::NOT_FOUND,
        ServiceError::Refused(_) | ServiceError::UploadRefused(_) | ServiceError::WrongBytes => {
            StatusCode::CONFLICT
        }
        ServiceError::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        ServiceError::DiskFull { .. } => StatusCode::INSUFFICIENT_STORAGE,
        ServiceError::Damaged { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
