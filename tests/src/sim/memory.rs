//! The coordinator's store in memory: it loads slices for the core as the one on PostgreSQL does, and keeps exactly
//! what the core decided. It fails where the database would.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lull_coordinator::core::{
    Attempt, CENSUS_RESULTS, Catch, Census, Changes, DeviceId, Fairness, Held, Job, JobId, JobState, Lease,
    LeaseToken, Networks, Onlookers, Outcome, OwnerId, Patience, Policy, Recorded, Reply, Request, Slice,
    Stake, Standing, Trouble, TroubleChange, UnitKey, Urgency, Verdict, Wanted, decide, expire, lease_units,
    repeats_max, review, stage_of_number, straggle,
};
use lull_job::Stage;
use lull_ledger::{AccountKind, Amount, Code, CurrencyId, Key, Transfer};

/// What is kept of one unit.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    attempts: Vec<(u64, Attempt)>,
    /// Of strict runs, as their owners' devices reported it.
    pub fuel: Vec<(OwnerId, u64)>,
    verdict: Option<Verdict>,
    /// Whether the verdict was taken back: with the owners that had an attempt then.
    reopened: Option<Vec<OwnerId>>,
}

impl Unit {
    /// The verdict, if there is one that stands.
    #[must_use]
    pub fn standing(&self) -> Option<&Verdict> {
        self.verdict.as_ref().filter(|_| self.reopened.is_none())
    }

    /// All attempts, in the order in which they came.
    pub fn attempts(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().map(|(_, attempt)| attempt)
    }
}

/// What is kept of one owner.
#[derive(Debug, Clone, Default)]
struct Owner {
    standing: Standing,
    /// Attempts up to then say nothing any more.
    caught_at: u64,
    caught_at_secs: u64,
    held: VecDeque<Held>,
    /// What it would lose in each currency, with when the level changed last.
    stakes: BTreeMap<CurrencyId, (Stake, u64)>,
    releases: i64,
    forgiven_at_secs: u64,
}

/// The pay that a catch takes: until the jobs in question are looked through.
#[derive(Debug, Default)]
struct Recheck {
    owners: BTreeSet<OwnerId>,
    lost: Vec<Held>,
}

const DAY_SECS: u64 = 24 * 3_600;
/// What a release leaves held back falls by a quarter, and not again within this time.
const LEVEL_SECS: u64 = 3_600;

/// When a lease was given, by counting commits, and when it was last looked at, in seconds.
#[derive(Debug, Clone, Copy)]
struct Out {
    commit: u64,
    looked_at_secs: u64,
}

/// What is known of the grid as a whole.
#[derive(Debug, Clone, Default)]
pub struct Hints {
    /// Devices that called lately.
    pub slots: u64,
    /// Their owners.
    pub owners: u64,
    /// Owners of referees among them.
    pub referees: BTreeSet<OwnerId>,
    /// Who called from where lately.
    pub networks: Arc<Networks>,
    /// What the operator assumes.
    pub policy: Policy,
}

/// The tables.
#[derive(Debug, Default)]
pub struct MemoryStore {
    jobs: BTreeMap<JobId, Job>,
    leases: BTreeMap<LeaseToken, Lease>,
    out: BTreeMap<LeaseToken, Out>,
    /// With the time of the last failure.
    troubles: BTreeMap<DeviceId, (Trouble, u64)>,
    of_device: BTreeMap<DeviceId, BTreeSet<LeaseToken>>,
    units: BTreeMap<(JobId, Stage), Vec<Unit>>,
    /// What was made from the work of jobs that were begun again since, by the number of the stage.
    past: BTreeMap<(JobId, i16), Vec<Unit>>,
    /// With the time since when.
    wanted: BTreeMap<(JobId, Stage, i64, u64), (Wanted, u64)>,
    owners: BTreeMap<OwnerId, Owner>,
    job_owners: BTreeMap<JobId, BTreeSet<OwnerId>>,
    /// With how many checked results of the owner were right before.
    catches: Vec<(Catch, u64)>,
    rechecks: BTreeMap<JobId, Recheck>,
    transfers: Vec<Transfer>,
    /// Counts commits: what was written at the same time has the same number.
    commit: u64,
    next_token: i64,
    fairness: Fairness,
    now_secs: u64,
}

impl MemoryStore {
    /// The time from now on, in seconds.
    pub fn set_clock(&mut self, now_secs: u64) {
        self.now_secs = now_secs;
    }

