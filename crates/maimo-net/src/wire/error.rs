//! Errors as a provider answers with them: a stable number of two bytes, then what the error says. Numbers are never given anew.
//!
//! Text is the provider's and ends on a user's terminal: short, and without control characters. Which things an error may speak of is a
//! table, so that no word of it comes from outside.

use core::time::Duration;

use maimo_core::{
    codec::{ParseError, Put as _, Reader},
    custody::{Refusal, UploadRefusal},
};

use super::check_length;
use crate::service::ServiceError;

/// How many bytes an error takes at most.
pub const ERROR_BYTES_MAX: usize = 2 + Refusal::REPORT_BYTES_MAX;
/// How many bytes of text one carries.
const TEXT_BYTES_MAX: usize = 512;
const _: () = assert!(ERROR_BYTES_MAX > 2 + 1 + 2 + TEXT_BYTES_MAX && ERROR_BYTES_MAX < 64 * 1024);

/// What an error may speak of, by its number; new ones only at the end.
const SUBJECTS: &[&str] = &[
    "what was asked for",
    "a pack",
    "the head",
    "a head of that sequence number",
    "a head of that root",
    "an inventory node",
    "the log",
    "an answer",
];

const UNKNOWN_CLIENT: u16 = 1;
const REVOKED: u16 = 2;
const INVITATION_REFUSED: u16 = 3;
const REFUSED: u16 = 4;
const UPLOAD_REFUSED: u16 = 5;
const WRONG_BYTES: u16 = 6;
const NOT_HELD: u16 = 7;
const DAMAGED: u16 = 8;
const DISK_FULL: u16 = 9;
const UNAVAILABLE: u16 = 10;
const BAD_REQUEST: u16 = 11;
const BUSY: u16 = 12;
const TICKET_REFUSED: u16 = 13;

impl ServiceError {
    /// Returns the error as bytes.
    ///
    /// What only this side of a connection can find (another provider, a network that is not allowed or does not work, nobody there) is no
    /// provider's to say, and is told as [`ServiceError::Unavailable`], without more.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::UnknownClient => out.put_u16(UNKNOWN_CLIENT),
            Self::Revoked => out.put_u16(REVOKED),
            Self::InvitationRefused { detail } => {
                out.put_u16(INVITATION_REFUSED);
                put_text(detail, &mut out);
            }
            Self::TicketRefused { detail } => {
                out.put_u16(TICKET_REFUSED);
                put_text(detail, &mut out);
            }
            Self::Refused(refusal) => {
                out.put_u16(REFUSED);
                refusal.encode(&mut out);
            }
            Self::UploadRefused(refusal) => {
                out.put_u16(UPLOAD_REFUSED);
                refusal.encode(&mut out);
            }
            Self::WrongBytes => out.put_u16(WRONG_BYTES),
            Self::NotHeld { what } => {
                out.put_u16(NOT_HELD);
                put_subject(what, &mut out);
            }
            Self::Damaged { what, detail } => {
                out.put_u16(DAMAGED);
                put_subject(what, &mut out);
                put_text(detail, &mut out);
            }
            Self::DiskFull { detail } => {
                out.put_u16(DISK_FULL);
                put_text(detail, &mut out);
            }
            Self::Unavailable { detail } => {
                out.put_u16(UNAVAILABLE);
                put_text(detail, &mut out);
            }
            Self::BadRequest { detail } => {
                out.put_u16(BAD_REQUEST);
                put_text(detail, &mut out);
            }
            Self::Busy(pause) => {
                out.put_u16(BUSY);
                out.put_u32(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
            }
            Self::OtherProvider
            | Self::NotAllowed { .. }
            | Self::TorUnavailable { .. }
            | Self::Misbehaved { .. }
            | Self::Offline { .. } => {
                out.put_u16(UNAVAILABLE);
                put_text("what it depends on does not answer", &mut out);
            }
        }
        out
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    ///
    /// Bytes that are no error, or one with a number that this version does not know.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const WHAT: &str = "error";
        check_length(bytes.len(), ERROR_BYTES_MAX, WHAT)?;
        let mut reader = Reader::new(bytes);
        let error = match reader.u16(WHAT)? {
            UNKNOWN_CLIENT => Self::UnknownClient,
            REVOKED => Self::Revoked,
            INVITATION_REFUSED => Self::InvitationRefused {
                detail: text(&mut reader)?,
            },
            TICKET_REFUSED => Self::TicketRefused {
                detail: text(&mut reader)?,
            },
            REFUSED => Self::Refused(Refusal::parse(&mut reader)?),
            UPLOAD_REFUSED => Self::UploadRefused(UploadRefusal::parse(&mut reader)?),
            WRONG_BYTES => Self::WrongBytes,
            NOT_HELD => Self::NotHeld {
                what: subject(&mut reader)?,
            },
            DAMAGED => Self::Damaged {
                what: subject(&mut reader)?,
                detail: text(&mut reader)?,
            },
            DISK_FULL => Self::DiskFull {
                detail: text(&mut reader)?,
            },
            UNAVAILABLE => Self::Unavailable {
                detail: text(&mut reader)?,
            },
            BAD_REQUEST => Self::BadRequest {
                detail: text(&mut reader)?,
            },
            BUSY => Self::Busy(Duration::from_millis(reader.u32(WHAT)?.into())),
            _ => return Err(ParseError::Invalid { what: WHAT }),
        };
        reader.finish()?;
        Ok(error)
    }
}

fn put_subject(what: &str, out: &mut Vec<u8>) {
    let number = SUBJECTS.iter().position(|subject| *subject == what);
    out.put_u8(number.and_then(|at| u8::try_from(at).ok()).unwrap_or(0));
}

fn subject(reader: &mut Reader<'_>) -> Result<&'static str, ParseError> {
    const WHAT: &str = "subject of an error";
    SUBJECTS
        .get(usize::from(reader.u8(WHAT)?))
        .copied()
        .ok_or(ParseError::Invalid { what: WHAT })
}

/// Appends as much of a text as is carried, spaces for control characters.
fn put_text(text: &str, out: &mut Vec<u8>) {
    let end = (0..=text.len().min(TEXT_BYTES_MAX))
        .rfind(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    // A control character takes one byte or two, a space never more.
    let clean: String = text[..end]
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    out.put_bytes(clean.as_bytes());
}

fn text(reader: &mut Reader<'_>) -> Result<String, ParseError> {
    const WHAT: &str = "text of an error";
    let text = core::str::from_utf8(reader.bytes(TEXT_BYTES_MAX, WHAT)?)
        .ok()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or(ParseError::Invalid { what: WHAT })?;
    Ok(text.to_owned())
}
