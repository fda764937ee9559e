//! What the core reads, and what it decides: plain values on either side of a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lull_job::{Digest, Stage};
use lull_ledger::{Amount, CurrencyId, Transfer};

use super::checkpoint::{Blame, Checkpoint, Offer};
use super::ids::{DeviceId, JobId, LeaseToken, OwnerId, UnitKey};
use super::job::Job;
use super::network::Networks;
use super::trouble::{Trouble, TroubleChange};
use super::trust::{Held, Policy, Stake, Standing, StandingChange};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// The guest returned a result.
    Result,
    /// The guest trapped or returned an error.
    GuestFailed,
    /// A limit of that PC ended it.
    Limit,
    /// Of verdicts only: too many attempts and no agreement.
    Undecidable,
}

/// How a unit is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RunMode {
    /// At full speed.
    #[default]
    Normal,
    /// Every NaN the canonical one, fuel counted.
    Strict,
    /// Both, one after the other: to settle a dispute.
    Referee,
}

/// A recorded attempt, as far as judging needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Whose it is; an owner has one attempt of a unit.
    pub owner: OwnerId,
    /// Which of its devices made it.
    pub device: DeviceId,
    /// How it ended.
    pub outcome: Outcome,
    /// Of its result or message.
    pub digest: Digest,
    /// Length of its result.
    pub size_bytes: u64,
    /// The checkpoint that its lease offered.
    pub origin: Option<LeaseToken>,
    /// Owners whose work may be in it, sorted; empty when its lease offered nothing, so that it is all its
    /// owner's.
    pub lineage: Vec<OwnerId>,
    /// States that it told of: steps and what the state was.
    pub witnessed: Vec<(u64, Digest)>,
    /// How the unit was run.
    pub mode: RunMode,
    /// Of both runs: how the strict one ended, and its result.
    pub strict: Option<(Outcome, Digest)>,
    /// Whether a device of the operator's trust made it. Its word settles a dispute when it ran the unit strictly too.
    pub by_referee: bool,
    /// Whether another attempt of the unit was out meanwhile: the two may have known of each other.
    pub late: bool,
    /// Whether somebody whom it rests on was caught after it: it says nothing any more.
    pub void: bool,
    /// Whether that was its owner: it is not paid any more, either.
    pub caught: bool,
    /// Whether its pay was decided with an earlier verdict.
    pub settled: bool,
    /// Whether it was paid then, known of units that are decided again.
    pub paid: bool,
}

impl Attempt {
    /// Owners whose work may be in it.
    #[must_use]
    pub fn owners(&self) -> &[OwnerId] {
        if self.lineage.is_empty() { std::slice::from_ref(&self.owner) } else { &self.lineage }
    }

    /// Owners who have to be believed for it to be: those whose work its lease came with, too. Who is leased a unit without a
    /// checkpoint is asked to run it from the start and answers for what it returns alone, whatever it was shown before.
    #[must_use]
    pub fn rests_on(&self) -> &[OwnerId] {
        if self.origin.is_some() { self.owners() } else { std::slice::from_ref(&self.owner) }
    }

    /// Whether somebody else whom it rests on was caught, ever. Nothing of whoever was caught is passed on: what it rests on
    /// was made before.
    #[must_use]
    pub fn is_spoilt(&self, standings: &BTreeMap<OwnerId, Standing>) -> bool {
        let was_caught = |owner: &OwnerId| standings.get(owner).is_some_and(|known| known.catches > 0);
        self.rests_on().iter().any(|owner| *owner != self.owner && was_caught(owner))
    }
}

/// An attempt to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The unit.
    pub unit: UnitKey,
    /// The attempt.
    pub attempt: Attempt,
    /// Under which lease.
    pub token: LeaseToken,
    /// Its result, when it is small and no other attempt of the unit holds the same.
    pub result: Option<Vec<u8>>,
    /// CPU time as the device reports it.
    pub cpu_micros: u64,
    /// Fuel of its strict run, as the device reports it.
    pub fuel: Option<u64>,
}

/// What was decided of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The unit.
    pub unit: UnitKey,
    /// Accepted when it is a result, failed otherwise.
    pub outcome: Outcome,
    /// What the agreeing attempts returned.
    pub digest: Digest,
    /// Its length.
    pub size_bytes: u64,
    /// Attempts that agreed.
    pub agreeing: u32,
    /// Attempts in all.
    pub attempts: u32,
    /// 1 for the first; a unit that was decided again has more, and the last counts.
    pub version: u16,
}

