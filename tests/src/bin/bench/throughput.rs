//! What the coordinator takes in: many devices that speak the wire, real PostgreSQL.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lull_proto::v1;
use lull_tests::fleet::{Submitter, asking, report};
use lull_tests::{Device, Fleet, Grid, guest};

use crate::{Figure, percentile_ms};

const OWNERS: usize = 10;
/// Devices that fetch leases of up to a hundred units.
const DEVICES: usize = 50;
/// Devices that fetch one unit at a time: as each waits for its answer, more of them are needed.
const DEVICES_SINGLE: usize = 400;
const TRIALS: usize = 200;

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Asks for work, returns a trivial result for each unit, and again, until nobody wants anything.
pub(crate) async fn work(
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

/// Units accepted, and rewards paid, per second while `devices` work on a job of `units`.
async fn throughput(devices: usize, max_units: u32, units: u64) -> Result<(f64, f64)> {
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
        ended = wait_ended(&mut submitter, &job.name) => ended?,
        Some(failed) = tasks.join_next() => failed??,
    }
    let seconds = start.elapsed().as_secs_f64();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    let books = fleet.books().await?;
    ensure!(
        books.sums.iter().all(|one| one.sum == "0") && books.faults.is_empty(),
        "the books do not balance: {:?}",
        books.faults
    );
    ensure!(books.transfers >= 2 * units, "only {} transfers", books.transfers);
    let rewards: i64 = {
        let client = grid.database().await?;
        client.query_one("SELECT count(*) FROM transfer WHERE code = 3", &[]).await?.try_get(0)?
    };
    #[allow(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a measurement")]
    Ok((units as f64 / seconds, rewards as f64 / seconds))
}

pub(crate) async fn wait_ended(submitter: &mut Submitter, job: &str) -> Result<()> {
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    let deadline = Instant::now() + Duration::from_secs(300);
    loop {
        ticks.tick().await;
        let state = submitter.job(job).await?;
        if state.state() != v1::JobState::Running {
            ensure!(state.state() == v1::JobState::Complete, "the job ended as {state:?}");
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the job did not end: {state:?}");
    }
}

pub(crate) fn batched() -> Result<Vec<Figure>> {
    let (units, rewards) = runtime()?.block_on(throughput(DEVICES, 100, 200_000))?;
    Ok(vec![
        Figure { name: "verified_units_per_second", value: units, unit: "units/s" },
        Figure { name: "rewards_per_second", value: rewards, unit: "rewards/s" },
    ])
}

pub(crate) fn single() -> Result<Vec<Figure>> {
    let (value, _) = runtime()?.block_on(throughput(DEVICES_SINGLE, 1, 40_000))?;
    Ok(vec![Figure { name: "verified_units_per_second_single", value, unit: "units/s" }])
}

/// From the submit call to a waiting agent that holds a lease.
pub(crate) fn submit_to_lease() -> Result<Vec<Figure>> {
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
    let value = percentile_ms(&mut times, 99);
    Ok(vec![Figure { name: "submit_to_lease_p99_ms", value, unit: "ms" }])
}
