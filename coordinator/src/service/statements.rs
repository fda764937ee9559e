//! Statements and lines of balances as messages, in pieces.

use std::pin::Pin;

use lull_job::stage_to_proto;
use lull_ledger::CurrencyId;
use lull_ledger::statement::Month;
use lull_proto::v1;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use super::turns::{Reader, Turn};
use super::{Context, last_part, number, status, view};
use crate::core::{Outcome, OwnerId};
use crate::store::{
    BalanceLine, BalancePart, BalancePiece, Error, GridCurrency, Holder, OwnerBalance, Pieces, StatementHead,
    StatementLine, StatementPart, Store, Subject, SubmitterBalance, UnitVerdict,
};

/// An answer in pieces.
pub(super) type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

/// Pieces that wait for their reader.
const PIECES_WAITING: usize = 4;
/// Bytes of a reason: a sentence or two.
const REASON_BYTES_MAX: usize = 500;

/// Whose money a caller asks about: its own, or for an operator anybody's.
pub(super) async fn holder<T>(context: &Context, request: &Request<T>, name: &str) -> Result<Holder, Status> {
    let subject = context.auth.subject(request).await?;
    let store = &context.store;
    let asked = match name.split_once('/') {
        _ if name.is_empty() => None,
        Some(("owners", _)) => {
            let owner = store.owner(last_part(name, "owners")?).await;
            Some(Holder::Owner(owner.map_err(status::from_store)?))
        }
        _ => {
            let submitter = store.submitter(last_part(name, "submitters")?).await;
            Some(Holder::Submitter(submitter.map_err(status::from_store)?))
        }
    };
    let own = match subject {
        Subject::Operator(_) => {
            return asked.ok_or_else(|| {
                status::invalid(
                    "name",
                    "is missing: an operator's token speaks for nobody, so name a submitter or an owner",
                )
            });
        }
        Subject::Submitter(id) => Holder::Submitter(id),
        Subject::Owner(id) => Holder::Owner(id),
    };
    match asked {
        Some(asked) if asked != own => Err(status::denied("this is somebody else's money")),
        _ => Ok(own),
    }
}

/// The caller's turn to read at length.
pub(super) async fn turn<T>(context: &Context, request: &Request<T>) -> Result<Option<Turn>, Status> {
    let reader = Reader::of(context.auth.subject(request).await?);
    reader.map(|reader| context.turns.take(reader)).transpose()
}

/// The caller's turn to read a balance: an owner's is made of its whole queue of pay that is held back.
pub(super) async fn balance_turn<T>(
    context: &Context,
    request: &Request<T>,
    holder: Holder,
) -> Result<Option<Turn>, Status> {
    match holder {
        Holder::Owner(_) => turn(context, request).await,
        Holder::Submitter(_) => Ok(None),
    }
}

/// A reason that somebody gave.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn reason(text: &str) -> Result<&str, Status> {
    let text = text.trim();
    if text.is_empty() || text.len() > REASON_BYTES_MAX || text.chars().any(char::is_control) {
        let problem = format!("is 1 to {REASON_BYTES_MAX} bytes on one line: say why");
        return Err(status::invalid("reason", &problem));
    }
    Ok(text)
}

/// What somebody has, in one currency or in all in which there ever was something.
pub(super) async fn balances(
    store: &Store,
    holder: Holder,
    only: Option<CurrencyId>,
) -> Result<Vec<v1::Balance>, Status> {
    match holder {
        Holder::Submitter(submitter) => {
            let balances = store.balances(submitter, only).await.map_err(status::from_store)?;
            Ok(balances.iter().map(submitter_balance).collect())
        }
        Holder::Owner(owner) => {
            let balances = store.owner_balances(owner, only).await.map_err(status::from_store)?;
            Ok(balances.iter().map(owner_balance).collect())
        }
    }
}

fn submitter_balance(balance: &SubmitterBalance) -> v1::Balance {
    v1::Balance {
        name: format!("submitters/{}", balance.name),
        currency: balance.currency.to_string(),
        available: balance.available.to_string(),
        escrow: balance.escrow.to_string(),
        spent: balance.spent.to_string(),
        ..v1::Balance::default()
    }
}

