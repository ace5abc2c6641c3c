//! The engine of a Maimo client: store, prove, delete locally, retrieve. A library: it prints nothing and asks nothing.
//!
//! It reaches providers through [`maimo_net`]'s service trait alone, and never links one.

pub mod audit;
pub mod catalog;
pub mod clock;
pub mod error;
pub mod evict;
pub mod fetch;
#[allow(dead_code, reason = "used by the client, which is about to land")]
mod home;
#[allow(dead_code, reason = "used by the client, which is about to land")]
mod journal_cache;
pub mod keys;
pub mod local_stat;
#[allow(dead_code, reason = "used by the client, which is about to land")]
mod node_state;
pub mod pipeline;
pub mod possession;
pub mod progress;
#[allow(dead_code, reason = "used by the client, which is about to land")]
mod random;
pub mod retrieve;
pub mod session;
