//! Lull's own coordinator core, with its tables in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lull_coordinator::core::{
    Copies, DeviceId, HandBack, Job, JobId, JobState, LeaseToken, Network, Onlookers, Outcome, OwnerId,
    Policy, Prices, Report, Request, RunMode, Share, SubmitterId, Totals, UnitKey, Want,
};
use lull_job::{Digest, Plan, Reduce, Stage};
use lull_ledger::{Amount, FeeRate};

use super::memory::{Hints, MemoryStore};
use super::world::{Answer, Call, Server, Work};

/// The job of a simulation.
pub(super) const JOB: JobId = JobId(1);

/// A coordinator with one job.
#[derive(Debug)]
pub struct Lull {
    store: MemoryStore,
    hints: Hints,
    /// When each owner called last, in microseconds.
    called: BTreeMap<i64, u64>,
    now: u64,
    /// Owners of devices for which there was no work when they last called.
    waiting: BTreeSet<OwnerId>,
    /// Whether what takes too long goes out twice.
    copies: bool,
    unit_micros: u64,
    result: Vec<u8>,
}

impl Lull {
    /// A job of so many units that buys this confidence on a grid whose operator assumes so many liars.
    #[must_use]
    pub fn new(seed: u64, units: u64, max_error: Share, liars: Share, unit_micros: u64) -> Self {
        let plan = Plan {
            has_split: false,
            items: units,
            items_per_unit: 1,
            pilot_units: 0,
            reduce: Reduce::None,
            merge_fan_in: 2,
        };
        let budget = reward().times(units.saturating_mul(BUDGET_COPIES)).unwrap_or(Amount::MAX);
        let mut store = MemoryStore::default();
        store.submit(Job {
            id: JOB,
            submitter: SubmitterId(1),
            state: JobState::Running,
            reason: String::new(),
            key: *Digest::of(&seed.to_le_bytes()).as_bytes(),
            priority: 0,
            copies: 2,
            max_error,
            max_answer_error: Share::default(),
            wish_copies: Copies::default(),
            service_owners: 2,
            strict: false,
            reviewed: false,
            doubtful: 0,
            fee: FeeRate::NONE,
            round: 0,
            settled: false,
            allow_missing: true,
            result_bytes_max: 1_000,
            memory_bytes_max: 1 << 20,
            checkpointed: false,
            plan,
            stage: Stage::Work,
            stage_units: plan.work_units(),
            frontier: 0,
            stage_accepted: 0,
            stage_failed: 0,
            wanted: 0,
            unit_micros: 0,
            currency: lull_ledger::CurrencyId::DEFAULT,
            prices: Prices { item: reward(), service: reward() },
            budget,
            granted: Amount::ZERO,
            own: Amount::ZERO,
            refunded: Amount::ZERO,
            reserved: Amount::ZERO,
            spent: Amount::ZERO,
            totals: Totals::default(),
            answer: None,
        });
        let policy = Policy { liars };
        let hints = Hints { policy, ..Hints::default() };
        Self {
            store,
            hints,
            called: BTreeMap::new(),
            now: 0,
            waiting: BTreeSet::new(),
            copies: true,
            unit_micros,
            result: Vec::new(),
        }
    }

    /// The same, but that no unit is in two leases at a time: for comparison.
    #[must_use]
    pub fn without_copies(self) -> Self {
        Self { copies: false, ..self }
    }

    /// The tables.
    #[must_use]
    pub const fn store(&self) -> &MemoryStore {
        &self.store
    }

    /// What the operator assumes.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.hints.policy
    }

    fn report(&self, token: i64, index: u64, answer: Answer) -> Report {
        let outcome = if answer == Answer::Limit { Outcome::Limit } else { Outcome::Result };
        // No NaN is involved: both ways it is the same.
        let is_both = self.store.lease(LeaseToken(token)).is_some_and(|lease| lease.mode == RunMode::Referee);
        Report {
            token: LeaseToken(token),
            unit: UnitKey { job: JOB, stage: Stage::Work, index },
            outcome,
            digest: digest(answer),
            size_bytes: self.result.len() as u64,
            result: Some(self.result.clone()),
            cpu_micros: self.unit_micros,
            witnessed: Vec::new(),
            strict: is_both.then(|| (outcome, digest(answer))),
            fuel: is_both.then_some(1),
        }
    }
}

