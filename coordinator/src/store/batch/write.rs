//! What was decided, written exactly: one statement a table, all of a step together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use deadpool_postgres::Transaction;
use lull_ledger::{CurrencyId, Transfer, postings};
use rust_decimal::Decimal;

use super::load::{Jobs, unit_columns};
use super::{checkpoints, troubles, trust};
use crate::core::{
    Changes, DeviceId, Earned, Lease, LeaseToken, Request, RunMode, Slice, Verdict, Wanted, stage_number,
};
use crate::store::Error;
use crate::store::error::ensure_affected;
use crate::store::receipts::{Stamp, write_postings};
use crate::store::rows::{self, bigint, outcome_code};

pub(super) async fn renew(
    tx: &Transaction<'_>,
    requests: &[Request],
    lease_ttl: Duration,
) -> Result<(), Error> {
    let held =
        requests.iter().flat_map(|request| request.held.iter().map(|token| (token.0, request.device.0)));
    let (tokens, devices): (Vec<i64>, Vec<i64>) = held.collect::<BTreeSet<_>>().into_iter().unzip();
    if tokens.is_empty() {
        return Ok(());
    }
    // Renewed only when a third of its time is gone: a call each second must not write a row each second.
    let update = "UPDATE lease SET deadline = now() + $3::bigint * interval '1 millisecond'
        FROM unnest($1::bigint[], $2::bigint[]) AS held (token, device_id)
        WHERE lease.token = held.token AND lease.device_id = held.device_id AND NOT expired
          AND deadline < now() + $3::bigint * 2 / 3 * interval '1 millisecond'";
    tx.execute(&tx.prepare_cached(update).await?, &[&tokens, &devices, &millis(lease_ttl)]).await?;
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) async fn write(
    tx: &Transaction<'_>,
    slice: &Slice,
    changes: &Changes,
    lease_ttl: Duration,
) -> Result<Option<Stamp>, Error> {
    clear(tx, changes).await?;
    // Deletions go before insertions: a unit may leave `wanted` and come back with another owner excluded.
    tokio::try_join!(
        remove_wanted(tx, &slice.jobs, &changes.wanted_removed),
        write_attempts(tx, &slice.jobs, changes),
        write_verdicts(tx, &slice.jobs, &changes.verdicts),
        write_transfers(tx, &changes.transfers),
        write_leases(tx, slice, changes, lease_ttl),
        write_jobs(tx, slice, changes),
    )?;
    // Earnings go after the accounts: every transaction locks the two in this order.
    let (stamp, ..) = tokio::try_join!(
        write_postings(tx, changes),
        add_wanted(tx, &slice.jobs, changes),
        add_earnings(tx, &changes.earned),
        checkpoints::write(tx, slice, changes),
        trust::write(tx, slice, changes),
        troubles::write(tx, &changes.troubles)
    )?;
    if !changes.jobs_ended.is_empty() {
        let ended: Vec<i64> = changes.jobs_ended.iter().map(|id| id.0).collect();
        for table in ["wanted", "lease"] {
            let delete = tx.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ANY($1)")).await?;
            tx.execute(&delete, &[&ended]).await?;
        }
    }
    Ok(stamp)
}

/// What jobs that are begun again wanted and leased, and what is known of units that will be others.
async fn clear(tx: &Transaction<'_>, changes: &Changes) -> Result<(), Error> {
    if changes.jobs_begun_again.is_empty() {
        return Ok(());
    }
    let begun_again: Vec<i64> = changes.jobs_begun_again.iter().map(|id| id.0).collect();
    for table in ["wanted", "lease", "checkpoint", "offer", "reopened"] {
        let delete = tx.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ANY($1)")).await?;
        tx.execute(&delete, &[&begun_again]).await?;
    }
    Ok(())
}

fn place(of: &Jobs, row: &Wanted) -> i64 {
    of.get(&row.unit.job).map_or(i64::MAX, |job| row.place(job))
}

