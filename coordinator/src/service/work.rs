//! For agents: enrolment, and the one call that carries everything else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lull_job::limits::{INLINE_RESULT_BYTES_MAX, MESSAGE_BYTES_MAX, RESULT_BYTES_MAX, UNIT_SECS_MAX};
use lull_job::{Digest, Spec, Split, Stage, stage_from_proto, stage_to_proto};
use lull_proto::v1::work_server::Work;
use lull_proto::v1::{self, RefusalReason};
use tonic::{Request, Response, Status};

use super::{Context, checkpoints, receipts, status};
use crate::auth::{self, Device};
use crate::core::{
    self, HandBack, JobId, Lease, LeaseToken, Network, Outcome, Report, RunMode, UnitKey, Want,
};
use crate::store::{DeviceEarned, Extras, PartRow};

/// A call is held no longer than this: proxies cut longer ones.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Leases that one call may ask for.
const LEASES_PER_CALL_MAX: u32 = 16;
/// Reports in one call.
const REPORTS_PER_CALL_MAX: usize = 10_000;
/// Held leases and hand-backs in one call.
const HELD_LEASES_MAX: usize = 1_000;
/// States that one attempt tells of: no more are ever asked for.
const WITNESSED_MAX: usize = 64;
/// A device's name.
const DISPLAY_NAME_BYTES_MAX: usize = 100;
/// Jobs whose specs are remembered.
const KNOWN_JOBS_MAX: usize = 10_000;

/// Serves `lull.v1.Work`.
pub struct WorkService {
    context: Context,
    jobs: Mutex<BTreeMap<JobId, Arc<Known>>>,
}

/// What leases of a job carry; it does not change once its items are known.
struct Known {
    spec: Spec,
    plan: lull_job::Plan,
    message: v1::LeasedJob,
}

impl WorkService {
    /// The service.
    #[must_use]
    pub fn new(context: Context) -> Self {
        Self { context, jobs: Mutex::new(BTreeMap::new()) }
    }

    async fn known(&self, id: JobId) -> Result<Arc<Known>, Status> {
        let lock = || self.jobs.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(known) = lock().get(&id) {
            return Ok(Arc::clone(known));
        }
        let view = self.context.store.job(id, None).await.map_err(status::from_store)?;
        let spec =
            Spec::check(&view.message).map_err(|error| status::invalid(error.field, &error.problem))?;
        let plan = view.job.plan;
        let message = v1::LeasedJob {
            job_id: u64::try_from(id.0).unwrap_or(0),
            module: Some(spec.module.to_proto()),
            inputs: spec.inputs.iter().map(lull_job::InputFile::to_proto).collect(),
            split: Some(spec.split.to_proto_without_files()),
            items: plan.items,
            items_per_unit: plan.items_per_unit,
            pilot_units: plan.pilot_units,
            limits: Some(spec.limits),
        };
        let known = Arc::new(Known { spec, plan, message });
        if plan.items > 0 {
            let mut jobs = lock();
            if jobs.len() >= KNOWN_JOBS_MAX {
                jobs.clear();
            }
            jobs.insert(id, Arc::clone(&known));
        }
        Ok(known)
    }

    async fn lease_message(&self, lease: &Lease, checkpointed: bool) -> Result<v1::Lease, Status> {
        let known = self.known(lease.job).await?;
        let extras = match checkpointed {
            true => self.context.store.lease_extras(lease).await.map_err(status::from_store)?,
            false => Extras::default(),
        };
        Ok(v1::Lease {
            token: u64::try_from(lease.token.0).unwrap_or(0),
            time_to_live: prost_types::Duration::try_from(self.context.grid.lease_ttl()).ok(),
            job: Some(known.message.clone()),
            stage: Some(stage_to_proto(lease.stage)),
            indices: lease.open.clone(),
            parts: self.parts(lease, &known).await?,
            checkpoints: extras
                .checkpoints
                .into_iter()
                .map(|(index, one)| checkpoints::message(index, one))
                .collect(),
            witnesses: extras
                .witnesses
                .into_iter()
                .map(|(index, steps)| v1::Witness { index, steps })
                .collect(),
            run_mode: run_mode(lease.mode).into(),
        })
    }

