//! What is known of owners, pay that is held back, and verdicts that are taken back. Looked up for jobs that buy
//! confidence only: the others pay nothing for it but the counts of right results.

use std::collections::{BTreeMap, BTreeSet};

use deadpool_postgres::Transaction;
use lull_job::Stage;
use lull_ledger::{AccountId, AccountKind, Amount, CurrencyId};
use rust_decimal::Decimal;

use super::Aftermath;
use super::load::{
    Jobs, UNITS, load_attempts, load_holding, load_verdicts, lock_jobs, open_units, unit_columns, unit_key,
};
use super::write::flatten;
use crate::core::{
    Attempt, CENSUS_RESULTS, Catch, Census, Changes, Held, JobId, JobState, OwnerId, Policy, Request, Slice,
    Stake, Standing, UnitKey,
};
use crate::store::Error;
use crate::store::error::ensure_affected;
use crate::store::rows::{From, bigint};

/// Adds what judging needs to know of the owners of loaded attempts and of the callers.
pub(super) async fn complete(
    tx: &Transaction<'_>,
    slice: &mut Slice,
    requests: &[Request],
) -> Result<(), Error> {
    let confident: BTreeSet<_> =
        slice.jobs.values().filter(|job| job.buys_confidence()).map(|job| job.id).collect();
    if confident.is_empty() {
        return Ok(());
    }
    let calling = requests
        .iter()
        .filter(|request| {
            !request.reports.is_empty() || request.want.is_some() || !request.hand_backs.is_empty()
        })
        .map(|request| request.owner);
    let attempts = slice.attempts.iter().filter(|(unit, _)| confident.contains(&unit.job));
    let resting = attempts.clone().flat_map(|(_, list)| list.iter().flat_map(Attempt::rests_on));
    // Whose work may be passed on, or was.
    let checkpoints = slice.checkpoints.iter().filter(|(unit, _)| confident.contains(&unit.job));
    let checkpoints = checkpoints.flat_map(|(_, list)| list.iter().flat_map(|one| &one.lineage));
    let leases = slice.leases.values().filter(|lease| confident.contains(&lease.job));
    let offered = leases.flat_map(|lease| lease.offers.values().flat_map(|offer| &offer.lineage));
    let owners: BTreeSet<OwnerId> =
        resting.chain(checkpoints).chain(offered).copied().chain(calling).collect();
    let units: Vec<UnitKey> = attempts.map(|(unit, _)| *unit).collect();
    let currencies: BTreeSet<CurrencyId> =
        slice.jobs.values().filter(|job| job.buys_confidence()).map(|job| job.currency).collect();
    let (standings, stakes, known) = tokio::try_join!(
        load_standings(tx, &owners),
        load_stakes(tx, &owners, &currencies),
        load_reopened(tx, &slice.jobs, &units)
    )?;
    (slice.standings, slice.stakes) = (standings, stakes);
    let caught: Vec<i64> =
        slice.standings.iter().filter(|(_, one)| one.catches > 0).map(|(owner, _)| owner.0).collect();
    if !caught.is_empty() {
        void(tx, &slice.jobs, &mut slice.attempts, &units, &caught).await?;
        slice.void_spoilt();
    }
    if !known.is_empty() {
        let reopened: Vec<UnitKey> = known.keys().copied().collect();
        let verdicts = load_verdicts(tx, &slice.jobs, &reopened).await?;
        for (unit, verdict) in verdicts {
            slice.verdicts.remove(&unit);
            slice.reopened.insert(unit, verdict);
        }
        for (unit, owners) in known {
            for attempt in slice.attempts.get_mut(&unit).into_iter().flatten() {
                attempt.settled = owners.contains(&attempt.owner);
            }
        }
    }
    let decided_again =
        slice.verdicts.iter().filter(|(_, verdict)| verdict.version > 1).map(|(unit, _)| *unit);
    let units: Vec<UnitKey> = slice.reopened.keys().copied().chain(decided_again).collect();
    if units.is_empty() { Ok(()) } else { note_paid(tx, &slice.jobs, &mut slice.attempts, &units).await }
}

