//! What only the owner of a store may do: derive keys, seal and open packs, read and write the journal, decide what is kept and what
//! goes. Pure and synchronous, as `maimo-core` is; never linked by a provider.

pub mod aead;
pub mod candidate;
pub mod chunker;
pub mod commit;
pub mod compose;
pub mod compress;
pub mod dedup;
pub mod demand;
pub mod descent;
pub mod dictionary;
mod hash;
pub mod journal;
pub mod key_file;
pub mod keys;
pub mod layout;
pub mod name;
pub mod pack;
pub mod path;
pub mod phrase;
pub mod prune;
pub mod rebase;
pub mod recover;
pub mod repair;
pub mod retention;

#[cfg(test)]
mod testing;