    /// Takes a job in, with its budget.
    pub fn submit(&mut self, job: Job) {
        self.write_transfers(vec![
            Transfer::deposit(job.currency, job.id.0, job.submitter.0, job.budget),
            Transfer::escrow(job.currency, job.id.0, job.submitter.0, job.budget),
        ]);
        assert!(self.jobs.insert(job.id, job).is_none(), "a job has a number of its own");
    }

    /// A job.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    /// The units of one stage, by index, as far as there is something to tell.
    #[must_use]
    pub fn units(&self, job: JobId, stage: Stage) -> &[Unit] {
        self.units.get(&(job, stage)).map_or(&[], Vec::as_slice)
    }

    /// Every transfer, in order.
    #[must_use]
    pub fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    /// Every catch, in order.
    pub fn catches(&self) -> impl Iterator<Item = &Catch> {
        self.catches.iter().map(|(catch, _)| catch)
    }

    /// An open lease.
    #[must_use]
    pub fn lease(&self, token: LeaseToken) -> Option<&Lease> {
        self.leases.get(&token)
    }

    /// What is known of an owner.
    #[must_use]
    pub fn standing(&self, owner: OwnerId) -> Standing {
        self.owners.get(&owner).map_or_else(Standing::default, |owner| owner.standing)
    }

    /// One batch of calls.
    pub fn sync(&mut self, requests: &[Request], hints: &Hints) -> Vec<Reply> {
        let mut slice = self.load(requests, hints);
        let mut next = self.next_token;
        let mut tokens = std::iter::from_fn(|| {
            next += 1;
            Some(LeaseToken(next))
        });
        let mut fairness = std::mem::take(&mut self.fairness);
        let (replies, changes) = decide(&mut slice, &mut fairness, &mut tokens, requests);
        (self.fairness, self.next_token) = (fairness, next);
        self.write(slice, changes);
        replies
    }

    /// Leases whose deadline has passed.
    pub fn expire(&mut self, tokens: &[LeaseToken], policy: Policy) {
        let leases = tokens.iter().filter_map(|token| Some((*token, self.leases.get(token)?.clone())));
        let leases: BTreeMap<LeaseToken, Lease> = leases.filter(|(_, lease)| !lease.expired).collect();
        let mut slice = Slice { policy, troubles: Arc::new(self.troubles()), ..Slice::default() };
        for job in leases.values().map(|lease| lease.job) {
            slice.jobs.extend(self.jobs.get(&job).map(|known| (job, known.clone())));
        }
        for lease in leases.values() {
            for index in &lease.open {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                self.load_unit(&mut slice, unit);
            }
        }
        let tokens: Vec<LeaseToken> = leases.keys().copied().collect();
        slice.leases = leases;
        self.load_copies(&mut slice, &tokens);
        self.load_standings(&mut slice, []);
        let changes = expire(&mut slice, &tokens);
        self.write(slice, changes);
    }

    /// Leases that may be late, and how long each has been out, or was last looked at, in microseconds.
    #[must_use]
    pub fn late(&self, onlookers: &Onlookers) -> BTreeMap<LeaseToken, u64> {
        let is_late = |lease: &&Lease, micros: u64| {
            let Some(job) = self.jobs.get(&lease.job).filter(|job| job.stage == lease.stage) else {
                return false;
            };
            let is_awaited =
                job.beyond_frontier() == 0 && onlookers.waiting.iter().any(|owner| *owner != lease.owner);
            let urgency = if is_awaited { Urgency::Awaited } else { Urgency::None };
            micros > Patience::of(urgency).micros(job.unit_micros, lease.units)
        };
        let out = self.leases.values().filter(|lease| !lease.expired).filter_map(|lease| {
            let micros = (self.now_secs - self.out.get(&lease.token)?.looked_at_secs) * 1_000_000;
            is_late(&lease, micros).then_some((lease.token, micros))
        });
        out.collect()
    }

    /// Looks at leases that have been out for so long.
    pub fn straggle(&mut self, out_micros: BTreeMap<LeaseToken, u64>, onlookers: &Onlookers, policy: Policy) {
        let leases = out_micros.keys().filter_map(|token| Some((*token, self.leases.get(token)?.clone())));
        let leases: BTreeMap<LeaseToken, Lease> = leases.collect();
        let jobs = leases.values().filter_map(|lease| Some((lease.job, self.jobs.get(&lease.job)?.clone())));
        let mut slice = Slice { policy, jobs: jobs.collect(), ..Slice::default() };
        for lease in leases.values() {
            for index in &lease.open {
                self.load_unit(&mut slice, UnitKey { job: lease.job, stage: lease.stage, index: *index });
            }
        }
        let tokens: Vec<LeaseToken> = leases.keys().copied().collect();
        (slice.leases, slice.out_micros) = (leases, out_micros);
        self.load_copies(&mut slice, &tokens);
        self.load_standings(&mut slice, []);
        let changes = straggle(&mut slice, onlookers);
        self.write(slice, changes);
    }

