//! The hot path: the slice of a batch of calls is loaded and locked, and what the core decided is written.
//!
//! Jobs are locked first, in the order of their numbers; jobs that only might give work are skipped when
//! another coordinator holds them. Every other row of a job is read and written under its job's lock, so
//! that two results of one unit always see each other. All statements of one step travel together.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use deadpool_postgres::Transaction;
use lull_ledger::{Transfer, postings};
use rust_decimal::Decimal;
use tokio_postgres::Row;

use super::error::ensure_affected;
use super::rows::{self, From, bigint, outcome_code, stage_code};
use super::{Error, Store, run_tx};
use crate::core::{
    Changes, DeviceId, Fairness, Job, JobId, JobState, Lease, LeaseToken, OwnerId, Reply, Request, Slice,
    UnitKey, Verdict, Want, Wanted, decide, expire, lease_units, repeats,
};

/// Jobs of one submitter that are looked at for work: the others wait for these.
const JOBS_PER_SUBMITTER: i64 = 8;
/// Jobs looked at for work in one batch.
const JOBS_PER_BATCH: i64 = 128;
/// Leases that one run of the expiry chore takes away.
const EXPIRIES_PER_BATCH: i64 = 500;
/// The step of the sequence `lease_token`.
const TOKEN_BLOCK: i64 = 1_000;

/// A decided batch.
#[derive(Debug)]
pub struct Decided {
    /// The answers, in the order of the requests.
    pub replies: Vec<Reply>,
    /// The leases that the answers name.
    pub leases: BTreeMap<LeaseToken, Lease>,
    /// What became of the jobs.
    pub aftermath: Aftermath,
}

/// What a transaction means for those who wait.
#[derive(Debug, Clone, Default)]
pub struct Aftermath {
    /// Jobs that changed.
    pub changed: BTreeSet<JobId>,
    /// Jobs whose split has returned and must be counted.
    pub uncounted: BTreeSet<JobId>,
    /// Whether there is work that was not there before.
    pub new_work: bool,
}

/// Lease tokens not used yet; a hint that is lost with the process, never reused.
#[derive(Debug, Default)]
pub struct Tokens {
    blocks: Vec<std::ops::Range<i64>>,
}

impl Tokens {
    fn left(&self) -> usize {
        self.blocks.iter().map(|block| usize::try_from(block.end - block.start).unwrap_or(0)).sum()
    }
}

impl Iterator for Tokens {
    type Item = LeaseToken;

    fn next(&mut self) -> Option<LeaseToken> {
        while let Some(block) = self.blocks.last_mut() {
            if let Some(token) = block.next() {
                return Some(LeaseToken(token));
            }
            self.blocks.pop();
        }
        None
    }
}

impl Store {
    /// Decides a batch of calls in one transaction.
    ///
    /// # Errors
    /// When the database fails; nothing is changed then.
    pub async fn sync_batch(
        &self,
        requests: &[Request],
        fairness: &mut Fairness,
        tokens: &mut Tokens,
        lease_ttl: Duration,
        grid_slots: u64,
    ) -> Result<Decided, Error> {
        run_tx!(self.batch_pool, "sync_batch", tx => {
            let started = Instant::now();
            let mut slice = load(tx, requests, tokens, grid_slots).await?;
            let loaded = started.elapsed();
            let (replies, changes) = decide(&mut slice, fairness, tokens, requests);
            tokio::try_join!(write(tx, &slice, &changes, lease_ttl), renew(tx, requests, lease_ttl))?;
            let total = started.elapsed();
            tracing::debug!(
                calls = requests.len(),
                attempts = changes.attempts.len(),
                load_micros = loaded.as_micros(),
                total_micros = total.as_micros(),
                "decided a batch"
            );
            let named = replies.iter().flat_map(|reply| &reply.leases);
            let leases = named
                .filter_map(|token| Some((*token, slice.leases.get(token)?.clone())))
                .collect();
            Ok(Decided { replies, leases, aftermath: aftermath(&slice, &changes) })
        })
    }