/// A unit behind the frontier that needs an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The unit.
    pub unit: UnitKey,
    /// Owners that have an attempt of it already, or whose work is in one; sorted.
    pub excluded: Vec<OwnerId>,
    /// Whether attempts of it differ: it is run both ways, by a referee where there is one.
    pub contested: bool,
    /// Whether a lease of it is open: this would be a second one. Its owner is excluded too.
    pub copy: bool,
    /// How long it has been wanted, in seconds.
    pub waited_secs: u64,
}

impl Wanted {
    /// Where it stands among the rows of its job, as part of its key: at the place of the first excluded owner, so that an
    /// owner's own units are skipped as a range. Units that nobody has answered come last: whoever hands many back must
    /// not keep others from being checked. Disputes come first, below zero: until they are settled liars go on.
    #[must_use]
    pub fn place(&self, job: &Job) -> i64 {
        let place = self.excluded.first().map_or(i64::MAX, |owner| job.place_of(*owner));
        if self.contested { place - i64::MAX } else { place }
    }
}

/// Some units in the hands of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The fencing token.
    pub token: LeaseToken,
    /// Whose units.
    pub job: JobId,
    /// Of which stage.
    pub stage: Stage,
    /// Which device holds them.
    pub device: DeviceId,
    /// Whose device it is.
    pub owner: OwnerId,
    /// Indexes not reported or handed back yet; sorted.
    pub open: Vec<u64>,
    /// Whether its deadline has passed: its units went elsewhere, its results are evidence only.
    pub expired: bool,
    /// How its units are run.
    pub mode: RunMode,
    /// Of units that came with a checkpoint, or might be made from one that was offered earlier.
    pub offers: BTreeMap<u64, Offer>,
    /// Units that it held at first.
    pub units: u64,
    /// Whether some of its units may be in another open lease, or wanted as copies.
    pub copied: bool,
}

impl Lease {
    /// Whether it is open and this unit is in it.
    #[must_use]
    pub fn holds(&self, unit: UnitKey) -> bool {
        (self.job, self.stage) == (unit.job, unit.stage)
            && !self.expired
            && self.open.binary_search(&unit.index).is_ok()
    }
}

/// What a batch of calls is decided on. Jobs are locked; the rest hangs on their locks.
#[derive(Debug, Clone, Default)]
pub struct Slice {
    /// Jobs that are reported on or could be leased from.
    pub jobs: BTreeMap<JobId, Job>,
    /// Leases of the calling devices, those that reports name, and others that hold the same units.
    pub leases: BTreeMap<LeaseToken, Lease>,
    /// Attempts of the units that are reported, handed back or expired.
    pub attempts: BTreeMap<UnitKey, Vec<Attempt>>,
    /// Verdicts of reported units.
    pub verdicts: BTreeMap<UnitKey, Verdict>,
    /// Rows of `wanted` that could be leased, each job's in order.
    pub wanted: BTreeMap<JobId, Vec<Wanted>>,
    /// Of units that leave expired or copied leases: their rows in `wanted`. Other leases that hold them are among `leases`.
    pub wanted_besides: BTreeMap<UnitKey, Wanted>,
    /// Of units that leave copied leases: where another attempt came since the lease was given.
    pub overlapped: BTreeSet<(UnitKey, LeaseToken)>,
    /// Where a job is looked over: units under an open lease.
    pub still_leased: BTreeSet<UnitKey>,
    /// Where stragglers are looked for: how long each lease has been out, or was last looked at, in microseconds.
    pub out_micros: BTreeMap<LeaseToken, u64>,
    /// Digests of large results that have been uploaded.
    pub blobs: BTreeSet<Digest>,
    /// Checkpoints of units that are reported, handed back or wanted.
    pub checkpoints: BTreeMap<UnitKey, Vec<Checkpoint>>,
    /// Of wanted units: whose work the calling owners were offered with earlier leases.
    pub offered: BTreeMap<(UnitKey, OwnerId), Vec<OwnerId>>,
    /// What devices uploaded of the states that they hand back, with its size.
    pub uploads: BTreeMap<(DeviceId, Digest), u64>,
    /// Owners of whom a device called within a day: a hint of who could check a unit.
    pub owners_there: BTreeSet<OwnerId>,
    /// Devices that called lately, a hint for the size of leases.
    pub grid_slots: u64,
    /// Verdicts that no longer stand, of reported units: they are decided again.
    pub reopened: BTreeMap<UnitKey, Verdict>,
    /// What is known of the calling owners, of those whom attempts of reported units rest on, and of those whose work is in
    /// a checkpoint; of others it is nothing.
    pub standings: BTreeMap<OwnerId, Standing>,
    /// What these owners would lose, in the currencies of jobs that buy confidence.
    pub stakes: BTreeMap<(OwnerId, CurrencyId), Stake>,
    /// Owners that called lately: a hint of how many take part.
    pub grid_owners: u64,
    /// Owners of referees that called lately and have time: disputes wait for them, unless they had a voice.
    pub referees_there: BTreeSet<OwnerId>,
    /// Who called from where lately.
    pub networks: Arc<Networks>,
    /// Devices that failed when they were last heard of.
    pub troubles: Arc<BTreeMap<DeviceId, Trouble>>,
    /// What the operator assumes.
    pub policy: Policy,
    /// Where a job is looked over: how often owners that took part in it were caught, ever.
    pub catches: u64,
    /// Where a job is looked over: what was forfeited in it to losses, and has not been granted to it.
    pub losses: Amount,
}

