//! The terms of a channel: how much, how long after it was let go, and how they may change.

use core::time::Duration;

use thiserror::Error;

use crate::{
    clock::Timestamp,
    codec::{ParseError, Put, Reader},
    error::{Classify, ErrorKind, Retry},
};

/// How long a provider holds on to what no head names any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grace {
    /// So long.
    For(Duration),
    /// For ever: an append-only channel.
    Endless,
}

impl Grace {
    /// The grace where an invitation names none: 30 days.
    pub const DEFAULT: Self = Self::For(Duration::from_hours(30 * 24));
    /// The least an upload is held for although no head names it yet: 7 days, time to resume on a bad connection.
    pub const UPLOAD_LEAST: Self = Self::For(Duration::from_hours(7 * 24));

    /// Returns when that which is let go at `now` may be freed.
    pub fn ends(self, now: Timestamp) -> Timestamp {
        match self {
            Self::For(duration) => now.after(duration).min(LAST_DATE),
            Self::Endless => ENDLESS,
        }
    }

    /// Appends it in milliseconds; all ones for one without end.
    fn encode(self, out: &mut Vec<u8>) {
        out.put_u64(match self {
            Self::For(grace) => u64::try_from(grace.as_millis())
                .map_or(u64::MAX - 1, |millis| millis.min(u64::MAX - 1)),
            Self::Endless => u64::MAX,
        });
    }

    fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        Ok(match reader.u64("grace")? {
            u64::MAX => Self::Endless,
            millis => Self::For(Duration::from_millis(millis)),
        })
    }
}

/// The date that never comes.
pub(super) const ENDLESS: Timestamp = Timestamp(u64::MAX);
/// The last date that does.
const LAST_DATE: Timestamp = Timestamp(u64::MAX - 1);

/// What a provider and a client agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How many bytes may be charged.
    pub cap: u64,
    /// How many bytes held but not live are not charged.
    pub reserve: u64,
    grace: Grace,
    /// A shorter grace, and when it begins.
    lowering: Option<(Timestamp, Grace)>,
}

/// A change of terms that would break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TermsError {
    /// A grace without end cannot be waited out.
    #[error("an append-only channel stays append-only")]
    Endless,
}

impl Classify for TermsError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::ProviderRefused
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl Terms {
    /// Returns the terms of a cap, with a tenth of it as reserve and 30 days of grace unless told otherwise.
    pub fn new(cap: u64, reserve: Option<u64>, grace: Option<Grace>) -> Self {
        Self {
            cap,
            reserve: reserve.unwrap_or(cap / 10),
            grace: grace.unwrap_or(Grace::DEFAULT),
            lowering: None,
        }
    }

    /// Returns the grace for what is let go at `now`.
    pub fn grace(&self, now: Timestamp) -> Grace {
        match self.lowering {
            Some((begins, shorter)) if begins <= now => shorter,
            _ => self.grace,
        }
    }

    /// Returns the shorter grace that was asked for and has not begun at `now`, and when it will.
    pub fn lowering(&self, now: Timestamp) -> Option<(Timestamp, Grace)> {
        self.lowering.filter(|(begins, _)| *begins > now)
    }

    /// Returns the terms with another grace, as asked for at `now`.
    ///
    /// A longer one holds at once. A shorter one begins when the old one, counted from now, is over: who stole the right to
    /// ask for it must wait as long as if it could not be asked for.
    ///
    /// # Errors
    ///
    /// A grace without end is never shortened.
    pub fn change_grace(self, grace: Grace, now: Timestamp) -> Result<Self, TermsError> {
        let old = self.grace(now);
        if grace >= old {
            return Ok(Self {
                grace,
                lowering: None,
                ..self
            });
        }
        if old == Grace::Endless {
            return Err(TermsError::Endless);
        }
        Ok(Self {
            grace: old,
            lowering: Some((old.ends(now), grace)),
            ..self
        })
    }

    /// How many bytes [`Self::encode`] takes at most.
    pub const LENGTH_MAX: usize = 8 + 8 + 8 + 1 + 8 + 8;

    /// Appends cap, reserve, grace, and a shorter grace that has been asked for with when it begins.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.cap);
        out.put_u64(self.reserve);
        self.grace.encode(out);
        match self.lowering {
            None => out.put_u8(0),
            Some((begins, shorter)) => {
                out.put_u8(1);
                out.put_u64(begins.0);
                shorter.encode(out);
            }
        }
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn parse(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        const WHAT: &str = "terms";
        let (cap, reserve) = (reader.u64(WHAT)?, reader.u64(WHAT)?);
        let grace = Grace::parse(reader)?;
        let lowering = match reader.u8(WHAT)? {
            0 => None,
            1 => Some((Timestamp(reader.u64(WHAT)?), Grace::parse(reader)?)),
            _ => return Err(ParseError::Invalid { what: WHAT }),
        };
        // Only a shorter one waits, and one without end is never shortened.
        if lowering.is_some_and(|(_, shorter)| grace == Grace::Endless || shorter >= grace) {
            return Err(ParseError::Invalid { what: WHAT });
        }
        Ok(Self {
            cap,
            reserve,
            grace,
            lowering,
        })
    }

    /// Returns how many bytes of the cap an upload leaves free: a cap filled by uploads could not take the head that lets go of
    /// something. A 64th of the cap, 4 MiB at most.
    pub const fn headroom(&self) -> u64 {
        let share = self.cap / 64;
        if share < HEADROOM_BYTES_MAX {
            share
        } else {
            HEADROOM_BYTES_MAX
        }
    }
}

