//! A job as the core sees it: one row that is locked while anything about the job is decided.

use lull_job::{Digest, Plan, Stage};
use lull_ledger::Amount;

use super::ids::{JobId, SubmitterId};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It hands units out.
    Running,
    /// Its answer is there.
    Complete,
    /// It ended without an answer.
    Incomplete,
    /// Its submitter ended it.
    Cancelled,
}

/// What a job pays for one accepted attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prices {
    /// For one item of a work unit.
    pub item: Amount,
    /// For a split, merge or finish unit.
    pub service: Amount,
}

/// Counters over all stages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Units accepted.
    pub accepted: u64,
    /// Units failed.
    pub failed: u64,
    /// Attempts recorded.
    pub attempts: u64,
    /// Attempts of units that have their verdict.
    pub judged: u64,
    /// CPU time of recorded attempts, as devices report it.
    pub cpu_micros: u64,
    /// CPU time of recorded attempts of work units.
    pub work_cpu_micros: u64,
    /// Recorded attempts of work units.
    pub work_attempts: u64,
    /// Items in accepted work units.
    pub items_accepted: u64,
}

/// The result of the finish unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// What it is.
    pub digest: Digest,
    /// How long it is.
    pub size_bytes: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub id: JobId,
    /// Who pays.
    pub submitter: SubmitterId,
    /// Where it stands.
    pub state: JobState,
    /// Why it ended as it did.
    pub reason: String,
    /// Key of the order in which its units go out.
    pub key: [u8; 32],
    /// Among the submitter's jobs, higher goes first.
    pub priority: i32,
    /// Owners that must agree on a work unit.
    pub copies: u32,
    /// Whether the answer may be made without failed units.
    pub allow_missing: bool,
    /// Largest result.
    pub result_bytes_max: u64,
    /// Memory of its guests.
    pub memory_bytes_max: u64,
    /// Whether it has or had a checkpoint: otherwise nothing of the kind is looked up.
    pub checkpointed: bool,
    /// Its units.
    pub plan: Plan,
    /// The stage that runs.
    pub stage: Stage,
    /// Units of that stage; 0 while a split's items are counted.
    pub stage_units: u64,
    /// Units of that stage that have been leased for the first time, in the permuted order.
    pub frontier: u64,
    /// Units of that stage accepted.
    pub stage_accepted: u64,
    /// Units of that stage failed.
    pub stage_failed: u64,
    /// Rows in `wanted`.
    pub wanted: u64,
    /// Estimated CPU time of a unit of this stage; 0 while unknown.
    pub unit_micros: u64,
    /// What it pays.
    pub prices: Prices,
    /// The most that it may cost: what went into escrow.
    pub budget: Amount,
    /// Held for leased units and undecided attempts.
    pub reserved: Amount,
    /// Paid.
    pub spent: Amount,
    /// Counters.
    pub totals: Totals,
    /// Its answer.
    pub answer: Option<Answer>,
}

impl Job {
    /// Owners that must agree on a unit of this stage: what the whole answer rests on takes two at least.
    #[must_use]
    pub fn quorum(&self, stage: Stage) -> usize {
        let copies = if stage == Stage::Work { self.copies } else { self.copies.max(2) };
        copies as usize
    }

    /// Pay for one accepted attempt of a unit. Prices are checked at submission, so that the product exists.
    #[must_use]
    pub fn reward(&self, stage: Stage, index: u64) -> Amount {
        match stage {
            Stage::Work => self.prices.item.times(self.plan.item_count(index)).unwrap_or(Amount::MAX),
            _ => self.prices.service,
        }
    }

    /// Escrow that nothing is held for.
    #[must_use]
    pub fn unreserved(&self) -> Amount {
        self.budget - self.spent - self.reserved
    }

    /// Units of the stage that have not been leased yet.
    #[must_use]
    pub const fn beyond_frontier(&self) -> u64 {
        self.stage_units.saturating_sub(self.frontier)
    }

    /// Whether there is something to lease.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.state == JobState::Running && (self.beyond_frontier() > 0 || self.wanted > 0)
    }

    /// What the job costs when every unit needs just its quorum.
    ///
    /// # Errors
    /// When that is more than an amount can be.
    pub fn expected_cost(&self, plan: &Plan) -> Result<Amount, lull_ledger::AmountError> {
        expected_cost(plan, self.prices, self.copies)
    }
}

/// What a job costs when every unit needs just its quorum.
///
/// # Errors
/// When that is more than an amount can be.
pub fn expected_cost(plan: &Plan, prices: Prices, copies: u32) -> Result<Amount, lull_ledger::AmountError> {
    let work = prices.item.times(plan.items_running())?.times(u64::from(copies))?;
    let service = prices.service.times(plan.service_units().total())?.times(u64::from(copies.max(2)))?;
    work.plus(service)
}
