//! Checking an audit's receipt again: offline, by anyone, from the file alone.
//!
//! The verdict is not read, it is found: by the same checks as when the answers came, over the same bytes.

use std::collections::BTreeSet;

use maimo_core::{
    audit::{AuditReceipt, Stratum},
    head::SignedHead,
};

use super::audit::{Audit, TicketAudit, accept};
use crate::error::ClientError;

/// Checks a receipt and returns what the audit came to: as it was told then, if nobody changed a byte.
///
/// # Errors
///
/// [`ClientError::Input`] for a receipt that shows nothing: a head that does not follow from the ticket, an answer that the provider did not sign,
/// a position asked for twice.
pub fn check_receipt(receipt: &AuditReceipt) -> Result<TicketAudit, ClientError> {
    let ticket = &receipt.ticket;
    let head = SignedHead::verify(&receipt.head, ticket.channel(), &[*ticket.client()])
        .map_err(|error| shows_nothing(&error.to_string()))?;
    accept(ticket, Some(&head), receipt.proof.as_ref()).map_err(|why| shows_nothing(&why))?;
    if receipt.answers.is_empty() {
        return Err(shows_nothing("nothing was answered"));
    }
    let mut audit = Audit::of(ticket);
    audit.stand_on(&head);
    // Twice the same question would count twice.
    let mut asked = BTreeSet::new();
    for answered in &receipt.answers {
        if *answered.challenge.root() != head.root() {
            return Err(shows_nothing("it was asked under another root"));
        }
        for stratum in Stratum::ALL {
            for position in answered.challenge.positions(stratum) {
                if !asked.insert((stratum, *position)) {
                    return Err(shows_nothing("a position was asked for twice"));
                }
            }
        }
        audit
            .take(
                &head,
                &answered.challenge,
                &answered.statement,
                &answered.answer,
            )
            .map_err(|why| shows_nothing(&why))?;
    }
    Ok(audit.end(receipt.time))
}

fn shows_nothing(why: &str) -> ClientError {
    ClientError::Input {
        message: format!("the receipt shows nothing: {why}"),
        hint: Some("ask the auditor for the file as it was written"),
    }
}
