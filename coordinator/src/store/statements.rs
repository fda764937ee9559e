//! Statements and what balances are made of: read from transfers, in one snapshot, and passed on as they come.

use std::time::{Duration, SystemTime};

use deadpool_postgres::{Client, Transaction};
use lull_job::{Digest, Stage};
use lull_ledger::statement::Month;
use lull_ledger::{AccountId, AccountKind, Amount, Code, Currency, CurrencyId};
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};

use super::books::remainder;
use super::currencies::{self, GridCurrency};
use super::rows::From;
use super::trust::{CHECK_DAYS_MAX, HELD_DAYS_MAX};
use super::{Error, OwnerBalance, Store};
use crate::core::{DeviceId, JobId, Outcome, OwnerId, SubmitterId};

/// Lines that are passed on at once.
const LINES_PER_PART: i32 = 2_000;
/// A reader that takes nothing for this long is gone: a connection of the database is not kept for it.
const READER_PATIENCE: Duration = Duration::from_secs(30);
/// Memory for sorting and joining the lines of a large statement: with PostgreSQL's 4 MB they go through files.
/// Compiling such a query takes longer than it saves.
const SETTINGS: &str = "SET LOCAL work_mem = '64MB'; SET LOCAL jit = off";
/// A month can be added to for this long after its end: transactions that began in it commit within seconds, and the database
/// cuts off what writes when a statement or a silence in it takes too long (`STATEMENT_SECS_MAX`).
pub(super) const FINAL_AFTER_SECS: i64 = 300;

/// Whose accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// An owner.
    Owner(OwnerId),
    /// A submitter.
    Submitter(SubmitterId),
}

/// The head of a statement.
#[derive(Debug, Clone)]
pub struct StatementHead {
    /// Name of the holder.
    pub name: String,
    /// When it was drawn up.
    pub as_of: SystemTime,
    /// Whether nothing can be added.
    pub is_final: bool,
    /// Of each currency that is stated, in order: account, opening, closing.
    pub accounts: Vec<StatementAccount>,
    /// The currencies that are stated, by number.
    pub currencies: Vec<GridCurrency>,
}

/// Where an account stood.
#[derive(Debug, Clone, Copy)]
pub struct StatementAccount {
    /// In which currency.
    pub currency: Currency,
    /// Which.
    pub kind: AccountKind,
    /// Before the month.
    pub opening: Amount,
    /// After it.
    pub closing: Amount,
}

/// What one transfer did to one account.
#[derive(Debug, Clone)]
pub struct StatementLine {
    /// When.
    pub time: SystemTime,
    /// Number of the transfer.
    pub transfer: u64,
    /// In which currency.
    pub currency: Currency,
    /// The account.
    pub account: AccountKind,
    /// Why; none: what one payout left for the next.
    pub code: Option<Code>,
    /// What the account got.
    pub amount: Amount,
    /// The job.
    pub job: Option<JobId>,
    /// The unit that was paid for.
    pub unit: Option<LedgerUnit>,
    /// The batch of payouts.
    pub batch: Option<i64>,
    /// Of a reversal.
    pub reason: String,
}

/// What was paid for.
#[derive(Debug, Clone)]
pub struct LedgerUnit {
    /// Its stage.
    pub stage: Stage,
    /// Its index.
    pub index: u64,
    /// Who made the attempt.
    pub device: DeviceId,
    /// What its owner calls the device.
    pub device_name: String,
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Of what it returned.
    pub digest: Digest,
    /// What was decided since.
    pub verdict: UnitVerdict,
}

/// What a paid attempt's unit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnitVerdict {
    /// This result stands.
    Accepted,
    /// That the guest fails stands.
    Failed,
    /// Another result stands.
    Replaced,
    /// It is decided again.
    Reopened,
}

/// A part of an owner's balance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalancePart {
    /// Held back.
    Pending,
    /// Can be paid out.
    Available,
    /// In a batch that is not finished.
    Payout,
    /// Paid.
    Paid,
    /// What one payout paid, whatever became of it.
    Batch(i64),
}

