//! The ledger's reports and deposits. Every figure is a query over transfers.

use deadpool_postgres::Transaction;
use lull_ledger::{AccountId, AccountKind, Amount, Currency, CurrencyId, Transfer};
use tokio_postgres::Row;

use super::batch::write_transfers;
use super::currencies::{currency, insufficient, lock_free};
use super::rows::From;
use super::statements::snapshot;
use super::{Error, GridCurrency, OperatorId, PendingPart, Store, run_tx};
use crate::core::{DeviceId, OwnerId, SubmitterId};

/// What a submitter has in one currency.
#[derive(Debug, Clone)]
pub struct SubmitterBalance {
    /// Its name.
    pub name: String,
    /// In what.
    pub currency: Currency,
    /// Free.
    pub available: Amount,
    /// In escrow of its jobs.
    pub escrow: Amount,
    /// Paid to owners.
    pub spent: Amount,
}

/// What an owner has in one currency.
#[derive(Debug, Clone)]
pub struct OwnerBalance {
    /// Its name.
    pub name: String,
    /// In what.
    pub currency: Currency,
    /// Held back.
    pub pending: Amount,
    /// Can be paid out.
    pub available: Amount,
    /// In a batch of payouts that is not finished.
    pub payout: Amount,
    /// Paid.
    pub paid: Amount,
    /// Left by the last payout in the account of remainders.
    pub remainder: Amount,
    /// Why some is held back.
    pub pending_parts: Vec<PendingPart>,
}

/// What an owner has earned in one currency.
#[derive(Debug, Clone)]
pub struct OwnerEarnings {
    /// Its name.
    pub owner: String,
    /// In what.
    pub currency: Currency,
    /// All of it.
    pub total: Amount,
    /// Attempts paid.
    pub attempts: u64,
    /// Where it is: pending, available, in a payout, paid, among the remainders.
    pub balances: [Amount; 5],
    /// By device, by job, by day in UTC.
    pub lines: [Vec<EarningsLine>; 3],
}

/// What the verified attempts of one device were paid.
#[derive(Debug, Clone)]
pub struct DeviceEarnings {
    /// In each currency in which there is something, and in the default, which comes first.
    pub by_currency: Vec<DeviceEarned>,
    /// The running month by UTC, as "2026-11".
    pub month: String,
}

/// What the verified attempts of one device were paid in one currency.
#[derive(Debug, Clone)]
pub struct DeviceEarned {
    /// In what.
    pub currency: Currency,
    /// In all: amount.
    pub total: Amount,
    /// In all: attempts paid.
    pub total_units: u64,
    /// In the running month by UTC: amount.
    pub month_total: Amount,
    /// In the running month by UTC: attempts paid.
    pub month_units: u64,
}

/// A part of what an owner has earned.
#[derive(Debug, Clone)]
pub struct EarningsLine {
    /// `devices/{n}`, `jobs/{n}` or a day.
    pub key: String,
    /// How much.
    pub amount: Amount,
    /// Attempts paid.
    pub attempts: u64,
}

/// Whether the books balance.
#[derive(Debug, Clone)]
pub struct Books {
    /// Sum of all balances in each currency.
    pub sums: Vec<(Currency, Amount)>,
    /// Number of transfers.
    pub transfers: u64,
    /// Number of accounts.
    pub accounts: u64,
    /// Sum of balances in each currency, by kind of account.
    pub totals: Vec<(Currency, AccountKind, Amount)>,
    /// What is wrong.
    pub faults: Vec<String>,
}

/// Faults listed at most: one is enough to stop everything.
const FAULTS_MAX: usize = 100;

