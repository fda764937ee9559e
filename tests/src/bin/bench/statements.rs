//! How long a statement takes, from the command to the file.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_tests::{Fleet, Grid, guest};

use crate::Figure;
use crate::throughput::{runtime, wait_ended, work};

/// Lines of the statement.
const LINES: u64 = 100_000;
/// Jobs of as many units, each worked off by two owners of its own: the statement is of one of them.
const JOBS: usize = 2;
/// Devices of each owner.
const DEVICES: usize = 8;

/// The slowest form of a statement of an owner with [`LINES`] paid units, among others.
pub(crate) fn statement() -> Result<Vec<Figure>> {
    let grid = Grid::start(60)?;
    runtime()?.block_on(fill(&grid))?;
    let month =
        grid.lull(&["statement", "--owner", "owner-0-0", "--month", "2000-01", "--output", "json"])?;
    let month: serde_json::Value = serde_json::from_str(&month)?;
    let month = month["as_of"].as_str().and_then(|time| time.get(..7)).context("a time")?.to_owned();
    let file = grid.dir().join("statement");
    let out = file.to_str().context("a path in UTF-8")?;
    let mut slowest = 0.0_f64;
    for format in ["text", "csv", "json", "html", "journal"] {
        let start = Instant::now();
        let arguments =
            ["statement", "--owner", "owner-0-0", "--month", &month, "--format", format, "--out", out];
        grid.lull(&arguments)?;
        let seconds = start.elapsed().as_secs_f64();
        slowest = slowest.max(seconds);
        let text = std::fs::read_to_string(&file)?;
        let lines = text.matches("devices/").count().max(text.matches(",reward,").count());
        let lines = lines.max(text.matches("\"reward\"").count());
        ensure!(u64::try_from(lines)? == LINES, "{format} has {lines} lines");
    }
    Ok(vec![Figure { name: "statement_100k_lines_seconds", value: slowest, unit: "s" }])
}

async fn fill(grid: &Grid) -> Result<()> {
    let fleet = Fleet::new(&grid.url, &grid.operator).await?;
    let mut submitter = fleet.submitter("lab", "1000000").await?;
    let module = submitter.upload("hello.wasm", &std::fs::read(guest("hello"))?).await?;
    for job in 0..JOBS {
        let mut devices = Vec::new();
        for number in 0..2 * DEVICES {
            devices.push(fleet.device(&format!("owner-{job}-{}", number % 2)).await?);
        }
        let created = submitter.trivial_job(&module, LINES).await?;
        let done = std::sync::Arc::default();
        let mut tasks = tokio::task::JoinSet::new();
        for device in devices {
            tasks.spawn(work(device, 100, std::sync::Arc::clone(&done)));
        }
        tokio::select! {
            ended = wait_ended(&mut submitter, &created.name) => ended?,
            Some(failed) = tasks.join_next() => failed??,
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        while let Some(task) = tasks.join_next().await {
            task??;
        }
    }
    Ok(())
}
