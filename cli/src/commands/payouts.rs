//! `lull admin payer`, `payee`, `payout`: paying owners. Each command can be repeated: what is done stays as it is.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use lull_ledger::payout::{self, Order, Party, Payment};
use lull_proto::v1;
use serde::Serialize;

use super::{balance, ledger_line};
use crate::error::{Error, Exit, Result};
use crate::grid::{Grid, until_answered};
use crate::out::{self, Align, Format, Sink};
use crate::text::{amount, human, name};

/// Rows that are asked for at once.
const PAGE_SIZE: i32 = 1_000;

/// The grid's own account, which payouts come from
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  lull admin payer set --name \"Grid GmbH\" --iban DE89370400440532013000")]
pub(crate) enum PayerCommand {
    /// Say which account pays; batches that are proposed already keep theirs
    #[command(after_help = "\
Example:
  lull admin payer set --name \"Grid GmbH\" --iban DE89370400440532013000 --bic COBADEFFXXX

JSON: {currency, name, iban, bic}")]
    Set {
        /// As the bank has it: Latin letters without accents
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// The account
        #[arg(long, value_name = "IBAN")]
        iban: String,
        /// Its bank, if that wants to be named
        #[arg(long, value_name = "BIC", default_value = "")]
        bic: String,
        /// What is paid from there [default: the grid's default]
        #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true, value_parser = name::optional_currency)]
        currency: String,
    },
}

/// Who is paid for an owner
#[derive(Debug, Subcommand)]
#[command(after_help = "Example:\n  lull admin payee set bob --name \"Bob Doe\" --iban NO9386011117947")]
pub(crate) enum PayeeCommand {
    /// Say who is paid for an owner; batches that are proposed already keep theirs
    #[command(after_help = "\
Example:
  lull admin payee set bob --name \"Bob Doe\" --iban NO9386011117947

JSON: {owner, currency, name, iban}")]
    Set {
        /// The owner, such as bob or owners/bob
        #[arg(value_name = "OWNER", value_parser = name::owner)]
        owner: String,
        /// As the bank has it: Latin letters without accents
        #[arg(long, value_name = "TEXT")]
        name: String,
        /// The account; blanks do no harm
        #[arg(long, value_name = "IBAN")]
        iban: String,
        /// What the account takes; an owner may have a payee for each [default: the grid's default]
        #[arg(long, value_name = "CODE", default_value = "", hide_default_value = true, value_parser = name::optional_currency)]
        currency: String,
    },
    /// List them
    #[command(after_help = "Example:\n  lull admin payee list\n\nJSON: [{owner, currency, name, iban}, ..]")]
    List,
}

/// Pay owners: propose, approve by somebody else, export for the bank, mark paid or returned
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Example, with the tokens of two operators:
  lull --token-file alice.token admin payout propose --minimum 10
  lull --token-file bob.token   admin payout approve 3
  lull --token-file alice.token admin payout export 3 --out 3.xml
  lull --token-file alice.token admin payout mark-paid 3")]
pub(crate) enum PayoutCommand {
    Propose(Propose),
    /// Approve a batch that somebody else proposed
    #[command(after_help = "Example:\n  lull admin payout approve 3\n\nJSON: as of `show`")]
    Approve(Named),
    /// Reject a batch that is not exported: everything in it becomes available again
    #[command(
        after_help = "Example:\n  lull admin payout reject 3 --reason \"wrong month\"\n\nJSON: as of `show`"
    )]
    Reject {
        #[command(flatten)]
        batch: Named,
        /// Why, for the books
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    Export(Export),
    /// Mark payouts of an exported batch as paid: of these owners, or all that are open
    #[command(after_help = "\
Examples:
  lull admin payout mark-paid 3
  lull admin payout mark-paid 3 --owner bob --owner ada

JSON: as of `show`")]
    MarkPaid {
        #[command(flatten)]
        batch: Named,
        /// An owner; none: all that are open
        #[arg(long = "owner", value_name = "NAME", value_parser = name::owner)]
        owners: Vec<String>,
    },
    /// Mark a payout as returned by a bank, before or after it was marked paid: it becomes available again
    #[command(after_help = "\
Example:
  lull admin payout mark-returned 3 --owner bob --reason \"AC04 closed account\"

JSON: as of `show`")]
    MarkReturned {
        #[command(flatten)]
        batch: Named,
        /// The owner
        #[arg(long, value_name = "NAME", value_parser = name::owner)]
        owner: String,
        /// What the bank said, for the books
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// List batches, the newest first
    #[command(
        after_help = "Example:\n  lull admin payout list\n\nJSON: a list of what `show` has, without payouts"
    )]
    List,
    Show(Show),
}

