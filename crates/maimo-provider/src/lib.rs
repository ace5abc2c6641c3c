//! A provider: stores what it cannot read.
