//! Months of UTC.

use std::fmt;
use std::str::FromStr;

use chrono::{Datelike, NaiveDate};

/// A month of UTC, from 2000 to 9998.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month(NaiveDate);

/// Text that is no month.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a month: write it as 2026-11")]
pub struct MonthError(String);

impl Month {
    /// Its first day.
    #[must_use]
    pub const fn first_day(self) -> NaiveDate {
        self.0
    }

    /// The month after it.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.checked_add_months(chrono::Months::new(1)).unwrap_or(self.0))
    }

    /// Whether this day is in it.
    #[must_use]
    pub fn contains(self, day: NaiveDate) -> bool {
        (day.year(), day.month()) == (self.0.year(), self.0.month())
    }
}

impl FromStr for Month {
    type Err = MonthError;

    fn from_str(text: &str) -> Result<Self, MonthError> {
        let month = || {
            let (year, month) =
                text.split_once('-').filter(|(year, month)| year.len() == 4 && month.len() == 2)?;
            let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let year = is_digits(year)
                .then(|| year.parse().ok())
                .flatten()
                .filter(|year| (2000..9999).contains(year))?;
            let month = is_digits(month).then(|| month.parse().ok()).flatten()?;
            NaiveDate::from_ymd_opt(year, month, 1)
        };
        month().map(Self).ok_or_else(|| MonthError(text.to_owned()))
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%Y-%m"))
    }
}