    /// The blobs that belong to each unit of a lease; none where the unit follows from its index alone.
    async fn parts(&self, lease: &Lease, known: &Known) -> Result<Vec<v1::UnitParts>, Status> {
        let Known { spec, plan, .. } = known;
        let parts = async |stage, range| {
            let rows = self.context.store.parts(lease.job, stage, range).await.map_err(status::from_store)?;
            Ok::<_, Status>(v1::UnitParts { parts: rows.into_iter().map(part).collect() })
        };
        let mut units = Vec::new();
        match (lease.stage, &spec.split) {
            (Stage::Work, Split::Files(files)) => {
                for index in &lease.open {
                    let items = plan.items_of(*index);
                    let files = files.iter().skip(usize::try_from(items.start).unwrap_or(usize::MAX));
                    let files = files.take(usize::try_from(items.end - items.start).unwrap_or(0));
                    let parts = files.map(|file| v1::Part {
                        digest: file.digest.as_bytes().to_vec(),
                        size_bytes: file.size_bytes,
                        content: None,
                    });
                    units.push(v1::UnitParts { parts: parts.collect() });
                }
            }
            (Stage::Work, Split::Module) => {
                let split = parts(Stage::Split, 0..1).await?;
                units.extend(lease.open.iter().map(|_| split.clone()));
            }
            (Stage::Merge(_) | Stage::Finish, _) => {
                let source = plan.source_stage(lease.stage).unwrap_or(Stage::Work);
                for index in &lease.open {
                    units.push(parts(source, plan.parts(lease.stage, *index)).await?);
                }
            }
            _ => {}
        }
        Ok(units)
    }
}

const fn run_mode(mode: RunMode) -> v1::RunMode {
    match mode {
        RunMode::Normal => v1::RunMode::Normal,
        RunMode::Strict => v1::RunMode::Strict,
        RunMode::Referee => v1::RunMode::Referee,
    }
}

fn part(row: PartRow) -> v1::Part {
    v1::Part { digest: row.digest.as_bytes().to_vec(), size_bytes: row.size_bytes, content: row.content }
}

#[tonic::async_trait]
impl Work for WorkService {
    async fn enrol(&self, request: Request<v1::EnrolRequest>) -> Result<Response<v1::EnrolResponse>, Status> {
        let request = request.into_inner();
        let key = auth::check_enrolment(&request.public_key, &request.enrolment_token, &request.proof)?;
        if request.display_name.len() > DISPLAY_NAME_BYTES_MAX {
            return Err(status::invalid(
                "display_name",
                &format!("is longer than {DISPLAY_NAME_BYTES_MAX} bytes"),
            ));
        }
        if request.display_name.chars().any(char::is_control) {
            let problem = "holds a control character, such as a line break: give the PC a name without";
            return Err(status::invalid("display_name", problem));
        }
        let token = auth::hash_token(&request.enrolment_token);
        let enrolled = self.context.store.enrol(&token, &key, &request.display_name).await;
        let (device, owner) = enrolled.map_err(status::from_store)?;
        tracing::info!(%device, owner, "enrolled");
        Ok(Response::new(v1::EnrolResponse {
            device_id: u64::try_from(device.0).unwrap_or(0),
            grid_id: self.context.auth.grid_id().to_owned(),
            owner: format!("owners/{owner}"),
            coordinator_keys: self.context.store.coordinator_keys().await.map_err(status::from_store)?,
        }))
    }

    async fn list_receipts(
        &self,
        request: Request<v1::HeldReceipts>,
    ) -> Result<Response<v1::Receipts>, Status> {
        let device = self.context.auth.device(&request).await?;
        Ok(Response::new(receipts::list(&self.context, device, request.into_inner()).await?))
    }

    async fn list_device_pay(
        &self,
        request: Request<v1::ListDevicePayRequest>,
    ) -> Result<Response<v1::ListDevicePayResponse>, Status> {
        let device = self.context.auth.device(&request).await?;
        Ok(Response::new(receipts::pay(&self.context, device, request.into_inner().after).await?))
    }

