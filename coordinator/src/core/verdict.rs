//! What a verdict brings with it: pay, trust, blame, and the next stage.

use lull_job::limits::FAILED_UNITS_MAX;
use lull_job::{Digest, Stage};
use lull_ledger::{Key, Transfer};

use super::batch::{Batch, Report, StillOut, end, open_stage};
use super::checkpoint::{self, Blame, Fault};
use super::ids::UnitKey;
use super::job::{Answer, Job, JobState};
use super::judge::{Judgement, earns, judge, vote};
use super::slice::{Attempt, Changes, Outcome, RunMode, Slice, Verdict};
use super::trouble::failure_of;
use super::trust::{Catch, Held, Standing};

impl Batch<'_> {
    /// Whether a report differs from the verdict on its unit, so that the unit has to be decided again.
    pub(super) fn is_dissent(&self, report: &Report) -> bool {
        let unit = report.unit;
        let Some(verdict) = self.slice.verdicts.get(&unit) else { return false };
        let job = self.slice.jobs.get(&unit.job);
        job.is_some_and(|job| job.buys_confidence() && job.stage == unit.stage && !job.strict)
            && report.outcome != Outcome::Limit
            && is_paid(verdict.outcome)
            && (report.outcome, report.digest) != (verdict.outcome, verdict.digest)
    }

    /// Takes the verdict on a unit of the running stage back.
    pub(super) fn reopen(&mut self, unit: UnitKey) {
        let Some(verdict) = self.slice.verdicts.remove(&unit) else { return };
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let attempts = self.slice.attempts.entry(unit).or_default();
        let known = attempts.iter().map(|attempt| attempt.owner).collect();
        for attempt in attempts {
            attempt.settled = true;
            attempt.paid |= is_paid(verdict.outcome) && earns(attempt, verdict.outcome, verdict.digest);
        }
        if verdict.outcome == Outcome::Result {
            job.stage_accepted -= 1;
            job.totals.accepted -= 1;
            if unit.stage == Stage::Work {
                job.totals.items_accepted -= job.plan.item_count(unit.index);
            }
        } else {
            job.stage_failed -= 1;
            job.totals.failed -= 1;
        }
        self.slice.reopened.insert(unit, verdict);
        self.changes.jobs_changed.insert(unit.job);
        self.changes.reopened.push((unit, known));
    }

    pub(super) fn judge(&mut self, unit: UnitKey, still_out: StillOut) {
        let attempts = self.slice.attempts.get(&unit).cloned().unwrap_or_default();
        let alone = standing_of_one(self.slice, unit, &attempts);
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let rule = job.rule(unit, &attempts, alone, self.slice.policy).among(self.slice.grid_owners);
        let (outcome, digest, size_bytes, agreeing, is_sure) = match judge(&attempts, rule) {
            Judgement::Decided { outcome, digest, size_bytes, agreeing, is_sure } => {
                (outcome, digest, size_bytes, agreeing, is_sure)
            }
            Judgement::Undecidable => (Outcome::Undecidable, Digest::of(b""), 0, 0, false),
            Judgement::Nan => {
                job.strict = true;
                if still_out == StillOut::No {
                    self.want(unit, false);
                }
                return;
            }
            Judgement::Undecided { contested } => {
                if still_out == StillOut::No {
                    self.want(unit, contested);
                }
                return;
            }
        };
        let before = self.slice.reopened.remove(&unit);
        self.settle(unit, &attempts, (outcome, digest), agreeing);
        let right: Vec<Attempt> =
            attempts.iter().filter(|attempt| earns(attempt, outcome, digest)).cloned().collect();
        let was_checked = before.as_ref().is_some_and(|before| before.agreeing > 1);
        if is_paid(outcome) && agreeing > 1 && !was_checked {
            self.correct(&right);
        }
        if outcome == Outcome::Result {
            self.count_limits(unit, &attempts);
        }
        if is_paid(outcome) {
            self.note_devices(unit, &attempts, (outcome, digest));
        }
        let blames = self.close_checkpoints(unit, &attempts, (outcome, digest));
        if is_sure {
            self.catch_liars(unit, &attempts, (outcome, digest), &blames);
        }
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        if outcome == Outcome::Result {
            job.stage_accepted += 1;
            job.totals.accepted += 1;
            if unit.stage == Stage::Work {
                job.totals.items_accepted += job.plan.item_count(unit.index);
            }
        } else {
            job.stage_failed += 1;
            job.totals.failed += 1;
        }
        let count = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        let version = before.as_ref().map_or(1, |before| before.version.saturating_add(1));
        let verdict = Verdict { unit, outcome, digest, size_bytes, agreeing, attempts: count, version };
        self.slice.verdicts.insert(unit, verdict.clone());
        self.changes.verdicts.push(verdict);
        if before.is_some() {
            self.changes.reclosed.push(unit);
        }
        self.advance(unit, digest, size_bytes);
    }

    /// Pays attempts that earn it by the verdict, and frees what was held for the others.
    fn settle(
        &mut self,
        unit: UnitKey,
        attempts: &[Attempt],
        (outcome, digest): (Outcome, Digest),
        agreeing: u32,
    ) {
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let reward = job.reward(unit.stage, unit.index);
        for attempt in attempts {
            if !attempt.settled {
                job.reserved = job.reserved - reward;
                job.totals.judged += 1;
            }
            // Somebody who was overruled before, wrongly: there may be nothing left to pay with.
            let is_covered = !attempt.settled || job.unreserved() >= reward;
            if is_paid(outcome)
                && earns(attempt, outcome, digest)
                && !attempt.caught
                && !attempt.paid
                && is_covered
            {
                pay(job, attempt, unit, agreeing > 1, &mut self.changes);
            }
        }
    }

    /// Which devices are in order, by a verdict.
    fn note_devices(&mut self, unit: UnitKey, attempts: &[Attempt], (outcome, digest): (Outcome, Digest)) {
        let is_strict = self.slice.jobs.get(&unit.job).is_some_and(|job| job.strict);
        for attempt in attempts.iter().filter(|one| !one.settled) {
            if earns(attempt, outcome, digest) {
                self.changes.recover_known(&self.slice.troubles, attempt.device);
            } else if attempt.mode == RunMode::Normal && is_strict {
                // Another NaN, perhaps: nobody is to blame.
            } else if outcome == Outcome::Result || attempt.outcome != Outcome::Limit {
                self.changes.fail(&self.slice.troubles, attempt.device, failure_of(attempt));
            }
        }
    }

    /// Who ran into a limit where others had a result might as well not have taken the unit.
    fn count_limits(&mut self, unit: UnitKey, attempts: &[Attempt]) {
        if self.slice.jobs.get(&unit.job).is_some_and(Job::buys_confidence) {
            for attempt in attempts.iter().filter(|one| one.outcome == Outcome::Limit && !one.settled) {
                self.changes.standings.entry(attempt.owner).or_default().dropped += 1;
            }
        }
    }

    /// Checkpoints of a decided unit are done with; what they show is kept.
    fn close_checkpoints(
        &mut self,
        unit: UnitKey,
        attempts: &[Attempt],
        verdict: (Outcome, Digest),
    ) -> Vec<Blame> {
        if !self.slice.jobs.get(&unit.job).is_some_and(|job| job.checkpointed) {
            return Vec::new();
        }
        let known = self.slice.checkpoints.remove(&unit).unwrap_or_default();
        let blames = checkpoint::blame(unit, &known, attempts, verdict);
        self.changes.blames.extend(blames.iter().cloned());
        // They are deleted as a whole: what this batch decided of them before is void.
        self.changes.checkpoints_added.retain(|(other, _)| *other != unit);
        self.changes.checkpoints_removed.retain(|(other, _)| *other != unit);
        self.changes.units_closed.push(unit);
        blames
    }

    /// Results that another owner returned too.
    pub(super) fn correct(&mut self, attempts: &[Attempt]) {
        for attempt in attempts.iter().filter(|attempt| !attempt.caught) {
            self.slice.standings.entry(attempt.owner).or_default().correct += 1;
            self.changes.standings.entry(attempt.owner).or_default().correct += 1;
        }
    }

    /// Whoever differs from a verdict that is beyond doubt was wrong, or was handed a wrong checkpoint with its lease. Without
    /// one it was asked to run the unit from the start: what it was shown earlier is no excuse.
    fn catch_liars(
        &mut self,
        unit: UnitKey,
        attempts: &[Attempt],
        (outcome, digest): (Outcome, Digest),
        blames: &[Blame],
    ) {
        let is_strict = self.slice.jobs.get(&unit.job).is_some_and(|job| job.strict);
        let wrong = attempts.iter().filter(|attempt| {
            !attempt.caught
                && attempt.rests_on().iter().all(|owner| *owner == attempt.owner)
                && vote(attempt, is_strict)
                    .is_some_and(|said| said.0 != Outcome::Limit && said != (outcome, digest))
        });
        let own = wrong.map(|attempt| Catch {
            owner: attempt.owner,
            device: attempt.device,
            unit,
            reason: "returned another result than the owners that were asked after it".to_owned(),
        });
        let handed = blames.iter().filter(|blame| blame.is_beyond_doubt()).map(|blame| Catch {
            owner: blame.owner,
            device: blame.device,
            unit,
            reason: match blame.fault {
                Fault::Poisoned => "handed back a state that is not the one after its steps".to_owned(),
                Fault::Resumed => "went on from a right state to a wrong result".to_owned(),
            },
        });
        let catches: Vec<Catch> = own.chain(handed).collect();
        if catches.is_empty() {
            return;
        }
        for catch in catches {
            let owner = catch.owner;
            for attempt in self.slice.attempts.values_mut().flatten().filter(|one| one.owner == owner) {
                (attempt.void, attempt.caught) = (true, true);
            }
            self.slice.stakes.retain(|(other, _), _| *other != owner);
            let standing = self.slice.standings.entry(owner).or_default();
            *standing =
                Standing { correct: 0, catches: standing.catches + 1, secs_since_catch: 0, ..*standing };
            let change = self.changes.standings.entry(owner).or_default();
            change.correct = 0;
            change.caught.get_or_insert(catch);
        }
        self.slice.void_spoilt();
    }

    /// Opens the next stage when this one is decided, or ends the job.
    pub(super) fn advance(&mut self, unit: UnitKey, digest: Digest, size_bytes: u64) {
        let Some(job) = self.slice.jobs.get_mut(&unit.job) else { return };
        let decided = job.stage_accepted + job.stage_failed == job.stage_units;
        let fatal = job.stage_failed > 0 && !(job.allow_missing && job.stage == Stage::Work);
        if fatal && (decided || job.stage_failed >= FAILED_UNITS_MAX) {
            let reason = format!(
                "{} of {} {} units failed: see `lull results --failed`",
                job.stage_failed, job.stage_units, job.stage
            );
            end(job, JobState::Incomplete, reason, &mut self.changes);
        } else if decided && job.stage == Stage::Work && job.stage_accepted == 0 {
            end(
                job,
                JobState::Incomplete,
                "every unit failed: see `lull results --failed`".to_owned(),
                &mut self.changes,
            );
        } else if decided && job.stage == Stage::Work && job.buys_confidence() && !job.reviewed {
            // The work is looked over as a whole before anything is made from it: see `review`.
        } else if decided {
            match job.plan.next_stage(job.stage) {
                Some(stage) => open_stage(job, stage),
                None => {
                    if job.stage == Stage::Finish {
                        job.answer = Some(Answer { digest, size_bytes });
                    }
                    let reason = job.made_again();
                    end(job, JobState::Complete, reason, &mut self.changes);
                }
            }
        }
    }
}

