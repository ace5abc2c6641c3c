//! The recovery phrase: the store's secret as 24 English words of BIP-39, and back.
//!
//! Of BIP-39 it is the entropy alone, never the seed: no PBKDF2, no BIP-39 passphrase. The words come from the `bip39` crate; its
//! `Mnemonic` is a plain value that moves and copies, so the bits are packed here, in places that are wiped.

use bip39::Language;
use maimo_core::error::{Classify, ErrorKind, Retry};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::keys::MasterSecret;

/// How many words a phrase has.
pub const WORDS: usize = 24;
/// How many letters the longest word has.
const LETTERS_MAX: usize = 8;
const WORD_BITS: usize = 11;
/// 256 bits of entropy and the first 8 of its SHA-256.
const PHRASE_BYTES: usize = 33;

const _: () = assert!(WORDS * WORD_BITS == 8 * PHRASE_BYTES);

/// The 24 words, with one space between each two; wiped on drop, never printed but by who takes [`Phrase::as_str`].
///
/// ```compile_fail,E0277
/// println!("{}", maimo_vault::keys::MasterSecret::from_entropy(&[1; 32]).phrase());
/// ```
pub struct Phrase(Zeroizing<String>);

impl Phrase {
    /// Returns the phrase. Whoever copies it wipes the copy.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the words in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.0.split(' ')
    }
}

/// Why a text is not a recovery phrase. No word of it is repeated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParsePhraseError {
    /// More or fewer words than there must be.
    #[error("a recovery phrase has {WORDS} words, this has {found}")]
    WordCount {
        /// How many words there are.
        found: usize,
    },
    /// A word that is none of BIP-39's English ones.
    #[error("word {position} is not in the list of words")]
    UnknownWord {
        /// Which word, from 1.
        position: usize,
    },
    /// Each word is one of the list, but not this phrase's.
    #[error("the checksum does not fit: a word is wrong or out of its place")]
    Checksum,
}

impl Classify for ParsePhraseError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }

    fn hint(&self) -> Option<&'static str> {
        Some("compare the words with your written copy, one by one and in order")
    }
}

impl MasterSecret {
    /// Spells the secret in words.
    pub fn phrase(&self) -> Phrase {
        let mut bits = Zeroizing::new([0; PHRASE_BYTES]);
        bits[..32].copy_from_slice(self.as_entropy());
        bits[32] = checksum(self.as_entropy());
        // All the room at once: a string that grows leaves its old bytes behind.
        let mut text = Zeroizing::new(String::with_capacity(WORDS * (LETTERS_MAX + 1)));
        for index in 0..WORDS {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(Language::English.word_list()[word_at(&bits, index)]);
        }
        Phrase(text)
    }

    /// Reads a phrase: words in any case, with any white space around them.
    ///
    /// # Errors
    ///
    /// A word that is not in the list is told before a wrong number of words: it is easier to act on.
    pub fn from_phrase(text: &str) -> Result<Self, ParsePhraseError> {
        let mut bits = Zeroizing::new([0; PHRASE_BYTES]);
        let mut found = 0;
        for word in text.split_whitespace() {
            let value = find(word).ok_or(ParsePhraseError::UnknownWord {
                position: found + 1,
            })?;
            if found < WORDS {
                put_word(&mut bits, found, value);
            }
            found += 1;
        }
        if found != WORDS {
            return Err(ParsePhraseError::WordCount { found });
        }
        let [entropy @ .., check] = &*bits;
        if *check != checksum(entropy) {
            return Err(ParsePhraseError::Checksum);
        }
        Ok(Self::from_entropy(entropy))
    }
}

/// BIP-39: the first bits of the entropy's SHA-256, one for each 32 of entropy.
fn checksum(entropy: &[u8; 32]) -> u8 {
    let mut hash = Zeroizing::new([0; 32]);
    Sha256::new()
        .chain_update(entropy)
        .finalize_into((&mut *hash).into());
    hash[0]
}

/// Finds a word's number in the list, whatever its case.
fn find(word: &str) -> Option<u16> {
    let mut letters = Zeroizing::new([0; LETTERS_MAX]);
    let lower = letters.get_mut(..word.len())?;
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    Language::English.find_word(core::str::from_utf8(lower).ok()?)
}

/// Reads the 11 bits, highest first, of word `index`.
fn word_at(bits: &[u8; PHRASE_BYTES], index: usize) -> usize {
    (0..WORD_BITS).fold(0, |value, bit| {
        let at = WORD_BITS * index + bit;
        value << 1 | usize::from(bits[at / 8] >> (7 - at % 8) & 1)
    })
}

