//! What devices get receipts for: postings, each all that one transaction paid one device. A posting is named by the
//! number of its transaction. Nothing of a receipt is stored: it is computed from the transfers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use deadpool_postgres::Transaction;
use lull_ledger::{Amount, Code};
use tokio_postgres::Row;

use super::rows::{From, bigint};
use super::{Error, Store, run_tx};
use crate::core::{Changes, DeviceId, JobId, OwnerId, Slice, UnitKey, stage_of_number};

/// Postings that are looked at for one answer, beside those that the device has.
const POSTINGS_LOOKED_AT: usize = 2_000;
/// Postings in one answer: their transactions are read as a whole.
const POSTINGS_PER_ANSWER: usize = 64;
/// No further posting is added to an answer of so many lines.
const LINES_PER_ANSWER: usize = 20_000;

/// What one transaction paid one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posting {
    /// The number of the transaction.
    pub number: u64,
    /// Whom it paid.
    pub device: DeviceId,
    /// The time of its transfers.
    pub time: SystemTime,
    /// What for; ordered.
    pub lines: Vec<PostingLine>,
}

/// Pay for one attempt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PostingLine {
    /// The job.
    pub job: JobId,
    /// Number of the stage, as transfers have it: each time that a job is begun again, what is made from its work has new ones.
    pub stage: i16,
    /// Index of the unit.
    pub index: u64,
    /// How much.
    pub amount: Amount,
    /// Why it was taken back since; empty when it was not, or nobody looked.
    pub taken_back: String,
}

/// Number and time of a transaction that paid somebody.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    number: u64,
    time: SystemTime,
}

/// What a device lacks.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// Name of its owner.
    pub owner: String,
    /// Postings that it does not have, in order.
    pub postings: Vec<Posting>,
    /// With them it has all up to this number.
    pub through: u64,
    /// Whether there are more.
    pub more: bool,
}

impl Store {
    /// Makes a coordinator's public key known.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_coordinator_key(&self, key: &[u8; 32]) -> Result<(), Error> {
        run_tx!(self.pool, "add_coordinator_key", tx => {
            let insert = "INSERT INTO coordinator_key (public_key) VALUES ($1) ON CONFLICT DO NOTHING";
            tx.execute(insert, &[&key.as_slice()]).await?;
            Ok(())
        })
    }

    /// Public keys of all coordinators of this grid, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn coordinator_keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        run_tx!(self.pool, "coordinator_keys", tx => {
            let rows = tx.query("SELECT public_key FROM coordinator_key ORDER BY created_at, public_key", &[]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
    }

    /// Number and head of the last seal, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_head(&self) -> Result<Option<(u64, Vec<u8>)>, Error> {
        run_tx!(self.pool, "last_head", tx => {
            let select = "SELECT number, head FROM seal ORDER BY number DESC LIMIT 1";
            let row = tx.query_opt(&tx.prepare_cached(select).await?, &[]).await?;
            row.map(|row| Ok((From("seal").count(&row, "number")?, row.try_get("head")?))).transpose()
        })
    }

    /// Postings that a device does not have: neither up to `through` nor among `held`.
    ///
    /// # Errors
    /// When there is no such device, or the database fails.
    pub async fn lacking_receipts(
        &self,
        device: DeviceId,
        owner: OwnerId,
        through: u64,
        held: &BTreeSet<u64>,
    ) -> Result<Lacking, Error> {
        run_tx!(self.reading_pool, "lacking_receipts", tx => {
            let name = "SELECT name, pg_snapshot_xmin(pg_current_snapshot())::text AS bound FROM owner WHERE id = $1";
            let row = tx.query_opt(&tx.prepare_cached(name).await?, &[&owner.0]).await?.ok_or(Error::NotFound("owner"))?;
            // Nothing can come in below it any more. It is read first: what comes meanwhile is beyond it.
            let bound = number(&row, "bound")?.saturating_sub(1);
            let limit = POSTINGS_LOOKED_AT + held.len();
            let numbers = posting_numbers(tx, device, through, limit).await?;
            let is_cut = numbers.len() == limit;
            let last = numbers.last().copied();
            let mut lacking = numbers.into_iter().filter(|number| !held.contains(number)).peekable();
            let (mut postings, mut lines) = (Vec::new(), 0);
            while postings.len() < POSTINGS_PER_ANSWER && lines < LINES_PER_ANSWER
                && let Some(number) = lacking.next()
            {
                let posting = posting(tx, device, owner, number, "''").await?;
                lines += posting.lines.len();
                postings.push(posting);
            }
            let end = match (lacking.peek(), last) {
                (Some(next), _) => next.saturating_sub(1),
                (None, Some(last)) if is_cut => last,
                (None, _) => bound,
            };
            let more = is_cut || lacking.peek().is_some();
            Ok(Lacking { owner: row.try_get("name")?, postings, through: end.min(bound).max(through), more })
        })
    }

    /// What a device was paid in postings after this one, and what of it was taken back since; some of it, and
    /// whether there is more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn device_pay(
        &self,
        device: DeviceId,
        owner: OwnerId,
        after: u64,
    ) -> Result<(Vec<Posting>, bool), Error> {
        run_tx!(self.reading_pool, "device_pay", tx => {
            let numbers = posting_numbers(tx, device, after, POSTINGS_PER_ANSWER).await?;
            let (mut postings, mut lines) = (Vec::new(), 0);
            for number in &numbers {
                if lines >= LINES_PER_ANSWER {
                    break;
                }
                let posting = posting(tx, device, owner, *number, TAKEN_BACK).await?;
                lines += posting.lines.len();
                postings.push(posting);
            }
            let more = numbers.len() == POSTINGS_PER_ANSWER || postings.len() < numbers.len();
            Ok((postings, more))
        })
    }
}

