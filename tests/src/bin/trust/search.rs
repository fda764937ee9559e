//! Liars at random: whether somebody does better than those in the table.

use anyhow::{Result, ensure};
use lull_coordinator::core::CENSUS_RESULTS;
use lull_tests::sim::table::{Summary, Trial, trials};
use lull_tests::sim::{AfterCatch, Conduct, Lying};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Runs of each liar, to find those that do best.
const TRIED: u64 = 2;
/// Runs of those, with other seeds: the best of many looks better than it is.
const MEASURED: u64 = 16;
/// Seeds of these.
const FIRST_MEASURED: u64 = 5_000;
/// So many are measured again, of each kind.
const BEST: usize = 2;

/// How well a liar does.
type Measure = fn(&Summary) -> f64;
/// What a liar may be after.
const AIMS: [(&str, Measure); 3] = [
    ("wrong results", |found| found.error),
    ("copies", |found| found.copies),
    ("net pay", |found| found.net_pay),
];

/// Draws so many liars and prints, of those that do best, what they do with other seeds.
#[allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "its output, and the progress of minutes of work"
)]
pub(crate) fn search(percent: u64, liars: usize, seed: u64) -> Result<()> {
    let trial = Trial::one_in_ten_thousand(percent);
    let mut random = StdRng::seed_from_u64(seed);
    let mut tried: Vec<(Lying, Summary)> = Vec::new();
    for number in 1..=liars {
        let lying = draw(&mut random, trial.units_an_owner);
        let found = trials(0..TRIED, |seed| trial.lull(seed, Conduct::Liar(lying)));
        ensure!(found.faults.is_empty(), "{lying:?}: {:?}", found.faults);
        tried.push((lying, found));
        eprint!("\r{number} of {liars}");
    }
    eprintln!();
    for (aim, by) in AIMS {
        println!("{aim}:");
        tried.sort_by(|(_, a), (_, b)| by(b).total_cmp(&by(a)));
        for (lying, _) in tried.iter().take(BEST) {
            let seeds = FIRST_MEASURED..FIRST_MEASURED + MEASURED;
            let found = trials(seeds, |seed| trial.lull(seed, Conduct::Liar(*lying)));
            println!("{}\n  {lying:?}", super::row("", &found, &Summary::default()));
        }
    }
    Ok(())
}

/// A liar, of those who may do better than by chance: most know each other, and begin when they are trusted.
fn draw(random: &mut StdRng, units_an_owner: u64) -> Lying {
    let mut one_in = |times: u32| random.random_range(0..times) == 0;
    let (alone, begins_at_once, lies_on, rarely) = (one_in(8), one_in(4), one_in(3), one_in(3));
    let (guesses, asks_often, neighbours) = (one_in(4), one_in(4), one_in(6));
    let (fishes, at_any_cost, reforms, comes_back) = (one_in(4), one_in(3), one_in(2), one_in(2));
    let at_once = random.random_range(0..CENSUS_RESULTS);
    Lying {
        after: if begins_at_once { at_once } else { random.random_range(0..units_an_owner) },
        lies: if lies_on { u64::MAX } else { random.random_range(1..20) },
        rate: if rarely { random.random_range(0.005..0.5) } else { 1.0 },
        agrees: !alone,
        guesses,
        asks_often,
        fishes: fishes.then(|| if at_any_cost { u64::MAX } else { random.random_range(1..60) }),
        neighbours,
        after_catch: match reforms {
            true => AfterCatch::Reforms,
            // More names with longer histories would be more liars than are assumed.
            false if comes_back && begins_at_once => AfterCatch::ComesBack(random.random_range(1..12)),
            false => AfterCatch::GoesOn,
        },
    }
}
