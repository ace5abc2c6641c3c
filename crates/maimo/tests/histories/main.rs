//! Two machines of one store, a provider, and bad luck: real processes over TCP, each of which is killed now and then in the middle of its work.
//!
//! A seed draws a history: what its user edits, which commands run, at the same time or not, and who is killed when. The [`book::Book`] knows what
//! must be had of each machine's files, whatever happened; at the end of a history all of it is retrieved, by either machine and by a third that
//! has nothing but the words, and compared. `MAIMO_HISTORIES` sets how many (6 unless set; 1,000 is what a release is tried with), `MAIMO_SEED`
//! the first; one that failed says its seed and all that was done, and leaves its folders.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::format_push_string,
    reason = "a test may panic, and say why; its numbers are small"
)]

#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod support;

#[path = "../network/node.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod node;

#[path = "../support/rig.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod rig;

mod book;
mod device;
mod play;

use play::{Scene, histories};

#[test]
fn two_machines_and_a_provider_that_are_killed_lose_nothing_acknowledged() {
    histories(6, &mut || Scene::over_tcp());
}
