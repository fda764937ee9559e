//! Payouts: batches of what is available to owners. Each step is one transaction, and doing it again changes nothing.
//!
//! Locks are taken in the order batch, accounts.

use std::collections::BTreeMap;
use std::time::SystemTime;

use deadpool_postgres::Transaction;
use lull_ledger::payout::payable;
use lull_ledger::{AccountId, AccountKind, Amount, CurrencyId, Transfer};
use rust_decimal::Decimal;
use tokio_postgres::Row;

use super::batch::write_transfers;
use super::books::reverse;
use super::currencies::grid_currency;
use super::error::precondition;
use super::rows::From;
use super::{Error, GridCurrency, OperatorId, Store, run_tx};
use crate::core::OwnerId;

/// Payouts in one batch: what a bank's file and one message hold. The rest comes with the next batch.
const PAYOUTS_MAX: i64 = 20_000;
/// A proposal must not take longer, in seconds: its transfers are of the month in which it began, which is final soon after.
const PROPOSAL_SECS_MAX: f64 = 200.0;

/// The grid's own account at its bank, for one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payer {
    /// What is paid from there.
    pub currency: GridCurrency,
    /// As the bank has it.
    pub name: String,
    /// Its IBAN.
    pub iban: String,
    /// Its bank; empty where that is not said.
    pub bic: String,
}

/// Who is paid for an owner in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payee {
    /// What the account takes.
    pub currency: GridCurrency,
    /// The owner's number.
    pub owner: OwnerId,
    /// The owner's name.
    pub owner_name: String,
    /// As the bank has it.
    pub name: String,
    /// Its IBAN.
    pub iban: String,
}

/// How far a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchState {
    /// Waits for somebody else to approve it.
    Proposed,
    /// May be exported.
    Approved,
    /// The bank may have it.
    Exported,
    /// Will not be paid.
    Rejected,
}

/// How far a payout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayoutState {
    /// Neither paid nor returned.
    Open,
    /// The bank has paid it.
    Paid,
    /// Available again.
    Returned,
}

/// A batch.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its number.
    pub id: i64,
    /// How far it is.
    pub state: BatchState,
    /// What all of it is in.
    pub currency: GridCurrency,
    /// Owners with less wait.
    pub minimum: Amount,
    /// All its payouts together.
    pub amount: Amount,
    /// How many there are.
    pub payouts_count: u64,
    /// How many are neither paid nor returned.
    pub open_count: u64,
    /// Who pays.
    pub payer: Payer,
    /// Who proposed it, and when.
    pub proposed: (String, SystemTime),
    /// Who approved it, and when.
    pub approved: Option<(String, SystemTime)>,
    /// Who exported it first, and when.
    pub exported: Option<(String, SystemTime)>,
    /// Its payouts, by owner; empty in lists.
    pub payouts: Vec<Payout>,
}

/// A payout.
#[derive(Debug, Clone)]
pub struct Payout {
    /// Who is paid.
    pub payee: Payee,
    /// How much.
    pub amount: Amount,
    /// How far it is.
    pub state: PayoutState,
    /// Left by the payout before.
    pub carried_in: Amount,
    /// Left for the next.
    pub carried_out: Amount,
    /// Of that: what lies in the account of remainders.
    pub remainder: Amount,
    /// Transfers that it pays.
    pub lines: u64,
    /// Why it was returned.
    pub reason: String,
}

/// A batch that was proposed.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// Its number.
    pub batch: i64,
    /// Owners with enough who have no payee.
    pub without_payee: Vec<String>,
}

