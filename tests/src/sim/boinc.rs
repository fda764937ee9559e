//! BOINC's adaptive replication, for comparison.
//!
//! The rule of its scheduler (`set_trust` in `sched/sched_send.cpp`): a host with fewer than ten
//! valid results in a row is not trusted; one with n of them is trusted with probability 1 - 1/n, decided once a
//! request. What a trusted host is handed first is accepted as it is; of anything else two results must agree.
//! An invalid result sets n to zero; what was accepted before stays, and so does its credit. Its daily quotas, which
//! starve hosts that fail, are not here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::world::{Answer, Call, Server, Work};

/// Valid results in a row before a host may be trusted.
const VALID_FOR_TRUST: u64 = 10;
/// Results of one work unit before it is given up.
const RESULTS_MAX: usize = 16;

#[derive(Debug, Clone, Default)]
struct WorkUnit {
    results: Vec<(i64, Answer)>,
    quorum: usize,
    /// Who has it or had it.
    sent: Vec<i64>,
    canonical: Option<Answer>,
    has_failed: bool,
}

/// BOINC's server, as far as its rule goes.
#[derive(Debug)]
pub struct Boinc {
    units: Vec<WorkUnit>,
    next: usize,
    /// Units that wait for one more result.
    queue: VecDeque<usize>,
    open: BTreeMap<i64, (i64, BTreeSet<u64>)>,
    valid: BTreeMap<i64, u64>,
    invalid: BTreeMap<i64, u32>,
    rng: StdRng,
    per_request: usize,
    next_token: i64,
    decided: usize,
}

impl Boinc {
    /// A project of so many work units, of which a host fetches so many at a time.
    #[must_use]
    pub fn new(seed: u64, units: usize, per_request: usize) -> Self {
        Self {
            units: vec![WorkUnit::default(); units],
            next: 0,
            queue: VecDeque::new(),
            open: BTreeMap::new(),
            valid: BTreeMap::new(),
            invalid: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            per_request,
            next_token: 0,
            decided: 0,
        }
    }

    /// Accepted results that are wrong, accepted results, all results.
    #[must_use]
    pub fn tally(&self) -> (u64, u64, u64) {
        let accepted = || self.units.iter().filter_map(|unit| unit.canonical);
        let wrong = accepted().filter(|answer| *answer != Answer::Right).count() as u64;
        let results = self.units.iter().map(|unit| unit.results.len() as u64).sum();
        (wrong, accepted().count() as u64, results)
    }

    /// Units for which one of these owners has credit, though it lied about them.
    #[must_use]
    pub fn credited_lies(&self, lies: &BTreeSet<(i64, u64)>) -> u64 {
        let has_credit = |(owner, unit): &&(i64, u64)| {
            let unit = usize::try_from(*unit).ok().and_then(|at| self.units.get(at));
            unit.is_some_and(|unit| {
                unit.results.iter().any(|(who, answer)| who == owner && Some(*answer) == unit.canonical)
            })
        };
        lies.iter().filter(has_credit).count() as u64
    }

    fn validate(&mut self, at: usize) {
        let unit = &mut self.units[at];
        if unit.canonical.is_some() || unit.has_failed {
            // A result that comes after the canonical one is compared with it.
            if let (Some(canonical), Some((owner, answer))) = (unit.canonical, unit.results.last().copied()) {
                self.credit(owner, answer == canonical);
            }
            return;
        }
        if unit.results.len() < unit.quorum {
            return;
        }
        let count = |answer: Answer| unit.results.iter().filter(|(_, other)| *other == answer).count();
        let best =
            unit.results.iter().map(|(_, answer)| *answer).find(|answer| count(*answer) >= unit.quorum);
        match best.filter(|answer| *answer != Answer::Limit) {
            Some(answer) => {
                unit.canonical = Some(answer);
                self.decided += 1;
                for (owner, said) in unit.results.clone() {
                    self.credit(owner, said == answer);
                }
            }
            None if unit.results.len() >= RESULTS_MAX => {
                unit.has_failed = true;
                self.decided += 1;
            }
            None => {
                unit.quorum = unit.quorum.max(2);
                self.queue.push_back(at);
            }
        }
    }

    fn credit(&mut self, owner: i64, is_valid: bool) {
        let valid = self.valid.entry(owner).or_default();
        if is_valid {
            *valid += 1;
        } else {
            *valid = 0;
            *self.invalid.entry(owner).or_default() += 1;
        }
    }

    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a probability")]
    fn is_trusted(&mut self, owner: i64) -> bool {
        let valid = self.valid.get(&owner).copied().unwrap_or(0);
        valid >= VALID_FOR_TRUST && self.rng.random::<f64>() > 1.0 / valid as f64
    }

    fn send(&mut self, owner: i64) -> Vec<u64> {
        let trusted = self.is_trusted(owner);
        let mut sent = Vec::new();
        let mut passed = VecDeque::new();
        while sent.len() < self.per_request
            && let Some(at) = self.queue.pop_front()
        {
            let unit = &mut self.units[at];
            if unit.canonical.is_some() || unit.has_failed {
                continue;
            }
            if unit.sent.contains(&owner) {
                passed.push_back(at);
                continue;
            }
            unit.sent.push(owner);
            sent.push(at as u64);
        }
        passed.append(&mut self.queue);
        self.queue = passed;
        while sent.len() < self.per_request && self.next < self.units.len() {
            let unit = &mut self.units[self.next];
            unit.quorum = if trusted { 1 } else { 2 };
            unit.sent.push(owner);
            if !trusted {
                self.queue.push_back(self.next);
            }
            sent.push(self.next as u64);
            self.next += 1;
        }
        sent
    }

    fn give_back(&mut self, unit: u64) {
        let at = usize::try_from(unit).unwrap_or(usize::MAX);
        self.queue.push_back(at);
    }
}

impl Server for Boinc {
    fn set_clock(&mut self, _now: u64) {}

    fn call(&mut self, call: &Call<'_>) -> Option<Work> {
        if let Some((_, mut open)) = self.open.remove(&call.token) {
            for (unit, answer) in call.reports {
                open.remove(unit);
                let at = usize::try_from(*unit).unwrap_or(usize::MAX);
                self.units[at].results.push((call.owner, *answer));
                self.validate(at);
            }
            for unit in open {
                self.give_back(unit);
            }
        }
        let units = self.send(call.owner);
        if units.is_empty() {
            return None;
        }
        self.next_token += 1;
        self.open.insert(self.next_token, (call.owner, units.iter().copied().collect()));
        Some(Work { token: self.next_token, units })
    }

    fn lapse(&mut self, token: i64) {
        for unit in self.open.remove(&token).map(|(_, units)| units).into_iter().flatten() {
            self.give_back(unit);
        }
    }

    fn chores(&mut self) {}

    fn is_over(&self) -> bool {
        self.decided == self.units.len()
    }

    fn has_new(&self) -> bool {
        self.next < self.units.len()
    }

    fn catches(&self, owner: i64) -> u32 {
        self.invalid.get(&owner).copied().unwrap_or(0)
    }

    fn enrol(&mut self, _owner: i64, _devices: u64) {}
}