/// What an owner has.
fn owner_balance(balance: &OwnerBalance) -> v1::Balance {
    let parts = &balance.pending_parts;
    let mut pending_parts: Vec<v1::PendingPart> = parts
        .iter()
        .map(|part| v1::PendingPart {
            reason: v1::PendingReason::HeldBack.into(),
            job: format!("jobs/{}", part.job),
            amount: part.amount.to_string(),
            results: part.results,
            first_after_results: part.after_results[0],
            last_after_results: part.after_results[1],
            first_time: Some(view::timestamp(part.times[0])),
            last_time: Some(view::timestamp(part.times[1])),
        })
        .collect();
    let rest = balance.pending - parts.iter().map(|part| part.amount).sum();
    if rest.is_positive() {
        pending_parts.push(v1::PendingPart {
            reason: v1::PendingReason::TakenBack.into(),
            amount: rest.to_string(),
            ..v1::PendingPart::default()
        });
    }
    v1::Balance {
        name: format!("owners/{}", balance.name),
        available: balance.available.to_string(),
        pending: balance.pending.to_string(),
        payout: balance.payout.to_string(),
        paid: balance.paid.to_string(),
        currency: balance.currency.to_string(),
        remainder: balance.remainder.to_string(),
        pending_parts,
        ..v1::Balance::default()
    }
}

/// The parts that are asked for.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
pub(super) fn balance_parts(request: &v1::ReadBalanceLinesRequest) -> Result<Vec<BalancePart>, Status> {
    if !request.batch.is_empty() {
        return Ok(vec![BalancePart::Batch(number(&request.batch, "payouts")?)]);
    }
    match request.part() {
        v1::BalancePart::Unspecified => Err(status::invalid("part", "is missing")),
        v1::BalancePart::Pending => Ok(vec![BalancePart::Pending]),
        v1::BalancePart::Available => Ok(vec![BalancePart::Available]),
        v1::BalancePart::Payout => Ok(vec![BalancePart::Payout]),
        v1::BalancePart::Paid => Ok(vec![BalancePart::Paid]),
        v1::BalancePart::All => {
            Ok(vec![BalancePart::Pending, BalancePart::Available, BalancePart::Payout, BalancePart::Paid])
        }
    }
}

/// What an owner has, and what parts of it are made of.
pub(super) fn balance_lines(
    store: Store,
    owner: OwnerId,
    of: GridCurrency,
    parts: Vec<BalancePart>,
    turn: Option<Turn>,
) -> Stream<v1::ReadBalanceLinesResponse> {
    let message = |piece| match piece {
        BalancePiece::Balance(balance) => v1::ReadBalanceLinesResponse {
            balance: Some(owner_balance(&balance)),
            ..v1::ReadBalanceLinesResponse::default()
        },
        BalancePiece::Lines(part, lines) => v1::ReadBalanceLinesResponse {
            balance: None,
            part: part_to_proto(part).into(),
            lines: lines.into_iter().map(balance_line).collect(),
        },
    };
    stream(message, turn, move |pieces| async move {
        let result = store.balance_lines(owner, of, &parts, &pieces).await;
        (pieces, result)
    })
}

fn part_to_proto(part: BalancePart) -> v1::BalancePart {
    match part {
        BalancePart::Pending => v1::BalancePart::Pending,
        BalancePart::Available => v1::BalancePart::Available,
        BalancePart::Payout => v1::BalancePart::Payout,
        BalancePart::Paid => v1::BalancePart::Paid,
        BalancePart::Batch(_) => v1::BalancePart::Unspecified,
    }
}

fn balance_line(BalanceLine { line: about, until }: BalanceLine) -> v1::BalanceLine {
    v1::BalanceLine {
        after_results: until.map_or(0, |(results, _)| results),
        available_time: until.map(|(_, time)| view::timestamp(time)),
        line: Some(line(about, true)),
    }
}

