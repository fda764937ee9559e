//! The benchmarks: `bench [PREFIX]` runs those whose name begins with it and writes `bench.json`,
//! a list of `{"name", "value", "unit"}`. It needs release builds of the programs beside it, and the guests.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{Submitter, asking, report};
use lull_tests::grid::root;
use lull_tests::{Device, Fleet, Grid, guest};

const OWNERS: usize = 10;
/// Devices that fetch leases of up to a hundred units.
const DEVICES: usize = 50;
/// Devices that fetch one unit at a time: as each waits for its answer, more of them are needed.
const DEVICES_SINGLE: usize = 400;
const TRIALS: usize = 200;

struct Figure {
    name: &'static str,
    value: f64,
    unit: &'static str,
}

type Benchmark = fn() -> Result<Vec<Figure>>;

/// Each benchmark with the figures that it measures.
const BENCHMARKS: [(&[&str], Benchmark); 5] = [
    (&["maxt_us_per_relabeling", "guest_native_ratio_maxt"], maxt),
    (&["verified_units_per_second"], batched),
    (&["verified_units_per_second_single"], single),
    (&["submit_to_lease_p99_ms"], submit_to_lease),
    (&["cold_demo_seconds"], cold_demo),
];

#[allow(clippy::print_stdout, reason = "the figures are this program's output")]
fn main() -> Result<()> {
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let mut figures = Vec::new();
    for (names, run) in BENCHMARKS {
        if names.iter().any(|name| name.starts_with(&prefix)) {
            figures.extend(run().with_context(|| format!("measuring {names:?}"))?);
        }
    }
    ensure!(!figures.is_empty(), "no benchmark is called {prefix}...");
    let list: Vec<_> = figures
        .iter()
        .map(|figure| serde_json::json!({ "name": figure.name, "value": figure.value, "unit": figure.unit }))
        .collect();
    std::fs::write("bench.json", serde_json::to_string_pretty(&list)? + "\n")?;
    for figure in figures {
        println!("{:36} {:12.3} {}", figure.name, figure.value, figure.unit);
    }
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Asks for work, returns a trivial result for each unit, and again, until nobody wants anything.
async fn work(
    mut device: Device,
    max_units: u32,
    done: std::sync::Arc<std::sync::atomic::AtomicBool>,
) -> Result<()> {
    let mut request = asking(max_units, Duration::from_secs(1));
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        let answer = device.sync(request).await?;
        ensure!(answer.refusals.is_empty(), "refused: {:?}", answer.refusals.first());
        request = asking(max_units, Duration::from_secs(1));
        request.reports =
            answer.leases.iter().map(|lease| report(lease, |index| index.to_le_bytes().to_vec())).collect();
    }
    Ok(())
}

/// Units accepted per second while `devices` work on a job of `units`.
async fn throughput(devices: usize, max_units: u32, units: u64) -> Result<f64> {
    let grid = Grid::start(60)?;
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("lab", "1000000").await?;
    let module = submitter.upload("hello.wasm", &std::fs::read(guest("hello"))?).await?;
    let mut all = Vec::new();
    for number in 0..devices {
        all.push(fleet.device(&format!("owner-{}", number % OWNERS)).await?);
    }
    let job = submitter.trivial_job(&module, units).await?;
    let done = std::sync::Arc::default();
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for device in all {
        tasks.spawn(work(device, max_units, std::sync::Arc::clone(&done)));
    }
    tokio::select! {
        settled = wait_settled(&mut submitter, &job.name) => settled?,
        Some(failed) = tasks.join_next() => failed??,
    }
    let seconds = start.elapsed().as_secs_f64();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let books = fleet.books().await?;
    ensure!(books.sum == "0" && books.faults.is_empty(), "the books do not balance: {:?}", books.faults);
    ensure!(books.transfers >= 2 * units, "only {} transfers", books.transfers);
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    Ok(units as f64 / seconds)
}

async fn wait_settled(submitter: &mut Submitter, job: &str) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        ticks.tick().await;
        let state = submitter.job(job).await?;
        if state.settled {
            ensure!(state.state() == v1::JobState::Complete, "the job ended as {state:?}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the job did not end: {state:?}");
    }
}

fn batched() -> Result<Vec<Figure>> {
    let value = runtime()?.block_on(throughput(DEVICES, 100, 200_000))?;
    Ok(vec![Figure { name: "verified_units_per_second", value, unit: "units/s" }])
}

fn single() -> Result<Vec<Figure>> {
    let value = runtime()?.block_on(throughput(DEVICES_SINGLE, 1, 40_000))?;
    Ok(vec![Figure { name: "verified_units_per_second_single", value, unit: "units/s" }])
}

/// From the submit call to a waiting agent that holds a lease.
fn submit_to_lease() -> Result<Vec<Figure>> {
    let mut times = runtime()?.block_on(async {
        let grid = Grid::start(60)?;
        let fleet = Fleet::new(&grid.url, &grid.operator).await?;
        let mut submitter = fleet.submitter("lab", "1000").await?;
        let module = submitter.upload("hello.wasm", &std::fs::read(guest("hello"))?).await?;
        let device = fleet.device("owner").await?;
        let mut times = Vec::new();
        for _ in 0..TRIALS {
            let mut waiting = device.clone();
            let lease = tokio::spawn(async move { waiting.ask(1, Duration::from_secs(20)).await });
            // The call must be parked before the job comes: let it arrive.
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            ticks.tick().await;
            ticks.tick().await;
            let start = Instant::now();
            let job = submitter.trivial_job(&module, 1).await?;
            let leases = lease.await??;
            times.push(start.elapsed());
            ensure!(leases.len() == 1, "the call ended without a lease");
            submitter.cancel(&job.name).await?;
        }
        Ok::<_, anyhow::Error>(times)
    })?;
    times.sort();
    let p99 = times[times.len() * 99 / 100].as_secs_f64();
    #[allow(clippy::float_arithmetic, reason = "a measurement")]
    let value = p99 * 1000.0;
    Ok(vec![Figure { name: "submit_to_lease_p99_ms", value, unit: "ms" }])
}

/// One unit of the study, in the sandbox and natively, by turns: the least CPU time of each counts.
fn maxt() -> Result<Vec<Figure>> {
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
    let config = lull_sandbox::RunnerConfig { path: lull_sandbox::find_runner(None)? };
    let mut runner = lull_sandbox::Runner::start(&config, &lull_sandbox::Freezer::new())?;
    let limits = lull_sandbox::Limits { memory_bytes: 256 << 20, unit_secs: 600, result_bytes: 16 << 20 };
    runner.load(&lull_sandbox::Program { module, inputs: &[("expression", table)], limits })?;
    let payload = lull_abi::Payload::Range { start: range.start, end: range.end };
    let run = runner.run(&lull_abi::Unit { stage: lull_abi::Stage::Work, number: 0, payload })?;
    ensure!(matches!(run.outcome, lull_sandbox::Outcome::Result(_)), "the guest returned {:?}", run.outcome);
    Ok(run.cpu_micros)
}

/// A cold `make demo` in a fresh clone: nothing built, crates already downloaded.
fn cold_demo() -> Result<Vec<Figure>> {
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
