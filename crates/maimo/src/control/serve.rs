//! The end of the control socket that has the provider.

use std::{
    fs,
    io::{self, BufReader, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use maimo_provider::provider::Provider;

use super::{
    REQUEST_BYTES_MAX, perform, read_line,
    request::{Answer, Line, Request, StatusRow},
    short,
};
use crate::error::{CommandError, ErrorText, Exit};

/// How many commands are served at a time.
const COMMANDS_MAX: usize = 16;
/// How long a command may take to say what it wants, and to take in a line.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// A control socket that is being served; dropped, it stops what it was asked to do, and the socket goes.
pub(crate) struct Served {
    path: PathBuf,
    is_over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// Counts the connections of clients that are open.
pub(crate) type CountConnections = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What commands are answered from.
struct Node {
    provider: Provider,
    connections: Option<CountConnections>,
}

/// Serves the owner's commands for `provider` at `path`, on threads of its own; `connections` where clients come in. The caller has the provider's home, so a socket that is there
/// is one that a killed process left.
///
/// # Errors
///
/// The socket cannot be made.
pub(crate) fn serve(
    provider: Provider,
    path: &Path,
    connections: Option<CountConnections>,
) -> io::Result<Served> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (at, _folder) = short(path)?;
    let listener = UnixListener::bind(&at)?;
    // Until here the mode of the home, 0700, kept others away.
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let is_over = Arc::new(AtomicBool::new(false));
    let accepting = thread::Builder::new().name("control".to_owned()).spawn({
        let is_over = Arc::clone(&is_over);
        let node = Arc::new(Node {
            provider,
            connections,
        });
        move || accept(&listener, &node, &is_over)
    })?;
    Ok(Served {
        path: path.to_owned(),
        is_over,
        accepting: Some(accepting),
    })
}

impl Drop for Served {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for the next command.
        let woken = short(&self.path).and_then(|(at, _folder)| UnixStream::connect(at));
        let _ = fs::remove_file(&self.path);
        // Where it cannot be woken, it is left to the end of the process.
        if let (Some(accepting), Ok(_)) = (self.accepting.take(), woken) {
            let _ = accepting.join();
        }
    }
}

fn accept(listener: &UnixListener, node: &Arc<Node>, is_over: &Arc<AtomicBool>) {
    let mut commands: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((stream, _)) = listener.accept() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        commands.retain(|command| !command.is_finished());
        if commands.len() >= COMMANDS_MAX {
            // Closed without a word: the other end says that nobody answered.
            continue;
        }
        let (node, is_over) = (Arc::clone(node), Arc::clone(is_over));
        let answering = thread::Builder::new()
            .name("command".to_owned())
            // Whoever asked and is gone cannot be told.
            .spawn(move || drop(answer(stream, &node, &is_over)));
        commands.extend(answering.ok());
    }
    for command in commands {
        let _ = command.join();
    }
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
        let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
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
        Ok(request) => perform(&node.provider, request, &progress),
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