/// Marks attempts that were paid, whatever was decided of their units since.
async fn note_paid(
    tx: &Transaction<'_>,
    of: &Jobs,
    attempts: &mut BTreeMap<UnitKey, Vec<Attempt>>,
    units: &[UnitKey],
) -> Result<(), Error> {
    let select = format!(
        "SELECT job_id, stage, idx, transfer.attempt AS owner_id FROM {UNITS} JOIN transfer USING (job_id, stage, idx)
         WHERE transfer.code = 3"
    );
    let (jobs, stages, indexes) = unit_columns(of, units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await? {
        let owner = OwnerId(row.try_get("owner_id")?);
        let list = attempts.get_mut(&unit_key(From("transfer"), &row)?).into_iter().flatten();
        list.filter(|attempt| attempt.owner == owner).for_each(|attempt| attempt.paid = true);
    }
    Ok(())
}

pub(in crate::store) async fn load_standings(
    tx: &Transaction<'_>,
    owners: &BTreeSet<OwnerId>,
) -> Result<BTreeMap<OwnerId, Standing>, Error> {
    let owners: Vec<i64> = owners.iter().map(|owner| owner.0).collect();
    let select =
        "SELECT owner_id, correct, held_to AS results, dropped, catches,
            greatest(coalesce(extract(epoch FROM clock_timestamp() - caught_at)::bigint, 0), 0) AS secs_since_catch
        FROM standing WHERE owner_id = ANY($1)";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&owners]).await?;
    let from = From("standing");
    let standing = |row: &tokio_postgres::Row| {
        Ok::<_, Error>(Standing {
            correct: from.count(row, "correct")?,
            stake: Amount::ZERO,
            results: from.count(row, "results")?,
            dropped: from.count(row, "dropped")?,
            secs_since_catch: from.count(row, "secs_since_catch")?,
            knew_first: false,
            catches: u32::try_from(row.try_get::<_, i32>("catches")?).unwrap_or(0),
        })
    };
    rows.iter().map(|row| Ok((OwnerId(row.try_get("owner_id")?), standing(row)?))).collect()
}

/// What owners would lose in these currencies: nothing where there is no row.
async fn load_stakes(
    tx: &Transaction<'_>,
    owners: &BTreeSet<OwnerId>,
    currencies: &BTreeSet<CurrencyId>,
) -> Result<BTreeMap<(OwnerId, CurrencyId), Stake>, Error> {
    let select = "SELECT stake.owner_id, stake.currency, level, balance
        FROM unnest($1::bigint[]) AS owner (id)
        JOIN stake ON stake.owner_id = owner.id AND stake.currency = ANY($2)
        JOIN account ON account.id = (stake.currency::bigint << 48) + owner.id * 8 + 4";
    let owners: Vec<i64> = owners.iter().map(|owner| owner.0).collect();
    let currencies: Vec<i16> = currencies.iter().map(|currency| currency.number()).collect();
    let from = From("stake");
    let stake = |row: &tokio_postgres::Row| {
        let key = (OwnerId(row.try_get("owner_id")?), from.currency(row, "currency")?);
        Ok((key, Stake { held: from.amount(row, "balance")?, level: from.amount(row, "level")? }))
    };
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&owners, &currencies]).await?;
    rows.iter().map(stake).collect()
}

async fn load_reopened(
    tx: &Transaction<'_>,
    of: &Jobs,
    units: &[UnitKey],
) -> Result<BTreeMap<UnitKey, Vec<OwnerId>>, Error> {
    let select =
        format!("SELECT job_id, stage, idx, known FROM {UNITS} JOIN reopened USING (job_id, stage, idx)");
    let (jobs, stages, indexes) = unit_columns(of, units);
    let rows = tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes]).await?;
    let owners = |row: &tokio_postgres::Row| Ok::<Vec<i64>, Error>(row.try_get("known")?);
    rows.iter()
        .map(|row| Ok((unit_key(From("reopened"), row)?, owners(row)?.into_iter().map(OwnerId).collect())))
        .collect()
}

