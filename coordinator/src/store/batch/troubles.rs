//! Devices that failed when they were last heard of. Read every now and then; written only when one fails, or succeeds again.
//! After a day it is forgotten.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use tokio_postgres::Row;

use crate::core::{DeviceId, Failure, Trouble, TroubleChange};
use crate::store::rows::From;
use crate::store::{Error, Store, run_tx};

impl Store {
    /// Devices that failed when they were last heard of.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn troubles(&self) -> Result<BTreeMap<DeviceId, Trouble>, Error> {
        run_tx!(self.pool, "troubles", tx => load(tx, None).await)
    }
}

const fn code(failure: Failure) -> i16 {
    match failure {
        Failure::Limit => 1,
        Failure::Wrong => 2,
        Failure::Expired => 3,
    }
}

/// Of all devices, or of these.
pub(in crate::store) async fn load(
    tx: &Transaction<'_>,
    devices: Option<&[i64]>,
) -> Result<BTreeMap<DeviceId, Trouble>, Error> {
    let select = "SELECT device_id, fails, last,
            greatest(extract(epoch FROM clock_timestamp() - failed_at)::bigint, 0) AS secs_since
        FROM trouble WHERE ($1::bigint[] IS NULL OR device_id = ANY($1)) AND failed_at > now() - interval '1 day'";
    let rows = tx.query(&tx.prepare_cached(select).await?, &[&devices]).await?;
    let from = From("trouble");
    let trouble = |row: &Row| {
        let last = match row.try_get::<_, i16>("last")? {
            1 => Failure::Limit,
            2 => Failure::Wrong,
            3 => Failure::Expired,
            other => return Err(from.wrong("last", other)),
        };
        let fails = u32::try_from(row.try_get::<_, i32>("fails")?).unwrap_or(u32::MAX);
        let trouble = Trouble { fails, last, secs_since: from.count(row, "secs_since")? };
        Ok((DeviceId(row.try_get("device_id")?), trouble))
    };
    rows.iter().map(trouble).collect()
}

pub(super) async fn write(
    tx: &Transaction<'_>,
    changes: &BTreeMap<DeviceId, TroubleChange>,
) -> Result<(), Error> {
    let recovered = changes.iter().filter(|(_, change)| **change == TroubleChange::Recovered);
    let recovered: Vec<i64> = recovered.map(|(device, _)| device.0).collect();
    if !recovered.is_empty() {
        let delete = "DELETE FROM trouble WHERE device_id = ANY($1)";
        tx.execute(&tx.prepare_cached(delete).await?, &[&recovered]).await?;
    }
    let failed = changes.iter().filter_map(|(device, change)| match change {
        TroubleChange::Failed(failure) => Some((device.0, code(*failure))),
        TroubleChange::Recovered => None,
    });
    let (devices, last): (Vec<i64>, Vec<i16>) = failed.unzip();
    if !devices.is_empty() {
        let upsert = "INSERT INTO trouble AS known (device_id, fails, last)
            SELECT device_id, 1, last FROM unnest($1::bigint[], $2::smallint[]) AS new (device_id, last) ORDER BY device_id
            ON CONFLICT (device_id) DO UPDATE
            SET fails = 1 + CASE WHEN known.failed_at > now() - interval '1 day' THEN least(known.fails, 1000000) ELSE 0 END,
                last = excluded.last, failed_at = now()";
        tx.execute(&tx.prepare_cached(upsert).await?, &[&devices, &last]).await?;
    }
    Ok(())
}