    async fn get_device_earnings(
        &self,
        request: Request<v1::GetDeviceEarningsRequest>,
    ) -> Result<Response<v1::DeviceEarnings>, Status> {
        let device = self.context.auth.device(&request).await?;
        let earned = self.context.store.device_earnings(device.id).await.map_err(status::from_store)?;
        let in_one = |one: &DeviceEarned| v1::CurrencyEarnings {
            currency: one.currency.to_string(),
            total_amount: one.total.to_string(),
            total_units: one.total_units,
            month_amount: one.month_total.to_string(),
            month_units: one.month_units,
        };
        let by_currency: Vec<v1::CurrencyEarnings> = earned.by_currency.iter().map(in_one).collect();
        let default = by_currency.first().cloned().unwrap_or_default();
        Ok(Response::new(v1::DeviceEarnings {
            total_amount: default.total_amount,
            total_units: default.total_units,
            month_amount: default.month_amount,
            month_units: default.month_units,
            month: earned.month,
            by_currency,
        }))
    }

    async fn sync(&self, request: Request<v1::SyncRequest>) -> Result<Response<v1::SyncResponse>, Status> {
        let device = self.context.auth.device(&request).await?;
        let network = request.remote_addr().and_then(|address| Network::of(address.ip()));
        let mut request = request.into_inner();
        let held = request.held_receipts.take().map(receipts::held).transpose()?;
        let presence = i16::try_from(request.presence).unwrap_or(0);
        let has_receipts =
            held.as_ref().is_some_and(|held| self.context.receipts.has_some_for(device.id, held));
        let wait = request.wait.filter(|_| !has_receipts).and_then(|wait| Duration::try_from(wait).ok());
        let wait = wait.unwrap_or_default().min(WAIT_MAX);
        let checkpoints = checkpoints::verified(&self.context, device.id, &request.hand_backs).await?;
        let (mut call, mut refusals) = read(device, request)?;
        call.network = network;
        for (hand_back, checkpoints) in call.hand_backs.iter_mut().zip(checkpoints) {
            hand_back.checkpoints = checkpoints;
        }
        let answer =
            self.context.grid.sync(call, presence, wait, held.is_some()).await.map_err(status::from_grid)?;
        let mut leases = Vec::with_capacity(answer.leases.len());
        for lease in &answer.leases {
            leases.push(self.lease_message(lease, answer.checkpointed.contains(&lease.job)).await?);
        }
        refusals.extend(
            answer
                .reply
                .refusals
                .into_iter()
                .map(|(token, index, reason)| refusal(u64::try_from(token.0).unwrap_or(0), index, reason)),
        );
        let lost_leases = answer.reply.lost.iter().map(|token| u64::try_from(token.0).unwrap_or(0)).collect();
        let receipts = receipts::with_sync(&self.context, device, held).await;
        Ok(Response::new(v1::SyncResponse { leases, refusals, lost_leases, receipts }))
    }
}

fn refusal(lease_token: u64, index: u64, reason: RefusalReason) -> v1::Refusal {
    let message = match reason {
        RefusalReason::StaleLease => {
            "the lease had ended before this report came; what could still be used of it was kept"
        }
        RefusalReason::NotLeased => "this unit is not open in that lease: report each unit of a lease once",
        RefusalReason::WrongDigest => {
            "the digest is not the result's, or a result over 4 KiB was not uploaded first: run the unit again"
        }
        RefusalReason::TooLarge => "the result is larger than the job allows: the guest must return less",
        RefusalReason::NotYours => {
            "the lease belongs to another device: report only what this device was leased"
        }
        RefusalReason::WrongRun => {
            "the unit was not run as its lease asks, normally, strictly or both ways: update the agent of this device; the \
             unit goes out again"
        }
        RefusalReason::Unspecified => "",
    };
    v1::Refusal { lease_token, index, reason: reason.into(), message: message.to_owned() }
}

