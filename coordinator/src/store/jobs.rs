//! Jobs as submitters see them, and blobs.

use std::time::SystemTime;

use lull_job::{Digest, Spec, Stage};
use lull_ledger::{AccountId, AccountKind, Amount, Currency, FeeRate, Transfer};
use lull_proto::v1;
use prost::Message;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::batch::{Aftermath, write_transfers};
use super::currencies::{self, insufficient, lock_free};
use super::rows::{self, From, bigint};
use super::{Error, GridCurrency, Store, run_tx};
use crate::core::{Copies, DeviceId, Job, JobId, Lease, Outcome, Prices, SubmitterId, stage_number};

/// A checked job that is to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Who pays.
    pub submitter: SubmitterId,
    /// The caller's name for this request.
    pub request_id: String,
    /// As it was submitted, with the budget filled in.
    pub message: v1::JobSpec,
    /// The same, checked.
    pub spec: Spec,
    /// Items of the whole job; 0 while its split has not run.
    pub items: u64,
    /// What all of its money is in.
    pub currency: GridCurrency,
    /// What it pays.
    pub prices: Prices,
    /// The platform's share of it.
    pub fee: FeeRate,
    /// Copies of a work unit, on average.
    pub copies: Copies,
    /// Owners that must agree on what is made from the work.
    pub service_owners: u32,
    /// Owners that are expected to take part as strangers; 0 where copies were named.
    pub strangers: u64,
    /// The most that it may cost.
    pub budget: Amount,
    /// Whether nobody named that.
    pub has_default_budget: bool,
    /// Key of the order in which its units go out.
    pub order_key: [u8; 32],
}

/// Whose blob it is.
#[derive(Debug, Clone, Copy)]
pub enum Uploader {
    /// A submitter, who may use it in jobs.
    Submitter(SubmitterId),
    /// A device, which may name it in reports and hand-backs of that job.
    Device(DeviceId, JobId),
}

/// A job with what belongs to it.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The job.
    pub job: Job,
    /// What all of its money is in.
    pub currency: Currency,
    /// As it was submitted.
    pub message: v1::JobSpec,
    /// Name of its submitter.
    pub submitter: String,
    /// When it was accepted.
    pub created_at: SystemTime,
    /// When it ended.
    pub ended_at: Option<SystemTime>,
    /// Owners that took part.
    pub owners: u64,
    /// Whether some device holds units of it.
    pub leased: bool,
}

/// A unit that has its verdict.
#[derive(Debug, Clone)]
pub struct UnitRow {
    /// Its stage.
    pub stage: Stage,
    /// The number of that in the database.
    pub stage_number: i16,
    /// Its index.
    pub index: u64,
    /// What was decided.
    pub outcome: Outcome,
    /// Of the result or message.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// The result or message, when small.
    pub result: Option<Vec<u8>>,
    /// Attempts that agreed.
    pub agreeing: u32,
    /// Attempts in all.
    pub attempts: u32,
}

/// An accepted result that another unit takes.
#[derive(Debug, Clone)]
pub struct PartRow {
    /// Index of the unit that returned it.
    pub index: u64,
    /// What it is.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// The result, when small.
    pub content: Option<Vec<u8>>,
}

const VIEW: &str = "SELECT {columns}, submitter.name AS submitter, code, decimals, job.created_at, job.ended_at,
        (SELECT count(*) FROM job_owner WHERE job_id = job.id) AS owners,
        EXISTS (SELECT FROM lease WHERE job_id = job.id AND NOT expired) AS leased
    FROM job JOIN submitter ON submitter.id = job.submitter_id JOIN currency ON currency.number = job.currency";

fn view(row: &Row) -> Result<JobView, Error> {
    let (message, _) = rows::spec(row)?;
    Ok(JobView {
        job: rows::job(row)?,
        currency: currencies::currency(row)?,
        message,
        submitter: row.try_get("submitter")?,
        created_at: row.try_get("created_at")?,
        ended_at: row.try_get("ended_at")?,
        owners: From("job_owner").count(row, "owners")?,
        leased: row.try_get("leased")?,
    })
}

fn view_sql(rest: &str) -> String {
    VIEW.replace("{columns}", rows::JOB_COLUMNS) + rest
}

