//! Many runs of one kind, summed up.

#![allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "statistics over counts")]

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use lull_job::Share;

use super::{AfterCatch, Boinc, Conduct, Findings, Lull, Lying, Run, Scene, audit, run};

/// Who lies how.
#[derive(Debug, Clone, Copy)]
pub struct Adversary {
    /// In words.
    pub name: &'static str,
    /// How its owners behave.
    pub conduct: Conduct,
}

/// What is simulated.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Owners, a device each.
    pub owners: u64,
    /// How many of a hundred are adversaries.
    pub percent: u64,
    /// Units of the job for each owner.
    pub units_an_owner: u64,
    /// The share of wrong units that the job allows.
    pub max_error: f64,
    /// The share of liars that the operator assumes.
    pub assumed: f64,
    /// Time of one unit.
    pub unit_micros: u64,
}

impl Trial {
    /// The promise of one wrong unit in ten thousand, with 1,000 units an owner.
    #[must_use]
    pub const fn one_in_ten_thousand(percent: u64) -> Self {
        Self {
            owners: 200,
            percent,
            units_an_owner: 1_000,
            max_error: 1e-4,
            assumed: percent as f64 / 100.0,
            unit_micros: 10_000_000,
        }
    }

    /// Units of the job.
    #[must_use]
    pub const fn units(&self) -> u64 {
        self.owners * self.units_an_owner
    }

    fn scene(&self, seed: u64, conduct: Conduct) -> Scene {
        let liars = self.owners * self.percent / 100;
        let cast = vec![(liars, conduct), (self.owners - liars, Conduct::Honest)];
        Scene { seed, unit_micros: self.unit_micros, cast }
    }

    /// One run against Lull's core.
    #[must_use]
    pub fn lull(&self, seed: u64, conduct: Conduct) -> (Findings, Run) {
        let (max_error, assumed) = (Share::of(self.max_error), Share::of(self.assumed));
        let mut lull = Lull::new(seed, self.units(), max_error, assumed, self.unit_micros);
        let run = run(&mut lull, &self.scene(seed, conduct));
        (audit(&lull, &run), run)
    }

    /// One run against BOINC's rule; hosts fetch so many units at a time.
    #[must_use]
    pub fn boinc(&self, seed: u64, conduct: Conduct, per_request: usize) -> (Findings, Run) {
        let units = usize::try_from(self.units()).unwrap_or(usize::MAX);
        let mut boinc = Boinc::new(seed, units, per_request);
        let run = run(&mut boinc, &self.scene(seed, conduct));
        let (wrong, accepted, attempts) = boinc.tally();
        let lies_paid = boinc.credited_lies(&run.lies);
        (Findings { units: self.units(), accepted, wrong, attempts, lies_paid, ..Findings::default() }, run)
    }
}

/// Means over several runs.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Share of accepted units that are wrong.
    pub error: f64,
    /// Its standard error.
    pub error_deviation: f64,
    /// Attempts a unit.
    pub copies: f64,
    /// Rewards kept for lies less honest rewards lost, for each liar, in rewards.
    pub net_pay: f64,
    /// Liars that were caught, of a hundred.
    pub caught_percent: f64,
    /// Results from the first lie to the catch: the median.
    pub results_to_catch: Option<u64>,
    /// Hours from the first lie to the catch: the median.
    pub hours_to_catch: Option<f64>,
    /// Owners that were caught and had not erred.
    pub framed: u64,
    /// What must not be.
    pub faults: Vec<String>,
}

fn mean(values: &[f64]) -> (f64, f64) {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    (mean, (variance / count).sqrt())
}

fn median<T: Copy + PartialOrd>(values: &mut [T]) -> Option<T> {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    values.get(values.len() / 2).copied()
}

