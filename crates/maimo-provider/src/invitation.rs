//! [`Invited`]: what a provider keeps of an invitation, under its token's hash.
//!
//! Not the token: who reads the log cannot redeem anything. An invitation is never taken out of the rows when it is used or withdrawn, so that
//! whoever comes with it later hears why it is refused, and whoever redeemed it is welcome again.

use core::time::Duration;

use maimo_core::{
    address::Network,
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    custody::Terms,
    identity::ClientPublicKey,
};

use crate::ledger::{LedgerError, entry::LABEL_BYTES_MAX, sqlite::encode};

/// How long an invitation whose time is over can still be told apart from one that never was.
const KEPT_AFTER: Duration = Duration::from_hours(90 * 24);
const VERSION: u8 = 1;
const WHAT: &str = "an invitation in the log";

/// An invitation as its provider keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invited {
    /// The face whose key it names.
    pub(crate) network: Network,
    pub(crate) label: String,
    pub(crate) terms: Terms,
    pub(crate) made: Timestamp,
    pub(crate) expires: Timestamp,
    pub(crate) state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Open,
    /// By the one client that it will ever serve.
    Used {
        by: ClientPublicKey,
        at: Timestamp,
    },
    Withdrawn,
}

/// What becomes of the wish to redeem an invitation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is this client's now.
    Taken,
    /// It was this client's before: the reply was lost.
    TakenBefore,
    /// Why it is refused.
    Refused(&'static str),
}

impl Invited {
    /// Returns what becomes of a client's wish to redeem it at `now`, on a network.
    pub(crate) fn answer(
        &self,
        network: Network,
        client: &ClientPublicKey,
        now: Timestamp,
    ) -> Answer {
        match &self.state {
            // It names the other face's key: whoever brings it here has taken it apart.
            _ if self.network != network => Answer::Refused(UNKNOWN),
            State::Used { by, .. } if by == client => Answer::TakenBefore,
            State::Used { .. } => Answer::Refused("it was used by somebody else"),
            State::Withdrawn => Answer::Refused("it was withdrawn"),
            State::Open if self.expires <= now => Answer::Refused("it has expired"),
            State::Open => Answer::Taken,
        }
    }

    /// Returns whether it can still be redeemed.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.state == State::Open && now < self.expires
    }

    /// Returns whether nobody needs to hear of it any more.
    pub(crate) fn is_stale(&self, now: Timestamp) -> bool {
        self.expires.after(KEPT_AFTER) <= now
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.put_u8(match self.network {
            Network::Onion => 1,
            Network::Tcp => 2,
        });
        out.put_bytes(self.label.as_bytes());
        encode::put_terms(&self.terms, &mut out);
        out.put_u64(self.made.0);
        out.put_u64(self.expires.0);
        match &self.state {
            State::Open => out.put_u8(0),
            State::Used { by, at } => {
                out.put_u8(1);
                out.put(by.as_bytes());
                out.put_u64(at.0);
            }
            State::Withdrawn => out.put_u8(2),
        }
        out
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        Self::read(bytes).map_err(|_| LedgerError::Damaged { what: WHAT })
    }

    fn read(bytes: &[u8]) -> Result<Self, ParseError> {
        const INVALID: ParseError = ParseError::Invalid { what: WHAT };
        let mut reader = Reader::new(bytes);
        if reader.u8(WHAT)? != VERSION {
            return Err(INVALID);
        }
        let network = match reader.u8(WHAT)? {
            1 => Network::Onion,
            2 => Network::Tcp,
            _ => return Err(INVALID),
        };
        let label = reader.bytes(LABEL_BYTES_MAX, WHAT)?.to_vec();
        let invited = Self {
            network,
            label: String::from_utf8(label).map_err(|_| INVALID)?,
            terms: encode::terms(&mut reader)?,
            made: Timestamp(reader.u64(WHAT)?),
            expires: Timestamp(reader.u64(WHAT)?),
            state: match reader.u8(WHAT)? {
                0 => State::Open,
                1 => State::Used {
                    by: ClientPublicKey::parse(&mut reader, WHAT)?,
                    at: Timestamp(reader.u64(WHAT)?),
                },
                2 => State::Withdrawn,
                _ => return Err(INVALID),
            },
        };
        reader.finish()?;
        Ok(invited)
    }
}

