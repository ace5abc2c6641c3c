//! The end of the control socket that asks.

use std::{
    io::{self, BufReader, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use super::{
    ANSWER_BYTES_MAX, Answer, Request, read_line,
    request::{Line, astray},
    short,
};
use crate::error::{CommandError, Exit};

/// How often it is looked whether the user wants to stop.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Sends a request to the process that serves the socket at `path`, and waits for its answer; nothing where nobody serves it, or whoever did
/// ended before it was performed. `progress` hears how much of how much is done, and stops it by returning false.
///
/// # Errors
///
/// What the other process answers, or that it went away.
pub(crate) fn ask(
    path: &Path,
    request: &Request,
    progress: &dyn Fn(Option<(u64, u64)>) -> bool,
) -> Result<Option<Answer>, CommandError> {
    let connected = short(path).and_then(|(at, _folder)| UnixStream::connect(at));
    let Ok(stream) = connected else {
        return Ok(None);
    };
    let mut is_heard = false;
    let exchanged = exchange(stream, request, progress, &mut is_heard);
    let wanted = match exchanged {
        Ok(wanted) => wanted,
        Err(_) if !is_heard && progress(None) => return Ok(None),
        Err(error) => return Err(failed(&error, progress)),
    };
    wanted.map(Some)
}

fn failed(error: &io::Error, progress: &dyn Fn(Option<(u64, u64)>) -> bool) -> CommandError {
    if !progress(None) {
        return CommandError::new(Exit::Interrupted, "interrupted", "interrupted")
            .hint("what was cut off is finished by running it again");
    }
    let message = format!("the node that runs here does not answer: {error}");
    CommandError::new(Exit::Failed, "local_io", message)
        .hint("see its log; what was asked may have been done")
}

fn exchange(
    mut stream: UnixStream,
    request: &Request,
    progress: &dyn Fn(Option<(u64, u64)>) -> bool,
    is_heard: &mut bool,
) -> io::Result<Result<Answer, CommandError>> {
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let mut reader = BufReader::new(stream);
    loop {
        let line = read_line(&mut reader, ANSWER_BYTES_MAX, &|| progress(None))?;
        let Ok(line) = serde_json::from_slice(&line) else {
            return Ok(Err(astray()));
        };
        *is_heard = true;
        match line {
            Line::Heard => {}
            Line::Progress(done, total) => {
                if !progress(Some((done, total))) {
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            Line::Answer(answer) => return Ok(Ok(answer)),
            Line::Error(told) => return Ok(Err(told.into_error())),
        }
    }
}