/// What is known of the owner who alone has an attempt that still says something, and of those whose work it went on from:
/// the worst; of several who were out together and are one voice, too.
pub(super) fn standing_of_one(slice: &Slice, unit: UnitKey, attempts: &[Attempt]) -> Option<Standing> {
    let job = slice.jobs.get(&unit.job)?;
    let live = || attempts.iter().filter(|attempt| !attempt.void);
    if live().filter(|attempt| !attempt.late).count() > 1 {
        return None;
    }
    let owners = live().flat_map(Attempt::rests_on);
    let known = owners.map(|owner| {
        let stake = slice.stakes.get(&(*owner, job.currency)).copied().unwrap_or_default().lasting();
        Standing { stake, ..slice.standings.get(owner).copied().unwrap_or_default() }
    });
    let worst = known.reduce(Standing::worse)?;
    Some(Standing { knew_first: live().any(|attempt| attempt.origin.is_some()), ..worst })
}

/// Owners are paid for what the program did, a failure of its own included; a limit of the PC, which
/// anybody could claim without having computed, is not paid.
pub(super) fn is_paid(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Result | Outcome::GuestFailed)
}

pub(super) fn pay(job: &mut Job, attempt: &Attempt, unit: UnitKey, checked: bool, changes: &mut Changes) {
    let amount = job.reward(unit.stage, unit.index);
    if !amount.is_positive() {
        return;
    }
    let key = Key {
        job: unit.job.0,
        stage: job.stage_number(unit.stage),
        index: i64::try_from(unit.index).unwrap_or(i64::MAX),
        attempt: attempt.owner.0,
    };
    job.spent = job.spent + amount;
    let fee = job.fee.of(amount);
    if fee.is_positive() {
        changes.transfers.push(Transfer::fee(job.currency, key, fee));
    }
    let amount = amount - fee;
    if job.buys_confidence() {
        let results = job.wish_copies.held_results();
        changes.held.push(Held { owner: attempt.owner, unit, amount, results, checked });
        changes.transfers.push(Transfer::reward_held(job.currency, key, attempt.owner.0, amount));
    } else {
        changes.transfers.push(Transfer::reward(job.currency, key, attempt.owner.0, amount));
    }
    let earned = changes.earned.entry((attempt.device, job.currency)).or_default();
    earned.amount = earned.amount + amount;
    earned.units += 1;
}