    /// Takes leases whose deadline has passed away from their devices.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn expire_leases(&self, lease_ttl: Duration) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, "expire_leases", tx => {
            let due = "SELECT token, job_id, stage, open FROM lease WHERE NOT expired AND deadline < now() \
                       ORDER BY deadline LIMIT $1";
            let due = tx.query(&tx.prepare_cached(due).await?, &[&EXPIRIES_PER_BATCH]).await?;
            if due.is_empty() {
                return Ok(Aftermath::default());
            }
            let tokens: Vec<i64> = due.iter().map(|row| row.get("token")).collect();
            let jobs: Vec<i64> = due.iter().map(|row| row.get("job_id")).collect();
            let mut slice = Slice { jobs: lock_jobs(tx, &jobs).await?, ..Slice::default() };
            // Read again under the locks: some may have been renewed or reported meanwhile.
            let again = "SELECT * FROM lease WHERE token = ANY($1) AND NOT expired AND deadline < now()";
            let leases = tx.query(&tx.prepare_cached(again).await?, &[&tokens]).await?;
            slice.leases = leases.iter().map(lease).map(|lease| lease.map(|l| (l.token, l))).collect::<Result<_, _>>()?;
            let units = open_units(slice.leases.values());
            (slice.attempts, slice.verdicts) = tokio::try_join!(load_attempts(tx, &units), load_verdicts(tx, &units))?;
            let tokens: Vec<LeaseToken> = slice.leases.keys().copied().collect();
            let changes = expire(&mut slice, &tokens);
            write(tx, &slice, &changes, lease_ttl).await?;
            tracing::info!(leases = tokens.len(), units = units.len(), "leases expired");
            Ok(aftermath(&slice, &changes))
        })
    }

    /// Changes one job under its lock.
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub(super) async fn change_job(
        &self,
        name: &'static str,
        id: JobId,
        mut change: impl FnMut(&mut Job) -> Changes,
    ) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, name, tx => {
            let mut slice = Slice { jobs: lock_jobs(tx, &[id.0]).await?, ..Slice::default() };
            let job = slice.jobs.get_mut(&id).ok_or(Error::NotFound("job"))?;
            let changes = change(job);
            write(tx, &slice, &changes, Duration::ZERO).await?;
            Ok(aftermath(&slice, &changes))
        })
    }
}

fn aftermath(slice: &Slice, changes: &Changes) -> Aftermath {
    let changed = changes.jobs_changed.iter().filter_map(|id| slice.jobs.get(id));
    let is_uncounted = |job: &&Job| job.state == JobState::Running && job.stage_units == 0;
    Aftermath {
        uncounted: changed.clone().filter(is_uncounted).map(|job| job.id).collect(),
        new_work: !changes.wanted_added.is_empty()
            || changed.clone().any(|job| job.state == JobState::Running && job.frontier == 0),
        changed: changes.jobs_changed.clone(),
    }
}