    /// Jobs that wait to be looked over.
    #[must_use]
    pub fn unreviewed(&self) -> BTreeSet<JobId> {
        let waiting = self.jobs.values().filter(|job| job.awaits_review()).map(|job| job.id);
        waiting.chain(self.rechecks.keys().copied()).collect()
    }

    /// Looks a job over.
    pub fn review(&mut self, id: JobId, policy: Policy) {
        let Some(job) = self.jobs.get(&id) else { return };
        let mut slice = Slice { jobs: [(id, job.clone())].into(), policy, ..Slice::default() };
        let mut most_correct: BTreeMap<OwnerId, u64> = BTreeMap::new();
        for (catch, correct) in self.catches.iter().filter(|(catch, _)| catch.unit.job == id) {
            let most = most_correct.entry(catch.owner).or_default();
            *most = (*correct).max(*most);
        }
        let (known, strangers): (Vec<u64>, Vec<u64>) =
            most_correct.into_values().partition(|correct| *correct >= CENSUS_RESULTS);
        let job_owners = self.job_owners.get(&id).cloned().unwrap_or_default();
        slice.catches =
            self.catches.iter().filter(|(catch, _)| job_owners.contains(&catch.owner)).count() as u64;
        let took_part = job_owners.len();
        let census = Census { owners: (took_part - strangers.len()) as u64, caught: known.len() as u64 };
        let recheck = self.rechecks.remove(&id).unwrap_or_default();
        let mut lost = Vec::new();
        if let Some(job) = slice.jobs.get_mut(&id) {
            job.count(census, policy);
            for held in &recheck.lost {
                let key = Key {
                    job: id.0,
                    stage: job.stage_number(held.unit.stage),
                    index: index(held.unit.index),
                    attempt: held.owner.0,
                };
                if job.state == JobState::Running {
                    job.spent = job.spent - held.amount;
                    lost.push(Transfer::forfeit(job.currency, key, held.owner.0, held.amount));
                } else {
                    lost.push(Transfer::forfeit_to_losses(job.currency, key, held.owner.0, held.amount));
                }
            }
        }
        self.load_doubtful(&mut slice, id, &recheck.owners);
        self.load_standings(&mut slice, []);
        slice.losses =
            self.losses(id) + lost.iter().filter(|one| is_to_losses(one)).map(|one| one.amount).sum();
        let mut changes = review(&mut slice, id);
        changes.transfers.extend(lost);
        self.write(slice, changes);
    }

    /// Complete jobs of which no pay is held back any more.
    #[must_use]
    pub fn unsettled(&self) -> BTreeSet<JobId> {
        let held: BTreeSet<JobId> =
            self.owners.values().flat_map(|owner| &owner.held).map(|held| held.unit.job).collect();
        let complete = self.jobs.values().filter(|job| job.state == JobState::Complete && !job.settled);
        let done = complete.filter(|job| !held.contains(&job.id) && !self.rechecks.contains_key(&job.id));
        done.map(|job| job.id).collect()
    }

    /// Settles a job.
    pub fn settle(&mut self, id: JobId) {
        let Some(mut job) = self.jobs.get(&id).cloned() else { return };
        let changes = job.settle();
        self.write(Slice { jobs: [(id, job)].into(), ..Slice::default() }, changes);
    }

    /// An owner that has long been known: so many checked results, and as many of this pay whose pay is still held back.
    pub fn know(&mut self, id: OwnerId, results: u64, pay: Amount) {
        let owner = self.owners.entry(id).or_default();
        let unit = UnitKey { job: JobId(0), stage: Stage::Work, index: 0 };
        let held = Held { owner: id, unit, amount: pay, results: u64::MAX, checked: false };
        owner.held = (0..results).map(|_| held).collect();
        let stake = Stake { held: pay.times(results).unwrap_or(Amount::MAX), level: Amount::MAX };
        owner.stakes = [(CurrencyId::DEFAULT, (stake, 0))].into();
        owner.standing = Standing { correct: results, results, ..Standing::default() };
    }

    /// What was forfeited in a job to losses, and has not been granted to it.
    fn losses(&self, id: JobId) -> Amount {
        let forfeits = self.transfers.iter().filter(|one| (one.code, one.key.job) == (Code::Forfeit, id.0));
        let lost = forfeits.filter(|one| is_to_losses(one));
        let granted = self.jobs.get(&id).map_or(Amount::ZERO, |job| job.granted);
        lost.map(|one| one.amount).sum::<Amount>() - granted
    }