async fn remove_wanted(tx: &Transaction<'_>, of: &Jobs, removed: &[Wanted]) -> Result<(), Error> {
    if removed.is_empty() {
        return Ok(());
    }
    let delete = "DELETE FROM wanted
        USING unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) AS unit (job_id, stage, idx, place)
        WHERE wanted.job_id = unit.job_id AND wanted.stage = unit.stage
          AND wanted.place = unit.place AND wanted.idx = unit.idx";
    let (jobs, stages, indexes) = unit_columns(of, removed.iter().map(|row| &row.unit));
    let places: Vec<i64> = removed.iter().map(|row| place(of, row)).collect();
    let deleted = tx.execute(&tx.prepare_cached(delete).await?, &[&jobs, &stages, &indexes, &places]).await?;
    ensure_affected("wanted delete", removed.len(), deleted)
}

async fn add_wanted(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    let added: Vec<&Wanted> =
        changes.wanted_added.iter().filter(|row| !changes.jobs_ended.contains(&row.unit.job)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO wanted (job_id, stage, idx, place, excluded, contested, copy)
        SELECT job_id, stage, idx, place, ($5::bigint[])[low:high], contested, copy
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $6::integer[], $7::integer[], $8::boolean[], $9::boolean[])
             AS unit (job_id, stage, idx, place, low, high, contested, copy)";
    let contested: Vec<bool> = added.iter().map(|row| row.contested).collect();
    let copies: Vec<bool> = added.iter().map(|row| row.copy).collect();
    let (jobs, stages, indexes) = unit_columns(of, added.iter().map(|row| &row.unit));
    let places: Vec<i64> = added.iter().map(|row| place(of, row)).collect();
    let (flat, low, high) = flatten(added.iter().map(|row| row.excluded.iter().map(|owner| owner.0)));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [&jobs, &stages, &indexes, &places, &flat, &low, &high, &contested, &copies];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

/// Lists of different lengths as one array and the one-based bounds of each: PostgreSQL's arrays are rectangular.
pub(super) fn flatten(
    lists: impl Iterator<Item = impl Iterator<Item = i64>>,
) -> (Vec<i64>, Vec<i32>, Vec<i32>) {
    let (mut flat, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new());
    let length = |flat: &Vec<i64>| i32::try_from(flat.len()).unwrap_or(i32::MAX);
    for list in lists {
        low.push(length(&flat) + 1);
        flat.extend(list);
        high.push(length(&flat));
    }
    (flat, low, high)
}

async fn write_attempts(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    let list = &changes.attempts;
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO attempt (job_id, stage, idx, owner_id, device_id, lease_token, outcome, digest, size_bytes, result,
            cpu_micros, mode, late, by_referee, strict_outcome, strict_digest, fuel)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                             $7::smallint[], $8::bytea[], $9::bigint[], $10::bytea[], $11::bigint[], $12::smallint[],
                             $13::boolean[], $14::boolean[], $15::smallint[], $16::bytea[], $17::bigint[])";
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|recorded| &recorded.unit));
    let owners: Vec<i64> = list.iter().map(|recorded| recorded.attempt.owner.0).collect();
    let devices: Vec<i64> = list.iter().map(|recorded| recorded.attempt.device.0).collect();
    let tokens: Vec<i64> = list.iter().map(|recorded| recorded.token.0).collect();
    let outcomes: Vec<i16> = list.iter().map(|recorded| outcome_code(recorded.attempt.outcome)).collect();
    let digests: Vec<&[u8]> =
        list.iter().map(|recorded| recorded.attempt.digest.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = list.iter().map(|recorded| bigint(recorded.attempt.size_bytes)).collect();
    let results: Vec<Option<&[u8]>> = list.iter().map(|recorded| recorded.result.as_deref()).collect();
    let cpu: Vec<i64> = list.iter().map(|recorded| bigint(recorded.cpu_micros)).collect();
    // What an attempt mostly is takes no room.
    let modes: Vec<Option<i16>> = list
        .iter()
        .map(|recorded| recorded.attempt.mode)
        .map(|mode| (mode != RunMode::Normal).then(|| rows::run_mode_code(mode)))
        .collect();
    let late: Vec<Option<bool>> = list.iter().map(|recorded| recorded.attempt.late.then_some(true)).collect();
    let by_referee: Vec<Option<bool>> =
        list.iter().map(|recorded| recorded.attempt.by_referee.then_some(true)).collect();
    let strict_outcomes: Vec<Option<i16>> = list
        .iter()
        .map(|recorded| recorded.attempt.strict.map(|(outcome, _)| outcome_code(outcome)))
        .collect();
    let strict_digests: Vec<Option<&[u8]>> = list
        .iter()
        .map(|recorded| recorded.attempt.strict.as_ref().map(|(_, digest)| digest.as_bytes().as_slice()))
        .collect();
    let fuel: Vec<Option<i64>> = list.iter().map(|recorded| recorded.fuel.map(bigint)).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 17] = [
        &jobs,
        &stages,
        &indexes,
        &owners,
        &devices,
        &tokens,
        &outcomes,
        &digests,
        &sizes,
        &results,
        &cpu,
        &modes,
        &late,
        &by_referee,
        &strict_outcomes,
        &strict_digests,
        &fuel,
    ];
    let insert = tx.prepare_cached(insert).await?;
    // Whoever's work it went on from took part, too: when one of them is caught, the job is looked over.
    let owners =
        list.iter().flat_map(|one| one.attempt.rests_on().iter().map(|owner| (one.unit.job.0, owner.0)));
    let pairs: BTreeSet<(i64, i64)> = owners.collect();
    let (pair_jobs, pair_owners): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let part = "INSERT INTO job_owner (job_id, owner_id)
        SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING";
    let part = tx.prepare_cached(part).await?;
    let part_parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&pair_jobs, &pair_owners];
    tokio::try_join!(tx.execute(&insert, &parameters), tx.execute(&part, &part_parameters))?;
    Ok(())
}