async fn load(
    tx: &Transaction<'_>,
    requests: &[Request],
    tokens: &mut Tokens,
    grid_slots: u64,
) -> Result<Slice, Error> {
    let reports = || requests.iter().flat_map(|request| &request.reports);
    let handed_back: Vec<i64> = requests.iter().flat_map(|r| &r.hand_backs).map(|h| h.token.0).collect();
    let mut units: BTreeSet<UnitKey> = reports().map(|report| report.unit).collect();
    let mut job_ids: BTreeSet<i64> = units.iter().map(|unit| unit.job.0).collect();
    if !handed_back.is_empty() {
        let leases = "SELECT * FROM lease WHERE token = ANY($1)";
        for row in tx.query(&tx.prepare_cached(leases).await?, &[&handed_back]).await? {
            let lease = lease(&row)?;
            job_ids.insert(lease.job.0);
            units.extend(open_units([&lease]));
        }
    }
    let wants: u64 = requests.iter().filter_map(|r| r.want).map(|want| u64::from(want.leases)).sum();
    let job_ids: Vec<i64> = job_ids.into_iter().collect();
    let (mut jobs, ()) = tokio::try_join!(
        lock_jobs(tx, &job_ids),
        refill(tx, tokens, usize::try_from(wants).unwrap_or(usize::MAX))
    )?;
    if wants > 0 {
        lock_candidates(tx, &mut jobs).await?;
    }

    let devices: Vec<i64> = requests.iter().map(|request| request.device.0).collect();
    let units: Vec<UnitKey> = units.into_iter().collect();
    let large: Vec<&[u8]> =
        reports().filter(|r| r.result.is_none()).map(|r| r.digest.as_bytes().as_slice()).collect();
    let owners: Vec<i64> = requests
        .iter()
        .filter(|r| r.want.is_some())
        .map(|r| r.owner.0)
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let (mut leases, attempts, blobs, wanted) = tokio::try_join!(
        load_leases(tx, "device_id", &devices),
        load_attempts(tx, &units),
        load_blobs(tx, &large),
        load_wanted(tx, &jobs, requests, &owners, grid_slots),
    )?;
    // What honest devices report is all in the leases that they hold and on units without a verdict:
    // the rest is looked up only where there is a rest.
    let strange: BTreeSet<i64> =
        reports().map(|r| r.token).filter(|token| !leases.contains_key(token)).map(|token| token.0).collect();
    if !strange.is_empty() {
        leases.extend(load_leases(tx, "token", &strange.into_iter().collect::<Vec<_>>()).await?);
    }
    let verdicts = load_verdicts(tx, &perhaps_decided(&jobs, &attempts)).await?;
    let late: Vec<UnitKey> = reports()
        .filter(|report| leases.get(&report.token).is_some_and(|lease| lease.expired))
        .map(|report| report.unit)
        .collect();
    let (wanted_late, leased_again) =
        if late.is_empty() { Default::default() } else { load_late(tx, &late).await? };
    Ok(Slice { jobs, leases, attempts, verdicts, wanted, wanted_late, leased_again, blobs, grid_slots })
}

async fn refill(tx: &Transaction<'_>, tokens: &mut Tokens, wants: usize) -> Result<(), Error> {
    while tokens.left() < wants {
        let next: i64 = tx
            .query_one(&tx.prepare_cached("SELECT nextval('lease_token')").await?, &[])
            .await?
            .try_get(0)?;
        tokens.blocks.push(next..next + TOKEN_BLOCK);
    }
    Ok(())
}

async fn lock_jobs(tx: &Transaction<'_>, ids: &[i64]) -> Result<BTreeMap<JobId, Job>, Error> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let lock = format!("SELECT {} FROM job WHERE id = ANY($1) ORDER BY id FOR UPDATE", rows::JOB_COLUMNS);
    let rows = tx.query(&tx.prepare_cached(&lock).await?, &[&ids]).await?;
    rows.iter().map(|row| rows::job(row).map(|job| (job.id, job))).collect()
}

/// Adds jobs that have work, some of each submitter. One that another coordinator holds is skipped.
async fn lock_candidates(tx: &Transaction<'_>, jobs: &mut BTreeMap<JobId, Job>) -> Result<(), Error> {
    let known: Vec<i64> = jobs.keys().map(|id| id.0).collect();
    let lock = format!(
        "SELECT {} FROM job WHERE id IN (
             SELECT id FROM (
                 SELECT id, row_number() OVER (PARTITION BY submitter_id ORDER BY priority DESC, id) AS place
                 FROM job WHERE state = 1 AND (frontier < stage_units OR wanted > 0)
             ) AS best WHERE place <= $2 LIMIT $3)
         AND id <> ALL($1) ORDER BY id FOR UPDATE SKIP LOCKED",
        rows::JOB_COLUMNS
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&known, &JOBS_PER_SUBMITTER, &JOBS_PER_BATCH];
    for row in tx.query(&tx.prepare_cached(&lock).await?, &parameters).await? {
        let job = rows::job(&row)?;
        jobs.insert(job.id, job);
    }
    Ok(())
}

