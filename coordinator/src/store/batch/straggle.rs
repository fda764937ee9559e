//! Leases that take too long: the slice on which the core decides what of them goes out once more.

use std::collections::BTreeSet;
use std::time::Duration;

use super::load::{load_attempts, load_copies, load_verdicts, lock_jobs, open_units};
use super::write::write;
use super::{Aftermath, aftermath, checkpoints, lease, trust};
use crate::core::{Lease, LeaseToken, Onlookers, Patience, Policy, Slice, UnitKey, Urgency, straggle};
use deadpool_postgres::Transaction;
use tokio_postgres::types::ToSql;

use crate::store::rows::From;
use crate::store::{Error, Store, run_tx};

/// Leases that are looked at in one go; those that have been out for the longest time come first.
const STRAGGLERS_PER_LOOK: i64 = 50;

impl Store {
    /// Looks at leases that have been out for long, and wants copies of their units where somebody else could take them.
    /// A lease that was found late has its time once more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn straggle(&self, onlookers: &Onlookers, policy: Policy) -> Result<Aftermath, Error> {
        run_tx!(self.batch_pool, "straggle", tx => {
            if onlookers.there.len() < 2 {
                return Ok(Aftermath::default());
            }
            let out = "SELECT token, lease.job_id, (extract(epoch FROM now() - looked_at) * 1000000)::bigint AS micros
                FROM lease JOIN job ON job.id = lease.job_id
                CROSS JOIN LATERAL (SELECT frontier = stage_units
                    AND EXISTS (SELECT FROM unnest($3::bigint[]) AS waiting WHERE waiting <> owner_id) AS is_awaited) AS urgency
                WHERE NOT expired AND looked_at < now() - interval '1 microsecond' * least($1::bigint, $2::bigint)
                  AND job.state = 1 AND lease.stage % 256 = job.stage
                  AND looked_at < now() - interval '1 microsecond' * CASE
                      WHEN unit_micros = 0 THEN CASE WHEN is_awaited THEN $1::bigint ELSE $7::bigint END
                      ELSE greatest($2::bigint, unit_micros * units * CASE WHEN is_awaited THEN $4::bigint ELSE $5::bigint END) END
                ORDER BY looked_at LIMIT $6";
            let (awaited, calm) = (Patience::of(Urgency::Awaited), Patience::of(Urgency::None));
            let waiting: Vec<i64> = onlookers.waiting.iter().map(|owner| owner.0).collect();
            let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let (unknown, least) = (number(awaited.unknown_micros), number(calm.least_micros));
            let never = number(calm.unknown_micros);
            let (soon, later) = (number(awaited.times), number(calm.times));
            let parameters: [&(dyn ToSql + Sync); 7] =
                [&unknown, &least, &waiting, &soon, &later, &STRAGGLERS_PER_LOOK, &never];
            let rows = tx.query(&tx.prepare_cached(out).await?, &parameters).await?;
            if rows.is_empty() {
                return Ok(Aftermath::default());
            }
            let jobs: BTreeSet<i64> = rows.iter().map(|row| row.get("job_id")).collect();
            let jobs: Vec<i64> = jobs.into_iter().collect();
            let mut slice = Slice { jobs: lock_jobs(tx, &jobs).await?, policy, ..Slice::default() };
            for row in &rows {
                let micros = From("lease").count(row, "micros")?;
                slice.out_micros.insert(LeaseToken(row.try_get("token")?), micros);
            }
            // Again under the locks: some may have been reported or have expired meanwhile.
            let tokens: Vec<i64> = slice.out_micros.keys().map(|token| token.0).collect();
            let again = "SELECT * FROM lease WHERE token = ANY($1) AND NOT expired";
            let rows = tx.query(&tx.prepare_cached(again).await?, &[&tokens]).await?;
            slice.leases = rows.iter().map(lease).map(|lease| lease.map(|l| (l.token, l))).collect::<Result<_, _>>()?;
            let units = open_units(slice.leases.values());
            add_besides(tx, &mut slice).await?;
            (slice.attempts, slice.verdicts) = tokio::try_join!(
                load_attempts(tx, &slice.jobs, &units),
                load_verdicts(tx, &slice.jobs, &units)
            )?;
            checkpoints::add_lineages_of(tx, &slice.jobs, &mut slice.attempts).await?;
            trust::complete(tx, &mut slice, &[]).await?;
            let changes = straggle(&mut slice, onlookers);
            write(tx, &slice, &changes, Duration::ZERO).await?;
            if !changes.wanted_added.is_empty() {
                tracing::info!(leases = tokens.len(), copies = changes.wanted_added.len(), "leases take too long");
            }
            Ok(aftermath(&slice, &changes))
        })
    }
}

/// What else holds or wants units of copied leases in this slice.
pub(super) async fn add_besides(tx: &Transaction<'_>, slice: &mut Slice) -> Result<(), Error> {
    let copied: Vec<&Lease> = slice.leases.values().filter(|lease| lease.copied).collect();
    if copied.is_empty() {
        return Ok(());
    }
    let units = |lease: &&Lease| {
        let token = lease.token;
        open_units([*lease])
            .into_iter()
            .map(move |unit| (unit, token))
            .collect::<Vec<(UnitKey, LeaseToken)>>()
    };
    let besides = load_copies(tx, &slice.jobs, &copied.iter().flat_map(units).collect()).await?;
    for (token, lease) in besides.leases {
        slice.leases.entry(token).or_insert(lease);
    }
    slice.wanted_besides.extend(besides.wanted);
    Ok(())
}
