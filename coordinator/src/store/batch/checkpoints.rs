//! What a batch needs to know of checkpoints, and what it decided of them. Read and written only for jobs
//! that have some: a batch without them makes no statement more.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use lull_job::Digest;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::load::{Jobs, UNITS, read_jobs, unit_columns, unit_key};
use super::write::flatten;
use crate::core::{
    Attempt, Blame, Changes, Checkpoint, DeviceId, Fault, Lease, LeaseToken, Offer, OwnerId, Request, Slice,
    UnitKey, steps_to_witness,
};
use crate::store::rows::{From, bigint};
use crate::store::{Error, Store, run_tx};

type Attempts = BTreeMap<UnitKey, Vec<Attempt>>;

/// What a lease is sent with besides its units.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// By index: where to go on from.
    pub checkpoints: Vec<(u64, Checkpoint)>,
    /// By index: after how many steps to tell the state.
    pub witnesses: Vec<(u64, u64)>,
}

impl Store {
    /// What a lease of a job with checkpoints is sent with.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn lease_extras(&self, lease: &Lease) -> Result<Extras, Error> {
        run_tx!(self.batch_pool, "lease_extras", tx => {
            let units = super::load::open_units([lease]);
            let token = [lease.token.0];
            let of = read_jobs(tx, &[lease.job.0]).await?;
            let (checkpoints, offers) =
                tokio::try_join!(load_checkpoints(tx, &of, &units), load_offers(tx, &token))?;
            let mut extras = Extras::default();
            for unit in units {
                let known = checkpoints.get(&unit).map_or(&[][..], Vec::as_slice);
                if let Some(offer) = offers.get(&(lease.token, unit.index)) {
                    let origin = known.iter().find(|one| Some(one.made_under) == offer.origin);
                    extras.checkpoints.extend(origin.map(|one| (unit.index, one.clone())));
                } else {
                    extras.witnesses.extend(steps_to_witness(known).into_iter().map(|steps| (unit.index, steps)));
                }
            }
            Ok(extras)
        })
    }

    /// Whether a lease that has not expired offers this blob with one of its open units.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn offers_blob(&self, token: LeaseToken, blob: Digest) -> Result<bool, Error> {
        run_tx!(self.pool, "offers_blob", tx => {
            let select = "SELECT EXISTS (SELECT FROM lease JOIN offer ON offer.lease_token = lease.token AND offer.idx = ANY(lease.open)
                JOIN checkpoint ON checkpoint.job_id = offer.job_id AND checkpoint.stage = offer.stage
                  AND checkpoint.idx = offer.idx AND checkpoint.made_under = offer.origin
                WHERE lease.token = $1 AND NOT lease.expired AND checkpoint.blob_digest = $2)";
            Ok(tx.query_one(select, &[&token.0, &blob.as_bytes().as_slice()]).await?.try_get(0)?)
        })
    }
}

fn has_checkpoints(jobs: &Jobs, unit: &UnitKey) -> bool {
    jobs.get(&unit.job).is_some_and(|job| job.checkpointed)
}