pub(super) fn lease(row: &Row) -> Result<Lease, Error> {
    let from = From("lease");
    let open: Vec<i64> = row.try_get("open")?;
    let open = open.into_iter().map(|index| u64::try_from(index).map_err(|_| from.wrong("open", index)));
    Ok(Lease {
        token: LeaseToken(row.try_get("token")?),
        job: JobId(row.try_get("job_id")?),
        stage: from.stage(row, "stage")?,
        device: DeviceId(row.try_get("device_id")?),
        owner: OwnerId(row.try_get("owner_id")?),
        open: open.collect::<Result<_, _>>()?,
        expired: row.try_get("expired")?,
    })
}

fn open_units<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> Vec<UnitKey> {
    let units = |lease: &'a Lease| {
        lease.open.iter().map(move |index| UnitKey { job: lease.job, stage: lease.stage, index: *index })
    };
    leases.into_iter().flat_map(units).collect()
}

async fn load_leases(
    tx: &Transaction<'_>,
    column: &'static str,
    ids: &[i64],
) -> Result<BTreeMap<LeaseToken, Lease>, Error> {
    let select = format!("SELECT * FROM lease WHERE {column} = ANY($1)");
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&ids]).await?;
    rows.iter().map(|row| lease(row).map(|lease| (lease.token, lease))).collect()
}

/// Units as three columns.
fn unit_columns<'a>(units: impl IntoIterator<Item = &'a UnitKey>) -> (Vec<i64>, Vec<i16>, Vec<i64>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for unit in units {
        columns.0.push(unit.job.0);
        columns.1.push(stage_code(unit.stage));
        columns.2.push(bigint(unit.index));
    }
    columns
}

fn unit_key(from: From, row: &Row) -> Result<UnitKey, Error> {
    Ok(UnitKey {
        job: JobId(row.try_get("job_id")?),
        stage: from.stage(row, "stage")?,
        index: from.count(row, "idx")?,
    })
}

const UNITS: &str = "unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS unit (job_id, stage, idx)";