impl Store {
    /// Says who pays.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_payer(&self, payer: &Payer, operator: OperatorId) -> Result<(), Error> {
        run_tx!(self.pool, "set_payer", tx => {
            let upsert = "INSERT INTO payer (name, iban, bic, operator_id, currency) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (currency) DO UPDATE SET name = $1, iban = $2, bic = $3, operator_id = $4, updated_at = now()";
            tx.execute(upsert, &[&payer.name, &payer.iban, &payer.bic, &operator.0, &payer.currency.id.number()]).await?;
            Ok(())
        })
    }

    /// Says who is paid for an owner.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn set_payee(&self, payee: &Payee, operator: OperatorId) -> Result<(), Error> {
        run_tx!(self.pool, "set_payee", tx => {
            let upsert = "INSERT INTO payee (owner_id, name, iban, operator_id, currency) VALUES ($1, $2, $3, $4, $5)
                ON CONFLICT (owner_id, currency)
                DO UPDATE SET name = $2, iban = $3, operator_id = $4, updated_at = now()";
            let number = payee.currency.id.number();
            tx.execute(upsert, &[&payee.owner.0, &payee.name, &payee.iban, &operator.0, &number]).await?;
            Ok(())
        })
    }

    /// Payees after those of an owner in a currency, by owner and currency.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payees(&self, after: (OwnerId, i16), limit: i64) -> Result<Vec<Payee>, Error> {
        run_tx!(self.pool, "payees", tx => {
            let select = "SELECT owner_id, owner.name AS owner_name, payee.name AS payee_name, iban AS payee_iban,
                    number, code, decimals
                FROM payee JOIN owner ON owner.id = owner_id JOIN currency ON number = currency
                WHERE (owner_id, currency) > ($1, $2) ORDER BY owner_id, currency LIMIT $3";
            let rows = tx.query(select, &[&after.0.0, &after.1, &limit]).await?;
            rows.iter().map(payee).collect()
        })
    }

    /// Proposes to pay every owner who has a payee and at least `minimum` available in a currency, what the payout before left
    /// included; the same request id does it once.
    ///
    /// # Errors
    /// When nobody says who pays, nobody has enough, or the request id was used for another proposal.
    pub async fn propose_payouts(
        &self,
        request_id: &str,
        of: GridCurrency,
        minimum: Amount,
        operator: OperatorId,
    ) -> Result<Proposal, Error> {
        let GridCurrency { id, currency } = of;
        run_tx!(self.pool, "propose_payouts", tx => {
            // Locked, so that the batches of a currency are made one after the other, in the order of their numbers.
            let payer = "SELECT name, iban, bic FROM payer WHERE currency = $1 FOR UPDATE";
            let payer = tx.query_opt(payer, &[&id.number()]).await?;
            let payer = payer.ok_or_else(|| {
                let message = format!(
                    "nobody has said which account pays {currency}: `lull admin payer set --currency {currency}` does"
                );
                precondition("NO_PAYER", message)
            })?;
            let [name, iban, bic]: [String; 3] =
                [payer.try_get("name")?, payer.try_get("iban")?, payer.try_get("bic")?];
            // Looked for before the batch takes a number, which would be gone: a gap looks like a batch that somebody removed.
            let without_payee = without_payee(tx, id, minimum).await?;
            let known = "SELECT FROM payout_batch WHERE request_id = $1";
            if tx.query_opt(known, &[&request_id]).await?.is_some() {
                let batch = known_proposal(tx, request_id, id, minimum, operator).await?;
                return Ok(Proposal { batch, without_payee });
            }
            let candidates = candidates(tx, id, minimum).await?;
            if candidates.is_empty() {
                let hint = if without_payee.is_empty() {
                    String::new()
                } else {
                    format!("; some who do have no payee that takes {currency}: `lull admin payee set` names one")
                };
                let message =
                    format!("no owner with a payee that takes {currency} has {minimum} {currency} or more available{hint}");
                return Err(precondition("NOTHING_TO_PAY", message));
            }
            let insert = "INSERT INTO payout_batch
                    (request_id, minimum, payer_name, payer_iban, payer_bic, proposed_by, currency, decimals)
                SELECT $1, $2, $3, $4, $5, $6, number, decimals FROM currency WHERE number = $7
                ON CONFLICT (request_id) DO NOTHING RETURNING id";
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
                [&request_id, &minimum.decimal(), &name, &iban, &bic, &operator.0, &id.number()];
            let row = tx.query_opt(insert, &parameters).await?;
            let Some(row) = row else {
                // Meanwhile the same request proposed in another currency.
                let batch = known_proposal(tx, request_id, id, minimum, operator).await?;
                return Ok(Proposal { batch, without_payee });
            };
            let batch: i64 = row.try_get(0)?;
            // Most lines are read while work is still paid; with the accounts locked, those that have come since.
            let since = oldest_open(tx).await?;
            let mut made = candidates.keys().map(|owner| (*owner, Decimal::ZERO)).collect();
            take_lines(tx, batch, id, &mut made, None).await?;
            let due = lock_due(tx, of, minimum, &candidates).await?;
            take_lines(tx, batch, id, &mut made, Some(&since)).await?;
            let transfers = insert_payouts(tx, batch, id, &due).await?;
            check_lines(tx, batch, &made).await?;
            write_transfers(tx, &transfers).await?;
            let age = "SELECT extract(epoch FROM clock_timestamp() - now())::float8";
            if tx.query_one(age, &[]).await?.try_get::<_, f64>(0)? > PROPOSAL_SECS_MAX {
                let message = format!("it took longer than {PROPOSAL_SECS_MAX} s; nothing was proposed: try again when less is paid");
                return Err(precondition("TOO_SLOW", message));
            }
            Ok(Proposal { batch, without_payee })
        })
    }

    /// Approves a batch that somebody else proposed.
    ///
    /// # Errors
    /// When the same operator proposed it, or it is rejected.
    pub async fn approve_batch(&self, id: i64, operator: OperatorId) -> Result<(), Error> {
        run_tx!(self.pool, "approve_batch", tx => {
            let (state, proposer) = lock_batch(tx, id).await?;
            if proposer == operator {
                let message = "whoever proposed a batch cannot approve it: ask another operator";
                return Err(precondition("SAME_OPERATOR", message));
            }
            match state {
                BatchState::Approved | BatchState::Exported => Ok(()),
                BatchState::Rejected => Err(rejected(id)),
                BatchState::Proposed => {
                    let update = "UPDATE payout_batch SET state = 2, approved_by = $2, approved_at = now() WHERE id = $1";
                    tx.execute(update, &[&id, &operator.0]).await?;
                    Ok(())
                }
            }
        })
    }

    /// Notes that an approved batch is exported; again it changes nothing.
    ///
    /// # Errors
    /// When it is not approved.
    pub async fn export_batch(&self, id: i64, operator: OperatorId) -> Result<(), Error> {
        run_tx!(self.pool, "export_batch", tx => {
            match lock_batch(tx, id).await?.0 {
                BatchState::Exported => Ok(()),
                BatchState::Rejected => Err(rejected(id)),
                BatchState::Proposed => {
                    let message = format!("payouts/{id} is not approved: another operator than its proposer must do that");
                    Err(precondition("NOT_APPROVED", message))
                }
                BatchState::Approved => {
                    let update = "UPDATE payout_batch SET state = 3, exported_by = $2, exported_at = now() WHERE id = $1";
                    tx.execute(update, &[&id, &operator.0]).await?;
                    Ok(())
                }
            }
        })
    }

    /// Rejects a batch that no bank has: everything is available again.
    ///
    /// # Errors
    /// When it is exported.
    pub async fn reject_batch(&self, id: i64, reason: &str, operator: OperatorId) -> Result<(), Error> {
        run_tx!(self.pool, "reject_batch", tx => {
            match lock_batch(tx, id).await?.0 {
                BatchState::Rejected => return Ok(()),
                BatchState::Exported => {
                    let message = format!("payouts/{id} is exported: mark what the bank does not pay as returned");
                    return Err(precondition("EXPORTED", message));
                }
                BatchState::Proposed | BatchState::Approved => {}
            }
            tx.execute("UPDATE payout_batch SET state = 4 WHERE id = $1", &[&id]).await?;
            let mut back = Vec::new();
            for Paid { currency, owner, amount, .. } in payouts_of(tx, id, None).await? {
                back.push(reverse(tx, &Transfer::payout(currency, id, owner, amount), reason, operator).await?.1);
            }
            tx.execute("UPDATE payout SET state = 3 WHERE batch_id = $1", &[&id]).await?;
            write_transfers(tx, &back).await
        })
    }

    /// Marks payouts of an exported batch as paid: those of these owners, or all. Those that are not open any more
    /// stay as they are.
    ///
    /// # Errors
    /// When the batch is not exported, or an owner has no payout in it.
    pub async fn mark_paid(&self, id: i64, owners: Option<&[i64]>) -> Result<(), Error> {
        run_tx!(self.pool, "mark_paid", tx => {
            exported(tx, id).await?;
            let payouts = payouts_of(tx, id, owners).await?;
            let open: Vec<Paid> = payouts.into_iter().filter(|one| one.state == PayoutState::Open).collect();
            let paid: Vec<i64> = open.iter().map(|one| one.owner).collect();
            let update = "UPDATE payout SET state = 2 WHERE batch_id = $1 AND owner_id = ANY($2)";
            tx.execute(update, &[&id, &paid]).await?;
            let transfers: Vec<Transfer> =
                open.iter().map(|one| Transfer::paid(one.currency, id, one.owner, one.amount)).collect();
            write_transfers(tx, &transfers).await
        })
    }

    /// Marks a payout of an exported batch as returned: it is available again. Once it is, it stays so.
    ///
    /// # Errors
    /// When the batch is not exported, or the owner has no payout in it.
    pub async fn mark_returned(
        &self,
        id: i64,
        owner: OwnerId,
        reason: &str,
        operator: OperatorId,
    ) -> Result<(), Error> {
        run_tx!(self.pool, "mark_returned", tx => {
            exported(tx, id).await?;
            let payouts = payouts_of(tx, id, Some(&[owner.0])).await?;
            let Some(Paid { currency, owner, amount, state }) = payouts.into_iter().next() else { return Ok(()) };
            let proposed = Transfer::payout(currency, id, owner, amount);
            let undone = match state {
                PayoutState::Returned => return Ok(()),
                PayoutState::Open => vec![proposed],
                PayoutState::Paid => vec![Transfer::paid(currency, id, owner, amount), proposed],
            };
            let mut back = Vec::new();
            for transfer in &undone {
                back.push(reverse(tx, transfer, reason, operator).await?.1);
            }
            tx.execute("UPDATE payout SET state = 3 WHERE batch_id = $1 AND owner_id = $2", &[&id, &owner]).await?;
            write_transfers(tx, &back).await
        })
    }

    /// A batch with its payouts.
    ///
    /// # Errors
    /// When there is none of that number.
    pub async fn payout_batch(&self, id: i64) -> Result<Batch, Error> {
        run_tx!(self.pool, "payout_batch", tx => {
            let select = format!("{BATCHES} WHERE payout_batch.id = $1");
            let row = tx.query_opt(&select, &[&id]).await?.ok_or(Error::NotFound("batch of payouts"))?;
            let payouts = "SELECT payout.*, currency.number, currency.code, owner.name AS owner_name, coalesce(reversal.reason, '') AS reason,
                    (SELECT count(*) FROM payout_line WHERE payout_line.batch_id = payout.batch_id
                         AND payout_line.owner_id = payout.owner_id) AS lines
                FROM payout JOIN owner ON owner.id = owner_id JOIN currency ON number = payout.currency
                LEFT JOIN reversal ON reversal.code = 7 AND reversal.job_id = 0 AND reversal.stage = 0
                  AND reversal.idx = batch_id AND reversal.attempt = owner_id
                WHERE batch_id = $1 ORDER BY owner_id";
            let rows = tx.query(payouts, &[&id]).await?;
            Ok(Batch { payouts: rows.iter().map(payout).collect::<Result<_, _>>()?, ..batch(&row)? })
        })
    }

    /// Batches with numbers below `before`, without their payouts, the newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn payout_batches(&self, before: i64, limit: i64) -> Result<Vec<Batch>, Error> {
        run_tx!(self.pool, "payout_batches", tx => {
            let select = format!("{BATCHES} WHERE payout_batch.id < $1 ORDER BY payout_batch.id DESC LIMIT $2");
            tx.query(&select, &[&before, &limit]).await?.iter().map(batch).collect()
        })
    }
}