/// A statement.
pub(super) fn statement(
    store: Store,
    holder: Holder,
    month: Month,
    only: Option<CurrencyId>,
    turn: Option<Turn>,
) -> Stream<v1::ReadStatementResponse> {
    // What owners call their PCs is not for submitters.
    let names_devices = matches!(holder, Holder::Owner(_));
    let message = move |part| match part {
        StatementPart::Head(statement) => {
            v1::ReadStatementResponse { head: Some(head(holder, month, &statement)), lines: Vec::new() }
        }
        StatementPart::Lines(lines) => v1::ReadStatementResponse {
            head: None,
            lines: lines.into_iter().map(|about| line(about, names_devices)).collect(),
        },
    };
    stream(message, turn, move |pieces| async move {
        let result = store.statement(holder, month, only, &pieces).await;
        (pieces, result)
    })
}

/// Passes pieces on as messages. An error comes last, when the database's connection is free again.
fn stream<P, M, F>(
    message: impl Fn(P) -> M + Send + 'static,
    turn: Option<Turn>,
    read: impl FnOnce(Pieces<P>) -> F + Send + 'static,
) -> Stream<M>
where
    P: Send + 'static,
    M: Send + 'static,
    F: Future<Output = (Pieces<P>, Result<(), Error>)> + Send + 'static,
{
    let (send, receive) = mpsc::channel(PIECES_WAITING);
    tokio::spawn(async move {
        let (pieces, result) = read(send).await;
        drop(turn);
        if let Err(error) = result {
            // The reader may have gone.
            let _ = pieces.send(Err(error)).await;
        }
    });
    let pieces =
        tokio_stream::StreamExt::map(ReceiverStream::new(receive), move |piece: Result<P, Error>| {
            piece.map(&message).map_err(status::from_store)
        });
    Box::pin(pieces)
}

fn head(holder: Holder, month: Month, statement: &StatementHead) -> v1::StatementHead {
    let collection = match holder {
        Holder::Owner(_) => "owners",
        Holder::Submitter(_) => "submitters",
    };
    v1::StatementHead {
        name: format!("{collection}/{}", statement.name),
        month: month.to_string(),
        as_of_time: Some(view::timestamp(statement.as_of)),
        r#final: statement.is_final,
        accounts: statement
            .accounts
            .iter()
            .map(|account| v1::StatementAccount {
                kind: account.kind.name().to_owned(),
                opening: account.opening.to_string(),
                closing: account.closing.to_string(),
                currency: account.currency.to_string(),
            })
            .collect(),
        currencies: statement.currencies.iter().copied().map(view::currency).collect(),
    }
}

fn line(line: StatementLine, names_devices: bool) -> v1::StatementLine {
    let unit = line.unit.map(|unit| v1::LedgerUnit {
        stage: Some(stage_to_proto(unit.stage)),
        index: unit.index,
        device: format!("devices/{}", unit.device),
        device_name: if names_devices { unit.device_name } else { String::new() },
        outcome: outcome(unit.outcome).into(),
        digest: unit.digest.as_bytes().to_vec(),
        verdict: verdict(unit.verdict).into(),
    });
    v1::StatementLine {
        time: Some(view::timestamp(line.time)),
        transfer: line.transfer,
        currency: line.currency.to_string(),
        account: line.account.name().to_owned(),
        category: line.code.map_or("carried", lull_ledger::Code::name).to_owned(),
        amount: line.amount.to_string(),
        job: line.job.map(|job| format!("jobs/{job}")).unwrap_or_default(),
        unit,
        batch: line.batch.map(|batch| format!("payouts/{batch}")).unwrap_or_default(),
        reason: line.reason,
    }
}

fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Result => v1::Outcome::Result,
        Outcome::GuestFailed => v1::Outcome::GuestFailed,
        Outcome::Limit => v1::Outcome::Limit,
        Outcome::Undecidable => v1::Outcome::Unspecified,
    }
}

fn verdict(verdict: UnitVerdict) -> v1::UnitVerdict {
    match verdict {
        UnitVerdict::Accepted => v1::UnitVerdict::Accepted,
        UnitVerdict::Failed => v1::UnitVerdict::Failed,
        UnitVerdict::Replaced => v1::UnitVerdict::Replaced,
        UnitVerdict::Reopened => v1::UnitVerdict::Reopened,
    }
}
