//! Pay that has been held back for nearly as long as it may be, for units that nobody checked: they are checked first.

use super::batch::Batch;
use super::ids::UnitKey;
use super::job::JobState;
use super::slice::{Changes, Slice};
use super::verdict::is_paid;

use lull_job::Stage;

/// Wants units of the slice checked that one owner alone has answered, where there is escrow to spare. Their jobs are in
/// the slice, with attempts and verdicts. A unit is taken up once only, and only while its job does its work: later nothing
/// can be checked.
pub fn check_overdue(slice: &mut Slice) -> Changes {
    let units: Vec<UnitKey> = slice.verdicts.keys().copied().collect();
    let mut batch = Batch::of(slice);
    for unit in units {
        if batch.can_be_checked(unit) {
            batch.reopen(unit);
            batch.want(unit, false);
        }
    }
    batch.changes
}

impl Batch<'_> {
    fn can_be_checked(&self, unit: UnitKey) -> bool {
        let Some(job) = self.slice.jobs.get(&unit.job) else { return false };
        let is_at_work = job.state == JobState::Running
            && job.stage == Stage::Work
            && unit.stage == Stage::Work
            && !job.reviewed;
        let is_alone =
            self.slice.verdicts.get(&unit).is_some_and(|verdict| {
                is_paid(verdict.outcome) && verdict.agreeing == 1 && verdict.version == 1
            });
        let is_out = self.slice.still_leased.contains(&unit);
        is_at_work
            && job.buys_confidence()
            && is_alone
            && !is_out
            && job.reward(unit.stage, unit.index) <= job.spare()
    }
}
