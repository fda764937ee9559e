//! A statement as JSON: exact decimals in strings, times in RFC 3339.

use chrono::SecondsFormat;
use serde::Serialize;

use super::{PLACES_SHOWN, Row, Statement, rows};
use crate::Amount;

#[derive(Serialize)]
struct Page<'a> {
    holder: String,
    month: String,
    currencies: Vec<String>,
    as_of: String,
    r#final: bool,
    accounts: Vec<Account>,
    lines: Vec<LineOf<'a>>,
}

#[derive(Serialize)]
struct Account {
    currency: String,
    account: &'static str,
    opening: String,
    closing: String,
}

#[derive(Serialize)]
struct LineOf<'a> {
    time: String,
    transfer: u64,
    currency: String,
    account: &'static str,
    category: &'static str,
    amount: String,
    shown: String,
    balance: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<u64>,
    #[serde(flatten)]
    unit: Option<Unit<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payout: Option<u64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
}

#[derive(Serialize)]
struct Unit<'a> {
    stage: &'a str,
    unit: u64,
    device: u64,
    device_name: &'a str,
    attempt: &'a str,
    digest: &'a str,
    verdict: &'a str,
}

/// The statement as one JSON document.
///
/// # Errors
/// When it cannot be written, which a string never refuses.
pub fn json(statement: &Statement) -> Result<String, serde_json::Error> {
    let accounts = statement.accounts.iter().map(|account| Account {
        currency: account.currency.to_string(),
        account: account.account.name(),
        opening: exact(account.opening),
        closing: exact(account.closing),
    });
    serde_json::to_string(&Page {
        holder: statement.holder.to_string(),
        month: statement.month.to_string(),
        currencies: statement.currencies().iter().map(ToString::to_string).collect(),
        as_of: statement.as_of.to_rfc3339_opts(SecondsFormat::Micros, true),
        r#final: statement.is_final,
        accounts: accounts.collect(),
        lines: rows(statement).iter().map(line).collect(),
    })
}

fn exact(amount: Amount) -> String {
    amount.fixed(Amount::PLACES)
}

fn line<'a>(row: &Row<'a>) -> LineOf<'a> {
    let line = row.line;
    LineOf {
        time: line.time.to_rfc3339_opts(SecondsFormat::Micros, true),
        transfer: line.transfer,
        currency: line.currency.to_string(),
        account: line.account.name(),
        category: line.code.name(),
        amount: exact(line.amount),
        shown: row.shown.fixed(PLACES_SHOWN),
        balance: exact(row.balance),
        job: line.job,
        unit: line.unit.as_ref().map(|unit| Unit {
            stage: &unit.stage,
            unit: unit.index,
            device: unit.device,
            device_name: &unit.device_name,
            attempt: &unit.attempt,
            digest: &unit.digest,
            verdict: &unit.verdict,
        }),
        payout: line.batch,
        reason: &line.reason,
    }
}
