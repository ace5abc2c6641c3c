//! What an audit that passed says, and what it does not.
//!
//! Of `live` blocks `lost` are gone, `n` are drawn without replacement. The chance that a lost one is among them is
//! `1 - C(live - lost, n) / C(live, n)`, at least `1 - (1 - lost / live)^n`: the bound that is told to people, for it needs no store's
//! size. A sample detects; it does not restore, and it never says that everything is there.

/// Returns the chance that a sample of `n` of `live` blocks, drawn without replacement, holds one of `lost`: the hypergeometric tail, exact
/// up to rounding.
#[expect(
    clippy::cast_precision_loss,
    reason = "a probability needs no more than 52 bits"
)]
pub fn detection(live: u64, lost: u64, n: u64) -> f64 {
    let lost = lost.min(live);
    if lost == 0 || n == 0 {
        return 0.0;
    }
    if n > live - lost {
        return 1.0;
    }
    // The product over draws of the chance to draw a block that is there. Its logarithm, so that a chance near zero keeps its digits.
    let missed: f64 = (0..n)
        .map(|drawn| (-(lost as f64) / (live - drawn) as f64).ln_1p())
        .sum();
    -missed.exp_m1()
}

/// Returns the least chance that `n` blocks show a loss of the fraction `loss`, whatever the size of the store: `1 - (1 - loss)^n`.
#[expect(
    clippy::cast_precision_loss,
    reason = "a probability needs no more than 52 bits"
)]
pub fn detection_at_least(loss: f64, n: u64) -> f64 {
    -(n as f64 * (-loss).ln_1p()).exp_m1()
}

/// Returns how many blocks show a loss of the fraction `loss` with a chance of at least `confidence`, whatever the size of the store;
/// nothing unless both are between 0 and 1.
pub fn slices_needed(loss: f64, confidence: f64) -> Option<u64> {
    let within = |x: f64| x > 0.0 && x < 1.0;
    if !within(loss) || !within(confidence) {
        return None;
    }
    let needed = ((-confidence).ln_1p() / (-loss).ln_1p()).ceil();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a cast from float saturates, and both logarithms are below 0"
    )]
    let needed = needed as u64;
    Some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::SLICES;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn what_an_audit_draws_shows_one_percent_with_99_percent() {
        let slices = SLICES as u64;
        assert!(detection_at_least(0.01, slices) > 0.99);
        assert!(detection_at_least(0.01, slices - 2) < 0.99);
        assert_eq!(slices_needed(0.01, 0.99), Some(slices - 1));
        assert_eq!(slices_needed(0.1, 0.99), Some(44));
        assert_eq!(slices_needed(0.001, 0.999_999), Some(13_809));
        assert_eq!(slices_needed(0.0, 0.99), None);
        assert_eq!(slices_needed(0.01, 1.0), None);
        // Uniform sampling over both strata misses a journal of 1/8192 of the store.
        assert!(detection_at_least(1.0 / 8192.0, slices) < 0.06);
    }

    #[test]
    fn without_replacement_is_exact_and_never_below_the_bound() {
        // By hand: 1 - C(6, 3) / C(10, 3) = 1 - 20 / 120.
        assert!(near(detection(10, 4, 3), 1.0 - 20.0 / 120.0));
        assert!(near(detection(10, 1, 4), 0.4));
        assert!(near(detection(10, 4, 7), 1.0));
        assert!(near(detection(10, 0, 7), 0.0));
        assert!(near(detection(10, 4, 0), 0.0));
        for live in [100_u64, 5_000, 1 << 28] {
            for lost in [1, live / 100, live / 3] {
                for n in [1, 20, 90] {
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let bound = detection_at_least(lost as f64 / live as f64, n);
                    assert!(detection(live, lost, n) >= bound - 1e-12);
                }
            }
        }
    }
}
