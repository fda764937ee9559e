//! Exact amounts of money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Neg, Sub};
use std::str::FromStr;

use rust_decimal::Decimal;

/// An exact decimal amount with at most [`Amount::PLACES`] decimal places and magnitude at most [`Amount::MAX`].
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(Decimal);

/// Text or arithmetic that gives no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not a decimal number.
    #[error("`{0}` is not an amount: write a decimal number such as 12.5")]
    NotANumber(String),
    /// More places than are kept.
    #[error("`{0}` has more than {places} decimal places", places = Amount::PLACES)]
    TooPrecise(String),
    /// Past [`Amount::MAX`].
    #[error("an amount is larger than {max}", max = Amount::MAX)]
    TooLarge,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(Decimal::ZERO);
    /// Decimal places that are kept.
    pub const PLACES: u32 = 12;
    /// The largest amount: `numeric(28, 12)` holds sixteen digits before the point.
    pub const MAX: Self = Self(Decimal::from_parts(0x6FC1_0000, 0x0023_86F2, 0, false, 0));

    /// The amount that this decimal is.
    ///
    /// # Errors
    /// When it has too many places or is too large.
    pub fn new(value: Decimal) -> Result<Self, AmountError> {
        let value = value.normalize();
        if value.scale() > Self::PLACES {
            return Err(AmountError::TooPrecise(value.to_string()));
        }
        if value.abs() > Self::MAX.0 {
            return Err(AmountError::TooLarge);
        }
        Ok(Self(value))
    }

    /// A constant.
    pub(crate) const fn of_parts(value: Decimal) -> Self {
        Self(value)
    }

    /// The decimal.
    #[must_use]
    pub const fn decimal(self) -> Decimal {
        self.0
    }

    /// Whether it is more than nothing.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self > Self::ZERO
    }

    /// This amount `count` times.
    ///
    /// # Errors
    /// When the product is too large.
    pub fn times(self, count: u64) -> Result<Self, AmountError> {
        self.0.checked_mul(Decimal::from(count)).ok_or(AmountError::TooLarge).and_then(Self::new)
    }

    /// The sum.
    ///
    /// # Errors
    /// When it is too large.
    pub fn plus(self, other: Self) -> Result<Self, AmountError> {
        self.0.checked_add(other.0).ok_or(AmountError::TooLarge).and_then(Self::new)
    }

    /// This amount with at most so many places: what is half is rounded away from zero.
    #[must_use]
    pub fn rounded(self, places: u32) -> Self {
        Self(self.0.round_dp_with_strategy(places, rust_decimal::RoundingStrategy::MidpointAwayFromZero))
    }

    /// This amount with at most so many places: the rest is cut off, towards zero.
    #[must_use]
    pub fn cut(self, places: u32) -> Self {
        Self(self.0.round_dp_with_strategy(places, rust_decimal::RoundingStrategy::ToZero))
    }

    /// With exactly so many places; no more are kept than are shown.
    #[must_use]
    pub fn fixed(self, places: u32) -> String {
        let mut value = self.rounded(places).0.normalize();
        value.rescale(places);
        if value.is_zero() {
            value.set_sign_positive(true)
        }
        value.to_string()
    }

    /// This amount and a quarter, rounded up to the last place kept.
    ///
    /// # Errors
    /// When it is too large.
    pub fn and_a_quarter(self) -> Result<Self, AmountError> {
        let quarters = self.0.checked_mul(Decimal::from(5)).ok_or(AmountError::TooLarge)?;
        let exact = quarters.checked_div(Decimal::from(4)).ok_or(AmountError::TooLarge)?;
        Self::new(exact.round_dp_with_strategy(Self::PLACES, rust_decimal::RoundingStrategy::AwayFromZero))
    }
}

/// Sums and differences of amounts within [`Amount::MAX`] stay far inside what a decimal holds;
/// what leaves the ledger is bounded again by the database's `numeric(28, 12)`.
impl Add for Amount {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl Sub for Amount {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl Neg for Amount {
    type Output = Self;
    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl FromStr for Amount {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let value = Decimal::from_str_exact(text).map_err(|error| match error {
            rust_decimal::Error::Underflow => AmountError::TooPrecise(text.to_owned()),
            _ => AmountError::NotANumber(text.to_owned()),
        })?;
        Self::new(value)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0.normalize(), f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_or_refused() {
        let check = |text: &str, expected: Result<&str, AmountError>| {
            assert_eq!(text.parse::<Amount>().map(|a| a.to_string()), expected.map(str::to_owned), "{text}");
        };
        check("0.000001", Ok("0.000001"));
        check("-3.50", Ok("-3.5"));
        check("0.000000000001", Ok("0.000000000001"));
        check("0.0000000000001", Err(AmountError::TooPrecise("0.0000000000001".into())));
        check("10000000000000000", Ok("10000000000000000"));
        check("10000000000000001", Err(AmountError::TooLarge));
        check("ten", Err(AmountError::NotANumber("ten".into())));
        check("1e3", Err(AmountError::NotANumber("1e3".into())));
        check("", Err(AmountError::NotANumber(String::new())));
    }

    #[test]
    fn products_past_the_limit_are_refused() {
        let price: Amount = "0.000001".parse().unwrap();
        assert_eq!(price.times(1_203_322_288).unwrap().to_string(), "1203.322288");
        assert_eq!(Amount::MAX.times(2), Err(AmountError::TooLarge));
        assert_eq!(Amount::MAX.plus(price), Err(AmountError::TooLarge));
    }

    #[test]
    fn places_are_cut_by_one_rule_each() {
        let check = |text: &str, rounded: &str, cut: &str| {
            let amount: Amount = text.parse().unwrap();
            assert_eq!(amount.fixed(2), rounded, "{text}");
            assert_eq!(amount.cut(2).to_string(), cut, "{text}");
        };
        check("0.005", "0.01", "0");
        check("-0.005", "-0.01", "0");
        check("-0.019", "-0.02", "-0.01");
        check("-0.004", "0.00", "0");
        check("12", "12.00", "12");
        check("12.349999999999", "12.35", "12.34");
        assert_eq!(Amount::MAX.fixed(12), "10000000000000000.000000000000");
    }

    #[test]
    fn a_quarter_more_rounds_up() {
        let check = |text: &str, expected: &str| {
            assert_eq!(text.parse::<Amount>().unwrap().and_a_quarter().unwrap().to_string(), expected);
        };
        check("20.4", "25.5");
        check("0.000000000001", "0.000000000002");
    }
}
