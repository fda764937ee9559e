//! A job as the core sees it: one row that is locked while anything about the job is decided.

use lull_job::{Digest, Plan, Share, Stage};
use lull_ledger::{Amount, AmountError, CurrencyId, FeeRate};

use super::ids::{JobId, OwnerId, SubmitterId, UnitKey};
use super::judge::Rule;
use super::slice::{Attempt, RunMode};
use super::trust::{Coin, Copies, OF_MAKING, Policy, Standing, lead};

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

/// How sure one has to be to blame somebody, where a job names no share of errors.
const DEFAULT_TOLERANCE: Share = Share::parts(Share::WHOLE / 10_000);

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
    /// Owners that must agree on a work unit, where no share of errors was named.
    pub copies: u32,
    /// Share of accepted work units that may be wrong; none where `copies` is to be used.
    pub max_error: Share,
    /// Chance that the answer may be wrong; none where it was not named.
    pub max_answer_error: Share,
    /// Copies that work units get on average, to keep the share of errors down; it only rises.
    pub wish_copies: Copies,
    /// Owners that must agree on what is made from the work: by the promise for the answer, when it was submitted.
    pub service_owners: u32,
    /// Whether everything is run strictly, as results depend on bits of NaN.
    pub strict: bool,
    /// Whether the work stage was looked over when it was done.
    pub reviewed: bool,
    /// Accepted units that no longer stand, and that there was nothing to run again with.
    pub doubtful: u64,
    /// How often it was begun again from the end of its work, with all that is made from it.
    pub round: u16,
    /// Whether all pay for it is its owners' for good, and so nothing can be begun again at their cost.
    pub settled: bool,
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
    /// What all of its money is in.
    pub currency: CurrencyId,
    /// What it pays, the platform's fee included.
    pub prices: Prices,
    /// The platform's share of each reward.
    pub fee: FeeRate,
    /// The most that it may cost its submitter: what went into escrow.
    pub budget: Amount,
    /// What came from losses besides and has not gone back.
    pub granted: Amount,
    /// What was left of its submitter's when it was last begun again.
    pub own: Amount,
    /// What has gone back to its submitter.
    pub refunded: Amount,
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

    /// The most owners that a unit of a stage may need where nobody lies.
    #[must_use]
    pub fn most_owners(&self, stage: Stage) -> usize {
        match stage {
            _ if !self.buys_confidence() => self.quorum(stage),
            Stage::Work => usize::try_from(self.wish_copies.most()).unwrap_or(usize::MAX),
            _ => self.service_owners as usize,
        }
    }

    /// Whether a share of errors was named.
    #[must_use]
    pub const fn buys_confidence(&self) -> bool {
        !self.max_error.is_zero() || !self.max_answer_error.is_zero()
    }

    /// The share of work units that may be wrong, whichever way it was named. An answer is wrong as soon as one
    /// unit is.
    #[must_use]
    pub fn tolerance(&self) -> Share {
        tolerance(self.max_error, self.max_answer_error, self.plan.work_units()).unwrap_or(DEFAULT_TOLERANCE)
    }

    /// What decides a unit with these attempts, of which `first` alone has made what says something, or several.
    #[must_use]
    pub fn rule(&self, unit: UnitKey, attempts: &[Attempt], first: Option<Standing>, policy: Policy) -> Rule {
        let lead = lead(policy.liars, self.tolerance());
        if !self.buys_confidence() {
            let needed = self.quorum(unit.stage);
            return Rule { needed, strict: self.strict, lead, to_fail: lead, by_vote: true };
        }
        let voided = attempts.iter().filter(|attempt| attempt.void).count();
        let coin = Coin::of(&self.key, unit, voided);
        // What is done again is paid by what the coin asks for: who is known is not checked more.
        let first = first.filter(|one| self.round == 0 || one.is_stranger() || one.picks());
        let needed = match (unit.stage, first) {
            (Stage::Work, Some(standing)) => self.wish_copies.needed_after(coin, standing, self.pay(unit)),
            (Stage::Work, None) => self.wish_copies.needed(coin),
            _ => self.service_owners as usize,
        };
        Rule { needed, strict: self.strict, lead, to_fail: lead, by_vote: false }
    }

    /// How its units are run when nothing is in dispute.
    #[must_use]
    pub const fn run_mode(&self) -> RunMode {
        if self.strict { RunMode::Strict } else { RunMode::Normal }
    }

    /// Takes what is known of the grid into account: more owners, more who might lie. Returns whether that changes
    /// anything.
    pub fn raise_copies(&mut self, owners: u64, liars: Share) -> bool {
        let before = self.wish_copies;
        // What is done again was paid for at the old rate.
        if self.buys_confidence() && self.round == 0 {
            let copies = Copies::for_error(self.tolerance(), liars, owners, self.plan.work_units());
            self.wish_copies = before.max(copies);
        }
        self.wish_copies > before
    }

    /// What one accepted attempt of a unit costs, the fee included. Prices are checked at submission, so that the product exists.
    #[must_use]
    pub fn reward(&self, stage: Stage, index: u64) -> Amount {
        match stage {
            Stage::Work => self.prices.item.times(self.plan.item_count(index)).unwrap_or(Amount::MAX),
            _ => self.prices.service,
        }
    }

    /// What of that is its owner's.
    #[must_use]
    pub fn pay(&self, unit: UnitKey) -> Amount {
        let reward = self.reward(unit.stage, unit.index);
        reward - self.fee.of(reward)
    }

    /// What is in its escrow.
    #[must_use]
    pub fn left(&self) -> Amount {
        self.budget + self.granted - self.refunded - self.spent
    }

    /// Escrow that nothing is held for.
    #[must_use]
    pub fn unreserved(&self) -> Amount {
        self.left() - self.reserved
    }

    /// The number of a stage in this round: what is made from the work has new numbers each time, as other
    /// attempts of it are made from other inputs.
    #[must_use]
    pub const fn stage_number(&self, stage: Stage) -> i16 {
        stage_number(stage, self.round)
    }

    /// Why its answer may differ from the one that there was before.
    #[must_use]
    pub fn made_again(&self) -> String {
        match self.round {
            0 => String::new(),
            1 => "it was made again, as owners that took part were found to lie".to_owned(),
            times => format!("it was made again {times} times, as owners that took part were found to lie"),
        }
    }

    /// What it takes to make the answer from the work.
    ///
    /// # Errors
    /// When that is more than an amount can be.
    pub(super) fn price_of_making(&self) -> Result<Amount, AmountError> {
        let made = self.plan.service_units();
        self.prices.service.times((made.merge + made.finish).saturating_mul(u64::from(self.service_owners)))
    }

    /// What a complete job keeps until it is settled, should it have to be begun again: what makes the answer anew, and
    /// checks of units that are run again. Their makers lose what running them once takes, but their coins are new ones,
    /// and some ask for more than one owner.
    ///
    /// # Errors
    /// When that is more than an amount can be.
    pub(super) fn price_of_again(&self) -> Result<Amount, AmountError> {
        let units = self.plan.work_units();
        let checks =
            self.wish_copies.times(units).saturating_sub(units).min(units.div_ceil(CHECKS_KEPT_MOST));
        self.price_of_making()?.plus(self.reward(Stage::Work, 0).times(checks)?)
    }

    /// Escrow that units may be leased with. While work is done again, what making the answer takes is not touched.
    #[must_use]
    pub fn leasable(&self) -> Amount {
        if self.round > 0 && self.stage == Stage::Work {
            self.unreserved() - self.price_of_making().unwrap_or(Amount::MAX)
        } else {
            self.unreserved()
        }
    }

    /// What a unit of the stage took: a moving average with a weight of a quarter. Devices say it themselves, and one that
    /// lies must not make everybody's leases small or hide who is late: the first sets it, and none after it counts for
    /// more than eight times what is known.
    pub(super) fn learn_time(&mut self, cpu_micros: u64) {
        let known = self.unit_micros;
        let average = if known == 0 {
            cpu_micros
        } else {
            let said = cpu_micros.clamp(known / SURPRISE_MAX, known.saturating_mul(SURPRISE_MAX));
            (known / 4 * 3).saturating_add(said / 4)
        };
        self.unit_micros = average.max(1);
    }

    /// What is left of what its submitter gave. Work that is done again is paid by what was granted for it first.
    pub(super) fn own_left(&self) -> Amount {
        if self.round > 0 { self.own.min(self.left()) } else { self.left() }
    }

    /// Brings it back to the end of its work: what was made from it is void.
    pub(super) fn begin_again(&mut self, reason: String) {
        self.own = self.own_left();
        if self.stage != Stage::Work {
            // Past its work, only units of work have failed before.
            self.totals.failed -= self.stage_failed;
            self.stage = Stage::Work;
            self.stage_units = self.plan.units(Stage::Work);
            self.frontier = self.stage_units;
            self.stage_failed = self.totals.failed;
            self.stage_accepted = self.stage_units - self.stage_failed;
            self.totals.accepted = self.stage_accepted + u64::from(self.plan.has_split);
            self.unit_micros = self.totals.work_cpu_micros / self.totals.work_attempts.max(1);
        }
        self.state = JobState::Running;
        self.reason = reason;
        self.round += 1;
        self.reviewed = false;
        self.settled = false;
        self.wanted = 0;
        self.reserved = Amount::ZERO;
    }

    /// Where units that an owner has answered stand among those that wait: in another order in each job, that nobody
    /// knows.
    #[must_use]
    pub fn place_of(&self, owner: OwnerId) -> i64 {
        let mut secret = [0; 8];
        secret.copy_from_slice(&self.key[..8]);
        let place = i64::from_be_bytes(secret).wrapping_add(owner.0).wrapping_mul(PLACES_APART);
        place & PLACE_MAX
    }

    /// The place from which on rows that wait are handed out next, and from the first on after the last: by lot, so that
    /// nobody's wait longest. Whoever is checked late lies more before it is caught.
    #[must_use]
    pub fn next_place(&self) -> i64 {
        Coin::of_place(&self.key, self.frontier, self.wanted).spread(PLACE_MAX)
    }

    /// Units of the stage that have not been leased yet.
    #[must_use]
    pub const fn beyond_frontier(&self) -> u64 {
        self.stage_units.saturating_sub(self.frontier)
    }

    /// Undecided units of the stage that are in somebody's hands.
    #[must_use]
    pub const fn units_out(&self) -> u64 {
        let undecided = self.stage_units - self.stage_accepted - self.stage_failed;
        undecided.saturating_sub(self.beyond_frontier() + self.wanted)
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
    pub fn expected_cost(&self, plan: &Plan) -> Result<Amount, AmountError> {
        expected_cost(plan, self.prices, self.copies_on_average(), self.service_owners, 0)
    }

    /// Copies of a work unit.
    #[must_use]
    pub fn copies_on_average(&self) -> Copies {
        if self.buys_confidence() { self.wish_copies } else { Copies::whole(self.copies) }
    }
}

