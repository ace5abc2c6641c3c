//! The invitation: one line that lets one client open one channel.
//!
//! It is not signed. It names the provider's auth key, so a forger would put in a key of their own and sign with that; whoever the client
//! reaches must prove the key in the handshake. What a signature could add is a promise of the terms, and those come again in the
//! reply to the redemption, signed: the client compares. It would make the line by a half longer.
//!
//! The token is the secret. A provider keeps its hash only, and takes it once.

use core::time::Duration;

use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::{
    address::Addresses,
    clock::Timestamp,
    codec::{Extensions, ObjectType, ParseError, Prelude, Put, Reader},
    custody::{Grace, Terms},
    error::{Classify, ErrorKind, Retry},
    identity::AuthPublicKey,
    line::{self, LINE_CHARACTERS_MAX, LineError},
};

const KIND: &str = "invite";
const _: () = assert!(line::characters(KIND, Invitation::LENGTH_MAX) <= LINE_CHARACTERS_MAX);
const TOKEN_CONTEXT: &str = "maimo v1 invitation token";

/// The tag of the extension that will hold a client's key for an onion service with restricted discovery. It is critical: who cannot use it
/// could not connect.
pub const TAG_RESTRICTED_DISCOVERY: u16 = 0x8001;

/// What an invitation offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The provider's auth key.
    pub provider: AuthPublicKey,
    /// Where the provider is.
    pub addresses: Addresses,
    /// The first moment at which it can no longer be redeemed.
    pub expires: Timestamp,
    /// How many bytes may be charged.
    pub cap: u64,
    /// How many bytes held but not live are not charged.
    pub reserve: u64,
    /// How long what is let go is held; whole seconds.
    pub grace: Grace,
}

impl Offer {
    /// Returns the terms of the channel that it opens.
    pub fn terms(&self) -> Terms {
        Terms::new(self.cap, Some(self.reserve), Some(self.grace))
    }
}

/// The single-use secret of an invitation, 16 bytes, wiped on drop. Neither printed nor copied:
///
/// ```compile_fail,E0277
/// fn show(token: maimo_core::invitation::InvitationToken) -> String { format!("{token:?}") }
/// ```
/// ```compile_fail,E0277
/// fn copies<T: Clone>() {}
/// copies::<maimo_core::invitation::InvitationToken>();
/// ```
pub struct InvitationToken(Box<[u8; 16]>);

impl InvitationToken {
    /// How many bytes it has.
    pub const LENGTH: usize = 16;

    /// Draws a token.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut token = Self(Box::new([0; Self::LENGTH]));
        rng.fill_bytes(&mut *token.0);
        token
    }

    /// Takes a token as it was sent; wiping `bytes` is the caller's part.
    pub fn from_bytes(bytes: &[u8; Self::LENGTH]) -> Self {
        let mut token = Self(Box::new([0; Self::LENGTH]));
        token.0.copy_from_slice(bytes);
        token
    }

    /// Returns the bytes, for who redeems it.
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Returns what the provider keeps, and finds the invitation by: who reads its ledger cannot redeem anything.
    pub fn hash(&self) -> [u8; 32] {
        blake3::derive_key(TOKEN_CONTEXT, &*self.0)
    }
}

impl Drop for InvitationToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for InvitationToken {}

/// An offer with the token that takes it up; see `docs/format.md`, "Tickets, invitations and address lists".
pub struct Invitation {
    offer: Offer,
    token: InvitationToken,
    extensions: Extensions,
}

/// Why a text is not an invitation that can be redeemed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// The text is no such line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// The line is no invitation.
    #[error("the invitation cannot be read")]
    Parse(#[from] ParseError),
    /// Its time is over.
    #[error("the invitation has expired")]
    Expired,
}

impl Classify for InvitationError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Parse(error) => error.hint(),
            Self::Expired => Some("ask the provider for a new invitation"),
            Self::Line(_) => Some("copy the whole line again, from maimo: to its end"),
        }
    }
}

/// How a grace without end is written.
pub const ENDLESS_SECONDS: u64 = u64::MAX;
/// The longest grace that has an end: a thousand years. Longer ones would not fit the milliseconds of a date.
pub const GRACE_SECONDS_MAX: u64 = 1000 * 366 * 24 * 3600;