/// Batches with names and sums.
const BATCHES: &str = "
    SELECT payout_batch.*, currency.number, currency.code, proposer.name AS proposer, approver.name AS approver, exporter.name AS exporter,
        coalesce(total.amount, 0) AS amount, coalesce(total.payouts, 0) AS payouts, coalesce(total.open, 0) AS open
    FROM payout_batch JOIN currency ON number = currency JOIN operator AS proposer ON proposer.id = proposed_by
    LEFT JOIN operator AS approver ON approver.id = approved_by
    LEFT JOIN operator AS exporter ON exporter.id = exported_by
    LEFT JOIN LATERAL (
        SELECT sum(amount) AS amount, count(*) AS payouts, count(*) FILTER (WHERE state = 1) AS open
        FROM payout WHERE batch_id = payout_batch.id) AS total ON true";

/// An owner who is to be paid.
struct Due {
    owner: i64,
    /// What the payout before left in the account of remainders.
    taken_up: Amount,
    /// With that.
    available: Amount,
    amount: Amount,
    /// What is less than the currency has decimals for.
    remainder: Amount,
}

/// A payout that was proposed.
struct Paid {
    currency: CurrencyId,
    owner: i64,
    amount: Amount,
    state: PayoutState,
}

/// The number of a batch that was proposed before.
async fn known_proposal(
    tx: &Transaction<'_>,
    request_id: &str,
    currency: CurrencyId,
    minimum: Amount,
    operator: OperatorId,
) -> Result<i64, Error> {
    let same = "SELECT id, minimum, proposed_by, currency FROM payout_batch WHERE request_id = $1";
    let row = tx.query_one(same, &[&request_id]).await?;
    let from = From("payout_batch");
    let is_same = from.amount(&row, "minimum")? == minimum
        && from.currency(&row, "currency")? == currency
        && OperatorId(row.try_get("proposed_by")?) == operator;
    if is_same { Ok(row.try_get("id")?) } else { Err(Error::RequestReused(request_id.to_owned())) }
}

