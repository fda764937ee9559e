//! Looking over the work of a job that buys confidence: when all of it is done, before anything is made from it,
//! and whenever somebody who took part is caught.

use lull_job::{Digest, Share, Stage};

use super::batch::Batch;
use super::ids::{JobId, UnitKey};
use super::job::{Job, JobState};
use super::judge::support;
use super::slice::{Changes, Outcome, Slice};
use super::trust::{Coin, Policy};
use super::verdict::standing_of_one;

/// Of liars who tell as many lies as leave the most wrong results, so many are caught: 1 - 1/e. Fewer than the
/// operator assumes were expected to be, whatever they do.
const CAUGHT_OF_LIARS: f64 = 0.632;

/// What is known of a job when it is looked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Owners that took part, but for those who were caught while everything of theirs was checked: they say
    /// nothing of those whose results are not.
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
        (agreeing as usize) < self.wish_copies.needed(Coin::of(&self.key, unit))
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

/// Reopens the accepted work units in the slice that no longer stand: their coins ask for more owners, or who
/// supported them was caught. Where the work is done and all of it stands, the next stage opens. Units of
/// jobs that are past that are counted as doubtful. The slice holds the job and the units in question, with
/// all their attempts and whether somebody still has them.
pub fn review(slice: &mut Slice, id: JobId) -> Changes {
    let policy = slice.policy;
    let mut batch = Batch { slice, changes: Changes::default() };
    batch.changes.jobs_changed.insert(id);
    let units: Vec<UnitKey> = batch
        .slice
        .verdicts
        .keys()
        .copied()
        .filter(|unit| unit.job == id && unit.stage == Stage::Work)
        .collect();
    for unit in units {
        let Some(job) = batch.slice.jobs.get_mut(&id) else { continue };
        let Some(verdict) = batch.slice.verdicts.get(&unit).filter(|one| one.outcome == Outcome::Result)
        else {
            continue;
        };
        let attempts = batch.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        let alone = standing_of_one(attempts, &batch.slice.standings);
        let rule = job.rule(unit, alone, policy);
        if support(attempts, (verdict.outcome, verdict.digest), rule) >= rule.needed {
            continue;
        }
        if job.state == JobState::Running && job.stage == Stage::Work && !job.reviewed {
            batch.reopen(unit);
            if !batch.slice.leased_again.contains(&unit) {
                batch.want(unit, false);
            }
        } else {
            job.doubtful += 1;
        }
    }
    if batch.slice.jobs.get(&id).is_some_and(Job::awaits_review) {
        if let Some(job) = batch.slice.jobs.get_mut(&id) {
            job.reviewed = true;
        }
        batch.advance(UnitKey { job: id, stage: Stage::Work, index: 0 }, Digest::of(b""), 0);
    }
    batch.changes
}
