//! Who gets which units.

use std::collections::{BTreeMap, BTreeSet};

use lull_job::{Permutation, Stage};
use lull_ledger::Amount;

use super::batch::{Request, Want};
use super::checkpoint::{Offer, best_for, disjoint, is_passed_on, union};
use super::fairness::Fairness;
use super::ids::{JobId, LeaseToken, OwnerId, SubmitterId};
use super::job::Job;
use super::network::Network;
use super::slice::{Changes, Lease, RunMode, Slice, Wanted};
use super::trouble::Trouble;
use super::trust::{Coin, Standing};

/// Work in one lease: what a PC that is switched off takes with it.
const LEASE_MICROS: u64 = 120_000_000;
/// Units in one lease, however small: its row and its message stay small.
pub(crate) const LEASE_UNITS_MAX: u64 = 1_000;
/// Results to merge in one lease: those that live in rows travel with it, and a message stays under 32 MiB.
const LEASE_PARTS_MAX: u64 = 8_000;
/// Owners without common work that a unit takes if it is checked.
const CHECKED: usize = 2;
/// Who is checked more often than this gets one unit at a time.
const WATCHED_RATE: f64 = 0.5;
/// What a unit counts for in fair sharing while nobody knows what it takes.
const UNKNOWN_UNIT_MICROS: u64 = 1_000_000;

/// How many units of a job one lease holds: at most two minutes of work, at most half of a slot's fair part
/// of what is left, so that the end of a job is shared too, and one while the work in a unit is unknown. A wish for
/// fewer is heeded unless the job buys confidence: with a small lease one could choose what to answer.
#[must_use]
pub fn lease_units(job: &Job, grid_slots: u64, units_max: u64) -> u64 {
    if job.unit_micros == 0 {
        return 1;
    }
    let left = job.beyond_frontier() + job.wanted;
    let fair = left.div_ceil(grid_slots.max(1) * 2);
    let most = match job.stage {
        Stage::Split | Stage::Work => LEASE_UNITS_MAX,
        Stage::Merge(_) | Stage::Finish => (LEASE_PARTS_MAX / job.plan.merge_fan_in).max(1),
    };
    let wish = if units_max == 0 || job.buys_confidence() { most } else { units_max.min(most) };
    (LEASE_MICROS / job.unit_micros).min(fair).min(wish).max(1)
}

/// How many of a lease's units may repeat others, at most. Nobody can tell which is which.
#[must_use]
pub fn repeats_max(job: &Job, grid_slots: u64, units: u64) -> u64 {
    if job.beyond_frontier() == 0 {
        units
    } else if job.buys_confidence() {
        let (repeats, of) = mix(job, grid_slots);
        (units.saturating_mul(repeats) / of + 1).min(units)
    } else {
        units.div_ceil(2)
    }
}

/// How many of this lease's units repeat others, where so many wait. In a job that buys confidence every unit that
/// goes out is one of them with the same chance, whatever the size of its lease: an owner whose devices ask more
/// often, for less, makes no larger share of the checks than of the work, so that friends do not check each other
/// more often than anybody else.
fn repeats(job: &Job, grid_slots: u64, units: u64) -> u64 {
    let most = repeats_max(job, grid_slots, units);
    if job.beyond_frontier() == 0 || !job.buys_confidence() {
        return most;
    }
    let (repeats, of) = mix(job, grid_slots);
    let coin = Coin::of_lease(&job.key, job.frontier, job.wanted);
    units.saturating_mul(repeats).saturating_add(coin.below(of)) / of
}

/// The share of units that repeat others, as a fraction: half where as many wait as are out, and less where fewer do, so
/// that they never run out.
fn mix(job: &Job, grid_slots: u64) -> (u64, u64) {
    let slots = grid_slots.max(1);
    let pile = job.units_out().clamp(slots, lease_units(job, grid_slots, 0).saturating_mul(slots));
    let repeats = job.wanted.min(pile);
    (repeats, repeats + pile)
}

/// Hands out what a slice has, fairly.
pub(super) struct Allocator<'a> {
    slice: &'a mut Slice,
    fairness: &'a mut Fairness,
    /// Jobs of each submitter, best first.
    jobs: BTreeMap<SubmitterId, Vec<JobId>>,
    permutations: BTreeMap<JobId, Permutation>,
    /// Calls and jobs for which nothing was found: not tried again in this batch.
    fruitless: BTreeSet<(Asker, JobId)>,
}