/// Places of consecutive owners are so far apart: the golden ratio's share of 2^62, made odd, so that no two are the same.
const PLACES_APART: i64 = 2_850_178_704_830_799_873;
/// Places are below 2^62.
const PLACE_MAX: i64 = (1 << 62) - 1;
/// By what factor a report of the time of a unit may differ from what is known, and count in full.
const SURPRISE_MAX: u64 = 8;

/// Of a complete job's work, one unit in so many is kept the price of, at most, to check what may be run again.
const CHECKS_KEPT_MOST: u64 = 4;

/// How often a job is begun again at most: its stages have numbers for no more.
pub(super) const ROUNDS_MAX: u16 = 100;

/// The number of a stage in a round: by its code, and 256 for each time before.
#[must_use]
pub const fn stage_number(stage: Stage, round: u16) -> i16 {
    let round = if round < ROUNDS_MAX { round } else { ROUNDS_MAX };
    match stage {
        Stage::Split | Stage::Work => stage.code() as i16,
        Stage::Merge(_) | Stage::Finish => stage.code() as i16 + 256 * round as i16,
    }
}

/// The stage of such a number, in whichever round; `None` where there is none.
#[must_use]
pub fn stage_of_number(number: i16) -> Option<Stage> {
    u8::try_from(number % 256).ok().map(Stage::from_code)
}

