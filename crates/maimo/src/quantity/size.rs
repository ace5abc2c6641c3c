//! Sizes: IEC when shown, both kinds of units when read.

use std::fmt;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// A number of bytes, shown with three digits and an IEC unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size(pub(crate) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut unit = 0;
        // Thousandths of the unit below: integers, so that what is shown does not depend on how a float rounds.
        let mut below = u128::from(self.0);
        while below >= 1024 * 1024 && unit + 1 < UNITS.len() {
            below /= 1024;
            unit += 1;
        }
        let hundredths = below * 100 / 1024;
        let (whole, rest) = (hundredths / 100, hundredths % 100);
        let number = match whole {
            0..10 => format!("{whole}.{rest:02}"),
            10..100 => format!("{whole}.{}", rest / 10),
            _ => whole.to_string(),
        };
        f.pad(&format!("{number} {}", UNITS[unit]))
    }
}

/// A number of things, shown with a comma before every third digit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Count(pub(crate) u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() + digits.len() / 3);
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// Reads a size: a number, a fraction if need be, and a unit (`B`, `KiB` or `K`, `KB`, and so on up to `EiB`).
///
/// A bare letter is the IEC unit, as most programs take it.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let scale = scale_of(unit.trim()).ok_or_else(|| {
        format!(
            "`{}` is no unit of size; use one of B, KiB, MiB, GiB, TiB or KB, MB, GB, TB",
            unit.trim()
        )
    })?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || number.ends_with('.') {
        return Err("a size is a number and a unit, for example 10GiB or 1.5TB".to_owned());
    }
    let too_large = || "too large".to_owned();
    let whole = whole.parse::<u128>().map_err(|_| too_large())?;
    let mut bytes = whole.checked_mul(scale).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        // Digits beyond these are less than a byte of the largest unit.
        let digits = &fraction[..fraction.len().min(18)];
        let parts = 10_u128.pow(u32::try_from(digits.len()).map_err(|_| too_large())?);
        bytes += digits.parse::<u128>().map_err(|_| too_large())? * scale / parts;
    }
    u64::try_from(bytes).map_err(|_| too_large())
}

fn scale_of(unit: &str) -> Option<u128> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b") {
        return Some(1);
    }
    let power = 1 + "kmgtpe".find(unit.chars().next()?)?;
    let power = u32::try_from(power).ok()?;
    match &unit[1..] {
        "" | "ib" => Some(1024_u128.pow(power)),
        "b" => Some(1000_u128.pow(power)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_with_three_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1536, "1.50 KiB"),
            (16 * 1024 * 1024, "16.0 MiB"),
            (1_048_575, "1023 KiB"),
            (123 << 30, "123 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
        assert_eq!(format!("{:>10}", Size(1024)), "  1.00 KiB");
    }

    #[test]
    fn counts_have_a_comma_before_every_third_digit() {
        for (count, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(Count(count).to_string(), shown);
        }
    }

    #[test]
    fn sizes_are_read_in_both_kinds_of_units() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512B", 512),
            ("10GiB", 10 << 30),
            ("10 gib", 10 << 30),
            ("10G", 10 << 30),
            ("500MB", 500_000_000),
            ("1.5TB", 1_500_000_000_000),
            ("0.5KiB", 512),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in [
            "",
            "GiB",
            "-1",
            "10XB",
            "1.",
            "1..5K",
            "1.5.5K",
            "10GiBs",
            "99999999EiB",
            "1e9",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
