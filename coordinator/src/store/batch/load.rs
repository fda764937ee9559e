//! The slice of a batch: jobs are locked, and what hangs on their locks is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use super::{Hints, Tokens, checkpoints, trust};
use crate::core::{
    DeviceId, Job, JobId, Lease, LeaseToken, OwnerId, Request, Slice, UnitKey, Verdict, Want, Wanted,
    lease_units, repeats_max, stage_number,
};
use crate::store::Error;
use crate::store::rows::{self, From, bigint};

/// Jobs of one submitter that are looked at for work: the others wait for these.
const JOBS_PER_SUBMITTER: i64 = 8;
/// Jobs looked at for work in one batch.
const JOBS_PER_BATCH: i64 = 128;
/// The step of the sequence `lease_token`.
const TOKEN_BLOCK: i64 = 1_000;

pub(super) async fn load(
    tx: &Transaction<'_>,
    requests: &[Request],
    tokens: &mut Tokens,
    hints: &Hints,
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
        load_attempts(tx, &jobs, &units),
        load_blobs(tx, &large),
        load_wanted(tx, &jobs, requests, &owners, hints.grid_slots),
    )?;
    // What honest devices report is all in the leases that they hold and on units without a verdict:
    // the rest is looked up only where there is a rest.
    let strange: BTreeSet<i64> =
        reports().map(|r| r.token).filter(|token| !leases.contains_key(token)).map(|token| token.0).collect();
    if !strange.is_empty() {
        leases.extend(load_leases(tx, "token", &strange.into_iter().collect::<Vec<_>>()).await?);
    }
    let verdicts = load_verdicts(tx, &jobs, &perhaps_decided(&jobs, &attempts)).await?;
    let late: Vec<UnitKey> = reports()
        .filter(|report| leases.get(&report.token).is_some_and(|lease| lease.expired))
        .map(|report| report.unit)
        .collect();
    let copied = leaving_copied(requests, &leases);
    let mut besides = if late.is_empty() { Besides::default() } else { load_late(tx, &jobs, &late).await? };
    if !copied.is_empty() {
        besides.extend(load_copies(tx, &jobs, &copied).await?);
    }
    leases.extend(besides.leases);
    let mut slice = Slice {
        jobs,
        leases,
        attempts,
        verdicts,
        wanted,
        wanted_besides: besides.wanted,
        overlapped: besides.overlapped,
        blobs,
        grid_slots: hints.grid_slots,
        grid_owners: hints.grid_owners,
        referees_there: hints.referees_there.clone(),
        networks: Arc::clone(&hints.networks),
        troubles: Arc::clone(&hints.troubles),
        policy: hints.policy,
        ..Slice::default()
    };
    // First whose work is in what; then what is known of these.
    checkpoints::complete(tx, &mut slice, requests).await?;
    trust::complete(tx, &mut slice, requests).await?;
    Ok(slice)
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

pub(super) async fn lock_jobs(tx: &Transaction<'_>, ids: &[i64]) -> Result<Jobs, Error> {
    select_jobs(tx, ids, "ORDER BY id FOR UPDATE").await
}

/// Jobs as they are now, for whoever decides nothing.
pub(super) async fn read_jobs(tx: &Transaction<'_>, ids: &[i64]) -> Result<Jobs, Error> {
    select_jobs(tx, ids, "").await
}

async fn select_jobs(tx: &Transaction<'_>, ids: &[i64], how: &'static str) -> Result<Jobs, Error> {
    if ids.is_empty() {
        return Ok(Jobs::new());
    }
    let select = format!("SELECT {} FROM job WHERE id = ANY($1) {how}", rows::JOB_COLUMNS);
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&ids]).await?;
    rows.iter().map(|row| rows::job(row).map(|job| (job.id, job))).collect()
}

/// Adds jobs that have work, some of each submitter. One that another coordinator holds is skipped.
async fn lock_candidates(tx: &Transaction<'_>, jobs: &mut Jobs) -> Result<(), Error> {
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

pub(in crate::store) fn lease(row: &Row) -> Result<Lease, Error> {
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
        mode: rows::run_mode(from, row.try_get("mode")?)?,
        offers: BTreeMap::new(),
        units: u64::try_from(row.try_get::<_, i32>("units")?).unwrap_or(0),
        copied: row.try_get("copied")?,
    })
}