/// Propose to pay every owner who has a payee and enough available, in one currency
///
/// What is paid has the decimals of the currency; what is less than that is the owner's remainder, and the next batch takes it up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull admin payout propose --minimum 10
  lull admin payout propose --minimum 1000 --currency JPY

JSON: as of `show`")]
pub(crate) struct Propose {
    /// Owners with less available wait [default: the smallest amount of the currency]
    #[arg(long, value_name = "AMOUNT", value_parser = amount::parse)]
    minimum: Option<String>,
    /// What the batch pays [default: the grid's default]
    #[arg(long, value_name = "CODE", value_parser = name::currency)]
    currency: Option<String>,
    /// Name of this proposal: the same one proposes once, however often it is sent
    #[arg(long, value_name = "UUID", value_parser = name::request_id)]
    request_id: Option<String>,
}

/// A batch.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// The batch, such as 3 or payouts/3
    #[arg(value_name = "BATCH", value_parser = name::batch)]
    batch: String,
}

/// Write an approved batch down for the bank; again it gives the same bytes
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull admin payout export 3 --out 3.xml
  lull admin payout export 3 --format csv > 3.csv")]
pub(crate) struct Export {
    #[command(flatten)]
    batch: Named,
    /// How it is written down
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "pain")]
    format: ExportFormat,
    /// A file instead of stdout; it appears whole or not at all
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExportFormat {
    /// ISO 20022 pain.001.001.09; in euros a SEPA credit transfer
    Pain,
    /// A table
    Csv,
}

/// Show a batch and its payouts
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lull admin payout show 3
  lull admin payout show 3 --lines bob

JSON: {name, state, currency, minimum, amount, payouts_count, open_count, payer, proposer, approver,
exporter, propose_time, approve_time, export_time, payouts: [{owner, payee, iban, amount,
state, carried_in, carried_out, remainder, lines, reason, paid_before}, ..]}, and with --lines what `lull balance`
has as lines")]
pub(crate) struct Show {
    #[command(flatten)]
    batch: Named,
    /// Open the payout of an owner into its lines
    #[arg(long, value_name = "OWNER", value_parser = name::owner)]
    lines: Option<String>,
}

#[derive(Debug, Serialize)]
struct Payer {
    currency: String,
    name: String,
    iban: String,
    bic: String,
}

#[derive(Debug, Serialize)]
struct Payee {
    owner: String,
    currency: String,
    name: String,
    iban: String,
}

#[derive(Debug, Serialize)]
struct Batch {
    name: String,
    state: &'static str,
    currency: String,
    minimum: String,
    amount: String,
    payouts_count: u64,
    open_count: u64,
    payer: Option<Payer>,
    proposer: String,
    approver: String,
    exporter: String,
    propose_time: Option<String>,
    approve_time: Option<String>,
    export_time: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    payouts: Vec<Payout>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    owners_without_payee: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<Vec<balance::Line>>,
}

#[derive(Debug, Serialize)]
struct Payout {
    owner: String,
    payee: String,
    iban: String,
    amount: String,
    state: &'static str,
    carried_in: String,
    carried_out: String,
    remainder: String,
    lines: u64,
    reason: String,
    paid_before: bool,
}

/// Makes a call that can be repeated, of one of the services.
macro_rules! call {
    ($grid:expr, $method:ident, $request:expr) => {{
        let request = $request;
        until_answered($grid, || {
            let (mut client, request) = ($grid.payouts(), request.clone());
            async move { client.$method(request).await }
        })
        .await
    }};
}

