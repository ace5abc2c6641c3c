//! Two homes, two processes, a network between them: the real program over TCP on loopback, with the TLS and the invitations of strangers.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test may panic, and need not be lean"
)]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

mod drills;
mod invitations;
mod job;
mod metrics;
mod mirrors;
mod node;
mod open_files;
mod owner;
mod peers;
mod progress;
mod refusals;
mod stop;
mod tickets;