/// What one unit is paid.
pub(super) fn reward() -> Amount {
    static REWARD: std::sync::LazyLock<Amount> =
        std::sync::LazyLock::new(|| "0.001".parse().expect("an amount"));
    *REWARD
}

/// How long an owner counts as there after a call: longer than a lease takes.
const PRESENT_MICROS: u64 = 300_000_000;

/// For how many copies of each unit there is money.
const BUDGET_COPIES: u64 = 12;

/// The same for all units: results of different units are never compared.
#[must_use]
pub(super) fn digest(answer: Answer) -> Digest {
    static KNOWN: std::sync::LazyLock<[Digest; 3]> =
        std::sync::LazyLock::new(|| [b"right".as_slice(), b"lie", b"limit"].map(Digest::of));
    match answer {
        Answer::Right => KNOWN[0],
        Answer::Lie => KNOWN[1],
        Answer::Limit => KNOWN[2],
        Answer::Odd(number) => Digest::of(&number.to_le_bytes()),
    }
}

impl Server for Lull {
    fn set_clock(&mut self, now: u64) {
        self.now = now;
        self.store.set_clock(now / 1_000_000);
    }

    fn call(&mut self, call: &Call<'_>) -> Option<Work> {
        self.called.insert(call.owner, self.now);
        let hand_back = HandBack {
            token: LeaseToken(call.token),
            indexes: call.hand_backs.to_vec(),
            checkpoints: Vec::new(),
        };
        let request = Request {
            device: DeviceId(call.device),
            owner: OwnerId(call.owner),
            reports: call
                .reports
                .iter()
                .map(|(unit, answer)| self.report(call.token, *unit, *answer))
                .collect(),
            hand_backs: if call.hand_backs.is_empty() { Vec::new() } else { vec![hand_back] },
            held: Vec::new(),
            want: Some(Want { leases: 1, units_max: call.units_max }),
            referee: false,
            network: Some(Network(call.network)),
        };
        if !self.hints.networks.known.contains_key(&request.owner) {
            let networks = Arc::make_mut(&mut self.hints.networks);
            networks.known.insert(request.owner, [Network(call.network)].into());
            networks.asking.insert(request.owner);
        }
        let replies = self.store.sync(&[request], &self.hints);
        let token = replies.first().and_then(|reply| reply.leases.first().copied());
        if token.is_none() {
            self.waiting.insert(OwnerId(call.owner));
        } else {
            self.waiting.remove(&OwnerId(call.owner));
        }
        let token = token?;
        Some(Work { token: token.0, units: self.store.lease(token)?.open.clone() })
    }

    fn lapse(&mut self, token: i64) {
        self.store.expire(&[LeaseToken(token)], self.hints.policy);
    }

    fn chores(&mut self) {
        self.store.release_held();
        self.store.forgive_drops();
        self.called.retain(|_, at| *at + PRESENT_MICROS > self.now);
        self.hints.owners = self.called.len() as u64;
        if self.copies {
            let there = self.called.keys().copied().map(OwnerId).collect();
            let onlookers = Onlookers { there, waiting: self.waiting.clone() };
            let late = self.store.late(&onlookers);
            if !late.is_empty() {
                self.store.straggle(late, &onlookers, self.hints.policy);
            }
        }
        for job in self.store.unreviewed() {
            self.store.review(job, self.hints.policy);
        }
    }

    fn is_over(&self) -> bool {
        self.store.job(JOB).is_none_or(|job| job.state != JobState::Running)
    }

    fn has_new(&self) -> bool {
        self.store.job(JOB).is_some_and(|job| job.beyond_frontier() > 0)
    }

    fn catches(&self, owner: i64) -> u32 {
        self.store.standing(OwnerId(owner)).catches
    }

    fn enrol(&mut self, owner: i64, devices: u64) {
        self.called.insert(owner, self.now);
        self.hints.owners = self.called.len() as u64;
        self.hints.slots = devices;
    }
}