impl Slice {
    /// Attempts that went on from work of somebody who was caught say nothing any more, in jobs that buy confidence. Their owners
    /// keep what they were paid, and are paid if they turn out to be right.
    pub fn void_spoilt(&mut self) {
        for (unit, attempts) in &mut self.attempts {
            if self.jobs.get(&unit.job).is_some_and(Job::buys_confidence) {
                for attempt in attempts.iter_mut().filter(|attempt| attempt.origin.is_some()) {
                    attempt.void |= attempt.is_spoilt(&self.standings);
                }
            }
        }
    }
}

/// What paid attempts of one device add up to in one currency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Earned {
    /// The rewards.
    pub amount: Amount,
    /// How many attempts they pay.
    pub units: u64,
}

/// What was decided: to be written exactly.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Attempts to insert.
    pub attempts: Vec<Recorded>,
    /// Verdicts to insert.
    pub verdicts: Vec<Verdict>,
    /// Transfers to insert and post.
    pub transfers: Vec<Transfer>,
    /// What the rewards among them add to each device's earnings in each currency.
    pub earned: BTreeMap<(DeviceId, CurrencyId), Earned>,
    /// Rows of `wanted` to insert.
    pub wanted_added: Vec<Wanted>,
    /// Rows of `wanted` to delete.
    pub wanted_removed: Vec<Wanted>,
    /// Checkpoints to insert.
    pub checkpoints_added: Vec<(UnitKey, Checkpoint)>,
    /// Checkpoints that were not what they must be, by unit and lease: to be logged.
    pub checkpoints_refused: Vec<(UnitKey, LeaseToken)>,
    /// Checkpoints to delete.
    pub checkpoints_removed: Vec<(UnitKey, LeaseToken)>,
    /// Units of checkpointed jobs that were decided: their checkpoints and offers go.
    pub units_closed: Vec<UnitKey>,
    /// Who was wrong about a checkpoint.
    pub blames: Vec<Blame>,
    /// What else is known of owners.
    pub standings: BTreeMap<OwnerId, StandingChange>,
    /// What else is known of devices.
    pub troubles: BTreeMap<DeviceId, TroubleChange>,
    /// Of rewards: those that are held back, in the order in which they were earned.
    pub held: Vec<Held>,
    /// Units of which the verdict no longer stands, with the owners that had an attempt then.
    pub reopened: Vec<(UnitKey, Vec<OwnerId>)>,
    /// Reopened units that have a verdict again.
    pub reclosed: Vec<UnitKey>,
    /// Leases to insert.
    pub leases_added: Vec<Lease>,
    /// Leases whose open units or expiry changed; one without open units is deleted.
    pub leases_changed: BTreeSet<LeaseToken>,
    /// Leases that took too long: their time begins again.
    pub leases_looked_at: BTreeSet<LeaseToken>,
    /// Jobs to update.
    pub jobs_changed: BTreeSet<JobId>,
    /// Jobs that ended: what they wanted and leased goes.
    pub jobs_ended: BTreeSet<JobId>,
    /// Jobs that are begun again: what they wanted and leased before goes first.
    pub jobs_begun_again: BTreeSet<JobId>,
}
