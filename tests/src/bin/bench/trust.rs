//! What lying does, and what it costs to find out: by simulation.

use std::time::Instant;

use anyhow::{Result, ensure};
use lull_tests::sim::Conduct;
use lull_tests::sim::table::{Adversary, Summary, Trial, adversaries, trials};

use crate::Figure;

/// Runs of each adversary, to find the worst.
const TRIED: u64 = 4;
/// Runs of the worst, with other seeds: the worst of many looks worse than it is.
const MEASURED: u64 = 16;

/// The adversary for which this is largest, measured again.
fn worst(trial: &Trial, tried: &[(Adversary, Summary)], by: impl Fn(&Summary) -> f64) -> f64 {
    let largest = tried.iter().max_by(|(_, a), (_, b)| by(a).total_cmp(&by(b)));
    let Some((adversary, _)) = largest else { return f64::NAN };
    by(&trials(1_000..1_000 + MEASURED, |seed| trial.lull(seed, adversary.conduct)))
}

fn tried(trial: &Trial, runs: u64, which: impl Fn(&Conduct) -> bool) -> Result<Vec<(Adversary, Summary)>> {
    let mut all = Vec::new();
    for adversary in adversaries().into_iter().filter(|one| which(&one.conduct)) {
        let summary = trials(0..runs, |seed| trial.lull(seed, adversary.conduct));
        ensure!(summary.faults.is_empty(), "{}: {:?}", adversary.name, summary.faults);
        all.push((adversary, summary));
    }
    Ok(all)
}

const fn is_liar(conduct: &Conduct) -> bool {
    matches!(conduct, Conduct::Liar(_))
}

pub(crate) fn five_percent() -> Result<Vec<Figure>> {
    let trial = Trial::one_in_ten_thousand(5);
    let all = tried(&trial, TRIED, |_| true)?;
    let liars: Vec<_> = all.iter().filter(|(one, _)| is_liar(&one.conduct)).cloned().collect();
    let figure = |name, value, unit| Figure { name, value, unit };
    Ok(vec![
        figure("trust_error_5pct", worst(&trial, &all, |one| one.error), "share"),
        figure("trust_copies_5pct", worst(&trial, &all, |one| one.copies), "copies"),
        figure("trust_cheat_net_pay", worst(&trial, &liars, |one| one.net_pay), "rewards"),
    ])
}

pub(crate) fn honest() -> Result<Vec<Figure>> {
    let trial = Trial { percent: 0, units_an_owner: 10_000, assumed: 0.05, ..Trial::one_in_ten_thousand(0) };
    let summary = trials(0..2, |seed| trial.lull(seed, Conduct::Honest));
    ensure!(summary.faults.is_empty(), "{:?}", summary.faults);
    Ok(vec![Figure { name: "trust_copies_honest_10k", value: summary.copies, unit: "copies" }])
}

pub(crate) fn colluding() -> Result<Vec<Figure>> {
    let trial = Trial::one_in_ten_thousand(20);
    let agrees = |conduct: &Conduct| matches!(conduct, Conduct::Liar(lying) if lying.agrees);
    let all = tried(&trial, 2, agrees)?;
    let most = |by: fn(&Summary) -> f64| all.iter().map(|(_, one)| by(one)).fold(0.0, f64::max);
    Ok(vec![
        Figure { name: "trust_error_20pct_colluding", value: most(|one| one.error), unit: "share" },
        Figure { name: "trust_copies_20pct_colluding", value: most(|one| one.copies), unit: "copies" },
    ])
}

#[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
pub(crate) fn speed() -> Result<Vec<Figure>> {
    let trial = Trial::one_in_ten_thousand(5);
    let started = Instant::now();
    let (findings, _) = trial.lull(1, Conduct::Honest);
    ensure!(findings.faults.is_empty(), "{:?}", findings.faults);
    let value = findings.accepted as f64 / started.elapsed().as_secs_f64();
    Ok(vec![Figure { name: "sim_units_per_second", value, unit: "units/s" }])
}
