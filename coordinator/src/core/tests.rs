//! Random histories against the core, with a store in memory that applies what was decided, and the named
//! invariants checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lull_job::{Digest, Plan, Reduce, Stage};
use lull_ledger::{Amount, FeeRate, Transfer};
use proptest::prelude::*;

use super::*;

mod again;
mod doubt;
mod lineage;
mod poison;
mod straggle;
mod trouble;
mod trust;

/// Everything a database would hold of one job.
struct Model {
    job: Job,
    leases: BTreeMap<LeaseToken, Lease>,
    attempts: BTreeMap<UnitKey, Vec<Attempt>>,
    verdicts: BTreeMap<UnitKey, Verdict>,
    wanted: BTreeMap<UnitKey, Wanted>,
    transfers: Vec<Transfer>,
    earned: BTreeMap<DeviceId, Earned>,
    checkpoints: BTreeMap<UnitKey, Vec<Checkpoint>>,
    offered: BTreeMap<(UnitKey, OwnerId), Vec<OwnerId>>,
    blames: Vec<Blame>,
    standings: BTreeMap<OwnerId, Standing>,
    /// Of owners: jobs' units whose pay is held back, with when it may be released.
    held: BTreeMap<OwnerId, Vec<Held>>,
    /// What is held back for owners of other jobs.
    staked: BTreeMap<OwnerId, Amount>,
    caught: Vec<Catch>,
    reopened: BTreeMap<UnitKey, Vec<OwnerId>>,
    /// Of rounds that are over, by the number of the stage and the index: what was made from the work.
    past: BTreeMap<(i16, u64), (Vec<Attempt>, Option<Verdict>)>,
    referees: BTreeSet<OwnerId>,
    owners_there: BTreeSet<OwnerId>,
    troubles: BTreeMap<DeviceId, Trouble>,
    networks: Networks,
    /// When leases were given and attempts recorded, by counting commits.
    given: BTreeMap<LeaseToken, u64>,
    recorded: BTreeMap<(UnitKey, OwnerId), u64>,
    commits: u64,
    next_token: i64,
    fairness: Fairness,
    /// CPU time that each report names.
    cpu_micros: u64,
}

fn amount(text: &str) -> Amount {
    text.parse().expect("an amount")
}

/// Not the default: what forgot its job's currency would be in that.
fn yen() -> lull_ledger::CurrencyId {
    lull_ledger::CurrencyId::from_number(1).expect("a number")
}

fn job(units: u64, copies: u32, reduce: Reduce) -> Job {
    let plan =
        Plan { has_split: false, items: units, items_per_unit: 1, pilot_units: 0, reduce, merge_fan_in: 3 };
    Job {
        id: JobId(1),
        submitter: SubmitterId(1),
        state: JobState::Running,
        reason: String::new(),
        key: [9; 32],
        priority: 0,
        copies,
        max_error: Share::default(),
        max_answer_error: Share::default(),
        wish_copies: Copies::default(),
        service_owners: 2,
        strict: false,
        reviewed: false,
        doubtful: 0,
        fee: FeeRate::NONE,
        round: 0,
        settled: false,
        allow_missing: false,
        result_bytes_max: 1_000,
        memory_bytes_max: 1_000_000,
        checkpointed: false,
        plan,
        stage: Stage::Work,
        stage_units: plan.work_units(),
        frontier: 0,
        stage_accepted: 0,
        stage_failed: 0,
        wanted: 0,
        unit_micros: 0,
        currency: yen(),
        prices: Prices { item: amount("0.01"), service: amount("0.02") },
        budget: amount("1000"),
        granted: Amount::ZERO,
        own: Amount::ZERO,
        refunded: Amount::ZERO,
        reserved: Amount::ZERO,
        spent: Amount::ZERO,
        totals: Totals::default(),
        answer: None,
    }
}

impl Model {
    fn new(job: Job) -> Self {
        Self {
            job,
            leases: BTreeMap::new(),
            attempts: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            wanted: BTreeMap::new(),
            transfers: Vec::new(),
            earned: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            offered: BTreeMap::new(),
            blames: Vec::new(),
            standings: BTreeMap::new(),
            held: BTreeMap::new(),
            staked: BTreeMap::new(),
            caught: Vec::new(),
            reopened: BTreeMap::new(),
            past: BTreeMap::new(),
            referees: BTreeSet::new(),
            owners_there: (1..=64).map(OwnerId).collect(),
            troubles: BTreeMap::new(),
            networks: Networks::default(),
            given: BTreeMap::new(),
            recorded: BTreeMap::new(),
            commits: 0,
            next_token: 1,
            fairness: Fairness::default(),
            cpu_micros: 1_000_000,
        }
    }

