//! The engine of a Maimo client: store, prove, delete locally, retrieve. A library: it prints nothing and asks nothing.
//!
//! It reaches providers through [`maimo_net`]'s service trait alone, and never links one.

pub mod audit;
pub mod error;
pub mod evict;
pub mod keys;
pub mod local_stat;
pub mod pipeline;
pub mod possession;
pub mod progress;