impl<'a> Allocator<'a> {
    pub(super) fn new(slice: &'a mut Slice, fairness: &'a mut Fairness) -> Self {
        let mut jobs: BTreeMap<SubmitterId, Vec<JobId>> = BTreeMap::new();
        for job in slice.jobs.values().filter(|job| job.has_work()) {
            jobs.entry(job.submitter).or_default().push(job.id);
        }
        for list in jobs.values_mut() {
            list.sort_by_key(|id| (std::cmp::Reverse(slice.jobs.get(id).map(|job| job.priority)), *id));
        }
        fairness.admit(jobs.keys().copied());
        Self { slice, fairness, jobs, permutations: BTreeMap::new(), fruitless: BTreeSet::new() }
    }

    /// A lease for the device of this request, if there is work for it.
    pub(super) fn lease(
        &mut self,
        request: &Request,
        want: Want,
        tokens: &mut dyn Iterator<Item = LeaseToken>,
        changes: &mut Changes,
    ) -> Option<LeaseToken> {
        let trouble = self.slice.troubles.get(&request.device);
        if trouble.is_some_and(|trouble| trouble.rest_secs() > 0) {
            return None;
        }
        let asker = Asker { owner: request.owner, referee: request.referee, network: request.network };
        for submitter in self.fairness.order() {
            for id in self.jobs.get(&submitter).cloned().unwrap_or_default() {
                if self.fruitless.contains(&(asker, id)) {
                    continue;
                }
                let Some(taken) = self.take_units(id, request, want.units_max, changes) else {
                    self.fruitless.insert((asker, id));
                    continue;
                };
                let job = self.slice.jobs.get(&id)?;
                let unit_micros = if job.unit_micros == 0 { UNKNOWN_UNIT_MICROS } else { job.unit_micros };
                self.fairness.charge(submitter, unit_micros.saturating_mul(taken.open.len() as u64));
                let token = tokens.next()?;
                let lease = Lease {
                    token,
                    job: id,
                    stage: job.stage,
                    device: request.device,
                    owner: request.owner,
                    units: taken.open.len() as u64,
                    open: taken.open,
                    expired: false,
                    mode: taken.mode,
                    offers: taken.offers,
                    copied: taken.copied,
                };
                changes.jobs_changed.insert(id);
                changes.leases_added.push(lease.clone());
                self.slice.leases.insert(token, lease);
                return Some(token);
            }
        }
        None
    }