impl Store {
    /// Puts money from outside on a submitter's balance; the same request id does it once. Returns the
    /// number of the deposit and the balance after it.
    ///
    /// # Errors
    /// When the request id was used for another deposit.
    pub async fn deposit(
        &self,
        submitter: SubmitterId,
        currency: CurrencyId,
        amount: Amount,
        request_id: &str,
    ) -> Result<(i64, Amount), Error> {
        run_tx!(self.pool, "deposit", tx => {
            let balance = lock_free(tx, submitter, currency).await?;
            let same = "SELECT id, amount, currency FROM deposit WHERE submitter_id = $1 AND request_id = $2";
            if let Some(row) = tx.query_opt(same, &[&submitter.0, &request_id]).await? {
                let from = From("deposit");
                if from.amount(&row, "amount")? != amount || from.currency(&row, "currency")? != currency {
                    return Err(Error::RequestReused(request_id.to_owned()));
                }
                return Ok((row.try_get("id")?, balance));
            }
            let insert =
                "INSERT INTO deposit (submitter_id, request_id, amount, currency) VALUES ($1, $2, $3, $4) RETURNING id";
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&submitter.0, &request_id, &amount.decimal(), &currency.number()];
            let id = tx.query_one(insert, &parameters).await?.try_get(0)?;
            write_transfers(tx, &[Transfer::deposit(currency, id, submitter.0, amount)]).await?;
            Ok((id, balance + amount))
        })
    }

    /// What a submitter has in one currency, or in each in which it ever had something and in the default.
    ///
    /// # Errors
    /// When there is none of that number.
    pub async fn balances(
        &self,
        submitter: SubmitterId,
        only: Option<CurrencyId>,
    ) -> Result<Vec<SubmitterBalance>, Error> {
        run_tx!(self.pool, "balances", tx => {
            let select = "SELECT name, code, decimals, account.balance AS available,
                    coalesce(spending.escrow, 0) AS escrow, coalesce(spending.spent, 0) AS spent
                FROM submitter CROSS JOIN currency
                JOIN account ON account.id = (number::bigint << 48) + submitter.id * 8 + 1
                LEFT JOIN (
                    SELECT job.currency, sum(balance) AS escrow, sum(spent) AS spent FROM job
                    JOIN account ON account.id = (job.currency::bigint << 48) + job.id * 8 + 2
                    WHERE submitter_id = $1 GROUP BY 1) AS spending ON spending.currency = number
                WHERE submitter.id = $1 AND CASE WHEN $2::smallint IS NOT NULL THEN number = $2
                    ELSE number = 0 OR spending.spent IS NOT NULL
                      OR EXISTS (SELECT FROM deposit WHERE submitter_id = $1 AND deposit.currency = number) END
                ORDER BY number";
            let rows = tx.query(select, &[&submitter.0, &only.map(CurrencyId::number)]).await?;
            if rows.is_empty() {
                return Err(Error::NotFound("submitter"));
            }
            let from = From("account");
            let balance = |row: &Row| {
                Ok(SubmitterBalance {
                    name: row.try_get("name")?,
                    currency: currency(row)?,
                    available: from.amount(row, "available")?,
                    escrow: from.amount(row, "escrow")?,
                    spent: from.amount(row, "spent")?,
                })
            };
            rows.iter().map(balance).collect()
        })
    }

    /// Undoes a deposit, with a reason; again it changes nothing. Returns the number of the reversal, what was
    /// deposited in which currency, and the balance after it.
    ///
    /// # Errors
    /// When there is no such deposit, or the balance does not cover it any more.
    pub async fn reverse_deposit(
        &self,
        submitter: SubmitterId,
        deposit: i64,
        reason: &str,
        operator: OperatorId,
    ) -> Result<(i64, GridCurrency, Amount, Amount), Error> {
        run_tx!(self.pool, "reverse_deposit", tx => {
            let select = "SELECT amount, number, code, decimals FROM deposit JOIN currency ON number = currency
                WHERE id = $1 AND submitter_id = $2";
            let row = tx.query_opt(select, &[&deposit, &submitter.0]).await?.ok_or(Error::NotFound("deposit"))?;
            let amount = From("deposit").amount(&row, "amount")?;
            let of = GridCurrency { id: From("deposit").currency(&row, "number")?, currency: currency(&row)? };
            let available = lock_free(tx, submitter, of.id).await?;
            let original = Transfer::deposit(of.id, deposit, submitter.0, amount);
            if let Some(number) = known_reversal(tx, &original).await? {
                return Ok((number, of, amount, available));
            }
            if available < amount {
                return Err(insufficient(tx, submitter, of.id, amount).await?);
            }
            let (number, transfer) = reverse(tx, &original, reason, operator).await?;
            write_transfers(tx, &[transfer]).await?;
            Ok((number, of, amount, available - amount))
        })
    }

    /// What one owner, or each, has earned, less what was forfeited.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn earnings(&self, owner: Option<OwnerId>) -> Result<Vec<OwnerEarnings>, Error> {
        run_tx!(self.reading_pool, "earnings", tx => {
            // In each currency in which somebody earned, and in the default where it is in none.
            let owners = "SELECT owner.id, name, number, code, decimals FROM owner CROSS JOIN currency
                WHERE ($1::bigint IS NULL OR owner.id = $1)
                  AND CASE WHEN EXISTS (SELECT FROM device JOIN device_earning ON device_id = device.id
                                        WHERE owner_id = owner.id)
                      THEN EXISTS (SELECT FROM device JOIN device_earning ON device_id = device.id
                                   WHERE owner_id = owner.id AND device_earning.currency = number)
                      ELSE number = 0 END
                ORDER BY name, number";
            let mut all = Vec::new();
            for row in tx.query(owners, &[&owner.map(|o| o.0)]).await? {
                let id: i64 = row.try_get("id")?;
                let of: i16 = row.try_get("number")?;
                // The owner's accounts have numbers from this one.
                let base = (i64::from(of) << AccountId::CURRENCY_SHIFT) + id * AccountId::KINDS;
                let mut lines = [Vec::new(), Vec::new(), Vec::new()];
                for (line, (key, join)) in lines.iter_mut().zip([
                    ("'devices/' || attempt.device_id", PAID_ATTEMPT),
                    ("'jobs/' || transfer.job_id", ""),
                    ("to_char(transfer.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')", ""),
                ]) {
                    let select = format!(
                        "SELECT {key} AS key, sum(CASE code WHEN 3 THEN amount ELSE -amount END) AS amount,
                             count(*) FILTER (WHERE code = 3) AS attempts FROM transfer {join}
                         WHERE credit IN ($1::bigint + 3, $1::bigint + 4) AND code = 3
                            OR debit = $1::bigint + 4 AND code = 6 GROUP BY 1 ORDER BY 1"
                    );
                    *line = tx.query(&select, &[&base]).await?.iter().map(earnings_line).collect::<Result<_, _>>()?;
                }
                let balances = "SELECT balance FROM unnest(ARRAY[4, 3, 5, 6]) WITH ORDINALITY AS kind (code, place)
                    JOIN account ON account.id = $1::bigint + code ORDER BY place";
                let rows = tx.query(balances, &[&base]).await?;
                let balance = |at: usize| match rows.get(at) {
                    Some(row) => From("account").amount(row, "balance"),
                    None => Err(From("account").wrong("id", format!("owner {id} lacks an account"))),
                };
                all.push(OwnerEarnings {
                    owner: row.try_get("name")?,
                    currency: currency(&row)?,
                    balances: [balance(0)?, balance(1)?, balance(2)?, balance(3)?, remainder(tx, id, of).await?],
                    total: lines[1].iter().map(|line| line.amount).sum(),
                    attempts: lines[1].iter().map(|line| line.attempts).sum(),
                    lines,
                });
            }
            Ok(all)
        })
    }

    /// What one device has earned, less what was forfeited of it: in all, and in the month that the database's clock is in, by
    /// UTC. What was forfeited is missing in the month in which it was earned.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_earnings(&self, device: DeviceId) -> Result<DeviceEarnings, Error> {
        run_tx!(self.pool, "device_earnings", tx => {
            let select = "SELECT code, decimals, coalesce(sum(amount), 0) AS total,
                    coalesce(sum(units), 0)::bigint AS total_units,
                    coalesce(sum(amount) FILTER (WHERE is_running), 0) AS month_total,
                    coalesce(sum(units) FILTER (WHERE is_running), 0)::bigint AS month_units,
                    to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM') AS month
                FROM currency LEFT JOIN (
                    SELECT currency, amount, units,
                        month = date_trunc('month', now() AT TIME ZONE 'UTC')::date AS is_running
                    FROM device_earning WHERE device_id = $1
                    UNION ALL SELECT (reward.credit >> 48)::smallint, -forfeit.amount, 0,
                        reward.created_at >= date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                    -- Only a catch makes anything forfeited: of an owner that never was there is nothing to look for.
                    FROM device JOIN catch USING (owner_id)
                    JOIN held ON held.owner_id = catch.owner_id AND held.seq > catch.from_seq AND held.seq <= catch.to_seq
                    JOIN attempt ON attempt.job_id = held.job_id AND attempt.stage = held.stage
                        AND attempt.idx = held.idx AND attempt.owner_id = held.owner_id AND attempt.device_id = device.id
                    JOIN transfer AS forfeit ON forfeit.code = 6 AND forfeit.job_id = held.job_id
                        AND forfeit.stage = held.stage AND forfeit.idx = held.idx AND forfeit.attempt = held.owner_id
                    JOIN transfer AS reward ON reward.code = 3 AND reward.job_id = held.job_id
                        AND reward.stage = held.stage AND reward.idx = held.idx AND reward.attempt = held.owner_id
                    WHERE device.id = $1) AS earning ON earning.currency = number
                WHERE number = 0 OR earning.currency IS NOT NULL GROUP BY number ORDER BY number";
            let rows = tx.query(select, &[&device.0]).await?;
            let from = From("device_earning");
            let earned = |row: &Row| {
                Ok::<_, Error>(DeviceEarned {
                    currency: currency(row)?,
                    total: from.amount(row, "total")?,
                    total_units: from.count(row, "total_units")?,
                    month_total: from.amount(row, "month_total")?,
                    month_units: from.count(row, "month_units")?,
                })
            };
            Ok(DeviceEarnings {
                by_currency: rows.iter().map(earned).collect::<Result<_, _>>()?,
                month: rows.first().ok_or(Error::NotFound("currency"))?.try_get("month")?,
            })
        })
    }

    /// Recomputes the books from the transfers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check_books(&self) -> Result<Books, Error> {
        // One snapshot for all of it: the grid goes on meanwhile. It may take long, which what writes may not.
        let mut client = self.reading_pool.get().await?;
        let tx = snapshot(&mut client).await?;
        // The grid's own accounts are all of kind 0: their numbers tell them apart.
        let totals =
            "SELECT currency, CASE WHEN id % 8 = 0 THEN id & ((1::bigint << 48) - 1) ELSE id % 8 END AS kind,
                    sum(balance) AS balance, count(*) AS accounts FROM account GROUP BY 1, 2";
        let rows = tx.query(totals, &[]).await?;
        let currencies = "SELECT number, code, decimals FROM currency ORDER BY number";
        let (mut totals, mut sums) = (Vec::new(), Vec::new());
        let mut accounts = 0;
        for of in tx.query(currencies, &[]).await? {
            let (number, currency) = (of.try_get::<_, i16>("number")?, currency(&of)?);
            let mut sum = Amount::ZERO;
            for kind in AccountKind::ALL {
                let of_grid = AccountId::of_grid(CurrencyId::DEFAULT, kind).number();
                let of_kind = if kind.code() == 0 { of_grid } else { kind.code() };
                let is_it = |row: &&Row| (row.get("currency"), row.get("kind")) == (number, of_kind);
                let row = rows.iter().find(is_it);
                let balance = row.map_or(Ok(Amount::ZERO), |row| From("account").amount(row, "balance"))?;
                accounts += row.map_or(Ok(0), |row| From("account").count(row, "accounts"))?;
                sum = sum + balance;
                totals.push((currency, kind, balance));
            }
            sums.push((currency, sum));
        }
        let transfers = tx.query_one("SELECT count(*) AS transfers FROM transfer", &[]).await?;
        let mut faults = Vec::new();
        for (fault, select) in FAULTS {
            for row in tx.query(select, &[]).await?.iter().take(FAULTS_MAX) {
                faults.push(format!("{fault}: {}", row.try_get::<_, String>(0)?));
            }
        }
        Ok(Books {
            sums,
            transfers: From("transfer").count(&transfers, "transfers")?,
            accounts,
            totals,
            faults,
        })
    }
}

