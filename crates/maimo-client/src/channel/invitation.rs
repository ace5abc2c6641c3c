//! Taking up an invitation: the client's key follows from the provider's, so the same line taken up twice is the same client.

use futures_executor::block_on;
use maimo_core::{
    custody::{Grace, Terms},
    identity::AuthPublicKey,
    invitation::{Invitation, InvitationError},
};
use maimo_net::service::ServiceError;
use maimo_vault::keys::ChannelKeys;

use super::addresses::take_up;
use crate::{engine::Engine, error::ClientError, node_state::ChannelRow};

/// What an invitation's line begins with.
const SCHEME: &str = "maimo:";

/// Reads an invitation; nothing where the text is none, but an address.
///
/// # Errors
///
/// A line that cannot be read: it was cut or mistyped.
pub(super) fn invited(text: &str) -> Result<Option<Invitation>, ClientError> {
    let text = text.trim();
    let scheme = text.get(..SCHEME.len());
    if !scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(SCHEME)) {
        return Ok(None);
    }
    let read = Invitation::from_line(text);
    read.map(Some).map_err(|error| refused(&error))
}

impl Engine {
    /// Takes an invitation up for the key of the channel that it opens. A list of addresses that comes with it goes into `row`.
    ///
    /// # Errors
    ///
    /// That it has expired, was used by another, was withdrawn, or that the provider grants less than it offers.
    pub(super) fn redeem(
        &self,
        invitation: &Invitation,
        keys: &ChannelKeys,
        row: &mut ChannelRow,
    ) -> Result<(), ClientError> {
        let now = self.clock.now();
        invitation.check(now).map_err(|error| refused(&error))?;
        let failed = |source| ClientError::Provider {
            channel: row.name.clone(),
            source,
        };
        let welcome = block_on(self.connector.redeem(invitation, &keys.client)).map_err(failed)?;
        let offered = invitation.offer().terms();
        if !is_kept(&welcome.terms, &offered, now) {
            return Err(failed(ServiceError::Misbehaved {
                detail: "it grants less than its invitation offers".to_owned(),
            }));
        }
        if let Some(list) = &welcome.addresses {
            let auth: AuthPublicKey = invitation.offer().provider;
            let taken = take_up(row, list, &auth);
            taken.map_err(|source| ClientError::Provider {
                channel: row.name.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

/// Returns whether terms are at least those that were offered.
fn is_kept(terms: &Terms, offered: &Terms, now: maimo_core::clock::Timestamp) -> bool {
    let grace = match (terms.grace(now), offered.grace(now)) {
        (Grace::Endless, _) => true,
        (Grace::For(_), Grace::Endless) => false,
        (Grace::For(granted), Grace::For(offered)) => granted >= offered,
    };
    grace && terms.cap >= offered.cap && terms.reserve >= offered.reserve
}

fn refused(error: &InvitationError) -> ClientError {
    use maimo_core::error::Classify as _;

    let hint = error.hint();
    // What was wrong with its bytes is its cause.
    let cause = core::error::Error::source(error).map(|cause| format!(": {cause}"));
    ClientError::Input {
        message: format!("{error}{}", cause.unwrap_or_default()),
        hint,
    }
}
