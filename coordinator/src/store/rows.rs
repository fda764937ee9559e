//! Rows become domain values, or a typed error that names table and column.

use lull_job::{Digest, Plan, Spec, Stage};
use lull_ledger::{Amount, CurrencyId, FeeRate};
use lull_proto::v1;
use prost::Message;
use rust_decimal::Decimal;
use tokio_postgres::Row;

use super::Error;
use crate::core::{
    Answer, Attempt, Copies, DeviceId, Job, JobId, JobState, Outcome, OwnerId, Prices, RunMode,
    SERVICE_OWNERS_MIN, Share, SubmitterId, Totals, stage_of_number,
};

/// Columns of a job, in the order that [`job`] reads them.
pub(super) const JOB_COLUMNS: &str = "job.id, job.submitter_id, job.spec, job.order_key, job.priority, \
    job.item_price, job.service_price, job.budget, job.state, job.reason, job.items, job.stage, job.stage_units, \
    job.frontier, job.stage_accepted, job.stage_failed, job.wanted, job.unit_micros, job.reserved, job.spent, \
    job.accepted, job.failed, job.attempts, job.judged, job.cpu_micros, job.work_cpu_micros, job.work_attempts, \
    job.items_accepted, job.answer_digest, job.answer_bytes, \
    job.checkpointed, job.max_error, job.max_answer_error, job.wish_copies, job.strict, job.reviewed, job.doubtful, \
    job.fee_millionths, job.round, job.granted, job.own, job.refunded, job.settled, job.currency, job.service_owners";

pub(super) fn job_state_code(state: JobState) -> i16 {
    match state {
        JobState::Running => 1,
        JobState::Complete => 2,
        JobState::Incomplete => 3,
        JobState::Cancelled => 4,
    }
}

pub(super) fn outcome_code(outcome: Outcome) -> i16 {
    match outcome {
        Outcome::Result => 1,
        Outcome::GuestFailed => 2,
        Outcome::Limit => 3,
        Outcome::Undecidable => 4,
    }
}

