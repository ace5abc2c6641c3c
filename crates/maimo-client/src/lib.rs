//! The engine of a Maimo client: store, prove, delete locally, retrieve. A library: it prints nothing and asks nothing.
//!
//! It reaches providers through [`maimo_net`]'s service trait alone, and never links one.

pub mod audit;
pub mod browse;
pub mod catalog;
mod catch_up;
pub mod channel;
pub mod client;
pub mod clock;
mod commit;
pub mod damage;
mod delete_local;
pub mod dump;
mod engine;
pub mod error;
pub mod evict;
pub mod fetch;
pub mod heal;
mod home;
mod journal_cache;
mod journal_reader;
pub mod keys;
mod known_tree;
pub mod local_stat;
pub mod mirror;
mod node_state;
mod outstanding;
pub mod pipeline;
pub mod possession;
pub mod progress;
pub mod prune;
mod random;
pub mod recover;
pub mod repair;
pub mod retrieve;
pub mod revise;
pub mod scan;
pub mod session;
mod spool;
pub mod status;
pub mod store;
mod supply;
mod sync;
pub mod ticket;
pub mod undelete;
pub mod upkeep;
pub mod verify;