/// Marks attempts that were made before their owner was caught.
async fn void(
    tx: &Transaction<'_>,
    of: &Jobs,
    attempts: &mut BTreeMap<UnitKey, Vec<Attempt>>,
    units: &[UnitKey],
    caught: &[i64],
) -> Result<(), Error> {
    let select = format!(
        "SELECT job_id, stage, idx, attempt.owner_id FROM {UNITS} JOIN attempt USING (job_id, stage, idx)
         JOIN standing ON standing.owner_id = attempt.owner_id AND attempt.created_at <= standing.caught_at
         WHERE attempt.owner_id = ANY($4)"
    );
    let (jobs, stages, indexes) = unit_columns(of, units);
    for row in tx.query(&tx.prepare_cached(&select).await?, &[&jobs, &stages, &indexes, &caught]).await? {
        let owner = OwnerId(row.try_get("owner_id")?);
        let list = attempts.get_mut(&unit_key(From("attempt"), &row)?).into_iter().flatten();
        list.filter(|attempt| attempt.owner == owner).for_each(|one| (one.void, one.caught) = (true, true));
    }
    Ok(())
}

pub(super) async fn write(tx: &Transaction<'_>, slice: &Slice, changes: &Changes) -> Result<(), Error> {
    let of = &slice.jobs;
    write_reopened(tx, of, changes).await?;
    if changes.standings.is_empty() && changes.held.is_empty() {
        return Ok(());
    }
    let first = add_to_standings(tx, changes).await?;
    write_held(tx, of, &changes.held, first).await?;
    raise_levels(tx, slice, &changes.held).await?;
    for (owner, change) in &changes.standings {
        if let Some(catch) = &change.caught {
            write_catch(tx, of, *owner, catch, change.correct).await?;
        }
    }
    Ok(())
}

async fn write_reopened(tx: &Transaction<'_>, of: &Jobs, changes: &Changes) -> Result<(), Error> {
    let closed: BTreeSet<UnitKey> = changes.reclosed.iter().copied().collect();
    let opened: BTreeSet<UnitKey> = changes.reopened.iter().map(|(unit, _)| *unit).collect();
    let open: Vec<_> = changes.reopened.iter().filter(|(unit, _)| !closed.contains(unit)).collect();
    if !open.is_empty() {
        let insert = "INSERT INTO reopened (job_id, stage, idx, known)
            SELECT job_id, stage, idx, ($4::bigint[])[low:high]
            FROM unnest($1::bigint[], $2::smallint[], $3::bigint[], $5::integer[], $6::integer[])
                 AS unit (job_id, stage, idx, low, high)";
        let (jobs, stages, indexes) = unit_columns(of, open.iter().map(|(unit, _)| unit));
        let (flat, low, high) = flatten(open.iter().map(|(_, known)| known.iter().map(|owner| owner.0)));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&jobs, &stages, &indexes, &flat, &low, &high];
        tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    }
    let gone: Vec<UnitKey> = closed.difference(&opened).copied().collect();
    if gone.is_empty() {
        return Ok(());
    }
    let delete = format!(
        "DELETE FROM reopened USING {UNITS}
         WHERE reopened.job_id = unit.job_id AND reopened.stage = unit.stage AND reopened.idx = unit.idx"
    );
    let (jobs, stages, indexes) = unit_columns(of, &gone);
    let deleted = tx.execute(&tx.prepare_cached(&delete).await?, &[&jobs, &stages, &indexes]).await?;
    ensure_affected("reopened delete", gone.len(), deleted)
}

