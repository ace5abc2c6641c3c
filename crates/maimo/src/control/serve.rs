//! The end of the control socket that has the provider.

use std::{
    io::{self, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use maimo_provider::provider::Provider;

use super::{
    REQUEST_BYTES_MAX,
    listen::Served,
    listen::listen,
    perform, read_line,
    request::{Answer, Line, Request, StatusRow},
};
use crate::error::{CommandError, ErrorText, Exit};

/// How many commands are served at a time.
const COMMANDS_MAX: usize = 16;
/// How long a command may take to say what it wants, and to take in a line.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Counts the connections of clients that are open.
pub(crate) type CountConnections = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What commands are answered from.
struct Node {
    provider: Provider,
    connections: Option<CountConnections>,
}

/// Serves the owner's commands for `provider` at `path`, on threads of its own; `connections` where clients come in. The caller has the
/// provider's home.
///
/// # Errors
///
/// The socket cannot be made.
pub(crate) fn serve(
    provider: Provider,
    path: &Path,
    connections: Option<CountConnections>,
) -> io::Result<Served> {
    let node = Node {
        provider,
        connections,
    };
    // Whoever asked and is gone cannot be told.
    listen(path, COMMANDS_MAX, move |stream, is_over| {
        drop(answer(stream, &node, is_over));
    })
}

fn answer(stream: UnixStream, node: &Node, is_over: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let line = read_line(&mut reader, REQUEST_BYTES_MAX, &|| false)?;
    let out = Mutex::new(Out {
        stream,
        told: Instant::now(),
    });
    let progress = |done, total| {
        let mut out = lock(&out);
        if is_over.load(Ordering::Relaxed) {
            return false;
        }
        if out.told.elapsed() < PROGRESS_EVERY {
            return true;
        }
        out.told = Instant::now();
        // Who does not read any more does not want it any more.
        out.send(&Line::Progress(done, total)).is_ok()
    };
    let answered = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => {
            lock(&out).send(&Line::Heard)?;
            perform(&node.provider, request, &progress)
        }
        Err(_) => Err(CommandError::new(
            Exit::Failed,
            "bug",
            "the node that runs here does not know this request",
        )
        .hint("is it of another version of Maimo? start it again")),
    };
    let line = match answered {
        Ok(Answer::Status(row)) => Line::Answer(Answer::Status(StatusRow {
            connections: node.connections.as_ref().map(|count| count()),
            ..row
        })),
        Ok(answer) => Line::Answer(answer),
        Err(error) => Line::Error(ErrorText::of(&error)),
    };
    let mut out = out.into_inner().unwrap_or_else(PoisonError::into_inner);
    out.send(&line)
}

fn lock(out: &Mutex<Out>) -> MutexGuard<'_, Out> {
    out.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where lines go, and when the last one went.
struct Out {
    stream: UnixStream,
    told: Instant,
}

impl Out {
    fn send(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.stream.write_all(&bytes)
    }
}