/// Completes a slice with what concerns checkpoints.
pub(super) async fn complete(
    tx: &Transaction<'_>,
    slice: &mut Slice,
    requests: &[Request],
) -> Result<(), Error> {
    if requests.iter().any(|r| r.hand_backs.iter().any(|hand_back| !hand_back.checkpoints.is_empty())) {
        slice.uploads = load_uploads(tx, slice, requests).await?;
    }
    if slice.jobs.values().all(|job| !job.checkpointed) {
        return Ok(());
    }
    let with_checkpoints = |unit: &UnitKey| has_checkpoints(&slice.jobs, unit);
    let wanted: BTreeSet<UnitKey> =
        slice.wanted.values().flatten().map(|row| row.unit).filter(with_checkpoints).collect();
    let reported = requests.iter().flat_map(|request| &request.reports).map(|report| report.unit);
    let handed = requests.iter().flat_map(|request| &request.hand_backs).map(|hand_back| hand_back.token);
    let handed: Vec<UnitKey> = handed
        .filter_map(|token| slice.leases.get(&token))
        .flat_map(|lease| super::load::open_units([lease]))
        .collect();
    let units: BTreeSet<UnitKey> =
        wanted.iter().copied().chain(reported).chain(handed).filter(with_checkpoints).collect();
    let units: Vec<UnitKey> = units.into_iter().collect();
    let owners: BTreeSet<i64> = requests.iter().map(|r| r.owner.0).collect();
    let owners: Vec<i64> = owners.into_iter().collect();
    let tokens =
        slice.leases.values().filter(|lease| slice.jobs.get(&lease.job).is_some_and(|j| j.checkpointed));
    let tokens: Vec<i64> = tokens.map(|lease| lease.token.0).collect();
    let (checkpoints, offers, offered, ()) = tokio::try_join!(
        load_checkpoints(tx, &slice.jobs, &units),
        load_offers(tx, &tokens),
        load_offered(tx, &slice.jobs, &units, &owners),
        add_lineages(tx, &slice.jobs, &mut slice.attempts),
    )?;
    let shared = |unit: &UnitKey| checkpoints.get(unit).is_some_and(|list| !list.is_empty());
    if wanted.iter().any(shared) {
        slice.owners_there = load_owners_there(tx).await?;
    }
    for ((token, index), offer) in offers {
        if let Some(lease) = slice.leases.get_mut(&token) {
            lease.offers.insert(index, offer);
        }
    }
    (slice.checkpoints, slice.offered) = (checkpoints, offered);
    Ok(())
}

async fn load_uploads(
    tx: &Transaction<'_>,
    slice: &Slice,
    requests: &[Request],
) -> Result<BTreeMap<(DeviceId, Digest), u64>, Error> {
    let mut columns: (Vec<i64>, Vec<i64>, Vec<&[u8]>) = Default::default();
    for request in requests {
        for hand_back in &request.hand_backs {
            let Some(lease) = slice.leases.get(&hand_back.token) else { continue };
            for made in &hand_back.checkpoints {
                columns.0.push(lease.job.0);
                columns.1.push(request.device.0);
                columns.2.push(made.blob.as_bytes());
            }
        }
    }
    let select = "SELECT upload.device_id, upload.digest, blob.size_bytes
        FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) AS named (job_id, device_id, digest)
        JOIN upload USING (job_id, device_id, digest) JOIN blob ON blob.digest = upload.digest";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&columns.0, &columns.1, &columns.2]).await?;
    let from = From("upload");
    rows.iter()
        .map(|row| {
            let device = DeviceId(row.try_get("device_id")?);
            Ok(((device, from.digest(row, "digest")?), from.count(row, "size_bytes")?))
        })
        .collect()
}

fn owners(row: &Row) -> Result<Vec<OwnerId>, Error> {
    Ok(row.try_get::<_, Vec<i64>>("lineage")?.into_iter().map(OwnerId).collect())
}

fn token(row: &Row, column: &str) -> Result<Option<LeaseToken>, Error> {
    Ok(row.try_get::<_, Option<i64>>(column)?.map(LeaseToken))
}