async fn write_verdicts(tx: &Transaction<'_>, of: &Jobs, list: &[Verdict]) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts, version)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::smallint[], $5::bytea[], $6::bigint[],
                             $7::integer[], $8::integer[], $9::smallint[])";
    let versions: Vec<i16> =
        list.iter().map(|verdict| i16::try_from(verdict.version).unwrap_or(i16::MAX)).collect();
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|verdict| &verdict.unit));
    let outcomes: Vec<i16> = list.iter().map(|verdict| outcome_code(verdict.outcome)).collect();
    let digests: Vec<&[u8]> = list.iter().map(|verdict| verdict.digest.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = list.iter().map(|verdict| bigint(verdict.size_bytes)).collect();
    let small = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let agreeing: Vec<i32> = list.iter().map(|verdict| small(verdict.agreeing)).collect();
    let attempts: Vec<i32> = list.iter().map(|verdict| small(verdict.attempts)).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [&jobs, &stages, &indexes, &outcomes, &digests, &sizes, &agreeing, &attempts, &versions];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

/// Inserts transfers and posts them: one update an account, in account order.
pub(in crate::store) async fn write_transfers(tx: &Transaction<'_>, list: &[Transfer]) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::numeric[], $4::smallint[], $5::bigint[], $6::smallint[],
                             $7::bigint[], $8::bigint[])";
    let debits: Vec<i64> = list.iter().map(|transfer| transfer.debit().number()).collect();
    let credits: Vec<i64> = list.iter().map(|transfer| transfer.credit().number()).collect();
    let amounts: Vec<Decimal> = list.iter().map(|transfer| transfer.amount.decimal()).collect();
    let codes: Vec<i16> = list.iter().map(|transfer| transfer.code.number()).collect();
    let jobs: Vec<i64> = list.iter().map(|transfer| transfer.key.job).collect();
    let stages: Vec<i16> = list.iter().map(|transfer| transfer.key.stage).collect();
    let indexes: Vec<i64> = list.iter().map(|transfer| transfer.key.index).collect();
    let attempts: Vec<i64> = list.iter().map(|transfer| transfer.key.attempt).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&debits, &credits, &amounts, &codes, &jobs, &stages, &indexes, &attempts];
    let insert = tx.prepare_cached(insert).await?;

    let update = "WITH locked AS (SELECT id FROM account WHERE id = ANY($1) ORDER BY id FOR UPDATE)
        UPDATE account SET balance = balance + posting.change
        FROM unnest($1::bigint[], $2::numeric[]) AS posting (id, change) JOIN locked USING (id)
        WHERE account.id = posting.id";
    let postings = postings(list);
    let accounts: Vec<i64> = postings.iter().map(|posting| posting.account.number()).collect();
    let changes: Vec<Decimal> = postings.iter().map(|posting| posting.change.decimal()).collect();
    let update = tx.prepare_cached(update).await?;
    let update_parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&accounts, &changes];
    let (_, posted) =
        tokio::try_join!(tx.execute(&insert, &parameters), tx.execute(&update, &update_parameters))?;
    ensure_affected("account update", postings.len(), posted)
}