/// The most that uploads leave free for heads, in bytes.
pub const HEADROOM_BYTES_MAX: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600 * 1000;

    fn days(days: u64) -> Grace {
        Grace::For(Duration::from_millis(days * DAY))
    }

    #[test]
    fn a_tenth_and_thirty_days_unless_told_otherwise() {
        let terms = Terms::new(1000, None, None);
        assert_eq!(terms.reserve, 100);
        assert_eq!(terms.grace(Timestamp(0)), days(30));
        let told = Terms::new(1000, Some(7), Some(Grace::Endless));
        assert_eq!(
            (told.reserve, told.grace(Timestamp(0))),
            (7, Grace::Endless)
        );
    }

    #[test]
    fn a_shorter_grace_waits_out_the_old_one() {
        let asked = Timestamp(5 * DAY);
        let terms = Terms::new(0, None, Some(days(30)))
            .change_grace(days(1), asked)
            .unwrap();
        assert_eq!(terms.grace(Timestamp(35 * DAY - 1)), days(30));
        assert_eq!(terms.grace(Timestamp(35 * DAY)), days(1));
        assert_eq!(terms.lowering(asked), Some((Timestamp(35 * DAY), days(1))));
        assert_eq!(terms.lowering(Timestamp(35 * DAY)), None);
    }

    #[test]
    fn asking_again_does_not_shorten_the_wait() {
        let terms = Terms::new(0, None, Some(days(30)))
            .change_grace(days(1), Timestamp(0))
            .and_then(|terms| terms.change_grace(days(0), Timestamp(29 * DAY)))
            .unwrap();
        assert_eq!(terms.grace(Timestamp(30 * DAY)), days(30));
        assert_eq!(terms.grace(Timestamp(59 * DAY)), days(0));
    }

    #[test]
    fn a_longer_grace_holds_at_once_and_takes_back_a_shorter_one() {
        let terms = Terms::new(0, None, Some(days(30)))
            .change_grace(days(1), Timestamp(0))
            .and_then(|terms| terms.change_grace(days(40), Timestamp(1)))
            .unwrap();
        assert_eq!(terms.grace(Timestamp(1)), days(40));
        assert_eq!(terms.grace(Timestamp(30 * DAY)), days(40));
    }

    #[test]
    fn terms_come_back_from_their_bytes_and_no_others_do() {
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            let terms = Terms::parse(&mut reader)?;
            reader.finish().map(|()| terms)
        };
        let lowered = Terms::new(9, None, Some(days(30)))
            .change_grace(days(1), Timestamp(7))
            .unwrap();
        let endless = Terms::new(u64::MAX, Some(3), Some(Grace::Endless));
        for terms in [Terms::new(1000, None, None), lowered, endless] {
            let mut bytes = Vec::new();
            terms.encode(&mut bytes);
            assert!(bytes.len() <= Terms::LENGTH_MAX);
            assert_eq!(read(&bytes), Ok(terms));
            for end in 0..bytes.len() {
                assert!(read(&bytes[..end]).is_err());
            }
        }
        // A grace that is not shorter waits for nothing, and there is another form of those terms.
        for lowering in [(Timestamp(1), days(30)), (Timestamp(1), Grace::Endless)] {
            let mut bytes = Vec::new();
            Terms {
                lowering: Some(lowering),
                ..lowered
            }
            .encode(&mut bytes);
            assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn append_only_stays_append_only() {
        let terms = Terms::new(0, None, Some(Grace::Endless));
        assert_eq!(
            terms.change_grace(days(1000), Timestamp(0)),
            Err(TermsError::Endless)
        );
        assert_eq!(Grace::Endless.ends(Timestamp(0)), ENDLESS);
        assert!(Grace::For(Duration::MAX).ends(Timestamp(1)) < ENDLESS);
    }
}