/// Sets the payer.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn payer(grid: &Grid, command: PayerCommand, format: Format) -> Result<()> {
    let PayerCommand::Set { name, iban, bic, currency } = command;
    let payer = v1::Payer { display_name: name, iban, bic, currency };
    let payer = payer_of(call!(grid, set_payer, v1::SetPayerRequest { payer: Some(payer) })?);
    match format {
        Format::Json => out::json(&payer),
        Format::Table => out::line(&format!("{} pays {} from {}", payer.name, payer.currency, payer.iban)),
    }
}

/// Sets or lists payees.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn payee(grid: &Grid, command: PayeeCommand, format: Format) -> Result<()> {
    let mut payees = Vec::new();
    match command {
        PayeeCommand::Set { owner, name, iban, currency } => {
            let payee = v1::Payee { owner, display_name: name, iban, currency };
            let payee = payee_of(call!(grid, set_payee, v1::SetPayeeRequest { payee: Some(payee) })?);
            if format == Format::Json {
                return out::json(&payee);
            }
            payees.push(payee);
        }
        PayeeCommand::List => {
            let mut page_token = String::new();
            loop {
                let request = v1::ListPayeesRequest { page_size: PAGE_SIZE, page_token };
                let page = call!(grid, list_payees, request)?;
                payees.extend(page.payees.into_iter().map(payee_of));
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            if format == Format::Json {
                return out::json(&payees);
            }
        }
    }
    let header = ["owner", "currency", "name", "iban"].map(|title| (title, Align::Left));
    let row = |payee: Payee| {
        vec![human::plain(&payee.owner), human::plain(&payee.currency), human::plain(&payee.name), payee.iban]
    };
    out::line(&out::table(&header, payees.into_iter().map(row).collect()))
}

/// A step of a batch.
///
/// # Errors
/// The coordinator's refusal.
pub(crate) async fn payout(grid: &Grid, command: PayoutCommand, format: Format) -> Result<()> {
    let batch = match command {
        PayoutCommand::Propose(args) => propose(grid, args).await?,
        PayoutCommand::Approve(Named { batch }) => {
            call!(grid, approve_payout_batch, v1::ApprovePayoutBatchRequest { name: batch })?
        }
        PayoutCommand::Reject { batch: Named { batch }, reason } => {
            call!(grid, reject_payout_batch, v1::RejectPayoutBatchRequest { name: batch, reason })?
        }
        PayoutCommand::Export(args) => return export(grid, args).await,
        PayoutCommand::MarkPaid { batch: Named { batch }, owners } => {
            call!(grid, mark_payouts_paid, v1::MarkPayoutsPaidRequest { name: batch, owners })?
        }
        PayoutCommand::MarkReturned { batch: Named { batch }, owner, reason } => {
            let request = v1::MarkPayoutReturnedRequest { name: batch, owner, reason };
            call!(grid, mark_payout_returned, request)?
        }
        PayoutCommand::List => return list(grid, format).await,
        PayoutCommand::Show(args) => return show(grid, args, format).await,
    };
    print(batch_of(batch), format)
}

async fn propose(grid: &Grid, args: Propose) -> Result<v1::PayoutBatch> {
    let request_id = args.request_id.unwrap_or_else(name::random_request_id);
    let request = v1::ProposePayoutsRequest {
        request_id: request_id.clone(),
        minimum: args.minimum.unwrap_or_default(),
        currency: args.currency.unwrap_or_default(),
    };
    call!(grid, propose_payouts, request).map_err(|error| match error.exit {
        Exit::Unreachable => Error::new(
            error.exit,
            format!("{error}. It may have proposed the batch: repeat with --request-id {request_id}"),
        ),
        _ => error,
    })
}

async fn export(grid: &Grid, args: Export) -> Result<()> {
    let mut sink = Sink::open(args.out.as_deref())?;
    let name = args.batch.batch;
    // What is exported cannot be rejected any more: nothing is that cannot be written.
    let mut trial = call!(grid, get_payout_batch, v1::GetPayoutBatchRequest { name: name.clone() })?;
    trial.export_time = trial.export_time.or(trial.propose_time);
    written(&trial, args.format)?;
    let batch = call!(grid, export_payout_batch, v1::ExportPayoutBatchRequest { name })?;
    sink.write(&written(&batch, args.format)?)?;
    sink.finish()
}

