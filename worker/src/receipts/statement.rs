//! Receipts against the statement of their owner, as `lull statement --format json` writes it down: another way than the
//! one on which a coordinator tells a device what it was paid.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike as _, TimeDelta, Utc};
use rust_decimal::Decimal;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::compare::{Difference, Kind, name};
use super::sheet::{Paid, Receipt, Unit};

/// What was paid this long before a statement was drawn up is on it: transactions commit within that time.
const SETTLES_AFTER: TimeDelta = TimeDelta::minutes(5);

/// A month of an owner, as far as it is compared.
#[derive(Debug, Deserialize)]
pub struct Statement {
    /// Whose it is.
    pub holder: String,
    /// Such as 2026-11.
    pub month: String,
    #[serde(deserialize_with = "parsed")]
    as_of: DateTime<Utc>,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize)]
struct Line {
    #[serde(deserialize_with = "parsed")]
    time: DateTime<Utc>,
    category: String,
    currency: String,
    #[serde(deserialize_with = "parsed")]
    amount: Decimal,
    job: Option<u64>,
    stage: Option<String>,
    unit: Option<u64>,
    device: Option<u64>,
}

/// Times and amounts are text.
fn parsed<'de, D, T>(text: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(text)?.parse().map_err(D::Error::custom)
}

/// A statement that was compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Whose it is.
    pub holder: String,
    /// Of which month.
    pub month: String,
    /// Rewards of this device on it.
    pub units: u64,
}

/// Job, stage, index and time: what is made from a job's work once more has another time.
type Key = (u64, String, u64, DateTime<Utc>);

impl Statement {
    /// Reads a statement.
    ///
    /// # Errors
    /// When it is none, or not an owner's.
    pub fn read(text: &str) -> Result<Self, String> {
        let statement: Self = serde_json::from_str(text)
            .map_err(|error| format!("is not what `lull statement --format json` writes: {error}"))?;
        if statement.holder.starts_with("owners/") {
            Ok(statement)
        } else {
            Err(format!("is the statement of {}: receipts are an owner's", statement.holder))
        }
    }

    /// What of the month does not agree with these receipts of a device. Of postings up to `pruned_through` receipts may have
    /// been removed.
    pub(super) fn compare(
        &self,
        device: u64,
        receipts: &BTreeMap<u64, Receipt>,
        pruned_through: u64,
    ) -> (Compared, Vec<Difference>) {
        let mut stated: BTreeMap<Key, Paid> = BTreeMap::new();
        for line in self.lines.iter().filter(|line| line.category == "reward" && line.device == Some(device))
        {
            let (Some(job), Some(stage), Some(unit)) = (line.job, &line.stage, line.unit) else { continue };
            let paid = Paid { currency: line.currency.clone(), amount: line.amount };
            stated.insert((job, stage.clone(), unit, line.time), paid);
        }
        let units = stated.len() as u64;
        let compared = Compared { holder: self.holder.clone(), month: self.month.clone(), units };
        let mut differences = Vec::new();
        let mut add = |kind, posting, message| differences.push(Difference { kind, posting, message });
        // Before the first receipt that is here, others may have been.
        let mut first = None;
        for (number, receipt) in receipts {
            let (secs, nanos) = receipt.posting.time;
            let Some(time) = DateTime::from_timestamp(secs, nanos.unsigned_abs()) else { continue };
            first = first.min(Some(time)).or(Some(time));
            if format!("{:04}-{:02}", time.year(), time.month()) != self.month {
                continue;
            }
            for (unit, amount) in &receipt.posting.lines {
                let on = format!("the statement of {} for {}", self.holder, self.month);
                match stated.remove(&key(unit, time)) {
                    Some(paid) if amount.is(&paid) => {}
                    Some(paid) => {
                        let message = format!(
                            "posting {number}, {}: the receipt says {amount}, {on} {paid}",
                            name(unit)
                        );
                        add(Kind::Amount, Some(*number), message);
                    }
                    None if time > self.as_of - SETTLES_AFTER => {}
                    None => {
                        let message = format!(
                            "posting {number}, {}: the receipt says {amount}, {on} has no such line",
                            name(unit)
                        );
                        add(Kind::NotStated, Some(*number), message);
                    }
                }
            }
        }
        for ((job, stage, unit, time), paid) in stated {
            if pruned_through == 0 || first.is_some_and(|first| time >= first) {
                let message = format!(
                    "jobs/{job} {stage} unit {unit}, paid {paid} at {}: it is on the statement of {} for {}, there is no receipt",
                    time.format("%Y-%m-%d %H:%M:%S UTC"),
                    self.holder,
                    self.month
                );
                add(Kind::NoReceipt, None, message);
            }
        }
        (compared, differences)
    }
}