/// Adds to the counts of owners, in their order. Returns the place in its queue that each owner's first new held
/// pay takes.
async fn add_to_standings(tx: &Transaction<'_>, changes: &Changes) -> Result<BTreeMap<OwnerId, i64>, Error> {
    let mut added: BTreeMap<OwnerId, [i64; 3]> = BTreeMap::new();
    for (owner, change) in &changes.standings {
        *added.entry(*owner).or_default() = [bigint(change.correct), 0, bigint(change.dropped)];
    }
    for held in &changes.held {
        added.entry(held.owner).or_default()[1] += 1;
    }
    let upsert = "INSERT INTO standing AS known (owner_id, correct, held_to, dropped)
        SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS new (owner_id, correct, held, dropped)
        ORDER BY owner_id
        ON CONFLICT (owner_id) DO UPDATE
        SET correct = known.correct + excluded.correct, held_to = known.held_to + excluded.held_to,
            dropped = known.dropped + excluded.dropped
        RETURNING owner_id, held_to";
    let owners: Vec<i64> = added.keys().map(|owner| owner.0).collect();
    let column = |at: usize| added.values().map(|row| row[at]).collect::<Vec<i64>>();
    let (correct, held, dropped) = (column(0), column(1), column(2));
    let rows = tx.query(&tx.prepare_cached(upsert).await?, &[&owners, &correct, &held, &dropped]).await?;
    ensure_affected("standing upsert", owners.len(), rows.len() as u64)?;
    let mut first = BTreeMap::new();
    for row in rows {
        let owner = OwnerId(row.try_get("owner_id")?);
        let new = added.get(&owner).map_or(0, |[_, held, _]| *held);
        first.insert(owner, row.try_get::<_, i64>("held_to")? - new + 1);
    }
    Ok(first)
}

async fn write_held(
    tx: &Transaction<'_>,
    of: &Jobs,
    list: &[Held],
    mut next: BTreeMap<OwnerId, i64>,
) -> Result<(), Error> {
    if list.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO held (owner_id, seq, job_id, stage, idx, amount, until_seq, checked)
        SELECT * FROM unnest($4::bigint[], $5::bigint[], $1::bigint[], $2::smallint[], $3::bigint[], $6::numeric[],
                             $7::bigint[], $8::boolean[])";
    let (jobs, stages, indexes) = unit_columns(of, list.iter().map(|held| &held.unit));
    let owners: Vec<i64> = list.iter().map(|held| held.owner.0).collect();
    let mut places = Vec::with_capacity(list.len());
    for held in list {
        let next = next.entry(held.owner).or_default();
        places.push(*next);
        *next += 1;
    }
    let amounts: Vec<Decimal> = list.iter().map(|held| held.amount.decimal()).collect();
    let until: Vec<i64> =
        list.iter().zip(&places).map(|(held, place)| place + bigint(held.results)).collect();
    let checked: Vec<bool> = list.iter().map(|held| held.checked).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
        [&jobs, &stages, &indexes, &owners, &places, &amounts, &until, &checked];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    Ok(())
}

/// What releases leave held back rises to what the dearest of these results take. Mostly it is there already.
async fn raise_levels(tx: &Transaction<'_>, slice: &Slice, list: &[Held]) -> Result<(), Error> {
    let mut levels: BTreeMap<(OwnerId, CurrencyId), Amount> = BTreeMap::new();
    for held in list {
        let Some(job) = slice.jobs.get(&held.unit.job) else { continue };
        let key = (held.owner, job.currency);
        let known = slice.stakes.get(&key).map_or(Amount::ZERO, |stake| stake.level);
        if held.needed() > known {
            let level = levels.entry(key).or_default();
            *level = held.needed().max(*level);
        }
    }
    if levels.is_empty() {
        return Ok(());
    }
    let upsert = "INSERT INTO stake AS known (owner_id, currency, level)
        SELECT * FROM unnest($1::bigint[], $2::smallint[], $3::numeric[]) AS new (owner_id, currency, level)
        ORDER BY owner_id, currency
        ON CONFLICT (owner_id, currency) DO UPDATE SET level = excluded.level, changed_at = now()
        WHERE known.level < excluded.level";
    let owners: Vec<i64> = levels.keys().map(|(owner, _)| owner.0).collect();
    let currencies: Vec<i16> = levels.keys().map(|(_, currency)| currency.number()).collect();
    let amounts: Vec<Decimal> = levels.values().map(|level| level.decimal()).collect();
    tx.execute(&tx.prepare_cached(upsert).await?, &[&owners, &currencies, &amounts]).await?;
    Ok(())
}