/// What an owner's last payout left in the account of remainders.
const REMAINDER: &str = "coalesce((SELECT last.remainder FROM payout AS last
    WHERE last.owner_id = {owner} AND last.currency = {currency} ORDER BY last.batch_id DESC LIMIT 1), 0)";

/// Names of owners with enough who have no payee.
async fn without_payee(
    tx: &Transaction<'_>,
    currency: CurrencyId,
    minimum: Amount,
) -> Result<Vec<String>, Error> {
    let select = format!(
        "SELECT name FROM owner JOIN account ON account.id = ($3::bigint << 48) + owner.id * 8 + 3
         WHERE balance + {} >= $1
           AND NOT EXISTS (SELECT FROM payee WHERE owner_id = owner.id AND payee.currency = $3::bigint)
         ORDER BY name LIMIT $2",
        REMAINDER.replace("{owner}", "owner.id").replace("{currency}", "$3::bigint")
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&minimum.decimal(), &PAYOUTS_MAX, &i64::from(currency.number())];
    let rows = tx.query(&select, &parameters).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Owners with a payee and enough, and what their last payouts left, which cannot change meanwhile: batches of a currency
/// are made one after the other. For the same reason they have no less later in this transaction.
async fn candidates(
    tx: &Transaction<'_>,
    currency: CurrencyId,
    minimum: Amount,
) -> Result<BTreeMap<i64, Amount>, Error> {
    let remainder = REMAINDER.replace("{owner}", "payee.owner_id").replace("{currency}", "$3::bigint");
    let select = format!(
        "SELECT owner_id, {remainder} AS remainder
         FROM payee JOIN account ON account.id = ($3::bigint << 48) + owner_id * 8 + 3
         WHERE payee.currency = $3::bigint AND balance + {remainder} >= $1 ORDER BY owner_id LIMIT $2"
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&minimum.decimal(), &PAYOUTS_MAX, &i64::from(currency.number())];
    let rows = tx.query(&select, &parameters).await?;
    rows.iter().map(|row| Ok((row.try_get("owner_id")?, From("payout").amount(row, "remainder")?))).collect()
}

/// What these owners are to be paid, with their accounts locked in order: nothing comes onto them until this commits.
async fn lock_due(
    tx: &Transaction<'_>,
    GridCurrency { id, currency }: GridCurrency,
    minimum: Amount,
    candidates: &BTreeMap<i64, Amount>,
) -> Result<Vec<Due>, Error> {
    // The account of remainders comes first, as its number is the lowest.
    let kinds = [AccountKind::Available, AccountKind::Payout];
    let owned = candidates.keys().flat_map(|owner| kinds.map(|kind| AccountId::new(id, kind, *owner)));
    let accounts: Vec<i64> = [AccountId::of_grid(id, AccountKind::Remainders)]
        .into_iter()
        .chain(owned)
        .map(AccountId::number)
        .collect();
    let lock = "SELECT id, balance FROM account WHERE id = ANY($1) ORDER BY id FOR UPDATE";
    let mut due = Vec::with_capacity(candidates.len());
    for row in tx.query(lock, &[&accounts]).await? {
        let account = AccountId::from_number(row.try_get("id")?);
        if account.kind() != Some(AccountKind::Available) {
            continue;
        }
        let Some(taken_up) = candidates.get(&account.holder()).copied() else { continue };
        let available = From("account").amount(&row, "balance")? + taken_up;
        let amount = payable(available, currency);
        if available < minimum || !amount.is_positive() {
            let problem = format!("account {} has less than before", account.number());
            return Err(From("account").wrong("balance", problem));
        }
        let remainder = available - currency.payable(available);
        due.push(Due { owner: account.holder(), taken_up, available, amount, remainder });
    }
    Ok(due)
}

/// The oldest transaction that is open: whatever is not visible to a later statement comes from it or a newer one.
async fn oldest_open(tx: &Transaction<'_>) -> Result<String, Error> {
    Ok(tx.query_one("SELECT pg_snapshot_xmin(pg_current_snapshot())::text", &[]).await?.try_get(0)?)
}

/// Gives the payouts of a batch every transfer on their owners' available accounts that no payout has yet: all, or those of
/// this transaction and newer ones. Adds what they make for each owner.
async fn take_lines(
    tx: &Transaction<'_>,
    batch: i64,
    currency: CurrencyId,
    made: &mut BTreeMap<i64, Decimal>,
    since: Option<&str>,
) -> Result<(), Error> {
    let owners: Vec<i64> = made.keys().copied().collect();
    let newer = if since.is_some() { "transfer.xid >= $4::text::xid8" } else { "$4::text IS NULL" };
    let insert = format!(
        "WITH line AS (
            SELECT transfer.id, due.owner, posting.change FROM transfer
            CROSS JOIN LATERAL (VALUES (credit, amount), (debit, -amount)) AS posting (account, change)
            JOIN unnest($2::bigint[]) AS due (owner) ON posting.account = ($3::bigint << 48) + due.owner * 8 + 3
            WHERE transfer.code NOT IN (7, 14, 15) AND {newer}
              AND NOT EXISTS (SELECT FROM payout_line WHERE transfer_id = transfer.id)),
        taken AS (INSERT INTO payout_line (transfer_id, batch_id, owner_id) SELECT id, $1, owner FROM line)
        SELECT owner, sum(change) AS lines FROM line GROUP BY owner"
    );
    for row in tx.query(&insert, &[&batch, &owners, &i64::from(currency.number()), &since]).await? {
        *made.entry(row.try_get("owner")?).or_default() += row.try_get::<_, Decimal>("lines")?;
    }
    Ok(())
}