    fn slice(&self, requests: &[Request]) -> Slice {
        let besides = |lease: &&Lease| lease.expired || lease.copied;
        let units = self
            .leases
            .values()
            .filter(besides)
            .flat_map(|lease| units_of(lease).map(|unit| (unit, lease.token)));
        let units: BTreeSet<(UnitKey, LeaseToken)> = units.collect();
        Slice {
            jobs: [(self.job.id, self.job.clone())].into(),
            leases: self.leases.clone(),
            attempts: self.attempts.clone(),
            verdicts: self.verdicts_by(|unit| !self.reopened.contains_key(unit)),
            reopened: self.verdicts_by(|unit| self.reopened.contains_key(unit)),
            standings: self.standings.clone(),
            stakes: self.stakes(),
            grid_owners: 4,
            referees_there: self.referees.clone(),
            networks: Arc::new(self.networks.clone()),
            troubles: Arc::new(self.troubles.clone()),
            policy: Policy::default(),
            catches: 0,
            losses: self.losses(),
            wanted: [(self.job.id, self.wanted.values().cloned().collect())].into(),
            wanted_besides: units
                .iter()
                .filter_map(|(unit, _)| Some((*unit, self.wanted.get(unit)?.clone())))
                .collect(),
            overlapped: units
                .iter()
                .copied()
                .filter(|(unit, token)| self.has_overlapped(unit, *token))
                .collect(),
            still_leased: BTreeSet::new(),
            out_micros: BTreeMap::new(),
            blobs: BTreeSet::new(),
            checkpoints: self.checkpoints.clone(),
            offered: self.offered.clone(),
            uploads: requests
                .iter()
                .flat_map(|r| r.hand_backs.iter().flat_map(|h| &h.checkpoints).map(|made| (r.device, made)))
                .map(|(device, made)| ((device, made.blob), made.size_bytes))
                .collect(),
            owners_there: self.owners_there.clone(),
            grid_slots: 4,
        }
    }

    fn decide(&mut self, requests: &[Request]) -> Vec<Reply> {
        let mut slice = self.slice(requests);
        let mut next = self.next_token;
        let mut tokens = std::iter::from_fn(|| {
            next += 1;
            Some(LeaseToken(next))
        });
        let (replies, changes) = decide(&mut slice, &mut self.fairness, &mut tokens, requests);
        self.next_token = next;
        self.apply(slice, changes);
        replies
    }

    /// A lease has been out for ever, and these owners wait for work.
    fn straggle(&mut self, token: LeaseToken, waiting: &[i64]) {
        self.straggle_after(token, waiting, u64::MAX);
    }

    fn straggle_after(&mut self, token: LeaseToken, waiting: &[i64], micros: u64) {
        let mut slice = self.slice(&[]);
        slice.out_micros.insert(token, micros);
        let waiting: BTreeSet<OwnerId> = waiting.iter().copied().map(OwnerId).collect();
        let changes = straggle(&mut slice, &Onlookers { there: waiting.clone(), waiting });
        self.apply(slice, changes);
    }

    fn expire(&mut self, token: LeaseToken) {
        let mut slice = self.slice(&[]);
        let changes = expire(&mut slice, &[token]);
        self.apply(slice, changes);
    }

