//! What a notification says.

use crate::core::Notice;

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Its first line.
    pub summary: String,
    /// The rest.
    pub body: String,
}

/// Puts a notice into words.
#[must_use]
pub fn words(notice: &Notice) -> Words {
    let units = match notice.earned.all_units() {
        1 => "1 unit".to_owned(),
        units => format!("{units} units"),
    };
    Words {
        summary: format!("While you were away this PC earned {}", notice.earned.shown()),
        body: format!("{units}, verified and paid so far.\nThis month: {}", notice.books.this_month.shown()),
    }
}

#[cfg(test)]
mod tests {
    use crate::core::{Books, InCurrency, Tally};

    use super::*;

    #[test]
    fn it_says_what_was_earned_and_that_more_may_come() {
        let tally = |amount: &str, units| Tally {
            currency: "EUR".to_owned(),
            amount: amount.parse().unwrap(),
            units,
            others: Vec::new(),
        };
        let this_month = tally("12.345678", 370);
        let books = Books { total: tally("99", 999), this_month, month: "2026-11".to_owned() };
        let said = words(&Notice { earned: tally("1.2345678", 37), books: books.clone() });
        assert_eq!(said.summary, "While you were away this PC earned 1.234567 EUR");
        assert_eq!(said.body, "37 units, verified and paid so far.\nThis month: 12.345678 EUR");
        let mut both = tally("1", 1);
        both.others.push(InCurrency { currency: "JPY".to_owned(), amount: "20".parse().unwrap(), units: 2 });
        let said = words(&Notice { earned: both, books: books.clone() });
        assert_eq!(said.summary, "While you were away this PC earned 1.000000 EUR and 20.000000 JPY");
        assert!(said.body.starts_with("3 units, "), "{}", said.body);
        assert!(words(&Notice { earned: tally("1", 1), books }).body.starts_with("1 unit, "));
    }
}