async fn load_attempts(
    tx: &Transaction<'_>,
    units: &[UnitKey],
) -> Result<BTreeMap<UnitKey, Vec<crate::core::Attempt>>, Error> {
    let mut attempts: BTreeMap<UnitKey, Vec<crate::core::Attempt>> = BTreeMap::new();
    if units.is_empty() {
        return Ok(attempts);
    }
    let select = format!(
        "SELECT job_id, stage, idx, owner_id, outcome, digest, size_bytes FROM {UNITS} JOIN attempt USING (job_id, stage, idx)"
    );
    let (jobs, stages, indexes) = unit_columns(units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await? {
        attempts.entry(unit_key(From("attempt"), &row)?).or_default().push(rows::attempt(&row)?);
    }
    Ok(attempts)
}

/// Units with so many attempts that there may be a verdict: a verdict takes a quorum.
fn perhaps_decided(
    jobs: &BTreeMap<JobId, Job>,
    attempts: &BTreeMap<UnitKey, Vec<crate::core::Attempt>>,
) -> Vec<UnitKey> {
    let enough =
        |unit: &UnitKey, count| jobs.get(&unit.job).is_none_or(|job| count >= job.quorum(unit.stage));
    attempts.iter().filter(|(unit, list)| enough(unit, list.len())).map(|(unit, _)| *unit).collect()
}

async fn load_verdicts(tx: &Transaction<'_>, units: &[UnitKey]) -> Result<BTreeMap<UnitKey, Verdict>, Error> {
    let mut verdicts = BTreeMap::new();
    if units.is_empty() {
        return Ok(verdicts);
    }
    let from = From("verdict");
    let select = format!(
        "SELECT job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts FROM {UNITS} JOIN verdict USING (job_id, stage, idx)"
    );
    let (jobs, stages, indexes) = unit_columns(units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await? {
        let small = |column| row.try_get::<_, i32>(column).map(|n| u32::try_from(n).unwrap_or(0));
        let unit = unit_key(from, &row)?;
        let verdict = Verdict {
            unit,
            outcome: from.outcome(&row, "outcome")?,
            digest: from.digest(&row, "digest")?,
            size_bytes: from.count(&row, "size_bytes")?,
            agreeing: small("agreeing")?,
            attempts: small("attempts")?,
        };
        verdicts.insert(unit, verdict);
    }
    Ok(verdicts)
}

async fn load_blobs(tx: &Transaction<'_>, digests: &[&[u8]]) -> Result<BTreeSet<lull_job::Digest>, Error> {
    if digests.is_empty() {
        return Ok(BTreeSet::new());
    }
    let select = tx.prepare_cached("SELECT digest FROM blob WHERE digest = ANY($1)").await?;
    let rows = tx.query(&select, &[&digests]).await?;
    rows.iter().map(|row| From("blob").digest(row, "digest")).collect()
}

fn wanted(row: &Row) -> Result<Wanted, Error> {
    let excluded: Vec<i64> = row.try_get("excluded")?;
    Ok(Wanted { unit: unit_key(From("wanted"), row)?, excluded: excluded.into_iter().map(OwnerId).collect() })
}

/// What could be leased of each job: as many rows as the batch can take, and, where the frontier is used up
/// and there are more rows than that, rows that each calling owner may do.
async fn load_wanted(
    tx: &Transaction<'_>,
    jobs: &BTreeMap<JobId, Job>,
    requests: &[Request],
    owners: &[i64],
    grid_slots: u64,
) -> Result<BTreeMap<JobId, Vec<Wanted>>, Error> {
    let mut all = BTreeMap::new();
    for job in jobs.values().filter(|job| !owners.is_empty() && job.has_work() && job.wanted > 0) {
        let room =
            |want: Want| u64::from(want.leases) * repeats(job, lease_units(job, grid_slots, want.units_max));
        let need = bigint(requests.iter().filter_map(|request| request.want).map(room).sum());
        let select =
            "SELECT * FROM wanted WHERE job_id = $1 AND stage = $2 ORDER BY first_excluded, idx LIMIT $3";
        let select = tx.prepare_cached(select).await?;
        let rows = tx.query(&select, &[&job.id.0, &stage_code(job.stage), &need]).await?;
        let mut found: Vec<Wanted> = rows.iter().map(wanted).collect::<Result<_, _>>()?;
        if job.beyond_frontier() == 0 && job.wanted > found.len() as u64 {
            let each = "SELECT w.* FROM unnest($3::bigint[]) AS caller (owner_id) CROSS JOIN LATERAL (
                    (SELECT * FROM wanted WHERE job_id = $1 AND stage = $2 AND first_excluded < caller.owner_id
                       AND caller.owner_id <> ALL(excluded)
                     ORDER BY first_excluded, idx LIMIT $4)
                    UNION ALL
                    (SELECT * FROM wanted WHERE job_id = $1 AND stage = $2 AND first_excluded > caller.owner_id
                       AND caller.owner_id <> ALL(excluded)
                     ORDER BY first_excluded, idx LIMIT $4)) AS w";
            let each = tx.prepare_cached(each).await?;
            let rows = tx.query(&each, &[&job.id.0, &stage_code(job.stage), &owners, &need]).await?;
            let known: BTreeSet<UnitKey> = found.iter().map(|row| row.unit).collect();
            let more: BTreeMap<UnitKey, Wanted> =
                rows.iter().map(|row| wanted(row).map(|w| (w.unit, w))).collect::<Result<_, _>>()?;
            found.extend(more.into_values().filter(|row| !known.contains(&row.unit)));
        }
        all.insert(job.id, found);
    }
    Ok(all)
}

/// Whether units reported late are wanted or leased again.
async fn load_late(
    tx: &Transaction<'_>,
    units: &[UnitKey],
) -> Result<(BTreeMap<UnitKey, Wanted>, BTreeSet<UnitKey>), Error> {
    let (jobs, stages, indexes) = unit_columns(units);
    let select = format!("SELECT wanted.* FROM {UNITS} JOIN wanted USING (job_id, stage, idx)");
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await?;
    let late = rows.iter().map(|row| wanted(row).map(|w| (w.unit, w))).collect::<Result<_, _>>()?;
    let select = format!(
        "SELECT DISTINCT unit.job_id, unit.stage, unit.idx FROM {UNITS} JOIN lease
         ON lease.job_id = unit.job_id AND lease.stage = unit.stage AND NOT lease.expired AND unit.idx = ANY(lease.open)"
    );
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await?;
    let again = rows.iter().map(|row| unit_key(From("lease"), row)).collect::<Result<_, _>>()?;
    Ok((late, again))
}

async fn renew(tx: &Transaction<'_>, requests: &[Request], lease_ttl: Duration) -> Result<(), Error> {
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

async fn write(
    tx: &Transaction<'_>,
    slice: &Slice,
    changes: &Changes,
    lease_ttl: Duration,
) -> Result<(), Error> {
    // Deletions go before insertions: a unit may leave `wanted` and come back with another owner excluded.
    tokio::try_join!(
        remove_wanted(tx, &changes.wanted_removed),
        write_attempts(tx, changes),
        write_verdicts(tx, &changes.verdicts),
        write_transfers(tx, &changes.transfers),
        write_leases(tx, slice, changes, lease_ttl),
        write_jobs(tx, slice, changes),
    )?;
    add_wanted(tx, changes).await?;
    if !changes.jobs_ended.is_empty() {
        let ended: Vec<i64> = changes.jobs_ended.iter().map(|id| id.0).collect();
        for table in ["wanted", "lease"] {
            let delete = tx.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ANY($1)")).await?;
            tx.execute(&delete, &[&ended]).await?;
        }
    }
    Ok(())
}

async fn remove_wanted(tx: &Transaction<'_>, removed: &[Wanted]) -> Result<(), Error> {
    if removed.is_empty() {
        return Ok(());
    }
    let delete = "DELETE FROM wanted
        USING unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) AS unit (job_id, stage, idx, first_excluded)
        WHERE wanted.job_id = unit.job_id AND wanted.stage = unit.stage
          AND wanted.first_excluded = unit.first_excluded AND wanted.idx = unit.idx";
    let (jobs, stages, indexes) = unit_columns(removed.iter().map(|row| &row.unit));
    let first: Vec<i64> = removed.iter().map(|row| row.first_excluded().0).collect();
    let deleted = tx.execute(&tx.prepare_cached(delete).await?, &[&jobs, &stages, &indexes, &first]).await?;
    ensure_affected("wanted delete", removed.len(), deleted)
}

async fn add_wanted(tx: &Transaction<'_>, changes: &Changes) -> Result<(), Error> {
    let added: Vec<&Wanted> =
        changes.wanted_added.iter().filter(|row| !changes.jobs_ended.contains(&row.unit.job)).collect();
    if added.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO wanted (job_id, stage, idx, first_excluded, excluded)
        SELECT job_id, stage, idx, first_excluded, ($5::bigint[])[low:high]
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $6::integer[], $7::integer[])
             AS unit (job_id, stage, idx, first_excluded, low, high)";
    let (jobs, stages, indexes) = unit_columns(added.iter().map(|row| &row.unit));
    let first: Vec<i64> = added.iter().map(|row| row.first_excluded().0).collect();
    let (flat, low, high) = flatten(added.iter().map(|row| row.excluded.iter().map(|owner| owner.0)));
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&jobs, &stages, &indexes, &first, &flat, &low, &high];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