/// Reads a call. Reports whose digest is not their result's are refused here, where hashing them does not
/// hold a batch up, and their units handed back.
#[allow(clippy::result_large_err, reason = "tonic's own error type")]
fn read(device: Device, request: v1::SyncRequest) -> Result<(core::Request, Vec<v1::Refusal>), Status> {
    let count: usize = request.reports.iter().map(|report| report.attempts.len()).sum();
    if count > REPORTS_PER_CALL_MAX {
        return Err(status::invalid(
            "reports",
            &format!("{count} attempts, more than {REPORTS_PER_CALL_MAX}: send fewer"),
        ));
    }
    if request.held_leases.len() + request.hand_backs.len() > HELD_LEASES_MAX {
        return Err(status::invalid("held_leases", &format!("more than {HELD_LEASES_MAX}: send fewer")));
    }
    let token = |token: u64| LeaseToken(i64::try_from(token).unwrap_or(0));
    let mut refusals = Vec::new();
    let mut reports = Vec::with_capacity(count);
    let mut hand_backs: Vec<HandBack> = request
        .hand_backs
        .into_iter()
        .map(|hand_back| HandBack {
            token: token(hand_back.lease_token),
            indexes: hand_back.indices,
            checkpoints: Vec::new(),
        })
        .collect();
    for lease in request.reports {
        let stage = stage_from_proto(lease.stage.as_ref())
            .ok_or_else(|| status::invalid("reports.stage", "is missing: name the stage of the lease"))?;
        let job = JobId(i64::try_from(lease.job_id).unwrap_or(0));
        for attempt in lease.attempts {
            let unit = UnitKey { job, stage, index: attempt.index };
            match read_attempt(token(lease.lease_token), unit, attempt) {
                Ok(report) => reports.push(report),
                Err(reason) => {
                    refusals.push(refusal(lease.lease_token, unit.index, reason));
                    hand_backs.push(HandBack {
                        token: token(lease.lease_token),
                        indexes: vec![unit.index],
                        checkpoints: Vec::new(),
                    });
                }
            }
        }
    }
    let want = (request.free_slots > 0).then(|| Want {
        leases: request.free_slots.min(LEASES_PER_CALL_MAX),
        units_max: u64::from(request.max_units),
    });
    let held = request.held_leases.into_iter().map(token).collect();
    let Device { id: device, owner, referee } = device;
    Ok((core::Request { device, owner, reports, hand_backs, held, want, referee, network: None }, refusals))
}

const fn outcome(outcome: v1::Outcome) -> Option<Outcome> {
    match outcome {
        v1::Outcome::Result => Some(Outcome::Result),
        v1::Outcome::GuestFailed => Some(Outcome::GuestFailed),
        v1::Outcome::Limit => Some(Outcome::Limit),
        v1::Outcome::Unspecified => None,
    }
}

fn read_attempt(
    token: LeaseToken,
    unit: UnitKey,
    attempt: v1::AttemptReport,
) -> Result<Report, RefusalReason> {
    let outcome = outcome(attempt.outcome()).ok_or(RefusalReason::NotLeased)?;
    let strict = match &attempt.strict {
        None => None,
        Some(strict) => Some((
            self::outcome(strict.outcome()).ok_or(RefusalReason::WrongRun)?,
            Digest::try_from(strict.digest.as_slice()).map_err(|_| RefusalReason::WrongDigest)?,
        )),
    };
    let digest = Digest::try_from(attempt.digest.as_slice()).map_err(|_| RefusalReason::WrongDigest)?;
    if attempt.size_bytes > RESULT_BYTES_MAX || attempt.result.len() > INLINE_RESULT_BYTES_MAX {
        return Err(RefusalReason::TooLarge);
    }
    if outcome != Outcome::Result && attempt.result.len() > MESSAGE_BYTES_MAX {
        return Err(RefusalReason::TooLarge);
    }
    let inline = attempt.size_bytes <= INLINE_RESULT_BYTES_MAX as u64;
    if inline && (attempt.result.len() as u64 != attempt.size_bytes || Digest::of(&attempt.result) != digest)
    {
        return Err(RefusalReason::WrongDigest);
    }
    let witnessed = attempt.witnessed.iter().take(WITNESSED_MAX);
    let witnessed =
        witnessed.filter_map(|told| Some((told.steps, Digest::try_from(&told.state_digest[..]).ok()?)));
    Ok(Report {
        token,
        unit,
        outcome,
        digest,
        witnessed: witnessed.collect(),
        strict,
        fuel: attempt.fuel,
        size_bytes: attempt.size_bytes,
        result: inline.then_some(attempt.result),
        // A device may claim anything; nothing but estimates rests on it.
        cpu_micros: attempt.cpu_micros.min(UNIT_SECS_MAX * 1_000_000),
    })
}