impl Invitation {
    /// The longest invitation, in bytes: as text it fits a line.
    pub const LENGTH_MAX: usize = 2500;

    /// Joins an offer with its token; nothing if the addresses make it too long, or the grace is neither endless nor whole seconds, a
    /// thousand years at most.
    pub fn new(offer: Offer, token: InvitationToken) -> Option<Self> {
        let is_whole =
            |grace: Duration| grace.subsec_nanos() == 0 && grace.as_secs() <= GRACE_SECONDS_MAX;
        if matches!(offer.grace, Grace::For(grace) if !is_whole(grace)) {
            return None;
        }
        let invitation = Self {
            offer,
            token,
            extensions: Extensions::default(),
        };
        (invitation.encode().len() <= Self::LENGTH_MAX).then_some(invitation)
    }

    /// Returns what it offers.
    pub const fn offer(&self) -> &Offer {
        &self.offer
    }

    /// Returns the token.
    pub const fn token(&self) -> &InvitationToken {
        &self.token
    }

    /// Returns an error if it can no longer be redeemed at `now`.
    pub fn check(&self, now: Timestamp) -> Result<(), InvitationError> {
        if self.offer.expires <= now {
            return Err(InvitationError::Expired);
        }
        Ok(())
    }

    /// Returns the invitation as one line of text, which is as secret as the token and wiped like it.
    pub fn to_line(&self) -> Zeroizing<String> {
        line::encode(KIND, &self.encode())
    }

    /// Reads what [`Self::to_line`] wrote.
    pub fn from_line(text: &str) -> Result<Self, InvitationError> {
        Ok(Self::parse(&line::decode(KIND, text)?)?)
    }

    /// Returns the invitation as bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Reserved whole, so that no copy of the token is left behind by growing.
        let mut out = Zeroizing::new(Vec::with_capacity(Self::LENGTH_MAX));
        Prelude { epoch: 0 }.encode(ObjectType::Invitation, &mut out);
        out.put(self.offer.provider.as_bytes());
        self.offer.addresses.encode(&mut out);
        out.put_u64(self.offer.expires.0);
        out.put_u64(self.offer.cap);
        out.put_u64(self.offer.reserve);
        out.put_u64(match self.offer.grace {
            Grace::For(grace) => grace.as_secs(),
            Grace::Endless => ENDLESS_SECONDS,
        });
        out.put(self.token.as_bytes());
        self.extensions.encode(&mut out);
        out
    }

    /// Reads an invitation.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > Self::LENGTH_MAX {
            return Err(ParseError::TooLarge {
                what: "invitation",
                found: bytes.len() as u64,
                max: Self::LENGTH_MAX as u64,
            });
        }
        let mut reader = Reader::new(bytes);
        Prelude::parse_without_epoch(&mut reader, ObjectType::Invitation)?;
        let offer = Offer {
            provider: AuthPublicKey::parse(&mut reader, "provider")?,
            addresses: Addresses::parse(&mut reader)?,
            expires: Timestamp(reader.u64("expiry")?),
            cap: reader.u64("cap")?,
            reserve: reader.u64("reserve")?,
            grace: parse_grace(&mut reader)?,
        };
        let token: Zeroizing<[u8; InvitationToken::LENGTH]> =
            Zeroizing::new(reader.array("token")?);
        let token = InvitationToken::from_bytes(&token);
        let extensions = Extensions::parse(&mut reader)?;
        reader.finish()?;
        Ok(Self {
            offer,
            token,
            extensions,
        })
    }
}

fn parse_grace(reader: &mut Reader<'_>) -> Result<Grace, ParseError> {
    match reader.u64("grace")? {
        ENDLESS_SECONDS => Ok(Grace::Endless),
        found if found > GRACE_SECONDS_MAX => Err(ParseError::TooLarge {
            what: "grace",
            found,
            max: GRACE_SECONDS_MAX,
        }),
        seconds => Ok(Grace::For(Duration::from_secs(seconds))),
    }
}

#[cfg(test)]
mod tests;
