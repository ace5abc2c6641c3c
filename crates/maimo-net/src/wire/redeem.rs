//! The token of an invitation, what it leads to, and where a provider says it is.

use bytes::Bytes;
use maimo_core::{
    address::AddressList,
    codec::{ParseError, Reader},
    custody::Terms,
    invitation::InvitationToken,
};
use zeroize::Zeroizing;

use super::check_length;
use crate::connect::Welcome;

/// How many bytes a token takes.
pub(super) const TOKEN_BYTES: usize = InvitationToken::LENGTH;
/// How many bytes a list of addresses takes at most.
pub(super) const ADDRESSES_BYTES_MAX: usize = AddressList::LENGTH_MAX;
pub(super) const WELCOME_BYTES_MAX: usize = Terms::LENGTH_MAX + ADDRESSES_BYTES_MAX;

/// Returns a token as bytes, wiped on drop.
pub fn encode_token(token: &InvitationToken) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(token.as_bytes().to_vec())
}

/// Reads what [`encode_token`] wrote; wiping `bytes` is the caller's part.
pub fn parse_token(bytes: &[u8]) -> Result<InvitationToken, ParseError> {
    let mut reader = Reader::new(bytes);
    let token = Zeroizing::new(reader.array("token")?);
    reader.finish()?;
    Ok(InvitationToken::from_bytes(&token))
}

impl Welcome {
    /// Returns terms and addresses as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(WELCOME_BYTES_MAX);
        self.terms.encode(&mut out);
        out.extend_from_slice(&encode_addresses(self.addresses.as_ref()));
        out
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(body: &Bytes) -> Result<Self, ParseError> {
        let mut reader = Reader::new(body);
        let terms = Terms::parse(&mut reader)?;
        let addresses = parse_addresses(&body.slice(body.len() - reader.remaining()..))?;
        Ok(Self { terms, addresses })
    }
}

/// Returns a list of addresses as bytes: itself, or none.
pub fn encode_addresses(addresses: Option<&Bytes>) -> Bytes {
    addresses.cloned().unwrap_or_default()
}

/// Reads what [`encode_addresses`] wrote. Who signed the list, and whether it is one, is for who takes it up to see.
pub fn parse_addresses(body: &Bytes) -> Result<Option<Bytes>, ParseError> {
    check_length(body.len(), ADDRESSES_BYTES_MAX, "list of addresses")?;
    Ok((!body.is_empty()).then(|| body.clone()))
}