    /// Writes changes as the store does, and fails where the database would.
    fn apply(&mut self, slice: Slice, changes: Changes) {
        if !changes.jobs_begun_again.is_empty() {
            self.put_away();
        }
        self.commits += 1;
        self.apply_checkpoints(&changes);
        for row in &changes.wanted_removed {
            assert_eq!(
                self.wanted.remove(&row.unit).as_ref(),
                Some(row),
                "a row of wanted that is not there"
            );
        }
        for row in &changes.wanted_added {
            if changes.jobs_ended.is_empty() {
                assert!(
                    self.wanted.insert(row.unit, row.clone()).is_none(),
                    "{:?} is wanted twice",
                    row.unit
                );
            }
        }
        for recorded in &changes.attempts {
            let attempts = self.attempts.entry(recorded.unit).or_default();
            assert!(
                attempts.iter().all(|attempt| attempt.owner != recorded.attempt.owner),
                "a second attempt of an owner"
            );
            attempts.push(recorded.attempt.clone());
            self.recorded.insert((recorded.unit, recorded.attempt.owner), self.commits);
        }
        for (unit, known) in &changes.reopened {
            assert!(self.verdicts.contains_key(unit), "{unit:?} is reopened without a verdict");
            self.reopened.insert(*unit, known.clone());
            for attempt in self.attempts.get_mut(unit).into_iter().flatten() {
                attempt.settled = known.contains(&attempt.owner);
            }
        }
        for verdict in &changes.verdicts {
            let before = self.verdicts.insert(verdict.unit, verdict.clone());
            let version = before.map_or(1, |before| before.version + 1);
            assert_eq!(verdict.version, version, "two verdicts on {:?}", verdict.unit);
        }
        for unit in &changes.reclosed {
            assert!(self.reopened.remove(unit).is_some(), "{unit:?} was not open");
        }
        self.apply_trust(&changes);
        self.apply_troubles(&changes);
        for transfer in changes.transfers.iter().filter(|one| one.code == lull_ledger::Code::Reward) {
            let stage = stage_of_number(transfer.key.stage).expect("a stage");
            let unit = UnitKey { job: self.job.id, stage, index: transfer.key.index as u64 };
            let attempts = self.attempts.get_mut(&unit).into_iter().flatten();
            attempts.filter(|one| one.owner.0 == transfer.key.attempt).for_each(|one| one.paid = true);
        }
        self.transfers.extend(changes.transfers);
        for ((device, currency), more) in changes.earned {
            assert_eq!(currency, self.job.currency);
            let earned = self.earned.entry(device).or_default();
            earned.amount = earned.amount + more.amount;
            earned.units += more.units;
        }
        for token in changes.leases_changed {
            let lease = &slice.leases[&token];
            if lease.open.is_empty() {
                self.leases.remove(&token);
            } else {
                self.leases.insert(token, lease.clone());
            }
        }
        for lease in changes.leases_added {
            for index in &lease.open {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                let offer = lease.offers.get(index);
                let lineage = [&[lease.owner][..], offer.map_or(&[][..], |offer| &offer.lineage)].concat();
                for attempt in self.attempts.get(&unit).into_iter().flatten() {
                    let common = attempt.owners().iter().any(|owner| lineage.contains(owner));
                    assert!(!common, "{unit:?} went to somebody who could add no vote");
                }
            }
            self.given.insert(lease.token, self.commits);
            assert!(self.leases.insert(lease.token, lease).is_none(), "a token was given twice");
        }
        if !changes.jobs_ended.is_empty() {
            self.leases.clear();
            self.wanted.clear();
            self.checkpoints.clear();
            self.offered.clear();
        }
        if changes.jobs_changed.contains(&self.job.id) {
            self.job = slice.jobs[&self.job.id].clone();
        }
        self.check();
    }

    /// What a job that is begun again wanted, leased and made from its work.
    fn put_away(&mut self) {
        self.leases.clear();
        self.wanted.clear();
        self.checkpoints.clear();
        self.offered.clear();
        self.reopened.clear();
        let made: Vec<UnitKey> =
            self.attempts.keys().copied().filter(|unit| unit.stage > Stage::Work).collect();
        for unit in made {
            let attempts = self.attempts.remove(&unit).unwrap_or_default();
            let name = (self.job.stage_number(unit.stage), unit.index);
            self.past.insert(name, (attempts, self.verdicts.remove(&unit)));
        }
    }

    /// What was forfeited in the job, and not granted to it since.
    fn losses(&self) -> Amount {
        let lost = self.transfers.iter().filter(|one| {
            (one.key.job, one.credit().kind()) == (self.job.id.0, Some(lull_ledger::AccountKind::Losses))
                && one.code == lull_ledger::Code::Forfeit
        });
        lost.map(|one| one.amount).sum::<Amount>() - self.job.granted
    }

    /// The attempts of the unit that a reward pays, and its verdict.
    fn paid(&self, transfer: &Transfer) -> (&[Attempt], &Verdict) {
        let stage = stage_of_number(transfer.key.stage).expect("a stage");
        let unit = UnitKey { job: self.job.id, stage, index: transfer.key.index as u64 };
        if self.job.stage_number(stage) == transfer.key.stage {
            return (&self.attempts[&unit], &self.verdicts[&unit]);
        }
        let (attempts, verdict) = &self.past[&(transfer.key.stage, unit.index)];
        (attempts, verdict.as_ref().expect("a verdict"))
    }

