//! A tor daemon of the system: out by its SOCKS port, in by its control port.
//!
//! [`SystemTor`] is the way out, to onion services and nothing else: names go to tor as they are, and no name server hears of them.
//! [`OnionService`] is the way in: tor is handed the key of our address, which only locates, and brings the streams to a port on loopback.
//!
//! Invariant: no socket is opened to anything but the two ports of the daemon.

mod auth;
mod control;
mod reply;
mod service;
mod socks;

pub use auth::ControlSecret;
pub use control::ControlAddress;
pub use service::OnionService;
pub use socks::{DIAL_TIMEOUT, SystemTor};

use std::io;

const HINT_RUNNING: &str =
    "is tor running, with the SOCKS and control ports that the configuration names?";

/// Says what went wrong without the system's own text, which may name files and addresses.
fn describe(error: &io::Error) -> String {
    error.kind().to_string()
}