async fn load_checkpoints(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
) -> Result<BTreeMap<UnitKey, Vec<Checkpoint>>, Error> {
    let mut all: BTreeMap<UnitKey, Vec<Checkpoint>> = BTreeMap::new();
    if units.is_empty() {
        return Ok(all);
    }
    let from = From("checkpoint");
    let select = format!("SELECT checkpoint.* FROM {UNITS} JOIN checkpoint USING (job_id, stage, idx)");
    let (jobs, stages, indexes) = unit_columns(of, units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await? {
        let checkpoint = Checkpoint {
            made_under: LeaseToken(row.try_get("made_under")?),
            steps: from.count(&row, "steps")?,
            state: from.digest(&row, "state_digest")?,
            blob: from.digest(&row, "blob_digest")?,
            size_bytes: from.count(&row, "size_bytes")?,
            device: DeviceId(row.try_get("device_id")?),
            owner: OwnerId(row.try_get("owner_id")?),
            signature: row.try_get("signature")?,
            parent: token(&row, "parent")?,
            lineage: owners(&row)?,
        };
        all.entry(unit_key(from, &row)?).or_default().push(checkpoint);
    }
    Ok(all)
}

async fn load_offers(
    tx: &Transaction<'_>,
    tokens: &[i64],
) -> Result<BTreeMap<(LeaseToken, u64), Offer>, Error> {
    if tokens.is_empty() {
        return Ok(BTreeMap::new());
    }
    let select = "SELECT lease_token, idx, origin, lineage FROM offer WHERE lease_token = ANY($1)";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&tokens]).await?;
    rows.iter()
        .map(|row| {
            let offer = Offer { origin: token(row, "origin")?, lineage: owners(row)? };
            Ok(((LeaseToken(row.try_get("lease_token")?), From("offer").count(row, "idx")?), offer))
        })
        .collect()
}

async fn load_offered(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
    callers: &[i64],
) -> Result<BTreeMap<(UnitKey, OwnerId), Vec<OwnerId>>, Error> {
    let mut all: BTreeMap<(UnitKey, OwnerId), Vec<OwnerId>> = BTreeMap::new();
    if units.is_empty() || callers.is_empty() {
        return Ok(all);
    }
    let select = format!(
        "SELECT offer.* FROM {UNITS} JOIN offer USING (job_id, stage, idx) WHERE offer.owner_id = ANY($4)"
    );
    let (jobs, stages, indexes) = unit_columns(of, units);
    let select = tx.prepare_cached(&select).await?;
    for row in tx.query(&select, &[&jobs, &stages, &indexes, &callers]).await? {
        let key = (unit_key(From("offer"), &row)?, OwnerId(row.try_get("owner_id")?));
        let lineage = all.entry(key).or_default();
        lineage.extend(owners(&row)?);
        lineage.sort_unstable();
        lineage.dedup();
    }
    Ok(all)
}

/// Completes attempts with what their leases offered, and what they witnessed.
async fn add_lineages(tx: &Transaction<'_>, of: &Jobs, attempts: &mut Attempts) -> Result<(), Error> {
    if attempts.is_empty() {
        return Ok(());
    }
    let (jobs, stages, indexes) = unit_columns(of, attempts.keys());
    let resumed = format!("SELECT resumed.* FROM {UNITS} JOIN resumed USING (job_id, stage, idx)");
    let witness = format!("SELECT witness.* FROM {UNITS} JOIN witness USING (job_id, stage, idx)");
    let (resumed, witness) = tokio::try_join!(tx.prepare_cached(&resumed), tx.prepare_cached(&witness))?;
    let parameters: [&(dyn ToSql + Sync); 3] = [&jobs, &stages, &indexes];
    let (resumed, witness) =
        tokio::try_join!(tx.query(&resumed, &parameters), tx.query(&witness, &parameters))?;
    let mut attempt_of = |from: From, row: &Row, change: &mut dyn FnMut(&mut Attempt)| {
        let owner = OwnerId(row.try_get("owner_id")?);
        let list = attempts.get_mut(&unit_key(from, row)?).into_iter().flatten();
        list.filter(|attempt| attempt.owner == owner).for_each(change);
        Ok::<_, Error>(())
    };
    for row in &resumed {
        let (origin, lineage) = (token(row, "origin")?, owners(row)?);
        attempt_of(From("resumed"), row, &mut |attempt| {
            (attempt.origin, attempt.lineage) = (origin, lineage.clone());
        })?;
    }
    let from = From("witness");
    for row in &witness {
        let told = (from.count(row, "steps")?, from.digest(row, "state_digest")?);
        attempt_of(from, row, &mut |attempt| attempt.witnessed.push(told))?;
    }
    Ok(())
}

