//! Drawing positions without replacement.

use std::collections::BTreeSet;

use rand_core::CryptoRng;

/// Returns `count` different ranks below `live_blocks`, ascending, every set of so many as likely as any other; all ranks if there are
/// no more than `count`.
///
/// R. Floyd's algorithm: J. Bentley, R. Floyd, "A sample of brilliance", CACM 30(9), 1987.
pub fn draw(rng: &mut impl CryptoRng, live_blocks: u64, count: usize) -> Vec<u64> {
    let count = count as u64;
    if live_blocks <= count {
        return (0..live_blocks).collect();
    }
    let mut drawn = BTreeSet::new();
    for last in live_blocks - count..live_blocks {
        let rank = below(rng, last + 1);
        // A rank that was drawn already stands for `last`, which cannot have been.
        if !drawn.insert(rank) {
            drawn.insert(last);
        }
    }
    drawn.into_iter().collect()
}

/// Returns a uniform number below `bound`, which is not 0.
fn below(rng: &mut impl CryptoRng, bound: u64) -> u64 {
    // The numbers from the last multiple of `bound` on would favour the low remainders.
    let excess = (u64::MAX % bound + 1) % bound;
    loop {
        let number = rng.next_u64();
        if number <= u64::MAX - excess {
            return number % bound;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn all_are_drawn_if_there_are_no_more() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        assert!(draw(&mut rng, 0, 460).is_empty());
        assert_eq!(draw(&mut rng, 460, 460), (0..460).collect::<Vec<_>>());
        let drawn = draw(&mut rng, 461, 460);
        assert_eq!(drawn.len(), 460);
        assert!(drawn.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(drawn.iter().all(|&rank| rank < 461));
    }

    /// Every pair of 5 is as likely as any other: chi-squared with 9 degrees of freedom, 27.9 at p = 0.001.
    #[test]
    fn every_set_is_as_likely_as_any_other() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let mut counts = std::collections::HashMap::new();
        for _ in 0..10_000 {
            *counts.entry(draw(&mut rng, 5, 2)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 10);
        let distance = |count: &i32| f64::from((count - 1000).pow(2)) / 1000.0;
        assert!(counts.values().map(distance).sum::<f64>() < 27.9);
    }

    #[test]
    fn large_inventories_are_reached_to_their_end() {
        let mut rng = ChaCha20Rng::seed_from_u64(3);
        let live_blocks = u64::MAX - 5;
        let drawn = draw(&mut rng, live_blocks, 1000);
        assert_eq!(drawn.len(), 1000);
        assert!(drawn[999] > live_blocks / 100 * 98 && drawn[999] < live_blocks);
        assert!(drawn[0] < live_blocks / 100 * 2);
    }
}
