//! One batch of `Sync` calls: reports are recorded and judged, units handed back, leases given.

use std::collections::BTreeSet;

use lull_job::limits::INLINE_RESULT_BYTES_MAX;
use lull_job::{Digest, Stage};
use lull_ledger::{Amount, Transfer};
use lull_proto::v1::RefusalReason;

use super::allocate::Allocator;
use super::checkpoint::{self, Checkpoint, Made, Offer, owners_in, to_compare, union};
use super::fairness::Fairness;
use super::ids::{DeviceId, JobId, LeaseToken, OwnerId, UnitKey};
use super::job::{Job, JobState};
use super::judge::{Judgement, earns, judge, voices};
use super::network::Network;
use super::slice::{Attempt, Changes, Lease, Outcome, Recorded, RunMode, Slice, Wanted};
use super::trouble::Failure;
use super::verdict::{is_paid, pay};

/// One call of one device.
#[derive(Debug, Clone)]
pub struct Request {
    /// Who calls.
    pub device: DeviceId,
    /// Whose device it is.
    pub owner: OwnerId,
    /// Finished attempts.
    pub reports: Vec<Report>,
    /// Units that it will not do.
    pub hand_backs: Vec<HandBack>,
    /// Leases that it holds.
    pub held: Vec<LeaseToken>,
    /// What it would take on; `None` when it wants nothing.
    pub want: Option<Want>,
    /// Whether the operator trusts it to settle disputes.
    pub referee: bool,
    /// The network that it calls from, if that is known.
    pub network: Option<Network>,
}

/// What a device would take on.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    /// How many leases.
    pub leases: u32,
    /// The most units in one; 0 for no wish.
    pub units_max: u64,
}

/// A finished attempt. Its digest has been checked against its result.
#[derive(Debug, Clone)]
pub struct Report {
    /// The lease under which it was made.
    pub token: LeaseToken,
    /// The unit.
    pub unit: UnitKey,
    /// How it ended.
    pub outcome: Outcome,
    /// Of its result or message.
    pub digest: Digest,
    /// Length of its result.
    pub size_bytes: u64,
    /// The result, unless it is a blob.
    pub result: Option<Vec<u8>>,
    /// CPU time.
    pub cpu_micros: u64,
    /// States that it tells of: steps and what the state was.
    pub witnessed: Vec<(u64, Digest)>,
    /// Of a run both ways: how the strict one ended, and its result.
    pub strict: Option<(Outcome, Digest)>,
    /// Fuel of a strict run that came to its own end.
    pub fuel: Option<u64>,
}

impl Report {
    /// Whether the unit was run as its lease asked, as far as a report can tell. An agent that knows nothing of strict
    /// runs tells of no fuel.
    fn is_run_as(&self, mode: RunMode) -> bool {
        let counted = |outcome| outcome == Outcome::Limit || self.fuel.is_some();
        match (mode, self.strict) {
            (RunMode::Normal, None) => self.fuel.is_none(),
            (RunMode::Strict, None) => counted(self.outcome),
            (RunMode::Referee, Some((outcome, _))) => counted(outcome),
            _ => false,
        }
    }
}

/// Units that a device will not do.
#[derive(Debug, Clone)]
pub struct HandBack {
    /// Their lease.
    pub token: LeaseToken,
    /// Their indexes; empty for all that are open.
    pub indexes: Vec<u64>,
    /// Where some of them stand.
    pub checkpoints: Vec<Made>,
}

/// The answer to one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Leases to send: new ones, and open ones that the device does not know of.
    pub leases: Vec<LeaseToken>,
    /// Reports that were not recorded as the lease's attempts.
    pub refusals: Vec<(LeaseToken, u64, RefusalReason)>,
    /// Held leases that are no more.
    pub lost: Vec<LeaseToken>,
}