/// With what the last payout left, the lines of a payout must make what is available.
async fn check_lines(tx: &Transaction<'_>, batch: i64, made: &BTreeMap<i64, Decimal>) -> Result<(), Error> {
    let wrong =
        "SELECT owner_id FROM payout LEFT JOIN unnest($2::bigint[], $3::numeric[]) AS made (owner, lines)
            ON owner = owner_id
        WHERE batch_id = $1 AND carried_in + coalesce(lines, 0) <> amount + carried_out";
    let (owners, lines): (Vec<i64>, Vec<Decimal>) =
        made.iter().map(|(owner, lines)| (*owner, *lines)).unzip();
    match tx.query(wrong, &[&batch, &owners, &lines]).await?.first() {
        None => Ok(()),
        Some(row) => {
            let problem = format!("the lines of owner {} do not make the balance", row.try_get::<_, i64>(0)?);
            Err(From("payout_line").wrong("transfer_id", problem))
        }
    }
}

/// Writes the payouts; returns what moves.
async fn insert_payouts(
    tx: &Transaction<'_>,
    batch: i64,
    currency: CurrencyId,
    due: &[Due],
) -> Result<Vec<Transfer>, Error> {
    let owners: Vec<i64> = due.iter().map(|due| due.owner).collect();
    let available: Vec<Decimal> = due.iter().map(|due| due.available.decimal()).collect();
    let amounts: Vec<Decimal> = due.iter().map(|due| due.amount.decimal()).collect();
    let remainders: Vec<Decimal> = due.iter().map(|due| due.remainder.decimal()).collect();
    let insert = "INSERT INTO payout (batch_id, currency, decimals, owner_id, amount, payee_name, payee_iban, carried_in,
            carried_out, remainder)
        SELECT $1, batch.currency, batch.decimals, due.owner, due.amount, payee.name, payee.iban,
            coalesce(last.carried_out, 0), due.available - due.amount, due.remainder
        FROM unnest($2::bigint[], $3::numeric[], $4::numeric[], $5::numeric[]) AS due (owner, available, amount, remainder)
        JOIN payout_batch AS batch ON batch.id = $1
        JOIN payee ON payee.owner_id = due.owner AND payee.currency = batch.currency
        LEFT JOIN LATERAL (SELECT carried_out FROM payout
            WHERE payout.owner_id = due.owner AND payout.currency = batch.currency
            ORDER BY batch_id DESC LIMIT 1) AS last ON true";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
        [&batch, &owners, &available, &amounts, &remainders];
    let inserted = tx.execute(insert, &parameters).await?;
    super::error::ensure_affected("payout insert", due.len(), inserted)?;
    let mut transfers = Vec::with_capacity(3 * due.len());
    for Due { owner, taken_up, amount, remainder, .. } in due {
        if taken_up.is_positive() {
            transfers.push(Transfer::taken_up(currency, batch, *owner, *taken_up));
        }
        transfers.push(Transfer::payout(currency, batch, *owner, *amount));
        if remainder.is_positive() {
            transfers.push(Transfer::remainder(currency, batch, *owner, *remainder));
        }
    }
    Ok(transfers)
}

