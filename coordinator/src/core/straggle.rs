//! Second copies of units whose lease takes too long: near the end of a stage, when others wait for it, and whenever it
//! has been out several times longer than its units should take.
//!
//! A copy is a row of `wanted` while the lease is still open. Whoever takes it cannot tell it from a check, both may finish,
//! and both are paid; the first that suffices decides. In a job that buys confidence the two are one voice, as
//! `Attempt::late` says: see `docs/TRUST.md`. How long a lease has been out comes in; nothing here reads a clock.

use std::collections::BTreeSet;

use lull_job::Stage;
use lull_ledger::{Amount, AmountError};

use super::batch::Batch;
use super::checkpoint::{owners_in, union};
use super::ids::{LeaseToken, OwnerId, UnitKey};
use super::job::{Job, JobState};
use super::judge::{Judgement, judge};
use super::slice::{Changes, Lease, Slice, Wanted};

/// Below this a lease is not late: programs and results travel, and modules are compiled.
const PATIENCE_MIN_MICROS: u64 = 10_000_000;
/// A lease that others wait for counts as late while nobody knows what a unit takes: longer than most take.
const PATIENCE_UNKNOWN_MICROS: u64 = 900_000_000;
/// While there is other work it does not: all units may take that long. Ten years.
const NEVER_MICROS: u64 = 315_360_000_000_000;
/// A lease that others wait for may take so many times what its units should.
const TIMES_WHEN_AWAITED: u64 = 2;
/// A lease may take so many times what its units should while there is other work. What is copied then costs and hurries
/// nobody, unless the device has gone for good.
const TIMES: u64 = 5;
/// Copies of a unit that are out, or wanted, besides its first.
const COPIES_MAX: usize = 1;

/// Whether somebody waits for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// There is other work.
    None,
    /// Devices of other owners have nothing else to do.
    Awaited,
}

/// Who could take a copy.
#[derive(Debug, Clone, Default)]
pub struct Onlookers {
    /// Owners of devices that called lately.
    pub there: BTreeSet<OwnerId>,
    /// Owners of devices that wait for work, and for which there is none.
    pub waiting: BTreeSet<OwnerId>,
}

impl Onlookers {
    fn of(&self, urgency: Urgency) -> &BTreeSet<OwnerId> {
        match urgency {
            Urgency::None => &self.there,
            Urgency::Awaited => &self.waiting,
        }
    }
}

/// How long a lease may be out before its units are handed out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Never less, in microseconds.
    pub least_micros: u64,
    /// While nobody knows what a unit takes, in microseconds.
    pub unknown_micros: u64,
    /// So many times what its units should take.
    pub times: u64,
}

impl Patience {
    /// How much there is.
    #[must_use]
    pub const fn of(urgency: Urgency) -> Self {
        let (times, unknown_micros) = match urgency {
            Urgency::None => (TIMES, NEVER_MICROS),
            Urgency::Awaited => (TIMES_WHEN_AWAITED, PATIENCE_UNKNOWN_MICROS),
        };
        Self { least_micros: PATIENCE_MIN_MICROS, unknown_micros, times }
    }

    /// For a lease of so many units of which each should take that long, 0 while unknown; in microseconds.
    #[must_use]
    pub const fn micros(self, unit_micros: u64, units: u64) -> u64 {
        if unit_micros == 0 {
            return self.unknown_micros;
        }
        let micros = unit_micros.saturating_mul(units).saturating_mul(self.times);
        if micros < self.least_micros { self.least_micros } else { micros }
    }
}

/// Wants copies of units of leases that have been out too long (`out_micros` of the slice); the time of these begins again. Their jobs are in the slice, with
/// attempts and verdicts of their open units, and what else holds or wants these.
pub fn straggle(slice: &mut Slice, onlookers: &Onlookers) -> Changes {
    let late: Vec<LeaseToken> = slice.out_micros.keys().copied().collect();
    let mut batch = Batch::of(slice);
    for token in late {
        batch.copy(token, onlookers);
    }
    batch.changes
}