/// Adds to what devices earned this month, by UTC: a row each, in the order of its key.
async fn add_earnings(
    tx: &Transaction<'_>,
    earned: &BTreeMap<(DeviceId, CurrencyId), Earned>,
) -> Result<(), Error> {
    if earned.is_empty() {
        return Ok(());
    }
    let upsert = "INSERT INTO device_earning AS known (device_id, currency, month, amount, units)
        SELECT device_id, currency, date_trunc('month', now() AT TIME ZONE 'UTC')::date, amount, units
        FROM unnest($1::bigint[], $2::smallint[], $3::numeric[], $4::bigint[]) AS new (device_id, currency, amount, units)
        ORDER BY device_id, currency
        ON CONFLICT (device_id, currency, month) DO UPDATE
        SET amount = known.amount + excluded.amount, units = known.units + excluded.units";
    let devices: Vec<i64> = earned.keys().map(|(device, _)| device.0).collect();
    let currencies: Vec<i16> = earned.keys().map(|(_, currency)| currency.number()).collect();
    let amounts: Vec<Decimal> = earned.values().map(|earned| earned.amount.decimal()).collect();
    let units: Vec<i64> = earned.values().map(|earned| bigint(earned.units)).collect();
    let written =
        tx.execute(&tx.prepare_cached(upsert).await?, &[&devices, &currencies, &amounts, &units]).await?;
    ensure_affected("device earning upsert", earned.len(), written)
}

async fn write_leases(
    tx: &Transaction<'_>,
    slice: &Slice,
    changes: &Changes,
    lease_ttl: Duration,
) -> Result<(), Error> {
    let new: BTreeSet<LeaseToken> = changes.leases_added.iter().map(|lease| lease.token).collect();
    let changed = changes.leases_changed.difference(&new).filter_map(|token| slice.leases.get(token));
    let (kept, done): (Vec<&Lease>, Vec<&Lease>) = changed.partition(|lease| !lease.open.is_empty());
    let indexes =
        |leases: &[&Lease]| flatten(leases.iter().map(|lease| lease.open.clone().into_iter().map(bigint)));
    if !done.is_empty() {
        let done: Vec<i64> = done.iter().map(|lease| lease.token.0).collect();
        tx.execute(&tx.prepare_cached("DELETE FROM lease WHERE token = ANY($1)").await?, &[&done]).await?;
    }
    if !kept.is_empty() {
        let update = "UPDATE lease SET open = ($3::bigint[])[change.low:change.high], expired = change.expired, copied = change.copied
            FROM unnest($1::bigint[], $2::boolean[], $4::integer[], $5::integer[], $6::boolean[]) AS change (token, expired, low, high, copied)
            WHERE lease.token = change.token";
        let tokens: Vec<i64> = kept.iter().map(|lease| lease.token.0).collect();
        let expired: Vec<bool> = kept.iter().map(|lease| lease.expired).collect();
        let (flat, low, high) = indexes(&kept);
        let copied: Vec<bool> = kept.iter().map(|lease| lease.copied).collect();
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&tokens, &expired, &flat, &low, &high, &copied];
        tx.execute(&tx.prepare_cached(update).await?, &parameters).await?;
    }
    if !changes.leases_looked_at.is_empty() {
        let looked_at: Vec<i64> = changes.leases_looked_at.iter().map(|token| token.0).collect();
        let update = "UPDATE lease SET looked_at = now() WHERE token = ANY($1)";
        tx.execute(&tx.prepare_cached(update).await?, &[&looked_at]).await?;
    }
    if !changes.leases_added.is_empty() {
        let added: Vec<&Lease> = changes.leases_added.iter().collect();
        let insert = "INSERT INTO lease (token, job_id, stage, device_id, owner_id, open, deadline, mode, units, copied)
            SELECT token, job_id, stage, device_id, owner_id, ($6::bigint[])[low:high], now() + $9::bigint * interval '1 millisecond', mode,
                high - low + 1, copied
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $7::integer[], $8::integer[], $10::smallint[], $11::boolean[])
                 AS new (token, job_id, stage, device_id, owner_id, low, high, mode, copied)";
        let modes: Vec<i16> = added.iter().map(|lease| rows::run_mode_code(lease.mode)).collect();
        let copied: Vec<bool> = added.iter().map(|lease| lease.copied).collect();
        let tokens: Vec<i64> = added.iter().map(|lease| lease.token.0).collect();
        let jobs: Vec<i64> = added.iter().map(|lease| lease.job.0).collect();
        let round = |lease: &Lease| slice.jobs.get(&lease.job).map_or(0, |job| job.round);
        let stages: Vec<i16> = added.iter().map(|lease| stage_number(lease.stage, round(lease))).collect();
        let devices: Vec<i64> = added.iter().map(|lease| lease.device.0).collect();
        let owners: Vec<i64> = added.iter().map(|lease| lease.owner.0).collect();
        let (flat, low, high) = indexes(&added);
        let ttl = millis(lease_ttl);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 11] =
            [&tokens, &jobs, &stages, &devices, &owners, &flat, &low, &high, &ttl, &modes, &copied];
        tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    }
    Ok(())
}