/// Completes the attempts of units whose jobs have checkpoints.
pub(super) async fn add_lineages_of(
    tx: &Transaction<'_>,
    jobs: &Jobs,
    attempts: &mut Attempts,
) -> Result<(), Error> {
    if jobs.values().all(|job| !job.checkpointed) {
        return Ok(());
    }
    add_lineages(tx, jobs, attempts).await
}

/// Owners of devices that called within a day: a PC that is away for longer may never come back.
async fn load_owners_there(tx: &Transaction<'_>) -> Result<BTreeSet<OwnerId>, Error> {
    let select = "SELECT DISTINCT owner_id FROM device WHERE last_seen_at > now() - interval '1 day'";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[]).await?;
    rows.iter().map(|row| Ok(OwnerId(row.try_get("owner_id")?))).collect()
}

/// Writes what was decided of checkpoints.
pub(super) async fn write(tx: &Transaction<'_>, slice: &Slice, changes: &Changes) -> Result<(), Error> {
    for (unit, lease) in &changes.checkpoints_refused {
        tracing::warn!(
            job = %unit.job, stage = %unit.stage, index = unit.index, lease = %lease,
            "a checkpoint was dropped: its unit is decided, or its state is not uploaded or too large"
        );
    }
    // In the order in which rows of one unit may replace each other.
    let of = &slice.jobs;
    remove(tx, of, changes).await?;
    tokio::try_join!(
        add_checkpoints(tx, of, &changes.checkpoints_added),
        add_offers(tx, of, &changes.leases_added),
        add_resumed(tx, of, changes),
        add_witnesses(tx, of, changes),
        add_blames(tx, of, &changes.blames),
    )?;
    let ended: Vec<i64> = changes.jobs_ended.iter().map(|id| id.0).collect();
    if ended.is_empty() {
        return Ok(());
    }
    let with_checkpoints = slice.jobs.values().any(|job| job.checkpointed && ended.contains(&job.id.0));
    let tables: &[&str] = if with_checkpoints { &["upload", "checkpoint", "offer"] } else { &["upload"] };
    for table in tables {
        let delete = tx.prepare_cached(&format!("DELETE FROM {table} WHERE job_id = ANY($1)")).await?;
        tx.execute(&delete, &[&ended]).await?;
    }
    Ok(())
}

async fn remove(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    if !changes.checkpoints_removed.is_empty() {
        let (jobs, stages, indexes) =
            unit_columns(of, changes.checkpoints_removed.iter().map(|(unit, _)| unit));
        let names: Vec<i64> = changes.checkpoints_removed.iter().map(|(_, name)| name.0).collect();
        let delete = "DELETE FROM checkpoint
            USING unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[]) AS gone (job_id, stage, idx, made_under)
            WHERE checkpoint.job_id = gone.job_id AND checkpoint.stage = gone.stage AND checkpoint.idx = gone.idx
              AND checkpoint.made_under = gone.made_under";
        tx.execute(&tx.prepare_cached(delete).await?, &[&jobs, &stages, &indexes, &names]).await?;
    }
    if !changes.units_closed.is_empty() {
        let (jobs, stages, indexes) = unit_columns(of, &changes.units_closed);
        // What an open lease came with is still needed: its result may differ.
        let open = "AND NOT EXISTS (
            SELECT FROM lease WHERE lease.token = offer.lease_token AND offer.idx = ANY(lease.open))";
        for (table, but) in [("checkpoint", ""), ("offer", open)] {
            let delete = format!(
                "DELETE FROM {table} USING {UNITS}
                 WHERE {table}.job_id = unit.job_id AND {table}.stage = unit.stage AND {table}.idx = unit.idx {but}"
            );
            tx.execute(&tx.prepare_cached(&delete).await?, &[&jobs, &stages, &indexes]).await?;
        }
    }
    Ok(())
}