/// Locks a batch; returns how far it is, and who proposed it.
async fn lock_batch(tx: &Transaction<'_>, id: i64) -> Result<(BatchState, OperatorId), Error> {
    let lock = "SELECT state, proposed_by FROM payout_batch WHERE id = $1 FOR UPDATE";
    let row = tx.query_opt(lock, &[&id]).await?.ok_or(Error::NotFound("batch of payouts"))?;
    Ok((batch_state(&row)?, OperatorId(row.try_get("proposed_by")?)))
}

/// Locks a batch that must be exported.
async fn exported(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    match lock_batch(tx, id).await?.0 {
        BatchState::Exported => Ok(()),
        BatchState::Rejected => Err(rejected(id)),
        BatchState::Proposed | BatchState::Approved => {
            let message = format!("payouts/{id} is not exported: the bank cannot have it yet");
            Err(precondition("NOT_EXPORTED", message))
        }
    }
}

fn rejected(id: i64) -> Error {
    precondition("REJECTED", format!("payouts/{id} was rejected: propose another batch"))
}

/// Payouts of a locked batch, of all owners or of each of these.
async fn payouts_of(tx: &Transaction<'_>, id: i64, owners: Option<&[i64]>) -> Result<Vec<Paid>, Error> {
    let select = "SELECT owner_id, amount, state, currency FROM payout
        WHERE batch_id = $1 AND ($2::bigint[] IS NULL OR owner_id = ANY($2)) ORDER BY owner_id";
    let rows = tx.query(select, &[&id, &owners]).await?;
    if owners.is_some_and(|owners| owners.len() != rows.len()) {
        return Err(Error::NotFound("payout of that owner in this batch"));
    }
    rows.iter()
        .map(|row| {
            Ok(Paid {
                currency: From("payout").currency(row, "currency")?,
                owner: row.try_get("owner_id")?,
                amount: From("payout").amount(row, "amount")?,
                state: payout_state(row)?,
            })
        })
        .collect()
}