/// Decides a batch of calls, in order. `tokens` are fresh.
///
/// The second attempt of a unit is never leased in the batch that recorded its first: what is wanted is
/// what had been committed when the slice was loaded.
pub fn decide(
    slice: &mut Slice,
    fairness: &mut Fairness,
    tokens: &mut dyn Iterator<Item = LeaseToken>,
    requests: &[Request],
) -> (Vec<Reply>, Changes) {
    let (owners, liars) = (slice.grid_owners, slice.policy.liars);
    let mut changes = Changes::default();
    for job in slice.jobs.values_mut().filter(|job| job.stage == Stage::Work) {
        if job.raise_copies(owners, liars) {
            changes.jobs_changed.insert(job.id);
        }
    }
    let mut batch = Batch { changes, ..Batch::of(slice) };
    let mut replies: Vec<Reply> = requests.iter().map(|request| batch.take_in(request)).collect();
    let mut allocator = Allocator::new(batch.slice, fairness);
    for (request, reply) in requests.iter().zip(&mut replies) {
        let Some(want) = request.want else { continue };
        for _ in reply.leases.len()..want.leases as usize {
            let Some(lease) = allocator.lease(request, want, tokens, &mut batch.changes) else { break };
            reply.leases.push(lease);
        }
    }
    let Batch { slice, changes, .. } = batch;
    let ended = |token: &LeaseToken| {
        slice.leases.get(token).is_some_and(|lease| changes.jobs_ended.contains(&lease.job))
    };
    for reply in &mut replies {
        reply.leases.retain(|token| !ended(token));
    }
    (replies, changes)
}

/// Takes leases whose deadline has passed away from their devices. Their jobs are in the slice, with the
/// attempts of their open units.
pub fn expire(slice: &mut Slice, tokens: &[LeaseToken]) -> Changes {
    let mut batch = Batch::of(slice);
    for token in tokens {
        let Some(lease) = batch.slice.leases.get_mut(token).filter(|lease| !lease.expired) else { continue };
        lease.expired = true;
        let lease = lease.clone();
        batch.changes.leases_changed.insert(*token);
        batch.changes.fail(&batch.slice.troubles, lease.device, Failure::Expired);
        for index in &lease.open {
            batch.release(UnitKey { job: lease.job, stage: lease.stage, index: *index }, Holder::of(&lease));
        }
    }
    batch.changes
}

/// What a report was made under.
struct Under {
    holder: Holder,
    offer: Option<Offer>,
    mode: RunMode,
    late: bool,
}

/// The lease that a unit leaves.
#[derive(Clone, Copy)]
struct Holder {
    token: LeaseToken,
    owner: OwnerId,
    /// Whether the unit may be in another lease too, or wanted.
    copied: bool,
}

impl Holder {
    const fn of(lease: &Lease) -> Self {
        Self { token: lease.token, owner: lease.owner, copied: lease.copied }
    }
}

pub(super) struct Batch<'a> {
    pub(super) slice: &'a mut Slice,
    pub(super) changes: Changes,
    /// Units of `changes.wanted_added`.
    pub(super) wanted_now: BTreeSet<UnitKey>,
    /// Devices that told of the time of a unit of a job: once in a call, so that a lease of lies says no more than one.
    timed: BTreeSet<(DeviceId, JobId)>,
}

impl<'a> Batch<'a> {
    /// Nothing is decided yet.
    pub(super) fn of(slice: &'a mut Slice) -> Self {
        Self { slice, changes: Changes::default(), wanted_now: BTreeSet::new(), timed: BTreeSet::new() }
    }
}