async fn add_checkpoints(
    tx: &Transaction<'_>,
    of: &Jobs,
    added: &[(UnitKey, Checkpoint)],
) -> Result<(), Error> {
    if added.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO checkpoint (job_id, stage, idx, made_under, steps, state_digest, blob_digest, size_bytes,
            device_id, owner_id, signature, parent, lineage)
        SELECT job_id, stage, idx, made_under, steps, state, blob, size, device_id, owner_id, signature, parent,
            ($13::bigint[])[low:high]
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::bytea[],
                    $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bigint[], $14::integer[], $15::integer[])
             AS new (job_id, stage, idx, made_under, steps, state, blob, size, device_id, owner_id, signature, parent,
                     low, high)";
    let (jobs, stages, indexes) = unit_columns(of, added.iter().map(|(unit, _)| unit));
    let list = || added.iter().map(|(_, checkpoint)| checkpoint);
    let names: Vec<i64> = list().map(|one| one.made_under.0).collect();
    let steps: Vec<i64> = list().map(|one| bigint(one.steps)).collect();
    let states: Vec<&[u8]> = list().map(|one| one.state.as_bytes().as_slice()).collect();
    let blobs: Vec<&[u8]> = list().map(|one| one.blob.as_bytes().as_slice()).collect();
    let sizes: Vec<i64> = list().map(|one| bigint(one.size_bytes)).collect();
    let devices: Vec<i64> = list().map(|one| one.device.0).collect();
    let makers: Vec<i64> = list().map(|one| one.owner.0).collect();
    let signatures: Vec<&[u8]> = list().map(|one| one.signature.as_slice()).collect();
    let parents: Vec<Option<i64>> = list().map(|one| one.parent.map(|name| name.0)).collect();
    let (flat, low, high) = flatten(list().map(|one| one.lineage.iter().map(|owner| owner.0)));
    let parameters: [&(dyn ToSql + Sync); 15] = [
        &jobs,
        &stages,
        &indexes,
        &names,
        &steps,
        &states,
        &blobs,
        &sizes,
        &devices,
        &makers,
        &signatures,
        &parents,
        &flat,
        &low,
        &high,
    ];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

async fn add_offers(tx: &Transaction<'_>, of: &Jobs, leases: &[Lease]) -> Result<(), Error> {
    let list: Vec<(&Lease, u64, &Offer)> = leases
        .iter()
        .flat_map(|lease| lease.offers.iter().map(move |(index, offer)| (lease, *index, offer)))
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO offer (job_id, stage, idx, owner_id, lease_token, origin, lineage)
        SELECT job_id, stage, idx, owner_id, lease_token, origin, ($7::bigint[])[low:high]
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                    $8::integer[], $9::integer[])
             AS new (job_id, stage, idx, owner_id, lease_token, origin, low, high)";
    // An offer holds what earlier ones of the unit to this owner held: those whose lease is gone say nothing more.
    let delete = "DELETE FROM offer USING unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[])
             AS new (job_id, stage, idx, owner_id)
        WHERE offer.job_id = new.job_id AND offer.stage = new.stage AND offer.idx = new.idx
          AND offer.owner_id = new.owner_id AND NOT EXISTS (SELECT FROM lease WHERE lease.token = offer.lease_token)";
    let units: Vec<UnitKey> = list
        .iter()
        .map(|(lease, index, _)| UnitKey { job: lease.job, stage: lease.stage, index: *index })
        .collect();
    let (jobs, stages, indexes) = unit_columns(of, &units);
    let callers: Vec<i64> = list.iter().map(|(lease, ..)| lease.owner.0).collect();
    let tokens: Vec<i64> = list.iter().map(|(lease, ..)| lease.token.0).collect();
    let origins: Vec<Option<i64>> = list.iter().map(|(.., offer)| offer.origin.map(|name| name.0)).collect();
    let (flat, low, high) = flatten(list.iter().map(|(.., offer)| offer.lineage.iter().map(|owner| owner.0)));
    tx.execute(&tx.prepare_cached(delete).await?, &[&jobs, &stages, &indexes, &callers]).await?;
    let parameters: [&(dyn ToSql + Sync); 9] =
        [&jobs, &stages, &indexes, &callers, &tokens, &origins, &flat, &low, &high];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

