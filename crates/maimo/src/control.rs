//! The control socket: the owner's commands for a provider that another process has open.
//!
//! One process at a time has a provider's home. While that is `maimo start`, the owner's commands are sent there; else they are performed right
//! here. It is the same [`Request`] and the same [`perform()`] either way, so that nothing works in one case only.
//!
//! ```text
//!   command --{"client-list":{}}------------------->  start
//!           <--{"progress":[3,17]} ... {"answer":..}--
//! ```
//!
//! Lines of JSON over a Unix socket in the provider's home, of mode 0600 in a folder of mode 0700: whoever may open it may also read the
//! provider's keys, so nothing more is asked of them. Lines are bounded all the same: a mistake must not fill memory.

mod ask;
mod listen;
mod perform;
mod request;
mod serve;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, BufRead},
    path::{Path, PathBuf},
};

pub(crate) use self::{
    ask::ask,
    listen::{Served, listen},
    perform::perform,
    request::{
        Answer, ClientRow, FaceRow, GraceText, InvitationRow, InviteArgs, Network, PathBytes,
        Request, ScrubRow, astray,
    },
    serve::{CountConnections, serve},
};

/// The socket's name in a provider's home.
const NAME: &str = "socket";
/// The longest request, in bytes.
const REQUEST_BYTES_MAX: u64 = 64 * 1024;
/// The longest answer, in bytes: some ten thousand clients.
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The longest path of a socket that every system takes.
const SOCKET_PATH_MAX: usize = 100;

/// Returns where the socket of a provider's home is.
pub(crate) fn socket_of(provider_home: &Path) -> PathBuf {
    provider_home.join(NAME)
}

/// Returns a path for the system call: a socket's address is short, and homes may be deep. The file keeps the way to it open.
pub(crate) fn short(path: &Path) -> io::Result<(PathBuf, Option<File>)> {
    use std::os::fd::AsRawFd;
    if path.as_os_str().len() <= SOCKET_PATH_MAX || !cfg!(target_os = "linux") {
        return Ok((path.to_owned(), None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    let by_number = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
    Ok((by_number.join(name), Some(folder)))
}

/// Reads a line of at most so many bytes, without its end. Goes on where a timeout interrupted it, as long as `goes_on` says so.
fn read_line(
    reader: &mut impl BufRead,
    bytes_max: u64,
    goes_on: &dyn Fn() -> bool,
) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        let left = bytes_max.saturating_sub(line.len() as u64);
        let read = io::Read::take(&mut *reader, left).read_until(b'\n', &mut line);
        if line.last() == Some(&b'\n') {
            line.pop();
            return Ok(line);
        }
        match read {
            Err(error) if is_timeout(&error) && goes_on() => {}
            Err(error) => return Err(error),
            // Too long, or cut off.
            Ok(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Returns whether a read ended because its time was over; the two kinds of systems call it by two names.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}