/// A line of a balance.
#[derive(Debug, Clone)]
pub struct BalanceLine {
    /// What it is.
    pub line: StatementLine,
    /// Of pending ones: more results until it is released, and when it is at the latest.
    pub until: Option<(u64, SystemTime)>,
}

/// A piece of a statement.
#[derive(Debug)]
pub enum StatementPart {
    /// Comes first.
    Head(StatementHead),
    /// Some lines.
    Lines(Vec<StatementLine>),
}

/// A piece of what a balance is made of.
#[derive(Debug)]
pub enum BalancePiece {
    /// Comes first.
    Balance(OwnerBalance),
    /// Some lines of a part.
    Lines(BalancePart, Vec<BalanceLine>),
}

/// Where the pieces of an answer go.
pub type Pieces<T> = mpsc::Sender<Result<T, Error>>;

/// The attempt of a reward or of what is left of one, its device, and what its unit came to since. Joins `paid`:
/// code, job_id, stage, idx, attempt.
const UNIT_OF: &str = "
    LEFT JOIN attempt ON paid.code IN (3, 6, 10, 11) AND attempt.job_id = paid.job_id AND attempt.stage = paid.stage
        AND attempt.idx = paid.idx AND attempt.owner_id = paid.attempt
    LEFT JOIN device ON device.id = attempt.device_id
    LEFT JOIN LATERAL (
        SELECT outcome, digest FROM verdict WHERE verdict.job_id = attempt.job_id AND verdict.stage = attempt.stage
          AND verdict.idx = attempt.idx ORDER BY version DESC LIMIT 1) AS decided ON true
    LEFT JOIN reversal ON paid.code = 9 AND reversal.id = paid.attempt";
/// Columns of [`UNIT_OF`].
const UNIT_COLUMNS: &str = "
    paid.code, paid.job_id, attempt.stage, attempt.idx, attempt.device_id, device.display_name, attempt.outcome,
    attempt.digest, (decided.digest = attempt.digest AND decided.outcome = attempt.outcome)
        OR coalesce(decided.digest = attempt.strict_digest AND decided.outcome = attempt.strict_outcome, false)
        AS stands,
    EXISTS (SELECT FROM reopened WHERE reopened.job_id = attempt.job_id AND reopened.stage = attempt.stage
        AND reopened.idx = attempt.idx) AS is_reopened,
    CASE WHEN paid.code IN (7, 8, 14, 15) THEN paid.idx WHEN reversal.code IN (7, 8) THEN reversal.idx END AS batch,
    coalesce(reversal.reason, '') AS reason";

impl Store {
    /// Passes a statement on: its head, then its lines by time.
    ///
    /// # Errors
    /// When there is no such holder, the database fails, or the reader is gone.
    pub async fn statement(
        &self,
        holder: Holder,
        month: Month,
        only: Option<CurrencyId>,
        pieces: &Pieces<StatementPart>,
    ) -> Result<(), Error> {
        let mut client = self.reading_pool.get().await?;
        // Nothing is started again: lines have been passed on by then.
        let tx = snapshot(&mut client).await?;
        let Accounts { name, numbers: accounts, shared, currencies } = accounts_of(&tx, holder, only).await?;
        let [start, end] = [month, month.next()].map(|month| month.first_day().to_string());
        let head = statement_head(&tx, holder, name, (&accounts, &currencies), [&start, &end]).await?;
        if !send(pieces, StatementPart::Head(head)).await? {
            return Ok(());
        }
        let select = format!(
            "SELECT paid.id, paid.created_at, posting.account, posting.change AS amount, {UNIT_COLUMNS}
             FROM transfer AS paid
             CROSS JOIN LATERAL (VALUES (debit, -amount), (credit, amount)) AS posting (account, change)
             {UNIT_OF}
             WHERE paid.created_at >= ($2::text || ' 00:00Z')::timestamptz
               AND paid.created_at < ($3::text || ' 00:00Z')::timestamptz
               AND (paid.debit = ANY($1) OR paid.credit = ANY($1))
               AND (posting.account = ANY($1) OR posting.account = ANY($4))
             ORDER BY paid.created_at, paid.id, posting.account"
        );
        let select = tx.prepare(&select).await?;
        let portal = tx.bind(&select, &[&accounts, &start, &end, &shared]).await?;
        loop {
            let rows = tx.query_portal(&portal, LINES_PER_PART).await?;
            if rows.is_empty() {
                return Ok(());
            }
            let lines = rows.iter().map(|row| line(row, &currencies)).collect::<Result<_, _>>()?;
            if !send(pieces, StatementPart::Lines(lines)).await? {
                return Ok(());
            }
        }
    }

