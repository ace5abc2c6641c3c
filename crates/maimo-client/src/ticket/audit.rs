//! An audit by a ticket: what a machine does that has nothing but one line of text.
//!
//! ```text
//!   ticket -> head, whole: signed by the ticket's client, the ticket's root or one that descends from it
//!          -> positions drawn -> answers, each with the provider's word for it: commit, nodes, slices, held against that root
//! ```
//!
//! There is no home, no key and nothing remembered: what the provider showed last time is not known this time. So an older head than another
//! auditor saw passes, if the ticket's root is below it; the report says which state it was and when its owner made it.

use bytes::Bytes;
use futures_executor::block_on;
use maimo_core::{
    address::Address,
    ancestry::AncestryProof,
    audit::{
        Answered, AuditReceipt, AuditReport, AuditStatement, AuditedHead, Challenge, SLICES,
        Stratum, check,
    },
    clock::Timestamp,
    codec::Extensions,
    error::Classify as _,
    head::SignedHead,
    id::{ChannelId, RootHash},
    ticket::{Ticket, TicketId},
};
use maimo_net::{
    connect::Connector,
    service::{ServiceError, Session, WhichHead},
};
use maimo_vault::descent::{self, Seen};
use rand_core::CryptoRng;

use crate::{
    audit::{AuditResult, ChannelAudit, LOSS, Tally, drawn, note, result_of},
    clock::Clock,
    error::ClientError,
    progress::{Control, Event, Phase},
    random,
};

/// How an audit by a ticket is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketAuditRequest {
    /// How many slices of each stratum, or all where it has fewer; at most [`Self::SLICES_MAX`].
    pub slices: u64,
    /// Where to go instead of where the ticket says: for a folder, which has no address, and for a provider that has moved.
    pub addresses: Vec<String>,
    /// Whether all that was answered is kept for a receipt.
    pub keep_receipt: bool,
}

impl TicketAuditRequest {
    /// The most slices of a stratum that one such audit asks for: whoever wants more has a key of the store.
    pub const SLICES_MAX: u64 = 16_384;
}

impl Default for TicketAuditRequest {
    fn default() -> Self {
        Self {
            slices: SLICES as u64,
            addresses: Vec::new(),
            keep_receipt: false,
        }
    }
}

/// The head that an audit by a ticket was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditedState {
    /// Its sequence number.
    pub sequence: u64,
    /// Its root.
    pub root: RootHash,
    /// When its client says it was made.
    pub time: Timestamp,
}

/// What an audit by a ticket came to.
#[derive(Debug, Clone, PartialEq)]
pub struct TicketAudit {
    /// The ticket.
    pub ticket: TicketId,
    /// The channel.
    pub channel: ChannelId,
    /// What it was held against; none where no acceptable head was shown.
    pub state: Option<AuditedState>,
    /// When it ended, by the auditor's clock.
    pub time: Timestamp,
    /// When the provider answered last, by its own clock; none where it did not.
    pub answered: Option<Timestamp>,
    /// The outcome; its channel is called by its id.
    pub audit: ChannelAudit,
}

/// How often the head is asked for again that was replaced, and freed, between two questions.
const HEADS_MOST: u32 = 3;

/// Audits the channel of a ticket. It needs neither home nor key. Whatever the provider does is an outcome, not an error; the receipt is there if one
/// was asked for and anything was answered.
///
/// ```no_run
/// use maimo_client::{
///     clock::Clock,
///     error::ClientError,
///     progress::Control,
///     ticket::audit::{TicketAuditRequest, audit_ticket},
/// };
/// use maimo_core::ticket::Ticket;
///
/// # fn connector() -> std::sync::Arc<dyn maimo_net::connect::Connector> { unimplemented!() }
/// # fn example(ticket: &Ticket) -> Result<(), ClientError> {
/// let request = TicketAuditRequest::default();
/// let (audit, _) = audit_ticket(&*connector(), ticket, &request, &Clock::default(), &Control::default())?;
/// println!("{:?}", audit.audit.result);
/// # Ok(()) }
/// ```
///
/// # Errors
///
/// A request that makes no sense; [`ClientError::Provider`] where this machine has no way there; that it was cancelled.
pub fn audit_ticket(
    connector: &dyn Connector,
    ticket: &Ticket,
    request: &TicketAuditRequest,
    clock: &Clock,
    control: &Control,
) -> Result<(TicketAudit, Option<AuditReceipt>), ClientError> {
    audit_with(
        connector,
        ticket,
        request,
        clock,
        &mut random::system(),
        control,
    )
}

