//! `lull fund`, `earnings`, `books`. Amounts are strings from end to end: nothing is added up here.

use clap::Args;
use lull_proto::v1;
use serde::Serialize;

use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, interruptible, until_answered};
use crate::out::{self, Align, Format};
use crate::text::{amount, human, name};

/// Put money from outside onto a submitter's balance (operators)
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull fund clinic 100.00
  lull fund clinic 20000 --currency JPY

JSON: {name, currency, amount, balance}")]
pub(crate) struct FundArgs {
    /// The submitter, such as clinic or submitters/clinic
    #[arg(value_name = "SUBMITTER", value_parser = name::submitter)]
    submitter: String,
    /// How much
    #[arg(value_name = "AMOUNT", value_parser = amount::parse)]
    amount: String,
    /// What it is in [default: the grid's default]
    #[arg(long, value_name = "CODE", value_parser = name::currency)]
    currency: Option<String>,
    /// Name of this deposit: the same one is booked once, however often it is sent
    #[arg(long, value_name = "UUID", value_parser = name::request_id)]
    request_id: Option<String>,
}

/// Show what owners of PCs earned; without a name yours, or everybody's for an operator
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull earnings
  lull earnings bob --by day

JSON: {\"owners\": [{owner, currency, total, pending, available, payout, paid, remainder,
attempts, by_device, by_job, by_day}, ..]}, one for each currency that somebody earned, where each by_ list has {key, amount, attempts}; days are in UTC.")]
pub(crate) struct EarningsArgs {
    /// The owner, such as bob or owners/bob
    #[arg(value_name = "OWNER", value_parser = name::owner)]
    owner: Option<String>,
    /// Break the total down
    #[arg(long, value_enum, value_name = "WHAT")]
    by: Option<By>,
}

/// How earnings are broken down.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum By {
    /// A line for each device
    Device,
    /// A line for each job
    Job,
    /// A line for each day, in UTC
    Day,
}

/// Recompute every balance from the transfers (operators)
///
/// Ends with 7 unless in every currency the sum of all balances is zero and each one is the sum of its transfers.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  lull books && echo balanced

JSON: {balanced, sums: [{currency, sum}, ..], transfers, accounts, totals: [{currency, kind,
balance}, ..], faults: [text, ..]}")]
pub(crate) struct BooksArgs {}

#[derive(Debug, Serialize)]
struct Deposit {
    name: String,
    currency: String,
    amount: String,
    balance: String,
}

#[derive(Debug, Serialize)]
struct Earnings {
    owners: Vec<OwnerEarnings>,
}

#[derive(Debug, Serialize)]
struct OwnerEarnings {
    owner: String,
    currency: String,
    total: String,
    pending: String,
    available: String,
    payout: String,
    paid: String,
    remainder: String,
    attempts: u64,
    by_device: Vec<EarningsLine>,
    by_job: Vec<EarningsLine>,
    by_day: Vec<EarningsLine>,
}

#[derive(Debug, Serialize)]
struct EarningsLine {
    key: String,
    amount: String,
    attempts: u64,
}

#[derive(Debug, Serialize)]
struct Books {
    balanced: bool,
    sums: Vec<CurrencySum>,
    transfers: u64,
    accounts: u64,
    totals: Vec<AccountTotal>,
    faults: Vec<String>,
}

#[derive(Debug, Serialize)]
struct CurrencySum {
    currency: String,
    sum: String,
}

#[derive(Debug, Serialize)]
struct AccountTotal {
    currency: String,
    kind: String,
    balance: String,
}

/// Books a deposit.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn fund(grid: &Grid, args: FundArgs, format: Format) -> Result<()> {
    let request = v1::CreateDepositRequest {
        parent: args.submitter,
        amount: args.amount,
        currency: args.currency.unwrap_or_default(),
        request_id: args.request_id.unwrap_or_else(name::random_request_id),
    };
    let deposit = interruptible(until_answered(grid, || {
        let (mut client, request) = (grid.ledger(), request.clone());
        async move { client.create_deposit(request).await }
    }))
    .await
    .map_err(|error| match error.exit {
        Exit::Unreachable => Error::new(
            error.exit,
            format!(
                "{error}. It may have booked the deposit: repeat with --request-id {}",
                request.request_id
            ),
        ),
        _ => error,
    })?;
    let v1::Deposit { name, amount, balance, currency } = deposit;
    match format {
        Format::Json => out::json(&Deposit { name, currency, amount, balance }),
        Format::Table => out::line(&format!(
            "{} deposited for {}: its balance is {}",
            amount::money(&amount, &currency),
            request.parent,
            amount::money(&balance, &currency)
        )),
    }
}