/// The share of work units that may be wrong, whichever way it was named; `None` where it was not. An answer is
/// wrong as soon as one unit is, or something that is made from them.
#[must_use]
pub fn tolerance(max_error: Share, max_answer_error: Share, work_units: u64) -> Option<Share> {
    let of_work = max_answer_error.number() - max_answer_error.number() / OF_MAKING;
    let answer = Share::parts((of_work / work_units.max(1)).max(1));
    match (max_error.is_zero(), max_answer_error.is_zero()) {
        (true, true) => None,
        (true, false) => Some(answer),
        (false, true) => Some(max_error),
        (false, false) => Some(max_error.min(answer)),
    }
}

/// What a job costs when every unit needs just its copies or service owners, and the first results of `strangers` are all checked.
///
/// # Errors
/// When that is more than an amount can be.
pub fn expected_cost(
    plan: &Plan,
    prices: Prices,
    copies: Copies,
    service_owners: u32,
    strangers: u64,
) -> Result<Amount, AmountError> {
    let strange = plan.items_per_unit.saturating_mul(strangers);
    let work = prices.item.times(copies.attempts(plan.items_running(), strange))?;
    let service = prices.service.times(plan.service_units().total())?;
    work.plus(service.times(copies.most().max(u64::from(service_owners)))?)
}
