//! Simulates every adversary against the coordinator's core, and BOINC's rule beside it: `trust FILE` writes the
//! table between the marks in FILE. `trust try PERCENT RUNS PREFIX` prints the rows of adversaries whose name begins so,
//! with other seeds. `trust search PERCENT LIARS SEED` draws so many liars at random and prints those that do best.

mod search;

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use lull_tests::sim::table::{Summary, Trial, adversaries, trials};

/// Runs of each adversary: more where less is wrong.
const SEEDS: [(u64, u64); 2] = [(5, 4), (20, 1)];
/// Units that a BOINC host fetches at a time.
const BOINC_UNITS: usize = 10;
const BEGIN: &str = "<!-- begin: make trust -->\n";
const END: &str = "<!-- end: make trust -->\n";

#[allow(clippy::print_stderr, reason = "progress of minutes of work")]
fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, percent, runs, prefix] = &arguments[..]
        && word == "try"
    {
        return show(percent.parse()?, runs.parse()?, prefix);
    }
    if let [word, percent, liars, seed] = &arguments[..]
        && word == "search"
    {
        return search::search(percent.parse()?, liars.parse()?, seed.parse()?);
    }
    let usage = "usage: trust FILE, trust try PERCENT RUNS PREFIX, or trust search PERCENT LIARS SEED";
    let path = arguments.first().context(usage)?;
    let before = std::fs::read_to_string(path).with_context(|| format!("reading {path}"))?;
    let (head, rest) = before.split_once(BEGIN).with_context(|| format!("{path} has no line {BEGIN:?}"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{path} has no line {END:?}"))?;
    let mut table = String::new();
    for (percent, seeds) in SEEDS {
        let trial = Trial::one_in_ten_thousand(percent);
        writeln!(
            table,
            "\n{percent} of 100 owners are adversaries, and the operator assumes so many; {} owners, {} units, \
             `max_error = 1e-4`, runs of each: {seeds}:\n\n\
             | adversary | wrong | copies | net pay | caught | results, hours until then | framed | BOINC: wrong | copies | net pay |\n\
             |---|---|---|---|---|---|---|---|---|---|",
            trial.owners,
            trial.units(),
        )?;
        for adversary in adversaries() {
            eprintln!("{percent} percent: {}", adversary.name);
            let lull = trials(0..seeds, |seed| trial.lull(seed, adversary.conduct));
            ensure!(lull.faults.is_empty(), "{}: {:?}", adversary.name, lull.faults);
            let boinc = trials(0..seeds, |seed| trial.boinc(seed, adversary.conduct, BOINC_UNITS));
            writeln!(table, "{}", row(adversary.name, &lull, &boinc))?;
        }
    }
    std::fs::write(path, format!("{head}{BEGIN}{table}\n{END}{tail}"))?;
    Ok(())
}

/// Seeds of what is tried, apart from the table's.
const FIRST_TRIED: u64 = 100;

#[allow(clippy::print_stdout, reason = "the rows are its output")]
fn show(percent: u64, runs: u64, prefix: &str) -> Result<()> {
    let trial = Trial::one_in_ten_thousand(percent);
    for adversary in adversaries().into_iter().filter(|one| one.name.starts_with(prefix)) {
        let seeds = FIRST_TRIED..FIRST_TRIED + runs;
        let lull = trials(seeds, |seed| trial.lull(seed, adversary.conduct));
        ensure!(lull.faults.is_empty(), "{}: {:?}", adversary.name, lull.faults);
        println!("{}", row(adversary.name, &lull, &Summary::default()));
    }
    Ok(())
}

fn row(name: &str, lull: &Summary, boinc: &Summary) -> String {
    let until = match (lull.results_to_catch, lull.hours_to_catch) {
        (Some(results), Some(hours)) => format!("{results}, {hours:.1}"),
        _ => "-".to_owned(),
    };
    format!(
        "| {name} | {} | {:.3} | {:.2} | {:.0} % | {until} | {} | {} | {:.3} | {:.2} |",
        share(lull.error, lull.error_deviation),
        lull.copies,
        lull.net_pay,
        lull.caught_percent,
        lull.framed,
        share(boinc.error, boinc.error_deviation),
        boinc.copies,
        boinc.net_pay,
    )
}

/// In millionths, with its standard error.
#[allow(clippy::float_arithmetic, reason = "a share in words")]
fn share(error: f64, deviation: f64) -> String {
    format!("{:.1} ± {:.1} ppm", error * 1e6, deviation * 1e6)
}
