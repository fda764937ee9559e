//! Simulates every adversary against the coordinator's core, and beside it BOINC's rule.

use lull_tests::sim::table::{Summary, Trial, adversaries, trials};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let percent = args.get(1).and_then(|a| a.parse().ok()).unwrap_or(5);
    let seeds = args.get(2).and_then(|a| a.parse().ok()).unwrap_or(4);
    let only = args.get(3).cloned().unwrap_or_default();
    let trial = Trial::one_in_ten_thousand(percent);
    for adversary in adversaries().iter().filter(|a| a.name.contains(&only)) {
        let started = std::time::Instant::now();
        let lull = trials(seeds, |seed| trial.lull(seed, adversary.conduct));
        let took = started.elapsed();
        show(adversary.name, &lull, took, seeds * trial.units());
        if args.get(4).is_some() {
            continue;
        }
        let boinc = trials(seeds, |seed| trial.boinc(seed, adversary.conduct, 10));

        show("   boinc", &boinc, started.elapsed() - took, seeds * trial.units());
    }
}

fn show(name: &str, s: &Summary, took: std::time::Duration, units: u64) {
    println!(
        "{name:40} {:.2e} ±{:.0e} copies {:.4} net {:8.3} ±{:.2} caught {:5.1}% results {:?} hours {:.1?} run {:.1}h framed {} faults {} {:.0}/s {:?}",
        s.error,
        s.error_deviation,
        s.copies,
        s.net_pay,
        s.net_pay_deviation,
        s.caught_percent,
        s.results_to_catch,
        s.hours_to_catch,
        s.hours,
        s.framed,
        s.faults.len(),
        units as f64 / took.as_secs_f64(),
        s.faults.first()
    );
}