async fn write_jobs(tx: &Transaction<'_>, slice: &Slice, changes: &Changes) -> Result<(), Error> {
    let update = "UPDATE job SET state = $2::smallint, reason = $3, items = $4, stage = $5, stage_units = $6, frontier = $7,
            stage_accepted = $8, stage_failed = $9, wanted = $10, unit_micros = $11, reserved = $12, spent = $13,
            accepted = $14, failed = $15, attempts = $16, judged = $17, cpu_micros = $18, work_cpu_micros = $19,
            work_attempts = $20, items_accepted = $21, answer_digest = $22, answer_bytes = $23, checkpointed = $24,
            wish_copies = $25, strict = $26, reviewed = $27, doubtful = $28, round = $29, granted = $30, refunded = $31, settled = $32, own = $33,
            ended_at = CASE WHEN $2::smallint = 1 THEN NULL ELSE coalesce(ended_at, now()) END
        WHERE id = $1";
    let update = tx.prepare_cached(update).await?;
    for job in changes.jobs_changed.iter().filter_map(|id| slice.jobs.get(id)) {
        let totals = job.totals;
        let answer = job.answer.map(|answer| answer.digest.as_bytes().to_vec());
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 33] = [
            &job.id.0,
            &rows::job_state_code(job.state),
            &job.reason,
            &bigint(job.plan.items),
            &stage_number(job.stage, 0),
            &bigint(job.stage_units),
            &bigint(job.frontier),
            &bigint(job.stage_accepted),
            &bigint(job.stage_failed),
            &bigint(job.wanted),
            &bigint(job.unit_micros),
            &job.reserved.decimal(),
            &job.spent.decimal(),
            &bigint(totals.accepted),
            &bigint(totals.failed),
            &bigint(totals.attempts),
            &bigint(totals.judged),
            &bigint(totals.cpu_micros),
            &bigint(totals.work_cpu_micros),
            &bigint(totals.work_attempts),
            &bigint(totals.items_accepted),
            &answer,
            &job.answer.map(|answer| bigint(answer.size_bytes)),
            &job.checkpointed,
            &bigint(job.wish_copies.number()),
            &job.strict,
            &job.reviewed,
            &bigint(job.doubtful),
            &i16::try_from(job.round).unwrap_or(i16::MAX),
            &job.granted.decimal(),
            &job.refunded.decimal(),
            &job.settled,
            &job.own.decimal(),
        ];
        ensure_affected("job update", 1, tx.execute(&update, &parameters).await?)?;
    }
    Ok(())
}
