//! Commands for a store that another process has open: `maimo start` owns it, and does what the commands of its owner ask.
//!
//! What is sent is the command as it was parsed, with the folder it was called in and how its outputs are used. The node runs the very same
//! code, writes to the command's outputs through the connection, and says how it ended; so a command does the same with a node and without.
//!
//! ```text
//!   command --request-------------------------------------------> node
//!           <--bytes of stdout, lines of stderr, progress, end----
//!           --stop it (or gone)--------------------------------->
//! ```
//!
//! A Unix socket in the client's home, of mode 0600 in a folder of mode 0700: whoever may open it may read the store's key as well. Frames are
//! bounded on both sides. What is secret (words, an invitation) goes through the socket and into no log.

mod ask;
pub(crate) mod form;
mod frame;
mod request;
mod serve;

use std::path::{Path, PathBuf};

pub(crate) use self::{
    ask::{answers, is_served, relay},
    request::Request,
    serve::{Host, serve},
};

/// The socket's name in a client's home.
const NAME: &str = "socket";

/// Returns where the socket of a client's home is.
pub(crate) fn socket_of(home: &Path) -> PathBuf {
    home.join(NAME)
}