/// Shows earnings.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn earnings(grid: &Grid, args: EarningsArgs, format: Format) -> Result<()> {
    let request = v1::GetEarningsRequest { name: args.owner.unwrap_or_default() };
    let call = async { grid.ledger().get_earnings(request).await.map_err(|status| grid.explain(&status)) };
    let owners = interruptible(call).await?.into_inner().owners;
    match format {
        Format::Json => {
            out::json(&Earnings { owners: owners.into_iter().map(OwnerEarnings::from).collect() })
        }
        Format::Table if owners.is_empty() => {
            out::say("nobody earned anything yet");
            Ok(())
        }
        Format::Table => out::line(&earnings_table(&owners, args.by)),
    }
}

impl From<v1::OwnerEarnings> for OwnerEarnings {
    fn from(earnings: v1::OwnerEarnings) -> Self {
        let lines = |lines: Vec<v1::EarningsLine>| {
            let line = |v1::EarningsLine { key, amount, attempts }| EarningsLine { key, amount, attempts };
            lines.into_iter().map(line).collect()
        };
        Self {
            owner: earnings.owner,
            currency: earnings.currency,
            total: earnings.total,
            pending: earnings.pending,
            available: earnings.available,
            payout: earnings.payout,
            paid: earnings.paid,
            remainder: earnings.remainder,
            attempts: earnings.attempts,
            by_device: lines(earnings.by_device),
            by_job: lines(earnings.by_job),
            by_day: lines(earnings.by_day),
        }
    }
}

fn earnings_table(owners: &[v1::OwnerEarnings], by: Option<By>) -> String {
    let mut header = vec![("owner", Align::Left), ("currency", Align::Left)];
    let (title, lines): (_, fn(&v1::OwnerEarnings) -> &[v1::EarningsLine]) = match by {
        None => ("", |_| &[]),
        Some(By::Device) => ("device", |owner| &owner.by_device),
        Some(By::Job) => ("job", |owner| &owner.by_job),
        Some(By::Day) => ("day (UTC)", |owner| &owner.by_day),
    };
    if by.is_some() {
        header.push((title, Align::Left));
    }
    header.push(("earned", Align::Right));
    if by.is_none() {
        header.extend(
            ["pending", "available", "in payout", "paid", "remainder"].map(|title| (title, Align::Right)),
        );
    }
    header.push(("rewarded attempts", Align::Right));
    let mut rows = Vec::new();
    for owner in owners {
        let name = human::plain(owner.owner.strip_prefix("owners/").unwrap_or(&owner.owner));
        let currency = human::plain(&owner.currency);
        match by {
            None => rows.push(vec![
                name,
                currency,
                amount::show(&owner.total),
                amount::show(&owner.pending),
                amount::show(&owner.available),
                amount::show(&owner.payout),
                amount::show(&owner.paid),
                amount::show(&owner.remainder),
                human::count(owner.attempts),
            ]),
            Some(_) => rows.extend(lines(owner).iter().map(|line| {
                vec![
                    name.clone(),
                    currency.clone(),
                    human::plain(&line.key),
                    amount::show(&line.amount),
                    human::count(line.attempts),
                ]
            })),
        }
    }
    out::table(&header, rows)
}

/// Checks the books.
///
/// # Errors
/// [`Exit::Unbalanced`] when they do not balance; the coordinator's refusal.
pub(crate) async fn books(grid: &Grid, format: Format) -> Result<()> {
    let call = async {
        grid.ledger().check_books(v1::CheckBooksRequest {}).await.map_err(|status| grid.explain(&status))
    };
    let books = Books::from(interruptible(call).await?.into_inner());
    match format {
        Format::Json => out::json(&books)?,
        Format::Table => out::line(&books_table(&books))?,
    }
    if books.balanced {
        return Ok(());
    }
    let faults = human::counted(books.faults.len() as u64, "fault");
    let sums: Vec<String> = books.sums.iter().map(|one| format!("{} {}", one.sum, one.currency)).collect();
    let message = format!(
        "the books do not balance: the sum is {}, {faults}; stop payouts and look",
        sums.join(" and ")
    );
    Err(Error::new(Exit::Unbalanced, message))
}