/// Audits, with positions drawn by a generator that is given.
pub(crate) fn audit_with(
    connector: &dyn Connector,
    ticket: &Ticket,
    request: &TicketAuditRequest,
    clock: &Clock,
    rng: &mut impl CryptoRng,
    control: &Control,
) -> Result<(TicketAudit, Option<AuditReceipt>), ClientError> {
    if request.slices > TicketAuditRequest::SLICES_MAX {
        return Err(ClientError::Input {
            message: format!(
                "{} slices of a stratum are more than {}",
                request.slices,
                TicketAuditRequest::SLICES_MAX
            ),
            hint: Some("audit more than once"),
        });
    }
    let addresses = where_to(ticket, request)?;
    control.tell(Event::Phase(Phase::Proving));
    let mut audit = Audit::of(ticket);
    let session = match block_on(connector.audit(&addresses, ticket)) {
        Ok(session) => session,
        // Of which the provider knows nothing.
        Err(source @ (ServiceError::NotAllowed { .. } | ServiceError::TorUnavailable { .. })) => {
            return Err(ClientError::Provider {
                channel: ticket.channel().to_string(),
                source,
            });
        }
        Err(error) => {
            audit.fail(result_of(&error), error.to_string());
            return Ok((audit.end(clock.now()), None));
        }
    };
    let mut heads = 0;
    let (shown, answers) = loop {
        let shown = match newest(&*session, ticket) {
            Ok(shown) => shown,
            Err((result, detail)) => {
                audit.fail(result, detail);
                return Ok((audit.end(clock.now()), None));
            }
        };
        heads += 1;
        audit = Audit::of(ticket);
        audit.stand_on(&shown.head);
        match audit.ask(&*session, &shown.head, request, rng, control)? {
            // It was replaced meanwhile, at a provider without grace.
            Asked::HeadGone if heads < HEADS_MOST => {}
            Asked::HeadGone => {
                audit.fail(
                    AuditResult::Missing,
                    "the provider does not hold the head that it shows".to_owned(),
                );
                break (shown, Vec::new());
            }
            Asked::Done(answers) => break (shown, answers),
        }
    };
    let now = clock.now();
    let receipt = (request.keep_receipt && !answers.is_empty()).then(|| AuditReceipt {
        ticket: ticket.clone(),
        head: shown.head.encode(),
        proof: shown.proof,
        time: now,
        answers,
        extensions: Extensions::default(),
    });
    Ok((audit.end(now), receipt))
}

/// Returns where the provider is looked for.
fn where_to(ticket: &Ticket, request: &TicketAuditRequest) -> Result<Vec<String>, ClientError> {
    if !request.addresses.is_empty() {
        return Ok(request.addresses.clone());
    }
    let Some(addresses) = &ticket.terms().addresses else {
        return Err(ClientError::Input {
            message: "the ticket is for a folder, and does not say where that is".to_owned(),
            hint: Some("give the folder with --at"),
        });
    };
    Ok(addresses
        .as_slice()
        .iter()
        .map(Address::to_string)
        .collect())
}

/// A head that may be audited, and why.
struct Shown {
    head: SignedHead,
    /// That it descends from the ticket's; none where it is that.
    proof: Option<AncestryProof>,
}

/// Fetches the newest head, and accepts it or says what is wrong with it.
fn newest(session: &dyn Session, ticket: &Ticket) -> Result<Shown, (AuditResult, String)> {
    let unanswered = |error: ServiceError| (result_of(&error), error.to_string());
    let shown = block_on(session.head(WhichHead::Newest)).map_err(unanswered)?;
    let head = shown.map(|shown| {
        SignedHead::verify(&shown.head, ticket.channel(), &[*ticket.client()])
            .map_err(|error| (AuditResult::Damaged, error.to_string()))
    });
    let head = head.transpose()?;
    let terms = ticket.terms();
    let newer = head
        .as_ref()
        .is_some_and(|head| head.head().sequence > terms.sequence);
    let mut proof = None;
    if newer {
        proof = match block_on(session.prove(terms.sequence)) {
            Ok(proof) => AncestryProof::parse(&proof).ok(),
            Err(ServiceError::NotHeld { .. }) => None,
            Err(error) => return Err(unanswered(error)),
        };
    }
    accept(ticket, head.as_ref(), proof.as_ref())
        .map_err(|detail| (AuditResult::Rollback, detail))?;
    match head {
        Some(head) => Ok(Shown { head, proof }),
        None => Err((AuditResult::Missing, "there is no head".to_owned())),
    }
}

/// Returns what is wrong with a head that does not follow the ticket's.
pub(super) fn accept(
    ticket: &Ticket,
    head: Option<&SignedHead>,
    proof: Option<&AncestryProof>,
) -> Result<(), String> {
    let terms = ticket.terms();
    let seen = Seen {
        sequence: terms.sequence,
        root: terms.root,
    };
    descent::accept(Some(seen), head, proof).map_err(|astray| astray.to_string())
}