fn batch_state(row: &Row) -> Result<BatchState, Error> {
    match row.try_get::<_, i16>("state")? {
        1 => Ok(BatchState::Proposed),
        2 => Ok(BatchState::Approved),
        3 => Ok(BatchState::Exported),
        4 => Ok(BatchState::Rejected),
        other => Err(From("payout_batch").wrong("state", other)),
    }
}

fn payout_state(row: &Row) -> Result<PayoutState, Error> {
    match row.try_get::<_, i16>("state")? {
        1 => Ok(PayoutState::Open),
        2 => Ok(PayoutState::Paid),
        3 => Ok(PayoutState::Returned),
        other => Err(From("payout").wrong("state", other)),
    }
}

fn batch(row: &Row) -> Result<Batch, Error> {
    let from = From("payout_batch");
    let done = |who: &str, when: &str| {
        let (who, when): (Option<String>, Option<SystemTime>) = (row.try_get(who)?, row.try_get(when)?);
        Ok::<_, Error>(who.zip(when))
    };
    Ok(Batch {
        id: row.try_get("id")?,
        state: batch_state(row)?,
        currency: grid_currency(row)?,
        minimum: from.amount(row, "minimum")?,
        amount: from.amount(row, "amount")?,
        payouts_count: from.count(row, "payouts")?,
        open_count: from.count(row, "open")?,
        payer: Payer {
            currency: grid_currency(row)?,
            name: row.try_get("payer_name")?,
            iban: row.try_get("payer_iban")?,
            bic: row.try_get("payer_bic")?,
        },
        proposed: (row.try_get("proposer")?, row.try_get("proposed_at")?),
        approved: done("approver", "approved_at")?,
        exported: done("exporter", "exported_at")?,
        payouts: Vec::new(),
    })
}

fn payee(row: &Row) -> Result<Payee, Error> {
    Ok(Payee {
        currency: grid_currency(row)?,
        owner: OwnerId(row.try_get("owner_id")?),
        owner_name: row.try_get("owner_name")?,
        name: row.try_get("payee_name")?,
        iban: row.try_get("payee_iban")?,
    })
}

fn payout(row: &Row) -> Result<Payout, Error> {
    let from = From("payout");
    Ok(Payout {
        payee: payee(row)?,
        amount: from.amount(row, "amount")?,
        state: payout_state(row)?,
        carried_in: from.amount(row, "carried_in")?,
        carried_out: from.amount(row, "carried_out")?,
        remainder: from.amount(row, "remainder")?,
        lines: from.count(row, "lines")?,
        reason: row.try_get("reason")?,
    })
}
