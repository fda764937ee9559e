//! Rows as messages.

use std::time::SystemTime;

use lull_job::{Share, Stage, stage_to_proto};
use lull_ledger::{Amount, Currency, CurrencyId};
use lull_proto::v1;

use crate::core::{Copies, Job, JobState, Outcome};
use crate::store::{GridCurrency, JobView, UnitRow};

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

/// A currency of the grid.
pub(super) fn currency(GridCurrency { id, currency }: GridCurrency) -> v1::Currency {
    v1::Currency {
        code: currency.to_string(),
        decimals: currency.decimals(),
        default: id == CurrencyId::DEFAULT,
    }
}

/// A job as its submitter sees it.
pub(super) fn job(view: JobView, liars: Share) -> v1::Job {
    let JobView { job, currency, mut message, submitter, created_at, ended_at, owners, leased } = view;
    // Jobs from before a job named one are in the default.
    message.currency = currency.to_string();
    let state = match job.state {
        JobState::Running => v1::JobState::Running,
        JobState::Complete => v1::JobState::Complete,
        JobState::Incomplete => v1::JobState::Incomplete,
        JobState::Cancelled => v1::JobState::Cancelled,
    };
    v1::Job {
        name: format!("jobs/{}", job.id),
        state: state.into(),
        settled: job.settled,
        reason: reason(&job, currency, leased),
        create_time: Some(timestamp(created_at)),
        complete_time: ended_at.map(timestamp),
        submitter: format!("submitters/{submitter}"),
        progress: Some(progress(&job, owners)),
        costs: Some(costs(&job)),
        projection: projection(&job),
        answer: job.answer.filter(|_| job.state == JobState::Complete).map(|answer| v1::Input {
            name: "answer".to_owned(),
            digest: answer.digest.as_bytes().to_vec(),
            size_bytes: answer.size_bytes,
        }),
        confidence: job.buys_confidence().then(|| v1::Confidence {
            doubtful_units: job.doubtful,
            ..confidence(job.wish_copies, liars, owners.max(OWNERS_MIN), job.plan.work_units())
        }),
        revision: u32::from(job.round),
        strict: job.strict,
        spec: Some(message),
    }
}

/// Nothing is verified by fewer.
const OWNERS_MIN: u64 = 2;

/// What copies mean for a job of so many owners and units.
pub(super) fn confidence(copies: Copies, liars: Share, owners: u64, units: u64) -> v1::Confidence {
    #[allow(clippy::cast_precision_loss, reason = "for people")]
    let all = units as f64;
    v1::Confidence {
        wrong_units: copies.expected_errors(liars, owners).min(all),
        copies: copies.as_f64(),
        assumed_liars: liars.as_f64(),
        doubtful_units: 0,
        work_units: units,
    }
}

/// Why a job stands still, or ended as it did.
fn reason(job: &Job, currency: Currency, leased: bool) -> String {
    let waits =
        if job.state == JobState::Running && !leased { waits_for(job, currency) } else { String::new() };
    let reasons = [job.reason.as_str(), &waits].into_iter().filter(|reason| !reason.is_empty());
    reasons.collect::<Vec<_>>().join("; ")
}

/// Why a job of which nobody has units stands still.
fn waits_for(job: &Job, currency: Currency) -> String {
    let reward = job.reward(job.stage, 0);
    if job.has_work() && job.leasable() < reward {
        if job.round > 0 {
            return "what there was to do it again with is used up: cancel it, and you have the answer from before"
                .to_owned();
        }
        return format!(
            "its budget of {} {currency} does not cover another attempt: cancel it, and submit it with a larger one",
            job.budget
        );
    }
    if job.wanted > 0 && job.beyond_frontier() == 0 {
        return format!(
            "{} units wait for a device of an owner that has not run them yet: enrol one of another owner",
            job.wanted
        );
    }
    if job.has_work() {
        return "no device has taken its units yet: is an agent running and free?".to_owned();
    }
    String::new()
}

fn progress(job: &Job, owners: u64) -> v1::Progress {
    let totals = job.totals;
    let running = job.state == JobState::Running;
    v1::Progress {
        stage: Some(stage_to_proto(job.stage)),
        units: job.plan.work_units() + job.plan.service_units().total(),
        units_accepted: totals.accepted,
        units_failed: totals.failed,
        units_running: if running { job.frontier - job.stage_accepted - job.stage_failed } else { 0 },
        attempts: totals.attempts,
        attempts_judged: totals.judged,
        cpu_micros: totals.cpu_micros,
        items_accepted: totals.items_accepted,
        owners,
    }
}

fn costs(job: &Job) -> v1::Costs {
    let expected = job.expected_cost(&job.plan).ok();
    v1::Costs {
        budget: job.budget.to_string(),
        spent: job.spent.to_string(),
        reserved: job.reserved.to_string(),
        refunded: job.refunded.to_string(),
        kept: if job.state == JobState::Running { Amount::ZERO } else { job.left() }.to_string(),
        expected: expected.as_ref().map(ToString::to_string).unwrap_or_default(),
        expected_fee: expected.map(|cost| job.fee.of(cost).to_string()).unwrap_or_default(),
        fee_percent: job.fee.to_string(),
    }
}

/// What the whole job of a pilot would take, by the attempts that have been made.
fn projection(job: &Job) -> Option<v1::Projection> {
    let whole = job.plan.whole();
    let units = whole.whole_units();
    if job.plan.work_units() == units || job.totals.work_attempts == 0 {
        return None;
    }
    let scaled =
        u128::from(job.totals.work_cpu_micros) * u128::from(units) / u128::from(job.totals.work_attempts);
    let one_copy = u64::try_from(scaled).unwrap_or(u64::MAX);
    Some(v1::Projection {
        units,
        items: whole.items,
        cpu_micros_one_copy: one_copy,
        cpu_micros: job.copies_on_average().times(one_copy),
        cost: job.expected_cost(&whole).map(|cost| cost.to_string()).unwrap_or_default(),
    })
}

/// A decided unit.
pub(super) fn unit(row: UnitRow, job: &Job) -> v1::DecidedUnit {
    let outcome = match row.outcome {
        Outcome::Result => v1::Outcome::Result,
        Outcome::GuestFailed => v1::Outcome::GuestFailed,
        Outcome::Limit => v1::Outcome::Limit,
        Outcome::Undecidable => v1::Outcome::Unspecified,
    };
    let undecidable = || format!("{} owners did not agree on a result", row.attempts).into_bytes();
    v1::DecidedUnit {
        stage: Some(stage_to_proto(row.stage)),
        index: row.index,
        number: if row.stage == Stage::Work { job.plan.number(row.index) } else { row.index },
        outcome: outcome.into(),
        digest: row.digest.as_bytes().to_vec(),
        size_bytes: row.size_bytes,
        result: if row.outcome == Outcome::Undecidable {
            undecidable()
        } else {
            row.result.unwrap_or_default()
        },
        agreeing: row.agreeing,
        attempts: row.attempts,
    }
}
