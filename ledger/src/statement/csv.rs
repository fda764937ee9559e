//! A statement as CSV (RFC 4180: CRLF, quotes where needed), safe to open as a spreadsheet.

use chrono::SecondsFormat;

use super::{AccountLines, PLACES_SHOWN, Row, Statement, UnitOf, rows};
use crate::Amount;

/// The columns. `amount` and `balance` are exact; `shown` is what pages show of the amount.
const HEADER: [&str; 19] = [
    "time",
    "account",
    "category",
    "amount",
    "shown",
    "balance",
    "job",
    "stage",
    "unit",
    "device",
    "device_name",
    "attempt",
    "digest",
    "verdict",
    "payout",
    "transfer",
    "final",
    "reason",
    "currency",
];

/// The statement as CSV: for each account a row `opening`, then every line by time, then for each account a row
/// `closing`. Opening and lines make the closing, in `amount` exactly and in `shown` too.
///
/// # Errors
/// When a row cannot be written, which a vector never refuses.
pub fn csv(statement: &Statement) -> Result<Vec<u8>, ::csv::Error> {
    let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(HEADER)?;
    let is_final = if statement.is_final { "yes" } else { "no" };
    let edge = |category: &'static str, account: &AccountLines, amount: Amount| {
        let (exact, shown) = (amount.fixed(Amount::PLACES), amount.fixed(PLACES_SHOWN));
        let mut record = vec![
            String::new(),
            account.account.name().to_owned(),
            category.to_owned(),
            exact.clone(),
            shown,
            exact,
        ];
        record.resize(HEADER.len(), String::new());
        record[16] = is_final.to_owned();
        record[18] = account.currency.to_string();
        record
    };
    for account in &statement.accounts {
        writer.write_record(edge("opening", account, account.opening))?;
    }
    for row in rows(statement) {
        writer.write_record(record(&row, is_final))?;
    }
    for account in &statement.accounts {
        writer.write_record(edge("closing", account, account.closing))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

fn record(row: &Row<'_>, is_final: &str) -> [String; 19] {
    let line = row.line;
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let unit = |field: fn(&UnitOf) -> String| line.unit.as_ref().map(field).unwrap_or_default();
    [
        line.time.to_rfc3339_opts(SecondsFormat::Micros, true),
        line.account.name().to_owned(),
        line.code.name().to_owned(),
        line.amount.fixed(Amount::PLACES),
        row.shown.fixed(PLACES_SHOWN),
        row.balance.fixed(Amount::PLACES),
        number(line.job),
        unit(|unit| cell(&unit.stage)),
        unit(|unit| unit.index.to_string()),
        unit(|unit| unit.device.to_string()),
        unit(|unit| cell(&unit.device_name)),
        unit(|unit| cell(&unit.attempt)),
        unit(|unit| cell(&unit.digest)),
        unit(|unit| cell(&unit.verdict)),
        number(line.batch),
        line.transfer.to_string(),
        is_final.to_owned(),
        cell(&line.reason),
        line.currency.to_string(),
    ]
}

/// Text that no spreadsheet takes for a formula: after OWASP's page "CSV Injection", what begins with one of `= + - @`, in
/// either width, a tab or a line break gets an apostrophe before it. So does such a sign after a semicolon, a tab or a line
/// break inside: a spreadsheet that takes those for separators begins a cell there. Amounts do not come here: they stay numbers.
#[must_use]
pub fn cell(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = None;
    for c in text.chars() {
        let begins = before.is_none_or(|before| matches!(before, ';' | '\t' | '\r' | '\n'));
        let is_formula = matches!(c, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠');
        if begins && is_formula || before.is_none() && matches!(c, '\t' | '\r' | '\n') {
            escaped.push('\'');
        }
        escaped.push(c);
        before = Some(c);
    }
    escaped
}
