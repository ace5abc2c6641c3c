//! Replies of a control port (control-spec §2.3), from lines: a status, and what was said, one piece a line.
//!
//! What listens there may be anything: lines, pieces and bytes are bounded before they are kept.

use thiserror::Error;

/// The longest line taken, its end included. The longest that tor sends to us names a file.
pub(super) const LINE_BYTES_MAX: usize = 16 * 1024;
/// How many lines a reply may have.
const LINES_MAX: usize = 256;
/// How many bytes all of a reply may have.
const REPLY_BYTES_MAX: usize = 64 * 1024;

/// What the control port answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// 250 where all went well.
    pub status: u16,
    /// What followed the status, line by line; lines of data as they are.
    pub lines: Vec<Vec<u8>>,
}

impl Reply {
    pub(super) const OK: u16 = 250;
    /// Said without being asked.
    pub(super) const EVENT: u16 = 650;
}

/// Why bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(super) enum BadReply {
    #[error("a line does not begin with a status")]
    Status,
    #[error("the lines of a reply differ in status")]
    MixedStatus,
    #[error("a reply is too long")]
    TooLong,
}

/// Puts lines together to a reply.
#[derive(Debug, Default)]
pub(super) struct ReplyReader {
    status: Option<u16>,
    lines: Vec<Vec<u8>>,
    bytes: usize,
    in_data: bool,
}

impl ReplyReader {
    /// Takes a line, without its end; returns the reply that it completes.
    pub(super) fn push(&mut self, line: &[u8]) -> Result<Option<Reply>, BadReply> {
        self.bytes += line.len();
        if self.bytes > REPLY_BYTES_MAX || self.lines.len() >= LINES_MAX {
            return Err(BadReply::TooLong);
        }
        if self.in_data {
            // A line of one dot ends the data; a dot that is said has another before it.
            match line {
                b"." => self.in_data = false,
                [b'.', rest @ ..] => self.lines.push(rest.to_vec()),
                _ => self.lines.push(line.to_vec()),
            }
            return Ok(None);
        }
        let (status, separator, rest) = split(line).ok_or(BadReply::Status)?;
        if *self.status.get_or_insert(status) != status {
            return Err(BadReply::MixedStatus);
        }
        self.lines.push(rest.to_vec());
        match separator {
            b' ' => {
                let done = core::mem::take(self);
                return Ok(Some(Reply {
                    status,
                    lines: done.lines,
                }));
            }
            b'+' => self.in_data = true,
            _ => {}
        }
        Ok(None)
    }
}

/// Splits a line into status, separator and the rest.
fn split(line: &[u8]) -> Option<(u16, u8, &[u8])> {
    let [a, b, c, separator @ (b' ' | b'-' | b'+'), rest @ ..] = line else {
        return None;
    };
    let mut status = 0;
    for digit in [a, b, c] {
        if !digit.is_ascii_digit() {
            return None;
        }
        status = status * 10 + u16::from(digit - b'0');
    }
    Some((status, *separator, rest))
}

/// Reads a quoted string (control-spec §2.1.1, and the octal escapes that tor writes) at the begin of `text`; returns it and what follows.
pub(super) fn unquote(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut found = Vec::new();
    loop {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        match byte {
            b'"' => return Some((found, rest)),
            b'\\' => {
                let (&escaped, after) = rest.split_first()?;
                rest = after;
                found.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'0'..=b'7' => {
                        let (value, after) = octal(escaped, rest)?;
                        rest = after;
                        value
                    }
                    other => other,
                });
            }
            other => found.push(other),
        }
    }
}

/// Reads up to two octal digits more.
fn octal(first: u8, mut rest: &[u8]) -> Option<(u8, &[u8])> {
    let mut value = u16::from(first - b'0');
    for _ in 0..2 {
        let Some((digit @ b'0'..=b'7', after)) = rest.split_first() else {
            break;
        };
        value = value * 8 + u16::from(digit - b'0');
        rest = after;
    }
    Some((u8::try_from(value).ok()?, rest))
}

/// Writes a quoted string.
pub(super) fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(*byte);
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> Result<Option<Reply>, BadReply> {
        let mut reader = ReplyReader::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(reply) = reader.push(line)? {
                return Ok(Some(reply));
            }
        }
        Ok(None)
    }

    fn reply(status: u16, lines: &[&str]) -> Reply {
        let lines = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
        Reply { status, lines }
    }

    #[test]
    fn replies_of_all_shapes_are_read() {
        assert_eq!(read(b"250 OK"), Ok(Some(reply(250, &["OK"]))));
        assert_eq!(read(b"250 "), Ok(Some(reply(250, &[""]))));
        assert_eq!(
            read(b"515 Authentication failed: wrong"),
            Ok(Some(reply(515, &["Authentication failed: wrong"])))
        );
        assert_eq!(
            read(b"250-ServiceID=abc\n250 OK"),
            Ok(Some(reply(250, &["ServiceID=abc", "OK"])))
        );
        assert_eq!(
            read(b"250+circuit-status=\n1 BUILT\n..dots\n.\n250 OK"),
            Ok(Some(reply(
                250,
                &["circuit-status=", "1 BUILT", ".dots", "OK"]
            )))
        );
        assert_eq!(read(b"250-more\n250+data\n250 OK"), Ok(None));
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for text in [
            &b""[..],
            b"25",
            b"250",
            b"250_OK",
            b"2x0 OK",
            b"HTTP/1.0 400",
        ] {
            assert_eq!(read(text), Err(BadReply::Status), "{text:?}");
        }
        assert_eq!(read(b"250-a\n251 b"), Err(BadReply::MixedStatus));
    }

    #[test]
    fn a_reply_without_end_is_refused_before_it_fills_memory() {
        let mut reader = ReplyReader::default();
        let refused = (0..=LINES_MAX)
            .map(|_| reader.push(b"250-"))
            .find(Result::is_err);
        assert_eq!(refused, Some(Err(BadReply::TooLong)));
        assert_eq!(reader.lines.len(), LINES_MAX);

        let mut reader = ReplyReader::default();
        let line = [b"250-".to_vec(), vec![b'x'; LINE_BYTES_MAX - 4]].concat();
        let pushed: Vec<_> = (0..5).map(|_| reader.push(&line)).collect();
        assert_eq!(pushed[3], Ok(None));
        assert_eq!(pushed[4], Err(BadReply::TooLong));
    }

    #[test]
    fn quoted_strings_are_read_to_their_end_and_no_further() {
        let read = |text| unquote(text).map(|(found, rest)| (found, rest.to_vec()));
        let found = |text: &[u8], rest: &[u8]| Some((text.to_vec(), rest.to_vec()));
        assert_eq!(read(br#""/run/tor" x"#), found(b"/run/tor", b" x"));
        assert_eq!(
            read(br#""a\"b\\c\n\303\244\0""#),
            found(b"a\"b\\c\n\xc3\xa4\0", b"")
        );
        for text in [&br#""open"#[..], b"none", br#""\"#, br#""\777""#, b""] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&text);
            let _ = unquote(&text);
        }

        #[test]
        fn what_is_quoted_is_read_again(text in proptest::collection::vec(any::<u8>(), 0..50)) {
            let mut quoted = Vec::new();
            quote(&text, &mut quoted);
            prop_assert_eq!(unquote(&quoted), Some((text, &b""[..])));
        }
    }
}