pub(super) fn open_units<'a>(leases: impl IntoIterator<Item = &'a Lease>) -> Vec<UnitKey> {
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

/// Jobs of a slice: in the database, their units are named by the numbers of stages in the round that runs.
pub(super) type Jobs = BTreeMap<JobId, Job>;

/// Units as three columns.
pub(super) fn unit_columns<'a>(
    jobs: &Jobs,
    units: impl IntoIterator<Item = &'a UnitKey>,
) -> (Vec<i64>, Vec<i16>, Vec<i64>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for unit in units {
        let round = jobs.get(&unit.job).map_or(0, |job| job.round);
        columns.0.push(unit.job.0);
        columns.1.push(stage_number(unit.stage, round));
        columns.2.push(bigint(unit.index));
    }
    columns
}

pub(super) fn unit_key(from: From, row: &Row) -> Result<UnitKey, Error> {
    Ok(UnitKey {
        job: JobId(row.try_get("job_id")?),
        stage: from.stage(row, "stage")?,
        index: from.count(row, "idx")?,
    })
}

pub(super) const UNITS: &str =
    "unnest($1::bigint[], $2::smallint[], $3::bigint[]) AS unit (job_id, stage, idx)";

pub(super) async fn load_attempts(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
) -> Result<BTreeMap<UnitKey, Vec<crate::core::Attempt>>, Error> {
    let mut attempts: BTreeMap<UnitKey, Vec<crate::core::Attempt>> = BTreeMap::new();
    if units.is_empty() {
        return Ok(attempts);
    }
    let select = format!(
        "SELECT job_id, stage, idx, owner_id, device_id, outcome, digest, size_bytes, mode, late, by_referee, strict_outcome, strict_digest
         FROM {UNITS} JOIN attempt USING (job_id, stage, idx)"
    );
    let (jobs, stages, indexes) = unit_columns(of, units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await? {
        attempts.entry(unit_key(From("attempt"), &row)?).or_default().push(rows::attempt(&row)?);
    }
    Ok(attempts)
}

/// Units with so many attempts that there may be a verdict: a verdict takes a quorum, or one attempt where a job
/// buys confidence.
fn perhaps_decided(
    jobs: &BTreeMap<JobId, Job>,
    attempts: &BTreeMap<UnitKey, Vec<crate::core::Attempt>>,
) -> Vec<UnitKey> {
    let enough = |unit: &UnitKey, count| {
        jobs.get(&unit.job).is_none_or(|job| job.buys_confidence() || count >= job.quorum(unit.stage))
    };
    attempts.iter().filter(|(unit, list)| enough(unit, list.len())).map(|(unit, _)| *unit).collect()
}

pub(super) async fn load_verdicts(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
) -> Result<BTreeMap<UnitKey, Verdict>, Error> {
    let mut verdicts = BTreeMap::new();
    if units.is_empty() {
        return Ok(verdicts);
    }
    let from = From("verdict");
    let select = format!(
        "SELECT job_id, stage, idx, outcome, digest, size_bytes, agreeing, attempts, version
         FROM {UNITS} JOIN verdict USING (job_id, stage, idx) ORDER BY version"
    );
    let (jobs, stages, indexes) = unit_columns(of, units);
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
            version: u16::try_from(row.try_get::<_, i16>("version")?).unwrap_or(0),
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

/// The columns of a row of `wanted`.
const WANTED: &str = "wanted.*, extract(epoch FROM now() - wanted_at)::bigint AS waited_secs";

fn wanted(row: &Row) -> Result<Wanted, Error> {
    let excluded: Vec<i64> = row.try_get("excluded")?;
    Ok(Wanted {
        unit: unit_key(From("wanted"), row)?,
        excluded: excluded.into_iter().map(OwnerId).collect(),
        contested: row.try_get("contested")?,
        copy: row.try_get("copy")?,
        waited_secs: u64::try_from(row.try_get::<_, i64>("waited_secs")?).unwrap_or(0),
    })
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
        let room = |want: Want| {
            u64::from(want.leases)
                * repeats_max(job, grid_slots, lease_units(job, grid_slots, want.units_max))
        };
        let need = bigint(requests.iter().filter_map(|request| request.want).map(room).sum());
        // Disputes first, and as many others, as not everybody may settle disputes: these round from the job's next place;
        // units that nobody has answered come last.
        let part = |number, places| {
            format!(
                "(SELECT {WANTED}, {number} AS part FROM wanted WHERE job_id = $1 AND stage = $2 AND {places}
                   ORDER BY place, idx LIMIT $3)"
            )
        };
        let select = format!(
            "SELECT * FROM ({} UNION ALL (
                SELECT * FROM ({} UNION ALL {} UNION ALL {}) AS rest ORDER BY part, place, idx LIMIT $3)) AS w
             ORDER BY part, place, idx",
            part(0, "place < 0"),
            part(1, "place >= $4 AND place < 9223372036854775807"),
            part(2, "place >= 0 AND place < $4"),
            part(3, "place = 9223372036854775807"),
        );
        let select = tx.prepare_cached(&select).await?;
        let stage = job.stage_number(job.stage);
        let rows = tx.query(&select, &[&job.id.0, &stage, &need, &job.next_place()]).await?;
        let mut found: Vec<Wanted> = rows.iter().map(wanted).collect::<Result<_, _>>()?;
        if job.beyond_frontier() == 0 && job.wanted > found.len() as u64 {
            let each = format!("SELECT w.* FROM unnest($3::bigint[], $5::bigint[]) AS caller (owner_id, place) CROSS JOIN LATERAL (
                    (SELECT {WANTED} FROM wanted WHERE job_id = $1 AND stage = $2 AND place < caller.place
                       AND caller.owner_id <> ALL(excluded)
                     ORDER BY place, idx LIMIT $4)
                    UNION ALL
                    (SELECT {WANTED} FROM wanted WHERE job_id = $1 AND stage = $2 AND place > caller.place
                       AND caller.owner_id <> ALL(excluded)
                     ORDER BY place, idx LIMIT $4)) AS w");
            let each = tx.prepare_cached(&each).await?;
            let places: Vec<i64> = owners.iter().map(|owner| job.place_of(OwnerId(*owner))).collect();
            let rows = tx.query(&each, &[&job.id.0, &stage, &owners, &need, &places]).await?;
            let known: BTreeSet<UnitKey> = found.iter().map(|row| row.unit).collect();
            let more: BTreeMap<UnitKey, Wanted> =
                rows.iter().map(|row| wanted(row).map(|w| (w.unit, w))).collect::<Result<_, _>>()?;
            found.extend(more.into_values().filter(|row| !known.contains(&row.unit)));
        }
        add_disputes(tx, job, requests, need, &mut found).await?;
        all.insert(job.id, found);
    }
    Ok(all)
}

