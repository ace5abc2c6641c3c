//! What a person meets on a bad day, through the real program: each path ends with the exit code of the contract and a word that helps, and nothing
//! that was acknowledged is lost by it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::items_after_statements,
    reason = "a test may panic, and say why; its numbers are small"
)]

#[path = "../support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;

mod away;
mod damage;
mod healing;
mod home;
mod rollback;
mod sources;
mod tickets;
mod together;