/// What the last payout of an owner left in the account of remainders, of this currency.
pub(super) async fn remainder(tx: &Transaction<'_>, owner: i64, currency: i16) -> Result<Amount, Error> {
    let select =
        "SELECT remainder FROM payout WHERE owner_id = $1 AND currency = $2 ORDER BY batch_id DESC LIMIT 1";
    let row = tx.query_opt(&tx.prepare_cached(select).await?, &[&owner, &currency]).await?;
    row.map_or(Ok(Amount::ZERO), |row| From("payout").amount(&row, "remainder"))
}

/// The attempt that a reward pays.
const PAID_ATTEMPT: &str =
    "LEFT JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
    AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt";

/// Each invariant of the books, as a query for the rows that break it.
const FAULTS: [(&str, &str); 15] = [
    (
        "money moved between two currencies",
        "SELECT 'transfer ' || id FROM transfer WHERE debit >> 48 <> credit >> 48 LIMIT 100",
    ),
    (
        "a row is in another currency than its transfer",
        "SELECT 'job ' || job_id || ', transfer ' || transfer.id FROM transfer JOIN job ON job.id = job_id
         WHERE debit >> 48 <> job.currency
         UNION ALL SELECT 'deposit ' || deposit.id FROM deposit JOIN transfer ON code = 1 AND job_id = 0 AND stage = 0
             AND idx = 0 AND attempt = deposit.id WHERE debit >> 48 <> currency
         UNION ALL SELECT 'release ' || release.id FROM release JOIN transfer ON code = 5 AND job_id = 0 AND stage = 0
             AND idx = 0 AND attempt = release.id WHERE debit >> 48 <> currency LIMIT 100",
    ),
    (
        "the remainders are not what the last payouts left",
        "SELECT 'account ' || account.id || ' has ' || balance || ', the last payouts left ' || coalesce(kept, 0)
         FROM account LEFT JOIN (
             SELECT currency, sum(remainder) AS kept FROM (
                 SELECT DISTINCT ON (owner_id, currency) currency, remainder FROM payout
                 ORDER BY owner_id, currency, batch_id DESC) AS last GROUP BY 1) AS last USING (currency)
         WHERE account.id & ((1::bigint << 48) - 1) = 24 AND balance <> coalesce(kept, 0)
         UNION ALL SELECT 'transfer ' || coalesce(transfer.id, 0) || ' of batch ' || coalesce(idx, batch_id) FROM (
             SELECT 14 AS code, batch_id, owner_id, remainder AS amount FROM payout WHERE remainder > 0
             UNION ALL SELECT 15, batch_id, owner_id, kept FROM (
                 SELECT *, lag(remainder) OVER (PARTITION BY owner_id, currency ORDER BY batch_id) AS kept FROM payout) AS payout
             WHERE kept > 0) AS due
         FULL JOIN (SELECT * FROM transfer WHERE code IN (14, 15)) AS transfer
           ON transfer.code = due.code AND idx = batch_id AND attempt = owner_id
         WHERE transfer.amount IS DISTINCT FROM due.amount LIMIT 100",
    ),
    (
        "balance is not the sum of its transfers",
        "SELECT 'account ' || id || ' has ' || coalesce(balance::text, 'no row') || ', its transfers make ' || coalesce(moved, 0)
         FROM account FULL JOIN (
             SELECT id, sum(change) AS moved FROM (
                 SELECT credit AS id, amount AS change FROM transfer
                 UNION ALL SELECT debit, -amount FROM transfer) AS posting GROUP BY id) AS posted USING (id)
         WHERE balance IS DISTINCT FROM coalesce(moved, 0) LIMIT 100",
    ),
    (
        "a job's spending is not what its escrow paid",
        "SELECT 'job ' || job.id || ' spent ' || spent || ', rewards and fees make ' || coalesce(paid, 0)
         FROM job LEFT JOIN (
             SELECT job_id, sum(CASE WHEN code IN (3, 10) THEN amount ELSE -amount END) AS paid FROM transfer
             WHERE code IN (3, 10, 11) OR code = 6 AND credit & ((1::bigint << 48) - 1) = job_id * 8 + 2 GROUP BY 1) AS reward
           ON reward.job_id = job.id WHERE spent <> coalesce(paid, 0) LIMIT 100",
    ),
    (
        "a fee is not its job's share of a reward",
        "SELECT 'job ' || job.id || ', stage ' || stage || ', unit ' || idx || ', owner ' || attempt
         FROM (SELECT * FROM transfer WHERE code = 3) AS reward
         FULL JOIN (SELECT job_id, stage, idx, attempt, amount AS fee, debit, credit FROM transfer WHERE code = 10) AS fee
           USING (job_id, stage, idx, attempt)
         LEFT JOIN (SELECT job_id, stage, idx, attempt, amount AS back FROM transfer WHERE code = 11) AS back
           USING (job_id, stage, idx, attempt)
         LEFT JOIN (SELECT job_id, stage, idx, attempt, credit AS lost_to FROM transfer WHERE code = 6) AS forfeit
           USING (job_id, stage, idx, attempt)
         JOIN (SELECT id, fee_millionths, currency::bigint << 48 AS base FROM job) AS job ON job.id = job_id
         WHERE amount IS NULL
            OR coalesce(fee, 0) <> trunc((amount + coalesce(fee, 0)) * fee_millionths * 0.000001, 12)
            OR fee.debit <> job.base + job_id * 8 + 2 OR fee.credit <> job.base + 16
            OR coalesce(back, 0) <> CASE WHEN lost_to = job.base + job_id * 8 + 2 THEN coalesce(fee, 0) ELSE 0 END LIMIT 100",
    ),
    (
        "an escrow is not what its job has left",
        "SELECT 'job ' || job.id || ' has ' || balance || ' in escrow'
         FROM job JOIN account ON account.id = (job.currency::bigint << 48) + job.id * 8 + 2
         WHERE balance <> budget + granted - refunded - spent OR settled AND balance <> 0 LIMIT 100",
    ),
    (
        "pay that is held back is not in its owner's queue",
        "SELECT 'owner ' || owner_id || ' has rewards of ' || coalesce(rewards, 0) || ' held back, its queue makes '
             || coalesce(queued, 0)
         FROM (SELECT attempt AS owner_id, credit >> 48 AS currency, sum(amount) AS rewards FROM transfer
               WHERE code = 3 AND credit % 8 = 4 GROUP BY 1, 2) AS reward
         FULL JOIN (SELECT owner_id, job.currency::bigint, sum(amount) AS queued FROM held JOIN job ON job.id = job_id
               GROUP BY 1, 2) AS queue USING (owner_id, currency)
         WHERE rewards IS DISTINCT FROM queued LIMIT 100",
    ),
    (
        "a reward has no attempt that agrees with an unfailing verdict",
        "SELECT 'transfer ' || transfer.id FROM transfer
         LEFT JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
           AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
         LEFT JOIN verdict ON verdict.job_id = transfer.job_id AND verdict.stage = transfer.stage
           AND verdict.idx = transfer.idx AND ((verdict.digest = attempt.digest AND verdict.outcome = attempt.outcome)
             OR (verdict.digest = attempt.strict_digest AND verdict.outcome = attempt.strict_outcome))
         WHERE code = 3 AND (verdict.outcome IS NULL OR verdict.outcome > 2) LIMIT 100",
    ),
    (
        "a device's earnings are not the rewards of its attempts",
        "SELECT 'device ' || device_id || ', month ' || month || ' has ' || coalesce(known.amount, 0) || ' for '
             || coalesce(known.units, 0) || ' units, its rewards make ' || coalesce(paid.amount, 0) || ' for '
             || coalesce(paid.units, 0)
         FROM device_earning AS known FULL JOIN (
             SELECT attempt.device_id, (transfer.credit >> 48)::smallint AS currency, date_trunc('month', transfer.created_at AT TIME ZONE 'UTC')::date AS month,
                 sum(transfer.amount) AS amount, count(*) AS units
             FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
               AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
             WHERE transfer.code = 3 GROUP BY 1, 2, 3) AS paid USING (device_id, currency, month)
         WHERE known.amount IS DISTINCT FROM paid.amount OR known.units IS DISTINCT FROM paid.units LIMIT 100",
    ),
    (
        "a device's postings are not those of its rewards",
        "SELECT 'device ' || device_id || ', transaction ' || xid
         FROM (SELECT *, true AS is_named FROM posting) AS known FULL JOIN (
             SELECT DISTINCT attempt.device_id, transfer.xid, true AS is_paid
             FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
               AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
             WHERE transfer.code = 3) AS paid USING (device_id, xid)
         WHERE is_named IS NULL OR is_paid IS NULL LIMIT 100",
    ),
    (
        "an agreeing attempt is unpaid",
        "SELECT 'job ' || v.job_id || ', stage ' || v.stage || ', unit ' || v.idx FROM standing_verdict v
         JOIN attempt a ON a.job_id = v.job_id AND a.stage = v.stage AND a.idx = v.idx
           AND ((a.digest = v.digest AND a.outcome = v.outcome)
             -- Where a unit was run both ways, the strict run counts as well.
             OR (a.strict_digest = v.digest AND a.strict_outcome = v.outcome))
         JOIN job ON job.id = v.job_id
         LEFT JOIN transfer t ON t.code = 3 AND t.job_id = v.job_id AND t.stage = v.stage AND t.idx = v.idx
           AND t.attempt = a.owner_id
         -- Whoever was caught since is paid nothing, and a unit that was decided again may have nothing left to pay with.
         WHERE v.outcome <= 2 AND v.version = 1 AND t.id IS NULL
           AND NOT EXISTS (SELECT FROM standing WHERE standing.owner_id = a.owner_id AND a.created_at <= caught_at)
           AND CASE WHEN v.stage = 1 THEN job.item_price ELSE job.service_price END > 0 LIMIT 100",
    ),
    (
        "a payout is not what its lines make",
        "SELECT 'batch ' || batch_id || ', owner ' || owner_id || ' pays ' || amount || ' of ' || carried_in || ' and '
             || coalesce(lines, 0) || ', and leaves ' || carried_out
         FROM payout LEFT JOIN (
             SELECT batch_id, owner_id,
                 sum(CASE (payout.currency::bigint << 48) + owner_id * 8 + 3
                         WHEN credit THEN transfer.amount WHEN debit THEN -transfer.amount END) AS lines
             FROM payout_line JOIN payout USING (batch_id, owner_id) JOIN transfer ON transfer.id = transfer_id
             GROUP BY 1, 2) AS line
           USING (batch_id, owner_id)
         WHERE carried_in + coalesce(lines, 0) <> amount + carried_out LIMIT 100",
    ),
    (
        "a payout is not where its state says",
        "SELECT 'batch ' || coalesce(payout.batch_id, proposed.idx) || ', owner ' || coalesce(payout.owner_id, proposed.attempt)
             || coalesce(' is in state ' || payout.state, ' is missing')
         FROM payout
         FULL JOIN (SELECT * FROM transfer WHERE code = 7) AS proposed
           ON proposed.idx = payout.batch_id AND proposed.attempt = payout.owner_id
         LEFT JOIN transfer AS paid ON paid.code = 8 AND paid.job_id = 0 AND paid.stage = 0
           AND paid.idx = payout.batch_id AND paid.attempt = payout.owner_id
         LEFT JOIN reversal AS back ON back.code = 7 AND back.job_id = 0 AND back.stage = 0
           AND back.idx = payout.batch_id AND back.attempt = payout.owner_id
         LEFT JOIN reversal AS unpaid ON unpaid.code = 8 AND unpaid.job_id = 0 AND unpaid.stage = 0
           AND unpaid.idx = payout.batch_id AND unpaid.attempt = payout.owner_id
         WHERE proposed.amount IS DISTINCT FROM payout.amount OR paid.amount <> payout.amount
            OR proposed.debit <> (payout.currency::bigint << 48) + payout.owner_id * 8 + 3
            OR (payout.state = 2) <> (paid.id IS NOT NULL AND unpaid.id IS NULL)
            OR (payout.state = 3) <> (back.id IS NOT NULL) LIMIT 100",
    ),
    (
        "a reversal is not the opposite of its transfer",
        "SELECT 'reversal ' || coalesce(reversal.id, undone.attempt) FROM reversal
         FULL JOIN (SELECT * FROM transfer WHERE code = 9) AS undone ON undone.attempt = reversal.id
         LEFT JOIN transfer AS original ON original.code = reversal.code AND original.job_id = reversal.job_id
           AND original.stage = reversal.stage AND original.idx = reversal.idx AND original.attempt = reversal.attempt
         WHERE undone.amount IS DISTINCT FROM original.amount OR undone.debit IS DISTINCT FROM original.credit
            OR undone.credit IS DISTINCT FROM original.debit LIMIT 100",
    ),
];