/// An owner starts from nothing: what is held for it will be forfeited, job by job, and jobs in which it took part
/// are to be looked through.
async fn write_catch(
    tx: &Transaction<'_>,
    of: &Jobs,
    owner: OwnerId,
    catch: &Catch,
    correct: u64,
) -> Result<(), Error> {
    let insert = "WITH known AS (SELECT released_to, held_to, correct FROM standing WHERE owner_id = $1),
        reset AS (UPDATE standing SET correct = $7, released_to = held_to, catches = catches + 1,
                      caught_at = clock_timestamp() WHERE owner_id = $1),
        caught AS (
            INSERT INTO catch (owner_id, device_id, job_id, stage, idx, from_seq, to_seq, reason, correct)
            SELECT $1, $2, $3, $4, $5, released_to, held_to, $6, correct FROM known RETURNING id)
        INSERT INTO recheck (catch_id, job_id, owner_id)
        SELECT caught.id, job_owner.job_id, $1 FROM caught, job_owner WHERE job_owner.owner_id = $1";
    let (jobs, stages, indexes) = unit_columns(of, [&catch.unit]);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&owner.0, &catch.device.0, &jobs[0], &stages[0], &indexes[0], &catch.reason, &bigint(correct)];
    tx.execute(&tx.prepare_cached(insert).await?, &parameters).await?;
    tracing::warn!(owner = owner.0, device = catch.device.0, unit = ?catch.unit, reason = catch.reason, "caught");
    Ok(())
}

/// A job with the accepted units that may not stand: those that too few owners support now, by the census of
/// the job, and those of owners that were caught. Returns the numbers of those catches too.
pub(in crate::store) async fn review_slice(
    tx: &Transaction<'_>,
    id: JobId,
    policy: Policy,
) -> Result<(Slice, Vec<i64>), Error> {
    let mut slice = Slice { jobs: lock_jobs(tx, &[id.0]).await?, policy, ..Slice::default() };
    let job = slice.jobs.get_mut(&id).ok_or(Error::NotFound("job"))?;
    let mut losses = Amount::ZERO;
    let census = "SELECT count(*) FILTER (WHERE most_correct IS NULL OR most_correct >= $2) AS owners,
            count(*) FILTER (WHERE most_correct >= $2) AS caught,
            (SELECT count(*) FROM catch JOIN job_owner USING (owner_id) WHERE job_owner.job_id = $1) AS catches
        FROM job_owner LEFT JOIN (
            SELECT owner_id, max(correct) AS most_correct FROM catch WHERE job_id = $1 GROUP BY owner_id
        ) AS caught USING (owner_id) WHERE job_id = $1";
    let row = tx.query_one(&tx.prepare_cached(census).await?, &[&id.0, &bigint(CENSUS_RESULTS)]).await?;
    let from = From("job_owner");
    job.count(Census { owners: from.count(&row, "owners")?, caught: from.count(&row, "caught")? }, policy);
    slice.catches = from.count(&row, "catches")?;
    let mut units = BTreeSet::new();
    if job.awaits_review() {
        let most = i32::try_from(job.wish_copies.most()).unwrap_or(i32::MAX);
        let few = "SELECT job_id, stage, idx, agreeing FROM standing_verdict
            WHERE job_id = $1 AND stage = 1 AND outcome <= 2 AND agreeing < $2 ORDER BY idx";
        for row in tx.query(&tx.prepare_cached(few).await?, &[&id.0, &most]).await? {
            let unit = unit_key(From("verdict"), &row)?;
            let agreeing = u32::try_from(row.try_get::<_, i32>("agreeing")?).unwrap_or(0);
            if job.is_short(unit, agreeing) {
                units.insert(unit);
            }
        }
    }
    let catches = "SELECT catch_id, owner_id FROM recheck WHERE job_id = $1";
    let rows = tx.query(&tx.prepare_cached(catches).await?, &[&id.0]).await?;
    let catches: Vec<i64> = rows.iter().map(|row| row.get("catch_id")).collect();
    if !rows.is_empty() && job.buys_confidence() {
        let owners: Vec<i64> = rows.iter().map(|row| row.get("owner_id")).collect();
        // Of merges and the like only those of this round: others have been made again already.
        // So are those of whoever went on from their work.
        let theirs = "SELECT job_id, stage, idx FROM attempt
            WHERE job_id = $1 AND owner_id = ANY($2) AND (stage = 1 OR stage > 1 AND stage / 256 = $3::integer)
            UNION SELECT job_id, stage, idx FROM resumed
            WHERE job_id = $1 AND origin IS NOT NULL AND lineage && $2
              AND (stage = 1 OR stage > 1 AND stage / 256 = $3::integer)";
        for row in
            tx.query(&tx.prepare_cached(theirs).await?, &[&id.0, &owners, &i32::from(job.round)]).await?
        {
            units.insert(unit_key(From("attempt"), &row)?);
        }
        if job.state != JobState::Running || job.stage != Stage::Work {
            let account = AccountId::of_grid(job.currency, AccountKind::Losses).number();
            let select = "SELECT balance FROM account WHERE id = $1 FOR UPDATE";
            let row = tx.query_one(&tx.prepare_cached(select).await?, &[&account]).await?;
            losses = From("account").amount(&row, "balance")?;
            // No more than was lost in this job: nobody's job is made again at others' cost.
            let select = "SELECT coalesce(sum(amount), 0) AS amount FROM transfer
                WHERE code = 6 AND job_id = $1 AND credit = $2";
            let select = tx.prepare_cached(select).await?;
            let row = tx.query_one(&select, &[&id.0, &account]).await?;
            losses = losses.min(From("transfer").amount(&row, "amount")? - job.granted);
        }
    }
    slice.losses = losses;
    let units: Vec<UnitKey> = units.into_iter().collect();
    let (holding, attempts, verdicts) = tokio::try_join!(
        load_holding(tx, &slice.jobs, &units),
        load_attempts(tx, &slice.jobs, &units),
        load_verdicts(tx, &slice.jobs, &units)
    )?;
    slice.still_leased = open_units(holding.values()).into_iter().collect();
    (slice.attempts, slice.verdicts) = (attempts, verdicts);
    super::checkpoints::add_lineages_of(tx, &slice.jobs, &mut slice.attempts).await?;
    complete(tx, &mut slice, &[]).await?;
    Ok((slice, catches))
}

