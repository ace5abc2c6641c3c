//! The check code: six words by which the two ends of a channel make sure, by ear, that nobody is between them.
//!
//! It is the first 66 bits of the channel's id, hence of both keys. Who puts themselves between has to make a client key of their own for
//! which the provider's side shows the words of the client's. The client's key is derived from its secret and the key that was put in the
//! provider's place, so it cannot be known before the client has connected: from then on one fixed value of 66 bits is to be hit, and no two
//! lists of guesses can be matched with one another.
//!
//! It is no phrase: nothing is derived from it, and its words have no checksum.

use bip39::Language;

use crate::id::ChannelId;

/// BIP-39: a word stands for so many bits.
const WORD_BITS: usize = 11;

/// Returns the check code of a channel; both ends show the same.
///
/// ```
/// use maimo_core::{check_code::check_words, id::ChannelId};
///
/// let channel = ChannelId::derive(&[1; 32], &[2; 32]);
/// assert_eq!(check_words(&channel).join(" ").split(' ').count(), 6);
/// ```
pub fn check_words(channel: &ChannelId) -> [&'static str; 6] {
    let bits = channel.as_bytes();
    core::array::from_fn(|index| {
        let first = WORD_BITS * index;
        let word = (first..first + WORD_BITS).fold(0, |value, at| {
            value << 1 | usize::from(bits[at / 8] >> (7 - at % 8) & 1)
        });
        // 11 bits are less than the list's 2048 words.
        Language::English.word_list()[word]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_the_first_66_bits() {
        assert_eq!(check_words(&ChannelId([0; 32])), ["abandon"; 6]);
        let mut bits = [0; 32];
        bits[..8].fill(0xff);
        bits[8] = 0b1100_0000;
        assert_eq!(check_words(&ChannelId(bits)), ["zoo"; 6]);
        // One more bit is in no word, one less changes the last.
        bits[8] = 0b1110_0000;
        assert_eq!(check_words(&ChannelId(bits)), ["zoo"; 6]);
        bits[8] = 0b1000_0000;
        assert_eq!(check_words(&ChannelId(bits))[5], "zone");
        // Eleven bits each, the highest first.
        let mut bits = [0; 32];
        bits[1] = 0b0011_1111;
        bits[2] = 0b1100_0000;
        assert_eq!(
            check_words(&ChannelId(bits))[..3],
            ["ability", "wrap", "abandon"]
        );
    }
}