    /// Whether another attempt of the unit came while the lease was out.
    fn has_overlapped(&self, unit: &UnitKey, token: LeaseToken) -> bool {
        let given = self.given[&token];
        self.recorded.iter().any(|((other, _), at)| other == unit && *at >= given)
    }

    fn is_leased(&self, unit: &UnitKey) -> bool {
        self.leases
            .values()
            .any(|lease| !lease.expired && lease.stage == unit.stage && lease.open.contains(&unit.index))
    }

    fn verdicts_by(&self, choose: impl Fn(&UnitKey) -> bool) -> BTreeMap<UnitKey, Verdict> {
        self.verdicts.iter().filter(|(unit, _)| choose(unit)).map(|(unit, v)| (*unit, v.clone())).collect()
    }

    fn apply_trust(&mut self, changes: &Changes) {
        for held in &changes.held {
            self.held.entry(held.owner).or_default().push(*held);
            self.standings.entry(held.owner).or_default().results += 1;
        }
        for (owner, change) in &changes.standings {
            let standing = self.standings.entry(*owner).or_default();
            if let Some(catch) = &change.caught {
                *standing = Standing { correct: 0, catches: standing.catches + 1, ..*standing };
                self.staked.remove(owner);
                self.caught.push(catch.clone());
                self.attempts
                    .values_mut()
                    .flatten()
                    .filter(|one| one.owner == *owner)
                    .for_each(|one| (one.void, one.caught) = (true, true));
                let key = |held: &Held| lull_ledger::Key {
                    job: held.unit.job.0,
                    stage: self.job.stage_number(held.unit.stage),
                    index: i64::try_from(held.unit.index).expect("a small index"),
                    attempt: owner.0,
                };
                let lost = self.held.remove(owner).unwrap_or_default();
                let lost = lost.iter().map(|held| {
                    Transfer::forfeit_to_losses(self.job.currency, key(held), owner.0, held.amount)
                });
                self.transfers.extend(lost);
            }
            standing.correct += change.correct;
            standing.dropped += change.dropped;
        }
        let mut slice = self.slice(&[]);
        slice.void_spoilt();
        self.attempts = slice.attempts;
    }

    /// Nothing is released here.
    fn stakes(&self) -> BTreeMap<(OwnerId, lull_ledger::CurrencyId), Stake> {
        let held = |owner| self.held.get(owner).into_iter().flatten().map(|one| one.amount).sum::<Amount>();
        let known = self.staked.keys().chain(self.held.keys());
        let stake = |owner| {
            let staked = self.staked.get(owner).copied().unwrap_or_default();
            Stake { held: staked + held(owner), level: Amount::MAX }
        };
        known.map(|owner| ((*owner, self.job.currency), stake(owner))).collect()
    }

    /// Devices never rest: there is no clock here.
    fn apply_troubles(&mut self, changes: &Changes) {
        for (device, change) in &changes.troubles {
            let before = self.troubles.remove(device);
            if let TroubleChange::Failed(last) = *change {
                let fails = before.map_or(0, |before| before.fails) + 1;
                self.troubles.insert(*device, Trouble { fails, last, secs_since: 100_000 });
            }
        }
    }

    /// What the coordinator's chores do when work is done or somebody was caught.
    fn review(&mut self) {
        let mut slice = self.slice(&[]);
        slice.still_leased = self.verdicts.keys().copied().filter(|unit| self.is_leased(unit)).collect();
        let owners: BTreeSet<OwnerId> =
            self.attempts.values().flatten().map(|attempt| attempt.owner).collect();
        let census = Census { owners: owners.len() as u64, caught: self.caught.len() as u64 };
        slice.catches = census.caught;
        slice.jobs.get_mut(&self.job.id).expect("the job").count(census, Policy::default());
        let changes = review(&mut slice, self.job.id);
        self.apply(slice, changes);
    }

