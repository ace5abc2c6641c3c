//! The end of the socket that a command has.

use std::{
    cell::{Cell, RefCell},
    io::{self, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maimo_client::progress::Control;

use super::{
    Request,
    frame::{self, FRAME_BYTES_MAX, Kind, REQUEST_BYTES_MAX, Told},
};
use crate::{
    commands::Command,
    context::Context,
    control::{astray, short},
    error::{CommandError, Exit},
    signals,
    ui::{Progress, Tor},
};

/// How often it is looked whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a node may take to say that it is here.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns whether a process has the socket at `path`: a node that runs, or one that just ends.
pub(crate) fn is_served(path: &Path) -> bool {
    connect(path).is_some()
}

/// Returns whether a node answers at `path`: it runs, and goes on.
pub(crate) fn answers(path: &Path) -> bool {
    let asked = |mut stream: UnixStream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        frame::write(&mut stream, Kind::Stop, &[])?;
        frame::read(&mut stream, FRAME_BYTES_MAX, &|| false)
    };
    connect(path).is_some_and(|stream| matches!(asked(stream), Ok(Some(_))))
}

/// Has a command done by the node that serves the socket at `path`, and writes its outputs; nothing where no node does, or the one that did
/// ended before it began.
///
/// # Errors
///
/// How the command ended there, or that the node went away.
pub(crate) fn relay(
    path: &Path,
    command: &Command,
    ctx: &Context,
) -> Option<Result<(), CommandError>> {
    let stream = connect(path)?;
    let mut is_heard = false;
    match exchange(stream, command, ctx, &mut is_heard) {
        Ok(ended) => Some(ended),
        Err(_) if !is_heard => None,
        Err(error) => Some(Err(away(&error))),
    }
}

fn connect(path: &Path) -> Option<UnixStream> {
    let connected = short(path).and_then(|(at, _folder)| UnixStream::connect(at));
    connected.ok()
}

fn away(error: &io::Error) -> CommandError {
    let message = format!("the node that runs here does not answer: {error}");
    CommandError::new(Exit::Failed, "local_io", message)
        .hint("see its log; what was acknowledged is stored, and the rest is finished by running it again")
}

fn interrupted() -> CommandError {
    CommandError::new(Exit::Interrupted, "interrupted", "interrupted")
        .hint("what was cut off is finished by running it again")
}

/// The outer error is the connection's, the inner one the command's.
fn exchange(
    mut stream: UnixStream,
    command: &Command,
    ctx: &Context,
    is_heard: &mut bool,
) -> io::Result<Result<(), CommandError>> {
    let request = Request::encode(command, ctx)?;
    if request.len() > REQUEST_BYTES_MAX {
        return Ok(Err(CommandError::usage("the command line is too long")));
    }
    // From here on an interrupt ends the command, and nothing else of the node.
    let interrupt = Control::default();
    signals::cancel_on_interrupt(&interrupt);
    frame::write(&mut stream, Kind::Request, &request)?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let stops = RefCell::new(stream.try_clone()?);
    let has_asked = Cell::new(false);
    let shown: RefCell<Option<Progress>> = RefCell::new(None);
    let goes_on = || {
        if !interrupt.is_cancelled() {
            return true;
        }
        if !has_asked.replace(true) {
            // A node that is gone is told apart by the next read.
            let _ = frame::write(&mut *stops.borrow_mut(), Kind::Stop, &[]);
        }
        // What is not long under way has no place to stop at.
        shown.borrow().is_some()
    };
    let circuits = Arc::<AtomicUsize>::default();
    loop {
        if !goes_on() {
            return Ok(Err(interrupted()));
        }
        let (kind, bytes) = match frame::read(&mut stream, FRAME_BYTES_MAX, &goes_on) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(_) if interrupt.is_cancelled() => return Ok(Err(interrupted())),
            Err(error) => return Err(error),
        };
        *is_heard = true;
        match kind {
            Kind::Bytes => {
                if let Err(error) = io::stdout().lock().write_all(&bytes) {
                    return Ok(Err(error.into()));
                }
            }
            Kind::Line => {
                let text = String::from_utf8_lossy(&bytes);
                match &*shown.borrow() {
                    Some(progress) => progress.line(&ctx.ui, &text),
                    None => ctx.ui.line(&text),
                }
            }
            Kind::Told => match serde_json::from_slice(&bytes) {
                Ok(Told::Begin(beside_bytes)) => {
                    let progress = if beside_bytes {
                        ctx.ui.progress_beside_bytes()
                    } else {
                        ctx.ui.progress()
                    };
                    *shown.borrow_mut() = Some(progress);
                }
                Ok(Told::Stop) => drop(shown.borrow_mut().take()),
                Ok(Told::Link(tor, open)) => {
                    if let Some(open) = open {
                        circuits.store(open, Ordering::Relaxed);
                        let counts = Arc::clone(&circuits);
                        let link = ctx.ui.link();
                        link.watch_circuits(move || counts.load(Ordering::Relaxed));
                    }
                    let link = ctx.ui.link();
                    // A node that does not use Tor is never on its way there.
                    if tor.is_some() || link.connecting().is_some() {
                        link.tor(Tor {
                            percent: tor.unwrap_or(100),
                            trouble: None,
                        });
                    }
                }
                Ok(Told::End(error)) => {
                    drop(shown.borrow_mut().take());
                    let flushed = io::stdout().lock().flush();
                    return Ok(match error {
                        Some(error) => Err(error.into_error()),
                        None => flushed.map_err(CommandError::from),
                    });
                }
                Ok(told) => {
                    if let Some(progress) = &*shown.borrow() {
                        for event in frame::events_of(told) {
                            progress.control().tell(event);
                        }
                    }
                }
                Err(_) => return Ok(Err(astray())),
            },
            Kind::Request | Kind::Stop => return Ok(Err(astray())),
        }
    }
}
