//! What a device earned, as the coordinator's books say it.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Places that are shown. What is smaller is cut off: nobody is told more than is there.
const PLACES: u32 = 6;

/// A sum that was paid, and for how many units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Exact amount.
    #[serde(with = "as_text")]
    pub amount: Decimal,
    /// Units, each verified.
    pub units: u64,
}

impl Tally {
    /// What came on top of an earlier figure of the same books; `None` if that is the higher one.
    #[must_use]
    pub fn since(self, earlier: Self) -> Option<Self> {
        let amount = self.amount.checked_sub(earlier.amount).filter(|amount| !amount.is_sign_negative())?;
        Some(Self { amount, units: self.units.saturating_sub(earlier.units) })
    }

    /// Whether there is nothing in it that would be shown.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        cut(self.amount).is_zero()
    }
}

/// What the books said of this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// All that its verified attempts were paid.
    pub total: Tally,
    /// The same, in that month.
    pub this_month: Tally,
    /// The running month of UTC, as `2026-11`.
    pub month: String,
}

/// An amount as it is shown: six places, never more than there is.
#[must_use]
pub fn shown(amount: Decimal) -> String {
    format!("{:.6}", cut(amount))
}

fn cut(amount: Decimal) -> Decimal {
    amount.round_dp_with_strategy(PLACES, RoundingStrategy::ToZero)
}

/// Exact decimals are texts where they are written down.
mod as_text {
    use rust_decimal::Decimal;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(amount: &Decimal, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(amount)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Decimal, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(amount: &str, units: u64) -> Tally {
        Tally { amount: amount.parse().unwrap(), units }
    }

    #[test]
    fn amounts_are_exact_and_never_shown_too_high() {
        for (amount, text) in [
            ("1.2345679", "1.234567"),
            ("0.000000999999", "0.000000"),
            ("12", "12.000000"),
            ("100000000000000.000000000001", "100000000000000.000000"),
        ] {
            assert_eq!(shown(amount.parse().unwrap()), text);
        }
        let sum = tally("0.3", 3).since(tally("0.1", 1));
        assert_eq!(sum, Some(tally("0.2", 2)));
        assert_eq!(tally("1", 1).since(tally("2", 2)), None, "other books");
        assert!(tally("0.0000009", 1).is_nothing() && !tally("0.000001", 1).is_nothing());
    }

    #[test]
    fn a_tally_is_written_down_exactly() {
        let text = serde_json::to_string(&tally("0.000000000001", 7)).unwrap();
        assert_eq!(text, r#"{"amount":"0.000000000001","units":7}"#);
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally("0.000000000001", 7));
    }
}