/// Writes what looking a job over changed, and that these catches are done with.
pub(in crate::store) async fn write_review(
    tx: &Transaction<'_>,
    slice: &Slice,
    changes: &Changes,
    id: JobId,
    catches: &[i64],
    lease_ttl: std::time::Duration,
) -> Result<Aftermath, Error> {
    super::write::write(tx, slice, changes, lease_ttl).await?;
    if !catches.is_empty() {
        let delete = "DELETE FROM recheck WHERE job_id = $1 AND catch_id = ANY($2)";
        let deleted = tx.execute(&tx.prepare_cached(delete).await?, &[&id.0, &catches]).await?;
        ensure_affected("recheck delete", catches.len(), deleted)?;
    }
    Ok(super::aftermath(slice, changes))
}

/// Units whose pay has been held back for long, with their jobs, attempts and verdicts.
pub(in crate::store) async fn overdue_slice(
    tx: &Transaction<'_>,
    units: &[UnitKey],
    policy: Policy,
) -> Result<Slice, Error> {
    let jobs: BTreeSet<i64> = units.iter().map(|unit| unit.job.0).collect();
    let jobs: Vec<i64> = jobs.into_iter().collect();
    let mut slice = Slice { jobs: lock_jobs(tx, &jobs).await?, policy, ..Slice::default() };
    let (holding, attempts, verdicts) = tokio::try_join!(
        load_holding(tx, &slice.jobs, units),
        load_attempts(tx, &slice.jobs, units),
        load_verdicts(tx, &slice.jobs, units)
    )?;
    slice.still_leased = open_units(holding.values()).into_iter().collect();
    (slice.attempts, slice.verdicts) = (attempts, verdicts);
    super::checkpoints::add_lineages_of(tx, &slice.jobs, &mut slice.attempts).await?;
    complete(tx, &mut slice, &[]).await?;
    Ok(slice)
}

/// Writes which of them are to be checked.
pub(in crate::store) async fn write_overdue(
    tx: &Transaction<'_>,
    slice: &Slice,
    changes: &Changes,
) -> Result<Aftermath, Error> {
    super::write::write(tx, slice, changes, std::time::Duration::ZERO).await?;
    Ok(super::aftermath(slice, changes))
}