/// Counts and indexes are at most `i64::MAX` by the limits on a job.
pub(super) fn bigint(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// One table's rows, for errors that say where they come from.
#[derive(Clone, Copy)]
pub(super) struct From(pub(super) &'static str);

impl From {
    pub(super) fn wrong(self, column: &'static str, problem: impl ToString) -> Error {
        Error::Inconsistent { table: self.0, column, problem: problem.to_string() }
    }

    pub(super) fn count(self, row: &Row, column: &'static str) -> Result<u64, Error> {
        let value: i64 = row.try_get(column)?;
        u64::try_from(value).map_err(|_| self.wrong(column, value))
    }

    pub(super) fn amount(self, row: &Row, column: &'static str) -> Result<Amount, Error> {
        let value: Decimal = row.try_get(column)?;
        Amount::new(value).map_err(|error| self.wrong(column, error))
    }

    pub(super) fn currency(self, row: &Row, column: &'static str) -> Result<CurrencyId, Error> {
        let number: i16 = row.try_get(column)?;
        CurrencyId::from_number(number).ok_or_else(|| self.wrong(column, number))
    }

    pub(super) fn digest(self, row: &Row, column: &'static str) -> Result<Digest, Error> {
        let value: &[u8] = row.try_get(column)?;
        Digest::try_from(value).map_err(|error| self.wrong(column, error))
    }

    pub(super) fn stage(self, row: &Row, column: &'static str) -> Result<Stage, Error> {
        let value: i16 = row.try_get(column)?;
        stage_of_number(value).ok_or_else(|| self.wrong(column, value))
    }

    pub(super) fn outcome(self, row: &Row, column: &'static str) -> Result<Outcome, Error> {
        match row.try_get::<_, i16>(column)? {
            1 => Ok(Outcome::Result),
            2 => Ok(Outcome::GuestFailed),
            3 => Ok(Outcome::Limit),
            4 => Ok(Outcome::Undecidable),
            other => Err(self.wrong(column, other)),
        }
    }
}

/// The spec of a job, as it was submitted.
pub(super) fn spec(row: &Row) -> Result<(v1::JobSpec, Spec), Error> {
    let from = From("job");
    let message =
        v1::JobSpec::decode(row.try_get::<_, &[u8]>("spec")?).map_err(|error| from.wrong("spec", error))?;
    let spec = Spec::check(&message).map_err(|error| from.wrong("spec", error))?;
    Ok((message, spec))
}

/// A job with its plan.
pub(super) fn job(row: &Row) -> Result<Job, Error> {
    let from = From("job");
    let (_, spec) = spec(row)?;
    let plan: Plan = spec.plan(from.count(row, "items")?);
    let state = match row.try_get::<_, i16>("state")? {
        1 => JobState::Running,
        2 => JobState::Complete,
        3 => JobState::Incomplete,
        4 => JobState::Cancelled,
        other => return Err(from.wrong("state", other)),
    };
    let answer = match row.try_get::<_, Option<&[u8]>>("answer_digest")? {
        None => None,
        Some(_) => Some(Answer {
            digest: from.digest(row, "answer_digest")?,
            size_bytes: from.count(row, "answer_bytes")?,
        }),
    };
    let key: &[u8] = row.try_get("order_key")?;
    Ok(Job {
        id: JobId(row.try_get("id")?),
        submitter: SubmitterId(row.try_get("submitter_id")?),
        state,
        reason: row.try_get("reason")?,
        key: key.try_into().map_err(|error| from.wrong("order_key", error))?,
        priority: row.try_get("priority")?,
        copies: spec.copies,
        max_error: Share::parts(from.count(row, "max_error")?),
        max_answer_error: Share::parts(from.count(row, "max_answer_error")?),
        wish_copies: Copies::from_number(from.count(row, "wish_copies")?),
        service_owners: u32::try_from(row.try_get::<_, i32>("service_owners")?).unwrap_or(SERVICE_OWNERS_MIN),
        strict: row.try_get("strict")?,
        reviewed: row.try_get("reviewed")?,
        doubtful: from.count(row, "doubtful")?,
        round: u16::try_from(row.try_get::<_, i16>("round")?).unwrap_or(0),
        settled: row.try_get("settled")?,
        allow_missing: spec.allow_missing,
        result_bytes_max: spec.limits.result_bytes,
        memory_bytes_max: spec.limits.memory_bytes,
        checkpointed: row.try_get("checkpointed")?,
        plan,
        stage: from.stage(row, "stage")?,
        stage_units: from.count(row, "stage_units")?,
        frontier: from.count(row, "frontier")?,
        stage_accepted: from.count(row, "stage_accepted")?,
        stage_failed: from.count(row, "stage_failed")?,
        wanted: from.count(row, "wanted")?,
        unit_micros: from.count(row, "unit_micros")?,
        currency: from.currency(row, "currency")?,
        prices: Prices { item: from.amount(row, "item_price")?, service: from.amount(row, "service_price")? },
        fee: u32::try_from(row.try_get::<_, i32>("fee_millionths")?)
            .map_err(|error| from.wrong("fee_millionths", error))
            .and_then(|fee| {
                FeeRate::from_millionths(fee).map_err(|error| from.wrong("fee_millionths", error))
            })?,
        budget: from.amount(row, "budget")?,
        granted: from.amount(row, "granted")?,
        own: from.amount(row, "own")?,
        refunded: from.amount(row, "refunded")?,
        reserved: from.amount(row, "reserved")?,
        spent: from.amount(row, "spent")?,
        totals: Totals {
            accepted: from.count(row, "accepted")?,
            failed: from.count(row, "failed")?,
            attempts: from.count(row, "attempts")?,
            judged: from.count(row, "judged")?,
            cpu_micros: from.count(row, "cpu_micros")?,
            work_cpu_micros: from.count(row, "work_cpu_micros")?,
            work_attempts: from.count(row, "work_attempts")?,
            items_accepted: from.count(row, "items_accepted")?,
        },
        answer,
    })
}

/// An attempt, as far as judging needs it.
pub(super) fn attempt(row: &Row) -> Result<Attempt, Error> {
    let from = From("attempt");
    Ok(Attempt {
        owner: OwnerId(row.try_get("owner_id")?),
        device: DeviceId(row.try_get("device_id")?),
        outcome: from.outcome(row, "outcome")?,
        digest: from.digest(row, "digest")?,
        size_bytes: from.count(row, "size_bytes")?,
        origin: None,
        lineage: Vec::new(),
        witnessed: Vec::new(),
        mode: row
            .try_get::<_, Option<i16>>("mode")?
            .map_or(Ok(RunMode::Normal), |code| run_mode(from, code))?,
        strict: match row.try_get::<_, Option<i16>>("strict_outcome")? {
            None => None,
            Some(_) => Some((from.outcome(row, "strict_outcome")?, from.digest(row, "strict_digest")?)),
        },
        by_referee: row.try_get::<_, Option<bool>>("by_referee")?.unwrap_or(false),
        late: row.try_get::<_, Option<bool>>("late")?.unwrap_or(false),
        void: false,
        caught: false,
        settled: false,
        paid: false,
    })
}

pub(super) fn run_mode_code(mode: RunMode) -> i16 {
    match mode {
        RunMode::Normal => 1,
        RunMode::Strict => 2,
        RunMode::Referee => 3,
    }
}

pub(super) fn run_mode(from: From, code: i16) -> Result<RunMode, Error> {
    match code {
        1 => Ok(RunMode::Normal),
        2 => Ok(RunMode::Strict),
        3 => Ok(RunMode::Referee),
        other => Err(from.wrong("mode", other)),
    }
}
