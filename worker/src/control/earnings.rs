//! What this PC earned, as the owner reads it.

use super::Earnings;
use super::status::{rough, units};
use crate::core::shown;

/// The figures in lines. `time` shows Unix seconds.
#[must_use]
pub fn text(earnings: &Earnings, now_unix_secs: u64, time: impl Fn(u64) -> String) -> String {
    let mut rows = vec![
        ("in all".to_owned(), &earnings.total),
        (format!("this month ({} UTC)", earnings.month), &earnings.this_month),
    ];
    if let (Some(earned), Some(left)) = (&earnings.since_left, earnings.left_unix_secs) {
        rows.push((format!("since somebody left ({})", time(left)), earned));
    }
    let name = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let parts = || rows.iter().flat_map(|(_, tally)| tally.parts());
    let digits = parts().map(|(_, amount, _)| shown(amount).len()).max().unwrap_or(0);
    let letters = parts().map(|(currency, ..)| currency.len()).max().unwrap_or(0);
    let mut lines = vec!["This PC earned, verified and paid so far:".to_owned(), String::new()];
    for (name_, tally) in &rows {
        lines.extend(tally.parts().enumerate().map(|(at, (currency, amount, count))| {
            let name_ = if at == 0 { name_ } else { "" };
            format!("  {name_:<name$}  {:>digits$} {currency:<letters$}  {}", shown(amount), units(count))
        }));
    }
    if let Some(problem) = &earnings.problem {
        let age = rough(now_unix_secs.saturating_sub(earnings.read_unix_secs));
        lines.extend([String::new(), format!("These figures are {age} old: {problem}")]);
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{InCurrency, Tally};

    #[test]
    fn sums_stand_under_each_other_and_old_ones_say_so() {
        let tally = |amount: &str, units| Tally {
            currency: "EUR".to_owned(),
            amount: amount.parse().unwrap(),
            units,
            others: Vec::new(),
        };
        let mut earnings = Earnings {
            total: tally("123.45", 1234),
            this_month: tally("1.5", 15),
            month: "2026-11".to_owned(),
            since_left: Some(tally("0", 0)),
            left_unix_secs: Some(7),
            read_unix_secs: 100,
            problem: None,
        };
        let said = text(&earnings, 100, |secs| format!("<{secs}>"));
        let wanted = "This PC earned, verified and paid so far:\n\
            \n  in all                     123.450000 EUR  1234 units\
            \n  this month (2026-11 UTC)     1.500000 EUR  15 units\
            \n  since somebody left (<7>)    0.000000 EUR  0 units";
        assert_eq!(said, wanted);
        let yen = InCurrency { currency: "JPY".to_owned(), amount: "7".parse().unwrap(), units: 2 };
        earnings.total.others.push(yen);
        let said = text(&earnings, 100, |secs| format!("<{secs}>"));
        assert!(
            said.contains("1234 units\n                               7.000000 JPY  2 units\n"),
            "{said}"
        );
        earnings.problem = Some("Unavailable".to_owned());
        earnings.left_unix_secs = None;
        let said = text(&earnings, 400, |_| String::new());
        assert!(said.ends_with("These figures are 5 min old: Unavailable"), "{said}");
        assert!(!said.contains("somebody"), "{said}");
    }
}
