//! The study: what a relabeling costs, and what a newcomer waits for it.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lull_tests::grid::root;
use lull_tests::guest;

use crate::Figure;

/// One unit of the study, in the sandbox and natively, by turns: the least CPU time of each counts.
pub(crate) fn maxt() -> Result<Vec<Figure>> {
    const START: u64 = 601_500_000;
    const RELABELINGS: u64 = 500_000;
    const ROUNDS: usize = 7;
    let data = root().join("workloads/maxt/data/golub.csv");
    let (module, table) = (std::fs::read(guest("maxt"))?, std::fs::read(&data)?);
    let native = build_native()?;
    let (mut guest_micros, mut native_micros) = (u64::MAX, u64::MAX);
    for _ in 0..ROUNDS {
        guest_micros = guest_micros.min(sandboxed(&module, &table, START..START + RELABELINGS)?);
        let range = [START.to_string(), (START + RELABELINGS).to_string()];
        let output = Command::new(&native).arg(&data).args(range).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout)?;
        native_micros = native_micros.min(text.split_whitespace().next().context("no time")?.parse()?);
    }
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    let (each, ratio) =
        (guest_micros as f64 / RELABELINGS as f64, guest_micros as f64 / native_micros as f64);
    Ok(vec![
        Figure { name: "maxt_us_per_relabeling", value: each, unit: "us" },
        Figure { name: "guest_native_ratio_maxt", value: ratio, unit: "ratio" },
    ])
}

/// The same source as the guest's, optimised the same way, for SSE4.1.
fn build_native() -> Result<PathBuf> {
    let target = root().join("target/native");
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--profile",
            "guest",
            "-p",
            "lull-maxt",
            "--example",
            "count",
            "--target-dir",
        ])
        .arg(&target)
        .env("RUSTFLAGS", "-C target-feature=+sse4.1")
        .current_dir(root())
        .status()?;
    ensure!(status.success(), "building the native program failed");
    Ok(target.join("guest/examples/count"))
}

/// CPU time of one unit in a runner, microseconds.
fn sandboxed(module: &[u8], table: &[u8], range: std::ops::Range<u64>) -> Result<u64> {
    let config = lull_sandbox::RunnerConfig {
        path: lull_sandbox::find_runner(None)?,
        require: lull_sandbox::WallPolicy::Required,
    };
    let mut runner = lull_sandbox::Runner::start(&config, &lull_sandbox::Freezer::new())?;
    let limits = lull_sandbox::Limits {
        memory_bytes: 256 << 20,
        unit_secs: 600,
        result_bytes: 16 << 20,
        fuel: lull_sandbox::FUEL_MAX,
    };
    let flavour = lull_sandbox::Flavour::Normal;
    runner.load(&lull_sandbox::Program { module, inputs: &[("expression", table)], limits, flavour })?;
    let payload = lull_abi::Payload::Range { start: range.start, end: range.end };
    let run = runner.run(&lull_abi::Unit { stage: lull_abi::Stage::Work, number: 0, payload })?;
    ensure!(matches!(run.outcome, lull_sandbox::Outcome::Result(_)), "the guest returned {:?}", run.outcome);
    Ok(run.cpu_micros)
}

/// A cold `make demo` in a fresh clone: nothing built, crates already downloaded.
pub(crate) fn cold_demo() -> Result<Vec<Figure>> {
    let dir = tempfile::Builder::new().prefix("lull-cold-").tempdir()?;
    let clone = dir.path().join("lull");
    let status = Command::new("git").args(["clone", "--quiet"]).arg(root()).arg(&clone).status()?;
    ensure!(status.success(), "git clone failed");
    let start = Instant::now();
    let status =
        Command::new("make").arg("demo").current_dir(&clone).env_remove("CARGO_TARGET_DIR").status()?;
    ensure!(status.success(), "make demo failed");
    ensure!(clone.join("target/demo/answer.csv").is_file(), "make demo left no answer");
    Ok(vec![Figure { name: "cold_demo_seconds", value: start.elapsed().as_secs_f64(), unit: "s" }])
}