    /// What an owner has in one currency, or in each in which it earned and in the default, in one snapshot.
    ///
    /// # Errors
    /// When there is no such owner.
    pub async fn owner_balances(
        &self,
        owner: OwnerId,
        only: Option<CurrencyId>,
    ) -> Result<Vec<OwnerBalance>, Error> {
        let mut client = self.reading_pool.get().await?;
        let tx = snapshot(&mut client).await?;
        let mut balances = Vec::new();
        for of in currencies_of(&tx, Holder::Owner(owner), only).await? {
            balances.push(owner_balance(&tx, owner, of).await?);
        }
        Ok(balances)
    }

    /// Passes on what an owner has in a currency, and what these parts of it are made of, in one snapshot. A payout's lines
    /// are in the currency of its batch.
    ///
    /// # Errors
    /// When there is no such owner, the database fails, or the reader is gone.
    pub async fn balance_lines(
        &self,
        owner: OwnerId,
        of: GridCurrency,
        parts: &[BalancePart],
        pieces: &Pieces<BalancePiece>,
    ) -> Result<(), Error> {
        let mut client = self.reading_pool.get().await?;
        let tx = snapshot(&mut client).await?;
        let of = match parts {
            [BalancePart::Batch(number)] => {
                let select = "SELECT number, code, currency.decimals FROM payout_batch
                    JOIN currency ON number = currency WHERE id = $1";
                let row =
                    tx.query_opt(select, &[number]).await?.ok_or(Error::NotFound("batch of payouts"))?;
                currencies::grid_currency(&row)?
            }
            _ => of,
        };
        let balance = owner_balance(&tx, owner, of).await?;
        if !send(pieces, BalancePiece::Balance(balance)).await? {
            return Ok(());
        }
        for part in parts {
            if !part_lines(&tx, owner, of, *part, pieces).await? {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Passes on the lines of a part; whether the reader took them.
async fn part_lines(
    tx: &Transaction<'_>,
    owner: OwnerId,
    of: GridCurrency,
    part: BalancePart,
    pieces: &Pieces<BalancePiece>,
) -> Result<bool, Error> {
    let carried = carried(tx, owner, of, part).await?;
    if !carried.is_empty() && !send(pieces, BalancePiece::Lines(part, carried)).await? {
        return Ok(false);
    }
    let state: i16 = match part {
        BalancePart::Payout => 1,
        BalancePart::Paid => 2,
        BalancePart::Pending | BalancePart::Available | BalancePart::Batch(_) => 0,
    };
    let batch = if let BalancePart::Batch(number) = part { Some(number) } else { None };
    let number = of.id.number();
    let available = AccountId::new(of.id, AccountKind::Available, owner.0).number();
    let (select, parameters): (_, Vec<&(dyn ToSql + Sync)>) = match part {
        BalancePart::Pending => (pending_lines(), vec![&owner.0, &HELD_DAYS_MAX, &number]),
        BalancePart::Available | BalancePart::Payout | BalancePart::Paid | BalancePart::Batch(_) => {
            (available_lines(), vec![&available, &state, &batch])
        }
    };
    let select = tx.prepare(&select).await?;
    let portal = tx.bind(&select, &parameters).await?;
    loop {
        let rows = tx.query_portal(&portal, LINES_PER_PART).await?;
        if rows.is_empty() {
            return Ok(true);
        }
        let lines = rows.iter().map(|row| balance_line(row, &[of])).collect::<Result<_, _>>()?;
        if !send(pieces, BalancePiece::Lines(part, lines)).await? {
            return Ok(false);
        }
    }
}

async fn owner_balance(
    tx: &Transaction<'_>,
    owner: OwnerId,
    of: GridCurrency,
) -> Result<OwnerBalance, Error> {
    let select = "SELECT name,
            (SELECT balance FROM account WHERE id = $2::bigint + $1::bigint * 8 + 4) AS pending,
            (SELECT balance FROM account WHERE id = $2::bigint + $1::bigint * 8 + 3) AS available,
            (SELECT balance FROM account WHERE id = $2::bigint + $1::bigint * 8 + 5) AS payout,
            (SELECT balance FROM account WHERE id = $2::bigint + $1::bigint * 8 + 6) AS paid
        FROM owner WHERE id = $1";
    let base = i64::from(of.id.number()) << AccountId::CURRENCY_SHIFT;
    let row = tx.query_opt(select, &[&owner.0, &base]).await?.ok_or(Error::NotFound("owner"))?;
    let from = From("account");
    Ok(OwnerBalance {
        name: row.try_get("name")?,
        currency: of.currency,
        pending: from.amount(&row, "pending")?,
        available: from.amount(&row, "available")?,
        payout: from.amount(&row, "payout")?,
        paid: from.amount(&row, "paid")?,
        remainder: remainder(tx, owner.0, of.id.number()).await?,
        pending_parts: pending_parts(tx, owner, of.id).await?,
    })
}

/// Why an owner's pay is pending.
async fn pending_parts(
    tx: &Transaction<'_>,
    owner: OwnerId,
    currency: CurrencyId,
) -> Result<Vec<PendingPart>, Error> {
    let select = format!(
        "SELECT job_id, sum(amount) AS amount, count(*) AS results,
             min(after_results) AS first_after, max(after_results) AS last_after,
             min(available_at) AS first_at, max(available_at) AS last_at
         FROM ({}) AS queue GROUP BY job_id ORDER BY job_id",
        queue()
    );
    let from = From("held");
    let part = |row: &Row| {
        Ok(PendingPart {
            job: JobId(row.try_get("job_id")?),
            amount: from.amount(row, "amount")?,
            results: from.count(row, "results")?,
            after_results: [from.count(row, "first_after")?, from.count(row, "last_after")?],
            times: [row.try_get("first_at")?, row.try_get("last_at")?],
        })
    };
    tx.query(&select, &[&owner.0, &HELD_DAYS_MAX, &currency.number()]).await?.iter().map(part).collect()
}

/// A transaction that sees one state of the books and changes nothing.
pub(super) async fn snapshot(client: &mut Client) -> Result<Transaction<'_>, Error> {
    let builder = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let tx = builder.start().await?;
    tx.batch_execute(SETTINGS).await?;
    Ok(tx)
}

/// Pay of one job that is held back.
#[derive(Debug, Clone)]
pub struct PendingPart {
    /// The job.
    pub job: JobId,
    /// How much.
    pub amount: Amount,
    /// For so many results.
    pub results: u64,
    /// More results until the first and the last of it is released ..
    pub after_results: [u64; 2],
    /// .. or when, if that comes first.
    pub times: [SystemTime; 2],
}

/// What is held back in one currency, as `Store::release_held` will look at it: in order, each not before the one that it
/// follows, whatever that is in. How many more results that pay as much it takes is told as far as it is known: of what is
/// before it in another currency it is not.
fn queue() -> String {
    format!(
        "SELECT queue.* FROM (
         SELECT held.*,
             ceil(greatest(max(missing) OVER (PARTITION BY held.currency ORDER BY seq), 0) / amount)::bigint AS after_results,
             max(created_at + ($2::integer + CASE WHEN EXISTS (
                 SELECT FROM reopened JOIN job ON job.id = reopened.job_id AND job.state = 1
                 WHERE (reopened.job_id, reopened.stage, reopened.idx) = (held.job_id, held.stage, held.idx))
               THEN {CHECK_DAYS_MAX} ELSE 0 END) * interval '1 day') OVER (ORDER BY seq) AS available_at
         FROM standing CROSS JOIN LATERAL ({}) AS held WHERE standing.owner_id = $1) AS queue WHERE queue.currency = $3",
        super::trust::queue("ALL")
    )
}

fn pending_lines() -> String {
    let queue = queue();
    format!(
        "SELECT reward.id, reward.created_at, reward.credit AS account, paid.amount, paid.after_results,
             paid.available_at, {UNIT_COLUMNS}
         FROM (SELECT queue.*, 3::smallint AS code, owner_id AS attempt FROM ({queue}) AS queue) AS paid
         JOIN transfer AS reward ON reward.code = 3 AND reward.job_id = paid.job_id AND reward.stage = paid.stage
           AND reward.idx = paid.idx AND reward.attempt = paid.owner_id
         {UNIT_OF} ORDER BY paid.seq"
    )
}

/// Everything that came onto an available account (`$1`), releases as the rewards that they released: what no payout has
/// paid (0), what payouts in a state have, or what the payout of a batch has.
fn available_lines() -> String {
    format!(
        "SELECT paid.id, paid.created_at, paid.account, paid.amount, NULL::bigint AS after_results,
             NULL::timestamptz AS available_at, {UNIT_COLUMNS}
         FROM (
             SELECT source.id, source.created_at, $1::bigint AS account,
                 coalesce(held.amount, CASE WHEN source.debit = $1 THEN -source.amount ELSE source.amount END)
                     AS amount,
                 CASE WHEN held.seq IS NULL THEN source.code ELSE 3::smallint END AS code,
                 coalesce(held.job_id, source.job_id) AS job_id, coalesce(held.stage, source.stage) AS stage,
                 coalesce(held.idx, source.idx) AS idx, coalesce(held.owner_id, source.attempt) AS attempt, held.seq
             FROM transfer AS source
             LEFT JOIN payout_line ON payout_line.transfer_id = source.id
             LEFT JOIN payout ON payout.batch_id = payout_line.batch_id AND payout.owner_id = payout_line.owner_id
             LEFT JOIN release ON source.code = 5 AND release.id = source.attempt
             LEFT JOIN LATERAL (
                 SELECT held.* FROM held JOIN job ON job.id = held.job_id AND job.currency = release.currency
                 WHERE held.owner_id = release.owner_id AND held.seq > release.from_seq
                   AND held.seq <= release.to_seq) AS held ON true
             WHERE (source.credit = $1 OR source.debit = $1) AND source.code NOT IN (7, 14, 15)
               AND CASE WHEN $3::bigint IS NOT NULL THEN payout.batch_id = $3
                        WHEN $2::smallint = 0 THEN payout.batch_id IS NULL ELSE payout.state = $2 END) AS paid
         {UNIT_OF} ORDER BY paid.created_at, paid.id, paid.seq"
    )
}

/// What payouts left for the next one, as lines: with these the lines of a part make its balance.
async fn carried(
    tx: &Transaction<'_>,
    owner: OwnerId,
    of: GridCurrency,
    part: BalancePart,
) -> Result<Vec<BalanceLine>, Error> {
    let (state, batch) = match part {
        BalancePart::Pending => return Ok(Vec::new()),
        BalancePart::Available => (0i16, None),
        BalancePart::Payout => (1, None),
        BalancePart::Paid => (2, None),
        BalancePart::Batch(number) => (0, Some(number)),
    };
    let select = if matches!(part, BalancePart::Available) {
        "SELECT * FROM (
             SELECT batch_id, proposed_at, carried_out - remainder AS amount, '' AS reason, $2::smallint, $3::bigint
             FROM payout JOIN payout_batch ON payout_batch.id = batch_id
             WHERE owner_id = $1 AND payout.currency = $4 ORDER BY batch_id DESC LIMIT 1) AS last WHERE amount > 0"
    } else {
        "SELECT batch_id, proposed_at, carried.amount, carried.reason FROM payout
         JOIN payout_batch ON payout_batch.id = batch_id
         CROSS JOIN LATERAL (VALUES (carried_in, 'left by the payout before'), (-carried_out, 'left for the next'))
             AS carried (amount, reason)
         WHERE owner_id = $1 AND payout.currency = $4 AND carried.amount <> 0
           AND CASE WHEN $3::bigint IS NOT NULL THEN batch_id = $3 ELSE payout.state = $2::smallint END
         ORDER BY batch_id, carried.amount DESC"
    };
    let rows = tx.query(select, &[&owner.0, &state, &batch, &of.id.number()]).await?;
    rows.iter()
        .map(|row| {
            let line = StatementLine {
                time: row.try_get("proposed_at")?,
                transfer: 0,
                currency: of.currency,
                account: AccountKind::Available,
                code: None,
                amount: From("payout").amount(row, "amount")?,
                job: None,
                unit: None,
                batch: row.try_get("batch_id")?,
                reason: row.try_get("reason")?,
            };
            Ok(BalanceLine { line, until: None })
        })
        .collect()
}

/// A holder's accounts.
struct Accounts {
    name: String,
    numbers: Vec<i64>,
    /// Of the grid, with a part of this holder: of what moves between one of these and one of the holder's, all is its own.
    shared: Vec<i64>,
    currencies: Vec<GridCurrency>,
}

/// One currency, or each in which somebody ever had something, and the default.
async fn currencies_of(
    tx: &Transaction<'_>,
    holder: Holder,
    only: Option<CurrencyId>,
) -> Result<Vec<GridCurrency>, Error> {
    let (id, used) = match holder {
        Holder::Owner(id) => (
            id.0,
            "SELECT device_earning.currency FROM device JOIN device_earning ON device_id = device.id WHERE owner_id = $1",
        ),
        Holder::Submitter(id) => (
            id.0,
            "SELECT currency FROM deposit WHERE submitter_id = $1 UNION SELECT currency FROM job WHERE submitter_id = $1",
        ),
    };
    let select = format!(
        "SELECT number, code, decimals FROM currency
         WHERE CASE WHEN $2::smallint IS NOT NULL THEN number = $2 ELSE number = 0 OR number IN ({used}) END
         ORDER BY number"
    );
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&id, &only.map(CurrencyId::number)]).await?;
    rows.iter().map(currencies::grid_currency).collect()
}

