//! `lull balance`: what a submitter or an owner has, why some of it is pending, and what it is made of.

use clap::{Args, ValueEnum};
use lull_proto::v1;
use serde::Serialize;

use super::ledger_line;
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, interruptible};
use crate::out::{self, Align, Format};
use crate::text::{amount, human, name};

/// Show what a submitter or an owner has; without a name, what you have
///
/// An owner's money is pending, available, in a payout, or paid, and what a payout left, as its currency has no decimals for it,
/// is the remainder. All of it is in the books: nothing is estimated.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull balance clinic
  lull balance owners/bob --lines pending

JSON of a submitter: {name, currency, available, escrow, spent, others}
JSON of an owner: {name, currency, available, pending, payout, paid, remainder, others,
pending_parts: [{reason, job,
amount, results, first_after_results, last_after_results, first_time, last_time}, ..],
lines: [{part, time, category, currency, amount, job, stage, unit, device, device_name, attempt,
digest, verdict, payout, reason, after_results, available_time}, ..]}
It is of the grid's default currency; `others` is a list of the same in each other in which
there ever was something, and left out where there is none; so is `lines` without --lines.")]
pub(crate) struct BalanceArgs {
    /// The submitter, such as clinic, or the owner, such as owners/bob
    #[arg(value_name = "NAME", value_parser = name::holder)]
    holder: Option<String>,
    /// Open an owner's balance into its lines: job, unit, device, attempt, verdict
    #[arg(long, value_enum, value_name = "PART", num_args = 0..=1, default_missing_value = "all")]
    lines: Option<Part>,
    /// One currency [default: every one in which there ever was something]
    #[arg(long, value_name = "CODE", value_parser = name::currency)]
    currency: Option<String>,
}

/// Parts of an owner's balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Each of the others
    All,
    /// Earned, and could still be lost
    Pending,
    /// Can be paid out
    Available,
    /// In a batch that is not finished
    Payout,
    /// Paid out
    Paid,
}

#[derive(Debug, Serialize)]
struct Submitter {
    name: String,
    currency: String,
    available: String,
    escrow: String,
    spent: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Submitter>,
}

#[derive(Debug, Serialize)]
struct Owner {
    name: String,
    currency: String,
    available: String,
    pending: String,
    payout: String,
    paid: String,
    remainder: String,
    pending_parts: Vec<PendingPart>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<Line>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    others: Vec<Owner>,
}

#[derive(Debug, Serialize)]
struct PendingPart {
    reason: &'static str,
    job: String,
    amount: String,
    results: u64,
    first_after_results: u64,
    last_after_results: u64,
    first_time: Option<String>,
    last_time: Option<String>,
}

/// A line of a balance.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    part: &'static str,
    time: Option<String>,
    category: String,
    currency: String,
    amount: String,
    job: String,
    stage: String,
    unit: Option<u64>,
    device: Option<u64>,
    device_name: String,
    attempt: String,
    digest: String,
    verdict: String,
    payout: String,
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    after_results: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    available_time: Option<String>,
}

/// Shows a balance.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn run(grid: &Grid, args: BalanceArgs, format: Format) -> Result<()> {
    let name = args.holder.unwrap_or_default();
    // A name alone is a submitter's.
    let is_submitter = name.starts_with("submitters/");
    let explain = |status| match grid.explain(&status) {
        Error { exit: Exit::NotFound, message } if is_submitter => {
            Error::new(Exit::NotFound, format!("{message}; an owner is named like owners/bob"))
        }
        error => error,
    };
    interruptible(async {
        let balances = match args.currency {
            Some(currency) => {
                let response = grid.ledger().get_balance(v1::GetBalanceRequest { name, currency }).await;
                vec![response.map_err(explain)?.into_inner()]
            }
            None => {
                let response = grid.ledger().list_balances(v1::ListBalancesRequest { name }).await;
                response.map_err(explain)?.into_inner().balances
            }
        };
        if !balances.first().is_some_and(|balance| balance.name.starts_with("owners/")) {
            return submitter(balances, format);
        }
        let mut opened = Vec::with_capacity(balances.len());
        for balance in balances {
            let Some(part) = args.lines else {
                opened.push((balance, None));
                continue;
            };
            // With the balance of their moment: this one may be older.
            let request = v1::ReadBalanceLinesRequest {
                name: balance.name,
                part: part.wire().into(),
                batch: String::new(),
                currency: balance.currency,
            };
            let (balance, lines) = read_lines(grid, request).await?;
            opened.push((balance, Some(lines)));
        }
        owner(opened, format)
    })
    .await
}