impl Store {
    /// Accepts a job and moves its budget into escrow. The same request id gives the same job, and whether
    /// it was there already.
    ///
    /// # Errors
    /// When the balance does not cover the budget, the request id was used for something else, or the
    /// submitter has not uploaded one of the blobs.
    pub async fn create_job(&self, new: &NewJob) -> Result<(JobId, Aftermath), Error> {
        let spec = new.message.encode_to_vec();
        let blobs = blobs_of(&new.spec);
        run_tx!(self.pool, "create_job", tx => {
            let available = lock_free(tx, new.submitter, new.currency.id).await?;
            let same = "SELECT id, spec, currency FROM job WHERE submitter_id = $1 AND request_id = $2";
            if let Some(row) = tx.query_opt(same, &[&new.submitter.0, &new.request_id]).await? {
                let mut known = v1::JobSpec::decode(row.try_get::<_, &[u8]>("spec")?)
                    .map_err(|error| From("job").wrong("spec", error))?;
                if new.has_default_budget {
                    // It follows from who was there then.
                    known.budget.clone_from(&new.message.budget);
                }
                if known.currency.is_empty() {
                    // From before a job named one.
                    known.currency.clone_from(&new.message.currency);
                }
                let currency = From("job").currency(&row, "currency")?;
                if known != new.message || currency != new.currency.id {
                    return Err(Error::RequestReused(new.request_id.clone()));
                }
                return Ok((JobId(row.try_get("id")?), Aftermath::default()));
            }
            let granted = "SELECT count(*) FROM blob_grant WHERE submitter_id = $1 AND digest = ANY($2)";
            let digests: Vec<&[u8]> = blobs.iter().map(|digest| digest.as_bytes().as_slice()).collect();
            let granted: i64 = tx.query_one(granted, &[&new.submitter.0, &digests]).await?.try_get(0)?;
            if bigint(blobs.len() as u64) != granted {
                return Err(Error::NotFound("uploaded blob"));
            }
            if available < new.budget {
                return Err(insufficient(tx, new.submitter, new.currency.id, new.budget).await?);
            }
            let insert = "INSERT INTO job (submitter_id, request_id, spec, order_key, priority, item_price,
                    service_price, budget, state, items, stage, stage_units, max_error, max_answer_error, wish_copies, fee_millionths, currency, service_owners)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, $10, $11, $12, $13, $14, $15, $16, $17) RETURNING id";
            let plan = new.spec.plan(new.items);
            let stage = plan.first_stage();
            let parameters: [&(dyn ToSql + Sync); 17] = [
                &new.submitter.0,
                &new.request_id,
                &spec,
                &new.order_key.as_slice(),
                &new.spec.priority,
                &new.prices.item.decimal(),
                &new.prices.service.decimal(),
                &new.budget.decimal(),
                &bigint(new.items),
                &stage_number(stage, 0),
                &bigint(plan.units(stage)),
                &bigint(new.spec.max_error.number()),
                &bigint(new.spec.max_answer_error.number()),
                &bigint(if new.strangers > 0 { new.copies.number() } else { 0 }),
                &i32::try_from(new.fee.millionths()).unwrap_or(i32::MAX),
                &new.currency.id.number(),
                &i32::try_from(new.service_owners).unwrap_or(i32::MAX),
            ];
            let id: i64 = tx.query_one(insert, &parameters).await?.try_get(0)?;
            let escrow = AccountId::new(new.currency.id, AccountKind::Escrow, id).number();
            tx.execute("INSERT INTO account (id) VALUES ($1)", &[&escrow]).await?;
            write_transfers(tx, &[Transfer::escrow(new.currency.id, id, new.submitter.0, new.budget)]).await?;
            let id = JobId(id);
            Ok((id, Aftermath { changed: [id].into(), new_work: true, ..Aftermath::default() }))
        })
    }

    /// One job, if the submitter may see it; any job when no submitter is given.
    ///
    /// # Errors
    /// When there is none.
    pub async fn job(&self, id: JobId, submitter: Option<SubmitterId>) -> Result<JobView, Error> {
        run_tx!(self.pool, "job", tx => {
            let select = view_sql(" WHERE job.id = $1 AND ($2::bigint IS NULL OR job.submitter_id = $2)");
            let row = tx.query_opt(&select, &[&id.0, &submitter.map(|s| s.0)]).await?;
            view(&row.ok_or(Error::NotFound("job"))?)
        })
    }

    /// Jobs with numbers below `before`, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn jobs(
        &self,
        submitter: Option<SubmitterId>,
        before: JobId,
        limit: i64,
    ) -> Result<Vec<JobView>, Error> {
        run_tx!(self.pool, "jobs", tx => {
            let select = view_sql(
                " WHERE job.id < $1 AND ($2::bigint IS NULL OR job.submitter_id = $2) ORDER BY job.id DESC LIMIT $3",
            );
            let rows = tx.query(&select, &[&before.0, &submitter.map(|s| s.0), &limit]).await?;
            rows.iter().map(view).collect()
        })
    }

    /// Ends a job for its submitter.
    ///
    /// # Errors
    /// When there is none.
    pub async fn cancel_job(&self, id: JobId) -> Result<Aftermath, Error> {
        self.change_job("cancel_job", id, Job::cancel).await
    }

    /// Continues, or ends, a job whose split was counted: (items, or what is wrong with the split's result).
    ///
    /// # Errors
    /// When there is no such job, or the database fails.
    pub async fn split_counted(
        &self,
        id: JobId,
        items: Result<u64, String>,
        spec: &Spec,
    ) -> Result<Aftermath, Error> {
        self.change_job("split_counted", id, |job| {
            if job.stage_units != 0 || job.state != crate::core::JobState::Running {
                return crate::core::Changes::default();
            }
            match &items {
                Ok(items) => job.split_counted(spec.plan(*items)),
                Err(problem) => job.split_unreadable(problem),
            }
        })
        .await
    }

    /// Jobs whose split has returned and was not counted yet.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn uncounted(&self) -> Result<Vec<JobId>, Error> {
        run_tx!(self.pool, "uncounted", tx => {
            let rows = tx.query("SELECT id FROM job WHERE state = 1 AND stage_units = 0", &[]).await?;
            rows.iter().map(|row| Ok(JobId(row.try_get(0)?))).collect()
        })
    }

    /// Units with a verdict, after (stage, index): accepted work units, or failed units of any stage.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn units(
        &self,
        job: JobId,
        failed: bool,
        after: (i16, i64),
        limit: i64,
    ) -> Result<Vec<UnitRow>, Error> {
        run_tx!(self.pool, "units", tx => {
            let running = "(stage <= 1 OR stage / 256 = (SELECT round FROM job WHERE id = $1))";
            let failed_ones = format!("outcome <> 1 AND {running}");
            let filter = if failed { failed_ones.as_str() } else { "outcome = 1 AND stage = 1" };
            let select = format!(
                "SELECT stage, idx, outcome, digest, size_bytes, agreeing, attempts, {RESULT}
                 FROM standing_verdict AS verdict WHERE job_id = $1 AND {filter} AND (stage, idx) > ($2, $3) ORDER BY stage, idx LIMIT $4"
            );
            let from = From("verdict");
            let small = |row: &Row, column| row.try_get::<_, i32>(column).map(|n| u32::try_from(n).unwrap_or(0));
            let rows = tx.query(&select, &[&job.0, &after.0, &after.1, &limit]).await?;
            rows.iter()
                .map(|row| {
                    Ok(UnitRow {
                        stage: from.stage(row, "stage")?,
                        stage_number: row.try_get("stage")?,
                        index: from.count(row, "idx")?,
                        outcome: from.outcome(row, "outcome")?,
                        digest: from.digest(row, "digest")?,
                        size_bytes: from.count(row, "size_bytes")?,
                        result: row.try_get("result")?,
                        agreeing: small(row, "agreeing")?,
                        attempts: small(row, "attempts")?,
                    })
                })
                .collect()
        })
    }

    /// Accepted results of a range of units, in order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn parts(
        &self,
        job: JobId,
        stage: Stage,
        range: std::ops::Range<u64>,
    ) -> Result<Vec<PartRow>, Error> {
        run_tx!(self.pool, "parts", tx => {
            let select = format!(
                "SELECT idx, digest, size_bytes, {RESULT} FROM standing_verdict AS verdict
                 WHERE job_id = $1 AND stage = $2::smallint + 256 * CASE WHEN $2 > 1 THEN (SELECT round FROM job WHERE id = $1) ELSE 0 END
                   AND idx >= $3 AND idx < $4 AND outcome = 1 ORDER BY idx"
            );
            let parameters: [&(dyn ToSql + Sync); 4] =
                [&job.0, &stage_number(stage, 0), &bigint(range.start), &bigint(range.end)];
            let from = From("verdict");
            let rows = tx.query(&select, &parameters).await?;
            rows.iter()
                .map(|row| {
                    Ok(PartRow {
                        index: from.count(row, "idx")?,
                        digest: from.digest(row, "digest")?,
                        size_bytes: from.count(row, "size_bytes")?,
                        content: row.try_get("result")?,
                    })
                })
                .collect()
        })
    }

    /// Notes that a blob is durable, and who may use it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_blob(&self, digest: Digest, size_bytes: u64, uploader: Uploader) -> Result<(), Error> {
        run_tx!(self.pool, "add_blob", tx => {
            let bytes = digest.as_bytes().as_slice();
            let insert = "INSERT INTO blob (digest, size_bytes) VALUES ($1, $2) ON CONFLICT DO NOTHING";
            tx.execute(insert, &[&bytes, &bigint(size_bytes)]).await?;
            match uploader {
                Uploader::Submitter(id) => {
                    let grant = "INSERT INTO blob_grant (submitter_id, digest) VALUES ($1, $2) ON CONFLICT DO NOTHING";
                    tx.execute(grant, &[&id.0, &bytes]).await?
                }
                Uploader::Device(id, job) => {
                    let upload = "INSERT INTO upload (job_id, device_id, digest)
                        SELECT id, $2, $3 FROM job WHERE id = $1 AND state = 1 ON CONFLICT DO NOTHING";
                    tx.execute(upload, &[&job.0, &id.0, &bytes]).await?
                }
            };
            Ok(())
        })
    }

    /// Whether a submitter has uploaded each of these.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn missing_blobs(
        &self,
        submitter: SubmitterId,
        digests: &[Digest],
    ) -> Result<Vec<Digest>, Error> {
        run_tx!(self.pool, "missing_blobs", tx => {
            let select = "SELECT digest FROM blob_grant WHERE submitter_id = $1 AND digest = ANY($2)";
            let bytes: Vec<&[u8]> = digests.iter().map(|digest| digest.as_bytes().as_slice()).collect();
            let rows = tx.query(select, &[&submitter.0, &bytes]).await?;
            let known: std::collections::BTreeSet<Digest> =
                rows.iter().map(|row| From("blob_grant").digest(row, "digest")).collect::<Result<_, _>>()?;
            Ok(digests.iter().copied().filter(|digest| !known.contains(digest)).collect())
        })
    }

    /// A lease of this device, with its job.
    ///
    /// # Errors
    /// When the device has no such lease.
    pub async fn lease(&self, token: i64, device: DeviceId) -> Result<(Lease, JobView), Error> {
        let lease = run_tx!(self.pool, "lease", tx => {
            let select = "SELECT * FROM lease WHERE token = $1 AND device_id = $2";
            let row = tx.query_opt(select, &[&token, &device.0]).await?.ok_or(Error::NotFound("lease"))?;
            super::batch::lease(&row)
        })?;
        let view = self.job(lease.job, None).await?;
        Ok((lease, view))
    }
}

/// The small result that a verdict names: it lies with the first attempt that returned it.
const RESULT: &str = "(SELECT attempt.result FROM attempt
    WHERE attempt.job_id = verdict.job_id AND attempt.stage = verdict.stage AND attempt.idx = verdict.idx
      AND attempt.digest = verdict.digest AND attempt.result IS NOT NULL LIMIT 1) AS result";

/// Every blob that a job needs, each once.
fn blobs_of(spec: &Spec) -> std::collections::BTreeSet<Digest> {
    let mut blobs: std::collections::BTreeSet<Digest> =
        spec.inputs.iter().map(|input| input.digest).collect();
    blobs.insert(spec.module.digest);
    match &spec.split {
        lull_job::Split::Lines(file) => {
            blobs.insert(file.digest);
        }
        lull_job::Split::Files(files) => blobs.extend(files.iter().map(|file| file.digest)),
        lull_job::Split::Range { .. } | lull_job::Split::Grid(_) | lull_job::Split::Module => {}
    }
    blobs
}
