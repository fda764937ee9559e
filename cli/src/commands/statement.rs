//! `lull statement`: a month of an owner's or a submitter's accounts, for people, spreadsheets and bookkeepers.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use lull_ledger::Currency;
use lull_ledger::statement::{self, AccountLines, Holder, Month, Statement};
use lull_proto::v1;

use super::ledger_line;
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, interruptible};
use crate::out::{self, Sink};
use crate::text::name;

/// Show a month of an owner's or a submitter's accounts: opening, lines by category, closing
///
/// text and html show six places; csv, json and journal are exact. journal is for hledger and ledger: it asserts
/// every balance at the end of each day. Ends with 7 when the lines do not make the closing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull statement --me --month 2026-11
  lull statement --owner bob --month 2026-11 --format csv --out bob.csv
  lull statement --owner bob --month 2026-11 --currency JPY
  lull statement --submitter clinic --month 2026-11 --format journal | hledger -f - balance

JSON: {holder, month, currencies: [code, ..], as_of, final, accounts: [{currency, account,
opening, closing}, ..], lines: [{time, transfer, currency, account, category, amount, shown, balance, job, stage, unit,
device, device_name, attempt, digest, verdict, payout, reason}, ..]}")]
#[command(group = ArgGroup::new("whose").required(true).args(["owner", "submitter", "me"]))]
pub(crate) struct StatementArgs {
    /// The owner, such as bob or owners/bob
    #[arg(long, value_name = "NAME", value_parser = name::owner)]
    owner: Option<String>,
    /// The submitter, such as clinic or submitters/clinic
    #[arg(long, value_name = "NAME", value_parser = name::submitter)]
    submitter: Option<String>,
    /// Whomever the token speaks for
    #[arg(long)]
    me: bool,
    /// The month, by UTC
    #[arg(long, value_name = "YYYY-MM", value_parser = |text: &str| text.parse::<Month>())]
    month: Month,
    /// One currency [default: every one in which there ever was something]
    #[arg(long, value_name = "CODE", value_parser = name::currency)]
    currency: Option<String>,
    /// How it is written down [default: text, or json with --output json]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
    /// A file instead of stdout; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// How a statement is written down.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// For terminals
    Text,
    /// For spreadsheets
    Csv,
    /// For programs
    Json,
    /// To print
    Html,
    /// For hledger and ledger
    Journal,
}

/// Shows a statement.
///
/// # Errors
/// [`Exit::Unbalanced`] when it does not add up; the coordinator's refusal.
pub(crate) async fn run(grid: &Grid, args: StatementArgs, output: out::Format) -> Result<()> {
    let format = args.format.unwrap_or(match output {
        out::Format::Table => Format::Text,
        out::Format::Json => Format::Json,
    });
    let mut sink = Sink::open(args.out.as_deref())?;
    // Without either the token says whose it is.
    let name = args.owner.or(args.submitter).unwrap_or_default();
    let statement = interruptible(read(grid, name, args.month, args.currency.unwrap_or_default())).await?;
    if let Err(error) = statement.check() {
        let message = format!("{error}: this is not what the ledger has; ask again, then run `lull books`");
        return Err(Error::new(Exit::Unbalanced, message));
    }
    sink.write(&written(&statement, format)?)?;
    sink.finish()
}

fn written(statement: &Statement, format: Format) -> Result<Vec<u8>> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Exit::Failure, format!("cannot write the statement: {error}"))
    };
    Ok(match format {
        Format::Text => statement::text(statement).into_bytes(),
        Format::Csv => statement::csv(statement).map_err(|error| failed(&error))?,
        Format::Json => (statement::json(statement).map_err(|error| failed(&error))? + "\n").into_bytes(),
        Format::Html => statement::html(statement).into_bytes(),
        Format::Journal => statement::journal(statement).into_bytes(),
    })
}

async fn read(grid: &Grid, name: String, month: Month, currency: String) -> Result<Statement> {
    let request = v1::ReadStatementRequest { name, month: month.to_string(), currency };
    let explain = |status| grid.explain(&status);
    let mut parts = grid.ledger().read_statement(request).await.map_err(explain)?.into_inner();
    let mut statement: Option<(Statement, Vec<Currency>)> = None;
    while let Some(part) = parts.message().await.map_err(explain)? {
        if let Some(head) = part.head {
            statement = Some(begun(head, month)?);
        }
        if let Some((statement, currencies)) = &mut statement {
            for line in part.lines {
                statement.lines.push(ledger_line::line(line, currencies)?);
            }
        }
    }
    statement
        .map(|(statement, _)| statement)
        .ok_or_else(|| Error::new(Exit::Failure, "the coordinator sent no statement: ask again"))
}

fn begun(head: v1::StatementHead, month: Month) -> Result<(Statement, Vec<Currency>)> {
    let currencies = head.currencies.iter().map(ledger_line::currency).collect::<Result<Vec<_>>>()?;
    let holder = match head.name.split_once('/') {
        Some(("owners", name)) => Holder::Owner(name.to_owned()),
        Some((_, name)) => Holder::Submitter(name.to_owned()),
        None => Holder::Submitter(head.name),
    };
    let account = |account: &v1::StatementAccount| {
        Ok(AccountLines {
            currency: ledger_line::known(&account.currency, &currencies)?,
            account: ledger_line::account(&account.kind)?,
            opening: ledger_line::amount(&account.opening)?,
            closing: ledger_line::amount(&account.closing)?,
        })
    };
    let statement = Statement {
        holder,
        month,
        as_of: ledger_line::time(head.as_of_time)?,
        is_final: head.r#final,
        accounts: head.accounts.iter().map(account).collect::<Result<_>>()?,
        lines: Vec::new(),
    };
    Ok((statement, currencies))
}