impl Part {
    fn wire(self) -> v1::BalancePart {
        match self {
            Self::All => v1::BalancePart::All,
            Self::Pending => v1::BalancePart::Pending,
            Self::Available => v1::BalancePart::Available,
            Self::Payout => v1::BalancePart::Payout,
            Self::Paid => v1::BalancePart::Paid,
        }
    }
}

/// An owner's balance, and the lines of a part of it, or of a payout.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn read_lines(
    grid: &Grid,
    request: v1::ReadBalanceLinesRequest,
) -> Result<(v1::Balance, Vec<Line>)> {
    let explain = |status| grid.explain(&status);
    let mut stream = grid.ledger().read_balance_lines(request).await.map_err(explain)?.into_inner();
    let (mut balance, mut lines) = (v1::Balance::default(), Vec::new());
    while let Some(response) = stream.message().await.map_err(explain)? {
        let part = part_name(response.part());
        balance = response.balance.unwrap_or(balance);
        for line in response.lines {
            lines.push(line_of(line, part)?);
        }
    }
    Ok((balance, lines))
}

fn part_name(part: v1::BalancePart) -> &'static str {
    match part {
        v1::BalancePart::Pending => "pending",
        v1::BalancePart::Available => "available",
        // Those of one payout have no part.
        v1::BalancePart::Payout | v1::BalancePart::Unspecified | v1::BalancePart::All => "payout",
        v1::BalancePart::Paid => "paid",
    }
}

fn line_of(line: v1::BalanceLine, part: &'static str) -> Result<Line> {
    let v1::BalanceLine { line, after_results, available_time } = line;
    let line = line.unwrap_or_default();
    let unit = line.unit.map(ledger_line::unit).transpose()?;
    let (index, device) = (unit.as_ref().map(|unit| unit.index), unit.as_ref().map(|unit| unit.device));
    let unit = unit.unwrap_or_default();
    Ok(Line {
        part,
        time: line.time.map(|time| time.to_string()),
        category: line.category,
        currency: line.currency,
        amount: line.amount,
        job: line.job,
        stage: unit.stage,
        unit: index,
        device,
        device_name: unit.device_name,
        attempt: unit.attempt,
        digest: unit.digest,
        verdict: unit.verdict,
        payout: line.batch,
        reason: line.reason,
        after_results: available_time.map(|_| after_results),
        available_time: available_time.map(|time| time.to_string()),
    })
}

fn submitter(balances: Vec<v1::Balance>, format: Format) -> Result<()> {
    if format == Format::Json {
        let mut all = balances.into_iter().map(|balance| {
            let v1::Balance { name, currency, available, escrow, spent, .. } = balance;
            Submitter { name, currency, available, escrow, spent, others: Vec::new() }
        });
        let first = all.next();
        return out::json(&first.map(|first| Submitter { others: all.collect(), ..first }));
    }
    for (at, balance) in balances.iter().enumerate() {
        let money = |text: &str| amount::money(text, &balance.currency);
        out::line(&apart(
            at,
            out::facts(vec![
                ("submitter", human::plain(&balance.name)),
                ("available", money(&balance.available)),
                ("in escrow", money(&balance.escrow)),
                ("spent", money(&balance.spent)),
            ]),
        ))?;
    }
    Ok(())
}

/// A blank line before all but the first.
fn apart(at: usize, text: String) -> String {
    if at == 0 { text } else { format!("\n{text}") }
}

fn owner(balances: Vec<(v1::Balance, Option<Vec<Line>>)>, format: Format) -> Result<()> {
    if format == Format::Json {
        let mut all = balances.into_iter().map(|(balance, lines)| Owner {
            name: balance.name,
            currency: balance.currency,
            available: balance.available,
            pending: balance.pending,
            payout: balance.payout,
            paid: balance.paid,
            remainder: balance.remainder,
            pending_parts: balance.pending_parts.into_iter().map(pending_part).collect(),
            lines,
            others: Vec::new(),
        });
        let first = all.next();
        return out::json(&first.map(|first| Owner { others: all.collect(), ..first }));
    }
    for (at, (balance, lines)) in balances.iter().enumerate() {
        let money = |text: &str| amount::money(text, &balance.currency);
        let mut facts = vec![
            ("owner", human::plain(&balance.name)),
            ("pending", money(&balance.pending)),
            ("available", money(&balance.available)),
            ("in payout", money(&balance.payout)),
            ("paid", money(&balance.paid)),
        ];
        if !amount::is_zero(&balance.remainder) {
            facts.push((
                "remainder",
                format!("{}, which the next payout takes up", money(&balance.remainder)),
            ));
        }
        out::line(&apart(at, out::facts(facts)))?;
        for part in &balance.pending_parts {
            out::line(&why(part, &balance.currency))?;
        }
        if let Some(lines) = lines {
            out::line(&format!("\n{}", lines_table(lines)))?;
        }
    }
    Ok(())
}

