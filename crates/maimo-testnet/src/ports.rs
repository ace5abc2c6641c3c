//! Free ports of an address of this machine.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    net::{Ipv4Addr, TcpListener},
};

use crate::error::NetworkError;

/// Ports below those that the system gives to outgoing connections: one of these could take the port of a node while it is restarted.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;
const TRIES: u32 = 2_000;

/// Draws `count` different ports of an address that nothing listens on.
///
/// Nothing holds them until the node binds them. That another process draws the same one in between is unlikely, as they are drawn at random; the
/// node then ends and says so.
pub(crate) fn draw(address: Ipv4Addr, count: usize) -> Result<Vec<u16>, NetworkError> {
    let random = RandomState::new();
    let mut held = Vec::with_capacity(count);
    for attempt in 0..TRIES {
        if held.len() == count {
            break;
        }
        let offset = random.hash_one(attempt) % u64::from(COUNT);
        let port = FIRST + u16::try_from(offset).expect("below COUNT");
        // Held until all are drawn, so that none is drawn twice.
        if let Ok(listener) = TcpListener::bind((address, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(NetworkError::NoPort);
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}