/// The batch as it is given to the bank.
fn written(batch: &v1::PayoutBatch, format: ExportFormat) -> Result<Vec<u8>> {
    let order = order(batch)?;
    let failed = |error: &dyn std::fmt::Display| {
        Error::new(Exit::Failure, format!("cannot write {}: {error}", batch.name))
    };
    match format {
        ExportFormat::Pain => payout::pain(&order).map_err(|error| failed(&error)),
        ExportFormat::Csv => payout::csv(&order).map_err(|error| failed(&error)),
    }
}

/// The batch as the bank is told of it: all its payouts, whatever became of them since, so that the bytes stay the
/// same.
fn order(batch: &v1::PayoutBatch) -> Result<Order> {
    let wrong = |error: &dyn std::fmt::Display| Error::new(Exit::Failure, format!("{}: {error}", batch.name));
    let party = |name: &str, iban: &str| {
        let iban = iban.parse().map_err(|error: payout::IbanError| wrong(&error))?;
        Party::new(name, iban).map_err(|error| wrong(&error))
    };
    let payment = |paid: &v1::Payout| {
        let payee = paid.payee.clone().unwrap_or_default();
        Ok(Payment {
            owner: paid.owner_number,
            owner_name: paid.owner.strip_prefix("owners/").unwrap_or(&paid.owner).to_owned(),
            payee: party(&payee.display_name, &payee.iban)?,
            amount: ledger_line::amount(&paid.amount)?,
        })
    };
    let payer = batch.payer.clone().unwrap_or_default();
    let bic = (!payer.bic.is_empty()).then(|| payer.bic.parse()).transpose();
    Ok(Order {
        batch: batch.name.strip_prefix("payouts/").and_then(|number| number.parse().ok()).unwrap_or_default(),
        currency: ledger_line::currency(&batch.currency.clone().unwrap_or_default())?,
        exported_at: ledger_line::time(batch.export_time)?,
        payer: party(&payer.display_name, &payer.iban)?,
        payer_bic: bic.map_err(|error: payout::PartyError| wrong(&error))?,
        payments: batch.payouts.iter().map(payment).collect::<Result<_>>()?,
    })
}

async fn list(grid: &Grid, format: Format) -> Result<()> {
    let mut batches = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListPayoutBatchesRequest { page_size: PAGE_SIZE, page_token };
        let page = call!(grid, list_payout_batches, request)?;
        batches.extend(page.batches.into_iter().map(batch_of));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if format == Format::Json {
        return out::json(&batches);
    }
    let header = [
        ("batch", Align::Left),
        ("state", Align::Left),
        ("amount", Align::Right),
        ("payouts", Align::Right),
        ("open", Align::Right),
        ("proposed by", Align::Left),
        ("approved by", Align::Left),
    ];
    let row = |batch: Batch| {
        vec![
            batch.name,
            batch.state.to_owned(),
            amount::money(&batch.amount, &batch.currency),
            human::count(batch.payouts_count),
            human::count(batch.open_count),
            human::plain(&batch.proposer),
            human::plain(&batch.approver),
        ]
    };
    out::line(&out::table(&header, batches.into_iter().map(row).collect()))
}

async fn show(grid: &Grid, args: Show, format: Format) -> Result<()> {
    let name = args.batch.batch;
    let batch = call!(grid, get_payout_batch, v1::GetPayoutBatchRequest { name: name.clone() })?;
    let mut batch = batch_of(batch);
    if let Some(owner) = args.lines {
        let request = v1::ReadBalanceLinesRequest { name: owner, batch: name, ..Default::default() };
        batch.lines = Some(balance::read_lines(grid, request).await?.1);
    }
    print(batch, format)
}