    /// Releases pay of owners that have earned enough since, and are not looked through after a catch.
    pub fn release_held(&mut self) {
        let mut transfers = Vec::new();
        let caught: BTreeSet<OwnerId> =
            self.rechecks.values().flat_map(|recheck| &recheck.owners).copied().collect();
        let currency_of =
            |held: &Held| self.jobs.get(&held.unit.job).map_or(CurrencyId::DEFAULT, |job| job.currency);
        for (id, owner) in self.owners.iter_mut().filter(|(id, _)| !caught.contains(id)) {
            if let Some(head) = owner.held.front() {
                lower_level(head, owner.stakes.entry(currency_of(head)).or_default(), self.now_secs);
            }
            let mut sums: BTreeMap<CurrencyId, Amount> = BTreeMap::new();
            while let Some(head) = owner.held.front() {
                let currency = currency_of(head);
                let (stake, _) = owner.stakes.entry(currency).or_default();
                let behind = stake.held - head.amount;
                if behind < head.needed().max(stake.level) {
                    break;
                }
                stake.held = behind;
                let sum = sums.entry(currency).or_default();
                *sum = *sum + head.amount;
                owner.held.pop_front();
            }
            for (currency, amount) in sums {
                owner.releases += 1;
                transfers.push(Transfer::release(currency, id.0 << 32 | owner.releases, id.0, amount));
            }
        }
        self.write_transfers(transfers);
    }

    /// Forgets half of the units that owners have dropped, once a day.
    pub fn forgive_drops(&mut self) {
        for owner in self.owners.values_mut() {
            if owner.standing.dropped > 0 && owner.forgiven_at_secs + 24 * 3_600 < self.now_secs {
                owner.standing.dropped /= 2;
                owner.forgiven_at_secs = self.now_secs;
            }
        }
    }

    fn load(&mut self, requests: &[Request], hints: &Hints) -> Slice {
        // Jobs are moved, not copied: whatever happens, they are written back.
        let mut slice = Slice {
            jobs: std::mem::take(&mut self.jobs),
            grid_slots: hints.slots,
            grid_owners: hints.owners,
            referees_there: hints.referees.clone(),
            networks: Arc::clone(&hints.networks),
            troubles: Arc::new(self.troubles()),
            policy: hints.policy,
            ..Slice::default()
        };
        for request in requests {
            let theirs = self.of_device.get(&request.device).into_iter().flatten();
            let named = request.reports.iter().map(|report| &report.token);
            for token in theirs.chain(named).chain(request.hand_backs.iter().map(|one| &one.token)) {
                if let Some(lease) = self.leases.get(token) {
                    slice.leases.entry(*token).or_insert_with(|| lease.clone());
                }
            }
        }
        for (request, report) in requests.iter().flat_map(|r| r.reports.iter().map(move |one| (r, one))) {
            self.load_unit(&mut slice, report.unit);
            let late = slice.leases.get(&report.token).is_some_and(|lease| lease.expired);
            if late && slice.leases.get(&report.token).is_some_and(|lease| lease.device == request.device) {
                self.load_besides(&mut slice, report.unit, report.token);
            }
        }
        for hand_back in requests.iter().flat_map(|request| &request.hand_backs) {
            let Some(lease) = self.leases.get(&hand_back.token) else { continue };
            for index in lease
                .open
                .iter()
                .filter(|index| hand_back.indexes.is_empty() || hand_back.indexes.contains(index))
            {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                self.load_unit(&mut slice, unit);
            }
        }
        let reported = requests.iter().flat_map(|request| &request.reports).map(|report| report.token);
        let handed = requests.iter().flat_map(|request| &request.hand_backs).map(|one| one.token);
        let leaving: Vec<LeaseToken> = reported.chain(handed).collect();
        self.load_copies(&mut slice, &leaving);
        self.load_wanted(&mut slice, requests, hints.slots);
        let callers = requests.iter().map(|request| request.owner);
        self.load_standings(&mut slice, callers);
        slice
    }

    fn unit(&self, unit: UnitKey) -> Option<&Unit> {
        self.units.get(&(unit.job, unit.stage))?.get(usize::try_from(unit.index).ok()?)
    }

