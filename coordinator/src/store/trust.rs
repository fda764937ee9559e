//! Trust outside of batches: jobs are looked over, pay that was held back is released or forfeited.

use std::collections::BTreeSet;
use std::time::Duration;

use deadpool_postgres::Transaction;
use lull_job::Stage;
use lull_ledger::{AccountKind, Key, Transfer};

use super::batch::{Aftermath, overdue_slice, review_slice, write_overdue, write_review, write_transfers};
use super::rows::From;
use super::{Error, Store, run_tx};
use crate::core::{Job, JobId, JobState, Policy, UnitKey, check_overdue, review};

/// Results of one owner whose pay is released at once: the rest follows with the next look.
const RESULTS_PER_RELEASE: i64 = 10_000;
/// Complete jobs that are looked at in one go: each costs a look at what is held back for everybody who took part.
const SETTLED_PER_LOOK: i64 = 100;
/// Pay is held back no longer than this, whatever its owner still returns.
pub(super) const HELD_DAYS_MAX: i32 = 30;
/// What a release leaves held back falls by a quarter, and not again within this time: a dispute is settled sooner, so that
/// whoever lied still has most of what it had at stake then.
const LEVEL_MINUTES: i32 = 60;
/// So many days before that, what nobody checked is wanted once more.
const CHECK_DAYS_BEFORE: i32 = 1;
/// So many days later, pay is released though the check has not come: there may be nobody to make it.
pub(super) const CHECK_DAYS_MAX: i32 = 7;
/// Units that are wanted for a check in one go.
const CHECKS_PER_LOOK: i64 = 1_000;