/// Sums runs up.
fn summary(runs: Vec<(Findings, Run)>) -> Summary {
    let share = |(findings, _): &(Findings, Run)| findings.wrong as f64 / findings.accepted.max(1) as f64;
    let copies = |(findings, _): &(Findings, Run)| findings.attempts as f64 / findings.units.max(1) as f64;
    let net = |(findings, run): &(Findings, Run)| {
        (findings.lies_paid as f64 - findings.honest_lost as f64) / run.people.max(1) as f64
    };
    let all = |what: &dyn Fn(&(Findings, Run)) -> f64| mean(&runs.iter().map(what).collect::<Vec<_>>());
    let (error, error_deviation) = all(&share);
    let hours = |micros: u64| micros as f64 / 3.6e9;
    let mut results: Vec<u64> = runs.iter().flat_map(|(_, run)| run.results_to_catch.clone()).collect();
    let mut micros: Vec<u64> = runs.iter().flat_map(|(_, run)| run.micros_to_catch.clone()).collect();
    Summary {
        error,
        error_deviation,
        copies: all(&copies).0,
        net_pay: all(&net).0,
        caught_percent: all(&|(findings, run)| {
            100.0 * findings.caught as f64 / run.liars.len().max(1) as f64
        })
        .0,
        results_to_catch: median(&mut results),
        hours_to_catch: median(&mut micros).map(hours),
        framed: runs.iter().map(|(findings, _)| findings.framed).sum(),
        faults: runs.into_iter().flat_map(|(findings, _)| findings.faults).collect(),
    }
}

/// Runs with these seeds, on two threads.
#[must_use]
pub fn trials(seeds: Range<u64>, one: impl Fn(u64) -> (Findings, Run) + Sync) -> Summary {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let take = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < seeds.end);
        std::iter::from_fn(|| take().map(|seed| (seed, one(seed)))).collect::<Vec<_>>()
    };
    let mut runs = std::thread::scope(|scope| {
        let other = scope.spawn(worker);
        let mut done = worker();
        match other.join() {
            Ok(more) => done.extend(more),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        done
    });
    runs.sort_by_key(|(seed, _)| *seed);
    summary(runs.into_iter().map(|(_, run)| run).collect())
}

/// Every kind of adversary that is tried.
#[must_use]
pub fn adversaries() -> Vec<Adversary> {
    let with_friends = Lying { agrees: true, ..Lying::ALWAYS };
    let patient = |after, lies| Conduct::Liar(Lying::sleeper(after, lies));
    let liar = |lying| Conduct::Liar(lying);
    let list = [
        ("always lies, alone", liar(Lying::ALWAYS)),
        ("always lies, all agree", liar(with_friends)),
        ("lies in 1 of 10, all agree", liar(Lying { rate: 0.1, ..with_friends })),
        ("lies in 1 of 100, all agree", liar(Lying { rate: 0.01, ..with_friends })),
        ("lies once, all agree", patient(0, 1)),
        ("20 honest, then one lie", patient(20, 1)),
        ("20 honest, then 5 lies", patient(20, 5)),
        ("100 honest, then one lie", patient(100, 1)),
        ("100 honest, then 3 lies", patient(100, 3)),
        ("100 honest, then 5 lies", patient(100, 5)),
        ("100 honest, then 10 lies", patient(100, 10)),
        ("500 honest, then always", liar(Lying { after: 500, ..with_friends })),
        ("900 honest, then one lie", patient(900, 1)),
        ("900 honest, then 5 lies", patient(900, 5)),
        ("980 honest, then always", liar(Lying { after: 980, ..with_friends })),
        ("guesses what is not checked, 1 lie", liar(Lying { guesses: true, ..Lying::sleeper(100, 1) })),
        ("guesses what is not checked, 5 lies", liar(Lying { guesses: true, ..Lying::sleeper(100, 5) })),
        (
            "100 honest, then 5 lies, on one network",
            liar(Lying { neighbours: true, ..Lying::sleeper(100, 5) }),
        ),
        ("5 lies, asks often for one unit", liar(Lying { asks_often: true, ..Lying::sleeper(100, 5) })),
        (
            "5 lies, looks for their checks at any cost",
            liar(Lying { fishes: Some(u64::MAX), ..Lying::sleeper(100, 5) }),
        ),
        ("5 lies, looks for their checks, unseen", liar(Lying { fishes: Some(9), ..Lying::sleeper(100, 5) })),
        (
            "10 honest, lies; comes back 10 times",
            liar(Lying { after: 10, after_catch: AfterCatch::ComesBack(10), ..with_friends }),
        ),
        (
            "lies at once; comes back 10 times",
            liar(Lying { after_catch: AfterCatch::ComesBack(10), ..with_friends }),
        ),
        ("a bit is wrong in 1 of 1,000", Conduct::Flaky(0.001)),
        ("gives up on every unit", Conduct::GivesUp),
        ("slow: 10 times the time", Conduct::Slow(10.0)),
        ("dying: drops 1 lease in 5", Conduct::Dying(0.2)),
    ];
    list.map(|(name, conduct)| Adversary { name, conduct }).into()
}