    fn load_unit(&self, slice: &mut Slice, key: UnitKey) {
        let Some(unit) = self.unit(key) else { return };
        if slice.attempts.contains_key(&key) || unit.attempts.is_empty() {
            return;
        }
        let confident = slice.jobs.get(&key.job).is_some_and(Job::buys_confidence);
        let is_caught =
            |at: u64, owner| confident && self.owners.get(&owner).is_some_and(|owner| at <= owner.caught_at);
        let attempts = unit.attempts.iter().map(|(at, attempt)| Attempt {
            void: is_caught(*at, attempt.owner),
            caught: is_caught(*at, attempt.owner),
            settled: unit.reopened.as_ref().is_some_and(|known| known.contains(&attempt.owner)),
            ..attempt.clone()
        });
        slice.attempts.insert(key, attempts.collect());
        if let Some(verdict) = &unit.verdict {
            let table = if unit.reopened.is_some() { &mut slice.reopened } else { &mut slice.verdicts };
            table.insert(key, verdict.clone());
        }
    }

    /// What else holds or wants units of copied leases.
    fn load_copies(&self, slice: &mut Slice, leaving: &[LeaseToken]) {
        for token in leaving {
            let Some(lease) = self.leases.get(token).filter(|lease| lease.copied) else { continue };
            for index in &lease.open {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                self.load_besides(slice, unit, *token);
            }
        }
    }

    fn load_besides(&self, slice: &mut Slice, unit: UnitKey, token: LeaseToken) {
        let rows = self.wanted.range((unit.job, unit.stage, i64::MIN, 0)..);
        let rows = rows.take_while(|((job, stage, ..), _)| (*job, *stage) == (unit.job, unit.stage));
        slice
            .wanted_besides
            .extend(rows.filter(|(_, (row, _))| row.unit == unit).map(|(_, row)| (unit, self.row(row))));
        for lease in self.leases.values().filter(|lease| lease.holds(unit)) {
            slice.leases.entry(lease.token).or_insert_with(|| lease.clone());
        }
        let given = self.out.get(&token).map_or(0, |out| out.commit);
        if self.unit(unit).is_some_and(|known| known.attempts.iter().any(|(at, _)| *at >= given)) {
            slice.overlapped.insert((unit, token));
        }
    }

    /// As many rows of each job as the batch can take; where nothing is new, rows that each caller may do.
    fn load_wanted(&self, slice: &mut Slice, requests: &[Request], slots: u64) {
        let wants: Vec<_> = requests.iter().filter_map(|request| Some((request, request.want?))).collect();
        if wants.is_empty() {
            return;
        }
        let working = slice.jobs.values().filter(|job| job.has_work() && job.wanted > 0);
        for job in working {
            let room = |units_max| repeats_max(job, slots, lease_units(job, slots, units_max));
            let need: u64 = wants.iter().map(|(_, want)| u64::from(want.leases) * room(want.units_max)).sum();
            let need = usize::try_from(need).unwrap_or(usize::MAX);
            let all = || {
                let rows = self.wanted.range((job.id, job.stage, i64::MIN, 0)..);
                rows.take_while(|((id, stage, ..), _)| (*id, *stage) == (job.id, job.stage))
                    .map(|(_, row)| self.row(row))
            };
            let from = job.next_place();
            let round = |key: (JobId, Stage, i64, u64), end: (JobId, Stage, i64, u64)| {
                self.wanted.range(key..end).map(|(_, row)| self.row(row))
            };
            let at = |place| (job.id, job.stage, place, 0);
            let unanswered = round(at(i64::MAX), (job.id, job.stage, i64::MAX, u64::MAX));
            let answered = round(at(from), at(i64::MAX)).chain(round(at(0), at(from)));
            let disputes = round(at(i64::MIN), at(0));
            let mut found: Vec<Wanted> =
                disputes.take(need).chain(answered.chain(unanswered).take(need)).collect();
            if job.beyond_frontier() == 0 && job.wanted > found.len() as u64 {
                let known: BTreeSet<UnitKey> = found.iter().map(|row| row.unit).collect();
                let mut more: BTreeMap<UnitKey, Wanted> = BTreeMap::new();
                for owner in wants.iter().map(|(request, _)| request.owner).collect::<BTreeSet<_>>() {
                    let may = |row: &Wanted| !row.excluded.contains(&owner);
                    // Rows of the owner's own units are passed over as a range.
                    let own = job.place_of(owner);
                    let below = all().take_while(|row| row.place(job) < own).filter(may).take(need);
                    let above = all().skip_while(|row| row.place(job) <= own).filter(may).take(need);
                    more.extend(below.chain(above).map(|row| (row.unit, row)));
                }
                found.extend(more.into_values().filter(|row| !known.contains(&row.unit)));
            }
            let referees: Vec<OwnerId> = wants
                .iter()
                .filter(|(request, _)| request.referee)
                .map(|(request, _)| request.owner)
                .collect();
            if !referees.is_empty() {
                let known: BTreeSet<UnitKey> = found.iter().map(|row| row.unit).collect();
                let may = |row: &Wanted| referees.iter().any(|owner| !row.excluded.contains(owner));
                let mut disputes: Vec<Wanted> = all().filter(|row| row.contested).filter(may).collect();
                disputes.sort_by_key(|row| row.unit.index);
                let disputes = disputes.into_iter().take(need).filter(|row| !known.contains(&row.unit));
                found.extend(disputes);
            }
            slice.wanted.insert(job.id, found);
        }
    }