impl Batch<'_> {
    fn copy(&mut self, token: LeaseToken, onlookers: &Onlookers) {
        let Some(lease) = self.slice.leases.get(&token).filter(|lease| !lease.expired).cloned() else {
            return;
        };
        let out_micros = self.slice.out_micros.get(&token).copied().unwrap_or(0);
        let mut is_copied = false;
        for index in &lease.open {
            let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
            let Some(excluded) = self.is_late(unit, &lease, out_micros, onlookers) else { continue };
            self.changes.leases_looked_at.insert(token);
            let Some(row) = self.copy_of(unit, token, excluded) else { continue };
            if let Some(job) = self.slice.jobs.get_mut(&lease.job) {
                job.wanted += 1;
                self.changes.jobs_changed.insert(lease.job);
            }
            self.changes.wanted_added.push(row);
            self.wanted_now.insert(unit);
            is_copied = true;
        }
        if is_copied
            && !lease.copied
            && let Some(lease) = self.slice.leases.get_mut(&token)
        {
            lease.copied = true;
            self.changes.leases_changed.insert(token);
        }
    }

    /// Whether a unit of a lease takes too long while somebody else could take it: without these owners.
    fn is_late(
        &self,
        unit: UnitKey,
        lease: &Lease,
        out_micros: u64,
        onlookers: &Onlookers,
    ) -> Option<Vec<OwnerId>> {
        let job = self.slice.jobs.get(&unit.job).filter(|job| job.state == JobState::Running)?;
        let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        let excluded = union(owners_in(attempts).iter().chain([&lease.owner]));
        let is_late = |urgency| {
            onlookers.of(urgency).iter().any(|owner| !excluded.contains(owner))
                && out_micros >= Patience::of(urgency).micros(job.unit_micros, lease.units)
        };
        // Who waits while there are units that nobody had may not have them.
        let is_late = is_late(Urgency::None) || (job.beyond_frontier() == 0 && is_late(Urgency::Awaited));
        (job.stage == unit.stage && is_late).then_some(excluded)
    }

    /// A unit of a lease as it is wanted once more; `None` where it need not or cannot be.
    fn copy_of(&self, unit: UnitKey, token: LeaseToken, excluded: Vec<OwnerId>) -> Option<Wanted> {
        let job = self.slice.jobs.get(&unit.job)?;
        if self.slice.verdicts.contains_key(&unit) || self.copies_out(unit, token) >= COPIES_MAX {
            return None;
        }
        let attempts = self.slice.attempts.get(&unit).map_or(&[][..], Vec::as_slice);
        let rule = job.rule(unit, attempts, None, self.slice.policy);
        let contested = matches!(judge(attempts, rule), Judgement::Undecided { contested: true });
        // Copies that are wanted already count as part of the rest.
        let is_covered = job.reward(unit.stage, unit.index) <= job.spare();
        is_covered.then_some(Wanted { unit, excluded, contested, copy: true, waited_secs: 0 })
    }

    /// Where a unit is besides this lease.
    fn copies_out(&self, unit: UnitKey, token: LeaseToken) -> usize {
        let wanted = usize::from(self.slice.wanted_besides.contains_key(&unit))
            + usize::from(self.wanted_now.contains(&unit));
        self.held_besides(unit, token) + wanted
    }
}

impl Job {
    /// What is left of its escrow for copies when every undecided unit of the stage takes as many owners as it may need, and
    /// all that is made of the units is paid; negative where that is more than there is. Nothing while a split runs, as what
    /// follows from it is not known.
    pub(super) fn spare(&self) -> Amount {
        match self.rest() {
            Ok(rest) if self.stage != Stage::Split => self.unreserved() - rest,
            _ => -Amount::MAX,
        }
    }

    /// What the rest of the job takes at most, disputes left out, besides what is held for it already.
    fn rest(&self) -> Result<Amount, AmountError> {
        let undecided = self.stage_units - self.stage_accepted - self.stage_failed;
        let made_by = u64::from(self.service_owners);
        let owners = |stage| match stage {
            Stage::Work => self.copies_on_average().most().max(self.quorum(stage) as u64),
            _ => self.copies_on_average().most().max(self.quorum(stage) as u64).max(made_by),
        };
        let each = match self.stage {
            Stage::Work => self.prices.item.times(self.plan.items_per_unit)?,
            _ => self.prices.service,
        };
        // Pay is held for attempts, and for each undecided unit that is out.
        let attempts = self.totals.attempts - self.totals.judged;
        let held = attempts + self.units_out();
        let here = undecided.saturating_mul(owners(self.stage)).saturating_sub(held);
        let mut later = 0u64;
        let mut next = self.plan.next_stage(self.stage);
        while let Some(stage) = next {
            later = later.saturating_add(self.plan.units(stage).saturating_mul(owners(stage)));
            next = self.plan.next_stage(stage);
        }
        each.times(here)?.plus(self.prices.service.times(later)?)
    }
}
