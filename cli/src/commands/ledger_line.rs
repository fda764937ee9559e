//! Lines of the ledger as they come over the wire.

use chrono::{DateTime, Utc};
use lull_ledger::statement::{Line, UnitOf};
use lull_ledger::{AccountKind, Amount, Code, Currency};
use lull_proto::v1;
use prost_types::Timestamp;

use crate::error::{Error, Exit, Result};
use crate::view;

/// A line of a statement.
///
/// # Errors
/// When the coordinator says something that this program does not know.
pub(crate) fn line(line: v1::StatementLine, currencies: &[Currency]) -> Result<Line> {
    let unknown = |what: &str, text: &str| malformed(&format!("{what} `{text}`"));
    let code = Code::ALL.into_iter().find(|code| code.name() == line.category);
    Ok(Line {
        time: time(line.time)?,
        transfer: line.transfer,
        currency: known(&line.currency, currencies)?,
        account: account(&line.account)?,
        code: code.ok_or_else(|| unknown("category", &line.category))?,
        amount: amount(&line.amount)?,
        job: number(&line.job)?,
        unit: line.unit.map(unit).transpose()?,
        batch: number(&line.batch)?,
        reason: line.reason,
    })
}

/// What was paid for.
///
/// # Errors
/// When it makes no sense.
pub(crate) fn unit(unit: v1::LedgerUnit) -> Result<UnitOf> {
    let attempt = match unit.outcome() {
        v1::Outcome::Result => "result",
        v1::Outcome::GuestFailed => "guest failed",
        v1::Outcome::Limit => "limit",
        v1::Outcome::Unspecified => "unknown",
    };
    let verdict = match unit.verdict() {
        v1::UnitVerdict::Accepted => "accepted",
        v1::UnitVerdict::Failed => "failed",
        v1::UnitVerdict::Replaced => "replaced",
        v1::UnitVerdict::Reopened => "reopened",
        v1::UnitVerdict::Unspecified => "unknown",
    };
    Ok(UnitOf {
        stage: view::stage(unit.stage.as_ref()),
        index: unit.index,
        device: number(&unit.device)?.unwrap_or_default(),
        device_name: unit.device_name,
        attempt: attempt.to_owned(),
        digest: hex::encode(&unit.digest),
        verdict: verdict.to_owned(),
    })
}

/// An account by its name.
///
/// # Errors
/// When there is none.
pub(crate) fn account(name: &str) -> Result<AccountKind> {
    let kind = AccountKind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| malformed(&format!("account `{name}`")))
}

/// A currency, with its decimals.
///
/// # Errors
/// When it is none.
pub(crate) fn currency(currency: &v1::Currency) -> Result<Currency> {
    let known = Currency::new(&currency.code, Some(currency.decimals));
    known.map_err(|error| malformed(&format!("a currency that is none: {error}")))
}

/// One of these, by its code.
///
/// # Errors
/// When it is another.
pub(crate) fn known(code: &str, currencies: &[Currency]) -> Result<Currency> {
    let known = currencies.iter().copied().find(|currency| currency.code() == code);
    known.ok_or_else(|| malformed(&format!("currency `{code}`")))
}

/// An amount.
///
/// # Errors
/// When it is none.
pub(crate) fn amount(text: &str) -> Result<Amount> {
    text.parse().map_err(|error| malformed(&format!("{error}")))
}

/// A time.
///
/// # Errors
/// When it is missing or out of range.
pub(crate) fn time(time: Option<Timestamp>) -> Result<DateTime<Utc>> {
    let nanos = |time: Timestamp| u32::try_from(time.nanos).ok();
    time.and_then(|time| DateTime::from_timestamp(time.seconds, nanos(time)?))
        .ok_or_else(|| malformed("a time that is none"))
}

/// The number in `jobs/12`; none in an empty name.
fn number(name: &str) -> Result<Option<u64>> {
    match name.split_once('/') {
        None if name.is_empty() => Ok(None),
        Some((_, number)) if number.parse::<u64>().is_ok() => Ok(number.parse().ok()),
        _ => Err(malformed(&format!("name `{name}`"))),
    }
}

fn malformed(what: &str) -> Error {
    let message =
        format!("the coordinator sent {what}: is this `lull` older than it? install the same version");
    Error::new(Exit::Failure, message)
}