    /// A row as it is now.
    fn row(&self, (row, since): &(Wanted, u64)) -> Wanted {
        Wanted { waited_secs: self.now_secs - since, ..row.clone() }
    }

    fn load_standings(&self, slice: &mut Slice, callers: impl IntoIterator<Item = OwnerId>) {
        let of_attempts = slice.attempts.values().flatten().flat_map(Attempt::rests_on).copied();
        for owner in of_attempts.chain(callers).collect::<BTreeSet<_>>() {
            if let Some(known) = self.owners.get(&owner) {
                let secs_since_catch = self.now_secs - known.caught_at_secs;
                slice.standings.insert(owner, Standing { secs_since_catch, ..known.standing });
                let stakes = known.stakes.iter().map(|(currency, (stake, _))| ((owner, *currency), *stake));
                slice.stakes.extend(stakes);
            }
        }
        slice.void_spoilt();
    }

    /// Accepted units that may not stand: of too few owners, or of owners that were caught.
    fn load_doubtful(&self, slice: &mut Slice, id: JobId, caught: &BTreeSet<OwnerId>) {
        let Some(job) = slice.jobs.get(&id).cloned() else { return };
        let (most, looks_at_all) = (job.wish_copies.most(), job.awaits_review());
        if caught.is_empty() && !looks_at_all {
            return;
        }
        let open: BTreeSet<(Stage, u64)> = self
            .leases
            .values()
            .filter(|lease| !lease.expired && lease.job == id)
            .flat_map(|lease| lease.open.iter().map(|index| (lease.stage, *index)))
            .collect();
        let rests_on_caught =
            |unit: &Unit| unit.attempts().flat_map(Attempt::rests_on).any(|owner| caught.contains(owner));
        let made = self.units.range((id, Stage::Merge(1))..=(id, Stage::Finish));
        for ((_, stage), units) in made {
            for (index, unit) in (0..).zip(units) {
                if rests_on_caught(unit) {
                    self.load_unit(slice, UnitKey { job: id, stage: *stage, index });
                }
            }
        }
        for (at, unit) in (0..).zip(self.units(id, Stage::Work)) {
            let key = UnitKey { job: id, stage: Stage::Work, index: at };
            let is_short = looks_at_all
                && unit.standing().is_some_and(|verdict| {
                    matches!(verdict.outcome, Outcome::Result | Outcome::GuestFailed)
                        && u64::from(verdict.agreeing) < most
                        && job.is_short(key, verdict.agreeing)
                });
            if is_short || rests_on_caught(unit) {
                self.load_unit(slice, key);
                if open.contains(&(Stage::Work, at)) {
                    slice.still_leased.insert(key);
                }
            }
        }
    }

