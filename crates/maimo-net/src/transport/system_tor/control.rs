//! A connection to the control port of a tor (control-spec): one command at a time, each with its reply.

use core::{fmt, net::SocketAddr};
use std::{io, path::PathBuf};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpStream, UnixStream},
};

use super::{
    HINT_RUNNING, describe,
    reply::{LINE_BYTES_MAX, Reply, ReplyReader},
};
use crate::transport::{BoxedStream, TransportError};

/// Where a control port is: on this machine, for what is said there is not encrypted.
#[derive(Clone, PartialEq, Eq)]
pub enum ControlAddress {
    /// A port on loopback; any other address is refused.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Debug for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ControlAddress(..)")
    }
}

impl ControlAddress {
    pub(super) async fn connect(&self) -> Result<ControlConnection, TransportError> {
        let failed = |error: io::Error| TransportError::Tor {
            detail: format!("its control port cannot be reached: {}", describe(&error)),
            hint: HINT_RUNNING,
        };
        let stream: BoxedStream = match self {
            Self::Tcp(address) if !address.ip().is_loopback() => {
                return Err(TransportError::Tor {
                    detail: "its control port is not on this machine".to_owned(),
                    hint: "our key would cross a network in clear: set a control port on loopback",
                });
            }
            Self::Tcp(address) => Box::new(TcpStream::connect(address).await.map_err(failed)?),
            Self::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(failed)?),
        };
        Ok(ControlConnection::new(stream))
    }
}

/// A connection to a control port, on which one command waits for its reply before the next.
pub(super) struct ControlConnection {
    stream: BufReader<BoxedStream>,
}

impl ControlConnection {
    pub(super) fn new(stream: BoxedStream) -> Self {
        Self {
            stream: BufReader::new(stream),
        }
    }

    /// Sends a line, its end aside, and returns the reply, whatever its status.
    pub(super) async fn ask(&mut self, line: &[u8]) -> Result<Reply, TransportError> {
        // A line end in it would be a second command.
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
            return Err(broken("a command cannot have a line end in it"));
        }
        self.stream.write_all(line).await.map_err(lost)?;
        self.stream.write_all(b"\r\n").await.map_err(lost)?;
        self.stream.flush().await.map_err(lost)?;
        loop {
            let reply = self.reply().await?;
            if reply.status != Reply::EVENT {
                return Ok(reply);
            }
        }
    }

    /// Sends a line and returns what is replied if all went well.
    pub(super) async fn command(
        &mut self,
        name: &'static str,
        line: &[u8],
    ) -> Result<Reply, TransportError> {
        let reply = self.ask(line).await?;
        if reply.status == Reply::OK {
            return Ok(reply);
        }
        // Its text may repeat the command, secrets and all.
        Err(TransportError::Tor {
            detail: format!("it refuses {name} with status {}", reply.status),
            hint: "tor's own log says why",
        })
    }

    /// Waits for the connection's end.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may have lost part of what tor said without being asked; nothing else.
    pub(super) async fn closed(&mut self) -> TransportError {
        loop {
            match self.reply().await {
                Ok(reply) if reply.status == Reply::EVENT => {}
                Ok(_) => return broken("it answers what was not asked"),
                Err(error) => return error,
            }
        }
    }

    async fn reply(&mut self) -> Result<Reply, TransportError> {
        let mut reader = ReplyReader::default();
        loop {
            let mut line = Vec::new();
            let limit = u64::try_from(LINE_BYTES_MAX).expect("a small number");
            (&mut self.stream)
                .take(limit)
                .read_until(b'\n', &mut line)
                .await
                .map_err(lost)?;
            let Some(whole) = line.strip_suffix(b"\n") else {
                return Err(if line.len() == LINE_BYTES_MAX {
                    broken("a line is too long")
                } else {
                    lost(io::ErrorKind::UnexpectedEof.into())
                });
            };
            let whole = whole.strip_suffix(b"\r").unwrap_or(whole);
            match reader.push(whole) {
                Ok(None) => {}
                Ok(Some(reply)) => return Ok(reply),
                Err(bad) => return Err(broken(&bad.to_string())),
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn lost(error: io::Error) -> TransportError {
    TransportError::Tor {
        detail: format!("its control port went away: {}", describe(&error)),
        hint: HINT_RUNNING,
    }
}

/// What listens there does not speak as a control port does.
pub(super) fn broken(what: &str) -> TransportError {
    TransportError::Tor {
        detail: format!("its control port cannot be understood: {what}"),
        hint: HINT_RUNNING,
    }
}