impl From<v1::Books> for Books {
    fn from(books: v1::Books) -> Self {
        let total = |v1::AccountTotal { kind, balance, currency }| AccountTotal { currency, kind, balance };
        let sum = |v1::CurrencySum { currency, sum }| CurrencySum { currency, sum };
        let is_zero = books.sums.iter().all(|one| amount::is_zero(&one.sum));
        Self {
            balanced: books.faults.is_empty() && !books.sums.is_empty() && is_zero,
            sums: books.sums.into_iter().map(sum).collect(),
            transfers: books.transfers,
            accounts: books.accounts,
            totals: books.totals.into_iter().map(total).collect(),
            faults: books.faults,
        }
    }
}

fn books_table(books: &Books) -> String {
    let header = [("currency", Align::Left), ("account", Align::Left), ("balance", Align::Right)];
    let mut rows = Vec::new();
    for CurrencySum { currency, sum } in &books.sums {
        let row = |kind: &str, balance: &str| {
            vec![human::plain(currency), human::plain(kind), amount::show(balance)]
        };
        let of = books.totals.iter().filter(|total| total.currency == *currency);
        rows.extend(of.map(|total| row(&total.kind, &total.balance)));
        rows.push(row("sum", sum));
    }
    let mut text = out::table(&header, rows);
    text += &format!(
        "\n{} between {}, {}",
        human::counted(books.transfers, "transfer"),
        human::counted(books.accounts, "account"),
        human::counted(books.faults.len() as u64, "fault")
    );
    for fault in &books.faults {
        text += &format!("\nfault: {}", human::plain(fault));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(currency: &str, kind: &str, balance: &str) -> v1::AccountTotal {
        let [currency, kind, balance] = [currency, kind, balance].map(str::to_owned);
        v1::AccountTotal { kind, balance, currency }
    }

    fn books(sum: &str, faults: &[&str]) -> Books {
        Books::from(v1::Books {
            sums: vec![
                v1::CurrencySum { currency: "EUR".to_owned(), sum: sum.to_owned() },
                v1::CurrencySum { currency: "JPY".to_owned(), sum: "0".to_owned() },
            ],
            transfers: 1_204,
            accounts: 7,
            totals: vec![
                total("EUR", "bank", "-100"),
                total("EUR", "available", "20.0000005"),
                total("JPY", "bank", "-7"),
            ],
            faults: faults.iter().map(|fault| (*fault).to_owned()).collect(),
        })
    }

    #[test]
    fn books_balance_when_the_sum_is_exactly_zero_and_nothing_is_at_fault() {
        let check = |sum: &str, faults: &[&str], balanced: bool| {
            assert_eq!(books(sum, faults).balanced, balanced, "{sum} {faults:?}");
        };
        check("0", &[], true);
        check("0.000000000000", &[], true);
        check("0.000000000001", &[], false);
        check("0", &["account 3"], false);
    }

    #[test]
    fn books_as_a_table() {
        let expected = "\
currency  account        balance
EUR       bank       -100.000000
EUR       available    20.000001
EUR       sum           0.000000
JPY       bank         -7.000000
JPY       sum           0.000000
1,204 transfers between 7 accounts, 1 fault
fault: account 3 is off";
        assert_eq!(books_table(&books("0", &["account 3 is off"])), expected);
    }

    #[test]
    fn earnings_in_total_and_by_day() {
        let line = v1::EarningsLine { key: "2026-07-23".to_owned(), amount: "1.5".to_owned(), attempts: 3 };
        let owner = v1::OwnerEarnings {
            owner: "owners/bob".to_owned(),
            currency: "JPY".to_owned(),
            remainder: "0.25".to_owned(),
            total: "12.3456789".to_owned(),
            pending: "2".to_owned(),
            available: "10.3456789".to_owned(),
            payout: "0".to_owned(),
            paid: "0".to_owned(),
            attempts: 1_000,
            by_day: vec![line],
            ..Default::default()
        };
        let total = earnings_table(std::slice::from_ref(&owner), None);
        let expected = "\
owner  currency     earned   pending  available  in payout      paid  remainder  rewarded attempts
bob    JPY       12.345679  2.000000  10.345679   0.000000  0.000000   0.250000              1,000";
        assert_eq!(total, expected);
        let by_day = earnings_table(&[owner], Some(By::Day));
        assert!(by_day.ends_with("bob    JPY       2026-07-23  1.500000                  3"), "{by_day}");
    }
}
