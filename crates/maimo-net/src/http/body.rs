//! Bodies: bytes of a length that is announced, checked and counted.

use core::future::poll_fn;

use bytes::{Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, header::CONTENT_LENGTH};

use crate::http::pace::{Pace, TooSlow};

/// Why there is no body.
#[derive(Debug)]
pub(crate) enum BodyError {
    /// The other end does not say how long it is, or says so twice.
    Unannounced,
    /// It is longer than it may be.
    TooLong,
    /// It ended before, or went on after, the length it announced.
    WrongLength,
    /// It did not move along.
    TooSlow,
    /// The connection or the call broke off.
    Lost(h2::Error),
}

impl From<TooSlow> for BodyError {
    fn from(_: TooSlow) -> Self {
        Self::TooSlow
    }
}

impl From<h2::Error> for BodyError {
    fn from(error: h2::Error) -> Self {
        Self::Lost(error)
    }
}

/// Returns the length that headers announce, if it is no more than `max` bytes.
pub(crate) fn announced(headers: &HeaderMap, max: u64) -> Result<u64, BodyError> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(BodyError::Unannounced);
    };
    let digits = value.as_bytes();
    // No sign, no blanks, which parsing a number would let pass.
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(BodyError::Unannounced);
    }
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    match length {
        Some(length) if length <= max => Ok(length),
        Some(_) => Err(BodyError::TooLong),
        None => Err(BodyError::Unannounced),
    }
}

/// How much is kept room for before any of it came in.
const FIRST_BYTES: u64 = 64 * 1024;

/// Receives a body of exactly the length announced. What was read is no longer charged to the windows: who calls answers for `length` bytes.
pub(crate) async fn receive(body: &mut RecvStream, length: u64) -> Result<Bytes, BodyError> {
    let mut pace = Pace::of(length);
    let length = usize::try_from(length).map_err(|_| BodyError::WrongLength)?;
    let first = length.min(usize::try_from(FIRST_BYTES).unwrap_or(usize::MAX));
    let mut all = BytesMut::new();
    while all.len() < length {
        let Some(piece) = pace.wait(poll_fn(|cx| body.poll_data(cx))).await? else {
            return Err(BodyError::WrongLength);
        };
        let piece = piece?;
        pace.moved(piece.len());
        body.flow_control().release_capacity(piece.len())?;
        if piece.len() > length - all.len() {
            return Err(BodyError::WrongLength);
        }
        if all.is_empty() && piece.len() == length {
            // A small body came in one piece. It is copied all the same: the piece keeps the connection's whole buffer in memory.
            return Ok(Bytes::copy_from_slice(&piece));
        }
        if all.len() + piece.len() > all.capacity() {
            // No more room than twice what came in, and never more than was announced.
            let room = (2 * all.len()).max(first).max(all.len() + piece.len());
            let mut larger = BytesMut::with_capacity(room.min(length));
            larger.extend_from_slice(&all);
            all = larger;
        }
        all.extend_from_slice(&piece);
    }
    Ok(all.freeze())
}

/// A body to be sent, in parts, so that long ones are not copied.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts(Vec<Bytes>);

impl Parts {
    /// Returns how long it is, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// Returns it as pieces of which at most every second one is short: a frame for each short part would look like a flood.
    fn pieces(self) -> impl Iterator<Item = Bytes> {
        let mut parts = self.0.into_iter().peekable();
        std::iter::from_fn(move || {
            let first = parts.find(|part| !part.is_empty())?;
            let mut total = first.len();
            let joins = |next: &Bytes| {
                total += next.len();
                total <= PIECE_BYTES
            };
            let mut joins = joins;
            let Some(second) = parts.next_if(&mut joins) else {
                return Some(first);
            };
            let mut joined = BytesMut::with_capacity(PIECE_BYTES);
            joined.extend_from_slice(&first);
            joined.extend_from_slice(&second);
            while let Some(part) = parts.next_if(&mut joins) {
                joined.extend_from_slice(&part);
            }
            Some(joined.freeze())
        })
    }
}

/// Up to how many bytes short parts are joined.
const PIECE_BYTES: usize = 16 * 1024;

impl From<Vec<Bytes>> for Parts {
    fn from(parts: Vec<Bytes>) -> Self {
        Self(parts)
    }
}

impl From<Bytes> for Parts {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl From<Vec<u8>> for Parts {
    fn from(bytes: Vec<u8>) -> Self {
        Self(vec![bytes.into()])
    }
}

/// Sends all of a body, if it is not empty, and ends it. Returns once all of it was handed over, at most [`super::SEND_BUFFER_BYTES`] of it still
/// on their way out.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, body: Parts) -> Result<(), BodyError> {
    let mut pace = Pace::of(body.length());
    let mut pieces = body.pieces().peekable();
    while let Some(mut piece) = pieces.next() {
        while !piece.is_empty() {
            stream.reserve_capacity(piece.len());
            let capacity = match pace.wait(poll_fn(|cx| stream.poll_capacity(cx))).await? {
                Some(capacity) => capacity?,
                None => return Err(BodyError::WrongLength),
            };
            let now = piece.split_to(capacity.min(piece.len()));
            pace.moved(now.len());
            if !now.is_empty() {
                stream.send_data(now, piece.is_empty() && pieces.peek().is_none())?;
            }
        }
    }
    Ok(())
}