fn key(unit: &Unit, time: DateTime<Utc>) -> Key {
    (unit.job_id, unit.stage(), unit.index, time)
}

#[cfg(test)]
mod tests {
    use super::super::compare::{Collection, Comparison, compare};
    use super::super::sheet::tests::{holder, message, signed};
    use super::super::store::State;
    use super::*;

    /// 2023-11-14 22:13:20 UTC.
    const TIME: i64 = 1_700_000_000;

    fn line(unit: u64, second: u32, device: u64, amount: &str) -> String {
        format!(
            r#"{{"time":"2023-11-14T22:13:{second}.000000Z","transfer":1,"currency":"EUR","account":"available",
            "category":"reward","amount":"{amount}","shown":"1","balance":"1","job":3,"stage":"work","unit":{unit},
            "device":{device},"device_name":"pc","attempt":"result","digest":"00","verdict":"accepted"}}"#
        )
    }

    fn statement(month: &str, lines: &[String]) -> String {
        format!(
            r#"{{"holder":"owners/ada","month":"{month}","currencies":["EUR"],"as_of":"2023-12-01T00:00:00.000000Z",
            "final":false,"accounts":[],"lines":[{}]}}"#,
            lines.join(",")
        )
    }

    /// Two postings of this device, of which the ledger says the same as their receipts, and what a statement says.
    fn compared(statement: &str) -> Comparison {
        let receipts = [message(5, TIME, &["0.1", "0.2"]), message(6, TIME + 1, &["1"])];
        let mut collection = Collection::default();
        collection.add(&signed(&receipts, 1), &holder(), &[], "here");
        let ledger: Vec<_> = receipts
            .map(|receipt| lull_proto::v1::DevicePosting {
                posting: receipt.posting,
                time: receipt.time,
                lines: receipt
                    .lines
                    .into_iter()
                    .map(|line| lull_proto::v1::PaidLine { line: Some(line), taken_back: String::new() })
                    .collect(),
            })
            .into();
        let statements = [Statement::read(statement).unwrap()];
        let state = State::default();
        compare(collection, &ledger, &Default::default(), &state, (holder().device_id, &statements)).unwrap()
    }

    #[test]
    fn every_reward_of_the_device_is_on_the_statement_once() {
        let all = [
            line(0, 20, 7, "0.100000000000"),
            line(1, 20, 7, "0.2"),
            line(0, 21, 7, "1"),
            line(9, 21, 8, "4"),
        ];
        let check = |lines: &[String], expected: &[Kind]| {
            let compared = compared(&statement("2023-11", lines));
            let found: Vec<_> = compared.differences.iter().map(|one| one.kind).collect();
            assert_eq!(found, expected, "{compared:?}");
        };
        check(&all, &[]);
        check(&all[1..], &[Kind::NotStated]);
        check(&[&all[..], &[line(2, 20, 7, "1")]].concat(), &[Kind::NoReceipt]);
        check(&[&all[1..], &[line(0, 20, 7, "0.11")]].concat(), &[Kind::Amount]);
        // Of another time it is another reward.
        check(&[&all[1..], &[line(0, 22, 7, "0.1")]].concat(), &[Kind::NoReceipt, Kind::NotStated]);
        let other_month = compared(&statement("2023-12", &[]));
        assert_eq!(other_month.differences, []);
        assert_eq!(other_month.statements[0].units, 0);
    }

    #[test]
    fn what_is_paid_after_a_statement_was_drawn_up_is_not_missed_on_it() {
        let early = statement("2023-11", &[]).replace("2023-12-01T00:00:00", "2023-11-14T22:13:30");
        assert_eq!(compared(&early).differences, []);
    }

    #[test]
    fn only_statements_of_owners_are_taken() {
        let other = statement("2023-11", &[]).replace("owners/ada", "submitters/clinic");
        assert!(Statement::read(&other).unwrap_err().contains("submitters/clinic"));
        assert!(Statement::read("time,account").unwrap_err().contains("--format json"));
    }
}