    fn apply_checkpoints(&mut self, changes: &Changes) {
        for (unit, name) in &changes.checkpoints_removed {
            let known = self.checkpoints.get_mut(unit).expect("checkpoints of that unit");
            let at = known.iter().position(|one| one.made_under == *name).expect("that checkpoint");
            known.remove(at);
        }
        for unit in &changes.units_closed {
            self.checkpoints.remove(unit);
            self.offered.retain(|(other, _), _| other != unit);
        }
        for (unit, checkpoint) in &changes.checkpoints_added {
            let known = self.checkpoints.entry(*unit).or_default();
            assert!(known.iter().all(|one| one.made_under != checkpoint.made_under), "two of one lease");
            known.push(checkpoint.clone());
        }
        for lease in &changes.leases_added {
            for (index, offer) in &lease.offers {
                let unit = UnitKey { job: lease.job, stage: lease.stage, index: *index };
                self.offered.entry((unit, lease.owner)).or_default().extend(&offer.lineage);
            }
        }
        self.blames.extend(changes.blames.iter().cloned());
    }

    fn check(&self) {
        self.no_unit_is_lost();
        self.every_paid_attempt_matches_its_verdict();
        self.pay_is_held_for_what_is_out();
    }

    fn no_unit_is_lost(&self) {
        assert_eq!(self.job.wanted, self.wanted.len() as u64, "the count of wanted rows");
        if self.job.state != JobState::Running {
            return;
        }
        let mut leased: BTreeMap<UnitKey, Vec<&Lease>> = BTreeMap::new();
        for lease in self.leases.values().filter(|lease| !lease.expired) {
            for unit in units_of(lease) {
                let holders = leased.entry(unit).or_default();
                assert!(
                    holders.iter().all(|one| lease.copied && one.copied && one.owner != lease.owner),
                    "{unit:?} is leased twice, to one owner or as no copy"
                );
                holders.push(lease);
                assert!(holders.len() <= 2, "{unit:?} is leased more than twice");
                let wanted = self.wanted.get(&unit);
                assert!(
                    wanted.is_none_or(|row| row.copy && lease.copied && row.excluded.contains(&lease.owner)),
                    "{unit:?} is leased and wanted, and not as a copy"
                );
                assert!(wanted.is_none() || holders.len() == 1, "{unit:?} is leased twice and wanted");
            }
        }
        let of_stage = |unit: &&UnitKey| unit.stage == self.job.stage;
        for unit in self.wanted.keys() {
            assert!(self.is_open(unit), "{unit:?} is wanted and decided");
        }
        for (unit, row) in self.wanted.iter().filter(|(_, row)| row.copy) {
            assert!(leased.contains_key(unit), "{row:?} copies nothing");
        }
        let decided = self.verdicts.keys().filter(of_stage).filter(|unit| !self.is_open(unit)).count() as u64;
        assert_eq!(decided, self.job.stage_accepted + self.job.stage_failed, "the count of verdicts");
        let out = leased.keys().filter(of_stage).filter(|unit| self.is_open(unit)).count();
        let wanted = self.wanted.values().filter(|row| !row.copy).count();
        let total = decided + (out + wanted) as u64 + self.job.beyond_frontier();
        assert_eq!(total, self.job.stage_units, "units that are decided, leased, wanted or not leased yet");
    }

    fn is_open(&self, unit: &UnitKey) -> bool {
        self.reopened.contains_key(unit) || !self.verdicts.contains_key(unit)
    }

    fn every_paid_attempt_matches_its_verdict(&self) {
        assert!(self.transfers.iter().all(|transfer| transfer.currency() == self.job.currency));
        let mut paid = Amount::ZERO;
        let mut keys = BTreeSet::new();
        for transfer in self.transfers.iter().filter(|transfer| transfer.code == lull_ledger::Code::Reward) {
            assert!(keys.insert(transfer.key), "{:?} was paid twice", transfer.key);
            paid = paid + transfer.amount;
            let (attempts, verdict) = self.paid(transfer);
            let attempt = attempts.iter().find(|attempt| attempt.owner.0 == transfer.key.attempt);
            // What was paid by an earlier verdict may have been wrong: it is forfeited if it was still held.
            if verdict.version == 1 {
                let right = (verdict.outcome, verdict.digest);
                let earns = |a: &Attempt| (a.outcome, a.digest) == right || a.strict == Some(right);
                assert!(attempt.is_some_and(earns), "{attempt:?} was paid for {verdict:?}");
            }
        }
        assert_eq!(paid, self.job.spent, "what was spent");
        let mut of_devices = BTreeMap::<DeviceId, Earned>::new();
        for transfer in self.transfers.iter().filter(|transfer| transfer.code == lull_ledger::Code::Reward) {
            let (attempts, _) = self.paid(transfer);
            let attempt = attempts.iter().find(|attempt| attempt.owner.0 == transfer.key.attempt);
            let earned = of_devices.entry(attempt.expect("a paid attempt").device).or_default();
            earned.amount = earned.amount + transfer.amount;
            earned.units += 1;
        }
        assert_eq!(self.earned, of_devices, "what each device earned");
    }

