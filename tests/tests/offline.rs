//! Agents that lose their coordinator for longer than their leases live, and agents whose disk is full.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lull_tests::procfs::guest_cpu_nanos;
use lull_tests::{Agent, DEADLINE, Grid, JobFile, binary, study};
use serde_json::Value;

/// Units of the study; each takes some seconds of CPU time, so that it can be caught at its work.
const UNITS: u64 = 2;
const ITEMS_PER_UNIT: u64 = 1_500_000;
/// A guest that has taken so much CPU time has begun.
const COMPUTES_NANOS: u64 = 100_000_000;

fn job_file(grid: &Grid) -> Result<std::path::PathBuf> {
    JobFile::of("maxt")
        .path("inputs.expression", &study::table())
        .set("split.range", format!("{{ start = 0, end = {} }}", UNITS * ITEMS_PER_UNIT))
        .set("items_per_unit", ITEMS_PER_UNIT)
        .set("pay.item_price", "\"0.000001\"")
        .set("pay.budget", "\"50\"")
        .write(grid.dir(), "study")
}

fn say(state_dir: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output =
        Command::new(binary("lull-worker")).args(arguments).arg("--state-dir").arg(state_dir).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

fn wait(state_dir: &Path, what: &str, mut done: impl FnMut(&Value) -> bool) -> Result<Value> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let status = say(state_dir, &["status", "--output", "json"])
            .and_then(|json| serde_json::from_slice(&json).context("a status"));
        match &status {
            Ok(status) if done(status) => return Ok(status.clone()),
            _ => ensure!(Instant::now() < deadline, "the agent was not {what} in time: {status:?}"),
        }
        std::thread::park_timeout(std::time::Duration::from_millis(50));
    }
}

fn attempts(job: &Value) -> Option<u64> {
    job["progress"]["attempts"].as_u64()
}

#[test]
fn a_laptop_that_was_away_is_heard_and_paid_when_it_returns() -> Result<()> {
    let mut grid = Grid::start(3)?;
    let token = grid.submitter("clinic", "100")?;
    let job = grid.submit(&token, &job_file(&grid)?, &[])?;
    let laptop = grid.agent("ada", "laptop")?;
    // With a guest that computes, it has all that it needs for its unit; a runner that only looks at its walls does not.
    let computes = || {
        let compiled = std::fs::read_dir(laptop.state_dir.join("compiled"));
        let runners = laptop.runners().unwrap_or_default();
        compiled.is_ok_and(|mut files| files.next().is_some())
            && runners.iter().any(|runner| guest_cpu_nanos(*runner).is_ok_and(|nanos| nanos > COMPUTES_NANOS))
    };
    wait(&laptop.state_dir, "running", |_| computes())?;

    // It leaves the office in the middle of a unit, and finishes what it has.
    grid.kill_coordinator()?;
    let away = wait(&laptop.state_dir, "done with what it had", |status| {
        let leases = status["leases"].as_array();
        status["unreported"].as_u64() > Some(0)
            && leases.is_some_and(|leases| leases.iter().all(|lease| lease["done"] == lease["units"]))
    })?;
    let laptop = laptop.kill()?;
    // Meanwhile its leases end.
    grid.restart_coordinator()?;
    grid.wait_job(&job, "taken from the laptop", |state| state["costs"]["reserved"] == "0")?;
    assert_eq!(attempts(&grid.job(&job)?), Some(0), "before it is back");

    let _laptop = laptop.start()?;
    let heard = grid.wait_job(&job, "heard", |state| attempts(state) >= away["unreported"].as_u64())?;
    let _other = grid.agent("grace", "desk")?;
    let answer = grid.answer(&token, &job)?;

    assert!(attempts(&heard) > Some(0), "{heard}");
    assert!(answer == grid.run_local(&job_file(&grid)?, &[])?, "the answer is another");
    assert_eq!(attempts(&grid.job(&job)?), Some(2 * (UNITS + 1 + 1)), "nothing was run once more");
    grid.check_money(&job)
}

#[test]
fn a_full_disk_takes_no_more_work_and_loses_none() -> Result<()> {
    let grid = Grid::start(60)?;
    let token = grid.submitter("clinic", "100")?;
    let agent = grid.agent_on_small_disk("ada", "desk", 8)?;
    let disk = agent.disk();
    let job = grid.submit(&token, &job_file(&grid)?, &["--copies", "1"])?;
    wait(&disk, "running", |status| status["leases"][0]["running"].is_u64())?;
    say(&disk, &["pause", "--for", "1h"])?;
    wait(&disk, "paused", |status| !status["paused_until_unix_secs"].is_null())?;

    fill(&agent)?;
    say(&disk, &["resume"])?;
    let full = wait(&disk, "without room", |status| status["is_disk_full"] == true)?;
    assert_eq!(attempts(&grid.job(&job)?), Some(0), "what is not on disk is not reported: {full}");
    let text = String::from_utf8(say(&disk, &["status"])?)?;
    assert!(text.contains("free some space"), "{text}");
    std::fs::remove_file(disk.join("filler"))?;

    let wanted = grid.agent("grace", "second")?;
    let answer = grid.answer(&token, &job)?;
    drop(wanted);
    assert!(answer == grid.run_local(&job_file(&grid)?, &[])?, "the answer is another");
    grid.check_money(&job)
}

/// Leaves no byte of an agent's disk free.
fn fill(agent: &Agent) -> Result<()> {
    let mut filler = File::create(agent.disk().join("filler"))?;
    let mut piece = vec![0; 64 * 1024];
    while !piece.is_empty() {
        if filler.write_all(&piece).is_err() {
            piece.truncate(piece.len() / 2);
        }
    }
    Ok(())
}
