//! [`structured`]: an object, damaged a little, in the ways that parsers of explicit bytes are wrong about.

use maimo_core::codec::Put;
use rand_chacha::rand_core::Rng;

/// Beyond this, growing an input further finds nothing new.
const INPUT_BYTES_MAX: usize = 256 * 1024;

/// Returns one of `seeds` after one to six random mutations: bits, boundary values, spans cut, doubled and spliced in from other seeds,
/// varints and lengths made huge, ends cut and grown.
pub fn structured(rng: &mut impl Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds[below(rng, seeds.len())].clone();
    for _ in 0..=below(rng, 6) {
        mutate(rng, seeds, &mut bytes);
    }
    bytes.truncate(INPUT_BYTES_MAX);
    bytes
}

fn mutate(rng: &mut impl Rng, seeds: &[Vec<u8>], bytes: &mut Vec<u8>) {
    const BOUNDARIES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0x81, 0xfe, 0xff];
    let at = place(rng, bytes.len());
    let end = bytes.len().min(at + 1 + place(rng, 40));
    match below(rng, 12) {
        0 | 1 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << below(rng, 8);
            }
        }
        2 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = BOUNDARIES[below(rng, BOUNDARIES.len())];
            }
        }
        3 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = byte.wrapping_add(if below(rng, 2) == 0 { 1 } else { 0xff });
            }
        }
        4 => drop(bytes.drain(at..end)),
        5 => {
            let span = bytes[at..end].to_vec();
            let to = place(rng, bytes.len());
            bytes.splice(to..to, span);
        }
        6 => {
            let span: Vec<u8> = (0..=below(rng, 40))
                .map(|_| rng.next_u32().to_le_bytes()[0])
                .collect();
            bytes.splice(at..at, span);
        }
        7 => {
            // The front of this and the back of another.
            let other = &seeds[below(rng, seeds.len())];
            let from = place(rng, other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        8 => {
            // A varint in the place of whatever is there: exact powers of two and their neighbours.
            let value =
                (1_u64 << below(rng, 64)).wrapping_sub(u64::from(rng.next_u32().is_multiple_of(3)));
            let mut varint = Vec::new();
            varint.put_varint(value);
            let over = bytes.len().min(at + below(rng, 3));
            bytes.splice(at..over, varint);
        }
        9 => {
            // A fixed integer, in the place of one.
            let value = match below(rng, 4) {
                0 => 0,
                1 => u64::MAX,
                2 => 1 << below(rng, 64),
                _ => bytes.len() as u64,
            };
            let width = [2, 4, 8][below(rng, 3)].min(bytes.len() - at);
            bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        }
        10 => bytes.truncate(at),
        _ => {
            let fill = BOUNDARIES[below(rng, BOUNDARIES.len())];
            let grown = bytes.len() + 1 + below(rng, 600);
            bytes.resize(grown, fill);
        }
    }
}

/// Returns a place up to `length`, the front and the back more often than the middle, for there the structure is.
fn place(rng: &mut impl Rng, length: usize) -> usize {
    let near = below(rng, length.min(80) + 1);
    match below(rng, 4) {
        0 => near,
        1 => length - near,
        _ => below(rng, length + 1),
    }
}

/// Returns a number below `bound`, which is not 0.
fn below(rng: &mut impl Rng, bound: usize) -> usize {
    // The remainder is below a `usize`, and its bias matters to nobody.
    usize::try_from(rng.next_u64() % bound as u64).unwrap_or(0)
}
