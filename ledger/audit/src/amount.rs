//! Amounts as whole numbers of their smallest part, and PostgreSQL's `numeric` on the wire.

use std::fmt;

use anyhow::{Context as _, Result, bail, ensure};

/// Decimal places of an amount.
const PLACES: i32 = 12;
/// Decimal digits in one digit of a `numeric`.
const DIGITS: i32 = 4;

/// An exact amount, in parts of 10^-12.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Amount(pub(crate) i128);

impl Amount {
    /// Reads a `numeric` as PostgreSQL sends it: number of digits, weight of the first, sign, scale; then
    /// digits to the base of 10,000.
    ///
    /// # Errors
    /// When it is no number, or has more places than an amount.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let at = |index: usize| -> Result<i16> {
            let two = bytes.get(2 * index..2 * index + 2).context("a numeric ends early")?;
            Ok(i16::from_be_bytes([two[0], two[1]]))
        };
        let (count, weight, sign) = (at(0)?, at(1)?, at(2)?);
        let mut sum = 0i128;
        for index in 0..count {
            let digit = at(4 + usize::try_from(index)?)?;
            let power = i32::from(weight) - i32::from(index) + PLACES / DIGITS;
            ensure!(power >= 0 || digit == 0, "an amount has more than {PLACES} places");
            if digit != 0 {
                let unit = 10_000i128.checked_pow(u32::try_from(power)?).context("an amount is too large")?;
                sum = unit
                    .checked_mul(digit.into())
                    .and_then(|part| sum.checked_add(part))
                    .context("an amount is too large")?;
            }
        }
        match sign {
            0 => Ok(Self(sum)),
            0x4000 => Ok(Self(-sum)),
            _ => bail!("an amount is not a number"),
        }
    }

    /// Reads a decimal as people write it, `12.5`, and as jobs were submitted with: `+1_000.00`.
    ///
    /// # Errors
    /// When it is none, or has more places than an amount.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let plain = text.strip_prefix('+').unwrap_or(text).replace('_', "");
        let (whole, places) = plain.split_once('.').unwrap_or((&plain, ""));
        let places = places.trim_end_matches('0');
        let whole = if whole.is_empty() && plain.len() > 1 { "0" } else { whole };
        let digits = whole.len() + places.len();
        ensure!(
            digits > 0 && whole.bytes().chain(places.bytes()).all(|byte| byte.is_ascii_digit()),
            "`{text}` is not an amount"
        );
        ensure!(places.len() <= PLACES.unsigned_abs() as usize, "`{text}` has more than {PLACES} places");
        let padding = PLACES.unsigned_abs() as usize - places.len();
        let parts = format!("{whole}{places}{}", "0".repeat(padding));
        parts.parse().map(Self).with_context(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = 10u128.pow(PLACES.unsigned_abs());
        let (whole, rest) = (self.0.unsigned_abs() / unit, self.0.unsigned_abs() % unit);
        let sign = if self.0 < 0 { "-" } else { "" };
        let rest = format!("{rest:012}");
        match rest.trim_end_matches('0') {
            "" => write!(f, "{sign}{whole}"),
            rest => write!(f, "{sign}{whole}.{rest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numerics_are_read_exactly() {
        let check = |words: &[i16], expected: Option<&str>| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            assert_eq!(
                Amount::read(&bytes).ok().map(|one| one.to_string()).as_deref(),
                expected,
                "{words:?}"
            );
        };
        check(&[0, 0, 0, 12], Some("0"));
        check(&[1, 0, 0, 12, 7], Some("7"));
        check(&[1, 1, 0, 12, 7], Some("70000"));
        check(&[2, 0, 0x4000, 12, 1203, 3223], Some("-1203.3223"));
        check(&[1, -3, 0, 12, 1], Some("0.000000000001"));
        check(&[1, -4, 0, 16, 1], None);
        check(&[1, 0, -0x4000, 0, 1], None);
        check(&[2, 0, 0, 12, 1], None);
        check(&[1, 30, 0, 12, 9999], None);
        check(&[], None);
    }

    #[test]
    fn decimals_are_read_exactly() {
        let check = |text: &str, expected: Option<i128>| {
            assert_eq!(Amount::parse(text).ok().map(|one| one.0), expected, "{text}");
        };
        check("1", Some(1_000_000_000_000));
        check("0.0010001", Some(1_000_100_000));
        check("12.000000000001", Some(12_000_000_000_001));
        check(".5", Some(500_000_000_000));
        check("+0.01", Some(10_000_000_000));
        check("1_000", Some(1_000_000_000_000_000));
        check("0.0100000000000", Some(10_000_000_000));
        check("0.0", Some(0));
        check("5.", Some(5_000_000_000_000));
        check(".0", Some(0));
        check("+", None);
        check("0.0000000000001", None);
        check("-1", None);
        check("1e3", None);
        check(".", None);
        check("", None);
        check(&"9".repeat(40), None);
    }
}