/// Adds what only a referee may do, if one calls: it must not wait until these rows' turn comes.
async fn add_disputes(
    tx: &Transaction<'_>,
    job: &Job,
    requests: &[Request],
    need: i64,
    found: &mut Vec<Wanted>,
) -> Result<(), Error> {
    let callers = requests.iter().filter(|request| request.referee && request.want.is_some());
    let owners: Vec<i64> =
        callers.map(|request| request.owner.0).collect::<BTreeSet<_>>().into_iter().collect();
    if owners.is_empty() {
        return Ok(());
    }
    let select = format!(
        "SELECT {WANTED} FROM wanted WHERE job_id = $1 AND stage = $2 AND contested AND NOT $3 <@ excluded
         ORDER BY idx LIMIT $4"
    );
    let select = tx.prepare_cached(&select).await?;
    let rows = tx.query(&select, &[&job.id.0, &job.stage_number(job.stage), &owners, &need]).await?;
    let known: BTreeSet<UnitKey> = found.iter().map(|row| row.unit).collect();
    for row in &rows {
        let row = wanted(row)?;
        if !known.contains(&row.unit) {
            found.push(row);
        }
    }
    Ok(())
}

/// What concerns units besides the leases that they leave.
#[derive(Default)]
pub(super) struct Besides {
    /// Their rows in `wanted`.
    pub(super) wanted: BTreeMap<UnitKey, Wanted>,
    /// Open leases that hold them.
    pub(super) leases: BTreeMap<LeaseToken, Lease>,
    /// Where another attempt came since the lease was given.
    pub(super) overlapped: BTreeSet<(UnitKey, LeaseToken)>,
}

impl Besides {
    fn extend(&mut self, more: Self) {
        self.wanted.extend(more.wanted);
        self.leases.extend(more.leases);
        self.overlapped.extend(more.overlapped);
    }
}