    /// Keeps what was decided, and fails where the database would.
    fn write(&mut self, slice: Slice, changes: Changes) {
        self.commit += 1;
        for id in &changes.jobs_begun_again {
            self.put_away(*id);
        }
        for row in &changes.wanted_removed {
            let place = slice.jobs.get(&row.unit.job).map_or(i64::MAX, |job| row.place(job));
            let key = (row.unit.job, row.unit.stage, place, row.unit.index);
            assert!(self.wanted.remove(&key).is_some(), "{:?} was not wanted", row.unit);
        }
        for row in changes.wanted_added {
            if !changes.jobs_ended.contains(&row.unit.job) {
                let place = slice.jobs.get(&row.unit.job).map_or(i64::MAX, |job| row.place(job));
                let key = (row.unit.job, row.unit.stage, place, row.unit.index);
                let unit = row.unit;
                assert!(self.wanted.insert(key, (row, self.now_secs)).is_none(), "{unit:?} is wanted twice");
            }
        }
        for recorded in changes.attempts {
            self.write_attempt(recorded);
        }
        for (unit, known) in changes.reopened {
            let unit = self.unit_mut(unit);
            assert!(unit.standing().is_some(), "reopened without a verdict");
            unit.reopened = Some(known);
        }
        for verdict in changes.verdicts {
            let unit = self.unit_mut(verdict.unit);
            let version = unit.verdict.as_ref().map_or(1, |before| before.version + 1);
            assert_eq!(verdict.version, version, "versions of {:?}", verdict.unit);
            unit.verdict = Some(verdict);
        }
        for unit in changes.reclosed {
            assert!(self.unit_mut(unit).reopened.take().is_some(), "{unit:?} was not open");
        }
        for held in changes.held {
            let owner = self.owners.entry(held.owner).or_default();
            owner.standing.results += 1;
            owner.held.push_back(held);
            let currency = slice.jobs.get(&held.unit.job).map_or(CurrencyId::DEFAULT, |job| job.currency);
            let (stake, changed_at_secs) = owner.stakes.entry(currency).or_default();
            stake.held = stake.held + held.amount;
            if held.needed() > stake.level {
                (stake.level, *changed_at_secs) = (held.needed(), self.now_secs);
            }
        }
        for (id, change) in changes.standings {
            if let Some(catch) = change.caught {
                self.write_catch(id, catch);
            }
            let standing = &mut self.owners.entry(id).or_default().standing;
            standing.correct += change.correct;
            standing.dropped += change.dropped;
        }
        for (device, change) in changes.troubles {
            self.write_trouble(device, change);
        }
        self.write_transfers(changes.transfers);
        for token in &changes.leases_changed {
            let Some(lease) = slice.leases.get(token) else { continue };
            self.write_lease(lease.clone());
        }
        for token in &changes.leases_looked_at {
            self.out.entry(*token).and_modify(|out| out.looked_at_secs = self.now_secs);
        }
        for lease in changes.leases_added {
            assert!(!self.leases.contains_key(&lease.token), "a token was given twice");
            let out = Out { commit: self.commit, looked_at_secs: self.now_secs };
            self.out.insert(lease.token, out);
            self.write_lease(lease);
        }
        for (id, job) in slice.jobs {
            let table = self.units.entry((id, job.stage)).or_default();
            let length = usize::try_from(job.stage_units).unwrap_or(usize::MAX);
            if table.len() < length {
                table.resize_with(length, Unit::default);
            }
            if changes.jobs_changed.contains(&id) || !self.jobs.contains_key(&id) {
                self.jobs.insert(id, job);
            }
        }
        if !changes.jobs_ended.is_empty() {
            self.clear(&changes.jobs_ended);
        }
    }

    /// What jobs wanted and leased goes.
    fn clear(&mut self, jobs: &BTreeSet<JobId>) {
        self.leases.retain(|_, lease| !jobs.contains(&lease.job));
        self.out.retain(|token, _| self.leases.contains_key(token));
        self.of_device.clear();
        for lease in self.leases.values() {
            self.of_device.entry(lease.device).or_default().insert(lease.token);
        }
        self.wanted.retain(|(job, ..), _| !jobs.contains(job));
    }

    /// Of a job that is begun again: what was made from its work.
    fn put_away(&mut self, id: JobId) {
        self.clear(&[id].into());
        let Some(job) = self.jobs.get(&id) else { return };
        let number = |stage| job.stage_number(stage);
        let made = self.units.extract_if(.., |(of, stage), _| *of == id && *stage > Stage::Work);
        let made: Vec<_> = made.map(|((_, stage), units)| ((id, number(stage)), units)).collect();
        self.past.extend(made);
        for unit in self.units.get_mut(&(id, Stage::Work)).into_iter().flatten() {
            unit.reopened = None;
        }
    }

    fn unit_mut(&mut self, unit: UnitKey) -> &mut Unit {
        let table = self.units.entry((unit.job, unit.stage)).or_default();
        let at = usize::try_from(unit.index).unwrap_or(usize::MAX);
        if table.len() <= at {
            table.resize_with(at + 1, Unit::default);
        }
        &mut table[at]
    }

    fn write_attempt(&mut self, recorded: Recorded) {
        let commit = self.commit;
        let took_part = self.job_owners.entry(recorded.unit.job).or_default();
        took_part.extend(recorded.attempt.rests_on());
        let unit = self.unit_mut(recorded.unit);
        let owner = recorded.attempt.owner;
        assert!(unit.attempts().all(|attempt| attempt.owner != owner), "a second attempt of an owner");
        unit.fuel.extend(recorded.fuel.map(|fuel| (owner, fuel)));
        unit.attempts.push((commit, recorded.attempt));
    }