fn print(batch: Batch, format: Format) -> Result<()> {
    if format == Format::Json {
        return out::json(&batch);
    }
    let by = |who: &str, when: &Option<String>| match when {
        Some(when) => format!("by {} on {} UTC", human::plain(who), human::time(when.parse().ok().as_ref())),
        None => "-".to_owned(),
    };
    let payer = batch.payer.as_ref().map(|payer| format!("{}, {}", payer.name, payer.iban));
    out::line(&out::facts(vec![
        ("batch", batch.name.clone()),
        ("state", batch.state.to_owned()),
        ("amount", amount::money(&batch.amount, &batch.currency)),
        ("minimum", amount::money(&batch.minimum, &batch.currency)),
        (
            "payouts",
            format!("{}, {} open", human::count(batch.payouts_count), human::count(batch.open_count)),
        ),
        ("payer", payer.unwrap_or_default()),
        ("proposed", by(&batch.proposer, &batch.propose_time)),
        ("approved", by(&batch.approver, &batch.approve_time)),
        ("exported", by(&batch.exporter, &batch.export_time)),
    ]))?;
    let header = [
        ("owner", Align::Left),
        ("payee", Align::Left),
        ("iban", Align::Left),
        ("account", Align::Left),
        ("amount", Align::Right),
        ("remainder", Align::Right),
        ("lines", Align::Right),
        ("state", Align::Left),
        ("reason", Align::Left),
    ];
    let row = |payout: &Payout| {
        vec![
            human::plain(&payout.owner),
            human::plain(&payout.payee),
            payout.iban.clone(),
            if payout.paid_before { "as before" } else { "new" }.to_owned(),
            amount::money(&payout.amount, &batch.currency),
            amount::show(&payout.remainder),
            human::count(payout.lines),
            payout.state.to_owned(),
            human::plain(&payout.reason),
        ]
    };
    out::line(&format!("\n{}", out::table(&header, batch.payouts.iter().map(row).collect())))?;
    if let Some([]) = batch.lines.as_deref() {
        out::say("this batch pays that owner nothing");
    } else if let Some(lines) = &batch.lines {
        out::line(&format!("\n{}", balance::lines_table(lines)))?;
    }
    for owner in &batch.owners_without_payee {
        out::say(&format!(
            "{owner} has enough and no payee that takes {}: `lull admin payee set` names one",
            batch.currency
        ));
    }
    Ok(())
}

fn payer_of(payer: v1::Payer) -> Payer {
    Payer { currency: payer.currency, name: payer.display_name, iban: payer.iban, bic: payer.bic }
}

fn payee_of(payee: v1::Payee) -> Payee {
    Payee { owner: payee.owner, currency: payee.currency, name: payee.display_name, iban: payee.iban }
}

fn batch_of(batch: v1::PayoutBatch) -> Batch {
    let state = match batch.state() {
        v1::PayoutBatchState::Proposed => "proposed",
        v1::PayoutBatchState::Approved => "approved",
        v1::PayoutBatchState::Exported => "exported",
        v1::PayoutBatchState::Rejected => "rejected",
        v1::PayoutBatchState::Unspecified => "unknown",
    };
    let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string());
    Batch {
        name: batch.name,
        state,
        currency: batch.currency.map(|currency| currency.code).unwrap_or_default(),
        minimum: batch.minimum,
        amount: batch.amount,
        payouts_count: batch.payout_count,
        open_count: batch.open_count,
        payer: batch.payer.map(payer_of),
        proposer: batch.proposer,
        approver: batch.approver,
        exporter: batch.exporter,
        propose_time: time(batch.propose_time),
        approve_time: time(batch.approve_time),
        export_time: time(batch.export_time),
        payouts: batch.payouts.into_iter().map(payout_of).collect(),
        owners_without_payee: batch.owners_without_payee,
        lines: None,
    }
}

fn payout_of(payout: v1::Payout) -> Payout {
    let state = match payout.state() {
        v1::PayoutState::Open => "open",
        v1::PayoutState::Paid => "paid",
        v1::PayoutState::Returned => "returned",
        v1::PayoutState::Unspecified => "unknown",
    };
    let payee = payout.payee.unwrap_or_default();
    Payout {
        owner: payout.owner,
        payee: payee.display_name,
        iban: payee.iban,
        amount: payout.amount,
        state,
        carried_in: payout.carried_in,
        carried_out: payout.carried_out,
        remainder: payout.remainder,
        lines: payout.lines,
        reason: payout.reason,
        paid_before: payout.paid_before,
    }
}
