//! Standard output, buffered: text or JSON lines, and names that cannot steer a terminal.

use std::{
    borrow::Cow,
    fmt::Write as _,
    io::{self, BufWriter, IsTerminal, Write},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use serde::Serialize;

use super::Far;

/// Standard output while one report is written.
pub(crate) struct Page<'a> {
    out: BufWriter<Box<dyn Write + 'a>>,
    terminal: bool,
}

/// How many bytes are gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;

impl<'a> Page<'a> {
    /// Takes standard output.
    pub(super) fn stdout() -> Self {
        let out = io::stdout().lock();
        let terminal = out.is_terminal();
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, Box::new(out)),
            terminal,
        }
    }

    /// Takes the standard output of another process.
    pub(super) fn far(far: &'a Arc<dyn Far>, terminal: bool) -> Self {
        Self {
            out: BufWriter::with_capacity(BUFFER_BYTES, Box::new(FarWriter(far))),
            terminal,
        }
    }

    /// Writes one object on a line of its own, with its type first.
    pub(crate) fn json(&mut self, message_type: &str, body: &impl Serialize) -> io::Result<()> {
        #[derive(Serialize)]
        struct Message<'a, T> {
            message_type: &'a str,
            #[serde(flatten)]
            body: &'a T,
        }
        let message = Message { message_type, body };
        serde_json::to_writer(&mut self.out, &message)?;
        self.out.write_all(b"\n")
    }

    /// Writes a path: its very bytes to a program, without control characters to a terminal, where a name could steer it.
    pub(crate) fn path(&mut self, path: &Path) -> io::Result<()> {
        if self.terminal {
            self.out.write_all(shown_path(path).as_bytes())
        } else {
            self.out.write_all(path.as_os_str().as_bytes())
        }
    }
}

impl Write for Page<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

struct FarWriter<'a>(&'a Arc<dyn Far>);

impl Write for FarWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let part = bytes.get(..BUFFER_BYTES).unwrap_or(bytes);
        self.0.write(part)?;
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns a path with every control character spelt out.
pub(crate) fn shown_path(path: &Path) -> Cow<'_, str> {
    let text = path.to_string_lossy();
    if !text.contains(char::is_control) {
        return text;
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Returns bytes in lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_a_terminal() {
        let name = Path::new("a\u{1b}]0;owned\u{7}b\nc");
        assert_eq!(shown_path(name), "a\\u{1b}]0;owned\\u{7}b\\nc");
        assert_eq!(shown_path(Path::new("naïve")), "naïve");
    }
}