    fn write_catch(&mut self, id: OwnerId, catch: Catch) {
        let owner = self.owners.entry(id).or_default();
        let catches = owner.standing.catches + 1;
        let correct = owner.standing.correct;
        owner.standing = Standing { correct: 0, catches, ..owner.standing };
        owner.stakes.values_mut().for_each(|(stake, _)| stake.held = Amount::ZERO);
        owner.caught_at = self.commit;
        owner.caught_at_secs = self.now_secs;
        let lost: Vec<Held> = owner.held.drain(..).collect();
        let jobs = self.job_owners.iter().filter(|(_, owners)| owners.contains(&id)).map(|(job, _)| *job);
        for job in jobs.collect::<Vec<_>>() {
            let recheck = self.rechecks.entry(job).or_default();
            recheck.owners.insert(id);
            recheck.lost.extend(lost.iter().filter(|held| held.unit.job == job));
        }
        self.catches.push((catch, correct));
    }

    fn write_trouble(&mut self, device: DeviceId, change: TroubleChange) {
        let before = self.troubles.remove(&device).filter(|(_, at)| self.now_secs - at < DAY_SECS);
        if let TroubleChange::Failed(last) = change {
            let fails = before.map_or(0, |(before, _)| before.fails) + 1;
            self.troubles.insert(device, (Trouble { fails, last, secs_since: 0 }, self.now_secs));
        }
    }

    /// Devices that failed when they were last heard of, within a day.
    #[must_use]
    pub fn troubles(&self) -> BTreeMap<DeviceId, Trouble> {
        let secs_since = |at: &u64| self.now_secs - at;
        let lately = self.troubles.iter().filter(|(_, (_, at))| secs_since(at) < DAY_SECS);
        lately.map(|(device, (one, at))| (*device, Trouble { secs_since: secs_since(at), ..*one })).collect()
    }

    fn write_lease(&mut self, lease: Lease) {
        let theirs = self.of_device.entry(lease.device).or_default();
        if lease.open.is_empty() {
            theirs.remove(&lease.token);
            self.leases.remove(&lease.token);
            self.out.remove(&lease.token);
        } else {
            theirs.insert(lease.token);
            self.leases.insert(lease.token, lease);
        }
    }

    fn write_transfers(&mut self, transfers: Vec<Transfer>) {
        for transfer in transfers {
            assert!(transfer.amount.is_positive(), "{transfer:?} moves nothing");
            if transfer.code == Code::Reward {
                self.note_paid(&transfer.key);
            }
            self.transfers.push(transfer);
        }
    }

    fn note_paid(&mut self, key: &Key) {
        let stage = stage_of_number(key.stage).expect("a stage");
        let index = usize::try_from(key.index).unwrap_or(usize::MAX);
        let unit = self.units.get_mut(&(JobId(key.job), stage)).and_then(|units| units.get_mut(index));
        let attempts = unit.into_iter().flat_map(|unit| &mut unit.attempts);
        attempts.filter(|(_, one)| one.owner.0 == key.attempt).for_each(|(_, one)| one.paid = true);
    }

    /// What an owner has earned and could still lose, by its queue of held pay.
    #[must_use]
    pub fn pending(&self, owner: OwnerId) -> Amount {
        let held = self.owners.get(&owner).into_iter().flat_map(|owner| &owner.held);
        held.map(|held| held.amount).sum()
    }

    /// Results of an owner whose pay is held back.
    #[must_use]
    pub fn held(&self, owner: OwnerId) -> usize {
        self.owners.get(&owner).map_or(0, |owner| owner.held.len())
    }

    /// What an owner would lose in each currency.
    #[must_use]
    pub fn stakes(&self, owner: OwnerId) -> BTreeMap<CurrencyId, Stake> {
        let stakes = self.owners.get(&owner).into_iter().flat_map(|owner| &owner.stakes);
        stakes.map(|(currency, (stake, _))| (*currency, *stake)).collect()
    }
}

/// What a release leaves held back falls, where nothing else holds the head of a queue back.
fn lower_level(head: &Held, (stake, changed_at_secs): &mut (Stake, u64), now_secs: u64) {
    let behind = stake.held - head.amount;
    if behind >= head.needed() && behind < stake.level && *changed_at_secs + LEVEL_SECS < now_secs {
        let share: Amount = "0.75".parse().expect("an amount");
        let three_quarters = stake.level.decimal() * share.decimal();
        stake.level = Amount::new(three_quarters.trunc_with_scale(Amount::PLACES)).unwrap_or(stake.level);
        *changed_at_secs = now_secs;
    }
}

fn is_to_losses(transfer: &Transfer) -> bool {
    transfer.credit().kind() == Some(AccountKind::Losses)
}

fn index(index: u64) -> i64 {
    i64::try_from(index).unwrap_or(i64::MAX)
}
