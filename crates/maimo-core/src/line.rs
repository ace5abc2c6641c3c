//! Objects as one line of text, to be pasted or scanned: `maimo:`, then bech32m (BIP-350) with the object's kind as the
//! human-readable part.
//!
//! BIP-350 ends at 90 characters and its code at 1,023; beyond that it no longer promises to find any four wrong characters, but 30
//! bits of checksum still leave a mistake one chance in a thousand million. Lines here may be longer, up to a maximum of their own.

use bech32::{
    Bech32m, ByteIterExt, Checksum, Fe32IterExt, Fe1024, Hrp, primitives::decode::CheckedHrpstring,
};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::error::{Classify, ErrorKind, Retry};

/// What every line begins with. As a URI scheme: capitals count as small letters.
const SCHEME: &str = "maimo:";

/// The longest line, in characters.
pub const LINE_CHARACTERS_MAX: usize = 4096;

/// Why a text is not a line of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LineError {
    /// Something else altogether.
    #[error("not a line of Maimo: it does not begin with {SCHEME}")]
    Scheme,
    /// Longer than any.
    #[error("the line is longer than {LINE_CHARACTERS_MAX} characters")]
    TooLong,
    /// A mistyped or missing character, most likely; a mix of capitals and small letters.
    #[error("the line is damaged: a character is wrong or missing")]
    Damaged,
    /// A line for another purpose.
    #[error("the line is of another kind: it should begin with {SCHEME}{expected}1")]
    Kind {
        /// The kind asked for.
        expected: &'static str,
    },
}

impl Classify for LineError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::BadInput
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

/// Bech32m, but for longer lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LongBech32m {}

impl Checksum for LongBech32m {
    type MidstateRepr = u32;
    type CorrectionField = Fe1024;
    const ROOT_GENERATOR: Fe1024 = Bech32m::ROOT_GENERATOR;
    const ROOT_EXPONENTS: core::ops::RangeInclusive<usize> = Bech32m::ROOT_EXPONENTS;
    const CODE_LENGTH: usize = LINE_CHARACTERS_MAX;
    const CHECKSUM_LENGTH: usize = Bech32m::CHECKSUM_LENGTH;
    const GENERATOR_SH: [u32; 5] = Bech32m::GENERATOR_SH;
    const TARGET_RESIDUE: u32 = Bech32m::TARGET_RESIDUE;
}

/// Returns how many characters a line of so many bytes has.
pub(crate) const fn characters(kind: &'static str, bytes: usize) -> usize {
    SCHEME.len() + kind.len() + 1 + (8 * bytes).div_ceil(5) + LongBech32m::CHECKSUM_LENGTH
}

/// Returns bytes as a line. It is wiped when dropped, since some lines are secrets. That it is not too long to be read again is for the
/// caller's own maximum to see to, by [`characters`].
pub(crate) fn encode(kind: &'static str, bytes: &[u8]) -> Zeroizing<String> {
    // Reserved whole, so that no copy is left behind by growing.
    let mut line = Zeroizing::new(String::with_capacity(characters(kind, bytes.len())));
    line.push_str(SCHEME);
    let symbols = bytes.iter().copied().bytes_to_fes();
    line.extend(
        symbols
            .with_checksum::<LongBech32m>(&Hrp::parse_unchecked(kind))
            .chars(),
    );
    line
}

/// Reads the bytes of a line, all in small letters or all in capitals as a QR code likes them.
pub(crate) fn decode(kind: &'static str, line: &str) -> Result<Zeroizing<Vec<u8>>, LineError> {
    if line.len() > LINE_CHARACTERS_MAX {
        return Err(LineError::TooLong);
    }
    let (scheme, rest) = line
        .split_at_checked(SCHEME.len())
        .ok_or(LineError::Scheme)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return Err(LineError::Scheme);
    }
    let checked = CheckedHrpstring::new::<LongBech32m>(rest).map_err(|_| LineError::Damaged)?;
    if checked.hrp() != Hrp::parse_unchecked(kind) {
        return Err(LineError::Kind { expected: kind });
    }
    // The bits that fill up the last character are zeros and fewer than five, or one object would have several lines.
    checked
        .validate_segwit_padding()
        .map_err(|_| LineError::Damaged)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(rest.len()));
    bytes.extend(checked.byte_iter());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// BIP-350's own test vector, which has no bytes; and its checksum rules, by the crate's plain bech32m.
    #[test]
    fn a_short_line_is_bech32m_as_others_write_it() {
        let line = encode("ticket", &[0xab; 20]);
        let plain = bech32::encode::<Bech32m>(Hrp::parse("ticket").unwrap(), &[0xab; 20]).unwrap();
        assert_eq!(*line, format!("maimo:{plain}"));
        assert_eq!(*encode("a", &[]), "maimo:a1lqfn3a");
    }

    #[test]
    fn a_line_of_another_kind_or_scheme_is_told_apart_from_a_damaged_one() {
        let line = encode("ticket", b"something");
        assert_eq!(
            decode("invite", &line),
            Err(LineError::Kind { expected: "invite" })
        );
        assert_eq!(decode("ticket", &line[6..]), Err(LineError::Scheme));
        assert_eq!(decode("ticket", "maimo"), Err(LineError::Scheme));
        assert_eq!(
            decode("ticket", &line[..line.len() - 1]),
            Err(LineError::Damaged)
        );
        let mixed = line.replace("ticket", "Ticket");
        assert_eq!(decode("ticket", &mixed), Err(LineError::Damaged));
        assert_eq!(
            decode("ticket", &"maimo:é".repeat(2)),
            Err(LineError::Damaged)
        );
        let long = format!("maimo:{}", "q".repeat(LINE_CHARACTERS_MAX));
        assert_eq!(decode("ticket", &long), Err(LineError::TooLong));
    }

    #[test]
    fn padding_that_is_not_zero_is_refused() {
        use bech32::Fe32;
        let with_padding = |last: Fe32| {
            let hrp = Hrp::parse("ticket").unwrap();
            let mut symbols: Vec<Fe32> = [0xff_u8].into_iter().bytes_to_fes().collect();
            *symbols.last_mut().unwrap() = last;
            let text: String = symbols
                .into_iter()
                .with_checksum::<LongBech32m>(&hrp)
                .chars()
                .collect();
            decode("ticket", &format!("maimo:{text}")).map(|bytes| bytes.to_vec())
        };
        // Eight bits are one symbol of five and three more bits; two are left over.
        assert_eq!(
            with_padding(Fe32::try_from(0b11100_u8).unwrap()),
            Ok(vec![0xff])
        );
        assert_eq!(
            with_padding(Fe32::try_from(0b11101_u8).unwrap()),
            Err(LineError::Damaged)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_in_small_letters_and_in_capitals(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            let line = encode("invite", &bytes);
            prop_assert_eq!(line.len(), characters("invite", bytes.len()));
            prop_assert_eq!(&*decode("invite", &line).unwrap(), &bytes);
            prop_assert_eq!(&*decode("invite", &line.to_ascii_uppercase()).unwrap(), &bytes);
        }

        #[test]
        fn a_wrong_character_is_noticed(bytes in prop::collection::vec(any::<u8>(), 1..1500), at: prop::sample::Index, other in "[a-z0-9]") {
            let line = encode("invite", &bytes);
            let at = at.index(line.len());
            let mut wrong = line.to_string();
            wrong.replace_range(at..=at, &other);
            if *wrong != **line {
                prop_assert!(decode("invite", &wrong).is_err());
            }
        }
    }
}