impl Batch<'_> {
    fn take_in(&mut self, request: &Request) -> Reply {
        let mut reply = Reply::default();
        for report in &request.reports {
            if let Err(reason) = self.report(request, report) {
                reply.refusals.push((report.token, report.unit.index, reason));
            }
        }
        for hand_back in &request.hand_backs {
            self.hand_back(request, hand_back);
        }
        let open = |token: &LeaseToken| {
            self.slice.leases.get(token).is_some_and(|lease| lease.device == request.device && !lease.expired)
        };
        reply.lost = request.held.iter().copied().filter(|token| !open(token)).collect();
        let unknown = self.slice.leases.values().filter(|lease| {
            lease.device == request.device
                && !lease.expired
                && !lease.open.is_empty()
                && !request.held.contains(&lease.token)
        });
        if request.want.is_some() {
            reply.leases = unknown.map(|lease| lease.token).collect();
        }
        reply
    }

    fn report(&mut self, request: &Request, report: &Report) -> Result<(), RefusalReason> {
        let unit = report.unit;
        let known = self.slice.attempts.get(&unit).and_then(|attempts| find(attempts, request.owner));
        let repeated =
            known.is_some_and(|attempt| attempt.digest == report.digest && attempt.outcome == report.outcome);
        let running = self.slice.jobs.get(&unit.job).is_some_and(|job| job.state == JobState::Running);
        let Some(lease) = self.slice.leases.get_mut(&report.token).filter(|_| running) else {
            return if repeated { Ok(()) } else { Err(RefusalReason::StaleLease) };
        };
        if lease.device != request.device {
            return Err(RefusalReason::NotYours);
        }
        let in_lease = lease.job == unit.job && lease.stage == unit.stage;
        let Some(at) = lease.open.binary_search(&unit.index).ok().filter(|_| in_lease) else {
            return if repeated { Ok(()) } else { Err(RefusalReason::NotLeased) };
        };
        lease.open.remove(at);
        let under = Under {
            holder: Holder::of(lease),
            offer: lease.offers.get(&unit.index).cloned(),
            mode: lease.mode,
            late: lease.expired,
        };
        self.changes.leases_changed.insert(report.token);
        self.changes.jobs_changed.insert(unit.job);

        let checked = if report.is_run_as(under.mode) { Ok(()) } else { Err(RefusalReason::WrongRun) };
        if let Err(reason) = checked.and_then(|()| self.check_result(report)) {
            if !under.late {
                self.release(unit, under.holder);
            }
            return Err(reason);
        }
        if under.late {
            self.take_evidence(request, report, &under);
            return Err(RefusalReason::StaleLease);
        }
        self.take_attempt(request, report, &under);
        Ok(())
    }

    fn check_result(&self, report: &Report) -> Result<(), RefusalReason> {
        let size_max = self.slice.jobs.get(&report.unit.job).map_or(0, |job| job.result_bytes_max);
        if report.outcome == Outcome::Result && report.size_bytes > size_max {
            return Err(RefusalReason::TooLarge);
        }
        let inline = report.size_bytes <= INLINE_RESULT_BYTES_MAX as u64;
        if inline == report.result.is_none() || (!inline && !self.slice.blobs.contains(&report.digest)) {
            return Err(RefusalReason::WrongDigest);
        }
        Ok(())
    }

    /// An attempt under a good lease: its pay is already held.
    fn take_attempt(&mut self, request: &Request, report: &Report, under: &Under) {
        let unit = report.unit;
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let reward = job.reward(unit.stage, unit.index);
        if under.mode == job.run_mode() && self.timed.insert((request.device, unit.job)) {
            job.learn_time(report.cpu_micros);
        }
        let still_out =
            if under.holder.copied { self.unwant_copy(unit, under.holder.token) } else { StillOut::No };
        if self.slice.attempts.get(&unit).and_then(|attempts| find(attempts, request.owner)).is_some() {
            // Another device of this owner was first: one owner is one voice.
            if let Some(job) = self.slice.jobs.get_mut(&unit.job) {
                job.reserved = job.reserved - reward;
            }
            if !self.slice.verdicts.contains_key(&unit) {
                self.judge(unit, still_out);
            }
            return;
        }
        if self.is_dissent(report) {
            self.reopen(unit);
        }
        let attempt = self.record(request, report, under);
        if let Some(verdict) = self.slice.verdicts.get(&unit) {
            // Decided meanwhile, by a late result or another copy: whoever was leased the unit and got it right is paid.
            let earns = earns(&attempt, verdict.outcome, verdict.digest);
            let paid = is_paid(verdict.outcome) && earns && !attempt.caught;
            let said = (verdict.outcome, verdict.digest);
            let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
            let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
            // Those who were out together may have asked each other.
            let is_check = voices(attempts, said, job.rule(unit, attempts, None, self.slice.policy)) > 1;
            job.reserved = job.reserved - reward;
            job.totals.judged += 1;
            if paid {
                self.changes.recover_known(&self.slice.troubles, attempt.device);
                pay(job, &attempt, unit, is_check, &mut self.changes);
                if is_check {
                    self.correct(&[attempt]);
                }
            }
        } else {
            self.judge(unit, still_out);
        }
    }

    /// A result under a lease that has expired: on an undecided unit it is that owner's attempt, if the job
    /// can still hold its pay.
    fn take_evidence(&mut self, request: &Request, report: &Report, under: &Under) {
        let unit = report.unit;
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let reward = job.reward(unit.stage, unit.index);
        let attempts = self.slice.attempts.get(&unit);
        let has_voice = attempts.and_then(|attempts| find(attempts, request.owner)).is_some();
        if has_voice
            || self.slice.verdicts.contains_key(&unit)
            || job.leasable() < reward
            || unit.stage != job.stage
        {
            return;
        }
        job.reserved = job.reserved + reward;
        self.record(request, report, under);
        let still_out = self.unwant_copy(unit, under.holder.token);
        self.judge(unit, still_out);
    }

    /// Takes a unit that leaves a lease out of `wanted`: a copy of it is not needed any more. Whether another lease holds it.
    fn unwant_copy(&mut self, unit: UnitKey, token: LeaseToken) -> StillOut {
        self.unwant(unit);
        if self.held_besides(unit, token) > 0 { StillOut::Yes } else { StillOut::No }
    }

    /// Open leases that hold a unit besides this one.
    pub(super) fn held_besides(&self, unit: UnitKey, token: LeaseToken) -> usize {
        let leases = self.slice.leases.values().filter(|lease| lease.token != token && lease.holds(unit));
        leases.count()
    }

    /// Takes a unit out of `wanted`, whether it stood there before or came in this batch.
    fn unwant(&mut self, unit: UnitKey) {
        let mut removed = 0;
        if self.wanted_now.remove(&unit) {
            self.changes.wanted_added.retain(|row| row.unit != unit);
            removed += 1;
        }
        if let Some(row) = self.slice.wanted_besides.remove(&unit) {
            if let Some(rows) = self.slice.wanted.get_mut(&unit.job) {
                rows.retain(|other| other.unit != unit);
            }
            self.changes.wanted_removed.push(row);
            removed += 1;
        }
        if let Some(job) = self.slice.jobs.get_mut(&unit.job) {
            job.wanted = job.wanted.saturating_sub(removed as u64);
        }
    }

    fn record(&mut self, request: &Request, report: &Report, under: &Under) -> Attempt {
        let unit = report.unit;
        let offer = under.offer.as_ref();
        // A lease that has expired may be older than an offer to another device of the owner.
        let offered = self.slice.offered.get(&(unit, request.owner)).filter(|_| under.late);
        let is_alone = offer.is_none() && offered.is_none();
        let others = offer.iter().flat_map(|offer| &offer.lineage).chain(offered.into_iter().flatten());
        let known = self.slice.checkpoints.get(&unit).map_or(&[][..], Vec::as_slice);
        // In this batch, or before it.
        let overlapped = under.holder.copied
            && (self.changes.attempts.iter().any(|recorded| recorded.unit == unit)
                || self.slice.overlapped.contains(&(unit, under.holder.token)));
        let caught = self.changes.standings.get(&request.owner).is_some_and(|change| change.caught.is_some());
        let is_confident = self.slice.jobs.get(&unit.job).is_some_and(Job::buys_confidence);
        let attempts = self.slice.attempts.entry(unit).or_default();
        let held = attempts.iter().any(|attempt| attempt.digest == report.digest);
        let mut attempt = Attempt {
            owner: request.owner,
            device: request.device,
            outcome: report.outcome,
            digest: report.digest,
            size_bytes: report.size_bytes,
            origin: offer.and_then(|offer| offer.origin),
            lineage: if is_alone { Vec::new() } else { union(others.chain([&request.owner])) },
            witnessed: to_compare(known, if is_alone { &report.witnessed } else { &[] }),
            mode: under.mode,
            strict: report.strict,
            by_referee: request.referee,
            late: under.late || overlapped,
            void: caught,
            caught,
            settled: false,
            paid: false,
        };
        // Somebody may have been caught since it was handed their work.
        attempt.void |= is_confident && attempt.is_spoilt(&self.slice.standings);
        attempts.push(attempt.clone());
        if let Some(job) = self.slice.jobs.get_mut(&unit.job) {
            job.totals.attempts += 1;
            job.totals.cpu_micros = job.totals.cpu_micros.saturating_add(report.cpu_micros);
            if unit.stage == Stage::Work {
                job.totals.work_attempts += 1;
                job.totals.work_cpu_micros = job.totals.work_cpu_micros.saturating_add(report.cpu_micros);
            }
        }
        self.changes.attempts.push(Recorded {
            unit,
            attempt: attempt.clone(),
            token: report.token,
            result: report.result.clone().filter(|_| !held),
            cpu_micros: report.cpu_micros,
            fuel: report.fuel,
        });
        attempt
    }

    fn hand_back(&mut self, request: &Request, hand_back: &HandBack) {
        let lease = self.slice.leases.get_mut(&hand_back.token);
        let Some(lease) = lease.filter(|lease| lease.device == request.device && !lease.expired) else {
            return;
        };
        let given: Vec<u64> = if hand_back.indexes.is_empty() {
            std::mem::take(&mut lease.open)
        } else {
            let (given, kept) = lease.open.iter().partition(|index| hand_back.indexes.contains(index));
            lease.open = kept;
            given
        };
        let lease = lease.clone();
        self.changes.leases_changed.insert(hand_back.token);
        for index in given {
            let unit = UnitKey { job: lease.job, stage: lease.stage, index };
            let made = hand_back.checkpoints.iter().filter(|made| made.index == index);
            if let Some(made) = made.max_by_key(|made| made.steps) {
                self.keep(request, hand_back.token, unit, made, lease.offers.get(&index));
            }
            self.release(unit, Holder::of(&lease));
        }
    }

    /// Keeps a checkpoint of an undecided unit, if it is good for something.
    fn keep(
        &mut self,
        request: &Request,
        token: LeaseToken,
        unit: UnitKey,
        made: &Made,
        offer: Option<&Offer>,
    ) {
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let uploaded = self.slice.uploads.get(&(request.device, made.blob)) == Some(&made.size_bytes);
        if job.state != JobState::Running
            || self.slice.verdicts.contains_key(&unit)
            || made.steps == 0
            || made.size_bytes > checkpoint::state_bytes_max(job.memory_bytes_max)
            || !uploaded
        {
            self.changes.checkpoints_refused.push((unit, token));
            return;
        }
        let new = Checkpoint {
            made_under: token,
            steps: made.steps,
            state: made.state,
            blob: made.blob,
            size_bytes: made.size_bytes,
            device: request.device,
            owner: request.owner,
            signature: made.signature.clone(),
            parent: offer.and_then(|offer| offer.origin),
            lineage: union(offer.iter().flat_map(|offer| &offer.lineage).chain([&request.owner])),
        };
        if job.buys_confidence() && !checkpoint::is_passed_on(&new, &self.slice.standings) {
            return;
        }
        let known = self.slice.checkpoints.entry(unit).or_default();
        let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        let Some((new, removed)) = checkpoint::keep(known, attempts, new) else { return };
        job.checkpointed = true;
        known.retain(|one| !removed.contains(&one.made_under));
        known.push(new.clone());
        self.changes.checkpoints_removed.extend(removed.into_iter().map(|name| (unit, name)));
        self.changes.checkpoints_added.push((unit, new));
    }

    /// A leased unit that its owner will not report: its pay is free again, and it is wanted, unless another lease
    /// holds it too.
    fn release(&mut self, unit: UnitKey, holder: Holder) {
        let Some(job) = self.slice.jobs.get_mut(&unit.job).filter(|job| job.state == JobState::Running)
        else {
            return;
        };
        job.reserved = job.reserved - job.reward(unit.stage, unit.index);
        self.changes.jobs_changed.insert(unit.job);
        if job.buys_confidence() {
            self.changes.standings.entry(holder.owner).or_default().dropped += 1;
        }
        if !self.slice.verdicts.contains_key(&unit) {
            if holder.copied && self.unwant_copy(unit, holder.token) == StillOut::Yes {
                return;
            }
            let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
            let Some(job) = self.slice.jobs.get(&unit.job) else { return };
            let rule = job.rule(unit, attempts, None, self.slice.policy);
            let contested = matches!(judge(attempts, rule), Judgement::Undecided { contested: true });
            self.want(unit, contested);
        }
    }

    pub(super) fn want(&mut self, unit: UnitKey, contested: bool) {
        let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        let excluded = owners_in(attempts);
        self.changes.wanted_added.push(Wanted { unit, excluded, contested, copy: false, waited_secs: 0 });
        self.wanted_now.insert(unit);
        if let Some(job) = self.slice.jobs.get_mut(&unit.job) {
            job.wanted += 1;
        }
    }
}