/// Of units reported under expired leases: whether they are wanted or leased again.
async fn load_late(tx: &Transaction<'_>, of: &Jobs, units: &[UnitKey]) -> Result<Besides, Error> {
    let (jobs, stages, indexes) = unit_columns(of, units);
    let select = format!("SELECT {WANTED} FROM {UNITS} JOIN wanted USING (job_id, stage, idx)");
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await?;
    let wanted = rows.iter().map(|row| wanted(row).map(|w| (w.unit, w))).collect::<Result<_, _>>()?;
    let leases = load_holding(tx, of, units).await?;
    Ok(Besides { wanted, leases, ..Besides::default() })
}

/// Open leases that hold some of these units.
pub(super) async fn load_holding(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
) -> Result<BTreeMap<LeaseToken, Lease>, Error> {
    let (jobs, _, indexes) = unit_columns(of, units);
    let select = "SELECT * FROM lease WHERE job_id = ANY($1) AND NOT expired AND open && $2::bigint[]";
    holding(&tx.query(&tx.prepare_cached(select).await?, &[&jobs, &indexes]).await?, units)
}

/// Those of these leases that hold some of these units.
fn holding(rows: &[Row], units: &[UnitKey]) -> Result<BTreeMap<LeaseToken, Lease>, Error> {
    let leases: Vec<Lease> = rows.iter().map(lease).collect::<Result<_, _>>()?;
    let units: BTreeSet<&UnitKey> = units.iter().collect();
    let holds = |lease: &Lease| open_units([lease]).iter().any(|unit| units.contains(unit));
    Ok(leases.into_iter().filter(holds).map(|lease| (lease.token, lease)).collect())
}

/// Units that leave copied leases with this batch.
fn leaving_copied(
    requests: &[Request],
    leases: &BTreeMap<LeaseToken, Lease>,
) -> BTreeSet<(UnitKey, LeaseToken)> {
    let copied = |token: &LeaseToken| leases.get(token).filter(|lease| lease.copied);
    let reports = requests.iter().flat_map(|request| &request.reports);
    let reported = reports.filter(|one| copied(&one.token).is_some()).map(|one| (one.unit, one.token));
    let hand_backs = requests.iter().flat_map(|request| &request.hand_backs);
    let handed = hand_backs.filter_map(|one| copied(&one.token));
    let handed = handed.flat_map(|lease| open_units([lease]).into_iter().map(|unit| (unit, lease.token)));
    reported.chain(handed).collect()
}

/// Of units of copied leases: the other copies.
pub(super) async fn load_copies(
    tx: &Transaction<'_>,
    of: &Jobs,
    leaving: &BTreeSet<(UnitKey, LeaseToken)>,
) -> Result<Besides, Error> {
    let units: Vec<UnitKey> = leaving.iter().map(|(unit, _)| *unit).collect();
    let (jobs, stages, indexes) = unit_columns(of, &units);
    let tokens: Vec<i64> = leaving.iter().map(|(_, token)| token.0).collect();
    let select =
        format!("SELECT {WANTED} FROM {UNITS} JOIN wanted USING (job_id, stage, idx) WHERE wanted.copy");
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await?;
    let wanted = rows.iter().map(|row| wanted(row).map(|w| (w.unit, w))).collect::<Result<_, _>>()?;
    // There are few of these: looking for the units in each row would take longer.
    let select = "SELECT * FROM lease WHERE job_id = ANY($1) AND NOT expired AND copied";
    let leases = holding(&tx.query(&tx.prepare_cached(select).await?, &[&jobs]).await?, &units)?;
    let select = "SELECT DISTINCT job_id, stage, idx, token
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) AS unit (job_id, stage, idx, lease_token)
        JOIN (SELECT token, leased_at FROM lease) AS lease ON lease.token = unit.lease_token
        JOIN (SELECT job_id, stage, idx, created_at FROM attempt) AS attempt USING (job_id, stage, idx)
        WHERE attempt.created_at >= lease.leased_at";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&jobs, &stages, &indexes, &tokens]).await?;
    let overlapped = rows
        .iter()
        .map(|row| Ok::<_, Error>((unit_key(From("attempt"), row)?, LeaseToken(row.try_get("token")?))))
        .collect::<Result<_, _>>()?;
    Ok(Besides { wanted, leases, overlapped })
}
