//! Lines with the balance after them, and the one rule by which six places are shown.
//!
//! A balance is shown rounded to six places, what is half away from zero. A line shows the difference of the
//! balances shown before and after it. So the lines shown always add up to the closing shown, whatever their
//! order by category, and a line differs from its exact amount by less than a millionth.

use super::{AccountLines, Line, Statement};
use crate::{Amount, Code};

/// Decimal places on pages.
pub const PLACES_SHOWN: u32 = 6;

/// A line, and what it makes of its account.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// The line.
    pub line: &'a Line,
    /// The account's balance after it, exact.
    pub balance: Amount,
    /// What pages show of its amount.
    pub shown: Amount,
}

/// One account on a page: its lines by category.
#[derive(Debug)]
pub struct Section<'a> {
    /// The account, with its exact opening and closing.
    pub account: AccountLines,
    /// The lines of each code that has some, in the order of [`Code::ALL`].
    pub parts: Vec<SectionPart<'a>>,
}

/// Lines of one account and code.
#[derive(Debug)]
pub struct SectionPart<'a> {
    /// The code.
    pub code: Code,
    /// The sum of what is shown of the lines.
    pub shown: Amount,
    /// Its lines, by time.
    pub rows: Vec<Row<'a>>,
}

/// Every line with its balance, in the statement's order.
#[must_use]
pub fn rows(statement: &Statement) -> Vec<Row<'_>> {
    let mut balances: Vec<(&AccountLines, Amount)> =
        statement.accounts.iter().map(|account| (account, account.opening)).collect();
    let mut rows = Vec::with_capacity(statement.lines.len());
    for line in &statement.lines {
        let Some((_, balance)) = balances.iter_mut().find(|(account, _)| account.has(line)) else {
            continue;
        };
        let before = *balance;
        *balance = before + line.amount;
        let shown = balance.rounded(PLACES_SHOWN) - before.rounded(PLACES_SHOWN);
        rows.push(Row { line, balance: *balance, shown });
    }
    rows
}

/// The accounts as pages show them.
#[must_use]
pub fn sections(statement: &Statement) -> Vec<Section<'_>> {
    let rows = rows(statement);
    let section = |account: &AccountLines| {
        let part = |code| {
            let of = |row: &&Row<'_>| account.has(row.line) && row.line.code == code;
            let rows: Vec<Row<'_>> = rows.iter().filter(of).copied().collect();
            let shown = rows.iter().map(|row| row.shown).sum();
            (!rows.is_empty()).then_some(SectionPart { code, shown, rows })
        };
        Section { account: *account, parts: Code::ALL.into_iter().filter_map(part).collect() }
    };
    statement.accounts.iter().map(section).collect()
}

/// What a line was about, in one phrase.
pub(super) fn about(line: &Line) -> String {
    let mut parts = Vec::new();
    if let Some(job) = line.job {
        parts.push(format!("jobs/{job}"));
    }
    if let Some(unit) = &line.unit {
        parts.push(format!("{} {}", unit.stage, unit.index));
        parts.push(format!("devices/{}", unit.device));
        parts.push(format!("{}, {}", unit.attempt, unit.verdict));
    }
    if let Some(batch) = line.batch {
        parts.push(format!("payouts/{batch}"));
    }
    if !line.reason.is_empty() {
        parts.push(plain(&line.reason));
    }
    parts.join("  ")
}

/// Text from elsewhere on one line.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
