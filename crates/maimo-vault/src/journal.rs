//! The journal: the append-only log of all the store holds, from which any installation can rebuild its catalog.
//!
//! A [`record::Record`] is one fact, named by its writer and counter. A [`batch::Batch`] is how records are written together; batches lie in
//! sealed *segments* (vital packs) and, the newest ones, in the commit's tail. [`state::State`] is what replaying them gives: the same
//! whatever the order they are read in, and however often. [`merge`] keeps the number of segments small.

pub mod batch;
pub mod content;
pub mod merge;
pub mod metadata;
mod names;
pub mod part;
pub mod record;
pub mod repeat;
pub mod state;

#[cfg(test)]
mod tests;