/// Lists of different lengths as one array and the one-based bounds of each: PostgreSQL's arrays are rectangular.
fn flatten(lists: impl Iterator<Item = impl Iterator<Item = i64>>) -> (Vec<i64>, Vec<i32>, Vec<i32>) {
    let (mut flat, mut low, mut high) = (Vec::new(), Vec::new(), Vec::new());
    let length = |flat: &Vec<i64>| i32::try_from(flat.len()).unwrap_or(i32::MAX);
    for list in lists {
        low.push(length(&flat) + 1);
        flat.extend(list);
        high.push(length(&flat));
    }
    (flat, low, high)
}

async fn write_attempts(tx: &Transaction<'_>, changes: &Changes) -> Result<(), Error> {
    let list = &changes.attempts;
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO attempt (job_id, stage, idx, owner_id, device_id, lease_token, outcome, digest, size_bytes, result, cpu_micros)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                             $7::smallint[], $8::bytea[], $9::bigint[], $10::bytea[], $11::bigint[])";
    let (jobs, stages, indexes) = unit_columns(list.iter().map(|recorded| &recorded.unit));
    let owners: Vec<i64> = list.iter().map(|recorded| recorded.attempt.owner.0).collect();
    let devices: Vec<i64> = list.iter().map(|recorded| recorded.device.0).collect();
    let tokens: Vec<i64> = list.iter().map(|recorded| recorded.token.0).collect();
    let outcomes: Vec<i16> = list.iter().map(|recorded| outcome_code(recorded.attempt.outcome)).collect();
    let digests: Vec<&[u8]> =
        list.iter().map(|recorded| recorded.attempt.digest.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = list.iter().map(|recorded| bigint(recorded.attempt.size_bytes)).collect();
    let results: Vec<Option<&[u8]>> = list.iter().map(|recorded| recorded.result.as_deref()).collect();
    let cpu: Vec<i64> = list.iter().map(|recorded| bigint(recorded.cpu_micros)).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 11] =
        [&jobs, &stages, &indexes, &owners, &devices, &tokens, &outcomes, &digests, &sizes, &results, &cpu];
    let insert = tx.prepare_cached(insert).await?;
    let pairs: BTreeSet<(i64, i64)> = list.iter().map(|r| (r.unit.job.0, r.attempt.owner.0)).collect();
    let (pair_jobs, pair_owners): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
    let part = "INSERT INTO job_owner (job_id, owner_id)
        SELECT * FROM unnest($1::bigint[], $2::bigint[]) ON CONFLICT DO NOTHING";
    let part = tx.prepare_cached(part).await?;
    let part_parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&pair_jobs, &pair_owners];
    tokio::try_join!(tx.execute(&insert, &parameters), tx.execute(&part, &part_parameters))?;
    Ok(())
}