/// Whether another attempt of a unit is wanted or leased already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StillOut {
    Yes,
    No,
}

fn find(attempts: &[Attempt], owner: OwnerId) -> Option<&Attempt> {
    attempts.iter().find(|attempt| attempt.owner == owner)
}

pub(super) fn open_stage(job: &mut Job, stage: Stage) {
    job.stage = stage;
    job.stage_units = job.plan.units(stage);
    job.frontier = 0;
    job.stage_accepted = 0;
    job.stage_failed = 0;
    job.unit_micros = 0;
}

pub(super) fn end(job: &mut Job, state: JobState, reason: String, changes: &mut Changes) {
    job.state = state;
    job.reason = reason;
    job.reserved = Amount::ZERO;
    job.wanted = 0;
    // Should its work turn out to be wrong, the answer has to be made again.
    job.settled = state != JobState::Complete || !job.buys_confidence();
    let kept = match job.price_of_again() {
        Ok(price) if !job.settled => price.min(job.own_left()),
        _ => Amount::ZERO,
    };
    let unspent = (job.left() - job.own_left()).min(job.granted);
    if unspent.is_positive() {
        job.granted = job.granted - unspent;
        changes.transfers.push(Transfer::unspent(job.currency, job.id.0, i64::from(job.round), unspent));
    }
    refund(job, job.left() - kept, changes);
    changes.jobs_changed.insert(job.id);
    changes.jobs_ended.insert(job.id);
}

