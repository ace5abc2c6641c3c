//! A model of a Maimo store, for tests only: clients and providers in memory, virtual time, seeded faults. It runs the shipped rules of
//! `maimo-core` and `maimo-vault` and holds none of its own: only storage, time, faults and the invariants that must stand.

pub mod audit_size;
pub mod years;
