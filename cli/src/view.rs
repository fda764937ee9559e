//! What `--output json` prints: structures of our own, so that scripts outlive changes of the wire.
//! Keys are snake_case, amounts exact decimals in strings, digests hexadecimal, times RFC 3339 in UTC.

use lull_proto::v1;
use serde::Serialize;

/// A job, as `jobs`, `submit`, `watch` and `cancel` print it.
#[derive(Debug, Serialize)]
pub(crate) struct Job {
    name: String,
    display_name: String,
    submitter: String,
    state: &'static str,
    settled: bool,
    revision: u32,
    strict: bool,
    reason: String,
    create_time: Option<String>,
    complete_time: Option<String>,
    module_digest: String,
    split: &'static str,
    reduce: &'static str,
    items_per_unit: u64,
    pilot_units: u64,
    copies: u32,
    priority: i32,
    allow_missing: bool,
    currency: String,
    item_price: String,
    service_price: String,
    progress: Progress,
    costs: Costs,
    projection: Option<Projection>,
    answer: Option<Blob>,
}

#[derive(Debug, Serialize)]
struct Progress {
    stage: String,
    units: u64,
    units_accepted: u64,
    units_failed: u64,
    units_running: u64,
    units_left: u64,
    attempts: u64,
    attempts_judged: u64,
    cpu_micros: u64,
    items_accepted: u64,
    owners: u64,
}

#[derive(Debug, Serialize)]
struct Costs {
    budget: String,
    spent: String,
    reserved: String,
    refunded: String,
    kept: String,
    expected: String,
    fee_percent: String,
    expected_fee: String,
}

#[derive(Debug, Serialize)]
struct Projection {
    units: u64,
    items: u64,
    cpu_micros_one_copy: u64,
    cpu_micros: u64,
    cost: String,
}

#[derive(Debug, Serialize)]
struct Blob {
    digest: String,
    size_bytes: u64,
}

impl From<&v1::Job> for Job {
    fn from(job: &v1::Job) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        Self {
            name: job.name.clone(),
            display_name: spec.display_name.clone(),
            submitter: job.submitter.clone(),
            state: job_state(job.state()),
            settled: job.settled,
            revision: job.revision,
            strict: job.strict,
            reason: job.reason.clone(),
            create_time: job.create_time.map(|time| time.to_string()),
            complete_time: job.complete_time.map(|time| time.to_string()),
            module_digest: hex::encode(spec.module.as_ref().map_or(&[][..], |module| &module.digest)),
            split: split(spec.split.as_ref()),
            reduce: reduce(spec.reduce()),
            items_per_unit: spec.items_per_unit,
            pilot_units: spec.pilot_units,
            copies: spec.copies,
            priority: spec.priority,
            allow_missing: spec.allow_missing,
            currency: spec.currency,
            item_price: spec.item_price,
            service_price: spec.service_price,
            progress: Progress::from(&job.progress.unwrap_or_default()),
            costs: Costs::from(job.costs.clone().unwrap_or_default()),
            projection: job.projection.clone().map(Projection::from),
            answer: job
                .answer
                .as_ref()
                .map(|answer| Blob { digest: hex::encode(&answer.digest), size_bytes: answer.size_bytes }),
        }
    }
}

impl From<&v1::Progress> for Progress {
    fn from(progress: &v1::Progress) -> Self {
        Self {
            stage: stage(progress.stage.as_ref()),
            units: progress.units,
            units_accepted: progress.units_accepted,
            units_failed: progress.units_failed,
            units_running: progress.units_running,
            units_left: units_left(progress),
            attempts: progress.attempts,
            attempts_judged: progress.attempts_judged,
            cpu_micros: progress.cpu_micros,
            items_accepted: progress.items_accepted,
            owners: progress.owners,
        }
    }
}

impl From<v1::Costs> for Costs {
    fn from(costs: v1::Costs) -> Self {
        let v1::Costs { budget, spent, reserved, refunded, kept, expected, fee_percent, expected_fee } =
            costs;
        Self { budget, spent, reserved, refunded, kept, expected, fee_percent, expected_fee }
    }
}

impl From<v1::Projection> for Projection {
    fn from(projection: v1::Projection) -> Self {
        let v1::Projection { units, items, cpu_micros_one_copy, cpu_micros, cost } = projection;
        Self { units, items, cpu_micros_one_copy, cpu_micros, cost }
    }
}

/// What a job's money is in.
pub(crate) fn currency(job: &v1::Job) -> &str {
    job.spec.as_ref().map_or("", |spec| &spec.currency)
}

/// Units that nobody has begun.
pub(crate) fn units_left(progress: &v1::Progress) -> u64 {
    let begun = progress.units_accepted + progress.units_failed + progress.units_running;
    progress.units.saturating_sub(begun)
}

/// A job's state as a word.
pub(crate) fn job_state(state: v1::JobState) -> &'static str {
    match state {
        v1::JobState::Unspecified => "unknown",
        v1::JobState::Running => "running",
        v1::JobState::Complete => "complete",
        v1::JobState::Incomplete => "incomplete",
        v1::JobState::Cancelled => "cancelled",
    }
}

/// A device's presence as a word.
pub(crate) fn presence(presence: v1::Presence) -> &'static str {
    match presence {
        v1::Presence::Unspecified | v1::Presence::Unknown => "unknown",
        v1::Presence::Active => "active",
        v1::Presence::Idle => "idle",
        v1::Presence::Dedicated => "dedicated",
    }
}

/// A stage as a word: `split`, `work`, `merge(2)`, `finish`.
pub(crate) fn stage(stage: Option<&v1::Stage>) -> String {
    lull_job::stage_from_proto(stage).map_or_else(|| "unknown".to_owned(), |stage| stage.to_string())
}

fn split(split: Option<&v1::Split>) -> &'static str {
    use v1::split::Kind;
    match split.and_then(|split| split.kind.as_ref()) {
        None => "unknown",
        Some(Kind::Range(_)) => "range",
        Some(Kind::Lines(_)) => "lines",
        Some(Kind::Files(_)) => "files",
        Some(Kind::Grid(_)) => "grid",
        Some(Kind::Module(_)) => "module",
    }
}

fn reduce(reduce: v1::Reduce) -> &'static str {
    match reduce {
        v1::Reduce::Unspecified | v1::Reduce::Tree => "tree",
        v1::Reduce::None => "none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_keeps_exact_amounts_and_hex_digests() {
        let job = v1::Job {
            name: "jobs/7".to_owned(),
            state: v1::JobState::Complete.into(),
            progress: Some(v1::Progress {
                stage: Some(v1::Stage { kind: v1::StageKind::Merge.into(), level: 2 }),
                units: 10,
                units_accepted: 4,
                units_running: 3,
                ..Default::default()
            }),
            costs: Some(v1::Costs { spent: "0.000000000001".to_owned(), ..Default::default() }),
            answer: Some(v1::Input { name: String::new(), digest: vec![0xab; 2], size_bytes: 9 }),
            ..Default::default()
        };
        let json = serde_json::to_value(Job::from(&job)).unwrap();
        assert_eq!(json["name"], "jobs/7");
        assert_eq!(json["state"], "complete");
        assert_eq!(json["progress"]["stage"], "merge(2)");
        assert_eq!(json["progress"]["units_left"], 3);
        assert_eq!(json["costs"]["spent"], "0.000000000001");
        assert_eq!(json["answer"]["digest"], "abab");
        assert!(json["projection"].is_null());
    }
}