    /// Units for one lease, with their pay held; `None` when there is nothing for this owner.
    fn take_units(
        &mut self,
        id: JobId,
        request: &Request,
        units_max: u64,
        changes: &mut Changes,
    ) -> Option<Taken> {
        let owner = request.owner;
        let grid_slots = self.slice.grid_slots;
        let standing = self.slice.standings.get(&owner).copied().unwrap_or_default();
        let job = self.slice.jobs.get_mut(&id)?;
        let trouble = self.slice.troubles.get(&request.device).copied();
        let is_barred = job.buys_confidence() && !request.referee && (standing.rests() || standing.wastes());
        if !job.has_work() || is_barred {
            return None;
        }
        let confident = job.buys_confidence();
        let picks = confident && !request.referee && standing.picks();
        // Whatever a stranger returns is checked, and may have to be settled by many: one unit at a time.
        // So may be what somebody returns who has little to lose for so dear a unit.
        let stake = self.slice.stakes.get(&(owner, job.currency)).copied().unwrap_or_default().lasting();
        let has_little = Standing { stake, ..standing }.check_rate(job.prices.item) > WATCHED_RATE;
        let is_watched = picks || (confident && has_little) || trouble.is_some_and(Trouble::is_watched);
        let wish = if is_watched { 1 } else { lease_units(job, grid_slots, units_max) };
        let may_settle = !confident || request.referee || standing.settles() || job.beyond_frontier() == 0;
        let stage = job.stage;
        let mut open = Vec::new();
        let mut offers = BTreeMap::new();
        let mut mode = job.run_mode();
        let leasable = job.leasable();
        let mut unheld = leasable;
        let mut copied = false;
        // Who picks its units gets what nobody has answered.
        let repeats = if picks { 1 } else { repeats(job, grid_slots, wish) };
        let rows = self.slice.wanted.entry(id).or_default();
        // What the rest takes comes first.
        let may_copy = rows.iter().any(|row| row.copy) && job.spare() >= Amount::ZERO;
        let asks_elsewhere = self.slice.networks.asks_elsewhere(request.network);
        let mut disputes = 0;
        if request.referee {
            // Nobody else may take these.
            rows.sort_by_key(|row| !row.contested);
            let open_to = |row: &&Wanted| row.contested && !row.excluded.contains(&owner);
            disputes = rows.iter().filter(open_to).count() as u64;
        }
        let repeats = repeats.max(disputes.min(wish));
        let mut at = 0;
        while (open.len() as u64) < repeats && at < rows.len() {
            let reward = job.reward(stage, rows[at].unit.index);
            let unit = rows[at].unit;
            let seen = self.slice.offered.get(&(unit, owner));
            // An owner who may still have work of those who are excluded could not add a vote either.
            let is_excluded = rows[at].excluded.contains(&owner)
                || seen.is_some_and(|seen| !disjoint(seen, &rows[at].excluded));
            // What is run both ways does not mix with what is run once.
            let both = rows[at].contested && !job.strict;
            let is_in_other_mode = !open.is_empty() && both != (mode == RunMode::Referee);
            // Referees that have a voice in it cannot settle it; of jobs with checkpoints it is not known here which have.
            let excluded = &rows[at].excluded;
            let is_for_referees = rows[at].contested
                && !request.referee
                && !job.checkpointed
                && self.slice.referees_there.iter().any(|referee| !excluded.contains(referee));
            let is_for_others =
                (rows[at].contested && !may_settle) || (picks && !rows[at].excluded.is_empty());
            let is_too_dear = reward > unheld || (rows[at].copy && !may_copy);
            // In a dispute whoever is elsewhere may be who lied: there nobody is preferred.
            let is_near = asks_elsewhere
                && !rows[at].contested
                && self.slice.networks.prefer_others(request.network, &rows[at]);
            if is_excluded || is_in_other_mode || is_for_referees || is_for_others || is_too_dear || is_near {
                at += 1;
                continue;
            }
            if both {
                mode = RunMode::Referee;
            }
            let known = self.slice.checkpoints.get(&unit).map_or(&[][..], Vec::as_slice);
            let there = &self.slice.owners_there;
            // Only what is run once and at full speed can go on from another's state.
            let known = if mode == RunMode::Normal { known } else { &[][..] };
            let known = known.iter().filter(|one| !confident || is_passed_on(one, &self.slice.standings));
            // Whoever must agree has to be there; where one can be enough, somebody who could check it.
            let quorum = if confident { job.most_owners(stage).max(CHECKED) } else { job.quorum(stage) };
            let best = best_for(known, owner, &rows[at].excluded, quorum, there);
            if best.is_some() || seen.is_some() {
                let lineage =
                    union(best.iter().flat_map(|best| &best.lineage).chain(seen.into_iter().flatten()));
                offers.insert(unit.index, Offer { origin: best.map(|best| best.made_under), lineage });
            }
            unheld = unheld - reward;
            let row = rows.swap_remove(at);
            copied |= row.copy;
            open.push(row.unit.index);
            job.wanted = job.wanted.saturating_sub(1);
            changes.wanted_removed.push(row);
        }
        while (open.len() as u64) < wish && job.beyond_frontier() > 0 && mode != RunMode::Referee {
            let order = self
                .permutations
                .entry(id)
                .or_insert_with(|| Permutation::new(stage_key(&job.key, stage.code()), job.stage_units));
            let index = order.apply(job.frontier);
            let reward = job.reward(stage, index);
            if reward > unheld {
                break;
            }
            unheld = unheld - reward;
            open.push(index);
            job.frontier += 1;
        }
        if open.is_empty() {
            return None;
        }
        open.sort_unstable();
        job.reserved = job.reserved + (leasable - unheld);
        Some(Taken { open, offers, mode, copied })
    }
}

/// What of a call decides whether there is something for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Asker {
    owner: OwnerId,
    referee: bool,
    network: Option<Network>,
}

/// What a lease is made of.
struct Taken {
    /// Indexes; sorted.
    open: Vec<u64>,
    offers: BTreeMap<u64, Offer>,
    mode: RunMode,
    /// Whether one of them is in another lease too.
    copied: bool,
}

/// Each stage has an order of its own.
fn stage_key(key: &[u8; 32], stage: u8) -> [u8; 32] {
    let mut key = *key;
    key[31] ^= stage;
    key
}