/// What `lull books` looks for, by the name that it gives it.
pub fn fault_names() -> impl Iterator<Item = &'static str> {
    FAULTS.iter().map(|(name, _)| *name)
}

/// Notes that a transfer is undone, and why; returns the number of the reversal, and the transfer that does it.
pub(super) async fn reverse(
    tx: &Transaction<'_>,
    original: &Transfer,
    reason: &str,
    operator: OperatorId,
) -> Result<(i64, Transfer), Error> {
    let insert = "INSERT INTO reversal (code, job_id, stage, idx, attempt, reason, operator_id)
        VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id";
    let (code, key) = (original.code.number(), original.key);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&code, &key.job, &key.stage, &key.index, &key.attempt, &reason, &operator.0];
    let number = tx.query_one(insert, &parameters).await?.try_get(0)?;
    Ok((number, Transfer::reversal(number, original)))
}

/// The reversal of a transfer, if it was undone.
async fn known_reversal(tx: &Transaction<'_>, original: &Transfer) -> Result<Option<i64>, Error> {
    let select = "SELECT id FROM reversal WHERE code = $1 AND job_id = $2 AND stage = $3 AND idx = $4 AND attempt = $5";
    let (code, key) = (original.code.number(), original.key);
    let row = tx.query_opt(select, &[&code, &key.job, &key.stage, &key.index, &key.attempt]).await?;
    row.map(|row| Ok(row.try_get(0)?)).transpose()
}

fn earnings_line(row: &Row) -> Result<EarningsLine, Error> {
    let from = From("transfer");
    Ok(EarningsLine {
        key: row.try_get::<_, Option<String>>("key")?.unwrap_or_default(),
        amount: from.amount(row, "amount")?,
        attempts: from.count(row, "attempts")?,
    })
}
