//! A model of a Maimo store, for tests only: clients and providers in memory, virtual time, seeded faults. It runs the shipped rules of
//! `maimo-core` and `maimo-vault` and holds none of its own: only storage, time, faults and the invariants that must stand.

#![allow(
    clippy::missing_panics_doc,
    reason = "a model says what broke by panicking"
)]

pub mod audit_size;
pub mod device;
pub mod faults;
pub mod history;
pub mod invariants;
pub mod keys;
pub mod parsers;
pub mod provider;
pub mod world;
pub mod years;