/// What became of asking.
enum Asked {
    /// What was asked was answered, or why not is in the outcome; the answers, if they are to be kept.
    Done(Vec<Answered>),
    /// The provider does not know the head any more.
    HeadGone,
}

/// An audit by a ticket under way, or one that is checked again.
pub(super) struct Audit<'a> {
    ticket: &'a Ticket,
    state: Option<AuditedState>,
    answered: Option<Timestamp>,
    outcome: ChannelAudit,
    sums: [Tally; 2],
}

impl<'a> Audit<'a> {
    pub(super) fn of(ticket: &'a Ticket) -> Self {
        Self {
            ticket,
            state: None,
            answered: None,
            outcome: ChannelAudit::unanswered(&ticket.channel().to_string(), ticket.terms().root),
            sums: [Tally::default(); 2],
        }
    }

    /// Holds what follows against a head.
    pub(super) fn stand_on(&mut self, head: &SignedHead) {
        self.state = Some(AuditedState {
            sequence: head.head().sequence,
            root: head.root(),
            time: head.head().time,
        });
        self.outcome.root = head.root();
    }

    /// Notes why there is no more; what the answers showed counts more.
    pub(super) fn fail(&mut self, result: AuditResult, detail: String) {
        if self.outcome.result == AuditResult::Intact {
            self.outcome.result = result;
            self.outcome.detail = Some(detail);
        }
    }

    /// Draws, asks and checks.
    fn ask(
        &mut self,
        session: &dyn Session,
        head: &SignedHead,
        request: &TicketAuditRequest,
        rng: &mut impl CryptoRng,
        control: &Control,
    ) -> Result<Asked, ClientError> {
        let challenges = drawn(rng, head.root(), &head.head().into(), request.slices);
        control.tell(Event::Total {
            files: 0,
            bytes: challenges.len() as u64,
        });
        let mut answers = Vec::new();
        for (done, challenge) in challenges.into_iter().enumerate() {
            control.check()?;
            let stated = match block_on(session.audit_stated(Bytes::from(challenge.encode()))) {
                Ok(stated) => stated,
                Err(ServiceError::NotHeld { .. }) => return Ok(Asked::HeadGone),
                Err(error) => {
                    self.fail(result_of(&error), error.to_string());
                    break;
                }
            };
            self.outcome.bytes_received += (stated.statement.len() + stated.answer.len()) as u64;
            if let Err(detail) = self.take(head, &challenge, &stated.statement, &stated.answer) {
                self.fail(AuditResult::Refused, detail);
                break;
            }
            if request.keep_receipt {
                answers.push(Answered {
                    challenge,
                    statement: stated.statement.to_vec(),
                    answer: stated.answer.to_vec(),
                });
            }
            control.tell(Event::Done {
                files: 0,
                bytes: done as u64 + 1,
            });
        }
        Ok(Asked::Done(answers))
    }

    /// Takes an answer in. What is wrong with it is in the outcome; that the provider does not stand by it is an error.
    pub(super) fn take(
        &mut self,
        head: &SignedHead,
        challenge: &Challenge,
        statement: &[u8],
        answer: &[u8],
    ) -> Result<(), String> {
        let terms = self.ticket.terms();
        let statement = AuditStatement::verify(statement, &terms.provider);
        let statement = statement.map_err(|error| error.to_string())?;
        statement
            .check(&terms.id, self.ticket.channel(), challenge, answer)
            .map_err(|error| error.to_string())?;
        self.answered = self.answered.max(Some(statement.stated().time));
        let view = AuditedHead::from(head.head());
        match check(challenge, answer, |_, _| Some(view)) {
            Ok(report) => self.note(&report),
            // It has signed bytes that are no answer.
            Err(error) => {
                self.outcome.result = AuditResult::Damaged;
                let hint = error
                    .hint()
                    .map_or_else(String::new, |hint| format!(": {hint}"));
                self.outcome.detail = Some(format!("{error}{hint}"));
            }
        }
        Ok(())
    }

    fn note(&mut self, report: &AuditReport) {
        note(&mut self.outcome, report, true);
        for (sum, stratum) in self.sums.iter_mut().zip(Stratum::ALL) {
            sum.add(report.stratum(stratum));
        }
    }

    pub(super) fn end(mut self, time: Timestamp) -> TicketAudit {
        if self.sums.iter().any(|sum| sum.is_answered) {
            let strata = Stratum::ALL.into_iter().zip(self.sums);
            self.outcome.strata = strata
                .map(|(stratum, sum)| sum.report(stratum, LOSS))
                .collect();
        }
        TicketAudit {
            ticket: self.ticket.terms().id,
            channel: self.ticket.channel(),
            state: self.state,
            time,
            answered: self.answered,
            audit: self.outcome,
        }
    }
}