impl Store {
    /// Jobs that wait to be looked over: their work is done, or somebody who took part was caught.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unreviewed(&self) -> Result<Vec<JobId>, Error> {
        run_tx!(self.pool, "unreviewed", tx => {
            let select = "SELECT id FROM job WHERE state = 1 AND stage = 1 AND NOT reviewed AND stage_units > 0
                    AND max_error + max_answer_error > 0 AND stage_accepted + stage_failed = stage_units
                UNION SELECT job_id FROM recheck ORDER BY 1";
            let rows = tx.query(&tx.prepare_cached(select).await?, &[]).await?;
            rows.iter().map(|row| Ok(JobId(row.try_get(0)?))).collect()
        })
    }

    /// Looks a job over: pay of owners that were caught is forfeited, units that no longer stand are reopened,
    /// and where all the work stands, what is made from it begins.
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub async fn review(&self, id: JobId, policy: Policy) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, "review", tx => {
            let (mut slice, caught) = review_slice(tx, id, policy).await?;
            let mut lost = Vec::new();
            if let Some(job) = slice.jobs.get_mut(&id) {
                lost = forfeits(tx, job, &caught).await?;
                let back = lost.iter().filter(|one| one.credit().kind() == Some(AccountKind::Escrow));
                job.spent = job.spent - back.map(|one| one.amount).sum();
            }
            let gone = lost.iter().filter(|one| one.credit().kind() == Some(AccountKind::Losses));
            slice.losses = slice.losses + gone.map(|one| one.amount).sum();
            let mut changes = review(&mut slice, id);
            changes.transfers.extend(lost);
            tracing::info!(job = %id, reopened = changes.reopened.len(), again = changes.jobs_begun_again.len(), caught = caught.len(), "looked over");
            write_review(tx, &slice, &changes, id, &caught, Duration::ZERO).await
        })
    }

    /// Complete jobs, of some chosen by lot, of which no pay is held back any more, and that do not wait to be looked
    /// over.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn unsettled(&self) -> Result<Vec<JobId>, Error> {
        run_tx!(self.pool, "unsettled", tx => {
            let done = "NOT EXISTS (SELECT FROM recheck WHERE recheck.job_id = job.id)
                AND NOT EXISTS (
                    SELECT FROM job_owner JOIN standing USING (owner_id)
                    JOIN held ON held.owner_id = standing.owner_id AND held.seq > standing.released_to
                    WHERE job_owner.job_id = job.id AND held.job_id = job.id)
                ORDER BY id";
            let some = "SELECT id FROM job WHERE state = 2 AND NOT settled ORDER BY random() LIMIT $1";
            let select = format!("SELECT id FROM ({some}) AS job WHERE {done}");
            let rows = tx.query(&tx.prepare_cached(&select).await?, &[&SETTLED_PER_LOOK]).await?;
            rows.iter().map(|row| Ok(JobId(row.try_get(0)?))).collect()
        })
    }

    /// Settles a complete job.
    ///
    /// # Errors
    /// When there is none, or the database fails.
    pub async fn settle(&self, id: JobId) -> Result<Aftermath, Error> {
        self.change_job("settle", id, Job::settle).await
    }

    /// Forgets half of the units that owners have dropped, once a day, and what devices failed a day ago.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forgive_drops(&self) -> Result<(), Error> {
        run_tx!(self.pool, "forgive_drops", tx => {
            let due = "SELECT owner_id FROM standing WHERE dropped > 0 AND forgiven_at < now() - interval '1 day'
                ORDER BY owner_id FOR UPDATE SKIP LOCKED";
            let update = format!("WITH due AS ({due}) UPDATE standing SET dropped = dropped / 2, forgiven_at = now()
                FROM due WHERE standing.owner_id = due.owner_id");
            tx.execute(&tx.prepare_cached(&update).await?, &[]).await?;
            tx.execute("DELETE FROM trouble WHERE failed_at < now() - interval '1 day'", &[]).await?;
            Ok(())
        })
    }

    /// Wants units checked whose pay has been held back for nearly as long as it may be, and that nobody checked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check_overdue(&self, policy: Policy) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, "check_overdue", tx => {
            // Most owners have none: their oldest pay says so.
            // Not all can be checked: another choice each time leaves none out.
            let old = "SELECT job_id, idx FROM (SELECT DISTINCT old.job_id, old.idx FROM standing
                JOIN held AS oldest ON oldest.owner_id = standing.owner_id AND oldest.seq = standing.released_to + 1
                CROSS JOIN LATERAL (
                    SELECT job_id, stage, idx, checked, created_at FROM held
                    WHERE held.owner_id = standing.owner_id AND held.seq > standing.released_to
                      AND NOT held.checked AND held.stage = 1 AND held.created_at < now() - $1::integer * interval '1 day'
                    ORDER BY random() LIMIT $2) AS old
                JOIN job ON job.id = old.job_id
                JOIN verdict ON verdict.job_id = old.job_id AND verdict.stage = old.stage AND verdict.idx = old.idx AND version = 1 AND agreeing = 1
                WHERE oldest.created_at < now() - $1::integer * interval '1 day' AND job.state = 1 AND job.stage = 1 AND NOT job.reviewed
                  AND NOT EXISTS (SELECT FROM verdict AS later WHERE later.job_id = old.job_id AND later.stage = old.stage AND later.idx = old.idx AND later.version > 1)
                  AND NOT EXISTS (SELECT FROM reopened WHERE reopened.job_id = old.job_id AND reopened.stage = old.stage AND reopened.idx = old.idx)
) AS old
                ORDER BY random() LIMIT $2";
            let days = HELD_DAYS_MAX - CHECK_DAYS_BEFORE;
            let rows = tx.query(&tx.prepare_cached(old).await?, &[&days, &CHECKS_PER_LOOK]).await?;
            if rows.is_empty() {
                return Ok(Aftermath::default());
            }
            let from = From("held");
            let units: Vec<UnitKey> = rows
                .iter()
                .map(|row| {
                    let (job, index) = (JobId(row.try_get("job_id")?), from.count(row, "idx")?);
                    Ok(UnitKey { job, stage: Stage::Work, index })
                })
                .collect::<Result<_, Error>>()?;
            let units: Vec<UnitKey> = BTreeSet::from_iter(units).into_iter().collect();
            let mut slice = overdue_slice(tx, &units, policy).await?;
            let changes = check_overdue(&mut slice);
            write_overdue(tx, &slice, &changes).await
        })
    }

    /// Releases pay of owners that have earned enough since, and that was held back for the longest time.
    /// Returns how many owners it was.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn release_held(&self) -> Result<usize, Error> {
        self.lower_levels().await?;
        run_tx!(self.pool, "release_held", tx => {
            // Most queues wait for their head. Nothing is due while a catch is looked through: what is pending then is more
            // than what is held.
            let waiting = format!(
                "SELECT owner_id FROM ({HEADS}) AS head
                 WHERE behind >= greatest(needed, level) OR created_at < now() - $1::integer * interval '1 day' ORDER BY owner_id"
            );
            let rows = tx.query(&tx.prepare_cached(&waiting).await?, &[&HELD_DAYS_MAX]).await?;
            let owners: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            if owners.is_empty() {
                return Ok(0);
            }
            let queue = queue("$3");
            let due = format!("SELECT standing.owner_id, released_to, last.seq AS to_seq
                FROM unnest($1::bigint[]) AS owner (id) JOIN standing ON owner_id = owner.id CROSS JOIN LATERAL (
                    SELECT max(seq) AS seq FROM (
                        SELECT seq, bool_and(missing <= 0 OR created_at < now() - ($2::integer + $4::integer) * interval '1 day'
                            OR created_at < now() - $2::integer * interval '1 day' AND NOT EXISTS (SELECT FROM reopened JOIN job ON job.id = reopened.job_id AND job.state = 1
                                WHERE (reopened.job_id, reopened.stage, reopened.idx) = (held.job_id, held.stage, held.idx)))
                            OVER (ORDER BY seq) AS is_due
                        FROM ({queue}) AS held) AS queue
                    WHERE is_due) AS last
                WHERE last.seq IS NOT NULL AND NOT EXISTS (SELECT FROM recheck WHERE recheck.owner_id = standing.owner_id)
                ORDER BY standing.owner_id");
            let due = tx.prepare_cached(&due).await?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&owners, &HELD_DAYS_MAX, &RESULTS_PER_RELEASE, &CHECK_DAYS_MAX];
            let owners: Vec<i64> = tx.query(&due, &parameters).await?.iter().map(|row| row.get("owner_id")).collect();
            // Accounts are locked before standings, as batches do, in every currency; what is due is read again under the
            // locks.
            let lock = "SELECT id FROM account WHERE id = ANY(
                    SELECT (currency.number::bigint << 48) + owner.id * 8 + kind
                    FROM unnest($1::bigint[]) AS owner (id), currency, (VALUES (3), (4)) AS kinds (kind))
                ORDER BY id FOR UPDATE";
            tx.query(&tx.prepare_cached(lock).await?, &[&owners]).await?;
            let lock = "SELECT owner_id FROM standing WHERE owner_id = ANY($1) ORDER BY owner_id FOR UPDATE";
            tx.query(&tx.prepare_cached(lock).await?, &[&owners]).await?;
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&owners, &HELD_DAYS_MAX, &RESULTS_PER_RELEASE, &CHECK_DAYS_MAX];
            let rows = tx.query(&due, &parameters).await?;
            let mut transfers = Vec::with_capacity(rows.len());
            for row in &rows {
                let owner: i64 = row.try_get("owner_id")?;
                let (from_seq, to_seq): (i64, i64) = (row.try_get("released_to")?, row.try_get("to_seq")?);
                let insert = "INSERT INTO release (owner_id, from_seq, to_seq, currency, amount)
                    SELECT $1, $2, $3, job.currency, sum(amount) FROM held JOIN job ON job.id = held.job_id
                    WHERE owner_id = $1 AND seq > $2 AND seq <= $3 GROUP BY job.currency
                    RETURNING id, currency, amount";
                for release in tx.query(&tx.prepare_cached(insert).await?, &[&owner, &from_seq, &to_seq]).await? {
                    let from = From("release");
                    let (currency, amount) = (from.currency(&release, "currency")?, from.amount(&release, "amount")?);
                    transfers.push(Transfer::release(currency, release.try_get("id")?, owner, amount));
                }
                let update = "UPDATE standing SET released_to = $2 WHERE owner_id = $1";
                tx.execute(&tx.prepare_cached(update).await?, &[&owner, &to_seq]).await?;
            }
            write_transfers(tx, &transfers).await?;
            Ok(rows.len())
        })
    }
}

