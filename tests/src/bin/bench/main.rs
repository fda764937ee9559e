//! The benchmarks: `bench [PREFIX]` runs those whose name begins with it and writes `bench.json`,
//! a list of `{"name", "value", "unit"}`. It needs release builds of the programs beside it, and the guests.

mod audit;
mod checkpoints;
mod presence;
mod statements;
mod study;
mod throughput;
mod trust;
mod unit_start;

use std::time::Duration;

use anyhow::{Context, Result, ensure};

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

type Benchmark = fn() -> Result<Vec<Figure>>;

/// Each benchmark with the figures that it measures.
const BENCHMARKS: [(&[&str], Benchmark); 15] = [
    (&["maxt_us_per_relabeling", "guest_native_ratio_maxt"], study::maxt),
    (&["verified_units_per_second", "rewards_per_second"], throughput::batched),
    (&["verified_units_per_second_single"], throughput::single),
    (&["submit_to_lease_p99_ms"], throughput::submit_to_lease),
    (&["stop_latency_p50_ms", "stop_latency_p99_ms", "resume_latency_p99_ms"], presence::latencies),
    (&["agent_rss_mib", "agent_cpu_percent"], presence::at_rest),
    (&["checkpoint_ms_64mib", "checkpoint_overhead_percent"], checkpoints::sixty_four_mib),
    (&["unit_start_ms"], unit_start::unit_start),
    (&["trust_error_5pct", "trust_copies_5pct", "trust_cheat_net_pay"], trust::five_percent),
    (&["trust_copies_honest_10k"], trust::honest),
    (&["trust_error_20pct_colluding", "trust_copies_20pct_colluding"], trust::colluding),
    (&["sim_units_per_second"], trust::speed),
    (&["statement_100k_lines_seconds"], statements::statement),
    (&["audit_10m_transfers_seconds", "audit_peak_mib", "sealed_rows_per_second"], audit::ten_million),
    (&["cold_demo_seconds"], study::cold_demo),
];

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn main() -> Result<()> {
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let chosen = BENCHMARKS.iter().filter(|(names, _)| names.iter().any(|name| name.starts_with(&prefix)));
    let mut list = Vec::new();
    for (names, run) in chosen {
        for Figure { name, value, unit } in run().with_context(|| format!("measuring {names:?}"))? {
            println!("{name:36} {value:14.6} {unit}");
            list.push(serde_json::json!({ "name": name, "value": value, "unit": unit }));
        }
        // What was measured stays, whatever becomes of the rest.
        std::fs::write("bench.json", serde_json::to_string_pretty(&list)? + "\n")?;
    }
    ensure!(!list.is_empty(), "no benchmark is called {prefix}...");
    Ok(())
}

/// The time that `percent` of these do not exceed, in milliseconds.
fn percentile_ms(times: &mut [Duration], percent: usize) -> f64 {
    times.sort();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    #[allow(clippy::float_arithmetic, reason = "a measurement")]
    times.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
