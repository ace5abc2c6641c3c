//! Randomness: the operating system's, for keys, nonces and names.

use rand_core::{CryptoRng, UnwrapErr};

/// Returns the operating system's generator.
///
/// # Panics
///
/// Its use panics where the system has no randomness to give: nothing may be sealed then.
pub(crate) fn system() -> impl CryptoRng {
    UnwrapErr(getrandom::SysRng)
}

/// Draws an id that nobody else draws.
pub(crate) fn id() -> [u8; 16] {
    let mut bytes = [0; 16];
    rand_core::Rng::fill_bytes(&mut system(), &mut bytes);
    bytes
}
