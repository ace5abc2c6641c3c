//! Sizes, moments and spans as people write and read them.

mod moment;
mod size;

pub(crate) use self::{
    moment::{Moment, parse_moment, parse_span_ms, show_in, zone_name},
    size::{Count, Size, parse_size},
};