/// The holder's name, and its accounts in one currency or in all.
async fn accounts_of(
    tx: &Transaction<'_>,
    holder: Holder,
    only: Option<CurrencyId>,
) -> Result<Accounts, Error> {
    let (table, id) = match holder {
        Holder::Owner(id) => ("owner", id.0),
        Holder::Submitter(id) => ("submitter", id.0),
    };
    let row = tx.query_opt(&format!("SELECT name FROM {table} WHERE id = $1"), &[&id]).await?;
    let name = row.ok_or(Error::NotFound(table))?.try_get(0)?;
    let currencies = currencies_of(tx, holder, only).await?;
    let (mut numbers, mut shared) = (Vec::new(), Vec::new());
    for of in &currencies {
        for kind in kinds(holder) {
            match kind {
                // There is one for each job.
                AccountKind::Escrow => {}
                AccountKind::Remainders => shared.push(AccountId::of_grid(of.id, *kind).number()),
                _ => numbers.push(AccountId::new(of.id, *kind, id).number()),
            }
        }
    }
    if let Holder::Submitter(_) = holder {
        let escrows = "SELECT (currency::bigint << 48) + id * 8 + 2 FROM job
            WHERE submitter_id = $1 AND currency = ANY($2)";
        let of: Vec<i16> = currencies.iter().map(|one| one.id.number()).collect();
        numbers.extend(tx.query(escrows, &[&id, &of]).await?.iter().map(|row| row.get::<_, i64>(0)));
    }
    Ok(Accounts { name, numbers, shared, currencies })
}

