//! What the platform takes of each reward.

use std::fmt;
use std::str::FromStr;

use rust_decimal::Decimal;

use crate::Amount;

/// A share of each reward, an exact number of millionths below the whole.
///
/// One rule: of a reward, the fee is that share, rounded down to the last place of an amount. The rest is the owner's, so
/// that what is smaller than that place always stays on the owner's account, and both together are exactly the reward.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeeRate(u32);

/// No rate of a fee.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a fee: write percent from 0 to 99.9999 with at most four places, such as 2.5")]
pub struct FeeError(String);

impl FeeRate {
    /// Nothing is taken.
    pub const NONE: Self = Self(0);
    /// Millionths in a whole.
    pub const WHOLE: u32 = 1_000_000;
    /// Places of a rate in percent.
    const PERCENT_PLACES: u32 = 4;

    /// So many millionths.
    ///
    /// # Errors
    /// When they are not below the whole.
    pub fn from_millionths(millionths: u32) -> Result<Self, FeeError> {
        if millionths < Self::WHOLE { Ok(Self(millionths)) } else { Err(FeeError(millionths.to_string())) }
    }

    /// Millionths.
    #[must_use]
    pub const fn millionths(self) -> u32 {
        self.0
    }

    /// The fee of a reward: it is less than the reward.
    #[must_use]
    pub fn of(self, reward: Amount) -> Amount {
        let mut reward = reward.decimal();
        reward.rescale(Amount::PLACES);
        // 28 digits and six more.
        let parts = reward.mantissa() * i128::from(self.0) / i128::from(Self::WHOLE);
        Amount::new(Decimal::from_i128_with_scale(parts, Amount::PLACES)).unwrap_or_default()
    }
}

impl FromStr for FeeRate {
    type Err = FeeError;

    /// Percent.
    fn from_str(text: &str) -> Result<Self, FeeError> {
        let wrong = || FeeError(text.to_owned());
        let percent = Decimal::from_str_exact(text).map_err(|_| wrong())?.normalize();
        if percent.is_sign_negative() || percent.scale() > Self::PERCENT_PLACES {
            return Err(wrong());
        }
        let millionths = percent.checked_mul(Decimal::from(10_000)).ok_or_else(wrong)?;
        let millionths = u32::try_from(millionths.normalize()).map_err(|_| wrong())?;
        Self::from_millionths(millionths).map_err(|_| wrong())
    }
}

/// Percent.
impl fmt::Display for FeeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Decimal::new(self.0.into(), Self::PERCENT_PLACES).normalize(), f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_are_exact_or_refused() {
        for (text, millionths) in
            [("0", 0), ("2.5", 25_000), ("0.0001", 1), ("99.9999", 999_999), ("10.00", 100_000)]
        {
            let rate: FeeRate = text.parse().unwrap();
            assert_eq!(rate.millionths(), millionths, "{text}");
            assert_eq!(rate.to_string().parse(), Ok(rate));
        }
        for text in ["100", "-1", "0.00001", "ten", "", "1e2", "99.99999"] {
            assert!(text.parse::<FeeRate>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_too_small_to_share_is_the_owners() {
        let check = |rate: &str, reward: &str, fee: &str| {
            assert_eq!(rate.parse::<FeeRate>().unwrap().of(reward.parse().unwrap()).to_string(), fee);
        };
        check("2.5", "0.01", "0.00025");
        check("10", "0.000000000001", "0");
        check("10", "0.000000000019", "0.000000000001");
        check("99.9999", "0.000000000001", "0");
        check("33.3333", "1", "0.333333");
        check("0", "5", "0");
        check("99.9999", "10000000000000000", "9999990000000000");
        check("0.0003", "9999999999999999.999999999999", "29999999999.999999999999");
    }

    proptest! {
        #[test]
        fn the_fee_is_the_whole_part_of_the_share(parts in 1i64..i64::MAX, rate in 0u32..FeeRate::WHOLE) {
            let reward = Amount::new(Decimal::new(parts, Amount::PLACES)).unwrap();
            let fee = FeeRate::from_millionths(rate).unwrap().of(reward);
            let exact = i128::from(parts) * i128::from(rate) / i128::from(FeeRate::WHOLE);
            prop_assert_eq!(fee.decimal(), Decimal::from_i128_with_scale(exact, Amount::PLACES));
            prop_assert!(fee < reward);
        }
    }
}
