//! The program as scripts and people meet it: the real binary, its exit codes, its JSON, its help, its configuration.

#![allow(
    clippy::unwrap_used,
    clippy::format_push_string,
    reason = "a test may panic, and need not be lean"
)]

mod channel;
mod configuration;
mod demo;
mod domains;
mod files;
mod help;
mod node;
mod provider;
#[allow(dead_code, reason = "other tests use the rest")]
mod support;
mod usage;
