//! The upkeep of a node that runs: real processes, real folders, a folder as provider. No network is used.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

mod node;
mod troubles;
mod watched;
