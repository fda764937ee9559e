//! Looking over the work of a job that buys confidence: when all of it is done, before anything is made from it,
//! and whenever somebody who took part is caught.

use lull_job::{Digest, Share, Stage};
use lull_ledger::{AmountError, Transfer};

use super::batch::Batch;
use super::ids::{JobId, UnitKey};
use super::job::{Job, JobState, ROUNDS_MAX};
use super::judge::{confirmed, support};
use super::slice::{Changes, Slice};
use super::trust::{Coin, Policy, doubts_confirmed};
use super::verdict::{is_paid, standing_of_one};

/// Of liars who tell as many lies as leave the most wrong results, so many are caught: 1 - 1/e. Fewer than the
/// operator assumes were expected to be, whatever they do.
const CAUGHT_OF_LIARS: f64 = 0.632;

/// Of what it takes to begin a job again where nobody disagrees, so many times is granted, if so much was lost in it.
const GRANTED_COSTS: u64 = 4;

/// What is known of a job when it is looked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Owners that took part, but for those who were caught when they had fewer than `CENSUS_RESULTS` right results: they
    /// say nothing of those who wait longer.
    pub owners: u64,
    /// Those of them that were caught in it.
    pub caught: u64,
}

impl Job {
    /// Takes into account how many took part in the job, and how many of them were caught: where that is more
    /// than the operator assumes, everybody is checked more, for liars who were not caught yet.
    pub fn count(&mut self, census: Census, policy: Policy) {
        #[allow(clippy::cast_precision_loss, clippy::float_arithmetic, reason = "counts of owners")]
        let caught = census.caught as f64 / census.owners.max(1) as f64;
        #[allow(clippy::float_arithmetic, reason = "an estimate")]
        let seen = Share::of((caught / CAUGHT_OF_LIARS).min(0.5));
        let liars = if Share::of(caught) > policy.liars { seen } else { policy.liars };
        self.raise_copies(census.owners, liars);
    }

    /// Whether an accepted work unit on which so many owners agreed needs more.
    #[must_use]
    pub fn is_short(&self, unit: UnitKey, agreeing: u32) -> bool {
        (agreeing as usize) < self.wish_copies.needed(Coin::of(&self.key, unit, 0))
    }

    /// Whether the work is done and waits to be looked over.
    #[must_use]
    pub fn awaits_review(&self) -> bool {
        self.state == JobState::Running
            && self.stage == Stage::Work
            && self.buys_confidence()
            && !self.reviewed
            && self.stage_units > 0
            && self.stage_accepted + self.stage_failed == self.stage_units
    }
}

/// Looks over the units of a job that the slice holds, with all their attempts and whether somebody still has them.
/// Units no longer stand where their coins ask for more owners, or where who supported them was caught. While
/// the work goes on they are reopened; where it is done and all of it stands, the next stage opens. A job that is past
/// that, and not settled, is begun again from the end of its work, if its escrow and what was lost in it pay for it;
/// otherwise the units are counted as doubtful.
pub fn review(slice: &mut Slice, id: JobId) -> Changes {
    let mut batch = Batch::of(slice);
    batch.changes.jobs_changed.insert(id);
    let fallen = batch.fallen(id);
    let Some(job) = batch.slice.jobs.get_mut(&id) else { return batch.changes };
    let (state, settled) = (job.state, job.settled);
    if state == JobState::Running && job.stage == Stage::Work && !job.reviewed {
        for Fallen { unit, .. } in fallen {
            batch.reopen(unit);
            if !batch.slice.still_leased.contains(&unit) {
                batch.want(unit, false);
            }
        }
    } else if matches!(state, JobState::Running | JobState::Complete)
        && !fallen.is_empty()
        && (settled || !batch.begin_again(id, &fallen).unwrap_or(false))
        && let Some(job) = batch.slice.jobs.get_mut(&id)
    {
        job.doubtful += fallen.len() as u64;
    }
    if batch.slice.jobs.get(&id).is_some_and(Job::awaits_review) {
        if let Some(job) = batch.slice.jobs.get_mut(&id) {
            job.reviewed = true;
        }
        batch.advance(UnitKey { job: id, stage: Stage::Work, index: 0 }, Digest::of(b""), 0);
    }
    batch.changes
}

/// A unit whose verdict no longer stands.
#[derive(Debug, Clone, Copy)]
struct Fallen {
    unit: UnitKey,
    /// Owners that are missing.
    missing: usize,
}

impl Batch<'_> {
    /// Decided units that do not stand. A job that named copies has them, and no more was bought.
    fn fallen(&self, id: JobId) -> Vec<Fallen> {
        let Some(job) = self.slice.jobs.get(&id).filter(|job| job.buys_confidence()) else {
            return Vec::new();
        };
        let doubts_confirmed = doubts_confirmed(
            self.slice.policy.liars,
            job.tolerance(),
            job.plan.work_units(),
            self.slice.catches,
        );
        let of_job = self.slice.verdicts.iter().filter(|(unit, verdict)| {
            unit.job == id && unit.stage != Stage::Split && is_paid(verdict.outcome)
        });
        let fallen = of_job.filter_map(|(unit, verdict)| {
            let attempts = self.slice.attempts.get(unit).map_or(&[][..], Vec::as_slice);
            let alone = standing_of_one(self.slice, *unit, attempts);
            // Of two who agreed one was caught: the other is not checked more than its job wants, unless it is a stranger.
            let alone = alone.filter(|one| attempts.len() == 1 || one.is_stranger() || one.picks());
            let mut rule = job.rule(*unit, attempts, alone, self.slice.policy);
            if unit.stage != Stage::Work && alone.is_none_or(|one| !one.is_stranger()) {
                rule.needed = 1;
            }
            let said = (verdict.outcome, verdict.digest);
            let support = support(attempts, said, rule);
            if doubts_confirmed && unit.stage == Stage::Work && support < confirmed(attempts, said, rule) {
                rule.needed = rule.needed.max(2);
            }
            let missing = rule.needed_for(verdict.outcome).saturating_sub(support);
            (missing > 0).then_some(Fallen { unit: *unit, missing })
        });
        fallen.collect()
    }

    /// Begins a job again from the end of its work, without these units. Whether there is money for it.
    fn begin_again(&mut self, id: JobId, fallen: &[Fallen]) -> Result<bool, AmountError> {
        let losses = self.slice.losses;
        let Some(job) = self.slice.jobs.get_mut(&id).filter(|job| job.round < ROUNDS_MAX) else {
            return Ok(false);
        };
        let mut cost = job.price_of_making()?;
        let work = fallen.iter().filter(|one| one.unit.stage == Stage::Work);
        for Fallen { unit, missing } in work.clone() {
            cost = cost.plus(job.reward(unit.stage, unit.index).times(*missing as u64)?)?;
        }
        if cost > job.left().plus(losses)? {
            return Ok(false);
        }
        // What is disputed on the way costs more; the rest goes back. Of its own a job only makes the answer anew: checks are
        // paid by it where nothing else is left.
        let grant = (cost.times(GRANTED_COSTS)? - job.price_of_making()?.min(job.left())).min(losses);
        let units = work.clone().count();
        job.begin_again(format!(
            "{units} of its units are run again, with all that was made from them: who had answered them was found to lie"
        ));
        if grant.is_positive() {
            job.granted = job.granted + grant;
            self.changes.transfers.push(Transfer::grant(job.currency, id.0, i64::from(job.round), grant));
        }
        self.changes.jobs_begun_again.insert(id);
        for Fallen { unit, .. } in work {
            self.reopen(*unit);
            self.want(*unit, false);
        }
        Ok(true)
    }
}