async fn write_verdicts(tx: &Transaction<'_>, list: &[Verdict]) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO verdict (job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::smallint[], $5::bytea[], $6::bigint[],
                             $7::integer[], $8::integer[])";
    let (jobs, stages, indexes) = unit_columns(list.iter().map(|verdict| &verdict.unit));
    let outcomes: Vec<i16> = list.iter().map(|verdict| outcome_code(verdict.outcome)).collect();
    let digests: Vec<&[u8]> = list.iter().map(|verdict| verdict.digest.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = list.iter().map(|verdict| bigint(verdict.size_bytes)).collect();
    let small = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    let agreeing: Vec<i32> = list.iter().map(|verdict| small(verdict.agreeing)).collect();
    let attempts: Vec<i32> = list.iter().map(|verdict| small(verdict.attempts)).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&jobs, &stages, &indexes, &outcomes, &digests, &sizes, &agreeing, &attempts];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

/// Inserts transfers and posts them: one update an account, in account order.
pub(super) async fn write_transfers(tx: &Transaction<'_>, list: &[Transfer]) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO transfer (debit, credit, amount, code, job_id, stage, idx, attempt)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::numeric[], $4::smallint[], $5::bigint[], $6::smallint[],
                             $7::bigint[], $8::bigint[])";
    let debits: Vec<i64> = list.iter().map(|transfer| transfer.debit.number()).collect();
    let credits: Vec<i64> = list.iter().map(|transfer| transfer.credit.number()).collect();
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
        let update = "UPDATE lease SET open = ($3::bigint[])[change.low:change.high], expired = change.expired
            FROM unnest($1::bigint[], $2::boolean[], $4::integer[], $5::integer[]) AS change (token, expired, low, high)
            WHERE lease.token = change.token";
        let tokens: Vec<i64> = kept.iter().map(|lease| lease.token.0).collect();
        let expired: Vec<bool> = kept.iter().map(|lease| lease.expired).collect();
        let (flat, low, high) = indexes(&kept);
        tx.execute(&tx.prepare_cached(update).await?, &[&tokens, &expired, &flat, &low, &high]).await?;
    }
    if !changes.leases_added.is_empty() {
        let added: Vec<&Lease> = changes.leases_added.iter().collect();
        let insert = "INSERT INTO lease (token, job_id, stage, device_id, owner_id, open, deadline)
            SELECT token, job_id, stage, device_id, owner_id, ($6::bigint[])[low:high], now() + $9::bigint * interval '1 millisecond'
            FROM unnest($1::bigint[], $2::bigint[], $3::smallint[], $4::bigint[], $5::bigint[], $7::integer[], $8::integer[])
                 AS new (token, job_id, stage, device_id, owner_id, low, high)";
        let tokens: Vec<i64> = added.iter().map(|lease| lease.token.0).collect();
        let jobs: Vec<i64> = added.iter().map(|lease| lease.job.0).collect();
        let stages: Vec<i16> = added.iter().map(|lease| stage_code(lease.stage)).collect();
        let devices: Vec<i64> = added.iter().map(|lease| lease.device.0).collect();
        let owners: Vec<i64> = added.iter().map(|lease| lease.owner.0).collect();
        let (flat, low, high) = indexes(&added);
        let ttl = millis(lease_ttl);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
            [&tokens, &jobs, &stages, &devices, &owners, &flat, &low, &high, &ttl];
        tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    }
    Ok(())
}