/// What is said of a token that is none of this provider's.
pub(crate) const UNKNOWN: &str = "this provider knows no such invitation";

/// Returns the terms of a client that is invited again: those of the offer, but a grace that was promised is not shortened at once, nor ever
/// where it has no end.
pub(crate) fn renewed(old: Terms, offer: Terms, now: Timestamp) -> Terms {
    let grace = offer.grace(now);
    let mut terms = old.change_grace(grace, now).unwrap_or(old);
    terms.cap = offer.cap;
    terms.reserve = offer.reserve;
    terms
}

#[cfg(test)]
mod tests {
    use maimo_core::{custody::Grace, identity::ClientSecretKey};
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> ClientPublicKey {
        ClientSecretKey::from_seed(&[seed; 32]).public()
    }

    fn invited() -> impl Strategy<Value = Invited> {
        let state = prop_oneof![
            Just(State::Open),
            (1..5_u8, any::<u64>()).prop_map(|(by, at)| State::Used {
                by: key(by),
                at: Timestamp(at),
            }),
            Just(State::Withdrawn),
        ];
        let label = "\\PC{0,40}";
        let numbers = (any::<u64>(), any::<u64>(), 0..1_u64 << 40);
        (any::<bool>(), label, numbers, any::<[u64; 2]>(), state).prop_map(
            |(is_tcp, label, (cap, reserve, grace), [made, expires], state)| Invited {
                network: if is_tcp { Network::Tcp } else { Network::Onion },
                label,
                terms: Terms::new(
                    cap,
                    Some(reserve),
                    Some(Grace::For(Duration::from_millis(grace))),
                ),
                made: Timestamp(made),
                expires: Timestamp(expires),
                state,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_kept_comes_back_and_nothing_shorter_is_taken_for_it(invited in invited(), cut in any::<prop::sample::Index>()) {
            let bytes = invited.encode();
            prop_assert_eq!(Invited::parse(&bytes).unwrap(), invited);
            prop_assert!(Invited::parse(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn each_refusal_has_its_own_word() {
        let open = Invited {
            network: Network::Onion,
            label: "anna".to_owned(),
            terms: Terms::new(1, None, None),
            made: Timestamp(0),
            expires: Timestamp(10),
            state: State::Open,
        };
        let used = Invited {
            state: State::Used {
                by: key(1),
                at: Timestamp(5),
            },
            ..open.clone()
        };
        let withdrawn = Invited {
            state: State::Withdrawn,
            ..open.clone()
        };
        let at = |invited: &Invited, client, now| {
            invited.answer(Network::Onion, &key(client), Timestamp(now))
        };
        assert_eq!(at(&open, 1, 9), Answer::Taken);
        assert_eq!(at(&open, 1, 10), Answer::Refused("it has expired"));
        assert_eq!(at(&used, 1, 10), Answer::TakenBefore);
        assert_eq!(
            at(&used, 2, 9),
            Answer::Refused("it was used by somebody else")
        );
        assert_eq!(at(&withdrawn, 1, 9), Answer::Refused("it was withdrawn"));
        assert_eq!(
            open.answer(Network::Tcp, &key(1), Timestamp(9)),
            Answer::Refused(UNKNOWN)
        );
    }

    #[test]
    fn an_offer_shortens_no_grace_that_was_promised() {
        let days = |days: u64| Some(Grace::For(Duration::from_hours(24 * days)));
        let old = Terms::new(10, None, days(30));
        let new = renewed(old, Terms::new(20, Some(3), days(1)), Timestamp(0));
        assert_eq!((new.cap, new.reserve), (20, 3));
        assert_eq!(Some(new.grace(Timestamp(0))), days(30));
        let endless = Terms::new(10, None, Some(Grace::Endless));
        let new = renewed(endless, Terms::new(20, None, days(1)), Timestamp(0));
        assert_eq!((new.cap, new.grace(Timestamp(0))), (20, Grace::Endless));
    }
}
