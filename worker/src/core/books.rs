//! What a device earned, as the coordinator's books say it.

use rust_decimal::{Decimal, RoundingStrategy};
use serde::{Deserialize, Serialize};

/// Places that are shown. What is smaller is cut off: nobody is told more than is there.
const PLACES: u32 = 6;

/// What was paid in the grid's default currency, for how many units, and the same in others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Code of the default currency; empty where an older agent wrote it down.
    #[serde(default)]
    pub currency: String,
    /// Exact amount.
    #[serde(with = "as_text")]
    pub amount: Decimal,
    /// Units, each verified.
    pub units: u64,
    /// In other currencies; none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<InCurrency>,
}

/// What was paid in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InCurrency {
    /// Its code.
    pub currency: String,
    /// Exact amount.
    #[serde(with = "as_text")]
    pub amount: Decimal,
    /// Units, each verified.
    pub units: u64,
}

impl Tally {
    /// What came on top of an earlier figure of the same books; `None` if that is the higher one.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Self> {
        let more = |now: Decimal, before: Decimal| {
            now.checked_sub(before).filter(|amount| !amount.is_sign_negative())
        };
        let is_gone = |one: &InCurrency| !self.others.iter().any(|now| now.currency == one.currency);
        if earlier.others.iter().any(is_gone) {
            return None;
        }
        let mut others = Vec::new();
        for now in &self.others {
            let before = earlier.others.iter().find(|one| one.currency == now.currency);
            others.push(InCurrency {
                currency: now.currency.clone(),
                amount: more(now.amount, before.map_or(Decimal::ZERO, |one| one.amount))?,
                units: now.units.saturating_sub(before.map_or(0, |one| one.units)),
            });
        }
        others.retain(|one| one.units > 0 || !one.amount.is_zero());
        Some(Self {
            currency: self.currency.clone(),
            amount: more(self.amount, earlier.amount)?,
            units: self.units.saturating_sub(earlier.units),
            others,
        })
    }

    /// Whether there is nothing in it that would be shown.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.parts().all(|(_, amount, _)| cut(amount).is_zero())
    }

    /// Units in all currencies.
    #[must_use]
    pub fn all_units(&self) -> u64 {
        self.parts().map(|(.., units)| units).sum()
    }

    /// Currency, amount and units: of the default currency first.
    pub fn parts(&self) -> impl Iterator<Item = (&str, Decimal, u64)> {
        let others = self.others.iter().map(|one| (one.currency.as_str(), one.amount, one.units));
        std::iter::once((self.currency.as_str(), self.amount, self.units)).chain(others)
    }

    /// All that is in it, as `1.500000 EUR and 3.000000 JPY`: what is nothing is left out where there is something.
    #[must_use]
    pub fn shown(&self) -> String {
        let all: Vec<String> = self
            .parts()
            .filter(|(_, amount, _)| !cut(*amount).is_zero())
            .map(|(currency, amount, _)| money(amount, currency))
            .collect();
        if all.is_empty() { money(self.amount, &self.currency) } else { all.join(" and ") }
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

/// An amount with its currency.
#[must_use]
pub fn money(amount: Decimal, currency: &str) -> String {
    format!("{} {currency}", shown(amount)).trim_end().to_owned()
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
        Tally { currency: "EUR".to_owned(), amount: amount.parse().unwrap(), units, others: Vec::new() }
    }

    fn with_yen(amount: &str, yen: &str, units: u64) -> Tally {
        let yen = InCurrency { currency: "JPY".to_owned(), amount: yen.parse().unwrap(), units };
        Tally { others: vec![yen], ..tally(amount, units) }
    }

    #[test]
    fn currencies_are_not_added_up() {
        let sum = with_yen("0.3", "12", 3).since(&with_yen("0.3", "7", 1)).unwrap();
        assert_eq!((sum.shown().as_str(), sum.all_units()), ("5.000000 JPY", 4));
        let first = with_yen("0.3", "12", 3).since(&tally("0.1", 1)).unwrap();
        assert_eq!(first.shown(), "0.200000 EUR and 12.000000 JPY");
        assert_eq!(tally("9", 1).since(&with_yen("0", "1", 1)), None, "other books");
        assert_eq!(with_yen("9", "1", 1).since(&with_yen("0", "2", 1)), None, "other books");
        assert!(!with_yen("0", "1", 1).is_nothing());
        let old: Tally = serde_json::from_str(r#"{"amount":"0.1","units":1}"#).unwrap();
        assert_eq!(tally("0.3", 3).since(&old), Some(tally("0.2", 2)));
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
        let sum = tally("0.3", 3).since(&tally("0.1", 1));
        assert_eq!(sum, Some(tally("0.2", 2)));
        assert_eq!(tally("1", 1).since(&tally("2", 2)), None, "other books");
        assert!(tally("0.0000009", 1).is_nothing() && !tally("0.000001", 1).is_nothing());
    }

    #[test]
    fn a_tally_is_written_down_exactly() {
        let text = serde_json::to_string(&tally("0.000000000001", 7)).unwrap();
        assert_eq!(text, r#"{"currency":"EUR","amount":"0.000000000001","units":7}"#);
        assert_eq!(serde_json::from_str::<Tally>(&text).unwrap(), tally("0.000000000001", 7));
    }
}