async fn write_jobs(tx: &Transaction<'_>, slice: &Slice, changes: &Changes) -> Result<(), Error> {
    let update = "UPDATE job SET state = $2::smallint, reason = $3, items = $4, stage = $5, stage_units = $6, frontier = $7,
            stage_accepted = $8, stage_failed = $9, wanted = $10, unit_micros = $11, reserved = $12, spent = $13,
            accepted = $14, failed = $15, attempts = $16, judged = $17, cpu_micros = $18, work_cpu_micros = $19,
            work_attempts = $20, items_accepted = $21, answer_digest = $22, answer_bytes = $23,
            ended_at = CASE WHEN $2::smallint = 1 THEN NULL ELSE coalesce(ended_at, now()) END
        WHERE id = $1";
    let update = tx.prepare_cached(update).await?;
    for job in changes.jobs_changed.iter().filter_map(|id| slice.jobs.get(id)) {
        let totals = job.totals;
        let answer = job.answer.map(|answer| answer.digest.as_bytes().to_vec());
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 23] = [
            &job.id.0,
            &rows::job_state_code(job.state),
            &job.reason,
            &bigint(job.plan.items),
            &stage_code(job.stage),
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
        ];
        ensure_affected("job update", 1, tx.execute(&update, &parameters).await?)?;
    }
    Ok(())
}