/// The kinds of a holder's accounts. A submitter has an escrow for each job.
const fn kinds(holder: Holder) -> &'static [AccountKind] {
    match holder {
        Holder::Owner(_) => {
            use AccountKind::{Available, Paid, Payout, Pending, Remainders};
            &[Pending, Available, Payout, Paid, Remainders]
        }
        Holder::Submitter(_) => &[AccountKind::Submitter, AccountKind::Escrow],
    }
}

/// What moved on the accounts `$1`, by transfer.
const MOVED: &str = "
    SELECT account, change, created_at
    FROM transfer CROSS JOIN LATERAL (VALUES (debit, -amount), (credit, amount)) AS posting (account, change)
    WHERE debit = ANY($1) OR credit = ANY($1)";
/// The same of an owner `$4`, without reading its rewards one by one: what its devices earned in each month came onto its
/// available account, but for what was held back. `FAULTS` checks that this is what the transfers say.
const MOVED_OF_OWNER: &str = "
    SELECT credit AS account, amount AS change, created_at FROM transfer
    WHERE credit = ANY($1) AND code NOT IN (3, 10)
    UNION ALL SELECT debit, -amount, created_at FROM transfer WHERE debit = ANY($1) AND code NOT IN (3, 10)
    UNION ALL SELECT (currency::bigint << 48) + owner_id * 8 + 3, amount, month::timestamp AT TIME ZONE 'UTC'
        FROM device JOIN device_earning ON device_id = device.id WHERE owner_id = $4
    UNION ALL SELECT (job.currency::bigint << 48) + owner_id * 8 + kind, CASE kind WHEN 4 THEN amount ELSE -amount END,
            held.created_at
        FROM held JOIN job ON job.id = job_id CROSS JOIN (VALUES (3), (4)) AS kinds (kind) WHERE owner_id = $4";