impl Store {
    /// What a release leaves held back falls, where nothing else holds the next pay back.
    async fn lower_levels(&self) -> Result<(), Error> {
        run_tx!(self.pool, "lower_levels", tx => {
            let due = format!(
                "SELECT stake.owner_id, stake.currency FROM ({HEADS}) AS head
                 JOIN stake ON stake.owner_id = head.owner_id AND stake.currency = head.currency
                 WHERE behind >= needed AND behind < head.level AND changed_at < now() - $1::integer * interval '1 minute'
                 ORDER BY 1, 2 FOR UPDATE OF stake SKIP LOCKED"
            );
            let update = format!(
                "WITH due AS ({due}) UPDATE stake SET level = trunc(level * 3 / 4, 12), changed_at = now() FROM due
                 WHERE stake.owner_id = due.owner_id AND stake.currency = due.currency"
            );
            tx.execute(&tx.prepare_cached(&update).await?, &[&LEVEL_MINUTES]).await?;
            Ok(())
        })
    }
}

/// The first of each owner's queue: what its owner must have earned after it, and what it has.
const HEADS: &str = "SELECT standing.owner_id, held.created_at, account.currency, held.amount * (until_seq - seq) AS needed,
        balance - held.amount AS behind, coalesce(level, 0) AS level
    FROM standing JOIN held ON held.owner_id = standing.owner_id AND held.seq = released_to + 1
    LEFT JOIN job ON job.id = held.job_id
    JOIN account ON account.id = (coalesce(job.currency, 0)::bigint << 48) + standing.owner_id * 8 + 4
    LEFT JOIN stake ON stake.owner_id = standing.owner_id AND stake.currency = account.currency
    WHERE held_to > released_to AND NOT EXISTS (SELECT FROM recheck WHERE recheck.owner_id = standing.owner_id)";