    fn pay_is_held_for_what_is_out(&self) {
        if self.job.state != JobState::Running {
            assert_eq!(self.job.reserved, Amount::ZERO);
            let refunds = self.transfers.iter().filter(|t| t.code == lull_ledger::Code::Refund);
            assert_eq!(refunds.map(|t| t.amount).sum::<Amount>(), self.job.refunded, "what came back");
            let kept =
                if self.job.settled { Amount::ZERO } else { self.job.price_of_again().expect("an amount") };
            assert!(self.job.left() <= kept, "{} is left of a job that has ended", self.job.left());
            return;
        }
        let reward = |unit: &UnitKey| self.job.reward(unit.stage, unit.index);
        let mut held = Amount::ZERO;
        for lease in self.leases.values().filter(|lease| !lease.expired) {
            held = held + lease.open.iter().map(|i| self.job.reward(lease.stage, *i)).sum();
        }
        for (unit, attempts) in self.attempts.iter().filter(|(unit, _)| self.is_open(unit)) {
            held = held + attempts.iter().filter(|attempt| !attempt.settled).map(|_| reward(unit)).sum();
        }
        assert_eq!(held, self.job.reserved, "what is held for leases and undecided attempts");
        assert!(self.job.reserved <= self.job.left());
    }

    fn request(&self, device: i64, owner: i64) -> Request {
        let held =
            self.leases.values().filter(|lease| lease.device == DeviceId(device)).map(|lease| lease.token);
        Request {
            device: DeviceId(device),
            owner: OwnerId(owner),
            reports: Vec::new(),
            hand_backs: Vec::new(),
            held: held.collect(),
            want: None,
            referee: false,
            network: None,
        }
    }

    fn report(&self, token: LeaseToken, at: usize, text: &str) -> Option<Report> {
        let lease = self.leases.get(&token)?;
        let index = *lease.open.get(at % lease.open.len().max(1))?;
        let unit = UnitKey { job: lease.job, stage: lease.stage, index };
        let result = text.as_bytes().to_vec();
        Some(Report {
            token,
            unit,
            outcome: Outcome::Result,
            digest: Digest::of(&result),
            size_bytes: result.len() as u64,
            result: Some(result),
            cpu_micros: self.cpu_micros,
            witnessed: Vec::new(),
            strict: (lease.mode == RunMode::Referee).then(|| (Outcome::Result, Digest::of(text.as_bytes()))),
            fuel: (lease.mode != RunMode::Normal).then_some(7),
        })
    }
}

fn units_of(lease: &Lease) -> impl Iterator<Item = UnitKey> + '_ {
    lease.open.iter().map(|index| UnitKey { job: lease.job, stage: lease.stage, index: *index })
}

#[derive(Debug, Clone)]
enum Step {
    /// Some devices ask at once.
    Ask(Vec<u8>),
    /// A lease's unit is reported, rightly or wrongly, perhaps late, perhaps twice in one call.
    Report {
        lease: u8,
        at: u8,
        right: bool,
        twice: bool,
    },
    HandBack {
        lease: u8,
    },
    Expire {
        lease: u8,
    },
    /// A lease is found late.
    Straggle {
        lease: u8,
    },
}