/// Sets the 11 bits, so far zero, of word `index`.
fn put_word(bits: &mut [u8; PHRASE_BYTES], index: usize, value: u16) {
    for bit in 0..WORD_BITS {
        let at = WORD_BITS * index + bit;
        if value >> (WORD_BITS - 1 - bit) & 1 == 1 {
            bits[at / 8] |= 0x80 >> (at % 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER;
    use proptest::prelude::*;

    use super::*;

    /// BIP-39's reference vectors of 24 words: entropy and phrase.
    fn cases() -> Vec<([u8; 32], String)> {
        let text = include_str!("../../../testdata/vectors/bip39.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let field = |case: &serde_json::Value, name: &str| case[name].as_str().unwrap().to_owned();
        let cases: Vec<_> = vectors["cases"]
            .as_array()
            .unwrap()
            .iter()
            .map(|case| {
                let entropy = HEXLOWER.decode(field(case, "entropy").as_bytes()).unwrap();
                (entropy.try_into().unwrap(), field(case, "phrase"))
            })
            .collect();
        assert_eq!(cases.len(), 8);
        cases
    }

    fn refusal(text: &str) -> Option<ParsePhraseError> {
        MasterSecret::from_phrase(text).err()
    }

    #[test]
    fn bip_39_known_answers_both_ways() {
        for (entropy, phrase) in cases() {
            let secret = MasterSecret::from_entropy(&entropy);
            assert_eq!(secret.phrase().as_str(), phrase);
            assert_eq!(secret.phrase().words().count(), WORDS);
            let back = MasterSecret::from_phrase(&phrase).ok().unwrap();
            assert_eq!(back.as_entropy(), &entropy);
        }
    }

    #[test]
    fn case_and_white_space_do_not_matter() {
        for (entropy, phrase) in cases() {
            let shouted = format!(
                "\n\t {} \r\n",
                phrase.to_uppercase().replace(' ', " \n\u{a0}")
            );
            let back = MasterSecret::from_phrase(&shouted).ok().unwrap();
            assert_eq!(back.as_entropy(), &entropy);
        }
    }

    #[test]
    fn a_bad_word_is_named_by_its_place_and_not_repeated() {
        let (_, phrase) = &cases()[4];
        let mut words: Vec<&str> = phrase.split(' ').collect();
        for bad in ["hunter2", "abandonabandon", "ｚｏｏ", "zooo", "zo"] {
            words[6] = bad;
            let error = refusal(&words.join(" ")).unwrap();
            assert_eq!(error, ParsePhraseError::UnknownWord { position: 7 });
            assert!(!error.to_string().contains(bad));
        }
    }

    #[test]
    fn more_or_fewer_words_are_refused() {
        let (_, phrase) = &cases()[4];
        let short = phrase.rsplit_once(' ').unwrap().0;
        let long = format!("{phrase} zoo");
        assert_eq!(
            refusal(short),
            Some(ParsePhraseError::WordCount { found: 23 })
        );
        assert_eq!(
            refusal(&long),
            Some(ParsePhraseError::WordCount { found: 25 })
        );
        assert_eq!(refusal(""), Some(ParsePhraseError::WordCount { found: 0 }));
    }

    #[test]
    fn a_wrong_word_and_two_words_exchanged_break_the_checksum() {
        let (_, phrase) = &cases()[4];
        let wrong = phrase.replacen("hamster", "zoo", 1);
        assert_eq!(refusal(&wrong), Some(ParsePhraseError::Checksum));
        let mut words: Vec<&str> = phrase.split(' ').collect();
        words.swap(0, 1);
        assert_eq!(refusal(&words.join(" ")), Some(ParsePhraseError::Checksum));
    }

    proptest! {
        #[test]
        fn a_secret_comes_back_from_its_phrase(entropy: [u8; 32]) {
            let phrase = MasterSecret::from_entropy(&entropy).phrase();
            prop_assert!(phrase.as_str().len() <= WORDS * (LETTERS_MAX + 1));
            let back = MasterSecret::from_phrase(phrase.as_str()).ok().unwrap();
            prop_assert_eq!(back.as_entropy(), &entropy);
        }

        #[test]
        fn any_text_ends_in_a_secret_or_an_error(text in "\\PC{0,300}") {
            let _ = MasterSecret::from_phrase(&text);
        }
    }
}