/// What an owner's payouts left in the account of remainders, at both edges of a month: the transfer of a remainder, or its
/// taking up, is of its payout's time.
const REMAINDERS: &str = "
    SELECT (debit >> 48)::smallint AS currency,
        coalesce(sum(change) FILTER (WHERE created_at < ($2::text || ' 00:00Z')::timestamptz), 0) AS opening,
        coalesce(sum(change) FILTER (WHERE created_at < ($3::text || ' 00:00Z')::timestamptz), 0) AS closing
    FROM (SELECT debit, created_at, CASE code WHEN 14 THEN amount ELSE -amount END AS change FROM transfer
          WHERE attempt = $1 AND job_id = 0 AND stage = 0 AND code IN (14, 15)) AS moved GROUP BY 1";

async fn statement_head(
    tx: &Transaction<'_>,
    holder: Holder,
    name: String,
    (accounts, currencies): (&[i64], &[GridCurrency]),
    [start, end]: [&str; 2],
) -> Result<StatementHead, Error> {
    let time = "SELECT now() AS as_of, now() > ($1::text || ' 00:00Z')::timestamptz + $2::bigint * interval '1 second'";
    let time = tx.query_one(time, &[&end, &FINAL_AFTER_SECS]).await?;
    // From what the accounts have now, back to then: statements are of late months mostly.
    let select = |moved| {
        format!(
            "SELECT currency, id % 8 AS kind, sum(balance - coalesce(in_and_after, 0)) AS opening,
                 sum(balance - coalesce(after, 0)) AS closing
             FROM account LEFT JOIN (
                 SELECT account, sum(change) AS in_and_after,
                     sum(change) FILTER (WHERE created_at >= ($3::text || ' 00:00Z')::timestamptz) AS after
                 FROM ({moved}) AS posting WHERE created_at >= ($2::text || ' 00:00Z')::timestamptz GROUP BY 1
             ) AS moved ON account = id
             WHERE id = ANY($1) GROUP BY 1, 2"
        )
    };
    let rows = match holder {
        Holder::Owner(owner) => {
            // Planning this takes longer than running it, and its plan is the same for every owner.
            let select = tx.prepare_cached(&select(MOVED_OF_OWNER)).await?;
            tx.query(&select, &[&accounts, &start, &end, &owner.0]).await?
        }
        Holder::Submitter(_) => tx.query(&select(MOVED), &[&accounts, &start, &end]).await?,
    };
    let kept = match holder {
        Holder::Owner(owner) => tx.query(REMAINDERS, &[&owner.0, &start, &end]).await?,
        Holder::Submitter(_) => Vec::new(),
    };
    let from = From("account");
    let mut stated = Vec::new();
    for of in currencies {
        for kind in kinds(holder) {
            let is_it = |row: &&Row| row.get::<_, i16>("currency") == of.id.number();
            let row = match kind {
                AccountKind::Remainders => kept.iter().find(is_it),
                _ => rows.iter().filter(is_it).find(|row| row.get::<_, i64>("kind") == kind.code()),
            };
            let edge = |name| row.map_or(Ok(Amount::ZERO), |row| from.amount(row, name));
            let (opening, closing) = (edge("opening")?, edge("closing")?);
            stated.push(StatementAccount { currency: of.currency, kind: *kind, opening, closing });
        }
    }
    Ok(StatementHead {
        name,
        as_of: time.try_get(0)?,
        is_final: time.try_get(1)?,
        accounts: stated,
        currencies: currencies.to_vec(),
    })
}