/// So many rows of the queue of the owner of `standing`: each with its currency, and what its owner must still earn in that
/// until it is released, if nothing before it takes more. Everything that is pending is in the queue.
pub(super) fn queue(limit: &str) -> String {
    format!(
        "SELECT first.*, greatest(first.amount * (until_seq - seq), coalesce(level, 0)) - balance
             + sum(first.amount) OVER (PARTITION BY first.currency ORDER BY seq) AS missing
         FROM (
             SELECT held.*, coalesce(job.currency, 0::smallint) AS currency
             FROM held LEFT JOIN job ON job.id = held.job_id
             WHERE held.owner_id = standing.owner_id AND held.seq > standing.released_to ORDER BY held.seq LIMIT {limit}) AS first
         JOIN account ON account.id = (first.currency::bigint << 48) + first.owner_id * 8 + 4
         LEFT JOIN stake ON stake.owner_id = first.owner_id AND stake.currency = first.currency"
    )
}

/// What owners lose of a job's pay: back to its escrow while the work can be done again.
async fn forfeits(tx: &Transaction<'_>, job: &Job, caught: &[i64]) -> Result<Vec<Transfer>, Error> {
    let Job { id, currency, .. } = *job;
    let select = "SELECT held.owner_id, held.stage, held.idx, held.amount, fee.amount AS fee FROM catch
        JOIN held ON held.owner_id = catch.owner_id AND held.seq > catch.from_seq AND held.seq <= catch.to_seq
        LEFT JOIN transfer AS fee ON fee.code = 10 AND fee.job_id = held.job_id AND fee.stage = held.stage
          AND fee.idx = held.idx AND fee.attempt = held.owner_id
        WHERE catch.id = ANY($2) AND held.job_id = $1 ORDER BY held.owner_id, held.seq";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&id.0, &caught]).await?;
    let from = From("held");
    let mut lost = Vec::with_capacity(rows.len());
    for row in &rows {
        let owner: i64 = row.try_get("owner_id")?;
        let stage: i16 = row.try_get("stage")?;
        let key = Key { job: id.0, stage, index: row.try_get("idx")?, attempt: owner };
        let amount = from.amount(row, "amount")?;
        if job.state != JobState::Running {
            lost.push(Transfer::forfeit_to_losses(currency, key, owner, amount));
            continue;
        }
        lost.push(Transfer::forfeit(currency, key, owner, amount));
        if row.try_get::<_, Option<rust_decimal::Decimal>>("fee")?.is_some() {
            lost.push(Transfer::fee_back(currency, key, from.amount(row, "fee")?));
        }
    }
    Ok(lost)
}
