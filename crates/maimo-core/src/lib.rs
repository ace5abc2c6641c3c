//! What a Maimo client and its provider must agree on: references, slices, inventories, heads, audits, and the rules by which a
//! provider admits a new head. Pure and synchronous: no clock, no disk, no socket; time and randomness come in as arguments. Nothing
//! here opens a seal, so a provider that links this crate still cannot read what it stores.

pub mod address;
pub mod ancestry;
pub mod audit;
pub mod check_code;
pub mod clock;
pub mod codec;
pub mod custody;
pub mod digest;
pub mod error;
pub mod head;
pub mod head_move;
pub mod id;
pub mod identity;
pub mod inventory;
pub mod invitation;
pub mod line;
pub mod live_map;
pub mod receipt;
pub mod reference;
mod signed;
pub mod ticket;
pub mod units;
pub mod verify;