fn number(row: &Row, column: &'static str) -> Result<u64, Error> {
    row.try_get::<_, &str>(column)?.parse().map_err(|error| From("posting").wrong("xid", error))
}

async fn posting_numbers(
    tx: &Transaction<'_>,
    device: DeviceId,
    after: u64,
    limit: usize,
) -> Result<Vec<u64>, Error> {
    let select =
        "SELECT xid::text FROM posting WHERE device_id = $1 AND xid > $2::text::xid8 ORDER BY xid LIMIT $3";
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&device.0, &after.to_string(), &bigint(limit as u64)];
    let rows = tx.query(&tx.prepare_cached(select).await?, &parameters).await?;
    rows.iter().map(|row| number(row, "xid")).collect()
}

/// Why a reward was taken back. It is forfeited with all that was held back when its owner was caught.
const TAKEN_BACK: &str = "coalesce(
    (SELECT 'reversed: ' || reversal.reason FROM reversal WHERE reversal.code = 3 AND reversal.job_id = transfer.job_id
       AND reversal.stage = transfer.stage AND reversal.idx = transfer.idx AND reversal.attempt = transfer.attempt),
    (SELECT 'forfeited: ' || coalesce((
         SELECT 'its owner ' || catch.reason FROM held JOIN catch ON catch.owner_id = held.owner_id
           AND held.seq > catch.from_seq AND held.seq <= catch.to_seq
         WHERE held.owner_id = transfer.attempt AND held.job_id = transfer.job_id AND held.stage = transfer.stage
           AND held.idx = transfer.idx ORDER BY catch.id LIMIT 1), 'no reason is known')
     FROM transfer AS forfeit WHERE forfeit.code = 6 AND forfeit.job_id = transfer.job_id
       AND forfeit.stage = transfer.stage AND forfeit.idx = transfer.idx AND forfeit.attempt = transfer.attempt), '')";

async fn posting(
    tx: &Transaction<'_>,
    device: DeviceId,
    owner: OwnerId,
    number: u64,
    taken_back: &str,
) -> Result<Posting, Error> {
    let select = format!(
        "SELECT transfer.job_id, transfer.stage, transfer.idx, transfer.amount, transfer.created_at,
             {taken_back} AS taken_back
         FROM transfer JOIN attempt ON attempt.job_id = transfer.job_id AND attempt.stage = transfer.stage
           AND attempt.idx = transfer.idx AND attempt.owner_id = transfer.attempt
         WHERE transfer.xid = $1::text::xid8 AND transfer.code = 3 AND transfer.attempt = $2 AND attempt.device_id = $3
         ORDER BY transfer.job_id, transfer.stage, transfer.idx"
    );
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
        [&number.to_string(), &owner.0, &device.0];
    let rows = tx.query(&tx.prepare_cached(&select).await?, &parameters).await?;
    let from = From("transfer");
    let line = |row: &Row| {
        Ok::<_, Error>(PostingLine {
            job: JobId(row.try_get("job_id")?),
            stage: row.try_get("stage")?,
            index: from.count(row, "idx")?,
            amount: from.amount(row, "amount")?,
            taken_back: row.try_get("taken_back")?,
        })
    };
    Ok(Posting {
        number,
        device,
        // A posting without transfers is a fault of the books, and is told as it is.
        time: rows.first().map_or(Ok(SystemTime::UNIX_EPOCH), |row| row.try_get("created_at"))?,
        lines: rows.iter().map(line).collect::<Result<_, _>>()?,
    })
}

/// Notes whom this transaction pays.
pub(super) async fn write_postings(tx: &Transaction<'_>, changes: &Changes) -> Result<Option<Stamp>, Error> {
    if changes.earned.is_empty() {
        return Ok(None);
    }
    let insert =
        "INSERT INTO posting (device_id) SELECT unnest($1::bigint[]) RETURNING xid::text, now() AS time";
    let devices: Vec<i64> = changes.earned.keys().map(|device| device.0).collect();
    let rows = tx.query(&tx.prepare_cached(insert).await?, &[&devices]).await?;
    let stamp = |row: &Row| Ok(Stamp { number: number(row, "xid")?, time: row.try_get("time")? });
    rows.first().map(stamp).transpose()
}

/// What a batch paid each device.
pub(super) fn postings(slice: &Slice, changes: &Changes, stamp: Option<Stamp>) -> Vec<Posting> {
    let Some(Stamp { number, time }) = stamp else { return Vec::new() };
    let mut paid: BTreeMap<DeviceId, Vec<PostingLine>> = BTreeMap::new();
    for transfer in changes.transfers.iter().filter(|transfer| transfer.code == Code::Reward) {
        let key = transfer.key;
        let Some(stage) = stage_of_number(key.stage) else { continue };
        let (job, index) = (JobId(key.job), key.index.unsigned_abs());
        let unit = UnitKey { job, stage, index };
        let attempts = slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        if let Some(attempt) = attempts.iter().find(|attempt| attempt.owner.0 == key.attempt) {
            let (stage, amount) = (key.stage, transfer.amount);
            let line = PostingLine { job, stage, index, amount, taken_back: String::new() };
            paid.entry(attempt.device).or_default().push(line);
        }
    }
    let posting = |(device, mut lines): (_, Vec<PostingLine>)| {
        lines.sort_unstable();
        Posting { number, device, time, lines }
    };
    paid.into_iter().map(posting).collect()
}
