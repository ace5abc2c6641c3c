//! A provider: stores what it cannot read.

pub mod placement;
pub mod volume;
