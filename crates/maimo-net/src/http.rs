//! HTTP/2 connections, the client's end and the provider's: calls as bodies of known length, both ways.
//!
//! A call is a `POST` with a body and its answer's body. Nothing here knows what they mean. Whoever is at the other end is taken to be hostile:
//!
//! - a body announces its length, which is held to the call's maximum before a byte of it is kept, and to what then comes (`body`);
//! - a body has to move along (`pace`), the other end to give signs of life (`keep_alive`);
//! - frames that carry nothing are counted (`meter`), headers, frames and calls at a time are few;
//! - windows begin small and grow under a budget that all connections share (`windows`).
//!
//! Invariant: what one connection holds in memory is bounded by its windows and by the bodies that were admitted.

pub(crate) mod body;
pub(crate) mod client;
mod keep_alive;
pub(crate) mod meter;
mod pace;
pub(crate) mod server;
#[cfg(test)]
pub(crate) mod tests;
mod windows;

pub use self::{
    client::REFUSAL_BYTES_MAX,
    keep_alive::{ANSWER, CLIENT_SILENCE, SERVER_SILENCE},
    meter::{BYTES_PER_IDLE_FRAME, IDLE_FRAMES_MAX, IDLE_FRAMES_PER_SECOND},
    pace::{BODY_TIME_MAX, RATE_MIN, SILENCE, SPAN},
    server::{FAREWELL, IDLE, STRANGER_WINDOW_BYTES},
    windows::{CONNECTION_WINDOW_BYTES_MAX, STREAM_WINDOW_BYTES_MAX, WINDOW_BYTES},
};

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a frame may be, in bytes: the least that HTTP/2 allows to ask for.
pub const FRAME_BYTES_MAX: u32 = 16 * 1024;
/// How long the headers of a call may be, in bytes as HTTP/2 counts them.
pub const HEADER_BYTES_MAX: u32 = 4 * 1024;
/// How many calls a provider takes at a time on one connection.
pub const CALLS_MAX: u32 = 32;

/// How much of a body waits in HTTP/2's own buffer. Small, so that a body that was handed over has nearly left.
const SEND_BUFFER_BYTES: usize = 128 * 1024;
/// How many calls that were given up a connection remembers, so that late frames of theirs are no mistake of the other end.
const RESET_CALLS_MAX: usize = 2 * CALLS_MAX as usize;
/// How many calls the other end may give up before they were looked at, and how many may be refused for breaking the protocol.
const RESET_BY_PEER_MAX: usize = CALLS_MAX as usize;
const BROKEN_CALLS_MAX: usize = 64;

/// A number of bytes that all connections of a process share.
///
/// Clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

/// A part of a [`Budget`], given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share(Option<OwnedSemaphorePermit>);

impl Budget {
    /// Makes a budget of so many bytes.
    pub fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// Returns how many bytes are free.
    pub fn free(&self) -> u64 {
        self.0.available_permits() as u64
    }

    /// Takes so many bytes; nothing if so many are not free.
    pub(crate) fn try_take(&self, bytes: u64) -> Option<Share> {
        let bytes = u32::try_from(bytes).ok()?;
        let permit = Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()?;
        Some(Share(Some(permit)))
    }

    /// Takes so many bytes, in turn, as soon as they are free. More than there ever are is never free.
    pub(crate) async fn take(&self, bytes: u64) -> Share {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        Share(Arc::clone(&self.0).acquire_many_owned(bytes).await.ok())
    }
}

impl Share {
    /// Adds another part of the same budget to this one.
    pub(crate) fn join(&mut self, other: Self) {
        match (&mut self.0, other.0) {
            (Some(own), Some(other)) => own.merge(other),
            (own @ None, other) => *own = other,
            (Some(_), None) => {}
        }
    }
}
