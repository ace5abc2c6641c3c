//! A provider: stores what it cannot read.
//!
//! Below are folders: [`volume`] knows files and bytes, [`placement`] which volume takes a pack. Above is what is held and owed: the
//! ledger is rows that can be made anew from the volumes, [`provider`] an installation with its keys and its owner's commands; what it
//! does for one client is behind [`maimo_net::service::Session`]. All decisions are [`maimo_core::custody`]'s.

mod clean;
pub mod error;
mod group_commit;
mod invitation;
pub mod keys;
pub mod ledger;
mod orphans;
pub mod placement;
pub mod provider;
mod rebuild;
pub mod scrub;
mod session;
mod shrink;
pub mod sweep;
mod ticket_book;
pub mod volume;
mod volumes;

#[cfg(test)]
mod testing;