const OWNERS: i64 = 4;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let report = (any::<u8>(), any::<u8>(), prop::bool::weighted(0.85), prop::bool::weighted(0.1));
    let step = prop_oneof![
        3 => prop::collection::vec(0u8..8, 1..5).prop_map(Step::Ask),
        6 => report.prop_map(|(lease, at, right, twice)| Step::Report { lease, at, right, twice }),
        1 => any::<u8>().prop_map(|lease| Step::HandBack { lease }),
        1 => any::<u8>().prop_map(|lease| Step::Expire { lease }),
        2 => any::<u8>().prop_map(|lease| Step::Straggle { lease }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Two devices of each owner.
fn owner_of(device: i64) -> i64 {
    1 + device % OWNERS
}

impl Model {
    fn run(&mut self, step: &Step) {
        let token = |lease: u8, model: &Self| {
            let count = model.leases.len();
            model.leases.keys().nth(usize::from(lease) % count.max(1)).copied()
        };
        match step {
            Step::Ask(devices) => {
                let requests: Vec<Request> = devices
                    .iter()
                    .map(|device| {
                        let device = i64::from(*device);
                        let want = Some(Want { leases: 1, units_max: 5 });
                        Request { want, ..self.request(device, owner_of(device)) }
                    })
                    .collect();
                self.decide(&requests);
            }
            Step::Report { lease, at, right, twice } => {
                let Some(token) = token(*lease, self) else { return };
                let text = if *right { "right".to_owned() } else { format!("wrong {at}") };
                let Some(report) = self.report(token, usize::from(*at), &text) else { return };
                let lease = &self.leases[&token];
                let mut request = self.request(lease.device.0, lease.owner.0);
                request.reports = vec![report; if *twice { 2 } else { 1 }];
                self.decide(&[request]);
            }
            Step::HandBack { lease } => {
                let Some(token) = token(*lease, self) else { return };
                let lease = &self.leases[&token];
                let mut request = self.request(lease.device.0, lease.owner.0);
                request.hand_backs = vec![HandBack { token, indexes: Vec::new(), checkpoints: Vec::new() }];
                self.decide(&[request]);
            }
            Step::Expire { lease } => {
                let Some(token) = token(*lease, self) else { return };
                self.expire(token);
            }
            Step::Straggle { lease } => {
                let Some(token) = token(*lease, self) else { return };
                self.straggle(token, &(1..=OWNERS).collect::<Vec<_>>());
            }
        }
    }

    /// Everybody works honestly until nothing is left.
    fn drain(&mut self) {
        for round in 0..10_000 {
            if self.job.state != JobState::Running {
                return;
            }
            for token in self.leases.keys().copied().collect::<Vec<_>>() {
                let Some(report) = self.report(token, 0, "right") else { continue };
                let lease = &self.leases[&token];
                let request =
                    Request { reports: vec![report], ..self.request(lease.device.0, lease.owner.0) };
                self.decide(&[request]);
            }
            // Enough owners that everything can find one who has no attempt of it yet.
            if self.job.awaits_review() {
                self.review();
                continue;
            }
            let device = i64::from(round) % 64;
            let want = Some(Want { leases: 1, units_max: 5 });
            self.decide(&[Request { want, ..self.request(device, 1 + device) }]);
        }
        panic!("the queue does not drain: {:?}", self.job);
    }
}

proptest! {
    #[test]
    fn whatever_happens_no_unit_is_lost_and_the_money_is_right(
        units in 1u64..12,
        copies in 0u32..4,
        tree in any::<bool>(),
        steps in steps(),
    ) {
        let reduce = if tree { Reduce::Tree } else { Reduce::None };
        let mut model = Model::new(job(units, copies, reduce));
        if copies == 0 {
            model.job.max_error = Share::of(0.01);
        }
        for step in &steps {
            model.run(step);
        }
        model.drain();
    }
}

#[test]
fn two_devices_of_one_owner_never_get_the_same_unit_in_one_batch() {
    let mut model = Model::new(job(1, 2, Reduce::None));
    let want = Some(Want { leases: 2, units_max: 5 });
    let ask = |device, owner| Request { want, ..Model::new(job(1, 2, Reduce::None)).request(device, owner) };
    let replies = model.decide(&[ask(1, 1), ask(2, 1), ask(1, 1)]);
    assert_eq!(replies.iter().map(|reply| reply.leases.len()).collect::<Vec<_>>(), [1, 0, 0]);
}

#[test]
fn the_second_attempt_waits_for_the_first_to_be_committed_and_goes_to_another_owner() {
    let mut model = Model::new(job(1, 2, Reduce::None));
    let want = Some(Want { leases: 1, units_max: 5 });
    let first = model.decide(&[Request { want, ..model.request(1, 1) }])[0].leases[0];
    let report = model.report(first, 0, "right").expect("an open unit");
    let replies = model.decide(&[
        Request { reports: vec![report], want, ..model.request(1, 1) },
        Request { want, ..model.request(2, 2) },
    ]);
    assert!(replies[1].leases.is_empty(), "not in the batch that recorded the first");
    assert!(
        model.decide(&[Request { want, ..model.request(3, 1) }])[0].leases.is_empty(),
        "not to the same owner"
    );
    assert_eq!(model.decide(&[Request { want, ..model.request(2, 2) }])[0].leases.len(), 1);
}

#[test]
fn a_stale_token_changes_no_lease_but_its_result_is_evidence() {
    let mut model = Model::new(job(1, 2, Reduce::None));
    let want = Some(Want { leases: 1, units_max: 5 });
    let stale = model.decide(&[Request { want, ..model.request(1, 1) }])[0].leases[0];
    let report = model.report(stale, 0, "right").expect("an open unit");
    model.expire(stale);
    let fresh = model.decide(&[Request { want, ..model.request(2, 2) }])[0].leases[0];
    let before = model.leases[&fresh].clone();
    let reply = &model.decide(&[Request { reports: vec![report], ..model.request(1, 1) }])[0];
    assert_eq!(reply.refusals, [(stale, 0, lull_proto::v1::RefusalReason::StaleLease)]);
    assert_eq!(model.leases[&fresh], before);
    let report = model.report(fresh, 0, "right").expect("an open unit");
    model.decide(&[Request { reports: vec![report], ..model.request(2, 2) }]);
    assert_eq!(model.job.state, JobState::Complete, "the late result was the other half of the quorum");
}

#[test]
fn a_lease_that_the_device_does_not_know_of_is_sent_again() {
    let mut model = Model::new(job(4, 2, Reduce::None));
    let want = Some(Want { leases: 1, units_max: 5 });
    let first = model.decide(&[Request { want, ..model.request(1, 1) }])[0].leases[0];
    let amnesiac = Request { held: Vec::new(), want, ..model.request(1, 1) };
    assert!(model.decide(&[amnesiac])[0].leases.contains(&first));
    let lost = Request { held: vec![LeaseToken(999)], ..model.request(1, 1) };
    assert_eq!(model.decide(&[lost])[0].lost, [LeaseToken(999)]);
}

#[test]
fn a_budget_for_less_than_a_full_unit_still_buys_a_short_one() {
    let mut short = job(8, 2, Reduce::None);
    short.plan.items_per_unit = 7;
    short.stage_units = short.plan.work_units();
    short.budget = short.expected_cost(&short.plan).expect("a cost");
    Model::new(short).drain();
}

#[test]
fn a_split_waits_to_be_counted_and_then_its_items_are_worked_on() {
    let mut split = job(0, 2, Reduce::Tree);
    split.plan.has_split = true;
    (split.stage, split.stage_units) = (Stage::Split, 1);
    let mut model = Model::new(split);
    let want = Some(Want { leases: 1, units_max: 5 });
    for device in 1..=2 {
        let token = model.decide(&[Request { want, ..model.request(device, device) }])[0].leases[0];
        let report = model.report(token, 0, "items").expect("an open unit");
        model.decide(&[Request { reports: vec![report], ..model.request(device, device) }]);
    }
    assert_eq!(
        (model.job.stage, model.job.stage_units, model.job.state),
        (Stage::Work, 0, JobState::Running)
    );
    let plan = Plan { items: 5, ..model.job.plan };
    let changes = model.job.split_counted(plan);
    assert!(changes.jobs_ended.is_empty());
    model.drain();
    assert_eq!(model.job.state, JobState::Complete);
}

#[test]
fn a_budget_that_is_used_up_leases_nothing() {
    let mut poor = job(10, 2, Reduce::None);
    poor.budget = amount("0.03");
    let mut model = Model::new(poor);
    for device in 1..6 {
        let want = Some(Want { leases: 1, units_max: 5 });
        model.decide(&[Request { want, ..model.request(device, device) }]);
    }
    assert_eq!(model.leases.values().map(|lease| lease.open.len()).sum::<usize>(), 3);
}

#[test]
fn units_fail_when_owners_agree_and_then_the_job_stops_spending() {
    let mut model = Model::new(job(100, 2, Reduce::Tree));
    let want = Some(Want { leases: 1, units_max: 5 });
    for round in 0..1_000 {
        if model.job.state != JobState::Running {
            break;
        }
        let device = 1 + round % 3;
        for token in model.decide(&[Request { want, ..model.request(device, device) }])[0].leases.clone() {
            while let Some(mut report) = model.report(token, 0, "index out of bounds") {
                report.outcome = Outcome::GuestFailed;
                model.decide(&[Request { reports: vec![report], ..model.request(device, device) }]);
            }
        }
    }
    assert_eq!(model.job.state, JobState::Incomplete);
    assert_eq!(model.job.totals.failed, lull_job::limits::FAILED_UNITS_MAX);
    assert!(model.job.reason.contains("units failed"), "{}", model.job.reason);
}