fn pending_part(part: v1::PendingPart) -> PendingPart {
    let reason = match part.reason() {
        v1::PendingReason::HeldBack => "held_back",
        v1::PendingReason::TakenBack => "taken_back",
        v1::PendingReason::Unspecified => "unknown",
    };
    PendingPart {
        reason,
        job: part.job,
        amount: part.amount,
        results: part.results,
        first_after_results: part.first_after_results,
        last_after_results: part.last_after_results,
        first_time: part.first_time.map(|time| time.to_string()),
        last_time: part.last_time.map(|time| time.to_string()),
    }
}

/// Why some pay is pending, and until when.
fn why(part: &v1::PendingPart, currency: &str) -> String {
    let amount = amount::money(&part.amount, currency);
    if part.reason() == v1::PendingReason::TakenBack {
        return format!(
            "{amount} pending: a wrong result of this owner was found, and it is about to be taken back"
        );
    }
    let (first, last) = (part.first_after_results, part.last_after_results);
    let after = if first == last { human::count(first) } else { format!("{first} to {last}") };
    format!(
        "{amount} pending for {} of {}, which buys confidence: available after {after} more results \
         that pay as much, and on {} UTC at the latest",
        human::counted(part.results, "result"),
        human::plain(&part.job),
        human::time(part.last_time.as_ref())
    )
}

/// Lines of a balance as a table.
pub(crate) fn lines_table(lines: &[Line]) -> String {
    let header = [
        ("part", Align::Left),
        ("time (UTC)", Align::Left),
        ("category", Align::Left),
        ("amount", Align::Right),
        ("job", Align::Left),
        ("unit", Align::Left),
        ("device", Align::Left),
        ("attempt", Align::Left),
        ("verdict", Align::Left),
        ("about", Align::Left),
    ];
    let row = |line: &Line| {
        let time = line.time.as_deref().unwrap_or("-");
        let about = match (line.after_results, &line.available_time) {
            (Some(results), Some(time)) => {
                format!("after {} or on {}", human::counted(results, "more such result"), day(time))
            }
            _ => format!("{} {}", line.payout, human::plain(&line.reason)).trim().to_owned(),
        };
        let digest: String = line.digest.chars().take(8).collect();
        vec![
            line.part.to_owned(),
            time.get(..19).unwrap_or(time).replace('T', " "),
            line.category.clone(),
            amount::money(&line.amount, &line.currency),
            human::plain(&line.job),
            line.unit.map(|unit| format!("{} {unit}", line.stage)).unwrap_or_default(),
            line.device
                .map(|device| format!("{device} {}", human::short(&line.device_name, 24)))
                .unwrap_or_default(),
            format!("{} {digest}", line.attempt).trim().to_owned(),
            line.verdict.clone(),
            about,
        ]
    };
    out::table(&header, lines.iter().map(row).collect())
}

fn day(time: &str) -> &str {
    time.get(..10).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn pending_pay_says_why_and_until_when() {
        let part = v1::PendingPart {
            reason: v1::PendingReason::HeldBack.into(),
            job: "jobs/3".to_owned(),
            amount: "0.5".to_owned(),
            results: 1,
            first_after_results: 12,
            last_after_results: 40,
            first_time: None,
            last_time: Some(Timestamp { seconds: 1_784_801_472, nanos: 0 }),
        };
        let expected = "0.500000 EUR pending for 1 result of jobs/3, which buys confidence: available after 12 to 40 \
            more results that pay as much, and on 2026-07-23 10:11:12 UTC at the latest";
        assert_eq!(why(&part, "EUR"), expected);
        let lost = v1::PendingPart { reason: v1::PendingReason::TakenBack.into(), ..part };
        assert!(why(&lost, "EUR").contains("about to be taken back"));
    }
}
