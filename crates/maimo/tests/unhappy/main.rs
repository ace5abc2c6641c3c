//! What a person meets on a bad day, through the real program: each path ends with the exit code of the contract and a word that helps, and nothing
//! that was acknowledged is lost by it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may panic and say why"
)]

#[path = "../support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;

mod away;
mod damage;
mod home;
mod sources;
mod together;