async fn add_resumed(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    let list: Vec<_> = changes.attempts.iter().filter(|one| !one.attempt.lineage.is_empty()).collect();
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO resumed (job_id, stage, idx, owner_id, origin, lineage)
        SELECT job_id, stage, idx, owner_id, origin, ($6::bigint[])[low:high]
        FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $7::integer[], $8::integer[])
             AS new (job_id, stage, idx, owner_id, origin, low, high)";
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|one| &one.unit));
    let owners: Vec<i64> = list.iter().map(|one| one.attempt.owner.0).collect();
    let origins: Vec<Option<i64>> = list.iter().map(|one| one.attempt.origin.map(|name| name.0)).collect();
    let (flat, low, high) = flatten(list.iter().map(|one| one.attempt.lineage.iter().map(|owner| owner.0)));
    let parameters: [&(dyn ToSql + Sync); 8] =
        [&jobs, &stages, &indexes, &owners, &origins, &flat, &low, &high];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

async fn add_witnesses(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    let list: Vec<_> = changes
        .attempts
        .iter()
        .flat_map(|one| one.attempt.witnessed.iter().map(move |told| (one, told)))
        .collect();
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO witness (job_id, stage, idx, owner_id, steps, state_digest)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[])";
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|(one, _)| &one.unit));
    let owners: Vec<i64> = list.iter().map(|(one, _)| one.attempt.owner.0).collect();
    let steps: Vec<i64> = list.iter().map(|(_, (steps, _))| bigint(*steps)).collect();
    let states: Vec<&[u8]> = list.iter().map(|(_, (_, state))| state.as_bytes().as_slice()).collect();
    let parameters: [&(dyn ToSql + Sync); 6] = [&jobs, &stages, &indexes, &owners, &steps, &states];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

async fn add_blames(tx: &Transaction<'_>, of: &Jobs, list: &[Blame]) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO blame (job_id, stage, idx, device_id, owner_id, why, steps, state_digest, blob_digest,
            signature, witnessed, witnesses)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[],
                             $7::bigint[], $8::bytea[], $9::bytea[], $10::bytea[], $11::bytea[], $12::integer[])";
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|blame| &blame.unit));
    let devices: Vec<i64> = list.iter().map(|blame| blame.device.0).collect();
    let owners: Vec<i64> = list.iter().map(|blame| blame.owner.0).collect();
    let faults: Vec<i16> = list.iter().map(|blame| fault_code(blame.fault)).collect();
    let steps: Vec<i64> = list.iter().map(|blame| bigint(blame.checkpoint.steps)).collect();
    let states: Vec<&[u8]> = list.iter().map(|blame| blame.checkpoint.state.as_bytes().as_slice()).collect();
    let blobs: Vec<&[u8]> = list.iter().map(|blame| blame.checkpoint.blob.as_bytes().as_slice()).collect();
    let signatures: Vec<&[u8]> = list.iter().map(|blame| blame.checkpoint.signature.as_slice()).collect();
    let witnessed: Vec<&[u8]> = list.iter().map(|blame| blame.witnessed.as_bytes().as_slice()).collect();
    let counts: Vec<i32> =
        list.iter().map(|blame| i32::try_from(blame.witnesses).unwrap_or(i32::MAX)).collect();
    let parameters: [&(dyn ToSql + Sync); 12] = [
        &jobs,
        &stages,
        &indexes,
        &devices,
        &owners,
        &faults,
        &steps,
        &states,
        &blobs,
        &signatures,
        &witnessed,
        &counts,
    ];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

fn fault_code(fault: Fault) -> i16 {
    match fault {
        Fault::Poisoned => 1,
        Fault::Resumed => 2,
    }
}