fn refund(job: &mut Job, amount: Amount, changes: &mut Changes) {
    if amount.is_positive() {
        job.refunded = job.refunded + amount;
        let times = i64::from(job.round);
        changes.transfers.push(Transfer::refund(
            job.currency,
            job.id.0,
            job.submitter.0,
            times,
            job.settled,
            amount,
        ));
    }
}

impl Job {
    /// Returns what a complete job kept, once no pay for it is held back. Nothing happens to others.
    pub fn settle(&mut self) -> Changes {
        let mut changes = Changes::default();
        if self.state == JobState::Complete && !self.settled {
            self.settled = true;
            refund(self, self.left(), &mut changes);
            changes.jobs_changed.insert(self.id);
        }
        changes
    }

    /// Ends the job for its submitter, with the answer that it had before it was begun again, if it was. Nothing happens
    /// to one that has ended.
    pub fn cancel(&mut self) -> Changes {
        let mut changes = Changes::default();
        if self.state != JobState::Running {
            return changes;
        }
        if self.answer.is_none() {
            end(self, JobState::Cancelled, "cancelled by its submitter".to_owned(), &mut changes);
            return changes;
        }
        // It is made again: the answer that there was is still there, for what it is worth.
        if self.stage == Stage::Work {
            self.doubtful += self.stage_units - self.stage_accepted - self.stage_failed;
        }
        let reason =
            "its submitter did not wait until it was made again: owners that took part were found to lie";
        end(self, JobState::Complete, reason.to_owned(), &mut changes);
        changes.transfers.extend(self.settle().transfers);
        changes
    }

    /// Continues after a split whose items have been counted.
    ///
    /// # Errors
    /// The reason why the job ended instead.
    pub fn split_counted(&mut self, plan: lull_job::Plan) -> Changes {
        let mut changes = Changes::default();
        changes.jobs_changed.insert(self.id);
        self.plan = plan;
        if plan.items == 0 {
            end(self, JobState::Incomplete, "its split listed no items".to_owned(), &mut changes);
            return changes;
        }
        match self.expected_cost(&plan) {
            Ok(cost) if cost <= self.budget => open_stage(self, Stage::Work),
            cost => {
                let cost = cost.map_or_else(|error| error.to_string(), |cost| cost.to_string());
                let reason = format!(
                    "its split listed {} items, which cost {cost}, more than its budget of {}: submit it again with a larger one",
                    plan.items, self.budget
                );
                end(self, JobState::Incomplete, reason, &mut changes);
            }
        }
        changes
    }

    /// Ends a job whose split returned something else than a list of items.
    pub fn split_unreadable(&mut self, problem: &str) -> Changes {
        let mut changes = Changes::default();
        end(
            self,
            JobState::Incomplete,
            format!("its split returned no list of items: {problem}"),
            &mut changes,
        );
        changes
    }
}