fn line(row: &Row, currencies: &[GridCurrency]) -> Result<StatementLine, Error> {
    let from = From("transfer");
    let number: i64 = row.try_get("account")?;
    let account = AccountId::from_number(number);
    let of = currencies.iter().find(|one| Some(one.id) == account.currency());
    let code: i16 = row.try_get("code")?;
    let job: i64 = row.try_get("job_id")?;
    Ok(StatementLine {
        time: row.try_get("created_at")?,
        transfer: from.count(row, "id")?,
        currency: of.ok_or_else(|| from.wrong("credit", number))?.currency,
        account: account.kind().ok_or_else(|| from.wrong("credit", number))?,
        code: Some(Code::from_number(code).ok_or_else(|| from.wrong("code", code))?),
        amount: from.amount(row, "amount")?,
        job: (job > 0).then_some(JobId(job)),
        unit: unit(row)?,
        batch: row.try_get("batch")?,
        reason: row.try_get("reason")?,
    })
}

fn unit(row: &Row) -> Result<Option<LedgerUnit>, Error> {
    let Some(device) = row.try_get::<_, Option<i64>>("device_id")? else { return Ok(None) };
    let from = From("attempt");
    let outcome = from.outcome(row, "outcome")?;
    let stands = row.try_get::<_, Option<bool>>("stands")?.unwrap_or(false);
    let verdict = if row.try_get("is_reopened")? {
        UnitVerdict::Reopened
    } else if !stands {
        UnitVerdict::Replaced
    } else if outcome == Outcome::Result {
        UnitVerdict::Accepted
    } else {
        UnitVerdict::Failed
    };
    Ok(Some(LedgerUnit {
        stage: from.stage(row, "stage")?,
        index: from.count(row, "idx")?,
        device: DeviceId(device),
        device_name: row.try_get::<_, Option<String>>("display_name")?.unwrap_or_default(),
        outcome,
        digest: from.digest(row, "digest")?,
        verdict,
    }))
}

fn balance_line(row: &Row, currencies: &[GridCurrency]) -> Result<BalanceLine, Error> {
    let until = match row.try_get::<_, Option<SystemTime>>("available_at")? {
        Some(at) => Some((From("held").count(row, "after_results")?, at)),
        None => None,
    };
    Ok(BalanceLine { line: line(row, currencies)?, until })
}

/// Whether the reader took it; it has not when it is gone.
async fn send<T>(pieces: &Pieces<T>, piece: T) -> Result<bool, Error> {
    let sent = tokio::time::timeout(READER_PATIENCE, pieces.send(Ok(piece))).await;
    sent.map(|sent| sent.is_ok()).map_err(|_| Error::SlowReader)
}
