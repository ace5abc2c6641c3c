//! The engine of a Maimo client: store, prove, delete locally, retrieve. A library: it prints nothing and asks nothing.
//!
//! It reaches providers through [`maimo_net`]'s service trait alone, and never links one.

pub mod audit;
pub mod browse;
pub mod catalog;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod catch_up;
pub mod channel;
pub mod client;
pub mod clock;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod commit;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod delete_local;
pub mod dump;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod engine;
pub mod error;
pub mod evict;
pub mod fetch;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod home;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod journal_cache;
pub mod keys;
pub mod local_stat;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod node_state;
pub mod pipeline;
pub mod possession;
pub mod progress;
pub mod prune;
mod random;
pub mod retrieve;
pub mod revise;
pub mod scan;
pub mod session;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod spool;
pub mod status;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
pub mod store;
#[allow(dead_code, reason = "the operations that use the rest land one by one")]
mod sync;
pub mod undelete;
pub mod verify;
